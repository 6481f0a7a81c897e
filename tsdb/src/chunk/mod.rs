//! Chunks: runs of samples of one series, encoded.
//!
//! Compat: prometheus `tsdb/chunkenc`.

mod batch;
pub mod bits;
mod builder;
#[cfg(test)]
mod golden;
mod histogram;
mod start_time;
#[cfg(test)]
pub(crate) mod testing;
mod varbit;
pub mod xor;
mod xor2;
mod xored;

use model::storage::RawChunk;
use model::{Detail, HistogramPoints, SampleBatch, TimeRange, Timestamp};

pub use self::batch::{encode_as, encode_batch};
pub use self::builder::{Builder, Pushed};

use crate::DecodeError;

/// How the bytes of a chunk are to be read; the discriminant is the byte on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
    Xor2 = 4,
    HistogramSt = 5,
    FloatHistogramSt = 6,
}

impl Encoding {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Xor),
            2 => Some(Self::Histogram),
            3 => Some(Self::FloatHistogram),
            4 => Some(Self::Xor2),
            5 => Some(Self::HistogramSt),
            6 => Some(Self::FloatHistogramSt),
            _ => None,
        }
    }
}

/// One encoded chunk on its way from the head or a block into a new block.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// The times of its first and last sample.
    pub mint: Timestamp,
    pub maxt: Timestamp,
    pub encoding: Encoding,
    pub bytes: Vec<u8>,
}

impl EncodedChunk {
    /// The chunk as others see it.
    pub fn raw(&self) -> RawChunk<'_> {
        RawChunk { mint: self.mint, maxt: self.maxt, encoding: self.encoding as u8, bytes: &self.bytes }
    }
}

/// What floats are written as where their chunk does not dictate it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FloatEncoding {
    /// Readable by every release.
    #[default]
    Xor,
    /// Smaller, with room for start times; readable from 3.11 on.
    Xor2,
}

/// Appends the samples of a whole chunk (header included) that lie in `range` to `out`.
///
/// On an error what was decoded before it stays in `out`.
pub fn decode(
    encoding: Encoding,
    bytes: &[u8],
    range: TimeRange,
    out: &mut SampleBatch,
) -> Result<(), DecodeError> {
    decode_first(encoding, bytes, count(encoding, bytes)?, range, out)
}

/// As [`decode`], for the first `n` samples of a chunk that may have more or still grow.
pub fn decode_first(
    encoding: Encoding,
    bytes: &[u8],
    n: u16,
    range: TimeRange,
    out: &mut SampleBatch,
) -> Result<(), DecodeError> {
    match encoding {
        Encoding::Xor => {
            let stream = bytes.get(xor::HEADER_LEN..);
            let stream = stream.ok_or(DecodeError { what: "chunk too short", offset: 0 })?;
            xor::decode_stream(stream, n, range, out)
        }
        Encoding::Xor2 => xor2::decode(bytes, n, range, out),
        Encoding::Histogram | Encoding::HistogramSt => {
            let with_start = encoding.keeps_start();
            histogram::decode::<histogram::Int>(bytes, with_start, n, range, out)
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let with_start = encoding.keeps_start();
            histogram::decode::<histogram::Float>(bytes, with_start, n, range, out)
        }
    }
}

/// As [`decode_first`], with histograms as floats and apart.
pub fn decode_points(
    encoding: Encoding,
    bytes: &[u8],
    n: u16,
    range: TimeRange,
    detail: Detail,
    floats: &mut SampleBatch,
    histograms: &mut HistogramPoints,
) -> Result<(), DecodeError> {
    use self::histogram::{Float, Int, points};
    let with_start = encoding.keeps_start();
    match encoding {
        Encoding::Xor | Encoding::Xor2 => decode_first(encoding, bytes, n, range, floats),
        Encoding::Histogram | Encoding::HistogramSt => {
            points::decode::<Int>(bytes, with_start, n, range, detail, histograms)
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            points::decode::<Float>(bytes, with_start, n, range, detail, histograms)
        }
    }
}

/// The sample count in a chunk's header. The two kinds of histogram chunks with start times keep 14 bits for it.
pub fn count(encoding: Encoding, bytes: &[u8]) -> Result<u16, DecodeError> {
    let count = xor::count(bytes)?;
    Ok(match encoding {
        Encoding::HistogramSt | Encoding::FloatHistogramSt => count & 0x3fff,
        _ => count,
    })
}
