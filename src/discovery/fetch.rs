//! Answers of other systems: bodies of bounded size, JSON in which anything may be missing, errors without secrets.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::Error;
use crate::http_client::Client;

/// The most bytes of one answer, inflated; beyond it the answer is refused rather than taken into memory.
pub(super) const BODY_BYTES_MAX: usize = 256 << 20;

/// How much of an answer that is an error is shown.
const ERROR_BYTES_MAX: usize = 1024;

pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Response {
    /// `404 Not Found`.
    pub(super) fn status_text(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or_default();
        format!("{} {reason}", self.status.as_u16()).trim_end().to_owned()
    }

    /// What an answer that is an error says, on one line.
    pub(super) fn error_text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error(format!("could not read the answer: {error}")))
    }
}

/// A request with the credentials and headers of its section.
pub(super) fn get(client: &Client, url: Url) -> Result<reqwest::RequestBuilder, Error> {
    client.request(Method::GET, url).map_err(|error| Error(error.to_string()))
}

/// Sends a request and reads its answer, of an error only the beginning.
pub(super) async fn send(request: reqwest::RequestBuilder, bytes_max: usize) -> Result<Response, Error> {
    let mut response = request.send().await.map_err(|error| Error(chain(error)))?;
    let status = response.status();
    let is_success = status.is_success();
    let too_long = || Error(format!("the answer has more than {bytes_max} bytes"));
    if is_success && response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(too_long());
    }
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Error(chain(error)))? {
        if is_success && body.len() + chunk.len() > bytes_max {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
        if !is_success && body.len() >= ERROR_BYTES_MAX {
            body.truncate(ERROR_BYTES_MAX);
            break;
        }
    }
    Ok(Response { status, headers, body: body.into() })
}

/// An error with its causes on one line, without the URL, which may hold a password.
pub(super) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// Takes `null` for the default, as Go's decoder does.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
