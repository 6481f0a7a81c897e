//! The whole store: the head for what is new, blocks for what is old, and the passage between them.
//!
//! Opened once per directory, under a lock. Appends go to the head; queries see head and blocks as one.
//! Nothing moves by itself: the owner calls [`Db::maintain`] every minute or so, which makes blocks of what
//! is old enough, merges blocks, and removes what is superseded or beyond the retention.
//!
//! Compat: prometheus `tsdb/db.go`, `DB`.

pub(crate) mod blocks;
pub mod import;
mod maintenance;
mod metrics;
pub mod options;
pub mod paths;
mod querier;
pub mod read_only;
mod retention;
mod uploads;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use model::exemplar::SeriesExemplars;
use model::memory::Holder;
use model::storage::{self, Appendable, Appender, ExemplarQueryable, Querier, Queryable};
use model::wire::expose::{Expose, Exposition};
use model::{Matcher, TimeRange, Timestamp};
use parking_lot::Mutex;

pub use self::options::{Options, Retention};
pub use self::read_only::ReadOnly;

use self::maintenance::Maintenance;
use self::metrics::Snapshot;
use self::querier::DbQuerier;
use crate::block::BlockMeta;
use crate::block::writer;
use crate::chunk::FloatEncoding;
use crate::compact::SeriesSource;
use crate::fs::{self, Lock};
use crate::head::{self, Head, ReplayProgress};
use crate::{Error, Result, wal};

/// Segments of the log are whole pages.
const WAL_PAGE_BYTES: u64 = 32 << 10;

/// Series that ended are not written out early when the head is to become a block so soon.
const FLUSH_SOON_MS: i64 = 10 * 60_000;

/// Nor again so soon.
const STALE_PAUSE_MS: i64 = 10 * 60_000;

/// An open store.
pub struct Db {
    // Dropped in this order: the lock outlives all that writes.
    head: Head,
    maintenance: Maintenance,
    /// Held by whoever changes blocks or truncates the head.
    tick: Mutex<()>,
    /// How late the head is written out.
    compaction_delay_ms: i64,
    /// Since when it could be.
    due_since: Mutex<Option<Timestamp>>,
    /// The head was written out and its late samples were not yet.
    is_late_due: AtomicBool,
    /// The bits of the share of series that must have ended for them to be written out early.
    stale_threshold: AtomicU64,
    /// When the head was last written out since the start.
    last_flush: AtomicI64,
    /// When series that ended were last written out.
    last_stale: AtomicI64,
    clean_start: f64,
    lock: Mutex<Option<Lock>>,
}

impl Db {
    /// Opens the store in `dir`, which is created if missing: takes the lock, removes what a crash left
    /// unfinished, loads the blocks, then replays the log into the head.
    ///
    /// A block that does not open is set aside, loudly, see [`Db::quarantined`].
    ///
    /// # Errors
    /// Another process holds the lock, or the directory or the log cannot be used.
    pub fn open(dir: &Path, options: &Options, progress: &ReplayProgress) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = if options.no_lockfile { None } else { Some(Lock::acquire(&dir.join(paths::LOCK))?) };
        blocks::remove_temporary(dir)?;
        blocks::repair_index_versions(dir)?;
        let ranges = options.block_ranges();
        check_encoding(dir, &options.features)?;
        let head_options = head::Options {
            chunk_range_ms: head_range(dir, ranges[0])?,
            out_of_order_window_ms: options::millis(options.out_of_order_window),
            snapshot_interval: options.head_snapshot_interval,
            series_limit: options.head_series_limit,
            wal: wal::Options {
                segment_bytes: options.wal_segment_bytes.next_multiple_of(WAL_PAGE_BYTES),
                compression: options.wal_compression,
                sync_interval: Some(options.wal_sync_interval).filter(|interval| !interval.is_zero()),
            },
            features: options.features,
            ..head::Options::default()
        };
        let write_options = writer::Options { segment_bytes: options.max_block_chunk_segment_bytes };
        let compaction_delay_ms = delay(ranges[0], options.compaction_delay_percent);
        let mut maintenance =
            Maintenance::new(dir.to_owned(), ranges, write_options, options.retention.normalized());
        maintenance.merge_overlapping = options.merge_overlapping;
        maintenance.upload_list.clone_from(&options.upload_list);
        maintenance.floats = options.features.floats;
        maintenance.reload().or_else(only_not_listed)?;
        let min_valid_time = maintenance.blocks.in_order_max_time().unwrap_or(i64::MIN);
        let head = Head::open(dir, head_options, min_valid_time, progress)?;
        let clean_start = match &lock {
            None => -1.0,
            Some(lock) if lock.was_present => 0.0,
            Some(_) => 1.0,
        };
        Ok(Self {
            head,
            maintenance,
            tick: Mutex::new(()),
            compaction_delay_ms,
            due_since: Mutex::new(None),
            is_late_due: AtomicBool::new(false),
            stale_threshold: AtomicU64::new(options.stale_series_threshold.to_bits()),
            last_flush: AtomicI64::new(Timestamp::MIN),
            last_stale: AtomicI64::new(Timestamp::MIN),
            clean_start,
            lock: Mutex::new(lock),
        })
    }

    /// One tick: blocks dropped in are taken up, the head is written out while it is long enough, blocks are
    /// merged until nothing is left to merge, and what is superseded or beyond the retention goes.
    ///
    /// `now` dates new blocks. One tick runs at a time, others wait.
    ///
    /// # Errors
    /// A step failed and was counted; what was done before it stays done, what it began is undone. Call again
    /// later: after one second at first, doubling to a minute, is upstream's habit.
    pub fn maintain(&self, now: Timestamp) -> Result<()> {
        let _tick = self.tick.lock();
        self.maintenance.metrics.compactions_triggered.inc();
        let result = self.try_maintain(now);
        if result.is_err() {
            self.maintenance.metrics.compactions_failed.inc();
        }
        result
    }

    fn try_maintain(&self, now: Timestamp) -> Result<()> {
        // What keeps old directories from being removed must not keep the head from being written out.
        let reloaded = self.maintenance.reload();
        while let Some((mint, maxt)) = self.due_range(now) {
            let mut source = self.head.settled_source(mint, maxt);
            self.maintenance.flush_head(mint..maxt, &mut source, now)?;
            // The source pins what it looked at; truncation frees more without it.
            drop(source);
            // Late samples follow those in order, as upstream does it; if a step fails before, then with the next tick.
            self.is_late_due.store(true, Relaxed);
            self.head.truncate(maxt)?;
            self.last_flush.store(now, Relaxed);
        }
        let late = if self.is_late_due.load(Relaxed) { self.flush_late(now) } else { Ok(()) };
        match &late {
            Ok(()) => self.is_late_due.store(false, Relaxed),
            // It stays with late samples; the blocks have nothing to do with it.
            Err(Error::Corrupt { .. }) => {}
            Err(_) => return late,
        }
        self.compact_stale_if_due(now)?;
        if let Err(e) = self.head.snapshot_if_due() {
            tracing::warn!(error = %e, "cannot write a snapshot of the head; the next start reads more of the log");
        }
        // Nor must a long series of merges.
        self.maintenance.compact_blocks(now, || self.due_range(now).is_some())?;
        late.and(reloaded)
    }

    /// Writes the series that have ended to blocks and forgets them, if they are enough of all and the head is not
    /// about to become a block anyway.
    fn compact_stale_if_due(&self, now: Timestamp) -> Result<()> {
        let threshold = f64::from_bits(self.stale_threshold.load(Relaxed));
        let (n_stale, n) = (self.head.n_stale_series(), self.head.n_series());
        let is_due = threshold > 0.0 && n > 0 && n_stale as f64 / n as f64 >= threshold;
        let flushed = self.last_flush.load(Relaxed);
        let next_flush = flushed.saturating_add(self.head.chunk_range_ms());
        let is_flush_soon = flushed != Timestamp::MIN && now.saturating_add(FLUSH_SOON_MS) > next_flush;
        // Series that could not be dropped, because somebody read them all the time, would be written again and again.
        let is_again = now.saturating_sub(self.last_stale.load(Relaxed)) < STALE_PAUSE_MS;
        if !is_due || is_flush_soon || is_again {
            return Ok(());
        }
        self.last_stale.store(now, Relaxed);
        self.compact_stale(now).map(|_| ())
    }

    /// Writes all series that have ended to blocks and forgets them; returns how many.
    ///
    /// # Errors
    /// A block or the log could not be written: series that were not dropped stay in the head.
    ///
    /// Compat: prometheus `tsdb/db.go`, `DB.CompactStaleHead`.
    fn compact_stale(&self, now: Timestamp) -> Result<u64> {
        let metrics = &self.maintenance.metrics;
        metrics.stale_compactions.inc();
        let started = Instant::now();
        let dropped = self.try_compact_stale(now);
        metrics.stale_compactions_failed.add(u64::from(dropped.is_err()));
        metrics.stale_duration.observe(started.elapsed().as_secs_f64());
        dropped
    }

    fn try_compact_stale(&self, now: Timestamp) -> Result<u64> {
        let range = self.head.chunk_range_ms();
        let stale = self.head.stale_series();
        let mut start = self.head.min_time().div_euclid(range) * range;
        while !stale.is_empty() && start <= self.head.max_time() {
            let end = start.saturating_add(range);
            let mut source = self.head.stale_source(&stale, start, end);
            self.maintenance.flush_stale(start..end, &mut source, now)?;
            start = end;
        }
        let dropped = self.head.drop_stale(stale)?;
        tracing::info!(series = dropped, "series that ended were written out and left the head");
        Ok(dropped)
    }

    /// Sets which share of the head's series must have ended for them to be written out early, 0 for never.
    pub fn set_stale_series_threshold(&self, share: f64) {
        self.stale_threshold.store(share.to_bits(), Relaxed);
    }

    /// What of the head shall become a block now.
    fn due_range(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let range = self.head.compactable_range();
        let mut since = self.due_since.lock();
        if range.is_none() {
            *since = None;
        }
        range.filter(|_| now.saturating_sub(*since.get_or_insert(now)) >= self.compaction_delay_ms)
    }

    /// Deletes the samples in `range` of the series that pass `matchers`: no query that begins later sees them. They
    /// leave the disk when their blocks are written anew, see [`Db::clean_tombstones`].
    ///
    /// What is deleted is what is there at the moment. Waits for a tick that is under way.
    ///
    /// # Errors
    /// The log or a block could not be written; what was deleted before stays deleted. Calling again is safe.
    ///
    /// Compat: prometheus `tsdb/db.go`, `DB.Delete`.
    pub fn delete(&self, range: TimeRange, matchers: &[Matcher]) -> Result<()> {
        let _tick = self.tick.lock();
        if range.mint > range.maxt {
            return Ok(());
        }
        self.head.delete(range, matchers)?;
        self.maintenance.blocks.delete(range, matchers)
    }

    /// Writes the blocks anew from which something was deleted, without it. `now` dates them.
    ///
    /// # Errors
    /// A block could not be written: it stays as it is, and nothing of what is deleted comes back.
    pub fn clean_tombstones(&self, now: Timestamp) -> Result<()> {
        let _tick = self.tick.lock();
        self.maintenance.clean_tombstones(now)
    }

    /// Puts a copy of all blocks and, `with_head`, of the head as one more block into the new directory `name` below
    /// `snapshots`. Blocks are linked, so the copy costs no space until they are compacted.
    ///
    /// # Errors
    /// It could not be written whole; then there is nothing.
    ///
    /// Compat: prometheus `tsdb/db.go`, `DB.Snapshot`.
    pub fn snapshot(&self, name: &str, with_head: bool, now: Timestamp) -> Result<()> {
        let dir = self.maintenance.dir.join(paths::SNAPSHOTS).join(name);
        let _tick = self.tick.lock();
        if with_head {
            // The block of the head has what came in order only.
            self.flush_late(now)?;
        }
        fs::create_dir_all(&dir)?;
        let (mint, maxt) = (self.head.min_time(), self.head.max_time());
        let range = mint..maxt.saturating_add(1);
        let mut source = (with_head && mint <= maxt).then(|| self.head.series_source(range.start, range.end));
        let head = source.as_mut().map(|source| (range, source as &mut dyn SeriesSource));
        let written = self.maintenance.snapshot(&dir, head, now);
        if written.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_dir_all(&dir);
        }
        written
    }

    /// Makes blocks of the late samples. Those are in service before the head lets go of them.
    fn flush_late(&self, now: Timestamp) -> Result<()> {
        let Some(late) = self.head.late_samples()? else { return Ok(()) };
        self.maintenance.flush_late(&late, now)?;
        self.head.drop_late_samples(late)
    }

    /// The blocks in service, by time.
    pub fn blocks(&self) -> Vec<BlockMeta> {
        self.maintenance.blocks.list().iter().map(|block| block.meta().clone()).collect()
    }

    /// The blocks that do not open and are left out of everything, and why.
    pub fn quarantined(&self) -> BTreeMap<String, String> {
        self.maintenance.blocks.quarantined().into_iter().map(|(ulid, why)| (ulid.to_string(), why)).collect()
    }

    /// The bytes of all blocks in service.
    pub fn blocks_bytes(&self) -> u64 {
        self.maintenance.blocks.size_bytes()
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Changes how many exemplars are kept, 0 for none; the oldest go first.
    pub fn set_max_exemplars(&self, max: usize) {
        self.head.set_max_exemplars(max);
    }

    /// Changes what the next tick keeps.
    pub fn set_retention(&self, retention: Retention) {
        *self.maintenance.retention.lock() = retention.normalized();
    }

    /// Changes how late samples may come from now on; zero refuses them. What came stays.
    ///
    /// # Errors
    /// The log of late samples cannot be opened; nothing has changed.
    pub fn set_out_of_order_window(&self, window: Duration) -> Result<()> {
        self.head.set_out_of_order_window(options::millis(window))
    }

    /// The time of the oldest sample, or what the head says if there is none.
    pub fn min_time(&self) -> Timestamp {
        let list = self.maintenance.blocks.list();
        list.iter().map(|block| block.meta().min_time).chain([self.head.min_time()]).min().unwrap_or_default()
    }

    /// Brings the log to the medium and stops; the lock is released last. Appends fail from then on.
    ///
    /// # Errors
    /// The log could not be synced or closed.
    pub fn close(&self) -> Result<()> {
        let _tick = self.tick.lock();
        let closed = self.head.close();
        self.lock.lock().take();
        closed
    }
}

/// A random time of at most `percent` hundredths of `range_ms`.
fn delay(range_ms: i64, percent: u8) -> i64 {
    let most = range_ms.saturating_mul(i64::from(percent)) / 100;
    if most > 0 { fastrand::i64(0..most) } else { 0 }
}

/// The head counts the times of a window in 31 bits.
fn head_range(dir: &Path, range_ms: i64) -> Result<i64> {
    if range_ms < 1 << 31 {
        return Ok(range_ms);
    }
    let what =
        format!("blocks of at least {range_ms} ms were asked for, the most is {} ms", (1_i64 << 31) - 1);
    Err(Error::Unsupported { path: dir.to_owned(), what })
}

/// What upstream refuses, too: start times that the log keeps and blocks lose.
fn check_encoding(dir: &Path, features: &head::Features) -> Result<()> {
    if !features.stores_start_times || features.floats == FloatEncoding::Xor2 {
        return Ok(());
    }
    let what = "float chunk encoding xor is incompatible with start-timestamp storage, use xor2".to_owned();
    Err(Error::Unsupported { path: dir.to_owned(), what })
}

/// At start, an old directory that cannot be removed is no reason to stay away.
fn only_not_listed(e: Error) -> Result<()> {
    match e {
        Error::Io { op: "list", .. } => Err(e),
        e => {
            tracing::error!(error = %e, "cannot tidy up the blocks");
            Ok(())
        }
    }
}

impl Appendable for Db {
    fn appender(&self, affinity: u64) -> Box<dyn Appender + '_> {
        self.head.appender(affinity)
    }
}

impl Queryable for Db {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>, storage::Error> {
        let has_late = self.head.late_times().is_some_and(|late| late.overlaps(range));
        let is_of_head = range.maxt >= self.head.min_time() && range.mint <= self.head.max_time();
        let asks_head = is_of_head || has_late;
        let head = if asks_head { Some(self.head.querier(range)?) } else { None };
        Ok(Box::new(DbQuerier { head, blocks: Arc::clone(&self.maintenance.blocks), range }))
    }
}

impl ExemplarQueryable for Db {
    fn exemplars(
        &self,
        range: TimeRange,
        selectors: &[Vec<Matcher>],
    ) -> Result<Vec<SeriesExemplars>, storage::Error> {
        self.head.exemplars(range, selectors)
    }
}

impl Holder for Db {
    fn memory(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        for (owner, bytes) in self.head.memory() {
            tell(owner, bytes);
        }
        let blocks = self.maintenance.blocks.list();
        tell("block_index", blocks.iter().map(|block| block.index().memory_bytes()).sum());
    }
}

impl Expose for Db {
    fn expose(&self, out: &mut Exposition) {
        let list = self.maintenance.blocks.list();
        let retention = *self.maintenance.retention.lock();
        let snapshot = Snapshot {
            blocks: list.len(),
            blocks_bytes: list.iter().map(|block| block.size_bytes()).sum(),
            symbol_bytes: list.iter().map(|block| block.index().symbol_table_bytes()).sum(),
            quarantined: self.maintenance.blocks.quarantined().len(),
            lowest_time: self.min_time(),
            retention_secs: retention.time.map_or(0.0, |time| time.as_secs_f64()),
            retention_bytes: retention.size_bytes.unwrap_or_default(),
            retention_percentage: retention.percentage,
            clean_start: self.clean_start,
        };
        self.maintenance.metrics.expose(&snapshot, out);
        self.head.expose(out);
    }
}

#[cfg(test)]
mod tests;
