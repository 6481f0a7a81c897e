//! What remains of a histogram below or above a bound.
//!
//! Compat: prometheus `model/histogram`, `FloatHistogram.TrimBuckets`.

use super::FloatHistogram;
use super::buckets::share_below;

/// The side of the bound that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimSide {
    /// `</`
    Below,
    /// `>/`
    Above,
}

/// What is kept of a bucket: a count, and the value that stands for each observation.
#[derive(Clone, Copy)]
struct Kept {
    count: f64,
    value: f64,
}

enum Trimmed {
    Whole(Kept),
    Part(Kept),
    Nothing,
}

impl FloatHistogram {
    /// Removes the observations on the other side of `bound`, estimating within the bucket that it cuts; then
    /// compacts. The sum becomes an estimate unless nothing was removed.
    pub fn trim(&mut self, bound: f64, keep: TrimSide) {
        let (mut count, mut sum) = (0.0, 0.0);
        let mut changed = false;
        let mut add = |kept: Kept| {
            count += kept.count;
            sum += kept.value * kept.count;
        };
        let mut has = [false; 2];
        for side in [0, 1] {
            let is_positive = side == 0;
            let n = if is_positive { self.positive_buckets.len() } else { self.negative_buckets.len() };
            let mut indices = if is_positive { self.positive_counts() } else { self.negative_counts() };
            let mut kept_counts = Vec::new();
            // Neighbours share a bound.
            let mut known: Option<(i32, f64)> = None;
            for at in 0..n {
                let Some((index, found)) = indices.next() else { break };
                if found == 0.0 {
                    continue;
                }
                has[side] = true;
                let near = match known {
                    Some((before, end)) if index.checked_sub(1) == Some(before) => end,
                    _ => self.bound(index.saturating_sub(1)),
                };
                let far = self.bound(index);
                known = Some((index, far));
                let (lower, upper) = if is_positive { (near, far) } else { (-far, -near) };
                match self.trimmed(lower, upper, found, bound, keep, is_positive) {
                    Trimmed::Whole(kept) => add(kept),
                    Trimmed::Part(kept) => {
                        add(kept);
                        if kept.count != found {
                            kept_counts.push((at, kept.count));
                        }
                    }
                    Trimmed::Nothing => kept_counts.push((at, 0.0)),
                }
            }
            changed |= !kept_counts.is_empty();
            let buckets = if is_positive { &mut self.positive_buckets } else { &mut self.negative_buckets };
            for (at, kept) in kept_counts {
                buckets[at] = kept;
            }
        }
        if self.zero_count > 0.0 {
            let kept = self.trimmed_zero_bucket(bound, keep, has);
            changed |= self.zero_count != kept.count;
            self.zero_count = kept.count;
            add(kept);
        }
        if changed {
            (self.count, self.sum) = (count, sum);
            self.compact(0);
        }
    }

    /// What is kept of an ordinary bucket.
    fn trimmed(
        &self,
        lower: f64,
        upper: f64,
        count: f64,
        bound: f64,
        keep: TrimSide,
        is_positive: bool,
    ) -> Trimmed {
        let linear = self.uses_custom_buckets();
        let (is_kept, is_cut) = match keep {
            TrimSide::Below => (upper <= bound, lower < bound),
            TrimSide::Above => (lower >= bound, upper > bound),
        };
        if is_kept {
            return Trimmed::Whole(Kept { count, value: middle(lower, upper, is_positive, linear) });
        }
        if !is_cut {
            return Trimmed::Nothing;
        }
        if lower == f64::NEG_INFINITY || upper == f64::INFINITY {
            return Trimmed::Part(open_end(lower, upper, count, bound, keep));
        }
        let below = if bound <= lower {
            0.0
        } else if bound >= upper {
            count
        } else {
            count * share_below(lower, upper, bound, linear)
        };
        Trimmed::Part(match keep {
            TrimSide::Below => Kept { count: below, value: middle(lower, bound, is_positive, linear) },
            TrimSide::Above => {
                Kept { count: count - below, value: middle(bound, upper, is_positive, linear) }
            }
        })
    }

    /// What is kept of the zero bucket, which ends at zero on the side where there are no other observations.
    fn trimmed_zero_bucket(
        &self,
        bound: f64,
        keep: TrimSide,
        [has_positive, has_negative]: [bool; 2],
    ) -> Kept {
        let lower = if has_positive && !has_negative { 0.0 } else { -self.zero_threshold };
        let upper = if has_negative && !has_positive { 0.0 } else { self.zero_threshold };
        let all = Kept { count: self.zero_count, value: half_sum(lower, upper) };
        let nothing = Kept { count: 0.0, value: 0.0 };
        let part = |from: f64, to: f64| Kept {
            count: self.zero_count * ((to - from) / (upper - lower)),
            value: half_sum(from, to),
        };
        match keep {
            TrimSide::Below if bound <= lower => nothing,
            TrimSide::Below if bound >= upper => all,
            TrimSide::Below => part(lower, bound),
            TrimSide::Above if bound <= lower => all,
            TrimSide::Above if bound >= upper => nothing,
            TrimSide::Above => part(bound, upper),
        }
    }
}

/// A bucket without an end, which only custom bounds have, cut at `bound`: how observations lie in it is not known,
/// but that a first bucket with a positive bound is taken to begin at zero.
fn open_end(lower: f64, upper: f64, count: f64, bound: f64, keep: TrimSide) -> Kept {
    let finite_or_zero = |v: f64| if v.is_infinite() { 0.0 } else { v };
    if lower == f64::NEG_INFINITY {
        let (count, value) = match keep {
            TrimSide::Below if bound >= upper => (count, 0.0),
            TrimSide::Below if bound > 0.0 && upper > 0.0 && upper != f64::INFINITY => {
                (count * bound / upper, bound / 2.0)
            }
            TrimSide::Below if upper <= 0.0 => (count, bound),
            TrimSide::Above if bound <= lower => (count, 0.0),
            TrimSide::Above if bound >= 0.0 && upper > bound && upper != f64::INFINITY => {
                (count * (1.0 - bound / upper), half_sum(bound, upper))
            }
            _ => (0.0, finite_or_zero(upper)),
        };
        return Kept { count, value };
    }
    match keep {
        TrimSide::Above if bound >= lower => Kept { count, value: bound },
        _ => Kept { count: 0.0, value: finite_or_zero(lower) },
    }
}

/// The value that stands for those between two bounds.
fn middle(lower: f64, upper: f64, is_positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => {
            if upper > 0.0 {
                upper / 2.0
            } else {
                upper
            }
        }
        (false, true) => lower,
        (false, false) if linear => half_sum(lower, upper),
        (false, false) => {
            let geometric = (lower * upper).abs().sqrt();
            if is_positive { geometric } else { -geometric }
        }
    }
}

#[expect(clippy::manual_midpoint, reason = "overflows where upstream's does")]
fn half_sum(a: f64, b: f64) -> f64 {
    (a + b) / 2.0
}
