//! Making and merging blocks: each step leaves a directory that the next start, or the next step, understands.
//!
//! Knows the blocks but not the head: who calls hands over what of the head shall become blocks and truncates it
//! afterwards.
//!
//! Compat: prometheus `tsdb/compact.go`, `LeveledCompactor.Write` and `Compact`; `tsdb/db.go`, `compactBlocks`.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use model::Timestamp;
use parking_lot::Mutex;
use ulid::Ulid;

use super::blocks::Blocks;
use super::metrics::Metrics;
use super::options::Retention;
use super::{paths, uploads};
use crate::block::meta::HINT_OUT_OF_ORDER;
use crate::block::{Block, BlockMeta, writer};
use crate::chunk::{EncodedChunk, FloatEncoding};
use crate::compact::merge::BlockMerge;
use crate::compact::{SeriesSource, plan};
use crate::head::LateSamples;
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
    /// Whether blocks of the same time are merged.
    pub(crate) merge_overlapping: bool,
    /// The file that says which blocks another program has copied away: others of level 1 are not merged yet.
    pub(crate) upload_list: Option<PathBuf>,
    /// What floats are written as that have to be encoded anew.
    pub(crate) floats: FloatEncoding,
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
            merge_overlapping: true,
            upload_list: None,
            floats: FloatEncoding::default(),
            retention: Mutex::new(retention),
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
        self.flush(BlockMeta::level1(new_ulid(now), range.start, range.end), source)
    }

    /// Makes a block of the head's late samples for each window in which there are any, and puts them in service.
    ///
    /// # Errors
    /// There are no new blocks then; the late samples must be kept.
    pub(crate) fn flush_late(&self, late: &LateSamples, now: Timestamp) -> Result<()> {
        let mut done = Vec::new();
        for window in late.windows() {
            let meta = BlockMeta::out_of_order(new_ulid(now), window.start, window.end);
            match self.flush(meta, &mut late.window(window)) {
                Ok(written) => done.extend(written),
                Err(e) => {
                    self.take_back(&done);
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    fn flush(&self, meta: BlockMeta, source: &mut dyn SeriesSource) -> Result<Option<Ulid>> {
        let written = self.write(meta, source, true)?;
        if let Some(ulid) = written {
            self.take_into_service(ulid)?;
        }
        Ok(written)
    }

    /// Removes blocks whose samples are still in the head. One that stays is merged with those made later.
    fn take_back(&self, blocks: &[Ulid]) {
        for &ulid in blocks {
            if let Err(e) = self.blocks.remove(ulid) {
                tracing::error!(block = %ulid, error = %e, "cannot remove a block of late samples again");
            }
        }
        if let Err(e) = self.reload() {
            tracing::error!(error = %e, "cannot reload the blocks after blocks of late samples could not be written");
        }
    }

    /// As [`Maintenance::flush_head`], of series that have ended.
    pub(crate) fn flush_stale(
        &self,
        range: Range<Timestamp>,
        source: &mut dyn SeriesSource,
        now: Timestamp,
    ) -> Result<Option<Ulid>> {
        let meta = BlockMeta::of_stale_series(new_ulid(now), range.start, range.end);
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

    /// Writes every block from which something was deleted anew without it, until there is none.
    ///
    /// # Errors
    /// A block could not be written; those before it are clean, it and those behind it stay as they are.
    ///
    /// Compat: prometheus `tsdb/db.go`, `DB.CleanTombstones`.
    pub(crate) fn clean_tombstones(&self, now: Timestamp) -> Result<()> {
        let started = Instant::now();
        let cleaned = self.try_clean_tombstones(now);
        self.metrics.tombstone_cleanup.observe(started.elapsed().as_secs_f64());
        cleaned
    }

    fn try_clean_tombstones(&self, now: Timestamp) -> Result<()> {
        let has_tombstones = |block: &&Arc<Block>| !block.tombstones().is_empty();
        while let Some(block) = self.blocks.list().iter().find(has_tombstones).cloned() {
            let meta = BlockMeta::cleaned(new_ulid(now), block.meta());
            let mut source = BlockMerge::new(&[Arc::clone(&block)])?.with_floats(self.floats);
            match self.write(meta, &mut source, false)? {
                Some(ulid) => self.take_into_service(ulid)?,
                None => self.discard(&[block.meta().ulid])?,
            }
        }
        Ok(())
    }

    /// Removes blocks of which nothing is left.
    fn discard(&self, empty: &[Ulid]) -> Result<()> {
        for &ulid in empty {
            self.blocks.edit_meta(ulid, |meta| meta.compaction.deletable = true)?;
        }
        self.reload()
    }

    /// Gives the files of every block in service a second name below `dir`, and makes a block of the head's series in
    /// `head` there, if there is such a range.
    ///
    /// # Errors
    /// What was begun stays; the caller removes `dir`.
    ///
    /// Compat: prometheus `tsdb/db.go`, `DB.Snapshot`.
    pub(crate) fn snapshot(
        &self,
        dir: &Path,
        head: Option<(Range<Timestamp>, &mut dyn SeriesSource)>,
        now: Timestamp,
    ) -> Result<()> {
        for block in self.blocks.list().iter() {
            link_block(block.dir(), &dir.join(block.meta().ulid.to_string()))?;
        }
        if let Some((range, source)) = head {
            let meta = BlockMeta::level1(new_ulid(now), range.start, range.end);
            writer::write(dir, meta, source, self.write_options, &mut |_, _| {})?;
        }
        fs::sync_dir(dir)
    }

    /// What to merge next, among blocks that may be merged.
    fn plan(&self) -> Vec<Arc<Block>> {
        let mut list = self.mergeable();
        let unmergeable = self.unmergeable.lock();
        if let Some(path) = &self.upload_list {
            list = uploads::compactable(list, path);
        }
        let mut metas: Vec<BlockMeta> = list.iter().map(|block| block.meta().clone()).collect();
        for meta in &mut metas {
            meta.compaction.failed |= unmergeable.contains(&meta.ulid);
        }
        let planned = plan::plan(&metas, &self.ranges, self.merge_overlapping);
        if planned.iter().any(|&i| unmergeable.contains(&metas[i].ulid)) {
            return Vec::new();
        }
        planned.into_iter().map(|i| Arc::clone(&list[i])).collect()
    }

    /// The blocks without those of late samples that reach beyond all others. Merged with one of the others such a
    /// block would say that the head's samples up to its end are on disk, and the next start would skip them.
    fn mergeable(&self) -> Vec<Arc<Block>> {
        let in_order_max = self.blocks.in_order_max_time();
        let is_ahead = |meta: &BlockMeta| {
            meta.compaction.has_hint(HINT_OUT_OF_ORDER) && in_order_max.is_some_and(|max| meta.max_time > max)
        };
        self.blocks.list().iter().filter(|block| !is_ahead(block.meta())).cloned().collect()
    }

    fn compact(&self, inputs: &[Arc<Block>], now: Timestamp) -> Result<()> {
        let metas: Vec<BlockMeta> = inputs.iter().map(|block| block.meta().clone()).collect();
        let merged = BlockMeta::compacted(new_ulid(now), &metas);
        if metas.windows(2).any(|pair| pair[1].min_time < pair[0].max_time) {
            self.metrics.vertical_compactions.inc();
        }
        let written = BlockMerge::new(inputs)
            .map(|source| source.with_floats(self.floats))
            .and_then(|mut source| self.write(merged, &mut source, false));
        match written {
            Ok(Some(ulid)) => self.take_into_service(ulid),
            Ok(None) => {
                let empty: Vec<Ulid> = metas.iter().map(|meta| meta.ulid).collect();
                self.discard(&empty)
            }
            Err(e @ Error::Unsupported { .. }) => {
                self.unmergeable.lock().extend(metas.iter().map(|meta| meta.ulid));
                tracing::warn!(error = %e, "blocks are not merged");
                Ok(())
            }
            // The medium failed, not the blocks: the next tick tries again.
            Err(e @ Error::Io { .. }) => Err(e),
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

/// Links every file of the block in `from` into the new directory `to`.
fn link_block(from: &Path, to: &Path) -> Result<()> {
    let chunks = to.join(paths::BLOCK_CHUNKS);
    fs::create_dir_all(&chunks)?;
    for name in fs::list(&from.join(paths::BLOCK_CHUNKS))? {
        fs::link(&from.join(paths::BLOCK_CHUNKS).join(&name), &chunks.join(&name))?;
    }
    fs::sync_dir(&chunks)?;
    for name in [paths::BLOCK_INDEX, paths::BLOCK_TOMBSTONES, paths::BLOCK_META] {
        // Blocks of other programs may lack tombstones.
        if name != paths::BLOCK_TOMBSTONES || fs::exists(&from.join(name)) {
            fs::link(&from.join(name), &to.join(name))?;
        }
    }
    fs::sync_dir(to)
}

/// An id made of the given time and of random bits.
pub(crate) fn new_ulid(now: Timestamp) -> Ulid {
    Ulid::from_parts(u64::try_from(now).unwrap_or_default(), fastrand::u128(..))
}

#[cfg(test)]
mod tests;
