//! The stories of alerts as the API tells them: `/api/v1/alerts/explain`.
//!
//! The endpoint is ours. Its answer:
//!
//! ```json
//! {
//!   "time": "2026-01-02T03:04:05Z",
//!   "alerts": [{
//!     "labels": {"alertname": "High", "instance": "a"},
//!     "fingerprint": "0123456789abcdef",
//!     "knownAs": [{"alertname": "High", "instance": "a", "region": "eu"}],
//!     "rule": {"file": "/r.yml", "group": "g", "name": "High", "query": "load > 0.9", "duration": 300, "keepFiringFor": 0},
//!     "state": "firing",
//!     "cause": {"code": "for_reached", "text": "…", "since": "…", "next": "…"},
//!     "notification": {"code": "silenced", "text": "…", "since": "…", "next": "…"},
//!     "deliveries": [{"to": "team/email[0]", "group": "{}:{alertname=\"High\"}", "code": "…", "text": "…", "message": "<…>"}],
//!     "timeline": [{"time": "…", "until": "…", "count": 20, "event": "value", "code": "expression_true", "text": "…"}],
//!     "timelineTruncated": true
//!   }],
//!   "nextToken": "…"
//! }
//! ```
//!
//! `cause` says what the state is and why, `notification` how far the messages got and what stopped them. Absent
//! keys: `knownAs` when Alertmanagers know the alert by its own labels, `rule` of an alert from outside, `since`,
//! `next` (when the state of things may change by itself) and `message` where there is none.

use model::{Matcher, TimeRange, Timestamp};
use serde::Serialize;

use super::{LabelMap, TimeText};

/// Which alerts are asked about, and when.
#[derive(Clone, Debug)]
pub struct Query {
    /// An alert is meant if it passes all matchers of one of them.
    pub selectors: Vec<Vec<Matcher>>,
    /// The moment to explain.
    pub time: Timestamp,
    /// What the timeline shall cover.
    pub range: TimeRange,
    /// The most alerts of an answer.
    pub limit: usize,
    /// The most entries of a timeline, the newest ones.
    pub entries_max: usize,
    /// Where the answer before this one ended; empty for the first.
    pub token: String,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    pub time: TimeText,
    /// By labels.
    pub alerts: Vec<ExplainedAlert>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_token: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedAlert {
    pub labels: LabelMap,
    pub fingerprint: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_as: Vec<LabelMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// `firing`, `pending`, `inactive` or `unknown`.
    pub state: &'static str,
    pub cause: Cause,
    pub notification: Cause,
    pub deliveries: Vec<Delivery>,
    pub timeline: Vec<Event>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub timeline_truncated: bool,
}

/// The rule as it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleRef {
    pub file: String,
    pub group: String,
    pub name: String,
    pub query: String,
    /// Seconds.
    pub duration: f64,
    /// Seconds.
    pub keep_firing_for: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// For machines; it does not change.
    pub code: &'static str,
    /// For people; it may.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<TimeText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<TimeText>,
}

/// One way of the alert's messages.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// An Alertmanager's URL, `<receiver>/<integration>`, or a receiver.
    pub to: String,
    /// The group of the built-in Alertmanager.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(flatten)]
    pub cause: Cause,
    /// The identity of the last message that arrived.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One entry of a timeline: something that happened once, or again and again until `until`.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub time: TimeText,
    pub until: TimeText,
    pub count: u64,
    pub event: &'static str,
    pub code: &'static str,
    pub text: String,
}

/// Whoever keeps the stories.
pub trait StorySource: Send + Sync {
    /// May take as long as a query.
    ///
    /// # Errors
    /// A file of the stories cannot be read.
    fn explain(&self, query: &Query) -> Result<Explained, String>;
}
