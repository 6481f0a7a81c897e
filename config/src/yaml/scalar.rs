//! The types of plain scalars: booleans of YAML 1.1, numbers with bases and underscores, null.
//!
//! Compat: go.yaml.in/yaml/v2 `resolve`; v3 differs in the words it takes for booleans.

use super::tree::Scalar;

/// What a scalar is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond `i64`.
    Uint(u64),
    Float(f64),
    /// Its text is its value; `!!binary` is decoded by whoever asks for bytes.
    Text,
    Merge,
}

impl Value {
    /// The short tag, as error texts name it.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) | Self::Uint(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text => "!!str",
            Self::Merge => "!!merge",
        }
    }
}

/// What is wrong with a written tag: its scalar is something else.
pub(crate) fn tag_conflict(scalar: &Scalar) -> Option<String> {
    let asked = scalar.tag.as_deref()?;
    if !matches!(asked, "!!bool" | "!!int" | "!!float" | "!!null" | "!!timestamp") {
        return None;
    }
    let value = resolve_text(&scalar.text);
    let is = match value {
        Value::Text if asked == "!!timestamp" && looks_like_time(&scalar.text) => return None,
        value => value.tag(),
    };
    let widens = asked == "!!float" && matches!(value, Value::Int(_));
    (is != asked && !widens).then(|| format!("cannot decode {is} `{}` as a {asked}", scalar.text))
}

/// The tag that error texts give to a scalar without one.
pub(crate) fn implied_tag(scalar: &Scalar) -> &'static str {
    match resolve(scalar) {
        Value::Text if scalar.plain && looks_like_time(&scalar.text) => "!!timestamp",
        value => value.tag(),
    }
}

/// `2006-01-02`, alone or with a time of day behind it.
pub(crate) fn looks_like_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits != 4 || bytes.get(4) != Some(&b'-') {
        return false;
    }
    let mut parts = text.splitn(3, '-').skip(1);
    let (Some(month), Some(rest)) = (parts.next(), parts.next()) else { return false };
    let day: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let tail = &rest[day.len()..];
    let in_range = |text: &str, max: u32| {
        (1..=2).contains(&text.len()) && text.parse().is_ok_and(|v: u32| (1..=max).contains(&v))
    };
    let is_clock = |tail: &str| {
        tail.starts_with(['T', 't', ' '])
            && tail.matches(':').count() >= 2
            && tail[1..].starts_with(|c: char| c.is_ascii_digit())
    };
    in_range(month, 12) && in_range(&day, 31) && (tail.is_empty() || is_clock(tail))
}

pub(crate) fn resolve(scalar: &Scalar) -> Value {
    match scalar.tag.as_deref() {
        Some("!!str" | "!!binary" | "!") => Value::Text,
        None if !scalar.plain => Value::Text,
        _ => resolve_text(&scalar.text),
    }
}

/// The type that `text` has when written plainly.
pub(crate) fn resolve_text(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        "<<" => return Value::Merge,
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => parse_float(text).map_or(Value::Text, Value::Float),
        b'0'..=b'9' | b'+' | b'-' => number(&text.replace('_', "")),
        _ => Value::Text,
    }
}

fn number(text: &str) -> Value {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if let Some(magnitude) = integer(digits) {
        return match (i64::try_from(magnitude), negative) {
            (Ok(v), false) => Value::Int(v),
            (Ok(v), true) => Value::Int(-v),
            (Err(_), true) if magnitude == 1 << 63 => Value::Int(i64::MIN),
            (Err(_), true) => Value::Float(-(magnitude as f64)),
            // Go reads an unsigned number without its sign only.
            (Err(_), false) if text.starts_with('+') => Value::Float(magnitude as f64),
            (Err(_), false) => Value::Uint(magnitude),
        };
    }
    parse_float(text).map_or(Value::Text, Value::Float)
}

/// The digits of an integer in the base that their prefix names.
fn integer(digits: &str) -> Option<u64> {
    let (base, body) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if body.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(body, base).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, which is narrower than Rust's own grammar;
/// a number too large for a double is a text.
fn parse_float(text: &str) -> Option<f64> {
    let is_float = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && text.bytes().any(|b| b.is_ascii_digit());
    if is_float { text.parse().ok().filter(|v: &f64| v.is_finite()) } else { None }
}

/// Whether `text` looks like a number of base 60, which older readers take for a float.
pub(crate) fn is_base_60(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let Some((head, rest)) = body.split_once(':') else { return false };
    if head.is_empty()
        || !head.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        || !head.as_bytes()[0].is_ascii_digit()
    {
        return false;
    }
    let (sixties, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let is_sixty = |part: &str| {
        let digits = part.as_bytes();
        match digits.len() {
            1 => digits[0].is_ascii_digit(),
            2 => (b'0'..=b'5').contains(&digits[0]) && digits[1].is_ascii_digit(),
            _ => false,
        }
    };
    sixties.split(':').all(is_sixty) && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}
