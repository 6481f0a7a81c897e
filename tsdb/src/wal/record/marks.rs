//! Records that say what no longer counts: deleted spans of series, and in the log of late samples what of it
//! went into mapped chunks.
//!
//! Compat: prometheus `tsdb/record`, `Encoder.Tombstones`, `Encoder.MmapMarkers`.

use model::Timestamp;

use super::{Cursor, push_varint};
use crate::DecodeError;

/// A span of time, both ends inside, in which a series has no samples any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefTombstone {
    pub series: u64,
    pub mint: Timestamp,
    pub maxt: Timestamp,
}

/// All late samples of a series up to here are in mapped chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefMarker {
    pub series: u64,
    /// The last of those chunks, as `chunks_head` numbers them: file in the upper half, offset in the lower;
    /// 0 when nothing was mapped before the cut.
    pub chunk: u64,
}

pub fn begin_tombstones(out: &mut Vec<u8>) {
    out.push(3);
}

pub fn push_tombstone(out: &mut Vec<u8>, tombstone: RefTombstone) {
    out.extend_from_slice(&tombstone.series.to_be_bytes());
    push_varint(out, tombstone.mint);
    push_varint(out, tombstone.maxt);
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

/// Appends a marker to a record of them, beginning it if `out` is empty.
pub fn push_marker(out: &mut Vec<u8>, marker: RefMarker) {
    if out.is_empty() {
        out.push(5);
    }
    out.extend_from_slice(&marker.series.to_be_bytes());
    out.extend_from_slice(&marker.chunk.to_be_bytes());
}

/// Appends the markers of a record of them to `out`.
pub fn decode_markers(record: &[u8], out: &mut Vec<RefMarker>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    while !cursor.is_empty() {
        out.push(RefMarker { series: cursor.be64()?, chunk: cursor.be64()? });
    }
    Ok(())
}
