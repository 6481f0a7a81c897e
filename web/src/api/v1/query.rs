//! `/query`, `/query_range`, `/format_query`, `/parse_query` and, of our own, `/explain_query`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::Matcher;
use promql::parse::ast::Expr;
use promql::{CancelFlag, Detail, QueryOptions, QueryResult, RangeParams, Value};

use super::series::blocking;
use super::{Answer, truncation_warning};
use crate::api::{Api, Shared};
use crate::compression::Encoding;
use crate::error::{ApiError, ErrorKind};
use crate::params::{Caller, NANOS_PER_MS, Params};
use crate::{json, stream};

/// The most points of one series that a range query may ask for.
const POINTS_MAX: i128 = 11_000;

/// The most warnings, and the most infos, of one answer.
const ANNOTATIONS_MAX: usize = 10;

pub(super) async fn query(
    State(api): Shared,
    Caller(origin): Caller,
    encoding: Encoding,
    params: Params,
) -> Answer {
    let limit = params.limit()?;
    let t = params.time("time", (api.options.now)())?;
    let options = QueryOptions { origin: Some(origin), ..query_options(&params)? };
    run(api, Wanted { params, limit, encoding }, options, move |api, text, options| {
        api.engine.instant_query(api.storage.as_ref(), text, t, options)
    })
    .await
}

pub(super) async fn query_range(
    State(api): Shared,
    Caller(origin): Caller,
    encoding: Encoding,
    params: Params,
) -> Answer {
    let limit = params.limit()?;
    let range = range_params(&params)?;
    let options = QueryOptions { origin: Some(origin), ..query_options(&params)? };
    run(api, Wanted { params, limit, encoding }, options, move |api, text, options| {
        api.engine.range_query(api.storage.as_ref(), text, range, options)
    })
    .await
}

fn range_params(params: &Params) -> Result<RangeParams, ApiError> {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.duration_nanos("step").map_err(|e| ApiError::parameter("step", e))?;
    let step = step.ok_or_else(|| ApiError::parameter("step", "cannot parse \"\" to a valid duration"))?;
    let too_short = || {
        ApiError::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        )
    };
    if step <= 0 {
        return Err(too_short());
    }
    // The widest ranges there are have more nanoseconds than 64 bits.
    let span = (i128::from(end) - i128::from(start)) * i128::from(NANOS_PER_MS);
    if span / i128::from(step) > POINTS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    // Samples have milliseconds.
    match step / NANOS_PER_MS {
        0 => Err(too_short()),
        step_ms => Ok(RangeParams { start, end, step_ms }),
    }
}

fn query_options(params: &Params) -> Result<QueryOptions, ApiError> {
    let positive = |nanos: i64| u64::try_from(nanos).ok().map(Duration::from_nanos);
    let lookback = params
        .duration_nanos("lookback_delta")
        .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?;
    let timeout = params.duration_nanos("timeout").map_err(|e| ApiError::parameter("timeout", e))?;
    Ok(QueryOptions {
        lookback_delta: lookback.and_then(positive),
        timeout: timeout.map(|nanos| positive(nanos).unwrap_or(Duration::ZERO)),
        detail: if params.get("stats") == "all" { Detail::All } else { Detail::Totals },
        ..QueryOptions::default()
    })
}

/// Cancels the query when the client goes away, which drops the handler.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What the answer to a query shall be.
struct Wanted {
    params: Params,
    /// Series at most, 0 for all.
    limit: usize,
    encoding: Encoding,
}

async fn run(
    api: Arc<Api>,
    wanted: Wanted,
    mut options: QueryOptions,
    evaluate: impl FnOnce(&Api, &str, &QueryOptions) -> Result<QueryResult, promql::Error> + Send + 'static,
) -> Answer {
    let _guard = CancelOnDrop(options.cancel.clone());
    let began = Instant::now();
    let longest = api.engine.options().timeout.min(options.timeout.unwrap_or(Duration::MAX));
    let Ok(turn) = tokio::time::timeout(longest, Arc::clone(&api.queries).acquire_owned()).await else {
        return Err(promql::Error::Timeout("query queue".to_owned()).into());
    };
    let turn = turn.expect("the semaphore is never closed");
    let queued = began.elapsed();
    options.timeout = Some(longest.saturating_sub(queued));
    tokio::task::spawn_blocking(move || {
        // Given back when the thread is free, even if nobody waits for the answer any more, and before all of a large
        // answer is written.
        let _turn = turn;
        let mut result = evaluate(&api, wanted.params.get("query"), &options)?;
        result.stats.queue_time += queued;
        Ok(respond(result, &wanted, &api))
    })
    .await
    .map_err(|e| ApiError::new(ErrorKind::Internal, e.to_string()))?
}

fn respond(mut result: QueryResult, wanted: &Wanted, api: &Api) -> Response {
    let (text, stats) = (wanted.params.get("query"), wanted.params.get("stats"));
    let truncated = truncate(&mut result.value, wanted.limit);
    let mut warnings = result.annotations.warnings(text, ANNOTATIONS_MAX);
    let infos = result.annotations.infos(text, ANNOTATIONS_MAX);
    warnings.extend(stats_warning(stats));
    warnings.extend_from_slice(truncation_warning(truncated));
    let stats = (!stats.is_empty()).then_some(&result.stats);
    let data = json::QueryData::new(result.value, stats).holding(result.held);
    stream::json(json::Success::new(data, &warnings, &infos), wanted.encoding, &api.answers)
}

/// Cuts a vector or matrix to `limit` series and says whether it did.
fn truncate(value: &mut Value, limit: usize) -> bool {
    let n_before = match value {
        Value::Vector(samples) => samples.len(),
        Value::Matrix(series) => series.len(),
        Value::Scalar(_) | Value::String { .. } => 0,
    };
    if limit == 0 || n_before <= limit {
        return false;
    }
    match value {
        Value::Vector(samples) => samples.truncate(limit),
        Value::Matrix(series) => series.truncate(limit),
        Value::Scalar(_) | Value::String { .. } => {}
    }
    true
}

/// What is said of a value of `stats` that is not one of upstream's.
fn stats_warning(stats: &str) -> Option<String> {
    (!matches!(stats, "" | "true" | "all")).then(|| {
        let quoted = model::quote::go_quote(stats.as_bytes());
        format!(
            "value {quoted} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
        )
    })
}

/// The exemplars of the series that any selector of the query finds.
pub(super) async fn query_exemplars(State(api): Shared, params: Params) -> Answer {
    let range = params.range()?;
    if range.maxt < range.mint {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = api.engine.parse(params.get("query")).map_err(|e| ApiError::bad_data(e.to_string()))?;
    let selectors = selectors(&expr);
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let turn = Arc::clone(&api.lookups).acquire_owned().await.expect("the semaphore is never closed");
    let answer = move || {
        let _turn = turn;
        let found = api.exemplars.exemplars(range, &selectors)?;
        Ok(json::success(|out| json::write_list(out, &found, json::write_exemplars), &[], &[]))
    };
    tokio::task::spawn_blocking(answer)
        .await
        .map_err(|e| ApiError::new(ErrorKind::Internal, e.to_string()))?
}

/// The matchers of all selectors.
fn selectors(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut found = Vec::new();
    expr.walk(|expr| match expr {
        Expr::Vector(selector) => found.push(selector.matchers.clone()),
        Expr::Matrix(e) => found.push(e.selector.matchers.clone()),
        _ => {}
    });
    found
}

pub(super) async fn format_query(State(api): Shared, params: Params) -> Answer {
    let expr = api.engine.parse(params.get("query")).map_err(|e| ApiError::parameter("query", e))?;
    super::ok(&promql::parse::pretty::format(&expr))
}

/// The plan of a query as text; ours. With `start` the query is a range query.
pub(super) async fn explain_query(State(api): Shared, params: Params) -> Answer {
    let range = if params.get("start").is_empty() {
        let t = params.time("time", (api.options.now)())?;
        RangeParams { start: t, end: t, step_ms: 0 }
    } else {
        range_params(&params)?
    };
    let options = query_options(&params)?;
    blocking(api, move |api| super::ok(&api.engine.explain(params.get("query"), range, &options)?)).await
}

pub(super) async fn parse_query(State(api): Shared, params: Params) -> Answer {
    let expr = api.engine.parse(params.get("query")).map_err(|e| ApiError::parameter("query", e))?;
    Ok(json::success(|out| promql::parse::json::write(&expr, out), &[], &[]))
}
