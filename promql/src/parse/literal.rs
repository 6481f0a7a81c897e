//! The values of literals: numbers in Go's integer and float syntax, quoted strings.
//!
//! The scanner has judged their shape; what is refused here is what only the value shows.
//!
//! Compat: Go `strconv.ParseInt` with base 0 and `strconv.ParseFloat`; prometheus `util/strutil`, `Unquote`.

use std::borrow::Cow;

use model::number::parse_go_float;

/// The value of a number token: an integer with Go's prefixes (so a leading `0` means octal), else a float.
pub(super) fn number(text: &str) -> Result<f64, String> {
    if let Some(value) = integer(text) {
        return Ok(value as f64);
    }
    parse_go_float(text.as_bytes()).map_err(|error| error.message(text.as_bytes()))
}

/// `0x1F`, `0755`, `1_000`: base by prefix, single underscores between digits.
fn integer(text: &str) -> Option<i64> {
    let is_hex = text.len() > 2 && matches!(text.as_bytes()[..2], [b'0', b'x' | b'X']);
    let (base, digits) = match text.strip_prefix('0') {
        Some(rest) if is_hex => (16, &rest[1..]),
        Some(rest) if !rest.is_empty() => (8, rest),
        _ => (10, text),
    };
    // A prefix counts as a digit for the underscore behind it.
    let digits = if base == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    if !digits.bytes().all(|b| b == b'_' || char::from(b).is_digit(base)) {
        return None;
    }
    i64::from_str_radix(&digits.replace('_', ""), base).ok()
}

/// The bytes of a quoted string; `None` if it is no valid literal, which the scanner should have seen.
/// Only those with escapes are copied.
pub(super) fn unquote(text: &str) -> Option<Cow<'_, [u8]>> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let inner = text[1..].strip_suffix(quote)?;
    if quote == '`' {
        return (!inner.contains('`')).then_some(Cow::Borrowed(inner.as_bytes()));
    }
    let ends = |b: &u8| matches!(b, b'\\' | b'\n') || char::from(*b) == quote;
    if !inner.as_bytes().iter().any(ends) {
        return Some(Cow::Borrowed(inner.as_bytes()));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.bytes().position(|b| ends(&b)) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = escaped(rest[at..].strip_prefix('\\')?, quote, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Some(Cow::Owned(out))
}

/// Appends what the escape sequence at the start of `text` stands for and returns what follows it.
fn escaped<'a>(text: &'a str, quote: char, out: &mut Vec<u8>) -> Option<&'a str> {
    let c = text.chars().next()?;
    let simple = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '0'..='7' => {
            out.push(u8::try_from(u32::from_str_radix(text.get(..3)?, 8).ok()?).ok()?);
            return text.get(3..);
        }
        'x' => {
            out.push(u8::from_str_radix(text.get(1..3)?, 16).ok()?);
            return text.get(3..);
        }
        'u' | 'U' => {
            let end = if c == 'u' { 5 } else { 9 };
            let code = char::from_u32(u32::from_str_radix(text.get(1..end)?, 16).ok()?)?;
            out.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
            return text.get(end..);
        }
        // ASCII, as quotes are.
        c if c == quote => quote as u8,
        _ => return None,
    };
    out.push(simple);
    text.get(1..)
}

#[cfg(test)]
mod tests {
    use super::{number, unquote};

    #[test]
    fn numbers_as_go_reads_them() {
        for (text, value) in [
            ("010", 8.0),
            ("0755", 493.0),
            ("08", 8.0),
            ("09.5", 9.5),
            ("0x1F", 31.0),
            ("0X_1f", 31.0),
            ("1_000", 1000.0),
            ("0_7", 7.0),
            ("1_23.50_0_0e+1_2", 123.5e12),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
            ("5.", 5.0),
            (".5", 0.5),
            ("iNf", f64::INFINITY),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert!(number("NaN").is_ok_and(f64::is_nan));
        assert_eq!(number("0x").unwrap_err(), r#"strconv.ParseFloat: parsing "0x": invalid syntax"#);
        assert_eq!(
            number("1e999").unwrap_err(),
            r#"strconv.ParseFloat: parsing "1e999": value out of range"#
        );
        assert!(number("0xffffffffffffffff").is_err());
    }

    #[test]
    fn strings_keep_bytes_that_are_not_utf8() {
        assert_eq!(unquote(r#""a\"\n\xc5\377\u00e9""#).unwrap().as_ref(), b"a\"\n\xc5\xff\xc3\xa9");
        assert_eq!(unquote(r#"'\"'"#), None);
        assert_eq!(unquote("`\\n`").unwrap().as_ref(), b"\\n");
    }
}
