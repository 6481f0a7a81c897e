//! Discovery by HTTP: somebody else's list of target groups as JSON.
//!
//! Compat: prometheus `discovery/http`.

use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::HttpDiscovery;
use http::StatusCode;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use model::LabelsBuilder;
use url::Url;

use super::refresh::Answer;
use super::{Error, Metrics, fetch, refresh};
use crate::http_client::Client;

pub(super) struct Source {
    /// As in the section.
    text: String,
    url: Url,
    headers: HeaderMap,
    client: Client,
    bytes_max: usize,
    metrics: Arc<Metrics>,
}

impl Source {
    pub(super) fn new(section: &HttpDiscovery, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let url =
            Url::parse(&section.url).map_err(|error| Error(format!("could not parse the URL: {error}")))?;
        let client = Client::new(&section.http, refresh::timeout(section.refresh_interval))
            .map_err(|error| Error(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // When we will be back.
        let interval = HeaderValue::from_str(&section.refresh_interval.as_secs_f64().to_string());
        let interval = interval.expect("a number can be sent in a header");
        headers.insert(HeaderName::from_static("x-prometheus-refresh-interval-seconds"), interval);
        Ok(Self {
            text: section.url.clone(),
            url,
            headers,
            client,
            bytes_max: fetch::BODY_BYTES_MAX,
            metrics,
        })
    }

    async fn ask(&self) -> Result<Vec<TargetGroup>, Error> {
        let response =
            fetch::get(&self.client, self.url.clone(), self.headers.clone(), self.bytes_max).await?;
        if response.head.status != StatusCode::OK {
            return Err(Error(format!("server returned HTTP status {}", response.status_text())));
        }
        if !response.head.is_json() {
            return Err(Error(format!("unsupported content type {:?}", response.head.content_type())));
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

impl refresh::Source for Source {
    async fn refresh(&self) -> Result<Answer, Error> {
        let groups = self.ask().await.inspect_err(|_| self.metrics.http_failures.inc())?;
        Ok(Answer { groups: groups.into_iter().map(Arc::new).collect(), ..Answer::default() })
    }
}

#[cfg(test)]
mod tests;
