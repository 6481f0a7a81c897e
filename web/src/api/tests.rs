//! The routes against a store in memory: what all share, and what only a slow or broken store shows.

mod routes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use model::exemplar::SeriesExemplars;
use model::storage::{Error, ExemplarQueryable, Querier, Queryable};
use model::{Exemplar, Labels, Matcher, TimeRange};
use promql::testing::Storage;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::{Api, Options, router};
use crate::view;

/// A server of which every part can be told what to do.
#[derive(Default)]
struct Server {
    is_starting: AtomicBool,
    reloads: AtomicUsize,
    groups: Mutex<Vec<view::RuleGroup>>,
    is_admin_off: AtomicBool,
    notifications: Arc<crate::Notifications>,
    /// What the store was told to do.
    acts: Mutex<Vec<String>>,
}

impl view::TargetSource for Server {
    fn targets(&self) -> view::Targets {
        view::Targets::default()
    }

    fn pools(&self) -> Vec<String> {
        vec!["a".to_owned()]
    }

    fn discovery(&self) -> Vec<view::Discovery> {
        vec![view::Discovery {
            job: "a".to_owned(),
            manager: "scrape",
            mechanism: "http",
            targets: 3,
            last_error: "refused".to_owned(),
            failing_since: "2026-01-01T00:00:00Z".to_owned(),
            last_update: "0001-01-01T00:00:00Z".to_owned(),
        }]
    }

    fn metadata(&self) -> Vec<view::TargetMetadata> {
        Vec::new()
    }
}

impl view::RuleSource for Server {
    fn groups(&self) -> Vec<view::RuleGroup> {
        self.groups.lock().unwrap().clone()
    }
}

impl view::story::StorySource for Server {
    fn explain(&self, query: &view::story::Query) -> Result<view::story::Explained, String> {
        let selectors: Vec<Vec<_>> = query
            .selectors
            .iter()
            .map(|matchers| matchers.iter().map(ToString::to_string).collect())
            .collect();
        if selectors.concat().contains(&"alertname=\"broken\"".to_owned()) {
            return Err("read a segment: gone".to_owned());
        }
        let range = (query.range.mint, query.range.maxt);
        let next_token =
            format!("{selectors:?} {} {range:?} {} {}", query.time, query.limit, query.entries_max);
        Ok(view::story::Explained { next_token, ..view::story::Explained::default() })
    }
}

impl view::StatusSource for Server {
    fn is_ready(&self) -> bool {
        !self.is_starting.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn config_text(&self) -> String {
        String::new()
    }

    fn flags(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn runtime_info(&self) -> view::RuntimeInfo {
        unimplemented!("no test asks for it")
    }

    fn build_info(&self) -> view::BuildInfo {
        view::BuildInfo {
            version: "3.14.0".to_owned(),
            revision: String::new(),
            branch: String::new(),
            build_user: String::new(),
            build_date: String::new(),
            go_version: String::new(),
        }
    }

    fn tsdb_status(&self, _: usize) -> view::TsdbStatus {
        unimplemented!("no test asks for it")
    }

    fn wal_replay(&self) -> view::WalReplay {
        view::WalReplay { min: 1, max: 3, current: 2 }
    }

    fn blocks(&self) -> Vec<Vec<u8>> {
        vec![b"{\"ulid\":\"1\"}".to_vec(), b"{\"ulid\":\"2\"}".to_vec()]
    }

    fn alertmanagers(&self) -> view::Alertmanagers {
        view::Alertmanagers::default()
    }

    fn expose(&self, out: &mut model::wire::expose::Exposition) {
        out.set_created(1_700_000_000_123);
        out.gauge("test_ratio", "A \\ line\nbreak.", 1.5);
        out.counter("test_total", "Counts.", &model::wire::expose::Counter::new());
    }
}

impl view::running::Running for Server {
    fn config(&self) -> Arc<config::Config> {
        let text = "
global: {external_labels: {site: a}}
scrape_configs:
- job_name: a
  basic_auth: {username: u, password: hidden}
  relabel_configs:
  - {source_labels: [__address__], regex: '(.*):<.*', target_label: host}
  - {source_labels: [host], regex: b, action: drop}
  - {source_labels: [host], modulus: 4, target_label: shard, action: hashmod}
";
        Arc::new(config::prometheus::parse(text, std::path::Path::new("")).unwrap())
    }

    fn features(&self) -> view::running::Features {
        BTreeMap::from([("promql_operators", BTreeMap::from([("</".to_owned(), true)]))])
    }

    fn top_queries(&self) -> view::running::TopQueries {
        let query = |query: &str, count, total_time| view::running::TopQuery {
            query: query.to_owned(),
            count,
            total_time,
            ..view::running::TopQuery::default()
        };
        view::running::TopQueries {
            queries: vec![query("often", 9, 1.0), query("slow", 2, 5.0)],
            forgotten: 3,
        }
    }

    fn command_line(&self) -> Vec<String> {
        vec!["ferula".to_owned(), "--x".to_owned()]
    }

    fn threads(&self) -> Vec<view::running::Thread> {
        Vec::new()
    }
}

impl view::TsdbAdmin for Server {
    fn delete_series(&self, range: TimeRange, matchers: &[Matcher]) -> Result<(), String> {
        let matchers: Vec<_> = matchers.iter().map(ToString::to_string).collect();
        self.acts.lock().unwrap().push(format!("delete {} {} {matchers:?}", range.mint, range.maxt));
        if matchers.iter().any(|text| text.contains("broken")) { Err("disk full".to_owned()) } else { Ok(()) }
    }

    fn clean_tombstones(&self) -> Result<(), String> {
        self.acts.lock().unwrap().push("clean".to_owned());
        Ok(())
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, String> {
        self.acts.lock().unwrap().push(format!("snapshot {skip_head}"));
        if self.is_starting.load(Ordering::Relaxed) {
            Err("no".to_owned())
        } else {
            Ok("20261121T-1".to_owned())
        }
    }
}

impl view::Lifecycle for Server {
    fn reload(&self) -> futures_util::future::BoxFuture<'_, Result<(), String>> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err("no such file".to_owned()) })
    }

    fn quit(&self) {}
}

/// A store that answers only once it is let go.
#[derive(Default)]
struct Slow {
    is_open: Mutex<bool>,
    opened: Condvar,
    n_waiting: AtomicUsize,
}

impl Slow {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Queryable for Slow {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>, Error> {
        self.n_waiting.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        Storage::default().querier(range)
    }
}

/// Eight series, one sample each at 0.
fn stored() -> Arc<Storage> {
    let mut storage = Storage::default();
    for i in 0..8 {
        storage.append(&Labels::from_pairs([("__name__", "up"), ("i", &i.to_string())]), [(0, 1.0)]);
    }
    Arc::new(storage)
}

/// One exemplar of each series that a selector names.
struct Named;

impl ExemplarQueryable for Named {
    fn exemplars(&self, range: TimeRange, selectors: &[Vec<Matcher>]) -> Result<Vec<SeriesExemplars>, Error> {
        let of = |matchers: &Vec<Matcher>| {
            let series = Labels::from_pairs([(&*matchers.last()?.name, matchers.last()?.value.as_ref())]);
            let exemplar = Exemplar {
                labels: Labels::from_pairs([("trace", "<a>")]),
                v: 0.5,
                t: range.mint + 1,
                has_own_t: true,
            };
            Some(SeriesExemplars { series, exemplars: vec![exemplar] })
        };
        Ok(selectors.iter().filter_map(of).collect())
    }
}

pub(crate) fn options() -> Options {
    Options {
        enable_lifecycle: true,
        enable_admin: true,
        route_prefix: String::new(),
        external_path: String::new(),
        cors_origin: None,
        origins: Arc::default(),
        enable_search: true,
        search_limit_max: 10_000,
        page: crate::ui::Page {
            title: "<Title>".to_owned(),
            consoles: crate::consoles::Consoles {
                templates: "consoles".into(),
                libraries: "libraries".into(),
            },
            user_assets: None,
            external_url: "http://localhost:9090".to_owned(),
            lookback_delta: "5m".to_owned(),
        },
        now: || 0,
    }
}

fn api(server: &Arc<Server>, storage: Arc<dyn Queryable>, queries_max: usize) -> Arc<Api> {
    Arc::new(Api {
        engine: Arc::new(promql::Engine::new(promql::EngineOptions {
            timeout: Duration::from_secs(5),
            ..promql::EngineOptions::default()
        })),
        storage,
        exemplars: Arc::new(Named),
        targets: Arc::clone(server) as Arc<dyn view::TargetSource>,
        rules: Arc::clone(server) as Arc<dyn view::RuleSource>,
        stories: Arc::clone(server) as Arc<dyn view::story::StorySource>,
        status: Arc::clone(server) as Arc<dyn view::StatusSource>,
        lifecycle: Arc::clone(server) as Arc<dyn view::Lifecycle>,
        admin: Arc::clone(server) as Arc<dyn view::TsdbAdmin>,
        otlp: None,
        running: Arc::clone(server) as Arc<dyn view::running::Running>,
        notifications: Arc::clone(&server.notifications),
        searches: super::Searches::default(),
        profiling: tokio::sync::Mutex::default(),
        metrics: Arc::default(),
        remote: remote::remote(server),
        queries: Arc::new(Semaphore::new(queries_max)),
        lookups: Arc::new(Semaphore::new(1)),
        answers: Arc::new(Semaphore::new(1)),
        admin_turn: Arc::default(),
        options: Options { enable_admin: !server.is_admin_off.load(Ordering::Relaxed), ..options() },
    })
}

fn serving(storage: Arc<dyn Queryable>) -> (Router, Arc<Server>) {
    let server = Arc::default();
    (router(api(&server, storage, 4), None), server)
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, http::HeaderMap, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let (status, _, body) = ask(router, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, body)
}

fn form(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn only_some_paths_answer_before_the_server_is_ready() {
    let (router, server) = serving(stored());
    server.is_starting.store(true, Ordering::Relaxed);
    for path in ["/api/v1/query?query=1", "/api/v1/rules", "/-/ready"] {
        let (status, headers, body) = ask(&router, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
            "{path}"
        );
        assert_eq!(headers["x-prometheus-stopping"], "false", "{path}");
    }
    for path in ["/-/healthy", "/metrics", "/api/v1/status/walreplay", "/api/v1/notifications", "/query"] {
        assert_eq!(get(&router, path).await.0, StatusCode::OK, "{path}");
    }
    server.is_starting.store(false, Ordering::Relaxed);
    assert_eq!(get(&router, "/-/ready").await, (StatusCode::OK, "Prometheus Server is Ready.\n".to_owned()));
}

#[tokio::test]
async fn discovery_is_listed_with_what_fails() {
    let (router, _server) = serving(stored());
    let (status, body) = get(&router, "/api/v1/discovery").await;
    let expected = r#"{"status":"success","data":[{"job":"a","manager":"scrape","mechanism":"http","targets":3,"lastError":"refused","failingSince":"2026-01-01T00:00:00Z","lastUpdate":"0001-01-01T00:00:00Z"}]}"#;
    assert_eq!((status, body.as_str()), (StatusCode::OK, expected));
}

#[tokio::test]
async fn a_form_may_be_large_but_not_without_bounds() {
    let (router, _) = serving(stored());
    let (status, _, body) =
        ask(&router, form("/api/v1/query", format!("query=1{}", "+".repeat(100_000)))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let too_much = vec![b'+'; crate::params::FORM_BYTES_MAX + 1];
    let (status, _, body) = ask(&router, form("/api/v1/query", too_much)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("error parsing form values: http: POST too large"), "{body}");
}

#[tokio::test]
async fn limits_cut_lists_and_say_so() {
    let (router, _) = serving(stored());
    let warning = "\"warnings\":[\"results truncated due to limit\"]";
    for (path, n, is_cut) in [
        ("/api/v1/query?query=up&limit=3", 3, true),
        ("/api/v1/query?query=up&limit=8", 8, false),
        ("/api/v1/query?query=up&limit=0", 8, false),
        ("/api/v1/series?match[]=up&limit=7", 7, true),
        ("/api/v1/series?match[]=up&limit=8", 8, false),
        ("/api/v1/series?match[]=up&match[]=up&limit=5", 5, true),
    ] {
        let (status, body) = get(&router, path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!((body.matches("\"i\":").count(), body.contains(warning)), (n, is_cut), "{path}: {body}");
    }
    let (_, body) = get(&router, "/api/v1/label/i/values?limit=2").await;
    assert_eq!(body, format!("{{\"status\":\"success\",\"data\":[\"0\",\"1\"],{warning}}}"));
}

/// Waits, without blocking the event loop, until `is_so`.
async fn until(is_so: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it comes to be in time");
}

#[tokio::test]
async fn slow_queries_hold_up_nothing_else() {
    let slow = Arc::new(Slow::default());
    let server = Arc::default();
    let router = router(api(&server, Arc::clone(&slow) as Arc<dyn Queryable>, 2), None);
    let asking: Vec<_> = (0..5)
        .map(|_| {
            let router = router.clone();
            tokio::spawn(async move { get(&router, "/api/v1/query?query=up").await.0 })
        })
        .collect();
    until(|| slow.n_waiting.load(Ordering::SeqCst) == 2).await;
    // The event loop of this test has one thread: had a query it, this would not return.
    assert_eq!(get(&router, "/-/healthy").await.0, StatusCode::OK);
    assert_eq!(get(&router, "/api/v1/rules").await.0, StatusCode::OK);
    assert_eq!(slow.n_waiting.load(Ordering::SeqCst), 2, "the others wait without a thread");
    slow.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_query_that_gets_no_turn_times_out() {
    let slow = Arc::new(Slow::default());
    let server = Arc::default();
    let router = router(api(&server, Arc::clone(&slow) as Arc<dyn Queryable>, 1), None);
    let first = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "/api/v1/query?query=up").await.0 }
    });
    until(|| slow.n_waiting.load(Ordering::SeqCst) == 1).await;
    let (status, body) = get(&router, "/api/v1/query?query=up&timeout=20ms").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, r#"{"status":"error","errorType":"timeout","error":"query timed out in query queue"}"#);
    slow.open();
    assert_eq!(first.await.unwrap(), StatusCode::OK);
}

/// Tells how queries end.
struct Ends(std::sync::mpsc::Sender<Option<promql::Error>>);

impl promql::Observer for Ends {
    fn begun(&self, _: &str) -> Box<dyn Send + '_> {
        Box::new(())
    }

    fn listens(&self) -> bool {
        true
    }

    fn ended(&self, query: &promql::Ended<'_>) {
        let _ = self.0.send(query.error.cloned());
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_query() {
    let server = Arc::default();
    let api = api(&server, stored(), 1);
    let (ends, ended) = std::sync::mpsc::channel();
    api.engine.observe(Arc::new(Ends(ends)));
    let router = router(Arc::clone(&api), None);
    let leaving = tokio::spawn(async move {
        // Runs into the engine's timeout of 5 s unless it is cancelled.
        let query = "max_over_time(sum_over_time(vector(time())[1h:1s])[10h:1s])";
        get(&router, &format!("/api/v1/query?query={query}")).await
    });
    until(|| api.queries.available_permits() == 0).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    until(|| api.queries.available_permits() == 1).await;
    let error = ended.try_recv().unwrap();
    assert!(matches!(error, Some(promql::Error::Canceled(_))), "{error:?}");
}

#[tokio::test]
async fn requests_are_counted_by_pattern() {
    let (router, _) = serving(stored());
    get(&router, "/api/v1/label/i/values").await;
    get(&router, "/api/v1/label/j/values").await;
    get(&router, "/api/v1/query?query=(").await;
    get(&router, "/nothing").await;
    let (_, text) = get(&router, "/metrics").await;
    for line in [
        "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/label/:name/values\"} 2",
        "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/query\"} 0",
        "prometheus_http_requests_total{code=\"400\",handler=\"/api/v1/query\"} 1",
        "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/query_range\"} 0",
        "prometheus_http_request_duration_seconds_count{handler=\"/api/v1/query\"} 1",
        "prometheus_http_response_size_bytes_bucket{handler=\"/api/v1/query\",le=\"100\"} 0",
        "prometheus_http_response_size_bytes_bucket{handler=\"/api/v1/query\",le=\"1000\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("nothing"));
    // There are many handlers, and most are never asked.
    assert!(!text.contains("_bucket{handler=\"/\""));
    assert!(text.contains("prometheus_http_requests_total{code=\"200\",handler=\"/\"} 0\n"));
    assert!(text.contains("promhttp_metric_handler_requests_in_flight 1\n"), "{text}");
    let (_, text) = get(&router, "/metrics").await;
    assert!(text.contains("promhttp_metric_handler_requests_total{code=\"200\"} 1\n"), "{text}");
}

#[tokio::test]
async fn own_metrics_come_as_asked() {
    let (router, _server) = serving(stored());
    let text = "# HELP test_total Counts.\n# TYPE test_total counter\ntest_total 0\n";
    let compact = "name:\"test_total\" help:\"Counts.\" type:COUNTER metric:{counter:{value:0 \
                   created_timestamp:{seconds:1700000000 nanos:123000000}}}\n";
    let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily";
    let cases = [
        ("*/*".to_owned(), "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", text),
        // A scraper's first wish is one we do not grant.
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5;escaping=dots"
                .to_owned(),
            "text/plain; version=0.0.4; charset=utf-8; escaping=dots",
            text,
        ),
        (
            format!("{proto};encoding=compact-text"),
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=compact-text; escaping=underscores",
            compact,
        ),
    ];
    for (accept, kind, expected) in cases {
        let request = Request::builder()
            .uri("/metrics?name[]=test_total&name[]=nobody_has_it")
            .header(header::ACCEPT, &accept)
            .body(Body::empty())
            .unwrap();
        let (status, headers, body) = ask(&router, request).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, expected), "{accept}");
        assert_eq!(headers[header::CONTENT_TYPE], kind, "{accept}");
    }
    let (status, body) = get(&router, "/api/v1/status/self_metrics?metric_name_pattern=test_.*").await;
    let expected = r#"{"status":"success","data":[{"name":"test_ratio","help":"A \\ line\nbreak.","type":"GAUGE","metric":[{"gauge":{"value":1.5}}]},{"name":"test_total","help":"Counts.","type":"COUNTER","metric":[{"counter":{"value":0,"createdTimestamp":"2023-11-14T22:13:20.123Z"}}]}]}"#;
    assert_eq!((status, body.as_str()), (StatusCode::OK, expected));
    let (_, body) = get(&router, "/api/v1/status/self_metrics?metric_name_pattern=test").await;
    assert_eq!(body, r#"{"status":"success","data":[]}"#);
    let (status, body) = get(&router, "/api/v1/status/self_metrics?metric_name_pattern=(").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("invalid metric_name_pattern: error parsing regexp: missing closing )"), "{body}");
}

#[tokio::test]
async fn methods_are_those_of_the_table() {
    let (router, server) = serving(stored());
    let with =
        |method: Method, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let (status, headers, body) = ask(&router, with(Method::DELETE, "/api/v1/query")).await;
    assert_eq!((status, body.as_str()), (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"));
    assert_eq!(headers[header::ALLOW], "GET, OPTIONS, POST");
    assert_eq!(ask(&router, with(Method::HEAD, "/api/v1/query")).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&router, with(Method::HEAD, "/-/healthy")).await.0, StatusCode::OK);
    let (status, _, body) = ask(&router, with(Method::GET, "/-/reload")).await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
    );
    let (status, _, body) = ask(&router, with(Method::PUT, "/-/reload")).await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::INTERNAL_SERVER_ERROR, "failed to reload config: no such file\n")
    );
    assert_eq!(server.reloads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn blocks_keep_the_order_of_their_keys() {
    let (router, _) = serving(stored());
    let (_, body) = get(&router, "/api/v1/status/tsdb/blocks").await;
    assert_eq!(body, r#"{"status":"success","data":{"blocks":[{"ulid":"1"},{"ulid":"2"}]}}"#);
}

#[tokio::test]
async fn admin_routes_are_off_unless_switched_on() {
    let server = Arc::<Server>::default();
    server.is_admin_off.store(true, Ordering::Relaxed);
    let router = router(api(&server, stored(), 1), None);
    for path in ["delete_series", "delete_series?match[]=up", "clean_tombstones", "snapshot?skip_head=x"] {
        for method in [Method::POST, Method::PUT] {
            let request = Request::builder().method(method).uri(format!("/api/v1/admin/tsdb/{path}"));
            let (status, _, body) = ask(&router, request.body(Body::empty()).unwrap()).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            let expected = r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
            assert_eq!(body, expected, "{path}");
        }
    }
    assert!(server.acts.lock().unwrap().is_empty());
}

/// Answers recorded from Prometheus 3.5.3; what the store is told stands beside them.
#[tokio::test]
async fn admin_routes_answer_as_upstream() {
    let (router, server) = serving(stored());
    let bad = |text: &str| format!(r#"{{"status":"error","errorType":"bad_data","error":"{text}"}}"#);
    let all = format!("{} {}", i64::MIN, i64::MAX);
    let cases = [
        ("delete_series", 400, bad("no match[] parameter provided"), String::new()),
        (
            "delete_series?match[]=up&start=x",
            400,
            bad(
                r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#,
            ),
            String::new(),
        ),
        (
            "delete_series?match[]=up&end=y",
            400,
            bad(
                r#"invalid parameter \"end\": invalid time value for 'end': cannot parse \"y\" to a valid timestamp"#,
            ),
            String::new(),
        ),
        (
            "delete_series?match[]=",
            400,
            bad(r#"invalid parameter \"match[]\": unknown position: parse error: unexpected end of input"#),
            String::new(),
        ),
        ("delete_series?match[]=up", 204, String::new(), format!(r#"delete {all} ["__name__=\"up\""]"#)),
        ("delete_series?match[]={}&start=1&end=2.5", 204, String::new(), "delete 1000 2500 []".to_owned()),
        (
            "delete_series?match[]={a=\"1\"}&match[]={b!=\"2\"}&end=1",
            204,
            String::new(),
            format!(r#"delete {min} 1000 ["a=\"1\""]; delete {min} 1000 ["b!=\"2\""]"#, min = i64::MIN),
        ),
        (
            "delete_series?match[]=broken",
            500,
            r#"{"status":"error","errorType":"internal","error":"disk full"}"#.to_owned(),
            format!(r#"delete {all} ["__name__=\"broken\""]"#),
        ),
        ("clean_tombstones", 204, String::new(), "clean".to_owned()),
        (
            "snapshot",
            200,
            r#"{"status":"success","data":{"name":"20261121T-1"}}"#.to_owned(),
            "snapshot false".to_owned(),
        ),
        (
            "snapshot?skip_head=T",
            200,
            r#"{"status":"success","data":{"name":"20261121T-1"}}"#.to_owned(),
            "snapshot true".to_owned(),
        ),
        (
            "snapshot?skip_head=maybe",
            400,
            bad(
                r#"invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"maybe\": invalid syntax"#,
            ),
            String::new(),
        ),
    ];
    for (path, status, body, acts) in cases {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = query.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        let request = Request::post(format!("/api/v1/admin/tsdb/{path}?{query}"));
        let (is, headers, text) = ask(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!((is.as_u16(), text), (status, body), "{path}?{query}");
        assert_eq!(headers.contains_key(header::CONTENT_TYPE), status != 204, "{path}?{query}");
        assert_eq!(std::mem::take(&mut *server.acts.lock().unwrap()).join("; "), acts, "{path}?{query}");
        // The same in a form.
        if status == 204 && path == "delete_series" {
            let (is, ..) = ask(&router, form("/api/v1/admin/tsdb/delete_series", query)).await;
            assert_eq!(is, StatusCode::NO_CONTENT);
            assert_eq!(std::mem::take(&mut *server.acts.lock().unwrap()).join("; "), acts);
        }
    }
    let (status, headers, _) =
        ask(&router, Request::get("/api/v1/admin/tsdb/snapshot").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers[header::ALLOW], "OPTIONS, POST, PUT");
}

#[tokio::test]
async fn exemplars_of_all_selectors_of_a_query() {
    let (router, _) = serving(stored());
    let ask = |query: &str| format!("/api/v1/query_exemplars?start=1&end=2&query={query}");
    let (status, body) = get(&router, &ask("rate(a%5B1m%5D)%2Bsum(b)")).await;
    let of = |name: &str| {
        format!(
            r#"{{"seriesLabels":{{"__name__":"{name}"}},"exemplars":[{{"labels":{{"trace":"<a>"}},"value":"0.5","timestamp":1.001}}]}}"#
        )
    };
    let expected = format!(r#"{{"status":"success","data":[{},{}]}}"#, of("a"), of("b"));
    assert_eq!((status, body), (StatusCode::OK, expected));
    assert_eq!(get(&router, &ask("1%2B1")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(get(&router, &ask("a%7B")).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_alert_is_named_by_selectors_or_labels() {
    let (router, _) = serving(stored());
    let ask = async |query: &str| get(&router, &format!("/api/v1/alerts/explain?{query}")).await;
    let (status, body) = ask("alertname=Down&instance=a&time=100&limit=5").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let told = r#"[["alertname=\"Down\"", "instance=\"a\""]] 100000 (-86300000, 100000) 5 200"#;
    assert_eq!(body["data"]["nextToken"], told);
    let (status, body) = ask("match[]=%7Balertname%3D~%22D.*%22%7D&time=7&start=1&end=9&entries=3").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.contains("(1000, 9000) 20 3"), "{body}");
    for (query, what) in [
        ("", "no match[] parameter and no label provided"),
        ("time=5", "no match[] parameter and no label provided"),
        ("alertname=Down&time=x", "invalid parameter \\\"time\\\""),
        ("alertname=Down&start=9&end=1", "end timestamp must not be before start time"),
        ("alertname=Down&limit=0", "limit must be a positive number"),
        ("match[]=%7Ba%3D%22%22%7D", "must contain at least one non-empty matcher"),
    ] {
        let (status, body) = ask(query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
        assert!(body.contains("\"errorType\":\"bad_data\"") && body.contains(what), "{query}: {body}");
    }
    let (status, body) = ask("alertname=broken").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("read a segment: gone"), "{body}");
}

mod remote;
#[tokio::test]
async fn answers_are_compressed_as_asked_and_say_so() {
    use std::io::Read as _;
    let (router, _server) = serving(stored());
    for (path, asked, sent) in [
        ("/api/v1/query?query=up", "gzip", Some("gzip")),
        ("/api/v1/query?query=up", "deflate, br, gzip", Some("gzip")),
        ("/api/v1/query?query=1", "deflate", Some("deflate")),
        ("/api/v1/query?query=1", "zstd", None),
        ("/api/v1/query?query=", "gzip", Some("gzip")),
        ("/api/v1/rules", "gzip", Some("gzip")),
        ("/api/v1/status/walreplay", "gzip", None),
        ("/api/v1/query_exemplars?query=1", "gzip", None),
    ] {
        let plain = get(&router, path).await.1;
        let request = Request::get(path).header(header::ACCEPT_ENCODING, asked).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let encoding = response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap());
        assert_eq!(encoding, sent, "{path} {asked}");
        let varies: Vec<_> = response.headers().get_all(header::VARY).iter().collect();
        let expected: &[&str] =
            if path.contains("walreplay") { &["Origin"] } else { &["Accept-Encoding", "Origin"] };
        assert_eq!(varies, expected, "{path}");
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let mut text = String::new();
        match sent {
            Some("gzip") => flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap(),
            Some(_) => flate2::read::ZlibDecoder::new(&*bytes).read_to_string(&mut text).unwrap(),
            None => (&*bytes).read_to_string(&mut text).unwrap(),
        };
        assert_eq!(text, plain, "{path} {asked}");
    }
}

/// The sum and the count of a histogram of the server's own, for one route.
async fn counted(router: &Router, metric: &str, handler: &str) -> (f64, f64) {
    let (_, text) = get(router, "/metrics").await;
    let value = |suffix: &str| {
        let start = format!("{metric}_{suffix}{{handler=\"{handler}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0.0, |v| v.parse().unwrap())
    };
    (value("sum"), value("count"))
}

/// The bytes of all results that are kept.
fn held(engine: &promql::Engine) -> u64 {
    let mut bytes = 0;
    model::memory::Holder::memory(engine, &mut |_, held| bytes += held);
    bytes
}

#[tokio::test]
async fn large_answers_are_streamed_and_counted_by_what_was_sent() {
    let mut storage = Storage::default();
    for i in 0..3 {
        let samples: Vec<_> = (0..5_000).map(|n| (n * 1000, n as f64 + 0.125)).collect();
        storage.append(&Labels::from_pairs([("__name__", "large"), ("i", &i.to_string())]), samples);
    }
    let api = api(&Arc::default(), Arc::new(storage), 4);
    let engine = Arc::clone(&api.engine);
    let router = router(api, None);
    let size = "prometheus_http_response_size_bytes";
    let path = "/api/v1/query_range?query=large&start=0&end=5000&step=1";
    let request = |encoding: &str| {
        Request::get(path).header(header::ACCEPT_ENCODING, encoding).body(Body::empty()).unwrap()
    };
    let response = router.clone().oneshot(request("identity")).await.unwrap();
    assert_eq!(axum::body::HttpBody::size_hint(response.body()).exact(), None, "it is streamed");
    assert_eq!(counted(&router, size, "/api/v1/query_range").await, (0.0, 0.0), "it is not over");
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let sent = body.len() as f64;
    assert_eq!(counted(&router, size, "/api/v1/query_range").await, (sent, 1.0));
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let series = json["data"]["result"].as_array().unwrap();
    assert_eq!(series.len(), 3);
    for one in series {
        let values = one["values"].as_array().unwrap();
        assert_eq!(values.len(), 5_001);
        assert_eq!(values[4_999].to_string(), r#"[4999,"4999.125"]"#);
    }
    let (_, _, short) =
        ask(&router, Request::get("/api/v1/query?query=1&time=4").body(Body::empty()).unwrap()).await;
    assert_eq!(counted(&router, size, "/api/v1/query").await, (short.len() as f64, 1.0));
    let response = router.clone().oneshot(request("gzip")).await.unwrap();
    let compressed = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().len() as f64;
    assert!(compressed < sent / 2.0);
    assert_eq!(counted(&router, size, "/api/v1/query_range").await, (sent + compressed, 2.0));
    // Whoever goes away in the middle is counted too, with what it got. Until then the result is on the account.
    let response = router.clone().oneshot(request("identity")).await.unwrap();
    assert_eq!(held(&engine), 3 * 5_001 * 16);
    drop(response);
    assert_eq!(held(&engine), 0);
    assert_eq!(counted(&router, size, "/api/v1/query_range").await, (sent + compressed, 3.0));
}

#[tokio::test]
async fn paths_and_forms_are_read_as_go_reads_them() {
    let (router, _) = serving(stored());
    let (status, headers, _) =
        ask(&router, Request::get("/api/v1//query?query=1").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(headers[header::LOCATION], "/api/v1/query?query=1");
    for (path, status, part) in [
        ("/api/v1/series?match[]=up&x=%zz", 400, "error parsing form values: invalid URL escape \\\"%zz\\\""),
        (
            "/api/v1/series?match[]=up&a;b",
            400,
            "error parsing form values: invalid semicolon separator in query",
        ),
        ("/api/v1/query?query=up&x=%zz", 200, "vector"),
        ("/api/v1/label/%ff/values", 400, "invalid label name: \\\"\\\\xff\\\""),
        ("/api/v1/label/a%2fb/values", 404, "404 page not found"),
        ("/api/v1/label/%69/values", 200, "\"7\""),
        ("/api/v1/query_range?query=1&start=0&end=3&step=0.0001", 400, "exceeded maximum resolution"),
        ("/api/v1/query_range?query=1&start=0&end=0&step=0.0001", 400, "zero or negative"),
        ("/api/v1/query_range?query=1&start=0&end=11000&step=1", 200, "matrix"),
        ("/api/v1/query_range?query=1&start=0&end=11000.999&step=1", 200, "matrix"),
        ("/api/v1/query_range?query=1&start=0&end=11001&step=1", 400, "11,000 points"),
        ("/api/v1/query_range?query=1&start=-9e15&end=9e15&step=10d", 400, "11,000 points"),
    ] {
        let (answered, body) = get(&router, path).await;
        assert!(answered.as_u16() == status && body.contains(part), "{path}: {answered} {body}");
    }
    let post = |kind: &str, body: &'static str| {
        Request::post("/api/v1/query?query=up").header(header::CONTENT_TYPE, kind).body(body.into()).unwrap()
    };
    let (_, _, body) = ask(&router, post("Application/x-www-form-urlencoded ; a=b", "query=1")).await;
    assert!(body.contains("scalar"), "{body}");
    let (_, _, body) = ask(&router, post("application/json", "query=1")).await;
    assert!(body.contains("vector"), "{body}");
}
