//! Silences and the notification log on disk: one JSON file each, in a folder of their own.
//!
//! A file is `{"version": 1, "data": …}`, written to a temporary file, synced and renamed over the old
//! one, so that a crash leaves the old or the new. These are our own files; reading and writing those of
//! upstream is another matter.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Out<'a, T> {
    version: u32,
    data: &'a T,
}

#[derive(Deserialize)]
struct In<T> {
    version: u32,
    data: T,
}

/// What went wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{op} {}: {source}", path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    #[error("read {}: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
}

/// Reads a snapshot; `None` when there is none yet.
///
/// # Errors
/// The file cannot be read, or is not one of ours.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { op: "read", path: path.to_owned(), source }),
    };
    let corrupt = |what: String| Error::Corrupt { path: path.to_owned(), what };
    let file: In<T> = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
    if file.version != VERSION {
        return Err(corrupt(format!("version {} is not {VERSION}", file.version)));
    }
    Ok(Some(file.data))
}

/// Writes a snapshot in place of the old one.
///
/// # Errors
/// The file cannot be written; the old one stays.
pub(super) fn save<T: Serialize>(path: &Path, data: &T) -> Result<(), Error> {
    let io = |op: &'static str| {
        let path = path.to_owned();
        move |source| Error::Io { op, path, source }
    };
    let bytes =
        serde_json::to_vec(&Out { version: VERSION, data }).map_err(|e| io("encode")(io::Error::other(e)))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(io("create folder of"))?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(io("create"))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io("write"))?;
    fs::rename(&temporary, path).map_err(io("rename"))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync folder of"))
}
