//! What the expression of an alerting rule compares with what: the side to plot, the threshold, the unit.
//!
//! Looks at the tree only and evaluates nothing. It is a reading for people: where an expression is of no known shape,
//! the whole of it is the subject and being there is the test.

use std::fmt;
use std::time::Duration;

use promql::parse::ast::{AggregateOp, Binary, BinaryOp, Call, Expr};

use crate::unit::{Base, Unit};

/// One reading of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition<'e> {
    pub subject: Subject<'e>,
    pub test: Test<'e>,
}

/// What varies, free of the threshold. Displays as a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject<'e> {
    Expr(&'e Expr),
    /// How many series there are, of which `absent` finds none.
    Count(&'e Expr),
    /// The same for `absent_over_time`.
    CountOverTime(&'e Expr),
}

/// When the subject is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test<'e> {
    /// Whenever it is there at all.
    Present,
    /// Whenever it is not there.
    Absent,
    /// Compared with a number, the subject on the left.
    Number { op: BinaryOp, threshold: f64 },
    /// Compared with something that varies too.
    Other { op: BinaryOp, side: &'e Expr },
}

/// Below this height of a tree units and constants are not looked for.
const HEIGHT_MAX: usize = 64;

impl<'e> Condition<'e> {
    /// The reading of `expr`; of an `or` that of its first branch.
    pub fn of(expr: &'e Expr) -> Self {
        let mut expr = expr;
        loop {
            match expr {
                Expr::Paren(paren) => expr = &paren.expr,
                Expr::Binary(e) if e.op.is_set() => expr = &e.lhs,
                Expr::Binary(e) if e.op.is_comparison() && !e.return_bool => {
                    return Self::of_comparison(expr, e);
                }
                Expr::Call(call) => return Self::of_call(expr, call),
                _ => return Self { subject: Subject::Expr(expr), test: Test::Present },
            }
        }
    }

    /// The readings of all branches of `or`, in their order; any of them may have given an alert.
    pub fn branches(expr: &'e Expr) -> Vec<Self> {
        let (mut pending, mut found) = (vec![expr], Vec::new());
        while let Some(expr) = pending.pop() {
            match expr {
                Expr::Paren(paren) => pending.push(&paren.expr),
                Expr::Binary(e) if e.op == BinaryOp::Or => pending.extend([&*e.rhs, &*e.lhs]),
                // What is left of a filter may be an alternative itself.
                Expr::Binary(e) if e.op.is_set() => pending.push(&e.lhs),
                _ => found.push(Self::of(expr)),
            }
        }
        found
    }

    fn of_comparison(whole: &'e Expr, e: &'e Binary) -> Self {
        let (left, right) = (constant(&e.lhs, HEIGHT_MAX), constant(&e.rhs, HEIGHT_MAX));
        match (left, right) {
            (Some(_), Some(_)) => Self { subject: Subject::Expr(whole), test: Test::Present },
            (None, Some(threshold)) => {
                Self { subject: Subject::Expr(bare(&e.lhs)), test: Test::Number { op: e.op, threshold } }
            }
            (Some(threshold), None) => Self {
                subject: Subject::Expr(bare(&e.rhs)),
                test: Test::Number { op: flipped(e.op), threshold },
            },
            (None, None) => Self {
                subject: Subject::Expr(bare(&e.lhs)),
                test: Test::Other { op: e.op, side: bare(&e.rhs) },
            },
        }
    }

    fn of_call(whole: &'e Expr, call: &'e Call) -> Self {
        match (call.func.name, call.args.as_slice()) {
            ("absent", [of]) => Self { subject: Subject::Count(bare(of)), test: Test::Absent },
            ("absent_over_time", [of]) => {
                Self { subject: Subject::CountOverTime(bare(of)), test: Test::Absent }
            }
            _ => Self { subject: Subject::Expr(whole), test: Test::Present },
        }
    }

    /// The unit of the subject, as far as names of metrics tell it.
    pub fn unit(&self) -> Unit {
        match self.subject {
            Subject::Expr(expr) => unit(expr, HEIGHT_MAX).unwrap_or_default(),
            Subject::Count(_) | Subject::CountOverTime(_) => Unit::default(),
        }
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expr(expr) => write!(f, "{expr}"),
            Self::Count(expr) => write!(f, "count({expr})"),
            Self::CountOverTime(expr) => write!(f, "count(present_over_time({expr}))"),
        }
    }
}

/// The longest range that a selector or subquery of `expr` looks back over.
pub fn longest_range(expr: &Expr) -> Duration {
    let mut longest = 0;
    expr.walk(|part| {
        let range = match part {
            Expr::Matrix(selector) => selector.range.literal_ns(),
            Expr::Subquery(subquery) => subquery.range.literal_ns(),
            _ => None,
        };
        longest = longest.max(range.unwrap_or(0));
    });
    Duration::from_nanos(u64::try_from(longest).unwrap_or(0))
}

fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Paren(paren) = expr {
        expr = &paren.expr;
    }
    expr
}

/// The operator that says the same with its sides exchanged.
const fn flipped(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Le => BinaryOp::Ge,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Ge => BinaryOp::Le,
        op => op,
    }
}

/// The value of an expression that is made of numbers only.
fn constant(expr: &Expr, height: usize) -> Option<f64> {
    let height = height.checked_sub(1)?;
    match expr {
        Expr::Number(number) => Some(number.value),
        Expr::Paren(paren) => constant(&paren.expr, height),
        Expr::Unary(unary) => constant(&unary.expr, height).map(|v| if unary.negative { -v } else { v }),
        Expr::Call(call) => match (call.func.name, call.args.as_slice()) {
            ("pi", _) => Some(std::f64::consts::PI),
            ("vector", [of]) => constant(of, height),
            _ => None,
        },
        Expr::Binary(e) => {
            let (a, b) = (constant(&e.lhs, height)?, constant(&e.rhs, height)?);
            match e.op {
                BinaryOp::Add => Some(a + b),
                BinaryOp::Sub => Some(a - b),
                BinaryOp::Mul => Some(a * b),
                BinaryOp::Div => Some(a / b),
                BinaryOp::Mod => Some(a % b),
                BinaryOp::Pow => Some(a.powf(b)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The unit of what `expr` yields; `None` where nothing tells it, as of a bare number.
fn unit(expr: &Expr, height: usize) -> Option<Unit> {
    let height = height.checked_sub(1)?;
    match expr {
        Expr::Number(_) | Expr::String(_) => None,
        Expr::Paren(paren) => unit(&paren.expr, height),
        Expr::Unary(unary) => self::unit(&unary.expr, height),
        Expr::Vector(selector) => std::str::from_utf8(&selector.name).ok().map(Unit::of_metric),
        Expr::Matrix(matrix) => std::str::from_utf8(&matrix.selector.name).ok().map(Unit::of_metric),
        Expr::Subquery(subquery) => unit(&subquery.expr, height),
        Expr::Aggregate(e) => match e.op {
            AggregateOp::Count | AggregateOp::Group | AggregateOp::CountValues | AggregateOp::Stdvar => {
                Some(Unit::default())
            }
            _ => unit(&e.expr, height),
        },
        Expr::Call(call) => unit_of_call(call, height),
        Expr::Binary(e) => unit_of_binary(e, height),
    }
}

fn unit_of_call(call: &Call, height: usize) -> Option<Unit> {
    let first = || call.args.first().and_then(|arg| unit(arg, height));
    match call.func.name {
        "rate" | "irate" | "deriv" => first().map(Unit::rate),
        "time" | "timestamp" => Some(Base::Timestamp.into()),
        // A rate of buckets is not one of what they hold.
        "histogram_quantile" | "quantile_over_time" => {
            let of = call.args.get(1).and_then(|arg| unit(arg, height))?;
            Some(if call.func.name == "histogram_quantile" { stored(call, height).unwrap_or(of) } else { of })
        }
        "histogram_fraction" => Some(Base::Ratio.into()),
        "absent" | "absent_over_time" | "changes" | "resets" | "count_over_time" | "present_over_time"
        | "histogram_count" | "sgn" | "stdvar_over_time" | "day_of_month" | "day_of_week" | "hour"
        | "minute" | "month" | "year" | "scalar_count" => Some(Unit::default()),
        _ => first(),
    }
}

/// The unit of the metric at the bottom of a call: of what its buckets hold.
fn stored(call: &Call, height: usize) -> Option<Unit> {
    let mut found = None;
    for arg in &call.args {
        arg.walk(|part| {
            if found.is_none() && matches!(part, Expr::Vector(_) | Expr::Matrix(_)) {
                found = unit(part, height);
            }
        });
    }
    found
}

fn unit_of_binary(e: &Binary, height: usize) -> Option<Unit> {
    if e.op.is_comparison() && e.return_bool {
        return Some(Unit::default());
    }
    let (lhs, rhs) = (unit(&e.lhs, height), unit(&e.rhs, height));
    let (left, right) = (constant(&e.lhs, height), constant(&e.rhs, height));
    let ratio = Unit::from(Base::Ratio);
    match e.op {
        BinaryOp::Div => match (lhs, rhs) {
            // Of two metrics that count the same: a part of a whole.
            (Some(a), Some(b)) if a == b => Some(ratio),
            (Some(a), Some(b)) if b.is_number() => Some(a),
            // Seconds in a second by things in a second: the seconds that one takes.
            (Some(a), Some(b)) if a.is_number() && b == Unit::default().rate() => {
                mean_of(&e.lhs, height).or(Some(Unit::default()))
            }
            (Some(a), Some(b)) if b == Unit::default().rate() && a.per_second => Some(a.base.into()),
            (Some(Unit { base: Base::Percent, per_second }), None) if right == Some(100.0) => {
                Some(Unit { base: Base::Ratio, per_second })
            }
            (Some(_), None) => Some(Unit::default()),
            _ => None,
        },
        BinaryOp::Mul => match (lhs, rhs, left.or(right)) {
            (Some(unit), None, Some(100.0)) | (None, Some(unit), Some(100.0)) if unit == ratio => {
                Some(Base::Percent.into())
            }
            (Some(unit), None, Some(8.0)) | (None, Some(unit), Some(8.0)) if unit.base == Base::Bytes => {
                Some(Unit { base: Base::Bits, ..unit })
            }
            // `* on (..) group_left (..) info` adds labels.
            (Some(a), Some(b), None) if b.is_number() => Some(a),
            (Some(a), Some(b), None) if a.is_number() => Some(b),
            // With another factor the number no longer counts what the name says.
            _ => Some(Unit::default()),
        },
        BinaryOp::Sub if lhs == rhs && lhs == Some(Base::Timestamp.into()) => Some(Base::Seconds.into()),
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mod | BinaryOp::Atan2 => match (lhs, rhs) {
            (Some(a), Some(b)) if a == b => Some(a),
            (Some(unit), None) | (None, Some(unit)) => Some(unit),
            _ => Some(Unit::default()),
        },
        BinaryOp::Pow => Some(Unit::default()),
        _ => lhs.or(rhs),
    }
}

/// The unit of `rate(x_sum)` without the rate, to be divided by that of `x_count`.
fn mean_of(expr: &Expr, height: usize) -> Option<Unit> {
    let mut found = None;
    expr.walk(|part| {
        if found.is_none() && matches!(part, Expr::Vector(_) | Expr::Matrix(_)) {
            found = unit(part, height);
        }
    });
    found.filter(|unit| unit.base == Base::Seconds)
}

#[cfg(test)]
mod tests;
