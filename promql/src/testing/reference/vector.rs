//! Functions over instant vectors and scalars.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::labels::METRIC_NAME;
use model::matcher::{MatchOp, Matcher};
use model::{Labels, LabelsBuilder, Regex, Timestamp};

use super::{Grid, Out, Reference, Res, Row, Val, bare, merged};
use crate::exec::calendar::Date;
use crate::parse::ast::{Call, Expr};

/// Go's `math.Max`: NaN wins, but for an infinity of the right sign.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

pub(super) fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

impl Reference {
    pub(super) fn vector_function(&self, e: &Call, grid: Grid) -> Res<Out> {
        let scope = &self.scope;
        let constant = |v: f64| Ok(Out::Scalars(grid.times().map(|t| (t, v)).collect()));
        let seconds = |t: Timestamp| t as f64 / 1000.0;
        match e.func.name {
            "pi" => constant(std::f64::consts::PI),
            "start" => constant(seconds(scope.start)),
            "end" => constant(seconds(scope.end)),
            "range" => constant(seconds(scope.end - scope.start)),
            "step" => constant(seconds(scope.step)),
            "time" => Ok(Out::Scalars(grid.times().map(|t| (t, seconds(t))).collect())),
            "min_of" | "max_of" => {
                let (a, b) = (self.scalars(&e.args[0], grid)?, self.scalars(&e.args[1], grid)?);
                let f = if e.func.name == "min_of" { go_min } else { go_max };
                Ok(Out::Scalars(grid.times().map(|t| (t, f(a[&t], b[&t]))).collect()))
            }
            "scalar" => {
                let rows = self.rows(&e.args[0], grid)?;
                let one = |t: Timestamp| {
                    let floats: Vec<f64> =
                        rows.iter().filter_map(|row| row.points.get(&t)?.float()).collect();
                    if let [v] = floats[..] { v } else { f64::NAN }
                };
                Ok(Out::Scalars(grid.times().map(|t| (t, one(t))).collect()))
            }
            "vector" => {
                let points = self.scalars(&e.args[0], grid)?;
                Ok(Out::Rows(vec![row_of(points)]))
            }
            _ => self.rows_of(e, grid).map(Out::Rows),
        }
    }

    fn rows_of(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let name = e.func.name;
        match name {
            "histogram_quantile" | "histogram_quantiles" => self.histogram_quantile(e, grid),
            "histogram_fraction" => self.histogram_fraction(e, grid),
            "info" => self.info(e, grid),
            "label_replace" => self.label_replace(e, grid),
            "label_join" => self.label_join(e, grid),
            "timestamp" => self.timestamp(e, grid),
            "start_timestamp" => self.start_timestamp(e, grid),
            "absent" => {
                let rows = self.rows(&e.args[0], grid)?;
                let is_absent = |t: &Timestamp| rows.iter().all(|row| !row.points.contains_key(t));
                let points: BTreeMap<_, _> =
                    grid.times().filter(is_absent).map(|t| (t, Val::F(1.0))).collect();
                merged([Row { labels: absent_labels(&e.args[0]), drop: false, points }].into_iter())
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(e, grid),
            "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "hour" | "minute"
            | "month" | "year"
                if e.args.is_empty() =>
            {
                let points = grid.times().map(|t| (t, date(name, (t / 1000) as f64)));
                Ok(vec![row_of(points.collect())])
            }
            _ => self.mapped(e, grid),
        }
    }

    /// Functions of one sample.
    fn mapped(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let name = e.func.name;
        let rows = self.rows(&e.args[0], grid)?;
        let mut params = Vec::new();
        for arg in &e.args[1..] {
            params.push(self.scalars(arg, grid)?);
        }
        let is_histogram = name.starts_with("histogram_");
        let one = |t: Timestamp, v: &Val| -> Option<Val> {
            let param = |i: usize| params.get(i).map(|p| p[&t]);
            if is_histogram {
                let h = v.histogram()?;
                return Some(Val::F(match name {
                    "histogram_count" => h.count,
                    "histogram_sum" => h.sum,
                    "histogram_avg" => h.sum / h.count,
                    "histogram_stdvar" => super::histogram::variance(h),
                    _ => super::histogram::variance(h).sqrt(),
                }));
            }
            let v = v.float()?;
            Some(Val::F(match name {
                "round" => {
                    let inverse = 1.0 / param(0).unwrap_or(1.0);
                    (v * inverse + 0.5).floor() / inverse
                }
                "clamp" => {
                    let (min, max) = (param(0)?, param(1)?);
                    if max < min {
                        return None;
                    }
                    go_max(min, go_min(max, v))
                }
                "clamp_min" => go_max(param(0)?, v),
                "clamp_max" => go_min(param(0)?, v),
                "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "hour" | "minute"
                | "month" | "year" => date(name, v),
                _ => plain(name, v),
            }))
        };
        let out = rows.into_iter().map(|row| {
            let points = row.points.iter().filter_map(|(&t, v)| Some((t, one(t, v)?))).collect();
            let row = Row { points, ..row };
            if is_histogram && !self.scope.delayed {
                // These leave the type and the unit.
                Row { labels: row.labels.without(|n| n == METRIC_NAME), ..row }
            } else {
                self.dropped(row)
            }
        });
        merged(out)
    }

    fn timestamp(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let rows: Vec<Row> = if let Expr::Vector(selector) = bare(&e.args[0])
            && selector.boundary.is_none()
        {
            let seconds = |t: Timestamp| Val::F(t as f64 / 1000.0);
            let rows = self.instant_raws(selector, grid)?.into_iter().map(|(labels, found)| Row {
                labels,
                drop: false,
                points: found.into_iter().map(|(t, raw)| (t, seconds(raw.t))).collect(),
            });
            rows.collect()
        } else {
            let rows = self.rows(&e.args[0], grid)?.into_iter().map(|row| {
                let points = row.points.keys().map(|&t| (t, Val::F(t as f64 / 1000.0))).collect();
                Row { points, ..row }
            });
            rows.collect()
        };
        merged(rows.into_iter().map(|row| self.dropped(row)))
    }

    fn start_timestamp(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let Expr::Vector(selector) = bare(&e.args[0]) else {
            self.rows(&e.args[0], grid)?;
            return Ok(Vec::new());
        };
        if !self.scope.start_timestamps {
            return Ok(Vec::new());
        }
        let rows = self.instant_raws(selector, grid)?.into_iter().map(|(labels, found)| {
            let points = found.into_iter().map(|(t, raw)| (t, Val::F(raw.st as f64 / 1000.0))).collect();
            self.dropped(Row { labels, drop: false, points })
        });
        merged(rows)
    }

    fn sort(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let mut rows = self.rows(&e.args[0], grid)?;
        if !grid.is_point {
            self.warn("sort is ineffective for range queries since results are always ordered by labels");
        }
        let name = e.func.name;
        if name == "sort" || name == "sort_desc" {
            for row in &mut rows {
                row.points.retain(|_, v| v.float().is_some());
            }
            rows.retain(|row| !row.points.is_empty());
            if grid.is_point {
                let value = |row: &Row| row.points[&grid.start].float().expect("only floats");
                rows.sort_by(|a, b| match (value(a), value(b)) {
                    (a, b) if a.is_nan() || b.is_nan() => a.is_nan().cmp(&b.is_nan()),
                    (a, b) if name == "sort" => a.partial_cmp(&b).expect("no NaN"),
                    (a, b) => b.partial_cmp(&a).expect("no NaN"),
                });
            }
            return Ok(rows);
        }
        if grid.is_point {
            let labels: Vec<Vec<u8>> = e.args[1..].iter().map(Self::text).collect();
            rows.sort_by(|a, b| {
                let value = |row: &Row, l: &[u8]| row.labels.get(l).unwrap_or_default().to_vec();
                let by = labels
                    .iter()
                    .map(|l| natural(&value(a, l), &value(b, l)))
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a.labels.cmp(&b.labels));
                if name == "sort_by_label" { by } else { by.reverse() }
            });
        }
        Ok(rows)
    }

    fn label_replace(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let texts: Vec<Vec<u8>> = e.args[1..].iter().map(Self::text).collect();
        let [target, replacement, source, pattern] = &texts[..] else { unreachable!("type-checked") };
        let told = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let regex = Regex::anchored(pattern)
            .map_err(|_| format!("invalid regular expression in label_replace(): {}", told(pattern)))?;
        if target.is_empty() || std::str::from_utf8(target).is_err() {
            return Err(format!("invalid destination label name in label_replace(): {}", told(target)));
        }
        let rows = self.rows(&e.args[0], grid)?;
        let renamed = rows.into_iter().map(|row| {
            let value = row.labels.get(source).unwrap_or_default().to_vec();
            let mut text = Vec::new();
            if !regex.expand(&value, replacement, &mut text) {
                return row;
            }
            let mut builder = LabelsBuilder::from(&row.labels);
            builder.set(target, &text);
            let drop = row.drop && target.as_slice() != METRIC_NAME;
            Row { labels: builder.build(), drop, ..row }
        });
        merged(renamed)
    }

    fn label_join(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let texts: Vec<Vec<u8>> = e.args[1..].iter().map(Self::text).collect();
        let (target, separator, sources) = (&texts[0], &texts[1], &texts[2..]);
        let is_invalid = |name: &[u8]| name.is_empty() || std::str::from_utf8(name).is_err();
        let told = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        if let Some(source) = sources.iter().find(|s| is_invalid(s)) {
            return Err(format!("invalid source label name in label_join(): {}", told(source)));
        }
        if is_invalid(target) {
            return Err(format!("invalid destination label name in label_join(): {}", told(target)));
        }
        let rows = self.rows(&e.args[0], grid)?;
        let joined = rows.into_iter().map(|row| {
            let values: Vec<&[u8]> = sources.iter().map(|s| row.labels.get(s).unwrap_or_default()).collect();
            let mut builder = LabelsBuilder::from(&row.labels);
            builder.set(target, &values.join(&separator[..]));
            let drop = row.drop && target.as_slice() != METRIC_NAME;
            Row { labels: builder.build(), drop, ..row }
        });
        merged(joined)
    }
}

fn row_of(points: BTreeMap<Timestamp, f64>) -> Row {
    let points = points.into_iter().map(|(t, v)| (t, Val::F(v))).collect();
    Row { labels: Labels::empty(), drop: false, points }
}

/// The labels that `absent` knows of a selector: those with one equality.
pub(super) fn absent_labels(expr: &Expr) -> Labels {
    let matchers = match bare(expr) {
        Expr::Vector(e) => &e.matchers,
        Expr::Matrix(e) => &e.selector.matchers,
        _ => return Labels::empty(),
    };
    let mut builder = LabelsBuilder::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    // Those that only take away come last.
    let mut matchers: Vec<&Matcher> = matchers.iter().collect();
    let is_set = |name: &[u8]| matchers.iter().any(|m| *m.name == *name && !m.matches(b""));
    let takes: Vec<bool> = matchers
        .iter()
        .map(|m| !is_set(&m.name) || (matches!(m.op, MatchOp::Ne | MatchOp::Nre) && m.matches(b"")))
        .collect();
    let order: Vec<&Matcher> = [false, true]
        .iter()
        .flat_map(|side| matchers.iter().zip(&takes).filter(move |(_, t)| *t == side).map(|(m, _)| *m))
        .collect();
    matchers = order;
    for m in matchers.into_iter().filter(|m| &*m.name != METRIC_NAME) {
        if m.op == MatchOp::Eq && !seen.contains(&&*m.name) {
            builder.set(&m.name, &m.value);
            seen.push(&m.name);
        } else {
            builder.remove(&m.name);
        }
    }
    builder.build()
}

fn plain(name: &str, v: f64) -> f64 {
    match name {
        "abs" => v.abs(),
        "ceil" => v.ceil(),
        "floor" => v.floor(),
        "sqrt" => v.sqrt(),
        "sgn" if v < 0.0 => -1.0,
        "sgn" if v > 0.0 => 1.0,
        "sgn" => v,
        "deg" => v * 180.0 / std::f64::consts::PI,
        "rad" => v * std::f64::consts::PI / 180.0,
        other => unreachable!("{other} is not generated: it is compared in scripts"),
    }
}

fn date(name: &str, v: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is the least integer, as in Go")]
    let seconds = if v.is_nan() || v.abs() >= 9.2e18 { i64::MIN } else { v as i64 };
    let date = Date::of_unix_seconds(seconds);
    let is_leap = date.year % 4 == 0 && (date.year % 100 != 0 || date.year % 400 == 0);
    match name {
        "hour" => (seconds.rem_euclid(86_400) / 3600) as f64,
        "minute" => (seconds.rem_euclid(3600) / 60) as f64,
        "day_of_month" => f64::from(date.day),
        "day_of_week" => f64::from(date.weekday),
        "day_of_year" => f64::from(date.day_of_year),
        "month" => f64::from(date.month),
        "year" => date.year as f64,
        _ => match date.month {
            2 if is_leap => 29.0,
            2 => 28.0,
            4 | 6 | 9 | 11 => 30.0,
            _ => 31.0,
        },
    }
}

/// The order of labels in which numbers count as numbers.
pub(super) fn natural(a: &[u8], b: &[u8]) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    if a.is_empty() || b.is_empty() {
        return a.len().cmp(&b.len());
    }
    let chunks = |text: &[u8]| -> Vec<Vec<u8>> {
        text.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).map(<[u8]>::to_vec).collect()
    };
    let (a, b) = (chunks(a), chunks(b));
    let number = |chunk: &[u8]| std::str::from_utf8(chunk).ok()?.parse::<i64>().ok();
    for (i, x) in a.iter().enumerate() {
        let Some(y) = b.get(i) else { return Ordering::Greater };
        let order = match (number(x), number(y)) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
        if i + 1 == a.len() {
            return Ordering::Less;
        }
        if i + 1 == b.len() {
            return Ordering::Greater;
        }
    }
    Ordering::Less
}
