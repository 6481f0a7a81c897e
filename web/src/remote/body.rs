//! Bodies of other servers: read within bounds, and freed of their encoding, which is snappy's block format.
//!
//! How long the decoded form is stands at the front of the encoded one. It is believed only up to a limit, so that a few
//! bytes cannot ask for gigabytes.
//!
//! Compat: `client_golang` `exp/api/remote`, `SnappyDecodeMiddleware`; golang/snappy `DecodedLen`.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use futures_util::StreamExt;
use model::wire::protobuf::cursor::Cursor;

/// The longest body, encoded and decoded alike.
pub(super) const BODY_BYTES_MAX: usize = 32 << 20;

/// As much of all bodies at a time is held in memory before somebody works on them.
const WAITING_BYTES_MAX: usize = 16 * BODY_BYTES_MAX;

/// What bodies that are still being read may take up together.
#[derive(Debug, Default)]
pub(super) struct Budget {
    used: AtomicUsize,
}

/// A body and its place in the budget.
#[derive(Debug)]
pub(super) struct Received<'b> {
    pub(super) bytes: Vec<u8>,
    budget: &'b Budget,
    reserved: usize,
}

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    /// Too many others send at the moment.
    Busy,
    /// The connection broke, or what came is not HTTP.
    Broken(String),
}

impl Budget {
    /// Reads a body to its end.
    pub(super) async fn read(&self, body: Body) -> Result<Received<'_>, BodyError> {
        let mut received = Received { bytes: Vec::new(), budget: self, reserved: 0 };
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| BodyError::Broken(e.to_string()))?;
            if received.bytes.len() + piece.len() > BODY_BYTES_MAX {
                return Err(BodyError::TooLarge);
            }
            received.reserve(piece.len())?;
            received.bytes.extend_from_slice(&piece);
        }
        Ok(received)
    }
}

impl Received<'_> {
    fn reserve(&mut self, n: usize) -> Result<(), BodyError> {
        self.reserved += n;
        let before = self.budget.used.fetch_add(n, Ordering::Relaxed);
        if before + n > WAITING_BYTES_MAX { Err(BodyError::Busy) } else { Ok(()) }
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

/// Why a body cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SnappyError {
    Corrupt,
    /// It says that it is so long when decoded.
    TooLarge(u64),
}

/// Undoes the encoding.
pub(super) fn decode(encoded: &[u8]) -> Result<Vec<u8>, SnappyError> {
    let declared = Cursor::new(encoded).varint().map_err(|_| SnappyError::Corrupt)?;
    if declared > u64::from(u32::MAX) {
        return Err(SnappyError::Corrupt);
    }
    if declared > BODY_BYTES_MAX as u64 {
        return Err(SnappyError::TooLarge(declared));
    }
    snap::raw::Decoder::new().decompress_vec(encoded).map_err(|_| SnappyError::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_bounded_and_so_are_all_of_them() {
        let budget = Budget::default();
        let just_right = budget.read(Body::from(vec![1; BODY_BYTES_MAX])).await.unwrap();
        assert_eq!(budget.used.load(Ordering::Relaxed), BODY_BYTES_MAX);
        let too_long = budget.read(Body::from(vec![1; BODY_BYTES_MAX + 1])).await;
        assert_eq!(too_long.map(|_| ()), Err(BodyError::TooLarge));
        budget.used.store(WAITING_BYTES_MAX, Ordering::Relaxed);
        assert_eq!(budget.read(Body::from("x")).await.map(|_| ()), Err(BodyError::Busy));
        assert_eq!(budget.used.load(Ordering::Relaxed), WAITING_BYTES_MAX);
        drop(just_right);
        assert!(budget.read(Body::from("x")).await.is_ok());
        assert_eq!(budget.used.load(Ordering::Relaxed), WAITING_BYTES_MAX - BODY_BYTES_MAX);
    }

    #[test]
    fn what_is_declared_is_checked_before_anything_is_decoded() {
        let encoded = snap::raw::Encoder::new().compress_vec(&[7; 1000]).unwrap();
        assert_eq!(decode(&encoded), Ok(vec![7; 1000]));
        assert_eq!(decode(&[0]), Ok(vec![]));
        assert_eq!(decode(&[]), Err(SnappyError::Corrupt));
        assert_eq!(decode(&encoded[..encoded.len() - 1]), Err(SnappyError::Corrupt));
        // 32 MiB and one byte, 4 GiB less one, 4 GiB, and a number without end.
        assert_eq!(decode(&[0x81, 0x80, 0x80, 0x10]), Err(SnappyError::TooLarge((32 << 20) + 1)));
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(SnappyError::TooLarge(u64::from(u32::MAX))));
        assert_eq!(decode(&[0x80, 0x80, 0x80, 0x80, 0x10]), Err(SnappyError::Corrupt));
        assert_eq!(decode(&[0xff; 20]), Err(SnappyError::Corrupt));
    }
}
