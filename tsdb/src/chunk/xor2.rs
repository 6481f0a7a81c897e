//! The second XOR chunk: one control code for time and value together, staleness markers in a few bits, and
//! room for start times.
//!
//! A sample that repeats the value in step takes one bit. A marker leaves the value that the next one is
//! xored with alone, so that a series that comes back costs nothing extra.
//!
//! Compat: prometheus `tsdb/chunkenc`, `XOR2Chunk`. Bit-exact: the same samples give the same bytes.

use model::{SampleBatch, TimeRange, Timestamp, is_stale};

use super::bits::{BitReader, BitWriter};
use super::start_time;
use crate::DecodeError;

/// The bytes before the stream: the count and the header of the start times.
pub(super) const HEADER_LEN: usize = 3;

/// No window of significant bits yet.
const NO_WINDOW: u32 = 0xff;

/// A chunk under construction.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    bits: BitWriter,
    count: u16,
    t: Timestamp,
    /// The last two times' difference.
    delta: u64,
    /// The bits of the last value that was no staleness marker.
    v: u64,
    leading: u32,
    trailing: u32,
    start: start_time::Encoder,
}

impl Encoder {
    /// Begins a chunk with its first sample.
    pub(super) fn new(st: Timestamp, t: Timestamp, v: f64) -> Self {
        let mut bits = BitWriter::after(&[0; HEADER_LEN]);
        bits.put_varint(t);
        bits.put(v.to_bits(), 64);
        let mut start = start_time::Encoder::default();
        start.put(&mut bits, 0, t, t, st);
        let v = if is_stale(v) { 0 } else { v.to_bits() };
        let mut encoder = Self { bits, count: 1, t, delta: 0, v, leading: NO_WINDOW, trailing: 0, start };
        encoder.write_header();
        encoder
    }

    /// Appends a sample; times must ascend and at most 65535 fit.
    pub(super) fn push(&mut self, st: Timestamp, t: Timestamp, v: f64) {
        assert!(self.count < u16::MAX, "BUG: chunk of more than {} samples", u16::MAX);
        let delta = t.wrapping_sub(self.t).cast_unsigned();
        if self.count == 1 {
            self.bits.put_uvarint(delta);
            self.put_value(v);
        } else {
            self.put_step(delta.wrapping_sub(self.delta).cast_signed(), v);
        }
        self.start.put(&mut self.bits, self.count, t, self.t, st);
        self.t = t;
        self.delta = delta;
        if !is_stale(v) {
            self.v = v.to_bits();
        }
        self.count += 1;
        self.write_header();
    }

    fn put_step(&mut self, dod: i64, v: f64) {
        let raw = dod.cast_unsigned();
        match dod {
            0 if is_stale(v) => return self.bits.put(0b11111, 5),
            0 if v.to_bits() == self.v => return self.bits.put(0, 1),
            0 => {
                self.bits.put(0b10, 2);
                return self.put_changed(v.to_bits() ^ self.v, (0b0, 1), (0b1, 1));
            }
            -4096..=4095 => self.bits.put((0b110 << 13) | (raw & 0x1fff), 16),
            -524_288..=524_287 => self.bits.put((0b1110 << 20) | (raw & 0xf_ffff), 24),
            _ => {
                self.bits.put(0b11110, 5);
                self.bits.put(raw, 64);
            }
        }
        self.put_value(v);
    }

    fn put_value(&mut self, v: f64) {
        if is_stale(v) {
            return self.bits.put(0b111, 3);
        }
        match v.to_bits() ^ self.v {
            0 => self.bits.put(0, 1),
            x => self.put_changed(x, (0b10, 2), (0b110, 3)),
        }
    }

    /// Writes the bits of `x` that matter: behind `old` those in the window in use, behind `new` those in their own.
    fn put_changed(&mut self, x: u64, old: (u64, u32), new: (u64, u32)) {
        // Five bits hold the leading zeros, so more than 31 count as 31.
        let (leading, trailing) = (x.leading_zeros().min(31), x.trailing_zeros());
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            self.bits.put(old.0, old.1);
            return self.bits.put(x >> self.trailing, 64 - self.leading - self.trailing);
        }
        let significant = 64 - leading - trailing;
        let window = (u64::from(leading) << 6) | u64::from(significant & 63);
        self.bits.put((new.0 << 11) | window, new.1 + 11);
        self.bits.put(x >> trailing, significant);
        (self.leading, self.trailing) = (leading, trailing);
    }

    fn write_header(&mut self) {
        let [high, low] = self.count.to_be_bytes();
        self.bits.header_mut(HEADER_LEN).copy_from_slice(&[high, low, self.start.header()]);
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Whether any sample so far had a start time.
    pub(super) fn has_start(&self) -> bool {
        self.start.header() != 0
    }

    /// The chunk, header included.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bits.bytes()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bits.into_bytes()
    }
}

/// Appends the first `n` samples of a chunk (header included) that lie in `range` to `out`.
///
/// On an error what was decoded before it stays in `out`.
pub(super) fn decode(
    chunk: &[u8],
    n: u16,
    range: TimeRange,
    out: &mut SampleBatch,
) -> Result<(), DecodeError> {
    let Some((&[_, _, header], stream)) = chunk.split_first_chunk::<HEADER_LEN>() else {
        return Err(DecodeError { what: "chunk too short", offset: 0 });
    };
    if n == 0 {
        return Ok(());
    }
    let mut bits = BitReader::new(stream);
    let mut start = start_time::Decoder::new(header);
    let mut t = bits.read_varint()?;
    let mut v = f64::from_bits(bits.read(64)?);
    let mut st = start.read(&mut bits, 0, t, t)?;
    let mut values = Values { v: if is_stale(v) { 0 } else { v.to_bits() }, leading: 0, significant: 64 };
    let mut delta = 0_i64;
    for index in 0..n {
        if index > 0 {
            let previous = t;
            if index == 1 {
                delta = bits.read_uvarint()?.cast_signed();
                v = values.read(&mut bits)?;
            } else {
                let (dod, value) = read_step(&mut bits, &mut values)?;
                delta = delta.wrapping_add(dod);
                v = value;
            }
            t = t.wrapping_add(delta);
            st = start.read(&mut bits, index, t, previous)?;
        }
        if t > range.maxt {
            break;
        }
        if t >= range.mint {
            out.push_started(st, t, v);
        }
    }
    Ok(())
}

/// Reads the control code and what belongs to it: the change of the difference of times, and the value.
#[inline]
fn read_step(bits: &mut BitReader<'_>, values: &mut Values) -> Result<(i64, f64), DecodeError> {
    let peeked = bits.peek();
    let dod = match (!peeked).leading_zeros() {
        0 => {
            bits.skip(1)?;
            return Ok((0, f64::from_bits(values.v)));
        }
        1 => {
            // The bit behind says whether a window follows.
            bits.skip(3)?;
            return Ok((0, values.change(bits, (peeked >> 61) & 1 != 0)?));
        }
        2 => {
            bits.skip(16)?;
            // An arithmetic shift spreads the sign of the field.
            (peeked << 3).cast_signed() >> 51
        }
        3 => {
            bits.skip(24)?;
            (peeked << 4).cast_signed() >> 44
        }
        4 => {
            bits.skip(5)?;
            bits.read(64)?.cast_signed()
        }
        _ => {
            bits.skip(5)?;
            return Ok((0, model::STALE_NAN));
        }
    };
    Ok((dod, values.read(bits)?))
}

/// What the reader remembers of values.
struct Values {
    /// The bits of the last one that was no staleness marker.
    v: u64,
    /// The window in use. A writer that went on with a chunk it had read back takes the absent window as one of
    /// all 64 bits.
    leading: u32,
    significant: u32,
}

impl Values {
    #[inline]
    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<f64, DecodeError> {
        match (!bits.peek()).leading_zeros() {
            0 => {
                bits.skip(1)?;
                Ok(f64::from_bits(self.v))
            }
            1 => {
                bits.skip(2)?;
                self.change(bits, false)
            }
            2 => {
                bits.skip(3)?;
                self.change(bits, true)
            }
            _ => {
                bits.skip(3)?;
                Ok(model::STALE_NAN)
            }
        }
    }

    #[inline]
    fn change(&mut self, bits: &mut BitReader<'_>, has_window: bool) -> Result<f64, DecodeError> {
        if has_window {
            let window = u32::try_from(bits.read(11)?).expect("eleven bits");
            let leading = window >> 6;
            let significant = if window.trailing_zeros() >= 6 { 64 } else { window & 63 };
            if leading + significant > 64 {
                return Err(bits.error("value window wider than 64 bits"));
            }
            (self.leading, self.significant) = (leading, significant);
        }
        self.v ^= bits.read(self.significant)? << (64 - self.leading - self.significant);
        Ok(f64::from_bits(self.v))
    }
}

#[cfg(test)]
mod tests;
