//! Selects series and decodes their samples as of one moment.
//!
//! A select holds all shards for reading just long enough to note, per series, which chunks are sealed and how
//! many samples the open one has. Decoding happens later and takes that many and no more, from the open chunk
//! or from wherever it was sealed to meanwhile. So a query sees whole batches, and nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::storage::{Error, Querier, Queryable, RawChunk, SelectHints, SeriesSet};
use model::{Detail, HistogramPoints, Labels, Matcher, Position, SampleBatch, TimeRange, Timestamp};
use parking_lot::RwLockReadGuard;
use roaring::RoaringBitmap;

use super::chunks::{Files, Sealed};
use super::late;
use super::registry::Registry;
use super::series::State;
use super::slab::NONE;
use super::{Head, Inner, Slot};
use crate::DecodeError;
use crate::block::tombstones;
use crate::chunk::{self, Encoding, xor};

impl Queryable for Head {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>, Error> {
        Ok(Box::new(HeadQuerier { inner: Arc::clone(&self.0), range }))
    }
}

#[derive(Debug)]
struct HeadQuerier {
    inner: Arc<Inner>,
    range: TimeRange,
}

impl Querier for HeadQuerier {
    fn select(&self, matchers: &[Matcher], hints: &SelectHints) -> Result<Box<dyn SeriesSet>, Error> {
        let range = match hints.range {
            Some(hint) => TimeRange::new(self.range.mint.max(hint.mint), self.range.maxt.min(hint.maxt)),
            None => self.range,
        };
        let mut view = View::new(&self.inner, range, |registry| registry.select(matchers));
        if hints.sorted {
            view.sort();
        }
        if hints.limit > 0 {
            view.entries.truncate(hints.limit);
        }
        Ok(Box::new(view))
    }

    fn label_values(&self, name: &[u8], matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        let registry = self.inner.registry.read();
        let among = (!matchers.is_empty()).then(|| registry.select(matchers));
        Ok(limited(registry.label_values(name, among.as_ref()), limit))
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        let registry = self.inner.registry.read();
        let among = (!matchers.is_empty()).then(|| registry.select(matchers));
        Ok(limited(registry.label_names(among.as_ref()), limit))
    }
}

fn limited(mut values: Vec<Box<[u8]>>, limit: usize) -> Vec<Box<[u8]>> {
    if limit > 0 {
        values.truncate(limit);
    }
    values
}

/// One series as it was at the moment of the select.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) id: u32,
    slot: Slot,
    n_sealed: u32,
    generation: u16,
    /// Samples of the open chunk.
    count: u16,
    first_t: Timestamp,
    /// Its sealed chunks in the view's list.
    chunks_start: u32,
    n_chunks: u32,
    /// Its late samples in the view's list, `NONE` if it has none.
    late: u32,
}

impl Seen {
    /// Whether it has samples that came in order.
    pub(super) fn has_in_order(&self) -> bool {
        self.n_chunks > 0 || self.count > 0
    }
}

/// Some series of the head as of one moment.
#[derive(Debug)]
pub(super) struct View {
    inner: Arc<Inner>,
    pub(super) entries: Vec<Seen>,
    /// Sealed chunks that overlap the range, oldest first within a series.
    chunks: Vec<Sealed>,
    late: Vec<late::Seen>,
    files: Files,
    _pin: Arc<()>,
}

/// One chunk of a series in a view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) encoding: Encoding,
    /// Header included, which may count more samples than belong to the view.
    pub(super) bytes: &'a [u8],
    /// How many samples belong to the view, if it was open.
    pub(super) n_open: Option<u16>,
    /// The times of the first and last sample of the bytes.
    pub(super) mint: Timestamp,
    pub(super) maxt: Timestamp,
    /// Where it is in its file, for messages.
    offset: u32,
}

impl Piece<'_> {
    fn sealed(at: Sealed, encoding: Encoding, bytes: &[u8]) -> Piece<'_> {
        Piece { encoding, bytes, n_open: None, mint: at.mint, maxt: at.maxt, offset: at.offset }
    }

    /// Whether all samples of the bytes belong to the view.
    pub(super) fn is_whole(&self) -> bool {
        self.n_open.is_none_or(|n| chunk::count(self.encoding, self.bytes) == Ok(n))
    }

    /// Appends its samples in `range` to `out`.
    pub(super) fn decode(&self, range: TimeRange, out: &mut SampleBatch) -> Result<(), DecodeError> {
        match self.n_open {
            Some(n) => chunk::decode_first(self.encoding, self.bytes, n, range, out),
            None => chunk::decode(self.encoding, self.bytes, range, out),
        }
    }

    /// As [`Self::decode`], with histograms as floats and apart.
    fn decode_points(
        &self,
        range: TimeRange,
        detail: Detail,
        floats: &mut SampleBatch,
        histograms: &mut HistogramPoints,
    ) -> Result<(), DecodeError> {
        let n = self.n_open.map_or_else(|| chunk::count(self.encoding, self.bytes), Ok)?;
        chunk::decode_points(self.encoding, self.bytes, n, range, detail, floats, histograms)
    }
}

/// The most bytes of an open chunk of plain floats.
const STREAM_BYTES_MAX: usize = 1056;

impl View {
    /// Looks at the series that `choose` finds and that have samples in `range`, in the order of their creation.
    pub(super) fn new(
        inner: &Arc<Inner>,
        range: TimeRange,
        choose: impl Fn(&super::Registry) -> RoaringBitmap,
    ) -> Self {
        let mut chosen = None;
        for _ in 0..2 {
            // Choosing may take long (regexes), so it happens before the shards are held, and is only valid if no
            // batch showed new series in between: that batch would be seen in part.
            let published = inner.published.load(Ordering::SeqCst);
            let ids = choose(&inner.registry.read());
            chosen = Some((published, ids));
            if inner.published.load(Ordering::SeqCst) == published {
                break;
            }
        }
        // Before anything is looked at.
        let _pin = Arc::clone(&inner.pin);
        let states: Vec<_> = inner.shards.iter().map(|shard| shard.state.read()).collect();
        let registry = inner.registry.read();
        let ids = match chosen {
            Some((published, ids)) if published == inner.published.load(Ordering::SeqCst) => ids,
            _ => choose(&registry),
        };
        let mut view = Self::empty(inner, usize::try_from(ids.len()).unwrap_or(0));
        view.look(range, ids, &states, &registry);
        view.entries.shrink_to_fit();
        view
    }

    /// Looks at some series in the order in which they are given. Their ids were found under a pin that is still held.
    pub(super) fn of(inner: &Arc<Inner>, range: TimeRange, ids: &[u32]) -> Self {
        let states: Vec<_> = inner.shards.iter().map(|shard| shard.state.read()).collect();
        let registry = inner.registry.read();
        let mut view = Self::empty(inner, ids.len());
        view.look(range, ids.iter().copied(), &states, &registry);
        view
    }

    /// Without series.
    pub(super) fn empty(inner: &Arc<Inner>, capacity: usize) -> Self {
        Self {
            inner: Arc::clone(inner),
            entries: Vec::with_capacity(capacity),
            chunks: Vec::new(),
            late: Vec::new(),
            files: inner.chunks.files(),
            _pin: Arc::clone(&inner.pin),
        }
    }

    /// Adds those of the series that have samples in `range`.
    fn look(
        &mut self,
        range: TimeRange,
        ids: impl IntoIterator<Item = u32>,
        states: &[RwLockReadGuard<'_, State>],
        registry: &Registry,
    ) {
        let inner = Arc::clone(&self.inner);
        // Few heads have any, and then of few times: else nobody has to look.
        let may_be_late = inner.late.overlaps(range);
        for id in ids {
            let entry = registry.entry(id);
            if entry.slot == NONE {
                continue;
            }
            let slot = Slot(entry.slot);
            let state = &states[slot.shard()];
            let line = inner.shards[slot.shard()].line(slot.idx()).load();
            let deleted = registry.deleted(id);
            let start = self.chunks.len();
            if line.n_sealed > 0 || state.cold[slot.idx()].chunks != NONE {
                let overlapping = state
                    .chunks(slot.idx())
                    .take_while(|chunk| chunk.maxt >= range.mint)
                    .filter(|chunk| chunk.mint <= range.maxt)
                    .filter(|chunk| !tombstones::covers(deleted, chunk.mint, chunk.maxt));
                self.chunks.extend(overlapping);
                self.chunks[start..].reverse();
            }
            let is_open = line.xor.count > 0
                && line.first_t <= range.maxt
                && line.last_t() >= range.mint
                && !tombstones::covers(deleted, line.first_t, line.last_t());
            let n_chunks = self.chunks.len() - start;
            let late = may_be_late.then(|| state.late(slot.idx())).flatten().and_then(|it| it.seen(range));
            if n_chunks > 0 || is_open || late.is_some() {
                let at = self.late.len();
                self.late.extend(late);
                let late = if self.late.len() > at { at } else { NONE as usize };
                self.entries.push(Seen {
                    id,
                    slot,
                    n_sealed: line.n_sealed,
                    generation: line.generation,
                    count: if is_open { line.n_open() } else { 0 },
                    first_t: line.first_t,
                    chunks_start: u32::try_from(start).expect("chunks in memory are fewer than 2^32"),
                    n_chunks: u32::try_from(n_chunks).expect("chunks in memory are fewer than 2^32"),
                    late: u32::try_from(late).expect("fewer than the series"),
                });
            }
        }
    }

    /// Puts the series in label order.
    pub(super) fn sort(&mut self) {
        let registry = self.inner.registry.read();
        let ranks = registry.pair_ranks_of(self.entries.iter().map(|seen| seen.id));
        let key = |seen: &Seen| registry.pair_ids(seen.id).iter().map(|&pair| ranks[pair as usize]);
        self.entries.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    }

    pub(super) fn shared(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Hands the chunks of series `i` that overlap `range` to `visit`, oldest first, late samples left out.
    pub(super) fn each_chunk(
        &self,
        i: usize,
        range: TimeRange,
        mut visit: impl FnMut(Piece<'_>) -> crate::Result<()>,
    ) -> crate::Result<()> {
        let seen = self.entries[i];
        let start = seen.chunks_start as usize;
        for &at in &self.chunks[start..start + seen.n_chunks as usize] {
            if at.mint <= range.maxt && at.maxt >= range.mint {
                let read = self
                    .inner
                    .chunks
                    .read(&self.files, at, |encoding, bytes| visit(Piece::sealed(at, encoding, bytes)));
                read??;
            }
        }
        if seen.count == 0 || seen.first_t > range.maxt {
            return Ok(());
        }
        let shard = &self.inner.shards[seen.slot.shard()];
        let state = shard.state.read();
        let line = shard.line(seen.slot.idx()).load();
        let gone =
            || crate::Error::corrupt(&self.inner.wal_dir, 0, "a series left the head while it was read");
        if line.generation != seen.generation {
            return Err(gone());
        }
        if line.n_sealed == seen.n_sealed {
            if line.n_open() < seen.count {
                return Err(gone());
            }
            // Copied, so that decoding holds up nobody. A chunk that was encoded anew since, because buckets were
            // added, holds the same samples in front.
            let piece = Piece {
                encoding: Encoding::Xor,
                bytes: &[],
                n_open: Some(seen.count),
                mint: seen.first_t,
                maxt: line.last_t(),
                offset: 0,
            };
            if let Some(open) = state.open(seen.slot.idx()) {
                let (encoding, bytes) = (open.builder.encoding(), open.builder.bytes().to_vec());
                drop(state);
                return visit(Piece { encoding, bytes: &bytes, ..piece });
            }
            let mut bytes = [0; xor::HEADER_LEN + STREAM_BYTES_MAX];
            let len = xor::HEADER_LEN + line.xor.len_bytes();
            bytes[..xor::HEADER_LEN].copy_from_slice(&line.xor.count.to_be_bytes());
            bytes[xor::HEADER_LEN..len]
                .copy_from_slice(&state.buffers.get(line.buffer)[..line.xor.len_bytes()]);
            drop(state);
            return visit(Piece { bytes: &bytes[..len], ..piece });
        }
        let n_newer = line.n_sealed - seen.n_sealed - 1;
        let at = state.chunks(seen.slot.idx()).nth(n_newer as usize);
        drop(state);
        let at = at.filter(|at| at.mint == seen.first_t).ok_or_else(gone)?;
        self.inner.chunks.read(&self.files, at, |encoding, bytes| {
            visit(Piece { n_open: Some(seen.count), ..Piece::sealed(at, encoding, bytes) })
        })?
    }

    fn decode(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> crate::Result<()> {
        let start = out.end();
        self.each_chunk(i, range, |piece| piece.decode(range, out).map_err(|e| self.corrupt(piece, &e)))?;
        if let Some(late) = self.late.get(self.entries[i].late as usize) {
            late.merge_into(&self.inner, &self.files, range, start, out)?;
        }
        self.drop_deleted(i, start, out);
        Ok(())
    }

    /// As [`Self::decode`], with histograms as floats and apart, where nothing is late or deleted; `false` where it is.
    fn decode_points(
        &self,
        i: usize,
        range: TimeRange,
        detail: Detail,
        floats: &mut SampleBatch,
        histograms: &mut HistogramPoints,
    ) -> crate::Result<bool> {
        if self.entries[i].late != NONE || self.is_touched_by_tombstone(i) {
            return Ok(false);
        }
        self.each_chunk(i, range, |piece| {
            piece.decode_points(range, detail, floats, histograms).map_err(|e| self.corrupt(piece, &e))
        })?;
        Ok(true)
    }

    fn corrupt(&self, piece: Piece<'_>, e: &DecodeError) -> crate::Error {
        crate::Error::corrupt(&self.inner.wal_dir, u64::from(piece.offset), e.to_string())
    }

    /// The last sample of series `i` if it is at hand: a float that ends an open chunk, in `range` and not deleted.
    fn newest(&self, i: usize, range: TimeRange) -> Option<(Timestamp, f64)> {
        let seen = self.entries[i];
        if seen.count == 0 || seen.late != NONE {
            return None;
        }
        let shard = &self.inner.shards[seen.slot.shard()];
        let state = shard.state.read();
        let line = shard.line(seen.slot.idx()).load();
        let is_as_seen = line.generation == seen.generation
            && line.n_sealed == seen.n_sealed
            && line.n_open() == seen.count
            && state.open(seen.slot.idx()).is_none();
        let (t, v) = (line.last_t(), f64::from_bits(line.xor.v));
        let is_wanted = is_as_seen && range.mint <= t && t <= range.maxt;
        (is_wanted && !self.is_touched_by_tombstone(i)).then_some((t, v))
    }

    /// Takes samples that a tombstone covers out of what was appended from `start` on.
    pub(super) fn drop_deleted(&self, i: usize, start: Position, out: &mut SampleBatch) {
        let registry = self.inner.registry.read();
        let spans = registry.deleted(self.entries[i].id);
        if !spans.is_empty() {
            tombstones::apply(spans, out, start);
        }
    }

    pub(super) fn is_touched_by_tombstone(&self, i: usize) -> bool {
        !self.inner.registry.read().deleted(self.entries[i].id).is_empty()
    }
}

impl SeriesSet for View {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn labels(&self, i: usize) -> Labels {
        self.inner.registry.read().labels(self.entries[i].id)
    }

    fn samples_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error> {
        self.decode(i, range, out).map_err(Error::new)
    }

    fn chunks(&self, i: usize, range: TimeRange, visit: &mut dyn FnMut(RawChunk<'_>)) -> Result<bool, Error> {
        if self.entries[i].late != NONE || self.is_touched_by_tombstone(i) {
            return Ok(false);
        }
        let mut part = SampleBatch::default();
        let read = self.each_chunk(i, range, |piece| {
            if piece.is_whole() && range.mint <= piece.mint && piece.maxt <= range.maxt {
                let Piece { encoding, bytes, mint, maxt, .. } = piece;
                visit(RawChunk { mint, maxt, encoding: encoding as u8, bytes });
                return Ok(());
            }
            part.clear();
            piece.decode(range, &mut part).map_err(|e| self.corrupt(piece, &e))?;
            chunk::encode_as(piece.encoding, &part, |chunk| visit(chunk.raw()));
            Ok(())
        });
        read.map(|()| true).map_err(Error::new)
    }

    fn points_into(
        &self,
        i: usize,
        range: TimeRange,
        detail: Detail,
        floats: &mut SampleBatch,
        histograms: &mut HistogramPoints,
    ) -> Result<(), Error> {
        if !self.decode_points(i, range, detail, floats, histograms).map_err(Error::new)? {
            self.samples_into(i, range, floats)?;
            histograms.take_from(&mut floats.histograms);
        }
        Ok(())
    }

    fn last_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error> {
        match self.newest(i, range) {
            Some((t, v)) => out.push(t, v),
            None => self.decode(i, range, out).map_err(Error::new)?,
        }
        Ok(())
    }
}
