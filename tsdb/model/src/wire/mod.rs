//! Byte forms on the wire: what targets expose and what we expose ourselves.

pub mod encode;
pub mod expose;
pub mod nhcb;
pub mod otlp;
pub mod parse;
pub mod protobuf;
pub mod remote_read;
pub mod remote_write;

mod line;
mod openmetrics;
mod remote_histogram;
mod text;
mod token;

#[cfg(test)]
mod testing;

use crate::histogram::{Invalid, InvalidHistogram};
use crate::{FloatHistogram, Histogram, Value};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics, 0.0.1 and 1.0.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

impl Format {
    /// Which of the text formats it is.
    pub const fn text(self) -> Option<parse::Format> {
        match self {
            Self::Text => Some(parse::Format::Text),
            Self::OpenMetrics => Some(parse::Format::OpenMetrics),
            Self::Protobuf => None,
        }
    }
}

/// What is made of the histograms of a body.
///
/// Compat: prometheus `model/textparse`, `ParserOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramOptions {
    /// Native histograms are taken; else what is native in them is passed over.
    pub native: bool,
    /// The classic series are taken beside the native histogram that stands for the same.
    pub classic_too: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert: bool,
}

/// A native histogram of either kind in memory that is used again for the next one.
#[derive(Clone, Debug, Default)]
pub struct Native {
    pub int: Histogram,
    pub float: FloatHistogram,
    /// Which of the two is meant.
    pub is_float: bool,
}

impl Native {
    pub fn value(&self) -> Value<'_> {
        if self.is_float { Value::FloatHistogram(&self.float) } else { Value::Histogram(&self.int) }
    }

    pub fn schema(&self) -> i32 {
        if self.is_float { self.float.schema } else { self.int.schema }
    }

    /// Buckets on both sides, empty ones that are written out among them.
    pub fn n_buckets(&self) -> usize {
        if self.is_float {
            self.float.positive_buckets.len() + self.float.negative_buckets.len()
        } else {
            self.int.positive_buckets.len() + self.int.negative_buckets.len()
        }
    }

    /// Merges exponential buckets to those of a coarser schema.
    ///
    /// # Errors
    /// The histogram contradicts itself or has no exponential buckets.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), InvalidHistogram> {
        if self.is_float { self.float.reduce_resolution(schema) } else { self.int.reduce_resolution(schema) }
    }

    /// Checks all that readers rely on.
    ///
    /// # Errors
    /// What is wrong with it, the first of several things.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.is_float { self.float.validate() } else { self.int.validate() }
    }
}
