//! HTTP discovery against a real server that says what the tests tell it.

use std::sync::Arc;
use std::time::Duration;

use config::Secret;
use config::http_client::{Authorization, HttpClient, SecretSource};
use config::prometheus::HttpDiscovery;

use super::super::metrics::Metrics;
use super::super::refresh::Source as _;
use super::super::testing::{Page, Server, json, shown};
use super::Source;

fn source(url: &str) -> Source {
    let section = HttpDiscovery {
        url: url.to_owned(),
        refresh_interval: Duration::from_secs(90),
        http: HttpClient::default(),
    };
    Source::new(&section, Arc::new(Metrics::new("scrape"))).unwrap()
}

async fn error(source: &Source) -> String {
    source.refresh().await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_list_becomes_groups_with_their_url() {
    let body = r#"[{"targets": ["h:1", "h:2"], "labels": {"a": "b", "__meta_x": "y"}}, {"targets": []}]"#;
    let server = Server::start(Page { kind: "application/json; charset=UTF-8", ..json(body) }).await;
    let url = server.url("/sd?x=1");
    let source = source(&url);
    let update = source.refresh().await.unwrap().groups;
    assert_eq!(
        shown(&update),
        [
            format!(r#"{url}:0: {{__address__="h:1", __meta_url="{url}", __meta_x="y", a="b"}}"#),
            format!(r#"{url}:0: {{__address__="h:2", __meta_url="{url}", __meta_x="y", a="b"}}"#),
            format!("{url}:1: none"),
        ]
    );
    let asked = &server.asked()[0];
    assert_eq!(asked.text(), "/sd x=1");
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(asked.header("x-prometheus-refresh-interval-seconds"), Some("90"));
    assert!(asked.header("user-agent").unwrap().starts_with("Prometheus/"));
    assert_eq!(source.metrics.http_failures.get(), 0);
}

#[tokio::test]
async fn answers_that_are_no_list_are_refused_and_counted() {
    let server = Server::start(json("")).await;
    let source = source(&server.url("/"));
    let cases = [
        (Page { status: 500, ..json("[]") }, "server returned HTTP status 500 Internal Server Error"),
        (Page { status: 204, ..json("[]") }, "server returned HTTP status 204 No Content"),
        (Page { kind: "text/html", ..json("[]") }, r#"unsupported content type "text/html""#),
        (
            Page { kind: "application/json; charset=latin1", ..json("[]") },
            r#"unsupported content type "application/json; charset=latin1""#,
        ),
        (json("[null]"), "nil target group item found"),
        (json(r#"[{"targets": ["h:1"]}, null]"#), "nil target group item found"),
        (json("{}"), "json: invalid type: map, expected a sequence at line 1 column 0"),
        (json(r#"[{"targets": ["h:1"]}"#), "json: EOF while parsing a list at line 1 column 21"),
        (
            json(r#"[{"targets": [], "lables": {}}]"#),
            "json: unknown field `lables`, expected `targets` or `labels` at line 1 column 25",
        ),
        (
            json(r#"[{"targets": [1]}]"#),
            "json: invalid type: integer `1`, expected a string at line 1 column 15",
        ),
    ];
    let n = cases.len() as u64;
    for (page, expected) in cases {
        server.set(page);
        assert_eq!(error(&source).await, expected);
    }
    assert_eq!(source.metrics.http_failures.get(), n);
    server.set(json("null"));
    assert!(source.refresh().await.unwrap().groups.is_empty());
}

#[tokio::test]
async fn huge_and_slow_answers_are_refused() {
    let server = Server::start(json(&format!("[{}]", " ".repeat(5000)))).await;
    let small = Source { bytes_max: 4096, ..source(&server.url("/")) };
    assert!(error(&small).await.contains("exceeds 4096 bytes"), "{}", error(&small).await);
    let enough = Source { bytes_max: 5002, ..source(&server.url("/")) };
    assert!(enough.refresh().await.is_ok());

    server.set(Page { delay: Duration::from_hours(1), ..json("[]") });
    let section = HttpDiscovery {
        url: server.url("/"),
        refresh_interval: Duration::from_millis(200),
        http: HttpClient::default(),
    };
    let hasty = Source::new(&section, Arc::new(Metrics::new("scrape"))).unwrap();
    assert!(error(&hasty).await.ends_with("context deadline exceeded"), "{}", error(&hasty).await);

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = error(&source(&format!("http://{nobody}/"))).await;
    assert!(error.ends_with("connection refused"), "{error}");
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let server = Server::start(Page { status: 401, ..json("") }).await;
    let authorization =
        Authorization { kind: "Bearer".to_owned(), credentials: SecretSource::Inline(Secret::new("s3cret")) };
    let http = HttpClient { authorization: Some(authorization), ..HttpClient::default() };
    let url = format!("http://user:passw0rd@{}/", server.address);
    let section = HttpDiscovery { url, refresh_interval: Duration::from_secs(9), http };
    let source = Source::new(&section, Arc::new(Metrics::new("scrape"))).unwrap();
    assert_eq!(error(&source).await, "server returned HTTP status 401 Unauthorized");
    assert_eq!(server.asked()[0].header("authorization"), Some("Bearer s3cret"));
    drop(server);
    let shown = error(&source).await;
    assert!(!shown.contains("s3cret") && !shown.contains("passw0rd"), "{shown}");
}
