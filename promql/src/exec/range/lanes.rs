//! Sums over the windows of several steps at once: a lane per window.
//!
//! A compensated sum is a chain in which each addition waits for the one before, and a window must be added in order
//! to give upstream's bits. The windows of neighbouring steps do not wait for each other, so they go side by side,
//! each exactly as it would go alone. Where one begins a sample after the other, which is so when steps and samples
//! have the same distance, the samples of all lanes lie side by side, too.
//!
//! Compat: prometheus `promql/functions.go` (3.14), `funcSumOverTime`, `funcAvgOverTime`, `varianceOverTime`,
//! `funcDoubleExponentialSmoothing`.

use std::array::from_fn;

use super::super::math::{Mean, kahan_add};

/// Windows that are computed at once.
pub(super) const LANES: usize = 8;

type Lane = [f64; LANES];

/// The samples of the windows.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a> {
    all: [&'a [f64]; LANES],
    /// What every window has.
    shared: usize,
    /// The samples of all windows, if each begins one after that before it.
    shifted: Option<&'a [f64]>,
}

impl<'a> Windows<'a> {
    /// The windows `lo..hi` of `vs`; none is empty.
    pub(super) fn new(vs: &'a [f64], spans: [(usize, usize); LANES]) -> Self {
        let all = spans.map(|(lo, hi)| &vs[lo..hi]);
        let shared = all.iter().map(|window| window.len()).min().unwrap_or(0);
        let is_shifted = spans.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1);
        let first = spans[0].0;
        let shifted = if is_shifted { vs.get(first..first + shared + LANES - 1) } else { None };
        Self { all, shared, shifted }
    }

    /// Hands `f` the samples that all windows have, place by place from `from` on.
    #[inline]
    fn each_shared(&self, from: usize, mut f: impl FnMut(usize, Lane)) {
        if let Some(vs) = self.shifted {
            for (i, lane) in vs.array_windows::<LANES>().enumerate().skip(from) {
                f(i, *lane);
            }
        } else {
            let heads = self.all.map(|window| &window[..self.shared]);
            (from..self.shared).for_each(|i| f(i, from_fn(|l| heads[l][i])));
        }
    }

    /// What window `l` has beyond the others.
    fn tail(&self, l: usize) -> &'a [f64] {
        &self.all[l][self.shared..]
    }

    fn firsts(&self) -> Lane {
        self.all.map(|window| window[0])
    }
}

/// The compensated sum of each window.
pub(super) fn sum(windows: &Windows<'_>) -> Lane {
    let (mut sum, mut c) = ([0.0; LANES], [0.0; LANES]);
    windows.each_shared(0, |_, vs| add(&vs, &mut sum, &mut c));
    from_fn(|l| {
        let (mut sum, mut c) = (sum[l], c[l]);
        for &v in windows.tail(l) {
            (sum, c) = kahan_add(v, sum, c);
        }
        if sum.is_infinite() { sum } else { sum + c }
    })
}

#[inline]
fn add(vs: &Lane, sum: &mut Lane, c: &mut Lane) {
    for l in 0..LANES {
        (sum[l], c[l]) = kahan_add(vs[l], sum[l], c[l]);
    }
}

/// The mean of each window.
pub(super) fn mean(windows: &Windows<'_>) -> Lane {
    let (mut sum, mut c) = (windows.firsts(), [0.0; LANES]);
    windows.each_shared(1, |_, vs| add(&vs, &mut sum, &mut c));
    from_fn(|l| {
        let (mut sum, mut c) = (sum[l], c[l]);
        for &v in windows.tail(l) {
            (sum, c) = kahan_add(v, sum, c);
        }
        if sum.is_finite() {
            let count = windows.all[l].len() as f64;
            return sum / count + c / count;
        }
        // A sum that overflows is not what is wanted: the mean goes on otherwise from there.
        let mut mean = Mean::default();
        windows.all[l].iter().for_each(|&v| mean.push(v));
        mean.get()
    })
}

/// Welford's population variance of each window, mean and sum of squares compensated.
pub(super) fn variance(windows: &Windows<'_>) -> Lane {
    let mut state = [[0.0; LANES]; 4];
    windows.each_shared(0, |i, vs| {
        let count = (i + 1) as f64;
        let [mean, c_mean, aux, c_aux] = &mut state;
        for l in 0..LANES {
            welford(count, vs[l], &mut mean[l], &mut c_mean[l], &mut aux[l], &mut c_aux[l]);
        }
    });
    from_fn(|l| {
        let [mut mean, mut c_mean, mut aux, mut c_aux] = state.map(|lane| lane[l]);
        for (i, &v) in windows.tail(l).iter().enumerate() {
            let count = (windows.shared + i + 1) as f64;
            welford(count, v, &mut mean, &mut c_mean, &mut aux, &mut c_aux);
        }
        (aux + c_aux) / windows.all[l].len() as f64
    })
}

#[inline]
fn welford(count: f64, v: f64, mean: &mut f64, c_mean: &mut f64, aux: &mut f64, c_aux: &mut f64) {
    let delta = v - (*mean + *c_mean);
    (*mean, *c_mean) = kahan_add(delta / count, *mean, *c_mean);
    (*aux, *c_aux) = kahan_add(delta * (v - (*mean + *c_mean)), *aux, *c_aux);
}

/// Holt's linear double exponential smoothing of each window, all of which have two samples at least.
pub(super) fn smooth(windows: &Windows<'_>, sf: Lane, tf: Lane) -> Lane {
    let first = windows.firsts();
    let second: Lane = from_fn(|l| windows.all[l][1]);
    let mut trend: Lane = from_fn(|l| second[l] - first[l]);
    let mut s0 = first;
    let mut s1: Lane = from_fn(|l| sf[l] * second[l] + (1.0 - sf[l]) * (first[l] + trend[l]));
    windows.each_shared(2, |_, vs| {
        for l in 0..LANES {
            step(vs[l], sf[l], tf[l], &mut s0[l], &mut s1[l], &mut trend[l]);
        }
    });
    from_fn(|l| {
        let (mut s0, mut s1, mut trend) = (s0[l], s1[l], trend[l]);
        for &v in &windows.all[l][windows.shared.max(2)..] {
            step(v, sf[l], tf[l], &mut s0, &mut s1, &mut trend);
        }
        s1
    })
}

#[inline]
fn step(v: f64, sf: f64, tf: f64, s0: &mut f64, s1: &mut f64, trend: &mut f64) {
    *trend = tf * (*s1 - *s0) + (1.0 - tf) * *trend;
    (*s0, *s1) = (*s1, sf * v + (1.0 - sf) * (*s1 + *trend));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = f64> {
        let special =
            vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, 1e300, -1e300, 1e-300];
        prop_oneof![
            8 => -1e6..1e6,
            2 => (0..1000).prop_map(f64::from),
            1 => proptest::sample::select(special),
        ]
    }

    /// Windows that move on as those of steps do: neither end goes back.
    fn spans(n: usize) -> impl Strategy<Value = [(usize, usize); LANES]> {
        let moves = proptest::collection::vec((0..3_usize, 0..3_usize), LANES);
        let shifted = (2..20_usize).prop_map(|len| from_fn(|l| (l, l + len)));
        let any = (2..20_usize, moves).prop_map(move |(len, moves)| {
            let (mut lo, mut hi) = (0, len);
            from_fn(|l| {
                (lo, hi) = (lo + moves[l].0, hi + moves[l].1);
                hi = hi.max(lo + 2).min(n);
                lo = lo.min(hi - 2);
                (lo, hi)
            })
        });
        prop_oneof![shifted, any]
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    fn alone(vs: &[f64], compute: fn(&[f64]) -> f64) -> impl Fn((usize, usize)) -> f64 {
        move |(lo, hi)| compute(&vs[lo..hi])
    }

    proptest! {
        #[test]
        fn every_lane_is_what_its_window_gives_alone(
            vs in proptest::collection::vec(value(), 64),
            spans in spans(64),
        ) {
            let windows = Windows::new(&vs, spans);
            let sums = spans.map(alone(&vs, |vs| {
                let (sum, c) = vs.iter().fold((0.0, 0.0), |(sum, c), &v| kahan_add(v, sum, c));
                if f64::is_infinite(sum) { sum } else { sum + c }
            }));
            let means = spans.map(alone(&vs, |vs| {
                let mut mean = Mean::default();
                for &v in vs {
                    mean.push(v);
                }
                mean.get()
            }));
            let variances = spans.map(alone(&vs, super::super::floats::variance));
            let smoothed = spans.map(alone(&vs, |vs| super::super::floats::smooth(vs, 0.3, 0.1).unwrap()));
            let lanes = [
                (sum(&windows), sums),
                (mean(&windows), means),
                (variance(&windows), variances),
                (smooth(&windows, [0.3; LANES], [0.1; LANES]), smoothed),
            ];
            for (n, (got, expected)) in lanes.into_iter().enumerate() {
                for l in 0..LANES {
                    prop_assert!(same(got[l], expected[l]), "{n}: {} is not {}", got[l], expected[l]);
                }
            }
        }
    }
}
