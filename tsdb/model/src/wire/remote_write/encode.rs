//! Requests on their way out.
//!
//! Compat: as [`super`]; the symbols of version 2 begin with the empty string, as its specification wants.

use std::collections::HashMap;

use super::super::protobuf::put;
use super::super::remote_histogram;
use super::{Message, Pair, Sample, Times};
use crate::storage::Metadata;
use crate::wire::parse::MetricType;
use crate::{Timestamp, Value};

/// Something of a series.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    Sample(Sample),
    Histogram(Times, Value<'a>),
    Exemplar { labels: &'a [Pair<'a>], v: f64, t: Timestamp },
}

/// A request under construction, and its memory for the next one.
#[derive(Clone, Debug)]
pub struct Writer {
    message: Message,
    series: Vec<u8>,
    symbols: Symbols,
}

#[derive(Clone, Debug, Default)]
struct Symbols {
    known: HashMap<Box<[u8]>, u32>,
    /// As fields of the request.
    encoded: Vec<u8>,
}

impl Symbols {
    fn find(&mut self, text: &[u8]) -> u32 {
        if let Some(&symbol) = self.known.get(text) {
            return symbol;
        }
        let symbol = u32::try_from(self.known.len()).expect("a request has fewer symbols than bytes");
        put::bytes_always(&mut self.encoded, 4, text);
        self.known.insert(text.into(), symbol);
        symbol
    }

    fn refs<'p>(&mut self, labels: impl IntoIterator<Item = Pair<'p>>) -> Vec<u32> {
        labels.into_iter().flat_map(|(name, value)| [self.find(name), self.find(value)]).collect()
    }
}

impl Writer {
    pub fn new(message: Message) -> Self {
        let mut writer = Self { message, series: Vec::new(), symbols: Symbols::default() };
        writer.clear();
        writer
    }

    /// Begins the next request.
    pub fn clear(&mut self) {
        self.series.clear();
        self.symbols.known.clear();
        self.symbols.encoded.clear();
        self.symbols.find(b"");
    }

    /// Adds a series; version 1 has no metadata of series and no start times.
    pub fn series<'p>(
        &mut self,
        labels: impl IntoIterator<Item = Pair<'p>>,
        parts: &[Part<'_>],
        metadata: Option<&Metadata>,
    ) {
        let Self { message, series, symbols } = self;
        match message {
            Message::V1 => put::message(series, 1, |out| {
                put_labels(out, labels);
                for part in parts {
                    put_v1(out, part);
                }
            }),
            Message::V2 => put::message(series, 5, |out| {
                let refs = symbols.refs(labels);
                put::packed(out, 1, &refs, |out, at| put::varint(out, u64::from(at)));
                for part in parts {
                    put_v2(out, part, symbols);
                }
                if let Some(metadata) = metadata {
                    let (help, unit) =
                        (symbols.find(metadata.help.as_bytes()), symbols.find(metadata.unit.as_bytes()));
                    put::message(out, 5, |out| {
                        put::uint(out, 1, code(metadata.kind));
                        put::uint(out, 3, u64::from(help));
                        put::uint(out, 4, u64::from(unit));
                    });
                }
            }),
        }
    }

    /// The request.
    pub fn body(&self) -> Vec<u8> {
        match self.message {
            Message::V1 => self.series.clone(),
            Message::V2 => [&self.symbols.encoded[..], &self.series].concat(),
        }
    }
}

pub(in super::super) fn put_labels<'p>(out: &mut Vec<u8>, labels: impl IntoIterator<Item = Pair<'p>>) {
    for (name, value) in labels {
        put::message(out, 1, |out| {
            put::bytes(out, 1, name);
            put::bytes(out, 2, value);
        });
    }
}

fn put_v1(out: &mut Vec<u8>, part: &Part<'_>) {
    match *part {
        Part::Sample(sample) => put_sample(out, Sample { st: 0, ..sample }),
        Part::Histogram(times, value) => {
            put::message(out, 4, |out| remote_histogram::write(out, Times { st: 0, ..times }, value));
        }
        Part::Exemplar { labels, v, t } => put::message(out, 3, |out| {
            put_labels(out, labels.iter().copied());
            put::double(out, 2, v);
            put::int(out, 3, t);
        }),
    }
}

fn put_v2(out: &mut Vec<u8>, part: &Part<'_>, symbols: &mut Symbols) {
    match *part {
        Part::Sample(sample) => put_sample(out, sample),
        Part::Histogram(times, value) => {
            put::message(out, 3, |out| remote_histogram::write(out, times, value));
        }
        Part::Exemplar { labels, v, t } => put::message(out, 4, |out| {
            let refs = symbols.refs(labels.iter().copied());
            put::packed(out, 1, &refs, |out, at| put::varint(out, u64::from(at)));
            put::double(out, 2, v);
            put::int(out, 3, t);
        }),
    }
}

pub(in super::super) fn put_sample(out: &mut Vec<u8>, sample: Sample) {
    put::message(out, 2, |out| {
        put::double(out, 1, sample.v);
        put::int(out, 2, sample.t);
        put::int(out, 3, sample.st);
    });
}

/// The number of a type in version 2.
const fn code(kind: MetricType) -> u64 {
    match kind {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}
