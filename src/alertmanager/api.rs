//! API v2 as plain structs that serialise as upstream's, fields in its order.
//!
//! Compat: alertmanager `api/v2` (0.34).

use jiff::Timestamp;
use model::Matcher;
use serde::Serialize;

use super::alert::LabelSet;
use super::clock;
use super::silence::{Silence, SilenceMatcher};

/// Which alerts to list.
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of the request")]
#[derive(Debug)]
pub struct AlertFilter {
    pub active: bool,
    pub silenced: bool,
    pub inhibited: bool,
    /// Groups that time intervals mute; alerts are listed all the same.
    pub muted: bool,
    pub matchers: Vec<Matcher>,
    /// Anchored; only alerts that go to a receiver of such a name.
    pub receiver: Option<model::Regex>,
    /// Only alerts that go to a receiver with such labels.
    pub receiver_matchers: Vec<Matcher>,
}

impl Default for AlertFilter {
    fn default() -> Self {
        Self {
            active: true,
            silenced: true,
            inhibited: true,
            muted: true,
            matchers: Vec::new(),
            receiver: None,
            receiver_matchers: Vec::new(),
        }
    }
}

/// Which silences to list.
#[derive(Debug)]
pub struct SilenceFilter {
    pub active: bool,
    pub pending: bool,
    pub expired: bool,
    pub matchers: Vec<Matcher>,
}

impl Default for SilenceFilter {
    fn default() -> Self {
        Self { active: true, pending: true, expired: true, matchers: Vec::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    pub name: String,
}

/// A receiver with the labels it is found by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceiverStatus {
    pub labels: LabelSet,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertStatus {
    pub inhibited_by: Vec<String>,
    pub muted_by: Vec<String>,
    pub silenced_by: Vec<String>,
    /// `unprocessed`, `active` or `suppressed`.
    pub state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GettableAlert {
    pub annotations: LabelSet,
    #[serde(serialize_with = "clock::millis")]
    pub ends_at: Timestamp,
    pub fingerprint: String,
    pub receivers: Vec<Named>,
    #[serde(serialize_with = "clock::millis")]
    pub starts_at: Timestamp,
    pub status: AlertStatus,
    #[serde(serialize_with = "clock::millis")]
    pub updated_at: Timestamp,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    pub generator_url: String,
    pub labels: LabelSet,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertGroup {
    pub alerts: Vec<GettableAlert>,
    pub labels: LabelSet,
    pub receiver: Named,
    pub route_labels: LabelSet,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SilenceStatus {
    pub state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GettableSilence {
    pub id: String,
    pub status: SilenceStatus,
    #[serde(serialize_with = "clock::millis")]
    pub updated_at: Timestamp,
    #[serde(skip_serializing_if = "LabelSet::is_empty")]
    pub annotations: LabelSet,
    pub comment: String,
    pub created_by: String,
    #[serde(serialize_with = "clock::millis")]
    pub ends_at: Timestamp,
    pub matchers: Vec<SilenceMatcher>,
    #[serde(serialize_with = "clock::millis")]
    pub starts_at: Timestamp,
}

impl GettableSilence {
    pub(super) fn new(silence: &Silence, now: Timestamp) -> Self {
        Self {
            id: silence.id.clone(),
            status: SilenceStatus { state: silence.state(now).as_str() },
            updated_at: silence.updated_at,
            annotations: silence.annotations.clone(),
            comment: silence.comment.clone(),
            created_by: silence.created_by.clone(),
            ends_at: silence.ends_at,
            // A silence of several sets can only have come from elsewhere, and has no other form here.
            matchers: silence.sets.first().cloned().unwrap_or_default(),
            starts_at: silence.starts_at,
        }
    }
}

/// What `POST /silences` answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SilenceId {
    #[serde(rename = "silenceID")]
    pub id: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub cluster: ClusterStatus,
    pub config: StatusConfig,
    #[serde(serialize_with = "clock::millis")]
    pub uptime: Timestamp,
    pub version_info: VersionInfo,
}

#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    pub peers: Vec<Named>,
    pub status: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct StatusConfig {
    pub original: String,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    pub branch: String,
    pub build_date: String,
    pub build_user: String,
    pub go_version: String,
    pub revision: String,
    pub version: String,
}
