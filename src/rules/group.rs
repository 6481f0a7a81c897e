//! One rule group: its rules evaluated in file order at one time, their series written and ended.
//!
//! A group knows nothing of clocks but the time it is given; [`super::Manager`] runs it at its slots.
//! No lock is held while a query runs, so views never wait for one.
//!
//! Compat: prometheus `rules/group.go`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use config::rules::{RuleGroup, RuleKind};
use model::storage::SeriesKey;
use model::wire::expose::{Counter, Gauge};
use model::{Labels, LabelsBuilder, STALE_NAN, Timestamp};
use parking_lot::Mutex;
use promql::Origin;
use promql::parse::ast::Expr;

use super::alerting::{Alert, AlertState, State, Timing};
use super::expand::{Memory, Texts};
use super::lineage::Lineage;
use super::write::{AFFINITY, Series};
use super::{Context, Element, chronicle, millis, recording};
use crate::{notifier, story};

/// A running group.
pub struct Group {
    pub spec: RuleGroup,
    pub interval: Duration,
    pub query_offset: Duration,
    /// `<file>;<name>`, the value of the `rule_group` label.
    pub key: String,
    pub rules: Vec<Rule>,
    /// Which rules read what others write; `None` if that cannot be told.
    pub lineage: Option<Lineage>,
    /// What its queries are known by.
    origin: Origin,
    /// Set when the group shall stop after the rule that it is at.
    is_stopping: AtomicBool,
    /// Series of rules that are gone, to be ended at the next evaluation.
    orphans: Mutex<Vec<Labels>>,
    pub last: Mutex<LastRun>,
    pub metrics: Metrics,
}

/// When and how long a group ran last.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastRun {
    /// The slot.
    pub at: Option<Timestamp>,
    /// When it really began.
    pub began_at: Option<jiff::Timestamp>,
    pub duration: Duration,
    /// Of all rules, one after the other.
    pub rules_duration: Duration,
}

#[derive(Debug, Default)]
pub struct Metrics {
    pub iterations: Counter,
    pub iterations_missed: Counter,
    pub evaluations: Counter,
    pub evaluation_failures: Counter,
    pub last_samples: Gauge,
    /// Seconds.
    pub last_restore_duration: Gauge,
}

/// One rule of a group, with what it left behind.
pub struct Rule {
    pub spec: config::rules::Rule,
    /// The expression as it prints.
    pub query: String,
    pub report: Mutex<Report>,
    /// What it wrote at the last evaluation.
    series: Mutex<Series>,
    pub alerts: Mutex<State>,
    /// Of an alert.
    texts: Option<Texts>,
    memory: Mutex<Memory>,
    /// Whether the state from before the restart has been looked for; until then no `ALERTS` are written.
    restored: AtomicBool,
    /// What stories know it as, once they do.
    pub(super) story: OnceLock<Arc<story::Rule>>,
}

/// How the last evaluation of a rule went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The slot.
    pub at: Option<Timestamp>,
    /// When it really began.
    pub began_at: Option<jiff::Timestamp>,
    pub duration: Duration,
    pub last_error: Option<String>,
}

impl Report {
    pub fn health(&self) -> &'static str {
        match (&self.at, &self.last_error) {
            (None, _) => "unknown",
            (Some(_), None) => "ok",
            (Some(_), Some(_)) => "err",
        }
    }
}

impl Rule {
    fn new(spec: config::rules::Rule, restored: bool) -> Self {
        Self {
            query: spec.expr.to_string(),
            texts: Texts::of(&spec),
            spec,
            report: Mutex::default(),
            series: Mutex::default(),
            alerts: Mutex::default(),
            memory: Mutex::default(),
            restored: AtomicBool::new(restored),
            story: OnceLock::new(),
        }
    }

    pub fn name(&self) -> &str {
        match &self.spec.kind {
            RuleKind::Recording { name } | RuleKind::Alerting { name, .. } => name,
        }
    }

    pub fn expr(&self) -> &Expr {
        &self.spec.expr
    }

    pub(super) fn set_restored(&self) {
        self.restored.store(true, Ordering::Release);
    }

    pub(super) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }

    fn take_restored(&self, before: &Self) {
        self.restored.store(before.is_restored(), Ordering::Release);
    }

    /// Whether the rule is `before` with other texts for the same labels.
    fn is_relabelled(&self, before: &Self) -> bool {
        let is_alert = |rule: &Self| matches!(rule.spec.kind, RuleKind::Alerting { .. });
        is_alert(self)
            && is_alert(before)
            && self.name() == before.name()
            && self.spec.labels.keys().eq(before.spec.labels.keys())
    }

    /// Continues the alerts of `before` under the labels that they have now; where a template changed that cannot be
    /// told, and the next evaluation finds them gone.
    fn take_relabelled(&self, before: &Self) {
        self.take_restored(before);
        let changed: BTreeMap<_, _> = (self.spec.labels.iter())
            .filter(|(label, text)| !text.contains("{{") && before.spec.labels.get(*label) != Some(text))
            .collect();
        let alerts = std::mem::take(&mut before.alerts.lock().alerts);
        let mut mine = self.alerts.lock();
        for (labels, mut alert) in alerts {
            let mut builder = LabelsBuilder::from(&labels);
            for (label, text) in &changed {
                builder.set(label.as_bytes(), text.as_bytes());
            }
            builder.set(b"alertname", self.name().as_bytes());
            let renamed = builder.build();
            if renamed != labels {
                if alert.state == AlertState::Inactive {
                    // Nobody was told of it under these labels.
                    continue;
                }
                alert.last_sent_at = None;
            }
            mine.alerts.insert(renamed, alert);
        }
    }
}

impl Group {
    /// A group that begins now; `restore` if its alerts may have a past in the store.
    pub fn new(spec: RuleGroup, interval: Duration, query_offset: Duration, restore: bool) -> Self {
        let rules = spec.rules.iter().map(|rule| Rule::new(rule.clone(), !restore)).collect();
        Self {
            interval: spec.interval.unwrap_or(interval),
            query_offset: spec.query_offset.unwrap_or(query_offset),
            key: format!("{};{}", spec.file.display(), spec.name),
            rules,
            lineage: Lineage::of(&spec.rules),
            is_stopping: AtomicBool::new(false),
            origin: Origin::Rules { file: spec.file.display().to_string(), group: spec.name.clone() },
            orphans: Mutex::default(),
            last: Mutex::default(),
            metrics: Metrics::default(),
            spec,
        }
    }

    /// Whether a reload may leave this group running in place of `other`.
    pub fn is_equal(&self, other: &Self) -> bool {
        let same_rule = |(a, b): (&Rule, &Rule)| {
            a.spec.kind == b.spec.kind && a.spec.labels == b.spec.labels && a.query == b.query
        };
        self.key == other.key
            && (self.interval, self.query_offset, self.spec.limit)
                == (other.interval, other.query_offset, other.spec.limit)
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(same_rule)
    }

    /// Takes over what `old` knows: the n-th rule of a name and label text continues the n-th of before. An alerting
    /// rule that has no such one continues one whose labels differ in their texts only.
    pub fn copy_state(&self, old: &Self) {
        *self.last.lock() = *old.last.lock();
        let mut past: Vec<&Rule> = old.rules.iter().collect();
        let mut take =
            |is_it: &dyn Fn(&Rule) -> bool| past.iter().position(|rule| is_it(rule)).map(|i| past.remove(i));
        let mut others = Vec::new();
        for rule in &self.rules {
            let is_same =
                |before: &Rule| rule.name() == before.name() && rule.spec.labels == before.spec.labels;
            if let Some(before) = take(&is_same) {
                std::mem::swap(&mut *rule.series.lock(), &mut *before.series.lock());
                *rule.alerts.lock() = std::mem::take(&mut *before.alerts.lock());
                rule.take_restored(before);
            } else if matches!(rule.spec.kind, RuleKind::Alerting { .. }) {
                others.push(rule);
            }
        }
        for rule in others {
            if let Some(before) = take(&|before| rule.is_relabelled(before)) {
                rule.take_relabelled(before);
            }
        }
        let mut orphans = std::mem::take(&mut *old.orphans.lock());
        for rule in &old.rules {
            orphans.extend(rule.series.lock().take());
        }
        *self.orphans.lock() = orphans;
    }

    /// The offset of the group's slots inside its interval, in ms: stable over restarts, spread over groups.
    fn phase_ms(&self) -> i64 {
        let hash = model::fnv1a([self.key.as_bytes()]);
        let interval_ms = u64::try_from(millis(self.interval)).expect("a span is not negative").max(1);
        i64::try_from(hash % interval_ms).expect("a remainder of an i64 fits")
    }

    /// The last slot at or before `t`.
    pub fn slot_before(&self, t: Timestamp) -> Timestamp {
        let phase = self.phase_ms();
        (t - phase).div_euclid(millis(self.interval)) * millis(self.interval) + phase
    }

    /// Moves the times of all alerts, after the clock was set.
    pub(super) fn shift(&self, by_ms: i64) {
        for rule in &self.rules {
            rule.alerts.lock().shift(by_ms);
        }
    }

    /// Whether every rule has looked for its past.
    pub(super) fn is_restored(&self) -> bool {
        self.rules.iter().all(Rule::is_restored)
    }

    /// Lets an evaluation that is under way end after the rule that it is at.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Evaluates all rules at `ts`; later rules see what earlier ones wrote.
    pub fn eval(&self, ctx: &Context, ts: Timestamp) {
        let (started, began_at) = (Instant::now(), jiff::Timestamp::now());
        self.metrics.iterations.inc();
        let batches =
            self.lineage.as_ref().filter(|_| ctx.options.concurrent_evals > 0).map(Lineage::batches);
        let n_samples = match batches {
            Some(batches) => batches.iter().map(|batch| self.eval_batch(ctx, batch, ts)).sum::<usize>(),
            None => self.rules.iter().map(|rule| self.eval_reported(ctx, rule, ts)).sum(),
        };
        if !self.is_stopping() {
            self.metrics.last_samples.set(n_samples as f64);
            self.end_orphans(ctx, ts - millis(self.query_offset));
        }
        let duration = started.elapsed();
        ctx.metrics.groups.observe(duration);
        let rules_duration = self.rules.iter().map(|rule| rule.report.lock().duration).sum();
        *self.last.lock() = LastRun { at: Some(ts), began_at: Some(began_at), duration, rules_duration };
    }

    /// Evaluates rules that do not depend on each other, as many at once as there are places for.
    fn eval_batch(&self, ctx: &Context, batch: &[usize], ts: Timestamp) -> usize {
        std::thread::scope(|scope| {
            let mut n_samples = 0;
            let mut beside = Vec::new();
            for &i in batch {
                let rule = &self.rules[i];
                let place = match batch.len() {
                    1 => None,
                    _ => ctx.metrics.take_place(ctx.options.concurrent_evals),
                };
                match place {
                    Some(place) => beside.push(scope.spawn(move || {
                        let _place = place;
                        self.eval_reported(ctx, rule, ts)
                    })),
                    None => n_samples += self.eval_reported(ctx, rule, ts),
                }
            }
            let join = |thread: std::thread::ScopedJoinHandle<'_, usize>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            n_samples + beside.into_iter().map(join).sum::<usize>()
        })
    }

    /// Evaluates a rule and notes how that went. Returns the number of samples that it gave.
    fn eval_reported(&self, ctx: &Context, rule: &Rule, ts: Timestamp) -> usize {
        if self.is_stopping() {
            return 0;
        }
        let (started, began_at) = (Instant::now(), jiff::Timestamp::now());
        self.metrics.evaluations.inc();
        let (n_samples, last_error) = match self.eval_rule(ctx, rule, ts) {
            Ok(done) => (done.n_samples, done.complaint),
            Err(e) => {
                self.metrics.evaluation_failures.inc();
                tracing::warn!(
                    file = %self.spec.file.display(),
                    group = self.spec.name,
                    rule = rule.name(),
                    error = e,
                    "Evaluating rule failed"
                );
                (0, Some(e))
            }
        };
        let duration = started.elapsed();
        ctx.metrics.evaluations.observe(duration);
        *rule.report.lock() = Report { at: Some(ts), began_at: Some(began_at), duration, last_error };
        chronicle::evaluated(ctx, self, rule, ts);
        n_samples
    }

    fn eval_rule(&self, ctx: &Context, rule: &Rule, ts: Timestamp) -> Result<Done, String> {
        let t = ts - millis(self.query_offset);
        let result = ctx.query(rule.expr(), t, &self.origin)?;
        let (samples, complaint) = match &rule.spec.kind {
            RuleKind::Recording { name } => {
                (recording::record(name, &rule.spec.labels, self.spec.limit, result)?, None)
            }
            RuleKind::Alerting { hold, keep_firing_for, .. } => {
                let timing = Timing { hold_ms: millis(*hold), keep_firing_for_ms: millis(*keep_firing_for) };
                self.eval_alerts(ctx, rule, timing, result, ts)?
            }
        };
        let refused = rule.series.lock().write(ctx, rule.name(), &samples, t)?;
        Ok(Done { n_samples: samples.len(), complaint: complaint.or(refused) })
    }

    /// The samples of an alerting rule, and what is wrong although they are.
    fn eval_alerts(
        &self,
        ctx: &Context,
        rule: &Rule,
        timing: Timing,
        result: Vec<Element>,
        ts: Timestamp,
    ) -> Result<(Vec<Element>, Option<String>), String> {
        let texts = rule.texts.as_ref().expect("BUG: an alerting rule has texts");
        let found = texts.expand(ctx, &self.origin, &mut rule.memory.lock(), result, ts);
        let mut alerts = rule.alerts.lock();
        let complaint = if ctx.options.keeps_over_limit {
            alerts.update_keeping(ts, found, timing, self.spec.limit)?
        } else {
            alerts.update(ts, found, timing, self.spec.limit)?;
            None
        };
        let due = alerts.due(ts, millis(ctx.options.resend_delay), millis(self.interval));
        let samples = if rule.is_restored() { alerts.samples() } else { Vec::new() };
        drop(alerts);
        if !due.is_empty() {
            let generator_url = generator_url(&ctx.external_url, &rule.query);
            let outgoing = due.into_iter().map(|(labels, alert)| outgoing(labels, alert, &generator_url));
            (ctx.notify)(outgoing.collect());
        }
        Ok((samples, complaint))
    }

    /// Ends every series that the group has written, because it is gone; those that others produce go on.
    pub fn end_all(&self, ctx: &Context, t: Timestamp, is_produced: impl Fn(&Labels) -> bool) {
        let mut orphans = self.orphans.lock();
        for rule in &self.rules {
            orphans.extend(rule.series.lock().take());
        }
        orphans.retain(|labels| !is_produced(labels));
        drop(orphans);
        self.end_orphans(ctx, t);
    }

    /// Whether an evaluation last wrote the series.
    pub fn produces(&self, labels: &Labels) -> bool {
        self.rules.iter().any(|rule| rule.series.lock().contains(labels))
    }

    fn end_orphans(&self, ctx: &Context, t: Timestamp) {
        let mut orphans = self.orphans.lock();
        if orphans.is_empty() {
            return;
        }
        let mut appender = ctx.storage.appender(AFFINITY);
        appender.refuse_late(true);
        for labels in &*orphans {
            // A refusal means that somebody writes the series by now.
            let _ = appender.append(SeriesKey::Labels(labels), t, STALE_NAN);
        }
        match appender.commit() {
            Ok(()) => orphans.clear(),
            // Tried again after the next evaluation.
            Err(e) => {
                tracing::warn!(group = self.key, error = %e, "ending the series of removed rules failed");
            }
        }
    }
}

/// An evaluation of a rule that went well.
struct Done {
    n_samples: usize,
    /// What is wrong all the same.
    complaint: Option<String>,
}

fn outgoing(labels: Labels, alert: Alert, generator_url: &str) -> notifier::Alert {
    let ends_at = match (alert.state, alert.resolved_at) {
        (AlertState::Inactive, Some(resolved_at)) => resolved_at,
        _ => alert.valid_until,
    };
    notifier::Alert {
        labels,
        annotations: Arc::unwrap_or_clone(alert.annotations),
        starts_at: alert.fired_at.unwrap_or(alert.active_at),
        ends_at,
        generator_url: generator_url.to_owned(),
    }
}

/// The page that shows the expression.
/// Compat: prometheus/common `helpers/templates/strutil`, `TableLinkForExpression`.
fn generator_url(external_url: &str, query: &str) -> String {
    format!("{external_url}/graph?g0.expr={}&g0.tab=1", config::template::query_escape(query))
}
