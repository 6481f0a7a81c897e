//! Integers, varints and strings as the index, chunk segments and tombstones hold them.
//!
//! Reading goes through [`Cursor`], which never looks beyond its slice and never panics; writing appends.
//! Knows no file: positions in errors count from the start of the slice.
//!
//! Compat: prometheus `tsdb/encoding`; Go `encoding/binary` for varints.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::DecodeError;

/// A reading position in bytes that may be anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// A cursor that starts at `pos`; beyond the end it finds nothing to read.
    pub(crate) const fn at(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    pub(crate) const fn pos(&self) -> usize {
        self.pos
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.pos)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { what, offset: u32::try_from(self.pos).unwrap_or(u32::MAX) }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.pos.checked_add(len).ok_or_else(|| self.error("length overflows"))?;
        let taken = self.bytes.get(self.pos..end).ok_or_else(|| self.error("bytes end early"))?;
        self.pos = end;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        match self.take(1)? {
            &[b] => Ok(b),
            _ => Err(self.error("bytes end early")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let mut raw = [0; 4];
        raw.copy_from_slice(self.take(4)?);
        Ok(u32::from_be_bytes(raw))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut raw = [0; 8];
        raw.copy_from_slice(self.take(8)?);
        Ok(u64::from_be_bytes(raw))
    }

    pub(crate) fn uvarint(&mut self) -> Result<u64, DecodeError> {
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        let mut value = 0_u64;
        let mut shift = 0_u32;
        for (&b, read) in rest.iter().zip(1_usize..) {
            // The tenth byte holds the 64th bit alone.
            if shift == 63 && b > 1 {
                return Err(self.error("varint overflows 64 bits"));
            }
            value |= u64::from(b & 0x7f).wrapping_shl(shift);
            if b < 0x80 {
                self.pos = self.pos.saturating_add(read);
                return Ok(value);
            }
            shift = shift.saturating_add(7);
        }
        Err(self.error("bytes end in a varint"))
    }

    pub(crate) fn uvarint32(&mut self) -> Result<u32, DecodeError> {
        let at = *self;
        u32::try_from(self.uvarint()?).map_err(|_| at.error("varint overflows 32 bits"))
    }

    pub(crate) fn varint(&mut self) -> Result<i64, DecodeError> {
        let raw = self.uvarint()?;
        Ok(raw.wrapping_shr(1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// Bytes behind their varint length.
    pub(crate) fn str(&mut self) -> Result<&'a [u8], DecodeError> {
        let at = *self;
        let len = usize::try_from(self.uvarint()?).map_err(|_| at.error("length overflows"))?;
        self.take(len)
    }
}

pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, (value.wrapping_shl(1) ^ value.wrapping_shr(63)).cast_unsigned());
}

pub(crate) fn put_str(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_their_edges() {
        for value in [0, 1, 63, 64, 127, 128, 1 << 35, i64::MAX, -1, -64, -65, i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_uvarint(&mut out, value.cast_unsigned());
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.varint(), Ok(value));
            assert_eq!(cursor.uvarint(), Ok(value.cast_unsigned()));
            assert!(cursor.is_empty());
        }
    }

    #[test]
    fn refuses_what_is_too_short_or_too_long() {
        assert!(Cursor::new(&[0x80; 9]).uvarint().is_err());
        assert!(Cursor::new(&[0xff; 10]).uvarint().is_err());
        assert!(Cursor::new(&[5, b'a']).str().is_err());
        assert!(Cursor::at(&[1, 2], 7).u8().is_err());
        assert!(Cursor::new(&[0, 0, 1]).u32().is_err());
    }
}
