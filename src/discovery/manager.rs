//! Runs the providers of all jobs and publishes, whenever something changed, the full map of job to groups.
//!
//! Equal sections are discovered once, whoever asks, and go on over a reload. Changes are gathered: the
//! first is published after about 100 ms, and the more follow, the longer the pause, up to 5 s.
//!
//! Compat: prometheus `discovery`, `Manager`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::TargetGroup;
use config::prometheus::Discovery;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Metrics, Update};

/// All groups of all jobs; a job without any is present and empty.
pub type TargetSets = BTreeMap<String, Vec<Arc<TargetGroup>>>;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Updates that a provider may have under way before it has to wait.
const UPDATES_QUEUED_MAX: usize = 16;

/// The discovery of one consumer.
pub struct Manager {
    shared: Arc<Shared>,
    targets: watch::Sender<Arc<TargetSets>>,
}

struct Shared {
    providers: Mutex<Vec<Provider>>,
    /// Something changed that is not published yet.
    changed: Notify,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

/// One running section.
struct Provider {
    /// `None` for the empty provider of jobs that have no other.
    section: Option<Discovery>,
    jobs: BTreeSet<String>,
    groups: Arc<Mutex<BTreeMap<String, Arc<TargetGroup>>>>,
    stop: CancellationToken,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Manager {
    /// `name` is `scrape` or `notify` and tells the metrics of managers apart; `stop` ends all providers.
    pub fn new(name: &'static str, stop: CancellationToken) -> Self {
        let shared = Shared {
            providers: Mutex::default(),
            changed: Notify::new(),
            metrics: Arc::new(Metrics::new(name)),
            stop,
        };
        Self { shared: Arc::new(shared), targets: watch::Sender::default() }
    }

    /// The channel on which the full map arrives.
    pub fn subscribe(&self) -> watch::Receiver<Arc<TargetSets>> {
        self.targets.subscribe()
    }

    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Starts what is new in `jobs`, stops what is gone and leaves the rest running. Must run inside a runtime.
    pub fn apply(&self, jobs: &BTreeMap<String, Vec<Discovery>>) {
        let shared = &self.shared;
        let mut failed = 0.0;
        let mut wanted: Vec<(Option<&Discovery>, BTreeSet<String>)> = Vec::new();
        for (job, sections) in jobs {
            // A job without sections gets an empty provider, so that it is present in the map.
            let sections = sections.iter().map(Some).chain(sections.is_empty().then_some(None));
            for section in sections {
                match wanted.iter_mut().find(|(known, _)| *known == section) {
                    Some((_, users)) => drop(users.insert(job.clone())),
                    None => wanted.push((section, BTreeSet::from([job.clone()]))),
                }
            }
        }

        let mut providers = shared.providers.lock();
        let mut old = std::mem::take(&mut *providers);
        for (section, users) in wanted {
            if let Some(i) = old.iter().position(|provider| provider.section.as_ref() == section) {
                let mut provider = old.swap_remove(i);
                provider.jobs = users;
                providers.push(provider);
                continue;
            }
            let provider = Provider {
                section: section.cloned(),
                jobs: users,
                groups: Arc::default(),
                stop: shared.stop.child_token(),
            };
            if let Some(section) = section {
                match super::discoverer(section, &shared.metrics) {
                    Ok(discoverer) => {
                        let (updates, received) = mpsc::channel(UPDATES_QUEUED_MAX);
                        tokio::spawn(discoverer.run(updates, provider.stop.clone()));
                        tokio::spawn(collect(received, Arc::clone(&provider.groups), Arc::clone(shared)));
                    }
                    Err(error) => {
                        failed += 1.0;
                        tracing::error!(%error, jobs = ?provider.jobs, "cannot create service discovery");
                    }
                }
            }
            providers.push(provider);
        }
        *shared.metrics.failed_configs.lock() = failed;
        drop(providers);
        shared.changed.notify_one();
    }

    /// Publishes changes until the manager is stopped.
    pub async fn run(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = self.shared.changed.notified() => {}
            }
            let quiet = tokio::time::Instant::now();
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())) => {}
            }
            self.publish();
            // The next change may come at once or after a long calm, which resets the pause.
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = self.shared.changed.notified() => {
                    let calm = quiet.elapsed() > PAUSE_MAX;
                    pause = if calm { PAUSE_MIN } else { pause.mul_f64(1.5).min(PAUSE_MAX) };
                    self.shared.changed.notify_one();
                }
            }
        }
    }

    fn publish(&self) {
        let sets = Arc::new(self.shared.sets());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        *self.shared.metrics.jobs.lock() = sets
            .iter()
            .map(|(job, groups)| (job.clone(), (groups.iter().map(|g| g.targets.len()).sum(), now)))
            .collect();
        self.shared.metrics.updates.inc();
        self.targets.send_replace(sets);
    }
}

impl Shared {
    fn sets(&self) -> TargetSets {
        let mut sets = TargetSets::new();
        for provider in &*self.providers.lock() {
            let groups = provider.groups.lock();
            for job in &provider.jobs {
                sets.entry(job.clone()).or_default().extend(groups.values().cloned());
            }
        }
        sets
    }
}

/// Takes the updates of one provider until it ends or is dropped.
async fn collect(
    mut updates: mpsc::Receiver<Update>,
    groups: Arc<Mutex<BTreeMap<String, Arc<TargetGroup>>>>,
    shared: Arc<Shared>,
) {
    while let Some(update) = updates.recv().await {
        shared.metrics.received_updates.inc();
        let mut groups = groups.lock();
        for group in update {
            if group.targets.is_empty() {
                groups.remove(&group.source);
            } else {
                groups.insert(group.source.clone(), group);
            }
        }
        drop(groups);
        shared.changed.notify_one();
    }
}
