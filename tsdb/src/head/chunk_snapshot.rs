//! Upstream's snapshot of the head: a small log of series with their open chunks, written at a clean close.
//!
//! Only with the feature `memory-snapshot-on-shutdown`. The name of its directory says up to where in the log it reaches. For
//! our own starts there is a better one ([`super::snapshot`]); this one is read and written so that either server finds
//! what the other left.
//!
//! Compat: prometheus `tsdb`, `Head.ChunkSnapshot`, `Head.loadChunkSnapshot`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use model::{AnyHistogram, SampleBatch, TimeRange, Timestamp};

use super::Inner;
use super::chunks::Loaded;
use super::replay::{LogPosition, Packed, Table, affinity};
use super::series::{ALIVE, LOGGED};
use super::slab::NONE;
use super::snapshot::{append_all, attach_before};
use crate::bytes::{self, put_str, put_uvarint, put_varint};
use crate::chunk::{self, Encoding};
use crate::db::paths::SNAPSHOT_PREFIX;
use crate::fs::{self, Mmap};
use crate::wal::reader::Records;
use crate::wal::record::{self, Cursor};
use crate::wal::{Options, Writer, segment};
use crate::{DecodeError, Error, Result};

const SERIES: u8 = 1;
const TOMBSTONES: u8 = 2;
const EXEMPLARS: u8 = 3;

/// Compat: prometheus `tsdb/tombstones`, `tombstoneFormatV1`.
const TOMBSTONES_VERSION: u8 = 1;

/// Compat: prometheus `tsdb`, `ChunkSnapshot`.
const EXEMPLARS_PER_RECORD: usize = 10_000;

/// How much is gathered before it is written.
const FLUSH_BYTES: usize = 1 << 20;

/// All there are, oldest first, by how far they reach.
pub(super) fn list(dir: &Path) -> Result<Vec<(LogPosition, PathBuf)>> {
    let mut found = Vec::new();
    for name in fs::list(dir)? {
        let position = name.strip_prefix(SNAPSHOT_PREFIX).and_then(|rest| rest.split_once('.'));
        if let Some((segment, offset)) = position
            && let (Ok(segment), Ok(offset)) = (segment.parse(), offset.parse())
        {
            found.push((LogPosition { segment, offset }, dir.join(name)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes all but the one at `kept`.
pub(super) fn remove_all_but(dir: &Path, kept: Option<LogPosition>) -> Result<()> {
    for (position, path) in list(dir)? {
        if Some(position) != kept {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Loads a snapshot into an empty head. After an error the head has to be made anew.
pub(super) fn load(
    inner: &Inner,
    loaded: &mut Loaded,
    position: LogPosition,
    dir: &Path,
) -> Result<(LogPosition, Table)> {
    let refuse = |what: &str| Error::corrupt(dir, 0, what.to_owned());
    let segments = segment::list(&inner.wal_dir)?;
    match segments.last() {
        Some(&last) if last >= position.segment => {}
        _ => return Err(refuse("the log ends before the place it reaches")),
    }
    if segment::checkpoints(&inner.wal_dir)?.last().is_some_and(|&last| last >= position.segment) {
        // It leaves out what it says of series that are gone: those of the snapshot might be among them.
        return Err(refuse("a checkpoint reaches it"));
    }
    if segments.contains(&position.segment)
        && fs::file_len(&segment::path(&inner.wal_dir, position.segment))? < position.offset
    {
        return Err(refuse("the segment ends before the place it reaches"));
    }
    if loaded.n_corruptions > 0 {
        return Err(refuse("mapped chunks that belong to it are damaged"));
    }
    let mut table = Table::default();
    let mut n_series = 0_u32;
    for n in segment::list(dir)? {
        let path = segment::path(dir, n);
        let map = Mmap::open(&path)?;
        let mut records = Records::new(&map);
        loop {
            let at = records.sound_len() as u64;
            let record = records.next().map_err(|c| Error::corrupt(&path, c.offset, c.what))?;
            let Some(record) = record else { break };
            load_record(inner, loaded, &mut table, record).map_err(|what| Error::corrupt(&path, at, what))?;
            n_series += u32::from(record.first() == Some(&SERIES));
        }
    }
    inner.metrics.snapshot_series.set(f64::from(n_series));
    loaded.by_series.retain(|&series, _| table.slots.get(series).is_none());
    Ok((position, table))
}

fn load_record(inner: &Inner, loaded: &Loaded, table: &mut Table, record: &[u8]) -> Result<(), String> {
    let bad = |e: DecodeError| e.to_string();
    match record.first() {
        Some(&SERIES) => load_series(inner, loaded, table, record),
        Some(&TOMBSTONES) => {
            let mut outer = bytes::Cursor::at(record, 1);
            let mut cursor = bytes::Cursor::new(outer.str().map_err(bad)?);
            if cursor.u8().map_err(bad)? != TOMBSTONES_VERSION {
                return Err("tombstones of another version".to_owned());
            }
            while !cursor.is_empty() {
                let series = cursor.uvarint().map_err(bad)?;
                let (mint, maxt) = (cursor.varint().map_err(bad)?, cursor.varint().map_err(bad)?);
                let Some(slot) = table.slots.get(series) else { continue };
                let id = inner.shards[slot.shard()].state.read().cold[slot.idx()].id;
                inner.registry.write().delete(id, TimeRange::new(mint, maxt));
            }
            Ok(())
        }
        Some(&EXEMPLARS) => record::decode_exemplars(record, |it| {
            if let Some(slot) = table.slots.get(it.series) {
                inner.replay_exemplar(slot, &it.exemplar, Timestamp::MIN);
            }
        })
        .map_err(bad),
        other => Err(format!("unsupported snapshot record type {other:?}")),
    }
}

fn load_series(inner: &Inner, loaded: &Loaded, table: &mut Table, record: &[u8]) -> Result<(), String> {
    let bad = |e: DecodeError| e.to_string();
    let mut cursor = Cursor::after_type(record);
    let series = cursor.be64().map_err(bad)?;
    let (labels, rest) = record::decode_labels(cursor.rest()).map_err(bad)?;
    let pairs: Vec<(&[u8], &[u8])> = labels.iter().collect();
    let mut packed = Packed::default();
    let hasher = inner.registry.read().hasher();
    packed.push(&hasher, series, inner.shard_of(affinity(&pairs)), &pairs);
    table.define(inner, &packed);
    let Some(slot) = table.slots.get(series) else { return Ok(()) };
    let mut cursor = Cursor::new(rest);
    // Once the range of a chunk, now nothing.
    cursor.be64().map_err(bad)?;
    let shard = &inner.shards[slot.shard()];
    let mut state = shard.state.write();
    if cursor.uvarint().map_err(bad)? == 0 {
        return attach_before(inner, loaded, slot, &mut state, series, Timestamp::MAX);
    }
    let mint = cursor.be64().map_err(bad)?.cast_signed();
    cursor.be64().map_err(bad)?;
    let encoding = Encoding::from_byte(cursor.byte().map_err(bad)?).ok_or("unknown encoding")?;
    let chunk = cursor.bytes().map_err(bad)?;
    // What follows is the last value, which the chunk has as well.
    attach_before(inner, loaded, slot, &mut state, series, mint)?;
    let mut batch = SampleBatch::default();
    chunk::decode(encoding, chunk, TimeRange::ALL, &mut batch).map_err(bad)?;
    append_all(inner, slot.shard(), &mut state, slot.idx(), &batch)
}

impl Inner {
    /// Writes a snapshot of the head, whose log is closed, and removes older ones.
    pub(super) fn write_chunk_snapshot(&self, dir: &Path) -> Result<()> {
        if !self.aliases.lock().is_empty() {
            // It has no place for them, and their records are before where the log would be read from.
            tracing::info!("no snapshot of the head: some series have chunks under two refs");
            return remove_all_but(dir, None);
        }
        let Some(&last) = segment::list(&self.wal_dir)?.last() else { return Ok(()) };
        let offset = fs::file_len(&segment::path(&self.wal_dir, last))?;
        let position = LogPosition { segment: last, offset };
        if list(dir)?.last().is_some_and(|(newest, _)| *newest == position) {
            return Ok(());
        }
        let target = dir.join(format!("{SNAPSHOT_PREFIX}{last:06}.{offset:010}"));
        let tmp = fs::with_suffix(&target, crate::db::paths::LEGACY_SUFFIX);
        fs::remove_dir_all(&tmp)?;
        let writer = Writer::open(&tmp, Options { sync_interval: None, ..self.options.wal })?;
        self.write_chunk_records(&writer)?;
        writer.close()?;
        fs::sync_dir(&tmp)?;
        fs::rename(&tmp, &target)?;
        remove_all_but(dir, Some(position))
    }

    fn write_chunk_records(&self, writer: &Writer) -> Result<()> {
        let mut batch = writer.batch();
        let mut bytes = Vec::new();
        let mut tombstones = vec![TOMBSTONES_VERSION];
        for shard_number in 0..self.shards.len() {
            let n_slots = self.shards[shard_number].state.read().n_slots();
            for idx in 0..n_slots {
                bytes.clear();
                if self.encode_series(shard_number, idx, &mut bytes, &mut tombstones) {
                    batch.push(&bytes);
                }
                if batch.payload_len() >= FLUSH_BYTES {
                    writer.log(std::mem::replace(&mut batch, writer.batch()))?;
                }
            }
        }
        bytes.clear();
        bytes.push(TOMBSTONES);
        put_str(&mut bytes, &tombstones);
        batch.push(&bytes);
        writer.log(std::mem::replace(&mut batch, writer.batch()))?;
        let (mut encoder, mut n) = (record::Exemplars::with_type(EXEMPLARS), 0);
        bytes.clear();
        self.exemplars.each(|labels, exemplar| {
            let registry = self.registry.read();
            // Of a series that left the head meanwhile it cannot be said whose it is.
            let Some((_, slot, _)) = registry.find_slot(registry.hash(labels), labels) else { return };
            let series = self.shards[slot.shard()].line(slot.idx()).wal_ref();
            encoder.push(&mut bytes, series, exemplar);
            n += 1;
            if n % EXEMPLARS_PER_RECORD == 0 {
                batch.push(&bytes);
                bytes.clear();
            }
        });
        if !bytes.is_empty() {
            batch.push(&bytes);
        }
        writer.log(batch)
    }

    /// Appends a series record; false if there is no series at `idx`. Deleted spans go to `tombstones`.
    fn encode_series(
        &self,
        shard_number: usize,
        idx: u32,
        out: &mut Vec<u8>,
        tombstones: &mut Vec<u8>,
    ) -> bool {
        let shard = &self.shards[shard_number];
        let state = shard.state.read();
        let registry = self.registry.read();
        let hot = shard.line(idx);
        let id = state.cold[idx].id;
        if hot.flags.load(Relaxed) & (ALIVE | LOGGED) != ALIVE | LOGGED || id == NONE {
            return false;
        }
        let line = hot.load();
        out.push(SERIES);
        out.extend_from_slice(&line.wal_ref.to_be_bytes());
        record::push_labels(out, &registry.labels(id));
        out.extend_from_slice(&[0; 8]);
        for span in registry.deleted(id) {
            put_uvarint(tombstones, line.wal_ref);
            put_varint(tombstones, span.mint);
            put_varint(tombstones, span.maxt);
        }
        drop(registry);
        put_uvarint(out, u64::from(line.n_open() > 0));
        if line.n_open() == 0 {
            return true;
        }
        out.extend_from_slice(&line.first_t.to_be_bytes());
        out.extend_from_slice(&line.last_t().to_be_bytes());
        if let Some(open) = state.open(idx) {
            let (encoding, chunk) = (open.builder.encoding(), open.builder.bytes());
            out.push(encoding as u8);
            put_str(out, chunk);
            push_last(out, encoding, chunk, line.xor.v);
        } else {
            let mut chunk = line.xor.count.to_be_bytes().to_vec();
            chunk.extend_from_slice(&state.buffers.get(line.buffer)[..line.xor.len_bytes()]);
            // The last byte of the buffer may lag behind.
            if let Some(last) = chunk.last_mut().filter(|_| !line.xor.n_bits.is_multiple_of(8)) {
                *last = line.partial();
            }
            out.push(Encoding::Xor as u8);
            put_str(out, &chunk);
            push_last(out, Encoding::Xor, &chunk, line.xor.v);
        }
        true
    }
}

/// The last value of a chunk: of floats behind three places that once held others, of histograms as the log has them.
fn push_last(out: &mut Vec<u8>, encoding: Encoding, chunk: &[u8], v: u64) {
    if matches!(encoding, Encoding::Xor | Encoding::Xor2) {
        out.extend_from_slice(&[0; 3 * 16 + 8]);
        out.extend_from_slice(&v.to_be_bytes());
        return;
    }
    let mut batch = SampleBatch::default();
    let decoded = chunk::decode(encoding, chunk, TimeRange::ALL, &mut batch);
    debug_assert!(decoded.is_ok(), "BUG: an open chunk does not decode");
    match batch.histograms.pop().map(|sample| sample.histogram) {
        Some(AnyHistogram::Int(it)) => record::push_histogram(out, &*it),
        Some(AnyHistogram::Float(it)) => record::push_histogram(out, &*it),
        None => {}
    }
}
