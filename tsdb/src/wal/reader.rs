//! Takes the bytes of one segment apart into records and says exactly where that stops working.
//!
//! Compat: prometheus `tsdb/wlog`, `Reader`.

use super::compress::{RECORD_LEN_MAX, Unpacker};
use super::{FIRST, FULL, HEADER_LEN, KIND_MASK, LAST, MIDDLE, PAGE_LEN, SNAPPY, ZSTD};

/// Bytes of a segment that are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct Corruption {
    pub what: String,
    /// Of the fragment that is wrong.
    pub offset: u64,
}

/// The records of one segment, front to back.
#[derive(Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Where the record returned last ends; everything before is sound.
    sound: usize,
    joined: Vec<u8>,
    unpacked: Vec<u8>,
    unpacker: Unpacker,
}

impl<'a> Records<'a> {
    pub fn new(segment: &'a [u8]) -> Self {
        Self {
            bytes: segment,
            pos: 0,
            sound: 0,
            joined: Vec::new(),
            unpacked: Vec::new(),
            unpacker: Unpacker::default(),
        }
    }

    /// The records that begin at `start`, which one does, and end by `end`, where one does.
    pub fn within(segment: &'a [u8], start: usize, end: usize) -> Self {
        let end = end.min(segment.len());
        let start = start.min(end);
        Self { pos: start, sound: start, ..Self::new(&segment[..end]) }
    }

    /// The bytes of the segment up to the end of the last sound record.
    pub fn sound_len(&self) -> usize {
        self.sound
    }

    /// The next record, decompressed, or `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which the trait cannot")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, Corruption> {
        self.joined.clear();
        let mut before = None;
        let (whole, flags) = loop {
            let Some(fragment) = self.next_fragment(true)? else {
                if before.is_some() {
                    return Err(self.corrupt(self.bytes.len(), TORN));
                }
                self.sound = self.bytes.len();
                return Ok(None);
            };
            self.check_order(&fragment, before)?;
            before = Some(fragment.flags);
            if fragment.kind == FULL {
                break (Some(fragment.data), fragment.flags);
            }
            if self.joined.len() + fragment.data.len() > RECORD_LEN_MAX {
                return Err(self.corrupt(fragment.offset, "record too long"));
            }
            self.joined.extend_from_slice(fragment.data);
            if fragment.kind == LAST {
                break (None, fragment.flags);
            }
        };
        let start = self.sound;
        let raw = whole.unwrap_or(&self.joined);
        if flags != 0 {
            if let Err(what) = self.unpacker.unpack(flags, raw, &mut self.unpacked) {
                return Err(self.corrupt(start, what));
            }
            self.sound = self.pos;
            return Ok(Some(&self.unpacked));
        }
        self.sound = self.pos;
        Ok(Some(match whole {
            Some(raw) => raw,
            None => &self.joined,
        }))
    }

    /// Finds the next record without looking into it: neither checksums nor what is compressed are checked.
    pub fn skip(&mut self) -> Result<Option<Extent<'a>>, Corruption> {
        let mut extent: Option<Extent<'a>> = None;
        loop {
            let Some(fragment) = self.next_fragment(false)? else {
                if extent.is_some() {
                    return Err(self.corrupt(self.bytes.len(), TORN));
                }
                self.sound = self.bytes.len();
                return Ok(None);
            };
            self.check_order(&fragment, extent.as_ref().map(|extent| extent.flags))?;
            let Fragment { kind, flags, data: head, offset: start } = fragment;
            let extent = extent.get_or_insert(Extent { start, end: 0, flags, head });
            if matches!(kind, FULL | LAST) {
                self.sound = self.pos;
                return Ok(Some(Extent { end: self.pos, ..*extent }));
            }
        }
    }

    /// What the record found by [`Records::skip`] holds, as far as its first bytes tell without being unpacked.
    pub fn peek(extent: &Extent<'_>) -> Option<super::record::Kind> {
        super::compress::peek(extent.flags, extent.head).map(|byte| super::record::Kind::of(&[byte]))
    }

    /// Whether a fragment may follow those before it, whose flags are given if there are any.
    fn check_order(&self, fragment: &Fragment<'_>, before: Option<u8>) -> Result<(), Corruption> {
        let expected = if before.is_none() { [FULL, FIRST] } else { [MIDDLE, LAST] };
        if !expected.contains(&fragment.kind) {
            return Err(self.corrupt(fragment.offset, format!("unexpected fragment type {}", fragment.kind)));
        }
        if before.is_some_and(|flags| fragment.flags != flags) {
            return Err(self.corrupt(fragment.offset, "compression changes within a record"));
        }
        Ok(())
    }

    /// The next fragment that is not padding.
    fn next_fragment(&mut self, is_checked: bool) -> Result<Option<Fragment<'a>>, Corruption> {
        loop {
            let offset = self.pos;
            let page_left = PAGE_LEN - offset % PAGE_LEN;
            let rest = &self.bytes[offset..];
            let page = &rest[..page_left.min(rest.len())];
            let Some(&first) = page.first() else { return Ok(None) };
            if first & KIND_MASK == 0 || page_left < HEADER_LEN {
                if page.iter().any(|&b| b != 0) {
                    return Err(self.corrupt(offset, "unexpected non-zero byte in padded page"));
                }
                self.pos += page.len();
                continue;
            }
            if first & !(KIND_MASK | SNAPPY | ZSTD) != 0 || first & (SNAPPY | ZSTD) == SNAPPY | ZSTD {
                return Err(self.corrupt(offset, format!("unknown record flags {first:#04x}")));
            }
            let Some((header, data)) = page.split_first_chunk::<HEADER_LEN>() else {
                return Err(self.corrupt(offset, "record is torn: the segment ends within a header"));
            };
            let &[_, len_high, len_low, c0, c1, c2, c3] = header;
            let len = usize::from(u16::from_be_bytes([len_high, len_low]));
            if len > page_left - HEADER_LEN {
                return Err(
                    self.corrupt(offset, format!("fragment of {len} bytes passes the end of its page"))
                );
            }
            let Some(data) = data.get(..len) else {
                return Err(self.corrupt(offset, "record is torn: the segment ends within it"));
            };
            let expected = u32::from_be_bytes([c0, c1, c2, c3]);
            let found = if is_checked { crc32c::crc32c(data) } else { expected };
            if expected != found {
                return Err(
                    self.corrupt(offset, format!("unexpected checksum {found:x}, expected {expected:x}"))
                );
            }
            self.pos = offset + HEADER_LEN + len;
            return Ok(Some(Fragment { kind: first & KIND_MASK, flags: first & !KIND_MASK, data, offset }));
        }
    }

    #[expect(clippy::unused_self, reason = "reads better where it is called")]
    fn corrupt(&self, offset: usize, what: impl Into<String>) -> Corruption {
        Corruption { what: what.into(), offset: offset as u64 }
    }
}

/// Where a record lies in its segment.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    pub start: usize,
    pub end: usize,
    flags: u8,
    /// What its first fragment holds.
    head: &'a [u8],
}

const TORN: &str = "record is torn: the segment ends within it";

struct Fragment<'a> {
    kind: u8,
    flags: u8,
    data: &'a [u8],
    offset: usize,
}
