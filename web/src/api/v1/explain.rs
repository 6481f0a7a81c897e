//! `/alerts/explain`: why an alert fires or does not, and where its messages went. Ours; see [`story`] for the answer.
//!
//! Parameters: `match[]` (selectors of alerts, repeatable), or instead any label as a parameter of its own
//! (`alertname=High&instance=a`); `time` (the moment to explain, default now), `start` and `end` (the span of the
//! timeline, default the day before `time`), `limit` (alerts, default 20), `entries` (entries of a timeline, default
//! 200), `next_token` (from the answer before).

use std::sync::Arc;

use axum::extract::State;
use model::{Matcher, TimeRange};

use super::{Answer, ok};
use crate::api::Shared;
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::view::story;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;
const ENTRIES_DEFAULT: usize = 200;
const ENTRIES_MAX: usize = 10_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// Parameters that are no labels.
const OWN: [&str; 7] = ["match[]", "time", "start", "end", "limit", "entries", "next_token"];

pub(super) async fn explain(State(api): Shared, params: Params) -> Answer {
    let query = query(&params, (api.options.now)())?;
    let turn = Arc::clone(&api.lookups).acquire_owned().await.expect("the semaphore is never closed");
    let explained = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        api.stories.explain(&query)
    });
    let internal = |e: String| ApiError::new(ErrorKind::Internal, e);
    ok(&explained.await.map_err(|e| internal(e.to_string()))?.map_err(internal)?)
}

fn query(params: &Params, now: i64) -> Result<story::Query, ApiError> {
    let mut selectors = params.selectors()?;
    let labels: Vec<_> =
        params.others(&OWN).map(|(name, value)| Matcher::equal(name.as_bytes(), value.as_bytes())).collect();
    if !labels.is_empty() {
        selectors.push(labels);
    }
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter and no label provided, such as alertname=…"));
    }
    let time = params.time("time", now)?;
    let start = params.time("start", time.saturating_sub(DAY_MS))?;
    let end = params.time("end", time)?;
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    Ok(story::Query {
        selectors,
        time,
        range: TimeRange::new(start, end),
        limit: count(params, "limit", LIMIT_DEFAULT, LIMIT_MAX)?,
        entries_max: count(params, "entries", ENTRIES_DEFAULT, ENTRIES_MAX)?,
        token: params.get("next_token").to_owned(),
    })
}

fn count(params: &Params, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
    match params.get(name) {
        "" => Ok(default),
        text => match text.parse::<usize>() {
            Ok(n) if n > 0 => Ok(n.min(max)),
            _ => Err(ApiError::parameter(name, format!("{name} must be a positive number"))),
        },
    }
}
