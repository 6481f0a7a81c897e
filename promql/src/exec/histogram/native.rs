//! Quantiles, fractions and moments of native histograms.
//!
//! Counts are added up first; bounds are computed of the few buckets that matter.
//!
//! Compat: prometheus `promql/quantile.go`, `HistogramQuantile`, `HistogramFraction`; `promql/functions.go`,
//! `histogramVariance` (3.14).

use model::FloatHistogram;
use model::elementary::{exp2, kahan_add, log2};
use model::histogram::{Interval, Place};

use crate::plan::HistogramFn;

/// What there is to say about a quantile or a fraction of a histogram that has observed NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NanRemark {
    /// Of quantiles: the result is NaN.
    Result,
    /// Of quantiles: the result is skewed. Of fractions: observations are missing.
    Missing,
}

pub(crate) fn accessor(func: HistogramFn, h: &FloatHistogram) -> f64 {
    match func {
        HistogramFn::Count => h.count,
        HistogramFn::Sum => h.sum,
        HistogramFn::Avg => h.sum / h.count,
        HistogramFn::Stddev => variance(h).sqrt(),
        HistogramFn::Stdvar => variance(h),
    }
}

/// The variance, every observation taken for the middle of its bucket.
#[expect(clippy::manual_midpoint, reason = "overflows where upstream's does")]
fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut sum, mut c) = (0.0, 0.0);
    for (place, count) in h.buckets().filter(|&(_, count)| count != 0.0) {
        let interval = h.clipped_interval(place);
        let Interval { lower, upper, .. } = interval;
        let middle = if h.uses_custom_buckets() {
            (upper + lower) / 2.0
        } else if interval.spans_zero() {
            0.0
        } else if upper < 0.0 {
            -(upper * lower).sqrt()
        } else {
            (upper * lower).sqrt()
        };
        let delta = middle - mean;
        (sum, c) = kahan_add(count * delta * delta, sum, c);
    }
    (sum + c) / h.count
}

/// The value at quantile `q`.
pub(super) fn quantile(q: f64, h: &FloatHistogram) -> (f64, Option<NanRemark>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // Observations of NaN are in no bucket: from above, they would be taken for those of the highest buckets.
    if h.sum.is_nan() || q < 0.5 {
        quantile_by(h, q * h.count, true, h.buckets())
    } else {
        quantile_by(h, (1.0 - q) * h.count, false, h.buckets().rev())
    }
}

fn quantile_by(
    h: &FloatHistogram,
    rank: f64,
    upwards: bool,
    mut buckets: impl Iterator<Item = (Place, f64)>,
) -> (f64, Option<NanRemark>) {
    let mut found: Option<(Place, f64)> = None;
    let mut passed = 0.0;
    for (place, count) in buckets.by_ref() {
        found = Some((place, count));
        if count == 0.0 {
            continue;
        }
        passed += count;
        if passed >= rank {
            break;
        }
    }
    let nothing = Interval { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false };
    let mut interval = found.map_or(nothing, |(place, _)| h.clipped_interval(place));
    let mut count = found.map_or(0.0, |(_, count)| count);
    if h.uses_custom_buckets() {
        if interval.lower == f64::NEG_INFINITY {
            if interval.upper <= 0.0 {
                return (interval.upper, None);
            }
            interval.lower = 0.0;
        } else if interval.upper == f64::INFINITY {
            return (interval.lower, None);
        }
    } else if interval.lower < 0.0 && interval.upper > 0.0 {
        end_at_zero(h, &mut interval);
    }
    // Rounding may have made more of it than there is.
    if passed > h.count {
        passed = h.count;
    }
    if passed < rank {
        if h.sum.is_nan() {
            return (f64::NAN, Some(NanRemark::Result));
        }
        return (interval.upper, None);
    }
    let rank = if upwards { rank - (passed - count) } else { passed - rank };
    let mut remark = None;
    if h.sum.is_nan() {
        let mut total = passed;
        for (place, rest) in buckets {
            total += rest;
            // Upstream goes on with the last bucket, not with the one that was found, and so must we.
            (interval, count) = (h.clipped_interval(place), rest);
        }
        remark = (total < h.count).then_some(NanRemark::Missing);
    }
    let share = rank / count;
    let Interval { lower, upper, .. } = interval;
    let v = if h.uses_custom_buckets() || interval.spans_zero() {
        lower + (upper - lower) * share
    } else {
        let [lower_log, upper_log] = [lower, upper].map(|bound| log2(bound.abs()));
        if lower > 0.0 {
            exp2(lower_log + (upper_log - lower_log) * share)
        } else {
            -exp2(upper_log + (lower_log - upper_log) * (1.0 - share))
        }
    };
    (v, remark)
}

/// A zero bucket ends at zero on the side where there are no buckets at all.
fn end_at_zero(h: &FloatHistogram, interval: &mut Interval) {
    match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
        (true, false) => interval.lower = 0.0,
        (false, true) => interval.upper = 0.0,
        _ => {}
    }
}

/// The share of observations between `lower` and `upper`.
pub(super) fn fraction(lower: f64, upper: f64, h: &FloatHistogram) -> (f64, Option<NanRemark>) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let (mut below_lower, mut below_upper) = (None, None);
    // What is below the bucket, and with it.
    let (mut rank, mut total) = (0.0, 0.0);
    for (place, count) in h.buckets() {
        total += count;
        if below_lower.is_none() || below_upper.is_none() {
            let mut interval = h.clipped_interval(place);
            let linear = h.uses_custom_buckets() || interval.spans_zero();
            if interval.spans_zero() {
                end_at_zero(h, &mut interval);
            }
            for (bound, below) in [(lower, &mut below_lower), (upper, &mut below_upper)] {
                if below.is_some() {
                    continue;
                }
                if interval.lower >= bound {
                    *below = Some(rank);
                } else if interval.upper > bound {
                    let within = || rank + count * interval.share_below(bound, linear);
                    let endless = linear && interval.lower == f64::NEG_INFINITY;
                    *below = Some(if endless { count } else { within() });
                }
            }
        } else if !h.sum.is_nan() {
            break;
        }
        rank += count;
    }
    let mut remark = None;
    if h.sum.is_nan() {
        remark = (total < h.count).then_some(NanRemark::Missing);
    } else {
        total = h.count;
    }
    let up_to_total =
        |below: Option<f64>| below.map_or(total, |below| if below > total { total } else { below });
    ((up_to_total(below_upper) - up_to_total(below_lower)) / h.count, remark)
}
