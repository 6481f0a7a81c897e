//! `/api/v2`: the Alertmanager's API, in front of the built-in one.
//!
//! Requests are read and checked here; what they ask is answered by [`Alertmanager`] as finished JSON, since
//! its shapes are the Alertmanager's own. Status codes and texts are those that amtool and Grafana expect.
//!
//! Compat: alertmanager `api/v2` (0.34).

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use model::{Matcher, Regex};

/// Which alerts a request wants to see.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of the request")]
pub struct AlertQuery {
    pub active: bool,
    pub silenced: bool,
    pub inhibited: bool,
    pub unprocessed: bool,
    pub matchers: Vec<Matcher>,
    /// Only alerts that go to a receiver of such a name.
    pub receiver: Option<Regex>,
}

/// Why a request cannot be served.
#[derive(Debug)]
pub enum Refusal {
    /// The content breaks a rule; its text says which.
    Invalid(String),
    NotFound,
    Internal(String),
}

/// A finished JSON document.
pub type Json = Vec<u8>;

/// The Alertmanager as the API sees it.
pub trait Alertmanager: Send + Sync {
    fn status(&self) -> Json;
    fn receivers(&self) -> Json;
    fn alerts(&self, query: AlertQuery) -> Json;
    fn alert_groups(&self, query: AlertQuery) -> Json;
    /// Takes a JSON list of alerts.
    ///
    /// # Errors
    /// The list does not parse, or alerts in it are not valid; the others are taken.
    fn post_alerts(&self, body: &[u8]) -> Result<(), Refusal>;
    /// Silences that hold all of `filter` literally.
    fn silences(&self, filter: &[Matcher]) -> Json;
    /// # Errors
    /// There is no such silence.
    fn silence(&self, id: &str) -> Result<Json, Refusal>;
    /// Takes a silence as JSON and answers with its id.
    ///
    /// # Errors
    /// It does not parse, is not valid, or changes one that does not exist.
    fn post_silence(&self, body: &[u8]) -> Result<Json, Refusal>;
    /// # Errors
    /// There is no such silence.
    fn delete_silence(&self, id: &str) -> Result<(), Refusal>;
}

type Source = State<Arc<dyn Alertmanager>>;

/// The routes, to be served beside the server's own.
pub fn router(source: Arc<dyn Alertmanager>) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/receivers", get(receivers))
        .route("/alerts", get(alerts).post(post_alerts))
        .route("/alerts/groups", get(alert_groups))
        .route("/silences", get(silences).post(post_silence))
        .route("/silence/{id}", get(silence).delete(delete_silence));
    Router::new().nest("/api/v2", routes).with_state(source)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Invalid(text) => (StatusCode::BAD_REQUEST, text),
            Self::NotFound => return StatusCode::NOT_FOUND.into_response(),
            Self::Internal(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
        };
        let mut body = Vec::new();
        crate::json::write_serialized(&mut body, &text);
        body.push(b'\n');
        answer(status, body)
    }
}

fn answer(status: StatusCode, body: Json) -> Response {
    let mut response = crate::json::response(status, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn found(body: Json) -> Response {
    answer(StatusCode::OK, body)
}

async fn status(State(source): Source) -> Response {
    found(source.status())
}

async fn receivers(State(source): Source) -> Response {
    found(source.receivers())
}

async fn alerts(State(source): Source, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Ok(found(source.alerts(alert_query(query.as_deref())?)))
}

async fn alert_groups(State(source): Source, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Ok(found(source.alert_groups(alert_query(query.as_deref())?)))
}

async fn post_alerts(State(source): Source, body: Bytes) -> Result<Response, Refusal> {
    source.post_alerts(&body)?;
    Ok(StatusCode::OK.into_response())
}

async fn silences(State(source): Source, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Ok(found(source.silences(&matchers(query.as_deref())?)))
}

async fn silence(State(source): Source, Path(id): Path<String>) -> Result<Response, Refusal> {
    source.silence(&id).map(found)
}

async fn post_silence(State(source): Source, body: Bytes) -> Result<Response, Refusal> {
    source.post_silence(&body).map(found)
}

async fn delete_silence(State(source): Source, Path(id): Path<String>) -> Result<Response, Refusal> {
    source.delete_silence(&id)?;
    Ok(StatusCode::OK.into_response())
}

fn pairs(
    query: Option<&str>,
) -> impl Iterator<Item = (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

/// The matchers of all `filter` parameters.
fn matchers(query: Option<&str>) -> Result<Vec<Matcher>, Refusal> {
    pairs(query)
        .filter(|(name, _)| name == "filter")
        .map(|(_, text)| config::matchers::parse_one(&text).map_err(|e| Refusal::Invalid(e.to_string())))
        .collect()
}

fn alert_query(query: Option<&str>) -> Result<AlertQuery, Refusal> {
    let mut wanted = AlertQuery {
        active: true,
        silenced: true,
        inhibited: true,
        unprocessed: true,
        matchers: matchers(query)?,
        receiver: None,
    };
    for (name, text) in pairs(query) {
        let switch = match &*name {
            "active" => &mut wanted.active,
            "silenced" => &mut wanted.silenced,
            "inhibited" => &mut wanted.inhibited,
            "unprocessed" => &mut wanted.unprocessed,
            "receiver" => {
                let regex = Regex::anchored(text.as_bytes());
                wanted.receiver = Some(
                    regex.map_err(|e| Refusal::Invalid(format!("failed to parse receiver param: {e}")))?,
                );
                continue;
            }
            _ => continue,
        };
        *switch = match &*text {
            "true" => true,
            "false" => false,
            _ => return Err(Refusal::Invalid(format!("{name} in query must be of type boolean: {text:?}"))),
        };
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::{Refusal, alert_query};

    #[test]
    fn queries_are_read_and_checked() {
        let query =
            alert_query(Some("active=false&filter=a%3D%22b%22&filter=c%3D~%22d.*%22&receiver=team-.*"))
                .unwrap();
        assert!(!query.active && query.silenced);
        assert_eq!(format!("{:?}", query.matchers), r#"[a="b", c=~"d.*"]"#);
        assert!(query.receiver.unwrap().is_match(b"team-x"));
        assert!(
            matches!(alert_query(Some("active=maybe")), Err(Refusal::Invalid(text)) if text.contains("active in query"))
        );
        assert!(matches!(alert_query(Some("filter=%3D")), Err(Refusal::Invalid(_))));
    }
}
