//! From the text of an expression to a checked tree with positions, and back to text.
//!
//! [`parse`] is the way in; [`Parser`] is the same with switches. A tree displays in upstream's canonical
//! form, [`pretty::format`] breaks it into lines, [`json::write`] spells it out for the tree view.
//!
//! Hostile input is an error and never a stack overflow: a text is at most [`TEXT_BYTES_MAX`] long, a tree at most
//! [`HEIGHT_MAX`] high. That is too high to recurse on a thread of usual size, so parsing, checking, printing and
//! dropping do not; whoever walks a tree uses [`ast::Expr::walk`] or sees to a deep stack. Durations are kept low
//! enough to recurse.
//!
//! Compat: prometheus `promql/parser`.

pub mod ast;
mod check;
mod display;
mod error;
pub mod functions;
pub mod json;
mod lex;
mod literal;
mod parser;
pub mod pretty;
pub mod series;

pub use error::{ParseError, position};

#[cfg(test)]
mod tests;

use ast::{Expr, Span};

/// The longest text that is parsed.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// The highest tree that is built, in nodes from root to leaf; `a + b + c` grows it as parentheses do. More than
/// the ten thousand levels that upstream is known to answer.
pub const HEIGHT_MAX: usize = 1 << 14;

/// The most subqueries that may lie in each other. Each is evaluated at every step of the one around it, so a server
/// that answers for so many has never been seen.
pub const SUBQUERIES_MAX: usize = 100;

/// The highest tree of a duration.
pub const DURATION_HEIGHT_MAX: usize = 500;

/// The most parentheses, signs and right operands that may be open in a duration, each a recursion of the parser.
pub const DURATION_NESTING_MAX: usize = 100;

/// Which parts of the language are switched on. The default is that of a server without feature flags.
#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as upstream's")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// `promql-experimental-functions`: some functions, `limitk`, `limit_ratio`.
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub binop_fill: bool,
    /// `promql-duration-expr`: arithmetic in ranges, steps and offsets.
    pub duration_expr: bool,
}

impl Options {
    /// Everything on.
    pub const ALL: Self = Self {
        experimental_functions: true,
        extended_range_selectors: true,
        binop_fill: true,
        duration_expr: true,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            extended_range_selectors: false,
            binop_fill: false,
            duration_expr: true,
        }
    }
}

/// Parses with fixed options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parser {
    pub options: Options,
}

impl Parser {
    pub const fn new(options: Options) -> Self {
        Self { options }
    }

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// The text is no expression, its types do not fit, or it passes a limit.
    pub fn parse(&self, text: &str) -> Result<Expr, ParseError> {
        within_limits(text)?;
        let mut parser = parser::Parser::new(lex::Lexer::new(text), self.options);
        let parsed = parser.whole_expression();
        parser.into_checked(parsed)
    }
}

/// Parses and checks an expression with the options of a server without feature flags.
///
/// # Errors
/// The text is no expression, its types do not fit, or it passes a limit.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    Parser::default().parse(text)
}

/// The matchers of a single selector, as in the parameter `match[]`; may match everything.
///
/// # Errors
/// The text is no selector or passes a limit.
pub fn parse_selector(text: &str) -> Result<Vec<model::Matcher>, ParseError> {
    within_limits(text)?;
    let mut parser = parser::Parser::new(lex::Lexer::new(text), Options::default());
    let parsed = parser.whole_selector();
    Ok(parser.into_result(parsed)?.matchers)
}

fn within_limits(text: &str) -> Result<(), ParseError> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("expression of {} bytes exceeds the limit of {TEXT_BYTES_MAX}", text.len());
    Err(ParseError::new(text, Span::default(), message))
}
