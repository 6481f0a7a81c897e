//! Functions of windows without histograms, which nearly all are: one loop per function, one pass per series.
//!
//! Both ends of the window only ever move forward. What can be kept from window to window without changing
//! a bit of the result is kept (counter resets, changes, extrema); sums are taken anew for each window, in
//! order, because compensated sums cannot be taken back; only where the start of windows stays they go on.
//!
//! Compat: prometheus `promql/functions.go` (3.14), `extrapolatedRate` and the `_over_time` family.

use model::{SampleBatch, Timestamp};

use super::extrapolate::{Extent, Stretch};
use super::lanes::{self, LANES};
use super::{Call, Marks, Scratch, Seen, Span, Window};
use crate::engine::Error;
use crate::exec::column::{Grid, Row, bits};
use crate::exec::math::{self, Mean, kahan_add};
use crate::plan::RangeFn;

/// Computes a function for every step.
pub(super) fn apply(
    call: Call<'_>,
    floats: &SampleBatch,
    grid: Grid,
    scratch: &mut Scratch,
    row: Row<'_>,
) -> Result<Seen, Error> {
    let Call { func, span, params } = call;
    let Row { values, present, .. } = row;
    let (ts, vs) = (&*floats.ts, &*floats.vs);
    let seen;
    // One monomorphic loop per function.
    macro_rules! each {
        ($f:expr) => {{
            seen = walk(ts, span, grid, values, present, $f);
        }};
    }
    let scaled = |t: Timestamp| t as f64 / 1000.0;
    let seconds = super::range_seconds(span.range);
    match func {
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta => {
            let is_counter = func != RangeFn::Delta;
            let per = if func == RangeFn::Rate { Some(seconds) } else { None };
            scratch.marks.clear();
            if is_counter {
                scratch.marks.extend((1..vs.len()).filter(|&i| vs[i] < vs[i - 1]));
            }
            let mut marks = Marks::new(&scratch.marks);
            // Samples that come regularly lie in all windows alike.
            let mut known: Option<([i64; 3], usize, Stretch)> = None;
            each!(|w: Window| {
                if w.hi - w.lo < 2 {
                    return None;
                }
                let mut result = vs[w.hi - 1] - vs[w.lo];
                for &i in marks.inside(w.lo, w.hi) {
                    result += vs[i - 1];
                }
                let extent = Extent {
                    start: w.start,
                    end: w.end,
                    first: ts[w.lo],
                    last: ts[w.hi - 1],
                    gaps: w.hi - w.lo - 1,
                };
                let distances =
                    [extent.first - extent.start, extent.last - extent.first, extent.end - extent.last];
                let stretch = match &known {
                    Some((d, gaps, stretch)) if *d == distances && *gaps == extent.gaps => *stretch,
                    _ => {
                        let stretch = extent.stretch(per);
                        known = Some((distances, extent.gaps, stretch));
                        stretch
                    }
                };
                let share = (is_counter && result > 0.0 && vs[w.lo] >= 0.0).then(|| vs[w.lo] / result);
                Some(result * stretch.factor(share))
            });
        }
        RangeFn::Irate | RangeFn::Idelta => each!(|w: Window| {
            if w.hi - w.lo < 2 {
                return None;
            }
            let (last, before) = (w.hi - 1, w.hi - 2);
            let interval = ts[last] - ts[before];
            if interval == 0 {
                return None;
            }
            if func == RangeFn::Idelta {
                return Some(vs[last] - vs[before]);
            }
            let increase = if vs[last] < vs[before] { vs[last] } else { vs[last] - vs[before] };
            Some(increase / (interval as f64 / 1000.0))
        }),
        RangeFn::Changes | RangeFn::Resets => {
            let is_mark = |i: &usize| {
                let (prev, cur) = (vs[i - 1], vs[*i]);
                match func {
                    RangeFn::Resets => cur < prev,
                    _ => cur != prev && !(cur.is_nan() && prev.is_nan()),
                }
            };
            scratch.marks.clear();
            scratch.marks.extend((1..vs.len()).filter(is_mark));
            let mut marks = Marks::new(&scratch.marks);
            each!(|w: Window| Some(marks.inside(w.lo, w.hi).len() as f64));
        }
        RangeFn::Count => each!(|w: Window| Some((w.hi - w.lo) as f64)),
        RangeFn::Present => each!(|_: Window| Some(1.0)),
        RangeFn::Last => each!(|w: Window| Some(vs[w.hi - 1])),
        RangeFn::First => each!(|w: Window| Some(vs[w.lo])),
        RangeFn::TsOfFirst => each!(|w: Window| Some(scaled(ts[w.lo]))),
        RangeFn::TsOfLast => each!(|w: Window| Some(scaled(ts[w.hi - 1]))),
        RangeFn::Sum => {
            let out = (values, present);
            seen = walk_sums((ts, vs), span, grid, out, Sum::default(), lanes::sum);
        }
        RangeFn::Avg => {
            let out = (values, present);
            seen = walk_sums((ts, vs), span, grid, out, Mean::default(), lanes::mean);
        }
        RangeFn::Stdvar => {
            let out = (values, present);
            let lanes = |windows: &lanes::Windows<'_>| lanes::variance(windows);
            seen = walk_sums((ts, vs), span, grid, out, Variance::default(), lanes);
        }
        RangeFn::Stddev => {
            let out = (values, present);
            let lanes = |windows: &lanes::Windows<'_>| lanes::variance(windows).map(f64::sqrt);
            seen = walk_sums((ts, vs), span, grid, out, Deviation::default(), lanes);
        }
        RangeFn::Min | RangeFn::Max | RangeFn::TsOfMin | RangeFn::TsOfMax => {
            // The earliest extremum for its value, the latest for its time.
            let displaces: fn(f64, f64) -> bool = match func {
                RangeFn::Min => |new, old| new < old,
                RangeFn::Max => |new, old| new > old,
                RangeFn::TsOfMin => |new, old| new <= old,
                _ => |new, old| new >= old,
            };
            let times = matches!(func, RangeFn::TsOfMin | RangeFn::TsOfMax);
            let candidates = &mut scratch.candidates;
            candidates.clear();
            let mut pushed = 0;
            each!(|w: Window| {
                for i in pushed.max(w.lo)..w.hi {
                    if vs[i].is_nan() {
                        continue;
                    }
                    while candidates.back().is_some_and(|&b| displaces(vs[i], vs[b])) {
                        candidates.pop_back();
                    }
                    candidates.push_back(i);
                }
                pushed = w.hi;
                while candidates.front().is_some_and(|&f| f < w.lo) {
                    candidates.pop_front();
                }
                let best = candidates.front().copied().unwrap_or(w.hi - 1);
                Some(if times { scaled(ts[best]) } else { vs[best] })
            });
        }
        RangeFn::Quantile => {
            let floats = &mut scratch.floats;
            each!(|w: Window| {
                floats.clear();
                floats.extend_from_slice(&vs[w.lo..w.hi]);
                Some(math::quantile(params[0].at(w.step), floats))
            });
        }
        RangeFn::Mad => {
            let floats = &mut scratch.floats;
            each!(|w: Window| {
                floats.clear();
                floats.extend_from_slice(&vs[w.lo..w.hi]);
                Some(median_deviation(floats))
            });
        }
        RangeFn::Deriv => each!(|w: Window| {
            (w.hi - w.lo >= 2).then(|| regression(&ts[w.lo..w.hi], &vs[w.lo..w.hi], ts[w.lo]).0)
        }),
        RangeFn::PredictLinear => each!(|w: Window| {
            (w.hi - w.lo >= 2).then(|| {
                let (slope, intercept) = regression(&ts[w.lo..w.hi], &vs[w.lo..w.hi], grid.time(w.step));
                slope * params[0].at(w.step) + intercept
            })
        }),
        RangeFn::Smoothing => {
            let mut refused = None;
            let factors = |step: usize| (params[0].at(step), params[1].at(step));
            let admit = |w: Window| {
                let (sf, tf) = factors(w.step);
                if refused.is_none() {
                    refused = check_factors(sf, tf).err();
                }
                w.hi - w.lo >= 2
            };
            let alone = |vs: &[f64], step| {
                let (sf, tf) = factors(step);
                smooth(vs, sf, tf).expect("only windows of two samples are admitted")
            };
            seen = walk_lanes((ts, vs), span, grid, (values, present), admit, alone, |windows, steps| {
                lanes::smooth(windows, steps.map(|step| factors(step).0), steps.map(|step| factors(step).1))
            });
            if let Some(refused) = refused {
                return Err(refused);
            }
        }
    }
    Ok(seen)
}

/// Calls `f` for every step whose window holds a sample, and stores what it returns.
fn walk(
    ts: &[Timestamp],
    span: Span,
    grid: Grid,
    values: &mut [f64],
    present: &mut [u64],
    mut f: impl FnMut(Window) -> Option<f64>,
) -> Seen {
    each_window(ts, span, grid, |w| {
        if let Some(v) = f(w) {
            values[w.step] = v;
            bits::set(present, w.step);
        }
    })
}

/// As [`walk`], for functions of the values alone that take the windows of several steps at once: those that `admit`
/// lets through. Where they are few, as in an instant query, each goes `alone`.
fn walk_lanes(
    (ts, vs): (&[Timestamp], &[f64]),
    span: Span,
    grid: Grid,
    (values, present): (&mut [f64], &mut [u64]),
    mut admit: impl FnMut(Window) -> bool,
    alone: impl Fn(&[f64], usize) -> f64,
    together: impl Fn(&lanes::Windows<'_>, [usize; LANES]) -> [f64; LANES],
) -> Seen {
    let (mut spans, mut steps, mut n) = ([(0, 0); LANES], [0; LANES], 0);
    let mut set = |step: usize, v: f64| {
        values[step] = v;
        bits::set(present, step);
    };
    let seen = each_window(ts, span, grid, |w| {
        if admit(w) {
            (spans[n], steps[n]) = ((w.lo, w.hi), w.step);
            n += 1;
            if n == LANES {
                let results = together(&lanes::Windows::new(vs, spans), steps);
                steps.into_iter().zip(results).for_each(|(step, v)| set(step, v));
                n = 0;
            }
        }
    });
    for (&(lo, hi), &step) in spans.iter().zip(&steps).take(n) {
        set(step, alone(&vs[lo..hi], step));
    }
    seen
}

/// What folds a window sample by sample, so that a longer window with the same start goes on from a shorter one.
trait Growing: Copy {
    fn push(&mut self, v: f64);
    fn result(&self) -> f64;
}

/// A compensated sum.
#[derive(Clone, Copy, Default)]
struct Sum {
    sum: f64,
    c: f64,
}

impl Growing for Sum {
    #[inline]
    fn push(&mut self, v: f64) {
        (self.sum, self.c) = kahan_add(v, self.sum, self.c);
    }

    fn result(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.c }
    }
}

impl Growing for Mean {
    #[inline]
    fn push(&mut self, v: f64) {
        Mean::push(self, v);
    }

    fn result(&self) -> f64 {
        self.get()
    }
}

/// Welford's population variance with compensated mean and sum of squares.
#[derive(Clone, Copy, Default)]
struct Variance {
    count: f64,
    mean: f64,
    c_mean: f64,
    aux: f64,
    c_aux: f64,
}

impl Growing for Variance {
    #[inline]
    fn push(&mut self, v: f64) {
        self.count += 1.0;
        let delta = v - (self.mean + self.c_mean);
        (self.mean, self.c_mean) = kahan_add(delta / self.count, self.mean, self.c_mean);
        (self.aux, self.c_aux) = kahan_add(delta * (v - (self.mean + self.c_mean)), self.aux, self.c_aux);
    }

    fn result(&self) -> f64 {
        (self.aux + self.c_aux) / self.count
    }
}

/// The root of the variance.
#[derive(Clone, Copy, Default)]
struct Deviation(Variance);

impl Growing for Deviation {
    #[inline]
    fn push(&mut self, v: f64) {
        self.0.push(v);
    }

    fn result(&self) -> f64 {
        self.0.result().sqrt()
    }
}

/// The result of one window.
fn folded(mut empty: impl Growing, vs: &[f64]) -> f64 {
    for &v in vs {
        empty.push(v);
    }
    empty.result()
}

/// For so many steps windows must keep their first sample, that going on from one to the next pays: as many as lanes.
const STEPS_KEPT: i64 = 8;

/// As [`walk_lanes`], for sums of all kinds. Where windows keep their first sample, each goes on from the one before;
/// that is the same additions in the same order.
fn walk_sums<S: Growing>(
    (ts, vs): (&[Timestamp], &[f64]),
    span: Span,
    grid: Grid,
    (values, present): (&mut [f64], &mut [u64]),
    empty: S,
    together: impl Fn(&lanes::Windows<'_>) -> [f64; LANES],
) -> Seen {
    let alone = |vs: &[f64], _| folded(empty, vs);
    let extent = grid.end().saturating_sub(grid.start);
    if span.at.is_none() && span.range < extent / 4 {
        // Short windows soon move on: looking out for those that do not costs more than it saves.
        let out = (values, present);
        return walk_lanes((ts, vs), span, grid, out, |_| true, alone, |windows, _| together(windows));
    }
    let reach = if span.at.is_some() { 0 } else { grid.step.saturating_mul(STEPS_KEPT) };
    // The state after a part of the samples, and which part.
    let mut grown: Option<(usize, usize, S)> = None;
    let mut kept = Vec::new();
    let admit = |w: Window| {
        let is_kept = ts[w.lo] > w.start.saturating_add(reach);
        let (hi, mut state) = match grown {
            Some((lo, hi, state)) if lo == w.lo => (hi, state),
            _ if is_kept && grid.len >= LANES => (w.lo, empty),
            _ => return true,
        };
        vs[hi..w.hi].iter().for_each(|&v| state.push(v));
        grown = Some((w.lo, w.hi, state));
        kept.push((w.step, state.result()));
        false
    };
    let out = (&mut *values, &mut *present);
    let seen = walk_lanes((ts, vs), span, grid, out, admit, alone, |windows, _| together(windows));
    for (step, v) in kept {
        values[step] = v;
        bits::set(present, step);
    }
    seen
}

/// Calls `f` for every step whose window holds a sample.
#[inline]
fn each_window(ts: &[Timestamp], span: Span, grid: Grid, mut f: impl FnMut(Window)) -> Seen {
    let (mut lo, mut hi, mut seen) = (0, 0, Seen::default());
    let mut read_to = 0;
    for step in 0..grid.len {
        let end = span.at.unwrap_or_else(|| grid.time(step)).saturating_sub(span.offset);
        let start = end.saturating_sub(span.range);
        while hi < ts.len() && ts[hi] <= end {
            hi += 1;
        }
        while lo < hi && ts[lo] <= start {
            lo += 1;
        }
        if lo == hi {
            if hi == ts.len() && span.at.is_none() {
                break;
            }
            continue;
        }
        seen.windows += hi - lo;
        seen.widest = seen.widest.max(hi - lo);
        seen.read += hi - read_to.max(lo);
        read_to = hi;
        f(Window { step, lo, hi, start, end });
    }
    seen
}

/// Whether the factors of the smoothing are what they must be.
fn check_factors(sf: f64, tf: f64) -> Result<(), Error> {
    for (name, factor, v) in [("smoothing", "sf", sf), ("trend", "tf", tf)] {
        if v <= 0.0 || v >= 1.0 {
            let got = model::number::format_fixed(v, 6);
            return Err(Error::Execution(format!(
                "invalid {name} factor. Expected: 0 < {factor} < 1, got: {got}"
            )));
        }
    }
    Ok(())
}

/// The value of a function of floats alone over one window that has some, where the window is not one of many
/// without histograms.
pub(super) fn value(
    call: Call<'_>,
    (ts, vs): (&[Timestamp], &[f64]),
    (step, t): (usize, Timestamp),
    buffer: &mut Vec<f64>,
) -> Option<f64> {
    let at_least_two = vs.len() >= 2;
    buffer.clear();
    buffer.extend_from_slice(vs);
    match call.func {
        RangeFn::Sum => Some(folded(Sum::default(), vs)),
        RangeFn::Avg => Some(folded(Mean::default(), vs)),
        RangeFn::Stdvar => Some(variance(vs)),
        RangeFn::Stddev => Some(variance(vs).sqrt()),
        RangeFn::Min => Some(vs[extremum(vs, |v, best| v < best)]),
        RangeFn::Max => Some(vs[extremum(vs, |v, best| v > best)]),
        RangeFn::TsOfMin => Some(ts[extremum(vs, |v, best| v <= best)] as f64 / 1000.0),
        RangeFn::TsOfMax => Some(ts[extremum(vs, |v, best| v >= best)] as f64 / 1000.0),
        RangeFn::Quantile => Some(math::quantile(call.params[0].at(step), buffer)),
        RangeFn::Mad => Some(median_deviation(buffer)),
        RangeFn::Deriv => at_least_two.then(|| regression(ts, vs, ts[0]).0),
        RangeFn::PredictLinear => at_least_two.then(|| {
            let (slope, intercept) = regression(ts, vs, t);
            slope * call.params[0].at(step) + intercept
        }),
        RangeFn::Smoothing => smooth(vs, call.params[0].at(step), call.params[1].at(step)),
        _ => None,
    }
}

/// Refuses parameters that a function cannot take, asked at each step that has samples.
pub(super) fn check_params(call: Call<'_>, step: usize) -> Result<(), Error> {
    if call.func == RangeFn::Smoothing {
        check_factors(call.params[0].at(step), call.params[1].at(step))?;
    }
    Ok(())
}

/// Where the best value is: the first or the last of equal ones, as `is_better` has it; NaN only if there is no other.
fn extremum(vs: &[f64], is_better: impl Fn(f64, f64) -> bool) -> usize {
    (0..vs.len()).fold(0, |best, i| if is_better(vs[i], vs[best]) || vs[best].is_nan() { i } else { best })
}

/// The median of the distances to the median.
fn median_deviation(floats: &mut [f64]) -> f64 {
    if floats.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = math::quantile(0.5, floats);
    for v in &mut *floats {
        *v = (*v - median).abs();
    }
    math::quantile(0.5, floats)
}

/// Welford's population variance of a window.
pub(super) fn variance(vs: &[f64]) -> f64 {
    folded(Variance::default(), vs)
}

/// Slope and intercept at `origin` of the least squares line.
fn regression(ts: &[Timestamp], vs: &[f64], origin: Timestamp) -> (f64, f64) {
    if vs.iter().all(|&v| v == vs[0]) {
        return if vs[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, vs[0]) };
    }
    let mut sums = [(0.0, 0.0); 4];
    for (&t, &y) in ts.iter().zip(vs) {
        // Wraps as Go's does, for a step that is as far away as times go.
        let x = t.wrapping_sub(origin) as f64 / 1e3;
        for (sum, inc) in sums.iter_mut().zip([x, y, x * y, x * x]) {
            *sum = kahan_add(inc, sum.0, sum.1);
        }
    }
    let n = vs.len() as f64;
    let [sx, sy, sxy, sxx] = sums.map(|(sum, c)| sum + c);
    let cov = sxy - sx * sy / n;
    let var = sxx - sx * sx / n;
    let slope = cov / var;
    (slope, sy / n - slope * sx / n)
}

/// Holt's linear double exponential smoothing.
pub(super) fn smooth(vs: &[f64], sf: f64, tf: f64) -> Option<f64> {
    if vs.len() < 2 {
        return None;
    }
    let (mut s0, mut s1, mut b) = (0.0, vs[0], vs[1] - vs[0]);
    for (i, &x) in vs.iter().enumerate().skip(1) {
        if i > 1 {
            b = tf * (s1 - s0) + (1.0 - tf) * b;
        }
        (s0, s1) = (s1, sf * x + (1.0 - sf) * (s1 + b));
    }
    Some(s1)
}
