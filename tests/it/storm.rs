//! Thousands of groups fire at once, the mail server is in a bad mood, and ours is killed in the middle: memory stays
//! bounded, every group is told, and none is told twice by two mails.
//!
//! `make storm` runs it with 20,000 alerts and prints the figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::mail::python;
use crate::process::{Home, Process, Server, until_true};

const ALERTMANAGER: &str = "
global: {smtp_smarthost: 'SMTP', smtp_from: 'ferula@example.org', smtp_require_tls: false, smtp_hello: localhost}
route: {receiver: mail, group_by: [group], group_wait: 1s, group_interval: 5m, repeat_interval: 4h}
receivers:
  - name: mail
    email_configs: [{to: 'ops@example.org'}]
";

/// What the mail server does: greylists, hangs up, refuses for now, and does not even begin.
const MOOD: [&str; 11] = [
    "--greylist",
    "--greylist-share",
    "0.1",
    "--drop",
    "0.003",
    "--refuse-share",
    "0.05",
    "--busy",
    "0.05",
    "--slow",
    "0.002",
];

/// Alerts in a post.
const BATCH: usize = 500;
/// Alerts of a group.
const OF_A_GROUP: usize = 2;

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// One delivery: Message-ID and the hash of the group, and how many connections there were at most until then.
struct Told {
    id: String,
    group: String,
    most_open: usize,
}

fn told(log: &Path) -> Vec<Told> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let told = lines.map(|line| {
        let fields: Vec<_> = line.split('\t').collect();
        Told { id: fields[1].to_owned(), group: fields[2].to_owned(), most_open: fields[3].parse().unwrap() }
    });
    told.collect()
}

fn groups(told: &[Told]) -> usize {
    told.iter().map(|told| &told.group).collect::<BTreeSet<_>>().len()
}

/// Megabytes of memory of its own.
fn rss(server: &Server) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn post_all(server: &Server, alerts: &[Value]) {
    for batch in alerts.chunks(BATCH) {
        let (status, body) = server.post("/api/v2/alerts", &json!(batch));
        assert_eq!(status, 200, "{body}");
    }
}

/// Waits until so many groups are told; the most memory seen.
fn wait_for(server: &Server, log: &Path, wanted: usize, patience: Duration) -> f64 {
    let deadline = Instant::now() + patience;
    let mut most = 0.0_f64;
    loop {
        most = most.max(rss(server));
        let reached = groups(&told(log));
        if reached >= wanted {
            return most;
        }
        assert!(Instant::now() < deadline, "{reached} of {wanted} groups told:\n{}", server.process.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_storm_loses_nothing_and_tells_nobody_twice() {
    let Some(python) = python("a_storm_loses_nothing_and_tells_nobody_twice") else { return };
    let n_alerts = number("FERULA_STORM_ALERTS").unwrap_or(600);
    let n_groups = n_alerts.div_ceil(OF_A_GROUP);
    let patience = Duration::from_secs(60 + n_groups as u64 / 10);
    let home = Home::new("{}");
    let log = home.path("told");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/smtp_server.py");
    let mut command = Command::new(python);
    command.arg(script).arg(home.path("inbox")).args(MOOD).arg("--append").arg(&log);
    let mut smtp = Process::spawn("aiosmtpd", &mut command);
    let smarthost = smtp.url().trim_start_matches("http://").to_owned();
    home.write("alertmanager.yml", &ALERTMANAGER.replace("SMTP", &smarthost));
    let start = || home.start(&["--alertmanager.config-file=alertmanager.yml"]);

    let now = jiff::Timestamp::now();
    let ends = now + jiff::SignedDuration::from_hours(2);
    let alert = |n: usize| {
        json!({
            "labels": {"alertname": "Storm", "group": format!("g{}", n / OF_A_GROUP), "instance": format!("i{n}")},
            "annotations": {"summary": format!("machine {n} is in the storm")},
            "startsAt": now.to_string(), "endsAt": ends.to_string(),
        })
    };
    let alerts: Vec<_> = (0..n_alerts).map(alert).collect();

    let began = Instant::now();
    let server = start();
    let idle = rss(&server);
    post_all(&server, &alerts);
    let posted = began.elapsed();
    let before = wait_for(&server, &log, n_groups / 3, patience);
    server.kill();
    let at_kill = groups(&told(&log));

    let server = start();
    // As a Prometheus does, which does not know what was lost.
    post_all(&server, &alerts);
    let after = wait_for(&server, &log, n_groups, patience);
    let took = began.elapsed();
    until_true("the outbox to be empty", || server.metric("ferula_email_queued") == Some(0.0));
    // What would come twice comes now.
    std::thread::sleep(Duration::from_secs(3));

    let told = told(&log);
    let mut ids: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for told in &told {
        *ids.entry(&told.group).or_default().entry(&told.id).or_default() += 1;
    }
    let two_mails = ids.values().filter(|ids| ids.len() > 1).count();
    let same_mail_again = ids.values().flat_map(BTreeMap::values).filter(|n| **n > 1).count();
    let most_open = told.last().map_or(0, |told| told.most_open);
    let (_, metrics) = server.get("/metrics");
    let deferred: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("ferula_email_deferred_total")).collect();
    // Not `println!`: what that says of a test that passes nobody gets to see.
    eprintln!(
        "storm: {n_alerts} alerts in {n_groups} groups posted in {:.1} s, {at_kill} groups told at the kill -9, all after \
         {:.1} s; {} mails, {two_mails} groups with two, {same_mail_again} mails accepted twice under one Message-ID; at most \
         {most_open} sessions; RssAnon {idle:.0} MB idle, {before:.0} MB before and {after:.0} MB after the kill; {deferred:?}",
        posted.as_secs_f64(),
        took.as_secs_f64(),
        told.len(),
    );
    assert_eq!(ids.len(), n_groups);
    assert_eq!(two_mails, 0, "groups with two mails");
    // Accepted while the connection broke, or the process died: that is not known to anybody.
    assert!(same_mail_again <= 4 + n_groups / 50, "{same_mail_again} mails accepted twice");
    // Four sessions, and one that is just ending for each.
    assert!(most_open <= 8, "{most_open} sessions at once");
    let bound = 150.0 + n_alerts as f64 * 0.02;
    assert!(before.max(after) < bound, "{before:.0} and {after:.0} MB are more than {bound:.0}");
    server.stop();
}
