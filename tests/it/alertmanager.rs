//! The built-in Alertmanager beside a real one: the same file, the same alerts at the same times, and receivers
//! that write down who was told what, and when.
//!
//! All scenarios run at once, each under a route of its own that its label `s` leads to. What is different on
//! purpose, the end of an alert that resolves while it is held back, has a test of its own beside the code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::notify::alertmanager_command;
use crate::process::{Home, Server, now, peer, skipped, until_true};
use crate::scripted::{Scripted, answer};

/// Both may be as late as a machine makes them that does other things as well.
const TICK: f64 = 1.2;

/// `RECV` is where receivers listen, `LABELS` the labels of a route, which only the newest knows.
const CONFIG: &str = "
route:
  receiver: root
  group_by: [alertname]
  group_wait: 1s
  group_interval: 2s
  repeat_interval: 1h
  routes:
  - {matchers: ['s=\"wait\"'], receiver: wait}
  - {matchers: ['s=\"repeat\"'], receiver: repeat, repeat_interval: 3s}
  - {matchers: ['s=\"inhibit\"'], receiver: inhibit, group_by: [alertname, severity]}
  - {matchers: ['s=\"silence\"'], receiver: silence}
  - {matchers: ['s=\"muted\"'], receiver: muted, mute_time_intervals: [never, always]}
  - {matchers: ['s=\"inactive\"'], receiver: inactive, active_time_intervals: [never]}
  - {matchers: ['s=\"active\"'], receiver: active, active_time_intervals: [never, always], mute_time_intervals: [never]}
  - {matchers: ['s=\"both\"'], receiver: both-a, continue: true}
  - {matchers: ['s=~\"both|other\"'], receiver: both-b, group_by: ['...'], routes: [{matchers: [deep!=\"\"], receiver: both-c}]}
  - {matchers: ['s=\"quiet\"'], receiver: quiet}
  - {matchers: ['s=\"flaky\"'], receiver: flaky, group_interval: 10s}
  - {matchers: ['s=\"labels\"'], receiver: labels LABELS}
inhibit_rules:
- {source_matchers: ['severity=\"critical\"'], target_matchers: ['severity=\"warning\"'], equal: [cluster]}
time_intervals:
- {name: always, time_intervals: [{}, {years: ['1970:2900']}]}
- {name: never, time_intervals: [{years: ['1971']}]}
receivers:
- {name: root}
- {name: wait, webhook_configs: [{url: 'http://RECV/wait'}]}
- {name: repeat, webhook_configs: [{url: 'http://RECV/repeat'}]}
- {name: inhibit, webhook_configs: [{url: 'http://RECV/inhibit'}]}
- {name: silence, webhook_configs: [{url: 'http://RECV/silence'}]}
- {name: muted, webhook_configs: [{url: 'http://RECV/muted'}]}
- {name: inactive, webhook_configs: [{url: 'http://RECV/muted'}]}
- {name: active, webhook_configs: [{url: 'http://RECV/active'}]}
- {name: both-a, webhook_configs: [{url: 'http://RECV/both-a', max_alerts: 1}]}
- {name: both-b, webhook_configs: [{url: 'http://RECV/both-b/0'}, {url: 'http://RECV/both-b/1', send_resolved: false}]}
- {name: both-c, webhook_configs: [{url: 'http://RECV/both-c'}]}
- {name: quiet, webhook_configs: [{url: 'http://RECV/quiet', send_resolved: false}]}
- {name: flaky, webhook_configs: [{url: 'http://RECV/flaky'}]}
- {name: labels, webhook_configs: [{url: 'http://RECV/labels'}]}
";

const LABELS: &str =
    ", labels: {team: 'team {{ .GroupLabels.alertname }}', count: '{{ len .Alerts.Firing }}', plain: x}";

/// What a receiver was told: when, where, what.
type Told = Vec<(Instant, String, Value)>;

/// Receivers of all names; the flaky one fails twice.
fn receivers() -> (Scripted, Arc<Mutex<Told>>) {
    let told = Arc::new(Mutex::new(Told::new()));
    let (all, failures) = (Arc::clone(&told), Mutex::new(0));
    let server = Scripted::raw(move |request, stream| {
        let is_flaky = request.path == "/flaky" && {
            let mut failures = failures.lock().unwrap();
            *failures += 1;
            *failures <= 2
        };
        if is_flaky {
            return answer(stream, 503, "text/plain", "not now");
        }
        let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        all.lock().unwrap().push((Instant::now(), request.path.clone(), body));
        answer(stream, 200, "text/plain", "")
    });
    (server, told)
}

fn config(receivers: &Scripted, has_labels: bool) -> String {
    CONFIG.replace("RECV", &receivers.address()).replace(" LABELS", if has_labels { LABELS } else { "" })
}

/// The real one, if it can run here; whether it is 0.34, which knows the labels of routes.
fn reference(test: &str) -> Option<(PathBuf, bool)> {
    let program = peer("alertmanager", test)?;
    let next = program.with_file_name("alertmanager-next");
    if next.exists() {
        return Some((next, true));
    }
    if let Err(why) = alertmanager_command(&program) {
        skipped(test, &why);
        return None;
    }
    Some((program, false))
}

fn start_reference(program: &Path, home: &Home, storage: &str) -> Server {
    let mut command = alertmanager_command(program).unwrap();
    command
        .arg(format!("--config.file={}", home.path("am.yml").display()))
        .arg(format!("--storage.path={}", home.path(storage).display()))
        .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]);
    Server::start("alertmanager", &mut command, "/-/ready")
}

fn start_own(home: &Home, storage: &str) -> Server {
    let storage = format!("--alertmanager.storage.path={}", home.path(storage).display());
    home.start(&["--alertmanager.config-file=own.yml", &storage])
}

/// A time so many seconds from now, the same text for both.
fn at(seconds: f64) -> String {
    jiff::Timestamp::from_millisecond(((now() + seconds) * 1000.0) as i64).unwrap().to_string()
}

/// An alert that fires for an hour, or has ended.
fn alert(labels: &[(&str, &str)], starts: &str, ends: Option<&str>) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let end = ends.map_or_else(|| at(3600.0), str::to_owned);
    json!({
        "labels": labels, "annotations": {"summary": "s <b>"}, "startsAt": starts, "endsAt": end,
        "generatorURL": "http://prom/graph?a=1&b=2",
    })
}

struct Pair {
    servers: [Server; 2],
    /// The real one is 0.34: what 0.33 does otherwise is not compared.
    is_newest: bool,
}

impl Pair {
    fn post(&self, path: &str, body: &Value) -> [(u16, String); 2] {
        [&self.servers[0], &self.servers[1]].map(|server| server.post(path, body))
    }

    fn alerts(&self, alerts: &[Value]) {
        for (status, body) in self.post("/api/v2/alerts", &json!(alerts)) {
            assert_eq!((status, body.as_str()), (200, ""));
        }
    }

    /// Asks both, and demands one answer but for what each makes up itself.
    fn compare(&self, step: &str) {
        for path in [
            "alerts",
            "alerts?active=false",
            "alerts?silenced=false&inhibited=no",
            "alerts?filter=s%3D~%22wait|silence%22&filter=instance!%3D",
            "alerts?filter=deep%3D",
            "alerts?receiver=both-.*",
            "alerts?receiver_matchers=name%3Dquiet",
            "alerts/groups",
            "alerts/groups?muted=false",
            "alerts/groups?active=false&receiver=sil.*|muted",
            "silences",
            "silences?expired=false",
            "silences?filter=s%3D%22silence%22",
            "receivers",
            "receivers?receiver_matchers=name%3D~%22both-.*%22",
        ] {
            if path == "silences?expired=false" && !self.is_newest {
                continue; // 0.33 has no such parameters.
            }
            let path = format!("/api/v2/{path}");
            // A flush, or the end of something, may lie between the two answers.
            let mut last = [Value::Null, Value::Null];
            let agree = (0..20).any(|_| {
                last = [0, 1].map(|i| normal(self.servers[i].json(&path)));
                last[0] == last[1] || {
                    thread::sleep(Duration::from_millis(100));
                    false
                }
            });
            assert!(agree, "{step}: {path}:\ntheirs {:#}\nours {:#}", last[0], last[1]);
        }
    }
}

/// Without ids and times of the server's own.
fn normal(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => {
            for item in items.iter_mut() {
                *item = normal(item.take());
            }
        }
        Value::Object(fields) => {
            // 0.33 does not know it; where it matters, its own scenario looks at it.
            if fields.get("routeLabels") == Some(&json!({})) {
                fields.remove("routeLabels");
            }
            for (name, field) in fields.iter_mut() {
                let is_own = matches!(name.as_str(), "updatedAt" | "id" | "externalURL")
                    || (name == "startsAt" && field.as_str().is_some_and(|t| !t.ends_with("000Z")));
                *field = if is_own {
                    json!("its own")
                } else if name == "silencedBy" {
                    json!(field.as_array().map(Vec::len))
                } else {
                    normal(field.take())
                };
            }
        }
        _ => {}
    }
    value
}

/// What was told, by place and group, with the seconds since `began`.
fn told(all: &Mutex<Told>, began: Instant) -> BTreeMap<(String, String), Vec<(f64, Value)>> {
    let mut by_group: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (t, path, body) in all.lock().unwrap().iter() {
        let group = body["groupKey"].as_str().unwrap_or_default().to_owned();
        let body = normal(body.clone());
        by_group
            .entry((path.clone(), group))
            .or_default()
            .push((t.saturating_duration_since(began).as_secs_f64(), body));
    }
    by_group
}

fn assert_told_alike(theirs: &Mutex<Told>, ours: &Mutex<Told>, began: Instant) {
    let (theirs, ours) = (told(theirs, began), told(ours, began));
    let of = |told: &BTreeMap<(String, String), Vec<(f64, Value)>>| told.keys().cloned().collect::<Vec<_>>();
    assert_eq!(of(&theirs), of(&ours), "the groups that were told of");
    for key in of(&theirs) {
        let (a, b) = (&theirs[&key], &ours[&key]);
        let shown = |all: &[(f64, Value)]| {
            let lines = all.iter().map(|(t, body)| format!("{t:.2} {body}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        let context = format!("{key:?}\ntheirs\n{}\nours\n{}", shown(a), shown(b));
        if key.0 == "/repeat" {
            // Where the interval is not a multiple of the other, one may just have told once more.
            assert!(a.len().abs_diff(b.len()) <= 1, "{context}");
        } else {
            assert_eq!(a.len(), b.len(), "{context}");
        }
        for ((t, body), (u, own)) in a.iter().zip(b) {
            assert_eq!(body, own, "{context}");
            assert!((t - u).abs() < TICK || key.0 == "/flaky", "{t} and {u}: {context}");
        }
    }
}

/// Status and answer to bodies that are not as they should be.
fn compare_refusals(pair: &Pair) {
    let silence = |matchers: Value, starts: &str, ends: &str| json!({"matchers": matchers, "startsAt": starts, "endsAt": ends, "createdBy": "x", "comment": "y"});
    let (past, future) = ("2016-01-01T00:00:00Z", "2036-01-01T00:00:00Z");
    let a = |value: &str, is_regex: bool| json!([{"name": "a", "value": value, "isRegex": is_regex}]);
    let cases = [
        ("alerts", json!([{"labels": {}}])),
        ("alerts", json!([{}])),
        ("alerts", json!({})),
        ("alerts", json!(null)),
        ("alerts", json!([{"labels": {"a": 1}}])),
        ("alerts", json!([{"labels": {"a": "b"}, "startsAt": "x"}])),
        ("alerts", json!([{"labels": {"a": "b"}, "generatorURL": ":::"}])),
        (
            "alerts",
            json!([{"labels": {"a": ""}}, {"labels": {"": "b"}}, {"labels": {"q": "b"}, "annotations": {"": "x"}},
                   {"labels": {"zz": "b"}, "startsAt": future, "endsAt": past}]),
        ),
        ("silences", json!({})),
        ("silences", json!(null)),
        ("silences", json!([])),
        ("silences", silence(json!([]), past, future)),
        ("silences", silence(json!(null), past, future)),
        ("silences", silence(json!([{"name": "a", "value": "b"}]), past, future)),
        ("silences", silence(json!([{"name": "", "value": "", "isRegex": false}]), past, future)),
        ("silences", silence(a("", false), past, future)),
        ("silences", silence(a("(", true), past, future)),
        ("silences", silence(a(".*", true), past, future)),
        ("silences", silence(a("x", false), future, future)),
        ("silences", silence(a("x", false), past, past)),
        ("silences", silence(a("x", false), "yes", future)),
        ("silences", {
            let mut unknown = silence(a("x", false), past, future);
            unknown["id"] = json!("nope");
            unknown
        }),
    ];
    for (path, body) in cases {
        if !pair.is_newest && body[0]["labels"]["a"] == 1 {
            continue; // The Go that 0.33 is built with names the label as well.
        }
        let [theirs, ours] = pair.post(&format!("/api/v2/{path}"), &body);
        assert_eq!(theirs, ours, "{path} {body}");
    }
    for path in [
        "alerts?filter=%3D",
        "alerts?receiver=%5B",
        "alerts?receiver_matchers=%3D",
        "alerts/groups?receiver=%5B",
        "alerts/groups?filter=",
        "receivers?receiver_matchers=%3D",
        "silences?filter=a",
        "silence/abc",
        "silence/00000000-0000-4000-8000-000000000000",
        "nothing",
    ] {
        let answers = [0, 1].map(|i| pair.servers[i].get(&format!("/api/v2/{path}")));
        assert_eq!(answers[0], answers[1], "{path}");
    }
}

#[test]
fn the_same_alerts_are_told_as_alertmanager_tells_them() {
    let test = "the_same_alerts_are_told_as_alertmanager_tells_them";
    let Some((program, has_labels)) = reference(test) else { return };
    let (to_them, told_by_them) = receivers();
    let (to_us, told_by_us) = receivers();
    let home = Home::new("");
    home.write("am.yml", &config(&to_them, has_labels));
    home.write("own.yml", &config(&to_us, has_labels));
    let pair = Pair {
        servers: [start_reference(&program, &home, "am"), start_own(&home, "own")],
        is_newest: has_labels,
    };
    compare_refusals(&pair);

    // Whole seconds, so that both write them alike.
    let start = format!("{}Z", &at(0.0)[..19]);
    let old = format!("{}Z", &at(-60.0)[..19]);
    for (status, body) in pair.post(
        "/api/v2/silences",
        &json!({
            "matchers": [{"name": "s", "value": "silence", "isRegex": false}, {"name": "quiet", "value": "", "isRegex": false}],
            "startsAt": start, "endsAt": format!("{}Z", &at(6.0)[..19]), "createdBy": "x", "comment": "c",
        }),
    ) {
        assert_eq!(status, 200, "{body}");
    }
    let began = Instant::now();
    let sleep_until = |seconds: f64| {
        thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(began.elapsed()));
    };
    let one = |s: &str, name: &str, more: &[(&str, &str)], starts: &str, ends: Option<&str>| {
        alert(&[&[("s", s), ("alertname", name)], more].concat(), starts, ends)
    };
    let mut first = vec![
        one("wait", "W", &[("instance", "b")], &start, None),
        one("wait", "W", &[("instance", "a"), ("job", "z")], &start, None),
        one("wait", "Old", &[], &old, None),
        one("repeat", "R", &[], &start, None),
        one("inhibit", "I", &[("severity", "critical"), ("cluster", "1")], &start, None),
        one("inhibit", "I", &[("severity", "warning"), ("cluster", "1")], &start, None),
        one("inhibit", "I", &[("severity", "warning"), ("cluster", "2")], &start, None),
        one("silence", "S", &[], &start, None),
        one("muted", "M", &[], &start, None),
        one("inactive", "M", &[], &start, None),
        one("active", "M", &[], &start, None),
        one("both", "B", &[("instance", "1")], &start, None),
        one("both", "B", &[("instance", "2")], &start, None),
        one("other", "B", &[("deep", "yes")], &start, None),
        one("quiet", "Q", &[("instance", "1")], &start, None),
        one("quiet", "Q", &[("instance", "2")], &start, None),
        one("flaky", "F", &[], &start, None),
        one("none", "N", &[], &start, None),
    ];
    if has_labels {
        first.push(one("labels", "L", &[], &start, None));
    }
    pair.alerts(&first);
    pair.compare("at the start");
    sleep_until(1.6);
    // Comes to a group that has been told: waits for its interval.
    pair.alerts(&[one("wait", "W", &[("instance", "c")], &start, None)]);
    sleep_until(2.0);
    pair.compare("after the first messages");
    sleep_until(3.6);
    let end = format!("{}Z", &at(-1.0)[..19]);
    pair.alerts(&[
        one("wait", "W", &[("instance", "a"), ("job", "z")], &start, Some(&end)),
        one("inhibit", "I", &[("severity", "critical"), ("cluster", "1")], &start, Some(&end)),
        one("both", "B", &[("instance", "1")], &start, Some(&end)),
        one("quiet", "Q", &[("instance", "1")], &start, Some(&end)),
    ]);
    pair.compare("when some are resolved");
    sleep_until(5.6);
    let end = format!("{}Z", &at(-1.0)[..19]);
    pair.alerts(&[
        one("wait", "W", &[("instance", "b")], &start, Some(&end)),
        one("wait", "W", &[("instance", "c")], &start, Some(&end)),
        one("both", "B", &[("instance", "2")], &start, Some(&end)),
        one("quiet", "Q", &[("instance", "2")], &start, Some(&end)),
    ]);
    sleep_until(9.8);
    pair.compare("at the end");
    assert_told_alike(&told_by_them, &told_by_us, began);
    // Every scenario has been told of but those that must not be.
    let paths: std::collections::BTreeSet<_> =
        told(&told_by_us, began).into_keys().map(|(path, _)| path).collect();
    for path in
        ["wait", "repeat", "inhibit", "silence", "active", "both-a", "both-b/1", "both-c", "quiet", "flaky"]
    {
        assert!(paths.contains(&format!("/{path}")), "{path}: {paths:?}");
    }
    assert!(!paths.contains("/muted"), "{paths:?}");

    // A data directory of either is taken over by the other.
    let Pair { servers: [theirs, ours], .. } = pair;
    let silences = [&theirs, &ours].map(|server| server.json("/api/v2/silences"));
    theirs.stop();
    ours.stop();
    let count = told_by_us.lock().unwrap().len();
    let (theirs, ours) = (start_reference(&program, &home, "own"), start_own(&home, "am"));
    assert_eq!(ours.json("/api/v2/silences"), silences[0]);
    assert_eq!(theirs.json("/api/v2/silences"), silences[1]);
    // Nobody is told again what was told before.
    let again: Vec<_> = first
        .into_iter()
        .filter(|alert| ["inhibit", "active", "flaky"].contains(&alert["labels"]["s"].as_str().unwrap()))
        .filter(|alert| alert["labels"]["severity"] != "critical")
        .collect();
    ours.post("/api/v2/alerts", &json!(again));
    until_true("flushes after the takeover", || {
        ours.metric("alertmanager_nflog_queries_total").is_some_and(|n| n >= 4.0)
    });
    assert_eq!(told_by_us.lock().unwrap()[count..], []);
    theirs.stop();
    ours.stop();
}

/// Nothing is lost, told early or told twice when the process is killed.
#[test]
fn alerts_and_timers_outlive_a_kill() {
    let (receiver, posts) = Scripted::receiver();
    let home = Home::new("");
    home.write(
        "own.yml",
        &format!(
            "route: {{receiver: hook, group_by: [alertname], group_wait: 4s, group_interval: 2s, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: 'http://{}/'}}]}}]\n",
            receiver.address()
        ),
    );
    let server = start_own(&home, "am");
    let start = at(0.0);
    let one = |name: &str, instance: &str, starts: &str, ends: Option<&str>| {
        alert(&[("alertname", name), ("instance", instance)], starts, ends)
    };
    let post = |server: &Server, alerts: &[Value]| {
        let (status, body) = server.post("/api/v2/alerts", &json!(alerts));
        assert_eq!(status, 200, "{body}");
    };
    // Told at once, because it is old.
    post(&server, &[one("Told", "1", &at(-60.0), None)]);
    let (_, told) = posts.recv_timeout(Duration::from_secs(30)).expect("the first is told");
    assert_eq!(told["groupLabels"]["alertname"], "Told");
    post(&server, &[one("Waits", "1", &start, None), one("Waits", "2", &start, None)]);
    until_true("the changes to be saved", || {
        std::fs::read(home.path("am/journal"))
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("Waits"))
    });
    server.kill();

    let again = start_own(&home, "am");
    let names = |server: &Server| {
        let groups = server.json("/api/v2/alerts/groups");
        let of = |group: &Value| {
            (
                group["labels"]["alertname"].as_str().unwrap().to_owned(),
                group["alerts"].as_array().unwrap().len(),
            )
        };
        groups.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(names(&again), [("Told".to_owned(), 1), ("Waits".to_owned(), 2)]);
    let (_, told) = posts.recv_timeout(Duration::from_secs(30)).expect("the others are told");
    assert_eq!(told["groupLabels"]["alertname"], "Waits", "{told}");
    assert_eq!(told["alerts"].as_array().unwrap().len(), 2, "{told}");
    // Its end is told although nobody was there when it began.
    post(&again, &[one("Told", "1", &at(-60.0), Some(&at(-0.5)))]);
    let (_, told) = posts.recv_timeout(Duration::from_secs(30)).expect("the end is told");
    assert_eq!((&told["status"], &told["groupLabels"]["alertname"]), (&json!("resolved"), &json!("Told")));
    again.stop();
}

#[test]
fn the_api_describes_itself() {
    let home = Home::new("");
    home.write("own.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let server = start_own(&home, "am");
    let document = server.json("/api/v2/swagger.json");
    assert_eq!(document["basePath"], "/api/v2");
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = format!("/api/v2{}", path.replace("{silenceID}", "00000000-0000-4000-8000-000000000000"));
        if methods.get("get").is_some() {
            let (status, body) = server.get(&path);
            let wanted = if path.contains("/silence/") { 404 } else { 200 };
            assert_eq!(status, wanted, "{path}: {body}");
        }
    }
    server.stop();
}
