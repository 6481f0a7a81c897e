//! Durations as users of Prometheus write them: `1h30m`, `15s`, `0`.
//!
//! Whole numbers of `y w d h m s ms`, each unit at most once and from large to small. A year has 365 days.
//! They count in milliseconds, since nothing finer can be written.
//!
//! Compat: prometheus/common `model`, `ParseDuration` and `Duration.String`.

use std::fmt;
use std::time::Duration;

use crate::quote::go_quote;

/// The units with their lengths in ms, from large to small.
const UNITS: [(&[u8], u64); 7] = [
    (b"y", 365 * 24 * 3_600_000),
    (b"w", 7 * 24 * 3_600_000),
    (b"d", 24 * 3_600_000),
    (b"h", 3_600_000),
    (b"m", 60_000),
    (b"s", 1000),
    (b"ms", 1),
];

/// The longest duration in ms: upstream counts nanoseconds in 64 bits.
const MAX_MS: u64 = i64::MAX as u64 / 1_000_000;

/// Why a text is no duration; displays upstream's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {}", go_quote(.0.as_bytes()))]
    Invalid(String),
    #[error("unknown unit {} in duration {}", go_quote(.unit.as_bytes()), go_quote(.text.as_bytes()))]
    UnknownUnit { unit: String, text: String },
    #[error("duration out of range")]
    OutOfRange,
}

/// Reads a duration in ms; never negative.
///
/// # Errors
/// The text is no duration, or one of more than about 292 years.
///
/// Compat: prometheus/common `model`, `ParseDuration`.
pub fn parse_ms(text: &str) -> Result<i64, ParseError> {
    match text {
        "0" => return Ok(0),
        "" => return Err(ParseError::Empty),
        _ => {}
    }
    let invalid = || ParseError::Invalid(text.to_owned());
    let (mut total, mut units, mut rest) = (0_u64, &UNITS[..], text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = &rest[..rest.bytes().take_while(|b| !b.is_ascii_digit()).count()];
        rest = &rest[unit.len()..];
        if unit.is_empty() {
            return Err(invalid());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit.as_bytes()) {
            return Err(ParseError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() });
        }
        // Only units smaller than the last one may follow.
        let at = units.iter().position(|(name, _)| *name == unit.as_bytes()).ok_or_else(invalid)?;
        let ms = count.checked_mul(units[at].1).filter(|&ms| ms <= MAX_MS).ok_or(ParseError::OutOfRange)?;
        units = &units[at + 1..];
        total += ms;
        if total > MAX_MS {
            return Err(ParseError::OutOfRange);
        }
    }
    i64::try_from(total).map_err(|_| ParseError::OutOfRange)
}

/// Reads a duration; as [`parse_ms`].
///
/// # Errors
/// As [`parse_ms`].
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    parse_ms(text).map(|ms| Duration::from_millis(ms.unsigned_abs()))
}

/// Reads a duration in ms that may have a minus in front.
///
/// # Errors
/// As [`parse_ms`].
///
/// Compat: prometheus/common `model`, `ParseDurationAllowNegative`.
pub fn parse_signed_ms(text: &str) -> Result<i64, ParseError> {
    match text.strip_prefix('-') {
        Some(rest) => parse_ms(rest).map(|ms| -ms),
        None => parse_ms(text),
    }
}

/// Writes `ms` with the largest units; years and weeks only where nothing is left over, because `90d` is
/// easier to read than `12w6d`.
///
/// Compat: prometheus/common `model`, `Duration.String`.
pub fn format_ms(ms: i64) -> String {
    DisplayMs(ms).to_string()
}

/// As [`format_ms`]; what is below a millisecond is cut.
pub fn format(duration: Duration) -> String {
    format_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// A number of milliseconds that displays as [`format_ms`] writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisplayMs(pub i64);

impl fmt::Display for DisplayMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.0.unsigned_abs();
        for (i, (name, ms)) in UNITS.iter().enumerate() {
            let is_exact_only = i < 2;
            if rest >= *ms && (!is_exact_only || rest.is_multiple_of(*ms)) {
                write!(f, "{}{}", rest / ms, String::from_utf8_lossy(name))?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
