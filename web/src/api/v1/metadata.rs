//! `/metadata` and `/targets/metadata`: type, help and unit of families, as targets tell them.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use model::Labels;
use serde::Serialize;

use super::{Answer, ok};
use crate::api::Shared;
use crate::error::ApiError;
use crate::params::Params;
use crate::view::{LabelMap, Metadata};

pub(super) async fn metadata(State(api): Shared, params: Params) -> Answer {
    let limit = count(&params, "limit")?;
    let per_metric = count(&params, "limit_per_metric")?;
    let wanted = params.get("metric");
    let mut families: BTreeMap<String, BTreeSet<Metadata>> = BTreeMap::new();
    for target in api.targets.metadata() {
        for (family, entry) in target.families {
            if wanted.is_empty() || wanted == family {
                families.entry(family).or_default().insert(entry);
            }
        }
    }
    let listed: BTreeMap<String, Vec<Metadata>> = families
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .map(|(family, entries)| {
            (family, entries.into_iter().take(per_metric.unwrap_or(usize::MAX)).collect())
        })
        .collect();
    ok(&listed)
}

#[derive(Serialize)]
struct OfTarget {
    target: LabelMap,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    #[serde(flatten)]
    entry: Metadata,
}

pub(super) async fn target_metadata(State(api): Shared, params: Params) -> Answer {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => promql::parse::parse_selector(text).map_err(|e| ApiError::parameter("match_target", e))?,
    };
    let wanted = params.get("metric");
    let mut listed = Vec::new();
    for target in api.targets.metadata() {
        let labels = Labels::from_pairs(&target.target);
        if !matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default())) {
            continue;
        }
        for (family, entry) in target.families {
            if listed.len() >= limit {
                return ok(&listed);
            }
            if wanted.is_empty() {
                listed.push(OfTarget { target: target.target.clone(), metric: Some(family), entry });
            } else if wanted == family {
                listed.push(OfTarget { target: target.target.clone(), metric: None, entry });
            }
        }
    }
    ok(&listed)
}

/// A count of which negative values, as upstream has it, mean no limit.
fn count(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(n) => Ok(usize::try_from(n).ok()),
            Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
        },
    }
}
