//! Batches of samples: judged when appended, logged and applied when committed.
//!
//! Compat: prometheus `tsdb`, `headAppenderV2`.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use model::histogram::AnyHistogram;
use model::storage::{AppendError, Appendable, Appender, Error, Metadata, SeriesKey, SeriesRef};
use model::{Exemplar, Labels, Timestamp, Value, is_stale};

use super::batch::{Beside, ExemplarRow, Group, HistogramRow, MetadataRow, zero_of};
use super::grace::Epoch;
use super::late;
use super::metrics::Typed;
use super::series::{ALIVE, Applied, HISTOGRAM, HotLine, LOGGED, SERIES_PER_SHARD_MAX, State, TIME_MAX};
use super::slab::ID_LIST_MAX;
use super::{Head, IDX_BITS, Inner, SHARDS_MAX, Slot, pack_ref, unpack_ref};
use crate::wal;
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
            bounds: inner.bounds(inner.max_time.load(Relaxed)),
            refuses_late: false,
            is_poisoned: inner.wal.read().as_ref().is_none_or(|wal| wal.poison().is_some()),
            rows: inner.spare_rows.lock().pop().unwrap_or_default(),
            starts: Vec::new(),
            beside: Beside::default(),
            unlogged: Vec::new(),
            shards: 0,
        }
    }
}

/// One float of a batch.
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
    /// The oldest time accepted in order, or nothing as long as the head is empty.
    fn bound(&self, maxt: Timestamp) -> Option<Timestamp> {
        let valid = self.min_valid_time.load(Relaxed);
        (maxt != Timestamp::MIN).then(|| valid.max(maxt.saturating_sub(self.options.chunk_range_ms / 2)))
    }

    fn bounds(&self, maxt: Timestamp) -> Option<Bounds> {
        self.bound(maxt).map(|in_order| Bounds { in_order, late: self.late.bound(maxt), maxt })
    }
}

/// What a batch accepts.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// The oldest time in order.
    in_order: Timestamp,
    /// The oldest time out of order; `MAX` as long as late samples are refused.
    late: Timestamp,
    /// The newest time of the head when the batch was opened.
    maxt: Timestamp,
}

/// One batch.
#[derive(Debug)]
pub struct HeadAppender<'a> {
    inner: &'a Inner,
    /// The shard in which series of this batch are created.
    home: usize,
    bounds: Option<Bounds>,
    refuses_late: bool,
    is_poisoned: bool,
    epoch: Epoch,
    rows: Vec<Row>,
    /// When the counts of `rows` began; empty if the store does not keep that.
    starts: Vec<Timestamp>,
    beside: Beside,
    /// Slots and generations of series whose record is not in the log yet; may repeat.
    unlogged: Vec<(Slot, u16)>,
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
        if !self.is_within_bounds(t)? {
            self.inner.metrics.out_of_bounds.float.inc();
            return Err(AppendError::OutOfBounds);
        }
        match key {
            SeriesKey::Ref(series) => {
                let (slot, generation) = unpack_ref(series);
                self.buffer(slot, generation, 0, t, v)?;
                Ok(series)
            }
            SeriesKey::Labels(labels) => self.append_labels(labels, 0, t, Value::Float(v)),
        }
    }

    /// As [`Appender::append_value`].
    pub fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Float(_) => {}
            Value::Histogram(histogram) => histogram.validate()?,
            Value::FloatHistogram(histogram) => histogram.validate()?,
        }
        if !self.is_within_bounds(t)? {
            self.inner.metrics.out_of_bounds.of(value).inc();
            return Err(AppendError::OutOfBounds);
        }
        match key {
            SeriesKey::Ref(series) => {
                let (slot, generation) = unpack_ref(series);
                self.buffer_value(slot, generation, st, t, value)?;
                Ok(series)
            }
            SeriesKey::Labels(labels) => self.append_labels(labels, st, t, value),
        }
    }

    /// Whether a sample at `t` may be appended at all.
    #[inline]
    fn is_within_bounds(&mut self, t: Timestamp) -> Result<bool, AppendError> {
        if self.is_poisoned {
            return Err(AppendError::Poisoned);
        }
        let bounds = if let Some(bounds) = self.bounds {
            bounds
        } else {
            let alone = Bounds { in_order: t, late: self.inner.late.bound(t), maxt: t };
            *self.bounds.insert(self.inner.bounds(t).unwrap_or(alone))
        };
        let is_refused = t < bounds.in_order && bounds.late == Timestamp::MAX;
        Ok(!is_refused && (-TIME_MAX..=TIME_MAX).contains(&t))
    }

    /// Whether a sample at `t` may be stored in order, as far as only its time says.
    #[inline]
    fn is_in_order(&self, t: Timestamp) -> bool {
        self.bounds.is_none_or(|bounds| t >= bounds.in_order)
    }

    /// Whether a sample may be stored although it cannot be stored in order.
    ///
    /// Compat: prometheus `tsdb`, `memSeries.appendable`.
    #[cold]
    fn judge_late(&self, t: Timestamp, value: Value<'_>) -> Result<(), AppendError> {
        let Some(bounds) = self.bounds else { return Ok(()) };
        let inner = self.inner;
        if t < bounds.maxt {
            inner.late.metrics.delta.observe((bounds.maxt - t) as f64 / 1000.0);
        }
        let is_late = t >= bounds.late;
        if is_late && !self.refuses_late {
            Ok(())
        } else if is_late || bounds.late == Timestamp::MAX {
            inner.metrics.out_of_order.of(value).inc();
            Err(AppendError::OutOfOrder)
        } else {
            inner.metrics.too_old.of(value).inc();
            Err(AppendError::TooOld)
        }
    }

    #[cold]
    fn append_labels(
        &mut self,
        labels: &Labels,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        if labels.is_empty() || labels.len() > ID_LIST_MAX {
            return Err(AppendError::InvalidLabels);
        }
        // A series may leave between the look-up and the use; then it is found or made anew.
        for _ in 0..8 {
            let (slot, generation) = self.find_or_create(labels)?;
            match self.buffer_value(slot, generation, st, t, value) {
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
        if limit > 0 && registry.n_created() >= limit {
            inner.metrics.series_refused.inc();
            return Err(AppendError::SeriesLimit);
        }
        drop(registry);
        let shard = &inner.shards[self.home];
        let mut state = shard.state.write();
        let mut registry = inner.registry.write();
        if let Some((_, slot, generation)) = registry.find_slot(hash, labels) {
            return Ok((slot, generation));
        }
        // A log that nobody sane wrote may name the greatest of all refs.
        let last = inner.last_ref.fetch_update(Relaxed, Relaxed, |last| last.checked_add(1));
        let wal_ref = last.map_err(|_| AppendError::SeriesLimit)? + 1;
        let (idx, generation) = shard.birth(&mut state, wal_ref, 0).ok_or(AppendError::SeriesLimit)?;
        let slot = Slot::new(self.home, idx);
        let id = registry.create(hash, labels, slot.0, generation);
        state.cold[idx].id = id;
        inner.metrics.series_created.inc();
        Ok((slot, generation))
    }

    /// The line of a series and its flags; the series stays as long as this batch does.
    #[inline]
    fn claim(&self, slot: Slot, generation: u16) -> Result<(&HotLine, u32), AppendError> {
        let shard = self.inner.shards.get(slot.shard()).ok_or(AppendError::UnknownSeries)?;
        let line = shard.lines.get(slot.idx()).ok_or(AppendError::UnknownSeries)?;
        let flags = line.claim();
        if line.generation() != generation || flags & ALIVE == 0 {
            return Err(AppendError::UnknownSeries);
        }
        Ok((line, flags))
    }

    /// Judges a float by the line of its series, which may be a moment old, and keeps it.
    #[inline]
    fn buffer(
        &mut self,
        slot: Slot,
        generation: u16,
        st: Timestamp,
        t: Timestamp,
        v: f64,
    ) -> Result<(), AppendError> {
        let (line, flags) = self.claim(slot, generation)?;
        let last_t = line.last_t();
        if t == last_t {
            if v.to_bits() != line.last_v() || flags & HISTOGRAM != 0 {
                return Err(AppendError::Duplicate);
            }
            return Ok(());
        }
        if t < last_t || !self.is_in_order(t) {
            self.judge_late(t, Value::Float(v))?;
        }
        let wal_ref = line.wal_ref();
        if flags & LOGGED == 0 {
            self.unlogged.push((slot, generation));
        }
        self.shards |= 1 << slot.shard();
        if self.beside.has_kinds()
            && let Some(kind) = self.beside.kind(slot)
        {
            if is_stale(v) {
                let histogram = kind.marker(v);
                let row = HistogramRow { slot, generation, wal_ref, st, t, histogram };
                self.beside.push_histogram(self.rows.len(), row);
                return Ok(());
            }
            self.beside.turn(self.rows.len());
        }
        self.rows.push(Row { slot, generation, wal_ref, t, v });
        if self.inner.options.features.stores_start_times {
            self.starts.push(st);
        }
        Ok(())
    }

    /// As [`HeadAppender::buffer`] for a value of any kind, after a zero where its count began if that is asked for.
    fn buffer_value(
        &mut self,
        slot: Slot,
        generation: u16,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<(), AppendError> {
        let options = &self.inner.options;
        if st != 0 && options.features.zero_at_start {
            match self.buffer_start(slot, generation, st, t, value) {
                Ok(()) => {}
                Err(AppendError::UnknownSeries) => return Err(AppendError::UnknownSeries),
                // Of counters that live on it is expected, and the sample itself is as good as without.
                Err(error) => tracing::trace!(%error, st, t, "no zero sample at the start of a count"),
            }
        }
        let st = if options.features.stores_start_times { st } else { 0 };
        match value {
            Value::Float(v) => self.buffer(slot, generation, st, t, v),
            Value::Histogram(it) => {
                let histogram = || AnyHistogram::Int(Box::new(it.clone()));
                self.buffer_histogram(slot, generation, st, t, value, histogram)
            }
            Value::FloatHistogram(it) => {
                let histogram = || AnyHistogram::Float(Box::new(it.clone()));
                self.buffer_histogram(slot, generation, st, t, value, histogram)
            }
        }
    }

    fn buffer_histogram(
        &mut self,
        slot: Slot,
        generation: u16,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
        keep: impl FnOnce() -> AnyHistogram,
    ) -> Result<(), AppendError> {
        let (line, flags) = self.claim(slot, generation)?;
        let last_t = line.last_t();
        if t < last_t || (t > last_t && !self.is_in_order(t)) {
            self.judge_late(t, value)?;
        }
        if t == last_t {
            let shard = &self.inner.shards[slot.shard()];
            let is_same = shard.repeats(&shard.state.read(), slot.idx(), value);
            return if is_same { Ok(()) } else { Err(AppendError::Duplicate) };
        }
        let wal_ref = line.wal_ref();
        if flags & LOGGED == 0 {
            self.unlogged.push((slot, generation));
        }
        self.shards |= 1 << slot.shard();
        let row = HistogramRow { slot, generation, wal_ref, st, t, histogram: keep() };
        self.beside.push_histogram(self.rows.len(), row);
        Ok(())
    }

    /// Puts a zero where the count of the sample at `t` began, if that is news to the series.
    ///
    /// Compat: prometheus `tsdb`, `headAppenderV2.bestEffortAppendSTZeroSample`.
    fn buffer_start(
        &mut self,
        slot: Slot,
        generation: u16,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<(), AppendError> {
        if st >= t {
            return Err(AppendError::StartNotBefore);
        }
        if !self.is_within_bounds(st)? {
            return Err(AppendError::OutOfBounds);
        }
        if st < self.claim(slot, generation)?.0.last_t() || !self.is_in_order(st) {
            return Err(AppendError::StartOutOfOrder);
        }
        match zero_of(value) {
            None => self.buffer(slot, generation, 0, st, 0.0),
            Some(zero) => {
                let value = Value::from(&zero);
                self.buffer_histogram(slot, generation, 0, st, value, || zero.clone())
            }
        }
    }

    /// As [`Appender::find`].
    pub fn find(&self, labels: &Labels) -> Option<SeriesRef> {
        let registry = self.inner.registry.read();
        let (_, slot, generation) = registry.find_slot(registry.hash(labels), labels)?;
        drop(registry);
        self.claim(slot, generation).is_ok().then(|| pack_ref(slot, generation))
    }

    /// As [`Appender::append_exemplar`].
    pub fn append_exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        if self.is_poisoned {
            return Err(AppendError::Poisoned);
        }
        let inner = self.inner;
        if !inner.exemplars.is_enabled() {
            return Err(AppendError::ExemplarsDisabled);
        }
        let (slot, generation) = unpack_ref(series);
        let (line, flags) = self.claim(slot, generation)?;
        let wal_ref = line.wal_ref();
        let state = inner.shards[slot.shard()].state.read();
        let series = inner.registry.read().labels(state.cold[slot.idx()].id);
        drop(state);
        if !inner.exemplars.judge(&series, exemplar)? {
            return Ok(());
        }
        if flags & LOGGED == 0 {
            self.unlogged.push((slot, generation));
        }
        self.shards |= 1 << slot.shard();
        self.beside.exemplars.push(ExemplarRow { wal_ref, series, exemplar: exemplar.clone() });
        Ok(())
    }

    /// As [`Appender::update_metadata`].
    pub fn update_metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        let inner = self.inner;
        if !inner.options.features.logs_metadata {
            return Ok(());
        }
        let (slot, generation) = unpack_ref(series);
        let (line, flags) = self.claim(slot, generation)?;
        let wal_ref = line.wal_ref();
        let known = inner.shards[slot.shard()].state.read().metadata(slot.idx());
        if inner.metadata.is(known, metadata) {
            return Ok(());
        }
        if flags & LOGGED == 0 {
            self.unlogged.push((slot, generation));
        }
        self.shards |= 1 << slot.shard();
        self.beside.metadata.push(MetadataRow { slot, generation, wal_ref, metadata: metadata.clone() });
        Ok(())
    }

    /// As [`Appender::commit`].
    pub fn commit(mut self) -> crate::Result<()> {
        if self.rows.is_empty() && self.beside.is_empty() {
            return Ok(());
        }
        self.unlogged.sort_unstable();
        self.unlogged.dedup();
        self.log()?;
        self.apply();
        Ok(())
    }

    fn log(&self) -> crate::Result<()> {
        let inner = self.inner;
        let wal = inner.wal.read();
        let wal = wal.as_ref().ok_or_else(|| crate::Error::Poisoned("the store is closed".to_owned()))?;
        let mut batch = wal.batch();
        if !self.unlogged.is_empty() {
            self.log_series(&mut batch);
        }
        for group in self.beside.groups(self.rows.len()) {
            self.log_group(&group, &mut batch);
        }
        wal.log(batch)
    }

    /// The records of series that the log does not know, in the order of their creation.
    fn log_series(&self, batch: &mut wal::Batch) {
        let inner = self.inner;
        let mut series: Vec<(u64, u32)> = Vec::with_capacity(self.unlogged.len());
        let mut states = Vec::new();
        for group in self.unlogged.chunk_by(|a, b| a.0.shard() == b.0.shard()) {
            let shard = &inner.shards[group[0].0.shard()];
            let state = shard.state.read();
            for &(slot, generation) in group {
                let line = shard.line(slot.idx());
                // If not, it is gone in the meantime: its samples are refused when applied.
                if line.generation() == generation {
                    series.push((line.wal_ref(), state.cold[slot.idx()].id));
                }
            }
            // Held on to, so that ids stay those of their series.
            states.push(state);
        }
        series.sort_unstable();
        let registry = inner.registry.read();
        let mut bytes = Vec::new();
        for part in series.chunks(512) {
            bytes.clear();
            record::begin_series(&mut bytes);
            for &(wal_ref, id) in part {
                record::push_series(&mut bytes, wal_ref, &registry.labels(id));
            }
            batch.push(&bytes);
        }
    }

    /// Upstream's order: metadata, floats, histograms by kind, exemplars.
    fn log_group(&self, group: &Group, batch: &mut wal::Batch) {
        let stores_start_times = self.inner.options.features.stores_start_times;
        let beside = &self.beside;
        let mut bytes = batch.take_buffer();
        let mut flush = |bytes: &mut Vec<u8>, len_min: usize| {
            if bytes.len() >= len_min {
                batch.push(bytes);
                bytes.clear();
            }
        };
        for row in &beside.metadata[group.metadata.clone()] {
            record::push_metadata(&mut bytes, row.wal_ref, &row.metadata);
            flush(&mut bytes, RECORD_BYTES);
        }
        flush(&mut bytes, 1);
        let mut samples = record::Samples::new(stores_start_times);
        for at in group.rows.clone() {
            let Row { wal_ref: series, t, v, .. } = self.rows[at];
            let st = self.starts.get(at).copied().unwrap_or(0);
            samples.push(&mut bytes, RefSample { series, st, t, v });
            flush(&mut bytes, RECORD_BYTES);
        }
        flush(&mut bytes, 1);
        if !group.histograms.is_empty() {
            let mut records = record::HistogramRecords::new(stores_start_times);
            for row in &beside.histograms[group.histograms.clone()] {
                records.push(row.wal_ref, row.st, row.t, Value::from(&row.histogram));
            }
            records.drain(|record| batch.push(record));
        }
        let mut exemplars = record::Exemplars::default();
        for row in &beside.exemplars[group.exemplars.clone()] {
            exemplars.push(&mut bytes, row.wal_ref, &row.exemplar);
            if bytes.len() >= RECORD_BYTES {
                batch.push(&bytes);
                bytes.clear();
            }
        }
        if !bytes.is_empty() {
            batch.push(&bytes);
        }
        batch.return_buffer(bytes);
    }

    /// Makes the logged batch visible, all of it at one moment.
    fn apply(&self) {
        let inner = self.inner;
        // By number, as all locks of shards; on the stack, as a warm commit asks for no memory.
        let mut states: [Option<Guard<'_>>; SHARDS_MAX] = std::array::from_fn(|n| {
            let shard = inner.shards.get(n).filter(|_| self.shards & (1 << n) != 0);
            shard.map(|shard| shard.state.write())
        });
        if !self.unlogged.is_empty() {
            let mut registry = inner.registry.write();
            for &(slot, generation) in &self.unlogged {
                let line = inner.shards[slot.shard()].line(slot.idx());
                if line.generation() == generation {
                    registry.publish(state_of(&mut states, slot).cold[slot.idx()].id);
                    line.flags.fetch_or(LOGGED, Relaxed);
                }
            }
            inner.published.fetch_add(1, SeqCst);
        }
        // Judged again, now that the shards are held: meanwhile a block may have been made of the times before.
        let bound = inner.bound(inner.max_time.load(Relaxed)).unwrap_or(Timestamp::MIN);
        let mut tally = Tally { mint: Timestamp::MAX, maxt: Timestamp::MIN, ..Tally::default() };
        let mut late = late::Commit::new(inner, self.bounds.map_or(Timestamp::MAX, |bounds| bounds.late));
        for group in self.beside.groups(self.rows.len()) {
            self.apply_floats(&group, bound, &mut states, &mut tally, &mut late);
            for row in &self.beside.histograms[group.histograms] {
                let &HistogramRow { slot, generation, st, t, .. } = row;
                let (state, place) = (state_of(&mut states, slot), (slot.idx(), generation));
                let value = Value::from(&row.histogram);
                let shard = &inner.shards[slot.shard()];
                if t < bound {
                    let is_taken = late.insert(shard, state, place, (st, t), value);
                    tally.n_beyond.histogram += u64::from(!is_taken);
                    continue;
                }
                let applied = shard.apply_value(state, &inner.chunks, &inner.options, place, st, t, value);
                let is_late = matches!(applied, Ok(Applied::OutOfOrder));
                if !is_late || !late.insert(shard, state, place, (st, t), value) {
                    tally.count(value, t, applied);
                }
            }
            for row in &self.beside.metadata[group.metadata] {
                let shard = &inner.shards[row.slot.shard()];
                if shard.line(row.slot.idx()).generation() == row.generation {
                    let id = inner.metadata.intern(&row.metadata);
                    state_of(&mut states, row.slot).set_metadata(row.slot.idx(), id);
                }
            }
        }
        late.publish();
        drop(states);
        tally.n_gone += late.n_gone;
        inner.metrics.samples_appended.add(late.finish());
        for row in &self.beside.exemplars {
            // Another batch may have been faster; that is counted there.
            let _ = inner.exemplars.add(&row.series, &row.exemplar);
        }
        tally.report(inner);
    }

    fn apply_floats(
        &self,
        group: &Group,
        bound: Timestamp,
        states: &mut [Option<Guard<'_>>],
        tally: &mut Tally,
        late: &mut late::Commit<'_>,
    ) {
        let inner = self.inner;
        let options = &inner.options;
        for at in group.rows.clone() {
            let Row { slot, generation, t, v, .. } = self.rows[at];
            let shard = &inner.shards[slot.shard()];
            let (state, place) = (state_of(states, slot), (slot.idx(), generation));
            let st = self.starts.get(at).copied();
            let started = (st.unwrap_or(0), t);
            if t < bound {
                let is_taken = late.insert(shard, state, place, started, Value::Float(v));
                tally.n_beyond.float += u64::from(!is_taken);
                continue;
            }
            let applied = match st {
                None => shard.apply(state, &inner.chunks, options, place, t, v),
                Some(st) => shard.apply_value(state, &inner.chunks, options, place, st, t, Value::Float(v)),
            };
            let is_late = matches!(applied, Ok(Applied::OutOfOrder));
            if !is_late || !late.insert(shard, state, place, started, Value::Float(v)) {
                tally.count(Value::Float(v), t, applied);
            }
        }
    }
}

type Guard<'a> = parking_lot::RwLockWriteGuard<'a, State>;

#[inline]
fn state_of<'a>(states: &'a mut [Option<Guard<'_>>], slot: Slot) -> &'a mut State {
    states[slot.shard()].as_mut().expect("every touched shard was locked")
}

/// How the samples of a batch went.
#[derive(Debug, Default)]
struct Tally {
    mint: Timestamp,
    maxt: Timestamp,
    n_stored: Typed<u64>,
    n_late: Typed<u64>,
    n_beyond: Typed<u64>,
    n_gone: u64,
    failure: Option<crate::Error>,
}

impl Tally {
    #[inline]
    fn count(&mut self, value: Value<'_>, t: Timestamp, applied: crate::Result<Applied>) {
        match applied {
            Ok(Applied::Stored) => {
                *self.n_stored.of_mut(value) += 1;
                self.mint = self.mint.min(t);
                self.maxt = self.maxt.max(t);
            }
            Ok(Applied::Repeated) => {}
            Ok(Applied::OutOfOrder) => *self.n_late.of_mut(value) += 1,
            Ok(Applied::Gone) => self.n_gone += 1,
            Ok(Applied::Malformed) => debug_assert!(false, "BUG: validated when appended"),
            Err(e) => self.failure = Some(e),
        }
    }

    fn report(self, inner: &Inner) {
        if self.mint <= self.maxt {
            inner.observe_times(self.mint, self.maxt);
        }
        inner.metrics.samples_appended.add(self.n_stored);
        inner.metrics.out_of_order.add(self.n_late);
        inner.metrics.out_of_bounds.add(self.n_beyond);
        if self.n_gone > 0 {
            tracing::warn!(
                samples = self.n_gone,
                "series left the head during a commit; their samples are lost"
            );
        }
        // The samples are in the log: what could not be sealed now comes back with the next start.
        if let Some(e) = self.failure {
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
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        HeadAppender::append_value(self, key, st, t, value)
    }

    fn refuse_late(&mut self, is_refused: bool) {
        self.refuses_late = is_refused;
    }

    fn find(&mut self, labels: &Labels) -> Option<SeriesRef> {
        HeadAppender::find(self, labels)
    }

    fn append_exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        HeadAppender::append_exemplar(self, series, exemplar)
    }

    fn update_metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        HeadAppender::update_metadata(self, series, metadata)
    }

    fn commit(self: Box<Self>) -> Result<(), Error> {
        HeadAppender::commit(*self).map_err(Error::new)
    }
}
