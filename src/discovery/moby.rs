//! The API of a Docker daemon, as far as discovery asks it: over TCP, HTTP(S) or a unix socket.
//!
//! The daemon is asked once which version of the API it speaks, and then in the older of its and ours.
//!
//! Compat: moby `client`, and prometheus `discovery/moby` for networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use config::http_client::HttpClient;
use config::prometheus::DockerFilter;
use http::header::HeaderMap;
use model::Labels;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::fetch::{self, Response, or_default};
use super::label::Builder;
use super::{Error, refresh};
use crate::http_client;

/// What we read has been the same for years; newer daemons refuse older versions than this.
const VERSION: (u32, u32) = (1, 44);

/// What a daemon speaks that does not say so.
const VERSION_SILENT: (u32, u32) = (1, 24);

/// Maps of strings in which a value may be null.
pub(super) type Strings = BTreeMap<String, Option<String>>;

pub(super) struct Client {
    http: http_client::Client,
    base: Url,
    /// Known once the daemon has answered.
    version: Mutex<Option<(u32, u32)>>,
}

impl Client {
    /// The HTTP client block counts for `http` and `https` alone, as upstream has it.
    pub(super) fn new(host: &str, http: &HttpClient, interval: Duration) -> Result<Self, Error> {
        let timeout = refresh::timeout(interval);
        let bad = || Error(format!("unable to parse docker host {host:?}"));
        let (scheme, rest) = host.split_once("://").filter(|(_, rest)| !rest.is_empty()).ok_or_else(bad)?;
        let tcp = |http: &HttpClient| http_client::Client::new(http, timeout);
        let (http, base) = match scheme {
            "http" | "https" => (tcp(http), host.to_owned()),
            "tcp" => (tcp(&HttpClient::default()), format!("http://{rest}")),
            "unix" => {
                let http = http_client::Client::for_socket(&HttpClient::default(), Path::new(rest), timeout);
                (http, "http://localhost".to_owned())
            }
            other => {
                return Err(Error(format!("docker hosts of scheme {other:?} cannot be reached from here")));
            }
        };
        let http = http.map_err(|error| Error(error.to_string()))?;
        let base = Url::parse(&base).map_err(|_| bad())?;
        Ok(Self { http, base, version: Mutex::default() })
    }

    async fn get(&self, path: &str, filters: &[DockerFilter]) -> Result<Response, Error> {
        let mut url = self.base.clone();
        if !filters.is_empty() {
            url.query_pairs_mut().append_pair("filters", &filters_text(filters));
        }
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        fetch::get(&self.http, url, HeaderMap::new(), fetch::BODY_BYTES_MAX).await
    }

    async fn version(&self) -> Result<(u32, u32), Error> {
        if let Some(known) = *self.version.lock() {
            return Ok(known);
        }
        let response = self.get("/_ping", &[]).await?;
        if !response.head.status.is_success() {
            return Err(Error(format!("the daemon answers {} to a ping", response.status_text())));
        }
        let spoken = response.head.headers.get("api-version");
        let spoken = spoken.and_then(|value| parse_version(value.to_str().ok()?));
        let version = spoken.unwrap_or(VERSION_SILENT).min(VERSION);
        *self.version.lock() = Some(version);
        Ok(version)
    }

    /// Lists what lies at `path`; `what` says in an error what could not be listed.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        filters: &[DockerFilter],
    ) -> Result<Vec<T>, Error> {
        let listed = async {
            let (major, minor) = self.version().await?;
            let response = self.get(&format!("/v{major}.{minor}{path}"), filters).await?;
            if !response.head.status.is_success() {
                // A daemon that was replaced may speak another version.
                *self.version.lock() = None;
                return Err(Error(format!("{}: {}", response.status_text(), response.error_text())));
            }
            let entries: Option<Vec<Option<T>>> = response.json()?;
            Ok(entries.unwrap_or_default().into_iter().flatten().collect())
        };
        listed.await.map_err(|error: Error| Error(format!("error while {what}: {error}")))
    }

    /// The labels of every network by its id.
    pub(super) async fn networks(&self, what: &str, prefix: &str) -> Result<BTreeMap<String, Labels>, Error> {
        let networks: Vec<Network> = self.list(what, "/networks", &[]).await?;
        Ok(networks.into_iter().map(|network| (network.id.clone(), network.labels(prefix))).collect())
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `{"name": {"value": true}}`.
fn filters_text(filters: &[DockerFilter]) -> String {
    let mut all: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for filter in filters {
        let values = all.entry(&filter.name).or_default();
        values.extend(filter.values.iter().map(|value| (value.as_str(), true)));
    }
    serde_json::to_string(&all).expect("maps of strings are JSON")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Network {
    #[serde(deserialize_with = "or_default")]
    id: String,
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    scope: String,
    #[serde(deserialize_with = "or_default")]
    internal: bool,
    #[serde(deserialize_with = "or_default")]
    ingress: bool,
    #[serde(deserialize_with = "or_default")]
    labels: Strings,
}

impl Network {
    fn labels(&self, prefix: &str) -> Labels {
        let mut labels = Builder::default();
        let mut set = |name: &str, value: &str| labels.set(&format!("{prefix}network_{name}"), value);
        set("id", &self.id);
        set("name", &self.name);
        set("scope", &self.scope);
        set("internal", bool_text(self.internal));
        set("ingress", bool_text(self.ingress));
        set_all(&mut labels, &format!("{prefix}network_label_"), &self.labels);
        labels.build()
    }
}

pub(super) const fn bool_text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// Sets one label for each entry of `values`.
pub(super) fn set_all(labels: &mut Builder, prefix: &str, values: &Strings) {
    for (name, value) in values {
        labels.set_foreign(prefix, name, value.as_deref().unwrap_or_default());
    }
}

/// An address in its usual form; what is none stays as it is.
pub(super) fn ip_text(text: &str) -> String {
    text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |ip| ip.to_string())
}

/// The address of `10.0.0.2/24`; `None` where there is none.
pub(super) fn ip_of_prefix(text: &str) -> Option<String> {
    let (ip, _) = text.split_once('/')?;
    Some(ip.parse::<IpAddr>().ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use config::prometheus::DockerFilter;

    use super::{filters_text, ip_of_prefix, ip_text, parse_version};

    #[test]
    fn texts() {
        let filter = |name: &str, values: &[&str]| DockerFilter {
            name: name.to_owned(),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        };
        let filters =
            [filter("status", &["running"]), filter("label", &["a=b", "c"]), filter("status", &["exited"])];
        let text = r#"{"label":{"a=b":true,"c":true},"status":{"exited":true,"running":true}}"#;
        assert_eq!(filters_text(&filters), text);
        assert_eq!(parse_version("1.41"), Some((1, 41)));
        assert_eq!(parse_version("one"), None);
        assert_eq!(ip_text("FE80::0:1"), "fe80::1");
        assert_eq!(ip_text(""), "");
        assert_eq!(ip_of_prefix("10.0.1.4/24").as_deref(), Some("10.0.1.4"));
        assert_eq!(ip_of_prefix(""), None);
    }
}
