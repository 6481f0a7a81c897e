//! What the tests of this crate share: the reference projects' files, and loud absence.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// `rel` below the reference projects' test data, or `None` after saying so.
pub(crate) fn upstream(test: &str, rel: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_UPSTREAM")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/upstream"), PathBuf::from);
    let path = root.join(rel);
    if path.exists() {
        return Some(path);
    }
    // Not `println!`: nobody sees what a passing test prints.
    let _ =
        writeln!(std::io::stderr(), "SKIPPED {test}: {} is not there (set FERULA_UPSTREAM)", path.display());
    None
}

/// The files of a folder whose names end in `ending`, sorted.
pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}
