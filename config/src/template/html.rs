//! Contextual escaping: what an HTML template prints cannot leave the place it is printed at.
//!
//! The tracker reads the template's own text as a browser would and knows at every action whether the
//! value stands in element text, in an attribute (of which kind, in which quotes), in a script, a style
//! or a comment. Upstream derives the same contexts when it parses; following the output instead needs
//! no second pass and is exact on every path.
//!
//! Compat: Go `html/template` (escapers' output; contexts it refuses at parse time are escaped strictly).

use std::fmt::Write;

use super::format;
use super::value::{Trust, Value};

/// What Go prints in place of a value that is not safe in its context.
const UNSAFE: &str = "ZgotmplZ";
/// Tag and attribute names longer than this are cut: only short ones have a meaning here.
const NAME_MAX: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind `<`, `</` or within the name.
    TagName,
    /// Between attributes.
    Tag,
    AttrName,
    /// Behind the name, before a `=`.
    AfterName,
    BeforeValue,
    Value(Quote),
    Comment,
    /// Within a script, style, textarea or title.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    Double,
    Single,
    None,
}

/// What an attribute's value means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Plain,
    Url,
    Script,
    Style,
}

/// How far a URL attribute has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UrlPart {
    #[default]
    Start,
    BeforeQuery,
    Query,
}

/// Follows the output of an HTML template.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    state: State,
    tag: String,
    attr: String,
    is_closing: bool,
    kind: Kind,
    url: UrlPart,
    /// The last bytes in a comment or raw text, to see its end.
    tail: String,
    /// The quote of the string literal that the text of a script has open.
    literal: Option<char>,
    escaped: bool,
}

const RAW_TAGS: [&str; 4] = ["script", "style", "textarea", "title"];

impl Tracker {
    /// Writes text of the template; comments are dropped as upstream does.
    pub(super) fn write_text(&mut self, out: &mut String, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if self.state == State::Text && rest.starts_with("<!--") {
                self.state = State::Comment;
                rest = &rest[4..];
                continue;
            }
            if self.state == State::Comment {
                match rest.find("-->") {
                    Some(end) => {
                        rest = &rest[end + 3..];
                        self.state = State::Text;
                        continue;
                    }
                    None => return,
                }
            }
            let was_text = self.state == State::Text;
            self.advance(c, &rest[c.len_utf8()..]);
            // A `<` that opens nothing here must not open anything together with what follows.
            if c == '<' && was_text && self.state == State::Text {
                out.push_str("&lt;");
            } else {
                out.push(c);
            }
            rest = &rest[c.len_utf8()..];
        }
    }

    fn advance(&mut self, c: char, after: &str) {
        match self.state {
            State::Text => {
                let opens = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
                if c == '<' && opens {
                    self.state = State::TagName;
                    self.tag.clear();
                    self.is_closing = false;
                }
            }
            State::TagName => match c {
                '>' => self.close_tag(),
                '/' if self.tag.is_empty() => self.is_closing = true,
                c if c.is_ascii_whitespace() || c == '/' => self.state = State::Tag,
                c => push_name(&mut self.tag, c),
            },
            State::Tag => match c {
                '>' => self.close_tag(),
                c if c.is_ascii_whitespace() || c == '/' => {}
                c => {
                    self.attr.clear();
                    push_name(&mut self.attr, c);
                    self.state = State::AttrName;
                }
            },
            State::AttrName | State::AfterName => match c {
                '>' => self.close_tag(),
                '=' => self.begin_value(),
                c if c.is_ascii_whitespace() => self.state = State::AfterName,
                '/' => self.state = State::Tag,
                c if self.state == State::AfterName => {
                    self.attr.clear();
                    push_name(&mut self.attr, c);
                    self.state = State::AttrName;
                }
                c => push_name(&mut self.attr, c),
            },
            State::BeforeValue => match c {
                '"' => self.state = State::Value(Quote::Double),
                '\'' => self.state = State::Value(Quote::Single),
                '>' => self.close_tag(),
                c if c.is_ascii_whitespace() => {}
                c => {
                    self.state = State::Value(Quote::None);
                    self.advance_value(c);
                }
            },
            State::Value(Quote::Double) if c == '"' => self.state = State::Tag,
            State::Value(Quote::Single) if c == '\'' => self.state = State::Tag,
            State::Value(Quote::None) if c == '>' => self.close_tag(),
            State::Value(Quote::None) if c.is_ascii_whitespace() => self.state = State::Tag,
            State::Value(_) => self.advance_value(c),
            State::Raw => {
                self.advance_literal(c);
                self.tail.push(c.to_ascii_lowercase());
                if self.tail.ends_with(&format!("</{}", self.tag)) {
                    self.state = State::TagName;
                    self.is_closing = true;
                    self.literal = None;
                } else if self.tail.len() > 4 * NAME_MAX {
                    let mut cut = self.tail.len() - NAME_MAX;
                    while !self.tail.is_char_boundary(cut) {
                        cut += 1;
                    }
                    self.tail.drain(..cut);
                }
            }
            State::Comment => {}
        }
    }

    fn advance_value(&mut self, c: char) {
        match self.kind {
            Kind::Url => {
                self.url = match (self.url, c) {
                    (UrlPart::Query, _) | (_, '?' | '#') => UrlPart::Query,
                    (UrlPart::Start, c) if c.is_ascii_whitespace() => UrlPart::Start,
                    _ => UrlPart::BeforeQuery,
                }
            }
            Kind::Script => self.advance_literal(c),
            Kind::Plain | Kind::Style => {}
        }
    }

    /// Notes where string literals of a script begin and end.
    fn advance_literal(&mut self, c: char) {
        match self.literal {
            Some(_) if self.escaped => self.escaped = false,
            Some(_) if c == '\\' => self.escaped = true,
            Some(quote) if c == quote => self.literal = None,
            None if matches!(c, '"' | '\'' | '`') => self.literal = Some(c),
            _ => {}
        }
    }

    fn close_tag(&mut self) {
        let is_raw = !self.is_closing && RAW_TAGS.contains(&self.tag.as_str());
        self.state = if is_raw { State::Raw } else { State::Text };
        self.tail.clear();
        self.literal = None;
        self.escaped = false;
    }

    fn begin_value(&mut self) {
        self.state = State::BeforeValue;
        self.kind = attr_kind(&self.attr);
        self.url = UrlPart::Start;
        self.literal = None;
        self.escaped = false;
    }

    /// Writes a value, escaped for the place it stands at.
    pub(super) fn write_value(&mut self, out: &mut String, value: &Value) {
        let text = format::display(value);
        match self.state {
            State::Text => match value {
                // Trusted markup moves the place, so that what follows is escaped for where it really stands.
                Value::Safe(Trust::Html, markup) => self.write_text(out, markup),
                _ => escape_html(out, &text, false),
            },
            State::Comment => {}
            State::Raw => match self.tag.as_str() {
                "script" => out.push_str(&self.script(value, &text)),
                "style" => out.push_str(style(&text)),
                _ => escape_html(out, &text, false),
            },
            State::TagName | State::Tag | State::AttrName | State::AfterName => {
                let name = name_filter(&text);
                if self.state == State::Tag {
                    self.attr.clear();
                    self.state = State::AttrName;
                }
                name.chars().for_each(|c| push_name(&mut self.attr, c));
                out.push_str(name);
            }
            State::BeforeValue => {
                self.state = State::Value(Quote::None);
                self.write_attr(out, value, &text, true);
            }
            State::Value(quote) => self.write_attr(out, value, &text, quote == Quote::None),
        }
    }

    fn write_attr(&mut self, out: &mut String, value: &Value, text: &str, unquoted: bool) {
        match self.kind {
            Kind::Plain => match value {
                Value::Safe(Trust::Html, markup) => escape_markup(out, &strip_tags(markup), unquoted),
                _ => escape_html(out, text, unquoted),
            },
            Kind::Url => {
                let trusted = matches!(value, Value::Safe(Trust::Url, _));
                let url = match self.url {
                    UrlPart::Start if !trusted && !is_safe_scheme(text) => format!("#{UNSAFE}"),
                    UrlPart::Query if !trusted => url_escape(text, false),
                    _ => url_escape(text, true),
                };
                if self.url == UrlPart::Start && !text.is_empty() {
                    self.url = UrlPart::BeforeQuery;
                }
                escape_html(out, &url, unquoted);
            }
            Kind::Script => {
                let script = self.script(value, text);
                escape_html(out, &script, unquoted);
            }
            Kind::Style => escape_html(out, style(text), unquoted),
        }
    }

    /// A value of a script: within a string literal its characters, elsewhere JSON.
    fn script(&self, value: &Value, text: &str) -> String {
        if self.literal.is_some() {
            return text.chars().fold(String::new(), |mut out, c| {
                match c {
                    c if c.is_ascii_alphanumeric() || " ,._:;()[]!@*%^~|".contains(c) => out.push(c),
                    c if !c.is_ascii() && !matches!(c, '\u{2028}' | '\u{2029}') => out.push(c),
                    '\\' => out.push_str("\\\\"),
                    c => {
                        let _ = write!(out, "\\u{:04x}", c as u32);
                    }
                }
                out
            });
        }
        let json = value.to_json().to_string();
        let mut out = String::with_capacity(json.len());
        for c in json.chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", c as u32);
                }
                c => out.push(c),
            }
        }
        // Numbers and words must not grow together with the text around them.
        if out.starts_with('"') || out.starts_with(['{', '[']) { out } else { format!(" {out} ") }
    }
}

fn push_name(name: &mut String, c: char) {
    if name.len() < NAME_MAX {
        name.push(c.to_ascii_lowercase());
    }
}

fn attr_kind(name: &str) -> Kind {
    let local = match name.split_once(':') {
        Some(("xmlns", _)) => return Kind::Url,
        Some((_, local)) => local,
        None => name.strip_prefix("data-").unwrap_or(name),
    };
    match local {
        "href" | "src" | "action" | "formaction" | "cite" | "poster" | "background" | "longdesc"
        | "usemap" | "codebase" | "data" | "icon" | "manifest" | "classid" | "profile" | "archive"
        | "srcset" | "ping" | "xmlns" => Kind::Url,
        "style" => Kind::Style,
        "srcdoc" => Kind::Plain,
        local if local.starts_with("on") => Kind::Script,
        local if local.contains("src") || local.contains("uri") || local.contains("url") => Kind::Url,
        _ => Kind::Plain,
    }
}

/// Only a plain name may be printed where a name stands.
fn name_filter(text: &str) -> &str {
    let is_plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && attr_kind(&text.to_ascii_lowercase()) == Kind::Plain;
    if is_plain { text } else { UNSAFE }
}

/// A value of a style: words, numbers and colours only.
fn style(text: &str) -> &str {
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || " #%+,-.!_".contains(c));
    let lower = text.to_ascii_lowercase();
    if is_plain && !lower.contains("expression") && !lower.contains("mozbinding") { text } else { UNSAFE }
}

fn is_safe_scheme(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => {
            ["http", "https", "mailto"].iter().any(|safe| scheme.eq_ignore_ascii_case(safe))
        }
        _ => true,
    }
}

/// Percent-encodes; `keep` leaves what has a meaning in URLs, and escapes that are there already.
fn url_escape(url: &str, keep: bool) -> String {
    let bytes = url.as_bytes();
    let mut out = String::with_capacity(url.len());
    for (i, &b) in bytes.iter().enumerate() {
        let is_escape =
            b == b'%' && bytes[i + 1..].get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            b'!' | b'#' | b'$' | b'&' | b'*' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@'
            | b'[' | b']'
                if keep =>
            {
                out.push(char::from(b));
            }
            b'%' if keep && is_escape => out.push('%'),
            b => {
                let _ = write!(out, "%{b:02x}");
            }
        }
    }
    out
}

/// As [`escape_html`], but references that are there stay: trusted markup in an attribute.
fn escape_markup(out: &mut String, markup: &str, unquoted: bool) {
    for (i, part) in markup.split('&').enumerate() {
        out.push_str(if i > 0 { "&" } else { "" });
        if !part.is_empty() {
            escape_html(out, part, unquoted);
        }
    }
}

/// The characters that end or open anything become references; `unquoted` adds those that end a bare value.
fn escape_html(out: &mut String, text: &str, unquoted: bool) {
    if unquoted && text.is_empty() {
        out.push_str(UNSAFE);
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '+' => out.push_str("&#43;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ' | '=' | '`' if unquoted => {
                let _ = write!(out, "&#{};", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// Trusted markup in an attribute keeps its text only.
fn strip_tags(markup: &str) -> String {
    let mut out = String::with_capacity(markup.len());
    let mut depth = 0_usize;
    for c in markup.chars() {
        match c {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}
