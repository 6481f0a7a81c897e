//! Sections whose keys are fields: one list of keys reads a section and prints it back.
//!
//! A [`Record`] names its keys in the order in which they are printed; a [`Slot`] knows how a value of its type
//! is read, what of it counts as absent and how it looks. What a section demands beyond types is its `check`.
//!
//! Compat: gopkg.in/yaml.v2 over structs with `omitempty`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::http_client::decode::{HttpFields, decode_tls};
use crate::http_client::print::{print, print_tls};
use crate::http_client::{HttpClient, Tls};
use crate::template::time::duration_string;
use crate::template::{Functions, Set, Signature, Value};
use crate::uri::Uri;
use crate::yaml::emit::Fields;
use crate::yaml::free::{self, Free};
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoder, Issue, Node, Out};
use crate::{Secret, span};

/// What a masked secret looks like; a configuration that was printed may be read again.
pub(super) const MASK: &str = "<secret>";

/// A value that reads and prints itself.
pub(super) trait Slot {
    /// A value of the wrong type is noted in the decoder and leaves the field as it is.
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue>;
    fn print(&mut self) -> Out;
    /// Whether the key is left out where it may be.
    fn is_zero(&self) -> bool;
}

pub(super) struct Key<'a> {
    name: &'static str,
    field: &'a mut dyn Slot,
    always: bool,
}

/// A key that is printed unless its value is its type's zero.
pub(super) fn some<'a>(name: &'static str, field: &'a mut dyn Slot) -> Key<'a> {
    Key { name, field, always: false }
}

/// A key that is always printed.
pub(super) fn always<'a>(name: &'static str, field: &'a mut dyn Slot) -> Key<'a> {
    Key { name, field, always: true }
}

fn null() -> Out {
    Out::Raw("null".to_owned())
}

/// A section that is a mapping.
pub(super) trait Record {
    /// What error texts call the type.
    const GO_TYPE: &'static str;
    /// What they call a list of it.
    const GO_LIST: &'static str = "list";

    /// In the order in which they are printed.
    fn keys(&mut self) -> Vec<Key<'_>>;

    /// Judges the section once it is read.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Where the section stands, for those that are judged again later.
    fn stands_at(&mut self, _: Pos) {}

    /// What null means in a list of sections: what the section demands, the empty one lacks.
    fn null() -> Result<Self, String>
    where
        Self: Default,
    {
        let mut empty = Self::default();
        empty.check().map(|()| empty)
    }
}

/// Fills `record` from a mapping; false if a type error was noted.
pub(super) fn read<R: Record>(
    record: &mut R,
    decoder: &mut Decoder,
    base: &Path,
    node: &Node,
) -> Result<bool, Issue> {
    record.stands_at(node.pos);
    let mut keys = record.keys();
    let is_sound = decoder.fields(node, R::GO_TYPE, &mut |decoder, name, value| {
        let Some(key) = keys.iter_mut().find(|key| key.name == name) else { return Ok(false) };
        key.field.read(decoder, base, value)?;
        Ok(true)
    })?;
    drop(keys);
    if is_sound {
        record.check().map_err(|text| Issue::new(node.pos, text))?;
    }
    Ok(is_sound)
}

pub(super) fn fields<R: Record>(record: &mut R) -> Fields {
    let mut fields = Fields::default();
    for key in record.keys() {
        if key.always || !key.field.is_zero() {
            fields.put(key.name, key.field.print());
        }
    }
    fields
}

/// Types that the decoder knows, of which only the printing is ours.
macro_rules! plain_field {
    ($type:ty, $self:ident => $out:expr, $zero:expr) => {
        impl Slot for $type {
            fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
                decoder.set(node, self)
            }

            fn print(&mut self) -> Out {
                let $self = &*self;
                $out
            }

            fn is_zero(&self) -> bool {
                let $self = self;
                $zero
            }
        }
    };
}

plain_field!(String, text => Out::Text(text.clone()), text.is_empty());
plain_field!(Secret, secret => Out::secret(secret), secret.is_empty());
plain_field!(bool, on => Out::from(*on), !on);
plain_field!(i64, n => Out::from(*n), *n == 0);
plain_field!(f64, n => Out::from(*n), *n == 0.0);
plain_field!(Duration, span => Out::from(*span), span.is_zero());
plain_field!(Vec<String>, texts => texts.iter().cloned().collect(), texts.is_empty());
plain_field!(BTreeMap<String, String>, map => print_map(map), map.is_empty());

pub(super) fn print_map(map: &BTreeMap<String, String>) -> Out {
    Out::sorted(map.iter().map(|(key, value)| (key.clone(), Out::Text(value.clone()))))
}

impl Slot for u64 {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if let Some(n) = decoder.uint_as(node, "uint64")? {
            *self = n;
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::from(*self)
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }
}

/// A number that Go calls `int64`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Int64(pub(super) i64);

impl Slot for Int64 {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if let Some(n) = decoder.int_as(node, "int64")? {
            self.0 = n;
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::from(self.0)
    }

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

/// Pointers: null takes the value away, and a value that is its type's zero is still printed.
macro_rules! pointer_field {
    ($type:ty) => {
        impl Slot for Option<$type> {
            fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
                if node.is_null() {
                    *self = None;
                } else if let Some(value) = <$type as Decode>::decode(decoder, node)? {
                    *self = Some(value);
                }
                Ok(())
            }

            fn print(&mut self) -> Out {
                self.as_mut().map_or_else(null, Slot::print)
            }

            fn is_zero(&self) -> bool {
                self.is_none()
            }
        }
    };
}

pointer_field!(bool);
pointer_field!(Duration);
pointer_field!(Secret);

/// An `http` or `https` URL.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Url(pub(super) Option<Uri>);

impl Url {
    pub(super) fn of(text: &str) -> Self {
        Self(Some(Uri::parse(text).expect("a default is a URL")))
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// The whole of it; empty for none.
    pub(super) fn expose(&self) -> String {
        self.0.as_ref().map(Uri::expose).unwrap_or_default()
    }

    pub(super) fn inherit(&mut self, other: &Self) {
        if self.0.is_none() {
            self.0.clone_from(&other.0);
        }
    }

    /// As [`Self::inherit`], ending in a slash; upstream shares the URL, so that the inherited one changes, too.
    pub(super) fn inherit_slashed(&mut self, other: &mut Self) {
        if self.0.is_none() {
            other.end_in_slash();
            self.0.clone_from(&other.0);
        }
        self.end_in_slash();
    }

    pub(super) fn end_in_slash(&mut self) {
        if let Some(uri) = &mut self.0 {
            uri.end_in_slash();
        }
    }
}

impl Slot for Url {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            self.0 = None;
        } else if let Some(text) = String::decode(decoder, node)? {
            self.0 = Some(parse_url(&text).map_err(|text| Issue::new(node.pos, text))?);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.0.as_ref().map_or_else(null, |uri| Out::Text(uri.to_string()))
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

pub(super) fn parse_url(text: &str) -> Result<Uri, String> {
    let uri = Uri::parse(text)?;
    if !matches!(uri.scheme.as_str(), "http" | "https") {
        let scheme = model::quote::go_quote(uri.scheme.as_bytes());
        return Err(format!("unsupported scheme {scheme} for URL"));
    }
    if uri.host.is_empty() {
        return Err("missing host for URL".to_owned());
    }
    Ok(uri)
}

/// As [`parse_url`], for texts that no message may show.
fn check_secret_url(text: &str) -> Result<(), String> {
    parse_url(text).map(drop).map_err(|message| match message.rsplit_once("\": ") {
        Some((_, reason)) if message.starts_with("parse ") => format!("parse \"{MASK}\": {reason}"),
        _ => message,
    })
}

/// A URL that is a secret as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SecretUrl(pub(super) Option<Secret>);

impl SecretUrl {
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn secret(&self) -> Secret {
        self.0.clone().unwrap_or_default()
    }
}

impl Slot for SecretUrl {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            self.0 = None;
        } else if let Some(text) = String::decode(decoder, node)? {
            if text != MASK {
                check_secret_url(&text).map_err(|text| Issue::new(node.pos, text))?;
            }
            self.0 = Some(Secret::new(text));
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::Text(MASK.to_owned())
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

/// A secret that is a URL or a template of one; a template is judged when it is used.
#[derive(Clone, Debug, Default)]
pub(super) struct TemplateUrl(pub(super) Secret);

impl Slot for TemplateUrl {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        decoder.set(node, &mut self.0)?;
        let text = self.0.expose();
        if text.is_empty() || text == MASK {
            return Ok(());
        }
        if text.contains("{{") {
            return check_template(text)
                .map_err(|text| Issue::new(node.pos, format!("invalid template syntax: {text}")));
        }
        check_secret_url(text).map_err(|text| Issue::new(node.pos, format!("invalid URL: {text}")))
    }

    fn print(&mut self) -> Out {
        Out::secret(&self.0)
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether `text` parses as a template that knows only Go's own functions.
pub(super) fn check_template(text: &str) -> Result<(), String> {
    struct None;
    impl Functions for None {
        fn signature(&self, _: &str) -> Option<Signature> {
            Option::None
        }

        fn call(&self, name: &str, _: &[Value]) -> Result<Value, String> {
            Err(format!("no function {name}"))
        }
    }
    Set::default().parse("", text, &None).map_err(|e| e.to_string())
}

/// The client of a section that has one of its own; relative paths in it are joined at once.
impl Slot for Option<HttpClient> {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            *self = None;
            return Ok(());
        }
        let mut http = HttpFields::default();
        let is_sound = decoder
            .fields(node, "config.plain", &mut |decoder, key, value| http.field(decoder, base, key, value))?;
        if is_sound {
            *self = Some(http.finish(base, node.pos)?);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.as_ref().map_or_else(null, |http| print(http).into_out())
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

impl Slot for Option<Tls> {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            *self = None;
        } else if let Some(tls) = decode_tls(decoder, base, node)? {
            *self = Some(tls);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.as_ref().map_or_else(null, print_tls)
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

/// Sections in a list; one that is null is its type's zero.
impl<R: Record + Default> Slot for Vec<R> {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        let mut all = Self::new();
        let is_list = decoder.items(node, R::GO_LIST, &mut |decoder, item| {
            let mut record = R::default();
            if item.is_null() {
                all.push(R::null().map_err(|text| Issue::new(item.pos, text))?);
            } else if read(&mut record, decoder, base, item)? {
                all.push(record);
            }
            Ok(())
        })?;
        if is_list {
            *self = all;
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::List(self.iter_mut().map(|record| fields(record).into_out()).collect())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

/// A section that may be missing.
impl<R: Record + Default> Slot for Option<Box<R>> {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            *self = None;
            return Ok(());
        }
        let mut record = R::default();
        if read(&mut record, decoder, base, node)? {
            *self = Some(Box::new(record));
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.as_mut().map_or_else(null, |record| fields(&mut **record).into_out())
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

/// A mapping with text for keys and anything for values.
#[derive(Clone, Debug, Default)]
pub(super) struct FreeMap(pub(super) BTreeMap<String, Free>);

impl Slot for FreeMap {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if let Some(pairs) = free::decode_map(decoder, node, "map[string]interface {}")? {
            self.0 = pairs.into_iter().collect();
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::sorted(self.0.iter().map(|(key, value)| (key.clone(), value.printed.clone())))
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl FreeMap {
    pub(super) fn into_json(self) -> BTreeMap<String, serde_json::Value> {
        self.0.into_iter().map(|(key, value)| (key, value.json)).collect()
    }
}

impl Slot for Option<Free> {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            *self = None;
        } else if let Some(value) = free::decode(decoder, node)? {
            *self = Some(value);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.as_ref().map_or_else(null, |value| value.printed.clone())
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

/// A span as Go's library writes it, in nanoseconds: `1h2m3.5s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    nanos: i64,
    /// Read through a method of its own, so that what it refuses ends the reading and bare numbers are refused.
    is_text: bool,
}

impl Span {
    /// Of a type that reads itself from text.
    pub(super) fn of_text(seconds: i64) -> Self {
        Self { nanos: seconds * 1_000_000_000, is_text: true }
    }

    /// What is negative does not limit anything.
    pub(super) fn duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

impl Slot for Span {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_nothing() {
            self.nanos = 0;
            return Ok(());
        }
        let text = node.text();
        if self.is_text {
            let Some(text) = text else { return decoder.mismatch::<()>(node, "config.duration").map(drop) };
            self.nanos = span::parse(text).map_err(|text| Issue::new(node.pos, text))?;
            return Ok(());
        }
        // A bare number is a number of nanoseconds.
        let number = text.and_then(|text| text.parse().ok());
        match number.or_else(|| text.and_then(|text| span::parse(text).ok())) {
            Some(nanos) => self.nanos = nanos,
            None => drop(decoder.mismatch::<()>(node, "time.Duration")?),
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::Raw(duration_string(self.nanos))
    }

    fn is_zero(&self) -> bool {
        self.nanos == 0
    }
}
