//! Requests of the OpenTelemetry protocol that bring metrics, decoded from protobuf or JSON into the same structures.
//!
//! Texts are borrowed from the body where it has them as they are. Nothing here knows series: what becomes of a metric
//! is settled by who receives it. Texts that are no UTF-8, which protobuf forbids and some clients send, get U+FFFD in
//! place of what cannot be read, so that one bad attribute does not cost the request.
//!
//! Compat: opentelemetry-proto 1.x, `ExportMetricsServiceRequest`; opentelemetry-collector `pdata` in what it refuses.

mod json;
mod protobuf;

use std::borrow::Cow;

pub use self::json::{Bad as BadJson, from_json};
pub use self::protobuf::from_protobuf;

/// The most memory that a request may take once decoded: an empty message takes two bytes on the wire and some
/// hundred here.
pub const DECODED_BYTES_MAX: usize = 256 << 20;

/// The most buckets that a histogram has on a side; what has more is refused.
pub const BUCKETS_MAX: usize = 64 << 10;

/// The flag of a point that stands for "there is no value any more".
const NO_RECORDED_VALUE: u32 = 1;

/// Why a body is no request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Protobuf(#[from] super::protobuf::cursor::Bad),
    #[error("parse OTLP request as JSON: {0}")]
    Json(#[from] BadJson),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request<'a> {
    pub resources: Vec<ResourceMetrics<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceMetrics<'a> {
    pub attributes: Vec<KeyValue<'a>>,
    pub scopes: Vec<ScopeMetrics<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScopeMetrics<'a> {
    pub scope: Scope<'a>,
    pub schema_url: Cow<'a, str>,
    pub metrics: Vec<Metric<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope<'a> {
    pub name: Cow<'a, str>,
    pub version: Cow<'a, str>,
    pub attributes: Vec<KeyValue<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric<'a> {
    pub name: Cow<'a, str>,
    pub description: Cow<'a, str>,
    pub unit: Cow<'a, str>,
    pub data: Data<'a>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Data<'a> {
    /// Nothing was sent, or a kind of the future.
    #[default]
    Unknown,
    Gauge(Vec<NumberPoint<'a>>),
    Sum {
        points: Vec<NumberPoint<'a>>,
        temporality: Temporality,
        is_monotonic: bool,
    },
    Histogram {
        points: Vec<HistogramPoint<'a>>,
        temporality: Temporality,
    },
    Exponential {
        points: Vec<ExponentialPoint<'a>>,
        temporality: Temporality,
    },
    Summary(Vec<SummaryPoint<'a>>),
}

impl Data<'_> {
    /// Whether each point counts since the one before or since a beginning; `None` for what does not count.
    pub const fn temporality(&self) -> Option<Temporality> {
        match self {
            Self::Sum { temporality, .. }
            | Self::Histogram { temporality, .. }
            | Self::Exponential { temporality, .. } => Some(*temporality),
            Self::Unknown | Self::Gauge(_) | Self::Summary(_) => None,
        }
    }

    pub const fn len(&self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Gauge(points) | Self::Sum { points, .. } => points.len(),
            Self::Histogram { points, .. } => points.len(),
            Self::Exponential { points, .. } => points.len(),
            Self::Summary(points) => points.len(),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Temporality {
    #[default]
    Unspecified,
    Delta,
    Cumulative,
}

impl Temporality {
    const fn of(number: i32) -> Self {
        match number {
            1 => Self::Delta,
            2 => Self::Cumulative,
            _ => Self::Unspecified,
        }
    }
}

/// When a point was taken and what is said beside its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head<'a> {
    pub attributes: Vec<KeyValue<'a>>,
    /// Nanoseconds since the epoch; 0 if not known.
    pub start: u64,
    /// Nanoseconds since the epoch.
    pub time: u64,
    pub flags: u32,
}

impl Head<'_> {
    /// Whether the point says that there is no value any more.
    pub const fn has_no_value(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    pub const fn to_f64(self) -> f64 {
        match self {
            Self::Int(v) => v as f64,
            Self::Double(v) => v,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberPoint<'a> {
    pub head: Head<'a>,
    pub value: Option<Number>,
    pub exemplars: Vec<Exemplar<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramPoint<'a> {
    pub head: Head<'a>,
    pub count: u64,
    pub sum: Option<f64>,
    /// One more than there are bounds.
    pub counts: Vec<u64>,
    pub bounds: Vec<f64>,
    pub exemplars: Vec<Exemplar<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialPoint<'a> {
    pub head: Head<'a>,
    pub count: u64,
    pub sum: Option<f64>,
    pub scale: i32,
    pub zero_count: u64,
    pub zero_threshold: f64,
    pub positive: Side,
    pub negative: Side,
    pub exemplars: Vec<Exemplar<'a>>,
}

/// The buckets of an exponential histogram on one side of zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The index of the first.
    pub offset: i32,
    pub counts: Vec<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SummaryPoint<'a> {
    pub head: Head<'a>,
    pub count: u64,
    pub sum: f64,
    /// Quantiles and their values.
    pub quantiles: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar<'a> {
    pub attributes: Vec<KeyValue<'a>>,
    /// Nanoseconds since the epoch; 0 if not known.
    pub time: u64,
    pub value: Option<Number>,
    /// All zero if there is none.
    pub trace_id: [u8; 16],
    /// All zero if there is none.
    pub span_id: [u8; 8],
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyValue<'a> {
    pub key: Cow<'a, str>,
    pub value: AnyValue<'a>,
}

/// The value of an attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AnyValue<'a> {
    #[default]
    Empty,
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Cow<'a, [u8]>),
    List(Vec<AnyValue<'a>>),
    Map(Vec<KeyValue<'a>>),
}

#[cfg(test)]
mod tests;
