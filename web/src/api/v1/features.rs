//! `/features`: what this server can do and what of it is switched on.
//!
//! Compat: prometheus `util/features` and `web/api/v1/api.go`, `features`.

use axum::extract::State;
use axum::response::Response;

use crate::api::Shared;
use crate::json;

/// Names are ours, so operators stand as they are written, `<` and all.
pub(super) async fn features(State(api): Shared) -> Response {
    let features = api.running.features();
    let write = |out: &mut Vec<u8>| {
        serde_json::to_writer(out, &features).expect("names are strings and a Vec takes every write");
    };
    json::success(write, &[], &[])
}
