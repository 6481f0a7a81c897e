//! Histograms with different lists of bounds, brought to the bounds that both have.
//!
//! Compat: prometheus `model/histogram`, `addCustomBucketsWithMismatches`.

use super::{Counts, Span};
use crate::elementary::kahan_add;

/// The bounds in both lists, which ascend.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut rest = b;
    let is_common = |bound: &f64| {
        rest = &rest[rest.partition_point(|other| other < bound)..];
        rest.first() == Some(bound)
    };
    a.iter().copied().filter(is_common).collect()
}

/// Counts in the buckets of common bounds, as compensated sums.
pub(super) struct Reconciled<'a> {
    bounds: &'a [f64],
    sums: Vec<(f64, f64)>,
}

impl<'a> Reconciled<'a> {
    pub(super) fn new(bounds: &'a [f64]) -> Self {
        Self { bounds, sums: vec![(0.0, 0.0); bounds.len() + 1] }
    }

    /// Adds the buckets of a histogram with `bounds`, which the common ones are from; `c` are compensations.
    pub(super) fn add(&mut self, spans: &[Span], buckets: &[f64], c: Option<&[f64]>, bounds: &[f64]) {
        for (at, (index, count)) in Counts::new(spans, buckets).enumerate() {
            let sum = &mut self.sums[bucket_of(index, bounds, self.bounds)];
            *sum = kahan_add(count, sum.0, sum.1);
            if let Some(&c) = c.and_then(|c| c.get(at)) {
                *sum = kahan_add(c, sum.0, sum.1);
            }
        }
    }

    pub(super) fn subtract(&mut self, spans: &[Span], buckets: &[f64], bounds: &[f64]) {
        for (index, count) in Counts::new(spans, buckets) {
            let sum = &mut self.sums[bucket_of(index, bounds, self.bounds)];
            *sum = kahan_add(-count, sum.0, sum.1);
        }
    }

    /// Spans, buckets and compensations; what is empty is left out.
    pub(super) fn finish(self) -> (Vec<Span>, Vec<f64>, Vec<f64>) {
        let (mut spans, mut buckets, mut cs): (Vec<Span>, Vec<f64>, Vec<f64>) = Default::default();
        let mut gap = 0;
        for (sum, c) in self.sums {
            if sum == 0.0 && c == 0.0 {
                gap += 1;
                continue;
            }
            buckets.push(sum);
            cs.push(c);
            match spans.last_mut().filter(|_| gap == 0) {
                Some(span) => span.length += 1,
                None => spans.push(Span { offset: std::mem::take(&mut gap), length: 1 }),
            }
        }
        (spans, buckets, cs)
    }
}

/// The bucket of `common` into which bucket `index` of `bounds` falls.
pub(super) fn bucket_of(index: i32, bounds: &[f64], common: &[f64]) -> usize {
    let bound = usize::try_from(index).map_or(bounds.first(), |index| bounds.get(index));
    bound.map_or(common.len(), |bound| common.partition_point(|other| other < bound))
}
