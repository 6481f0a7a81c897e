//! The blocks in service: which directories are loaded, which are set aside, which go.
//!
//! The list is replaced whole; who took it before keeps its blocks, whose maps outlive their files. A directory
//! that does not open is set aside and told about once; it never keeps the store from starting.
//!
//! Compat: prometheus `tsdb/db.go`, `reloadBlocks` (which refuses to go on where we set aside).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Matcher, TimeRange};
use parking_lot::{Mutex, RwLock};
use ulid::Ulid;

use super::metrics::Metrics;
use super::options::Retention;
use super::paths;
use super::retention::{self, Candidate};
use crate::block::{Block, BlockMeta};
use crate::{Error, Result, fs};

/// The loaded blocks by time.
pub(crate) type BlockList = Arc<Vec<Arc<Block>>>;

#[derive(Debug)]
pub(crate) struct Blocks {
    dir: PathBuf,
    list: RwLock<BlockList>,
    /// Why a block is set aside.
    quarantined: Mutex<BTreeMap<Ulid, String>>,
}

/// What a look into the directory found.
#[derive(Default)]
struct Found {
    blocks: Vec<Arc<Block>>,
    broken: BTreeMap<Ulid, Error>,
}

impl Blocks {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), list: RwLock::default(), quarantined: Mutex::default() }
    }

    pub(crate) fn list(&self) -> BlockList {
        Arc::clone(&self.list.read())
    }

    /// The blocks set aside and why.
    pub(crate) fn quarantined(&self) -> BTreeMap<Ulid, String> {
        self.quarantined.lock().clone()
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.list().iter().map(|block| block.size_bytes()).sum()
    }

    /// Up to where samples are on disk for sure: the head need not hold earlier ones.
    pub(crate) fn in_order_max_time(&self) -> Option<i64> {
        self.list()
            .iter()
            .map(|block| block.meta())
            .filter(|meta| meta.is_in_order())
            .map(|meta| meta.max_time)
            .max()
    }

    /// Brings the list up to what lies in the directory, then removes what is superseded, empty or beyond the
    /// retention. New blocks are in service before old ones go.
    ///
    /// # Errors
    /// The directory cannot be listed, or something could not be removed; the list is up to date even then.
    pub(crate) fn reload(&self, retention: Retention, head_bytes: u64, metrics: &Metrics) -> Result<()> {
        metrics.reloads.inc();
        let retention = self.in_bytes(retention);
        let result = self.try_reload(retention, head_bytes, metrics);
        if result.is_err() {
            metrics.reload_failures.inc();
        }
        result
    }

    /// Turns a share of the file system into bytes, which then are the bound, whatever other bound of size is set.
    fn in_bytes(&self, retention: Retention) -> Retention {
        if retention.percentage <= 0.0 {
            return retention;
        }
        let Some(capacity) = fs::capacity(&self.dir) else {
            tracing::warn!(
                dir = %self.dir.display(),
                "the size of the file system cannot be read; the retention by percentage is left out"
            );
            return retention;
        };
        Retention { size_bytes: Some(share(capacity, retention.percentage)), ..retention }
    }

    fn try_reload(&self, retention: Retention, head_bytes: u64, metrics: &Metrics) -> Result<()> {
        let mut found = self.scan()?;
        let superseded = superseded(&found.blocks);
        found.broken.retain(|ulid, _| !superseded.contains(ulid));
        self.report_broken(&found.broken, metrics);

        found.blocks.retain(|block| !superseded.contains(&block.meta().ulid));
        found.blocks.sort_by_key(|block| block.meta().min_time);
        let expired = expired(&found.blocks, head_bytes, retention, metrics);
        found.blocks.retain(|block| !expired.contains(&block.meta().ulid));
        *self.list.write() = Arc::new(found.blocks);

        let mut first_failure = Ok(());
        for ulid in superseded.into_iter().chain(expired) {
            let removed = self.remove(ulid);
            if first_failure.is_ok() {
                first_failure = removed;
            }
        }
        first_failure
    }

    /// Opens what is new; what is loaded already and unchanged stays open.
    fn scan(&self) -> Result<Found> {
        let loaded: HashMap<Ulid, Arc<Block>> =
            self.list().iter().map(|block| (block.meta().ulid, Arc::clone(block))).collect();
        let mut found = Found::default();
        for name in fs::list(&self.dir)? {
            let dir = self.dir.join(&name);
            let Some(ulid) = paths::parse_block(&name).filter(|_| fs::is_dir(&dir)) else { continue };
            match open_or_keep(&dir, ulid, loaded.get(&ulid)) {
                Ok(block) => found.blocks.push(block),
                Err(e) => drop(found.broken.insert(ulid, e)),
            }
        }
        Ok(found)
    }

    /// Takes up every block there is and changes nothing on disk.
    ///
    /// # Errors
    /// The directory cannot be listed, or a block does not open that no other one replaces.
    ///
    /// Compat: prometheus `tsdb/db.go`, `DBReadOnly.Blocks`.
    pub(crate) fn load_read_only(&self) -> Result<()> {
        let mut found = self.scan()?;
        let superseded = superseded(&found.blocks);
        if let Some((_, e)) = found.broken.into_iter().find(|(ulid, _)| !superseded.contains(ulid)) {
            return Err(e);
        }
        found.blocks.sort_by_key(|block| block.meta().min_time);
        *self.list.write() = Arc::new(found.blocks);
        Ok(())
    }

    fn report_broken(&self, broken: &BTreeMap<Ulid, Error>, metrics: &Metrics) {
        let mut known = self.quarantined.lock();
        let texts: BTreeMap<Ulid, String> =
            broken.iter().map(|(&ulid, error)| (ulid, error.to_string())).collect();
        for (ulid, text) in texts.iter().filter(|(ulid, text)| known.get(ulid) != Some(text)) {
            metrics.reload_failures.inc();
            tracing::error!(
                block = %ulid, error = %text,
                "a block does not open and is left out of all queries; repair it or move its directory away"
            );
        }
        *known = texts;
    }

    /// Deletes the samples in `range` of the series that pass `matchers` from every block that may have some. What
    /// was deleted is gone for queries from then on; those under way do not notice.
    ///
    /// # Errors
    /// A block cannot be read or its tombstones not be written: that one and later ones are as before.
    pub(crate) fn delete(&self, range: TimeRange, matchers: &[Matcher]) -> Result<()> {
        for (i, block) in self.list().iter().enumerate().filter(|(_, block)| block.range().overlaps(range)) {
            let Some(mut tombstones) = block.deletion(range, matchers)? else { continue };
            tombstones.save(&block.dir().join(paths::BLOCK_TOMBSTONES))?;
            let block = Arc::new(block.with_tombstones(tombstones));
            let mut list = self.list.write();
            Arc::make_mut(&mut list)[i] = Arc::clone(&block);
            drop(list);
            // Only a count; should it not get written, the next reload reads the block anew.
            fs::replace(&block.dir().join(paths::BLOCK_META), &block.meta().encode())?;
        }
        Ok(())
    }

    /// Renames a block's directory out of sight, then removes it. A missing one is fine.
    pub(crate) fn remove(&self, ulid: Ulid) -> Result<()> {
        let dir = self.dir.join(ulid.to_string());
        if !fs::is_dir(&dir) {
            return Ok(());
        }
        let doomed = self.dir.join(paths::block_under_deletion(ulid));
        fs::remove_dir_all(&doomed)?;
        fs::rename(&dir, &doomed)?;
        fs::remove_dir_all(&doomed)?;
        tracing::info!(block = %ulid, "removed a block");
        Ok(())
    }

    /// Rewrites the description of a block on disk; the next reload sees it.
    pub(crate) fn edit_meta(&self, ulid: Ulid, edit: impl FnOnce(&mut BlockMeta)) -> Result<()> {
        let path = self.dir.join(ulid.to_string()).join(paths::BLOCK_META);
        let mut meta = BlockMeta::load(&path)?;
        edit(&mut meta);
        fs::replace(&path, &meta.encode())
    }
}

/// Removes what a crash left unfinished.
pub(crate) fn remove_temporary(dir: &Path) -> Result<()> {
    for name in fs::list(dir)?.iter().filter(|name| paths::is_temporary(name)) {
        tracing::info!(dir = name, "removing an unfinished directory");
        fs::remove_dir_all(&dir.join(name))?;
    }
    Ok(())
}

/// Prometheus 2.1.0 wrote descriptions of version 2 and index version bytes of 1: makes them what they are.
/// Compat: prometheus `tsdb/repair.go`.
pub(crate) fn repair_index_versions(dir: &Path) -> Result<()> {
    for name in fs::list(dir)?.iter().filter(|name| paths::parse_block(name).is_some()) {
        let meta_path = dir.join(name).join(paths::BLOCK_META);
        let Some(text) = fs::read_if_exists(&meta_path)? else { continue };
        let Ok(mut meta) = serde_json::from_slice::<BlockMeta>(&text) else { continue };
        if meta.version != 2 {
            continue;
        }
        let index = fs::File::open_rw(&dir.join(name).join(paths::BLOCK_INDEX))?;
        index.write_all_at(&[crate::index::VERSION], 4)?;
        index.sync_all()?;
        meta.version = 1;
        fs::replace(&meta_path, &meta.encode())?;
        tracing::warn!(block = name, "repaired the index version of a block of Prometheus 2.1.0");
    }
    Ok(())
}

fn open_or_keep(dir: &Path, ulid: Ulid, loaded: Option<&Arc<Block>>) -> Result<Arc<Block>> {
    let meta_path = dir.join(paths::BLOCK_META);
    let meta = BlockMeta::load(&meta_path)?;
    if meta.ulid != ulid {
        return Err(Error::corrupt(&meta_path, 0, format!("description of another block, {}", meta.ulid)));
    }
    match loaded {
        Some(block) if *block.meta() == meta => Ok(Arc::clone(block)),
        _ => Ok(Arc::new(Block::open(dir)?)),
    }
}

/// `percentage` of `bytes`.
fn share(bytes: u64, percentage: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut off; file systems end below 2^63"
    )]
    let share = (bytes as f64 * percentage / 100.0) as u64;
    share
}

/// The blocks that others were made of, whether they are still there or not, and those found empty.
fn superseded(blocks: &[Arc<Block>]) -> HashSet<Ulid> {
    let mut gone = HashSet::new();
    for meta in blocks.iter().map(|block| block.meta()) {
        gone.extend(
            meta.compaction.parents.iter().map(|parent| parent.ulid).filter(|&ulid| ulid != meta.ulid),
        );
        if meta.compaction.deletable {
            gone.insert(meta.ulid);
        }
    }
    gone
}

fn expired(blocks: &[Arc<Block>], head_bytes: u64, retention: Retention, metrics: &Metrics) -> HashSet<Ulid> {
    let candidates: Vec<Candidate> = blocks
        .iter()
        .map(|block| Candidate { max_time: block.meta().max_time, size_bytes: block.size_bytes() })
        .collect();
    let beyond = retention::beyond(&candidates, head_bytes, retention);
    if !beyond.time.is_empty() {
        metrics.time_retentions.inc();
    }
    if !beyond.size.is_empty() {
        metrics.size_retentions.inc();
    }
    beyond.time.into_iter().chain(beyond.size).map(|i| blocks[i].meta().ulid).collect()
}
