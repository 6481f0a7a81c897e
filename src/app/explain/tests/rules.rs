//! Incidents of the rule itself: why it gives an alert, or does not.

use super::*;

const HIGH: &str = "  - {alert: High, expr: load > 0.9, for: 5m}\n";
const SLOW: &str = "  - {alert: High, expr: load > 0.9, for: 20m}\n";
const NOW: &str = "  - {alert: High, expr: load > 0.9}\n";
const LOAD: &str = "load{instance=\"a\",job=\"n\"}";
const UP: &str = "up{instance=\"a\",job=\"n\"}";
const ALERT: &str = "{alertname=\"High\"}";

#[tokio::test(start_paused = true)]
async fn values_just_below_the_threshold() {
    let server = setup(HIGH).start().await;
    server.minutes(3, &[(LOAD, 0.899)]).await;
    server.state(ALERT, "inactive", "threshold_not_crossed", &["0.899", "not > 0.9", "instance=\"a\""]);
    server.mail(ALERT, "not_firing", &[]);
}

#[tokio::test(start_paused = true)]
async fn pending_says_when_it_will_fire() {
    let server = setup(HIGH).start().await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    let alert = server.explain(ALERT);
    assert_eq!((alert.state, alert.cause.code), ("pending", "for_not_reached"));
    let active_at: jiff::Timestamp = alert.timeline[0].time.parse().unwrap();
    assert_eq!(alert.cause.next, Some(tell::time(active_at.as_millisecond() + 300_000)), "{alert:#?}");
    server.mail(ALERT, "not_firing", &["pending"]);
    server.minutes(6, &[(LOAD, 1.5)]).await;
    server.state(ALERT, "firing", "for_reached", &["for at least 5m", "values 1 to 1.5, the last 1.5"]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_longer_than_the_lookback_resets_for() {
    let server = setup(SLOW).start().await;
    server.minutes(4, &[(LOAD, 1.0)]).await;
    // Nothing for six minutes: the lookback ends it.
    server.minutes(6, &[]).await;
    server.state(ALERT, "inactive", "lookback_gap", &["older than the lookback of 5m", "no longer pending"]);
    server.minutes(2, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "pending", "for_reset", &["`for` began anew because", "older than the lookback"]);
}

#[tokio::test(start_paused = true)]
async fn one_low_value_resets_for() {
    let server = setup(SLOW).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.minutes(1, &[(LOAD, 0.5)]).await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    let words = ["`for` began anew because", "is 0.5, which is not > 0.9"];
    server.state(ALERT, "pending", "for_reset", &words);
}

#[tokio::test(start_paused = true)]
async fn a_join_without_a_partner() {
    let rule = "  - {alert: High, expr: req / on (instance) capacity > 0.5}\n";
    let server = setup(rule).start().await;
    let series = [("req{instance=\"a\"}", 9.0), ("capacity{node=\"a\"}", 10.0)];
    server.minutes(2, &series).await;
    server.state(ALERT, "inactive", "no_join_partner", &["right side", "{instance=\"a\"}"]);
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_nobody_exposes() {
    let server = setup(HIGH).start().await;
    server.minutes(2, &[("laod", 1.0)]).await;
    server.state(ALERT, "inactive", "no_series", &["there is no series `load`"]);
}

#[tokio::test(start_paused = true)]
async fn label_churn_resets_for() {
    let server = setup(SLOW).start().await;
    let (old, new) = ("load{job=\"n\",pod=\"x-1\"}", "load{job=\"n\",pod=\"x-2\"}");
    server.minutes(3, &[(old, 1.0)]).await;
    server.put(old, None);
    server.minutes(2, &[(new, 1.0)]).await;
    let (old, new) = ("{alertname=\"High\",pod=\"x-1\"}", "{alertname=\"High\",pod=\"x-2\"}");
    server.state(new, "pending", "label_churn", &["`for` began anew", "pod=\"x-1\""]);
    server.state(old, "inactive", "label_churn", &["pod=\"x-2\""]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_down_ends_its_series() {
    let server = setup(NOW).start().await;
    server.minutes(3, &[(LOAD, 1.0), (UP, 1.0)]).await;
    server.state(ALERT, "firing", "expression_true", &["value 1"]);
    server.put(LOAD, None);
    server.minutes(1, &[(UP, 0.0)]).await;
    server.state(ALERT, "inactive", "target_down", &["scrapes of its target fail", "resolved after"]);
}

#[tokio::test(start_paused = true)]
async fn a_series_that_its_target_stops_giving() {
    let server = setup(NOW).start().await;
    server.minutes(2, &[(LOAD, 1.0), (UP, 1.0)]).await;
    server.put(LOAD, None);
    server.minutes(1, &[(UP, 1.0)]).await;
    server.state(ALERT, "inactive", "series_stale", &["stopped giving it"]);
}

#[tokio::test(start_paused = true)]
async fn absent_sees_a_series() {
    let server = setup("  - {alert: High, expr: absent(load)}\n").start().await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "inactive", "series_present", &["instance=\"a\""]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_fails() {
    let rule = "  - {alert: High, expr: a * on (instance) b > 0}\n";
    let server = setup(rule).start().await;
    let fine = [("a{instance=\"a\",x=\"1\"}", 1.0), ("b{instance=\"a\",y=\"1\"}", 1.0)];
    server.minutes(2, &fine).await;
    server.state(ALERT, "firing", "expression_true", &[]);
    let twice = [fine[0], fine[1], ("b{instance=\"a\",y=\"2\"}", 1.0)];
    server.minutes(2, &twice).await;
    server.state(ALERT, "firing", "rule_error", &["found duplicate series", "stays as it was"]);
    // Before it ever gave an alert.
    let server = setup(rule).start().await;
    server.minutes(2, &twice).await;
    server.state(ALERT, "inactive", "rule_error", &["found duplicate series"]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_exceeded() {
    let server = Setup { group: "  limit: 1\n", ..setup(NOW) }.start().await;
    server.minutes(2, &[("load{instance=\"a\"}", 1.0)]).await;
    server.minutes(2, &[("load{instance=\"a\"}", 1.0), ("load{instance=\"b\"}", 1.0)]).await;
    let words = ["exceeded limit of 1 with 2 alerts"];
    server.state("{alertname=\"High\",instance=\"a\"}", "inactive", "limit_exceeded", &words);
    server.state("{alertname=\"High\",instance=\"b\"}", "inactive", "limit_exceeded", &words);
}

#[tokio::test(start_paused = true)]
async fn keep_firing_for_holds() {
    let server = setup("  - {alert: High, expr: load > 0.9, keep_firing_for: 10m}\n").start().await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    server.minutes(3, &[(LOAD, 0.1)]).await;
    let words = ["keep_firing_for holds it until", "is 0.1, which is not > 0.9"];
    server.state(ALERT, "firing", "keep_firing_for", &words);
    server.minutes(9, &[(LOAD, 0.1)]).await;
    server.state(ALERT, "inactive", "threshold_not_crossed", &["is 0.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_for_and_what_is_restored() {
    let setup = setup("  - {alert: High, expr: load > 0.9, for: 30m}\n");
    let server = setup.start().await;
    server.minutes(10, &[(LOAD, 1.0)]).await;
    let began = server.explain(ALERT).timeline[0].time.clone();
    let server = server.restart(&setup).await;
    server.minutes(1, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "pending", "restarted", &["the server restarted, before that it was pending"]);
    server.minutes(4, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "pending", "restored", &["was restored"]);
    let alert = server.explain(ALERT);
    assert_eq!(alert.timeline[0].time, began, "the story before the restart is gone: {alert:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_raises_for() {
    let server = setup("  - {alert: High, expr: load > 0.9, for: 2m}\n").start().await;
    server.minutes(5, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "firing", "for_reached", &["2m"]);
    server.apply(&setup("  - {alert: High, expr: load > 0.9, for: 1h}\n"), false).await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "pending", "for_changed", &["a reload changed `for` from 2m to 1h"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_removes_the_rule() {
    let server = setup(NOW).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.apply(&setup("  - {alert: Other, expr: load > 0.9}\n"), false).await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "inactive", "rule_removed", &["a reload removed its rule"]);
    server.state("{alertname=\"Nobody\"}", "unknown", "no_such_rule", &["Nobody"]);
}

#[tokio::test(start_paused = true)]
async fn flapping() {
    let server = setup(NOW).start().await;
    for _ in 0..4 {
        server.minutes(1, &[(LOAD, 1.0)]).await;
        server.minutes(1, &[(LOAD, 0.0)]).await;
    }
    server.state(ALERT, "inactive", "flapping", &["it ended 4 times within the hour"]);
    server.minutes(1, &[(LOAD, 1.0)]).await;
    server.state(ALERT, "firing", "flapping", &["now firing since"]);
}

#[tokio::test(start_paused = true)]
async fn the_past_is_explained_as_it_was() {
    let server = setup(HIGH).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    let then = now();
    server.minutes(30, &[(LOAD, 0.2)]).await;
    let alerts = server.explain_all(ALERT, then);
    assert_eq!((alerts[0].state, alerts[0].cause.code), ("pending", "for_not_reached"), "{alerts:#?}");
    let before = server.explain_all(ALERT, then - 86_400_000);
    assert_eq!((before[0].state, before[0].cause.code), ("inactive", "no_series"), "{before:#?}");
}
