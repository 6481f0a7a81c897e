//! The objects of a cluster as an API server keeps them: JSON with versions, and what changed since when.
//!
//! Knows nothing of HTTP. The history of changes can be undone, so that a list goes on page by page as it was when
//! its first page was read, and cut off, as the real store compacts what is old.
//!
//! Compat: kubernetes `apiserver/pkg/storage` (etcd3 and cacher), as far as reading goes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::{Value, json};

/// Changes that are remembered, unless a test compacts them.
const HISTORY_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Node,
    Namespace,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    ReplicaSet,
    Deployment,
    Job,
    CronJob,
}

impl Kind {
    pub(crate) const ALL: [Self; 11] = [
        Self::Node,
        Self::Namespace,
        Self::Pod,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::Ingress,
        Self::ReplicaSet,
        Self::Deployment,
        Self::Job,
        Self::CronJob,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::Endpoints => "Endpoints",
            Self::EndpointSlice => "EndpointSlice",
            Self::Ingress => "Ingress",
            Self::ReplicaSet => "ReplicaSet",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    /// The name in paths.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslices",
            Self::Ingress => "ingresses",
            Self::ReplicaSet => "replicasets",
            Self::Deployment => "deployments",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
        }
    }

    /// What people type instead.
    pub(crate) const fn short(self) -> Option<&'static str> {
        match self {
            Self::Node => Some("no"),
            Self::Namespace => Some("ns"),
            Self::Pod => Some("po"),
            Self::Service => Some("svc"),
            Self::Endpoints => Some("ep"),
            Self::Ingress => Some("ing"),
            Self::ReplicaSet => Some("rs"),
            Self::Deployment => Some("deploy"),
            Self::CronJob => Some("cj"),
            Self::EndpointSlice | Self::Job => None,
        }
    }

    /// Empty for the core group. All are of version `v1`.
    pub(crate) const fn group(self) -> &'static str {
        match self {
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Ingress => "networking.k8s.io",
            Self::ReplicaSet | Self::Deployment => "apps",
            Self::Job | Self::CronJob => "batch",
            _ => "",
        }
    }

    pub(crate) fn api_version(self) -> String {
        match self.group() {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        }
    }

    pub(crate) const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace)
    }

    pub(crate) fn of(group: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.group() == group && kind.plural() == plural)
    }
}

/// Namespace and name; the first is empty for what has none.
pub(crate) type Key = (String, String);

pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// With `kind` and `apiVersion`, as a watch sends it.
    pub(crate) value: Value,
    /// The same without them, as a list holds it: the opening brace is left to who writes it.
    body: String,
}

impl Object {
    fn new(kind: Kind, mut value: Value, version: u64) -> Self {
        let fields = value.as_object_mut().unwrap();
        fields.remove("kind");
        fields.remove("apiVersion");
        let meta = fields.entry("metadata").or_insert_with(|| json!({}));
        meta["resourceVersion"] = json!(version.to_string());
        let body = value.to_string()[1..].to_owned();
        value["kind"] = json!(kind.name());
        value["apiVersion"] = json!(kind.api_version());
        Self { kind, value, body }
    }

    pub(crate) fn key(&self) -> Key {
        key_of(&self.value)
    }

    /// As it stands in a list.
    pub(crate) fn write_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(self.body.as_bytes());
    }

    /// As it stands alone.
    pub(crate) fn write_whole(&self, out: &mut Vec<u8>) {
        let (kind, version) = (self.kind.name(), self.kind.api_version());
        out.extend_from_slice(format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",").as_bytes());
        out.extend_from_slice(self.body.as_bytes());
    }
}

fn key_of(value: &Value) -> Key {
    let part = |name: &str| value["metadata"][name].as_str().unwrap_or_default().to_owned();
    (part("namespace"), part("name"))
}

/// What happened to an object: at least one of the two is there.
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) before: Option<Arc<Object>>,
    /// For a deletion the object as it was, with the version of its end.
    pub(crate) after: Arc<Object>,
    pub(crate) is_deletion: bool,
}

impl Change {
    pub(crate) fn kind(&self) -> Kind {
        self.after.kind
    }
}

/// What was asked for is no longer known.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) oldest: u64,
}

pub(crate) struct Store {
    objects: BTreeMap<(Kind, Key), Arc<Object>>,
    /// Of the newest change.
    version: u64,
    history: VecDeque<Arc<Change>>,
    /// What happened up to this version is forgotten.
    compacted: u64,
}

impl Default for Store {
    fn default() -> Self {
        // A real cluster is never at its first version, and zero means something else.
        Self { objects: BTreeMap::new(), version: 1000, history: VecDeque::new(), compacted: 1000 }
    }
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&(kind, (namespace.to_owned(), name.to_owned())))
    }

    /// All of a kind, by namespace and name.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        let first = Bound::Included((kind, Key::default()));
        self.objects
            .range((first, Bound::Unbounded))
            .map_while(move |((k, _), object)| (*k == kind).then_some(object))
    }

    /// Creates the object or replaces the one of its name.
    pub(crate) fn put(&mut self, kind: Kind, value: Value) {
        let key = key_of(&value);
        assert_eq!(kind.is_namespaced(), !key.0.is_empty(), "{} {key:?}", kind.name());
        assert!(!key.1.is_empty(), "a {} without a name", kind.name());
        self.version += 1;
        let object = Arc::new(Object::new(kind, value, self.version));
        let before = self.objects.insert((kind, key), Arc::clone(&object));
        self.remember(Change { version: self.version, before, after: object, is_deletion: false });
    }

    /// Whether there was such an object.
    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> bool {
        let Some(before) = self.objects.remove(&(kind, (namespace.to_owned(), name.to_owned()))) else {
            return false;
        };
        self.version += 1;
        let after = Arc::new(Object::new(kind, before.value.clone(), self.version));
        self.remember(Change { version: self.version, before: Some(before), after, is_deletion: true });
        true
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back(Arc::new(change));
        if self.history.len() > HISTORY_MAX {
            self.compacted = self.history.pop_front().map_or(self.compacted, |change| change.version);
        }
    }

    /// Forgets how everything came about.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.version;
    }

    /// Up to `limit` changes after `version`, the oldest first.
    pub(crate) fn changes(&self, version: u64, limit: usize) -> Result<Vec<Arc<Change>>, Gone> {
        if version < self.compacted {
            return Err(Gone { oldest: self.compacted });
        }
        let first = self.history.partition_point(|change| change.version <= version);
        Ok(self.history.range(first..).take(limit).cloned().collect())
    }

    /// All of a kind as it was at `version`, by namespace and name.
    pub(crate) fn all_at(&self, kind: Kind, version: u64) -> Result<Vec<Arc<Object>>, Gone> {
        if version < self.compacted {
            return Err(Gone { oldest: self.compacted });
        }
        let mut objects: BTreeMap<Key, Arc<Object>> =
            self.all(kind).map(|object| (object.key(), Arc::clone(object))).collect();
        let later = self.history.iter().rev().take_while(|change| change.version > version);
        for change in later.filter(|change| change.kind() == kind) {
            match &change.before {
                Some(before) => objects.insert(before.key(), Arc::clone(before)),
                None => objects.remove(&change.after.key()),
            };
        }
        Ok(objects.into_values().collect())
    }
}

#[test]
fn a_store_shows_what_was_at_each_version() {
    let pod = |name: &str, label: &str| json!({"metadata": {"namespace": "ns", "name": name, "labels": {"l": label}}});
    let mut store = Store::default();
    store.put(Kind::Pod, pod("a", "1"));
    let first = store.version();
    store.put(Kind::Pod, pod("b", "1"));
    store.put(Kind::Pod, pod("a", "2"));
    store.put(Kind::Node, json!({"metadata": {"name": "n"}}));
    assert!(store.delete(Kind::Pod, "ns", "b"));
    assert!(!store.delete(Kind::Pod, "ns", "b"));
    let at = |store: &Store, version| -> Vec<String> {
        let objects = store.all_at(Kind::Pod, version).unwrap();
        objects.iter().map(|o| format!("{}{}", o.key().1, o.value["metadata"]["labels"]["l"])).collect()
    };
    assert_eq!(at(&store, first), ["a\"1\""]);
    assert_eq!(at(&store, first + 1), ["a\"1\"", "b\"1\""]);
    assert_eq!(at(&store, first + 2), ["a\"2\"", "b\"1\""]);
    assert_eq!(at(&store, store.version()), ["a\"2\""]);
    let changes = store.changes(first, 100).unwrap();
    let seen: Vec<_> = changes.iter().map(|c| (c.version - first, c.kind(), c.is_deletion)).collect();
    assert_eq!(
        seen,
        [(1, Kind::Pod, false), (2, Kind::Pod, false), (3, Kind::Node, false), (4, Kind::Pod, true)]
    );
    store.compact();
    assert!(store.changes(first, 100).is_err() && store.all_at(Kind::Pod, first).is_err());
    assert_eq!(store.changes(store.version(), 100).unwrap().len(), 0);
    let mut item = Vec::new();
    store.get(Kind::Pod, "ns", "a").unwrap().write_item(&mut item);
    let item: Value = serde_json::from_slice(&item).unwrap();
    assert_eq!((item.get("kind"), &item["metadata"]["resourceVersion"]), (None, &json!("1003")));
}
