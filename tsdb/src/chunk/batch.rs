//! Samples of any kinds, in order, as chunks.
//!
//! Compat: prometheus `storage`, `seriesToChunkEncoder`: the same samples give the same chunks.

use model::{SampleBatch, Timestamp, Value};

use super::{Builder, EncodedChunk, Encoding, FloatEncoding, Pushed, xor};

/// Encodes samples into chunks of at most `per_chunk`, in order of time; another chunk also begins where the type
/// changes, a histogram does not fit, or start times come or go.
///
/// Floats with start times need XOR2 whatever `floats` says. Without `store_start_times` they are dropped.
pub fn encode_batch(
    batch: &SampleBatch,
    floats: FloatEncoding,
    store_start_times: bool,
    per_chunk: u16,
    mut emit: impl FnMut(EncodedChunk),
) {
    let has_start = store_start_times && !batch.sts.is_empty();
    if floats == FloatEncoding::Xor && batch.histograms.is_empty() && !has_start {
        return xor::encode_samples(batch, per_chunk, emit);
    }
    let mut open: Option<Builder> = None;
    for_each(batch, |st, t, value| {
        let st = if store_start_times { st } else { 0 };
        let wanted = Encoding::of(value, floats, st != 0);
        let goes_on = |chunk: &Builder| {
            let encoding = chunk.encoding();
            // A plain float goes on in an XOR2 chunk, one with a start time not in an XOR chunk.
            let is_compatible = encoding == wanted || (encoding == Encoding::Xor2 && wanted == Encoding::Xor);
            is_compatible && chunk.count() < per_chunk
        };
        let begun = match open.as_mut().filter(|chunk| goes_on(chunk)) {
            None => Builder::new(wanted, st, t, value),
            Some(chunk) => match chunk.push(st, t, value) {
                Pushed::Stored => return,
                Pushed::Next(next) => *next,
            },
        };
        if let Some(full) = open.replace(begun) {
            emit(full.finish());
        }
    });
    if let Some(last) = open {
        emit(last.finish());
    }
}

/// Encodes what is left of a chunk in the chunk's own encoding; as one chunk, if its histograms still fit each other.
pub fn encode_as(encoding: Encoding, batch: &SampleBatch, mut emit: impl FnMut(EncodedChunk)) {
    let mut open: Option<Builder> = None;
    for_each(batch, |st, t, value| {
        let begun = match &mut open {
            None => Builder::new(encoding, st, t, value),
            Some(chunk) => match chunk.push(st, t, value) {
                Pushed::Stored => return,
                Pushed::Next(next) => *next,
            },
        };
        if let Some(full) = open.replace(begun) {
            emit(full.finish());
        }
    });
    if let Some(last) = open {
        emit(last.finish());
    }
}

/// Shows the samples of both kinds in order of time.
fn for_each<'a>(batch: &'a SampleBatch, mut see: impl FnMut(Timestamp, Timestamp, Value<'a>)) {
    let mut histograms = batch.histograms.iter().peekable();
    for (i, (&t, &v)) in batch.ts.iter().zip(&batch.vs).enumerate() {
        while let Some(sample) = histograms.next_if(|sample| sample.t < t) {
            see(sample.st, sample.t, Value::from(&sample.histogram));
        }
        see(batch.st(i), t, Value::Float(v));
    }
    for sample in histograms {
        see(sample.st, sample.t, Value::from(&sample.histogram));
    }
}
