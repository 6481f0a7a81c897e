//! Series that have ended, written out and dropped before their time leaves the head.
//!
//! Three steps, and the caller makes blocks in between: [`Head::stale_series`] notes which series have ended and what
//! they have, [`Head::stale_source`] shows them for a block, [`Head::drop_stale`] tells the log and forgets those that
//! have not changed since. A crash in between leaves samples in a block and in the head, which count once.
//!
//! Compat: prometheus `tsdb/db.go`, `DB.CompactStaleHead`; `tsdb/head.go`, `Head.truncateStaleSeries`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use model::{TimeRange, Timestamp};
use roaring::RoaringBitmap;

use super::read::View;
use super::series::{ALIVE, LEAVING};
use super::source::Source;
use super::{Head, Inner, Slot};
use crate::wal::record::{self, RefTombstone};
use crate::{Error, Result, wal};

/// How long dropping waits for appenders, and again for readers of each shard.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at whether readers are done.
const PAUSE: Duration = Duration::from_millis(5);

/// A record of tombstones is ended here.
const RECORD_BYTES: usize = 64 << 10;

/// The series that had ended at one moment.
#[derive(Debug)]
pub struct StaleSeries {
    /// By slot.
    series: Vec<Ended>,
    /// Their ids, which mean the same as long as the pin is held.
    ids: RoaringBitmap,
    pin: Arc<()>,
}

/// What a series had when it was found to have ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    slot: Slot,
    generation: u16,
    n_open: u16,
    n_sealed: u32,
    last_t: Timestamp,
}

impl StaleSeries {
    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

impl Head {
    /// Finds the series whose newest sample is a staleness marker.
    pub fn stale_series(&self) -> StaleSeries {
        let inner = &*self.0;
        let pin = Arc::clone(&inner.pin);
        let (mut series, mut ids) = (Vec::new(), RoaringBitmap::new());
        for (n, shard) in inner.shards.iter().enumerate() {
            let state = shard.state.read();
            for idx in 0..state.n_slots() {
                let slot = Slot::new(n, idx);
                let hot = shard.line(idx);
                let has_more = state.extension(idx).is_some_and(|it| !it.has_open_chunk_only());
                if hot.flags.load(Relaxed) & ALIVE != 0 && !has_more {
                    let ended = Ended::of(inner, slot);
                    if hot.load().is_stale() {
                        series.push(ended);
                        ids.insert(state.cold[idx].id);
                    }
                }
            }
        }
        StaleSeries { series, ids, pin }
    }

    /// Those series with their samples at `mint <= t < maxt`, sorted by their labels.
    pub fn stale_source(&self, stale: &StaleSeries, mint: Timestamp, maxt: Timestamp) -> Source {
        let range = TimeRange::new(mint, maxt.saturating_sub(1));
        Source::new(View::new(&self.0, range, |_| stale.ids.clone()), range)
    }

    /// Forgets those of the series that have not changed since they were found; returns how many.
    ///
    /// All their samples must be in blocks in service. Series that somebody reads or writes all the time stay.
    ///
    /// # Errors
    /// The log could not be told; series that it was not told of stay.
    pub fn drop_stale(&self, stale: StaleSeries) -> Result<u64> {
        let inner = &*self.0;
        let StaleSeries { series, pin, .. } = stale;
        drop(pin);
        let _one_at_a_time = inner.truncating.lock();
        for ended in &series {
            inner.line(ended.slot).flags.fetch_or(LEAVING, Relaxed);
        }
        let outlived = inner.appenders.outlive(PATIENCE);
        let mut dropped = Ok(0);
        if outlived {
            for group in series.chunk_by(|a, b| a.slot.shard() == b.slot.shard()) {
                dropped = dropped.and_then(|n| Ok(n + inner.end(group)?));
            }
        }
        for ended in &series {
            inner.line(ended.slot).flags.fetch_and(!LEAVING, Relaxed);
        }
        let n = dropped?;
        inner.metrics.series_removed.add(n);
        if n > 0 {
            inner.collect_metadata();
            inner.renumber();
        }
        Ok(n)
    }
}

impl Ended {
    fn of(inner: &Inner, slot: Slot) -> Self {
        let line = inner.line(slot).load();
        let (generation, n_open, n_sealed) = (line.generation, line.n_open(), line.n_sealed);
        Self { slot, generation, n_open, n_sealed, last_t: line.last_t() }
    }

    fn is_unchanged(&self, inner: &Inner) -> bool {
        let now = Self::of(inner, self.slot);
        (now.generation, now.n_open, now.n_sealed, now.last_t)
            == (self.generation, self.n_open, self.n_sealed, self.last_t)
    }
}

impl Inner {
    fn line(&self, slot: Slot) -> &super::series::HotLine {
        self.shards[slot.shard()].line(slot.idx())
    }

    /// Ends series of one shard, unless an appender has claimed them since they were marked or they changed.
    fn end(&self, group: &[Ended]) -> Result<u64> {
        let Some(first) = group.first() else { return Ok(0) };
        let shard = &self.shards[first.slot.shard()];
        // Before the shard, as whoever commits has it before shards.
        let wal = self.wal.read();
        let wal = wal.as_ref().ok_or_else(|| Error::Poisoned("the store is closed".to_owned()))?;
        let started = Instant::now();
        let mut state = loop {
            let state = shard.state.write();
            // Looked at under the lock: a view is made under it, too. Unlike a truncation this takes away what is still
            // to be read.
            if Arc::strong_count(&self.pin) == 1 {
                break state;
            }
            drop(state);
            if started.elapsed() > PATIENCE {
                tracing::warn!("queries go on and on; series that ended leave the head later");
                return Ok(0);
            }
            std::thread::sleep(PAUSE);
        };
        let mut ending: Vec<(Slot, u32)> = Vec::new();
        for ended in group {
            let hot = self.line(ended.slot);
            let flags = hot.flags.load(Relaxed);
            let has_more = state.extension(ended.slot.idx()).is_some_and(|it| !it.has_open_chunk_only());
            if ended.is_unchanged(self) && !has_more && hot.try_end() {
                ending.push((ended.slot, flags & !LEAVING));
            }
        }
        // The one record that is written under a lock of a shard: a sample of these series that came into the log behind
        // it would be lost, and a series of the same labels defined before it, too.
        if let Err(e) = wal.log(self.tombstones(wal, &ending)) {
            for &(slot, flags) in &ending {
                self.line(slot).flags.store(flags, Relaxed);
            }
            return Err(e);
        }
        let until = self.max_time.load(Relaxed);
        let mut dead = Vec::with_capacity(ending.len());
        for &(slot, _) in &ending {
            self.expiries.lock().insert(self.line(slot).wal_ref(), until);
            dead.push(state.cold[slot.idx()].id);
            shard.death(&mut state, slot.idx());
        }
        self.registry.write().remove(&dead, false);
        Ok(dead.len() as u64)
    }

    /// The records that say that series are gone altogether.
    fn tombstones(&self, wal: &wal::Writer, ending: &[(Slot, u32)]) -> wal::Batch {
        let mut batch = wal.batch();
        let mut bytes = Vec::new();
        for &(slot, _) in ending {
            if bytes.is_empty() {
                record::begin_tombstones(&mut bytes);
            }
            let series = self.line(slot).wal_ref();
            let (mint, maxt) = (Timestamp::MIN, Timestamp::MAX);
            record::push_tombstone(&mut bytes, RefTombstone { series, mint, maxt });
            if bytes.len() >= RECORD_BYTES {
                batch.push(&bytes);
                bytes.clear();
            }
        }
        if !bytes.is_empty() {
            batch.push(&bytes);
        }
        batch
    }
}
