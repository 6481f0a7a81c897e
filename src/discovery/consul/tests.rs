//! Consul discovery against an agent of the test's own, with blocking queries that really block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::Secret;
use config::http_client::{HttpClient, TextSource};
use config::prometheus::ConsulDiscovery;
use expect_test::expect;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::testing::{Asked, Page, Server, context, json, shown};
use super::super::{Context, Discoverer as _, Update};
use super::{Discoverer, advance, base};

const WEB: &str = include_str!("testdata/web.json");

fn section(server: &Server) -> ConsulDiscovery {
    ConsulDiscovery {
        server: server.address.to_string(),
        path_prefix: String::new(),
        scheme: "http".to_owned(),
        token: Secret::default(),
        datacenter: String::new(),
        namespace: String::new(),
        partition: String::new(),
        username: String::new(),
        password: Secret::default(),
        tag_separator: ",".to_owned(),
        services: Vec::new(),
        tags: Vec::new(),
        node_meta: BTreeMap::new(),
        filter: String::new(),
        health_filter: String::new(),
        allow_stale: true,
        refresh_interval: Duration::from_millis(100),
        http: HttpClient::default(),
    }
}

struct Running {
    received: mpsc::Receiver<Update>,
    context: Context,
    stop: CancellationToken,
}

impl Running {
    fn start(section: &ConsulDiscovery) -> Self {
        let context = context("consul");
        let mut discoverer = Discoverer::new(section, &context).unwrap();
        Arc::get_mut(&mut discoverer.0).unwrap().retry = Duration::from_millis(100);
        let (updates, received) = mpsc::channel(16);
        let stop = CancellationToken::new();
        tokio::spawn(Box::new(discoverer).run(updates, stop.clone()));
        Self { received, context, stop }
    }

    /// The next update that holds something.
    async fn next(&mut self) -> Vec<String> {
        loop {
            let update = tokio::time::timeout(Duration::from_secs(20), self.received.recv()).await;
            let update = update.expect("no update comes").unwrap();
            if !update.is_empty() {
                return shown(&update);
            }
        }
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Context) -> bool) {
        let look = async {
            while !is_so(&self.context) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), look).await.is_ok(), "{what}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn parameter(asked: &Asked, name: &str) -> Option<String> {
    let query = asked.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// What the agent knows: by path an index and a body. A question about the index that it is at blocks.
type State = Arc<Mutex<BTreeMap<String, (u64, String)>>>;

async fn agent(state: &[(&str, u64, &str)]) -> (Server, State) {
    let state = state.iter().map(|(path, index, body)| ((*path).to_owned(), (*index, (*body).to_owned())));
    let state: State = Arc::new(Mutex::new(state.collect()));
    let server = Server::start(json("")).await;
    let known = Arc::clone(&state);
    server.answer(move |asked| {
        if asked.uri.path() == "/v1/agent/self" {
            return json(r#"{"Config": {"Datacenter": "dc-test", "NodeName": "n"}, "Member": null}"#);
        }
        let Some((index, body)) = known.lock().get(asked.uri.path()).cloned() else {
            return Page { status: 500, ..json("rpc error: No cluster leader") };
        };
        let is_known = parameter(asked, "index").is_some_and(|at| at == index.to_string());
        let delay = if is_known { Duration::from_millis(300) } else { Duration::ZERO };
        Page { headers: vec![("x-consul-index", index.to_string())], delay, ..json(&body) }
    });
    (server, state)
}

fn set(state: &State, path: &str, index: u64, body: &str) {
    state.lock().insert(path.to_owned(), (index, body.to_owned()));
}

fn instance(port: u16) -> String {
    format!(
        r#"[{{"Node": {{"Node": "n", "Address": "192.0.2.1"}}, "Service": {{"ID": "i", "Port": {port}}}, "Checks": []}}]"#
    )
}

const CATALOG: &str = "/v1/catalog/services";

#[tokio::test]
async fn instances_become_targets() {
    let (server, _) =
        agent(&[(CATALOG, 3, r#"{"web": ["blue"]}"#), ("/v1/health/service/web", 4, WEB)]).await;
    let mut running = Running::start(&section(&server));
    let lines: Vec<String> =
        running.next().await.iter().map(|line| line.replace("__meta_consul_", "")).collect();
    expect![[r#"
        web: {__address__="192.0.2.10:8080", address="192.0.2.10", dc="dc-test", health="warning", metadata_os_name="linux", metadata_rack_id="r1", namespace="default", node="rack-1", partition="default", service="web", service_id="web-1", service_metadata_git_sha="abc", service_port="8080", tagged_address_lan="192.0.2.10", tagged_address_wan_ipv4="198.51.100.10", tags=",blue,v=1,"}
        web: {__address__="[2001:db8::80]:0", address="2001:db8::2", dc="dc-test", health="critical", node="rack-2", service="web", service_address="2001:db8::80", service_id="web-2", service_port="0", tags=",,"}
        web: {__address__="web-3.example.org:81", address="192.0.2.12", dc="dc-test", health="maintenance", node="rack-3", service="web", service_address="web-3.example.org", service_id="web-3", service_port="81", tags=",,"}
        web: {__address__="192.0.2.13:82", address="192.0.2.13", dc="dc-test", node="rack-4", service="web", service_id="web-4", service_port="82", tags=",,"}
    "#]].assert_eq(&(lines.join("\n") + "\n"));
    assert!(running.context.health.failure().is_none());
}

#[tokio::test]
async fn services_come_change_and_go() {
    let health = "/v1/health/service/";
    let (server, state) = agent(&[
        (CATALOG, 3, r#"{"a": null, "b": []}"#),
        (&format!("{health}a"), 4, &instance(1)),
        (&format!("{health}b"), 5, &instance(2)),
    ])
    .await;
    let mut running = Running::start(&section(&server));
    let mut first = [running.next().await, running.next().await].concat();
    first.sort();
    assert!(first[0].starts_with(r#"a: {__address__="192.0.2.1:1""#), "{first:?}");
    assert!(first[1].starts_with(r#"b: {__address__="192.0.2.1:2""#), "{first:?}");

    set(&state, &format!("{health}a"), 6, &instance(3));
    assert!(running.next().await[0].starts_with(r#"a: {__address__="192.0.2.1:3""#));
    // No instance is left, though the service is.
    set(&state, &format!("{health}a"), 7, "[]");
    assert_eq!(running.next().await, ["a: none"]);

    // A service is gone from the catalog, another one is new and cannot be asked yet.
    set(&state, CATALOG, 8, r#"{"a": [], "c": []}"#);
    assert_eq!(running.next().await, ["b: none"]);
    running.until("the failure of c shows", |context| context.health.failure().is_some()).await;
    let failure = running.context.health.failure().unwrap();
    assert_eq!(failure.error, "c: Unexpected response code: 500 (rpc error: No cluster leader)");
    assert!(running.context.metrics.consul_failures.get() > 0);
    set(&state, &format!("{health}c"), 9, &instance(4));
    assert!(running.next().await[0].starts_with(r#"c: {__address__="192.0.2.1:4""#));
    running.until("all is well", |context| context.health.failure().is_none()).await;

    // The server lost its state: the index goes back, and its changes count from there.
    set(&state, &format!("{health}c"), 2, &instance(5));
    assert!(running.next().await[0].contains("192.0.2.1:5"));
    assert!(running.next().await[0].contains("192.0.2.1:5"), "the index did not begin at 0 again");
    set(&state, &format!("{health}c"), 3, &instance(6));
    assert!(running.next().await[0].contains("192.0.2.1:6"));

    // The catalog cannot be asked: everything stays.
    state.lock().remove(CATALOG);
    running.until("the failure shows", |context| context.health.failure().is_some()).await;
    set(&state, &format!("{health}c"), 4, &instance(7));
    assert!(running.next().await[0].contains("192.0.2.1:7"), "watches of services go on");
}

#[tokio::test]
async fn questions_carry_what_the_section_says() {
    let (server, state) = agent(&[]).await;
    let filtered = ConsulDiscovery {
        token: Secret::new("t0ken"),
        datacenter: "dc9".to_owned(),
        namespace: "ns9".to_owned(),
        partition: "part9".to_owned(),
        services: vec!["a".to_owned()],
        tags: vec!["x".to_owned(), "y".to_owned()],
        node_meta: BTreeMap::from([("rack".to_owned(), "1".to_owned())]),
        filter: "Service == a".to_owned(),
        health_filter: "Node.Meta.os == linux".to_owned(),
        path_prefix: "/consul".to_owned(),
        ..section(&server)
    };
    set(&state, "/consul/v1/catalog/services", 7, r#"{"a": ["x", "y", "z"], "b": ["x", "y"], "c": []}"#);
    set(&state, "/consul/v1/health/service/a", 8, &instance(1));
    let mut running = Running::start(&filtered);
    assert!(running.next().await[0].contains(r#"__meta_consul_dc="dc9""#));
    running.until("a second round", |_| server.asked().len() >= 4).await;
    drop(running);
    let asked = server.asked();
    let common = "dc=dc9";
    let catalog =
        format!("{common}&filter=Service == a&node-meta=rack:1&ns=ns9&partition=part9&stale=&wait=120000ms");
    let of_a = format!(
        "{common}&filter=Node.Meta.os == linux&node-meta=rack:1&ns=ns9&partition=part9&stale=&tag=x&tag=y&wait=120000ms"
    );
    assert_eq!(asked[0].text(), format!("/consul/v1/catalog/services {catalog}"));
    assert_eq!(asked[1].text(), format!("/consul/v1/health/service/a {of_a}"));
    let later: Vec<String> = asked[2..4].iter().map(Asked::text).collect();
    assert!(later.iter().any(|text| text.contains("&index=7&")), "{later:?}");
    assert!(later.iter().any(|text| text.contains("&index=8&")), "{later:?}");
    assert!(asked.iter().all(|asked| asked.header("x-consul-token") == Some("t0ken")));
    assert!(asked.iter().all(|asked| !asked.uri.path().contains("/b")), "b is not asked for");
}

#[tokio::test]
async fn over_tls_with_a_token_and_never_past_a_wrong_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let test = "consul::over_tls_with_a_token_and_never_past_a_wrong_certificate";
    let Some(server) = Server::over_tls(test, folder.path(), json("[]")).await else { return };
    let body = instance(1);
    server.answer(move |_| Page { headers: vec![("x-consul-index", "3".to_owned())], ..json(&body) });
    let section = ConsulDiscovery {
        scheme: "https".to_owned(),
        token: Secret::new("t0ken"),
        datacenter: "dc".to_owned(),
        services: vec!["web".to_owned()],
        ..section(&server)
    };
    let mut trusting = section.clone();
    trusting.http.tls.ca = Some(TextSource::File(folder.path().join("cert.pem")));
    let mut running = Running::start(&trusting);
    assert!(running.next().await[0].starts_with(r#"web: {__address__="192.0.2.1:1""#));
    assert!(server.asked().iter().all(|asked| asked.header("x-consul-token") == Some("t0ken")));

    let n_asked = server.asked().len();
    drop(running);
    let wary = Running::start(&section);
    wary.until("the refusal shows", |context| context.health.failure().is_some()).await;
    let shown = wary.context.health.failure().unwrap().error;
    assert!(!shown.contains("t0ken") && shown.contains("certificate"), "{shown}");
    assert!(server.asked().len() <= n_asked + 1, "a request went out");
}

/// Services that are named are watched without the catalog.
#[tokio::test]
async fn named_services_need_no_catalog() {
    let (server, _) =
        agent(&[("/v1/health/service/a b", 8, &instance(1)), ("/v1/health/service/a%20b", 8, &instance(1))])
            .await;
    let named = ConsulDiscovery { services: vec!["a b".to_owned()], allow_stale: false, ..section(&server) };
    let mut running = Running::start(&named);
    assert!(running.next().await[0].starts_with("a b: {"));
    assert_eq!(server.asked()[1].text(), "/v1/health/service/a%20b wait=120000ms");
}

/// What an old section had found of a service stays until that service is answered for.
#[tokio::test]
async fn each_service_is_known_when_it_was_answered_for() {
    let (server, state) = agent(&[(CATALOG, 3, r#"{"a": [], "b": []}"#)]).await;
    let mut running = Running::start(&section(&server));
    running.until("both fail", |context| context.metrics.consul_failures.get() >= 2).await;
    assert_eq!(running.received.recv().await.unwrap().len(), 0, "the list of services is known");
    let unknown = |running: &Running| ["a", "b", "c"].map(|name| running.context.health.is_unknown(name));
    assert_eq!(unknown(&running), [true, true, false], "two failures are no answer");
    set(&state, "/v1/health/service/a", 8, &instance(1));
    let first = running.received.recv().await.unwrap();
    assert!(shown(&first)[0].starts_with("a: {"));
    let is_known = |context: &Context| !context.health.is_unknown("a");
    running.until("a is known", is_known).await;
    assert_eq!(unknown(&running), [false, true, false]);
    assert!(!running.context.health.updated());
    set(&state, "/v1/health/service/b", 8, &instance(1));
    assert!(shown(&running.received.recv().await.unwrap())[0].starts_with("b: {"));
    assert_eq!(running.received.recv().await.unwrap().len(), 0, "the update that says that this is all");
    assert!(running.context.health.updated());
}

#[test]
fn indexes_that_go_back_begin_again() {
    let mut index = 0;
    let steps =
        [(5, true, 5), (5, false, 5), (9, true, 9), (3, true, 0), (3, true, 3), (0, true, 0), (0, true, 0)];
    for (now, is_news, after) in steps {
        assert_eq!(advance(&mut index, now), is_news, "{now}");
        assert_eq!(index, after);
    }
}

#[tokio::test]
async fn servers_are_hosts_with_or_without_a_scheme() {
    let server = Server::start(json("{}")).await;
    let at = |text: &str| ConsulDiscovery {
        server: text.to_owned(),
        scheme: "https".to_owned(),
        ..section(&server)
    };
    assert_eq!(base(&at("h:8500")).unwrap().as_str(), "https://h:8500/");
    assert_eq!(base(&at("http://h:8500")).unwrap().as_str(), "http://h:8500/");
    assert_eq!(base(&at("unix:///run/consul.sock")).unwrap().as_str(), "http://localhost/");
    let prefixed = ConsulDiscovery { path_prefix: "consul".to_owned(), ..at("h") };
    assert_eq!(base(&prefixed).unwrap().as_str(), "https://h/consul");
    assert!(base(&at("h:port")).is_err());
}
