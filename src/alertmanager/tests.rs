//! The logic with times given by hand, and the whole with a webhook that listens.

mod timing;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use config::Secret;
use config::alertmanager::{Config, InhibitRule, Integration, Notifier, Receiver, Route, Webhook};
use config::http_client::{HttpClient, SecretSource};
use jiff::Timestamp;
use model::{MatchOp, Matcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::alert::{Alert, Fingerprint, LabelSet, PostedAlert, display};
use super::api::{AlertFilter, SilenceFilter};
use super::clock::{Clock, SystemClock, after};
use super::dispatch::Dispatcher;
use super::nflog::{Entry, Key, Log, Memory, Reason, decide};
use super::route::Routes;
use super::silence::{PostedSilence, SilenceError};
use super::{Alertmanager, Options};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn equal(name: &str, value: &str) -> Matcher {
    Matcher::new(MatchOp::Eq, name, value).unwrap()
}

fn route(receiver: &str, matchers: Vec<Matcher>, routes: Vec<Route>) -> Route {
    Route {
        mute_time_intervals: Vec::new(),
        active_time_intervals: Vec::new(),
        labels: LabelSet::new(),
        receiver: receiver.to_owned(),
        group_by: Some(vec!["alertname".to_owned()]),
        group_wait: secs(30),
        group_interval: secs(300),
        repeat_interval: secs(3600),
        matchers,
        continue_matching: false,
        routes,
    }
}

fn config(route: Route, receivers: Vec<Receiver>) -> Config {
    Config {
        time_intervals: std::collections::BTreeMap::new(),
        resolve_timeout: secs(300),
        route,
        receivers: receivers.into_iter().map(Arc::new).collect(),
        inhibit_rules: Vec::new(),
        templates: Vec::new(),
        text: "route: {}\n".to_owned(),
        warnings: Vec::new(),
    }
}

fn sink(name: &str) -> Receiver {
    Receiver { name: name.to_owned(), ..Receiver::default() }
}

fn alert(pairs: &[(&str, &str)], starts: i64, ends: i64) -> Alert {
    let labels = labels(pairs);
    Alert {
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: LabelSet::new(),
        starts_at: at(starts),
        ends_at: at(ends),
        updated_at: at(starts),
        generator_url: String::new(),
        is_timeout: false,
    }
}

#[test]
fn fingerprints_and_keys_are_upstreams() {
    // Read off Alertmanager 0.33.1 for alerts with these labels and a route with these matchers.
    let set = labels(&[("alertname", "Down"), ("instance", "b:1")]);
    assert_eq!(Fingerprint::of(&set).to_string(), "7e580b3622d4ecb0");
    let more = labels(&[("alertname", "Down"), ("instance", "a:1"), ("severity", "page"), ("team", "x")]);
    assert_eq!(Fingerprint::of(&more).to_string(), "762c01b1f9501552");
    assert_eq!(display(&set), r#"{alertname="Down", instance="b:1"}"#);
    let page = route(
        "page",
        vec![Matcher::new(MatchOp::Re, "team", "x|y").unwrap(), equal("severity", "page")],
        Vec::new(),
    );
    let routes = Routes::new(&config(route("all", Vec::new(), vec![page]), vec![sink("all"), sink("page")]));
    let found = routes.find(&labels(&[("alertname", "Down"), ("severity", "page"), ("team", "x")]));
    assert_eq!(routes.node(found[0]).key, r#"{}/{severity="page",team=~"x|y"}"#);
}

#[test]
fn routes_match_depth_first() {
    let mut b = route("b", vec![equal("a", "1")], Vec::new());
    b.continue_matching = true;
    let inner = route("inner", vec![equal("c", "1")], Vec::new());
    let c = route("c", vec![equal("a", "1")], vec![inner]);
    let d = route("d", vec![equal("a", "1")], Vec::new());
    let root = route("root", Vec::new(), vec![b, c, d]);
    let routes = Routes::new(&config(root, Vec::new()));
    let names = |pairs: &[(&str, &str)]| -> Vec<String> {
        routes.find(&labels(pairs)).into_iter().map(|i| routes.node(i).receiver.name.clone()).collect()
    };
    assert_eq!(names(&[("x", "1")]), ["root"]);
    assert_eq!(names(&[("a", "1")]), ["b", "c"]);
    assert_eq!(names(&[("a", "1"), ("c", "1")]), ["b", "inner"]);
}

#[test]
fn groups_wait_then_repeat_at_the_interval() {
    let routes = Arc::new(Routes::new(&config(route("r", Vec::new(), Vec::new()), vec![sink("r")])));
    let mut dispatcher = Dispatcher::new(Arc::clone(&routes), Timestamp::MIN, 0);
    let first = Arc::new(alert(&[("alertname", "Down"), ("instance", "a")], 0, 900));
    dispatcher.insert(&first, at(0));
    assert_eq!(dispatcher.next_due(), Some(at(30)));
    assert!(dispatcher.take_due(at(29)).is_empty());

    // A second alert of the group does not postpone it.
    dispatcher.insert(&Arc::new(alert(&[("alertname", "Down"), ("instance", "b")], 10, 900)), at(10));
    let due = dispatcher.take_due(at(30));
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].key, r#"{}:{alertname="Down"}"#);
    assert_eq!(due[0].alerts.len(), 2);
    assert_eq!(due[0].timeout, secs(300));
    // While it is flushed the group is not due again, however late it gets.
    assert!(dispatcher.take_due(at(1000)).is_empty());
    assert_eq!(dispatcher.next_due(), None);
    dispatcher.finish(&due[0], true, &HashSet::new());
    assert_eq!(dispatcher.next_due(), Some(at(330)));

    // A failed flush keeps what resolved; a successful one lets it go, and then the group.
    let ended = Arc::new(alert(&[("alertname", "Down"), ("instance", "a")], 0, 320));
    dispatcher.insert(&ended, at(320));
    dispatcher.insert(&Arc::new(alert(&[("alertname", "Down"), ("instance", "b")], 10, 325)), at(325));
    let due = dispatcher.take_due(at(330));
    assert!(due[0].alerts.iter().all(|flushed| flushed.is_resolved));
    dispatcher.finish(&due[0], false, &HashSet::new());
    assert_eq!(dispatcher.len(), 1);
    let due = dispatcher.take_due(at(630));
    // One that fires again meanwhile stays.
    dispatcher.insert(&Arc::new(alert(&[("alertname", "Down"), ("instance", "b")], 631, 1200)), at(631));
    dispatcher.finish(&due[0], true, &HashSet::new());
    assert_eq!(dispatcher.groups().next().unwrap().alerts.len(), 1);
}

#[test]
fn old_alerts_do_not_wait_and_reload_keeps_timers() {
    let root = || config(route("r", Vec::new(), Vec::new()), vec![sink("r")]);
    let mut dispatcher = Dispatcher::new(Arc::new(Routes::new(&root())), Timestamp::MIN, 0);
    let old = Arc::new(alert(&[("alertname", "Old")], -100, 900));
    let new = Arc::new(alert(&[("alertname", "New")], 0, 900));
    dispatcher.insert(&old, at(0));
    dispatcher.insert(&new, at(0));
    let due = dispatcher.take_due(at(0));
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].labels, labels(&[("alertname", "Old")]));
    dispatcher.finish(&due[0], true, &HashSet::new());
    let alerts = [old, new];
    dispatcher.reload(Arc::new(Routes::new(&root())), alerts.iter(), at(10));
    assert_eq!(dispatcher.next_due(), Some(at(30)));
    let due = dispatcher.take_due(at(30));
    assert_eq!(due.len(), 1, "the old group keeps its interval");
    let mut by_all = root();
    by_all.route.group_by = None;
    dispatcher.reload(Arc::new(Routes::new(&by_all)), alerts.iter(), at(40));
    dispatcher.finish(&due[0], true, &HashSet::new());
    assert_eq!(dispatcher.len(), 2);
}

/// Last entry, firing, resolved, `send_resolved`, seconds since the entry, and what is to be decided.
type Case = (Option<Entry>, &'static [u64], &'static [u64], bool, i64, Option<Reason>);

#[test]
fn notifications_are_not_repeated_too_early() {
    let set = |items: &[u64]| items.iter().copied().collect();
    let entry = |firing: &[u64], resolved: &[u64]| Entry {
        at: at(0),
        expires_at: at(0),
        firing: set(firing),
        resolved: set(resolved),
        memory: Memory::new(),
    };
    let cases: [Case; 12] = [
        (None, &[1], &[], true, 1, Some(Reason::First)),
        (None, &[], &[1], true, 1, None),
        (Some(entry(&[1], &[])), &[1, 2], &[], true, 1, Some(Reason::NewAlerts)),
        (Some(entry(&[], &[1])), &[1], &[], true, 1, Some(Reason::First)),
        (Some(entry(&[1], &[])), &[], &[1], true, 1, Some(Reason::AllResolved)),
        (Some(entry(&[1], &[])), &[], &[1], false, 1, Some(Reason::AllResolved)),
        (Some(entry(&[], &[1])), &[], &[1, 2], true, 9999, None),
        (Some(entry(&[1, 2], &[])), &[1], &[2], true, 1, Some(Reason::SomeResolved)),
        (Some(entry(&[1, 2], &[])), &[1], &[2], false, 1, None),
        (Some(entry(&[1], &[])), &[1], &[], true, 3600, None),
        (Some(entry(&[1], &[])), &[1], &[], true, 3601, Some(Reason::Repeat)),
        (Some(entry(&[1, 2], &[3])), &[1], &[3], true, 10, None),
    ];
    for (i, (entry, firing, resolved, send_resolved, now, wanted)) in cases.into_iter().enumerate() {
        let got = decide(entry.as_ref(), &set(firing), &set(resolved), send_resolved, secs(3600), at(now));
        assert_eq!(got, wanted, "case {i}");
    }
    let mut log = Log::default();
    let key = Key {
        group: "{}:{}".to_owned(),
        receiver: "r".to_owned(),
        integration: "email".to_owned(),
        index: 1,
    };
    assert_eq!(key.to_string(), "{}:{}:r/email/1");
    let expires_at = Log::expiry(at(0), secs(3600), secs(10_000));
    log.put(key.clone(), Entry { expires_at, ..entry(&[1], &[]) });
    log.collect_garbage(at(7199));
    assert!(log.get(&key).is_some());
    log.collect_garbage(at(7200));
    assert!(log.is_empty());
}

#[test]
fn posted_alerts_are_completed_checked_and_merged() {
    let posted = |starts: Option<i64>, ends: Option<i64>| PostedAlert {
        labels: labels(&[("alertname", "A"), ("empty", "")]),
        starts_at: starts.map(at),
        ends_at: ends.map(at),
        ..PostedAlert::default()
    };
    let accept = |posted, now| Alert::accept(posted, at(now), secs(300));
    let bare = accept(posted(None, None), 10).unwrap();
    assert_eq!((bare.starts_at, bare.ends_at, bare.is_timeout), (at(10), at(310), true));
    assert_eq!(bare.labels, labels(&[("alertname", "A")]));
    assert_eq!(accept(posted(None, Some(5)), 10).unwrap().starts_at, at(5));
    let error = accept(posted(Some(9), Some(5)), 10).unwrap_err();
    assert_eq!(error.to_string(), "start time must be before end time");
    let error = accept(PostedAlert::default(), 10).unwrap_err();
    assert_eq!(error.to_string(), "at least one label pair required");

    // A resolved one ends the firing one; the earliest start stays.
    let old = accept(posted(Some(0), None), 0).unwrap();
    let merged = accept(posted(Some(5), Some(20)), 21).unwrap().over(&old, at(21));
    assert_eq!((merged.starts_at, merged.ends_at), (at(0), at(20)));
    // A resolve timeout does not outlive a later statement.
    let merged = accept(posted(Some(5), Some(200)), 21).unwrap().over(&old, at(21));
    assert_eq!(merged.ends_at, at(200));
    // An explicit later end does.
    let old = accept(posted(Some(0), Some(300)), 0).unwrap();
    let merged = accept(posted(Some(5), Some(200)), 21).unwrap().over(&old, at(21));
    assert_eq!(merged.ends_at, at(300));
    // Apart in time: replaced.
    let merged = accept(posted(Some(400), None), 400).unwrap().over(&old, at(400));
    assert_eq!(merged.starts_at, at(400));

    let json = r#"[{"labels":{"a":"b"},"startsAt":"2023-11-14T22:13:20.5Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://x"}]"#;
    let parsed: Vec<PostedAlert> = serde_json::from_str(json).unwrap();
    assert_eq!(parsed[0].starts_at.unwrap().as_millisecond(), 1_700_000_000_500);
    assert_eq!(parsed[0].ends_at, None);
}

/// A clock that stands where it is put.
struct Hand(parking_lot::Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

impl Hand {
    fn new(t: Timestamp) -> Arc<Self> {
        Arc::new(Self(parking_lot::Mutex::new(t)))
    }

    fn set(&self, t: Timestamp) {
        *self.0.lock() = t;
    }
}

fn posted(pairs: &[(&str, &str)], starts: i64, ends: i64) -> PostedAlert {
    PostedAlert {
        labels: labels(pairs),
        starts_at: Some(at(starts)),
        ends_at: Some(at(ends)),
        generator_url: "http://prom/graph".to_owned(),
        ..PostedAlert::default()
    }
}

fn posted_silence(id: &str, value: &str, starts: i64, ends: i64) -> PostedSilence {
    let json = serde_json::json!({
        "id": id, "comment": "c", "createdBy": "me",
        "matchers": [{"name": "alertname", "value": value, "isRegex": false}],
        "startsAt": at(starts).to_string(), "endsAt": at(ends).to_string(),
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn silences_live_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { data_dir: Some(dir.path().join("alertmanager")), ..Options::default() };
    let root = || config(route("r", Vec::new(), Vec::new()), vec![sink("r")]);
    let clock = Hand::new(at(0));
    let manager = Alertmanager::new(root(), options.clone(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();

    let refused = |silence| manager.put_silence(silence).unwrap_err().to_string();
    assert_eq!(
        refused(posted_silence("", "A", 10, 5)),
        "Failed to create silence: start time must be before end time"
    );
    assert_eq!(
        refused(posted_silence("", "A", -10, -5)),
        "Failed to create silence: end time can't be in the past"
    );
    assert_eq!(
        refused(posted_silence("", "", 0, 10)),
        "invalid silence: matcher set 0: at least one matcher must not match the empty string"
    );
    assert_eq!(manager.put_silence(posted_silence("nope", "A", 0, 10)), Err(SilenceError::NotFound));

    let id = manager.put_silence(posted_silence("", "A", -50, 100)).unwrap().id;
    assert_eq!(id.len(), 36);
    assert_eq!(manager.silence(&id).unwrap().starts_at, at(0), "not in the past");
    // Same matchers and start: in place; others: a new one, and the old ends.
    assert_eq!(manager.put_silence(posted_silence(&id, "A", 0, 200)).unwrap().id, id);
    let other = manager.put_silence(posted_silence(&id, "B", 0, 200)).unwrap().id;
    assert_ne!(other, id);
    assert_eq!(manager.silence(&id).unwrap().status.state, "expired");

    manager.put(vec![posted(&[("alertname", "B"), ("job", "x")], 0, 900)]).unwrap();
    let alerts = manager.alerts(&AlertFilter::default());
    assert_eq!(alerts[0].status.state, "suppressed");
    assert_eq!(alerts[0].status.silenced_by, std::slice::from_ref(&other));
    assert!(manager.alerts(&AlertFilter { silenced: false, ..AlertFilter::default() }).is_empty());
    let holding = |matcher| {
        manager.silences(&SilenceFilter { matchers: vec![matcher], ..SilenceFilter::default() }).len()
    };
    assert_eq!(holding(equal("alertname", "B")), 1);
    assert_eq!(holding(Matcher::new(MatchOp::Re, "alertname", "B").unwrap()), 0);

    let again = Alertmanager::new(root(), options, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let listed: Vec<_> =
        again.silences(&SilenceFilter::default()).into_iter().map(|s| (s.id, s.status.state)).collect();
    assert_eq!(listed, [(other.clone(), "active"), (id, "expired")]);
    again.expire_silence(&other).unwrap();
    assert_eq!(again.silence(&other).unwrap().status.state, "expired");
    assert_eq!(again.expire_silence("nope"), Err(SilenceError::NotFound));
    clock.set(after(at(0), secs(120 * 3600 + 1)));
    again.maintain();
    assert!(again.silences(&SilenceFilter::default()).is_empty());
}

#[test]
fn firing_alerts_inhibit_others() {
    let mut inhibiting = config(route("r", Vec::new(), Vec::new()), vec![sink("r")]);
    inhibiting.inhibit_rules.push(InhibitRule {
        name: String::new(),
        source_matchers: vec![equal("severity", "critical")],
        target_matchers: vec![Matcher::new(MatchOp::Re, "severity", "warning|critical").unwrap()],
        equal: vec!["cluster".to_owned()],
    });
    let clock = Hand::new(at(0));
    let manager =
        Alertmanager::new(inhibiting, Options::default(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let source = |instance: &str, ends| {
        posted(&[("severity", "critical"), ("cluster", "c"), ("instance", instance)], 0, ends)
    };
    manager
        .put(vec![
            source("1", 100),
            source("2", 200),
            posted(&[("severity", "warning"), ("cluster", "c")], 0, 900),
            posted(&[("severity", "warning"), ("cluster", "d")], 0, 900),
            posted(&[("severity", "warning")], 0, 900),
        ])
        .unwrap();
    let muted = || {
        let alerts = manager.alerts(&AlertFilter { active: false, ..AlertFilter::default() });
        alerts.into_iter().map(|alert| display(&alert.labels)).collect::<Vec<_>>()
    };
    // Both sources match both sides, so neither is muted by the other.
    let target = r#"{cluster="c", severity="warning"}"#;
    assert_eq!(muted(), [target]);
    clock.set(at(150));
    assert_eq!(muted(), [target], "the other source still fires");
    manager.forget_alerts(at(150));
    assert_eq!(muted(), [target]);
    clock.set(at(250));
    assert!(muted().is_empty());
}

#[test]
fn api_answers_in_upstreams_form() {
    let clock = Hand::new(at(0));
    let manager = Alertmanager::new(
        config(route("team.a", Vec::new(), Vec::new()), vec![sink("team.a")]),
        Options::default(),
        clock as Arc<dyn Clock>,
    )
    .unwrap();
    let mut bad = posted(&[("alertname", "A")], 5, 1);
    bad.generator_url.clear();
    let error = manager.put(vec![bad, posted(&[("alertname", "A"), ("job", "x")], -5, 300)]).unwrap_err();
    assert_eq!(error.to_string(), "start time must be before end time");
    let alerts = manager.alerts(&AlertFilter::default());
    assert_eq!(
        serde_json::to_string(&alerts).unwrap(),
        r#"[{"annotations":{},"endsAt":"2023-11-14T22:18:20.000Z","fingerprint":"FP","receivers":[{"name":"team.a"}],"startsAt":"2023-11-14T22:13:15.000Z","status":{"inhibitedBy":[],"mutedBy":[],"silencedBy":[],"state":"active"},"updatedAt":"2023-11-14T22:13:20.000Z","generatorURL":"http://prom/graph","labels":{"alertname":"A","job":"x"}}]"#
            .replace("FP", &alerts[0].fingerprint)
    );
    let groups = manager.alert_groups(&AlertFilter::default());
    assert_eq!((groups.len(), &groups[0].labels), (1, &labels(&[("alertname", "A")])));
    let regex = model::Regex::anchored(b"team").unwrap();
    let other = AlertFilter { receiver: Some(regex), ..AlertFilter::default() };
    assert!(manager.alerts(&other).is_empty() && manager.alert_groups(&other).is_empty());
    let by_job = AlertFilter { matchers: vec![equal("job", "y")], ..AlertFilter::default() };
    assert!(manager.alerts(&by_job).is_empty());
    assert_eq!(
        serde_json::to_string(&manager.receivers(&[])).unwrap(),
        r#"[{"labels":{"name":"team.a"},"name":"team.a"}]"#
    );
    let status = serde_json::to_value(manager.status()).unwrap();
    assert_eq!(status["cluster"], serde_json::json!({"peers": [], "status": "disabled"}));
    assert_eq!(status["config"]["original"], "route: {}\n");

    let mut out = model::wire::expose::Exposition::default();
    model::wire::expose::Expose::expose(&*manager, &mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    for line in [
        "alertmanager_alerts{state=\"active\"} 1",
        "alertmanager_alerts_received_total{status=\"firing\",version=\"v2\"} 2",
        "alertmanager_alerts_invalid_total{version=\"v2\"} 1",
        "alertmanager_dispatcher_aggregation_groups 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

/// Answers every request with the next of `statuses`, then with 200, and hands out the bodies.
async fn webhook_server(
    statuses: Vec<u16>,
) -> (String, tokio::sync::mpsc::UnboundedReceiver<serde_json::Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut statuses = statuses.into_iter();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let body = loop {
                let mut chunk = [0; 4096];
                let n = stream.read(&mut chunk).await.unwrap();
                bytes.extend_from_slice(&chunk[..n]);
                let text = String::from_utf8_lossy(&bytes);
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| {
                        line.to_lowercase()
                            .strip_prefix("content-length: ")
                            .map(|n| n.parse::<usize>().unwrap())
                    });
                    if body.len() >= length.unwrap_or(0) {
                        assert!(head.starts_with("POST /hook "), "{head}");
                        assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
                        break body.to_owned();
                    }
                }
                assert!(n > 0, "request ended early");
            };
            let status = statuses.next().unwrap_or(200);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if status == 200 {
                let _ = send.send(serde_json::from_str(&body).unwrap());
            }
        }
    });
    (url, receive)
}

/// From posted alerts to posted messages: one per group, after a failed attempt, then the resolved one.
#[tokio::test]
async fn tells_a_webhook_once_per_group() {
    let (url, mut messages) = webhook_server(vec![503]).await;
    let receiver = Receiver {
        name: "hook".to_owned(),
        integrations: vec![Integration {
            index: 0,
            send_resolved: true,
            notifier: Notifier::Webhook(Box::new(Webhook {
                url: SecretSource::Inline(Secret::new(url)),
                http: HttpClient::default(),
                max_alerts: 2,
                timeout: Duration::ZERO,
                payload: None,
            })),
        }],
        ..Receiver::default()
    };
    let mut root = route("hook", Vec::new(), Vec::new());
    root.group_wait = Duration::from_millis(20);
    root.group_interval = Duration::from_millis(100);
    let options = Options { external_url: "http://am".to_owned(), ..Options::default() };
    let manager = Alertmanager::new(config(root, vec![receiver]), options, Arc::new(SystemClock)).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&manager).run(shutdown.clone()));

    let now = SystemClock.now();
    let one = |instance: &str, ends: Timestamp| PostedAlert {
        labels: labels(&[("alertname", "Down"), ("instance", instance)]),
        annotations: labels(&[("summary", "it is down")]),
        starts_at: Some(now),
        ends_at: Some(ends),
        generator_url: "http://prom/graph".to_owned(),
    };
    let later = after(now, secs(600));
    manager.put(["c", "a", "b"].map(|instance| one(instance, later)).to_vec()).unwrap();
    let first = messages.recv().await.unwrap();
    let instances: Vec<_> =
        first["alerts"].as_array().unwrap().iter().map(|a| &a["labels"]["instance"]).collect();
    assert_eq!(instances, ["a", "b"]);
    assert_eq!(first["truncatedAlerts"], 1);
    assert_eq!(first["groupKey"], r#"{}:{alertname="Down"}"#);
    assert_eq!(first["status"], "firing");
    assert_eq!(first["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(first["notification_reason"], "first notification");
    assert_eq!(first["commonLabels"], serde_json::json!({"alertname": "Down"}));
    assert_eq!(first["version"], "4");

    let ended = SystemClock.now();
    manager.put(["a", "b", "c"].map(|instance| one(instance, ended)).to_vec()).unwrap();
    let second = messages.recv().await.unwrap();
    assert_eq!(second["status"], "resolved");
    assert_eq!(second["notification_reason"], "all alerts resolved");
    shutdown.cancel();
    running.await.unwrap();
    assert!(messages.try_recv().is_err(), "nothing is told twice");
    let mut out = model::wire::expose::Exposition::default();
    model::wire::expose::Expose::expose(&*manager, &mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    assert!(text.contains("alertmanager_notifications_total{integration=\"webhook\"} 2"), "{text}");
    assert!(text.contains("alertmanager_notification_requests_total{integration=\"webhook\"} 3"), "{text}");
}

#[test]
fn globs_of_template_files() {
    for (pattern, text, wanted) in
        [("*.tmpl", "a.tmpl", true), ("*.tmpl", "a.tmp", false), ("a?c*", "abcd", true), ("*", "", true)]
    {
        assert_eq!(super::is_match(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
    }
}
