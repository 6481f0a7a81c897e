//! Records of the log: series, samples and tombstones, encoded and decoded.
//!
//! Other types that the reference server writes are told apart by [`Kind`], so that a reader can skip and
//! count them and a checkpoint can carry them on unread.
//!
//! Compat: prometheus `tsdb/record`.

use model::labels::LabelsBuilder;
use model::{Labels, Timestamp};

use crate::DecodeError;

/// What a record holds, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Series,
    Samples,
    Tombstones,
    /// Known to the reference server, not read here; the name is that of its `record.Type`.
    Other(&'static str),
    /// Written by nobody we know.
    Unknown(u8),
}

impl Kind {
    pub fn of(record: &[u8]) -> Self {
        match record.first() {
            Some(1) => Self::Series,
            Some(2) => Self::Samples,
            Some(3) => Self::Tombstones,
            Some(4) => Self::Other("exemplars"),
            Some(5) => Self::Other("mmapmarkers"),
            Some(6) => Self::Other("metadata"),
            Some(7) => Self::Other("histogram_samples"),
            Some(8) => Self::Other("float_histogram_samples"),
            Some(9) => Self::Other("custom_buckets_histogram_samples"),
            Some(10) => Self::Other("custom_buckets_float_histogram_samples"),
            Some(11) => Self::Other("samples-v2"),
            Some(12) => Self::Other("histogram_samples-v2"),
            Some(13) => Self::Other("float_histogram_samples-v2"),
            Some(&other) => Self::Unknown(other),
            None => Self::Unknown(0),
        }
    }
}

/// A sample of the series that the log calls `series`.
#[derive(Clone, Copy, Debug)]
pub struct RefSample {
    pub series: u64,
    pub t: Timestamp,
    pub v: f64,
}

/// A span of time, both ends inside, in which a series has no samples any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefTombstone {
    pub series: u64,
    pub mint: Timestamp,
    pub maxt: Timestamp,
}

/// Begins a series record; [`push_series`] follows.
pub fn begin_series(out: &mut Vec<u8>) {
    out.push(1);
}

pub fn push_series(out: &mut Vec<u8>, series: u64, labels: &Labels) {
    out.extend_from_slice(&series.to_be_bytes());
    push_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        for bytes in [name, value] {
            push_uvarint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    }
}

/// Begins a samples record whose samples are told relative to `base`; [`push_sample`] follows.
pub fn begin_samples(out: &mut Vec<u8>, base: RefSample) {
    out.push(2);
    out.extend_from_slice(&base.series.to_be_bytes());
    out.extend_from_slice(&base.t.to_be_bytes());
}

/// Appends one sample, the base itself included.
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

pub fn begin_tombstones(out: &mut Vec<u8>) {
    out.push(3);
}

pub fn push_tombstone(out: &mut Vec<u8>, tombstone: RefTombstone) {
    out.extend_from_slice(&tombstone.series.to_be_bytes());
    push_varint(out, tombstone.mint);
    push_varint(out, tombstone.maxt);
}

/// Hands every series of a series record to `each`. Names that do not ascend are put in order.
pub fn decode_series(record: &[u8], mut each: impl FnMut(u64, Labels)) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
    while !cursor.is_empty() {
        let series = cursor.be64()?;
        let n = cursor.uvarint()?;
        pairs.clear();
        for _ in 0..n {
            let (name, value) = (cursor.string()?, cursor.string()?);
            if name.len().max(value.len()) >= 1 << 24 {
                return Err(cursor.error("label longer than 16 MiB"));
            }
            pairs.push((name, value));
        }
        let is_canonical =
            pairs.windows(2).all(|pair| pair[0].0 < pair[1].0) && pairs.iter().all(|pair| !pair.1.is_empty());
        let labels = if is_canonical {
            Labels::from_sorted(pairs.iter().copied())
        } else {
            let mut builder = LabelsBuilder::default();
            for (name, value) in &pairs {
                builder.set(name, value);
            }
            builder.build()
        };
        each(series, labels);
    }
    Ok(())
}

/// Appends the samples of a samples record to `out`.
pub fn decode_samples(record: &[u8], out: &mut Vec<RefSample>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    if cursor.is_empty() {
        return Ok(());
    }
    let base_series = cursor.be64()?;
    let base_t = cursor.be64()?.cast_signed();
    while !cursor.is_empty() {
        let series = base_series.wrapping_add(cursor.varint()?.cast_unsigned());
        let t = base_t.wrapping_add(cursor.varint()?);
        let v = f64::from_bits(cursor.be64()?);
        out.push(RefSample { series, t, v });
    }
    Ok(())
}

/// Appends the tombstones of a tombstones record to `out`.
pub fn decode_tombstones(record: &[u8], out: &mut Vec<RefTombstone>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    while !cursor.is_empty() {
        let series = cursor.be64()?;
        out.push(RefTombstone { series, mint: cursor.varint()?, maxt: cursor.varint()? });
    }
    Ok(())
}

/// The time of the first item of a record that is carried on unread, if its kind has times.
pub fn base_time(record: &[u8]) -> Option<Timestamp> {
    let mut cursor = Cursor::after_type(record);
    match record.first()? {
        4 | 7..=10 => {
            cursor.be64().ok()?;
            cursor.be64().ok().map(u64::cast_signed)
        }
        11..=13 => {
            cursor.varint().ok()?;
            cursor.varint().ok()
        }
        _ => None,
    }
}

fn push_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn push_varint(out: &mut Vec<u8>, value: i64) {
    push_uvarint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Takes untrusted bytes from the front; never panics.
#[derive(Clone, Copy, Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Cursor<'a> {
    fn after_type(record: &'a [u8]) -> Self {
        Self { rest: record.get(1..).unwrap_or_default(), len: record.len() }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn be64(&mut self) -> Result<u64, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(self.error("record too short"))?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    #[inline]
    fn uvarint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(self.error("bad varint"))
    }

    #[inline]
    fn varint(&mut self) -> Result<i64, DecodeError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.uvarint()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(self.error("string beyond the record"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn error(&self, what: &'static str) -> DecodeError {
        DecodeError {
            what,
            offset: u32::try_from(self.len.saturating_sub(self.rest.len())).unwrap_or(u32::MAX),
        }
    }
}
