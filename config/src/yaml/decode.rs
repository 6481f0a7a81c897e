//! Strict decoding: keys in the order of the file, unknown and repeated ones reported, type errors
//! collected until the end, all others fatal at once.
//!
//! That mixture is the reference library's: a value of the wrong type spoils its struct but not its
//! neighbours, a failed validation ends the reading. Which error a user sees first follows from it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::quote::go_quote;

use super::scalar::{self, Value};
use super::tree::{Kind, Node, Pos, Scalar};
use crate::Secret;
use crate::error::Problem;
use crate::matchers::Mode;

/// Why a text is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) pos: Pos,
    pub(crate) text: String,
}

impl Issue {
    pub(crate) fn new(pos: Pos, text: impl Into<String>) -> Self {
        Self { pos, text: text.into() }
    }
}

impl From<Issue> for Problem {
    fn from(issue: Issue) -> Self {
        Self { line: issue.pos.line, column: issue.pos.column, message: issue.text }
    }
}

/// `Ok(None)` is a value of the wrong type, already noted in the decoder.
pub(crate) type Decoded<T> = Result<Option<T>, Issue>;

/// A type that reads itself from a node; null is the type's empty value.
pub(crate) trait Decode: Sized {
    /// Go's name of the type, for error texts.
    const GO_TYPE: &'static str;

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    /// Merged keys never override written ones; repeated keys are refused everywhere with another text.
    V3,
}

/// Reads a key and its value; the bytes are the key's.
pub(crate) type PairReader<'a, T> = dyn FnMut(&mut Decoder, &Node, &Node) -> Decoded<(Vec<u8>, T)> + 'a;

/// Collects the type errors of one document.
pub(crate) struct Decoder {
    pub(crate) dialect: Dialect,
    /// Keys that a type does not have are passed over instead of reported.
    pub(crate) ignores_unknown: bool,
    errors: Vec<Issue>,
    /// In which grammar the document's matchers are read.
    pub(crate) matcher_mode: Mode,
    /// What is accepted but should be known to the operator.
    pub(crate) warnings: Vec<String>,
}

impl Decoder {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ignores_unknown: false,
            errors: Vec::new(),
            matcher_mode: Mode::default(),
            warnings: Vec::new(),
        }
    }

    /// Reports the collected type errors as one issue at the place of the first.
    ///
    /// # Errors
    /// There are any.
    pub(crate) fn finish(&mut self) -> Result<(), Issue> {
        let errors = std::mem::take(&mut self.errors);
        let Some(first) = errors.first() else { return Ok(()) };
        let mut text = "yaml: unmarshal errors:".to_owned();
        for error in &errors {
            text.push_str("\n  ");
            text.push_str(&error.text);
        }
        Err(Issue::new(first.pos, text))
    }

    /// Notes a type error; the line is put in front of `text`.
    pub(crate) fn note(&mut self, pos: Pos, text: &str) {
        self.errors.push(Issue::new(pos, format!("line {}: {text}", pos.line)));
    }

    pub(crate) fn warn(&mut self, pos: Pos, text: &str) {
        self.warnings.push(format!("line {}: {text}", pos.line));
    }

    /// Notes that `node` cannot become a `go_type`.
    #[expect(clippy::unnecessary_wraps, reason = "decoders return it as their own result")]
    pub(crate) fn mismatch<T>(&mut self, node: &Node, go_type: &str) -> Decoded<T> {
        let what = match &node.kind {
            Kind::List(_) => "!!seq".to_owned(),
            Kind::Map(_) => "!!map".to_owned(),
            Kind::Scalar(scalar) => {
                let tag = scalar.tag.as_deref().unwrap_or_else(|| scalar::implied_tag(scalar));
                match (scalar.text.len() > 10, scalar.text.get(..7)) {
                    (true, Some(head)) => format!("{tag} `{head}...`"),
                    _ => format!("{tag} `{}`", scalar.text),
                }
            }
        };
        self.note(node.pos, &format!("cannot unmarshal {what} into {go_type}"));
        Ok(None)
    }

    /// Decodes `node` into `slot`, which keeps its value if the type is wrong.
    pub(crate) fn set<T: Decode>(&mut self, node: &Node, slot: &mut T) -> Result<(), Issue> {
        if let Some(value) = T::decode(self, node)? {
            *slot = value;
        }
        Ok(())
    }

    /// Calls `field` for each key of a mapping in the order of the file; it returns false for keys that
    /// the type does not have. Returns whether no type error occurred.
    pub(crate) fn fields(
        &mut self,
        node: &Node,
        go_type: &str,
        field: &mut dyn FnMut(&mut Self, &str, &Node) -> Result<bool, Issue>,
    ) -> Result<bool, Issue> {
        let before = self.errors.len();
        match &node.kind {
            _ if node.is_nothing() => {}
            Kind::Map(entries) => {
                let mut done = Vec::new();
                self.entries(entries, go_type, field, &mut done)?;
            }
            _ => return Ok(self.mismatch::<()>(node, go_type)?.is_some()),
        }
        Ok(self.errors.len() == before)
    }

    fn entries(
        &mut self,
        entries: &[(std::rc::Rc<Node>, std::rc::Rc<Node>)],
        go_type: &str,
        field: &mut dyn FnMut(&mut Self, &str, &Node) -> Result<bool, Issue>,
        done: &mut Vec<String>,
    ) -> Result<(), Issue> {
        let mut merges = Vec::new();
        for (key, value) in entries {
            if key.is_merge_key() {
                match self.dialect {
                    Dialect::V2 => self.merge(value, go_type, field, &mut Vec::new())?,
                    Dialect::V3 => merges.push(value),
                }
                continue;
            }
            let Some(name) = String::decode(self, key)? else { continue };
            if done.contains(&name) {
                let text = match self.dialect {
                    Dialect::V2 => format!("field {name} already set in type {go_type}"),
                    Dialect::V3 => {
                        let first = entries.iter().find(|(k, _)| k.text() == Some(&name));
                        let line = first.map_or(0, |(k, _)| k.pos.line);
                        format!("mapping key {} already defined at line {line}", go_quote(name.as_bytes()))
                    }
                };
                self.note(key.pos, &text);
                continue;
            }
            if field(self, &name, value)? {
                done.push(name);
            } else if !self.ignores_unknown {
                self.note(key.pos, &format!("field {name} not found in type {go_type}"));
            }
        }
        for value in merges {
            let mut shielded = |decoder: &mut Self, name: &str, node: &Node| {
                if done.iter().any(|d| d == name) { Ok(true) } else { field(decoder, name, node) }
            };
            self.merge(value, go_type, &mut shielded, &mut Vec::new())?;
        }
        Ok(())
    }

    fn merge(
        &mut self,
        value: &Node,
        go_type: &str,
        field: &mut dyn FnMut(&mut Self, &str, &Node) -> Result<bool, Issue>,
        done: &mut Vec<String>,
    ) -> Result<(), Issue> {
        match &value.kind {
            Kind::Map(entries) => self.entries(entries, go_type, field, done),
            // Backwards, since earlier ones take precedence.
            Kind::List(items) if items.iter().all(|item| matches!(item.kind, Kind::Map(_))) => {
                items.iter().rev().try_for_each(|item| self.merge(item, go_type, field, &mut Vec::new()))
            }
            _ => Err(Issue::new(value.pos, "yaml: map merge requires map or sequence of maps as the value")),
        }
    }

    /// Calls `item` for each element of a list; null is an empty list.
    /// Returns whether the node is a list.
    pub(crate) fn items(
        &mut self,
        node: &Node,
        go_type: &str,
        item: &mut dyn FnMut(&mut Self, &Node) -> Result<(), Issue>,
    ) -> Result<bool, Issue> {
        match &node.kind {
            _ if node.is_nothing() => Ok(true),
            Kind::List(items) => {
                items.iter().try_for_each(|node| item(self, node))?;
                Ok(true)
            }
            _ => Ok(self.mismatch::<()>(node, go_type)?.is_some()),
        }
    }

    /// The pairs of a free mapping, with merged ones in their place and repeated keys reported.
    pub(crate) fn pairs<T>(
        &mut self,
        node: &Node,
        go_type: &str,
        value: &mut PairReader<'_, T>,
    ) -> Decoded<Vec<(Vec<u8>, T)>> {
        let mut pairs: Vec<(Vec<u8>, T)> = Vec::new();
        match &node.kind {
            _ if node.is_nothing() => {}
            Kind::Map(_) => self.collect_pairs(node, value, &mut pairs)?,
            _ => return self.mismatch(node, go_type),
        }
        Ok(Some(pairs))
    }

    fn collect_pairs<T>(
        &mut self,
        node: &Node,
        value: &mut PairReader<'_, T>,
        pairs: &mut Vec<(Vec<u8>, T)>,
    ) -> Result<(), Issue> {
        let Kind::Map(entries) = &node.kind else {
            let Kind::List(items) = &node.kind else {
                return Err(Issue::new(
                    node.pos,
                    "yaml: map merge requires map or sequence of maps as the value",
                ));
            };
            return items.iter().rev().try_for_each(|item| self.collect_pairs(item, value, pairs));
        };
        let mut merges = Vec::new();
        let mut seen: Vec<(Vec<u8>, u32)> = Vec::new();
        for (key, node) in entries {
            if key.is_merge_key() {
                match self.dialect {
                    Dialect::V2 => self.collect_pairs(node, value, pairs)?,
                    Dialect::V3 => merges.push(node),
                }
                continue;
            }
            let Some((name, item)) = value(self, key, node)? else { continue };
            if let Some(&(_, line)) = seen.iter().find(|(n, _)| *n == name)
                && self.dialect == Dialect::V3
            {
                self.note(
                    key.pos,
                    &format!("mapping key {} already defined at line {line}", go_quote(&name)),
                );
            } else if self.dialect == Dialect::V2 && pairs.iter().any(|(n, _)| *n == name) {
                self.note(key.pos, &format!("key {} already set in map", go_quote(&name)));
            } else {
                seen.push((name.clone(), key.pos.line));
                pairs.retain(|(n, _)| *n != name);
                pairs.push((name, item));
            }
        }
        for node in merges {
            let mut merged = Vec::new();
            self.collect_pairs(node, value, &mut merged)?;
            merged.retain(|(name, _)| !pairs.iter().any(|(n, _)| n == name));
            pairs.append(&mut merged);
        }
        Ok(())
    }

    /// The bytes of a scalar into which any scalar fits; `!!binary` is decoded.
    pub(crate) fn bytes(&mut self, node: &Node) -> Decoded<Vec<u8>> {
        self.bytes_as(node, "string")
    }

    /// A text whose type has a name of its own in Go.
    pub(crate) fn text_as(&mut self, node: &Node, go_type: &str) -> Decoded<String> {
        let Some(bytes) = self.bytes_as(node, go_type)? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(e) => {
                let shown = go_quote(e.as_bytes());
                Err(Issue::new(node.pos, format!("binary value {shown} is not valid UTF-8")))
            }
        }
    }

    fn bytes_as(&mut self, node: &Node, go_type: &str) -> Decoded<Vec<u8>> {
        let Kind::Scalar(scalar) = &node.kind else { return self.mismatch(node, go_type) };
        if scalar.tag.as_deref() == Some("!!binary") {
            return match STANDARD.decode(scalar.text.replace(['\n', '\r'], "")) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(_) => Err(Issue::new(node.pos, "yaml: !!binary value contains invalid base64 data")),
            };
        }
        let is_null = node.is_null() || scalar::resolve(scalar) == Value::Null;
        Ok(Some(if is_null { Vec::new() } else { scalar.text.clone().into_bytes() }))
    }
}

impl Node {
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Null in any spelling; only the usual ones skip a type's own reading.
    pub(crate) fn is_nothing(&self) -> bool {
        self.is_null() || self.scalar().is_some_and(|scalar| scalar::resolve(scalar) == Value::Null)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }
}

impl Decode for String {
    const GO_TYPE: &'static str = "string";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        decoder.text_as(node, Self::GO_TYPE)
    }
}

impl Decode for Secret {
    const GO_TYPE: &'static str = "config.plain";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        Ok(decoder.text_as(node, Self::GO_TYPE)?.map(Self::new))
    }
}

impl Decode for Vec<Secret> {
    const GO_TYPE: &'static str = "[]config.Secret";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut out = Self::new();
        let is_list = decoder.items(node, Self::GO_TYPE, &mut |decoder, item| {
            out.extend(Secret::decode(decoder, item)?);
            Ok(())
        })?;
        Ok(is_list.then_some(out))
    }
}

impl Decode for bool {
    const GO_TYPE: &'static str = "bool";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        match node.scalar().map(scalar::resolve) {
            Some(Value::Bool(v)) => Ok(Some(v)),
            Some(Value::Null) => Ok(Some(false)),
            _ => decoder.mismatch(node, Self::GO_TYPE),
        }
    }
}

impl Decode for i64 {
    const GO_TYPE: &'static str = "int";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        decoder.int_as(node, Self::GO_TYPE)
    }
}

impl Decode for u64 {
    const GO_TYPE: &'static str = "uint";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        decoder.uint_as(node, Self::GO_TYPE)
    }
}

impl Decoder {
    /// A number whose type has a name of its own in Go.
    pub(crate) fn int_as(&mut self, node: &Node, go_type: &str) -> Decoded<i64> {
        match node.scalar().map(scalar::resolve) {
            Some(Value::Int(v)) => Ok(Some(v)),
            Some(Value::Null) => Ok(Some(0)),
            Some(Value::Float(v)) if v.abs() < 9.2e18 => Ok(Some(truncated(v))),
            _ => self.mismatch(node, go_type),
        }
    }

    /// As [`Decoder::int_as`].
    pub(crate) fn uint_as(&mut self, node: &Node, go_type: &str) -> Decoded<u64> {
        match node.scalar().map(scalar::resolve) {
            Some(Value::Int(v)) if v >= 0 => Ok(Some(v.unsigned_abs())),
            Some(Value::Uint(v)) => Ok(Some(v)),
            Some(Value::Null) => Ok(Some(0)),
            Some(Value::Float(v)) if (0.0..9.2e18).contains(&v) => Ok(Some(truncated(v).unsigned_abs())),
            _ => self.mismatch(node, go_type),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "callers have checked the range; fractions are cut as Go does"
)]
fn truncated(v: f64) -> i64 {
    v as i64
}

impl Decode for f64 {
    const GO_TYPE: &'static str = "float64";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        match node.scalar().map(scalar::resolve) {
            Some(Value::Int(v)) => Ok(Some(v as Self)),
            Some(Value::Uint(v)) => Ok(Some(v as Self)),
            Some(Value::Float(v)) => Ok(Some(v)),
            Some(Value::Null) => Ok(Some(0.0)),
            _ => decoder.mismatch(node, Self::GO_TYPE),
        }
    }
}

impl Decode for Vec<String> {
    const GO_TYPE: &'static str = "[]string";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut out = Self::new();
        let is_list = decoder.items(node, Self::GO_TYPE, &mut |decoder, item| {
            out.extend(String::decode(decoder, item)?);
            Ok(())
        })?;
        Ok(is_list.then_some(out))
    }
}

impl Decode for BTreeMap<String, String> {
    const GO_TYPE: &'static str = "map[string]string";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        decode_map(decoder, node, Self::GO_TYPE)
    }
}

fn decode_map<T: Decode>(decoder: &mut Decoder, node: &Node, go_type: &str) -> Decoded<BTreeMap<String, T>> {
    let pairs = decoder.pairs(node, go_type, &mut |decoder, key, value| {
        let Some(key) = String::decode(decoder, key)? else { return Ok(None) };
        Ok(T::decode(decoder, value)?.map(|value| (key.into_bytes(), value)))
    })?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the key was decoded as text");
    Ok(pairs.map(|pairs| pairs.into_iter().map(|(key, value)| (text(key), value)).collect()))
}
