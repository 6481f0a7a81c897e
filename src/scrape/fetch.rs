//! One scrape over HTTP: request out, compressed or plain body in. The last `await` of a sample's walk.
//!
//! Body frames are copied at once into a buffer of the shared pool.
//!
//! Compat: prometheus `scrape/scrape.go`, `targetScraper.scrape` and `readResponse`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::prometheus::ScrapeConfig;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT,
};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;

use super::body::{BODY_BYTES_MAX, Buffers, Error};
use super::connect::{Connection, Form, Place, explain, is_hangup};
use super::dials::Dials;
use super::negotiate::accept;
use super::target::Url;
use crate::http_client::{self, Headers, Next, Proxies, REDIRECTS_MAX, TlsSource};

/// What is sent with another status than 200 is not worth more.
const REGRET_BYTES_MAX: u64 = 64 << 10;

/// How a job talks to its targets.
pub(super) struct Client {
    fixed: HeaderMap,
    headers: Headers,
    pub(super) tls: TlsSource,
    /// For targets that insist; `None` if the configuration forbids it.
    pub(super) tls_http2: Option<TlsSource>,
    pub(super) proxies: Proxies,
    follow_redirects: bool,
    /// A body must stay below it.
    pub(super) body_limit: usize,
    /// What is counted of its connections.
    pub(super) dials: Arc<Dials>,
}

impl Client {
    pub(super) fn new(config: &ScrapeConfig, dials: Arc<Dials>) -> Result<Self, http_client::Error> {
        let headers = Headers::new(&config.http)?;
        let tls = TlsSource::new(config.http.tls.clone(), &[b"http/1.1"]);
        // What cannot be read now is told now.
        tls.current()?;
        let tls_http2 =
            config.http.enable_http2.then(|| TlsSource::new(config.http.tls.clone(), &[b"h2", b"http/1.1"]));
        let proxies = Proxies::new(&config.http.proxy)?;
        let mut fixed = HeaderMap::new();
        let accept = HeaderValue::from_str(&accept(&config.scrape_protocols, config.escaping))
            .expect("media types are plain characters");
        fixed.insert(ACCEPT, accept);
        let encoding = if config.enable_compression { "gzip" } else { "identity" };
        fixed.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        fixed.insert(USER_AGENT, HeaderValue::from_static(http_client::USER_AGENT));
        let body_limit = match usize::try_from(config.limits.body_size_bytes) {
            Ok(limit @ 1..BODY_BYTES_MAX) => limit,
            _ => BODY_BYTES_MAX,
        };
        let follow_redirects = config.http.follow_redirects;
        Ok(Self { fixed, headers, tls, tls_http2, proxies, follow_redirects, body_limit, dials })
    }
}

/// What is known of a body besides its bytes.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) content_type: Option<String>,
    pub(super) is_gzip: bool,
}

/// Where a fetch stood when its time was up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
}

/// Fetches the body of `place` into `body`, which is taken from `buffers` when the first byte arrives.
///
/// `timeout` covers connecting, headers and body. After an error the connection is closed, unless it was answered.
pub(super) async fn fetch(
    client: &Client,
    place: Place<'_>,
    timeout: Duration,
    connection: &mut Connection,
    buffers: &Buffers,
    body: &mut Vec<u8>,
) -> Result<Head, Error> {
    let mut stage = Stage::Head;
    let walk = follow(client, place, timeout, connection, buffers, body, &mut stage);
    let result = tokio::time::timeout(timeout, walk).await;
    let result = match result {
        Ok(result) => result,
        Err(_) if stage == Stage::Head => {
            Err(Error::Other(format!("Get {:?}: context deadline exceeded", place.url.text())))
        }
        Err(_) => Err(Error::Other("context deadline exceeded".to_owned())),
    };
    if result.is_ok() {
        connection.rest();
    } else {
        connection.abandon();
    }
    result
}

/// Fetches and follows redirects.
async fn follow(
    client: &Client,
    place: Place<'_>,
    timeout: Duration,
    connection: &mut Connection,
    buffers: &Buffers,
    body: &mut Vec<u8>,
    stage: &mut Stage,
) -> Result<Head, Error> {
    let first = attempt(client, place, timeout, true, connection).await?;
    let Some(mut next) = redirect(client, &first, place.url)? else {
        return finish(client, first, connection, buffers, body, stage).await;
    };
    // The body of a redirect is not read, so its connection is of no more use. The chain has one of its own,
    // and once it has left the target's host, no credentials travel on.
    connection.close();
    drop(first);
    let home = url::Url::parse(place.url.text()).map_err(|error| Error::Other(error.to_string()))?;
    let mut is_home = true;
    for _ in 1..REDIRECTS_MAX {
        is_home &= http_client::is_home(&home, &next.url);
        let url = Url::from_absolute(&next.url);
        let mut hop = Connection::default();
        let place = Place { url: &url, ..place };
        let response = attempt(client, place, timeout, is_home, &mut hop).await?;
        match redirect(client, &response, &url)? {
            None => return finish(client, response, &mut hop, buffers, body, stage).await,
            Some(further) => next = further,
        }
    }
    Err(Error::Other(format!("Get {:?}: stopped after {REDIRECTS_MAX} redirects", next.said)))
}

/// Where a response sends us, if it does and we may follow.
fn redirect(client: &Client, response: &http::Response<Incoming>, from: &Url) -> Result<Option<Next>, Error> {
    if !client.follow_redirects || !response.status().is_redirection() {
        return Ok(None);
    }
    let base = url::Url::parse(from.text())
        .map_err(|error| Error::Other(format!("Get {:?}: {error}", from.text())))?;
    http_client::location(response.status(), response.headers(), &base)
        .map_err(|refusal| Error::Other(format!("Get {:?}: {}", refusal.to, refusal.what)))
}

/// Sends one request and waits for the head of its answer.
async fn attempt(
    client: &Client,
    place: Place<'_>,
    timeout: Duration,
    is_home: bool,
    connection: &mut Connection,
) -> Result<http::Response<Incoming>, Error> {
    let url = place.url;
    let fail = |what: String| Error::Other(format!("Get {:?}: {what}", url.text()));
    // First what the configuration wants, then the target: a file that is missing is told also of a target that is.
    let mut prepared = Some(headers(client, url, timeout, is_home).await.map_err(fail)?);
    let mut is_reused = connection.is_usable().await;
    loop {
        if !is_reused {
            connection.connect(client, place).await.map_err(fail)?;
        }
        let open = connection.open.as_mut().expect("the connection was just opened");
        let headers = match prepared.take() {
            Some(headers) => headers,
            None => self::headers(client, url, timeout, is_home).await.map_err(fail)?,
        };
        let request = request(url, headers, open.form()).map_err(fail)?;
        match open.send(request).await {
            Ok(response) => return Ok(response),
            // The server hung up while we were about to ask: ask once more over a new connection.
            Err(error) if is_reused && is_hangup(&error) => is_reused = false,
            // It answered in another language, which is asked for next.
            Err(error) if connection.may_want_http2(client, &error) => is_reused = false,
            Err(error) if error.is_incomplete_message() => return Err(fail("EOF".to_owned())),
            Err(error) => return Err(fail(explain(&error))),
        }
    }
}

/// Everything that goes with a request, but for what depends on the way it takes.
async fn headers(client: &Client, url: &Url, timeout: Duration, is_home: bool) -> Result<HeaderMap, String> {
    let mut headers = client.fixed.clone();
    let host = HeaderValue::from_str(url.authority()).map_err(|_| "invalid host".to_owned())?;
    headers.insert(HOST, host);
    let seconds = HeaderValue::from_str(&timeout.as_secs_f64().to_string())
        .expect("digits and a point go into a header");
    headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
    client.headers.add_to(&mut headers, is_home).await.map_err(|error| error.to_string())?;
    Ok(headers)
}

fn request(url: &Url, headers: HeaderMap, form: &Form) -> Result<http::Request<Empty<Bytes>>, String> {
    let mut request = http::Request::new(Empty::new());
    let text = if matches!(form, Form::Path) { url.path_and_query() } else { url.text() };
    *request.uri_mut() = Uri::try_from(text).map_err(|error| format!("invalid path or query: {error}"))?;
    *request.headers_mut() = headers;
    match form {
        Form::Path | Form::Proxy(None) => {}
        Form::Proxy(Some(authorization)) => {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        Form::Http2 => {
            // There, the host is part of the URL.
            request.headers_mut().remove(HOST);
            *request.version_mut() = http::Version::HTTP_2;
        }
    }
    Ok(request)
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
        let status = status_text(&response);
        // Its page of regret is read, so that the connection can be used again.
        let mut incoming = response.into_body();
        if incoming.size_hint().upper().is_some_and(|n| n <= REGRET_BYTES_MAX)
            && let Some(open) = &mut connection.open
        {
            while let Some(Ok(_)) = open.drive(incoming.frame()).await {}
            connection.rest();
        }
        return Err(Error::Other(format!("server returned HTTP status {status}")));
    }
    let header = |name| response.headers().get(name).map(|value: &HeaderValue| value.as_bytes());
    let head = Head {
        content_type: header(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value).into_owned()),
        is_gzip: header(http::header::CONTENT_ENCODING) == Some(b"gzip"),
    };
    *stage = Stage::Body;
    // The limit is on what is inflated; what does not shrink grows by a few bytes.
    let limit =
        if head.is_gzip { client.body_limit + client.body_limit / 16 + 1024 } else { client.body_limit };
    let mut incoming = response.into_body();
    let promised = incoming.size_hint().exact().and_then(|n| usize::try_from(n).ok());
    if promised.is_some_and(|n| n >= limit) {
        return Err(Error::TooLarge);
    }
    let open = connection.open.as_mut().expect("a response has come over it");
    while let Some(frame) = open.drive(incoming.frame()).await {
        let frame = frame.map_err(|error| Error::Other(explain(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if body.capacity() == 0 {
            *body = buffers.take();
            // Exactly, since the buffer goes to the next body.
            body.reserve(promised.unwrap_or_default().min(limit));
        }
        if body.len() + data.len() >= limit {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&data);
    }
    Ok(head)
}

/// The status in the target's own words.
fn status_text(response: &http::Response<Incoming>) -> String {
    let status = response.status();
    let own = response.extensions().get::<ReasonPhrase>();
    let reason = match own {
        Some(own) => String::from_utf8_lossy(own.as_bytes()),
        None => status.canonical_reason().unwrap_or_default().into(),
    };
    format!("{} {reason}", status.as_u16()).trim_end().to_owned()
}
