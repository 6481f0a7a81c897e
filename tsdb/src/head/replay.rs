//! Builds the head from disk: chunk files, then the checkpoint, then the segments of the log.
//!
//! One thread unframes, decompresses and decodes, a bounded number of records ahead; this one makes the series and
//! finds the place of every sample; a few more apply them, each to shards of its own, so that the samples of a series
//! stay in order.
//!
//! Compat: prometheus `tsdb`, `Head.Init`, `Head.loadWAL`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use foldhash::HashMap;
use model::{Labels, TimeRange, Timestamp};
use parking_lot::{Mutex, RwLock};

use super::chunks::{HeadChunks, Loaded, Sealed};
use super::exemplars::Exemplars;
use super::grace::Appenders;
use super::late;
use super::metadata::Catalog;
use super::metrics::Metrics;
use super::registry::Registry;
use super::series::{Applied, LOGGED, Shard, TIME_MAX};
use super::slab::{ID_LIST_MAX, NONE};
use super::{Inner, Options, Slot};
use crate::wal::reader::{Corruption, Records};
use crate::wal::record::{self, Kind, RefSample, RefTombstone};
use crate::wal::{self, repair, segment};
use crate::{Error, Result, fs};

/// Records decoded ahead: at 64 KiB each and twice that decoded some 25 MB at worst.
const RECORDS_AHEAD: usize = 128;

/// How far the replay is; segment numbers, readable at any time from any thread.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    pub min: AtomicU64,
    pub max: AtomicU64,
    pub current: AtomicU64,
}

/// Records, or parts of them, that wait for each thread that applies.
const PARTS_AHEAD: usize = 32;

/// What a thread that applies is told.
enum Order {
    /// Samples for one shard; their series are told by index.
    Apply(usize, Vec<RefSample>),
    /// Answer once everything before is applied.
    Answer(SyncSender<()>),
}

/// A decoded record, or the end of a file.
enum Item {
    Series(Vec<(u64, Labels)>),
    Samples(Vec<RefSample>),
    Tombstones(Vec<RefTombstone>),
    Skipped(Kind),
    End,
    Corrupt { corruption: Corruption, sound_len: usize },
    Failed(Error),
}

pub(super) fn open(
    dir: &Path,
    options: Options,
    min_valid_time: Timestamp,
    progress: &ReplayProgress,
    scratch: Option<&Path>,
) -> Result<Inner> {
    let started = Instant::now();
    let wal_dir = dir.join("wal");
    let (chunks, loaded) = match scratch {
        Some(scratch) => HeadChunks::open_read_only(&dir.join("chunks_head"), scratch)?,
        None => {
            fs::create_dir_all(&wal_dir)?;
            segment::remove_temporary(&wal_dir)?;
            HeadChunks::open(&dir.join("chunks_head"))?
        }
    };
    let inner = Inner {
        options,
        shards: (0..options.n_shards).map(|_| Shard::new()).collect(),
        registry: RwLock::new(Registry::default()),
        chunks,
        wal: RwLock::new(None),
        last_ref: AtomicU64::new(0),
        min_time: AtomicI64::new(Timestamp::MAX),
        max_time: AtomicI64::new(Timestamp::MIN),
        min_valid_time: AtomicI64::new(min_valid_time),
        published: AtomicU64::new(0),
        appenders: Appenders::default(),
        spare_rows: Mutex::default(),
        pin: Arc::new(()),
        exemplars: Exemplars::new(options.features.max_exemplars),
        metadata: Catalog::default(),
        expiries: Mutex::default(),
        truncating: Mutex::new(()),
        late: late::Shared::new(&dir.join("wbl"), options.out_of_order_window_ms, options.wal),
        metrics: Metrics::default(),
        wal_dir,
    };
    inner.metrics.chunk_corruptions.add(loaded.n_corruptions);
    if loaded.n_skipped > 0 {
        tracing::warn!(chunks = loaded.n_skipped, "head chunks of encodings not supported yet are skipped");
    }
    // Refs of chunks whose series record is lost must not be handed out again.
    let mapped_max = loaded.by_series.keys().chain(loaded.late_by_series.keys()).max().copied().unwrap_or(0);
    inner.last_ref.store(mapped_max, Ordering::Relaxed);
    let mut replay = Replay::new(&inner, loaded, min_valid_time);
    replay.is_read_only = scratch.is_some();
    replay.run(progress)?;
    // Series whose samples are all in blocks need no memory.
    inner.collect(min_valid_time);
    inner.forget_deletions(min_valid_time);
    if scratch.is_some() {
        return Ok(inner);
    }
    let writer = wal::Writer::open(&inner.wal_dir, options.wal)?;
    writer.metrics().corruptions.add(inner.metrics.log_corruptions.get());
    *inner.wal.write() = Some(writer);
    inner.late.open_log()?;
    inner.metrics.replay_seconds.set(started.elapsed().as_secs_f64());
    Ok(inner)
}

/// From refs of the log to slots.
#[derive(Debug, Default)]
struct Slots {
    /// By ref, where refs are dense enough.
    dense: Vec<Slot>,
    sparse: HashMap<u64, Slot>,
}

const NO_SLOT: Slot = Slot(NONE);

impl Slots {
    fn insert(&mut self, series: u64, slot: Slot) {
        let dense_end = 4 * (self.dense.len() + 65_536);
        match usize::try_from(series) {
            Ok(at) if at < dense_end => {
                if at >= self.dense.len() {
                    self.dense.resize(at + 1, NO_SLOT);
                }
                self.dense[at] = slot;
            }
            _ => drop(self.sparse.insert(series, slot)),
        }
    }

    #[inline]
    fn get(&self, series: u64) -> Option<Slot> {
        let dense = usize::try_from(series).ok().and_then(|at| self.dense.get(at)).copied();
        match dense.filter(|&slot| slot != NO_SLOT) {
            None => self.sparse.get(&series).copied(),
            found => found,
        }
    }
}

struct Replay<'a> {
    inner: &'a Inner,
    /// To the threads that apply; a shard belongs to the one of its number modulo theirs.
    appliers: Vec<SyncSender<Order>>,
    /// Samples of the present record by shard.
    parts: Vec<Vec<RefSample>>,
    mapped: HashMap<u64, Vec<Sealed>>,
    mapped_late: HashMap<u64, Vec<Sealed>>,
    slots: Slots,
    min_valid_time: Timestamp,
    times: (Timestamp, Timestamp),
    skipped: HashMap<&'static str, u64>,
    n_unknown: u64,
    /// Nothing on disk changes.
    is_read_only: bool,
}

impl<'a> Replay<'a> {
    fn new(inner: &'a Inner, loaded: Loaded, min_valid_time: Timestamp) -> Self {
        let times = (Timestamp::MAX, Timestamp::MIN);
        let Loaded { by_series: mapped, late_by_series: mapped_late, .. } = loaded;
        let (slots, skipped) = (Slots::default(), HashMap::default());
        let (appliers, parts) = (Vec::new(), inner.shards.iter().map(|_| Vec::new()).collect());
        let (is_read_only, n_unknown) = (false, 0);
        Self {
            inner,
            appliers,
            parts,
            mapped,
            mapped_late,
            slots,
            min_valid_time,
            times,
            skipped,
            n_unknown,
            is_read_only,
        }
    }

    fn run(mut self, progress: &ReplayProgress) -> Result<()> {
        let dir = &self.inner.wal_dir;
        let checkpoint = segment::checkpoints(dir)?.last().copied();
        let segments: Vec<u64> =
            segment::list(dir)?.into_iter().filter(|&n| checkpoint.is_none_or(|last| n > last)).collect();
        let mut files: Vec<(Option<u64>, PathBuf)> = Vec::new();
        if let Some(checkpoint) = checkpoint {
            let path = segment::checkpoint_path(dir, checkpoint);
            files.extend(segment::list(&path)?.into_iter().map(|n| (None, segment::path(&path, n))));
        }
        files.extend(segments.iter().map(|&n| (Some(n), segment::path(dir, n))));
        progress.min.store(segments.first().copied().unwrap_or(0), Ordering::Relaxed);
        progress.max.store(segments.last().copied().unwrap_or(0), Ordering::Relaxed);
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(RECORDS_AHEAD);
            let paths: Vec<PathBuf> = files.iter().map(|(_, path)| path.clone()).collect();
            scope.spawn(move || decode(&paths, &send));
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let inner = self.inner;
            let mut threads = Vec::new();
            for _ in 0..cores.min(inner.shards.len()) {
                let (send, receive) = sync_channel(PARTS_AHEAD);
                self.appliers.push(send);
                threads.push(scope.spawn(move || apply(inner, &receive)));
            }
            let read = self.apply_all(&files, &receive, progress);
            // Without senders the threads end.
            self.appliers.clear();
            let times =
                threads.into_iter().map(|thread| thread.join().expect("BUG: a replaying thread panicked"));
            for times in times.collect::<Vec<_>>() {
                let (mint, maxt) = times?;
                self.times = (self.times.0.min(mint), self.times.1.max(maxt));
            }
            read
        })?;
        if self.n_unknown > 0 {
            self.inner.metrics.replay_unknown_refs.add(self.n_unknown);
            tracing::warn!(samples = self.n_unknown, "the log has samples of series that it does not define");
        }
        for (kind, n) in &self.skipped {
            self.inner.metrics.replay_skipped_records.add(*n);
            tracing::warn!(kind, records = n, "records of a kind that is not supported yet are skipped");
        }
        let (mint, maxt) = self.times;
        if mint <= maxt {
            self.inner.observe_times(mint, maxt);
        }
        let find = |series| self.slots.get(series);
        late::replay(self.inner, self.mapped_late, find, self.is_read_only)
    }

    fn apply_all(
        &mut self,
        files: &[(Option<u64>, PathBuf)],
        items: &Receiver<Item>,
        progress: &ReplayProgress,
    ) -> Result<()> {
        for (number, path) in files {
            if let Some(number) = number {
                progress.current.store(*number, Ordering::Relaxed);
            }
            loop {
                match items.recv().expect("the decoder sends an end for every file") {
                    Item::Series(series) => {
                        for (n, labels) in series {
                            self.series(n, &labels);
                        }
                    }

                    Item::Samples(samples) => self.samples(&samples),
                    Item::Tombstones(tombstones) => self.tombstones(&tombstones),
                    Item::Skipped(kind) => *self.skipped.entry(kind.as_str()).or_default() += 1,
                    Item::End => break,
                    Item::Failed(error) => return Err(error),
                    Item::Corrupt { corruption, sound_len } => {
                        let error = Error::corrupt(path, corruption.offset, corruption.what);
                        let Some(number) = number else { return Err(error) };
                        if self.is_read_only {
                            tracing::warn!(%error, "the log is read up to its first bad record");
                            return Ok(());
                        }
                        tracing::error!(%error, "the log is cut at its first bad record; what follows is kept aside as *.corrupt");
                        self.inner.metrics.log_corruptions.inc();
                        return repair::repair(&self.inner.wal_dir, *number, sound_len);
                    }
                }
            }
        }
        Ok(())
    }

    fn series(&mut self, series: u64, labels: &Labels) {
        self.inner.last_ref.fetch_max(series, Ordering::Relaxed);
        if labels.is_empty() || labels.len() > ID_LIST_MAX {
            return;
        }
        let inner = self.inner;
        let registry = inner.registry.read();
        let hash = registry.hash(labels);
        if let Some((_, slot, _)) = registry.find_slot(hash, labels) {
            let line = inner.shards[slot.shard()].line(slot.idx()).load();
            if line.wal_ref != series {
                // Defined twice under different refs: the first stays, the record of the second must outlive the
                // segments that use it.
                inner.expiries.lock().insert(series, Timestamp::MAX);
            }
            self.slots.insert(series, slot);
            drop(registry);
            if self.mapped.contains_key(&series) {
                self.settle();
            }
            self.attach(series, slot);
            return;
        }
        // Series of one target belong together; its address is the best sign of one.
        let affinity = registry_affinity(labels);
        drop(registry);
        let n = inner.shard_of(affinity);
        let shard = &inner.shards[n];
        let mut state = shard.state.write();
        let Some((idx, generation)) = shard.birth(&mut state, series, LOGGED) else { return };
        let slot = Slot::new(n, idx);
        let mut registry = inner.registry.write();
        let id = registry.create(hash, labels, slot.0, generation);
        registry.publish(id);
        state.cold[idx].id = id;
        drop(registry);
        drop(state);
        inner.metrics.series_created.inc();
        self.slots.insert(series, slot);
        self.attach(series, slot);
    }

    /// Gives a series its chunks of the mapped files, as far as they are newer than what it has.
    fn attach(&mut self, series: u64, slot: Slot) {
        let Some(chunks) = self.mapped.remove(&series) else { return };
        let shard = &self.inner.shards[slot.shard()];
        let mut state = shard.state.write();
        let hot = shard.line(slot.idx());
        let mut line = hot.load();
        let mut known: Vec<Sealed> = state.chunks(slot.idx()).collect();
        let is_readable = |chunk: &Sealed| {
            chunk.mint >= -TIME_MAX
                && chunk.maxt <= TIME_MAX
                && u32::try_from(chunk.maxt - chunk.mint).is_ok()
                && chunk.maxt >= self.min_valid_time
                && (line.xor.count == 0 || chunk.maxt < line.first_t)
        };
        let n_known = known.len();
        for chunk in chunks.into_iter().filter(is_readable) {
            if known.iter().all(|other| other.maxt < chunk.mint || chunk.maxt < other.mint) {
                known.push(chunk);
            }
        }
        if known.len() == n_known {
            return;
        }
        // A series that left the head and came back has chunks under each of its refs, in any order.
        known.sort_unstable_by_key(|chunk| chunk.mint);
        state.truncate_chunks(slot.idx(), Timestamp::MAX);
        line.n_sealed = 0;
        for chunk in known {
            state.push_chunk(slot.idx(), chunk);
            line.n_sealed += 1;
            if line.xor.count == 0 {
                line.xor.t = line.xor.t.max(chunk.maxt);
            }
            self.times = (self.times.0.min(chunk.mint), self.times.1.max(chunk.maxt));
        }
        hot.store(&line);
    }

    /// Hands samples to the threads that apply.
    fn samples(&mut self, samples: &[RefSample]) {
        for &sample in samples {
            if sample.t < self.min_valid_time || !(-TIME_MAX..=TIME_MAX).contains(&sample.t) {
                continue;
            }
            let Some(slot) = self.slots.get(sample.series) else {
                self.n_unknown += 1;
                continue;
            };
            self.parts[slot.shard()].push(RefSample { series: u64::from(slot.idx()), ..sample });
        }
        for (n, part) in self.parts.iter_mut().enumerate().filter(|(_, part)| !part.is_empty()) {
            let room = part.len();
            let part = std::mem::replace(part, Vec::with_capacity(room));
            // A thread that stopped at an error tells it at the end.
            let _ = self.appliers[n % self.appliers.len()].send(Order::Apply(n, part));
        }
    }

    /// Waits until all samples so far are applied.
    fn settle(&self) {
        for applier in &self.appliers {
            let (answer, wait) = sync_channel(1);
            if applier.send(Order::Answer(answer)).is_ok() {
                // A thread that stopped at an error tells it at the end.
                let _ = wait.recv();
            }
        }
    }

    fn tombstones(&mut self, tombstones: &[RefTombstone]) {
        self.settle();
        for tombstone in tombstones {
            let Some(slot) = self.slots.get(tombstone.series) else { continue };
            let shard = &self.inner.shards[slot.shard()];
            let id = shard.state.read().cold[slot.idx()].id;
            if (tombstone.mint, tombstone.maxt) == (Timestamp::MIN, Timestamp::MAX) {
                self.forget(slot, id);
            } else {
                // Of old times, too: late samples may be there. What hides nothing is forgotten when all is read.
                let span = TimeRange::new(tombstone.mint, tombstone.maxt);
                self.inner.registry.write().delete(id, span);
            }
        }
    }

    /// A tombstone over all times says that the series was dropped; a later record may define it anew.
    fn forget(&mut self, slot: Slot, id: u32) {
        let shard = &self.inner.shards[slot.shard()];
        let mut state = shard.state.write();
        let wal_ref = shard.line(slot.idx()).wal_ref();
        shard.death(&mut state, slot.idx());
        self.inner.registry.write().remove(&[id], false);
        self.inner.metrics.series_removed.inc();
        self.inner.expiries.lock().insert(wal_ref, Timestamp::MAX);
        self.slots.sparse.retain(|_, it| *it != slot);
        self.slots.dense.iter_mut().filter(|it| **it == slot).for_each(|it| *it = NO_SLOT);
    }
}

/// Applies samples until nobody sends any more; returns the times of the oldest and the newest.
fn apply(inner: &Inner, orders: &Receiver<Order>) -> Result<(Timestamp, Timestamp)> {
    let mut times = (Timestamp::MAX, Timestamp::MIN);
    for order in orders {
        let (shard, samples) = match order {
            Order::Apply(shard, samples) => (&inner.shards[shard], samples),
            Order::Answer(answer) => {
                // Whoever asked waits for it.
                let _ = answer.send(());
                continue;
            }
        };
        let mut state = shard.state.write();
        for sample in &samples {
            let idx = u32::try_from(sample.series).expect("an index was put there");
            let place = (idx, shard.line(idx).generation());
            let options = &inner.options;
            let applied = shard.apply(&mut state, &inner.chunks, options, place, sample.t, sample.v)?;
            if applied == Applied::Stored {
                times = (times.0.min(sample.t), times.1.max(sample.t));
            }
        }
    }
    Ok(times)
}

fn registry_affinity(labels: &Labels) -> u64 {
    use std::hash::BuildHasher;
    let hasher = foldhash::fast::FixedState::with_seed(0);
    hasher.hash_one((labels.get(b"job"), labels.get(b"instance")))
}

/// Reads the files front to back and sends what is in them; ends early when nobody listens.
fn decode(paths: &[PathBuf], send: &SyncSender<Item>) {
    for path in paths {
        let last = match fs::Mmap::open(path) {
            Ok(map) => {
                map.advise_sequential();
                match decode_file(&map, send) {
                    Some(last) => last,
                    None => return,
                }
            }
            Err(error) => Item::Failed(error),
        };
        let is_end = matches!(last, Item::End);
        if send.send(last).is_err() || !is_end {
            return;
        }
    }
}

/// Sends the records of one file and returns its end; nothing when nobody listens.
fn decode_file(bytes: &[u8], send: &SyncSender<Item>) -> Option<Item> {
    let mut records = Records::new(bytes);
    loop {
        let before = records.sound_len();
        let item = match records.next() {
            Ok(Some(record)) => decode_record(record),
            Ok(None) => return Some(Item::End),
            Err(corruption) => return Some(Item::Corrupt { corruption, sound_len: records.sound_len() }),
        };
        match item {
            Ok(item) => send.send(item).ok()?,
            Err(error) => {
                let what = format!("bad record: {error}");
                let corruption = Corruption { what, offset: before as u64 };
                return Some(Item::Corrupt { corruption, sound_len: before });
            }
        }
    }
}

fn decode_record(record: &[u8]) -> Result<Item, crate::DecodeError> {
    Ok(match Kind::of(record) {
        Kind::Series => {
            let mut series = Vec::new();
            record::decode_series(record, |n, labels| series.push((n, labels)))?;
            Item::Series(series)
        }
        Kind::Samples => {
            // A sample takes some eleven bytes.
            let mut samples = Vec::with_capacity(record.len() / 10);
            record::decode_samples(record, &mut samples)?;
            Item::Samples(samples)
        }
        Kind::Tombstones => {
            let mut tombstones = Vec::new();
            record::decode_tombstones(record, &mut tombstones)?;
            Item::Tombstones(tombstones)
        }
        kind => Item::Skipped(kind),
    })
}
