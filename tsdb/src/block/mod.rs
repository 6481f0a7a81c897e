//! Blocks: immutable directories of series over a span of time.
//!
//! A block is opened whole (description, index, chunk segments, deletions), mapped, and read in place; it
//! stays readable for whoever holds it even after its directory is gone.
//! Knows nothing of the head nor of other blocks.
//!
//! Compat: prometheus `tsdb/block.go`.

pub mod meta;
pub mod writer;

pub(crate) mod chunks;
pub(crate) mod tombstones;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::storage::{self, RawChunk, SeriesSet};
use model::{Detail, HistogramPoints, Labels, Matcher, Position, SampleBatch, TimeRange, Timestamp};

pub use self::meta::BlockMeta;
pub use self::tombstones::Tombstones;

use crate::chunk::{self, EncodedChunk, Encoding};
use crate::db::paths;
use crate::fs::{self, Mmap};
use crate::index::select::{self, PostingsSource as _};
use crate::index::{self, ChunkMeta, Postings};
use crate::{DecodeError, Error, Result};

/// An open block.
#[derive(Debug)]
pub struct Block {
    dir: PathBuf,
    meta: BlockMeta,
    index: Arc<index::Reader>,
    chunks: Arc<chunks::Reader>,
    tombstones: Tombstones,
    size: u64,
}

impl Block {
    /// Opens the block in `dir`.
    ///
    /// # Errors
    /// A file is missing or does not stand the checks done at open.
    pub fn open(dir: &Path) -> Result<Self> {
        let meta_path = dir.join(paths::BLOCK_META);
        let meta = BlockMeta::load(&meta_path)?;
        let chunks = Arc::new(chunks::Reader::open(&dir.join(paths::BLOCK_CHUNKS))?);
        let index_path = dir.join(paths::BLOCK_INDEX);
        let map = Mmap::open(&index_path)?;
        map.advise_random();
        let index = Arc::new(index::Reader::open(&index_path, map)?);
        let tombstones = Tombstones::load(&dir.join(paths::BLOCK_TOMBSTONES))?;
        let size =
            chunks.size_bytes() + index.size_bytes() + tombstones.size_bytes() + fs::file_len(&meta_path)?;
        Ok(Self { dir: dir.to_owned(), meta, index, chunks, tombstones, size })
    }

    /// The same block after a deletion: it shares the mapped files, and whoever reads the old one sees no change.
    pub(crate) fn with_tombstones(&self, tombstones: Tombstones) -> Self {
        let mut meta = self.meta.clone();
        meta.stats.num_tombstones = tombstones.len() as u64;
        Self {
            dir: self.dir.clone(),
            meta,
            index: Arc::clone(&self.index),
            chunks: Arc::clone(&self.chunks),
            size: self.size - self.tombstones.size_bytes() + tombstones.size_bytes(),
            tombstones,
        }
    }

    /// What is deleted once the samples in `range` of the series that pass `matchers` are, too; nothing if that
    /// changes nothing.
    ///
    /// A series with a chunk in the range gets a span no longer than its samples.
    ///
    /// # Errors
    /// The index is damaged where it had to be read.
    ///
    /// Compat: prometheus `tsdb/block.go`, `Block.Delete`.
    pub(crate) fn deletion(&self, range: TimeRange, matchers: &[Matcher]) -> Result<Option<Tombstones>> {
        let mut tombstones = self.tombstones.clone();
        let mut has_changed = false;
        let mut chunks = Vec::new();
        for series_ref in select::postings(self.index(), matchers)?.into_vec() {
            self.index.series_into(series_ref, None, Some(&mut chunks))?;
            let touches = chunks.iter().any(|chunk| range.overlaps(TimeRange::new(chunk.mint, chunk.maxt)));
            if let (true, Some(first), Some(last)) = (touches, chunks.first(), chunks.last()) {
                let span = TimeRange::new(range.mint.max(first.mint), range.maxt.min(last.maxt));
                has_changed |= tombstones.add(series_ref, span);
            }
        }
        Ok(has_changed.then_some(tombstones))
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Chunks, index, description and deletions.
    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    pub fn index(&self) -> &index::Reader {
        &self.index
    }

    /// The times it may have samples at, both ends inside.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.meta.min_time, self.meta.max_time.saturating_sub(1))
    }

    /// The series that pass `matchers` and have chunks within `range` that are not deleted whole, in label order.
    ///
    /// Every series entry is read and checked here, so that the set's labels cannot fail later.
    ///
    /// # Errors
    /// The index is damaged where it had to be read.
    pub fn select(self: &Arc<Self>, matchers: &[Matcher], range: TimeRange) -> Result<BlockSeriesSet> {
        let mut refs = select::postings(self.index(), matchers)?.into_vec();
        let mut chunks = Vec::new();
        let mut failure = None;
        refs.retain(|&series_ref| {
            if failure.is_some() {
                return false;
            }
            match self.index.series_into(series_ref, None, Some(&mut chunks)) {
                Ok(()) => {
                    let deleted = self.tombstones.spans(series_ref);
                    chunks.iter().any(|chunk| {
                        range.overlaps(TimeRange::new(chunk.mint, chunk.maxt))
                            && !tombstones::covers(deleted, chunk.mint, chunk.maxt)
                    })
                }
                Err(e) => {
                    failure = Some(e);
                    false
                }
            }
        });
        match failure {
            Some(e) => Err(e),
            None => Ok(BlockSeriesSet { block: Arc::clone(self), refs, range }),
        }
    }

    /// The values of `name` among the series that pass `matchers`, ascending.
    ///
    /// # Errors
    /// The index is damaged where it had to be read.
    pub fn label_values(&self, name: &[u8], matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>> {
        if matchers.is_empty() {
            let mut values = Vec::new();
            self.index.for_each_value(name, |value| {
                values.push(value.into());
                limit == 0 || values.len() < limit
            })?;
            return Ok(values);
        }
        let refs = select::postings(self.index(), matchers)?;
        self.index.values_among(name, &refs, limit)
    }

    /// The label names of the series that pass `matchers`, ascending.
    ///
    /// # Errors
    /// The index is damaged where it had to be read.
    pub fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<Box<[u8]>>> {
        if matchers.is_empty() {
            return Ok(self.index.label_names().map(Into::into).collect());
        }
        self.index.names_among(&select::postings(self.index(), matchers)?)
    }

    /// The refs of all series, in label order.
    pub(crate) fn all_series(&self) -> Result<Postings<'_>> {
        self.index.all()
    }

    pub(crate) fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// The refs of the series that pass `matchers`, in label order.
    ///
    /// # Errors
    /// The index is damaged where it had to be read.
    pub fn series_refs(&self, matchers: &[Matcher]) -> Result<Vec<u32>> {
        Ok(select::postings(self.index(), matchers)?.into_vec())
    }

    /// The labels of a series; its chunks go into `chunks`, in time order.
    ///
    /// # Errors
    /// The index is damaged where it had to be read.
    pub fn series(&self, series_ref: u32, chunks: &mut Vec<ChunkMeta>) -> Result<Labels> {
        self.index.series_into(series_ref, None, Some(chunks))?;
        self.index.labels(series_ref, &mut Vec::new())
    }

    /// The data of a chunk, as it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn encoded_chunk(&self, chunk: &ChunkMeta) -> Result<EncodedChunk> {
        let (encoding, data) = self.read_chunk(chunk)?;
        Ok(EncodedChunk { mint: chunk.mint, maxt: chunk.maxt, encoding, bytes: data.to_vec() })
    }

    fn read_chunk(&self, chunk: &ChunkMeta) -> Result<(Encoding, &[u8])> {
        let (byte, data) = self.chunks.chunk(chunk.chunk_ref)?;
        let Some(encoding) = Encoding::from_byte(byte) else {
            let what = format!("block {} has a chunk of the unknown encoding {byte}", self.meta.ulid);
            return Err(Error::Unsupported { path: self.dir.clone(), what });
        };
        Ok((encoding, data))
    }

    /// Appends the samples of a series within `range` to `out`, without those deleted.
    fn samples_into(&self, series_ref: u32, range: TimeRange, out: &mut SampleBatch) -> Result<()> {
        let mut chunks = Vec::new();
        self.index.series_into(series_ref, None, Some(&mut chunks))?;
        let deleted = self.tombstones.spans(series_ref);
        let start = out.end();
        let mut end = None;
        for chunk in &chunks {
            if !range.overlaps(TimeRange::new(chunk.mint, chunk.maxt))
                || tombstones::covers(deleted, chunk.mint, chunk.maxt)
            {
                continue;
            }
            let from = out.end();
            self.chunk_into(chunk, range, deleted, out)?;
            if first_time(out, from).is_some_and(|first| Some(first) <= end) {
                // No server writes chunks that overlap into a block, but order is promised to readers.
                let part = out.split_off(from);
                out.merge_from(start, &part);
            }
            end = end.max(last_time(out, start));
        }
        Ok(())
    }

    /// As [`Self::samples_into`], with histograms as floats and apart, where nothing is deleted and chunks follow each
    /// other; `false` where it is not so, and something may have been appended then.
    fn points_into(
        &self,
        series_ref: u32,
        range: TimeRange,
        detail: Detail,
        floats: &mut SampleBatch,
        histograms: &mut HistogramPoints,
    ) -> Result<bool> {
        if !self.tombstones.spans(series_ref).is_empty() {
            return Ok(false);
        }
        let mut chunks = Vec::new();
        self.index.series_into(series_ref, None, Some(&mut chunks))?;
        let mut end = None;
        for chunk in &chunks {
            if !range.overlaps(TimeRange::new(chunk.mint, chunk.maxt)) {
                continue;
            }
            let (float, histogram) = (floats.len(), histograms.len());
            let (encoding, data) = self.read_chunk(chunk)?;
            let count = chunk::count(encoding, data);
            count
                .and_then(|n| chunk::decode_points(encoding, data, n, range, detail, floats, histograms))
                .map_err(|e| self.corrupt(chunk, &e))?;
            // A chunk has samples of one type.
            let (ts, points) = (&floats.ts[float..], &histograms[histogram..]);
            let (first, last) = match (ts, points) {
                ([first, .., last], _) => (*first, *last),
                ([only], _) => (*only, *only),
                (_, [first, .., last]) => (first.t, last.t),
                (_, [only]) => (only.t, only.t),
                _ => continue,
            };
            let is_sorted = ts.is_sorted_by(|a, b| a < b) && points.is_sorted_by(|a, b| a.t < b.t);
            if !is_sorted || Some(first) <= end {
                return Ok(false);
            }
            end = Some(last);
        }
        Ok(true)
    }

    /// Hands the chunks of a series within `range` to `visit`, where nothing is deleted and they follow each other;
    /// `false` where it is not so.
    fn visit_chunks(
        &self,
        series_ref: u32,
        range: TimeRange,
        visit: &mut dyn FnMut(RawChunk<'_>),
    ) -> Result<bool> {
        let mut chunks = Vec::new();
        self.index.series_into(series_ref, None, Some(&mut chunks))?;
        let follow = chunks.is_sorted_by(|a, b| a.maxt < b.mint);
        if !follow || !self.tombstones.spans(series_ref).is_empty() {
            return Ok(false);
        }
        let mut part = SampleBatch::default();
        for chunk in chunks.iter().filter(|chunk| range.overlaps(TimeRange::new(chunk.mint, chunk.maxt))) {
            if range.mint <= chunk.mint && chunk.maxt <= range.maxt {
                let (encoding, bytes) = self.read_chunk(chunk)?;
                visit(RawChunk { mint: chunk.mint, maxt: chunk.maxt, encoding: encoding as u8, bytes });
                continue;
            }
            part.clear();
            self.chunk_into(chunk, range, &[], &mut part)?;
            chunk::encode_as(self.read_chunk(chunk)?.0, &part, |chunk| visit(chunk.raw()));
        }
        Ok(true)
    }

    fn corrupt(&self, chunk: &ChunkMeta, e: &DecodeError) -> Error {
        Error::corrupt(self.chunks.path(chunk.chunk_ref), chunk.chunk_ref & 0xffff_ffff, e.what)
    }

    /// Appends the samples of a chunk within `range` to `out`, without those deleted, times ascending.
    fn chunk_into(
        &self,
        chunk: &ChunkMeta,
        range: TimeRange,
        deleted: &[TimeRange],
        out: &mut SampleBatch,
    ) -> Result<()> {
        let from = out.end();
        let (encoding, data) = self.read_chunk(chunk)?;
        chunk::decode(encoding, data, range, out).map_err(|e| self.corrupt(chunk, &e))?;
        if !deleted.is_empty() {
            tombstones::apply(deleted, out, from);
        }
        keep_ascending(out, from);
        Ok(())
    }
}

/// The time of the first sample from `start` on.
fn first_time(batch: &SampleBatch, start: Position) -> Option<Timestamp> {
    let float = batch.ts[start.float..].first().copied();
    let histogram = batch.histograms[start.histogram..].first().map(|sample| sample.t);
    float.into_iter().chain(histogram).min()
}

/// The time of the last sample from `start` on.
fn last_time(batch: &SampleBatch, start: Position) -> Option<Timestamp> {
    let float = batch.ts[start.float..].last().copied();
    float.max(batch.histograms[start.histogram..].last().map(|sample| sample.t))
}

/// Drops from position `from` on what does not come after the sample before it: sound chunks never need it,
/// but the order is promised to readers whatever a foreign program wrote. A chunk has samples of one type.
fn keep_ascending(batch: &mut SampleBatch, from: Position) {
    let is_sorted = batch.ts[from.float..].is_sorted_by(|a, b| a < b)
        && batch.histograms[from.histogram..].is_sorted_by(|a, b| a.t < b.t);
    if is_sorted {
        return;
    }
    let mut last = None;
    batch.retain_from(from, |t| {
        let is_next = last.is_none_or(|last| t > last);
        if is_next {
            last = Some(t);
        }
        is_next
    });
}

/// What a selection found in one block, in label order.
#[derive(Debug)]
pub struct BlockSeriesSet {
    block: Arc<Block>,
    refs: Vec<u32>,
    range: TimeRange,
}

impl SeriesSet for BlockSeriesSet {
    fn len(&self) -> usize {
        self.refs.len()
    }

    fn labels(&self, i: usize) -> Labels {
        let mut scratch = Vec::with_capacity(32);
        self.block.index.labels(self.refs[i], &mut scratch).unwrap_or_else(|e| {
            // The entry was sound when it was selected, and reading the samples fails the same way.
            tracing::error!(error = %e, "a block changed while it was read");
            Labels::empty()
        })
    }

    fn samples_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), storage::Error> {
        let range = TimeRange::new(range.mint.max(self.range.mint), range.maxt.min(self.range.maxt));
        if range.mint > range.maxt {
            return Ok(());
        }
        self.block.samples_into(self.refs[i], range, out).map_err(storage::Error::new)
    }

    fn chunks(
        &self,
        i: usize,
        range: TimeRange,
        visit: &mut dyn FnMut(RawChunk<'_>),
    ) -> Result<bool, storage::Error> {
        let range = TimeRange::new(range.mint.max(self.range.mint), range.maxt.min(self.range.maxt));
        if range.mint > range.maxt {
            return Ok(true);
        }
        self.block.visit_chunks(self.refs[i], range, visit).map_err(storage::Error::new)
    }

    fn points_into(
        &self,
        i: usize,
        range: TimeRange,
        detail: Detail,
        floats: &mut SampleBatch,
        histograms: &mut HistogramPoints,
    ) -> Result<(), storage::Error> {
        let within = TimeRange::new(range.mint.max(self.range.mint), range.maxt.min(self.range.maxt));
        if within.mint > within.maxt {
            return Ok(());
        }
        let (float, histogram) = (floats.end(), histograms.len());
        let read = self.block.points_into(self.refs[i], within, detail, floats, histograms);
        if !read.map_err(storage::Error::new)? {
            drop(floats.split_off(float));
            histograms.truncate(histogram);
            self.samples_into(i, range, floats)?;
            histograms.take_from(&mut floats.histograms);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
