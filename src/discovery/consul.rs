//! Discovery in Consul: the catalog tells which services there are, a watch of each tells its instances.
//!
//! All questions are blocking queries: Consul answers when something has changed since the index of the last
//! answer, or after two minutes. An index that goes back means that the server lost its state; it starts at 0
//! again then, lest changes be missed. What cannot be asked keeps its last instances.
//!
//! Compat: prometheus `discovery/consul`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config::TargetGroup;
use config::prometheus::ConsulDiscovery;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use model::Labels;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::fetch::{self, or_default};
use super::label::{Builder, address, wrapped};
use super::{Context, Error, Update, refresh, taken};
use crate::http_client::Client;

/// How long Consul shall wait for a change.
const WATCH: Duration = Duration::from_mins(2);

/// What an answer may take longer.
const GRACE: Duration = Duration::from_secs(15);

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(15);

type Strings = BTreeMap<String, Option<String>>;

pub(super) struct Discoverer(Arc<Watch>);

/// What all watches of a section share.
struct Watch {
    section: ConsulDiscovery,
    base: Url,
    client: Client,
    context: Context,
    retry: Duration,
    beginning: Mutex<Beginning>,
    unanswered: Unanswered,
}

/// How far the first round is.
#[derive(Default)]
struct Beginning {
    /// It is known which services there are.
    is_listed: bool,
    is_over: bool,
}

/// Services of which nothing is known yet.
type Unanswered = Arc<Mutex<BTreeSet<String>>>;

impl Discoverer {
    pub(super) fn new(section: &ConsulDiscovery, context: &Context) -> Result<Self, Error> {
        let server = section.server.trim();
        let timeout = WATCH + GRACE;
        let client = match server.strip_prefix("unix://") {
            Some(path) => Client::for_socket(&section.http, Path::new(path), timeout),
            None => Client::new(&section.http, timeout),
        };
        let client = client.map_err(|error| Error(error.to_string()))?;
        Ok(Self(Arc::new(Watch {
            base: base(section)?,
            section: section.clone(),
            client,
            context: context.clone(),
            retry: RETRY,
            beginning: Mutex::default(),
            unanswered: Unanswered::default(),
        })))
    }

    async fn watch_until_stopped(self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.0.run(updates) => {}
        }
    }
}

/// Where the API begins.
fn base(section: &ConsulDiscovery) -> Result<Url, Error> {
    let server = section.server.trim();
    let text = if server.starts_with("unix://") {
        "http://localhost".to_owned()
    } else if server.starts_with("http://") || server.starts_with("https://") {
        server.to_owned()
    } else {
        format!("{}://{server}", section.scheme)
    };
    let bad = |error: &dyn std::fmt::Display| {
        Error(format!("could not use the server address {server:?}: {error}"))
    };
    let mut url = Url::parse(&text).map_err(|error| bad(&error))?;
    if url.cannot_be_a_base() {
        return Err(bad(&"it is no host"));
    }
    url.set_path(&section.path_prefix);
    Ok(url)
}

impl Watch {
    async fn run(self: Arc<Self>, updates: mpsc::Sender<Update>) {
        self.context.health.hold();
        let datacenter = self.datacenter().await;
        let section = &self.section;
        if section.services.is_empty() || !section.tags.is_empty() || !section.filter.is_empty() {
            self.watch_catalog(&datacenter, &updates).await;
        } else {
            let start = |name: &String| self.start(name, &datacenter, &updates);
            let services: Vec<_> =
                section.services.iter().collect::<BTreeSet<_>>().into_iter().map(start).collect();
            self.listed(&updates).await;
            std::future::pending::<()>().await;
            drop(services);
        }
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks = tokio::time::interval(self.section.refresh_interval.max(refresh::INTERVAL_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// The configured datacenter or, without one, that of the agent we ask, however long it takes to learn it.
    async fn datacenter(&self) -> String {
        if !self.section.datacenter.is_empty() {
            return self.section.datacenter.clone();
        }
        loop {
            match self.query::<Agent>("/v1/agent/self", &[], 0).await {
                Ok((agent, _)) if !agent.config.datacenter.is_empty() => {
                    self.context.health.recovered("");
                    return agent.config.datacenter;
                }
                Ok(_) => {
                    let error = "invalid value '' for Config.Datacenter";
                    self.context.health.failed("", "Error retrieving datacenter name", &error);
                }
                Err(error) => {
                    self.context.metrics.consul_failures.inc();
                    self.context.health.failed("", "Error retrieving datacenter name", &error);
                }
            }
            tokio::time::sleep(self.retry).await;
        }
    }

    /// Watches which services there are and keeps a watch of each.
    async fn watch_catalog(self: &Arc<Self>, datacenter: &str, updates: &mpsc::Sender<Update>) {
        let Context { health, metrics } = &self.context;
        let mut services: BTreeMap<String, AbortOnDropHandle<()>> = BTreeMap::new();
        let mut ticks = self.ticks();
        let mut index = 0;
        let mut is_first = true;
        loop {
            ticks.tick().await;
            let start = Instant::now();
            let answer = self.watched::<BTreeMap<String, Option<Vec<String>>>>(
                "/v1/catalog/services",
                &self.section.filter,
                &[],
                index,
            );
            let answer = answer.await;
            metrics.consul_services.observe(start.elapsed().as_secs_f64());
            let listed = match answer {
                Ok((listed, now)) => {
                    health.recovered("");
                    if !advance(&mut index, now) {
                        continue;
                    }
                    listed
                }
                Err(error) => {
                    metrics.consul_failures.inc();
                    health.failed("", "Error refreshing service list", &error);
                    tokio::time::sleep(self.retry).await;
                    continue;
                }
            };
            for (name, tags) in &listed {
                if self.wants(name, tags.as_deref().unwrap_or_default()) && !services.contains_key(name) {
                    services.insert(name.clone(), self.start(name, datacenter, updates));
                }
            }
            let gone: Vec<String> =
                services.keys().filter(|name| !listed.contains_key(*name)).cloned().collect();
            for name in gone {
                if let Some(service) = services.remove(&name) {
                    service.abort();
                    // It was cancelled, which is no news; nothing comes from it any more.
                    let _ = service.await;
                }
                let group = TargetGroup { source: name.clone(), ..TargetGroup::default() };
                if updates.send(vec![Arc::new(group)]).await.is_err() {
                    return;
                }
                self.answered(&name, updates).await;
            }
            health.retain(|part| part.is_empty() || services.contains_key(part));
            if std::mem::take(&mut is_first) {
                self.listed(updates).await;
            }
        }
    }

    fn wants(&self, name: &str, tags: &[String]) -> bool {
        let section = &self.section;
        (section.services.is_empty() || section.services.iter().any(|wanted| wanted == name))
            && section.tags.iter().all(|wanted| tags.contains(wanted))
    }

    /// Begins to watch a service.
    fn start(
        self: &Arc<Self>,
        name: &str,
        datacenter: &str,
        updates: &mpsc::Sender<Update>,
    ) -> AbortOnDropHandle<()> {
        self.unanswered.lock().insert(name.to_owned());
        let labels = Labels::from_pairs([("__meta_consul_service", name), ("__meta_consul_dc", datacenter)]);
        let watch = Arc::clone(self).watch_service(name.to_owned(), labels, updates.clone());
        AbortOnDropHandle::new(tokio::spawn(watch))
    }

    async fn watch_service(self: Arc<Self>, name: String, labels: Labels, updates: mpsc::Sender<Update>) {
        let Context { health, metrics } = &self.context;
        let tags: Vec<(&str, &str)> = self.section.tags.iter().map(|tag| ("tag", tag.as_str())).collect();
        let path = format!("/v1/health/service/{name}");
        let mut ticks = self.ticks();
        let mut index = 0;
        loop {
            ticks.tick().await;
            let start = Instant::now();
            let answer =
                self.watched::<Vec<Option<Entry>>>(&path, &self.section.health_filter, &tags, index).await;
            metrics.consul_service.observe(start.elapsed().as_secs_f64());
            match answer {
                Ok((entries, now)) => {
                    health.recovered(&name);
                    if advance(&mut index, now) {
                        let targets = entries.iter().flatten().map(|entry| self.target(entry)).collect();
                        let group = TargetGroup { source: name.clone(), targets, labels: labels.clone() };
                        if updates.send(vec![Arc::new(group)]).await.is_err() {
                            return;
                        }
                    }
                    self.answered(&name, &updates).await;
                }
                Err(error) => {
                    metrics.consul_failures.inc();
                    health.failed(&name, "Error refreshing service", &error);
                    tokio::time::sleep(self.retry).await;
                }
            }
        }
    }

    /// Notes that it is known which services there are: of others than these nothing is kept.
    async fn listed(&self, updates: &mpsc::Sender<Update>) {
        taken(updates).await;
        self.beginning.lock().is_listed = true;
        let unanswered = Arc::clone(&self.unanswered);
        self.context.health.settle_but(move |source| unanswered.lock().contains(source));
        // A closed channel is noticed by whoever sends next.
        let _ = updates.send(Update::new()).await;
        self.end_beginning(updates).await;
    }

    /// Notes that the instances of a service were sent or that it is gone.
    async fn answered(&self, name: &str, updates: &mpsc::Sender<Update>) {
        if self.unanswered.lock().contains(name) {
            taken(updates).await;
            self.unanswered.lock().remove(name);
            self.end_beginning(updates).await;
        }
    }

    /// When all services were answered for, what was sent is the whole.
    async fn end_beginning(&self, updates: &mpsc::Sender<Update>) {
        let is_whole = {
            let mut beginning = self.beginning.lock();
            let is_whole = beginning.is_listed && !beginning.is_over && self.unanswered.lock().is_empty();
            beginning.is_over |= is_whole;
            is_whole
        };
        if is_whole {
            self.context.health.settle();
            let _ = updates.send(Update::new()).await;
        }
    }

    /// A question that Consul answers when something has changed since `index`.
    async fn watched<T: DeserializeOwned + Default>(
        &self,
        path: &str,
        filter: &str,
        more: &[(&str, &str)],
        index: u64,
    ) -> Result<(T, u64), Error> {
        let section = &self.section;
        let wait = format!("{}ms", WATCH.as_millis());
        let meta: Vec<String> = section.node_meta.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        let mut parameters = vec![("wait", wait.as_str())];
        parameters.extend(section.allow_stale.then_some(("stale", "")));
        parameters.extend(meta.iter().map(|pair| ("node-meta", pair.as_str())));
        parameters.extend((!filter.is_empty()).then_some(("filter", filter)));
        parameters.extend(more);
        self.query(path, &parameters, index).await
    }

    async fn query<T: DeserializeOwned + Default>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        index: u64,
    ) -> Result<(T, u64), Error> {
        let section = &self.section;
        let mut url = self.base.clone();
        let prefix = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{prefix}{}", path.replace('%', "%25")));
        let index = (index != 0).then(|| index.to_string());
        let fixed =
            [("dc", &section.datacenter), ("ns", &section.namespace), ("partition", &section.partition)];
        let fixed = fixed.into_iter().filter(|(_, value)| !value.is_empty());
        url.query_pairs_mut()
            .extend_pairs(fixed)
            .extend_pairs(parameters)
            .extend_pairs(index.iter().map(|index| ("index", index)));
        let mut headers = HeaderMap::new();
        let token = section.token.expose();
        if !token.is_empty() {
            let mut value = HeaderValue::from_str(token)
                .map_err(|_| Error("the token cannot be sent in a header".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-consul-token"), value);
        }
        let response = fetch::get(&self.client, url, headers, fetch::BODY_BYTES_MAX).await?;
        if !response.head.status.is_success() {
            let code = response.head.status.as_u16();
            return Err(Error(format!("Unexpected response code: {code} ({})", response.error_text())));
        }
        let index = response.head.headers.get("x-consul-index");
        let index = index.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok((response.json::<Option<T>>()?.unwrap_or_default(), index.unwrap_or(0)))
    }

    fn target(&self, entry: &Entry) -> Labels {
        let Entry { node, service, .. } = entry;
        // A service may be registered for another node.
        let host = if service.address.is_empty() { &node.address } else { &service.address };
        let mut labels = Builder::default();
        labels.set("__address__", address(host, service.port));
        labels.set("__meta_consul_address", &node.address);
        labels.set("__meta_consul_node", &node.name);
        labels.set("__meta_consul_namespace", &service.namespace);
        labels.set("__meta_consul_partition", &service.partition);
        labels.set("__meta_consul_tags", wrapped(&service.tags, &self.section.tag_separator));
        labels.set("__meta_consul_service_address", &service.address);
        labels.set("__meta_consul_service_port", service.port.to_string());
        labels.set("__meta_consul_service_id", &service.id);
        labels.set("__meta_consul_health", entry.status());
        let foreign = [
            ("__meta_consul_metadata_", &node.meta),
            ("__meta_consul_service_metadata_", &service.meta),
            ("__meta_consul_tagged_address_", &node.tagged_addresses),
        ];
        for (prefix, values) in foreign {
            for (name, value) in values {
                labels.set_foreign(prefix, name, value.as_deref().unwrap_or_default());
            }
        }
        labels.build()
    }
}

/// Takes over the index of an answer; tells whether the answer is news.
fn advance(index: &mut u64, now: u64) -> bool {
    // Consul's indexes begin at 1; without any there is no telling.
    let is_news = now == 0 || now != *index;
    *index = if now < *index { 0 } else { now };
    is_news
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Agent {
    #[serde(deserialize_with = "or_default")]
    config: AgentConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AgentConfig {
    #[serde(deserialize_with = "or_default")]
    datacenter: String,
}

/// An instance of a service.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    #[serde(deserialize_with = "or_default")]
    node: Node,
    #[serde(deserialize_with = "or_default")]
    service: Instance,
    #[serde(deserialize_with = "or_default")]
    checks: Vec<Option<Check>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    #[serde(rename = "Node", deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    address: String,
    #[serde(deserialize_with = "or_default")]
    tagged_addresses: Strings,
    #[serde(deserialize_with = "or_default")]
    meta: Strings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Instance {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: String,
    #[serde(deserialize_with = "or_default")]
    tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    meta: Strings,
    #[serde(deserialize_with = "or_default")]
    port: i64,
    #[serde(deserialize_with = "or_default")]
    address: String,
    #[serde(deserialize_with = "or_default")]
    namespace: String,
    #[serde(deserialize_with = "or_default")]
    partition: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Check {
    #[serde(rename = "CheckID", deserialize_with = "or_default")]
    id: String,
    #[serde(rename = "Status", deserialize_with = "or_default")]
    status: String,
}

impl Entry {
    /// The worst of all checks; empty if one says what nobody knows.
    ///
    /// Compat: consul `api`, `HealthChecks.AggregatedStatus`.
    fn status(&self) -> &'static str {
        let mut worst = "passing";
        let mut is_in_maintenance = false;
        for check in self.checks.iter().flatten() {
            if check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:") {
                is_in_maintenance = true;
                continue;
            }
            match check.status.as_str() {
                "passing" => {}
                "warning" if worst == "critical" => {}
                "warning" => worst = "warning",
                "critical" => worst = "critical",
                _ => return "",
            }
        }
        if is_in_maintenance { "maintenance" } else { worst }
    }
}

impl super::Discoverer for Discoverer {
    fn run(
        self: Box<Self>,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.watch_until_stopped(updates, stop))
    }
}

#[cfg(test)]
mod tests;
