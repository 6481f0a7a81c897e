//! Records of exemplars.
//!
//! Compat: prometheus `tsdb/record`, `Encoder.Exemplars`.

use model::{Exemplar, Timestamp};

use super::series::take_labels;
use super::{Cursor, push_labels, push_varint};
use crate::DecodeError;

/// An exemplar of the series that the log calls `series`.
#[derive(Clone, Debug)]
pub struct RefExemplar {
    pub series: u64,
    pub exemplar: Exemplar,
}

/// Encodes exemplars. An empty buffer begins a record.
#[derive(Clone, Copy, Debug)]
pub struct Exemplars {
    kind: u8,
    first: (u64, Timestamp),
}

impl Default for Exemplars {
    fn default() -> Self {
        Self::with_type(4)
    }
}

impl Exemplars {
    /// Under another type byte: snapshots of the head hold the same bodies.
    pub(crate) fn with_type(kind: u8) -> Self {
        Self { kind, first: (0, 0) }
    }

    pub fn push(&mut self, out: &mut Vec<u8>, series: u64, exemplar: &Exemplar) {
        if out.is_empty() {
            self.first = (series, exemplar.t);
            out.push(self.kind);
            out.extend_from_slice(&series.to_be_bytes());
            out.extend_from_slice(&exemplar.t.to_be_bytes());
        }
        let (first, first_t) = self.first;
        push_varint(out, series.wrapping_sub(first).cast_signed());
        push_varint(out, exemplar.t.wrapping_sub(first_t));
        out.extend_from_slice(&exemplar.v.to_bits().to_be_bytes());
        push_labels(out, &exemplar.labels);
    }
}

/// Hands every exemplar of a record of them to `each`.
pub fn decode_exemplars(record: &[u8], mut each: impl FnMut(RefExemplar)) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    if cursor.is_empty() {
        return Ok(());
    }
    let base = cursor.be64()?;
    let base_t = cursor.be64()?.cast_signed();
    while !cursor.is_empty() {
        let series = base.wrapping_add(cursor.varint()?.cast_unsigned());
        let t = base_t.wrapping_add(cursor.varint()?);
        let v = cursor.float()?;
        let labels = take_labels(&mut cursor)?;
        each(RefExemplar { series, exemplar: Exemplar { labels, v, t, has_own_t: true } });
    }
    Ok(())
}
