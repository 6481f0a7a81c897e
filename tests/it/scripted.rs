//! HTTP servers that say what a test tells them to: well-behaved targets, ill-behaved ones, receivers of alerts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

/// What somebody asked.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// A server with a script, until it is dropped.
pub(crate) struct Scripted {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

impl Scripted {
    /// Lets `script` answer every request into the connection itself; an error ends the connection.
    pub(crate) fn raw(
        script: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (script, stopped) = (Arc::new(script), Arc::clone(&is_stopped));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (script, stopped) = (Arc::clone(&script), Arc::clone(&stopped));
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(request) = read(&mut reader) {
                        let is_over = stopped.load(Ordering::Acquire);
                        if is_over || script(&request, reader.get_mut()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, is_stopped }
    }

    /// Answers every scrape with the exposition that `text` returns.
    pub(crate) fn target(text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::raw(move |_, stream| answer(stream, 200, "text/plain; version=0.0.4", &text()))
    }

    /// The same as OpenMetrics, which `text` ends with its mark.
    pub(crate) fn openmetrics(text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Self::raw(move |_, stream| answer(stream, 200, kind, &text()))
    }

    /// Takes what is posted as JSON and hands it to the test with its path.
    pub(crate) fn receiver() -> (Self, mpsc::Receiver<(String, Value)>) {
        let (send, received) = mpsc::channel();
        let server = Self::raw(move |request, stream| {
            let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            // Nobody listens any more at the end of a test.
            let _ = send.send((request.path.clone(), body));
            answer(stream, 200, "application/json", "{}")
        });
        (server, received)
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // Wakes the listener up, so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, body })
}

/// Writes a whole response of known length.
pub(crate) fn answer(stream: &mut TcpStream, status: u16, kind: &str, body: &str) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes())
}
