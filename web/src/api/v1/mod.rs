//! `/api/v1`.
//!
//! Compat: prometheus `web/api/v1/api.go` (3.14).

mod metadata;
mod query;
mod rules;
mod series;
pub(super) mod status;
mod targets;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

use super::Api;
use crate::error::ApiError;
use crate::json;

/// The answer of a handler; the error writes itself.
type Answer = Result<Response, ApiError>;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/query", get(query::query).post(query::query))
        .route("/query_range", get(query::query_range).post(query::query_range))
        .route("/format_query", get(query::format_query).post(query::format_query))
        .route("/parse_query", get(query::parse_query).post(query::parse_query))
        .route("/series", get(series::series).post(series::series))
        .route("/labels", get(series::labels).post(series::labels))
        .route("/label/{name}/values", get(series::label_values))
        .route("/metadata", get(metadata::metadata))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(metadata::target_metadata))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/alertmanagers", get(status::alertmanagers))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtime_info))
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/tsdb", get(status::tsdb))
}

/// A successful answer whose data is small enough for the general encoder.
#[expect(clippy::unnecessary_wraps, reason = "the last expression of every handler")]
fn ok<T: Serialize>(data: &T) -> Answer {
    Ok(json::success(|out| json::write_serialized(out, data), &[], &[]))
}

/// As [`ok`], telling whether the list was cut to the limit.
#[expect(clippy::unnecessary_wraps, reason = "the last expression of every handler")]
fn ok_limited<T: Serialize>(data: &T, truncated: bool) -> Answer {
    Ok(json::success(|out| json::write_serialized(out, data), truncation_warning(truncated), &[]))
}

fn truncation_warning(truncated: bool) -> &'static [String] {
    static WARNING: std::sync::LazyLock<[String; 1]> =
        std::sync::LazyLock::new(|| ["results truncated due to limit".to_owned()]);
    if truncated { &*WARNING } else { &[] }
}
