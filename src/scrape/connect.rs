//! A connection to one target: dialled directly, through a proxy or to a Unix socket, over TLS or not.
//!
//! A target has one connection, which its loop keeps between scrapes. Nothing polls it meanwhile, and it rests as a bare
//! stream: there is no task and no buffer per connection, and a server that hung up is noticed at the next scrape, which
//! then connects anew.
//! HTTP/1.1 is what we offer: one request at a time gains nothing by HTTP/2, which costs several times the memory and a
//! task. A TLS target that insists on HTTP/2 gets it, where the configuration allows that.
//!
//! Compat: Go `net/http`, `Transport`, for what is tried and what is said of failures.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::dials::{Dialed, Dials, Reason};
use super::fetch::Client;
use super::target::Url;
use crate::http_client::{self, Proxy, ProxyKind, TlsSource, plain};

/// Read at once; a body of 64 KiB takes four reads.
const READ_BYTES: usize = 16 << 10;

/// How long an address may keep silent before the next one of a name is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(300);

/// Compat: prometheus/common `config`, the transport's `TLSHandshakeTimeout`.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection of one target, open or not.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) open: Option<Open>,
    resting: Option<Resting>,
    /// The target has refused to speak anything else.
    wants_http2: bool,
}

pub(super) struct Open {
    speaker: Speaker,
    is_closed: bool,
    is_tls: bool,
    form: Form,
    /// Held for its end; sockets of this host are not counted.
    dialed: Option<Dialed>,
}

type Http1 = http1::Connection<TokioIo<Box<dyn Stream>>, Empty<Bytes>>;

enum Speaker {
    Http1 { sender: http1::SendRequest<Empty<Bytes>>, driver: Box<Http1> },
    Http2 { sender: http2::SendRequest<Empty<Bytes>>, driver: Pin<Box<dyn Future<Output = ()> + Send>> },
}

impl Speaker {
    /// Does the connection's part; ready when it has ended, however that was.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // How the connection ended is told by the request that it fails.
            Self::Http1 { driver, .. } => Pin::new(&mut **driver).poll(cx).map(drop),
            Self::Http2 { driver, .. } => driver.as_mut().poll(cx),
        }
    }
}

/// A connection between two scrapes: 24 KiB of buffers would be kept for nothing.
struct Resting {
    stream: Box<dyn Stream>,
    is_tls: bool,
    form: Form,
    dialed: Option<Dialed>,
}

/// How a request names what it wants.
#[derive(Clone)]
pub(super) enum Form {
    Path,
    /// The whole URL, for HTTP/2.
    Http2,
    /// The whole URL, for a proxy that wants to know who asks.
    Proxy(Option<HeaderValue>),
}

/// Where a target is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) url: &'a Url,
    /// Dialled instead of the URL's host.
    pub(super) socket: Option<&'a Path>,
}

impl Connection {
    /// Closes it; what is known of the target stays.
    pub(super) fn close(&mut self) {
        self.open = None;
        self.resting = None;
    }

    /// Closes it if somebody was still asking over it.
    pub(super) fn abandon(&mut self) {
        self.open = None;
    }

    /// Whether it is open and the server still holds its end.
    pub(super) async fn is_usable(&mut self) -> bool {
        if let Some(Resting { stream, is_tls, form, dialed }) = self.resting.take() {
            self.open = speak(stream, is_tls, form).await.ok().map(|open| Open { dialed, ..open });
        }
        self.open.as_mut().is_some_and(Open::is_usable)
    }

    /// Lets go of everything that is of use only while somebody asks. The last answer has been read to its end.
    pub(super) fn rest(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if !open.is_usable() {
            return;
        }
        let (is_tls, form, dialed) = (open.is_tls, open.form, open.dialed);
        match open.speaker {
            Speaker::Http1 { driver, .. } => {
                let parts = driver.into_parts();
                // Who sends more than was asked for is not asked again this way.
                if parts.read_buf.is_empty() {
                    self.resting = Some(Resting { stream: parts.io.into_inner(), is_tls, form, dialed });
                }
            }
            speaker @ Speaker::Http2 { .. } => {
                self.open = Some(Open { speaker, is_closed: false, is_tls, form, dialed });
            }
        }
    }

    /// Opens it anew.
    pub(super) async fn connect(&mut self, client: &Client, place: Place<'_>) -> Result<(), String> {
        self.close();
        let opened = connect(client, place, self.wants_http2).await;
        let opened = match opened {
            Err(Failure::WantsHttp2) if !self.wants_http2 && client.tls_http2.is_some() => {
                self.wants_http2 = true;
                connect(client, place, true).await
            }
            other => other,
        };
        self.open = Some(opened.map_err(Failure::text)?);
        Ok(())
    }

    /// Whether an answer that is no HTTP/1.1 may be HTTP/2 of a target that has not said so; then it is tried.
    pub(super) fn may_want_http2(&mut self, client: &Client, error: &hyper::Error) -> bool {
        let is_new = self.open.as_ref().is_some_and(|open| open.is_tls) && !self.wants_http2;
        let wants = is_new && error.is_parse() && client.tls_http2.is_some();
        self.wants_http2 |= wants;
        wants
    }
}

impl Open {
    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    pub(super) async fn send(
        &mut self,
        request: http::Request<Empty<Bytes>>,
    ) -> Result<http::Response<Incoming>, hyper::Error> {
        match &mut self.speaker {
            Speaker::Http1 { sender, .. } => {
                let sent = sender.send_request(request);
                self.drive(sent).await
            }
            Speaker::Http2 { sender, .. } => {
                let sent = sender.send_request(request);
                self.drive(sent).await
            }
        }
    }

    /// Waits for `work` while the connection does its part.
    pub(super) async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        let (speaker, is_closed) = (&mut self.speaker, &mut self.is_closed);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if !*is_closed && speaker.poll(cx).is_ready() {
                *is_closed = true;
            }
            // What the connection has just received is there for the taking.
            work.as_mut().poll(cx)
        })
        .await
    }

    fn is_usable(&mut self) -> bool {
        // Nobody waits for what happens later: it is looked for at the next use.
        let mut cx = Context::from_waker(Waker::noop());
        self.is_closed = self.is_closed || self.speaker.poll(&mut cx).is_ready();
        let is_ready = match &self.speaker {
            Speaker::Http1 { sender, .. } => sender.is_ready(),
            Speaker::Http2 { sender, .. } => sender.is_ready(),
        };
        !self.is_closed && is_ready
    }
}

enum Failure {
    WantsHttp2,
    Text(String),
}

impl Failure {
    fn text(self) -> String {
        match self {
            Self::WantsHttp2 => "remote error: tls: no application protocol".to_owned(),
            Self::Text(text) => text,
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(client: &Client, place: Place<'_>, http2: bool) -> Result<Open, Failure> {
    let (host, port) = place.url.host_and_port()?;
    let is_tls = place.url.is_tls();
    let tls = if http2 { client.tls_http2.as_ref() } else { None }.unwrap_or(&client.tls);
    if let Some(path) = place.socket {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|error| format!("dial unix {}: connect: {}", path.display(), plain(&error)))?;
        return finish(stream, tls, host, is_tls, Form::Path).await;
    }
    match client.proxies.of(is_tls, host, port) {
        None => {
            let (stream, dialed) = dial(host, port, &client.dials).await?;
            let opened = finish(stream, tls, host, is_tls, Form::Path).await?;
            Ok(Open { dialed: Some(dialed), ..opened })
        }
        Some(proxy) => {
            // Boxed, because few go this way.
            let (stream, dialed) = Box::pin(through(proxy, client, host, port, is_tls)).await?;
            let is_forwarded = !is_tls && proxy.kind != ProxyKind::Socks5;
            let form = if is_forwarded { Form::Proxy(proxy.authorization().cloned()) } else { Form::Path };
            let opened = finish(stream, tls, host, is_tls, form).await?;
            Ok(Open { dialed: Some(dialed), ..opened })
        }
    }
}

/// A connection to the proxy or, where it opens one, beyond it.
async fn through(
    proxy: &Arc<Proxy>,
    client: &Client,
    host: &str,
    port: u16,
    is_tls: bool,
) -> Result<(Box<dyn Stream>, Dialed), Failure> {
    let dialed = dial(&proxy.host, proxy.port, &client.dials).await;
    let (stream, dialed) = dialed.map_err(|error| format!("proxyconnect tcp: {error}"))?;
    let mut stream: Box<dyn Stream> = if proxy.kind == ProxyKind::Https {
        Box::new(secure(stream, &client.tls, &proxy.host).await?)
    } else {
        Box::new(stream)
    };
    if is_tls || proxy.kind == ProxyKind::Socks5 {
        proxy.open(&mut stream, host, port).await?;
    }
    Ok((stream, dialed))
}

/// Connects to one of the addresses of `host`, and counts it.
async fn dial(host: &str, port: u16, dials: &Arc<Dials>) -> Result<(TcpStream, Dialed), String> {
    let attempt = dials.attempt();
    match open(host, port).await {
        Ok(stream) => Ok((stream, attempt.succeeded())),
        Err((reason, text)) => {
            attempt.failed(reason);
            Err(text)
        }
    }
}

/// Why there is no connection, for the counts and for people.
type Unreached = (Reason, String);

async fn open(host: &str, port: u16) -> Result<TcpStream, Unreached> {
    let unknown = || (Reason::Resolution, format!("dial tcp: lookup {host}: no such host"));
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
        let text = plain(&error);
        let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
        let text = if text == "Name or service not known" { "no such host" } else { text };
        (Reason::Resolution, format!("dial tcp: lookup {host}: {text}"))
    })?;
    let addresses: Vec<SocketAddr> = found.collect();
    let stream = match addresses[..] {
        [] => return Err(unknown()),
        [address] => attempt(address).await,
        _ => race(&addresses).await,
    }?;
    // Requests are one small write: waiting for more would only delay them.
    let set = stream.set_nodelay(true);
    set.map_err(|error| (Reason::of(&error), format!("dial tcp {host}:{port}: {}", plain(&error))))?;
    Ok(stream)
}

async fn attempt(address: SocketAddr) -> Result<TcpStream, Unreached> {
    let connected = TcpStream::connect(address).await;
    connected.map_err(|error| (Reason::of(&error), format!("dial tcp {address}: connect: {}", plain(&error))))
}

/// Tries one address after the other, the next also beside those that keep silent; the first that answers wins.
async fn race(addresses: &[SocketAddr]) -> Result<TcpStream, Unreached> {
    let mut waiting = addresses.iter();
    let mut running = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        if let Some(&address) = waiting.next() {
            running.push(attempt(address));
        }
        let is_last = waiting.len() == 0;
        let outcome = tokio::select! {
            outcome = running.next() => outcome,
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if !is_last => continue,
        };
        match outcome {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => drop(first_error.get_or_insert(error)),
            None => {}
        }
        if running.is_empty() && waiting.len() == 0 {
            return Err(first_error.unwrap_or_else(|| (Reason::Unknown, "dial tcp: no address".to_owned())));
        }
    }
}

async fn secure<S: Stream>(
    stream: S,
    tls: &TlsSource,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<S>, Failure> {
    let config = tls.current().map_err(|error| error.to_string())?;
    let name = tls.server_name().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name.clone()).map_err(|_| format!("invalid server name {name:?}"))?;
    let connected = TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(TLS_TIMEOUT, connected).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if http_client::refuses_protocols(&error) => Err(Failure::WantsHttp2),
        Ok(Err(error)) => Err(http_client::explain(&error).into()),
        Err(_) => Err("net/http: TLS handshake timeout".to_owned().into()),
    }
}

/// Makes TLS and HTTP of a connection.
async fn finish<S: Stream + 'static>(
    stream: S,
    tls: &TlsSource,
    host: &str,
    is_tls: bool,
    form: Form,
) -> Result<Open, Failure> {
    if !is_tls {
        return speak(Box::new(stream), false, form).await;
    }
    let stream = secure(stream, tls, host).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return speak_http2(stream).await;
    }
    speak(Box::new(stream), true, form).await
}

async fn speak(stream: Box<dyn Stream>, is_tls: bool, form: Form) -> Result<Open, Failure> {
    let (sender, driver) = http1::Builder::new()
        .read_buf_exact_size(Some(READ_BYTES))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| explain(&error))?;
    let speaker = Speaker::Http1 { sender, driver: Box::new(driver) };
    Ok(Open { speaker, is_closed: false, is_tls, form, dialed: None })
}

async fn speak_http2(stream: impl Stream + 'static) -> Result<Open, Failure> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| explain(&error))?;
    let driver = Box::pin(async move { drop(connection.await) });
    let speaker = Speaker::Http2 { sender, driver };
    Ok(Open { speaker, is_closed: false, is_tls: true, form: Form::Http2, dialed: None })
}

/// The error in the words that upstream's users know.
pub(super) fn explain(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "unexpected EOF".to_owned();
    }
    match std::error::Error::source(error) {
        None => error.to_string(),
        Some(source) => match source.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            Some(io) => http_client::explain(io),
            None => format!("{error}: {source}"),
        },
    }
}

/// Whether a server that hung up between two requests explains the error.
pub(super) fn is_hangup(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || std::error::Error::source(error).is_some_and(|source| {
            match source.downcast_ref::<std::io::Error>() {
                Some(error) => matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset),
                // What HTTP/2 says of a connection that is going away.
                None => !error.is_parse() && !error.is_user() && !error.is_timeout(),
            }
        })
}
