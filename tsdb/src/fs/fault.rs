//! Faults on demand, for tests: a disk that is full, a sync that fails. Keyed by directory, so that tests
//! that run side by side do not meet.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

#[derive(Clone, Copy)]
struct Faults {
    bytes_left: u64,
    syncs_left: u64,
}

static FAULTS: LazyLock<Mutex<HashMap<PathBuf, Faults>>> = LazyLock::new(Mutex::default);

/// Lets `bytes` more bytes be written below `dir`; then the disk is full, in the middle of a write.
pub(crate) fn limit_bytes(dir: &Path, bytes: u64) {
    let mut faults = FAULTS.lock().unwrap();
    faults.entry(dir.to_owned()).or_insert(Faults { bytes_left: 0, syncs_left: u64::MAX }).bytes_left = bytes;
}

/// Makes every sync below `dir` fail.
pub(crate) fn fail_syncs(dir: &Path) {
    FAULTS.lock().unwrap().insert(dir.to_owned(), Faults { bytes_left: u64::MAX, syncs_left: 0 });
}

pub(crate) fn heal(dir: &Path) {
    FAULTS.lock().unwrap().remove(dir);
}

/// The bytes that may be written, or the part that still fits and the error.
pub(super) fn admit<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], (&'a [u8], io::Error)> {
    for (dir, fault) in FAULTS.lock().unwrap().iter_mut() {
        if path.starts_with(dir) {
            let len = bytes.len() as u64;
            if fault.bytes_left < len {
                let part = &bytes[..usize::try_from(fault.bytes_left).unwrap()];
                fault.bytes_left = 0;
                return Err((part, io::Error::from(io::ErrorKind::StorageFull)));
            }
            fault.bytes_left -= len;
        }
    }
    Ok(bytes)
}

pub(super) fn admit_sync(path: &Path) -> io::Result<()> {
    for (dir, fault) in FAULTS.lock().unwrap().iter_mut() {
        if path.starts_with(dir) {
            if fault.syncs_left == 0 {
                return Err(io::Error::other("injected"));
            }
            fault.syncs_left -= 1;
        }
    }
    Ok(())
}
