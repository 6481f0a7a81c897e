//! Bodies that are posted to API v2, and the two ways in which they can be refused: what cannot be read (400)
//! and what is not as the schema has it (422), each in upstream's words.
//!
//! A body is its first JSON value; what follows is not looked at, as upstream has it.
//!
//! Compat: alertmanager `api/v2/models`, and go-openapi's `errors`, `validate` and `strfmt`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::quote::go_quote;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::alert::{LabelSet, PostedAlert};
use super::clock;
use super::silence::{PostedSilence, SilenceMatcher};

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be read.
    Malformed(String),
    /// It is not as the schema has it; with upstream's code for the kind of fault.
    Schema { code: u16, message: String },
}

const REQUIRED: u16 = 602;
const WRONG_FORMAT: u16 = 601;
const TOO_FEW: u16 = 612;

type Read<T> = Result<T, Refused>;

/// Reads what is posted to `/alerts`.
///
/// # Errors
/// It cannot be read or is not as the schema has it.
pub fn alerts(body: &[u8]) -> Read<Vec<PostedAlert>> {
    const WHAT: &str = "alerts";
    let Some(value) = value(WHAT, body)? else { return Err(required(WHAT)) };
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        other => return Err(malformed(WHAT, &mismatch(&other, "value", "models.PostableAlerts"))),
    };
    let mut alerts = Vec::with_capacity(items.len());
    // What cannot be read anywhere comes before what is missing somewhere.
    let mut fault = None;
    for (i, item) in items.iter().enumerate() {
        let fields = match item {
            Value::Object(fields) => fields,
            // Upstream breaks off the connection.
            Value::Null => {
                fault.get_or_insert_with(|| required(&format!("{i}")));
                continue;
            }
            other => return Err(malformed(WHAT, &mismatch(other, "value", "models.PostableAlert"))),
        };
        let object = Object { what: WHAT, name: "Alert", fields };
        let labels = object.strings("labels")?;
        let alert = PostedAlert {
            annotations: object.strings("annotations")?.unwrap_or_default(),
            starts_at: object.time("startsAt")?.flatten(),
            ends_at: object.time("endsAt")?.flatten(),
            generator_url: object.text("generatorURL")?.unwrap_or_default(),
            labels: labels.clone().unwrap_or_default(),
        };
        if !alert.generator_url.is_empty() && !is_uri(&alert.generator_url) {
            fault.get_or_insert_with(|| {
                let quoted = go_quote(alert.generator_url.as_bytes());
                let message = format!("{i}.generatorURL in body must be of type uri: {quoted}");
                Refused::Schema { code: WRONG_FORMAT, message }
            });
        }
        if labels.is_none() {
            fault.get_or_insert_with(|| required(&format!("{i}.labels")));
        }
        alerts.push(alert);
    }
    fault.map_or(Ok(alerts), Err)
}

/// Reads what is posted to `/silences`.
///
/// # Errors
/// It cannot be read or is not as the schema has it.
pub fn silence(body: &[u8]) -> Read<PostedSilence> {
    const WHAT: &str = "silence";
    let Some(value) = value(WHAT, body)? else { return Err(required(WHAT)) };
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => {
            let of = r#"struct { ID string "json:\"id,omitempty\"" }"#;
            return Err(malformed(WHAT, &mismatch(&other, "value", of)));
        }
    };
    let object = Object { what: WHAT, name: "Silence", fields: &fields };
    let id = object.text("id")?.unwrap_or_default();
    let annotations = object.strings("annotations")?.unwrap_or_default();
    let (comment, created_by) = (object.text("comment")?, object.text("createdBy")?);
    let (starts_at, ends_at) = (object.time("startsAt")?, object.time("endsAt")?);
    let matchers = object.matchers()?;
    let comment = comment.ok_or_else(|| required("comment"))?;
    let created_by = created_by.ok_or_else(|| required("createdBy"))?;
    let ends_at = ends_at.ok_or_else(|| required("endsAt"))?;
    let matchers = matchers.ok_or_else(|| required("matchers"))?;
    if matchers.is_empty() {
        let message = "matchers in body should have at least 1 items".to_owned();
        return Err(Refused::Schema { code: TOO_FEW, message });
    }
    let matchers = matchers.into_iter().enumerate().filter_map(|(i, matcher)| {
        let (is_equal, is_regex, name, value) = matcher?;
        let field = |name: &str| required(&format!("matchers.{i}.{name}"));
        let matcher = || {
            Ok(SilenceMatcher {
                is_regex: is_regex.ok_or_else(|| field("isRegex"))?,
                name: name.ok_or_else(|| field("name"))?,
                value: value.ok_or_else(|| field("value"))?,
                is_equal: is_equal.unwrap_or(true),
            })
        };
        Some(matcher())
    });
    let matchers = matchers.collect::<Read<Vec<_>>>()?;
    let starts_at = starts_at.ok_or_else(|| required("startsAt"))?;
    // An empty text is the epoch to upstream: in the past for a start, and for an end refused as such.
    let or_epoch = |t: Option<Timestamp>| t.unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(PostedSilence {
        id,
        annotations,
        comment,
        created_by,
        ends_at: or_epoch(ends_at),
        matchers,
        starts_at: or_epoch(starts_at),
    })
}

fn required(field: &str) -> Refused {
    Refused::Schema { code: REQUIRED, message: format!("{field} in body is required") }
}

fn malformed(what: &str, why: &str) -> Refused {
    Refused::Malformed(format!("parsing {what} body from \"\" failed, because {why}"))
}

/// The first JSON value of a body; `None` if there is none.
fn value(what: &str, body: &[u8]) -> Read<Option<Value>> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut values = serde_json::Deserializer::from_slice(body);
    match Value::deserialize(&mut values) {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_eof() => Err(malformed(what, "unexpected EOF")),
        Err(e) => Err(malformed(what, &format!("invalid JSON: {e}"))),
    }
}

/// In Go's words, that `value` cannot become a `wanted`.
fn mismatch(value: &Value, place: &str, wanted: &str) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into Go {place} of type {wanted}")
}

/// The fields of a JSON object; `null` is a field that is not there.
struct Object<'v> {
    what: &'static str,
    name: &'static str,
    fields: &'v Map<String, Value>,
}

/// Equality and kind of a matcher, its name and its value.
type Matcher = (Option<bool>, Option<bool>, Option<String>, Option<String>);

impl Object<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn wrong(&self, field: &str, value: &Value, wanted: &str) -> Refused {
        let place = format!("struct field {}.{field}", self.name);
        malformed(self.what, &mismatch(value, &place, wanted))
    }

    fn text(&self, field: &str) -> Read<Option<String>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(field, other, "string")),
        }
    }

    fn bool(&self, field: &str) -> Read<Option<bool>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(field, other, "bool")),
        }
    }

    fn strings(&self, field: &str) -> Read<Option<LabelSet>> {
        let entries = match self.get(field) {
            None => return Ok(None),
            Some(Value::Object(entries)) => entries,
            Some(other) => return Err(self.wrong(field, other, "models.LabelSet")),
        };
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            other => Err(self.wrong(field, other, "string")),
        };
        entries.iter().map(|(name, value)| Ok((name.clone(), text(value)?))).collect::<Read<_>>().map(Some)
    }

    /// The time of a field that is there; `None` for Go's zero time and for an empty text.
    #[expect(clippy::option_option, reason = "absent and zero are different answers")]
    fn time(&self, field: &str) -> Read<Option<Option<Timestamp>>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        if text.is_empty() {
            return Ok(Some(None));
        }
        let t = parse_time(&text).ok_or_else(|| {
            let quoted = go_quote(text.as_bytes());
            let why = format!("parsing time {quoted} as \"2006-01-02\": cannot parse {quoted} as \"2006\"");
            malformed(self.what, &why)
        })?;
        Ok(Some(Some(t).filter(|t| self.name == "Silence" || !clock::is_zero(*t))))
    }

    fn matchers(&self) -> Read<Option<Vec<Option<Matcher>>>> {
        let items = match self.get("matchers") {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong("matchers", other, "models.Matchers")),
        };
        let matcher = |item: &Value| {
            let fields = match item {
                Value::Null => return Ok(None),
                Value::Object(fields) => fields,
                other => return Err(self.wrong("matchers", other, "models.Matcher")),
            };
            let object = Object { what: self.what, name: "Matcher", fields };
            let (is_equal, is_regex) = (object.bool("isEqual")?, object.bool("isRegex")?);
            Ok(Some((is_equal, is_regex, object.text("name")?, object.text("value")?)))
        };
        items.iter().map(matcher).collect::<Read<_>>().map(Some)
    }
}

/// A time as RFC 3339 has it, or a date with or without a time of day, in UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(t) = text.parse() {
        return Some(t);
    }
    let civil: DateTime = text.trim_end_matches('Z').parse().ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|t| t.timestamp())
}

/// Whether Go would take the text for the URI of a request: absolute, or a path from the root.
fn is_uri(text: &str) -> bool {
    if text.bytes().any(|b| b.is_ascii_control()) || !has_whole_escapes(text) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next());
    is_scheme && !authority.is_some_and(|authority| authority.contains([' ', '<', '>', '"', '^', '\\']))
}

fn has_whole_escapes(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    path.match_indices('%').all(|(at, _)| {
        let digits = path.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests;
