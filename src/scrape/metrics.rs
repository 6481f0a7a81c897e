//! What scraping counts of itself.
//!
//! Compat: prometheus `scrape/metrics.go`, names and labels.

use std::collections::BTreeMap;
use std::time::Duration;

use model::wire::expose::{Counter, Exposition, Histogram, Kind};
use parking_lot::Mutex;

use super::dials::Dialers;

/// Counts of the scrape manager.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) pools: Counter,
    pub(super) pools_failed: Counter,
    pub(super) pool_reloads: Counter,
    pub(super) pool_reloads_failed: Counter,
    pub(super) exceeded_target_limit: Counter,
    pub(super) exceeded_label_limits: Counter,
    pub(super) exceeded_body_size_limit: Counter,
    pub(super) exceeded_sample_limit: Counter,
    pub(super) exceeded_bucket_limit: Counter,
    pub(super) duplicate: Counter,
    pub(super) out_of_order: Counter,
    pub(super) out_of_bounds: Counter,
    pub(super) exemplar_out_of_order: Counter,
    /// By interval.
    pub(super) reload_length: Mutex<BTreeMap<Duration, Lengths>>,
    pub(super) interval_length: Mutex<BTreeMap<Duration, Lengths>>,
    /// Whole scrapes, where more is told about them than usual.
    pub(super) duration: Histogram,
    pub(super) dialers: Dialers,
    /// By job.
    pub(super) jobs: Mutex<BTreeMap<String, JobMetrics>>,
}

#[derive(Debug, Default)]
pub(super) struct JobMetrics {
    pub(super) syncs: u64,
    pub(super) sync_failed: u64,
    pub(super) sync_length: Lengths,
    pub(super) n_targets: usize,
    pub(super) target_limit: u64,
    pub(super) n_families: usize,
    pub(super) metadata_bytes: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            pools: Counter::new(),
            pools_failed: Counter::new(),
            pool_reloads: Counter::new(),
            pool_reloads_failed: Counter::new(),
            exceeded_target_limit: Counter::new(),
            exceeded_label_limits: Counter::new(),
            exceeded_body_size_limit: Counter::new(),
            exceeded_sample_limit: Counter::new(),
            exceeded_bucket_limit: Counter::new(),
            duplicate: Counter::new(),
            out_of_order: Counter::new(),
            out_of_bounds: Counter::new(),
            exemplar_out_of_order: Counter::new(),
            reload_length: Mutex::default(),
            interval_length: Mutex::default(),
            // Upstream's is native: in text it has no bounds.
            duration: Histogram::new(&[]),
            dialers: Dialers::default(),
            jobs: Mutex::default(),
        }
    }
}

impl Metrics {
    pub(super) fn expose(&self, out: &mut Exposition) {
        let fixed: [(&str, &str, &Counter); 13] = [
            (
                "prometheus_target_scrape_pools_total",
                "Total number of scrape pool creation attempts.",
                &self.pools,
            ),
            (
                "prometheus_target_scrape_pools_failed_total",
                "Total number of scrape pool creations that failed.",
                &self.pools_failed,
            ),
            (
                "prometheus_target_scrape_pool_reloads_total",
                "Total number of scrape pool reloads.",
                &self.pool_reloads,
            ),
            (
                "prometheus_target_scrape_pool_reloads_failed_total",
                "Total number of failed scrape pool reloads.",
                &self.pool_reloads_failed,
            ),
            (
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "Total number of times scrape pools hit the target limit, during sync or config reload.",
                &self.exceeded_target_limit,
            ),
            (
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "Total number of times scrape pools hit the label limits, during sync or config reload.",
                &self.exceeded_label_limits,
            ),
            (
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Total number of scrapes that hit the body size limit",
                &self.exceeded_body_size_limit,
            ),
            (
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Total number of scrapes that hit the sample limit and were rejected.",
                &self.exceeded_sample_limit,
            ),
            (
                "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
                "Total number of scrapes that hit the native histogram bucket limit and were rejected.",
                &self.exceeded_bucket_limit,
            ),
            (
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Total number of samples rejected due to duplicate timestamps but different values.",
                &self.duplicate,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Total number of samples rejected due to not being out of the expected order.",
                &self.out_of_order,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Total number of samples rejected due to timestamp falling outside of the time bounds.",
                &self.out_of_bounds,
            ),
            (
                "prometheus_target_scrapes_exemplar_out_of_order_total",
                "Total number of exemplar rejected due to not being out of the expected order.",
                &self.exemplar_out_of_order,
            ),
        ];
        for (name, help, counter) in fixed {
            out.counter(name, help, counter);
        }
        self.dialers.expose(out);
        // A cache here does not grow while scrapes fail, so nothing has to be flushed.
        out.counter(
            "prometheus_target_scrapes_cache_flush_forced_total",
            "How many times a scrape cache was flushed due to getting big while scrapes are failing.",
            &Counter::new(),
        );
        let by_interval =
            |name: &str, help: &str, all: &BTreeMap<Duration, Lengths>, out: &mut Exposition| {
                out.family(name, help, Kind::Summary);
                for (interval, summary) in all {
                    let interval = model::duration::format(*interval);
                    summary.expose(name, ("interval", &interval), out);
                }
            };
        by_interval(
            "prometheus_target_interval_length_seconds",
            "Actual intervals between scrapes.",
            &self.interval_length.lock(),
            out,
        );
        by_interval(
            "prometheus_target_reload_length_seconds",
            "Actual interval to reload the scrape pool with a given configuration.",
            &self.reload_length.lock(),
            out,
        );
        let name = "prometheus_target_interval_length_histogram_seconds";
        out.family(name, "Actual intervals between scrapes.", Kind::Histogram);
        for (interval, lengths) in &*self.interval_length.lock() {
            let interval = model::duration::format(*interval);
            out.histogram(name, &[("interval", &interval)], &lengths.buckets);
        }
        let name = "prometheus_target_scrape_duration_seconds";
        let help = "Total duration of the scrape from start to commit completion in seconds.";
        out.family(name, help, Kind::Histogram);
        out.histogram(name, &[], &self.duration);

        let jobs = self.jobs.lock();
        let help = "Actual interval to sync the scrape pool.";
        let name = "prometheus_target_sync_length_seconds";
        out.family(name, help, Kind::Summary);
        for (job, metrics) in &*jobs {
            metrics.sync_length.expose(name, ("scrape_job", job), out);
        }
        let name = "prometheus_target_sync_length_histogram_seconds";
        out.family(name, help, Kind::Histogram);
        for (job, metrics) in &*jobs {
            out.histogram(name, &[("scrape_job", job)], &metrics.sync_length.buckets);
        }
        let mut by_job = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&JobMetrics) -> f64| {
            out.family(name, help, kind);
            for (job, metrics) in &*jobs {
                out.sample(name, &[("scrape_job", job)], value(metrics));
            }
        };
        by_job(
            "prometheus_target_scrape_pool_sync_total",
            "Total number of syncs that were executed on a scrape pool.",
            Kind::Counter,
            &|m| m.syncs as f64,
        );
        by_job(
            "prometheus_target_sync_failed_total",
            "Total number of target sync failures.",
            Kind::Counter,
            &|m| m.sync_failed as f64,
        );
        by_job(
            "prometheus_target_scrape_pool_targets",
            "Current number of targets in this scrape pool.",
            Kind::Gauge,
            &|m| m.n_targets as f64,
        );
        by_job(
            "prometheus_target_scrape_pool_target_limit",
            "Maximum number of targets allowed in this scrape pool.",
            Kind::Gauge,
            &|m| m.target_limit as f64,
        );
        // There is no such table, neither here nor in a release of upstream, which says 0, too.
        by_job(
            "prometheus_target_scrape_pool_symboltable_items",
            "Current number of symbols in table for this scrape pool.",
            Kind::Gauge,
            &|_| 0.0,
        );
        by_job(
            "prometheus_target_metadata_cache_entries",
            "Total number of metric metadata entries in the cache",
            Kind::Gauge,
            &|m| m.n_families as f64,
        );
        by_job(
            "prometheus_target_metadata_cache_bytes",
            "The number of bytes that are currently used for storing metric metadata in the cache",
            Kind::Gauge,
            &|m| m.metadata_bytes as f64,
        );
    }
}

/// Observations of which the latest are kept, for their quantiles, and all are counted in buckets.
#[derive(Debug)]
pub(super) struct Lengths {
    latest: Vec<f64>,
    /// Where the next observation goes once all places are taken.
    next: usize,
    count: u64,
    sum: f64,
    buckets: Histogram,
}

/// How many observations a quantile is taken over.
const LATEST_MAX: usize = 256;

impl Default for Lengths {
    fn default() -> Self {
        Self {
            latest: Vec::new(),
            next: 0,
            count: 0,
            sum: 0.0,
            buckets: Histogram::new(&[0.01, 0.1, 1.0, 10.0]),
        }
    }
}

impl Lengths {
    pub(super) fn observe(&mut self, v: f64) {
        self.count += 1;
        self.sum += v;
        self.buckets.observe(v);
        if self.latest.len() < LATEST_MAX {
            self.latest.push(v);
        } else {
            self.latest[self.next] = v;
            self.next = (self.next + 1) % LATEST_MAX;
        }
    }

    fn expose(&self, name: &str, label: (&str, &str), out: &mut Exposition) {
        let mut sorted = self.latest.clone();
        sorted.sort_by(f64::total_cmp);
        let quantile = |(quantile, percent): (f64, usize)| match sorted.len() {
            0 => (quantile, f64::NAN),
            n => (quantile, sorted[(n * percent).div_ceil(100) - 1]),
        };
        let quantiles = [(0.01, 1), (0.05, 5), (0.5, 50), (0.9, 90), (0.99, 99)].map(quantile);
        out.quantiles(name, &[label], (self.count, self.sum), quantiles.to_vec());
    }
}
