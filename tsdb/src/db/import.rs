//! Samples of any time made into a block, past head and log: how old data comes in.
//!
//! One block at a time is gathered in memory, encoded as it comes, in the chunks that the head would have cut.
//!
//! Compat: prometheus `tsdb/blockwriter.go`, `BlockWriter` as `cmd/promtool/backfill.go` uses it.

use std::path::Path;

use foldhash::HashMap;
use model::number::format_g;
use model::{Labels, Timestamp};

use super::maintenance::new_ulid;
use crate::Result;
use crate::block::{BlockMeta, writer};
use crate::chunk::{EncodedChunk, Encoding, xor};
use crate::compact::{SeriesSource, SourceSeries};
use crate::head::series::{CHUNK_BYTES_CUT, SAMPLES_PER_CHUNK, predicted_cut};

/// Why a sample is not taken; displays upstream's text.
/// Compat: prometheus `storage`, `errDuplicateSampleForTimestamp` and its siblings.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("empty labelset: invalid sample")]
    NoLabels,
    #[error("out of order sample")]
    OutOfOrder,
    #[error(
        "duplicate sample for timestamp {t}; overrides not allowed: existing {}, new value {}",
        format_g(*.existing),
        format_g(*.new)
    )]
    Duplicate { t: Timestamp, existing: f64, new: f64 },
}

/// The samples of one block to be.
#[derive(Debug)]
pub struct BlockBuilder {
    /// The span of the windows at whose ends chunks are cut.
    window_ms: i64,
    series: HashMap<Labels, Series>,
    batch: u64,
    times: Option<(Timestamp, Timestamp)>,
}

#[derive(Debug, Default)]
struct Series {
    chunks: Vec<EncodedChunk>,
    open: xor::Encoder,
    cut_after: u32,
    last: Option<(Timestamp, u64)>,
    /// The batch of the last sample, and what the last one was before that batch.
    batch: u64,
    committed: Option<(Timestamp, u64)>,
}

impl BlockBuilder {
    /// A block of at most `span_ms`.
    pub fn new(span_ms: i64) -> Self {
        // Upstream pretends that blocks are twice as long, which shows in the chunks.
        Self { window_ms: span_ms.max(1) * 2, series: HashMap::default(), batch: 0, times: None }
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// It is not newer than the samples that the series had when the batch began. One that is only older than
    /// others of its batch is left out, without a word.
    pub fn append(&mut self, labels: &Labels, t: Timestamp, v: f64) -> Result<(), Refusal> {
        if labels.is_empty() {
            return Err(Refusal::NoLabels);
        }
        if !self.series.contains_key(labels) {
            self.series.insert(labels.clone(), Series::default());
        }
        let series = self.series.get_mut(labels).expect("made above if it was missing");
        if series.batch != self.batch {
            (series.batch, series.committed) = (self.batch, series.last);
        }
        match series.committed {
            Some((last, _)) if t < last => return Err(Refusal::OutOfOrder),
            Some((last, bits)) if t == last && bits != v.to_bits() => {
                return Err(Refusal::Duplicate { t, existing: f64::from_bits(bits), new: v });
            }
            _ => {}
        }
        if series.last.is_none_or(|(last, _)| t > last) {
            series.push(self.window_ms, t, v);
            let (mint, maxt) = self.times.unwrap_or((t, t));
            self.times = Some((mint.min(t), maxt.max(t)));
        }
        Ok(())
    }

    /// Begins the next batch.
    pub fn commit(&mut self) {
        self.batch += 1;
    }

    /// Writes the block below `dir`, unless there was no sample. `now` dates it.
    ///
    /// # Errors
    /// It cannot be written; nothing is left behind.
    pub fn write(self, dir: &Path, now: Timestamp) -> Result<Option<BlockMeta>> {
        let Some((mint, maxt)) = self.times else { return Ok(None) };
        let meta = BlockMeta::level1(new_ulid(now), mint, maxt.saturating_add(1));
        let mut series: Vec<(Labels, Series)> = self.series.into_iter().collect();
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut source = Source { series: series.into_iter() };
        writer::write(dir, meta, &mut source, writer::Options::default(), &mut |_, _| {})
    }
}

impl Series {
    fn push(&mut self, window_ms: i64, t: Timestamp, v: f64) {
        if self.open.count() > 0 && self.must_cut(t) {
            self.seal();
        }
        if self.open.count() == 0 {
            let end = (t / window_ms) * window_ms + window_ms;
            self.cut_after = u32::try_from(end - t).unwrap_or(u32::MAX);
        }
        self.open.push(t, v);
        self.last = Some((t, v.to_bits()));
    }

    /// As the head cuts.
    fn must_cut(&mut self, t: Timestamp) -> bool {
        let first = self.open.mint();
        if self.open.len_bytes() > CHUNK_BYTES_CUT {
            return true;
        }
        if self.open.count() == SAMPLES_PER_CHUNK / 4 {
            self.cut_after = predicted_cut(first, self.open.maxt(), self.cut_after, 4.0);
        }
        t - first >= i64::from(self.cut_after) || self.open.count() >= SAMPLES_PER_CHUNK * 2
    }

    fn seal(&mut self) {
        let (mint, maxt) = (self.open.mint(), self.open.maxt());
        self.chunks.push(EncodedChunk { mint, maxt, encoding: Encoding::Xor, bytes: self.open.finish() });
    }
}

struct Source {
    series: std::vec::IntoIter<(Labels, Series)>,
}

impl SeriesSource for Source {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        let labels = self.series.as_slice().iter().flat_map(|(labels, _)| labels);
        let mut symbols: Vec<&[u8]> = labels.flat_map(<[&[u8]; 2]>::from).collect();
        symbols.sort_unstable();
        symbols.dedup();
        Ok(symbols.into_iter().map(Into::into).collect())
    }

    fn next(&mut self, out: &mut SourceSeries) -> Result<bool> {
        let Some((labels, mut series)) = self.series.next() else { return Ok(false) };
        if series.open.count() > 0 {
            series.seal();
        }
        out.labels = labels;
        out.chunks = series.chunks;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
