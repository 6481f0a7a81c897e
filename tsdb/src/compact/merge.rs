//! Several blocks as one source of series: merged by labels, their chunks in time order.
//!
//! Chunks that overlap nothing keep their bytes. Where chunks overlap (blocks of the same time, for one) only
//! those are decoded, merged and encoded anew. Deletions are carried out on the way.
//! Memory: the union of the symbols and one series.
//!
//! Compat: prometheus `storage/merge.go`, `NewCompactingChunkSeriesMerger`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use model::{Labels, Position, SampleBatch, TimeRange};

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
    /// The next series of every input, the lowest labels first; among equal ones the first input.
    heads: BinaryHeap<Reverse<(Labels, usize)>>,
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
    /// The ref of the series that waits in `heads`.
    current: u32,
}

impl BlockMerge {
    pub fn new(blocks: &[Arc<Block>]) -> Result<Self> {
        let mut inputs = Vec::with_capacity(blocks.len());
        for block in blocks {
            let refs = block.all_series()?.into_vec();
            inputs.push(Input { block: Arc::clone(block), refs, next: 0, current: 0 });
        }
        Ok(Self {
            inputs,
            heads: BinaryHeap::new(),
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

    /// Puts the next series of input `i` among the heads.
    fn advance(&mut self, i: usize) -> Result<()> {
        let input = &mut self.inputs[i];
        if let Some(&series_ref) = input.refs.get(input.next) {
            input.next += 1;
            input.current = series_ref;
            let labels = input.block.index().labels(series_ref, &mut self.scratch)?;
            self.heads.push(Reverse((labels, i)));
        }
        Ok(())
    }

    /// Appends the chunks of the current series of input `i` that have something left.
    fn collect(&mut self, i: usize, out: &mut Vec<EncodedChunk>) -> Result<()> {
        let Input { block, current, .. } = &self.inputs[i];
        let batch = &mut self.samples.part;
        block.index().series_into(*current, None, Some(&mut self.chunks))?;
        let deleted = block.tombstones().spans(*current);
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
            index.for_each_symbol(|symbol| {
                symbols.push(Box::from(symbol));
                Ok(())
            })?;
            // The stable sort merges the ascending runs; deduplicated per input, the peak is the union and one input.
            symbols.sort();
            symbols.dedup();
        }
        Ok(symbols)
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
        if !self.is_started {
            self.is_started = true;
            for i in 0..self.inputs.len() {
                self.advance(i)?;
            }
        }
        while let Some(Reverse((labels, first))) = self.heads.pop() {
            let mut chunks = std::mem::take(&mut series.chunks);
            chunks.clear();
            self.collect(first, &mut chunks)?;
            self.advance(first)?;
            let mut is_alone = true;
            while let Some(Reverse((_, i))) = self.heads.pop_if_equal(&labels) {
                is_alone = false;
                self.collect(i, &mut chunks)?;
                self.advance(i)?;
            }
            if !is_alone {
                chunks = join(chunks, &self.inputs[first].block, self.floats, &mut self.samples)?;
            }
            series.chunks = chunks;
            series.labels = labels;
            if !series.chunks.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Takes the top if it has these labels.
trait PopIfEqual {
    fn pop_if_equal(&mut self, labels: &Labels) -> Option<Reverse<(Labels, usize)>>;
}

impl PopIfEqual for BinaryHeap<Reverse<(Labels, usize)>> {
    fn pop_if_equal(&mut self, labels: &Labels) -> Option<Reverse<(Labels, usize)>> {
        self.peek().is_some_and(|Reverse((top, _))| top == labels).then(|| self.pop())?
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
