//! What all samples of a histogram chunk share, told once before the first.
//!
//! Compat: prometheus `tsdb/chunkenc`, `writeHistogramChunkLayout`.

use model::histogram::{Buckets, CUSTOM_BUCKETS_SCHEMA, SCHEMA_MAX_KNOWN, SCHEMA_MIN_KNOWN, Span};

use super::super::bits::{BitReader, BitWriter};
use super::super::varbit;
use crate::DecodeError;

/// A zero threshold of 2^e is the byte e + 1 + 243; 0 is 0, everything else follows behind the byte 255.
const THRESHOLD_BIAS: i32 = 243;
const THRESHOLD_IN_FULL: u64 = 255;

/// The largest bound that is told in thousandths.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive_spans: Vec<Span>,
    pub(super) negative_spans: Vec<Span>,
    pub(super) custom_values: Vec<f64>,
}

impl Layout {
    pub(super) fn of<C, B>(histogram: &Buckets<C, B>) -> Self {
        Self {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            positive_spans: histogram.positive_spans.clone(),
            negative_spans: histogram.negative_spans.clone(),
            custom_values: histogram.custom_values.clone(),
        }
    }

    /// Whether the listed bounds are the same, if this schema lists any.
    pub(super) fn has_bounds_of<C, B>(&self, histogram: &Buckets<C, B>) -> bool {
        self.schema != CUSTOM_BUCKETS_SCHEMA || self.custom_values == histogram.custom_values
    }

    pub(super) fn write(&self, bits: &mut BitWriter) {
        write_threshold(bits, self.zero_threshold);
        varbit::put_int(bits, i64::from(self.schema));
        for spans in [&self.positive_spans, &self.negative_spans] {
            varbit::put_uint(bits, spans.len() as u64);
            for span in spans {
                varbit::put_uint(bits, u64::from(span.length));
                varbit::put_int(bits, i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            varbit::put_uint(bits, self.custom_values.len() as u64);
            for &bound in &self.custom_values {
                write_bound(bits, bound);
            }
        }
    }

    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        let zero_threshold = read_threshold(bits)?;
        let schema = i32::try_from(varbit::read_int(bits)?)
            .ok()
            .filter(|schema| {
                (SCHEMA_MIN_KNOWN..=SCHEMA_MAX_KNOWN).contains(schema) || *schema == CUSTOM_BUCKETS_SCHEMA
            })
            .ok_or_else(|| bits.error("histogram of an unknown schema"))?;
        let positive_spans = read_spans(bits)?;
        let negative_spans = read_spans(bits)?;
        let mut custom_values = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            // No bound takes less than five bits: bad bytes end this loop before it has taken much.
            for _ in 0..varbit::read_uint(bits)? {
                custom_values.push(read_bound(bits)?);
            }
        }
        Ok(Self { schema, zero_threshold, positive_spans, negative_spans, custom_values })
    }
}

fn read_spans(bits: &mut BitReader<'_>) -> Result<Vec<Span>, DecodeError> {
    let mut spans = Vec::new();
    for i in 0..varbit::read_uint(bits)? {
        let length = u32::try_from(varbit::read_uint(bits)?);
        let offset = i32::try_from(varbit::read_int(bits)?);
        match (length, offset) {
            (Ok(length), Ok(offset)) if i == 0 || offset >= 0 => spans.push(Span { offset, length }),
            _ => return Err(bits.error("histogram with an impossible span")),
        }
    }
    Ok(spans)
}

fn write_threshold(bits: &mut BitWriter, threshold: f64) {
    if threshold == 0.0 {
        return bits.put(0, 8);
    }
    let raw = threshold.to_bits();
    // A normal power of two: no sign, no fraction. All that the byte can tell are normal.
    let exponent = i32::try_from(raw >> 52).expect("twelve bits") - 1023;
    if raw.trailing_zeros() >= 52 && (-THRESHOLD_BIAS..=10).contains(&exponent) {
        let byte = exponent + 1 + THRESHOLD_BIAS;
        return bits.put(u64::from(byte.cast_unsigned()), 8);
    }
    bits.put(THRESHOLD_IN_FULL, 8);
    bits.put(raw, 64);
}

fn read_threshold(bits: &mut BitReader<'_>) -> Result<f64, DecodeError> {
    Ok(match bits.read(8)? {
        0 => 0.0,
        THRESHOLD_IN_FULL => f64::from_bits(bits.read(64)?),
        byte => f64::from_bits((byte + 1022 - u64::from(THRESHOLD_BIAS.cast_unsigned())) << 52),
    })
}

fn write_bound(bits: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    let rounded = thousandths.round();
    if (0.0..=THOUSANDTHS_MAX).contains(&thousandths) && rounded / 1000.0 == bound {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be in 0..2^25"
        )]
        varbit::put_uint(bits, rounded as u64 + 1);
    } else {
        bits.put(0, 1);
        bits.put(bound.to_bits(), 64);
    }
}

fn read_bound(bits: &mut BitReader<'_>) -> Result<f64, DecodeError> {
    Ok(match varbit::read_uint(bits)? {
        0 => f64::from_bits(bits.read(64)?),
        n => (n - 1) as f64 / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_and_bounds_survive_and_are_short_where_they_can() {
        let len = |write: fn(&mut BitWriter, f64),
                   read: fn(&mut BitReader<'_>) -> Result<f64, DecodeError>,
                   v: f64| {
            let mut bits = BitWriter::default();
            write(&mut bits, v);
            let bytes = bits.into_bytes();
            assert_eq!(read(&mut BitReader::new(&bytes)).map(f64::to_bits), Ok(v.to_bits()), "{v}");
            bytes.len()
        };
        for v in [0.0, 2_f64.powi(-128), 2_f64.powi(-243), 1024.0, 1.0, 0.5] {
            assert_eq!(len(write_threshold, read_threshold, v), 1, "{v}");
        }
        for v in [2_f64.powi(-244), 2048.0, 0.001, f64::MAX, f64::from_bits(1), -1.0] {
            assert_eq!(len(write_threshold, read_threshold, v), 9, "{v}");
        }
        for (v, bytes) in [(0.0, 1), (0.006, 1), (0.007, 2), (1.0, 3), (33_554.43, 4)] {
            assert_eq!(len(write_bound, read_bound, v), bytes, "{v}");
        }
        for v in [33_554.431, 0.0001, -1.0, 1e300] {
            assert_eq!(len(write_bound, read_bound, v), 9, "{v}");
        }
    }
}
