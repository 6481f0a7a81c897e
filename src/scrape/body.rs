//! The memory that bodies pass through: buffers shared by all loops, and inflation.
//!
//! A loop holds a buffer only while a body is on its way, so an idle target costs none. The pool keeps a
//! few buffers of ordinary size; larger ones go back to the allocator after use.

use std::io::Read as _;

use flate2::bufread::MultiGzDecoder;
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

/// Inflates a gzip body into `out`, which must stay below `limit` bytes.
pub(super) fn inflate(body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    // The trailer says how much is to come; exposition text shrinks to a tenth, so more than thirty times
    // the input is not believed before it is seen.
    if let Some(&[a, b, c, d]) = body.last_chunk::<4>() {
        let said = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        out.reserve(said.min(body.len().saturating_mul(30)).min(limit).saturating_add(64));
    }
    // An empty body is an empty exposition, compressed or not.
    if body.is_empty() {
        return Ok(());
    }
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    match MultiGzDecoder::new(body).take(most).read_to_end(out) {
        Ok(_) if out.len() >= limit => Err(Error::TooLarge),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::Other("unexpected EOF".to_owned()))
        }
        Err(error) => Err(Error::Other(format!("gzip: {error}"))),
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
    fn refuses_what_is_cut_short_or_no_gzip() {
        let whole = gzip(b"up 1\n");
        let mut out = Vec::new();
        let cut = inflate(&whole[..whole.len() - 3], 1000, &mut out);
        assert_eq!(cut, Err(Error::Other("unexpected EOF".to_owned())));
        assert!(matches!(inflate(b"up 1\nup 2\n", 1000, &mut out), Err(Error::Other(_))));
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
