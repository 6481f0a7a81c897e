//! Binary operators, step by step.

use std::collections::{BTreeMap, BTreeSet};

use model::histogram::{CounterResetHint, TrimSide};
use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder};

use super::{DUPLICATES, Grid, Out, Reference, Res, Row, Val, nameless};
use crate::parse::ast::{Binary, BinaryOp, Cardinality, VectorMatching};

/// A sample of a step: labels, whether the name falls, the value.
type Sample = (Labels, bool, Val);

/// The remark that an element leaves: whether it is a warning, and its text.
type Remark = Option<(bool, String)>;

/// What an operator makes of two elements: the value and whether a filter keeps it, unless they do not go together.
struct Element {
    value: Option<(Val, bool)>,
    remark: Remark,
}

impl Reference {
    pub(super) fn binary(&self, e: &Binary, grid: Grid) -> Res<Out> {
        let lhs = self.eval(&e.lhs, grid)?;
        let rhs = self.eval(&e.rhs, grid)?;
        match (lhs, rhs) {
            (Out::Scalars(a), Out::Scalars(b)) => {
                if matches!(e.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
                    return Err(format!("operator \"{}\" not allowed for Scalar operations", e.op.as_str()));
                }
                Ok(Out::Scalars(grid.times().map(|t| (t, number(e.op, a[&t], b[&t]))).collect()))
            }
            (Out::Rows(rows), Out::Scalars(s)) => self.with_scalar(e, rows, &s, false, grid),
            (Out::Scalars(s), Out::Rows(rows)) => self.with_scalar(e, rows, &s, true, grid),
            (Out::Rows(a), Out::Rows(b)) => {
                let m = e.matching.as_ref().expect("set by the check");
                let mut out: Vec<Row> = Vec::new();
                for t in grid.times() {
                    let here = |rows: &[Row]| -> Vec<Sample> {
                        let found = rows
                            .iter()
                            .filter_map(|r| Some((r.labels.clone(), r.drop, r.points.get(&t)?.clone())));
                        found.collect()
                    };
                    let (left, right) = (here(&a), here(&b));
                    let result =
                        if e.op.is_set() { set(e.op, m, left, right) } else { self.join(e, m, left, right)? };
                    for (labels, drop, v) in result {
                        match out.iter_mut().find(|row| row.labels == labels) {
                            None => out.push(Row { labels, drop, points: BTreeMap::from([(t, v)]) }),
                            Some(row) => {
                                if row.points.insert(t, v).is_some() {
                                    return Err(DUPLICATES.to_owned());
                                }
                            }
                        }
                    }
                }
                Ok(Out::Rows(out))
            }
            _ => unreachable!("type-checked"),
        }
    }

    fn remark(&self, remark: Remark) {
        match remark {
            Some((true, text)) => self.warn(text),
            Some((false, text)) => self.tell(text),
            None => {}
        }
    }

    fn with_scalar(
        &self,
        e: &Binary,
        mut rows: Vec<Row>,
        s: &BTreeMap<i64, f64>,
        swapped: bool,
        grid: Grid,
    ) -> Res<Out> {
        let changes = !e.op.is_comparison() && !is_trim(e.op) || e.return_bool;
        for t in grid.times() {
            let mut last = None;
            for row in &mut rows {
                let Some(v) = row.points.remove(&t) else { continue };
                let scalar = Val::F(s[&t]);
                let (a, b) = if swapped { (&scalar, &v) } else { (&v, &scalar) };
                let element = element(e.op, a, b);
                let Some((result, keep)) = element.value else {
                    last = element.remark.or(last);
                    continue;
                };
                let result = if e.return_bool {
                    Val::F(if keep { 1.0 } else { 0.0 })
                } else if !keep {
                    continue;
                } else if e.op.is_comparison() {
                    v
                } else {
                    result
                };
                row.points.insert(t, result);
            }
            self.remark(last);
        }
        let rows = rows.into_iter().map(|row| if changes { self.dropped(row) } else { row });
        super::merged(rows).map(Out::Rows)
    }

    fn join(&self, e: &Binary, m: &VectorMatching, a: Vec<Sample>, b: Vec<Sample>) -> Res<Vec<Sample>> {
        let fills = m.fill_left.is_some() || m.fill_right.is_some();
        if (a.is_empty() && b.is_empty()) || ((a.is_empty() || b.is_empty()) && !fills) {
            return Ok(Vec::new());
        }
        let swapped = m.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (b, a) } else { (a, b) };
        let mut table: BTreeMap<Labels, &Sample> = BTreeMap::new();
        for sample in &one {
            let key = signature(m, &sample.0);
            if let Some(other) = table.insert(key.clone(), sample) {
                let side = if swapped { "left" } else { "right" };
                let mut both = [sample.0.to_string(), other.0.to_string()];
                both.sort();
                let [first, second] = both;
                return Err(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: \
                     [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side",
                    signature(m, &sample.0),
                ));
            }
        }
        let mut out = Vec::new();
        let mut seen: BTreeSet<(Labels, Labels)> = BTreeSet::new();
        let mut last: Remark = None;
        let mut pair = |many: &Sample, one: &Sample, key: &Labels, seen: &mut BTreeSet<(Labels, Labels)>| {
            let (left, right) = if swapped { (&one.2, &many.2) } else { (&many.2, &one.2) };
            let element = element(e.op, left, right);
            if element.remark.is_some() {
                last = element.remark;
            }
            let Some((value, keep)) = element.value else { return Ok(()) };
            let labels = self.joined_labels(e, m, &many.0, &one.0);
            let slot = if m.card == Cardinality::OneToOne { Labels::empty() } else { labels.clone() };
            if !seen.insert((key.clone(), slot)) {
                return Err(if m.card == Cardinality::OneToOne {
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                } else {
                    "multiple matches for labels: grouping labels must ensure unique matches"
                });
            }
            if e.return_bool {
                out.push((labels, true, Val::F(if keep { 1.0 } else { 0.0 })));
            } else if keep {
                // A comparison keeps the left value.
                let value = if e.op.is_comparison() { left.clone() } else { value };
                out.push((labels, false, value));
            }
            Ok(())
        };
        for sample in &many {
            let key = signature(m, &sample.0);
            let filled;
            let other = match (table.get(&key), m.fill_right) {
                (Some(other), _) => *other,
                (None, Some(v)) => {
                    filled = (signature(m, &sample.0), false, Val::F(v));
                    &filled
                }
                (None, None) => continue,
            };
            pair(sample, other, &key, &mut seen)?;
        }
        if let Some(v) = m.fill_left {
            for sample in &one {
                let key = signature(m, &sample.0);
                if seen.iter().any(|(k, _)| *k == key) {
                    continue;
                }
                pair(&(signature(m, &sample.0), false, Val::F(v)), sample, &key, &mut seen)?;
            }
        }
        self.remark(last);
        Ok(out)
    }

    fn joined_labels(&self, e: &Binary, m: &VectorMatching, many: &Labels, one: &Labels) -> Labels {
        let arithmetic = !e.op.is_comparison() && !is_trim(e.op);
        let drops = arithmetic || (e.return_bool && !self.scope.delayed);
        let mut labels = if drops { nameless(many) } else { many.clone() };
        if m.card == Cardinality::OneToOne {
            let listed = |n: &[u8]| m.labels.iter().any(|x| **x == *n);
            labels = labels.without(|n| listed(n) != m.on);
        }
        let mut builder = LabelsBuilder::from(&labels);
        for name in &m.include {
            builder.set(name, one.get(name).unwrap_or_default());
        }
        builder.build()
    }
}

fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
}

fn number(op: BinaryOp, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => crate::exec::math::scalar_binary(BinaryOp::Pow, a, b),
        BinaryOp::Atan2 => crate::exec::math::scalar_binary(BinaryOp::Atan2, a, b),
        BinaryOp::Eq => truth(a == b),
        BinaryOp::Ne => truth(a != b),
        BinaryOp::Lt => truth(a < b),
        BinaryOp::Le => truth(a <= b),
        BinaryOp::Gt => truth(a > b),
        BinaryOp::Ge => truth(a >= b),
        other => unreachable!("{other:?} is no operator of numbers"),
    }
}

fn element(op: BinaryOp, a: &Val, b: &Val) -> Element {
    let kind = |v: &Val| if v.float().is_some() { "float" } else { "histogram" };
    let kept = |v: Val, keep: bool| Element { value: Some((v, keep)), remark: None };
    let compacted = |mut h: model::FloatHistogram| {
        h.compact(0);
        kept(Val::H(h), true)
    };
    match (op, a, b) {
        (op, Val::F(x), Val::F(y)) if !is_trim(op) => {
            let v = number(op, *x, *y);
            if op.is_comparison() { kept(Val::F(*x), v == 1.0) } else { kept(Val::F(v), true) }
        }
        (BinaryOp::Mul, Val::F(f), Val::H(h)) | (BinaryOp::Mul, Val::H(h), Val::F(f)) => {
            let mut h = h.clone();
            h.multiply(*f);
            compacted(h)
        }
        (BinaryOp::Div, Val::H(h), Val::F(f)) => {
            let mut h = h.clone();
            h.divide(*f);
            compacted(h)
        }
        (BinaryOp::TrimUpper | BinaryOp::TrimLower, Val::H(h), Val::F(f)) => {
            let mut h = h.clone();
            h.trim(*f, if op == BinaryOp::TrimUpper { TrimSide::Below } else { TrimSide::Above });
            kept(Val::H(h), true)
        }
        (BinaryOp::Eq, Val::H(x), Val::H(y)) => kept(Val::H(x.clone()), x.is_equal(y)),
        (BinaryOp::Ne, Val::H(x), Val::H(y)) => kept(Val::H(x.clone()), !x.is_equal(y)),
        (BinaryOp::Add | BinaryOp::Sub, Val::H(x), Val::H(y)) => {
            let mut h = x.clone();
            let done = if op == BinaryOp::Add { h.add_assign(y) } else { h.sub_assign(y) };
            let during = if op == BinaryOp::Add { "addition" } else { "subtraction" };
            let Ok(done) = done else {
                let text =
                    format!("incompatible bucket layout encountered for binary operator {}", op.as_str());
                return Element { value: None, remark: Some((true, text)) };
            };
            if done.resets_collide {
                let text = format!("conflicting counter resets during histogram {during}");
                return Element { value: None, remark: Some((true, text)) };
            }
            if op == BinaryOp::Sub {
                h.counter_reset_hint = CounterResetHint::Gauge;
            }
            h.compact(0);
            let text = format!("mismatched custom buckets were reconciled during {during}");
            Element { value: Some((Val::H(h), true)), remark: done.reconciled.then_some((false, text)) }
        }
        _ => {
            let text = format!(
                "incompatible sample types encountered for binary operator \"{}\": {} {} {}",
                op.as_str(),
                kind(a),
                op.as_str(),
                kind(b)
            );
            Element { value: None, remark: Some((false, text)) }
        }
    }
}

fn signature(m: &VectorMatching, l: &Labels) -> Labels {
    let listed = |n: &[u8]| m.labels.iter().any(|x| **x == *n);
    l.without(|n| if m.on { !listed(n) } else { listed(n) || n == METRIC_NAME })
}

fn set(op: BinaryOp, m: &VectorMatching, a: Vec<Sample>, b: Vec<Sample>) -> Vec<Sample> {
    let signatures = |v: &[Sample]| v.iter().map(|s| signature(m, &s.0)).collect::<BTreeSet<_>>();
    let (left, right) = (signatures(&a), signatures(&b));
    match op {
        BinaryOp::And => a.into_iter().filter(|s| right.contains(&signature(m, &s.0))).collect(),
        BinaryOp::Unless => a.into_iter().filter(|s| !right.contains(&signature(m, &s.0))).collect(),
        _ => a.into_iter().chain(b.into_iter().filter(|s| !left.contains(&signature(m, &s.0)))).collect(),
    }
}
