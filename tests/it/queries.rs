//! Queries that mean no good, or too much of it: each ends in an answer or a clear error, soon after nobody waits for it
//! any more, and rules are on time meanwhile. What runs when the server dies is known at the next start.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::process::{Home, Server, now, until, until_true, with_parameters};
use crate::scripted::Scripted;

/// Takes minutes, if it is let: one row of windows of a day each.
const HEAVY: &str = "stddev_over_time(stddev_over_time(vector(1)[1d:1s])[1d:1s])";

const EMPTY: &str = "scrape_configs: []\n";

/// Sends a query and waits for nothing.
fn sent(server: &Server, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let path = with_parameters("/api/v1/query", &[("query", query)]);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream
}

/// What `queries.active` names.
fn active(home: &Home) -> String {
    let bytes = std::fs::read(home.path("data/queries.active")).unwrap_or_default();
    String::from_utf8(bytes.into_iter().filter(|&b| b != 0).collect()).unwrap()
}

fn until_active(home: &Home, query: &str) {
    until_true("the query to run", || active(home).contains(query));
}

fn error(server: &Server, path: &str, parameters: &[(&str, &str)]) -> (u16, String) {
    let (status, body) = server.form(path, parameters);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
    (status, body["error"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_ran_when_the_server_died_is_told_at_the_next_start() {
    let home = Home::new(EMPTY);
    let server = home.start(&[]);
    assert_eq!(server.metric("ferula_engine_queries_unfinished"), Some(0.0));
    server.query("1 + 1", now());
    let _waiting = sent(&server, HEAVY);
    until_active(&home, HEAVY);
    server.kill();
    let server = home.start(&[]);
    let line = server.process.logged("These queries didn't finish in prometheus' last run:").unwrap();
    assert!(line.contains(HEAVY) && !line.contains("1 + 1"), "{line}");
    assert_eq!(server.metric("ferula_engine_queries_unfinished"), Some(1.0));
    server.stop();
    let server = home.start(&[]);
    assert_eq!(server.process.logged("These queries didn't finish"), None, "all of them had ended");
    assert_eq!(server.metric("ferula_engine_queries_unfinished"), Some(0.0));
}

#[test]
fn a_client_that_goes_away_takes_its_query_with_it() {
    let home = Home::new(EMPTY);
    let server = home.start(&["--query.max-concurrency=1"]);
    let waiting = sent(&server, HEAVY);
    until_active(&home, HEAVY);
    drop(waiting);
    let began = Instant::now();
    assert_eq!(server.value("vector(7)"), Some(7.0), "the only turn is free again");
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
    until_true("the query to be struck out", || !active(&home).contains(HEAVY));
}

#[test]
fn a_timeout_holds_inside_a_long_row() {
    let home = Home::new(EMPTY);
    let server = home.start(&["--query.timeout=1s"]);
    let began = Instant::now();
    let (status, text) = error(&server, "/api/v1/query", &[("query", HEAVY)]);
    assert_eq!((status, text.as_str()), (503, "query timed out in expression evaluation"));
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
}

#[test]
fn texts_that_mean_no_good_are_answered() {
    let home = Home::new(EMPTY);
    let server = home.start(&[]);
    let long = format!("1{}", "+1".repeat(500_000));
    let nested = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let signs = format!("{}1", "-".repeat(10_000));
    let calls = format!("{}vector(1){}", "abs(".repeat(10_000), ")".repeat(10_000));
    for query in [&long, &nested, &signs, &calls] {
        let (status, body) = server.form("/api/v1/query", &[("query", query)]);
        assert!(
            status == 200 || status == 400 || status == 422,
            "{status}: {}",
            &body[..body.len().min(300)]
        );
        assert!(body.len() < 4_000_000);
    }
    for regex in ["(((a{1000}){1000}){1000})", "(x+x+)+y", "(a|b|ab)*c{1,1000}", "(?:"] {
        let query = format!("{{__name__=~\"{regex}\"}}");
        let (status, _) = server.form("/api/v1/query", &[("query", &query)]);
        assert!(status == 200 || status == 400, "{regex}: {status}");
    }
    let range = |end| {
        error(&server, "/api/v1/query_range", &[("query", "1"), ("start", "0"), ("end", end), ("step", "1")])
    };
    let too_many = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
    assert_eq!(range("11001"), (400, too_many.to_owned()));
    assert_eq!(range("11000"), (200, String::new()));
    assert_eq!(server.value("vector(1)"), Some(1.0));
}

#[test]
fn a_selector_over_everything_ends() {
    const N_SERIES: usize = 100_000;
    let target = Scripted::target(|| {
        let mut text = String::with_capacity(N_SERIES * 16);
        for i in 0..N_SERIES {
            writeln!(text, "big{{i=\"{i}\"}} {i}").unwrap();
        }
        text
    });
    let home = Home::new(&format!(
        "global: {{scrape_interval: 10s, scrape_timeout: 10s}}\n\
         scrape_configs: [{{job_name: big, static_configs: [{{targets: ['{}']}}]}}]\n",
        target.address()
    ));
    let server = home.start(&["--query.max-samples=150000"]);
    until("all series", || server.value("count(big)").filter(|n| *n == N_SERIES as f64));
    let everything = "{__name__!=\"\"}";
    let t = now();
    assert!(server.query_text(everything, t).len() > N_SERIES * 40);
    assert!(server.value(&format!("count({everything})")).unwrap() > N_SERIES as f64);
    let (start, end) = (format!("{:.3}", t - 600.0), format!("{t:.3}"));
    let parameters = [("query", everything), ("start", start.as_str()), ("end", end.as_str()), ("step", "1")];
    let (status, text) = error(&server, "/api/v1/query_range", &parameters);
    assert_eq!(status, 422, "{text}");
    assert!(
        text == "query processing would load too many samples into memory in query execution"
            || text.contains("bytes of memory"),
        "{text}"
    );
    assert_eq!(server.value("vector(1)"), Some(1.0));
}

#[test]
fn rules_are_on_time_while_many_ask_much() {
    let home = Home::new("rule_files: [rules.yml]\n");
    let rules =
        "groups:\n- name: g\n  interval: 2s\n  rules:\n  - {record: tick, expr: 'sum(vector(time()))'}\n";
    home.write("rules.yml", rules);
    let server = home.start(&["--query.timeout=1m"]);
    until_true("the rule to run", || server.value("tick").is_some());
    let waiting: Vec<_> = (0..200).map(|_| sent(&server, HEAVY)).collect();
    until_active(&home, HEAVY);
    let (began, t) = (Instant::now(), now());
    std::thread::sleep(Duration::from_secs(12));
    assert!(active(&home).contains(HEAVY), "they are still at it");
    let missed = || {
        let (_, body) = server.get("/metrics");
        let line = body.lines().find(|l| l.starts_with("prometheus_rule_group_iterations_missed_total{"));
        line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).unwrap()
    };
    assert_eq!(missed(), 0.0);
    drop(waiting);
    // Everybody is gone, and so are their queries: also those that had no turn yet.
    let expr = format!("count_over_time(tick[{}s])", began.elapsed().as_secs());
    let n = until("an answer", || server.value(&expr));
    assert!(n >= 5.0, "{n} evaluations in {:?} since {t}", began.elapsed());
    until_true("all queries to end", || !active(&home).contains(HEAVY));
    assert!(server.metric("prometheus_engine_queries").unwrap() <= 1.0);
}

#[test]
fn ended_queries_are_logged_where_the_configuration_says() {
    let config = "global: {query_log_file: logs/q.log}\nrule_files: [rules.yml]\n";
    let home = Home::new(config);
    home.write("rules.yml", "groups: [{name: g, interval: 1s, rules: [{record: x, expr: 1 + 2}]}]\n");
    let server = home.start(&[]);
    assert_eq!(server.metric("prometheus_engine_query_log_enabled"), Some(1.0));
    server.query_range("vector(1) < 2", 1_000.0, 1_060.0, "30");
    let log = || std::fs::read_to_string(home.path("logs/q.log")).unwrap();
    let line = |what: &str| {
        let line = until("a line of the log", || log().lines().find(|l| l.contains(what)).map(str::to_owned));
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let ours = line("\"path\":\"/api/v1/query_range\"");
    assert_eq!(ours["params"]["query"], "vector(1) < 2");
    assert_eq!(ours["params"]["start"], "1970-01-01T00:16:40.000Z");
    assert_eq!(ours["params"]["step"], 30);
    assert_eq!(ours["httpRequest"]["clientIP"], "127.0.0.1");
    assert_eq!(ours["httpRequest"]["method"], "GET");
    let rule = line("ruleGroup");
    assert_eq!((&rule["params"]["query"], &rule["ruleGroup"]["name"]), (&"1 + 2".into(), &"g".into()));
    home.write("prometheus.yml", "rule_files: [rules.yml]\n");
    assert_eq!(server.form("/-/reload", &[]).0, 200);
    assert_eq!(server.metric("prometheus_engine_query_log_enabled"), Some(0.0));
    let before = log().len();
    server.query("7 + 7", now());
    assert_eq!(log().len(), before);
}

#[test]
fn features_of_the_language_are_off_until_enabled() {
    let target = Scripted::target(|| "# TYPE c counter\nc_total 1\nd_total 2\ng{x=\"1\"} 3\n".to_owned());
    let home = Home::new(&format!(
        "global: {{scrape_interval: 300ms, scrape_timeout: 300ms}}\n\
         scrape_configs: [{{job_name: t, static_configs: [{{targets: ['{}']}}]}}]\n",
        target.address()
    ));
    let by_feature = [
        ("promql-experimental-functions", "limitk(1, g)"),
        ("promql-experimental-functions", "mad_over_time(g[5s])"),
        ("promql-extended-range-selectors", "increase(c_total[5s] anchored)"),
        ("promql-binop-fill-modifiers", "g + on (nothing) fill(0) vector(1)"),
        (
            "promql-delayed-name-removal",
            "label_replace(rate({__name__=~\"._total\"}[5s]), \"kind\", \"$1\", \"__name__\", \"(.)_total\")",
        ),
    ];
    let answers = |server: &Server, query: &str| server.form("/api/v1/query", &[("query", query)]).0;
    let plain = home.start(&[]);
    until_true("samples", || plain.value("count_over_time(g[5s])").is_some_and(|n| n > 3.0));
    for (feature, query) in by_feature {
        assert!([400, 422].contains(&answers(&plain, query)), "{feature}: {query} is off");
    }
    // Always on.
    assert_eq!(answers(&plain, "sum_over_time(g[1s + 2s])"), 200);
    let steps = |server: &Server| {
        let end = now();
        let (start, end) = (format!("{:.3}", end - 4.0), format!("{end:.3}"));
        let range = [("query", "g"), ("start", &start), ("end", &end), ("step", "1"), ("stats", "all")];
        server.data("/api/v1/query_range", &range)["stats"]["samples"]["totalQueryableSamplesPerStep"].take()
    };
    assert!(steps(&plain).is_null());
    plain.stop();
    let mut names: Vec<_> = by_feature.iter().map(|(feature, _)| *feature).collect();
    names.extend(["promql-duration-expr", "promql-per-step-stats", "use-start-timestamps"]);
    let enabled = home.start(&[&format!("--enable-feature={}", names.join(","))]);
    assert_eq!(enabled.process.logged("unknown feature"), None);
    until_true("samples", || enabled.value("count_over_time(g[5s])").is_some_and(|n| n > 3.0));
    for (feature, query) in by_feature {
        assert_eq!(answers(&enabled, query), 200, "{feature}: {query} is on");
    }
    assert_eq!(steps(&enabled).as_array().map(Vec::len), Some(5));
}

#[test]
fn an_explained_query_is_not_run() {
    let home = Home::new(EMPTY);
    let server = home.start(&[]);
    let told = server.data("/api/v1/explain_query", &[("query", &format!("1 + 2 * {HEAVY}"))]);
    let told = told.as_str().unwrap();
    assert!(told.starts_with("vector + scalar\n"), "{told}");
    assert!(told.contains("pass constant-folding: "), "{told}");
    let mut answer = String::new();
    let mut stream = sent(&server, "up{");
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // The connection stays open behind the answer.
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("400 Bad Request"), "{answer}");
}
