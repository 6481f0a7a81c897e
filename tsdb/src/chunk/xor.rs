//! The XOR chunk: delta-of-delta times, xored values, as in the Gorilla paper with Prometheus' code lengths.
//!
//! A chunk is a big-endian sample count followed by a bit stream. The encoder's memory is the plain value
//! [`State`], which the head keeps packed in the line of a series; there is no appender object. The decoder
//! takes the number of samples from its caller, so that it can read a chunk that still grows.
//!
//! Compat: prometheus `tsdb/chunkenc`, `XORChunk`. Bit-exact: the same samples give the same bytes.

mod decode;

use model::{SampleBatch, TimeRange, Timestamp};

pub use self::decode::decode_stream;
use super::bits::BitStage;
use crate::DecodeError;

/// The bytes of the sample count before the stream.
pub const HEADER_LEN: usize = 2;

/// The most bytes that one sample may add to a stream (times and value both at their worst, first pair included).
pub const SAMPLE_LEN_MAX: usize = 20;

/// The most samples a chunk can count.
pub const SAMPLES_MAX: u16 = u16::MAX;

/// No window of significant bits yet.
const NO_WINDOW: u8 = 0xff;

/// What the encoder remembers between two samples of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub t: Timestamp,
    /// The bits of the last value.
    pub v: u64,
    /// The last two times' difference.
    pub delta: u64,
    /// The bits of the stream so far, header excluded.
    pub n_bits: u32,
    pub count: u16,
    /// Zero bits on both sides of the window in use; `leading` 255 means none.
    pub leading: u8,
    pub trailing: u8,
}

impl State {
    /// Before the first sample.
    pub const EMPTY: Self =
        Self { t: 0, v: 0, delta: 0, n_bits: 0, count: 0, leading: NO_WINDOW, trailing: 0 };

    /// The bytes of the stream so far, header excluded.
    pub fn len_bytes(&self) -> usize {
        self.n_bits.div_ceil(8) as usize
    }
}

/// Encodes one sample: what is to be copied over the stream from byte `state.n_bits / 8` (taken before) on.
///
/// `partial` is the stream's last byte if it is not full. Times must ascend.
#[inline]
pub fn encode(state: &mut State, partial: u8, t: Timestamp, v: f64) -> BitStage {
    let used = state.n_bits % 8;
    let mut stage = BitStage::new(if used == 0 { 0 } else { partial }, used);
    let v = v.to_bits();
    match state.count {
        0 => {
            stage.put_varint(t);
            stage.put(v, 64);
        }
        1 => {
            let delta = t.wrapping_sub(state.t).cast_unsigned();
            stage.put_uvarint(delta);
            encode_value(state, &mut stage, v);
            state.delta = delta;
        }
        _ => {
            let delta = t.wrapping_sub(state.t).cast_unsigned();
            encode_dod(&mut stage, delta.wrapping_sub(state.delta).cast_signed());
            encode_value(state, &mut stage, v);
            state.delta = delta;
        }
    }
    state.t = t;
    state.v = v;
    state.n_bits += stage.n_bits() - used;
    state.count += 1;
    stage
}

#[inline]
fn encode_dod(stage: &mut BitStage, dod: i64) {
    let raw = dod.cast_unsigned();
    let low = |n: u32| raw & ((1 << n) - 1);
    match dod {
        0 => stage.put(0, 1),
        -8191..=8192 => stage.put((0b10 << 14) | low(14), 16),
        -65535..=65536 => stage.put((0b110 << 17) | low(17), 20),
        -524_287..=524_288 => stage.put((0b1110 << 20) | low(20), 24),
        _ => {
            stage.put(0b1111, 4);
            stage.put(raw, 64);
        }
    }
}

#[inline]
fn encode_value(state: &mut State, stage: &mut BitStage, v: u64) {
    let x = v ^ state.v;
    if x == 0 {
        stage.put(0, 1);
        return;
    }
    // Five bits hold the leading zeros, so more than 31 count as 31.
    let leading = x.leading_zeros().min(31);
    let trailing = x.trailing_zeros();
    let (old_leading, old_trailing) = (u32::from(state.leading), u32::from(state.trailing));
    if state.leading != NO_WINDOW && leading >= old_leading && trailing >= old_trailing {
        stage.put(0b10, 2);
        stage.put(x >> old_trailing, 64 - old_leading - old_trailing);
        return;
    }
    let significant = 64 - leading - trailing;
    // 64 does not fit six bits and is written as 0, which cannot occur otherwise.
    stage.put((0b11 << 11) | (u64::from(leading) << 6) | u64::from(significant & 63), 13);
    stage.put(x >> trailing, significant);
    state.leading = u8::try_from(leading).expect("at most 31");
    state.trailing = u8::try_from(trailing).expect("at most 63");
}

/// A chunk under construction in memory of its own; for compaction and tests, the head has its own buffers.
#[derive(Clone, Debug)]
pub struct Encoder {
    state: State,
    mint: Timestamp,
    bytes: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { state: State::EMPTY, mint: 0, bytes: vec![0; HEADER_LEN] }
    }
}

impl Encoder {
    /// Appends a sample; times must ascend and at most [`SAMPLES_MAX`] fit.
    pub fn push(&mut self, t: Timestamp, v: f64) {
        assert!(self.state.count < SAMPLES_MAX, "BUG: chunk of more than {SAMPLES_MAX} samples");
        if self.state.count == 0 {
            self.mint = t;
        }
        let at = HEADER_LEN + (self.state.n_bits / 8) as usize;
        let partial = self.bytes.get(at).copied().unwrap_or(0);
        let (staged, len) = encode(&mut self.state, partial, t, v).bytes();
        self.bytes.truncate(at);
        self.bytes.extend_from_slice(&staged[..len]);
        self.bytes[..HEADER_LEN].copy_from_slice(&self.state.count.to_be_bytes());
    }

    pub fn count(&self) -> u16 {
        self.state.count
    }

    /// The time of the first sample, if there is one.
    pub fn mint(&self) -> Timestamp {
        self.mint
    }

    /// The time of the last sample, if there is one.
    pub fn maxt(&self) -> Timestamp {
        self.state.t
    }

    /// The bytes with the header, as if finished now.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The chunk as it is now, header included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The chunk's bytes; the encoder starts anew.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }
}

/// Encodes samples into whole chunks of at most `per_chunk` of them, as compaction does when it must cut.
pub fn encode_samples(batch: &SampleBatch, per_chunk: u16, mut emit: impl FnMut(super::EncodedChunk)) {
    let mut encoder = Encoder::default();
    let mut flush = |encoder: &mut Encoder| {
        let (mint, maxt) = (encoder.mint(), encoder.maxt());
        emit(super::EncodedChunk { mint, maxt, encoding: super::Encoding::Xor, bytes: encoder.finish() });
    };
    for sample in batch.iter() {
        if encoder.count() == per_chunk {
            flush(&mut encoder);
        }
        encoder.push(sample.t, sample.v);
    }
    if encoder.count() > 0 {
        flush(&mut encoder);
    }
}

/// The sample count in a chunk's header.
pub fn count(chunk: &[u8]) -> Result<u16, DecodeError> {
    chunk
        .first_chunk()
        .map(|header| u16::from_be_bytes(*header))
        .ok_or(DecodeError { what: "chunk too short", offset: 0 })
}

/// Appends the samples of a whole chunk (header included) that lie in `range` to `out`.
///
/// On an error what was decoded before it stays in `out`.
pub fn decode(chunk: &[u8], range: TimeRange, out: &mut SampleBatch) -> Result<(), DecodeError> {
    let n = count(chunk)?;
    decode_stream(&chunk[HEADER_LEN..], n, range, out)
}

#[cfg(test)]
mod tests;
