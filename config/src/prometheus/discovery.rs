//! The discovery sections of a job: one type per mechanism that runs here, one for all that are only validated.
//!
//! Compat: prometheus `discovery/*`, `SDConfig` of each.

mod aws;
mod clouds;
mod consul;
pub(crate) mod decode;
mod docker;
mod http;
mod kubernetes;
pub(crate) mod print;
mod registries;
mod selectors;
mod table;

pub use decode::other_mechanisms;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::Secret;
use crate::http_client::HttpClient;
use crate::target_group::TargetGroup;

/// One section. Equal sections find the same targets, so they are run once.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    Consul(Box<ConsulDiscovery>),
    Dns(DnsDiscovery),
    Docker(Box<DockerDiscovery>),
    DockerSwarm(Box<DockerSwarmDiscovery>),
    File(FileDiscovery),
    Http(Box<HttpDiscovery>),
    Kubernetes(Box<KubernetesDiscovery>),
    /// Valid, but it finds nothing here.
    Other(OtherDiscovery),
    Static(Vec<TargetGroup>),
}

impl Discovery {
    /// The key under which it stands.
    pub fn key(&self) -> String {
        let mechanism = match self {
            Self::Consul(_) => "consul",
            Self::Dns(_) => "dns",
            Self::Docker(_) => "docker",
            Self::DockerSwarm(_) => "dockerswarm",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Kubernetes(_) => "kubernetes",
            Self::Other(other) => other.mechanism,
            Self::Static(_) => return "static_configs".to_owned(),
        };
        format!("{mechanism}_sd_configs")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiscovery {
    /// Globs, joined to the directory of the configuration.
    pub files: Vec<String>,
    pub refresh_interval: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsDiscovery {
    pub names: Vec<String>,
    pub record_type: DnsRecordType,
    /// Required unless the record itself carries a port (SRV).
    pub port: Option<u16>,
    pub refresh_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsRecordType {
    A,
    Aaaa,
    Mx,
    Ns,
    Srv,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpDiscovery {
    pub url: String,
    pub refresh_interval: Duration,
    pub http: HttpClient,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesDiscovery {
    /// `None` for the cluster we run in, or for what `kubeconfig_file` says. A password in it is a secret.
    pub api_server: Option<String>,
    pub role: KubernetesRole,
    pub kubeconfig_file: Option<PathBuf>,
    pub http: HttpClient,
    pub namespaces: KubernetesNamespaces,
    pub selectors: Vec<KubernetesSelector>,
    /// `None` when the file has no such section.
    pub attach_metadata: Option<AttachMetadata>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KubernetesRole {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

impl KubernetesRole {
    const ALL: [Self; 6] =
        [Self::Node, Self::Pod, Self::Service, Self::Endpoints, Self::EndpointSlice, Self::Ingress];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Ingress => "ingress",
        }
    }
}

/// All namespaces if it names none.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KubernetesNamespaces {
    pub own_namespace: bool,
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSelector {
    pub role: KubernetesRole,
    /// As typed; empty for none.
    pub label: String,
    /// As typed; empty for none.
    pub field: String,
}

#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as in the file")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AttachMetadata {
    pub node: bool,
    pub namespace: bool,
    pub deployment: bool,
    pub job: bool,
    pub cronjob: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ConsulDiscovery {
    /// `host:port`.
    pub server: String,
    pub path_prefix: String,
    pub scheme: String,
    pub token: Secret,
    pub datacenter: String,
    pub namespace: String,
    pub partition: String,
    pub username: String,
    pub password: Secret,
    pub tag_separator: String,
    /// All if it names none.
    pub services: Vec<String>,
    /// A service must have all of them.
    pub tags: Vec<String>,
    pub node_meta: BTreeMap<String, String>,
    pub filter: String,
    pub health_filter: String,
    pub allow_stale: bool,
    pub refresh_interval: Duration,
    pub http: HttpClient,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DockerDiscovery {
    /// A URL: `unix`, `npipe`, `tcp`, `http` or `https`.
    pub host: String,
    /// Of containers that expose none.
    pub port: i64,
    pub filters: Vec<DockerFilter>,
    pub host_networking_host: String,
    pub match_first_network: bool,
    pub refresh_interval: Duration,
    pub http: HttpClient,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerFilter {
    pub name: String,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DockerSwarmDiscovery {
    /// A URL, as [`DockerDiscovery::host`].
    pub host: String,
    pub role: DockerSwarmRole,
    /// Of services and tasks that publish none.
    pub port: i64,
    pub filters: Vec<DockerFilter>,
    pub refresh_interval: Duration,
    pub http: HttpClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerSwarmRole {
    Nodes,
    Services,
    Tasks,
}

impl DockerSwarmRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Services => "services",
            Self::Tasks => "tasks",
        }
    }
}

/// A section of a mechanism that is not built yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherDiscovery {
    /// As in `<mechanism>_sd_configs`.
    pub mechanism: &'static str,
    /// What is printed of the section: defaults filled in, secrets masked.
    pub(crate) printed: crate::yaml::Out,
}

#[cfg(test)]
mod tests;
