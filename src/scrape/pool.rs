//! The targets of one job and their loops.
//!
//! Compat: prometheus `scrape/scrape.go`, `scrapePool`.

use std::collections::HashMap;
use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::ScrapeConfig;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::failures::FailureLog;
use super::fetch::Client;
use super::metadata::Tables;
use super::runner::{self, Job, Order, Shared};
use super::target::{self, Origin, Target};
use crate::http_client;

/// The pool of one job.
pub(super) struct Pool {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    seed: u64,
    pub(super) job: Arc<Job>,
    groups: Vec<Arc<TargetGroup>>,
    /// By the target's hash.
    pub(super) loops: HashMap<u64, Loop>,
    /// Targets that relabelling dropped, as many as the configuration keeps.
    pub(super) dropped: Vec<Origin>,
    /// All of them.
    pub(super) n_dropped: usize,
}

/// A running loop.
pub(super) struct Loop {
    pub(super) origin: Origin,
    pub(super) target: Arc<Target>,
    orders: watch::Sender<Order>,
}

impl Pool {
    pub(super) fn new(
        shared: Arc<Shared>,
        tasks: TaskTracker,
        seed: u64,
        config: Arc<ScrapeConfig>,
        failures: Option<Arc<FailureLog>>,
    ) -> Result<Self, http_client::Error> {
        let client = Client::new(&config, shared.metrics.dialers.of(&config.job_name))?;
        let job = Arc::new(Job { config, client, failures, tables: Arc::new(Tables::default()) });
        Ok(Self {
            shared,
            tasks,
            seed,
            job,
            groups: Vec::new(),
            loops: HashMap::new(),
            dropped: Vec::new(),
            n_dropped: 0,
        })
    }

    /// Takes over a new form of the job; loops go on, with their caches where series stay the same.
    pub(super) fn reload(
        &mut self,
        config: Arc<ScrapeConfig>,
        failures: Option<Arc<FailureLog>>,
    ) -> Result<(), http_client::Error> {
        let start = Instant::now();
        let client = Client::new(&config, Arc::clone(&self.job.client.dials))?;
        let interval = config.scrape_interval;
        self.job = Arc::new(Job { config, client, failures, tables: Arc::clone(&self.job.tables) });
        let groups = std::mem::take(&mut self.groups);
        self.sync(groups);
        let length = start.elapsed().as_secs_f64();
        self.shared.metrics.reload_length.lock().entry(interval).or_default().observe(length);
        Ok(())
    }

    /// Brings the loops in line with `groups`.
    pub(super) fn sync(&mut self, groups: Vec<Arc<TargetGroup>>) {
        let start = Instant::now();
        let config = Arc::clone(&self.job.config);
        let keep_max = match usize::try_from(config.limits.keep_dropped_targets) {
            Ok(limit @ 1..) => limit,
            _ => usize::MAX,
        };
        let mut wanted: HashMap<u64, (Origin, Target)> = HashMap::with_capacity(self.loops.len());
        let mut n_failed = 0;
        self.dropped.clear();
        self.n_dropped = 0;
        for group in &groups {
            for index in 0..group.targets.len() {
                let origin = Origin { group: Arc::clone(group), index };
                match target::from_origin(&origin, &config) {
                    Ok(Some(target)) => drop(wanted.entry(target.hash).or_insert((origin, target))),
                    Ok(None) => {
                        self.n_dropped += 1;
                        if self.dropped.len() < keep_max {
                            self.dropped.push(origin);
                        }
                    }
                    Err(error) => {
                        n_failed += 1;
                        let (job, source) = (&config.job_name, &group.source);
                        tracing::error!(job, source, index, %error, "creating target failed");
                    }
                }
            }
        }
        self.groups = groups;

        let forced_error = self.forced_error(wanted.len());
        self.loops.retain(|hash, running| {
            let keep = wanted.contains_key(hash);
            if !keep {
                running.orders.send_modify(|order| order.stop = true);
            }
            keep
        });
        for (hash, (origin, target)) in wanted {
            match self.loops.get_mut(&hash) {
                Some(running) => running.update(&self.job, origin, target, forced_error.as_ref()),
                None => drop(self.loops.insert(hash, self.start(origin, target, forced_error.clone()))),
            }
        }

        let mut jobs = self.shared.metrics.jobs.lock();
        let metrics = jobs.entry(config.job_name.clone()).or_default();
        metrics.syncs += 1;
        metrics.sync_failed += n_failed;
        metrics.sync_length.observe(start.elapsed().as_secs_f64());
        metrics.n_targets = self.loops.len();
        metrics.target_limit = config.limits.targets;
    }

    /// What every target fails with while there are more of them than allowed.
    fn forced_error(&self, n_targets: usize) -> Option<Arc<str>> {
        let limit = self.job.config.limits.targets;
        let exceeded = limit > 0 && u64::try_from(n_targets).is_ok_and(|n| n > limit);
        exceeded.then(|| {
            self.shared.metrics.exceeded_target_limit.inc();
            format!("target_limit exceeded (number of targets: {n_targets}, limit: {limit})").into()
        })
    }

    fn start(&self, origin: Origin, target: Target, forced_error: Option<Arc<str>>) -> Loop {
        let target = Arc::new(target);
        let order =
            Order { job: Arc::clone(&self.job), target: Arc::clone(&target), forced_error, stop: false };
        let (orders, received) = watch::channel(order);
        let running = runner::run(Arc::clone(&self.shared), received, self.seed);
        match self.shared.lanes.of(target.hash) {
            Some(lane) => drop(self.tasks.spawn_on(running, lane)),
            None => drop(self.tasks.spawn(running)),
        }
        Loop { origin, target, orders }
    }

    /// Stops all loops, because the job is gone.
    pub(super) fn stop(&mut self) {
        for (_, running) in self.loops.drain() {
            running.orders.send_modify(|order| order.stop = true);
        }
        self.shared.metrics.jobs.lock().remove(&self.job.config.job_name);
    }
}

impl Loop {
    /// Tells the loop what changed, if something did.
    fn update(&mut self, job: &Arc<Job>, origin: Origin, target: Target, forced_error: Option<&Arc<str>>) {
        self.origin = origin;
        let is_same = target.interval == self.target.interval
            && target.timeout == self.target.timeout
            && target.histograms == self.target.histograms;
        if !is_same {
            self.target = Arc::new(Target { state: Arc::clone(&self.target.state), ..target });
        }
        let order = self.orders.borrow();
        let is_known = is_same && Arc::ptr_eq(&order.job, job) && order.forced_error.as_ref() == forced_error;
        drop(order);
        if !is_known {
            self.orders.send_replace(Order {
                job: Arc::clone(job),
                target: Arc::clone(&self.target),
                forced_error: forced_error.cloned(),
                stop: false,
            });
        }
    }
}
