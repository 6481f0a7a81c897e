//! Alerts beside Prometheus': the same rules on the same data, and what both show, write and send over time.
//!
//! Both scrape one target whose samples carry their own times, whole seconds, so that both store the same. Groups have
//! phases of their own inside the interval of a second: what is compared is the order of states, their lengths to an
//! evaluation, and how times relate. And what a restart may not change.
//!
//! Compat: prometheus `rules`, `notifier` (3.5 as the reference, 3.14 as the model).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Home, Server, now, peer, until, until_true};
use crate::scripted::{Scripted, answer};

/// How long the script is, in seconds.
const SCRIPT: i64 = 13;

/// A program to compare with: the model if it is there, else the reference.
fn reference(test: &str) -> Option<PathBuf> {
    let reference = peer("prometheus", test)?;
    let model = reference.with_file_name("prometheus-next");
    Some(if model.exists() { model } else { reference })
}

/// What the target says `age` seconds after the script began; before that all is well.
fn levels(age: i64) -> Vec<(&'static str, f64)> {
    let on = |from: i64, until: i64| if (from..until).contains(&age) { 1.0 } else { 0.0 };
    let mut all = vec![
        ("fires", on(1, 9)),
        ("brief", on(1, 3)),
        ("kept", on(1, 4) + on(8, 9)),
        ("twice", on(1, 4) + on(8, 11)),
        ("changes", if (1..11).contains(&age) { 1.0 + ((age - 1) / 3) as f64 } else { 0.0 }),
        ("joined_a", on(1, 11)),
        ("joined_b", on(6, 10)),
        ("over_limit_a", on(1, 11)),
        ("over_limit_b", on(5, 9)),
        ("equal_a", on(1, 11)),
        ("equal_b", on(5, 9)),
        ("recorded", on(2, 8)),
    ];
    if age < 8 {
        all.push(("vanishes", on(1, 8)));
    }
    all
}

/// Exposes the script from the second on that is put into the cell.
fn target(begin: &Arc<OnceLock<i64>>) -> Scripted {
    let begin = Arc::clone(begin);
    Scripted::target(move || {
        let t = now().floor() as i64;
        let age = begin.get().map_or(-1, |begin| t - begin);
        let mut text = String::new();
        for (name, level) in levels(age) {
            let (case, part) =
                name.rsplit_once('_').filter(|(_, part)| part.len() == 1).unwrap_or((name, ""));
            writeln!(text, "level{{case=\"{case}\",part=\"{part}\"}} {level} {}", t * 1000).unwrap();
        }
        text
    })
}

const RULES: &str = r#"
groups:
- name: states
  labels: {team: a, overridden: by group}
  rules:
  - alert: Fires
    expr: level{case="fires"}   > 0
    for: 3s
    labels: {severity: page, overridden: by rule, where: 'at {{ $labels.instance | len }}', case: ''}
    annotations: {summary: '{{ $labels.case }} is {{ $value }} of {{ $externalLabels.site }}', empty: '{{ "" }}'}
  - alert: Brief
    expr: level{case="brief"} > 0
    for: 4s
  - alert: Kept
    expr: level{case="kept"} > 0
    keep_firing_for: 3s
  - alert: Twice
    expr: level{case="twice"} > 0
    for: 1s
  - alert: Changes
    expr: level{case="changes"} > 0
    annotations:
      value: '{{ $value | humanize }}'
      asked: '{{ with query "level{case=\"changes\"}" }}{{ . | first | label "job" }}{{ end }}'
      bad: '{{ template "none" }}'
  - alert: Joined
    expr: level{case="joined"} > 0
    for: 2s
  - alert: Vanishes
    expr: level{case="vanishes"} > 0
  - alert: Absent
    expr: absent(nothing{job="x", kind=~"a|b"})
    for: 1s
- name: chain
  query_offset: 0s
  rules:
  - record: level:doubled
    expr: level{case="recorded"} * 2
    labels: {kind: '{{ as it is }}', part: ''}
  - alert: OfRecorded
    expr: level:doubled > 1
    labels: {dropped: by relabelling}
  - alert: OfAlerts
    expr: count by (alertname) (ALERTS{alertname="OfRecorded", alertstate="firing"})
- name: failures
  limit: 1
  rules:
  - {alert: OverLimit, expr: 'level{case="over_limit"} > 0'}
  - {record: over:limit, expr: 'level{case="over_limit"} > 0'}
  - {alert: Equal, expr: 'level{case="equal"} > 0', labels: {part: ''}}
  - {record: equal, expr: 'level{case="equal"} > 0', labels: {part: ''}}
  - {record: text, expr: 'level{case="equal"} * on (case) level{case="equal"}'}
"#;

fn config(target: &Scripted, alertmanager: &Scripted) -> String {
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s, \
         external_labels: {{site: here, team: global}}}}\nrule_files: [r*.yml]\n\
         alerting:\n  alert_relabel_configs: [{{regex: dropped, action: labeldrop}}]\n  \
         alertmanagers: [{{path_prefix: /am/, static_configs: [{{targets: ['{}']}}]}}]\n\
         scrape_configs: [{{job_name: x, track_timestamps_staleness: true, static_configs: [{{targets: ['{}'], \
         labels: {{instance: one}}}}]}}]\n",
        alertmanager.address(),
        target.address()
    )
}

/// What was posted, with the time in seconds.
type Posts = Arc<Mutex<Vec<(f64, Value)>>>;

fn recorder() -> (Scripted, Posts) {
    let posts = Posts::default();
    let kept = Arc::clone(&posts);
    let server = Scripted::raw(move |request, stream| {
        let alerts: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(request.path, "/am/api/v2/alerts");
        let mut kept = kept.lock().unwrap();
        kept.extend(alerts.as_array().unwrap().iter().map(|alert| (now(), alert.clone())));
        drop(kept);
        answer(stream, 200, "application/json", "{}")
    });
    (server, posts)
}

/// One of the two servers, and what was seen of it.
struct Side {
    server: Server,
    posts: Posts,
    /// By rule, what it showed, each state once.
    states: BTreeMap<String, Vec<Value>>,
    _recorder: Scripted,
    _home: Home,
}

const FLAGS: [&str; 1] = ["--rules.alert.resend-delay=2s"];

impl Side {
    fn start(target: &Scripted, program: Option<&PathBuf>) -> Self {
        let (recorder, posts) = recorder();
        let home = Home::new(&config(target, &recorder));
        home.write("rules.yml", RULES);
        let server = match program {
            Some(program) => home.start_peer(program, &FLAGS),
            None => home.start(&FLAGS),
        };
        Self { server, posts, states: BTreeMap::new(), _recorder: recorder, _home: home }
    }

    /// All groups, without what no two servers have in common.
    fn rules(&self) -> Value {
        let mut data = self.server.json("/api/v1/rules")["data"].take();
        strip(&mut data);
        data
    }

    /// Notes what the rules show, if it is new.
    fn look(&mut self) {
        for group in self.rules()["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                let name = format!("{} {}", group["name"], rule["name"]);
                let states = self.states.entry(name).or_default();
                if states.last() != Some(rule) {
                    states.push(rule.clone());
                }
            }
        }
    }

    /// What was sent of each alert: firing or resolved, as it was, with what follows from its times.
    fn told(&self) -> BTreeMap<String, Vec<Told>> {
        let mut all: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        for (at, alert) in &*self.posts.lock().unwrap() {
            let [starts_at, ends_at] = ["startsAt", "endsAt"].map(|key| {
                let t: jiff::Timestamp = alert[key].as_str().unwrap().parse().unwrap();
                t.as_millisecond() as f64 / 1000.0
            });
            let told = Told {
                at: *at,
                starts_at,
                ends_at,
                is_resolved: ends_at <= *at,
                text: format!(
                    "{} {}",
                    alert["annotations"],
                    alert["generatorURL"].as_str().unwrap().split_once("/graph").unwrap().1
                ),
            };
            all.entry(alert["labels"].to_string()).or_default().push(told);
        }
        all
    }

    /// The samples that a metric has had in the last minute, by series.
    fn samples(&self, metric: &str) -> BTreeMap<String, Vec<(f64, String)>> {
        let data = self.server.query(&format!("{metric}[1m]"), now());
        let sample = |pair: &Value| (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().to_owned());
        let series = data["result"].as_array().unwrap().iter();
        series
            .map(|s| (s["metric"].to_string(), s["values"].as_array().unwrap().iter().map(sample).collect()))
            .collect()
    }
}

#[derive(Clone, Debug)]
struct Told {
    at: f64,
    starts_at: f64,
    ends_at: f64,
    is_resolved: bool,
    text: String,
}

/// Removes times and sorts alerts.
fn strip(data: &mut Value) {
    for group in data["groups"].as_array_mut().unwrap() {
        let group = group.as_object_mut().unwrap();
        let file = group["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        group.insert("file".to_owned(), json!(file));
        for key in ["evaluationTime", "lastEvaluation"] {
            assert!(group.remove(key).is_some(), "{key}");
        }
        for rule in group["rules"].as_array_mut().unwrap() {
            let rule = rule.as_object_mut().unwrap();
            for key in ["evaluationTime", "lastEvaluation"] {
                assert!(rule.remove(key).is_some(), "{key}");
            }
            // 3.5 leaves the labels of recording rules out where there are none.
            rule.entry("labels").or_insert_with(|| json!({}));
            if let Some(error) = rule.get_mut("lastError") {
                // Which of two series is named first is chance.
                *error = json!(error.as_str().unwrap().split(": [").next().unwrap());
            }
            let Some(alerts) = rule.get_mut("alerts").and_then(Value::as_array_mut) else { continue };
            alerts.iter_mut().for_each(hide_times);
            alerts.sort_by_key(ToString::to_string);
        }
    }
}

/// Puts a mark in the place of the times of an alert.
fn hide_times(alert: &mut Value) {
    for key in ["activeAt", "keepFiringSince"] {
        if let Some(t) = alert.as_object_mut().unwrap().get_mut(key) {
            let _: jiff::Timestamp = t.as_str().unwrap().parse().unwrap();
            *t = json!("some time");
        }
    }
}

/// The runs of what was told: from which time, how often, and of which kind and text.
fn runs(told: &[Told]) -> Vec<(&Told, usize)> {
    let mut runs: Vec<(&Told, usize)> = Vec::new();
    for told in told {
        match runs.last_mut() {
            Some((first, n)) if first.is_resolved == told.is_resolved && first.text == told.text => *n += 1,
            _ => runs.push((told, 1)),
        }
    }
    runs
}

fn near(a: f64, b: f64, what: &dyn std::fmt::Display) {
    assert!((a - b).abs() <= 1.6, "{what}: {a} and {b}");
}

/// What both sent: the same alerts in the same order of states and texts, at about the same times.
fn compare_told(ours: &Side, theirs: &Side) -> usize {
    let (ours, theirs) = (ours.told(), theirs.told());
    let names = |told: &BTreeMap<String, Vec<Told>>| told.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&ours), names(&theirs));
    let mut n_runs = 0;
    for (labels, our_told) in &ours {
        let their_told = &theirs[labels];
        let (our_runs, their_runs) = (runs(our_told), runs(their_told));
        let kinds = |runs: &[(&Told, usize)]| {
            runs.iter().map(|(first, _)| (first.is_resolved, first.text.clone())).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&our_runs), kinds(&their_runs), "{labels}: {our_told:?} {their_told:?}");
        for ((our_first, our_n), (their_first, their_n)) in our_runs.iter().zip(&their_runs) {
            n_runs += 1;
            if labels.contains("Absent") {
                // It fires since each of the two has begun.
                continue;
            }
            near(our_first.at, their_first.at, labels);
            near(our_first.starts_at, their_first.starts_at, labels);
            near(our_first.ends_at, their_first.ends_at, labels);
            assert!(our_n.abs_diff(*their_n) <= 1, "{labels}: {our_n} and {their_n} times");
        }
        // A rule that fails for a while tells nothing meanwhile.
        let is_failing = labels.contains("Equal") || labels.contains("OverLimit");
        for told in [our_told, their_told] {
            for pair in told.windows(2) {
                let is_same =
                    pair[0].is_resolved == pair[1].is_resolved && pair[0].starts_at == pair[1].starts_at;
                let pause = pair[1].at - pair[0].at;
                // The first slot that is more than two seconds later.
                assert!(
                    is_failing || !is_same || (2.5..4.6).contains(&pause),
                    "{labels}: again after {pause}"
                );
            }
            for told in told.iter().filter(|told| !told.is_resolved) {
                near(told.ends_at - told.at, 8.0, labels);
            }
        }
    }
    n_runs
}

/// What both wrote: the same series, of about as many samples, that say about the same times.
fn compare_written(ours: &Side, theirs: &Side) -> usize {
    let mut n_series = 0;
    for metric in ["ALERTS", "ALERTS_FOR_STATE", "level:doubled", "over:limit", "equal", "text"] {
        let (ours, theirs) = (ours.samples(metric), theirs.samples(metric));
        let names =
            |series: &BTreeMap<String, Vec<(f64, String)>>| series.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&ours), names(&theirs), "{metric}");
        for (labels, our_samples) in &ours {
            n_series += 1;
            let their_samples = &theirs[labels];
            let is_endless = labels.contains("Absent") || !labels.contains("ALERTS");
            let difference = our_samples.len().abs_diff(their_samples.len());
            assert!(is_endless || difference <= 2, "{labels}: {our_samples:?} {their_samples:?}");
            // Values that follow each other, times as seconds since the first sample.
            let values = |samples: &[(f64, String)]| {
                let mut values: Vec<String> = samples.iter().map(|(_, v)| v.clone()).collect();
                values.dedup();
                values
            };
            let (our_values, their_values) = (values(our_samples), values(their_samples));
            assert_eq!(our_values.len(), their_values.len(), "{labels}: {our_values:?} {their_values:?}");
            for (our_value, their_value) in our_values.iter().zip(&their_values) {
                if metric == "ALERTS_FOR_STATE" && !labels.contains("Absent") {
                    near(our_value.parse().unwrap(), their_value.parse().unwrap(), labels);
                } else if metric != "ALERTS_FOR_STATE" {
                    assert_eq!(our_value, their_value, "{labels}");
                }
            }
        }
    }
    n_series
}

#[test]
fn alerts_are_shown_written_and_sent_as_prometheus_does() {
    let test = "alerts_are_shown_written_and_sent_as_prometheus_does";
    let Some(program) = reference(test) else { return };
    let begin = Arc::new(OnceLock::new());
    let target = target(&begin);
    let (mut ours, mut theirs) = thread::scope(|scope| {
        let ours = scope.spawn(|| Side::start(&target, None));
        let theirs = Side::start(&target, Some(&program));
        (ours.join().unwrap(), theirs)
    });
    // `ALERTS` are written after the second evaluation, when the past has been looked for.
    for side in [&ours, &theirs] {
        until_true("the first evaluations", || {
            side.server.value("min(ALERTS_FOR_STATE{alertname=\"Absent\"})").is_some()
                && side.server.value("count(level)").is_some_and(|n| n >= 13.0)
        });
    }
    let start = now().ceil() + 1.0;
    begin.set(start as i64).unwrap();
    // The last change is at 12: time enough for both to see it, whatever their phases are.
    while now() < start + SCRIPT as f64 + 1.5 {
        ours.look();
        theirs.look();
        thread::sleep(Duration::from_millis(150));
    }
    // All of them, so that one difference does not hide another.
    let checks: [(&str, fn(&Side, &Side) -> usize); 4] = [
        ("runs of messages sent", compare_told),
        ("series written", compare_written),
        ("states shown", compare_shown),
        ("requests answered", compare_requests),
    ];
    let outcomes = checks.map(|(what, check)| {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&ours, &theirs)));
        (what, outcome)
    });
    for (what, outcome) in outcomes {
        match outcome {
            Ok(n) => println!("{n} {what}: equal"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What both showed: the same states of every rule and its alerts, in the same order.
fn compare_shown(ours: &Side, theirs: &Side) -> usize {
    assert_eq!(ours.states.keys().collect::<Vec<_>>(), theirs.states.keys().collect::<Vec<_>>());
    let mut n_states = 0;
    for (rule, states) in &ours.states {
        let is_started = |state: &&Value| state["health"] != "unknown" && state["state"] != "unknown";
        let started = |states: &[Value]| states.iter().filter(is_started).cloned().collect::<Vec<_>>();
        let (mut our_states, mut their_states) = (started(states), started(&theirs.states[rule]));
        if rule.contains("Absent") || rule.contains("text") {
            // It has been so since before somebody looked.
            our_states.drain(..our_states.len() - 1);
            their_states.drain(..their_states.len() - 1);
        }
        n_states += our_states.len();
        assert_eq!(our_states, their_states, "{rule}");
    }
    n_states
}

/// What `/rules` and its neighbours answer to parameters, right and wrong.
fn compare_requests(ours: &Side, theirs: &Side) -> usize {
    let shown = |side: &Side, path: &str| {
        let (status, body) = side.server.get(path);
        let mut body: Value = serde_json::from_str(&body).unwrap();
        if body["data"]["groups"].is_array() {
            strip(&mut body["data"]);
        }
        if let Some(token) = body["data"].get_mut("groupNextToken") {
            // A longer hash in 3.14 than in 3.5.
            assert!([40, 64].contains(&token.as_str().unwrap().len()), "{token}");
            *token = json!("a token");
        }
        (status, body)
    };
    let compare = |path: &str| assert_eq!(shown(ours, path), shown(theirs, path), "{path}");
    let parameters = [
        "",
        "type=alert",
        "type=RECORD",
        "type=all",
        "type=record&exclude_alerts=true",
        "exclude_alerts=T",
        "exclude_alerts=maybe",
        "rule_name[]=Fires&rule_name[]=equal",
        "rule_group[]=chain&rule_name[]=Fires",
        "rule_group[]=chain&rule_group[]=states&type=alert",
        "file[]=nothing",
        "rule_name[]=",
        "group_limit=2",
        "group_limit=0",
        "group_limit=-1",
        "group_limit=x",
        "group_limit=1.5",
        "group_limit=99999999999",
        "group_limit=3",
        "group_limit=1&type=record",
        "group_next_token=x",
        "group_limit=1&group_next_token=x",
        "match[]={severity=\"page\"}",
        "match[]={team=\"a\"}&match[]={kind=~\".%2B\"}",
        "match[]={where=~\"at.*\"}",
        "match[]={severity=\"\"}",
        "match[]={}",
        "match[]=up{",
        "match[]=name",
        "match[]={team=\"a\",severity!=\"page\"}",
    ];
    for parameters in parameters {
        compare(&format!("/api/v1/rules?{parameters}"));
    }
    let alerts = |side: &Side| {
        let mut list = side.server.json("/api/v1/alerts")["data"]["alerts"].take();
        let list = list.as_array_mut().unwrap();
        list.iter_mut().for_each(hide_times);
        list.sort_by_key(ToString::to_string);
        list.clone()
    };
    assert_eq!(alerts(ours), alerts(theirs));
    // Page after page, also where the filter leaves the group out that a token names.
    for filter in ["", "&type=record"] {
        let pages = |side: &Side| {
            let (mut token, mut names) = (String::new(), Vec::new());
            loop {
                let next =
                    if token.is_empty() { String::new() } else { format!("&group_next_token={token}") };
                let page = side.server.json(&format!("/api/v1/rules?group_limit=1{filter}{next}"));
                let groups = page["data"]["groups"].as_array().unwrap();
                names.push(groups.iter().map(|group| group["name"].clone()).collect::<Vec<_>>());
                match page["data"].get("groupNextToken") {
                    Some(next) => next.as_str().unwrap().clone_into(&mut token),
                    None => return names,
                }
            }
        };
        assert_eq!(pages(ours), pages(theirs), "{filter}");
    }
    let first = |side: &Side| {
        let page = side.server.json("/api/v1/rules?group_limit=1");
        let token = page["data"]["groupNextToken"].as_str().unwrap().to_owned();
        shown(side, &format!("/api/v1/rules?group_limit=1&rule_group[]=states&group_next_token={token}"))
    };
    assert_eq!(first(ours), first(theirs), "a token of a group that is left out");
    let alertmanagers = |side: &Side| {
        let list = side.server.json("/api/v1/alertmanagers");
        let url = list["data"]["activeAlertmanagers"][0]["url"].as_str().unwrap().to_owned();
        (url.ends_with("/am/api/v2/alerts"), list["data"]["droppedAlertmanagers"].clone())
    };
    assert_eq!(alertmanagers(ours), (true, json!([])));
    assert_eq!(alertmanagers(ours), alertmanagers(theirs));
    // The same metrics by name and labels, what is ours alone aside.
    let metrics = |side: &Side| {
        let (_, body) = side.server.get("/metrics");
        let is_of_alerting = |line: &&str| {
            ["prometheus_rule_", "prometheus_notifications_", "prometheus_template_"]
                .iter()
                .any(|p| line.starts_with(p))
        };
        let address =
            side.server.json("/api/v1/alertmanagers")["data"]["activeAlertmanagers"][0]["url"].clone();
        let dir = side.server.json("/api/v1/rules")["data"]["groups"][0]["file"].as_str().unwrap().to_owned();
        let name = |line: &str| {
            let name = line.rsplit_once(' ').unwrap().0;
            name.replace(address.as_str().unwrap(), "URL").replace(&dir, "FILE")
        };
        body.lines().filter(is_of_alerting).map(name).collect::<BTreeSet<_>>()
    };
    let (our_metrics, their_metrics) = (metrics(ours), metrics(theirs));
    if their_metrics.iter().any(|name| name.contains("_histogram_seconds")) {
        assert_eq!(our_metrics, their_metrics);
    } else {
        // 3.5 has no histograms here, and one queue for all Alertmanagers.
        let one_queue = ["prometheus_notifications_dropped_total", "prometheus_notifications_queue_length"];
        let older = |name: String| {
            let bare = name.split('{').next().unwrap_or_default();
            if one_queue.contains(&bare) { bare.to_owned() } else { name }
        };
        let ours: BTreeSet<_> =
            our_metrics.into_iter().filter(|name| !name.contains("_histogram_seconds")).map(older).collect();
        assert_eq!(ours, their_metrics);
    }
    parameters.len()
}

/// The process is killed while alerts are pending, firing and kept firing: who is notified notices nothing.
#[test]
fn a_killed_server_goes_on_with_its_alerts() {
    let begin = Arc::new(OnceLock::new());
    let target = target(&begin);
    let (recorder, posts) = recorder();
    let home = Home::new(&config(&target, &recorder));
    home.write("rules.yml", RULES);
    let before = home.start(&FLAGS);
    let starts = |name: &str| -> Vec<String> {
        let posts = posts.lock().unwrap();
        let of_name = posts.iter().filter(|(_, alert)| alert["labels"]["alertname"] == name);
        of_name.map(|(_, alert)| alert["startsAt"].as_str().unwrap().to_owned()).collect()
    };
    until_true("the alert to fire", || !starts("Absent").is_empty());
    // What the file says is at most 15 s old; a first one is written after a second.
    until_true("the state to be kept", || {
        std::fs::read_to_string(home.path("data/rules/alerts.state"))
            .is_ok_and(|text| text.contains("\"firing\""))
    });
    let n_before = starts("Absent").len();
    before.kill();
    let after = home.start(&FLAGS);
    until_true("the alert to be sent again", || starts("Absent").len() > n_before);
    let all: BTreeSet<String> = starts("Absent").into_iter().collect();
    assert_eq!(all.len(), 1, "it has been firing since the same time: {all:?}");
    let active = until("the alert to be shown", || {
        let alerts = after.json("/api/v1/alerts")["data"]["alerts"].take();
        alerts.as_array().unwrap().iter().find(|alert| alert["labels"]["alertname"] == "Absent").cloned()
    });
    assert_eq!(active["state"], "firing");
    after.stop();
}
