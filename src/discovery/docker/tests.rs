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
    check(&one, expect![[r#""#]]).await;
    let all = DockerDiscovery { match_first_network: false, ..one };
    check(&all, expect![[r#""#]]).await;
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
    check(&section(&daemon.url("")), expect![[r#""#]]).await;
    daemon.set(Page { status: 500, ..json("") });
    check(&section(&daemon.url("")), expect![[r#""#]]).await;
    daemon.answer(|asked| match asked.uri.path() {
        "/_ping" => ping("1.51"),
        _ => json(r#"[{"Names": 1}]"#),
    });
    check(&section(&daemon.url("")), expect![[r#""#]]).await;
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
