//! Files as memory: whole immutable ones, and one that grows.
//!
//! The rule that makes both sound: nobody in this crate truncates or rewrites a file that is mapped. Files are
//! removed by unlinking, which leaves maps valid. Another process that truncates a file of ours can still
//! end us with SIGBUS; the lock of the data directory is what keeps others away.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::File;
use crate::{Error, Result};

/// A whole file, mapped read-only.
#[derive(Debug)]
pub struct Mmap {
    map: memmap2::Mmap,
    path: PathBuf,
}

impl Mmap {
    /// Maps a file that nobody changes any more; an empty file maps to an empty slice.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        #[expect(unsafe_code, reason = "mapping a file is unsafe by nature")]
        // SAFETY: the bytes stay as they are while the map lives: the files given here are complete, this crate
        // never writes to a complete file, and the directory's lock keeps other programs out. A violation
        // would change bytes under a shared slice, which readers of this crate treat as untrusted anyway.
        let map = unsafe { memmap2::Mmap::map(file.std()) }.map_err(Error::io("map", path))?;
        Ok(Self { map, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the kernel that reads will hop about, so reading ahead is wasted. A refusal changes nothing.
    pub fn advise_random(&self) {
        let _ = self.map.advise(Advice::Random);
    }

    /// Tells the kernel that the file will be read from front to back. A refusal changes nothing.
    pub fn advise_sequential(&self) {
        let _ = self.map.advise(Advice::Sequential);
    }
}

impl Deref for Mmap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// A file that is still being appended to: its address space is reserved up front, and what was written can be
/// read as a slice as soon as [`GrowingMap::publish`] says so.
#[derive(Debug)]
pub struct GrowingMap {
    map: MmapRaw,
    published: AtomicUsize,
}

impl GrowingMap {
    /// Reserves `capacity` bytes for `file`, whose first `len` bytes are written.
    pub fn new(file: &File, capacity: usize, len: usize) -> Result<Self> {
        let map = MmapOptions::new()
            .len(capacity)
            .map_raw_read_only(file.std())
            .map_err(Error::io("map", file.path()))?;
        assert!(len <= capacity, "BUG: {len} bytes written of {capacity}");
        Ok(Self { map, published: AtomicUsize::new(len) })
    }

    /// Makes the first `len` bytes readable; they are in the file and will never change.
    pub fn publish(&self, len: usize) {
        assert!(len <= self.map.len(), "BUG: {len} bytes published of {}", self.map.len());
        self.published.fetch_max(len, Ordering::Release);
    }

    /// The bytes published so far.
    pub fn bytes(&self) -> &[u8] {
        let len = self.published.load(Ordering::Acquire);
        #[expect(unsafe_code, reason = "a slice of the part of the map that is written")]
        // SAFETY: the map is at least `len` long (asserted when published), lives as long as `self`, and the
        // first `len` bytes of the file are written and never rewritten nor truncated away, so they are
        // backed by the file and immutable.
        unsafe {
            std::slice::from_raw_parts(self.map.as_ptr(), len)
        }
    }
}
