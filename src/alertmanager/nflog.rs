//! The notification log: what was told to whom, so that nobody is told twice.
//!
//! Compat: alertmanager `nflog`, and `notify`, `DedupStage` for the decision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::{self, after, before};

/// The last notification of a group to one integration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(serialize_with = "clock::nanos", deserialize_with = "clock::required")]
    pub at: Timestamp,
    #[serde(serialize_with = "clock::nanos", deserialize_with = "clock::required")]
    pub expires_at: Timestamp,
    /// Fingerprints of the alerts that were told as firing, and as resolved.
    pub firing: BTreeSet<u64>,
    pub resolved: BTreeSet<u64>,
    /// What the integration wants to find again at its next message of this life of the group.
    #[serde(default)]
    pub memory: Memory,
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

/// All entries, by group key and integration.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Log {
    entries: BTreeMap<String, Entry>,
}

impl Log {
    /// The key of an entry: `<group key>:<receiver>/<integration>/<index>`.
    pub fn key(group: &str, receiver: &str, integration: &str, index: usize) -> String {
        format!("{group}:{receiver}/{integration}/{index}")
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Notes a notification; it is forgotten after twice the repeat interval, or the retention.
    pub fn put(&mut self, key: String, mut entry: Entry, repeat_interval: Duration, retention: Duration) {
        entry.expires_at = after(entry.at, retention.min(repeat_interval.saturating_mul(2)));
        self.entries.insert(key, entry);
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
