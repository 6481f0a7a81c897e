//! A float sample, columns of them, and the two NaNs that mean something.

use crate::Timestamp;

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

/// Samples of one series as two columns of equal length, times ascending.
///
/// The owner of a loop keeps one and clears it between series, so that decoding allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct SampleBatch {
    pub ts: Vec<Timestamp>,
    pub vs: Vec<f64>,
}

impl SampleBatch {
    pub fn clear(&mut self) {
        self.ts.clear();
        self.vs.clear();
    }

    pub fn push(&mut self, t: Timestamp, v: f64) {
        self.ts.push(t);
        self.vs.push(v);
    }

    pub fn len(&self) -> usize {
        self.ts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Sample> + '_ {
        self.ts.iter().zip(&self.vs).map(|(&t, &v)| Sample { t, v })
    }
}
