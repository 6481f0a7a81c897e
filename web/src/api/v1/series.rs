//! `/series`, `/labels` and `/label/…/values`: what there is to ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use model::storage::{Queryable, SelectHints};
use model::{Labels, Matcher, TimeRange};

use super::{Answer, truncation_warning};
use crate::api::Shared;
use crate::compression::Encoding;
use crate::error::{ApiError, ErrorKind};
use crate::json;
use crate::params::{Params, unescape};
use crate::routes::not_found;
use crate::stream::{self, List};

/// Runs `ask` on a thread that may block.
pub(in crate::api) async fn blocking(
    api: Arc<crate::Api>,
    ask: impl FnOnce(&crate::Api) -> Result<Response, ApiError> + Send + 'static,
) -> Answer {
    let turn = Arc::clone(&api.lookups).acquire_owned().await.expect("the semaphore is never closed");
    tokio::task::spawn_blocking(move || {
        // Given back when the thread is free, even if nobody waits for the answer any more.
        let _turn = turn;
        ask(&api)
    })
    .await
    .map_err(|e| ApiError::new(ErrorKind::Internal, e.to_string()))?
}

pub(super) async fn series(State(api): Shared, encoding: Encoding, params: Params) -> Answer {
    let params = params.strict()?;
    let limit = params.limit()?;
    let range = params.range()?;
    let selectors = params.selectors()?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    blocking(api, move |api| {
        let (found, truncated) = find_series(api.storage.as_ref(), range, &selectors, limit)?;
        let list = List::new(found, |out: &mut Vec<u8>, labels| json::write_labels(out, &labels));
        let answer = json::Success::new(list, truncation_warning(truncated), &[]);
        Ok(stream::json(answer, encoding, &api.answers))
    })
    .await
}

/// The label sets of one selector in the store's order, of several merged and sorted.
fn find_series(
    storage: &dyn Queryable,
    range: TimeRange,
    selectors: &[Vec<Matcher>],
    limit: usize,
) -> Result<(Vec<Labels>, bool), ApiError> {
    let querier = storage.querier(range)?;
    // One more than wanted tells whether there was more.
    let most = if limit == 0 { 0 } else { limit + 1 };
    let hints = SelectHints {
        range: Some(range),
        limit: most,
        sorted: selectors.len() > 1,
        ..SelectHints::default()
    };
    let mut found = Vec::new();
    for matchers in selectors {
        let set = querier.select(matchers, &hints)?;
        found.extend((0..set.len()).map(|i| set.labels(i)));
    }
    if selectors.len() > 1 {
        found.sort_unstable();
        found.dedup();
    }
    let truncated = limit > 0 && found.len() > limit;
    if truncated {
        found.truncate(limit);
    }
    Ok((found, truncated))
}

pub(super) async fn labels(State(api): Shared, encoding: Encoding, params: Params) -> Answer {
    let limit = params.limit()?;
    let range = params.range()?;
    let selectors = unnamed(params.selectors())?;
    blocking(api, move |api| {
        let querier = api.storage.querier(range)?;
        let names =
            names_or_values(&selectors, limit, |matchers, limit| querier.label_names(matchers, limit))?;
        Ok(list(names, limit, encoding, api))
    })
    .await
}

pub(super) async fn label_values(State(api): Shared, uri: Uri, encoding: Encoding, params: Params) -> Answer {
    // Paths are told apart after they are decoded: a name with a slash is another path.
    let raw = uri.path().strip_suffix("/values").and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let Some(name) = unescape(raw.as_bytes(), false).ok().filter(|name| !name.contains(&b'/')) else {
        return Ok(not_found().await);
    };
    let Some(name) = std::str::from_utf8(&name).ok().filter(|name| !name.is_empty()) else {
        let quoted = model::quote::go_quote(&name);
        return Err(ApiError::bad_data(format!("invalid label name: {quoted}")));
    };
    let name = unescape_name(name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let limit = params.limit()?;
    let range = params.range()?;
    let selectors = unnamed(params.selectors())?;
    blocking(api, move |api| {
        let querier = api.storage.querier(range)?;
        let values = names_or_values(&selectors, limit, |matchers, limit| {
            querier.label_values(name.as_bytes(), matchers, limit)
        })?;
        Ok(list(values, limit, encoding, api))
    })
    .await
}

/// Of the routes that take selectors only `/series` says in errors which parameter they are about.
pub(super) fn unnamed<T>(selectors: Result<T, ApiError>) -> Result<T, ApiError> {
    selectors.map_err(|mut e| {
        if let Some(message) = e.message.strip_prefix("invalid parameter \"match[]\": ") {
            e.message = message.to_owned();
        }
        e
    })
}

/// The union over the selectors of what `ask` gives, sorted; one more than the limit if there is more.
fn names_or_values(
    selectors: &[Vec<Matcher>],
    limit: usize,
    ask: impl Fn(&[Matcher], usize) -> Result<Vec<Box<[u8]>>, model::storage::Error>,
) -> Result<Vec<Box<[u8]>>, ApiError> {
    let most = if limit == 0 { 0 } else { limit + 1 };
    let execution = |e: model::storage::Error| ApiError::new(ErrorKind::Execution, e.to_string());
    match selectors {
        [] => ask(&[], most).map_err(execution),
        [one] => ask(one, most).map_err(execution),
        many => {
            let mut union = BTreeSet::new();
            for matchers in many {
                union.extend(ask(matchers, most).map_err(execution)?);
            }
            Ok(union.into_iter().collect())
        }
    }
}

/// The answer that lists `texts`, cut to `limit` of them.
fn list(mut texts: Vec<Box<[u8]>>, limit: usize, encoding: Encoding, api: &crate::Api) -> Response {
    let truncated = limit > 0 && texts.len() > limit;
    if truncated {
        texts.truncate(limit);
    }
    let list = List::new(texts, |out: &mut Vec<u8>, text: Box<[u8]>| json::write_escaped(out, &text));
    let answer = json::Success::new(list, truncation_warning(truncated), &[]);
    stream::json(answer, encoding, &api.answers)
}

/// Undoes the escaping of names that are not legacy-valid: `U__` in front, `__` for `_`, `_HEX_` for the rest.
///
/// Compat: prometheus/common `model`, `UnescapeName` with `ValueEncodingEscaping`.
fn unescape_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    let mut rest = escaped;
    while let Some(i) = rest.find('_') {
        out.push_str(&rest[..i]);
        rest = &rest[i + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let decoded = rest.split_once('_').and_then(|(hex, after)| {
            let code = (hex.len() <= 6).then(|| u32::from_str_radix(hex, 16).ok())??;
            Some((char::from_u32(code)?, after))
        });
        match decoded {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => return name.to_owned(),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::unescape_name;

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape_name("plain_name"), "plain_name");
        assert_eq!(unescape_name("U__http_2e_status__code"), "http.status_code");
        assert_eq!(unescape_name("U__bad_zz_"), "U__bad_zz_");
    }
}
