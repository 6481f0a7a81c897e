//! Changes of a cluster at random, one object at a time.
//!
//! A node never loses its last address: in Prometheus it keeps its old target then, so that what is shown depends on
//! the past and not on the cluster.

use serde_json::{Value, json};

use super::cluster::Maker;
use super::objects::{Kind, Store};

impl Maker {
    /// Changes something.
    pub(crate) fn disturb(&mut self, store: &mut Store) {
        match self.rng.u8(0..100) {
            0..8 => self.add_pods(store),
            8..14 => self.remove(store, Kind::Pod),
            14..34 => self.modify(store, Kind::Pod, Self::disturb_pod),
            34..40 => self.modify(store, Kind::Node, Self::disturb_node),
            40 => {
                let node = self.node();
                store.put(Kind::Node, node);
            }
            // Prometheus 3.5 keeps the pods of a node that is gone.
            41 if self.is_newest => self.remove(store, Kind::Node),
            41 => {}
            42..46 => self.modify(store, Kind::Namespace, Self::relabel),
            46 => self.toggle_namespace(store),
            47..53 => self.modify(store, Kind::Service, Self::disturb_service),
            53..56 => self.remove(store, Kind::Service),
            56..59 => self.restore_service(store),
            59..67 => self.modify(store, Kind::Endpoints, Self::disturb_endpoints),
            67..69 => self.remove(store, Kind::Endpoints),
            69..79 => self.modify(store, Kind::EndpointSlice, Self::disturb_slice),
            79..81 => self.remove(store, Kind::EndpointSlice),
            81..85 => self.modify(store, Kind::Ingress, Self::disturb_ingress),
            85..87 => {
                let ingress = self.ingress();
                store.put(Kind::Ingress, ingress);
            }
            87 => self.remove(store, Kind::Ingress),
            88..91 => {
                let mut made = Vec::new();
                self.cron_job(&mut made);
                for (kind, value) in made {
                    store.put(kind, value);
                }
            }
            91..93 => self.remove(store, Kind::Job),
            93..95 => self.modify(store, Kind::Job, Self::disown),
            95..97 => self.remove(store, Kind::ReplicaSet),
            97..99 => self.modify(store, Kind::ReplicaSet, Self::disown),
            _ => self.remove(store, Kind::CronJob),
        }
    }

    /// Any object of a kind.
    fn pick(&mut self, store: &Store, kind: Kind) -> Option<Value> {
        let n = store.all(kind).count();
        let i = (n > 0).then(|| self.rng.usize(0..n))?;
        store.all(kind).nth(i).map(|object| object.value.clone())
    }

    fn modify(&mut self, store: &mut Store, kind: Kind, change: impl Fn(&mut Self, &mut Value)) {
        if let Some(mut value) = self.pick(store, kind) {
            change(self, &mut value);
            store.put(kind, value);
        }
    }

    fn remove(&mut self, store: &mut Store, kind: Kind) {
        if let Some(value) = self.pick(store, kind) {
            let part = |name: &str| value["metadata"][name].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (part("namespace"), part("name"));
            assert!(store.delete(kind, &namespace, &name));
        }
    }

    fn add_pods(&mut self, store: &mut Store) {
        let mut made = Vec::new();
        if self.chance(30) {
            self.deployment(&mut made);
        } else if let Some(replicas) = self.pick(store, Kind::ReplicaSet) {
            let meta = &replicas["metadata"];
            let (namespace, name) = (meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
            let template = self.template(namespace, name);
            made.push((Kind::Pod, self.pod(&template, Some(("ReplicaSet", name)))));
        }
        for (kind, value) in made {
            store.put(kind, value);
        }
    }

    fn relabel(&mut self, object: &mut Value) {
        let version = self.rng.u8(1..9);
        let meta = &mut object["metadata"];
        match self.rng.u8(0..4) {
            0 => meta["labels"]["example.com/changed-label"] = json!(format!("v{version}")),
            1 => meta["annotations"]["example.com/changed.annotation"] = json!(format!("v{version} ü")),
            2 => meta["labels"]["tier"] = json!(self.one_of(&["front", "back", "none"])),
            _ => {
                if let Some(annotations) = meta["annotations"].as_object_mut() {
                    annotations.clear();
                }
            }
        }
    }

    fn disturb_pod(&mut self, pod: &mut Value) {
        let is_running = pod["status"]["podIP"].is_string();
        match self.rng.u8(0..10) {
            0..3 => self.relabel(pod),
            3..6 if is_running => {
                let status = self.one_of(&["True", "False", "Unknown"]);
                pod["status"]["conditions"] = match self.rng.u8(0..8) {
                    0 => json!([]),
                    _ => json!([{"type": "Ready", "status": status}]),
                };
            }
            6 => {
                pod["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:00Z");
            }
            7 => pod["status"]["phase"] = json!(self.one_of(&["Succeeded", "Failed", "Running"])),
            8 if is_running => {
                // Evicted: what had an address has none any more.
                pod["status"] = json!({"phase": "Failed", "reason": "Evicted"});
            }
            // Started, or with its containers started again.
            _ => self.run(pod, false),
        }
    }

    fn disturb_node(&mut self, node: &mut Value) {
        match self.rng.u8(0..4) {
            0 => self.relabel(node),
            1 if node["status"]["addresses"].as_array().is_some_and(|addresses| !addresses.is_empty()) => {
                let address = format!("192.168.{}.{}", self.rng.u8(..), self.rng.u8(..));
                node["status"]["addresses"][0] = json!({"type": "InternalIP", "address": address});
            }
            _ => {
                let status = self.one_of(&["True", "False", "Unknown"]);
                let conditions = node["status"]["conditions"].as_array_mut().unwrap();
                let i = self.rng.usize(0..conditions.len());
                conditions[i]["status"] = json!(status);
            }
        }
    }

    /// A namespace goes, or one that is missing comes back. What is in it stays, which a real cluster sees for a moment.
    fn toggle_namespace(&mut self, store: &mut Store) {
        let name = self.a_namespace();
        if !store.delete(Kind::Namespace, "", &name) {
            let meta = self.meta("", &name);
            store.put(Kind::Namespace, json!({"metadata": meta}));
        }
    }

    fn disturb_service(&mut self, service: &mut Value) {
        if self.chance(50) {
            return self.relabel(service);
        }
        let meta = service["metadata"].clone();
        let (namespace, name) = (meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
        *service = self.service_alone(namespace, name);
    }

    /// A service for endpoints that have none.
    fn restore_service(&mut self, store: &mut Store) {
        let Some(endpoints) = self.pick(store, Kind::Endpoints) else { return };
        let meta = &endpoints["metadata"];
        let service = self.service_alone(meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
        store.put(Kind::Service, service);
    }

    fn disturb_endpoints(&mut self, endpoints: &mut Value) {
        if !endpoints["subsets"].is_array() || self.chance(25) {
            return self.relabel(endpoints);
        }
        let subset = &mut endpoints["subsets"][0];
        match self.rng.u8(0..4) {
            // What was ready is not, and the other way round.
            0 => {
                let (ready, unready) = (subset["addresses"].take(), subset["notReadyAddresses"].take());
                (subset["addresses"], subset["notReadyAddresses"]) = (unready, ready);
            }
            1 => {
                if let Some(addresses) = subset["addresses"].as_array_mut() {
                    addresses.pop();
                }
            }
            2 => {
                let address = json!({"ip": format!("172.16.{}.{}", self.rng.u8(..), self.rng.u8(..))});
                match subset["addresses"].as_array_mut() {
                    Some(addresses) => addresses.push(address),
                    None => subset["addresses"] = json!([address]),
                }
            }
            _ => {
                subset["ports"] = json!([{"name": "moved", "port": self.rng.u16(1..), "protocol": "TCP"}]);
            }
        }
    }

    fn disturb_slice(&mut self, slice: &mut Value) {
        let Some(endpoints) = slice["endpoints"].as_array_mut().filter(|endpoints| !endpoints.is_empty())
        else {
            return self.relabel(slice);
        };
        match self.rng.u8(0..5) {
            0 => self.relabel(slice),
            1 => drop(endpoints.pop()),
            2 => slice["ports"] = json!([{"name": "moved", "port": self.rng.u16(1..), "protocol": "TCP"}]),
            _ => {
                let i = self.rng.usize(0..endpoints.len());
                for condition in ["ready", "serving", "terminating"] {
                    endpoints[i]["conditions"][condition] = json!(self.rng.bool());
                }
            }
        }
    }

    fn disturb_ingress(&mut self, ingress: &mut Value) {
        if self.chance(40) { self.relabel(ingress) } else { self.route(ingress) }
    }

    /// Whoever a job or replica set belonged to, it now belongs to another or to nobody.
    fn disown(&mut self, object: &mut Value) {
        let n = self.fresh();
        let kind = self.one_of(&["Deployment", "CronJob"]);
        object["metadata"]["ownerReferences"] = if self.chance(30) {
            json!([])
        } else {
            json!([{
                "apiVersion": "v1", "kind": kind, "name": format!("adopter-{n}"), "uid": "u", "controller": true,
            }])
        };
    }
}

/// Writes every object of a kind anew as it is, with a new version: a reader that works out targets only when their
/// own object is written does so now, with all it has heard of the others.
pub(crate) fn touch(store: &mut Store, kind: Kind) {
    let values: Vec<_> = store.all(kind).map(|object| object.value.clone()).collect();
    for value in values {
        store.put(kind, value);
    }
}
