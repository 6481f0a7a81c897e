//! The query language: text to tree ([`parse`]), tree to plan, plan to columns of values.
//!
//! Synchronous, and knows nothing of HTTP, of files or of the store beyond `model::storage`.
//!
//! Compat: prometheus `promql` and `promql/parser` (3.14).

#![forbid(unsafe_code)]

pub mod annotations;
pub mod engine;
mod exec;
pub mod parse;
mod plan;
pub mod testing;

pub use annotations::{Annotation, Annotations, Severity};
pub use engine::{
    CancelFlag, Detail, Ended, Engine, EngineOptions, Error, Features, Held, Lane, MatrixSeries, Observer,
    OperatorStats, Origin, QueryOptions, QueryResult, RangeParams, SampleValue, Stats, StepStats, Value,
    VectorSample,
};
pub use plan::passes::Passes;
