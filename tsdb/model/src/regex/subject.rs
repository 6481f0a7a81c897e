//! A text as the automaton reads it: characters only, an odd byte standing as U+FFFD, which is how Go reads it.
//!
//! Nearly every text is UTF-8 and is borrowed. Of others a translation is kept with the way back, since what a
//! match captures are the bytes as they were.

use std::borrow::Cow;
use std::ops::Range;

pub(super) struct Subject<'t> {
    raw: &'t [u8],
    read: Cow<'t, [u8]>,
    /// For each byte of `read` and for its end the place in `raw`; empty if the two are the same.
    places: Vec<usize>,
}

impl<'t> Subject<'t> {
    pub(super) fn new(raw: &'t [u8]) -> Self {
        if std::str::from_utf8(raw).is_ok() {
            return Self { raw, read: Cow::Borrowed(raw), places: Vec::new() };
        }
        let (mut read, mut places) = (Vec::with_capacity(raw.len() + 16), Vec::with_capacity(raw.len() + 17));
        let mut at = 0;
        for chunk in raw.utf8_chunks() {
            read.extend_from_slice(chunk.valid().as_bytes());
            places.extend(at..at + chunk.valid().len());
            at += chunk.valid().len();
            for _ in chunk.invalid() {
                const ODD: &str = "\u{fffd}";
                read.extend_from_slice(ODD.as_bytes());
                places.extend([at; ODD.len()]);
                at += 1;
            }
        }
        places.push(at);
        Self { raw, read: Cow::Owned(read), places }
    }

    pub(super) fn raw(&self) -> &'t [u8] {
        self.raw
    }

    pub(super) fn read(&self) -> &[u8] {
        &self.read
    }

    /// The bytes behind a part of what was read, which begins and ends between characters.
    pub(super) fn slice(&self, read: Range<usize>) -> &'t [u8] {
        if self.places.is_empty() {
            return &self.raw[read];
        }
        &self.raw[self.places[read.start]..self.places[read.end]]
    }
}
