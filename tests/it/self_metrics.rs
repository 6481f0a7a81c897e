//! What the server says of itself: the same families as the reference server, and all that the Prometheus mixin asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Home, Server, now, peer, until_true};
use crate::scripted::Scripted;

/// Families of the reference server that ours leaves out on purpose, by the beginning of their names, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("go_", "the runtime of Go; the number of goroutines and of threads is shown, for dashboards"),
    ("prometheus_remote_storage_", "of the sender of remote write, which there is not"),
    ("prometheus_sd_linode_", "no such discovery"),
    ("prometheus_treecache_", "no discovery by ZooKeeper"),
];

/// What a release of 2025 has otherwise: help texts and labels that changed since.
const OTHERWISE_IN_3_5: &[&str] = &[
    "prometheus_engine_query_samples_total",
    "prometheus_notifications_dropped_total",
    "prometheus_notifications_queue_length",
    "prometheus_sd_refresh_duration_seconds",
    "prometheus_sd_refresh_failures_total",
];

/// What can be compared of a family.
#[derive(Debug, Default, PartialEq)]
struct Family {
    help: String,
    kind: String,
    /// The names of the labels of each series, those of buckets and quantiles aside.
    labels: BTreeSet<Vec<String>>,
    /// Buckets or quantiles.
    bounds: BTreeSet<String>,
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (of, help) = rest.split_once(' ').unwrap();
            of.clone_into(&mut name);
            help.clone_into(&mut families.entry(name.clone()).or_default().help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (of, kind) = rest.split_once(' ').unwrap();
            of.clone_into(&mut name);
            kind.clone_into(&mut families.entry(name.clone()).or_default().kind);
        } else {
            let family = families.get_mut(&name).unwrap();
            let mut labels = Vec::new();
            let mut rest = line.split_once('{').map_or("", |(_, rest)| rest);
            while let Some((label, behind)) = rest.split_once("=\"") {
                let end = (0..behind.len())
                    .find(|&i| behind.as_bytes()[i] == b'"' && !behind[..i].ends_with('\\'))
                    .unwrap();
                let label = label.trim_start_matches(',');
                if label == "le" || label == "quantile" {
                    family.bounds.insert(behind[..end].to_owned());
                } else {
                    labels.push(label.to_owned());
                }
                rest = &behind[end + 1..];
            }
            family.labels.insert(labels);
        }
    }
    families
}

#[test]
fn families_are_those_of_the_reference_server() {
    let test = "families_are_those_of_the_reference_server";
    let Some(old) = peer("prometheus", test) else { return };
    let new = old.with_file_name("prometheus-next");
    let (program, is_old): (PathBuf, bool) = if new.exists() { (new, false) } else { (old, true) };
    let (alertmanager, _alerts) = Scripted::receiver();
    let target = Scripted::target(|| "# HELP m M.\n# TYPE m gauge\nm 1\n".to_owned());
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
         storage: {{exemplars: {{max_exemplars: 10}}}}\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n\
         rule_files: [rules.yml]\n\
         scrape_configs:\n\
         - {{job_name: static, static_configs: [{{targets: ['{}']}}]}}\n\
         - {{job_name: file, file_sd_configs: [{{files: [targets.json]}}]}}\n\
         - {{job_name: http, http_sd_configs: [{{url: 'http://127.0.0.1:1/', refresh_interval: 1s}}]}}\n",
        alertmanager.address(),
        target.address(),
    );
    let start = |home: &Home| {
        home.write("targets.json", &format!("[{{\"targets\": [\"{}\"]}}]", target.address()));
        home.write(
            "rules.yml",
            "groups: [{name: g, rules: [{record: r, expr: up}, {alert: A, expr: vector(1), annotations: {a: '{{ $value }}'}}]}]\n",
        );
    };
    let (home, peer_home) = (Home::new(&config), Home::new(&config));
    start(&home);
    start(&peer_home);
    let args = ["--enable-feature=exemplar-storage,extra-scrape-metrics"];
    let server = home.start(&args);
    let reference = peer_home.start_peer(&program, &[args[0], "--scrape.discovery-reload-interval=1s"]);
    let text = |server: &Server| {
        let is_whole = |text: &str| {
            ["prometheus_target_interval_length_seconds_count{", "prometheus_notifications_sent_total{"]
                .iter()
                .all(|name| text.contains(name))
                && !text.contains("prometheus_rule_evaluations_total{rule_group=\"\"} 0")
        };
        until_true("scrapes and alerts", || is_whole(&server.get("/metrics").1));
        server.get("/api/v1/query?query=up");
        server.get("/metrics").1
    };
    let (ours, theirs) = (families(&text(&server)), families(&text(&reference)));
    let mut wrong = Vec::new();
    for (name, expected) in &theirs {
        let Some(found) = ours.get(name) else {
            if !LEFT_OUT.iter().any(|(beginning, _)| name.starts_with(beginning)) {
                wrong.push(format!("{name} is missing: {expected:?}"));
            }
            continue;
        };
        if !(found == expected || is_old && OTHERWISE_IN_3_5.contains(&name.as_str())) {
            wrong.push(format!("{name}:\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(theirs.len() > 180, "{}", theirs.len());

    // In protobuf and as JSON, the same families; and one by its name.
    let (_, listed) =
        server.get("/api/v1/status/self_metrics?metric_name_pattern=prometheus_(build_info|ready)");
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let names: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["prometheus_build_info", "prometheus_ready"]);
    assert_eq!(
        server.get("/metrics?name[]=prometheus_ready&name[]=nothing").1,
        "# HELP prometheus_ready Whether Prometheus startup was fully completed and the server is ready for normal operation.\n\
         # TYPE prometheus_ready gauge\nprometheus_ready 1\n"
    );
    let (status, refused) = server.get("/api/v1/status/self_metrics?metric_name_pattern=%5B");
    assert_eq!((status, refused), reference_refusal(&reference, is_old));
}

/// What the reference server says to a pattern that does not compile; 3.5 has no such endpoint.
fn reference_refusal(reference: &Server, is_old: bool) -> (u16, String) {
    if is_old {
        let text = "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid metric_name_pattern: error parsing regexp: missing closing ]: `[)$`\"}";
        return (400, text.to_owned());
    }
    reference.get("/api/v1/status/self_metrics?metric_name_pattern=%5B")
}

/// What the alerts and the dashboards of the mixin select, with the labels that they group by or select on. What is of
/// the sender of remote write is left out: without one the reference server has none of it either.
const MIXIN: &[(&str, &[&str])] = &[
    ("prometheus_build_info", &["version"]),
    ("process_start_time_seconds", &[]),
    ("prometheus_config_last_reload_successful", &[]),
    ("prometheus_engine_queries", &[]),
    ("prometheus_engine_queries_concurrent_max", &[]),
    ("prometheus_engine_query_duration_seconds", &["slice", "quantile"]),
    ("prometheus_engine_query_duration_seconds_count", &["slice"]),
    ("prometheus_notifications_alertmanagers_discovered", &[]),
    ("prometheus_notifications_errors_total", &["alertmanager"]),
    ("prometheus_notifications_queue_capacity", &[]),
    ("prometheus_notifications_queue_length", &[]),
    ("prometheus_notifications_sent_total", &["alertmanager"]),
    ("prometheus_rule_evaluation_failures_total", &["rule_group"]),
    ("prometheus_rule_group_iterations_missed_total", &["rule_group"]),
    ("prometheus_rule_group_rules", &["rule_group"]),
    ("prometheus_sd_discovered_targets", &["config", "name"]),
    ("prometheus_sd_kubernetes_failures_total", &[]),
    ("prometheus_sd_refresh_failures_total", &["mechanism"]),
    ("prometheus_target_interval_length_seconds_count", &["interval"]),
    ("prometheus_target_interval_length_seconds_sum", &["interval"]),
    ("prometheus_target_metadata_cache_entries", &["scrape_job"]),
    ("prometheus_target_scrape_pool_exceeded_label_limits_total", &[]),
    ("prometheus_target_scrape_pool_exceeded_target_limit_total", &[]),
    ("prometheus_target_scrapes_exceeded_body_size_limit_total", &[]),
    ("prometheus_target_scrapes_exceeded_sample_limit_total", &[]),
    ("prometheus_target_scrapes_sample_duplicate_timestamp_total", &[]),
    ("prometheus_target_scrapes_sample_out_of_bounds_total", &[]),
    ("prometheus_target_scrapes_sample_out_of_order_total", &[]),
    ("prometheus_target_sync_failed_total", &["scrape_job"]),
    ("prometheus_target_sync_length_seconds_sum", &["scrape_job"]),
    ("prometheus_tsdb_clean_start", &[]),
    ("prometheus_tsdb_compactions_failed_total", &[]),
    ("prometheus_tsdb_head_chunks", &[]),
    ("prometheus_tsdb_head_samples_appended_total", &["type"]),
    ("prometheus_tsdb_head_series", &[]),
    ("prometheus_tsdb_reloads_failures_total", &[]),
    ("prometheus_tsdb_wal_segment_current", &[]),
    ("up", &[]),
];

/// Conditions of the mixin's alerts that the test makes true, over seconds in place of minutes; `X` selects the server.
const ALERTS: &[(&str, &str)] = &[
    ("PrometheusSDRefreshFailure", "increase(prometheus_sd_refresh_failures_total{X}[4s]) > 0"),
    ("PrometheusKubernetesListWatchFailures", "increase(prometheus_sd_kubernetes_failures_total{X}[9s]) > 0"),
    (
        "PrometheusErrorSendingAlertsToSomeAlertmanagers",
        "(rate(prometheus_notifications_errors_total{X}[4s]) / rate(prometheus_notifications_sent_total{X}[4s])) * 100 > 1",
    ),
    (
        "PrometheusErrorSendingAlertsToAnyAlertmanager",
        "min without (alertmanager) (rate(prometheus_notifications_errors_total{X,alertmanager!~``}[4s]) / rate(prometheus_notifications_sent_total{X,alertmanager!~``}[4s])) * 100 > 3",
    ),
    (
        "PrometheusDuplicateTimestamps",
        "rate(prometheus_target_scrapes_sample_duplicate_timestamp_total{X}[4s]) > 0",
    ),
    (
        "PrometheusOutOfOrderTimestamps",
        "rate(prometheus_target_scrapes_sample_out_of_order_total{X}[4s]) > 0",
    ),
    ("PrometheusRuleFailures", "increase(prometheus_rule_evaluation_failures_total{X}[4s]) > 0"),
    (
        "PrometheusMissingRuleEvaluations",
        "increase(prometheus_rule_group_iterations_missed_total{X}[4s]) > 0",
    ),
    (
        "PrometheusTargetLimitHit",
        "increase(prometheus_target_scrape_pool_exceeded_target_limit_total{X}[4s]) > 0",
    ),
    (
        "PrometheusLabelLimitHit",
        "increase(prometheus_target_scrape_pool_exceeded_label_limits_total{X}[4s]) > 0",
    ),
    (
        "PrometheusScrapeBodySizeLimitHit",
        "increase(prometheus_target_scrapes_exceeded_body_size_limit_total{X}[4s]) > 0",
    ),
    (
        "PrometheusScrapeSampleLimitHit",
        "increase(prometheus_target_scrapes_exceeded_sample_limit_total{X}[4s]) > 0",
    ),
    ("PrometheusTargetSyncFailure", "increase(prometheus_target_sync_failed_total{X}[4s]) > 0"),
];

#[test]
fn the_mixin_works_unchanged() {
    let plain = Scripted::target(|| "# TYPE m gauge\nm{a=\"1\",b=\"2\"} 1\nn 1\n".to_owned());
    let twice = Scripted::target(|| "twice 1\ntwice 2\n".to_owned());
    let (begun, n) = (now(), AtomicU32::new(0));
    let backwards = Scripted::target(move || {
        let n = f64::from(n.fetch_add(1, Ordering::Relaxed));
        format!("backwards 1 {:.0}\n", (begun - n) * 1000.0)
    });
    // The server's own address is not known before it has one.
    let config = |own: &str, alerting: &str| {
        format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             {alerting}\
             rule_files: [rules.yml]\n\
             scrape_configs:\n\
             - {{job_name: prometheus, static_configs: [{{targets: ['{own}']}}]}}\n\
             - {{job_name: protobuf, scrape_protocols: [PrometheusProto], static_configs: [{{targets: ['{own}']}}]}}\n\
             - {{job_name: twice, static_configs: [{{targets: ['{}']}}]}}\n\
             - {{job_name: backwards, static_configs: [{{targets: ['{}']}}]}}\n\
             - {{job_name: body, body_size_limit: 9B, static_configs: [{{targets: ['{plain}']}}]}}\n\
             - {{job_name: samples, sample_limit: 1, static_configs: [{{targets: ['{plain}']}}]}}\n\
             - {{job_name: labels, label_limit: 4, static_configs: [{{targets: ['{plain}']}}]}}\n\
             - {{job_name: targets, target_limit: 1, file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]}}\n\
             - {{job_name: http, http_sd_configs: [{{url: 'http://127.0.0.1:1/', refresh_interval: 1s}}]}}\n\
             - {{job_name: pods, kubernetes_sd_configs: [{{role: pod, api_server: 'http://127.0.0.1:1'}}]}}\n",
            twice.address(),
            backwards.address(),
            plain = plain.address(),
        )
    };
    let home = Home::new("{}");
    let targets = |n: u32| {
        let targets = format!("[\"not/an address\", \"{0}\", \"localhost:1\"]", plain.address());
        home.write("targets.json", &format!("[{{\"targets\": {targets}, \"labels\": {{\"n\": \"{n}\"}}}}]"));
    };
    targets(0);
    home.write(
        "rules.yml",
        "groups:\n\
         - {name: fails, rules: [{record: r, expr: 'up * on() up'}, {alert: A, expr: vector(1)}]}\n\
         - {name: fast, interval: 1ms, rules: [{record: s, expr: vector(1)}]}\n",
    );
    let server = home.start(&["--rules.alert.resend-delay=500ms"]);
    let alerting = "alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:1']}]}]}\n";
    home.write("prometheus.yml", &config(server.address(), alerting));
    let reload = |status: u16| assert_eq!(server.form("/-/reload", &[]).0, status);
    reload(200);
    let result = |expr: &str| server.query(expr, now())["result"].as_array().unwrap().clone();
    let select = |expr: &str| expr.replace('X', "job=\"prometheus\"");

    until_true("the server's own metrics", || {
        !result("prometheus_notifications_errors_total > 0").is_empty()
    });
    let mut n = 0;
    for (name, condition) in ALERTS {
        until_true(name, || {
            // Lists of targets are taken over again and again.
            n += 1;
            targets(n / 20);
            !result(&select(condition)).is_empty()
        });
    }
    for (name, labels) in MIXIN {
        let labels: String = labels.iter().map(|label| format!(",{label}!=\"\"")).collect();
        let selector = format!("{name}{{job=\"prometheus\"{labels}}}");
        // A scrape that took too long is no reason.
        until_true(&selector, || !result(&selector).is_empty());
    }

    // Text and protobuf tell the same.
    until_true("a scrape in protobuf", || !result("prometheus_ready{job=\"protobuf\"}").is_empty());
    for (one, other) in [("prometheus", "protobuf"), ("protobuf", "prometheus")] {
        let series = |job: &str| format!("count by (__name__, le, quantile) ({{job=\"{job}\"}})");
        let only = format!("{} unless {}", series(one), series(other));
        until_true(&format!("nothing to be only in {one}"), || result(&only).is_empty());
    }

    // Our own names follow the conventions.
    let mut lint = Command::new(env!("CARGO_BIN_EXE_ferula"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = server.get("/metrics").1;
    lint.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = lint.wait_with_output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap();
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains("ferula_")).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(text.contains("\nferula_"));

    // No Alertmanager, then a configuration that does not load.
    home.write("prometheus.yml", &config(server.address(), ""));
    reload(200);
    until_true("PrometheusNotConnectedToAlertmanagers", || {
        let lacks = "max_over_time(prometheus_notifications_alertmanagers_discovered{X}[2s]) < 1";
        !result(&select(lacks)).is_empty()
    });
    home.write("prometheus.yml", "global: {scrape_interval: never}\n");
    reload(500);
    until_true("PrometheusBadConfig", || {
        let is_bad = "max_over_time(prometheus_config_last_reload_successful{X}[2s]) == 0";
        !result(&select(is_bad)).is_empty()
    });
}
