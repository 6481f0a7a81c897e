//! `/metadata` and `/targets/metadata`: type, help and unit of families, as targets tell them.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use model::Labels;
use serde::Serialize;

use super::series::blocking;
use super::{Answer, ok};
use crate::api::Shared;
use crate::error::ApiError;
use crate::params::Params;
use crate::view::{LabelMap, Metadata};

/// A family's entry, in the order of keys that upstream has here and nowhere else.
#[derive(Serialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: &'static str,
    unit: String,
    help: String,
}

pub(super) async fn metadata(State(api): Shared, params: Params) -> Answer {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    // Unlike that of families, none of entries is no limit.
    let per_metric = count(&params, "limit_per_metric")?.filter(|&n| n > 0).unwrap_or(usize::MAX);
    blocking(api, move |api| {
        let wanted = params.get("metric");
        let mut families: BTreeMap<String, BTreeSet<Metadata>> = BTreeMap::new();
        for target in api.targets.metadata() {
            for (family, entry) in target.families {
                if wanted.is_empty() || wanted == family {
                    let entries = families.entry(family).or_default();
                    if entries.len() < per_metric {
                        entries.insert(entry);
                    }
                }
            }
        }
        let entry = |Metadata { kind, help, unit }| Entry { kind, unit, help };
        let listed: BTreeMap<String, Vec<Entry>> = families
            .into_iter()
            .take(limit)
            .map(|(family, entries)| (family, entries.into_iter().map(entry).collect()))
            .collect();
        ok(&listed)
    })
    .await
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
    blocking(api, move |api| {
        let wanted = params.get("metric");
        let mut listed = Vec::new();
        for target in api.targets.metadata() {
            // Nothing of a target is left out: upstream looks at the limit between targets.
            if listed.len() >= limit {
                break;
            }
            let labels = Labels::from_pairs(&target.target);
            if !matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
            {
                continue;
            }
            for (family, entry) in target.families {
                if wanted.is_empty() {
                    listed.push(OfTarget { target: target.target.clone(), metric: Some(family), entry });
                } else if wanted == family {
                    listed.push(OfTarget { target: target.target.clone(), metric: None, entry });
                }
            }
        }
        ok(&listed)
    })
    .await
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
