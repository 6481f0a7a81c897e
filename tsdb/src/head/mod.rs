//! The head: the newest hours, in memory and in the log.
//!
//! Series are spread over shards by who writes them: a scrape is one walk over adjacent lines of one shard
//! ([`series`]) under one lock. Labels live in the [`registry`], which appends of known series never touch.
//! Full chunks leave memory at once for mapped files ([`chunks`]). A commit is logged, then applied ([`append`]); a
//! select looks at all shards at one moment and notes how much of each series existed ([`read`]).
//!
//! Locks are taken in this order: shards by number, then the registry. Nobody holds either while the log writes.
//!
//! A series of plain floats is a line and a buffer; whatever else it has, an open chunk of histograms or of another
//! encoding, is in its [`extension`]. Exemplars are in one ring for all series ([`exemplars`]), what is known of metrics in one
//! list ([`metadata`]).
//! Samples that come too late for their place are kept apart, with a log and in the end with blocks of their own
//! ([`late`]).
//!
//! A start reads the log ([`replay`]) or, if it is there and beyond doubt, a [`snapshot`] and the log behind it; upstream's is
//! in [`chunk_snapshot`]. What is deleted stays hidden until its time leaves ([`delete`]), which is when it is in a block ([`gc`]) or,
//! of series that have ended, before ([`stale`]).
//!
//! Compat: prometheus `tsdb`, `Head`.

mod append;
mod batch;
mod chunk_snapshot;
mod chunks;
mod delete;
mod exemplars;
mod extension;
mod gc;
mod grace;
mod late;
mod memory;
mod metadata;
mod metrics;
mod postings;
mod read;
mod registry;
mod replay;
pub(crate) mod series;
mod slab;
mod snapshot;
mod source;
mod stale;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use model::storage::SeriesRef;
use model::{Timestamp, Value};
use parking_lot::{Mutex, RwLock};

pub use late::{LateSamples, LateWindow};
pub use metrics::{Stats, TopEntry};
pub use replay::ReplayProgress;
pub use source::Source;
pub use stale::StaleSeries;

use crate::chunk::{Encoding, FloatEncoding};
use crate::{Result, wal};
use chunks::HeadChunks;
use exemplars::Exemplars;
use grace::Appenders;
use metadata::Catalog;
use metrics::Metrics;
use registry::Registry;
use series::Shard;

/// How long a close waits for batches whose samples are stored and not logged yet.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Bits of a packed slot that hold the index; the others hold the shard.
const IDX_BITS: u32 = 28;

/// What the other bits can tell apart.
const SHARDS_MAX: usize = 1 << (u32::BITS - IDX_BITS);

/// How the head is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The span of a chunk's window and of the smallest block, in ms, below 2^31.
    pub chunk_range_ms: i64,
    /// A power of two up to 16; series of one writer share a shard.
    pub n_shards: usize,
    /// The most series at a time, 0 for no limit.
    pub series_limit: u64,
    pub features: Features,
    /// How much older than the head's newest sample a late one may be, in ms; zero refuses them.
    pub out_of_order_window_ms: i64,
    /// How often a snapshot is written that makes the next start fast; at a clean close, too. `None` neither writes nor
    /// reads one.
    pub snapshot_interval: Option<Duration>,
    pub wal: wal::Options,
}

/// What is kept beside plain floats and histograms; by default what every release can read.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a feature of upstream that is on or off")]
pub struct Features {
    /// What floats are written as.
    pub floats: FloatEncoding,
    /// Whether the log keeps start times, and chunks whose encoding has a place for them: `st-storage`.
    pub stores_start_times: bool,
    /// Whether chunks of histograms have a place for start times: `histograms-st-encoding`.
    pub stores_histogram_starts: bool,
    /// Whether a zero is stored where the count of a new counter began: `created-timestamp-zero-ingestion`.
    pub zero_at_start: bool,
    /// Whether metadata of series is kept in memory and in the log: `metadata-wal-records`.
    pub logs_metadata: bool,
    /// Whether upstream's snapshot is read at a start and written at a clean close: `memory-snapshot-on-shutdown`.
    pub snapshots_at_close: bool,
    /// The most exemplars at a time, 0 for none.
    pub max_exemplars: usize,
}

impl Features {
    /// What a chunk of such values is written as.
    fn encoding_of(&self, value: Value<'_>) -> Encoding {
        match (value, self.stores_histogram_starts) {
            (Value::Float(_), _) => match self.floats {
                FloatEncoding::Xor => Encoding::Xor,
                FloatEncoding::Xor2 => Encoding::Xor2,
            },
            (Value::Histogram(_), false) => Encoding::Histogram,
            (Value::Histogram(_), true) => Encoding::HistogramSt,
            (Value::FloatHistogram(_), false) => Encoding::FloatHistogram,
            (Value::FloatHistogram(_), true) => Encoding::FloatHistogramSt,
        }
    }
}

impl Default for Options {
    /// Two hours, as upstream; two shards per core.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            chunk_range_ms: 2 * 3_600_000,
            n_shards: (2 * cores).next_power_of_two().min(SHARDS_MAX),
            series_limit: 0,
            features: Features::default(),
            out_of_order_window_ms: 0,
            snapshot_interval: None,
            wal: wal::Options::default(),
        }
    }
}

/// The newest samples of a store; a cheap handle to clone.
#[derive(Clone, Debug)]
pub struct Head(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    wal_dir: PathBuf,
    shards: Box<[Shard]>,
    registry: RwLock<Registry>,
    chunks: HeadChunks,
    /// Gone once closed.
    wal: RwLock<Option<wal::Writer>>,
    /// The last ref given out in the log.
    last_ref: AtomicU64,
    /// The times of the oldest and newest sample; `MAX` and `MIN` when there is none.
    min_time: AtomicI64,
    max_time: AtomicI64,
    /// Samples before this belong to blocks.
    min_valid_time: AtomicI64,
    /// Rises with every batch that shows new series, so that a select knows that it looked too early.
    published: AtomicU64,
    appenders: Appenders,
    /// Empty lists for batches to come.
    spare_rows: Mutex<Vec<Vec<append::Row>>>,
    /// Whoever reads samples or labels holds a clone; what they might look at is freed later.
    pin: Arc<()>,
    exemplars: Exemplars,
    metadata: Catalog,
    /// Until when the record of a series that left the head stays in checkpoints, by its ref.
    expiries: Mutex<HashMap<u64, Timestamp>>,
    /// Held by whoever takes something out of the head, and where nothing may leave it.
    truncating: Mutex<()>,
    late: late::Shared,
    snapshots: snapshot::Schedule,
    /// Other refs of series in the log, with the ref that is theirs.
    aliases: Mutex<Vec<(u64, u64)>>,
    metrics: Metrics,
}

/// Where a series lives: shard and index in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Slot(u32);

impl Slot {
    fn new(shard: usize, idx: u32) -> Self {
        debug_assert!(idx < 1 << IDX_BITS, "BUG: index {idx}");
        Self((u32::try_from(shard).expect("at most 16 shards") << IDX_BITS) | idx)
    }

    #[inline]
    fn shard(self) -> usize {
        (self.0 >> IDX_BITS) as usize
    }

    #[inline]
    fn idx(self) -> u32 {
        self.0 & ((1 << IDX_BITS) - 1)
    }
}

/// The ref handed to callers: generation above slot. Generations start at 1, so it is never zero.
fn pack_ref(slot: Slot, generation: u16) -> SeriesRef {
    let packed = (u64::from(generation) << 32) | u64::from(slot.0);
    SeriesRef(NonZeroU64::new(packed).expect("generations start at 1"))
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "taking packed fields apart")]
fn unpack_ref(series: SeriesRef) -> (Slot, u16) {
    (Slot(series.0.get() as u32), (series.0.get() >> 32) as u16)
}

impl Head {
    /// Opens the head in a data directory, reading back what its log and chunk files hold.
    ///
    /// Samples before `min_valid_time` are in blocks and left out. `progress` can be watched from another thread.
    /// A corrupt log is cut at its first bad record, loudly.
    pub fn open(
        dir: &Path,
        options: Options,
        min_valid_time: Timestamp,
        progress: &ReplayProgress,
    ) -> Result<Self> {
        Self::open_with(dir, options, min_valid_time, progress, None)
    }

    /// As [`Head::open`], but changes nothing in `dir`: chunks that become full during the replay go to files in
    /// `scratch`, a corrupt log is read up to its first bad record, and nothing can be appended.
    pub fn open_read_only(
        dir: &Path,
        options: Options,
        min_valid_time: Timestamp,
        scratch: &Path,
    ) -> Result<Self> {
        Self::open_with(dir, options, min_valid_time, &ReplayProgress::default(), Some(scratch))
    }

    fn open_with(
        dir: &Path,
        options: Options,
        min_valid_time: Timestamp,
        progress: &ReplayProgress,
        scratch: Option<&Path>,
    ) -> Result<Self> {
        assert!(
            options.n_shards.is_power_of_two() && options.n_shards <= SHARDS_MAX,
            "BUG: {} shards",
            options.n_shards
        );
        assert!(
            (1..1 << 31).contains(&options.chunk_range_ms),
            "BUG: chunk range {}",
            options.chunk_range_ms
        );
        replay::open(dir, options, min_valid_time, progress, scratch).map(|inner| Self(Arc::new(inner)))
    }

    /// The time of the oldest sample, `i64::MAX` if there is none.
    pub fn min_time(&self) -> Timestamp {
        self.0.min_time.load(Ordering::Relaxed)
    }

    /// The time of the newest sample, `i64::MIN` if there is none.
    pub fn max_time(&self) -> Timestamp {
        self.0.max_time.load(Ordering::Relaxed)
    }

    /// Samples before this are refused: blocks cover them.
    pub fn min_valid_time(&self) -> Timestamp {
        self.0.min_valid_time.load(Ordering::Relaxed)
    }

    /// The span of a chunk's window and of the smallest block.
    pub fn chunk_range_ms(&self) -> i64 {
        self.0.options.chunk_range_ms
    }

    pub fn n_series(&self) -> u64 {
        self.0.registry.read().n_series()
    }

    /// The half-open range that the next block should cover, once the head spans more than one and a half ranges.
    ///
    /// Nothing is added to it any more: it ends at least half a range before the newest sample, and what is older
    /// than that is refused, also of batches that were opened long ago. So what a source shows of it is all of it.
    pub fn compactable_range(&self) -> Option<(Timestamp, Timestamp)> {
        let (mint, maxt) = (self.min_time(), self.max_time());
        let range = self.0.options.chunk_range_ms;
        let is_due = mint <= maxt && maxt.saturating_sub(mint) > range / 2 * 3;
        is_due.then(|| (mint, mint.div_euclid(range) * range + range))
    }

    /// The bytes of logs and chunk files on disk, as retention by size counts them.
    pub fn size_bytes(&self) -> u64 {
        crate::fs::dir_size(&self.0.wal_dir) + self.0.late.size_bytes() + self.0.chunks.size_bytes()
    }

    /// Why nothing more is accepted, if so.
    pub fn poison(&self) -> Option<String> {
        self.0.wal.read().as_ref().and_then(|wal| wal.poison().map(str::to_owned))
    }

    /// Writes out and syncs everything; appends fail from then on, reads go on.
    pub fn close(&self) -> Result<()> {
        let inner = &*self.0;
        if inner.options.snapshot_interval.is_some()
            && inner.wal.read().is_some()
            && let Err(e) = inner.write_snapshot()
        {
            tracing::warn!(error = %e, "cannot write a snapshot of the head; the next start reads the whole log");
        }
        // No batch passes from here on; one that did may still have late samples to log, and samples that are in the log
        // to apply.
        let Some(wal) = inner.wal.write().take() else { return Ok(()) };
        let writes_snapshot = inner.options.features.snapshots_at_close;
        let is_quiet = (inner.late.is_logged() || writes_snapshot) && inner.appenders.outlive(CLOSE_PATIENCE);
        // The log first: what a power cut leaves of the chunks must not be newer than what it leaves of the log.
        let closed = [wal.close(), inner.late.close(), inner.chunks.close()];
        closed.into_iter().collect::<Result<()>>()?;
        if writes_snapshot && !is_quiet {
            tracing::warn!(
                "no snapshot of the head: an appender stays open; the next start reads the whole log"
            );
        } else if writes_snapshot && let Err(e) = inner.write_chunk_snapshot(inner.snapshots.dir()) {
            tracing::error!(error = %e, "cannot write a snapshot of the head");
        }
        Ok(())
    }
}

impl Inner {
    fn shard_of(&self, affinity: u64) -> usize {
        // The multiplication brings the entropy of any constant or hash to the top bits.
        let mixed = affinity.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(mixed).expect("32 bits") & (self.shards.len() - 1)
    }

    fn observe_times(&self, mint: Timestamp, maxt: Timestamp) {
        self.min_time.fetch_min(mint, Ordering::Relaxed);
        self.max_time.fetch_max(maxt, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
