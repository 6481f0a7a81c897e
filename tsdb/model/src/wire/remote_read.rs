//! Remote read: requests and the two kinds of answers, read and written.
//!
//! What the chunks hold is the store's matter.
//!
//! Compat: prometheus `prompb/{remote,types}.proto`; `storage/remote/codec.go`, `NegotiateResponseType` and
//! `FromLabelMatchers`; `storage/remote/chunked.go`, `ChunkedWriter`.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod answer;

use std::fmt::Write as _;

pub use self::answer::{
    Chunk, ChunkedSeries, FrameWriter, RESULT_HEAD_BYTES_MAX, ReadSeries, end_result, read_frame,
    read_samples, write_series,
};
use super::protobuf::cursor::{Bad, fields, low_u32};
use super::protobuf::put;
use crate::{MatchOp, Matcher, TimeRange};

/// What the client takes as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseType {
    /// One message with all samples.
    Samples,
    /// A message for each part of a series, with chunks as they are stored.
    StreamedChunks,
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub queries: Vec<Query>,
    /// The numbers of response types, the preferred one first.
    pub accepted: Vec<i32>,
}

/// One of the queries of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub start: i64,
    pub end: i64,
    pub matchers: Vec<RawMatcher>,
    pub hints: Option<Hints>,
}

/// A matcher as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawMatcher {
    pub kind: i32,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// What the client tells about the use of the samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    pub step_ms: i64,
    pub func: Vec<u8>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub grouping: Vec<Vec<u8>>,
    pub by: bool,
    pub range_ms: i64,
}

/// The most queries of a request, the most matchers of a query and so on: a hundred times what anybody needs, and little
/// beside the body.
const ELEMENTS_MAX: usize = 8192;

/// Adds an element to a list of bounded length.
fn push<T>(list: &mut Vec<T>, message: &'static str, element: T) -> Result<(), Bad> {
    if list.len() >= ELEMENTS_MAX {
        return Err(Bad::TooMany { message, most: ELEMENTS_MAX });
    }
    list.push(element);
    Ok(())
}

impl ResponseType {
    fn from_code(code: i32) -> Option<Self> {
        [Self::Samples, Self::StreamedChunks].into_iter().find(|kind| kind.code() == code)
    }

    pub const fn code(self) -> i32 {
        match self {
            Self::Samples => 0,
            Self::StreamedChunks => 1,
        }
    }
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// It is malformed; the text is upstream's.
    pub fn read(message: &[u8]) -> Result<Self, Bad> {
        let mut request = Self::default();
        fields("ReadRequest", message, |field, wire, cursor| {
            match field {
                1 => push(&mut request.queries, "ReadRequest", Query::read(cursor.bytes("Queries", wire)?)?)?,
                2 => cursor.uint32s("AcceptedResponseTypes", wire, |code| {
                    // Who accepts that many accepts one of the first.
                    if request.accepted.len() < ELEMENTS_MAX {
                        request.accepted.push(code.cast_signed());
                    }
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(request)
    }

    /// The first of the accepted types that there is.
    ///
    /// # Errors
    /// There is none; the text is upstream's.
    pub fn negotiate(&self) -> Result<ResponseType, String> {
        if self.accepted.is_empty() {
            return Ok(ResponseType::Samples);
        }
        self.accepted.iter().find_map(|&code| ResponseType::from_code(code)).ok_or_else(|| {
            // All of them are unknown, so none has a name. A few say enough.
            let mut list = String::new();
            for (i, code) in self.accepted.iter().take(16).enumerate() {
                let _ = write!(list, "{}{code}", if i > 0 { " " } else { "" });
            }
            format!(
                "server does not support any of the requested response types: [{list}]; supported: map[SAMPLES:{{}} STREAMED_XOR_CHUNKS:{{}}]"
            )
        })
    }

    /// Appends the request.
    pub fn write(&self, out: &mut Vec<u8>) {
        for query in &self.queries {
            put::message(out, 1, |out| query.write(out));
        }
        put::packed(out, 2, &self.accepted, |out, code| {
            put::varint(out, i64::from(code).cast_unsigned());
        });
    }
}

impl Query {
    fn read(message: &[u8]) -> Result<Self, Bad> {
        let mut query = Self::default();
        fields("Query", message, |field, wire, cursor| {
            match field {
                1 => query.start = cursor.uint("StartTimestampMs", wire)?.cast_signed(),
                2 => query.end = cursor.uint("EndTimestampMs", wire)?.cast_signed(),
                3 => {
                    push(&mut query.matchers, "Query", RawMatcher::read(cursor.bytes("Matchers", wire)?)?)?;
                }
                4 => query.hints.get_or_insert_default().read(cursor.bytes("Hints", wire)?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(query)
    }

    fn write(&self, out: &mut Vec<u8>) {
        put::int(out, 1, self.start);
        put::int(out, 2, self.end);
        for matcher in &self.matchers {
            put::message(out, 3, |out| {
                put::int(out, 1, i64::from(matcher.kind));
                put::bytes(out, 2, &matcher.name);
                put::bytes(out, 3, &matcher.value);
            });
        }
        if let Some(hints) = &self.hints {
            put::message(out, 4, |out| hints.write(out));
        }
    }

    /// The times for which samples are wanted: those of the hints count where they are narrower.
    pub fn range(&self) -> TimeRange {
        let range = TimeRange::new(self.start, self.end);
        self.hints.as_ref().map_or(range, |hints| {
            TimeRange::new(range.mint.max(hints.start_ms), range.maxt.min(hints.end_ms))
        })
    }

    /// The matchers, ready to be used.
    ///
    /// # Errors
    /// One is of no known type or has a regular expression that does not compile.
    pub fn matchers(&self) -> Result<Vec<Matcher>, String> {
        let matcher = |raw: &RawMatcher| {
            let op = match raw.kind {
                0 => MatchOp::Eq,
                1 => MatchOp::Ne,
                2 => MatchOp::Re,
                3 => MatchOp::Nre,
                _ => return Err("invalid matcher type".to_owned()),
            };
            Matcher::new(op, &raw.name, &raw.value).map_err(|e| e.to_string())
        };
        self.matchers.iter().map(matcher).collect()
    }
}

impl RawMatcher {
    fn read(message: &[u8]) -> Result<Self, Bad> {
        let mut matcher = Self::default();
        fields("LabelMatcher", message, |field, wire, cursor| {
            match field {
                1 => matcher.kind = low_u32(cursor.uint("Type", wire)?).cast_signed(),
                2 => matcher.name = cursor.bytes("Name", wire)?.to_vec(),
                3 => matcher.value = cursor.bytes("Value", wire)?.to_vec(),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(matcher)
    }
}

impl From<&Matcher> for RawMatcher {
    fn from(matcher: &Matcher) -> Self {
        let kind = match matcher.op {
            MatchOp::Eq => 0,
            MatchOp::Ne => 1,
            MatchOp::Re => 2,
            MatchOp::Nre => 3,
        };
        Self { kind, name: matcher.name.to_vec(), value: matcher.value.to_vec() }
    }
}

impl Hints {
    fn read(&mut self, message: &[u8]) -> Result<(), Bad> {
        fields("ReadHints", message, |field, wire, cursor| {
            match field {
                1 => self.step_ms = cursor.uint("StepMs", wire)?.cast_signed(),
                2 => self.func = cursor.bytes("Func", wire)?.to_vec(),
                3 => self.start_ms = cursor.uint("StartMs", wire)?.cast_signed(),
                4 => self.end_ms = cursor.uint("EndMs", wire)?.cast_signed(),
                5 => push(&mut self.grouping, "ReadHints", cursor.bytes("Grouping", wire)?.to_vec())?,
                6 => self.by = cursor.uint("By", wire)? != 0,
                7 => self.range_ms = cursor.uint("RangeMs", wire)?.cast_signed(),
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        put::int(out, 1, self.step_ms);
        put::bytes(out, 2, &self.func);
        put::int(out, 3, self.start_ms);
        put::int(out, 4, self.end_ms);
        for name in &self.grouping {
            put::bytes_always(out, 5, name);
        }
        put::uint(out, 6, u64::from(self.by));
        put::int(out, 7, self.range_ms);
    }

    /// Whether the client wants to know which series there are, and no samples.
    ///
    /// Compat: prometheus `tsdb/querier.go`, `blockQuerier.Select`.
    pub fn wants_series_only(&self) -> bool {
        self.func == b"series"
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests;
