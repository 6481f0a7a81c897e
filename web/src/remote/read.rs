//! `/api/v1/read`: samples or chunks of the local store for another server.
//!
//! Compat: prometheus `storage/remote/read_handler.go` and `codec.go`, `DecodeReadRequest`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::wire::remote_read::ResponseType;

use super::Counted;
use super::body::{self, BODY_BYTES_MAX, BodyError, SnappyError};
use super::pieces::{self, Pieces, Sender};
use crate::api::Shared;
use crate::routes::text_error;
use crate::view::remote::{Answer, ReadError};

/// What the decoder says that upstream has for reads; for writes it has another.
const CORRUPT: &str = "snappy: corrupt input";

impl Answer for Sender<ResponseType> {
    fn begin(&mut self, kind: ResponseType) -> Result<(), ReadError> {
        self.head(kind)
    }

    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), ReadError> {
        Self::piece(self, bytes)
    }
}

pub(crate) async fn read(State(api): Shared, request: Request) -> Response {
    let body = match api.remote.bodies.read(request.into_body()).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => return refusal(ReadError::Request(CORRUPT.to_owned())),
        Err(BodyError::Busy) => {
            let text = "too many requests are being received at the moment\n";
            return text_error(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        Err(BodyError::Broken(text)) => return refusal(ReadError::Request(text)),
    };
    // Only now, so that a client that sends slowly holds up nobody.
    let counted = Counted::new(&api.remote.n_reads);
    let acquired = Arc::clone(&api.remote.reads).acquire_owned();
    let Ok(turn) = tokio::time::timeout(api.engine.options().timeout, acquired).await else {
        let text = "too many remote reads are being answered at the moment\n";
        return text_error(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let turn = turn.expect("the semaphore is never closed");
    let body = body.into_bytes();
    let reader = Arc::clone(&api.remote.reader);
    let mut pieces = pieces::spawn(pieces::TIME_MAX, move |sender| {
        // Given back when the thread is free, even if nobody waits for the answer any more.
        let _turn = (turn, counted);
        reader.read(&decode(&body)?, sender)
    });
    let answered = match pieces.head().await {
        Ok(ResponseType::Samples) => samples(pieces).await,
        Ok(ResponseType::StreamedChunks) => chunks(pieces).await,
        Err(e) => Err(e),
    };
    answered.unwrap_or_else(refusal)
}

fn decode(encoded: &[u8]) -> Result<Vec<u8>, ReadError> {
    body::decode(encoded).map_err(|e| {
        ReadError::Request(match e {
            SnappyError::Corrupt => CORRUPT.to_owned(),
            SnappyError::TooLarge(n) => {
                format!("snappy: decoded length {n} exceeds limit {BODY_BYTES_MAX}")
            }
        })
    })
}

/// What is told of an answer that there is not.
pub(crate) fn refusal(error: ReadError) -> Response {
    match error {
        ReadError::Request(text) => text_error(StatusCode::BAD_REQUEST, format!("{text}\n")),
        ReadError::Storage(text) => text_error(StatusCode::INTERNAL_SERVER_ERROR, format!("{text}\n")),
        ReadError::Gone => text_error(StatusCode::INTERNAL_SERVER_ERROR, "the client is gone\n"),
    }
}

async fn samples(pieces: Pieces<ResponseType>) -> Result<Response, ReadError> {
    let message = pieces.gather().await?;
    let storage = |e: &dyn std::fmt::Display| ReadError::Storage(e.to_string());
    let encoded = tokio::task::spawn_blocking(move || snap::raw::Encoder::new().compress_vec(&message))
        .await
        .map_err(|e| storage(&e))?
        .map_err(|e| storage(&e))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
        (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
    ];
    Ok((headers, encoded).into_response())
}

async fn chunks(pieces: Pieces<ResponseType>) -> Result<Response, ReadError> {
    let content_type =
        HeaderValue::from_static("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    Ok(([(header::CONTENT_TYPE, content_type)], pieces.into_body().await?).into_response())
}
