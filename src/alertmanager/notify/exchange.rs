//! A request that tells a receiver, and what its answer means: done, try again, or give up.
//!
//! Addresses may hold secrets, so no error shows one. What is read of an answer is bounded.
//!
//! Compat: alertmanager `notify`, `PostJSON`, `RedactURL`, `Retrier`, `GetFailureReasonFromStatusCode`.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use config::http_client::{HttpClient, SecretSource};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use url::Url;

use super::{Failure, json};
use crate::http_client::{self, Client};

/// How upstream names itself: some services tell senders apart by it.
const AGENT: HeaderValue = HeaderValue::from_static("Alertmanager/0.34.0");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// For a receiver without a timeout of its own; the deadline of the whole notification is shorter as a rule.
const TIMEOUT: Duration = Duration::from_mins(5);
/// As much of an answer as is read: the largest that is understood is a list of Jira's.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// As much of an answer as an error shows.
const DETAIL_BYTES_MAX: usize = 4 << 10;
/// What is left of an answer that is not looked at is read for so long, so that the connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);
/// Clients that are kept; an installation has a handful of different settings.
const CLIENTS_MAX: usize = 64;

/// A client by its settings.
type Kept = (HttpClient, Arc<Client>);

/// The clients of all receivers: connections are reused, certificates not read for each message.
static CLIENTS: LazyLock<Mutex<Vec<Kept>>> = LazyLock::new(Mutex::default);

fn client(config: &HttpClient) -> Result<Arc<Client>, Failure> {
    let known = |clients: &[Kept]| {
        clients.iter().find(|(known, _)| known == config).map(|(_, client)| Arc::clone(client))
    };
    if let Some(client) = known(&CLIENTS.lock()) {
        return Ok(client);
    }
    let made = Arc::new(Client::new(config, TIMEOUT).map_err(|error| unusable(&error))?);
    let mut clients = CLIENTS.lock();
    if let Some(client) = known(&clients) {
        return Ok(client);
    }
    if clients.len() == CLIENTS_MAX {
        clients.remove(0);
    }
    clients.push((config.clone(), Arc::clone(&made)));
    Ok(made)
}

/// A missing file may come back, so only what the configuration itself says is final.
fn unusable(error: &http_client::Error) -> Failure {
    let message = format!("set up the HTTP client: {error}");
    Failure { message, retry: matches!(error, http_client::Error::File { .. }), reason: "other" }
}

/// Who is asked, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'c> {
    config: &'c HttpClient,
    /// What the configuration calls its owner, and the most that one request may take.
    timeout: Option<(&'static str, Duration)>,
}

impl<'c> Exchange<'c> {
    pub(super) const fn new(config: &'c HttpClient) -> Self {
        Self { config, timeout: None }
    }

    /// Bounds each request; zero does not.
    pub(super) fn within(self, owner: &'static str, timeout: Duration) -> Self {
        Self { timeout: (!timeout.is_zero()).then_some((owner, timeout)), ..self }
    }

    /// Posts `body` as JSON.
    pub(super) async fn post_json(&self, url: &str, body: &impl Serialize) -> Result<Answer, Failure> {
        self.post_bytes(url, encode(body)?).await
    }

    /// Posts what is JSON already.
    pub(super) async fn post_bytes(&self, url: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
        self.ask(Method::POST, parse(url)?, headers, Some(body)).await
    }

    /// Sends any request; `headers` go before ours.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        headers.entry(USER_AGENT).or_insert(AGENT);
        headers.remove(ACCEPT);
        let verb = method.as_str();
        let verb = format!("{}{}", &verb[..1], verb[1..].to_lowercase());
        let client = client(self.config)?;
        let mut request = client.request(method, url).map_err(|error| unusable(&error))?.headers(headers);
        if let Some((_, timeout)) = self.timeout {
            request = request.timeout(Some(timeout.min(TIMEOUT)));
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| {
            let is_late = matches!(&error, http_client::Error::Send { source, .. } if source.is_timeout());
            let mut message = format!("{verb} \"<redacted>\": {}", error.without_url());
            if let Some((owner, timeout)) = self.timeout.filter(|_| is_late) {
                let nanos = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
                let timeout = config::template::time::duration_string(nanos);
                let _ = write!(message, ": configured {owner} timeout reached ({timeout})");
            }
            Failure { message, retry: !error.is_final(), reason: "other" }
        })?;
        Ok(Answer { status: response.status(), response })
    }
}

pub(super) fn encode(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    json::encode(body).map_err(|error| Failure::last(format!("encode the message: {error}")))
}

/// The text of a configured URL may be a secret, so what is wrong with it is all that is said.
pub(super) fn parse(url: &str) -> Result<Url, Failure> {
    Url::parse(url).map_err(|error| Failure::last(format!("parse \"<redacted>\": {error}")))
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    response: reqwest::Response,
}

impl Answer {
    pub(super) fn content_type(&self) -> &str {
        let value = self.response.headers().get(CONTENT_TYPE);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The beginning of the body; whether it is the whole is not told, for nothing we understand is that long.
    pub(super) async fn body(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES_MAX {
            match self.response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(_) => return Err(Failure::again("could not read response body")),
            }
        }
        body.truncate(ANSWER_BYTES_MAX);
        Ok(body)
    }

    /// Agrees with 2xx; 5xx and `again` are worth another attempt, anything else is final. The body says more.
    pub(super) async fn check(mut self, again: &[u16]) -> Result<(), Failure> {
        let checked = self.check_with(again, |_, body| shown(body)).await;
        if checked.is_ok() {
            // That somebody is told does not depend on how this ends.
            let _ = tokio::time::timeout(DRAIN, self.body()).await;
        }
        checked
    }

    /// The same, with the words of an error found by `detail`; the body of a good answer is left to be read.
    pub(super) async fn check_with(
        &mut self,
        again: &[u16],
        detail: impl FnOnce(u16, &[u8]) -> String,
    ) -> Result<(), Failure> {
        if self.status.is_success() {
            return Ok(());
        }
        let code = self.status.as_u16();
        let body = self.body().await.unwrap_or_default();
        let detail = detail(code, &body);
        let message = if detail.is_empty() {
            format!("unexpected status code {code}")
        } else {
            format!("unexpected status code {code}: {detail}")
        };
        let retry = self.status.is_server_error() || again.contains(&code);
        Err(Failure { message, retry, reason: reason(self.status) })
    }
}

/// The beginning of a body as an error shows it.
pub(super) fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(DETAIL_BYTES_MAX)]).into_owned()
}

/// The reason of a failure that a status stands for.
pub(super) fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "authError",
        429 => "rateLimited",
        400..=499 => "clientError",
        500..=599 => "serverError",
        _ => "other",
    }
}

/// A secret as it is now; `key` is its key in the configuration, for the error.
pub(super) async fn secret(source: &SecretSource, key: &str) -> Result<String, Failure> {
    match source {
        SecretSource::Inline(secret) => Ok(secret.expose().to_owned()),
        SecretSource::File(path) => {
            let read = path.clone();
            let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(read)).await;
            let text = text.map_err(|error| Failure::again(error.to_string()))?;
            // The file may be on its way, as when a secret is rotated: unlike upstream we look again.
            let text = text.map_err(|error| {
                let error = http_client::plain(&error);
                Failure::again(format!("read {key}: open {}: {error}", path.display()))
            })?;
            Ok(text.trim().to_owned())
        }
        SecretSource::Ref(_) => Err(Failure::last("cannot use secret ref without manager")),
    }
}

/// A part of a path, slashes left as they are. Compat: Go `url.URL.EscapedPath`.
pub(super) fn path_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `url` with more of a path behind the one it has, and with `query` beside what it asks already.
pub(super) fn extended(url: &str, path: &str, query: &[(&str, &str)]) -> Result<Url, Failure> {
    let mut url = parse(url)?;
    let whole = format!("{}{path}", url.path());
    url.set_path(&whole);
    if !query.is_empty() {
        let mut pairs: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| query.iter().all(|(new, _)| new != name))
            .map(owned)
            .collect();
        pairs.extend(query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        url.set_query(Some(&form(&pairs)));
    }
    Ok(url)
}

fn owned((name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)) -> (String, String) {
    (name.into_owned(), value.into_owned())
}

/// A form in the order given. Compat: Go `url.Values.Encode`.
pub(super) fn form(pairs: &[(String, String)]) -> String {
    use config::template::query_escape as escape;
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}
