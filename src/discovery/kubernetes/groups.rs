//! From objects to target groups: every role, every label.
//!
//! Pure functions: what an object refers to is asked of a [`Lookup`].
//!
//! Compat: prometheus `discovery/kubernetes`, `node.go`, `service.go`, `ingress.go`, `pod.go`, `endpoints.go`
//! and `endpointslice.go` (3.14), names of labels and sources.

mod endpoints;
mod pod;

use std::fmt::Display;
use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::AttachMetadata;
use model::{Labels, LabelsBuilder};

use super::object::{Ingress, Key, Kind, Meta, Node, Object, Owned, Pairs, Pod, Service};
use super::text::Text;

/// Finds what an object refers to, as it is known now.
pub(super) trait Lookup {
    fn pod(&self, key: &Key) -> Option<&Pod>;
    fn service(&self, namespace: &Text, name: &Text) -> Option<&Service>;
    fn node(&self, name: &Text) -> Option<&Node>;
    fn namespace(&self, name: &Text) -> Option<&Meta>;
    fn replica_set(&self, namespace: &Text, name: &Text) -> Option<&Owned>;
    fn job(&self, namespace: &Text, name: &Text) -> Option<&Owned>;
}

/// Where a group comes from; the same object has the same source for ever.
pub(super) fn source(kind: Kind, key: &Key) -> String {
    let prefix = match kind {
        Kind::Node => return format!("node/{}", &*key.name),
        Kind::Pod => "pod",
        Kind::Service => "svc",
        Kind::Endpoints => "endpoints",
        Kind::EndpointSlice => "endpointslice",
        Kind::Ingress => "ingress",
        Kind::Namespace | Kind::ReplicaSet | Kind::Job => unreachable!("BUG: {kind:?} has no targets"),
    };
    format!("{prefix}/{}/{}", &*key.namespace, &*key.name)
}

/// The group of `object`; `None` if it shall keep the one that it has.
pub(super) fn build(object: &Object, attach: AttachMetadata, lookup: &impl Lookup) -> Option<TargetGroup> {
    let builder = Builder { attach, lookup, set: Set::default() };
    match object {
        Object::Node(node) => builder.of_node(node),
        Object::Pod(pod) => Some(builder.of_pod(pod)),
        Object::Service(service) => Some(builder.of_service(service)),
        Object::Endpoints(endpoints) => Some(builder.of_endpoints(endpoints)),
        Object::EndpointSlice(slice) => Some(builder.of_endpoint_slice(slice)),
        Object::Ingress(ingress) => Some(builder.of_ingress(ingress)),
        Object::Namespace(_) | Object::ReplicaSet(_) | Object::Job(_) => None,
    }
}

struct Builder<'a, L> {
    attach: AttachMetadata,
    lookup: &'a L,
    set: Set,
}

/// A label set under construction; all names get the prefix of this mechanism.
#[derive(Default)]
struct Set {
    labels: LabelsBuilder,
    /// Memory for names.
    name: Vec<u8>,
}

const PREFIX: &[u8] = b"__meta_kubernetes_";

impl Set {
    fn add(&mut self, name: &str, value: &str) {
        self.add_parts(&[name], "", value);
    }

    fn add_display(&mut self, name: &str, value: impl Display) {
        self.add(name, &value.to_string());
    }

    /// `name` in pieces, and then `foreign` with what a label name cannot hold replaced.
    fn add_parts(&mut self, name: &[&str], foreign: &str, value: &str) {
        self.name.clear();
        self.name.extend_from_slice(PREFIX);
        for part in name {
            self.name.extend_from_slice(part.as_bytes());
        }
        self.name.extend(foreign.chars().map(|c| if c.is_ascii_alphanumeric() { c as u8 } else { b'_' }));
        // An empty value still replaces what was there, which is what setting it does.
        self.labels.set(&self.name, value.as_bytes());
    }

    fn address(&mut self, address: &str) {
        self.labels.set(b"__address__", address.as_bytes());
    }

    /// Labels and annotations of an object, each with a second label that says that it is there.
    fn add_pairs(&mut self, object: &str, meta: &Meta) {
        let mut add = |kind: &str, pairs: &Pairs| {
            for (name, value) in pairs {
                self.add_parts(&[object, "_", kind, "_"], name, value);
                self.add_parts(&[object, "_", kind, "present_"], name, "true");
            }
        };
        add("label", &meta.labels);
        add("annotation", &meta.annotations);
    }

    fn add_object(&mut self, object: &str, meta: &Meta) {
        self.add_parts(&[object, "_name"], "", &meta.key.name);
        self.add_pairs(object, meta);
    }

    fn take(&mut self) -> Labels {
        let labels = self.labels.build();
        self.labels.clear();
        labels
    }
}

/// Host and port as they stand in an address.
fn join(host: &str, port: i32) -> String {
    if host.contains([':', '%']) { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl<L: Lookup> Builder<'_, L> {
    fn add_namespace(&mut self, name: &Text) {
        if self.attach.namespace
            && let Some(namespace) = self.lookup.namespace(name)
        {
            self.set.add_pairs("namespace", namespace);
        }
    }

    fn add_node(&mut self, name: &Text) {
        if let Some(node) = self.lookup.node(name) {
            self.set.add_object("node", &node.meta);
        }
    }

    fn of_node(mut self, node: &Node) -> Option<TargetGroup> {
        let preferred =
            ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
        let address =
            preferred.iter().find_map(|kind| node.addresses.iter().find(|(known, _)| **known == **kind));
        let Some((_, address)) = address else {
            tracing::warn!(node = %&*node.meta.key.name, "no node address found");
            return None;
        };

        let set = &mut self.set;
        set.address(&join(address, node.kubelet_port));
        set.labels.set(b"instance", node.meta.key.name.as_bytes());
        // Of several addresses of a type the first is shown.
        for (kind, address) in node.addresses.iter().rev() {
            set.add_parts(&["node_address_"], kind, address);
        }
        let target = set.take();

        set.add("node_provider_id", &node.provider_id);
        for (kind, status) in &node.conditions {
            set.add_parts(&["node_condition_"], &kind.to_lowercase(), &status.to_lowercase());
        }
        set.add_object("node", &node.meta);
        Some(TargetGroup {
            source: source(Kind::Node, &node.meta.key),
            targets: vec![target],
            labels: set.take(),
        })
    }

    fn add_service(&mut self, service: &Service) {
        self.set.add("namespace", &service.meta.key.namespace);
        self.set.add_object("service", &service.meta);
    }

    fn of_service(mut self, service: &Service) -> TargetGroup {
        let key = &service.meta.key;
        let host = format!("{}.{}.svc", &*key.name, &*key.namespace);
        let set = &mut self.set;
        let mut targets = Vec::with_capacity(service.ports.len());
        for port in &service.ports {
            set.address(&join(&host, port.number));
            set.add("service_port_name", &port.name);
            set.add_display("service_port_number", port.number);
            set.add("service_port_protocol", &port.protocol);
            set.add("service_type", &service.kind);
            if &*service.kind == "ExternalName" {
                set.add("service_external_name", &service.external_name);
            } else {
                set.add("service_cluster_ip", &service.cluster_ip);
            }
            if &*service.kind == "LoadBalancer" {
                set.add("service_loadbalancer_ip", &service.load_balancer_ip);
            }
            targets.push(set.take());
        }
        self.add_service(service);
        self.add_namespace(&key.namespace);
        TargetGroup { source: source(Kind::Service, key), targets, labels: self.set.take() }
    }

    fn of_ingress(mut self, ingress: &Ingress) -> TargetGroup {
        let key = &ingress.meta.key;
        let set = &mut self.set;
        let mut targets = Vec::new();
        for rule in &ingress.rules {
            let is_tls = ingress.tls_hosts.iter().any(|pattern| matches_host(pattern, &rule.host));
            let all = [Text::default()];
            for path in rule.paths.as_deref().unwrap_or(&all) {
                set.address(&rule.host);
                set.add("ingress_scheme", if is_tls { "https" } else { "http" });
                set.add("ingress_host", &rule.host);
                set.add("ingress_path", if path.is_empty() { "/" } else { path });
                targets.push(set.take());
            }
        }
        set.add("namespace", &key.namespace);
        if let Some(class) = &ingress.class {
            set.add("ingress_class_name", class);
        }
        set.add_object("ingress", &ingress.meta);
        self.add_namespace(&key.namespace);
        TargetGroup { source: source(Kind::Ingress, key), targets, labels: self.set.take() }
    }
}

/// Whether `pattern`, perhaps with a star for its first element, names `host`.
fn matches_host(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return true;
    }
    // The star stands for exactly one element; `*` alone matches every host without a dot.
    match (pattern.split_once('.'), host.split_once('.')) {
        (Some(("*", pattern)), Some((_, host))) => pattern == host,
        (None, None) => pattern == "*",
        _ => false,
    }
}

/// The group that says that its object is gone.
pub(super) fn gone(kind: Kind, key: &Key) -> Arc<TargetGroup> {
    Arc::new(TargetGroup { source: source(kind, key), ..TargetGroup::default() })
}

#[cfg(test)]
mod tests;
