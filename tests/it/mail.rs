//! The whole thread: a machine is watched, dies, and somebody gets mail; it comes back, and they get mail again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Home, Process, node_exporter, now, peer, skipped, until, until_true};

const CONFIG: &str = "
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {site: here}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: node
    file_sd_configs: [{files: [targets/*.json]}]
";

const RULES: &str = "
groups:
  - name: nodes
    rules:
      - alert: NodeDown
        expr: up{job=\"node\"} == 0
        for: 2s
        labels: {severity: page}
        annotations: {summary: 'zone {{ $labels.zone }} has value {{ $value }}'}
      - alert: ZoneDown
        expr: sum by (zone) (up{job=\"node\"}) == 0
        for: 2s
        labels: {severity: ticket}
";

/// One group for all alerts of a name, and one for each zone.
const ALERTMANAGER: &str = "
global: {smtp_smarthost: 'SMTP', smtp_from: 'ferula@example.org', smtp_require_tls: false, smtp_hello: localhost}
route:
  receiver: mail
  group_by: [alertname]
  group_wait: 4s
  group_interval: 5s
  repeat_interval: 1h
  routes:
    - matchers: [alertname=ZoneDown]
      group_by: [alertname, zone]
receivers:
  - name: mail
    email_configs:
      - to: 'ops@example.org'
        send_resolved: true
        text: '{{ range .Alerts }}{{ .Status }}: {{ .Labels.alertname }} in {{ .Labels.zone }}: {{ .Annotations.summary }}
          {{ end }}'
";

/// The Python that has aiosmtpd, or word that the test is skipped.
pub(crate) fn python(test: &str) -> Option<PathBuf> {
    let target = || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("venv");
    let venv = std::env::var_os("FERULA_VENV").map_or_else(target, PathBuf::from);
    let python = venv.join("bin/python");
    let status = Command::new(&python).args(["-c", "import aiosmtpd"]).output();
    if !status.is_ok_and(|output| output.status.success()) {
        skipped(test, &format!("{} has no aiosmtpd (`make smtp` installs it)", python.display()));
        return None;
    }
    Some(python)
}

/// The mails that have arrived, in order.
pub(crate) fn mails(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

pub(crate) fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    mail["headers"][name].as_str().unwrap_or_else(|| panic!("no header {name} in {mail:#}"))
}

pub(crate) fn part<'a>(mail: &'a Value, kind: &str) -> &'a str {
    let parts = mail["parts"].as_array().unwrap();
    let found = parts.iter().find(|part| part["type"] == kind);
    found.unwrap_or_else(|| panic!("no part {kind} in {mail:#}"))["text"].as_str().unwrap()
}

/// The mails of a group, which its subject names.
fn of_group<'a>(mails: &'a [Value], status: &str, group: &str) -> Vec<&'a Value> {
    let is_it = |mail: &&Value| {
        let subject = header(mail, "Subject");
        subject.starts_with(status) && subject.contains(group)
    };
    mails.iter().filter(is_it).collect()
}

#[test]
fn a_dead_machine_becomes_one_mail_per_group_and_its_return_another() {
    let test = "a_dead_machine_becomes_one_mail_per_group_and_its_return_another";
    let (Some(program), Some(python)) = (peer("node_exporter", test), python(test)) else { return };
    let home = Home::new(CONFIG);
    let inbox = home.path("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/smtp_server.py");
    let mut smtp = Process::spawn("aiosmtpd", Command::new(python).arg(script).arg(&inbox));
    let smarthost = smtp.url().trim_start_matches("http://").to_owned();
    home.write("rules.yml", RULES);
    home.write("alertmanager.yml", &ALERTMANAGER.replace("SMTP", &smarthost));

    // The folder is watched; the file comes later.
    std::fs::create_dir(home.path("targets")).unwrap();
    let node = node_exporter(&program, "127.0.0.1:0");
    let address = node.address().to_owned();
    let server = home.start(&["--alertmanager.config-file=alertmanager.yml"]);
    // Discovered while the server runs, one machine seen from two zones.
    let zone = |zone| json!({"targets": [address], "labels": {"zone": zone}});
    home.write("targets/nodes.json", &json!([zone("a"), zone("b")]).to_string());
    until_true("both targets to be up", || server.value("sum(up{job=\"node\"})") == Some(2.0));
    assert!(server.value("sum(rate(node_cpu_seconds_total{zone=\"a\"}[5s]))").is_none_or(|rate| rate >= 0.0));
    until_true("a query of what node_exporter says to be answered", || {
        let data = server.query("node_uname_info{zone=\"b\"}", now());
        data["result"][0]["metric"]["sysname"] == "Linux"
    });
    assert!(mails(&inbox).is_empty(), "mail without an alert");

    // The series of alerts are written from the second evaluation on, when states have been restored.
    until_true("two evaluations", || {
        let (_, metrics) = server.get("/metrics");
        let lines =
            metrics.lines().filter(|line| line.starts_with("prometheus_rule_group_iterations_total{"));
        let count = |line: &str| line.rsplit(' ').next().and_then(|text| text.parse::<f64>().ok());
        lines.filter_map(count).sum::<f64>() >= 3.0
    });
    node.kill();
    until_true("all alerts to fire", || server.value("count(ALERTS{alertstate=\"firing\"})") == Some(4.0));
    let began = |state: &str| {
        let data = server
            .query(&format!("ALERTS{{alertstate={state:?},alertname=\"NodeDown\",zone=\"a\"}}[5m]"), now());
        data["result"][0]["values"][0][0].as_f64().unwrap()
    };
    let waited = began("firing") - began("pending");
    assert!((2.0..10.0).contains(&waited), "an alert with `for: 2s` was pending for {waited} s");
    let firing =
        until("a mail for each of three groups", || Some(mails(&inbox)).filter(|mails| mails.len() >= 3));
    let nodes = of_group(&firing, "[FIRING:2]", "NodeDown");
    let zones_a = of_group(&firing, "[FIRING:1]", "ZoneDown a");
    let zones_b = of_group(&firing, "[FIRING:1]", "ZoneDown b");
    let subjects: Vec<_> = firing.iter().map(|mail| header(mail, "Subject")).collect();
    assert_eq!((nodes.len(), zones_a.len(), zones_b.len()), (1, 1, 1), "{subjects:?}");
    check_firing(nodes[0], &address);
    // No group is told twice of what has not changed.
    let told = Instant::now();
    until_true("two group intervals to pass", || told.elapsed() > Duration::from_secs(11));
    assert_eq!(mails(&inbox).len(), 3, "mail although nothing changed");

    let _node = node_exporter(&program, &address);
    let is_over = |mails: &[Value]| {
        ["NodeDown", "ZoneDown a", "ZoneDown b"]
            .iter()
            .all(|group| !of_group(mails, "[RESOLVED]", group).is_empty())
    };
    let all =
        until("the mails of the resolved groups", || Some(mails(&inbox)).filter(|mails| is_over(mails)));
    for group in ["ZoneDown a", "ZoneDown b"] {
        assert_eq!(of_group(&all, "[RESOLVED]", group).len(), 1);
    }
    check_thread(zones_a[0], of_group(&all, "[RESOLVED]", "ZoneDown a")[0]);
    check_thread(nodes[0], of_group(&all, "[RESOLVED]", "NodeDown")[0]);
    server.stop();
}

fn check_firing(mail: &Value, instance: &str) {
    assert_eq!(mail["mail_from"], "ferula@example.org");
    assert_eq!(mail["rcpt_tos"], json!(["ops@example.org"]));
    assert_eq!(mail["content_type"], "multipart/alternative");
    assert_eq!(mail["defects"], json!([]));
    assert_eq!(header(mail, "From"), "ferula@example.org");
    assert_eq!(header(mail, "To"), "ops@example.org");
    // The labels that all alerts have in common, and that the group does not say.
    assert_eq!(header(mail, "Subject"), format!("[FIRING:2] NodeDown ({instance} node page here)"));
    let text = part(mail, "text/plain");
    let html = part(mail, "text/html");
    let words = words(html);
    for zone in ["a", "b"] {
        let line = format!("firing: NodeDown in {zone}: zone {zone} has value 0");
        assert!(text.contains(&line), "{line:?} is not in {text}");
        // The summary, and the table of the labels.
        let labels = format!(
            "zone {zone} has value 0 Since DATE UTC. alertname NodeDown instance {instance} job node \
             severity page site here zone {zone} "
        );
        let (before, after) = labels.split_once("DATE").unwrap();
        let alert = words.split(before).nth(1).unwrap_or_else(|| panic!("{before:?} is not in {words}"));
        assert!(alert.contains(after), "{after:?} is not in {alert}");
    }
    assert!(words.contains("2 firing") && html.contains("/graph?g0.expr=up"), "{html}");
}

/// The text of HTML without its tags.
fn words(html: &str) -> String {
    let texts = html.split('<').filter_map(|piece| piece.split_once('>').map(|(_, text)| text));
    texts.flat_map(str::split_whitespace).flat_map(|word| [word, " "]).collect()
}

/// The mail clients show `later` below `first`.
fn check_thread(first: &Value, later: &Value) {
    let id = header(first, "Message-ID");
    assert!(header(later, "References").contains(id), "{later:#}");
    assert!(!header(later, "In-Reply-To").is_empty());
    assert_ne!(header(later, "Message-ID"), id);
    assert!(part(later, "text/plain").contains("resolved: "), "{later:#}");
}
