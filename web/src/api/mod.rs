//! The routes and what they share: readiness, CORS, compression, limits.
//!
//! Compat: prometheus `web/web.go` and `web/api/v1/api.go`, `Register`.

pub mod v1;
pub mod v2;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use model::Regex;
use model::storage::Queryable;
use tower_http::compression::CompressionLayer;

use crate::params::FORM_BYTES_MAX;
use crate::ui;
use crate::view::{Lifecycle, RuleSource, StatusSource, TargetSource};

/// All that the routes ask.
pub struct Api {
    pub engine: Arc<promql::Engine>,
    pub storage: Arc<dyn Queryable>,
    pub targets: Arc<dyn TargetSource>,
    pub rules: Arc<dyn RuleSource>,
    pub status: Arc<dyn StatusSource>,
    pub lifecycle: Arc<dyn Lifecycle>,
    pub options: Options,
}

/// How the routes are served.
#[derive(Debug)]
pub struct Options {
    /// `/-/reload` and `/-/quit` work.
    pub enable_lifecycle: bool,
    /// The path under which everything lies: empty or `/prefix`.
    pub route_prefix: String,
    /// Origins that may read answers, anchored; `None` for all.
    pub cors_origin: Option<Arc<Regex>>,
    /// The clock, in ms since the epoch.
    pub now: fn() -> i64,
}

type Shared = State<Arc<Api>>;

/// Everything the server answers; `extra` routes (the Alertmanager's) stand beside ours.
pub fn router(api: Arc<Api>, extra: Router) -> Router {
    let guarded = Router::new()
        .nest("/api/v1", v1::router())
        .route("/-/reload", post(reload).put(reload))
        .route("/-/quit", post(quit).put(quit))
        .route("/-/ready", get(ready).head(ready))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), require_ready));
    let open = Router::new()
        .route("/api/v1/status/walreplay", get(v1::status::walreplay))
        .route("/-/healthy", get(healthy).head(healthy))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .merge(ui::router());
    let prefix = api.options.route_prefix.clone();
    let compressed = guarded
        .merge(open)
        .with_state(Arc::clone(&api))
        .merge(extra)
        .layer(CompressionLayer::new().gzip(true).deflate(true))
        .layer(middleware::from_fn_with_state(api, cors))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX));
    if prefix.is_empty() {
        return compressed;
    }
    let home = format!("{prefix}/");
    Router::new().nest(&prefix, compressed).route("/", any(move || async move { Redirect::temporary(&home) }))
}

async fn healthy() -> &'static str {
    "Prometheus Server is Healthy.\n"
}

async fn ready() -> &'static str {
    "Prometheus Server is Ready.\n"
}

async fn metrics(State(api): Shared) -> Response {
    let content_type =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    ([(header::CONTENT_TYPE, content_type)], api.status.metrics()).into_response()
}

async fn version(State(api): Shared) -> Response {
    let mut body = Vec::new();
    crate::json::write_serialized(&mut body, &api.status.build_info());
    crate::json::response(StatusCode::OK, body)
}

async fn reload(State(api): Shared) -> Response {
    if !api.options.enable_lifecycle {
        return lifecycle_disabled();
    }
    match api.lifecycle.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(e) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {e}\n")).into_response()
        }
    }
}

async fn quit(State(api): Shared) -> Response {
    if !api.options.enable_lifecycle {
        return lifecycle_disabled();
    }
    api.lifecycle.quit();
    "Requesting termination... Goodbye!".into_response()
}

fn lifecycle_disabled() -> Response {
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.").into_response()
}

/// Until the store is replayed, and while the server stops, nothing that needs them answers.
async fn require_ready(State(api): Shared, request: Request, next: Next) -> Response {
    if api.status.is_ready() {
        return next.run(request).await;
    }
    let stopping = if api.status.is_stopping() { "true" } else { "false" };
    let stopping = [(HeaderName::from_static("x-prometheus-stopping"), HeaderValue::from_static(stopping))];
    (StatusCode::SERVICE_UNAVAILABLE, stopping, "Service Unavailable").into_response()
}

/// Lets pages of the allowed origins read the answers.
async fn cors(State(api): Shared, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = *request.method() == Method::OPTIONS && request.uri().path().contains("/api/");
    let mut response =
        if is_preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    set_cors(response.headers_mut(), origin.as_ref(), api.options.cors_origin.as_deref());
    response
}

fn set_cors(headers: &mut HeaderMap, origin: Option<&HeaderValue>, allowed: Option<&Regex>) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return };
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    match allowed {
        None => drop(headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))),
        Some(allowed) if allowed.is_match(origin.as_bytes()) => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        Some(_) => {}
    }
}
