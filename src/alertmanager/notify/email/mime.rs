//! The form of an e-mail: headers, encoded words, parts. It knows nothing of alerts.
//!
//! Whatever text comes in, lines stay below 998 bytes of ASCII and a value cannot become a header or a
//! part: line breaks are gone before a header is written, and bodies are encoded.
//!
//! Compat: Go `mime`, `WordEncoder` with Q: unfolded, our unstructured headers are the same bytes.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::message::Body;
use lettre::message::header::ContentTransferEncoding;

/// A header's value is cut beyond this many characters.
const HEADER_CHARS_MAX: usize = 2_000;
/// Lines of headers are folded where they would be longer.
const LINE_BYTES: usize = 78;
/// A word without blanks that is longer is encoded, for a line must not reach 998 bytes.
const WORD_BYTES_MAX: usize = 400;
/// RFC 2047, 2.
const ENCODED_WORD_BYTES_MAX: usize = 75;

/// Text that fits in one line: control characters and line separators are blanks.
pub(super) fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}';
    let cleaned = text.chars().map(|c| if is_break(c) { ' ' } else { c });
    cleaned.take(HEADER_CHARS_MAX).collect::<String>().trim().to_owned()
}

/// An unstructured header such as the subject.
pub(super) fn header(name: &str, value: &str) -> String {
    let value = one_line(value);
    let is_plain = value.bytes().all(|b| (b' '..=b'~').contains(&b))
        // What looks like an encoded word would be read as one.
        && !value.contains("=?")
        && value.split(' ').all(|word| word.len() <= WORD_BYTES_MAX);
    let words: Vec<_> = if is_plain {
        value.split(' ').map(str::to_owned).collect()
    } else {
        encode_words(&value, |b| b != b'=' && b != b'?' && b != b'_' && b.is_ascii_graphic())
    };
    fold(name, &words)
}

/// A header of words that are in order already; the name and a line of `LINE_BYTES` where that is possible.
pub(super) fn fold(name: &str, words: &[String]) -> String {
    let mut out = format!("{name}:");
    let mut line = out.len();
    for (i, word) in words.iter().enumerate() {
        // Blanks at the end of a line, as of an empty word, would be lost.
        if i > 0 && line + 1 + word.len() > LINE_BYTES && !word.is_empty() {
            out.push_str("\r\n");
            line = 0;
        }
        out.push(' ');
        out.push_str(word);
        line += 1 + word.len();
    }
    out.push_str("\r\n");
    out
}

/// `text` as Q-encoded words, none of which splits a character. Bytes that are not `plain` are encoded.
fn encode_words(text: &str, plain: fn(u8) -> bool) -> Vec<String> {
    const OPEN: &str = "=?utf-8?q?";
    const CLOSE: &str = "?=";
    let mut words = Vec::new();
    let mut word = OPEN.to_owned();
    for c in text.chars() {
        let mut bytes = [0; 4];
        let mut encoded = String::new();
        for b in c.encode_utf8(&mut bytes).bytes() {
            match b {
                b' ' => encoded.push('_'),
                b if plain(b) => encoded.push(char::from(b)),
                // Writing to a string cannot fail.
                b => drop(write!(encoded, "={b:02X}")),
            }
        }
        if word.len() + encoded.len() + CLOSE.len() > ENCODED_WORD_BYTES_MAX {
            words.push(std::mem::replace(&mut word, OPEN.to_owned()) + CLOSE);
        }
        word.push_str(&encoded);
    }
    words.push(word + CLOSE);
    words
}

/// The words of a display name, as they may stand before an address.
pub(super) fn phrase(name: &str) -> Vec<String> {
    let name = one_line(name);
    let is_atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    if name.len() > 60 || !name.bytes().all(|b| (b' '..=b'~').contains(&b)) || name.contains("=?") {
        return encode_words(&name, |b| b.is_ascii_alphanumeric() || b"!*+-/".contains(&b));
    }
    if !name.is_empty() && name.bytes().all(is_atom) {
        return vec![name];
    }
    vec![format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))]
}

/// Whether `name` can be the name of a header.
pub(super) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 76 && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

// === Parts ===

/// A part with its headers, or the parts of a whole.
#[derive(Debug)]
pub(super) struct Part {
    /// The value of `Content-Type`.
    pub(super) kind: String,
    /// Other headers, each a line or more.
    headers: String,
    body: Vec<u8>,
}

impl Part {
    /// Text of any kind, quoted-printable.
    pub(super) fn text(subtype: &str, text: String) -> Self {
        let encoding = ContentTransferEncoding::QuotedPrintable;
        let body = Body::new_with_encoding(text, encoding)
            // Quoted-printable takes any text.
            .unwrap_or_else(Body::new);
        Self {
            kind: format!("text/{subtype}; charset=UTF-8"),
            headers: "Content-Transfer-Encoding: quoted-printable\r\n".to_owned(),
            body: body.into_vec(),
        }
    }

    /// A picture that HTML names `cid:<cid>`; `cid` is clean.
    pub(super) fn png(cid: &str, png: &[u8], alt: &str) -> Self {
        let file = cid.split('@').next().unwrap_or(cid);
        let mut headers = format!(
            "Content-Transfer-Encoding: base64\r\nContent-ID: <{cid}>\r\n\
             Content-Disposition: inline;\r\n filename=\"{file}.png\"\r\n"
        );
        if !alt.is_empty() {
            headers.push_str(&header("Content-Description", alt));
        }
        let text = BASE64.encode(png);
        let mut body = Vec::with_capacity(text.len() + text.len() / 38);
        for line in text.as_bytes().chunks(76) {
            body.extend_from_slice(line);
            body.extend_from_slice(b"\r\n");
        }
        Self { kind: "image/png".to_owned(), headers, body }
    }

    /// `multipart/<subtype>`. No part contains `boundary`, for its bodies are encoded and its `=_` is not
    /// what an encoding writes.
    pub(super) fn multipart(subtype: &str, boundary: &str, parts: &[Self]) -> Self {
        let mut kind = format!("multipart/{subtype};");
        if subtype == "related"
            && let Some(root) = parts.first()
        {
            let root = root.kind.split(';').next().unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = write!(kind, " type=\"{root}\";");
        }
        let _ = write!(kind, "\r\n boundary=\"{boundary}\"");
        let mut body = Vec::with_capacity(parts.iter().map(|part| part.body.len() + 500).sum());
        for part in parts {
            body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            body.extend_from_slice(&part.to_bytes());
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Self { kind, headers: String::new(), body }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("Content-Type: {}\r\n{}\r\n", self.kind, self.headers).into_bytes();
        out.extend_from_slice(&self.body);
        out
    }

    /// The body alone, for the outermost part: its headers are among those of the message.
    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }
}

/// `html` with `suffix` behind each of the image names `cids` in a `src`, which makes them unique.
pub(super) fn rename_images(html: &str, cids: &[&str], suffix: &str) -> String {
    const SRC: &str = "src=\"cid:";
    let mut out = String::with_capacity(html.len() + 64);
    let mut rest = html;
    while let Some(at) = rest.find(SRC) {
        let (before, after) = rest.split_at(at + SRC.len());
        let cid = after.split('"').next().unwrap_or_default();
        out.push_str(before);
        out.push_str(cid);
        if cids.contains(&cid) {
            out.push_str(suffix);
        }
        rest = &after[cid.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_go_when_unfolded() {
        let unfolded = |value: &str| header("X", value).replace("\r\n ", " ");
        assert_eq!(unfolded("[FIRING:1] plain"), "X: [FIRING:1] plain\r\n");
        assert_eq!(unfolded("Dówn_a=b?c d"), "X: =?utf-8?q?D=C3=B3wn=5Fa=3Db=3Fc_d?=\r\n");
        // Seen from Go's `mime.QEncoding.Encode("utf-8", strings.Repeat("ü", 20))`.
        let ten = "=C3=BC".repeat(10);
        assert_eq!(unfolded(&"ü".repeat(20)), format!("X: =?utf-8?q?{ten}?= =?utf-8?q?{ten}?=\r\n"));
        assert_eq!(unfolded("a\r\nBcc: b\u{2028}c\0d"), "X: a  Bcc: b c d\r\n");
        assert_eq!(unfolded("=?utf-8?q?x?="), "X: =?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=\r\n");
    }

    #[test]
    fn lines_of_headers_are_short() {
        for value in ["word ".repeat(300), "w".repeat(1_999), "\u{1f4a5}".repeat(1_000), "  ".repeat(900)] {
            let header = header("Subject", &value);
            assert!(header.lines().all(|line| line.len() <= 500 && !line.trim().is_empty()), "{header}");
            assert!(header.ends_with("\r\n") && header.matches("\r\n").count() == header.lines().count());
        }
        let cut = header("S", &"x".repeat(9_000));
        assert!(cut.len() < 2_000 * 3 && cut.is_ascii());
    }

    #[test]
    fn names_before_addresses_are_quoted_or_encoded() {
        assert_eq!(phrase("Ops"), ["Ops"]);
        assert_eq!(phrase("Ops \"A\" Team"), [r#""Ops \"A\" Team""#]);
        assert_eq!(phrase("Jörg <x>"), ["=?utf-8?q?J=C3=B6rg_=3Cx=3E?="]);
    }

    #[test]
    fn only_images_of_the_message_are_renamed() {
        let html = r#"<img src="cid:g1"> cid:g1 <img src="cid:g10"><img src="cid:other">"#;
        let renamed = rename_images(html, &["g1", "g10"], ".7@h");
        assert_eq!(renamed, r#"<img src="cid:g1.7@h"> cid:g1 <img src="cid:g10.7@h"><img src="cid:other">"#);
    }
}
