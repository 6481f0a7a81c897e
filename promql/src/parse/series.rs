//! Series descriptions, the notation of test scripts and rule unit tests: `metric{a="b"} 1 2 _ 3+4x5 stale`.
//!
//! Compat: prometheus `promql/parser`, `ParseSeriesDesc`.

mod histogram;

use std::fmt;
use std::sync::Arc;

use model::labels::METRIC_NAME;
use model::quote::go_quote;
use model::sample::STALE_NAN;
use model::{FloatHistogram, Labels, LabelsBuilder};

use super::ast::BinaryOp;
use super::lex::{Kind, Lexer, Token};
use super::parser::{Context, Parsed, Parser, is_metric_name};
use super::{Options, ParseError, within_limits};

/// The most values that one description may expand to.
pub const VALUES_MAX: usize = 1 << 22;

/// One item of a series; its place in the list is its time.
#[derive(Clone)]
pub enum SequenceValue {
    /// `_`: no sample.
    Gap,
    /// A number, or the staleness marker for `stale`.
    Float(f64),
    Histogram {
        histogram: Arc<FloatHistogram>,
        /// Whether the hint on counter resets was written, so that it counts in a comparison.
        has_hint: bool,
    },
}

impl fmt::Debug for SequenceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap => f.write_str("Gap"),
            Self::Float(v) => write!(f, "Float({v:?})"),
            Self::Histogram { histogram, has_hint } => {
                let hint = if *has_hint { ", with hint" } else { "" };
                write!(f, "Histogram({}{hint})", histogram.to_test_expression())
            }
        }
    }
}

/// Equal bits, so that the staleness marker equals itself and no other NaN.
impl PartialEq for SequenceValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gap, Self::Gap) => true,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (
                Self::Histogram { histogram: a, has_hint: a_has_hint },
                Self::Histogram { histogram: b, has_hint: b_has_hint },
            ) => a.is_same(b) && a.counter_reset_hint == b.counter_reset_hint && a_has_hint == b_has_hint,
            _ => false,
        }
    }
}

/// Parses a metric and its values.
///
/// # Errors
/// The text is no description or expands to more than [`VALUES_MAX`] values.
pub fn parse(text: &str) -> Result<(Labels, Vec<SequenceValue>), ParseError> {
    within_limits(text)?;
    let mut parser = Parser::new(Lexer::series(text), Options::ALL);
    let parsed = parser.series();
    parser.into_result(parsed)
}

/// Parses a metric alone: `name{a="b"}`, `{"quoted name", a="b"}`.
///
/// # Errors
/// The text is no metric.
pub fn parse_metric(text: &str) -> Result<Labels, ParseError> {
    within_limits(text)?;
    let mut parser = Parser::new(Lexer::new(text), Options::ALL);
    let parsed = parser.metric().and_then(|labels| parser.end_of_input().map(|()| labels));
    parser.into_result(parsed)
}

impl Parser<'_> {
    fn series(&mut self) -> Parsed<(Labels, Vec<SequenceValue>)> {
        let labels = self.metric()?;
        let mut values = Vec::new();
        self.enter(Context::SeriesValues);
        loop {
            match self.peek() {
                Kind::Space => drop(self.advance()),
                Kind::Eof => return Ok((labels, values)),
                _ => return self.unexpected(),
            }
            // Between items the series is complete, so what is unexpected stands in nothing.
            self.enter(Context::None);
            match self.peek() {
                Kind::Space | Kind::Eof => {}
                Kind::Blank
                | Kind::Number
                | Kind::Identifier
                | Kind::Op(BinaryOp::Add | BinaryOp::Sub)
                | Kind::OpenHistogram => {
                    self.enter(Context::SeriesValues);
                    self.item(&mut values)?;
                    self.enter(Context::None);
                }
                _ => return self.unexpected(),
            }
        }
    }

    /// A name, braces, both or neither.
    fn metric(&mut self) -> Parsed<Labels> {
        let mut labels = LabelsBuilder::default();
        let kind = self.peek();
        let name = is_metric_name(kind).then(|| self.advance());
        if self.peek() == Kind::LeftBrace {
            self.advance();
            self.label_set(&mut labels)?;
        }
        if let Some(name) = name {
            labels.set(METRIC_NAME, self.text(name.span).as_bytes());
        }
        Ok(labels.build())
    }

    /// The labels behind a consumed brace, with the closing one.
    fn label_set(&mut self, labels: &mut LabelsBuilder) -> Parsed<()> {
        let outer = self.enter(Context::LabelFirst);
        loop {
            self.enter(Context::LabelFirst);
            let kind = self.peek();
            let name = match kind {
                Kind::RightBrace => break,
                Kind::Identifier => {
                    let token = self.advance();
                    self.text(token.span).as_bytes().into()
                }
                Kind::String => {
                    let token = self.advance();
                    self.unquote(token)?
                }
                _ => return self.unexpected(),
            };
            match self.peek() {
                Kind::Assign => {
                    self.advance();
                    self.enter(Context::LabelValue);
                    if self.peek() != Kind::String {
                        return self.unexpected();
                    }
                    let token = self.advance();
                    labels.set(&name, &self.unquote(token)?);
                }
                // A string on its own is the metric's name.
                _ if kind == Kind::String => labels.set(METRIC_NAME, &name),
                _ => {
                    self.enter(Context::LabelAssign);
                    return self.unexpected();
                }
            }
            self.enter(Context::LabelNext);
            match self.peek() {
                Kind::Comma => drop(self.advance()),
                Kind::RightBrace => break,
                _ => return self.unexpected(),
            }
        }
        self.advance();
        self.leave(outer);
        Ok(())
    }

    /// `_`, `_x3`, `1`, `1x3`, `1+2x3`, `stale`.
    fn item(&mut self, values: &mut Vec<SequenceValue>) -> Parsed<()> {
        match self.peek() {
            Kind::Blank => {
                let token = self.advance();
                let count = if self.peek() == Kind::Times { self.repetitions()? } else { 1 };
                self.reserve(token, values.len(), count)?;
                values.resize(values.len() + count, SequenceValue::Gap);
                Ok(())
            }
            Kind::OpenHistogram => self.histograms(values),
            _ => self.floats(values),
        }
    }

    /// `V`, `VxN` and `A+BxN`, of which the latter two stand for N + 1 values.
    fn floats(&mut self, values: &mut Vec<SequenceValue>) -> Parsed<()> {
        let mut value = match self.peek() {
            Kind::Identifier => {
                let token = self.advance();
                if self.text(token.span) != "stale" {
                    self.enter(Context::SeriesWord);
                    return self.unexpected();
                }
                STALE_NAN
            }
            _ => self.signed()?,
        };
        let step = match self.peek() {
            Kind::Op(BinaryOp::Add | BinaryOp::Sub) => {
                let step = self.signed()?;
                if self.peek() != Kind::Times {
                    return self.unexpected();
                }
                Some(step)
            }
            Kind::Times => None,
            _ => {
                values.push(SequenceValue::Float(value));
                return Ok(());
            }
        };
        let token = self.advance();
        let count = 1 + self.count()?;
        self.reserve(token, values.len(), count)?;
        for _ in 0..count {
            values.push(SequenceValue::Float(value));
            if let Some(step) = step {
                value += step;
            }
        }
        Ok(())
    }

    fn signed(&mut self) -> Parsed<f64> {
        let kind = self.peek();
        let is_signed = matches!(kind, Kind::Op(BinaryOp::Add | BinaryOp::Sub));
        if is_signed {
            self.advance();
        }
        if self.peek() != Kind::Number {
            return self.unexpected();
        }
        let value = self.number()?.value;
        Ok(if kind == Kind::Op(BinaryOp::Sub) { -value } else { value })
    }

    /// `xN` with the `x` still ahead.
    fn repetitions(&mut self) -> Parsed<usize> {
        self.advance();
        self.count()
    }

    fn count(&mut self) -> Parsed<usize> {
        if self.peek() != Kind::Number {
            return self.unexpected();
        }
        let token = self.advance();
        let text = self.text(token.span);
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            let quoted = go_quote(text.as_bytes());
            return self.fail(
                token.span,
                format!(
                    "invalid repetition in series values: strconv.ParseUint: parsing {quoted}: invalid syntax"
                ),
            );
        }
        // What does not fit is refused by the limit.
        Ok(text.parse().unwrap_or(VALUES_MAX))
    }

    /// Refuses to grow beyond the limit.
    fn reserve(&mut self, token: Token, len: usize, count: usize) -> Parsed<()> {
        if len + count <= VALUES_MAX {
            return Ok(());
        }
        self.fail(token.span, format!("series of more than {VALUES_MAX} values"))
    }
}
