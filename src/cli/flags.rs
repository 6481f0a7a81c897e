//! The flags: each declared once with Prometheus' name, default and meaning.
//!
//! Two steps: [`FLAGS`] is read into texts ([`Values`], what the user typed), texts into [`Flags`] (what the
//! server runs with). A flag that Prometheus has and that means nothing here yet is accepted, and named in a
//! warning when somebody sets it.
//!
//! Compat: prometheus `cmd/prometheus/main.go` (3.14), kingpin's spelling (`--no-x` for booleans).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::builder::{Arg, ArgAction, Command};
use model::wire::remote_write::Message;
use model::{Regex, duration};
use tsdb::chunk::FloatEncoding;

/// One flag as the user sees it.
struct Flag {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    visibility: Visibility,
    help: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bool,
    /// May be given several times.
    List,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visibility {
    Shown,
    /// Accepted but not in the help, as in Prometheus.
    Hidden,
    /// Accepted for compatibility: setting it changes nothing yet.
    NoEffect,
}

use Kind::{Bool, List, Text};
use Visibility::{Hidden, NoEffect, Shown};

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    visibility: Visibility,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, visibility, help }
}

#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    flag("config.file", Text, "prometheus.yml", Shown, "Configuration file path."),
    flag("config.auto-reload", Bool, "false", Shown, "Reload the configuration when its file changes, or one of rules or jobs that it names."),
    flag("config.auto-reload-interval", Text, "30s", Shown, "How often to look for changes of the configuration, at least 1s."),
    flag("web.listen-address", List, "0.0.0.0:9090", Shown, "Address to listen on for UI, API, and telemetry. Can be repeated."),
    flag("auto-gomaxprocs", Bool, "true", Shown, "Have no more threads than the container's CPU quota keeps busy."),
    flag("auto-gomemlimit", Bool, "true", Shown, "Bound the memory of queries by the container's or the system's."),
    flag("auto-gomemlimit.ratio", Text, "0.9", Shown, "The share of the container's memory to use."),
    flag("auto-gomemlimit.refresh-interval", Text, "0s", NoEffect, "How often to read the memory limit again."),
    flag("web.config.file", Text, "", Shown, "Path to configuration file that can enable TLS or authentication. See: https://prometheus.io/docs/prometheus/latest/configuration/https/"),
    flag("web.read-timeout", Text, "5m", Shown, "Maximum duration before timing out read of the request, and closing idle connections."),
    flag("web.max-connections", Text, "512", Shown, "Maximum number of simultaneous connections across all listeners."),
    flag("web.max-notifications-subscribers", Text, "16", Shown, "Limits the maximum number of subscribers that can concurrently receive live notifications."),
    flag("web.external-url", Text, "", Shown, "The URL under which the server is externally reachable (for example behind a reverse proxy). Used for links back to it."),
    flag("web.route-prefix", Text, "", Shown, "Prefix for the internal routes of web endpoints. Defaults to path of --web.external-url."),
    flag("web.user-assets", Text, "", Shown, "Path to static asset directory, available at /user."),
    flag("web.enable-lifecycle", Bool, "false", Shown, "Enable shutdown and reload via HTTP request."),
    flag("web.enable-admin-api", Bool, "false", Shown, "Enable API endpoints for admin control actions."),
    flag("web.enable-remote-write-receiver", Bool, "false", Shown, "Enable API endpoint accepting remote write requests."),
    flag("web.remote-write-receiver.accepted-protobuf-messages", List, "prometheus.WriteRequest,io.prometheus.write.v2.Request", Shown, "List of the remote write protobuf messages to accept."),
    flag("web.enable-otlp-receiver", Bool, "false", Shown, "Enable API endpoint accepting OTLP write requests."),
    flag("web.console.templates", Text, "consoles", Shown, "Path to the console template directory, available at /consoles."),
    flag("web.console.libraries", Text, "console_libraries", Shown, "Path to the console library directory."),
    flag("web.page-title", Text, "Prometheus Time Series Collection and Processing Server", Shown, "Document title of the page."),
    flag("web.cors.origin", Text, ".*", Shown, "Regex for CORS origin. It is fully anchored."),
    flag("web.enable-search-api", Bool, "true", Shown, "Enable the search API. Off, it answers as Prometheus does without its feature search-api."),
    flag("web.search.max-limit", Text, "10000", Shown, "The most results of the search API, 0 for no limit."),
    flag("storage.tsdb.path", Text, "data/", Shown, "Base path for metrics storage."),
    flag("storage.tsdb.retention.time", Text, "", Shown, "How long to retain samples in storage. 15d if neither time nor size is set."),
    flag("storage.tsdb.retention.size", Text, "", Shown, "Maximum number of bytes that can be stored for blocks. A unit is required."),
    flag("storage.tsdb.no-lockfile", Bool, "false", Shown, "Do not create lockfile in data directory."),
    flag("storage.tsdb.head-chunks-write-queue-size", Text, "0", NoEffect, "Size of the queue through which head chunks are written to the disk to be m-mapped."),
    flag("storage.tsdb.delay-compact-file.path", Text, "", Shown, "Path of a file that lists the blocks which may be compacted."),
    flag("storage.agent.path", Text, "data-agent/", NoEffect, "Base path for metrics storage in agent mode."),
    flag("storage.remote.flush-deadline", Text, "1m", NoEffect, "How long to wait flushing samples on shutdown or config reload."),
    flag("storage.remote.read-sample-limit", Text, "50000000", Shown, "Maximum overall number of samples to return via the remote read interface, in a single query."),
    flag("storage.remote.read-concurrent-limit", Text, "10", Shown, "Maximum number of concurrent remote read calls."),
    flag("storage.remote.read-max-bytes-in-frame", Text, "1048576", Shown, "Maximum number of bytes in a single frame for streaming remote read."),
    flag("rules.alert.for-outage-tolerance", Text, "1h", Shown, "Max time to tolerate outage for restoring \"for\" state of alert."),
    flag("rules.alert.for-grace-period", Text, "10m", Shown, "Minimum duration between alert and restored \"for\" state."),
    flag("rules.alert.resend-delay", Text, "1m", Shown, "Minimum amount of time to wait before resending an alert."),
    flag("rules.alert.keep-state-over-limit", Bool, "false", Shown, "Refuse new alerts beyond the limit of a group but keep those that are active, instead of dropping all of the rule."),
    flag("rules.max-concurrent-evals", Text, "4", Shown, "Global concurrency limit for independent rules that can run concurrently."),
    flag("alertmanager.notification-queue-capacity", Text, "10000", Shown, "The capacity of the queue for pending notifications of one Alertmanager."),
    flag("alertmanager.notification-batch-size", Text, "256", Shown, "The maximum number of notifications per batch to send to an Alertmanager."),
    flag("alertmanager.drain-notification-queue-on-shutdown", Bool, "true", Shown, "Send any outstanding notifications when shutting down."),
    flag("alertmanager.config-file", Text, "", Shown, "Configuration file of the built-in Alertmanager, which runs if this is set."),
    flag("alertmanager.storage.path", Text, "", Shown, "Where the built-in Alertmanager keeps silences, notifications and alerts. Empty for the folder alertmanager in that of the storage."),
    flag("alertmanager.data.retention", Text, "120h", Shown, "How long the built-in Alertmanager keeps expired silences and old notifications."),
    flag("alertmanager.data.maintenance-interval", Text, "15m", Shown, "How often the built-in Alertmanager drops what it need not keep and writes snapshots."),
    flag("alertmanager.silences.max-silences", Text, "0", Shown, "The most silences of the built-in Alertmanager, expired ones included. 0 for no limit."),
    flag("alertmanager.silences.max-silence-size-bytes", Text, "0", Shown, "The largest silence that the built-in Alertmanager takes. 0 for no limit."),
    flag("alertmanager.log.silences", Bool, "false", Shown, "Log changes of silences of the built-in Alertmanager."),
    flag("alertmanager.alerts.gc-interval", Text, "30m", Shown, "How often the built-in Alertmanager forgets resolved alerts."),
    flag("alertmanager.alerts.per-alertname-limit", Text, "0", Shown, "The most firing alerts of one name in the built-in Alertmanager. 0 for no limit."),
    flag("alertmanager.dispatch.start-delay", Text, "0s", Shown, "How long the built-in Alertmanager waits after a start before it tells anybody."),
    flag("alertmanager.dispatch.max-groups", Text, "0", Shown, "The most groups of alerts in the built-in Alertmanager. 0 for no limit."),
    flag("query.lookback-delta", Text, "5m", Shown, "The maximum lookback duration for retrieving metrics during expression evaluations and federation."),
    flag("query.timeout", Text, "2m", Shown, "Maximum time a query may take before being aborted."),
    flag("query.max-concurrency", Text, "20", Shown, "Maximum number of queries executed concurrently."),
    flag("query.max-samples", Text, "50000000", Shown, "Maximum number of samples a single query can load into memory."),
    flag("enable-feature", List, "", Shown, "Comma separated feature names to enable. Unknown names are warned of."),
    flag("agent", Bool, "false", NoEffect, "Run in agent mode."),
    flag("log.level", Text, "info", Shown, "Only log messages with the given severity or above. One of: [debug, info, warn, error]"),
    flag("log.format", Text, "logfmt", Shown, "Output format of log messages. One of: [logfmt, json]"),
    flag("storage.tsdb.min-block-duration", Text, "2h", Hidden, "Minimum duration of a data block before being persisted. For use in testing."),
    flag("storage.tsdb.max-block-duration", Text, "", Hidden, "Maximum duration compacted blocks may span. For use in testing. (Defaults to 10% of the retention period.)"),
    flag("storage.tsdb.max-block-chunk-segment-size", Text, "0B", Hidden, "The maximum size for a single chunk segment in a block."),
    flag("storage.tsdb.wal-segment-size", Text, "0B", Hidden, "Size at which to split the write-ahead-log segment files."),
    flag("storage.tsdb.allow-overlapping-compaction", Bool, "true", Hidden, "Allow compaction of overlapping blocks."),
    flag("storage.tsdb.wal-compression", Bool, "true", Hidden, "Compress the write-ahead log."),
    flag("storage.tsdb.wal-compression-type", Text, "snappy", Hidden, "Compression algorithm for the write-ahead log, used when storage.tsdb.wal-compression is set. Options: [snappy, zstd]"),
    flag("storage.tsdb.wal-sync-interval", Text, "5s", Shown, "How often the write-ahead log is synced to the disk: the most that a power cut can take. 0 syncs at the end of each segment only, as Prometheus does."),
    flag("storage.tsdb.head-series-limit", Text, "0", Shown, "The most series that the newest hours may hold; new ones beyond it are refused, known ones go on. 0 for no limit."),
    flag("storage.tsdb.head-snapshot-interval", Text, "5m", Shown, "How often the newest samples are written to a file of our own that makes the next start fast; at a clean stop, too. 0 never writes or reads it."),
    flag("storage.tsdb.samples-per-chunk", Text, "120", NoEffect, "Target number of samples per chunk."),
    flag("storage.tsdb.delayed-compaction.max-percent", Text, "10", Hidden, "Upper limit of the random delay of compactions."),
    flag("storage.tsdb.block-reload-interval", Text, "1m", Hidden, "How often blocks are compacted, removed and looked for."),
    flag("scrape.adjust-timestamps", Bool, "true", Hidden, "Adjust scrape timestamps by up to `scrape.timestamp-tolerance` to align them to the intended schedule."),
    flag("scrape.timestamp-tolerance", Text, "2ms", Hidden, "Timestamp tolerance. See scrape.adjust-timestamps."),
    flag("scrape.discovery-reload-interval", Text, "5s", Hidden, "Interval used by scrape manager to throttle target groups updates."),
];

/// The features that Prometheus knows and that change something here.
const FEATURES: [&str; 25] = [
    // Always on, unless a flag of ours says no.
    "search-api",
    "concurrent-rule-eval",
    "delayed-compaction",
    "promql-per-step-stats",
    "use-start-timestamps",
    // Always on, as upstream.
    "promql-duration-expr",
    "native-histograms",
    "ooo-native-histograms",
    "promql-experimental-functions",
    "promql-delayed-name-removal",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
    "type-and-unit-labels",
    "auto-reload-config",
    "extra-scrape-metrics",
    "exemplar-storage",
    "xor2-encoding",
    "st-storage",
    "st-synthesis",
    "histograms-st-encoding",
    "created-timestamp-zero-ingestion",
    "metadata-wal-records",
    "otlp-deltatocumulative",
    "otlp-native-delta-ingestion",
    "memory-snapshot-on-shutdown",
];

/// The texts of all flags, defaults included.
#[derive(Clone, Debug)]
pub struct Values {
    texts: BTreeMap<&'static str, Vec<String>>,
    /// Flags that were set although they change nothing.
    without_effect: Vec<&'static str>,
}

impl Values {
    /// Reads command line arguments, the program's name first.
    ///
    /// # Errors
    /// An argument is unknown or lacks its value; help and version come as errors, too, which print themselves.
    pub fn parse(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(args)?;
        let mut texts = BTreeMap::new();
        let mut without_effect = Vec::new();
        for flag in FLAGS {
            let given: Vec<String> = match flag.kind {
                Bool if matches.get_flag(&negation(flag.name)) => vec!["false".to_owned()],
                _ => matches.get_many::<String>(flag.name).unwrap_or_default().cloned().collect(),
            };
            let text = if given.is_empty() { vec![flag.default.to_owned()] } else { given };
            if flag.visibility == NoEffect && text != [flag.default] {
                without_effect.push(flag.name);
            }
            texts.insert(flag.name, text);
        }
        Ok(Self { texts, without_effect })
    }

    /// Every flag with its value, as `/api/v1/status/flags` shows them.
    pub fn shown(&self) -> BTreeMap<String, String> {
        self.texts.iter().map(|(name, texts)| ((*name).to_owned(), texts.join(","))).collect()
    }

    fn all(&self, name: &str) -> &[String] {
        self.texts.get(name).expect("BUG: a flag that is asked for is declared")
    }

    fn text(&self, name: &str) -> &str {
        self.all(name).last().map_or("", String::as_str)
    }

    fn bool(&self, name: &str) -> anyhow::Result<bool> {
        match self.text(name) {
            "true" => Ok(true),
            "false" => Ok(false),
            other => bail!("--{name}: expected true or false but got {other:?}"),
        }
    }

    fn number(&self, name: &str) -> anyhow::Result<usize> {
        let text = self.text(name);
        text.parse().with_context(|| format!("--{name}: expected a number but got {text:?}"))
    }

    fn duration(&self, name: &str) -> anyhow::Result<Duration> {
        duration::parse(self.text(name)).map_err(|e| anyhow::anyhow!("--{name}: {e}"))
    }

    fn optional_duration(&self, name: &str) -> anyhow::Result<Option<Duration>> {
        if self.text(name).is_empty() { Ok(None) } else { self.duration(name).map(Some) }
    }

    fn size(&self, name: &str) -> anyhow::Result<u64> {
        match self.text(name) {
            "" | "0" => Ok(0),
            text => config::units::parse_size(text).map_err(|e| anyhow::anyhow!("--{name}: {e}")),
        }
    }
}

fn negation(name: &str) -> String {
    format!("no-{name}")
}

fn command() -> Command {
    let mut command = Command::new("ferula")
        .about("A Prometheus-compatible monitoring server with a built-in Alertmanager")
        .after_help("Tools for a data directory: ferula tsdb --help")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100);
    for flag in FLAGS {
        let help = if flag.default.is_empty() {
            flag.help.to_owned()
        } else {
            format!("{} [default: {}]", flag.help, flag.default)
        };
        let arg = Arg::new(flag.name).long(flag.name).help(help).hide(flag.visibility != Shown);
        command = match flag.kind {
            Text => command.arg(arg.action(ArgAction::Set).overrides_with(flag.name)),
            List => command.arg(arg.action(ArgAction::Append)),
            Bool => command
                .arg(
                    arg.action(ArgAction::Set)
                        .num_args(0..=1)
                        .require_equals(true)
                        .default_missing_value("true"),
                )
                .arg(
                    Arg::new(negation(flag.name))
                        .long(negation(flag.name))
                        .hide(true)
                        .action(ArgAction::SetTrue),
                ),
        };
    }
    command
}

/// The flags, resolved.
#[derive(Debug)]
pub struct Flags {
    pub config_file: PathBuf,
    pub alertmanager_config_file: Option<PathBuf>,
    pub alertmanager: Alertmanager,
    /// How often to look whether the files changed; `None` for never.
    pub auto_reload: Option<Duration>,
    pub web: Web,
    pub storage: Storage,
    pub remote_read: RemoteRead,
    pub rules: crate::rules::Options,
    pub notifier: crate::notifier::manager::Options,
    pub query: Query,
    pub resources: Resources,
    pub scrape: Scrape,
    pub features: BTreeSet<String>,
    pub log: Log,
    pub shown: BTreeMap<String, String>,
    /// What the user should know before the server starts.
    pub warnings: Vec<String>,
}

/// What the built-in Alertmanager is told beside its file.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    /// `None` for a folder in that of the storage.
    pub path: Option<PathBuf>,
    pub retention: Duration,
    pub maintenance_interval: Duration,
    pub gc_interval: Duration,
    pub start_delay: Duration,
    /// 0 for no limit, as of the following.
    pub silences_max: usize,
    pub silence_bytes_max: usize,
    pub alerts_per_name_max: usize,
    pub groups_max: usize,
    pub logs_silences: bool,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Web {
    pub listen: Vec<SocketAddr>,
    /// What protects the server: TLS, users.
    pub config_file: Option<PathBuf>,
    pub read_timeout: Duration,
    pub connections_max: usize,
    /// Without a trailing slash; `None` for the host's name and the port that is bound.
    pub external_url: Option<String>,
    /// Empty, or with a slash in front and none behind; `None` for the path of the external URL.
    pub route_prefix: Option<String>,
    pub enable_lifecycle: bool,
    pub enable_admin: bool,
    pub enable_otlp_receiver: bool,
    pub enable_search: bool,
    /// 0 for no limit.
    pub search_limit_max: usize,
    pub notification_subscribers_max: usize,
    pub user_assets: Option<PathBuf>,
    pub console_templates: PathBuf,
    pub console_libraries: PathBuf,
    pub page_title: String,
    /// `None` for every origin.
    pub cors_origin: Option<Arc<Regex>>,
    /// The messages that the remote write receiver takes; `None` if there is no receiver.
    pub remote_write: Option<Vec<Message>>,
}

/// What remote read may cost.
#[derive(Clone, Copy, Debug)]
pub struct RemoteRead {
    pub options: crate::remote::read::Options,
    /// The most reads at a time, 0 for no limit.
    pub concurrency_max: usize,
}

#[derive(Clone, Debug)]
pub struct Storage {
    pub path: PathBuf,
    pub options: tsdb::db::Options,
    /// `exemplar-storage` is enabled.
    pub keeps_exemplars: bool,
    /// How often the store looks after itself.
    pub reload_interval: Duration,
}

/// How much of what [`crate::container`] finds is used.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// No more threads than control groups keep busy.
    pub threads_by_quota: bool,
    /// The share of the memory that may be used; `None` for no bound.
    pub memory_ratio: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Query {
    pub lookback_delta: Duration,
    pub timeout: Duration,
    pub concurrency_max: usize,
    pub samples_max: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Scrape {
    pub adjust_timestamps: bool,
    pub timestamp_tolerance: Duration,
    pub reload_interval: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub level: tracing::level_filters::LevelFilter,
    pub json: bool,
}

impl Flags {
    /// Whether the feature was asked for and is one that does something here.
    pub fn is_on(&self, feature: &str) -> bool {
        self.features.contains(feature) && FEATURES.contains(&feature)
    }

    /// Whether a switch is on, whatever reads it.
    pub fn is_set_to_true(&self, name: &str) -> bool {
        self.shown.get(name).is_some_and(|text| text == "true")
    }

    /// Resolves what the user typed.
    ///
    /// # Errors
    /// A value is out of its range or not of its kind; the text names the flag.
    pub fn resolve(values: &Values) -> anyhow::Result<Self> {
        let mut warnings: Vec<String> =
            values.without_effect.iter().map(|name| format!("flag --{name} has no effect yet")).collect();
        let features: BTreeSet<String> = values
            .all("enable-feature")
            .iter()
            .flat_map(|list| list.split(','))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        for name in features.iter().filter(|name| !FEATURES.contains(&name.as_str())) {
            warnings.push(format!("unknown feature {name:?} in --enable-feature has no effect"));
        }
        ensure!(
            !["otlp-deltatocumulative", "otlp-native-delta-ingestion"]
                .iter()
                .all(|name| features.contains(*name)),
            "cannot enable otlp-deltatocumulative and otlp-native-delta-ingestion features at the same time"
        );
        let non_empty = |name| Some(values.text(name)).filter(|text| !text.is_empty());
        let reloads = values.bool("config.auto-reload")? || features.contains("auto-reload-config");
        let reload_interval = values.duration("config.auto-reload-interval")?.max(Duration::from_secs(1));
        Ok(Self {
            auto_reload: reloads.then_some(reload_interval),
            config_file: values.text("config.file").into(),
            alertmanager_config_file: non_empty("alertmanager.config-file").map(PathBuf::from),
            alertmanager: alertmanager(values)?,
            web: web(values)?,
            storage: storage(values, &features, &mut warnings)?,
            remote_read: RemoteRead {
                options: crate::remote::read::Options {
                    samples_max: values.number("storage.remote.read-sample-limit")?,
                    frame_bytes_max: values.number("storage.remote.read-max-bytes-in-frame")?,
                },
                concurrency_max: values.number("storage.remote.read-concurrent-limit")?,
            },
            rules: crate::rules::Options {
                for_outage_tolerance: values.duration("rules.alert.for-outage-tolerance")?,
                for_grace_period: values.duration("rules.alert.for-grace-period")?,
                resend_delay: values.duration("rules.alert.resend-delay")?,
                concurrent_evals: concurrent_evals(values, &features)?,
                keeps_over_limit: values.bool("rules.alert.keep-state-over-limit")?,
            },
            notifier: crate::notifier::manager::Options {
                queue_capacity: values.number("alertmanager.notification-queue-capacity")?,
                batch_size: crate::notifier::sender::BatchSize(
                    values.number("alertmanager.notification-batch-size")?.max(1),
                ),
                drain_on_shutdown: values.bool("alertmanager.drain-notification-queue-on-shutdown")?,
            },
            resources: resources(values)?,
            query: Query {
                lookback_delta: values.duration("query.lookback-delta")?,
                timeout: values.duration("query.timeout")?,
                concurrency_max: values.number("query.max-concurrency")?,
                samples_max: values.number("query.max-samples")?,
            },
            scrape: Scrape {
                adjust_timestamps: values.bool("scrape.adjust-timestamps")?,
                timestamp_tolerance: values.duration("scrape.timestamp-tolerance")?,
                reload_interval: values.duration("scrape.discovery-reload-interval")?,
            },
            features,
            log: log(values)?,
            shown: values.shown(),
            warnings,
        })
    }
}

/// How many rules may run beside others of their group: none without the feature.
fn concurrent_evals(values: &Values, features: &BTreeSet<String>) -> anyhow::Result<usize> {
    let n = values.number("rules.max-concurrent-evals")?;
    Ok(if features.contains("concurrent-rule-eval") { n } else { 0 })
}

fn resources(values: &Values) -> anyhow::Result<Resources> {
    let text = values.text("auto-gomemlimit.ratio");
    let ratio: f64 = text
        .parse()
        .with_context(|| format!("--auto-gomemlimit.ratio: expected a number but got {text:?}"))?;
    ensure!(
        ratio > 0.0 && ratio <= 1.0,
        "--auto-gomemlimit.ratio must be greater than 0 and less than or equal to 1."
    );
    Ok(Resources {
        threads_by_quota: values.bool("auto-gomaxprocs")?,
        memory_ratio: values.bool("auto-gomemlimit")?.then_some(ratio),
    })
}

fn alertmanager(values: &Values) -> anyhow::Result<Alertmanager> {
    let interval = |name| {
        let interval = values.duration(name)?;
        ensure!(!interval.is_zero(), "--{name} must be greater than 0.");
        Ok(interval)
    };
    Ok(Alertmanager {
        path: Some(values.text("alertmanager.storage.path"))
            .filter(|text| !text.is_empty())
            .map(PathBuf::from),
        retention: values.duration("alertmanager.data.retention")?,
        maintenance_interval: interval("alertmanager.data.maintenance-interval")?,
        gc_interval: interval("alertmanager.alerts.gc-interval")?,
        start_delay: values.duration("alertmanager.dispatch.start-delay")?,
        silences_max: values.number("alertmanager.silences.max-silences")?,
        silence_bytes_max: values.number("alertmanager.silences.max-silence-size-bytes")?,
        alerts_per_name_max: values.number("alertmanager.alerts.per-alertname-limit")?,
        groups_max: values.number("alertmanager.dispatch.max-groups")?,
        logs_silences: values.bool("alertmanager.log.silences")?,
    })
}

/// Compat: prometheus `cmd/prometheus`, `rwProtoMsgFlagParser`.
fn remote_write_messages(values: &Values) -> anyhow::Result<Vec<Message>> {
    const NAME: &str = "web.remote-write-receiver.accepted-protobuf-messages";
    let mut messages = Vec::new();
    for name in values.all(NAME).iter().flat_map(|list| list.split(',')) {
        let Some(message) = Message::from_name(name) else {
            let known = Message::ALL.map(Message::name).join(", ");
            bail!("--{NAME}: unknown type for remote write protobuf message {name}, supported: {known}");
        };
        ensure!(!messages.contains(&message), "--{NAME}: duplicated flag value {name}");
        messages.push(message);
    }
    Ok(messages)
}

fn web(values: &Values) -> anyhow::Result<Web> {
    let listen = values.all("web.listen-address").iter().map(|text| {
        listen_address(text).with_context(|| format!("--web.listen-address: cannot listen on {text:?}"))
    });
    let external_url = match values.text("web.external-url") {
        "" => None,
        text => {
            let url = url::Url::parse(text)
                .with_context(|| format!("--web.external-url: cannot parse {text:?}"))?;
            ensure!(
                matches!(url.scheme(), "http" | "https"),
                "--web.external-url: {text:?} is not an http or https URL"
            );
            Some(url.as_str().trim_end_matches('/').to_owned())
        }
    };
    let route_prefix = match values.text("web.route-prefix") {
        "" => None,
        text => match text.trim_matches('/') {
            "" => Some(String::new()),
            path => Some(format!("/{path}")),
        },
    };
    let cors_origin = match values.text("web.cors.origin") {
        ".*" => None,
        text => {
            let regex = Regex::anchored(text.as_bytes());
            Some(Arc::new(regex.with_context(|| format!("--web.cors.origin: cannot compile {text:?}"))?))
        }
    };
    let connections_max = values.number("web.max-connections")?;
    ensure!(connections_max > 0, "--web.max-connections must be greater than 0: nobody would be served");
    Ok(Web {
        listen: listen.collect::<anyhow::Result<_>>()?,
        config_file: Some(values.text("web.config.file")).filter(|text| !text.is_empty()).map(PathBuf::from),
        read_timeout: values.duration("web.read-timeout")?,
        connections_max,
        external_url,
        route_prefix,
        enable_lifecycle: values.bool("web.enable-lifecycle")?,
        enable_admin: values.bool("web.enable-admin-api")?,
        enable_otlp_receiver: values.bool("web.enable-otlp-receiver")?,
        enable_search: values.bool("web.enable-search-api")?,
        search_limit_max: values.number("web.search.max-limit")?,
        notification_subscribers_max: values.number("web.max-notifications-subscribers")?,
        user_assets: Some(values.text("web.user-assets")).filter(|text| !text.is_empty()).map(PathBuf::from),
        console_templates: values.text("web.console.templates").into(),
        console_libraries: values.text("web.console.libraries").into(),
        page_title: values.text("web.page-title").to_owned(),
        cors_origin,
        remote_write: values
            .bool("web.enable-remote-write-receiver")?
            .then_some(remote_write_messages(values)?),
    })
}

/// `host:port`, where the host may be missing (`:9090`) or a name.
fn listen_address(text: &str) -> anyhow::Result<SocketAddr> {
    use std::net::ToSocketAddrs;
    let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    text.to_socket_addrs()?.next().context("the name has no address")
}

fn storage(
    values: &Values,
    features: &BTreeSet<String>,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Storage> {
    const MIB: u64 = 1 << 20;
    let defaults = tsdb::db::Options::default();
    let retention = tsdb::db::Retention {
        time: values.optional_duration("storage.tsdb.retention.time")?,
        size_bytes: Some(values.size("storage.tsdb.retention.size")?),
        percentage: 0.0,
    };
    let upload_list = match values.text("storage.tsdb.delay-compact-file.path") {
        "" => None,
        path => Some(PathBuf::from(path)),
    };
    let compaction_delay_percent =
        if features.contains("delayed-compaction") { compaction_delay(values, warnings)? } else { 0 };
    let wal_segment_bytes = values.size("storage.tsdb.wal-segment-size")?;
    ensure!(
        wal_segment_bytes == 0 || (10 * MIB..=256 * MIB).contains(&wal_segment_bytes),
        "flag 'storage.tsdb.wal-segment-size' must be set between 10MB and 256MB"
    );
    let chunk_segment_bytes = values.size("storage.tsdb.max-block-chunk-segment-size")?;
    ensure!(
        chunk_segment_bytes == 0 || chunk_segment_bytes >= MIB,
        "flag 'storage.tsdb.max-block-chunk-segment-size' must be set over 1MB"
    );
    let or_default = |bytes: u64, default: u64| if bytes == 0 { default } else { bytes };
    let min_block = values.duration("storage.tsdb.min-block-duration")?;
    let max_block = values.optional_duration("storage.tsdb.max-block-duration")?;
    ensure!(
        max_block.is_none_or(|max_block| max_block >= min_block),
        "flag 'storage.tsdb.max-block-duration' must not be less than 'storage.tsdb.min-block-duration'"
    );
    Ok(Storage {
        path: values.text("storage.tsdb.path").into(),
        options: tsdb::db::Options {
            retention: retention.or_default(),
            min_block,
            max_block,
            max_block_chunk_segment_bytes: or_default(
                chunk_segment_bytes,
                defaults.max_block_chunk_segment_bytes,
            ),
            wal_segment_bytes: or_default(wal_segment_bytes, defaults.wal_segment_bytes),
            wal_compression: wal_compression(values)?,
            wal_sync_interval: values.duration("storage.tsdb.wal-sync-interval")?,
            head_series_limit: values.number("storage.tsdb.head-series-limit")? as u64,
            head_snapshot_interval: Some(values.duration("storage.tsdb.head-snapshot-interval")?)
                .filter(|interval| !interval.is_zero()),
            no_lockfile: values.bool("storage.tsdb.no-lockfile")?,
            merge_overlapping: values.bool("storage.tsdb.allow-overlapping-compaction")?,
            upload_list,
            compaction_delay_percent,
            features: tsdb::head::Features {
                floats: if features.contains("xor2-encoding") {
                    FloatEncoding::Xor2
                } else {
                    FloatEncoding::Xor
                },
                stores_start_times: features.contains("st-storage"),
                stores_histogram_starts: features.contains("histograms-st-encoding"),
                zero_at_start: features.contains("created-timestamp-zero-ingestion"),
                logs_metadata: features.contains("metadata-wal-records"),
                snapshots_at_close: features.contains("memory-snapshot-on-shutdown"),
                // How many is in the configuration file.
                max_exemplars: 0,
            },
            // The rest is in the configuration file.
            ..defaults
        },
        keeps_exemplars: features.contains("exemplar-storage"),
        reload_interval: values.duration("storage.tsdb.block-reload-interval")?.max(Duration::from_secs(1)),
    })
}

fn wal_compression(values: &Values) -> anyhow::Result<tsdb::wal::Compression> {
    use tsdb::wal::Compression;
    let kind = match values.text("storage.tsdb.wal-compression-type") {
        "snappy" => Compression::Snappy,
        "zstd" => Compression::Zstd,
        other => bail!("--storage.tsdb.wal-compression-type: must be snappy or zstd, got {other:?}"),
    };
    Ok(if values.bool("storage.tsdb.wal-compression")? { kind } else { Compression::None })
}

/// The upper limit of the delay, in hundredths of a block's span.
fn compaction_delay(values: &Values, warnings: &mut Vec<String>) -> anyhow::Result<u8> {
    const NAME: &str = "storage.tsdb.delayed-compaction.max-percent";
    const DEFAULT: u8 = 10;
    let text = values.text(NAME);
    let percent: i64 =
        text.parse().with_context(|| format!("--{NAME}: expected a number but got {text:?}"))?;
    Ok(u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent)).unwrap_or_else(|| {
        warnings
            .push(format!("the --{NAME} should have a value between 1 and 100; {DEFAULT} is used instead"));
        DEFAULT
    }))
}

fn log(values: &Values) -> anyhow::Result<Log> {
    use tracing::level_filters::LevelFilter;
    let level = match values.text("log.level") {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        other => bail!("--log.level: unrecognized log level {other:?}"),
    };
    let json = match values.text("log.format") {
        "logfmt" => false,
        "json" => true,
        other => bail!("--log.format: unrecognized log format {other:?}"),
    };
    Ok(Log { level, json })
}

#[cfg(test)]
mod tests;
