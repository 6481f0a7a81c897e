//! A sample, columns of them, and the two NaNs that mean something.

use crate::histogram::CounterResetHint;
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
    #[inline]
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

    /// Takes out the samples from `start` on.
    #[must_use]
    pub fn split_off(&mut self, start: Position) -> Self {
        let sts = if self.sts.is_empty() { Vec::new() } else { self.sts.split_off(start.float) };
        Self {
            ts: self.ts.split_off(start.float),
            vs: self.vs.split_off(start.float),
            sts,
            histograms: self.histograms.split_off(start.histogram),
        }
    }

    /// Merges the samples of `part` into those from `start` on, by time; at equal times what is there stays, whatever
    /// its type.
    ///
    /// A histogram that now follows one of the other batch is no longer known not to be a reset.
    pub fn merge_from(&mut self, start: Position, part: &Self) {
        self.merge_floats(start, part);
        self.merge_histograms(start, part);
    }

    fn merge_floats(&mut self, start: Position, part: &Self) {
        let (Some(&first), Some(&last)) = (part.ts.first(), part.ts.last()) else { return };
        // Where the two begin to interleave: usually at the end.
        let at = start.float + self.ts[start.float..].partition_point(|&t| t < first);
        let others = &self.histograms[start.histogram..];
        let others = &others[others.partition_point(|sample| sample.t < first)..];
        let is_apart = others.first().is_none_or(|sample| sample.t > last);
        if at == self.ts.len() && is_apart && self.sts.is_empty() && part.sts.is_empty() {
            self.ts.extend_from_slice(&part.ts);
            self.vs.extend_from_slice(&part.vs);
            return;
        }
        let mut taken: Vec<Timestamp> = Vec::new();
        if !is_apart {
            taken.extend(others.iter().map(|sample| sample.t));
        }
        let mut taken = taken.into_iter().peekable();
        let tail_sts = if self.sts.is_empty() { Vec::new() } else { self.sts.split_off(at) };
        let tail =
            Self { ts: self.ts.split_off(at), vs: self.vs.split_off(at), sts: tail_sts, ..Self::default() };
        self.ts.reserve(tail.len() + part.len());
        self.vs.reserve(tail.len() + part.len());
        let mut a = 0;
        for (b, (&t, &v)) in part.ts.iter().zip(&part.vs).enumerate() {
            while a < tail.len() && tail.ts[a] < t {
                self.push_started(tail.st(a), tail.ts[a], tail.vs[a]);
                a += 1;
            }
            while taken.next_if(|&other| other < t).is_some() {}
            let is_taken = tail.ts.get(a) == Some(&t) || taken.peek() == Some(&t);
            if !is_taken {
                self.push_started(part.st(b), t, v);
            }
        }
        for a in a..tail.len() {
            self.push_started(tail.st(a), tail.ts[a], tail.vs[a]);
        }
    }

    fn merge_histograms(&mut self, start: Position, part: &Self) {
        let Some(first) = part.histograms.first() else { return };
        let at =
            start.histogram + self.histograms[start.histogram..].partition_point(|sample| sample.t < first.t);
        let mut taken = self.ts[start.float..].iter().peekable();
        let tail = self.histograms.split_off(at);
        self.histograms.reserve(tail.len() + part.histograms.len());
        let mut tail = tail.into_iter().peekable();
        // Whether the sample before came from the other batch.
        let mut was_part = false;
        let mut add = |sample: HistogramSample, is_part: bool| {
            let mut sample = sample;
            let hint = sample.histogram.counter_reset_hint();
            if is_part != was_part && hint != CounterResetHint::Gauge {
                sample.histogram.set_counter_reset_hint(CounterResetHint::Unknown);
            }
            was_part = is_part;
            self.histograms.push(sample);
        };
        for sample in &part.histograms {
            while let Some(mine) = tail.next_if(|mine| mine.t < sample.t) {
                add(mine, false);
            }
            while taken.next_if(|&&t| t < sample.t).is_some() {}
            let is_taken =
                tail.peek().is_some_and(|mine| mine.t == sample.t) || taken.peek() == Some(&&sample.t);
            if !is_taken {
                add(sample.clone(), true);
            }
        }
        for mine in tail {
            add(mine, false);
        }
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

#[cfg(test)]
mod tests;
