//! The reading loop of XOR chunks, which every query and every merge runs through.
//!
//! It reads 64 bits at any bit position at once, takes the control codes of time and value from one such window, and
//! writes into columns that are long enough beforehand. Near the end of the stream it goes on in a copy with zeros
//! behind, so that no read has to ask whether there are bytes left; whether it ran over the end is asked once per
//! sample.

use model::{SampleBatch, TimeRange, Timestamp};

use super::super::bits::BitReader;
use crate::DecodeError;

/// No sample reads further than this many bytes behind its first bit: 4 + 64 + 13 + 64 bits and a window.
const REACH: usize = 32;

/// As [`super::decode`], for the first `n` samples of a stream without header; bytes behind them may be anything.
pub fn decode_stream(
    stream: &[u8],
    n: u16,
    range: TimeRange,
    out: &mut SampleBatch,
) -> Result<(), DecodeError> {
    if n == 0 {
        return Ok(());
    }
    let mut bits = BitReader::new(stream);
    let t = bits.read_varint()?;
    let v = bits.read(64)?;
    if t > range.maxt {
        return Ok(());
    }
    let start = out.ts.len();
    // No sample takes less than two bits, which bounds what a wrong count can make us allocate.
    let n_max = usize::from(n).min(stream.len() * 4);
    out.ts.resize(start + n_max, 0);
    out.vs.resize(start + n_max, 0.0);
    let mut columns =
        Columns { ts: &mut out.ts[start..], vs: &mut out.vs[start..], len: 0, mint: range.mint };
    let result = columns.push(t, v).and_then(|()| {
        if n == 1 {
            return Ok(());
        }
        let delta = bits.read_uvarint()?.cast_signed();
        let pos = stream.len() * 8 - bits.remaining();
        // A writer that went on with a chunk it had read back takes the absent window as one of all 64 bits.
        let mut state =
            State { pos, t, delta, v, trailing: 0, significant: 64, left: n - 1, is_second: true };
        state.read_all(stream, range.maxt, &mut columns)
    });
    let len = start + columns.len;
    out.ts.truncate(len);
    out.vs.truncate(len);
    if !out.sts.is_empty() {
        out.sts.resize(len, 0);
    }
    result
}

/// Where samples go, and how many are there.
struct Columns<'a> {
    ts: &'a mut [Timestamp],
    vs: &'a mut [f64],
    len: usize,
    mint: Timestamp,
}

impl Columns<'_> {
    /// Writes a sample; one before the range is overwritten by the next.
    #[inline]
    fn push(&mut self, t: Timestamp, v: u64) -> Result<(), DecodeError> {
        match (self.ts.get_mut(self.len), self.vs.get_mut(self.len)) {
            (Some(slot_t), Some(slot_v)) => (*slot_t, *slot_v) = (t, f64::from_bits(v)),
            _ => return Err(END),
        }
        self.len += usize::from(t >= self.mint);
        Ok(())
    }
}

const END: DecodeError = DecodeError { what: "unexpected end of chunk", offset: 0 };

/// What the loop remembers between two samples.
struct State {
    /// The next bit.
    pos: usize,
    t: Timestamp,
    delta: i64,
    v: u64,
    /// The window in use.
    trailing: u32,
    significant: u32,
    /// How many samples are still to be read.
    left: u16,
    /// Whether the next sample is the second, whose difference of times is told otherwise and known by now.
    is_second: bool,
}

impl State {
    fn read_all(
        &mut self,
        stream: &[u8],
        maxt: Timestamp,
        columns: &mut Columns<'_>,
    ) -> Result<(), DecodeError> {
        // Most of the stream is read where it lies.
        let (end, last) = (stream.len() * 8, stream.len().saturating_sub(REACH) * 8);
        self.read(stream, last, end, maxt, columns)?;
        if self.left == 0 {
            return Ok(());
        }
        // The rest, at most `REACH` bytes, is read in a copy.
        let base = self.pos / 8;
        let rest = stream.get(base..).unwrap_or_default();
        let mut padded = [0; 3 * REACH];
        let Some(copy) = padded.get_mut(..rest.len()) else { return Err(END) };
        copy.copy_from_slice(rest);
        self.pos -= base * 8;
        let end = rest.len() * 8;
        self.read(&padded, end, end, maxt, columns)?;
        if self.left == 0 { Ok(()) } else { Err(END) }
    }

    /// Reads samples that begin before bit `last`; none may end behind bit `end`.
    #[inline]
    fn read(
        &mut self,
        bytes: &[u8],
        last: usize,
        end: usize,
        maxt: Timestamp,
        columns: &mut Columns<'_>,
    ) -> Result<(), DecodeError> {
        while self.left > 0 && self.pos < last {
            let mut x = control(bytes, self.pos);
            if self.is_second {
                self.is_second = false;
            } else if x >> 63 == 0 {
                x <<= 1;
                self.pos += 1;
            } else {
                x = self.read_dod(bytes, x);
            }
            self.t = self.t.wrapping_add(self.delta);
            self.read_value(bytes, x)?;
            if self.pos > end {
                return Err(END);
            }
            if self.t > maxt {
                self.left = 0;
                return Ok(());
            }
            columns.push(self.t, self.v)?;
            self.left -= 1;
        }
        Ok(())
    }

    /// Reads a change of the difference of times that is not 0; returns what is in sight behind it.
    #[inline]
    fn read_dod(&mut self, bytes: &[u8], x: u64) -> u64 {
        let prefix = (!x).leading_zeros();
        if prefix > 3 {
            self.delta = self.delta.wrapping_add(window(bytes, self.pos + 4).cast_signed());
            self.pos += 4 + 64;
            return control(bytes, self.pos);
        }
        // 14, 17 and 20 bits behind 10, 110 and 1110.
        let (prefix, n) = (prefix + 1, 11 + 3 * prefix);
        let raw = ((x << prefix) >> (64 - n)).cast_signed();
        // The range is lopsided by one: 2^(n-1) itself is positive.
        let sign = i64::from(raw > 1 << (n - 1));
        self.delta = self.delta.wrapping_add(raw - (sign << n));
        self.pos += (prefix + n) as usize;
        x << (prefix + n)
    }

    /// Reads the value whose control code is at the top of `x`, of which 13 bits have to be real.
    #[inline]
    fn read_value(&mut self, bytes: &[u8], x: u64) -> Result<(), DecodeError> {
        if x >> 63 == 0 {
            self.pos += 1;
            return Ok(());
        }
        if (x >> 62) & 1 == 0 {
            self.pos += 2;
        } else {
            self.pos += 13;
            let leading = low_u32(x >> 57) & 31;
            // 64 does not fit six bits and is written as 0: the wrapping makes it 64 again.
            let significant = (low_u32(x >> 51).wrapping_sub(1) & 63) + 1;
            let Some(trailing) = 64_u32.checked_sub(leading + significant) else {
                return Err(DecodeError { what: "value window wider than 64 bits", offset: 0 });
            };
            (self.trailing, self.significant) = (trailing, significant);
        }
        let bits = window(bytes, self.pos) >> (64 - self.significant);
        self.v ^= bits << self.trailing;
        self.pos += self.significant as usize;
        Ok(())
    }
}

#[inline]
fn low_u32(x: u64) -> u32 {
    let [low @ .., _, _, _, _] = x.to_le_bytes();
    u32::from_le_bytes(low)
}

/// The 57 bits from bit `pos` on, and some that do not count: enough for the control codes of time and value.
#[inline]
fn control(bytes: &[u8], pos: usize) -> u64 {
    let word = bytes.get(pos / 8..).and_then(|rest| rest.first_chunk::<8>());
    word.map_or(0, |word| u64::from_be_bytes(*word) << (pos % 8))
}

/// The 64 bits from bit `pos` on; zeros if fewer than nine bytes begin there.
#[inline]
fn window(bytes: &[u8], pos: usize) -> u64 {
    let Some([head @ .., last]) = bytes.get(pos / 8..).and_then(|rest| rest.first_chunk::<9>()) else {
        return 0;
    };
    let word = u64::from_be_bytes(*head);
    let used = pos % 8;
    (word << used) | (u64::from(*last) >> (8 - used))
}
