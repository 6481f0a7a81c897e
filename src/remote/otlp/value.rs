//! Values of attributes as the texts that labels have.
//!
//! Compat: opentelemetry-collector `pdata/pcommon`, `Value.AsString`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::number;
use model::wire::otlp::AnyValue;

/// The text of a value. Lists and maps are JSON; one with a number that JSON has no text for is empty.
pub(super) fn text<'a>(value: &'a AnyValue<'_>) -> Cow<'a, str> {
    match value {
        AnyValue::Empty => Cow::Borrowed(""),
        AnyValue::Text(text) => Cow::Borrowed(text),
        AnyValue::Bool(v) => Cow::Borrowed(if *v { "true" } else { "false" }),
        AnyValue::Int(v) => Cow::Owned(v.to_string()),
        AnyValue::Double(v) if v.is_nan() => Cow::Borrowed("NaN"),
        AnyValue::Double(v) if v.is_infinite() => {
            Cow::Borrowed(if *v > 0.0 { "Infinity" } else { "-Infinity" })
        }
        AnyValue::Double(v) => Cow::Owned(double(*v)),
        AnyValue::Bytes(bytes) => Cow::Owned(STANDARD.encode(bytes)),
        AnyValue::List(_) | AnyValue::Map(_) => {
            let mut out = Vec::new();
            let json = push_json(&mut out, value).and_then(|()| String::from_utf8(out).ok());
            Cow::Owned(json.unwrap_or_default())
        }
    }
}

/// As JavaScript writes it: an exponent has no zeros in front.
fn double(v: f64) -> String {
    let mut text = number::format_json(v);
    if let Some(at) = text.find("e-0") {
        text.remove(at + 2);
    }
    text
}

/// `None` if there is no JSON for it.
fn push_json(out: &mut Vec<u8>, value: &AnyValue<'_>) -> Option<()> {
    match value {
        AnyValue::Empty => out.extend_from_slice(b"null"),
        AnyValue::Text(text) => push_quoted(out, text),
        AnyValue::Double(v) if !v.is_finite() => return None,
        // As Go has it: no bytes are no text.
        AnyValue::Bytes(bytes) if bytes.is_empty() => out.extend_from_slice(b"null"),
        AnyValue::Bytes(_) => push_quoted(out, &text(value)),
        AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => {
            out.extend_from_slice(text(value).as_bytes());
        }
        AnyValue::List(values) => {
            out.push(b'[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_json(out, value)?;
            }
            out.push(b']');
        }
        AnyValue::Map(pairs) => {
            // By key; of equal ones the last counts.
            let pairs: BTreeMap<&str, &AnyValue<'_>> =
                pairs.iter().map(|pair| (&*pair.key, &pair.value)).collect();
            out.push(b'{');
            for (i, (key, value)) in pairs.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_quoted(out, key);
                out.push(b':');
                push_json(out, value)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

/// Compat: Go `encoding/json`, `SetEscapeHTML(false)`.
fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\x08' => out.extend_from_slice(b"\\b"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            '\0'..' ' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use model::wire::otlp::KeyValue;

    use super::*;

    #[test]
    fn texts_of_values() {
        let pair = |key: &'static str, value| KeyValue { key: key.into(), value };
        let map = AnyValue::Map(vec![
            pair("b", AnyValue::Text("<\"\u{2028}\u{1}é".into())),
            pair("a", AnyValue::Int(1)),
            pair("a", AnyValue::List(vec![AnyValue::Double(1.5), AnyValue::Empty, AnyValue::Bool(true)])),
            pair("c", AnyValue::Bytes(vec![1, 2].into())),
            pair("d", AnyValue::Bytes(vec![].into())),
        ]);
        let cases = [
            (AnyValue::Empty, ""),
            (AnyValue::Int(i64::MIN), "-9223372036854775808"),
            (AnyValue::Double(1.0), "1"),
            (AnyValue::Double(1e21), "1e+21"),
            (AnyValue::Double(-1.5e-7), "-1.5e-7"),
            (AnyValue::Double(1e-10), "1e-10"),
            (AnyValue::Double(f64::NEG_INFINITY), "-Infinity"),
            (AnyValue::Bytes(vec![255, 0].into()), "/wA="),
            (AnyValue::List(vec![]), "[]"),
            (AnyValue::List(vec![AnyValue::Double(f64::NAN)]), ""),
            (map, r#"{"a":[1.5,null,true],"b":"<\"\u2028\u0001é","c":"AQI=","d":null}"#),
        ];
        for (value, expected) in cases {
            assert_eq!(text(&value), expected);
        }
    }
}
