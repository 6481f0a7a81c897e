//! The objects of a cluster, cut down to what target labels are made of.
//!
//! An API server sends ten kilobytes per pod; what is kept of one is a few hundred bytes, most of them shared
//! with other pods ([`Text`]). Everything else is skipped while the JSON is read. Two objects that are equal
//! here give equal targets, so heartbeats and the like end at this comparison.
//!
//! Compat: the v1 APIs of `core`, `discovery.k8s.io`, `networking.k8s.io`, `apps` and `batch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::prometheus::KubernetesRole;
use k8s_openapi::api::{apps, batch, core, discovery, networking};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::text::Text;

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    Namespace,
    ReplicaSet,
    Job,
}

impl Kind {
    #[cfg(test)]
    pub(super) const ALL: [Self; 9] = [
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::Ingress,
        Self::Namespace,
        Self::ReplicaSet,
        Self::Job,
    ];

    /// The path of the collection, of one namespace or of all.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        match self {
            Self::Node => core::v1::Node::url_path(&(), namespace),
            Self::Pod => core::v1::Pod::url_path(&(), namespace),
            Self::Service => core::v1::Service::url_path(&(), namespace),
            Self::Endpoints => core::v1::Endpoints::url_path(&(), namespace),
            Self::EndpointSlice => discovery::v1::EndpointSlice::url_path(&(), namespace),
            Self::Ingress => networking::v1::Ingress::url_path(&(), namespace),
            Self::Namespace => core::v1::Namespace::url_path(&(), namespace),
            Self::ReplicaSet => apps::v1::ReplicaSet::url_path(&(), namespace),
            Self::Job => batch::v1::Job::url_path(&(), namespace),
        }
    }

    /// Whether the object's metadata is all we read, so that the server need not send more.
    pub(super) const fn is_metadata_only(self) -> bool {
        matches!(self, Self::Namespace | Self::ReplicaSet | Self::Job)
    }
}

impl From<KubernetesRole> for Kind {
    fn from(role: KubernetesRole) -> Self {
        match role {
            KubernetesRole::Node => Self::Node,
            KubernetesRole::Pod => Self::Pod,
            KubernetesRole::Service => Self::Service,
            KubernetesRole::Endpoints => Self::Endpoints,
            KubernetesRole::EndpointSlice => Self::EndpointSlice,
            KubernetesRole::Ingress => Self::Ingress,
        }
    }
}

/// Tells the objects of a kind apart; the namespace of what has none is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Key {
    pub(super) namespace: Text,
    pub(super) name: Text,
}

impl Key {
    #[cfg(test)]
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// An object of any kind, cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    Endpoints(Arc<Endpoints>),
    EndpointSlice(Arc<EndpointSlice>),
    Ingress(Arc<Ingress>),
    Namespace(Arc<Meta>),
    ReplicaSet(Arc<Owned>),
    Job(Arc<Owned>),
}

/// Names and values, sorted by name.
pub(super) type Pairs = Box<[(Text, Text)]>;

#[derive(Debug, PartialEq, Default)]
pub(super) struct Meta {
    pub(super) key: Key,
    pub(super) labels: Pairs,
    pub(super) annotations: Pairs,
}

impl Meta {
    pub(super) fn label(&self, name: &str) -> Option<&Text> {
        let i = self.labels.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.labels[i].1)
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        let i = self.annotations.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.annotations[i].1)
    }
}

/// The controller among the owners of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owner {
    pub(super) kind: Text,
    pub(super) name: Text,
}

/// What stands between pods and what made them: of interest is its own owner only.
#[derive(Debug, PartialEq)]
pub(super) struct Owned {
    pub(super) key: Key,
    pub(super) owner: Option<Owner>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) meta: Meta,
    pub(super) provider_id: Box<str>,
    /// Type and status.
    pub(super) conditions: Box<[(Text, Text)]>,
    /// Type and address.
    pub(super) addresses: Box<[(Text, Text)]>,
    pub(super) kubelet_port: i32,
}

#[derive(Debug, PartialEq)]
pub(super) struct Pod {
    pub(super) meta: Meta,
    pub(super) uid: Box<str>,
    pub(super) owner: Option<Owner>,
    pub(super) node_name: Text,
    pub(super) phase: Text,
    /// The status of the condition, `None` without one.
    pub(super) ready: Option<Text>,
    pub(super) ip: Box<str>,
    pub(super) host_ip: Text,
    /// Init containers come last.
    pub(super) containers: Box<[Container]>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Container {
    pub(super) name: Text,
    pub(super) image: Text,
    pub(super) id: Box<str>,
    pub(super) is_init: bool,
    pub(super) ports: Box<[ContainerPort]>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerPort {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: Text,
    #[serde(default, deserialize_with = "or_default", rename = "containerPort")]
    pub(super) number: i32,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) protocol: Text,
}

#[derive(Debug, PartialEq)]
pub(super) struct Service {
    pub(super) meta: Meta,
    /// `ClusterIP`, `ExternalName`, ...
    pub(super) kind: Text,
    pub(super) cluster_ip: Box<str>,
    pub(super) external_name: Box<str>,
    pub(super) load_balancer_ip: Box<str>,
    pub(super) ports: Box<[ServicePort]>,
    /// The first of its IP families, if it is a dual-stack service.
    pub(super) primary_family: Option<Text>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct ServicePort {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: Text,
    #[serde(default, deserialize_with = "or_default", rename = "port")]
    pub(super) number: i32,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) protocol: Text,
}

#[derive(Debug, PartialEq)]
pub(super) struct Endpoints {
    pub(super) meta: Meta,
    pub(super) subsets: Box<[Subset]>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subset {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) addresses: Box<[Address]>,
    #[serde(default, deserialize_with = "or_default", rename = "notReadyAddresses")]
    pub(super) not_ready: Box<[Address]>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) ports: Box<[ServicePort]>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Address {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) ip: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) hostname: Text,
    pub(super) node_name: Option<Text>,
    #[serde(rename = "targetRef")]
    pub(super) target: Option<Reference>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Reference {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) kind: Text,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) namespace: Text,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: Text,
}

impl Reference {
    /// The pod that it names, if it names one.
    pub(super) fn pod(&self) -> Option<Key> {
        (&*self.kind == "Pod").then(|| Key { namespace: self.namespace.clone(), name: self.name.clone() })
    }

    /// The node that it names, if it names one.
    pub(super) fn node(&self) -> Option<&Text> {
        (&*self.kind == "Node").then_some(&self.name)
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct EndpointSlice {
    pub(super) meta: Meta,
    pub(super) address_type: Text,
    pub(super) endpoints: Box<[Endpoint]>,
    pub(super) ports: Box<[EndpointPort]>,
}

/// Names the service that a slice belongs to.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) addresses: Box<[Box<str>]>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) conditions: Conditions,
    pub(super) hostname: Option<Text>,
    #[serde(rename = "targetRef")]
    pub(super) target: Option<Reference>,
    pub(super) node_name: Option<Text>,
    pub(super) zone: Option<Text>,
    /// Only old servers send it.
    #[serde(default, deserialize_with = "pairs", rename = "deprecatedTopology")]
    pub(super) topology: Pairs,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Default)]
pub(super) struct Conditions {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointPort {
    pub(super) name: Option<Text>,
    #[serde(rename = "port")]
    pub(super) number: Option<i32>,
    pub(super) protocol: Option<Text>,
    pub(super) app_protocol: Option<Text>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Ingress {
    pub(super) meta: Meta,
    pub(super) class: Option<Text>,
    pub(super) tls_hosts: Box<[Text]>,
    pub(super) rules: Box<[Rule]>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) host: Text,
    /// `None` when the rule does not speak of HTTP, which means all paths.
    pub(super) paths: Option<Box<[Text]>>,
}

/// An object as it came, with the version that a watch can go on from.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) key: Key,
    pub(super) object: Object,
    pub(super) version: String,
}

macro_rules! by_kind {
    ($kind:expr, $read:ident, $json:expr) => {
        match $kind {
            Kind::Node => $read::<NodeWire>($json),
            Kind::Pod => $read::<PodWire>($json),
            Kind::Service => $read::<ServiceWire>($json),
            Kind::Endpoints => $read::<EndpointsWire>($json),
            Kind::EndpointSlice => $read::<EndpointSliceWire>($json),
            Kind::Ingress => $read::<IngressWire>($json),
            Kind::Namespace => $read::<NamespaceWire>($json),
            Kind::ReplicaSet => $read::<ReplicaSetWire>($json),
            Kind::Job => $read::<JobWire>($json),
        }
    };
}

/// Reads an object of `kind`.
///
/// # Errors
/// The text is not JSON, or a field that we read has another type than it should.
pub(super) fn decode(kind: Kind, json: &[u8]) -> Result<Received, serde_json::Error> {
    fn read<W: Wire>(json: &[u8]) -> Result<Received, serde_json::Error> {
        serde_json::from_slice::<W>(json).map(W::received)
    }
    by_kind!(kind, read, json)
}

/// Reads the object of an event of a watch, `{"type": ..., "object": ...}`.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_event(kind: Kind, json: &[u8]) -> Result<Received, serde_json::Error> {
    #[derive(Deserialize)]
    struct Event<W> {
        object: W,
    }
    fn read<W: Wire>(json: &[u8]) -> Result<Received, serde_json::Error> {
        serde_json::from_slice::<Event<W>>(json).map(|event| event.object.received())
    }
    by_kind!(kind, read, json)
}

// === what comes over the wire ===

/// The shape of an object in JSON.
trait Wire: DeserializeOwned {
    fn received(self) -> Received;
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct MetaWire {
    #[serde(default, deserialize_with = "or_default")]
    name: Text,
    #[serde(default, deserialize_with = "or_default")]
    namespace: Text,
    #[serde(default, deserialize_with = "or_default")]
    uid: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    resource_version: String,
    #[serde(default, deserialize_with = "pairs")]
    labels: Pairs,
    #[serde(default, deserialize_with = "pairs")]
    annotations: Pairs,
    #[serde(default, deserialize_with = "or_default")]
    owner_references: Vec<OwnerWire>,
}

#[derive(Deserialize)]
struct OwnerWire {
    #[serde(default, deserialize_with = "or_default")]
    kind: Text,
    #[serde(default, deserialize_with = "or_default")]
    name: Text,
    #[serde(default, deserialize_with = "or_default")]
    controller: bool,
}

impl MetaWire {
    fn owner(&mut self) -> Option<Owner> {
        let owner = std::mem::take(&mut self.owner_references).into_iter().find(|owner| owner.controller)?;
        Some(Owner { kind: owner.kind, name: owner.name })
    }

    /// Takes apart what all kinds have; `object` makes the rest.
    fn received(self, object: impl FnOnce(Meta) -> Object) -> Received {
        let key = Key { namespace: self.namespace, name: self.name };
        let meta = Meta { key: key.clone(), labels: self.labels, annotations: self.annotations };
        Received { key, object: object(meta), version: self.resource_version }
    }
}

#[derive(Deserialize)]
struct NamespaceWire {
    metadata: MetaWire,
}

impl Wire for NamespaceWire {
    fn received(self) -> Received {
        self.metadata.received(|meta| Object::Namespace(Arc::new(meta)))
    }
}

#[derive(Deserialize)]
struct ReplicaSetWire {
    metadata: MetaWire,
}

impl Wire for ReplicaSetWire {
    fn received(mut self) -> Received {
        let owner = self.metadata.owner();
        self.metadata.received(|meta| Object::ReplicaSet(Arc::new(Owned { key: meta.key, owner })))
    }
}

#[derive(Deserialize)]
struct JobWire {
    metadata: MetaWire,
}

impl Wire for JobWire {
    fn received(mut self) -> Received {
        let owner = self.metadata.owner();
        self.metadata.received(|meta| Object::Job(Arc::new(Owned { key: meta.key, owner })))
    }
}

#[derive(Deserialize)]
struct NodeWire {
    metadata: MetaWire,
    #[serde(default, deserialize_with = "or_default")]
    spec: NodeSpecWire,
    #[serde(default, deserialize_with = "or_default")]
    status: NodeStatusWire,
}

#[derive(Deserialize, Default)]
struct NodeSpecWire {
    #[serde(default, deserialize_with = "or_default", rename = "providerID")]
    provider_id: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct NodeStatusWire {
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<ConditionWire>,
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<NodeAddressWire>,
    #[serde(default, deserialize_with = "or_default")]
    daemon_endpoints: DaemonEndpointsWire,
}

#[derive(Deserialize)]
struct ConditionWire {
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    kind: Text,
    #[serde(default, deserialize_with = "or_default")]
    status: Text,
}

#[derive(Deserialize)]
struct NodeAddressWire {
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    kind: Text,
    #[serde(default, deserialize_with = "or_default")]
    address: Text,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct DaemonEndpointsWire {
    #[serde(default, deserialize_with = "or_default")]
    kubelet_endpoint: DaemonEndpointWire,
}

#[derive(Deserialize, Default)]
struct DaemonEndpointWire {
    #[serde(default, deserialize_with = "or_default", rename = "Port")]
    port: i32,
}

impl Wire for NodeWire {
    fn received(self) -> Received {
        let Self { metadata, spec, status } = self;
        metadata.received(|meta| {
            Object::Node(Arc::new(Node {
                meta,
                provider_id: spec.provider_id,
                conditions: status.conditions.into_iter().map(|c| (c.kind, c.status)).collect(),
                addresses: status.addresses.into_iter().map(|a| (a.kind, a.address)).collect(),
                kubelet_port: status.daemon_endpoints.kubelet_endpoint.port,
            }))
        })
    }
}

#[derive(Deserialize)]
struct PodWire {
    metadata: MetaWire,
    #[serde(default, deserialize_with = "or_default")]
    spec: PodSpecWire,
    #[serde(default, deserialize_with = "or_default")]
    status: PodStatusWire,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodSpecWire {
    #[serde(default, deserialize_with = "or_default")]
    node_name: Text,
    #[serde(default, deserialize_with = "or_default")]
    containers: Vec<ContainerWire>,
    #[serde(default, deserialize_with = "or_default")]
    init_containers: Vec<ContainerWire>,
}

#[derive(Deserialize)]
struct ContainerWire {
    #[serde(default, deserialize_with = "or_default")]
    name: Text,
    #[serde(default, deserialize_with = "or_default")]
    image: Text,
    #[serde(default, deserialize_with = "or_default")]
    ports: Box<[ContainerPort]>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodStatusWire {
    #[serde(default, deserialize_with = "or_default")]
    phase: Text,
    #[serde(default, deserialize_with = "or_default", rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(default, deserialize_with = "or_default", rename = "hostIP")]
    host_ip: Text,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<ConditionWire>,
    #[serde(default, deserialize_with = "or_default")]
    container_statuses: Vec<ContainerStatusWire>,
    #[serde(default, deserialize_with = "or_default")]
    init_container_statuses: Vec<ContainerStatusWire>,
}

#[derive(Deserialize)]
struct ContainerStatusWire {
    #[serde(default, deserialize_with = "or_default")]
    name: Text,
    #[serde(default, deserialize_with = "or_default", rename = "containerID")]
    id: Box<str>,
}

impl Wire for PodWire {
    fn received(mut self) -> Received {
        let owner = self.metadata.owner();
        let uid = std::mem::take(&mut self.metadata.uid);
        let Self { metadata, spec, mut status } = self;
        let mut containers = Vec::with_capacity(spec.containers.len() + spec.init_containers.len());
        let mut add = |of: Vec<ContainerWire>, statuses: &mut Vec<ContainerStatusWire>, is_init| {
            for container in of {
                let status = statuses.iter_mut().find(|status| status.name == container.name);
                let id = status.map(|status| status.id.clone()).unwrap_or_default();
                let ContainerWire { name, image, ports } = container;
                containers.push(Container { name, image, id, is_init, ports });
            }
        };
        add(spec.containers, &mut status.container_statuses, false);
        add(spec.init_containers, &mut status.init_container_statuses, true);
        metadata.received(|meta| {
            Object::Pod(Arc::new(Pod {
                meta,
                uid,
                owner,
                node_name: spec.node_name,
                phase: status.phase,
                ready: status.conditions.into_iter().find(|c| &*c.kind == "Ready").map(|c| c.status),
                ip: status.pod_ip,
                host_ip: status.host_ip,
                containers: containers.into(),
            }))
        })
    }
}

#[derive(Deserialize)]
struct ServiceWire {
    metadata: MetaWire,
    #[serde(default, deserialize_with = "or_default")]
    spec: ServiceSpecWire,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ServiceSpecWire {
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    service_type: Text,
    #[serde(default, deserialize_with = "or_default", rename = "clusterIP")]
    cluster_ip: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    external_name: Box<str>,
    #[serde(default, deserialize_with = "or_default", rename = "loadBalancerIP")]
    load_balancer_ip: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Box<[ServicePort]>,
    #[serde(default, deserialize_with = "or_default")]
    ip_family_policy: Text,
    #[serde(default, deserialize_with = "or_default")]
    ip_families: Vec<Text>,
}

impl Wire for ServiceWire {
    fn received(self) -> Received {
        let Self { metadata, spec } = self;
        let is_dual = matches!(&*spec.ip_family_policy, "PreferDualStack" | "RequireDualStack");
        metadata.received(|meta| {
            Object::Service(Arc::new(Service {
                meta,
                kind: spec.service_type,
                cluster_ip: spec.cluster_ip,
                external_name: spec.external_name,
                load_balancer_ip: spec.load_balancer_ip,
                ports: spec.ports,
                primary_family: spec.ip_families.into_iter().next().filter(|_| is_dual),
            }))
        })
    }
}

#[derive(Deserialize)]
struct EndpointsWire {
    metadata: MetaWire,
    #[serde(default, deserialize_with = "or_default")]
    subsets: Box<[Subset]>,
}

impl Wire for EndpointsWire {
    fn received(self) -> Received {
        let Self { metadata, subsets } = self;
        metadata.received(|meta| Object::Endpoints(Arc::new(Endpoints { meta, subsets })))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointSliceWire {
    metadata: MetaWire,
    #[serde(default, deserialize_with = "or_default")]
    address_type: Text,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Box<[Endpoint]>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Box<[EndpointPort]>,
}

impl Wire for EndpointSliceWire {
    fn received(self) -> Received {
        let Self { metadata, address_type, endpoints, ports } = self;
        metadata.received(|meta| {
            Object::EndpointSlice(Arc::new(EndpointSlice { meta, address_type, endpoints, ports }))
        })
    }
}

#[derive(Deserialize)]
struct IngressWire {
    metadata: MetaWire,
    #[serde(default, deserialize_with = "or_default")]
    spec: IngressSpecWire,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct IngressSpecWire {
    ingress_class_name: Option<Text>,
    #[serde(default, deserialize_with = "or_default")]
    tls: Vec<IngressTlsWire>,
    #[serde(default, deserialize_with = "or_default")]
    rules: Vec<IngressRuleWire>,
}

#[derive(Deserialize)]
struct IngressTlsWire {
    #[serde(default, deserialize_with = "or_default")]
    hosts: Vec<Text>,
}

#[derive(Deserialize)]
struct IngressRuleWire {
    #[serde(default, deserialize_with = "or_default")]
    host: Text,
    http: Option<IngressHttpWire>,
}

#[derive(Deserialize)]
struct IngressHttpWire {
    #[serde(default, deserialize_with = "or_default")]
    paths: Vec<IngressPathWire>,
}

#[derive(Deserialize)]
struct IngressPathWire {
    #[serde(default, deserialize_with = "or_default")]
    path: Text,
}

impl Wire for IngressWire {
    fn received(self) -> Received {
        let Self { metadata, spec } = self;
        let rule = |rule: IngressRuleWire| Rule {
            host: rule.host,
            paths: rule.http.map(|http| http.paths.into_iter().map(|path| path.path).collect()),
        };
        metadata.received(|meta| {
            Object::Ingress(Arc::new(Ingress {
                meta,
                class: spec.ingress_class_name,
                tls_hosts: spec.tls.into_iter().flat_map(|tls| tls.hosts).collect(),
                rules: spec.rules.into_iter().map(rule).collect(),
            }))
        })
    }
}

/// Go writes `null` for what is empty here and there.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn pairs<'de, D: Deserializer<'de>>(from: D) -> Result<Pairs, D::Error> {
    let map: BTreeMap<Text, Option<Text>> = or_default(from)?;
    Ok(map.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}
