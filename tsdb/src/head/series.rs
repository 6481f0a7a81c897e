//! The lines of series and the shards they live in.
//!
//! What an append touches is one 64-byte line and the end of one buffer. The lines of a target lie side by side in
//! the order in which its series were created, which is that of its exposition.
//!
//! A line is words of atomics: the writer changes it under the lock of its shard; an appender that only wants to
//! judge a sample looks at it without. What it sees may be a moment old, which is why the commit
//! judges again.
//!
//! Plain floats are encoded with what the line knows. Any other open chunk is a builder in the [`Extension`]; the
//! line then tells its times and its number of samples only.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use model::{
    AnyHistogram, FloatHistogram, Histogram, STALE_NAN, SampleBatch, TimeRange, Timestamp, Value, is_stale,
};
use parking_lot::RwLock;

use super::Options;
use super::chunks::{HeadChunks, Sealed};
use super::extension::{Extension, Open};
use super::slab::{NONE, Paged, Slab};
use crate::chunk::{self, Encoding, FloatEncoding, xor};

/// Samples that a chunk should hold. Compat: prometheus `tsdb`, `DefaultSamplesPerChunk`.
pub(crate) const SAMPLES_PER_CHUNK: u16 = 120;

/// A chunk is cut before a sample of the greatest length might take it past 1024 bytes.
/// Compat: prometheus `tsdb/chunkenc`, `MaxBytesPerXORChunk`.
pub(crate) const CHUNK_BYTES_CUT: usize = 1024 - 19;

/// The first bytes of a chunk's life; two samples fit.
const FIRST_BUFFER_BYTES: usize = 24;

/// Times beyond this do not fit the packed description of a chunk (the year 6429).
pub(super) const TIME_MAX: Timestamp = (1 << 47) - 1;

/// The series record is in the log.
pub(super) const LOGGED: u32 = 1;
/// The slot is in use.
pub(super) const ALIVE: u32 = 2;
/// A truncation found nothing left of the series and will take it away unless an appender clears the bit before.
pub(super) const LEAVING: u32 = 4;
/// The newest sample is a histogram with integer counts.
pub(super) const INT_HISTOGRAM: u32 = 8;
/// The newest sample is a histogram with float counts.
pub(super) const FLOAT_HISTOGRAM: u32 = 16;
/// The newest sample is a histogram; the value in the line is its sum then.
pub(super) const HISTOGRAM: u32 = INT_HISTOGRAM | FLOAT_HISTOGRAM;

/// Stands for a buffer: the open chunk is in the series' extension, and `n_bits` of its line counts its samples.
pub(super) const IN_EXTENSION: u32 = NONE - 1;

/// The bytes that a chunk of histograms should have. Compat: prometheus `tsdb/chunkenc`,
/// `TargetBytesPerHistogramChunk`.
const HISTOGRAM_CHUNK_BYTES: usize = 1024;

/// A chunk of histograms is not cut for its size before. Compat: prometheus `tsdb/chunkenc`,
/// `MinSamplesPerHistogramChunk`.
const HISTOGRAM_CHUNK_SAMPLES_MIN: u16 = 10;

/// A line as plain values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) xor: xor::State,
    /// The name of the series in the log.
    pub(super) wal_ref: u64,
    /// Of the open chunk.
    pub(super) first_t: Timestamp,
    /// The open chunk ends before this time: ms after `first_t`.
    pub(super) cut_after: u32,
    pub(super) buffer: u32,
    /// Chunks sealed since the series was born, those gone again included.
    pub(super) n_sealed: u32,
    pub(super) generation: u16,
    /// The last byte of the stream while it is not full: kept here so that an append only writes to the buffer and
    /// never waits for it to come into the cache.
    partial: u8,
}

/// A line in memory.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct HotLine {
    last_t: AtomicU64,
    last_v: AtomicU64,
    wal_ref: AtomicU64,
    first_t: AtomicU64,
    /// Last difference of times, span until the cut.
    spans: AtomicU64,
    /// Buffer, bits, samples, last byte.
    open: AtomicU64,
    /// Sealed chunks, generation, leading, trailing.
    rest: AtomicU64,
    pub(super) flags: AtomicU32,
}

const _: () = assert!(size_of::<HotLine>() == 64, "a line fills one cache line");

/// `last_t` of a series without samples.
pub(super) const NEVER: Timestamp = Timestamp::MIN;

impl Line {
    fn born(wal_ref: u64, generation: u16) -> Self {
        let xor = xor::State { t: NEVER, ..xor::State::EMPTY };
        Self { xor, wal_ref, first_t: 0, cut_after: 0, buffer: NONE, n_sealed: 0, generation, partial: 0 }
    }

    /// The time of the newest sample, open chunk or not.
    pub(super) fn last_t(&self) -> Timestamp {
        self.xor.t
    }

    /// The last byte of the stream, if it is not full.
    pub(super) fn partial(&self) -> u8 {
        self.partial
    }

    /// The samples of the open chunk.
    #[expect(clippy::cast_possible_truncation, reason = "a count of 16 bits was put there")]
    pub(super) fn n_open(&self) -> u16 {
        if self.buffer == IN_EXTENSION { self.xor.n_bits as u16 } else { self.xor.count }
    }

    /// Whether the newest sample is a staleness marker.
    pub(super) fn is_stale(&self) -> bool {
        self.xor.v == STALE_NAN.to_bits()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "taking packed fields apart")]
impl HotLine {
    fn vacant() -> Self {
        let line = Self {
            last_t: AtomicU64::new(0),
            last_v: AtomicU64::new(0),
            wal_ref: AtomicU64::new(0),
            first_t: AtomicU64::new(0),
            spans: AtomicU64::new(0),
            open: AtomicU64::new(0),
            rest: AtomicU64::new(0),
            flags: AtomicU32::new(0),
        };
        // Generations start at 1, so that no handle is zero.
        line.store(&Line::born(0, 1));
        line
    }

    #[inline]
    pub(super) fn load(&self) -> Line {
        let (spans, open, rest) =
            (self.spans.load(Relaxed), self.open.load(Relaxed), self.rest.load(Relaxed));
        Line {
            xor: xor::State {
                t: self.last_t(),
                v: self.last_v(),
                delta: spans & 0xffff_ffff,
                n_bits: u32::from((open >> 32) as u16),
                count: u16::from((open >> 48) as u8),
                leading: (rest >> 48) as u8,
                trailing: (rest >> 56) as u8,
            },
            wal_ref: self.wal_ref(),
            first_t: self.first_t.load(Relaxed).cast_signed(),
            cut_after: (spans >> 32) as u32,
            buffer: open as u32,
            n_sealed: rest as u32,
            generation: (rest >> 32) as u16,
            partial: (open >> 56) as u8,
        }
    }

    #[inline]
    pub(super) fn store(&self, line: &Line) {
        // Cuts keep differences below the span of a chunk, which is below 2^32 ms, and bits below 2^14.
        debug_assert!(line.xor.delta >> 32 == 0, "BUG: difference of times {}", line.xor.delta);
        self.last_t.store(line.xor.t.cast_unsigned(), Relaxed);
        self.last_v.store(line.xor.v, Relaxed);
        self.wal_ref.store(line.wal_ref, Relaxed);
        self.first_t.store(line.first_t.cast_unsigned(), Relaxed);
        self.spans.store((line.xor.delta & 0xffff_ffff) | (u64::from(line.cut_after) << 32), Relaxed);
        debug_assert!(line.xor.count <= 255, "BUG: open chunk of {} samples", line.xor.count);
        let open = u64::from(line.buffer)
            | (u64::from(line.xor.n_bits as u16) << 32)
            | (u64::from(line.xor.count as u8) << 48)
            | (u64::from(line.partial) << 56);
        self.open.store(open, Relaxed);
        let rest = u64::from(line.n_sealed)
            | (u64::from(line.generation) << 32)
            | (u64::from(line.xor.leading) << 48)
            | (u64::from(line.xor.trailing) << 56);
        self.rest.store(rest, Relaxed);
    }

    #[inline]
    pub(super) fn last_t(&self) -> Timestamp {
        self.last_t.load(Relaxed).cast_signed()
    }

    #[inline]
    pub(super) fn last_v(&self) -> u64 {
        self.last_v.load(Relaxed)
    }

    #[inline]
    pub(super) fn wal_ref(&self) -> u64 {
        self.wal_ref.load(Relaxed)
    }

    /// The flags, after a series that was about to leave was told to stay.
    #[inline]
    pub(super) fn claim(&self) -> u32 {
        let flags = self.flags.load(Relaxed);
        if flags & LEAVING == 0 { flags } else { self.flags.fetch_and(!LEAVING, Relaxed) }
    }

    /// As [`State::set_kind`], which counts; returns the kind before.
    fn turn_kind(&self, kind: u32) -> u32 {
        let before = self.flags.load(Relaxed) & HISTOGRAM;
        if before != kind {
            // Claims may come at the same time.
            let turned = |flags| Some((flags & !HISTOGRAM) | kind);
            let _ = self.flags.fetch_update(Relaxed, Relaxed, turned);
        }
        before
    }

    /// Ends a series if nobody claimed it since it was marked; of which kind its newest sample was is still known.
    pub(super) fn try_end(&self) -> bool {
        let ended = |flags| (flags & LEAVING != 0).then_some(flags & HISTOGRAM);
        self.flags.fetch_update(Relaxed, Relaxed, ended).is_ok()
    }

    #[inline]
    pub(super) fn generation(&self) -> u16 {
        (self.rest.load(Relaxed) >> 32) as u16
    }
}

const LINES_PER_PAGE: usize = 1024;
const PAGES_PER_LEAF: usize = 256;
const LEAVES: usize = 256;

/// The most series of one shard.
pub(super) const SERIES_PER_SHARD_MAX: u32 = 1 << 26;

const _: () = assert!(LINES_PER_PAGE * PAGES_PER_LEAF * LEAVES == 1 << 26, "a shard's lines");

type LinePage = OnceLock<Box<[HotLine]>>;

/// All lines of a shard; they never move.
#[derive(Debug)]
pub(super) struct Lines {
    leaves: Box<[OnceLock<Box<[LinePage]>>]>,
}

impl Lines {
    fn new() -> Self {
        Self { leaves: (0..LEAVES).map(|_| OnceLock::new()).collect() }
    }

    #[inline]
    pub(super) fn get(&self, idx: u32) -> Option<&HotLine> {
        let page = idx as usize / LINES_PER_PAGE;
        let leaf = self.leaves.get(page / PAGES_PER_LEAF)?.get()?;
        leaf[page % PAGES_PER_LEAF].get().map(|page| &page[idx as usize % LINES_PER_PAGE])
    }

    pub(super) fn bytes(&self) -> u64 {
        let leaves = self.leaves.iter().filter_map(OnceLock::get);
        let of_leaf = |leaf: &[LinePage]| {
            let pages = leaf.iter().filter(|page| page.get().is_some()).count();
            size_of_val(leaf) + pages * LINES_PER_PAGE * size_of::<HotLine>()
        };
        (size_of_val(&*self.leaves) + leaves.map(|leaf| of_leaf(leaf)).sum::<usize>()) as u64
    }

    fn get_or_create(&self, idx: u32) -> &HotLine {
        let page = idx as usize / LINES_PER_PAGE;
        let new_leaf = || (0..PAGES_PER_LEAF).map(|_| OnceLock::new()).collect();
        let leaf = self.leaves[page / PAGES_PER_LEAF].get_or_init(new_leaf);
        let new_page = || (0..LINES_PER_PAGE).map(|_| HotLine::vacant()).collect();
        &leaf[page % PAGES_PER_LEAF].get_or_init(new_page)[idx as usize % LINES_PER_PAGE]
    }
}

/// What is rarely needed of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cold {
    /// Its id in the registry.
    pub(super) id: u32,
    /// The newest sealed chunk.
    pub(super) chunks: u32,
    /// Its [`Extension`], `NONE` for plain floats in order.
    pub(super) extension: u32,
}

/// A sealed chunk in the list of its series, newest first: 48 bits of place and of first time, 32 of span.
#[derive(Clone, Copy, Debug)]
struct Node {
    words: [u32; 4],
    older: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "packing fields whose widths are asserted")]
impl Node {
    fn pack(chunk: Sealed, older: u32) -> Self {
        assert!(
            chunk.file < 1 << 20 && chunk.offset < 1 << 28,
            "BUG: chunk at {}:{}",
            chunk.file,
            chunk.offset
        );
        let place = (u64::from(chunk.file) << 28) | u64::from(chunk.offset);
        let span = u32::try_from(chunk.maxt - chunk.mint).unwrap_or(u32::MAX);
        let mint = chunk.mint.cast_unsigned() & 0xffff_ffff_ffff;
        Self {
            words: [place as u32, mint as u32, ((place >> 32) as u32) << 16 | (mint >> 32) as u32, span],
            older,
        }
    }

    fn unpack(&self) -> Sealed {
        let [place_low, mint_low, high, span] = self.words;
        let place = (u64::from(high >> 16) << 32) | u64::from(place_low);
        let mint = ((u64::from(high & 0xffff) << 32) | u64::from(mint_low)) << 16;
        let mint = mint.cast_signed() >> 16;
        Sealed {
            file: (place >> 28) as u32,
            offset: (place & 0xfff_ffff) as u32,
            mint,
            maxt: mint + i64::from(span),
        }
    }
}

/// One shard: lines that anybody may look at, and what belongs to them under one lock.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) lines: Lines,
    pub(super) state: RwLock<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) cold: Paged<Cold>,
    pub(super) buffers: Slab,
    nodes: Paged<Node>,
    free_nodes: u32,
    pub(super) extensions: Paged<Option<Box<Extension>>>,
    pub(super) free_extensions: Vec<u32>,
    n_nodes: u64,
    n_open: u64,
    pub(super) n_late_chunks: u64,
    /// Chunks that were here once, so that the number of those created needs no count of its own.
    pub(super) n_removed: u64,
    /// Series whose newest sample is a histogram, and the buckets that these list.
    n_histograms: u64,
    pub(super) n_histogram_buckets: u64,
    /// Series whose newest sample is a staleness marker.
    n_stale: u64,
    /// What is known of the metrics of series, by index; shorter than needed as long as nothing is.
    metadata: Vec<u32>,
    /// Vacant slots below the length of `cold`.
    free_slots: Vec<u32>,
}

/// An open chunk of plain floats as a snapshot holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenLine<'a> {
    pub(super) first_t: Timestamp,
    pub(super) cut_after: u32,
    pub(super) xor: xor::State,
    pub(super) stream: &'a [u8],
}

/// How an append of one sample went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Stored,
    /// Same time, same value.
    Repeated,
    /// Another batch was faster; the sample is dropped without a word, as upstream does.
    OutOfOrder,
    /// The series left the head meanwhile.
    Gone,
    /// A histogram whose spans and buckets do not fit each other; only a log of somebody else brings such.
    Malformed,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { lines: Lines::new(), state: RwLock::new(State { free_nodes: NONE, ..State::default() }) }
    }

    /// Takes a slot for a new series: its index and generation, or nothing when the shard is full.
    pub(super) fn birth(&self, state: &mut State, wal_ref: u64, flags: u32) -> Option<(u32, u16)> {
        let cold = Cold { id: NONE, chunks: NONE, extension: NONE };
        let idx = if let Some(idx) = state.free_slots.pop() {
            state.cold[idx] = cold;
            idx
        } else if state.cold.len() < SERIES_PER_SHARD_MAX {
            state.cold.push(cold)
        } else {
            return None;
        };
        let hot = self.lines.get_or_create(idx);
        let generation = hot.generation();
        hot.store(&Line::born(wal_ref, generation));
        hot.flags.store(flags | ALIVE, Relaxed);
        Some((idx, generation))
    }

    /// Gives a slot back; handles to it are stale from now on.
    pub(super) fn death(&self, state: &mut State, idx: u32) {
        let hot = self.line(idx);
        let mut line = hot.load();
        self.drop_open(state, idx, &mut line);
        state.truncate_chunks(idx, Timestamp::MAX);
        state.drop_extension(idx);
        state.set_metadata(idx, NONE);
        state.n_stale -= u64::from(line.is_stale());
        state.n_histograms -= u64::from(hot.flags.load(Relaxed) & HISTOGRAM != 0);
        let generation = line.generation.checked_add(1).unwrap_or(1);
        hot.flags.store(0, Relaxed);
        hot.store(&Line::born(0, generation));
        state.free_slots.push(idx);
    }

    /// A line that is known to exist.
    pub(super) fn line(&self, idx: u32) -> &HotLine {
        self.lines.get(idx).expect("indices are handed out by birth, which creates the line")
    }

    #[expect(clippy::unused_self, reason = "reads as an operation of the shard")]
    pub(super) fn drop_open(&self, state: &mut State, idx: u32, line: &mut Line) {
        if line.buffer == IN_EXTENSION {
            state.extension_mut(idx).open = None;
            state.n_open -= 1;
            state.n_removed += 1;
        } else if line.buffer != NONE {
            state.buffers.free(line.buffer);
            state.n_open -= 1;
            state.n_removed += 1;
        }
        line.buffer = NONE;
        line.xor = xor::State { t: line.xor.t, v: line.xor.v, ..xor::State::EMPTY };
    }

    /// Appends one float whose start time is not known.
    #[inline]
    pub(super) fn apply(
        &self,
        state: &mut State,
        chunks: &HeadChunks,
        options: &Options,
        (idx, generation): (u32, u16),
        t: Timestamp,
        v: f64,
    ) -> crate::Result<Applied> {
        let hot = self.line(idx);
        let mut line = hot.load();
        if line.generation != generation {
            return Ok(Applied::Gone);
        }
        if line.buffer == IN_EXTENSION || options.features.floats != FloatEncoding::Xor {
            return self.apply_value(state, chunks, options, (idx, generation), 0, t, Value::Float(v));
        }
        if t <= line.xor.t {
            let is_same =
                t == line.xor.t && v.to_bits() == line.xor.v && hot.flags.load(Relaxed) & HISTOGRAM == 0;
            return Ok(if is_same { Applied::Repeated } else { Applied::OutOfOrder });
        }
        if line.xor.count > 0 {
            if must_cut(&mut line, t) {
                self.seal(state, chunks, idx, &mut line)?;
            }
        } else if is_stale(v) && hot.flags.load(Relaxed) & HISTOGRAM != 0 {
            // The histograms it ends are all in mapped chunks.
            return self.apply_value(state, chunks, options, (idx, generation), 0, t, Value::Float(v));
        }
        let was_stale = line.is_stale();
        if line.xor.count == 0 {
            line.xor = xor::State::EMPTY;
            line.partial = 0;
            line.first_t = t;
            line.cut_after = window_end(t, options.chunk_range_ms);
            state.set_kind(hot, idx, 0, 0);
            if line.buffer == NONE {
                line.buffer = state.buffers.alloc(FIRST_BUFFER_BYTES);
                state.n_open += 1;
            }
        }
        push(&mut state.buffers, &mut line, t, v);
        if line.is_stale() != was_stale {
            state.count_stale(was_stale);
        }
        hot.store(&line);
        Ok(Applied::Stored)
    }

    /// Appends one sample of any kind to a series; it counts since `st`, 0 if that is not known.
    ///
    /// A float staleness marker after a histogram becomes a histogram, so that it ends what it is meant to end.
    #[expect(clippy::too_many_arguments, reason = "what is appended, and what it is appended to")]
    pub(super) fn apply_value(
        &self,
        state: &mut State,
        chunks: &HeadChunks,
        options: &Options,
        (idx, generation): (u32, u16),
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> crate::Result<Applied> {
        let hot = self.line(idx);
        let mut line = hot.load();
        if line.generation != generation {
            return Ok(Applied::Gone);
        }
        let flags = hot.flags.load(Relaxed);
        let (stale_int, stale_float);
        let value = match value {
            Value::Float(v) if is_stale(v) && flags & INT_HISTOGRAM != 0 => {
                stale_int = Histogram { sum: v, ..Histogram::default() };
                Value::Histogram(&stale_int)
            }
            Value::Float(v) if is_stale(v) && flags & FLOAT_HISTOGRAM != 0 => {
                stale_float = FloatHistogram { sum: v, ..FloatHistogram::default() };
                Value::FloatHistogram(&stale_float)
            }
            value => value,
        };
        let is_well_formed = match value {
            Value::Float(_) => true,
            Value::Histogram(histogram) => histogram.is_well_formed(),
            Value::FloatHistogram(histogram) => histogram.is_well_formed(),
        };
        if !is_well_formed {
            return Ok(Applied::Malformed);
        }
        if t <= line.last_t() {
            let is_same = t == line.last_t() && self.repeats(state, idx, value);
            return Ok(if is_same { Applied::Repeated } else { Applied::OutOfOrder });
        }
        if let (Value::Float(v), FloatEncoding::Xor) = (value, options.features.floats) {
            if line.buffer == IN_EXTENSION {
                self.seal(state, chunks, idx, &mut line)?;
                hot.store(&line);
            }
            return self.apply(state, chunks, options, (idx, generation), t, v);
        }
        let encoding = options.features.encoding_of(value);
        let open = match line.buffer {
            IN_EXTENSION => state.extension_mut(idx).open.as_mut(),
            _ => None,
        };
        let next = match open {
            Some(open) if open.builder.encoding() == encoding => {
                if open.must_cut(&mut line, t, options.chunk_range_ms) {
                    Some(open.builder.cut(st, t, value))
                } else {
                    match open.builder.push(st, t, value) {
                        chunk::Pushed::Stored => None,
                        chunk::Pushed::Next(next) => Some(*next),
                    }
                }
            }
            _ => Some(chunk::Builder::new(encoding, st, t, value)),
        };
        if let Some(builder) = next {
            if line.n_open() > 0 {
                self.seal(state, chunks, idx, &mut line)?;
            }
            state.extension_mut(idx).open = Some(Open { builder, has_predicted: false });
            state.n_open += 1;
            line.buffer = IN_EXTENSION;
            line.first_t = t;
            line.cut_after = window_end(t, options.chunk_range_ms);
        }
        let count = state.open(idx).map_or(0, |open| open.builder.count());
        let was_stale = line.is_stale();
        let (kind, v, n_buckets) = match value {
            Value::Float(v) => (0, v, 0),
            Value::Histogram(it) => {
                (INT_HISTOGRAM, it.sum, it.positive_buckets.len() + it.negative_buckets.len())
            }
            Value::FloatHistogram(it) => {
                (FLOAT_HISTOGRAM, it.sum, it.positive_buckets.len() + it.negative_buckets.len())
            }
        };
        let (v, n_bits) = (v.to_bits(), u32::from(count));
        line.xor = xor::State { t, v, n_bits, count: count.min(255), ..xor::State::EMPTY };
        state.set_kind(hot, idx, kind, n_buckets);
        if line.is_stale() != was_stale {
            state.count_stale(was_stale);
        }
        hot.store(&line);
        Ok(Applied::Stored)
    }

    /// Whether a sample of the time of the newest one is the same again.
    ///
    /// What is no longer in memory is taken for the same: it is dropped in any case.
    pub(super) fn repeats(&self, state: &State, idx: u32, value: Value<'_>) -> bool {
        let hot = self.line(idx);
        let kind = hot.flags.load(Relaxed) & HISTOGRAM;
        let (expected, v) = match value {
            Value::Float(v) => return kind == 0 && v.to_bits() == hot.last_v(),
            Value::Histogram(histogram) => (INT_HISTOGRAM, histogram.sum),
            Value::FloatHistogram(histogram) => (FLOAT_HISTOGRAM, histogram.sum),
        };
        if kind != expected || v.to_bits() != hot.last_v() {
            return false;
        }
        let Some(open) = state.open(idx) else { return true };
        let (range, mut newest) = (TimeRange::new(hot.last_t(), hot.last_t()), SampleBatch::default());
        let builder = &open.builder;
        let decoded = chunk::decode(builder.encoding(), builder.bytes(), range, &mut newest);
        let newest = newest.histograms.pop().map(|sample| sample.histogram);
        // Chunks list buckets that samples did not.
        match (decoded, newest, value) {
            (Ok(()), Some(AnyHistogram::Int(mut newest)), Value::Histogram(it)) => {
                let mut it = it.clone();
                it.compact(0);
                newest.compact(0);
                it.is_stale() || newest.is_same(&it)
            }
            (Ok(()), Some(AnyHistogram::Float(mut newest)), Value::FloatHistogram(it)) => {
                let mut it = it.clone();
                it.compact(0);
                newest.compact(0);
                it.is_stale() || newest.is_same(&it)
            }
            _ => false,
        }
    }

    /// Puts a series that has no samples yet where a snapshot says it was, its mapped chunks being there already.
    pub(super) fn restore(
        &self,
        state: &mut State,
        idx: u32,
        n_sealed: u32,
        (last_t, last_v): (Timestamp, u64),
        kind: u32,
        open: Option<OpenLine<'_>>,
    ) -> Result<(), String> {
        let hot = self.line(idx);
        let mut line = hot.load();
        if line.n_open() > 0 || line.last_t() != NEVER {
            return Err("a series is there twice".to_owned());
        }
        line.n_sealed = n_sealed;
        (line.xor.t, line.xor.v) = (last_t, last_v);
        if let Some(OpenLine { first_t, cut_after, xor, stream }) = open {
            let is_sound = xor.count > 0
                && xor.count <= 2 * SAMPLES_PER_CHUNK
                && stream.len() == xor.len_bytes()
                && stream.len() <= CHUNK_BYTES_CUT + 32
                && first_t <= xor.t
                && -TIME_MAX <= first_t
                && xor.t <= TIME_MAX
                && (xor.leading == u8::MAX || u32::from(xor.leading) + u32::from(xor.trailing) < 64);
            if !is_sound {
                return Err("an open chunk contradicts itself".to_owned());
            }
            line.xor = xor;
            (line.first_t, line.cut_after) = (first_t, cut_after);
            line.partial = if xor.n_bits.is_multiple_of(8) { 0 } else { stream[stream.len() - 1] };
            line.buffer = state.buffers.alloc(stream.len().max(FIRST_BUFFER_BYTES));
            state.buffers.get_mut(line.buffer)[..stream.len()].copy_from_slice(stream);
            state.n_open += 1;
        }
        state.set_kind(hot, idx, kind, 0);
        if line.is_stale() {
            state.count_stale(false);
        }
        hot.store(&line);
        Ok(())
    }

    /// Moves the open chunk to the mapped files.
    fn seal(&self, state: &mut State, chunks: &HeadChunks, idx: u32, line: &mut Line) -> crate::Result<()> {
        let sealed = if line.buffer == IN_EXTENSION {
            let open = state.open(idx).expect("the line says that its chunk is there");
            let (encoding, bytes) = (open.builder.encoding(), open.builder.bytes());
            chunks.write(line.wal_ref, line.first_t, line.xor.t, encoding, [bytes, &[]])?
        } else {
            let stream = &state.buffers.get(line.buffer)[..line.xor.len_bytes()];
            let count = line.xor.count.to_be_bytes();
            chunks.write(line.wal_ref, line.first_t, line.xor.t, Encoding::Xor, [&count, stream])?
        };
        state.push_chunk(idx, sealed);
        line.n_sealed += 1;
        self.drop_open(state, idx, line);
        // It is the same chunk in another place.
        state.n_removed -= 1;
        Ok(())
    }
}

impl Open {
    /// Whether the sample at `t` starts a new chunk of the same encoding.
    ///
    /// Compat: prometheus `tsdb`, `memSeries.appendPreprocessor`, `memSeries.histogramsAppendPreprocessor`.
    fn must_cut(&mut self, line: &mut Line, t: Timestamp, chunk_range: i64) -> bool {
        let (n, len) = (self.builder.count(), self.builder.bytes().len());
        let at_end = |line: &Line| t - line.first_t >= i64::from(line.cut_after);
        if self.builder.encoding().holds(Value::Float(0.0)) {
            if len > CHUNK_BYTES_CUT {
                return true;
            }
            if n == SAMPLES_PER_CHUNK / 4 {
                line.cut_after = predicted_cut(line.first_t, line.xor.t, line.cut_after, 4.0);
            }
            return at_end(line) || n >= SAMPLES_PER_CHUNK * 2;
        }
        if !self.has_predicted && len >= HISTOGRAM_CHUNK_BYTES / 4 {
            let ratio_to_full = HISTOGRAM_CHUNK_BYTES as f64 / len as f64;
            line.cut_after = predicted_cut(line.first_t, line.xor.t, line.cut_after, ratio_to_full);
            self.has_predicted = true;
        }
        let ends_window = t - line.first_t >= i64::from(window_end(line.first_t, chunk_range));
        (at_end(line) || len >= HISTOGRAM_CHUNK_BYTES * 2)
            && (n >= HISTOGRAM_CHUNK_SAMPLES_MIN || ends_window)
    }
}

/// The ms from `t` to the end of its window. Compat: prometheus `tsdb`, `rangeForTimestamp`.
#[inline]
fn window_end(t: Timestamp, chunk_range: i64) -> u32 {
    let end = (t / chunk_range) * chunk_range + chunk_range;
    u32::try_from(end - t).unwrap_or(u32::MAX)
}

/// Whether the sample at `t` starts a new chunk. Compat: prometheus `tsdb`, `memSeries.appendPreprocessor`.
#[inline]
fn must_cut(line: &mut Line, t: Timestamp) -> bool {
    if xor::HEADER_LEN + line.xor.len_bytes() > CHUNK_BYTES_CUT {
        return true;
    }
    if line.xor.count == SAMPLES_PER_CHUNK / 4 {
        line.cut_after = predicted_cut(line.first_t, line.xor.t, line.cut_after, 4.0);
    }
    t - line.first_t >= i64::from(line.cut_after) || line.xor.count >= SAMPLES_PER_CHUNK * 2
}

/// Spreads the samples to come evenly over the chunks until the window's end, seeing how fast the open one
/// filled; a full one has `ratio_to_full` times as much. Compat: prometheus `tsdb`, `computeChunkEndTime`.
pub(crate) fn predicted_cut(first: Timestamp, last: Timestamp, cut_after: u32, ratio_to_full: f64) -> u32 {
    let n = f64::from(cut_after) / ((last - first + 1) as f64 * ratio_to_full);
    if n <= 1.0 {
        return cut_after;
    }
    let cut = (first as f64 + f64::from(cut_after) / n.floor()).trunc();
    // Upstream adds in floats and cuts off; the result lies between first and the old end.
    #[expect(clippy::cast_possible_truncation, reason = "within the old span")]
    let cut = cut as i64 - first;
    u32::try_from(cut).unwrap_or(cut_after)
}

/// Most samples are no longer.
const SHORT: usize = 16;

/// Puts a sample behind the open chunk, which moves to a larger buffer if need be.
#[inline]
fn push(buffers: &mut Slab, line: &mut Line, t: Timestamp, v: f64) {
    let at = (line.xor.n_bits / 8) as usize;
    let used = line.xor.len_bytes();
    let (staged, len) = xor::encode(&mut line.xor, line.partial, t, v).bytes();
    line.partial = if line.xor.n_bits.is_multiple_of(8) { 0 } else { staged[len - 1] };
    if at + len > buffers.capacity(line.buffer) {
        line.buffer = buffers.grow(line.buffer, used, at + len);
    }
    let buffer = buffers.get_mut(line.buffer);
    // A copy of a length known beforehand is two instructions; what it puts behind the end is overwritten later.
    match buffer.get_mut(at..at + SHORT) {
        Some(end) if len <= SHORT => end.copy_from_slice(&staged[..SHORT]),
        _ => buffer[at..at + len].copy_from_slice(&staged[..len]),
    }
}

impl State {
    pub(super) fn n_slots(&self) -> u32 {
        self.cold.len()
    }

    /// Sealed and open chunks, those of late samples included.
    pub(super) fn n_chunks(&self) -> u64 {
        self.n_nodes + self.n_open + self.n_late_chunks
    }

    /// Series whose newest sample is a staleness marker.
    pub(super) fn n_stale(&self) -> u64 {
        self.n_stale
    }

    /// Notes of which kind the newest sample is: one of the two kinds of histograms with so many buckets, or 0 for a
    /// float.
    #[inline]
    pub(super) fn set_kind(&mut self, hot: &HotLine, idx: u32, kind: u32, n_buckets: usize) {
        let before = hot.turn_kind(kind);
        if before | kind != 0 {
            self.count_histogram(idx, before != 0, kind != 0, n_buckets);
        }
    }

    /// Keeps the counts of histograms right.
    fn count_histogram(&mut self, idx: u32, was_one: bool, is_one: bool, n_buckets: usize) {
        self.n_histograms = self.n_histograms + u64::from(is_one) - u64::from(was_one);
        let n_buckets = u32::try_from(n_buckets).unwrap_or(u32::MAX);
        let known = self.extension(idx).map_or(0, |it| it.n_buckets);
        if known != n_buckets {
            self.extension_mut(idx).n_buckets = n_buckets;
            self.n_histogram_buckets = self.n_histogram_buckets + u64::from(n_buckets) - u64::from(known);
        }
    }

    /// Series whose newest sample is a histogram.
    pub(super) fn n_histograms(&self) -> u64 {
        self.n_histograms
    }

    #[cold]
    fn count_stale(&mut self, was_stale: bool) {
        if was_stale {
            self.n_stale -= 1;
        } else {
            self.n_stale += 1;
        }
    }

    /// The open chunk of series `idx` if it is in its extension.
    pub(super) fn open(&self, idx: u32) -> Option<&Open> {
        self.extension(idx)?.open.as_ref()
    }

    /// The id of what is known of the metric of series `idx`, or `NONE`.
    pub(super) fn metadata(&self, idx: u32) -> u32 {
        self.metadata.get(idx as usize).copied().unwrap_or(NONE)
    }

    pub(super) fn set_metadata(&mut self, idx: u32, id: u32) {
        let at = idx as usize;
        if at >= self.metadata.len() && id != NONE {
            self.metadata.resize(at + 1, NONE);
        }
        if let Some(known) = self.metadata.get_mut(at) {
            *known = id;
        }
    }

    /// The ids of all metadata in use.
    pub(super) fn metadata_ids(&self) -> impl Iterator<Item = u32> {
        self.metadata.iter().copied().filter(|&id| id != NONE)
    }

    pub(super) fn cold_bytes(&self) -> u64 {
        self.cold.bytes() + 4 * self.free_slots.capacity() as u64
    }

    pub(super) fn chunk_bytes(&self) -> u64 {
        self.nodes.bytes()
    }

    /// With the open chunks and the late samples that are in them.
    pub(super) fn extension_bytes(&self) -> u64 {
        let each = |it: &Extension| {
            size_of::<Extension>()
                + it.open.as_ref().map_or(0, |open| open.builder.bytes().len())
                + it.late.as_ref().map_or(0, |late| late.bytes())
        };
        let all: usize = self.extensions.iter().flatten().map(|it| each(it)).sum();
        self.extensions.bytes() + all as u64
    }

    pub(super) fn metadata_bytes(&self) -> u64 {
        4 * self.metadata.capacity() as u64
    }

    pub(super) fn push_chunk(&mut self, idx: u32, chunk: Sealed) {
        let node = Node::pack(chunk, self.cold[idx].chunks);
        self.n_nodes += 1;
        self.cold[idx].chunks = if self.free_nodes == NONE {
            self.nodes.push(node)
        } else {
            let free = self.free_nodes;
            self.free_nodes = self.nodes[free].older;
            self.nodes[free] = node;
            free
        };
    }

    /// The sealed chunks of a series, newest first.
    pub(super) fn chunks(&self, idx: u32) -> impl Iterator<Item = Sealed> {
        let mut at = self.cold[idx].chunks;
        std::iter::from_fn(move || {
            let node = (at != NONE).then(|| &self.nodes[at])?;
            at = node.older;
            Some(node.unpack())
        })
    }

    /// Forgets the sealed chunks of a series that end before `mint`.
    pub(super) fn truncate_chunks(&mut self, idx: u32, mint: Timestamp) {
        let mut link = None;
        let mut at = self.cold[idx].chunks;
        while at != NONE && self.nodes[at].unpack().maxt >= mint {
            link = Some(at);
            at = self.nodes[at].older;
        }
        match link {
            Some(link) => self.nodes[link].older = NONE,
            None => self.cold[idx].chunks = NONE,
        }
        while at != NONE {
            let older = self.nodes[at].older;
            self.nodes[at].older = self.free_nodes;
            self.free_nodes = at;
            self.n_nodes -= 1;
            self.n_removed += 1;
            at = older;
        }
    }
}
