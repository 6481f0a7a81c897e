//! The functions of every template: comparison, logic, indexing, printing, quoting.
//!
//! Compat: Go `text/template`, `builtins` (`call`, which finds nothing to call, is the executor's).

use std::fmt::Write;
use std::sync::Arc;

use super::format;
use super::value::{BYTE, Value};
use super::{Functions, Param, Signature};

/// Whether `name` is a function here or in `functions`.
pub(super) fn is_known(name: &str, functions: &dyn Functions) -> bool {
    signature(name).is_some() || functions.signature(name).is_some()
}

/// The parameters of a builtin; `and` and `or` are evaluated by the caller as far as needed.
pub(super) fn signature(name: &str) -> Option<Signature> {
    const ANY: Param = Param::Any;
    Some(match name {
        "and" | "or" | "index" | "slice" | "eq" | "call" => Signature::variadic(&[ANY], ANY),
        "not" | "len" => Signature::fixed(&[ANY]),
        "ne" | "lt" | "le" | "gt" | "ge" => Signature::fixed(&[ANY, ANY]),
        "print" | "println" | "html" | "js" | "urlquery" => Signature::variadic(&[], ANY),
        "printf" => Signature::variadic(&[Param::Str], ANY),
        _ => return None,
    })
}

pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    match (name, args) {
        ("not", [value]) => Ok((!value.is_true()).into()),
        ("len", [value]) => len(value),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("eq", [first, rest @ ..]) => eq(first, rest).map(Value::Bool),
        ("ne", [a, b]) => eq(a, std::slice::from_ref(b)).map(|equal| (!equal).into()),
        ("lt", [a, b]) => less(a, b).map(Value::Bool),
        ("le", [a, b]) => Ok((less(a, b)? || eq(a, std::slice::from_ref(b))?).into()),
        ("gt", [a, b]) => Ok((!less(a, b)? && !eq(a, std::slice::from_ref(b))?).into()),
        ("ge", [a, b]) => Ok((!less(a, b)?).into()),
        ("print", args) => Ok(format::sprint(args).into()),
        ("println", args) => Ok(format::sprintln(args).into()),
        ("printf", [first, rest @ ..]) => {
            Ok(format::sprintf(first.as_str().unwrap_or_default(), rest).into())
        }
        ("html", args) => Ok(html_escape(&joined(args)).into()),
        ("js", args) => Ok(js_escape(&joined(args)).into()),
        ("urlquery", args) => Ok(query_escape(&joined(args)).into()),
        _ => Err("unknown function".to_owned()),
    }
}

fn joined(args: &[Value]) -> String {
    if !args.iter().any(|arg| matches!(arg, Value::Nil)) {
        return format::sprint(args);
    }
    let shown = |arg: &Value| match arg {
        Value::Nil => "<no value>".into(),
        arg => arg.clone(),
    };
    format::sprint(&args.iter().map(shown).collect::<Vec<_>>())
}

fn len(value: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::Str(text) | Value::Safe(_, text) => text.len(),
        Value::List(_, items) => items.len(),
        Value::Map(_, map) => map.len(),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    }
    .into())
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    if matches!(value, Value::Nil) {
        return Err("index of untyped nil".to_owned());
    }
    let mut value = value.clone();
    for key in keys {
        value = match &value {
            Value::List(_, items) => items[position(key, items.len(), "slice")?].clone(),
            Value::Str(text) => {
                let at = position(key, text.len(), "string")?;
                Value::Named(&BYTE, text.as_bytes()[at].into())
            }
            Value::Map(class, map) => match key {
                Value::Str(key) => map.get(&**key).cloned().unwrap_or_else(|| class.missing()),
                Value::Nil => return Err("value is nil; should be of type string".to_owned()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            Value::Nil => return Err("index of nil pointer".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn whole(key: &Value) -> Result<i64, String> {
    match key {
        Value::Int(v) | Value::Named(_, v) | Value::Duration(v) => Ok(*v),
        Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn position(key: &Value, len: usize, kind: &str) -> Result<usize, String> {
    let at = whole(key)?;
    if usize::try_from(at) == Ok(len) {
        return Err(format!("reflect: {kind} index out of range"));
    }
    usize::try_from(at).ok().filter(|at| *at < len).ok_or_else(|| format!("index out of range: {at}"))
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let len = match value {
        Value::Str(text) => text.len(),
        Value::List(_, items) => items.len(),
        Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    if bounds.len() == 3 && matches!(value, Value::Str(_)) {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let mut at = [0, len, len];
    for (i, bound) in bounds.iter().enumerate() {
        let v = whole(bound)?;
        at[i] = usize::try_from(v)
            .ok()
            .filter(|v| *v <= len)
            .ok_or_else(|| format!("index out of range: {v}"))?;
    }
    if at[0] > at[1] {
        return Err(format!("invalid slice index: {} > {}", at[0], at[1]));
    }
    if bounds.len() == 3 && at[1] > at[2] {
        return Err(format!("invalid slice index: {} > {}", at[1], at[2]));
    }
    Ok(match value {
        // Bytes may be cut within a character, as in Go; the halves print as replacement characters.
        Value::Str(text) => String::from_utf8_lossy(&text.as_bytes()[at[0]..at[1]]).into_owned().into(),
        Value::List(class, items) => Value::List(class, items[at[0]..at[1]].into()),
        other => other.clone(),
    })
}

const BAD_COMPARISON: &str = "invalid type for comparison";

/// Whether `first` equals any of `rest`.
fn eq(first: &Value, rest: &[Value]) -> Result<bool, String> {
    if rest.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in rest {
        if equals(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The whole number in a value of any such type.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(v) | Value::Duration(v) | Value::Named(_, v) => Some(*v),
        _ => None,
    }
}

fn equals(first: &Value, other: &Value) -> Result<bool, String> {
    if let (Some(a), Some(b)) = (integer(first), integer(other)) {
        return Ok(a == b);
    }
    Ok(match (first, other) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Str(a) | Value::Safe(_, a), Value::Str(b) | Value::Safe(_, b)) => a == b,
        (Value::Nil, other) | (other, Value::Nil) => matches!(other, Value::Nil),
        (a, b) if is_basic(a) || is_basic(b) => return Err(incompatible(a, b)),
        (a, b) if Kind::of(a) != Kind::of(b) => return Err(not_comparable(a, b)),
        (_, b) if !is_comparable(b) => {
            return Err(format::sprintf("non-comparable type %s: ", std::slice::from_ref(b)) + b.type_name());
        }
        (Value::Time(a), Value::Time(b)) => a == b,
        // What is passed by reference equals itself.
        (Value::Struct(a, x), Value::Struct(b, y)) if a.name.starts_with('*') => a == b && Arc::ptr_eq(x, y),
        (Value::Struct(a, x), Value::Struct(b, y)) => {
            a == b && x.iter().zip(y.iter()).all(|((_, x), (_, y))| equals(x, y) == Ok(true))
        }
        (Value::Ptr(a), Value::Ptr(b)) => Arc::ptr_eq(a, b),
        _ => false,
    })
}

/// What Go compares only with its like.
#[derive(PartialEq, Eq)]
enum Kind {
    List,
    Map,
    Struct,
    Reference,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::List(..) => Self::List,
            Value::Map(..) => Self::Map,
            Value::Struct(class, _) if class.name.starts_with('*') => Self::Reference,
            Value::Ptr(_) => Self::Reference,
            _ => Self::Struct,
        }
    }
}

fn is_comparable(value: &Value) -> bool {
    match value {
        Value::List(..) | Value::Map(..) => false,
        Value::Struct(class, fields) => {
            class.name.starts_with('*') || fields.iter().all(|(_, field)| is_comparable(field))
        }
        _ => true,
    }
}

fn not_comparable(a: &Value, b: &Value) -> String {
    let args = [a.clone(), a.type_name().into(), b.type_name().into(), b.clone()];
    format::sprintf("non-comparable types %s: %s, %s: %v", &args)
}

fn is_basic(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(_)
            | Value::Int(_)
            | Value::Named(..)
            | Value::Duration(_)
            | Value::Float(_)
            | Value::Str(_)
            | Value::Safe(..)
    )
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

fn less(a: &Value, b: &Value) -> Result<bool, String> {
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return Ok(a < b);
    }
    match (a, b) {
        (a, b) if !is_basic(a) || !is_basic(b) => Err(BAD_COMPARISON.to_owned()),
        (Value::Bool(_), Value::Bool(_)) => Err(BAD_COMPARISON.to_owned()),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Str(a) | Value::Safe(_, a), Value::Str(b) | Value::Safe(_, b)) => Ok(a < b),
        (a, b) => Err(incompatible(a, b)),
    }
}

/// Go's `template.HTMLEscapeString`.
pub(super) fn html_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Go's `template.JSEscapeString`.
pub(super) fn js_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            '\x7f' => out.push(c),
            c if !format::is_printed(c) => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// Go's `url.QueryEscape`.
pub fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            b => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}
