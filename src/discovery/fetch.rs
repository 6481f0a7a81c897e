//! Answers of other systems: bounded, JSON in which anything may be missing, errors on one line.

use bytes::Bytes;
use http::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::Error;
use crate::http_client::{Client, Head};

/// The most bytes of one answer, inflated; beyond it the answer is refused rather than taken into memory.
pub(super) const BODY_BYTES_MAX: usize = 256 << 20;

/// How much of an answer that is an error is shown.
const ERROR_BYTES_MAX: usize = 1024;

pub(super) struct Response {
    pub(super) head: Head,
    pub(super) body: Bytes,
}

impl Response {
    /// `404 Not Found`.
    pub(super) fn status_text(&self) -> String {
        let reason = self.head.status.canonical_reason().unwrap_or_default();
        format!("{} {reason}", self.head.status.as_u16()).trim_end().to_owned()
    }

    /// What an answer that is an error says, on one line.
    pub(super) fn error_text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(ERROR_BYTES_MAX)]);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error(format!("could not read the answer: {error}")))
    }
}

/// Asks for `url` with the credentials and headers of the client's section; any status is an answer.
pub(super) async fn get(
    client: &Client,
    url: Url,
    headers: HeaderMap,
    bytes_max: usize,
) -> Result<Response, Error> {
    let (head, body) =
        client.get_bytes(url, headers, bytes_max).await.map_err(|error| Error(error.to_string()))?;
    Ok(Response { head, body })
}

/// Takes `null` for the default, as Go's decoder does.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
