//! `/api/v1/write`: what a request has to look like, and what its sender is told.
//!
//! Upstream looks at the body before the content type, so that JSON is called corrupt snappy, and overlooks parameters
//! behind a blank, which makes a request of version 2 an empty one of version 1. Here a foreign content type is refused
//! as such, and the parameters are read.
//!
//! Compat: `client_golang` `exp/api/remote`, `ParseProtoMsg` and `writeHandler`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use model::wire::remote_write::Message;

use super::body::{self, BODY_BYTES_MAX, BodyError, SnappyError};
use crate::api::Shared;
use crate::routes::text_error;
use crate::view::remote::Written;

const MEDIA_TYPE: &str = "application/x-protobuf";

/// What the decoder says that upstream has for writes; for reads it has another.
const CORRUPT: &str = "s2: corrupt input";

const NOT_ENABLED: &str =
    "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";

pub(crate) async fn write(State(api): Shared, request: Request) -> Response {
    if api.remote.receiver.is_none() {
        return text_error(StatusCode::NOT_FOUND, NOT_ENABLED);
    }
    let (parts, body) = request.into_parts();
    let encoding = text_of(&parts.headers, header::CONTENT_ENCODING);
    let content_type = text_of(&parts.headers, header::CONTENT_TYPE);
    if !encoding.is_empty() && encoding != "snappy" {
        let text = format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable\n"
        );
        return text_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    // Before the body, which upstream looks at first: what is no remote write need not be read.
    let message = match message_of(&content_type, &api.remote.accepted) {
        Ok(message) => message,
        Err(text) => return text_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{text}\n")),
    };
    let body = match api.remote.bodies.read(body).await {
        Ok(body) => body,
        Err(e) => return refused_body(e),
    };
    let turn = Arc::clone(&api.remote.writes).acquire_owned().await.expect("the semaphore is never closed");
    let body = body.into_bytes();
    let work = {
        let api = Arc::clone(&api);
        move || {
            // Given back when the thread is free, even if nobody waits for the answer any more.
            let _turn = turn;
            take_in(&api, message, &body)
        }
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| text_error(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")))
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn refused_body(error: BodyError) -> Response {
    match error {
        BodyError::TooLarge => text_error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("request body exceeds the {BODY_BYTES_MAX} bytes limit\n"),
        ),
        BodyError::Busy => text_error(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many remote write requests are being received at the moment\n",
        ),
        BodyError::Broken(text) => text_error(StatusCode::BAD_REQUEST, format!("{text}\n")),
    }
}

fn take_in(api: &crate::Api, message: Message, encoded: &[u8]) -> Response {
    let Some(receiver) = &api.remote.receiver else {
        return text_error(StatusCode::NOT_FOUND, NOT_ENABLED);
    };
    let bad = |text: String| text_error(StatusCode::BAD_REQUEST, text);
    let body = match body::decode(encoded) {
        Ok(body) => body,
        Err(SnappyError::Corrupt) => return bad(format!("{CORRUPT}\n")),
        Err(SnappyError::TooLarge(_)) => {
            return bad(format!("decoded size exceeds the {BODY_BYTES_MAX} bytes limit\n"));
        }
    };
    let (mut response, written) = match receiver.write(message, &body) {
        Ok(written) => (StatusCode::NO_CONTENT.into_response(), written),
        Err(e) => {
            let status =
                if e.is_temporary { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_REQUEST };
            (text_error(status, format!("{}\n", e.text)), e.written)
        }
    };
    if message == Message::V2 {
        tell(&mut response, written);
    }
    response
}

/// Says how much was taken in: of version 1 senders would take that for a partial write.
fn tell(response: &mut Response, written: Written) {
    for (name, n) in [
        ("x-prometheus-remote-write-samples-written", written.samples),
        ("x-prometheus-remote-write-histograms-written", written.histograms),
        ("x-prometheus-remote-write-exemplars-written", written.exemplars),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(n));
    }
}

/// Which message a body of this content type is.
fn message_of(content_type: &str, accepted: &[Message]) -> Result<Message, String> {
    let content_type = content_type.trim();
    let mut parts = content_type.split(';');
    let media_type = parts.next().unwrap_or_default();
    if !content_type.is_empty() && media_type != MEDIA_TYPE {
        return Err(format!(
            "expected {MEDIA_TYPE} as the first (media) part, got {content_type} content-type"
        ));
    }
    let mut message = Message::V1;
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=').filter(|(_, value)| !value.contains('=')) else {
            return Err(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {parameter} in {content_type} content-type"
            ));
        };
        if name.trim() == "proto" {
            let name = value.trim();
            message = Message::from_name(name).ok_or_else(|| {
                format!(
                    "got {content_type} content type; unknown type for remote write protobuf message {name}, supported: {}",
                    list(&Message::ALL)
                )
            })?;
            break;
        }
    }
    if !accepted.contains(&message) {
        return Err(format!(
            "{} protobuf message is not accepted by this server; only accepts {}",
            message.name(),
            list(accepted)
        ));
    }
    Ok(message)
}

fn list(messages: &[Message]) -> String {
    messages.iter().map(|message| message.name()).collect::<Vec<_>>().join(", ")
}
