//! The last step: a message to whoever is to be told, and what to do when that fails.
//!
//! One module for each kind of receiver; those that speak HTTP share `exchange` (requests and what answers
//! mean), `json` (JSON as Go writes it) and `truncate` (what a service takes at most).
//!
//! Compat: alertmanager `notify`, `RetryStage`.

mod aws;
mod discord;
pub mod email;
mod exchange;
mod incidentio;
mod jira;
mod json;
mod layout;
mod mattermost;
mod msteams;
mod msteamsv2;
mod opsgenie;
mod pagerduty;
mod pushover;
mod rocketchat;
mod slack;
mod sns;
mod telegram;
pub mod templates;
mod text;
mod truncate;
mod victorops;
mod webex;
pub mod webhook;
mod wechat;

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::alertmanager::{Integration, Notifier, Receiver};
use config::template::notification::{self, Data};
use jiff::Timestamp;
use tokio::time::Instant;

use super::alert::{Alert, LabelSet};
use super::dispatch::Flushed;
use super::insight::Insight;
use super::links::Signer;
use super::nflog::{Key, Memory, Reason};
use email::outbox::Outbox;
use templates::Templates;

/// The first pause between attempts; each later one is half as long again, give or take half.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// Sends one message by the kind of `integration`.
async fn send(integration: &Integration, message: &Message<'_>) -> Result<Sent, Failure> {
    // Most kinds have nothing to remember.
    let sent = match &integration.notifier {
        Notifier::Email(config) => return email::send(config, message).await,
        Notifier::Slack(config) => return slack::send(config, message).await,
        Notifier::Webhook(config) => webhook::send(config, message).await,
        Notifier::Pagerduty(config) => pagerduty::send(config, message).await,
        Notifier::Opsgenie(config) => opsgenie::send(config, message).await,
        Notifier::Wechat(config) => wechat::send(config, message).await,
        Notifier::Victorops(config) => victorops::send(config, message).await,
        Notifier::Pushover(config) => pushover::send(config, message).await,
        Notifier::Sns(config) => sns::send(config, message).await,
        Notifier::Telegram(config) => telegram::send(config, message).await,
        Notifier::Discord(config) => discord::send(config, message).await,
        Notifier::Webex(config) => webex::send(config, message).await,
        Notifier::Msteams(config) => msteams::send(config, message).await,
        Notifier::Msteamsv2(config) => msteamsv2::send(config, message).await,
        Notifier::Jira(config) => jira::send(config, message).await,
        Notifier::Incidentio(config) => incidentio::send(config, message).await,
        Notifier::Rocketchat(config) => rocketchat::send(config, message).await,
        Notifier::Mattermost(config) => mattermost::send(config, message).await,
    };
    sent.map(|()| Sent::default())
}

/// What a message that arrived leaves behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    /// Replaces what the notification log kept for this integration.
    pub memory: Memory,
    /// The identity of the message where it went, such as an e-mail's Message-ID.
    pub id: Option<String>,
}

/// Where a message comes from and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'m> {
    pub receiver: &'m Receiver,
    /// The kind of the integration and its place among those of its kind at the receiver.
    pub integration: &'static str,
    pub index: usize,
    /// `{}/{severity="page"}:{alertname="Down"}`.
    pub group_key: &'m str,
    pub group_labels: &'m LabelSet,
    /// The labels of the route, already rendered.
    pub route_labels: &'m LabelSet,
    /// `{}/{severity="page"}`.
    pub route_key: &'m str,
    /// The same for people: `root › severity=page`.
    pub route_path: &'m str,
    /// When the group is told again if nothing changes; `None` when nothing fires any more.
    pub repeat_at: Option<Timestamp>,
}

impl Origin<'_> {
    /// Where the notification log keeps what was told.
    pub(super) fn log_key(&self) -> Key {
        Key {
            group: self.group_key.to_owned(),
            receiver: self.receiver.name.clone(),
            integration: self.integration.to_owned(),
            index: u32::try_from(self.index).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
impl Origin<'static> {
    /// The first webhook of a receiver without labels, told of a group of the root.
    pub(crate) fn sample(receiver: &str, group_key: &'static str, group_labels: LabelSet) -> Self {
        let receiver = Receiver { name: receiver.to_owned(), ..Receiver::default() };
        Self {
            receiver: Box::leak(Box::new(receiver)),
            integration: "webhook",
            index: 0,
            group_key,
            group_labels: Box::leak(Box::new(group_labels)),
            route_labels: Box::leak(Box::default()),
            route_key: "{}",
            route_path: "root",
            repeat_at: None,
        }
    }
}

/// What is to be told.
#[derive(Clone, Debug)]
pub struct Message<'m> {
    pub data: Data,
    pub group_key: &'m str,
    pub origin: Origin<'m>,
    pub templates: &'m Templates,
    pub now: Timestamp,
    pub reason: Reason,
    /// What the last message of this life of the group left behind; empty for the first.
    pub memory: Memory,
    /// What a message may say beyond its alerts.
    pub extras: Extras,
}

/// What the server can add to messages; all of it may be missing.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    pub insight: Option<Arc<dyn Insight>>,
    /// Makes links that silence.
    pub signer: Option<Arc<Signer>>,
    /// Of this server.
    pub version: String,
}

impl<'m> Message<'m> {
    pub fn new(
        origin: Origin<'m>,
        alerts: &[Flushed],
        reason: Reason,
        surroundings: (&'m Templates, &str, Timestamp),
        memory: Memory,
    ) -> Self {
        let (templates, external_url, now) = surroundings;
        let mut data =
            data(&origin.receiver.name, origin.group_labels, alerts, reason.as_str(), external_url);
        data.route_labels.clone_from(origin.route_labels);
        data.route_labels_rendered = true;
        Self {
            data,
            group_key: origin.group_key,
            origin,
            templates,
            now,
            reason,
            memory,
            extras: Extras::default(),
        }
    }

    /// The group key as 64 hexadecimal digits, for what demands an identity of bounded length.
    ///
    /// Compat: alertmanager `notify`, `Key.Hash`.
    pub fn group_key_hash(&self) -> String {
        group_key_hash(self.group_key)
    }
}

/// The SHA-256 of a group key in hexadecimal digits.
pub fn group_key_hash(group_key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, group_key.as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What templates see of a group; its route labels are yet to be rendered.
pub fn data(
    receiver: &str,
    group_labels: &LabelSet,
    alerts: &[Flushed],
    reason: &str,
    external_url: &str,
) -> Data {
    let alerts = alerts.iter().map(|flushed| template_alert(&flushed.alert, flushed.is_resolved)).collect();
    Data::new(receiver.to_owned(), group_labels.clone(), alerts, reason.to_owned(), external_url.to_owned())
}

fn template_alert(alert: &Alert, is_resolved: bool) -> notification::Alert {
    notification::Alert {
        is_resolved,
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        starts_at: alert.starts_at,
        ends_at: is_resolved.then_some(alert.ends_at),
        generator_url: alert.generator_url.clone(),
        fingerprint: alert.fingerprint.to_string(),
    }
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub message: String,
    /// Whether another attempt may succeed.
    pub retry: bool,
    /// The label of the metric of failures.
    pub reason: &'static str,
}

impl Failure {
    pub(super) fn last(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: false, reason: "other" }
    }

    pub(super) fn again(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: true, reason: "other" }
    }

    #[must_use]
    pub(super) fn because(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }

    /// The same, with what was attempted in front.
    fn within(mut self, attempt: &str) -> Self {
        self.message = format!("{attempt}: {}", self.message);
        self
    }
}

impl From<config::template::Error> for Failure {
    fn from(error: config::template::Error) -> Self {
        Self::last(error.to_string())
    }
}

/// What became of a message.
#[derive(Debug)]
pub struct Outcome {
    pub result: Result<Sent, Failure>,
    /// Attempts, and how many of them failed.
    pub requests: u64,
    pub failed_requests: u64,
    /// How long each attempt took.
    pub latencies: Vec<Duration>,
}

/// Sends `message`, with pauses and again, until it succeeds, fails for good or `timeout` has passed.
pub async fn deliver(integration: &Integration, message: &Message<'_>, timeout: Duration) -> Outcome {
    deliver_heard(integration, message, timeout, &|_, _| {}).await
}

/// As [`deliver`]; `failed` hears of every attempt after which there may be another.
pub async fn deliver_heard(
    integration: &Integration,
    message: &Message<'_>,
    timeout: Duration,
    failed: &(dyn Fn(u64, &Failure) + Send + Sync),
) -> Outcome {
    let attempts = AtomicU64::new(0);
    let attempts = &attempts;
    let attempt = || async move {
        let outcome = send(integration, message).await;
        let n = attempts.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(failure) = &outcome
            && failure.retry
        {
            failed(n, failure);
        }
        outcome
    };
    let name = format!("{}/{}[{}]", message.data.receiver, integration.notifier.name(), integration.index);
    retry(&name, timeout, attempt).await
}

/// The same, with e-mails going through the outbox, which has its own way of coming back.
pub(super) async fn deliver_through(
    outbox: &Arc<Outbox>,
    integration: &Integration,
    message: &Message<'_>,
    timeout: Duration,
    failed: &(dyn Fn(u64, &Failure) + Send + Sync),
) -> Outcome {
    match &integration.notifier {
        Notifier::Email(config) => {
            let began = Instant::now();
            let outcome = outbox.send(config, message, timeout).await;
            // Its attempts are its own; that a message took so long is what can be said.
            Outcome { latencies: vec![began.elapsed()], ..outcome }
        }
        _ => deliver_heard(integration, message, timeout, failed).await,
    }
}

/// `name` is who is told, for the log.
async fn retry<F>(name: &str, timeout: Duration, mut attempt: impl FnMut() -> F) -> Outcome
where
    F: Future<Output = Result<Sent, Failure>>,
{
    let deadline = Instant::now() + timeout;
    let mut backoff = Backoff::default();
    let mut latencies = Vec::new();
    let mut last: Option<Failure> = None;
    loop {
        let began = Instant::now();
        let attempted = tokio::time::timeout_at(deadline, attempt()).await;
        latencies.push(began.elapsed());
        let requests = latencies.len() as u64;
        let failure = match attempted {
            Ok(Ok(sent)) => {
                return Outcome { result: Ok(sent), requests, failed_requests: requests - 1, latencies };
            }
            Ok(Err(failure)) => failure,
            Err(_) => {
                let late = format!("notify deadline of {timeout:?} exceeded");
                // What the attempts before met says more than that time is up.
                last.take().map_or_else(
                    || Failure::last(late.clone()).because("contextDeadlineExceeded"),
                    |before| Failure { message: format!("{before}: {late}"), retry: false, ..before },
                )
            }
        };
        let wait = backoff.next_pause();
        if !failure.retry || Instant::now() + wait >= deadline {
            return Outcome { result: Err(failure), requests, failed_requests: requests, latencies };
        }
        if last.as_ref().is_none_or(|last| last.message != failure.message) {
            tracing::warn!(
                integration = name,
                attempts = requests,
                error = %failure,
                "notify attempt failed, will retry later"
            );
        }
        last = Some(failure);
        tokio::time::sleep(wait).await;
    }
}

/// The pauses between attempts.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_FIRST)
    }
}

impl Backoff {
    fn next_pause(&mut self) -> Duration {
        let pause = self.0.mul_f64(0.5 + fastrand::f64());
        self.0 = self.0.mul_f64(1.5).min(BACKOFF_MAX);
        pause
    }
}

#[cfg(test)]
mod tests;
