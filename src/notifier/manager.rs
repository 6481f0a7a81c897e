//! Who gets alerts: the sets of external Alertmanagers with the targets that discovery finds for them, and
//! the built-in one.
//!
//! Compat: prometheus `notifier/manager.go` and `notifier/alertmanagerset.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use config::prometheus::Alertmanager;
use config::relabel;
use model::wire::expose::{Counter, Expose, Exposition, Kind};
use model::{Labels, LabelsBuilder};
use parking_lot::Mutex;
use url::Url;

use super::Alert;
use super::sender::{BatchSize, Sender};
use crate::discovery::TargetSets;
use crate::http_client;

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
    /// Alerts that found nobody to take them.
    unheard: Counter,
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
    client: Arc<http_client::Client>,
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
        Self { options, inbox, rules: ArcSwap::default(), sets: Mutex::default(), unheard: Counter::new() }
    }

    /// Takes over a configuration. A section that reads as before keeps its targets and queues.
    ///
    /// # Errors
    /// A client cannot be made; nothing has changed then.
    pub async fn apply(&self, config: &config::Config) -> anyhow::Result<()> {
        let mut fresh = BTreeMap::new();
        for (key, section) in sections(config) {
            let client = http_client::Client::new(&section.http, section.timeout)
                .with_context(|| format!("set up the Alertmanagers of {key}"))?;
            let set = Set {
                config: section.clone(),
                client: Arc::new(client),
                senders: BTreeMap::new(),
                dropped: Vec::new(),
            };
            fresh.insert(key, set);
        }
        self.rules.store(Arc::new(Rules {
            external_labels: config.global.external_labels.clone(),
            alert_relabel: config.alerting.alert_relabel.clone(),
        }));
        let gone = {
            let mut sets = self.sets.lock();
            for (key, set) in &mut fresh {
                if let Some(old) = sets.get_mut(key)
                    && format!("{:?}", old.config) == format!("{:?}", set.config)
                {
                    std::mem::swap(&mut set.senders, &mut old.senders);
                    set.dropped = std::mem::take(&mut old.dropped);
                }
            }
            std::mem::replace(&mut *sets, fresh)
        };
        self.stop_senders(gone.into_values().flat_map(|set| set.senders.into_values())).await;
        Ok(())
    }

    /// Takes over what discovery has found, by section.
    pub async fn set_targets(&self, targets: &TargetSets) {
        let mut gone = Vec::new();
        {
            let mut sets = self.sets.lock();
            let mut taken = BTreeSet::new();
            for (key, set) in &mut *sets {
                let groups = targets.get(key).map(Vec::as_slice).unwrap_or_default();
                let (urls, dropped) = resolve(&set.config, groups);
                set.dropped = dropped;
                let mut before = std::mem::take(&mut set.senders);
                for url in urls {
                    // An Alertmanager that two sections find is sent to once.
                    if !taken.insert(url.to_string()) {
                        continue;
                    }
                    let sender = before.remove(url.as_str()).unwrap_or_else(|| {
                        let client = Arc::clone(&set.client);
                        Sender::start(
                            url.clone(),
                            client,
                            self.options.queue_capacity,
                            self.options.batch_size,
                        )
                    });
                    set.senders.insert(url.to_string(), sender);
                }
                gone.extend(before.into_values());
            }
        }
        self.stop_senders(gone).await;
    }

    /// Relabels `alerts` and puts them into the queue of every Alertmanager; never waits.
    pub fn send(&self, alerts: Vec<Alert>) {
        let rules = self.rules.load();
        let alerts: Vec<_> = alerts
            .into_iter()
            .filter_map(|alert| {
                alert.with_external_labels(&rules.external_labels).relabelled(&rules.alert_relabel)
            })
            .collect();
        if alerts.is_empty() {
            return;
        }
        let mut is_heard = false;
        for set in self.sets.lock().values().filter(|set| !set.senders.is_empty()) {
            is_heard = true;
            let kept = |alert: &Alert| alert.clone().relabelled(&set.config.alert_relabel);
            let alerts: Vec<_> = alerts.iter().filter_map(kept).collect();
            if !alerts.is_empty() {
                for sender in set.senders.values() {
                    sender.push(alerts.clone());
                }
            }
        }
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
        self.stop_senders(sets.into_values().flat_map(|set| set.senders.into_values())).await;
    }

    async fn stop_senders(&self, senders: impl IntoIterator<Item = Sender>) {
        let stops = senders.into_iter().map(|sender| sender.stop(self.options.drain_on_shutdown));
        futures_util::future::join_all(stops).await;
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
        const LATENCY: &str = "ferula_notifications_latency_seconds";
        let sets = self.sets.lock();
        let senders: Vec<&Sender> = sets.values().flat_map(|set| set.senders.values()).collect();
        let mut family = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&Sender) -> f64| {
            out.family(name, help, kind);
            for sender in &senders {
                out.sample(name, &[("alertmanager", &sender.url)], value(sender));
            }
        };
        family(
            "prometheus_notifications_sent_total",
            "Total number of alerts sent.",
            Kind::Counter,
            &|sender| sender.metrics.sent.get() as f64,
        );
        family(
            "prometheus_notifications_errors_total",
            "Total number of sent alerts affected by errors.",
            Kind::Counter,
            &|sender| sender.metrics.errors.get() as f64,
        );
        family(
            "prometheus_notifications_dropped_total",
            "Total number of alerts dropped due to errors when sending to Alertmanager.",
            Kind::Counter,
            &|sender| sender.metrics.dropped.get() as f64,
        );
        family(
            "prometheus_notifications_queue_length",
            "The number of alert notifications in the queue.",
            Kind::Gauge,
            &|sender| sender.queue.len() as f64,
        );
        family(
            "prometheus_notifications_queue_capacity",
            "The capacity of the alert notifications queue.",
            Kind::Gauge,
            &|sender| sender.queue.capacity() as f64,
        );
        out.family(LATENCY, "Time to send a batch of alerts.", Kind::Histogram);
        for sender in &senders {
            out.histogram(LATENCY, &[("alertmanager", &sender.url)], &sender.metrics.latency);
        }
        out.gauge(
            "prometheus_notifications_alertmanagers_discovered",
            "The number of alertmanagers discovered and active.",
            senders.len() as f64,
        );
        out.counter(
            "ferula_notifications_unheard_total",
            "Alerts that were dropped because no Alertmanager was configured or discovered.",
            &self.unheard,
        );
    }
}
