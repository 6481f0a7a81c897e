//! Chunks of native histograms, with integer or float counts, with or without start times.
//!
//! The first sample lays out the buckets for all: schema, zero threshold, spans, custom bounds. Samples that have
//! more buckets make the chunk be written anew with them; samples that lack empty ones are padded; anything else
//! that does not fit begins another chunk, whose header says whether counts went back.
//!
//! Compat: prometheus `tsdb/chunkenc`, `HistogramChunk`, `FloatHistogramChunk` and their `ST` forms. Bit-exact.

mod layout;
pub(super) mod points;
mod spans;
mod tracked;

use std::borrow::Cow;

use model::histogram::{BucketCount, Buckets, CounterResetHint, SCHEMA_MAX, Span};
use model::{AnyHistogram, FloatHistogram, Histogram, HistogramSample, SampleBatch, TimeRange, Timestamp};

use self::layout::Layout;
use self::spans::Difference;
use self::tracked::{Step, Total, Tracked};
use super::bits::{BitReader, BitWriter};
use super::xored::Xored;
use super::{start_time, varbit};
use crate::DecodeError;

/// Why decoding what was encoded here cannot fail.
const OWN: &str = "what was encoded here can be decoded";

/// The bytes before the stream: the count and one byte more.
pub(super) const HEADER_LEN: usize = 3;

/// The most samples in a chunk with start times, whose count shares its bytes with the reset header.
pub(super) const SAMPLES_MAX_STARTED: u16 = 0x3fff;

/// What a chunk's header says about its counts and those before it; the discriminant is the top bits on disk.
///
/// Compat: prometheus `tsdb/chunkenc`, `CounterResetHeader`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ResetHeader {
    Unknown = 0,
    NotCounterReset = 0x40,
    CounterReset = 0x80,
    Gauge = 0xc0,
}

impl ResetHeader {
    const MASK: u8 = 0xc0;

    fn from_byte(byte: u8) -> Self {
        match byte & Self::MASK {
            0x40 => Self::NotCounterReset,
            0x80 => Self::CounterReset,
            0xc0 => Self::Gauge,
            _ => Self::Unknown,
        }
    }

    /// The header of a chunk that continues nothing.
    pub(super) fn of_first(hint: CounterResetHint) -> Self {
        match hint {
            CounterResetHint::Gauge => Self::Gauge,
            CounterResetHint::CounterReset => Self::CounterReset,
            CounterResetHint::Unknown | CounterResetHint::NotCounterReset => Self::Unknown,
        }
    }

    /// What a reader is told about sample `index`. Whether the first of a chunk was a reset is not passed on: the
    /// chunk before it may be gone by now, or another one may have come between.
    fn hint(self, index: u16) -> CounterResetHint {
        match self {
            Self::Gauge => CounterResetHint::Gauge,
            _ if index > 0 => CounterResetHint::NotCounterReset,
            _ => CounterResetHint::Unknown,
        }
    }
}

/// One of the two kinds of histograms: how its numbers are tracked from sample to sample.
pub(super) trait Kind: Copy + std::fmt::Debug + Sized {
    /// Of the count and the zero count.
    type Total: Tracked;
    /// Of a bucket.
    type Bucket: Tracked<Value: points::FloatCount>;

    /// Whether counts are floats.
    const IS_FLOAT: bool;

    fn float(total: Value<Self::Total>) -> f64;

    fn wrap(histogram: Box<Body<Self>>) -> AnyHistogram;

    /// The header of the chunk that has to follow for another reason than a reset.
    fn header_unless_reset(reason: Misfit) -> ResetHeader;

    /// The same where this chunk was to end anyway.
    fn header_of_cut(reason: Misfit) -> ResetHeader;
}

type Value<T> = <T as Tracked>::Value;

/// The histogram of a kind.
pub(super) type Body<K> = Buckets<Value<<K as Kind>::Total>, Value<<K as Kind>::Bucket>>;

/// Why a chunk cannot take a sample though no count went back, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A counter behind gauges, which nobody compares.
    KindOfMetric,
    /// Schema or zero threshold, which nobody converts to compare.
    Layout,
    /// A staleness marker is a chunk's last word.
    AfterStale,
}

/// Integer counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Int;

/// Float counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Float;

impl Kind for Int {
    type Total = Total;
    type Bucket = Step;

    const IS_FLOAT: bool = false;

    fn float(total: u64) -> f64 {
        total as f64
    }

    fn wrap(histogram: Box<Histogram>) -> AnyHistogram {
        AnyHistogram::Int(histogram)
    }

    fn header_unless_reset(reason: Misfit) -> ResetHeader {
        match reason {
            Misfit::KindOfMetric => ResetHeader::NotCounterReset,
            Misfit::Layout | Misfit::AfterStale => ResetHeader::Unknown,
        }
    }

    fn header_of_cut(reason: Misfit) -> ResetHeader {
        Self::header_unless_reset(reason)
    }
}

impl Kind for Float {
    type Total = Xored;
    type Bucket = Xored;

    const IS_FLOAT: bool = true;

    fn float(total: f64) -> f64 {
        total
    }

    fn wrap(histogram: Box<FloatHistogram>) -> AnyHistogram {
        AnyHistogram::Float(histogram)
    }

    fn header_unless_reset(_: Misfit) -> ResetHeader {
        ResetHeader::Unknown
    }

    // Upstream knows but two answers here, and so do its readers.
    fn header_of_cut(_: Misfit) -> ResetHeader {
        ResetHeader::NotCounterReset
    }
}

/// How a sample fits the chunk that is to take it.
enum Fit {
    /// The differences of the positive and the negative side.
    Takes(Difference, Difference),
    Reset,
    Misfit(Misfit),
}

/// A chunk under construction.
#[derive(Clone, Debug)]
pub(super) struct Encoder<K: Kind> {
    bits: BitWriter,
    layout: Layout,
    header: ResetHeader,
    count: u16,
    t: Timestamp,
    /// The last two times' difference.
    delta: i64,
    total: K::Total,
    zero: K::Total,
    sum: Xored,
    positive: Vec<K::Bucket>,
    negative: Vec<K::Bucket>,
    start: Option<start_time::Encoder>,
}

/// What became of a sample that was to be appended.
pub(super) enum Appended<K: Kind> {
    Stored,
    /// It began this chunk, since it did not fit the last.
    Next(Box<Encoder<K>>),
}

impl<K: Kind> Encoder<K> {
    /// Begins a chunk that continues no other.
    pub(super) fn new(with_start: bool, st: Timestamp, t: Timestamp, histogram: &Body<K>) -> Self {
        Self::begin(with_start, ResetHeader::of_first(histogram.counter_reset_hint), st, t, histogram)
    }

    fn begin(
        with_start: bool,
        header: ResetHeader,
        st: Timestamp,
        t: Timestamp,
        histogram: &Body<K>,
    ) -> Self {
        let stale;
        let histogram = if histogram.is_stale() {
            stale = Body::<K> { sum: histogram.sum, ..Body::<K>::default() };
            &stale
        } else {
            histogram
        };
        assert!(histogram.is_well_formed(), "BUG: histogram whose spans do not match its buckets");
        let mut bits = BitWriter::after(&[0; HEADER_LEN]);
        let layout = Layout::of(histogram);
        layout.write(&mut bits);
        varbit::put_int(&mut bits, t);
        let total = K::Total::begin(histogram.count, &mut bits);
        let zero = K::Total::begin(histogram.zero_count, &mut bits);
        let sum = Xored::begin(histogram.sum, &mut bits);
        let mut begin_all = |buckets: &[Value<K::Bucket>]| {
            buckets.iter().map(|&bucket| K::Bucket::begin(bucket, &mut bits)).collect()
        };
        let positive = begin_all(&histogram.positive_buckets);
        let negative = begin_all(&histogram.negative_buckets);
        let start = with_start.then(|| {
            let mut start = start_time::Encoder::default();
            start.put(&mut bits, 0, t, t, st);
            start
        });
        let mut encoder =
            Self { bits, layout, header, count: 1, t, delta: 0, total, zero, sum, positive, negative, start };
        encoder.write_header();
        encoder
    }

    /// Begins the chunk after this one though the sample might have fit: by time, by size.
    pub(super) fn cut(&self, with_start: bool, st: Timestamp, t: Timestamp, histogram: &Body<K>) -> Self {
        let header = match ResetHeader::of_first(histogram.counter_reset_hint) {
            ResetHeader::Unknown => match self.fit_counter(histogram) {
                Fit::Reset => ResetHeader::CounterReset,
                Fit::Takes(..) => ResetHeader::NotCounterReset,
                Fit::Misfit(reason) => K::header_of_cut(reason),
            },
            header => header,
        };
        Self::begin(with_start, header, st, t, histogram)
    }

    /// Appends a sample, writing the chunk anew if the sample brings buckets that it lacks; times must ascend.
    ///
    /// A histogram must be well-formed, see [`Buckets::is_well_formed`].
    pub(super) fn push(&mut self, st: Timestamp, t: Timestamp, histogram: &Body<K>) -> Appended<K> {
        let is_gauge = histogram.counter_reset_hint == CounterResetHint::Gauge;
        let fit = if is_gauge { self.fit_gauge(histogram) } else { self.fit_counter(histogram) };
        let header = match fit {
            Fit::Takes(positive, negative) if self.count < self.count_max() => {
                self.take(st, t, histogram, positive, negative);
                return Appended::Stored;
            }
            Fit::Takes(..) => {
                return Appended::Next(Box::new(self.cut(self.start.is_some(), st, t, histogram)));
            }
            _ if is_gauge => ResetHeader::Gauge,
            Fit::Reset => ResetHeader::CounterReset,
            Fit::Misfit(reason) => K::header_unless_reset(reason),
        };
        Appended::Next(Box::new(Self::begin(self.start.is_some(), header, st, t, histogram)))
    }

    fn fit_counter(&self, histogram: &Body<K>) -> Fit {
        if self.header == ResetHeader::Gauge {
            return Fit::Misfit(Misfit::KindOfMetric);
        }
        if histogram.counter_reset_hint == CounterResetHint::CounterReset {
            return Fit::Reset;
        }
        if histogram.is_stale() {
            return Fit::Takes(Difference::default(), Difference::default());
        }
        if model::is_stale(self.sum.value()) {
            return Fit::Misfit(Misfit::AfterStale);
        }
        if histogram.count < self.total.value() {
            return Fit::Reset;
        }
        let layout = &self.layout;
        if histogram.schema != layout.schema || histogram.zero_threshold != layout.zero_threshold {
            return Fit::Misfit(Misfit::Layout);
        }
        if !layout.has_bounds_of(histogram) || histogram.zero_count < self.zero.value() {
            return Fit::Reset;
        }
        let positive = compare_counts(
            &layout.positive_spans,
            &self.positive,
            &histogram.positive_spans,
            &histogram.positive_buckets,
        );
        let negative = compare_counts(
            &layout.negative_spans,
            &self.negative,
            &histogram.negative_spans,
            &histogram.negative_buckets,
        );
        match (positive, negative) {
            (Some(positive), Some(negative)) => Fit::Takes(positive, negative),
            _ => Fit::Reset,
        }
    }

    /// As [`Self::fit_counter`], for counts that may go back.
    fn fit_gauge(&self, histogram: &Body<K>) -> Fit {
        if self.header != ResetHeader::Gauge {
            return Fit::Misfit(Misfit::KindOfMetric);
        }
        if histogram.is_stale() {
            return Fit::Takes(Difference::default(), Difference::default());
        }
        if model::is_stale(self.sum.value()) {
            return Fit::Misfit(Misfit::AfterStale);
        }
        let layout = &self.layout;
        if histogram.schema != layout.schema
            || histogram.zero_threshold != layout.zero_threshold
            || !layout.has_bounds_of(histogram)
        {
            return Fit::Misfit(Misfit::Layout);
        }
        Fit::Takes(
            spans::compare(&layout.positive_spans, &histogram.positive_spans),
            spans::compare(&layout.negative_spans, &histogram.negative_spans),
        )
    }

    /// Appends a sample that fits, after what its buckets ask for.
    fn take(
        &mut self,
        st: Timestamp,
        t: Timestamp,
        histogram: &Body<K>,
        positive: Difference,
        negative: Difference,
    ) {
        if histogram.is_stale() {
            return self.write_stale(st, t, histogram.sum);
        }
        assert!(histogram.is_well_formed(), "BUG: histogram whose spans do not match its buckets");
        let is_gauge = histogram.counter_reset_hint == CounterResetHint::Gauge;
        if positive.grows || negative.grows {
            // A gauge that lacks buckets on one side has both sides spelled anew; a counter only that side.
            let any_lacks = positive.lacks || negative.lacks;
            let grown = |side: Difference, old: &[Span], new: &[Span]| {
                if side.lacks || (is_gauge && any_lacks) { spans::union(old, new) } else { new.to_vec() }
            };
            let positive_spans = grown(positive, &self.layout.positive_spans, &histogram.positive_spans);
            let negative_spans = grown(negative, &self.layout.negative_spans, &histogram.negative_spans);
            self.recode(&positive_spans, &negative_spans);
        }
        let positive_buckets = if positive.lacks {
            respread(&histogram.positive_buckets, &histogram.positive_spans, &self.layout.positive_spans)
        } else {
            Cow::Borrowed(&histogram.positive_buckets[..])
        };
        let negative_buckets = if negative.lacks {
            respread(&histogram.negative_buckets, &histogram.negative_spans, &self.layout.negative_spans)
        } else {
            Cow::Borrowed(&histogram.negative_buckets[..])
        };
        self.write_time(t);
        self.total.put(histogram.count, &mut self.bits);
        self.zero.put(histogram.zero_count, &mut self.bits);
        self.sum.put(histogram.sum, &mut self.bits);
        let buckets = positive_buckets.iter().chain(negative_buckets.iter());
        for (tracked, &bucket) in self.positive.iter_mut().chain(&mut self.negative).zip(buckets) {
            tracked.put(bucket, &mut self.bits);
        }
        self.finish_sample(st, t);
    }

    fn write_stale(&mut self, st: Timestamp, t: Timestamp, sum: f64) {
        self.write_time(t);
        self.total.put_stale(&mut self.bits);
        self.zero.put_stale(&mut self.bits);
        self.sum.put(sum, &mut self.bits);
        self.finish_sample(st, t);
    }

    fn write_time(&mut self, t: Timestamp) {
        let delta = t.wrapping_sub(self.t);
        varbit::put_int(&mut self.bits, delta.wrapping_sub(self.delta));
        self.delta = delta;
    }

    fn finish_sample(&mut self, st: Timestamp, t: Timestamp) {
        if let Some(start) = &mut self.start {
            start.put(&mut self.bits, self.count, t, self.t, st);
        }
        self.t = t;
        self.count += 1;
        self.write_header();
    }

    fn write_header(&mut self) {
        let [high, low] = self.count.to_be_bytes();
        let header = match &self.start {
            Some(start) => [self.header as u8 | high, low, start.header()],
            None => [high, low, self.header as u8],
        };
        self.bits.header_mut(HEADER_LEN).copy_from_slice(&header);
    }

    /// Writes the chunk anew with more buckets.
    fn recode(&mut self, positive_spans: &[Span], negative_spans: &[Span]) {
        let with_start = self.start.is_some();
        let mut bits = BitReader::new(&self.bytes()[HEADER_LEN..]);
        let start = self.start.as_ref().map(start_time::Encoder::header);
        let mut decoder = Decoder::<K>::begin(&mut bits, start).expect(OWN);
        let mut recoded: Option<Self> = None;
        for index in 0..self.count {
            if index > 0 {
                decoder.advance(&mut bits, index).expect(OWN);
            }
            let mut histogram = decoder.as_written(self.header.hint(index));
            let respread = |buckets: &mut Vec<_>, spans: &mut Vec<Span>, to: &[Span]| {
                *buckets = respread(buckets, spans, to).into_owned();
                *spans = to.to_vec();
            };
            respread(&mut histogram.positive_buckets, &mut histogram.positive_spans, positive_spans);
            respread(&mut histogram.negative_buckets, &mut histogram.negative_spans, negative_spans);
            let (st, t, none) = (decoder.st, decoder.t, Difference::default());
            if let Some(chunk) = &mut recoded {
                chunk.take(st, t, &histogram, none, none);
            } else {
                recoded = Some(Self::begin(with_start, self.header, st, t, &histogram));
            }
        }
        *self = recoded.expect("a chunk begins with a sample");
    }

    /// The chunk, header included.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bits.bytes()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bits.into_bytes()
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    fn count_max(&self) -> u16 {
        if self.start.is_some() { SAMPLES_MAX_STARTED } else { u16::MAX }
    }

    /// Whether it keeps start times.
    pub(super) fn with_start(&self) -> bool {
        self.start.is_some()
    }
}

fn compare_counts<T: Tracked<Value: BucketCount>>(
    old_spans: &[Span],
    old: &[T],
    new_spans: &[Span],
    new: &[T::Value],
) -> Option<Difference> {
    if old_spans == new_spans {
        // Most samples bring the same buckets: nothing is copied for them.
        let (mut a, mut b) = (T::Value::default(), T::Value::default());
        let is_reset = old.iter().zip(new).any(|(old, new)| {
            (a, b) = (old.value().count_after(a), new.count_after(b));
            a > b
        });
        return (!is_reset).then(Difference::default);
    }
    let old: Vec<T::Value> = old.iter().map(Tracked::value).collect();
    let (old, new) = (BucketCount::absolute(&old), BucketCount::absolute(new));
    spans::compare_counts((old_spans, &old), (new_spans, &new))
}

/// Buckets of one set as those of a larger one.
fn respread<'a, V: BucketCount>(buckets: &'a [V], from: &[Span], to: &[Span]) -> Cow<'a, [V]> {
    if from == to {
        return Cow::Borrowed(buckets);
    }
    Cow::Owned(V::from_absolute(spans::spread(&V::absolute(buckets), from, to)))
}

/// Appends the first `n` samples of a chunk (header included) that lie in `range` to `out`.
///
/// On an error what was decoded before it stays in `out`.
pub(super) fn decode<K: Kind>(
    chunk: &[u8],
    with_start: bool,
    n: u16,
    range: TimeRange,
    out: &mut SampleBatch,
) -> Result<(), DecodeError> {
    let (header, start, mut bits) = open(chunk, with_start)?;
    if n == 0 {
        return Ok(());
    }
    let mut decoder = Decoder::<K>::begin(&mut bits, start)?;
    for index in 0..n {
        if index > 0 {
            decoder.advance(&mut bits, index)?;
        }
        if decoder.t > range.maxt {
            break;
        }
        if decoder.t >= range.mint {
            let histogram = K::wrap(Box::new(decoder.histogram(header.hint(index))?));
            out.histograms.push(HistogramSample { t: decoder.t, st: decoder.st, histogram });
        }
    }
    Ok(())
}

/// The headers of resets and of start times, and the stream behind them.
fn open(chunk: &[u8], with_start: bool) -> Result<(ResetHeader, Option<u8>, BitReader<'_>), DecodeError> {
    let Some((&[first, _, third], stream)) = chunk.split_first_chunk::<HEADER_LEN>() else {
        return Err(DecodeError { what: "chunk too short", offset: 0 });
    };
    let header = ResetHeader::from_byte(if with_start { first } else { third });
    Ok((header, with_start.then_some(third), BitReader::new(stream)))
}

/// What the reader remembers between two samples.
struct Decoder<K: Kind> {
    layout: Layout,
    t: Timestamp,
    delta: i64,
    total: K::Total,
    zero: K::Total,
    sum: Xored,
    positive: Vec<K::Bucket>,
    negative: Vec<K::Bucket>,
    start: Option<start_time::Decoder>,
    st: Timestamp,
}

impl<K: Kind> Decoder<K> {
    /// Reads the layout and the first sample.
    fn begin(bits: &mut BitReader<'_>, start: Option<u8>) -> Result<Self, DecodeError> {
        let layout = Layout::read(bits)?;
        let t = varbit::read_int(bits)?;
        let total = K::Total::read_first(bits)?;
        let zero = K::Total::read_first(bits)?;
        let sum = Xored::read_first(bits)?;
        let positive = read_buckets(bits, &layout.positive_spans)?;
        let negative = read_buckets(bits, &layout.negative_spans)?;
        let mut start = start.map(start_time::Decoder::new);
        let st = match &mut start {
            Some(start) => start.read(bits, 0, t, t)?,
            None => 0,
        };
        Ok(Self { layout, t, delta: 0, total, zero, sum, positive, negative, start, st })
    }

    fn advance(&mut self, bits: &mut BitReader<'_>, index: u16) -> Result<(), DecodeError> {
        self.advance_time(bits)?;
        self.advance_rest(bits, index)
    }

    /// Reads the time of the next sample.
    #[inline]
    fn advance_time(&mut self, bits: &mut BitReader<'_>) -> Result<(), DecodeError> {
        self.delta = self.delta.wrapping_add(varbit::read_int(bits)?);
        self.t = self.t.wrapping_add(self.delta);
        Ok(())
    }

    /// Reads what is behind the time of sample `index`.
    #[inline]
    fn advance_rest(&mut self, bits: &mut BitReader<'_>, index: u16) -> Result<(), DecodeError> {
        self.total.read(bits)?;
        self.zero.read(bits)?;
        self.sum.read(bits)?;
        if !model::is_stale(self.sum.value()) {
            read_next(bits, &mut self.positive)?;
            read_next(bits, &mut self.negative)?;
        }
        if let Some(start) = &mut self.start {
            let previous = self.t.wrapping_sub(self.delta);
            self.st = start.read(bits, index, self.t, previous)?;
        }
        Ok(())
    }

    /// The sample as readers want it.
    fn histogram(&self, hint: CounterResetHint) -> Result<Body<K>, DecodeError> {
        let mut histogram = self.as_written(hint);
        if histogram.schema > SCHEMA_MAX {
            // From a newer server; what this one knows is coarser.
            let reduced = histogram.reduce_resolution(SCHEMA_MAX);
            reduced.map_err(|_| DecodeError { what: "histogram with impossible spans", offset: 0 })?;
        }
        Ok(histogram)
    }

    fn as_written(&self, hint: CounterResetHint) -> Body<K> {
        let sum = self.sum.value();
        if model::is_stale(sum) {
            return Body::<K> { sum, ..Body::<K>::default() };
        }
        let layout = &self.layout;
        Body::<K> {
            counter_reset_hint: hint,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: self.zero.value(),
            count: self.total.value(),
            sum,
            positive_spans: layout.positive_spans.clone(),
            negative_spans: layout.negative_spans.clone(),
            positive_buckets: self.positive.iter().map(Tracked::value).collect(),
            negative_buckets: self.negative.iter().map(Tracked::value).collect(),
            custom_values: layout.custom_values.clone(),
        }
    }
}

/// Reads how buckets changed. Most went on as they did before, which is a single zero for each.
#[inline]
fn read_next<T: Tracked>(bits: &mut BitReader<'_>, buckets: &mut [T]) -> Result<(), DecodeError> {
    let mut at = 0;
    while at < buckets.len() {
        let zeros = bits.peek().leading_zeros().min(PEEKED);
        let run = (zeros as usize).min(buckets.len() - at);
        buckets[at..at + run].iter_mut().for_each(Tracked::go_on);
        bits.skip(u32::try_from(run).expect("no more than a word has"))?;
        at += run;
        if zeros < PEEKED
            && let Some(changed) = buckets.get_mut(at)
        {
            changed.read(bits)?;
            at += 1;
        }
    }
    Ok(())
}

/// How many bits of a peek are real.
const PEEKED: u32 = 57;

fn read_buckets<T: Tracked>(bits: &mut BitReader<'_>, spans: &[Span]) -> Result<Vec<T>, DecodeError> {
    let n = spans::count(spans);
    // No bucket takes less than a bit, which bounds what bad bytes can make us allocate.
    match usize::try_from(n) {
        Ok(n) if n <= bits.remaining() => (0..n).map(|_| T::read_first(bits)).collect(),
        _ => Err(bits.error("more buckets than bytes")),
    }
}

#[cfg(test)]
mod tests;
