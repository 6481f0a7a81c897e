//! Metric families written as others read them: what `/metrics` and `/federate` answer with.
//!
//! Four forms, of which a client asks for one by `Accept`: the text format 0.0.4 and protobuf, delimited for machines
//! and in two texts for people. Never OpenMetrics. A fifth, JSON, is for the status page of our own metrics. Names that
//! the classic rules do not allow are rewritten unless the client said that it takes them.
//! Not here: what is counted ([`super::expose`]) and reading ([`super::parse`], [`super::protobuf`]).
//!
//! Compat: prometheus/common `expfmt`, `Negotiate`, `NewEncoder`; `io.prometheus.client.MetricFamily`; protobuf's JSON.

mod accept;
mod escape;
mod message;
mod text;

use std::borrow::Cow;

pub use self::accept::negotiate;
pub use self::escape::Escaping;
use crate::{FloatHistogram, Histogram, Timestamp};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The text format, version 0.0.4.
    Text,
    /// Protobuf messages, each behind its length.
    ProtoDelimited,
    /// Protobuf messages as text of many lines.
    ProtoText,
    /// Protobuf messages as text of a line each.
    ProtoCompact,
}

impl Format {
    /// Whether exponential histograms can be written in it.
    pub const fn is_protobuf(self) -> bool {
        !matches!(self, Self::Text)
    }
}

/// The `Content-Type` of a body.
pub fn content_type(format: Format, escaping: Escaping) -> String {
    let kind = match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        Format::ProtoDelimited => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        }
        Format::ProtoText => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text"
        }
        Format::ProtoCompact => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=compact-text"
        }
    };
    format!("{kind}; escaping={}", escaping.as_str())
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

/// Metrics of one name.
///
/// Bytes that others sent may not be UTF-8; they are written as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Family<'a> {
    pub name: Cow<'a, [u8]>,
    pub help: Option<Cow<'a, [u8]>>,
    pub kind: Kind,
    /// A family without metrics is not written.
    pub metrics: Vec<Metric<'a>>,
}

/// Name and value of a label.
pub type Label<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// One element of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric<'a> {
    /// In the order in which they are written; never the metric's name.
    pub labels: Vec<Label<'a>>,
    pub value: Value<'a>,
    pub timestamp: Option<Timestamp>,
    /// When counting began; written of counters, summaries and histograms in protobuf only.
    pub created: Option<Timestamp>,
}

/// What an element shows; it has to go with the [`Kind`] of its family.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A counter, gauge or untyped value.
    Number(f64),
    Summary(Summary),
    Classic(Classic),
    /// An exponential histogram. In text, which has no form for its buckets, only count and sum are written.
    Native(Native<'a>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub sum: f64,
    /// Quantile and value.
    pub quantiles: Vec<(f64, f64)>,
}

/// A histogram with listed bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Classic {
    pub count: Count,
    pub sum: f64,
    /// Upper bounds, ascending, and how many observations are up to them. The infinite one may be left out.
    pub buckets: Vec<(f64, Count)>,
}

/// An exponential histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum Native<'a> {
    Int(Cow<'a, Histogram>),
    Float(Cow<'a, FloatHistogram>),
}

/// A number of observations: whole of what was observed here, a float of what was computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    Int(u64),
    Float(f64),
}

impl Count {
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Float(v) => v,
        }
    }
}

impl Classic {
    /// A histogram with custom buckets in the form that everybody reads.
    ///
    /// Compat: prometheus `web/federate.go`, `makeClassicHistogram`.
    pub fn from_custom(histogram: &FloatHistogram) -> Self {
        let mut counts = histogram.positive_counts().peekable();
        let mut cumulative = 0.0;
        let bounds = histogram.custom_values.iter().enumerate();
        let buckets = bounds.map(|(i, &bound)| {
            while let Some((_, count)) =
                counts.next_if(|&(at, _)| usize::try_from(at).map_or(true, |at| at <= i))
            {
                cumulative += count;
            }
            (bound, Count::Float(cumulative))
        });
        Self { buckets: buckets.collect(), count: Count::Float(histogram.count), sum: histogram.sum }
    }
}

/// Appends a family.
pub fn write_family(out: &mut Vec<u8>, family: &Family<'_>, format: Format, escaping: Escaping) {
    if family.metrics.is_empty() || family.name.is_empty() {
        return;
    }
    match format {
        Format::Text => text::write(out, family, escaping),
        Format::ProtoDelimited => message::write_delimited(out, family, escaping),
        Format::ProtoText => {
            message::write_text(out, family, escaping, true);
            out.push(b'\n');
        }
        Format::ProtoCompact => message::write_text(out, family, escaping, false),
    }
}

/// Appends a family as one JSON object, its names as they are.
pub fn write_json(out: &mut Vec<u8>, family: &Family<'_>) {
    message::write_json(out, family);
}

#[cfg(test)]
mod tests;
