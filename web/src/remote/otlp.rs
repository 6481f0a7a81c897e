//! `POST /otlp/v1/metrics`: headers, bodies and status codes of the OpenTelemetry protocol.
//!
//! A body is bounded before and after it is inflated, all bodies that are waited for are together, and so is the number
//! that is worked on at a time.
//!
//! Compat: prometheus `storage/remote`, `DecodeOTLPWriteRequest` and `otlpWriteHandler`. A body that is too long is
//! refused as such, where upstream decodes what fits.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::Semaphore;

use crate::api::Api;
use crate::routes::text_error;
use crate::view::otlp::{Encoding, Receiver, Refusal};

/// The longest body, as sent and inflated.
const BODY_BYTES_MAX: usize = 32 << 20;

/// As much of all bodies at a time is held in memory before somebody works on them.
const WAITING_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// As many requests are worked on at a time; more wait.
const TURNS: usize = 8;

/// The receiver and what bounds its work.
pub struct Otlp {
    receiver: Arc<dyn Receiver>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Otlp {
    pub fn new(receiver: Arc<dyn Receiver>) -> Self {
        Self { receiver, turns: Arc::new(Semaphore::new(TURNS)), waiting: AtomicUsize::new(0) }
    }
}

pub(crate) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Response {
    let Some(otlp) = api.otlp.clone() else {
        let text = "otlp write receiver needs to be enabled with --web.enable-otlp-receiver\n";
        return text_error(StatusCode::NOT_FOUND, text);
    };
    let (parts, body) = request.into_parts();
    let read = match encodings(&parts.headers) {
        Ok((encoding, is_compressed)) => {
            read(&otlp.waiting, body).await.map(|received| (encoding, is_compressed, received))
        }
        Err(text) => Err(Refusal::Invalid(text)),
    };
    let refusal = match read {
        Err(refusal) => Some(refusal),
        Ok((encoding, is_compressed, received)) => {
            let turn = Arc::clone(&otlp.turns).acquire_owned().await;
            let bytes = received.into_bytes();
            let receiver = Arc::clone(&otlp.receiver);
            let work = move || {
                let _turn = turn;
                let bytes = if is_compressed { inflate(&bytes)? } else { bytes };
                receiver.receive(&bytes, encoding)
            };
            let done = tokio::task::spawn_blocking(work).await;
            let broken = |_| Err(Refusal::Failed("the request could not be worked on to its end".to_owned()));
            done.unwrap_or_else(broken).err()
        }
    };
    let (status, mut text) = match refusal {
        None => return StatusCode::OK.into_response(),
        Some(Refusal::Invalid(text)) => (StatusCode::BAD_REQUEST, text),
        Some(Refusal::Failed(text)) => (StatusCode::INTERNAL_SERVER_ERROR, text),
        Some(Refusal::Unavailable(text)) => (StatusCode::SERVICE_UNAVAILABLE, text),
    };
    tracing::debug!(status = status.as_u16(), text, "OTLP request refused");
    text.push('\n');
    text_error(status, text)
}

/// How the request is written, and whether it is compressed.
fn encodings(headers: &HeaderMap) -> Result<(Encoding, bool), String> {
    let get = |name| headers.get(name).map_or("".into(), |value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = get(header::CONTENT_TYPE);
    let encoding = match &*content_type {
        "application/x-protobuf" => Encoding::Protobuf,
        "application/json" => Encoding::Json,
        _ => {
            return Err(format!(
                "unsupported content type: {content_type}, supported: [application/json, application/x-protobuf]"
            ));
        }
    };
    let compression = get(header::CONTENT_ENCODING);
    match &*compression {
        "" => Ok((encoding, false)),
        "gzip" => Ok((encoding, true)),
        _ => {
            Err(format!("unsupported compression: {compression}. Only \"gzip\" or no compression supported"))
        }
    }
}

/// A body and its share of what may wait.
struct Received<'w> {
    bytes: Vec<u8>,
    waiting: &'w AtomicUsize,
    reserved: usize,
}

impl Received<'_> {
    fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

async fn read(waiting: &AtomicUsize, body: Body) -> Result<Received<'_>, Refusal> {
    let mut received = Received { bytes: Vec::new(), waiting, reserved: 0 };
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Refusal::Invalid(format!("read the request: {error}")))?;
        if received.bytes.len() + piece.len() > BODY_BYTES_MAX {
            return Err(too_long());
        }
        received.reserved += piece.len();
        if waiting.fetch_add(piece.len(), Ordering::Relaxed) + piece.len() > WAITING_BYTES_MAX {
            return Err(Refusal::Unavailable("too many requests are being received".to_owned()));
        }
        received.bytes.extend_from_slice(&piece);
    }
    Ok(received)
}

fn too_long() -> Refusal {
    Refusal::Invalid(format!("request too long: more than {BODY_BYTES_MAX} bytes when decompressed"))
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    let inflated = MultiGzDecoder::new(bytes).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut out);
    let n = inflated.map_err(|error| {
        Refusal::Invalid(match error.kind() {
            io::ErrorKind::UnexpectedEof if bytes.is_empty() => "EOF".to_owned(),
            io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            io::ErrorKind::InvalidInput => "gzip: invalid header".to_owned(),
            _ => format!("gzip: {error}"),
        })
    })?;
    if n > BODY_BYTES_MAX { Err(too_long()) } else { Ok(out) }
}

#[cfg(test)]
mod tests;
