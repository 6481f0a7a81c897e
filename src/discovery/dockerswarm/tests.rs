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
    check(DockerSwarmRole::Nodes, expect![[r#""#]]).await;
}

#[tokio::test]
async fn services() {
    check(DockerSwarmRole::Services, expect![[r#""#]]).await;
}

#[tokio::test]
async fn tasks() {
    check(DockerSwarmRole::Tasks, expect![[r#""#]]).await;
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
