//! A sample, columns of them, and the two NaNs that mean something.

use crate::{AnyHistogram, FloatHistogram, Histogram, HistogramSample, Timestamp};

/// The value that ends a series: bits `0x7ff0000000000002`.
///
/// It is a signalling NaN, so arithmetic may quiet it: compare it by bits, with [`is_stale`].
/// Compat: prometheus `model/value`, `StaleNaN`.
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The one bit pattern under which an ordinary NaN is stored.
/// Compat: prometheus `model/value`, `NormalNaN`.
pub const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Whether `v` is the staleness marker, judged by its bits.
pub const fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN.to_bits()
}

/// One value at one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub t: Timestamp,
    pub v: f64,
}

/// What a sample holds.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Float(f64),
    Histogram(&'a Histogram),
    FloatHistogram(&'a FloatHistogram),
}

impl<'a> From<&'a AnyHistogram> for Value<'a> {
    fn from(histogram: &'a AnyHistogram) -> Self {
        match histogram {
            AnyHistogram::Int(histogram) => Self::Histogram(histogram),
            AnyHistogram::Float(histogram) => Self::FloatHistogram(histogram),
        }
    }
}

/// A place in a [`SampleBatch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub float: usize,
    pub histogram: usize,
}

/// Samples of one series: floats as columns of equal length, histograms beside them, times ascending in each.
///
/// No time is in both. The owner of a loop keeps one and clears it between series, so that decoding floats
/// allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct SampleBatch {
    pub ts: Vec<Timestamp>,
    pub vs: Vec<f64>,
    /// When the count of each float began, 0 where that is not known; empty when it is known of none.
    pub sts: Vec<Timestamp>,
    pub histograms: Vec<HistogramSample>,
}

impl SampleBatch {
    pub fn clear(&mut self) {
        self.ts.clear();
        self.vs.clear();
        self.sts.clear();
        self.histograms.clear();
    }

    /// Appends a float whose start time is not known.
    #[inline]
    pub fn push(&mut self, t: Timestamp, v: f64) {
        self.ts.push(t);
        self.vs.push(v);
        if !self.sts.is_empty() {
            self.sts.push(0);
        }
    }

    /// Appends a float that counts since `st`, 0 if that is not known.
    pub fn push_started(&mut self, st: Timestamp, t: Timestamp, v: f64) {
        if st != 0 && self.sts.is_empty() {
            self.sts.resize(self.ts.len(), 0);
            self.sts.push(st);
        } else if !self.sts.is_empty() {
            self.sts.push(st);
        }
        self.ts.push(t);
        self.vs.push(v);
    }

    /// When the count of float `i` began, 0 if that is not known.
    pub fn st(&self, i: usize) -> Timestamp {
        self.sts.get(i).copied().unwrap_or(0)
    }

    /// Where the next sample will be.
    pub fn end(&self) -> Position {
        Position { float: self.ts.len(), histogram: self.histograms.len() }
    }

    /// Takes out the samples from `start` on at whose times `keep` says no; it is asked in order of time, floats first.
    pub fn retain_from(&mut self, start: Position, mut keep: impl FnMut(Timestamp) -> bool) {
        let mut kept = start.float;
        for at in start.float..self.ts.len() {
            if keep(self.ts[at]) {
                (self.ts[kept], self.vs[kept]) = (self.ts[at], self.vs[at]);
                if !self.sts.is_empty() {
                    self.sts[kept] = self.sts[at];
                }
                kept += 1;
            }
        }
        self.ts.truncate(kept);
        self.vs.truncate(kept);
        self.sts.truncate(kept);
        let mut at = 0;
        self.histograms.retain(|sample| {
            at += 1;
            at <= start.histogram || keep(sample.t)
        });
    }

    /// The number of floats.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there is no float.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// The floats.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Sample> + '_ {
        self.ts.iter().zip(&self.vs).map(|(&t, &v)| Sample { t, v })
    }
}
