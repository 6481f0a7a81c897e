//! Entries in words.

use std::time::Duration;

use model::Timestamp;

use super::code::Code;
use super::event::{Event, Finding, State, Telling, Verdict};

/// `2026-01-02T03:04:05Z`, with a fraction if there is one.
pub fn time(t: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(t).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// `1h30m`; what is negative is nothing.
pub fn span(ms: i64) -> String {
    model::duration::format(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

fn number(v: f64) -> String {
    model::number::format_g(v)
}

/// What kept an expression from giving an alert, as a clause without a full stop.
pub fn finding(finding: &Finding) -> String {
    let Finding { expr, labels, bound, .. } = finding;
    let about = if labels.is_empty() { String::new() } else { format!(" for {labels}") };
    let value = number(finding.value);
    let at = time(finding.at);
    match finding.code {
        Code::ThresholdNotCrossed => format!("`{expr}`{about} is {value}, which is not {bound}"),
        Code::NoSeries => format!("there is no series `{expr}`{about}"),
        Code::LookbackGap => {
            format!("the newest sample of `{expr}`{about} is of {at}, older than the lookback of {bound}")
        }
        Code::SeriesStale => {
            format!("the series `{expr}`{about} ended at {at}: its target or rule stopped giving it")
        }
        Code::TargetDown => {
            format!("the series `{expr}`{about} ended at {at} because scrapes of its target fail (`up` is 0)")
        }
        Code::NoJoinPartner => {
            format!(
                "nothing on the {bound} side of `{expr}` has the labels {labels}, which the other side has"
            )
        }
        Code::Excluded => {
            format!("the right side of `{expr}` has {labels} too, and `unless` takes that away")
        }
        Code::Present => format!("`{expr}` is there{about}, so nothing is absent"),
        Code::TooFewSamples => {
            format!("`{expr}`{about} has {value} samples in its range, too few for {bound}")
        }
        Code::LabelChurn => format!("its labels changed: now it is {labels}, which is another alert"),
        Code::OtherLabels => format!("`{expr}` is true, but not{about}"),
        Code::LimitExceeded | Code::RuleError | Code::RuleRemoved => expr.to_string(),
        Code::ExpressionTrue => format!("`{expr}`{about} is true"),
        _ => format!("`{expr}` gave nothing for it"),
    }
}

/// What a stage said, as a clause.
pub fn verdict(verdict: &Verdict) -> String {
    let Verdict { by, author, comment, until, .. } = verdict;
    match verdict.code {
        Code::Inhibited if comment.is_empty() => format!("inhibited by the alert {by}"),
        Code::Inhibited => format!("inhibited by the alert {by} (rule: {comment})"),
        Code::Silenced => {
            let until = if *until == 0 { String::new() } else { format!(" until {}", time(*until)) };
            format!("silenced by {by} of {author}{until}: {comment}")
        }
        Code::MuteInterval => format!("muted by the time interval {by}"),
        Code::ActiveInterval => format!("muted because none of the active time intervals is now: {by}"),
        _ => "let through".to_owned(),
    }
}

/// What became of a message, as a clause.
pub fn telling(told: &Telling) -> String {
    let Telling { reason, attempts, error, message, next, .. } = told;
    let tries = if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    let id = if message.is_empty() { String::new() } else { format!(", message {message}") };
    match told.code {
        Code::Delivered => format!("sent ({reason}, {tries}{id})"),
        Code::TemplateError if *next != 0 => format!("not sent: {error}"),
        Code::TemplateError => format!("sent ({reason}, {tries}{id}), but not as configured: {error}"),
        Code::AlreadyTold if *next == 0 => "not sent: it has been told already".to_owned(),
        Code::AlreadyTold => {
            format!("not sent: it has been told already and is repeated from {} on", time(*next))
        }
        Code::SendResolvedFalse => {
            "not sent: only ends were to be told, and send_resolved is false".to_owned()
        }
        Code::ResolvedUntold => "not sent: it ended before anybody was told that it fires".to_owned(),
        Code::NullReceiver => "not sent: the receiver has no integrations".to_owned(),
        Code::Sending => format!("being sent ({reason})"),
        Code::Retrying => format!("tried {tries} so far, will be tried again: {error}"),
        Code::ReceiverRefused => format!("refused for good after {tries}: {error}"),
        Code::ReceiverFailed => format!("given up after {tries} until the next flush: {error}"),
        code => code.as_str().to_owned(),
    }
}

/// The kind of an entry, as the API names it.
pub const fn kind(event: &Event) -> &'static str {
    match event {
        Event::Held { .. } => "value",
        Event::Kept { .. } => "kept",
        Event::Began { .. } | Event::Ended { .. } => "state",
        Event::Evaluated { .. } => "evaluation",
        Event::Failed { .. } => "error",
        Event::Reloaded { .. } => "reload",
        Event::KnownAs { .. } => "labels",
        Event::Stopped { .. } => "handover",
        Event::Posted { .. } => "alertmanager",
        Event::Received { .. } => "received",
        Event::Grouped { .. } => "group",
        Event::Flushed { .. } => "flush",
        Event::Told { .. } => "notification",
        Event::Server { .. } => "server",
    }
}

/// The code of an entry.
pub const fn code(event: &Event) -> Code {
    match event {
        Event::Held { .. } | Event::Evaluated { .. } => Code::ExpressionTrue,
        Event::Kept { .. } => Code::KeepFiringFor,
        Event::Began { because, .. } => *because,
        Event::Ended { why, .. } => why.code,
        Event::Failed { .. } => Code::RuleError,
        Event::KnownAs { .. } => Code::Queued,
        Event::Flushed { verdict, .. } => verdict.code,
        Event::Told { telling, .. } => telling.code,
        Event::Reloaded { code, .. }
        | Event::Stopped { code, .. }
        | Event::Posted { code, .. }
        | Event::Received { code, .. }
        | Event::Grouped { code, .. }
        | Event::Server { code, .. } => *code,
    }
}

/// The whole event as a sentence without a full stop.
pub fn text(event: &Event) -> String {
    match event {
        Event::Held { low, high, value } if low == high => {
            format!("the expression is true, value {}", number(*value))
        }
        Event::Held { low, high, value } => format!(
            "the expression is true, values {} to {}, the last {}",
            number(*low),
            number(*high),
            number(*value)
        ),
        Event::Kept { until, why } => {
            format!("keep_firing_for holds until {}, though {}", time(*until), finding(why))
        }
        Event::Began { state, active_at, hold_ms, value, because, detail } => {
            let value = number(*value);
            let why = match because {
                Code::ForReached => format!("`for` of {} reached", span(*hold_ms)),
                Code::ForReset => "the expression is true again, `for` begins anew".to_owned(),
                Code::LabelChurn => format!("its labels changed, before it was {detail}"),
                Code::Restarted => format!("the server restarted, before it was {detail}"),
                Code::Restored => format!("restored, active since {}", time(*active_at)),
                Code::ForChanged => format!("a reload raised `for` to {}", span(*hold_ms)),
                _ => "the expression became true".to_owned(),
            };
            format!("{}: {why}, value {value}", state.as_str())
        }
        Event::Ended { was: State::Pending, active_ms, hold_ms, why } => format!(
            "no longer pending after {} of the {} that `for` asks: {}",
            span(*active_ms),
            span(*hold_ms),
            finding(why)
        ),
        Event::Ended { active_ms, why, .. } => {
            format!("resolved after {}: {}", span(*active_ms), finding(why))
        }
        Event::Evaluated { low, high } if low == high => format!("evaluated, {low} alerts"),
        Event::Evaluated { low, high } => format!("evaluated, {low} to {high} alerts"),
        Event::Failed { error } => format!("evaluating the rule failed: {error}"),
        Event::Reloaded { what, .. } => what.to_string(),
        Event::KnownAs { labels } => format!("Alertmanagers know it as {labels}"),
        Event::Stopped { code: Code::RelabelledAway, by } => format!("dropped by {by}"),
        Event::Stopped { code: Code::NoAlertmanager, .. } => {
            "dropped: there is no Alertmanager to send it to".to_owned()
        }
        Event::Stopped { .. } => "handed to Alertmanagers again".to_owned(),
        Event::Posted { to, code: Code::Posted, .. } => format!("sent to {to}"),
        Event::Posted { to, code: Code::QueueOverflow, .. } => {
            format!("dropped: the queue for {to} was full")
        }
        Event::Posted { to, code: Code::RelabelledAway, .. } => {
            format!("dropped by the relabelling for {to}")
        }
        Event::Posted { to, error, .. } => format!("sending to {to} failed: {error}"),
        Event::Received { starts_at, ends_at, code: Code::ClockSkew, .. } => format!(
            "received with times that do not fit our clock: from {} to {}",
            time(*starts_at),
            time(*ends_at)
        ),
        Event::Received { ends_at, code: Code::Resolved, .. } => {
            format!("received as resolved since {}", time(*ends_at))
        }
        Event::Received { ends_at, is_timeout, .. } => {
            let how = if *is_timeout { "without an end, resolve_timeout ends it" } else { "good" };
            format!("received as firing, {how} until {}", time(*ends_at))
        }
        Event::Grouped { group, receiver, due, .. } => {
            format!("in group {group} of receiver {receiver}, next flush at {}", time(*due))
        }
        Event::Flushed { group, verdict: said, is_resolved, .. } => {
            let what = if *is_resolved { "as resolved" } else { "as firing" };
            format!("flush of group {group}, {what}: {}", verdict(said))
        }
        Event::Told { receiver, integration, telling: told, .. } => {
            format!("{receiver}/{integration}: {}", telling(told))
        }
        Event::Server { detail, .. } => detail.to_string(),
    }
}
