//! A new configuration is taken over while everything that it does not change goes on.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::process::{Home, now, until_true};
use crate::scripted::Scripted;

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
