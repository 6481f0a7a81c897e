//! Histograms in series descriptions: `{{schema:0 sum:5 count:4 buckets:[1 2 1]}}`, alone, repeated, or growing by
//! another one.
//!
//! Nothing is derived: a count that is not written is 0, whatever the buckets hold.
//!
//! Compat: prometheus `promql/parser`, `histogram_series_value` and what builds a histogram of it.

use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{CounterResetHint, Span as BucketSpan};

use super::SequenceValue;
use crate::parse::ast::{BinaryOp, Span};
use crate::parse::lex::{Kind, Token};
use crate::parse::parser::{Context, Parsed, Parser};

/// The most histograms that one description may expand to; each has buckets of its own.
const HISTOGRAMS_MAX: usize = 1 << 16;

/// What was written between the braces.
#[derive(Default)]
struct Description {
    histogram: FloatHistogram,
    offset: i32,
    n_offset: i32,
    has_hint: bool,
    /// The keys seen so far, in lower case.
    keys: Vec<String>,
}

impl Parser<'_> {
    /// `{{..}}`, `{{..}}xN`, `{{..}}+{{..}}xN` and `{{..}}-{{..}}xN`, of which the latter three stand for N + 1.
    pub(super) fn histograms(&mut self, values: &mut Vec<SequenceValue>) -> Parsed<()> {
        let (base, mut has_hint) = self.histogram()?;
        let mut step = None;
        match self.peek() {
            Kind::Times => {}
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.advance();
                if self.peek() != Kind::OpenHistogram {
                    return self.unexpected();
                }
                let (other, other_has_hint) = self.histogram()?;
                has_hint = other_has_hint;
                step = Some((op, other));
                if self.peek() != Kind::Times {
                    return self.unexpected();
                }
            }
            _ => {
                values.push(SequenceValue::Histogram { histogram: Arc::new(base), has_hint });
                return Ok(());
            }
        }
        let token = self.advance();
        let times = self.count()?;
        self.reserve(token, values.len(), times.saturating_add(1))?;
        if times >= HISTOGRAMS_MAX {
            return self.fail(token.span, format!("series of more than {HISTOGRAMS_MAX} histograms"));
        }
        let mut current = Arc::new(base);
        values.push(SequenceValue::Histogram { histogram: Arc::clone(&current), has_hint });
        for _ in 0..times {
            if let Some((op, step)) = &step {
                current = Arc::new(self.combined(token, *op, &current, step)?);
            }
            values.push(SequenceValue::Histogram { histogram: Arc::clone(&current), has_hint });
        }
        Ok(())
    }

    fn combined(
        &mut self,
        token: Token,
        op: BinaryOp,
        base: &FloatHistogram,
        step: &FloatHistogram,
    ) -> Parsed<FloatHistogram> {
        if base.schema > step.schema {
            let message = format!(
                "error combining histograms: cannot merge from schema {} to {}",
                step.schema, base.schema
            );
            return self.fail(token.span, message);
        }
        let mut sum = base.clone();
        let done = if op == BinaryOp::Add { sum.add_assign(step) } else { sum.sub_assign(step) };
        match done {
            Ok(_) => Ok(sum),
            Err(e) => self.fail(token.span, e.to_string()),
        }
    }

    /// One description with its braces, and whether it has a hint.
    fn histogram(&mut self) -> Parsed<(FloatHistogram, bool)> {
        self.advance();
        let mut description = Description::default();
        if self.peek() == Kind::Space {
            self.advance();
            if self.peek() != Kind::CloseHistogram {
                return self.unexpected();
            }
        }
        while self.peek() != Kind::CloseHistogram {
            self.described(&mut description)?;
            let outer = self.enter(Context::Histogram);
            match self.peek() {
                Kind::Space => drop(self.advance()),
                Kind::CloseHistogram => {}
                _ => return self.unexpected(),
            }
            self.peek();
            self.leave(outer);
        }
        self.advance();
        Ok((description.finish(), description.has_hint))
    }

    /// A key, its colon and its value.
    fn described(&mut self, to: &mut Description) -> Parsed<()> {
        if self.peek() != Kind::Descriptor {
            return self.unexpected();
        }
        let key = self.advance();
        let key = self.text(key.span).to_ascii_lowercase();
        if self.peek() != Kind::Colon {
            return self.unexpected();
        }
        self.advance();
        match key.as_str() {
            "schema" => to.histogram.schema = self.integer()?,
            "offset" => to.offset = self.integer()?,
            "n_offset" => to.n_offset = self.integer()?,
            "sum" => to.histogram.sum = self.listed()?,
            "count" => to.histogram.count = self.listed()?,
            "z_bucket" => to.histogram.zero_count = self.listed()?,
            "z_bucket_w" => {
                // The only number without a sign.
                if self.peek() != Kind::Number {
                    return self.unexpected();
                }
                to.histogram.zero_threshold = self.listed()?;
            }
            "custom_values" => to.histogram.custom_values = self.list()?,
            "buckets" => to.histogram.positive_buckets = self.list()?,
            "n_buckets" => to.histogram.negative_buckets = self.list()?,
            _ => {
                if self.peek() != Kind::Hint {
                    return self.unexpected();
                }
                let hint = self.advance();
                to.has_hint = true;
                to.histogram.counter_reset_hint = match self.text(hint.span).to_ascii_lowercase().as_str() {
                    "reset" => CounterResetHint::CounterReset,
                    "not_reset" => CounterResetHint::NotCounterReset,
                    "gauge" => CounterResetHint::Gauge,
                    _ => CounterResetHint::Unknown,
                };
            }
        }
        if to.keys.contains(&key) {
            return self.fail(Span::default(), format!("duplicate key \"{key}\" in histogram"));
        }
        to.keys.push(key);
        Ok(())
    }

    /// `[1 2 -3]`
    fn list(&mut self) -> Parsed<Vec<f64>> {
        if self.peek() != Kind::LeftBracket {
            return self.unexpected();
        }
        self.advance();
        let mut values = vec![self.listed()?];
        loop {
            match self.peek() {
                Kind::Space => drop(self.advance()),
                Kind::RightBracket => break,
                _ => return self.unexpected(),
            }
            if self.peek() == Kind::RightBracket {
                break;
            }
            values.push(self.listed()?);
        }
        self.advance();
        Ok(values)
    }

    /// A number that may have a minus.
    fn listed(&mut self) -> Parsed<f64> {
        let is_negative = self.minus();
        if self.peek() != Kind::Number {
            return self.unexpected();
        }
        let value = self.number()?.value;
        Ok(if is_negative { -value } else { value })
    }

    fn integer(&mut self) -> Parsed<i32> {
        let is_negative = self.minus();
        if self.peek() != Kind::Number {
            return self.unexpected();
        }
        let token = self.advance();
        let text = self.text(token.span);
        let value = text.parse().map(|value: i64| if is_negative { -value } else { value });
        match value.map(i32::try_from) {
            Ok(Ok(value)) => Ok(value),
            _ => self.fail(token.span, format!("invalid integer in histogram description: {text}")),
        }
    }

    fn minus(&mut self) -> bool {
        let is_negative = self.peek() == Kind::Op(BinaryOp::Sub);
        if is_negative {
            self.advance();
        }
        is_negative
    }
}

impl Description {
    fn finish(&self) -> FloatHistogram {
        let mut histogram = self.histogram.clone();
        let span = |offset: i32, buckets: &[f64]| {
            // The text, and with it a list, is far shorter than 4 GiB.
            let length = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
            if length == 0 { Vec::new() } else { vec![BucketSpan { offset, length }] }
        };
        histogram.positive_spans = span(self.offset, &histogram.positive_buckets);
        histogram.negative_spans = span(self.n_offset, &histogram.negative_buckets);
        histogram
    }
}
