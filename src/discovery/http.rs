//! Discovery by HTTP: somebody else's list of target groups as JSON.
//!
//! Compat: prometheus `discovery/http`.

use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::HttpDiscovery;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use model::LabelsBuilder;
use url::Url;

use super::refresh::Answer;
use super::{Error, Metrics, fetch, refresh};
use crate::http_client::Client;

pub(super) struct Source {
    /// As in the section.
    text: String,
    url: Url,
    /// What the server is told about when we will be back, in seconds.
    interval: String,
    client: Client,
    bytes_max: usize,
    metrics: Arc<Metrics>,
}

impl Source {
    pub(super) fn new(section: &HttpDiscovery, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let url = Url::parse(&section.url).map_err(|error| Error(format!("could not parse the URL: {error}")))?;
        let client = Client::new(&section.http, refresh::timeout(section.refresh_interval))
            .map_err(|error| Error(error.to_string()))?;
        Ok(Self {
            text: section.url.clone(),
            url,
            interval: section.refresh_interval.as_secs_f64().to_string(),
            client,
            bytes_max: fetch::BODY_BYTES_MAX,
            metrics,
        })
    }

    async fn ask(&self) -> Result<Vec<TargetGroup>, Error> {
        let request = fetch::get(&self.client, self.url.clone())?
            .header(ACCEPT, "application/json")
            .header("X-Prometheus-Refresh-Interval-Seconds", &self.interval);
        let response = fetch::send(request, self.bytes_max).await?;
        if response.status != StatusCode::OK {
            return Err(Error(format!("server returned HTTP status {}", response.status_text())));
        }
        let kind = response.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let kind = kind.unwrap_or_default();
        if !is_json(&kind) {
            return Err(Error(format!("unsupported content type {kind:?}")));
        }
        let mut groups = config::target_group::parse_json(&String::from_utf8_lossy(&response.body))
            .map_err(|problem| Error(problem.message))?;
        for (i, group) in groups.iter_mut().enumerate() {
            group.source = format!("{}:{i}", self.text);
            let mut labels = LabelsBuilder::from(&group.labels);
            labels.set(b"__meta_url", self.text.as_bytes());
            group.labels = labels.build();
        }
        Ok(groups)
    }
}

/// `application/json`, with no parameter but the charset UTF-8.
fn is_json(kind: &str) -> bool {
    let kind = kind.trim().to_ascii_lowercase();
    let Some(rest) = kind.strip_prefix("application/json") else { return false };
    let charset = rest.strip_prefix(';').map(str::trim_start);
    rest.is_empty() || matches!(charset, Some("charset=utf-8" | "charset=\"utf-8\""))
}

impl refresh::Source for Source {
    async fn refresh(&self) -> Result<Answer, Error> {
        let groups = self.ask().await.inspect_err(|_| self.metrics.http_failures.inc())?;
        Ok(Answer { groups: groups.into_iter().map(Arc::new).collect(), ..Answer::default() })
    }
}

#[cfg(test)]
mod tests;
