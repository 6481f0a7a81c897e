//! The head as the source of a block: series in label order, chunks cut to the block's range.

use std::sync::Arc;

use model::{Position, SampleBatch, TimeRange, Timestamp};

use super::Head;
use super::read::{Piece, Seen, View};
use crate::Result;
use crate::chunk::{self, EncodedChunk};
use crate::compact::{SeriesSource, SourceSeries};

/// Samples per chunk where a chunk must be encoded anew.
const SAMPLES_PER_CHUNK: u16 = 120;

/// Series that are looked at together where not all have to be: what is noted of them takes a megabyte or two.
const SLICE: usize = 16 << 10;

/// Series with samples in a half-open range.
#[derive(Debug)]
pub struct Source {
    /// All series or the present slice of them; holds the pin that keeps ids valid.
    view: View,
    range: TimeRange,
    next: usize,
    /// The series that have not been looked at yet, the last one first.
    rest: Vec<u32>,
    scratch: SampleBatch,
}

impl Head {
    /// The series with samples at `mint <= t < maxt`, sorted by their labels, as of one moment; late ones go their own
    /// way.
    pub fn series_source(&self, mint: Timestamp, maxt: Timestamp) -> Source {
        let range = TimeRange::new(mint, maxt.saturating_sub(1));
        let mut view = View::new(&self.0, range, |registry| registry.visible.clone());
        view.entries.retain(Seen::has_in_order);
        Source::new(view, range)
    }

    /// As [`Head::series_source`], for a range that gets no more samples in order: series are looked at in slices, each as
    /// of a moment of its own, so that what is noted of a million of them is not in memory at once.
    pub fn settled_source(&self, mint: Timestamp, maxt: Timestamp) -> Source {
        let range = TimeRange::new(mint, maxt.saturating_sub(1));
        // Before ids are looked up: they stay those of their series as long as it is held.
        let view = View::empty(&self.0, 0);
        let visible: Vec<u32> = self.0.registry.read().visible.iter().collect();
        let mut rest = Vec::with_capacity(visible.len());
        for ids in visible.chunks(SLICE) {
            let slice = View::of(&self.0, range, ids);
            rest.extend(slice.entries.iter().filter(|seen| seen.has_in_order()).map(|seen| seen.id));
        }
        drop(visible);
        self.0.registry.read().sort_by_labels(&mut rest);
        rest.reverse();
        Source { view, range, next: 0, rest, scratch: SampleBatch::default() }
    }
}

impl Source {
    /// Of the series of a view, sorted by their labels.
    pub(super) fn new(mut view: View, range: TimeRange) -> Self {
        view.sort();
        Self { view, range, next: 0, rest: Vec::new(), scratch: SampleBatch::default() }
    }

    /// Looks at the next slice; false if there is none.
    fn turn(&mut self) -> bool {
        if self.rest.is_empty() {
            return false;
        }
        let mut ids = self.rest.split_off(self.rest.len().saturating_sub(SLICE));
        ids.reverse();
        // The new view has its pin before the old one goes.
        self.view = View::of(&Arc::clone(self.view.shared()), self.range, &ids);
        self.next = 0;
        true
    }
}

impl SeriesSource for Source {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        let registry = self.view.inner().registry.read();
        let seen = self.view.entries.iter().map(|seen| seen.id);
        Ok(registry.symbols_of(seen.chain(self.rest.iter().copied())))
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
        loop {
            while self.next < self.view.entries.len() {
                let i = self.next;
                self.next += 1;
                series.chunks.clear();
                self.chunks_into(i, &mut series.chunks)?;
                if !series.chunks.is_empty() {
                    series.labels = model::storage::SeriesSet::labels(&self.view, i);
                    return Ok(true);
                }
            }
            if !self.turn() {
                return Ok(false);
            }
        }
    }
}

impl Source {
    /// Whole chunks are copied, an open one, too, unless it has grown since; those that reach over an end of the
    /// range or hold deleted samples are encoded anew.
    fn chunks_into(&mut self, i: usize, out: &mut Vec<EncodedChunk>) -> Result<()> {
        let (range, view, scratch) = (self.range, &self.view, &mut self.scratch);
        let floats = view.inner().options.features.floats;
        let has_deleted = view.is_touched_by_tombstone(i);
        view.each_chunk(i, range, |piece| {
            let is_inside = piece.mint >= range.mint && piece.maxt <= range.maxt;
            if is_inside && !has_deleted && piece.is_whole() {
                let Piece { mint, maxt, encoding, bytes, .. } = piece;
                out.push(EncodedChunk { mint, maxt, encoding, bytes: bytes.to_vec() });
                return Ok(());
            }
            scratch.clear();
            piece
                .decode(range, scratch)
                .map_err(|e| crate::Error::corrupt(&view.inner().wal_dir, 0, e.to_string()))?;
            view.drop_deleted(i, Position::default(), scratch);
            // What was one chunk stays one, as upstream keeps it, as far as its counts allow it. What start times it
            // has were wanted when it was written.
            let n = scratch.len() + scratch.histograms.len();
            let n_max = u16::try_from(n).unwrap_or(SAMPLES_PER_CHUNK).max(1);
            chunk::encode_batch(scratch, floats, true, n_max, |chunk| out.push(chunk));
            Ok(())
        })
    }
}
