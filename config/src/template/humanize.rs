//! Numbers for people: SI and binary prefixes, durations, percentages.
//!
//! Compat: prometheus/common `helpers/templates`.

use super::format::float;
use super::parse::{hex_float, without_underscores};
use super::value::Value;

/// The number in a value, as the humanize family accepts it: numbers, durations (in seconds), text.
///
/// # Errors
/// The value is no number.
pub fn to_float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(v) => Ok(*v),
        Value::Int(v) => Ok(*v as f64),
        Value::Named(integer, v) if integer.name == "int64" => Ok(*v as f64),
        Value::Duration(nanos) => Ok(*nanos as f64 / 1e9),
        Value::Str(text) => parse_float(text),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn parse_float(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower);
    let quoted = || model::quote::go_quote(text.as_bytes());
    let digits = || {
        let plain = without_underscores(unsigned)?;
        match plain.strip_prefix("0x") {
            Some(hex) => hex_float(hex),
            None if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => plain.parse().ok(),
            None => None,
        }
    };
    let v = match unsigned {
        "inf" | "infinity" => f64::INFINITY,
        "nan" if unsigned.len() == lower.len() => f64::NAN,
        _ => match digits() {
            Some(v) if f64::is_finite(v) => v,
            Some(_) => return Err(format!("strconv.ParseFloat: parsing {}: value out of range", quoted())),
            None => return Err(format!("strconv.ParseFloat: parsing {}: invalid syntax", quoted())),
        },
    };
    Ok(if lower.starts_with('-') { -v } else { v })
}

/// Four significant digits.
fn short(v: f64) -> String {
    float(v, 'g', Some(4))
}

fn is_plain(v: f64) -> bool {
    v == 0.0 || !v.is_finite()
}

fn small(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for p in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if v.abs() >= 1.0 {
            break;
        }
        prefix = p;
        v *= 1000.0;
    }
    (v, prefix)
}

/// `1234567` is `1.235M`.
pub fn humanize(mut v: f64) -> String {
    if is_plain(v) {
        return short(v);
    }
    let mut prefix = "";
    if v.abs() >= 1.0 {
        for p in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if v.abs() < 1000.0 {
                break;
            }
            prefix = p;
            v /= 1000.0;
        }
    } else {
        (v, prefix) = small(v);
    }
    format!("{}{prefix}", short(v))
}

/// `1048576` is `1Mi`.
pub fn humanize1024(mut v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return short(v);
    }
    let mut prefix = "";
    for p in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if v.abs() < 1024.0 {
            break;
        }
        prefix = p;
        v /= 1024.0;
    }
    format!("{}{prefix}", short(v))
}

/// `93784` seconds are `1d 2h 3m 4s`, `0.25` are `250ms`.
pub fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return short(v);
    }
    if v == 0.0 {
        return format!("{}s", short(v));
    }
    if v.abs() < 1.0 {
        let (v, prefix) = small(v);
        return format!("{}{prefix}s", short(v));
    }
    let sign = if v < 0.0 { "-" } else { "" };
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as any text for such a span is as good")]
    let total = v.abs() as i64;
    let (secs, mins) = (total % 60, total / 60 % 60);
    let (hours, days) = (total / 3600 % 24, total / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {mins}m {secs}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {mins}m {secs}s")
    } else if mins != 0 {
        format!("{sign}{mins}m {secs}s")
    } else {
        format!("{sign}{}s", short(v.abs()))
    }
}

/// `0.1234567` is `12.35%`.
pub fn humanize_percentage(v: f64) -> String {
    format!("{}%", short(v * 100.0))
}
