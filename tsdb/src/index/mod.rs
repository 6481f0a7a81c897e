//! The index of a block: which series it holds, under which labels, with which chunks.
//!
//! One file, written once in one pass, read in place from the map. Postings (the series of one label pair)
//! are lists of ascending 32-bit refs; [`select`] turns matchers into one of them.
//! Knows nothing of chunks but their times and refs, nothing of directories.
//!
//! Compat: prometheus `tsdb/index`, format 2 written, 1 to 3 read.

pub mod postings;
pub mod reader;
pub mod select;
pub mod writer;

pub use postings::Postings;
pub use reader::Reader;
pub use writer::Writer;

use model::Timestamp;

use crate::DecodeError;
use crate::bytes::Cursor;

pub(crate) const MAGIC: u32 = 0xBAAA_D700;
pub(crate) const VERSION: u8 = 2;
/// Magic and version byte.
const HEADER_LEN: usize = 5;
/// Six offsets and their checksum, at the very end of the file.
const TOC_LEN: usize = 6 * 8 + 4;
/// Entries of the series section start at multiples of it, and refs count in it.
const SERIES_ALIGN: u64 = 16;
/// The name and value under which the list of all series stands.
const ALL: (&[u8], &[u8]) = (b"", b"");

/// What the index keeps of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    /// The times of its first and last sample.
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// Zero-based segment in the upper half, offset in that file in the lower.
    pub chunk_ref: u64,
}

/// Where the sections lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Toc {
    symbols: u64,
    series: u64,
    /// The end of the series, where older writers put the values of each label.
    label_indices: u64,
    label_indices_table: u64,
    postings: u64,
    postings_table: u64,
}

impl Toc {
    fn encode(&self) -> Vec<u8> {
        let offsets = [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_indices_table,
            self.postings,
            self.postings_table,
        ];
        let mut out: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        out.extend(crc32c::crc32c(&out).to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let body = cursor.take(TOC_LEN - 4)?;
        if cursor.u32()? != crc32c::crc32c(body) {
            return Err(DecodeError { what: "checksum of the table of contents does not match", offset: 0 });
        }
        let mut cursor = Cursor::new(body);
        Ok(Self {
            symbols: cursor.u64()?,
            series: cursor.u64()?,
            label_indices: cursor.u64()?,
            label_indices_table: cursor.u64()?,
            postings: cursor.u64()?,
            postings_table: cursor.u64()?,
        })
    }
}

#[cfg(test)]
mod tests;
