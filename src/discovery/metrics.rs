//! What discovery counts of itself.
//!
//! Everything with fixed labels is there from the start, at zero; what bears the name of a job comes and goes
//! with the job. A provider that several jobs share counts for each of them (upstream counts for whichever
//! came first).
//!
//! Compat: prometheus `discovery/metrics*.go` and the metrics of the mechanisms, names and labels.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::wire::expose::{Counter, Exposition, Histogram, Kind};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Counts of one manager and its providers.
#[derive(Debug)]
pub struct Metrics {
    /// `scrape` or `notify`.
    pub(super) name: &'static str,
    pub(super) failed_configs: Mutex<f64>,
    pub(super) received_updates: Counter,
    pub(super) updates: Counter,
    /// Stays 0: what consumers have not taken yet is replaced, never waited for.
    updates_delayed: Counter,
    /// Targets and the time of the last update (s), by job.
    pub(super) jobs: Mutex<BTreeMap<String, (usize, Option<f64>)>>,
    /// By mechanism and job.
    refreshes: Mutex<BTreeMap<(&'static str, String), Arc<Refreshes>>>,
    /// By mechanism.
    refresh_durations: Mutex<BTreeMap<&'static str, Histogram>>,
    pub(super) file_read_errors: Counter,
    pub(super) file_scan_duration: Summary,
    pub(super) file_watcher_errors: Counter,
    /// Modification time (s) by file.
    pub(super) file_mtimes: Mutex<BTreeMap<String, f64>>,
    pub(super) http_failures: Counter,
    pub(super) dns_lookups: Counter,
    pub(super) dns_lookup_failures: Counter,
    pub(super) consul_failures: Counter,
    pub(super) consul_services: Summary,
    pub(super) consul_service: Summary,
    #[cfg(feature = "k8s")]
    pub(super) kubernetes: Arc<super::kubernetes::Metrics>,
}

/// How a mechanism that asks again and again does for one job.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    pub(super) failures: Counter,
    pub(super) duration: Summary,
}

const REFRESH_SECONDS: &[f64] = &[0.01, 0.1, 1.0, 10.0];

impl Metrics {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            failed_configs: Mutex::new(0.0),
            received_updates: Counter::new(),
            updates: Counter::new(),
            updates_delayed: Counter::new(),
            jobs: Mutex::default(),
            refreshes: Mutex::default(),
            refresh_durations: Mutex::default(),
            file_read_errors: Counter::new(),
            file_scan_duration: Summary::default(),
            file_watcher_errors: Counter::new(),
            file_mtimes: Mutex::default(),
            http_failures: Counter::new(),
            dns_lookups: Counter::new(),
            dns_lookup_failures: Counter::new(),
            consul_failures: Counter::new(),
            consul_services: Summary::default(),
            consul_service: Summary::default(),
            #[cfg(feature = "k8s")]
            kubernetes: Arc::default(),
        }
    }

    /// The counts of a mechanism for a job, there from now on.
    pub(super) fn refreshes(&self, mechanism: &'static str, job: &str) -> Arc<Refreshes> {
        self.refresh_durations.lock().entry(mechanism).or_insert_with(|| Histogram::new(REFRESH_SECONDS));
        Arc::clone(self.refreshes.lock().entry((mechanism, job.to_owned())).or_default())
    }

    /// Forgets the counts of jobs that are gone or use another mechanism now.
    pub(super) fn retain_refreshes(&self, is_wanted: impl Fn(&'static str, &str) -> bool) {
        self.refreshes.lock().retain(|(mechanism, job), _| is_wanted(mechanism, job));
    }

    pub(super) fn observe_refresh(&self, mechanism: &'static str, took: Duration) {
        if let Some(histogram) = self.refresh_durations.lock().get(mechanism) {
            histogram.observe(took.as_secs_f64());
        }
    }
}

/// Observations of the last minutes by quantile, with count and sum of all.
///
/// What is observed here comes a few times a minute, so the values themselves are kept.
///
/// Compat: `client_golang`, `Summary` with `MaxAge` at its default.
#[derive(Debug, Default)]
pub(super) struct Summary(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    recent: VecDeque<(Instant, f64)>,
    sum: f64,
    count: u64,
}

const SUMMARY_AGE: Duration = Duration::from_mins(10);
const SUMMARY_VALUES_MAX: usize = 1024;
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

impl Summary {
    pub(super) fn observe(&self, v: f64) {
        let mut window = self.0.lock();
        let now = Instant::now();
        while window.recent.len() >= SUMMARY_VALUES_MAX
            || window.recent.front().is_some_and(|(t, _)| now.duration_since(*t) > SUMMARY_AGE)
        {
            window.recent.pop_front();
        }
        window.recent.push_back((now, v));
        window.sum += v;
        window.count += 1;
    }

    /// The lines of all `summaries` taken as one.
    fn expose<'a>(
        summaries: impl Iterator<Item = &'a Self>,
        name: &str,
        labels: &[(&str, &str)],
        out: &mut Exposition,
    ) {
        let (mut values, mut sum, mut count) = (Vec::new(), 0.0, 0);
        let now = Instant::now();
        for summary in summaries {
            let window = summary.0.lock();
            let recent = window.recent.iter().filter(|(t, _)| now.duration_since(*t) <= SUMMARY_AGE);
            values.extend(recent.map(|(_, v)| *v));
            sum += window.sum;
            count += window.count;
        }
        values.sort_by(f64::total_cmp);
        let value = |quantile: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rank among at most a few thousand values"
            )]
            let rank = (quantile * values.len() as f64).ceil() as usize;
            (quantile, values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN))
        };
        out.quantiles(name, labels, (count, sum), QUANTILES.map(value).to_vec());
    }
}

/// Writes the metrics of all `managers` of the server, each family once.
///
/// The managers share families and are told apart by the label `name`; mechanisms are counted over all of them.
pub(super) fn expose(managers: &[&Metrics], out: &mut Exposition) {
    expose_managers(managers, out);
    expose_refreshes(managers, out);
    expose_mechanisms(managers, out);
}

fn expose_managers(managers: &[&Metrics], out: &mut Exposition) {
    let mut family = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&Metrics) -> f64| {
        out.family(name, help, kind);
        for metrics in managers {
            out.sample(name, &[("name", metrics.name)], value(metrics));
        }
    };
    family(
        "prometheus_sd_failed_configs",
        "Current number of service discovery configurations that failed to load.",
        Kind::Gauge,
        &|m| *m.failed_configs.lock(),
    );
    family(
        "prometheus_sd_received_updates_total",
        "Total number of update events received from the SD providers.",
        Kind::Counter,
        &|m| m.received_updates.get() as f64,
    );
    family(
        "prometheus_sd_updates_total",
        "Total number of update events sent to the SD consumers.",
        Kind::Counter,
        &|m| m.updates.get() as f64,
    );
    family(
        "prometheus_sd_updates_delayed_total",
        "Total number of update events that couldn't be sent immediately.",
        Kind::Counter,
        &|m| m.updates_delayed.get() as f64,
    );
    let mut by_job = |name: &str, help: &str, value: &dyn Fn((usize, Option<f64>)) -> Option<f64>| {
        out.family(name, help, Kind::Gauge);
        for metrics in managers {
            for (job, &found) in &*metrics.jobs.lock() {
                if let Some(value) = value(found) {
                    out.sample(name, &[("config", job), ("name", metrics.name)], value);
                }
            }
        }
    };
    by_job("prometheus_sd_discovered_targets", "Current number of discovered targets.", &|(n, _)| {
        Some(n as f64)
    });
    by_job(
        "prometheus_sd_last_update_timestamp_seconds",
        "Timestamp of the last update sent to the SD consumers.",
        &|(_, t)| t,
    );
}

fn expose_refreshes(managers: &[&Metrics], out: &mut Exposition) {
    let mut refreshes: BTreeMap<(&str, String), Vec<Arc<Refreshes>>> = BTreeMap::new();
    for metrics in managers {
        for ((mechanism, job), counts) in &*metrics.refreshes.lock() {
            refreshes.entry((mechanism, job.clone())).or_default().push(Arc::clone(counts));
        }
    }
    let failures = "prometheus_sd_refresh_failures_total";
    out.family(failures, "Number of refresh failures for the given SD mechanism.", Kind::Counter);
    for ((mechanism, job), counts) in &refreshes {
        let n: u64 = counts.iter().map(|counts| counts.failures.get()).sum();
        out.sample(failures, &[("config", job), ("mechanism", mechanism)], n as f64);
    }
    let duration = "prometheus_sd_refresh_duration_seconds";
    out.family(duration, "The duration of a refresh in seconds for the given SD mechanism.", Kind::Summary);
    for ((mechanism, job), counts) in &refreshes {
        let labels = [("config", job.as_str()), ("mechanism", mechanism)];
        Summary::expose(counts.iter().map(|counts| &counts.duration), duration, &labels, out);
    }
    let histogram = "prometheus_sd_refresh_duration_histogram_seconds";
    out.family(histogram, "The duration of a refresh for the given SD mechanism.", Kind::Histogram);
    // Those of the notifier are few and alike; where both have a mechanism, the first stands for it.
    let mut shown = std::collections::BTreeSet::new();
    for metrics in managers {
        for (mechanism, durations) in &*metrics.refresh_durations.lock() {
            if shown.insert(*mechanism) {
                out.histogram(histogram, &[("mechanism", mechanism)], durations);
            }
        }
    }
}

fn expose_mechanisms(managers: &[&Metrics], out: &mut Exposition) {
    let sum = |count: &dyn Fn(&Metrics) -> &Counter| managers.iter().map(|m| count(m).get()).sum::<u64>();
    let mut total = |name: &str, help: &str, count: &dyn Fn(&Metrics) -> &Counter| {
        out.family(name, help, Kind::Counter);
        out.sample(name, &[], sum(count) as f64);
    };
    total("prometheus_sd_file_read_errors_total", "The number of File-SD read errors.", &|m| {
        &m.file_read_errors
    });
    total(
        "prometheus_sd_file_watcher_errors_total",
        "The number of File-SD errors caused by filesystem watch failures.",
        &|m| &m.file_watcher_errors,
    );
    total("prometheus_sd_http_failures_total", "Number of HTTP service discovery refresh failures.", &|m| {
        &m.http_failures
    });
    total("prometheus_sd_dns_lookups_total", "The number of DNS-SD lookups.", &|m| &m.dns_lookups);
    total("prometheus_sd_dns_lookup_failures_total", "The number of DNS-SD lookup failures.", &|m| {
        &m.dns_lookup_failures
    });
    total("prometheus_sd_consul_rpc_failures_total", "The number of Consul RPC call failures.", &|m| {
        &m.consul_failures
    });
    let rpc = "prometheus_sd_consul_rpc_duration_seconds";
    out.family(rpc, "The duration of a Consul RPC call in seconds.", Kind::Summary);
    let mut call = |call: &str, of: &dyn Fn(&Metrics) -> &Summary| {
        let labels = [("call", call), ("endpoint", "catalog")];
        Summary::expose(managers.iter().map(|m| of(m)), rpc, &labels, out);
    };
    call("service", &|m| &m.consul_service);
    call("services", &|m| &m.consul_services);
    let scan = "prometheus_sd_file_scan_duration_seconds";
    out.family(scan, "The duration of the File-SD scan in seconds.", Kind::Summary);
    Summary::expose(managers.iter().map(|m| &m.file_scan_duration), scan, &[], out);
    let mtime = "prometheus_sd_file_mtime_seconds";
    out.family(
        mtime,
        "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.",
        Kind::Gauge,
    );
    let mut mtimes = BTreeMap::new();
    for metrics in managers {
        mtimes.extend(metrics.file_mtimes.lock().iter().map(|(path, &t)| (path.clone(), t)));
    }
    for (path, t) in &mtimes {
        out.sample(mtime, &[("filename", path)], *t);
    }
    #[cfg(feature = "k8s")]
    super::kubernetes::expose(&managers.iter().map(|metrics| &*metrics.kubernetes).collect::<Vec<_>>(), out);
}
