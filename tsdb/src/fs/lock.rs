//! The lock of a data directory: `flock(2)` on an empty file, removed on release.
//!
//! Compat: prometheus `tsdb/tsdbutil`, `DirLocker`.

use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::{Error, Result};

/// A held lock; dropping it releases it and removes the file.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: std::fs::File,
    /// Whether the file was there before: the last owner did not stop cleanly.
    pub was_present: bool,
}

impl Lock {
    /// Takes the lock or fails at once with [`Error::Locked`].
    pub fn acquire(path: &Path) -> Result<Self> {
        let was_present = path.exists();
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), file, was_present }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path: path.to_owned() }),
            Err(e) => Err(Error::io("lock", path)(e.into())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held, so that nobody locks a file that is about to go.
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), error = %e, "cannot remove the lock file");
        }
        if let Err(e) = rustix::fs::flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(path = %self.path.display(), error = %e, "cannot release the lock");
        }
    }
}
