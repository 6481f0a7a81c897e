//! `/consoles/…`: pages that users wrote as templates, filled in with queries.
//!
//! Compat: prometheus `web/web.go`, `consoles` and `consolesPath`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use config::template::alert::SampleValue;
use config::template::console::Console;
use http::{HeaderValue, StatusCode, Uri, header};
use model::Labels;
use promql::{CancelFlag, QueryOptions, Value};

use crate::api::Api;
use crate::params::Caller;
use crate::routes::text_error;

/// The longest template, and the longest library.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The most libraries.
const LIBRARIES_MAX: usize = 100;

/// Where consoles come from.
#[derive(Clone, Debug)]
pub struct Consoles {
    pub templates: PathBuf,
    /// Its files `*.lib` define what templates may call.
    pub libraries: PathBuf,
}

/// Cancels the queries of a page that nobody waits for.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

pub(crate) async fn console(
    State(api): State<Arc<Api>>,
    uri: Uri,
    RawQuery(query): RawQuery,
    Caller(origin): Caller,
) -> Response {
    let prefix = format!("{}/consoles", api.options.route_prefix);
    let path = uri.path().strip_prefix(&prefix).unwrap_or_default();
    let Ok(name) = percent_decoded(path) else {
        return text_error(StatusCode::BAD_REQUEST, "400 Bad Request\n");
    };
    let cancel = CancelFlag::default();
    let _guard = CancelOnDrop(cancel.clone());
    // A page may take as long as a query, however many it asks.
    let (timeout, began) = (api.engine.options().timeout, Instant::now());
    let Ok(turn) = tokio::time::timeout(timeout, Arc::clone(&api.queries).acquire_owned()).await else {
        return text_error(StatusCode::SERVICE_UNAVAILABLE, "query timed out in query queue\n");
    };
    let turn = turn.expect("the semaphore is never closed");
    let options = QueryOptions { cancel, origin: Some(origin), ..QueryOptions::default() };
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let left = || timeout.saturating_sub(began.elapsed());
        page(&api, &name, query.as_deref().unwrap_or_default(), &options, &left)
    });
    match made.await {
        Ok(Ok(text)) => {
            let html = HeaderValue::from_static(content_type(&text));
            ([(header::CONTENT_TYPE, html)], text).into_response()
        }
        Ok(Err((status, text))) => text_error(status, format!("{text}\n")),
        Err(e) => text_error(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")),
    }
}

type Failure = (StatusCode, String);

fn page(
    api: &Api,
    name: &str,
    query: &str,
    options: &QueryOptions,
    left: &dyn Fn() -> Duration,
) -> Result<String, Failure> {
    const INTERNAL: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
    let consoles = &api.options.page.consoles;
    let file: PathBuf = consoles.templates.components().chain(cleaned(name).components()).collect();
    let text = read(&file).map_err(|e| match e {
        Unreadable::Missing(text) => (StatusCode::NOT_FOUND, text),
        Unreadable::Broken(text) => (INTERNAL, text),
    })?;
    let params = parse_query(query).map_err(|e| (StatusCode::BAD_REQUEST, e))?;
    let libraries = libraries(&consoles.libraries).map_err(|e| (INTERNAL, e))?;
    let t = (api.options.now)();
    let ask = |text: &str| -> Result<Vec<(Labels, SampleValue)>, String> {
        let options = QueryOptions { timeout: Some(left()), ..options.clone() };
        let found = api.engine.instant_query(api.storage.as_ref(), text, t, &options);
        elements(found.map_err(|e| e.to_string())?.value)
    };
    let config = api.running.config();
    let console = Console {
        raw_params: &params.iter().map(|(name, values)| (name.as_str(), texts(values))).collect::<Vec<_>>(),
        path: name.trim_start_matches('/'),
        external_labels: &config.global.external_labels,
        external_url: &api.options.page.external_url,
        t,
    };
    let libraries: Vec<_> = libraries.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    console
        .expand(&format!("__console_{name}"), &text, &libraries, &ask)
        .map_err(|e| (INTERNAL, e.to_string()))
}

fn texts(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}

fn elements(value: Value) -> Result<Vec<(Labels, SampleValue)>, String> {
    let sample = |value| match value {
        promql::SampleValue::Float(v) => SampleValue::Float(v),
        promql::SampleValue::Histogram(h) => SampleValue::Histogram(h),
    };
    match value {
        Value::Vector(samples) => Ok(samples.into_iter().map(|s| (s.labels, sample(s.value))).collect()),
        Value::Scalar(one) => Ok(vec![(Labels::empty(), SampleValue::Float(one.v))]),
        Value::Matrix(_) | Value::String { .. } => Err("rule result is not a vector or scalar".to_owned()),
    }
}

// === files ===

enum Unreadable {
    Missing(String),
    Broken(String),
}

fn read(file: &Path) -> Result<String, Unreadable> {
    let shown = file.display();
    let metadata =
        std::fs::metadata(file).map_err(|e| Unreadable::Missing(format!("open {shown}: {}", reason(&e))))?;
    if metadata.is_dir() {
        return Err(Unreadable::Broken(format!("read {shown}: is a directory")));
    }
    // Of pipes and devices nobody knows when they end, or whether they begin.
    if !metadata.is_file() {
        return Err(Unreadable::Broken(format!("read {shown}: no regular file")));
    }
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|e| Unreadable::Broken(format!("read {shown}: {}", reason(&e))))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Unreadable::Broken(format!("read {shown}: more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As Go spells it.
fn reason(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => e.to_string(),
    }
}

/// The files `*.lib` with their names, by name; none where there is no such folder.
fn libraries(folder: &Path) -> Result<Vec<(String, String)>, String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_suffix(".lib").is_some())
        .collect();
    names.sort_unstable();
    if names.len() > LIBRARIES_MAX {
        return Err(format!(
            "{} console libraries in {}, more than {LIBRARIES_MAX}",
            names.len(),
            folder.display()
        ));
    }
    let texts = names.into_iter().map(|name| match read(&folder.join(&name)) {
        Ok(text) => Ok((name, text)),
        Err(Unreadable::Missing(text) | Unreadable::Broken(text)) => Err(text),
    });
    texts.collect()
}

/// A path below the folder whatever dots are in it. Compat: Go `path.Clean` of a rooted path.
fn cleaned(path: &str) -> PathBuf {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.into_iter().collect()
}

// === the URL ===

/// The parameters of a URL by name, each with its values.
///
/// Compat: Go `net/url`, `ParseQuery`.
fn parse_query(query: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut params: Vec<(String, Vec<String>)> = Vec::new();
    // A URL may hold tens of thousands.
    let mut places = HashMap::new();
    let mut first_error = None;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if part.contains(';') {
            first_error.get_or_insert_with(|| "invalid semicolon separator in query".to_owned());
            continue;
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
        match (decoded(name), decoded(value)) {
            (Ok(name), Ok(value)) => {
                let place = *places.entry(name).or_insert_with_key(|name| {
                    params.push((name.clone(), Vec::new()));
                    params.len() - 1
                });
                params[place].1.push(value);
            }
            (Err(e), _) | (_, Err(e)) => {
                first_error.get_or_insert(e);
            }
        }
    }
    first_error.map_or(Ok(params), Err)
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            out.push(first);
            rest = tail;
            continue;
        }
        let digit = |i: usize| tail.get(i).and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            let shown = String::from_utf8_lossy(&rest[..rest.len().min(3)]).into_owned();
            return Err(format!("invalid URL escape {}", model::quote::go_quote(shown.as_bytes())));
        };
        out.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
        rest = &tail[2..];
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// What a browser would take the text for. Compat: Go `net/http`, `DetectContentType`, as far as text goes.
fn content_type(text: &str) -> &'static str {
    const TAGS: [&str; 16] = [
        "<!doctype html",
        "<html",
        "<head",
        "<script",
        "<iframe",
        "<h1",
        "<div",
        "<font",
        "<table",
        "<a",
        "<style",
        "<title",
        "<b",
        "<body",
        "<br",
        "<p",
    ];
    let head: String = text.trim_ascii_start().chars().take(20).collect::<String>().to_ascii_lowercase();
    let is_tag = |tag: &str| head.strip_prefix(tag).is_some_and(|rest| rest.starts_with([' ', '>']));
    if head.starts_with("<!--") || TAGS.iter().any(|tag| is_tag(tag)) {
        "text/html; charset=utf-8"
    } else if head.starts_with("<?xml") {
        "text/xml; charset=utf-8"
    } else {
        "text/plain; charset=utf-8"
    }
}

#[cfg(test)]
mod tests {
    use super::{cleaned, content_type, parse_query};

    #[test]
    fn paths_stay_below_the_folder() {
        for (path, expected) in [
            ("/a/b.html", "a/b.html"),
            ("/../../etc/passwd", "etc/passwd"),
            ("//x/./y/../z", "x/z"),
            ("/", ""),
        ] {
            assert_eq!(cleaned(path).to_str().unwrap(), expected);
        }
    }

    #[test]
    fn parameters_have_values() {
        let params = parse_query("a=1&b=x+y%21&a=2&c").unwrap();
        let shown: Vec<_> = params.iter().map(|(name, values)| (name.as_str(), values.join(","))).collect();
        let expected = [("a", "1,2"), ("b", "x y!"), ("c", "")];
        assert_eq!(shown, expected.map(|(name, values)| (name, values.to_owned())));
        assert_eq!(parse_query("a=%zz").unwrap_err(), "invalid URL escape \"%zz\"");
        assert_eq!(parse_query("a=1;b=2").unwrap_err(), "invalid semicolon separator in query");
    }

    #[test]
    fn pages_are_told_from_text() {
        assert_eq!(content_type("\n <!DOCTYPE html>\n<p>"), "text/html; charset=utf-8");
        assert_eq!(content_type("<html><p>"), "text/html; charset=utf-8");
        assert_eq!(content_type("<abbr>"), "text/plain; charset=utf-8");
        assert_eq!(content_type("up 1"), "text/plain; charset=utf-8");
    }
}
