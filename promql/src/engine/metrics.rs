//! What the engine counts of queries.
//!
//! Compat: prometheus `promql/engine.go`, `engineMetrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::wire::expose::{Counter, Expose, Exposition, Histogram, Kind, Summary};

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
    quantiles: Summary,
    buckets: Histogram,
}

impl Default for Slice {
    fn default() -> Self {
        Self { quantiles: Summary::new(&[0.5, 0.9, 0.99]), buckets: Histogram::new(&[0.01, 0.1, 1.0, 10.0]) }
    }
}

impl Slice {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.quantiles.observe(seconds);
        self.buckets.observe(seconds);
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
            out.summary(DURATION, &[("slice", slice)], &times.quantiles);
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
