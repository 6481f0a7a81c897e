//! What a pod costs: `cargo test -p ferula --lib kubernetes::tests::memory -- --nocapture` prints it.

use config::prometheus::{AttachMetadata, KubernetesRole};
use serde_json::{Value, json};

use super::super::object::{Kind, decode};
use super::super::state::State;

const N_PODS: usize = 20_000;

/// A pod as a server sends it, of one of a hundred deployments.
fn pod(i: usize) -> Value {
    let (app, node) =
        (format!("app-{}", i % 100), format!("ip-10-0-{}-{}.internal", i % 300 / 250, i % 300 % 250));
    let ip = format!("10.{}.{}.{}", 64 + i / 62_500, i / 250 % 250, i % 250);
    let container = |name: &str, port: usize| {
        json!({
            "name": name,
            "image": format!("registry.example.com/team/{app}-{name}:v1.2.3"),
            "ports": [{"name": "http-metrics", "containerPort": port, "protocol": "TCP"}],
            "env": (0..20).map(|i| json!({"name": format!("VARIABLE_{i}"), "value": "x".repeat(40)})).collect::<Vec<_>>(),
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
            "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        })
    };
    let status = |name: &str| {
        json!({
            "name": name,
            "containerID": format!("containerd://{:064x}", i * 7 + name.len()),
            "imageID": format!("registry.example.com/team/{app}@sha256:{:064x}", i % 100),
            "ready": true,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        })
    };
    json!({
        "metadata": {
            "name": format!("{app}-5d4f8c7b9-{i:05x}"),
            "namespace": format!("team-{}", i % 20),
            "uid": format!("00000000-0000-4000-8000-{i:012x}"),
            "resourceVersion": (1_000_000 + i).to_string(),
            "labels": {
                "app.kubernetes.io/name": app,
                "app.kubernetes.io/instance": format!("{app}-prod"),
                "app.kubernetes.io/version": "1.2.3",
                "app.kubernetes.io/managed-by": "Helm",
                "pod-template-hash": "5d4f8c7b9",
                "team": format!("team-{}", i % 20),
            },
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "8080",
                "checksum/config": format!("{:064x}", i % 100),
                "cni.projectcalico.org/podIP": format!("{ip}/32"),
            },
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{app}-5d4f8c7b9"), "controller": true}],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:conditions": {"f:x": "y".repeat(1500)}}}}],
        },
        "spec": {"nodeName": node, "containers": [container("main", 8080), container("proxy", 15090)]},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "hostIP": format!("10.0.{}.{}", i % 300 / 250, i % 300 % 250),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [status("main"), status("proxy")],
        },
    })
}

/// The memory of the process that is really there.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn of_twenty_thousand_pods() {
    let before = resident_bytes();
    let mut state = State::new(KubernetesRole::Pod, AttachMetadata::default());
    let mut sent_bytes = 0;
    for i in 0..N_PODS {
        let json = pod(i).to_string();
        sent_bytes += json.len();
        let received = decode(Kind::Pod, json.as_bytes()).unwrap();
        state.apply(Kind::Pod, &received.key, Some(received.object));
    }
    let objects = resident_bytes();
    let start = std::time::Instant::now();
    let groups = state.take_groups(usize::MAX);
    let took = start.elapsed();
    let with_groups = resident_bytes();
    assert_eq!(groups.len(), N_PODS);
    assert_eq!(groups.iter().map(|group| group.targets.len()).sum::<usize>(), 2 * N_PODS);

    let each = |bytes: usize| bytes / N_PODS;
    let (object, group) = (each(objects.saturating_sub(before)), each(with_groups.saturating_sub(objects)));
    println!(
        "{N_PODS} pods: {} bytes of JSON each, {object} bytes kept of each, {group} bytes of its groups and \
         labels, {:.1} us to make them",
        each(sent_bytes),
        took.as_secs_f64() * 1e6 / N_PODS as f64,
    );
    // Other tests run beside this one, so the limits are wide.
    assert!(object < 3000, "{object} bytes are kept of a pod");
    assert!(group < 8000, "{group} bytes are in the group of a pod");
}
