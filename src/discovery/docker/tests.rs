//! Docker discovery against a daemon of the test's own: containers in all their kinds of networks.

use std::time::Duration;

use config::http_client::HttpClient;
use config::prometheus::{DockerDiscovery, DockerFilter};
use expect_test::{Expect, expect};

use super::super::refresh::Source as _;
use super::super::testing::{Page, Server, json, shown};
use super::Source;

pub(super) const CONTAINERS: &str = include_str!("testdata/containers.json");
pub(super) const NETWORKS: &str = include_str!("testdata/networks.json");

fn section(host: &str) -> DockerDiscovery {
    DockerDiscovery {
        host: host.to_owned(),
        port: 9000,
        filters: Vec::new(),
        host_networking_host: "node".to_owned(),
        match_first_network: true,
        refresh_interval: Duration::from_secs(5),
        http: HttpClient::default(),
    }
}

fn ping(version: &str) -> Page {
    Page { headers: vec![("api-version", version.to_owned())], ..json("OK") }
}

async fn daemon() -> Server {
    Server::pages([
        ("/_ping", ping("1.44")),
        ("/v1.44/containers/json", json(CONTAINERS)),
        ("/v1.44/networks", json(NETWORKS)),
    ])
    .await
}

/// Prefixes are left out: they are the same everywhere.
async fn check(section: &DockerDiscovery, expected: Expect) {
    let found = Source::new(section).unwrap().refresh().await;
    let text = match found {
        Ok(answer) => {
            let lines: Vec<String> =
                shown(&answer.groups).iter().map(|line| line.replace("__meta_docker_", "")).collect();
            lines.join("\n") + "\n"
        }
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&text.replace(section.host.trim_start_matches("tcp://"), "DAEMON"));
}

#[tokio::test]
async fn containers_become_targets_by_network_and_port() {
    let daemon = daemon().await;
    let one = section(&daemon.url(""));
    check(&one, expect![[r#"
        Docker: {__address__="172.21.0.3:8080", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="8080", port_public="80", port_public_ip="0.0.0.0"}
        Docker: {__address__="172.21.0.3:8080", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="8080", port_public="80", port_public_ip="::"}
        Docker: {__address__="172.21.0.3:9100", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="9100"}
        Docker: {__address__="172.21.0.3:9000", container_id="c-sidecar", container_name="/sidecar", container_network_mode="container:c-web", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local"}
        Docker: {__address__="172.21.0.3:7000", container_id="c-side-of-side", container_name="/side-of-side", container_network_mode="container:c-sidecar", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="7000"}
        Docker: {__address__="node", container_id="c-host", container_label_on="host", container_name="/agent", container_network_mode="host", network_id="net-host", network_ingress="false", network_internal="false", network_name="host", network_scope="local"}
        Docker: {__address__=":9000", container_id="c-none", container_name="/lonely", container_network_mode="none", network_id="net-none", network_ingress="false", network_internal="false", network_name="none", network_scope="local"}
        Docker: {__address__="[fd00::6]:443", container_id="c-six", container_name="/six", container_network_mode="six", network_id="net-six", network_ingress="true", network_internal="false", network_ip="fd00::6", network_name="six", network_scope="global", port_private="443", port_public="8443", port_public_ip="2001:db8::1"}
        Docker: {__address__="172.20.0.9:9000", container_id="c-udp", container_name="/udp", container_network_mode="front", network_ip="172.20.0.9"}
    "#]]).await;
    let all = DockerDiscovery { match_first_network: false, ..one };
    check(&all, expect![[r#"
        Docker: {__address__="172.21.0.3:8080", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="8080", port_public="80", port_public_ip="0.0.0.0"}
        Docker: {__address__="172.21.0.3:8080", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="8080", port_public="80", port_public_ip="::"}
        Docker: {__address__="172.21.0.3:9100", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="9100"}
        Docker: {__address__="172.20.0.3:8080", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-front", network_ingress="false", network_internal="false", network_ip="172.20.0.3", network_label_com_example_tier="front", network_name="front", network_scope="local", port_private="8080", port_public="80", port_public_ip="0.0.0.0"}
        Docker: {__address__="172.20.0.3:8080", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-front", network_ingress="false", network_internal="false", network_ip="172.20.0.3", network_label_com_example_tier="front", network_name="front", network_scope="local", port_private="8080", port_public="80", port_public_ip="::"}
        Docker: {__address__="172.20.0.3:9100", container_id="c-web", container_label_com_docker_compose_project="shop", container_label_prometheus_port="8080", container_name="/web", container_network_mode="shop_front", network_id="net-front", network_ingress="false", network_internal="false", network_ip="172.20.0.3", network_label_com_example_tier="front", network_name="front", network_scope="local", port_private="9100"}
        Docker: {__address__="172.21.0.3:9000", container_id="c-sidecar", container_name="/sidecar", container_network_mode="container:c-web", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local"}
        Docker: {__address__="172.20.0.3:9000", container_id="c-sidecar", container_name="/sidecar", container_network_mode="container:c-web", network_id="net-front", network_ingress="false", network_internal="false", network_ip="172.20.0.3", network_label_com_example_tier="front", network_name="front", network_scope="local"}
        Docker: {__address__="172.21.0.3:7000", container_id="c-side-of-side", container_name="/side-of-side", container_network_mode="container:c-sidecar", network_id="net-back", network_ingress="false", network_internal="true", network_ip="172.21.0.3", network_name="back", network_scope="local", port_private="7000"}
        Docker: {__address__="172.20.0.3:7000", container_id="c-side-of-side", container_name="/side-of-side", container_network_mode="container:c-sidecar", network_id="net-front", network_ingress="false", network_internal="false", network_ip="172.20.0.3", network_label_com_example_tier="front", network_name="front", network_scope="local", port_private="7000"}
        Docker: {__address__="node", container_id="c-host", container_label_on="host", container_name="/agent", container_network_mode="host", network_id="net-host", network_ingress="false", network_internal="false", network_name="host", network_scope="local"}
        Docker: {__address__=":9000", container_id="c-none", container_name="/lonely", container_network_mode="none", network_id="net-none", network_ingress="false", network_internal="false", network_name="none", network_scope="local"}
        Docker: {__address__="[fd00::6]:443", container_id="c-six", container_name="/six", container_network_mode="six", network_id="net-six", network_ingress="true", network_internal="false", network_ip="fd00::6", network_name="six", network_scope="global", port_private="443", port_public="8443", port_public_ip="2001:db8::1"}
        Docker: {__address__="172.20.0.9:9000", container_id="c-udp", container_name="/udp", container_network_mode="front", network_ip="172.20.0.9"}
    "#]]).await;
}

#[tokio::test]
async fn the_daemon_is_asked_in_its_own_version_with_the_filters() {
    let server = Server::pages([
        ("/base/_ping", ping("1.40")),
        ("/base/v1.40/containers/json", json("[]")),
        ("/base/v1.40/networks", json("null")),
    ])
    .await;
    let filter = DockerFilter { name: "label".to_owned(), values: vec!["a=b".to_owned()] };
    let host = format!("tcp://{}/base", server.address);
    let source = Source::new(&DockerDiscovery { filters: vec![filter], ..section(&host) }).unwrap();
    for _ in 0..2 {
        assert_eq!(shown(&source.refresh().await.unwrap().groups), ["Docker: none"]);
    }
    let asked: Vec<String> = server.asked().iter().map(super::super::testing::Asked::text).collect();
    let list = r#"/base/v1.40/containers/json filters={"label":{"a=b":true}}"#;
    assert_eq!(asked, ["/base/_ping", list, "/base/v1.40/networks", list, "/base/v1.40/networks"]);
}

#[tokio::test]
async fn a_daemon_is_reached_by_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let server = Server::on_socket(&path, json("[]"));
    let source = Source::new(&section(&format!("unix://{}", path.display()))).unwrap();
    assert_eq!(shown(&source.refresh().await.unwrap().groups), ["Docker: none"]);
    assert_eq!(server.asked()[1].uri.path(), "/v1.24/containers/json", "a silent daemon is an old one");
    drop(server);
    std::fs::remove_file(&path).unwrap();
    assert!(source.refresh().await.is_err());
}

#[tokio::test]
async fn failures_say_what_failed() {
    let daemon = Server::pages([("/_ping", ping("1.51"))]).await;
    check(
        &section(&daemon.url("")),
        expect![[r#"
        error while listing containers: 404 Not Found: {"message": "page not found"}
    "#]],
    )
    .await;
    daemon.set(Page { status: 500, ..json("") });
    check(
        &section(&daemon.url("")),
        expect![[r"
        error while listing containers: the daemon answers 500 Internal Server Error to a ping
    "]],
    )
    .await;
    daemon.answer(|asked| match asked.uri.path() {
        "/_ping" => ping("1.51"),
        _ => json(r#"[{"Names": 1}]"#),
    });
    check(&section(&daemon.url("")), expect![[r"
        error while listing containers: could not read the answer: invalid type: integer `1`, expected a sequence at line 1 column 12
    "]]).await;
    for host in ["npipe:////./pipe/docker_engine", "ssh://h", "h:1", "unix://"] {
        assert!(Source::new(&section(host)).is_err(), "{host}");
    }
}

/// Containers whose networks point at each other have none.
#[tokio::test]
async fn circles_of_shared_networks_end() {
    let text = r#"[
        {"Id": "a", "Names": ["/a"], "HostConfig": {"NetworkMode": "container:b"}},
        {"Id": "b", "Names": ["/b"], "HostConfig": {"NetworkMode": "container:a"}, "NetworkSettings": null}
    ]"#;
    let pages =
        [("/_ping", ping("1.44")), ("/v1.44/containers/json", json(text)), ("/v1.44/networks", json("[]"))];
    let daemon = Server::pages(pages).await;
    check(&section(&daemon.url("")), expect![["Docker: none\n"]]).await;
}
