//! Requests to an Alertmanager's API v2, and what can go wrong with them in the words of upstream's client.
//!
//! Compat: alertmanager `api/v2/client`, `api/v2/models` (order of JSON keys included).

use std::collections::BTreeMap;

use bytes::Bytes;
use config::Secret;
use config::http_client::{BasicAuth, HttpClient, SecretSource, TextSource};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Common, Failure, Streams};
use crate::http_client::Client;

/// Enough for tens of thousands of alerts.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Whose commands these are.
const VERSION: &str = "0.34.0";

pub(super) type LabelSet = BTreeMap<String, String>;

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alert {
    #[serde(default)]
    pub(super) annotations: LabelSet,
    pub(super) ends_at: String,
    pub(super) fingerprint: String,
    pub(super) receivers: Vec<Named>,
    pub(super) starts_at: String,
    pub(super) status: AlertStatus,
    pub(super) updated_at: String,
    #[serde(rename = "generatorURL", default, skip_serializing_if = "String::is_empty")]
    pub(super) generator_url: String,
    pub(super) labels: LabelSet,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertStatus {
    #[serde(default)]
    inhibited_by: Vec<String>,
    #[serde(default)]
    muted_by: Vec<String>,
    #[serde(default)]
    silenced_by: Vec<String>,
    pub(super) state: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostedAlert {
    pub(super) annotations: LabelSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) starts_at: Option<String>,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    pub(super) generator_url: String,
    pub(super) labels: LabelSet,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Silence {
    pub(super) id: String,
    pub(super) status: State,
    pub(super) updated_at: String,
    #[serde(flatten)]
    pub(super) fields: SilenceFields,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct State {
    pub(super) state: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SilenceFields {
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub(super) annotations: LabelSet,
    pub(super) comment: String,
    pub(super) created_by: String,
    pub(super) ends_at: String,
    pub(super) matchers: Vec<Matcher>,
    pub(super) starts_at: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostedSilence {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) fields: SilenceFields,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Matcher {
    /// Absent in the answers of old servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_equal: Option<bool>,
    pub(super) is_regex: bool,
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) cluster: Cluster,
    pub(super) config: Config,
    pub(super) uptime: String,
    pub(super) version_info: VersionInfo,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Cluster {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) peers: Option<Vec<Peer>>,
    pub(super) status: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Config {
    pub(super) original: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionInfo {
    pub(super) branch: String,
    pub(super) build_date: String,
    pub(super) build_user: String,
    pub(super) go_version: String,
    pub(super) revision: String,
    pub(super) version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SilenceId {
    #[serde(rename = "silenceID")]
    silence_id: String,
}

/// One of the API's operations.
struct Operation {
    method: Method,
    /// With `{silenceID}` where the id goes.
    path: &'static str,
    name: &'static str,
}

const GET_ALERTS: Operation = Operation { method: Method::GET, path: "/alerts", name: "getAlerts" };
const POST_ALERTS: Operation = Operation { method: Method::POST, path: "/alerts", name: "postAlerts" };
const GET_SILENCES: Operation = Operation { method: Method::GET, path: "/silences", name: "getSilences" };
const POST_SILENCES: Operation = Operation { method: Method::POST, path: "/silences", name: "postSilences" };
const GET_SILENCE: Operation =
    Operation { method: Method::GET, path: "/silence/{silenceID}", name: "getSilence" };
const DELETE_SILENCE: Operation =
    Operation { method: Method::DELETE, path: "/silence/{silenceID}", name: "deleteSilence" };
const GET_STATUS: Operation = Operation { method: Method::GET, path: "/status", name: "getStatus" };

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Error {
    /// The silence is not known.
    NotFound(String),
    Other(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        match e {
            Error::NotFound(text) | Error::Other(text) => Self::Text(text),
        }
    }
}

pub(super) struct Api {
    client: Client,
    /// With `/api/v2` behind the user's path.
    base: Url,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    /// A client of the Alertmanager that the flags name, its version looked at if they do not say otherwise.
    pub(super) fn new(common: &Common, streams: &mut Streams<'_>) -> Result<Self, Failure> {
        let Some(url) = &common.url else {
            return Err("required flag --alertmanager.url not provided".into());
        };
        let mut base = url.clone();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let mut http = match common.http_config.as_deref() {
            Some(_) if has_user => {
                return Err("basic authentication and http.config.file are mutually exclusive".into());
            }
            None => HttpClient::default(),
            Some(path) => config::http_client::load(path)
                .map_err(|e| format!("failed to load HTTP config file: {e}"))?,
        };
        if has_user {
            let decode =
                |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            http.basic_auth = Some(BasicAuth {
                username: TextSource::Inline(decode(url.username())),
                password: SecretSource::Inline(Secret::new(decode(url.password().unwrap_or_default()))),
            });
            // Both fail only for URLs that have no host.
            let _ = base.set_username("");
            let _ = base.set_password(None);
        }
        base.set_path(&format!("{}/api/v2", url.path().trim_end_matches('/')));
        base.set_query(None);
        let client = Client::new(&http, common.timeout)
            .map_err(|e| format!("failed to create a new HTTP client: {e}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let api = Self { client, base, runtime };
        if common.version_check && !common.no_version_check {
            api.check_version(streams)?;
        }
        Ok(api)
    }

    fn check_version(&self, streams: &mut Streams<'_>) -> Result<(), Failure> {
        // Without an answer there is nothing to compare; what is to be done will say what is wrong.
        let Ok(status) = self.status() else { return Ok(()) };
        let theirs = status.version_info.version;
        let minor = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
        if minor(&theirs) != minor(VERSION) {
            writeln!(
                streams.err,
                "Warning: amtool version ({VERSION}) and alertmanager version ({theirs}) are different."
            )?;
        }
        Ok(())
    }

    pub(super) fn alerts(&self, query: &[(&str, &str)]) -> Result<Vec<Alert>, Error> {
        self.runtime.block_on(self.ask(&GET_ALERTS, "", query, None)).and_then(|body| read(&body))
    }

    pub(super) fn post_alerts(&self, alerts: &[PostedAlert]) -> Result<(), Error> {
        self.runtime.block_on(self.ask(&POST_ALERTS, "", &[], Some(body(alerts)))).map(drop)
    }

    pub(super) fn silences(&self, filters: &[String]) -> Result<Vec<Silence>, Error> {
        let query: Vec<(&str, &str)> = filters.iter().map(|filter| ("filter", filter.as_str())).collect();
        self.runtime.block_on(self.ask(&GET_SILENCES, "", &query, None)).and_then(|body| read(&body))
    }

    pub(super) fn silence(&self, id: &str) -> Result<Silence, Error> {
        self.runtime.block_on(self.ask(&GET_SILENCE, id, &[], None)).and_then(|body| read(&body))
    }

    /// Returns the id of what is now in force.
    pub(super) fn post_silence(&self, silence: &PostedSilence) -> Result<String, Error> {
        self.runtime.block_on(self.post(silence))
    }

    async fn post(&self, silence: &PostedSilence) -> Result<String, Error> {
        let answer = self.ask(&POST_SILENCES, "", &[], Some(body(silence))).await?;
        read::<SilenceId>(&answer).map(|answer| answer.silence_id)
    }

    /// Posts all, `workers` at a time, and passes on what became of each as it becomes known.
    pub(super) fn post_silences(
        &self,
        silences: &[PostedSilence],
        workers: usize,
        done: &mut dyn FnMut(&PostedSilence, Result<String, Error>),
    ) {
        use futures_util::StreamExt as _;
        let posts = silences.iter().map(|silence| async move {
            let mut answer = self.post(silence).await;
            // What does not exist yet is made anew.
            if matches!(answer, Err(Error::NotFound(_))) && !silence.id.is_empty() {
                let anew = PostedSilence { id: String::new(), ..silence.clone() };
                answer = self.post(&anew).await;
            }
            (silence, answer)
        });
        self.runtime.block_on(async {
            let mut answers = futures_util::stream::iter(posts).buffer_unordered(workers.max(1));
            while let Some((silence, answer)) = answers.next().await {
                done(silence, answer);
            }
        });
    }

    pub(super) fn delete_silence(&self, id: &str) -> Result<(), Error> {
        self.runtime.block_on(self.ask(&DELETE_SILENCE, id, &[], None)).map(drop)
    }

    pub(super) fn status(&self) -> Result<Status, Error> {
        self.runtime.block_on(self.ask(&GET_STATUS, "", &[], None)).and_then(|body| read(&body))
    }

    async fn ask(
        &self,
        operation: &Operation,
        id: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, Error> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            let segments = operation.path.trim_start_matches('/').split('/');
            path.extend(segments.map(|segment| if segment == "{silenceID}" { id } else { segment }));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let other = |e: crate::http_client::Error| Error::Other(e.to_string());
        let mut request = self.client.request(operation.method.clone(), url).map_err(other)?;
        request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        let (head, body) = request.read(BODY_BYTES_MAX).await.map_err(other)?;
        if head.status.is_success() { Ok(body) } else { Err(refusal(operation, head.status, &body)) }
    }
}

fn refusal(operation: &Operation, status: StatusCode, body: &[u8]) -> Error {
    let (code, kind) = match status {
        StatusCode::BAD_REQUEST => (400, "BadRequest"),
        StatusCode::NOT_FOUND => (404, "NotFound"),
        StatusCode::INTERNAL_SERVER_ERROR => (500, "InternalServerError"),
        _ => {
            let Operation { method, path, name } = operation;
            let code = status.as_u16();
            let said: Option<Said> = serde_json::from_slice(body).ok();
            let said = said.map_or_else(|| "{}".to_owned(), |said| said.message);
            return Error::Other(format!("[{method} {path}] {name} (status {code}): {said}"));
        }
    };
    let Operation { method, path, name } = operation;
    let shown = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(message) => format!(" {message}"),
        Err(_) if body.is_empty() => String::new(),
        Err(_) => format!(" {}", String::from_utf8_lossy(body).trim()),
    };
    let text = format!("[{method} {path}][{code}] {name}{kind}{shown}");
    if code == 404 { Error::NotFound(text) } else { Error::Other(text) }
}

/// What answers that are not of the operation's own say; upstream's client does not show it.
#[derive(Deserialize)]
struct Said {
    message: String,
}

fn body<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and lists of them are JSON")
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|e| Error::Other(format!("cannot read the Alertmanager's answer: {e}")))
}
