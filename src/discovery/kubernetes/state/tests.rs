use config::prometheus::{AttachMetadata, KubernetesRole};
use serde_json::{Value, json};

use super::super::object::{Key, Kind, decode};
use super::State;

const ALL: AttachMetadata =
    AttachMetadata { node: true, namespace: true, deployment: true, job: true, cronjob: true };

fn put(state: &mut State, kind: Kind, object: &Value) {
    let received = decode(kind, object.to_string().as_bytes()).unwrap();
    state.apply(kind, &received.key, Some(received.object));
}

/// The sources that are to be sent, sorted, with the number of their targets.
fn sent(state: &mut State) -> Vec<String> {
    let mut all: Vec<_> = state
        .take_groups(usize::MAX)
        .iter()
        .map(|group| format!("{} {}", group.source, group.targets.len()))
        .collect();
    all.sort();
    assert!(state.take_groups(usize::MAX).is_empty());
    all
}

fn pod(namespace: &str, name: &str, node: &str, owner: &str) -> Value {
    json!({
        "metadata": {
            "namespace": namespace,
            "name": name,
            "ownerReferences": [{"kind": "ReplicaSet", "name": owner, "controller": true}],
        },
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {"podIP": "10.0.0.1"},
    })
}

fn named(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}})
}

#[test]
fn what_a_pod_is_made_of_sends_it_again() {
    let mut state = State::new(KubernetesRole::Pod, ALL);
    put(&mut state, Kind::Node, &named("", "n1"));
    put(&mut state, Kind::Node, &named("", "n2"));
    assert_eq!(sent(&mut state), [""; 0]);
    for (namespace, name, node, owner) in
        [("a", "p", "n1", "r"), ("a", "q", "n2", "s"), ("b", "p", "n1", "r")]
    {
        put(&mut state, Kind::Pod, &pod(namespace, name, node, owner));
    }
    assert_eq!(sent(&mut state), ["pod/a/p 1", "pod/a/q 1", "pod/b/p 1"]);

    let mut labelled = named("", "n1");
    labelled["metadata"]["labels"] = json!({"x": "y"});
    put(&mut state, Kind::Node, &labelled);
    assert_eq!(sent(&mut state), ["pod/a/p 1", "pod/b/p 1"]);
    put(&mut state, Kind::Namespace, &named("", "a"));
    assert_eq!(sent(&mut state), ["pod/a/p 1", "pod/a/q 1"]);
    put(&mut state, Kind::ReplicaSet, &named("b", "r"));
    assert_eq!(sent(&mut state), ["pod/b/p 1"]);
    put(&mut state, Kind::ReplicaSet, &named("c", "r"));
    assert_eq!(sent(&mut state), [""; 0]);

    // It moves: its old node has no say any more.
    put(&mut state, Kind::Pod, &pod("a", "p", "n2", "r"));
    assert_eq!(sent(&mut state), ["pod/a/p 1"]);
    put(&mut state, Kind::Node, &named("", "n1"));
    assert_eq!(sent(&mut state), ["pod/b/p 1"]);

    state.apply(Kind::Node, &Key::new("", "n2"), None);
    assert_eq!(sent(&mut state), ["pod/a/p 0", "pod/a/q 0"]);
    state.apply(Kind::Pod, &Key::new("a", "q"), None);
    state.apply(Kind::Pod, &Key::new("b", "p"), None);
    assert_eq!(sent(&mut state), ["pod/a/q 0", "pod/b/p 0"]);
    state.apply(Kind::Pod, &Key::new("a", "p"), None);
    assert_eq!(sent(&mut state), ["pod/a/p 0"]);
    assert!(state.uses.is_empty(), "{:?}", state.uses);
}

#[test]
fn what_endpoints_are_made_of_sends_them_again() {
    let to = |pod: &str, node: &str| json!({"ip": "10.0.0.1", "nodeName": node, "targetRef": {"kind": "Pod", "namespace": "a", "name": pod}});
    let mut endpoints = named("a", "e");
    endpoints["subsets"] = json!([{
        "addresses": [to("p", "n1")],
        "notReadyAddresses": [to("q", "n2")],
        "ports": [{"port": 1}],
    }]);
    let mut slice = named("a", "s-1");
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": "e"});
    slice["endpoints"] = json!([
        {"addresses": ["10.0.0.1"], "nodeName": "n1", "targetRef": {"kind": "Pod", "namespace": "a", "name": "p"}},
        {"addresses": ["10.0.0.2"], "nodeName": "n2", "targetRef": {"kind": "Pod", "namespace": "a", "name": "q"}},
    ]);
    slice["ports"] = json!([{"port": 1}]);

    let cases = [
        (KubernetesRole::Endpoints, Kind::Endpoints, endpoints, "endpoints/a/e"),
        (KubernetesRole::EndpointSlice, Kind::EndpointSlice, slice, "endpointslice/a/s-1"),
    ];
    for (role, kind, object, source) in cases {
        let with_targets = [format!("{source} 2")];
        let mut state = State::new(role, ALL);
        put(&mut state, kind, &object);
        assert_eq!(sent(&mut state), with_targets);
        for (kind, other) in [
            (Kind::Pod, pod("a", "p", "n1", "r")),
            (Kind::Pod, pod("a", "q", "n2", "r")),
            (Kind::Service, named("a", "e")),
            (Kind::Node, named("", "n1")),
            (Kind::Node, named("", "n2")),
            (Kind::Namespace, named("", "a")),
            // Over the pod that it owns.
            (Kind::ReplicaSet, named("a", "r")),
        ] {
            put(&mut state, kind, &other);
            assert_eq!(sent(&mut state), with_targets, "{kind:?} {other}");
        }
        for (kind, other) in [
            (Kind::Pod, pod("b", "p", "n1", "r")),
            (Kind::Service, named("a", "f")),
            (Kind::Node, named("", "n3")),
            (Kind::Namespace, named("", "b")),
            (Kind::ReplicaSet, named("a", "t")),
            (Kind::Job, named("a", "r")),
        ] {
            put(&mut state, kind, &other);
            assert_eq!(sent(&mut state), [""; 0], "{kind:?} {other}");
        }
        state.apply(Kind::Pod, &Key::new("a", "q"), None);
        assert_eq!(sent(&mut state), with_targets);
        state.apply(Kind::Service, &Key::new("a", "e"), None);
        assert_eq!(sent(&mut state), with_targets);
        state.apply(kind, &Key::new("a", &source[source.rfind('/').unwrap() + 1..]), None);
        assert_eq!(sent(&mut state), [format!("{source} 0")]);
    }
}

#[test]
fn many_changes_of_one_object_are_sent_once_and_in_portions() {
    let mut state = State::new(KubernetesRole::Pod, AttachMetadata::default());
    for _ in 0..3 {
        for i in 0..10 {
            put(&mut state, Kind::Pod, &pod("a", &format!("p-{i}"), "n", "r"));
        }
    }
    assert_eq!(state.queue_len(), 10);
    assert_eq!(state.take_groups(4).len(), 4);
    assert_eq!(state.take_groups(4).len(), 4);
    state.apply(Kind::Pod, &Key::new("a", "p-9"), None);
    assert_eq!(sent(&mut state), ["pod/a/p-8 1", "pod/a/p-9 0"]);
}
