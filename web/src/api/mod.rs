//! The routes and what they share: readiness, CORS, compression, limits.
//!
//! Compat: prometheus `web/web.go` and `web/api/v1/api.go`, `Register`.

mod exposition;
pub mod v1;
pub mod v2;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use model::Regex;
use model::storage::{ExemplarQueryable, Queryable};
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;

use crate::federate;
use v1::search::Searches;

use crate::consoles::console;
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::params::FORM_BYTES_MAX;
use crate::remote::Remote;
use crate::routes::{GET, GET_HEAD, GET_POST_PUT, Routes, clean_path, not_found, redirect, text_error};
use crate::security::origin;
pub use crate::security::origin::Origins;
use crate::view::running::Running;
use crate::view::story::StorySource;
use crate::view::{Lifecycle, RuleSource, StatusSource, TargetSource, TsdbAdmin};
use crate::{debug, ui};

/// All that the routes ask.
pub struct Api {
    pub engine: Arc<promql::Engine>,
    pub storage: Arc<dyn Queryable>,
    pub exemplars: Arc<dyn ExemplarQueryable>,
    pub targets: Arc<dyn TargetSource>,
    pub rules: Arc<dyn RuleSource>,
    pub stories: Arc<dyn StorySource>,
    pub status: Arc<dyn StatusSource>,
    pub lifecycle: Arc<dyn Lifecycle>,
    pub admin: Arc<dyn TsdbAdmin>,
    /// Whoever takes what is sent over OTLP, if that is enabled.
    pub otlp: Option<Arc<crate::remote::otlp::Otlp>>,
    pub running: Arc<dyn Running>,
    pub notifications: Arc<Notifications>,
    pub searches: Searches,
    pub metrics: Arc<Metrics>,
    pub remote: Remote,
    /// So many queries at most are on threads that may block, whoever else needs those.
    pub queries: Arc<Semaphore>,
    /// The same for questions about series and labels.
    pub lookups: Arc<Semaphore>,
    /// Large answers are written by so many threads at once.
    pub answers: Arc<Semaphore>,
    /// Whoever changes the store through the API: one at a time, so that waiting takes no threads.
    pub admin_turn: Arc<tokio::sync::Mutex<()>>,
    /// Whoever takes a profile of the process.
    pub profiling: tokio::sync::Mutex<()>,
    pub options: Options,
}

/// How the routes are served.
#[derive(Debug)]
pub struct Options {
    /// `/-/reload` and `/-/quit` work.
    pub enable_lifecycle: bool,
    /// `/api/v1/admin/tsdb/…` works.
    pub enable_admin: bool,
    /// The path under which everything lies: empty or `/prefix`.
    pub route_prefix: String,
    /// The path under which users find it, which a proxy may have changed: empty or `/prefix`.
    pub external_path: String,
    /// Origins that may read answers, anchored; `None` for all.
    pub cors_origin: Option<Arc<Regex>>,
    /// Whose pages may change something.
    pub origins: Arc<Origins>,
    /// `/api/v1/search/…` works.
    pub enable_search: bool,
    /// The most results of a search, 0 for no limit.
    pub search_limit_max: usize,
    pub page: ui::Page,
    /// The clock, in ms since the epoch.
    pub now: fn() -> i64,
}

pub(crate) type Shared = State<Arc<Api>>;

/// Everything the server answers; `extra` routes (the Alertmanager's) stand beside ours.
pub fn router(api: Arc<Api>, extra: Option<Router>) -> Router {
    let prefix = api.options.route_prefix.clone();
    let ready = middleware::from_fn_with_state(Arc::clone(&api), require_ready);
    let cors = middleware::from_fn_with_state(Arc::clone(&api), cors);
    let v1 = v1::routes(Routes::new(&api, "/api/v1").compressed())
        .into_router()
        .route_layer(ready.clone())
        .merge(v1::streams(Routes::new(&api, "/api/v1")).into_router().route_layer(ready.clone()))
        .merge(v1::early_routes(Routes::new(&api, "/api/v1")).into_router())
        .route_layer(cors.clone())
        .merge(v1::receivers(Routes::new(&api, "/api/v1")).into_router().route_layer(ready.clone()));
    let guarded = Routes::new(&api, "")
        .on(GET_POST_PUT, "/-/reload", reload)
        .on(GET_POST_PUT, "/-/quit", quit)
        .on(GET_HEAD, "/-/ready", is_ready)
        .on(GET, "/consoles/{*path}", console)
        .into_router()
        .route_layer(ready.clone());
    let federate = Routes::new(&api, "")
        .on(GET, "/federate", federate::federate)
        .into_router()
        .route_layer(ready)
        .route_layer(CompressionLayer::new().gzip(true).deflate(true));
    let open = Routes::new(&api, "").on(GET_HEAD, "/-/healthy", healthy).on(GET, "/version", version);
    let metrics = Routes::new(&api, "")
        .on(GET, "/metrics", exposition::metrics)
        .into_router()
        .route_layer(CompressionLayer::new().gzip(true));
    let extra = extra.map_or_else(Router::new, |extra| {
        let extra = if prefix.is_empty() { extra } else { Router::new().nest(&prefix, extra) };
        let guard = middleware::from_fn_with_state(Arc::clone(&api.options.origins), origin::guard);
        extra.route_layer(guard).route_layer(CompressionLayer::new().gzip(true)).route_layer(cors)
    });
    let router = v1
        .merge(guarded)
        .merge(debug::routes(ui::routes(open)).into_router())
        .merge(ui::user_routes(Routes::new(&api, ""), &api.options.page))
        .merge(metrics)
        .merge(federate)
        .with_state(Arc::clone(&api))
        .merge(extra)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(api, preflight))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn(clean_path));
    let v1_root = format!("{prefix}/api/v1/");
    let to_root = move || async move { redirect(StatusCode::TEMPORARY_REDIRECT, &v1_root) };
    let router = router.route(&format!("{prefix}/api/v1"), get(to_root));
    if prefix.is_empty() {
        return router;
    }
    let home = format!("{prefix}/");
    let to_home = move || async move { redirect(StatusCode::MOVED_PERMANENTLY, &home) };
    let to_prefix = {
        let prefix = prefix.clone();
        move || async move { redirect(StatusCode::FOUND, &prefix) }
    };
    router.route(&prefix, get(to_home)).route("/", get(to_prefix))
}

async fn healthy(method: Method) -> Response {
    well(&method, "Prometheus Server is Healthy.\n")
}

async fn is_ready(method: Method) -> Response {
    well(&method, "Prometheus Server is Ready.\n")
}

/// Who asks for the head alone gets no word of the text.
fn well(method: &Method, text: &'static str) -> Response {
    if *method == Method::HEAD { StatusCode::OK.into_response() } else { text.into_response() }
}

async fn version(State(api): Shared) -> Response {
    let mut body = Vec::new();
    crate::json::write_serialized(&mut body, &api.status.build_info());
    body.push(b'\n');
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

async fn reload(State(api): Shared, method: Method) -> Response {
    if let Some(refusal) = lifecycle_refusal(&api, &method) {
        return refusal;
    }
    match api.lifecycle.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(e) => text_error(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {e}\n")),
    }
}

async fn quit(State(api): Shared, method: Method) -> Response {
    if let Some(refusal) = lifecycle_refusal(&api, &method) {
        return refusal;
    }
    api.lifecycle.quit();
    "Requesting termination... Goodbye!".into_response()
}

fn lifecycle_refusal(api: &Api, method: &Method) -> Option<Response> {
    if *method == Method::GET {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed").into_response());
    }
    let is_enabled = api.options.enable_lifecycle;
    (!is_enabled).then(|| (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.").into_response())
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

/// Answers what browsers ask before they ask something of the API, whatever the path.
async fn preflight(State(api): Shared, request: Request, next: Next) -> Response {
    let rest = request.uri().path().strip_prefix(api.options.route_prefix.as_str());
    let is_api = rest.is_some_and(|path| path.starts_with("/api/v1/") || path.starts_with("/api/v2/"));
    if *request.method() != Method::OPTIONS || !is_api {
        return next.run(request).await;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let origin = request.headers().get(header::ORIGIN);
    set_cors(response.headers_mut(), origin, api.options.cors_origin.as_deref());
    response
}

/// Lets pages of the allowed origins read the answers.
async fn cors(State(api): Shared, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    // Requests that no handler took are not the API's.
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        set_cors(response.headers_mut(), origin.as_ref(), api.options.cors_origin.as_deref());
    }
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
    if allowed.is_none_or(|allowed| allowed.is_match(origin.as_bytes())) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

#[cfg(test)]
mod tests;
