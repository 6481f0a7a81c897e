//! Connections: accepting, limiting and draining them, with TLS where it is configured. What they ask is the router's
//! matter.
//!
//! The caller owns the listeners and the stop signal, so tests bind port 0 and every stop is graceful. A connection costs at
//! most: a turn among all of them, so long to shake hands and to send a head ([`heads`]), so long for a body and so long
//! without taking anything of an answer ([`bodies`], and `stall` below TLS).
//!
//! Compat: prometheus `web/web.go`, `Handler.Run`, and `util/netconnlimit`; prometheus/exporter-toolkit `Serve`.

mod bodies;
mod heads;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::wire::expose::{Expose, Exposition, Kind};
use parking_lot::Mutex;
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::security::{self, Security};
use crate::stall::Patient;
use bodies::{Answer, Question};
use heads::{Heads, Phase};

/// How long open requests may go on once the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A client that has not taken a byte for so long does not come back, whatever it may take for its requests.
const STALL_MAX: Duration = Duration::from_mins(1);

/// Nobody needs longer for a handshake, or for a head once it has begun; upstream lets such hold a connection for all of the
/// read timeout.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// The longest head: the longest URL that there is here has 64 KiB.
const HEAD_BYTES_MAX: u32 = 256 << 10;

/// Requests at a time on one connection of HTTP/2, as Go's servers allow.
const STREAMS_MAX: u32 = 250;

/// How often a connection of HTTP/2 is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a client may be silent before it is asked whether it is there, how long it has for that, and how often it is
/// asked. Longer in all than an answer may lie unread.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 9;

/// As good as no timeout.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// The other end of the connection on which a request came.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections beyond this number wait, over all listeners together.
    pub connections_max: usize,
    /// The longest a client may take for a request, and a connection may idle; zero for no limit. A minute of it at most may
    /// pass without a byte of an answer being taken.
    pub read_timeout: Duration,
}

/// All listeners together.
pub struct Server {
    permits: Arc<Semaphore>,
    read_timeout: Duration,
    stall_max: Duration,
    head_max: Duration,
    security: Option<Security>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    counts: Arc<Counts>,
    complaints: Sparingly,
}

/// How many connections came and went.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: AtomicU64,
    closed: AtomicU64,
}

impl Expose for Counts {
    /// Compat: mwitkow/go-conntrack, `NewListener`.
    fn expose(&self, out: &mut Exposition) {
        for (name, help, n) in [
            (
                "net_conntrack_listener_conn_accepted_total",
                "Total number of connections opened to the listener of a given name.",
                &self.accepted,
            ),
            (
                "net_conntrack_listener_conn_closed_total",
                "Total number of connections closed that were made to the listener of a given name.",
                &self.closed,
            ),
        ] {
            out.family(name, help, Kind::Counter);
            out.sample(name, &[("listener_name", "http")], n.load(Ordering::Relaxed) as f64);
        }
    }
}

impl Server {
    /// A server for any number of listeners; without `security` it speaks plain HTTP with everybody.
    pub fn new(limits: Limits, security: Option<Security>) -> Arc<Self> {
        let read_timeout = if limits.read_timeout.is_zero() { NEVER } else { limits.read_timeout };
        let stall_max = read_timeout.min(STALL_MAX);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(read_timeout)
            .max_header_size(HEAD_BYTES_MAX as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(STALL_MAX)
            .keep_alive_timeout(HEAD_MAX);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS))),
            read_timeout,
            stall_max,
            head_max: read_timeout.min(HEAD_MAX),
            security,
            http1,
            http2,
            counts: Arc::default(),
            complaints: Sparingly::default(),
        })
    }

    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Serves `router` on `listener` until `shutdown` ends, then waits for open requests.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        router: Router,
        shutdown: impl Future<Output = ()>,
    ) {
        // Both say something by being dropped: that connections shall end, and that they have.
        let (stop, stopping) = watch::channel(());
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = self.accept(&listener) => accepted,
            };
            let Some((stream, peer, permit)) = accepted else { continue };
            let (server, router) = (Arc::clone(&self), router.clone());
            let (stopping, alive) = (stopping.clone(), alive.clone());
            server.counts.accepted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let connection = Connection { server: Arc::clone(&server), peer, router };
                connection.serve(stream, stopping).await;
                server.counts.closed.fetch_add(1, Ordering::Relaxed);
                drop((permit, alive));
            });
        }
        drop((listener, stop, alive));
        if timeout(DRAIN_MAX, all_gone.recv()).await.is_err() {
            tracing::warn!("some requests did not end in time and were cut off");
        }
    }

    /// The next connection, once it may be served: a listener that nobody connects to takes no turn.
    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small answers must not wait for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                if let Err(e) = keep_alive(&stream) {
                    tracing::debug!(error = %e, "looking after a quiet connection is not possible");
                }
                let permits = Arc::clone(&self.permits);
                let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
                Some((stream, peer, permit))
            }
            Err(e) => {
                // Out of descriptors, for one: waiting is all that helps.
                tracing::warn!(error = %e, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

/// Lets the kernel ask after a client that is silent, and give up one that is gone without a word: a laptop that was closed, say.
/// Neither a request that takes long nor a subscription would find out by itself.
///
/// Compat: Go `net`, `ListenConfig.KeepAlive`.
fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PROBE_INTERVAL).with_interval(PROBE_INTERVAL);
    socket.set_tcp_keepalive(&probes.with_retries(PROBES))?;
    // While something sent is on its way nobody is asked after, and sending again goes on for a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(PROBE_INTERVAL * (1 + PROBES)))?;
    Ok(())
}

/// One connection.
#[derive(Clone)]
struct Connection {
    server: Arc<Server>,
    peer: SocketAddr,
    router: Router,
}

impl Connection {
    /// Serves until the other side goes, or `stopping` is closed and nothing is open.
    async fn serve(self, stream: TcpStream, mut stopping: watch::Receiver<()>) {
        let server = Arc::clone(&self.server);
        let ended = match server.security.as_ref().and_then(Security::tls) {
            None => self.http1(Patient::new(stream, server.stall_max), stopping).await,
            Some(tls) => {
                let shaken = tokio::select! {
                    _ = stopping.changed() => return,
                    shaken = timeout(server.head_max, self.shake(tls, stream)) => shaken,
                };
                match shaken.unwrap_or_else(|_| Err("i/o timeout".to_owned())) {
                    Ok(Some(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                        self.http2(stream, stopping).await
                    }
                    Ok(Some(stream)) => self.http1(stream, stopping).await,
                    Ok(None) => return,
                    Err(e) => {
                        let text = format!("http: TLS handshake error from {}: {e}", self.peer);
                        if server.complaints.may_speak() {
                            tracing::warn!("{text}");
                        } else {
                            tracing::debug!("{text}");
                        }
                        return;
                    }
                }
            }
        };
        if let Err(e) = ended {
            tracing::debug!(error = %e, "connection ended early");
        }
    }

    /// Shakes hands; `None` for a client that speaks plain HTTP and has been told.
    async fn shake(
        &self,
        tls: &security::Tls,
        mut stream: TcpStream,
    ) -> Result<Option<tokio_rustls::server::TlsStream<Patient<TcpStream>>>, String> {
        let mut first = [0];
        if stream.peek(&mut first).await.is_ok_and(|n| n == 1) && b"GHPOD".contains(&first[0]) {
            tell_of_tls(&mut stream).await;
            return Ok(None);
        }
        let acceptor = TlsAcceptor::from(tls.current()?);
        let shaken = acceptor.accept(Patient::new(stream, self.server.stall_max)).await;
        shaken.map(Some).map_err(|e| security::explain(&e))
    }

    async fn http1(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut stopping: watch::Receiver<()>,
    ) -> Result<(), hyper::Error> {
        let (phase, server) = (Phase::new(), Arc::clone(&self.server));
        let io = TokioIo::new(Heads::new(stream, Arc::clone(&phase), server.head_max, false));
        let service = Answers { connection: self, phase: Arc::clone(&phase), is_shared: false };
        let connection = server.http1.serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    async fn http2(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut stopping: watch::Receiver<()>,
    ) -> Result<(), hyper::Error> {
        let (phase, server) = (Phase::new(), Arc::clone(&self.server));
        let io = TokioIo::new(Heads::new(stream, Arc::clone(&phase), server.head_max, true));
        let service = Answers { connection: self, phase: Arc::clone(&phase), is_shared: true };
        let connection = server.http2.serve_connection(io, service);
        tokio::pin!(connection);
        let mut looks = tokio::time::interval(LOOK_INTERVAL.min(server.read_timeout));
        let mut ending_since = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                _ = stopping.changed(), if ending_since.is_none() => {
                    ending_since = Some(Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
                now = looks.tick() => {
                    if phase.is_stalled(now, server.stall_max) {
                        tracing::debug!("an answer was not taken in time");
                        return Ok(());
                    }
                    // What was handed over may wait for ever for a client that grants a byte at a time.
                    if ending_since.is_some_and(|since| now.saturating_duration_since(since) >= server.stall_max) {
                        tracing::debug!("a connection did not end in time");
                        return Ok(());
                    }
                    if phase.idle_for(now) >= server.read_timeout && ending_since.is_none() {
                        ending_since = Some(now);
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }
}

/// What a connection's requests are answered by.
struct Answers {
    connection: Connection,
    phase: Arc<Phase>,
    /// Others are on the same connection at the same time.
    is_shared: bool,
}

impl hyper::service::Service<http::Request<Incoming>> for Answers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let open = self.phase.open();
        let pace = self.is_shared.then(|| self.phase.pace());
        let connection = self.connection.clone();
        Box::pin(async move {
            let response = connection.answer(request).await;
            Ok(response.map(|body| Body::new(Answer::new(body, open, pace))))
        })
    }
}

impl Connection {
    /// Answers one request, if it is let in.
    async fn answer(self, request: http::Request<Incoming>) -> http::Response<Body> {
        let (mut parts, body) = request.into_parts();
        let settings = match &self.server.security {
            None => None,
            Some(security) => match security.admit(&parts.headers).await {
                Ok(settings) => Some(settings),
                Err(refusal) => return *refusal,
            },
        };
        parts.extensions.insert(Peer(self.peer));
        let body = Body::new(Question::new(body, self.server.read_timeout, self.server.stall_max));
        let request = http::Request::from_parts(parts, body);
        let Ok(mut response) = TowerToHyperService::new(self.router).call(request).await;
        if let Some(settings) = settings {
            security::add_headers(&settings, response.headers_mut());
        }
        response
    }
}

/// Tells a client that it should speak TLS.
///
/// Compat: Go `net/http`, `conn.serve`.
async fn tell_of_tls(stream: &mut TcpStream) {
    const TEXT: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    if stream.write_all(TEXT).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    // What is closed with something unread is reset, and the text is lost.
    let mut unread = [0; 4096];
    let drain = async { while stream.read(&mut unread).await.is_ok_and(|n| n > 0) {} };
    let _ = timeout(Duration::from_secs(1), drain).await;
}

/// Once a second: strangers must not fill the log.
#[derive(Default)]
pub(crate) struct Sparingly(Mutex<Option<Instant>>);

impl Sparingly {
    pub(crate) fn may_speak(&self) -> bool {
        let mut last = self.0.lock();
        let may = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

#[cfg(test)]
mod tests;
