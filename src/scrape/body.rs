//! The memory that bodies pass through: buffers shared by all loops, and inflation.
//!
//! A loop holds a buffer only while a body is on its way, so an idle target costs none. The pool keeps a
//! few buffers of ordinary size; larger ones go back to the allocator after use.

use std::cell::RefCell;
use std::io::Read as _;

use flate2::bufread::MultiGzDecoder;
use libdeflater::{DecompressionError, Decompressor};
use memchr::memmem;
use parking_lot::Mutex;

/// No body may be larger even where the configuration sets no limit: a target must not take the server down.
pub(super) const BODY_BYTES_MAX: usize = 1 << 30;

/// Larger buffers are not kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Buffers for bodies.
pub(super) struct Buffers {
    kept: Mutex<Vec<Vec<u8>>>,
    n_kept_max: usize,
}

impl Buffers {
    pub(super) fn new(n_kept_max: usize) -> Self {
        Self { kept: Mutex::default(), n_kept_max }
    }

    pub(super) fn take(&self) -> Vec<u8> {
        self.kept.lock().pop().unwrap_or_default()
    }

    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        if (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            let mut kept = self.kept.lock();
            if kept.len() < self.n_kept_max {
                kept.push(buffer);
            }
        }
    }
}

/// Why a body could not be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("body size limit exceeded")]
    TooLarge,
    #[error("{0}")]
    Other(String),
}

/// What begins a gzip member.
const MEMBER: [u8; 3] = [0x1f, 0x8b, 8];

/// A first member has a head of at least this size.
const HEAD_BYTES: usize = 10;

thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// Inflates a gzip body into `out`, which must stay below `limit` bytes.
///
/// In one piece, as targets send it. What has several members or is damaged is read as a stream: that way is slower, and
/// says what is wrong.
pub(super) fn inflate(body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    if body.is_empty() {
        return Err(Error::Other("EOF".to_owned()));
    }
    let Some(&trailer) = body.last_chunk::<4>().filter(|_| body.len() > HEAD_BYTES) else {
        return inflate_stream(body, limit, out);
    };
    // By chance these bytes are in one of a hundred bodies, which then takes the slower way.
    if memmem::find(&body[HEAD_BYTES..], &MEMBER).is_some() {
        return inflate_stream(body, limit, out);
    }
    // The trailer says how much is to come; exposition text shrinks to a tenth, so more than thirty times
    // the input is not believed before it is seen.
    let said = u32::from_le_bytes(trailer);
    let most = limit.saturating_sub(1);
    let mut room = usize::try_from(said).unwrap_or(most).min(body.len().saturating_mul(30)).min(most);
    loop {
        out.resize(room, 0);
        match DECOMPRESSOR.with_borrow_mut(|inflater| inflater.gzip_decompress(body, out)) {
            // Bytes behind the member would be taken for its trailer.
            Ok(n) if n as u64 & u64::from(u32::MAX) == u64::from(said) => {
                out.truncate(n);
                return Ok(());
            }
            Err(DecompressionError::InsufficientSpace) if room >= most => return Err(Error::TooLarge),
            Err(DecompressionError::InsufficientSpace) => {
                room = room.max(1 << 10).saturating_mul(4).min(most);
            }
            Ok(_) | Err(DecompressionError::BadData) => return inflate_stream(body, limit, out),
        }
    }
}

fn inflate_stream(body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    match MultiGzDecoder::new(body).take(most).read_to_end(out) {
        Ok(_) if out.len() >= limit => Err(Error::TooLarge),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::Other("unexpected EOF".to_owned()))
        }
        Err(error) => Err(Error::Other(match error.to_string().as_str() {
            "invalid gzip header" => "gzip: invalid header".to_owned(),
            "corrupt gzip stream does not have a matching checksum" => "gzip: invalid checksum".to_owned(),
            other => format!("gzip: {other}"),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn inflates_up_to_the_limit_and_not_beyond() {
        let text = vec![b'a'; 10_000];
        let mut out = Vec::new();
        assert_eq!(inflate(&gzip(&text), 10_001, &mut out), Ok(()));
        assert_eq!(out, text);
        assert_eq!(inflate(&gzip(&text), 10_000, &mut out), Err(Error::TooLarge));
        assert!(out.capacity() < 20_000, "the bomb was inflated: {}", out.capacity());
    }

    #[test]
    fn several_members_are_one_body() {
        let (one, two) = (gzip(b"up 1\n"), gzip(b"up 2\n"));
        let mut out = Vec::new();
        for (body, text) in [
            ([&one[..], &two].concat(), "up 1\nup 2\n"),
            // Alike to the last byte.
            ([&one[..], &one].concat(), "up 1\nup 1\n"),
            ([&gzip(b"")[..], &one, &gzip(b"")].concat(), "up 1\n"),
            (gzip(b""), ""),
        ] {
            assert_eq!(inflate(&body, 100, &mut out), Ok(()));
            assert_eq!(out, text.as_bytes());
            assert_eq!(inflate(&body, text.len().max(1), &mut out).is_err(), !text.is_empty());
        }
        assert!(matches!(inflate(&[&one[..], b"garbage"].concat(), 100, &mut out), Err(Error::Other(_))));
    }

    #[test]
    fn the_limit_is_exact_at_every_size() {
        let mut out = Vec::new();
        for n in [1, 2, 10, 1_000, 4_095, 4_096, 100_000] {
            // Random bytes, which do not shrink, and one byte over and over, which the trailer is not believed of.
            let random: Vec<u8> = (0..n).map(|_| fastrand::u8(..)).collect();
            for text in [random, vec![b'x'; n]] {
                let body = gzip(&text);
                assert_eq!(inflate(&body, n + 1, &mut out), Ok(()));
                assert!(out == text);
                assert_eq!(inflate(&body, n, &mut out), Err(Error::TooLarge));
                assert!(out.capacity() <= 2 * n + 64, "{n}: {}", out.capacity());
                out = Vec::new();
            }
        }
    }

    #[test]
    fn a_trailer_that_lies_is_found_out() {
        let mut body = gzip(&[b'a'; 1000]);
        let end = body.len();
        body[end - 4..].copy_from_slice(&5_u32.to_le_bytes());
        assert!(matches!(inflate(&body, 10_000, &mut Vec::new()), Err(Error::Other(_))));
    }

    #[test]
    fn refuses_what_is_cut_short_or_no_gzip() {
        let whole = gzip(b"up 1\n");
        let mut out = Vec::new();
        let cut = inflate(&whole[..whole.len() - 3], 1000, &mut out);
        assert_eq!(cut, Err(Error::Other("unexpected EOF".to_owned())));
        assert!(matches!(inflate(b"up 1\nup 2\n", 1000, &mut out), Err(Error::Other(_))));
        // What says that it is compressed has at least a head.
        assert_eq!(inflate(b"", 1000, &mut out), Err(Error::Other("EOF".to_owned())));
        assert_eq!(inflate(&gzip(b""), 1000, &mut out), Ok(()));
    }

    #[test]
    fn keeps_few_and_small_buffers() {
        let buffers = Buffers::new(1);
        buffers.give(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert_eq!(buffers.take().capacity(), 0);
        buffers.give(Vec::with_capacity(10));
        buffers.give(Vec::with_capacity(20));
        assert_eq!(buffers.take().capacity(), 10);
        assert_eq!(buffers.take().capacity(), 0);
    }
}
