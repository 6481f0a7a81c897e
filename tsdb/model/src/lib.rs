//! What every room of the house shares: labels, matchers, samples, time, the storage traits and the wire codecs.
//!
//! Imports nothing of ours, knows nothing of HTTP, YAML, PromQL or files, and has no async code.
//! `promql` and `tsdb` meet only here, so they build and are tested apart.

#![forbid(unsafe_code)]

// For test code that is also compiled outside.
#[cfg(test)]
extern crate self as model;

pub mod duration;
pub mod elementary;
pub mod exemplar;
pub mod fnv;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod memory;
pub mod number;
pub mod points;
pub mod quote;
pub mod regex;
pub mod sample;
pub mod storage;
pub mod time;
pub mod wire;
pub mod xxhash;

pub use exemplar::Exemplar;
pub use fnv::fnv1a;
pub use histogram::{AnyHistogram, FloatHistogram, Histogram, HistogramSample};
pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher};
pub use points::{Detail, HistogramPoint, HistogramPoints};
pub use regex::Regex;
pub use sample::{Position, STALE_NAN, Sample, SampleBatch, Value, is_stale};
pub use time::{TimeRange, Timestamp};

#[cfg(test)]
mod golden;
