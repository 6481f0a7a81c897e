//! `/status/top_queries`: which queries cost most, and which dashboard or rule asks them. Ours.

use std::cmp::Reverse;

use axum::extract::State;

use super::{Answer, ok};
use crate::api::Shared;
use crate::error::ApiError;
use crate::params::Params;
use crate::view::running::TopQuery;

/// How many are listed unless the request says otherwise.
const LIMIT: usize = 20;

pub(super) async fn top_queries(State(api): Shared, params: Params) -> Answer {
    let limit = match params.limit()? {
        0 => LIMIT,
        n => n,
    };
    let mut top = api.running.top_queries();
    sort(&mut top.queries, params.get("sort_by"))?;
    top.queries.truncate(limit);
    ok(&top)
}

/// The costliest first.
fn sort(queries: &mut [TopQuery], by: &str) -> Result<(), ApiError> {
    match by {
        "" | "total_time" => queries.sort_by(|a, b| b.total_time.total_cmp(&a.total_time)),
        "longest_time" => queries.sort_by(|a, b| b.longest_time.total_cmp(&a.longest_time)),
        "average_time" => queries.sort_by(|a, b| b.average_time.total_cmp(&a.average_time)),
        "count" => queries.sort_by_key(|query| Reverse(query.count)),
        "errors" => queries.sort_by_key(|query| Reverse(query.errors)),
        "samples" => queries.sort_by_key(|query| Reverse(query.total_samples)),
        "last_time" => queries.sort_by(|a, b| b.last_time.cmp(&a.last_time)),
        other => {
            let quoted = model::quote::go_quote(other.as_bytes());
            return Err(ApiError::parameter(
                "sort_by",
                format!(
                    "must be one of total_time, longest_time, average_time, count, errors, samples, last_time, got {quoted}"
                ),
            ));
        }
    }
    Ok(())
}
