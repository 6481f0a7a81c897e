//! The page, embedded compressed.
//!
//! `make` builds `web/ui` into `web/ui/dist` before the binary and `build.rs` turns that folder into the
//! table below; without it a small page says how to get the full one.
//!
//! Every path of Prometheus' own page answers with ours, so that old links keep working.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::api::Api;
use crate::routes::{GET, Routes, redirect};

/// A file of the page: as it is served, and as it is stored.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    raw: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The views of the page, which reads its own URL.
const VIEWS: [&str; 5] = ["/query", "/targets", "/alerts", "/silences", "/status"];

/// Views of Prometheus' page, and where ours shows the same.
const MOVED: [(&str, &str); 8] = [
    ("/graph", "/query"),
    ("/classic/graph", "/query"),
    ("/rules", "/alerts"),
    ("/service-discovery", "/targets"),
    ("/alertmanager-discovery", "/status"),
    ("/config", "/status"),
    ("/flags", "/status"),
    ("/tsdb-status", "/status"),
];

pub(crate) fn routes(mut routes: Routes) -> Routes {
    routes = routes.on(GET, "/assets/{*path}", asset).on(GET, "/favicon.svg", favicon).on(GET, "/", home);
    for view in VIEWS {
        routes = routes.on(GET, view, index);
    }
    for (old, new) in MOVED {
        routes = routes.on(GET, old, async move |State(api): State<Arc<Api>>, RawQuery(query): RawQuery| {
            moved(&api, query.as_deref(), new)
        });
    }
    routes
}

async fn home(State(api): State<Arc<Api>>) -> Response {
    redirect(StatusCode::FOUND, &format!("{}/query", api.options.external_path))
}

fn moved(api: &Api, query: Option<&str>, new: &str) -> Response {
    let query = query.unwrap_or_default();
    redirect(StatusCode::FOUND, &format!("{}{new}?{query}", api.options.external_path))
}

async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

async fn favicon(headers: HeaderMap) -> Response {
    serve("favicon.svg", &headers)
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&format!("assets/{path}"), &headers)
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let has = |name: header::HeaderName, text: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(text))
    };
    let mut response = if has(header::IF_NONE_MATCH, asset.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if has(header::ACCEPT_ENCODING, "gzip") {
        ([(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))], asset.gzip).into_response()
    } else {
        asset.raw.into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    out.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}
