//! From many to one: the head into a block, blocks into a larger block.

pub mod merge;
pub mod plan;

use model::Labels;

use crate::Result;
use crate::chunk::EncodedChunk;

/// Series in label order with their chunks in time order: what a block is written from.
pub trait SeriesSource {
    /// Every string that occurs in the labels to come, sorted and unique.
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>>;

    /// Fills `series` with the next one, or says that there is none; series without chunks are left out.
    fn next(&mut self, series: &mut SourceSeries) -> Result<bool>;
}

/// The buffer a [`SeriesSource`] fills, reused from series to series.
#[derive(Clone, Debug, Default)]
pub struct SourceSeries {
    pub labels: Labels,
    pub chunks: Vec<EncodedChunk>,
}

#[cfg(test)]
pub(crate) mod testing;
