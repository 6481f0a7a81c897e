//! What discovery counts of itself.
//!
//! Compat: prometheus `discovery/metrics.go` and the metrics of the mechanisms, names and labels.

use std::collections::BTreeMap;

use model::wire::expose::{Counter, Exposition, Histogram, Kind};
use parking_lot::Mutex;

/// Counts of one manager and its providers.
#[derive(Debug)]
pub struct Metrics {
    /// `scrape` or `notify`.
    pub(super) name: &'static str,
    pub(super) failed_configs: Mutex<f64>,
    pub(super) received_updates: Counter,
    pub(super) updates: Counter,
    pub(super) updates_delayed: Counter,
    /// Targets and the time of the last update (s), by job.
    pub(super) jobs: Mutex<BTreeMap<String, (usize, f64)>>,
    pub(super) refresh_failures: Counter,
    pub(super) refresh_duration: Histogram,
    pub(super) file_read_errors: Counter,
    pub(super) file_scan_duration: Histogram,
    pub(super) file_watcher_errors: Counter,
    /// Modification time (s) by file.
    pub(super) file_mtimes: Mutex<BTreeMap<String, f64>>,
    pub(super) dns_lookups: Counter,
    pub(super) dns_lookup_failures: Counter,
}

const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Metrics {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            failed_configs: Mutex::new(0.0),
            received_updates: Counter::new(),
            updates: Counter::new(),
            updates_delayed: Counter::new(),
            jobs: Mutex::default(),
            refresh_failures: Counter::new(),
            refresh_duration: Histogram::new(SECONDS),
            file_read_errors: Counter::new(),
            file_scan_duration: Histogram::new(SECONDS),
            file_watcher_errors: Counter::new(),
            file_mtimes: Mutex::default(),
            dns_lookups: Counter::new(),
            dns_lookup_failures: Counter::new(),
        }
    }
}

/// Writes the metrics of all `managers` of the server, each family once.
///
/// The managers share families and are told apart by the label `name`; mechanisms are counted over all of them.
pub(super) fn expose(managers: &[&Metrics], out: &mut Exposition) {
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
    let mut by_job = |name: &str, help: &str, value: &dyn Fn((usize, f64)) -> f64| {
        out.family(name, help, Kind::Gauge);
        for metrics in managers {
            for (job, &found) in &*metrics.jobs.lock() {
                out.sample(name, &[("config", job), ("name", metrics.name)], value(found));
            }
        }
    };
    by_job("prometheus_sd_discovered_targets", "Current number of discovered targets.", &|(n, _)| n as f64);
    by_job(
        "prometheus_sd_last_update_timestamp_seconds",
        "Timestamp of the last update sent to the SD consumers.",
        &|(_, t)| t,
    );

    let sum = |count: &dyn Fn(&Metrics) -> u64| managers.iter().map(|m| count(m)).sum::<u64>() as f64;
    let mut total = |name: &str, help: &str, count: &dyn Fn(&Metrics) -> u64| {
        out.family(name, help, Kind::Counter);
        out.sample(name, &[], sum(count));
    };
    total("prometheus_sd_file_read_errors_total", "The number of File-SD read errors.", &|m| {
        m.file_read_errors.get()
    });
    total(
        "prometheus_sd_file_watcher_errors_total",
        "The number of File-SD errors caused by filesystem watch failures.",
        &|m| m.file_watcher_errors.get(),
    );
    total("prometheus_sd_dns_lookups_total", "The number of DNS-SD lookups.", &|m| m.dns_lookups.get());
    total("prometheus_sd_dns_lookup_failures_total", "The number of DNS-SD lookup failures.", &|m| {
        m.dns_lookup_failures.get()
    });
    let failures = "prometheus_sd_refresh_failures_total";
    out.family(failures, "Number of refresh failures for the given SD mechanism.", Kind::Counter);
    out.sample(failures, &[("mechanism", "dns")], sum(&|m| m.refresh_failures.get()));
    if let Some(metrics) = managers.first() {
        // Only the scrape manager's providers are timed; those of the notifier are few and alike.
        let duration = "prometheus_sd_refresh_duration_histogram_seconds";
        out.family(duration, "The duration of a refresh for the given SD mechanism.", Kind::Histogram);
        out.histogram(duration, &[("mechanism", "dns")], &metrics.refresh_duration);
        let scan = "prometheus_sd_file_scan_duration_seconds";
        out.family(scan, "The duration of the File-SD scan in seconds.", Kind::Histogram);
        out.histogram(scan, &[], &metrics.file_scan_duration);
    }
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
}
