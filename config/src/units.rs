//! Sizes as users write them and as they are printed back; durations, which `model` reads, from YAML.
//!
//! Compat: alecthomas/units `Base2Bytes`.

use std::time::Duration;

use crate::yaml::{Decode, Decoded, Decoder, Issue, Node};

impl Decode for Duration {
    const GO_TYPE: &'static str = "string";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        if node.is_null() {
            return Ok(Some(Self::ZERO));
        }
        let Some(text) = String::decode(decoder, node)? else { return Ok(None) };
        model::duration::parse(&text).map(Some).map_err(|e| Issue::new(node.pos, e.to_string()))
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
    use super::{Size, format_size};

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
