//! From the checked tree to the plan.

use std::sync::Arc;

use model::labels::METRIC_NAME;
use model::{LabelsBuilder, MatchOp, Matcher, Regex, TimeRange, Timestamp};

use super::duration::{Outer, millis};
use super::{
    Grouping, HistogramFn, InfoSelector, Input, MapFn, Node, Plan, RangeFn, ScalarFn, Select, Selector,
    Strategy, Window,
};
use crate::annotations::Place;
use crate::engine::Error;
use crate::parse::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Boundary, Call, Expr, MatrixSelector, Modifiers, Span,
    Subquery, ValueType, VectorSelector,
};

/// The query around the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// 0 for an instant query.
    pub(crate) step: i64,
    pub(crate) lookback: i64,
    pub(crate) default_subquery_step: i64,
    pub(crate) start_timestamps: bool,
    /// Whether histograms are read without buckets where only counts and sums are wanted, as upstream does. It shows:
    /// see `exec::stats_only`.
    pub(crate) stats_only: bool,
}

/// Builds the plan of `expr`.
pub(crate) fn build(expr: &Expr, scope: Scope) -> Result<Plan, Error> {
    let single = scope.start == scope.end;
    let outer = Outer {
        step: if single { 0.0 } else { scope.step as f64 / 1000.0 },
        range: (scope.end.saturating_sub(scope.start)) as f64 / 1000.0,
    };
    let mut builder = Builder { scope, outer, selects: Vec::new(), info_range: None };
    let root = builder.wrapped(expr, Enclosing::default(), false)?;
    let Builder { selects, info_range, .. } = builder;
    Ok(Plan { root, selects, strategy: Strategy::default(), info_range })
}

/// What there is between the root and a selector.
#[derive(Clone, Copy, Debug, Default)]
struct Enclosing {
    /// Summed over the subqueries.
    offset: i64,
    range: i64,
    at: Option<Timestamp>,
    /// Whether there is a function of counts and sums of histograms.
    wants_stats: bool,
    /// Whether there is something that needs their buckets, or to see all samples.
    wants_buckets: bool,
}

impl Enclosing {
    fn inside_call(mut self, name: &str) -> Self {
        self.wants_stats |= matches!(name, "histogram_count" | "histogram_sum" | "histogram_avg");
        self.wants_buckets |=
            matches!(name, "histogram_quantile" | "histogram_quantiles" | "histogram_fraction");
        self
    }

    fn inside_binary(mut self, op: BinaryOp) -> Self {
        self.wants_buckets |= matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        self
    }
}

struct Builder {
    scope: Scope,
    outer: Outer,
    selects: Vec<Select>,
    info_range: Option<TimeRange>,
}

/// Functions whose value depends on the step even when their arguments do not.
pub(crate) const STEP_DEPENDENT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// Whether `expr` has the same value at every step.
fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(e) => e.modifiers.at.is_some(),
        Expr::Matrix(e) => e.selector.modifiers.at.is_some(),
        Expr::Subquery(e) => e.modifiers.at.is_some(),
        // Upstream has put numbers in their place by then.
        Expr::Call(e) if matches!(e.func.name, "start" | "end" | "step" | "range") => true,
        Expr::Call(e) => {
            if e.func.name == "timestamp"
                && let [arg] = &*e.args
                && let Expr::Vector(selector) = without_parens(arg)
            {
                return selector.modifiers.at.is_some();
            }
            !STEP_DEPENDENT.contains(&e.func.name) && e.args.iter().all(is_invariant)
        }
        Expr::Aggregate(e) => is_invariant(&e.expr),
        Expr::Binary(e) => is_invariant(&e.lhs) && is_invariant(&e.rhs),
        Expr::Unary(e) => is_invariant(&e.expr),
        Expr::Paren(e) => is_invariant(&e.expr),
    }
}

fn without_parens(mut expr: &Expr) -> &Expr {
    while let Expr::Paren(paren) = expr {
        expr = &paren.expr;
    }
    expr
}

impl Builder {
    /// Builds `expr`, wrapped if it is the root of an invariant subtree.
    fn wrapped(&mut self, expr: &Expr, around: Enclosing, inside: bool) -> Result<Node, Error> {
        let expr = without_parens(expr);
        let constant = matches!(expr, Expr::Number(_) | Expr::String(_));
        let wrap = !inside && !constant && is_invariant(expr) && expr.value_type() != ValueType::Matrix;
        let node = self.node(expr, around, inside || wrap)?;
        Ok(match node {
            Node::Const(_) | Node::Str(_) => node,
            node if wrap => Node::Invariant(Box::new(node)),
            node => node,
        })
    }

    fn boxed(&mut self, expr: &Expr, around: Enclosing, inside: bool) -> Result<Box<Node>, Error> {
        self.wrapped(expr, around, inside).map(Box::new)
    }

    fn node(&mut self, expr: &Expr, around: Enclosing, inside: bool) -> Result<Node, Error> {
        match expr {
            Expr::Number(e) => Ok(Node::Const(e.value)),
            Expr::String(e) => Ok(Node::Str(Arc::clone(&e.value))),
            Expr::Vector(e) => Ok(Node::Selector(self.selector(e, around)?)),
            Expr::Matrix(_) | Expr::Subquery(_) => Ok(Node::Window(self.window(expr, around, "")?)),
            Expr::Call(e) => self.call(e, around, inside),
            Expr::Aggregate(e) => self.aggregate(e, around, inside),
            Expr::Binary(e) => self.binary(e, around, inside),
            Expr::Paren(e) => self.wrapped(&e.expr, around, inside),
            Expr::Unary(e) => {
                let arg = self.boxed(&e.expr, around, inside)?;
                Ok(if e.negative { Node::Negate(arg) } else { *arg })
            }
        }
    }

    fn modifiers(&self, modifiers: &Modifiers) -> Result<(Option<Timestamp>, i64), Error> {
        let at = modifiers.at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.scope.start,
            At::End => self.scope.end,
        });
        let offset = modifiers.offset.as_ref().map_or(Ok(0), |e| millis(e, self.outer, false))?;
        Ok((at, offset))
    }

    fn selector(&mut self, e: &VectorSelector, around: Enclosing) -> Result<Selector, Error> {
        let (at, offset) = self.modifiers(&e.modifiers)?;
        // An anchored instant selector is a plain one.
        let smoothed = e.boundary == Some(Boundary::Smoothed);
        let lookback = self.scope.lookback;
        let margins = (lookback - 1, if smoothed { lookback } else { 0 });
        let select = self.select(&e.matchers, at, offset, margins, around);
        Ok(Selector { select, at, offset, smoothed, stats_only: self.stats_only(around), span: e.span })
    }

    fn stats_only(&self, around: Enclosing) -> bool {
        self.scope.stats_only && around.wants_stats && !around.wants_buckets
    }

    /// Notes that a selector needs samples from `back` before its reference times to `ahead` of them.
    fn select(
        &mut self,
        matchers: &[Matcher],
        at: Option<i64>,
        offset: i64,
        (back, ahead): (i64, i64),
        around: Enclosing,
    ) -> usize {
        let range = self.needed(at, offset, (back, ahead), around);
        self.selects.push(Select { matchers: matchers.to_vec(), range });
        self.selects.len() - 1
    }

    /// The samples from `back` before the first reference time to `ahead` after the last.
    fn needed(
        &self,
        at: Option<i64>,
        offset: i64,
        (back, ahead): (i64, i64),
        around: Enclosing,
    ) -> TimeRange {
        let (mut start, mut end) = (self.scope.start, self.scope.end);
        if let Some(at) = around.at {
            (start, end) = (at, at);
        }
        if let Some(at) = at {
            (start, end) = (at, at);
        } else {
            start = start.saturating_sub(around.offset.saturating_add(around.range));
            end = end.saturating_sub(around.offset);
        }
        start = start.saturating_sub(back.max(0)).saturating_sub(offset);
        end = end.saturating_add(ahead).saturating_sub(offset);
        TimeRange::new(start, end)
    }

    fn window(&mut self, expr: &Expr, around: Enclosing, function: &str) -> Result<Window, Error> {
        match without_parens(expr) {
            Expr::Matrix(e) => self.matrix(e, around, function),
            Expr::Subquery(e) => self.subquery(e, around),
            other => Err(Error::Internal(format!("unexpected error: no range vector at {:?}", other.span()))),
        }
    }

    fn matrix(&mut self, e: &MatrixSelector, around: Enclosing, function: &str) -> Result<Window, Error> {
        let lookback = self.scope.lookback;
        // Durations are worked out before anything is evaluated, so what is wrong with them is said first.
        let range = millis(&e.range, self.outer, true)?;
        let (at, offset) = self.modifiers(&e.selector.modifiers)?;
        let mut margins = (0, 0);
        let mut refused = None;
        if let Some(boundary) = e.selector.boundary {
            let (word, users): (_, &[&str]) = match boundary {
                Boundary::Anchored => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
                Boundary::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
            };
            if !function.is_empty() && !users.contains(&function) {
                let users = users.join(", ");
                let text = format!("{word} modifier can only be used with: {users} - not with {function}");
                refused = Some(text.into());
            }
            margins = (lookback, if boundary == Boundary::Smoothed { lookback } else { 0 });
        }
        margins.0 = range.saturating_add(margins.0 - 1);
        let select = self.select(&e.selector.matchers, at, offset, margins, around);
        Ok(Window {
            input: Input::Select(select),
            range,
            at,
            offset,
            boundary: e.selector.boundary,
            stats_only: self.stats_only(around),
            refused,
            span: e.span,
        })
    }

    fn subquery(&mut self, e: &Subquery, around: Enclosing) -> Result<Window, Error> {
        // In this order upstream works them out, which shows where several are wrong.
        let (at, offset) = self.modifiers(&e.modifiers)?;
        let step = match &e.step {
            None => 0,
            Some(step) => millis(step, self.outer, true)?,
        };
        let step = if step == 0 { self.scope.default_subquery_step } else { step };
        let range = millis(&e.range, self.outer, true)?;
        // Buckets tell of counter resets among the samples that a subquery leaves out.
        let around = Enclosing { wants_buckets: true, ..around };
        let inner = match at {
            Some(_) => Enclosing { offset, range, at, ..around },
            None => Enclosing {
                offset: around.offset.saturating_add(offset),
                range: around.range.saturating_add(range),
                ..around
            },
        };
        let expr = self.boxed(&e.expr, inner, false)?;
        let (boundary, stats_only, span) = (None, false, Span::default());
        let input = Input::Subquery { expr, step: step.max(1) };
        Ok(Window { input, range, at, offset, boundary, stats_only, refused: None, span })
    }

    fn aggregate(&mut self, e: &Aggregate, around: Enclosing, inside: bool) -> Result<Node, Error> {
        let mut labels = e.grouping.clone();
        labels.sort();
        labels.dedup();
        let shown = |expr: &Expr| Place { shown: without_parens(expr).span(), by: e.span };
        let param_place = e.param.as_ref().map_or(Place::of(e.span), |p| shown(p));
        let param = match &e.param {
            Some(param) => Some(self.boxed(param, around, inside)?),
            None => None,
        };
        if let (AggregateOp::CountValues, Some(Node::Str(label))) = (e.op, param.as_deref())
            && !is_valid_label(label)
        {
            return Err(Error::Execution(format!("invalid label name {}", model::quote::go_quote(label))));
        }
        Ok(Node::Aggregate {
            op: e.op,
            arg: self.boxed(&e.expr, around, inside)?,
            param,
            param_place,
            arg_place: shown(&e.expr),
            grouping: Grouping { labels, without: e.without },
        })
    }

    fn binary(&mut self, e: &Binary, around: Enclosing, inside: bool) -> Result<Node, Error> {
        let around = around.inside_binary(e.op);
        let lhs = self.boxed(&e.lhs, around, inside)?;
        let rhs = self.boxed(&e.rhs, around, inside)?;
        let (op, return_bool, place) = (e.op, e.return_bool, Place::of(e.span));
        Ok(match (e.lhs.value_type(), e.rhs.value_type()) {
            (ValueType::Scalar, ValueType::Scalar) => Node::ScalarBinary { op, lhs, rhs },
            (ValueType::Scalar, _) => {
                Node::VectorScalar { op, vector: rhs, scalar: lhs, scalar_left: true, return_bool, place }
            }
            (_, ValueType::Scalar) => {
                Node::VectorScalar { op, vector: lhs, scalar: rhs, scalar_left: false, return_bool, place }
            }
            _ => {
                let matching = e.matching.clone().ok_or_else(|| {
                    Error::Internal("unexpected error: a binary operation without matching".to_owned())
                })?;
                if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) {
                    Node::SetOp { op, lhs, rhs, matching }
                } else {
                    Node::Join { op, lhs, rhs, matching, return_bool, place }
                }
            }
        })
    }

    fn call(&mut self, e: &Call, around: Enclosing, inside: bool) -> Result<Node, Error> {
        let name = e.func.name;
        let around = around.inside_call(name);
        if let Some(func) = range_fn(name) {
            return self.range_call(e, func, around, inside);
        }
        if let Some(func) = map_fn(name) {
            let arg = match e.args.first() {
                Some(arg) => self.boxed(arg, around, inside)?,
                None => Box::new(Node::ToVector(Box::new(Node::Time))),
            };
            let mut params = self.nodes(e.args.get(1..).unwrap_or_default(), around, inside)?;
            if func == MapFn::Round && params.is_empty() {
                params.push(Node::Const(1.0));
            }
            return Ok(Node::Map { func, arg, params });
        }
        let arg = |i: usize| e.args.get(i).ok_or_else(|| missing_argument(name));
        let text = |i: usize| match without_parens(arg(i)?) {
            Expr::String(s) => Ok(Arc::clone(&s.value)),
            _ => Err(missing_argument(name)),
        };
        let shown = |expr: &Expr| Place { shown: without_parens(expr).span(), by: e.span };
        let texts = |from: usize| (from..e.args.len()).map(text).collect::<Result<Vec<_>, _>>();
        Ok(match name {
            "pi" => Node::Const(std::f64::consts::PI),
            "start" => Node::Const(self.scope.start as f64 / 1000.0),
            "end" => Node::Const(self.scope.end as f64 / 1000.0),
            "step" => Node::Const(self.outer.step),
            "range" => Node::Const(self.outer.range),
            "time" => Node::Time,
            "scalar" => Node::ToScalar(self.boxed(arg(0)?, around, inside)?),
            "vector" => Node::ToVector(self.boxed(arg(0)?, around, inside)?),
            "min_of" | "max_of" => Node::ScalarFn {
                func: if name == "min_of" { ScalarFn::MinOf } else { ScalarFn::MaxOf },
                lhs: self.boxed(arg(0)?, around, inside)?,
                rhs: self.boxed(arg(1)?, around, inside)?,
            },
            "timestamp" => match without_parens(arg(0)?) {
                Expr::Vector(selector) => Node::SelectorTimes(self.selector(selector, around)?),
                other => Node::StepTimes(self.boxed(other, around, inside)?),
            },
            "start_timestamp"
                if self.scope.start_timestamps
                    && let Expr::Vector(selector) = without_parens(arg(0)?) =>
            {
                Node::SelectorStarts(self.selector(selector, around)?)
            }
            "start_timestamp" => Node::NothingOf(self.boxed(arg(0)?, around, inside)?),
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev"
            | "histogram_stdvar" => Node::HistogramFn {
                func: match name {
                    "histogram_count" => HistogramFn::Count,
                    "histogram_sum" => HistogramFn::Sum,
                    "histogram_avg" => HistogramFn::Avg,
                    "histogram_stddev" => HistogramFn::Stddev,
                    _ => HistogramFn::Stdvar,
                },
                arg: self.boxed(arg(0)?, around, inside)?,
            },
            "absent" => Node::Absent {
                labels: match without_parens(arg(0)?) {
                    Expr::Vector(selector) => absent_labels(&selector.matchers),
                    _ => model::Labels::empty(),
                },
                arg: self.boxed(arg(0)?, around, inside)?,
            },
            "absent_over_time" => Node::AbsentOverTime {
                labels: match without_parens(arg(0)?) {
                    Expr::Matrix(matrix) => absent_labels(&matrix.selector.matchers),
                    _ => model::Labels::empty(),
                },
                window: self.window(arg(0)?, around, name)?,
            },
            "sort" | "sort_desc" => Node::Sort {
                arg: self.boxed(arg(0)?, around, inside)?,
                descending: name == "sort_desc",
                place: Place::of(e.span),
            },
            "sort_by_label" | "sort_by_label_desc" => Node::SortByLabel {
                arg: self.boxed(arg(0)?, around, inside)?,
                labels: texts(1)?,
                descending: name == "sort_by_label_desc",
                place: Place::of(e.span),
            },
            "label_replace" => {
                let (dst, pattern) = (text(1)?, text(4)?);
                let failure = |what: &str, of: &[u8]| {
                    Error::Execution(format!("{what} in label_replace(): {}", String::from_utf8_lossy(of)))
                };
                let regex =
                    Regex::wrapped(&pattern).map_err(|_| failure("invalid regular expression", &pattern))?;
                if !is_valid_label(&dst) {
                    return Err(failure("invalid destination label name", &dst));
                }
                let arg = self.boxed(arg(0)?, around, inside)?;
                Node::LabelReplace { arg, dst, replacement: text(2)?, src: text(3)?, regex }
            }
            "label_join" => {
                let (dst, sources) = (text(1)?, texts(3)?);
                let failure = |what: &str, of: &[u8]| {
                    Error::Execution(format!(
                        "invalid {what} label name in label_join(): {}",
                        String::from_utf8_lossy(of)
                    ))
                };
                if let Some(bad) = sources.iter().find(|s| !is_valid_label(s)) {
                    return Err(failure("source", bad));
                }
                if !is_valid_label(&dst) {
                    return Err(failure("destination", &dst));
                }
                Node::LabelJoin {
                    arg: self.boxed(arg(0)?, around, inside)?,
                    dst,
                    separator: text(2)?,
                    sources,
                }
            }
            "histogram_quantile" => Node::Quantiles {
                quantiles: vec![(self.wrapped(arg(0)?, around, inside)?, shown(arg(0)?))],
                arg: self.boxed(arg(1)?, around, inside)?,
                label: None,
                place: shown(arg(1)?),
            },
            "histogram_quantiles" => {
                let mut quantiles = Vec::new();
                for q in e.args.get(2..).unwrap_or_default() {
                    quantiles.push((self.wrapped(q, around, inside)?, shown(q)));
                }
                let label = Some(text(1)?);
                let place = shown(arg(0)?);
                Node::Quantiles { quantiles, arg: self.boxed(arg(0)?, around, inside)?, label, place }
            }
            "histogram_fraction" => Node::Fraction {
                lower: self.boxed(arg(0)?, around, inside)?,
                upper: self.boxed(arg(1)?, around, inside)?,
                arg: self.boxed(arg(2)?, around, inside)?,
                place: shown(arg(2)?),
            },
            "info" => self.info(e, around, inside)?,
            other => {
                return Err(Error::Internal(format!("unexpected error: function {other}() has no operator")));
            }
        })
    }

    /// The info series are looked at when the first selector of the operand looks at its own.
    fn info(&mut self, e: &Call, around: Enclosing, inside: bool) -> Result<Node, Error> {
        let arg = e.args.first().ok_or_else(|| missing_argument("info"))?;
        let mut path = Vec::new();
        let (mut at, mut offset) = match first_selector(arg, &mut path) {
            Some(selector) => self.modifiers(&selector.modifiers)?,
            None => (None, 0),
        };
        while at.is_none()
            && let Some(subquery) = path.pop()
        {
            let (pinned, more) = self.modifiers(&subquery.modifiers)?;
            (at, offset) = (pinned, offset.saturating_add(more));
        }
        let matchers = match e.args.get(1).map(without_parens) {
            Some(Expr::Vector(selector)) => Some(selector.matchers.clone()),
            Some(_) => return Err(missing_argument("info")),
            None => None,
        };
        let range = self.needed(at, offset, (self.scope.lookback - 1, 0), around);
        let hull = self
            .info_range
            .map_or(range, |known| TimeRange::new(known.mint.min(range.mint), known.maxt.max(range.maxt)));
        self.info_range = Some(hull);
        let arg = self.boxed(arg, around, inside)?;
        Ok(Node::Info { arg, selector: InfoSelector { matchers, at, offset, range } })
    }

    fn nodes(&mut self, exprs: &[Expr], around: Enclosing, inside: bool) -> Result<Vec<Node>, Error> {
        exprs.iter().map(|e| self.wrapped(e, around, inside)).collect()
    }

    fn range_call(
        &mut self,
        e: &Call,
        func: RangeFn,
        around: Enclosing,
        inside: bool,
    ) -> Result<Node, Error> {
        let is_matrix = |arg: &Expr| arg.value_type() == ValueType::Matrix;
        let at = e.args.iter().position(is_matrix).ok_or_else(|| missing_argument(e.func.name))?;
        let window = self.window(&e.args[at], around, e.func.name)?;
        let mut params = Vec::new();
        for (i, arg) in e.args.iter().enumerate() {
            if i != at {
                params.push(self.wrapped(arg, around, inside)?);
            }
        }
        let window_place = Place { shown: window.span, by: e.span };
        let first = without_parens(&e.args[0]).span();
        let place = if at == 0 { window_place } else { Place { shown: first, by: e.span } };
        let keep_name = matches!(func, RangeFn::Last | RangeFn::First);
        Ok(Node::RangeFn { func, window, params, place, window_place, keep_name })
    }
}

/// The labels that `absent` can tell from the matchers of its selector.
///
/// Those that only take series away come last, as upstream's store puts them there for everybody to see.
/// Compat: prometheus `tsdb/querier.go`, `PostingsForMatchers`.
fn absent_labels(matchers: &[Matcher]) -> model::Labels {
    let mut builder = LabelsBuilder::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    let must_be_set = |name: &[u8]| matchers.iter().any(|m| *m.name == *name && !m.matches(b""));
    let takes_away =
        |m: &Matcher| !must_be_set(&m.name) || (matches!(m.op, MatchOp::Ne | MatchOp::Nre) && m.matches(b""));
    let (last, first): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| takes_away(m));
    for matcher in first.into_iter().chain(last).filter(|m| *m.name != *METRIC_NAME) {
        if matcher.op == MatchOp::Eq && !seen.contains(&&*matcher.name) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}

/// The selector of `expr` that comes first, and the subqueries around it.
fn first_selector<'e>(expr: &'e Expr, path: &mut Vec<&'e Subquery>) -> Option<&'e VectorSelector> {
    match expr {
        Expr::Number(_) | Expr::String(_) => None,
        Expr::Vector(e) => Some(e),
        Expr::Matrix(e) => Some(&e.selector),
        Expr::Subquery(e) => {
            path.push(e);
            let found = first_selector(&e.expr, path);
            if found.is_none() {
                path.pop();
            }
            found
        }
        Expr::Call(e) => e.args.iter().find_map(|arg| first_selector(arg, path)),
        Expr::Aggregate(e) => {
            first_selector(&e.expr, path).or_else(|| first_selector(e.param.as_deref()?, path))
        }
        Expr::Binary(e) => first_selector(&e.lhs, path).or_else(|| first_selector(&e.rhs, path)),
        Expr::Unary(e) => first_selector(&e.expr, path),
        Expr::Paren(e) => first_selector(&e.expr, path),
    }
}

fn is_valid_label(name: &[u8]) -> bool {
    !name.is_empty() && std::str::from_utf8(name).is_ok()
}

fn missing_argument(function: &str) -> Error {
    Error::Internal(format!("unexpected error: bad arguments of {function}()"))
}

fn range_fn(name: &str) -> Option<RangeFn> {
    Some(match name {
        "rate" => RangeFn::Rate,
        "increase" => RangeFn::Increase,
        "delta" => RangeFn::Delta,
        "irate" => RangeFn::Irate,
        "idelta" => RangeFn::Idelta,
        "changes" => RangeFn::Changes,
        "resets" => RangeFn::Resets,
        "count_over_time" => RangeFn::Count,
        "present_over_time" => RangeFn::Present,
        "last_over_time" => RangeFn::Last,
        "first_over_time" => RangeFn::First,
        "sum_over_time" => RangeFn::Sum,
        "avg_over_time" => RangeFn::Avg,
        "min_over_time" => RangeFn::Min,
        "max_over_time" => RangeFn::Max,
        "stddev_over_time" => RangeFn::Stddev,
        "stdvar_over_time" => RangeFn::Stdvar,
        "mad_over_time" => RangeFn::Mad,
        "ts_of_min_over_time" => RangeFn::TsOfMin,
        "ts_of_max_over_time" => RangeFn::TsOfMax,
        "ts_of_first_over_time" => RangeFn::TsOfFirst,
        "ts_of_last_over_time" => RangeFn::TsOfLast,
        "quantile_over_time" => RangeFn::Quantile,
        "deriv" => RangeFn::Deriv,
        "predict_linear" => RangeFn::PredictLinear,
        "double_exponential_smoothing" => RangeFn::Smoothing,
        _ => return None,
    })
}

fn map_fn(name: &str) -> Option<MapFn> {
    Some(match name {
        "abs" => MapFn::Abs,
        "ceil" => MapFn::Ceil,
        "floor" => MapFn::Floor,
        "exp" => MapFn::Exp,
        "sqrt" => MapFn::Sqrt,
        "ln" => MapFn::Ln,
        "log2" => MapFn::Log2,
        "log10" => MapFn::Log10,
        "sgn" => MapFn::Sgn,
        "sin" => MapFn::Sin,
        "cos" => MapFn::Cos,
        "tan" => MapFn::Tan,
        "asin" => MapFn::Asin,
        "acos" => MapFn::Acos,
        "atan" => MapFn::Atan,
        "sinh" => MapFn::Sinh,
        "cosh" => MapFn::Cosh,
        "tanh" => MapFn::Tanh,
        "asinh" => MapFn::Asinh,
        "acosh" => MapFn::Acosh,
        "atanh" => MapFn::Atanh,
        "deg" => MapFn::Deg,
        "rad" => MapFn::Rad,
        "round" => MapFn::Round,
        "clamp" => MapFn::Clamp,
        "clamp_min" => MapFn::ClampMin,
        "clamp_max" => MapFn::ClampMax,
        "day_of_month" => MapFn::DayOfMonth,
        "day_of_week" => MapFn::DayOfWeek,
        "day_of_year" => MapFn::DayOfYear,
        "days_in_month" => MapFn::DaysInMonth,
        "hour" => MapFn::Hour,
        "minute" => MapFn::Minute,
        "month" => MapFn::Month,
        "year" => MapFn::Year,
        _ => return None,
    })
}
