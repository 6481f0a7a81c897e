//! Swarm discovery against a manager of the test's own.

use std::time::Duration;

use config::http_client::HttpClient;
use config::prometheus::{DockerFilter, DockerSwarmDiscovery, DockerSwarmRole};
use expect_test::{Expect, expect};

use super::super::refresh::Source as _;
use super::super::testing::{Page, Server, json, shown};
use super::Source;

fn section(host: &str, role: DockerSwarmRole) -> DockerSwarmDiscovery {
    DockerSwarmDiscovery {
        host: host.to_owned(),
        role,
        port: 9323,
        filters: Vec::new(),
        refresh_interval: Duration::from_secs(5),
        http: HttpClient::default(),
    }
}

async fn swarm() -> Server {
    Server::pages([
        ("/_ping", Page { headers: vec![("api-version", "1.60".to_owned())], ..json("OK") }),
        ("/v1.44/nodes", json(include_str!("testdata/nodes.json"))),
        ("/v1.44/networks", json(include_str!("testdata/networks.json"))),
        ("/v1.44/services", json(include_str!("testdata/services.json"))),
        ("/v1.44/tasks", json(include_str!("testdata/tasks.json"))),
    ])
    .await
}

/// Prefixes are left out: they are the same everywhere.
async fn check(role: DockerSwarmRole, expected: Expect) {
    let swarm = swarm().await;
    let source = Source::new(&section(&swarm.url(""), role)).unwrap();
    let lines = shown(&source.refresh().await.unwrap().groups);
    let lines: Vec<String> = lines.iter().map(|line| line.replace("__meta_dockerswarm_", "")).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[tokio::test]
async fn nodes() {
    check(DockerSwarmRole::Nodes, expect![[r#"
        DockerSwarm: {__address__="192.0.2.11:9323", node_address="192.0.2.11", node_availability="active", node_engine_version="27.3.1", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_manager_address="192.0.2.11:2377", node_manager_leader="true", node_manager_reachability="reachable", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready"}
        DockerSwarm: {__address__="[2001:db8::12]:9323", node_address="2001:db8::12", node_availability="drain", node_engine_version="26.0.0", node_hostname="two", node_id="n-two", node_platform_architecture="aarch64", node_platform_os="linux", node_role="worker", node_status="down"}
        DockerSwarm: {__address__=":9323", node_availability="pause", node_hostname="new", node_id="n-new", node_manager_address="192.0.2.13:2377", node_manager_leader="false", node_manager_reachability="unreachable", node_role="manager", node_status="unknown"}
    "#]]).await;
}

#[tokio::test]
async fn services() {
    check(DockerSwarmRole::Services, expect![[r#"
        DockerSwarm: {__address__="10.0.0.5:80", network_id="i-ngress", network_ingress="true", network_internal="false", network_name="ingress", network_scope="swarm", service_endpoint_port_name="http", service_endpoint_port_publish_mode="ingress", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", service_task_container_hostname="web-{{.Task.Slot}}", service_task_container_image="web:1@sha256:cc", service_updating_status="completed"}
        DockerSwarm: {__address__="10.0.0.5:9100", network_id="i-ngress", network_ingress="true", network_internal="false", network_name="ingress", network_scope="swarm", service_endpoint_port_publish_mode="host", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", service_task_container_hostname="web-{{.Task.Slot}}", service_task_container_image="web:1@sha256:cc", service_updating_status="completed"}
        DockerSwarm: {__address__="10.0.1.5:80", network_id="i-app", network_ingress="false", network_internal="true", network_label_com_docker_stack_namespace="app", network_name="app", network_scope="swarm", service_endpoint_port_name="http", service_endpoint_port_publish_mode="ingress", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", service_task_container_hostname="web-{{.Task.Slot}}", service_task_container_image="web:1@sha256:cc", service_updating_status="completed"}
        DockerSwarm: {__address__="10.0.1.5:9100", network_id="i-app", network_ingress="false", network_internal="true", network_label_com_docker_stack_namespace="app", network_name="app", network_scope="swarm", service_endpoint_port_publish_mode="host", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", service_task_container_hostname="web-{{.Task.Slot}}", service_task_container_image="web:1@sha256:cc", service_updating_status="completed"}
        DockerSwarm: {__address__="[fd00:1::5]:9323", service_id="s-agent", service_mode="global", service_name="agent", service_task_container_image="agent:2"}
        DockerSwarm: {__address__="10.0.1.9:9323", network_id="i-app", network_ingress="false", network_internal="true", network_label_com_docker_stack_namespace="app", network_name="app", network_scope="swarm", service_id="s-plugin", service_name="plugin"}
    "#]]).await;
}

#[tokio::test]
async fn tasks() {
    check(DockerSwarmRole::Tasks, expect![[r#"
        DockerSwarm: {__address__="192.0.2.11:9100", container_label_com_docker_stack_namespace="app", node_address="192.0.2.11", node_availability="active", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", task_container_id="cc11", task_desired_state="running", task_id="t-web-1", task_port_publish_mode="host", task_slot="1", task_state="running"}
        DockerSwarm: {__address__="10.0.0.6:80", container_label_com_docker_stack_namespace="app", network_id="i-ngress", network_ingress="true", network_internal="false", network_name="ingress", network_scope="swarm", node_address="192.0.2.11", node_availability="active", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", task_container_id="cc11", task_desired_state="running", task_id="t-web-1", task_port_publish_mode="ingress", task_slot="1", task_state="running"}
        DockerSwarm: {__address__="10.0.0.6:9100", container_label_com_docker_stack_namespace="app", network_id="i-ngress", network_ingress="true", network_internal="false", network_name="ingress", network_scope="swarm", node_address="192.0.2.11", node_availability="active", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", task_container_id="cc11", task_desired_state="running", task_id="t-web-1", task_port_publish_mode="host", task_slot="1", task_state="running"}
        DockerSwarm: {__address__="10.0.1.6:80", container_label_com_docker_stack_namespace="app", network_id="i-app", network_ingress="false", network_internal="true", network_label_com_docker_stack_namespace="app", network_name="app", network_scope="swarm", node_address="192.0.2.11", node_availability="active", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", task_container_id="cc11", task_desired_state="running", task_id="t-web-1", task_port_publish_mode="ingress", task_slot="1", task_state="running"}
        DockerSwarm: {__address__="10.0.1.6:9100", container_label_com_docker_stack_namespace="app", network_id="i-app", network_ingress="false", network_internal="true", network_label_com_docker_stack_namespace="app", network_name="app", network_scope="swarm", node_address="192.0.2.11", node_availability="active", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", task_container_id="cc11", task_desired_state="running", task_id="t-web-1", task_port_publish_mode="host", task_slot="1", task_state="running"}
        DockerSwarm: {__address__="[fd00:2::6]:80", container_label_com_docker_stack_namespace="app", network_id="i-app", network_ingress="false", network_internal="true", network_label_com_docker_stack_namespace="app", network_name="app", network_scope="swarm", node_address="192.0.2.11", node_availability="active", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", task_container_id="cc11", task_desired_state="running", task_id="t-web-1", task_port_publish_mode="ingress", task_slot="1", task_state="running"}
        DockerSwarm: {__address__="[fd00:2::6]:9100", container_label_com_docker_stack_namespace="app", network_id="i-app", network_ingress="false", network_internal="true", network_label_com_docker_stack_namespace="app", network_name="app", network_scope="swarm", node_address="192.0.2.11", node_availability="active", node_hostname="one", node_id="n-one", node_label_zone_name="a", node_platform_architecture="x86_64", node_platform_os="linux", node_role="manager", node_status="ready", service_id="s-web", service_label_com_docker_stack_image="web:1", service_mode="replicated", service_name="app_web", task_container_id="cc11", task_desired_state="running", task_id="t-web-1", task_port_publish_mode="host", task_slot="1", task_state="running"}
        DockerSwarm: {__address__="10.9.0.7:9323", node_address="2001:db8::12", node_availability="drain", node_hostname="two", node_id="n-two", node_platform_architecture="aarch64", node_platform_os="linux", node_role="worker", node_status="down", service_id="s-agent", service_mode="global", service_name="agent", task_desired_state="shutdown", task_id="t-agent", task_slot="0", task_state="failed"}
        DockerSwarm: {__address__=":1", task_desired_state="running", task_id="t-pending", task_port_publish_mode="host", task_slot="3", task_state="pending"}
    "#]]).await;
}

/// Upstream fails for all services when one has no address yet.
#[tokio::test]
async fn a_service_without_an_address_hides_no_other() {
    let text = r#"[
        {"ID": "a", "Spec": {"Name": "a"}, "Endpoint": {"VirtualIPs": [{"NetworkID": "n"}]}},
        {"ID": "b", "Spec": {"Name": "b"}, "Endpoint": {"VirtualIPs": [{"NetworkID": "n", "Addr": "10.0.0.2/24"}]}}
    ]"#;
    let swarm = Server::start(json("[]")).await;
    swarm.answer(move |asked| if asked.uri.path().ends_with("/services") { json(text) } else { json("[]") });
    let source = Source::new(&section(&swarm.url(""), DockerSwarmRole::Services)).unwrap();
    let found = shown(&source.refresh().await.unwrap().groups);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("10.0.0.2:9323"), "{found:?}");
}

#[tokio::test]
async fn filters_go_to_what_is_listed_alone_and_failures_are_told() {
    let swarm = Server::start(json("[]")).await;
    let filter = DockerFilter { name: "desired-state".to_owned(), values: vec!["running".to_owned()] };
    let section =
        DockerSwarmDiscovery { filters: vec![filter], ..section(&swarm.url(""), DockerSwarmRole::Tasks) };
    let source = Source::new(&section).unwrap();
    assert_eq!(shown(&source.refresh().await.unwrap().groups), ["DockerSwarm: none"]);
    let asked: Vec<String> = swarm.asked().iter().map(super::super::testing::Asked::text).collect();
    let filtered = r#"/v1.24/tasks filters={"desired-state":{"running":true}}"#;
    assert_eq!(asked, ["/_ping", filtered, "/v1.24/services", "/v1.24/nodes", "/v1.24/networks"]);
    let body = r#"{"message":"This node is not a swarm manager."}"#;
    swarm.set(Page { status: 503, ..json(body) });
    let error = source.refresh().await.unwrap_err().to_string();
    assert_eq!(error, format!("error while listing swarm tasks: 503 Service Unavailable: {body}"));
}
