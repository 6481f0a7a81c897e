//! Why an expression gives nothing for an alert: its parts are asked one by one, from the outside in, until one is to
//! blame: a value on the other side of its threshold, a join without a partner, a series that is not there.
//!
//! Asks the store at the time in question, so it works for the past as well. It is a reading for people: bounded in
//! queries and in series, and where it cannot tell it says so.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::storage::{Queryable, SelectHints};
use model::{Labels, LabelsBuilder, Matcher, SampleBatch, TimeRange, Timestamp, is_stale};
use promql::parse::ast::{
    Aggregate, At, Binary, BinaryOp, Call, DurationExpr, Expr, Modifiers, ValueType, VectorMatching,
    VectorSelector,
};
use promql::{Engine, QueryOptions, SampleValue, Value};

use super::Storage;
use crate::story::{self, Code, Finding, Subject, tell};

/// How far back a series is looked for that is not there any more, in ms.
const HORIZON_MS: i64 = 24 * 3_600_000;
/// The most queries of one inquiry.
const QUERIES_MAX: usize = 40;
/// The most series of a selector that are looked at.
const SERIES_MAX: usize = 1000;
/// How deep an expression is looked into.
const DEPTH_MAX: usize = 64;
/// The longest that one part may take.
const PART_TIMEOUT: Duration = Duration::from_secs(2);

/// One question about one moment.
pub struct Inquiry<'a> {
    engine: &'a Engine,
    storage: &'a dyn Queryable,
    t: Timestamp,
    /// The labels of the alert that it is about; those of the rule itself left out.
    labels: Labels,
    n_queries: Cell<usize>,
}

type Element = (Labels, f64);

/// Looks into the expressions of rules for the journal of stories.
pub fn investigator(engine: Arc<Engine>, storage: Arc<dyn Storage>) -> story::Investigator {
    Box::new(move |question| {
        let expr = engine.parse(&question.rule.expr).ok()?;
        let own = own_labels(&question.rule.subject);
        let own = own.iter().map(String::as_str);
        let inquiry = Inquiry::new(&engine, storage.as_ref(), question.query_at, question.labels, own);
        let finding = inquiry.why(&expr);
        // It is gone all the same: the store has changed since, or the engine would not answer.
        (finding.code != Code::ExpressionTrue).then_some(finding)
    })
}

/// The names of the labels that a rule sets itself.
pub fn own_labels(rule: &Subject) -> Vec<String> {
    let names = rule.labels.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    names.filter(|name| !name.starts_with("__")).collect()
}

impl<'a> Inquiry<'a> {
    /// `labels` are those of the alert, or as many as are known; `own` are the names that the rule sets itself, which
    /// say nothing about its series.
    pub fn new<'n>(
        engine: &'a Engine,
        storage: &'a dyn Queryable,
        t: Timestamp,
        labels: &Labels,
        own: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let mut builder = LabelsBuilder::from(labels);
        builder.remove(b"alertname");
        own.into_iter().for_each(|name| builder.remove(name.as_bytes()));
        Self { engine, storage, t, labels: builder.build(), n_queries: Cell::new(0) }
    }

    /// What keeps `expr` from giving the alert; [`Code::ExpressionTrue`] if it does give it.
    pub fn why(&self, expr: &Expr) -> Finding {
        let found = self.elements(expr);
        if found.iter().any(|(labels, _)| self.fits(labels)) {
            return Finding::new(Code::ExpressionTrue).of(expr.to_string());
        }
        let finding = self.look(expr, DEPTH_MAX);
        if matches!(finding.code, Code::ExpressionTrue | Code::Unknown) {
            let code = if found.is_empty() { Code::ExpressionFalse } else { Code::OtherLabels };
            return Finding::new(code).of(expr.to_string()).with_labels(shown(&self.labels));
        }
        finding
    }

    /// `expr` gives no element for the labels. Why?
    fn look(&self, expr: &Expr, depth: usize) -> Finding {
        let unknown = || Finding::new(Code::Unknown).of(expr.to_string());
        if depth == 0 || self.n_queries.get() >= QUERIES_MAX {
            return unknown();
        }
        match expr {
            Expr::Paren(paren) => self.look(&paren.expr, depth - 1),
            Expr::Unary(unary) => self.look(&unary.expr, depth - 1),
            Expr::Subquery(subquery) => self.look(&subquery.expr, depth - 1),
            Expr::Vector(selector) => self.selector(selector, self.lookback_ms(), None),
            Expr::Matrix(matrix) => {
                let range_ms = matrix.range.literal_ns().map_or(self.lookback_ms(), |ns| ns / 1_000_000);
                self.selector(&matrix.selector, range_ms, None)
            }
            Expr::Aggregate(aggregate) => self.aggregate(expr, aggregate, depth),
            Expr::Call(call) => self.call(expr, call, depth),
            Expr::Binary(binary) => self.binary(expr, binary, depth),
            Expr::Number(_) | Expr::String(_) => unknown(),
        }
    }

    /// Looks further only where a part gives nothing either.
    fn look_into(&self, expr: &Expr, depth: usize) -> Finding {
        match self.nearest(expr, |_| 0.0) {
            Some(_) => Finding::new(Code::ExpressionTrue).of(expr.to_string()),
            None => self.look(expr, depth - 1),
        }
    }

    fn aggregate(&self, whole: &Expr, aggregate: &Aggregate, depth: usize) -> Finding {
        let inner = self.look_into(&aggregate.expr, depth);
        if inner.code == Code::ExpressionTrue {
            Finding::new(Code::ExpressionTrue).of(whole.to_string())
        } else {
            inner
        }
    }

    fn call(&self, whole: &Expr, call: &Call, depth: usize) -> Finding {
        if matches!(call.func.name, "absent" | "absent_over_time")
            && let [of] = call.args.as_slice()
        {
            let there = match of {
                Expr::Matrix(_) | Expr::Subquery(_) => Vec::new(),
                _ => self.elements(of),
            };
            let finding = Finding::new(Code::Present).of(of.to_string());
            return match there.first() {
                Some((labels, _)) => finding.with_labels(shown(labels)),
                None => finding,
            };
        }
        for arg in &call.args {
            match (arg, arg.value_type()) {
                (Expr::Matrix(matrix), _) => {
                    let range_ms = matrix.range.literal_ns().map_or(self.lookback_ms(), |ns| ns / 1_000_000);
                    return self.selector(&matrix.selector, range_ms, Some(call.func.name));
                }
                (_, ValueType::Vector) => return self.look_into(arg, depth),
                (Expr::Subquery(subquery), _) => return self.look_into(&subquery.expr, depth),
                _ => {}
            }
        }
        Finding::new(Code::Unknown).of(whole.to_string())
    }

    // === Operators ===

    fn binary(&self, whole: &Expr, e: &Binary, depth: usize) -> Finding {
        let (lhs, rhs) = (&*e.lhs, &*e.rhs);
        match (e.op, lhs.value_type(), rhs.value_type()) {
            (BinaryOp::Or, ..) => {
                let (left, right) = (self.look_into(lhs, depth), self.look_into(rhs, depth));
                // A value that is not enough says more than a series that is not there.
                if left.value.is_nan() && !right.value.is_nan() { right } else { left }
            }
            (op, ValueType::Vector, ValueType::Scalar) if filters(e) => self.compare(lhs, op, rhs, depth),
            (op, ValueType::Scalar, ValueType::Vector) if filters(e) => {
                self.compare(rhs, flipped(op), lhs, depth)
            }
            (_, ValueType::Vector, ValueType::Vector) => self.join(whole, e, depth),
            (_, ValueType::Vector, _) => self.look_into(lhs, depth),
            (_, _, ValueType::Vector) => self.look_into(rhs, depth),
            _ => Finding::new(Code::Unknown).of(whole.to_string()),
        }
    }

    /// A vector against a number.
    fn compare(&self, side: &Expr, op: BinaryOp, number: &Expr, depth: usize) -> Finding {
        let Some(bound) = self.elements(number).first().map(|(_, v)| *v) else {
            return Finding::new(Code::Unknown).of(number.to_string());
        };
        let Some((labels, value)) = self.nearest(side, |v| (v - bound).abs()) else {
            return self.look(side, depth - 1);
        };
        if holds(op, value, bound) {
            return Finding::new(Code::ExpressionTrue).of(side.to_string());
        }
        Finding::new(Code::ThresholdNotCrossed)
            .of(side.to_string())
            .with_labels(shown(&labels))
            .with_value(value, format!("{} {}", op.as_str(), model::number::format_g(bound)))
    }

    /// Two vectors: arithmetic, comparison, `and`, `unless`.
    fn join(&self, whole: &Expr, e: &Binary, depth: usize) -> Finding {
        let (left, right) = (self.elements(&e.lhs), self.elements(&e.rhs));
        let of_ours = |found: &[Element]| -> Vec<Element> {
            found.iter().filter(|(labels, _)| self.fits(labels)).cloned().collect()
        };
        let (ours, theirs) = (of_ours(&left), of_ours(&right));
        if ours.is_empty() && (theirs.is_empty() || e.op.is_set() || left.is_empty()) {
            return self.look(&e.lhs, depth - 1);
        }
        let signature = |labels: &Labels| signature(e.matching.as_ref(), labels);
        if ours.is_empty() {
            // The left side has others, but none for what the right side has.
            let labels = theirs.first().map(|(labels, _)| shown(&signature(labels))).unwrap_or_default();
            return Finding::new(Code::NoJoinPartner)
                .of(whole.to_string())
                .with_labels(labels)
                .with_bound("left");
        }
        // The first of equal ones stays.
        let partners: HashMap<Labels, &Element> =
            right.iter().rev().map(|element| (signature(&element.0), element)).collect();
        let partner = |labels: &Labels| partners.get(&signature(labels)).copied();
        if e.op == BinaryOp::Unless {
            let taken = ours.iter().find_map(|(labels, _)| partner(labels));
            return match taken {
                Some((labels, _)) => {
                    Finding::new(Code::Excluded).of(whole.to_string()).with_labels(shown(&signature(labels)))
                }
                None => Finding::new(Code::ExpressionTrue).of(whole.to_string()),
            };
        }
        let joined =
            ours.iter().find_map(|(labels, v)| partner(labels).map(|(_, other)| (labels, *v, *other)));
        let Some((labels, value, other)) = joined else {
            let wanted = ours.first().map(|(labels, _)| signature(labels)).unwrap_or_default();
            return self.no_partner(whole, &e.rhs, &wanted, right.is_empty(), depth);
        };
        if filters(e) && !holds(e.op, value, other) {
            let bound = format!("{} {} of `{}`", e.op.as_str(), model::number::format_g(other), e.rhs);
            return Finding::new(Code::ThresholdNotCrossed)
                .of(e.lhs.to_string())
                .with_labels(shown(labels))
                .with_value(value, bound);
        }
        Finding::new(Code::ExpressionTrue).of(whole.to_string())
    }

    /// The right side has nothing with the labels `wanted`: because a value of it is not enough, or because there is
    /// no such series.
    fn no_partner(&self, whole: &Expr, rhs: &Expr, wanted: &Labels, is_empty: bool, depth: usize) -> Finding {
        let inquiry = Inquiry {
            engine: self.engine,
            storage: self.storage,
            t: self.t,
            labels: wanted.clone(),
            n_queries: Cell::new(self.n_queries.get()),
        };
        let finding = inquiry.look(rhs, depth - 1);
        self.n_queries.set(inquiry.n_queries.get());
        let is_missing =
            matches!(finding.code, Code::NoSeries | Code::ExpressionTrue | Code::Unknown | Code::OtherLabels);
        if is_missing
            && (!is_empty || finding.code != Code::NoSeries || !wanted.is_empty() && inquiry.has_others(rhs))
        {
            return Finding::new(Code::NoJoinPartner)
                .of(whole.to_string())
                .with_labels(shown(wanted))
                .with_bound("right");
        }
        finding
    }

    /// Whether `expr` has elements at all, whatever their labels.
    fn has_others(&self, expr: &Expr) -> bool {
        let mut selectors = Vec::new();
        expr.walk(|part| {
            if let Expr::Vector(selector) = part {
                selectors.push(selector.clone());
            }
        });
        selectors.into_iter().any(|selector| !self.elements(&Expr::Vector(selector)).is_empty())
    }

    // === Series ===

    fn lookback_ms(&self) -> i64 {
        super::millis(self.engine.options().lookback_delta)
    }

    /// A selector that gives nothing for the labels, or too little for `function`.
    fn selector(&self, selector: &VectorSelector, window_ms: i64, function: Option<&str>) -> Finding {
        let text = bare_selector(selector).to_string();
        let at = shifted(self.t, &selector.modifiers);
        let Some((ours, others)) = self.last_samples(&selector.matchers, at) else {
            return Finding::new(Code::Unknown).of(text);
        };
        let Some(last) = ours.into_iter().max_by_key(|last| last.t) else {
            let finding = Finding::new(Code::NoSeries).of(text);
            let Some(other) = others.first() else { return finding };
            // The labels by which the others are others.
            let names: Vec<_> = other.iter().map(|(name, _)| name.to_vec()).collect();
            let ours = self.labels.without(|name| !names.iter().any(|known| known == name));
            return finding.with_labels(shown(&ours));
        };
        let (labels, window) = (shown(&last.labels), tell::span(window_ms));
        if last.is_stale {
            let is_down = self.up_before(&last.labels, at).is_some_and(|up| up == 0.0);
            let code = if is_down { Code::TargetDown } else { Code::SeriesStale };
            return Finding::new(code).of(text).with_labels(labels).at(last.t);
        }
        if at - last.t >= window_ms {
            return Finding::new(Code::LookbackGap)
                .of(text)
                .with_labels(labels)
                .with_bound(window)
                .at(last.t);
        }
        match function {
            Some(function) => Finding::new(Code::TooFewSamples)
                .of(format!("{text}[{window}]"))
                .with_labels(labels)
                .with_value(self.count(&selector.matchers, &last.labels, at, window_ms), function),
            None => Finding::new(Code::ExpressionTrue).of(text).with_labels(labels),
        }
    }

    /// The last samples of the series that fit, and the labels of some that do not.
    fn last_samples(&self, matchers: &[Matcher], at: Timestamp) -> Option<(Vec<Last>, Vec<Labels>)> {
        self.n_queries.set(self.n_queries.get() + 1);
        let range = TimeRange::new(at - HORIZON_MS, at);
        let querier = self.storage.querier(range).ok()?;
        let hints = SelectHints { range: Some(range), limit: SERIES_MAX, ..SelectHints::default() };
        let set = querier.select(matchers, &hints).ok()?;
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        let mut samples = SampleBatch::default();
        for i in 0..set.len().min(SERIES_MAX) {
            let labels = set.labels(i);
            samples.clear();
            set.last_into(i, range, &mut samples).ok()?;
            let float = samples.ts.last().copied().zip(samples.vs.last().copied());
            let float = float.map(|(t, v)| (t, is_stale(v), v));
            let histogram = samples.histograms.last().map(|h| (h.t, false, f64::NAN));
            let Some((t, is_stale, value)) = float.into_iter().chain(histogram).max_by_key(|(t, ..)| *t)
            else {
                continue;
            };
            if self.fits(&labels) {
                ours.push(Last { labels, t, is_stale, value });
            } else if others.len() < 8 {
                others.push(labels);
            }
        }
        Some((ours, others))
    }

    /// The value of `up` for the target that a series came from.
    fn up_before(&self, labels: &Labels, at: Timestamp) -> Option<f64> {
        let mut matchers = vec![Matcher::equal(model::labels::METRIC_NAME, "up")];
        for name in ["job", "instance"] {
            matchers.push(Matcher::equal(name, labels.get(name.as_bytes())?));
        }
        let inquiry = Inquiry {
            engine: self.engine,
            storage: self.storage,
            t: self.t,
            labels: Labels::empty(),
            n_queries: Cell::new(0),
        };
        let (found, _) = inquiry.last_samples(&matchers, at)?;
        found.into_iter().filter(|last| !last.is_stale).max_by_key(|last| last.t).map(|last| last.value)
    }

    fn count(&self, matchers: &[Matcher], labels: &Labels, at: Timestamp, window_ms: i64) -> f64 {
        let range = TimeRange::new(at - window_ms + 1, at);
        let count = || -> Option<usize> {
            let querier = self.storage.querier(range).ok()?;
            let hints = SelectHints { range: Some(range), limit: SERIES_MAX, ..SelectHints::default() };
            let set = querier.select(matchers, &hints).ok()?;
            let i = (0..set.len().min(SERIES_MAX)).find(|&i| set.labels(i) == *labels)?;
            let mut samples = SampleBatch::default();
            set.samples_into(i, range, &mut samples).ok()?;
            Some(samples.vs.iter().filter(|v| !is_stale(**v)).count() + samples.histograms.len())
        };
        count().unwrap_or(0) as f64
    }

    // === Queries ===

    /// What a part of the expression gives; nothing if it cannot be asked.
    fn elements(&self, expr: &Expr) -> Vec<Element> {
        self.n_queries.set(self.n_queries.get() + 1);
        if self.n_queries.get() > QUERIES_MAX {
            return Vec::new();
        }
        let options = QueryOptions { timeout: Some(PART_TIMEOUT), ..QueryOptions::default() };
        match self.engine.instant_expr(self.storage, expr, self.t, &options).map(|result| result.value) {
            Ok(Value::Vector(samples)) => samples
                .into_iter()
                .map(|sample| {
                    let value = match sample.value {
                        SampleValue::Float(v) => v,
                        SampleValue::Histogram(_) => f64::NAN,
                    };
                    (sample.labels, value)
                })
                .collect(),
            Ok(Value::Scalar(sample)) => vec![(Labels::empty(), sample.v)],
            _ => Vec::new(),
        }
    }

    /// Of the elements that fit, the one with the smallest `distance`.
    fn nearest(&self, expr: &Expr, distance: impl Fn(f64) -> f64) -> Option<Element> {
        let fitting = self.elements(expr).into_iter().filter(|(labels, _)| self.fits(labels));
        fitting.min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)))
    }

    /// Whether an element may be behind the alert: no label says otherwise.
    fn fits(&self, element: &Labels) -> bool {
        element
            .iter()
            .filter(|(name, _)| *name != model::labels::METRIC_NAME)
            .all(|(name, value)| self.labels.get(name).is_none_or(|ours| ours == value))
    }
}

/// The last sample of a series.
struct Last {
    labels: Labels,
    t: Timestamp,
    is_stale: bool,
    value: f64,
}

fn filters(e: &Binary) -> bool {
    e.op.is_comparison() && !e.return_bool
}

/// The labels by which an element finds its partner.
fn signature(matching: Option<&VectorMatching>, labels: &Labels) -> Labels {
    let Some(matching) = matching else { return labels.clone() };
    let is_named = |name: &[u8]| matching.labels.iter().any(|label| **label == *name);
    labels.without(|name| {
        if matching.on { !is_named(name) } else { name == model::labels::METRIC_NAME || is_named(name) }
    })
}

const fn flipped(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Le => BinaryOp::Ge,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Ge => BinaryOp::Le,
        other => other,
    }
}

fn holds(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        BinaryOp::Lt => a < b,
        BinaryOp::Le => a <= b,
        BinaryOp::Gt => a > b,
        BinaryOp::Ge => a >= b,
        _ => true,
    }
}

/// The selector without `offset` and `@`.
fn bare_selector(selector: &VectorSelector) -> Expr {
    Expr::Vector(VectorSelector { modifiers: Modifiers::default(), ..selector.clone() })
}

fn shifted(t: Timestamp, modifiers: &Modifiers) -> Timestamp {
    let base = match modifiers.at {
        Some(At::Time(at)) => at,
        _ => t,
    };
    let offset_ms = modifiers.offset.as_ref().and_then(DurationExpr::literal_ns).unwrap_or(0) / 1_000_000;
    base.saturating_sub(offset_ms)
}

/// The labels as text, without the name of the metric; empty for none.
fn shown(labels: &Labels) -> String {
    let labels = labels.without(|name| name == model::labels::METRIC_NAME);
    if labels.is_empty() { String::new() } else { labels.to_string() }
}

#[cfg(test)]
mod tests;
