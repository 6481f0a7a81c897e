//! A store that is only looked at: it takes no lock, and nothing in its directory changes.
//!
//! For tools, also beside a running server: what that writes meanwhile may or may not be seen.
//!
//! Compat: prometheus `tsdb/db.go`, `DBReadOnly`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::TimeRange;
use model::storage::{Querier, Queryable as _};
use ulid::Ulid;

use super::blocks::Blocks;
use super::paths;
use super::querier::DbQuerier;
use crate::block::Block;
use crate::head::{self, Head};
use crate::{Error, Result, fs};

/// A directory opened for reading.
#[derive(Debug)]
pub struct ReadOnly {
    dir: PathBuf,
    scratch: Scratch,
}

impl ReadOnly {
    /// Opens the store in `dir`. Where the replay of its log makes files, they go into a directory of their own
    /// below `scratch_root`, by default that of the system for temporary files, and go when the store is dropped.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn open(dir: &Path, scratch_root: Option<&Path>) -> Result<Self> {
        fs::list(dir)?;
        let root = scratch_root.map_or_else(std::env::temp_dir, Path::to_owned);
        let scratch = Scratch(root.join(format!("ferula-read-only-{:016x}", fastrand::u64(..))));
        Ok(Self { dir: dir.to_owned(), scratch })
    }

    /// All blocks, by time.
    ///
    /// # Errors
    /// One of them does not open.
    pub fn blocks(&self) -> Result<Vec<Arc<Block>>> {
        Ok(self.load()?.list().to_vec())
    }

    /// The block with this name, or without one the block written last.
    ///
    /// # Errors
    /// There is no such block, or it does not open.
    pub fn block(&self, name: Option<&str>) -> Result<Block> {
        let newest = || {
            let ulids = fs::list(&self.dir)?.iter().filter_map(|name| paths::parse_block(name)).collect();
            Ok(first_of_newest(ulids).map(|ulid| ulid.to_string()))
        };
        let missing = |what: String| Error::NotFound { path: self.dir.clone(), what };
        let name = match name {
            Some(name) => name.to_owned(),
            None => newest()?.ok_or_else(|| missing("no blocks found".to_owned()))?,
        };
        let dir = self.dir.join(&name);
        if !fs::is_dir(&dir) {
            return Err(missing(format!("invalid block ID {name}")));
        }
        Block::open(&dir)
    }

    /// A view of `range` over blocks and head; the head is read for it if it may have such samples.
    ///
    /// # Errors
    /// A block does not open, or the log cannot be read at all.
    pub fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>> {
        let blocks = self.load()?;
        let covered = blocks.in_order_max_time().unwrap_or(i64::MIN);
        // Samples that came late may be of any time.
        let has_late = fs::is_dir(&self.dir.join(paths::WBL));
        let mut head = None;
        if covered <= range.maxt || has_late {
            let loaded = Head::open_read_only(&self.dir, head::Options::default(), covered, &self.scratch.0)?;
            let querier = loaded.querier(range);
            head = Some(querier.map_err(|e| Error::corrupt(&self.dir, 0, e.to_string()))?);
        }
        Ok(Box::new(DbQuerier { head, blocks, range }))
    }

    fn load(&self) -> Result<Arc<Blocks>> {
        let blocks = Blocks::new(&self.dir);
        blocks.load_read_only()?;
        Ok(Arc::new(blocks))
    }
}

/// By the time within the id; of equal ones the first.
fn first_of_newest(ulids: Vec<Ulid>) -> Option<Ulid> {
    ulids.into_iter().rev().max_by_key(Ulid::timestamp_ms)
}

/// A directory that goes with its owner; made by whoever first needs it.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            tracing::warn!(error = %e, "cannot remove temporary files");
        }
    }
}

#[cfg(test)]
mod tests;
