//! Whole groups over a real store, evaluated at times given by hand.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::storage::{Appendable, Queryable, SelectHints, SeriesKey};
use model::{AnyHistogram, FloatHistogram, Labels, Matcher, SampleBatch, TimeRange, Timestamp, is_stale};
use parking_lot::Mutex;
use promql::{Engine, EngineOptions};
use tsdb::db::{Db, Options as StoreOptions};
use tsdb::head::ReplayProgress;

use super::group::Group;
use super::{Context, Metrics, Options, restore};
use crate::notifier::Alert;

const MINUTE: i64 = 60_000;

/// A store in a folder of its own, and the alerts that were handed on.
struct House {
    ctx: Context,
    db: Arc<Db>,
    sent: Arc<Mutex<Vec<Alert>>>,
    _dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), &StoreOptions::default(), &ReplayProgress::default()).unwrap();
        let (db, sent) = (Arc::new(db), Arc::new(Mutex::new(Vec::new())));
        let inbox = Arc::clone(&sent);
        let ctx = Context {
            engine: Arc::new(Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() })),
            storage: Arc::clone(&db) as Arc<dyn super::Storage>,
            notify: Box::new(move |alerts| inbox.lock().extend(alerts)),
            external_url: "http://here:9090".to_owned(),
            external_labels: arc_swap::ArcSwap::from_pointee(Labels::from_pairs([("region", "eu")])),
            now: || panic!("an evaluation asked for the time"),
            options: Options::default(),
            metrics: Metrics::default(),
        };
        Self { ctx, db, sent, _dir: dir }
    }

    /// Writes one sample, as a scrape would.
    fn put(&self, name: &str, instance: &str, t: Timestamp, v: f64) {
        let labels = Labels::from_pairs([("__name__", name), ("instance", instance)]);
        let mut appender = self.db.appender(1);
        appender.append(SeriesKey::Labels(&labels), t, v).unwrap();
        appender.commit().unwrap();
    }

    /// All samples of the metric, a series a line: `{labels} value@minute ...`.
    fn read(&self, name: &str) -> String {
        let querier = self.db.querier(TimeRange::ALL).unwrap();
        let hints = SelectHints { sorted: true, ..SelectHints::default() };
        let set = querier.select(&[Matcher::equal("__name__", name)], &hints).unwrap();
        let mut out = String::new();
        for i in 0..set.len() {
            let mut samples = SampleBatch::default();
            set.samples_into(i, TimeRange::ALL, &mut samples).unwrap();
            out.push_str(&set.labels(i).without(|label| label == b"__name__").to_string());
            for sample in &samples.histograms {
                let AnyHistogram::Float(h) = &sample.histogram else { panic!("counts of floats") };
                write!(out, " {h}@{}", sample.t / MINUTE).unwrap();
            }
            for sample in samples.iter() {
                let v = if is_stale(sample.v) { "stale".to_owned() } else { sample.v.to_string() };
                write!(out, " {v}@{}", sample.t / MINUTE).unwrap();
            }
            out.push('\n');
        }
        out
    }

    fn eval(&self, group: &Group, minute: i64) {
        group.eval(&self.ctx, minute * MINUTE);
        for rule in &group.rules {
            assert_eq!(rule.report.lock().last_error, None, "{}", rule.name());
        }
    }
}

/// The group of a rule file with these rules; `restore` as after a start.
fn group(rules: &str, restore: bool) -> Group {
    let text = format!("groups:\n- name: g\n  interval: 1m\n  rules:\n{rules}");
    let file = config::rules::parse(&text, Path::new("/r.yml"), &config::rules::Options::default()).unwrap();
    let [spec] = file.groups.try_into().unwrap_or_else(|_| panic!("one group"));
    Group::new(spec, Duration::from_mins(1), Duration::ZERO, restore)
}

const CHAIN: &str = "  - {record: doubled, expr: load * 2, labels: {team: a}}\n\
                    \x20 - {record: chained, expr: doubled + 1}\n";

#[test]
fn a_rule_sees_what_the_one_before_it_wrote() {
    let house = House::new();
    let group = group(CHAIN, false);
    house.put("load", "x", 10 * MINUTE, 3.0);
    house.eval(&group, 10);
    assert_eq!(house.read("chained"), "{instance=\"x\", team=\"a\"} 7@10\n");
    assert_eq!(group.metrics.last_samples.get(), 2.0);
}

#[test]
fn a_series_that_vanishes_is_ended_and_comes_back() {
    let house = House::new();
    let group = group("  - {record: high, expr: load > 5}\n", false);
    for (minute, v) in [(10, 9.0), (11, 1.0), (12, 1.0), (13, 8.0)] {
        house.put("load", "x", minute * MINUTE, v);
        house.eval(&group, minute);
    }
    assert_eq!(house.read("high"), "{instance=\"x\"} 9@10 stale@11 8@13\n");
}

const DOWN: &str = "  - alert: Down\n    expr: up == 0\n    for: 2m\n    labels: {severity: page, where: '{{ $externalLabels.region }}'}\n    annotations: {summary: '{{ $labels.instance }} is {{ $value }}'}\n";

#[test]
fn an_alert_is_written_told_and_ended() {
    let house = House::new();
    let group = group(DOWN, false);
    for (minute, v) in [(10, 0.0), (11, 0.0), (12, 0.0), (13, 1.0)] {
        house.put("up", "x", minute * MINUTE, v);
        house.eval(&group, minute);
    }
    let labels = "instance=\"x\", severity=\"page\", where=\"eu\"";
    assert_eq!(
        house.read("ALERTS"),
        format!(
            "{{alertname=\"Down\", alertstate=\"firing\", {labels}}} 1@12 stale@13\n\
             {{alertname=\"Down\", alertstate=\"pending\", {labels}}} 1@10 1@11 stale@12\n"
        )
    );
    assert_eq!(
        house.read("ALERTS_FOR_STATE"),
        format!("{{alertname=\"Down\", {labels}}} 600@10 600@11 600@12 stale@13\n")
    );
    let sent = house.sent.lock();
    let [firing, resolved] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(firing.labels.to_string(), format!("{{alertname=\"Down\", {labels}}}"));
    assert_eq!(firing.annotations["summary"], "x is 0");
    assert_eq!((firing.starts_at, firing.ends_at), (12 * MINUTE, 16 * MINUTE));
    assert_eq!(firing.generator_url, "http://here:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    assert_eq!((resolved.starts_at, resolved.ends_at), (12 * MINUTE, 13 * MINUTE));
}

/// `for: 30m`: longer than the grace period, so that the past counts.
const SLOW: &str = "  - {alert: Slow, expr: up == 0, for: 30m}\n";

#[test]
fn an_alert_keeps_its_age_over_a_restart() {
    let house = House::new();
    let before = group(SLOW, false);
    for minute in 0..=15 {
        house.put("up", "x", minute * MINUTE, 0.0);
        house.eval(&before, minute);
    }
    // Down for five minutes; two evaluations, then the past is looked for.
    let after = group(SLOW, true);
    let written = house.read("ALERTS_FOR_STATE");
    for minute in [20, 21] {
        house.put("up", "x", minute * MINUTE, 0.0);
        house.eval(&after, minute);
    }
    assert!(!after.is_restored());
    assert_eq!(house.read("ALERTS_FOR_STATE"), written, "the past is not overwritten before it was read");
    restore::restore(&house.ctx, &after, 21 * MINUTE);
    assert!(after.is_restored());
    // Fifteen minutes were spent before the stop, the six in between do not count.
    let active_at = after.rules[0].alerts.lock().alerts.values().map(|alert| alert.active_at).next();
    assert_eq!(active_at, Some(6 * MINUTE));
    for minute in 22..=36 {
        house.put("up", "x", minute * MINUTE, 0.0);
        house.eval(&after, minute);
    }
    let sent = house.sent.lock();
    assert_eq!(sent.first().map(|alert| alert.starts_at), Some(36 * MINUTE));
}

#[test]
fn a_reload_hands_state_over_and_ends_what_is_gone() {
    let house = House::new();
    let before = group(&format!("{DOWN}{CHAIN}"), false);
    house.put("up", "x", 10 * MINUTE, 0.0);
    house.put("load", "x", 10 * MINUTE, 3.0);
    house.eval(&before, 10);
    let after =
        group(&format!("{DOWN}  - {{record: doubled, expr: load * 4, labels: {{team: a}}}}\n"), false);
    assert!(!after.is_equal(&before));
    after.copy_state(&before);
    assert_eq!(after.last.lock().at, Some(10 * MINUTE));
    for minute in [11, 12] {
        house.put("up", "x", minute * MINUTE, 0.0);
        house.put("load", "x", minute * MINUTE, 3.0);
        house.eval(&after, minute);
    }
    // Pending since 10, so it fires two minutes later, reload or not.
    assert_eq!(house.sent.lock().len(), 1);
    assert_eq!(house.read("doubled"), "{instance=\"x\", team=\"a\"} 6@10 12@11 12@12\n");
    assert_eq!(house.read("chained"), "{instance=\"x\", team=\"a\"} 7@10 stale@11\n");
}

#[test]
fn removing_a_group_ends_its_series_but_not_those_of_others() {
    let house = House::new();
    let gone = group(CHAIN, false);
    let stays = group("  - {record: chained, expr: load * 2 + 1, labels: {team: a}}\n", false);
    house.put("load", "x", 10 * MINUTE, 3.0);
    house.eval(&gone, 10);
    house.put("load", "x", 11 * MINUTE, 3.0);
    house.eval(&stays, 11);
    gone.end_all(&house.ctx, 12 * MINUTE, |labels| stays.produces(labels));
    assert_eq!(house.read("doubled"), "{instance=\"x\", team=\"a\"} 6@10 stale@12\n");
    assert_eq!(house.read("chained"), "{instance=\"x\", team=\"a\"} 7@10 7@11\n");
    // Only once.
    gone.end_all(&house.ctx, 13 * MINUTE, |_| false);
    assert_eq!(house.read("doubled"), "{instance=\"x\", team=\"a\"} 6@10 stale@12\n");
}

#[test]
fn a_failed_evaluation_is_told_and_ends_nothing() {
    let house = House::new();
    let group = group("  - {record: one, expr: load * on(job) peer}\n", false);
    house.put("load", "x", 10 * MINUTE, 3.0);
    house.put("peer", "x", 10 * MINUTE, 1.0);
    house.eval(&group, 10);
    house.put("load", "x", 11 * MINUTE, 3.0);
    house.put("load", "y", 11 * MINUTE, 3.0);
    group.eval(&house.ctx, 11 * MINUTE);
    let error = group.rules[0].report.lock().last_error.clone().unwrap_or_default();
    assert!(error.contains("many-to-many") || error.contains("multiple matches"), "{error}");
    assert_eq!(group.metrics.evaluation_failures.get(), 1);
    assert_eq!(house.read("one"), "{} 3@10\n");
}

/// Writes a histogram with `count` observations between 0.5 and 1.
fn put_histogram(house: &House, name: &str, t: Timestamp, count: f64) {
    let labels = Labels::from_pairs([("__name__", name), ("instance", "x")]);
    let histogram = FloatHistogram {
        count,
        sum: count,
        positive_spans: vec![model::histogram::Span { offset: 0, length: 1 }],
        positive_buckets: vec![count],
        ..FloatHistogram::default()
    };
    let mut appender = house.db.appender(1);
    let value = model::Value::FloatHistogram(&histogram);
    appender.append_value(SeriesKey::Labels(&labels), 0, t, value).unwrap();
    appender.commit().unwrap();
}

#[test]
fn a_recorded_histogram_stays_one_and_is_ended() {
    let house = House::new();
    let group = group("  - {record: kept, expr: latency}\n", false);
    put_histogram(&house, "latency", 10 * MINUTE, 3.0);
    house.eval(&group, 10);
    put_histogram(&house, "latency", 11 * MINUTE, 4.0);
    house.eval(&group, 11);
    house.eval(&group, 17);
    let shown = |count| format!("{{count:{count}, sum:{count}, (0.5,1]:{count}}}");
    assert_eq!(
        house.read("kept"),
        format!("{{instance=\"x\"}} {}@10 {}@11 {{count:0, sum:NaN}}@17\n", shown(3), shown(4))
    );
}

#[test]
fn an_alert_on_a_histogram_fires_and_shows_it() {
    let house = House::new();
    let rule = "  - alert: Slow\n    expr: latency\n    annotations: {seen: '{{ $value }}', n: '{{ $value.Count }}'}\n";
    let group = group(rule, false);
    put_histogram(&house, "latency", 10 * MINUTE, 3.0);
    house.eval(&group, 10);
    let sent = house.sent.lock();
    let [alert] = &**sent else { panic!("one alert, got {sent:?}") };
    assert_eq!(alert.annotations["seen"], "{count:3, sum:3, (0.5,1]:3}");
    assert_eq!(alert.annotations["n"], "3");
    let alerts = group.rules[0].alerts.lock();
    assert_eq!(alerts.active().map(|(_, alert)| alert.value).collect::<Vec<_>>(), [0.0]);
}
