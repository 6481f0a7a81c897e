//! How golden files hold bytes: in Go's quotes, ASCII only.

use std::fmt::Write;

/// Undoes Go's ASCII quoting, in which the golden files hold bytes.
pub(crate) fn unquote(text: &str) -> Vec<u8> {
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).expect("quoted");
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [b, tail @ ..] = rest {
        rest = tail;
        if *b != b'\\' {
            out.push(*b);
            continue;
        }
        let hex = |n: usize| u32::from_str_radix(std::str::from_utf8(&tail[1..=n]).unwrap(), 16).unwrap();
        let used = match tail[0] {
            b'x' => {
                out.push(u8::try_from(hex(2)).unwrap());
                3
            }
            b @ (b'u' | b'U') => {
                let n = if b == b'u' { 4 } else { 8 };
                out.extend_from_slice(char::from_u32(hex(n)).unwrap().to_string().as_bytes());
                n + 1
            }
            b => {
                out.push(match b {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'a' => 7,
                    b'b' => 8,
                    b'v' => 11,
                    b'f' => 12,
                    b => b,
                });
                1
            }
        };
        rest = &rest[used..];
    }
    out
}

/// `bytes` as the golden files hold them.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::new();
    for c in crate::quote::go_quote(bytes).chars() {
        match c {
            c if c.is_ascii() => out.push(c),
            c if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32).unwrap(),
            c => write!(out, "\\U{:08x}", c as u32).unwrap(),
        }
    }
    out
}
