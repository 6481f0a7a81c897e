//! One open chunk of any encoding, in memory of its own.
//!
//! For whoever writes samples of any kind: the head for what is no plain float, compaction, tests. Plain floats in
//! the head have their own buffers, see [`super::xor::State`].
//!
//! Compat: prometheus `tsdb/chunkenc`, `Appender`: where samples begin another chunk, and what its header says.

use model::{SampleBatch, TimeRange, Timestamp, Value};

use super::histogram::{self, Appended, Float, Int};
use super::{EncodedChunk, Encoding, FloatEncoding, decode_first, xor, xor2};

/// A chunk under construction; it is never without a sample.
#[derive(Clone, Debug)]
pub struct Builder {
    open: Open,
    mint: Timestamp,
    maxt: Timestamp,
}

#[derive(Clone, Debug)]
enum Open {
    Xor(xor::Encoder),
    Xor2(xor2::Encoder),
    Int(Box<histogram::Encoder<Int>>),
    Float(Box<histogram::Encoder<Float>>),
}

/// What became of a sample that was to be appended.
pub enum Pushed {
    Stored,
    /// It does not fit this chunk by its type or contents and began the next one, whose header says whether counts
    /// were reset.
    Next(Box<Builder>),
}

impl Encoding {
    /// How a value is to be encoded.
    pub const fn of(value: Value<'_>, floats: FloatEncoding, with_start: bool) -> Self {
        match (value, floats, with_start) {
            (Value::Float(_), FloatEncoding::Xor, false) => Self::Xor,
            (Value::Float(_), ..) => Self::Xor2,
            (Value::Histogram(_), _, false) => Self::Histogram,
            (Value::Histogram(_), _, true) => Self::HistogramSt,
            (Value::FloatHistogram(_), _, false) => Self::FloatHistogram,
            (Value::FloatHistogram(_), _, true) => Self::FloatHistogramSt,
        }
    }

    /// Whether it has room for start times.
    pub const fn keeps_start(self) -> bool {
        matches!(self, Self::Xor2 | Self::HistogramSt | Self::FloatHistogramSt)
    }

    /// Whether it holds values of this type.
    pub const fn holds(self, value: Value<'_>) -> bool {
        match value {
            Value::Float(_) => matches!(self, Self::Xor | Self::Xor2),
            Value::Histogram(_) => matches!(self, Self::Histogram | Self::HistogramSt),
            Value::FloatHistogram(_) => matches!(self, Self::FloatHistogram | Self::FloatHistogramSt),
        }
    }
}

impl Builder {
    /// Begins a chunk that continues no other. The encoding must hold the value, see [`Encoding::holds`]; histograms
    /// must be well-formed, see [`model::histogram::Buckets::is_well_formed`], here and below.
    pub fn new(encoding: Encoding, st: Timestamp, t: Timestamp, value: Value<'_>) -> Self {
        let with_start = encoding.keeps_start();
        let open = match value {
            Value::Float(v) if encoding == Encoding::Xor2 => Open::Xor2(xor2::Encoder::new(st, t, v)),
            Value::Float(v) => {
                let mut encoder = xor::Encoder::default();
                encoder.push(t, v);
                Open::Xor(encoder)
            }
            Value::Histogram(h) => Open::Int(Box::new(histogram::Encoder::new(with_start, st, t, h))),
            Value::FloatHistogram(h) => Open::Float(Box::new(histogram::Encoder::new(with_start, st, t, h))),
        };
        let builder = Self { open, mint: t, maxt: t };
        assert!(builder.encoding() == encoding, "BUG: value that {encoding:?} does not hold");
        builder
    }

    /// Appends a sample; times must ascend. Samples with more buckets make a histogram chunk be written anew in
    /// place. A chunk that keeps no start times drops them.
    pub fn push(&mut self, st: Timestamp, t: Timestamp, value: Value<'_>) -> Pushed {
        if !self.encoding().holds(value) || self.count() == self.count_max() {
            return Pushed::Next(Box::new(self.cut(st, t, value)));
        }
        let next = match (&mut self.open, value) {
            (Open::Xor(encoder), Value::Float(v)) => {
                encoder.push(t, v);
                None
            }
            (Open::Xor2(encoder), Value::Float(v)) => {
                encoder.push(st, t, v);
                None
            }
            (Open::Int(encoder), Value::Histogram(h)) => match encoder.push(st, t, h) {
                Appended::Stored => None,
                Appended::Next(next) => Some(Open::Int(next)),
            },
            (Open::Float(encoder), Value::FloatHistogram(h)) => match encoder.push(st, t, h) {
                Appended::Stored => None,
                Appended::Next(next) => Some(Open::Float(next)),
            },
            _ => unreachable!("BUG: an encoding that holds a value its encoder does not"),
        };
        match next {
            None => {
                self.maxt = t;
                Pushed::Stored
            }
            Some(open) => Pushed::Next(Box::new(Self { open, mint: t, maxt: t })),
        }
    }

    /// Begins the next chunk though the sample might fit this one: by time, by size. Of another type of value the
    /// plainest encoding is taken that keeps as much as this one.
    #[must_use]
    pub fn cut(&self, st: Timestamp, t: Timestamp, value: Value<'_>) -> Self {
        let encoding = match self.encoding() {
            same if same.holds(value) => same,
            Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram => {
                Encoding::of(value, FloatEncoding::Xor, false)
            }
            // Not every XOR2 chunk has start times, but a chunk with room for them loses none.
            _ => Encoding::of(value, FloatEncoding::Xor2, self.started()),
        };
        self.cut_to(encoding, st, t, value)
    }

    /// As [`Self::cut`], in an encoding that holds the value.
    #[must_use]
    pub fn cut_to(&self, encoding: Encoding, st: Timestamp, t: Timestamp, value: Value<'_>) -> Self {
        assert!(encoding.holds(value), "BUG: value that {encoding:?} does not hold");
        let with_start = encoding.keeps_start();
        let open = match (&self.open, value) {
            (Open::Int(encoder), Value::Histogram(h)) => {
                Open::Int(Box::new(encoder.cut(with_start, st, t, h)))
            }
            (Open::Float(encoder), Value::FloatHistogram(h)) => {
                Open::Float(Box::new(encoder.cut(with_start, st, t, h)))
            }
            _ => return Self::new(encoding, st, t, value),
        };
        Self { open, mint: t, maxt: t }
    }

    /// Whether start times are in use, as far as the encoding tells.
    fn started(&self) -> bool {
        match &self.open {
            Open::Xor(_) => false,
            Open::Xor2(encoder) => encoder.has_start(),
            Open::Int(_) | Open::Float(_) => self.encoding().keeps_start(),
        }
    }

    fn count_max(&self) -> u16 {
        match self.encoding() {
            Encoding::HistogramSt | Encoding::FloatHistogramSt => histogram::SAMPLES_MAX_STARTED,
            _ => u16::MAX,
        }
    }

    pub fn encoding(&self) -> Encoding {
        match &self.open {
            Open::Xor(_) => Encoding::Xor,
            Open::Xor2(_) => Encoding::Xor2,
            Open::Int(encoder) if encoder.with_start() => Encoding::HistogramSt,
            Open::Int(_) => Encoding::Histogram,
            Open::Float(encoder) if encoder.with_start() => Encoding::FloatHistogramSt,
            Open::Float(_) => Encoding::FloatHistogram,
        }
    }

    /// The chunk as it is now: header with the right count, then the stream.
    pub fn bytes(&self) -> &[u8] {
        match &self.open {
            Open::Xor(encoder) => encoder.bytes(),
            Open::Xor2(encoder) => encoder.bytes(),
            Open::Int(encoder) => encoder.bytes(),
            Open::Float(encoder) => encoder.bytes(),
        }
    }

    pub fn count(&self) -> u16 {
        match &self.open {
            Open::Xor(encoder) => encoder.count(),
            Open::Xor2(encoder) => encoder.count(),
            Open::Int(encoder) => encoder.count(),
            Open::Float(encoder) => encoder.count(),
        }
    }

    /// The time of the first sample.
    pub fn mint(&self) -> Timestamp {
        self.mint
    }

    /// The time of the last sample.
    pub fn maxt(&self) -> Timestamp {
        self.maxt
    }

    /// Appends those of the first `n` samples that lie in `range` to `out`.
    pub fn decode(&self, n: u16, range: TimeRange, out: &mut SampleBatch) {
        decode_first(self.encoding(), self.bytes(), n.min(self.count()), range, out)
            .expect("what was encoded here can be decoded");
    }

    /// The finished chunk.
    pub fn finish(self) -> EncodedChunk {
        let (mint, maxt, encoding) = (self.mint, self.maxt, self.encoding());
        let bytes = match self.open {
            Open::Xor(mut encoder) => encoder.finish(),
            Open::Xor2(encoder) => encoder.into_bytes(),
            Open::Int(encoder) => encoder.into_bytes(),
            Open::Float(encoder) => encoder.into_bytes(),
        };
        EncodedChunk { mint, maxt, encoding, bytes }
    }
}

#[cfg(test)]
mod tests;
