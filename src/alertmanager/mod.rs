//! The built-in Alertmanager: alerts in, grouped, inhibited, silenced and deduplicated messages out.
//!
//! [`Alertmanager::put`] takes alerts, from our own rules or over HTTP alike; [`Alertmanager::run`] sends
//! what is due until it is told to stop (`pipeline` is the way of one group); `query` answers API v2, and
//! `keep` sees to it that a restart loses nothing. The logic is sync and is told the time; only the sending is
//! async. One lock guards all state and is never held across a send. A cluster is not here.
//!
//! Compat: alertmanager 0.34.

pub mod actions;
pub mod alert;
pub mod api;
mod chronicle;
pub mod clock;
pub mod dispatch;
pub mod inhibit;
pub mod insight;
mod journal;
mod keep;
pub mod links;
mod metrics;
pub mod nflog;
pub mod notify;
mod pipeline;
pub mod posted;
mod protobuf;
mod query;
pub mod route;
pub mod silence;
mod snapshot;
pub mod stage;
pub mod store;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use config::alertmanager::Config;
use futures_util::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use alert::Alert;
pub use alert::PostedAlert;
use api::SilenceId;
use clock::until;
pub use clock::{Clock, SystemClock};
use dispatch::Dispatcher;
use inhibit::Inhibitor;
use insight::Insight;
use journal::{Journal, Record};
use links::Signer;
use metrics::Metrics;
use nflog::{Entry, Log, Memory};
use notify::email::outbox::Outbox;
use notify::templates::Templates;
use route::Routes;
pub use silence::SilenceError;
use silence::{PostedSilence, Silences};
use store::{Put, Store};

use crate::story;

/// How long a change may wait to be written to the journal.
const SAVE_DELAY: Duration = Duration::from_millis(200);
/// How long messages on their way may take when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// E-mails on their way, in the folder of the Alertmanager.
const OUTBOX_DIR: &str = "outbox";

/// What is not in the configuration file.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of snapshots and journal, made when missing; without one nothing outlives a restart.
    pub data_dir: Option<PathBuf>,
    /// Where links in messages lead, without a slash at the end.
    pub external_url: String,
    /// How long expired silences and old notifications are remembered.
    pub retention: Duration,
    /// How often snapshots are written and what is forgotten is dropped.
    pub maintenance_interval: Duration,
    /// How often alerts that have ended are forgotten.
    pub gc_interval: Duration,
    /// The most firing alerts of one `alertname`; 0 for no limit.
    pub alerts_per_name_max: usize,
    /// The most groups of alerts; 0 for no limit.
    pub groups_max: usize,
    /// The most silences, expired ones included, and the largest; 0 for no limit.
    pub silences_max: usize,
    pub silence_bytes_max: usize,
    /// Changes of silences are logged.
    pub logs_silences: bool,
    /// Nothing is told in the first moments after a start.
    pub start_delay: Duration,
    pub version: api::VersionInfo,
    /// Hears what becomes of every alert.
    pub story: Option<Arc<story::Journal>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: None,
            external_url: String::new(),
            retention: Duration::from_hours(120),
            maintenance_interval: Duration::from_mins(15),
            gc_interval: Duration::from_mins(30),
            alerts_per_name_max: 0,
            groups_max: 0,
            silences_max: 0,
            silence_bytes_max: 0,
            logs_silences: false,
            start_delay: Duration::ZERO,
            version: api::VersionInfo::default(),
            story: None,
        }
    }
}

/// Why an Alertmanager could not be set up or reloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("read template file {}: {source}", path.display())]
    TemplateFile { path: PathBuf, source: std::io::Error },
    #[error("parse templates: {}", .0.placed())]
    Template(#[from] config::template::Error),
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    #[error("load silences: {0}")]
    Silences(#[from] SilenceError),
    #[error("read the keys of links: {0}")]
    Links(std::io::Error),
}

/// The refused ones of a batch, one message a line; the others were taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(String);

/// The built-in Alertmanager.
pub struct Alertmanager {
    clock: Arc<dyn Clock>,
    options: Options,
    started_at: Timestamp,
    metrics: Metrics,
    state: Mutex<State>,
    wake: Notify,
    outbox: Arc<Outbox>,
    /// Held while files are written, so that the older state never replaces the newer; taken before the lock of
    /// the state. `None` until there is a journal, and without a folder for ever.
    journal: Mutex<Option<Journal>>,
    /// Changes wait to be written.
    is_dirty: AtomicBool,
    signer: Arc<Signer>,
    /// What knows more of alerts; set once the rest of the server is there.
    insight: OnceLock<Arc<dyn Insight>>,
}

struct State {
    config: Arc<Config>,
    templates: Arc<Templates>,
    store: Store,
    dispatcher: Dispatcher,
    inhibitor: Inhibitor,
    silences: Silences,
    log: Log,
    unsaved: keep::Unsaved,
}

impl Alertmanager {
    /// Sets up from a loaded configuration and from what was saved.
    ///
    /// # Errors
    /// A template or a snapshot is not readable.
    pub fn new(config: Config, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        let now = clock.now();
        let routes = Arc::new(Routes::new(&config));
        let starts_at = clock::after(now, options.start_delay);
        let mut state = State {
            templates: Arc::new(load_templates(&config)?),
            store: Store::new(options.alerts_per_name_max),
            dispatcher: Dispatcher::new(routes, starts_at, options.groups_max),
            inhibitor: Inhibitor::new(&config.inhibit_rules),
            silences: Silences::default(),
            log: Log::default(),
            unsaved: keep::Unsaved::default(),
            config: Arc::new(config),
        };
        if let Some(dir) = &options.data_dir {
            keep::load(&mut state, dir, now)?;
        }
        let outbox_dir = options.data_dir.as_ref().map(|dir| dir.join(OUTBOX_DIR));
        let outbox = Outbox::open(outbox_dir.as_deref(), Arc::clone(&clock));
        outbox.settle(state.log.iter());
        outbox.apply(state.config.receivers.iter().map(AsRef::as_ref));
        let signer = Arc::new(Signer::open(options.data_dir.as_deref()).map_err(Error::Links)?);
        let manager = Arc::new(Self {
            started_at: now,
            clock,
            options,
            metrics: Metrics::default(),
            state: Mutex::new(state),
            wake: Notify::new(),
            outbox,
            journal: Mutex::new(None),
            is_dirty: AtomicBool::new(false),
            signer,
            insight: OnceLock::new(),
        });
        manager.begin_journal()?;
        Ok(manager)
    }

    /// Lets messages ask what the server knows of their alerts; the first who answers stays.
    pub fn connect(&self, insight: Arc<dyn Insight>) {
        // A second one has nobody to answer.
        let _ = self.insight.set(insight);
    }

    /// Goes over to another configuration. Alerts find their routes anew; groups whose routes remain keep
    /// their timers, what is on its way to a receiver arrives, and the notification log keeps from telling
    /// twice.
    ///
    /// # Errors
    /// A template is not readable; the old configuration stays.
    pub fn apply(&self, config: Config) -> Result<(), Error> {
        let templates = Arc::new(load_templates(&config)?);
        let routes = Arc::new(Routes::new(&config));
        let mut inhibitor = Inhibitor::new(&config.inhibit_rules);
        let now = self.clock.now();
        self.outbox.apply(config.receivers.iter().map(AsRef::as_ref));
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            state.store.iter().for_each(|alert| inhibitor.put(alert));
            state.inhibitor = inhibitor;
            state.templates = templates;
            state.config = Arc::new(config);
            state.dispatcher.reload(routes, state.store.iter(), now);
        }
        self.note_changes();
        Ok(())
    }

    /// Takes alerts.
    ///
    /// # Errors
    /// Some were refused; the others are taken all the same.
    pub fn put(&self, alerts: Vec<PostedAlert>) -> Result<(), Rejected> {
        let now = self.clock.now();
        let mut errors = Vec::new();
        {
            let mut guard = self.state.lock();
            let timeout = guard.config.resolve_timeout;
            for posted in alerts {
                let is_resolved = posted.ends_at.is_some_and(|ends_at| ends_at <= now);
                let received =
                    if is_resolved { &self.metrics.received_resolved } else { &self.metrics.received_firing };
                received.inc();
                let taken = Alert::accept(posted, now, timeout)
                    .and_then(|alert| guard.store.put(alert, now))
                    .map(|put| self.dispatch(&mut guard, put, now));
                if let Err(e) = taken {
                    self.metrics.invalid.inc();
                    errors.push(e.to_string());
                }
            }
        }
        self.note_changes();
        if errors.is_empty() { Ok(()) } else { Err(Rejected(errors.join("\n"))) }
    }

    fn dispatch(&self, state: &mut State, put: Put, now: Timestamp) {
        let began = Instant::now();
        let (alert, record) = match put {
            Put::New(alert) | Put::Changed(alert) => (Arc::clone(&alert), Record::Alert(alert)),
            Put::Prolonged(alert) => {
                let record = Record::Times {
                    alert: alert.fingerprint,
                    starts_at: alert.starts_at,
                    ends_at: alert.ends_at,
                    updated_at: alert.updated_at,
                    is_timeout: alert.is_timeout,
                };
                (alert, record)
            }
            Put::Limited => {
                self.metrics.limited.inc();
                return;
            }
        };
        state.unsaved.note(&record);
        state.inhibitor.put(&alert);
        let story = self.options.story.as_deref();
        let arrival = chronicle::Arrival::of(story, &state.dispatcher, &alert);
        state.dispatcher.insert(&alert, now);
        arrival.tell(story, &state.dispatcher, &alert, now);
        self.metrics.dispatched.observe(began.elapsed());
    }

    /// Wakes whoever saves and sends.
    fn note_changes(&self) {
        self.is_dirty.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Sends what is due until `shutdown`; then lets messages on their way arrive, for a moment, and saves.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut flushes = JoinSet::new();
        let started = self.clock.now();
        let mut next_gc = clock::after(started, self.options.gc_interval);
        let mut next_maintenance = clock::after(started, self.options.maintenance_interval);
        let mut save_at = None;
        self.outbox.resume();
        let mut last = started;
        while !shutdown.is_cancelled() {
            let now = self.clock.now();
            if now < last {
                self.state.lock().dispatcher.clamp(now);
                (next_gc, next_maintenance, save_at) = (now, now, save_at.map(|_| now));
            }
            last = now;
            if next_gc <= now {
                self.forget_alerts(now);
                next_gc = clock::after(now, self.options.gc_interval);
            }
            if next_maintenance <= now || self.journal_is_long() {
                self.off_thread(Self::maintain).await;
                next_maintenance = clock::after(now, self.options.maintenance_interval);
            }
            self.take_back_lost();
            let due = self.state.lock().dispatcher.take_due(now);
            self.is_dirty.fetch_or(!due.is_empty(), Ordering::Relaxed);
            for flush in due {
                let manager = Arc::clone(&self);
                flushes.spawn(async move {
                    let id = flush.id.clone();
                    if AssertUnwindSafe(manager.flush(flush)).catch_unwind().await.is_err() {
                        tracing::error!(group = &*id.0, "BUG: a flush panicked, the group is tried again");
                        manager.state.lock().dispatcher.release(&id);
                        manager.note_changes();
                    }
                });
            }
            while flushes.try_join_next().is_some() {}
            if save_at.is_some_and(|t| t <= now) {
                self.off_thread(Self::save).await;
                save_at = None;
            }
            if self.is_dirty.load(Ordering::Relaxed) && save_at.is_none() {
                save_at = Some(clock::after(now, SAVE_DELAY));
            }
            let next_due = self.state.lock().dispatcher.next_due();
            let times = [Some(next_gc), Some(next_maintenance), next_due, save_at];
            let next = times.into_iter().flatten().min().unwrap_or(next_gc);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.wake.notified() => {}
                () = self.outbox.has_lost() => {}
                () = tokio::time::sleep(until(next, now)) => {}
            }
        }
        self.outbox.stop();
        let drain = async { while flushes.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drain).await.is_err() {
            tracing::warn!(unfinished = flushes.len(), "notifications cut off by shutdown");
        }
        self.outbox.stopped().await;
        self.take_back_lost();
        self.off_thread(Self::maintain).await;
    }

    /// Forgets that groups were told by e-mails that were lost afterwards, so that they are told again.
    fn take_back_lost(&self) {
        for lost in self.outbox.take_lost() {
            let mut state = self.state.lock();
            if let Some(entry) = state.log.get(&lost.key)
                && lost.is_last_of(&entry.memory)
            {
                // An entry of nothing: the next flush begins anew.
                let (at, expires_at) = (entry.at, entry.expires_at);
                let now = self.clock.now();
                chronicle::lost(self.options.story.as_deref(), &state.dispatcher, &lost.key, &lost, now);
                let (firing, resolved) = (BTreeSet::new(), BTreeSet::new());
                state.log_entry(lost.key, Entry { at, expires_at, firing, resolved, memory: Memory::new() });
                self.is_dirty.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Runs `work`, which may block, where that harms nobody.
    async fn off_thread(self: &Arc<Self>, work: fn(&Self)) {
        let manager = Arc::clone(self);
        // Saving cannot panic but for want of memory, and then this is no loss.
        let _ = tokio::task::spawn_blocking(move || work(&manager)).await;
    }

    fn forget_alerts(&self, now: Timestamp) {
        let mut state = self.state.lock();
        state.store.collect_garbage(now);
        state.inhibitor.collect_garbage(now);
    }

    /// Creates or changes a silence.
    ///
    /// # Errors
    /// The id is unknown or the silence is not valid.
    pub fn put_silence(&self, posted: PostedSilence) -> Result<SilenceId, SilenceError> {
        let now = self.clock.now();
        let limits = silence::Limits {
            silences_max: self.options.silences_max,
            silence_bytes_max: self.options.silence_bytes_max,
            retention: self.options.retention,
        };
        let id = self.state.lock().silences.put(posted, limits, now)?;
        self.log_silence("set silence", &id);
        // On disk before anybody is told so.
        self.save();
        Ok(SilenceId { id })
    }

    /// Ends a silence now.
    ///
    /// # Errors
    /// The id is unknown.
    pub fn expire_silence(&self, id: &str) -> Result<(), SilenceError> {
        let now = self.clock.now();
        self.state.lock().silences.expire(id, now)?;
        self.log_silence("expire silence", id);
        // On disk before anybody is told so.
        self.save();
        Ok(())
    }
}

impl Alertmanager {
    fn log_silence(&self, what: &str, id: &str) {
        let state = self.state.lock();
        if let Some(silence) = state.silences.get(id).filter(|_| self.options.logs_silences) {
            let matchers = silence.sets.iter().flatten();
            let matchers: Vec<_> =
                matchers.map(|m| format!("{}{}{}", m.name, m.op().as_str(), m.value)).collect();
            tracing::info!(
                id,
                created_by = silence.created_by,
                comment = silence.comment,
                starts_at = %silence.starts_at,
                ends_at = %silence.ends_at,
                matchers = matchers.join(","),
                "{what}"
            );
        }
    }
}

// === Template files ===

fn load_templates(config: &Config) -> Result<Templates, Error> {
    let mut files = Vec::new();
    for pattern in &config.templates {
        let found = expand_glob(Path::new(pattern));
        for path in found.map_err(|source| Error::TemplateFile { path: pattern.into(), source })? {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| Error::TemplateFile { path: path.clone(), source })?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, text));
        }
    }
    Ok(Templates::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))?)
}

/// The files that `pattern` names; wildcards stand in its last element only.
fn expand_glob(pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    if !name.contains(['*', '?']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let dir = pattern.parent().unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(dir) {
        // A pattern that matches nothing is no error.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && is_match(name.as_bytes(), file.as_bytes()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether `text` matches a shell pattern of `*` and `?`.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skipped| is_match(rest, &text[skipped..])),
        (Some((p, pattern)), Some((t, text))) => (*p == b'?' || p == t) && is_match(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
