//! `/status/…`: what the server runs with and how it does.

use axum::extract::State;
use axum::response::Response;

use super::series::blocking;
use super::{Answer, ok};
use crate::api::Shared;
use crate::error::ApiError;
use crate::json;
use crate::params::Params;

pub(super) async fn config(State(api): Shared) -> Answer {
    #[derive(serde::Serialize)]
    struct Config {
        yaml: String,
    }
    ok(&Config { yaml: api.status.config_text() })
}

pub(super) async fn flags(State(api): Shared) -> Answer {
    ok(&api.status.flags())
}

pub(super) async fn runtime_info(State(api): Shared) -> Answer {
    ok(&api.status.runtime_info())
}

pub(super) async fn build_info(State(api): Shared) -> Answer {
    ok(&api.status.build_info())
}

pub(super) async fn tsdb(State(api): Shared, params: Params) -> Answer {
    let limit = match params.get("limit") {
        "" => 10,
        text => match text.parse::<usize>() {
            Ok(limit @ 1..=10_000) => limit,
            Ok(0) | Err(_) => return Err(ApiError::bad_data("limit must be a positive number")),
            Ok(_) => return Err(ApiError::bad_data("limit must not exceed 10000")),
        },
    };
    blocking(api, move |api| ok(&api.status.tsdb_status(limit))).await
}

/// Answers before the server is ready.
pub(super) async fn walreplay(State(api): Shared) -> Answer {
    ok(&api.status.wal_replay())
}

pub(super) async fn alertmanagers(State(api): Shared) -> Answer {
    ok(&api.status.alertmanagers())
}

/// The blocks as their `meta.json` describe them.
pub(super) async fn blocks(State(api): Shared) -> Response {
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"{\"blocks\":");
        json::write_list(out, api.status.blocks(), |out, block| out.extend_from_slice(&block));
        out.push(b'}');
    };
    json::success(write, &[], &[])
}
