//! Go's `%q` of a string: the quoting of every message, matcher and label set that users compare with upstream's.

use std::fmt::Write;
use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};

/// Two lowercase digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

/// `bytes` in double quotes with Go's escapes; bytes that are not UTF-8 become `\xHH`.
/// Compat: Go `strconv.Quote`.
pub fn go_quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if (c as u32) < 0x20 || c == '\x7f' => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if is_printable(c) => out.push(c),
        c if (c as u32) < 0x1_0000 => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\U{:08x}", c as u32);
        }
    }
}

/// The letters, marks, numbers, punctuation and symbols of Unicode 15, whose tables Go has.
static VISIBLE: LazyLock<ClassUnicode> = LazyLock::new(|| {
    let hir = regex_syntax::parse(r"[\pL\pM\pN\pP\pS&&\p{age=15.0}]").expect("the class is well formed");
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => class,
        kind => unreachable!("BUG: a class was read as {kind:?}"),
    }
});

/// Compat: Go 1.26 `unicode.IsPrint`.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let ranges = VISIBLE.ranges();
    let at = ranges.partition_point(|range| range.end() < c);
    ranges.get(at).is_some_and(|range| range.start() <= c)
}

#[cfg(test)]
mod tests {
    use super::go_quote;

    #[test]
    fn quotes_as_go() {
        assert_eq!(go_quote(b"a\"b\\c\n\x01\xff"), r#""a\"b\\c\n\x01\xff""#);
        // A combining mark, an emoji and a private character.
        assert_eq!(go_quote("e\u{301} 😀 \u{e000} ก\u{e34}".as_bytes()), "\"e\u{301} 😀 \\ue000 ก\u{e34}\"");
        assert_eq!(go_quote("ü 日 \u{a0}\u{200b}'".as_bytes()), "\"ü 日 \\u00a0\\u200b'\"");
    }

    /// Go 1.26 counts as many above ASCII; the two sets were compared and are one.
    #[test]
    fn as_many_characters_are_printable_as_in_go() {
        assert_eq!(('\u{80}'..=char::MAX).filter(|&c| super::is_printable(c)).count(), 148_903);
    }
}
