//! What changed since the last snapshots, one record after the other: what makes a restart lose nothing.
//!
//! A file of records, each behind its length and a checksum; the last one may be cut off, and reading ends
//! there. Replaying a journal over a snapshot that is younger than it is harmless: of each thing the last
//! record tells all. The same form, as one file that is replaced, keeps alerts and groups ([`ALERTS`]), which
//! upstream does not save at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use model::wire::protobuf::cursor::{Bad, fields};

use super::alert::{Alert, Fingerprint, LabelSet};
use super::dispatch::{Change, GroupId, SavedGroup};
use super::protobuf::{message, packed, read_time, text, time, uint};
use super::snapshot::{self, Error, string};

/// The file of records since the last snapshots, and that of alerts and groups.
pub(super) const JOURNAL: &str = "journal";
pub(super) const ALERTS: &str = "alerts";

/// What both begin with.
const MAGIC: &[u8] = b"ferula alertmanager 1\n";
/// A record larger than this is not one of ours.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    /// `MeshSilence`, as in the snapshot.
    Silence(Vec<u8>),
    /// `MeshEntry`, as in the snapshot.
    Entry(Vec<u8>),
    Alert(Arc<Alert>),
    /// Only the times of an alert changed.
    Times {
        alert: Fingerprint,
        starts_at: Timestamp,
        ends_at: Timestamp,
        updated_at: Timestamp,
        is_timeout: bool,
    },
    Group(Change),
}

const SILENCE: u8 = 1;
const ENTRY: u8 = 2;
const ALERT: u8 = 3;
const TIMES: u8 = 4;
const DUE: u8 = 5;
const JOINED: u8 = 6;
const LEFT: u8 = 7;
const GONE: u8 = 8;

impl Record {
    /// Appends the record in its frame.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        match self {
            Self::Silence(bytes) => {
                body.push(SILENCE);
                body.extend_from_slice(bytes);
            }
            Self::Entry(bytes) => {
                body.push(ENTRY);
                body.extend_from_slice(bytes);
            }
            Self::Alert(alert) => {
                body.push(ALERT);
                encode_alert(alert, &mut body);
            }
            Self::Times { alert, starts_at, ends_at, updated_at, is_timeout } => {
                body.push(TIMES);
                uint(&mut body, 1, alert.0);
                time(&mut body, 2, *starts_at);
                time(&mut body, 3, *ends_at);
                time(&mut body, 4, *updated_at);
                uint(&mut body, 5, u64::from(*is_timeout));
            }
            Self::Group(change) => encode_change(change, &mut body),
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "alerts, silences and groups are bounded far below"
        )]
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&model::fnv1a([body.as_slice()]).to_le_bytes());
        out.extend_from_slice(&body);
    }

    fn decode(body: &[u8]) -> Result<Self, Bad> {
        let Some((&kind, body)) = body.split_first() else { return Err(Bad::End) };
        Ok(match kind {
            SILENCE => Self::Silence(body.to_vec()),
            ENTRY => Self::Entry(body.to_vec()),
            ALERT => Self::Alert(Arc::new(decode_alert(body)?)),
            TIMES => {
                let (mut alert, mut is_timeout) = (0, false);
                let mut times = [Timestamp::UNIX_EPOCH; 3];
                fields("Times", body, |field, wire, cursor| {
                    match field {
                        1 => alert = cursor.uint("alert", wire)?,
                        2 => times[0] = read_time(cursor.bytes("starts_at", wire)?)?,
                        3 => times[1] = read_time(cursor.bytes("ends_at", wire)?)?,
                        4 => times[2] = read_time(cursor.bytes("updated_at", wire)?)?,
                        5 => is_timeout = cursor.uint("is_timeout", wire)? != 0,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                let [starts_at, ends_at, updated_at] = times;
                Self::Times { alert: Fingerprint(alert), starts_at, ends_at, updated_at, is_timeout }
            }
            DUE | JOINED | LEFT | GONE => Self::Group(decode_change(kind, body)?),
            kind => return Err(Bad::WireType(kind)),
        })
    }
}

fn encode_alert(alert: &Alert, out: &mut Vec<u8>) {
    for (field, set) in [(1, &alert.labels), (2, &alert.annotations)] {
        for (name, value) in set {
            let mut pair = Vec::new();
            message(&mut pair, 1, name.as_bytes());
            message(&mut pair, 2, value.as_bytes());
            message(out, field, &pair);
        }
    }
    time(out, 3, alert.starts_at);
    time(out, 4, alert.ends_at);
    time(out, 5, alert.updated_at);
    text(out, 6, &alert.generator_url);
    uint(out, 7, u64::from(alert.is_timeout));
}

fn decode_alert(bytes: &[u8]) -> Result<Alert, Bad> {
    let mut alert = Alert {
        fingerprint: Fingerprint(0),
        labels: LabelSet::new(),
        annotations: LabelSet::new(),
        starts_at: Timestamp::UNIX_EPOCH,
        ends_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        generator_url: String::new(),
        is_timeout: false,
    };
    fields("Alert", bytes, |field, wire, cursor| {
        match field {
            1 | 2 => {
                let (mut name, mut value) = (String::new(), String::new());
                fields("Label", cursor.bytes("labels", wire)?, |field, wire, cursor| {
                    match field {
                        1 => name = string(cursor.bytes("name", wire)?),
                        2 => value = string(cursor.bytes("value", wire)?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                let set = if field == 1 { &mut alert.labels } else { &mut alert.annotations };
                set.insert(name, value);
            }
            3 => alert.starts_at = read_time(cursor.bytes("starts_at", wire)?)?,
            4 => alert.ends_at = read_time(cursor.bytes("ends_at", wire)?)?,
            5 => alert.updated_at = read_time(cursor.bytes("updated_at", wire)?)?,
            6 => alert.generator_url = string(cursor.bytes("generator_url", wire)?),
            7 => alert.is_timeout = cursor.uint("is_timeout", wire)? != 0,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    alert.fingerprint = Fingerprint::of(&alert.labels);
    Ok(alert)
}

fn encode_change(change: &Change, out: &mut Vec<u8>) {
    match change {
        Change::Due { id, due, timers } => {
            out.push(DUE);
            text(out, 1, &id.0);
            time(out, 2, *due);
            uint(out, 3, *timers);
        }
        Change::Joined { id, alert } => {
            out.push(JOINED);
            text(out, 1, &id.0);
            packed(out, 4, [alert.0]);
        }
        Change::Left { id, alerts } => {
            out.push(LEFT);
            text(out, 1, &id.0);
            packed(out, 4, alerts.iter().map(|alert| alert.0));
        }
        Change::Gone(id) => {
            out.push(GONE);
            text(out, 1, &id.0);
        }
    }
}

fn decode_change(kind: u8, bytes: &[u8]) -> Result<Change, Bad> {
    let (mut id, mut due, mut timers, mut alerts) = (String::new(), Timestamp::UNIX_EPOCH, 0, Vec::new());
    fields("Group", bytes, |field, wire, cursor| {
        match field {
            1 => id = string(cursor.bytes("id", wire)?),
            2 => due = read_time(cursor.bytes("due", wire)?)?,
            3 => timers = cursor.uint("timers", wire)?,
            4 => cursor.uints("alerts", wire, &mut alerts)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let id = GroupId(id.into());
    Ok(match kind {
        DUE => Change::Due { id, due, timers },
        JOINED => Change::Joined { id, alert: Fingerprint(alerts.first().copied().unwrap_or_default()) },
        LEFT => Change::Left { id, alerts: alerts.into_iter().map(Fingerprint).collect() },
        _ => Change::Gone(id),
    })
}

// === Reading ===

/// Alerts and groups as the records left them.
#[derive(Debug, Default)]
pub(super) struct Saved {
    pub(super) alerts: BTreeMap<Fingerprint, Arc<Alert>>,
    pub(super) groups: HashMap<GroupId, SavedGroup>,
}

impl Saved {
    /// Takes over a record that is not of silences or the notification log.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Silence(_) | Record::Entry(_) => {}
            Record::Alert(alert) => {
                self.alerts.insert(alert.fingerprint, alert);
            }
            Record::Times { alert, starts_at, ends_at, updated_at, is_timeout } => {
                if let Some(alert) = self.alerts.get_mut(&alert) {
                    *alert =
                        Arc::new(Alert { starts_at, ends_at, updated_at, is_timeout, ..(**alert).clone() });
                }
            }
            Record::Group(Change::Due { id, due, timers }) => {
                let group = self.groups.entry(id).or_insert_with(|| SavedGroup {
                    due,
                    timers,
                    members: std::collections::BTreeSet::new(),
                });
                (group.due, group.timers) = (due, timers);
            }
            Record::Group(Change::Joined { id, alert }) => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.members.insert(alert);
                }
            }
            Record::Group(Change::Left { id, alerts }) => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.members.retain(|member| !alerts.contains(member));
                }
            }
            Record::Group(Change::Gone(id)) => {
                self.groups.remove(&id);
            }
        }
    }
}

/// All records of a file up to the first that is not whole.
///
/// # Errors
/// The file cannot be read, or is of another kind.
pub(super) fn read(path: &Path) -> Result<Vec<Record>, Error> {
    let Some(bytes) = snapshot::read(path)? else { return Ok(Vec::new()) };
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        // It may have been cut off while it was made.
        if MAGIC.starts_with(&bytes) {
            return Ok(Vec::new());
        }
        return Err(Error::Corrupt { path: path.to_owned(), what: "not a file of ours".to_owned() });
    };
    let mut records = Vec::new();
    while !rest.is_empty() {
        if let Some((record, behind)) = split(rest) {
            records.push(record);
            rest = behind;
        } else {
            tracing::warn!(
                file = %path.display(),
                records = records.len(),
                unread_bytes = rest.len(),
                "the end of the file is not readable, as after a crash"
            );
            break;
        }
    }
    Ok(records)
}

fn split(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|n| *n <= RECORD_BYTES_MAX)?;
    let (body, rest) = rest.split_at_checked(length)?;
    if model::fnv1a([body]) != u64::from_le_bytes(*checksum) {
        return None;
    }
    Some((Record::decode(body).ok()?, rest))
}

/// A file of `records`, whole.
pub(super) fn file_of(records: impl Iterator<Item = Record>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    records.for_each(|record| record.encode_into(&mut bytes));
    bytes
}

// === Writing ===

/// The journal that is written to.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Journal {
    /// Begins an empty journal in place of the old one.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(JOURNAL);
        snapshot::write(&path, MAGIC)?;
        let io = |op| {
            let path = path.clone();
            move |source| Error::Io { op, path, source }
        };
        let mut file = OpenOptions::new().write(true).open(&path).map_err(io("open"))?;
        file.seek(SeekFrom::End(0)).map_err(io("seek in"))?;
        Ok(Self { path, file, size: MAGIC.len() as u64 })
    }

    /// Appends framed records and sees them onto the disk.
    ///
    /// # Errors
    /// They could not be written; the file is then as it was before, as far as it can be told.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(records).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // What stands half written would hide whatever comes behind it.
            let _ = self.file.set_len(self.size);
            let _ = self.file.seek(SeekFrom::Start(self.size));
            return Err(Error::Io { op: "write", path: self.path.clone(), source });
        }
        self.size += records.len() as u64;
        Ok(())
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests;
