//! Incidents behind the rule: where a message went, and what kept it.

use super::*;

const RULE: &str = "  - {alert: High, expr: load > 0.9, labels: {severity: page}}\n";
const LOAD: &str = "load{instance=\"a\"}";
const ALERT: &str = "{alertname=\"High\"}";
const SECOND: &str = "{alertname=\"High\",instance=\"b\"}";

/// A server whose built-in Alertmanager has this route and these receivers.
fn routed(route: &str, receivers: &str) -> Setup {
    let text = format!("route:\n  receiver: team\n  group_by: [alertname]\n{route}\nreceivers:\n{receivers}");
    Setup { alertmanager: Some(text), ..setup(RULE) }
}

fn webhook(address: &str, more: &str) -> String {
    format!("- name: team\n  webhook_configs:\n  - url: http://{address}/\n{more}")
}

fn mail(address: &str) -> String {
    format!(
        "- name: team\n  email_configs:\n  - to: team@example.org\n    from: ferula@example.org\n    smarthost: {address}\n    require_tls: false\n"
    )
}

/// A server that sends to external Alertmanagers only.
fn external(address: &str, more: &str) -> Setup {
    let prometheus = format!("alerting:\n{more}  alertmanagers:\n  - static_configs: []\n");
    Setup { prometheus, targets: vec![address.to_owned()], ..setup(RULE) }
}

#[tokio::test(start_paused = true)]
async fn group_wait_then_delivered_then_repeat_interval() {
    let receivers = webhook(&http(&[200]).await, "");
    let timers = "  group_wait: 5m\n  group_interval: 10m\n  repeat_interval: 4h\n";
    let server = routed(timers, &receivers).start().await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "group_wait", &["a new group waits for group_wait", "{}:{alertname=\"High\"}"]);
    server.minutes(6, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "delivered", &["team/webhook[0]", "first notification, 1 attempt"]);
    server.minutes(12, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "repeat_interval", &["told already", "is repeated from", "last sent at"]);

    // Another alert of the group waits for the group's interval.
    let second = "load{instance=\"b\"}";
    server.minutes(2, &[(LOAD, 1.0), (second, 1.0)]).await;
    server.mail(SECOND, "group_interval", &["joins a group", "is flushed at"]);
    server.minutes(10, &[(LOAD, 1.0), (second, 1.0)]).await;
    server.mail(SECOND, "delivered", &["new alerts added"]);

    // What ends is told at the next flush.
    server.minutes(2, &[(LOAD, 1.0), (second, 0.0)]).await;
    server.mail(SECOND, "group_interval", &["it ended at", "next flush"]);
    server.minutes(4, &[(LOAD, 1.0), (second, 0.0)]).await;
    server.mail(SECOND, "delivered", &["some alerts resolved"]);
    // The rule tells of the end for a while; the receiver was told once.
    server.minutes(12, &[(LOAD, 1.0), (second, 0.0)]).await;
    server.mail(SECOND, "delivered", &["told already; last sent at"]);
}

#[tokio::test(start_paused = true)]
async fn send_resolved_false() {
    let receivers = webhook(&http(&[200]).await, "    send_resolved: false\n");
    let server = routed("  group_wait: 1s\n  group_interval: 10m\n", &receivers).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "delivered", &[]);
    server.minutes(12, &[(LOAD, 0.0)]).await;
    server.state(ALERT, "inactive", "threshold_not_crossed", &[]);
    server.mail(ALERT, "send_resolved_false", &["send_resolved is false"]);
    server.minutes(12, &[(LOAD, 0.0)]).await;
    server.mail(ALERT, "send_resolved_false", &["send_resolved is false"]);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_ends_before_anybody_was_told() {
    let receivers = webhook(&http(&[200]).await, "");
    let server = routed("  group_wait: 10m\n", &receivers).start().await;
    server.minutes(2, &[(LOAD, 1.0)]).await;
    server.minutes(12, &[(LOAD, 0.0)]).await;
    server.mail(ALERT, "resolved_before_notified", &["ended before anybody was told"]);
}

#[tokio::test(start_paused = true)]
async fn inhibition_names_the_alert() {
    const INHIBIT: &str = "inhibit_rules:\n- source_matchers: [alertname=NodeDown]\n  target_matchers: [severity=page]\n  equal: [instance]\n";
    let receivers = webhook(&http(&[200]).await, "");
    let mut setup = routed("  group_wait: 1s\n  group_interval: 1m\n", &receivers);
    setup.alertmanager.as_mut().unwrap().push_str(INHIBIT);
    let server = setup.start().await;
    server.post(&[("alertname", "NodeDown"), ("instance", "a")], None, Some(now() + 3_600_000));
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "inhibited", &["inhibited by the alert {alertname=\"NodeDown\", instance=\"a\"}"]);
}

fn silence(server: &Server, minutes: i64) -> String {
    let time = |t: i64| jiff::Timestamp::from_millisecond(t).unwrap().to_string();
    let text = format!(
        r#"{{"matchers": [{{"name": "instance", "value": "a", "isRegex": false, "isEqual": true}}],
            "startsAt": "{}", "endsAt": "{}", "createdBy": "ann", "comment": "known, ticket 7"}}"#,
        time(now()),
        time(now() + minutes * 60_000)
    );
    let posted = serde_json::from_str(&text).unwrap();
    server.alertmanager.as_ref().unwrap().put_silence(posted).unwrap().id
}

#[tokio::test(start_paused = true)]
async fn a_silence_and_its_end() {
    let receivers = webhook(&http(&[200]).await, "");
    let server = routed("  group_wait: 1s\n  group_interval: 10m\n", &receivers).start().await;
    let id = silence(&server, 5);
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "silenced", &[&id, "ann", "known, ticket 7", "next flush at"]);
    server.minutes(4, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "silence_expired", &["at the last flush it was still silenced", "next flush at"]);
    server.minutes(8, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "delivered", &[]);
}

#[tokio::test(start_paused = true)]
async fn mute_and_active_time_intervals() {
    const INTERVALS: &str = "time_intervals:\n- name: always\n  time_intervals: [{times: [{start_time: '00:00', end_time: '24:00'}]}]\n- name: past\n  time_intervals: [{years: ['2001']}]\n";
    let receivers = webhook(&http(&[200]).await, "");
    for (key, code, words) in [
        ("mute_time_intervals: [always]", "mute_time_interval", "muted by the time interval always"),
        (
            "active_time_intervals: [past]",
            "outside_active_time_interval",
            "none of the active time intervals is now: past",
        ),
    ] {
        let child = format!("  group_wait: 1s\n  routes:\n  - matchers: [severity=page]\n    {key}\n");
        let mut setup = routed(&child, &receivers);
        setup.alertmanager.as_mut().unwrap().push_str(INTERVALS);
        let server = setup.start().await;
        server.minutes(3, &[(LOAD, 1.0)]).await;
        server.mail(ALERT, code, &[words]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_fails_is_tried_again() {
    let receivers = webhook(&http(&[503]).await, "");
    let server = routed("  group_wait: 1s\n  group_interval: 30m\n", &receivers).start().await;
    server.minutes(4, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "receiver_retrying", &["tried", "503", "will be tried again"]);
    // Its time is up when the next flush begins.
    server.minutes(32, &[(LOAD, 1.0)]).await;
    let alert = server.explain(ALERT);
    let failed = alert.timeline.iter().find(|event| event.code == "receiver_failed");
    let text = &failed.unwrap_or_else(|| panic!("{alert:#?}")).text;
    assert!(text.contains("given up after") && text.contains("503"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_recovers() {
    let receivers = webhook(&http(&[500, 500, 200]).await, "");
    let server = routed("  group_wait: 1s\n", &receivers).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "delivered", &["3 attempts"]);
    let alert = server.explain(ALERT);
    let retries = alert.timeline.iter().filter(|event| event.code == "receiver_retrying");
    assert_eq!(retries.map(|event| event.count).sum::<u64>(), 2, "{alert:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_refuses() {
    let receivers = webhook(&http(&[400]).await, "");
    let server = routed("  group_wait: 1s\n", &receivers).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "receiver_refused", &["refused for good after 1 attempt", "400"]);
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_that_refuses_the_recipient() {
    let receivers = mail(&smtp(true).await);
    let server = routed("  group_wait: 1s\n", &receivers).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "receiver_refused", &["team/email[0]", "550", "no such user"]);
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_arrives_has_its_message_id() {
    let receivers = mail(&smtp(false).await);
    let server = routed("  group_wait: 1s\n", &receivers).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "delivered", &["message <"]);
    let alert = server.explain(ALERT);
    assert!(alert.deliveries[0].message.starts_with('<'), "{alert:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_fails_is_sent_with_its_error() {
    let receivers = webhook(&http(&[200]).await, "");
    let rule =
        "  - {alert: High, expr: load > 0.9, annotations: {summary: '{{ first (query \"nothing\") }}'}}\n";
    let server = Setup { rules: rule.to_owned(), ..routed("  group_wait: 1s\n", &receivers) }.start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "template_error", &["sent", "error expanding template"]);
}

#[tokio::test(start_paused = true)]
async fn a_route_to_a_receiver_without_integrations() {
    let server = routed("  group_wait: 1s\n", "- name: team\n").start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "null_receiver", &["the receiver has no integrations"]);
}

#[tokio::test(start_paused = true)]
async fn alerts_from_outside() {
    let receivers = webhook(&http(&[200]).await, "");
    let mut setup = routed("  group_wait: 1s\n  group_interval: 1m\n", &receivers);
    setup.rules.clear();
    let server = setup.start().await;
    // The sender tells of it once, without an end.
    server.post(&[("alertname", "Once")], None, None);
    seconds(60).await;
    server.state("{alertname=\"Once\"}", "firing", "expression_true", &["resolve_timeout ends it"]);
    server.mail("{alertname=\"Once\"}", "delivered", &[]);
    seconds(360).await;
    server.state("{alertname=\"Once\"}", "inactive", "resolve_timeout", &["by resolve_timeout"]);
    // The sender's clock is behind: it has ended before it came.
    server.post(&[("alertname", "Late")], Some(now() - 900_000), Some(now() - 600_000));
    seconds(5).await;
    server.state("{alertname=\"Late\"}", "inactive", "clock_skew", &["do not fit our clock"]);
    // The sender's clock is ahead.
    server.post(&[("alertname", "Early")], Some(now() + 600_000), Some(now() + 900_000));
    seconds(5).await;
    server.state("{alertname=\"Early\"}", "firing", "clock_skew", &["do not fit our clock"]);
}

#[tokio::test(start_paused = true)]
async fn an_external_alertmanager_up_and_down() {
    let (up, down) = (http(&[200]).await, http(&[500]).await);
    let error = "bad response status 500";
    for (address, code, words) in [(&up, "posted", "sent to"), (&down, "alertmanager_failed", error)] {
        let server = external(address, "").start().await;
        server.minutes(3, &[(LOAD, 1.0)]).await;
        server.mail(ALERT, code, &[words, address]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_overflows() {
    let address = http(&[500]).await;
    let server = Setup { queue_capacity: Some(1), ..external(&address, "") }.start().await;
    let many: Vec<_> = (0..5).map(|i| format!("load{{instance=\"x{i}\"}}")).collect();
    let values: Vec<_> = many.iter().map(|series| (series.as_str(), 1.0)).collect();
    server.minutes(1, &values).await;
    let alerts = server.explain_all(ALERT, now());
    let overflowed: Vec<_> =
        alerts.iter().filter(|alert| alert.notification.code == "queue_overflow").collect();
    assert!(overflowed.len() >= 3, "{alerts:#?}");
    assert!(overflowed[0].notification.text.contains("the queue for"), "{alerts:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_relabelling_drops() {
    let address = http(&[200]).await;
    let relabel = "  alert_relabel_configs:\n  - {source_labels: [severity], regex: page, action: drop}\n";
    let server = external(&address, relabel).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "relabelled_away", &["dropped by alert_relabel_configs"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_to_send_to() {
    let server = setup(RULE).start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    server.mail(ALERT, "no_alertmanager", &["there is no Alertmanager"]);
}

#[tokio::test(start_paused = true)]
async fn external_labels_are_part_of_the_same_story() {
    let receivers = webhook(&http(&[200]).await, "");
    let prometheus = "global: {external_labels: {region: eu}}\n".to_owned();
    let server = Setup { prometheus, ..routed("  group_wait: 1s\n", &receivers) }.start().await;
    server.minutes(3, &[(LOAD, 1.0)]).await;
    // By the labels of the rule, and by those in the mail.
    for selector in [ALERT, "{alertname=\"High\",region=\"eu\"}"] {
        let alert = server.explain(selector);
        assert_eq!((alert.state, alert.notification.code), ("firing", "delivered"), "{alert:#?}");
        assert!(!alert.labels.contains_key("region"), "{alert:#?}");
        assert_eq!(alert.known_as[0]["region"], "eu");
    }
}
