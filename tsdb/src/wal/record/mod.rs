//! Records of the log: what was committed, as bytes, encoded and decoded; every type that upstream knows.
//!
//! Encoders append to a buffer that is one record: an empty buffer begins one, a caller who wants another record
//! takes the bytes and clears the buffer. Decoders hand items to a closure one by one and never panic. Nothing here knows
//! of frames, compression or files.
//!
//! Compat: prometheus `tsdb/record`; byte for byte.

mod cursor;
mod exemplars;
mod histograms;
mod marks;
mod samples;
mod series;

pub use cursor::Cursor;
pub use exemplars::{Exemplars, RefExemplar, decode_exemplars};
pub use histograms::{HistogramRecords, decode_histogram, decode_histograms, push_histogram};
pub use marks::{
    RefMarker, RefTombstone, begin_tombstones, decode_markers, decode_tombstones, push_marker, push_tombstone,
};
pub use samples::{RefSample, Samples, begin_samples, decode_samples, each_sample, push_sample};
pub use series::{
    begin_series, decode_labels, decode_metadata, decode_series, each_series, push_labels, push_metadata,
    push_series, push_series_pairs,
};

/// What a record holds, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Series,
    /// Floats, with start times or without.
    Samples,
    Tombstones,
    Exemplars,
    /// Only in the log of late samples.
    Markers,
    Metadata,
    /// Of either kind and any schema, with start times or without.
    Histograms,
    /// Written by nobody we know.
    Unknown(u8),
}

impl Kind {
    pub fn of(record: &[u8]) -> Self {
        match record.first().copied().unwrap_or(0) {
            1 => Self::Series,
            2 | 11 => Self::Samples,
            3 => Self::Tombstones,
            4 => Self::Exemplars,
            5 => Self::Markers,
            6 => Self::Metadata,
            7..=10 | 12 | 13 => Self::Histograms,
            other => Self::Unknown(other),
        }
    }

    /// For messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Samples => "samples",
            Self::Tombstones => "tombstones",
            Self::Exemplars => "exemplars",
            Self::Markers => "mmapmarkers",
            Self::Metadata => "metadata",
            Self::Histograms => "histogram_samples",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// How a record of samples says when the counts began. Compat: prometheus `tsdb/record`, `writeSTMarker`.
mod start {
    pub(super) const NONE: u8 = 0;
    /// As that of the sample before.
    pub(super) const SAME: u8 = 1;
    /// Told relative to the first of the record.
    pub(super) const EXPLICIT: u8 = 2;
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

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_start(out: &mut Vec<u8>, st: i64, first: i64, previous: i64) {
    if st == 0 {
        out.push(start::NONE);
    } else if st == previous {
        out.push(start::SAME);
    } else {
        out.push(start::EXPLICIT);
        push_varint(out, st.wrapping_sub(first));
    }
}

#[cfg(test)]
mod tests;
