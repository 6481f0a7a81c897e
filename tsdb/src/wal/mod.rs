//! The write-ahead log: what was committed, so that it survives the end of the process.
//!
//! [`record`] turns samples and series into bytes, [`Writer`] frames and appends them in groups, [`reader`] takes
//! them apart again and tells where they stop making sense, [`repair`] cuts there, [`checkpoint`] keeps the
//! log short. Knows nothing of shards or chunks. File names of a log live in [`segment`].
//!
//! Compat: prometheus `tsdb/wlog` and `tsdb/record`; the same files, both ways.

pub mod checkpoint;
mod compress;
pub mod reader;
pub mod record;
pub mod repair;
pub mod segment;
mod writer;

pub use compress::Compression;
pub use writer::{Batch, Metrics, Options, Writer};

/// The log is a sequence of pages; a fragment of a record never crosses one.
pub const PAGE_LEN: usize = 32 << 10;

/// Type and flags, length, checksum.
const HEADER_LEN: usize = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
const KIND_MASK: u8 = 0x07;
const SNAPPY: u8 = 0x08;
const ZSTD: u8 = 0x10;

#[cfg(test)]
mod tests;
