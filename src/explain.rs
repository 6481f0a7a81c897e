//! `ferula explain …`: the story of an alert as text, asked of a running server.
//!
//! What it prints is what `/api/v1/alerts/explain` answers. Exit codes: 1 if there is no answer.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use config::http_client::HttpClient;
use serde::Deserialize;
use url::Url;

use crate::http_client::Client;

/// The server may have to ask the store.
const PATIENCE: Duration = Duration::from_mins(1);
const BODY_BYTES_MAX: usize = 64 << 20;

/// Tell why an alert fires or does not, and where its messages went.
#[derive(Debug, Parser)]
#[command(name = "ferula explain", version, max_term_width = 100)]
struct Explain {
    /// The name of the alert.
    alertname: String,
    /// Labels that it must have.
    #[arg(value_name = "label=value", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The URL of the server.
    #[arg(long, default_value = "http://localhost:9090")]
    url: Url,
    /// The moment to explain, RFC 3339 or seconds; now if it is not given.
    #[arg(long)]
    time: Option<String>,
    /// The begin of the timeline; a day before the moment if it is not given.
    #[arg(long)]
    start: Option<String>,
    /// HTTP client configuration file to connect to the server.
    #[arg(long = "http.config.file", value_name = "filename")]
    http_config: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.trim_matches('"').to_owned())),
        _ => Err("a label is written name=value".to_owned()),
    }
}

/// Runs the command line `args`, which begins with the word `explain`.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match Explain::try_parse_from(args) {
        Ok(options) => options,
        Err(e) => {
            // Help and version arrive here, too.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match explain(&options) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "ferula explain: error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn explain(options: &Explain) -> Result<String, String> {
    let http = match &options.http_config {
        None => HttpClient::default(),
        Some(path) => config::http_client::load(path).map_err(|e| e.to_string())?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let body = runtime.map_err(|e| e.to_string())?.block_on(ask(request(options), &http))?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|e| format!("read the answer: {e}"))?;
    Ok(render(&answer.data))
}

fn request(options: &Explain) -> Url {
    let mut url = options.url.clone();
    url.set_path(&format!("{}/api/v1/alerts/explain", options.url.path().trim_end_matches('/')));
    let quoted = |text: &str| model::quote::go_quote(text.as_bytes());
    let mut matchers = vec![format!("alertname={}", quoted(&options.alertname))];
    matchers.extend(options.labels.iter().map(|(name, value)| format!("{name}={}", quoted(value))));
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("match[]", &format!("{{{}}}", matchers.join(",")));
        for (name, value) in [("time", &options.time), ("start", &options.start)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    url
}

async fn ask(url: Url, http: &HttpClient) -> Result<Vec<u8>, String> {
    let client = Client::new(http, PATIENCE).map_err(|e| e.to_string())?;
    let request = client.request(http::Method::GET, url.clone()).map_err(|e| e.to_string())?;
    let mut response = request.send().await.map_err(|e| format!("ask {url}: {e}"))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| format!("read from {url}: {e}"))? {
        body.extend(part);
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("the answer of {url} is longer than {BODY_BYTES_MAX} bytes"));
        }
    }
    if status != http::StatusCode::OK {
        let refusal: Result<Refusal, _> = serde_json::from_slice(&body);
        let why = refusal.map_or_else(|_| status.to_string(), |refusal| refusal.error);
        return Err(format!("ask {url}: {why}"));
    }
    Ok(body)
}

// === The answer, as far as it is shown ===

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    alerts: Vec<Alert>,
    #[serde(default)]
    next_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: std::collections::BTreeMap<String, String>,
    rule: Option<Rule>,
    state: String,
    cause: Cause,
    notification: Cause,
    deliveries: Vec<Delivery>,
    timeline: Vec<Event>,
    #[serde(default)]
    timeline_truncated: bool,
}

#[derive(Deserialize)]
struct Rule {
    file: String,
    group: String,
    query: String,
}

#[derive(Deserialize)]
struct Cause {
    code: String,
    text: String,
}

#[derive(Deserialize)]
struct Delivery {
    to: String,
    text: String,
}

#[derive(Deserialize)]
struct Event {
    time: String,
    until: String,
    count: u64,
    text: String,
}

fn render(data: &Data) -> String {
    let mut out = String::new();
    for (i, alert) in data.alerts.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        render_alert(&mut out, alert);
    }
    if data.alerts.is_empty() {
        out.push_str("no such alert is known\n");
    }
    if !data.next_token.is_empty() {
        out.push_str("\nthere are more alerts: name more labels\n");
    }
    out
}

fn render_alert(out: &mut String, alert: &Alert) {
    let labels: Vec<_> = alert.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    // Writing to a string does not fail.
    let _ = writeln!(out, "{{{}}} is {}", labels.join(", "), alert.state);
    let _ = writeln!(out, "  why ({}): {}", alert.cause.code, alert.cause.text);
    let _ = writeln!(out, "  messages ({}): {}", alert.notification.code, alert.notification.text);
    if let Some(rule) = &alert.rule {
        let _ = writeln!(out, "  rule: {} (group {} of {})", rule.query, rule.group, rule.file);
    }
    if alert.deliveries.len() > 1 {
        for delivery in &alert.deliveries {
            let _ = writeln!(out, "  {}: {}", delivery.to, delivery.text);
        }
    }
    if alert.timeline_truncated {
        out.push_str("  ... (older entries left out)\n");
    }
    for event in &alert.timeline {
        let when = if event.time == event.until {
            event.time.clone()
        } else {
            format!("{} to {}", event.time, event.until)
        };
        let times = if event.count > 1 { format!("{} times: ", event.count) } else { String::new() };
        let _ = writeln!(out, "  {when}  {times}{}", event.text);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Answer, Explain, render, request};

    #[test]
    fn a_story_is_readable() {
        let answer: Answer = serde_json::from_str(
            r#"{"status": "success", "data": {"time": "t", "nextToken": "x", "alerts": [{
                "labels": {"alertname": "High", "instance": "a"}, "fingerprint": "1", "state": "firing",
                "rule": {"file": "r.yml", "group": "g", "name": "High", "query": "load > 1", "duration": 0, "keepFiringFor": 0},
                "cause": {"code": "expression_true", "text": "it is"},
                "notification": {"code": "silenced", "text": "team: silenced by ann"}, "deliveries": [],
                "timeline": [
                    {"time": "1", "until": "1", "count": 1, "event": "state", "code": "c", "text": "firing"},
                    {"time": "1", "until": "9", "count": 4, "event": "value", "code": "c", "text": "true"}]}]}}"#,
        )
        .unwrap();
        assert_eq!(
            render(&answer.data),
            "{alertname=\"High\", instance=\"a\"} is firing\n\
             \x20 why (expression_true): it is\n\
             \x20 messages (silenced): team: silenced by ann\n\
             \x20 rule: load > 1 (group g of r.yml)\n\
             \x20 1  firing\n\
             \x20 1 to 9  4 times: true\n\n\
             there are more alerts: name more labels\n"
        );
    }

    #[test]
    fn labels_become_a_selector() {
        let words = ["explain", "High", "instance=a\"b", "--url", "http://h:1/p/", "--time", "5"];
        let options = Explain::try_parse_from(words).unwrap();
        let url = request(&options);
        assert_eq!(url.path(), "/p/api/v1/alerts/explain");
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        let selector = r#"{alertname="High",instance="a\"b"}"#.to_owned();
        assert_eq!(pairs, [("match[]".to_owned(), selector), ("time".to_owned(), "5".to_owned())]);
        assert!(Explain::try_parse_from(["explain", "High", "instance"]).is_err());
    }
}
