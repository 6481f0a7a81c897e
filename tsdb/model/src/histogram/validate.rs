//! What makes a histogram acceptable.
//!
//! Compat: prometheus `model/histogram`, `Validate`: the same checks in the same order, with the same texts.

use std::fmt;

use super::{
    BucketCount, Buckets, CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, SCHEMA_MAX, SCHEMA_MIN, Span,
};
use crate::number;

/// Why a histogram is no histogram: the kind of reason, which costs nothing to pass on.
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
    #[error("histogram's observation count is negative")]
    NegativeCount,
    #[error("histogram has a bucket whose observation count is negative")]
    NegativeBucketCount,
    #[error("histogram has a span whose offset is negative")]
    SpanNegativeOffset,
    #[error("histogram spans specify different number of buckets than provided")]
    SpansBucketsMismatch,
    #[error("histogram custom bounds are too few")]
    CustomBucketsMismatch,
    #[error("histogram custom bounds must be in strictly increasing order")]
    CustomBucketsInvalid,
    #[error("histogram custom bounds must be finite")]
    CustomBucketsInfinite,
    #[error("histogram custom bounds must not be NaN")]
    CustomBucketsNan,
    #[error("custom buckets: must have zero count of 0")]
    CustomBucketsZeroCount,
    #[error("custom buckets: must have zero threshold of 0")]
    CustomBucketsZeroThreshold,
    #[error("custom buckets: must not have negative spans")]
    CustomBucketsNegativeSpans,
    #[error("custom buckets: must not have negative buckets")]
    CustomBucketsNegativeBuckets,
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialWithCustomBounds,
    #[error(
        "histogram has an invalid schema, which must be between {SCHEMA_MIN} and {SCHEMA_MAX} for exponential buckets, or {CUSTOM_BUCKETS_SCHEMA} for custom buckets"
    )]
    InvalidSchema,
}

/// Why a histogram is no histogram, with what was found: the text for those who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub kind: InvalidHistogram,
    before: String,
    behind: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, before, behind } = self;
        write!(f, "{before}{kind}{behind}")
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for InvalidHistogram {
    fn from(invalid: Invalid) -> Self {
        invalid.kind
    }
}

impl From<InvalidHistogram> for Invalid {
    fn from(kind: InvalidHistogram) -> Self {
        Self { kind, before: String::new(), behind: String::new() }
    }
}

impl Invalid {
    fn new(kind: InvalidHistogram, found: impl fmt::Display) -> Self {
        Self { kind, before: format!("{found}: "), behind: String::new() }
    }

    fn in_part(mut self, part: &str) -> Self {
        self.before.insert_str(0, ": ");
        self.before.insert_str(0, part);
        self
    }
}

impl Histogram {
    /// Checks all that readers rely on.
    ///
    /// # Errors
    /// What is wrong with it, the first of several things.
    pub fn validate(&self) -> Result<(), Invalid> {
        check(self)?;
        let in_buckets = |buckets: &[i64]| {
            i64::absolute(buckets).iter().fold(0_u64, |sum, &count| sum.wrapping_add(count.cast_unsigned()))
        };
        let found = in_buckets(&self.negative_buckets)
            .wrapping_add(in_buckets(&self.positive_buckets))
            .wrapping_add(self.zero_count);
        // Observations of NaN are counted but are in no bucket.
        let kind = if self.sum.is_nan() && found > self.count {
            InvalidHistogram::CountNotBigEnough
        } else if !self.sum.is_nan() && found != self.count {
            InvalidHistogram::CountMismatch
        } else {
            return Ok(());
        };
        let what =
            format_args!("{found} observations found in buckets, but the Count field is {}", self.count);
        Err(Invalid::new(kind, what))
    }
}

impl FloatHistogram {
    /// Checks all that readers rely on; not whether the counts add up, which rounding may have spoilt.
    ///
    /// # Errors
    /// What is wrong with it, the first of several things.
    pub fn validate(&self) -> Result<(), Invalid> {
        check(self)
    }
}

/// A number of observations as it is checked and told.
trait Observations: Copy + Default + PartialOrd {
    fn told(self) -> String;

    fn is_negative(self) -> bool {
        self < Self::default()
    }
}

impl Observations for u64 {
    fn told(self) -> String {
        self.to_string()
    }
}

impl Observations for i64 {
    fn told(self) -> String {
        self.to_string()
    }
}

impl Observations for f64 {
    fn told(self) -> String {
        number::format_g(self)
    }
}

/// The checks that both kinds share.
fn check<C: Observations, B: BucketCount + Observations>(histogram: &Buckets<C, B>) -> Result<(), Invalid> {
    let Buckets { schema, zero_threshold, zero_count, count, .. } = *histogram;
    let Buckets { positive_spans, negative_spans, positive_buckets, negative_buckets, .. } = histogram;
    match schema {
        CUSTOM_BUCKETS_SCHEMA => {
            check_bounds(&histogram.custom_values, positive_spans, positive_buckets.len())
                .map_err(|e| e.in_part("custom buckets"))?;
            if zero_count != C::default() {
                return Err(InvalidHistogram::CustomBucketsZeroCount.into());
            }
            if zero_threshold != 0.0 {
                return Err(InvalidHistogram::CustomBucketsZeroThreshold.into());
            }
            if !negative_spans.is_empty() {
                return Err(InvalidHistogram::CustomBucketsNegativeSpans.into());
            }
            if !negative_buckets.is_empty() {
                return Err(InvalidHistogram::CustomBucketsNegativeBuckets.into());
            }
        }
        SCHEMA_MIN..=SCHEMA_MAX => {
            check_spans(positive_spans, positive_buckets.len()).map_err(|e| e.in_part("positive side"))?;
            check_spans(negative_spans, negative_buckets.len()).map_err(|e| e.in_part("negative side"))?;
            check_buckets(negative_buckets).map_err(|e| e.in_part("negative side"))?;
            if zero_count.is_negative() {
                let what = format_args!("zero bucket has observation count of {}", zero_count.told());
                return Err(Invalid::new(InvalidHistogram::NegativeBucketCount, what));
            }
            if !histogram.custom_values.is_empty() {
                return Err(InvalidHistogram::ExponentialWithCustomBounds.into());
            }
        }
        _ => {
            let behind = format!(", got schema {schema}");
            return Err(Invalid { behind, ..InvalidHistogram::InvalidSchema.into() });
        }
    }
    if count.is_negative() {
        // Two blanks, as those who match on the text have them.
        let what = format_args!("observation count is  {}", count.told());
        return Err(Invalid::new(InvalidHistogram::NegativeCount, what));
    }
    check_buckets(positive_buckets).map_err(|e| e.in_part("positive side"))
}

fn check_spans(spans: &[Span], n_buckets: usize) -> Result<(), Invalid> {
    if let Some((i, span)) = spans.iter().enumerate().skip(1).find(|(_, span)| span.offset < 0) {
        return Err(negative_offset(i, *span));
    }
    check_number(spans, n_buckets)
}

fn check_number(spans: &[Span], n_buckets: usize) -> Result<(), Invalid> {
    let needed: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if needed == n_buckets as u64 {
        return Ok(());
    }
    let what = format_args!("spans need {needed} buckets, have {n_buckets} buckets");
    Err(Invalid::new(InvalidHistogram::SpansBucketsMismatch, what))
}

fn negative_offset(i: usize, span: Span) -> Invalid {
    let what = format_args!("span number {} with offset {}", i + 1, span.offset);
    Invalid::new(InvalidHistogram::SpanNegativeOffset, what)
}

fn check_buckets<B: BucketCount + Observations>(buckets: &[B]) -> Result<(), Invalid> {
    match B::absolute(buckets).iter().enumerate().find(|(_, count)| count.is_negative()) {
        None => Ok(()),
        Some((i, count)) => {
            let what = format_args!("bucket number {} has observation count of {}", i + 1, count.told());
            Err(Invalid::new(InvalidHistogram::NegativeBucketCount, what))
        }
    }
}

fn check_bounds(bounds: &[f64], spans: &[Span], n_buckets: usize) -> Result<(), Invalid> {
    let mut previous = None;
    for &bound in bounds {
        if bound.is_nan() {
            return Err(InvalidHistogram::CustomBucketsNan.into());
        }
        if let Some(previous) = previous.filter(|&previous| bound <= previous) {
            let [previous, bound] = [previous, bound].map(|v| number::format_fixed(v, 6));
            let what = format_args!("previous bound is {previous} and current is {bound}");
            return Err(Invalid::new(InvalidHistogram::CustomBucketsInvalid, what));
        }
        previous = Some(bound);
    }
    if previous == Some(f64::INFINITY) {
        let what = "last +Inf bound must not be explicitly defined";
        return Err(Invalid::new(InvalidHistogram::CustomBucketsInfinite, what));
    }
    if let Some((i, span)) = spans.iter().enumerate().find(|(_, span)| span.offset < 0) {
        return Err(negative_offset(i, *span));
    }
    check_number(spans, n_buckets)?;
    // No offset is negative here.
    let covered: u64 =
        spans.iter().map(|span| u64::from(span.offset.unsigned_abs()) + u64::from(span.length)).sum();
    if covered > bounds.len() as u64 + 1 {
        let what = format_args!(
            "only {} custom bounds defined which is insufficient to cover total span length of {covered}",
            bounds.len()
        );
        return Err(Invalid::new(InvalidHistogram::CustomBucketsMismatch, what));
    }
    Ok(())
}
