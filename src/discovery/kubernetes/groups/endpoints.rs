//! Groups of endpoints and of endpoint slices: one target per address and port, and one for each further
//! port of the pods behind them.
//!
//! Compat: prometheus `discovery/kubernetes/endpoints.go` and `endpointslice.go`.

use std::collections::HashMap;

use config::TargetGroup;
use model::Labels;

use super::super::object::{
    Address, Endpoint, EndpointPort, EndpointSlice, Endpoints, Key, Kind, Pod, Reference, SERVICE_NAME,
    ServicePort,
};
use super::super::text::Text;
use super::{Builder, Lookup, join, source};

/// Set by the cluster's controller on objects that could not hold all addresses.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The pods behind the addresses of an object and the ports that led to them, in the order they came.
#[derive(Default)]
struct Seen<'a> {
    pods: Vec<(&'a Pod, Vec<i32>)>,
    /// Of each pod its place in `pods`.
    places: HashMap<Key, usize>,
}

impl<'a> Seen<'a> {
    fn add(&mut self, pod: &'a Pod, port: Option<i32>) {
        let key = &pod.meta.key;
        let place = *self.places.entry(key.clone()).or_insert_with(|| {
            self.pods.push((pod, Vec::new()));
            self.pods.len() - 1
        });
        self.pods[place].1.extend(port);
    }
}

impl<'a, L: Lookup> Builder<'a, L> {
    pub(super) fn of_endpoints(mut self, endpoints: &Endpoints) -> TargetGroup {
        let key = &endpoints.meta.key;
        let mut seen = Seen::default();
        let mut targets = Vec::new();
        for subset in &endpoints.subsets {
            for port in &subset.ports {
                for (addresses, ready) in [(&subset.addresses, "true"), (&subset.not_ready, "false")] {
                    for address in addresses {
                        targets.push(self.of_address(address, port, ready, &mut seen));
                    }
                }
            }
        }
        self.add_uncovered(&seen, &mut targets);

        match endpoints.meta.annotation(OVER_CAPACITY) {
            Some("truncated") => tracing::warn!(
                endpoint = %&*key.name,
                "the object has more than 1000 endpoints and was cut off; use \"role: endpointslice\" instead"
            ),
            Some("warning") => tracing::warn!(
                endpoint = %&*key.name,
                "the object has more than 1000 endpoints; use \"role: endpointslice\" instead"
            ),
            _ => {}
        }

        self.set.add("namespace", &key.namespace);
        if let Some(service) = self.lookup.service(&key.namespace, &key.name) {
            self.add_service(service);
        }
        self.set.add_object("endpoints", &endpoints.meta);
        self.add_namespace(&key.namespace);
        TargetGroup { source: source(Kind::Endpoints, key), targets, labels: self.set.take() }
    }

    fn of_address(
        &mut self,
        address: &Address,
        port: &ServicePort,
        ready: &str,
        seen: &mut Seen<'a>,
    ) -> Labels {
        let set = &mut self.set;
        set.address(&join(&address.ip, port.number));
        set.add("endpoint_port_name", &port.name);
        set.add("endpoint_port_protocol", &port.protocol);
        set.add("endpoint_ready", ready);
        if let Some(target) = &address.target {
            set.add("endpoint_address_target_kind", &target.kind);
            set.add("endpoint_address_target_name", &target.name);
        }
        if let Some(node) = &address.node_name {
            set.add("endpoint_node_name", node);
        }
        set.add("endpoint_hostname", &address.hostname);
        let by_target = address.target.as_ref().and_then(Reference::node);
        self.attach_node(address.node_name.as_ref().or(by_target));
        self.add_target_pod(address.target.as_ref(), Some(port.number), &port.protocol, seen);
        self.set.take()
    }

    pub(super) fn of_endpoint_slice(mut self, slice: &EndpointSlice) -> TargetGroup {
        let key = &slice.meta.key;
        self.set.add("namespace", &key.namespace);
        self.set.add("endpointslice_address_type", &slice.address_type);
        self.set.add_object("endpointslice", &slice.meta);
        let service =
            slice.meta.label(SERVICE_NAME).and_then(|name| self.lookup.service(&key.namespace, name));
        if let Some(service) = service {
            self.add_service(service);
        }
        self.add_namespace(&key.namespace);
        let labels = self.set.take();

        let mut targets = Vec::new();
        // The second slice of a dual-stack service leads to the same pods once more.
        let family = service.and_then(|service| service.primary_family.as_ref());
        if family.is_none_or(|family| *family == slice.address_type) {
            let mut seen = Seen::default();
            for endpoint in &slice.endpoints {
                for port in &slice.ports {
                    for address in &endpoint.addresses {
                        targets.push(self.of_endpoint(address, endpoint, port, &mut seen));
                    }
                }
            }
            self.add_uncovered(&seen, &mut targets);
        }
        TargetGroup { source: source(Kind::EndpointSlice, key), targets, labels }
    }

    fn of_endpoint(
        &mut self,
        address: &str,
        endpoint: &Endpoint,
        port: &EndpointPort,
        seen: &mut Seen<'a>,
    ) -> Labels {
        let set = &mut self.set;
        match port.number {
            Some(number) => {
                set.address(&join(address, number));
                set.add_display("endpointslice_port", number);
            }
            None => set.address(address),
        }
        let texts = [
            ("endpointslice_port_name", &port.name),
            ("endpointslice_port_protocol", &port.protocol),
            ("endpointslice_port_app_protocol", &port.app_protocol),
            ("endpointslice_endpoint_hostname", &endpoint.hostname),
            ("endpointslice_endpoint_node_name", &endpoint.node_name),
            ("endpointslice_endpoint_zone", &endpoint.zone),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                set.add(name, text);
            }
        }
        let conditions = [
            ("endpointslice_endpoint_conditions_ready", endpoint.conditions.ready),
            ("endpointslice_endpoint_conditions_serving", endpoint.conditions.serving),
            ("endpointslice_endpoint_conditions_terminating", endpoint.conditions.terminating),
        ];
        for (name, condition) in conditions {
            if let Some(condition) = condition {
                set.add(name, if condition { "true" } else { "false" });
            }
        }
        if let Some(target) = &endpoint.target {
            set.add("endpointslice_address_target_kind", &target.kind);
            set.add("endpointslice_address_target_name", &target.name);
        }
        for (name, value) in &endpoint.topology {
            set.add_parts(&["endpointslice_endpoint_topology_"], name, value);
            set.add_parts(&["endpointslice_endpoint_topology_present_"], name, "true");
        }
        let by_target = endpoint.target.as_ref().and_then(Reference::node);
        self.attach_node(by_target.or(endpoint.node_name.as_ref()));
        let protocol = port.protocol.clone().unwrap_or_default();
        self.add_target_pod(endpoint.target.as_ref(), port.number, &protocol, seen);
        self.set.take()
    }

    fn attach_node(&mut self, name: Option<&Text>) {
        if self.attach.node
            && let Some(name) = name
        {
            self.add_node(name);
        }
    }

    /// The labels of the pod that an address belongs to and of its container that has the port.
    fn add_target_pod(
        &mut self,
        target: Option<&Reference>,
        port: Option<i32>,
        protocol: &str,
        seen: &mut Seen<'a>,
    ) {
        let lookup = self.lookup;
        let Some(pod) = target.and_then(Reference::pod).and_then(|key| lookup.pod(&key)) else { return };
        self.add_pod(pod);
        // Of several containers with the port the last is shown, of several such ports of one the first.
        for container in &pod.containers {
            if let Some(found) = container.ports.iter().find(|found| Some(found.number) == port) {
                self.set.add_container(container, found, protocol);
            }
        }
        seen.add(pod, port);
    }

    /// Targets for the ports of pods that none of the endpoints led to.
    fn add_uncovered(&mut self, seen: &Seen<'a>, targets: &mut Vec<Labels>) {
        for (pod, covered) in &seen.pods {
            if pod.ip.is_empty() {
                continue;
            }
            for container in &pod.containers {
                for port in container.ports.iter().filter(|port| !covered.contains(&port.number)) {
                    self.set.address(&join(&pod.ip, port.number));
                    self.set.add_container(container, port, &port.protocol);
                    self.add_pod(pod);
                    targets.push(self.set.take());
                }
            }
        }
    }
}
