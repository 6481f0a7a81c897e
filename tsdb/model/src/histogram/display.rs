//! Histograms as people read them: counts between bounds, lowest first, empty buckets left out.
//!
//! Compat: prometheus `model/histogram`, `Histogram.String`.

use std::fmt;

use super::{
    BucketCount, Buckets, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Histogram, Span, bounds,
};
use crate::number::format_g;

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", self.count, format_g(self.sum))?;
        // Counts are printed as upstream keeps them: unsigned.
        self.write_buckets(f, &self.zero_count.to_string(), |count: i64| count.cast_unsigned().to_string())
    }
}

impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_g(self.count), format_g(self.sum))?;
        self.write_buckets(f, &format_g(self.zero_count), format_g)
    }
}

impl FloatHistogram {
    /// The histogram as it is written in the language of tests: `{{schema:1 count:3 ...}}`.
    ///
    /// Compat: prometheus `model/histogram`, `FloatHistogram.TestExpression`.
    pub fn to_test_expression(&self) -> String {
        /// No valid schema has indices further apart. Those of broken histograms are not filled up.
        const EMPTY_MAX: u32 = 1 << 20;
        let mut compacted = self.clone();
        compacted.compact(EMPTY_MAX);
        let list = |values: &[f64]| values.iter().map(|&v| format_g(v)).collect::<Vec<_>>().join(" ");
        let mut parts = Vec::new();
        if self.schema != 0 {
            parts.push(format!("schema:{}", self.schema));
        }
        for (name, v) in [
            ("count", self.count),
            ("sum", self.sum),
            ("z_bucket", self.zero_count),
            ("z_bucket_w", self.zero_threshold),
        ] {
            if v != 0.0 {
                parts.push(format!("{name}:{}", format_g(v)));
            }
        }
        if self.uses_custom_buckets() {
            parts.push(format!("custom_values:[{}]", list(&self.custom_values)));
        }
        match self.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::CounterReset => parts.push("counter_reset_hint:reset".to_owned()),
            CounterResetHint::NotCounterReset => parts.push("counter_reset_hint:not_reset".to_owned()),
            CounterResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
        }
        for (prefix, spans, buckets) in [
            ("", &compacted.positive_spans, &compacted.positive_buckets),
            ("n_", &compacted.negative_spans, &compacted.negative_buckets),
        ] {
            for span in spans.iter().filter(|span| span.offset != 0) {
                parts.push(format!("{prefix}offset:{}", span.offset));
            }
            if !buckets.is_empty() {
                parts.push(format!("{prefix}buckets:[{}]", list(buckets)));
            }
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

impl<C: PartialEq + Default, B: BucketCount> Buckets<C, B> {
    fn write_buckets(
        &self,
        f: &mut fmt::Formatter<'_>,
        zero_count: &str,
        told: impl Fn(B) -> String,
    ) -> fmt::Result {
        let upper = |index| bounds::upper(index, self.schema, &self.custom_values);
        let is_custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        for (index, count) in filled(&self.negative_spans, &self.negative_buckets).into_iter().rev() {
            let (low, high) = (-upper(index), -upper(index.saturating_sub(1)));
            let open = if is_custom { index == 0 } else { low < 0.0 };
            write_bucket(f, open, low, high, is_custom || high > 0.0, &told(count))?;
        }
        if self.zero_count != C::default() {
            write_bucket(f, true, -self.zero_threshold, self.zero_threshold, true, zero_count)?;
        }
        for (index, count) in filled(&self.positive_spans, &self.positive_buckets) {
            let (low, high) = (upper(index.saturating_sub(1)), upper(index));
            let open = if is_custom { index == 0 } else { low < 0.0 };
            write_bucket(f, open, low, high, is_custom || high > 0.0, &told(count))?;
        }
        f.write_str("}")
    }
}

fn write_bucket(
    f: &mut fmt::Formatter<'_>,
    has_low: bool,
    low: f64,
    high: f64,
    has_high: bool,
    count: &str,
) -> fmt::Result {
    let (open, close) = (if has_low { '[' } else { '(' }, if has_high { ']' } else { ')' });
    write!(f, ", {open}{},{}{close}:{count}", format_g(low), format_g(high))
}

/// Index and count of the buckets that are not empty; of a malformed histogram as many as there are.
fn filled<B: BucketCount>(spans: &[Span], buckets: &[B]) -> Vec<(i32, B)> {
    let mut next = 0_i32;
    let indices = spans.iter().flat_map(|span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add(span.length.cast_signed());
        (0..span.length).map(move |i| first.wrapping_add(i.cast_signed()))
    });
    let counts = B::absolute(buckets);
    indices.zip(counts.iter().copied()).filter(|(_, count)| *count != B::default()).collect()
}
