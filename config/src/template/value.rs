//! What templates compute with: Go's values as far as templates can tell them apart.
//!
//! Compat: Go `reflect.Value` as `text/template` uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Signature;
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
    /// A whole number of another type than `int`.
    Named(&'static Integer, i64),
    /// What a function returned by reference: prints and answers as what it refers to.
    Ptr(Arc<Value>),
}

/// A type of whole numbers.
#[derive(Debug)]
pub struct Integer {
    pub name: &'static str,
    /// Prints instead of the digits.
    pub string: Option<fn(i64) -> &'static str>,
}

pub static INT64: Integer = Integer { name: "int64", string: None };
pub static BYTE: Integer = Integer { name: "uint8", string: None };
pub static RUNE: Integer = Integer { name: "int32", string: None };

/// Where a [`Value::Safe`] may stand as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Html,
    Url,
}

/// What a class's methods take: `None` when there is none of that name.
pub type Methods = fn(&str) -> Option<Signature>;
/// Calls a method; the arguments fit its signature.
pub type Call = fn(&Value, &str, &[Value]) -> Result<Value, String>;

/// The Go type behind a list, map or struct.
#[derive(Debug)]
pub struct Class {
    pub name: &'static str,
    /// Whether missing keys are empty strings instead of nothing.
    pub holds_strings: bool,
    pub methods: Methods,
    pub call: Call,
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
        Self { name, holds_strings, methods: no_methods, call: no_call, string: None }
    }
}

fn no_methods(_: &str) -> Option<Signature> {
    None
}

fn no_call(_: &Value, name: &str, _: &[Value]) -> Result<Value, String> {
    Err(format!("no method {name}"))
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
            Self::Named(integer, _) => integer.name,
            Self::Ptr(inner) => match &**inner {
                Self::Time(_) => "*time.Time",
                Self::Duration(_) => "*time.Duration",
                other => other.type_name(),
            },
        }
    }

    /// Whether `if` takes the first branch: not for nothing, zero, false and what is empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Duration(value) | Self::Named(_, value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) | Self::Safe(_, text) => !text.is_empty(),
            Self::List(_, items) => !items.is_empty(),
            Self::Map(_, map) => !map.is_empty(),
            Self::Struct(..) | Self::Time(_) | Self::Ptr(_) => true,
        }
    }
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

impl Value {
    /// What the method `name` takes.
    pub(super) fn method(&self, name: &str) -> Option<Signature> {
        match self {
            Self::Time(_) => Time::signature(name),
            Self::Duration(_) => super::time::duration_signature(name),
            Self::Named(integer, _) if integer.string.is_some() && name == "String" => {
                Some(Signature::fixed(&[]))
            }
            Self::Ptr(inner) => inner.method(name),
            Self::List(class, _) | Self::Map(class, _) | Self::Struct(class, _) => (class.methods)(name),
            _ => None,
        }
    }

    /// Calls that method.
    pub(super) fn call_method(&self, name: &str, args: &[Self]) -> Result<Self, String> {
        match self {
            Self::Time(time) => time.call(name, args),
            Self::Duration(nanos) => super::time::duration_call(*nanos, name, args),
            Self::Named(integer, v) => Ok(integer.string.map_or("", |of| of(*v)).into()),
            Self::Ptr(inner) => inner.call_method(name, args),
            Self::List(class, _) | Self::Map(class, _) | Self::Struct(class, _) => {
                (class.call)(self, name, args)
            }
            _ => Err(format!("no method {name}")),
        }
    }
}
