//! A picture of the head in a file of our own, so that a start need not read the whole log.
//!
//! Written every few minutes while running and at a clean close: the place in the log up to which it holds everything,
//! then every series with its labels and its open chunk. A start that finds it loads it and reads the log from that place on.
//!
//! It may be deleted at any time and is believed only as long as nothing is doubtful: the log still has
//! that place with the same bytes before it, no checkpoint reaches it, blocks cover the same time, every mapped chunk it
//! names is there, and all checksums are right. Otherwise it is removed and the log is read from its beginning.
//! The other server ignores the folder.
//!
//! What is in it may be newer than its place in the log: a sample that is read again is known already and dropped.

mod load;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use model::Timestamp;

use super::replay::LogPosition;
use super::series::{ALIVE, HISTOGRAM, IN_EXTENSION, LOGGED};
use super::slab::NONE;
use super::{Head, Inner};
use crate::bytes::{put_str, put_uvarint, put_varint};
use crate::fs::{self, File};
use crate::wal::record::{self, RefTombstone};
use crate::wal::segment;
use crate::{Error, Result};
pub(super) use load::{append_all, attach_before, load, place};

/// Below the data directory. Compat: no name that prometheus gives anything.
const FOLDER: &str = crate::db::paths::OWN;
const FILE: &str = crate::db::paths::OWN_HEAD;

/// The last digit is the version: another one is not read.
const MAGIC: &[u8; 8] = b"FERULAH1";

/// How long a snapshot waits for appenders that may have logged what they have not applied yet.
const APPENDER_PATIENCE: Duration = Duration::from_secs(2);

/// Series that are copied under one lock.
const SLICE: u32 = 2048;

/// How many bytes of the log before the place are compared.
const LOG_SAMPLE_BYTES: u64 = 64 << 10;

/// What a block of the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Block {
    Place = 1,
    Labels = 2,
    States = 3,
    Metadata = 4,
    Tombstones = 5,
    Exemplars = 6,
    Expiries = 7,
    Aliases = 8,
    /// The number of series; nothing follows.
    End = 9,
}

impl Block {
    fn from_byte(byte: u8) -> Option<Self> {
        use Block::{Aliases, End, Exemplars, Expiries, Labels, Metadata, Place, States, Tombstones};
        let all = [Place, Labels, States, Metadata, Tombstones, Exemplars, Expiries, Aliases, End];
        all.into_iter().find(|&it| it as u8 == byte)
    }
}

/// Where a series' open chunk is.
mod open {
    pub(super) const NONE: u8 = 0;
    pub(super) const LINE: u8 = 1;
    pub(super) const EXTENSION: u8 = 2;
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FOLDER).join(FILE)
}

/// When the next one is due.
#[derive(Debug)]
pub(super) struct Schedule {
    dir: PathBuf,
    last: parking_lot::Mutex<Instant>,
    /// There is none that could be used.
    is_overdue: AtomicBool,
}

impl Schedule {
    pub(super) fn new(dir: &Path) -> Self {
        let last = parking_lot::Mutex::new(Instant::now());
        Self { dir: dir.to_owned(), last, is_overdue: AtomicBool::new(false) }
    }
}

impl Schedule {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Head {
    /// Writes a snapshot if the last one is older than the options say. A failure leaves the last one.
    pub fn snapshot_if_due(&self) -> Result<()> {
        let inner = &*self.0;
        let Some(interval) = inner.options.snapshot_interval else { return Ok(()) };
        {
            let mut last = inner.snapshots.last.lock();
            if last.elapsed() < interval && !inner.snapshots.is_overdue.load(Relaxed) {
                return Ok(());
            }
            *last = Instant::now();
        }
        inner.write_snapshot()
    }
}

impl Inner {
    /// Writes a snapshot of now, in place of the last one.
    pub(super) fn write_snapshot(&self) -> Result<()> {
        let started = Instant::now();
        // Nothing leaves the head meanwhile.
        let _truncating = self.truncating.lock();
        let (segment, offset) = {
            let wal = self.wal.read();
            let wal = wal.as_ref().ok_or_else(|| Error::Poisoned("the store is closed".to_owned()))?;
            wal.position()
        };
        // What is in the log before the place has to be in the head, and is once its appender closes.
        if !self.appenders.outlive(APPENDER_PATIENCE) {
            tracing::info!("no snapshot of the head this time: an appender stays open");
            return Ok(());
        }
        let target = path(&self.snapshots.dir);
        fs::create_dir_all(&self.snapshots.dir.join(FOLDER))?;
        let tmp = fs::with_suffix(&target, ".tmp");
        let mut out = Output { file: File::create(&tmp)?, len: 0, n_series: 0 };
        // What it holds beyond its place must not outlive the log that says it: samples of a series that only the
        // snapshot knows would be lost with the snapshot.
        let written = self.write_blocks(&mut out, LogPosition { segment, offset }).and_then(|()| {
            let wal = self.wal.read();
            wal.as_ref().ok_or_else(|| Error::Poisoned("the store is closed".to_owned()))?.sync()
        });
        if let Err(e) = written.and_then(|()| fs::rename(&tmp, &target)) {
            // Half a snapshot is of no use; the next attempt overwrites it anyway.
            let _ = fs::remove_file(&tmp);
            return Err(e);
        }
        self.snapshots.is_overdue.store(false, Relaxed);
        tracing::debug!(
            series = out.n_series, bytes = out.len, duration = ?started.elapsed(), "wrote a snapshot of the head"
        );
        Ok(())
    }

    /// Removes the snapshot, which means nothing any more.
    pub(super) fn remove_snapshot(&self) {
        self.snapshots.is_overdue.store(true, Relaxed);
        let path = path(&self.snapshots.dir);
        if fs::exists(&path)
            && let Err(e) = fs::remove_file(&path)
        {
            tracing::warn!(error = %e, "cannot remove an outdated snapshot of the head");
        }
    }

    fn write_blocks(&self, out: &mut Output, place: LogPosition) -> Result<()> {
        out.write(MAGIC)?;
        let mut payload = Vec::new();
        put_uvarint(&mut payload, place.segment);
        put_uvarint(&mut payload, place.offset);
        payload.extend_from_slice(&log_sample(&self.wal_dir, place)?.to_be_bytes());
        put_varint(&mut payload, self.min_valid_time.load(Relaxed));
        put_uvarint(&mut payload, self.last_ref.load(Relaxed));
        out.block(Block::Place, &payload)?;
        let mut slice = Slice::default();
        for shard in 0..self.shards.len() {
            let mut from = 0;
            while self.copy_slice(shard, from, &mut slice) {
                out.n_series += slice.n_series;
                for (block, payload) in [
                    (Block::Labels, &slice.labels),
                    (Block::States, &slice.states),
                    (Block::Metadata, &slice.metadata),
                    (Block::Tombstones, &slice.tombstones),
                ] {
                    if !payload.is_empty() {
                        out.block(block, payload)?;
                    }
                }
                from += SLICE;
            }
        }
        self.write_exemplars(out)?;
        payload.clear();
        for (&series, &until) in &*self.expiries.lock() {
            put_uvarint(&mut payload, series);
            put_varint(&mut payload, until);
        }
        out.block(Block::Expiries, &payload)?;
        payload.clear();
        for &(alias, series) in &*self.aliases.lock() {
            put_uvarint(&mut payload, alias);
            put_uvarint(&mut payload, series);
        }
        out.block(Block::Aliases, &payload)?;
        payload.clear();
        put_uvarint(&mut payload, out.n_series);
        out.block(Block::End, &payload)?;
        // The mapped chunks that it names have to be found, too.
        self.chunks.flush_all()
    }

    /// Copies some series of a shard; false if there are none from there on.
    fn copy_slice(&self, shard_number: usize, from: u32, out: &mut Slice) -> bool {
        out.clear();
        let shard = &self.shards[shard_number];
        let state = shard.state.read();
        let registry = self.registry.read();
        if from >= state.n_slots() {
            return false;
        }
        for bytes in [&mut out.labels, &mut out.states] {
            put_uvarint(bytes, shard_number as u64);
        }
        for idx in from..state.n_slots().min(from + SLICE) {
            let hot = shard.line(idx);
            let flags = hot.flags.load(Relaxed);
            let id = state.cold[idx].id;
            if flags & (ALIVE | LOGGED) != ALIVE | LOGGED || id == NONE {
                continue;
            }
            let line = hot.load();
            out.n_series += 1;
            out.push_labels(line.wal_ref, registry.pair_ids(id), &registry);
            let bytes = &mut out.states;
            put_uvarint(bytes, line.wal_ref);
            bytes.push(u8::try_from(flags & HISTOGRAM).expect("the lowest bits"));
            put_varint(bytes, line.last_t());
            bytes.extend_from_slice(&line.xor.v.to_be_bytes());
            let sealed: Vec<_> = state.chunks(idx).collect();
            put_uvarint(bytes, sealed.len() as u64);
            for chunk in sealed.iter().rev() {
                put_varint(bytes, chunk.mint);
                put_uvarint(bytes, chunk.maxt.abs_diff(chunk.mint));
            }
            match line.buffer {
                _ if line.n_open() == 0 => bytes.push(open::NONE),
                IN_EXTENSION => {
                    let chunk = state.open(idx).expect("the line says that its chunk is there");
                    bytes.push(open::EXTENSION);
                    bytes.push(chunk.builder.encoding() as u8);
                    put_str(bytes, chunk.builder.bytes());
                }
                buffer => {
                    let xor = &line.xor;
                    bytes.push(open::LINE);
                    put_varint(bytes, line.first_t);
                    put_uvarint(bytes, u64::from(line.cut_after));
                    put_uvarint(bytes, xor.delta);
                    put_uvarint(bytes, u64::from(xor.n_bits));
                    put_uvarint(bytes, u64::from(xor.count));
                    bytes.extend_from_slice(&[xor.leading, xor.trailing]);
                    let len = xor.len_bytes();
                    bytes.extend_from_slice(&state.buffers.get(buffer)[..len]);
                    // The last byte of the buffer may lag behind.
                    if let Some(last) = bytes.last_mut().filter(|_| !xor.n_bits.is_multiple_of(8)) {
                        *last = line.partial();
                    }
                }
            }
            if let Some(metadata) = self.metadata.get(state.metadata(idx)) {
                record::push_metadata(&mut out.metadata, line.wal_ref, &metadata);
            }
            for span in registry.deleted(id) {
                if out.tombstones.is_empty() {
                    record::begin_tombstones(&mut out.tombstones);
                }
                let (mint, maxt) = (span.mint, span.maxt);
                record::push_tombstone(
                    &mut out.tombstones,
                    RefTombstone { series: line.wal_ref, mint, maxt },
                );
            }
        }
        true
    }

    fn write_exemplars(&self, out: &mut Output) -> Result<()> {
        let mut payload = Vec::new();
        self.exemplars.each(|series, exemplar| {
            record::push_labels(&mut payload, series);
            put_varint(&mut payload, exemplar.t);
            payload.extend_from_slice(&exemplar.v.to_bits().to_be_bytes());
            record::push_labels(&mut payload, &exemplar.labels);
        });
        if payload.is_empty() { Ok(()) } else { out.block(Block::Exemplars, &payload) }
    }
}

/// A checksum of what the log holds just before a place.
fn log_sample(wal_dir: &Path, place: LogPosition) -> Result<u32> {
    let len = place.offset.min(LOG_SAMPLE_BYTES);
    let mut bytes = vec![0; usize::try_from(len).expect("a few KiB")];
    File::open(&segment::path(wal_dir, place.segment))?.read_exact_at(&mut bytes, place.offset - len)?;
    Ok(crc32c::crc32c(&bytes))
}

/// Some series, copied.
#[derive(Debug, Default)]
struct Slice {
    n_series: u64,
    labels: Vec<u8>,
    states: Vec<u8>,
    metadata: Vec<u8>,
    tombstones: Vec<u8>,
    /// The pairs of the series before.
    pairs: Vec<u32>,
}

impl Slice {
    fn clear(&mut self) {
        self.n_series = 0;
        for bytes in [&mut self.labels, &mut self.states, &mut self.metadata, &mut self.tombstones] {
            bytes.clear();
        }
        self.pairs.clear();
    }

    /// Ref and pairs; of a pair that is the one of the series before at the same place only that is said.
    fn push_labels(&mut self, series: u64, pairs: &[u32], registry: &super::registry::Registry) {
        put_uvarint(&mut self.labels, series);
        put_uvarint(&mut self.labels, pairs.len() as u64);
        for (at, &pair) in pairs.iter().enumerate() {
            let is_same = self.pairs.get(at) == Some(&pair);
            self.labels.push(u8::from(!is_same));
            if !is_same {
                let (name, value) = registry.pair_text(pair);
                put_str(&mut self.labels, name);
                put_str(&mut self.labels, value);
            }
        }
        self.pairs.clear();
        self.pairs.extend_from_slice(pairs);
    }
}

/// The file being written.
#[derive(Debug)]
struct Output {
    file: File,
    len: u64,
    n_series: u64,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Kind, length, payload, checksum over kind and payload.
    fn block(&mut self, block: Block, payload: &[u8]) -> Result<()> {
        let len = u32::try_from(payload.len())
            .map_err(|_| Error::corrupt(self.file.path(), self.len, "block of more than 4 GiB"))?;
        let mut bytes = Vec::with_capacity(payload.len() + 9);
        bytes.push(block as u8);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(payload);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[block as u8]), payload);
        bytes.extend_from_slice(&crc.to_be_bytes());
        self.write(&bytes)
    }
}

/// The times of a mapped chunk.
type Span = (Timestamp, Timestamp);
