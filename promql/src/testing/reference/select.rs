//! What selectors and subqueries see: instants, windows, and how `anchored` and `smoothed` widen them.

use std::collections::BTreeMap;

use model::histogram::CounterResetHint;
use model::quote::go_quote;
use model::{FloatHistogram, Labels, Timestamp, is_stale};

use super::{Grid, Raw, Reference, Res, Row, Val, bare, merged, nameless};
use crate::parse::ast::{At, Boundary, DurationExpr, Expr, Modifiers, Span, VectorSelector};
use crate::plan::duration;

/// The windows of one series, one per step.
pub(super) struct Windows {
    pub(super) labels: Labels,
    pub(super) drop: bool,
    pub(super) at: BTreeMap<Timestamp, Vec<Raw>>,
}

/// A range vector.
pub(super) struct Ranges {
    pub(super) rows: Vec<Windows>,
    pub(super) range: i64,
    /// Where the window of a step ends.
    pub(super) end: BTreeMap<Timestamp, Timestamp>,
    pub(super) boundary: Option<Boundary>,
}

/// A series and, per step at which one is seen, the sample that decides.
type Picked = (Labels, Vec<(Timestamp, Raw)>);

impl Reference {
    pub(super) fn ms(&self, e: &DurationExpr, positive: bool) -> Res<i64> {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let scope = &self.scope;
        let outer = duration::Outer { step: seconds(scope.step), range: seconds(scope.end - scope.start) };
        duration::millis(e, outer, positive).map_err(|e| e.to_string())
    }

    pub(super) fn offset(&self, m: &Modifiers) -> Res<i64> {
        m.offset.as_ref().map_or(Ok(0), |e| self.ms(e, false))
    }

    /// The time that a selector looks at from step `t`.
    pub(super) fn reference(&self, m: &Modifiers, t: Timestamp) -> Res<Timestamp> {
        let at = match m.at {
            None => t,
            Some(At::Time(at)) => at,
            Some(At::Start) => self.scope.start,
            Some(At::End) => self.scope.end,
        };
        Ok(at - self.offset(m)?)
    }

    pub(super) fn selected<'s>(
        &'s self,
        e: &'s VectorSelector,
    ) -> impl Iterator<Item = &'s (Labels, Vec<Raw>)> {
        let passes = |l: &Labels| e.matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or_default()));
        self.data.iter().filter(move |(l, _)| passes(l))
    }

    /// The samples that decide an instant selector, per series and step.
    pub(super) fn instant_raws(&self, e: &VectorSelector, grid: Grid) -> Res<Vec<Picked>> {
        let lookback = self.scope.lookback;
        let mut out = Vec::new();
        for (labels, samples) in self.selected(e) {
            let mut refs = Vec::new();
            for t in grid.times() {
                refs.push(self.reference(&e.modifiers, t)?);
            }
            let samples = &self.seen_samples(e.span, samples, &refs, lookback - 1, lookback - 1);
            let mut found = Vec::new();
            for t in grid.times() {
                let at = self.reference(&e.modifiers, t)?;
                let last = samples.iter().rfind(|raw| raw.t <= at);
                if let Some(raw) = last.filter(|raw| raw.t > at - lookback && !is_ended(raw)) {
                    found.push((t, raw.clone()));
                }
            }
            out.push((labels.clone(), found));
        }
        Ok(out)
    }

    /// The samples as a selector reads them: whole, or without buckets but with the hints that are then found out by
    /// comparing each with the one visited before, which a leap forward forgets.
    fn seen_samples(
        &self,
        span: Span,
        samples: &[Raw],
        refs: &[Timestamp],
        reach: i64,
        fetched: i64,
    ) -> Vec<Raw> {
        let Some(first) = refs.first().filter(|_| self.stats.borrow().contains(&(span.start, span.end)))
        else {
            return samples.to_vec();
        };
        let mut out: Vec<Raw> = samples.iter().filter(|raw| raw.t >= first - fetched).cloned().collect();
        let whole = out.clone();
        let mut previous: Option<usize> = None;
        let mut at: Option<usize> = (!out.is_empty()).then_some(0);
        let mut visit = |i: usize, previous: Option<usize>| {
            let Val::H(h) = &whole[i].v else { return };
            let hint = match (h.counter_reset_hint, previous.map(|p| &whole[p].v)) {
                (CounterResetHint::Unknown, Some(Val::H(before))) => {
                    if h.is_reset_after(before) {
                        CounterResetHint::CounterReset
                    } else {
                        CounterResetHint::NotCounterReset
                    }
                }
                (hint, _) => hint,
            };
            out[i].v = Val::H(FloatHistogram {
                schema: h.schema,
                count: h.count,
                sum: h.sum,
                counter_reset_hint: hint,
                ..FloatHistogram::default()
            });
        };
        for &end in refs {
            let Some(mut i) = at else { break };
            if whole[i].t < end - reach {
                match whole.iter().position(|raw| raw.t >= end - reach) {
                    Some(next) => (i, previous) = (next, None),
                    None => break,
                }
            }
            loop {
                visit(i, previous);
                if whole[i].t >= end || i + 1 == whole.len() {
                    break;
                }
                if whole[i].v.histogram().is_some() {
                    previous = Some(i);
                }
                i += 1;
            }
            at = Some(i);
        }
        out
    }

    pub(super) fn instant_rows(&self, e: &VectorSelector, grid: Grid) -> Res<Vec<Row>> {
        if e.boundary == Some(Boundary::Smoothed) {
            return self.smoothed(e, grid);
        }
        let rows = self.instant_raws(e, grid)?.into_iter().map(|(labels, found)| Row {
            labels,
            drop: false,
            points: found.into_iter().map(|(t, raw)| (t, raw.v)).collect(),
        });
        Ok(rows.filter(|row| !row.points.is_empty()).collect())
    }

    fn smoothed(&self, e: &VectorSelector, grid: Grid) -> Res<Vec<Row>> {
        let lookback = self.scope.lookback;
        let mut out = Vec::new();
        for (labels, samples) in self.selected(e) {
            let mut points = BTreeMap::new();
            for t in grid.times() {
                let at = self.reference(&e.modifiers, t)?;
                let seen: Vec<&Raw> = samples
                    .iter()
                    .filter(|raw| raw.t > at - lookback && raw.t <= at + lookback && !is_ended(raw))
                    .collect();
                if seen.iter().any(|r| r.v.float().is_some()) && seen.iter().any(|r| r.v.float().is_none()) {
                    self.warn(mixed_kinds(labels.metric_name()));
                    continue;
                }
                let before = seen.iter().rfind(|raw| raw.t <= at);
                let after = seen.iter().find(|raw| raw.t >= at);
                let v = match (before, after) {
                    (Some(b), _) if b.t == at => Some(b.v.clone()),
                    (Some(b), Some(a)) => self.between(labels.metric_name(), b, a, at),
                    (Some(b), None) => Some(match &b.v {
                        Val::F(v) => Val::F(*v),
                        Val::H(h) => Val::H(with_hint(h, CounterResetHint::Unknown)),
                    }),
                    (None, _) => None,
                };
                points.extend(v.map(|v| (t, v)));
            }
            if !points.is_empty() {
                out.push(Row { labels: labels.clone(), drop: false, points });
            }
        }
        Ok(out)
    }

    fn between(&self, metric: &[u8], b: &Raw, a: &Raw, at: Timestamp) -> Option<Val> {
        match (&b.v, &a.v) {
            (Val::F(x), Val::F(y)) => Some(Val::F(interpolated(b.t, *x, a.t, *y, at, false))),
            (Val::H(x), Val::H(y)) => {
                if x.uses_custom_buckets() != y.uses_custom_buckets() {
                    self.warn(super::range::mixed_schemas(metric));
                    return None;
                }
                let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
                let counter = !(gauge(x) && gauge(y));
                Some(Val::H(super::range::interpolated_histogram(b.t, x, a.t, y, at, counter)))
            }
            _ => None,
        }
    }

    /// The windows of a range vector at every step.
    pub(super) fn ranges(&self, expr: &Expr, grid: Grid) -> Res<Ranges> {
        match bare(expr) {
            Expr::Matrix(e) => {
                let range = self.ms(&e.range, true)?;
                let (lookback, m) = (self.scope.lookback, &e.selector.modifiers);
                let boundary = e.selector.boundary;
                let (before, behind) = match boundary {
                    None => (0, 0),
                    Some(Boundary::Anchored) => (lookback, 0),
                    Some(Boundary::Smoothed) => (lookback, lookback),
                };
                let mut end = BTreeMap::new();
                for t in grid.times() {
                    end.insert(t, self.reference(m, t)?);
                }
                let ends: Vec<Timestamp> = end.values().map(|end| end + behind).collect();
                let wide = range + before + behind;
                let windows = |(labels, samples): &(Labels, Vec<Raw>)| Windows {
                    labels: labels.clone(),
                    drop: false,
                    at: end
                        .iter()
                        .map(|(&t, &end)| {
                            (
                                t,
                                inside(
                                    &self.seen_samples(e.selector.span, samples, &ends, wide, wide - 1),
                                    end - range - before,
                                    end + behind,
                                ),
                            )
                        })
                        .collect(),
                };
                let rows = self.selected(&e.selector).map(windows).collect();
                Ok(Ranges { rows, range, end, boundary })
            }
            Expr::Subquery(e) => {
                let range = self.ms(&e.range, true)?;
                let step = match &e.step {
                    Some(step) => self.ms(step, true)?,
                    None => self.scope.default_step,
                };
                let mut end = BTreeMap::new();
                for t in grid.times() {
                    end.insert(t, self.reference(&e.modifiers, t)?);
                }
                let first = end.first_key_value().map_or(0, |(_, end)| *end);
                let last = end.last_key_value().map_or(0, |(_, end)| *end);
                let start = ((first - range).div_euclid(step) + 1) * step;
                let len = if last < start { 0 } else { (last - start) / step + 1 };
                let len = usize::try_from(len).unwrap_or(0);
                let inner = Grid { start, step, len, is_point: start == last };
                let rows = self.rows(&e.expr, inner)?.into_iter().map(|row| {
                    let samples: Vec<Raw> =
                        row.points.into_iter().map(|(t, v)| Raw { t, st: 0, v: without_hint(v) }).collect();
                    let at = end.iter().map(|(&t, &end)| (t, inside(&samples, end - range, end))).collect();
                    Windows { labels: row.labels, drop: row.drop, at }
                });
                Ok(Ranges { rows: rows.collect(), range, end, boundary: None })
            }
            _ => unreachable!("type-checked"),
        }
    }

    /// A range vector as the result of an instant query.
    pub(super) fn raw_matrix(&self, expr: &Expr, grid: Grid) -> Res<Vec<Row>> {
        let ranges = self.ranges(expr, grid)?;
        let mut rows = Vec::new();
        for windows in ranges.rows {
            let window = &windows.at[&grid.start];
            let points: BTreeMap<Timestamp, Val> = match ranges.boundary {
                None => window.iter().map(|raw| (raw.t, raw.v.clone())).collect(),
                Some(boundary) => {
                    let end = ranges.end[&grid.start];
                    super::range::bounded(window, end - ranges.range, end, boundary)?
                }
            };
            let labels = if windows.drop { nameless(&windows.labels) } else { windows.labels };
            rows.push(Row { labels, drop: false, points });
        }
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        merged(rows.into_iter())
    }

    /// As [`Reference::instant_rows`] for the tree; an error of a duration was raised when the plan was made.
    pub(super) fn instant(&self, e: &VectorSelector, grid: Grid) -> Res<Vec<Row>> {
        self.instant_rows(e, grid)
    }
}

pub(super) fn is_ended(raw: &Raw) -> bool {
    match &raw.v {
        Val::F(v) => is_stale(*v),
        Val::H(h) => h.is_stale(),
    }
}

fn inside(samples: &[Raw], above: Timestamp, to: Timestamp) -> Vec<Raw> {
    samples.iter().filter(|raw| raw.t > above && raw.t <= to && !is_ended(raw)).cloned().collect()
}

fn without_hint(v: Val) -> Val {
    use CounterResetHint::{CounterReset, NotCounterReset, Unknown};
    match v {
        Val::H(h) if matches!(h.counter_reset_hint, CounterReset | NotCounterReset) => {
            Val::H(with_hint(&h, Unknown))
        }
        other => other,
    }
}

pub(super) fn with_hint(h: &FloatHistogram, hint: CounterResetHint) -> FloatHistogram {
    FloatHistogram { counter_reset_hint: hint, ..h.clone() }
}

/// The value at `t` on the line between two samples; a counter that went back began at zero.
pub(super) fn interpolated(t1: i64, v1: f64, t2: i64, v2: f64, t: i64, counter: bool) -> f64 {
    let v1 = if counter && v2 < v1 { 0.0 } else { v1 };
    v1 + (v2 - v1) * (t - t1) as f64 / (t2 - t1) as f64
}

pub(super) fn mixed_kinds(metric: &[u8]) -> String {
    format!("encountered a mix of histograms and floats for metric name {}", go_quote(metric))
}
