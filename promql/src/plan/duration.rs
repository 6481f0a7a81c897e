//! The arithmetic of durations, resolved when a query is prepared.
//!
//! Compat: prometheus `promql/durations.go`.

use crate::engine::Error;
use crate::parse::ast::{DurationExpr, DurationOp, Span};

/// What `step()` and `range()` stand for, in seconds: 0 for an instant query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outer {
    pub(crate) step: f64,
    pub(crate) range: f64,
}

/// The largest duration in seconds: what fits in an `i64` of nanoseconds.
const SECONDS_MAX: f64 = 9_223_372_036.854_775;

/// A duration in milliseconds, truncated toward zero.
///
/// `positive` demands more than zero, as ranges and steps do. A plain literal was checked by the parser;
/// of a literal range below a millisecond an empty window remains.
pub(crate) fn millis(expr: &DurationExpr, outer: Outer, positive: bool) -> Result<i64, Error> {
    if let Some(ns) = expr.literal_ns() {
        return Ok(ns / 1_000_000);
    }
    let seconds = seconds(expr, outer)?;
    let refuse = |what: &str| Err(failure(expr.span(), what));
    if !seconds.is_finite() {
        return refuse("duration is NaN or infinite");
    }
    if positive && seconds <= 0.0 {
        return refuse("duration must be greater than 0");
    }
    if seconds.abs() > SECONDS_MAX {
        return refuse("duration is out of range");
    }
    Ok(truncate(seconds))
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and callers checked the range")]
fn truncate(seconds: f64) -> i64 {
    // By way of whole nanoseconds, in which upstream holds durations.
    (seconds * 1e9).round() as i64 / 1_000_000
}

fn seconds(expr: &DurationExpr, outer: Outer) -> Result<f64, Error> {
    Ok(match expr {
        DurationExpr::Literal(literal) => literal.value,
        DurationExpr::Step(_) => outer.step,
        DurationExpr::Range(_) => outer.range,
        DurationExpr::Paren(inner, _) => seconds(inner, outer)?,
        DurationExpr::Unary { op, operand, .. } => {
            let v = seconds(operand, outer)?;
            if *op == DurationOp::Sub { -v } else { v }
        }
        DurationExpr::MinOf { lhs, rhs, .. } => seconds(lhs, outer)?.min(seconds(rhs, outer)?),
        DurationExpr::MaxOf { lhs, rhs, .. } => seconds(lhs, outer)?.max(seconds(rhs, outer)?),
        DurationExpr::Binary { op, lhs, rhs, span } => {
            let (a, b) = (seconds(lhs, outer)?, seconds(rhs, outer)?);
            match op {
                DurationOp::Add => a + b,
                DurationOp::Sub => a - b,
                DurationOp::Mul => a * b,
                DurationOp::Div if b == 0.0 => return Err(failure(*span, "division by zero")),
                DurationOp::Div => a / b,
                DurationOp::Mod if b == 0.0 => return Err(failure(*span, "modulo by zero")),
                DurationOp::Mod => a % b,
                DurationOp::Pow => model::elementary::pow(a, b),
            }
        }
    })
}

/// Positions are byte offsets here, not line and column.
fn failure(span: Span, what: &str) -> Error {
    Error::InvalidType(format!("{}:{}: {what}", span.start, span.end))
}
