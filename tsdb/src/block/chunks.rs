//! Chunk segments: the encoded samples of a block, in files of bounded size.
//!
//! Chunks are found by the refs in the index alone; the files hold nothing about series or times.
//!
//! Compat: prometheus `tsdb/chunks`, `Writer` and `Reader`.

use std::path::{Path, PathBuf};

use crate::bytes::{Cursor, put_uvarint};
use crate::chunk::EncodedChunk;
use crate::fs::{self, Mmap};
use crate::output::Output;
use crate::{Error, Result};

const MAGIC: u32 = 0x85BD_40DD;
const VERSION: u8 = 1;
/// Magic, version and three zeros.
const HEADER_LEN: usize = 8;
/// Where upstream begins a new segment.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 512 << 20;
/// What a chunk takes beside its data, at most: length, encoding, checksum.
const OVERHEAD_MAX: u64 = 5 + 1 + 4;

/// The file name of the segment with number `n`, counted from 1.
pub(crate) fn segment_name(n: u32) -> String {
    format!("{n:06}")
}

/// Writes segments one after the other.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    segment_bytes: u64,
    /// How many segments were begun.
    segments: u32,
    out: Option<Output>,
    size: u64,
    scratch: Vec<u8>,
}

impl Writer {
    /// Creates `dir`; the first segment comes with the first chunk.
    pub(crate) fn create(dir: &Path, segment_bytes: u64) -> Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), segment_bytes, segments: 0, out: None, size: 0, scratch: Vec::new() })
    }

    /// Writes the chunks of one series and appends their refs to `refs`.
    ///
    /// A new segment begins before the chunk that would pass the limit, judged as upstream judges: the size at
    /// the start of the call is exact, what the call adds is taken at its worst.
    pub(crate) fn write(&mut self, chunks: &[EncodedChunk], refs: &mut Vec<u64>) -> Result<()> {
        let mut estimate = self.out.as_ref().map_or(0, Output::pos);
        for chunk in chunks {
            let worst = chunk.bytes.len() as u64 + OVERHEAD_MAX;
            if estimate == 0 || (estimate > HEADER_LEN as u64 && estimate + worst > self.segment_bytes) {
                self.cut()?;
                estimate = HEADER_LEN as u64;
            }
            estimate += worst;
            refs.push(self.write_chunk(chunk)?);
        }
        Ok(())
    }

    fn write_chunk(&mut self, chunk: &EncodedChunk) -> Result<u64> {
        let out = self.out.as_mut().expect("a segment was begun before the chunk");
        let offset = u32::try_from(out.pos()).map_err(|_| {
            Error::io("write", out.path())(std::io::Error::other("chunk segment larger than 4 GiB"))
        })?;
        self.scratch.clear();
        put_uvarint(&mut self.scratch, chunk.bytes.len() as u64);
        out.put(&self.scratch)?;
        out.begin_sum();
        out.put_summed(&[chunk.encoding as u8])?;
        out.put_summed(&chunk.bytes)?;
        out.put_sum()?;
        Ok(u64::from(self.segments - 1) << 32 | u64::from(offset))
    }

    fn cut(&mut self) -> Result<()> {
        if let Some(out) = self.out.take() {
            self.size += out.finish()?;
        }
        self.segments += 1;
        let mut out = Output::create(&self.dir.join(segment_name(self.segments)))?;
        out.put(&MAGIC.to_be_bytes())?;
        out.put(&[VERSION, 0, 0, 0])?;
        self.out = Some(out);
        Ok(())
    }

    /// Syncs the last segment and the names of all; returns the bytes of all segments.
    pub(crate) fn finish(mut self) -> Result<u64> {
        if let Some(out) = self.out.take() {
            self.size += out.finish()?;
        }
        fs::sync_dir(&self.dir)?;
        Ok(self.size)
    }
}

/// The mapped segments of a block.
#[derive(Debug)]
pub(crate) struct Reader {
    segments: Vec<Mmap>,
}

impl Reader {
    /// Maps every segment in `dir` and checks its header; a gap in the numbers is an error, since refs count
    /// segments.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let mut numbers: Vec<u32> =
            fs::list(dir)?.iter().filter_map(|name| parse_segment_name(name)).collect();
        numbers.sort_unstable();
        let mut segments = Vec::with_capacity(numbers.len());
        for (expected, number) in (1..).zip(numbers) {
            let path = dir.join(segment_name(number));
            if number != expected {
                return Err(Error::corrupt(
                    &path,
                    0,
                    format!("chunk segment {expected} is missing before it"),
                ));
            }
            let map = Mmap::open(&path)?;
            check_header(&map).map_err(|what| Error::corrupt(&path, 0, what))?;
            segments.push(map);
        }
        Ok(Self { segments })
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|map| map.len() as u64).sum()
    }

    /// The encoding byte and the data of the chunk at `chunk_ref`, its checksum verified.
    pub(crate) fn chunk(&self, chunk_ref: u64) -> Result<(u8, &[u8])> {
        let offset = chunk_ref & u64::from(u32::MAX);
        let Some(map) = usize::try_from(chunk_ref >> 32).ok().and_then(|i| self.segments.get(i)) else {
            let dir =
                self.segments.first().and_then(|map| map.path().parent()).unwrap_or(Path::new("chunks"));
            let what = format!("chunk in segment {} of {}", (chunk_ref >> 32) + 1, self.segments.len());
            return Err(Error::corrupt(dir, offset, what));
        };
        decode_record(map, usize::try_from(offset).unwrap_or(usize::MAX))
            .map_err(|what| Error::corrupt(map.path(), offset, what))
    }

    pub(crate) fn path(&self, chunk_ref: u64) -> &Path {
        usize::try_from(chunk_ref >> 32)
            .ok()
            .and_then(|i| self.segments.get(i))
            .map_or(Path::new("chunks"), Mmap::path)
    }
}

fn decode_record(map: &[u8], offset: usize) -> Result<(u8, &[u8]), &'static str> {
    let read = || {
        let mut cursor = Cursor::at(map, offset);
        let len = usize::try_from(cursor.uvarint()?).unwrap_or(usize::MAX);
        let mut whole = cursor;
        let encoding = cursor.u8()?;
        let data = cursor.take(len)?;
        let summed = whole.take(len.saturating_add(1))?;
        Ok((encoding, data, summed, cursor.u32()?))
    };
    let (encoding, data, summed, sum) = read().map_err(|e: crate::DecodeError| e.what)?;
    if offset < HEADER_LEN || crc32c::crc32c(summed) != sum {
        return Err("checksum of a chunk does not match");
    }
    Ok((encoding, data))
}

fn check_header(map: &[u8]) -> Result<(), &'static str> {
    let mut cursor = Cursor::new(map);
    let header = (cursor.u32(), cursor.u8(), cursor.take(3));
    match header {
        (Ok(MAGIC), Ok(VERSION), Ok(_)) => Ok(()),
        (Ok(MAGIC), Ok(_), _) => Err("chunk segment of an unknown version"),
        _ => Err("not a chunk segment: wrong magic number"),
    }
}

fn parse_segment_name(name: &str) -> Option<u32> {
    (name.len() >= 6 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}
