//! The one way to files: every operation carries its path and its verb into the error, every map is opened here.
//!
//! A thin coat over `std::fs`, blocking as that is. It knows no format and no file name.
//!
//! Media assumptions: a file whose `sync_data` returned survives a power cut; a rename is atomic and durable
//! once the directory that holds it was synced ([`sync_dir`]).

#[cfg(test)]
pub(crate) mod fault;
mod lock;
mod mmap;
#[cfg(test)]
pub(crate) mod sim;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use lock::Lock;
pub use mmap::{GrowingMap, Mmap};

use crate::{Error, Result};

/// An open file that knows its path.
#[derive(Debug)]
pub struct File {
    inner: std::fs::File,
    path: PathBuf,
}

impl File {
    /// Opens an existing file for reading.
    pub fn open(path: &Path) -> Result<Self> {
        let inner = std::fs::File::open(path).map_err(Error::io("open", path))?;
        Ok(Self { inner, path: path.to_owned() })
    }

    /// Opens an existing file for reading and writing.
    pub fn open_rw(path: &Path) -> Result<Self> {
        let inner =
            std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open", path))?;
        Ok(Self { inner, path: path.to_owned() })
    }

    /// Creates a file for reading and writing; an existing one is emptied.
    pub fn create(path: &Path) -> Result<Self> {
        #[cfg(test)]
        fault::admit_change(path).map_err(Error::io("create", path))?;
        #[cfg(test)]
        let step = sim::begin(sim::Kind::Takes, "create", path).map_err(Error::io("create", path))?;
        let inner = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(Error::io("create", path))?;
        #[cfg(test)]
        step.created(path, &inner);
        Ok(Self { inner, path: path.to_owned() })
    }

    /// Creates a file that must not exist yet.
    pub fn create_new(path: &Path) -> Result<Self> {
        #[cfg(test)]
        let step = sim::begin(sim::Kind::Takes, "create", path).map_err(Error::io("create", path))?;
        let inner = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(Error::io("create", path))?;
        #[cfg(test)]
        step.created(path, &inner);
        Ok(Self { inner, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> Result<u64> {
        Ok(self.inner.metadata().map_err(Error::io("stat", &self.path))?.len())
    }

    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes all of `bytes` at `offset`; after an error any part of them may have arrived.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        #[cfg(test)]
        let bytes = match fault::admit(&self.path, bytes) {
            Ok(bytes) => bytes,
            Err((part, error)) => {
                self.inner.write_all_at(part, offset).map_err(Error::io("write", &self.path))?;
                return Err(error).map_err(Error::io("write", &self.path));
            }
        };
        #[cfg(test)]
        let _step = match sim::begin_write(sim::Kind::Takes, "write", &self.path, bytes.len()) {
            Ok(step) => step,
            Err((part, error)) => {
                self.inner.write_all_at(&bytes[..part], offset).map_err(Error::io("write", &self.path))?;
                return Err(error).map_err(Error::io("write", &self.path));
            }
        };
        self.inner.write_all_at(bytes, offset).map_err(Error::io("write", &self.path))
    }

    /// Fills `buf` from `offset`; a file that ends before is an error.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.inner.read_exact_at(buf, offset).map_err(Error::io("read", &self.path))
    }

    pub fn set_len(&self, len: u64) -> Result<()> {
        #[cfg(test)]
        let _step = sim::begin(sim::Kind::Changes, "truncate", &self.path)
            .map_err(Error::io("truncate", &self.path))?;
        self.inner.set_len(len).map_err(Error::io("truncate", &self.path))
    }

    /// Brings the content and the length to the medium.
    pub fn sync_data(&self) -> Result<()> {
        #[cfg(test)]
        fault::admit_sync(&self.path).map_err(Error::io("fsync", &self.path))?;
        #[cfg(test)]
        if self.sync_simulated()? {
            return Ok(());
        }
        self.inner.sync_data().map_err(Error::io("fsync", &self.path))
    }

    /// As [`File::sync_data`], with the metadata.
    pub fn sync_all(&self) -> Result<()> {
        #[cfg(test)]
        if self.sync_simulated()? {
            return Ok(());
        }
        self.inner.sync_all().map_err(Error::io("fsync", &self.path))
    }

    /// Whether the file is on a simulated disk; then it counts as synced.
    #[cfg(test)]
    fn sync_simulated(&self) -> Result<bool> {
        let step =
            sim::begin(sim::Kind::Syncs, "fsync", &self.path).map_err(Error::io("fsync", &self.path))?;
        let is_simulated = step.is_simulated();
        step.synced(&self.inner);
        Ok(is_simulated)
    }

    pub(crate) fn std(&self) -> &std::fs::File {
        &self.inner
    }
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io("read", path))
}

/// Reads a whole file, or says that there is none.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// Writes a new file and syncs it; its directory is left to the caller.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::create(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

/// Puts `bytes` in the place of the file at `path`, so that a crash leaves the old content or the new:
/// `<path>.tmp`, sync, rename, sync of the directory.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let tmp = with_suffix(path, ".tmp");
    let replaced = write(&tmp, bytes).and_then(|()| rename(&tmp, path));
    if replaced.is_err() {
        // On a full disk every byte counts; the failure that led here is the one to tell.
        let _ = std::fs::remove_file(&tmp);
    }
    replaced
}

/// The bytes that the file system of `path` has in all, if it says so.
pub fn capacity(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize).filter(|&bytes| bytes > 0)
}

/// Renames and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    #[cfg(test)]
    fault::admit_change(from).map_err(Error::io("rename", from))?;
    #[cfg(test)]
    let step = sim::begin(sim::Kind::Changes, "rename", from).map_err(Error::io("rename", from))?;
    std::fs::rename(from, to).map_err(Error::io("rename", from))?;
    #[cfg(test)]
    step.renamed(from, to);
    to.parent().map_or(Ok(()), sync_dir)
}

/// Gives the file at `from` a second name; the directory is left to the caller.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    #[cfg(test)]
    fault::admit_change(from).map_err(Error::io("link", from))?;
    #[cfg(test)]
    let step = sim::begin(sim::Kind::Takes, "link", from).map_err(Error::io("link", from))?;
    std::fs::hard_link(from, to).map_err(Error::io("link", from))?;
    #[cfg(test)]
    step.linked(from, to);
    Ok(())
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    #[cfg(test)]
    {
        let step = sim::begin(sim::Kind::Syncs, "fsync", path).map_err(Error::io("fsync", path))?;
        if step.is_simulated() {
            step.synced_dir(path);
            return Ok(());
        }
    }
    let dir = std::fs::File::open(path).map_err(Error::io("open", path))?;
    dir.sync_all().map_err(Error::io("fsync", path))
}

/// Creates a directory and what is missing above it; the new names are durable.
pub fn create_dir_all(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().map(|parent| if parent == Path::new("") { Path::new(".") } else { parent });
    if let Some(parent) = parent {
        create_dir_all(parent)?;
    }
    #[cfg(test)]
    let step = sim::begin(sim::Kind::Takes, "mkdir", path).map_err(Error::io("create", path))?;
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", path)(e)),
        _ => {}
    }
    #[cfg(test)]
    step.created_dir(path);
    parent.map_or(Ok(()), sync_dir)
}

pub fn remove_file(path: &Path) -> Result<()> {
    #[cfg(test)]
    fault::admit_change(path).map_err(Error::io("remove", path))?;
    #[cfg(test)]
    let step = sim::begin(sim::Kind::Changes, "remove", path).map_err(Error::io("remove", path))?;
    std::fs::remove_file(path).map_err(Error::io("remove", path))?;
    #[cfg(test)]
    step.removed(path);
    Ok(())
}

/// Removes a directory with all it holds; a missing one is fine.
pub fn remove_dir_all(path: &Path) -> Result<()> {
    #[cfg(test)]
    if sim::is_simulated(path) && path.is_dir() {
        for name in list(path)? {
            let inner = path.join(name);
            if inner.is_dir() { remove_dir_all(&inner)? } else { remove_file(&inner)? }
        }
        let step = sim::begin(sim::Kind::Changes, "rmdir", path).map_err(Error::io("remove", path))?;
        std::fs::remove_dir(path).map_err(Error::io("remove", path))?;
        step.removed(path);
        return Ok(());
    }
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// The names in a directory, sorted; names that are not UTF-8 are none of ours and left out.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}

pub fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

pub fn file_len(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).map_err(Error::io("stat", path))?.len())
}

/// The bytes of all files below a directory; what vanishes meanwhile counts nothing, nor does a missing one.
pub fn dir_size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => dir_size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// `path` with `suffix` behind its last component, extension or not.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
