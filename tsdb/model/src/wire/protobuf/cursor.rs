//! A place in a protobuf message, and the few things that can stand there.
//!
//! Nothing here is trusted: every length is held against what is left, and nothing is copied but numbers.
//! Groups, which no message of ours has, are passed over whole.
//!
//! Compat: the code that gogo/protobuf 1.3 generates, in what it refuses and in its texts.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: negative length found during unmarshaling")]
    Length,
    #[error("unexpected EOF")]
    End,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: unexpected end of group")]
    GroupEnd,
    #[error("proto: wrong wireType = {wire} for field {field}")]
    Field { field: &'static str, wire: u8 },
    #[error("proto: {message}: illegal tag {field} (wire type {tag})")]
    Tag { message: &'static str, field: i32, tag: u64 },
    #[error("proto: {message}: wiretype end group for non-group")]
    Group { message: &'static str },
    #[error("invalid length for {kind}")]
    Id { kind: &'static str },
    #[error("proto: messages nest too deep")]
    TooDeep,
    #[error("proto: the message takes too much memory")]
    TooLarge,
    #[error("proto: {message} has more than {most} elements")]
    TooMany { message: &'static str, most: usize },
}

/// Lists of numbers that are kept are buckets of one histogram and their like: no longer ones are meant.
pub const NUMBERS_MAX: usize = 64 << 10;

pub const VARINT: u8 = 0;
pub const FIXED64: u8 = 1;
pub const BYTES: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// The rest of a message.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Reads ten bytes at most; bits beyond the 64th are lost.
    ///
    /// # Errors
    /// The message ends early, or the number does not fit.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Bad> {
        if let [b @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*b));
        }
        let mut v = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&b, rest) = self.rest.split_first().ok_or(Bad::End)?;
            self.rest = rest;
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(Bad::Overflow)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Bad::End)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind their length.
    ///
    /// # Errors
    /// The message ends early.
    #[inline]
    pub fn delimited(&mut self) -> Result<&'a [u8], Bad> {
        let n = self.varint()?;
        let n = i64::try_from(n).map_err(|_| Bad::Length)?;
        self.take(usize::try_from(n).map_err(|_| Bad::End)?)
    }

    #[inline]
    fn fixed64(&mut self) -> Result<f64, Bad> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(Bad::End)?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    /// The bytes of a field, which is to be a string, bytes or a message.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    #[inline]
    pub fn bytes(&mut self, field: &'static str, wire: u8) -> Result<&'a [u8], Bad> {
        if wire == BYTES { self.delimited() } else { Err(Bad::Field { field, wire }) }
    }

    /// The number of a field.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    #[inline]
    pub fn uint(&mut self, field: &'static str, wire: u8) -> Result<u64, Bad> {
        if wire == VARINT { self.varint() } else { Err(Bad::Field { field, wire }) }
    }

    /// The number of a field.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    #[inline]
    pub fn double(&mut self, field: &'static str, wire: u8) -> Result<f64, Bad> {
        if wire == FIXED64 { self.fixed64() } else { Err(Bad::Field { field, wire }) }
    }

    /// The number of a field that has eight bytes.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    #[inline]
    pub fn fixed(&mut self, field: &'static str, wire: u8) -> Result<u64, Bad> {
        Ok(self.double(field, wire)?.to_bits())
    }

    /// One number of a repeated field, or many in one piece.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    pub fn uints(&mut self, field: &'static str, wire: u8, out: &mut Vec<u64>) -> Result<(), Bad> {
        self.numbers(field, wire, VARINT, Self::varint, out)
    }

    /// One number of a repeated field, or many in one piece.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    pub fn sints(&mut self, field: &'static str, wire: u8, out: &mut Vec<i64>) -> Result<(), Bad> {
        self.numbers(field, wire, VARINT, |cursor| Ok(unzigzag(cursor.varint()?)), out)
    }

    /// One number of a repeated field, or many in one piece.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    pub fn doubles(&mut self, field: &'static str, wire: u8, out: &mut Vec<f64>) -> Result<(), Bad> {
        self.numbers(field, wire, FIXED64, Self::fixed64, out)
    }

    /// One number of eight bytes of a repeated field, or many in one piece.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    pub fn fixeds(&mut self, field: &'static str, wire: u8, out: &mut Vec<u64>) -> Result<(), Bad> {
        self.numbers(field, wire, FIXED64, |cursor| Ok(cursor.fixed64()?.to_bits()), out)
    }

    /// One number of a repeated field, or many in one piece; bits beyond the 32nd are lost, as upstream.
    ///
    /// # Errors
    /// The field has another type, or the message ends early.
    pub fn uint32s(&mut self, field: &'static str, wire: u8, on: impl FnMut(u32)) -> Result<(), Bad> {
        self.each_number(field, wire, VARINT, |cursor| Ok(low_u32(cursor.varint()?)), on)
    }

    fn numbers<T>(
        &mut self,
        field: &'static str,
        wire: u8,
        own_wire: u8,
        read: impl Fn(&mut Self) -> Result<T, Bad>,
        out: &mut Vec<T>,
    ) -> Result<(), Bad> {
        self.try_each_number(field, wire, own_wire, read, |number| {
            if out.len() >= NUMBERS_MAX {
                return Err(Bad::TooMany { message: field, most: NUMBERS_MAX });
            }
            out.push(number);
            Ok(())
        })
    }

    fn each_number<T>(
        &mut self,
        field: &'static str,
        wire: u8,
        own_wire: u8,
        read: impl Fn(&mut Self) -> Result<T, Bad>,
        mut on: impl FnMut(T),
    ) -> Result<(), Bad> {
        self.try_each_number(field, wire, own_wire, read, |number| {
            on(number);
            Ok(())
        })
    }

    fn try_each_number<T>(
        &mut self,
        field: &'static str,
        wire: u8,
        own_wire: u8,
        read: impl Fn(&mut Self) -> Result<T, Bad>,
        mut on: impl FnMut(T) -> Result<(), Bad>,
    ) -> Result<(), Bad> {
        if wire == own_wire {
            return on(read(self)?);
        }
        if wire != BYTES {
            return Err(Bad::Field { field, wire });
        }
        // Beyond the piece no number may reach, though upstream lets the last one: whoever passes over the piece by its
        // length has to find the same fields behind it.
        let mut piece = Self::new(self.delimited()?);
        while !piece.is_empty() {
            on(read(&mut piece)?)?;
        }
        Ok(())
    }

    /// Passes over one field, its tag among it.
    ///
    /// # Errors
    /// The field is of no known type, or the message ends early.
    pub fn skip(&mut self) -> Result<(), Bad> {
        let mut depth = 0_usize;
        loop {
            if self.rest.is_empty() {
                return Err(Bad::End);
            }
            let wire = wire_of(self.varint()?);
            match wire {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => {
                    self.take(8)?;
                }
                BYTES => {
                    self.delimited()?;
                }
                GROUP => depth = depth.saturating_add(1),
                GROUP_END => depth = depth.checked_sub(1).ok_or(Bad::GroupEnd)?,
                FIXED32 => {
                    self.take(4)?;
                }
                wire => return Err(Bad::WireType(wire)),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// Hands every field of `message` to `on`, with its number and wire type and the cursor behind its tag. What `on`
/// declines, having read nothing, is passed over.
///
/// # Errors
/// A tag is not valid, `on` fails, or the message ends early.
#[inline]
pub fn fields<'a>(
    name: &'static str,
    message: &'a [u8],
    mut on: impl FnMut(i32, u8, &mut Cursor<'a>) -> Result<bool, Bad>,
) -> Result<(), Bad> {
    let mut cursor = Cursor::new(message);
    while !cursor.is_empty() {
        let before = cursor;
        let tag = cursor.varint()?;
        let wire = wire_of(tag);
        #[expect(clippy::cast_possible_truncation, reason = "field numbers have 32 bits, as upstream has it")]
        let field = (tag >> 3) as i32;
        if wire == GROUP_END {
            return Err(Bad::Group { message: name });
        }
        if field <= 0 {
            return Err(Bad::Tag { message: name, field, tag });
        }
        if !on(field, wire, &mut cursor)? {
            cursor = before;
            cursor.skip()?;
        }
    }
    Ok(())
}

/// The elements of one repeated field that holds messages, the others passed over. Ends at what is malformed: for
/// messages that were gone through before.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    cursor: Cursor<'a>,
    field: u32,
}

impl<'a> Elements<'a> {
    pub const fn new(message: &'a [u8], field: u32) -> Self {
        Self { cursor: Cursor::new(message), field }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.cursor.is_empty() {
            let before = self.cursor;
            let tag = self.cursor.varint().ok()?;
            if wire_of(tag) == BYTES {
                let bytes = self.cursor.delimited().ok()?;
                if low_u32(tag >> 3) == self.field {
                    return Some(bytes);
                }
            } else {
                self.cursor = before;
                self.cursor.skip().ok()?;
            }
        }
        None
    }
}

/// The low half of a number.
#[expect(clippy::cast_possible_truncation, reason = "as upstream reads numbers of 32 bits")]
pub const fn low_u32(v: u64) -> u32 {
    v as u32
}

const fn wire_of(tag: u64) -> u8 {
    (tag & 7) as u8
}

/// A signed number in the zigzag order.
pub const fn unzigzag(v: u64) -> i64 {
    (v >> 1).cast_signed() ^ (v & 1).cast_signed().wrapping_neg()
}
