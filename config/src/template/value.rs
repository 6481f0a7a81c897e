//! What templates compute with: Go's values as far as templates can tell them apart.
//!
//! Compat: Go `reflect.Value` as `text/template` uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::time::Time;

/// A value of a template.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: a missing key of a map of anything, the data of a `template` without argument.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    /// Text that an HTML template prints without escaping in the context it is trusted for.
    Safe(Trust, Arc<str>),
    List(&'static Class, Arc<[Value]>),
    Map(&'static Class, Arc<BTreeMap<String, Value>>),
    /// Fields in Go's order.
    Struct(&'static Class, Arc<[(&'static str, Value)]>),
    Time(Time),
    /// Nanoseconds.
    Duration(i64),
}

/// Where a [`Value::Safe`] may stand as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Html,
    Url,
}

/// The methods of a class: `None` when there is none of that name.
pub type Methods = fn(&Value, &str, &[Value]) -> Option<Result<Value, String>>;

/// The Go type behind a list, map or struct.
#[derive(Debug)]
pub struct Class {
    pub name: &'static str,
    /// Whether missing keys are empty strings instead of nothing.
    pub holds_strings: bool,
    pub methods: Methods,
    /// Prints instead of the generic form.
    pub string: Option<fn(&Value) -> String>,
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Class {
    pub const fn plain(name: &'static str, holds_strings: bool) -> Self {
        Self { name, holds_strings, methods: no_methods, string: None }
    }
}

pub fn no_methods(_: &Value, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
    None
}

pub static STRINGS: Class = Class::plain("[]string", true);
pub static ANYTHINGS: Class = Class::plain("[]interface {}", false);
pub static STRING_MAP: Class = Class::plain("map[string]string", true);
pub static ANY_MAP: Class = Class::plain("map[string]interface {}", false);

impl Value {
    pub fn str(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    pub fn strings<S: Into<Arc<str>>>(items: impl IntoIterator<Item = S>) -> Self {
        Self::List(&STRINGS, items.into_iter().map(Self::str).collect())
    }

    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(&ANYTHINGS, items.into_iter().collect())
    }

    pub fn string_map<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Self::map_of(&STRING_MAP, pairs)
    }

    /// A map of strings that prints and answers as `class` says.
    pub fn map_of<'a>(
        class: &'static Class,
        pairs: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let map = pairs.into_iter().map(|(k, v)| (k.clone(), Self::str(v.as_str()))).collect();
        Self::Map(class, Arc::new(map))
    }

    /// The text of a string, trusted or not.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Safe(_, text) => Some(text),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(_, items) => Some(items),
            _ => None,
        }
    }

    /// A field of a struct.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(_, fields) => {
                fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
            }
            Self::Map(_, map) => map.get(name),
            _ => None,
        }
    }

    /// Go's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::Safe(Trust::Html, _) => "template.HTML",
            Self::Safe(Trust::Url, _) => "template.URL",
            Self::List(class, _) | Self::Map(class, _) | Self::Struct(class, _) => class.name,
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
        }
    }

    /// Whether `if` takes the first branch: not for nothing, zero, false and what is empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Duration(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) | Self::Safe(_, text) => !text.is_empty(),
            Self::List(_, items) => !items.is_empty(),
            Self::Map(_, map) => !map.is_empty(),
            Self::Struct(..) | Self::Time(_) => true,
        }
    }

    /// The value as JSON, keys of structs in lower camel case.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Nil => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) | Self::Duration(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Str(text) | Self::Safe(_, text) => Json::String(text.to_string()),
            Self::List(_, items) => items.iter().map(Self::to_json).collect(),
            Self::Map(_, map) => map.iter().map(|(k, v)| (k.clone(), v.to_json())).collect(),
            Self::Struct(_, fields) => {
                fields.iter().map(|(name, v)| (json_name(name), v.to_json())).collect()
            }
            Self::Time(time) => Json::String(time.format(super::time::RFC3339_NANO)),
        }
    }
}

/// `GeneratorURL` is `generatorURL` in JSON.
fn json_name(field: &str) -> String {
    if field == "NotificationReason" {
        return "notification_reason".to_owned();
    }
    let mut chars = field.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::str(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// A length or an index.
impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl Class {
    /// What a map of this class gives for a key it lacks.
    pub(super) fn missing(&self) -> Value {
        if self.holds_strings { Value::str("") } else { Value::Nil }
    }
}
