#![expect(clippy::needless_raw_string_hashes, reason = "written by the tests themselves")]

use std::fmt::Write as _;

use config::prometheus::{AttachMetadata, KubernetesRole};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::super::object::{Kind, decode};
use super::super::state::State;

const NOTHING: AttachMetadata =
    AttachMetadata { node: false, namespace: false, deployment: false, job: false, cronjob: false };
const ALL: AttachMetadata =
    AttachMetadata { node: true, namespace: true, deployment: true, job: true, cronjob: true };

/// The groups of a role when these objects are there, `~` for the prefix of the labels.
#[track_caller]
fn check(role: KubernetesRole, attach: AttachMetadata, objects: &[(Kind, Value)], expected: &Expect) {
    let mut state = State::new(role, attach);
    for (kind, object) in objects {
        let received = decode(*kind, object.to_string().as_bytes()).unwrap();
        state.apply(*kind, &received.key, Some(received.object));
    }
    let mut out = String::new();
    for group in state.take_groups(usize::MAX) {
        writeln!(out, "{}\n  labels", group.source).unwrap();
        let all = std::iter::once(&group.labels).chain(&group.targets);
        for (i, labels) in all.enumerate() {
            if i > 0 {
                out.push_str("  target\n");
            }
            for (name, value) in labels.to_map() {
                writeln!(out, "    {}={value}", name.replace("__meta_kubernetes_", "~")).unwrap();
            }
        }
    }
    expected.assert_eq(&out);
}

fn node() -> Value {
    json!({
        "metadata": {
            "name": "n1",
            "labels": {"topology.kubernetes.io/zone": "z-1", "empty": ""},
            "annotations": {"csi.volume/nodeid": "{\"x\": 1}"},
            "creationTimestamp": null,
        },
        "spec": {"providerID": "aws:///z-1/i-1"},
        "status": {
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z"},
                {"type": "Ready", "status": "True"},
                {"type": "x.io/Odd-One", "status": "Unknown"},
            ],
            "addresses": [
                {"type": "Hostname", "address": "n1"},
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "InternalIP", "address": "fd00::1"},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    })
}

#[test]
fn of_a_node() {
    check(
        KubernetesRole::Node,
        NOTHING,
        &[(Kind::Node, node())],
        &expect![[r#"
            node/n1
              labels
                ~node_annotation_csi_volume_nodeid={"x": 1}
                ~node_annotationpresent_csi_volume_nodeid=true
                ~node_condition_memorypressure=false
                ~node_condition_ready=true
                ~node_condition_x_io_odd_one=unknown
                ~node_label_topology_kubernetes_io_zone=z-1
                ~node_labelpresent_empty=true
                ~node_labelpresent_topology_kubernetes_io_zone=true
                ~node_name=n1
                ~node_provider_id=aws:///z-1/i-1
              target
                __address__=10.0.0.1:10250
                ~node_address_ExternalIP=203.0.113.1
                ~node_address_Hostname=n1
                ~node_address_InternalIP=10.0.0.1
                instance=n1
        "#]],
    );
}

#[test]
fn of_nodes_with_odd_addresses() {
    let with = |name: &str, addresses: Value| {
        (Kind::Node, json!({"metadata": {"name": name}, "status": {"addresses": addresses}}))
    };
    check(
        KubernetesRole::Node,
        NOTHING,
        &[
            with("none", Value::Null),
            with("v6", json!([{"type": "InternalIP", "address": "fd00::2"}])),
            with(
                "odd",
                json!([{"type": "Odd-Type", "address": "a"}, {"type": "LegacyHostIP", "address": "b"}]),
            ),
        ],
        &expect![[r#"
            node/v6
              labels
                ~node_name=v6
              target
                __address__=[fd00::2]:0
                ~node_address_InternalIP=fd00::2
                instance=v6
            node/odd
              labels
                ~node_name=odd
              target
                __address__=b:0
                ~node_address_LegacyHostIP=b
                ~node_address_Odd_Type=a
                instance=odd
        "#]],
    );
}

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "web-0",
            "namespace": "prod",
            "uid": "uid-1",
            "labels": {"app.kubernetes.io/name": "web", "pod-template-hash": "abc"},
            "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [
                {"kind": "Other", "name": "no", "controller": false},
                {"kind": "ReplicaSet", "name": "web-abc", "controller": true},
            ],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {
                    "name": "main",
                    "image": "web:1",
                    "ports": [
                        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                        {"name": "metrics", "containerPort": 9090, "protocol": "TCP"},
                    ],
                },
                {"name": "side", "image": "side:1"},
            ],
            "initContainers": [
                {"name": "init", "image": "init:1", "ports": [{"containerPort": 53, "protocol": "UDP"}]},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.1.0.1",
            "hostIP": "10.0.0.1",
            "conditions": [{"type": "Initialized", "status": "False"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": "side", "containerID": "containerd://side"},
                {"name": "main", "containerID": "containerd://main"},
            ],
            "initContainerStatuses": [{"name": "init", "containerID": "containerd://init"}],
        },
    })
}

#[test]
fn of_a_pod() {
    check(
        KubernetesRole::Pod,
        NOTHING,
        &[(Kind::Pod, pod())],
        &expect![[r#"
            pod/prod/web-0
              labels
                ~namespace=prod
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1:8080
                ~pod_container_id=containerd://main
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=http
                ~pod_container_port_number=8080
                ~pod_container_port_protocol=TCP
              target
                __address__=10.1.0.1:9090
                ~pod_container_id=containerd://main
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=metrics
                ~pod_container_port_number=9090
                ~pod_container_port_protocol=TCP
              target
                __address__=10.1.0.1
                ~pod_container_id=containerd://side
                ~pod_container_image=side:1
                ~pod_container_init=false
                ~pod_container_name=side
              target
                __address__=10.1.0.1:53
                ~pod_container_id=containerd://init
                ~pod_container_image=init:1
                ~pod_container_init=true
                ~pod_container_name=init
                ~pod_container_port_number=53
                ~pod_container_port_protocol=UDP
        "#]],
    );
}

#[test]
fn of_pods_that_lack_things() {
    let mut starting = pod();
    starting["status"] = json!({"phase": "Pending", "conditions": null, "containerStatuses": null});
    let bare = json!({
        "metadata": {"name": "bare", "namespace": "prod"},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"podIP": "fd00::9"},
    });
    check(
        KubernetesRole::Pod,
        NOTHING,
        &[(Kind::Pod, starting), (Kind::Pod, bare)],
        &expect![[r#"
            pod/prod/web-0
              labels
            pod/prod/bare
              labels
                ~namespace=prod
                ~pod_ip=fd00::9
                ~pod_name=bare
                ~pod_ready=unknown
              target
                __address__=fd00::9
                ~pod_container_init=false
                ~pod_container_name=c
        "#]],
    );
}

fn namespace() -> Value {
    json!({"metadata": {"name": "prod", "labels": {"team": "a"}, "annotations": {"cost/center": "7"}}})
}

fn replica_set() -> Value {
    json!({"metadata": {
        "name": "web-abc",
        "namespace": "prod",
        "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": true}],
    }})
}

#[test]
fn of_a_pod_with_everything_attached() {
    check(
        KubernetesRole::Pod,
        ALL,
        &[
            (Kind::Node, node()),
            (Kind::Namespace, namespace()),
            (Kind::ReplicaSet, replica_set()),
            (Kind::Pod, pod()),
        ],
        &expect![[r#"
            pod/prod/web-0
              labels
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
                ~node_annotation_csi_volume_nodeid={"x": 1}
                ~node_annotationpresent_csi_volume_nodeid=true
                ~node_label_topology_kubernetes_io_zone=z-1
                ~node_labelpresent_empty=true
                ~node_labelpresent_topology_kubernetes_io_zone=true
                ~node_name=n1
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1:8080
                ~pod_container_id=containerd://main
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=http
                ~pod_container_port_number=8080
                ~pod_container_port_protocol=TCP
              target
                __address__=10.1.0.1:9090
                ~pod_container_id=containerd://main
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=metrics
                ~pod_container_port_number=9090
                ~pod_container_port_protocol=TCP
              target
                __address__=10.1.0.1
                ~pod_container_id=containerd://side
                ~pod_container_image=side:1
                ~pod_container_init=false
                ~pod_container_name=side
              target
                __address__=10.1.0.1:53
                ~pod_container_id=containerd://init
                ~pod_container_image=init:1
                ~pod_container_init=true
                ~pod_container_name=init
                ~pod_container_port_number=53
                ~pod_container_port_protocol=UDP
        "#]],
    );
    // A pod on a node that the selector leaves out.
    check(
        KubernetesRole::Pod,
        ALL,
        &[(Kind::Pod, pod())],
        &expect![[r#"
        pod/prod/web-0
          labels
    "#]],
    );
}

#[test]
fn of_a_pod_of_a_cron_job() {
    let mut of_job = pod();
    of_job["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "backup-1", "controller": true}]);
    of_job["metadata"]["labels"] = Value::Null;
    of_job["spec"] = json!({"containers": [{"name": "c"}]});
    let job = json!({"metadata": {
        "name": "backup-1",
        "namespace": "prod",
        "ownerReferences": [{"kind": "CronJob", "name": "backup", "controller": true}],
    }});
    check(
        KubernetesRole::Pod,
        AttachMetadata { node: false, ..ALL },
        &[(Kind::Job, job), (Kind::Pod, of_job)],
        &expect![[r#"
            pod/prod/web-0
              labels
                ~namespace=prod
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_controller_kind=Job
                ~pod_controller_name=backup-1
                ~pod_cronjob_name=backup
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_job_name=backup-1
                ~pod_name=web-0
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1
                ~pod_container_init=false
                ~pod_container_name=c
        "#]],
    );
}

fn service() -> Value {
    json!({
        "metadata": {
            "name": "web",
            "namespace": "prod",
            "labels": {"app": "web"},
            "annotations": {"prometheus.io/port": "8080"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.1",
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"},
                {"port": 53, "protocol": "UDP", "targetPort": 53},
            ],
        },
    })
}

#[test]
fn of_services() {
    let mut external = service();
    external["metadata"] = json!({"name": "ext", "namespace": "prod"});
    external["spec"] =
        json!({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 443}]});
    let mut balanced = service();
    balanced["metadata"] = json!({"name": "lb", "namespace": "prod"});
    balanced["spec"]["type"] = "LoadBalancer".into();
    balanced["spec"]["loadBalancerIP"] = "198.51.100.1".into();
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}]}});
    let headless = json!({"metadata": {"name": "empty", "namespace": "prod"}, "spec": {"clusterIP": "None"}});
    check(
        KubernetesRole::Service,
        ALL,
        &[
            (Kind::Namespace, namespace()),
            (Kind::Service, service()),
            (Kind::Service, external),
            (Kind::Service, balanced),
            (Kind::Service, headless),
        ],
        &expect![[r#"
            svc/prod/web
              labels
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
                ~service_annotation_prometheus_io_port=8080
                ~service_annotationpresent_prometheus_io_port=true
                ~service_label_app=web
                ~service_labelpresent_app=true
                ~service_name=web
              target
                __address__=web.prod.svc:80
                ~service_cluster_ip=10.96.0.1
                ~service_port_name=http
                ~service_port_number=80
                ~service_port_protocol=TCP
                ~service_type=ClusterIP
              target
                __address__=web.prod.svc:53
                ~service_cluster_ip=10.96.0.1
                ~service_port_number=53
                ~service_port_protocol=UDP
                ~service_type=ClusterIP
            svc/prod/ext
              labels
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
                ~service_name=ext
              target
                __address__=ext.prod.svc:443
                ~service_external_name=example.com
                ~service_port_number=443
                ~service_type=ExternalName
            svc/prod/lb
              labels
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
                ~service_name=lb
              target
                __address__=lb.prod.svc:80
                ~service_cluster_ip=10.96.0.1
                ~service_loadbalancer_ip=198.51.100.1
                ~service_port_name=http
                ~service_port_number=80
                ~service_port_protocol=TCP
                ~service_type=LoadBalancer
              target
                __address__=lb.prod.svc:53
                ~service_cluster_ip=10.96.0.1
                ~service_loadbalancer_ip=198.51.100.1
                ~service_port_number=53
                ~service_port_protocol=UDP
                ~service_type=LoadBalancer
            svc/prod/empty
              labels
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
                ~service_name=empty
        "#]],
    );
}

#[test]
fn of_ingresses() {
    let ingress = json!({
        "metadata": {"name": "front", "namespace": "prod", "labels": {"a": "b"}},
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{"hosts": ["secure.example.com", "*.wild.example.com"]}, {"secretName": "x"}],
            "rules": [
                {"host": "secure.example.com", "http": {"paths": [{"path": "/"}, {"path": "/api"}, {}]}},
                {"host": "a.wild.example.com"},
                {"host": "a.b.wild.example.com"},
                {"host": "plain.example.com", "http": {"paths": []}},
                {"http": null},
            ],
        },
    });
    check(
        KubernetesRole::Ingress,
        ALL,
        &[(Kind::Namespace, namespace()), (Kind::Ingress, ingress)],
        &expect![[r#"
            ingress/prod/front
              labels
                ~ingress_class_name=nginx
                ~ingress_label_a=b
                ~ingress_labelpresent_a=true
                ~ingress_name=front
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
              target
                __address__=secure.example.com
                ~ingress_host=secure.example.com
                ~ingress_path=/
                ~ingress_scheme=https
              target
                __address__=secure.example.com
                ~ingress_host=secure.example.com
                ~ingress_path=/api
                ~ingress_scheme=https
              target
                __address__=secure.example.com
                ~ingress_host=secure.example.com
                ~ingress_path=/
                ~ingress_scheme=https
              target
                __address__=a.wild.example.com
                ~ingress_host=a.wild.example.com
                ~ingress_path=/
                ~ingress_scheme=https
              target
                __address__=a.b.wild.example.com
                ~ingress_host=a.b.wild.example.com
                ~ingress_path=/
                ~ingress_scheme=http
              target
                ~ingress_path=/
                ~ingress_scheme=http
        "#]],
    );
}

fn endpoints() -> Value {
    json!({
        "metadata": {
            "name": "web",
            "namespace": "prod",
            "labels": {"app": "web"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "x"},
        },
        "subsets": [
            {
                "addresses": [
                    {
                        "ip": "10.1.0.1",
                        "nodeName": "n1",
                        "hostname": "web-0",
                        "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "prod"},
                    },
                    {"ip": "10.9.9.9"},
                ],
                "notReadyAddresses": [{"ip": "10.0.0.1", "targetRef": {"kind": "Node", "name": "n1"}}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            },
            {"addresses": null, "ports": null},
        ],
    })
}

#[test]
fn of_endpoints() {
    check(
        KubernetesRole::Endpoints,
        NOTHING,
        &[(Kind::Service, service()), (Kind::Pod, pod()), (Kind::Endpoints, endpoints())],
        &expect![[r#"
            endpoints/prod/web
              labels
                ~endpoints_annotation_endpoints_kubernetes_io_last_change_trigger_time=x
                ~endpoints_annotationpresent_endpoints_kubernetes_io_last_change_trigger_time=true
                ~endpoints_label_app=web
                ~endpoints_labelpresent_app=true
                ~endpoints_name=web
                ~namespace=prod
                ~service_annotation_prometheus_io_port=8080
                ~service_annotationpresent_prometheus_io_port=true
                ~service_label_app=web
                ~service_labelpresent_app=true
                ~service_name=web
              target
                __address__=10.1.0.1:8080
                ~endpoint_address_target_kind=Pod
                ~endpoint_address_target_name=web-0
                ~endpoint_hostname=web-0
                ~endpoint_node_name=n1
                ~endpoint_port_name=http
                ~endpoint_port_protocol=TCP
                ~endpoint_ready=true
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=http
                ~pod_container_port_number=8080
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.9.9.9:8080
                ~endpoint_port_name=http
                ~endpoint_port_protocol=TCP
                ~endpoint_ready=true
              target
                __address__=10.0.0.1:8080
                ~endpoint_address_target_kind=Node
                ~endpoint_address_target_name=n1
                ~endpoint_port_name=http
                ~endpoint_port_protocol=TCP
                ~endpoint_ready=false
              target
                __address__=10.1.0.1:9090
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=metrics
                ~pod_container_port_number=9090
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1:53
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=init:1
                ~pod_container_init=true
                ~pod_container_name=init
                ~pod_container_port_number=53
                ~pod_container_port_protocol=UDP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
        "#]],
    );
}

#[test]
fn of_endpoints_with_everything_attached() {
    check(
        KubernetesRole::Endpoints,
        ALL,
        &[
            (Kind::Node, node()),
            (Kind::Namespace, namespace()),
            (Kind::ReplicaSet, replica_set()),
            (Kind::Pod, pod()),
            (Kind::Endpoints, endpoints()),
        ],
        &expect![[r#"
            endpoints/prod/web
              labels
                ~endpoints_annotation_endpoints_kubernetes_io_last_change_trigger_time=x
                ~endpoints_annotationpresent_endpoints_kubernetes_io_last_change_trigger_time=true
                ~endpoints_label_app=web
                ~endpoints_labelpresent_app=true
                ~endpoints_name=web
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
              target
                __address__=10.1.0.1:8080
                ~endpoint_address_target_kind=Pod
                ~endpoint_address_target_name=web-0
                ~endpoint_hostname=web-0
                ~endpoint_node_name=n1
                ~endpoint_port_name=http
                ~endpoint_port_protocol=TCP
                ~endpoint_ready=true
                ~node_annotation_csi_volume_nodeid={"x": 1}
                ~node_annotationpresent_csi_volume_nodeid=true
                ~node_label_topology_kubernetes_io_zone=z-1
                ~node_labelpresent_empty=true
                ~node_labelpresent_topology_kubernetes_io_zone=true
                ~node_name=n1
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=http
                ~pod_container_port_number=8080
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.9.9.9:8080
                ~endpoint_port_name=http
                ~endpoint_port_protocol=TCP
                ~endpoint_ready=true
              target
                __address__=10.0.0.1:8080
                ~endpoint_address_target_kind=Node
                ~endpoint_address_target_name=n1
                ~endpoint_port_name=http
                ~endpoint_port_protocol=TCP
                ~endpoint_ready=false
                ~node_annotation_csi_volume_nodeid={"x": 1}
                ~node_annotationpresent_csi_volume_nodeid=true
                ~node_label_topology_kubernetes_io_zone=z-1
                ~node_labelpresent_empty=true
                ~node_labelpresent_topology_kubernetes_io_zone=true
                ~node_name=n1
              target
                __address__=10.1.0.1:9090
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=metrics
                ~pod_container_port_number=9090
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1:53
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=init:1
                ~pod_container_init=true
                ~pod_container_name=init
                ~pod_container_port_number=53
                ~pod_container_port_protocol=UDP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
        "#]],
    );
}

fn slice() -> Value {
    json!({
        "metadata": {
            "name": "web-x1",
            "namespace": "prod",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.1.0.1"],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hostname": "web-0",
                "nodeName": "n1",
                "zone": "z-1",
                "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "prod"},
                "deprecatedTopology": {"topology.kubernetes.io/zone": "z-1"},
            },
            {
                "addresses": ["10.2.0.1", "10.2.0.2"],
                "conditions": {"ready": false},
                "targetRef": {"kind": "Node", "name": "n1"},
            },
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
    })
}

#[test]
fn of_an_endpoint_slice() {
    check(
        KubernetesRole::EndpointSlice,
        NOTHING,
        &[(Kind::Service, service()), (Kind::Pod, pod()), (Kind::EndpointSlice, slice())],
        &expect![[r#"
            endpointslice/prod/web-x1
              labels
                ~endpointslice_address_type=IPv4
                ~endpointslice_label_kubernetes_io_service_name=web
                ~endpointslice_labelpresent_kubernetes_io_service_name=true
                ~endpointslice_name=web-x1
                ~namespace=prod
                ~service_annotation_prometheus_io_port=8080
                ~service_annotationpresent_prometheus_io_port=true
                ~service_label_app=web
                ~service_labelpresent_app=true
                ~service_name=web
              target
                __address__=10.1.0.1:8080
                ~endpointslice_address_target_kind=Pod
                ~endpointslice_address_target_name=web-0
                ~endpointslice_endpoint_conditions_ready=true
                ~endpointslice_endpoint_conditions_serving=true
                ~endpointslice_endpoint_conditions_terminating=false
                ~endpointslice_endpoint_hostname=web-0
                ~endpointslice_endpoint_node_name=n1
                ~endpointslice_endpoint_topology_present_topology_kubernetes_io_zone=true
                ~endpointslice_endpoint_topology_topology_kubernetes_io_zone=z-1
                ~endpointslice_endpoint_zone=z-1
                ~endpointslice_port=8080
                ~endpointslice_port_app_protocol=http
                ~endpointslice_port_name=http
                ~endpointslice_port_protocol=TCP
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=http
                ~pod_container_port_number=8080
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.2.0.1:8080
                ~endpointslice_address_target_kind=Node
                ~endpointslice_address_target_name=n1
                ~endpointslice_endpoint_conditions_ready=false
                ~endpointslice_port=8080
                ~endpointslice_port_app_protocol=http
                ~endpointslice_port_name=http
                ~endpointslice_port_protocol=TCP
              target
                __address__=10.2.0.2:8080
                ~endpointslice_address_target_kind=Node
                ~endpointslice_address_target_name=n1
                ~endpointslice_endpoint_conditions_ready=false
                ~endpointslice_port=8080
                ~endpointslice_port_app_protocol=http
                ~endpointslice_port_name=http
                ~endpointslice_port_protocol=TCP
              target
                __address__=10.1.0.1:9090
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=metrics
                ~pod_container_port_number=9090
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1:53
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=init:1
                ~pod_container_init=true
                ~pod_container_name=init
                ~pod_container_port_number=53
                ~pod_container_port_protocol=UDP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
        "#]],
    );
}

#[test]
fn of_an_endpoint_slice_with_everything_attached() {
    let mut slice = slice();
    slice["ports"] = json!([{"name": null, "port": null}]);
    slice["endpoints"][1]["addresses"] = json!(["10.2.0.1"]);
    check(
        KubernetesRole::EndpointSlice,
        ALL,
        &[
            (Kind::Node, node()),
            (Kind::Namespace, namespace()),
            (Kind::ReplicaSet, replica_set()),
            (Kind::Pod, pod()),
            (Kind::EndpointSlice, slice),
        ],
        &expect![[r#"
            endpointslice/prod/web-x1
              labels
                ~endpointslice_address_type=IPv4
                ~endpointslice_label_kubernetes_io_service_name=web
                ~endpointslice_labelpresent_kubernetes_io_service_name=true
                ~endpointslice_name=web-x1
                ~namespace=prod
                ~namespace_annotation_cost_center=7
                ~namespace_annotationpresent_cost_center=true
                ~namespace_label_team=a
                ~namespace_labelpresent_team=true
              target
                __address__=10.1.0.1
                ~endpointslice_address_target_kind=Pod
                ~endpointslice_address_target_name=web-0
                ~endpointslice_endpoint_conditions_ready=true
                ~endpointslice_endpoint_conditions_serving=true
                ~endpointslice_endpoint_conditions_terminating=false
                ~endpointslice_endpoint_hostname=web-0
                ~endpointslice_endpoint_node_name=n1
                ~endpointslice_endpoint_topology_present_topology_kubernetes_io_zone=true
                ~endpointslice_endpoint_topology_topology_kubernetes_io_zone=z-1
                ~endpointslice_endpoint_zone=z-1
                ~node_annotation_csi_volume_nodeid={"x": 1}
                ~node_annotationpresent_csi_volume_nodeid=true
                ~node_label_topology_kubernetes_io_zone=z-1
                ~node_labelpresent_empty=true
                ~node_labelpresent_topology_kubernetes_io_zone=true
                ~node_name=n1
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.2.0.1
                ~endpointslice_address_target_kind=Node
                ~endpointslice_address_target_name=n1
                ~endpointslice_endpoint_conditions_ready=false
                ~node_annotation_csi_volume_nodeid={"x": 1}
                ~node_annotationpresent_csi_volume_nodeid=true
                ~node_label_topology_kubernetes_io_zone=z-1
                ~node_labelpresent_empty=true
                ~node_labelpresent_topology_kubernetes_io_zone=true
                ~node_name=n1
              target
                __address__=10.1.0.1:8080
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=http
                ~pod_container_port_number=8080
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1:9090
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=web:1
                ~pod_container_init=false
                ~pod_container_name=main
                ~pod_container_port_name=metrics
                ~pod_container_port_number=9090
                ~pod_container_port_protocol=TCP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
              target
                __address__=10.1.0.1:53
                ~pod_annotation_prometheus_io_scrape=true
                ~pod_annotationpresent_prometheus_io_scrape=true
                ~pod_container_image=init:1
                ~pod_container_init=true
                ~pod_container_name=init
                ~pod_container_port_number=53
                ~pod_container_port_protocol=UDP
                ~pod_controller_kind=ReplicaSet
                ~pod_controller_name=web-abc
                ~pod_deployment_name=web
                ~pod_host_ip=10.0.0.1
                ~pod_ip=10.1.0.1
                ~pod_label_app_kubernetes_io_name=web
                ~pod_label_pod_template_hash=abc
                ~pod_labelpresent_app_kubernetes_io_name=true
                ~pod_labelpresent_pod_template_hash=true
                ~pod_name=web-0
                ~pod_node_name=n1
                ~pod_phase=Running
                ~pod_ready=true
                ~pod_uid=uid-1
        "#]],
    );
}

#[test]
fn of_the_second_family_of_a_service() {
    let mut dual = service();
    dual["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    dual["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
    let plain = json!({
        "metadata": {"name": "web-x2", "namespace": "prod", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv6",
        "endpoints": [{"addresses": ["fd00::1"]}],
        "ports": [{"port": 80}],
    });
    let mut other = plain.clone();
    other["metadata"]["name"] = "web-x3".into();
    other["addressType"] = "IPv4".into();
    let empty = json!({
        "metadata": {"name": "web-x4", "namespace": "prod"},
        "addressType": "IPv4",
        "endpoints": null,
        "ports": null,
    });
    check(
        KubernetesRole::EndpointSlice,
        NOTHING,
        &[
            (Kind::Service, dual),
            (Kind::EndpointSlice, plain),
            (Kind::EndpointSlice, other),
            (Kind::EndpointSlice, empty),
        ],
        &expect![[r#"
            endpointslice/prod/web-x2
              labels
                ~endpointslice_address_type=IPv6
                ~endpointslice_label_kubernetes_io_service_name=web
                ~endpointslice_labelpresent_kubernetes_io_service_name=true
                ~endpointslice_name=web-x2
                ~namespace=prod
                ~service_annotation_prometheus_io_port=8080
                ~service_annotationpresent_prometheus_io_port=true
                ~service_label_app=web
                ~service_labelpresent_app=true
                ~service_name=web
              target
                __address__=[fd00::1]:80
                ~endpointslice_port=80
            endpointslice/prod/web-x3
              labels
                ~endpointslice_address_type=IPv4
                ~endpointslice_label_kubernetes_io_service_name=web
                ~endpointslice_labelpresent_kubernetes_io_service_name=true
                ~endpointslice_name=web-x3
                ~namespace=prod
                ~service_annotation_prometheus_io_port=8080
                ~service_annotationpresent_prometheus_io_port=true
                ~service_label_app=web
                ~service_labelpresent_app=true
                ~service_name=web
            endpointslice/prod/web-x4
              labels
                ~endpointslice_address_type=IPv4
                ~endpointslice_name=web-x4
                ~namespace=prod
        "#]],
    );
}

#[test]
fn hosts_and_patterns() {
    use super::matches_host as m;
    assert!(m("a.b", "a.b") && m("*.b", "a.b") && m("*", "a") && m("*", ""));
    assert!(!m("*.b", "b") && !m("*.b", "x.a.b") && !m("a.*", "a.b") && !m("*", "a.b") && !m("*.b", "a.c"));
}
