//! What mails ask about their alerts, answered from rules, samples and the history of `ALERTS`.
//!
//! Every question has a turn and a budget of time; what is not known by then is left out. Alerts of other servers are not
//! known at all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use config::rules::RuleKind;
use futures_util::future::BoxFuture;
use model::labels::METRIC_NAME;
use model::{Labels, Timestamp};
use promql::parse::ast::{BinaryOp, Expr};
use promql::{Origin, QueryOptions, RangeParams, Value};
use tokio::sync::Semaphore;

use super::App;
use crate::alertmanager::insight::{self, Asked, Facts, Findings, History, Question, Related, RuleFacts};
use crate::chart::{Bad, Chart, Curve, Span, SpanKind, Threshold};
use crate::rules::alerting::AlertState;
use crate::rules::condition::{self, Condition, Subject, Test};
use crate::rules::manager::Whereabouts;
use crate::unit::Unit;

/// Messages that may ask at once; a storm of them must not take the threads of the queries of people.
const TURNS: usize = 2;
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);
/// All queries for one message.
const BUDGET: Duration = Duration::from_millis(1_800);
const QUERY_MAX: Duration = Duration::from_secs(1);
const HISTORY_MAX: Duration = Duration::from_millis(200);
/// A query with less time left need not begin.
const QUERY_MIN: Duration = Duration::from_millis(20);

/// Alerts of one message about which anything is told; tables show far fewer.
const ALERTS_MAX: usize = 200;
/// Rules of one message whose expressions are asked.
const RULES_MAX: usize = 5;
/// Branches of an `or` that are tried.
const BRANCHES_MAX: usize = 3;
const NEIGHBOURS_MAX: usize = 8;
const RELATED_MAX: usize = 5;

const POINTS: i64 = 300;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const HISTORY_DAYS: i64 = 7;

/// The server, as messages ask it.
pub(super) struct Insight {
    app: Weak<App>,
    turns: Semaphore,
}

impl fmt::Debug for Insight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Insight").finish_non_exhaustive()
    }
}

impl Insight {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::downgrade(app), turns: Semaphore::new(TURNS) }
    }
}

impl insight::Insight for Insight {
    fn look(&self, question: Question) -> BoxFuture<'_, Findings> {
        Box::pin(async move {
            let Some(app) = self.app.upgrade() else { return Findings::default() };
            let Ok(Ok(_turn)) = tokio::time::timeout(TURN_WAIT_MAX, self.turns.acquire()).await else {
                return without("too many messages ask at once");
            };
            let work = tokio::task::spawn_blocking(move || Look::new(&app, &question).findings());
            work.await.unwrap_or_else(|_| without("looking them up failed"))
        })
    }
}

fn without(reason: &str) -> Findings {
    Findings { notes: vec![format!("values and graphs are not available: {reason}")], ..Findings::default() }
}

/// One question being answered.
struct Look<'q> {
    app: &'q App,
    question: &'q Question,
    now: Timestamp,
    deadline: Instant,
}

/// An alert of the question and where it comes from.
struct Known {
    place: usize,
    found: Whereabouts,
}

impl<'q> Look<'q> {
    fn new(app: &'q App, question: &'q Question) -> Self {
        Self { app, question, now: question.now.as_millisecond(), deadline: Instant::now() + BUDGET }
    }

    fn findings(&self) -> Findings {
        let mut findings = Findings::default();
        let mut by_rule: BTreeMap<(String, usize), Vec<Known>> = BTreeMap::new();
        for (place, asked) in self.question.alerts.iter().enumerate().take(ALERTS_MAX) {
            if let Some(found) = self.find(asked) {
                let rule = (found.group.key.clone(), found.rule);
                by_rule.entry(rule).or_default().push(Known { place, found });
            }
        }
        let known: Vec<_> = by_rule.values().flatten().map(|known| known.found.labels.clone()).collect();
        // Rules in the order in which their alerts are shown: time may not suffice for all.
        let mut rules: Vec<_> = by_rule.into_values().collect();
        rules.sort_by_key(|alerts| alerts.first().map(|known| known.place));
        for (i, alerts) in rules.iter().enumerate() {
            self.tell_rule(alerts, i < RULES_MAX, &mut findings);
        }
        if let Some(lead) = rules.first().and_then(|alerts| alerts.first()) {
            findings.history = self.history(&known);
            findings.related = self.related(&lead.found.labels, &known);
        }
        findings.notes.dedup();
        findings
    }

    /// The alert of a rule that became the one asked for; labels may have been added on its way.
    fn find(&self, asked: &Asked) -> Option<Whereabouts> {
        if !asked.generator_url.starts_with(&self.app.external_url) {
            return None;
        }
        let labels = Labels::from_pairs(&asked.labels);
        self.app.rules.find(&labels).or_else(|| self.find_within(&labels))
    }

    /// The alert with the most labels of which all are among `labels`.
    fn find_within(&self, labels: &Labels) -> Option<Whereabouts> {
        let name = labels.get(b"alertname")?;
        let mut best: Option<Whereabouts> = None;
        for group in self.app.rules.groups() {
            for (i, rule) in group.rules.iter().enumerate() {
                if rule.name().as_bytes() != name || !matches!(rule.spec.kind, RuleKind::Alerting { .. }) {
                    continue;
                }
                let state = rule.alerts.lock();
                let fitting =
                    state.alerts.iter().filter(|(own, _)| own.iter().all(|(n, v)| labels.get(n) == Some(v)));
                if let Some((own, alert)) = fitting.max_by_key(|(own, _)| (own.len(), *own))
                    && best.as_ref().is_none_or(|best| best.labels.len() < own.len())
                {
                    best = Some(Whereabouts {
                        group: Arc::clone(&group),
                        rule: i,
                        labels: own.clone(),
                        alert: alert.clone(),
                    });
                }
            }
        }
        best
    }

    // === One rule ===

    fn tell_rule(&self, alerts: &[Known], asks: bool, findings: &mut Findings) {
        let Some(lead) = alerts.first() else { return };
        let expr = lead.found.rule().expr();
        let branches = Condition::branches(expr);
        let window = self.window(alerts, expr);
        let mut chosen = (Condition::of(expr), None);
        if asks {
            for condition in branches.into_iter().take(BRANCHES_MAX) {
                match self.curves(&condition, window, lead) {
                    Ok(curves) => {
                        let fits = !curves.of(lead, &condition).0.is_empty();
                        if fits || chosen.1.is_none() {
                            chosen = (condition, Some(curves));
                        }
                        if fits {
                            break;
                        }
                    }
                    Err(reason) => {
                        findings.notes.push(format!("graph not available: {reason}"));
                        break;
                    }
                }
            }
        }
        let (condition, curves) = chosen;
        let rule = Arc::new(rule_facts(lead, &condition));
        for known in alerts {
            let facts = self.facts(known, &rule, &condition, curves.as_ref(), window);
            findings.alerts.insert(known.place, facts);
        }
    }

    /// From long enough before the first of the alerts that are drawn until now.
    fn window(&self, alerts: &[Known], expr: &Expr) -> RangeParams {
        let drawn = alerts.iter().filter(|known| known.place < self.question.charts_max.max(1));
        let active_at = drawn.map(|known| known.found.alert.active_at).min();
        let active_at =
            active_at.or(alerts.first().map(|known| known.found.alert.active_at)).unwrap_or(self.now);
        let hold = alerts.first().map_or(Duration::ZERO, |known| hold(known).0);
        let lead_in = HOUR_MS.max(2 * millis(hold)).max(4 * millis(condition::longest_range(expr)));
        let life = (self.now - active_at).max(0);
        let length = if life > DAY_MS {
            (life + life / 4).min(HISTORY_DAYS * DAY_MS)
        } else {
            (life + lead_in).clamp(HOUR_MS, DAY_MS)
        };
        let interval = alerts.first().map_or(1_000, |known| millis(known.found.group.interval)).max(1_000);
        let step_ms = ((length / POINTS).max(1) + interval - 1) / interval * interval;
        RangeParams { start: self.now - length / step_ms * step_ms, end: self.now, step_ms }
    }

    fn curves(&self, condition: &Condition<'_>, window: RangeParams, lead: &Known) -> Result<Curves, String> {
        let subject = self.query(&condition.subject.to_string(), window, QUERY_MAX, lead)?;
        let limits = match condition.test {
            // The line is worth less than the curve: it may be missing.
            Test::Other { side, .. } => {
                self.query(&side.to_string(), window, QUERY_MAX, lead).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        Ok(Curves { subject, limits })
    }

    fn query(
        &self,
        text: &str,
        range: RangeParams,
        limit: Duration,
        lead: &Known,
    ) -> Result<Vec<(Labels, Curve)>, String> {
        let left = self.deadline.saturating_duration_since(Instant::now()).min(limit);
        if left < QUERY_MIN {
            return Err(format!("no time is left of {BUDGET:?}"));
        }
        let spec = &lead.found.group.spec;
        let origin = Origin::Rules { file: spec.file.display().to_string(), group: spec.name.clone() };
        let options = QueryOptions { timeout: Some(left), origin: Some(origin), ..QueryOptions::default() };
        let result = self
            .app
            .engine
            .range_query(&*self.app.store, text, range, &options)
            .map_err(|e| e.to_string())?;
        let Value::Matrix(series) = result.value else { return Ok(Vec::new()) };
        let curve = |series: promql::MatrixSeries| {
            let points = series.samples.ts.iter().copied().zip(series.samples.vs.iter().copied());
            (series.labels, Curve { points: points.collect() })
        };
        Ok(series.into_iter().map(curve).collect())
    }

    // === One alert ===

    fn facts(
        &self,
        known: &Known,
        rule: &Arc<RuleFacts>,
        condition: &Condition<'_>,
        curves: Option<&Curves>,
        window: RangeParams,
    ) -> Facts {
        let (asked, alert) = (&self.question.alerts[known.place], &known.found.alert);
        let time = |t: Timestamp| jiff::Timestamp::from_millisecond(t).unwrap_or_default();
        let (own, neighbours) = curves.map(|curves| curves.of(known, condition)).unwrap_or_default();
        let limit = curves.and_then(|curves| curves.limit_of(known));
        let unit = asked.unit.as_deref().and_then(Unit::named).unwrap_or_else(|| condition.unit());
        let is_absence = condition.test == Test::Absent;
        let is_over = asked.ends_at.is_some();
        let threshold = threshold(condition, limit.as_ref());
        let last = own.first().and_then(|curve| curve.points.last()).copied();
        let is_recent = |(t, _): &(Timestamp, f64)| self.now - t <= 2 * window.step_ms;
        let value = match is_over {
            // The alert keeps the value that was bad last.
            true => last.filter(is_recent).map(|(_, v)| v),
            false if is_absence => None,
            false => Some(alert.value),
        };
        let ended = alert.resolved_at.or(asked.ends_at.map(jiff::Timestamp::as_millisecond));
        let goes_missing =
            matches!(condition.test, Test::Number { .. } | Test::Other { .. }) && !filters(condition);
        let is_lost = is_over && value.is_none() && curves.is_some() && goes_missing;
        let bad = threshold.as_ref().map(|threshold| threshold.bad);
        let peak = match bad {
            Some(Bad::Above) => Some(alert.seen.max),
            Some(Bad::Below) => Some(alert.seen.min),
            _ => None,
        };
        let chart = (known.place < self.question.charts_max && !own.is_empty()).then(|| Chart {
            from: window.start,
            to: self.now,
            step_ms: window.step_ms,
            zone: self.question.zone.clone(),
            unit: unit.clone(),
            own: own.clone(),
            limits: limit.into_iter().collect(),
            neighbours,
            threshold: threshold.clone().filter(|_| matches!(condition.test, Test::Number { .. })),
            spans: spans(alert, ended.filter(|_| is_over), self.now),
        });
        Facts {
            rule: Arc::clone(rule),
            active_at: time(alert.active_at),
            fired_at: alert.fired_at.map(time),
            value,
            value_at_fire: alert.seen.at_fire.filter(|_| !is_absence),
            peak: peak.filter(|_| !is_absence),
            unit,
            threshold,
            is_absence,
            lost_since: is_lost.then(|| last.map(|(t, _)| t).or(ended)).flatten().map(time),
            curve: own.into_iter().next(),
            chart,
        }
    }

    // === Around it ===

    /// How often alerts with the labels that all of `known` share have fired.
    fn history(&self, known: &[Labels]) -> Option<History> {
        let (first, rest) = known.split_first()?;
        let shared =
            first.iter().filter(|(name, value)| rest.iter().all(|other| other.get(name) == Some(value)));
        let quote = model::quote::go_quote;
        let mut matchers = vec!["alertstate=\"firing\"".to_owned()];
        for (name, value) in shared {
            let is_plain = model::labels::is_legacy_label_name(name);
            let name = if is_plain { String::from_utf8_lossy(name).into_owned() } else { quote(name) };
            matchers.push(format!("{name}={}", quote(value)));
        }
        let text = format!("count(ALERTS{{{}}})", matchers.join(","));
        let range =
            RangeParams { start: self.now - HISTORY_DAYS * DAY_MS, end: self.now, step_ms: MINUTE_MS };
        let options = QueryOptions {
            timeout: Some(self.deadline.saturating_duration_since(Instant::now()).min(HISTORY_MAX)),
            ..QueryOptions::default()
        };
        if options.timeout? < QUERY_MIN {
            return None;
        }
        let result = self.app.engine.range_query(&*self.app.store, &text, range, &options).ok()?;
        let Value::Matrix(series) = result.value else { return None };
        let is_firing = self.question.alerts.iter().any(|asked| asked.ends_at.is_none());
        told(&series.first()?.samples.ts, is_firing)
    }

    /// What else fires on the same machine, in the same namespace or job.
    fn related(&self, lead: &Labels, known: &[Labels]) -> Vec<Related> {
        const WEIGHTS: [(&str, u32); 3] = [("instance", 4), ("namespace", 2), ("job", 1)];
        let mut found = Vec::new();
        for group in self.app.rules.groups() {
            for rule in &group.rules {
                let state = rule.alerts.lock();
                for (labels, alert) in state.active().filter(|(_, alert)| alert.state == AlertState::Firing) {
                    let is_shared = |name: &str| {
                        let value = labels.get(name.as_bytes());
                        value.is_some() && value == lead.get(name.as_bytes())
                    };
                    let shared: Vec<_> = WEIGHTS.iter().filter(|(name, _)| is_shared(name)).collect();
                    let weight: u32 = shared.iter().map(|(_, weight)| weight).sum();
                    if weight > 0 && !known.contains(labels) {
                        let shared: Vec<_> = shared.iter().map(|(name, _)| (*name).to_owned()).collect();
                        found.push((
                            weight,
                            alert.fired_at.unwrap_or(alert.active_at),
                            labels.clone(),
                            shared,
                        ));
                    }
                }
            }
        }
        found.sort_by(|a, b| (b.0, a.1, &a.2).cmp(&(a.0, b.1, &b.2)));
        // One of a kind is enough to point somewhere.
        let mut names = Vec::new();
        found.retain(|(_, _, labels, _)| {
            let name = labels.get(b"alertname").map(<[u8]>::to_vec);
            let is_new = !names.contains(&name);
            names.push(name);
            is_new
        });
        let related = found.into_iter().take(RELATED_MAX).map(|(_, since, labels, shared)| Related {
            labels: labels.to_map(),
            since: jiff::Timestamp::from_millisecond(since).unwrap_or_default(),
            shared,
        });
        related.collect()
    }
}

/// What the queries of a rule gave.
#[derive(Default)]
struct Curves {
    subject: Vec<(Labels, Curve)>,
    limits: Vec<(Labels, Curve)>,
}

impl Curves {
    /// The curves of the alert, and some of those beside it.
    fn of(&self, known: &Known, condition: &Condition<'_>) -> (Vec<Curve>, Vec<Curve>) {
        if matches!(condition.subject, Subject::Count(_) | Subject::CountOverTime(_)) {
            return (self.subject.iter().map(|(_, curve)| curve.clone()).take(1).collect(), Vec::new());
        }
        let element = element(known);
        let is_own = |labels: &Labels| element.iter().all(|(name, value)| labels.get(name) == Some(value));
        let (own, others): (Vec<_>, Vec<_>) = self.subject.iter().partition(|(labels, _)| is_own(labels));
        let own = own.into_iter().map(|(_, curve)| curve.clone()).take(1);
        let others = others.into_iter().map(|(_, curve)| curve.clone()).take(NEIGHBOURS_MAX);
        (own.collect(), others.collect())
    }

    /// What the alert's curve is compared with: the one whose labels do not contradict the alert's.
    fn limit_of(&self, known: &Known) -> Option<Curve> {
        let element = element(known);
        let agrees = |labels: &Labels| {
            labels
                .iter()
                .all(|(name, value)| name == METRIC_NAME || element.get(name).is_none_or(|own| own == value))
        };
        self.limits.iter().find(|(labels, _)| agrees(labels)).map(|(_, curve)| curve.clone())
    }
}

/// The labels that the alert has from its series: without those of the rule.
fn element(known: &Known) -> Labels {
    let rule = known.found.rule();
    let is_added =
        |name: &[u8]| name == b"alertname" || rule.spec.labels.keys().any(|own| own.as_bytes() == name);
    known.found.labels.without(is_added)
}

fn rule_facts(lead: &Known, condition: &Condition<'_>) -> RuleFacts {
    let (rule, spec) = (lead.found.rule(), &lead.found.group.spec);
    let (hold, keep_firing_for) = hold(lead);
    RuleFacts {
        name: rule.name().to_owned(),
        group: spec.name.clone(),
        file: spec.file.display().to_string(),
        query: rule.query.clone(),
        subject: condition.subject.to_string(),
        hold,
        keep_firing_for,
    }
}

fn hold(known: &Known) -> (Duration, Duration) {
    match &known.found.rule().spec.kind {
        RuleKind::Alerting { hold, keep_firing_for, .. } => (*hold, *keep_firing_for),
        RuleKind::Recording { .. } => (Duration::ZERO, Duration::ZERO),
    }
}

fn threshold(condition: &Condition<'_>, limit: Option<&Curve>) -> Option<Threshold> {
    let (op, value) = match condition.test {
        Test::Number { op, threshold } => (op, threshold),
        Test::Other { op, .. } => (op, limit?.points.last()?.1),
        Test::Present | Test::Absent => return None,
    };
    let bad = match op {
        BinaryOp::Gt | BinaryOp::Ge => Bad::Above,
        BinaryOp::Lt | BinaryOp::Le => Bad::Below,
        _ => Bad::Neither,
    };
    Some(Threshold { value, operator: op.as_str(), bad })
}

/// Whether the subject comes and goes by itself, so that its absence says nothing.
fn filters(condition: &Condition<'_>) -> bool {
    let Subject::Expr(expr) = condition.subject else { return false };
    let mut found = false;
    expr.walk(|part| {
        if let Expr::Binary(e) = part {
            found |= e.op.is_set() || e.op.is_comparison() && !e.return_bool;
        }
    });
    found
}

fn spans(alert: &crate::rules::alerting::Alert, ended: Option<Timestamp>, now: Timestamp) -> Vec<Span> {
    let end = ended.unwrap_or(now);
    let fired = alert.fired_at.unwrap_or(alert.active_at);
    vec![
        Span { from: alert.active_at, to: fired, kind: SpanKind::Pending },
        Span { from: fired, to: end, kind: SpanKind::Firing },
    ]
}

/// The times at which something fired, minute by minute, as people remember them.
fn told(times: &[Timestamp], is_firing: bool) -> Option<History> {
    let mut lives: Vec<(Timestamp, Timestamp)> = Vec::new();
    for &t in times {
        match lives.last_mut() {
            Some(life) if t - life.1 <= MINUTE_MS => life.1 = t,
            _ => lives.push((t, t)),
        }
    }
    // Of the first time nobody can tell that it was the first: the data may begin there.
    if lives.len() < 2 {
        return None;
    }
    let over = if is_firing { &lives[..lives.len() - 1] } else { &lives[..] };
    let mut lengths: Vec<_> = over.iter().map(|(from, to)| to - from + MINUTE_MS).collect();
    lengths.sort_unstable();
    let median =
        lengths.get(lengths.len() / 2).and_then(|ms| u64::try_from(*ms).ok()).map(Duration::from_millis);
    let previous = jiff::Timestamp::from_millisecond(lives[lives.len() - 2].0).ok();
    Some(History { days: 7, times: lives.len(), median, previous })
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_runs_of_minutes() {
        let minutes = |list: &[i64]| list.iter().map(|m| m * MINUTE_MS).collect::<Vec<_>>();
        let history = told(&minutes(&[1, 2, 3, 10, 11, 30, 31, 32, 33]), true).unwrap();
        assert_eq!((history.times, history.median), (3, Some(Duration::from_mins(3))));
        assert_eq!(history.previous.unwrap().as_second(), 600);
        assert_eq!(told(&minutes(&[1, 2]), true), None);
        assert_eq!(told(&[], false), None);
        assert_eq!(told(&minutes(&[1, 5]), false).unwrap().median, Some(Duration::from_mins(1)));
    }
}
