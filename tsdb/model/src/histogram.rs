//! Native histograms: exponential or custom buckets in spans, with integer or float counts.
//!
//! An integer histogram keeps its buckets as differences to the bucket before (what exporters count, and what the
//! log and the chunks hold); a float histogram keeps them absolute.
//!
//! Compat: prometheus `model/histogram`, `Histogram`, `FloatHistogram`.

mod resolution;

pub use resolution::Bucket;

use crate::sample::is_stale;

/// The schema of histograms whose bounds are listed.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

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

impl<C, B> Buckets<C, B> {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
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
}

/// One histogram at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    pub t: crate::Timestamp,
    /// When the counts began, 0 if that is not known.
    pub st: crate::Timestamp,
    pub histogram: AnyHistogram,
}

/// Why a histogram is no histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InvalidHistogram {
    #[error(
        "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch,
    #[error(
        "histogram's observation count should be at least the number of observations found in the buckets"
    )]
    CountNotBigEnough,
    #[error("histogram has a bucket whose observation count is negative")]
    NegativeBucketCount,
    #[error("histogram has a span whose offset is negative")]
    SpanNegativeOffset,
    #[error("histogram spans specify different number of buckets than provided")]
    SpansBucketsMismatch,
    #[error("histogram custom bounds must be finite")]
    CustomBucketsInfinite,
    #[error("histogram custom bounds must be in strictly increasing order")]
    CustomBucketsInvalid,
    #[error("histogram custom bounds are too few")]
    CustomBucketsMismatch,
    #[error("custom buckets: must not have negative buckets")]
    CustomBucketsNegativeSide,
    #[error("custom buckets: must have zero count of 0")]
    CustomBucketsZeroCount,
    #[error("custom buckets: must have zero threshold of 0")]
    CustomBucketsZeroThreshold,
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialWithCustomBounds,
    #[error("histogram has an invalid schema")]
    InvalidSchema,
    #[error("histogram has an invalid zero threshold or count")]
    InvalidZeroBucket,
}
