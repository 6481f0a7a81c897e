//! Quantiles and fractions of classic histograms, whose buckets are series with the label `le`.
//!
//! Which row is which bucket of which histogram is worked out once per query. Where all buckets have a sample at the
//! steps of a word, and no count falls below or comes near its predecessor, the bucket of a quantile is found for
//! those steps side by side; all other steps gather their buckets one by one.
//!
//! Compat: prometheus `promql/quantile.go`, `BucketQuantile`, `BucketFraction` (3.14).

use model::Labels;

use crate::annotations::Repair;
use crate::exec::column::{Block, Grid, Row, Scalars, bits};
use crate::exec::order;

/// Relative difference up to which two counts are taken for equal.
const TOLERANCE: f64 = 1e-12;

/// Steps that share a word of a bitmap.
const LANES: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub(super) upper: f64,
    /// Cumulative.
    pub(super) count: f64,
}

/// One classic histogram.
pub(super) struct Classic {
    /// Without `le`.
    pub(super) labels: Labels,
    /// Its buckets as (upper bound, row), bounds ascending if they can be ordered.
    buckets: Vec<(f64, usize)>,
    /// A bound that is no number has no place: where the others end up depends on what is there at a step.
    is_ordered: bool,
    /// The steps at which a native histogram has the same labels; empty if there are none.
    pub(super) taken: Vec<u64>,
}

impl Classic {
    pub(super) fn new(labels: Labels) -> Self {
        Self { labels, buckets: Vec::new(), is_ordered: true, taken: Vec::new() }
    }

    pub(super) fn push(&mut self, upper: f64, row: usize) {
        self.buckets.push((upper, row));
    }

    /// Has to be called behind the last bucket.
    pub(super) fn sort(&mut self) {
        self.is_ordered = !self.buckets.iter().any(|(upper, _)| upper.is_nan());
        if self.is_ordered {
            self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
    }

    /// Whether some bucket has a sample at `step`.
    pub(super) fn is_at(&self, block: &Block, step: usize) -> bool {
        self.buckets.iter().any(|&(_, row)| bits::get(block.present(row), step))
    }

    /// The steps of word `w` at which some bucket has a sample, and those at which all have.
    fn present(&self, block: &Block, w: usize) -> (u64, u64) {
        let words = self.buckets.iter().map(|&(_, row)| block.present(row)[w]);
        let (any, all) = words.fold((0, !0), |(any, all), word| (any | word, all & word));
        let free = !self.taken.get(w).copied().unwrap_or(0);
        (any & free, all & any & free)
    }

    /// The buckets that have a sample at `step`, equal bounds added up.
    fn buckets_at(&self, block: &Block, step: usize, out: &mut Vec<Bucket>) {
        out.clear();
        for &(upper, row) in &self.buckets {
            let Some(count) = block.get(row, step) else { continue };
            match out.last_mut() {
                Some(last) if self.is_ordered && last.upper == upper => last.count += count,
                _ => out.push(Bucket { upper, count }),
            }
        }
        if !self.is_ordered {
            order::sort(out, &|a: Bucket, b: Bucket| a.upper < b.upper);
            out.dedup_by(|next, last| {
                let is_same = last.upper == next.upper;
                last.count += if is_same { next.count } else { 0.0 };
                is_same
            });
        }
    }

    /// The values at quantile `q` at all steps, and how counts had to be repaired for it at those steps at which
    /// `tells` says that it has not been told yet.
    pub(super) fn quantiles_into(
        &self,
        block: &Block,
        q: &Scalars,
        row: &mut Row<'_>,
        tells: impl Fn(usize) -> bool,
    ) -> Option<Repair> {
        let mut repairs: Option<Repair> = None;
        let mut gathered = Vec::new();
        let bounds_differ = self.buckets.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let is_whole = self.is_ordered
            && bounds_differ
            && self.buckets.len() >= 2
            && self.buckets.last().is_some_and(|last| last.0 == f64::INFINITY);
        let mut lanes = Lanes::default();
        for w in 0..block.grid.words() {
            let (any, all) = self.present(block, w);
            let mut rest = any;
            if is_whole && all.count_ones() >= 4 {
                let clean = self.quantiles_of_word(block, w, q, &mut lanes, row.values) & all;
                row.present[w] |= clean;
                rest &= !clean;
            }
            for step in bits::ones_of(rest).map(|bit| w * LANES + bit) {
                self.buckets_at(block, step, &mut gathered);
                let (v, repair) = quantile(q.at(step), &mut gathered, block.grid.time(step));
                row.set(step, v);
                if let Some(repair) = repair.filter(|_| tells(step)) {
                    let repair = repair.of_step(step, block.grid.len);
                    repairs.get_or_insert(Repair { count: 0, at_first: 0, ..repair }).merge(&repair);
                }
            }
        }
        repairs
    }

    /// The values at the steps of word `w` whose bits come back: there all counts rise by more than the tolerance or
    /// stay, so that nothing has to be repaired. What it computes for others means nothing.
    fn quantiles_of_word(
        &self,
        block: &Block,
        w: usize,
        q: &Scalars,
        lanes: &mut Lanes,
        values: &mut [f64],
    ) -> u64 {
        let n = LANES.min(block.grid.len - w * LANES);
        let column = |bucket: usize| &block.values(self.buckets[bucket].1)[w * LANES..][..n];
        let last = self.buckets.len() - 1;
        let totals = column(last);
        let Lanes { clean, rank, below } = lanes;
        clean.fill(true);
        below.fill(0);
        for (lane, rank) in rank[..n].iter_mut().enumerate() {
            *rank = q.at(w * LANES + lane) * totals[lane];
        }
        for bucket in 0..last {
            let lanes = clean.iter_mut().zip(below.iter_mut()).zip(&*rank);
            for (((clean, below), rank), (a, b)) in lanes.zip(column(bucket).iter().zip(column(bucket + 1))) {
                // Ten times the tolerance, so that rounding does not matter; subnormal differences are left out.
                *clean &= (a == b) | (b - a > (a.abs() + b.abs()) * (10.0 * TOLERANCE) + 1e-300);
                *below += u32::from(a < rank);
            }
        }
        let mut done = 0;
        for lane in 0..n {
            let (q, total) = (q.at(w * LANES + lane), totals[lane]);
            if !clean[lane] || !total.is_finite() || !(0.0..=1.0).contains(&q) {
                continue;
            }
            done |= 1 << lane;
            let at = below[lane] as usize;
            let before = at.checked_sub(1).map(|before| (self.buckets[before].0, column(before)[lane]));
            let found =
                Found { before, end: self.buckets[at].0, count: column(at)[lane], is_last: at == last };
            values[w * LANES + lane] = if total == 0.0 { f64::NAN } else { found.interpolate(rank[lane]) };
        }
        done
    }

    /// The shares of observations between two bounds at all steps.
    pub(super) fn fractions_into(&self, block: &Block, lower: &Scalars, upper: &Scalars, row: &mut Row<'_>) {
        let mut gathered = Vec::new();
        for w in 0..block.grid.words() {
            for step in bits::ones_of(self.present(block, w).0).map(|bit| w * LANES + bit) {
                self.buckets_at(block, step, &mut gathered);
                row.set(step, fraction(lower.at(step), upper.at(step), &gathered));
            }
        }
    }

    /// Takes the histogram away at `step`.
    pub(super) fn take(&mut self, grid: Grid, step: usize) {
        self.taken.resize(grid.words(), 0);
        bits::set(&mut self.taken, step);
    }
}

/// What is computed for the steps of a word side by side.
struct Lanes {
    clean: [bool; LANES],
    rank: [f64; LANES],
    /// How many buckets end below the rank.
    below: [u32; LANES],
}

impl Default for Lanes {
    fn default() -> Self {
        Self { clean: [true; LANES], rank: [0.0; LANES], below: [0; LANES] }
    }
}

/// The bucket that a rank falls into.
struct Found {
    /// Bound and count of the bucket before.
    before: Option<(f64, f64)>,
    end: f64,
    count: f64,
    is_last: bool,
}

impl Found {
    fn interpolate(&self, rank: f64) -> f64 {
        match self.before {
            // Where observations lie in the last bucket is not known.
            Some((start, _)) if self.is_last => start,
            None if self.end <= 0.0 => self.end,
            None => 0.0 + (self.end - 0.0) * (rank / self.count),
            Some((start, before)) => start + (self.end - start) * ((rank - before) / (self.count - before)),
        }
    }
}

/// The value at quantile `q`, and how the counts had to be repaired for it.
pub(super) fn quantile(q: f64, buckets: &mut [Bucket], t: i64) -> (f64, Option<Repair>) {
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
    let last = buckets.len() - 1;
    let total = buckets[last].count;
    if last == 0 || total == 0.0 {
        return (f64::NAN, repair);
    }
    let rank = q * total;
    // Halved as upstream halves, since counts that are no numbers make it matter where one looks.
    let (mut at, mut end) = (0, last);
    while at < end {
        let middle = usize::midpoint(at, end);
        if buckets[middle].count >= rank {
            end = middle;
        } else {
            at = middle + 1;
        }
    }
    let before = at.checked_sub(1).map(|before| (buckets[before].upper, buckets[before].count));
    let found = Found { before, end: buckets[at].upper, count: buckets[at].count, is_last: at == last };
    (found.interpolate(rank), repair)
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
                at_first: 1,
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
pub(super) fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
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
