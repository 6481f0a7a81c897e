//! Cuts a log at its first corrupt record.
//!
//! Compat: prometheus `tsdb/wlog`, `WL.Repair`; unlike it what is cut away is kept beside the log, under names
//! that end in `.corrupt` and mean nothing to either server, until the next repair.

use std::path::Path;

use super::segment;
use crate::{Result, fs};

const SUFFIX: &str = ".corrupt";

/// Keeps the first `sound_len` bytes of segment `n`, puts the rest of it and all later segments aside.
pub fn repair(dir: &Path, n: u64, sound_len: usize) -> Result<()> {
    for name in fs::list(dir)? {
        if name.ends_with(SUFFIX) {
            fs::remove_file(&dir.join(name))?;
        }
    }
    for later in segment::list(dir)?.into_iter().filter(|&later| later > n).rev() {
        let path = segment::path(dir, later);
        fs::rename(&path, &fs::with_suffix(&path, SUFFIX))?;
    }
    let path = segment::path(dir, n);
    let sound = fs::Mmap::open(&path)?;
    let repaired = fs::with_suffix(&path, ".repaired");
    fs::write(&repaired, sound.get(..sound_len).unwrap_or(&sound))?;
    let aside = fs::with_suffix(&path, SUFFIX);
    fs::rename(&path, &aside)?;
    fs::rename(&repaired, &path)
}
