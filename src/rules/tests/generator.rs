//! What the compliance suite for generators of alerts asks, by a clock of our own: minutes in milliseconds.
//!
//! Samples come every 15 s, groups run every 30 s at any phase, and somebody looks every 10 s. What is seen may lag
//! behind what the samples say by the interval of the group and the time that two messages take, as there.
//!
//! Compat: prometheus/compliance `alert_generator`: its four cases and tolerances.

use std::collections::BTreeMap;

use model::storage::{Appendable, SeriesKey};
use model::{Labels, Timestamp};

use super::super::alerting::AlertState;
use super::super::group::Group;
use super::{House, group_of};
use crate::notifier::Alert;

/// Seconds, as all that follows.
const SAMPLES_EVERY: i64 = 15;
const INTERVAL: i64 = 30;
/// Two messages may take 5 s each.
const MESSAGES: i64 = 10;
const RESEND: i64 = 60;
const REMEMBERED: i64 = 15 * 60;

/// When the first sample comes, in ms.
const ZERO: Timestamp = 1_800_000_000_000;

/// What the samples say of an alert from one of them on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Absent,
    Pending(f64),
    Firing(f64),
    Resolved,
}
use Phase::{Absent, Firing, Pending, Resolved};

/// Annotations by value and time.
type Texts = Box<dyn Fn(f64, i64) -> Vec<(&'static str, String)>>;

/// An alert and its phases by the samples that they begin with.
struct Life {
    labels: Labels,
    /// By value.
    annotations: Texts,
    phases: Vec<(i64, Phase)>,
}

struct Case {
    rules: String,
    /// Runs of values: (value, how often).
    series: Vec<(Labels, Vec<(f64, usize)>)>,
    lives: Vec<Life>,
    n_samples: i64,
}

impl Life {
    /// Phases with their times: from, until.
    fn spans(&self) -> impl Iterator<Item = (i64, i64, Phase)> {
        let begin = std::iter::once((0, Absent)).chain(self.phases.iter().copied());
        let ends = self.phases.iter().map(|(sample, _)| *sample).chain([i64::MAX / SAMPLES_EVERY]);
        begin.zip(ends).map(|((from, phase), until)| (from * SAMPLES_EVERY, until * SAMPLES_EVERY, phase))
    }

    fn at(&self, t: f64) -> (i64, i64, Phase) {
        self.spans().find(|&(from, until, _)| from as f64 <= t && t < until as f64).unwrap()
    }

    /// When the firing began that `t` is in or after.
    fn fired(&self, t: f64) -> i64 {
        let mut fired = 0;
        let mut was_firing = false;
        for (from, _, phase) in self.spans().take_while(|&(from, _, _)| from as f64 <= t) {
            let is_firing = matches!(phase, Firing(_));
            if is_firing && !was_firing {
                fired = from;
            }
            was_firing = is_firing;
        }
        fired
    }

    /// The first phase from `t` on that somebody is told of.
    fn next_told(&self, t: i64) -> Option<i64> {
        self.spans().find(|&(from, _, phase)| from >= t && matches!(phase, Firing(_) | Resolved)).map(|s| s.0)
    }

    /// When the telling of what is told at `t` ends.
    fn told_until(&self, t: f64) -> i64 {
        let (from, until, phase) = self.at(t);
        if phase == Resolved {
            return until.min(from + REMEMBERED);
        }
        let rest = self.spans().filter(|&(from, _, _)| from as f64 > t);
        rest.take_while(|(_, _, phase)| matches!(phase, Firing(_))).map(|span| span.1).last().unwrap_or(until)
    }

    /// The value that the alert fired with before `t`.
    fn last_value(&self, t: i64) -> f64 {
        let before = self.spans().take_while(|&(from, _, _)| from < t);
        let values =
            before.filter_map(|(_, _, phase)| if let Firing(value) = phase { Some(value) } else { None });
        values.last().unwrap()
    }

    fn check_told(&self, told: &[(f64, Alert)], end: i64) {
        let name = &self.labels;
        let may_lag = |due: i64| {
            let is_first_resolved = self.spans().any(|(from, _, phase)| from == due && phase == Resolved);
            due + INTERVAL + MESSAGES + if is_first_resolved { INTERVAL } else { 0 }
        };
        let mut due = self.next_told(0);
        let mut until = due.unwrap_or_default();
        for (now, alert) in told {
            // What was about to end need not have been told once more.
            if let Some(d) = due
                && *now >= may_lag(d) as f64
                && may_lag(d) > until
            {
                due = self.next_told(until);
            }
            let d = due.unwrap_or_else(|| panic!("{name}: unexpected at {now}: {alert:?}"));
            assert!(d as f64 <= *now && *now < may_lag(d) as f64, "{name}: due at {d}, came at {now}");
            let (from, _, phase) = self.at(*now);
            let seconds = |t: Timestamp| (t - ZERO) as f64 / 1000.0;
            let within = |t: Timestamp, from: f64| from <= seconds(t) && seconds(t) < from + INTERVAL as f64;
            let fired = self.fired(*now) as f64;
            assert!(
                within(alert.starts_at, fired),
                "{name}: startsAt {} for {fired}",
                seconds(alert.starts_at)
            );
            // What is over keeps the texts of when it was last so.
            let (value, texts_at) = match phase {
                Firing(value) => {
                    let valid = now + (4 * RESEND.max(INTERVAL)) as f64;
                    let is_right =
                        within(alert.ends_at, valid) || within(alert.ends_at, valid - MESSAGES as f64);
                    assert!(is_right, "{name}: endsAt {} at {now}", seconds(alert.ends_at));
                    (value, whole(*now))
                }
                Resolved => {
                    let ends_at = seconds(alert.ends_at);
                    assert!(within(alert.ends_at, from as f64), "{name}: endsAt {ends_at} at {now}");
                    let until = from + REMEMBERED + INTERVAL + MESSAGES;
                    assert!(*now < until as f64, "{name}: too late at {now}");
                    (self.last_value(from), from - 1)
                }
                phase => panic!("{name}: told at {now} while {phase:?}"),
            };
            let texts = (self.annotations)(value, texts_at).into_iter();
            let texts: BTreeMap<_, _> = texts.map(|(key, text)| (key.to_owned(), text)).collect();
            assert_eq!(alert.annotations, texts, "{name} at {now}");
            assert!(alert.generator_url.starts_with("http://here:9090/graph?g0.expr="));
            until = self.told_until(*now);
            let again = whole(*now) + RESEND - 5;
            due = if again < until { Some(again) } else { self.next_told(until) };
        }
        if let Some(d) = due {
            assert!(may_lag(d) > end.min(until.max(d)), "{name}: due at {d}, never came");
        }
    }
}

/// What somebody sees of an alert.
#[derive(Debug, PartialEq)]
struct Seen {
    labels: Labels,
    state: &'static str,
    value: f64,
    annotations: BTreeMap<String, String>,
    active_at: Timestamp,
}

fn seen(group: &Group) -> Vec<Seen> {
    let mut all = Vec::new();
    for rule in &group.rules {
        for (labels, alert) in rule.alerts.lock().active() {
            all.push(Seen {
                labels: labels.clone(),
                state: alert.state.as_str(),
                value: alert.value,
                annotations: (*alert.annotations).clone(),
                active_at: alert.active_at,
            });
        }
    }
    all
}

impl Case {
    fn run(&self, phase_ms: Timestamp) {
        let house = House::new();
        let group = group_of(&self.rules, "30s", false);
        let end = self.n_samples * SAMPLES_EVERY;
        let mut told: Vec<(f64, Alert)> = Vec::new();
        let series: Vec<(&Labels, Vec<f64>)> = self
            .series
            .iter()
            .map(|(labels, runs)| {
                (labels, runs.iter().flat_map(|&(v, n)| std::iter::repeat_n(v, n)).collect())
            })
            .collect();
        for ms in (0..end * 1000).step_by(100) {
            let t = ZERO + ms;
            if ms % (SAMPLES_EVERY * 1000) == 0 {
                let mut appender = house.db.appender(1);
                let i = usize::try_from(ms / 1000 / SAMPLES_EVERY).unwrap();
                for (labels, values) in &series {
                    if let Some(&v) = values.get(i) {
                        appender.append(SeriesKey::Labels(labels), t, v).unwrap();
                    }
                }
                appender.commit().unwrap();
            }
            if (ms - phase_ms).rem_euclid(INTERVAL * 1000) == 0 {
                group.eval(&house.ctx, t);
                told.extend(house.sent.lock().drain(..).map(|alert| (ms as f64 / 1000.0, alert)));
            }
            if ms % 10_000 == 5_000 && ms > 2 * INTERVAL * 1000 {
                self.look(&house, &group, ms);
            }
        }
        for life in &self.lives {
            let of_life: Vec<_> =
                told.iter().filter(|(_, alert)| alert.labels == life.labels).cloned().collect();
            life.check_told(&of_life, end);
            let is_told = life.phases.iter().any(|(_, phase)| matches!(phase, Firing(_)));
            assert_eq!(of_life.is_empty(), !is_told, "{}", life.labels);
        }
        let is_known = |alert: &Alert| self.lives.iter().any(|life| life.labels == alert.labels);
        assert!(told.iter().all(|(_, alert)| is_known(alert)), "an alert that nobody expects");
    }

    /// Compares what is shown with what it may be.
    fn look(&self, house: &House, group: &Group, ms: i64) {
        let seconds = ms as f64 / 1000.0;
        let mut shown = seen(group);
        let mut n_series = 0;
        for life in &self.lives {
            let mine = shown.iter().position(|seen| seen.labels == life.labels).map(|i| shown.swap_remove(i));
            let is_right = |(from, _, phase): (i64, i64, Phase)| match (phase, &mine) {
                (Absent | Resolved, None) => true,
                (Pending(value) | Firing(value), Some(seen)) => {
                    let state = if matches!(phase, Pending(_)) { "pending" } else { "firing" };
                    let active_from = life.active_from(from);
                    let age = (seen.active_at - ZERO) - active_from * 1000;
                    let annotations =
                        (life.annotations)(value, ms / 1000).into_iter().map(|(k, v)| (k.to_owned(), v));
                    seen.state == state
                        && seen.value == value
                        && seen.annotations == annotations.collect()
                        && (0..=(INTERVAL + MESSAGES) * 1000).contains(&age)
                }
                _ => false,
            };
            let may_be = |&(from, until, _): &(i64, i64, Phase)| {
                seconds > (from - 1) as f64 && seconds <= (until.saturating_add(INTERVAL + MESSAGES)) as f64
            };
            assert!(life.spans().filter(may_be).any(is_right), "{} at {seconds}: {mine:?}", life.labels);
            if let Some(seen) = mine {
                n_series += 1;
                let rest = seen.labels.iter().filter(|(name, _)| *name != b"alertstate");
                let text = |(name, value): (&[u8], &[u8])| {
                    format!("{}=\"{}\",", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                };
                let matchers = rest.map(text).collect::<Vec<_>>().concat();
                let expr = format!("ALERTS{{{matchers}alertstate=\"{}\"}}", seen.state);
                assert_eq!(house.value(&expr, ZERO + ms), [1.0], "{expr} at {seconds}");
            }
        }
        assert!(shown.is_empty(), "unexpected at {seconds}: {shown:?}");
        let written = house.value("count(ALERTS)", ZERO + ms);
        assert_eq!(written.first().copied().unwrap_or(0.0), f64::from(n_series), "series at {seconds}");
        for rule in &group.rules {
            let report = rule.report.lock().clone();
            assert_eq!((report.health(), report.last_error), ("ok", None));
            let at = report.at.unwrap() - ZERO;
            assert!(ms - at <= (INTERVAL + 5) * 1000, "evaluated at {at}, now is {ms}");
            let is_active = |state| rule.alerts.lock().active().any(|(_, alert)| alert.state == state);
            let expected =
                [AlertState::Firing, AlertState::Pending].into_iter().find(|&state| is_active(state));
            assert_eq!(rule.alerts.lock().overall(), expected.unwrap_or(AlertState::Inactive));
        }
    }
}

impl Life {
    /// When the alert became active whose phase begins at `from`.
    fn active_from(&self, from: i64) -> i64 {
        let mut active = from;
        for (begin, _, phase) in self.spans().take_while(|&(begin, _, _)| begin <= from) {
            let follows = self
                .spans()
                .any(|(_, until, before)| until == begin && matches!(before, Pending(_) | Firing(_)));
            if matches!(phase, Pending(_) | Firing(_)) && !follows {
                active = begin;
            }
        }
        active
    }
}

/// The phases that a group may have inside its interval.
const PHASES_MS: [i64; 4] = [100, 7_300, 15_000, 29_900];

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn input(more: &[(&str, &str)]) -> Labels {
    Labels::from_pairs([("__name__", "load")].iter().chain(more).copied())
}

#[expect(clippy::cast_possible_truncation, reason = "seconds of a test")]
fn whole(seconds: f64) -> i64 {
    seconds as i64
}

fn always(text: &'static str) -> Texts {
    Box::new(move |_, _| vec![("description", text.to_owned())])
}

/// Fires with values that change, resolves, and is back before that is forgotten.
#[test]
fn pending_firing_resolved_and_again() {
    let case = Case {
        rules: "  - alert: High\n    expr: load > 10\n    for: 6m\n    labels: {foo: bar}\n    annotations: {summary: 'it is {{$value}} {{.Value}}'}\n".to_owned(),
        series: vec![(
            input(&[]),
            vec![(3.0, 1), (5.0, 3), (9.0, 4), (11.0, 13), (15.0, 32), (19.0, 16), (9.0, 20), (15.0, 45), (8.0, 16)],
        )],
        lives: vec![Life {
            labels: labels(&[("alertname", "High"), ("foo", "bar")]),
            annotations: Box::new(|value, _| vec![("summary", format!("it is {value} {value}"))]),
            phases: vec![
                (8, Pending(11.0)),
                (21, Pending(15.0)),
                (32, Firing(15.0)),
                (53, Firing(19.0)),
                (69, Resolved),
                (89, Pending(15.0)),
                (113, Firing(15.0)),
                (134, Resolved),
            ],
        }],
        n_samples: 150,
    };
    for phase in PHASES_MS {
        case.run(phase);
    }
}

/// One that gives up before it fires, and one that never begins.
#[test]
fn pending_is_over_and_nothing_begins() {
    let values = vec![(3.0, 1), (5.0, 3), (9.0, 4), (11.0, 11), (9.0, 1)];
    let case = Case {
        rules: "  - {alert: Brief, expr: 'load{of=\"a\"} > 10', for: 3m, labels: {foo: bar}, annotations: {description: brief}}\n\
                \x20 - {alert: Never, expr: 'load{of=\"b\"} > 99', for: 3m}\n"
            .to_owned(),
        series: vec![(input(&[("of", "a")]), values.clone()), (input(&[("of", "b")]), values)],
        lives: vec![Life {
            labels: labels(&[("alertname", "Brief"), ("foo", "bar"), ("of", "a")]),
            annotations: always("brief"),
            phases: vec![(8, Pending(11.0)), (19, Absent)],
        }],
        n_samples: 60,
    };
    for phase in PHASES_MS {
        case.run(phase);
    }
}

/// No `for`, one that is shorter than the interval, and texts that use what templates can do.
#[test]
fn no_and_a_short_hold() {
    let values = vec![(3.0, 1), (5.0, 3), (9.0, 4), (15.0, 13), (9.0, 72), (11.0, 13), (9.0, 1)];
    let mut series: Vec<_> = ["a", "b"].map(|of| (input(&[("of", of)]), values.clone())).into();
    for (id, v) in [("101", 1.0), ("102", 2.0), ("103", 3.0)] {
        let labels = labels(&[("__name__", "other"), ("id", id)]);
        series.push((labels, vec![(v, 28), (2.0 * v, 201)]));
    }
    let asked = |t: i64| {
        let factor = if t < 28 * SAMPLES_EVERY { 1 } else { 2 };
        format!("Given: x y 7. first:101,101:{factor},102:{},103:{},", 2 * factor, 3 * factor)
    };
    let case = Case {
        rules: r#"  - alert: AtOnce
    expr: load{of="a"} > 10
    annotations:
      numbers: '{{humanize 1048576}} {{humanize1024 1048576}} {{humanizeDuration 135.3563}} {{humanizePercentage 0.959}} {{humanizeTimestamp 1643114203}}'
      asked: '{{ define "t" }}Given: {{.arg0}} {{.arg1}} {{.arg2}}. {{ with query "other" }}first:{{ . | sortByLabel "id" | first | label "id" }},{{ range $v := sortByLabel "id" . }}{{ . | label "id" }}:{{ . | value }},{{ end }}{{ end }}{{ end }}{{ template "t" (args "x" "y" 7) }}'
  - alert: Soon
    expr: load{of="b"} > 13
    for: 15s
    labels: {kind: soon}
    annotations:
      words: '{{title "one two"}} {{toUpper "up"}} {{toLower "DOWN"}}. {{stripPort "[::1]:6006"}} {{stripPort "127.0.0.1:4004"}}. {{parseDuration "2h10m15s"}}. {{if match "[0-9]+" "1234"}}{{reReplaceAll "r.*d" "new" "rpld text"}}{{end}}. {{if match "[0-9]+$" "1234a"}}WRONG{{end}}.'
"#
        .to_owned(),
        series,
        lives: vec![
            Life {
                labels: labels(&[("alertname", "AtOnce"), ("of", "a")]),
                annotations: Box::new(move |_, t| {
                    vec![
                        ("numbers", "1.049M 1Mi 2m 15s 95.9% 2022-01-25 12:36:43 +0000 UTC".to_owned()),
                        ("asked", asked(t)),
                    ]
                }),
                phases: vec![(8, Firing(15.0)), (21, Resolved), (93, Firing(11.0)), (106, Resolved)],
            },
            Life {
                labels: labels(&[("alertname", "Soon"), ("kind", "soon"), ("of", "b")]),
                annotations: Box::new(|_, _| {
                    vec![("words", "One Two UP down. ::1 127.0.0.1. 7815. new text. .".to_owned())]
                }),
                phases: vec![(8, Pending(15.0)), (10, Firing(15.0)), (21, Resolved)],
            },
        ],
        n_samples: 127,
    };
    for phase in PHASES_MS {
        case.run(phase);
    }
}

/// An alert joins another of its rule, and the next rule reads what this one wrote at the same time.
#[test]
fn new_alerts_and_the_order_of_rules() {
    let case = Case {
        rules: r#"  - alert: First
    expr: load > 10
    for: 3m
    labels: {foo: bar}
    annotations: {description: more to come}
  - alert: Second
    expr: (ALERTS{alertstate="firing", alertname="First", foo="bar", variant="one"} + ignoring(variant) ALERTS{alertstate="firing", alertname="First", foo="bar", variant="two"}) == 2
    labels: {foo: baz, ba: dum}
    annotations: {description: 'was {{$labels.alertname}}, foo {{.Labels.foo}}'}
"#
        .to_owned(),
        series: vec![
            (input(&[("variant", "one")]), vec![(1.0, 8), (11.0, 65), (9.0, 21)]),
            (input(&[("variant", "two")]), vec![(1.0, 32), (11.0, 33), (9.0, 21)]),
        ],
        lives: vec![
            Life {
                labels: labels(&[("alertname", "First"), ("foo", "bar"), ("variant", "one")]),
                annotations: always("more to come"),
                phases: vec![(8, Pending(11.0)), (20, Firing(11.0)), (73, Resolved)],
            },
            Life {
                labels: labels(&[("alertname", "First"), ("foo", "bar"), ("variant", "two")]),
                annotations: always("more to come"),
                phases: vec![(32, Pending(11.0)), (44, Firing(11.0)), (65, Resolved)],
            },
            Life {
                labels: labels(&[("alertname", "Second"), ("alertstate", "firing"), ("ba", "dum"), ("foo", "baz")]),
                annotations: always("was First, foo bar"),
                phases: vec![(44, Firing(2.0)), (65, Resolved)],
            },
        ],
        n_samples: 94,
    };
    for phase in PHASES_MS {
        case.run(phase);
    }
}

/// The checks notice what is wrong: what a good server tells, changed in one place.
#[test]
fn what_is_wrong_is_noticed() {
    let life = Life {
        labels: labels(&[("alertname", "A")]),
        annotations: always("x"),
        phases: vec![(8, Pending(1.0)), (10, Firing(1.0)), (20, Resolved)],
    };
    let alert = |at: i64, ends_at: i64| {
        let time = |seconds: i64| ZERO + seconds * 1000;
        let alert = Alert {
            labels: life.labels.clone(),
            annotations: BTreeMap::from([("description".to_owned(), "x".to_owned())]),
            starts_at: time(157),
            ends_at: time(ends_at),
            generator_url: "http://here:9090/graph?g0.expr=x".to_owned(),
        };
        (at as f64, alert)
    };
    let resolved: Vec<_> = (0..10).map(|i| alert(307 + 90 * i, 307)).collect();
    let good: Vec<_> = [alert(157, 397), alert(247, 487)].into_iter().chain(resolved).collect();
    let is_good = |told: &[(f64, Alert)]| {
        let check = std::panic::AssertUnwindSafe(|| life.check_told(told, 1500));
        std::panic::catch_unwind(check).is_ok()
    };
    assert!(is_good(&good));
    for i in 0..good.len() {
        let mut told = good.clone();
        told.remove(i);
        assert!(!is_good(&told), "without {i}");
        let mut told = good.clone();
        told.insert(i + 1, (told[i].0 + 30.0, told[i].1.clone()));
        assert!(!is_good(&told), "{i} twice");
        let mut told = good.clone();
        told[i].1.ends_at += 40_000;
        assert!(!is_good(&told), "endsAt of {i}");
        let mut told = good.clone();
        told[i].1.starts_at -= 40_000;
        assert!(!is_good(&told), "startsAt of {i}");
        let mut told = good.clone();
        told[i].1.annotations.clear();
        assert!(!is_good(&told), "annotations of {i}");
    }
    let mut told = good.clone();
    told.push(alert(307 + 900, 307));
    assert!(is_good(&told), "at the end of the quarter of an hour");
    told.push(alert(307 + 990, 307));
    assert!(!is_good(&told), "after it");
}
