//! Groups of pods, and the labels of a pod wherever it is the target behind an address.
//!
//! Compat: prometheus `discovery/kubernetes/pod.go`, `buildPod` and `podLabels`.

use config::TargetGroup;

use super::super::object::{Container, ContainerPort, Kind, Pod};
use super::{Builder, Lookup, Set, join, source};

impl<L: Lookup> Builder<'_, L> {
    pub(super) fn of_pod(mut self, pod: &Pod) -> TargetGroup {
        let key = &pod.meta.key;
        let source = source(Kind::Pod, key);
        // A pod that starts or was evicted has no address. One on a node that we do not know was left out
        // by the selector of nodes.
        let is_elsewhere = self.attach.node && self.lookup.node(&pod.node_name).is_none();
        if pod.ip.is_empty() || is_elsewhere {
            return TargetGroup { source, ..TargetGroup::default() };
        }

        let mut targets = Vec::new();
        for container in &pod.containers {
            let set = &mut self.set;
            for port in &container.ports {
                set.address(&join(&pod.ip, port.number));
                set.add("pod_container_id", &container.id);
                set.add_container(container, port, &port.protocol);
                targets.push(set.take());
            }
            // Without ports the user has to add one by relabelling.
            if container.ports.is_empty() {
                set.address(&pod.ip);
                set.add("pod_container_id", &container.id);
                set.add_container_itself(container);
                targets.push(set.take());
            }
        }

        self.add_pod(pod);
        self.set.add("namespace", &key.namespace);
        if self.attach.node {
            self.add_node(&pod.node_name);
        }
        self.add_namespace(&key.namespace);
        TargetGroup { source, targets, labels: self.set.take() }
    }

    /// The labels of the pod as a whole, but for its namespace.
    pub(super) fn add_pod(&mut self, pod: &Pod) {
        let set = &mut self.set;
        set.add("pod_ip", &pod.ip);
        set.add("pod_ready", &pod.ready.as_ref().map_or("unknown".to_owned(), |ready| ready.to_lowercase()));
        set.add("pod_phase", &pod.phase);
        set.add("pod_node_name", &pod.node_name);
        set.add("pod_host_ip", &pod.host_ip);
        set.add("pod_uid", &pod.uid);
        set.add_object("pod", &pod.meta);

        let Some(owner) = &pod.owner else { return };
        set.add("pod_controller_kind", &owner.kind);
        set.add("pod_controller_name", &owner.name);
        let namespace = &pod.meta.key.namespace;
        match &*owner.kind {
            "ReplicaSet" if self.attach.deployment => {
                let replica_set = self.lookup.replica_set(namespace, &owner.name);
                if let Some(above) = replica_set.and_then(|set| set.owner.as_ref())
                    && &*above.kind == "Deployment"
                {
                    set.add("pod_deployment_name", &above.name);
                }
            }
            "Job" => {
                if self.attach.job {
                    set.add("pod_job_name", &owner.name);
                }
                if self.attach.cronjob
                    && let Some(above) =
                        self.lookup.job(namespace, &owner.name).and_then(|job| job.owner.as_ref())
                    && &*above.kind == "CronJob"
                {
                    set.add("pod_cronjob_name", &above.name);
                }
            }
            _ => {}
        }
    }
}

impl Set {
    /// `protocol` is the port's own or the one of the endpoint that leads to it.
    pub(super) fn add_container(&mut self, container: &Container, port: &ContainerPort, protocol: &str) {
        self.add_container_itself(container);
        self.add("pod_container_port_name", &port.name);
        self.add_display("pod_container_port_number", port.number);
        self.add("pod_container_port_protocol", protocol);
    }

    fn add_container_itself(&mut self, container: &Container) {
        self.add("pod_container_name", &container.name);
        self.add("pod_container_image", &container.image);
        self.add("pod_container_init", if container.is_init { "true" } else { "false" });
    }
}
