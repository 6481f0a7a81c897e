//! What one role of one namespace knows: takes changes of objects, gives the groups that have to be sent.
//!
//! Pure: no network, no clock. Objects are shared with the watches that delivered them. A change of anything
//! that a group is made of marks that group, however far away it is: a replica set marks the pods that it
//! owns, and they the endpoints that lead to them.
//!
//! Compat: prometheus `discovery/kubernetes`, the stores, indexers and work queues of each role; upstream
//! forgets to send endpoints again when anything but a pod's phase or its node's object changes.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::{AttachMetadata, KubernetesRole};

use super::groups::{self, Lookup};
use super::object::{Key, Kind, Meta, Node, Object, Owned, Owner, Pod, Reference, SERVICE_NAME, Service};
use super::text::Text;

pub(super) struct State {
    /// The kind that targets are made of.
    subject: Kind,
    attach: AttachMetadata,
    objects: HashMap<Kind, HashMap<Key, Object>>,
    /// Who is made of what, as pairs of the used and the user. Namespaces are left out: they have too many
    /// users and change seldom.
    uses: BTreeSet<(Place, Place)>,
    /// The subjects to send, in the order in which they changed.
    queue: VecDeque<Key>,
    queued: HashSet<Key>,
}

/// An object that may or may not be known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    key: Key,
}

impl State {
    pub(super) fn new(role: KubernetesRole, attach: AttachMetadata) -> Self {
        Self {
            subject: role.into(),
            attach,
            objects: HashMap::new(),
            uses: BTreeSet::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
        }
    }

    /// Takes what is now at `key`; `None` says that the object is gone.
    pub(super) fn apply(&mut self, kind: Kind, key: &Key, object: Option<Object>) {
        let place = Place { kind, key: key.clone() };
        let objects = self.objects.entry(kind).or_default();
        let new = object.as_ref().map(|object| used_by(object, self.attach)).unwrap_or_default();
        let old = match object {
            Some(object) => objects.insert(key.clone(), object),
            None => objects.remove(key),
        };
        let old = old.map(|object| used_by(&object, self.attach)).unwrap_or_default();
        if old != new {
            for used in old {
                self.uses.remove(&(used, place.clone()));
            }
            for used in new {
                self.uses.insert((used, place.clone()));
            }
        }
        self.mark(place);
    }

    /// Marks the subjects that `changed` is, or is used by over whatever lies between.
    fn mark(&mut self, changed: Place) {
        if changed.kind == Kind::Namespace {
            let subjects = self.objects.get(&self.subject).into_iter().flat_map(HashMap::keys);
            let within: Vec<Key> =
                subjects.filter(|key| key.namespace == changed.key.name).cloned().collect();
            for key in within {
                self.enqueue(key);
            }
            return;
        }
        let mut changed = vec![changed];
        while let Some(place) = changed.pop() {
            let from = (place, Place { kind: FIRST, key: Key::default() });
            let users = self.uses.range(&from..).take_while(|(used, _)| *used == from.0);
            changed.extend(users.map(|(_, user)| user.clone()));
            if from.0.kind == self.subject {
                self.enqueue(from.0.key);
            }
        }
    }

    fn enqueue(&mut self, key: Key) {
        if self.queued.insert(key.clone()) {
            self.queue.push_back(key);
        }
    }

    /// The number of groups that wait to be sent.
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// The groups of the next subjects that changed, at most `max` of them; empty when all were given.
    pub(super) fn take_groups(&mut self, max: usize) -> Vec<Arc<TargetGroup>> {
        let n = self.queue.len().min(max);
        let keys: Vec<Key> = self.queue.drain(..n).collect();
        let mut groups = Vec::with_capacity(n);
        for key in keys {
            self.queued.remove(&key);
            match self.objects.get(&self.subject).and_then(|objects| objects.get(&key)) {
                Some(object) => groups.extend(groups::build(object, self.attach, self).map(Arc::new)),
                None => groups.push(groups::gone(self.subject, &key)),
            }
        }
        if self.queue.is_empty() {
            // At the start everything was in it, which does not come again.
            self.queue.shrink_to(QUEUE_KEPT);
            self.queued.shrink_to(QUEUE_KEPT);
        }
        groups
    }
}

/// Room in the queue that is kept when it is empty.
const QUEUE_KEPT: usize = 256;

/// No kind sorts before it.
const FIRST: Kind = Kind::Node;

/// What the labels of `object` are made of beside itself.
fn used_by(object: &Object, attach: AttachMetadata) -> BTreeSet<Place> {
    let mut used = BTreeSet::new();
    let node =
        |name: &Text| Place { kind: Kind::Node, key: Key { namespace: Text::default(), name: name.clone() } };
    match object {
        Object::Pod(pod) => {
            if attach.node && !pod.node_name.is_empty() {
                used.insert(node(&pod.node_name));
            }
            let owner =
                pod.owner.as_ref().and_then(|owner| owner_kind(owner, attach).map(|kind| (kind, owner)));
            if let Some((kind, owner)) = owner {
                let key = Key { namespace: pod.meta.key.namespace.clone(), name: owner.name.clone() };
                used.insert(Place { kind, key });
            }
        }
        Object::Endpoints(endpoints) => {
            used.insert(Place { kind: Kind::Service, key: endpoints.meta.key.clone() });
            for subset in &endpoints.subsets {
                for address in subset.addresses.iter().chain(&subset.not_ready) {
                    used.extend(address.target.as_ref().and_then(Reference::pod).map(of_pod));
                    if attach.node {
                        let by_target = address.target.as_ref().and_then(Reference::node);
                        used.extend(address.node_name.as_ref().or(by_target).map(node));
                    }
                }
            }
        }
        Object::EndpointSlice(slice) => {
            if let Some(name) = slice.meta.label(SERVICE_NAME) {
                let key = Key { namespace: slice.meta.key.namespace.clone(), name: name.clone() };
                used.insert(Place { kind: Kind::Service, key });
            }
            for endpoint in &slice.endpoints {
                used.extend(endpoint.target.as_ref().and_then(Reference::pod).map(of_pod));
                if attach.node {
                    let by_target = endpoint.target.as_ref().and_then(Reference::node);
                    used.extend(by_target.or(endpoint.node_name.as_ref()).map(node));
                }
            }
        }
        _ => {}
    }
    used
}

fn of_pod(key: Key) -> Place {
    Place { kind: Kind::Pod, key }
}

/// The kind of a pod's owner, if the owner's own owner is shown.
fn owner_kind(owner: &Owner, attach: AttachMetadata) -> Option<Kind> {
    match &*owner.kind {
        "ReplicaSet" if attach.deployment => Some(Kind::ReplicaSet),
        "Job" if attach.cronjob => Some(Kind::Job),
        _ => None,
    }
}

impl State {
    fn find(&self, kind: Kind, namespace: &Text, name: &Text) -> Option<&Object> {
        self.objects.get(&kind)?.get(&Key { namespace: namespace.clone(), name: name.clone() })
    }
}

impl Lookup for State {
    fn pod(&self, key: &Key) -> Option<&Pod> {
        let Object::Pod(pod) = self.objects.get(&Kind::Pod)?.get(key)? else { return None };
        Some(pod)
    }

    fn service(&self, namespace: &Text, name: &Text) -> Option<&Service> {
        let Object::Service(service) = self.find(Kind::Service, namespace, name)? else { return None };
        Some(service)
    }

    fn node(&self, name: &Text) -> Option<&Node> {
        let Object::Node(node) = self.find(Kind::Node, &Text::default(), name)? else { return None };
        Some(node)
    }

    fn namespace(&self, name: &Text) -> Option<&Meta> {
        let Object::Namespace(meta) = self.find(Kind::Namespace, &Text::default(), name)? else {
            return None;
        };
        Some(meta)
    }

    fn replica_set(&self, namespace: &Text, name: &Text) -> Option<&Owned> {
        let Object::ReplicaSet(set) = self.find(Kind::ReplicaSet, namespace, name)? else { return None };
        Some(set)
    }

    fn job(&self, namespace: &Text, name: &Text) -> Option<&Owned> {
        let Object::Job(job) = self.find(Kind::Job, namespace, name)? else { return None };
        Some(job)
    }
}

#[cfg(test)]
mod tests;
