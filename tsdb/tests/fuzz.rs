//! Every reader of the store and of expositions on damaged bytes: an error or other samples, never a panic, an
//! endless loop, or memory without bound.
//!
//! Directories that Prometheus and we wrote are changed in some bytes, lengths, names or records, most of them with
//! checksums made right again, so that what lies behind them is reached; then they are opened, read and
//! maintained as a server would. Chunks are also decoded on their own.
//!
//! `cargo test` runs a fixed seed for a moment. `FERULA_FUZZ_SECONDS` and `FERULA_FUZZ_SEED` (`make fuzz`) run longer; a
//! failure prints its seed and leaves the files that were changed in the temporary directory, to be kept
//! in `testdata/fuzz`, whose cases run first of all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "random numbers")]

#[path = "../benches/measure/protobuf.rs"]
mod exposition;
mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fastrand::Rng;
use fixture::Files;
use model::storage::{Appendable, Queryable, SelectHints, SeriesKey};
use model::wire::{HistogramOptions, nhcb, parse, protobuf};
use model::{Labels, SampleBatch, TimeRange};
use tsdb::Db;
use tsdb::chunk::{self, Encoding};
use tsdb::db::Options;
use tsdb::head::ReplayProgress;

/// What one case may hold at a time: buffers of readers and writers, and some times its input.
const MEMORY_MAX: usize = 192 << 20;

/// How long one case may take, on a machine that does other things as well.
const PATIENCE_MS: u64 = 30_000;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// The case under way and when it began, for those who can only write it down and end.
static CASE: AtomicU64 = AtomicU64::new(0);
static BEGUN: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes on to the system's allocator unchanged or, for a size that no reader has a use for, is
// refused as the contract allows; counting is done in atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > 4 * MEMORY_MAX {
            let _ = writeln!(
                std::io::stderr(),
                "case {} asks for {} bytes at once",
                CASE.load(Relaxed),
                layout.size()
            );
            return std::ptr::null_mut();
        }
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One at a time, since memory is counted for the whole process.
static TURN: Mutex<()> = Mutex::new(());

fn millis() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64 + 1
}

/// Ends the process when a case takes too long: a thread that loops cannot be stopped otherwise.
fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let begun = BEGUN.load(Relaxed);
            if begun > 0 && millis().saturating_sub(begun) > PATIENCE_MS {
                let _ = writeln!(
                    std::io::stderr(),
                    "case {} is not over after {PATIENCE_MS} ms",
                    CASE.load(Relaxed)
                );
                std::process::abort();
            }
        }
    });
}

/// Runs one case; why it failed, if so.
fn guarded(case: u64, run: impl FnOnce()) -> Result<(), String> {
    CASE.store(case, Relaxed);
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    BEGUN.store(millis(), Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    BEGUN.store(0, Relaxed);
    let peak = PEAK.load(Relaxed).saturating_sub(before);
    match outcome {
        Err(why) => {
            let text = why.downcast_ref::<String>().map(String::as_str);
            Err(format!("panic: {}", text.or(why.downcast_ref::<&str>().copied()).unwrap_or("?")))
        }
        Ok(()) if peak > MEMORY_MAX => Err(format!("{} MiB were held at a time", peak >> 20)),
        Ok(()) => Ok(()),
    }
}

/// Opens a directory and does all that a server would do with it.
fn exercise(dir: &Path) {
    let options =
        Options { wal_segment_bytes: 64 << 10, wal_sync_interval: Duration::ZERO, ..Options::default() };
    // Once as it is, once after all that reading and repairing did to it.
    for _ in 0..2 {
        let Ok(db) = Db::open(dir, &options, &ReplayProgress::default()) else { continue };
        read(&db);
        let newest = Some(db.head().max_time()).filter(|&t| t != i64::MIN).unwrap_or(0);
        let mut appender = db.appender(1);
        let labels = Labels::from_pairs([("__name__", "after")]);
        let _ = appender.append(SeriesKey::Labels(&labels), newest.saturating_add(1), 1.0);
        let _ = appender.commit();
        let _ = db.maintain(newest);
        read(&db);
        let _ = db.close();
    }
}

fn read(db: &Db) {
    let Ok(querier) = db.querier(TimeRange::ALL) else { return };
    for name in querier.label_names(&[], 0).unwrap_or_default().iter().take(50) {
        let _ = querier.label_values(name, &[], 0);
    }
    let sorted = SelectHints { sorted: true, ..SelectHints::default() };
    let Ok(set) = querier.select(&[], &sorted) else { return };
    let mut batch = SampleBatch::default();
    for i in 0..set.len().min(5000) {
        batch.clear();
        let _ = set.labels(i).to_string();
        let _ = set.samples_into(i, TimeRange::ALL, &mut batch);
    }
}

/// Changes some of `bytes` in one of the ways that find bugs.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const NUMBERS: [&[u8]; 9] = [
        &[0x00],
        &[0xff],
        &[0x7f],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0, 0, 0, 0, 0],
        // Varints: 2^63, 2^64 - 1, one that never ends.
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff; 12],
    ];
    for _ in 0..=rng.usize(..3) {
        let len = bytes.len();
        if len == 0 {
            bytes.push(rng.u8(..));
            continue;
        }
        let at = rng.usize(..len);
        let run = rng.usize(..=(len - at).min(32));
        match rng.u8(..8) {
            0 | 1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes[at] = rng.u8(..),
            3 => {
                let number = NUMBERS[rng.usize(..NUMBERS.len())];
                let n = number.len().min(len - at);
                bytes[at..at + n].copy_from_slice(&number[..n]);
            }
            4 => drop(bytes.drain(at..at + run)),
            5 => {
                let part = bytes[at..at + run].to_vec();
                let to = rng.usize(..=len);
                drop(bytes.splice(to..to, part));
            }
            6 if rng.u8(..4) == 0 => bytes.truncate(at),
            _ => bytes[at..at + run].fill(0),
        }
    }
}

fn uvarint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..).step_by(7).take(5) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_uvarint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn be32(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

/// Puts the checksum of `from..to` behind it, where there is room.
fn seal(bytes: &mut [u8], from: usize, to: usize) {
    if from <= to && to + 4 <= bytes.len() {
        let sum = crc32c::crc32c(&bytes[from..to]);
        bytes[to..to + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Changes a piece of `bytes` in place and leaves its length.
fn mutate_within(rng: &mut Rng, bytes: &mut [u8], from: usize, to: usize) {
    let to = to.min(bytes.len());
    if from >= to {
        return;
    }
    let mut part = bytes[from..to].to_vec();
    mutate(rng, &mut part);
    part.resize(to - from, 0);
    bytes[from..to].copy_from_slice(&part);
}

/// A log: records are taken out, changed and framed again, so that what decodes them sees the change.
fn mutate_log(rng: &mut Rng, segment: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut reader = tsdb::wal::reader::Records::new(segment);
    while let Ok(Some(record)) = reader.next() {
        records.push(record.to_vec());
    }
    if records.is_empty() {
        return segment.to_vec();
    }
    for _ in 0..=rng.usize(..3) {
        let at = rng.usize(..records.len());
        match rng.u8(..6) {
            0 => drop(records.remove(at)),
            1 => {
                let record = records[at].clone();
                records.insert(rng.usize(..=records.len()), record);
            }
            // Another type for the same body.
            2 => {
                if let Some(kind) = records[at].first_mut() {
                    *kind = rng.u8(..16);
                }
            }
            _ => mutate(rng, &mut records[at]),
        }
        if records.is_empty() {
            break;
        }
    }
    let mut out = Vec::new();
    for record in records {
        let (body, flags) = match rng.u8(..3) {
            0 => (snap::raw::Encoder::new().compress_vec(&record).unwrap(), 0x08),
            1 => (zstd::bulk::compress(&record, 1).unwrap(), 0x10),
            _ => (record, 0),
        };
        let mut rest = &body[..];
        let mut is_first = true;
        while is_first || !rest.is_empty() {
            let mut left = 32_768 - out.len() % 32_768;
            if left < 7 {
                out.resize(out.len() + left, 0);
                left = 32_768;
            }
            let (part, behind) = rest.split_at(rest.len().min(left - 7));
            let kind = match (is_first, behind.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            out.push(kind | flags);
            out.extend_from_slice(&(part.len() as u16).to_be_bytes());
            out.extend_from_slice(&crc32c::crc32c(part).to_be_bytes());
            out.extend_from_slice(part);
            rest = behind;
            is_first = false;
        }
    }
    out
}

/// Where the chunks of a segment (`in_head`: of a file of head chunks) lie: from, data, to.
fn chunks_of(bytes: &[u8], in_head: bool) -> Vec<(usize, usize, usize)> {
    let mut found = Vec::new();
    let mut start = 8;
    loop {
        let mut at = start + if in_head { 25 } else { 0 };
        let Some(len) = uvarint(bytes, &mut at).filter(|&len| len > 0) else { return found };
        let data = at + usize::from(!in_head);
        let to = data.saturating_add(len);
        if to + 4 > bytes.len() {
            return found;
        }
        found.push((start, data, to));
        start = to + 4;
    }
}

fn mutate_chunks(rng: &mut Rng, bytes: &mut [u8], in_head: bool) {
    let chunks = chunks_of(bytes, in_head);
    for _ in 0..=rng.usize(..3) {
        let Some(&(from, data, to)) = chunks.get(rng.usize(..chunks.len().max(1))) else { return };
        match rng.u8(..5) {
            // Another encoding; in the head also other times and series.
            0 if in_head => mutate_within(rng, bytes, from, from + 25),
            0 => bytes[data - 1] = rng.u8(..9),
            1 => bytes[data + usize::from(to > data + 1)] ^= 1 << rng.u8(..8),
            _ => mutate_within(rng, bytes, data, to),
        }
        let summed = if in_head { from } else { data - 1 };
        seal(bytes, summed, to);
    }
}

fn mutate_index(rng: &mut Rng, bytes: &mut [u8]) {
    let Some(toc) = bytes.len().checked_sub(52) else { return };
    let slots: Vec<usize> =
        (0..6).map(|i| be32(bytes, toc + i * 8 + 4).unwrap_or(0).min(bytes.len())).collect();
    match rng.u8(..5) {
        0 => {
            mutate_within(rng, bytes, toc, toc + 48);
            seal(bytes, toc, toc + 48);
        }
        // Symbols and the table of postings: length, content, checksum.
        1 | 2 => {
            let start = if rng.bool() { slots[0] } else { slots[5] };
            let Some(len) = be32(bytes, start) else { return };
            mutate_within(rng, bytes, start + 4, start.saturating_add(4 + len));
            seal(bytes, start + 4, start.saturating_add(4 + len).min(bytes.len()));
        }
        3 => {
            let mut lists = Vec::new();
            let mut at = slots[4].next_multiple_of(4);
            while at < slots[5] {
                let Some(len) = be32(bytes, at) else { break };
                lists.push((at + 4, at + 4 + len));
                at = (at + 8 + len).next_multiple_of(4);
            }
            let Some(&(from, to)) = lists.get(rng.usize(..lists.len().max(1))) else { return };
            mutate_within(rng, bytes, from, to);
            seal(bytes, from, to);
        }
        _ => {
            let mut entries = Vec::new();
            let mut at = slots[1].next_multiple_of(16);
            while at < slots[2] {
                let mut content = at;
                let Some(len) = uvarint(bytes, &mut content) else { break };
                entries.push((content, content + len));
                at = (content + len + 4).next_multiple_of(16);
            }
            let Some(&(from, to)) = entries.get(rng.usize(..entries.len().max(1))) else { return };
            mutate_within(rng, bytes, from, to);
            seal(bytes, from, to);
        }
    }
}

/// Our own snapshot of the head: kind, length, payload and checksum of each block.
fn mutate_own_head(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::new();
    let mut at = 8;
    while let Some(len) = be32(bytes, at + 1) {
        let Some(payload) = bytes.get(at + 5..(at + 5).saturating_add(len)) else { break };
        blocks.push((bytes[at], payload.to_vec()));
        at += len + 9;
    }
    if !blocks.is_empty() {
        let i = rng.usize(..blocks.len());
        match rng.u8(..8) {
            0 => drop(blocks.remove(i)),
            1 => blocks[i].0 = rng.u8(..10),
            // The place in the log is believed only if it is the very one.
            _ if i > 0 => mutate(rng, &mut blocks[i].1),
            _ => {}
        }
    }
    let mut out = bytes.get(..8).unwrap_or_default().to_vec();
    for (kind, payload) in blocks {
        out.push(kind);
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(&payload);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), &payload);
        out.extend_from_slice(&crc.to_be_bytes());
    }
    out
}

fn mutate_tombstones(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let mut body = bytes.get(5..bytes.len().saturating_sub(4)).unwrap_or_default().to_vec();
    for _ in 0..rng.usize(..4) {
        put_uvarint(&mut body, rng.usize(..12));
        put_uvarint(&mut body, rng.usize(..));
        put_uvarint(&mut body, rng.usize(..));
    }
    mutate(rng, &mut body);
    bytes.truncate(5);
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
}

/// Changes a file as its name suggests, or blindly.
fn mutate_file(rng: &mut Rng, name: &str, bytes: &mut Vec<u8>) {
    if rng.u8(..6) == 0 {
        return mutate(rng, bytes);
    }
    let folders: Vec<&str> = name.split('/').collect();
    match folders.as_slice() {
        ["wal" | "wbl", ..] => *bytes = mutate_log(rng, bytes),
        [folder, _] if folder.starts_with("chunk_snapshot.") => *bytes = mutate_log(rng, bytes),
        ["ferula", "head"] => *bytes = mutate_own_head(rng, bytes),
        ["chunks_head", _] => mutate_chunks(rng, bytes, true),
        [_, "chunks", _] => mutate_chunks(rng, bytes, false),
        [_, "index"] => mutate_index(rng, bytes),
        [_, "tombstones"] => mutate_tombstones(rng, bytes),
        _ => mutate(rng, bytes),
    }
}

/// Gives files other names, takes some away, puts others where they do not belong.
fn mutate_names(rng: &mut Rng, files: &mut Files) {
    const NAMES: [&str; 14] = [
        "wal/00000007",
        "wal/99999999999999999999",
        "wal/0",
        "wal/checkpoint.00000009/00000000",
        "wal/checkpoint.99999999999999999999/00000000",
        "wal/checkpoint.00000001.tmp/00000000",
        "wbl/00000009",
        "chunks_head/000009",
        "chunks_head/99999999999",
        "chunk_snapshot.000000.0000000000/00000000",
        "chunk_snapshot.999999.9999999999/00000000",
        "chunk_snapshot.x/00000000",
        "01M7ZJTF92VD453ZF00AYBCYX6/chunks/000003",
        "01M7ZJTF92VD453ZF00AYBCYX6/meta.json",
    ];
    let keys: Vec<String> = files.keys().cloned().collect();
    let content = files.remove(&keys[rng.usize(..keys.len())]).unwrap();
    if rng.bool() {
        files.insert(NAMES[rng.usize(..NAMES.len())].to_owned(), content);
    }
}

/// Chunks of every encoding that the fixtures have.
fn chunk_seeds(fixtures: &BTreeMap<&str, Files>) -> Vec<(Encoding, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, bytes) in fixtures.values().flatten() {
        let in_head = name.starts_with("chunks_head/");
        if !in_head && !name.contains("/chunks/") {
            continue;
        }
        for (from, data, to) in chunks_of(bytes, in_head) {
            let byte = bytes[if in_head { from + 24 } else { data - 1 }] & 0x7f;
            seeds.extend(Encoding::from_byte(byte).map(|encoding| (encoding, bytes[data..to].to_vec())));
        }
    }
    seeds
}

/// The fixture that is not in `testdata`: what we leave behind after a clean stop, our own snapshot included.
const OURS: &str = "ours";

fn load(name: &str) -> Files {
    if name != OURS {
        return fixture::load(name);
    }
    let dir = tempfile::tempdir().unwrap();
    fixture::unpack(&fixture::load("3.14.0/killed"), dir.path());
    let options = Options { out_of_order_window: Duration::from_mins(2), ..Options::default() };
    let db = Db::open(dir.path(), &options, &ReplayProgress::default()).unwrap();
    let newest = db.head().max_time();
    for i in 1..200 {
        let mut appender = db.appender(1);
        for n in 0..5_u8 {
            let labels = Labels::from_pairs([("__name__", "ours"), ("n", &n.to_string())]);
            let late = if i % 7 == 0 { 30_500 } else { 0 };
            let t = newest + i * 1000 - late;
            appender.append(SeriesKey::Labels(&labels), t, (i * i64::from(n)) as f64).unwrap();
        }
        appender.commit().unwrap();
    }
    db.close().unwrap();
    let mut files = Files::new();
    overlay(dir.path(), dir.path(), &mut files);
    assert!(files.contains_key("ferula/head"), "no snapshot of our own: {:?}", files.keys());
    files
}

struct Fuzz {
    fixtures: BTreeMap<&'static str, Files>,
    chunks: Vec<(Encoding, Vec<u8>)>,
}

impl Fuzz {
    fn new() -> Self {
        let fixtures: BTreeMap<_, _> =
            fixture::ALL.into_iter().chain([OURS]).map(|name| (name, load(name))).collect();
        let chunks = chunk_seeds(&fixtures);
        Self { fixtures, chunks }
    }

    fn chunks(&self, rng: &mut Rng) {
        let mut batch = SampleBatch::default();
        for _ in 0..200 {
            let (encoding, mut bytes) = self.chunks[rng.usize(..self.chunks.len())].clone();
            let encoding =
                if rng.u8(..8) == 0 { Encoding::from_byte(rng.u8(1..=6)).unwrap() } else { encoding };
            mutate(rng, &mut bytes);
            batch.clear();
            let range = if rng.bool() {
                TimeRange::ALL
            } else {
                let mint = 1_795_282_000_000 + rng.i64(..600_000);
                TimeRange::new(mint, mint + 5000)
            };
            let _ = chunk::count(encoding, &bytes);
            let _ = chunk::decode(encoding, &bytes, range, &mut batch);
            assert!(
                u16::try_from(batch.ts.len() + batch.histograms.len()).is_ok(),
                "more samples than counted"
            );
        }
    }

    /// A damaged directory: the fixture it comes from and its files.
    fn directory(&self, rng: &mut Rng) -> (&'static str, Files) {
        let (&name, files) = self.fixtures.iter().nth(rng.usize(..self.fixtures.len())).unwrap();
        let mut files = files.clone();
        let keys: Vec<String> = files.keys().cloned().collect();
        for _ in 0..=rng.usize(..3) {
            let key = &keys[rng.usize(..keys.len())];
            if rng.u8(..12) == 0 {
                mutate_names(rng, &mut files);
            } else if let Some(bytes) = files.get_mut(key) {
                mutate_file(rng, key, bytes);
            }
            if files.is_empty() {
                break;
            }
        }
        (name, files)
    }

    /// Keeps what differs from the fixture, for the failure to be repeated.
    fn keep(&self, case: u64, name: &str, files: &Files) -> String {
        let dir = std::env::temp_dir().join(format!("ferula-fuzz-{case}"));
        let original = &self.fixtures[name];
        let changed: Files = files
            .iter()
            .filter(|(path, bytes)| original.get(*path) != Some(*bytes))
            .map(|(path, bytes)| (path.clone(), bytes.clone()))
            .collect();
        fixture::unpack(&changed, &dir);
        let gone: Vec<_> = original.keys().filter(|path| !files.contains_key(*path)).cloned().collect();
        std::fs::write(dir.join("FIXTURE"), format!("{name}\n{}", gone.join("\n"))).unwrap();
        dir.display().to_string()
    }

    fn case(&self, case: u64) -> Result<(), String> {
        let mut rng = Rng::with_seed(case);
        if rng.u8(..10) == 0 {
            return guarded(case, || self.chunks(&mut rng));
        }
        let (name, files) = self.directory(&mut rng);
        run_directory(case, &files)
            .map_err(|why| format!("{why}; the files are in {}", self.keep(case, name, &files)))
    }
}

fn run_directory(case: u64, files: &Files) -> Result<(), String> {
    // Nothing here need survive, and memory is faster than a disk.
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    fixture::unpack(files, dir.path());
    guarded(case, || exercise(dir.path()))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn damaged_bytes_end_in_errors() {
    let _turn = TURN.lock().unwrap();
    watch();
    let fuzz = Fuzz::new();
    let kinds: std::collections::BTreeSet<u8> =
        fuzz.chunks.iter().map(|(encoding, _)| *encoding as u8).collect();
    assert_eq!(kinds.len(), 6, "the fixtures hold chunks of every encoding: {kinds:?}");
    let seed = number("FERULA_FUZZ_SEED").unwrap_or(1);
    let seconds = number("FERULA_FUZZ_SECONDS");
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(10));
    let mut failures = Vec::new();
    let mut n = 0;
    while Instant::now() < until && (seconds.is_some() || n < 400) && failures.len() < 20 {
        let case = (seed << 32) + n;
        if let Err(why) = fuzz.case(case) {
            let _ = writeln!(std::io::stderr(), "case {case}: {why}");
            failures.push(format!("case {case}: {why}"));
        }
        n += 1;
    }
    let _ = writeln!(std::io::stderr(), "{n} cases of seed {seed}");
    assert!(failures.is_empty(), "{} of {n} cases failed:\n{}", failures.len(), failures.join("\n"));
    assert!(n > 20, "only {n} cases were run");
}

/// Reads a body in all ways, as a scrape would.
fn read_exposition(body: &[u8], ways: u8) {
    let (has_starts, with_labels) = (ways & 8 != 0, ways & 16 != 0);
    let options =
        HistogramOptions { native: ways & 1 != 0, classic_too: ways & 2 != 0, convert: ways & 4 != 0 };
    let mut labels = model::LabelsBuilder::default();
    let mut parser = protobuf::Parser::new(body, options).with_type_and_unit_labels(with_labels);
    while let Some(Ok(item)) = parser.next() {
        if !matches!(item, protobuf::Item::Said(_)) {
            let _ = parser.labels_into(&mut labels);
            let _ = (parser.start_time(), parser.place(), parser.label_bytes().len());
            parser.exemplars().for_each(|exemplar| drop(exemplar.labels()));
        }
        if matches!(item, protobuf::Item::Histogram) {
            let native = parser.native();
            if native.validate().is_ok() {
                let schema = native.schema() - 1;
                let _ = native.reduce_resolution(schema);
            }
        }
    }
    for format in [parse::Format::Text, parse::Format::OpenMetrics] {
        let mut parser = parse::Parser::new(body, format).with_type_and_unit_labels(with_labels);
        if has_starts {
            parser = parser.with_start_times();
        }
        let mut converter = nhcb::Converter::new(parser, options.classic_too);
        while let Some(Ok(item)) = converter.next() {
            if let nhcb::Item::Entry(parse::Entry::Series(line)) = item {
                let _ = converter.parser().start_time(&line);
            }
        }
    }
}

/// Bodies that scrapes might bring: protobuf and text, damaged.
#[test]
fn damaged_expositions_end_in_errors() {
    let _turn = TURN.lock().unwrap();
    watch();
    let text = "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 1 # {t=\"x\"} 0.5 1\nh_bucket{a=\"b\",le=\"+Inf\"} 3\n\
                h_count{a=\"b\"} 3\nh_created{a=\"b\"} 1.5\n# TYPE c counter\n# UNIT c_s s\nc_s_total 1\n# EOF\n";
    let seeds = [
        exposition::counters(20),
        exposition::classic(10),
        exposition::native(10),
        [exposition::native(10), exposition::classic(10)].concat(),
        text.as_bytes().to_vec(),
    ];
    let seed = number("FERULA_FUZZ_SEED").unwrap_or(1);
    let seconds = number("FERULA_FUZZ_SECONDS");
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(5));
    let mut n = 0;
    while Instant::now() < until && (seconds.is_some() || n < 5_000) {
        let case = (seed << 32) + n;
        let mut rng = Rng::with_seed(case);
        let mut body = seeds[rng.usize(..seeds.len())].clone();
        for _ in 0..rng.usize(..6) {
            mutate(&mut rng, &mut body);
        }
        let ways = rng.u8(..32);
        guarded(case, || read_exposition(&body, ways)).unwrap_or_else(|why| panic!("case {case}: {why}"));
        n += 1;
    }
    let _ = writeln!(std::io::stderr(), "{n} expositions of seed {seed}");
    assert!(n > 100, "only {n} cases were run");
}

#[test]
fn what_failed_once_fails_no_more() {
    let _turn = TURN.lock().unwrap();
    let kept = fixture::testdata().join("fuzz");
    let Ok(entries) = std::fs::read_dir(&kept) else { return };
    for entry in entries {
        let dir = entry.unwrap().path();
        let text = std::fs::read_to_string(dir.join("FIXTURE")).unwrap();
        let mut lines = text.lines();
        let mut files = load(lines.next().unwrap());
        lines.for_each(|gone| drop(files.remove(gone)));
        overlay(&dir, &dir, &mut files);
        run_directory(0, &files).unwrap_or_else(|why| panic!("{}: {why}", dir.display()));
    }
}

fn overlay(root: &Path, dir: &Path, files: &mut Files) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            overlay(root, &path, files);
        } else if path.file_name().unwrap() != "FIXTURE" {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}
