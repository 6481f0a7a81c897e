//! The requests of a watch and how their answers are read: bytes become events here.
//!
//! Answers are read as they arrive and never held whole. One that stalls is given up.
//!
//! Compat: the Kubernetes API's list and watch; parameters as `client-go` sends them.

use std::time::{Duration, Instant};

use http::header::{ACCEPT, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::connect;
use super::list::{OBJECT_BYTES_MAX, Splitter};
use super::object::{self, Kind, Received};
use super::watch::Selection;

/// Objects in a page of a list, for servers that do not answer from memory.
pub(super) const PAGE: usize = 500;

/// A head that takes longer will not come.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// A list that is silent for so long is given up.
const LIST_SILENCE: Duration = Duration::from_mins(1);

/// A watch that is silent for so long is taken up again: servers send a bookmark each minute, so the
/// connection is probably dead.
const WATCH_SILENCE: Duration = Duration::from_secs(150);

/// A server that knows streamed lists sends something well before; one that ignores the parameter may not.
pub(super) const STREAMED_LIST_SILENCE: Duration = Duration::from_secs(5);

/// Watches are asked to end after one to two times this: then the server can spread them anew.
const WATCH_TIMEOUT: Duration = Duration::from_mins(5);

/// The most bytes that are read of an error's explanation.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// Lists of objects whose metadata is all we read ask for that alone; servers may send more.
const ACCEPT_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const ACCEPT_METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const ACCEPT_JSON: &str = "application/json";

/// Why a request or a watch failed. Holds no secret.
#[expect(clippy::struct_excessive_bools, reason = "what follows from a failure are independent things")]
#[derive(Debug, Default)]
pub(super) struct Failure {
    pub(super) message: String,
    /// The version that we asked for is no longer, or not yet, there.
    pub(super) is_gone: bool,
    /// Credentials were not taken, or they and the address are those of another time.
    pub(super) is_refused: bool,
    /// There was no answer at all, or one that says that the server has too much to do: asking for more than
    /// was asked for would not help.
    pub(super) is_passing: bool,
    /// The server does not know streamed lists.
    pub(super) is_unsupported: bool,
    pub(super) retry_after: Duration,
}

impl<T: Into<String>> From<T> for Failure {
    fn from(message: T) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}

/// How a watch came to its end, without a failure that the server told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Cleanly,
    Broken,
}

#[derive(Debug)]
pub(super) enum Event {
    /// New or other than before.
    Changed(Received),
    Deleted(Received),
    Bookmark {
        version: String,
        is_end_of_list: bool,
    },
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    /// The server may else answer from its memory, which is cheap but may lag.
    pub(super) is_newest: bool,
    /// `None` for all in one.
    pub(super) size: Option<usize>,
}

pub(super) struct Requests<'a> {
    pub(super) client: &'a Client,
    pub(super) cluster: &'a Cluster,
    pub(super) selection: &'a Selection,
}

impl Requests<'_> {
    /// Lists everything and returns the version of the list.
    pub(super) async fn list(
        &self,
        pages: &Pages,
        mut item: impl FnMut(Received),
    ) -> Result<String, Failure> {
        let size = pages.size.map(|size| size.to_string());
        let (mut token, mut version) = (String::new(), String::new());
        loop {
            let mut query: Vec<(&str, &str)> = size.iter().map(|size| ("limit", &**size)).collect();
            match (token.is_empty(), pages.is_newest) {
                (true, false) => query.push(("resourceVersion", "0")),
                (true, true) => {}
                // Later pages are of the version that the first one had.
                (false, _) => query.push(("continue", &token)),
            }
            let (status, headers, body) = self.send(&query, true).await?;
            if status != StatusCode::OK {
                return Err(failure(status, &headers, body).await);
            }
            let meta = self.read_list(body, &mut item).await?;
            if version.is_empty() {
                version = meta.resource_version;
            }
            // Something that is no list must not be taken for an empty one, which ends every target.
            if version.is_empty() {
                return Err(Failure::from("the answer is no list: it has no version"));
            }
            if meta.token.is_empty() {
                return Ok(version);
            }
            if meta.token == token {
                return Err(Failure::from("a page of the list leads to itself"));
            }
            token = meta.token;
        }
    }

    async fn read_list(
        &self,
        mut body: Body,
        item: &mut impl FnMut(Received),
    ) -> Result<super::list::ListMeta, Failure> {
        let mut splitter = Splitter::default();
        let mut bad = None;
        loop {
            let frame = timeout(LIST_SILENCE, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Failure::from("the list stalled"))? else { break };
            let frame = frame.map_err(|error| Failure::from(format!("the list broke: {error}")))?;
            let Some(bytes) = frame.data_ref() else { continue };
            let split = splitter.push(bytes, |json| match object::decode(self.selection.kind, json) {
                Ok(received) => item(received),
                Err(error) => bad = Some(error),
            });
            split.map_err(|error| Failure::from(error.to_string()))?;
        }
        // A list without one of its objects would take that object's targets away.
        if let Some(error) = bad {
            return Err(Failure::from(format!("an object of the list cannot be read: {error}")));
        }
        splitter.finish().map_err(|error| Failure::from(error.to_string()))
    }

    /// Watches what happens after `version`.
    pub(super) async fn watch(&self, version: &str) -> Result<Stream, Failure> {
        self.watch_with(&[("resourceVersion", version)], WATCH_SILENCE).await
    }

    /// Watches from nothing on: first comes all there is, then a bookmark, then what happens.
    pub(super) async fn watch_from_nothing(&self) -> Result<Stream, Failure> {
        let query = [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")];
        self.watch_with(&query, STREAMED_LIST_SILENCE).await
    }

    async fn watch_with(&self, query: &[(&str, &str)], silence: Duration) -> Result<Stream, Failure> {
        let seconds = WATCH_TIMEOUT.mul_f64(1.0 + fastrand::f64()).as_secs().to_string();
        let mut all = vec![("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", &*seconds)];
        all.extend(query);
        let (status, headers, body) = self.send(&all, false).await?;
        if status != StatusCode::OK {
            return Err(failure(status, &headers, body).await);
        }
        Ok(Stream {
            kind: self.selection.kind,
            body,
            buffer: Vec::new(),
            scanned: 0,
            taken: 0,
            silence,
            is_list: silence == STREAMED_LIST_SILENCE,
            ended: Ended::Cleanly,
        })
    }

    async fn send(
        &self,
        query: &[(&str, &str)],
        is_list: bool,
    ) -> Result<(StatusCode, HeaderMap, Body), Failure> {
        let Selection { kind, namespace, labels, fields } = self.selection;
        let path = kind.path(namespace.as_deref());
        let accept = match (kind.is_metadata_only(), is_list) {
            (true, true) => ACCEPT_METADATA_LIST,
            (true, false) => ACCEPT_METADATA,
            (false, _) => ACCEPT_JSON,
        };
        let selectors = [("labelSelector", &**labels), ("fieldSelector", &**fields)];
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .extend_pairs(selectors.iter().filter(|(_, selector)| !selector.is_empty()))
            .finish();
        let request = Request::get(format!("{path}?{query}"))
            .header(ACCEPT, accept)
            .body(Body::empty())
            .map_err(|_| Failure::from("the request cannot be sent"))?;

        let started = Instant::now();
        let answer = timeout(HEAD_TIMEOUT, self.client.send(request)).await;
        let status = match &answer {
            Ok(Ok(answer)) => Some(answer.status().as_u16()),
            _ => None,
        };
        let template = namespace.as_ref().map(|_| kind.path(Some("%7Bnamespace%7D")));
        self.cluster.metrics.request(&template.unwrap_or(path), status, started.elapsed());
        let unreachable =
            |message: String| Failure { message, is_passing: true, is_refused: true, ..Failure::default() };
        let (head, body) = answer
            .map_err(|_| unreachable("the server did not answer in time".to_owned()))?
            .map_err(|error| unreachable(connect::describe(&error)))?
            .into_parts();
        Ok((head.status, head.headers, body))
    }
}

/// The events of a watch, as they come.
pub(super) struct Stream {
    kind: Kind,
    body: Body,
    /// Lines that are not taken yet; up to `taken` they are.
    buffer: Vec<u8>,
    taken: usize,
    /// Up to here the buffer has no end of a line.
    scanned: usize,
    silence: Duration,
    /// The initial events still come.
    is_list: bool,
    ended: Ended,
}

/// What is read of an event before its object.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct ErrorEvent {
    #[serde(default)]
    object: Status,
}

#[derive(Deserialize)]
struct BookmarkEvent {
    object: BookmarkObject,
}

#[derive(Deserialize)]
struct BookmarkObject {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    #[serde(default)]
    resource_version: String,
    annotations: Option<std::collections::HashMap<String, String>>,
}

impl Stream {
    /// The next event; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
                let line = self.taken..self.scanned + end;
                (self.taken, self.scanned) = (line.end + 1, line.end + 1);
                if let Some(event) = self.decode(line)? {
                    return Ok(Some(event));
                }
                continue;
            }
            self.buffer.drain(..self.taken);
            (self.taken, self.scanned) = (0, self.buffer.len());
            if self.buffer.len() > OBJECT_BYTES_MAX {
                return Err(Failure::from(format!("an event has more than {OBJECT_BYTES_MAX} bytes")));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// How the stream ended, after [`Stream::next`] said that it has.
    pub(super) fn ended(&self) -> Ended {
        self.ended
    }

    async fn fill(&mut self) -> Result<bool, Failure> {
        match timeout(self.silence, self.body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    self.buffer.extend_from_slice(bytes);
                }
                Ok(true)
            }
            Ok(None) if self.buffer.is_empty() => Ok(false),
            Err(_) if self.is_list => {
                let message = "the streamed list stalled".to_owned();
                Err(Failure { message, is_unsupported: true, ..Failure::default() })
            }
            // Broken or silent; a line without an end is lost with the connection, and comes again.
            _ => {
                self.ended = Ended::Broken;
                Ok(false)
            }
        }
    }

    /// `None` for an empty line and for a type of event that we do not know.
    fn decode(&mut self, line: std::ops::Range<usize>) -> Result<Option<Event>, Failure> {
        let line = &self.buffer[line];
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let bad = |error: serde_json::Error| Failure::from(format!("an event cannot be read: {error}"));
        let head: Head<'_> = serde_json::from_slice(line).map_err(bad)?;
        Ok(match &*head.kind {
            "ADDED" | "MODIFIED" => Some(Event::Changed(object::decode_event(self.kind, line).map_err(bad)?)),
            "DELETED" => Some(Event::Deleted(object::decode_event(self.kind, line).map_err(bad)?)),
            "BOOKMARK" => {
                let meta = serde_json::from_slice::<BookmarkEvent>(line).map_err(bad)?.object.metadata;
                let is_end_of_list = meta
                    .annotations
                    .is_some_and(|all| all.get("k8s.io/initial-events-end").is_some_and(|v| v == "true"));
                if is_end_of_list {
                    (self.is_list, self.silence) = (false, WATCH_SILENCE);
                }
                Some(Event::Bookmark { version: meta.resource_version, is_end_of_list })
            }
            "ERROR" => {
                let status = serde_json::from_slice::<ErrorEvent>(line).map_err(bad)?.object;
                return Err(status.failure(None));
            }
            _ => None,
        })
    }
}

/// What the server says of a failure.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    message: Option<String>,
    reason: Option<String>,
    code: Option<u16>,
    details: Option<Details>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    causes: Option<Vec<Cause>>,
    retry_after_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Cause {
    reason: Option<String>,
}

impl Status {
    /// `code` is the one of the answer, if this is not an event of a watch.
    fn failure(self, code: Option<StatusCode>) -> Failure {
        let is_event = code.is_none();
        let code = code.map(|code| code.as_u16()).or(self.code).unwrap_or_default();
        let details = self.details.unwrap_or_default();
        // A store that was restored from a backup is behind what we have seen.
        let is_ahead = details
            .causes
            .unwrap_or_default()
            .iter()
            .any(|cause| cause.reason.as_deref() == Some("ResourceVersionTooLarge"));
        let message = self.message.or(self.reason.clone()).unwrap_or_default();
        Failure {
            message: format!("the server answered {code}: {message}"),
            is_gone: code == 410 || is_ahead || self.reason.as_deref() == Some("Expired"),
            is_refused: code == 401,
            // A server that got as far as an event had time; what fails it may be the version.
            is_passing: code == 429 || code >= 500 && !is_event,
            is_unsupported: matches!(code, 400 | 404..=406 | 415 | 422),
            retry_after: Duration::from_secs(details.retry_after_seconds.unwrap_or_default()),
        }
    }
}

/// Reads the explanation of an answer that is none.
async fn failure(status: StatusCode, headers: &HeaderMap, mut body: Body) -> Failure {
    let mut text = Vec::new();
    while let Ok(Some(Ok(frame))) = timeout(Duration::from_secs(5), body.frame()).await {
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        if text.len() > STATUS_BYTES_MAX {
            break;
        }
    }
    let explained: Status = serde_json::from_slice(&text).unwrap_or_else(|_| Status {
        message: Some(String::from_utf8_lossy(&text[..text.len().min(200)]).trim().to_owned()),
        ..Status::default()
    });
    let failure = explained.failure(Some(status));
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = seconds.map_or(failure.retry_after, Duration::from_secs);
    Failure { retry_after, ..failure }
}
