//! What the engine counts of queries.
//!
//! Compat: prometheus `promql/engine.go`, `engineMetrics`. Sorting is part of evaluating here, so its slice
//! never grows; quantiles are left out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::wire::expose::{Counter, Expose, Exposition, Gauge, Kind};

use super::{Engine, Stats};

#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Queries that run or wait for their turn.
    current: AtomicU64,
    queue: Slice,
    prepare: Slice,
    eval: Slice,
    samples: Counter,
    samples_read: Counter,
}

/// The time that one part of queries took.
#[derive(Debug, Default)]
struct Slice {
    count: Counter,
    seconds: Gauge,
}

impl Slice {
    fn observe(&self, took: Duration) {
        self.count.inc();
        self.seconds.add(took.as_secs_f64());
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

    pub(super) fn ended(&self, stats: &Stats) {
        self.prepare.observe(stats.prepare_time);
        self.eval.observe(stats.eval_time);
        self.samples.add(stats.total_queryable_samples as u64);
        self.samples_read.add(stats.samples_read as u64);
    }
}

impl Expose for Engine {
    fn expose(&self, out: &mut Exposition) {
        const DURATION: &str = "prometheus_engine_query_duration_seconds";
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
        out.family(DURATION, "Query timings", Kind::Summary);
        let sorting = Slice::default();
        let slices = [
            ("inner_eval", &metrics.eval),
            ("prepare_time", &metrics.prepare),
            ("queue_time", &metrics.queue),
            ("result_sort", &sorting),
        ];
        for (slice, times) in slices {
            out.sample(&format!("{DURATION}_sum"), &[("slice", slice)], times.seconds.get());
            out.sample(&format!("{DURATION}_count"), &[("slice", slice)], times.count.get() as f64);
        }
        out.gauge("prometheus_engine_query_log_enabled", "State of the query log.", 0.0);
        out.counter(
            "prometheus_engine_query_samples_total",
            "The total number of samples loaded by all queries.",
            &metrics.samples,
        );
        out.counter(
            "prometheus_engine_query_samples_read_total",
            "The total number of samples read from the storage by all queries.",
            &metrics.samples_read,
        );
    }
}
