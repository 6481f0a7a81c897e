//! Late samples: older than what their series takes in order, and inside the out-of-order window.
//!
//! A series that gets one has an open chunk of up to 32 plain samples, sorted, and a list of the chunks that it
//! filled before; those are sealed in the mapped files like all others, with a mark ([`super::chunks`]). A view
//! merges them with what came in order ([`Seen`]); [`compact`] hands them to blocks of their own and forgets them.
//! They have a log of their own ([`log`]), which [`replay`] reads back.
//!
//! Where two samples have the same time the one that was stored first is the one that counts.
//!
//! Compat: prometheus `tsdb/ooo_head.go`, `OOOChunk`; `tsdb/head_append.go`, `memSeries.insert`.

mod compact;
mod log;
mod metrics;
mod replay;

use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use model::histogram::CounterResetHint;
use model::sample::Position;
use model::wire::expose::Exposition;
use model::{AnyHistogram, HistogramSample, SampleBatch, TimeRange, Timestamp, Value, is_stale};
use parking_lot::Mutex;

use super::batch::Kind;
use super::chunks::{Files, Sealed};
use super::metrics::Typed;
use super::series::{HISTOGRAM, INT_HISTOGRAM, Shard, State};
use super::{Head, Inner};
use crate::chunk::{self, EncodedChunk, FloatEncoding};
use crate::{Error, Result, wal};

pub use compact::{LateSamples, LateWindow};
pub(super) use replay::replay;

use log::{Log, Records};
use metrics::Metrics;

/// The samples of an open chunk when it is sealed. Compat: prometheus `tsdb`, `DefaultOutOfOrderCapMax`.
const SAMPLES_PER_CHUNK: usize = 32;

/// What the head has for late samples beside those.
#[derive(Debug)]
pub(super) struct Shared {
    /// In ms; zero refuses them.
    window: AtomicI64,
    times: Mutex<Times>,
    log: Log,
    pub(super) metrics: Metrics,
}

/// Between which times there are late samples; `MAX` and `MIN` where there are none.
#[derive(Clone, Copy, Debug)]
struct Times {
    min: Timestamp,
    max: Timestamp,
    /// Of what was stored since a collection began to look: it may have looked too early.
    min_since: Timestamp,
    max_since: Timestamp,
}

impl Shared {
    pub(super) fn new(dir: &Path, window_ms: i64, options: wal::Options) -> Self {
        let (min, max) = (Timestamp::MAX, Timestamp::MIN);
        Self {
            window: AtomicI64::new(window_ms.max(0)),
            times: Mutex::new(Times { min, max, min_since: min, max_since: max }),
            log: Log::new(dir, options),
            metrics: Metrics::default(),
        }
    }

    /// The oldest late sample that a batch takes which is opened while `maxt` is the head's newest time.
    pub(super) fn bound(&self, maxt: Timestamp) -> Timestamp {
        match self.window.load(Relaxed) {
            0 => Timestamp::MAX,
            window => maxt.saturating_sub(window),
        }
    }

    /// Starts to log if late samples are taken, or if there is a log already.
    pub(super) fn open_log(&self) -> Result<()> {
        if self.window.load(Relaxed) > 0 || self.log.is_begun() { self.log.open() } else { Ok(()) }
    }

    /// Whether what is stored late is logged.
    pub(super) fn is_logged(&self) -> bool {
        self.log.is_open()
    }

    pub(super) fn close(&self) -> Result<()> {
        self.log.close()
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        self.metrics.expose(out);
        self.log.expose(out);
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// Called with the shards held that were changed.
    fn observe(&self, mint: Timestamp, maxt: Timestamp) {
        let mut times = self.times.lock();
        times.min = times.min.min(mint);
        times.max = times.max.max(maxt);
        times.min_since = times.min_since.min(mint);
        times.max_since = times.max_since.max(maxt);
    }

    /// The times of the oldest and newest late sample, if there are any.
    pub(super) fn range(&self) -> Option<TimeRange> {
        let times = self.times.lock();
        (times.min <= times.max).then(|| TimeRange::new(times.min, times.max))
    }

    /// The time of the oldest late sample, if there is one.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.range().map(|range| range.mint)
    }

    /// Before a collection looks at the first shard.
    pub(super) fn begin_collection(&self) {
        let mut times = self.times.lock();
        (times.min_since, times.max_since) = (Timestamp::MAX, Timestamp::MIN);
    }

    /// After a collection saw late samples between these times.
    pub(super) fn end_collection(&self, mint: Timestamp, maxt: Timestamp) {
        let mut times = self.times.lock();
        (times.min, times.max) = (times.min_since.min(mint), times.max_since.max(maxt));
    }

    /// Whether there may be late samples in `range`.
    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        let times = self.times.lock();
        times.min <= range.maxt && times.max >= range.mint
    }
}

impl Head {
    /// The window within which late samples are taken from now on; zero refuses them. What was taken stays.
    ///
    /// # Errors
    /// Their log cannot be opened; the window is what it was.
    pub fn set_out_of_order_window(&self, window_ms: i64) -> Result<()> {
        if window_ms > 0 {
            self.0.late.log.open()?;
        }
        self.0.late.window.store(window_ms.max(0), Relaxed);
        self.0.exemplars.set_window(window_ms);
        Ok(())
    }

    /// The times of the oldest and newest late sample, if there are any.
    pub fn late_times(&self) -> Option<TimeRange> {
        self.0.late.range()
    }
}

/// The late samples of one series.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// The open chunk: ascending times, [`SAMPLES_PER_CHUNK`] at most unless it cannot be sealed.
    open: SampleBatch,
    /// In order of writing.
    sealed: Vec<Sealed>,
}

/// How a late sample was taken.
#[derive(Debug, Default)]
struct Inserted {
    /// Else there is one of that time in the open chunk.
    is_stored: bool,
    /// A chunk was begun; these are the ones that what was open before went to.
    begun: Option<Vec<Sealed>>,
    failure: Option<Error>,
}

impl Late {
    fn n_open(&self) -> usize {
        self.open.ts.len() + self.open.histograms.len()
    }

    fn n_chunks(&self) -> u64 {
        self.sealed.len() as u64 + u64::from(self.n_open() > 0)
    }

    fn is_empty(&self) -> bool {
        self.n_chunks() == 0
    }

    /// Puts a sample into the open chunk, a new one if that is full.
    fn insert(
        &mut self,
        wal_ref: u64,
        inner: &Inner,
        (st, t): (Timestamp, Timestamp),
        value: Value<'_>,
    ) -> Inserted {
        let mut inserted = Inserted::default();
        if self.n_open() >= SAMPLES_PER_CHUNK {
            // A chunk that no file takes grows: what is accepted is kept.
            match self.seal(wal_ref, inner) {
                Ok(sealed) => inserted.begun = Some(sealed),
                Err(e) => inserted.failure = Some(e),
            }
        } else if self.n_open() == 0 {
            inserted.begun = Some(Vec::new());
        }
        inserted.is_stored = insert_sorted(&mut self.open, st, t, value);
        inserted
    }

    /// Moves the open chunk to the mapped files: one chunk there, or several if it holds samples of several types.
    fn seal(&mut self, wal_ref: u64, inner: &Inner) -> Result<Vec<Sealed>> {
        let mut sealed = Vec::new();
        let floats = inner.options.features.floats;
        for chunk in encode(&self.open, floats, u16::MAX) {
            sealed.push(inner.chunks.write_late(wal_ref, &chunk)?);
        }
        self.sealed.extend_from_slice(&sealed);
        self.open.clear();
        Ok(sealed)
    }

    /// The span of all of it, if there is anything.
    pub(super) fn span(&self) -> Option<TimeRange> {
        let sealed = self.sealed.iter().map(|chunk| (chunk.mint, chunk.maxt));
        let times = self.open.ts.iter().copied().chain(self.open.histograms.iter().map(|sample| sample.t));
        sealed
            .chain(times.map(|t| (t, t)))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            .map(|(mint, maxt)| TimeRange::new(mint, maxt))
    }

    /// What it holds of memory.
    pub(super) fn bytes(&self) -> usize {
        let SampleBatch { ts, vs, sts, histograms } = &self.open;
        size_of::<Self>()
            + 8 * (ts.capacity() + vs.capacity() + sts.capacity())
            + size_of::<HistogramSample>() * histograms.capacity()
            + size_of::<Sealed>() * self.sealed.capacity()
    }

    /// The place of its oldest chunk.
    pub(super) fn oldest_chunk(&self) -> Option<u64> {
        self.sealed.iter().map(Sealed::place).min()
    }
}

/// Puts a sample where its time belongs; false if there is one of that time or it is none.
///
/// What a histogram says of the one before it is not kept, since others come between; only gauges stay gauges.
fn insert_sorted(batch: &mut SampleBatch, st: Timestamp, t: Timestamp, value: Value<'_>) -> bool {
    let of_floats = batch.ts.binary_search(&t);
    let of_histograms = batch.histograms.binary_search_by_key(&t, |sample| sample.t);
    let (Err(float), Err(histogram)) = (of_floats, of_histograms) else { return false };
    let is_well_formed = match value {
        Value::Float(_) => true,
        Value::Histogram(it) => it.is_well_formed(),
        Value::FloatHistogram(it) => it.is_well_formed(),
    };
    if !is_well_formed {
        // Appenders validate; a log may hold anything.
        return false;
    }
    let mut boxed = match value {
        Value::Float(v) => {
            if st != 0 && batch.sts.is_empty() {
                batch.sts.resize(batch.ts.len(), 0);
            }
            if st != 0 || !batch.sts.is_empty() {
                batch.sts.insert(float, st);
            }
            batch.ts.insert(float, t);
            batch.vs.insert(float, v);
            return true;
        }
        Value::Histogram(it) => AnyHistogram::Int(Box::new(it.clone())),
        Value::FloatHistogram(it) => AnyHistogram::Float(Box::new(it.clone())),
    };
    if boxed.counter_reset_hint() != CounterResetHint::Gauge {
        boxed.set_counter_reset_hint(CounterResetHint::Unknown);
    }
    batch.histograms.insert(histogram, HistogramSample { t, st, histogram: boxed });
    true
}

impl State {
    pub(super) fn late(&self, idx: u32) -> Option<&Late> {
        self.extension(idx)?.late.as_deref()
    }

    fn late_mut(&mut self, idx: u32) -> &mut Late {
        self.extension_mut(idx).late.get_or_insert_default()
    }

    /// Applies `change` to the late samples of a series and keeps the count of chunks right.
    fn change_late<T>(&mut self, idx: u32, change: impl FnOnce(&mut Late) -> T) -> T {
        let late = self.late_mut(idx);
        let before = late.n_chunks();
        let changed = change(late);
        let after = late.n_chunks();
        if late.is_empty() {
            self.extension_mut(idx).late = None;
        }
        self.n_late_chunks = self.n_late_chunks + after - before;
        self.n_removed += before.saturating_sub(after);
        changed
    }

    /// Forgets the late samples of a series that goes.
    pub(super) fn drop_late(&mut self, idx: u32) {
        if self.late(idx).is_some() {
            self.change_late(idx, |late| *late = Late::default());
        }
    }
}

/// The late samples of one commit.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    inner: &'a Inner,
    /// Older ones are refused; `MAX` refuses all.
    bound: Timestamp,
    records: Records,
    mint: Timestamp,
    maxt: Timestamp,
    n_stored: Typed<u64>,
    n_too_old: Typed<u64>,
    pub(super) n_gone: u64,
    failure: Option<Error>,
}

impl<'a> Commit<'a> {
    pub(super) fn new(inner: &'a Inner, bound: Timestamp) -> Self {
        Self {
            inner,
            bound,
            records: Records::new(inner.options.features.stores_start_times),
            mint: Timestamp::MAX,
            maxt: Timestamp::MIN,
            n_stored: Typed::default(),
            n_too_old: Typed::default(),
            n_gone: 0,
            failure: None,
        }
    }

    /// Takes a sample that its series does not take in order; false if late samples are refused.
    #[cold]
    pub(super) fn insert(
        &mut self,
        shard: &Shard,
        state: &mut State,
        (idx, generation): (u32, u16),
        (st, t): (Timestamp, Timestamp),
        value: Value<'_>,
    ) -> bool {
        if self.bound == Timestamp::MAX {
            return false;
        }
        let line = shard.line(idx).load();
        let flags = shard.line(idx).flags.load(Relaxed);
        let marker;
        let value = match value {
            // It ends a series of histograms, so it is one.
            Value::Float(v) if is_stale(v) && flags & HISTOGRAM != 0 => {
                let kind = if flags & INT_HISTOGRAM == 0 { Kind::Float } else { Kind::Int };
                marker = kind.marker(v);
                Value::from(&marker)
            }
            value => value,
        };
        if line.generation != generation {
            self.n_gone += 1;
        } else if t < self.bound {
            *self.n_too_old.of_mut(value) += 1;
        } else if t != line.last_t() {
            // Of the time of the newest it would never be seen.
            let inner = self.inner;
            let inserted = state.change_late(idx, |late| late.insert(line.wal_ref, inner, (st, t), value));
            if let Some(sealed) = inserted.begun {
                self.records.begin_chunk(line.wal_ref, &sealed);
            }
            if inserted.is_stored {
                self.records.sample(line.wal_ref, st, t, value);
                self.mint = self.mint.min(t);
                self.maxt = self.maxt.max(t);
                *self.n_stored.of_mut(value) += 1;
            }
            self.failure = inserted.failure.or(self.failure.take());
        }
        true
    }

    /// Before the shards are let go: what readers and the log have to know in order.
    pub(super) fn publish(&mut self) {
        if self.mint <= self.maxt {
            self.inner.late.observe(self.mint, self.maxt);
            self.inner.late.log.enqueue(&mut self.records);
        }
    }

    /// Afterwards: logs them. Returns how many were stored.
    pub(super) fn finish(self) -> Typed<u64> {
        let late = &self.inner.late;
        if self.mint <= self.maxt {
            late.log.flush();
        }
        late.metrics.appended.add(self.n_stored);
        self.inner.metrics.too_old.add(self.n_too_old);
        if let Some(e) = self.failure {
            tracing::error!(error = %e, "chunks of late samples cannot be sealed and stay in memory");
        }
        self.n_stored
    }
}

/// The late samples of one series in a view.
#[derive(Debug)]
pub(super) struct Seen {
    sealed: Vec<Sealed>,
    open: SampleBatch,
}

impl Late {
    /// A copy of what lies in `range`, if anything does.
    pub(super) fn seen(&self, range: TimeRange) -> Option<Seen> {
        let overlaps = |chunk: &&Sealed| chunk.mint <= range.maxt && chunk.maxt >= range.mint;
        let sealed: Vec<Sealed> = self.sealed.iter().filter(overlaps).copied().collect();
        let open = laid_out(&self.open, range);
        (!sealed.is_empty() || !open.ts.is_empty() || !open.histograms.is_empty())
            .then_some(Seen { sealed, open })
    }
}

impl Seen {
    /// Merges what lies in `range` into what `out` has from `start` on; at equal times what is there stays.
    pub(super) fn merge_into(
        &self,
        inner: &Inner,
        files: &Files,
        range: TimeRange,
        start: Position,
        out: &mut SampleBatch,
    ) -> Result<()> {
        let mut parts = Vec::with_capacity(self.sealed.len() + 1);
        for &at in self.sealed.iter().filter(|at| at.mint <= range.maxt && at.maxt >= range.mint) {
            parts.push(read(inner, files, at, range)?);
        }
        parts.push(part(&self.open, range));
        let late = merged(parts);
        if late.ts.is_empty() && late.histograms.is_empty() {
            return Ok(());
        }
        out.merge_from(start, &late);
        Ok(())
    }
}

/// What a sealed chunk has in `range`.
fn read(inner: &Inner, files: &Files, at: Sealed, range: TimeRange) -> Result<SampleBatch> {
    let mut out = SampleBatch::default();
    let decoded =
        inner.chunks.read(files, at, |encoding, bytes| chunk::decode(encoding, bytes, range, &mut out))?;
    decoded.map_err(|e| Error::corrupt(&inner.wal_dir, u64::from(at.offset), e.to_string()))?;
    Ok(out)
}

/// One batch of several; at equal times the sample of the first stays.
fn merged(mut parts: Vec<SampleBatch>) -> SampleBatch {
    // By pairs, so that each sample is copied a logarithm of times.
    while parts.len() > 1 {
        let mut pairs = std::mem::take(&mut parts).into_iter();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                first.merge_from(Position::default(), &second);
            }
            parts.push(first);
        }
    }
    parts.pop().unwrap_or_default()
}

/// The samples of a batch in `range`.
fn part(batch: &SampleBatch, range: TimeRange) -> SampleBatch {
    let mut out = SampleBatch::default();
    for (i, sample) in batch.iter().enumerate().filter(|(_, sample)| range.contains(sample.t)) {
        out.push_started(batch.st(i), sample.t, sample.v);
    }
    out.histograms.extend(batch.histograms.iter().filter(|sample| range.contains(sample.t)).cloned());
    out
}

/// As [`part`], histograms with the buckets that they list once the batch is a chunk: a chunk lists the same for all,
/// and functions that ask whether two histograms are equal shall see the same before and after.
fn laid_out(batch: &SampleBatch, range: TimeRange) -> SampleBatch {
    let mut out = part(batch, range);
    if out.histograms.is_empty() {
        return out;
    }
    let mut laid_out = SampleBatch::default();
    for chunk in encode(batch, FloatEncoding::default(), u16::MAX) {
        chunk::decode(chunk.encoding, &chunk.bytes, range, &mut laid_out)
            .expect("what was encoded here can be decoded");
    }
    for (sample, laid_out) in out.histograms.iter_mut().zip(laid_out.histograms) {
        // What a chunk knows of resets holds only as long as nothing comes between its samples.
        let hint = sample.histogram.counter_reset_hint();
        sample.histogram = laid_out.histogram;
        sample.histogram.set_counter_reset_hint(hint);
    }
    out
}

/// As chunks of at most `per_chunk` samples.
///
/// What start times there are were wanted when they were stored.
fn encode(batch: &SampleBatch, floats: FloatEncoding, per_chunk: u16) -> Vec<EncodedChunk> {
    let mut chunks = Vec::new();
    chunk::encode_batch(batch, floats, true, per_chunk, |chunk| chunks.push(chunk));
    chunks
}

#[cfg(test)]
mod tests;
