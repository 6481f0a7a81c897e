//! Numbers in a prefix code of one bit to nine bytes, for differences that are mostly tiny.
//!
//! The widths behind the prefixes `10`, `110` and so on to `11111110` are in [`WIDTHS`]; eight ones announce all
//! 64 bits, a lone zero is the number zero. A signed field is lopsided by one: its largest number is positive.
//!
//! Compat: prometheus `tsdb/chunkenc`, `putVarbitInt` and `putVarbitUint`.

use super::bits::{BitReader, BitWriter};
use crate::DecodeError;

/// The bits behind a prefix of 0, 1, 2, ... ones and a zero.
const WIDTHS: [u32; 8] = [0, 3, 6, 9, 12, 18, 25, 56];

/// The widest field that is in sight together with its prefix.
const NEAR_MAX: usize = 6;

pub(super) fn put_int(bits: &mut BitWriter, value: i64) {
    let fits = |width: u32| {
        let half = 1_i64 << (width - 1);
        (1 - half..=half).contains(&value)
    };
    put(bits, value.cast_unsigned(), fits);
}

pub(super) fn put_uint(bits: &mut BitWriter, value: u64) {
    put(bits, value, |width| value >> width == 0);
}

fn put(bits: &mut BitWriter, raw: u64, fits: impl Fn(u32) -> bool) {
    if raw == 0 {
        return bits.put(0, 1);
    }
    for (ones, width) in (0_u32..).zip(WIDTHS).skip(1) {
        if fits(width) {
            let prefix = (1_u64 << (ones + 1)) - 2;
            let field = raw & ((1 << width) - 1);
            return bits.put((prefix << width) | field, ones + 1 + width);
        }
    }
    bits.put(0xff, 8);
    bits.put(raw, 64);
}

/// Reads the prefix and the field behind it; the second half is the field's width, 0 and 64 included.
///
/// Which width comes next is hard to guess, so the common ones take one way without branches.
#[inline]
fn read(bits: &mut BitReader<'_>) -> Result<(u64, u32), DecodeError> {
    let peeked = bits.peek();
    let ones = (!peeked).leading_zeros();
    match WIDTHS[..=NEAR_MAX].get(ones as usize) {
        Some(&width) => {
            bits.skip(ones + 1 + width)?;
            // Two shifts, since the width may be 0.
            Ok((((peeked << (ones + 1)) >> 1) >> (63 - width), width))
        }
        None => read_wide(bits, ones),
    }
}

#[cold]
fn read_wide(bits: &mut BitReader<'_>, ones: u32) -> Result<(u64, u32), DecodeError> {
    bits.skip(8)?;
    let width = if ones == 7 { WIDTHS[7] } else { 64 };
    Ok((bits.read(width)?, width))
}

#[inline]
pub(super) fn read_int(bits: &mut BitReader<'_>) -> Result<i64, DecodeError> {
    let (raw, width) = read(bits)?;
    if width == 64 {
        return Ok(raw.cast_signed());
    }
    // Of a field without bits, the half is 0, too.
    let half = (1_u64 << width) >> 1;
    Ok(raw.cast_signed() - (i64::from(raw > half) << width))
}

#[inline]
pub(super) fn read_uint(bits: &mut BitReader<'_>) -> Result<u64, DecodeError> {
    Ok(read(bits)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_at_the_edges_of_every_width() {
        let mut ints = vec![0, i64::MIN, i64::MAX, 1, -1];
        let mut uints = vec![0, 1, u64::MAX];
        for &width in &WIDTHS[1..] {
            let half = 1_i64 << (width - 1);
            ints.extend([half - 1, half, half + 1, -half - 1, -half, 1 - half]);
            let all = 1_u64 << width;
            uints.extend([all - 1, all, all + 1]);
        }
        let mut bits = BitWriter::default();
        for &value in &ints {
            put_int(&mut bits, value);
        }
        for &value in &uints {
            put_uint(&mut bits, value);
        }
        let bytes = bits.into_bytes();
        let mut bits = BitReader::new(&bytes);
        for &value in &ints {
            assert_eq!(read_int(&mut bits), Ok(value));
        }
        for &value in &uints {
            assert_eq!(read_uint(&mut bits), Ok(value));
        }
    }

    #[test]
    fn lengths_are_those_of_the_format() {
        let len = |value: i64| {
            let mut bits = BitWriter::default();
            put_int(&mut bits, value);
            let whole = bits.bytes().len();
            // How many more bits fit tells how many are taken.
            let mut free = 0;
            while bits.bytes().len() == whole {
                bits.put(1, 1);
                free += 1;
            }
            whole * 8 + 1 - free
        };
        for (value, expected) in
            [(0, 1), (-3, 5), (4, 5), (5, 9), (-4, 9), (32, 9), (256, 13), (2048, 17), (-2048, 24)]
        {
            assert_eq!(len(value), expected, "{value}");
        }
        assert_eq!((len(131_072), len(16_777_216), len(1 << 55), len((1 << 55) + 1)), (24, 32, 64, 72));
    }
}
