//! A reading position in the untrusted bytes of a record; never panics.

use super::start;
use crate::DecodeError;

/// Takes bytes from the front.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    /// Behind the type byte.
    pub(crate) fn after_type(record: &'a [u8]) -> Self {
        Self { rest: record.get(1..).unwrap_or_default(), len: record.len() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(self.error("record too short"))?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn be64(&mut self) -> Result<u64, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(self.error("record too short"))?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn float(&mut self) -> Result<f64, DecodeError> {
        self.be64().map(f64::from_bits)
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64, DecodeError> {
        match self.rest {
            // One or two bytes is what nearly all are.
            [a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*a))
            }
            [a, b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*a & 0x7f) | (u64::from(*b) << 7))
            }
            _ => self.uvarint_long(),
        }
    }

    fn uvarint_long(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(self.error("bad varint"))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i64, DecodeError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// Bytes behind their length.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.uvarint()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(self.error("string beyond the record"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A count of items that take at least `item_len` bytes each, so that room for them may be made.
    pub(crate) fn count(&mut self, item_len: usize) -> Result<usize, DecodeError> {
        let n = usize::try_from(self.uvarint()?).unwrap_or(usize::MAX);
        if n > self.rest.len() / item_len {
            return Err(self.error("more items than the record has bytes for"));
        }
        Ok(n)
    }

    /// A start time behind its mark.
    #[inline]
    pub(crate) fn start(&mut self, first: i64, previous: i64) -> Result<i64, DecodeError> {
        match self.byte()? {
            start::NONE => Ok(0),
            start::SAME => Ok(previous),
            // As upstream: every other mark is one.
            _ => Ok(first.wrapping_add(self.varint()?)),
        }
    }

    #[cold]
    pub(crate) fn error(&self, what: &'static str) -> DecodeError {
        DecodeError {
            what,
            offset: u32::try_from(self.len.saturating_sub(self.rest.len())).unwrap_or(u32::MAX),
        }
    }
}
