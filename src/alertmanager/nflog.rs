//! The notification log: what was told to whom, so that nobody is told twice.
//!
//! Compat: alertmanager `nflog`, and `notify`, `DedupStage` for the decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::alert::LabelSet;
use super::clock::{after, before};

/// What an entry is about: a group, and an integration that is told of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub group: String,
    pub receiver: String,
    pub integration: String,
    pub index: u32,
}

/// As upstream's state key.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, receiver, integration, index } = self;
        write!(f, "{group}:{receiver}/{integration}/{index}")
    }
}

/// The last notification of a group to one integration.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub at: Timestamp,
    pub expires_at: Timestamp,
    /// Hashes of the alerts that were told as firing, and as resolved.
    pub firing: BTreeSet<u64>,
    pub resolved: BTreeSet<u64>,
    /// What the integration wants to find again at its next message of this life of the group.
    pub memory: Memory,
}

/// By which an alert is known in the log. Compat: alertmanager `notify`, `hashAlert`.
pub fn hash(labels: &LabelSet) -> u64 {
    let mut bytes = Vec::new();
    for (name, value) in labels {
        for text in [name, value] {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0xff);
        }
    }
    model::xxhash::xxh64(&bytes)
}

/// Values by name that an integration keeps from message to message. Compat: `receiver_data`.
pub type Memory = BTreeMap<String, Datum>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Datum {
    Int(i64),
    Double(f64),
    Text(String),
}

/// Why a notification is sent, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    First,
    NewAlerts,
    AllResolved,
    SomeResolved,
    Repeat,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first notification",
            Self::NewAlerts => "new alerts added",
            Self::AllResolved => "all alerts resolved",
            Self::SomeResolved => "some alerts resolved",
            Self::Repeat => "repeat interval elapsed",
        }
    }
}

/// Whether to send, after the last entry, that these alerts fire and those are resolved.
pub fn decide(
    entry: Option<&Entry>,
    firing: &BTreeSet<u64>,
    resolved: &BTreeSet<u64>,
    send_resolved: bool,
    repeat_interval: Duration,
    now: Timestamp,
) -> Option<Reason> {
    let Some(entry) = entry else {
        return (!firing.is_empty()).then_some(Reason::First);
    };
    if !firing.is_subset(&entry.firing) {
        return Some(if entry.firing.is_empty() { Reason::First } else { Reason::NewAlerts });
    }
    if firing.is_empty() {
        return (!entry.firing.is_empty()).then_some(Reason::AllResolved);
    }
    if send_resolved && !resolved.is_subset(&entry.resolved) {
        return Some(Reason::SomeResolved);
    }
    (entry.at < before(now, repeat_interval)).then_some(Reason::Repeat)
}

/// All entries.
#[derive(Debug, Default)]
pub struct Log {
    entries: BTreeMap<Key, Entry>,
}

impl Log {
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Notes a notification. An older one does not replace a newer one.
    pub fn put(&mut self, key: Key, entry: Entry) {
        match self.entries.get_mut(&key) {
            Some(known) if known.at > entry.at => {}
            Some(known) => *known = entry,
            None => {
                self.entries.insert(key, entry);
            }
        }
    }

    /// When an entry of `at` is forgotten: after twice the repeat interval, or the retention.
    pub fn expiry(at: Timestamp, repeat_interval: Duration, retention: Duration) -> Timestamp {
        let repeated = repeat_interval.saturating_mul(2);
        after(at, if repeated.is_zero() { retention } else { retention.min(repeated) })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    pub fn collect_garbage(&mut self, now: Timestamp) {
        self.entries.retain(|_, entry| entry.expires_at > now);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
