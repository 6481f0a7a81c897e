//! What a search asks for, checked in upstream's order and with its texts.
//!
//! Compat: prometheus `web/api/v1/search.go`, `parseSearchParams`.

use std::fmt::Display;

use model::quote::go_quote;
use model::{Matcher, TimeRange};

use super::parse_bool;
use super::score::{Algorithm, Filter};
use crate::api::Options;
use crate::error::ApiError;
use crate::params::Params;

/// Each term costs time for each value.
const TERMS_MAX: usize = 32;

/// And so does each letter of a term.
const TERM_BYTES_MAX: usize = 1 << 10;

/// Results in all, and in one line, unless the request says otherwise.
const LIMIT: usize = 100;
const BATCH_SIZE: usize = 100;

/// How far back a search looks unless the request says otherwise, in ms.
const LOOKBACK_MS: i64 = 3_600_000;

#[derive(Debug)]
pub(super) struct Request {
    pub(super) range: TimeRange,
    pub(super) selectors: Vec<Vec<Matcher>>,
    pub(super) filter: Option<Filter>,
    pub(super) order: Order,
    pub(super) includes_score: bool,
    pub(super) limit: usize,
    pub(super) batch_size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
    /// The best first, equals by text.
    Score,
}

impl Request {
    pub(super) fn parse(params: &Params, options: &Options, endpoint: &str) -> Result<Self, ApiError> {
        let now = (options.now)();
        let start = bare("start", params.time("start", now.saturating_sub(LOOKBACK_MS)))?;
        let end = bare("end", params.time("end", now))?;
        if end < start {
            return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
        }
        let selectors = bare("match[]", params.selectors())?;
        let terms: Vec<_> = params.all("search[]").collect();
        if terms.len() > TERMS_MAX {
            let n = terms.len();
            return Err(ApiError::bad_data(format!(
                "too many search[] terms: got {n}, maximum is {TERMS_MAX}"
            )));
        }
        if let Some(n) = terms.iter().map(|term| term.len()).find(|n| *n > TERM_BYTES_MAX) {
            return Err(ApiError::bad_data(format!(
                "search[] term is too long: got {n} bytes, maximum is {TERM_BYTES_MAX}"
            )));
        }
        let threshold = match params.get("fuzz_threshold") {
            "" => 0,
            text => integer(text)
                .and_then(|n| u8::try_from(n).ok())
                .filter(|n| *n <= 100)
                .ok_or_else(|| invalid("fuzz_threshold", text, "must be 0-100"))?,
        };
        let algorithm = algorithm(params.get("fuzz_alg"))?;
        let is_case_sensitive = boolean(params, "case_sensitive", true)?;
        let includes_score = boolean(params, "include_score", false)?;
        let (by, direction) = (params.get("sort_by"), params.get("sort_dir"));
        check_direction(by, direction)?;
        if by == "score" && terms.is_empty() {
            return Err(ApiError::bad_data("sort_by=score requires search[] to be set"));
        }
        let limit = limit(params.get("limit"), options.search_limit_max)?;
        let batch_size = match params.get("batch_size") {
            "" => BATCH_SIZE,
            text => {
                positive(text).ok_or_else(|| invalid("batch_size", text, "must be a positive integer"))?
            }
        };
        let order = match (by, direction) {
            ("score", _) => Order::Score,
            ("alpha", "dsc") => Order::Descending,
            ("" | "alpha", _) => Order::Ascending,
            (by, _) => {
                let by = go_quote(by.as_bytes());
                return Err(ApiError::bad_data(format!(
                    "invalid sort_by {by} for {endpoint}: must be \"alpha\" or \"score\""
                )));
            }
        };
        let filter = Filter::new(terms, algorithm, threshold, is_case_sensitive);
        let range = TimeRange::new(start, end);
        Ok(Self { range, selectors, filter, order, includes_score, limit, batch_size })
    }
}

fn algorithm(text: &str) -> Result<Algorithm, ApiError> {
    if text.is_empty() {
        return Ok(Algorithm::Subsequence);
    }
    Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
        let text = go_quote(text.as_bytes());
        let known = Algorithm::ALL.map(Algorithm::as_str).join(" ");
        ApiError::bad_data(format!("unsupported fuzz_alg {text}: must be one of [{known}]"))
    })
}

fn check_direction(by: &str, direction: &str) -> Result<(), ApiError> {
    match (by, direction) {
        (_, "") => Ok(()),
        ("", _) => Err(ApiError::bad_data("sort_dir is only valid when sort_by is set")),
        ("score", _) => Err(ApiError::bad_data("sort_dir is not supported for sort_by=score")),
        (_, "asc" | "dsc") => Ok(()),
        _ => Err(invalid("sort_dir", direction, "must be \"asc\" or \"dsc\"")),
    }
}

/// `max` 0 is no limit.
fn limit(text: &str, max: usize) -> Result<usize, ApiError> {
    let max = if max == 0 { usize::MAX } else { max };
    if text.is_empty() {
        return Ok(LIMIT.min(max));
    }
    let n = positive(text).ok_or_else(|| invalid("limit", text, "must be a positive integer"))?;
    if n > max {
        return Err(ApiError::bad_data(format!(
            "limit {n} exceeds the configured maximum ({max}, see --web.search.max-limit)"
        )));
    }
    Ok(n)
}

pub(super) fn boolean(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        "" => Ok(default),
        text => parse_bool(text).map_err(|_| invalid(name, text, "must be boolean")),
    }
}

/// A number as Go's `strconv.Atoi` takes it.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn positive(text: &str) -> Option<usize> {
    integer(text).filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok())
}

fn invalid(name: &str, text: &str, rule: impl Display) -> ApiError {
    ApiError::bad_data(format!("invalid {name} {}: {rule}", go_quote(text.as_bytes())))
}

/// Here errors do not say which parameter they are about.
fn bare<T>(name: &str, value: Result<T, ApiError>) -> Result<T, ApiError> {
    value.map_err(|mut e| {
        if let Some(message) = e.message.strip_prefix(&format!("invalid parameter \"{name}\": ")) {
            e.message = message.to_owned();
        }
        e
    })
}
