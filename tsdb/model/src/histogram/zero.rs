//! Zero buckets of different widths, made equal before histograms are combined or compared.
//!
//! Compat: prometheus `model/histogram`, `reconcileZeroBuckets` and `zeroCountForLargerThreshold`.

use super::{FloatHistogram, Span, bounds, shape};
use crate::elementary::kahan_add;

/// A zero bucket, with what a compensated sum has lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct ZeroBucket {
    pub(super) count: f64,
    pub(super) c: f64,
    pub(super) threshold: f64,
}

impl FloatHistogram {
    /// The zero bucket if it were as wide as `threshold`, which is not below the present one; wider still where that
    /// would cut a bucket with observations in two. `c` holds compensations in the same layout.
    pub(super) fn zero_bucket_at(&self, threshold: f64, c: Option<&Self>) -> ZeroBucket {
        let mut zero = ZeroBucket { count: self.zero_count, c: c.map_or(0.0, |c| c.zero_count), threshold };
        if threshold == self.zero_threshold {
            return zero;
        }
        loop {
            // The compensation goes on through repetitions, as upstream's does.
            zero.count = self.zero_count;
            let side = (&self.positive_spans[..], &self.positive_buckets[..]);
            if let Some(end) = self.absorb(side, c.map(|c| &c.positive_buckets[..]), &mut zero) {
                zero.threshold = end;
            }
            let side = (&self.negative_spans[..], &self.negative_buckets[..]);
            match self.absorb(side, c.map(|c| &c.negative_buckets[..]), &mut zero) {
                // Now it reaches further on the positive side, too.
                Some(end) => zero.threshold = end,
                None => return zero,
            }
        }
    }

    /// Adds the buckets of a side that begin inside the zero bucket to it; the end of the last one, if it has
    /// observations and reaches beyond.
    fn absorb(&self, side: (&[Span], &[f64]), c: Option<&[f64]>, zero: &mut ZeroBucket) -> Option<f64> {
        for (at, (index, count)) in super::Counts::new(side.0, side.1).enumerate() {
            if self.bound(index.saturating_sub(1)) >= zero.threshold {
                return None;
            }
            (zero.count, zero.c) = kahan_add(count, zero.count, zero.c);
            if let Some(&c) = c.and_then(|c| c.get(at)) {
                (zero.count, zero.c) = kahan_add(c, zero.count, zero.c);
            }
            let end = self.bound(index);
            if end > zero.threshold {
                return (count != 0.0).then_some(end);
            }
        }
        None
    }

    pub(super) fn bound(&self, index: i32) -> f64 {
        bounds::upper(index, self.schema, &self.custom_values)
    }

    /// Widens the zero bucket until it is as wide as that of `other` could be; gives the latter. Absorbed buckets are
    /// gone then, and so are empty ones.
    pub(super) fn reconcile_zero_buckets(&mut self, other: &Self, mut c: Option<&mut Self>) -> ZeroBucket {
        let mut theirs = ZeroBucket { count: other.zero_count, c: 0.0, threshold: other.zero_threshold };
        while theirs.threshold != self.zero_threshold {
            if self.zero_threshold > theirs.threshold {
                theirs = other.zero_bucket_at(self.zero_threshold, None);
            }
            if theirs.threshold > self.zero_threshold {
                let mine = self.zero_bucket_at(theirs.threshold, c.as_deref());
                (self.zero_count, self.zero_threshold) = (mine.count, mine.threshold);
                if let Some(c) = c.as_deref_mut() {
                    c.zero_count = mine.c;
                }
                self.clear_inside_zero_bucket(c.as_deref_mut());
            } else if theirs.threshold != self.zero_threshold {
                // One of them is no number.
                break;
            }
        }
        theirs
    }

    fn clear_inside_zero_bucket(&mut self, c: Option<&mut Self>) {
        let inside = |spans: &[Span], buckets: &[f64]| {
            super::Counts::new(spans, buckets)
                .take_while(|&(index, _)| self.bound(index.saturating_sub(1)) < self.zero_threshold)
                .count()
        };
        let positive = inside(&self.positive_spans, &self.positive_buckets);
        let negative = inside(&self.negative_spans, &self.negative_buckets);
        self.positive_buckets[..positive].fill(0.0);
        self.negative_buckets[..negative].fill(0.0);
        let Some(c) = c else { return self.compact(0) };
        c.positive_buckets[..positive].fill(0.0);
        c.negative_buckets[..negative].fill(0.0);
        shape::compact_compensated(
            &mut self.positive_spans,
            &mut self.positive_buckets,
            &mut c.positive_buckets,
        );
        shape::compact_compensated(
            &mut self.negative_spans,
            &mut self.negative_buckets,
            &mut c.negative_buckets,
        );
    }
}
