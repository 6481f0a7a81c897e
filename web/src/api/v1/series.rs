//! `/series`, `/labels` and `/label/…/values`: what there is to ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use model::storage::{Queryable, SelectHints};
use model::{Labels, Matcher, TimeRange};

use super::{Answer, ok_limited, truncation_warning};
use crate::api::Shared;
use crate::error::{ApiError, ErrorKind};
use crate::json;
use crate::params::Params;

/// Runs `ask` on a thread that may block.
async fn blocking(
    api: Arc<crate::Api>,
    ask: impl FnOnce(&dyn Queryable) -> Result<Response, ApiError> + Send + 'static,
) -> Answer {
    let turn = Arc::clone(&api.lookups).acquire_owned().await.expect("the semaphore is never closed");
    tokio::task::spawn_blocking(move || {
        // Given back when the thread is free, even if nobody waits for the answer any more.
        let _turn = turn;
        ask(api.storage.as_ref())
    })
    .await
    .map_err(|e| ApiError::new(ErrorKind::Internal, e.to_string()))?
}

pub(super) async fn series(State(api): Shared, params: Params) -> Answer {
    let limit = params.limit()?;
    let range = params.range()?;
    let selectors = params.selectors()?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    blocking(api, move |storage| {
        let (found, truncated) = find_series(storage, range, &selectors, limit)?;
        let write = |out: &mut Vec<u8>| json::write_list(out, &found, json::write_labels);
        Ok(json::success(write, truncation_warning(truncated), &[]))
    })
    .await
}

/// The label sets of one selector in the store's order, of several merged and sorted.
fn find_series(
    storage: &dyn Queryable,
    range: TimeRange,
    selectors: &[Vec<Matcher>],
    limit: usize,
) -> Result<(Vec<Labels>, bool), ApiError> {
    let querier = storage.querier(range)?;
    // One more than wanted tells whether there was more.
    let most = if limit == 0 { 0 } else { limit + 1 };
    let hints = SelectHints {
        range: Some(range),
        limit: most,
        sorted: selectors.len() > 1,
        ..SelectHints::default()
    };
    let mut found = Vec::new();
    for matchers in selectors {
        let set = querier.select(matchers, &hints)?;
        found.extend((0..set.len()).map(|i| set.labels(i)));
    }
    if selectors.len() > 1 {
        found.sort_unstable();
        found.dedup();
    }
    let truncated = limit > 0 && found.len() > limit;
    if truncated {
        found.truncate(limit);
    }
    Ok((found, truncated))
}

pub(super) async fn labels(State(api): Shared, params: Params) -> Answer {
    let limit = params.limit()?;
    let range = params.range()?;
    let selectors = unnamed(params.selectors())?;
    blocking(api, move |storage| {
        let querier = storage.querier(range)?;
        names_or_values(&selectors, limit, |matchers, limit| querier.label_names(matchers, limit))
    })
    .await
}

pub(super) async fn label_values(State(api): Shared, Path(name): Path<String>, params: Params) -> Answer {
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let limit = params.limit()?;
    let range = params.range()?;
    let selectors = unnamed(params.selectors())?;
    blocking(api, move |storage| {
        let querier = storage.querier(range)?;
        names_or_values(&selectors, limit, |matchers, limit| {
            querier.label_values(name.as_bytes(), matchers, limit)
        })
    })
    .await
}

/// Of the routes that take selectors only `/series` says in errors which parameter they are about.
pub(super) fn unnamed<T>(selectors: Result<T, ApiError>) -> Result<T, ApiError> {
    selectors.map_err(|mut e| {
        if let Some(message) = e.message.strip_prefix("invalid parameter \"match[]\": ") {
            e.message = message.to_owned();
        }
        e
    })
}

/// The union over the selectors of what `ask` gives, as a sorted list of strings.
fn names_or_values(
    selectors: &[Vec<Matcher>],
    limit: usize,
    ask: impl Fn(&[Matcher], usize) -> Result<Vec<Box<[u8]>>, model::storage::Error>,
) -> Answer {
    let most = if limit == 0 { 0 } else { limit + 1 };
    let execution = |e: model::storage::Error| ApiError::new(ErrorKind::Execution, e.to_string());
    let found: Vec<Box<[u8]>> = match selectors {
        [] => ask(&[], most).map_err(execution)?,
        [one] => ask(one, most).map_err(execution)?,
        many => {
            let mut union = BTreeSet::new();
            for matchers in many {
                union.extend(ask(matchers, most).map_err(execution)?);
            }
            union.into_iter().collect()
        }
    };
    let kept = if limit == 0 { found.len() } else { limit.min(found.len()) };
    let texts: Vec<_> = found[..kept].iter().map(|text| String::from_utf8_lossy(text)).collect();
    ok_limited(&texts, kept < found.len())
}

/// Undoes the escaping of names that are not legacy-valid: `U__` in front, `__` for `_`, `_HEX_` for the rest.
///
/// Compat: prometheus/common `model`, `UnescapeName` with `ValueEncodingEscaping`.
fn unescape_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    let mut rest = escaped;
    while let Some(i) = rest.find('_') {
        out.push_str(&rest[..i]);
        rest = &rest[i + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let decoded = rest.split_once('_').and_then(|(hex, after)| {
            let code = (hex.len() <= 6).then(|| u32::from_str_radix(hex, 16).ok())??;
            Some((char::from_u32(code)?, after))
        });
        match decoded {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => return name.to_owned(),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::unescape_name;

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape_name("plain_name"), "plain_name");
        assert_eq!(unescape_name("U__http_2e_status__code"), "http.status_code");
        assert_eq!(unescape_name("U__bad_zz_"), "U__bad_zz_");
    }
}
