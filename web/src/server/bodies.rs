//! Bodies: those of requests must come in time, those of answers must be taken in time.
//!
//! On a connection that requests share, the socket does not tell whose answer is not taken. There an answer goes out in pieces,
//! and the time between two of them counts.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::heads::{Open, Pace};

/// The most that is handed out at once on a shared connection: what a client grants at a time by default.
const PIECE_BYTES: usize = 64 << 10;

/// The body of a request.
pub(super) struct Question<B = Incoming> {
    body: B,
    /// For all of it.
    deadline: Instant,
    /// Between two pieces.
    pause_max: Duration,
    /// Made when the body is waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<B> Question<B> {
    pub(super) fn new(body: B, whole_max: Duration, pause_max: Duration) -> Self {
        Self { body, deadline: Instant::now() + whole_max, pause_max, alarm: None, is_waiting: false }
    }
}

impl<B> HttpBody for Question<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let at = self.deadline.min(Instant::now() + self.pause_max);
        let begins = !std::mem::replace(&mut self.is_waiting, true);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if begins {
            alarm.as_mut().reset(at);
        }
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; its request is open as long as this lives.
pub(super) struct Answer {
    body: Body,
    _open: Open,
    /// Of answers that share a connection.
    pace: Option<Arc<Pace>>,
    /// What was cut off the last piece.
    rest: Bytes,
}

impl Answer {
    pub(super) fn new(body: Body, open: Open, pace: Option<Arc<Pace>>) -> Self {
        Self { body, _open: open, pace, rest: Bytes::new() }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(pace) = self.pace.clone() else { return Pin::new(&mut self.body).poll_frame(cx) };
        pace.go_on();
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        pace.wait();
        let n = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(n)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tokio::time::sleep;

    use super::super::heads::Phase;
    use super::*;

    fn dripping(n: usize, every: Duration) -> Body {
        let pieces = futures_util::stream::iter(0..n).then(move |_| async move {
            sleep(every).await;
            Ok::<_, axum::Error>(Frame::data(Bytes::from_static(b"x")))
        });
        Body::new(StreamBody::new(Box::pin(pieces)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_come_in_time() {
        let seconds = Duration::from_secs;
        let read = async |body| Question::new(body, seconds(300), seconds(60)).collect().await;
        assert_eq!(read(dripping(5, seconds(50))).await.unwrap().to_bytes().len(), 5);
        for (n, every) in [(7, 50), (1, 61)] {
            let failed = read(dripping(n, seconds(every))).await.unwrap_err();
            assert_eq!(failed.to_string(), "i/o timeout");
        }
    }

    #[tokio::test]
    async fn a_shared_answer_goes_out_in_pieces() {
        let phase = Phase::new();
        let whole = Bytes::from(vec![7; 3 * PIECE_BYTES + 5]);
        let new = |pace| Answer::new(Body::new(Full::new(whole.clone())), phase.open(), pace);
        let mut answer = new(Some(phase.pace()));
        assert_eq!(answer.size_hint().exact(), Some(whole.len() as u64));
        let mut sizes = Vec::new();
        while let Some(frame) = answer.frame().await {
            sizes.push(frame.unwrap().into_data().unwrap().len());
            assert_eq!(answer.is_end_stream(), sizes.len() == 4);
        }
        assert_eq!(sizes, [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 5]);
        assert_eq!(new(None).collect().await.unwrap().to_bytes(), whole);
    }
}
