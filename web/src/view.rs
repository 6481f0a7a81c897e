//! What may be shown: owned structs in the shape and key order of the API, and the traits that give them.
//!
//! The server implements the traits; nothing here refers to its live state, so an answer cannot leak or
//! hold any.
//!
//! Compat: prometheus `web/api/v1`, the types behind each endpoint.

pub mod otlp;
pub mod remote;
pub mod running;
pub mod story;

use std::collections::BTreeMap;

use model::{Matcher, TimeRange};
use serde::Serialize;

/// A label set as text.
pub type LabelMap = BTreeMap<String, String>;

/// An RFC 3339 time in nanoseconds, as Go prints it; `0001-01-01T00:00:00Z` for never.
pub type TimeText = String;

// === targets ===

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveTarget {
    pub discovered_labels: LabelMap,
    pub labels: LabelMap,
    pub scrape_pool: String,
    pub scrape_url: String,
    pub global_url: String,
    pub last_error: String,
    pub last_scrape: TimeText,
    /// Seconds.
    pub last_scrape_duration: f64,
    /// `up`, `down` or `unknown`.
    pub health: &'static str,
    pub scrape_interval: String,
    pub scrape_timeout: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DroppedTarget {
    pub discovered_labels: LabelMap,
    pub scrape_pool: String,
}

/// The targets of all pools, pools by name, targets by labels.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub active: Vec<ActiveTarget>,
    pub dropped: Vec<DroppedTarget>,
    /// By pool; exact even where the list is cut.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// Type, help and unit of a metric family as one target tells them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Metadata {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub help: String,
    pub unit: String,
}

/// What one target says of its families.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    pub target: LabelMap,
    pub families: Vec<(String, Metadata)>,
}

/// How one section of a job's discovery does.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// The job, or which Alertmanagers.
    pub job: String,
    /// `scrape` or `notify`, as the metrics of discovery name it.
    pub manager: &'static str,
    pub mechanism: &'static str,
    /// How many targets it knows before relabelling, the last known ones where it fails.
    pub targets: usize,
    /// Empty if all is well.
    pub last_error: String,
    /// Since when it fails; the time before all times if it does not.
    pub failing_since: TimeText,
    pub last_update: TimeText,
}

/// The scrape side of the server.
pub trait TargetSource: Send + Sync {
    fn targets(&self) -> Targets;
    /// By job, in the order of its sections.
    fn discovery(&self) -> Vec<Discovery>;
    /// All pools, sorted.
    fn pools(&self) -> Vec<String>;
    fn metadata(&self) -> Vec<TargetMetadata>;
}

// === rules and alerts ===

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleGroup {
    pub name: String,
    pub file: String,
    pub rules: Vec<Rule>,
    /// Seconds.
    pub interval: f64,
    pub limit: usize,
    /// Seconds.
    pub evaluation_time: f64,
    pub last_evaluation: TimeText,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Rule {
    Alerting(AlertingRule),
    Recording(RecordingRule),
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertingRule {
    pub state: &'static str,
    pub name: String,
    pub query: String,
    /// Seconds.
    pub duration: f64,
    /// Seconds.
    pub keep_firing_for: f64,
    pub labels: LabelMap,
    pub annotations: LabelMap,
    /// `None` where the request left alerts out.
    pub alerts: Option<Vec<Alert>>,
    pub health: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    pub evaluation_time: f64,
    pub last_evaluation: TimeText,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingRule {
    pub name: String,
    pub query: String,
    pub labels: LabelMap,
    pub health: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    pub evaluation_time: f64,
    pub last_evaluation: TimeText,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub labels: LabelMap,
    pub annotations: LabelMap,
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_at: Option<TimeText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_since: Option<TimeText>,
    /// In exponent form.
    pub value: String,
}

/// The rule side of the server.
pub trait RuleSource: Send + Sync {
    /// All groups, by file, then name.
    fn groups(&self) -> Vec<RuleGroup>;
}

// === notifications ===

#[derive(Clone, Debug, Serialize)]
pub struct AlertmanagerUrl {
    pub url: String,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alertmanagers {
    pub active_alertmanagers: Vec<AlertmanagerUrl>,
    pub dropped_alertmanagers: Vec<AlertmanagerUrl>,
}

// === status ===

#[derive(Clone, Debug, Serialize)]
pub struct RuntimeInfo {
    #[serde(rename = "startTime")]
    pub start_time: TimeText,
    #[serde(rename = "CWD")]
    pub cwd: String,
    pub hostname: String,
    #[serde(rename = "serverTime")]
    pub server_time: TimeText,
    #[serde(rename = "reloadConfigSuccess")]
    pub reload_config_success: bool,
    #[serde(rename = "lastConfigTime")]
    pub last_config_time: TimeText,
    #[serde(rename = "corruptionCount")]
    pub corruption_count: u64,
    #[serde(rename = "goroutineCount")]
    pub goroutine_count: usize,
    #[serde(rename = "GOMAXPROCS")]
    pub gomaxprocs: usize,
    #[serde(rename = "GOMEMLIMIT")]
    pub gomemlimit: i64,
    #[serde(rename = "GOGC")]
    pub gogc: String,
    #[serde(rename = "GODEBUG")]
    pub godebug: String,
    #[serde(rename = "storageRetention")]
    pub storage_retention: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    pub version: String,
    pub revision: String,
    pub branch: String,
    pub build_user: String,
    pub build_date: String,
    pub go_version: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct NamedCount {
    pub name: String,
    pub value: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TsdbStatus {
    pub head_stats: HeadStats,
    pub series_count_by_metric_name: Vec<NamedCount>,
    pub label_value_count_by_label_name: Vec<NamedCount>,
    pub memory_in_bytes_by_label_name: Vec<NamedCount>,
    pub series_count_by_label_value_pair: Vec<NamedCount>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadStats {
    pub num_series: u64,
    pub num_label_pairs: u64,
    pub chunk_count: u64,
    pub min_time: i64,
    pub max_time: i64,
}

/// Segments of the log; `current` runs from `min` to `max` during replay.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct WalReplay {
    pub min: u64,
    pub max: u64,
    pub current: u64,
}

/// Something users should know.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    pub text: String,
    pub date: TimeText,
    pub active: bool,
}

/// Everything about the server itself.
pub trait StatusSource: Send + Sync {
    /// The store has been replayed and the server is not stopping.
    fn is_ready(&self) -> bool;
    fn is_stopping(&self) -> bool;
    /// The running configuration as YAML, secrets masked.
    fn config_text(&self) -> String;
    fn flags(&self) -> BTreeMap<String, String>;
    fn runtime_info(&self) -> RuntimeInfo;
    fn build_info(&self) -> BuildInfo;
    /// The `limit` largest entries of each list.
    fn tsdb_status(&self, limit: usize) -> TsdbStatus;
    fn wal_replay(&self) -> WalReplay;
    /// The blocks' own descriptions, a JSON document each, oldest first.
    fn blocks(&self) -> Vec<Vec<u8>>;
    fn alertmanagers(&self) -> Alertmanagers;
    /// Adds the server's own metrics, those of the routes aside.
    fn expose(&self, out: &mut model::wire::expose::Exposition);
}

/// What users may do to the store; the flag that allows it is checked by the routes. All of it may take long.
pub trait TsdbAdmin: Send + Sync {
    /// Deletes the samples in `range` of the series that pass all `matchers`.
    ///
    /// # Errors
    /// Not everything could be deleted; the text says why.
    fn delete_series(&self, range: TimeRange, matchers: &[Matcher]) -> Result<(), String>;

    /// Takes what is deleted off the disk.
    ///
    /// # Errors
    /// Something is left there; the text says why.
    fn clean_tombstones(&self) -> Result<(), String>;

    /// Copies the store and returns the name of the directory below `snapshots`.
    ///
    /// # Errors
    /// There is no copy; the text says why.
    fn snapshot(&self, skip_head: bool) -> Result<String, String>;
}

/// Reload and stop; the flags that allow them are checked by the routes.
pub trait Lifecycle: Send + Sync {
    /// Reads the configuration again and applies it.
    fn reload(&self) -> futures_util::future::BoxFuture<'_, Result<(), String>>;
    fn quit(&self);
}
