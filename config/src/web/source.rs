//! Files that are looked at again and again, and read only when they may have changed.
//!
//! What tells is what the file system says of a file: its place, size and times. A change right after a reading may leave
//! all of these as they were, so a file that was young when it was read is read again until it is not.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::Settings;
use crate::Error;

/// Times of files are kept in steps of at most this (FAT has the longest).
const TIME_STEP: Duration = Duration::from_secs(2);

/// What the file system says of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Whether a change after `now` will certainly show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled_at =
            self.modified.0.max(self.changed.0).saturating_add(TIME_STEP.as_secs().cast_signed());
        i64::try_from(since.as_secs()).is_ok_and(|now| now > settled_at)
    }
}

struct Known {
    stamp: Stamp,
    is_settled: bool,
    bytes: Arc<[u8]>,
}

/// The contents of some files as they are now.
#[derive(Default)]
pub struct Contents {
    known: BTreeMap<PathBuf, Known>,
}

impl Contents {
    /// Whether `path` was old enough when it was read that it is not about to be written on.
    fn is_settled(&self, path: &Path) -> bool {
        self.known.get(path).is_some_and(|known| known.is_settled)
    }

    /// What `path` holds: the same allocation as long as it is the same.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        // Before the bytes: what changes meanwhile shows the next time.
        let (now, stamp) = (SystemTime::now(), Stamp::of(path)?);
        if let Some(known) = self.known.get(path)
            && known.is_settled
            && known.stamp == stamp
        {
            return Ok(Arc::clone(&known.bytes));
        }
        let bytes = std::fs::read(path)?;
        let bytes = match self.known.get(path) {
            Some(known) if *known.bytes == bytes[..] => Arc::clone(&known.bytes),
            _ => Arc::from(bytes),
        };
        let known = Known { stamp, is_settled: stamp.is_settled(now), bytes: Arc::clone(&bytes) };
        self.known.insert(path.to_owned(), known);
        Ok(bytes)
    }

    /// Forgets every file.
    pub fn clear(&mut self) {
        self.known.clear();
    }
}

/// A web configuration file as it is now.
pub struct Source {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    contents: Contents,
    parsed: Option<Parsed>,
    /// What the file last said if it named users, whatever broken states came since.
    guarded: Option<Arc<Settings>>,
}

struct Parsed {
    bytes: Arc<[u8]>,
    outcome: Result<Arc<Settings>, Error>,
}

impl Source {
    pub fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// What the file says now: the same allocation as long as it says the same.
    ///
    /// # Errors
    /// It cannot be read or is refused.
    pub fn current(&self) -> Result<Arc<Settings>, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { contents, parsed, guarded } = &mut *state;
        let bytes = contents.read(&self.path).map_err(|e| Error::io(&self.path, &e))?;
        if let Some(known) = parsed
            && Arc::ptr_eq(&known.bytes, &bytes)
        {
            return known.outcome.clone();
        }
        let outcome = Settings::parse(&self.path, &bytes).map(Arc::new);
        // A file that is emptied and then written is open to everybody in between.
        if let Ok(now) = &outcome {
            if now.users.is_empty()
                && !contents.is_settled(&self.path)
                && let Some(guarded) = guarded
            {
                return Ok(Arc::clone(guarded));
            }
            *guarded = (!now.users.is_empty()).then(|| Arc::clone(now));
        }
        *parsed = Some(Parsed { bytes, outcome: outcome.clone() });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_it_is_now_and_the_same_as_long_as_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        let source = Source::new(path.clone());
        assert!(source.current().unwrap_err().to_string().ends_with("no such file or directory"));
        std::fs::write(&path, "http_server_config: {http2: true}").unwrap();
        let first = source.current().unwrap();
        assert!(Arc::ptr_eq(&first, &source.current().unwrap()));
        // The same length, at once.
        std::fs::write(&path, "http_server_config: {http2: fals}").unwrap();
        source.current().unwrap_err();
        std::fs::write(&path, "http_server_config: {http2: true}").unwrap();
        assert!(source.current().unwrap().http2);
        std::fs::remove_file(&path).unwrap();
        source.current().unwrap_err();
    }

    #[test]
    fn a_file_that_is_being_written_keeps_its_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yml");
        let source = Source::new(path.clone());
        std::fs::write(&path, "basic_auth_users: {alice: $2y$04$x}").unwrap();
        let first = source.current().unwrap();
        assert_eq!(first.users.len(), 1);
        for half in ["", "http_server_config: {http2: false}"] {
            std::fs::write(&path, half).unwrap();
            assert!(Arc::ptr_eq(&first, &source.current().unwrap()));
            std::fs::write(&path, "http_server_config: {").unwrap();
            source.current().unwrap_err();
            std::fs::write(&path, half).unwrap();
            assert!(Arc::ptr_eq(&first, &source.current().unwrap()));
        }
        // Once it is known to stay like that, it counts.
        let mut state = source.state.lock().unwrap();
        let known = state.contents.known.get_mut(&path).unwrap();
        known.is_settled = true;
        drop(state);
        assert!(source.current().unwrap().users.is_empty());
    }

    #[test]
    fn an_old_file_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "a").unwrap();
        let mut contents = Contents::default();
        let stamp = Stamp::of(&path).unwrap();
        let bytes: Arc<[u8]> = Arc::from(&b"of before"[..]);
        contents.known.insert(path.clone(), Known { stamp, is_settled: true, bytes });
        assert_eq!(*contents.read(&path).unwrap(), *b"of before");
        // A young one is.
        contents.known.get_mut(&path).unwrap().is_settled = false;
        assert_eq!(*contents.read(&path).unwrap(), *b"a");
        let now = SystemTime::now();
        assert!(!stamp.is_settled(now));
        assert!(stamp.is_settled(now + TIME_STEP * 2));
        // So is one that others were put in the place of.
        contents.known.get_mut(&path).unwrap().is_settled = true;
        std::fs::write(dir.path().join("new"), "b").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(*contents.read(&path).unwrap(), *b"b");
    }
}
