//! The histograms of a series as readers want them: as floats, in memory that goes from one series to the next.
//!
//! What writes samples keeps them as they came, see [`crate::SampleBatch`]; a query asks for counts as floats, for
//! thousands of series in a row, and a histogram is five pieces of memory.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::{AnyHistogram, FloatHistogram, HistogramSample, Timestamp};

/// Histograms that are kept for their memory alone: two hours at 250 ms.
const SPARE_MAX: usize = 32_768;

/// What of histograms a reader looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    #[default]
    All,
    /// Schema, count, sum and hint, and what it takes to find hints that are not known: of those histograms alone that
    /// have none, and of those right before them, everything.
    Stats,
}

/// A histogram at one time.
#[derive(Clone, Debug)]
pub struct HistogramPoint {
    pub t: Timestamp,
    /// When the counts began, 0 if that is not known.
    pub st: Timestamp,
    pub value: Arc<FloatHistogram>,
}

/// Histograms of one series, times ascending; the owner of a loop keeps one and clears it between series.
#[derive(Debug, Default)]
pub struct HistogramPoints {
    points: Vec<HistogramPoint>,
    /// Held by nobody else.
    spare: Vec<Arc<FloatHistogram>>,
}

impl HistogramPoints {
    /// Removes all; those that nobody else holds lend their memory to the next.
    pub fn clear(&mut self) {
        for point in self.points.drain(..) {
            keep_spare(&mut self.spare, point.value);
        }
    }

    /// Keeps the first `len`.
    pub fn truncate(&mut self, len: usize) {
        for point in self.points.drain(len.min(self.points.len())..) {
            keep_spare(&mut self.spare, point.value);
        }
    }

    /// Appends a histogram that `fill` makes of one with any content.
    pub fn push_with(&mut self, t: Timestamp, st: Timestamp, fill: impl FnOnce(&mut FloatHistogram)) {
        let value = self.make(fill);
        self.points.push(HistogramPoint { t, st, value });
    }

    /// A histogram that `fill` makes of one with any content.
    pub fn make(&mut self, fill: impl FnOnce(&mut FloatHistogram)) -> Arc<FloatHistogram> {
        let mut value = self.spare.pop().unwrap_or_default();
        fill(Arc::get_mut(&mut value).expect("what is spare is held by nobody else"));
        value
    }

    /// As [`Self::make`], where `fill` may come to nothing.
    pub fn try_make(
        &mut self,
        fill: impl FnOnce(&mut FloatHistogram) -> Option<()>,
    ) -> Option<Arc<FloatHistogram>> {
        let mut filled = None;
        let value = self.make(|h| filled = fill(h));
        if filled.is_none() {
            self.recycle(value);
            return None;
        }
        Some(value)
    }

    /// Takes a histogram for its memory, if nobody else holds it.
    pub fn recycle(&mut self, value: Arc<FloatHistogram>) {
        keep_spare(&mut self.spare, value);
    }

    /// Appends samples of either kind; none remains in `samples`.
    pub fn take_from(&mut self, samples: &mut Vec<HistogramSample>) {
        for HistogramSample { t, st, histogram } in samples.drain(..) {
            let value = Arc::new(match histogram {
                AnyHistogram::Int(histogram) => histogram.into_float(),
                AnyHistogram::Float(histogram) => *histogram,
            });
            self.points.push(HistogramPoint { t, st, value });
        }
    }

    /// Whether there is memory to be used again.
    pub fn has_spare(&self) -> bool {
        !self.spare.is_empty()
    }

    pub fn into_points(self) -> Vec<HistogramPoint> {
        self.points
    }
}

fn keep_spare(spare: &mut Vec<Arc<FloatHistogram>>, mut value: Arc<FloatHistogram>) {
    if spare.len() < SPARE_MAX && Arc::get_mut(&mut value).is_some() {
        spare.push(value);
    }
}

impl Deref for HistogramPoints {
    type Target = Vec<HistogramPoint>;

    fn deref(&self) -> &Vec<HistogramPoint> {
        &self.points
    }
}

impl DerefMut for HistogramPoints {
    fn deref_mut(&mut self) -> &mut Vec<HistogramPoint> {
        &mut self.points
    }
}

impl From<Vec<HistogramPoint>> for HistogramPoints {
    fn from(points: Vec<HistogramPoint>) -> Self {
        Self { points, spare: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_on_unless_somebody_holds_it() {
        let mut points = HistogramPoints::default();
        for (t, count) in [(1, 10.0), (2, 20.0)] {
            points.push_with(t, 0, |h| h.count = count);
        }
        let held = Arc::clone(&points[1].value);
        points.clear();
        assert!(points.is_empty());
        points.push_with(3, 0, |h| assert_eq!(h.count, 10.0, "the memory of the first"));
        points.push_with(4, 0, |h| assert_eq!(h.count, 0.0, "that of the second is held"));
        assert_eq!(held.count, 20.0);
        points.truncate(1);
        assert_eq!(points.iter().map(|point| point.t).collect::<Vec<_>>(), [3]);
        assert_eq!(points.make(|_| ()).count, 0.0);
    }
}
