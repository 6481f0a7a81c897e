//! Which groups run, and when.
//!
//! Every group is a task that sleeps until its slot and evaluates on a thread that may block. A reload
//! leaves equal groups alone, hands the state of changed ones over, and ends the series of removed ones.
//!
//! Compat: prometheus `rules/manager.go`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::rules::{RuleGroup, RuleKind};
use model::wire::expose::{Expose, Exposition, Kind};
use model::{Labels, Timestamp};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::alerting::Alert;
use super::group::{Group, Rule};
use super::{Context, millis, restore};

/// The groups that run, by key.
pub struct Manager {
    ctx: Arc<Context>,
    running: Arc<Mutex<BTreeMap<String, Running>>>,
    shutdown: CancellationToken,
}

struct Running {
    group: Arc<Group>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// An alert and where it comes from.
pub struct Whereabouts {
    pub group: Arc<Group>,
    /// Which rule of the group.
    pub rule: usize,
    /// Without external labels.
    pub labels: Labels,
    /// As it is now.
    pub alert: Alert,
}

impl Whereabouts {
    pub fn rule(&self) -> &Rule {
        &self.group.rules[self.rule]
    }
}

/// What a reload applies.
pub struct Update {
    pub groups: Vec<RuleGroup>,
    pub evaluation_interval: Duration,
    pub query_offset: Duration,
}

impl Manager {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx, running: Arc::default(), shutdown: CancellationToken::new() }
    }

    /// Runs exactly the groups of `update` from now on; the first update restores alerts from the store.
    pub async fn apply(&self, update: Update, is_first: bool) {
        let mut wanted = BTreeMap::new();
        for spec in update.groups {
            let group = Group::new(spec, update.evaluation_interval, update.query_offset, is_first);
            wanted.insert(group.key.clone(), group);
        }
        let mut before = std::mem::take(&mut *self.running.lock());
        let mut after = BTreeMap::new();
        for (key, group) in wanted {
            let old = before.remove(&key);
            let running = match old {
                Some(old) if old.group.is_equal(&group) => old,
                Some(old) => {
                    let old_group = Arc::clone(&old.group);
                    old.stop().await;
                    group.copy_state(&old_group);
                    self.start(group)
                }
                None => self.start(group),
            };
            after.insert(key, running);
        }
        *self.running.lock() = after;
        for gone in before.into_values() {
            let group = Arc::clone(&gone.group);
            gone.stop().await;
            self.end_later(group);
        }
    }

    fn start(&self, group: Group) -> Running {
        let group = Arc::new(group);
        let stop = self.shutdown.child_token();
        let task = tokio::spawn(run(Arc::clone(&self.ctx), Arc::clone(&group), stop.clone()));
        Running { group, stop, task }
    }

    /// Ends the series of a removed group once its successor, if there is one, has had time to write them.
    fn end_later(&self, group: Arc<Group>) {
        let (ctx, running, shutdown) =
            (Arc::clone(&self.ctx), Arc::clone(&self.running), self.shutdown.clone());
        tokio::spawn(async move {
            let wait = tokio::time::sleep(group.interval * 2);
            if shutdown.run_until_cancelled(wait).await.is_none() {
                return;
            }
            let end = move || {
                let others: Vec<_> = running.lock().values().map(|other| Arc::clone(&other.group)).collect();
                let t = (ctx.now)();
                group.end_all(&ctx, t, |labels| others.iter().any(|other| other.produces(labels)));
            };
            if let Err(e) = tokio::task::spawn_blocking(end).await {
                tracing::error!(error = %e, "ending the series of a removed rule group failed");
            }
        });
    }

    /// The groups that run, by file, then name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.running.lock().values().map(|running| Arc::clone(&running.group)).collect()
    }

    /// The alert with these labels, which may have got the external ones on its way; a resolved one for as long as
    /// it is remembered. Relabelling cannot be undone: who changes labels on the way finds nothing.
    pub fn find(&self, labels: &Labels) -> Option<Whereabouts> {
        let name = labels.get(b"alertname")?;
        let external = self.ctx.external_labels.load();
        let is_external = |label: &[u8]| external.get(label).is_some_and(|v| labels.get(label) == Some(v));
        let bare = labels.without(is_external);
        let candidates = if bare == *labels { vec![bare] } else { vec![labels.clone(), bare] };
        let groups = self.groups();
        candidates.iter().find_map(|labels| groups.iter().find_map(|group| find(group, name, labels)))
    }

    /// Stops all groups after the evaluation they are in; their series end by themselves.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        let running = std::mem::take(&mut *self.running.lock());
        for running in running.into_values() {
            running.stop().await;
        }
    }
}

fn find(group: &Arc<Group>, name: &[u8], labels: &Labels) -> Option<Whereabouts> {
    group.rules.iter().enumerate().find_map(|(i, rule)| {
        let is_named = matches!(&rule.spec.kind, RuleKind::Alerting { name: n, .. } if n.as_bytes() == name);
        let alert = rule.alerts.lock().alerts.get(labels).filter(|_| is_named).cloned()?;
        Some(Whereabouts { group: Arc::clone(group), rule: i, labels: labels.clone(), alert })
    })
}

impl Running {
    /// Returns after the evaluation that is under way.
    async fn stop(self) {
        self.stop.cancel();
        // A panic of the task has been logged where it happened.
        let _ = self.task.await;
    }
}

/// Evaluates `group` at its slots until `stop`.
async fn run(ctx: Arc<Context>, group: Arc<Group>, stop: CancellationToken) {
    let interval_ms = millis(group.interval);
    let mut slot = group.slot_before((ctx.now)()) + interval_ms;
    // Alerts are restored after the second evaluation: recording rules that they ask need one round.
    for n_done in 1_u64.. {
        if stop.run_until_cancelled(sleep_until(&ctx, slot)).await.is_none() {
            return;
        }
        slot = skip_missed(&group, slot, (ctx.now)());
        let (eval_ctx, eval_group) = (Arc::clone(&ctx), Arc::clone(&group));
        let restores_now = n_done >= 2 && !group.is_restored();
        let evaluation = tokio::task::spawn_blocking(move || {
            eval_group.eval(&eval_ctx, slot);
            if restores_now {
                restore::restore(&eval_ctx, &eval_group, (eval_ctx.now)());
            }
        });
        if let Err(e) = evaluation.await {
            tracing::error!(group = group.key, error = %e, "evaluating a rule group panicked");
        }
        slot += interval_ms;
    }
}

async fn sleep_until(ctx: &Context, t: Timestamp) {
    let wait_ms = u64::try_from(t - (ctx.now)()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
}

/// The slot to evaluate now: `slot`, or a later one if whole slots have passed, which are counted.
fn skip_missed(group: &Group, slot: Timestamp, now: Timestamp) -> Timestamp {
    let missed = (now - slot).div_euclid(millis(group.interval)).max(0);
    let n_missed = u64::try_from(missed).expect("a count is not negative");
    group.metrics.iterations.add(n_missed);
    group.metrics.iterations_missed.add(n_missed);
    slot + missed * millis(group.interval)
}

impl Expose for Manager {
    fn expose(&self, out: &mut Exposition) {
        let groups = self.groups();
        let mut family = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&Group) -> f64| {
            out.family(name, help, kind);
            for group in &groups {
                out.sample(name, &[("rule_group", &group.key)], value(group));
            }
        };
        let counter = Kind::Counter;
        family(
            "prometheus_rule_evaluations_total",
            "The total number of rule evaluations.",
            counter,
            &|group| group.metrics.evaluations.get() as f64,
        );
        family(
            "prometheus_rule_evaluation_failures_total",
            "The total number of rule evaluation failures.",
            counter,
            &|group| group.metrics.evaluation_failures.get() as f64,
        );
        family(
            "prometheus_rule_group_iterations_total",
            "The total number of scheduled rule group evaluations, whether executed or missed.",
            counter,
            &|group| group.metrics.iterations.get() as f64,
        );
        family(
            "prometheus_rule_group_iterations_missed_total",
            "The total number of rule group evaluations missed due to slow rule group evaluation.",
            counter,
            &|group| group.metrics.iterations_missed.get() as f64,
        );
        family(
            "prometheus_rule_group_interval_seconds",
            "The interval of a rule group.",
            Kind::Gauge,
            &|group| group.interval.as_secs_f64(),
        );
        family(
            "prometheus_rule_group_last_evaluation_timestamp_seconds",
            "The timestamp of the last rule group evaluation in seconds.",
            Kind::Gauge,
            &|group| group.last.lock().at.unwrap_or(0) as f64 / 1000.0,
        );
        family(
            "prometheus_rule_group_last_duration_seconds",
            "The duration of the last rule group evaluation.",
            Kind::Gauge,
            &|group| group.last.lock().duration.as_secs_f64(),
        );
        family("prometheus_rule_group_rules", "The number of rules.", Kind::Gauge, &|group| {
            group.rules.len() as f64
        });
        family(
            "prometheus_rule_group_last_evaluation_samples",
            "The number of samples returned during the last rule group evaluation.",
            Kind::Gauge,
            &|group| group.metrics.last_samples.get(),
        );
    }
}
