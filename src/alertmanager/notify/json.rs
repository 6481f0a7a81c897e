//! JSON as Go's encoder writes it, so that a service or a proxy in between sees the bytes that it is used to.
//!
//! Compat: Go `encoding/json`, `Encoder.Encode`.

use std::io::{self, Write};

use model::number;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// One value and the end of the line.
pub(super) fn encode(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut out, Go))?;
    out.push(b'\n');
    Ok(out)
}

/// Escapes what means something in HTML, and prints whole floats without a point.
struct Go;

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut begin = 0;
        for (at, c) in fragment.char_indices() {
            if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
                out.write_all(&fragment.as_bytes()[begin..at])?;
                write!(out, "\\u{:04x}", c as u32)?;
                begin = at + c.len_utf8();
            }
        }
        out.write_all(&fragment.as_bytes()[begin..])
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(number::format_json(value).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn json_is_written_as_go_writes_it() {
        let value = serde_json::json!({"b": "<a href='x'>&\u{2028}\"\n\u{8}\u{1f}é</a>", "a": [1.0, 2.5, 1e21, 3, null]});
        let text = String::from_utf8(encode(&value).unwrap()).unwrap();
        let expected = r#"{"a":[1,2.5,1e+21,3,null],"b":"\u003ca href='x'\u003e\u0026\u2028\"\n\b\u001fé\u003c/a\u003e"}"#;
        assert_eq!(text, format!("{expected}\n"));
    }
}
