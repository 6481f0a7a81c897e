//! Batches of samples: judged when appended, logged and applied when committed.
//!
//! Compat: prometheus `tsdb`, `headAppender`.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use model::histogram::InvalidHistogram;
use model::storage::{AppendError, Appendable, Appender, Error, SeriesKey, SeriesRef};
use model::{Labels, Timestamp, Value};

use super::grace::Epoch;
use super::series::{ALIVE, Applied, LOGGED, SERIES_PER_SHARD_MAX, TIME_MAX};
use super::slab::ID_LIST_MAX;
use super::{Head, IDX_BITS, Inner, Slot, pack_ref, unpack_ref};
use crate::wal::record::{self, RefSample};

/// A samples record is split here, so that replay shares its work well.
const RECORD_BYTES: usize = 64 << 10;

const _: () = assert!(SERIES_PER_SHARD_MAX <= 1 << IDX_BITS, "an index fits a slot");

impl Appendable for Head {
    fn appender(&self, affinity: u64) -> Box<dyn Appender + '_> {
        Box::new(self.batch(affinity))
    }
}

impl Head {
    /// As [`Appendable::appender`], without the indirect calls.
    pub fn batch(&self, affinity: u64) -> HeadAppender<'_> {
        let inner = &*self.0;
        HeadAppender {
            // First of all: what is marked from here on waits for this appender.
            epoch: inner.appenders.enter(),
            inner,
            home: inner.shard_of(affinity),
            bound: inner.bound(inner.max_time.load(Relaxed)),
            is_poisoned: inner.wal.read().as_ref().is_none_or(|wal| wal.poison().is_some()),
            rows: inner.spare_rows.lock().pop().unwrap_or_default(),
            unlogged: Vec::new(),
            shards: 0,
        }
    }
}

/// One sample of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    slot: Slot,
    generation: u16,
    /// The series' name in the log.
    wal_ref: u64,
    t: Timestamp,
    v: f64,
}

/// As many lists of rows are kept for the batches to come; a scrape needs one for milliseconds.
const SPARE_ROWS: usize = 8;

/// Longer lists are not kept.
const SPARE_ROWS_LEN: usize = 8 << 10;

impl Inner {
    /// The oldest time accepted, or nothing as long as the head is empty.
    fn bound(&self, maxt: Timestamp) -> Option<Timestamp> {
        let valid = self.min_valid_time.load(Relaxed);
        (maxt != Timestamp::MIN).then(|| valid.max(maxt.saturating_sub(self.options.chunk_range_ms / 2)))
    }
}

/// One batch.
#[derive(Debug)]
pub struct HeadAppender<'a> {
    inner: &'a Inner,
    /// The shard in which series of this batch are created.
    home: usize,
    bound: Option<Timestamp>,
    is_poisoned: bool,
    epoch: Epoch,
    rows: Vec<Row>,
    /// Slots of series whose record is not in the log yet; may repeat.
    unlogged: Vec<Slot>,
    /// One bit per shard that the batch touches.
    shards: u32,
}

impl Drop for HeadAppender<'_> {
    fn drop(&mut self) {
        self.inner.appenders.leave(self.epoch);
        self.rows.clear();
        if (1..=SPARE_ROWS_LEN).contains(&self.rows.capacity()) {
            let mut spare = self.inner.spare_rows.lock();
            if spare.len() < SPARE_ROWS {
                spare.push(std::mem::take(&mut self.rows));
            }
        }
    }
}

impl HeadAppender<'_> {
    /// As [`Appender::append`].
    #[inline]
    pub fn append(&mut self, key: SeriesKey<'_>, t: Timestamp, v: f64) -> Result<SeriesRef, AppendError> {
        if self.is_poisoned {
            return Err(AppendError::Poisoned);
        }
        let bound = match self.bound {
            Some(bound) => bound,
            None => *self.bound.insert(self.inner.bound(t).unwrap_or(t)),
        };
        if t < bound || !(-TIME_MAX..=TIME_MAX).contains(&t) {
            self.inner.metrics.out_of_bounds.inc();
            return Err(AppendError::OutOfBounds);
        }
        match key {
            SeriesKey::Ref(series) => {
                let (slot, generation) = unpack_ref(series);
                self.buffer(slot, generation, t, v)?;
                Ok(series)
            }
            SeriesKey::Labels(labels) => self.append_labels(labels, t, v),
        }
    }

    #[cold]
    fn append_labels(&mut self, labels: &Labels, t: Timestamp, v: f64) -> Result<SeriesRef, AppendError> {
        if labels.is_empty() || labels.len() > ID_LIST_MAX {
            return Err(AppendError::InvalidLabels);
        }
        // A series may leave between the look-up and the use; then it is found or made anew.
        for _ in 0..8 {
            let (slot, generation) = self.find_or_create(labels)?;
            match self.buffer(slot, generation, t, v) {
                // Whoever takes it away holds its shard until it cannot be found any more.
                Err(AppendError::UnknownSeries) => drop(self.inner.shards[slot.shard()].state.read()),
                Err(error) => return Err(error),
                Ok(()) => return Ok(pack_ref(slot, generation)),
            }
        }
        Err(AppendError::UnknownSeries)
    }

    fn find_or_create(&self, labels: &Labels) -> Result<(Slot, u16), AppendError> {
        let inner = self.inner;
        let registry = inner.registry.read();
        let hash = registry.hash(labels);
        if let Some((_, slot, generation)) = registry.find_slot(hash, labels) {
            return Ok((slot, generation));
        }
        let limit = inner.options.series_limit;
        if limit > 0 && registry.n_series() >= limit {
            return Err(AppendError::SeriesLimit);
        }
        drop(registry);
        let shard = &inner.shards[self.home];
        let mut state = shard.state.write();
        let mut registry = inner.registry.write();
        if let Some((_, slot, generation)) = registry.find_slot(hash, labels) {
            return Ok((slot, generation));
        }
        let wal_ref = inner.last_ref.fetch_add(1, Relaxed) + 1;
        let (idx, generation) = shard.birth(&mut state, wal_ref, 0).ok_or(AppendError::SeriesLimit)?;
        let slot = Slot::new(self.home, idx);
        let id = registry.create(hash, labels, slot.0, generation);
        state.cold[idx].id = id;
        inner.metrics.series_created.inc();
        Ok((slot, generation))
    }

    /// Judges a sample by the line of its series, which may be a moment old, and keeps it.
    #[inline]
    fn buffer(&mut self, slot: Slot, generation: u16, t: Timestamp, v: f64) -> Result<(), AppendError> {
        let shard = self.inner.shards.get(slot.shard()).ok_or(AppendError::UnknownSeries)?;
        let line = shard.lines.get(slot.idx()).ok_or(AppendError::UnknownSeries)?;
        let flags = line.claim();
        if line.generation() != generation || flags & ALIVE == 0 {
            return Err(AppendError::UnknownSeries);
        }
        let last_t = line.last_t();
        if t <= last_t {
            if t < last_t {
                self.inner.metrics.out_of_order.inc();
                return Err(AppendError::OutOfOrder);
            }
            if v.to_bits() != line.last_v() {
                return Err(AppendError::Duplicate);
            }
            return Ok(());
        }
        if flags & LOGGED == 0 {
            self.unlogged.push(slot);
        }
        self.rows.push(Row { slot, generation, wal_ref: line.wal_ref(), t, v });
        self.shards |= 1 << slot.shard();
        Ok(())
    }

    /// As [`Appender::commit`].
    pub fn commit(mut self) -> crate::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.unlogged.sort_unstable();
        self.unlogged.dedup();
        let ids = self.unlogged_ids();
        self.log(&ids)?;
        self.apply(&ids);
        Ok(())
    }

    /// The ids of the series to be logged, in the order of their creation.
    fn unlogged_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = Vec::with_capacity(self.unlogged.len());
        for group in self.unlogged.chunk_by(|a, b| a.shard() == b.shard()) {
            let state = self.inner.shards[group[0].shard()].state.read();
            ids.extend(group.iter().map(|slot| state.cold[slot.idx()].id));
        }
        ids.sort_unstable();
        ids
    }

    fn log(&self, ids: &[u32]) -> crate::Result<()> {
        let inner = self.inner;
        let wal = inner.wal.read();
        let wal = wal.as_ref().ok_or_else(|| crate::Error::Poisoned("the store is closed".to_owned()))?;
        let mut batch = wal.batch();
        let mut bytes = Vec::with_capacity(RECORD_BYTES.min(32 + self.rows.len() * 12));
        if !ids.is_empty() {
            let registry = inner.registry.read();
            for part in ids.chunks(512) {
                bytes.clear();
                record::begin_series(&mut bytes);
                for &id in part {
                    let slot = Slot(registry.entry(id).slot);
                    // Gone in the meantime: its samples are refused when applied.
                    let line = inner.shards.get(slot.shard()).and_then(|shard| shard.lines.get(slot.idx()));
                    if let Some(line) = line {
                        record::push_series(&mut bytes, line.wal_ref(), &registry.labels(id));
                    }
                }
                batch.push(&bytes);
            }
        }
        let mut base: Option<RefSample> = None;
        bytes.clear();
        for &Row { wal_ref: series, t, v, .. } in &self.rows {
            let sample = RefSample { series, st: 0, t, v };
            let base = *base.get_or_insert_with(|| {
                record::begin_samples(&mut bytes, sample);
                sample
            });
            record::push_sample(&mut bytes, base, sample);
            if bytes.len() >= RECORD_BYTES {
                batch.push(&bytes);
                bytes.clear();
                record::begin_samples(&mut bytes, base);
            }
        }
        // A samples record without samples has 17 bytes.
        if bytes.len() > 17 {
            batch.push(&bytes);
        }
        wal.log(batch)
    }

    /// Makes the logged batch visible, all of it at one moment.
    fn apply(&self, ids: &[u32]) {
        let inner = self.inner;
        let mut states: Vec<_> = inner
            .shards
            .iter()
            .enumerate()
            .map(|(n, shard)| (self.shards & (1 << n) != 0).then(|| shard.state.write()))
            .collect();
        if !ids.is_empty() {
            let mut registry = inner.registry.write();
            for &id in ids {
                registry.publish(id);
            }
            inner.published.fetch_add(1, SeqCst);
            for slot in &self.unlogged {
                inner.shards[slot.shard()].line(slot.idx()).flags.fetch_or(LOGGED, Relaxed);
            }
        }
        // Judged again, now that the shards are held: meanwhile a block may have been made of the times before.
        let bound = inner.bound(inner.max_time.load(Relaxed)).unwrap_or(Timestamp::MIN);
        let (mut mint, mut maxt) = (Timestamp::MAX, Timestamp::MIN);
        let (mut n_stored, mut n_late, mut n_beyond, mut n_gone) = (0, 0, 0, 0);
        let mut failure = None;
        for &Row { slot, generation, t, v, .. } in &self.rows {
            if t < bound {
                n_beyond += 1;
                continue;
            }
            let shard = &inner.shards[slot.shard()];
            let state = states[slot.shard()].as_mut().expect("every touched shard was locked above");
            let place = (slot.idx(), generation);
            match shard.apply(state, &inner.chunks, inner.options.chunk_range_ms, place, t, v) {
                Ok(Applied::Stored) => {
                    n_stored += 1;
                    mint = mint.min(t);
                    maxt = maxt.max(t);
                }
                Ok(Applied::Repeated) => {}
                Ok(Applied::OutOfOrder) => n_late += 1,
                Ok(Applied::Gone) => n_gone += 1,
                Err(e) => failure = Some(e),
            }
        }
        drop(states);
        if n_stored > 0 {
            inner.observe_times(mint, maxt);
        }
        inner.metrics.samples_appended.add(n_stored);
        inner.metrics.out_of_order.add(n_late);
        inner.metrics.out_of_bounds.add(n_beyond);
        if n_gone > 0 {
            tracing::warn!(samples = n_gone, "series left the head during a commit; their samples are lost");
        }
        // The samples are in the log: what could not be sealed now comes back with the next start.
        if let Some(e) = failure {
            tracing::error!(error = %e, "chunks cannot be sealed; samples of their series wait for a restart");
        }
    }
}

impl Appender for HeadAppender<'_> {
    fn append(&mut self, key: SeriesKey<'_>, t: Timestamp, v: f64) -> Result<SeriesRef, AppendError> {
        HeadAppender::append(self, key, t, v)
    }

    fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        _st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Float(v) => HeadAppender::append(self, key, t, v),
            Value::Histogram(_) | Value::FloatHistogram(_) => {
                Err(AppendError::InvalidHistogram(InvalidHistogram::InvalidSchema))
            }
        }
    }

    fn commit(self: Box<Self>) -> Result<(), Error> {
        HeadAppender::commit(*self).map_err(Error::new)
    }
}
