//! Chunks: runs of samples of one series, encoded.
//!
//! Compat: prometheus `tsdb/chunkenc`.

pub mod bits;
pub mod xor;

use model::Timestamp;

/// How the bytes of a chunk are to be read; the discriminant is the byte on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    Xor = 1,
}

impl Encoding {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Xor),
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
