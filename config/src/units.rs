//! Durations and sizes as users write them and as they are printed back.
//!
//! Compat: prometheus/common `model`, `ParseDuration`; alecthomas/units `Base2Bytes`.

use std::fmt::Write as _;
use std::time::Duration;

use model::quote::go_quote;

use crate::yaml::{Decode, Decoded, Decoder, Issue, Node};

/// Unit and its length in ms, in the order in which they may be written.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// What Go's signed nanoseconds can hold: 292 years.
const DURATION_MS_MAX: u64 = i64::MAX.unsigned_abs() / 1_000_000;

/// Reads `1d12h`: whole numbers with units in descending order, each at most once, or a bare `0`.
///
/// # Errors
/// The text is empty, not of that form or too long a time; the message is upstream's.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("not a valid duration string: {}", go_quote(text.as_bytes()));
    match text {
        "" => return Err("empty duration string".to_owned()),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let mut ms: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(unit);
        let (_, length) = units.find(|(name, _)| *name == unit).filter(|_| digits > 0).ok_or_else(invalid)?;
        let span = number.parse().ok().and_then(|n: u64| n.checked_mul(*length));
        ms = span.and_then(|span| ms.checked_add(span)).ok_or("duration out of range")?;
        rest = tail;
    }
    if ms > DURATION_MS_MAX {
        return Err("duration out of range".to_owned());
    }
    Ok(Duration::from_millis(ms))
}

/// Prints with the largest units; years and weeks only where nothing remains, since `90d` reads better than
/// `12w6d`.
pub fn format_duration(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, length) in UNITS {
        let only_exact = matches!(unit, "y" | "w");
        if ms >= length && (!only_exact || ms.is_multiple_of(length)) {
            let _ = write!(out, "{}{unit}", ms / length);
            ms %= length;
        }
    }
    out
}

impl Decode for Duration {
    const GO_TYPE: &'static str = "string";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        if node.is_null() {
            return Ok(Some(Self::ZERO));
        }
        let Some(text) = String::decode(decoder, node)? else { return Ok(None) };
        parse_duration(&text).map(Some).map_err(|text| Issue::new(node.pos, text))
    }
}

const PREFIXES: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

/// A number of bytes with a base-2 unit: `15MB` is 15 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Size(pub(crate) i64);

impl Size {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("units: invalid {text}");
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0.0;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            let value: f64 = number.parse().map_err(|_| invalid())?;
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let power = PREFIXES.iter().position(|prefix| {
                let body = unit.strip_prefix(prefix).unwrap_or("-");
                body == "B" || (body == "iB" && !prefix.is_empty())
            });
            let power = power.ok_or_else(|| format!("units: unknown unit {unit} in {text}"))?;
            total += value * 1024_f64.powi(i32::try_from(power).expect("there are seven prefixes"));
            rest = tail;
        }
        if total >= 9.2e18 {
            return Err(invalid());
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the range was checked; upstream cuts fractions too"
        )]
        let bytes = total as i64;
        Ok(Self(if negative { -bytes } else { bytes }))
    }

    /// As a limit, where nothing below zero has a meaning.
    pub(crate) fn limit(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }
}

/// Reads a number of bytes with its unit, which may be no less than zero.
///
/// # Errors
/// The text is not of that form; the message is upstream's.
pub fn parse_size(text: &str) -> Result<u64, String> {
    Size::parse(text).map(Size::limit)
}

/// `15MiB`, with every unit that is needed to be exact.
pub fn format_size(bytes: u64) -> String {
    let mut parts = Vec::new();
    let mut n = bytes;
    for (i, prefix) in PREFIXES.iter().enumerate() {
        if !n.is_multiple_of(1024) || (i == 0 && n == 0) {
            parts.push(format!("{}{prefix}{}", n % 1024, if i == 0 { "B" } else { "iB" }));
        }
        n /= 1024;
    }
    parts.reverse();
    parts.concat()
}

impl Decode for Size {
    const GO_TYPE: &'static str = "units.Base2Bytes";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        if node.is_null() {
            return Ok(Some(Self(0)));
        }
        match node.text() {
            Some(text) => Self::parse(text).map(Some).map_err(|text| Issue::new(node.pos, text)),
            None => decoder.mismatch(node, Self::GO_TYPE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Size, format_duration, format_size, parse_duration};

    #[test]
    fn durations() {
        for (text, printed) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("324ms", "324ms"),
            ("90d", "90d"),
            ("14d", "2w"),
            ("12w6d", "90d"),
            ("365d", "1y"),
            ("4d1h0m", "4d1h"),
            ("1y2w3d4h5m6s7ms", "382d4h5m6s7ms"),
            ("60m", "1h"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), printed, "{text}");
        }
        for text in ["1", "1y1m1d", "-1w", "1.5d", "d", "1s1s", "294y", "200y10400w", "5 m", "1d-1h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("1x").unwrap_err(), "not a valid duration string: \"1x\"");
        assert_eq!(parse_duration("294y").unwrap_err(), "duration out of range");
        assert_eq!(parse_duration("").unwrap_err(), "empty duration string");
    }

    #[test]
    fn sizes() {
        for (text, printed) in
            [("15MB", "15MiB"), ("1KB", "1KiB"), ("1.5KiB", "1KiB512B"), ("0", "0B"), ("3B", "3B")]
        {
            assert_eq!(format_size(Size::parse(text).unwrap().limit()), printed, "{text}");
        }
        assert_eq!(Size::parse("100").unwrap_err(), "units: unknown unit  in 100");
        assert_eq!(Size::parse("").unwrap_err(), "units: invalid ");
        assert_eq!(Size::parse("-1KB").unwrap(), Size(-1024));
    }
}
