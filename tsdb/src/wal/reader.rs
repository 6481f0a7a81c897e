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

    /// The bytes of the segment up to the end of the last sound record.
    pub fn sound_len(&self) -> usize {
        self.sound
    }

    /// The next record, decompressed, or `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which the trait cannot")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, Corruption> {
        self.joined.clear();
        let mut flags = 0;
        let mut n_fragments = 0;
        let whole = loop {
            let Some(fragment) = self.next_fragment()? else {
                if n_fragments > 0 {
                    return Err(self.corrupt(self.bytes.len(), "record is torn: the segment ends within it"));
                }
                self.sound = self.bytes.len();
                return Ok(None);
            };
            let expected = if n_fragments == 0 { [FULL, FIRST] } else { [MIDDLE, LAST] };
            if !expected.contains(&fragment.kind) {
                return Err(
                    self.corrupt(fragment.offset, format!("unexpected fragment type {}", fragment.kind))
                );
            }
            if n_fragments > 0 && fragment.flags != flags {
                return Err(self.corrupt(fragment.offset, "compression changes within a record"));
            }
            flags = fragment.flags;
            n_fragments += 1;
            if fragment.kind == FULL {
                break Some(fragment.data);
            }
            if self.joined.len() + fragment.data.len() > RECORD_LEN_MAX {
                return Err(self.corrupt(fragment.offset, "record too long"));
            }
            self.joined.extend_from_slice(fragment.data);
            if fragment.kind == LAST {
                break None;
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

    /// The next fragment that is not padding.
    fn next_fragment(&mut self) -> Result<Option<Fragment<'a>>, Corruption> {
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
            let (expected, found) = (u32::from_be_bytes([c0, c1, c2, c3]), crc32c::crc32c(data));
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

struct Fragment<'a> {
    kind: u8,
    flags: u8,
    data: &'a [u8],
    offset: usize,
}
