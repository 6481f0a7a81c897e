//! One rule group: its rules evaluated in file order at one time, their series written and ended.
//!
//! A group knows nothing of clocks but the time it is given; [`super::Manager`] runs it at its slots.
//! No lock is held while a query runs, so views never wait for one.
//!
//! Compat: prometheus `rules/group.go`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::rules::{RuleGroup, RuleKind};
use config::template::alert as template;
use model::storage::{AppendError, SeriesKey, SeriesRef};
use model::wire::expose::{Counter, Gauge};
use model::{Labels, STALE_NAN, Timestamp};
use parking_lot::Mutex;
use promql::parse::ast::Expr;
use promql::{Origin, SampleValue};

use super::alerting::{Alert, AlertState, Found, State, Timing, alert_labels};
use super::{Context, Element, millis, recording};
use crate::notifier;

/// The affinity under which rules append: they have no target of their own.
const AFFINITY: u64 = 0;

/// A running group.
pub struct Group {
    pub spec: RuleGroup,
    pub interval: Duration,
    pub query_offset: Duration,
    /// `<file>;<name>`, the value of the `rule_group` label.
    pub key: String,
    pub rules: Vec<Rule>,
    /// What its queries are known by.
    origin: Origin,
    /// Series of rules that are gone, to be ended at the next evaluation.
    orphans: Mutex<Vec<Labels>>,
    pub last: Mutex<LastRun>,
    pub metrics: Metrics,
}

/// When and how long a group ran last.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastRun {
    pub at: Option<Timestamp>,
    pub duration: Duration,
}

#[derive(Debug, Default)]
pub struct Metrics {
    pub iterations: Counter,
    pub iterations_missed: Counter,
    pub evaluations: Counter,
    pub evaluation_failures: Counter,
    pub last_samples: Gauge,
}

/// One rule of a group, with what it left behind.
pub struct Rule {
    pub spec: config::rules::Rule,
    /// The expression as it prints.
    pub query: String,
    pub report: Mutex<Report>,
    /// The series of the last evaluation.
    previous: Mutex<HashMap<Labels, SeriesRef>>,
    pub alerts: Mutex<State>,
    /// Whether the state from before the restart has been looked for; until then no `ALERTS` are written.
    restored: AtomicBool,
}

/// How the last evaluation of a rule went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub at: Option<Timestamp>,
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
            spec,
            report: Mutex::default(),
            previous: Mutex::default(),
            alerts: Mutex::default(),
            restored: AtomicBool::new(restored),
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

    /// Takes over what `old` knows: the n-th rule of a name and label text continues the n-th of before.
    pub fn copy_state(&self, old: &Self) {
        *self.last.lock() = *old.last.lock();
        let identity = |rule: &Rule| (rule.name().to_owned(), rule.spec.labels.clone());
        let mut past: HashMap<_, Vec<&Rule>> = HashMap::new();
        for rule in old.rules.iter().rev() {
            past.entry(identity(rule)).or_default().push(rule);
        }
        for rule in &self.rules {
            if let Some(before) = past.get_mut(&identity(rule)).and_then(Vec::pop) {
                rule.previous.lock().clone_from(&before.previous.lock());
                *rule.alerts.lock() = before.alerts.lock().clone();
                rule.restored.store(before.restored.load(Ordering::Acquire), Ordering::Release);
            }
        }
        let mut orphans = old.orphans.lock().clone();
        for rule in past.into_values().flatten() {
            orphans.extend(rule.previous.lock().keys().cloned());
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

    /// Whether every rule has looked for its past.
    pub(super) fn is_restored(&self) -> bool {
        self.rules.iter().all(|rule| rule.restored.load(Ordering::Acquire))
    }

    /// Evaluates all rules at `ts`, in order; later rules see what earlier ones wrote.
    pub fn eval(&self, ctx: &Context, ts: Timestamp) {
        let started = Instant::now();
        self.metrics.iterations.inc();
        let mut n_samples = 0;
        for rule in &self.rules {
            self.metrics.evaluations.inc();
            let rule_started = Instant::now();
            let outcome = self.eval_rule(ctx, rule, ts);
            let last_error = match outcome {
                Ok(n) => {
                    n_samples += n;
                    None
                }
                Err(e) => {
                    self.metrics.evaluation_failures.inc();
                    tracing::warn!(
                        group = self.key,
                        rule = rule.name(),
                        error = e,
                        "evaluating a rule failed"
                    );
                    Some(e)
                }
            };
            *rule.report.lock() = Report { at: Some(ts), duration: rule_started.elapsed(), last_error };
        }
        self.metrics.last_samples.set(n_samples as f64);
        self.end_orphans(ctx, ts - millis(self.query_offset));
        *self.last.lock() = LastRun { at: Some(ts), duration: started.elapsed() };
    }

    /// The number of samples that the rule gave.
    fn eval_rule(&self, ctx: &Context, rule: &Rule, ts: Timestamp) -> Result<usize, String> {
        let t = ts - millis(self.query_offset);
        let result = ctx.query(rule.expr(), t, &self.origin)?;
        let samples = match &rule.spec.kind {
            RuleKind::Recording { name } => {
                recording::record(name, &rule.spec.labels, self.spec.limit, result)?
            }
            RuleKind::Alerting { hold, keep_firing_for, .. } => {
                let timing = Timing { hold_ms: millis(*hold), keep_firing_for_ms: millis(*keep_firing_for) };
                self.eval_alerts(ctx, rule, timing, result, ts)?
            }
        };
        write(ctx, rule, &samples, t)?;
        Ok(samples.len())
    }

    fn eval_alerts(
        &self,
        ctx: &Context,
        rule: &Rule,
        timing: Timing,
        result: Vec<Element>,
        ts: Timestamp,
    ) -> Result<Vec<Element>, String> {
        let found = result.into_iter().map(|element| expand(ctx, &self.origin, rule, element, ts)).collect();
        let mut alerts = rule.alerts.lock();
        alerts.update(ts, found, timing, self.spec.limit)?;
        let due = alerts.due(ts, millis(ctx.options.resend_delay), millis(self.interval));
        let samples = if rule.restored.load(Ordering::Acquire) {
            alerts.samples(&rule.spec.labels)
        } else {
            Vec::new()
        };
        drop(alerts);
        if !due.is_empty() {
            let generator_url = generator_url(&ctx.external_url, &rule.query);
            let outgoing = due.into_iter().map(|(labels, alert)| outgoing(labels, alert, &generator_url));
            (ctx.notify)(outgoing.collect());
        }
        Ok(samples)
    }

    /// Ends every series that the group has written, because it is gone; those that others produce go on.
    pub fn end_all(&self, ctx: &Context, t: Timestamp, is_produced: impl Fn(&Labels) -> bool) {
        let mut orphans = self.orphans.lock();
        for rule in &self.rules {
            orphans.extend(rule.previous.lock().drain().map(|(labels, _)| labels));
        }
        orphans.retain(|labels| !is_produced(labels));
        drop(orphans);
        self.end_orphans(ctx, t);
    }

    /// Whether an evaluation last wrote the series.
    pub fn produces(&self, labels: &Labels) -> bool {
        self.rules.iter().any(|rule| rule.previous.lock().contains_key(labels))
    }

    fn end_orphans(&self, ctx: &Context, t: Timestamp) {
        let orphans = std::mem::take(&mut *self.orphans.lock());
        if orphans.is_empty() {
            return;
        }
        let mut appender = ctx.storage.appender(AFFINITY);
        appender.refuse_late(true);
        for labels in &orphans {
            // A refusal means that somebody writes the series by now.
            let _ = appender.append(SeriesKey::Labels(labels), t, STALE_NAN);
        }
        if let Err(e) = appender.commit() {
            tracing::warn!(group = self.key, error = %e, "ending the series of removed rules failed");
        }
    }
}

/// Writes the samples of one rule at `t` and ends the series that it gave last time and not now.
fn write(ctx: &Context, rule: &Rule, samples: &[Element], t: Timestamp) -> Result<(), String> {
    let mut previous = rule.previous.lock();
    let mut appender = ctx.storage.appender(AFFINITY);
    appender.refuse_late(true);
    let mut append = |labels: &Labels, known: Option<SeriesRef>, value: model::Value<'_>| {
        if let Some(known) = known {
            match appender.append_value(SeriesKey::Ref(known), 0, t, value) {
                Err(AppendError::UnknownSeries) => {}
                done => return done,
            }
        }
        appender.append_value(SeriesKey::Labels(labels), 0, t, value)
    };
    let mut written = HashMap::with_capacity(samples.len());
    let mut n_refused = 0;
    for (labels, sample) in samples {
        let value = match sample {
            SampleValue::Float(v) => model::Value::Float(*v),
            SampleValue::Histogram(h) => model::Value::FloatHistogram(h),
        };
        match append(labels, previous.get(labels).copied(), value) {
            Ok(series) => drop(written.insert(labels.clone(), series)),
            Err(AppendError::OutOfOrder | AppendError::TooOld | AppendError::Duplicate) => n_refused += 1,
            Err(e) => {
                tracing::warn!(rule = rule.name(), series = %labels, error = %e, "writing a rule's sample failed");
            }
        }
    }
    if n_refused > 0 {
        tracing::warn!(rule = rule.name(), n_refused, "samples of a rule were out of order or duplicates");
    }
    for (labels, &series) in previous.iter() {
        if !written.contains_key(labels) {
            // A refusal means that the series has newer samples already.
            let _ = append(labels, Some(series), model::Value::Float(STALE_NAN));
        }
    }
    appender.commit().map_err(|e| e.to_string())?;
    *previous = written;
    Ok(())
}

/// Expands the texts of the alert that `element` stands for. A text that fails shows its error.
fn expand(ctx: &Context, origin: &Origin, rule: &Rule, (element, sample): Element, ts: Timestamp) -> Found {
    let RuleKind::Alerting { name, annotations, .. } = &rule.spec.kind else {
        unreachable!("BUG: only alerting rules have alerts");
    };
    let external_labels = ctx.external_labels.load_full();
    let data = template::AlertData {
        labels: &element,
        external_labels: &external_labels,
        external_url: &ctx.external_url,
        value: shown(&sample),
        t: ts,
    };
    let query = |text: &str| {
        let found = ctx.query_text(text, ts, origin)?;
        Ok(found.into_iter().map(|(labels, sample)| (labels, shown(&sample))).collect())
    };
    let template_name = format!("__alert_{name}");
    let expand = |text: &str| match template::expand(&template_name, text, &data, &query) {
        Ok(expanded) => expanded,
        Err(e) => {
            tracing::warn!(alert = name, error = %e, "expanding an alert's template failed");
            format!("<error expanding template: {e}>")
        }
    };
    let labels: Vec<_> =
        rule.spec.labels.iter().map(|(label, text)| (label.as_str(), expand(text))).collect();
    let annotations = annotations.iter().map(|(key, text)| (key.clone(), expand(text))).collect();
    let value = if let SampleValue::Float(v) = sample { v } else { 0.0 };
    Found { labels: alert_labels(&element, &labels, name), annotations: Arc::new(annotations), value }
}

/// The sample as templates take it.
fn shown(sample: &SampleValue) -> template::SampleValue {
    match sample {
        SampleValue::Float(v) => template::SampleValue::Float(*v),
        SampleValue::Histogram(h) => template::SampleValue::Histogram(Arc::clone(h)),
    }
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
