//! The canonical text of a tree, which parses to the same tree again.
//!
//! Compat: prometheus `promql/parser/printer.go`.

use std::fmt::{self, Write};
use std::sync::Arc;

use model::duration::DisplayMs;
use model::labels::{METRIC_NAME, is_legacy_label_name};
use model::matcher::MatchOp;
use model::number::{format_f, format_g};
use model::quote::go_quote;

use super::ast::{
    Aggregate, At, Binary, Boundary, Cardinality, DurationExpr, Expr, MatrixSelector, Modifiers,
    NumberLiteral, Subquery, VectorSelector,
};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expr(f, self)
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_duration_expr(f, self)
    }
}

/// A piece of text that is yet to be written. A list of them takes the place of recursion.
enum Part<'e> {
    Expr(&'e Expr),
    Text(&'static str),
    Operator(&'e Binary),
    SubquerySuffix(&'e Subquery),
}

pub(super) fn write_expr(out: &mut dyn Write, expr: &Expr) -> fmt::Result {
    write_parts(out, expr, usize::MAX)
}

/// As [`write_expr`], but fails as soon as more than `pending_max` pieces are open, each of at least a byte.
pub(super) fn write_parts(out: &mut dyn Write, expr: &Expr, pending_max: usize) -> fmt::Result {
    let mut parts = vec![Part::Expr(expr)];
    while let Some(part) = parts.pop() {
        match part {
            Part::Expr(expr) => write_node(out, expr, &mut parts)?,
            Part::Text(text) => out.write_str(text)?,
            Part::Operator(binary) => {
                out.write_char(' ')?;
                write_operator(out, binary)?;
                out.write_char(' ')?;
            }
            Part::SubquerySuffix(subquery) => write_subquery_suffix(out, subquery)?,
        }
        if parts.len() > pending_max {
            return Err(fmt::Error);
        }
    }
    Ok(())
}

/// Writes the start of a node and puts the rest onto the list, the last piece first.
fn write_node<'e>(out: &mut dyn Write, expr: &'e Expr, parts: &mut Vec<Part<'e>>) -> fmt::Result {
    match expr {
        Expr::Number(e) => return write_number(out, e),
        Expr::String(e) => return out.write_str(&go_quote(&e.value)),
        Expr::Vector(e) => {
            write_selector_body(out, e)?;
            write_at(out, &e.modifiers)?;
            write_boundary(out, e.boundary)?;
            return write_offset(out, &e.modifiers);
        }
        Expr::Matrix(e) => return write_matrix(out, e),
        Expr::Subquery(e) => parts.extend([Part::SubquerySuffix(e), Part::Expr(&e.expr)]),
        Expr::Call(e) => {
            out.write_str(e.func.name)?;
            out.write_char('(')?;
            parts.push(Part::Text(")"));
            for (i, arg) in e.args.iter().enumerate().rev() {
                parts.push(Part::Expr(arg));
                if i > 0 {
                    parts.push(Part::Text(", "));
                }
            }
        }
        Expr::Aggregate(e) => {
            write_aggregate_head(out, e)?;
            out.write_char('(')?;
            parts.extend([Part::Text(")"), Part::Expr(&e.expr)]);
            if let Some(param) = &e.param {
                parts.extend([Part::Text(", "), Part::Expr(param)]);
            }
        }
        Expr::Binary(e) => parts.extend([Part::Expr(&e.rhs), Part::Operator(e), Part::Expr(&e.lhs)]),
        Expr::Unary(e) => {
            out.write_char(if e.negative { '-' } else { '+' })?;
            parts.push(Part::Expr(&e.expr));
        }
        Expr::Paren(e) => {
            out.write_char('(')?;
            parts.extend([Part::Text(")"), Part::Expr(&e.expr)]);
        }
    }
    Ok(())
}

fn write_number(out: &mut dyn Write, literal: &NumberLiteral) -> fmt::Result {
    if !literal.is_duration {
        return out.write_str(&format_f(literal.value));
    }
    if literal.value < 0.0 {
        out.write_char('-')?;
    }
    #[expect(clippy::cast_possible_truncation, reason = "truncated, as upstream's conversion")]
    let ns = (literal.value.abs() * 1e9) as i64;
    write_duration_ns(out, ns)
}

/// Nanoseconds as a duration, what is below a millisecond cut off.
fn write_duration_ns(out: &mut dyn Write, ns: i64) -> fmt::Result {
    write!(out, "{}", DisplayMs(ns / 1_000_000))
}

fn write_matrix(out: &mut dyn Write, matrix: &MatrixSelector) -> fmt::Result {
    write_selector_body(out, &matrix.selector)?;
    out.write_char('[')?;
    write_range(out, &matrix.range)?;
    out.write_char(']')?;
    write_boundary(out, matrix.selector.boundary)?;
    write_at(out, &matrix.selector.modifiers)?;
    write_offset(out, &matrix.selector.modifiers)
}

/// `[5m:1m] @ 1.000 offset 5m`.
pub(super) fn write_subquery_suffix(out: &mut dyn Write, subquery: &Subquery) -> fmt::Result {
    out.write_char('[')?;
    write_range(out, &subquery.range)?;
    out.write_char(':')?;
    if let Some(step) = &subquery.step {
        write_range(out, step)?;
    }
    out.write_char(']')?;
    write_at(out, &subquery.modifiers)?;
    write_offset(out, &subquery.modifiers)
}

/// A literal as a duration however it was written, an expression as it is.
fn write_range(out: &mut dyn Write, range: &DurationExpr) -> fmt::Result {
    match range.literal_ns() {
        Some(ns) => write_duration_ns(out, ns),
        None => write_duration_expr(out, range),
    }
}

/// Name and matchers, the latter in order of their text; the matcher implied by the name is left out.
fn write_selector_body(out: &mut dyn Write, selector: &VectorSelector) -> fmt::Result {
    let is_implied = |name: &[u8], op: MatchOp, value: &[u8]| {
        name == METRIC_NAME && op == MatchOp::Eq && value == &*selector.name && !value.is_empty()
    };
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|m| !is_implied(&m.name, m.op, &m.value))
        .map(ToString::to_string)
        .collect();
    matchers.sort_unstable();
    out.write_str(&String::from_utf8_lossy(&selector.name))?;
    if !matchers.is_empty() {
        write!(out, "{{{}}}", matchers.join(","))?;
    }
    Ok(())
}

fn write_at(out: &mut dyn Write, modifiers: &Modifiers) -> fmt::Result {
    match modifiers.at {
        Some(At::Time(ms)) => write!(out, " @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => out.write_str(" @ start()"),
        Some(At::End) => out.write_str(" @ end()"),
        None => Ok(()),
    }
}

fn write_boundary(out: &mut dyn Write, boundary: Option<Boundary>) -> fmt::Result {
    match boundary {
        Some(Boundary::Anchored) => out.write_str(" anchored"),
        Some(Boundary::Smoothed) => out.write_str(" smoothed"),
        None => Ok(()),
    }
}

fn write_offset(out: &mut dyn Write, modifiers: &Modifiers) -> fmt::Result {
    let Some(offset) = &modifiers.offset else {
        return Ok(());
    };
    out.write_str(" offset ")?;
    match offset.literal_ns() {
        Some(ns) => {
            if ns < 0 {
                out.write_char('-')?;
            }
            write_duration_ns(out, ns.wrapping_abs())
        }
        None => write_duration_expr(out, offset),
    }
}

fn write_duration_expr(out: &mut dyn Write, expr: &DurationExpr) -> fmt::Result {
    match expr {
        DurationExpr::Literal(literal) => write_number(out, literal),
        DurationExpr::Step(_) => out.write_str("step()"),
        DurationExpr::Range(_) => out.write_str("range()"),
        DurationExpr::Unary { op, operand, .. } => {
            // A `+` is not worth printing.
            if *op == super::ast::DurationOp::Sub {
                out.write_char('-')?;
            }
            write_duration_expr(out, operand)
        }
        DurationExpr::Binary { op, lhs, rhs, .. } => {
            write_duration_expr(out, lhs)?;
            write!(out, " {} ", op.as_str())?;
            write_duration_expr(out, rhs)
        }
        DurationExpr::MinOf { lhs, rhs, .. } => write_duration_pair(out, "min_of", lhs, rhs),
        DurationExpr::MaxOf { lhs, rhs, .. } => write_duration_pair(out, "max_of", lhs, rhs),
        DurationExpr::Paren(inner, _) => {
            out.write_char('(')?;
            write_duration_expr(out, inner)?;
            out.write_char(')')
        }
    }
}

fn write_duration_pair(
    out: &mut dyn Write,
    word: &str,
    lhs: &DurationExpr,
    rhs: &DurationExpr,
) -> fmt::Result {
    write!(out, "{word}(")?;
    write_duration_expr(out, lhs)?;
    out.write_str(", ")?;
    write_duration_expr(out, rhs)?;
    out.write_char(')')
}

/// `sum`, `sum by (a, b) `, `sum without () `.
pub(super) fn write_aggregate_head(out: &mut dyn Write, aggregate: &Aggregate) -> fmt::Result {
    out.write_str(aggregate.op.as_str())?;
    let word = match (aggregate.without, aggregate.grouping.is_empty()) {
        (true, _) => "without",
        (false, false) => "by",
        (false, true) => return Ok(()),
    };
    write_labels(out, word, &aggregate.grouping)?;
    out.write_char(' ')
}

/// ` word (a, b)`.
fn write_labels(out: &mut dyn Write, word: &str, labels: &[Arc<[u8]>]) -> fmt::Result {
    write!(out, " {word} (")?;
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.write_str(", ")?;
        }
        if is_legacy_label_name(label) {
            out.write_str(&String::from_utf8_lossy(label))?;
        } else {
            out.write_str(&go_quote(label))?;
        }
    }
    out.write_char(')')
}

/// The operator with everything that belongs to it: `/ bool on (a) group_left (b) fill (0)`.
pub(super) fn write_operator(out: &mut dyn Write, binary: &Binary) -> fmt::Result {
    out.write_str(binary.op.as_str())?;
    if binary.return_bool {
        out.write_str(" bool")?;
    }
    let Some(matching) = &binary.matching else {
        return Ok(());
    };
    let group = match matching.card {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || group.is_some() {
        write_labels(out, if matching.on { "on" } else { "ignoring" }, &matching.labels)?;
    }
    if let Some(group) = group {
        write_labels(out, group, &matching.include)?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right => write!(out, " fill ({})", format_g(left)),
        (left, right) => {
            if let Some(left) = left {
                write!(out, " fill_left ({})", format_g(left))?;
            }
            if let Some(right) = right {
                write!(out, " fill_right ({})", format_g(right))?;
            }
            Ok(())
        }
    }
}
