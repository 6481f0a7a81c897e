//! Chunks: runs of samples of one series, encoded.
//!
//! Compat: prometheus `tsdb/chunkenc`.

pub mod bits;
pub mod xor;

use model::{SampleBatch, TimeRange, Timestamp};

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

/// Appends the samples of a whole chunk (header included) that lie in `range` to `out`.
///
/// On an error what was decoded before it stays in `out`.
pub fn decode(
    encoding: Encoding,
    bytes: &[u8],
    range: TimeRange,
    out: &mut SampleBatch,
) -> Result<(), DecodeError> {
    match encoding {
        Encoding::Xor => xor::decode(bytes, range, out),
        _ => Err(DecodeError { what: "chunk of an encoding that cannot be read yet", offset: 0 }),
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
