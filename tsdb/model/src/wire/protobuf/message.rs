//! The messages of `io.prometheus.client`, read into memory that is used again for the next one.
//!
//! Strings stay where they are. A field that comes twice is merged as protobuf wants it: the last number wins,
//! messages are merged, repeated ones follow each other.
//!
//! Compat: prometheus `prompb/io/prometheus/client/metrics.proto` and `decoder.go`.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::cursor::{Bad, fields, unzigzag};
use crate::histogram::Span;

/// A family, its metrics not read yet.
#[derive(Debug, Default)]
pub(super) struct Family<'a> {
    pub(super) name: &'a [u8],
    pub(super) help: &'a [u8],
    pub(super) unit: &'a [u8],
    pub(super) kind: i32,
    pub(super) metrics: Vec<&'a [u8]>,
}

impl<'a> Family<'a> {
    pub(super) fn read(&mut self, message: &'a [u8]) -> Result<(), Bad> {
        let Self { name, help, unit, kind, metrics } = self;
        (*name, *help, *unit, *kind) = (b"", b"", b"", 0);
        metrics.clear();
        fields("MetricFamily", message, |field, wire, cursor| {
            match field {
                1 => *name = cursor.bytes("Name", wire)?,
                2 => *help = cursor.bytes("Help", wire)?,
                3 => *kind = low_i32(cursor.uint("Type", wire)?),
                4 => metrics.push(cursor.bytes("Metric", wire)?),
                5 => *unit = cursor.bytes("Unit", wire)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

/// Name and value of a label or of an exemplar's.
pub(super) type Pair<'a> = (&'a [u8], &'a [u8]);

/// A point in time as protobuf has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Time {
    seconds: i64,
    nanos: i32,
}

impl Time {
    /// Cut towards zero; what does not fit wraps, as upstream.
    pub(super) fn millis(self) -> i64 {
        self.seconds.wrapping_mul(1000).wrapping_add(i64::from(self.nanos / 1_000_000))
    }

    fn merge(slot: &mut Option<Self>, message: &[u8]) -> Result<(), Bad> {
        let time = slot.get_or_insert_default();
        fields("Timestamp", message, |field, wire, cursor| {
            match field {
                1 => time.seconds = cursor.uint("Seconds", wire)?.cast_signed(),
                2 => time.nanos = low_i32(cursor.uint("Nanos", wire)?),
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

/// An exemplar whose labels are a range of the pairs kept beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Exemplar {
    pub(super) labels: Range<usize>,
    pub(super) v: f64,
    pub(super) t: Option<Time>,
}

impl Exemplar {
    fn merge<'a>(slot: &mut Option<Self>, pairs: &mut Vec<Pair<'a>>, message: &'a [u8]) -> Result<(), Bad> {
        let n = pairs.len();
        let exemplar = slot.get_or_insert_with(|| Self { labels: n..n, ..Self::default() });
        fields("Exemplar", message, |field, wire, cursor| {
            match field {
                1 => pairs.push(read_pair(cursor.bytes("Label", wire)?)?),
                2 => exemplar.v = cursor.double("Value", wire)?,
                3 => Time::merge(&mut exemplar.t, cursor.bytes("Timestamp", wire)?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        exemplar.labels.end = pairs.len();
        Ok(())
    }
}

/// Reads a label.
pub(super) fn read_pair(message: &[u8]) -> Result<Pair<'_>, Bad> {
    let (mut name, mut value): Pair<'_> = (b"", b"");
    fields("LabelPair", message, |field, wire, cursor| {
        match field {
            1 => name = cursor.bytes("Name", wire)?,
            2 => value = cursor.bytes("Value", wire)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((name, value))
}

#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Quantile and value.
    pub(super) quantiles: Vec<(f64, f64)>,
    pub(super) start: Option<Time>,
}

impl Summary {
    fn clear(&mut self) {
        (self.count, self.sum, self.start) = (0, 0.0, None);
        self.quantiles.clear();
    }

    fn merge(&mut self, message: &[u8]) -> Result<(), Bad> {
        let Self { count, sum, quantiles, start } = self;
        fields("Summary", message, |field, wire, cursor| {
            match field {
                1 => *count = cursor.uint("SampleCount", wire)?,
                2 => *sum = cursor.double("SampleSum", wire)?,
                3 => quantiles.push(read_quantile(cursor.bytes("Quantile", wire)?)?),
                4 => Time::merge(start, cursor.bytes("StartTimestamp", wire)?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

fn read_quantile(message: &[u8]) -> Result<(f64, f64), Bad> {
    let (mut quantile, mut value) = (0.0, 0.0);
    fields("Quantile", message, |field, wire, cursor| {
        match field {
            1 => quantile = cursor.double("Quantile", wire)?,
            2 => value = cursor.double("Value", wire)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((quantile, value))
}

/// A classic bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    cumulative: u64,
    cumulative_float: f64,
    pub(super) bound: f64,
    pub(super) exemplar: Option<Exemplar>,
}

impl Bucket {
    /// The float counts if it is not 0.
    pub(super) fn count(&self) -> f64 {
        either(self.cumulative_float, self.cumulative)
    }

    fn read<'a>(message: &'a [u8], pairs: &mut Vec<Pair<'a>>) -> Result<Self, Bad> {
        let mut bucket = Self::default();
        fields("Bucket", message, |field, wire, cursor| {
            match field {
                1 => bucket.cumulative = cursor.uint("CumulativeCount", wire)?,
                2 => bucket.bound = cursor.double("UpperBound", wire)?,
                3 => Exemplar::merge(&mut bucket.exemplar, pairs, cursor.bytes("Exemplar", wire)?)?,
                4 => bucket.cumulative_float = cursor.double("CumulativeCountFloat", wire)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(bucket)
    }
}

/// One side of a native histogram; either deltas or counts are used.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) spans: Vec<Span>,
    pub(super) deltas: Vec<i64>,
    pub(super) counts: Vec<f64>,
}

impl Side {
    fn clear(&mut self) {
        self.spans.clear();
        self.deltas.clear();
        self.counts.clear();
    }
}

/// A histogram, classic, native or both.
#[derive(Debug, Default)]
pub(super) struct Histogram<'a> {
    pub(super) count: u64,
    pub(super) count_float: f64,
    pub(super) sum: f64,
    pub(super) buckets: Vec<Bucket>,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: u64,
    pub(super) zero_count_float: f64,
    pub(super) positive: Side,
    pub(super) negative: Side,
    pub(super) start: Option<Time>,
    pub(super) exemplars: Vec<Exemplar>,
    /// The labels of all exemplars, those of buckets among them.
    pub(super) pairs: Vec<Pair<'a>>,
}

impl<'a> Histogram<'a> {
    fn clear(&mut self) {
        (self.count, self.count_float, self.sum) = (0, 0.0, 0.0);
        (self.schema, self.zero_threshold, self.zero_count, self.zero_count_float) = (0, 0.0, 0, 0.0);
        self.buckets.clear();
        self.positive.clear();
        self.negative.clear();
        self.start = None;
        self.exemplars.clear();
        self.pairs.clear();
    }

    fn merge(&mut self, message: &'a [u8]) -> Result<(), Bad> {
        fields("Histogram", message, |field, wire, cursor| {
            match field {
                1 => self.count = cursor.uint("SampleCount", wire)?,
                2 => self.sum = cursor.double("SampleSum", wire)?,
                3 => {
                    let bucket = cursor.bytes("Bucket", wire)?;
                    self.buckets.push(Bucket::read(bucket, &mut self.pairs)?);
                }
                4 => self.count_float = cursor.double("SampleCountFloat", wire)?,
                5 => self.schema = low_sint32(cursor.uint("Schema", wire)?),
                6 => self.zero_threshold = cursor.double("ZeroThreshold", wire)?,
                7 => self.zero_count = cursor.uint("ZeroCount", wire)?,
                8 => self.zero_count_float = cursor.double("ZeroCountFloat", wire)?,
                9 => self.negative.spans.push(read_span(cursor.bytes("NegativeSpan", wire)?)?),
                10 => cursor.sints("NegativeDelta", wire, &mut self.negative.deltas)?,
                11 => cursor.doubles("NegativeCount", wire, &mut self.negative.counts)?,
                12 => self.positive.spans.push(read_span(cursor.bytes("PositiveSpan", wire)?)?),
                13 => cursor.sints("PositiveDelta", wire, &mut self.positive.deltas)?,
                14 => cursor.doubles("PositiveCount", wire, &mut self.positive.counts)?,
                15 => Time::merge(&mut self.start, cursor.bytes("StartTimestamp", wire)?)?,
                16 => {
                    let mut exemplar = None;
                    Exemplar::merge(&mut exemplar, &mut self.pairs, cursor.bytes("Exemplars", wire)?)?;
                    self.exemplars.extend(exemplar);
                }
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    /// Observations as a classic histogram counts them.
    pub(super) fn total(&self) -> f64 {
        either(self.count_float, self.count)
    }

    /// Compat: prometheus `model/textparse`, `isNativeHistogram`.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }

    /// Whether the native part counts in floats.
    pub(super) fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_count_float > 0.0
    }
}

fn read_span(message: &[u8]) -> Result<Span, Bad> {
    let mut span = Span { offset: 0, length: 0 };
    fields("BucketSpan", message, |field, wire, cursor| {
        match field {
            1 => span.offset = low_sint32(cursor.uint("Offset", wire)?),
            2 => span.length = low_u32(cursor.uint("Length", wire)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(span)
}

/// A metric: labels as they are written, and whatever values it has.
#[derive(Debug, Default)]
pub(super) struct Metric<'a> {
    /// A label each.
    pub(super) labels: Vec<&'a [u8]>,
    /// The bytes of all labels with their tags, if they lie side by side.
    together: Option<&'a [u8]>,
    /// The same put together, if they do not.
    gathered: Vec<u8>,
    pub(super) t: i64,
    pub(super) gauge: f64,
    pub(super) counter: f64,
    pub(super) untyped: f64,
    pub(super) counter_start: Option<Time>,
    pub(super) counter_exemplar: Option<Exemplar>,
    pub(super) counter_pairs: Vec<Pair<'a>>,
    pub(super) summary: Summary,
    pub(super) histogram: Histogram<'a>,
}

impl<'a> Metric<'a> {
    pub(super) fn read(&mut self, message: &'a [u8]) -> Result<(), Bad> {
        self.clear();
        // Where the labels begin and end, counted from the end of the message, and whether nothing is between them.
        let (mut begin, mut end, mut is_together) = (None, message.len(), true);
        let mut field_begin = message.len();
        fields("Metric", message, |field, wire, cursor| {
            let known = match field {
                1 => {
                    self.labels.push(cursor.bytes("Label", wire)?);
                    is_together &= begin.is_none() || end == field_begin;
                    begin.get_or_insert(field_begin);
                    end = cursor.len();
                    true
                }
                2 => self.merge_gauge(cursor.bytes("Gauge", wire)?)?,
                3 => self.merge_counter(cursor.bytes("Counter", wire)?)?,
                4 => {
                    self.summary.merge(cursor.bytes("Summary", wire)?)?;
                    true
                }
                5 => self.merge_untyped(cursor.bytes("Untyped", wire)?)?,
                6 => {
                    self.t = cursor.uint("TimestampMs", wire)?.cast_signed();
                    true
                }
                7 => {
                    self.histogram.merge(cursor.bytes("Histogram", wire)?)?;
                    true
                }
                _ => false,
            };
            // Of a field that is passed over the end is not known here; then the next is not beside it.
            field_begin = if known { cursor.len() } else { usize::MAX };
            Ok(known)
        })?;
        if let Some(begin) = begin.filter(|&begin| is_together && begin <= message.len()) {
            let from = message.len().saturating_sub(begin);
            self.together = message.get(from..message.len().saturating_sub(end));
        } else if !self.labels.is_empty() {
            for label in &self.labels {
                self.gathered.extend_from_slice(&label.len().to_le_bytes());
                self.gathered.extend_from_slice(label);
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.labels.clear();
        self.together = None;
        self.gathered.clear();
        (self.t, self.gauge, self.counter, self.untyped) = (0, 0.0, 0.0, 0.0);
        (self.counter_start, self.counter_exemplar) = (None, None);
        self.counter_pairs.clear();
        self.summary.clear();
        self.histogram.clear();
    }

    /// Bytes that are equal for equal labels in equal order.
    pub(super) fn label_bytes(&self) -> &[u8] {
        self.together.unwrap_or(&self.gathered)
    }

    fn merge_gauge(&mut self, message: &[u8]) -> Result<bool, Bad> {
        read_value("Gauge", message, &mut self.gauge).map(|()| true)
    }

    fn merge_untyped(&mut self, message: &[u8]) -> Result<bool, Bad> {
        read_value("Untyped", message, &mut self.untyped).map(|()| true)
    }

    fn merge_counter(&mut self, message: &'a [u8]) -> Result<bool, Bad> {
        fields("Counter", message, |field, wire, cursor| {
            match field {
                1 => self.counter = cursor.double("Value", wire)?,
                2 => {
                    let exemplar = cursor.bytes("Exemplar", wire)?;
                    Exemplar::merge(&mut self.counter_exemplar, &mut self.counter_pairs, exemplar)?;
                }
                3 => Time::merge(&mut self.counter_start, cursor.bytes("StartTimestamp", wire)?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(true)
    }
}

fn read_value(name: &'static str, message: &[u8], value: &mut f64) -> Result<(), Bad> {
    fields(name, message, |field, wire, cursor| {
        if field == 1 {
            *value = cursor.double("Value", wire)?;
        }
        Ok(field == 1)
    })
}

fn either(float: f64, int: u64) -> f64 {
    if float == 0.0 { int as f64 } else { float }
}

#[expect(clippy::cast_possible_truncation, reason = "the upper bits are lost, as upstream has it")]
const fn low_u32(v: u64) -> u32 {
    v as u32
}

const fn low_i32(v: u64) -> i32 {
    low_u32(v).cast_signed()
}

#[expect(clippy::cast_possible_truncation, reason = "the number has 33 bits in the zigzag order")]
const fn low_sint32(v: u64) -> i32 {
    unzigzag(low_u32(v) as u64) as i32
}
