//! Runs the providers of all jobs and publishes, whenever something changed, the full map of job to groups.
//!
//! Equal sections are discovered once, whoever asks, and go on over a reload. Changes are gathered: the
//! first is published after about 100 ms, and the more follow, the longer the pause, up to about half a second.
//!
//! A section that was changed is a new provider, which knows nothing yet. Until it has asked for everything
//! once, its job keeps what the old section had found: a reload that touches an interval or a token must not
//! end a single series, and a token with a typo must not end them all. (Upstream drops the old groups at once
//! and is without targets until the first answer.) A section that is taken away takes its targets with it.
//!
//! Compat: prometheus `discovery`, `Manager`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config::TargetGroup;
use config::prometheus::Discovery;
use model::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Context, Failure, Health, Metrics, Update, is_refreshed, mechanism};

/// All groups of all jobs; a job without any is present and empty.
pub type TargetSets = BTreeMap<String, Vec<Arc<TargetGroup>>>;

const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Upstream waits up to 5 s; a map of groups costs a millisecond here, and somebody waits for a new pod.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Updates that a provider may have under way before it has to wait.
const UPDATES_QUEUED_MAX: usize = 16;

/// The discovery of one consumer.
pub struct Manager {
    shared: Arc<Shared>,
    targets: watch::Sender<Arc<TargetSets>>,
}

/// How one section of a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub job: String,
    pub mechanism: &'static str,
    /// Before relabelling, the last known ones where discovery fails.
    pub n_targets: usize,
    /// `None` if all is well.
    pub failure: Option<Failure>,
    /// When it last said something, in ms since the epoch.
    pub last_update: Option<Timestamp>,
}

struct Shared {
    /// In the order of jobs and sections.
    providers: Mutex<Vec<Provider>>,
    /// Something changed that is not published yet.
    changed: Notify,
    metrics: Arc<Metrics>,
    /// Outlive reloads, and are one with the other managers' if those share them.
    #[cfg(feature = "k8s")]
    clusters: Arc<super::kubernetes::Clusters>,
    stop: CancellationToken,
}

/// One running section.
struct Provider {
    /// `None` for the empty provider of jobs that have no other.
    section: Option<Discovery>,
    /// Whether it could be made.
    is_running: bool,
    jobs: BTreeSet<String>,
    found: Arc<Found>,
    health: Arc<Health>,
    stop: CancellationToken,
}

/// What a provider knows.
#[derive(Default)]
struct Found(Mutex<Groups>);

#[derive(Default)]
struct Groups {
    by_source: BTreeMap<String, Arc<TargetGroup>>,
    /// By job, what the provider's predecessors had found; gone once it knows better.
    inherited: BTreeMap<String, Vec<Arc<TargetGroup>>>,
    /// It has asked for everything once.
    is_settled: bool,
}

impl Groups {
    fn of(&self, job: &str) -> impl Iterator<Item = &Arc<TargetGroup>> {
        self.by_source.values().chain(self.inherited.get(job).into_iter().flatten())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Manager {
    /// `name` is `scrape` or `notify` and tells the metrics of managers apart; `stop` ends all providers.
    pub fn new(name: &'static str, stop: CancellationToken) -> Self {
        Self::with(name, stop, None)
    }

    /// As [`Manager::new`], but what both managers watch in Kubernetes is watched once. The other one has to
    /// run for as long as this one does.
    #[must_use]
    pub fn beside(other: &Self, name: &'static str, stop: CancellationToken) -> Self {
        Self::with(name, stop, Some(&other.shared))
    }

    #[cfg_attr(not(feature = "k8s"), expect(unused_variables, reason = "nothing is shared"))]
    fn with(name: &'static str, stop: CancellationToken, other: Option<&Shared>) -> Self {
        let metrics = Arc::new(Metrics::new(name));
        let shared = Shared {
            providers: Mutex::default(),
            changed: Notify::new(),
            #[cfg(feature = "k8s")]
            clusters: other.map_or_else(
                || {
                    Arc::new(super::kubernetes::Clusters::new(
                        Arc::clone(&metrics.kubernetes),
                        stop.child_token(),
                    ))
                },
                |other| Arc::clone(&other.clusters),
            ),
            metrics,
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

    /// How each section of each job does, in their order; jobs without sections are absent.
    pub fn status(&self) -> Vec<Status> {
        let mut all = Vec::new();
        for provider in &*self.shared.providers.lock() {
            let Some(section) = &provider.section else { continue };
            let groups = provider.found.0.lock();
            all.extend(provider.jobs.iter().map(|job| Status {
                job: job.clone(),
                mechanism: mechanism(section),
                n_targets: groups.of(job).map(|group| group.targets.len()).sum(),
                failure: provider.health.failure(),
                last_update: provider.health.last_update(),
            }));
        }
        // Providers are in the order of the first job that has them.
        all.sort_by(|a, b| a.job.cmp(&b.job));
        all
    }

    /// Starts what is new in `jobs`, stops what is gone and leaves the rest running. Must run inside a runtime.
    pub fn apply(&self, jobs: &BTreeMap<String, Vec<Discovery>>) {
        let shared = &self.shared;
        let mut providers = shared.providers.lock();
        let mut old = std::mem::take(&mut *providers);
        let before = by_job(&old);
        for (section, users) in wanted(jobs) {
            let same = |provider: &Provider| provider.is_running && provider.section.as_ref() == section;
            let mut provider = match old.iter().position(same) {
                Some(i) => old.swap_remove(i),
                None => shared.start(section, &users),
            };
            provider.jobs = users;
            shared.count(&provider);
            providers.push(provider);
        }
        bequeath(&before, &providers);
        let failed = providers.iter().filter(|provider| !provider.is_running);
        *shared.metrics.failed_configs.lock() =
            failed.map(|provider| provider.jobs.len()).sum::<usize>() as f64;
        shared.metrics.retain_refreshes(|name, job| {
            jobs.get(job).is_some_and(|sections| {
                sections.iter().any(|section| is_refreshed(section) && mechanism(section) == name)
            })
        });
        let mut counted = shared.metrics.jobs.lock();
        counted.retain(|job, _| jobs.contains_key(job));
        for job in jobs.keys() {
            counted.entry(job.clone()).or_default();
        }
        drop(counted);
        drop(providers);
        // Consumers expect the full state after every reload.
        shared.changed.notify_one();
    }

    /// Publishes changes until the manager is stopped.
    pub async fn run(&self) {
        let mut pause = PAUSE_MIN;
        let mut published: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = self.shared.changed.notified() => {}
            }
            let is_calm = published.is_none_or(|at| at.elapsed() > PAUSE_MAX);
            pause = if is_calm { PAUSE_MIN } else { pause.mul_f64(1.5).min(PAUSE_MAX) };
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())) => {}
            }
            self.publish();
            published = Some(Instant::now());
        }
    }

    fn publish(&self) {
        let sets = Arc::new(self.shared.sets());
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
        let count = |groups: &Vec<Arc<TargetGroup>>| groups.iter().map(|g| g.targets.len()).sum();
        *self.shared.metrics.jobs.lock() =
            sets.iter().map(|(job, groups)| (job.clone(), (count(groups), Some(now)))).collect();
        self.shared.metrics.updates.inc();
        self.targets.send_replace(sets);
    }
}

/// The different sections of all jobs with the jobs that have them, in order. A job without sections gets an
/// empty one, so that it is present in the map.
fn wanted(jobs: &BTreeMap<String, Vec<Discovery>>) -> Vec<(Option<&Discovery>, BTreeSet<String>)> {
    let mut wanted: Vec<(Option<&Discovery>, BTreeSet<String>)> = Vec::new();
    for (job, sections) in jobs {
        for section in sections.iter().map(Some).chain(sections.is_empty().then_some(None)) {
            match wanted.iter_mut().find(|(known, _)| *known == section) {
                Some((_, users)) => drop(users.insert(job.clone())),
                None => wanted.push((section, BTreeSet::from([job.clone()]))),
            }
        }
    }
    wanted
}

/// What each job has providers of, in order.
type ByJob = BTreeMap<String, Vec<(Option<&'static str>, Arc<Found>)>>;

fn by_job(providers: &[Provider]) -> ByJob {
    let mut jobs = ByJob::new();
    for provider in providers {
        for job in &provider.jobs {
            let mechanism = provider.section.as_ref().map(mechanism);
            jobs.entry(job.clone()).or_default().push((mechanism, Arc::clone(&provider.found)));
        }
    }
    jobs
}

/// Hands what the lost providers of a job had found to its new ones.
///
/// The heir is the new provider of the same mechanism at the same place among those of that mechanism or, if
/// there are fewer now, the last; without one of the same mechanism, the job's first new provider.
fn bequeath(before: &ByJob, providers: &[Provider]) {
    let after = by_job(providers);
    for (job, now) in &after {
        let Some(then) = before.get(job) else { continue };
        let is_in = |all: &[(_, Arc<Found>)], found| all.iter().any(|(_, other)| Arc::ptr_eq(other, found));
        let fresh: Vec<_> =
            now.iter().filter(|(_, found)| !is_in(then, found) && !found.0.lock().is_settled).collect();
        let mut places: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for (mechanism, lost) in then.iter().filter(|(_, found)| !is_in(now, found)) {
            let place = places.entry(*mechanism).or_default();
            let same: Vec<_> = fresh.iter().filter(|(other, _)| other == mechanism).collect();
            let heir = same.get(*place).or(same.last()).copied().or(fresh.first());
            *place += 1;
            let Some((_, heir)) = heir else { continue };
            let groups: Vec<_> = lost.0.lock().of(job).cloned().collect();
            let mut heir = heir.0.lock();
            // It may have found out itself by now.
            if !heir.is_settled {
                heir.inherited.entry(job.clone()).or_default().extend(groups);
            }
        }
    }
}

impl Shared {
    fn start(self: &Arc<Self>, section: Option<&Discovery>, users: &BTreeSet<String>) -> Provider {
        let health = Arc::new(Health::new(section.map_or("static", mechanism)));
        let mut provider = Provider {
            section: section.cloned(),
            is_running: true,
            jobs: users.clone(),
            found: Arc::default(),
            health: Arc::clone(&health),
            stop: self.stop.child_token(),
        };
        self.count(&provider);
        let Some(section) = section else {
            provider.found.0.lock().is_settled = true;
            return provider;
        };
        let context = Context { health, metrics: Arc::clone(&self.metrics) };
        let made = super::discoverer(
            section,
            &context,
            #[cfg(feature = "k8s")]
            &self.clusters,
        );
        match made {
            Ok(discoverer) => {
                let (updates, received) = mpsc::channel(UPDATES_QUEUED_MAX);
                tokio::spawn(discoverer.run(updates, provider.stop.clone()));
                let collect = collect(
                    received,
                    Arc::clone(&provider.found),
                    Arc::clone(&provider.health),
                    Arc::clone(self),
                );
                tokio::spawn(collect);
            }
            Err(error) => {
                provider.is_running = false;
                // What will never find anything must not hold on to what another mechanism had found.
                provider.found.0.lock().is_settled = matches!(section, Discovery::Other(_));
                provider.health.failed("", "Cannot create service discovery", &error);
            }
        }
        provider
    }

    /// Lets a provider count for the jobs that use it now.
    fn count(&self, provider: &Provider) {
        let is_counted = provider.section.as_ref().is_some_and(is_refreshed);
        let jobs = provider.jobs.iter().filter(|_| is_counted);
        let refreshes = jobs.map(|job| self.metrics.refreshes(provider.health.mechanism(), job));
        provider.health.set_jobs(provider.jobs.iter().cloned().collect(), refreshes.collect());
    }

    fn sets(&self) -> TargetSets {
        let mut sets = TargetSets::new();
        for provider in &*self.providers.lock() {
            let groups = provider.found.0.lock();
            for job in &provider.jobs {
                sets.entry(job.clone()).or_default().extend(groups.of(job).cloned());
            }
        }
        sets
    }
}

/// Takes the updates of one provider until it ends or is dropped.
async fn collect(
    mut updates: mpsc::Receiver<Update>,
    found: Arc<Found>,
    health: Arc<Health>,
    shared: Arc<Shared>,
) {
    while let Some(update) = updates.recv().await {
        shared.metrics.received_updates.inc();
        let is_whole = health.updated();
        let mut groups = found.0.lock();
        for group in update {
            if group.targets.is_empty() {
                groups.by_source.remove(&group.source);
            } else {
                groups.by_source.insert(group.source.clone(), group);
            }
        }
        if is_whole {
            groups.is_settled = true;
            groups.inherited.clear();
        }
        drop(groups);
        shared.changed.notify_one();
    }
}
