//! Merging exponential buckets into coarser ones.
//!
//! Compat: prometheus `model/histogram`, `reduceResolution`.

use super::{Buckets, CUSTOM_BUCKETS_SCHEMA, InvalidHistogram, Span};

/// What is kept per bucket: a count, or the difference to the count before.
pub trait Bucket: Copy + Default {
    /// The count, given that of the bucket before.
    #[doc(hidden)]
    fn count(self, previous: Self) -> Self;
    /// What is kept of a count, given that of the bucket before.
    #[doc(hidden)]
    fn kept(count: Self, previous: Self) -> Self;
    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;
}

impl Bucket for i64 {
    fn count(self, previous: Self) -> Self {
        previous.wrapping_add(self)
    }

    fn kept(count: Self, previous: Self) -> Self {
        count.wrapping_sub(previous)
    }

    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

impl Bucket for f64 {
    fn count(self, _: Self) -> Self {
        self
    }

    fn kept(count: Self, _: Self) -> Self {
        count
    }

    fn plus(self, other: Self) -> Self {
        self + other
    }
}

impl<C, B: Bucket> Buckets<C, B> {
    /// Merges exponential buckets to those of `schema`, which is below the present one.
    ///
    /// # Errors
    /// Spans and buckets contradict each other, or the buckets are custom ones; the histogram is of no use then.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), InvalidHistogram> {
        let is_possible = self.schema != CUSTOM_BUCKETS_SCHEMA && schema < self.schema;
        let shift = is_possible.then(|| self.schema.abs_diff(schema)).filter(|&shift| shift < 63);
        let shift = shift.ok_or(InvalidHistogram::InvalidSchema)?;
        (self.positive_spans, self.positive_buckets) =
            merge(&self.positive_spans, &self.positive_buckets, shift)?;
        (self.negative_spans, self.negative_buckets) =
            merge(&self.negative_spans, &self.negative_buckets, shift)?;
        self.schema = schema;
        Ok(())
    }
}

/// Every `2^shift` neighbours become one bucket; counts are added from left to right.
fn merge<B: Bucket>(
    spans: &[Span],
    buckets: &[B],
    shift: u32,
) -> Result<(Vec<Span>, Vec<B>), InvalidHistogram> {
    // Index and count of each bucket that comes out.
    let mut merged: Vec<(i64, B)> = Vec::new();
    let mut rest = buckets.iter();
    let (mut index, mut count) = (0_i64, B::default());
    for (n, span) in spans.iter().enumerate() {
        if n > 0 && span.offset < 0 {
            return Err(InvalidHistogram::SpanNegativeOffset);
        }
        index += i64::from(span.offset);
        for _ in 0..span.length {
            let bucket = rest.next().ok_or(InvalidHistogram::SpansBucketsMismatch)?;
            count = bucket.count(count);
            // Bucket i holds what is above base^(i-1), up to base^i.
            let target = ((index - 1) >> shift) + 1;
            match merged.last_mut() {
                Some((last, sum)) if *last == target => *sum = sum.plus(count),
                _ => merged.push((target, count)),
            }
            index += 1;
        }
    }
    let (mut out_spans, mut out_buckets) = (Vec::new(), Vec::with_capacity(merged.len()));
    let (mut next, mut previous) = (0_i64, B::default());
    for (target, count) in merged {
        match out_spans.last_mut() {
            Some(Span { length, .. }) if target == next => *length += 1,
            _ => {
                let offset = i32::try_from(target - next);
                let offset = offset.map_err(|_| InvalidHistogram::SpansBucketsMismatch)?;
                out_spans.push(Span { offset, length: 1 });
            }
        }
        next = target + 1;
        out_buckets.push(B::kept(count, previous));
        previous = count;
    }
    Ok((out_spans, out_buckets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Histogram;

    fn spans(of: &[(i32, u32)]) -> Vec<Span> {
        of.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    #[test]
    fn neighbours_become_one_bucket() {
        let mut histogram = Histogram {
            schema: 2,
            positive_spans: spans(&[(-3, 4), (1, 2)]),
            // Counts 1 3 2 5, 1 1 at -3..=0, 2..=3.
            positive_buckets: vec![1, 2, -1, 3, -4, 0],
            negative_spans: spans(&[(1, 1)]),
            negative_buckets: vec![7],
            ..Histogram::default()
        };
        histogram.reduce_resolution(1).unwrap();
        // Pairs (-3,-2) (-1,0) (1,2) (3,4) become -1, 0, 1, 2.
        assert_eq!(histogram.positive_spans, spans(&[(-1, 4)]));
        assert_eq!(histogram.positive_buckets, [4, 3, -6, 0]);
        assert_eq!((histogram.negative_spans, histogram.negative_buckets), (spans(&[(1, 1)]), vec![7]));
        assert_eq!(histogram.schema, 1);
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        let mut histogram = Histogram { schema: 2, positive_spans: spans(&[(0, 2)]), ..Histogram::default() };
        histogram.positive_buckets = vec![1];
        assert_eq!(histogram.clone().reduce_resolution(3), Err(InvalidHistogram::InvalidSchema));
        assert_eq!(histogram.clone().reduce_resolution(0), Err(InvalidHistogram::SpansBucketsMismatch));
        histogram.positive_spans = spans(&[(0, 1), (-1, 1)]);
        assert_eq!(histogram.reduce_resolution(0), Err(InvalidHistogram::SpanNegativeOffset));
    }
}
