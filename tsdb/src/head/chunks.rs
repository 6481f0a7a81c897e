//! Full chunks of the head, in mapped files under `chunks_head/`.
//!
//! Sealed chunks gather in a small buffer that is written out when full; a read finds a chunk in the map or, for
//! a moment, in the buffer. What the buffer holds at a kill is rebuilt from the log. While a file cannot be
//! created or written the buffer keeps growing, and every chunk tries again; on a full disk the log refuses
//! commits, so not many come meanwhile.
//!
//! Compat: prometheus `tsdb/chunks`, `ChunkDiskMapper`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use foldhash::HashMap;
use model::Timestamp;
use parking_lot::{Mutex, RwLock};

use crate::chunk::{EncodedChunk, Encoding};
use crate::db::paths;
use crate::fs::{self, File, GrowingMap};
use crate::{Error, Result};

const MAGIC: [u8; 8] = [0x01, 0x30, 0xbc, 0x91, 0x01, 0, 0, 0];

/// Upstream's limit of a file.
const FILE_BYTES_MAX: usize = 128 << 20;

/// Address space per file: a buffer that could not be written may take a file past its limit.
const MAP_BYTES: usize = 256 << 20;

const BUFFER_BYTES: usize = 64 << 10;

/// Ref, two times, encoding.
const RECORD_HEADER_LEN: usize = 25;

/// Set in the encoding of a chunk of late samples.
const LATE: u8 = 0x80;

/// Where a sealed chunk is, and the times of its first and last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) file: u32,
    pub(super) offset: u32,
    pub(super) mint: Timestamp,
    pub(super) maxt: Timestamp,
}

impl Sealed {
    /// Where it is, as one number that rises with every chunk; never zero, since files begin with their magic.
    pub(super) fn place(&self) -> u64 {
        (u64::from(self.file) << 32) | u64::from(self.offset)
    }
}

/// One file; its map outlives its name.
#[derive(Debug)]
pub(super) struct ChunkFile {
    file: File,
    map: GrowingMap,
    mint: AtomicI64,
    maxt: AtomicI64,
}

/// The files by number, as of one moment.
pub(super) type Files = Arc<BTreeMap<u32, Arc<ChunkFile>>>;

#[derive(Debug)]
pub(super) struct HeadChunks {
    dir: PathBuf,
    files: RwLock<Files>,
    tail: Mutex<Tail>,
}

/// The end of what is written.
#[derive(Debug)]
struct Tail {
    /// Of the file that the buffer belongs to.
    number: u32,
    /// Created with the first write of the buffer.
    file: Option<Arc<ChunkFile>>,
    /// The bytes in the file, the magic included even before there is one.
    flushed: usize,
    /// Chunks written since the start.
    n_written: u64,
    /// The times of the oldest and the newest sample in the buffer.
    mint: Timestamp,
    maxt: Timestamp,
    buffer: Vec<u8>,
    has_failed: bool,
}

/// What a scan of the files found: the chunks of each series in order of time.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) by_series: HashMap<u64, Vec<(Sealed, Encoding)>>,
    /// The chunks of late samples of each series, in order of writing.
    pub(super) late_by_series: HashMap<u64, Vec<Sealed>>,
    /// Chunks of encodings or origins that are not read yet.
    pub(super) n_skipped: u64,
    pub(super) n_corruptions: u64,
}

impl HeadChunks {
    /// Scans what is there. A file that does not read is removed with all later ones: the log has their samples.
    pub(super) fn open(dir: &Path) -> Result<(Self, Loaded)> {
        fs::create_dir_all(dir)?;
        let (chunks, loaded, removable) = Self::scan_dir(dir)?;
        for path in removable {
            fs::remove_file(&path)?;
        }
        Ok((chunks, loaded))
    }

    /// As [`HeadChunks::open`], but leaves `dir` as it is, which may be missing: what does not read is left out, and
    /// new chunks go to `scratch`.
    pub(super) fn open_read_only(dir: &Path, scratch: &Path) -> Result<(Self, Loaded)> {
        fs::create_dir_all(scratch)?;
        let dir = if fs::is_dir(dir) { dir } else { scratch };
        let (chunks, loaded, _) = Self::scan_dir(dir)?;
        Ok((Self { dir: scratch.to_owned(), ..chunks }, loaded))
    }

    /// The chunks that read, and the files that are of no use.
    fn scan_dir(dir: &Path) -> Result<(Self, Loaded, Vec<PathBuf>)> {
        let mut numbers: Vec<u32> = fs::list(dir)?.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let mut removable = Vec::new();
        let mut loaded = Loaded::default();
        let mut files = BTreeMap::new();
        let mut stop = None;
        for (i, &number) in numbers.iter().enumerate() {
            let path = path(dir, number);
            let follows = i == 0 || numbers[i - 1] + 1 == number;
            let is_unborn = i + 1 == numbers.len() && fs::file_len(&path)? < MAGIC.len() as u64;
            let scanned = if !follows {
                Err("its predecessor is missing".to_owned())
            } else if is_unborn || unwritten(&path)? {
                // The process ended between the creation of the file and its first byte.
                removable.push(path);
                break;
            } else {
                scan(&path, number, &mut loaded)?
            };
            match scanned {
                Ok(file) => drop(files.insert(number, Arc::new(file))),
                Err(what) => {
                    tracing::error!(path = %path.display(), what, "corrupt head chunks; it and later files are not used, the log has their samples");
                    loaded.n_corruptions += 1;
                    stop = Some(i);
                    break;
                }
            }
        }
        if let Some(stop) = stop {
            removable.extend(numbers[stop..].iter().map(|&number| path(dir, number)));
            for chunks in loaded.by_series.values_mut() {
                chunks.retain(|(chunk, _)| files.contains_key(&chunk.file));
            }
            for chunks in loaded.late_by_series.values_mut() {
                chunks.retain(|chunk| files.contains_key(&chunk.file));
            }
        }
        let next_number = files.keys().last().map_or(1, |n| n + 1);
        let in_blocks = late_in_blocks(dir, next_number, &mut removable)?;
        loaded.late_by_series.values_mut().for_each(|chunks| chunks.retain(|it| it.place() >= in_blocks));
        let tail = Tail {
            number: next_number,
            file: None,
            flushed: MAGIC.len(),
            n_written: 0,
            mint: i64::MAX,
            maxt: i64::MIN,
            buffer: Vec::new(),
            has_failed: false,
        };
        let chunks =
            Self { dir: dir.to_owned(), files: RwLock::new(Arc::new(files)), tail: Mutex::new(tail) };
        Ok((chunks, loaded, removable))
    }

    /// Adds the chunk whose bytes are given in two parts; it can be read at once.
    pub(super) fn write(
        &self,
        series: u64,
        mint: Timestamp,
        maxt: Timestamp,
        encoding: Encoding,
        data: [&[u8]; 2],
    ) -> Result<Sealed> {
        self.put(series, mint, maxt, encoding as u8, data)
    }

    /// Chunks written since the start.
    pub(super) fn n_written(&self) -> u64 {
        self.tail.lock().n_written
    }

    /// Adds a chunk of late samples.
    pub(super) fn write_late(&self, series: u64, chunk: &EncodedChunk) -> Result<Sealed> {
        self.put(series, chunk.mint, chunk.maxt, chunk.encoding as u8 | LATE, [&chunk.bytes, &[]])
    }

    fn put(
        &self,
        series: u64,
        mint: Timestamp,
        maxt: Timestamp,
        encoding: u8,
        data: [&[u8]; 2],
    ) -> Result<Sealed> {
        let mut tail = self.tail.lock();
        let len = data[0].len() + data[1].len();
        if tail.end() + RECORD_HEADER_LEN + len + 8 > FILE_BYTES_MAX && self.flush(&mut tail).is_ok() {
            tail.number += 1;
            (tail.file, tail.flushed) = (None, MAGIC.len());
        }
        if tail.end() + RECORD_HEADER_LEN + len + 8 > MAP_BYTES {
            let full = std::io::Error::other("what could not be written fills the buffer");
            return Err(Error::Io { path: path(&self.dir, tail.number), op: "write", source: full });
        }
        let (number, at) = (tail.number, tail.buffer.len());
        let offset = u32::try_from(tail.end()).expect("files stay below 256 MiB");
        tail.n_written += 1;
        tail.mint = tail.mint.min(mint);
        tail.maxt = tail.maxt.max(maxt);
        let buffer = &mut tail.buffer;
        buffer.extend_from_slice(&series.to_be_bytes());
        buffer.extend_from_slice(&mint.to_be_bytes());
        buffer.extend_from_slice(&maxt.to_be_bytes());
        buffer.push(encoding);
        push_uvarint(buffer, len);
        for part in data {
            buffer.extend_from_slice(part);
        }
        let crc = crc32c::crc32c(&buffer[at..]);
        buffer.extend_from_slice(&crc.to_be_bytes());
        if tail.buffer.len() >= BUFFER_BYTES
            && let Err(e) = self.flush(&mut tail)
            && !std::mem::replace(&mut tail.has_failed, true)
        {
            tracing::error!(error = %e, "head chunks cannot be written and stay in memory");
        }
        Ok(Sealed { file: number, offset, mint, maxt })
    }

    /// Writes the buffer out, into a new file if there is none.
    fn flush(&self, tail: &mut Tail) -> Result<()> {
        if tail.buffer.is_empty() {
            return Ok(());
        }
        let file = match &tail.file {
            Some(file) => Arc::clone(file),
            None => self.create(tail.number)?,
        };
        tail.file = Some(Arc::clone(&file));
        file.file.write_all_at(&tail.buffer, tail.flushed as u64)?;
        tail.flushed += tail.buffer.len();
        file.mint.fetch_min(tail.mint, Ordering::Relaxed);
        file.maxt.fetch_max(tail.maxt, Ordering::Relaxed);
        file.map.publish(tail.flushed);
        (tail.mint, tail.maxt) = (i64::MAX, i64::MIN);
        tail.buffer.clear();
        tail.buffer.shrink_to(2 * BUFFER_BYTES);
        tail.has_failed = false;
        Ok(())
    }

    fn create(&self, number: u32) -> Result<Arc<ChunkFile>> {
        let file = File::create(&path(&self.dir, number))?;
        file.write_all_at(&MAGIC, 0)?;
        fs::sync_dir(&self.dir)?;
        let map = GrowingMap::new(&file, MAP_BYTES, MAGIC.len())?;
        let file =
            Arc::new(ChunkFile { file, map, mint: AtomicI64::new(i64::MAX), maxt: AtomicI64::new(i64::MIN) });
        Arc::make_mut(&mut self.files.write()).insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// The files of this moment; whoever holds them can read their chunks for ever.
    pub(super) fn files(&self) -> Files {
        Arc::clone(&self.files.read())
    }

    /// Hands the bytes of a chunk, its checksum verified, to `read`. `pinned` are files taken earlier.
    pub(super) fn read<T>(
        &self,
        pinned: &Files,
        at: Sealed,
        read: impl FnOnce(Encoding, &[u8]) -> T,
    ) -> Result<T> {
        let corrupt = |what: String| Error::corrupt(&path(&self.dir, at.file), u64::from(at.offset), what);
        let written = |files: &Files| {
            let file = files.get(&at.file)?;
            (file.map.bytes().len() > at.offset as usize).then(|| Arc::clone(file))
        };
        let mut file = written(pinned);
        let mut buffered = Vec::new();
        if file.is_none() {
            let tail = self.tail.lock();
            file = written(&self.files());
            if file.is_none() {
                let start = (at.offset as usize).checked_sub(tail.flushed).filter(|_| tail.number == at.file);
                let rest = start.and_then(|start| tail.buffer.get(start..));
                let rest = rest.ok_or_else(|| corrupt("the file of a chunk is gone".to_owned()))?;
                // Read outside of the lock.
                let len = parse(rest).map_err(corrupt)?.0;
                buffered.extend_from_slice(&rest[..len]);
            }
        }
        let bytes = match &file {
            Some(file) => &file.map.bytes()[at.offset as usize..],
            None => &buffered,
        };
        let record = parse(bytes).map_err(corrupt)?.1;
        let encoding = Encoding::from_byte(record.encoding & !LATE)
            .ok_or_else(|| corrupt(format!("chunk of unknown encoding {}", record.encoding)))?;
        Ok(read(encoding, record.data))
    }

    /// The place of the next chunk, unless it begins a file.
    pub(super) fn end(&self) -> u64 {
        let tail = self.tail.lock();
        (u64::from(tail.number) << 32) | tail.end() as u64
    }

    /// Notes that the chunks of late samples before `place` are in blocks: the next start need not read them.
    pub(super) fn note_late_in_blocks(&self, place: u64) -> Result<()> {
        // So that the file exists that it points into.
        self.flush(&mut self.tail.lock())?;
        let place = place.to_be_bytes();
        let sum = crc32c::crc32c(&place).to_be_bytes();
        fs::create_dir_all(&self.dir.with_file_name(paths::OWN))?;
        fs::replace(&late_note(&self.dir), &[&place[..], &sum].concat())
    }

    /// Removes the oldest files as long as all their chunks end before `mint` and they come before `keep_from`.
    pub(super) fn truncate(&self, mint: Timestamp, keep_from: u32) -> Result<()> {
        let current = self.tail.lock().number.min(keep_from);
        loop {
            let mut files = self.files.write();
            let Some((&number, file)) = files.first_key_value() else { return Ok(()) };
            if file.maxt.load(Ordering::Relaxed) >= mint || number >= current {
                return Ok(());
            }
            let path = file.file.path().to_owned();
            Arc::make_mut(&mut files).remove(&number);
            drop(files);
            fs::remove_file(&path)?;
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        fs::dir_size(&self.dir)
    }

    /// The time of the oldest sample that a start may find in the files, of use or not.
    pub(super) fn oldest(&self) -> Timestamp {
        let buffered = self.tail.lock().mint;
        let files = self.files();
        files.values().map(|file| file.mint.load(Ordering::Relaxed)).fold(buffered, Timestamp::min)
    }

    /// Of chunks that are not in a file yet.
    pub(super) fn buffer_bytes(&self) -> u64 {
        self.tail.lock().buffer.capacity() as u64
    }

    /// Writes out what is in the buffer, so that it survives the end of the process.
    pub(super) fn flush_all(&self) -> Result<()> {
        self.flush(&mut self.tail.lock())
    }

    pub(super) fn close(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        self.flush(&mut tail)?;
        tail.file.as_ref().map_or(Ok(()), |file| file.file.sync_data())
    }
}

impl Tail {
    /// Where the next record will be.
    fn end(&self) -> usize {
        self.flushed + self.buffer.len()
    }
}

/// Where the note on the chunk files in `dir` is.
fn late_note(dir: &Path) -> PathBuf {
    dir.with_file_name(paths::OWN).join(paths::LATE_IN_BLOCKS)
}

/// What [`HeadChunks::note_late_in_blocks`] noted, zero if nothing. A note about files that are gone is dropped: others will
/// have their numbers. What it says of chunks that somebody else wrote under such numbers meanwhile does no harm, as
/// the log has what is not in blocks.
fn late_in_blocks(dir: &Path, next_number: u32, removable: &mut Vec<PathBuf>) -> Result<u64> {
    let path = late_note(dir);
    let Some(note) = fs::read_if_exists(&path)? else { return Ok(0) };
    let place = note.split_first_chunk().and_then(|(&place, sum)| {
        (*sum == crc32c::crc32c(&place).to_be_bytes()).then_some(u64::from_be_bytes(place))
    });
    let end = (u64::from(next_number) << 32) | MAGIC.len() as u64;
    Ok(place.filter(|&place| place <= end).unwrap_or_else(|| {
        removable.push(path);
        0
    }))
}

fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}"))
}

/// Whether a file was created, perhaps preallocated, and never written.
fn unwritten(path: &Path) -> Result<bool> {
    let file = File::open(path)?;
    let mut magic = [0; 8];
    Ok(file.len()? < 8 || {
        file.read_exact_at(&mut magic, 0)?;
        magic == [0; 8]
    })
}

struct Record<'a> {
    series: u64,
    mint: Timestamp,
    maxt: Timestamp,
    encoding: u8,
    data: &'a [u8],
}

/// The record at the front of `bytes` and its length.
fn parse(bytes: &[u8]) -> Result<(usize, Record<'_>), String> {
    let torn = || "torn record".to_owned();
    let be64 =
        |at: usize| bytes.get(at..at + 8).and_then(|b| b.first_chunk()).map(|b| u64::from_be_bytes(*b));
    let series = be64(0).ok_or_else(torn)?;
    let mint = be64(8).ok_or_else(torn)?.cast_signed();
    let maxt = be64(16).ok_or_else(torn)?.cast_signed();
    let encoding = *bytes.get(24).ok_or_else(torn)?;
    let mut len = 0_usize;
    let mut at = RECORD_HEADER_LEN;
    for shift in [0, 7, 14, 21] {
        let byte = *bytes.get(at).ok_or_else(torn)?;
        at += 1;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        if shift == 21 {
            return Err("length of a chunk is out of bounds".to_owned());
        }
    }
    let data = bytes.get(at..at + len).ok_or_else(torn)?;
    let crc = bytes.get(at + len..at + len + 4).and_then(|b| b.first_chunk()).ok_or_else(torn)?;
    let (expected, found) = (u32::from_be_bytes(*crc), crc32c::crc32c(&bytes[..at + len]));
    if expected != found {
        return Err(format!("checksum mismatch expected:{expected:x}, actual:{found:x}"));
    }
    Ok((at + len + 4, Record { series, mint, maxt, encoding, data }))
}

/// Reads a whole file; the inner error says why it is corrupt.
fn scan(path: &Path, number: u32, loaded: &mut Loaded) -> Result<Result<ChunkFile, String>> {
    let file = File::open(path)?;
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if len > MAP_BYTES {
        return Ok(Err(format!("file of {len} bytes")));
    }
    let map = GrowingMap::new(&file, MAP_BYTES, len)?;
    let bytes = map.bytes();
    if bytes.get(..8) != Some(&MAGIC) {
        return Ok(Err("unknown magic or version".to_owned()));
    }
    let mut at = MAGIC.len();
    let (mut oldest, mut newest) = (i64::MAX, i64::MIN);
    while at < len {
        let rest = &bytes[at..];
        if rest.iter().take(24).all(|&b| b == 0) {
            // Preallocated and never written; only zeros may follow.
            if rest.iter().any(|&b| b != 0) {
                return Ok(Err(format!("data after the end mark at byte {at}")));
            }
            break;
        }
        let (record_len, record) = match parse(rest) {
            Ok(parsed) => parsed,
            Err(what) => return Ok(Err(format!("{what} at byte {at}"))),
        };
        oldest = oldest.min(record.mint);
        newest = newest.max(record.maxt);
        if record.encoding & LATE != 0 && Encoding::from_byte(record.encoding & !LATE).is_some() {
            if record.mint <= record.maxt {
                let offset = u32::try_from(at).expect("below the map's size");
                let chunk = Sealed { file: number, offset, mint: record.mint, maxt: record.maxt };
                loaded.late_by_series.entry(record.series).or_default().push(chunk);
            }
        } else if let Some(encoding) = Encoding::from_byte(record.encoding) {
            let chunks = loaded.by_series.entry(record.series).or_default();
            if record.mint <= record.maxt && chunks.last().is_none_or(|(last, _)| last.maxt < record.mint) {
                let offset = u32::try_from(at).expect("below the map's size");
                let chunk = Sealed { file: number, offset, mint: record.mint, maxt: record.maxt };
                chunks.push((chunk, encoding));
            }
        } else {
            loaded.n_skipped += 1;
        }
        at += record_len;
    }
    Ok(Ok(ChunkFile { file, map, mint: AtomicI64::new(oldest), maxt: AtomicI64::new(newest) }))
}

fn push_uvarint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(dir: &Path) -> Vec<Sealed> {
        let (chunks, _) = HeadChunks::open(dir).unwrap();
        let sealed = (0..20)
            .map(|i| {
                chunks
                    .write(7, i * 10, i * 10 + 9, Encoding::Xor, [&[0, 3], &[i.to_le_bytes()[0]; 40]])
                    .unwrap()
            })
            .collect();
        chunks.close().unwrap();
        sealed
    }

    #[test]
    fn record_golden_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (chunks, _) = HeadChunks::open(dir.path()).unwrap();
        let at = chunks.write(5, -1, 300, Encoding::FloatHistogram, [b"\0\x02", b"ab"]).unwrap();
        let check = |encoding, bytes: &[u8]| {
            assert_eq!((encoding, bytes), (Encoding::FloatHistogram, &b"\0\x02ab"[..]));
        };
        chunks.read(&chunks.files(), at, check).unwrap();
        chunks.close().unwrap();
        chunks.read(&chunks.files(), at, check).unwrap();
        let bytes = fs::read(&path(dir.path(), 1)).unwrap();
        let golden = b"\x01\x30\xbc\x91\x01\0\0\0\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\x01\x2c\x03\x04\0\x02ab";
        assert_eq!(&bytes[..golden.len()], golden);
        assert_eq!(bytes.len(), golden.len() + 4);
    }

    #[test]
    fn chunks_come_back_after_reopening_and_files_go_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = fill(dir.path());
        let (chunks, loaded) = HeadChunks::open(dir.path()).unwrap();
        let with_encoding: Vec<_> = sealed.iter().map(|&chunk| (chunk, Encoding::Xor)).collect();
        assert_eq!(loaded.by_series[&7], with_encoding);
        let later = chunks.write(8, 1000, 1001, Encoding::Xor, [b"\0\x01", b"z"]).unwrap();
        assert_eq!(later.file, 2);
        chunks.close().unwrap();
        let pinned = chunks.files();
        chunks.truncate(500, u32::MAX).unwrap();
        assert_eq!(fs::list(dir.path()).unwrap(), ["000002"]);
        chunks.read(&pinned, sealed[3], |_, bytes| assert_eq!(bytes[2..], [3; 40])).unwrap();
        assert!(chunks.read(&chunks.files(), sealed[3], |_, _| ()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_are_dropped_never_a_panic(at in 0_usize..1500, flip in 1_u8.., cut in 0_usize..1600) {
            let dir = tempfile::tempdir().unwrap();
            fill(dir.path());
            let path = path(dir.path(), 1);
            let mut bytes = fs::read(&path).unwrap();
            let len = bytes.len();
            bytes[at % len] ^= flip;
            bytes.truncate(cut);
            fs::write(&path, &bytes).unwrap();
            let (chunks, loaded) = HeadChunks::open(dir.path()).unwrap();
            for &(sealed, _) in loaded.by_series.values().flatten() {
                let _ = chunks.read(&chunks.files(), sealed, |_, _| ());
            }
        }
    }
}
