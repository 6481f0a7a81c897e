//! A tree as text over several lines: what does not fit into a line is split, everything else stays canonical.
//!
//! Comments are lost, as upstream loses them.
//!
//! Compat: prometheus `promql/parser/prettier.go`; `/api/v1/format_query`.

use std::fmt::Write;

use super::ast::{Aggregate, Binary, Expr, Subquery};
use super::display::{write_aggregate_head, write_expr, write_operator, write_parts, write_subquery_suffix};

/// A node whose canonical text is longer than this is split.
const LINE_BYTES_MAX: usize = 100;

/// Indentation grows with the square of the height, so what lies deeper stands on one line.
const LEVEL_MAX: usize = 500;

/// Once this much is written the rest is split no more.
const SPLIT_BYTES_MAX: usize = 8 << 20;

/// The expression over as many lines as it needs.
pub fn format(expr: &Expr) -> String {
    let mut writer = Writer { out: String::new(), trims: false };
    let mut pieces = vec![Piece::Node(expr, 0)];
    while let Some(piece) = pieces.pop() {
        writer.piece(piece, &mut pieces);
    }
    writer.out
}

/// Something yet to be written, with its level.
#[derive(Clone, Copy)]
enum Piece<'e> {
    Node(&'e Expr, usize),
    Text(&'static str),
    /// A closing parenthesis on a line of its own.
    Close(usize),
    Operator(&'e Binary, usize),
    SubquerySuffix(&'e Subquery),
}

struct Writer {
    out: String,
    /// A sign was written, where the indentation of its operand would stand.
    trims: bool,
}

impl Writer {
    fn piece<'e>(&mut self, piece: Piece<'e>, pieces: &mut Vec<Piece<'e>>) {
        match piece {
            Piece::Node(expr, level) => self.node(expr, level, pieces),
            Piece::Text(text) => self.text(text),
            Piece::Close(level) => {
                self.text("\n");
                self.indent(level);
                self.text(")");
            }
            Piece::Operator(binary, level) => {
                self.text("\n");
                self.indent(level);
                self.canonical(|out| write_operator(out, binary));
                self.text("\n");
            }
            Piece::SubquerySuffix(subquery) => self.canonical(|out| write_subquery_suffix(out, subquery)),
        }
    }

    fn node<'e>(&mut self, expr: &'e Expr, level: usize, pieces: &mut Vec<Piece<'e>>) {
        match expr {
            Expr::Unary(e) => {
                self.indent(level);
                self.text(if e.negative { "-" } else { "+" });
                self.trims = true;
                pieces.push(Piece::Node(&e.expr, level));
            }
            // Upstream does not indent a subquery that fits.
            Expr::Subquery(_) if self.fits(expr, level) => self.canonical(|out| write_expr(out, expr)),
            Expr::Subquery(e) => pieces.extend([Piece::SubquerySuffix(e), Piece::Node(&e.expr, level)]),
            Expr::Binary(e) if !self.fits(expr, level) => pieces.extend([
                Piece::Node(&e.rhs, level + 1),
                Piece::Operator(e, level),
                Piece::Node(&e.lhs, level + 1),
            ]),
            Expr::Call(e) if !self.fits(expr, level) => {
                self.indent(level);
                self.text(e.func.name);
                self.block(e.args.iter().rev(), level, pieces);
            }
            Expr::Aggregate(e) if !self.fits(expr, level) => {
                self.indent(level);
                self.aggregate(e, level, pieces);
            }
            Expr::Paren(e) if !self.fits(expr, level) => {
                self.indent(level);
                self.block([&*e.expr].into_iter(), level, pieces);
            }
            _ => {
                self.indent(level);
                self.canonical(|out| write_expr(out, expr));
            }
        }
    }

    fn aggregate<'e>(&mut self, aggregate: &'e Aggregate, level: usize, pieces: &mut Vec<Piece<'e>>) {
        self.canonical(|out| write_aggregate_head(out, aggregate));
        let operands = [&*aggregate.expr].into_iter().chain(aggregate.param.as_deref());
        self.block(operands, level, pieces);
    }

    /// `(`, the operands, which come last first, on lines of their own, `)`.
    fn block<'e>(
        &mut self,
        operands: impl Iterator<Item = &'e Expr>,
        level: usize,
        pieces: &mut Vec<Piece<'e>>,
    ) {
        self.text("(\n");
        pieces.push(Piece::Close(level));
        for (i, operand) in operands.enumerate() {
            if i > 0 {
                pieces.push(Piece::Text(",\n"));
            }
            pieces.push(Piece::Node(operand, level + 1));
        }
    }

    fn indent(&mut self, level: usize) {
        if !self.trims {
            self.out.extend(std::iter::repeat_n("  ", level));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push_str(text);
        self.trims = false;
    }

    fn canonical(&mut self, write: impl FnOnce(&mut String) -> std::fmt::Result) {
        write(&mut self.out).expect("writing to a string cannot fail");
        self.trims = false;
    }

    /// Whether the canonical text fits into a line; writes no more of it than that takes to know.
    fn fits(&self, expr: &Expr, level: usize) -> bool {
        level > LEVEL_MAX
            || self.out.len() > SPLIT_BYTES_MAX
            || write_parts(&mut Line { left: LINE_BYTES_MAX }, expr, LINE_BYTES_MAX).is_ok()
    }
}

/// Takes as many bytes as a line holds and fails on the next.
struct Line {
    left: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(std::fmt::Error)?;
        Ok(())
    }
}
