//! Builds the head from disk: chunk files, then the checkpoint, then the segments of the log.
//!
//! The log is gone through twice. First it is only hopped over ([`scan`]), and the few records that say which series there
//! are make the [`table`]; then the samples, which are nearly all of it, are decoded on all cores and applied
//! shard by shard ([`data`]). Both are work of the same shape ([`pipeline`]).
//!
//! Compat: prometheus `tsdb`, `Head.Init`, `Head.loadWAL`.

mod data;
pub(super) mod pipeline;
mod scan;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{TimeRange, Timestamp};
use parking_lot::{Mutex, RwLock};

use super::chunks::{HeadChunks, Loaded, Sealed};
use super::exemplars::Exemplars;
use super::grace::Appenders;
use super::late;
use super::metadata::Catalog;
use super::metrics::Metrics;
use super::registry::Registry;
use super::series::{FLOAT_HISTOGRAM, INT_HISTOGRAM, NEVER, Shard, TIME_MAX};
use super::{Inner, Options};
use crate::chunk::Encoding;
use crate::wal::reader::Corruption;
use crate::wal::record::{self, RefTombstone};
use crate::wal::{self, repair, segment};
use crate::{Error, Result, fs};
use data::Data;
pub(super) use pipeline::Prepared;
pub(super) use scan::LogPosition;
use scan::{Cut, Scanned};
pub(super) use table::{Packed, Table, affinity};

/// How often the log tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How far the replay is; segment numbers, readable at any time from any thread.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    pub min: AtomicU64,
    pub max: AtomicU64,
    pub current: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl ReplayProgress {
    fn start(&self, (first, last): (u64, u64)) {
        self.min.store(first, Ordering::Relaxed);
        self.max.store(last, Ordering::Relaxed);
        self.current.store(first, Ordering::Relaxed);
        *self.told.lock() = Some(Instant::now());
    }

    /// Segment `number` is being read; its turn may have come already.
    fn reach(&self, number: u64) {
        self.current.fetch_max(number, Ordering::Relaxed);
        let Some(mut told) = self.told.try_lock() else { return };
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            let segment = self.current.load(Ordering::Relaxed);
            tracing::info!(segment, last = self.max.load(Ordering::Relaxed), "replaying the log");
        }
    }
}

/// Why reading a log ends early.
#[derive(Debug)]
enum Stop {
    Corrupt(Cut),
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
    if scratch.is_none() {
        fs::create_dir_all(&wal_dir)?;
        segment::remove_temporary(&wal_dir)?;
    }
    let (mut inner, mut loaded) = empty(dir, &wal_dir, options, min_valid_time, scratch)?;
    let (mut snapshot, mut snapshot_failures) = (None, 0);
    // One in doubt is removed, which is not for those who only look.
    let sources = if scratch.is_none() { Source::all(dir, &options)? } else { Vec::new() };
    for source in sources {
        let found = match &source {
            Source::Own => super::snapshot::load(&inner, &mut loaded, dir, min_valid_time),
            Source::Upstream(position, path) => {
                super::chunk_snapshot::load(&inner, &mut loaded, *position, path).map(Some)
            }
        };
        match found {
            Ok(Some(found)) => {
                snapshot = Some(found);
                break;
            }
            Ok(None) => {}
            Err(error) => {
                snapshot_failures += 1;
                tracing::info!(%error, "a snapshot of the head is not used; more of the log is read");
                match source {
                    Source::Own => inner.remove_snapshot(),
                    Source::Upstream(_, path) => fs::remove_dir_all(&path)?,
                }
                (inner, loaded) = empty(dir, &wal_dir, options, min_valid_time, scratch)?;
            }
        }
    }
    inner.metrics.snapshot_failures.add(snapshot_failures);
    let knows_more = replay(&inner, loaded, snapshot, min_valid_time, progress, scratch.is_some())?;
    // Series whose samples are all in blocks need no memory.
    inner.collect(min_valid_time);
    inner.forget_deletions(min_valid_time);
    if scratch.is_some() {
        return Ok(inner);
    }
    let writer = wal::Writer::open(&inner.wal_dir, options.wal)?;
    writer.metrics().corruptions.add(inner.metrics.log_corruptions.get());
    if knows_more {
        inner.log_anew(&writer)?;
    }
    *inner.wal.write() = Some(writer);
    inner.late.open_log()?;
    inner.metrics.replay_seconds.set(started.elapsed().as_secs_f64());
    Ok(inner)
}

/// A snapshot of the head that a start may begin with.
#[derive(Debug)]
enum Source {
    Own,
    Upstream(LogPosition, PathBuf),
}

impl Source {
    /// Those that there are and may be read, first the one that reaches farthest.
    fn all(dir: &Path, options: &Options) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        if options.snapshot_interval.is_some()
            && let Some(place) = super::snapshot::place(dir)
        {
            all.push((place, Self::Own));
        }
        if options.features.snapshots_at_close {
            let found = super::chunk_snapshot::list(dir)?;
            all.extend(found.into_iter().map(|(place, path)| (place, Self::Upstream(place, path))));
        }
        all.sort_by_key(|(place, source)| (*place, matches!(source, Self::Own)));
        Ok(all.into_iter().rev().map(|(_, source)| source).collect())
    }
}

/// A head of nothing but its chunk files.
fn empty(
    dir: &Path,
    wal_dir: &Path,
    options: Options,
    min_valid_time: Timestamp,
    scratch: Option<&Path>,
) -> Result<(Inner, Loaded)> {
    let (chunks, loaded) = match scratch {
        Some(scratch) => HeadChunks::open_read_only(&dir.join("chunks_head"), scratch)?,
        None => HeadChunks::open(&dir.join("chunks_head"))?,
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
        exemplars: Exemplars::new(options.features.max_exemplars, options.out_of_order_window_ms),
        metadata: Catalog::default(),
        expiries: Mutex::default(),
        truncating: Mutex::new(()),
        late: late::Shared::new(&dir.join("wbl"), options.out_of_order_window_ms, options.wal),
        snapshots: super::snapshot::Schedule::new(dir),
        aliases: Mutex::default(),
        metrics: Metrics::default(),
        wal_dir: wal_dir.to_owned(),
    };
    inner.metrics.chunk_corruptions.add(loaded.n_corruptions);
    if loaded.n_skipped > 0 {
        tracing::warn!(chunks = loaded.n_skipped, "head chunks of unknown encodings are skipped");
    }
    // Refs of chunks whose series record is lost must not be handed out again.
    let mapped_max = loaded.by_series.keys().chain(loaded.late_by_series.keys()).max().copied().unwrap_or(0);
    inner.last_ref.store(mapped_max, Ordering::Relaxed);
    Ok((inner, loaded))
}

/// Reads the log into a head that has nothing yet but its chunk files and perhaps a snapshot.
///
/// Tells whether the log was cut at a bad record and the head may know of series that were defined behind it.
fn replay(
    inner: &Inner,
    mut loaded: Loaded,
    snapshot: Option<(LogPosition, Table)>,
    min_valid_time: Timestamp,
    progress: &ReplayProgress,
    is_read_only: bool,
) -> Result<bool> {
    let (from, known) = snapshot.unzip();
    let known = known.unwrap_or_default();
    let files = scan::open(&inner.wal_dir, from)?;
    progress.start(scan::bounds(&files));
    let mut scanned = scan::scan(files, from)?;
    let table = read_table(inner, &mut scanned, known)?;
    inner.aliases.lock().extend(table.aliases(inner));
    let late = std::mem::take(&mut loaded.late_by_series);
    attach(inner, loaded, &table, min_valid_time);
    let data = Data::new(inner, &scanned, &table.slots, min_valid_time, progress);
    let prepare = |n: usize| data.prepare(scanned.data[n]);
    let apply = |shard: usize, part| data.apply(shard, part).map_err(Stop::Failed);
    // The last queue is that of the exemplars.
    let read = pipeline::run(scanned.data.len(), inner.shards.len() + 1, prepare, apply);
    progress.reach(progress.max.load(Ordering::Relaxed));
    let unknown = &inner.metrics.replay_unknown;
    let of_data = data.n_unknown.each_ref().map(|n| n.load(Ordering::Relaxed));
    let all = of_data.into_iter().chain(table.n_unknown);
    let mut n_unknown = 0;
    for (counter, n) in unknown.iter().zip(all) {
        counter.add(n);
        n_unknown += n;
    }
    if n_unknown > 0 {
        tracing::warn!(items = n_unknown, "the log has samples of series that it does not define");
    }
    for (kind, n) in data.skipped.lock().drain() {
        inner.metrics.replay_skipped_records.add(n);
        tracing::warn!(kind, records = n, "records of a kind that is not known are skipped");
    }
    let (mint, maxt) = data.times();
    if mint <= maxt {
        inner.observe_times(mint, maxt);
    }
    // Nothing in the log is newer than the head.
    let until = inner.max_time.load(Ordering::Relaxed);
    inner.expiries.lock().extend(table.outdated.iter().map(|&series| (series, until)));
    let mut knows_more = from.is_some() && scanned.cut.is_some();
    match read {
        Err((_, Stop::Failed(error))) => return Err(error),
        Err((_, Stop::Corrupt(cut))) => {
            scanned.cut = Some(cut);
            knows_more = true;
        }
        Ok(()) => {}
    }
    cut_off(inner, &scanned, is_read_only)?;
    late::replay(inner, late, |series| table.slots.get(series), is_read_only)?;
    Ok(knows_more)
}

impl Inner {
    /// Tells a log that was cut of all series and of what is deleted of them. Series are found before samples are looked
    /// at, and a snapshot has some, too: they count as logged, and what comes for them would mean nothing to the next start.
    fn log_anew(&self, wal: &wal::Writer) -> Result<()> {
        for shard in &self.shards {
            let (state, registry) = (shard.state.read(), self.registry.read());
            let is_alive =
                |idx: &u32| shard.line(*idx).flags.load(Ordering::Relaxed) & super::series::ALIVE != 0;
            let mut slots = (0..state.n_slots()).filter(is_alive);
            loop {
                let (mut batch, mut series, mut tombstones) = (wal.batch(), Vec::new(), Vec::new());
                record::begin_series(&mut series);
                record::begin_tombstones(&mut tombstones);
                let n_empty = (series.len(), tombstones.len());
                for idx in slots.by_ref().take(1024) {
                    let (id, wal_ref) = (state.cold[idx].id, shard.line(idx).wal_ref());
                    record::push_series(&mut series, wal_ref, &registry.labels(id));
                    for &TimeRange { mint, maxt } in registry.deleted(id) {
                        record::push_tombstone(&mut tombstones, RefTombstone { series: wal_ref, mint, maxt });
                    }
                }
                if series.len() == n_empty.0 {
                    break;
                }
                batch.push(&series);
                if tombstones.len() > n_empty.1 {
                    batch.push(&tombstones);
                }
                wal.log(batch)?;
            }
        }
        Ok(())
    }
}

/// Reads the records that say which series there are. What is corrupt is cut off.
fn read_table(inner: &Inner, scanned: &mut Scanned, known: Table) -> Result<Table> {
    let table = Mutex::new(known);
    // The registry is being written to meanwhile.
    let hasher = inner.registry.read().hasher();
    let prepare = |n: usize| {
        let run = scanned.table[n];
        let mut records = scanned.records(run);
        let mut parts = Vec::new();
        let failure = loop {
            let sound_len = records.sound_len();
            let cut = |corruption| Some(Stop::Corrupt(Cut { file: run.file, sound_len, corruption }));
            match records.next() {
                Ok(Some(record)) => {
                    if let Err(error) = table::prepare(inner, &hasher, record, &mut parts) {
                        let what = format!("bad record: {error}");
                        break cut(Corruption { what, offset: sound_len as u64 });
                    }
                }
                Ok(None) => break None,
                Err(corruption) => break cut(corruption),
            }
        };
        Prepared { parts: parts.into_iter().map(|part| (0, part)).collect(), failure }
    };
    let apply = |_: usize, part| {
        table.lock().apply(inner, part);
        Ok(())
    };
    match pipeline::run(scanned.table.len(), 1, prepare, apply) {
        Err((_, Stop::Corrupt(cut))) => scanned.cut_at(cut),
        Err((_, Stop::Failed(error))) => return Err(error),
        Ok(()) => {}
    }
    Ok(table.into_inner())
}

/// Gives the series their chunks of the mapped files.
///
/// A series that left the head and came back was defined twice: it has chunks under each of its refs, in any order.
fn attach(inner: &Inner, mut loaded: Loaded, table: &Table, min_valid_time: Timestamp) {
    for &series in &table.outdated {
        let Some(slot) = table.slots.get(series) else { continue };
        let first = inner.shards[slot.shard()].line(slot.idx()).wal_ref();
        if first != series
            && let Some(others) = loaded.by_series.remove(&series)
        {
            let chunks = loaded.by_series.entry(first).or_default();
            chunks.extend(others);
            chunks.sort_unstable_by_key(|(chunk, _)| (chunk.mint, chunk.maxt));
        }
    }
    for (series, chunks) in loaded.by_series {
        let Some(slot) = table.slots.get(series) else { continue };
        let shard = &inner.shards[slot.shard()];
        let hot = shard.line(slot.idx());
        let mut line = hot.load();
        if line.last_t() != NEVER {
            // A snapshot brought it with its chunks; what was sealed since the log brings back.
            continue;
        }
        let mut state = shard.state.write();
        for (chunk, encoding) in chunks {
            let Sealed { mint, maxt, .. } = chunk;
            let is_readable = mint >= -TIME_MAX && maxt <= TIME_MAX && u32::try_from(maxt - mint).is_ok();
            if !is_readable || mint <= line.xor.t || maxt < min_valid_time {
                continue;
            }
            state.push_chunk(slot.idx(), chunk);
            line.n_sealed += 1;
            line.xor.t = maxt;
            // What a staleness marker means depends on what it follows.
            state.set_kind(hot, slot.idx(), kind_of(encoding), 0);
            inner.observe_times(mint, maxt);
        }
        hot.store(&line);
    }
}

/// The flag that tells what the last sample of a chunk is.
pub(super) fn kind_of(encoding: Encoding) -> u32 {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => 0,
        Encoding::Histogram | Encoding::HistogramSt => INT_HISTOGRAM,
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => FLOAT_HISTOGRAM,
    }
}

/// Cuts the log at its first bad record, if it has one.
fn cut_off(inner: &Inner, scanned: &Scanned, is_read_only: bool) -> Result<()> {
    let Some(Cut { file, sound_len, corruption }) = &scanned.cut else { return Ok(()) };
    let file = &scanned.files[*file];
    let error = Error::corrupt(&file.path, corruption.offset, corruption.what.clone());
    let Some(number) = file.number else { return Err(error) };
    if is_read_only {
        tracing::warn!(%error, "the log is read up to its first bad record");
        return Ok(());
    }
    tracing::error!(%error, "the log is cut at its first bad record; what follows is kept aside as *.corrupt");
    inner.metrics.log_corruptions.inc();
    repair::repair(&inner.wal_dir, number, *sound_len)
}
