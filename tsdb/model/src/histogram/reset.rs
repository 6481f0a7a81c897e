//! Whether counts went back between two histograms.
//!
//! Compat: prometheus `model/histogram`, `FloatHistogram.DetectReset`.

use super::arithmetic::inside_zero_bucket;
use super::custom::{bucket_of, common_bounds};
use super::{CounterResetHint, Counts, FloatHistogram, Span};

impl FloatHistogram {
    /// Whether some count went back since `previous`, so that the counter must have begun anew; a hint decides
    /// without looking. The sum is never looked at.
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::CounterReset => return true,
            CounterResetHint::NotCounterReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return self.is_reset_in_common_bounds(previous);
            }
        }
        // A finer schema or a narrower zero bucket cannot come from the same counter; nor can a wider one whose end
        // lies in the middle of what was counted.
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let zero = previous.zero_bucket_at(self.zero_threshold, None);
        if zero.threshold != self.zero_threshold || self.zero_count < zero.count {
            return true;
        }
        let sides = [
            (
                &self.positive_spans,
                &self.positive_buckets,
                &previous.positive_spans,
                &previous.positive_buckets,
            ),
            (
                &self.negative_spans,
                &self.negative_buckets,
                &previous.negative_spans,
                &previous.negative_buckets,
            ),
        ];
        sides.into_iter().any(|(spans, buckets, previous_spans, previous_buckets)| {
            if self.schema == previous.schema && spans == previous_spans {
                let from = self.below_zero_threshold(spans, buckets.len()).min(previous_buckets.len());
                return buckets[from..]
                    .iter()
                    .zip(&previous_buckets[from..])
                    .any(|(now, before)| now < before);
            }
            let now = self.counts_above_zero(spans, buckets, self);
            let before = self.counts_above_zero(previous_spans, previous_buckets, previous);
            went_back(now, before)
        })
    }

    /// How many buckets to leave out because the zero bucket covers them.
    fn below_zero_threshold(&self, spans: &[Span], n_buckets: usize) -> usize {
        if self.uses_custom_buckets() || self.zero_threshold == 0.0 {
            return 0;
        }
        inside_zero_bucket(spans, n_buckets, self.schema, self.zero_threshold)
    }

    /// The buckets of a side of `of` as they would be in the schema of this histogram, above its zero bucket.
    fn counts_above_zero<'a>(
        &self,
        spans: &'a [Span],
        buckets: &'a [f64],
        of: &Self,
    ) -> impl Iterator<Item = (i32, f64)> + use<'a> {
        let shift = if self.uses_custom_buckets() { 0 } else { of.schema.abs_diff(self.schema).min(31) };
        let mut counts =
            Counts::new(spans, buckets).map(move |(index, count)| (coarser(index, shift), count)).peekable();
        let merged = std::iter::from_fn(move || {
            let (index, mut sum) = counts.next()?;
            while let Some((_, count)) = counts.next_if(|(next, _)| *next == index) {
                sum += count;
            }
            Some((index, sum))
        });
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let skips = !self.uses_custom_buckets() && threshold != 0.0;
        merged.skip_while(move |&(index, _)| skips && super::bounds::upper(index, schema, &[]) <= threshold)
    }

    /// The same question for different custom bounds: in the buckets that both have.
    fn is_reset_in_common_bounds(&self, previous: &Self) -> bool {
        let common = common_bounds(&self.custom_values, &previous.custom_values);
        let counts = |of: &Self| {
            let mut sums = vec![0.0; common.len() + 1];
            for (index, count) in of.positive_counts() {
                sums[bucket_of(index, &of.custom_values, &common)] += count;
            }
            sums
        };
        counts(self).iter().zip(counts(previous)).any(|(now, before)| *now < before)
    }
}

/// The bucket of a schema coarser by `shift` that holds bucket `index`.
fn coarser(index: i32, shift: u32) -> i32 {
    if shift == 0 { index } else { (index.saturating_sub(1) >> shift) + 1 }
}

/// Whether a bucket is lower than before, or missing though it held something.
///
/// Behind the last bucket there is now, only the first one that is missing is looked at: upstream does not go on, and
/// where it sees no reset there must be none.
fn went_back(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        while now.next_if(|(i, _)| *i < index).is_some() {}
        let is_lower = match now.peek() {
            Some(&(i, current)) if i == index => current < count,
            Some(_) => count != 0.0,
            None => return count != 0.0,
        };
        if is_lower {
            return true;
        }
    }
    false
}
