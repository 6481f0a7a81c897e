//! Letters on disk: a file each, in a folder of their own.
//!
//! A file is a line of JSON, the message, and lines of JSON about what became of it. It is written and
//! synced before anybody is told that the letter is safe, and grows by synced lines whenever a server has
//! said the last word about a recipient. What a crash cut off in its middle was never called safe and is
//! removed; a file that cannot be read for any other reason is set aside.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alertmanager::clock;
use crate::alertmanager::nflog::{Key, Memory};

const VERSION: u32 = 1;
const SUFFIX: &str = "mail";
/// Of files that were set aside.
const SUFFIX_UNREAD: &str = "unread";
/// A first line that is longer is not ours.
const HEAD_BYTES_MAX: u64 = 4 << 20;

/// A message on its way, but for its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// Of the notification log: the group and the integration.
    pub(super) log_key: String,
    pub(super) receiver: String,
    pub(super) index: usize,
    pub(super) from: String,
    pub(super) to: Vec<String>,
    /// The Message-ID, the same at each attempt.
    pub(super) id: String,
    /// What the notification log keeps when the message counts as sent.
    pub(super) memory: Memory,
    /// What it tells, to recognise the same news.
    pub(super) identity: String,
    #[serde(serialize_with = "clock::nanos", deserialize_with = "clock::required")]
    pub(super) posted_at: Timestamp,
    /// A newer letter of the same group may take its place after so many seconds.
    pub(super) patience: u64,
}

impl Letter {
    /// Its key in the notification log.
    pub(super) fn key(&self) -> Key {
        let integration = format!(":{}/email/{}", self.receiver, self.index);
        Key {
            group: self.log_key.strip_suffix(&integration).unwrap_or(&self.log_key).to_owned(),
            receiver: self.receiver.clone(),
            integration: "email".to_owned(),
            index: u32::try_from(self.index).unwrap_or(u32::MAX),
        }
    }
}

/// What the first lines of all versions have in common.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    letter: Letter,
    bytes: u64,
    sha256: String,
}

/// What became of a letter, one line each.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mark {
    /// These recipients got it, or something newer instead.
    Done { to: Vec<String> },
    /// These recipients will not get it: the server refused them for good.
    Refused { to: Vec<String> },
    /// Nothing is to be done any more for any.
    Delivered {
        #[serde(serialize_with = "clock::nanos", deserialize_with = "clock::required")]
        at: Timestamp,
    },
}

/// A letter that an earlier process left.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) letter: Letter,
    pub(super) bytes: u64,
    /// Recipients that wait.
    pub(super) to: Vec<String>,
    /// Somebody got it.
    pub(super) is_got: bool,
    pub(super) delivered_at: Option<Timestamp>,
}

/// Why a file is no letter for us.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    /// It was never called safe, or is so no more.
    #[error("{0}")]
    Damaged(String),
    #[error("version {0} is not {VERSION}")]
    Foreign(u32),
    #[error("its first line is longer than {HEAD_BYTES_MAX} bytes")]
    Long,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The folder of letters.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    /// The highest number of a file that was there, also of one that is no letter.
    last: u64,
}

impl Store {
    /// Opens the folder, which is made when missing; the letters in it, oldest first.
    ///
    /// # Errors
    /// The folder cannot be made or listed. A file that is none of ours, or cut off, is left out.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Vec<Found>)> {
        fs::create_dir_all(dir)?;
        let mut found = Vec::new();
        let mut last = 0;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(number) = number(&path) else { continue };
            last = last.max(number);
            if path.extension().is_some_and(|suffix| suffix == SUFFIX_UNREAD) {
                continue;
            }
            match read(&path, number) {
                Ok(letter) => found.push(letter),
                Err(Unreadable::Damaged(error)) => {
                    tracing::warn!(path = %path.display(), error, "removing an unfinished e-mail of the outbox");
                    let _ = fs::remove_file(&path);
                }
                Err(error) => set_aside(&path, &error),
            }
        }
        found.sort_by_key(|letter| letter.number);
        Ok((Self { dir: dir.to_owned(), last }, found))
    }

    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Writes a letter; it is safe when this returns.
    pub(super) fn write(&self, number: u64, letter: &Letter, message: &[u8]) -> io::Result<PathBuf> {
        let head = Head {
            version: VERSION,
            letter: letter.clone(),
            bytes: message.len() as u64,
            sha256: sha256(message),
        };
        let mut bytes = serde_json::to_vec(&head).map_err(io::Error::other)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(message);
        let path = self.dir.join(format!("{number:016x}.{SUFFIX}"));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let mut write = || {
            file.write_all(&bytes)?;
            file.sync_data()?;
            File::open(&self.dir)?.sync_all()
        };
        match write() {
            Ok(()) => Ok(path),
            Err(e) => {
                // Half a file is worse than none.
                let _ = fs::remove_file(&path);
                Err(e)
            }
        }
    }
}

/// A letter that may be whole counted as sent: somebody should see to it, and another version can read it.
fn set_aside(path: &Path, error: &Unreadable) {
    let to = path.with_extension(SUFFIX_UNREAD);
    let renamed = fs::rename(path, &to);
    let (path, to) = (path.display(), to.display());
    match renamed {
        Ok(()) => {
            tracing::warn!(%path, %to, %error, "setting aside an e-mail of the outbox that cannot be read");
        }
        Err(rename_error) => {
            tracing::warn!(%path, %error, %rename_error, "leaving an e-mail of the outbox that cannot be read");
        }
    }
}

/// The message of a letter.
pub(super) fn read_message(path: &Path) -> io::Result<Vec<u8>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (head, _) = read_head(&mut reader).map_err(io::Error::other)?;
    let mut message = vec![0; usize::try_from(head.bytes).map_err(io::Error::other)?];
    reader.read_exact(&mut message)?;
    if sha256(&message) != head.sha256 {
        return Err(io::Error::other("message is damaged"));
    }
    Ok(message)
}

/// What is noted about a letter.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) done: Vec<String>,
    pub(super) refused: Vec<String>,
    /// That was all.
    pub(super) delivered_at: Option<Timestamp>,
}

/// Notes what became of a letter.
pub(super) fn mark(path: &Path, progress: Progress) -> io::Result<()> {
    let Progress { done, refused, delivered_at } = progress;
    let mut lines = String::from("\n");
    let mut put = |mark: Mark| {
        lines.push_str(&serde_json::to_string(&mark).unwrap_or_default());
        lines.push('\n');
    };
    if !done.is_empty() {
        put(Mark::Done { to: done });
    }
    if !refused.is_empty() {
        put(Mark::Refused { to: refused });
    }
    if let Some(at) = delivered_at {
        put(Mark::Delivered { at });
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(lines.as_bytes())?;
    file.sync_data()
}

fn number(path: &Path) -> Option<u64> {
    let suffix = path.extension()?;
    if suffix != SUFFIX && suffix != SUFFIX_UNREAD {
        return None;
    }
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

fn read_head(reader: &mut impl BufRead) -> Result<(Head, u64), Unreadable> {
    let damaged = |e: serde_json::Error| Unreadable::Damaged(e.to_string());
    let mut line = Vec::new();
    reader.take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        let is_long = line.len() as u64 == HEAD_BYTES_MAX;
        let cut = || Unreadable::Damaged("first line is cut off".to_owned());
        return Err(if is_long { Unreadable::Long } else { cut() });
    }
    // First, for another version may have other fields.
    let Versioned { version } = serde_json::from_slice(&line).map_err(damaged)?;
    if version != VERSION {
        return Err(Unreadable::Foreign(version));
    }
    let head = serde_json::from_slice(&line).map_err(damaged)?;
    Ok((head, line.len() as u64))
}

fn read(path: &Path, number: u64) -> Result<Found, Unreadable> {
    let mut reader = BufReader::new(File::open(path)?);
    let (head, length) = read_head(&mut reader)?;
    let end = length.saturating_add(head.bytes);
    if reader.get_ref().metadata()?.len() < end {
        return Err(Unreadable::Damaged("message is cut off".to_owned()));
    }
    reader.seek(SeekFrom::Start(end))?;
    let mut to = head.letter.to.clone();
    let mut is_got = false;
    let mut delivered_at = None;
    for line in reader.split(b'\n') {
        match serde_json::from_slice(&line?) {
            Ok(Mark::Done { to: done }) => {
                is_got = true;
                to.retain(|to| !done.contains(to));
            }
            Ok(Mark::Refused { to: refused }) => to.retain(|to| !refused.contains(to)),
            Ok(Mark::Delivered { at }) => delivered_at = Some(at),
            // An empty line, or one that a crash cut off.
            Err(_) => {}
        }
    }
    let path = path.to_owned();
    Ok(Found { number, path, letter: head.letter, bytes: head.bytes, to, is_got, delivered_at })
}

fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().fold(String::new(), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter {
            log_key: "{}:{}:r/email/0".to_owned(),
            receiver: "r".to_owned(),
            index: 0,
            from: "f@e.org".to_owned(),
            to: vec!["a@e.org".to_owned(), "b@e.org".to_owned()],
            id: "<1@e.org>".to_owned(),
            memory: Memory::new(),
            identity: "x".to_owned(),
            posted_at: Timestamp::UNIX_EPOCH,
            patience: 3_600,
        }
    }

    fn done(to: &str) -> Progress {
        Progress { done: vec![to.to_owned()], ..Progress::default() }
    }

    #[test]
    fn letters_are_found_again_with_what_became_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let (store, found) = Store::open(dir.path()).unwrap();
        assert!(found.is_empty());
        let message = b"Subject: x\r\n\r\nbody\r\n".repeat(100);
        let path = store.write(7, &letter(), &message).unwrap();
        store.write(3, &letter(), &message).unwrap();
        assert!(store.write(3, &letter(), &message).is_err(), "a number is used once");
        mark(&path, done("a@e.org")).unwrap();

        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found.iter().map(|found| found.number).collect::<Vec<_>>(), [3, 7]);
        assert_eq!((found[0].to.len(), found[1].to.as_slice()), (2, &["b@e.org".to_owned()][..]));
        assert_eq!((&found[1].letter, found[1].delivered_at), (&letter(), None));
        assert_eq!(read_message(&path).unwrap(), message);
        assert_eq!((found[0].is_got, found[1].is_got), (false, true));
        let delivered_at = Some(Timestamp::UNIX_EPOCH);
        mark(&path, Progress { delivered_at, ..done("b@e.org") }).unwrap();
        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found[1].delivered_at, delivered_at);
    }

    #[test]
    fn who_was_refused_has_not_got_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        let path = store.write(1, &letter(), b"x\r\n").unwrap();
        let refused = vec!["a@e.org".to_owned()];
        mark(&path, Progress { refused, ..Progress::default() }).unwrap();
        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!((found[0].is_got, found[0].to.as_slice()), (false, &["b@e.org".to_owned()][..]));
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_keeps_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        let path = store.write(1, &letter(), b"x\r\n").unwrap();
        let text = String::from_utf8(fs::read(&path).unwrap()).unwrap();
        let foreign = dir.path().join("0000000000000005.mail");
        fs::write(&foreign, text.replacen("\"version\":1", "\"version\":9,\"new\":1", 1)).unwrap();
        // A folder opens like a file, and reading it is an I/O error.
        let folder = dir.path().join("0000000000000007.mail");
        fs::create_dir(&folder).unwrap();
        for _ in 0..2 {
            let (store, found) = Store::open(dir.path()).unwrap();
            assert_eq!((found.len(), store.last()), (1, 7));
            assert!(foreign.with_extension("unread").is_file() && !foreign.exists());
            assert!(folder.with_extension("unread").is_dir() && !folder.exists());
        }
    }

    #[test]
    fn what_a_crash_cut_off_is_no_letter() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        let message = b"Subject: x\r\n\r\nbody\r\n";
        let path = store.write(1, &letter(), message).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, 50, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let (_, found) = Store::open(dir.path()).unwrap();
            assert!(found.is_empty() && !path.exists(), "{length}");
        }
        // A mark that is cut off counts as none.
        fs::write(&path, [&whole[..], b"\n{\"done\":{\"to\":[\"a@e\xc3"].concat()).unwrap();
        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found[0].to.len(), 2);
        // And the next one has a line of its own.
        mark(&path, done("a@e.org")).unwrap();
        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found[0].to, ["b@e.org"]);
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(read_message(&path).is_err());
    }
}
