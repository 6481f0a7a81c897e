//! Answers as bytes: append-only writers, no intermediate tree for what is large. What may be very large is a
//! [`Source`], which writes a bit at a time.
//!
//! Label sets of results are written raw, every other string with `<`, `>`, `&` escaped, as Go's encoder does.
//!
//! Compat: prometheus `util/jsonutil` and `web/api/v1/json_codec.go`.

mod stats;
mod value;

use std::io;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::stream::Source;

pub use stats::write_stats;
pub(crate) use value::QueryData;
pub use value::write_exemplars;

/// An `application/json` answer.
pub fn response(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

const OPENING: &[u8] = b"{\"status\":\"success\",\"data\":";

/// `{"status":"success","data":...}` around what `data` appends, warnings and infos behind it.
pub fn success(data: impl FnOnce(&mut Vec<u8>), warnings: &[String], infos: &[String]) -> Response {
    let mut body = Vec::with_capacity(1024);
    body.extend_from_slice(OPENING);
    data(&mut body);
    close(&mut body, warnings, infos);
    response(StatusCode::OK, body)
}

fn close(out: &mut Vec<u8>, warnings: &[String], infos: &[String]) {
    for (key, texts) in [("warnings", warnings), ("infos", infos)] {
        if !texts.is_empty() {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            write_serialized(out, texts);
        }
    }
    out.push(b'}');
}

/// The same as [`success`] around data that is written bit by bit.
pub(crate) struct Success<S> {
    is_open: bool,
    data: S,
    /// All behind the data.
    rest: Vec<u8>,
}

impl<S: Source> Success<S> {
    pub(crate) fn new(data: S, warnings: &[String], infos: &[String]) -> Self {
        let mut rest = Vec::new();
        close(&mut rest, warnings, infos);
        Self { is_open: false, data, rest }
    }
}

impl<S: Source> Source for Success<S> {
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        if !self.is_open {
            out.extend_from_slice(OPENING);
            self.is_open = true;
        }
        if self.data.write_some(out, until) {
            return true;
        }
        out.append(&mut self.rest);
        false
    }
}

/// Appends `value` as Go's encoder would write it.
pub fn write_serialized<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let mut serializer = serde_json::Serializer::with_formatter(out, HtmlSafe::default());
    value.serialize(&mut serializer).expect("a view has string keys and a Vec takes every write");
}

/// Appends `text` as a JSON string with `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    write_serialized(out, String::from_utf8_lossy(text).as_ref());
}

/// Appends `text` as a JSON string, only what JSON itself demands escaped; bytes that are not UTF-8 are replaced.
pub fn write_raw(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(i) = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\') {
            out.extend_from_slice(&rest[..i]);
            match rest[i] {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                b => out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
            }
            rest = &rest[i + 1..];
        }
        out.extend_from_slice(rest);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends a list by writing each item with `write`.
pub fn write_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Appends a label set as an object, raw.
pub fn write_labels(out: &mut Vec<u8>, labels: &model::Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_raw(out, name);
        out.push(b':');
        write_raw(out, value);
    }
    out.push(b'}');
}

/// Keys of label sets in the views, which Prometheus writes with its own encoder: nothing escaped for HTML.
const LABEL_SETS: [&str; 4] = ["annotations", "discoveredLabels", "labels", "target"];

/// Go's `encoding/json`: HTML characters and the two line separators escaped on top of JSON's own, floats
/// without a needless fraction.
#[derive(Default)]
struct HtmlSafe {
    depth: usize,
    is_key: bool,
    /// The key read last names a label set.
    is_label_set: bool,
    /// The depth of the label set that is being written.
    raw_from: Option<usize>,
}

impl serde_json::ser::Formatter for HtmlSafe {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.is_key = true;
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_key = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.is_label_set && self.raw_from.is_none() {
            self.raw_from = Some(self.depth);
        }
        self.is_label_set = false;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.raw_from == Some(self.depth) {
            self.raw_from = None;
        }
        self.depth -= 1;
        writer.write_all(b"}")
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, v: f64) -> io::Result<()> {
        writer.write_all(model::number::format_json(v).replace("e-0", "e-").as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.raw_from.is_some() {
            return writer.write_all(fragment.as_bytes());
        }
        if self.is_key {
            self.is_label_set = LABEL_SETS.contains(&fragment);
        }
        let mut rest = fragment;
        while let Some(i) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..i])?;
            let c = rest[i..].chars().next().expect("find gave the start of a character");
            write!(writer, "\\u{:04x}", c as u32)?;
            rest = &rest[i + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests;
