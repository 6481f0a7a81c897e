//! What a pod costs: `cargo test -p ferula --lib kubernetes::tests::memory -- --nocapture` prints it.

use config::prometheus::{AttachMetadata, KubernetesRole};
use serde_json::json;

use super::super::object::{Kind, decode};
use super::super::state::State;

const N_PODS: usize = 20_000;

/// What a server sends of a pod of one of a hundred deployments, but for what is the pod's own. Much of it is
/// of no use to us; a real one has twice as much of that.
fn template(app: usize) -> String {
    let name = format!("app-{app}");
    let container = |part: &str, port: usize| {
        json!({
            "name": part,
            "image": format!("registry.example.com/team/{name}-{part}:v1.2.3"),
            "ports": [{"name": "http-metrics", "containerPort": port, "protocol": "TCP"}],
            "env": [{"name": "VARIABLE", "value": "x".repeat(400)}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        })
    };
    let status = |part: &str, id: usize| {
        json!({
            "name": part,
            "containerID": format!("containerd://{id}@I@{}", "c".repeat(58)),
            "imageID": format!("registry.example.com/team/{name}@sha256:{app:064x}"),
            "ready": true,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        })
    };
    json!({
        "metadata": {
            "name": format!("{name}-5d4f8c7b9-@I@"),
            "namespace": format!("team-{}", app % 20),
            "uid": "00000000-0000-4000-8000-0000000@I@",
            "resourceVersion": "10@I@",
            "labels": {
                "app.kubernetes.io/name": name,
                "app.kubernetes.io/instance": format!("{name}-prod"),
                "app.kubernetes.io/version": "1.2.3",
                "app.kubernetes.io/managed-by": "Helm",
                "pod-template-hash": "5d4f8c7b9",
                "team": format!("team-{}", app % 20),
            },
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "8080",
                "checksum/config": format!("{app:064x}"),
                "cni.projectcalico.org/podIP": "@IP@/32",
            },
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{name}-5d4f8c7b9"), "controller": true}],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:x": "y".repeat(500)}}}],
        },
        "spec": {
            "nodeName": "ip-10-0-@NODE@.internal",
            "containers": [container("main", 8080), container("proxy", 15090)],
        },
        "status": {
            "phase": "Running",
            "podIP": "@IP@",
            "hostIP": "10.0.1.@NODE@",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [status("main", 1), status("proxy", 2)],
        },
    })
    .to_string()
}

/// The memory of the process that is really there.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn of_twenty_thousand_pods() {
    let templates: Vec<String> = (0..100).map(template).collect();
    let before = resident_bytes();
    let mut state = State::new(KubernetesRole::Pod, AttachMetadata::default());
    let mut sent_bytes = 0;
    for i in 0..N_PODS {
        let ip = format!("10.{}.{}.{}", 64 + i / 62_500, i / 250 % 250, i % 250);
        let json = templates[i % 100]
            .replace("@I@", &format!("{i:05x}"))
            .replace("@IP@", &ip)
            .replace("@NODE@", &(i % 250).to_string());
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
