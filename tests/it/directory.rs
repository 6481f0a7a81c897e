//! One data directory, two servers: what one of them wrote the other reads, and answers alike.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::process::{Home, Server, node_exporter, now, peer, until_true};
use crate::scripted::Scripted;

/// Says numbers that another scrape changes: counters that are reset, a histogram, a series that leaves.
fn target() -> Scripted {
    let scrapes = AtomicU32::new(0);
    Scripted::target(move || {
        let n = scrapes.fetch_add(1, Ordering::Relaxed);
        let mut text = String::from("# TYPE script_seconds histogram\n");
        let (mut count, shape) = (0, [1, 2, 5, 3, 1]);
        for (le, more) in ["0.1", "0.5", "1", "2.5", "+Inf"].iter().zip(shape) {
            count += more * n;
            writeln!(text, "script_seconds_bucket{{le=\"{le}\"}} {count}").unwrap();
        }
        writeln!(text, "script_seconds_sum {}\nscript_seconds_count {count}", f64::from(n) * 7.3).unwrap();
        for shard in 0..20 {
            writeln!(text, "script_total{{shard=\"{shard}\"}} {}", (n % 9) * (shard + 1)).unwrap();
            let wave = (f64::from(n + shard) / 3.0).sin() * 1e3;
            writeln!(text, "script_wave{{shard=\"{shard}\",text=\"é\\\"\\\\\"}} {wave}").unwrap();
        }
        if n < 6 {
            writeln!(text, "script_leaves {n}").unwrap();
        }
        if n.is_multiple_of(3) {
            text.push_str(
                "script_odd{is=\"NaN\"} NaN\nscript_odd{is=\"inf\"} +Inf\nscript_odd{is=\"small\"} 5e-324\n",
            );
        }
        text
    })
}

/// An expression, and whether it is asked over a range.
const QUERIES: [(&str, bool); 12] = [
    ("up", false),
    ("{__name__=~\"script_.+|up\"}[10m]", false),
    ("count by (__name__, job) ({job=~\".+\"})", false),
    ("sum by (shard) (rate(script_total[8s]))", false),
    ("histogram_quantile(0.9, sum by (le) (rate(script_seconds_bucket[10s])))", false),
    ("topk(3, max_over_time(script_wave[5s]))", false),
    ("script_wave", true),
    ("script_leaves or script_odd", true),
    ("sum without (shard) (increase(script_total[6s])) / 2", true),
    ("rate(script_seconds_sum[7s]) / rate(script_seconds_count[7s])", true),
    ("{__name__=~\"node_cpu_seconds_total|node_memory_MemTotal_bytes|old_.*\"}", true),
    (
        "label_replace(avg_over_time(script_wave{shard=~\"1.*\"}[4s]), \"n\", \"$1\", \"shard\", \"1(.*)\")",
        true,
    ),
];

/// The answers to all queries, about the 40 seconds before `end`. Instant vectors have no order.
fn answers(server: &Server, end: f64) -> Vec<Value> {
    let ask = |(expr, is_range): &(&str, bool)| {
        if *is_range {
            return server.query_range(expr, end - 40.0, end, "1s");
        }
        let mut data = server.query(expr, end);
        data["result"].as_array_mut().unwrap().sort_by_key(|series| series["metric"].to_string());
        data
    };
    QUERIES.iter().map(ask).collect()
}

fn assert_alike(ours: &[Value], theirs: &[Value], queries: &[(&str, bool)]) {
    for ((expr, _), (ours, theirs)) in queries.iter().zip(ours.iter().zip(theirs)) {
        let (n_ours, n_theirs) = (&ours["result"], &theirs["result"]);
        let (n_ours, n_theirs) = (n_ours.as_array().unwrap(), n_theirs.as_array().unwrap());
        for (a, b) in n_ours.iter().zip(n_theirs) {
            assert_eq!(a, b, "{expr}: ours and Prometheus' answer differ");
        }
        assert_eq!(n_ours.len(), n_theirs.len(), "{expr}: series of ours and of Prometheus");
        assert_eq!(ours["resultType"], theirs["resultType"], "{expr}");
    }
}

fn config(targets: &[(&str, &str)]) -> String {
    let mut text = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (job, address) in targets {
        writeln!(text, "  - {{job_name: {job}, static_configs: [{{targets: ['{address}']}}]}}").unwrap();
    }
    text
}

/// The blocks of a data directory.
fn n_blocks(data: &Path) -> usize {
    let entries = std::fs::read_dir(data).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().join("meta.json").exists()).count()
}

/// The time of the last sample of `job`.
fn last_scrape(server: &Server, job: &str) -> f64 {
    let data = server.query(&format!("timestamp(up{{job={job:?}}})"), now());
    data["result"][0]["value"][1].as_str().unwrap().parse().unwrap()
}

/// Scrapes for `n` scrapes with `args`, stops, and lets Prometheus answer from the same directory.
fn prometheus_reads_what_ferula_wrote(test: &str, args: &[&str], n: f64, blocks_min: usize) {
    let (Some(prometheus), Some(exporter)) = (peer("prometheus", test), peer("node_exporter", test)) else {
        return;
    };
    let (target, node) = (target(), node_exporter(&exporter, "127.0.0.1:0"));
    let home = Home::new(&config(&[("script", &target.address()), ("node", node.address())]));
    let server = home.start(args);
    until_true("enough to be scraped", || {
        server.value("count_over_time(up{job=\"script\"}[5m])").is_some_and(|count| count >= n)
            && n_blocks(&home.path("data")) >= blocks_min
    });
    // Not the last moment: nothing may be on its way.
    let end = last_scrape(&server, "script") - 1.0;
    let ours = answers(&server, end);
    server.stop();

    home.write("prometheus.yml", "{}");
    let theirs = home.start_peer(&prometheus, &["--storage.tsdb.retention.time=10y"]);
    assert_alike(&ours, &answers(&theirs, end), &QUERIES);
    assert!(theirs.process.logged("level=ERROR").is_none(), "{}", theirs.process.log());
    assert!(theirs.process.logged("level=WARN").is_none(), "{}", theirs.process.log());
    // And back, after Prometheus has had its hands in.
    theirs.stop();
    let again = home.start(&[]);
    assert_alike(&answers(&again, end), &ours, &QUERIES);
    assert!(n_blocks(&home.path("data")) >= blocks_min);
    again.stop();
}

#[test]
fn prometheus_reads_the_log_of_a_stopped_server() {
    prometheus_reads_what_ferula_wrote("prometheus_reads_the_log_of_a_stopped_server", &[], 15.0, 0);
}

#[test]
fn prometheus_reads_blocks_cut_under_scrape() {
    let args = [
        "--storage.tsdb.min-block-duration=8s",
        "--storage.tsdb.max-block-duration=24s",
        "--storage.tsdb.block-reload-interval=1s",
    ];
    prometheus_reads_what_ferula_wrote("prometheus_reads_blocks_cut_under_scrape", &args, 25.0, 2);
}

#[test]
fn ferula_reads_blocks_and_log_of_a_killed_prometheus() {
    let test = "ferula_reads_blocks_and_log_of_a_killed_prometheus";
    let (Some(prometheus), Some(promtool)) = (peer("prometheus", test), peer("promtool", test)) else {
        return;
    };
    let target = target();
    let home = Home::new(&config(&[("script", &target.address())]));
    let began = now();
    write_old_blocks(&home, &promtool, began);
    let n_old = n_blocks(&home.path("data"));
    assert!(n_old >= 2, "promtool wrote {n_old} blocks");

    let theirs = home.start_peer(&prometheus, &[]);
    until_true("enough to be scraped", || {
        theirs.value("count_over_time(up[5m])").is_some_and(|count| count >= 12.0)
    });
    let end = last_scrape(&theirs, "script") - 1.0;
    theirs.kill();

    home.write("prometheus.yml", "{}");
    let copy = Home::new("{}");
    let copied = Command::new("cp").arg("-r").arg(home.path("data")).arg(copy.path("data")).status();
    assert!(copied.unwrap().success());
    let ours = home.start(&[]);
    let theirs = copy.start_peer(&prometheus, &[]);
    assert_alike(&answers(&ours, end), &answers(&theirs, end), &QUERIES);
    // The blocks and the border between them and the log.
    let old = [("old_total", true), ("rate(old_total[10m])", true), ("sum by (n) (old_total)", true)];
    let ask = |server: &Server| -> Vec<Value> {
        old.iter().map(|(expr, _)| server.query_range(expr, began - 6.0 * 3600.0, end, "137s")).collect()
    };
    let (a, b) = (ask(&ours), ask(&theirs));
    assert!(!a[0]["result"].as_array().unwrap().is_empty(), "nothing of the blocks was found");
    assert_alike(&a, &b, &old);
    for path in ["/api/v1/labels", "/api/v1/label/__name__/values", "/api/v1/label/shard/values"] {
        assert_eq!(ours.json(path), theirs.json(path), "{path}");
    }
    assert!(ours.process.logged("level=ERROR").is_none(), "{}", ours.process.log());
    ours.stop();
}

/// Two series over the five hours before the last, a sample a minute.
fn write_old_blocks(home: &Home, promtool: &Path, now: f64) {
    let mut text = String::from("# TYPE old counter\n");
    for n in 0..2 {
        for minute in 0..300 {
            let time = now - 6.0 * 3600.0 + f64::from(minute) * 60.0;
            writeln!(text, "old_total{{n=\"{n}\"}} {} {time:.3}", minute * (n + 1)).unwrap();
        }
    }
    text.push_str("# EOF\n");
    home.write("old.txt", &text);
    let output = Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([home.path("old.txt"), home.path("data")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
