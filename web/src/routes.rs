//! The table of routes: which methods each takes, and what every route has in common.
//!
//! A method that a route does not take, and a path that none has, get the answers of Go's routers. Requests
//! that reach a handler are counted under the route's pattern.
//!
//! Compat: julienschmidt/httprouter as prometheus `common/route` sets it up.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tokio::sync::Semaphore;

use crate::api::Api;
use crate::compression::Encoding;
use crate::security::origin::Origins;
use crate::{metrics, stream};

pub(crate) const GET: &[Method] = &[Method::GET];
pub(crate) const GET_HEAD: &[Method] = &[Method::GET, Method::HEAD];
pub(crate) const GET_POST: &[Method] = &[Method::GET, Method::POST];
pub(crate) const POST: &[Method] = &[Method::POST];
pub(crate) const POST_PUT: &[Method] = &[Method::POST, Method::PUT];
/// All that a handler which refuses some itself can be asked.
pub(crate) const GET_POST_PUT: &[Method] = &[Method::GET, Method::POST, Method::PUT];

/// Routes under construction.
pub(crate) struct Routes {
    /// In front of every pattern, but not in the counts.
    prefix: String,
    /// In front of every pattern, in the counts too.
    base: &'static str,
    metrics: Arc<metrics::Metrics>,
    /// The turns of those who compress, if answers are compressed.
    compressed: Option<Arc<Semaphore>>,
    answers: Arc<Semaphore>,
    origins: Arc<Origins>,
    router: Router<Arc<Api>>,
}

/// One route as its layer sees it.
#[derive(Clone)]
struct Route {
    methods: &'static [Method],
    metrics: Arc<metrics::Handler>,
    compressed: Option<Arc<Semaphore>>,
    /// Whose pages may use it, if it changes something.
    origins: Option<Arc<Origins>>,
}

impl Routes {
    pub(crate) fn new(api: &Api, base: &'static str) -> Self {
        Self {
            prefix: api.options.route_prefix.clone(),
            base,
            metrics: Arc::clone(&api.metrics),
            compressed: None,
            answers: Arc::clone(&api.answers),
            origins: Arc::clone(&api.options.origins),
            router: Router::new(),
        }
    }

    /// Answers of the routes that follow are compressed for those who can read that.
    pub(crate) fn compressed(mut self) -> Self {
        self.compressed = Some(Arc::clone(&self.answers));
        self
    }

    /// Adds a route; its pattern is written as axum does.
    pub(crate) fn on<H, T>(mut self, methods: &'static [Method], pattern: &str, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        let pattern = format!("{}{pattern}", self.base);
        let metrics = self.metrics.handler(&counted_as(&pattern));
        // Where GET does the same, POST is for long parameters.
        let changes = methods != GET_POST;
        let origins = changes.then(|| Arc::clone(&self.origins));
        let route = Route { methods, metrics, compressed: self.compressed.clone(), origins };
        let handler = any(handler).layer(middleware::from_fn_with_state(route, pass));
        let path = format!("{}{pattern}", self.prefix);
        // A folder is one with and, by a redirect, without its slash.
        if let Some((folder, _)) = path.split_once("/{*") {
            self.router =
                self.router.route(&format!("{folder}/"), handler.clone()).route(folder, any(to_folder));
        }
        self.router = self.router.route(&path, handler);
        self
    }

    pub(crate) fn into_router(self) -> Router<Arc<Api>> {
        self.router
    }
}

/// `/label/{name}/values` as upstream's router spells it: `/label/:name/values`.
fn counted_as(pattern: &str) -> String {
    pattern.replace("{*", "*").replace('{', ":").replace('}', "")
}

async fn pass(State(route): State<Route>, request: Request, next: Next) -> Response {
    if route.methods.contains(request.method()) {
        let visit = route.metrics.visit();
        let refusal = route
            .origins
            .as_ref()
            .map_or(Ok(()), |origins| origins.check(request.method(), request.uri(), request.headers()));
        if let Err(refusal) = refusal {
            return visit.answered(*refusal);
        }
        let encoding = Encoding::accepted(request.headers());
        let mut response = next.run(request).await;
        if let Some(turns) = &route.compressed {
            response = stream::encoded(response, encoding, turns).await;
        }
        return visit.answered(response);
    }
    let mut allowed: Vec<_> = route.methods.iter().map(Method::as_str).chain(["OPTIONS"]).collect();
    allowed.sort_unstable();
    let allowed = HeaderValue::from_str(&allowed.join(", ")).expect("methods are ASCII");
    let mut response = if *request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else {
        text_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
    };
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// Sends whoever asks for a path with empty, `.` or `..` segments to the path that is meant, method and body kept: many a
/// URL of a data source ends in a slash.
///
/// Compat: Go `net/http`, `ServeMux`.
pub(crate) async fn clean_path(request: Request, next: Next) -> Response {
    let Some(clean) = cleaned(request.uri().path()) else { return next.run(request).await };
    let to = match request.uri().query() {
        Some(query) => format!("{clean}?{query}"),
        None => clean,
    };
    redirect(StatusCode::TEMPORARY_REDIRECT, &to)
}

/// The path without such segments, if it has any.
fn cleaned(path: &str) -> Option<String> {
    let is_odd = ["//", "/./", "/../"].iter().any(|part| path.contains(part));
    if !is_odd && !path.ends_with("/.") && !path.ends_with("/..") {
        return None;
    }
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", kept.join("/")))
}

async fn to_folder(method: Method, uri: Uri) -> Response {
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let status =
        if method == Method::GET { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
    redirect(status, &format!("{}/{query}", uri.path()))
}

/// The answer where there is no route.
pub(crate) async fn not_found() -> Response {
    text_error(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// An error as Go's `http.Error` writes it.
pub(crate) fn text_error(status: StatusCode, text: impl Into<String>) -> Response {
    let no_sniffing =
        [(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"))];
    (status, no_sniffing, text.into()).into_response()
}

/// A redirect as Go's `http.Redirect` writes it.
pub(crate) fn redirect(status: StatusCode, to: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(to) else {
        return text_error(StatusCode::BAD_REQUEST, "400 Bad Request\n");
    };
    let shown = to
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    let text = status.canonical_reason().unwrap_or_default();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [(header::LOCATION, location), (header::CONTENT_TYPE, html)];
    (status, headers, format!("<a href=\"{shown}\">{text}</a>.\n\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::cleaned;

    #[test]
    fn odd_segments_are_taken_out_of_paths() {
        for (path, want) in [
            ("//", "/"),
            ("//api/v1/query", "/api/v1/query"),
            ("/api//v1/./query/", "/api/v1/query/"),
            ("/a/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/.", "/a"),
            ("//evil.example/x", "/evil.example/x"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(want), "{path}");
        }
        for path in ["/", "/a", "/a/", "/a/.b/..c/d..", "*", "/a%2f%2fb"] {
            assert_eq!(cleaned(path), None, "{path}");
        }
    }
}
