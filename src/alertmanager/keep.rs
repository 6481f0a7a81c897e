//! What outlives the process: loading, saving as it happens, and the snapshots that keep the journal short.
//!
//! Silences and the notification log lie in upstream's files `silences` and `nflog`, alerts and groups in
//! `alerts`, and what changed since in `journal`. A change is in the journal within a moment, and before the
//! answer where somebody waits for one: a silence that was made, a message that was sent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::alert::Alert;
use super::clock::{after, until};
use super::dispatch::Change;
use super::journal::{self, ALERTS, JOURNAL, Journal, Record, Saved};
use super::nflog::{self, Entry, Memory};
use super::silence::{Silence, SilenceRecord};
use super::{Alertmanager, Error, State, snapshot};

/// Upstream's names.
const SILENCES: &str = "silences";
const LOG: &str = "nflog";
/// What our first versions wrote, and what the files are called once they have been taken over.
const OLD_SILENCES: &str = "silences.json";
const OLD_LOG: &str = "nflog.json";
const IMPORTED: &str = "json.imported";

/// A journal beyond this, and beyond twice what a snapshot takes, is replaced by one.
const JOURNAL_BYTES_MAX: u64 = 16 << 20;
/// More changes than this are not kept waiting for a disk that does not take them.
const UNSAVED_BYTES_MAX: usize = 256 << 20;

/// Changes on their way to the journal.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    records: Vec<u8>,
    is_enabled: bool,
    /// Changes were given up, or the journal is not whole: only a snapshot says how it is.
    needs_snapshot: bool,
    /// The size of the last snapshots.
    snapshot_bytes: u64,
}

impl Unsaved {
    pub(super) fn note(&mut self, record: &Record) {
        if self.is_enabled && !self.needs_snapshot {
            record.encode_into(&mut self.records);
            if self.records.len() > UNSAVED_BYTES_MAX {
                self.records = Vec::new();
                self.needs_snapshot = true;
            }
        }
    }
}

impl State {
    /// Everything that changed, as records.
    fn take_unsaved(&mut self, retention: Duration) -> Vec<u8> {
        for id in self.silences.take_changed() {
            if let Some(silence) = self.silences.get(&id) {
                let record = Record::Silence(snapshot::encode_silence(silence, retention));
                self.unsaved.note(&record);
            }
        }
        for change in self.dispatcher.take_changes() {
            self.unsaved.note(&Record::Group(change));
        }
        std::mem::take(&mut self.unsaved.records)
    }

    /// Notes a notification.
    pub(super) fn log_entry(&mut self, key: nflog::Key, entry: Entry) {
        self.unsaved.note(&Record::Entry(snapshot::encode_entry(&key, &entry)));
        self.log.put(key, entry);
    }

    /// Alerts and groups as one file. Alerts that are only in groups are resolved and yet to be told.
    fn alerts_file(&self) -> Vec<u8> {
        let in_groups = self.dispatcher.groups().flat_map(|group| group.alerts.values());
        let all: std::collections::BTreeMap<_, _> =
            in_groups.chain(self.store.iter()).map(|alert| (alert.fingerprint, Arc::clone(alert))).collect();
        let alerts = all.into_values().map(Record::Alert);
        let groups = self.dispatcher.to_saved().flat_map(|(id, group)| {
            let due = Change::Due { id: id.clone(), due: group.due, timers: group.timers };
            let joined = group.members.into_iter().map(move |alert| Change::Joined { id: id.clone(), alert });
            std::iter::once(due).chain(joined).map(Record::Group).collect::<Vec<_>>()
        });
        journal::file_of(alerts.chain(groups))
    }
}

/// Reads what was saved.
///
/// # Errors
/// A snapshot cannot be read.
pub(super) fn load(state: &mut State, dir: &Path, now: Timestamp) -> Result<(), Error> {
    let silences = snapshot::load(&dir.join(SILENCES), snapshot::decode_silence)?;
    let entries = snapshot::load(&dir.join(LOG), snapshot::decode_entry)?;
    if let Some(old) = snapshot::load_json::<Vec<SilenceRecord>>(&dir.join(OLD_SILENCES))? {
        for record in old {
            state.silences.restore(Silence::from_parts(record.into())?);
        }
    }
    if let Some(old) = snapshot::load_json(&dir.join(OLD_LOG))? {
        let entries = imported(old);
        entries.for_each(|(key, entry)| state.log.put(key, entry));
    }
    for silence in silences {
        state.silences.restore(silence);
    }
    for (key, entry) in entries {
        state.log.put(key, entry);
    }

    let mut saved = Saved::default();
    for name in [ALERTS, JOURNAL] {
        let path = dir.join(name);
        for record in journal::read(&path)? {
            let corrupt = |e: snapshot::Unreadable| snapshot::Error::Corrupt {
                path: path.clone(),
                what: e.to_string(),
            };
            match record {
                Record::Silence(bytes) => {
                    state.silences.restore(snapshot::decode_silence(&bytes).map_err(corrupt)?);
                }
                Record::Entry(bytes) => {
                    let (key, entry) = snapshot::decode_entry(&bytes).map_err(corrupt)?;
                    state.log.put(key, entry);
                }
                other => saved.apply(other),
            }
        }
    }
    restore(state, saved, now);
    state.log.collect_garbage(now);
    Ok(())
}

/// Alerts and groups take their places.
fn restore(state: &mut State, mut saved: Saved, now: Timestamp) {
    let alive_until = saved.alerts.values().map(|alert| alert.updated_at);
    let alive_until = alive_until.chain(state.log.iter().map(|(_, entry)| entry.at)).max();
    let down = alive_until.map_or(Duration::ZERO, |t| until(now, t));
    for alert in saved.alerts.values_mut() {
        // Nobody could prolong it while nobody was there to be told so.
        let fired = alive_until.is_some_and(|t| alert.ends_at > t);
        if fired && alert.is_resolved(now) {
            *alert = Arc::new(Alert { ends_at: after(alert.ends_at, down), ..(**alert).clone() });
        }
        state.inhibitor.put(alert);
    }
    state.dispatcher.restore(&saved.groups, saved.alerts.values(), now);
    for alert in saved.alerts.into_values() {
        state.store.restore(alert);
    }
    state.store.collect_garbage(now);
    if !state.store.is_empty() {
        tracing::info!(
            alerts = state.store.len(),
            groups = state.dispatcher.len(),
            down_for = ?down,
            "took up alerts and groups where they were left"
        );
    }
}

/// An entry of the notification log as our first versions wrote it.
#[derive(serde::Deserialize)]
struct OldEntry {
    #[serde(deserialize_with = "super::clock::required")]
    at: Timestamp,
    #[serde(deserialize_with = "super::clock::required")]
    expires_at: Timestamp,
    #[serde(default)]
    memory: Memory,
    firing: std::collections::BTreeSet<u64>,
    resolved: std::collections::BTreeSet<u64>,
}

/// Their keys were texts: `<group key>:<receiver>/<integration>/<index>`.
fn imported(old: std::collections::BTreeMap<String, OldEntry>) -> impl Iterator<Item = (nflog::Key, Entry)> {
    old.into_iter().filter_map(|(key, old)| {
        let (rest, index) = key.rsplit_once('/')?;
        let (rest, integration) = rest.rsplit_once('/')?;
        let (group, receiver) = rest.rsplit_once(':')?;
        let key = nflog::Key {
            group: group.to_owned(),
            receiver: receiver.to_owned(),
            integration: integration.to_owned(),
            index: index.parse().ok()?,
        };
        let OldEntry { at, expires_at, memory, firing, resolved } = old;
        Some((key, Entry { at, expires_at, firing, resolved, memory }))
    })
}

impl Alertmanager {
    /// Makes snapshots of what was loaded and begins a journal after them.
    pub(super) fn begin_journal(&self) -> Result<(), Error> {
        let Some(dir) = &self.options.data_dir else {
            // Nobody will ask for them.
            self.state.lock().dispatcher.take_changes();
            return Ok(());
        };
        self.state.lock().unsaved.is_enabled = true;
        self.write_snapshots(dir)?;
        for name in [OLD_SILENCES, OLD_LOG] {
            let path = dir.join(name);
            if path.exists()
                && let Err(error) = std::fs::rename(&path, path.with_extension(IMPORTED))
            {
                tracing::warn!(file = %path.display(), %error, "rename a file that was taken over");
            }
        }
        Ok(())
    }

    /// Writes what changed to the journal.
    pub(super) fn save(&self) {
        self.is_dirty.store(false, Ordering::Relaxed);
        let mut journal = self.journal.lock();
        let records = self.state.lock().take_unsaved(self.options.retention);
        let Some(journal) = journal.as_mut() else { return };
        if records.is_empty() {
            return;
        }
        if let Err(error) = journal.append(&records) {
            self.metrics.journal_errors.inc();
            tracing::error!(%error, "save changes of alerts, silences and notifications");
            self.put_back(records);
        }
    }

    fn put_back(&self, records: Vec<u8>) {
        let mut state = self.state.lock();
        // Those that came meanwhile are behind them.
        let newer = std::mem::replace(&mut state.unsaved.records, records);
        state.unsaved.records.extend_from_slice(&newer);
        self.is_dirty.store(true, Ordering::Relaxed);
    }

    /// Forgets what is old and writes snapshots.
    pub(super) fn maintain(&self) {
        let now = self.clock.now();
        let (silences, log) = (&self.metrics.silences, &self.metrics.log);
        for maintenance in [silences, log] {
            maintenance.runs.inc();
        }
        {
            let mut state = self.state.lock();
            let began = Instant::now();
            state.silences.collect_garbage(now, self.options.retention);
            silences.garbage.observe(began.elapsed());
            let began = Instant::now();
            state.log.collect_garbage(now);
            log.garbage.observe(began.elapsed());
        }
        let Some(dir) = &self.options.data_dir else {
            self.state.lock().dispatcher.take_changes();
            return;
        };
        if let Err(error) = self.write_snapshots(dir) {
            for maintenance in [silences, log] {
                maintenance.errors.inc();
            }
            tracing::error!(%error, "write snapshots");
        }
    }

    fn write_snapshots(&self, dir: &Path) -> Result<(), Error> {
        let mut journal = self.journal.lock();
        self.is_dirty.store(false, Ordering::Relaxed);
        let retention = self.options.retention;
        let began = Instant::now();
        let (mut silences, mut log) = (Vec::new(), Vec::new());
        let (unsaved, alerts) = {
            let mut state = self.state.lock();
            for silence in state.silences.iter() {
                snapshot::delimit(&mut silences, &snapshot::encode_silence(silence, retention));
            }
            for (key, entry) in state.log.iter() {
                snapshot::delimit(&mut log, &snapshot::encode_entry(key, entry));
            }
            (state.take_unsaved(retention), state.alerts_file())
        };
        // If a snapshot fails, the journal still tells everything.
        if let Some(journal) = journal.as_mut().filter(|_| !unsaved.is_empty())
            && let Err(error) = journal.append(&unsaved)
        {
            self.metrics.journal_errors.inc();
            self.put_back(unsaved);
            return Err(error.into());
        }
        for (name, bytes) in [(SILENCES, &silences), (LOG, &log), (ALERTS, &alerts)] {
            snapshot::write(&dir.join(name), bytes)?;
        }
        *journal = Some(Journal::create(dir)?);
        let mut state = self.state.lock();
        state.unsaved.needs_snapshot = false;
        state.unsaved.snapshot_bytes = (silences.len() + log.len() + alerts.len()) as u64;
        drop(state);
        for (maintenance, bytes) in [(&self.metrics.silences, &silences), (&self.metrics.log, &log)] {
            maintenance.snapshots.observe(began.elapsed());
            maintenance.snapshot_bytes.set(bytes.len() as f64);
        }
        Ok(())
    }

    /// Whether a snapshot is due for the journal's sake.
    pub(super) fn journal_is_long(&self) -> bool {
        let (needs_snapshot, snapshot_bytes) = {
            let state = self.state.lock();
            (state.unsaved.needs_snapshot, state.unsaved.snapshot_bytes)
        };
        // Whoever writes to it will ask again.
        let size = self.journal.try_lock().and_then(|journal| Some(journal.as_ref()?.size()));
        needs_snapshot || size.is_some_and(|size| size > JOURNAL_BYTES_MAX.max(2 * snapshot_bytes))
    }
}
