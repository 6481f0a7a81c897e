//! A new configuration is taken over while everything that it does not change goes on.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::process::{Home, now, until_true};
use crate::scripted::{Scripted, answer};

/// Counts its scrapes.
fn counting() -> Scripted {
    let scrapes = AtomicU32::new(0);
    Scripted::target(move || format!("n {}\n", scrapes.fetch_add(1, Ordering::Relaxed)))
}

fn job(name: &str, target: &Scripted) -> String {
    format!("  - {{job_name: {name}, static_configs: [{{targets: ['{}']}}]}}\n", target.address())
}

const HEAD: &str = "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n\
                    rule_files: [rules.yml]\nscrape_configs:\n";

fn rules(name: &str, factor: u32) -> String {
    format!("groups: [{{name: g, rules: [{{record: '{name}', expr: 'n{{job=\"keeps\"}} * {factor}'}}]}}]\n")
}

#[test]
fn a_reload_adds_and_removes_jobs_and_changes_rules_without_a_gap_elsewhere() {
    let (keeps, goes, comes) = (counting(), counting(), counting());
    let home = Home::new(&[HEAD, &job("keeps", &keeps), &job("goes", &goes)].concat());
    home.write("rules.yml", &rules("doubled", 2));
    let server = home.start(&[]);
    until_true("the first rule and both jobs", || {
        server.value("doubled").is_some_and(|v| v > 4.0) && server.value("n{job=\"goes\"}").is_some()
    });
    assert_eq!(server.metric("prometheus_config_last_reload_successful"), Some(1.0));

    home.write("prometheus.yml", &[HEAD, &job("keeps", &keeps), &job("comes", &comes)].concat());
    home.write("rules.yml", &rules("tripled", 3));
    server.process.signal(Signal::HUP);
    until_true("the new job and the new rule", || {
        server.value("n{job=\"comes\"}").is_some_and(|n| n >= 2.0) && server.value("tripled").is_some()
    });
    until_true("the series of the removed job and rule to end", || {
        server.value("n{job=\"goes\"}").is_none() && server.value("doubled").is_none()
    });
    assert!(server.target("goes").is_none());
    let rules = server.data("/api/v1/rules", &[]);
    assert_eq!(rules["groups"][0]["rules"][0]["name"], "tripled");

    // Reloading what has not changed changes nothing.
    for _ in 0..3 {
        let (status, body) = server.post("/-/reload", &serde_json::Value::Null);
        assert_eq!((status, body.as_str()), (200, ""));
    }
    let seen = server.value("n{job=\"keeps\"}").unwrap();
    until_true("more scrapes", || server.value("n{job=\"keeps\"}").is_some_and(|n| n >= seen + 4.0));
    let data = server.query("n{job=\"keeps\"}[10m]", now());
    let values: Vec<f64> = data["result"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair[1].as_str().unwrap().parse().unwrap())
        .collect();
    // Every answer of the target was stored once; a stale marker would have made the instant query miss.
    let counted: Vec<f64> = (0..values.len()).map(|i| values[0] + i as f64).collect();
    assert_eq!(values, counted, "scrapes of the job that stays were lost");
    let end = data["result"][0]["values"].as_array().unwrap().last().unwrap()[0].as_f64().unwrap();
    let start = data["result"][0]["values"][0][0].as_f64().unwrap();
    let steps = server.query_range("n{job=\"keeps\"}", start, end, "100ms");
    let n_steps = ((end - start) / 0.1).floor() as usize + 1;
    let n_found = steps["result"][0]["values"].as_array().unwrap().len();
    assert!(n_found + 1 >= n_steps, "{} of {n_steps} steps have no value", n_steps - n_found);
    server.stop();
}

/// Counts its scrapes and notes who asks.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Vec<SocketAddr>>>);

impl Watched {
    fn target(&self) -> Scripted {
        let seen = self.clone();
        Scripted::raw(move |_, stream| {
            let n = {
                let mut scrapes = seen.0.lock().unwrap();
                scrapes.push(stream.peer_addr()?);
                scrapes.len()
            };
            answer(stream, 200, "text/plain; version=0.0.4", &format!("n {n}\nm{{a=\"b\"}} 1\n"))
        })
    }

    fn scrapes(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap().clone()
    }
}

/// The raw samples of one series, in order.
fn samples(server: &crate::process::Server, selector: &str) -> Vec<(f64, f64)> {
    let data = server.query(&format!("{selector}[10m]"), now());
    let pairs = data["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let pair =
        |pair: &serde_json::Value| (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().parse().unwrap());
    pairs.iter().map(pair).collect()
}

#[test]
fn a_reload_that_changes_one_job_disturbs_no_other() {
    const HEAD: &str = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n";
    // How the other job changes: in what it keeps, in what its series are called, in how it asks, in whom it asks.
    const CHANGES: [&str; 6] = [
        "sample_limit: 100",
        "metric_relabel_configs: [{target_label: x, replacement: y}]",
        "honor_labels: true",
        "basic_auth: {username: u, password: p}",
        "params: {a: [b]}",
        "scrape_timeout: 500ms",
    ];
    let (kept, changed) = (Watched::default(), Watched::default());
    let (keeps, changes) = (kept.target(), changed.target());
    let config = |change: &str, extra: &str| {
        let address = changes.address();
        [
            HEAD,
            &format!("  - {{job_name: changes, static_configs: [{{targets: ['{address}']}}], {change}}}\n"),
            &job("keeps", &keeps),
            extra,
        ]
        .concat()
    };
    let home = Home::new(&config("sample_limit: 50", ""));
    let server = home.start(&[]);
    until_true("scrapes of both", || kept.scrapes().len() >= 2 && changed.scrapes().len() >= 2);
    for (i, change) in CHANGES.iter().enumerate() {
        // Every second time a job comes or goes as well.
        let extra = if i % 2 == 0 { job("extra", &changes) } else { String::new() };
        home.write("prometheus.yml", &config(change, &extra));
        let (status, body) = server.post("/-/reload", &serde_json::Value::Null);
        assert_eq!((status, body.as_str()), (200, ""), "{change}");
        let (n_kept, n_changed) = (kept.scrapes().len(), changed.scrapes().len());
        until_true("scrapes after a reload", || {
            kept.scrapes().len() >= n_kept + 2 && changed.scrapes().len() >= n_changed + 2
        });
    }
    let scrapes = kept.scrapes();
    let connections: HashSet<_> = scrapes.iter().copied().collect();
    assert_eq!(connections.len(), 1, "the connection was made anew");

    until_true("the last scrape to be stored", || {
        samples(&server, "n{job=\"keeps\"}").len() >= scrapes.len()
    });
    let stored = samples(&server, "n{job=\"keeps\"}");
    let counted: Vec<f64> = (1..=stored.len()).map(|n| n as f64).collect();
    assert_eq!(stored.iter().map(|(_, v)| *v).collect::<Vec<_>>(), counted, "a scrape was lost");
    // The cache knows the series since the first scrape.
    let added: Vec<f64> =
        samples(&server, "scrape_series_added{job=\"keeps\"}").iter().map(|(_, v)| *v).collect();
    assert_eq!(added[0], 2.0);
    assert!(added[1..].iter().all(|n| *n == 0.0), "{added:?}");
    // A marker of staleness would leave a hole up to the next sample.
    let (start, end) = (stored[0].0, stored[stored.len() - 1].0);
    let steps = server.query_range("m{job=\"keeps\"}", start, end, "50ms");
    let n_steps = ((end - start) / 0.05).floor() as usize + 1;
    let n_found = steps["result"][0]["values"].as_array().unwrap().len();
    assert!(n_found + 1 >= n_steps, "{} of {n_steps} steps have no value", n_steps - n_found);
    server.stop();
}

#[test]
fn changed_files_are_taken_over_without_being_asked() {
    let (first, second) = (counting(), counting());
    let home = Home::new(&[HEAD, &job("first", &first)].concat());
    home.write("rules.yml", &rules("doubled", 2));
    let server = home.start(&["--config.auto-reload", "--config.auto-reload-interval=1s"]);
    until_true("the first job", || server.value("n{job=\"first\"}").is_some());
    let reloads = || server.process.log().matches("change detected").count();
    assert_eq!(reloads(), 0, "nothing changed yet");

    // A file that cannot be used is tried again until it can.
    home.write("prometheus.yml", "nonsense: 1\n");
    until_true("two attempts", || reloads() >= 2);
    assert_eq!(server.metric("prometheus_config_last_reload_successful"), Some(0.0));
    home.write("prometheus.yml", &[HEAD, &job("second", &second)].concat());
    until_true("the second job", || server.value("n{job=\"second\"}").is_some());
    assert_eq!(server.metric("prometheus_config_last_reload_successful"), Some(1.0));

    // Files that the main one names count as well.
    home.write("rules.yml", &rules("tripled", 3));
    until_true("the new rule", || {
        server.data("/api/v1/rules", &[])["groups"][0]["rules"][0]["name"] == "tripled"
    });
    server.stop();
}
