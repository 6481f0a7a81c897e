//! Why a text is no expression, and where.
//!
//! Compat: prometheus `promql/parser`, `ParseErr`; `promql/parser/posrange`.

use std::fmt;

use super::ast::Span;

/// The first error of a text. Displays as `line:col: parse error: message`.
///
/// Upstream records further errors and shows the first one; we stop at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub span: Span,
    pub message: String,
    /// `1:1`, or a phrase where there is no such place.
    position: String,
}

impl ParseError {
    pub(super) fn new(text: &str, span: Span, message: String) -> Self {
        Self { span, message, position: position(text, span.start as usize) }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: parse error: {}", self.position, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Line and column of a byte, both from 1; the column counts bytes.
/// Compat: `posrange.PositionRange.StartPosInput`.
pub fn position(text: &str, offset: usize) -> String {
    if text.is_empty() {
        return "unknown position".to_owned();
    }
    let Some(before) = text.as_bytes().get(..offset) else {
        return "invalid position".to_owned();
    };
    let line = before.split(|&b| b == b'\n').count();
    let column = match before.iter().rposition(|&b| b == b'\n') {
        Some(newline) => offset - newline,
        None => offset + 1,
    };
    format!("{line}:{column}")
}
