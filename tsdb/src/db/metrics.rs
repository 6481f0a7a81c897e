//! What the store counts about its blocks and their making, under upstream's names.
//!
//! The head shows its own; a family is in one of the two only.
//!
//! Compat: prometheus `tsdb/db.go` and `tsdb/compact.go`, metrics.

use model::wire::expose::{Counter, Exposition, Gauge, Histogram, Kind};

/// Powers of two, in seconds.
const DURATION_BOUNDS: [f64; 14] =
    [1., 2., 4., 8., 16., 32., 64., 128., 256., 512., 1024., 2048., 4096., 8192.];
/// 32 and eleven steps of one and a half.
const SIZE_BOUNDS: [f64; 12] =
    [32., 48., 72., 108., 162., 243., 364.5, 546.75, 820.125, 1_230.187_5, 1_845.281_25, 2_767.921_875];
/// Four and eleven steps of one and a half.
const SAMPLES_BOUNDS: [f64; 12] = [
    4.,
    6.,
    9.,
    13.5,
    20.25,
    30.375,
    45.5625,
    68.343_75,
    102.515_625,
    153.773_437_5,
    230.660_156_25,
    345.990_234_375,
];
/// A hundred and nine steps of four, in seconds.
const RANGE_BOUNDS: [f64; 10] =
    [100., 400., 1600., 6400., 25_600., 102_400., 409_600., 1_638_400., 6_553_600., 26_214_400.];

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) reloads: Counter,
    pub(crate) reload_failures: Counter,
    pub(crate) compactions: Counter,
    pub(crate) vertical_compactions: Counter,
    pub(crate) compactions_triggered: Counter,
    pub(crate) compactions_failed: Counter,
    pub(crate) time_retentions: Counter,
    pub(crate) size_retentions: Counter,
    pub(crate) populating: Gauge,
    pub(crate) duration: Histogram,
    pub(crate) chunk_size: Histogram,
    pub(crate) chunk_samples: Histogram,
    pub(crate) chunk_range: Histogram,
    pub(crate) tombstone_cleanup: Histogram,
    pub(crate) stale_compactions: Counter,
    pub(crate) stale_compactions_failed: Counter,
    pub(crate) stale_duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reloads: Counter::new(),
            reload_failures: Counter::new(),
            compactions: Counter::new(),
            vertical_compactions: Counter::new(),
            compactions_triggered: Counter::new(),
            compactions_failed: Counter::new(),
            time_retentions: Counter::new(),
            size_retentions: Counter::new(),
            populating: Gauge::new(),
            duration: Histogram::new(&DURATION_BOUNDS),
            chunk_size: Histogram::new(&SIZE_BOUNDS),
            chunk_samples: Histogram::new(&SAMPLES_BOUNDS),
            chunk_range: Histogram::new(&RANGE_BOUNDS),
            // Upstream's is native: in text it has no bounds.
            tombstone_cleanup: Histogram::new(&[]),
            stale_compactions: Counter::new(),
            stale_compactions_failed: Counter::new(),
            stale_duration: Histogram::new(&DURATION_BOUNDS),
        }
    }
}

/// What is measured when asked.
pub(crate) struct Snapshot {
    pub(crate) blocks: usize,
    pub(crate) blocks_bytes: u64,
    pub(crate) symbol_bytes: u64,
    pub(crate) quarantined: usize,
    pub(crate) lowest_time: i64,
    pub(crate) retention_secs: f64,
    pub(crate) retention_bytes: u64,
    pub(crate) retention_percentage: f64,
    /// -1 without lock, 0 after an unclean stop, 1 after a clean one.
    pub(crate) clean_start: f64,
}

impl Metrics {
    pub(crate) fn expose(&self, now: &Snapshot, out: &mut Exposition) {
        let name = |suffix: &str| format!("prometheus_tsdb_{suffix}");
        let gauges = [
            ("blocks_loaded", "Number of currently loaded data blocks", now.blocks as f64),
            (
                "symbol_table_size_bytes",
                "Size of symbol table in memory for loaded blocks",
                now.symbol_bytes as f64,
            ),
            (
                "storage_blocks_bytes",
                "The number of bytes that are currently used for local storage by all blocks.",
                now.blocks_bytes as f64,
            ),
            (
                "lowest_timestamp",
                "Lowest timestamp value stored in the database. The unit is decided by the library consumer.",
                now.lowest_time as f64,
            ),
            (
                "lowest_timestamp_seconds",
                "Lowest timestamp value stored in the database.",
                (now.lowest_time / 1000) as f64,
            ),
            (
                "retention_limit_bytes",
                "Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled",
                now.retention_bytes as f64,
            ),
            (
                "retention_limit_percentage",
                "Max percentage of total storage space to be retained in the tsdb blocks, configured 0 means disabled",
                now.retention_percentage,
            ),
            ("retention_limit_seconds", "How long to retain samples in storage.", now.retention_secs),
            (
                "clean_start",
                "-1: lockfile is disabled. 0: a lockfile from a previous execution was replaced. 1: lockfile creation was clean",
                now.clean_start,
            ),
            (
                "compaction_populating_block",
                "Set to 1 when a block is currently being written to the disk.",
                self.populating.get(),
            ),
        ];
        for (suffix, help, value) in gauges {
            out.gauge(&name(suffix), help, value);
        }
        out.gauge(
            "ferula_tsdb_blocks_quarantined",
            "Number of block directories that do not open and are left out of queries",
            now.quarantined as f64,
        );
        let counters = [
            ("reloads_total", "Number of times the database reloaded block data from disk.", &self.reloads),
            (
                "reloads_failures_total",
                "Number of times the database failed to reloadBlocks block data from disk.",
                &self.reload_failures,
            ),
            (
                "compactions_total",
                "Total number of compactions that were executed for the partition.",
                &self.compactions,
            ),
            (
                "vertical_compactions_total",
                "Total number of compactions done on overlapping blocks.",
                &self.vertical_compactions,
            ),
            (
                "compactions_triggered_total",
                "Total number of triggered compactions for the partition.",
                &self.compactions_triggered,
            ),
            (
                "compactions_failed_total",
                "Total number of compactions that failed for the partition.",
                &self.compactions_failed,
            ),
            (
                "time_retentions_total",
                "The number of times that blocks were deleted because the maximum time limit was exceeded.",
                &self.time_retentions,
            ),
            (
                "size_retentions_total",
                "The number of times that blocks were deleted because the maximum number of bytes was exceeded.",
                &self.size_retentions,
            ),
            (
                "stale_series_compactions_triggered_total",
                "Total number of triggered stale series compactions.",
                &self.stale_compactions,
            ),
            (
                "stale_series_compactions_failed_total",
                "Total number of stale series compactions that failed.",
                &self.stale_compactions_failed,
            ),
        ];
        for (suffix, help, counter) in counters {
            out.counter(&name(suffix), help, counter);
        }
        // What only programs that embed upstream's store can make happen: the server cannot, nor can this one.
        let (none, never) = (Counter::new(), Histogram::new(&DURATION_BOUNDS));
        let embedded = [
            (
                "compactions_skipped_total",
                "Total number of skipped compactions due to disabled auto compaction.",
            ),
            (
                "selected_series_compactions_triggered_total",
                "Total number of compactions triggered for an explicit caller-provided list of series references.",
            ),
            (
                "selected_series_compactions_failed_total",
                "Total number of compactions triggered for an explicit caller-provided list of series references that failed.",
            ),
        ];
        for (suffix, help) in embedded {
            out.counter(&name(suffix), help, &none);
        }
        let histograms = [
            (
                "selected_series_compaction_duration_seconds",
                "Duration of compactions triggered for an explicit caller-provided list of series references.",
                &never,
            ),
            ("compaction_duration_seconds", "Duration of compaction runs", &self.duration),
            (
                "compaction_chunk_size_bytes",
                "Final size of chunks on their first compaction",
                &self.chunk_size,
            ),
            (
                "compaction_chunk_samples",
                "Final number of samples on their first compaction",
                &self.chunk_samples,
            ),
            (
                "compaction_chunk_range_seconds",
                "Final time range of chunks on their first compaction",
                &self.chunk_range,
            ),
            (
                "tombstone_cleanup_seconds",
                "The time taken to recompact blocks to remove tombstones.",
                &self.tombstone_cleanup,
            ),
            (
                "stale_series_compaction_duration_seconds",
                "Duration of stale series compaction runs.",
                &self.stale_duration,
            ),
        ];
        for (suffix, help, histogram) in histograms {
            out.family(&name(suffix), help, Kind::Histogram);
            out.histogram(&name(suffix), &[], histogram);
        }
    }
}
