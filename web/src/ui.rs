//! The page, embedded compressed, and the files that users put beside it.
//!
//! `make` builds `web/ui` into `web/ui/dist` before the binary and `build.rs` turns that folder into the
//! table below; without it a small page says how to get the full one.
//!
//! Every path of Prometheus' own page answers with ours, so that old links keep working.
//!
//! Compat: prometheus `web/web.go`, the routes of the page and of user assets.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tower_http::services::ServeDir;

use crate::api::Api;
use crate::consoles::Consoles;
use crate::routes::{GET, Routes, not_found, redirect};

/// A file of the page: as it is served, and as it is stored.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    raw: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What the page is told, and what lies beside it.
#[derive(Clone, Debug)]
pub struct Page {
    pub title: String,
    pub consoles: Consoles,
    /// Served under `/user`.
    pub user_assets: Option<PathBuf>,
    /// The URL under which users find the server, without a slash at the end.
    pub external_url: String,
    /// As a duration is written.
    pub lookback_delta: String,
}

/// The views of the page, which reads its own URL.
const VIEWS: [&str; 11] = [
    "/query",
    "/alerts",
    "/silences",
    "/targets",
    "/status",
    "/rules",
    "/service-discovery",
    "/alertmanager-discovery",
    "/config",
    "/flags",
    "/tsdb-status",
];

/// What browsers ask for beside the page, and the file that answers. All of them take a drawing for an icon of old.
const BESIDE: [(&str, &str); 3] =
    [("/favicon.svg", "favicon.svg"), ("/favicon.ico", "favicon.svg"), ("/manifest.json", "manifest.json")];

/// Paths of older pages of Prometheus, and where the same is now.
const MOVED: [(&str, &str); 2] = [("/graph", "/query"), ("/classic/graph", "/query")];

pub(crate) fn routes(mut routes: Routes) -> Routes {
    routes = routes.on(GET, "/assets/{*path}", asset).on(GET, "/", home);
    for (path, file) in BESIDE {
        routes = routes.on(GET, path, async move |headers: HeaderMap| serve(file, &headers));
    }
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

/// The files of users, where there are any. Folders are not listed.
pub(crate) fn user_routes(routes: Routes, page: &Page) -> Router<Arc<Api>> {
    let Some(folder) = &page.user_assets else { return Router::new() };
    let files = ServeDir::new(folder)
        .append_index_html_on_directories(true)
        .fallback(tower::service_fn(async |_: Request<Body>| Ok::<_, Infallible>(not_found().await)));
    let serve = async move |State(api): State<Arc<Api>>, mut request: Request| -> Response {
        let prefix = format!("{}/user", api.options.route_prefix);
        let below = request.uri().path_and_query().and_then(|path| path.as_str().strip_prefix(&prefix));
        let Some(Ok(uri)) = below.map(str::parse::<http::Uri>) else { return not_found().await };
        let path = uri.path().to_owned();
        if path.ends_with("/index.html") {
            return moved_to("./");
        }
        *request.uri_mut() = uri;
        let Ok(response) = tower::ServiceExt::oneshot(files, request).await;
        if response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED {
            // It knows nothing of where it lies, so the way is told from where the client is.
            let name = path.rsplit('/').next().unwrap_or_default();
            return moved_to(&format!("{name}/"));
        }
        with_charset(response.map(Body::new))
    };
    routes.on(GET, "/user/{*path}", serve).into_router()
}

/// A redirect as Go's file server writes it.
fn moved_to(relative: &str) -> Response {
    match HeaderValue::from_str(relative) {
        Ok(location) => (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Texts of users are UTF-8.
fn with_charset(mut response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if let Some(kind) = kind.filter(|kind| kind.starts_with("text/") && !kind.contains("charset")) {
        let kind = HeaderValue::from_str(&format!("{kind}; charset=utf-8")).expect("it was a header's value");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

async fn home(State(api): State<Arc<Api>>) -> Response {
    redirect(StatusCode::FOUND, &format!("{}/query", api.options.external_path))
}

fn moved(api: &Api, query: Option<&str>, new: &str) -> Response {
    let query = query.unwrap_or_default();
    redirect(StatusCode::FOUND, &format!("{}{new}?{query}", api.options.external_path))
}

/// The page itself, told what it cannot know.
async fn index(State(api): State<Arc<Api>>) -> Response {
    let Some(page) = ASSETS.iter().find(|asset| asset.path == "index.html") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let options = &api.options.page;
    let told = [
        ("CONSOLES_LINK_PLACEHOLDER", consoles_link(&api)),
        ("TITLE_PLACEHOLDER", options.title.clone()),
        ("AGENT_MODE_PLACEHOLDER", "false".to_owned()),
        ("READY_PLACEHOLDER", api.status.is_ready().to_string()),
        ("LOOKBACKDELTA_PLACEHOLDER", options.lookback_delta.clone()),
        ("PATH_PREFIX_PLACEHOLDER", api.options.external_path.clone()),
    ];
    let mut text = String::from_utf8_lossy(page.raw).into_owned();
    for (placeholder, value) in told {
        text = text.replace(placeholder, &crate::actions::escaped(&value));
    }
    let headers = [(header::CONTENT_TYPE, page.content_type), (header::CACHE_CONTROL, "no-cache")];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), text).into_response()
}

/// Where the link to the consoles leads; empty if there are none.
fn consoles_link(api: &Api) -> String {
    let page = &api.options.page;
    let folders = [(Some(&page.consoles.templates), "consoles"), (page.user_assets.as_ref(), "user")];
    let found = folders
        .into_iter()
        .find(|(folder, _)| folder.is_some_and(|folder| folder.join("index.html").exists()));
    found.map_or_else(String::new, |(_, name)| format!("{}/{name}/index.html", api.options.external_path))
}

async fn asset(path: Option<Path<String>>, headers: HeaderMap) -> Response {
    serve(&format!("assets/{}", path.map(|Path(path)| path).unwrap_or_default()), &headers)
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return crate::routes::text_error(StatusCode::NOT_FOUND, "404 page not found\n");
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
    // Names of assets change with their content.
    let caching =
        if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    out.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}
