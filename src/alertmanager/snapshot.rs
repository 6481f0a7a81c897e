//! Silences and the notification log as files: those of upstream, byte for byte readable by either.
//!
//! A file is a sequence of protobuf messages, each behind its length. It is written to a temporary file,
//! synced and renamed over the old one, so that a crash leaves the old or the new.
//!
//! Compat: alertmanager `silence/silencepb`, `MeshSilence`, and `nflog/nflogpb`, `MeshEntry` (0.33 and 0.34).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use model::wire::protobuf::cursor::{Bad, Cursor, fields};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::alert::LabelSet;
use super::clock::after;
use super::nflog::{Datum, Entry, Key, Memory};
use super::protobuf::{self, chosen_double, chosen_int, message, packed, read_time, text, time, uint};
use super::silence::{Parts, Silence, SilenceMatcher};

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{op} {}: {source}", path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    #[error("read {}: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
}

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Protobuf(#[from] Bad),
    #[error("{0}")]
    Other(String),
}

// === Files ===

/// The whole of a file; `None` when there is none.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { op: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file in place of the old one.
///
/// # Errors
/// The file cannot be written; the old one stays.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let io = |op: &'static str| {
        let path = path.to_owned();
        move |source| Error::Io { op, path, source }
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(io("create folder of"))?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(io("create"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write"))?;
    fs::rename(&temporary, path).map_err(io("rename"))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync folder of"))
}

/// The messages of a snapshot, each read by `decode`.
///
/// # Errors
/// The file cannot be read or is not such a snapshot.
pub(super) fn load<T>(path: &Path, decode: fn(&[u8]) -> Result<T, Unreadable>) -> Result<Vec<T>, Error> {
    let Some(bytes) = read(path)? else { return Ok(Vec::new()) };
    let corrupt = |what: String| Error::Corrupt { path: path.to_owned(), what };
    let mut cursor = Cursor::new(&bytes);
    let mut all = Vec::new();
    while !cursor.is_empty() {
        let one = cursor.delimited().map_err(Unreadable::from).and_then(decode);
        all.push(one.map_err(|e| corrupt(format!("message {}: {e}", all.len())))?);
    }
    Ok(all)
}

/// Appends a message behind its length.
pub(super) fn delimit(out: &mut Vec<u8>, body: &[u8]) {
    protobuf::varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// What a file of our first versions holds: `{"version": 1, "data": …}`.
///
/// # Errors
/// The file cannot be read, or is not one of ours.
pub(super) fn load_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    #[derive(Deserialize)]
    struct In<T> {
        version: u32,
        data: T,
    }
    let Some(bytes) = read(path)? else { return Ok(None) };
    let corrupt = |what: String| Error::Corrupt { path: path.to_owned(), what };
    let file: In<T> = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
    if file.version != 1 {
        return Err(corrupt(format!("version {} is not 1", file.version)));
    }
    Ok(Some(file.data))
}

// === Silences ===

/// `MeshSilence`.
pub(super) fn encode_silence(silence: &Silence, retention: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, &silence.id);
    // Older versions know but one set.
    for matcher in silence.sets.first().into_iter().flatten() {
        message(&mut out, 2, &encode_matcher(matcher));
    }
    time(&mut out, 3, silence.starts_at);
    time(&mut out, 4, silence.ends_at);
    time(&mut out, 5, silence.updated_at);
    text(&mut out, 8, &silence.created_by);
    text(&mut out, 9, &silence.comment);
    for (name, value) in &silence.annotations {
        message(&mut out, 10, &encode_pair(name, value));
    }
    for (field, sets) in [(11, &silence.sets), (12, &silence.receiver_sets)] {
        for set in sets {
            let mut matchers = Vec::new();
            for matcher in set {
                message(&mut matchers, 1, &encode_matcher(matcher));
            }
            message(&mut out, field, &matchers);
        }
    }
    let mut mesh = Vec::new();
    message(&mut mesh, 1, &out);
    time(&mut mesh, 2, after(silence.ends_at, retention));
    mesh
}

fn encode_matcher(matcher: &SilenceMatcher) -> Vec<u8> {
    let mut out = Vec::new();
    uint(&mut out, 1, u64::from(matcher.is_regex) | u64::from(!matcher.is_equal) << 1);
    text(&mut out, 2, &matcher.name);
    text(&mut out, 3, &matcher.value);
    out
}

fn encode_pair(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    // Entries of maps are written whole.
    message(&mut out, 1, name.as_bytes());
    message(&mut out, 2, value.as_bytes());
    out
}

pub(super) fn decode_silence(bytes: &[u8]) -> Result<Silence, Unreadable> {
    let mut silence = None;
    fields("MeshSilence", bytes, |field, wire, cursor| {
        if field == 1 {
            silence = Some(cursor.bytes("silence", wire)?);
        }
        Ok(field == 1)
    })?;
    let bytes = silence.ok_or_else(|| Unreadable::Other("invalid state".to_owned()))?;
    let mut parts = Parts {
        id: String::new(),
        sets: Vec::new(),
        receiver_sets: Vec::new(),
        starts_at: Timestamp::UNIX_EPOCH,
        ends_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        created_by: String::new(),
        comment: String::new(),
        annotations: LabelSet::new(),
    };
    let mut old_matchers = Vec::new();
    let mut old_comment = None;
    fields("Silence", bytes, |field, wire, cursor| {
        match field {
            1 => parts.id = string(cursor.bytes("id", wire)?),
            2 => old_matchers.push(decode_matcher(cursor.bytes("matchers", wire)?)?),
            3 => parts.starts_at = read_time(cursor.bytes("starts_at", wire)?)?,
            4 => parts.ends_at = read_time(cursor.bytes("ends_at", wire)?)?,
            5 => parts.updated_at = read_time(cursor.bytes("updated_at", wire)?)?,
            7 => {
                let comment = cursor.bytes("comments", wire)?;
                old_comment.get_or_insert(decode_strings("Comment", comment)?);
            }
            8 => parts.created_by = string(cursor.bytes("created_by", wire)?),
            9 => parts.comment = string(cursor.bytes("comment", wire)?),
            10 => {
                let (name, value) = decode_strings("annotations", cursor.bytes("annotations", wire)?)?;
                parts.annotations.insert(name, value);
            }
            11 => parts.sets.push(decode_set(cursor.bytes("matcher_sets", wire)?)?),
            12 => parts.receiver_sets.push(decode_set(cursor.bytes("receiver_matcher_sets", wire)?)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if parts.sets.is_empty() && !old_matchers.is_empty() {
        parts.sets.push(old_matchers);
    }
    // Very old versions had a list of comments.
    if let Some((author, comment)) = old_comment {
        (parts.created_by, parts.comment) = (author, comment);
    }
    Silence::from_parts(parts).map_err(|e| Unreadable::Other(e.to_string()))
}

fn decode_set(bytes: &[u8]) -> Result<Vec<SilenceMatcher>, Bad> {
    let mut set = Vec::new();
    fields("MatcherSet", bytes, |field, wire, cursor| {
        if field == 1 {
            set.push(decode_matcher(cursor.bytes("matchers", wire)?)?);
        }
        Ok(field == 1)
    })?;
    Ok(set)
}

fn decode_matcher(bytes: &[u8]) -> Result<SilenceMatcher, Bad> {
    let mut kind = 0;
    let (mut name, mut value) = (String::new(), String::new());
    fields("Matcher", bytes, |field, wire, cursor| {
        match field {
            1 => kind = cursor.uint("type", wire)?,
            2 => name = string(cursor.bytes("name", wire)?),
            3 => value = string(cursor.bytes("pattern", wire)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(SilenceMatcher { is_regex: kind & 1 != 0, is_equal: kind & 2 == 0, name, value })
}

/// The strings of fields 1 and 2.
fn decode_strings(name: &'static str, bytes: &[u8]) -> Result<(String, String), Bad> {
    let mut pair = (String::new(), String::new());
    fields(name, bytes, |field, wire, cursor| {
        match field {
            1 => pair.0 = string(cursor.bytes("key", wire)?),
            2 => pair.1 = string(cursor.bytes("value", wire)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(pair)
}

pub(super) fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// === The notification log ===

/// `MeshEntry`.
pub(super) fn encode_entry(key: &Key, entry: &Entry) -> Vec<u8> {
    let mut receiver = Vec::new();
    text(&mut receiver, 1, &key.receiver);
    text(&mut receiver, 2, &key.integration);
    uint(&mut receiver, 3, u64::from(key.index));
    let mut out = Vec::new();
    text(&mut out, 1, &key.group);
    message(&mut out, 2, &receiver);
    time(&mut out, 5, entry.at);
    packed(&mut out, 6, entry.firing.iter().copied());
    packed(&mut out, 7, entry.resolved.iter().copied());
    for (name, datum) in &entry.memory {
        let mut value = Vec::new();
        match datum {
            Datum::Text(text) => message(&mut value, 1, text.as_bytes()),
            Datum::Int(v) => chosen_int(&mut value, 2, *v),
            Datum::Double(v) => chosen_double(&mut value, 3, *v),
        }
        let mut pair = Vec::new();
        message(&mut pair, 1, name.as_bytes());
        message(&mut pair, 2, &value);
        message(&mut out, 8, &pair);
    }
    let mut mesh = Vec::new();
    message(&mut mesh, 1, &out);
    time(&mut mesh, 2, entry.expires_at);
    mesh
}

pub(super) fn decode_entry(bytes: &[u8]) -> Result<(Key, Entry), Unreadable> {
    let mut expires_at = Timestamp::UNIX_EPOCH;
    let mut body = None;
    fields("MeshEntry", bytes, |field, wire, cursor| {
        match field {
            1 => body = Some(cursor.bytes("entry", wire)?),
            2 => expires_at = read_time(cursor.bytes("expires_at", wire)?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let body = body.ok_or_else(|| Unreadable::Other("invalid state".to_owned()))?;
    let mut key = None;
    let mut group = String::new();
    let mut at = Timestamp::UNIX_EPOCH;
    let (mut firing, mut resolved, mut memory) = (Vec::new(), Vec::new(), Memory::new());
    fields("Entry", body, |field, wire, cursor| {
        match field {
            1 => group = string(cursor.bytes("group_key", wire)?),
            2 => key = Some(decode_receiver(cursor.bytes("receiver", wire)?)?),
            5 => at = read_time(cursor.bytes("timestamp", wire)?)?,
            6 => cursor.uints("firing_alerts", wire, &mut firing)?,
            7 => cursor.uints("resolved_alerts", wire, &mut resolved)?,
            8 => {
                let (name, datum) = decode_datum(cursor.bytes("receiver_data", wire)?)?;
                memory.extend(datum.map(|datum| (name, datum)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let key = key.ok_or_else(|| Unreadable::Other("invalid state".to_owned()))?;
    let (firing, resolved) = (firing.into_iter().collect(), resolved.into_iter().collect());
    Ok((Key { group, ..key }, Entry { at, expires_at, firing, resolved, memory }))
}

fn decode_receiver(bytes: &[u8]) -> Result<Key, Bad> {
    let mut key = Key { group: String::new(), receiver: String::new(), integration: String::new(), index: 0 };
    fields("Receiver", bytes, |field, wire, cursor| {
        match field {
            1 => key.receiver = string(cursor.bytes("group_name", wire)?),
            2 => key.integration = string(cursor.bytes("integration", wire)?),
            3 => key.index = u32::try_from(cursor.uint("idx", wire)?).map_err(|_| Bad::Overflow)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(key)
}

fn decode_datum(bytes: &[u8]) -> Result<(String, Option<Datum>), Bad> {
    let (mut name, mut datum) = (String::new(), None);
    fields("ReceiverDataEntry", bytes, |field, wire, cursor| {
        match field {
            1 => name = string(cursor.bytes("key", wire)?),
            2 => fields("ReceiverDataValue", cursor.bytes("value", wire)?, |field, wire, cursor| {
                datum = Some(match field {
                    1 => Datum::Text(string(cursor.bytes("str_val", wire)?)),
                    2 => Datum::Int(cursor.uint("int_val", wire)?.cast_signed()),
                    3 => Datum::Double(cursor.double("double_val", wire)?),
                    _ => return Ok(false),
                });
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((name, datum))
}

#[cfg(test)]
mod tests;
