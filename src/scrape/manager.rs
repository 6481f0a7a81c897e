//! All pools: takes over configurations and discovered targets, and shows what is scraped.
//!
//! Compat: prometheus `scrape/manager.go`, `Manager`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use config::prometheus::ScrapeConfig;
use model::storage::Appendable;
use model::wire::expose::{Expose, Exposition};
use model::{Labels, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Buffers;
use super::cache::Hasher;
use super::clock::Clock;
use super::failures::FailureLogs;
use super::ingest::Extras;
use super::lanes::Lanes;
use super::metadata::Table;
use super::metrics::Metrics;
use super::pool::Pool;
use super::runner::Shared;
use super::target::Health;
use crate::discovery::TargetSets;
use crate::http_client;

/// How many times longer than it took to take over targets nothing is taken over again.
const SYNC_SHARE: u32 = 9;

/// Changes that come together are taken over together.
const SYNC_PAUSE_MIN: Duration = Duration::from_millis(100);

/// How the manager works, whatever it scrapes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `--scrape.discovery-reload-interval`: the longest that new targets wait to be taken over.
    pub discovery_reload_interval: Duration,
    /// `--scrape.timestamp-tolerance`; zero leaves every timestamp as it is.
    pub timestamp_tolerance: Duration,
    /// How many threads do nothing but scrape; without any, loops run in the manager's runtime.
    pub n_lanes: usize,
    /// What the store wants beside samples.
    pub extras: Extras,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            discovery_reload_interval: Duration::from_secs(5),
            timestamp_tolerance: Duration::from_millis(2),
            n_lanes: 0,
            extras: Extras::default(),
        }
    }
}

/// A job of a new configuration could not be taken over; the others were.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("error creating new scrape pool for {job:?}: {source}")]
    Client { job: String, source: http_client::Error },
    /// Then nothing was taken over.
    #[error("can't create json log file: {0}")]
    FailureLog(String),
}

/// A target that is scraped.
#[derive(Clone, Debug)]
pub struct ActiveTarget {
    pub discovered_labels: Labels,
    pub labels: Labels,
    pub scrape_pool: String,
    pub scrape_url: String,
    /// Empty if there was none.
    pub last_error: String,
    /// `None` before the first scrape.
    pub last_scrape: Option<Timestamp>,
    pub last_scrape_duration: Duration,
    pub health: Health,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    pub discovered_labels: Labels,
    pub scrape_pool: String,
}

/// What discovery found, by what became of it.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// By pool, then by labels.
    pub active: Vec<ActiveTarget>,
    /// By pool; at most as many per pool as `keep_dropped_targets`.
    pub dropped: Vec<DroppedTarget>,
    /// How many there really are, by pool.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// What one target says about its families.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    pub labels: Labels,
    pub scrape_pool: String,
    pub families: Arc<Table>,
}

/// Scrapes everything that the configuration and discovery name.
pub struct Manager {
    shared: Arc<Shared>,
    options: Options,
    tasks: TaskTracker,
    state: Mutex<State>,
    /// Pools are new or gone.
    is_dirty: Notify,
}

#[derive(Default)]
struct State {
    pools: BTreeMap<String, Pool>,
    /// The newest sets, as taken over.
    sets: Arc<TargetSets>,
    failure_logs: FailureLogs,
}

impl Manager {
    /// `stop` ends all loops, without marking their series as ended.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        appendable: Arc<dyn Appendable>,
        clock: Arc<dyn Clock>,
        options: Options,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        let n_cores = match options.n_lanes {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        // Twice the cores, since a worker waits for the log's write in its commit.
        let n_workers = 2 * n_cores;
        let tasks = TaskTracker::new();
        let shared = Shared {
            appendable,
            clock,
            hasher: Hasher::default(),
            buffers: Buffers::new(2 * n_workers),
            workers: Semaphore::new(n_workers),
            lanes: Lanes::start(options.n_lanes, &tasks)?,
            metrics: Metrics::default(),
            tolerance: options.timestamp_tolerance,
            extras: options.extras,
            stop,
        };
        Ok(Self {
            shared: Arc::new(shared),
            options,
            tasks,
            state: Mutex::default(),
            is_dirty: Notify::new(),
        })
    }

    /// Takes over a configuration. Must run inside a runtime.
    ///
    /// New jobs get their targets when discovery has them.
    ///
    /// # Errors
    /// The clients of these jobs cannot be made; they stay as they were, the others are taken over.
    pub fn apply(&self, config: &Config) -> Result<(), Vec<Error>> {
        let metrics = &self.shared.metrics;
        let host = rustix::system::uname();
        let external = config.global.external_labels.to_string();
        let seed = model::fnv1a([host.nodename().to_bytes(), external.as_bytes()]);
        let mut errors = Vec::new();
        let mut state = self.state.lock();
        let names = config.scrape_configs.iter().map(|job| job.scrape_failure_log_file.as_str());
        state.failure_logs.reopen(names).map_err(|error| vec![Error::FailureLog(error)])?;
        let wanted: BTreeMap<&str, &Arc<ScrapeConfig>> =
            config.scrape_configs.iter().map(|job| (job.job_name.as_str(), job)).collect();
        state.pools.retain(|name, pool| {
            let keep = wanted.contains_key(name.as_str());
            if !keep {
                pool.stop();
            }
            keep
        });
        for (name, job) in wanted {
            let failures = state.failure_logs.get(&job.scrape_failure_log_file);
            let source = if let Some(pool) = state.pools.get_mut(name) {
                if is_same(&pool.job.config, job) {
                    continue;
                }
                metrics.pool_reloads.inc();
                let reloaded = pool.reload(Arc::clone(job), failures);
                reloaded.inspect_err(|_| metrics.pool_reloads_failed.inc()).err()
            } else {
                metrics.pools.inc();
                let (shared, tasks) = (Arc::clone(&self.shared), self.tasks.clone());
                match Pool::new(shared, tasks, seed, Arc::clone(job), failures) {
                    Ok(pool) => {
                        state.pools.insert(name.to_owned(), pool);
                        None
                    }
                    Err(error) => {
                        metrics.pools_failed.inc();
                        Some(error)
                    }
                }
            };
            errors.extend(source.map(|source| Error::Client { job: name.to_owned(), source }));
        }
        drop(state);
        self.is_dirty.notify_one();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Takes over discovered targets until the manager is stopped, then waits for the loops to end.
    ///
    /// A change is taken over at once, and the next one after a pause that keeps this work below a tenth of a core.
    pub async fn run(&self, mut targets: watch::Receiver<Arc<TargetSets>>) {
        let longest = self.options.discovery_reload_interval.max(Duration::from_millis(1));
        let mut is_open = true;
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                () = self.is_dirty.notified() => {}
                // A closed channel keeps its last value, and so do we.
                changed = targets.changed(), if is_open => is_open = changed.is_ok(),
            }
            let begin = Instant::now();
            let sets = Arc::clone(&targets.borrow_and_update());
            self.sync(sets);
            let pause = (begin.elapsed() * SYNC_SHARE).max(SYNC_PAUSE_MIN).min(longest);
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn sync(&self, sets: Arc<TargetSets>) {
        let mut state = self.state.lock();
        state.sets = sets;
        let State { pools, sets, .. } = &mut *state;
        for (name, pool) in pools {
            // Discovery may not know the job yet; its targets stay as they are until it does.
            if let Some(groups) = sets.get(name) {
                pool.sync(groups.clone());
            }
        }
    }

    /// The names of all pools, sorted.
    pub fn pools(&self) -> Vec<String> {
        self.state.lock().pools.keys().cloned().collect()
    }

    /// The targets of one pool or, without a name, of all.
    pub fn targets(&self, pool: Option<&str>) -> Targets {
        let mut targets = Targets::default();
        for (name, pool) in self.state.lock().pools.iter().filter(|(name, _)| pool.is_none_or(|p| p == *name))
        {
            let config = &pool.job.config;
            let begin = targets.active.len();
            targets.active.extend(pool.loops.values().map(|running| {
                let state = running.target.state.lock().clone();
                ActiveTarget {
                    discovered_labels: running.origin.discovered_labels(config).build(),
                    labels: running.target.labels.clone(),
                    scrape_pool: name.clone(),
                    scrape_url: running.target.url.text().to_owned(),
                    last_error: state.last_error,
                    last_scrape: state.last_scrape,
                    last_scrape_duration: state.last_duration,
                    health: state.health,
                    scrape_interval: running.target.interval,
                    scrape_timeout: running.target.timeout,
                }
            }));
            targets.active[begin..].sort_by(|a, b| a.labels.cmp(&b.labels));
            targets.dropped.extend(pool.dropped.iter().map(|origin| DroppedTarget {
                discovered_labels: origin.discovered_labels(config).build(),
                scrape_pool: name.clone(),
            }));
            targets.dropped_counts.insert(name.clone(), pool.n_dropped);
        }
        targets
    }

    /// What all targets say about their families, by pool, then by labels.
    pub fn metadata(&self) -> Vec<TargetMetadata> {
        let mut all = Vec::new();
        for (name, pool) in &self.state.lock().pools {
            let begin = all.len();
            all.extend(pool.loops.values().filter_map(|running| {
                Some(TargetMetadata {
                    labels: running.target.labels.clone(),
                    scrape_pool: name.clone(),
                    families: running.target.state.lock().metadata.clone()?,
                })
            }));
            all[begin..].sort_by(|a: &TargetMetadata, b| a.labels.cmp(&b.labels));
        }
        all
    }

    /// The rules of one job, for those who explain what became of a target.
    pub fn job(&self, pool: &str) -> Option<Arc<ScrapeConfig>> {
        self.state.lock().pools.get(pool).map(|pool| Arc::clone(&pool.job.config))
    }
}

/// Whether a job is configured as before. Debug output shows everything but secrets, which are compared apart.
fn is_same(old: &Arc<ScrapeConfig>, new: &Arc<ScrapeConfig>) -> bool {
    Arc::ptr_eq(old, new) || (old.http == new.http && format!("{old:?}") == format!("{new:?}"))
}

impl model::memory::Holder for Manager {
    fn memory(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        for pool in self.state.lock().pools.values() {
            let bytes = pool.loops.values().map(|running| running.target.state.lock().cache_bytes as u64);
            tell("scrape_cache", bytes.sum());
        }
    }
}

impl Expose for Manager {
    fn expose(&self, out: &mut Exposition) {
        for (name, pool) in &self.state.lock().pools {
            let tables: Vec<Arc<Table>> = pool
                .loops
                .values()
                .filter_map(|running| running.target.state.lock().metadata.clone())
                .collect();
            let bytes = |table: &Arc<Table>| -> usize {
                table.iter().map(|family| family.name.len() + family.help.len() + family.unit.len()).sum()
            };
            let mut jobs = self.shared.metrics.jobs.lock();
            let metrics = jobs.entry(name.clone()).or_default();
            metrics.n_families = tables.iter().map(|table| table.len()).sum();
            metrics.metadata_bytes = tables.iter().map(bytes).sum();
        }
        self.shared.metrics.expose(out);
    }
}
