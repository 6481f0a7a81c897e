//! Several blocks as one source of series: merged by labels, their chunks in time order.
//!
//! Chunks that overlap nothing keep their bytes. Where chunks overlap (blocks of the same time, for one) only
//! those are decoded, merged and encoded anew. Deletions are carried out on the way.
//! Series are compared by symbols: each string has its place in the union of all inputs' strings, and the ids of an input
//! are translated by a table. Labels are put together once per series, for who writes them.
//! Memory: the union of the symbols while it is handed over, 4 bytes per symbol of each input and 8 per symbol of the
//! union, 4 bytes per series of each input, and one series.
//!
//! Compat: prometheus `storage/merge.go`, `NewCompactingChunkSeriesMerger`.

use std::sync::Arc;

use model::{Labels, LabelsBuilder, Position, SampleBatch, TimeRange};

use super::{SeriesSource, SourceSeries};
use crate::Result;
use crate::block::{Block, tombstones};
use crate::chunk::{self, EncodedChunk, FloatEncoding};
use crate::index::ChunkMeta;

/// Where re-encoded runs are cut, as the head cuts.
const SAMPLES_PER_CHUNK: u16 = 120;

/// The series of several blocks in label order.
pub struct BlockMerge {
    inputs: Vec<Input>,
    /// Where each string of the union lies: an input and the place in its file. Empty before the first use.
    strings: Vec<(u32, u32)>,
    /// Whether the first of them is the empty one.
    has_empty: bool,
    /// The labels of the series that is put together.
    pairs: Vec<(u32, u32)>,
    is_started: bool,
    /// What floats are written as where chunks are written anew because they overlap.
    floats: FloatEncoding,
    chunks: Vec<ChunkMeta>,
    scratch: Vec<(u32, u32)>,
    samples: Samples,
}

/// The samples of a run of chunks, and of one of them.
#[derive(Default)]
struct Samples {
    merged: SampleBatch,
    part: SampleBatch,
}

struct Input {
    block: Arc<Block>,
    refs: Vec<u32>,
    next: usize,
    /// The series that waits, if there is one left: its ref, and its labels as places in the union.
    current: Option<u32>,
    pairs: Vec<(u32, u32)>,
    /// The place in the union of each symbol.
    ranks: Vec<u32>,
    /// What a series calls each symbol, ascending; `None` if that is its position.
    names: Option<Vec<u32>>,
}

impl Input {
    fn rank(&self, symbol: u32) -> Result<u32> {
        let at = match &self.names {
            None => Some(symbol as usize),
            Some(names) => names.binary_search(&symbol).ok(),
        };
        at.and_then(|at| self.ranks.get(at)).copied().ok_or_else(|| {
            crate::Error::corrupt(self.block.dir(), u64::from(symbol), "a series has an unknown symbol")
        })
    }
}

impl BlockMerge {
    pub fn new(blocks: &[Arc<Block>]) -> Result<Self> {
        let mut inputs = Vec::with_capacity(blocks.len());
        for block in blocks {
            let refs = block.all_series()?.into_vec();
            let (pairs, ranks) = (Vec::new(), Vec::new());
            let block = Arc::clone(block);
            inputs.push(Input { block, refs, next: 0, current: None, pairs, ranks, names: None });
        }
        Ok(Self {
            inputs,
            strings: Vec::new(),
            has_empty: false,
            pairs: Vec::new(),
            is_started: false,
            floats: FloatEncoding::default(),
            chunks: Vec::new(),
            scratch: Vec::new(),
            samples: Samples::default(),
        })
    }

    /// Writes floats as `floats` where chunks have to be written anew because they overlap. All others keep their
    /// encoding, and start times are kept in any case.
    #[must_use]
    pub fn with_floats(mut self, floats: FloatEncoding) -> Self {
        self.floats = floats;
        self
    }

    /// Gives every symbol of every input its place in `union`, which has them all, sorted.
    fn rank(&mut self, union: &[Box<[u8]>]) -> Result<()> {
        const UNPLACED: (u32, u32) = (u32::MAX, 0);
        let mut strings = vec![UNPLACED; union.len()];
        for (n, input) in (0..).zip(&mut self.inputs) {
            let block = Arc::clone(&input.block);
            let index = block.index();
            let mut names = index.names_symbols_by_offset().then(Vec::new);
            let mut ranks = Vec::with_capacity(index.symbol_count() as usize);
            let mut next = 0;
            index.for_each_symbol(|offset, symbol| {
                // Sorted as they are, the next one is not far.
                while union.get(next).is_some_and(|it| **it < *symbol) {
                    next += 1;
                }
                if union.get(next).is_none_or(|it| **it != *symbol) {
                    next = union.partition_point(|it| **it < *symbol);
                }
                let changed =
                    || crate::Error::corrupt(block.dir(), u64::from(offset), "symbols have changed");
                let place = strings.get_mut(next).ok_or_else(changed)?;
                if *place == UNPLACED {
                    *place = (n, offset);
                }
                ranks.push(u32::try_from(next).expect("symbols of blocks that are 4 GiB each at most"));
                if let Some(names) = &mut names {
                    names.push(offset);
                }
                Ok(())
            })?;
            (input.ranks, input.names) = (ranks, names);
        }
        self.strings = strings;
        self.has_empty = union.first().is_some_and(|first| first.is_empty());
        Ok(())
    }

    /// Begins, whatever is called first.
    fn start(&mut self) -> Result<()> {
        if self.is_started {
            return Ok(());
        }
        if self.strings.is_empty() {
            self.symbols()?;
        }
        self.is_started = true;
        (0..self.inputs.len()).try_for_each(|i| self.advance(i))
    }

    fn string(&self, rank: u32) -> Result<&[u8]> {
        let (input, offset) = self.strings[rank as usize];
        self.inputs[input as usize].block.index().symbol_at(offset)
    }

    /// Puts the next series of input `i` in front.
    fn advance(&mut self, i: usize) -> Result<()> {
        let input = &mut self.inputs[i];
        input.current = input.refs.get(input.next).copied();
        let Some(series_ref) = input.current else { return Ok(()) };
        input.next += 1;
        input.block.index().series_into(series_ref, Some(&mut self.scratch), None)?;
        let mut pairs = std::mem::take(&mut input.pairs);
        pairs.clear();
        for &(name, value) in &self.scratch {
            pairs.push((input.rank(name)?, input.rank(value)?));
        }
        let is_sound = pairs.iter().all(|&(_, value)| value > 0 || !self.has_empty)
            && pairs.windows(2).all(|two| two[0].0 < two[1].0);
        if !is_sound {
            pairs = self.mended(&pairs)?;
        }
        self.inputs[i].pairs = pairs;
        Ok(())
    }

    /// Makes a set of what is legal by the checksums yet not by the rules.
    fn mended(&self, pairs: &[(u32, u32)]) -> Result<Vec<(u32, u32)>> {
        let mut builder = LabelsBuilder::default();
        for &(name, value) in pairs {
            builder.set(self.string(name)?, self.string(value)?);
        }
        let mut mended = Vec::new();
        for (name, value) in &builder.build() {
            for &(rank, of_value) in pairs {
                if self.string(rank)? == name && self.string(of_value)? == value {
                    mended.push((rank, of_value));
                    break;
                }
            }
        }
        Ok(mended)
    }

    /// The input that has the lowest labels in front; among equal ones the first.
    fn lowest(&self) -> Option<usize> {
        let waiting = (0..self.inputs.len()).filter(|&i| self.inputs[i].current.is_some());
        waiting.min_by(|&a, &b| self.inputs[a].pairs.cmp(&self.inputs[b].pairs))
    }

    /// Appends the chunks of the current series of input `i` that have something left.
    fn collect(&mut self, i: usize, out: &mut Vec<EncodedChunk>) -> Result<()> {
        let Input { block, current, .. } = &self.inputs[i];
        let Some(current) = *current else { return Ok(()) };
        let batch = &mut self.samples.part;
        block.index().series_into(current, None, Some(&mut self.chunks))?;
        let deleted = block.tombstones().spans(current);
        for meta in &self.chunks {
            let span = TimeRange::new(meta.mint, meta.maxt);
            if tombstones::covers(deleted, meta.mint, meta.maxt) {
                continue;
            }
            let chunk = block.encoded_chunk(meta)?;
            if deleted.iter().any(|deleted| deleted.overlaps(span)) {
                batch.clear();
                decode(&chunk, block, batch)?;
                tombstones::apply(deleted, batch, Position::default());
                chunk::encode_as(chunk.encoding, batch, |chunk| out.push(chunk));
            } else {
                out.push(chunk);
            }
        }
        Ok(())
    }
}

impl SeriesSource for BlockMerge {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        let mut symbols = Vec::new();
        for input in &self.inputs {
            let index = input.block.index();
            symbols.reserve(index.symbol_count() as usize);
            index.for_each_symbol(|_, symbol| {
                symbols.push(Box::from(symbol));
                Ok(())
            })?;
            // The stable sort merges the ascending runs; deduplicated per input, the peak is the union and one input.
            symbols.sort();
            symbols.dedup();
        }
        self.rank(&symbols)?;
        Ok(symbols)
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
        self.start()?;
        while let Some(first) = self.lowest() {
            let mut chunks = std::mem::take(&mut series.chunks);
            chunks.clear();
            // The buffers trade places.
            std::mem::swap(&mut self.pairs, &mut self.inputs[first].pairs);
            self.collect(first, &mut chunks)?;
            self.advance(first)?;
            let mut is_alone = true;
            for i in first..self.inputs.len() {
                while self.inputs[i].current.is_some() && self.inputs[i].pairs == self.pairs {
                    is_alone = false;
                    self.collect(i, &mut chunks)?;
                    self.advance(i)?;
                }
            }
            if !is_alone {
                chunks = join(chunks, &self.inputs[first].block, self.floats, &mut self.samples)?;
            }
            series.chunks = chunks;
            if !series.chunks.is_empty() {
                let mut strings = smallvec::SmallVec::<[(&[u8], &[u8]); 24]>::new();
                for &(name, value) in &self.pairs {
                    strings.push((self.string(name)?, self.string(value)?));
                }
                series.labels = Labels::from_sorted(strings);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Orders the chunks of one series by time and merges the runs that overlap.
///
/// Of samples at the same time, the one of the chunk that comes first stays.
fn join(
    mut chunks: Vec<EncodedChunk>,
    block: &Block,
    floats: FloatEncoding,
    samples: &mut Samples,
) -> Result<Vec<EncodedChunk>> {
    chunks.sort_by_key(|chunk| (chunk.mint, chunk.maxt));
    chunks.dedup_by(|a, b| (a.mint, a.maxt, a.encoding, &a.bytes) == (b.mint, b.maxt, b.encoding, &b.bytes));
    let mut joined = Vec::with_capacity(chunks.len());
    let mut run: Vec<EncodedChunk> = Vec::new();
    let mut end = i64::MIN;
    for chunk in chunks {
        if !run.is_empty() && chunk.mint > end {
            flush(&mut run, block, floats, samples, &mut joined)?;
            end = i64::MIN;
        }
        end = end.max(chunk.maxt);
        run.push(chunk);
    }
    flush(&mut run, block, floats, samples, &mut joined)?;
    Ok(joined)
}

/// Moves a run of overlapping chunks to `out`: a single one as it is, several as one sequence of samples.
fn flush(
    run: &mut Vec<EncodedChunk>,
    block: &Block,
    floats: FloatEncoding,
    Samples { merged, part }: &mut Samples,
    out: &mut Vec<EncodedChunk>,
) -> Result<()> {
    if run.len() <= 1 {
        out.append(run);
        return Ok(());
    }
    merged.clear();
    for chunk in run.drain(..) {
        part.clear();
        decode(&chunk, block, part)?;
        merged.merge_from(Position::default(), part);
    }
    chunk::encode_batch(merged, floats, true, SAMPLES_PER_CHUNK, |chunk| out.push(chunk));
    Ok(())
}

fn decode(chunk: &EncodedChunk, block: &Block, out: &mut SampleBatch) -> Result<()> {
    chunk::decode(chunk.encoding, &chunk.bytes, TimeRange::ALL, out)
        .map_err(|e| crate::Error::corrupt(block.dir(), u64::from(e.offset), e.what))
}

#[cfg(test)]
mod tests;
