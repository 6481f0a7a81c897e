//! `prometheus.yml`, resolved: globals merged into jobs, paths absolute, patterns compiled.
//!
//! Compat: prometheus `config`, `Config`.

mod alerting;
pub mod azuread;
mod decode;
mod discovery;
mod global;
pub mod otlp;
mod print;
mod protocols;
pub mod remote;
mod scrape;
mod scrape_files;
mod storage;
pub mod tracing;

pub use decode::{fingerprint, load, load_main, load_with, parse};
pub(crate) use discovery::decode::decode_static_group;
pub use discovery::*;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::Labels;

use crate::http_client::HttpClient;
use crate::http_client::sigv4::Sigv4;
use crate::relabel::{self, NameScheme};

#[derive(Clone, Debug)]
pub struct Config {
    pub global: Global,
    pub scrape_configs: Vec<Arc<ScrapeConfig>>,
    /// Globs, joined to the directory of the file.
    pub rule_files: Vec<String>,
    /// Globs, as [`Config::rule_files`]; their jobs stand behind those of the main file.
    pub scrape_config_files: Vec<String>,
    pub alerting: Alerting,
    pub storage: Storage,
    /// Without effect yet.
    pub tracing: Option<tracing::Tracing>,
    /// Without effect yet.
    pub remote_write: Vec<remote::Write>,
    /// Without effect yet.
    pub remote_read: Vec<remote::Read>,
    /// Without effect yet.
    pub otlp: otlp::Otlp,
    /// Means nothing here, but is shown.
    pub gogc: i64,
    /// The whole configuration as YAML, defaults filled in and secrets masked.
    pub text: String,
    /// What was accepted but has no effect, for the log.
    pub warnings: Vec<String>,
}

impl Config {
    /// What a server that only forwards samples refuses to find in its file.
    pub fn agent_mode_refusal(&self) -> Option<&'static str> {
        if !self.alerting.alertmanagers.is_empty() || !self.alerting.alert_relabel.is_empty() {
            return Some("field alerting is not allowed in agent mode");
        }
        if !self.rule_files.is_empty() {
            return Some("field rule_files is not allowed in agent mode");
        }
        (!self.remote_read.is_empty()).then_some("field remote_read is not allowed in agent mode")
    }
}

/// What flags contribute to the reading of a file.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Jobs without a list of their own ask for protobuf first, whether they take native histograms or not.
    pub proto_first: bool,
    pub extra_scrape_metrics: bool,
    /// Printed where the file has no such section.
    pub retention: Retention,
    /// As [`Defaults::retention`]; `None` where no exemplars are kept.
    pub max_exemplars: Option<i64>,
}

impl Default for Defaults {
    fn default() -> Self {
        let time = Duration::from_hours(15 * 24);
        Self {
            proto_first: false,
            extra_scrape_metrics: false,
            retention: Retention { time, ..Retention::default() },
            max_exemplars: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub evaluation_interval: Duration,
    pub rule_query_offset: Duration,
    pub external_labels: Labels,
    pub query_log_file: Option<PathBuf>,
    pub name_scheme: NameScheme,
}

/// How floats are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatEncoding {
    Xor,
    Xor2,
}

/// `storage.tsdb`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Storage {
    /// `None` when the file has no such section; then the flags count.
    pub retention: Option<Retention>,
    pub out_of_order_time_window: Duration,
    /// The share of series that must have ended for them to be written out early; 0 for never.
    pub stale_series_compaction_threshold: f64,
    /// `chunk_encoding.floats`; `None` when the file does not say.
    pub floats: Option<FloatEncoding>,
    /// `None` when the file has no such section.
    pub max_exemplars: Option<i64>,
}

/// Zero means no limit of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Retention {
    pub time: Duration,
    pub size_bytes: u64,
    /// Of the disk, up to 100.
    pub percentage: f64,
}

#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as in the file")]
#[derive(Clone, Debug)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    /// In the order of preference.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    pub metrics_path: String,
    pub scheme: String,
    pub params: BTreeMap<String, Vec<String>>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub enable_compression: bool,
    pub extra_scrape_metrics: bool,
    pub scrape_native_histograms: bool,
    pub always_scrape_classic_histograms: bool,
    pub convert_classic_histograms_to_nhcb: bool,
    /// 0 for no limit.
    pub native_histogram_bucket_limit: u64,
    /// 0 for none.
    pub native_histogram_min_bucket_factor: f64,
    /// Empty for none.
    pub scrape_failure_log_file: String,
    pub name_scheme: NameScheme,
    pub escaping: Escaping,
    pub limits: ScrapeLimits,
    pub http: HttpClient,
    pub relabel: Vec<relabel::Rule>,
    pub metric_relabel: Vec<relabel::Rule>,
    pub discovery: Vec<Discovery>,
}

/// 0 means no limit in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ScrapeLimits {
    pub body_size_bytes: u64,
    pub samples: u64,
    pub targets: u64,
    pub labels: u64,
    pub label_name_bytes: u64,
    pub label_value_bytes: u64,
    pub keep_dropped_targets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeProtocol {
    PrometheusProto,
    OpenMetricsText0_0_1,
    OpenMetricsText1_0_0,
    PrometheusText0_0_4,
    PrometheusText1_0_0,
}

impl ScrapeProtocol {
    const ALL: [Self; 5] = [
        Self::OpenMetricsText0_0_1,
        Self::OpenMetricsText1_0_0,
        Self::PrometheusProto,
        Self::PrometheusText0_0_4,
        Self::PrometheusText1_0_0,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == text)
    }
}

/// How a target is asked to write names that are not classic ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|e| e.as_str() == text)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Alerting {
    pub alert_relabel: Vec<relabel::Rule>,
    pub alertmanagers: Vec<Alertmanager>,
}

/// Where and how external Alertmanagers are reached.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    pub scheme: String,
    pub path_prefix: String,
    pub timeout: Duration,
    pub http: HttpClient,
    pub sigv4: Option<Sigv4>,
    /// Applied to the discovered targets.
    pub relabel: Vec<relabel::Rule>,
    pub alert_relabel: Vec<relabel::Rule>,
    pub discovery: Vec<Discovery>,
}

/// Request headers that the server sets itself when it sends samples or traces; in lower case.
pub(crate) fn is_reserved_header(name: &str) -> bool {
    matches!(
        name,
        "content-encoding"
            | "content-type"
            | "x-prometheus-remote-write-version"
            | "x-prometheus-remote-read-version"
            | "user-agent"
            | "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "www-authenticate"
            | "accept-encoding"
            | "x-amz-date"
            | "x-amz-security-token"
            | "x-amz-content-sha256"
            | "host"
    )
}

#[cfg(test)]
mod tests;
