//! Discovery of the services, tasks and nodes of a Docker Swarm.
//!
//! Compat: prometheus `discovery/moby`, `Discovery`.

use std::collections::BTreeMap;

use config::TargetGroup;
use config::prometheus::{DockerSwarmDiscovery, DockerSwarmRole};
use model::Labels;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Error;
use super::fetch::or_default;
use super::label::{Builder, address};
use super::moby::{Client, Strings, bool_text, ip_of_prefix, set_all};
use super::refresh::{self, Answer};

const PREFIX: &str = "__meta_dockerswarm_";

pub(super) struct Source {
    section: DockerSwarmDiscovery,
    client: Client,
}

impl Source {
    pub(super) fn new(section: &DockerSwarmDiscovery) -> Result<Self, Error> {
        let client = Client::new(&section.host, &section.http, section.refresh_interval)
            .map_err(|error| Error(format!("error setting up docker swarm client: {error}")))?;
        Ok(Self { section: section.clone(), client })
    }

    async fn services(&self) -> Result<Vec<Labels>, Error> {
        let services: Vec<Service> =
            self.client.list("listing swarm services", "/services", &self.section.filters).await?;
        let networks = self.client.networks("computing swarm network labels", PREFIX).await?;
        Ok(services.iter().flat_map(|service| service.targets(self.section.port, &networks)).collect())
    }

    async fn tasks(&self) -> Result<Vec<Labels>, Error> {
        let tasks: Vec<Task> =
            self.client.list("listing swarm tasks", "/tasks", &self.section.filters).await?;
        let services: Vec<Service> =
            self.client.list("computing services labels and ports", "/services", &[]).await?;
        let nodes: Vec<Node> = self.client.list("computing nodes labels and ports", "/nodes", &[]).await?;
        let cluster = Cluster {
            services: services.iter().map(|service| (service.id.as_str(), service)).collect(),
            nodes: nodes.iter().map(|node| (node.id.as_str(), node)).collect(),
            networks: self.client.networks("computing swarm network labels", PREFIX).await?,
        };
        Ok(tasks.iter().flat_map(|task| task.targets(self.section.port, &cluster)).collect())
    }

    async fn nodes(&self) -> Result<Vec<Labels>, Error> {
        let nodes: Vec<Node> =
            self.client.list("listing swarm nodes", "/nodes", &self.section.filters).await?;
        Ok(nodes.iter().map(|node| node.target(self.section.port)).collect())
    }
}

impl refresh::Source for Source {
    async fn refresh(&self) -> Result<Answer, Error> {
        let targets = match self.section.role {
            DockerSwarmRole::Nodes => self.nodes().await,
            DockerSwarmRole::Services => self.services().await,
            DockerSwarmRole::Tasks => self.tasks().await,
        };
        let source = "DockerSwarm".to_owned();
        Ok(Answer::one(TargetGroup { source, targets: targets?, labels: Labels::empty() }))
    }
}

/// What tasks refer to, by id.
struct Cluster<'a> {
    services: BTreeMap<&'a str, &'a Service>,
    nodes: BTreeMap<&'a str, &'a Node>,
    networks: BTreeMap<String, Labels>,
}

// === services ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: String,
    #[serde(rename = "Spec", deserialize_with = "or_default")]
    spec: ServiceSpec,
    #[serde(rename = "Endpoint", deserialize_with = "or_default")]
    endpoint: Endpoint,
    #[serde(rename = "UpdateStatus")]
    update_status: Option<UpdateStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ServiceSpec {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    labels: Strings,
    #[serde(deserialize_with = "or_default")]
    mode: Mode,
    #[serde(deserialize_with = "or_default")]
    task_template: TaskSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mode {
    global: Option<IgnoredAny>,
    replicated: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskSpec {
    /// Of plugins and network attachments there is none.
    container_spec: Option<ContainerSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerSpec {
    #[serde(deserialize_with = "or_default")]
    image: String,
    #[serde(deserialize_with = "or_default")]
    hostname: String,
    #[serde(deserialize_with = "or_default")]
    labels: Strings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "Ports", deserialize_with = "or_default")]
    ports: Vec<Port>,
    #[serde(rename = "VirtualIPs", deserialize_with = "or_default")]
    virtual_ips: Vec<VirtualIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    protocol: String,
    #[serde(rename = "PublishedPort", deserialize_with = "or_default")]
    published: u32,
    #[serde(deserialize_with = "or_default")]
    publish_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VirtualIp {
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    network_id: String,
    /// With the length of its network's prefix.
    #[serde(rename = "Addr", deserialize_with = "or_default")]
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UpdateStatus {
    #[serde(deserialize_with = "or_default")]
    state: String,
}

fn tcp(ports: &[Port]) -> impl Iterator<Item = &Port> {
    ports.iter().filter(|port| port.protocol == "tcp")
}

impl Service {
    /// What tasks show of their service, too.
    fn labels(&self) -> Builder {
        let mode = match &self.spec.mode {
            Mode { global: Some(_), .. } => "global",
            Mode { replicated: Some(_), .. } => "replicated",
            Mode { .. } => "",
        };
        let mut labels = Builder::default();
        labels.set("__meta_dockerswarm_service_id", &self.id);
        labels.set("__meta_dockerswarm_service_name", &self.spec.name);
        labels.set("__meta_dockerswarm_service_mode", mode);
        set_all(&mut labels, "__meta_dockerswarm_service_label_", &self.spec.labels);
        labels
    }

    /// One target per virtual address and TCP port. An address that is none yet is passed over: upstream fails
    /// the whole answer then, for all services.
    fn targets(&self, port: i64, networks: &BTreeMap<String, Labels>) -> Vec<Labels> {
        let mut common = self.labels();
        if let Some(container) = &self.spec.task_template.container_spec {
            common.set("__meta_dockerswarm_service_task_container_hostname", &container.hostname);
            common.set("__meta_dockerswarm_service_task_container_image", &container.image);
        }
        if let Some(update) = &self.update_status {
            common.set("__meta_dockerswarm_service_updating_status", &update.state);
        }
        let mut targets = Vec::new();
        for virtual_ip in &self.endpoint.virtual_ips {
            let Some(ip) = ip_of_prefix(&virtual_ip.address) else { continue };
            let mut common = common.clone();
            if let Some(labels) = networks.get(&virtual_ip.network_id) {
                common.extend(labels);
            }
            let n_before = targets.len();
            targets.extend(tcp(&self.endpoint.ports).map(|port| {
                let mut labels = common.clone();
                labels.set("__meta_dockerswarm_service_endpoint_port_name", &port.name);
                labels.set("__meta_dockerswarm_service_endpoint_port_publish_mode", &port.publish_mode);
                labels.set("__address__", address(&ip, port.published));
                labels.build()
            }));
            if targets.len() == n_before {
                common.set("__address__", address(&ip, port));
                targets.push(common.build());
            }
        }
        targets
    }
}

// === tasks ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Task {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: String,
    #[serde(rename = "ServiceID", deserialize_with = "or_default")]
    service_id: String,
    #[serde(rename = "NodeID", deserialize_with = "or_default")]
    node_id: String,
    #[serde(rename = "Slot", deserialize_with = "or_default")]
    slot: i64,
    #[serde(rename = "DesiredState", deserialize_with = "or_default")]
    desired_state: String,
    #[serde(rename = "Status", deserialize_with = "or_default")]
    status: TaskStatus,
    #[serde(rename = "Spec", deserialize_with = "or_default")]
    spec: TaskSpec,
    #[serde(rename = "NetworksAttachments", deserialize_with = "or_default")]
    networks: Vec<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskStatus {
    #[serde(deserialize_with = "or_default")]
    state: String,
    container_status: Option<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    port_status: PortStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    #[serde(rename = "ContainerID", deserialize_with = "or_default")]
    container_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PortStatus {
    #[serde(deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    #[serde(deserialize_with = "or_default")]
    network: Attached,
    /// With the length of their network's prefix.
    #[serde(deserialize_with = "or_default")]
    addresses: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attached {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: String,
}

impl Task {
    fn targets(&self, port: i64, cluster: &Cluster<'_>) -> Vec<Labels> {
        let service = cluster.services.get(self.service_id.as_str());
        let node = cluster.nodes.get(self.node_id.as_str());
        let common = self.labels(service.copied(), node.copied());
        let published = |port: &Port, host: &str, network: Option<&Labels>| {
            let mut labels = common.clone();
            if let Some(network) = network {
                labels.extend(network);
            }
            labels.set("__meta_dockerswarm_task_port_publish_mode", &port.publish_mode);
            labels.set("__address__", address(host, port.published));
            labels.build()
        };
        // Ports that the task itself publishes are reached on its node.
        let host = node.map_or("", |node| node.status.address.as_str());
        let mut targets: Vec<Labels> =
            tcp(&self.status.port_status.ports).map(|port| published(port, host, None)).collect();
        for attachment in &self.networks {
            let network = cluster.networks.get(&attachment.network.id);
            for ip in attachment.addresses.iter().filter_map(|address| ip_of_prefix(address)) {
                let n_before = targets.len();
                let ports = service.map(|service| service.endpoint.ports.as_slice()).unwrap_or_default();
                targets.extend(tcp(ports).map(|port| published(port, &ip, network)));
                if targets.len() == n_before {
                    let mut labels = common.clone();
                    if let Some(network) = network {
                        labels.extend(network);
                    }
                    labels.set("__address__", address(&ip, port));
                    targets.push(labels.build());
                }
            }
        }
        targets
    }

    fn labels(&self, service: Option<&Service>, node: Option<&Node>) -> Builder {
        let mut labels = Builder::default();
        labels.set("__meta_dockerswarm_task_id", &self.id);
        labels.set("__meta_dockerswarm_task_desired_state", &self.desired_state);
        labels.set("__meta_dockerswarm_task_state", &self.status.state);
        labels.set("__meta_dockerswarm_task_slot", self.slot.to_string());
        if let Some(container) = &self.status.container_status {
            labels.set("__meta_dockerswarm_task_container_id", &container.container_id);
        }
        if let Some(container) = &self.spec.container_spec {
            set_all(&mut labels, "__meta_dockerswarm_container_label_", &container.labels);
        }
        if let Some(service) = service {
            labels.extend(&service.labels().build());
        }
        if let Some(node) = node {
            labels.extend(&node.labels().build());
        }
        labels
    }
}

// === nodes ===

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: String,
    #[serde(rename = "Spec", deserialize_with = "or_default")]
    spec: NodeSpec,
    #[serde(rename = "Description", deserialize_with = "or_default")]
    description: Description,
    #[serde(rename = "Status", deserialize_with = "or_default")]
    status: NodeStatus,
    #[serde(rename = "ManagerStatus")]
    manager_status: Option<ManagerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeSpec {
    #[serde(deserialize_with = "or_default")]
    labels: Strings,
    #[serde(deserialize_with = "or_default")]
    role: String,
    #[serde(deserialize_with = "or_default")]
    availability: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Description {
    #[serde(deserialize_with = "or_default")]
    hostname: String,
    #[serde(deserialize_with = "or_default")]
    platform: Platform,
    #[serde(deserialize_with = "or_default")]
    engine: Engine,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    #[serde(rename = "Architecture", deserialize_with = "or_default")]
    architecture: String,
    #[serde(rename = "OS", deserialize_with = "or_default")]
    os: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Engine {
    #[serde(deserialize_with = "or_default")]
    engine_version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    #[serde(rename = "State", deserialize_with = "or_default")]
    state: String,
    #[serde(rename = "Addr", deserialize_with = "or_default")]
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ManagerStatus {
    #[serde(rename = "Leader", deserialize_with = "or_default")]
    leader: bool,
    #[serde(rename = "Reachability", deserialize_with = "or_default")]
    reachability: String,
    #[serde(rename = "Addr", deserialize_with = "or_default")]
    address: String,
}

impl Node {
    /// What tasks show of their node, too.
    fn labels(&self) -> Builder {
        let mut labels = Builder::default();
        labels.set("__meta_dockerswarm_node_id", &self.id);
        labels.set("__meta_dockerswarm_node_role", &self.spec.role);
        labels.set("__meta_dockerswarm_node_address", &self.status.address);
        labels.set("__meta_dockerswarm_node_availability", &self.spec.availability);
        labels.set("__meta_dockerswarm_node_hostname", &self.description.hostname);
        labels.set("__meta_dockerswarm_node_platform_architecture", &self.description.platform.architecture);
        labels.set("__meta_dockerswarm_node_platform_os", &self.description.platform.os);
        labels.set("__meta_dockerswarm_node_status", &self.status.state);
        set_all(&mut labels, "__meta_dockerswarm_node_label_", &self.spec.labels);
        labels
    }

    fn target(&self, port: i64) -> Labels {
        let mut labels = self.labels();
        labels.set("__meta_dockerswarm_node_engine_version", &self.description.engine.engine_version);
        if let Some(manager) = &self.manager_status {
            labels.set("__meta_dockerswarm_node_manager_leader", bool_text(manager.leader));
            labels.set("__meta_dockerswarm_node_manager_reachability", &manager.reachability);
            labels.set("__meta_dockerswarm_node_manager_address", &manager.address);
        }
        labels.set("__address__", address(&self.status.address, port));
        labels.build()
    }
}

#[cfg(test)]
mod tests;
