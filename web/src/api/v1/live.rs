//! `/notifications` and `/notifications/live`: what users should know, as a list and as it changes.
//!
//! Compat: prometheus `web/api/v1/api.go`, `notifications` and `notificationsSSE`.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};

use super::{Answer, ok};
use crate::api::Shared;
use crate::json;

/// How long nothing may be sent. A comment tells those between that the connection is alive, and us that the client is not.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// Answers before the server is ready.
pub(super) async fn notifications(State(api): Shared) -> Answer {
    ok(&api.notifications.list())
}

/// Server-sent events, one for each notification; nothing where there are listeners enough.
pub(super) async fn live(State(api): Shared) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONNECTION, HeaderValue::from_static("keep-alive")),
    ];
    let Some(subscription) = api.notifications.subscribe() else {
        return (StatusCode::NO_CONTENT, headers).into_response();
    };
    let events = stream::unfold(subscription, |mut subscription| async move {
        let event = match tokio::time::timeout(QUIET_MAX, subscription.next()).await {
            Ok(news) => {
                let mut event = b"data: ".to_vec();
                json::write_serialized(&mut event, &news?);
                event.extend_from_slice(b"\n\n");
                event
            }
            Err(_) => b":\n\n".to_vec(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(event)), subscription))
    });
    (headers, Body::from_stream(events)).into_response()
}
