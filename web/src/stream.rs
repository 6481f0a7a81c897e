//! Answers that are written while they are read: never whole in memory, however large.
//!
//! A [`Source`] writes an answer bit by bit, as much as it is asked for. The first piece is made where the answer is, by
//! the thread that made it; if that is all, it is sent at once and its length told. What is left is made when the
//! connection wants it, on threads that may block and by so many at once as there are turns: a client that reads slowly
//! keeps the answer's data and a few pieces, but no thread and no turn, and one that goes away ends all of it.
//!
//! Compat: none; prometheus builds the answer whole (`web/api/v1`, `respond`).

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

use crate::compression::{Encoder, Encoding};

/// What is written in one go, and what an answer sent with its length may have, about.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// What a list or an object may go beyond that by, mostly.
const SLACK_BYTES: usize = 4 << 10;

/// So many pieces are made in one turn.
const PIECES_MAX: usize = 4;

/// The rest of an answer.
pub(crate) trait Source: Send + 'static {
    /// Appends to `out` until that has `until` bytes or a little more, and says whether there is more to come.
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool;
}

/// Bytes that are there already.
pub(crate) struct Whole(pub(crate) Bytes);

impl Source for Whole {
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        let n = until.saturating_sub(out.len()).min(self.0.len());
        out.extend_from_slice(&self.0.split_to(n));
        !self.0.is_empty()
    }
}

/// A list in brackets, an item at a time; each is given up as soon as it is written.
pub(crate) struct List<I, W> {
    items: I,
    write: W,
    /// What goes in front of the next item.
    before: &'static [u8],
}

impl<I, W> List<I, W>
where
    I: Iterator,
    W: FnMut(&mut Vec<u8>, I::Item),
{
    pub(crate) fn new(items: impl IntoIterator<IntoIter = I>, write: W) -> Self {
        Self { items: items.into_iter(), write, before: b"[" }
    }
}

impl<I, W> Source for List<I, W>
where
    I: Iterator + Send + 'static,
    W: FnMut(&mut Vec<u8>, I::Item) + Send + 'static,
{
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        while out.len() < until {
            let Some(item) = self.items.next() else {
                out.extend_from_slice(if self.before == b"[" { b"[]" } else { b"]" });
                return false;
            };
            out.extend_from_slice(self.before);
            (self.write)(out, item);
            self.before = b",";
        }
        true
    }
}

/// A source and its encoder: an endless supply of pieces until the end.
struct Writer {
    source: Box<dyn Source>,
    encoder: Encoder,
    plain: Vec<u8>,
}

/// What a writer has made, and itself if there is more.
type Made = (Vec<Bytes>, Option<Box<Writer>>);

impl Writer {
    fn new(source: impl Source, encoding: Encoding) -> Box<Self> {
        Box::new(Self { source: Box::new(source), encoder: Encoder::new(encoding), plain: Vec::new() })
    }

    /// The next piece, and whether there are more.
    fn piece(&mut self) -> (Bytes, bool) {
        loop {
            let more = self.source.write_some(&mut self.plain, PIECE_BYTES);
            self.encoder.take_in(&mut self.plain);
            if !more {
                let encoder = std::mem::replace(&mut self.encoder, Encoder::Identity(Vec::new()));
                return (encoder.finish().into(), false);
            }
            let out = self.encoder.out();
            if out.len() >= PIECE_BYTES {
                let room = Vec::with_capacity(PIECE_BYTES + SLACK_BYTES);
                return (std::mem::replace(out, room).into(), true);
            }
        }
    }

    fn pieces(mut self: Box<Self>) -> Made {
        let mut made = Vec::with_capacity(PIECES_MAX);
        while made.len() < PIECES_MAX {
            let (piece, more) = self.piece();
            made.push(piece);
            if !more {
                return (made, None);
            }
        }
        (made, Some(self))
    }
}

/// An answer without its head. Writes its first piece right here, so this is for threads that may block.
pub(crate) fn body(source: impl Source, encoding: Encoding, turns: &Arc<Semaphore>) -> Body {
    let mut writer = Writer::new(source, encoding);
    let (first, more) = writer.piece();
    if more {
        Body::new(Streamed {
            ready: VecDeque::from([first]),
            state: State::Idle(writer),
            turns: Arc::clone(turns),
        })
    } else {
        Body::from(first)
    }
}

/// A successful answer of JSON. Writes its first piece right here, so this is for threads that may block.
pub(crate) fn json(source: impl Source, encoding: Encoding, turns: &Arc<Semaphore>) -> Response {
    let body = body(source, encoding, turns);
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (StatusCode::OK, json, body).into_response();
    if let Some(name) = encoding.name() {
        response.headers_mut().insert(header::CONTENT_ENCODING, name);
    }
    response
}

/// The answer in the encoding that its client asked for, if it has none yet.
pub(crate) async fn encoded(mut response: Response, encoding: Encoding, turns: &Arc<Semaphore>) -> Response {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let is_whole = hyper::body::Body::size_hint(response.body()).exact().is_some_and(|bytes| bytes > 0);
    let is_encoded = response.headers().contains_key(header::CONTENT_ENCODING);
    let Some(name) = encoding.name().filter(|_| is_whole && !is_encoded) else { return response };
    let (mut head, body) = response.into_parts();
    // It is in memory, or it would not know its length.
    let bytes = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(e) => return (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    };
    let body = if bytes.len() <= PIECE_BYTES {
        let mut encoder = Encoder::new(encoding);
        encoder.take_in(&mut bytes.into());
        Body::from(encoder.finish())
    } else {
        let state = State::Idle(Writer::new(Whole(bytes), encoding));
        Body::new(Streamed { ready: VecDeque::new(), state, turns: Arc::clone(turns) })
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, name);
    Response::from_parts(head, body)
}

/// A body that is made as it is sent.
struct Streamed {
    ready: VecDeque<Bytes>,
    state: State,
    turns: Arc<Semaphore>,
}

enum State {
    Idle(Box<Writer>),
    Writing(Writing),
    Ended,
}

/// The next pieces on their way, given up when this is dropped.
///
/// A task of its own waits for the turn: a connection does not poll an answer whose pieces nobody takes, and a turn that came
/// to it then would be lost to all others.
struct Writing(JoinHandle<Result<Made, JoinError>>);

impl Writing {
    fn begin(writer: Box<Writer>, turns: Arc<Semaphore>) -> Self {
        Self(tokio::spawn(async move {
            let turn = turns.acquire_owned().await.expect("the semaphore is never closed");
            let work = move || {
                let _turn = turn;
                writer.pieces()
            };
            tokio::task::spawn_blocking(work).await
        }))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Made, JoinError>> {
        Pin::new(&mut self.0).poll(cx).map(Result::flatten)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = JoinError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // The next pieces are begun while the last one of those before is on its way.
        if self.ready.len() <= 1 {
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Idle(writer) => State::Writing(Writing::begin(writer, Arc::clone(&self.turns))),
                other => other,
            };
        }
        if let State::Writing(writing) = &mut self.state {
            match writing.poll(cx) {
                Poll::Ready(Ok((pieces, writer))) => {
                    self.ready.extend(pieces);
                    self.state = writer.map_or(State::Ended, State::Idle);
                }
                // The client sees an answer without an end.
                Poll::Ready(Err(e)) => {
                    self.state = State::Ended;
                    self.ready.clear();
                    return Poll::Ready(Some(Err(e)));
                }
                Poll::Pending if self.ready.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        Poll::Ready(self.ready.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
