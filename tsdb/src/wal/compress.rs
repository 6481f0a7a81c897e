//! How records are made smaller, and large again within a limit.
//!
//! Compat: prometheus `util/compression`, as `tsdb/wlog` uses it: snappy's block format, one zstd frame.

use super::{SNAPPY, ZSTD};

/// The longest record that is unpacked; a segment of upstream's largest size bounds it.
pub(super) const RECORD_LEN_MAX: usize = 512 << 20;

/// The fastest level: a log is written at all times and read rarely.
const ZSTD_LEVEL: i32 = 1;

/// What records are written as; each of them is read whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    None,
    #[default]
    Snappy,
    Zstd,
}

impl Compression {
    /// As the flag and the metric call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

/// Packs records, one after the other.
pub(super) enum Packer {
    None,
    Snappy(Box<snap::raw::Encoder>),
    /// Nothing inside if the library had no memory for it: records stay as they are then.
    Zstd(Option<zstd::bulk::Compressor<'static>>),
}

impl Packer {
    pub(super) fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()),
        }
    }

    /// Appends a record to `out`, packed if that is shorter; says which flags tell so.
    pub(super) fn pack(&mut self, record: &[u8], out: &mut Vec<u8>) -> u8 {
        let start = out.len();
        let room = match self {
            Self::None | Self::Zstd(None) => 0,
            Self::Snappy(_) => snap::raw::max_compress_len(record.len()),
            // What does not become shorter is of no use.
            Self::Zstd(Some(_)) => record.len().saturating_sub(1),
        };
        if room > 0 {
            out.resize(start + room, 0);
            let space = &mut out[start..];
            let (packed, flag) = match self {
                Self::Snappy(encoder) => (encoder.compress(record, space).ok(), SNAPPY),
                Self::Zstd(Some(encoder)) => (encoder.compress_to_buffer(record, space).ok(), ZSTD),
                Self::None | Self::Zstd(None) => (None, 0),
            };
            if let Some(len) = packed.filter(|&len| len < record.len()) {
                out.truncate(start + len);
                return flag;
            }
            out.truncate(start);
        }
        out.extend_from_slice(record);
        0
    }
}

/// The first byte of a record whose first fragment begins with `head`, if that is seen without unpacking it.
pub(super) fn peek(flags: u8, head: &[u8]) -> Option<u8> {
    if flags & ZSTD != 0 {
        return None;
    }
    if flags & SNAPPY == 0 {
        return head.first().copied();
    }
    // The length of the whole, then a literal: there is nothing yet that could be copied.
    let at = head.iter().position(|&byte| byte < 0x80)? + 1;
    let tag = *head.get(at)?;
    let extra = match (tag & 3, tag >> 2) {
        (0, len @ 60..) => usize::from(len - 59),
        (0, _) => 0,
        _ => return None,
    };
    head.get(at + 1 + extra).copied()
}

/// Unpacks records, one after the other.
#[derive(Default)]
pub(super) struct Unpacker {
    snappy: snap::raw::Decoder,
    /// Made when first needed.
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Unpacker {
    /// Puts the record that `raw` holds by `flags` into `out`, whose content goes.
    pub(super) fn unpack(&mut self, flags: u8, raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if flags & ZSTD == 0 { self.unpack_snappy(raw, out) } else { self.unpack_zstd(raw, out) }
    }

    fn unpack_snappy(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let len = snap::raw::decompress_len(raw).map_err(|e| format!("bad snappy record: {e}"))?;
        // Snappy cannot shrink by more than this factor, so a greater length is a lie that would cost memory.
        if len > RECORD_LEN_MAX || len / 64 > raw.len() {
            return Err(format!("bad snappy record: {} bytes claim to hold {len}", raw.len()));
        }
        out.resize(len, 0);
        self.snappy.decompress(raw, out).map_err(|e| format!("bad snappy record: {e}"))?;
        Ok(())
    }

    fn unpack_zstd(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let bad = |e: std::io::Error| format!("bad zstd record: {e}");
        if self.zstd.is_none() {
            self.zstd = Some(zstd::bulk::Decompressor::new().map_err(bad)?);
        }
        let decoder = self.zstd.as_mut().expect("made above if there was none");
        // Frames are written whole, so they say their length; one that was not gets what most records need.
        let claimed = match zstd::zstd_safe::get_frame_content_size(raw) {
            Ok(len) => len.unwrap_or(0).max(1),
            Err(_) => return Err("bad zstd record: no frame".to_owned()),
        };
        let mut room = usize::try_from(claimed).unwrap_or(usize::MAX);
        if room > RECORD_LEN_MAX {
            return Err(format!("bad zstd record: {} bytes claim to hold {claimed}", raw.len()));
        }
        let says_length = claimed > 1;
        if !says_length {
            room = (raw.len() * 16).clamp(64 << 10, RECORD_LEN_MAX);
        }
        out.clear();
        loop {
            out.reserve_exact(room);
            match decoder.decompress_to_buffer(raw, out) {
                Ok(_) => return Ok(()),
                Err(_) if !says_length && room < RECORD_LEN_MAX => {
                    room = (room * 4).min(RECORD_LEN_MAX);
                    out.clear();
                }
                Err(e) => return Err(bad(e)),
            }
        }
    }
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_a_lie_about_its_length_does_not() {
        let record: Vec<u8> = (0..9000_u32).flat_map(|n| (n / 40).to_le_bytes()).collect();
        for (compression, flag) in [(Compression::Snappy, SNAPPY), (Compression::Zstd, ZSTD)] {
            let mut packed = vec![7];
            assert_eq!(Packer::new(compression).pack(&record, &mut packed), flag);
            assert!(packed.len() < record.len() / 2, "{}", compression.as_str());
            let mut unpacker = Unpacker::default();
            let mut out = vec![1, 2, 3];
            unpacker.unpack(flag, &packed[1..], &mut out).unwrap();
            assert_eq!(out, record);
            assert_eq!(peek(flag, &packed[1..]), Some(record[0]).filter(|_| flag == SNAPPY));
            assert!(unpacker.unpack(flag, &packed[1..packed.len() - 3], &mut out).is_err());
        }
        // Noise is left alone.
        let mut rng = fastrand::Rng::with_seed(3);
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(100).collect();
        for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
            let mut out = Vec::new();
            assert_eq!(Packer::new(compression).pack(&noise, &mut out), 0);
            assert_eq!(out, noise);
        }
        assert_eq!(peek(0, &noise), Some(noise[0]));
        for head in [&[][..], &[0x80], &[5], &[5, 0xf8], &[5, 1, 9]] {
            assert_eq!(peek(SNAPPY, head), None);
        }
        let mut out = Vec::new();
        // A frame that claims a terabyte; one that is none.
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0];
        let error = Unpacker::default().unpack(ZSTD, &huge, &mut out).unwrap_err();
        assert!(error.contains("claim to hold 1099511627776"), "{error}");
        assert!(Unpacker::default().unpack(ZSTD, b"123456789", &mut out).is_err());
        assert!(Unpacker::default().unpack(ZSTD, &[], &mut out).is_err());
    }

    #[test]
    fn frames_that_do_not_say_their_length_are_read() {
        use std::io::Write;
        let record = vec![5_u8; 3 << 20];
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&record).unwrap();
        let packed = encoder.finish().unwrap();
        let mut out = Vec::new();
        Unpacker::default().unpack(ZSTD, &packed, &mut out).unwrap();
        assert!(out == record);
    }
}
