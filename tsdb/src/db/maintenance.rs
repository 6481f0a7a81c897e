//! Making and merging blocks: each step leaves a directory that the next start, or the next step, understands.
//!
//! Knows the blocks but not the head: who calls hands over the head's series and truncates it afterwards.
//!
//! Compat: prometheus `tsdb/compact.go`, `LeveledCompactor.Write` and `Compact`; `tsdb/db.go`, `compactBlocks`.

use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use model::Timestamp;
use parking_lot::Mutex;
use ulid::Ulid;

use super::blocks::Blocks;
use super::metrics::Metrics;
use super::options::Retention;
use super::paths;
use crate::block::{Block, BlockMeta, writer};
use crate::chunk::EncodedChunk;
use crate::compact::merge::BlockMerge;
use crate::compact::{SeriesSource, plan};
use crate::{Error, Result, fs};

/// Writes, merges and removes blocks of one directory; one caller at a time.
#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(crate) dir: PathBuf,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) metrics: Metrics,
    /// The spans of blocks in ms, ascending.
    pub(crate) ranges: Vec<i64>,
    pub(crate) write_options: writer::Options,
    pub(crate) retention: Mutex<Retention>,
    /// Blocks with chunks that we cannot read, found when they were to be merged: left alone from then on,
    /// without a mark on disk, since another server could merge them.
    unmergeable: Mutex<HashSet<Ulid>>,
}

impl Maintenance {
    pub(crate) fn new(
        dir: PathBuf,
        ranges: Vec<i64>,
        write_options: writer::Options,
        retention: Retention,
    ) -> Self {
        Self {
            blocks: Arc::new(Blocks::new(&dir)),
            dir,
            metrics: Metrics::default(),
            ranges,
            write_options,
            retention: Mutex::new(retention.or_default()),
            unmergeable: Mutex::default(),
        }
    }

    /// Brings the blocks in service up to date with the directory.
    pub(crate) fn reload(&self) -> Result<()> {
        let retention = *self.retention.lock();
        let head_bytes = [paths::WAL, paths::WBL, paths::CHUNKS_HEAD]
            .iter()
            .map(|name| fs::dir_size(&self.dir.join(name)))
            .sum();
        self.blocks.reload(retention, head_bytes, &self.metrics)
    }

    /// Makes a block of the head's series in `range` and puts it in service.
    ///
    /// # Errors
    /// There is no new block then; the head must be kept.
    pub(crate) fn flush_head(
        &self,
        range: Range<Timestamp>,
        source: &mut dyn SeriesSource,
        now: Timestamp,
    ) -> Result<Option<Ulid>> {
        let meta = BlockMeta::level1(new_ulid(now), range.start, range.end);
        let written = self.write(meta, source, true)?;
        if let Some(ulid) = written {
            self.take_into_service(ulid)?;
        }
        Ok(written)
    }

    /// Merges blocks until there is nothing left to merge or `stop` says so.
    ///
    /// # Errors
    /// A merge failed: its inputs stay in service and are marked, so that their range is left alone.
    pub(crate) fn compact_blocks(&self, now: Timestamp, mut stop: impl FnMut() -> bool) -> Result<()> {
        while !stop() {
            let planned = self.plan();
            if planned.is_empty() {
                break;
            }
            self.compact(&planned, now)?;
        }
        Ok(())
    }

    fn plan(&self) -> Vec<Arc<Block>> {
        let list = self.blocks.list();
        let unmergeable = self.unmergeable.lock();
        let mut metas: Vec<BlockMeta> = list.iter().map(|block| block.meta().clone()).collect();
        for meta in &mut metas {
            meta.compaction.failed |= unmergeable.contains(&meta.ulid);
        }
        let planned = plan::plan(&metas, &self.ranges, true);
        if planned.iter().any(|&i| unmergeable.contains(&metas[i].ulid)) {
            return Vec::new();
        }
        planned.into_iter().map(|i| Arc::clone(&list[i])).collect()
    }

    fn compact(&self, inputs: &[Arc<Block>], now: Timestamp) -> Result<()> {
        let metas: Vec<BlockMeta> = inputs.iter().map(|block| block.meta().clone()).collect();
        let merged = BlockMeta::compacted(new_ulid(now), &metas);
        if metas.windows(2).any(|pair| pair[1].min_time < pair[0].max_time) {
            self.metrics.vertical_compactions.inc();
        }
        let written = BlockMerge::new(inputs).and_then(|mut source| self.write(merged, &mut source, false));
        match written {
            Ok(Some(ulid)) => self.take_into_service(ulid),
            Ok(None) => {
                for meta in &metas {
                    self.blocks.edit_meta(meta.ulid, |meta| meta.compaction.deletable = true)?;
                }
                self.reload()
            }
            Err(e @ Error::Unsupported { .. }) => {
                self.unmergeable.lock().extend(metas.iter().map(|meta| meta.ulid));
                tracing::warn!(error = %e, "blocks are not merged");
                Ok(())
            }
            Err(e) => {
                self.mark_failed(&metas);
                Err(e)
            }
        }
    }

    /// Marks blocks on disk and in service; what cannot be marked is tried again by the next plan.
    fn mark_failed(&self, metas: &[BlockMeta]) {
        for meta in metas {
            if let Err(e) = self.blocks.edit_meta(meta.ulid, |meta| meta.compaction.failed = true) {
                tracing::error!(block = %meta.ulid, error = %e, "cannot mark a block whose merge failed");
            }
        }
        if let Err(e) = self.reload() {
            tracing::error!(error = %e, "cannot reload the blocks after a failed merge");
        }
    }

    fn write(&self, meta: BlockMeta, source: &mut dyn SeriesSource, is_first: bool) -> Result<Option<Ulid>> {
        self.metrics.compactions.inc();
        self.metrics.populating.set(1.0);
        let started = Instant::now();
        let ulid = meta.ulid;
        let mut on_chunk = |chunk: &EncodedChunk, samples: u16| {
            if is_first {
                self.metrics.chunk_size.observe(chunk.bytes.len() as f64);
                self.metrics.chunk_samples.observe(f64::from(samples));
                self.metrics.chunk_range.observe((chunk.maxt - chunk.mint) as f64 / 1000.0);
            }
        };
        let written = writer::write(&self.dir, meta, source, self.write_options, &mut on_chunk);
        self.metrics.populating.set(0.0);
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        let Some(meta) = written? else {
            tracing::info!("compaction left nothing to write");
            return Ok(None);
        };
        tracing::info!(
            block = %ulid, mint = meta.min_time, maxt = meta.max_time, level = meta.compaction.level,
            series = meta.stats.num_series, samples = meta.stats.num_samples,
            duration = ?started.elapsed(), "wrote a block"
        );
        Ok(Some(ulid))
    }

    /// Reloads and makes sure that a block just written is among those in service; if it is not, it goes.
    ///
    /// A reload that fails only to remove old directories has done what matters here.
    fn take_into_service(&self, ulid: Ulid) -> Result<()> {
        let reloaded = self.reload();
        let serves = |ulid| self.blocks.list().iter().any(|block| block.meta().ulid == ulid);
        if serves(ulid) {
            if let Err(e) = reloaded {
                tracing::error!(error = %e, "cannot remove superseded blocks yet");
            }
            return Ok(());
        }
        let why = self.blocks.quarantined().remove(&ulid);
        let dir = self.dir.join(ulid.to_string());
        if why.is_none() && reloaded.is_ok() {
            // Written and at once beyond the retention.
            return Ok(());
        }
        self.blocks.remove(ulid)?;
        self.reload()?;
        reloaded?;
        Err(Error::corrupt(
            &dir,
            0,
            format!("the block just written does not open: {}", why.unwrap_or_default()),
        ))
    }
}

/// An id made of the given time and of random bits.
fn new_ulid(now: Timestamp) -> Ulid {
    Ulid::from_parts(u64::try_from(now).unwrap_or_default(), fastrand::u128(..))
}

#[cfg(test)]
mod tests;
