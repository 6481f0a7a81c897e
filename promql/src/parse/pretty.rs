//! A tree as text over several lines: what does not fit into a line is split, everything else stays canonical.
//!
//! Comments are lost, as upstream loses them.
//!
//! Compat: prometheus `promql/parser/prettier.go`; `/api/v1/format_query`.

use std::fmt::{self, Write};

use super::ast::Expr;
use super::display::{write_aggregate_head, write_expr, write_operator, write_subquery_suffix};

/// A node whose canonical text is longer than this is split.
const LINE_BYTES_MAX: usize = 100;

/// The expression over as many lines as it needs.
pub fn format(expr: &Expr) -> String {
    let mut out = String::new();
    write_pretty(&mut out, expr, 0).expect("writing to a string cannot fail");
    out
}

fn write_pretty(out: &mut String, expr: &Expr, level: usize) -> fmt::Result {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {
            indent(out, level);
            write_expr(out, expr)
        }
        Expr::Unary(e) => {
            indent(out, level);
            out.push(if e.negative { '-' } else { '+' });
            let start = out.len();
            write_pretty(out, &e.expr, level)?;
            // The sign stands where the operand's indentation would.
            let operand_start = out.len() - out[start..].trim_start().len();
            out.replace_range(start..operand_start, "");
            Ok(())
        }
        // Upstream does not indent a subquery that fits.
        Expr::Subquery(_) if fits(expr) => write_expr(out, expr),
        Expr::Subquery(e) => {
            write_pretty(out, &e.expr, level)?;
            write_subquery_suffix(out, e)
        }
        _ if fits(expr) => {
            indent(out, level);
            write_expr(out, expr)
        }
        Expr::Call(e) => {
            indent(out, level);
            out.push_str(e.func.name);
            write_block(out, e.args.iter(), level)
        }
        Expr::Aggregate(e) => {
            indent(out, level);
            write_aggregate_head(out, e)?;
            write_block(out, e.param.as_deref().into_iter().chain([&*e.expr]), level)
        }
        Expr::Paren(e) => {
            indent(out, level);
            write_block(out, [&*e.expr].into_iter(), level)
        }
        Expr::Binary(e) => {
            write_pretty(out, &e.lhs, level + 1)?;
            out.push('\n');
            indent(out, level);
            write_operator(out, e)?;
            out.push('\n');
            write_pretty(out, &e.rhs, level + 1)
        }
    }
}

/// `(`, the operands on lines of their own, `)`.
fn write_block<'a>(out: &mut String, operands: impl Iterator<Item = &'a Expr>, level: usize) -> fmt::Result {
    out.push_str("(\n");
    for (i, operand) in operands.enumerate() {
        if i > 0 {
            out.push_str(",\n");
        }
        write_pretty(out, operand, level + 1)?;
    }
    out.push('\n');
    indent(out, level);
    out.push(')');
    Ok(())
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// Whether the canonical text fits into a line; writes no more of it than that takes to know.
fn fits(expr: &Expr) -> bool {
    write_expr(&mut Line { left: LINE_BYTES_MAX }, expr).is_ok()
}

/// Takes as many bytes as a line holds and fails on the next.
struct Line {
    left: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}
