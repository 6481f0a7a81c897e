//! Faults on demand, for tests: a disk that is full, a sync that fails. Keyed by directory, so that tests
//! that run side by side do not meet.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

/// How much of each still succeeds.
#[derive(Clone, Copy)]
struct Faults {
    bytes: u64,
    syncs: u64,
    changes: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { bytes: u64::MAX, syncs: u64::MAX, changes: u64::MAX }
    }
}

static FAULTS: LazyLock<Mutex<HashMap<PathBuf, Faults>>> = LazyLock::new(Mutex::default);

/// Lets `bytes` more bytes be written below `dir`; then the disk is full, in the middle of a write.
pub(crate) fn limit_bytes(dir: &Path, bytes: u64) {
    FAULTS.lock().unwrap().entry(dir.to_owned()).or_default().bytes = bytes;
}

/// Makes every sync below `dir` fail.
pub(crate) fn fail_syncs(dir: &Path) {
    FAULTS.lock().unwrap().insert(dir.to_owned(), Faults { syncs: 0, ..Faults::default() });
}

/// Lets `n` more changes of names below `dir` happen: files made, linked, renamed or removed. What comes
/// after them fails, as if the process had died there.
pub(crate) fn limit_changes(dir: &Path, n: u64) {
    FAULTS.lock().unwrap().entry(dir.to_owned()).or_default().changes = n;
}

pub(crate) fn heal(dir: &Path) {
    FAULTS.lock().unwrap().remove(dir);
}

/// The bytes that may be written, or the part that still fits and the error.
pub(super) fn admit<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], (&'a [u8], io::Error)> {
    for (dir, fault) in FAULTS.lock().unwrap().iter_mut() {
        if path.starts_with(dir) {
            let len = bytes.len() as u64;
            if fault.bytes < len {
                let part = &bytes[..usize::try_from(fault.bytes).unwrap()];
                fault.bytes = 0;
                return Err((part, io::Error::from(io::ErrorKind::StorageFull)));
            }
            fault.bytes -= len;
        }
    }
    Ok(bytes)
}

pub(super) fn admit_change(path: &Path) -> io::Result<()> {
    for (dir, fault) in FAULTS.lock().unwrap().iter_mut() {
        if path.starts_with(dir) {
            fault.changes = fault.changes.checked_sub(1).ok_or(io::Error::other("injected"))?;
        }
    }
    Ok(())
}

pub(super) fn admit_sync(path: &Path) -> io::Result<()> {
    for (dir, fault) in FAULTS.lock().unwrap().iter_mut() {
        if path.starts_with(dir) {
            if fault.syncs == 0 {
                return Err(io::Error::other("injected"));
            }
            fault.syncs -= 1;
        }
    }
    Ok(())
}
