//! The files of a log: numbered segments and checkpoints, by name.
//!
//! Compat: prometheus `tsdb/wlog`, `SegmentName`, `LastCheckpoint`.

use std::path::{Path, PathBuf};

use crate::{Error, Result, fs};

const CHECKPOINT_PREFIX: &str = "checkpoint.";

/// The path of segment `n` in a log's directory.
pub fn path(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("{n:08}"))
}

/// The path of the checkpoint that covers all segments up to `n`.
pub fn checkpoint_path(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("{CHECKPOINT_PREFIX}{n:08}"))
}

/// The numbers of a log's segments, ascending; a gap between them is an error. A missing directory has none.
pub fn list(dir: &Path) -> Result<Vec<u64>> {
    if !fs::is_dir(dir) {
        return Ok(Vec::new());
    }
    let mut numbers: Vec<u64> = fs::list(dir)?.iter().filter_map(|name| parse(name)).collect();
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        Some(gap) => {
            Err(Error::corrupt(dir, 0, format!("segments are not sequential, {} follows {}", gap[1], gap[0])))
        }
        None => Ok(numbers),
    }
}

/// Removes all segments before `n`.
pub fn remove_before(dir: &Path, n: u64) -> Result<()> {
    for old in list(dir)?.into_iter().filter(|&old| old < n) {
        fs::remove_file(&path(dir, old))?;
    }
    Ok(())
}

/// The checkpoints of a log, ascending.
pub fn checkpoints(dir: &Path) -> Result<Vec<u64>> {
    if !fs::is_dir(dir) {
        return Ok(Vec::new());
    }
    let mut numbers: Vec<u64> = fs::list(dir)?
        .iter()
        .filter_map(|name| parse(name.strip_prefix(CHECKPOINT_PREFIX)?))
        .filter(|&n| fs::is_dir(&checkpoint_path(dir, n)))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes checkpoints that were under construction.
pub fn remove_temporary(dir: &Path) -> Result<()> {
    if fs::is_dir(dir) {
        for name in fs::list(dir)? {
            if name.starts_with(CHECKPOINT_PREFIX) && name.strip_suffix(".tmp").is_some() {
                fs::remove_dir_all(&dir.join(name))?;
            }
        }
    }
    Ok(())
}

fn parse(name: &str) -> Option<u64> {
    name.bytes().all(|b| b.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}
