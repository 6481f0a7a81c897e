//! Connections whose peer takes nothing any more: they end, and with them what was kept for the rest of an answer.
//!
//! Time counts only while something waits to be written, and begins anew with every byte that the peer's side takes, so
//! that a slow reader is served as long as it reads.
//!
//! No counterpart upstream, whose writes wait for ever.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream of bytes whose writes fail once one of them has waited for `limit`.
pub(crate) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Made by the first write that waits.
    alarm: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, alarm: None, is_waiting: false }
    }

    /// What a write came to, or its failure if it has waited too long.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_waiting = false;
            return written;
        }
        let limit = self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.is_waiting {
            self.is_waiting = true;
            alarm.as_mut().reset(Instant::now() + limit);
        }
        Future::poll(alarm.as_mut(), cx).map(|()| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the peer has taken nothing for {}", model::duration::format(limit)),
            ))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let limit = Duration::from_mins(1);
        let (ours, mut theirs) = duplex(10);
        let mut stream = Patient::new(ours, limit);
        // A byte every fifty seconds is slow, but it is something.
        let reader = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(Duration::from_secs(50)).await;
                theirs.read_u8().await.unwrap();
            }
            theirs
        });
        let began = Instant::now();
        stream.write_all(&[7; 30]).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(20 * 50 - 1), "{:?}", began.elapsed());
        let _theirs = reader.await.unwrap();
        // Waiting for the next thing to write is nobody's fault.
        sleep(limit * 3).await;
        let began = Instant::now();
        let failed = stream.write_all(&[7; 30]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert_eq!(failed.to_string(), "the peer has taken nothing for 1m");
        assert!(began.elapsed() >= limit && began.elapsed() < limit * 2, "{:?}", began.elapsed());
    }
}
