//! Native histograms: exponential or custom buckets in spans, with integer or float counts.
//!
//! An integer histogram keeps its buckets as differences to the bucket before (what exporters count, and what the
//! log and the chunks hold); a float histogram keeps them absolute.
//!
//! Compat: prometheus `model/histogram`, `Histogram`, `FloatHistogram`.

mod arithmetic;
pub mod bounds;
mod buckets;
mod custom;
mod display;
mod reset;
mod shape;
mod trim;
mod union;
mod validate;
mod zero;

use std::borrow::Cow;
use std::fmt::Debug;

pub use self::arithmetic::{Combined, MixedSchemas};
pub use self::buckets::{Counts, Interval, Place};
pub use self::trim::TrimSide;
pub use self::validate::{Invalid, InvalidHistogram};
use crate::sample::is_stale;

/// The schema of histograms whose bounds are listed.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// The exponential schemas that are stored and queried.
pub const SCHEMA_MIN: i32 = -4;
pub const SCHEMA_MAX: i32 = 8;

/// The exponential schemas that are understood when read; what is too fine is reduced to [`SCHEMA_MAX`].
pub const SCHEMA_MIN_KNOWN: i32 = -9;
pub const SCHEMA_MAX_KNOWN: i32 = 52;

/// Whether the counts went back since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CounterResetHint {
    /// Has to be found out by comparing.
    #[default]
    Unknown = 0,
    CounterReset = 1,
    NotCounterReset = 2,
    /// Counts of a gauge may always go back.
    Gauge = 3,
}

/// Buckets that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Empty buckets since the end of the span before; the first one counts from index 0 and may be negative.
    pub offset: i32,
    pub length: u32,
}

/// Counts in buckets; `C` is the type of totals, `B` that of what is kept per bucket.
///
/// Equality is that of numbers, under which no NaN equals itself; see [`Buckets::is_same`] for data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets<C, B> {
    pub counter_reset_hint: CounterResetHint,
    /// -4 to 8: a power of two has 2^schema buckets. [`CUSTOM_BUCKETS_SCHEMA`]: bounds are in `custom_values`.
    pub schema: i32,
    /// The zero bucket reaches so far on both sides.
    pub zero_threshold: f64,
    pub zero_count: C,
    pub count: C,
    /// The marker [`crate::STALE_NAN`] here makes the whole histogram a staleness marker.
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<B>,
    pub negative_buckets: Vec<B>,
    /// The upper bounds, ascending, the infinite one left out.
    pub custom_values: Vec<f64>,
}

/// Integer counts; every bucket as the difference to the one before.
pub type Histogram = Buckets<u64, i64>;

/// Float counts; every bucket as it is.
pub type FloatHistogram = Buckets<f64, f64>;

impl<C: Copy, B: Copy> Buckets<C, B> {
    /// Becomes a copy of `other`, in its own memory.
    pub fn copy_from(&mut self, other: &Self) {
        let Self {
            positive_spans, negative_spans, positive_buckets, negative_buckets, custom_values, ..
        } = self;
        positive_spans.clone_from(&other.positive_spans);
        negative_spans.clone_from(&other.negative_spans);
        positive_buckets.clone_from(&other.positive_buckets);
        negative_buckets.clone_from(&other.negative_buckets);
        custom_values.clone_from(&other.custom_values);
        self.copy_totals(other);
    }

    /// Becomes a copy of `other` without buckets, spans and bounds, in its own memory.
    pub fn copy_totals_of(&mut self, other: &Self) {
        self.clear_buckets();
        self.copy_totals(other);
    }

    /// Removes all buckets, spans and bounds; their memory stays.
    pub fn clear_buckets(&mut self) {
        self.positive_spans.clear();
        self.negative_spans.clear();
        self.positive_buckets.clear();
        self.negative_buckets.clear();
        self.custom_values.clear();
    }

    fn copy_totals(&mut self, other: &Self) {
        self.counter_reset_hint = other.counter_reset_hint;
        self.schema = other.schema;
        self.zero_threshold = other.zero_threshold;
        self.zero_count = other.zero_count;
        self.count = other.count;
        self.sum = other.sum;
    }
}

impl<C, B> Buckets<C, B> {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether spans and buckets match and indices ascend, without which a histogram can neither be encoded nor
    /// read. What [`Histogram::validate`] accepts is; what comes from elsewhere has to be asked.
    pub fn is_well_formed(&self) -> bool {
        let side = |spans: &[Span], buckets: &[B]| {
            spans.iter().skip(1).all(|span| span.offset >= 0)
                && spans.iter().map(|span| u64::from(span.length)).sum::<u64>() == buckets.len() as u64
        };
        side(&self.positive_spans, &self.positive_buckets)
            && side(&self.negative_spans, &self.negative_buckets)
    }
}

/// What is kept per bucket: a count, or the difference to the one before.
pub trait BucketCount: Copy + Debug + Default + PartialOrd {
    /// Whether it is a count itself.
    const IS_COUNT: bool;

    /// Buckets as counts.
    fn absolute(buckets: &[Self]) -> Cow<'_, [Self]>;

    /// The way back from [`BucketCount::absolute`].
    fn from_absolute(counts: Vec<Self>) -> Vec<Self>;

    /// The count in a bucket, given that in the bucket before.
    #[must_use]
    fn count_after(self, previous: Self) -> Self;

    /// The count of two buckets in one.
    #[must_use]
    fn add(self, other: Self) -> Self;
}

impl BucketCount for i64 {
    const IS_COUNT: bool = false;

    fn absolute(buckets: &[Self]) -> Cow<'_, [Self]> {
        let sums = buckets.iter().scan(0_i64, |sum, &bucket| {
            *sum = bucket.count_after(*sum);
            Some(*sum)
        });
        sums.collect()
    }

    fn count_after(self, previous: Self) -> Self {
        previous.wrapping_add(self)
    }

    fn from_absolute(mut counts: Vec<Self>) -> Vec<Self> {
        let mut previous = 0;
        for count in &mut counts {
            (previous, *count) = (*count, count.wrapping_sub(previous));
        }
        counts
    }

    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

impl BucketCount for f64 {
    const IS_COUNT: bool = true;

    fn absolute(buckets: &[Self]) -> Cow<'_, [Self]> {
        Cow::Borrowed(buckets)
    }

    fn count_after(self, _: Self) -> Self {
        self
    }

    fn from_absolute(counts: Vec<Self>) -> Vec<Self> {
        counts
    }

    fn add(self, other: Self) -> Self {
        self + other
    }
}

impl Histogram {
    /// The same counts as floats.
    pub fn to_float(&self) -> FloatHistogram {
        self.clone().into_float()
    }

    /// As [`Histogram::to_float`], in the memory of this one.
    pub fn into_float(self) -> FloatHistogram {
        // Summed as floats, as upstream sums. The vector of floats is that of the integers.
        let counts = |buckets: Vec<i64>| -> Vec<f64> {
            let sums = buckets.into_iter().scan(0.0, |sum, bucket| {
                *sum += bucket as f64;
                Some(*sum)
            });
            sums.collect()
        };
        let has_zero = !self.uses_custom_buckets();
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: if has_zero { self.zero_threshold } else { 0.0 },
            zero_count: if has_zero { self.zero_count as f64 } else { 0.0 },
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans,
            negative_spans: if has_zero { self.negative_spans } else { Vec::new() },
            positive_buckets: counts(self.positive_buckets),
            negative_buckets: if has_zero { counts(self.negative_buckets) } else { Vec::new() },
            custom_values: if has_zero { Vec::new() } else { self.custom_values },
        }
    }
}

/// A histogram of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyHistogram {
    Int(Box<Histogram>),
    Float(Box<FloatHistogram>),
}

impl AnyHistogram {
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Int(histogram) => histogram.is_stale(),
            Self::Float(histogram) => histogram.is_stale(),
        }
    }

    /// Whether both are of one kind and hold the same data, see [`Buckets::is_same`].
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.is_same(b),
            (Self::Float(a), Self::Float(b)) => a.is_same(b),
            _ => false,
        }
    }

    pub fn counter_reset_hint(&self) -> CounterResetHint {
        match self {
            Self::Int(histogram) => histogram.counter_reset_hint,
            Self::Float(histogram) => histogram.counter_reset_hint,
        }
    }

    pub fn set_counter_reset_hint(&mut self, hint: CounterResetHint) {
        match self {
            Self::Int(histogram) => histogram.counter_reset_hint = hint,
            Self::Float(histogram) => histogram.counter_reset_hint = hint,
        }
    }
}

/// One histogram at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    pub t: crate::Timestamp,
    /// When the counts began, 0 if that is not known.
    pub st: crate::Timestamp,
    pub histogram: AnyHistogram,
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
