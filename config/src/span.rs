//! Spans of time as Go's library writes them, exact to the nanosecond: `1h2m3.5s`, `-250ms`.
//!
//! Compat: Go `time.ParseDuration`.

use model::quote::go_quote;

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The nanoseconds, or Go's complaint.
///
/// # Errors
/// The text is no span, or too long a one.
pub fn parse(text: &str) -> Result<i64, String> {
    let quoted = || go_quote(text.as_bytes());
    let invalid = || format!("time: invalid duration {}", quoted());
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => digits(tail),
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted()));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", go_quote(unit.as_bytes()), quoted()));
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        // More digits than this say nothing about nanoseconds.
        let fraction = &fraction[..fraction.len().min(18)];
        let scale = 10_i128.pow(u32::try_from(fraction.len()).expect("at most 18"));
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
        total = whole
            .checked_mul(*nanos)
            .and_then(|whole| total.checked_add(whole))
            .and_then(|total| total.checked_add(part * nanos / scale))
            .filter(|total| *total <= i128::from(i64::MAX) + i128::from(is_negative))
            .ok_or_else(invalid)?;
        rest = tail;
    }
    i64::try_from(if is_negative { -total } else { total }).map_err(|_| invalid())
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_as_go() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("1h2m3.5s", 3_723_500_000_000),
            ("-250ms", -250_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3us4ns", 3_004),
            ("+5µs", 5_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
        for (text, complaint) in [
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            (".s", "time: invalid duration \".s\""),
            ("-", "time: invalid duration \"-\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            (
                "99999999999999999999999999999999999999999h",
                "time: invalid duration \"99999999999999999999999999999999999999999h\"",
            ),
        ] {
            assert_eq!(parse(text), Err(complaint.to_owned()), "{text}");
        }
    }
}
