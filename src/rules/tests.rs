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

mod generator;

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
            story: None,
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

    /// The values of a query.
    fn value(&self, expr: &str, t: Timestamp) -> Vec<f64> {
        let options = promql::QueryOptions::default();
        match self.ctx.engine.instant_query(self.ctx.storage.as_ref(), expr, t, &options).unwrap().value {
            promql::Value::Vector(samples) => samples
                .into_iter()
                .map(|sample| match sample.value {
                    promql::SampleValue::Float(v) => v,
                    promql::SampleValue::Histogram(_) => panic!("{expr} gives a histogram"),
                })
                .collect(),
            other => panic!("{expr} gives {other:?}"),
        }
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
    group_of(rules, "1m", restore)
}

fn group_of(rules: &str, interval: &str, restore: bool) -> Group {
    let text = format!("groups:\n- name: g\n  interval: {interval}\n  rules:\n{rules}");
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

/// Evaluates at a minute whatever comes of it; the error of every rule.
fn errors(house: &House, group: &Group, minute: i64) -> Vec<Option<String>> {
    group.eval(&house.ctx, minute * MINUTE);
    group.rules.iter().map(|rule| rule.report.lock().last_error.clone()).collect()
}

#[test]
fn samples_carry_the_time_that_was_asked_for() {
    let house = House::new();
    let text = "groups:\n- name: g\n  interval: 1m\n  query_offset: 2m\n  rules:\n  - {record: r, expr: up}\n  - {alert: A, expr: up == 0}\n";
    let file = config::rules::parse(text, Path::new("/r.yml"), &config::rules::Options::default()).unwrap();
    let group = Group::new(file.groups[0].clone(), Duration::from_mins(1), Duration::from_mins(9), false);
    house.put("up", "x", 10 * MINUTE, 0.0);
    house.put("up", "x", 11 * MINUTE, 1.0);
    house.eval(&group, 12);
    house.eval(&group, 13);
    assert_eq!(house.read("r"), "{instance=\"x\"} 0@10 1@11\n");
    let labels = "{alertname=\"A\", instance=\"x\"}";
    assert_eq!(house.read("ALERTS_FOR_STATE"), format!("{labels} 720@10 stale@11\n"));
    // What is said of the alert is said of the time that it is.
    let sent = house.sent.lock();
    assert_eq!((sent[0].starts_at, sent[1].ends_at), (12 * MINUTE, 13 * MINUTE));
}

#[test]
fn an_offset_of_zero_goes_before_the_global_one() {
    let with = |own: &str, global| {
        let text = format!("groups:\n- name: g\n{own}  rules:\n  - {{record: r, expr: up}}\n");
        let file =
            config::rules::parse(&text, Path::new("/r.yml"), &config::rules::Options::default()).unwrap();
        Group::new(file.groups[0].clone(), Duration::from_mins(1), Duration::from_mins(global), false)
    };
    assert_eq!(with("  query_offset: 0s\n", 5).query_offset, Duration::ZERO);
    assert_eq!(with("", 5).query_offset, Duration::from_mins(5));
    assert!(!with("", 5).is_equal(&with("", 6)), "a reload of the global one is honoured");
    assert!(with("  query_offset: 1m\n", 5).is_equal(&with("  query_offset: 1m\n", 6)));
}

#[test]
fn what_the_store_refuses_is_told() {
    let house = House::new();
    let group = group("  - {record: r, expr: up}\n", false);
    house.put("up", "x", 10 * MINUTE, 1.0);
    house.put("r", "x", 10 * MINUTE, 7.0);
    assert_eq!(errors(&house, &group, 10), [Some("duplicate sample for timestamp".to_owned())]);
    assert_eq!(group.metrics.evaluation_failures.get(), 0, "upstream counts no failure here");
    house.put("r", "x", 12 * MINUTE, 7.0);
    assert_eq!(errors(&house, &group, 11), [Some("out of order sample".to_owned())]);
    assert_eq!(errors(&house, &group, 13), [None]);
    assert_eq!(house.read("r"), "{instance=\"x\"} 7@10 7@12 1@13\n");
}

#[test]
fn limits_hold_for_series_and_for_alerts() {
    let house = House::new();
    for instance in ["a", "b"] {
        house.put("up", instance, 10 * MINUTE, 0.0);
    }
    let text = "groups:\n- name: g\n  limit: 1\n  rules:\n  - {record: r, expr: up}\n  - {alert: A, expr: up == 0}\n";
    let file = config::rules::parse(text, Path::new("/r.yml"), &config::rules::Options::default()).unwrap();
    let group = Group::new(file.groups[0].clone(), Duration::from_mins(1), Duration::ZERO, false);
    let expected = ["exceeded limit of 1 with 2 series", "exceeded limit of 1 with 2 alerts"];
    assert_eq!(errors(&house, &group, 10), expected.map(|text| Some(text.to_owned())));
    assert_eq!((house.read("r"), house.read("ALERTS")), (String::new(), String::new()));
    assert!(house.sent.lock().is_empty());
    assert_eq!(group.metrics.evaluation_failures.get(), 2);
}

#[test]
fn a_limit_that_keeps_goes_on_with_what_is_active() {
    let mut house = House::new();
    house.ctx.options.keeps_over_limit = true;
    let text = "groups:\n- name: g\n  limit: 1\n  rules:\n  - {alert: A, expr: up == 0}\n";
    let file = config::rules::parse(text, Path::new("/r.yml"), &config::rules::Options::default()).unwrap();
    let group = Group::new(file.groups[0].clone(), Duration::from_mins(1), Duration::ZERO, false);
    house.put("up", "b", 10 * MINUTE, 0.0);
    assert_eq!(errors(&house, &group, 10), [None]);
    for minute in 11..=12 {
        house.put("up", "a", minute * MINUTE, 0.0);
        house.put("up", "b", minute * MINUTE, 0.0);
        assert_eq!(errors(&house, &group, minute), [Some("exceeded limit of 1 with 2 alerts".to_owned())]);
    }
    let labels = "{alertname=\"A\", alertstate=\"firing\", instance=\"b\"}";
    assert_eq!(house.read("ALERTS"), format!("{labels} 1@10 1@11 1@12\n"));
    assert_eq!(house.sent.lock().len(), 2, "at once, and again after the resend delay");
}

#[test]
fn texts_that_fail_or_are_empty() {
    let house = House::new();
    let rule = "  - alert: A\n    expr: up == 0\n    labels: {gone: '{{ \"\" }}', instance: '{{ \"\" }}', bad: '{{ first (query \"nothing\") }}'}\n    annotations: {ok: '{{ $value }}', bad: '{{ .Nope }}'}\n";
    let group = group(rule, false);
    house.put("up", "x", 10 * MINUTE, 0.0);
    house.eval(&group, 10);
    let bad = "<error expanding template: error executing template __alert_A: template: __alert_A:1:";
    let sent = house.sent.lock();
    assert_eq!(sent[0].annotations["ok"], "0");
    assert!(sent[0].annotations["bad"].starts_with(bad), "{:?}", sent[0].annotations);
    let labels = sent[0].labels.to_map();
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["alertname", "bad"]);
    assert!(
        labels["bad"].starts_with(bad) && labels["bad"].contains("first() called on vector with no elements")
    );
    assert!(!house.read("ALERTS").contains("gone"));
    assert_eq!((house.ctx.metrics.expansions.get(), house.ctx.metrics.expansion_failures.get()), (5, 2));
}

/// Texts are taken from the evaluation before only where that gives the same.
#[test]
fn texts_follow_what_they_show() {
    let house = House::new();
    let rule = "  - alert: A\n    expr: up < 5\n    labels: {region: '{{ $externalLabels.region }}'}\n    annotations: {value: '{{ $value }}'}\n\
                \x20 - alert: B\n    expr: up < 5\n    annotations: {at: '{{ now }}', other: '{{ with query \"other\" }}{{ . | first | value }}{{ end }}'}\n";
    let group = group(rule, false);
    let texts = || {
        let mut all: Vec<String> = house
            .sent
            .lock()
            .drain(..)
            .map(|alert| {
                let region = alert.labels.to_map().remove("region").unwrap_or_default();
                format!("{region} {}", alert.annotations.into_values().collect::<Vec<_>>().join(" "))
            })
            .collect();
        all.sort();
        all
    };
    let step = |minute: i64, up, other| {
        house.put("up", "x", minute * MINUTE, up);
        house.put("other", "x", minute * MINUTE, other);
        house.eval(&group, minute);
        texts()
    };
    assert_eq!(step(10, 1.0, 7.0), [" 600 7", "eu 1"]);
    assert_eq!(step(12, 2.0, 8.0), [" 720 8", "eu 2"]);
    assert_eq!(step(14, 2.0, 9.0), [" 840 9", "eu 2"]);
    house.ctx.external_labels.store(Arc::new(Labels::from_pairs([("region", "us")])));
    // Another alert by its labels, and the old one is over.
    assert_eq!(step(16, 2.0, 9.0), [" 960 9", "eu 2", "us 2"]);
    // A NaN is as good a value as another, and a zero has a sign.
    assert_eq!(step(18, -0.0, 9.0), [" 1080 9", "eu 2", "us -0"]);
    assert_eq!(step(20, 0.0, 9.0), [" 1200 9", "eu 2", "us 0"]);
}

#[test]
fn labels_may_get_other_texts_at_a_reload() {
    let house = House::new();
    let rule = |severity: &str| {
        format!(
            "  - {{alert: A, expr: up == 0, for: 2m, labels: {{severity: {severity}, where: '{{{{ $labels.instance }}}}'}}}}\n"
        )
    };
    let before = group(&rule("warning"), false);
    for minute in 10..=13 {
        house.put("up", "x", minute * MINUTE, 0.0);
        house.eval(&before, minute);
    }
    let after = group(&rule("page"), false);
    after.copy_state(&before);
    house.sent.lock().clear();
    house.put("up", "x", 14 * MINUTE, 0.0);
    house.eval(&after, 14);
    let sent = house.sent.lock();
    let [alert] = &**sent else { panic!("{sent:?}") };
    assert_eq!(alert.labels.to_string(), "{alertname=\"A\", instance=\"x\", severity=\"page\", where=\"x\"}");
    assert_eq!(alert.starts_at, 12 * MINUTE);
    let written = house.read("ALERTS");
    assert!(written.contains("severity=\"warning\", where=\"x\"} 1@12 1@13 stale@14\n"), "{written}");
    assert!(written.contains("severity=\"page\", where=\"x\"} 1@14\n"), "{written}");
}

#[test]
fn equal_rules_continue_in_their_order() {
    let rules = |first: &str, second: &str| {
        format!(
            "  - {{alert: A, expr: {first}, labels: {{l: v}}}}\n  - {{alert: A, expr: {second}, labels: {{l: v}}}}\n"
        )
    };
    let house = House::new();
    let before = group(&rules("up == 0", "up == 1"), false);
    house.put("up", "x", 10 * MINUTE, 0.0);
    house.eval(&before, 10);
    let after = group(&rules("up < 1", "up == 1"), false);
    after.copy_state(&before);
    let counts: Vec<_> = after.rules.iter().map(|rule| rule.alerts.lock().alerts.len()).collect();
    assert_eq!(counts, [1, 0]);
}

#[test]
fn independent_rules_at_once_give_the_same() {
    let rules: String = (0..20)
        .map(|i| format!("  - {{record: 'r{i}', expr: load * {i}}}\n"))
        .chain(["  - {record: sum, expr: 'r1 + r19'}\n  - {record: last, expr: 'sum + 1'}\n".to_owned()])
        .collect();
    let outcome = |concurrent_evals| {
        let mut house = House::new();
        house.ctx.options.concurrent_evals = concurrent_evals;
        let group = group(&rules, false);
        for minute in 10..13 {
            house.put("load", "x", minute * MINUTE, minute as f64);
            house.eval(&group, minute);
        }
        assert_eq!(group.metrics.last_samples.get(), 22.0);
        assert_eq!(group.metrics.evaluations.get(), 66);
        [house.read("sum"), house.read("last"), house.read("r7")]
    };
    let expected = outcome(0);
    assert_eq!(expected[1], "{instance=\"x\"} 201@10 221@11 241@12\n");
    assert_eq!(outcome(4), expected);
    assert_eq!(outcome(1), expected);
}

#[test]
fn places_are_given_back() {
    let metrics = Metrics::default();
    let places: Vec<_> = (0..2).map(|_| metrics.take_place(2).unwrap()).collect();
    assert!(metrics.take_place(2).is_none());
    drop(places);
    assert!(metrics.take_place(2).is_some());
}

/// What was kept of `before` at a minute, taken over into a group of the same rules at a later one.
fn restarted(house: &House, before: Group, rules: &str, saved: i64, started: i64) -> Group {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules").join("alerts.state");
    let keeper = super::kept::Keeper::new(path.clone());
    keeper.save(&[Arc::new(before)], saved * MINUTE);
    let after = group(rules, true);
    super::kept::load(&house.ctx, &path, &[&after], started * MINUTE);
    after
}

#[test]
fn a_restart_goes_on_as_if_nothing_had_been() {
    let house = House::new();
    let rules = "  - {alert: A, expr: up == 0, for: 2m, keep_firing_for: 10m, annotations: {v: '{{ $value }}'}}\n\
                 \x20 - {alert: P, expr: up == 0, for: 30m}\n  - {alert: R, expr: up == 9}\n  - {record: r, expr: up}\n";
    let before = group(rules, false);
    let put = |minute: i64, v| house.put("up", "x", minute * MINUTE, v);
    for (minute, v) in [(9, 9.0), (10, 0.0), (11, 0.0), (12, 0.0)] {
        put(minute, v);
        house.eval(&before, minute);
    }
    assert_eq!(house.sent.lock().drain(..).count(), 4, "R fires and is over, which is told twice, A fires");
    let after = restarted(&house, before, rules, 12, 13);
    let restored: Vec<_> = after.rules.iter().map(super::group::Rule::is_restored).collect();
    assert_eq!(restored, [true, true, true, false], "what had no alerts asks the store");
    // Nothing is scraped yet that says so: the alert is not over.
    put(13, 1.0);
    house.eval(&after, 13);
    assert!(house.sent.lock().is_empty(), "sent a minute ago");
    assert!(house.read("ALERTS").contains("alertstate=\"firing\", instance=\"x\"} 1@12 1@13"));
    put(14, 0.0);
    house.eval(&after, 14);
    {
        let mut sent = house.sent.lock();
        sent.sort_by_key(|alert| alert.labels.to_string());
        let told: Vec<_> = sent
            .drain(..)
            .map(|a| (a.labels.to_map()["alertname"].clone(), a.starts_at / MINUTE, a.ends_at / MINUTE))
            .collect();
        assert_eq!(told, [("A".to_owned(), 12, 18), ("R".to_owned(), 9, 10)]);
    }
    let pending = after.rules[1].alerts.lock().alerts.values().next().unwrap().clone();
    assert_eq!(pending.active_at, 11 * MINUTE, "the minute away does not count");
    // Kept firing since a time that survives, too.
    put(15, 1.0);
    house.eval(&after, 15);
    let since =
        |group: &Group| group.rules[0].alerts.lock().alerts.values().next().unwrap().keep_firing_since;
    assert_eq!(since(&after), Some(15 * MINUTE));
    let again = restarted(&house, after, rules, 15, 16);
    assert_eq!(since(&again), Some(15 * MINUTE));
    for minute in 16..=25 {
        put(minute, 1.0);
        house.eval(&again, minute);
    }
    let over = house.sent.lock().iter().filter(|a| a.ends_at == 25 * MINUTE).map(|a| a.starts_at).next();
    assert_eq!(over, Some(12 * MINUTE));
}

#[test]
fn no_alert_that_was_kept_begins_in_the_future() {
    let house = House::new();
    let rules = "  - {alert: A, expr: up == 0, for: 2m}\n";
    let before = group(rules, false);
    for minute in 110..=112 {
        house.put("up", "x", minute * MINUTE, 0.0);
        house.eval(&before, minute);
    }
    // The clock was ahead by 100 minutes, until the restart.
    let after = restarted(&house, before, rules, 112, 12);
    let times = |group: &Group| {
        let alerts = group.rules[0].alerts.lock();
        let alert = alerts.alerts.values().next().unwrap();
        (alert.state.as_str(), alert.active_at / MINUTE, alert.fired_at.map(|t| t / MINUTE))
    };
    assert_eq!(times(&after), ("firing", 10, Some(12)));
    // The same for a clock that is set while the server runs.
    after.shift(-5 * MINUTE);
    assert_eq!(times(&after), ("firing", 5, Some(7)));
}

#[test]
fn what_was_kept_too_long_ago_or_of_other_rules_is_left() {
    let house = House::new();
    let rules = "  - {alert: A, expr: up == 0}\n";
    let n_alerts = |rules_after: &str, started| {
        let before = group(rules, false);
        house.put("up", "x", 10 * MINUTE, 0.0);
        house.eval(&before, 10);
        let after = restarted(&house, before, rules_after, 10, started);
        after.rules.iter().map(|rule| rule.alerts.lock().alerts.len()).sum::<usize>()
    };
    assert_eq!(n_alerts(rules, 11), 1);
    assert_eq!(n_alerts(rules, 70), 1);
    assert_eq!(n_alerts(rules, 71), 0, "the outage tolerance is an hour");
    assert_eq!(n_alerts("  - {alert: B, expr: up == 0}\n", 11), 0);
    assert_eq!(n_alerts("  - {alert: A, expr: up == 0, labels: {l: v}}\n", 11), 0);
    assert_eq!(n_alerts("  - {alert: A, expr: up < 1, for: 5m}\n", 11), 1);
}

/// Upstream's cases of restoring: `for` 25m, active since 0; stopped at 20 (or 5, or 30), back later.
#[test]
fn for_is_restored_as_upstream_does() {
    const RULE: &str = "  - {alert: A, expr: up == 0, for: 25m}\n";
    let restored = |stopped: i64, started: i64, tolerance_mins: u64| {
        let mut house = House::new();
        house.ctx.options.for_outage_tolerance = Duration::from_mins(tolerance_mins);
        let before = group(RULE, false);
        for minute in 0..=stopped {
            house.put("up", "x", minute * MINUTE, 0.0);
            house.eval(&before, minute);
        }
        let after = group(RULE, true);
        for minute in [started - 1, started] {
            house.put("up", "x", minute * MINUTE, 0.0);
            house.eval(&after, minute);
        }
        restore::restore(&house.ctx, &after, started * MINUTE);
        let active_at = after.rules[0].alerts.lock().alerts.values().next().unwrap().active_at;
        active_at / MINUTE
    };
    assert_eq!(restored(5, 20, 30), 15, "five minutes were spent");
    assert_eq!(restored(5, 35, 30), 30, "at the very end of the tolerance");
    assert_eq!(restored(5, 36, 30), 35, "beyond it: new");
    assert_eq!(restored(16, 30, 30), 15, "nine minutes were left: it fires after the grace period of ten");
    assert_eq!(restored(30, 40, 30), 0, "it was firing and goes on");
}

#[test]
fn a_stale_past_is_not_restored() {
    let house = House::new();
    let before = group(SLOW, false);
    for (minute, v) in [(0, 0.0), (5, 0.0), (6, 1.0)] {
        house.put("up", "x", minute * MINUTE, v);
        house.eval(&before, minute);
    }
    let after = group(SLOW, true);
    for minute in [9, 10] {
        house.put("up", "x", minute * MINUTE, 0.0);
        house.eval(&after, minute);
    }
    restore::restore(&house.ctx, &after, 10 * MINUTE);
    assert_eq!(after.rules[0].alerts.lock().alerts.values().next().unwrap().active_at, 9 * MINUTE);
}

#[test]
fn a_group_that_is_stopped_leaves_the_rest_of_its_rules() {
    let house = House::new();
    let group = group(CHAIN, false);
    house.put("load", "x", 10 * MINUTE, 3.0);
    group.stop();
    group.eval(&house.ctx, 10 * MINUTE);
    assert_eq!(house.read("doubled"), "");
    assert_eq!(group.rules[0].report.lock().health(), "unknown");
}
