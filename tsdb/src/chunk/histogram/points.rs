//! Chunks of histograms as readers want them: floats, in memory that was used before, without what they do not look at.
//!
//! All samples of a chunk but the first carry the hint that says whether counts went back, so whoever looks at counts
//! and sums alone needs the buckets of no sample between the first and the last.

use model::histogram::{BucketCount, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, SCHEMA_MAX};
use model::{Detail, FloatHistogram, HistogramPoints, SampleBatch, TimeRange};

use super::tracked::Tracked;
use super::{Decoder, Kind, open};
use crate::DecodeError;

/// As [`super::decode`]; with [`Detail::Stats`], only the first and the last of the samples that are no staleness
/// markers have buckets.
pub(in crate::chunk) fn decode<K: Kind>(
    chunk: &[u8],
    with_start: bool,
    n: u16,
    range: TimeRange,
    detail: Detail,
    out: &mut HistogramPoints,
) -> Result<(), DecodeError> {
    let (header, start, mut bits) = open(chunk, with_start)?;
    if n == 0 {
        return Ok(());
    }
    let mut decoder = Decoder::<K>::begin(&mut bits, start)?;
    if decoder.layout.schema > SCHEMA_MAX {
        // From a newer server, seldom, and to be reduced before integers become floats.
        let mut batch = SampleBatch::default();
        let decoded = super::decode::<K>(chunk, with_start, n, range, &mut batch);
        out.take_from(&mut batch.histograms);
        return decoded;
    }
    // The last sample without buckets, with the zero count that it had.
    let mut bare = None;
    let mut is_first = true;
    for index in 0..n {
        if index > 0 {
            decoder.advance_time(&mut bits)?;
        }
        if decoder.t > range.maxt {
            break;
        }
        if index > 0 {
            decoder.advance_rest(&mut bits, index)?;
        }
        if decoder.t < range.mint {
            continue;
        }
        let (t, st, hint) = (decoder.t, decoder.st, header.hint(index));
        let sum = decoder.sum.value();
        if model::is_stale(sum) {
            out.push_with(t, st, |h| h.copy_from(&FloatHistogram { sum, ..FloatHistogram::default() }));
        } else if is_first || detail == Detail::All {
            is_first = false;
            out.push_with(t, st, |h| decoder.fill(hint, h));
        } else {
            bare = Some((out.len(), decoder.zero));
            out.push_with(t, st, |h| {
                h.clear_buckets();
                (h.zero_threshold, h.zero_count) = (0.0, 0.0);
                decoder.fill_totals(hint, h);
            });
        }
    }
    // Nothing was read of the sample behind it but the time, or of a staleness marker but the totals.
    if let Some((at, zero)) = bare {
        let last = std::sync::Arc::get_mut(&mut out[at].value).expect("nobody else has seen it");
        decoder.fill_buckets(zero, last);
    }
    Ok(())
}

impl<K: Kind> Decoder<K> {
    /// Makes `h` the sample as a histogram of floats.
    fn fill(&self, hint: CounterResetHint, h: &mut FloatHistogram) {
        self.fill_totals(hint, h);
        self.fill_buckets(self.zero, h);
    }

    fn fill_totals(&self, hint: CounterResetHint, h: &mut FloatHistogram) {
        h.counter_reset_hint = hint;
        h.schema = self.layout.schema;
        h.count = K::float(self.total.value());
        h.sum = self.sum.value();
    }

    /// Integer histograms with custom buckets lose what these have not, see [`model::Histogram::into_float`].
    fn fill_buckets(&self, zero: K::Total, h: &mut FloatHistogram) {
        let layout = &self.layout;
        h.positive_spans.clone_from(&layout.positive_spans);
        h.custom_values.clone_from(&layout.custom_values);
        float_buckets(&self.positive, &mut h.positive_buckets);
        if K::IS_FLOAT || layout.schema != CUSTOM_BUCKETS_SCHEMA {
            (h.zero_threshold, h.zero_count) = (layout.zero_threshold, K::float(zero.value()));
            h.negative_spans.clone_from(&layout.negative_spans);
            float_buckets(&self.negative, &mut h.negative_buckets);
        } else {
            (h.zero_threshold, h.zero_count) = (0.0, 0.0);
            h.negative_spans.clear();
            h.negative_buckets.clear();
        }
    }
}

/// Counts as floats, summed as floats where they are told as differences, as upstream sums.
fn float_buckets<T: Tracked<Value: FloatCount>>(buckets: &[T], out: &mut Vec<f64>) {
    out.clear();
    let mut before = 0.0;
    out.extend(buckets.iter().map(|bucket| {
        before = bucket.value().float_after(before);
        before
    }));
}

/// What is kept per bucket, on its way to a float.
pub(in crate::chunk) trait FloatCount: BucketCount {
    /// The count in a bucket, given that in the bucket before.
    fn float_after(self, before: f64) -> f64;
}

impl FloatCount for i64 {
    fn float_after(self, before: f64) -> f64 {
        before + self as f64
    }
}

impl FloatCount for f64 {
    fn float_after(self, _: f64) -> f64 {
        self
    }
}

#[cfg(test)]
mod tests;
