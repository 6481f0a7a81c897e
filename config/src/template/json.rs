//! Values as JSON.
//!
//! Compat: Go `encoding/json`, `Marshal` (numbers, characters it escapes, names of the notification's fields).

use std::fmt::Write;

use super::format;
use super::value::Value;

/// `value` as JSON.
///
/// # Errors
/// A number that JSON cannot hold.
pub(super) fn encode(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    push(&mut out, value)?;
    Ok(out)
}

fn push(out: &mut String, value: &Value) -> Result<(), String> {
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::Int(v) | Value::Duration(v) | Value::Named(_, v) => {
            let _ = write!(out, "{v}");
        }
        Value::Float(v) => push_float(out, *v)?,
        Value::Str(text) | Value::Safe(_, text) => push_string(out, text),
        Value::Time(time) => push_string(out, &time.format(super::time::RFC3339_NANO)),
        Value::Ptr(inner) => push(out, inner)?,
        Value::List(class, items) if items.is_empty() && class.name == "nil" => out.push_str("null"),
        Value::List(_, items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                push(out, item)?;
            }
            out.push(']');
        }
        Value::Map(_, map) => {
            let fields = map.iter().map(|(name, item)| (name.clone(), item));
            push_object(out, fields)?;
        }
        Value::Struct(class, fields) => {
            let fields = fields.iter().filter(|(name, _)| *name != super::notification::RENDERED);
            let fields = fields.map(|(name, item)| (field_name(class.name, name), item));
            push_object(out, fields)?;
        }
    }
    Ok(())
}

fn push_object<'v>(
    out: &mut String,
    fields: impl Iterator<Item = (String, &'v Value)>,
) -> Result<(), String> {
    out.push('{');
    for (i, (name, item)) in fields.enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        push_string(out, &name);
        out.push(':');
        push(out, item)?;
    }
    out.push('}');
    Ok(())
}

/// `GeneratorURL` of an alert is `generatorURL` in JSON; other structs have no names of their own there.
fn field_name(class: &str, field: &str) -> String {
    if !matches!(class, "template.Alert" | "*template.Data") {
        return field.to_owned();
    }
    if field == "NotificationReason" {
        return "notification_reason".to_owned();
    }
    let mut chars = field.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn push_float(out: &mut String, v: f64) -> Result<(), String> {
    if !v.is_finite() {
        return Err(format!("json: unsupported value: {}", format::float(v, 'g', None)));
    }
    let abs = v.abs();
    if abs != 0.0 && !(1e-6..1e21).contains(&abs) {
        // One digit of an exponent is enough here.
        let text = format::float(v, 'e', None);
        out.push_str(&text.replace("e-0", "e-"));
    } else {
        out.push_str(&format::float(v, 'f', None));
    }
    Ok(())
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
