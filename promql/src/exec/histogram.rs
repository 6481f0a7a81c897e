//! Quantiles and fractions of classic histograms, whose buckets are series with the label `le`.
//!
//! Which row is which bucket of which histogram is worked out once; a step only gathers counts.
//!
//! Compat: prometheus `promql/quantile.go`, `BucketQuantile`, `BucketFraction` (3.14).

use hashbrown::HashMap;
use model::Labels;
use model::number::parse_go_float;

use super::Ctx;
use super::column::{Block, Series};
use super::stream::is_metadata;
use crate::annotations::{Annotation, Place, Repair};

/// Relative difference up to which two counts are taken for equal.
const TOLERANCE: f64 = 1e-12;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) upper: f64,
    /// Cumulative.
    pub(crate) count: f64,
}

/// One classic histogram: its buckets as (upper bound, row), bounds ascending.
pub(crate) struct Classic {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
    buckets: Vec<(f64, usize)>,
}

impl Classic {
    /// The buckets that have a sample at `step`, equal bounds added up.
    pub(crate) fn buckets_at(&self, block: &Block, step: usize, out: &mut Vec<Bucket>) {
        out.clear();
        for &(upper, row) in &self.buckets {
            let Some(count) = block.get(row, step) else { continue };
            match out.last_mut() {
                Some(last) if last.upper == upper => last.count += count,
                _ => out.push(Bucket { upper, count }),
            }
        }
    }

    pub(crate) fn output(&self, ctx: &Ctx<'_>) -> Series {
        if ctx.delayed_name_removal {
            return Series { labels: self.labels.clone(), drop_name: true };
        }
        Series { labels: self.labels.without(is_metadata), drop_name: false }
    }

    /// The name as far as annotations may show it.
    pub(crate) fn shown_name(&self, ctx: &Ctx<'_>) -> &[u8] {
        if ctx.delayed_name_removal { self.labels.metric_name() } else { b"" }
    }
}

/// Puts the rows of `block` together by all labels but `le`, in label order.
pub(crate) fn assemble(ctx: &Ctx<'_>, block: &Block, place: Place) -> Vec<Classic> {
    let mut known: HashMap<Labels, usize, foldhash::fast::FixedState> = HashMap::default();
    let mut all: Vec<Classic> = Vec::new();
    for (row, series) in block.series.iter().enumerate() {
        let le = series.labels.get(b"le").unwrap_or_default();
        let Some(upper) = parse_bound(le) else {
            let name = if ctx.delayed_name_removal { series.labels.metric_name() } else { b"" };
            ctx.annotate(Annotation::bad_bucket_label(le, name, place));
            continue;
        };
        let labels = series.labels.without(|name| name == b"le");
        let i = *known.entry(labels.clone()).or_insert_with(|| {
            all.push(Classic { labels, drop_name: false, buckets: Vec::new() });
            all.len() - 1
        });
        all[i].drop_name |= series.drop_name;
        all[i].buckets.push((upper, row));
    }
    for histogram in &mut all {
        histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

fn parse_bound(le: &[u8]) -> Option<f64> {
    parse_go_float(le).ok()
}

/// The value at quantile `q`, and how the counts had to be repaired for it.
pub(crate) fn quantile(q: f64, buckets: &mut [Bucket], t: i64) -> (f64, Option<Repair>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    let repair = make_monotonic(buckets, t);
    let n = buckets.len();
    let total = buckets[n - 1].count;
    if n < 2 || total == 0.0 {
        return (f64::NAN, repair);
    }
    let mut rank = q * total;
    let b = buckets[..n - 1].partition_point(|bucket| bucket.count < rank || bucket.count.is_nan());
    if b == n - 1 {
        return (buckets[n - 2].upper, repair);
    }
    let end = buckets[b].upper;
    if b == 0 && end <= 0.0 {
        return (end, repair);
    }
    let (mut start, mut count) = (0.0, buckets[b].count);
    if b > 0 {
        start = buckets[b - 1].upper;
        count -= buckets[b - 1].count;
        rank -= buckets[b - 1].count;
    }
    (start + (end - start) * (rank / count), repair)
}

/// Raises counts that fall below their predecessor. Differences within the tolerance are not worth a word.
fn make_monotonic(buckets: &mut [Bucket], t: i64) -> Option<Repair> {
    let mut repair: Option<Repair> = None;
    let mut prev = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        let cur = bucket.count;
        if cur == prev {
            continue;
        }
        if almost_equal(prev, cur) {
            bucket.count = prev;
            continue;
        }
        if cur < prev {
            let found = Repair {
                min_bucket: bucket.upper,
                max_bucket: bucket.upper,
                max_diff: prev - cur,
                count: 1,
                mint: t,
                maxt: t,
            };
            match &mut repair {
                Some(repair) => {
                    repair.merge(&found);
                    repair.count = 1;
                }
                None => repair = Some(found),
            }
            bucket.count = prev;
            continue;
        }
        prev = cur;
    }
    repair
}

fn almost_equal(a: f64, b: f64) -> bool {
    let (diff, sum) = ((a - b).abs(), a.abs() + b.abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

/// The share of observations between `lower` and `upper`.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let Some(total) = buckets.last().filter(|b| b.upper == f64::INFINITY).map(|b| b.count) else {
        return f64::NAN;
    };
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |bound: f64| {
        let mut rank = 0.0;
        for (i, bucket) in buckets.iter().enumerate() {
            let start = match i.checked_sub(1) {
                Some(before) => buckets[before].upper,
                None if bucket.upper > 0.0 => 0.0,
                None => f64::NEG_INFINITY,
            };
            if start >= bound {
                return rank;
            }
            if bucket.upper > bound {
                return if start == f64::NEG_INFINITY {
                    bucket.count
                } else if bucket.upper == f64::INFINITY {
                    rank
                } else {
                    rank + (bucket.count - rank) * (bound - start) / (bucket.upper - start)
                };
            }
            rank = bucket.count;
        }
        total
    };
    (rank_of(upper).min(total) - rank_of(lower).min(total)) / total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|&(upper, count)| Bucket { upper, count }).collect()
    }

    #[test]
    fn quantiles_interpolate_inside_a_bucket() {
        let all = buckets(&[(0.1, 1.0), (0.2, 3.0), (f64::INFINITY, 4.0)]);
        assert_eq!(quantile(0.5, &mut all.clone(), 0).0, 0.1 + 0.1 * (1.0 / 2.0));
        assert_eq!(quantile(1.0, &mut all.clone(), 0).0, 0.2, "the open bucket answers with its lower bound");
        assert_eq!(quantile(-1.0, &mut all.clone(), 0).0, f64::NEG_INFINITY);
        assert!(quantile(0.5, &mut all[..2].to_vec(), 0).0.is_nan(), "no +Inf bucket");
    }

    #[test]
    fn decreasing_counts_are_repaired_and_reported() {
        let mut all = buckets(&[(1.0, 5.0), (2.0, 3.0), (3.0, 4.0), (f64::INFINITY, 10.0)]);
        let (_, repair) = quantile(0.5, &mut all, 7);
        let repair = repair.expect("counts decreased");
        assert_eq!((repair.min_bucket, repair.max_bucket, repair.max_diff, repair.count), (2.0, 3.0, 2.0, 1));
        let mut close = buckets(&[(1.0, 5.0), (2.0, 5.0 - 1e-13), (f64::INFINITY, 10.0)]);
        assert!(quantile(0.5, &mut close, 7).1.is_none());
    }

    #[test]
    fn fractions_interpolate_at_both_ends() {
        let all = buckets(&[(1.0, 2.0), (2.0, 4.0), (f64::INFINITY, 8.0)]);
        assert_eq!(fraction(0.5, 1.5, &all), (3.0 - 1.0) / 8.0);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &all), 1.0);
        assert_eq!(fraction(2.0, 1.0, &all), 0.0);
    }
}
