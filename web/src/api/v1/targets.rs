//! `/targets`, `/scrape_pools` and, beyond upstream, `/discovery`.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::series::blocking;
use super::{Answer, ok};
use crate::api::{Api, Shared};
use crate::params::Params;
use crate::view::{ActiveTarget, DroppedTarget};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    active_targets: Vec<ActiveTarget>,
    dropped_targets: Vec<DroppedTarget>,
    /// `null` where only active targets are asked for.
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

pub(super) async fn targets(State(api): Shared, params: Params) -> Answer {
    blocking(api, move |api| ok(&listed(api, &params))).await
}

fn listed(api: &Api, params: &Params) -> Listed {
    let state = params.url("state").to_lowercase();
    let pool = params.url("scrapePool");
    let mut targets = api.targets.targets();
    if !pool.is_empty() {
        targets.active.retain(|target| target.scrape_pool == pool);
        targets.dropped.retain(|target| target.scrape_pool == pool);
    }
    let wants = |which| matches!(state.as_str(), "" | "any") || state == which;
    Listed {
        active_targets: if wants("active") { targets.active } else { Vec::new() },
        dropped_targets: if wants("dropped") { targets.dropped } else { Vec::new() },
        dropped_target_counts: wants("dropped").then_some(targets.dropped_counts),
    }
}

/// How discovery does: a list of sections of jobs, with what keeps them from being up to date.
pub(super) async fn discovery(State(api): Shared) -> Answer {
    blocking(api, |api| ok(&api.targets.discovery())).await
}

pub(super) async fn scrape_pools(State(api): Shared) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Pools {
        scrape_pools: Vec<String>,
    }
    ok(&Pools { scrape_pools: api.targets.pools() })
}
