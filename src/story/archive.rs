//! Stories on disk: a log that is appended to, and sealed segments into which it is compacted.
//!
//! Files are `<number>.log` and `<number>.zst`. Both begin with a magic line; then frames follow: length and
//! CRC-32C of a payload (4 bytes each, little endian), then the payload, compressed in a `.zst`. All payloads of a
//! file are one stream of `codec`. A sealed file begins with a frame of the times it spans (16 bytes, plain).
//!
//! What was appended is in the page cache when [`Archive::flush`] returns, so it survives the process; at a frame
//! that is torn or damaged a file ends. A crash while logs are compacted leaves both: entries have numbers, and a
//! reader takes each once.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{TimeRange, Timestamp};

use super::codec::{Decoder, Encoder};
use super::event::Entry;
use super::subject::{Id, Subject};

const LOG_MAGIC: &[u8] = b"ferula story log 1\n";
const SEALED_MAGIC: &[u8] = b"ferula story seg 1\n";

/// The largest payload of a frame, raw; a guard against a broken file.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// A sealed file's frames hold this much before they are compressed.
const SEALED_FRAME_BYTES: usize = 1 << 20;
/// So small logs of many restarts are compacted, too.
const LOGS_MAX: usize = 16;
const ZSTD_LEVEL: i32 = 15;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A log of this size is compacted.
    pub log_bytes: u64,
    /// When all files together are larger, the oldest go.
    pub total_bytes: u64,
    /// What ended longer ago goes.
    pub retention_ms: i64,
}

impl Default for Limits {
    /// A year of ten thousand alerts a day.
    fn default() -> Self {
        Self { log_bytes: 8 << 20, total_bytes: 200 << 20, retention_ms: 365 * 24 * 3_600_000 }
    }
}

pub(super) struct Archive {
    dir: PathBuf,
    limits: Limits,
    /// Finished files by number.
    files: BTreeMap<u64, Stored>,
    current: Option<Current>,
    next_number: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    path: PathBuf,
    is_sealed: bool,
    bytes: u64,
    /// Unbounded for a log.
    span: TimeRange,
}

struct Current {
    number: u64,
    file: File,
    path: PathBuf,
    bytes: u64,
    encoder: Encoder,
    span: TimeRange,
}

/// An entry with the subject that it is about.
pub(super) type Line = (Arc<Subject>, Entry);

impl Archive {
    /// Opens the folder, which is made when missing.
    pub(super) fn open(dir: &Path, limits: Limits) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut files = BTreeMap::new();
        let mut next_number = 1;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
            let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
            let (Some(number), "log" | "zst") = (number, extension.as_str()) else {
                continue;
            };
            next_number = next_number.max(number + 1);
            let is_sealed = extension == "zst";
            let bytes = fs::metadata(&path)?.len();
            let span = if is_sealed { sealed_span(&path) } else { TimeRange::ALL };
            files.insert(number, Stored { path, is_sealed, bytes, span });
        }
        Ok(Self { dir: dir.to_owned(), limits, files, current: None, next_number })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum::<u64>()
            + self.current.as_ref().map_or(0, |current| current.bytes)
    }

    /// Takes an entry; it is written by [`Archive::flush`].
    pub(super) fn append(&mut self, subject: &Subject, entry: &Entry) -> io::Result<()> {
        if self.current.is_none() {
            self.remove_temporary()?;
            let number = self.next_number;
            let path = self.dir.join(format!("{number:08}.log"));
            let mut file = File::create_new(&path)?;
            self.next_number += 1;
            file.write_all(LOG_MAGIC)?;
            let (bytes, encoder) = (LOG_MAGIC.len() as u64, Encoder::default());
            let span = TimeRange::new(entry.first, entry.last);
            self.current = Some(Current { number, file, path, bytes, encoder, span });
        }
        let current = self.current.as_mut().expect("it was made above");
        current.encoder.entry(subject, entry);
        current.span = TimeRange::new(current.span.mint.min(entry.first), current.span.maxt.max(entry.last));
        // Readers take a larger frame for damage.
        if current.encoder.out.len() >= FRAME_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// What a crash left half-written. Not at the opening: the folder may not be ours yet.
    fn remove_temporary(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Writes what was appended. A log that cannot be written is given up, and the next one begins anew.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.encoder.out.is_empty() {
            return Ok(());
        }
        let frame = frame(&current.encoder.out);
        current.encoder.out.clear();
        let written = current.file.write_all(&frame);
        current.bytes += frame.len() as u64;
        if written.is_err() {
            // Later frames would refer to what is not there.
            self.close_current();
        }
        written
    }

    /// Makes what was written survive a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.current.as_ref().map_or(Ok(()), |current| current.file.sync_data())
    }

    fn close_current(&mut self) {
        if let Some(current) = self.current.take() {
            let stored =
                Stored { path: current.path, is_sealed: false, bytes: current.bytes, span: TimeRange::ALL };
            self.files.insert(current.number, stored);
        }
    }

    /// Compacts logs that have become large or many, and removes what is too old or too much.
    pub(super) fn maintain(&mut self, now: Timestamp) -> io::Result<()> {
        self.flush()?;
        if self.current.as_ref().is_some_and(|current| current.bytes >= self.limits.log_bytes) {
            self.close_current();
        }
        let logs = self.files.values().filter(|file| !file.is_sealed);
        let (n_logs, bytes) = logs.fold((0, 0), |(n, bytes), file| (n + 1, bytes + file.bytes));
        if n_logs > LOGS_MAX || bytes >= self.limits.log_bytes {
            self.compact()?;
        }
        self.remove_old(now)
    }

    /// Writes the finished logs as one sealed file: newest versions only, subject by subject.
    fn compact(&mut self) -> io::Result<()> {
        let logs: Vec<_> = self
            .files
            .iter()
            .filter(|(_, file)| !file.is_sealed)
            .map(|(&n, file)| (n, file.clone()))
            .collect();
        let Some(&(number, _)) = logs.last() else { return Ok(()) };
        // Subjects in the order in which they first occur, so that numbers and times differ by little.
        let mut order: HashMap<Id, u64> = HashMap::new();
        let mut newest: BTreeMap<(u64, u64), Line> = BTreeMap::new();
        for (_, log) in &logs {
            read_file(log, &mut |subject, entry| {
                let place = *order.entry(subject.id()).or_insert(entry.number);
                newest.insert((place, entry.number), (Arc::clone(subject), entry));
            })?;
        }
        let mut removed = logs.iter().map(|(n, _)| *n).collect::<Vec<_>>();
        if !newest.is_empty() {
            let path = self.dir.join(format!("{number:08}.zst"));
            let (bytes, span) = write_sealed(&path, newest.values())?;
            removed.retain(|n| *n != number);
            self.files.insert(number, Stored { path, is_sealed: true, bytes, span });
        }
        for n in removed {
            self.files.remove(&n);
        }
        for (_, log) in logs {
            fs::remove_file(&log.path)?;
        }
        Ok(())
    }

    fn remove_old(&mut self, now: Timestamp) -> io::Result<()> {
        while let Some((&number, oldest)) = self.files.iter().next() {
            let is_too_old =
                oldest.is_sealed && oldest.span.maxt < now.saturating_sub(self.limits.retention_ms);
            if !is_too_old && self.bytes() <= self.limits.total_bytes {
                break;
            }
            fs::remove_file(&oldest.path)?;
            self.files.remove(&number);
        }
        Ok(())
    }

    /// The entries of the files that may hold some of `range`, oldest file first.
    pub(super) fn read(
        &mut self,
        range: TimeRange,
        found: &mut impl FnMut(&Arc<Subject>, Entry),
    ) -> io::Result<()> {
        self.flush()?;
        for file in self.files.values().filter(|file| file.span.overlaps(range)) {
            read_file(file, found)?;
        }
        match &self.current {
            Some(current) => read_log(&current.path, found),
            None => Ok(()),
        }
    }

    /// The newest lines, about `n_max` of them, oldest first, and whether that is all there is.
    pub(super) fn read_newest(&self, n_max: usize) -> io::Result<(Vec<Line>, bool)> {
        let mut parts = Vec::new();
        let mut n_lines = 0;
        let mut is_all = true;
        for file in self.files.values().rev() {
            if n_lines >= n_max {
                is_all = false;
                break;
            }
            let mut lines: Vec<Line> = Vec::new();
            read_file(file, &mut |subject, entry| lines.push((Arc::clone(subject), entry)))?;
            n_lines += lines.len();
            parts.push(lines);
        }
        Ok((parts.into_iter().rev().flatten().collect(), is_all))
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    let length = u32::try_from(payload.len()).expect("frames are far smaller than 4 GiB");
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Takes the next whole frame off `bytes`.
fn next_frame<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    if length > 2 * FRAME_BYTES_MAX || crc32c::crc32c(payload) != u32::from_le_bytes(*crc) {
        return None;
    }
    *bytes = rest;
    Some(payload)
}

fn read_file(file: &Stored, found: &mut impl FnMut(&Arc<Subject>, Entry)) -> io::Result<()> {
    if file.is_sealed { read_sealed(&file.path, found) } else { read_log(&file.path, found) }
}

fn read_log(path: &Path, found: &mut impl FnMut(&Arc<Subject>, Entry)) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let Some(mut rest) = bytes.strip_prefix(LOG_MAGIC) else { return Ok(()) };
    let mut decoder = Decoder::default();
    while let Some(payload) = next_frame(&mut rest) {
        if !decoder.read(payload, &mut *found) {
            break;
        }
    }
    if !rest.is_empty() {
        tracing::debug!(path = %path.display(), bytes = rest.len(), "a log of stories ends in the middle");
    }
    Ok(())
}

fn read_sealed(path: &Path, found: &mut impl FnMut(&Arc<Subject>, Entry)) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let Some(mut rest) = bytes.strip_prefix(SEALED_MAGIC) else { return Ok(()) };
    // The span, which only the opening needs.
    let _ = next_frame(&mut rest);
    let mut decoder = Decoder::default();
    while let Some(payload) = next_frame(&mut rest) {
        let Ok(payload) = zstd::bulk::decompress(payload, FRAME_BYTES_MAX) else { break };
        if !decoder.read(&payload, &mut *found) {
            break;
        }
    }
    if !rest.is_empty() {
        tracing::warn!(path = %path.display(), bytes = rest.len(), "a segment of stories is damaged from somewhere on");
    }
    Ok(())
}

/// The times that a sealed file spans; all of them if its head cannot be read.
fn sealed_span(path: &Path) -> TimeRange {
    let read = || -> Option<TimeRange> {
        let mut head = [0; 64];
        let n = io::Read::read(&mut File::open(path).ok()?, &mut head).ok()?;
        let mut rest = head.get(..n)?.strip_prefix(SEALED_MAGIC)?;
        let span = next_frame(&mut rest)?;
        let (mint, rest) = span.split_first_chunk::<8>()?;
        let (maxt, _) = rest.split_first_chunk::<8>()?;
        Some(TimeRange::new(i64::from_le_bytes(*mint), i64::from_le_bytes(*maxt)))
    };
    read().unwrap_or(TimeRange::ALL)
}

fn write_sealed<'l>(path: &Path, lines: impl Iterator<Item = &'l Line>) -> io::Result<(u64, TimeRange)> {
    let mut encoder = Encoder::default();
    let mut frames = Vec::new();
    let mut span = TimeRange::new(i64::MAX, i64::MIN);
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    let mut push = |encoder: &mut Encoder| -> io::Result<()> {
        frames.extend_from_slice(&frame(&compressor.compress(&encoder.out)?));
        encoder.out.clear();
        Ok(())
    };
    for (subject, entry) in lines {
        encoder.entry(subject, entry);
        span = TimeRange::new(span.mint.min(entry.first), span.maxt.max(entry.last));
        if encoder.out.len() >= SEALED_FRAME_BYTES {
            push(&mut encoder)?;
        }
    }
    push(&mut encoder)?;
    let mut bytes = SEALED_MAGIC.to_vec();
    bytes.extend_from_slice(&frame(&[span.mint.to_le_bytes(), span.maxt.to_le_bytes()].concat()));
    bytes.extend_from_slice(&frames);
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok((bytes.len() as u64, span))
}
