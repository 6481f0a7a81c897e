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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::TargetGroup;
use config::prometheus::Discovery;
use model::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
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
    /// Whether it could be made and goes on.
    is_running: Arc<AtomicBool>,
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
    /// By job, what the provider's predecessors had found; gone, source by source, once it knows better.
    inherited: BTreeMap<String, Vec<Arc<TargetGroup>>>,
    /// It has asked for everything once.
    is_settled: bool,
}

impl Groups {
    fn of(&self, job: &str) -> impl Iterator<Item = &Arc<TargetGroup>> {
        self.by_source.values().chain(self.inherited.get(job).into_iter().flatten())
    }

    fn take(&mut self, update: Update, health: &Health) {
        let is_whole = health.updated();
        if !self.inherited.is_empty() {
            let sent: BTreeSet<&str> = update.iter().map(|group| group.source.as_str()).collect();
            self.keep_inherited(|source| !sent.contains(source) && health.is_unknown(source));
        }
        for group in update {
            if group.targets.is_empty() {
                self.by_source.remove(&group.source);
            } else {
                self.by_source.insert(group.source.clone(), group);
            }
        }
        self.is_settled |= is_whole;
    }

    fn inherit(&mut self, job: &str, groups: Vec<Arc<TargetGroup>>, health: &Health) {
        self.inherited.entry(job.to_owned()).or_default().extend(groups);
        // It may have found out some of it by now.
        let known: BTreeSet<String> = self.by_source.keys().cloned().collect();
        self.keep_inherited(|source| !known.contains(source) && health.is_unknown(source));
    }

    fn keep_inherited(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.inherited.retain(|_, groups| {
            groups.retain(|group| is_kept(&group.source));
            !groups.is_empty()
        });
    }
}

impl Provider {
    fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
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
            let same = |provider: &Provider| provider.is_running() && provider.section.as_ref() == section;
            let mut provider = match old.iter().position(same) {
                Some(i) => old.swap_remove(i),
                None => shared.start(section, &users),
            };
            provider.jobs = users;
            shared.count(&provider);
            providers.push(provider);
        }
        bequeath(&before, &providers);
        let failed = providers.iter().filter(|provider| !provider.is_running());
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
type ByJob = BTreeMap<String, Vec<Place>>;

/// One provider of a job.
struct Place {
    mechanism: Option<&'static str>,
    found: Arc<Found>,
    health: Arc<Health>,
}

impl Place {
    fn is_in(&self, all: &[Self]) -> bool {
        all.iter().any(|other| Arc::ptr_eq(&other.found, &self.found))
    }
}

fn by_job(providers: &[Provider]) -> ByJob {
    let mut jobs = ByJob::new();
    for provider in providers {
        for job in &provider.jobs {
            jobs.entry(job.clone()).or_default().push(Place {
                mechanism: provider.section.as_ref().map(mechanism),
                found: Arc::clone(&provider.found),
                health: Arc::clone(&provider.health),
            });
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
        let fresh: Vec<&Place> =
            now.iter().filter(|place| !place.is_in(then) && !place.found.0.lock().is_settled).collect();
        let mut ranks: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for lost in then.iter().filter(|place| !place.is_in(now)) {
            let rank = ranks.entry(lost.mechanism).or_default();
            let same: Vec<_> = fresh.iter().filter(|other| other.mechanism == lost.mechanism).collect();
            let heir = same.get(*rank).or(same.last()).copied().or(fresh.first());
            *rank += 1;
            let Some(heir) = heir else { continue };
            let groups: Vec<_> = lost.found.0.lock().of(job).cloned().collect();
            heir.found.0.lock().inherit(job, groups, &heir.health);
        }
    }
}

impl Shared {
    fn start(self: &Arc<Self>, section: Option<&Discovery>, users: &BTreeSet<String>) -> Provider {
        let health = Arc::new(Health::new(section.map_or("static", mechanism)));
        let provider = Provider {
            section: section.cloned(),
            is_running: Arc::new(true.into()),
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
                let running = tokio::spawn(discoverer.run(updates, provider.stop.clone()));
                let (found, health) = (Arc::clone(&provider.found), Arc::clone(&provider.health));
                let collect = collect(received, found, Arc::clone(&health), Arc::clone(self));
                let is_running = Arc::clone(&provider.is_running);
                tokio::spawn(async move {
                    collect.await;
                    end(running, &is_running, &health).await;
                });
            }
            Err(error) => {
                provider.is_running.store(false, Ordering::Relaxed);
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
        found.0.lock().take(update, &health);
        shared.changed.notify_one();
    }
}

/// Says so if a provider ended by a panic. What it had found stays, and the next reload makes it anew.
async fn end(running: JoinHandle<()>, is_running: &AtomicBool, health: &Health) {
    if running.await.is_err_and(|error| error.is_panic()) {
        is_running.store(false, Ordering::Relaxed);
        health.failed("", "Service discovery has stopped", &"it panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_provider_that_panics_is_seen_and_made_anew() {
        let (is_running, health) = (AtomicBool::new(true), Health::new("dns"));
        end(tokio::spawn(async {}), &is_running, &health).await;
        assert!(is_running.load(Ordering::Relaxed) && health.failure().is_none());
        end(tokio::spawn(async { panic!("a bug of the test's") }), &is_running, &health).await;
        assert!(!is_running.load(Ordering::Relaxed));
        assert_eq!(health.failure().unwrap().error, "it panicked");
    }

    #[test]
    fn what_was_inherited_goes_source_by_source() {
        let group = |source: &str, n: usize| {
            let targets = vec![model::Labels::from_pairs([("__address__", "h:1")]); n];
            Arc::new(TargetGroup { source: source.to_owned(), targets, ..TargetGroup::default() })
        };
        let sources = |groups: &Groups| -> Vec<String> {
            groups.of("job").map(|group| format!("{}:{}", group.source, group.targets.len())).collect()
        };
        let (mut groups, health) = (Groups::default(), Health::new("dns"));
        health.hold();
        groups.take(vec![group("a", 2)], &health);
        let old: Vec<_> = ["a", "b", "c", "d", "e"].map(|source| group(source, 1)).into();
        groups.inherit("job", old, &health);
        assert_eq!(
            sources(&groups),
            ["a:2", "b:1", "c:1", "d:1", "e:1"],
            "what it knows already is not doubled"
        );
        groups.take(vec![group("b", 3), group("c", 0)], &health);
        assert_eq!(sources(&groups), ["a:2", "b:3", "d:1", "e:1"]);
        health.settle_but(|source| source == "e");
        groups.take(Update::new(), &health);
        assert_eq!(sources(&groups), ["a:2", "b:3", "e:1"]);
        assert!(!groups.is_settled);
        health.settle();
        groups.take(Update::new(), &health);
        assert_eq!(sources(&groups), ["a:2", "b:3"]);
        assert!(groups.is_settled);
    }
}
