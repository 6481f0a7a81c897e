//! Answers that are made on a thread that may block and sent while they are made.
//!
//! The pieces go over a short channel, so that a client that reads slowly holds up that thread and nothing is gathered
//! in memory. A failure in the middle, a panic among them, breaks the connection: the client must not take what it has
//! for everything.

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::view::remote::ReadError;

/// As many pieces wait for the connection to take them.
const PIECES_MAX: usize = 2;

/// So long an answer may take: who reads more slowly does not keep the thread, and gets an answer that breaks off.
pub(crate) const TIME_MAX: Duration = Duration::from_mins(5);

enum Piece<H> {
    Head(H),
    Bytes(Vec<u8>),
    Failed(ReadError),
    /// The answer is whole. A channel that ends without is one whose thread panicked.
    Whole,
}

/// Where the pieces are made.
pub(crate) struct Sender<H> {
    pieces: mpsc::Sender<Piece<H>>,
    until: Instant,
    runtime: Handle,
}

impl<H> Sender<H> {
    fn send(&self, piece: Piece<H>) -> Result<(), ReadError> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.runtime.block_on(self.pieces.send_timeout(piece, left)).map_err(|_| ReadError::Gone)
    }

    /// Says what the pieces will be, once and before the first of them.
    pub(crate) fn head(&self, head: H) -> Result<(), ReadError> {
        self.send(Piece::Head(head))
    }

    pub(crate) fn piece(&self, bytes: Vec<u8>) -> Result<(), ReadError> {
        self.send(Piece::Bytes(bytes))
    }
}

/// Where they are sent.
pub(crate) struct Pieces<H>(mpsc::Receiver<Piece<H>>);

/// Runs `make` on a thread that may block; after `most`, pieces that nobody takes are not waited for.
pub(crate) fn spawn<H: Send + 'static>(
    most: Duration,
    make: impl FnOnce(&mut Sender<H>) -> Result<(), ReadError> + Send + 'static,
) -> Pieces<H> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let mut sender = Sender { pieces: sender, until: Instant::now() + most, runtime: Handle::current() };
    tokio::task::spawn_blocking(move || {
        let done = make(&mut sender);
        // Whoever is gone need not be told.
        let _ = sender.send(done.map_or_else(Piece::Failed, |()| Piece::Whole));
    });
    Pieces(receiver)
}

fn early() -> ReadError {
    ReadError::Storage("the answer ended early".to_owned())
}

impl<H: Send + 'static> Pieces<H> {
    /// What the pieces will be, or why there are none.
    pub(crate) async fn head(&mut self) -> Result<H, ReadError> {
        match self.0.recv().await {
            Some(Piece::Head(head)) => Ok(head),
            Some(Piece::Failed(e)) => Err(e),
            Some(Piece::Bytes(_) | Piece::Whole) | None => Err(early()),
        }
    }

    /// All pieces in one.
    pub(crate) async fn gather(mut self) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        loop {
            match self.0.recv().await {
                Some(Piece::Bytes(bytes)) if all.is_empty() => all = bytes,
                Some(Piece::Bytes(bytes)) => all.extend_from_slice(&bytes),
                Some(Piece::Failed(e)) => return Err(e),
                Some(Piece::Whole) => return Ok(all),
                Some(Piece::Head(_)) | None => return Err(early()),
            }
        }
    }

    /// The pieces as a body. The first is waited for: until then, a failure still has a status.
    pub(crate) async fn into_body(mut self) -> Result<Body, ReadError> {
        let first = match self.0.recv().await {
            Some(Piece::Bytes(bytes)) => Bytes::from(bytes),
            Some(Piece::Whole) => return Ok(Body::empty()),
            Some(Piece::Failed(e)) => return Err(e),
            Some(Piece::Head(_)) | None => return Err(early()),
        };
        let rest = stream::unfold(Some(self), |pieces| async {
            let mut pieces = pieces?;
            match pieces.0.recv().await {
                Some(Piece::Bytes(bytes)) => Some((Ok(Bytes::from(bytes)), Some(pieces))),
                Some(Piece::Whole) => None,
                failed => {
                    if let Some(Piece::Failed(e)) = failed {
                        tracing::warn!(error = ?e, "an answer to another server failed in the middle");
                    }
                    Some((Err(std::io::Error::other("the answer ends early")), None))
                }
            }
        });
        // Compression asks once more after the end.
        Ok(Body::from_stream(stream::iter([Ok(first)]).chain(rest.fuse())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_read_keeps_no_thread() {
        let (told, outcome) = tokio::sync::oneshot::channel();
        let pieces = spawn::<()>(Duration::ZERO, move |sender| {
            let sent = (0..PIECES_MAX).try_for_each(|_| sender.piece(vec![0]));
            assert_eq!(sent, Ok(()));
            told.send(sender.piece(vec![0])).expect("the test waits for it");
            Err(ReadError::Gone)
        });
        // Nothing was read until here.
        assert_eq!(outcome.await, Ok(Err(ReadError::Gone)));
        let body = pieces.into_body().await.unwrap();
        assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
    }
}
