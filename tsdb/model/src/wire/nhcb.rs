//! Classic histograms as native ones with custom buckets.
//!
//! [`Classic`] collects the numbers of one histogram and converts them; [`Converter`] walks a text body and puts the
//! series of each classic histogram together.
//!
//! Differs from upstream, which cuts a histogram in two at a comment between its lines, gives one the time of the
//! line behind it, and mixes what it could not convert into the next.
//!
//! Compat: prometheus `util/convertnhcb` and `model/textparse`, `NHCBParser` (3.14).

mod convert;

pub use convert::{Converter, Item};

use std::fmt;

use super::Native;
use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use crate::number::format_g;

/// The numbers of a classic histogram.
#[derive(Clone, Debug, Default)]
pub struct Classic {
    /// Upper bounds and cumulative counts, both ascending.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    /// The first thing that was wrong.
    failure: Option<Unconvertible>,
}

/// Why a classic histogram cannot be converted; displays upstream's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unconvertible {
    NegativeBucket { le: f64, count: f64 },
    BoundIsNan,
    NegativeCount(f64),
    NotCumulative { count: f64, before: f64 },
    AboveNext { count: f64, next: f64 },
    Mismatch { count: f64, le: f64, last: f64 },
}

impl fmt::Display for Unconvertible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let g = |v: f64| format_g(v);
        match *self {
            Self::NegativeBucket { le, count } => {
                write!(f, "bucket count must be non-negative: le={}, count={}", g(le), g(count))
            }
            Self::BoundIsNan => f.write_str("bucket boundary must not be NaN"),
            Self::NegativeCount(count) => write!(f, "count must be non-negative: count={}", g(count)),
            Self::NotCumulative { count, before } => {
                write!(f, "count is not cumulative: {} < {}", g(count), g(before))
            }
            Self::AboveNext { count, next } => {
                write!(f, "count is not cumulative: {} > {}", g(count), g(next))
            }
            Self::Mismatch { count, le, last } => {
                write!(f, "count mismatch: count={} != le={} count={}", g(count), g(le), g(last))
            }
        }
    }
}

impl std::error::Error for Unconvertible {}

impl Classic {
    pub fn clear(&mut self) {
        self.buckets.clear();
        (self.count, self.sum, self.failure) = (None, 0.0, None);
    }

    /// Adds a bucket, wherever it belongs; of two with the same bound the first counts.
    pub fn set_bucket(&mut self, le: f64, count: f64) {
        if self.failure.is_some() {
            return;
        }
        if le.is_nan() {
            self.failure = Some(Unconvertible::BoundIsNan);
        } else if count < 0.0 {
            self.failure = Some(Unconvertible::NegativeBucket { le, count });
        } else {
            let i = self.buckets.partition_point(|&(bound, _)| bound < le);
            let next = self.buckets.get(i).copied();
            if next.is_some_and(|(bound, _)| bound == le) {
                return;
            }
            if let Some(&(_, before)) = i.checked_sub(1).and_then(|i| self.buckets.get(i))
                && count < before
            {
                self.failure = Some(Unconvertible::NotCumulative { count, before });
            } else if let Some((_, next)) = next.filter(|&(_, next)| count > next) {
                self.failure = Some(Unconvertible::AboveNext { count, next });
            } else {
                self.buckets.insert(i, (le, count));
            }
        }
    }

    pub fn set_count(&mut self, count: f64) {
        if self.failure.is_none() && count < 0.0 {
            self.failure = Some(Unconvertible::NegativeCount(count));
        }
        if self.failure.is_none() {
            self.count = Some(count);
        }
    }

    pub fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// Makes the native histogram of what was collected: of integers, unless a count is none.
    ///
    /// # Errors
    /// Counts go back or contradict each other.
    pub fn convert_into(&mut self, out: &mut Native) -> Result<(), Unconvertible> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let count = self.count.unwrap_or_else(|| self.buckets.last().map_or(0.0, |&(_, count)| count));
        if self.buckets.last().is_none_or(|&(le, _)| le != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let (le, last) = self.buckets.last().copied().unwrap_or_default();
        if count != last {
            return Err(Unconvertible::Mismatch { count, le, last });
        }
        let n_buckets = u32::try_from(self.buckets.len()).unwrap_or(u32::MAX);
        let bounds = self.buckets.iter().map(|&(le, _)| le).filter(|&le| le != f64::INFINITY);
        out.is_float = !self.buckets.iter().all(|&(_, count)| is_whole(count)) || !is_whole(count);
        if out.is_float {
            let float = &mut out.float;
            float.clear_buckets();
            float.counter_reset_hint = CounterResetHint::Unknown;
            float.schema = CUSTOM_BUCKETS_SCHEMA;
            (float.zero_threshold, float.zero_count) = (0.0, 0.0);
            (float.count, float.sum) = (count, self.sum);
            float.positive_spans.push(Span { offset: 0, length: n_buckets });
            let mut before = 0.0;
            for &(_, count) in &self.buckets {
                float.positive_buckets.push(count - before);
                before = count;
            }
            float.custom_values.extend(bounds);
            float.compact(0);
        } else {
            let int = &mut out.int;
            int.clear_buckets();
            int.counter_reset_hint = CounterResetHint::Unknown;
            int.schema = CUSTOM_BUCKETS_SCHEMA;
            (int.zero_threshold, int.zero_count) = (0.0, 0);
            (int.count, int.sum) = (whole(count).unsigned_abs(), self.sum);
            int.positive_spans.push(Span { offset: 0, length: n_buckets });
            let (mut before, mut delta_before) = (0, 0);
            for &(_, count) in &self.buckets {
                let in_bucket = whole(count) - before;
                // Counts may have gone back at the end, which is for others to refuse.
                int.positive_buckets.push(in_bucket.wrapping_sub(delta_before));
                (before, delta_before) = (whole(count), in_bucket);
            }
            int.custom_values.extend(bounds);
            int.compact(2);
        }
        Ok(())
    }
}

/// Whether a count is an integer that 63 bits can hold.
fn is_whole(count: f64) -> bool {
    count.round() == count && count.abs() < 9_223_372_036_854_775_808.0
}

#[expect(clippy::cast_possible_truncation, reason = "only called for what `is_whole` accepts")]
const fn whole(count: f64) -> i64 {
    count as i64
}

#[cfg(test)]
mod tests;
