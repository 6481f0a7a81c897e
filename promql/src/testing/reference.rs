//! The slow evaluator: every series at every step from the samples, nothing kept, nothing shared.
//!
//! Written from the specification to be obviously right; the engine is compared with it, bit for bit, on generated
//! expressions. It takes from elsewhere only the parser, the tree and what combines two histograms.

#![expect(clippy::many_single_char_names, reason = "formulas as the specification writes them")]

mod aggregate;
mod histogram;
mod info;
mod join;
mod range;
mod select;
mod vector;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use model::labels::METRIC_NAME;
use model::quote::go_quote;
use model::{AnyHistogram, FloatHistogram, Labels, TimeRange, Timestamp};

use super::Storage;
use crate::annotations::Severity;
use crate::parse::ast::{Call, Expr, ValueType};

/// A value of either kind.
#[derive(Clone, Debug)]
pub(crate) enum Val {
    F(f64),
    H(FloatHistogram),
}

impl Val {
    fn float(&self) -> Option<f64> {
        if let Self::F(v) = self { Some(*v) } else { None }
    }

    fn histogram(&self) -> Option<&FloatHistogram> {
        if let Self::H(h) = self { Some(h) } else { None }
    }
}

/// A stored sample.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) t: Timestamp,
    pub(crate) st: Timestamp,
    pub(crate) v: Val,
}

/// One series of a result, by time.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    /// The name falls at the end.
    drop: bool,
    pub(crate) points: BTreeMap<Timestamp, Val>,
}

#[derive(Clone, Copy, Debug)]
struct Grid {
    start: Timestamp,
    step: i64,
    len: usize,
    /// Start and end are the same time, as in an instant query.
    is_point: bool,
}

impl Grid {
    fn times(self) -> impl DoubleEndedIterator<Item = Timestamp> + Clone {
        (0..self.len).map(move |i| self.start + self.step * i64::try_from(i).expect("few steps"))
    }
}

enum Out {
    Scalars(BTreeMap<Timestamp, f64>),
    Rows(Vec<Row>),
    Text(Vec<u8>),
}

/// The result of a query.
#[derive(Debug)]
pub(crate) enum Answer {
    Scalars(BTreeMap<Timestamp, f64>),
    Rows(Vec<Row>),
    Text,
}

type Res<T> = Result<T, String>;

/// What is switched on, and the query's own times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) lookback: i64,
    pub(crate) delayed: bool,
    pub(crate) start_timestamps: bool,
    pub(crate) default_step: i64,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// 0 for an instant query.
    pub(crate) step: i64,
}

pub(crate) struct Reference {
    /// In label order, samples by time.
    data: Vec<(Labels, Vec<Raw>)>,
    scope: Scope,
    /// Without positions; what counts occurrences apart.
    notes: RefCell<BTreeSet<(bool, String)>>,
    overlaps: RefCell<BTreeMap<Vec<u8>, usize>>,
    repairs: RefCell<BTreeMap<Vec<u8>, histogram::Repair>>,
    /// The selectors that are read without buckets.
    stats: RefCell<BTreeSet<(u32, u32)>>,
}

const DUPLICATES: &str = "vector cannot contain metrics with the same labelset";

fn is_metadata(name: &[u8]) -> bool {
    [METRIC_NAME, b"__type__", b"__unit__"].contains(&name)
}

fn nameless(labels: &Labels) -> Labels {
    labels.without(is_metadata)
}

/// The expression inside of parentheses.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(e) => bare(&e.expr),
        other => other,
    }
}

/// All series of a store as they are read.
pub(crate) fn read_all(storage: &Storage) -> Vec<(Labels, Vec<Raw>)> {
    use model::storage::{Queryable, SelectHints};
    let querier = storage.querier(TimeRange::ALL).expect("it is in memory");
    let set = querier.select(&[], &SelectHints::default()).expect("it is in memory");
    let series = |i: usize| {
        let mut batch = model::SampleBatch::default();
        set.samples_into(i, TimeRange::ALL, &mut batch).expect("it is in memory");
        let floats = batch.iter().enumerate().map(|(i, s)| Raw { t: s.t, st: batch.st(i), v: Val::F(s.v) });
        let mut all: Vec<Raw> = floats.collect();
        all.extend(batch.histograms.iter().map(|s| {
            let h = match &s.histogram {
                AnyHistogram::Float(h) => (**h).clone(),
                AnyHistogram::Int(h) => h.to_float(),
            };
            Raw { t: s.t, st: s.st, v: Val::H(h) }
        }));
        all.sort_by_key(|raw| raw.t);
        (set.labels(i), all)
    };
    let mut all: Vec<_> = (0..set.len()).map(series).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

impl Reference {
    pub(crate) fn new(data: Vec<(Labels, Vec<Raw>)>, scope: Scope) -> Self {
        Self {
            data,
            scope,
            notes: RefCell::default(),
            overlaps: RefCell::default(),
            repairs: RefCell::default(),
            stats: RefCell::default(),
        }
    }

    /// Evaluates a whole query.
    pub(crate) fn query(&self, expr: &Expr) -> Res<Answer> {
        let Scope { start, end, step, .. } = self.scope;
        self.mark_stats(expr, &mut Vec::new());
        let len = if step == 0 { 1 } else { (end - start).div_euclid(step) + 1 };
        let len = usize::try_from(len).unwrap_or(0);
        let grid = Grid { start, step: step.max(1), len, is_point: start == end };
        if let Expr::Matrix(_) | Expr::Subquery(_) = bare(expr) {
            return self.raw_matrix(bare(expr), grid).map(Answer::Rows);
        }
        Ok(match self.eval(expr, grid)? {
            Out::Scalars(all) => Answer::Scalars(all),
            Out::Text(_) => Answer::Text,
            Out::Rows(rows) => {
                let mut rows = Self::final_rows(rows)?;
                if step != 0 {
                    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
                }
                Answer::Rows(rows)
            }
        })
    }

    /// Finds the selectors whose histograms are only asked for counts and sums: below a function that asks for no
    /// more, and with nothing on the way up that needs buckets.
    fn mark_stats(&self, expr: &Expr, path: &mut Vec<&'static str>) {
        let mut below = |name: &'static str, children: &[&Expr]| {
            path.push(name);
            for child in children {
                self.mark_stats(child, path);
            }
            path.pop();
        };
        let span = match expr {
            Expr::Number(_) | Expr::String(_) => return,
            Expr::Vector(e) => e.span,
            Expr::Matrix(e) => e.selector.span,
            Expr::Subquery(e) => return below("subquery", &[&e.expr]),
            Expr::Call(e) => return below(e.func.name, &e.args.iter().collect::<Vec<_>>()),
            Expr::Aggregate(e) => {
                let children: Vec<&Expr> = e.param.as_deref().into_iter().chain([&*e.expr]).collect();
                return below("aggregate", &children);
            }
            Expr::Binary(e) => return below(e.op.as_str(), &[&e.lhs, &e.rhs]),
            Expr::Unary(e) => return below("unary", &[&e.expr]),
            Expr::Paren(e) => return below("paren", &[&e.expr]),
        };
        let needs =
            ["subquery", "histogram_quantile", "histogram_quantiles", "histogram_fraction", "</", ">/"];
        let asks = ["histogram_count", "histogram_sum", "histogram_avg"];
        if path.iter().any(|name| asks.contains(name)) && !path.iter().any(|name| needs.contains(name)) {
            self.stats.borrow_mut().insert((span.start, span.end));
        }
    }

    /// The annotations of the queries so far, without positions.
    pub(crate) fn annotations(&self) -> BTreeSet<String> {
        let class = |warning| if warning { "PromQL warning: " } else { "PromQL info: " };
        let mut all: BTreeSet<String> =
            self.notes.borrow().iter().map(|(warning, text)| format!("{}{text}", class(*warning))).collect();
        for (metric, n) in &*self.overlaps.borrow() {
            let times = if *n > 1 { format!(" ({n} occurrences)") } else { String::new() };
            let metric = go_quote(metric);
            all.insert(format!(
                "{}sample has start time that overlaps with previous sample timestamp for metric {metric}{times}",
                class(true)
            ));
        }
        for (metric, repair) in &*self.repairs.borrow() {
            all.insert(format!("{}{}", class(false), repair.text(metric)));
        }
        all
    }

    fn note(&self, severity: Severity, text: String) {
        self.notes.borrow_mut().insert((severity == Severity::Warning, text));
    }

    fn warn(&self, text: impl Into<String>) {
        self.note(Severity::Warning, text.into());
    }

    fn tell(&self, text: impl Into<String>) {
        self.note(Severity::Info, text.into());
    }

    /// Names that were marked fall, after which no two series may collide.
    fn final_rows(rows: Vec<Row>) -> Res<Vec<Row>> {
        if rows.iter().all(|row| !row.drop) {
            return Ok(rows);
        }
        let dropped = rows.into_iter().map(|row| {
            let labels = if row.drop { nameless(&row.labels) } else { row.labels };
            Row { labels, drop: false, points: row.points }
        });
        merged(dropped)
    }

    fn eval(&self, expr: &Expr, grid: Grid) -> Res<Out> {
        // What does not depend on the step is evaluated once and copied.
        let is_leaf = matches!(expr, Expr::Number(_) | Expr::String(_));
        if !grid.is_point && grid.len > 0 && !is_leaf && is_invariant(expr) {
            let once = self.eval(expr, Grid { len: 1, is_point: true, ..grid })?;
            return Ok(match once {
                Out::Scalars(all) => {
                    let v = all[&grid.start];
                    Out::Scalars(grid.times().map(|t| (t, v)).collect())
                }
                Out::Text(text) => Out::Text(text),
                Out::Rows(rows) => Out::Rows(
                    rows.into_iter()
                        .map(|row| {
                            let v = &row.points[&grid.start];
                            let points = grid.times().map(|t| (t, v.clone())).collect();
                            Row { points, ..row }
                        })
                        .collect(),
                ),
            });
        }
        match expr {
            Expr::Number(e) => Ok(Out::Scalars(grid.times().map(|t| (t, e.value)).collect())),
            Expr::String(e) => Ok(Out::Text(e.value.to_vec())),
            Expr::Paren(e) => self.eval(&e.expr, grid),
            Expr::Vector(e) => self.instant(e, grid).map(Out::Rows),
            Expr::Unary(e) => self.unary(e.negative, &e.expr, grid),
            Expr::Call(e) => self.call(e, grid),
            Expr::Aggregate(e) => self.aggregate(e, grid).map(Out::Rows),
            Expr::Binary(e) => self.binary(e, grid),
            Expr::Matrix(_) | Expr::Subquery(_) => unreachable!("consumed by what they are arguments of"),
        }
    }

    fn rows(&self, expr: &Expr, grid: Grid) -> Res<Vec<Row>> {
        match self.eval(expr, grid)? {
            Out::Rows(rows) => Ok(rows),
            _ => unreachable!("type-checked"),
        }
    }

    fn scalars(&self, expr: &Expr, grid: Grid) -> Res<BTreeMap<Timestamp, f64>> {
        match self.eval(expr, grid)? {
            Out::Scalars(all) => Ok(all),
            _ => unreachable!("type-checked"),
        }
    }

    fn text(expr: &Expr) -> Vec<u8> {
        match bare(expr) {
            Expr::String(e) => e.value.to_vec(),
            _ => unreachable!("type-checked"),
        }
    }

    fn unary(&self, negative: bool, expr: &Expr, grid: Grid) -> Res<Out> {
        let value = self.eval(expr, grid)?;
        if !negative {
            return Ok(value);
        }
        Ok(match value {
            Out::Scalars(all) => Out::Scalars(all.into_iter().map(|(t, v)| (t, -v)).collect()),
            Out::Rows(rows) => {
                let negated = rows.into_iter().map(|row| {
                    let points = row.points.into_iter().map(|(t, v)| match v {
                        Val::F(v) => (t, Val::F(-v)),
                        Val::H(mut h) => {
                            h.multiply(-1.0);
                            (t, Val::H(h))
                        }
                    });
                    self.dropped(Row { points: points.collect(), ..row })
                });
                Out::Rows(merged(negated)?)
            }
            Out::Text(_) => unreachable!("type-checked"),
        })
    }

    /// The row without its name, at once or marked for the end.
    fn dropped(&self, row: Row) -> Row {
        if self.scope.delayed {
            Row { drop: true, ..row }
        } else {
            Row { labels: nameless(&row.labels), ..row }
        }
    }

    /// The result of a function or operator: without empty rows, every label set once.
    fn checked(rows: Vec<Row>) -> Res<Vec<Row>> {
        merged(rows.into_iter())
    }

    fn call(&self, e: &Call, grid: Grid) -> Res<Out> {
        let takes_matrix = e.func.args.contains(&ValueType::Matrix);
        if takes_matrix {
            return self.range_function(e, grid).map(Out::Rows);
        }
        self.vector_function(e, grid)
    }
}

/// One row per label set; values at one time are an error.
fn merged(rows: impl Iterator<Item = Row>) -> Res<Vec<Row>> {
    let mut out: Vec<Row> = Vec::new();
    for row in rows.filter(|row| !row.points.is_empty()) {
        match out.iter_mut().find(|other| other.labels == row.labels) {
            None => out.push(row),
            Some(other) => {
                for (t, v) in row.points {
                    if other.points.insert(t, v).is_some() {
                        return Err(DUPLICATES.to_owned());
                    }
                }
            }
        }
    }
    Ok(out)
}

/// Functions whose results depend on the step even if their arguments do not.
const UNSAFE: [&str; 11] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
];

fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(e) => e.modifiers.at.is_some(),
        Expr::Matrix(e) => e.selector.modifiers.at.is_some(),
        Expr::Subquery(e) => e.modifiers.at.is_some(),
        Expr::Binary(e) => is_invariant(&e.lhs) && is_invariant(&e.rhs),
        Expr::Aggregate(e) => is_invariant(&e.expr),
        Expr::Unary(e) => is_invariant(&e.expr),
        Expr::Paren(e) => is_invariant(&e.expr),
        Expr::Call(e) if e.func.name == "timestamp" => {
            matches!(bare(&e.args[0]), Expr::Vector(v) if v.modifiers.at.is_some())
        }
        Expr::Call(e) => !UNSAFE.contains(&e.func.name) && e.args.iter().all(is_invariant),
    }
}
