//! Functions of the samples in a window: which samples that are at a step, and what computes the function.
//!
//! A series of floats goes through `floats`, whose loops know nothing of anything else. Where there are histograms,
//! start times, or a window that looks beyond its ends, it is `both`.
//!
//! Compat: prometheus `promql/functions.go` (3.14), `extrapolatedRate` and the `_over_time` family.

mod both;
pub(crate) mod boundary;
mod extrapolate;
mod floats;
mod histograms;
mod lanes;
pub(crate) mod remarks;
mod starts;
#[cfg(test)]
mod tests;
pub(crate) mod tiles;

use std::collections::VecDeque;

use model::{HistogramPoints, Timestamp};

use super::column::{Grid, Row, Scalars};
use super::stats_only::Seek;
use super::stream::Samples;
use crate::engine::Error;
use crate::parse::ast::Boundary;
use crate::plan::RangeFn;
pub(crate) use both::At;
use remarks::Remarks;

/// The window at a step: `(ref - range, ref]`, ref = `at` or the step's time, less `offset`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) range: i64,
    pub(crate) offset: i64,
    pub(crate) at: Option<Timestamp>,
    /// With it the window also holds the samples up to `lookback` before and, smoothed, behind.
    pub(crate) boundary: Option<Boundary>,
    pub(crate) lookback: i64,
}

impl Span {
    /// How far before and behind the window samples are wanted, too.
    pub(crate) fn margins(self) -> (i64, i64) {
        match self.boundary {
            None => (0, 0),
            Some(Boundary::Anchored) => (self.lookback, 0),
            Some(Boundary::Smoothed) => (self.lookback, self.lookback),
        }
    }

    /// In which order the samples of the windows are read.
    pub(crate) fn seeks(self, grid: Grid) -> impl Iterator<Item = Seek> {
        let (before, behind) = self.margins();
        let first = self.range.saturating_add(before).saturating_add(behind);
        // Windows that do not move are read once, and behind the first only what is new.
        let steps = if self.at.is_some() { grid.len.min(1) } else { grid.len };
        (0..steps).map(move |step| {
            let reach = if step == 0 { first } else { first.min(grid.step) };
            Seek { t: self.window(grid, step).1.saturating_add(behind), reach }
        })
    }

    /// The start, outside, and the end of the window at a step.
    fn window(self, grid: Grid, step: usize) -> (Timestamp, Timestamp) {
        let end = self.at.unwrap_or_else(|| grid.time(step)).saturating_sub(self.offset);
        (end.saturating_sub(self.range), end)
    }
}

/// A function with the windows that it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) func: RangeFn,
    pub(crate) span: Span,
    pub(crate) params: &'a [Scalars],
}

/// Buffers of one worker.
#[derive(Default)]
pub(crate) struct Scratch {
    floats: Vec<f64>,
    marks: Vec<usize>,
    candidates: VecDeque<usize>,
    /// Memory of histograms that were results.
    pub(crate) spare: HistogramPoints,
}

/// How many samples there were, on the account of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// In all windows, each counted by itself.
    pub(crate) windows: usize,
    /// In any window.
    pub(crate) read: usize,
    /// In the window that has most.
    pub(crate) widest: usize,
}

/// What is to be told of a row besides its points.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seen: Seen,
    pub(crate) remarks: Remarks,
    /// Windows in which the start time of a sample is before the sample that it follows.
    pub(crate) overlaps: usize,
}

/// One window: the samples `lo..hi`, never none of them, in `(start, end]`.
#[derive(Clone, Copy)]
struct Window {
    step: usize,
    lo: usize,
    hi: usize,
    start: Timestamp,
    end: Timestamp,
}

/// Computes a function for every step.
pub(crate) fn apply(
    call: Call<'_>,
    samples: &Samples,
    grid: Grid,
    scratch: &mut Scratch,
    row: Row<'_>,
) -> Result<Outcome, Error> {
    let is_plain = samples.histograms.is_empty() && samples.floats.sts.is_empty();
    if is_plain && call.span.boundary.is_none() {
        let seen = floats::apply(call, &samples.floats, grid, scratch, row)?;
        return Ok(Outcome { seen, ..Outcome::default() });
    }
    both::apply(call, samples, grid, scratch, row)
}

/// Positions that mark a pair (i-1, i), of which a window has those with both samples inside.
struct Marks<'a> {
    all: &'a [usize],
    from: usize,
    to: usize,
}

impl<'a> Marks<'a> {
    fn new(all: &'a [usize]) -> Self {
        Self { all, from: 0, to: 0 }
    }

    fn inside(&mut self, lo: usize, hi: usize) -> &'a [usize] {
        while self.to < self.all.len() && self.all[self.to] < hi {
            self.to += 1;
        }
        while self.from < self.to && self.all[self.from] <= lo {
            self.from += 1;
        }
        &self.all[self.from..self.to]
    }
}

/// `time.Duration.Seconds` of a range in ms.
fn range_seconds(range: i64) -> f64 {
    (range / 1000) as f64 + (range % 1000 * 1_000_000) as f64 / 1e9
}
