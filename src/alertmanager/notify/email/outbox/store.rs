//! Letters on disk: a file each, in a folder of their own.
//!
//! A file is a line of JSON, the message, and lines of JSON about what became of it. It is written and
//! synced before anybody is told that the letter is safe, and grows by a synced line whenever a server has
//! accepted the message for a recipient. What a crash cut off in its middle was never called safe.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alertmanager::clock;
use crate::alertmanager::nflog::Memory;

const VERSION: u32 = 1;
const SUFFIX: &str = "mail";
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
    /// Nothing is to be done any more for these recipients.
    Done { to: Vec<String> },
    /// Nor for any.
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
    pub(super) delivered_at: Option<Timestamp>,
}

/// The folder of letters.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the folder, which is made when missing; the letters in it, oldest first.
    ///
    /// # Errors
    /// The folder cannot be made or listed. A file that is none of ours, or cut off, is left out.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Vec<Found>)> {
        fs::create_dir_all(dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(number) = number(&path) else { continue };
            match read(&path, number) {
                Ok(letter) => found.push(letter),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "removing an unfinished e-mail of the outbox");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        found.sort_by_key(|letter| letter.number);
        Ok((Self { dir: dir.to_owned() }, found))
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

/// The message of a letter.
pub(super) fn read_message(path: &Path) -> io::Result<Vec<u8>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (head, _) = read_head(&mut reader)?;
    let mut message = vec![0; usize::try_from(head.bytes).map_err(io::Error::other)?];
    reader.read_exact(&mut message)?;
    if sha256(&message) != head.sha256 {
        return Err(io::Error::other("message is damaged"));
    }
    Ok(message)
}

/// Notes that nothing is to be done any more for `to`, and whether that was all.
pub(super) fn mark_done(path: &Path, to: &[String], delivered_at: Option<Timestamp>) -> io::Result<()> {
    let mut lines = String::from("\n");
    let mut put = |mark: Mark| {
        lines.push_str(&serde_json::to_string(&mark).unwrap_or_default());
        lines.push('\n');
    };
    put(Mark::Done { to: to.to_vec() });
    if let Some(at) = delivered_at {
        put(Mark::Delivered { at });
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(lines.as_bytes())?;
    file.sync_data()
}

fn number(path: &Path) -> Option<u64> {
    if path.extension()? != SUFFIX {
        return None;
    }
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(Head, u64)> {
    let mut line = Vec::new();
    reader.take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    let head: Head = serde_json::from_slice(&line).map_err(io::Error::other)?;
    if head.version != VERSION {
        return Err(io::Error::other(format!("version {} is not {VERSION}", head.version)));
    }
    Ok((head, line.len() as u64))
}

fn read(path: &Path, number: u64) -> io::Result<Found> {
    let mut reader = BufReader::new(File::open(path)?);
    let (head, length) = read_head(&mut reader)?;
    let end = length + head.bytes;
    if reader.get_ref().metadata()?.len() < end {
        return Err(io::Error::other("message is cut off"));
    }
    reader.seek(SeekFrom::Start(end))?;
    let mut to = head.letter.to.clone();
    let mut delivered_at = None;
    for line in reader.lines() {
        match serde_json::from_str(&line?) {
            Ok(Mark::Done { to: done }) => to.retain(|to| !done.contains(to)),
            Ok(Mark::Delivered { at }) => delivered_at = Some(at),
            // An empty line, or one that a crash cut off.
            Err(_) => {}
        }
    }
    let path = path.to_owned();
    Ok(Found { number, path, letter: head.letter, bytes: head.bytes, to, delivered_at })
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

    #[test]
    fn letters_are_found_again_with_what_became_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let (store, found) = Store::open(dir.path()).unwrap();
        assert!(found.is_empty());
        let message = b"Subject: x\r\n\r\nbody\r\n".repeat(100);
        let path = store.write(7, &letter(), &message).unwrap();
        store.write(3, &letter(), &message).unwrap();
        assert!(store.write(3, &letter(), &message).is_err(), "a number is used once");
        mark_done(&path, &["a@e.org".to_owned()], None).unwrap();

        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found.iter().map(|found| found.number).collect::<Vec<_>>(), [3, 7]);
        assert_eq!((found[0].to.len(), found[1].to.as_slice()), (2, &["b@e.org".to_owned()][..]));
        assert_eq!((&found[1].letter, found[1].delivered_at), (&letter(), None));
        assert_eq!(read_message(&path).unwrap(), message);
        mark_done(&path, &["b@e.org".to_owned()], Some(Timestamp::UNIX_EPOCH)).unwrap();
        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found[1].delivered_at, Some(Timestamp::UNIX_EPOCH));
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
        fs::write(&path, [&whole[..], b"\n{\"done\":{\"to\":[\"a@e"].concat()).unwrap();
        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found[0].to.len(), 2);
        // And the next one has a line of its own.
        mark_done(&path, &["a@e.org".to_owned()], None).unwrap();
        let (_, found) = Store::open(dir.path()).unwrap();
        assert_eq!(found[0].to, ["b@e.org"]);
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(read_message(&path).is_err());
    }
}
