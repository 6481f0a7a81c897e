//! `/search/…`: names and values that fit what somebody types, best first if wanted, as lines of JSON.
//!
//! What is found is collected on a thread that may block and given back before the first line is sent, so that a slow
//! reader holds neither a thread nor the store. A client that leaves ends the search.
//!
//! Compat: prometheus `web/api/v1/search.go`.

mod effort;
mod request;
mod score;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderValue, header};
use model::Matcher;
use model::storage::{Querier, Queryable};
use model::wire::expose::{Counter, Expose, Exposition};
use parking_lot::Mutex;
use promql::CancelFlag;
use serde::Serialize;

use super::{Answer, parse_bool};
use crate::api::{Api, Shared};
use crate::error::{ApiError, ErrorKind};
use crate::json;
use crate::params::Params;
use crate::view::Metadata;
use effort::{Effort, Stop};
use request::{Order, Request};

/// How long the table of all targets' metadata serves, in ms: who types asks at every key.
const METADATA_AGE_MAX_MS: i64 = 5_000;

/// What a value costs beside its letters.
const PER_VALUE: usize = 256;

type MetadataByName = HashMap<String, Metadata>;

/// What searches leave behind for one another.
#[derive(Debug, Default)]
pub struct Searches {
    /// When it was made, and the table.
    metadata: Mutex<Option<(i64, Arc<MetadataByName>)>>,
    abandoned: Counter,
}

impl Expose for Searches {
    fn expose(&self, out: &mut Exposition) {
        out.counter(
            "ferula_api_searches_abandoned_total",
            "Searches that were ended because the client went away.",
            &self.abandoned,
        );
    }
}

/// What is searched, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Space {
    MetricNames { with_metadata: bool },
    LabelNames,
    LabelValues { label: String },
}

pub(super) async fn metric_names(State(api): Shared, params: Params) -> Answer {
    check_enabled(&api)?;
    let request = Request::parse(&params, &api.options, "metric_names")?;
    let with_metadata = request::boolean(&params, "include_metadata", false)?;
    search(api, request, Space::MetricNames { with_metadata }).await
}

pub(super) async fn label_names(State(api): Shared, params: Params) -> Answer {
    check_enabled(&api)?;
    let request = Request::parse(&params, &api.options, "label_names")?;
    search(api, request, Space::LabelNames).await
}

pub(super) async fn label_values(State(api): Shared, params: Params) -> Answer {
    check_enabled(&api)?;
    let request = Request::parse(&params, &api.options, "label_values")?;
    let label = match params.get("label") {
        "" => return Err(ApiError::bad_data("missing required parameter \"label\"")),
        label => label.to_owned(),
    };
    search(api, request, Space::LabelValues { label }).await
}

fn check_enabled(api: &Api) -> Result<(), ApiError> {
    if api.options.enable_search {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::Unavailable, "search API disabled"))
}

/// Ends the search when the client goes away, which drops the handler.
struct EndOnDrop {
    api: Arc<Api>,
    cancel: CancelFlag,
    is_over: bool,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if !self.is_over {
            self.cancel.cancel();
            self.api.searches.abandoned.inc();
        }
    }
}

async fn search(api: Arc<Api>, request: Request, space: Space) -> Answer {
    let mut guard = EndOnDrop { api: Arc::clone(&api), cancel: CancelFlag::default(), is_over: false };
    let cancel = guard.cancel.clone();
    // A search may take as long as a query.
    let (timeout, began) = (api.engine.options().timeout, Instant::now());
    let Ok(turn) = tokio::time::timeout(timeout, Arc::clone(&api.lookups).acquire_owned()).await else {
        guard.is_over = true;
        return Err(Stop::TimedOut.into());
    };
    let turn = turn.expect("the semaphore is never closed");
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut look = || effort::wanted(&cancel, began, timeout);
        let found = find_in(api.storage.as_ref(), &request, &space, &mut Effort::new(&mut look))?;
        let metadata = match space {
            Space::MetricNames { with_metadata: true } if !found.is_empty() => Some(metadata(&api)),
            _ => None,
        };
        Ok::<_, ApiError>(Lines { found, metadata, request, space, next: Next::First })
    })
    .await
    .map_err(|e| ApiError::new(ErrorKind::Internal, e.to_string()));
    guard.is_over = true;
    Ok(found??.into_response())
}

// === finding ===

#[derive(Clone, Debug, PartialEq)]
struct Found {
    text: String,
    score: f64,
}

/// What fits, in the order that is wanted, one more than wanted if there is more.
fn find_in(
    storage: &dyn Queryable,
    request: &Request,
    space: &Space,
    effort: &mut Effort<'_>,
) -> Result<Vec<Found>, ApiError> {
    let execution = |e: model::storage::Error| ApiError::new(ErrorKind::Execution, e.to_string());
    let querier = storage.querier(request.range).map_err(execution)?;
    let most = request.limit.saturating_add(1);
    // Only what is taken as it comes can be cut by the store.
    let cut = if request.filter.is_none() && request.order != Order::Descending { most } else { 0 };
    let values: Vec<Box<[u8]>> = match request.selectors.as_slice() {
        [] => list(querier.as_ref(), space, &[], cut).map_err(execution)?,
        [one] => list(querier.as_ref(), space, one, cut).map_err(execution)?,
        many => {
            let mut union = BTreeSet::new();
            for matchers in many {
                effort.look()?;
                union.extend(list(querier.as_ref(), space, matchers, cut).map_err(execution)?);
            }
            union.into_iter().collect()
        }
    };
    drop(querier);
    let values: &mut dyn Iterator<Item = &Box<[u8]>> = match request.order {
        Order::Descending => &mut values.iter().rev(),
        Order::Ascending | Order::Score => &mut values.iter(),
    };
    effort.look()?;
    let mut found = Vec::new();
    for value in values {
        effort.spend(PER_VALUE)?;
        let text = String::from_utf8_lossy(value);
        let score = match &request.filter {
            None => Some(1.0),
            Some(filter) => filter.score(&text, effort)?,
        };
        let Some(score) = score else { continue };
        found.push(Found { text: text.into_owned(), score });
        if found.len() == most && request.order != Order::Score {
            break;
        }
        // Whatever is not among the best of twice as many is not among the best of all.
        if request.order == Order::Score && found.len() >= most.saturating_mul(2).max(1024) {
            keep_best(&mut found, most);
        }
    }
    if request.order == Order::Score {
        keep_best(&mut found, most);
    }
    Ok(found)
}

fn keep_best(found: &mut Vec<Found>, n: usize) {
    found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.text.cmp(&b.text)));
    found.truncate(n);
}

fn list(
    querier: &dyn Querier,
    space: &Space,
    matchers: &[Matcher],
    limit: usize,
) -> Result<Vec<Box<[u8]>>, model::storage::Error> {
    match space {
        Space::MetricNames { .. } => querier.label_values(b"__name__", matchers, limit),
        Space::LabelNames => querier.label_names(matchers, limit),
        Space::LabelValues { label } => querier.label_values(label.as_bytes(), matchers, limit),
    }
}

/// What the targets tell of each family, the first of them where several do.
fn metadata(api: &Api) -> Arc<MetadataByName> {
    let now = (api.options.now)();
    let mut kept = api.searches.metadata.lock();
    if let Some((made_at, table)) = &*kept
        && (0..METADATA_AGE_MAX_MS).contains(&(now - made_at))
    {
        return Arc::clone(table);
    }
    let mut table = MetadataByName::new();
    for (family, entry) in api.targets.metadata().into_iter().flat_map(|target| target.families) {
        table.entry(family).or_insert(entry);
    }
    let table = Arc::new(table);
    *kept = Some((now, Arc::clone(&table)));
    table
}

// === telling ===

/// The answer, a line at a time.
struct Lines {
    found: Vec<Found>,
    metadata: Option<Arc<MetadataByName>>,
    request: Request,
    space: Space,
    next: Next,
}

/// Which line is due.
#[derive(Clone, Copy)]
enum Next {
    /// Always sent, even if nothing was found.
    First,
    From(usize),
    Nothing,
}

#[derive(Serialize)]
struct Record<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    kind: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    help: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'r str,
}

impl Lines {
    /// How many records are told; what is beyond only says that there is more.
    fn n_told(&self) -> usize {
        self.found.len().min(self.request.limit)
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        let n = self.n_told();
        let from = match self.next {
            Next::First => 0,
            Next::From(from) if from < n => from,
            Next::From(_) => {
                self.next = Next::Nothing;
                return Some(self.trailer());
            }
            Next::Nothing => return None,
        };
        let to = n.min(from.saturating_add(self.request.batch_size));
        self.next = Next::From(to);
        Some(self.batch(&self.found[from..to]))
    }

    fn batch(&self, found: &[Found]) -> Vec<u8> {
        let mut line = b"{\"results\":".to_vec();
        json::write_list(&mut line, found, |line, found| json::write_serialized(line, &self.record(found)));
        line.extend_from_slice(b"}\n");
        line
    }

    fn record<'r>(&'r self, found: &'r Found) -> Record<'r> {
        let text = Some(found.text.as_str());
        let (name, value) = match self.space {
            Space::LabelValues { .. } => (None, text),
            Space::MetricNames { .. } | Space::LabelNames => (text, None),
        };
        let told = self.metadata.as_ref().and_then(|table| table.get(&found.text));
        Record {
            name,
            value,
            score: self.request.includes_score.then_some(found.score),
            kind: told.map_or("", |told| told.kind),
            help: told.map_or("", |told| &told.help),
            unit: told.map_or("", |told| &told.unit),
        }
    }

    fn trailer(&self) -> Vec<u8> {
        let has_more = self.found.len() > self.request.limit;
        format!("{{\"status\":\"success\",\"has_more\":{has_more}}}\n").into_bytes()
    }

    fn into_response(self) -> Response {
        let lines = stream::unfold(self, |mut lines| async move {
            let line = lines.next_line()?;
            // Whoever writes the lines sends each before it asks for the next.
            tokio::task::yield_now().await;
            Some((Ok::<_, Infallible>(Bytes::from(line)), lines))
        });
        let ndjson = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
        ([(header::CONTENT_TYPE, ndjson)], Body::from_stream(lines)).into_response()
    }
}

#[cfg(test)]
mod tests;
