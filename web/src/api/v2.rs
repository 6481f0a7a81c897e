//! `/api/v2`: the Alertmanager's API, in front of the built-in one.
//!
//! Requests are read and checked here; what they ask is answered by [`Alertmanager`] as finished JSON, since
//! its shapes are the Alertmanager's own. Status codes and texts are those that amtool and Grafana expect.
//!
//! Compat: alertmanager `api/v2` (0.34).

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use model::quote::go_quote;
use model::{Matcher, Regex};

/// The most that may be posted at once: more than any Prometheus sends.
const BODY_BYTES_MAX: usize = 32 << 20;

/// The description of the API.
const SWAGGER: &str = include_str!("v2/swagger.json");

/// Which alerts a request wants to see.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of the request")]
pub struct AlertQuery {
    pub active: bool,
    pub silenced: bool,
    pub inhibited: bool,
    /// Accepted and without effect, as upstream.
    pub unprocessed: bool,
    /// Groups that time intervals mute.
    pub muted: bool,
    pub matchers: Vec<Matcher>,
    /// Only alerts that go to a receiver of such a name.
    pub receiver: Option<Regex>,
    /// Only alerts that go to a receiver with such labels.
    pub receiver_matchers: Vec<Matcher>,
}

/// Which silences a request wants to see.
#[derive(Debug)]
pub struct SilenceQuery {
    pub active: bool,
    pub pending: bool,
    pub expired: bool,
    /// To be found in the silence literally.
    pub matchers: Vec<Matcher>,
}

/// Why a request cannot be served.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The content breaks a rule; its text says which.
    Invalid(String),
    /// The body cannot be read.
    Malformed(String),
    /// The body, or the path, is not as the schema has it.
    Schema {
        code: u16,
        message: String,
    },
    MediaType(String),
    NotFound,
    /// What the body refers to is not there.
    Unknown(String),
    Internal(String),
}

/// A finished JSON document.
pub type Json = Vec<u8>;

/// The Alertmanager as the API sees it. Every method may block for a moment.
pub trait Alertmanager: Send + Sync + 'static {
    fn status(&self) -> Json;
    /// The receivers whose labels match.
    fn receivers(&self, matchers: &[Matcher]) -> Json;
    fn alerts(&self, query: AlertQuery) -> Json;
    fn alert_groups(&self, query: AlertQuery) -> Json;
    /// Takes a JSON list of alerts.
    ///
    /// # Errors
    /// The list does not parse, or alerts in it are not valid; the others are taken.
    fn post_alerts(&self, body: &[u8]) -> Result<(), Refusal>;
    fn silences(&self, query: SilenceQuery) -> Json;
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
type Answer = Result<Response, Refusal>;

/// The routes, to be served beside the server's own.
pub fn router(source: Arc<dyn Alertmanager>) -> Router {
    let routes = Router::new()
        .route("/status", only("GET", get(status)))
        .route("/receivers", only("GET", get(receivers)))
        .route("/alerts", only("GET,POST", get(alerts).post(post_alerts)))
        .route("/alerts/groups", only("GET", get(alert_groups)))
        .route("/silences", only("GET,POST", get(silences).post(post_silence)))
        .route("/silence/{id}", only("GET,DELETE", get(silence).delete(delete_silence)))
        .route("/swagger.json", only("GET", get(swagger)))
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    Router::new().nest("/api/v2", routes).with_state(source)
}

/// Refuses all other methods, HEAD among them, as upstream does.
fn only(
    allowed: &'static str,
    methods: MethodRouter<Arc<dyn Alertmanager>>,
) -> MethodRouter<Arc<dyn Alertmanager>> {
    let refuse = move |method: Method| async move {
        let message = format!("method {method} is not allowed, but [{allowed}] are");
        let mut response = fault(StatusCode::METHOD_NOT_ALLOWED, 405, &message);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        response
    };
    methods.head(refuse).fallback(refuse)
}

async fn unknown_path(OriginalUri(uri): OriginalUri) -> Response {
    fault(StatusCode::NOT_FOUND, 404, &format!("path {} was not found", uri.path()))
}

/// A fault as go-openapi tells it.
fn fault(status: StatusCode, code: u16, message: &str) -> Response {
    let mut body = format!("{{\"code\":{code},\"message\":").into_bytes();
    crate::json::write_serialized(&mut body, &message);
    body.push(b'}');
    answer(status, body)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Invalid(text) => (StatusCode::BAD_REQUEST, text),
            Self::Unknown(text) => (StatusCode::NOT_FOUND, text),
            Self::Internal(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
            Self::NotFound => return bare(StatusCode::NOT_FOUND),
            Self::Malformed(message) => return fault(StatusCode::BAD_REQUEST, 400, &message),
            Self::MediaType(message) => return fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, &message),
            Self::Schema { code, message } => return fault(StatusCode::UNPROCESSABLE_ENTITY, code, &message),
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

/// An answer without a body.
fn bare(status: StatusCode) -> Response {
    (status, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]).into_response()
}

fn found(body: Json) -> Response {
    answer(StatusCode::OK, body)
}

/// Asks the Alertmanager where blocking harms nobody.
async fn ask<T: Send + 'static>(
    source: Arc<dyn Alertmanager>,
    question: impl FnOnce(&dyn Alertmanager) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let asked = tokio::task::spawn_blocking(move || question(&*source)).await;
    asked.unwrap_or_else(|e| Err(Refusal::Internal(e.to_string())))
}

async fn status(State(source): Source) -> Answer {
    ask(source, |source| Ok(found(source.status()))).await
}

async fn swagger() -> Response {
    found(SWAGGER.as_bytes().to_vec())
}

async fn receivers(State(source): Source, RawQuery(query): RawQuery) -> Answer {
    let matchers = receiver_matchers(query.as_deref())?;
    ask(source, move |source| Ok(found(source.receivers(&matchers)))).await
}

async fn alerts(State(source): Source, RawQuery(query): RawQuery) -> Answer {
    let query = alert_query(query.as_deref())?;
    ask(source, |source| Ok(found(source.alerts(query)))).await
}

async fn alert_groups(State(source): Source, RawQuery(query): RawQuery) -> Answer {
    let query = alert_query(query.as_deref())?;
    ask(source, |source| Ok(found(source.alert_groups(query)))).await
}

async fn post_alerts(State(source): Source, headers: HeaderMap, body: Bytes) -> Answer {
    require_json(&headers)?;
    ask(source, move |source| source.post_alerts(&body)).await?;
    Ok(bare(StatusCode::OK))
}

async fn silences(State(source): Source, RawQuery(query): RawQuery) -> Answer {
    let query = query.as_deref();
    let query = SilenceQuery {
        matchers: matchers(query, "filter").map_err(refuse)?,
        active: switch(query, "active"),
        pending: switch(query, "pending"),
        expired: switch(query, "expired"),
    };
    ask(source, |source| Ok(found(source.silences(query)))).await
}

async fn silence(State(source): Source, Path(id): Path<String>) -> Answer {
    require_uuid(&id)?;
    ask(source, move |source| source.silence(&id)).await.map(found)
}

async fn post_silence(State(source): Source, headers: HeaderMap, body: Bytes) -> Answer {
    require_json(&headers)?;
    ask(source, move |source| source.post_silence(&body)).await.map(found)
}

async fn delete_silence(State(source): Source, Path(id): Path<String>) -> Answer {
    require_uuid(&id)?;
    ask(source, move |source| source.delete_silence(&id)).await?;
    Ok(bare(StatusCode::OK))
}

// === Requests ===

fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.unwrap_or("application/octet-stream");
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let kind = go_quote(kind.as_bytes());
    Err(Refusal::MediaType(format!("unsupported media type {kind}, only [application/json] are allowed")))
}

fn require_uuid(id: &str) -> Result<(), Refusal> {
    let groups: Vec<_> = id.split('-').collect();
    let is_hex = |group: &&str| group.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
    if groups.iter().all(is_hex) && (lengths == [8, 4, 4, 4, 12] || lengths == [32]) {
        return Ok(());
    }
    let message = format!("silenceID in path must be of type uuid: {}", go_quote(id.as_bytes()));
    Err(Refusal::Schema { code: 601, message })
}

fn refuse(e: impl Display) -> Refusal {
    Refusal::Invalid(e.to_string())
}

/// The values of all parameters of that name.
fn values<'q>(query: Option<&'q str>, name: &'q str) -> impl Iterator<Item = Cow<'q, str>> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(move |(own, _)| own == name).map(|(_, value)| value)
}

fn matchers(query: Option<&str>, name: &str) -> Result<Vec<Matcher>, config::matchers::Error> {
    values(query, name).map(|text| config::matchers::parse_one(&text)).collect()
}

fn receiver_matchers(query: Option<&str>) -> Result<Vec<Matcher>, Refusal> {
    let matchers = matchers(query, "receiver_matchers");
    matchers.map_err(|e| refuse(format!("failed to parse receiver_matchers param: {e}")))
}

/// A parameter that is on unless its last value says otherwise. What is not one of the words for it is off.
///
/// Compat: go-openapi `swag`, `ConvertBool`.
fn switch(query: Option<&str>, name: &str) -> bool {
    const ON: [&str; 10] = ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"];
    let last = values(query, name).last().filter(|text| !text.is_empty());
    last.is_none_or(|text| ON.contains(&text.to_lowercase().as_str()))
}

fn alert_query(query: Option<&str>) -> Result<AlertQuery, Refusal> {
    let matchers = matchers(query, "filter").map_err(refuse)?;
    let receiver = values(query, "receiver").last().filter(|text| !text.is_empty());
    let receiver = receiver
        .map(|text| Regex::unanchored(format!("^(?:{text})$").as_bytes()))
        .transpose()
        .map_err(|e| refuse(format!("failed to parse receiver param: {e}")))?;
    Ok(AlertQuery {
        active: switch(query, "active"),
        silenced: switch(query, "silenced"),
        inhibited: switch(query, "inhibited"),
        unprocessed: switch(query, "unprocessed"),
        muted: switch(query, "muted"),
        matchers,
        receiver,
        receiver_matchers: receiver_matchers(query)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Refusal, alert_query, require_uuid};

    #[test]
    fn queries_are_read_and_checked() {
        let query =
            alert_query(Some("active=false&filter=a%3D%22b%22&filter=c%3D~%22d.*%22&receiver=team-.*"))
                .unwrap();
        assert!(!query.active && query.silenced);
        assert_eq!(format!("{:?}", query.matchers), r#"[a="b", c=~"d.*"]"#);
        assert!(query.receiver.unwrap().is_match(b"team-x"));
        // As Alertmanager takes them.
        let odd = alert_query(Some("active=maybe&silenced=&inhibited=Yes&muted=0&muted=1")).unwrap();
        assert!(!odd.active && odd.silenced && odd.inhibited && odd.muted);
        assert!(matches!(alert_query(Some("filter=%3D")), Err(Refusal::Invalid(_))));
        assert_eq!(
            alert_query(Some("receiver=%5B")).unwrap_err(),
            Refusal::Invalid(
                "failed to parse receiver param: error parsing regexp: missing closing ]: `[)$`".to_owned()
            )
        );
    }

    #[test]
    fn ids_are_uuids() {
        require_uuid("00000000-0000-4000-8000-00000000000F").unwrap();
        for id in ["", "abc", "00000000-0000-4000-8000-00000000000", "0000000g-0000-4000-8000-000000000000"] {
            let message = format!("silenceID in path must be of type uuid: \"{id}\"");
            assert_eq!(require_uuid(id), Err(Refusal::Schema { code: 601, message }));
        }
    }
}
