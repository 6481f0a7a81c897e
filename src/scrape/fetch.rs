//! One scrape over HTTP: request out, compressed or plain body in. The last `await` of a sample's walk.
//!
//! Each target has one HTTP/1.1 connection that its loop keeps between scrapes. Nothing polls it meanwhile:
//! there is no task per connection, and a server that hung up is noticed at the next scrape, which then
//! connects anew. Body frames are copied at once into a buffer of the shared pool.
//! HTTP/2 is not offered, also where the configuration allows it: one request at a time gains nothing by it.
//!
//! Compat: prometheus `scrape/scrape.go`, `targetScraper.scrape` and `readResponse`.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use config::prometheus::ScrapeConfig;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::body::{BODY_BYTES_MAX, Buffers, Error};
use super::negotiate::accept;
use super::target::Url;
use crate::http_client::{self, Headers, REDIRECTS_MAX, TlsSource, plain};

/// Read at once and kept per connection, so it is small; a body of 64 KiB takes four reads.
const READ_BYTES: usize = 16 << 10;

/// How a job talks to its targets.
pub(super) struct Client {
    fixed: HeaderMap,
    headers: Headers,
    tls: TlsSource,
    follow_redirects: bool,
    /// A body must stay below it.
    pub(super) body_limit: usize,
}

impl Client {
    pub(super) fn new(config: &ScrapeConfig) -> Result<Self, http_client::Error> {
        let headers = Headers::new(&config.http)?;
        let tls = TlsSource::new(config.http.tls.clone(), &[b"http/1.1"]);
        // What cannot be read now is told now.
        tls.current()?;
        let mut fixed = HeaderMap::new();
        let accept = HeaderValue::from_str(&accept(&config.scrape_protocols))
            .expect("media types are plain characters");
        fixed.insert(ACCEPT, accept);
        let encoding = if config.enable_compression { "gzip" } else { "identity" };
        fixed.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        fixed.insert(http::header::USER_AGENT, HeaderValue::from_static(http_client::USER_AGENT));
        let body_limit = match usize::try_from(config.limits.body_size_bytes) {
            Ok(limit @ 1..BODY_BYTES_MAX) => limit,
            _ => BODY_BYTES_MAX,
        };
        Ok(Self { fixed, headers, tls, follow_redirects: config.http.follow_redirects, body_limit })
    }
}

/// What is known of a body besides its bytes.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) content_type: Option<String>,
    pub(super) is_gzip: bool,
}

/// The connection of one target, open or not.
#[derive(Default)]
pub(super) struct Connection(Option<Open>);

struct Open {
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_closed: bool,
}

impl Open {
    /// Waits for `work` while the connection does its part.
    async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        let (driver, is_closed) = (&mut self.driver, &mut self.is_closed);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if !*is_closed && driver.as_mut().poll(cx).is_ready() {
                *is_closed = true;
            }
            // What the connection has just received is there for the taking.
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Whether the server still holds its end.
    async fn is_usable(&mut self) -> bool {
        let is_closed = &mut self.is_closed;
        let driver = &mut self.driver;
        std::future::poll_fn(|cx| {
            if !*is_closed && driver.as_mut().poll(cx).is_ready() {
                *is_closed = true;
            }
            Poll::Ready(())
        })
        .await;
        !self.is_closed && self.sender.is_ready()
    }
}

/// Where a fetch stood when its time was up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
}

/// Fetches the body of `url` into `body`, which is taken from `buffers` when the first byte arrives.
///
/// `timeout` covers connecting, headers and body. After an error the connection is closed.
pub(super) async fn fetch(
    client: &Client,
    url: &Url,
    timeout: Duration,
    connection: &mut Connection,
    buffers: &Buffers,
    body: &mut Vec<u8>,
) -> Result<Head, Error> {
    let mut stage = Stage::Head;
    let walk = follow(client, url, timeout, connection, buffers, body, &mut stage);
    let result = tokio::time::timeout(timeout, walk).await;
    let result = match result {
        Ok(result) => result,
        Err(_) if stage == Stage::Head => {
            Err(Error::Other(format!("Get {:?}: context deadline exceeded", url.text())))
        }
        Err(_) => Err(Error::Other("context deadline exceeded".to_owned())),
    };
    if result.is_err() {
        connection.0 = None;
    }
    result
}

/// Fetches and follows redirects.
async fn follow(
    client: &Client,
    url: &Url,
    timeout: Duration,
    connection: &mut Connection,
    buffers: &Buffers,
    body: &mut Vec<u8>,
    stage: &mut Stage,
) -> Result<Head, Error> {
    let first = attempt(client, url, timeout, true, connection).await?;
    let Some(mut next) = redirect(client, &first, url)? else {
        return finish(client, first, connection, buffers, body, stage).await;
    };
    // The body of a redirect is not read, so its connection is of no more use. The chain has one of its own,
    // and once it has left the target's host, no credentials travel on.
    connection.0 = None;
    drop(first);
    let home = url::Url::parse(url.text()).map_err(|error| Error::Other(error.to_string()))?;
    let mut is_home = true;
    for _ in 1..REDIRECTS_MAX {
        is_home &= http_client::is_home(&home, &next);
        let url = Url::from_absolute(&next);
        let mut hop = Connection::default();
        let response = attempt(client, &url, timeout, is_home, &mut hop).await?;
        match redirect(client, &response, &url)? {
            None => return finish(client, response, &mut hop, buffers, body, stage).await,
            Some(further) => next = further,
        }
    }
    Err(Error::Other(format!("Get {:?}: stopped after {REDIRECTS_MAX} redirects", next.as_str())))
}

/// Where a response sends us, if it does and we may follow.
fn redirect(
    client: &Client,
    response: &http::Response<Incoming>,
    from: &Url,
) -> Result<Option<url::Url>, Error> {
    if !client.follow_redirects || !response.status().is_redirection() {
        return Ok(None);
    }
    let fail = |what: String| Error::Other(format!("Get {:?}: {what}", from.text()));
    let base = url::Url::parse(from.text()).map_err(|error| fail(error.to_string()))?;
    http_client::location(response.status(), response.headers(), &base).map_err(fail)
}

/// Sends one request and waits for the head of its answer.
async fn attempt(
    client: &Client,
    url: &Url,
    timeout: Duration,
    trusted: bool,
    connection: &mut Connection,
) -> Result<http::Response<Incoming>, Error> {
    let fail = |what: String| Error::Other(format!("Get {:?}: {what}", url.text()));
    let mut is_reused = match &mut connection.0 {
        Some(open) => open.is_usable().await,
        None => false,
    };
    loop {
        if !is_reused {
            connection.0 = Some(connect(client, url).await.map_err(fail)?);
        }
        let open = connection.0.as_mut().expect("the connection was just opened");
        let request = request(client, url, timeout, trusted).await.map_err(fail)?;
        let sent = open.sender.send_request(request);
        match open.drive(sent).await {
            Ok(response) => return Ok(response),
            // The server hung up while we were about to ask: ask once more over a new connection.
            Err(error)
                if is_reused
                    && (error.is_incomplete_message() || error.is_canceled() || is_reset(&error)) =>
            {
                is_reused = false;
            }
            Err(error) => return Err(fail(explain(&error))),
        }
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset))
}

async fn request(
    client: &Client,
    url: &Url,
    timeout: Duration,
    is_home: bool,
) -> Result<http::Request<Empty<Bytes>>, String> {
    let mut request = http::Request::new(Empty::new());
    *request.uri_mut() =
        Uri::try_from(url.path_and_query()).map_err(|error| format!("invalid path or query: {error}"))?;
    let headers = request.headers_mut();
    headers.clone_from(&client.fixed);
    let host = HeaderValue::from_str(url.authority()).map_err(|_| "invalid host".to_owned())?;
    headers.insert(HOST, host);
    let seconds = HeaderValue::from_str(&timeout.as_secs_f64().to_string())
        .expect("digits and a point go into a header");
    headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
    client.headers.add_to(headers, is_home).await.map_err(|error| error.to_string())?;
    Ok(request)
}

async fn connect(client: &Client, url: &Url) -> Result<Open, String> {
    let (host, port) = url.host_and_port()?;
    let fail = |what: &str, error: &std::io::Error| {
        format!("dial tcp {}: {what}: {}", dialled(host, port), plain(error))
    };
    let stream = TcpStream::connect((host, port)).await.map_err(|error| {
        // A name that cannot be resolved fails without a code of the system.
        fail(if error.raw_os_error().is_some() { "connect" } else { "lookup" }, &error)
    })?;
    // Requests are one small write: waiting for more would only delay them.
    stream.set_nodelay(true).map_err(|error| fail("set option", &error))?;
    if !url.is_tls() {
        return handshake(stream).await;
    }
    let config = client.tls.current().map_err(|error| error.to_string())?;
    let name = client.tls.server_name().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name.clone()).map_err(|_| format!("invalid server name {name:?}"))?;
    let stream = TlsConnector::from(Arc::clone(&config))
        .connect(name, stream)
        .await
        .map_err(|error| format!("tls: {error}"))?;
    handshake(stream).await
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Open, String> {
    let (sender, connection) = http1::Builder::new()
        .read_buf_exact_size(Some(READ_BYTES))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| explain(&error))?;
    // How the connection ended is told by the request that it fails.
    let driver = Box::pin(async move { drop(connection.await) });
    Ok(Open { sender, driver, is_closed: false })
}

/// Checks the status and reads the body to its end.
async fn finish(
    client: &Client,
    response: http::Response<Incoming>,
    connection: &mut Connection,
    buffers: &Buffers,
    body: &mut Vec<u8>,
    stage: &mut Stage,
) -> Result<Head, Error> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(Error::Other(format!("server returned HTTP status {}", status_text(status))));
    }
    let header = |name| response.headers().get(name).map(|value: &HeaderValue| value.as_bytes());
    let head = Head {
        content_type: header(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value).into_owned()),
        is_gzip: header(http::header::CONTENT_ENCODING) == Some(b"gzip"),
    };
    *stage = Stage::Body;
    let mut incoming = response.into_body();
    let promised = incoming.size_hint().exact().and_then(|n| usize::try_from(n).ok());
    if !head.is_gzip && promised.is_some_and(|n| n >= client.body_limit) {
        return Err(Error::TooLarge);
    }
    let open = connection.0.as_mut().expect("a response has come over it");
    while let Some(frame) = open.drive(incoming.frame()).await {
        let frame = frame.map_err(|error| Error::Other(explain(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if body.capacity() == 0 {
            *body = buffers.take();
            // Exactly, since the buffer goes to the next body.
            body.reserve(promised.unwrap_or_default().min(client.body_limit));
        }
        if body.len() + data.len() >= client.body_limit {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&data);
    }
    Ok(head)
}

fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn dialled(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The error in the words that upstream's users know.
fn explain(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "unexpected EOF".to_owned();
    }
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        Some(source) => plain(source),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
