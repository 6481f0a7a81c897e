//! The slow evaluator: one step at a time, one sample at a time, nothing kept, nothing shared.
//!
//! Written from the specification to be obviously right, it is what the engine is compared with, bit for bit,
//! on generated expressions. Immediate removal of the metric name. It knows no annotations.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::many_single_char_names,
    reason = "formulas as the specification writes them, on small numbers"
)]

use std::collections::{BTreeMap, BTreeSet};

use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder, Timestamp, is_stale};

use crate::parse::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, Expr, Modifiers,
    VectorMatching, VectorSelector,
};

pub(crate) type Samples = Vec<(Timestamp, f64)>;
pub(crate) type Vector = Vec<(Labels, f64)>;

/// Per series the samples of its window; the length and the end of the window.
type Windows = (Vec<(Labels, Samples)>, i64, i64);

pub(crate) struct Reference<'a> {
    /// In label order.
    pub(crate) data: &'a [(Labels, Samples)],
    pub(crate) lookback: i64,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

pub(crate) enum Val {
    Scalar(f64),
    Vector(Vector),
}

const DUPLICATES: &str = "duplicates";

fn ms(e: &DurationExpr) -> i64 {
    e.literal_ns().expect("generated durations are literals") / 1_000_000
}

fn nameless(labels: &Labels) -> Labels {
    labels.without(|n| n == METRIC_NAME)
}

fn unique(v: Vector) -> Result<Vector, String> {
    let labels: BTreeSet<&Labels> = v.iter().map(|(l, _)| l).collect();
    if labels.len() < v.len() { Err(DUPLICATES.to_owned()) } else { Ok(v) }
}

fn kahan(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((0.0, 0.0), |(sum, c): (f64, f64), v| {
        let t = sum + v;
        if t.is_infinite() {
            (t, 0.0)
        } else if sum.abs() >= v.abs() {
            (t, c + ((sum - t) + v))
        } else {
            (t, c + ((v - t) + sum))
        }
    })
}

impl Reference<'_> {
    pub(crate) fn eval(&self, expr: &Expr, t: Timestamp) -> Result<Val, String> {
        Ok(match expr {
            Expr::Number(e) => Val::Scalar(e.value),
            Expr::Paren(e) => return self.eval(&e.expr, t),
            Expr::Vector(e) => Val::Vector(self.selector(e, t)),
            Expr::Unary(e) if !e.negative => return self.eval(&e.expr, t),
            Expr::Unary(e) => match self.eval(&e.expr, t)? {
                Val::Scalar(v) => Val::Scalar(-v),
                Val::Vector(v) => Val::Vector(unique(v.iter().map(|(l, v)| (nameless(l), -v)).collect())?),
            },
            Expr::Call(e) => self.call(e, t)?,
            Expr::Aggregate(e) => Val::Vector(self.aggregate(e, t)?),
            Expr::Binary(e) => self.binary(e, t)?,
            Expr::String(_) | Expr::Matrix(_) | Expr::Subquery(_) => unreachable!("not generated as operand"),
        })
    }

    fn vector(&self, expr: &Expr, t: Timestamp) -> Result<Vector, String> {
        match self.eval(expr, t)? {
            Val::Vector(v) => Ok(v),
            Val::Scalar(_) => unreachable!("type-checked"),
        }
    }

    fn reference(&self, m: &Modifiers, t: Timestamp) -> Timestamp {
        let at = match m.at {
            None => t,
            Some(At::Time(at)) => at,
            Some(At::Start) => self.start,
            Some(At::End) => self.end,
        };
        at - m.offset.as_ref().map_or(0, ms)
    }

    fn selected<'s>(&'s self, e: &'s VectorSelector) -> impl Iterator<Item = &'s (Labels, Samples)> {
        let passes = |l: &Labels| e.matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or_default()));
        self.data.iter().filter(move |(l, _)| passes(l))
    }

    fn selector(&self, e: &VectorSelector, t: Timestamp) -> Vector {
        let at = self.reference(&e.modifiers, t);
        let mut out = Vector::new();
        for (labels, samples) in self.selected(e) {
            let last = samples.iter().rfind(|(ts, _)| *ts <= at);
            if let Some(&(ts, v)) = last
                && ts > at - self.lookback
                && !is_stale(v)
            {
                out.push((labels.clone(), v));
            }
        }
        out
    }

    /// The windows of a range vector, its length and its end.
    fn windows(&self, expr: &Expr, t: Timestamp) -> Result<Windows, String> {
        match expr {
            Expr::Matrix(e) => {
                let (end, range) = (self.reference(&e.selector.modifiers, t), ms(&e.range));
                let inside = |&&(ts, v): &&(i64, f64)| ts > end - range && ts <= end && !is_stale(v);
                let all = self.selected(&e.selector);
                Ok((
                    all.map(|(l, s)| (l.clone(), s.iter().filter(inside).copied().collect())).collect(),
                    range,
                    end,
                ))
            }
            Expr::Subquery(e) => {
                let (end, range) = (self.reference(&e.modifiers, t), ms(&e.range));
                let step = e.step.as_ref().map_or(60_000, ms);
                let mut series: BTreeMap<Labels, Samples> = BTreeMap::new();
                let first = ((end - range).div_euclid(step) + 1) * step;
                for at in (0..).map(|i| first + i * step).take_while(|&at| at <= end) {
                    for (labels, v) in self.vector(&e.expr, at)? {
                        series.entry(labels).or_default().push((at, v));
                    }
                }
                Ok((series.into_iter().collect(), range, end))
            }
            Expr::Paren(e) => self.windows(&e.expr, t),
            _ => unreachable!("type-checked"),
        }
    }

    fn scalar(&self, expr: &Expr, t: Timestamp) -> Result<f64, String> {
        match self.eval(expr, t)? {
            Val::Scalar(v) => Ok(v),
            Val::Vector(_) => unreachable!("type-checked"),
        }
    }

    fn call(&self, e: &Call, t: Timestamp) -> Result<Val, String> {
        let name = e.func.name;
        match name {
            "time" => return Ok(Val::Scalar(t as f64 / 1000.0)),
            "scalar" => {
                let v = self.vector(&e.args[0], t)?;
                return Ok(Val::Scalar(if v.len() == 1 { v[0].1 } else { f64::NAN }));
            }
            "abs" | "ceil" | "sgn" | "sqrt" => {
                let f = |v: f64| match name {
                    "abs" => v.abs(),
                    "ceil" => v.ceil(),
                    "sqrt" => v.sqrt(),
                    _ if v < 0.0 => -1.0,
                    _ if v > 0.0 => 1.0,
                    _ => v,
                };
                let v = self.vector(&e.args[0], t)?;
                return unique(v.iter().map(|(l, v)| (nameless(l), f(*v))).collect()).map(Val::Vector);
            }
            "absent" => {
                let none = self.vector(&e.args[0], t)?.is_empty();
                // Generated without matchers but the name.
                return Ok(Val::Vector(if none { vec![(Labels::empty(), 1.0)] } else { Vec::new() }));
            }
            _ => {}
        }
        let (param, matrix) = match name {
            "quantile_over_time" => (self.scalar(&e.args[0], t)?, &e.args[1]),
            "predict_linear" => (self.scalar(&e.args[1], t)?, &e.args[0]),
            _ => (0.0, &e.args[0]),
        };
        let (series, range, end) = self.windows(matrix, t)?;
        let mut out = Vector::new();
        for (labels, samples) in series.iter().filter(|(_, s)| !s.is_empty()) {
            if let Some(v) = over_time(name, samples, param, range, end, t) {
                let keeps = matches!(name, "last_over_time" | "first_over_time");
                out.push((if keeps { labels.clone() } else { nameless(labels) }, v));
            }
        }
        unique(out).map(Val::Vector)
    }

    fn aggregate(&self, e: &Aggregate, t: Timestamp) -> Result<Vector, String> {
        let input = self.vector(&e.expr, t)?;
        let param = match &e.param {
            Some(p) => self.scalar(p, t)?,
            None => 0.0,
        };
        let listed = |n: &[u8]| e.grouping.iter().any(|g| **g == *n);
        let key =
            |l: &Labels| l.without(|n| if e.without { listed(n) || n == METRIC_NAME } else { !listed(n) });
        let mut groups: Vec<(Labels, Vec<(Labels, f64)>)> = Vec::new();
        for (labels, v) in input {
            let k = key(&labels);
            match groups.iter_mut().find(|(g, _)| *g == k) {
                Some((_, members)) => members.push((labels, v)),
                None => groups.push((k, vec![(labels, v)])),
            }
        }
        let mut out = Vector::new();
        for (labels, members) in groups {
            if e.op == AggregateOp::Limitk {
                let k = members.len().min(param.max(0.0).floor() as usize);
                out.extend(members.into_iter().take(k));
                continue;
            }
            let vs: Vec<f64> = members.iter().map(|(_, v)| *v).collect();
            out.push((labels, fold(e.op, &vs, param)));
        }
        Ok(out)
    }

    fn binary(&self, e: &Binary, t: Timestamp) -> Result<Val, String> {
        let (lhs, rhs) = (self.eval(&e.lhs, t)?, self.eval(&e.rhs, t)?);
        let drops = e.return_bool || !e.op.is_comparison();
        let named = |l: &Labels| if drops { nameless(l) } else { l.clone() };
        let with = |v: Vector, f: &dyn Fn(f64) -> Option<f64>| {
            unique(v.iter().filter_map(|(l, v)| Some((named(l), f(*v)?))).collect()).map(Val::Vector)
        };
        match (lhs, rhs) {
            (Val::Scalar(a), Val::Scalar(b)) => Ok(Val::Scalar(number(e.op, a, b))),
            (Val::Vector(v), Val::Scalar(s)) => with(v, &|v| element(e, v, s, v)),
            (Val::Scalar(s), Val::Vector(v)) => with(v, &|v| element(e, s, v, v)),
            (Val::Vector(a), Val::Vector(b)) => {
                let m = e.matching.as_ref().expect("set by the check");
                (if e.op.is_set() { Ok(set(e.op, m, a, b)) } else { join(e, m, &a, &b) }).map(Val::Vector)
            }
        }
    }
}

fn fold(op: AggregateOp, vs: &[f64], param: f64) -> f64 {
    let n = vs.len() as f64;
    let pick = |better: fn(f64, f64) -> bool| {
        vs[1..].iter().fold(vs[0], |kept, &v| if better(v, kept) || kept.is_nan() { v } else { kept })
    };
    match op {
        AggregateOp::Sum => {
            let (sum, c) = kahan(vs.iter().copied());
            sum + c
        }
        AggregateOp::Avg => mean(vs),
        AggregateOp::Count => n,
        AggregateOp::Group => 1.0,
        AggregateOp::Min => pick(|new, old| new < old),
        AggregateOp::Max => pick(|new, old| new > old),
        AggregateOp::Quantile => quantile(param, vs),
        _ => {
            let (mut mean, mut aux) = (vs[0], if vs[0].is_finite() { 0.0 } else { f64::NAN });
            for (i, &v) in vs.iter().enumerate().skip(1) {
                let delta = v - mean;
                mean += delta / (i + 1) as f64;
                aux += delta * (v - mean);
            }
            if op == AggregateOp::Stddev { (aux / n).sqrt() } else { aux / n }
        }
    }
}

/// Without the overflow that the generated values cannot reach.
fn mean(vs: &[f64]) -> f64 {
    let n = vs.len() as f64;
    if vs.iter().any(|v| v.is_infinite()) {
        let (mut sum, mut count) = (vs[0], 1.0);
        let mut incremental = false;
        let mut c = 0.0;
        for &v in &vs[1..] {
            count += 1.0;
            if !incremental {
                let (s, k) = kahan_step(v, sum, c);
                if !s.is_infinite() {
                    (sum, c) = (s, k);
                    continue;
                }
                incremental = true;
                sum /= count - 1.0;
                c /= count - 1.0;
            }
            let q = (count - 1.0) / count;
            (sum, c) = kahan_step(v / count, q * sum, q * c);
        }
        return if incremental { sum + c } else { sum / n + c / n };
    }
    let (sum, c) = kahan(vs.iter().copied());
    sum / n + c / n
}

fn kahan_step(v: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + v;
    match (t.is_infinite(), sum.abs() >= v.abs()) {
        (true, _) => (t, 0.0),
        (_, true) => (t, c + ((sum - t) + v)),
        _ => (t, c + ((v - t) + sum)),
    }
}

fn quantile(q: f64, vs: &[f64]) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let mut sorted = vs.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = q * (sorted.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    sorted[lower] * (1.0 - weight) + sorted[upper] * weight
}

fn over_time(name: &str, s: &[(i64, f64)], param: f64, range: i64, end: i64, t: i64) -> Option<f64> {
    let vs: Vec<f64> = s.iter().map(|(_, v)| *v).collect();
    let pairs = || s.windows(2).map(|p| (p[0].1, p[1].1));
    let ((first_t, first), (last_t, last)) = (s[0], s[s.len() - 1]);
    Some(match name {
        "count_over_time" => vs.len() as f64,
        "present_over_time" => 1.0,
        "last_over_time" => last,
        "first_over_time" => first,
        "min_over_time" => fold(AggregateOp::Min, &vs, 0.0),
        "max_over_time" => fold(AggregateOp::Max, &vs, 0.0),
        "avg_over_time" => mean(&vs),
        "quantile_over_time" => quantile(param, &vs),
        "changes" => pairs().filter(|(a, b)| a != b && !(a.is_nan() && b.is_nan())).count() as f64,
        "resets" => pairs().filter(|(a, b)| b < a).count() as f64,
        "sum_over_time" => {
            let (sum, c) = kahan(vs.iter().copied());
            if sum.is_infinite() { sum } else { sum + c }
        }
        "stdvar_over_time" => {
            let (mut m, mut aux) = ((0.0, 0.0), (0.0, 0.0));
            for (i, &v) in vs.iter().enumerate() {
                let delta = v - (m.0 + m.1);
                m = kahan_step(delta / (i + 1) as f64, m.0, m.1);
                aux = kahan_step(delta * (v - (m.0 + m.1)), aux.0, aux.1);
            }
            (aux.0 + aux.1) / vs.len() as f64
        }
        "irate" | "idelta" => {
            let [.., (t0, a), (t1, b)] = *s else { return None };
            match name {
                "idelta" => b - a,
                _ => (if b < a { b } else { b - a }) / ((t1 - t0) as f64 / 1000.0),
            }
        }
        "deriv" | "predict_linear" => {
            if s.len() < 2 {
                return None;
            }
            let origin = if name == "deriv" { first_t } else { t };
            let (slope, intercept) = line(s, origin);
            if name == "deriv" { slope } else { slope * param + intercept }
        }
        "rate" | "increase" | "delta" => {
            if s.len() < 2 {
                return None;
            }
            let counter = name != "delta";
            let mut result = last - first;
            for (a, b) in pairs().filter(|(a, b)| counter && b < a) {
                assert!(b < a);
                result += a;
            }
            let sampled = (last_t - first_t) as f64 / 1000.0;
            let average = sampled / (s.len() - 1) as f64;
            let limit = |gap: f64| if gap >= average * 1.1 { average / 2.0 } else { gap };
            let mut before = limit((first_t - (end - range)) as f64 / 1000.0);
            let after = limit((end - last_t) as f64 / 1000.0);
            if counter && result > 0.0 && first >= 0.0 {
                let zero = sampled * (first / result);
                if zero < before {
                    before = zero;
                }
            }
            let mut factor = (sampled + before + after) / sampled;
            if name == "rate" {
                factor /= range as f64 / 1000.0;
            }
            result * factor
        }
        other => unreachable!("{other} is not generated"),
    })
}

fn line(s: &[(i64, f64)], origin: i64) -> (f64, f64) {
    if s.iter().all(|(_, v)| *v == s[0].1) {
        return if s[0].1.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, s[0].1) };
    }
    let x = |t: i64| (t - origin) as f64 / 1e3;
    let total = |f: &dyn Fn(f64, f64) -> f64| {
        let (sum, c) = kahan(s.iter().map(|&(t, y)| f(x(t), y)));
        sum + c
    };
    let n = s.len() as f64;
    let (sx, sy) = (total(&|x, _| x), total(&|_, y| y));
    let (sxy, sxx) = (total(&|x, y| x * y), total(&|x, _| x * x));
    let slope = (sxy - sx * sy / n) / (sxx - sx * sx / n);
    (slope, sy / n - slope * sx / n)
}

fn number(op: BinaryOp, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Eq => truth(a == b),
        BinaryOp::Ne => truth(a != b),
        BinaryOp::Lt => truth(a < b),
        BinaryOp::Le => truth(a <= b),
        BinaryOp::Gt => truth(a > b),
        BinaryOp::Ge => truth(a >= b),
        other => unreachable!("{other:?} is not generated"),
    }
}

fn element(e: &Binary, a: f64, b: f64, kept: f64) -> Option<f64> {
    let v = number(e.op, a, b);
    if e.op.is_comparison() && !e.return_bool {
        return (v == 1.0).then_some(kept);
    }
    Some(v)
}

fn signature(m: &VectorMatching, l: &Labels) -> Labels {
    let listed = |n: &[u8]| m.labels.iter().any(|x| **x == *n);
    l.without(|n| if m.on { !listed(n) } else { listed(n) || n == METRIC_NAME })
}

fn set(op: BinaryOp, m: &VectorMatching, a: Vector, b: Vector) -> Vector {
    let signatures = |v: &Vector| v.iter().map(|(l, _)| signature(m, l)).collect::<BTreeSet<_>>();
    let (left, right) = (signatures(&a), signatures(&b));
    match op {
        BinaryOp::And => a.into_iter().filter(|(l, _)| right.contains(&signature(m, l))).collect(),
        BinaryOp::Unless => a.into_iter().filter(|(l, _)| !right.contains(&signature(m, l))).collect(),
        _ => a.into_iter().chain(b.into_iter().filter(|(l, _)| !left.contains(&signature(m, l)))).collect(),
    }
}

fn join(e: &Binary, m: &VectorMatching, a: &Vector, b: &Vector) -> Result<Vector, String> {
    if a.is_empty() || b.is_empty() {
        return Ok(Vec::new());
    }
    let swapped = m.card == Cardinality::OneToMany;
    let (many, one) = if swapped { (b, a) } else { (a, b) };
    let mut table: BTreeMap<Labels, &(Labels, f64)> = BTreeMap::new();
    for sample in one {
        if table.insert(signature(m, &sample.0), sample).is_some() {
            return Err("many-to-many".to_owned());
        }
    }
    let mut out = Vector::new();
    let mut seen: BTreeSet<(Labels, Labels)> = BTreeSet::new();
    for (labels, v) in many {
        let sig = signature(m, labels);
        let Some((one_labels, one_v)) = table.get(&sig) else { continue };
        let (left, right) = if swapped { (*one_v, *v) } else { (*v, *one_v) };
        let dropped = !e.op.is_comparison() || e.return_bool;
        let mut result = if dropped { nameless(labels) } else { labels.clone() };
        if m.card == Cardinality::OneToOne {
            let listed = |n: &[u8]| m.labels.iter().any(|x| **x == *n);
            result = result.without(|n| listed(n) != m.on);
        }
        let mut builder = LabelsBuilder::from(&result);
        for name in &m.include {
            builder.set(name, one_labels.get(name).unwrap_or_default());
        }
        let result = builder.build();
        let slot = if m.card == Cardinality::OneToOne { Labels::empty() } else { result.clone() };
        if !seen.insert((sig, slot)) {
            return Err("multiple matches".to_owned());
        }
        out.extend(element(e, left, right, left).map(|v| (result, v)));
    }
    unique(out)
}
