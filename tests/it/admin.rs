//! The admin API and the tools, on a server that runs: deleting, copying, looking.

use std::fmt::Write;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::process::{Home, Server, now, peer, until_true};
use crate::scripted::Scripted;

fn counting() -> Scripted {
    let scrapes = AtomicU32::new(0);
    Scripted::target(move || {
        let n = scrapes.fetch_add(1, Ordering::Relaxed);
        (0..6).fold(String::new(), |mut text, i| {
            writeln!(text, "numbers_total{{i=\"{i}\"}} {}", n * (i + 1)).unwrap();
            text
        })
    })
}

fn config(target: &Scripted) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - {{job_name: script, static_configs: [{{targets: ['{}']}}]}}\n",
        target.address()
    )
}

fn act(server: &Server, path: &str) -> (u16, String) {
    server.post(&format!("/api/v1/admin/tsdb/{path}"), &Value::Null)
}

fn n_samples(server: &Server, selector: &str) -> f64 {
    server.value(&format!("sum(count_over_time({selector}[1h])) or vector(0)")).unwrap()
}

#[test]
fn the_admin_api_answers_as_that_of_prometheus() {
    let test = "the_admin_api_answers_as_that_of_prometheus";
    let Some(prometheus) = peer("prometheus", test) else { return };
    let target = counting();
    let homes = [Home::new(&config(&target)), Home::new(&config(&target))];
    let ask = |args: &[&str], requests: &[&str]| {
        let servers = [homes[0].start(args), homes[1].start_peer(&prometheus, args)];
        for server in &servers {
            until_true("something to be scraped", || n_samples(server, "numbers_total") > 12.0);
        }
        for request in requests {
            let [ours, theirs] = servers.each_ref().map(|server| act(server, request));
            assert_eq!(ours, theirs, "{request}");
        }
        let [ours, theirs] = servers.each_ref().map(|server| n_samples(server, "numbers_total{i=\"3\"}"));
        assert!(ours.min(theirs) < 3.0 || !args.contains(&"--web.enable-admin-api"), "{ours} and {theirs}");
        for server in servers {
            server.stop();
        }
    };
    ask(
        &[],
        &[
            "delete_series",
            "delete_series?match[]=up",
            "clean_tombstones",
            "snapshot",
            "snapshot?skip_head=x",
        ],
    );
    ask(
        &["--web.enable-admin-api"],
        &[
            "delete_series",
            "delete_series?match[]=",
            "delete_series?match[]=up&start=x",
            "delete_series?match[]=up&end=2020-13-01",
            "delete_series?match[]=up%7B",
            "delete_series?match[]=up&start=5&end=1",
            "delete_series?match[]=%7B%7D&start=1&end=2",
            "delete_series?match[]=absent",
            "clean_tombstones",
            "clean_tombstones?x=y",
            "snapshot?skip_head=x",
            "delete_series?match[]=numbers_total%7Bi=%223%22%7D",
        ],
    );
}

/// What a tool prints about a directory.
fn tool(args: &[&str], home: &Home, dir: &str) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_ferula"))
        .arg("tsdb")
        .args(args)
        .arg(home.path(dir))
        .output()
        .unwrap();
    assert!(run.status.success(), "{args:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn a_running_server_forgets_is_copied_and_looked_at() {
    let target = counting();
    let home = Home::new(&config(&target));
    let server = home.start(&["--web.enable-admin-api"]);
    until_true("something to be scraped", || n_samples(&server, "numbers_total{i=\"1\"}") > 5.0);
    let start = now() - 600.0;
    let path = format!("delete_series?match[]=numbers_total%7Bi=~%221%7C2%22%7D&start={start:.0}");
    assert_eq!(act(&server, &path), (204, String::new()));
    assert!(n_samples(&server, "numbers_total{i=~\"1|2\"}") < 5.0);
    assert!(n_samples(&server, "numbers_total{i=\"3\"}") > 5.0);

    // A tool looks at the directory while the server runs.
    let dumped = tool(&["dump", "--match=numbers_total{i=\"3\"}"], &home, "data");
    assert!(dumped.lines().count() > 5, "{dumped}");
    assert!(dumped.lines().all(|line| line.starts_with("{__name__=\"numbers_total\", i=\"3\"")), "{dumped}");
    assert!(tool(&["dump", "--match=numbers_total{i=\"1\"}"], &home, "data").lines().count() < 5);
    assert_eq!(tool(&["list"], &home, "data").lines().count(), 1);

    let (status, body) = act(&server, "snapshot");
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let name = answer["data"]["name"].as_str().unwrap();
    let copy = format!("data/snapshots/{name}");
    assert_eq!(name.len(), "20261121T172318Z-123121ee1c332bca".len(), "{name}");
    assert_eq!(tool(&["list"], &home, &copy).lines().count(), 2);
    assert!(tool(&["dump", "--match=numbers_total{i=\"3\"}"], &home, &copy).lines().count() > 5);
    assert_eq!(act(&server, "clean_tombstones"), (204, String::new()));
    server.kill();

    let server = home.start(&[]);
    assert!(n_samples(&server, "numbers_total{i=~\"1|2\"}") < n_samples(&server, "numbers_total{i=\"3\"}"));
    assert_eq!(act(&server, "snapshot").0, 500, "off without the flag");
    server.stop();
}
