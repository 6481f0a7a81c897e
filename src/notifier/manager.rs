//! Who gets alerts: the sets of external Alertmanagers with the targets that discovery finds for them, and
//! the built-in one.
//!
//! Compat: prometheus `notifier/manager.go` and `notifier/alertmanagerset.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use config::prometheus::Alertmanager;
use config::relabel;
use model::wire::expose::{Counter, Expose, Exposition, Kind};
use model::{Labels, LabelsBuilder};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use url::Url;

use super::Alert;
use super::chronicle::Handover;
use super::sender::{BatchSize, Client, Metrics, Sender};
use crate::discovery::TargetSets;
use crate::story::Journal;

/// The `--alertmanager.*` flags.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub queue_capacity: usize,
    pub batch_size: BatchSize,
    pub drain_on_shutdown: bool,
}

/// Takes alerts in process, with the same relabelling as an external Alertmanager gets.
pub type Inbox = Box<dyn Fn(Vec<Alert>) + Send + Sync>;

pub struct Manager {
    options: Options,
    inbox: Option<Inbox>,
    rules: ArcSwap<Rules>,
    sets: Mutex<BTreeMap<String, Set>>,
    /// Loops that end, perhaps after what is left in their queues.
    ending: TaskTracker,
    /// Alerts that found nobody to take them.
    unheard: Counter,
    story: Option<Arc<Journal>>,
}

/// What is done to every alert first.
#[derive(Default)]
struct Rules {
    external_labels: Labels,
    alert_relabel: Vec<relabel::Rule>,
}

/// The Alertmanagers of one section.
struct Set {
    config: Alertmanager,
    client: Arc<Client>,
    senders: BTreeMap<String, Sender>,
    dropped: Vec<String>,
}

/// The URLs that alerts go to, and those that relabelling dropped.
#[derive(Debug, Default)]
pub struct Urls {
    pub active: Vec<String>,
    pub dropped: Vec<String>,
}

impl Manager {
    pub fn new(options: Options, inbox: Option<Inbox>) -> Self {
        Self {
            options,
            inbox,
            rules: ArcSwap::default(),
            sets: Mutex::default(),
            ending: TaskTracker::new(),
            unheard: Counter::new(),
            story: None,
        }
    }

    /// Tells `journal` what becomes of alerts.
    #[must_use]
    pub fn told_to(mut self, journal: Option<Arc<Journal>>) -> Self {
        self.story = journal;
        self
    }

    /// Takes over a configuration. What waits for an Alertmanager goes on waiting, also where its section changed:
    /// who is sent to no more is known when discovery has told its targets again.
    ///
    /// # Errors
    /// A client cannot be made; nothing has changed then.
    pub fn apply(&self, config: &config::Config) -> anyhow::Result<()> {
        let mut fresh = Vec::new();
        for (key, section) in sections(config) {
            let client =
                Client::new(section).with_context(|| format!("set up the Alertmanagers of {key}"))?;
            let set = Set {
                config: section.clone(),
                client: Arc::new(client),
                senders: BTreeMap::new(),
                dropped: Vec::new(),
            };
            fresh.push((key, set));
        }
        self.rules.store(Arc::new(Rules {
            external_labels: config.global.external_labels.clone(),
            alert_relabel: config.alerting.alert_relabel.clone(),
        }));
        let mut sets = self.sets.lock();
        let mut before = std::mem::take(&mut *sets);
        // First those that read as before, wherever they stand now; then by their places.
        for (_, set) in &mut fresh {
            // What prints shows everything but secrets, which are compared apart.
            let is_same = |old: &Set| {
                let (a, b) = (&old.config, &set.config);
                a.http == b.http
                    && a.sigv4 == b.sigv4
                    && a.discovery == b.discovery
                    && format!("{a:?}") == format!("{b:?}")
            };
            let key = before.iter().find(|(_, old)| is_same(old)).map(|(key, _)| key.clone());
            if let Some(old) = key.and_then(|key| before.remove(&key)) {
                set.client = Arc::clone(&old.client);
                set.inherit(old);
            }
        }
        for (key, set) in &mut fresh {
            if set.senders.is_empty()
                && let Some(old) = before.remove(key)
            {
                set.inherit(old);
            }
        }
        *sets = fresh.into_iter().collect();
        drop(sets);
        self.end(before.into_values().flat_map(|set| set.senders.into_values()));
        Ok(())
    }

    /// Takes over what discovery has found, by section.
    pub fn set_targets(&self, targets: &TargetSets) {
        let mut gone = Vec::new();
        let mut sets = self.sets.lock();
        // One Alertmanager may be in several sets, each of which relabels alerts in its own way.
        let mut metrics: BTreeMap<String, Arc<Metrics>> = sets
            .values()
            .flat_map(|set| &set.senders)
            .map(|(url, sender)| (url.clone(), Arc::clone(&sender.metrics)))
            .collect();
        for (key, set) in &mut *sets {
            let Some(groups) = targets.get(key) else { continue };
            let (urls, dropped) = resolve(&set.config, groups);
            set.dropped = dropped;
            let mut before = std::mem::take(&mut set.senders);
            for url in urls {
                // Several targets may come to one URL.
                if set.senders.contains_key(url.as_str()) {
                    continue;
                }
                let sender = before.remove(url.as_str()).unwrap_or_else(|| {
                    Sender::start(
                        url.clone(),
                        Arc::clone(&set.client),
                        Arc::clone(metrics.entry(url.to_string()).or_default()),
                        self.story.clone(),
                        self.options.queue_capacity,
                        self.options.batch_size,
                    )
                });
                set.senders.insert(url.to_string(), sender);
            }
            gone.extend(before.into_values());
        }
        drop(sets);
        self.end(gone);
    }

    /// Relabels `alerts` and puts them into the queue of every Alertmanager; never waits.
    pub fn send(&self, alerts: Vec<Alert>) {
        let rules = self.rules.load();
        let mut handover = Handover::new(self.story.as_ref());
        let alerts: Vec<_> = alerts
            .into_iter()
            .filter_map(|alert| {
                let from = alert.labels.clone();
                let to = alert.with_external_labels(&rules.external_labels).relabelled(&rules.alert_relabel);
                handover.note(from, to.as_ref());
                to
            })
            .collect();
        if alerts.is_empty() {
            handover.tell("alert_relabel_configs", true);
            return;
        }
        let mut is_heard = false;
        for set in self.sets.lock().values().filter(|set| !set.senders.is_empty()) {
            is_heard = true;
            let mut handover = Handover::new(self.story.as_ref());
            let mut kept = |alert: &Alert| {
                let to = alert.clone().relabelled(&set.config.alert_relabel);
                handover.note(alert.labels.clone(), to.as_ref());
                to
            };
            let alerts: Vec<_> = alerts.iter().filter_map(&mut kept).map(Arc::new).collect();
            handover.tell_of(set.senders.keys().next().map_or("", String::as_str));
            if !alerts.is_empty() {
                for sender in set.senders.values() {
                    sender.push(alerts.iter().cloned());
                }
            }
        }
        handover.tell("alert_relabel_configs", is_heard || self.inbox.is_some());
        match &self.inbox {
            Some(inbox) => inbox(alerts),
            None if !is_heard => self.unheard.add(alerts.len() as u64),
            None => {}
        }
    }

    pub fn urls(&self) -> Urls {
        let mut urls = Urls::default();
        for set in self.sets.lock().values() {
            urls.active.extend(set.senders.keys().cloned());
            urls.dropped.extend(set.dropped.iter().cloned());
        }
        urls
    }

    /// Stops all loops, after their queues if so configured.
    pub async fn stop(&self) {
        let sets = std::mem::take(&mut *self.sets.lock());
        self.end(sets.into_values().flat_map(|set| set.senders.into_values()));
        self.ending.close();
        self.ending.wait().await;
    }

    /// Lets loops end without waiting for them: what they still send may take long.
    fn end(&self, senders: impl IntoIterator<Item = Sender>) {
        for sender in senders {
            self.ending.spawn(sender.stop(self.options.drain_on_shutdown));
        }
    }
}

impl Set {
    fn inherit(&mut self, old: Self) {
        for sender in old.senders.values() {
            sender.set_client(Arc::clone(&self.client));
        }
        self.senders = old.senders;
        self.dropped = old.dropped;
    }
}

/// The sections of the configuration under the keys that discovery knows them by.
pub fn sections(config: &config::Config) -> impl Iterator<Item = (String, &Alertmanager)> {
    config.alerting.alertmanagers.iter().enumerate().map(|(i, section)| (format!("config-{i}"), section))
}

/// The URLs of the discovered targets, and the addresses of those that relabelling dropped.
fn resolve(config: &Alertmanager, groups: &[Arc<config::TargetGroup>]) -> (Vec<Url>, Vec<String>) {
    let (mut urls, mut dropped) = (Vec::new(), Vec::new());
    let path = format!("{}/api/v2/alerts", config.path_prefix.trim_end_matches('/'));
    for group in groups {
        for target in &group.targets {
            let mut labels = LabelsBuilder::from(&group.labels);
            labels.set(b"__scheme__", config.scheme.as_bytes());
            labels.set(b"__alerts_path__", path.as_bytes());
            for (name, value) in target {
                labels.set(name, value);
            }
            let before = url_text(&labels);
            if !relabel::apply(&config.relabel, &mut labels) {
                dropped.push(before);
                continue;
            }
            match Url::parse(&url_text(&labels)) {
                Ok(url) => urls.push(url),
                Err(e) => {
                    tracing::error!(labels = %labels.build(), error = %e, "ignoring an Alertmanager without a usable URL");
                }
            }
        }
    }
    (urls, dropped)
}

fn url_text(labels: &LabelsBuilder) -> String {
    let text = |name: &[u8]| String::from_utf8_lossy(labels.get(name).unwrap_or_default()).into_owned();
    let path = text(b"__alerts_path__");
    format!("{}://{}/{}", text(b"__scheme__"), text(b"__address__"), path.trim_start_matches('/'))
}

impl Expose for Manager {
    fn expose(&self, out: &mut Exposition) {
        const LATENCY: &str = "prometheus_notifications_latency_seconds";
        const LATENCIES: &str = "prometheus_notifications_latency_histogram_seconds";
        let sets = self.sets.lock();
        let n_senders: usize = sets.values().map(|set| set.senders.len()).sum();
        let mut by_url: BTreeMap<&str, Vec<&Sender>> = BTreeMap::new();
        for sender in sets.values().flat_map(|set| set.senders.values()) {
            by_url.entry(&sender.url).or_default().push(sender);
        }
        let mut family = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&[&Sender]) -> f64| {
            out.family(name, help, kind);
            for (url, senders) in &by_url {
                out.sample(name, &[("alertmanager", url)], value(senders));
            }
        };
        let counter = Kind::Counter;
        // Senders of one URL share their metrics, but for the queues.
        family("prometheus_notifications_sent_total", "Total number of alerts sent.", counter, &|senders| {
            senders[0].metrics.sent.get() as f64
        });
        family(
            "prometheus_notifications_errors_total",
            "Total number of sent alerts affected by errors.",
            counter,
            &|senders| senders[0].metrics.errors.get() as f64,
        );
        family(
            "prometheus_notifications_dropped_total",
            "Total number of alerts dropped due to errors when sending to Alertmanager.",
            counter,
            &|senders| senders[0].metrics.dropped.get() as f64,
        );
        family(
            "ferula_notifications_replaced_total",
            "Alerts that were replaced by a newer state of themselves before they were sent.",
            counter,
            &|senders| senders[0].metrics.replaced.get() as f64,
        );
        family(
            "prometheus_notifications_queue_length",
            "The number of alert notifications in the queue.",
            Kind::Gauge,
            &|senders| senders.iter().map(|sender| sender.queue.len()).sum::<usize>() as f64,
        );
        out.family(LATENCY, "Latency quantiles for sending alert notifications.", Kind::Summary);
        for (url, senders) in &by_url {
            out.summary(LATENCY, &[("alertmanager", url)], &senders[0].metrics.latency);
        }
        out.family(LATENCIES, "Latency histogram for sending alert notifications.", Kind::Histogram);
        for (url, senders) in &by_url {
            out.histogram(LATENCIES, &[("alertmanager", url)], &senders[0].metrics.latencies);
        }
        out.gauge(
            "prometheus_notifications_queue_capacity",
            "The capacity of the alert notifications queue.",
            self.options.queue_capacity as f64,
        );
        out.gauge(
            "prometheus_notifications_alertmanagers_discovered",
            "The number of alertmanagers discovered and active.",
            n_senders as f64,
        );
        out.counter(
            "ferula_notifications_unheard_total",
            "Alerts that were dropped because no Alertmanager was configured or discovered.",
            &self.unheard,
        );
    }
}
