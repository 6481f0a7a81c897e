//! YAML as the reference server reads it: a tree with positions, and strict decoding out of it.
//!
//! [`tree`] turns parser events into nodes, [`scalar`] gives plain scalars their types, [`decode`] reports
//! unknown and repeated keys and collects type errors, [`free`] takes values of any shape, [`emit`] prints.
//! Knows no configuration key.
//!
//! Compat: go.yaml.in/yaml/v2 `UnmarshalStrict`, and v3 with `KnownFields` for rule files.

pub(crate) mod decode;
pub(crate) mod emit;
pub(crate) mod free;
pub(crate) mod scalar;
pub(crate) mod tree;

pub(crate) use decode::{Decode, Decoded, Decoder, Issue};
pub(crate) use emit::Out;
pub(crate) use tree::Node;

#[cfg(test)]
mod tests;
