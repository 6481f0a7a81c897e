//! The head's counts: as metrics under upstream's names, and as the tables of the status page.
//!
//! Compat: prometheus `tsdb`, `headMetrics`; `tsdb/index`, `MemPostings.Stats`.

use std::time::Duration;

use model::labels::METRIC_NAME;
use model::wire::expose::{Counter, Expose, Exposition, Gauge, Kind};
use model::{Timestamp, Value};

use super::Head;

/// Something of floats and of histograms, as upstream's label `type` tells them apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Typed<T> {
    pub(super) float: T,
    pub(super) histogram: T,
}

impl<T> Typed<T> {
    /// The one of the kind of `value`.
    #[inline]
    pub(super) fn of(&self, value: Value<'_>) -> &T {
        match value {
            Value::Float(_) => &self.float,
            Value::Histogram(_) | Value::FloatHistogram(_) => &self.histogram,
        }
    }

    /// As [`Typed::of`].
    #[inline]
    pub(super) fn of_mut(&mut self, value: Value<'_>) -> &mut T {
        match value {
            Value::Float(_) => &mut self.float,
            Value::Histogram(_) | Value::FloatHistogram(_) => &mut self.histogram,
        }
    }
}

impl Typed<Counter> {
    pub(super) fn add(&self, n: Typed<u64>) {
        self.float.add(n.float);
        self.histogram.add(n.histogram);
    }
}

/// What the log may say of a series, as the label `type` calls it.
const REPLAYED: [&str; 5] = ["samples", "histograms", "exemplars", "metadata", "tombstones"];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) samples_appended: Typed<Counter>,
    pub(super) series_created: Counter,
    pub(super) series_removed: Counter,
    /// New series beyond the limit.
    pub(super) series_refused: Counter,
    pub(super) out_of_order: Typed<Counter>,
    pub(super) out_of_bounds: Typed<Counter>,
    pub(super) too_old: Typed<Counter>,
    pub(super) truncations: Counter,
    pub(super) truncations_failed: Counter,
    pub(super) chunk_corruptions: Counter,
    /// As [`REPLAYED`].
    pub(super) replay_unknown: [Counter; 5],
    pub(super) snapshot_failures: Counter,
    pub(super) replay_skipped_records: Counter,
    pub(super) replay_seconds: Gauge,
    /// Taken from our own snapshot at the start.
    pub(super) snapshot_series: Gauge,
    /// From before the writer existed.
    pub(super) log_corruptions: Counter,
    gc_runs: Counter,
    gc_seconds: Gauge,
    checkpoints: Counter,
    checkpoints_failed: Counter,
    pub(super) checkpoint_deletions: Counter,
    pub(super) checkpoint_deletions_failed: Counter,
    checkpoint_seconds: Gauge,
}

impl Metrics {
    pub(super) fn observe_gc(&self, took: Duration) {
        self.gc_runs.inc();
        self.gc_seconds.add(took.as_secs_f64());
    }

    pub(super) fn observe_checkpoint(&self, took: Duration, has_failed: bool) {
        self.checkpoints.inc();
        self.checkpoints_failed.add(u64::from(has_failed));
        self.checkpoint_seconds.add(took.as_secs_f64());
    }
}

/// One line of a table of the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopEntry {
    pub name: String,
    pub value: u64,
}

/// What `/api/v1/status/tsdb` shows.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub n_series: u64,
    pub n_label_pairs: u64,
    pub n_chunks: u64,
    pub min_time: Timestamp,
    pub max_time: Timestamp,
    pub series_by_metric: Vec<TopEntry>,
    pub values_by_label: Vec<TopEntry>,
    pub memory_by_label: Vec<TopEntry>,
    pub series_by_pair: Vec<TopEntry>,
}

impl Head {
    /// How often something on disk was found damaged and cut off.
    pub fn corruption_count(&self) -> u64 {
        self.0.metrics.chunk_corruptions.get() + self.0.metrics.log_corruptions.get()
    }

    /// Counts for the status page, each table with its `limit` greatest entries.
    pub fn stats(&self, limit: usize) -> Stats {
        let registry = self.0.registry.read();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut metrics = Vec::new();
        let mut pairs = Vec::new();
        let mut labels: foldhash::HashMap<&[u8], (u64, u64)> = foldhash::HashMap::default();
        registry.each_pair(|name, value, n| {
            let n = u64::from(n);
            if name == METRIC_NAME {
                metrics.push((value, n));
            }
            pairs.push((name, value, n));
            let (values, bytes) = labels.entry(name).or_default();
            *values += 1;
            // Upstream counts the text of the value once per series.
            *bytes += n * value.len() as u64;
        });
        let n_label_pairs = pairs.len() as u64;
        pairs.sort_unstable_by(|a, b| b.2.cmp(&a.2).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
        pairs.truncate(limit);
        let top = |entries: Vec<(&[u8], u64)>| {
            let mut entries = entries;
            entries.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
            entries.truncate(limit);
            entries.into_iter().map(|(name, value)| TopEntry { name: text(name), value }).collect::<Vec<_>>()
        };
        let series_by_pair = pairs
            .iter()
            .map(|(n, v, value)| TopEntry { name: format!("{}={}", text(n), text(v)), value: *value });
        let mut stats = Stats {
            n_series: registry.n_series(),
            n_label_pairs,
            n_chunks: 0,
            min_time: self.min_time(),
            max_time: self.max_time(),
            series_by_metric: top(metrics),
            values_by_label: top(labels.iter().map(|(name, (values, _))| (*name, *values)).collect()),
            memory_by_label: top(labels.iter().map(|(name, (_, bytes))| (*name, *bytes)).collect()),
            series_by_pair: series_by_pair.collect(),
        };
        drop(registry);
        stats.n_chunks = self.n_chunks();
        stats
    }

    /// Series whose newest sample is a staleness marker.
    pub fn n_stale_series(&self) -> u64 {
        self.0.shards.iter().map(|shard| shard.state.read().n_stale()).sum()
    }

    fn n_chunks(&self) -> u64 {
        self.0.shards.iter().map(|shard| shard.state.read().n_chunks()).sum()
    }

    fn expose_chunks(&self, out: &mut Exposition) {
        let (mut n_chunks, mut n_removed, mut n_histograms, mut n_buckets) = (0, 0, 0, 0);
        for shard in &self.0.shards {
            let state = shard.state.read();
            n_chunks += state.n_chunks();
            n_removed += state.n_removed;
            n_histograms += state.n_histograms();
            n_buckets += state.n_histogram_buckets;
        }
        out.gauge(
            "prometheus_tsdb_head_chunks",
            "Total number of chunks in the head block.",
            n_chunks as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_native_histogram_series",
            "Number of series whose most recent in-order sample is a native histogram.",
            n_histograms as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_native_histogram_buckets",
            "Number of positive and negative bucket entries in the most recent in-order native histogram sample of each series, including entries carried by staleness markers.",
            n_buckets as f64,
        );
        let counts = [
            (
                "prometheus_tsdb_head_chunks_created_total",
                "Total number of chunks created in the head",
                // Each is either there or gone.
                n_chunks + n_removed,
            ),
            (
                "prometheus_tsdb_head_chunks_removed_total",
                "Total number of chunks removed in the head",
                n_removed,
            ),
            (
                "prometheus_tsdb_mmap_chunks_total",
                "Total number of chunks that were memory-mapped.",
                self.0.chunks.n_written(),
            ),
            // A reader holds the series that it looks for.
            (
                "prometheus_tsdb_head_series_not_found_total",
                "Total number of requests for series that were not found.",
                0,
            ),
        ];
        for (name, help, n) in counts {
            out.family(name, help, Kind::Counter);
            out.sample(name, &[], n as f64);
        }
    }
}

impl Expose for Head {
    fn expose(&self, out: &mut Exposition) {
        let m = &self.0.metrics;
        out.gauge(
            "prometheus_tsdb_head_series",
            "Total number of series in the head block.",
            self.n_series() as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_stale_series",
            "Total number of stale series in the head block.",
            self.n_stale_series() as f64,
        );
        let (low, high) = self.0.appenders.watermarks();
        out.gauge(
            "prometheus_tsdb_isolation_low_watermark",
            "The lowest TSDB append ID that is still referenced.",
            low as f64,
        );
        out.gauge(
            "prometheus_tsdb_isolation_high_watermark",
            "The highest TSDB append ID that has been given out.",
            high as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_min_time",
            "Minimum time bound of the head block. The unit is decided by the library consumer.",
            self.min_time() as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_max_time",
            "Maximum timestamp of the head block. The unit is decided by the library consumer.",
            self.max_time() as f64,
        );
        // Whole seconds, as upstream has them.
        out.gauge(
            "prometheus_tsdb_head_min_time_seconds",
            "Minimum time bound of the head block.",
            (self.min_time() / 1000) as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_max_time_seconds",
            "Maximum timestamp of the head block.",
            (self.max_time() / 1000) as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_active_appenders",
            "Number of currently active appender transactions",
            self.0.appenders.n_open() as f64,
        );
        out.gauge(
            "prometheus_tsdb_head_chunks_storage_size_bytes",
            "Size of the chunks_head directory.",
            self.0.chunks.size_bytes() as f64,
        );
        out.gauge(
            "prometheus_tsdb_data_replay_duration_seconds",
            "Time taken to replay the data on disk.",
            m.replay_seconds.get(),
        );
        out.gauge(
            "ferula_tsdb_head_snapshot_series",
            "Number of series that the last start took from the snapshot of the head instead of the log.",
            m.snapshot_series.get(),
        );
        let typed = [
            (
                "prometheus_tsdb_head_samples_appended_total",
                "Total number of appended samples.",
                &m.samples_appended,
            ),
            (
                "prometheus_tsdb_out_of_order_samples_total",
                "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
                &m.out_of_order,
            ),
            (
                "prometheus_tsdb_out_of_bound_samples_total",
                "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
                &m.out_of_bounds,
            ),
            (
                "prometheus_tsdb_too_old_samples_total",
                "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
                &m.too_old,
            ),
        ];
        for (name, help, Typed { float, histogram }) in typed {
            out.family(name, help, Kind::Counter);
            out.sample(name, &[("type", "float")], float.get() as f64);
            out.sample(name, &[("type", "histogram")], histogram.get() as f64);
        }
        let name = "prometheus_tsdb_wal_replay_unknown_refs_total";
        let help = "Total number of unknown series references encountered during WAL replay.";
        out.family(name, help, Kind::Counter);
        for (kind, counter) in REPLAYED.iter().zip(&m.replay_unknown) {
            out.sample(name, &[("type", kind)], counter.get() as f64);
        }
        self.0.late.expose(out);
        self.expose_chunks(out);
        let counters = [
            (
                "prometheus_tsdb_head_series_created_total",
                "Total number of series created in the head",
                &m.series_created,
            ),
            (
                "prometheus_tsdb_head_series_removed_total",
                "Total number of series removed in the head",
                &m.series_removed,
            ),
            (
                "ferula_tsdb_head_series_refused_total",
                "Total number of times a new series was refused because the head holds as many as its limit allows.",
                &m.series_refused,
            ),
            (
                "prometheus_tsdb_head_truncations_total",
                "Total number of head truncations attempted.",
                &m.truncations,
            ),
            (
                "prometheus_tsdb_head_truncations_failed_total",
                "Total number of head truncations that failed.",
                &m.truncations_failed,
            ),
            (
                "prometheus_tsdb_mmap_chunk_corruptions_total",
                "Total number of memory-mapped chunk corruptions.",
                &m.chunk_corruptions,
            ),
            (
                "prometheus_tsdb_checkpoint_creations_total",
                "Total number of checkpoint creations attempted.",
                &m.checkpoints,
            ),
            (
                "prometheus_tsdb_checkpoint_creations_failed_total",
                "Total number of checkpoint creations that failed.",
                &m.checkpoints_failed,
            ),
            (
                "prometheus_tsdb_snapshot_replay_error_total",
                "Total number snapshot replays that failed.",
                &m.snapshot_failures,
            ),
            (
                "prometheus_tsdb_checkpoint_deletions_total",
                "Total number of checkpoint deletions attempted.",
                &m.checkpoint_deletions,
            ),
            (
                "prometheus_tsdb_checkpoint_deletions_failed_total",
                "Total number of checkpoint deletions that failed.",
                &m.checkpoint_deletions_failed,
            ),
            (
                "ferula_tsdb_wal_replay_skipped_records_total",
                "Total number of records in the log that are not read yet.",
                &m.replay_skipped_records,
            ),
        ];
        for (name, help, counter) in counters {
            out.counter(name, help, counter);
        }
        let durations = [
            (
                "prometheus_tsdb_head_gc_duration_seconds",
                "Runtime of garbage collection in the head block.",
                &m.gc_seconds,
                &m.gc_runs,
            ),
            (
                "prometheus_tsdb_wal_truncate_duration_seconds",
                "Duration of WAL truncation.",
                &m.checkpoint_seconds,
                &m.checkpoints,
            ),
        ];
        for (name, help, seconds, runs) in durations {
            out.family(name, help, Kind::Summary);
            out.quantiles(name, &[], (runs.get(), seconds.get()), Vec::new());
        }
        self.0.exemplars.expose(out);
        if let Some(wal) = self.0.wal.read().as_ref() {
            wal.expose(out);
        }
    }
}
