//! The escapers of HTML templates: one for each kind of place that a value can stand at.
//!
//! Compat: Go `html/template` (`html.go`, `css.go`, `js.go`, `url.go`).

use std::fmt::Write;

use super::value::Value;
use super::{format, json};

/// Text of elements and quoted attributes.
pub(super) fn html(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            c => push_markup(&mut out, c),
        }
        out
    })
}

/// As [`html`] for text that is markup already: its references stay.
pub(super) fn html_normalized(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        push_markup(&mut out, c);
        out
    })
}

fn push_markup(out: &mut String, c: char) {
    match c {
        '\0' => out.push('\u{fffd}'),
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        '+' => out.push_str("&#43;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

/// Attributes without quotes: everything that could end the value.
pub(super) fn html_unquoted(text: &str, keeps_references: bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' if !keeps_references => out.push_str("&amp;"),
            '\0' => out.push_str("&#xfffd;"),
            '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ' | '=' | '`' => {
                let _ = write!(out, "&#{};", c as u32);
            }
            '\u{fdd0}'..='\u{fdef}' | '\u{fff0}'..='\u{ffff}' => {
                let _ = write!(out, "&#x{:x};", c as u32);
            }
            c => push_markup(&mut out, c),
        }
    }
    out
}

/// Percent-encodes; `keep` leaves what has a meaning in URLs, and escapes that are there already.
pub(super) fn url(url: &str, keep: bool) -> String {
    let bytes = url.as_bytes();
    let mut out = String::with_capacity(url.len());
    for (i, &b) in bytes.iter().enumerate() {
        let is_escape =
            b == b'%' && bytes[i + 1..].get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let stays = match b {
            b'-' | b'.' | b'_' | b'~' => true,
            b'%' => keep && is_escape,
            b if b"!#$&*+,/:;=?@[]".contains(&b) => keep,
            b => b.is_ascii_alphanumeric(),
        };
        if stays {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02x}");
        }
    }
    out
}

/// Whether following the URL only fetches something: a scheme of the web or of mail, or none.
pub(super) fn is_safe_url(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => {
            ["http", "https", "mailto"].iter().any(|safe| scheme.eq_ignore_ascii_case(safe))
        }
        _ => true,
    }
}

/// A list of images: each with a URL and a size.
pub(super) fn srcset(text: &str, is_trusted: bool, refused: &str) -> String {
    if is_trusted {
        return url(text, true).replace(',', "%2c");
    }
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0c' | '\r');
    let image = |image: &str| {
        let address = image.trim_start_matches(is_blank);
        let blank = &image[..image.len() - address.len()];
        let (address, size) = address.split_at(address.find(is_blank).unwrap_or(address.len()));
        let fits = is_safe_url(address) && size.chars().all(|c| is_blank(c) || c.is_ascii_alphanumeric());
        if fits { format!("{blank}{}{size}", url(address, true)) } else { format!("#{refused}") }
    };
    text.split(',').map(image).collect::<Vec<_>>().join(",")
}

// === Styles ===

fn is_css_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || !c.is_ascii()
}

/// Whether `text` ends with the word `url`.
pub(super) fn ends_with_url(text: &str) -> bool {
    let Some(from) = text.len().checked_sub(3) else { return false };
    text.as_bytes()[from..].eq_ignore_ascii_case(b"url")
        && !text[..from].chars().next_back().is_some_and(is_css_word)
}

/// Text with its escapes resolved.
pub(super) fn css_decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let mut code = 0_u32;
        let mut digits = 0;
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(16)).filter(|_| digits < 6) {
            if code * 16 + digit > u32::from(char::MAX) {
                break;
            }
            code = code * 16 + digit;
            digits += 1;
            chars.next();
        }
        if digits == 0 {
            out.extend(chars.next());
            continue;
        }
        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        if chars.next_if_eq(&'\r').is_some() {
            chars.next_if_eq(&'\n');
        } else {
            let _ = chars.next_if(|c| matches!(c, '\t' | '\n' | '\x0c' | ' '));
        }
    }
    out
}

/// Text of a string in a style.
pub(super) fn css(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\0' | '\t' | '\n' | '\x0c' | '\r' | '"' | '&' | '\'' | '(' | ')' | '+' | '/' | ':' | ';'
            | '<' | '>' | '{' | '}' => {
                let _ = write!(out, "\\{:x}", c as u32);
                // A blank ends the number where what follows would prolong it.
                let ends = chars.peek().is_none_or(|next| {
                    next.is_ascii_hexdigit() || matches!(next, '\t' | '\n' | '\x0c' | '\r' | ' ')
                });
                if ends {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// A value of a style, `None` when it could be more than words, numbers and colours.
pub(super) fn css_value(text: &str) -> Option<String> {
    let text = css_decode(text);
    let is_open = |c| "\0\"'()/;@[\\]`{}<>".contains(c);
    if text.contains(is_open) || text.contains("--") {
        return None;
    }
    let word: String = text.chars().filter(|c| c.is_ascii() && is_css_word(*c)).collect();
    let word = word.to_ascii_lowercase();
    (!word.contains("expression") && !word.contains("mozbinding")).then_some(text)
}

// === Scripts ===

/// What names and numbers of a script are made of.
pub(super) fn is_script_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '$' | '_')
}

/// Text of a literal: `coded` as code points, `signs` behind a backslash.
pub(super) fn script_text(text: &str, coded: &str, signs: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\x0c' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '/' => out.push_str("\\/"),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' || coded.contains(c) || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if signs.contains(c) => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A value in the code of a script: JSON, apart from the words around it.
pub(super) fn script_value(value: &Value) -> String {
    let encoded = match value {
        value if format::has_string(value) && !matches!(value, Value::Time(_)) => {
            json::encode(&format::display(value).into())
        }
        value => json::encode(value),
    };
    let text = match encoded {
        Ok(text) => text,
        Err(e) => return format!(" /* {e} */null "),
    };
    let touches = |c: Option<char>| c.is_some_and(is_script_word);
    if touches(text.chars().next()) || touches(text.chars().next_back()) { format!(" {text} ") } else { text }
}
