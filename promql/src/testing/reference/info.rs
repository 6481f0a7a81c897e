//! `info`: labels of info metrics joined to the series that they describe.

use std::collections::{BTreeMap, BTreeSet};

use model::labels::METRIC_NAME;
use model::matcher::MatchOp;
use model::{Labels, LabelsBuilder, Matcher, Timestamp};

use super::{DUPLICATES, Grid, Raw, Reference, Res, Row, Val, bare};
use crate::parse::ast::{At, Call, Expr};

const IDENTIFYING: [&[u8]; 2] = [b"instance", b"job"];

/// An info series as it is seen at a step.
struct Seen {
    labels: Labels,
    raw_t: Timestamp,
}

/// Info series are fetched by the values that the identifying labels have anywhere.
fn may_match(info: &Labels, rows: &[Row], is_info: &dyn Fn(&Labels) -> bool) -> bool {
    IDENTIFYING.iter().all(|name| {
        let values: BTreeSet<&[u8]> = rows
            .iter()
            .filter(|row| !is_info(&row.labels))
            .filter_map(|row| row.labels.get(name))
            .filter(|v| !v.is_empty())
            .collect();
        values.is_empty() || values.contains(info.get(name).unwrap_or_default())
    })
}

impl Reference {
    pub(super) fn info(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let rows = self.rows(&e.args[0], grid)?;
        let matchers: &[Matcher] = match e.args.get(1).map(bare) {
            Some(Expr::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let (names, data): (Vec<Matcher>, Vec<Matcher>) =
            matchers.iter().cloned().partition(|m| &*m.name == METRIC_NAME);
        let names = effective(names);
        let is_info = |labels: &Labels| names.iter().all(|m| m.matches(labels.metric_name()));
        let wanted: BTreeSet<&[u8]> = data.iter().map(|m| &*m.name).collect();
        let is_identified = rows.iter().any(|row| {
            !is_info(&row.labels)
                && IDENTIFYING.iter().any(|l| row.labels.get(l).is_some_and(|v| !v.is_empty()))
        });
        let matching: Vec<&(Labels, Vec<Raw>)> = self
            .data
            .iter()
            .filter(|(l, _)| is_identified && is_info(l))
            .filter(|(l, _)| data.iter().all(|m| m.matches(l.get(&m.name).unwrap_or_default())))
            .filter(|(l, _)| may_match(l, &rows, &is_info))
            .collect();
        let (at, offset) = self.first_modifiers(&e.args[0])?;
        let mut out: Vec<Row> = Vec::new();
        for t in grid.times() {
            let seen = self.seen(&matching, at.unwrap_or(t) - offset)?;
            for row in &rows {
                let Some(v) = row.points.get(&t) else { continue };
                let labels = if is_info(&row.labels) {
                    row.labels.clone()
                } else {
                    match enriched(&row.labels, &seen, &wanted, &data)? {
                        Some(labels) => labels,
                        None => continue,
                    }
                };
                match out.iter_mut().find(|o| o.labels == labels) {
                    None => {
                        let points = BTreeMap::from([(t, v.clone())]);
                        out.push(Row { labels, drop: row.drop, points });
                    }
                    Some(o) => {
                        if o.points.insert(t, v.clone()).is_some() {
                            return Err(DUPLICATES.to_owned());
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    fn seen(&self, series: &[&(Labels, Vec<Raw>)], at: Timestamp) -> Res<BTreeMap<Labels, Seen>> {
        let mut out: BTreeMap<Labels, Seen> = BTreeMap::new();
        for (labels, samples) in series {
            let last = samples.iter().rfind(|raw| raw.t <= at);
            let Some(raw) =
                last.filter(|raw| raw.t > at - self.scope.lookback && !super::select::is_ended(raw))
            else {
                continue;
            };
            if matches!(raw.v, Val::H(_)) {
                return Err("info sample should be float".to_owned());
            }
            let key = labels.without(|n| n != METRIC_NAME && !IDENTIFYING.contains(&n));
            let new = Seen { labels: labels.clone(), raw_t: raw.t };
            match out.get(&key) {
                Some(old) if old.raw_t == new.raw_t => {
                    return Err(format!(
                        "found duplicate series for info metric: existing {} @ {}, new {} @ {}",
                        old.labels, old.raw_t, new.labels, new.raw_t
                    ));
                }
                Some(old) if old.raw_t > new.raw_t => {}
                _ => {
                    out.insert(key, new);
                }
            }
        }
        Ok(out)
    }

    /// The time and the offset of the first selector, subqueries around it included.
    fn first_modifiers(&self, expr: &Expr) -> Res<(Option<Timestamp>, i64)> {
        let resolved = |at: Option<At>| {
            at.map(|at| match at {
                At::Time(t) => t,
                At::Start => self.scope.start,
                At::End => self.scope.end,
            })
        };
        Ok(match expr {
            Expr::Number(_) | Expr::String(_) => (None, 0),
            Expr::Vector(e) => (resolved(e.modifiers.at), self.offset(&e.modifiers)?),
            Expr::Matrix(e) => (resolved(e.selector.modifiers.at), self.offset(&e.selector.modifiers)?),
            Expr::Subquery(e) => {
                let (at, offset) = self.first_modifiers(&e.expr)?;
                if at.is_some() {
                    return Ok((at, offset));
                }
                (resolved(e.modifiers.at), offset + self.offset(&e.modifiers)?)
            }
            Expr::Call(e) => match e.args.iter().find(|arg| has_selector(arg)) {
                Some(arg) => self.first_modifiers(arg)?,
                None => (None, 0),
            },
            Expr::Aggregate(e) => self.first_modifiers(&e.expr)?,
            Expr::Binary(e) if has_selector(&e.lhs) => self.first_modifiers(&e.lhs)?,
            Expr::Binary(e) => self.first_modifiers(&e.rhs)?,
            Expr::Unary(e) => self.first_modifiers(&e.expr)?,
            Expr::Paren(e) => self.first_modifiers(&e.expr)?,
        })
    }
}

fn has_selector(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Vector(_) | Expr::Matrix(_) => true,
        Expr::Subquery(e) => has_selector(&e.expr),
        Expr::Call(e) => e.args.iter().any(has_selector),
        Expr::Aggregate(e) => has_selector(&e.expr),
        Expr::Binary(e) => has_selector(&e.lhs) || has_selector(&e.rhs),
        Expr::Unary(e) => has_selector(&e.expr),
        Expr::Paren(e) => has_selector(&e.expr),
    }
}

/// The matchers that decide which metrics are info metrics.
fn effective(names: Vec<Matcher>) -> Vec<Matcher> {
    let is_positive = |m: &Matcher| matches!(m.op, MatchOp::Eq | MatchOp::Re);
    if names.iter().any(is_positive) {
        return names;
    }
    if names.is_empty() {
        return vec![Matcher::equal(METRIC_NAME, b"target_info")];
    }
    let any = Matcher::new(MatchOp::Re, METRIC_NAME, b".+_info").expect("a valid pattern");
    std::iter::once(any).chain(names).collect()
}

/// The labels of a series with what the info series add; none if it is dropped.
fn enriched(
    base: &Labels,
    seen: &BTreeMap<Labels, Seen>,
    wanted: &BTreeSet<&[u8]>,
    data: &[Matcher],
) -> Res<Option<Labels>> {
    let key = |name: &[u8]| {
        let mut builder = LabelsBuilder::from(&base.without(|n| !IDENTIFYING.contains(&n)));
        builder.set(METRIC_NAME, name);
        builder.build()
    };
    let mut added: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut is_matched = false;
    for (signature, info) in seen {
        if *signature != key(signature.metric_name()) {
            continue;
        }
        is_matched = true;
        for (name, value) in info.labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            if !wanted.is_empty() && !wanted.contains(name) {
                continue;
            }
            if added.get(name).is_some_and(|other| other != value) {
                return Err(format!("conflicting label: {}", String::from_utf8_lossy(name)));
            }
            if base.get(name).is_some_and(|v| !v.is_empty()) {
                continue;
            }
            added.insert(name.to_vec(), value.to_vec());
        }
    }
    if !is_matched && !data.iter().all(Matcher::matches_empty) {
        return Ok(None);
    }
    let mut builder = LabelsBuilder::from(base);
    for (name, value) in &added {
        builder.set(name, value);
    }
    Ok(Some(builder.build()))
}
