//! Walking over the buckets of a float histogram, in both directions, and the interval that each one covers.
//!
//! Counts and intervals are apart: who only adds counts up never computes a bound.
//!
//! Compat: prometheus `model/histogram`, `AllBucketIterator` and `Bucket`.

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span, bounds};
use crate::elementary::log2;

/// Which bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Negative(i32),
    Zero,
    Positive(i32),
}

/// What a bucket covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
}

impl Interval {
    /// The number by which the HTTP API says which bounds belong to the bucket.
    pub fn code(&self) -> u8 {
        match (self.lower_inclusive, self.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        }
    }

    pub fn spans_zero(&self) -> bool {
        self.lower <= 0.0 && self.upper >= 0.0
    }

    /// The share of the observations that is up to `v`, which lies inside; both bounds are finite.
    ///
    /// Linear in buckets of listed bounds and around zero, logarithmic in others.
    pub fn share_below(&self, v: f64, linear: bool) -> f64 {
        share_below(self.lower, self.upper, v, linear)
    }
}

pub(super) fn share_below(lower: f64, upper: f64, v: f64, linear: bool) -> f64 {
    if linear {
        return (v - lower) / (upper - lower);
    }
    let [lower, upper, v_log] = [lower, upper, v].map(|bound| log2(bound.abs()));
    if v > 0.0 { (v_log - lower) / (upper - lower) } else { 1.0 - ((v_log - upper) / (lower - upper)) }
}

impl FloatHistogram {
    /// All buckets with their counts, lowest first; the zero bucket only if it holds something.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = (Place, f64)> + '_ {
        let negative = self.negative_counts().rev().map(|(index, count)| (Place::Negative(index), count));
        let zero = (self.zero_count > 0.0).then_some((Place::Zero, self.zero_count));
        let positive = self.positive_counts().map(|(index, count)| (Place::Positive(index), count));
        negative.chain(zero).chain(positive)
    }

    /// Index and count of the buckets above the zero bucket, from it on.
    pub fn positive_counts(&self) -> Counts<'_> {
        Counts::new(&self.positive_spans, &self.positive_buckets)
    }

    /// Index and count of the buckets below the zero bucket, from it on: downwards.
    pub fn negative_counts(&self) -> Counts<'_> {
        Counts::new(&self.negative_spans, &self.negative_buckets)
    }

    /// What the bucket at `place` covers.
    pub fn interval(&self, place: Place) -> Interval {
        let bound = |index| bounds::upper(index, self.schema, &self.custom_values);
        let (index, lower, upper) = match place {
            Place::Positive(index) => (index, bound(index.saturating_sub(1)), bound(index)),
            Place::Negative(index) => (index, -bound(index), -bound(index.saturating_sub(1))),
            Place::Zero => {
                return Interval {
                    lower: -self.zero_threshold,
                    upper: self.zero_threshold,
                    lower_inclusive: true,
                    upper_inclusive: true,
                };
            }
        };
        let is_custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        Interval {
            lower,
            upper,
            lower_inclusive: if is_custom { index == 0 } else { lower < 0.0 },
            upper_inclusive: is_custom || upper > 0.0,
        }
    }

    /// As [`FloatHistogram::interval`], ending where the zero bucket begins if both overlap.
    pub fn clipped_interval(&self, place: Place) -> Interval {
        let mut interval = self.interval(place);
        if place == Place::Zero {
            return interval;
        }
        if interval.lower > 0.0 && interval.lower < self.zero_threshold {
            interval.lower = self.zero_threshold;
        } else if interval.upper < 0.0 && interval.upper > -self.zero_threshold {
            interval.upper = -self.zero_threshold;
        }
        interval
    }
}

/// Index and count of the buckets of one side, from zero outwards; of a malformed side as many as there are.
#[derive(Clone, Debug)]
pub struct Counts<'a> {
    /// What neither end has begun.
    spans: &'a [Span],
    rest: &'a [f64],
    front: i64,
    front_left: u32,
    /// Behind the last bucket.
    back: i64,
    back_left: u32,
    /// The gap before the span that the back has begun.
    back_gap: i64,
}

impl<'a> Counts<'a> {
    pub(super) fn new(spans: &'a [Span], counts: &'a [f64]) -> Self {
        let back = spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        Self { spans, rest: counts, front: 0, front_left: 0, back, back_left: 0, back_gap: 0 }
    }
}

/// Indices that no bucket can have only come from what is malformed.
fn index(wide: i64) -> i32 {
    i32::try_from(wide).unwrap_or(if wide < 0 { i32::MIN } else { i32::MAX })
}

impl Iterator for Counts<'_> {
    type Item = (i32, f64);

    fn next(&mut self) -> Option<(i32, f64)> {
        while self.front_left == 0 {
            if let Some((span, rest)) = self.spans.split_first() {
                self.spans = rest;
                self.front += i64::from(span.offset);
                self.front_left = span.length;
                continue;
            }
            if self.back_left == 0 {
                return None;
            }
            (self.front, self.front_left) = (self.back - i64::from(self.back_left), self.back_left);
            self.back_left = 0;
        }
        let (&count, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.front += 1;
        self.front_left -= 1;
        Some((index(self.front - 1), count))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.rest.len()))
    }
}

impl DoubleEndedIterator for Counts<'_> {
    fn next_back(&mut self) -> Option<(i32, f64)> {
        while self.back_left == 0 {
            if let Some((span, rest)) = self.spans.split_last() {
                self.spans = rest;
                self.back -= std::mem::replace(&mut self.back_gap, i64::from(span.offset));
                self.back_left = span.length;
                continue;
            }
            if self.front_left == 0 {
                return None;
            }
            (self.back, self.back_left) = (self.front + i64::from(self.front_left), self.front_left);
            self.front_left = 0;
        }
        let (&count, rest) = self.rest.split_last()?;
        self.rest = rest;
        self.back -= 1;
        self.back_left -= 1;
        Some((index(self.back), count))
    }
}
