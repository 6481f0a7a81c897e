//! Alerts on their way out: to Alertmanagers of other make, and held back by silences in our own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Home, Server, is_root, now, peer, skipped, until, until_true};
use crate::scripted::Scripted;

const RULES: &str = "
groups:
  - name: g
    rules:
      - alert: Broken
        expr: broken > 0
        labels: {severity: page}
        annotations: {summary: 'shard {{ $labels.shard }} has {{ $value }}'}
";

/// Five shards, broken while the number is positive.
fn shards(broken: &Arc<AtomicU32>) -> Scripted {
    let broken = Arc::clone(broken);
    Scripted::target(move || {
        let value = broken.load(Ordering::Relaxed);
        let lines: Vec<_> = (0..5).map(|shard| format!("broken{{shard=\"{shard}\"}} {value}\n")).collect();
        lines.concat()
    })
}

fn config(target: &Scripted, alertmanager: Option<&str>) -> String {
    let alerting = alertmanager.map_or_else(String::new, |address| {
        format!("alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n")
    });
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms, \
         external_labels: {{site: here}}}}\nrule_files: [rules.yml]\n{alerting}\
         scrape_configs: [{{job_name: shards, static_configs: [{{targets: ['{}']}}]}}]\n",
        target.address()
    )
}

fn home(target: &Scripted, alertmanager: Option<&str>) -> Home {
    let home = Home::new(&config(target, alertmanager));
    home.write("rules.yml", RULES);
    home
}

/// Takes posted alerts until each of five shards has one that `is_it`; no batch is larger than two.
fn receive(posts: &Receiver<(String, Value)>, is_it: impl Fn(&Value) -> bool) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    while found.len() < 5 {
        let (path, body) = posts.recv_timeout(Duration::from_secs(30)).expect("no alerts are posted");
        assert_eq!(path, "/api/v2/alerts");
        let alerts = body.as_array().unwrap();
        assert!((1..=2).contains(&alerts.len()), "a batch of {}", alerts.len());
        for alert in alerts.iter().filter(|alert| is_it(alert)) {
            found.insert(alert["labels"]["shard"].as_str().unwrap().to_owned(), alert.clone());
        }
    }
    found
}

fn seconds(time: &Value) -> f64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_millisecond() as f64 / 1000.0
}

#[test]
fn alerts_are_posted_in_batches_and_resolved_ones_too() {
    let broken = Arc::new(AtomicU32::new(7));
    let target = shards(&broken);
    let (receiver, posts) = Scripted::receiver();
    let home = home(&target, Some(&receiver.address()));
    let server = home.start(&["--alertmanager.notification-batch-size=2"]);
    let firing = receive(&posts, |alert| seconds(&alert["endsAt"]) > now());
    for (shard, alert) in &firing {
        let labels = json!({
            "alertname": "Broken", "shard": shard, "severity": "page", "site": "here", "job": "shards",
            "instance": target.address(),
        });
        assert_eq!(alert["labels"], labels);
        assert_eq!(alert["annotations"], json!({"summary": format!("shard {shard} has 7")}));
        assert!(seconds(&alert["startsAt"]) <= now());
        let url = alert["generatorURL"].as_str().unwrap();
        assert!(url.contains("/graph?g0.expr=broken+%3E+0&g0.tab=1"), "{url}");
    }
    let known = server.data("/api/v1/alertmanagers", &[]);
    let url = format!("http://{}/api/v2/alerts", receiver.address());
    assert_eq!(known["activeAlertmanagers"], json!([{"url": url}]));

    broken.store(0, Ordering::Relaxed);
    let resolved = receive(&posts, |alert| seconds(&alert["endsAt"]) <= now());
    for (shard, alert) in &resolved {
        assert_eq!(alert["startsAt"], firing[shard]["startsAt"]);
        assert_eq!(alert["labels"], firing[shard]["labels"]);
    }
    server.stop();
}

/// Debian's alertmanager reads its templates from a place of the system: a namespace of its own has them there.
pub(crate) fn alertmanager_command(program: &Path) -> Result<Command, String> {
    let is_debians =
        std::fs::canonicalize(program).is_ok_and(|path| path.to_string_lossy().contains("/.apt/"));
    if !is_debians {
        return Ok(Command::new(program));
    }
    let share = program.parent().unwrap().join("../.apt/x/usr/share");
    if !share.exists() {
        return Err(format!("no templates at {}", share.display()));
    }
    if !is_root() {
        return Err("giving alertmanager its templates needs root".to_owned());
    }
    let script = "mount --bind \"$0\" /usr/share && exec \"$@\"";
    let probe = Command::new("unshare").args(["-m", "sh", "-c", script]).arg(&share).arg("true").output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        return Err(format!("no namespace of its own: {probe:?}"));
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(&share).arg(program);
    Ok(command)
}

fn alertmanager(program: &Path, home: &Home) -> Result<Server, String> {
    home.write("am.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let mut command = alertmanager_command(program)?;
    command.arg(format!("--config.file={}", home.path("am.yml").display()));
    command.arg(format!("--storage.path={}", home.path("am").display()));
    command.args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]);
    Ok(Server::start("alertmanager", &mut command, "/-/ready"))
}

#[test]
fn a_real_alertmanager_sees_alerts_come_and_go() {
    let test = "a_real_alertmanager_sees_alerts_come_and_go";
    let Some(program) = peer("alertmanager", test) else { return };
    let broken = Arc::new(AtomicU32::new(1));
    let target = shards(&broken);
    let home = home(&target, None);
    let alertmanager = match alertmanager(&program, &home) {
        Ok(alertmanager) => alertmanager,
        Err(why) => return skipped(test, &why),
    };
    let n_active = || alertmanager.json("/api/v2/alerts?active=true").as_array().unwrap().len();
    assert_eq!(n_active(), 0);
    home.write("prometheus.yml", &config(&target, Some(alertmanager.address())));
    let server = home.start(&[]);
    until_true("five alerts to arrive", || n_active() == 5);
    let alert = &alertmanager.json("/api/v2/alerts?filter=shard=3")[0];
    assert_eq!(alert["labels"]["site"], "here");
    assert_eq!(alert["annotations"]["summary"], "shard 3 has 1");
    assert_eq!(alert["status"]["state"], "active");
    broken.store(0, Ordering::Relaxed);
    until_true("the alerts to be resolved", || n_active() == 0);
    server.stop();
}

const OWN: &str = "
route: {receiver: hook, group_by: ['...'], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'http://HOOK/'}]}]
";

fn after(seconds: f64) -> String {
    jiff::Timestamp::from_millisecond(((now() + seconds) * 1000.0) as i64).unwrap().to_string()
}

#[test]
fn silences_hold_alerts_back_and_amtool_manages_them() {
    let test = "silences_hold_alerts_back_and_amtool_manages_them";
    let broken = Arc::new(AtomicU32::new(0));
    let target = shards(&broken);
    let (receiver, posts) = Scripted::receiver();
    let home = home(&target, None);
    home.write("alertmanager.yml", &OWN.replace("HOOK", &receiver.address()));
    let server = home.start(&["--alertmanager.config-file=alertmanager.yml"]);
    let silence = json!({
        "matchers": [{"name": "shard", "value": "1|2", "isRegex": true, "isEqual": true}],
        "startsAt": after(-1.0), "endsAt": after(3600.0), "createdBy": "me", "comment": "known",
    });
    let (status, body) = server.post("/api/v2/silences", &silence);
    assert_eq!(status, 200, "{body}");
    let id: Value = serde_json::from_str(&body).unwrap();
    let id = id["silenceID"].as_str().unwrap().to_owned();
    let (status, _) = server.post("/api/v2/silences", &json!({"matchers": []}));
    assert_eq!(status, 422);

    broken.store(1, Ordering::Relaxed);
    let notified = |wanted: &[&str]| {
        let mut seen = BTreeSet::new();
        while seen.len() < wanted.len() {
            let (_, body) = posts.recv_timeout(Duration::from_secs(30)).expect("nobody is notified");
            for alert in body["alerts"].as_array().unwrap() {
                assert_eq!(alert["status"], "firing");
                seen.insert(alert["labels"]["shard"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(seen, wanted.iter().map(ToString::to_string).collect());
    };
    notified(&["0", "3", "4"]);
    let suppressed = server.json("/api/v2/alerts?active=false&inhibited=false&unprocessed=false");
    let by = |alert: &Value| (alert["status"]["state"].clone(), alert["status"]["silencedBy"].clone());
    assert_eq!(
        suppressed.as_array().unwrap().iter().map(by).collect::<Vec<_>>(),
        [(json!("suppressed"), json!([id])), (json!("suppressed"), json!([id])),]
    );
    assert!(posts.recv_timeout(Duration::from_secs(3)).is_err(), "somebody was notified of a silenced alert");

    let Some(amtool) = peer("amtool", test) else { return };
    let run = |args: &[&str]| -> Output {
        let url = format!("--alertmanager.url={}", server.url);
        Command::new(&amtool).env("HOME", home.path("")).arg(url).args(args).output().unwrap()
    };
    let text = |args: &[&str]| {
        let output = run(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "amtool {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(text(&["silence", "query", "-q"]).trim(), id);
    let added = text(&["silence", "add", "-a", "amtool", "-c", "also known", "-d", "1h", "shard=4"]);
    let listed: Value = serde_json::from_str(&text(&["silence", "query", "-o", "json", "shard=4"])).unwrap();
    assert_eq!(listed[0]["id"], added.trim());
    assert_eq!(listed[0]["createdBy"], "amtool");
    let alerts = |args: &[&str]| -> BTreeSet<String> {
        let all: Value =
            serde_json::from_str(&text(&[&["alert", "query", "-o", "json"], args].concat())).unwrap();
        let shard = |alert: &Value| alert["labels"]["shard"].as_str().unwrap().to_owned();
        all.as_array().unwrap().iter().map(shard).collect()
    };
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(alerts(&[]), set(&["0", "3"]));
    assert_eq!(alerts(&["-s"]), set(&["1", "2", "4"]));
    text(&["silence", "expire", &id]);
    // What was held back is told now.
    notified(&["1", "2"]);
    assert_eq!(alerts(&[]), set(&["0", "1", "2", "3"]));
    let expired: Value =
        serde_json::from_str(&text(&["silence", "query", "--expired", "-o", "json"])).unwrap();
    assert_eq!(expired[0]["id"], json!(id));
    assert!(text(&["config", "show"]).contains("group_interval: 1s"));
    assert!(text(&["check-config", home.path("alertmanager.yml").to_str().unwrap()]).contains("SUCCESS"));

    // Silences outlive the server.
    server.kill();
    let again = home.start(&["--alertmanager.config-file=alertmanager.yml"]);
    let state = until("silences after the restart", || {
        let list = again.json("/api/v2/silences");
        let states = |s: &Value| (s["id"].as_str().unwrap().to_owned(), s["status"]["state"].clone());
        Some(list.as_array().unwrap().iter().map(states).collect::<BTreeMap<_, _>>())
    });
    assert_eq!(state.get(added.trim()), Some(&json!("active")), "{state:?}");
    again.stop();
}
