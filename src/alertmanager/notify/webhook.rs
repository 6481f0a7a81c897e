//! Alerts as JSON, posted to a URL.
//!
//! Compat: alertmanager `notify/webhook` (payload version 4, 0.34).

use std::collections::BTreeMap;

use config::alertmanager::Webhook;
use config::template::notification::{Alert, Data, quote_meta};
use jiff::Timestamp;
use serde::Serialize;

use super::exchange::{Exchange, encode, secret};
use super::{Failure, Message};
use crate::alertmanager::clock;

/// The body, fields in upstream's order. incident.io takes the same with another version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload<'m> {
    receiver: String,
    status: &'static str,
    pub(super) alerts: Vec<PayloadAlert<'m>>,
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
pub(super) struct PayloadAlert<'m> {
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

impl<'m> Payload<'m> {
    /// `n_truncated` alerts are not in the message any more.
    pub(super) fn new(message: &'m Message<'_>, version: &'static str, n_truncated: u64) -> Self {
        let data = &message.data;
        Self {
            receiver: quote_meta(&data.receiver),
            status: data.status(),
            alerts: data.alerts.iter().map(PayloadAlert::new).collect(),
            reason: &data.reason,
            group_labels: &data.group_labels,
            common_labels: &data.common_labels,
            common_annotations: &data.common_annotations,
            route_labels: &data.route_labels,
            external_url: &data.external_url,
            version,
            group_key: message.group_key,
            truncated_alerts: n_truncated,
        }
    }
}

/// The message with `max` alerts at most, as if there were no others; how many there were. 0 is all.
pub(super) fn first_alerts<'m>(message: &Message<'m>, max: u64) -> (Message<'m>, u64) {
    let mut message = message.clone();
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let n = message.data.alerts.len();
    if max == 0 || n <= max {
        return (message, 0);
    }
    let Data { receiver, mut alerts, reason, group_labels, route_labels, external_url, .. } = message.data;
    alerts.truncate(max);
    message.data = Data::new(receiver, group_labels, alerts, reason, external_url);
    message.data.route_labels = route_labels;
    (message, (n - max) as u64)
}

/// What is posted of a message that has been cut by `n_truncated` alerts.
pub(super) fn body(config: &Webhook, message: &Message<'_>, n_truncated: u64) -> Result<Vec<u8>, Failure> {
    match &config.payload {
        None => encode(&Payload::new(message, "4", n_truncated)),
        Some(payload) => {
            let within = |failure: Failure| failure.within("failed to render custom payload");
            encode(&message.deep(payload).map_err(within)?)
        }
    }
}

pub(super) async fn send(config: &Webhook, message: &Message<'_>) -> Result<(), Failure> {
    let (message, n_truncated) = first_alerts(message, config.max_alerts);
    let body = body(config, &message, n_truncated)?;
    let url = secret(&config.url, "url_file").await?;
    let url = message.text(&url).map_err(|failure| failure.within("failed to template webhook URL"))?;
    if url.is_empty() {
        return Err(Failure::last("webhook URL is empty after templating"));
    }
    let exchange = Exchange::new(&config.http).within("webhook", config.timeout);
    exchange.post_bytes(&url, body).await?.check(&[]).await
}
