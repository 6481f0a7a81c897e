//! Our own metrics as answers: `/metrics` for scrapes, `/api/v1/status/self_metrics` for programs.
//!
//! Compat: `client_golang`, `promhttp.Handler` without OpenMetrics and zstd, which a release of Prometheus does not offer;
//! prometheus `web/api/v1/api.go`, `selfMetrics`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use model::Regex;
use model::wire::encode::{self, Family};
use model::wire::expose::{Expose, Exposition};

use super::{Api, Shared};
use crate::error::ApiError;
use crate::json;
use crate::params::Params;

/// All families by name.
fn gather(api: &Api) -> Vec<Family<'static>> {
    let mut out = Exposition::default();
    api.metrics.expose(&mut out);
    api.remote.expose(&mut out);
    api.notifications.expose(&mut out);
    api.searches.expose(&mut out);
    api.status.expose(&mut out);
    out.into_families()
}

/// In the form that is asked for; `name[]` picks families.
pub(super) async fn metrics(State(api): Shared, headers: HeaderMap, params: Params) -> Response {
    let _in_flight = api.metrics.begin_scrape();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (format, escaping) = encode::negotiate(accept);
    let names: Vec<&str> = params.all("name[]").collect();
    let is_wanted =
        |family: &Family<'_>| names.is_empty() || names.iter().any(|name| *family.name == *name.as_bytes());
    let mut body = Vec::new();
    for family in gather(&api).iter().filter(|family| is_wanted(family)) {
        encode::write_family(&mut body, family, format, escaping);
    }
    let content_type = encode::content_type(format, escaping);
    let content_type = HeaderValue::from_str(&content_type).expect("media types are ASCII");
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// As a list of protobuf messages written as JSON.
pub(super) async fn self_metrics(State(api): Shared, params: Params) -> Result<Response, ApiError> {
    let pattern = params.get("metric_name_pattern");
    let pattern = (!pattern.is_empty())
        .then(|| Regex::unanchored(format!("^(?:{pattern})$").as_bytes()))
        .transpose()
        .map_err(|e| ApiError::bad_data(format!("invalid metric_name_pattern: {e}")))?;
    let families = gather(&api);
    let wanted = families.iter().filter(|family| pattern.as_ref().is_none_or(|p| p.is_match(&family.name)));
    Ok(json::success(|out| json::write_list(out, wanted, encode::write_json), &[], &[]))
}
