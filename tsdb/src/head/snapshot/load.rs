//! Takes a snapshot into an empty head, or says why it is not to be believed.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use model::{Exemplar, SampleBatch, TimeRange, Timestamp, Value};
use parking_lot::Mutex;

use super::super::chunks::Loaded;
use super::super::replay::{LogPosition, Packed, Prepared, Table, kind_of, pipeline};
use super::super::series::{Applied, HISTOGRAM, OpenLine, State, TIME_MAX};
use super::super::{Inner, Slot};
use super::{Block, MAGIC, Span, log_sample, open, path};
use crate::bytes::Cursor;
use crate::chunk::{self, Encoding, xor};
use crate::fs::{self, Mmap};
use crate::wal::{record, segment};
use crate::{Error, Result};

/// Why a snapshot is not believed.
type Doubt = String;

/// How far the snapshot in the data directory reaches, if there is one that can be read at all.
pub(in crate::head) fn place(dir: &Path) -> Option<LogPosition> {
    let map = Mmap::open(&path(dir)).ok()?;
    let mut cursor = Cursor::new(map.strip_prefix(MAGIC)?.get(5..)?);
    Some(LogPosition { segment: cursor.uvarint().ok()?, offset: cursor.uvarint().ok()? })
}

/// Loads the snapshot in the data directory: up to where in the log it reaches, and which refs mean what.
///
/// Nothing when there is none. After an error the head is of no use and has to be made anew.
pub(in crate::head) fn load(
    inner: &Inner,
    loaded: &mut Loaded,
    dir: &Path,
    min_valid_time: Timestamp,
) -> Result<Option<(LogPosition, Table)>> {
    let path = path(dir);
    if !fs::exists(&path) {
        return Ok(None);
    }
    let map = Mmap::open(&path)?;
    let doubt = |doubt: Doubt| Error::corrupt(&path, 0, doubt);
    let snapshot = Snapshot::parse(&map).map_err(doubt)?;
    snapshot.check_place(inner, min_valid_time).map_err(doubt)?;
    let aliases = snapshot.aliases().map_err(|e| doubt(e.to_string()))?;
    for &(alias, series) in &aliases {
        // A series that came back has chunks under each of its refs.
        if let Some(others) = loaded.by_series.remove(&alias) {
            let chunks = loaded.by_series.entry(series).or_default();
            chunks.extend(others);
            chunks.sort_unstable_by_key(|(chunk, _)| (chunk.mint, chunk.maxt));
        }
    }
    let mut table = snapshot.restore(inner, loaded).map_err(doubt)?;
    for (alias, series) in aliases {
        if let Some(slot) = table.slots.get(series) {
            table.slots.insert(alias, slot);
            inner.aliases.lock().push((alias, series));
        }
    }
    inner.metrics.snapshot_series.set(snapshot.n_series as f64);
    inner.last_ref.fetch_max(snapshot.last_ref, Relaxed);
    // Chunks sealed since belong to samples that the log brings back.
    loaded.by_series.retain(|&series, _| table.slots.get(series).is_none());
    Ok(Some((snapshot.place, table)))
}

struct Snapshot<'a> {
    place: LogPosition,
    log_sample: u32,
    min_valid_time: Timestamp,
    last_ref: u64,
    n_series: u64,
    blocks: Vec<(Block, &'a [u8])>,
}

impl<'a> Snapshot<'a> {
    /// Finds the blocks and verifies their checksums.
    fn parse(bytes: &'a [u8]) -> Result<Self, Doubt> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or("another version, or none")?;
        let mut blocks = Vec::new();
        loop {
            let (&head, after) = rest.split_first_chunk::<5>().ok_or("it ends early")?;
            let block = Block::from_byte(head[0]).ok_or_else(|| format!("block of kind {}", head[0]))?;
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let (payload, after) = after.split_at_checked(len).ok_or("it ends early")?;
            let (crc, after) = after.split_first_chunk().ok_or("it ends early")?;
            if crc32c::crc32c_append(crc32c::crc32c(&[head[0]]), payload) != u32::from_be_bytes(*crc) {
                return Err(format!("checksum mismatch of block {}", blocks.len()));
            }
            rest = after;
            blocks.push((block, payload));
            if block == Block::End {
                break;
            }
        }
        let (Some(&(Block::Place, first)), Some(&(_, last))) = (blocks.first(), blocks.last()) else {
            return Err("it does not begin with its place in the log".to_owned());
        };
        let mut cursor = Cursor::new(first);
        let mut read = || {
            Ok::<_, crate::DecodeError>(Self {
                place: LogPosition { segment: cursor.uvarint()?, offset: cursor.uvarint()? },
                log_sample: cursor.u32()?,
                min_valid_time: cursor.varint()?,
                last_ref: cursor.uvarint()?,
                n_series: Cursor::new(last).uvarint()?,
                blocks: Vec::new(),
            })
        };
        let snapshot = read().map_err(|e| e.to_string())?;
        Ok(Self { blocks, ..snapshot })
    }

    /// Whether log and blocks are still those it was made of.
    fn check_place(&self, inner: &Inner, min_valid_time: Timestamp) -> Result<(), Doubt> {
        if self.min_valid_time != min_valid_time {
            return Err("blocks cover another time".to_owned());
        }
        let text = |e: Error| e.to_string();
        let LogPosition { segment, .. } = self.place;
        let segments = segment::list(&inner.wal_dir).map_err(text)?;
        if !segments.contains(&segment) {
            return Err(format!("the log has no segment {segment}"));
        }
        let checkpoint = segment::checkpoints(&inner.wal_dir).map_err(text)?.last().copied();
        if checkpoint.is_some_and(|last| last >= segment) {
            return Err(format!("a checkpoint reaches segment {segment}"));
        }
        match log_sample(&inner.wal_dir, self.place) {
            Ok(found) if found == self.log_sample => Ok(()),
            Ok(_) => Err("the log has other bytes before its place".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn restore(&self, inner: &Inner, loaded: &Loaded) -> Result<Table, Doubt> {
        let table = self.restore_series(inner)?;
        self.restore_states(inner, loaded, &table)?;
        let bad = |e: crate::DecodeError| e.to_string();
        for (block, payload) in &self.blocks {
            match block {
                Block::Metadata => record::decode_metadata(payload, |series, metadata| {
                    if let Some(slot) = table.slots.get(series) {
                        inner.replay_metadata(slot, &metadata);
                    }
                })
                .map_err(bad)?,
                Block::Tombstones => {
                    let mut tombstones = Vec::new();
                    record::decode_tombstones(payload, &mut tombstones).map_err(bad)?;
                    for it in tombstones {
                        let slot = table.slots.get(it.series).ok_or("tombstone of no series")?;
                        let id = inner.shards[slot.shard()].state.read().cold[slot.idx()].id;
                        let span = TimeRange::new(it.mint, it.maxt);
                        inner.registry.write().delete(id, span);
                    }
                }
                Block::Exemplars => restore_exemplars(inner, payload).map_err(bad)?,
                Block::Expiries => {
                    let mut cursor = Cursor::new(payload);
                    let mut expiries = inner.expiries.lock();
                    while !cursor.is_empty() {
                        let (series, until) = (cursor.uvarint().map_err(bad)?, cursor.varint().map_err(bad)?);
                        expiries.insert(series, until);
                    }
                }
                Block::Place | Block::Labels | Block::States | Block::Aliases | Block::End => {}
            }
        }
        Ok(table)
    }

    fn aliases(&self) -> Result<Vec<(u64, u64)>, crate::DecodeError> {
        let mut aliases = Vec::new();
        for payload in self.of_kind(Block::Aliases) {
            let mut cursor = Cursor::new(payload);
            while !cursor.is_empty() {
                aliases.push((cursor.uvarint()?, cursor.uvarint()?));
            }
        }
        Ok(aliases)
    }

    fn of_kind(&self, kind: Block) -> Vec<&'a [u8]> {
        self.blocks.iter().filter(|(block, _)| *block == kind).map(|&(_, payload)| payload).collect()
    }

    fn restore_series(&self, inner: &Inner) -> Result<Table, Doubt> {
        let blocks = self.of_kind(Block::Labels);
        let table = Mutex::new(Table::default());
        let hasher = inner.registry.read().hasher();
        let prepare = |n: usize| {
            let mut packed = Packed::default();
            let failure = unpack_labels(inner, &hasher, blocks[n], &mut packed).err();
            Prepared { parts: vec![(0, packed)], failure }
        };
        let apply = |_: usize, packed: Packed| {
            table.lock().define(inner, &packed);
            Ok(())
        };
        pipeline::run(blocks.len(), 1, prepare, apply).map_err(|(_, doubt)| doubt)?;
        let n_series = inner.registry.read().n_series();
        if n_series != self.n_series {
            return Err(format!("it holds {n_series} series instead of {}", self.n_series));
        }
        Ok(table.into_inner())
    }

    fn restore_states(&self, inner: &Inner, loaded: &Loaded, table: &Table) -> Result<(), Doubt> {
        let blocks = self.of_kind(Block::States);
        let n_shards = inner.shards.len();
        let prepare = |n: usize| {
            let mut cursor = Cursor::new(blocks[n]);
            match cursor.uvarint() {
                Ok(shard) => Prepared { parts: vec![(home(shard, n_shards), cursor)], failure: None },
                Err(e) => Prepared { parts: Vec::new(), failure: Some(e.to_string()) },
            }
        };
        let apply = |shard: usize, mut cursor: Cursor<'_>| {
            let mut state = inner.shards[shard].state.write();
            let mut batch = SampleBatch::default();
            while !cursor.is_empty() {
                restore_state(inner, loaded, table, shard, &mut state, &mut cursor, &mut batch)?;
            }
            Ok(())
        };
        pipeline::run(blocks.len(), n_shards, prepare, apply).map_err(|(_, doubt)| doubt)
    }
}

/// The shard of a series that was in shard `shard` of perhaps more.
fn home(shard: u64, n_shards: usize) -> usize {
    usize::try_from(shard).unwrap_or(0) & (n_shards - 1)
}

fn unpack_labels(
    inner: &Inner,
    hasher: &foldhash::fast::RandomState,
    payload: &[u8],
    out: &mut Packed,
) -> Result<(), Doubt> {
    let bad = |e: crate::DecodeError| e.to_string();
    let mut cursor = Cursor::new(payload);
    let shard = home(cursor.uvarint().map_err(bad)?, inner.shards.len());
    let mut before: Vec<(&[u8], &[u8])> = Vec::new();
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
    while !cursor.is_empty() {
        let series = cursor.uvarint().map_err(bad)?;
        let n = cursor.uvarint().map_err(bad)?;
        pairs.clear();
        for at in 0..usize::try_from(n).unwrap_or(usize::MAX) {
            let pair = match cursor.u8().map_err(bad)? {
                0 => *before.get(at).ok_or("a label is said to be that of no series")?,
                _ => (cursor.str().map_err(bad)?, cursor.str().map_err(bad)?),
            };
            pairs.push(pair);
        }
        out.push(hasher, series, shard, &pairs);
        std::mem::swap(&mut before, &mut pairs);
    }
    Ok(())
}

fn restore_state(
    inner: &Inner,
    loaded: &Loaded,
    table: &Table,
    shard_number: usize,
    state: &mut State,
    cursor: &mut Cursor<'_>,
    batch: &mut SampleBatch,
) -> Result<(), Doubt> {
    let bad = |e: crate::DecodeError| e.to_string();
    let series = cursor.uvarint().map_err(bad)?;
    let slot = table.slots.get(series).filter(|slot| slot.shard() == shard_number);
    let idx = slot.ok_or_else(|| format!("state of series {series}, which it does not name"))?.idx();
    let shard = &inner.shards[shard_number];
    let kind = u32::from(cursor.u8().map_err(bad)?) & HISTOGRAM;
    let last_t = cursor.varint().map_err(bad)?;
    let last_v = cursor.u64().map_err(bad)?;
    let n_sealed = cursor.uvarint().map_err(bad)?;
    let mut known = loaded.by_series.get(&series).map(Vec::as_slice).unwrap_or_default().iter();
    let mut spans: smallvec::SmallVec<[Span; 16]> = smallvec::SmallVec::new();
    for _ in 0..n_sealed {
        let mint = cursor.varint().map_err(bad)?;
        let maxt = mint.saturating_add_unsigned(cursor.uvarint().map_err(bad)?);
        let found = known.find(|(chunk, _)| (chunk.mint, chunk.maxt) == (mint, maxt));
        let (chunk, _) = found.ok_or_else(|| format!("a mapped chunk of series {series} is gone"))?;
        if mint < -TIME_MAX || maxt > TIME_MAX {
            return Err("times out of bounds".to_owned());
        }
        state.push_chunk(idx, *chunk);
        spans.push((mint, maxt));
    }
    if let (Some(&(mint, _)), Some(&(_, maxt))) = (spans.first(), spans.last()) {
        inner.observe_times(mint, maxt);
    }
    let n_sealed = u32::try_from(spans.len()).unwrap_or(u32::MAX);
    match cursor.u8().map_err(bad)? {
        open::NONE => shard.restore(state, idx, n_sealed, (last_t, last_v), kind, None)?,
        open::LINE => {
            let first_t = cursor.varint().map_err(bad)?;
            let cut_after = cursor.uvarint32().map_err(bad)?;
            let delta = u64::from(cursor.uvarint32().map_err(bad)?);
            let n_bits = cursor.uvarint32().map_err(bad)?;
            let count = cursor.uvarint32().map_err(bad)?;
            let (leading, trailing) = (cursor.u8().map_err(bad)?, cursor.u8().map_err(bad)?);
            let count = u8::try_from(count).map_err(|_| "too many samples in a chunk".to_owned())?;
            let xor = xor::State {
                t: last_t,
                v: last_v,
                delta,
                n_bits,
                count: u16::from(count),
                leading,
                trailing,
            };
            let stream = cursor.take(xor.len_bytes()).map_err(bad)?;
            let open = OpenLine { first_t, cut_after, xor, stream };
            shard.restore(state, idx, n_sealed, (last_t, last_v), kind, Some(open))?;
            inner.observe_times(first_t, last_t);
        }
        open::EXTENSION => {
            let encoding = Encoding::from_byte(cursor.u8().map_err(bad)?).ok_or("unknown encoding")?;
            let bytes = cursor.str().map_err(bad)?;
            let before = spans.last().map_or(Timestamp::MIN, |&(_, maxt)| maxt);
            shard.restore(state, idx, n_sealed, (before, 0), 0, None)?;
            batch.clear();
            chunk::decode(encoding, bytes, TimeRange::ALL, batch).map_err(bad)?;
            append_all(inner, shard_number, state, idx, batch)?;
            if shard.line(idx).last_t() != last_t {
                return Err(format!("the open chunk of series {series} does not end as it should"));
            }
        }
        other => return Err(format!("open chunk of kind {other}")),
    }
    Ok(())
}

/// Gives a series that has nothing yet its mapped chunks that begin before `mint`.
pub(in crate::head) fn attach_before(
    inner: &Inner,
    loaded: &Loaded,
    slot: Slot,
    state: &mut State,
    series: u64,
    mint: Timestamp,
) -> Result<(), Doubt> {
    let known = loaded.by_series.get(&series).map(Vec::as_slice).unwrap_or_default();
    let chunks = known.iter().filter(|(chunk, _)| {
        chunk.mint < mint
            && (-TIME_MAX..=TIME_MAX).contains(&chunk.mint)
            && chunk.maxt <= TIME_MAX
            && u32::try_from(chunk.maxt - chunk.mint).is_ok()
    });
    let (mut n_sealed, mut newest) = (0, None);
    for (chunk, encoding) in chunks {
        state.push_chunk(slot.idx(), *chunk);
        inner.observe_times(chunk.mint, chunk.maxt);
        n_sealed += 1;
        newest = Some((chunk.maxt, kind_of(*encoding)));
    }
    match newest {
        Some((maxt, kind)) => {
            inner.shards[slot.shard()].restore(state, slot.idx(), n_sealed, (maxt, 0), kind, None)
        }
        None => Ok(()),
    }
}

/// Appends the samples of one chunk, which are of one kind, as they were appended when they came.
pub(in crate::head) fn append_all(
    inner: &Inner,
    shard_number: usize,
    state: &mut State,
    idx: u32,
    batch: &SampleBatch,
) -> Result<(), Doubt> {
    let shard = &inner.shards[shard_number];
    let place = (idx, shard.line(idx).generation());
    let mut append = |st: Timestamp, t: Timestamp, value: Value<'_>| {
        let applied = shard.apply_value(state, &inner.chunks, &inner.options, place, st, t, value);
        match applied {
            Ok(Applied::Stored) => {
                inner.observe_times(t, t);
                Ok(())
            }
            Ok(_) => Err("samples of an open chunk are out of order".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    };
    for (at, sample) in batch.iter().enumerate() {
        append(batch.st(at), sample.t, Value::Float(sample.v))?;
    }
    for sample in &batch.histograms {
        append(sample.st, sample.t, (&sample.histogram).into())?;
    }
    Ok(())
}

fn restore_exemplars(inner: &Inner, payload: &[u8]) -> Result<(), crate::DecodeError> {
    let mut rest = payload;
    while !rest.is_empty() {
        let (series, after) = record::decode_labels(rest)?;
        let mut cursor = Cursor::new(after);
        let (t, v) = (cursor.varint()?, f64::from_bits(cursor.u64()?));
        let (labels, after) = record::decode_labels(&after[cursor.pos()..])?;
        rest = after;
        // Refused if the ring has become smaller, or none is kept any more.
        if inner.exemplars.is_enabled() {
            inner.exemplars.restore(&series, &Exemplar { labels, v, t, has_own_t: true });
        }
    }
    Ok(())
}
