//! A place in a JSON text, and the values that can stand there.
//!
//! Null stands for an empty object, list or text. Depth and memory are bounded.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::str::FromStr;

use crate::number;

/// The most objects and lists that lie in each other.
const DEPTH_MAX: usize = 200;

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("expected {expected} at byte {at}")]
    Expected { expected: &'static str, at: usize },
    #[error("values nest too deep at byte {at}")]
    TooDeep { at: usize },
    #[error("it takes too much memory")]
    TooLarge,
}

pub(super) type Read<T> = Result<T, Bad>;

pub(super) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    depth: usize,
    /// Bytes of memory that may still be used.
    left: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(body: &'a [u8], memory_bytes: usize) -> Self {
        Self { body, at: 0, depth: 0, left: memory_bytes }
    }

    pub(super) const fn bad(&self, expected: &'static str) -> Bad {
        Bad::Expected { expected, at: self.at }
    }

    fn next_byte(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn advance(&mut self, n: usize) {
        self.at = self.at.saturating_add(n);
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.next_byte() {
            self.advance(1);
        }
        self.next_byte()
    }

    /// Passes over `byte`, if it is next.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.advance(usize::from(is_next));
        is_next
    }

    fn takes_word(&mut self, word: &[u8]) -> bool {
        self.peek();
        let is_next = self.rest().starts_with(word);
        self.advance(if is_next { word.len() } else { 0 });
        is_next
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Read<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.bad("the end")) }
    }

    pub(super) fn is_at_text(&mut self) -> bool {
        self.peek() == Some(b'"')
    }

    /// Hands the name of every field to `on`, which reads its value.
    pub(super) fn object(&mut self, mut on: impl FnMut(&mut Self, &str) -> Read<()>) -> Read<()> {
        if self.takes_word(b"null") {
            return Ok(());
        }
        if !self.takes(b'{') {
            return Err(self.bad("an object"));
        }
        self.deeper()?;
        let mut is_first = true;
        while !self.takes(b'}') {
            if !is_first && !self.takes(b',') {
                return Err(self.bad("a comma or the end of an object"));
            }
            is_first = false;
            if !self.is_at_text() {
                return Err(self.bad("the name of a field"));
            }
            let name = self.text()?;
            if !self.takes(b':') {
                return Err(self.bad("a colon"));
            }
            on(self, &name)?;
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn array(&mut self, mut on: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        if self.takes_word(b"null") {
            return Ok(());
        }
        if !self.takes(b'[') {
            return Err(self.bad("a list"));
        }
        self.deeper()?;
        let mut is_first = true;
        while !self.takes(b']') {
            if !is_first && !self.takes(b',') {
                return Err(self.bad("a comma or the end of a list"));
            }
            is_first = false;
            on(self)?;
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn deeper(&mut self) -> Read<()> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX { Err(Bad::TooDeep { at: self.at }) } else { Ok(()) }
    }

    /// Adds what a list has to `out`.
    pub(super) fn list<T>(&mut self, out: &mut Vec<T>, read: impl Fn(&mut Self) -> Read<T>) -> Read<()> {
        self.list_up_to(usize::MAX, "", out, read)
    }

    /// As [`Reader::list`], of which there are `most` or it is not what was expected.
    pub(super) fn list_up_to<T>(
        &mut self,
        most: usize,
        expected: &'static str,
        out: &mut Vec<T>,
        read: impl Fn(&mut Self) -> Read<T>,
    ) -> Read<()> {
        self.array(|reader| {
            if out.len() >= most {
                return Err(reader.bad(expected));
            }
            let item = read(reader)?;
            reader.left = reader.left.checked_sub(size_of::<T>()).ok_or(Bad::TooLarge)?;
            out.push(item);
            Ok(())
        })
    }

    /// A text, borrowed if it is written as it is meant.
    pub(super) fn text(&mut self) -> Read<Cow<'a, str>> {
        if self.takes_word(b"null") {
            return Ok(Cow::Borrowed(""));
        }
        if !self.takes(b'"') {
            return Err(self.bad("a string"));
        }
        let plain = self.run()?;
        if self.next_byte() == Some(b'"') {
            self.advance(1);
            return Ok(String::from_utf8_lossy(plain));
        }
        let mut out = plain.to_vec();
        loop {
            self.advance(1);
            self.escape(&mut out)?;
            out.extend_from_slice(self.run()?);
            if self.next_byte() == Some(b'"') {
                self.advance(1);
                return Ok(Cow::Owned(String::from_utf8_lossy(&out).into_owned()));
            }
        }
    }

    /// The bytes up to the next quote or backslash.
    fn run(&mut self) -> Read<&'a [u8]> {
        let rest = self.rest();
        let Some(n) = memchr::memchr2(b'"', b'\\', rest) else { return Err(self.bad("the end of a string")) };
        let run = rest.get(..n).unwrap_or_default();
        if run.iter().any(|&b| b < b' ') {
            return Err(self.bad("a string without control characters"));
        }
        self.advance(n);
        Ok(run)
    }

    /// What stands behind a backslash.
    fn escape(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let Some(b) = self.next_byte() else { return Err(self.bad("an escape")) };
        self.advance(1);
        out.push(match b {
            b'"' | b'\\' | b'/' => b,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.character()?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.bad("an escape")),
        });
        Ok(())
    }

    /// A character by its number, of which the larger ones come in halves; a half alone is not one.
    fn character(&mut self) -> Read<char> {
        let high = self.unit()?;
        if (0xd800..0xdc00).contains(&high) && self.rest().starts_with(b"\\u") {
            let before = self.at;
            self.advance(2);
            let low = self.unit()?;
            if (0xdc00..0xe000).contains(&low) {
                let (high, low) = (u16::try_from(high), u16::try_from(low));
                let pair = [high.unwrap_or_default(), low.unwrap_or_default()];
                return Ok(char::decode_utf16(pair).next().and_then(Result::ok).unwrap_or('\u{fffd}'));
            }
            self.at = before;
        }
        Ok(char::from_u32(high).unwrap_or('\u{fffd}'))
    }

    fn unit(&mut self) -> Read<u32> {
        let digits = self.rest().get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.bad("four hexadecimal digits"))?;
        self.advance(4);
        Ok(unit)
    }

    /// The characters of a number, of which there is at least one; whoever takes it says whether they are one.
    fn numeral(&mut self) -> Read<&'a str> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.bad("a number"));
        }
        let is_part = |b: &&u8| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let n = self.rest().iter().take_while(is_part).count();
        let numeral = self.rest().get(..n).and_then(|numeral| std::str::from_utf8(numeral).ok());
        let numeral = numeral.ok_or_else(|| self.bad("a number"))?;
        self.advance(n);
        Ok(numeral)
    }

    /// A whole number in its range, written as such or as a text.
    pub(super) fn whole<T: FromStr>(&mut self) -> Read<T> {
        let text = if self.is_at_text() { self.text()? } else { Cow::Borrowed(self.numeral()?) };
        text.parse().map_err(|_| self.bad("a whole number in its range"))
    }

    /// A number, written as such or as a text.
    pub(super) fn fraction(&mut self) -> Read<f64> {
        let text = if self.is_at_text() { self.text()? } else { Cow::Borrowed(self.numeral()?) };
        number::parse_go_float(text.as_bytes()).map_err(|_| self.bad("a number"))
    }

    pub(super) fn boolean(&mut self) -> Read<bool> {
        if self.takes_word(b"true") {
            Ok(true)
        } else if self.takes_word(b"false") {
            Ok(false)
        } else {
            Err(self.bad("true or false"))
        }
    }

    /// Passes over a value of any kind.
    pub(super) fn skip(&mut self) -> Read<()> {
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.skip()),
            Some(b'[') => self.array(Self::skip),
            Some(b'"' | b'n') => self.text().map(drop),
            Some(b't' | b'f') => self.boolean().map(drop),
            _ => {
                let numeral = self.numeral()?;
                numeral.parse::<f64>().map(drop).map_err(|_| self.bad("a number"))
            }
        }
    }
}
