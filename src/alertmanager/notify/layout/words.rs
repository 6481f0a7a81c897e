//! Times, spans and foreign texts as people read them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::unit;

/// The longest link that is followed.
const URL_BYTES_MAX: usize = 2_000;

/// The zone of that name; UTC where there is none.
pub(super) fn zone(name: &str) -> TimeZone {
    if name.is_empty() { TimeZone::UTC } else { TimeZone::get(name).unwrap_or(TimeZone::UTC) }
}

/// The clock of the readers.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) now: Timestamp,
    pub(super) zone: TimeZone,
}

impl Clock {
    /// `10:42`, with the day where that is another one.
    pub(super) fn short(&self, t: Timestamp) -> String {
        let (at, now) = (t.to_zoned(self.zone.clone()), self.now.to_zoned(self.zone.clone()));
        let format = if at.date() == now.date() {
            "%H:%M"
        } else if at.year() == now.year() {
            "%-d %b %H:%M"
        } else {
            "%-d %b %Y %H:%M"
        };
        at.strftime(format).to_string()
    }

    /// `Mon 3 Aug 2026 10:42:05 CEST`.
    pub(super) fn long(&self, t: Timestamp) -> String {
        t.to_zoned(self.zone.clone()).strftime("%a %-d %b %Y %H:%M:%S %Z").to_string()
    }

    /// `Mon 3 Aug, 08:42 UTC`; without the hour where the zone is UTC.
    pub(super) fn day(&self, t: Timestamp) -> String {
        let at = t.to_zoned(self.zone.clone());
        let day = at.strftime("%a %-d %b %Y").to_string();
        if at.offset().is_zero() {
            return format!("{day}, UTC");
        }
        format!("{day}, {} UTC", t.to_zoned(TimeZone::UTC).strftime("%H:%M"))
    }

    /// How long it is from `t` to now.
    pub(super) fn ago(&self, t: Timestamp) -> String {
        span(t, self.now)
    }

    /// Tomorrow at eight in the morning.
    pub(super) fn tomorrow(&self) -> Option<Timestamp> {
        let day = self.now.to_zoned(self.zone.clone()).date().tomorrow().ok()?;
        let at = day.at(8, 0, 0, 0).to_zoned(self.zone.clone()).ok()?;
        Some(at.timestamp())
    }
}

pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    unit::span(to.duration_since(from).as_secs_f64())
}

/// `3 alerts`, `1 alert`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The notification's reason for people who never read the manual.
pub(super) fn reason(reason: &str) -> &str {
    match reason {
        "first notification" => "this is the first mail about it",
        "new alerts added" | "new alerts in group" => "more alerts have joined the group",
        "all alerts resolved" => "all alerts of the group are over",
        "some alerts resolved" | "new resolved alerts" => "some alerts of the group are over",
        "repeat interval elapsed" => "a reminder, nothing has changed",
        other => other,
    }
}

/// A foreign text on one line, without characters that act, cut to `max` characters.
pub(super) fn line(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(2 * max + 1).filter(|c| !acts(*c)) {
        match c.is_whitespace() || c.is_control() {
            true if out.ends_with(' ') => {}
            true => out.push(' '),
            false => out.push(c),
        }
    }
    cut(&mut out, max);
    out.trim().to_owned()
}

/// A foreign text that may have several lines.
pub(super) fn paragraph(text: &str, max: usize) -> String {
    let mut out: String = text
        .chars()
        .take(max + 1)
        .filter(|c| *c == '\n' || *c == '\t' || !c.is_control())
        .map(|c| if c == '\t' || c == '\u{2028}' || c == '\u{2029}' { ' ' } else { c })
        .collect();
    out.retain(|c| !acts(c));
    cut(&mut out, max);
    out.trim().to_owned()
}

/// Characters that change the order of what is around them, so that a text shows what it does not say.
const fn acts(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
}

fn cut(text: &mut String, max: usize) {
    if let Some((end, _)) = text.char_indices().nth(max) {
        text.truncate(end);
        text.push('…');
    }
}

/// A link that may be followed: HTTP, and nothing that hides where it leads.
pub(super) fn link(text: &str) -> Option<String> {
    let text = text.trim();
    if text.len() > URL_BYTES_MAX || text.chars().any(|c| c.is_control() || acts(c)) {
        return None;
    }
    let url = url::Url::parse(text).ok()?;
    let is_plain =
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    is_plain.then(|| url.to_string())
}

/// `a=x b=y`.
pub(super) fn pairs(labels: &BTreeMap<String, String>, skip: impl Fn(&str) -> bool) -> String {
    let shown = labels.iter().filter(|(name, _)| !skip(name)).map(|(name, value)| format!("{name}={value}"));
    shown.collect::<Vec<_>>().join(" ")
}
