//! Cuts a log at its first corrupt record.
//!
//! Wherever a crash interrupts it the log still has segment `n`, so that the next start repairs again.
//!
//! Compat: prometheus `tsdb/wlog`, `WL.Repair`; unlike it what is cut away is kept beside the log, under names
//! that end in `.corrupt` and mean nothing to either server, until a repair further on.

use std::path::Path;

use super::segment;
use crate::{Result, fs};

const SUFFIX: &str = ".corrupt";

/// Keeps the first `sound_len` bytes of segment `n`, puts the rest of it and all later segments aside.
pub fn repair(dir: &Path, n: u64, sound_len: usize) -> Result<()> {
    for later in segment::list(dir)?.into_iter().filter(|&later| later > n).rev() {
        let path = segment::path(dir, later);
        fs::rename(&path, &fs::with_suffix(&path, SUFFIX))?;
    }
    let path = segment::path(dir, n);
    let whole = fs::Mmap::open(&path)?;
    let repaired = fs::with_suffix(&path, ".repaired");
    fs::write(&repaired, whole.get(..sound_len).unwrap_or(&whole))?;
    // The old content gets its second name before the first is given to the new one.
    let aside = fs::with_suffix(&path, SUFFIX);
    if fs::exists(&aside) {
        fs::remove_file(&aside)?;
    }
    // Not every file system has hard links.
    fs::link(&path, &aside).or_else(|_| fs::write(&aside, &whole))?;
    fs::rename(&repaired, &path)?;
    for name in fs::list(dir)? {
        let number = name.strip_suffix(SUFFIX).and_then(|number| number.parse::<u64>().ok());
        if number.is_some_and(|number| number < n) {
            fs::remove_file(&dir.join(name))?;
        }
    }
    Ok(())
}
