//! How long a client may take for the head of a request, and what is going on on a connection.
//!
//! A head that has begun must end soon, and the first one must come soon, so that those who send a byte now and then do not
//! hold all connections. Between two requests nothing is asked; how long that may last is the server's matter.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What is going on on a connection.
pub(super) struct Phase {
    /// Heads that have come.
    n_heads: AtomicU64,
    /// Requests whose answer is not over.
    n_open: AtomicUsize,
    /// When the last of them was over.
    idle_since: Mutex<Instant>,
    paces: Mutex<Vec<Weak<Pace>>>,
}

/// An open request; it is over when this is dropped.
pub(super) struct Open(Arc<Phase>);

/// Since when a piece of an answer waits to be taken.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Phase {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            n_heads: AtomicU64::new(0),
            n_open: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            paces: Mutex::default(),
        })
    }

    /// A head has come.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.n_open.fetch_add(1, Ordering::AcqRel);
        self.n_heads.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(self))
    }

    /// For the answer to a request.
    pub(super) fn pace(&self) -> Arc<Pace> {
        let pace = Arc::new(Pace::default());
        let mut paces = self.paces.lock();
        paces.retain(|pace| pace.strong_count() > 0);
        paces.push(Arc::downgrade(&pace));
        pace
    }

    /// Whether an answer has not been taken on for `limit`.
    pub(super) fn is_stalled(&self, now: Instant, limit: Duration) -> bool {
        self.paces
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .any(|pace| pace.0.lock().is_some_and(|since| now.saturating_duration_since(since) >= limit))
    }

    /// For how long there has been no request.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        match self.n_open.load(Ordering::Acquire) {
            0 => now.saturating_duration_since(*self.idle_since.lock()),
            _ => Duration::ZERO,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.idle_since.lock() = Instant::now();
        self.0.n_open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pace {
    /// A piece was handed out.
    pub(super) fn wait(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Somebody asks for the next piece: what was before has been taken.
    pub(super) fn go_on(&self) {
        *self.0.lock() = None;
    }
}

/// A stream that ends if a head does not.
pub(super) struct Heads<S> {
    stream: S,
    phase: Arc<Phase>,
    limit: Duration,
    /// What comes between requests may be something else than a head.
    only_first: bool,
    alarm: Pin<Box<Sleep>>,
    /// The head that the alarm is for, counted from 0.
    awaited: Option<u64>,
}

impl<S> Heads<S> {
    pub(super) fn new(stream: S, phase: Arc<Phase>, limit: Duration, only_first: bool) -> Self {
        Self { stream, phase, limit, only_first, alarm: Box::pin(sleep(limit)), awaited: Some(0) }
    }

    /// The head that is being waited for, if none of its request is open.
    fn next_head(&self) -> Option<u64> {
        (self.phase.n_open.load(Ordering::Acquire) == 0).then(|| self.phase.n_heads.load(Ordering::Acquire))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(next) = self.next_head() else { return read };
        if self.awaited == Some(next) && self.alarm.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the head of a request took too long",
            )));
        }
        ready!(read)?;
        if buf.filled().len() > before && self.awaited != Some(next) && !self.only_first {
            let at = Instant::now() + self.limit;
            self.alarm.as_mut().reset(at);
            self.awaited = Some(next);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_head_must_come_and_end_but_idling_is_free() {
        let (ours, mut theirs) = duplex(1000);
        let phase = Phase::new();
        let mut heads = Heads::new(ours, Arc::clone(&phase), LIMIT, false);
        let mut buffer = [0; 10];
        theirs.write_all(b"GET").await.unwrap();
        assert_eq!(heads.read(&mut buffer).await.unwrap(), 3);
        let open = phase.open();
        // The body has its own time.
        tokio::time::advance(LIMIT * 2).await;
        theirs.write_all(b"body").await.unwrap();
        assert_eq!(heads.read(&mut buffer).await.unwrap(), 4);
        drop(open);
        // So has the time between.
        assert!(tokio::time::timeout(LIMIT * 5, heads.read(&mut buffer)).await.is_err());
        assert!(phase.idle_for(Instant::now()) >= LIMIT * 5);
        theirs.write_all(b"G").await.unwrap();
        assert_eq!(heads.read(&mut buffer).await.unwrap(), 1);
        let began = Instant::now();
        let drip = tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(9)).await;
            }
        });
        let failed = loop {
            if let Err(e) = heads.read(&mut buffer).await {
                break e;
            }
        };
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < LIMIT * 2);
        drop(heads);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_head_must_come_soon() {
        let (ours, _theirs) = duplex(1000);
        let mut heads = Heads::new(ours, Phase::new(), LIMIT, true);
        assert_eq!(heads.read(&mut [0; 10]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_noticed() {
        let phase = Phase::new();
        let (slow, over) = (phase.pace(), phase.pace());
        over.wait();
        drop(over);
        slow.wait();
        slow.go_on();
        tokio::time::advance(LIMIT).await;
        assert!(!phase.is_stalled(Instant::now(), LIMIT));
        slow.wait();
        tokio::time::advance(LIMIT).await;
        assert!(phase.is_stalled(Instant::now(), LIMIT));
    }
}
