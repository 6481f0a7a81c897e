//! Where we differ from upstream on purpose, or by a library that upstream uses.

use serde_json::Value;

/// Whether two requests are the same for those who get them.
pub(super) fn same(one: &str, other: &str) -> bool {
    one == other || may_be_sorted(one) && by_value(one) == by_value(other)
}

/// Documents of Jira's version 3 are written by templates as JSON. Upstream passes them on as they are, we as what they
/// mean, names sorted. So are the names of what the function `toJson` writes, which shows where it stays a text.
fn may_be_sorted(text: &str) -> bool {
    ["/jira/v3/rest/api/3/issue", "/webhook/payload", "pagerduty"].iter().any(|path| text.contains(path))
}

/// What comes before the body, and what the body means.
fn by_value(text: &str) -> Option<(&str, Value)> {
    let at = text.find('{')?;
    Some((&text[..at], meant(serde_json::from_str(&text[at..]).ok()?)))
}

/// Texts that are lists in JSON are those lists.
fn meant(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("[{") => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(meant).collect()),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, meant(value))).collect(),
        other => other,
    }
}
