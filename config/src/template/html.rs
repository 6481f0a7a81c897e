//! Contextual escaping: what an HTML template prints cannot leave the place it is printed at.
//!
//! The tracker reads the template's own text as a browser would and knows at every action whether the
//! value stands in element text, in an attribute (of which kind, in which quotes), in a script, a style
//! or a comment. Upstream derives the same contexts when it parses; following the output instead needs
//! no second pass and is exact on every path, so nothing is refused because its branches end differently.
//!
//! Compat: Go `html/template` (what its escapers print; not the templates it refuses).

use super::value::{Trust, Value};
use super::{escape, format};

/// What Go prints in place of a value that is not safe in its context.
const UNSAFE: &str = "ZgotmplZ";

/// Where in the document the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    /// Between attributes.
    Tag,
    AttrName,
    AfterName,
    BeforeValue,
    Comment,
    /// Within a textarea or title.
    Raw,
    Attr,
    Url,
    Srcset,
    /// The content of a `meta`, and behind `url=` in there.
    MetaContent,
    MetaUrl,
    Script(Script),
    Style(Style),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Code,
    Str(char),
    Template,
    Regex,
    BlockComment,
    /// A line comment, with the length of the mark it began with.
    LineComment(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Code,
    Str(char),
    QuotedUrl(char),
    Url,
    BlockComment,
    LineComment,
}

impl Place {
    /// How many bytes opened the comment that this is.
    fn comment_mark(self) -> Option<usize> {
        match self {
            Self::Comment => Some(4),
            Self::Script(Script::LineComment(len)) => Some(len),
            Self::Script(Script::BlockComment) | Self::Style(Style::BlockComment | Style::LineComment) => {
                Some(2)
            }
            _ => None,
        }
    }

    fn is_script_literal(self) -> bool {
        matches!(self, Self::Script(Script::Str(_) | Script::Template | Script::Regex))
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Raw)
    }
}

/// Elements whose content is no markup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Element {
    #[default]
    Other,
    Script,
    Style,
    Textarea,
    Title,
    Meta,
}

impl Element {
    fn named(name: &str) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("script") => Self::Script,
            () if is("style") => Self::Style,
            () if is("textarea") => Self::Textarea,
            () if is("title") => Self::Title,
            () if is("meta") => Self::Meta,
            () => Self::Other,
        }
    }

    fn end_tag(self) -> Option<&'static str> {
        match self {
            Self::Other | Self::Meta => None,
            Self::Script => Some("</script"),
            Self::Style => Some("</style"),
            Self::Textarea => Some("</textarea"),
            Self::Title => Some("</title"),
        }
    }
}

/// What an attribute's value means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Attr {
    #[default]
    Plain,
    Url,
    Srcset,
    Script,
    Style,
    ScriptType,
    MetaContent,
    /// Decides how the document is read: no value may name it.
    Powerful,
}

/// How an attribute's value ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Delimiter {
    /// There is no value.
    #[default]
    None,
    Quote(char),
    Space,
}

/// How far a URL has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UrlPart {
    #[default]
    Start,
    BeforeQuery,
    Query,
}

/// The escapers that templates may call themselves; where one ends a pipeline, it replaces ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    Html,
    UrlQuery,
}

/// Follows the output of an HTML template.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    place: Place,
    element: Element,
    attr: Attr,
    delimiter: Delimiter,
    url: UrlPart,
    /// In a script, whether a slash would divide instead of opening a regular expression.
    divides: bool,
    /// The open braces within each `${` of a script's template literals.
    braces: Vec<u32>,
}

/// A limit on the literals within literals that are told apart.
const BRACES_MAX: usize = 64;

const SPACES: [char; 5] = [' ', '\t', '\n', '\x0c', '\r'];

fn trim_start(text: &str) -> &str {
    text.trim_start_matches(SPACES)
}

impl Tracker {
    /// Writes text of the template; comments are dropped as upstream does.
    pub(super) fn write_text(&mut self, out: &mut String, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let before = self.place;
            let was_value = self.delimiter != Delimiter::None;
            let len = self.read(rest);
            self.emit(out, before, was_value, &rest[..len], rest);
            rest = &rest[len..];
        }
    }

    /// Writes the piece that was read from `before` on.
    fn emit(&self, out: &mut String, before: Place, was_value: bool, piece: &str, rest: &str) {
        let mut piece = piece;
        if before.comment_mark().is_some() && !was_value {
            match before {
                Place::Script(Script::BlockComment) => {
                    let breaks = piece.contains(['\n', '\r', '\u{2028}', '\u{2029}']);
                    out.push(if breaks { '\n' } else { ' ' });
                }
                Place::Style(Style::BlockComment) => out.push(' '),
                _ => {}
            }
            return;
        }
        if before != self.place
            && self.delimiter == Delimiter::None
            && let Some(mark) = self.place.comment_mark()
        {
            piece = &piece[..piece.len() - mark];
            if before.is_text() {
                return escape_stray(out, piece, rest);
            }
        }
        if before.is_text() {
            let tag = if self.place == before { None } else { piece.rfind('<') };
            let (text, tag) = piece.split_at(tag.unwrap_or(piece.len()));
            escape_stray(out, text, rest);
            out.push_str(tag);
        } else if before.is_script_literal() {
            push_without_script_tags(out, piece);
        } else {
            out.push_str(piece);
        }
    }

    /// Reads the beginning of `text` as far as the place stays the same or is known to end; at least
    /// one byte, or the place changes.
    fn read(&mut self, text: &str) -> usize {
        match self.delimiter {
            Delimiter::None => {
                let mut text = text;
                let is_literal = self.place.is_script_literal() || self.place.comment_mark().is_some();
                if let Some(tag) = self.element.end_tag()
                    && !(self.element == Element::Script && is_literal)
                    && let Some(at) = find_end_tag(text, tag)
                {
                    if at == 0 {
                        *self = Self::default();
                        return 0;
                    }
                    text = &text[..at];
                }
                self.advance(text)
            }
            Delimiter::Quote(quote) => self.read_value(text, |c| c == quote, 1),
            Delimiter::Space => self.read_value(text, |c| c == '>' || SPACES.contains(&c), 0),
        }
    }

    fn read_value(&mut self, text: &str, ends: impl Fn(char) -> bool, quote: usize) -> usize {
        let end = text.find(ends);
        if let Some(end) = end {
            if self.attr == Attr::ScriptType && !is_script_type(&text[..end]) {
                self.element = Element::Other;
            }
            *self = Self { place: Place::Tag, element: self.element, ..Self::default() };
            return end + quote;
        }
        let value = unescape(text);
        let mut rest = &*value;
        while !rest.is_empty() {
            let before = self.place;
            let len = self.advance(rest);
            // A place may end without taking anything, but not again and again.
            if len == 0 && self.place == before {
                break;
            }
            rest = &rest[len..];
        }
        text.len()
    }

    /// Moves through `text` up to where the place changes.
    fn advance(&mut self, text: &str) -> usize {
        match self.place {
            Place::Text => self.advance_text(text),
            Place::Tag => self.advance_tag(text),
            Place::AttrName => {
                let len = attr_name_len(text);
                if len < text.len() {
                    self.place = Place::AfterName;
                }
                len
            }
            Place::AfterName => {
                let blank = text.len() - trim_start(text).len();
                match text[blank..].chars().next() {
                    None => blank,
                    Some('=') => {
                        self.place = Place::BeforeValue;
                        blank + 1
                    }
                    Some(_) => {
                        self.place = Place::Tag;
                        blank
                    }
                }
            }
            Place::BeforeValue => {
                let blank = text.len() - trim_start(text).len();
                match text[blank..].chars().next() {
                    None => blank,
                    Some(quote @ ('"' | '\'')) => {
                        self.begin_value(Delimiter::Quote(quote));
                        blank + 1
                    }
                    Some(_) => {
                        self.begin_value(Delimiter::Space);
                        blank
                    }
                }
            }
            Place::Comment => match text.find("-->") {
                Some(end) => {
                    *self = Self::default();
                    end + 3
                }
                None => text.len(),
            },
            Place::Raw | Place::Attr => text.len(),
            Place::Url | Place::Srcset => {
                self.note_url(text);
                text.len()
            }
            Place::MetaContent => {
                let lower = text.to_ascii_lowercase();
                let url = lower.match_indices("url").find_map(|(at, word)| {
                    let behind = trim_start(&text[at + word.len()..]);
                    behind.starts_with('=').then(|| text.len() - behind.len() + 1)
                });
                if url.is_some() {
                    self.place = Place::MetaUrl;
                }
                url.unwrap_or(text.len())
            }
            Place::MetaUrl => match text.find(';') {
                Some(end) => {
                    self.place = Place::MetaContent;
                    end + 1
                }
                None => text.len(),
            },
            Place::Script(script) => self.advance_script(script, text),
            Place::Style(style) => self.advance_style(style, text),
        }
    }

    fn begin_value(&mut self, delimiter: Delimiter) {
        self.delimiter = delimiter;
        self.place = match self.attr {
            Attr::Plain | Attr::ScriptType | Attr::Powerful => Place::Attr,
            Attr::Url => Place::Url,
            Attr::Srcset => Place::Srcset,
            Attr::Script => Place::Script(Script::Code),
            Attr::Style => Place::Style(Style::Code),
            Attr::MetaContent => Place::MetaContent,
        };
    }

    fn advance_text(&mut self, text: &str) -> usize {
        for (at, _) in text.match_indices('<') {
            let behind = &text[at + 1..];
            if behind.starts_with("!--") {
                self.place = Place::Comment;
                return at + 4;
            }
            let (is_end, name) = match behind.strip_prefix('/') {
                Some(name) => (true, name),
                None => (false, behind),
            };
            let len = tag_name_len(name);
            if len > 0 {
                self.place = Place::Tag;
                self.element = if is_end { Element::Other } else { Element::named(&name[..len]) };
                return text.len() - name.len() + len;
            }
        }
        text.len()
    }

    fn advance_tag(&mut self, text: &str) -> usize {
        let rest = trim_start(text);
        let blank = text.len() - rest.len();
        if rest.is_empty() {
            return blank;
        }
        if rest.starts_with('>') {
            let place = match self.element {
                Element::Other | Element::Meta => Place::Text,
                Element::Script => Place::Script(Script::Code),
                Element::Style => Place::Style(Style::Code),
                Element::Textarea | Element::Title => Place::Raw,
            };
            let element = if self.element == Element::Meta { Element::Other } else { self.element };
            *self = Self { place, element, ..Self::default() };
            return blank + 1;
        }
        // A sign that cannot begin a name is taken as one, so that there is progress.
        let len = attr_name_len(rest).max(1);
        let name = rest[..len].to_ascii_lowercase();
        let attr = match (self.element, name.as_str()) {
            (Element::Script, "type") => Attr::ScriptType,
            (Element::Meta, "content") => Attr::MetaContent,
            (_, name) => attr_kind(name),
        };
        let place = if len == rest.len() { Place::AttrName } else { Place::AfterName };
        *self = Self { place, element: self.element, attr, ..Self::default() };
        blank + len
    }

    fn note_url(&mut self, text: &str) {
        if text.contains(['#', '?']) {
            self.url = UrlPart::Query;
        } else if self.url == UrlPart::Start && !trim_start(text).is_empty() {
            self.url = UrlPart::BeforeQuery;
        }
    }

    // === Scripts ===

    fn advance_script(&mut self, script: Script, text: &str) -> usize {
        match script {
            Script::Code => self.advance_code(text),
            Script::Str(quote) => self.advance_literal(text, quote),
            Script::Regex => self.advance_literal(text, '/'),
            Script::Template => self.advance_template(text),
            Script::BlockComment => match text.find("*/") {
                Some(end) => {
                    self.place = Place::Script(Script::Code);
                    end + 2
                }
                None => text.len(),
            },
            Script::LineComment(_) => match text.find(['\n', '\r', '\u{2028}', '\u{2029}']) {
                Some(end) => {
                    self.place = Place::Script(Script::Code);
                    end
                }
                None => text.len(),
            },
        }
    }

    fn advance_code(&mut self, text: &str) -> usize {
        let Some(at) = text.find(['"', '`', '\'', '/', '{', '}', '<', '-', '#']) else {
            self.divides = divides_after(text, self.divides);
            return text.len();
        };
        self.divides = divides_after(&text[..at], self.divides);
        let rest = &text[at..];
        let mut len = 1;
        let mut into = |run: &mut Self, script: Script, mark: usize| {
            run.place = Place::Script(script);
            len = mark;
        };
        match rest.as_bytes()[0] {
            quote @ (b'"' | b'\'') => {
                into(self, Script::Str(char::from(quote)), 1);
                self.divides = false;
            }
            b'`' => {
                into(self, Script::Template, 1);
                self.divides = false;
            }
            b'/' if rest.starts_with("//") => into(self, Script::LineComment(2), 2),
            b'/' if rest.starts_with("/*") => into(self, Script::BlockComment, 2),
            b'/' if self.divides => self.divides = false,
            b'/' => into(self, Script::Regex, 1),
            b'<' if rest.starts_with("<!--") => into(self, Script::LineComment(4), 4),
            b'-' if rest.starts_with("-->") => into(self, Script::LineComment(3), 3),
            b'-' => self.divides = divides_after(&text[..=at], self.divides),
            b'#' if rest.starts_with("#!") => into(self, Script::LineComment(2), 2),
            b'{' => {
                if let Some(open) = self.braces.last_mut() {
                    *open += 1;
                }
                self.divides = false;
            }
            b'}' => {
                self.divides = false;
                match self.braces.last_mut() {
                    Some(0) => {
                        self.braces.pop();
                        into(self, Script::Template, 1);
                    }
                    Some(open) => *open -= 1,
                    None => {}
                }
            }
            _ => {}
        }
        at + len
    }

    fn advance_literal(&mut self, text: &str, end: char) -> usize {
        let mut chars = text.char_indices();
        let mut in_set = false;
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    chars.next();
                }
                '[' if end == '/' => in_set = true,
                ']' if end == '/' => in_set = false,
                // An end tag that was written into a literal is made harmless when it is printed.
                '/' if end == '/' && is_script_end(text, at) => {}
                c if c == end && !in_set => {
                    self.place = Place::Script(Script::Code);
                    self.divides = true;
                    return at + 1;
                }
                _ => {}
            }
        }
        text.len()
    }

    fn advance_template(&mut self, text: &str) -> usize {
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    chars.next();
                }
                '$' if text[at + 1..].starts_with('{') && self.braces.len() < BRACES_MAX => {
                    self.braces.push(0);
                    self.place = Place::Script(Script::Code);
                    return at + 2;
                }
                '`' => {
                    self.place = Place::Script(Script::Code);
                    return at + 1;
                }
                _ => {}
            }
        }
        text.len()
    }

    // === Styles ===

    fn advance_style(&mut self, style: Style, text: &str) -> usize {
        match style {
            Style::Code => self.advance_rules(text),
            Style::Str(quote) | Style::QuotedUrl(quote) => self.advance_style_text(text, |c| c == quote),
            Style::Url => self.advance_style_text(text, |c| c == ')' || SPACES.contains(&c)),
            Style::BlockComment => match text.find("*/") {
                Some(end) => {
                    self.place = Place::Style(Style::Code);
                    end + 2
                }
                None => text.len(),
            },
            Style::LineComment => match text.find(['\n', '\x0c', '\r']) {
                Some(end) => {
                    self.place = Place::Style(Style::Code);
                    end
                }
                None => text.len(),
            },
        }
    }

    fn advance_rules(&mut self, text: &str) -> usize {
        for (at, sign) in text.match_indices(['(', '"', '\'', '/']) {
            let behind = &text[at + 1..];
            let (style, len) = match sign {
                "(" if escape::ends_with_url(text[..at].trim_end_matches(SPACES)) => {
                    let value = trim_start(behind);
                    let blank = behind.len() - value.len();
                    match value.chars().next() {
                        Some(quote @ ('"' | '\'')) => (Style::QuotedUrl(quote), 2 + blank),
                        _ => (Style::Url, 1 + blank),
                    }
                }
                "\"" => (Style::Str('"'), 1),
                "'" => (Style::Str('\''), 1),
                "/" if behind.starts_with('/') => (Style::LineComment, 2),
                "/" if behind.starts_with('*') => (Style::BlockComment, 2),
                _ => continue,
            };
            self.place = Place::Style(style);
            return at + len;
        }
        text.len()
    }

    fn advance_style_text(&mut self, text: &str, ends: impl Fn(char) -> bool) -> usize {
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                chars.next();
            } else if ends(c) {
                self.place = Place::Style(Style::Code);
                return at + 1;
            }
        }
        self.note_url(&escape::css_decode(text));
        text.len()
    }

    // === Values ===

    /// Whether a call of `called` at the end of a pipeline stands for what is escaped here anyway.
    pub(super) fn covers(&self, called: Called) -> bool {
        let place = self.value_place().place;
        match called {
            Called::Html => {
                matches!(place, Place::Text | Place::Raw)
                    || matches!(self.value_place().delimiter, Delimiter::Quote(_))
            }
            Called::UrlQuery => match place {
                Place::Url | Place::Style(Style::QuotedUrl(_) | Style::Url) => true,
                Place::Style(Style::Str(_)) => self.url == UrlPart::Query,
                _ => false,
            },
        }
    }

    /// The tracker as it stands once a value follows.
    fn value_place(&self) -> Self {
        let mut at = self.clone();
        match at.place {
            Place::Tag => at.place = Place::AttrName,
            Place::AfterName => {
                at.place = Place::AttrName;
                at.attr = Attr::Plain;
            }
            Place::BeforeValue => {
                at.begin_value(Delimiter::Space);
                at.attr = Attr::Plain;
            }
            _ => {}
        }
        at
    }

    /// Writes a value, escaped for the place it stands at; `called` is the escaper that the template
    /// itself put at the end where one of ours would stand.
    pub(super) fn write_value(&mut self, out: &mut String, value: &Value, called: Option<Called>) {
        *self = self.value_place();
        let mut text = match value {
            Value::Nil => String::new(),
            value => format::display(value),
        };
        let mut trust = match value {
            Value::Safe(trust, _) => Some(*trust),
            _ => None,
        };
        match self.place {
            // Trusted markup moves the place, so that what follows is escaped for where it really stands.
            Place::Text if trust == Some(Trust::Html) => return self.write_text(out, &text),
            Place::Text | Place::Raw => {
                text = match (called, trust) {
                    (Some(Called::Html), _) => super::builtin::html_escape(&text),
                    (_, Some(Trust::Html)) => escape::html_normalized(&text),
                    _ => escape::html(&text),
                }
            }
            Place::Attr | Place::MetaContent => {}
            Place::MetaUrl => text = filtered_url(text, trust),
            Place::Url | Place::Style(Style::Str(_) | Style::QuotedUrl(_) | Style::Url) => {
                text = self.url_value(text, trust, called);
                trust = None;
            }
            Place::Srcset => {
                text = escape::srcset(&text, trust == Some(Trust::Url), UNSAFE);
                trust = None;
            }
            Place::Script(script) => {
                text = self.script_value(script, value, &text);
                trust = None;
            }
            Place::Style(Style::Code) => {
                text = escape::css_value(&text).unwrap_or_else(|| UNSAFE.to_owned());
                trust = None;
            }
            Place::Style(Style::BlockComment | Style::LineComment) | Place::Comment => return,
            Place::Tag | Place::AttrName | Place::AfterName | Place::BeforeValue => {
                out.push_str(&name_filter(&text));
                return;
            }
        }
        let is_html = trust == Some(Trust::Html);
        match self.delimiter {
            Delimiter::None => out.push_str(&text),
            Delimiter::Quote(_) if called == Some(Called::Html) => {
                out.push_str(&super::builtin::html_escape(&text));
            }
            Delimiter::Quote(_) if is_html => out.push_str(&escape::html_normalized(&strip_tags(&text))),
            Delimiter::Quote(_) => out.push_str(&escape::html(&text)),
            Delimiter::Space if text.is_empty() => out.push_str(UNSAFE),
            Delimiter::Space if is_html => out.push_str(&escape::html_unquoted(&strip_tags(&text), true)),
            Delimiter::Space => out.push_str(&escape::html_unquoted(&text, false)),
        }
    }

    fn url_value(&self, text: String, trust: Option<Trust>, called: Option<Called>) -> String {
        let is_trusted = trust == Some(Trust::Url);
        if self.url == UrlPart::Query {
            return match called {
                Some(Called::UrlQuery) => super::builtin::query_escape(&text),
                _ => escape::url(&text, is_trusted),
            };
        }
        let text = if self.url == UrlPart::Start { filtered_url(text, trust) } else { text };
        match (self.place, called) {
            (Place::Style(Style::Str(_)), _) => escape::css(&text),
            (_, Some(Called::UrlQuery)) => super::builtin::query_escape(&text),
            _ => escape::url(&text, true),
        }
    }

    fn script_value(&mut self, script: Script, value: &Value, text: &str) -> String {
        match script {
            Script::Code => {
                self.divides = true;
                escape::script_value(value)
            }
            Script::Str(_) => escape::script_text(text, "\"`&'+/<>\\", ""),
            Script::Template => escape::script_text(text, "\"`&'+/<>\\${}", ""),
            Script::Regex if text.is_empty() => "(?:)".to_owned(),
            Script::Regex => escape::script_text(text, "\"&'+<>/\\", "$()*-.?[]^{|}"),
            Script::BlockComment | Script::LineComment(_) => String::new(),
        }
    }
}

fn filtered_url(text: String, trust: Option<Trust>) -> String {
    if trust == Some(Trust::Url) || escape::is_safe_url(&text) { text } else { format!("#{UNSAFE}") }
}

/// A `<` that opens nothing here must not open anything together with what follows.
fn escape_stray(out: &mut String, text: &str, rest: &str) {
    for (at, c) in text.char_indices() {
        let is_doctype =
            rest.as_bytes()[at..].get(..9).is_some_and(|word| word.eq_ignore_ascii_case(b"<!DOCTYPE"));
        if c == '<' && !is_doctype { out.push_str("&lt;") } else { out.push(c) }
    }
}

/// Tags within a script's literals would end the script or confuse its end.
fn push_without_script_tags(out: &mut String, text: &str) {
    for (at, c) in text.char_indices() {
        let behind = text.as_bytes()[at + c.len_utf8()..].as_ref();
        let opens = |word: &[u8]| behind.get(..word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word));
        if c == '<' && (opens(b"script") || opens(b"/script") || opens(b"!--")) {
            out.push_str("\\x3C");
        } else {
            out.push(c);
        }
    }
}

fn is_script_end(text: &str, slash: usize) -> bool {
    let from = slash.checked_sub(1);
    from.and_then(|from| text.as_bytes().get(from..slash + 7))
        .is_some_and(|word| word.eq_ignore_ascii_case(b"</script"))
}

fn find_end_tag(text: &str, tag: &str) -> Option<usize> {
    text.match_indices("</").map(|(at, _)| at).find(|at| {
        let bytes = &text.as_bytes()[*at..];
        bytes.get(..tag.len()).is_some_and(|word| word.eq_ignore_ascii_case(tag.as_bytes()))
            && matches!(bytes.get(tag.len()), Some(b'>' | b' ' | b'\t' | b'\n' | 0x0c | b'/'))
    })
}

fn tag_name_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_word = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    if !bytes.first().is_some_and(u8::is_ascii_alphabetic) {
        return 0;
    }
    let mut len = 1;
    loop {
        if is_word(len) {
            len += 1;
        } else if matches!(bytes.get(len), Some(b':' | b'-')) && is_word(len + 1) {
            len += 2;
        } else {
            return len;
        }
    }
}

fn attr_name_len(text: &str) -> usize {
    text.find(|c: char| SPACES.contains(&c) || c == '=' || c == '>').unwrap_or(text.len())
}

fn attr_kind(name: &str) -> Attr {
    let local = match (name.strip_prefix("data-"), name.split_once(':')) {
        (None, Some(("xmlns", _))) => return Attr::Url,
        (Some(local), _) | (None, Some((_, local))) => local,
        (None, None) => name,
    };
    match local {
        "action" | "archive" | "background" | "cite" | "classid" | "codebase" | "data" | "formaction"
        | "href" | "icon" | "longdesc" | "manifest" | "poster" | "profile" | "src" | "usemap" | "xmlns" => {
            Attr::Url
        }
        "accept-charset" | "async" | "challenge" | "charset" | "content" | "crossorigin" | "defer"
        | "enctype" | "form" | "formenctype" | "formmethod" | "formnovalidate" | "http-equiv" | "keytype"
        | "language" | "method" | "novalidate" | "pattern" | "rel" | "sandbox" | "srcdoc" | "type"
        | "value" => Attr::Powerful,
        "srcset" => Attr::Srcset,
        "style" => Attr::Style,
        "srclang" => Attr::Plain,
        local if local.starts_with("on") => Attr::Script,
        local if local.contains("src") || local.contains("uri") || local.contains("url") => Attr::Url,
        _ => Attr::Plain,
    }
}

/// Only a plain name may be printed where a name stands.
fn name_filter(text: &str) -> String {
    let name = text.to_lowercase();
    let is_plain = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
        && attr_kind(&name) == Attr::Plain;
    if is_plain { name } else { UNSAFE.to_owned() }
}

fn is_script_type(mime: &str) -> bool {
    let mime = mime.split(';').next().unwrap_or_default().trim().to_lowercase();
    match mime.split_once('/') {
        None => matches!(mime.as_str(), "" | "module"),
        Some(("application", kind)) => {
            matches!(kind, "ecmascript" | "javascript" | "json" | "ld+json" | "x-ecmascript" | "x-javascript")
        }
        Some(("text", kind)) => {
            matches!(kind, "ecmascript" | "jscript" | "livescript" | "x-ecmascript" | "x-javascript")
                || kind.strip_prefix("javascript").is_some_and(|version| {
                    matches!(version, "" | "1.0" | "1.1" | "1.2" | "1.3" | "1.4" | "1.5")
                })
        }
        Some(_) => false,
    }
}

/// Whether a slash behind this code divides: it does behind values, not behind signs and some words.
fn divides_after(code: &str, before: bool) -> bool {
    let is_blank = |c: char| c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}');
    let code = code.trim_end_matches(is_blank);
    let Some(last) = code.chars().next_back() else { return before };
    match last {
        // `x++ / y` divides, `x + /y/` does not.
        '+' | '-' => (code.len() - code.trim_end_matches(last).len()).is_multiple_of(2),
        '.' => code.len() > 1 && code.as_bytes()[code.len() - 2].is_ascii_digit(),
        ',' | '<' | '>' | '=' | '*' | '%' | '&' | '|' | '^' | '?' | '!' | '~' | '(' | '[' | ':' | ';'
        | '{' | '}' => false,
        _ => {
            let start = code
                .rfind(|c| !escape::is_script_word(c))
                .map_or(0, |at| at + code[at..].chars().next().map_or(1, char::len_utf8));
            !matches!(
                &code[start..],
                "break"
                    | "case"
                    | "continue"
                    | "delete"
                    | "do"
                    | "else"
                    | "finally"
                    | "in"
                    | "instanceof"
                    | "return"
                    | "throw"
                    | "try"
                    | "typeof"
                    | "void"
            )
        }
    }
}

/// The text of an attribute's value: references as the characters they stand for.
fn unescape(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').filter(|end| *end <= 10);
        let c = end.and_then(|end| reference(&rest[1..end]));
        if let (Some(c), Some(end)) = (c, end) {
            out.push(c);
            rest = &rest[end + 1..];
        } else {
            out.push('&');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out.into()
}

fn reference(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match name {
        "quot" => '"',
        "amp" => '&',
        "apos" => '\'',
        "lt" => '<',
        "gt" => '>',
        "nbsp" => '\u{a0}',
        "Tab" => '\t',
        "NewLine" => '\n',
        "colon" => ':',
        "sol" => '/',
        "quest" => '?',
        "num" => '#',
        "lpar" => '(',
        "rpar" => ')',
        "semi" => ';',
        "equals" => '=',
        _ => return None,
    })
}

/// Trusted markup in an attribute keeps its text only.
fn strip_tags(markup: &str) -> String {
    let mut out = String::with_capacity(markup.len());
    let mut tracker = Tracker::default();
    let mut rest = markup;
    while !rest.is_empty() {
        let before = tracker.place;
        let len = tracker.read(rest);
        if before.is_text() {
            let end = if tracker.place == before { len } else { rest[..len].rfind('<').unwrap_or(len) };
            out.push_str(&rest[..end]);
        }
        rest = &rest[len..];
    }
    out
}
