//! The targets of one server: one listener, a path per case, and a body by how often that path was asked for.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::case::Case;
use crate::process::RUNTIME;

/// One target: its answers as they go over the wire, and what it has seen.
struct Place {
    answers: Vec<Vec<u8>>,
    served: AtomicUsize,
    /// What the server said of itself with its first request.
    asked: Mutex<String>,
}

/// Serves until it is dropped.
pub(super) struct Targets {
    pub(super) address: String,
    places: Arc<Vec<Place>>,
    task: JoinHandle<()>,
}

impl Targets {
    pub(super) fn start(cases: &[Case]) -> Self {
        let places = cases.iter().map(|case| Place {
            answers: case.answers.iter().map(wire).collect(),
            served: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let places: Arc<Vec<_>> = Arc::new(places.collect());
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::clone(&places);
        let task = RUNTIME.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let places = Arc::clone(&shared);
                tokio::spawn(async move {
                    // Who hangs up has its reasons.
                    let _ = serve(stream, &places).await;
                });
            }
        });
        Self { address, places, task }
    }

    /// How many scrapes of a case have begun.
    pub(super) fn served(&self, place: usize) -> usize {
        self.places[place].served.load(Ordering::Acquire)
    }

    pub(super) fn asked(&self, place: usize) -> String {
        self.places[place].asked.lock().clone()
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn wire(answer: &super::case::Answer) -> Vec<u8> {
    let (body, encoding) = answer.encoded();
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", answer.status, body.len());
    if let Some(kind) = &answer.content_type {
        write!(head, "Content-Type: {kind}\r\n").unwrap();
    }
    if let Some(encoding) = encoding {
        write!(head, "Content-Encoding: {encoding}\r\n").unwrap();
    }
    head.push_str("\r\n");
    let mut wire = head.into_bytes();
    if answer.status != 204 {
        wire.extend(body);
    }
    wire
}

async fn serve(mut stream: TcpStream, places: &[Place]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&request);
        let url = text.split(' ').nth(1).unwrap_or_default();
        let number = url.trim_start_matches("/c").split('?').next().unwrap_or_default();
        let Some(place) = number.parse().ok().and_then(|i: usize| places.get(i)) else { return Ok(()) };
        let n = place.served.fetch_add(1, Ordering::AcqRel);
        if n == 0 {
            *place.asked.lock() = asked(url, &text);
        }
        let last = place.answers.len() - 1;
        stream.write_all(&place.answers[n.min(last)]).await?;
    }
}

/// What of a request has to be the same.
fn asked(url: &str, request: &str) -> String {
    let header = |wanted: &str| {
        let values = request.lines().filter_map(|line| line.split_once(": "));
        values
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let shown = ["Accept", "Accept-Encoding", "X-Prometheus-Scrape-Timeout-Seconds"]
        .map(|name| format!("{name} {:?}", header(name)));
    format!("{url} {}", shown.join(" "))
}
