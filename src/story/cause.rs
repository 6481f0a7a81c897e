//! What a story amounts to at a moment: the state and its reason, and how far the messages got.
//!
//! Pure: entries in, sentences out. Whoever asks about an alert that never was active has to look into the
//! expression; nothing is known of it here.

use std::collections::BTreeMap;

use model::Timestamp;

use super::code::Code;
use super::event::{Entry, Event, State, Text, Track};
use super::tell;

/// So many ends within [`FLAPPING_MS`] are flapping.
const FLAPPING_MIN: usize = 3;
const FLAPPING_MS: i64 = 3_600_000;

/// A reason: a code and a sentence, and the times that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub code: Code,
    pub text: String,
    pub since: Option<Timestamp>,
    /// When that may change by itself.
    pub next: Option<Timestamp>,
}

impl Cause {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), since: None, next: None }
    }

    #[must_use]
    pub fn since(mut self, t: Timestamp) -> Self {
        self.since = Some(t);
        self
    }

    #[must_use]
    pub fn until(mut self, t: Timestamp) -> Self {
        self.next = (t != 0).then_some(t);
        self
    }
}

/// The newest entry of each track at `t`.
fn newest(entries: &[Entry], t: Timestamp) -> BTreeMap<u64, &Entry> {
    let mut of_track = std::collections::HashMap::new();
    for entry in entries.iter().filter(|entry| entry.first <= t) {
        of_track.insert(entry.event.track(), entry);
    }
    of_track.into_values().map(|entry| (entry.number, entry)).collect()
}

fn newest_of<'e>(entries: &'e [Entry], track: &Track, t: Timestamp) -> Option<&'e Entry> {
    entries.iter().rev().find(|entry| entry.first <= t && entry.event.track() == *track)
}

/// The state of a rule's alert at `t` and why; `None` if the story knows of no state. `rule` is the story of the rule.
pub fn state(alert: &[Entry], rule: &[Entry], t: Timestamp) -> Option<(State, Cause)> {
    let entry = newest_of(alert, &Track::State, t)?;
    let failing = failure(rule, t);
    let n_ends = alert
        .iter()
        .filter(|e| e.first <= t && e.first > t - FLAPPING_MS && matches!(e.event, Event::Ended { .. }));
    let n_ends = n_ends.count();
    let (state, mut cause) = match &entry.event {
        Event::Began { state: State::Firing, active_at, hold_ms, because, .. } => {
            (State::Firing, firing(alert, entry.first, *active_at, *hold_ms, *because, t))
        }
        Event::Began { state, .. } => (*state, pending(alert, rule, entry, t)),
        Event::Ended { why, .. } => {
            let text = format!("{} at {}", tell::text(&entry.event), tell::time(entry.first));
            (State::Inactive, Cause::new(why.code, text).since(entry.first))
        }
        _ => return None,
    };
    if let Some((since, error)) = failing
        && state != State::Inactive
    {
        let text = format!(
            "{} and stays as it was, because evaluating the rule has failed since {}: {error}",
            state.as_str(),
            tell::time(since)
        );
        cause = Cause::new(failure_code(&error), text).since(since);
    } else if n_ends >= FLAPPING_MIN && cause.code != Code::KeepFiringFor {
        let text = format!("flapping: it ended {n_ends} times within the hour; now {}", cause.text);
        cause = Cause { code: Code::Flapping, text, ..cause };
    }
    Some((state, cause))
}

/// The code of a rule's error.
pub fn failure_code(error: &str) -> Code {
    if error.starts_with("exceeded limit") { Code::LimitExceeded } else { Code::RuleError }
}

/// Since when the rule fails, if it does, and the error.
pub fn failure(rule: &[Entry], t: Timestamp) -> Option<(Timestamp, Text)> {
    match newest_of(rule, &Track::Rule, t)? {
        Entry { event: Event::Failed { error }, first, .. } => Some((*first, error.clone())),
        _ => None,
    }
}

fn firing(
    alert: &[Entry],
    since: Timestamp,
    active_at: Timestamp,
    hold_ms: i64,
    because: Code,
    t: Timestamp,
) -> Cause {
    let values = newest_of(alert, &Track::Values, t);
    if let Some(Entry { event: Event::Kept { until, why }, first, .. }) = values
        && *first >= since
    {
        let text = format!(
            "firing since {}: keep_firing_for holds it until {}, though since {} {}",
            tell::time(since),
            tell::time(*until),
            tell::time(*first),
            tell::finding(why)
        );
        return Cause::new(Code::KeepFiringFor, text).since(*first).until(*until);
    }
    let held = if hold_ms == 0 { String::new() } else { format!(" for at least {}", tell::span(hold_ms)) };
    let value = values.map_or_else(String::new, |entry| format!("; {}", tell::text(&entry.event)));
    let restored = if because == Code::Restored { ", restored after a restart" } else { "" };
    let text = format!(
        "firing since {}: the expression has been true{held}, since {}{restored}{value}",
        tell::time(since),
        tell::time(active_at)
    );
    let code = match because {
        Code::Restored => Code::Restored,
        _ if hold_ms == 0 => Code::ExpressionTrue,
        _ => Code::ForReached,
    };
    Cause::new(code, text).since(since)
}

fn pending(alert: &[Entry], rule: &[Entry], entry: &Entry, t: Timestamp) -> Cause {
    let Event::Began { active_at, hold_ms, because, detail, .. } = &entry.event else {
        return Cause::new(Code::Unknown, "");
    };
    let fires_at = active_at.saturating_add(*hold_ms);
    let left = fires_at.saturating_sub(t);
    let wait = format!(
        "pending since {}: the expression must be true for {}, it fires at {} (in {}) if it stays so",
        tell::time(*active_at),
        tell::span(*hold_ms),
        tell::time(fires_at),
        tell::span(left)
    );
    let (code, why) = match because {
        Code::ForReset => {
            let ends = alert.iter().rev().find(|e| {
                e.number < entry.number && matches!(e.event, Event::Ended { was: State::Pending, .. })
            });
            let why = ends.map_or_else(String::new, |ended| {
                format!(
                    "; `for` began anew because at {}: {}",
                    tell::time(ended.first),
                    tell::text(&ended.event)
                )
            });
            (Code::ForReset, why)
        }
        Code::LabelChurn => (
            Code::LabelChurn,
            format!("; `for` began anew because its labels changed: until then it was {detail}"),
        ),
        Code::Restarted => (Code::Restarted, format!("; the server restarted, before that it was {detail}")),
        Code::Restored => (Code::Restored, "; that it was active before the restart was restored".to_owned()),
        Code::ForChanged => {
            let reload = rule.iter().rev().find(|e| {
                e.first <= entry.first && matches!(e.event, Event::Reloaded { code: Code::RuleChanged, .. })
            });
            let what = reload.map_or_else(String::new, |e| format!(" ({})", tell::text(&e.event)));
            (Code::ForChanged, format!("; it fired until a reload raised `for`{what}"))
        }
        _ => (Code::ForNotReached, String::new()),
    };
    Cause::new(code, format!("{wait}{why}")).since(entry.first).until(fires_at)
}

/// The state of an alert that came from outside, by what the built-in Alertmanager received.
pub fn received_state(alert: &[Entry], t: Timestamp) -> Option<(State, Cause)> {
    let entry = newest_of(alert, &Track::Received, t)?;
    let Event::Received { ends_at, is_timeout, code, .. } = &entry.event else { return None };
    let is_over = *ends_at <= t;
    let cause = match code {
        Code::ClockSkew => Cause::new(
            Code::ClockSkew,
            format!("{}; it is {} here", tell::text(&entry.event), tell::time(entry.first)),
        ),
        _ if is_over && *is_timeout => Cause::new(
            Code::ResolveTimeout,
            format!(
                "resolved at {} by resolve_timeout: its sender gave no end and last told of it at {}",
                tell::time(*ends_at),
                tell::time(entry.last)
            ),
        )
        .since(*ends_at),
        _ if is_over => {
            Cause::new(Code::Resolved, format!("resolved at {} by its sender", tell::time(*ends_at)))
                .since(*ends_at)
        }
        _ => Cause::new(Code::ExpressionTrue, format!("firing: {}", tell::text(&entry.event)))
            .since(entry.first),
    };
    Some((if is_over { State::Inactive } else { State::Firing }, cause))
}

/// How far an alert got on one way: to an external Alertmanager, or to one integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The Alertmanager's URL, or `<receiver>/<integration>`, or the receiver.
    pub to: String,
    /// The group of the built-in Alertmanager; empty for external ones.
    pub group: String,
    pub cause: Cause,
    /// The identity of the last message that arrived.
    pub message: String,
}

/// All ways of the alert at `t`. `alert` holds the entries under every name that it goes by.
pub fn deliveries(alert: &[Entry], t: Timestamp) -> Vec<Delivery> {
    let newest = newest(alert, t);
    let mut found = Vec::new();
    for entry in newest.values().map(|entry| settled(alert, entry)) {
        match &entry.event {
            Event::Posted { to, code, .. } => found.push(Delivery {
                to: to.to_string(),
                group: String::new(),
                cause: Cause::new(
                    *code,
                    format!("{} at {}", tell::text(&entry.event), tell::time(entry.last)),
                )
                .since(entry.first),
                message: String::new(),
            }),
            Event::Grouped { group, receiver, due, code } => {
                let when = match code {
                    Code::GroupWait => "a new group waits for group_wait",
                    _ => "an alert that joins a group waits for its group_interval",
                };
                let text = format!("{when}: {} is flushed at {}", group, tell::time(*due));
                found.push(Delivery {
                    to: receiver.to_string(),
                    group: group.to_string(),
                    cause: Cause::new(*code, text).since(entry.first).until(*due),
                    message: String::new(),
                });
            }
            Event::Flushed { group, receiver, verdict, is_resolved, next }
                if verdict.code != Code::Passed =>
            {
                let is_over = verdict.until != 0 && verdict.until <= t;
                let (code, what) = match verdict.code {
                    Code::Silenced if is_over => (Code::SilenceExpired, "at the last flush it was still"),
                    code if *is_resolved => (code, "its end was"),
                    code => (code, "it was"),
                };
                let text = format!(
                    "{what} {} at {}; next flush at {}",
                    tell::verdict(verdict),
                    tell::time(entry.last.min(t)),
                    tell::time(*next)
                );
                found.push(Delivery {
                    to: receiver.to_string(),
                    group: group.to_string(),
                    cause: Cause::new(code, text).since(entry.first).until(*next),
                    message: String::new(),
                });
            }
            Event::Flushed { group, receiver, next, is_resolved, .. } => {
                let due = Flush { entry, group, receiver, next: *next, is_resolved: *is_resolved };
                found.extend(told(alert, &newest, &due, t));
            }
            _ => {}
        }
    }
    found
}

/// Instead of an alert's coming back into a group after its end was told, which only says once more that it ended,
/// the flush before it.
fn settled<'e>(alert: &'e [Entry], entry: &'e Entry) -> &'e Entry {
    let Event::Grouped { group, receiver, .. } = &entry.event else { return entry };
    let is_over = newest_of(alert, &Track::Received, entry.first)
        .is_some_and(|received| matches!(received.event, Event::Received { code: Code::Resolved, .. }));
    let before = alert.iter().rev().find(|e| {
        e.number < entry.number
            && matches!(&e.event, Event::Flushed { group: g, receiver: r, .. } if g == group && r == receiver)
    });
    before.filter(|_| is_over).unwrap_or(entry)
}

/// The last flush of a group that let the alert through.
struct Flush<'e> {
    entry: &'e Entry,
    group: &'e Text,
    receiver: &'e Text,
    next: Timestamp,
    is_resolved: bool,
}

fn told(alert: &[Entry], newest: &BTreeMap<u64, &Entry>, flush: &Flush<'_>, t: Timestamp) -> Vec<Delivery> {
    let of_group = newest.values().filter_map(|entry| match &entry.event {
        Event::Told { group, receiver, integration, telling }
            if group == flush.group && receiver == flush.receiver =>
        {
            Some((entry, integration, telling))
        }
        _ => None,
    });
    // What was said after an earlier flush says nothing of this one.
    let of_flush =
        of_group.filter(|(entry, ..)| entry.last >= flush.entry.last.min(t) || flush.entry.last > t);
    let mut found: Vec<_> = of_flush
        .map(|(entry, integration, telling)| {
            let sent = alert.iter().rev().find_map(|e| match &e.event {
                Event::Told { group, receiver, integration: i, telling }
                    if e.first <= t
                        && group == flush.group
                        && receiver == flush.receiver
                        && i == integration
                        && matches!(telling.code, Code::Delivered | Code::TemplateError) =>
                {
                    Some((e.last, telling.message.to_string()))
                }
                _ => None,
            });
            let mut text = format!("at {}: {}", tell::time(entry.last.min(t)), tell::telling(telling));
            let mut code = telling.code;
            if let (Code::AlreadyTold, Some((at, message))) = (telling.code, &sent) {
                let said = format!("{text}; last sent at {} {message}", tell::time(*at));
                said.trim_end().clone_into(&mut text);
                // An end is told once.
                code = if telling.next == 0 { Code::Delivered } else { code };
            }
            Delivery {
                to: format!("{}/{integration}", flush.receiver),
                group: flush.group.to_string(),
                cause: Cause::new(code, text).since(entry.first).until(telling.next),
                message: sent.map(|(_, message)| message).unwrap_or_default(),
            }
        })
        .collect();
    let ended = newest_of(alert, &Track::Received, t).filter(|e| {
        matches!(e.event, Event::Received { code: Code::Resolved, .. }) && e.first > flush.entry.last
    });
    if let Some(ended) = ended
        && !flush.is_resolved
    {
        let text = format!(
            "it ended at {}; that is told at the next flush of {} at {}",
            tell::time(ended.first),
            flush.group,
            tell::time(flush.next)
        );
        let cause = Cause::new(Code::GroupInterval, text).since(ended.first).until(flush.next);
        found.push(Delivery {
            to: flush.receiver.to_string(),
            group: flush.group.to_string(),
            cause,
            message: String::new(),
        });
    } else if found.is_empty() {
        let text = format!("{} is being told since {}", flush.receiver, tell::time(flush.entry.last.min(t)));
        found.push(Delivery {
            to: flush.receiver.to_string(),
            group: flush.group.to_string(),
            cause: Cause::new(Code::Sending, text).since(flush.entry.last),
            message: String::new(),
        });
    }
    found
}

/// What weighs more comes first: who asks where the mail is wants the trouble, not what went well.
const ORDER: [Code; 26] = [
    Code::RelabelledAway,
    Code::NoAlertmanager,
    Code::Refused,
    Code::ReceiverRefused,
    Code::ReceiverFailed,
    Code::Retrying,
    Code::PostFailed,
    Code::QueueOverflow,
    Code::TemplateError,
    Code::Inhibited,
    Code::Silenced,
    Code::MuteInterval,
    Code::ActiveInterval,
    Code::SilenceExpired,
    Code::NullReceiver,
    Code::SendResolvedFalse,
    Code::ResolvedUntold,
    Code::GroupWait,
    Code::GroupInterval,
    Code::Sending,
    Code::AlreadyTold,
    Code::Delivered,
    Code::Posted,
    Code::Queued,
    Code::ClockSkew,
    Code::NotSent,
];

/// Where the messages of an alert are at `t`, in one sentence.
pub fn notification(state: State, alert: &[Entry], deliveries: &[Delivery], t: Timestamp) -> Cause {
    if state == State::Pending {
        return Cause::new(Code::NotFiring, "nobody is told of an alert that is pending");
    }
    if let Some(entry) = newest_of(alert, &Track::Hand, t)
        && let Event::Stopped { code: code @ (Code::RelabelledAway | Code::NoAlertmanager), .. } =
            &entry.event
    {
        return Cause::new(*code, format!("{} at {}", tell::text(&entry.event), tell::time(entry.last)))
            .since(entry.first);
    }
    let rank = |code: Code| ORDER.iter().position(|known| *known == code).unwrap_or(ORDER.len());
    if let Some(first) = deliveries.iter().min_by_key(|delivery| rank(delivery.cause.code)) {
        let mut cause = first.cause.clone();
        cause.text = format!("{}: {}", first.to, cause.text);
        return cause;
    }
    if let Some(entry) = newest_of(alert, &Track::Received, t)
        && matches!(entry.event, Event::Received { code: Code::ClockSkew, .. })
    {
        return Cause::new(Code::ClockSkew, tell::text(&entry.event)).since(entry.first);
    }
    match state {
        State::Inactive => Cause::new(Code::NotFiring, "nobody is told of an alert that does not fire"),
        _ => Cause::new(Code::NotSent, "no Alertmanager has been handed the alert yet"),
    }
}
