//! Bytes are counted, not time: what a slow or vanished reader may cost.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::HttpBody;

use super::*;

/// Lines of text, `left` of them; tells how many bytes it has written and when it is given up.
struct Lines {
    left: usize,
    written: Arc<AtomicUsize>,
    given_up: Option<tokio::sync::oneshot::Sender<()>>,
}

fn line(n: usize) -> String {
    format!("line {n} {}\n", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl Lines {
    fn new(left: usize) -> (Self, Arc<AtomicUsize>, tokio::sync::oneshot::Receiver<()>) {
        let (given_up, hears) = tokio::sync::oneshot::channel();
        let written = Arc::new(AtomicUsize::new(0));
        (Self { left, written: Arc::clone(&written), given_up: Some(given_up) }, written, hears)
    }

    fn all(mut left: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while left > 0 {
            text.extend(line(left).bytes());
            left -= 1;
        }
        text
    }
}

impl Source for Lines {
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        let before = out.len();
        while out.len() < until && self.left > 0 {
            out.extend(line(self.left).bytes());
            self.left -= 1;
        }
        self.written.fetch_add(out.len() - before, Ordering::SeqCst);
        self.left > 0
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.given_up.take().unwrap().send(());
    }
}

fn turns(n: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(n))
}

async fn next(body: &mut Body) -> Option<Bytes> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))
        .await
        .map(|frame| frame.unwrap().into_data().unwrap())
}

async fn decoded(response: Response) -> Vec<u8> {
    let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let mut text = Vec::new();
    match encoding.as_ref().map(HeaderValue::as_bytes) {
        Some(b"gzip") => flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut text).map(drop).unwrap(),
        Some(b"deflate") => flate2::read::ZlibDecoder::new(&*bytes).read_to_end(&mut text).map(drop).unwrap(),
        _ => text.extend_from_slice(&bytes),
    }
    text
}

#[tokio::test]
async fn answers_of_every_size_arrive_as_they_were_written() {
    for n in [0, 1, 10, 2_000, 2_500, 10_000, 60_000] {
        let text = Lines::all(n);
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate] {
            let response = json(Lines::new(n).0, encoding, &turns(1));
            assert_eq!(response.headers().get(header::CONTENT_ENCODING).cloned(), encoding.name());
            let exact = response.body().size_hint().exact();
            assert!(decoded(response).await == text, "{n} lines, {encoding:?}");
            if encoding == Encoding::Identity {
                let is_small = text.len() < PIECE_BYTES;
                assert_eq!(exact, is_small.then_some(text.len() as u64), "{n} lines");
            } else if text.len() < PIECE_BYTES {
                assert!(exact.is_some());
            }
            let whole = Response::new(Body::from(text.clone()));
            let response = encoded(whole, encoding, &turns(1)).await;
            assert!(decoded(response).await == text, "{n} lines, {encoding:?}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_stops_costs_a_few_pieces_and_no_turn() {
    let turns = turns(1);
    let (lines, written, mut given_up) = Lines::new(5_000_000);
    let mut stopped = json(lines, Encoding::Identity, &turns).into_body();
    assert!(written.load(Ordering::SeqCst) < PIECE_BYTES + SLACK_BYTES, "one piece is made at once");
    for _ in 0..6 {
        next(&mut stopped).await.unwrap();
    }
    // Another answer of many pieces passes by, with the only turn there is.
    let other = json(Lines::new(60_000).0, Encoding::Gzip, &turns);
    assert!(decoded(other).await == Lines::all(60_000));
    // Six pieces were read, and at most those of two rounds are beyond them.
    let most = (6 + 2 * PIECES_MAX) * (PIECE_BYTES + SLACK_BYTES);
    assert!(written.load(Ordering::SeqCst) < most, "{} bytes", written.load(Ordering::SeqCst));
    assert!(given_up.try_recv().is_err(), "it may still go on");
    drop(stopped);
    given_up.await.unwrap();
    let _turn = turns.acquire().await.unwrap();
    assert!(written.load(Ordering::SeqCst) < most, "nobody writes for those who are gone");
}

#[tokio::test]
async fn a_turn_never_goes_to_an_answer_that_nobody_polls() {
    let turns = turns(1);
    let mut stopped = json(Lines::new(1_000_000).0, Encoding::Identity, &turns).into_body();
    let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
    // Its first piece is there already; that asks for the next, and is never polled again.
    next(&mut stopped).await.unwrap();
    tokio::task::yield_now().await;
    drop(turn);
    let other = json(Lines::new(60_000).0, Encoding::Identity, &turns);
    let waited = tokio::time::timeout(std::time::Duration::from_mins(1), decoded(other)).await;
    assert!(waited.expect("the turn comes back") == Lines::all(60_000));
    drop(stopped);
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    struct Broken(usize);
    impl Source for Broken {
        fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
            assert!(self.0 > 0, "broken on purpose");
            self.0 -= 1;
            out.resize(until, b'x');
            true
        }
    }
    let turns = turns(1);
    let body = json(Broken(3), Encoding::Identity, &turns).into_body();
    assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
    assert_eq!(turns.available_permits(), 1);
}

#[tokio::test]
async fn what_is_encoded_or_empty_stays_as_it_is() {
    let mut response = Response::new(Body::from("abc"));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    let response = encoded(response, Encoding::Gzip, &turns(1)).await;
    assert_eq!(response.headers()[header::CONTENT_ENCODING], "br");
    assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
    let response = encoded(StatusCode::NO_CONTENT.into_response(), Encoding::Gzip, &turns(1)).await;
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    assert!(decoded(response).await.is_empty());
}
