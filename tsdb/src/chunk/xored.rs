//! A float that is told from sample to sample by its xor with the one before, with a window of its own.
//!
//! Histograms have one per field; the float chunks have the same code inlined in theirs.
//!
//! Compat: prometheus `tsdb/chunkenc`, `xorWrite` and `xorRead`.

use super::bits::{BitReader, BitWriter};
use crate::DecodeError;

/// No window yet: the next value brings its own.
const NO_WINDOW: u8 = 0xff;

/// The last value and the bits that mattered when it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xored {
    bits: u64,
    leading: u8,
    trailing: u8,
}

impl Xored {
    pub(super) fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// Writes the first value, whole.
    pub(super) fn begin(value: f64, bits: &mut BitWriter) -> Self {
        bits.put(value.to_bits(), 64);
        Self { bits: value.to_bits(), leading: NO_WINDOW, trailing: 0 }
    }

    pub(super) fn put(&mut self, value: f64, bits: &mut BitWriter) {
        let x = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if x == 0 {
            return bits.put(0, 1);
        }
        // Five bits hold the leading zeros.
        let leading = u8::try_from(x.leading_zeros().min(31)).expect("at most 31");
        let trailing = u8::try_from(x.trailing_zeros()).expect("at most 63");
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            bits.put(0b10, 2);
            return bits.put(x >> self.trailing, 64 - u32::from(self.leading) - u32::from(self.trailing));
        }
        let significant = 64 - leading - trailing;
        // 64 does not fit six bits and is written as 0, which cannot occur otherwise.
        bits.put((0b11 << 11) | (u64::from(leading) << 6) | u64::from(significant & 63), 13);
        bits.put(x >> trailing, u32::from(significant));
        (self.leading, self.trailing) = (leading, trailing);
    }

    pub(super) fn read_first(bits: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        // A writer that went on with a chunk it had read back takes the absent window as one of all 64 bits.
        Ok(Self { bits: bits.read(64)?, leading: 0, trailing: 0 })
    }

    #[inline]
    pub(super) fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), DecodeError> {
        let peeked = bits.peek();
        if peeked >> 63 == 0 {
            return bits.skip(1);
        }
        if (peeked >> 62) & 1 == 0 {
            bits.skip(2)?;
        } else {
            bits.skip(13)?;
            let leading = ((peeked >> 57) & 31).to_le_bytes()[0];
            let significant = match ((peeked >> 51) & 63).to_le_bytes()[0] {
                0 => 64,
                n => n,
            };
            let Some(trailing) = 64_u8.checked_sub(leading + significant) else {
                return Err(bits.error("value window wider than 64 bits"));
            };
            (self.leading, self.trailing) = (leading, trailing);
        }
        self.bits ^= bits.read(64 - u32::from(self.leading) - u32::from(self.trailing))? << self.trailing;
        Ok(())
    }
}
