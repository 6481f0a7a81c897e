use std::sync::Arc;

use model::Labels;

use promql::SampleValue;

use super::super::Element;
use super::{AlertState, Found, Seen, State, Timing, alert_labels};

const TIMING: Timing = Timing { hold_ms: 60_000, keep_firing_for_ms: 0 };

fn labels(instance: &str) -> Labels {
    alert_labels(&Labels::from_pairs([("__name__", "up"), ("instance", instance)]), &[], "Down")
}

fn found(instances: &[&str]) -> Vec<Found> {
    let hit = |instance: &&str| Found { labels: labels(instance), annotations: Arc::default(), value: 1.0 };
    instances.iter().map(hit).collect()
}

/// Runs one evaluation per entry, 15 s apart, and prints the state of `a` after each.
fn run(state: &mut State, timing: Timing, from_s: i64, hits: &[bool]) -> String {
    let mut out = Vec::new();
    for (i, &hit) in (0..).zip(hits) {
        let ts = (from_s + 15 * i) * 1000;
        state.update(ts, if hit { found(&["a"]) } else { Vec::new() }, timing, 0).unwrap();
        out.push(state.alerts.get(&labels("a")).map_or("-", |alert| alert.state.as_str()));
    }
    out.join(" ")
}

#[test]
fn pending_holds_for_its_time_then_fires_then_resolves() {
    let mut state = State::default();
    let states = run(&mut state, TIMING, 0, &[true, true, true, true, true, false]);
    assert_eq!(states, "pending pending pending pending firing inactive");
    assert_eq!(state.alerts[&labels("a")].resolved_at, Some(75_000));
}

#[test]
fn a_gap_while_pending_forgets_the_alert() {
    let mut state = State::default();
    assert_eq!(
        run(&mut state, TIMING, 0, &[true, true, false, true, true]),
        "pending pending - pending pending"
    );
}

#[test]
fn without_for_an_alert_fires_at_once() {
    let timing = Timing { hold_ms: 0, keep_firing_for_ms: 0 };
    assert_eq!(run(&mut State::default(), timing, 0, &[true, false]), "firing inactive");
}

#[test]
fn keep_firing_for_bridges_gaps() {
    let timing = Timing { hold_ms: 0, keep_firing_for_ms: 30_000 };
    let hits = [true, false, false, true, false, false, false];
    assert_eq!(
        run(&mut State::default(), timing, 0, &hits),
        "firing firing firing firing firing firing inactive"
    );
}

#[test]
fn a_raised_hold_sends_a_firing_alert_back() {
    let mut state = State::default();
    run(&mut state, TIMING, 0, &[true, true, true, true, true]);
    let timing = Timing { hold_ms: 600_000, keep_firing_for_ms: 0 };
    assert_eq!(run(&mut state, timing, 75, &[true]), "pending");
    assert_eq!(state.alerts[&labels("a")].fired_at, None);
}

#[test]
fn resolved_alerts_are_forgotten_after_a_quarter_of_an_hour() {
    let timing = Timing { hold_ms: 0, keep_firing_for_ms: 0 };
    let mut state = State::default();
    run(&mut state, timing, 0, &[true, false]);
    state.update(15_000 + 900_000, Vec::new(), timing, 0).unwrap();
    assert_eq!(state.alerts.len(), 1);
    state.update(15_000 + 900_001, Vec::new(), timing, 0).unwrap();
    assert_eq!(state.alerts.len(), 0);
}

#[test]
fn firing_is_sent_at_once_and_again_past_the_resend_delay() {
    let timing = Timing { hold_ms: 0, keep_firing_for_ms: 0 };
    let mut state = State::default();
    let mut sent = Vec::new();
    for i in 0..12 {
        let ts = i * 15_000;
        state.update(ts, if i < 8 { found(&["a"]) } else { Vec::new() }, timing, 0).unwrap();
        for (_, alert) in state.due(ts, 60_000, 15_000) {
            sent.push((ts / 1000, alert.state.as_str(), alert.valid_until / 1000));
        }
    }
    assert_eq!(sent, [(0, "firing", 240), (75, "firing", 315), (120, "inactive", 360)]);
}

#[test]
fn pending_is_never_sent() {
    let mut state = State::default();
    state.update(0, found(&["a"]), TIMING, 0).unwrap();
    assert!(state.due(0, 60_000, 15_000).is_empty());
}

#[test]
fn equal_labels_change_nothing() {
    let mut state = State::default();
    state.update(0, found(&["a"]), TIMING, 0).unwrap();
    let error = state.update(15_000, found(&["b", "b"]), TIMING, 0).unwrap_err();
    assert_eq!(error, "vector contains metrics with the same labelset after applying alert labels");
    assert!(state.alerts.contains_key(&labels("a")));
}

#[test]
fn the_limit_drops_all_state() {
    let mut state = State::default();
    state.update(0, found(&["a", "b"]), TIMING, 2).unwrap();
    let error = state.update(15_000, found(&["a", "b", "c"]), TIMING, 2).unwrap_err();
    assert_eq!(error, "exceeded limit of 2 with 3 alerts");
    assert!(state.alerts.is_empty());
}

#[test]
fn a_limit_may_refuse_new_alerts_only() {
    let mut state = State::default();
    let timing = Timing { hold_ms: 0, ..TIMING };
    state.update_keeping(0, found(&["b", "d"]), timing, 3).unwrap();
    let text = state.update_keeping(15_000, found(&["b", "c", "a", "e"]), timing, 3).unwrap();
    assert_eq!(text.as_deref(), Some("exceeded limit of 3 with 4 alerts"));
    let states = |state: &State| {
        let mut all: Vec<_> =
            state.alerts.iter().map(|(l, a)| (l.to_map()["instance"].clone(), a.state)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().map(|(instance, state)| format!("{instance} {}", state.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(states(&state), ["a firing", "b firing", "c firing", "d inactive"]);
    assert_eq!(state.update_keeping(30_000, found(&["b"]), timing, 3).unwrap(), None);
    assert_eq!(states(&state), ["a inactive", "b firing", "c inactive", "d inactive"]);
}

#[test]
fn restored_alerts_survive_the_first_evaluations() {
    let mut before = State::default();
    run(&mut before, TIMING, 0, &[true, true, true, true, true]);
    // Away for half a minute: two evaluations are held, and as much time.
    let restored = |away_ms| State::restored(before.alerts.clone(), 100_000, away_ms);
    assert_eq!(run(&mut restored(1000), TIMING, 101, &[false; 3]), "firing firing inactive");
    assert_eq!(
        run(&mut restored(60_000), TIMING, 105, &[false; 6]),
        "firing firing firing firing inactive inactive"
    );
    assert_eq!(
        run(&mut restored(60_000), TIMING, 105, &[true, false, true, true, true]),
        "firing firing firing firing firing"
    );
    // A day is no longer than two minutes.
    let mut state = restored(86_400_000);
    assert_eq!(
        run(&mut state, TIMING, 105, &[false; 8]),
        "firing firing firing firing firing firing firing firing"
    );
    assert_eq!(run(&mut state, TIMING, 225, &[false]), "inactive");
}

#[test]
fn series_show_state_and_activity() {
    let mut state = State::default();
    state.update(15_000, found(&["a"]), TIMING, 0).unwrap();
    assert_eq!(state.overall(), AlertState::Pending);
    let samples = |state: &mut State| state.samples().into_iter().map(told).collect::<Vec<_>>();
    let for_state = r#"{__name__="ALERTS_FOR_STATE", alertname="Down", instance="a"} 15"#;
    let alerts = |alert_state| {
        format!(r#"{{__name__="ALERTS", alertname="Down", alertstate="{alert_state}", instance="a"}} 1"#)
    };
    assert_eq!(samples(&mut state), [&alerts("pending"), for_state]);
    state.update(75_000, found(&["a"]), TIMING, 0).unwrap();
    assert_eq!(samples(&mut state), [&alerts("firing"), for_state]);
    state.update(90_000, Vec::new(), TIMING, 0).unwrap();
    assert!(samples(&mut state).is_empty());
}

fn told((labels, value): Element) -> String {
    let SampleValue::Float(v) = value else { panic!("alerts are written as floats") };
    format!("{labels} {v}")
}

#[test]
fn the_values_of_an_alert_are_remembered() {
    let mut state = State::default();
    let seen = |state: &State| state.alerts[&labels("a")].seen;
    for (i, value) in (0..).zip([3.0, 9.0, 4.0, 5.0, 2.0, 7.0]) {
        let found = vec![Found { value, ..found(&["a"]).remove(0) }];
        state.update(i * 15_000, found, TIMING, 0).unwrap();
    }
    assert_eq!(seen(&state), Seen { first: 3.0, min: 2.0, max: 9.0, at_fire: Some(2.0) });
    // Gone and back: a life of its own.
    state.update(90_000, Vec::new(), TIMING, 0).unwrap();
    state.update(105_000, vec![Found { value: 6.0, ..found(&["a"]).remove(0) }], TIMING, 0).unwrap();
    assert_eq!(seen(&state), Seen { first: 6.0, min: 6.0, max: 6.0, at_fire: None });
}
