//! Sections of mechanisms that are read and printed but not run: a table says which keys there are, one decoder
//! and one printer do the rest. What a table cannot say is a small function beside it.
//!
//! Compat: the `SDConfig` types below prometheus `discovery/*`, with their `UnmarshalYAML`.

use std::path::Path;
use std::time::Duration;

use model::quote::go_quote;

use super::OtherDiscovery;
use crate::http_client::Tls;
use crate::http_client::decode::{HttpFields, decode_tls};
use crate::http_client::print as http;
use crate::yaml::emit::Fields;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, Out};
use crate::{Secret, paths};

pub(super) struct Mechanism {
    /// As in `<name>_sd_configs`.
    pub(super) name: &'static str,
    /// What type errors call a section, and the type behind it that lists the keys.
    pub(super) go_type: &'static str,
    pub(super) go_plain: &'static str,
    /// In the order in which they are printed.
    pub(super) keys: &'static [Key],
    /// What must hold beyond types, except for the HTTP block.
    pub(super) check: fn(&mut Section<'_>) -> Result<(), String>,
}

#[derive(Clone, Copy)]
pub(super) struct Key {
    name: &'static str,
    kind: Kind,
    /// Printed even if it is its type's zero.
    always: bool,
}

/// The type of a key and its default.
#[derive(Clone, Copy)]
enum Kind {
    Text(&'static str),
    Secret,
    /// Joined to the directory of the configuration.
    Path,
    Number(i64),
    Flag(bool),
    Seconds(u64),
    Texts,
    Filters,
    /// One of a few words; which, and what is said of others.
    Role {
        default: &'static str,
        words: &'static [&'static str],
        complaint: &'static str,
    },
    Tls,
    /// The inlined block, and whether its switches are on unless the section says otherwise.
    Http {
        is_on: bool,
    },
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, always: false }
}

pub(super) const fn text(name: &'static str) -> Key {
    key(name, Kind::Text(""))
}

pub(super) const fn secret(name: &'static str) -> Key {
    key(name, Kind::Secret)
}

pub(super) const fn path(name: &'static str) -> Key {
    key(name, Kind::Path)
}

pub(super) const fn number(name: &'static str, default: i64) -> Key {
    key(name, Kind::Number(default))
}

pub(super) const fn flag(name: &'static str, default: bool) -> Key {
    key(name, Kind::Flag(default))
}

pub(super) const fn seconds(name: &'static str, default: u64) -> Key {
    key(name, Kind::Seconds(default))
}

pub(super) const fn texts(name: &'static str) -> Key {
    key(name, Kind::Texts)
}

pub(super) const fn filters(name: &'static str) -> Key {
    key(name, Kind::Filters)
}

pub(super) const fn tls(name: &'static str) -> Key {
    key(name, Kind::Tls)
}

/// `complaint` comes before the word in quotes.
pub(super) const fn role(words: &'static [&'static str], complaint: &'static str) -> Key {
    key("role", Kind::Role { default: "", words, complaint }).always()
}

pub(super) const HTTP: Key = key("", Kind::Http { is_on: true });

/// The block of sections that forget its defaults.
pub(super) const HTTP_OFF: Key = key("", Kind::Http { is_on: false });

/// The port of targets whose own is not known.
pub(super) const PORT: Key = number("port", 80).always();

pub(super) const REFRESH: Key = seconds("refresh_interval", 60);

impl Key {
    /// Printed even if it is its type's zero.
    pub(super) const fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// A text with a default.
    pub(super) const fn or(self, default: &'static str) -> Self {
        let kind = match self.kind {
            Kind::Role { words, complaint, .. } => Kind::Role { default, words, complaint },
            _ => Kind::Text(default),
        };
        Self { kind, ..self }
    }
}

enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    Duration(Duration),
    Texts(Vec<String>),
    Filters(Vec<Filter>),
    Tls(Box<Tls>),
    /// Kept apart.
    Http,
}

pub(super) struct Filter {
    name: String,
    pub(super) values: Vec<String>,
}

/// The values of one section, as the checks see it.
pub(super) struct Section<'a> {
    mechanism: &'a Mechanism,
    /// One per key of the table.
    values: Vec<Value>,
    pub(super) http: HttpFields,
    /// Whether the file sets these two, whose defaults may be other than the block's own.
    has_redirects: bool,
    has_http2: bool,
}

impl Section<'_> {
    fn value(&self, name: &str) -> &Value {
        let at = self.mechanism.keys.iter().position(|key| key.name == name);
        at.and_then(|at| self.values.get(at)).expect("BUG: a check asks for a key of its own table")
    }

    pub(super) fn text(&self, name: &str) -> &str {
        let Value::Text(text) = self.value(name) else { unreachable!("BUG: {name} is no text") };
        text
    }

    pub(super) fn set_text(&mut self, name: &str, text: String) {
        for (key, value) in self.mechanism.keys.iter().zip(&mut self.values) {
            if key.name == name {
                *value = Value::Text(text);
                return;
            }
        }
    }

    pub(super) fn texts(&self, name: &str) -> &[String] {
        let Value::Texts(texts) = self.value(name) else { unreachable!("BUG: {name} is no list") };
        texts
    }

    pub(super) fn filters(&self, name: &str) -> &[Filter] {
        let Value::Filters(filters) = self.value(name) else { unreachable!("BUG: {name} are no filters") };
        filters
    }

    pub(super) fn is_zero(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Text(text) => text.is_empty(),
            Value::Number(n) => *n == 0,
            Value::Flag(on) => !on,
            Value::Duration(duration) => duration.is_zero(),
            Value::Texts(texts) => texts.is_empty(),
            Value::Filters(filters) => filters.is_empty(),
            Value::Tls(tls) => **tls == Tls::default(),
            Value::Http => false,
        }
    }

    /// Fails with `text` if the key is empty.
    pub(super) fn require(&self, name: &str, text: &str) -> Result<(), String> {
        if self.is_zero(name) { Err(text.to_owned()) } else { Ok(()) }
    }
}

pub(super) fn decode(
    mechanism: &'static Mechanism,
    decoder: &mut Decoder,
    base: &Path,
    node: &Node,
) -> Decoded<OtherDiscovery> {
    let values = mechanism.keys.iter().map(|key| match key.kind {
        Kind::Text(text) | Kind::Role { default: text, .. } => Value::Text(text.to_owned()),
        Kind::Secret | Kind::Path => Value::Text(String::new()),
        Kind::Number(n) => Value::Number(n),
        Kind::Flag(on) => Value::Flag(on),
        Kind::Seconds(n) => Value::Duration(Duration::from_secs(n)),
        Kind::Texts => Value::Texts(Vec::new()),
        Kind::Filters => Value::Filters(Vec::new()),
        Kind::Tls => Value::Tls(Box::default()),
        Kind::Http { .. } => Value::Http,
    });
    let mut section = Section {
        mechanism,
        values: values.collect(),
        http: HttpFields::default(),
        has_redirects: false,
        has_http2: false,
    };
    let has_http = mechanism.keys.iter().any(|key| matches!(key.kind, Kind::Http { .. }));
    let ok = decoder.fields(node, mechanism.go_plain, &mut |decoder, name, value| {
        let known = mechanism.keys.iter().position(|key| key.name == name && !name.is_empty());
        if let Some(at) = known {
            read(decoder, base, &mechanism.keys[at], value, &mut section.values[at])?;
            return Ok(true);
        }
        section.has_redirects |= name == "follow_redirects";
        section.has_http2 |= name == "enable_http2";
        Ok(has_http && section.http.field(decoder, base, name, value)?)
    })?;
    if !ok {
        return Ok(None);
    }
    (mechanism.check)(&mut section).map_err(|text| Issue::new(node.pos, text))?;
    let printed = print(section, base, node)?;
    Ok(Some(OtherDiscovery { mechanism: mechanism.name, printed }))
}

fn read(decoder: &mut Decoder, base: &Path, key: &Key, node: &Node, slot: &mut Value) -> Result<(), Issue> {
    match (slot, key.kind) {
        (Value::Text(word), Kind::Role { words, complaint, .. }) => {
            decoder.set(node, word)?;
            if !node.is_null() && node.text().is_some() && !words.contains(&word.as_str()) {
                let word = go_quote(word.as_bytes());
                return Err(Issue::new(node.pos, format!("{complaint} {word}")));
            }
        }
        (Value::Text(text), Kind::Secret) => {
            if let Some(secret) = Secret::decode(decoder, node)? {
                secret.expose().clone_into(text);
            }
        }
        (Value::Text(text), _) => decoder.set(node, text)?,
        (Value::Number(n), _) => decoder.set(node, n)?,
        (Value::Flag(on), _) => decoder.set(node, on)?,
        (Value::Duration(duration), _) => decoder.set(node, duration)?,
        (Value::Texts(texts), _) => decoder.set(node, texts)?,
        (Value::Filters(filters), _) => read_filters(decoder, node, filters)?,
        (Value::Tls(tls), _) => {
            if let Some(read) = decode_tls(decoder, base, node)? {
                **tls = read;
            }
        }
        (Value::Http, _) => {}
    }
    Ok(())
}

fn read_filters(decoder: &mut Decoder, node: &Node, filters: &mut Vec<Filter>) -> Result<(), Issue> {
    let mut found = Vec::new();
    let is_list = decoder.items(node, "[]*aws.Filter", &mut |decoder, item| {
        let mut filter = Filter { name: String::new(), values: Vec::new() };
        let ok = decoder.fields(item, "aws.Filter", &mut |decoder, key, value| {
            match key {
                "name" => decoder.set(value, &mut filter.name)?,
                "values" => decoder.set(value, &mut filter.values)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        found.extend(ok.then_some(filter));
        Ok(())
    })?;
    if is_list {
        *filters = found;
    }
    Ok(())
}

fn print(section: Section<'_>, base: &Path, node: &Node) -> Result<Out, Issue> {
    let mut fields = Fields::default();
    let mut http_fields = Some(section.http);
    for (key, value) in section.mechanism.keys.iter().zip(section.values) {
        let out = match (value, key.kind) {
            (Value::Text(text), Kind::Secret) if text.is_empty() => Out::Raw("null".to_owned()),
            (Value::Text(_), Kind::Secret) => Out::from("<secret>"),
            (Value::Text(text), Kind::Path) => Out::Text(paths::join(base, &text)),
            (Value::Text(text), _) => Out::Text(super::http::print_url(&text)),
            (Value::Number(n), _) => Out::Raw(n.to_string()),
            (Value::Flag(on), _) => Out::from(on),
            (Value::Duration(duration), _) => Out::from(duration),
            (Value::Texts(texts), _) => texts.into_iter().collect(),
            (Value::Filters(filters), _) => Out::List(filters.into_iter().map(print_filter).collect()),
            (Value::Tls(tls), _) if *tls == Tls::default() => continue,
            (Value::Tls(tls), _) => http::print_tls(&tls),
            (Value::Http, kind) => {
                let mut http = http_fields.take().unwrap_or_default().finish(base, node.pos)?;
                let is_on = matches!(kind, Kind::Http { is_on: true });
                http.follow_redirects &= section.has_redirects || is_on;
                http.enable_http2 &= section.has_http2 || is_on;
                fields.append(http::print(&http));
                continue;
            }
        };
        if key.always {
            fields.put(key.name, out);
        } else {
            fields.some(key.name, out);
        }
    }
    Ok(fields.into_out())
}

fn print_filter(filter: Filter) -> Out {
    let mut fields = Fields::default();
    fields.put("name", filter.name.as_str()).put("values", filter.values.into_iter().collect::<Out>());
    fields.into_out()
}
