//! The built-in Alertmanager: alerts in, grouped, inhibited, silenced and deduplicated messages out.
//!
//! [`Alertmanager::put`] takes alerts, from our own rules or over HTTP alike; [`Alertmanager::run`] sends
//! what is due until it is told to stop; the other methods answer API v2. The logic is sync and is told
//! the time; only the sending is async. One lock guards all state and is never held across a send.
//! Mute times, upstream's snapshot files and a cluster are not here.
//!
//! Compat: alertmanager 0.34.

pub mod alert;
pub mod api;
pub mod clock;
pub mod dispatch;
pub mod inhibit;
mod metrics;
pub mod nflog;
pub mod notify;
pub mod route;
pub mod silence;
mod snapshot;
pub mod stage;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::alertmanager::{Config, Integration};
use futures_util::future::join_all;
use jiff::Timestamp;
use model::Matcher;
use model::wire::expose::{Expose, Exposition, Kind};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use alert::PostedAlert;
use alert::{Alert, LabelSet, matches};
use api::{
    AlertFilter, AlertGroup, AlertStatus, GettableAlert, GettableSilence, Named, ReceiverStatus, SilenceId,
    Status,
};
use clock::until;
pub use clock::{Clock, SystemClock};
use dispatch::{Dispatcher, Flush, Flushed};
use inhibit::Inhibitor;
use metrics::Metrics;
use nflog::{Entry, Log, decide};
use notify::templates::Templates;
use notify::{Message, Origin};
use route::Routes;
pub use silence::SilenceError;
use silence::{PostedSilence, Silences};
use store::Store;

/// How often what has ended is forgotten. Upstream's `--alerts.gc-interval`.
const GC_INTERVAL: Duration = Duration::from_mins(30);
/// How long a change of the notification log may wait to be saved.
const SAVE_DELAY: Duration = Duration::from_secs(1);
/// How long messages on their way may take when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What is not in the configuration file.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of our snapshots, made when missing; without one nothing outlives a restart.
    pub data_dir: Option<PathBuf>,
    /// Where links in messages lead, without a slash at the end.
    pub external_url: String,
    /// How long expired silences and old notifications are remembered.
    pub retention: Duration,
    pub version: api::VersionInfo,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: None,
            external_url: String::new(),
            retention: Duration::from_hours(120),
            version: api::VersionInfo::default(),
        }
    }
}

/// Why an Alertmanager could not be set up or reloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("read template file {}: {source}", path.display())]
    TemplateFile { path: PathBuf, source: std::io::Error },
    #[error("parse templates: {0}")]
    Template(#[from] config::template::Error),
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    #[error("load silences: {0}")]
    Silences(#[from] SilenceError),
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
    /// The notification log differs from its file.
    is_dirty: AtomicBool,
    /// Held while a file is written, so that the older state never replaces the newer.
    saving: Mutex<()>,
}

struct State {
    config: Arc<Config>,
    templates: Arc<Templates>,
    store: Store,
    dispatcher: Dispatcher,
    inhibitor: Inhibitor,
    silences: Silences,
    log: Log,
}

impl Alertmanager {
    /// Sets up from a loaded configuration and from what was saved.
    ///
    /// # Errors
    /// A template or a snapshot is not readable.
    pub fn new(config: Config, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        let mut silences = Silences::default();
        let mut log = Log::default();
        if let Some(dir) = &options.data_dir {
            if let Some(records) = snapshot::load(&dir.join(SILENCES_FILE))? {
                silences = Silences::from_records(records)?;
            }
            log = snapshot::load(&dir.join(LOG_FILE))?.unwrap_or_default();
        }
        let state = State {
            templates: Arc::new(load_templates(&config)?),
            store: Store::default(),
            dispatcher: Dispatcher::new(Arc::new(Routes::new(&config))),
            inhibitor: Inhibitor::new(&config.inhibit_rules),
            silences,
            log,
            config: Arc::new(config),
        };
        Ok(Arc::new(Self {
            started_at: clock.now(),
            clock,
            options,
            metrics: Metrics::default(),
            state: Mutex::new(state),
            wake: Notify::new(),
            is_dirty: AtomicBool::new(false),
            saving: Mutex::new(()),
        }))
    }

    /// Goes over to another configuration. Alerts find their routes anew; groups that remain keep their
    /// timers, and the notification log keeps from telling twice.
    ///
    /// # Errors
    /// A template is not readable; the old configuration stays.
    pub fn apply(&self, config: Config) -> Result<(), Error> {
        let templates = Arc::new(load_templates(&config)?);
        let routes = Arc::new(Routes::new(&config));
        let mut inhibitor = Inhibitor::new(&config.inhibit_rules);
        let now = self.clock.now();
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            state.store.iter().for_each(|alert| inhibitor.put(alert));
            state.inhibitor = inhibitor;
            state.templates = templates;
            state.config = Arc::new(config);
            state.dispatcher.reload(routes, state.store.iter(), now);
        }
        self.wake.notify_one();
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
            let state = &mut *guard;
            let timeout = state.config.resolve_timeout;
            for posted in alerts {
                let taken = Alert::accept(posted, now, timeout).and_then(|alert| {
                    let received = if alert.is_resolved(now) {
                        &self.metrics.received_resolved
                    } else {
                        &self.metrics.received_firing
                    };
                    received.inc();
                    state.store.put(alert, now)
                });
                match taken {
                    Ok(alert) => {
                        state.inhibitor.put(&alert);
                        state.dispatcher.insert(&alert, now);
                    }
                    Err(e) => {
                        self.metrics.invalid.inc();
                        errors.push(e.to_string());
                    }
                }
            }
        }
        self.wake.notify_one();
        if errors.is_empty() { Ok(()) } else { Err(Rejected(errors.join("\n"))) }
    }

    // === Sending ===

    /// Sends what is due until `shutdown`; then lets messages on their way arrive, for a moment, and saves.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut flushes = JoinSet::new();
        let mut next_gc = clock::after(self.clock.now(), GC_INTERVAL);
        let mut save_at = None;
        while !shutdown.is_cancelled() {
            let now = self.clock.now();
            if next_gc <= now {
                self.collect_garbage(now);
                next_gc = clock::after(now, GC_INTERVAL);
            }
            let due = self.state.lock().dispatcher.take_due(now);
            for flush in due {
                let manager = Arc::clone(&self);
                flushes.spawn(async move { manager.flush(flush).await });
            }
            while flushes.try_join_next().is_some() {}
            if save_at.is_some_and(|t| t <= now) {
                self.save_log_off_thread().await;
                save_at = None;
            }
            if self.is_dirty.load(Ordering::Relaxed) && save_at.is_none() {
                save_at = Some(clock::after(now, SAVE_DELAY));
            }
            let next = self.state.lock().dispatcher.next_due().unwrap_or(next_gc).min(next_gc);
            let wait = until(save_at.map_or(next, |t| t.min(next)), now);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        let drain = async { while flushes.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drain).await.is_err() {
            tracing::warn!(unfinished = flushes.len(), "notifications cut off by shutdown");
        }
        self.save_log_off_thread().await;
    }

    /// One flush of one group, through all stages.
    async fn flush(&self, flush: Flush) {
        let kept = self.mute(&flush);
        let succeeded = if kept.is_empty() {
            true
        } else {
            let integrations = flush.receiver.integrations.iter();
            let sends = integrations.map(|integration| self.notify(&flush, &kept, integration));
            join_all(sends).await.into_iter().all(|ok| ok)
        };
        self.state.lock().dispatcher.finish(&flush, succeeded);
        self.wake.notify_one();
    }

    fn mute(&self, flush: &Flush) -> Vec<Flushed> {
        let now = self.clock.now();
        let state = self.state.lock();
        let all = flush.alerts.len();
        let kept = stage::inhibit(flush.alerts.clone(), &state.inhibitor, now);
        let uninhibited = kept.len();
        let kept = stage::silence(kept, &state.silences, now);
        self.metrics.note_suppressed("inhibition", all - uninhibited);
        self.metrics.note_suppressed("silence", uninhibited - kept.len());
        kept
    }

    /// Tells one integration, if it has not been told before; whether it now knows.
    async fn notify(&self, flush: &Flush, kept: &[Flushed], integration: &Integration) -> bool {
        let now = self.clock.now();
        let kind = integration.notifier.name();
        let key = Log::key(&flush.key, &flush.receiver.name, kind, integration.index);
        let (firing, resolved) = stage::split(kept);
        let (reason, templates, memory) = {
            let state = self.state.lock();
            let entry = state.log.get(&key);
            let send_resolved = integration.send_resolved;
            let reason = decide(entry, &firing, &resolved, send_resolved, flush.repeat_interval, now);
            let Some(reason) = reason else { return true };
            // A new life of the group begins without memories.
            let entry = entry.filter(|_| reason != nflog::Reason::First);
            let memory = entry.map(|entry| entry.memory.clone()).unwrap_or_default();
            (reason, Arc::clone(&state.templates), memory)
        };
        let mut alerts = kept.to_vec();
        if !integration.send_resolved {
            alerts.retain(|flushed| !flushed.is_resolved);
        }
        let mut left = memory.clone();
        // Where only ends are to be told and the receiver does not care, it counts as told.
        if !alerts.is_empty() {
            let is_firing = alerts.iter().any(|flushed| !flushed.is_resolved);
            let origin = Origin {
                receiver: &flush.receiver,
                integration: kind,
                index: integration.index,
                group_key: &flush.key,
                group_labels: &flush.labels,
                route_labels: &LabelSet::new(),
                route_key: &flush.route_key,
                route_path: &flush.route_path,
                repeat_at: is_firing.then(|| flush.repeat_at()),
            };
            let surroundings = (&*templates, self.options.external_url.as_str(), now);
            let message = Message::new(origin, &alerts, reason, surroundings, memory);
            let outcome = notify::deliver(integration, &message, flush.timeout).await;
            self.metrics.note_outcome(kind, &outcome);
            let receiver = &flush.receiver.name;
            match outcome.result {
                Ok(sent) => {
                    tracing::debug!(receiver, integration = kind, group = flush.key, "notified");
                    left = sent.memory;
                }
                Err(failure) => {
                    tracing::error!(
                        receiver,
                        integration = kind,
                        group = flush.key,
                        attempts = outcome.requests,
                        error = %failure,
                        "notify failed"
                    );
                    return false;
                }
            }
        }
        let entry = Entry { at: now, expires_at: now, firing, resolved, memory: left };
        self.state.lock().log.put(key, entry, flush.repeat_interval, self.options.retention);
        self.is_dirty.store(true, Ordering::Relaxed);
        true
    }

    fn collect_garbage(&self, now: Timestamp) {
        let mut state = self.state.lock();
        state.store.collect_garbage(now);
        state.inhibitor.collect_garbage(now);
        state.silences.collect_garbage(now, self.options.retention);
        state.log.collect_garbage(now);
    }

    async fn save_log_off_thread(self: &Arc<Self>) {
        if self.is_dirty.load(Ordering::Relaxed) {
            let manager = Arc::clone(self);
            // Saving cannot panic but for want of memory, and then this is no loss.
            let _ = tokio::task::spawn_blocking(move || manager.save_log()).await;
        }
    }

    fn save_log(&self) {
        let _saving = self.saving.lock();
        self.is_dirty.store(false, Ordering::Relaxed);
        let Some(dir) = &self.options.data_dir else { return };
        let data = serde_json::to_value(&self.state.lock().log);
        let saved = data
            .map_err(|e| e.to_string())
            .and_then(|data| snapshot::save(&dir.join(LOG_FILE), &data).map_err(|e| e.to_string()));
        if let Err(error) = saved {
            tracing::error!(error, "save notification log");
        }
    }

    fn save_silences(&self) {
        let Some(dir) = &self.options.data_dir else { return };
        let _saving = self.saving.lock();
        let records = self.state.lock().silences.to_records();
        if let Err(error) = snapshot::save(&dir.join(SILENCES_FILE), &records) {
            tracing::error!(%error, "save silences");
        }
    }

    // === API v2 ===

    pub fn status(&self) -> Status {
        Status {
            cluster: api::ClusterStatus { peers: Vec::new(), status: "disabled" },
            config: api::StatusConfig { original: self.state.lock().config.text.clone() },
            uptime: self.started_at,
            version_info: self.options.version.clone(),
        }
    }

    pub fn receivers(&self) -> Vec<ReceiverStatus> {
        let state = self.state.lock();
        let status = |name: &String| ReceiverStatus {
            labels: LabelSet::from([("name".to_owned(), name.clone())]),
            name: name.clone(),
        };
        state.config.receivers.iter().map(|receiver| status(&receiver.name)).collect()
    }

    /// The alerts that are not resolved, by fingerprint.
    pub fn alerts(&self, filter: &AlertFilter) -> Vec<GettableAlert> {
        let now = self.clock.now();
        let state = self.state.lock();
        let alerts = state.store.iter().filter(|alert| !alert.is_resolved(now));
        alerts
            .filter_map(|alert| {
                let receivers = state.receivers_of(&alert.labels);
                filter.admits_receiver(&receivers).then(|| state.gettable(alert, receivers, now))
            })
            .filter(|alert| filter.admits(alert))
            .collect()
    }

    /// The groups with the alerts that are not resolved, by labels and receiver.
    pub fn alert_groups(&self, filter: &AlertFilter) -> Vec<AlertGroup> {
        let now = self.clock.now();
        let state = self.state.lock();
        let mut groups = Vec::new();
        for group in state.dispatcher.groups() {
            let receiver = state.dispatcher.routes().node(group.route).receiver.name.clone();
            if !filter.admits_receiver(std::slice::from_ref(&receiver)) {
                continue;
            }
            let mut alerts: Vec<_> = group
                .alerts
                .values()
                .filter(|alert| !alert.is_resolved(now))
                .map(|alert| state.gettable(alert, state.receivers_of(&alert.labels), now))
                .filter(|alert| filter.admits(alert))
                .collect();
            if alerts.is_empty() {
                continue;
            }
            alerts.sort_by(|a, b| dispatch::sort_key(&a.labels).cmp(&dispatch::sort_key(&b.labels)));
            groups.push(AlertGroup {
                alerts,
                labels: group.labels.clone(),
                receiver: Named { name: receiver },
                route_labels: LabelSet::new(),
            });
        }
        groups.sort_by(|a, b| (&a.labels, &a.receiver.name).cmp(&(&b.labels, &b.receiver.name)));
        groups
    }

    /// Silences that hold every one of `filter` literally.
    pub fn silences(&self, filter: &[Matcher]) -> Vec<GettableSilence> {
        let now = self.clock.now();
        let state = self.state.lock();
        let holds = |silence: &silence::Silence, wanted: &Matcher| {
            silence.matchers.iter().any(|own| {
                own.op() == wanted.op
                    && own.name.as_bytes() == &*wanted.name
                    && own.value.as_bytes() == &*wanted.value
            })
        };
        let all = state.silences.list(now).into_iter();
        let held = all.filter(|silence| filter.iter().all(|wanted| holds(silence, wanted)));
        held.map(|silence| GettableSilence::new(silence, now)).collect()
    }

    pub fn silence(&self, id: &str) -> Option<GettableSilence> {
        let now = self.clock.now();
        self.state.lock().silences.get(id).map(|silence| GettableSilence::new(silence, now))
    }

    /// Creates or changes a silence.
    ///
    /// # Errors
    /// The id is unknown or the silence is not valid.
    pub fn put_silence(&self, posted: PostedSilence) -> Result<SilenceId, SilenceError> {
        let now = self.clock.now();
        let id = self.state.lock().silences.put(posted, now)?;
        self.save_silences();
        Ok(SilenceId { id })
    }

    /// Ends a silence now.
    ///
    /// # Errors
    /// The id is unknown.
    pub fn expire_silence(&self, id: &str) -> Result<(), SilenceError> {
        let now = self.clock.now();
        self.state.lock().silences.expire(id, now)?;
        self.save_silences();
        Ok(())
    }
}

const SILENCES_FILE: &str = "silences.json";
const LOG_FILE: &str = "nflog.json";

impl State {
    /// The names of the receivers that `labels` is routed to, each once.
    fn receivers_of(&self, labels: &LabelSet) -> Vec<String> {
        let routes = self.dispatcher.routes();
        let mut names: Vec<_> =
            routes.find(labels).into_iter().map(|i| routes.node(i).receiver.name.clone()).collect();
        names.dedup();
        names
    }

    fn gettable(&self, alert: &Alert, receivers: Vec<String>, now: Timestamp) -> GettableAlert {
        let silenced_by = self.silences.find(&alert.labels, now);
        let inhibited_by: Vec<_> =
            self.inhibitor.find(&alert.labels, now).iter().map(ToString::to_string).collect();
        let is_muted = !silenced_by.is_empty() || !inhibited_by.is_empty();
        GettableAlert {
            annotations: alert.annotations.clone(),
            ends_at: alert.ends_at,
            fingerprint: alert.fingerprint.to_string(),
            receivers: receivers.into_iter().map(|name| Named { name }).collect(),
            starts_at: alert.starts_at,
            status: AlertStatus {
                inhibited_by,
                muted_by: Vec::new(),
                silenced_by,
                state: if is_muted { "suppressed" } else { "active" },
            },
            updated_at: alert.updated_at,
            generator_url: alert.generator_url.clone(),
            labels: alert.labels.clone(),
        }
    }
}

impl AlertFilter {
    fn admits_receiver(&self, names: &[String]) -> bool {
        self.receiver.as_ref().is_none_or(|regex| names.iter().any(|name| regex.is_match(name.as_bytes())))
    }

    fn admits(&self, alert: &GettableAlert) -> bool {
        let status = &alert.status;
        (self.active || status.state != "active")
            && (self.silenced || status.silenced_by.is_empty())
            && (self.inhibited || status.inhibited_by.is_empty())
            && matches(&self.matchers, &alert.labels)
    }
}

impl Expose for Alertmanager {
    fn expose(&self, out: &mut Exposition) {
        let now = self.clock.now();
        let state = self.state.lock();
        let firing: Vec<_> = state.store.iter().filter(|alert| !alert.is_resolved(now)).collect();
        let is_muted = |alert: &Alert| {
            !state.silences.find(&alert.labels, now).is_empty()
                || state.inhibitor.find(&alert.labels, now).is_some()
        };
        let suppressed = firing.iter().filter(|alert| is_muted(alert)).count();
        let alerts = "alertmanager_alerts";
        out.family(alerts, "How many alerts by state.", Kind::Gauge);
        for (name, n) in
            [("active", firing.len() - suppressed), ("suppressed", suppressed), ("unprocessed", 0)]
        {
            out.sample(alerts, &[("state", name)], n as f64);
        }
        let silences = "alertmanager_silences";
        out.family(silences, "How many silences by state.", Kind::Gauge);
        let list = state.silences.list(now);
        for name in ["active", "expired", "pending"] {
            let n = list.iter().filter(|silence| silence.state(now).as_str() == name).count();
            out.sample(silences, &[("state", name)], n as f64);
        }
        let gauges: [(&str, &str, usize); 5] = [
            (
                "alertmanager_dispatcher_aggregation_groups",
                "Number of active aggregation groups",
                state.dispatcher.len(),
            ),
            ("alertmanager_receivers", "Number of configured receivers.", state.config.receivers.len()),
            (
                "alertmanager_integrations",
                "Number of configured integrations.",
                state.config.receivers.iter().map(|receiver| receiver.integrations.len()).sum(),
            ),
            (
                "alertmanager_inhibition_rules",
                "Number of configured inhibition rules.",
                state.inhibitor.len(),
            ),
            ("alertmanager_nflog_entries", "Number of entries of the notification log.", state.log.len()),
        ];
        for (name, help, n) in gauges {
            out.gauge(name, help, n as f64);
        }
        drop(state);
        self.metrics.expose(out);
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
