//! What stands beside queries: features, relabelling, searches, notifications, consoles, the page and profiles.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use futures_util::StreamExt;
use http::{Method, Request, StatusCode, header};
use tower::ServiceExt;

use super::{Server, api, ask, form, get, options, serving, stored, until};
use crate::api::{Api, Options, router};
use crate::notifications::{RELOAD_FAILED, STOPPING};

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A router with other options than the usual ones.
fn with(change: impl FnOnce(&mut Options)) -> (axum::Router, Arc<Server>) {
    let server = Arc::default();
    let mut api = Arc::into_inner(api(&server, stored(), 4)).unwrap();
    change(&mut api.options);
    (router(Arc::new(api), None), server)
}

#[tokio::test]
async fn features_are_listed_as_they_are_written() {
    let (router, _) = serving(stored());
    let (_, body) = get(&router, "/api/v1/features").await;
    assert_eq!(body, r#"{"status":"success","data":{"promql_operators":{"</":true}}}"#);
}

#[tokio::test]
async fn every_step_of_relabelling_is_shown() {
    let (router, _) = serving(stored());
    let path =
        |labels: &str| format!("/api/v1/targets/relabel_steps?scrapePool=a&labels={}", encoded(labels));
    let (status, body) = get(&router, &path(r#"{"__address__":"c:<1","empty":""}"#)).await;
    let expected = concat!(
        r#"{"status":"success","data":{"steps":["#,
        r#"{"rule":{"source_labels":["__address__"],"separator":";","regex":"(.*):\u003c.*","target_label":"host","replacement":"$1","action":"replace"},"#,
        r#""output":{"__address__":"c:<1","host":"c"},"keep":true},"#,
        r#"{"rule":{"source_labels":["host"],"separator":";","regex":"b","replacement":"$1","action":"drop"},"#,
        r#""output":{"__address__":"c:<1","host":"c"},"keep":true},"#,
        r#"{"rule":{"source_labels":["host"],"separator":";","regex":"(.*)","modulus":4,"target_label":"shard","replacement":"$1","action":"hashmod"},"#,
        r#""output":{"__address__":"c:<1","host":"c","shard":"3"},"keep":true}]}}"#,
    );
    assert_eq!((status, body.as_str()), (StatusCode::OK, expected));
    let (_, body) = get(&router, &path(r#"{"__address__":"b:<1"}"#)).await;
    assert_eq!(
        body.matches(r#""output":{},"keep":false"#).count(),
        2,
        "after a drop nothing is left: {body}"
    );
    for (query, error) in [
        ("", "no scrapePool parameter provided"),
        ("scrapePool=a", "no labels parameter provided"),
        (
            "scrapePool=a&labels=x",
            "error parsing labels: invalid character 'x' looking for beginning of value",
        ),
        ("scrapePool=b&labels={}", r#"error retrieving scrape config: scrape pool \"b\" not found"#),
    ] {
        let (status, body) = get(&router, &format!("/api/v1/targets/relabel_steps?{query}")).await;
        let expected = format!(r#"{{"status":"error","errorType":"bad_data","error":"{error}"}}"#);
        assert_eq!((status, body), (StatusCode::BAD_REQUEST, expected));
    }
}

#[tokio::test]
async fn a_job_is_shown_without_its_secrets() {
    let (router, _) = serving(stored());
    let (_, body) = get(&router, "/api/v1/scrape_pools/config?scrapePool=a").await;
    assert!(body.starts_with(r#"{"status":"success","data":{"yaml":"job_name: a\n"#), "{body}");
    assert!(body.contains(r"password: \u003csecret\u003e") && !body.contains("hidden"), "{body}");
    let (status, body) = get(&router, "/api/v1/scrape_pools/config?scrapePool=no").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains(r#"error retrieving scrape config: scrape pool \"no\" not found"#), "{body}");
    let (_, body) = get(&router, "/api/v1/scrape_pools/config").await;
    assert!(body.contains("no scrapePool parameter provided"), "{body}");
}

#[tokio::test]
async fn searches_answer_in_lines() {
    let (router, _) = serving(stored());
    let request = Request::get(
        "/api/v1/search/label_values?label=i&limit=3&batch_size=2&start=0&end=10&include_score=1",
    );
    let request = request.header(header::ACCEPT_ENCODING, "gzip").header(header::ORIGIN, "http://a");
    let (status, headers, body) = ask(&router, request.body(Body::empty()).unwrap()).await;
    let expected = concat!(
        "{\"results\":[{\"value\":\"0\",\"score\":1},{\"value\":\"1\",\"score\":1}]}\n",
        "{\"results\":[{\"value\":\"2\",\"score\":1}]}\n",
        "{\"status\":\"success\",\"has_more\":true}\n"
    );
    assert_eq!((status, body.as_str()), (StatusCode::OK, expected));
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-ndjson; charset=utf-8");
    assert!(!headers.contains_key(header::CONTENT_ENCODING), "lines are sent as they are");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "http://a");
    let posted = form("/api/v1/search/metric_names", "search%5B%5D=U&case_sensitive=false&start=0&end=1");
    let (_, _, body) = ask(&router, posted).await;
    assert!(body.starts_with("{\"results\":[{\"name\":\"up\"}]}\n"), "{body}");
    let (_, body) = get(&router, "/api/v1/search/label_names?start=0&end=1&sort_by=alpha&sort_dir=dsc").await;
    assert!(body.starts_with("{\"results\":[{\"name\":\"i\"},{\"name\":\"__name__\"}]}\n"), "{body}");
    let union =
        "/api/v1/search/label_values?label=i&start=0&end=1&match[]={i=%227%22}&match[]={i=~%22[67]%22}";
    let (_, body) = get(&router, union).await;
    assert!(body.starts_with("{\"results\":[{\"value\":\"6\"},{\"value\":\"7\"}]}\n"), "{body}");
}

#[tokio::test]
async fn searches_refuse_what_upstream_does() {
    let (router, _) = serving(stored());
    let many = "search[]=a&".repeat(33);
    let long = format!("search[]=a&search[]={}", "a".repeat(1025));
    for (query, error) in [
        ("start=2&end=1", "end timestamp must not be before start timestamp"),
        ("start=x", r#"invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#),
        ("match[]={}", "match[] must contain at least one non-empty matcher"),
        (&many, "too many search[] terms: got 33, maximum is 32"),
        (&long, "search[] term is too long: got 1025 bytes, maximum is 1024"),
        ("fuzz_threshold=101", r#"invalid fuzz_threshold \"101\": must be 0-100"#),
        ("fuzz_threshold=-1", r#"invalid fuzz_threshold \"-1\": must be 0-100"#),
        ("fuzz_alg=x", r#"unsupported fuzz_alg \"x\": must be one of [subsequence jarowinkler]"#),
        ("case_sensitive=x", r#"invalid case_sensitive \"x\": must be boolean"#),
        ("include_score=x", r#"invalid include_score \"x\": must be boolean"#),
        ("include_metadata=x", r#"invalid include_metadata \"x\": must be boolean"#),
        ("sort_dir=asc", "sort_dir is only valid when sort_by is set"),
        ("sort_by=score&sort_dir=asc", "sort_dir is not supported for sort_by=score"),
        ("sort_by=alpha&sort_dir=up", r#"invalid sort_dir \"up\": must be \"asc\" or \"dsc\""#),
        ("sort_by=score", "sort_by=score requires search[] to be set"),
        ("sort_by=x", r#"invalid sort_by \"x\" for metric_names: must be \"alpha\" or \"score\""#),
        ("limit=0", r#"invalid limit \"0\": must be a positive integer"#),
        ("limit=10001", "limit 10001 exceeds the configured maximum (10000, see --web.search.max-limit)"),
        ("batch_size=0", r#"invalid batch_size \"0\": must be a positive integer"#),
    ] {
        let (status, body) = get(&router, &format!("/api/v1/search/metric_names?{query}")).await;
        let expected = format!(r#"{{"status":"error","errorType":"bad_data","error":"{error}"}}"#);
        assert_eq!((status, body), (StatusCode::BAD_REQUEST, expected), "{query}");
    }
    let (_, body) = get(&router, "/api/v1/search/label_values").await;
    assert!(body.contains(r#"missing required parameter \"label\""#), "{body}");
    let (router, _) = with(|options| options.enable_search = false);
    let (status, body) = get(&router, "/api/v1/search/metric_names").await;
    let expected = r#"{"status":"error","errorType":"unavailable","error":"search API disabled"}"#;
    assert_eq!((status, body.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, expected));
    let (router, _) = with(|options| options.search_limit_max = 3);
    let (_, body) = get(&router, "/api/v1/search/label_values?label=i&start=0&end=1").await;
    assert_eq!(body.matches("value").count(), 3, "a small maximum is the default as well: {body}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_search() {
    let server = Arc::default();
    let api = api(&server, stored(), 1);
    // The only turn is taken, so the search waits.
    let turn = Arc::clone(&api.lookups).acquire_owned().await.unwrap();
    let router = router(Arc::clone(&api), None);
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "/api/v1/search/metric_names").await }
    });
    tokio::task::yield_now().await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    drop(turn);
    let (_, text) = get(&router, "/metrics").await;
    assert!(text.contains("\nferula_api_searches_abandoned_total 1\n"), "{text}");
    until(|| api.lookups.available_permits() == 1).await;
}

#[tokio::test]
async fn notifications_are_streamed_until_the_server_stops() {
    let (router, server) = serving(stored());
    server.is_starting.store(true, Ordering::Relaxed);
    server.notifications.add(RELOAD_FAILED);
    let (_, body) = get(&router, "/api/v1/notifications").await;
    let shown = r#"{"text":"Configuration reload has failed.","date":"1970-01-01T00:00:00Z","active":true}"#;
    assert_eq!(body, format!(r#"{{"status":"success","data":[{shown}]}}"#));
    let live = || Request::get("/api/v1/notifications/live").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(live()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "whether the server is ready or not");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
    let mut events = response.into_body().into_data_stream();
    assert_eq!(events.next().await.unwrap().unwrap(), format!("data: {shown}\n\n").as_bytes());
    let (status, headers, _) = ask(&router, live()).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "one is enough");
    assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream");
    server.notifications.remove(RELOAD_FAILED);
    let gone = events.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&gone).contains("\"active\":false"));
    server.notifications.add(STOPPING);
    server.notifications.close();
    assert!(events.next().await.is_some(), "the last word arrives");
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn quiet_subscriptions_show_that_they_are_alive() {
    let (router, server) = serving(stored());
    let live = Request::get("/api/v1/notifications/live").body(Body::empty()).unwrap();
    let mut events = router.oneshot(live).await.unwrap().into_body().into_data_stream();
    for _ in 0..2 {
        assert_eq!(events.next().await.unwrap().unwrap(), ":\n\n", "a comment, which no listener hears");
    }
    server.notifications.add(STOPPING);
    assert!(events.next().await.unwrap().unwrap().starts_with(b"data: "));
}

#[tokio::test]
async fn what_browsers_ask_for_beside_the_page_is_there() {
    let (router, _) = serving(stored());
    for (path, kind, begin) in [
        ("/favicon.svg", "image/svg+xml", "<svg"),
        ("/favicon.ico", "image/svg+xml", "<svg"),
        ("/manifest.json", "application/json", "{\n"),
    ] {
        let (status, headers, body) = ask(&router, Request::get(path).body(Body::empty()).unwrap()).await;
        assert!(status == StatusCode::OK && body.starts_with(begin), "{path}: {status} {body}");
        assert_eq!(headers[header::CONTENT_TYPE], kind, "{path}");
        let again = Request::get(path).header(header::IF_NONE_MATCH, &headers[header::ETAG]);
        let (status, ..) = ask(&router, again.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::NOT_MODIFIED, "{path}");
    }
    let (_, manifest) = get(&router, "/manifest.json").await;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(
        get(&router, &format!("/{}", manifest["icons"][0]["src"].as_str().unwrap())).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_page_is_told_what_it_cannot_know() {
    let (router, server) = with(|options| options.external_path = "/x".to_owned());
    server.is_starting.store(true, Ordering::Relaxed);
    for path in ["/query", "/alerts", "/rules", "/config", "/flags", "/tsdb-status", "/service-discovery"] {
        let (status, body) = get(&router, path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(body.contains("<title>&lt;Title&gt;</title>"), "{body}");
        assert!(!body.contains("PLACEHOLDER"), "{body}");
    }
    let head = Request::builder().method(Method::HEAD).uri("/query").body(Body::empty()).unwrap();
    assert_eq!(ask(&router, head).await.0, StatusCode::METHOD_NOT_ALLOWED, "as upstream");
    for (path, to) in [
        ("/", "/x/query"),
        ("/graph?g0.expr=up&g0.tab=1", "/x/query?g0.expr=up&g0.tab=1"),
        ("/graph", "/x/query?"),
    ] {
        let (status, headers, _) = ask(&router, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((status, &headers[header::LOCATION]), (StatusCode::FOUND, &to.parse().unwrap()), "{path}");
    }
    for path in [
        "/rules/test/test",
        "/config/v1/rules",
        "/api/ruler/x",
        "/nonexistent",
        "/api/v1/nonexistent",
        "/user/x",
    ] {
        let expected = (StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
        assert_eq!(get(&router, path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn files_of_users_are_served_from_their_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("assets");
    std::fs::create_dir_all(inner.join("a b")).unwrap();
    std::fs::write(inner.join("index.html"), "<p>home").unwrap();
    std::fs::write(inner.join("a b/x.css"), "p{}").unwrap();
    std::fs::write(folder.path().join("secret"), "s").unwrap();
    let (router, _) = with(|options| options.page.user_assets = Some(inner));
    assert_eq!(get(&router, "/user/").await, (StatusCode::OK, "<p>home".to_owned()));
    let (status, headers, body) =
        ask(&router, Request::get("/user/a%20b/x.css").body(Body::empty()).unwrap()).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "p{}"));
    assert_eq!(headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    for (path, to) in [("/user?a=b", "/user/?a=b"), ("/user/a%20b", "a%20b/"), ("/user/index.html", "./")] {
        let (status, headers, _) = ask(&router, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (status, &headers[header::LOCATION]),
            (StatusCode::MOVED_PERMANENTLY, &to.parse().unwrap()),
            "{path}"
        );
    }
    // What has to be cleaned is sent elsewhere before anybody looks for it.
    for path in ["/user/../secret", "/user//etc/passwd"] {
        assert_eq!(get(&router, path).await.0, StatusCode::TEMPORARY_REDIRECT, "{path}");
    }
    for path in ["/secret", "/user/%2e%2e/secret", "/user/%2e%2e%2fsecret", "/user/etc/passwd", "/user/no"] {
        let (status, body) = get(&router, path).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, "404 page not found\n"), "{path}");
    }
    for path in ["/user/../secret", "/user//etc/passwd"] {
        let (status, _) = get(&router, path).await;
        assert_eq!(status, StatusCode::TEMPORARY_REDIRECT, "to the path that is meant: {path}");
    }
}

#[tokio::test]
async fn consoles_are_templates_with_queries() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "consoles/index.html",
        "<html>{{ template \"head\" . }}{{ range query \"sum(up)\" }}{{ .Value }}{{ end }} \
         {{ $externalLabels.site }} {{ .Params.p }} {{ .Path }} {{ index $rawParams.q 1 }}",
    );
    write("consoles/bad.html", "{{ nofunction }}");
    write("lib/head.lib", "{{ define \"head\" }}<b>head</b>{{ end }}");
    write("lib/other.txt", "{{ broken");
    write("secret", "s");
    let (router, _) = with(|options| {
        options.page.consoles.templates = folder.path().join("consoles");
        options.page.consoles.libraries = folder.path().join("lib");
    });
    let request = Request::get("/consoles/index.html?p=%3Cx%3E&q=1&q=2").body(Body::empty()).unwrap();
    let (status, headers, body) = ask(&router, request).await;
    let expected = "<html><b>head</b>8 a &lt;x&gt; index.html 2";
    assert_eq!((status, body.as_str()), (StatusCode::OK, expected));
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let (status, body) = get(&router, "/consoles/bad.html").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("error parsing template __console_/bad.html"), "{body}");
    assert_eq!(get(&router, "/consoles/../secret").await.0, StatusCode::TEMPORARY_REDIRECT);
    for path in ["/consoles/no.html", "/consoles/%2e%2e/secret", "/consoles/..%2fsecret"] {
        let (status, body) = get(&router, path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {body}");
        assert!(body.contains("no such file or directory"), "{path}: {body}");
    }
    assert_eq!(
        get(&router, "/consoles/").await.0,
        StatusCode::INTERNAL_SERVER_ERROR,
        "a folder is no template"
    );
    assert_eq!(get(&router, "/consoles/index.html?a=%zz").await.0, StatusCode::BAD_REQUEST);
    // Nobody writes into the one, and the other never ends.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("consoles/pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("consoles/zero")).unwrap();
    for path in ["/consoles/pipe", "/consoles/zero"] {
        let (status, body) = get(&router, path).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert!(body.contains("no regular file"), "{path}: {body}");
    }
    let (_, page) = get(&router, "/query").await;
    let is_full = page.contains("data-consoles-link");
    assert!(!is_full || page.contains("data-consoles-link=\"/consoles/index.html\""), "{page}");
}

#[tokio::test]
async fn profiles_are_told_or_honestly_refused() {
    let (router, _) = serving(stored());
    let (status, body) = get(&router, "/debug/pprof/").await;
    assert!(status == StatusCode::OK && body.contains("profile"), "{body}");
    assert_eq!(get(&router, "/debug/pprof").await.0, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(get(&router, "/debug/pprof/cmdline").await, (StatusCode::OK, "ferula\0--x".to_owned()));
    assert_eq!(get(&router, "/debug/pprof/goroutine?debug=1").await.1, "threads: total 0\n");
    assert_eq!(get(&router, "/debug/pprof/heap").await.0, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(get(&router, "/debug/pprof/x").await, (StatusCode::NOT_FOUND, "Unknown profile\n".to_owned()));
    assert_eq!(get(&router, "/debug/x").await, (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()));
}

#[tokio::test]
async fn only_one_profile_is_taken_at_a_time() {
    let server = Arc::default();
    let api: Arc<Api> = api(&server, stored(), 1);
    let _taken = api.profiling.try_lock().unwrap();
    let (status, body) = get(&router(Arc::clone(&api), None), "/debug/pprof/profile?seconds=1").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, "Could not enable CPU profiling: cpu profiling already in use\n");
}

#[tokio::test]
async fn top_queries_are_sorted_as_asked() {
    let (router, _) = serving(stored());
    let first = async |query: &str| {
        let (_, body) = get(&router, &format!("/api/v1/status/top_queries?limit=1{query}")).await;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["data"]["queries"].as_array().unwrap().len(), 1);
        assert_eq!(json["data"]["forgotten"], 3);
        json["data"]["queries"][0]["query"].as_str().unwrap().to_owned()
    };
    assert_eq!(first("").await, "slow");
    assert_eq!(first("&sort_by=count").await, "often");
    let (status, body) = get(&router, "/api/v1/status/top_queries?sort_by=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
}

/// Described because others build it.
const NOT_SERVED_YET: [&str; 2] = ["/api/v1/read", "/api/v1/status/self_metrics"];

/// Routes of the API that the description leaves out: itself.
const NOT_DESCRIBED: [&str; 1] = ["/api/v1/openapi.yaml"];

#[tokio::test]
async fn what_is_described_is_what_is_served() {
    let (router, _) = serving(stored());
    let described = crate::api::v1::openapi::tests::described();
    for (method, path) in &described {
        // No route takes this method, so that each says which it takes.
        let uri = path.replace("{name}", "job");
        let request = Request::builder().method(Method::PATCH).uri(&uri).body(Body::empty()).unwrap();
        let (status, headers, body) = ask(&router, request).await;
        if NOT_SERVED_YET.contains(&path.as_str()) && status == StatusCode::NOT_FOUND {
            continue;
        }
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{uri}: {body}");
        let allowed = headers[header::ALLOW].to_str().unwrap().to_owned();
        assert!(allowed.split(", ").any(|one| one.eq_ignore_ascii_case(method)), "{method} {uri}: {allowed}");
    }
    let (_, metrics) = get(&router, "/metrics").await;
    let patterns = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("prometheus_http_requests_total{code=\"200\",handler=\"")?;
        rest.split('"').next().filter(|pattern| pattern.starts_with("/api/v1/"))
    });
    let mut n = 0;
    for pattern in patterns {
        let pattern = pattern.replace(":name", "{name}");
        let is_described = described.iter().any(|(_, path)| *path == pattern);
        assert!(is_described || NOT_DESCRIBED.contains(&pattern.as_str()), "{pattern} is not described");
        n += 1;
    }
    assert!(n >= 40, "{n} routes");
    let request = Request::get("/api/v1/openapi.yaml?openapi_version=3.2").body(Body::empty()).unwrap();
    let (status, headers, body) = ask(&router, request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "application/yaml; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "no-cache, no-store, must-revalidate");
    assert!(body.starts_with("openapi: \"3.2.0\"\n"), "{body:.100}");
    assert_eq!(options().search_limit_max, 10_000);
}
