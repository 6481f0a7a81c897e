//! Answers: all samples in one message, or chunks in frames.
//!
//! Writing goes straight into the buffer that is sent. Reading is for clients.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::Native;
use super::super::protobuf::cursor::{Bad, Cursor, fields, low_u32};
use super::super::protobuf::put;
use super::super::remote_histogram;
use super::super::remote_write::encode::{put_labels, put_sample};
use super::super::remote_write::{Message, Sample, Times, read_label, read_sample};
use crate::{AnyHistogram, HistogramSample, Labels, SampleBatch, Timestamp, Value};

/// Appends one series of a `QueryResult`.
pub fn write_series(out: &mut Vec<u8>, labels: &Labels, samples: &SampleBatch) {
    put::message(out, 1, |out| {
        put_labels(out, labels);
        for sample in samples.iter() {
            put_sample(out, Sample { t: sample.t, st: 0, v: sample.v });
        }
        for sample in &samples.histograms {
            let times = Times { t: sample.t, st: 0 };
            put::message(out, 4, |out| remote_histogram::write(out, times, Value::from(&sample.histogram)));
        }
    });
}

/// So many bytes are left free in front of the series of a `QueryResult`.
pub const RESULT_HEAD_BYTES_MAX: usize = 12;

/// Makes a part of a `ReadResponse` of the series of a `QueryResult`, in front of which there is room.
pub fn end_result(series: &mut Vec<u8>) {
    let mut head = Vec::with_capacity(RESULT_HEAD_BYTES_MAX);
    put::begin_message(&mut head, 1, series.len().saturating_sub(RESULT_HEAD_BYTES_MAX));
    let unused = RESULT_HEAD_BYTES_MAX.saturating_sub(head.len());
    if let Some(room) = series.get_mut(unused..RESULT_HEAD_BYTES_MAX) {
        room.copy_from_slice(&head);
    }
    series.drain(..unused);
}

/// One chunk as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The times of its first and last sample.
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// How it is encoded, as a number of the store's.
    pub encoding: u8,
    pub bytes: Vec<u8>,
}

/// The part of a series that a frame has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkedSeries {
    pub query: i64,
    pub labels: Vec<(Vec<u8>, Vec<u8>)>,
    pub chunks: Vec<Chunk>,
}

/// Frames of one series after the other.
///
/// Compat: prometheus `storage/remote`, `StreamChunkedReadResponses`: where a series is split.
#[derive(Clone, Debug)]
pub struct FrameWriter {
    /// About as many bytes a frame may have.
    frame_bytes: usize,
    query: i64,
    labels: Vec<u8>,
    chunks: Vec<u8>,
    /// What labels leave of a frame, and what its chunks leave of that.
    room: usize,
    left: usize,
}

impl FrameWriter {
    pub fn new(frame_bytes: usize) -> Self {
        Self { frame_bytes, query: 0, labels: Vec::new(), chunks: Vec::new(), room: 0, left: 0 }
    }

    /// Begins a series of query `query`.
    pub fn begin(&mut self, query: i64, labels: &Labels) {
        self.labels.clear();
        self.chunks.clear();
        put_labels(&mut self.labels, labels);
        // As upstream counts them: without tags and lengths of their own.
        let size: usize =
            labels.iter().map(|(name, value)| field_len(name).saturating_add(field_len(value))).sum();
        self.query = query;
        self.room = self.frame_bytes.saturating_sub(size);
        self.left = self.room;
    }

    /// Adds a chunk; `false` if the frame is full, which is to be taken then with [`Self::frame`].
    #[must_use]
    pub fn chunk(&mut self, mint: Timestamp, maxt: Timestamp, encoding: u8, bytes: &[u8]) -> bool {
        let before = self.chunks.len();
        put::message(&mut self.chunks, 2, |out| {
            put::int(out, 1, mint);
            put::int(out, 2, maxt);
            put::uint(out, 3, u64::from(encoding));
            put::bytes(out, 4, bytes);
        });
        let size = self.chunks.len().saturating_sub(before);
        self.left = self.left.saturating_sub(size);
        self.left > 0
    }

    /// Appends the frame of the chunks that were added since the last one; nothing if there are none. `checksum` is
    /// CRC-32 with the polynomial of Castagnoli.
    pub fn frame(&mut self, out: &mut Vec<u8>, checksum: impl Fn(&[u8]) -> u32) {
        if self.chunks.is_empty() {
            return;
        }
        let mut message =
            Vec::with_capacity(self.labels.len().saturating_add(self.chunks.len()).saturating_add(32));
        put::message(&mut message, 1, |out| {
            out.extend_from_slice(&self.labels);
            out.extend_from_slice(&self.chunks);
        });
        put::int(&mut message, 2, self.query);
        put::varint(out, message.len() as u64);
        out.extend_from_slice(&checksum(&message).to_be_bytes());
        out.extend_from_slice(&message);
        self.chunks.clear();
        self.left = self.room;
    }
}

/// What a string takes as a field, empty ones nothing.
fn field_len(text: &[u8]) -> usize {
    if text.is_empty() {
        0
    } else {
        text.len().saturating_add(put::varint_len(text.len() as u64)).saturating_add(1)
    }
}

// === for clients ===

/// A series as read.
#[derive(Clone, Debug, Default)]
pub struct ReadSeries {
    pub labels: Vec<(Vec<u8>, Vec<u8>)>,
    pub samples: SampleBatch,
}

/// Reads a `ReadResponse`: the series of each query.
///
/// # Errors
/// It is malformed.
pub fn read_samples(message: &[u8]) -> Result<Vec<Vec<ReadSeries>>, Bad> {
    let mut results = Vec::new();
    fields("ReadResponse", message, |field, wire, cursor| {
        if field != 1 {
            return Ok(false);
        }
        let mut list = Vec::new();
        fields("QueryResult", cursor.bytes("Results", wire)?, |field, wire, cursor| {
            if field == 1 {
                list.push(read_series(cursor.bytes("Timeseries", wire)?)?);
            }
            Ok(field == 1)
        })?;
        results.push(list);
        Ok(true)
    })?;
    Ok(results)
}

fn read_series(message: &[u8]) -> Result<ReadSeries, Bad> {
    let mut series = ReadSeries::default();
    let mut native = Native::default();
    fields("TimeSeries", message, |field, wire, cursor| {
        match field {
            1 => series.labels.push(owned(read_label(cursor.bytes("Labels", wire)?)?)),
            2 => {
                let sample = read_sample(Message::V1, cursor.bytes("Samples", wire)?)?;
                series.samples.push(sample.t, sample.v);
            }
            4 => {
                let times = remote_histogram::read(cursor.bytes("Histograms", wire)?, false, &mut native)?;
                let histogram = if native.is_float {
                    AnyHistogram::Float(Box::new(native.float.clone()))
                } else {
                    AnyHistogram::Int(Box::new(native.int.clone()))
                };
                series.samples.histograms.push(HistogramSample { t: times.t, st: times.st, histogram });
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(series)
}

fn owned((name, value): (&[u8], &[u8])) -> (Vec<u8>, Vec<u8>) {
    (name.to_vec(), value.to_vec())
}

/// Takes one frame off the front of a stream: what it holds, or `None` where the stream has ended.
///
/// # Errors
/// The frame is cut short or damaged.
pub fn read_frame(
    stream: &mut &[u8],
    checksum: impl Fn(&[u8]) -> u32,
) -> Result<Option<Vec<ChunkedSeries>>, String> {
    if stream.is_empty() {
        return Ok(None);
    }
    let mut cursor = Cursor::new(stream);
    let len = cursor.varint().map_err(|bad| bad.to_string())?;
    let rest = stream.get(stream.len().saturating_sub(cursor.len())..).unwrap_or_default();
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or("frame cut short")?;
    let len = usize::try_from(len).map_err(|e| e.to_string())?;
    let (message, rest) = rest.split_at_checked(len).ok_or("frame cut short")?;
    if checksum(message) != u32::from_be_bytes(*sum) {
        return Err("checksum of a frame does not match".to_owned());
    }
    *stream = rest;
    read_chunked(message).map(Some).map_err(|bad| bad.to_string())
}

fn read_chunked(message: &[u8]) -> Result<Vec<ChunkedSeries>, Bad> {
    let (mut list, mut query) = (Vec::new(), 0);
    fields("ChunkedReadResponse", message, |field, wire, cursor| {
        match field {
            1 => {
                let mut series = ChunkedSeries::default();
                fields("ChunkedSeries", cursor.bytes("ChunkedSeries", wire)?, |field, wire, cursor| {
                    match field {
                        1 => series.labels.push(owned(read_label(cursor.bytes("Labels", wire)?)?)),
                        2 => series.chunks.push(read_chunk(cursor.bytes("Chunks", wire)?)?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                list.push(series);
            }
            2 => query = cursor.uint("QueryIndex", wire)?.cast_signed(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    for series in &mut list {
        series.query = query;
    }
    Ok(list)
}

fn read_chunk(message: &[u8]) -> Result<Chunk, Bad> {
    let mut chunk = Chunk { mint: 0, maxt: 0, encoding: 0, bytes: Vec::new() };
    fields("Chunk", message, |field, wire, cursor| {
        match field {
            1 => chunk.mint = cursor.uint("MinTimeMs", wire)?.cast_signed(),
            2 => chunk.maxt = cursor.uint("MaxTimeMs", wire)?.cast_signed(),
            3 => {
                let code = low_u32(cursor.uint("Type", wire)?);
                chunk.encoding = u8::try_from(code).unwrap_or(u8::MAX);
            }
            4 => chunk.bytes = cursor.bytes("Data", wire)?.to_vec(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(chunk)
}
