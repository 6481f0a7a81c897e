//! Which groups run, and when.
//!
//! Every group is a task that sleeps until its slot and evaluates on a thread that may block. A reload
//! leaves equal groups alone, hands the state of changed ones over, and ends the series of removed ones.
//!
//! Compat: prometheus `rules/manager.go`.

use std::collections::BTreeMap;
use std::path::PathBuf;
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
use super::kept::{self, Keeper};
use super::{Context, chronicle, millis, restore};

/// The groups that run, by key.
pub struct Manager {
    ctx: Arc<Context>,
    running: Arc<Mutex<BTreeMap<String, Running>>>,
    shutdown: CancellationToken,
    keeper: Option<Arc<Keeper>>,
    /// Writes the state of alerts now and then, from the first update on.
    keeping: Mutex<Option<JoinHandle<()>>>,
}

struct Running {
    group: Arc<Group>,
    stop: CancellationToken,
    /// `None` once it is being waited for.
    task: Option<JoinHandle<()>>,
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
    /// `kept` is the file that the state of alerts is kept in, if it is.
    pub fn new(ctx: Arc<Context>, kept: Option<PathBuf>) -> Self {
        Self {
            ctx,
            running: Arc::default(),
            shutdown: CancellationToken::new(),
            keeper: kept.map(|path| Arc::new(Keeper::new(path))),
            keeping: Mutex::default(),
        }
    }

    /// Runs exactly the groups of `update` from now on; the first update restores alerts as they were kept, or from
    /// the store.
    pub async fn apply(&self, update: Update, is_first: bool) {
        let mut wanted = BTreeMap::new();
        for spec in update.groups {
            let group = Group::new(spec, update.evaluation_interval, update.query_offset, is_first);
            wanted.insert(group.key.clone(), group);
        }
        if is_first && let Some(keeper) = &self.keeper {
            let groups: Vec<_> = wanted.values().collect();
            kept::load(&self.ctx, keeper.path(), &groups, (self.ctx.now)());
        }
        let old = self.groups();
        let before: Vec<_> = self.running.lock().keys().cloned().collect();
        for key in before.iter().filter(|key| !wanted.contains_key(*key)) {
            let gone = self.running.lock().remove(key);
            if let Some(mut gone) = gone {
                gone.begin_stop().await;
                self.end_later(gone.group);
            }
        }
        for (key, group) in wanted {
            // A group that changes is seen as it was until its successor is there.
            let old = self.running.lock().get_mut(&key).map(|old| {
                let is_equal = old.group.is_equal(&group);
                (Arc::clone(&old.group), (!is_equal).then(|| old.begin_stop()))
            });
            match old {
                Some((_, None)) => continue,
                Some((old, Some(stopped))) => {
                    stopped.await;
                    group.copy_state(&old);
                }
                None => {}
            }
            let running = self.start(group);
            self.running.lock().insert(key, running);
        }
        chronicle::reloaded(&self.ctx, &old, &self.groups());
        if is_first && let Some(keeper) = &self.keeper {
            let keep = keep(
                Arc::clone(&self.ctx),
                Arc::clone(keeper),
                Arc::clone(&self.running),
                self.shutdown.child_token(),
            );
            *self.keeping.lock() = Some(tokio::spawn(keep));
        }
    }

    fn start(&self, group: Group) -> Running {
        let group = Arc::new(group);
        let stop = self.shutdown.child_token();
        let task = tokio::spawn(run(Arc::clone(&self.ctx), Arc::clone(&group), stop.clone()));
        Running { group, stop, task: Some(task) }
    }

    /// Ends the series of a removed group once its successor, if there is one, has had time to write them. They end
    /// with the group: what a successor has written by then stays.
    fn end_later(&self, group: Arc<Group>) {
        let (ctx, running, shutdown) =
            (Arc::clone(&self.ctx), Arc::clone(&self.running), self.shutdown.clone());
        let t = (ctx.now)() - millis(group.query_offset);
        tokio::spawn(async move {
            let wait = tokio::time::sleep(group.interval * 2);
            if shutdown.run_until_cancelled(wait).await.is_none() {
                return;
            }
            let end = move || {
                let others = groups(&running);
                group.end_all(&ctx, t, |labels| others.iter().any(|other| other.produces(labels)));
            };
            if let Err(e) = tokio::task::spawn_blocking(end).await {
                tracing::error!(error = %e, "ending the series of a removed rule group failed");
            }
        });
    }

    /// The groups that run, by file, then name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        groups(&self.running)
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
        let groups = self.groups();
        let running = std::mem::take(&mut *self.running.lock());
        let stopped: Vec<_> = running.into_values().map(|mut running| running.begin_stop()).collect();
        for stopped in stopped {
            stopped.await;
        }
        // Without a first update the file holds what nobody has taken over yet.
        let keeping = self.keeping.lock().take();
        if let (Some(keeping), Some(keeper)) = (keeping, &self.keeper) {
            // A panic of the task has been logged where it happened.
            let _ = keeping.await;
            let (keeper, now) = (Arc::clone(keeper), (self.ctx.now)());
            if let Err(e) = tokio::task::spawn_blocking(move || keeper.save(&groups, now)).await {
                tracing::error!(error = %e, "keeping the state of alerts panicked");
            }
        }
    }
}

/// By file, then name.
fn groups(running: &Mutex<BTreeMap<String, Running>>) -> Vec<Arc<Group>> {
    let mut groups: Vec<_> = running.lock().values().map(|running| Arc::clone(&running.group)).collect();
    groups.sort_by(|a, b| (&a.spec.file, &a.spec.name).cmp(&(&b.spec.file, &b.spec.name)));
    groups
}

/// Writes the state of alerts now and then.
async fn keep(
    ctx: Arc<Context>,
    keeper: Arc<Keeper>,
    running: Arc<Mutex<BTreeMap<String, Running>>>,
    stop: CancellationToken,
) {
    let mut wait = Duration::from_secs(1);
    while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        let (ctx, keeper, running) = (Arc::clone(&ctx), Arc::clone(&keeper), Arc::clone(&running));
        let save = move || keeper.save(&groups(&running), (ctx.now)());
        match tokio::task::spawn_blocking(save).await {
            Ok(next) => wait = next,
            Err(e) => tracing::error!(error = %e, "keeping the state of alerts panicked"),
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
    /// Stops the group after the rule that it is at; what is returned ends when it has.
    fn begin_stop(&mut self) -> impl Future<Output = ()> + use<> {
        self.group.stop();
        self.stop.cancel();
        let task = self.task.take();
        async move {
            if let Some(task) = task {
                // A panic of the task has been logged where it happened.
                let _ = task.await;
            }
        }
    }
}

/// Evaluates `group` at its slots until `stop`.
async fn run(ctx: Arc<Context>, group: Arc<Group>, stop: CancellationToken) {
    let interval_ms = millis(group.interval);
    let mut slot = group.slot_before((ctx.now)()) + interval_ms;
    // Alerts are restored after the second evaluation: recording rules that they ask need one round.
    for n_done in 1_u64.. {
        let now = (ctx.now)();
        if slot - now > interval_ms.saturating_mul(2) {
            // The clock was set back. Waiting for it to catch up would mean no alerts until then.
            let next = group.slot_before(now) + interval_ms;
            tracing::warn!(group = group.key, by_ms = slot - next, "the clock was set back");
            group.shift(next - slot);
            slot = next;
        }
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
        self.ctx.metrics.expose(out);
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
            &|group| group.last.lock().began_at.map_or(0.0, |t| t.as_duration().as_secs_f64()),
        );
        family(
            "prometheus_rule_group_last_duration_seconds",
            "The duration of the last rule group evaluation.",
            Kind::Gauge,
            &|group| group.last.lock().duration.as_secs_f64(),
        );
        family(
            "prometheus_rule_group_last_rule_duration_sum_seconds",
            "The sum of time in seconds it took to evaluate each rule in the group regardless of concurrency. This should be higher than the group duration if rules are evaluated concurrently.",
            Kind::Gauge,
            &|group| group.last.lock().rules_duration.as_secs_f64(),
        );
        family(
            "prometheus_rule_group_last_restore_duration_seconds",
            "The duration of the last alert rules alerts restoration using the `ALERTS_FOR_STATE` series.",
            Kind::Gauge,
            &|group| group.metrics.last_restore_duration.get(),
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
