//! Histograms as people read them: counts between bounds, lowest first, empty buckets left out.
//!
//! Compat: prometheus `model/histogram`, `Histogram.String`.

use std::fmt;

use super::{BucketCount, Buckets, CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span, bounds};
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
