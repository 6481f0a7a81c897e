//! Aggregations: group by group, step by step.

use std::collections::BTreeMap;

use model::labels::METRIC_NAME;
use model::number::format_g;
use model::quote::go_quote;
use model::{FloatHistogram, Labels, LabelsBuilder, Timestamp};

use super::histogram::total;
use super::{Grid, Reference, Res, Row, Val};
use crate::parse::ast::{Aggregate, AggregateOp, Expr};

/// The first value that is not an `i64` any more, as upstream tells it.
const I64_END: f64 = 9_223_372_036_854_774_784.0;

impl Reference {
    pub(super) fn aggregate(&self, e: &Aggregate, grid: Grid) -> Res<Vec<Row>> {
        if e.op == AggregateOp::CountValues {
            return self.count_values(e, grid);
        }
        let params = match &e.param {
            Some(param) => Some(self.scalars(param, grid)?),
            None => None,
        };
        let rows = self.rows(&e.expr, grid)?;
        let params = match (e.op, params) {
            (AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk, Some(all)) => {
                match Self::counts(e.param.as_deref(), &all)? {
                    None => return Ok(Vec::new()),
                    Some(all) => all,
                }
            }
            (AggregateOp::LimitRatio, Some(all)) => match self.ratios(e.param.as_deref(), &all)? {
                None => return Ok(Vec::new()),
                Some(all) => all,
            },
            (AggregateOp::Quantile, Some(all)) => {
                let (max, min, any_nan) = extremes(e.param.as_deref(), &all);
                let outside = [(any_nan, f64::NAN), (max > 1.0, max), (min < 0.0, min)];
                outside.iter().filter(|(is, _)| *is).for_each(|(_, q)| self.check_quantile(*q));
                all
            }
            (_, other) => other.unwrap_or_default(),
        };
        // Groups in the order in which their series come.
        let mut groups: Vec<(Labels, Vec<&Row>)> = Vec::new();
        for row in &rows {
            let key = group_labels(&row.labels, &e.grouping, e.without);
            match groups.iter_mut().find(|(labels, _)| *labels == key) {
                Some((_, members)) => members.push(row),
                None => groups.push((key, vec![row])),
            }
        }
        if matches!(
            e.op,
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio
        ) {
            return Ok(self.chosen(e.op, &groups, &params, rows.len(), grid));
        }
        let mut out = Vec::new();
        for (labels, members) in groups {
            // Whether the name goes is as the last step has it.
            let mut drop = false;
            let mut points = BTreeMap::new();
            for t in grid.times() {
                let values: Vec<(&Row, &Val)> =
                    members.iter().filter_map(|row| Some((*row, row.points.get(&t)?))).collect();
                if values.is_empty() {
                    continue;
                }
                drop = values.iter().any(|(row, _)| row.drop);
                let param = params.get(&t).copied().unwrap_or(0.0);
                points.extend(self.fold(e.op, &values, param).map(|v| (t, v)));
            }
            if !points.is_empty() {
                out.push(Row { labels, drop, points });
            }
        }
        Ok(out)
    }

    /// The numbers of series to keep; none if nothing can be kept.
    fn counts(param: Option<&Expr>, all: &BTreeMap<Timestamp, f64>) -> Res<Option<BTreeMap<Timestamp, f64>>> {
        let (max, min, any_nan) = extremes(param, all);
        if max < 1.0 {
            return Ok(None);
        }
        if any_nan {
            return Err("Parameter value is NaN".to_owned());
        }
        if min <= -9_223_372_036_854_775_808.0 {
            return Err(format!("Scalar value {} underflows int64", format_g(min)));
        }
        if max >= I64_END {
            return Err(format!("Scalar value {} overflows int64", format_g(max)));
        }
        Ok(Some(all.clone()))
    }

    fn ratios(
        &self,
        param: Option<&Expr>,
        all: &BTreeMap<Timestamp, f64>,
    ) -> Res<Option<BTreeMap<Timestamp, f64>>> {
        let (max, min, any_nan) = extremes(param, all);
        if max == 0.0 && min == 0.0 {
            return Ok(None);
        }
        if any_nan {
            return Err("Ratio value is NaN".to_owned());
        }
        let warn = |v: f64, cap: f64| {
            self.warn(format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                format_g(v),
                format_g(cap)
            ));
        };
        if max > 1.0 {
            warn(max, 1.0);
        }
        if min < -1.0 {
            warn(min, -1.0);
        }
        Ok(Some(all.iter().map(|(t, v)| (*t, v.clamp(-1.0, 1.0))).collect()))
    }

    fn fold(&self, op: AggregateOp, values: &[(&Row, &Val)], param: f64) -> Option<Val> {
        let floats: Vec<f64> = values.iter().filter_map(|(_, v)| v.float()).collect();
        let hists: Vec<&FloatHistogram> = values.iter().filter_map(|(_, v)| v.histogram()).collect();
        match op {
            AggregateOp::Count => return Some(Val::F(values.len() as f64)),
            AggregateOp::Group => return Some(Val::F(1.0)),
            AggregateOp::Sum | AggregateOp::Avg if hists.is_empty() => {
                let (sum, c) = kahan(floats.iter().copied());
                return Some(Val::F(if op == AggregateOp::Avg { mean(&floats) } else { sum + c }));
            }
            AggregateOp::Sum | AggregateOp::Avg => {
                return self.histogram_fold(op == AggregateOp::Avg, values).map(Val::H);
            }
            _ => {}
        }
        if !hists.is_empty() {
            self.tell(format!("ignored histogram in {} aggregation", op.as_str()));
        }
        let first = *floats.first()?;
        Some(Val::F(match op {
            AggregateOp::Min => extreme(&floats, |new, old| new < old),
            AggregateOp::Max => extreme(&floats, |new, old| new > old),
            AggregateOp::Quantile => quantile(param, &floats),
            _ => {
                let (mut mean, mut aux) = (first, if first.is_finite() { 0.0 } else { f64::NAN });
                for (i, &v) in floats.iter().enumerate().skip(1) {
                    let delta = v - mean;
                    mean += delta / (i + 1) as f64;
                    aux += delta * (v - mean);
                }
                let variance = aux / floats.len() as f64;
                if op == AggregateOp::Stddev { variance.sqrt() } else { variance }
            }
        }))
    }

    /// The sum or mean of a group with histograms in it.
    fn histogram_fold(&self, is_mean: bool, values: &[(&Row, &Val)]) -> Option<FloatHistogram> {
        let first_is_float = values[0].1.float().is_some();
        let hists: Vec<(&Row, &FloatHistogram)> =
            values.iter().filter_map(|(row, v)| Some((*row, v.histogram()?))).collect();
        // Behind a float histograms are not added up any more.
        let total =
            (!first_is_float).then(|| total(&hists.iter().map(|(_, h)| *h).collect::<Vec<_>>(), is_mean));
        if total.as_ref().is_some_and(|total| total.reconciled) {
            self.tell("mismatched custom buckets were reconciled during aggregation");
        }
        let mut seen = values;
        if let Some(Err(at)) = total.as_ref().map(|total| &total.value) {
            let (row, offender) = hists[*at];
            self.warn(super::range::mixed_schemas(row.labels.metric_name()));
            // What comes behind the offender is not even looked at.
            let place =
                values.iter().position(|(_, v)| v.histogram().is_some_and(|h| std::ptr::eq(h, offender)));
            seen = &values[..=place.expect("it is one of them")];
        }
        if seen.iter().any(|(_, v)| v.float().is_some()) {
            self.warn("encountered a mix of histograms and floats for aggregation");
            return None;
        }
        let total = total?;
        let mut h = total.value.ok()?;
        if total.collide {
            self.warn("conflicting counter resets during histogram aggregation");
        }
        h.compact(0);
        Some(h)
    }

    /// topk, bottomk, limitk and `limit_ratio`, which keep whole samples.
    fn chosen(
        &self,
        op: AggregateOp,
        groups: &[(Labels, Vec<&Row>)],
        params: &BTreeMap<Timestamp, f64>,
        n_series: usize,
        grid: Grid,
    ) -> Vec<Row> {
        let mut out: Vec<Row> = Vec::new();
        let mut keep =
            |row: &Row, t: Timestamp, v: &Val| match out.iter_mut().find(|o| o.labels == row.labels) {
                Some(o) => {
                    o.points.insert(t, v.clone());
                }
                None => out.push(Row { points: BTreeMap::from([(t, v.clone())]), ..row.clone() }),
            };
        for t in grid.times() {
            let param = params[&t];
            for (_, members) in groups {
                let here: Vec<(&Row, &Val)> =
                    members.iter().filter_map(|row| Some((*row, row.points.get(&t)?))).collect();
                if op == AggregateOp::LimitRatio {
                    for (row, v) in here {
                        let h = hash(&row.labels) as f64 / 18_446_744_073_709_551_616.0;
                        if (param >= 0.0 && h < param) || (param < 0.0 && h >= 1.0 + param) {
                            keep(row, t, v);
                        }
                    }
                    continue;
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "not negative, and what is too large is capped"
                )]
                let k = (param.max(0.0).trunc() as usize).min(n_series);
                if k == 0 {
                    continue;
                }
                if op == AggregateOp::Limitk {
                    here.iter().take(k).for_each(|(row, v)| keep(row, t, v));
                    continue;
                }
                if here.iter().any(|(_, v)| v.histogram().is_some()) {
                    self.tell(format!("ignored histogram in {} aggregation", op.as_str()));
                }
                let mut floats: Vec<(&Row, f64)> =
                    here.iter().filter_map(|(row, v)| Some((*row, v.float()?))).collect();
                // Stable: of equal values the earlier series is kept. NaN is last in both.
                floats.sort_by(|(_, a), (_, b)| match (a.is_nan(), b.is_nan()) {
                    (false, false) if op == AggregateOp::Topk => b.partial_cmp(a).expect("no NaN"),
                    (false, false) => a.partial_cmp(b).expect("no NaN"),
                    (a, b) => a.cmp(&b),
                });
                floats.into_iter().take(k).for_each(|(row, v)| keep(row, t, &Val::F(v)));
            }
        }
        out
    }

    fn count_values(&self, e: &Aggregate, grid: Grid) -> Res<Vec<Row>> {
        let label = Self::text(e.param.as_deref().expect("type-checked"));
        if label.is_empty() || std::str::from_utf8(&label).is_err() {
            return Err(format!("invalid label name {}", go_quote(&label)));
        }
        let mut grouping: Vec<std::sync::Arc<[u8]>> = e.grouping.clone();
        if !e.without {
            grouping.push(label.clone().into());
        }
        let rows = self.rows(&e.expr, grid)?;
        let mut out: BTreeMap<Labels, Row> = BTreeMap::new();
        for t in grid.times() {
            for row in &rows {
                let Some(v) = row.points.get(&t) else { continue };
                let text = match v {
                    Val::F(v) => shortest(*v),
                    Val::H(h) => h.to_string(),
                };
                let mut builder = LabelsBuilder::from(&row.labels);
                builder.set(&label, text.as_bytes());
                let labels = group_labels(&builder.build(), &grouping, e.without);
                let target = out.entry(labels.clone()).or_insert_with(|| Row {
                    labels,
                    drop: false,
                    points: BTreeMap::new(),
                });
                let count = target.points.get(&t).and_then(Val::float).unwrap_or(0.0);
                target.points.insert(t, Val::F(count + 1.0));
            }
        }
        Self::checked(out.into_values().collect())
    }
}

/// The largest and the smallest value, and whether any is NaN, as Go's `Max` and `Min` find them; what is not a
/// literal is compared with the largest finite numbers, too.
fn extremes(param: Option<&Expr>, all: &BTreeMap<Timestamp, f64>) -> (f64, f64, bool) {
    let any_nan = all.values().any(|v| v.is_nan());
    let is_literal = matches!(param.map(super::bare), Some(Expr::Number(_)));
    let first = all.values().next().copied().unwrap_or(0.0);
    let (max, min) = if is_literal { (first, first) } else { (-f64::MAX, f64::MAX) };
    all.values().fold((max, min, any_nan), |(max, min, any), &v| {
        (super::vector::go_max(max, v), super::vector::go_min(min, v), any)
    })
}

fn group_labels(labels: &Labels, grouping: &[std::sync::Arc<[u8]>], without: bool) -> Labels {
    let listed = |n: &[u8]| grouping.iter().any(|g| **g == *n);
    labels.without(|n| if without { listed(n) || n == METRIC_NAME } else { !listed(n) })
}

/// The hash that decides which series `limit_ratio` keeps: xxHash64 of length-prefixed names and values.
fn hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::new();
    for part in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(part.len()) {
            Ok(len) if len < 255 => bytes.push(len),
            _ => {
                bytes.push(255);
                bytes.extend_from_slice(&u32::try_from(part.len()).expect("short").to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(part);
    }
    model::xxhash::xxh64(&bytes)
}

/// Plain decimal, shortest digits, no exponent.
fn shortest(v: f64) -> String {
    if v == f64::INFINITY {
        return "+Inf".to_owned();
    }
    if v == f64::NEG_INFINITY {
        return "-Inf".to_owned();
    }
    v.to_string()
}

pub(super) fn kahan_step(v: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + v;
    match (t.is_infinite(), sum.abs() >= v.abs()) {
        (true, _) => (t, 0.0),
        (_, true) => (t, c + ((sum - t) + v)),
        _ => (t, c + ((v - t) + sum)),
    }
}

pub(super) fn kahan(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((0.0, 0.0), |(sum, c), v| kahan_step(v, sum, c))
}

/// Compensated, and incremental from where the sum would become infinite.
pub(super) fn mean(vs: &[f64]) -> f64 {
    let (mut sum, mut c, mut n) = (vs[0], 0.0, 1.0);
    let mut incremental = false;
    for &v in &vs[1..] {
        n += 1.0;
        if !incremental {
            let (s, k) = kahan_step(v, sum, c);
            if !s.is_infinite() {
                (sum, c) = (s, k);
                continue;
            }
            incremental = true;
            sum /= n - 1.0;
            c /= n - 1.0;
        }
        let q = (n - 1.0) / n;
        (sum, c) = kahan_step(v / n, q * sum, q * c);
    }
    if incremental { sum + c } else { sum / n + c / n }
}

pub(super) fn extreme(vs: &[f64], better: fn(f64, f64) -> bool) -> f64 {
    vs[1..].iter().fold(vs[0], |kept, &v| if better(v, kept) || kept.is_nan() { v } else { kept })
}

pub(super) fn quantile(q: f64, vs: &[f64]) -> f64 {
    if q.is_nan() || vs.is_empty() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let mut sorted = vs.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = q * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    sorted[lower] * (1.0 - weight) + sorted[upper] * weight
}
