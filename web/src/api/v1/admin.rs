//! `/admin/tsdb/…`: deleting, cleaning and copying what the store holds. Off unless a flag says otherwise.
//!
//! Compat: prometheus `web/api/v1/api.go`, `deleteSeries`, `cleanTombstones`, `snapshot`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::{Answer, ok, parse_bool};
use crate::api::{Api, Shared};
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::view::TsdbAdmin;

pub(super) async fn delete_series(State(api): Shared, params: Params) -> Answer {
    check_enabled(&api)?;
    let params = params.strict()?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = params.range()?;
    // Unlike where series are read, a selector that matches everything is meant.
    let parse = |text| promql::parse::parse_selector(text).map_err(|e| ApiError::parameter("match[]", e));
    let selectors = params.all("match[]").map(parse).collect::<Result<Vec<_>, _>>()?;
    blocking(api, move |admin| {
        selectors.iter().try_for_each(|matchers| admin.delete_series(range, matchers)).map_err(internal)
    })
    .await?;
    Ok(no_content())
}

pub(super) async fn clean_tombstones(State(api): Shared) -> Answer {
    check_enabled(&api)?;
    blocking(api, |admin| admin.clean_tombstones().map_err(internal)).await?;
    Ok(no_content())
}

pub(super) async fn snapshot(State(api): Shared, params: Params) -> Answer {
    #[derive(serde::Serialize)]
    struct Snapshot {
        name: String,
    }
    check_enabled(&api)?;
    let skip_head = match params.get("skip_head") {
        "" => false,
        text => parse_bool(text).map_err(|e| ApiError::parameter("skip_head", e))?,
    };
    let name = blocking(api, move |admin| {
        admin.snapshot(skip_head).map_err(|e| internal(format!("create snapshot: {e}")))
    })
    .await?;
    ok(&Snapshot { name })
}

fn check_enabled(api: &Api) -> Result<(), ApiError> {
    if api.options.enable_admin {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::Unavailable, "admin APIs disabled"))
}

/// Runs `act` on a thread that may block, one at a time like everything that asks for more than samples. It runs to
/// its end even if nobody waits for the answer any more.
async fn blocking<T: Send + 'static>(
    api: Arc<Api>,
    act: impl FnOnce(&dyn TsdbAdmin) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = Arc::clone(&api.admin_turn).lock_owned().await;
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        act(api.admin.as_ref())
    })
    .await
    .map_err(|e| internal(e.to_string()))?
}

fn internal(message: String) -> ApiError {
    ApiError::new(ErrorKind::Internal, message)
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
