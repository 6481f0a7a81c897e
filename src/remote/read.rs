//! The serving end of remote read: samples or chunks of the local store.
//!
//! Chunks are passed on as they are stored, with one exception: floats in the newer encoding without start times, which
//! says nothing more than the older one, are given in the older one, so that clients of before 3.11 can read them.
//! Upstream passes both on and leaves such clients with an error. What was deleted in part or came out of order is encoded
//! anew.
//!
//! Compat: prometheus `storage/remote/read_handler.go`, `storage/remote/codec.go`, `ToQueryResult` and
//! `StreamChunkedReadResponses` (3.14).

use std::sync::Arc;

use model::storage::{Queryable, SelectHints, SeriesSet};
use model::wire::remote_read::{self, FrameWriter, Query, Request, ResponseType};
use model::{Labels, MatchOp, Matcher, SampleBatch, TimeRange};
use tsdb::chunk::{self, Encoding, FloatEncoding};
use web::view::remote::{Answer, ExternalLabels, ReadError, ReadServer};

/// Samples of a chunk that is encoded for a client.
const CHUNK_SAMPLES: u16 = 120;

/// Frames are gathered up to so many bytes before they are sent.
const PIECE_BYTES: usize = 64 << 10;

/// What answers may be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most samples in the answer to one query, 0 for no limit; chunks are not counted.
    pub samples_max: usize,
    /// About as many bytes a frame of chunks has at most.
    pub frame_bytes_max: usize,
}

/// See the module.
pub struct Reader {
    storage: Arc<dyn Queryable>,
    external_labels: Arc<dyn ExternalLabels>,
    options: Options,
}

impl Reader {
    pub fn new(
        storage: Arc<dyn Queryable>,
        external_labels: Arc<dyn ExternalLabels>,
        options: Options,
    ) -> Self {
        Self { storage, external_labels, options }
    }
}

impl ReadServer for Reader {
    fn read(&self, request: &[u8], answer: &mut dyn Answer) -> Result<(), ReadError> {
        let request = Request::read(request).map_err(|bad| ReadError::Request(bad.to_string()))?;
        let kind = request.negotiate().map_err(ReadError::Request)?;
        let external = self.external_labels.external_labels();
        answer.begin(kind)?;
        match kind {
            ResponseType::Samples => self.samples(&request.queries, &external, answer),
            ResponseType::StreamedChunks => self.chunks(&request.queries, &external, answer),
        }
    }
}

/// What a query found, and for which times.
struct Found {
    set: Box<dyn SeriesSet>,
    range: TimeRange,
}

impl Reader {
    fn select(&self, query: &Query, external: &Labels, sorted: bool) -> Result<Found, ReadError> {
        // The client's mistake, but upstream says 500.
        let mut matchers = query.matchers().map_err(ReadError::Storage)?;
        for matcher in &mut matchers {
            let ours = external.get(&matcher.name).unwrap_or_default();
            if matcher.op == MatchOp::Eq && *matcher.value == *ours {
                // What the store has does not say whose it is.
                *matcher = Matcher::equal(&matcher.name, b"");
            }
        }
        let range = query.range();
        let hints = SelectHints {
            range: Some(range),
            step_ms: query.hints.as_ref().map_or(0, |hints| hints.step_ms),
            limit: 0,
            sorted,
        };
        let set = self.storage.querier(range).and_then(|querier| querier.select(&matchers, &hints));
        Ok(Found { set: set.map_err(storage)?, range })
    }

    fn samples(
        &self,
        queries: &[Query],
        external: &Labels,
        answer: &mut dyn Answer,
    ) -> Result<(), ReadError> {
        let mut samples = SampleBatch::default();
        for query in queries {
            let Found { set, range } = self.select(query, external, false)?;
            let wants_samples = !query.hints.as_ref().is_some_and(remote_read::Hints::wants_series_only);
            // With room in front, so that what may be large is not copied for what stands before it.
            let (mut list, mut n) = (vec![0; remote_read::RESULT_HEAD_BYTES_MAX], 0);
            for i in 0..set.len() {
                samples.clear();
                if wants_samples {
                    set.samples_into(i, range, &mut samples).map_err(storage)?;
                    if samples.is_empty() && samples.histograms.is_empty() {
                        continue;
                    }
                }
                n += samples.len() + samples.histograms.len();
                let most = self.options.samples_max;
                if most > 0 && n > most {
                    return Err(ReadError::Request(format!("exceeded sample limit ({most})")));
                }
                remote_read::write_series(&mut list, &with_external(set.labels(i), external), &samples);
            }
            remote_read::end_result(&mut list);
            answer.piece(list)?;
        }
        Ok(())
    }

    fn chunks(&self, queries: &[Query], external: &Labels, answer: &mut dyn Answer) -> Result<(), ReadError> {
        let mut frames = FrameWriter::new(self.options.frame_bytes_max);
        let mut piece = Vec::new();
        for (number, query) in (0..).zip(queries) {
            let Found { set, range } = self.select(query, external, true)?;
            if query.hints.as_ref().is_some_and(remote_read::Hints::wants_series_only) {
                // Without samples there are no chunks, and without chunks no frames.
                continue;
            }
            for i in 0..set.len() {
                frames.begin(number, &with_external(set.labels(i), external));
                // Of one series at most: the store is not to wait for the client.
                each_chunk(&*set, i, range, |mint, maxt, encoding, bytes| {
                    if !frames.chunk(mint, maxt, encoding as u8, bytes) {
                        frames.frame(&mut piece, crc32c::crc32c);
                    }
                })
                .map_err(storage)?;
                frames.frame(&mut piece, crc32c::crc32c);
                if piece.len() >= PIECE_BYTES {
                    answer.piece(std::mem::take(&mut piece))?;
                }
            }
        }
        if !piece.is_empty() {
            answer.piece(piece)?;
        }
        Ok(())
    }
}

/// Hands the chunks of a series to `visit`, encoded for the purpose where that has to be.
fn each_chunk(
    set: &dyn SeriesSet,
    i: usize,
    range: TimeRange,
    mut visit: impl FnMut(i64, i64, Encoding, &[u8]),
) -> Result<(), model::storage::Error> {
    let mut failed = None;
    let mut samples = SampleBatch::default();
    let is_done = set.chunks(i, range, &mut |raw| match Encoding::from_byte(raw.encoding) {
        Some(encoding @ Encoding::Xor2) => {
            samples.clear();
            match chunk::decode(encoding, raw.bytes, TimeRange::ALL, &mut samples) {
                Err(e) => failed = Some(e),
                Ok(()) if samples.sts.is_empty() => {
                    chunk::encode_as(Encoding::Xor, &samples, |chunk| {
                        visit(chunk.mint, chunk.maxt, chunk.encoding, &chunk.bytes);
                    });
                }
                Ok(()) => visit(raw.mint, raw.maxt, encoding, raw.bytes),
            }
        }
        Some(encoding) => visit(raw.mint, raw.maxt, encoding, raw.bytes),
        None => {}
    })?;
    if let Some(e) = failed {
        return Err(model::storage::Error::new(e));
    }
    if !is_done {
        samples.clear();
        set.samples_into(i, range, &mut samples)?;
        chunk::encode_batch(&samples, FloatEncoding::Xor, true, CHUNK_SAMPLES, |chunk| {
            visit(chunk.mint, chunk.maxt, chunk.encoding, &chunk.bytes);
        });
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
fn storage(e: model::storage::Error) -> ReadError {
    ReadError::Storage(e.to_string())
}

/// The labels of a series as others know it.
///
/// Compat: prometheus `storage/remote`, `MergeLabels`.
fn with_external(labels: Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels;
    }
    Labels::from_pairs(external.iter().chain(labels.iter()))
}

#[cfg(test)]
mod tests;
