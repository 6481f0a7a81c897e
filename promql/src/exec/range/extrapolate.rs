//! From the increase between the first and the last sample of a window to that over the whole window.
//!
//! Compat: prometheus `promql/functions.go` (3.14), `extrapolatedRate`.

use model::Timestamp;

/// A window `(start, end]` and the samples in it.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// Samples but the first.
    pub(super) gaps: usize,
}

impl Extent {
    /// By what the increase between two samples or more is multiplied. `share` is what a counter counted before the
    /// window, as a multiple of the increase; of a rate `per` are the seconds of the window.
    #[inline]
    pub(super) fn factor(self, share: Option<f64>, per: Option<f64>) -> f64 {
        self.stretch(per).factor(share)
    }

    /// What the factor comes from, but for the values: equal where the samples lie in their windows alike.
    #[inline]
    pub(super) fn stretch(self, per: Option<f64>) -> Stretch {
        let mut to_start = (self.first - self.start) as f64 / 1000.0;
        let sampled = (self.last - self.first) as f64 / 1000.0;
        let average = sampled / self.gaps as f64;
        // More than this away from the window's edge the series is taken to begin or end inside.
        let threshold = average * 1.1;
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        let to_end = self.to_end(average, threshold);
        Stretch { sampled, to_start, to_end, per, factor: stretch(sampled, to_start, to_end, per) }
    }

    /// The same for a counter that began at `start_time`, inside the window: nothing is missing before that.
    pub(super) fn factor_since(self, start_time: Timestamp, per: Option<f64>) -> f64 {
        let average =
            if self.gaps > 0 { (self.last - self.first) as f64 / 1000.0 / self.gaps as f64 } else { 0.0 };
        let sampled = (self.last - start_time) as f64 / 1000.0;
        stretch(sampled, 0.0, self.to_end(average, average * 1.1), per)
    }

    #[inline]
    fn to_end(self, average: f64, threshold: f64) -> f64 {
        let to_end = (self.end - self.last) as f64 / 1000.0;
        if to_end >= threshold { average / 2.0 } else { to_end }
    }
}

/// How far the samples of a window and what they stand for reach, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    sampled: f64,
    to_start: f64,
    to_end: f64,
    per: Option<f64>,
    /// Unless the counter reaches zero before.
    factor: f64,
}

impl Stretch {
    #[inline]
    pub(super) fn factor(&self, share: Option<f64>) -> f64 {
        if let Some(share) = share {
            // A counter cannot have been below zero.
            let to_zero = self.sampled * share;
            if to_zero < self.to_start {
                return stretch(self.sampled, to_zero, self.to_end, self.per);
            }
        }
        self.factor
    }
}

#[inline]
fn stretch(sampled: f64, to_start: f64, to_end: f64, per: Option<f64>) -> f64 {
    let factor = (sampled + to_start + to_end) / sampled;
    match per {
        Some(seconds) => factor / seconds,
        None => factor,
    }
}
