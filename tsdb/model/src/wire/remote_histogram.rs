//! The message that both versions of remote write and remote read have for native histograms.
//!
//! Compat: prometheus `prompb/types.proto` and `prompb/io/prometheus/write/v2/types.proto`, `Histogram`.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Native;
use super::protobuf::cursor::{Bad, NUMBERS_MAX, fields, low_u32};
use super::protobuf::put;
use crate::histogram::{Buckets, CounterResetHint, Span};
use crate::{Timestamp, Value};

/// When a histogram was taken and, where that is told, since when it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub t: Timestamp,
    /// 0 where it is not known.
    pub st: Timestamp,
}

/// Reads a histogram into memory that is used again for the next one. Nothing is said of whether it makes sense.
///
/// # Errors
/// The message is malformed.
pub(super) fn read(message: &[u8], has_start: bool, to: &mut Native) -> Result<Times, Bad> {
    let Native { int, float, is_float } = to;
    int.clear_buckets();
    float.clear_buckets();
    (int.count, int.zero_count) = (0, 0);
    (float.count, float.zero_count) = (0.0, 0.0);
    *is_float = false;
    let (mut schema, mut zero_threshold, mut sum, mut hint) = (0, 0.0, 0.0, 0);
    let mut times = Times::default();
    fields("Histogram", message, |field, wire, cursor| {
        match field {
            1 => {
                int.count = cursor.uint("CountInt", wire)?;
                *is_float = false;
            }
            2 => {
                float.count = cursor.double("CountFloat", wire)?;
                *is_float = true;
            }
            3 => sum = cursor.double("Sum", wire)?,
            4 => schema = unzigzag32(cursor.uint("Schema", wire)?),
            5 => zero_threshold = cursor.double("ZeroThreshold", wire)?,
            // Of the two, the one that comes last is meant.
            6 => {
                int.zero_count = cursor.uint("ZeroCountInt", wire)?;
                float.zero_count = 0.0;
            }
            7 => {
                float.zero_count = cursor.double("ZeroCountFloat", wire)?;
                int.zero_count = 0;
            }
            8 => push_span(&mut int.negative_spans, cursor.bytes("NegativeSpans", wire)?)?,
            9 => cursor.sints("NegativeDeltas", wire, &mut int.negative_buckets)?,
            10 => cursor.doubles("NegativeCounts", wire, &mut float.negative_buckets)?,
            11 => push_span(&mut int.positive_spans, cursor.bytes("PositiveSpans", wire)?)?,
            12 => cursor.sints("PositiveDeltas", wire, &mut int.positive_buckets)?,
            13 => cursor.doubles("PositiveCounts", wire, &mut float.positive_buckets)?,
            14 => hint = low_u32(cursor.uint("ResetHint", wire)?),
            15 => times.t = cursor.uint("Timestamp", wire)?.cast_signed(),
            16 => cursor.doubles("CustomValues", wire, &mut int.custom_values)?,
            17 if has_start => times.st = cursor.uint("StartTimestamp", wire)?.cast_signed(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let hint = match hint {
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    if *is_float {
        std::mem::swap(&mut int.positive_spans, &mut float.positive_spans);
        std::mem::swap(&mut int.negative_spans, &mut float.negative_spans);
        std::mem::swap(&mut int.custom_values, &mut float.custom_values);
        (float.schema, float.zero_threshold, float.sum) = (schema, zero_threshold, sum);
        float.counter_reset_hint = hint;
    } else {
        (int.schema, int.zero_threshold, int.sum) = (schema, zero_threshold, sum);
        int.counter_reset_hint = hint;
    }
    Ok(times)
}

fn push_span(spans: &mut Vec<Span>, message: &[u8]) -> Result<(), Bad> {
    if spans.len() >= NUMBERS_MAX {
        return Err(Bad::TooMany { message: "BucketSpan", most: NUMBERS_MAX });
    }
    spans.push(read_span(message)?);
    Ok(())
}

fn read_span(message: &[u8]) -> Result<Span, Bad> {
    let mut span = Span { offset: 0, length: 0 };
    fields("BucketSpan", message, |field, wire, cursor| {
        match field {
            1 => span.offset = unzigzag32(cursor.uint("Offset", wire)?),
            2 => span.length = low_u32(cursor.uint("Length", wire)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(span)
}

/// A number of the type `sint32`.
const fn unzigzag32(v: u64) -> i32 {
    let v = low_u32(v);
    (v >> 1).cast_signed() ^ (v & 1).cast_signed().wrapping_neg()
}

/// Appends the fields of a histogram; nothing for a float.
pub(super) fn write(out: &mut Vec<u8>, times: Times, value: Value<'_>) {
    match value {
        Value::Float(_) => {}
        Value::Histogram(it) => {
            put::uint_always(out, 1, it.count);
            write_totals(out, it);
            put::uint_always(out, 6, it.zero_count);
            let deltas = |out: &mut Vec<u8>, field, buckets: &[i64]| {
                put::packed(out, field, buckets, |out, v| put::varint(out, put::zigzag(v)));
            };
            write_spans(out, 8, &it.negative_spans);
            deltas(out, 9, &it.negative_buckets);
            write_spans(out, 11, &it.positive_spans);
            deltas(out, 12, &it.positive_buckets);
            write_rest(out, times, it);
        }
        Value::FloatHistogram(it) => {
            put::double_always(out, 2, it.count);
            write_totals(out, it);
            put::double_always(out, 7, it.zero_count);
            write_spans(out, 8, &it.negative_spans);
            put::packed(out, 10, &it.negative_buckets, put_double);
            write_spans(out, 11, &it.positive_spans);
            put::packed(out, 13, &it.positive_buckets, put_double);
            write_rest(out, times, it);
        }
    }
}

fn put_double(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_le_bytes());
}

fn write_totals<C, B>(out: &mut Vec<u8>, it: &Buckets<C, B>) {
    put::double(out, 3, it.sum);
    put::sint(out, 4, i64::from(it.schema));
    put::double(out, 5, it.zero_threshold);
}

fn write_spans(out: &mut Vec<u8>, field: u32, spans: &[Span]) {
    for span in spans {
        put::message(out, field, |out| {
            put::sint(out, 1, i64::from(span.offset));
            put::uint(out, 2, u64::from(span.length));
        });
    }
}

fn write_rest<C, B>(out: &mut Vec<u8>, times: Times, it: &Buckets<C, B>) {
    put::uint(out, 14, it.counter_reset_hint as u64);
    put::int(out, 15, times.t);
    put::packed(out, 16, &it.custom_values, put_double);
    put::int(out, 17, times.st);
}
