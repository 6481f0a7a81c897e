//! Discovery of the containers of one Docker daemon: one target per container, network and exposed TCP port.
//!
//! Compat: prometheus `discovery/moby`, `DockerDiscovery`.

use std::collections::BTreeMap;

use config::TargetGroup;
use config::prometheus::DockerDiscovery;
use model::Labels;
use serde::Deserialize;

use super::Error;
use super::fetch::or_default;
use super::label::{Builder, address};
use super::moby::{Client, Strings, ip_text, set_all};
use super::refresh::{self, Answer};

const PREFIX: &str = "__meta_docker_";

pub(super) struct Source {
    section: DockerDiscovery,
    client: Client,
}

impl Source {
    pub(super) fn new(section: &DockerDiscovery) -> Result<Self, Error> {
        let client = Client::new(&section.host, &section.http, section.refresh_interval)
            .map_err(|error| Error(format!("error setting up docker client: {error}")))?;
        Ok(Self { section: section.clone(), client })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    #[serde(deserialize_with = "or_default")]
    id: String,
    #[serde(deserialize_with = "or_default")]
    names: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    labels: Strings,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<Port>,
    #[serde(deserialize_with = "or_default")]
    host_config: HostConfig,
    #[serde(deserialize_with = "or_default")]
    network_settings: NetworkSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    #[serde(rename = "IP", deserialize_with = "or_default")]
    ip: String,
    #[serde(rename = "PrivatePort", deserialize_with = "or_default")]
    private: u16,
    #[serde(rename = "PublicPort", deserialize_with = "or_default")]
    public: u16,
    #[serde(rename = "Type", deserialize_with = "or_default")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    #[serde(deserialize_with = "or_default")]
    network_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    #[serde(deserialize_with = "or_default")]
    networks: BTreeMap<String, Option<Endpoint>>,
}

/// A container's place in a network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    network_id: String,
    #[serde(rename = "IPAddress", deserialize_with = "or_default")]
    ipv4: String,
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "or_default")]
    ipv6: String,
}

impl Endpoint {
    fn ip(&self) -> String {
        ip_text(if self.ipv4.is_empty() { &self.ipv6 } else { &self.ipv4 })
    }
}

impl Container {
    fn network_mode(&self) -> &str {
        &self.host_config.network_mode
    }

    /// The networks it is in; if it lives in the network of another container, those of that one.
    fn networks<'a>(&'a self, all: &BTreeMap<&str, &'a Self>) -> &'a BTreeMap<String, Option<Endpoint>> {
        let mut owner = self;
        // No chain is longer than this unless it bites its tail.
        for _ in 0..all.len() {
            if !owner.network_settings.networks.is_empty() {
                break;
            }
            let other = owner.network_mode().strip_prefix("container:").and_then(|id| all.get(id));
            let Some(other) = other else { break };
            owner = other;
        }
        &owner.network_settings.networks
    }
}

impl refresh::Source for Source {
    async fn refresh(&self) -> Result<Answer, Error> {
        let containers: Vec<Container> =
            self.client.list("listing containers", "/containers/json", &self.section.filters).await?;
        let networks = self.client.networks("computing network labels", PREFIX).await?;
        Ok(Answer::one(group(&self.section, &containers, &networks)))
    }
}

fn group(
    section: &DockerDiscovery,
    containers: &[Container],
    labels: &BTreeMap<String, Labels>,
) -> TargetGroup {
    let all: BTreeMap<&str, &Container> = containers.iter().map(|c| (c.id.as_str(), c)).collect();
    let mut targets = Vec::new();
    for container in containers {
        let Some(name) = container.names.first() else { continue };
        let mut common = Builder::default();
        common.set("__meta_docker_container_id", &container.id);
        common.set("__meta_docker_container_name", name);
        common.set("__meta_docker_container_network_mode", container.network_mode());
        set_all(&mut common, "__meta_docker_container_label_", &container.labels);
        let n_taken = if section.match_first_network { 1 } else { usize::MAX };
        // By name, and networks that are null are none.
        for endpoint in container.networks(&all).values().flatten().take(n_taken) {
            let mut common = common.clone();
            common.set("__meta_docker_network_ip", endpoint.ip());
            if let Some(labels) = labels.get(&endpoint.network_id) {
                common.extend(labels);
            }
            targets.extend(of_network(section, container, endpoint, &common));
        }
    }
    TargetGroup { source: "Docker".to_owned(), targets, labels: Labels::empty() }
}

/// The targets of a container in one network: its TCP ports or, if it exposes none, the default port.
fn of_network(
    section: &DockerDiscovery,
    container: &Container,
    endpoint: &Endpoint,
    common: &Builder,
) -> Vec<Labels> {
    let exposed = container.ports.iter().filter(|port| port.kind == "tcp").map(|port| {
        let mut labels = common.clone();
        labels.set("__meta_docker_port_private", port.private.to_string());
        if port.public > 0 {
            labels.set("__meta_docker_port_public", port.public.to_string());
            labels.set("__meta_docker_port_public_ip", ip_text(&port.ip));
        }
        labels.set("__address__", address(&endpoint.ip(), port.private));
        labels.build()
    });
    let exposed: Vec<Labels> = exposed.collect();
    if !exposed.is_empty() {
        return exposed;
    }
    // Containers in the host's network have no ports of their own.
    let address = if container.network_mode() == "host" {
        section.host_networking_host.clone()
    } else {
        address(&endpoint.ip(), section.port)
    };
    let mut labels = common.clone();
    labels.set("__address__", address);
    vec![labels.build()]
}

#[cfg(test)]
mod tests;
