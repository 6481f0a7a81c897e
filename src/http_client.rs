//! The HTTP client block of the configuration, put to work: TLS, credentials, headers and proxies of requests we send.
//!
//! [`Client`] is for discovery, alerts and whatever else sends a request now and then; it pools connections.
//! Scraping keeps one connection per target and takes only [`TlsSource`], [`Headers`] and what follows redirects from here.
//! Files of certificates are read again for each new connection, files of credentials for each request, so
//! that both can be rotated without a reload.
//!
//! Compat: prometheus/common `config`, `NewClientFromConfig`.

mod headers;
mod oauth2;
mod proxy;
mod redirect;
pub mod sigv4;
mod tls;

pub use headers::Headers;
pub use proxy::{Kind as ProxyKind, Proxies, Proxy};
pub use redirect::REDIRECTS_MAX;
pub(crate) use redirect::{Next, is_home, location};
pub use tls::{TlsSource, provider};
pub(crate) use tls::{explain, refuses_protocols};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::http_client::HttpClient;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT as AGENT};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::Instant;
use url::Url;

/// How we name ourselves: exporters and services tell scrapers apart by it, so it says what upstream says.
pub const USER_AGENT: &str = "Prometheus/3.14.0";

/// The longest that a connection may take to come about, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a client cannot be made, or a request not be sent or answered. Names files, never what is in them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unable to read {what}: unable to read file {0}: open {0}: {1}", path.display(), plain(source))]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("unable to read headers file {0}: open {0}: {1}", path.display(), plain(source))]
    HeaderFile { path: PathBuf, source: std::io::Error },
    #[error("unable to use specified {what}{}: {detail}", in_file(path))]
    Pem { what: &'static str, path: PathBuf, detail: String },
    #[error("unable to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error(
        "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified"
    )]
    TlsVersions,
    #[error("unable to use the configured {0}: it cannot be sent in a header")]
    Header(&'static str),
    #[error("cannot use secret ref without manager")]
    NoSecretManager,
    #[error("{0}")]
    Oauth2(String),
    #[error("{0}")]
    Proxy(String),
    #[error("unable to set up the HTTP client: {0}")]
    Build(reqwest::Error),
    #[error("{}: {}", shown(method, url), reason(source))]
    Send { method: Method, url: Box<Url>, source: reqwest::Error },
    #[error("{} {to:?}: {what}", verb(method))]
    Redirect { method: Method, to: String, what: String },
    #[error("the answer's body exceeds {0} bytes")]
    BodyTooLarge(usize),
}

impl Error {
    /// The same without the URL, where that may be a secret.
    pub fn without_url(&self) -> String {
        match self {
            Self::Send { source, .. } => reason(source),
            Self::Redirect { what, .. } => what.clone(),
            other => other.to_string(),
        }
    }

    /// Whether asking again cannot help, because it is the request itself that is wrong.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Send { source, .. } => source.is_builder(),
            Self::Header(_) | Self::NoSecretManager | Self::TlsVersions => true,
            _ => false,
        }
    }
}

/// The system's words without its number, and in lower case as the rest of a message.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn in_file(path: &Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!(" file {}", path.display()) }
}

/// `Get "http://host/"`, a password in it hidden.
fn shown(method: &Method, url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Fails only for URLs that have no password.
        let _ = url.set_password(Some("xxxxx"));
    }
    format!("{} {:?}", verb(method), url.as_str())
}

/// `Get` of `GET`.
fn verb(method: &Method) -> String {
    let name = method.as_str();
    let (first, rest) = name.split_at(name.len().min(1));
    format!("{first}{}", rest.to_lowercase())
}

/// What is behind an error of the client, from the outermost part that says something.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "context deadline exceeded".to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.downcast_ref::<std::io::Error>().map_or_else(|| cause.to_string(), explain);
        if !text.starts_with("client error (") && parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
        source = cause.source();
    }
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}

/// Makes requests as one block of the configuration wants them.
pub struct Client {
    headers: Headers,
    tls: TlsSource,
    proxies: Proxies,
    follow_redirects: bool,
    timeout: Duration,
    /// Every connection goes to this socket, whatever host a URL names.
    socket: Option<PathBuf>,
    /// Rebuilt when the TLS files change.
    built: Mutex<Option<(Arc<ClientConfig>, reqwest::Client)>>,
}

impl Client {
    /// `timeout` bounds each request as a whole, from connecting to the last byte of the answer.
    ///
    /// # Errors
    /// A file of certificates cannot be read or used, or a header cannot be sent.
    pub fn new(config: &HttpClient, timeout: Duration) -> Result<Self, Error> {
        Self::build(config, timeout, None)
    }

    /// A client whose connections go to the Unix socket `path`; the host of a URL is only its `Host` header.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn for_socket(config: &HttpClient, path: &Path, timeout: Duration) -> Result<Self, Error> {
        Self::build(config, timeout, Some(path.to_owned()))
    }

    fn build(config: &HttpClient, timeout: Duration, socket: Option<PathBuf>) -> Result<Self, Error> {
        let client = Self::unchecked(config, timeout, socket)?;
        client.current()?;
        Ok(client)
    }

    /// A client whose files are looked at when it is first used.
    fn unchecked(config: &HttpClient, timeout: Duration, socket: Option<PathBuf>) -> Result<Self, Error> {
        let alpn: &[&[u8]] = if config.enable_http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        Ok(Self {
            headers: Headers::new(config)?,
            tls: TlsSource::new(config.tls.clone(), alpn),
            proxies: Proxies::new(&config.proxy)?,
            follow_redirects: config.follow_redirects,
            timeout,
            socket,
            built: Mutex::default(),
        })
    }

    /// Begins a request; headers and credentials of the configuration are added when it is sent.
    ///
    /// # Errors
    /// None today; whoever asks is ready for one.
    pub fn request(&self, method: Method, url: Url) -> Result<Request<'_>, Error> {
        let timeout = Some(self.timeout);
        Ok(Request { client: self, method, url, headers: HeaderMap::new(), body: None, timeout })
    }

    /// Asks for `url` and reads the whole answer, whatever its status is.
    ///
    /// # Errors
    /// The request cannot be sent, or the answer has more than `limit` bytes.
    pub async fn get_bytes(
        &self,
        url: Url,
        headers: HeaderMap,
        limit: usize,
    ) -> Result<(Head, Bytes), Error> {
        self.request(Method::GET, url)?.headers(headers).read(limit).await
    }

    fn current(&self) -> Result<reqwest::Client, Error> {
        let tls = self.tls.current()?;
        let mut built = self.built.lock();
        if let Some((config, client)) = &*built
            && Arc::ptr_eq(config, &tls)
        {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            // We follow redirects ourselves: what is secret must not come along.
            .redirect(reqwest::redirect::Policy::none())
            // Also where an answer may stream for ever.
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_mins(5))
            .http2_keep_alive_interval(Duration::from_mins(1))
            .http2_keep_alive_while_idle(false)
            .no_proxy();
        if let Some(path) = &self.socket {
            builder = builder.unix_socket(path.as_path());
        } else if !self.proxies.is_empty() {
            for proxy in self.proxies.for_reqwest() {
                builder = builder.proxy(proxy);
            }
        }
        let client = builder.build().map_err(Error::Build)?;
        *built = Some((tls, client.clone()));
        Ok(client)
    }
}

/// The status and the headers of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl Head {
    /// The media type with its parameters; empty if there is none.
    pub fn content_type(&self) -> &str {
        self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is JSON in UTF-8 by its type, which services have to say.
    ///
    /// Compat: prometheus `discovery/http`, `matchContentType`.
    pub fn is_json(&self) -> bool {
        let (media, parameters) = match self.content_type().split_once(';') {
            Some((media, parameters)) => (media, Some(parameters.trim_start())),
            None => (self.content_type(), None),
        };
        let is_utf8 = |parameters: &str| {
            parameters.eq_ignore_ascii_case("charset=utf-8")
                || parameters.eq_ignore_ascii_case("charset=\"utf-8\"")
        };
        media.eq_ignore_ascii_case("application/json") && parameters.is_none_or(is_utf8)
    }
}

/// A request of a [`Client`], not sent yet.
pub struct Request<'c> {
    client: &'c Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
    timeout: Option<Duration>,
}

impl Request<'_> {
    /// Sets one header, which goes before what the configuration says of it.
    #[must_use]
    pub fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        let mut headers = self.headers;
        headers.insert(name, value);
        Self { headers, ..self }
    }

    /// Sets all of `headers`.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..self }
    }

    /// Bounds this request instead of the client's timeout; `None` lets an answer stream for as long as it likes.
    #[must_use]
    pub fn timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Sends it and waits for the head of the answer, redirects followed if the configuration says so.
    ///
    /// # Errors
    /// A file that the configuration names cannot be used now, or nobody answers.
    pub async fn send(self) -> Result<reqwest::Response, Error> {
        let Self { client, mut method, mut url, headers, mut body, timeout } = self;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let home = url.clone();
        let (mut is_home, mut said) = (true, String::new());
        for _ in 0..REDIRECTS_MAX {
            let mut all = headers.clone();
            if !is_home {
                all.remove(http::header::AUTHORIZATION);
                all.remove(http::header::COOKIE);
            }
            all.entry(AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
            client.headers.add_to(&mut all, is_home).await?;
            let mut request = client.current()?.request(method.clone(), url.clone()).headers(all);
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            if let Some(deadline) = deadline {
                request = request.timeout(deadline.saturating_duration_since(Instant::now()));
            }
            let response = request.send().await.map_err(|source| Error::Send {
                method: method.clone(),
                url: Box::new(url.clone()),
                source,
            })?;
            if !client.follow_redirects {
                return Ok(response);
            }
            let status = response.status();
            let next = location(status, response.headers(), &url).map_err(|refusal| Error::Redirect {
                method: method.clone(),
                to: refusal.to,
                what: refusal.what,
            })?;
            let Some(next) = next else { return Ok(response) };
            // Once it has left, nothing secret travels on, not even back.
            is_home &= redirect::is_home(&home, &next.url);
            let repeated = redirect::method(status, &method);
            if repeated != method {
                body = None;
            }
            (method, url, said) = (repeated, next.url, next.said);
        }
        let what = format!("stopped after {REDIRECTS_MAX} redirects");
        Err(Error::Redirect { method, to: said, what })
    }

    /// Sends it and reads the whole answer, whatever its status is.
    ///
    /// # Errors
    /// As [`Request::send`], or the answer has more than `limit` bytes.
    pub async fn read(self, limit: usize) -> Result<(Head, Bytes), Error> {
        let (method, url) = (self.method.clone(), Box::new(self.url.clone()));
        let mut response = self.send().await?;
        let head = Head { status: response.status(), headers: std::mem::take(response.headers_mut()) };
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Error::BodyTooLarge(limit));
        }
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|source| Error::Send {
                method: method.clone(),
                url: url.clone(),
                source,
            })?;
            let Some(chunk) = chunk else { return Ok((head, body.into())) };
            if chunk.len() > limit - body.len() {
                return Err(Error::BodyTooLarge(limit));
            }
            body.extend_from_slice(&chunk);
        }
    }
}

#[cfg(test)]
mod tests;
