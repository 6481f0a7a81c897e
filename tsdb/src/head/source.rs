//! The head as the source of a block: series in label order, chunks cut to the block's range.

use model::{Position, SampleBatch, TimeRange, Timestamp};

use super::Head;
use super::read::{Piece, View};
use crate::Result;
use crate::chunk::{self, EncodedChunk};
use crate::compact::{SeriesSource, SourceSeries};

/// Samples per chunk where a chunk must be encoded anew.
const SAMPLES_PER_CHUNK: u16 = 120;

/// Series with samples in a half-open range, as of one moment.
#[derive(Debug)]
pub struct Source {
    view: View,
    range: TimeRange,
    next: usize,
    scratch: SampleBatch,
}

impl Head {
    /// The series with samples at `mint <= t < maxt`, sorted by their labels; late ones go their own way.
    pub fn series_source(&self, mint: Timestamp, maxt: Timestamp) -> Source {
        let range = TimeRange::new(mint, maxt.saturating_sub(1));
        let mut view = View::new(&self.0, range, |registry| registry.visible.clone());
        view.entries.retain(super::read::Seen::has_in_order);
        Source::new(view, range)
    }
}

impl Source {
    /// Of the series of a view, sorted by their labels.
    pub(super) fn new(mut view: View, range: TimeRange) -> Self {
        view.sort();
        Self { view, range, next: 0, scratch: SampleBatch::default() }
    }
}

impl SeriesSource for Source {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        let registry = self.view.inner().registry.read();
        let mut pairs = roaring::RoaringBitmap::new();
        for seen in &self.view.entries {
            pairs.extend(registry.pair_ids(seen.id).iter().copied());
        }
        let mut symbols: Vec<&[u8]> =
            pairs.iter().flat_map(|pair| <[_; 2]>::from(registry.pair_text(pair))).collect();
        symbols.sort_unstable();
        symbols.dedup();
        Ok(symbols.into_iter().map(Into::into).collect())
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
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
        Ok(false)
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
