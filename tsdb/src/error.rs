//! What can go wrong: bytes that do not decode, files that cannot be used.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Bytes that are not what they should be; knows no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct DecodeError {
    pub what: &'static str,
    pub offset: u32,
}

/// A failure of the store. Paths are attached here, once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{op} {}: {source}", .path.display())]
    Io { path: PathBuf, op: &'static str, source: std::io::Error },
    #[error("corrupt {}: {what} at byte {offset}", .path.display())]
    Corrupt { path: PathBuf, offset: u64, what: String },
    /// Sound data of a kind that this version does not read.
    #[error("read {}: {what}", .path.display())]
    Unsupported { path: PathBuf, what: String },
    /// Something was asked for by name that is not there.
    #[error("{what}")]
    NotFound { path: PathBuf, what: String },
    #[error("lock {}: another process uses the data directory", .path.display())]
    Locked { path: PathBuf },
    /// One write of the log serves several batches, so its failure is shared.
    #[error("log the batch: {0}")]
    Refused(std::sync::Arc<Error>),
    #[error("the store is read-only after a failure of its log: {0}")]
    Poisoned(String),
}

impl Error {
    /// For `map_err` on a file operation: `op` is its verb, as in "open", "read", "rename".
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), op, source }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what: what.into() }
    }
}
