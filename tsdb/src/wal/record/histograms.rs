//! Records of histograms: types 7 to 10 relative to the first sample, custom buckets apart; 12 and 13 relative to the
//! sample before, with start times and custom buckets among the others.
//!
//! Compat: prometheus `tsdb/record`, `Encoder.HistogramSamples` and its siblings.

use model::histogram::{
    BucketCount, Buckets, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, InvalidHistogram, Span,
};
use model::{FloatHistogram, Histogram, Timestamp, Value};

use super::{Cursor, push_start, push_uvarint, push_varint};
use crate::DecodeError;

/// A record is closed once it is this long, so that a reader need not hold more.
const RECORD_BYTES: usize = 64 << 10;

/// The finest exponential buckets that are kept. Compat: prometheus `model/histogram`, `ExponentialSchemaMax`.
const SCHEMA_MAX: i32 = 8;

/// Schemas that mean exponential buckets. Compat: prometheus `model/histogram`, `IsExponentialSchemaReserved`.
const SCHEMAS_KNOWN: std::ops::RangeInclusive<i32> = -9..=52;

/// The records of one batch of histograms, apart by type as upstream keeps them.
///
/// The order of samples of one series is kept as long as they are of one kind; where a series changes its
/// kind, [`HistogramRecords::drain`] comes first.
#[derive(Debug)]
pub struct HistogramRecords {
    stores_start_times: bool,
    /// Integer counts, those with custom buckets, float counts, those with custom buckets.
    open: [Open; 4],
    full: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Open {
    bytes: Vec<u8>,
    first: Key,
    previous: Key,
}

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    series: u64,
    st: Timestamp,
    t: Timestamp,
}

impl HistogramRecords {
    /// Without start times the records are of the types that every server reads.
    pub fn new(stores_start_times: bool) -> Self {
        Self { stores_start_times, open: Default::default(), full: Vec::new() }
    }

    /// Appends one histogram; a float is none and ignored.
    pub fn push(&mut self, series: u64, st: Timestamp, t: Timestamp, value: Value<'_>) {
        let key = Key { series, st, t };
        match value {
            Value::Float(_) => debug_assert!(false, "BUG: a float among histograms"),
            Value::Histogram(histogram) => self.push_buckets(0, key, histogram),
            Value::FloatHistogram(histogram) => self.push_buckets(2, key, histogram),
        }
    }

    fn push_buckets<C: Field, B: Field>(&mut self, at: usize, key: Key, histogram: &Buckets<C, B>) {
        let is_apart = !self.stores_start_times && histogram.uses_custom_buckets();
        let at = at + usize::from(is_apart);
        let open = &mut self.open[at];
        let out = &mut open.bytes;
        if self.stores_start_times {
            if out.is_empty() {
                open.first = key;
                out.push(if at == 0 { 12 } else { 13 });
                push_varint(out, key.series.cast_signed());
                push_varint(out, key.t);
                push_varint(out, key.st);
            } else {
                push_varint(out, key.series.wrapping_sub(open.previous.series).cast_signed());
                push_varint(out, key.t.wrapping_sub(open.first.t));
                push_start(out, key.st, open.first.st, open.previous.st);
            }
            open.previous = key;
        } else {
            if out.is_empty() {
                open.first = key;
                out.push([7, 9, 8, 10][at]);
                out.extend_from_slice(&key.series.to_be_bytes());
                out.extend_from_slice(&key.t.to_be_bytes());
            }
            push_varint(out, key.series.wrapping_sub(open.first.series).cast_signed());
            push_varint(out, key.t.wrapping_sub(open.first.t));
        }
        push_histogram(out, histogram);
        if out.len() >= RECORD_BYTES {
            self.full.push(std::mem::take(out));
        }
    }

    /// Hands over all records and starts anew.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        for record in self.full.drain(..) {
            each(&record);
        }
        for open in &mut self.open {
            if !open.bytes.is_empty() {
                each(&open.bytes);
                open.bytes.clear();
            }
        }
    }
}

/// A number of a histogram as its kind writes it.
pub trait Field: Copy + Default {
    #[doc(hidden)]
    const LEN_MIN: usize;
    #[doc(hidden)]
    fn push(self, out: &mut Vec<u8>);
    #[doc(hidden)]
    fn take(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError>;
}

impl Field for u64 {
    const LEN_MIN: usize = 1;

    fn push(self, out: &mut Vec<u8>) {
        push_uvarint(out, self);
    }

    fn take(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.uvarint()
    }
}

impl Field for i64 {
    const LEN_MIN: usize = 1;

    fn push(self, out: &mut Vec<u8>) {
        push_varint(out, self);
    }

    fn take(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.varint()
    }
}

impl Field for f64 {
    const LEN_MIN: usize = 8;

    fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bits().to_be_bytes());
    }

    fn take(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        cursor.float()
    }
}

/// A histogram as records hold it. Compat: prometheus `tsdb/record`, `EncodeHistogram`, `EncodeFloatHistogram`.
pub fn push_histogram<C: Field, B: Field>(out: &mut Vec<u8>, histogram: &Buckets<C, B>) {
    out.push(histogram.counter_reset_hint as u8);
    push_varint(out, i64::from(histogram.schema));
    histogram.zero_threshold.push(out);
    histogram.zero_count.push(out);
    histogram.count.push(out);
    histogram.sum.push(out);
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        push_uvarint(out, spans.len() as u64);
        for span in spans {
            push_varint(out, i64::from(span.offset));
            push_uvarint(out, u64::from(span.length));
        }
    }
    push_all(out, &histogram.positive_buckets);
    push_all(out, &histogram.negative_buckets);
    if histogram.uses_custom_buckets() {
        push_all(out, &histogram.custom_values);
    }
}

fn push_all<F: Field>(out: &mut Vec<u8>, fields: &[F]) {
    push_uvarint(out, fields.len() as u64);
    for &field in fields {
        field.push(out);
    }
}

/// Takes what [`push_histogram`] wrote from the front of `bytes` into `histogram`, as it is; returns what is behind it.
pub fn decode_histogram<'a, C: Field, B: Field>(
    bytes: &'a [u8],
    histogram: &mut Buckets<C, B>,
) -> Result<&'a [u8], DecodeError> {
    let mut cursor = Cursor::new(bytes);
    take_histogram(&mut cursor, histogram)?;
    Ok(cursor.rest())
}

#[expect(clippy::cast_possible_truncation, reason = "wide numbers in narrow fields wrap, as upstream's do")]
fn take_histogram<C: Field, B: Field>(
    cursor: &mut Cursor<'_>,
    histogram: &mut Buckets<C, B>,
) -> Result<(), DecodeError> {
    histogram.counter_reset_hint = match cursor.byte()? {
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    histogram.schema = cursor.varint()? as i32;
    histogram.zero_threshold = cursor.float()?;
    histogram.zero_count = C::take(cursor)?;
    histogram.count = C::take(cursor)?;
    histogram.sum = cursor.float()?;
    for spans in [&mut histogram.positive_spans, &mut histogram.negative_spans] {
        spans.clear();
        for _ in 0..cursor.count(2)? {
            spans.push(Span { offset: cursor.varint()? as i32, length: cursor.uvarint()? as u32 });
        }
    }
    take_all(cursor, &mut histogram.positive_buckets)?;
    take_all(cursor, &mut histogram.negative_buckets)?;
    histogram.custom_values.clear();
    if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
        take_all(cursor, &mut histogram.custom_values)?;
    }
    Ok(())
}

fn take_all<F: Field>(cursor: &mut Cursor<'_>, fields: &mut Vec<F>) -> Result<(), DecodeError> {
    fields.clear();
    for _ in 0..cursor.count(F::LEN_MIN)? {
        fields.push(F::take(cursor)?);
    }
    Ok(())
}

/// Hands every histogram of a record of them to `each`: ref, start time, time, histogram.
///
/// Exponential buckets finer than schema 8 are merged to it; histograms of a schema that nobody knows
/// are left out with a warning.
pub fn decode_histograms(
    record: &[u8],
    mut each: impl FnMut(u64, Timestamp, Timestamp, Value<'_>),
) -> Result<(), DecodeError> {
    if let Some(7 | 9 | 12) = record.first() {
        let mut histogram = Histogram::default();
        each_histogram(record, &mut histogram, |key, it| {
            each(key.series, key.st, key.t, Value::Histogram(it));
        })
    } else {
        let mut histogram = FloatHistogram::default();
        each_histogram(record, &mut histogram, |key, it| {
            each(key.series, key.st, key.t, Value::FloatHistogram(it));
        })
    }
}

fn each_histogram<C: Field, B: Field + BucketCount>(
    record: &[u8],
    histogram: &mut Buckets<C, B>,
    mut each: impl FnMut(Key, &Buckets<C, B>),
) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    if cursor.is_empty() {
        return Ok(());
    }
    let has_start_times = matches!(record.first(), Some(12 | 13));
    let first = if has_start_times {
        Key { series: cursor.varint()?.cast_unsigned(), t: cursor.varint()?, st: cursor.varint()? }
    } else {
        Key { series: cursor.be64()?, t: cursor.be64()?.cast_signed(), st: 0 }
    };
    let mut key = first;
    let mut is_first = true;
    while !cursor.is_empty() {
        if has_start_times && !is_first {
            key.series = key.series.wrapping_add(cursor.varint()?.cast_unsigned());
            key.t = first.t.wrapping_add(cursor.varint()?);
            key.st = cursor.start(first.st, key.st)?;
        } else if !has_start_times {
            key.series = first.series.wrapping_add(cursor.varint()?.cast_unsigned());
            key.t = first.t.wrapping_add(cursor.varint()?);
        }
        is_first = false;
        take_histogram(&mut cursor, histogram)?;
        let schema = histogram.schema;
        if schema != CUSTOM_BUCKETS_SCHEMA && !SCHEMAS_KNOWN.contains(&schema) {
            tracing::warn!(schema, t = key.t, "skipping a histogram of unknown schema in the log");
            continue;
        }
        if schema > SCHEMA_MAX {
            let merged = histogram.reduce_resolution(SCHEMA_MAX);
            merged.map_err(|e| cursor.error(what_of(e)))?;
        }
        each(key, histogram);
    }
    Ok(())
}

fn what_of(invalid: InvalidHistogram) -> &'static str {
    match invalid {
        InvalidHistogram::SpanNegativeOffset => "histogram has a span whose offset is negative",
        _ => "histogram spans need more buckets than there are",
    }
}
