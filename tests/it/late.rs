//! Samples that come late: refused until the window for them is opened, kept over a kill, and shared with the reference
//! server.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::process::{Home, Server, now, pairs, peer, until_true};
use crate::scripted::Scripted;

/// Tells its newest sample first, then an older one with every scrape.
fn target(newest_ms: i64) -> Scripted {
    let scrapes = AtomicU32::new(0);
    Scripted::target(move || {
        let n = scrapes.fetch_add(1, Ordering::Relaxed);
        format!("late {n} {}\n", newest_ms - i64::from(n) * 1700)
    })
}

fn config(target: &Scripted, window: &str) -> String {
    format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\n\
         scrape_configs: [{{job_name: late, static_configs: [{{targets: ['{}']}}]}}]\n\
         storage: {{tsdb: {{out_of_order_time_window: {window}}}}}\n",
        target.address()
    )
}

#[test]
fn late_samples_are_taken_once_a_reload_allows_them_and_outlive_a_kill() {
    let newest_ms = (now() * 1000.0) as i64;
    let target = target(newest_ms);
    let home = Home::new(&config(&target, "0s"));
    let server = home.start(&[]);
    let refused = "prometheus_target_scrapes_sample_out_of_order_total";
    until_true("late samples to be refused", || server.metric(refused).is_some_and(|n| n >= 5.0));
    assert_eq!(server.value("count_over_time(late[30m])"), Some(1.0));

    home.write("prometheus.yml", &config(&target, "30m"));
    server.process.signal(Signal::HUP);
    // More than one chunk of them is full.
    until_true("late samples", || server.value("count_over_time(late[30m])").is_some_and(|n| n >= 80.0));
    let taken = "prometheus_tsdb_head_out_of_order_samples_appended_total{type=\"float\"}";
    assert!(server.metric(taken).is_some_and(|n| n >= 79.0));
    assert_eq!(server.metric("prometheus_tsdb_too_old_samples_total{type=\"float\"}"), Some(0.0));
    let end = now();
    let all = |server: &Server| pairs(&server.query("late[30m]", end));
    let before = all(&server);
    server.kill();
    drop(target);

    let kept = |after: &Server, by: &str| {
        let after = all(after);
        let (series, samples) = before.iter().next().unwrap();
        let lost: Vec<_> = samples.iter().filter(|pair| !after[series].contains(pair)).collect();
        assert!(lost.is_empty(), "{by} lost {lost:?}");
    };
    let server = home.start(&[]);
    kept(&server, "a kill");
    server.kill();
    let test = "late_samples_are_taken_once_a_reload_allows_them_and_outlive_a_kill";
    let Some(prometheus) = peer("prometheus", test) else { return };
    let server = home.start_peer(&prometheus, &[]);
    kept(&server, "prometheus");
    server.stop();
    let server = home.start(&[]);
    kept(&server, "the way back");
    server.stop();
}
