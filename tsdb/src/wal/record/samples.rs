//! Records of floats: type 2 relative to the first sample, type 11 relative to the one before and with start times.
//!
//! Compat: prometheus `tsdb/record`, `Encoder.Samples`, `Decoder.Samples`.

use model::Timestamp;

use super::{Cursor, push_start, push_varint};
use crate::DecodeError;

/// A float of the series that the log calls `series`; it counts since `st`, 0 if that is not known.
#[derive(Clone, Copy, Debug)]
pub struct RefSample {
    pub series: u64,
    pub st: Timestamp,
    pub t: Timestamp,
    pub v: f64,
}

/// Encodes floats. An empty buffer begins a record.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    stores_start_times: bool,
    first: RefSample,
    /// Ref and start time of the sample before, when start times are stored.
    previous: (u64, Timestamp),
}

impl Samples {
    /// Without start times the records are of the type that every server reads.
    pub fn new(stores_start_times: bool) -> Self {
        let first = RefSample { series: 0, st: 0, t: 0, v: 0.0 };
        Self { stores_start_times, first, previous: (0, 0) }
    }

    #[inline]
    pub fn push(&mut self, out: &mut Vec<u8>, sample: RefSample) {
        if self.stores_start_times {
            return self.push_started(out, sample);
        }
        if out.is_empty() {
            begin_samples(out, sample);
            self.first = sample;
        }
        push_sample(out, self.first, sample);
    }

    fn push_started(&mut self, out: &mut Vec<u8>, sample: RefSample) {
        if out.is_empty() {
            out.push(11);
            push_varint(out, sample.series.cast_signed());
            push_varint(out, sample.t);
            push_varint(out, sample.st);
            self.first = sample;
        } else {
            let (series, st) = self.previous;
            push_varint(out, sample.series.wrapping_sub(series).cast_signed());
            push_varint(out, sample.t.wrapping_sub(self.first.t));
            push_start(out, sample.st, self.first.st, st);
        }
        out.extend_from_slice(&sample.v.to_bits().to_be_bytes());
        self.previous = (sample.series, sample.st);
    }
}

/// Begins a record of type 2 whose samples are told relative to `base`; [`push_sample`] follows.
pub fn begin_samples(out: &mut Vec<u8>, base: RefSample) {
    out.push(2);
    out.extend_from_slice(&base.series.to_be_bytes());
    out.extend_from_slice(&base.t.to_be_bytes());
}

/// Appends one sample to a record of type 2, the base itself included.
#[inline]
pub fn push_sample(out: &mut Vec<u8>, base: RefSample, sample: RefSample) {
    // The worst case of two varints and a float, so that the bytes go out as one copy.
    let mut bytes = [0_u8; 28];
    let mut at = put_varint(&mut bytes, 0, sample.series.wrapping_sub(base.series).cast_signed());
    at = put_varint(&mut bytes, at, sample.t.wrapping_sub(base.t));
    bytes[at..at + 8].copy_from_slice(&sample.v.to_bits().to_be_bytes());
    // Whole and cut back: a copy of a length known beforehand is a few instructions.
    let end = out.len() + at + 8;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

#[inline]
fn put_varint(bytes: &mut [u8; 28], mut at: usize, value: i64) -> usize {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        bytes[at] = raw.to_le_bytes()[0] | 0x80;
        raw >>= 7;
        at += 1;
    }
    bytes[at] = raw.to_le_bytes()[0];
    at + 1
}

/// Hands every sample of a record of floats to `each`, in order.
#[inline]
pub fn each_sample(record: &[u8], mut each: impl FnMut(RefSample)) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    if cursor.is_empty() {
        return Ok(());
    }
    if record.first() == Some(&11) {
        return each_started(cursor, each);
    }
    let base_series = cursor.be64()?;
    let base_t = cursor.be64()?.cast_signed();
    while !cursor.is_empty() {
        let series = base_series.wrapping_add(cursor.varint()?.cast_unsigned());
        let t = base_t.wrapping_add(cursor.varint()?);
        each(RefSample { series, st: 0, t, v: cursor.float()? });
    }
    Ok(())
}

fn each_started(mut cursor: Cursor<'_>, mut each: impl FnMut(RefSample)) -> Result<(), DecodeError> {
    let mut series = cursor.varint()?.cast_unsigned();
    let first_t = cursor.varint()?;
    let first_st = cursor.varint()?;
    let mut st = first_st;
    each(RefSample { series, st, t: first_t, v: cursor.float()? });
    while !cursor.is_empty() {
        series = series.wrapping_add(cursor.varint()?.cast_unsigned());
        let t = first_t.wrapping_add(cursor.varint()?);
        st = cursor.start(first_st, st)?;
        each(RefSample { series, st, t, v: cursor.float()? });
    }
    Ok(())
}

/// Appends the samples of a record of floats to `out`.
pub fn decode_samples(record: &[u8], out: &mut Vec<RefSample>) -> Result<(), DecodeError> {
    each_sample(record, |sample| out.push(sample))
}
