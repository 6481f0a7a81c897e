//! Functions of windows that may hold floats and histograms, begin at start times, or look beyond their ends.
//!
//! The side road: what is cheap once per series is done once (resets, weights), the rest anew for each window.
//!
//! Compat: prometheus `promql/functions.go` (3.14).

use std::ops::Range;
use std::sync::Arc;

use model::{FloatHistogram, HistogramPoints, Timestamp};

use super::boundary;
use super::extrapolate::Extent;
use super::histograms::{self, Run, is_gauge};
use super::remarks::Remarks;
use super::starts::{self, Started};
use super::{Call, Marks, Outcome, Scratch, Seen, Span, floats};
use crate::engine::Error;
use crate::exec::column::{Grid, Row, weight};
use crate::exec::stream::{HistogramPoint, Samples};
use crate::plan::RangeFn;

/// A window `(start, end]` and what it holds: never nothing.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) step: usize,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) floats: Range<usize>,
    pub(super) histograms: Range<usize>,
}

pub(super) enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl From<FloatHistogram> for Point {
    fn from(histogram: FloatHistogram) -> Self {
        Self::Histogram(Arc::new(histogram))
    }
}

pub(super) fn apply(
    call: Call<'_>,
    samples: &Samples,
    grid: Grid,
    scratch: &mut Scratch,
    row: Row<'_>,
) -> Result<Outcome, Error> {
    let mut walk = Walk { samples, span: call.span, grid, row, outcome: Outcome::default() };
    match call.func {
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta if call.span.boundary.is_some() => {
            walk.each(|w, outcome| Ok(boundary::increase(call, samples, w, &mut outcome.remarks)))?;
        }
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta => rates(call, &mut walk, &mut scratch.spare)?,
        RangeFn::Irate | RangeFn::Idelta => {
            let is_rate = call.func == RangeFn::Irate;
            walk.each(|w, outcome| Ok(last_two(samples, w, is_rate, &mut outcome.remarks)))?;
        }
        RangeFn::Changes | RangeFn::Resets => marked_pairs(call, &mut walk)?,
        RangeFn::Count => {
            walk.each(|w, _| Ok(Some(Point::Float((w.floats.len() + w.histograms.len()) as f64))))?;
        }
        RangeFn::Present => walk.each(|_, _| Ok(Some(Point::Float(1.0))))?,
        RangeFn::Last | RangeFn::First | RangeFn::TsOfLast | RangeFn::TsOfFirst => {
            let is_time = matches!(call.func, RangeFn::TsOfLast | RangeFn::TsOfFirst);
            let is_last = matches!(call.func, RangeFn::Last | RangeFn::TsOfLast);
            walk.each(|w, _| {
                let end = if is_last { samples.last_in(w) } else { samples.first_in(w) };
                Ok(end.map(|at| {
                    if is_time { Point::Float(seconds(samples.started(at).t)) } else { samples.point(at) }
                }))
            })?;
        }
        RangeFn::Sum | RangeFn::Avg => walk.each(|w, outcome| {
            let points = &samples.histograms[w.histograms.clone()];
            if points.is_empty() {
                return Ok(of_floats(call, samples, w, grid, scratch));
            }
            if !w.floats.is_empty() {
                outcome.remarks.add(Remarks::MIXED_KINDS);
                return Ok(None);
            }
            let of = if call.func == RangeFn::Sum { histograms::sum } else { histograms::mean };
            Ok(of(points, &mut outcome.remarks).map(Point::from))
        })?,
        _ => walk.each(|w, outcome| {
            floats::check_params(call, w.step)?;
            let is_mixed = !w.floats.is_empty() && !w.histograms.is_empty();
            outcome.remarks.add_if(is_mixed, Remarks::HISTOGRAMS_IGNORED);
            Ok(of_floats(call, samples, w, grid, scratch))
        })?,
    }
    Ok(walk.outcome)
}

fn of_floats(
    call: Call<'_>,
    samples: &Samples,
    w: &Window,
    grid: Grid,
    scratch: &mut Scratch,
) -> Option<Point> {
    if w.floats.is_empty() {
        return None;
    }
    let batch = &samples.floats;
    let columns = (&batch.ts[w.floats.clone()], &batch.vs[w.floats.clone()]);
    let at = (w.step, grid.time(w.step));
    floats::value(call, columns, at, &mut scratch.floats).map(Point::Float)
}

/// All windows of a series.
struct Walk<'a> {
    samples: &'a Samples,
    span: Span,
    grid: Grid,
    row: Row<'a>,
    outcome: Outcome,
}

impl Walk<'_> {
    /// Calls `f` for every step whose window holds a sample, and stores what it returns.
    fn each(
        &mut self,
        mut f: impl FnMut(&Window, &mut Outcome) -> Result<Option<Point>, Error>,
    ) -> Result<(), Error> {
        let (ts, points) = (&*self.samples.floats.ts, &*self.samples.histograms);
        // What the histograms before each weigh together.
        let mut weights = Vec::with_capacity(points.len() + 1);
        weights.push(0);
        for point in points {
            weights.push(weights[weights.len() - 1] + weight(&point.value));
        }
        let (before, behind) = self.span.margins();
        let (mut floats, mut histograms) = (0..0, 0..0);
        let (mut floats_read, mut histograms_read) = (0, 0);
        for step in 0..self.grid.len {
            let (start, end) = self.span.window(self.grid, step);
            let (after, until) = (start.saturating_sub(before), end.saturating_add(behind));
            slide(&mut floats, ts.len(), |i| ts[i], after, until);
            slide(&mut histograms, points.len(), |i| points[i].t, after, until);
            if floats.is_empty() && histograms.is_empty() {
                if floats.end == ts.len() && histograms.end == points.len() && self.span.at.is_none() {
                    break;
                }
                continue;
            }
            let weight = |from: usize, to: usize| weights[to] - weights[from];
            let Seen { windows, read, widest } = &mut self.outcome.seen;
            let here = floats.len() + weight(histograms.start, histograms.end);
            *windows += here;
            *widest = here.max(*widest);
            *read += floats.end - floats.start.max(floats_read);
            *read += weight(histograms.start.max(histograms_read), histograms.end);
            (floats_read, histograms_read) = (floats.end, histograms.end);
            let window = Window { step, start, end, floats: floats.clone(), histograms: histograms.clone() };
            match f(&window, &mut self.outcome)? {
                None => {}
                Some(Point::Float(v)) => self.row.set(step, v),
                Some(Point::Histogram(histogram)) => self.row.histograms.push(step, histogram),
            }
        }
        Ok(())
    }
}

/// Moves a window on to the samples in `(after, until]`.
fn slide(
    window: &mut Range<usize>,
    len: usize,
    time: impl Fn(usize) -> Timestamp,
    after: Timestamp,
    until: Timestamp,
) {
    while window.end < len && time(window.end) <= until {
        window.end += 1;
    }
    while window.start < window.end && time(window.start) <= after {
        window.start += 1;
    }
}

fn seconds(t: Timestamp) -> f64 {
    t as f64 / 1000.0
}

/// Where a sample of a series is.
#[derive(Clone, Copy)]
pub(crate) enum At {
    Float(usize),
    Histogram(usize),
}

impl Samples {
    pub(crate) fn started(&self, at: At) -> Started {
        match at {
            At::Float(i) => Started { st: self.floats.st(i), t: self.floats.ts[i] },
            At::Histogram(i) => Started { st: self.histograms[i].st, t: self.histograms[i].t },
        }
    }

    fn point(&self, at: At) -> Point {
        match at {
            At::Float(i) => Point::Float(self.floats.vs[i]),
            At::Histogram(i) => Point::Histogram(Arc::clone(&self.histograms[i].value)),
        }
    }

    fn last_in(&self, w: &Window) -> Option<At> {
        let float = w.floats.clone().next_back().map(At::Float);
        let histogram = w.histograms.clone().next_back().map(At::Histogram);
        self.pick(float, histogram, |a, b| a > b)
    }

    fn first_in(&self, w: &Window) -> Option<At> {
        let float = w.floats.clone().next().map(At::Float);
        let histogram = w.histograms.clone().next().map(At::Histogram);
        self.pick(float, histogram, |a, b| a < b)
    }

    /// The float, if there is no histogram or its time wins.
    fn pick(
        &self,
        float: Option<At>,
        histogram: Option<At>,
        wins: impl Fn(Timestamp, Timestamp) -> bool,
    ) -> Option<At> {
        match (float, histogram) {
            (Some(a), Some(b)) if wins(self.started(a).t, self.started(b).t) => float,
            (_, Some(_)) => histogram,
            (_, None) => float,
        }
    }

    /// All samples by time.
    pub(crate) fn merged(&self) -> Vec<At> {
        let mut all = Vec::with_capacity(self.len());
        let mut next = 0;
        for (i, point) in self.histograms.iter().enumerate() {
            while next < self.floats.ts.len() && self.floats.ts[next] < point.t {
                all.push(At::Float(next));
                next += 1;
            }
            all.push(At::Histogram(i));
        }
        all.extend((next..self.floats.ts.len()).map(At::Float));
        all
    }
}

/// `rate`, `increase` and `delta`, extrapolated.
fn rates(call: Call<'_>, walk: &mut Walk<'_>, spare: &mut HistogramPoints) -> Result<(), Error> {
    let samples = walk.samples;
    let is_counter = call.func != RangeFn::Delta;
    let per = (call.func == RangeFn::Rate).then(|| super::range_seconds(call.span.range));
    let (vs, points) = (&*samples.floats.vs, &*samples.histograms);
    let float_pair = |i: usize| (samples.started(At::Float(i - 1)), samples.started(At::Float(i)));
    let pair = |i: usize| (samples.started(At::Histogram(i - 1)), samples.started(At::Histogram(i)));
    let is_started = |i: usize| is_between(pair(i), starts::is_reset);
    // Of no meaning to a gauge.
    let marked = |len: usize, is_marked: &dyn Fn(usize) -> bool| -> Vec<usize> {
        if is_counter { (1..len).filter(|&i| is_marked(i)).collect() } else { Vec::new() }
    };
    let float_resets =
        marked(vs.len(), &|i| vs[i] < vs[i - 1] || is_between(float_pair(i), starts::is_reset));
    let float_overlaps = marked(vs.len(), &|i| is_between(float_pair(i), starts::overlaps));
    let resets =
        marked(points.len(), &|i| is_started(i) || points[i].value.is_reset_after(&points[i - 1].value));
    let overlaps = marked(points.len(), &|i| is_between(pair(i), starts::overlaps));
    let (mut float_resets, mut float_overlaps) = (Marks::new(&float_resets), Marks::new(&float_overlaps));
    let (mut resets, mut overlaps) = (Marks::new(&resets), Marks::new(&overlaps));
    let run = Run::new(points);
    walk.each(|w, outcome| {
        if !w.floats.is_empty() && !w.histograms.is_empty() {
            outcome.remarks.add(Remarks::MIXED_KINDS);
            return Ok(None);
        }
        if w.histograms.is_empty() {
            let (lo, hi) = (w.floats.start, w.floats.end);
            let mut result = vs[hi - 1] - vs[lo];
            for &i in float_resets.inside(lo, hi) {
                result += vs[i - 1];
            }
            outcome.overlaps += usize::from(!float_overlaps.inside(lo, hi).is_empty());
            let first = samples.started(At::Float(lo));
            let extent = w.extent(first.t, samples.floats.ts[hi - 1], hi - lo);
            return Ok(match starts::inside(first, w.start).filter(|_| is_counter) {
                Some(st) => Some(Point::Float((result + vs[lo]) * extent.factor_since(st, per))),
                None if hi - lo < 2 => None,
                None => {
                    let share = (is_counter && result > 0.0 && vs[lo] >= 0.0).then(|| vs[lo] / result);
                    Some(Point::Float(result * extent.factor(share, per)))
                }
            });
        }
        let (lo, hi) = (w.histograms.start, w.histograms.end);
        let first = samples.started(At::Histogram(lo));
        let extent = w.extent(first.t, points[hi - 1].t, hi - lo);
        let start = starts::inside(first, w.start).filter(|_| is_counter);
        if hi - lo < 2 && start.is_none() {
            return Ok(None);
        }
        let made = spare.try_make(|result| {
            let remarks = &mut outcome.remarks;
            if hi - lo > 1 {
                if is_counter {
                    run.increase((lo, hi), &mut resets, is_started, result, remarks)?;
                } else {
                    run.delta((lo, hi), result, remarks)?;
                }
                outcome.overlaps += usize::from(!overlaps.inside(lo, hi).is_empty());
            }
            let factor = if let Some(st) = start {
                add_first(result, hi - lo > 1, &points[lo], remarks)?;
                extent.factor_since(st, per)
            } else {
                let counted = points[lo].value.count;
                let has_share = is_counter && result.count > 0.0 && counted >= 0.0;
                extent.factor(has_share.then(|| counted / result.count), per)
            };
            result.multiply(factor);
            Some(())
        });
        Ok(made.map(Point::Histogram))
    })
}

/// What was counted since the beginning: the increase, if there is one, and all that the first histogram holds.
fn add_first(
    increase: &mut FloatHistogram,
    is_increase: bool,
    first: &HistogramPoint,
    remarks: &mut Remarks,
) -> Option<()> {
    if !is_increase {
        increase.copy_from(&first.value);
        return Some(());
    }
    let Ok(added) = increase.add_assign(&first.value) else {
        remarks.add(Remarks::MIXED_SCHEMAS);
        return None;
    };
    remarks.add_if(added.reconciled, Remarks::RECONCILED_IN_ADDITION);
    Some(())
}

fn is_between((previous, current): (Started, Started), f: fn(Started, Started) -> bool) -> bool {
    f(previous, current)
}

impl Window {
    fn extent(&self, first: Timestamp, last: Timestamp, len: usize) -> Extent {
        Extent { start: self.start, end: self.end, first, last, gaps: len - 1 }
    }
}

/// `irate` and `idelta`.
fn last_two(samples: &Samples, w: &Window, is_rate: bool, remarks: &mut Remarks) -> Option<Point> {
    let last = samples.last_in(w)?;
    let mut rest = w.clone();
    match last {
        At::Float(_) => rest.floats.end -= 1,
        At::Histogram(_) => rest.histograms.end -= 1,
    }
    let before = samples.last_in(&rest)?;
    let (started, started_before) = (samples.started(last), samples.started(before));
    let interval = started.t - started_before.t;
    if interval == 0 {
        return None;
    }
    let seconds = interval as f64 / 1000.0;
    let is_started = starts::is_reset(started_before, started);
    match (before, last) {
        (At::Float(i), At::Float(j)) => {
            let (old, new) = (samples.floats.vs[i], samples.floats.vs[j]);
            let difference = if is_rate && (new < old || is_started) { new } else { new - old };
            Some(Point::Float(if is_rate { difference / seconds } else { difference }))
        }
        (At::Histogram(i), At::Histogram(j)) => {
            let (old, new) = (&*samples.histograms[i].value, &*samples.histograms[j].value);
            let (any, all) = (is_gauge(old) || is_gauge(new), is_gauge(old) && is_gauge(new));
            remarks.add_if(is_rate && any, Remarks::NOT_COUNTER);
            remarks.add_if(!is_rate && !all, Remarks::NOT_GAUGE);
            let mut difference = new.clone();
            if !is_rate || (!is_started && !new.is_reset_after(old)) {
                let Ok(taken) = difference.sub_assign(old) else {
                    remarks.add(Remarks::MIXED_SCHEMAS);
                    return None;
                };
                remarks.add_if(taken.reconciled, Remarks::RECONCILED_IN_SUBTRACTION);
            }
            difference.counter_reset_hint = model::histogram::CounterResetHint::Gauge;
            difference.compact(0);
            if is_rate {
                difference.divide(seconds);
            }
            Some(Point::from(difference))
        }
        _ => {
            remarks.add(Remarks::MIXED_KINDS);
            None
        }
    }
}

/// `changes` and `resets`: how many pairs of samples in the window differ, or go back.
fn marked_pairs(call: Call<'_>, walk: &mut Walk<'_>) -> Result<(), Error> {
    let samples = walk.samples;
    let is_resets = call.func == RangeFn::Resets;
    let is_marked = |a: At, b: At| {
        let is_started = is_resets && starts::is_reset(samples.started(a), samples.started(b));
        match (a, b) {
            (At::Float(i), At::Float(j)) => {
                let (old, new) = (samples.floats.vs[i], samples.floats.vs[j]);
                if is_resets {
                    new < old || is_started
                } else {
                    new != old && !(new.is_nan() && old.is_nan())
                }
            }
            (At::Histogram(i), At::Histogram(j)) => {
                let (old, new) = (&*samples.histograms[i].value, &*samples.histograms[j].value);
                if is_resets { is_started || new.is_reset_after(old) } else { !new.is_equal(old) }
            }
            _ => true,
        }
    };
    let all = samples.merged();
    let times: Vec<Timestamp> = all.iter().map(|&at| samples.started(at).t).collect();
    let marks: Vec<usize> = (1..all.len()).filter(|&i| is_marked(all[i - 1], all[i])).collect();
    let mut marks = Marks::new(&marks);
    walk.each(|w, _| {
        // As many of the merged samples lie before the window as of both kinds together.
        let mut lo = w.floats.start + w.histograms.start;
        let hi = w.floats.end + w.histograms.end;
        if call.span.boundary.is_some() {
            // Only the last one before the window counts, and only if there is one inside.
            let first = lo + times[lo..hi].partition_point(|&t| t <= w.start);
            if first == hi {
                return Ok(None);
            }
            lo = lo.max(first.saturating_sub(1));
        }
        Ok(Some(Point::Float(marks.inside(lo, hi).len() as f64)))
    })
}
