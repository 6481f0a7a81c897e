use std::sync::Arc;

use model::storage::{Appendable, SeriesKey};
use model::{Labels, STALE_NAN, Timestamp};
use promql::{Engine, EngineOptions};
use tsdb::db::{Db, Options};
use tsdb::head::ReplayProgress;

use super::Inquiry;
use crate::story::tell;

const MINUTE: i64 = 60_000;

struct House {
    db: Arc<Db>,
    _dir: tempfile::TempDir,
}

/// Series as lines `name{labels} value@minute ...`.
fn house(series: &str) -> House {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open(dir.path(), &Options::default(), &ReplayProgress::default()).unwrap());
    for line in series.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (selector, samples) = line.split_once(' ').unwrap();
        let matchers = promql::parse::parse_selector(selector).unwrap();
        let labels = Labels::from_pairs(matchers.iter().map(|m| (m.name.to_vec(), m.value.to_vec())));
        for sample in samples.split(' ') {
            let (value, minute) = sample.split_once('@').unwrap();
            let v = if value == "stale" { STALE_NAN } else { value.parse().unwrap() };
            let mut appender = db.appender(1);
            let t: Timestamp = minute.parse::<i64>().unwrap() * MINUTE;
            appender.append(SeriesKey::Labels(&labels), t, v).unwrap();
            appender.commit().unwrap();
        }
    }
    House { db, _dir: dir }
}

/// What is found for the alert of instance `a` at minute 100.
#[track_caller]
fn check(series: &str, expr: &str, found: &str) {
    let house = house(series);
    let engine = Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() });
    let expr = engine.parse(expr).unwrap();
    let labels = Labels::from_pairs([("alertname", "X"), ("instance", "a"), ("severity", "page")]);
    let inquiry = Inquiry::new(&engine, house.db.as_ref(), 100 * MINUTE, &labels, ["severity"]);
    let finding = inquiry.why(&expr);
    assert_eq!(format!("{}: {}", finding.code.as_str(), tell::finding(&finding)), found);
}

#[test]
fn values_on_the_other_side() {
    let series = "load{instance=\"a\"} 0.899@100\nload{instance=\"b\"} 0.95@100";
    check(
        series,
        "load > 0.9",
        r#"threshold_not_crossed: `load` for {instance="a"} is 0.899, which is not > 0.9"#,
    );
    check(
        series,
        "0.9 < load",
        r#"threshold_not_crossed: `load` for {instance="a"} is 0.899, which is not > 0.9"#,
    );
    check(series, "sum(load) > 2", "threshold_not_crossed: `sum(load)` is 1.849, which is not > 2");
    check(series, "load > 0.8", "expression_true: `load > 0.8` is true");
    check(
        "a{instance=\"a\"} 1@100\nb{instance=\"a\"} 2@100",
        "a > b",
        r#"threshold_not_crossed: `a` for {instance="a"} is 1, which is not > 2 of `b`"#,
    );
}

#[test]
fn series_that_are_not_there() {
    check("", "load > 0.9", "no_series: there is no series `load`");
    check(
        "load{instance=\"b\"} 1@100",
        "load > 0.9",
        r#"no_series: there is no series `load` for {instance="a"}"#,
    );
    check(
        "load{instance=\"a\"} 1@90",
        "max by (instance) (load) > 0.9",
        r#"lookback_gap: the newest sample of `load` for {instance="a"} is of 1970-01-01T01:30:00Z, older than the lookback of 5m"#,
    );
    check(
        "load{instance=\"a\"} 1@98 stale@99",
        "load > 0.9",
        r#"series_stale: the series `load` for {instance="a"} ended at 1970-01-01T01:39:00Z: its target or rule stopped giving it"#,
    );
    check(
        "load{instance=\"a\",job=\"n\"} 1@98 stale@99\nup{instance=\"a\",job=\"n\"} 1@98 0@99",
        "load > 0.9",
        r#"target_down: the series `load` for {instance="a", job="n"} ended at 1970-01-01T01:39:00Z because scrapes of its target fail (`up` is 0)"#,
    );
    check(
        "c{instance=\"a\"} 1@99",
        "rate(c[5m]) > 0",
        r#"too_few_samples: `c[5m]` for {instance="a"} has 1 samples in its range, too few for rate"#,
    );
    check(
        "load{instance=\"a\"} 1@100",
        "absent(load)",
        r#"series_present: `load` is there for {instance="a"}, so nothing is absent"#,
    );
}

#[test]
fn joins() {
    let join = "req{instance=\"a\"} 9@100\nlimit{instance=\"b\"} 5@100";
    check(
        join,
        "req > on (instance) limit",
        r#"no_join_partner: nothing on the right side of `req > on (instance) limit` has the labels {instance="a"}, which the other side has"#,
    );
    check(
        join,
        "req / on (instance) limit > 0.5",
        r#"no_join_partner: nothing on the right side of `req / on (instance) limit` has the labels {instance="a"}, which the other side has"#,
    );
    check("req{instance=\"a\"} 9@100", "req > on (instance) limit", "no_series: there is no series `limit`");
    let both = "req{instance=\"a\"} 9@100\nlimit{instance=\"a\"} 5@100";
    check(
        both,
        "req and on (instance) (limit > 7)",
        r#"threshold_not_crossed: `limit` for {instance="a"} is 5, which is not > 7"#,
    );
    check(
        both,
        "req unless on (instance) limit",
        r#"excluded_by_unless: the right side of `req unless on (instance) limit` has {instance="a"} too, and `unless` takes that away"#,
    );
    check(
        both,
        "missing > 1 or req > 10",
        r#"threshold_not_crossed: `req` for {instance="a"} is 9, which is not > 10"#,
    );
}
