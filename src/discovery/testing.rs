//! What the tests of the mechanisms share: a server that answers over real HTTP with what it is told.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::{Context, Health, Update};

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) delay: Duration,
}

pub(super) fn json(body: &str) -> Page {
    let (headers, delay) = (Vec::new(), Duration::ZERO);
    Page { status: 200, kind: "application/json", body: body.to_owned(), headers, delay }
}

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Asked {
    /// The path and its parameters, decoded and sorted.
    pub(super) fn text(&self) -> String {
        let query = self.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let mut pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        pairs.sort();
        format!("{} {}", self.uri.path(), pairs.join("&")).trim_end().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

type Answer = Box<dyn Fn(&Asked) -> Page + Send + Sync>;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Asked>>,
}

impl Server {
    /// Answers everything with `page`.
    pub(super) async fn start(page: Page) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, router) = router(Box::new(move |_| page.clone()));
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { serve.await });
        Self { address, shared, stop }
    }

    /// Answers by path; other paths are not found.
    pub(super) async fn pages<const N: usize>(pages: [(&str, Page); N]) -> Self {
        let server = Self::start(json("")).await;
        let pages: BTreeMap<String, Page> =
            pages.into_iter().map(|(path, page)| (path.to_owned(), page)).collect();
        server.answer(move |asked| match pages.get(asked.uri.path()) {
            Some(page) => page.clone(),
            None => Page { status: 404, ..json(r#"{"message": "page not found"}"#) },
        });
        server
    }

    /// The same over TLS, with a certificate of its own that is left in `folder`; `None`, with a word about it,
    /// where there is no openssl to make one.
    pub(super) async fn over_tls(test: &str, folder: &Path, page: Page) -> Option<Self> {
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let made = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .stderr(std::process::Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            let line = format!("SKIPPED discovery::{test}: no openssl to make a certificate with\n");
            // Not `println!`: what that says of a test that passes nobody gets to see.
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        let chain = CertificateDer::pem_file_iter(&cert).unwrap().collect::<Result<_, _>>().unwrap();
        let config = rustls::ServerConfig::builder_with_provider(crate::http_client::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).unwrap())
            .unwrap();
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        let listener = TlsListener { inner, acceptor: Arc::new(config).into() };
        let (shared, router) = router(Box::new(move |_| page.clone()));
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { serve.await });
        Some(Self { address, shared, stop })
    }

    /// The same on a unix socket.
    pub(super) fn on_socket(path: &Path, page: Page) -> Self {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let (shared, router) = router(Box::new(move |_| page.clone()));
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { serve.await });
        Self { address: SocketAddr::from(([0, 0, 0, 0], 0)), shared, stop }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn set(&self, page: Page) {
        self.answer(move |_| page.clone());
    }

    pub(super) fn answer(&self, answer: impl Fn(&Asked) -> Page + Send + Sync + 'static) {
        *self.shared.answer.lock() = Box::new(answer);
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }
}

struct TlsListener {
    inner: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.inner.accept().await.unwrap();
            // A client that does not like the certificate goes away.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn router(answer: Answer) -> (Arc<Shared>, Router) {
    let shared = Arc::new(Shared { answer: Mutex::new(answer), asked: Mutex::default() });
    (Arc::clone(&shared), Router::new().fallback(serve).with_state(shared))
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let asked = Asked { uri: request.uri().clone(), headers: request.headers().clone() };
    let page = (shared.answer.lock())(&asked);
    shared.asked.lock().push(asked);
    tokio::time::sleep(page.delay).await;
    let mut response = (StatusCode::from_u16(page.status).unwrap(), page.body).into_response();
    response.headers_mut().insert("content-type", page.kind.parse().unwrap());
    for (name, value) in page.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// What a provider gets that belongs to no manager.
pub(super) fn context(mechanism: &'static str) -> Context {
    Context { health: Arc::new(Health::new(mechanism)), metrics: Arc::new(Metrics::new("scrape")) }
}

/// One line per target: the source of its group and all its labels.
pub(super) fn shown(update: &Update) -> Vec<String> {
    let mut lines = Vec::new();
    for group in update {
        if group.targets.is_empty() {
            lines.push(format!("{}: none", group.source));
        }
        for target in &group.targets {
            let mut labels = model::LabelsBuilder::from(&group.labels);
            for (name, value) in target {
                labels.set(name, value);
            }
            lines.push(format!("{}: {}", group.source, labels.build()));
        }
    }
    lines
}
