//! Time: the clock that everything here is given, and times as JSON writes them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serializer};

/// The source of the current time.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// `t` plus `span`, at most the last representable time.
pub fn after(t: Timestamp, span: Duration) -> Timestamp {
    signed(span).and_then(|span| t.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

/// `t` minus `span`, at least the first representable time.
pub fn before(t: Timestamp, span: Duration) -> Timestamp {
    signed(span).and_then(|span| t.checked_sub(span).ok()).unwrap_or(Timestamp::MIN)
}

fn signed(span: Duration) -> Option<SignedDuration> {
    SignedDuration::try_from(span).ok()
}

/// How long from `now` until `t`; zero when it has passed.
pub fn until(t: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(t.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A time or nothing; Go's zero time is nothing.
pub(super) fn optional<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    let t: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    Ok((!is_zero(t)).then_some(t))
}

/// Whether it is Go's zero time.
pub(super) fn is_zero(t: Timestamp) -> bool {
    t.as_second() == ZERO_SECOND && t.subsec_nanosecond() == 0
}

const ZERO_SECOND: i64 = -62_135_596_800;

pub(super) fn required<'de, D: Deserializer<'de>>(input: D) -> Result<Timestamp, D::Error> {
    String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
}

/// Milliseconds, as API v2 writes times.
pub(super) fn millis<S: Serializer>(t: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&millis_text(*t))
}

pub(super) fn millis_text(t: Timestamp) -> String {
    format!("{t:.3}")
}

/// As many digits as needed, as Go's `time.Time` marshals.
pub(super) fn nanos<S: Serializer>(t: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&t.to_string())
}
