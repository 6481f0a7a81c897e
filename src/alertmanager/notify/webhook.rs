//! Alerts as JSON, posted to a URL.
//!
//! Compat: alertmanager `notify/webhook` (payload version 4, 0.34).

use std::collections::BTreeMap;
use std::time::Duration;

use config::alertmanager::Webhook;
use config::template::Mode;
use config::template::notification::{Alert, quote_meta};
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use jiff::Timestamp;
use serde::Serialize;

use super::email::read_secret;
use super::{Failure, Message};
use crate::alertmanager::clock;
use crate::http_client::{self, Client};

/// As much of an answer as an error shows.
const ERROR_BYTES_MAX: usize = 512;

/// For a webhook without a timeout of its own; the deadline of the whole notification is shorter as a rule.
const TIMEOUT: Duration = Duration::from_mins(5);

/// The body, fields in upstream's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'m> {
    receiver: String,
    status: &'static str,
    alerts: Vec<PayloadAlert<'m>>,
    #[serde(rename = "notification_reason")]
    reason: &'m str,
    group_labels: &'m BTreeMap<String, String>,
    common_labels: &'m BTreeMap<String, String>,
    common_annotations: &'m BTreeMap<String, String>,
    route_labels: &'m BTreeMap<String, String>,
    #[serde(rename = "externalURL")]
    external_url: &'m str,
    version: &'static str,
    group_key: &'m str,
    truncated_alerts: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'m> {
    status: &'static str,
    labels: &'m BTreeMap<String, String>,
    annotations: &'m BTreeMap<String, String>,
    #[serde(serialize_with = "clock::nanos")]
    starts_at: Timestamp,
    /// Go's zero time while the alert fires.
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'m str,
    fingerprint: &'m str,
}

impl<'m> PayloadAlert<'m> {
    fn new(alert: &'m Alert) -> Self {
        Self {
            status: alert.status(),
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string()),
            generator_url: &alert.generator_url,
            fingerprint: &alert.fingerprint,
        }
    }
}

pub(super) fn payload(message: &Message<'_>, max_alerts: u64) -> serde_json::Result<Vec<u8>> {
    let data = &message.data;
    let max = match usize::try_from(max_alerts) {
        Ok(0) | Err(_) => data.alerts.len(),
        Ok(max) => max,
    };
    let payload = Payload {
        receiver: quote_meta(&data.receiver),
        status: data.status(),
        alerts: data.alerts.iter().take(max).map(PayloadAlert::new).collect(),
        reason: &data.reason,
        group_labels: &data.group_labels,
        common_labels: &data.common_labels,
        common_annotations: &data.common_annotations,
        route_labels: &data.route_labels,
        external_url: &data.external_url,
        version: "4",
        group_key: message.group_key,
        truncated_alerts: data.alerts.len().saturating_sub(max) as u64,
    };
    serde_json::to_vec(&payload)
}

pub(super) async fn send(config: &Webhook, message: &Message<'_>) -> Result<(), Failure> {
    let template = read_secret(&config.url).await?;
    let url = message.templates.expand(&template, &message.data, Mode::Text, message.now);
    let url = url.map_err(|e| Failure::last(format!("execute webhook URL template: {e}")))?;
    if url.is_empty() {
        return Err(Failure::last("webhook URL is empty after templating"));
    }
    let body = payload(message, config.max_alerts).map_err(|e| Failure::last(e.to_string()))?;
    let url = url::Url::parse(&url).map_err(|e| Failure::last(format!("parse webhook URL: {e}")))?;
    let timeout = if config.timeout.is_zero() { TIMEOUT } else { config.timeout };
    // Made for each message: they are rare, and files of the configuration are read anew.
    let client = Client::new(&config.http, timeout).map_err(|e| unusable(&e))?;
    let request = client
        .request(http::Method::POST, url)
        .map_err(|e| unusable(&e))?
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static(concat!("Alertmanager/", env!("CARGO_PKG_VERSION"))))
        .body(body);
    // The URL may hold a secret: errors do not show it.
    let answer = request.send().await.map_err(|e| {
        let message = format!("post to webhook: {}", e.without_url());
        Failure { message, retry: !e.is_final(), reason: "other" }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let reason = match status.as_u16() {
        401 | 403 => "authError",
        429 => "rateLimited",
        400..=499 => "clientError",
        500.. => "serverError",
        _ => "other",
    };
    let detail = first_bytes(answer).await;
    let message = format!("unexpected status code {}: {detail}", status.as_u16());
    Err(Failure { message, retry: status.is_server_error(), reason })
}

/// A missing file may come back, so only what the configuration itself says is final.
fn unusable(error: &http_client::Error) -> Failure {
    let message = format!("set up the webhook's HTTP client: {error}");
    Failure { message, retry: matches!(error, http_client::Error::File { .. }), reason: "other" }
}

/// The beginning of an answer's body, on one line.
async fn first_bytes(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BYTES_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ERROR_BYTES_MAX)]);
    }
    bytes.truncate(ERROR_BYTES_MAX);
    String::from_utf8_lossy(&bytes).replace(['\r', '\n'], " ").trim().to_owned()
}
