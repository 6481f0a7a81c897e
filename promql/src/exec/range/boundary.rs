//! `anchored` and `smoothed`: what a series is taken to be at the very ends of a window, and at the time of a step.
//!
//! Anchored, it is at the start what the last sample before says; smoothed, it lies on the line between the samples
//! on both sides of either end. Nothing is extrapolated.
//!
//! Compat: prometheus `promql/functions.go`, `extendedRate`, `extendedHistogramRate`; `promql/engine.go`,
//! `extendFloats`, `smoothSeries` (3.14).

use std::sync::Arc;

use model::histogram::{CounterResetHint, MixedSchemas};
use model::{FloatHistogram, SampleBatch, Timestamp};

use super::both::{Point, Window};
use super::histograms::is_gauge;
use super::remarks::Remarks;
use super::{Call, range_seconds};
use crate::engine::Error;
use crate::exec::column::{Grid, Row};
use crate::exec::stream::{HistogramPoint, Samples};
use crate::parse::ast::Boundary;
use crate::plan::RangeFn;

/// What an end of the window is made of.
#[derive(Clone, Copy)]
struct Ends {
    first: usize,
    last: usize,
    start: Timestamp,
    end: Timestamp,
    is_smoothed: bool,
}

impl Ends {
    /// The samples at the ends of `(start, end]`, among at least one; `None` if none is inside.
    fn find(
        times: impl Fn(usize) -> Timestamp,
        len: usize,
        start: Timestamp,
        end: Timestamp,
        is_smoothed: bool,
    ) -> Option<Self> {
        // The last sample is not asked: it is taken if no other will do.
        let until = |is_before: &dyn Fn(Timestamp) -> bool| {
            let (mut from, mut to) = (0, len - 1);
            while from < to {
                let middle = usize::midpoint(from, to);
                if is_before(times(middle)) { from = middle + 1 } else { to = middle }
            }
            from
        };
        let first = until(&|t| t <= start).saturating_sub(1);
        let last = if is_smoothed { until(&|t| t < end) } else { len - 1 };
        (times(last) > start).then_some(Self { first, last, start, end, is_smoothed })
    }

    /// Between which samples the value at the start lies, if it is no sample's.
    fn left(self, times: impl Fn(usize) -> Timestamp) -> Option<(usize, usize)> {
        (self.is_smoothed && times(self.first) < self.start).then_some((self.first, self.first + 1))
    }

    /// As `left`, at the end.
    fn right(self, times: impl Fn(usize) -> Timestamp) -> Option<(usize, usize)> {
        (self.is_smoothed && self.last > 0 && times(self.last) > self.end).then(|| (self.last - 1, self.last))
    }
}

/// `rate`, `increase` and `delta` over a window that reaches beyond its ends.
pub(super) fn increase(
    call: Call<'_>,
    samples: &Samples,
    w: &Window,
    remarks: &mut Remarks,
) -> Option<Point> {
    if !w.floats.is_empty() && !w.histograms.is_empty() {
        remarks.add(Remarks::MIXED_KINDS);
        return None;
    }
    let is_smoothed = call.span.boundary == Some(Boundary::Smoothed);
    let is_counter = call.func != RangeFn::Delta;
    let per = (call.func == RangeFn::Rate).then(|| range_seconds(call.span.range));
    if w.histograms.is_empty() {
        let (ts, vs) = (&samples.floats.ts[w.floats.clone()], &samples.floats.vs[w.floats.clone()]);
        let ends = Ends::find(|i| ts[i], ts.len(), w.start, w.end, is_smoothed)?;
        if is_smoothed && ts[ends.first] > w.end {
            return None;
        }
        let result = float_increase((ts, vs), ends, is_counter);
        return Some(Point::Float(per.map_or(result, |seconds| result / seconds)));
    }
    let points = &samples.histograms[w.histograms.clone()];
    let ends = Ends::find(|i| points[i].t, points.len(), w.start, w.end, is_smoothed)?;
    if is_smoothed && points[ends.first].t > w.end {
        return None;
    }
    let mut result = histogram_increase(points, ends, is_counter, remarks)?;
    if let Some(seconds) = per {
        result.divide(seconds);
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact(0);
    Some(Point::from(result))
}

fn float_increase((ts, vs): (&[Timestamp], &[f64]), ends: Ends, is_counter: bool) -> f64 {
    let (left, right) = float_ends((ts, vs), ends, is_counter);
    let result = right - left;
    if !is_counter {
        return result;
    }
    let inner = inner(ts, ends);
    let (mut correction, mut previous) = (0.0, left);
    for v in vs[inner].iter().copied().chain([right]) {
        if v < previous {
            correction += previous;
        }
        previous = v;
    }
    result + correction
}

fn float_ends((ts, vs): (&[Timestamp], &[f64]), ends: Ends, is_counter: bool) -> (f64, f64) {
    let at = |(i, j): (usize, usize), t: Timestamp| {
        let (mut low, high) = (vs[i], vs[j]);
        if is_counter && high < low {
            low = 0.0;
        }
        on_line((ts[i], low), (ts[j], high), t)
    };
    let left = ends.left(|i| ts[i]).map_or(vs[ends.first], |pair| at(pair, ends.start));
    let right = ends.right(|i| ts[i]).map_or(vs[ends.last], |pair| at(pair, ends.end));
    (left, right)
}

/// The value at `t` on the line through two points.
fn on_line((t1, v1): (Timestamp, f64), (t2, v2): (Timestamp, f64), t: Timestamp) -> f64 {
    v1 + (v2 - v1) * ((t - t1) as f64) / ((t2 - t1) as f64)
}

/// The samples strictly inside the window.
fn inner(ts: &[Timestamp], ends: Ends) -> std::ops::Range<usize> {
    let from = if ts[ends.first] <= ends.start { ends.first + 1 } else { ends.first };
    let to = if ts[ends.last] >= ends.end { ends.last } else { ends.last + 1 };
    from..to.max(from)
}

fn histogram_increase(
    points: &[HistogramPoint],
    ends: Ends,
    is_counter: bool,
    remarks: &mut Remarks,
) -> Option<FloatHistogram> {
    let all = &points[ends.first..=ends.last];
    for point in all {
        if point.value.uses_custom_buckets() != all[0].value.uses_custom_buckets() {
            remarks.add(Remarks::MIXED_SCHEMAS);
            return None;
        }
        remarks.add_if(is_counter && is_gauge(&point.value), Remarks::NOT_COUNTER);
    }
    let result = (|| {
        let mut at = |pair: Option<(usize, usize)>, sample: usize, t| match pair {
            Some((i, j)) => interpolated(&points[i], &points[j], t, is_counter, remarks),
            None => Ok((*points[sample].value).clone()),
        };
        let left = at(ends.left(|i| points[i].t), ends.first, ends.start)?;
        let right = at(ends.right(|i| points[i].t), ends.last, ends.end)?;
        remarks.add_if(!is_counter && (!is_gauge(&left) || !is_gauge(&right)), Remarks::NOT_GAUGE);
        let mut result = right.clone();
        remarks.add_if(result.sub_assign(&left)?.reconciled, Remarks::RECONCILED_IN_SUBTRACTION);
        if is_counter && let Some(correction) = correction(points, ends, &left, &right, remarks)? {
            remarks.add_if(result.add_assign(&correction)?.reconciled, Remarks::RECONCILED_IN_ADDITION);
        }
        Ok::<_, MixedSchemas>(result)
    })();
    result.map_err(|MixedSchemas| remarks.add(Remarks::MIXED_SCHEMAS)).ok()
}

/// What was counted before each reset between `left` and `right`; `None` if there is none.
fn correction(
    points: &[HistogramPoint],
    ends: Ends,
    left: &FloatHistogram,
    right: &FloatHistogram,
    remarks: &mut Remarks,
) -> Result<Option<FloatHistogram>, MixedSchemas> {
    let Ends { first, last, .. } = ends;
    let (mut from, mut previous) = (first + 1, left);
    if let Some((i, j)) = ends.left(|i| points[i].t)
        && points[j].value.is_reset_after(&points[i].value)
    {
        // The line at the start already begins anew.
        (from, previous) = (first + 2, &*points[j].value);
    }
    if from > last {
        return Ok(None);
    }
    let mut sum: Option<FloatHistogram> = None;
    for current in points[from..last].iter().map(|point| &*point.value).chain([right]) {
        if current.is_reset_after(previous) {
            match &mut sum {
                None => sum = Some(previous.clone()),
                Some(sum) => {
                    let added = sum.add_assign(previous)?;
                    remarks.add_if(added.reconciled, Remarks::RECONCILED_IN_ADDITION);
                }
            }
        }
        previous = current;
    }
    Ok(sum)
}

/// The histogram at `t` on the line between two; a counter that was reset in between began at zero.
fn interpolated(
    before: &HistogramPoint,
    behind: &HistogramPoint,
    t: Timestamp,
    is_counter: bool,
    remarks: &mut Remarks,
) -> Result<FloatHistogram, MixedSchemas> {
    if t == before.t {
        return Ok((*before.value).clone());
    }
    let mut result = (*behind.value).clone();
    if t == behind.t {
        return Ok(result);
    }
    let share = (t - before.t) as f64 / (behind.t - before.t) as f64;
    if is_counter && behind.value.is_reset_after(&before.value) {
        result.multiply(share);
        return Ok(result);
    }
    remarks.add_if(result.sub_assign(&before.value)?.reconciled, Remarks::RECONCILED_IN_SUBTRACTION);
    result.multiply(share);
    remarks.add_if(result.add_assign(&before.value)?.reconciled, Remarks::RECONCILED_IN_ADDITION);
    Ok(result)
}

/// The samples of a window as the result of a query: those inside, and one at each end.
pub(crate) fn extended(
    samples: &Samples,
    boundary: Boundary,
    start: Timestamp,
    end: Timestamp,
) -> Result<Samples, Error> {
    let is_smoothed = boundary == Boundary::Smoothed;
    if !samples.histograms.is_empty() {
        let word = if is_smoothed { "smoothed" } else { "anchored" };
        return Err(Error::Execution(format!("{word} modifier is not supported with histograms")));
    }
    let (ts, vs) = (&*samples.floats.ts, &*samples.floats.vs);
    let mut floats = SampleBatch::default();
    if let Some(ends) =
        (!ts.is_empty()).then(|| Ends::find(|i| ts[i], ts.len(), start, end, is_smoothed)).flatten()
    {
        let (left, right) = float_ends((ts, vs), ends, false);
        floats.push(start, left);
        inner(ts, ends).for_each(|i| floats.push(ts[i], vs[i]));
        floats.push(end, right);
    }
    Ok(Samples { floats, ..Samples::default() })
}

/// An instant selector with `smoothed`: what the series is taken to be at each step, from the samples up to
/// `lookback` before and behind. They hold no stale markers.
pub(crate) fn smoothed(
    samples: &Samples,
    grid: Grid,
    reference: impl Fn(usize) -> Timestamp,
    lookback: i64,
    mut row: Row<'_>,
) -> Remarks {
    let mut remarks = Remarks::default();
    let (ts, vs) = (&*samples.floats.ts, &*samples.floats.vs);
    let points = &*samples.histograms;
    for step in 0..grid.len {
        let t = reference(step);
        let (after, until) = (t.saturating_sub(lookback), t.saturating_add(lookback));
        let floats = ts.partition_point(|&s| s <= after)..ts.partition_point(|&s| s <= until);
        let histograms = points.partition_point(|p| p.t <= after)..points.partition_point(|p| p.t <= until);
        if !floats.is_empty() && !histograms.is_empty() {
            remarks.add(Remarks::MIXED_KINDS);
        } else if !floats.is_empty() {
            let next = ts.partition_point(|&s| s < t);
            if next < floats.end && ts[next] == t {
                row.set(step, vs[next]);
            } else if next > floats.start && next < floats.end {
                let (i, j) = (next - 1, next);
                row.set(step, on_line((ts[i], vs[i]), (ts[j], vs[j]), t));
            } else if next > floats.start {
                row.set(step, vs[next - 1]);
            }
        } else if !histograms.is_empty() {
            let next = points.partition_point(|p| p.t < t);
            if next < histograms.end && points[next].t == t {
                row.histograms.push(step, Arc::clone(&points[next].value));
            } else if next > histograms.start && next < histograms.end {
                let (before, behind) = (&points[next - 1], &points[next]);
                let is_counter = !is_gauge(&before.value) || !is_gauge(&behind.value);
                let mut found = Remarks::default();
                let is_mixed = before.value.uses_custom_buckets() != behind.value.uses_custom_buckets();
                let value = if is_mixed {
                    Err(MixedSchemas)
                } else {
                    interpolated(before, behind, t, is_counter, &mut found)
                };
                match value {
                    Ok(value) => row.histograms.push(step, Arc::new(value)),
                    Err(MixedSchemas) => found.add(Remarks::MIXED_SCHEMAS),
                }
                remarks.add(found);
            } else if next > histograms.start {
                let mut value = (*points[next - 1].value).clone();
                value.counter_reset_hint = CounterResetHint::Unknown;
                row.histograms.push(step, Arc::new(value));
            }
        }
    }
    remarks
}
