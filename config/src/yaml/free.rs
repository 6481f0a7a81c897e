//! Values of any shape, which are passed on to somebody else: kept as they are printed and as JSON.
//!
//! Compat: go.yaml.in/yaml/v2 decoding into `interface{}`.

use serde_json::Value as Json;

use super::decode::Dialect;
use super::scalar::{self, Value};
use super::tree::Kind;
use super::{Decoded, Decoder, Node, Out};

/// The JSON of a YAML text; `None` if it is none. Of a mapping only the names that are text stay, and the last of two that
/// are equal.
///
/// Compat: go.yaml.in/yaml/v2 `Unmarshal` into `interface{}`, as alertmanager `template` uses it.
pub fn parse(text: &str) -> Option<Json> {
    let document = super::tree::parse(text).ok()?;
    document.root.as_ref().map_or(Some(Json::Null), |node| shape(&mut Decoder::new(Dialect::V2), node))
}

fn shape(decoder: &mut Decoder, node: &Node) -> Option<Json> {
    Some(match &node.kind {
        Kind::List(items) => {
            Json::Array(items.iter().map(|item| shape(decoder, item)).collect::<Option<_>>()?)
        }
        Kind::Map(pairs) => {
            let mut fields = serde_json::Map::new();
            for (name, value) in pairs {
                let value = shape(decoder, value)?;
                if let Some(Json::String(name)) = shape(decoder, name) {
                    fields.insert(name, value);
                }
            }
            Json::Object(fields)
        }
        Kind::Scalar(_) => decode(decoder, node).ok()??.json,
    })
}

/// A value as YAML and as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Free {
    pub(crate) printed: Out,
    pub(crate) json: Json,
}

/// The pairs of a mapping with text for keys and anything for values; null is an empty one.
pub(crate) fn decode_map(decoder: &mut Decoder, node: &Node, go_type: &str) -> Decoded<Vec<(String, Free)>> {
    let pairs = decoder.pairs(node, go_type, &mut |decoder, key, value| {
        let Some(name) = decoder.text_as(key, "string")? else { return Ok(None) };
        Ok(decode(decoder, value)?.map(|value| (name.into_bytes(), value)))
    })?;
    let text = |name: Vec<u8>| String::from_utf8(name).expect("the name was decoded as text");
    Ok(pairs.map(|pairs| pairs.into_iter().map(|(name, value)| (text(name), value)).collect()))
}

pub(crate) fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Free> {
    let raw = |text: &str, json: Json| Free { printed: Out::Raw(text.to_owned()), json };
    Ok(Some(match &node.kind {
        Kind::List(items) => {
            let mut all = Vec::new();
            for item in items {
                all.extend(decode(decoder, item)?);
            }
            let (printed, json) = all.into_iter().map(|item| (item.printed, item.json)).unzip();
            Free { printed: Out::List(printed), json: Json::Array(json) }
        }
        Kind::Map(_) => {
            let Some(pairs) = decode_map(decoder, node, "map[interface {}]interface {}")? else {
                return Ok(None);
            };
            let json = pairs.iter().map(|(key, value)| (key.clone(), value.json.clone())).collect();
            let printed = Out::sorted(pairs.into_iter().map(|(key, value)| (key, value.printed)));
            Free { printed, json: Json::Object(json) }
        }
        Kind::Scalar(scalar) => match scalar::resolve(scalar) {
            Value::Null => raw("null", Json::Null),
            Value::Bool(v) => raw(if v { "true" } else { "false" }, Json::Bool(v)),
            Value::Int(v) => raw(&v.to_string(), Json::from(v)),
            Value::Uint(v) => raw(&v.to_string(), Json::from(v)),
            // What is not finite has no JSON and becomes null there.
            Value::Float(v) => raw(&super::emit::float(v), Json::from(v)),
            Value::Text | Value::Merge => {
                let Some(text) = decoder.text_as(node, "string")? else { return Ok(None) };
                Free { printed: Out::Text(text.clone()), json: Json::String(text) }
            }
        },
    }))
}
