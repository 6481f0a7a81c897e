//! Who is told when, and what a restart changes of that: nothing. The clock is moved by hand, groups are flushed when
//! it says so, and receivers are webhooks of the test.

use std::path::Path;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    AlertFilter, Alertmanager, Arc, Clock, Hand, Options, SilenceFilter, Timestamp, at, labels, posted,
    posted_silence, secs, webhook_server,
};

/// An Alertmanager whose time is stepped through.
struct Bench {
    clock: Arc<Hand>,
    manager: Arc<Alertmanager>,
    told: UnboundedReceiver<Value>,
    yaml: String,
    options: Options,
}

impl Bench {
    /// `route` is the inside of the root route, to which a receiver `hook` is added; `more` follows.
    async fn new(dir: Option<&Path>, route: &str, more: &str) -> Self {
        let (url, told) = webhook_server(Vec::new()).await;
        let yaml = format!(
            "route: {{receiver: hook, group_by: [alertname], {route}}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: '{url}'}}]}}, {{name: sink}}]\n{more}"
        );
        let clock = Hand::new(at(0));
        let options = Options { data_dir: dir.map(Path::to_owned), ..Options::default() };
        let manager = open(&yaml, &options, &clock);
        Self { clock, manager, told, yaml, options }
    }

    /// Moves to `seconds` and flushes what is due by then.
    async fn step(&self, seconds: i64) {
        self.clock.set(at(seconds));
        let due = self.manager.state.lock().dispatcher.take_due(at(seconds));
        for flush in due {
            self.manager.flush(flush).await;
        }
    }

    /// Ends without a word and begins again at `seconds`.
    fn kill(&mut self, seconds: i64) {
        self.manager.save();
        self.clock.set(at(seconds));
        self.manager = open(&self.yaml, &self.options, &self.clock);
    }

    /// The statuses of the messages since the last look.
    fn told(&mut self) -> Vec<String> {
        let messages = std::iter::from_fn(|| self.told.try_recv().ok());
        messages
            .map(|message| {
                let names: Vec<_> = message["alerts"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|alert| {
                        let name = alert["labels"]["instance"].as_str().unwrap_or("-");
                        format!("{name} {}", alert["status"].as_str().unwrap())
                    })
                    .collect();
                format!("{}: {}", message["notification_reason"].as_str().unwrap(), names.join(", "))
            })
            .collect()
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.manager.state.lock().dispatcher.next_due()
    }
}

fn open(yaml: &str, options: &Options, clock: &Arc<Hand>) -> Arc<Alertmanager> {
    let config = config::alertmanager::parse(yaml, Path::new("alertmanager.yml")).unwrap();
    Alertmanager::new(config, options.clone(), Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

const TIMERS: &str = "group_wait: 30s, group_interval: 5m, repeat_interval: 10m";

#[tokio::test]
async fn repeats_come_at_the_first_flush_after_the_interval() {
    let mut bench = Bench::new(None, TIMERS, "").await;
    bench.manager.put(vec![posted(&[("alertname", "A")], 0, 9000)]).unwrap();
    bench.step(29).await;
    assert!(bench.told().is_empty());
    bench.step(30).await;
    assert_eq!(bench.told(), ["first notification: - firing"]);
    bench.step(330).await;
    // Ten minutes are not yet over when ten minutes are over.
    bench.step(630).await;
    assert!(bench.told().is_empty());
    bench.step(930).await;
    assert_eq!(bench.told(), ["repeat interval elapsed: - firing"]);
    assert_eq!(bench.next_due(), Some(at(1230)));
    // An alert that joins waits for the interval; one that resolves is told.
    bench.manager.put(vec![posted(&[("alertname", "A"), ("instance", "b")], 940, 9000)]).unwrap();
    bench.step(1229).await;
    assert!(bench.told().is_empty());
    bench.step(1230).await;
    assert_eq!(bench.told(), ["new alerts added: b firing, - firing"]);
    bench.clock.set(at(1240));
    bench.manager.put(vec![posted(&[("alertname", "A"), ("instance", "b")], 940, 1240)]).unwrap();
    bench.step(1530).await;
    assert_eq!(bench.told(), ["some alerts resolved: b resolved, - firing"]);
    // Long after: times begin anew from then.
    bench.step(5000).await;
    assert_eq!(bench.next_due(), Some(at(5300)));
}

#[tokio::test]
async fn what_resolves_while_it_is_silenced_is_told_afterwards_even_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(Some(dir.path()), "group_wait: 30s, group_interval: 5m", "").await;
    bench.manager.put(vec![posted(&[("alertname", "A")], 0, 9000)]).unwrap();
    bench.step(30).await;
    assert_eq!(bench.told(), ["first notification: - firing"]);
    bench.clock.set(at(100));
    bench.manager.put_silence(posted_silence("", "A", 100, 1000)).unwrap();
    bench.clock.set(at(200));
    bench
        .manager
        .put(vec![
            posted(&[("alertname", "A")], 0, 200),
            // Nobody knows of this one, so nobody waits for its end.
            posted(&[("alertname", "A"), ("instance", "new")], 150, 190),
        ])
        .unwrap();
    bench.step(330).await;
    assert!(bench.told().is_empty());
    let members = |bench: &Bench| {
        let state = bench.manager.state.lock();
        state.dispatcher.groups().map(|group| group.alerts.len()).collect::<Vec<_>>()
    };
    assert_eq!(members(&bench), [1]);
    bench.kill(700);
    assert_eq!((members(&bench), bench.next_due()), (vec![1], Some(at(630 + 70))), "late, so at once");
    bench.step(700).await;
    assert!(bench.told().is_empty(), "still silenced");
    bench.step(1000).await;
    assert_eq!(bench.told(), ["all alerts resolved: - resolved"]);
    assert!(members(&bench).is_empty());
    bench.kill(1100);
    bench.step(9000).await;
    assert!(bench.told().is_empty());
}

#[tokio::test]
async fn what_resolves_in_a_silence_of_days_is_told_after_it() {
    let mut bench = Bench::new(None, TIMERS, "").await;
    let two_days = 2 * 24 * 3600;
    bench.manager.put(vec![posted(&[("alertname", "A")], 0, 4 * two_days)]).unwrap();
    bench.step(30).await;
    assert_eq!(bench.told(), ["first notification: - firing"]);
    bench.clock.set(at(100));
    bench.manager.put_silence(posted_silence("", "A", 100, two_days)).unwrap();
    // Twice the repeat interval and more, in which the log may forget what nobody needs.
    for seconds in (330..=two_days).step_by(300) {
        if seconds == 330 + 300 * 100 {
            bench.clock.set(at(seconds - 10));
            bench.manager.put(vec![posted(&[("alertname", "A")], 0, seconds - 10)]).unwrap();
        }
        bench.step(seconds).await;
        let now = bench.clock.now();
        bench.manager.state.lock().log.collect_garbage(now);
    }
    assert!(bench.told().is_empty());
    bench.step(two_days + 300).await;
    assert_eq!(bench.told(), ["all alerts resolved: - resolved"]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_nobody_for_long() {
    let bench = Bench::new(None, TIMERS, "").await;
    bench.manager.put(vec![posted(&[("alertname", "A")], 0, 9000)]).unwrap();
    bench.step(30).await;
    assert_eq!(bench.next_due(), Some(at(330)));
    bench.manager.state.lock().dispatcher.clamp(at(-36_000));
    assert_eq!(bench.next_due(), Some(at(-35_700)));
}

#[tokio::test]
async fn a_flush_that_broke_off_is_not_the_last_of_its_group() {
    let mut bench = Bench::new(None, TIMERS, "").await;
    bench.manager.put(vec![posted(&[("alertname", "A")], 0, 9000)]).unwrap();
    bench.clock.set(at(30));
    let flush = bench.manager.state.lock().dispatcher.take_due(at(30)).remove(0);
    assert_eq!(bench.next_due(), None);
    bench.manager.state.lock().dispatcher.release(&flush.id);
    bench.step(330).await;
    assert_eq!(bench.told(), ["first notification: - firing"]);
}

#[tokio::test]
async fn time_intervals_hold_back_and_groups_say_so() {
    // It is 22:13:20.
    let more = "time_intervals:\n- {name: evening, time_intervals: [{times: [{start_time: '22:00', end_time: '22:20'}]}]}\n\
                - {name: night, time_intervals: [{times: [{start_time: '22:20', end_time: '24:00'}]}]}\n";
    let route = "group_wait: 30s, group_interval: 5m, routes: [\
                 {matchers: [alertname=\"Mute\"], mute_time_intervals: [night, evening]}, \
                 {matchers: [alertname=\"Active\"], active_time_intervals: [night]}]";
    let mut bench = Bench::new(None, route, more).await;
    bench
        .manager
        .put(vec![posted(&[("alertname", "Mute")], 0, 9000), posted(&[("alertname", "Active")], 0, 9000)])
        .unwrap();
    bench.step(30).await;
    assert!(bench.told().is_empty());
    let groups = bench.manager.alert_groups(&AlertFilter::default());
    let muted: Vec<_> = groups
        .iter()
        .map(|group| (group.labels["alertname"].as_str(), group.alerts[0].status.muted_by.clone()))
        .collect();
    assert_eq!(muted, [("Active", vec!["night".to_owned()]), ("Mute", vec!["evening".to_owned()])]);
    assert!(groups.iter().all(|group| group.alerts[0].status.state == "suppressed"));
    assert!(bench.manager.alert_groups(&AlertFilter { muted: false, ..AlertFilter::default() }).is_empty());
    bench.step(330).await;
    // 22:23:50.
    bench.step(630).await;
    assert_eq!(bench.told(), ["first notification: - firing"], "only the active one: now it is night");
    let mut out = model::wire::expose::Exposition::default();
    model::wire::expose::Expose::expose(&*bench.manager, &mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    for (reason, n) in
        [("active_time_interval", 2), ("mute_time_interval", 3), ("silence", 0), ("inhibition", 0)]
    {
        let line = format!("alertmanager_notifications_suppressed_total{{reason=\"{reason}\"}} {n}");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn labels_of_routes_are_rendered_in_the_order_of_their_references() {
    let route = "group_wait: 30s, labels: {a: 'A {{ .GroupLabels.alertname }}', n: '{{ len .Alerts }}', \
                 bad: '{{ .Nothing.at.all }}'}, routes: [{matchers: [x=\"\"], labels: {a: inner}}]";
    let mut bench = Bench::new(None, route, "").await;
    bench
        .manager
        .put(vec![posted(&[("alertname", "L"), ("x", "y")], 0, 9000), posted(&[("alertname", "M")], 0, 9000)])
        .unwrap();
    let groups = bench.manager.alert_groups(&AlertFilter::default());
    let shown: Vec<_> = groups.into_iter().map(|group| group.route_labels).collect();
    assert_eq!(shown, [labels(&[("a", "A L"), ("n", "1")]), labels(&[("a", "inner"), ("n", "1")])]);
    bench.step(30).await;
    let message = bench.told.recv().await.unwrap();
    assert!(message["routeLabels"]["a"].is_string(), "{message}");
}

#[tokio::test]
async fn a_reload_begins_anew_only_where_something_changed() {
    let mut bench = Bench::new(None, TIMERS, "").await;
    bench.manager.put(vec![posted(&[("alertname", "A")], 0, 9000)]).unwrap();
    bench.step(30).await;
    assert_eq!(bench.told().len(), 1);
    bench.clock.set(at(100));
    let parse = |yaml: &str| config::alertmanager::parse(yaml, Path::new("am.yml")).unwrap();
    bench.manager.apply(parse(&bench.yaml)).unwrap();
    assert_eq!(bench.next_due(), Some(at(330)));
    let faster = bench.yaml.replace("group_interval: 5m", "group_interval: 1m");
    bench.manager.apply(parse(&faster)).unwrap();
    assert_eq!(bench.next_due(), Some(at(100)), "an old alert of a route that changed");
    bench.step(100).await;
    assert!(bench.told().is_empty(), "the log knows that it was told");
    bench.manager.apply(parse(&faster.replace("receiver: hook,", "receiver: sink,"))).unwrap();
    assert_eq!(bench.next_due(), Some(at(100)));
}

#[tokio::test]
async fn what_fires_does_not_end_because_nobody_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(Some(dir.path()), TIMERS, "").await;
    bench
        .manager
        .put(vec![posted(&[("alertname", "A")], 0, 240), posted(&[("alertname", "B")], -90, -5)])
        .unwrap();
    bench.step(10).await;
    bench.kill(1000);
    let alerts = bench.manager.alerts(&AlertFilter::default());
    assert_eq!(alerts.len(), 1, "what had ended has ended");
    assert_eq!(alerts[0].ends_at, at(1240));
    bench.step(1000).await;
    assert_eq!(bench.told(), ["first notification: - firing"]);
    bench.step(1300).await;
    assert_eq!(bench.told(), ["all alerts resolved: - resolved"], "nobody prolonged it since");
}

/// What a restart must bring back.
fn summary(manager: &Alertmanager) -> String {
    let groups = manager.alert_groups(&AlertFilter::default());
    let silences = manager.silences(&SilenceFilter::default());
    let state = manager.state.lock();
    let mut saved: Vec<_> = state.dispatcher.to_saved().collect();
    saved.sort_by(|a, b| a.0.cmp(&b.0));
    let log: Vec<_> = state.log.iter().collect();
    format!("{groups:#?}\n{silences:#?}\n{saved:#?}\n{log:#?}")
}

#[tokio::test]
async fn a_kill_at_any_byte_of_the_journal_loses_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(Some(dir.path()), TIMERS, "").await;
    let manager = &bench.manager;
    let journal = dir.path().join("journal");
    let mut states = Vec::new();
    let mut note = || {
        manager.save();
        states.push((std::fs::read(&journal).unwrap().len(), summary(manager)));
    };
    note();
    manager.put(vec![posted(&[("alertname", "A")], 0, 9000)]).unwrap();
    note();
    let id = manager.put_silence(posted_silence("", "B", 0, 9000)).unwrap().id;
    note();
    manager
        .put(vec![posted(&[("alertname", "A")], 0, 9999), posted(&[("alertname", "B")], 0, 9000)])
        .unwrap();
    note();
    manager.expire_silence(&id).unwrap();
    note();
    // Told, and its timer set anew.
    bench.clock.set(at(30));
    let due = manager.state.lock().dispatcher.take_due(at(30));
    for flush in due {
        manager.flush(flush).await;
    }
    note();
    manager.put(vec![posted(&[("alertname", "A")], 0, 0)]).unwrap();
    note();
    let whole = std::fs::read(&journal).unwrap();
    let snapshots =
        ["silences", "nflog", "alerts"].map(|name| (name, std::fs::read(dir.path().join(name)).unwrap()));
    let open_at = |n: usize| {
        let copy = tempfile::tempdir().unwrap();
        for (name, bytes) in &snapshots {
            std::fs::write(copy.path().join(name), bytes).unwrap();
        }
        std::fs::write(copy.path().join("journal"), &whole[..n]).unwrap();
        let options = Options { data_dir: Some(copy.path().to_owned()), ..Options::default() };
        let once = summary(&open(&bench.yaml, &options, &bench.clock));
        // Once more, from the snapshot that was written meanwhile.
        assert_eq!(summary(&open(&bench.yaml, &options, &bench.clock)), once, "{n} bytes, opened twice");
        once
    };
    for (length, state) in &states {
        assert_eq!(&open_at(*length), state, "{length} bytes");
    }
    for n in (0..whole.len()).step_by(61) {
        open_at(n);
    }
    // A journal that is older than the snapshots changes nothing.
    manager.maintain();
    let newest = summary(manager);
    std::fs::write(&journal, &whole).unwrap();
    assert_eq!(summary(&open(&bench.yaml, &bench.options, &bench.clock)), newest);
}

#[test]
fn limits_hold() {
    let clock = Hand::new(at(0));
    let options = Options {
        alerts_per_name_max: 2,
        groups_max: 2,
        silences_max: 1,
        silence_bytes_max: 300,
        ..Options::default()
    };
    let yaml = "route: {receiver: sink, group_by: [g]}\nreceivers: [{name: sink}]\n";
    let manager = open(yaml, &options, &clock);
    let one = |g: &str, i: &str, ends| posted(&[("alertname", "A"), ("g", g), ("i", i)], 0, ends);
    manager.put(vec![one("1", "1", 100), one("1", "2", 900), one("1", "3", 900)]).unwrap();
    assert_eq!(manager.alerts(&AlertFilter::default()).len(), 2);
    // Known ones are taken; a new one when another has ended.
    clock.set(at(100));
    manager.put(vec![one("1", "2", 950), one("1", "3", 900)]).unwrap();
    assert_eq!(manager.alerts(&AlertFilter::default()).len(), 3, "one of them ends just now");
    let other = |g: &str| posted(&[("alertname", g), ("g", g)], 100, 900);
    manager.put(vec![other("2"), other("3")]).unwrap();
    assert_eq!(manager.alert_groups(&AlertFilter::default()).len(), 2);
    let mut out = model::wire::expose::Exposition::default();
    model::wire::expose::Expose::expose(&*manager, &mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    for line in [
        "alertmanager_alerts_limited_total 1",
        "alertmanager_dispatcher_aggregation_group_limit_reached_total 1",
        "alertmanager_dispatcher_aggregation_groups 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    let refused = |silence| manager.put_silence(silence).unwrap_err().to_string();
    let mut long = posted_silence("", "A", 100, 900);
    long.comment = "x".repeat(300);
    assert!(refused(long).starts_with("silence exceeded maximum size: "));
    let id = manager.put_silence(posted_silence("", "A", 100, 900)).unwrap().id;
    assert_eq!(
        refused(posted_silence("", "B", 100, 900)),
        "exceeded maximum number of silences: 1 (limit: 1)"
    );
    assert_eq!(manager.put_silence(posted_silence(&id, "A", 100, 800)).unwrap().id, id);
    // One that could not be replaced stays in force.
    refused(posted_silence(&id, "B", 100, 800));
    assert_eq!(manager.silence(&id).unwrap().status.state, "active");
    // Nothing is told before the delay of the start is over.
    let delayed = Options { start_delay: secs(600), ..Options::default() };
    let manager = open(yaml, &delayed, &clock);
    manager.put(vec![one("1", "1", 900)]).unwrap();
    assert_eq!(manager.state.lock().dispatcher.next_due(), Some(at(700)));
}
