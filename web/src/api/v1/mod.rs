//! `/api/v1`.
//!
//! Compat: prometheus `web/api/v1/api.go` (3.14).

mod admin;
mod explain;
mod features;
mod live;
mod metadata;
pub(crate) mod openapi;
mod query;
mod relabel;
mod rules;
pub mod search;
mod series;
mod status;
mod targets;
mod top;

use axum::response::Response;
use serde::Serialize;

use crate::error::ApiError;
use crate::json;
use crate::remote;
use crate::routes::{GET, GET_POST, POST, POST_PUT, Routes};

/// The answer of a handler; the error writes itself.
type Answer = Result<Response, ApiError>;

/// What is answered once the server is ready.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .on(GET_POST, "/query", query::query)
        .on(GET_POST, "/query_range", query::query_range)
        .on(GET_POST, "/query_exemplars", query::query_exemplars)
        .on(GET_POST, "/format_query", query::format_query)
        .on(GET_POST, "/parse_query", query::parse_query)
        .on(GET_POST, "/explain_query", query::explain_query)
        .on(GET_POST, "/series", series::series)
        .on(GET_POST, "/labels", series::labels)
        .on(GET, "/label/{name}/values", series::label_values)
        .on(GET, "/metadata", metadata::metadata)
        .on(GET, "/targets", targets::targets)
        .on(GET, "/targets/metadata", metadata::target_metadata)
        .on(GET, "/targets/relabel_steps", relabel::relabel_steps)
        .on(GET, "/scrape_pools", targets::scrape_pools)
        .on(GET, "/scrape_pools/config", relabel::pool_config)
        .on(GET, "/discovery", targets::discovery)
        .on(GET, "/rules", rules::rules)
        .on(GET, "/alerts", rules::alerts)
        .on(GET_POST, "/alerts/explain", explain::explain)
        .on(GET, "/alertmanagers", status::alertmanagers)
        .on(GET, "/status/config", status::config)
        .on(GET, "/status/flags", status::flags)
        .on(GET, "/status/runtimeinfo", status::runtime_info)
        .on(GET, "/status/buildinfo", status::build_info)
        .on(GET, "/status/tsdb", status::tsdb)
        .on(GET, "/status/tsdb/blocks", status::blocks)
        .on(GET, "/status/self_metrics", super::exposition::self_metrics)
        .on(GET, "/status/top_queries", top::top_queries)
        .on(GET, "/features", features::features)
        .on(POST_PUT, "/admin/tsdb/delete_series", admin::delete_series)
        .on(POST_PUT, "/admin/tsdb/clean_tombstones", admin::clean_tombstones)
        .on(POST_PUT, "/admin/tsdb/snapshot", admin::snapshot)
}

/// What is never compressed, because it is sent line by line.
pub(super) fn streams(routes: Routes) -> Routes {
    routes
        .on(GET_POST, "/search/metric_names", search::metric_names)
        .on(GET_POST, "/search/label_names", search::label_names)
        .on(GET_POST, "/search/label_values", search::label_values)
}

/// What only other programs ask, not pages of other origins.
pub(super) fn receivers(routes: Routes) -> Routes {
    routes
        .on(POST, "/write", remote::write::write)
        .on(POST, "/read", remote::read::read)
        .on(POST, "/otlp/v1/metrics", crate::remote::otlp::metrics)
        .on(GET, "/openapi.yaml", openapi::openapi)
}

/// What is answered before, too.
pub(super) fn early_routes(routes: Routes) -> Routes {
    routes.on(GET, "/status/walreplay", status::walreplay).on(GET, "/notifications", live::notifications).on(
        GET,
        "/notifications/live",
        live::live,
    )
}

/// A successful answer whose data is small enough for the general encoder.
#[expect(clippy::unnecessary_wraps, reason = "the last expression of every handler")]
fn ok<T: Serialize>(data: &T) -> Answer {
    Ok(json::success(|out| json::write_serialized(out, data), &[], &[]))
}

fn truncation_warning(truncated: bool) -> &'static [String] {
    static WARNING: std::sync::LazyLock<[String; 1]> =
        std::sync::LazyLock::new(|| ["results truncated due to limit".to_owned()]);
    if truncated { &*WARNING } else { &[] }
}

/// A boolean as Go reads it. Compat: Go `strconv.ParseBool`.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "unable to parse boolean: strconv.ParseBool: parsing {}: invalid syntax",
            model::quote::go_quote(text.as_bytes())
        )),
    }
}
