//! What the engine counts of queries.
//!
//! Compat: prometheus `promql/engine.go`, `engineMetrics`. Quantiles are exact over the latest observations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::wire::expose::{Counter, Expose, Exposition, Gauge, Histogram, Kind};
use parking_lot::Mutex;

use super::{Engine, Stats};

#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Queries that run or wait for their turn.
    current: AtomicU64,
    queue: Slice,
    prepare: Slice,
    eval: Slice,
    sort: Slice,
    samples: Counter,
    samples_read: Counter,
}

/// The time that one part of queries took.
#[derive(Debug)]
struct Slice {
    seconds: Gauge,
    count: Counter,
    buckets: Histogram,
    latest: Mutex<Latest>,
}

/// The latest observations.
#[derive(Debug, Default)]
struct Latest {
    seconds: Vec<f64>,
    /// Where the next one goes once all places are taken.
    next: usize,
}

/// How many observations a quantile is taken over.
const LATEST_MAX: usize = 256;

impl Default for Slice {
    fn default() -> Self {
        Self {
            seconds: Gauge::new(),
            count: Counter::new(),
            buckets: Histogram::new(&[0.01, 0.1, 1.0, 10.0]),
            latest: Mutex::default(),
        }
    }
}

impl Slice {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count.inc();
        self.seconds.add(seconds);
        self.buckets.observe(seconds);
        let mut latest = self.latest.lock();
        if latest.seconds.len() < LATEST_MAX {
            latest.seconds.push(seconds);
        } else {
            let next = latest.next;
            latest.seconds[next] = seconds;
            latest.next = (next + 1) % LATEST_MAX;
        }
    }

    fn expose_summary(&self, name: &str, slice: &str, out: &mut Exposition) {
        let mut sorted = self.latest.lock().seconds.clone();
        sorted.sort_by(f64::total_cmp);
        for (quantile, percent) in [("0.5", 50), ("0.9", 90), ("0.99", 99)] {
            let v = match sorted.len() {
                0 => f64::NAN,
                n => sorted[(n * percent).div_ceil(100) - 1],
            };
            out.sample(name, &[("slice", slice), ("quantile", quantile)], v);
        }
        out.sample(&format!("{name}_sum"), &[("slice", slice)], self.seconds.get());
        out.sample(&format!("{name}_count"), &[("slice", slice)], self.count.get() as f64);
    }
}

/// Counts one query for as long as it lives.
pub(super) struct Current<'a>(&'a Metrics);

impl Drop for Current<'_> {
    fn drop(&mut self) {
        self.0.current.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(super) fn begin(&self) -> Current<'_> {
        self.current.fetch_add(1, Ordering::Relaxed);
        Current(self)
    }

    pub(super) fn queued(&self, took: Duration) {
        self.queue.observe(took);
    }

    pub(super) fn ended(&self, stats: &Stats, is_range: bool) {
        self.prepare.observe(stats.prepare_time);
        self.eval.observe(stats.eval_time);
        if is_range {
            self.sort.observe(stats.sort_time);
        }
        self.samples.add(stats.total_queryable_samples as u64);
        self.samples_read.add(stats.samples_read as u64);
    }
}

impl Expose for Engine {
    fn expose(&self, out: &mut Exposition) {
        const DURATION: &str = "prometheus_engine_query_duration_seconds";
        const BUCKETS: &str = "prometheus_engine_query_duration_histogram_seconds";
        let metrics = &self.metrics;
        out.gauge(
            "prometheus_engine_queries",
            "The current number of queries being executed or waiting.",
            metrics.current.load(Ordering::Relaxed) as f64,
        );
        out.gauge(
            "prometheus_engine_queries_concurrent_max",
            "The max number of concurrent queries.",
            self.options.max_concurrency as f64,
        );
        let slices = [
            ("inner_eval", &metrics.eval),
            ("prepare_time", &metrics.prepare),
            ("queue_time", &metrics.queue),
            ("result_sort", &metrics.sort),
        ];
        out.family(BUCKETS, "The duration of various parts of PromQL query execution.", Kind::Histogram);
        for (slice, times) in slices {
            out.histogram(BUCKETS, &[("slice", slice)], &times.buckets);
        }
        out.family(DURATION, "Query timings", Kind::Summary);
        for (slice, times) in slices {
            times.expose_summary(DURATION, slice, out);
        }
        out.counter(
            "prometheus_engine_query_samples_total",
            "The total number of samples loaded by all queries (full window per step for range-vector).",
            &metrics.samples,
        );
        out.counter(
            "prometheus_engine_query_samples_read_total",
            "The total number of samples read by all queries (only new points per step for range-vector).",
            &metrics.samples_read,
        );
    }
}
