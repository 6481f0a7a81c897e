//! Bit streams, most significant bit first: a cursor with 64-bit refills to read, a small stage to write.
//!
//! Compat: prometheus `tsdb/chunkenc`, `bstream`.

use crate::DecodeError;

/// Reads bits from untrusted bytes; past the end it errs, it never panics.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    pos: usize,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// The next bits, left-aligned, at least 57 of them real if the stream has as many; those behind are zero or
    /// real, too.
    #[inline]
    pub fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.pos / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(word) => u64::from_be_bytes(*word),
            None => last_bytes(self.bytes, rest.len()),
        };
        word << (self.pos % 8)
    }

    /// Skips `n` bits.
    #[inline]
    pub fn skip(&mut self, n: u32) -> Result<(), DecodeError> {
        let pos = self.pos + n as usize;
        if pos > self.bytes.len() * 8 {
            return Err(self.error("unexpected end of chunk"));
        }
        self.pos = pos;
        Ok(())
    }

    /// Reads `n` bits, 0 to 64, into the low end.
    #[inline]
    pub fn read(&mut self, n: u32) -> Result<u64, DecodeError> {
        debug_assert!(n <= 64, "BUG: read of {n} bits");
        if n == 0 {
            return Ok(0);
        }
        if n > 57 {
            let high = self.read(32)?;
            return Ok((high << (n - 32)) | self.read(n - 32)?);
        }
        let value = self.peek() >> (64 - n);
        self.skip(n)?;
        Ok(value)
    }

    /// An unsigned LEB128 number, byte by byte at any bit position.
    pub fn read_uvarint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.read(8)?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError { what: "varint overflows", offset: self.offset() })
    }

    /// A zigzag LEB128 number.
    pub fn read_varint(&mut self) -> Result<i64, DecodeError> {
        let raw = self.read_uvarint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// How many bits are left; nothing that still has to be read can be longer.
    pub fn remaining(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.pos)
    }

    /// An error that happened here.
    #[cold]
    pub fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { what, offset: self.offset() }
    }

    fn offset(&self) -> u32 {
        u32::try_from(self.pos / 8).unwrap_or(u32::MAX)
    }
}

/// The last `n` bytes, fewer than eight, as the top of a word.
#[inline]
fn last_bytes(bytes: &[u8], n: usize) -> u64 {
    if let Some(word) = bytes.last_chunk::<8>() {
        // Two shifts, since there may be none.
        return (u64::from_be_bytes(*word) << (56 - 8 * n)) << 8;
    }
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(bytes.len() - n)) {
        *to = *from;
    }
    u64::from_be_bytes(word)
}

/// A run of up to 32 bytes under construction: one encoded sample, put behind the bits of an open chunk.
///
/// It begins with the chunk's last byte if that is not full, so the whole stage is copied over the chunk's tail.
#[derive(Clone, Copy, Debug)]
pub struct BitStage {
    /// The words of the stage, most significant bit first.
    words: [u64; 4],
    n_bits: u32,
}

impl BitStage {
    /// Starts behind the top `n_bits` (0 to 7) of `partial`, whose other bits are zero.
    #[inline]
    pub fn new(partial: u8, n_bits: u32) -> Self {
        Self { words: [u64::from(partial) << 56, 0, 0, 0], n_bits }
    }

    /// Puts the low `n` bits (1 to 64) of `value` behind the others.
    #[inline]
    pub fn put(&mut self, value: u64, n: u32) {
        let top = value << (64 - n);
        let word = (self.n_bits / 64) as usize & 3;
        let used = self.n_bits % 64;
        self.words[word] |= top >> used;
        if used + n > 64 {
            self.words[(word + 1) & 3] |= top << (64 - used);
        }
        self.n_bits += n;
        debug_assert!(self.n_bits <= 256, "BUG: stage of {} bits", self.n_bits);
    }

    pub fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put((value & 0x7f) | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    pub fn put_varint(&mut self, value: i64) {
        self.put_uvarint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    #[inline]
    pub fn n_bits(&self) -> u32 {
        self.n_bits
    }

    /// The staged bytes, the last one zero-padded; the second half is how many of them count.
    #[inline]
    pub fn bytes(&self) -> ([u8; 32], usize) {
        let mut bytes = [0; 32];
        for (out, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            out.copy_from_slice(&word.to_be_bytes());
        }
        (bytes, self.n_bits.div_ceil(8) as usize)
    }
}

/// A growing stream of bits behind bytes that are already there.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Unused low bits of the last byte; they are zero.
    free: u32,
}

impl BitWriter {
    /// A stream that begins behind `header`.
    pub fn after(header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(header);
        Self { bytes, free: 0 }
    }

    /// Puts the low `n` bits (1 to 64) of `value` behind the others.
    pub fn put(&mut self, value: u64, mut n: u32) {
        debug_assert!((1..=64).contains(&n), "BUG: put of {n} bits");
        let value = value & (u64::MAX >> (64 - n));
        if self.free > 0
            && let Some(last) = self.bytes.last_mut()
        {
            if n <= self.free {
                self.free -= n;
                *last |= (value << self.free).to_le_bytes()[0];
                return;
            }
            n -= self.free;
            *last |= (value >> n).to_le_bytes()[0];
        }
        // Left-aligned, the rest is its own big-endian bytes.
        let rest = (value << (64 - n)).to_be_bytes();
        let len = n.div_ceil(8);
        self.bytes.extend_from_slice(&rest[..len as usize]);
        self.free = len * 8 - n;
    }

    pub fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put((value & 0x7f) | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    pub fn put_varint(&mut self, value: i64) {
        self.put_uvarint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Header and stream, the last byte zero-padded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn header_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[..len]
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
