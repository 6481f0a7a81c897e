//! Templates of notifications: the data and functions of subjects, e-mails and webhooks.
//!
//! Compat: alertmanager `template` (0.34).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64_url::{decode as base64_decode, encode as base64_encode};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::alert::text_function;
use super::humanize::{humanize_duration, to_float};
use super::time::{RFC3339_NANO, Time};
use super::value::{ANY_MAP, Class, Trust, Value, no_methods};
use super::{Functions, Param, Signature};

/// One alert of a message.
#[derive(Clone, Debug)]
pub struct Alert {
    pub is_resolved: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub starts_at: Timestamp,
    /// `None` while the alert fires.
    pub ends_at: Option<Timestamp>,
    pub generator_url: String,
    pub fingerprint: String,
}

impl Alert {
    pub const fn status(&self) -> &'static str {
        if self.is_resolved { "resolved" } else { "firing" }
    }
}

/// What a template of a message sees as its dot.
#[derive(Clone, Debug)]
pub struct Data {
    /// The receiver's name, as it stands in the configuration.
    pub receiver: String,
    pub alerts: Vec<Alert>,
    /// Why the message is sent.
    pub reason: String,
    pub group_labels: BTreeMap<String, String>,
    pub common_labels: BTreeMap<String, String>,
    pub common_annotations: BTreeMap<String, String>,
    /// The labels of the route, already rendered.
    pub route_labels: BTreeMap<String, String>,
    pub external_url: String,
}

impl Data {
    /// Gathers what all alerts have in common.
    pub fn new(
        receiver: String,
        group_labels: BTreeMap<String, String>,
        alerts: Vec<Alert>,
        reason: String,
        external_url: String,
    ) -> Self {
        let common = |of: fn(&Alert) -> &BTreeMap<String, String>| {
            let mut alerts = alerts.iter();
            let mut common = alerts.next().map(|alert| of(alert).clone()).unwrap_or_default();
            alerts.for_each(|alert| common.retain(|name, value| of(alert).get(name) == Some(value)));
            common
        };
        let common_labels = common(|alert| &alert.labels);
        let common_annotations = common(|alert| &alert.annotations);
        let route_labels = BTreeMap::new();
        Self {
            receiver,
            alerts,
            reason,
            group_labels,
            common_labels,
            common_annotations,
            route_labels,
            external_url,
        }
    }

    /// `firing` while any alert fires.
    pub fn status(&self) -> &'static str {
        if self.alerts.iter().any(|alert| !alert.is_resolved) { "firing" } else { "resolved" }
    }

    pub fn to_value(&self) -> Value {
        Value::Struct(
            &DATA,
            Arc::new([
                ("Receiver", quote_meta(&self.receiver).into()),
                ("Status", self.status().into()),
                ("Alerts", Value::List(&ALERTS, self.alerts.iter().map(Alert::to_value).collect())),
                ("NotificationReason", self.reason.as_str().into()),
                ("GroupLabels", Value::map_of(&KV, &self.group_labels)),
                ("CommonLabels", Value::map_of(&KV, &self.common_labels)),
                ("CommonAnnotations", Value::map_of(&KV, &self.common_annotations)),
                ("RouteLabels", Value::map_of(&KV, &self.route_labels)),
                ("ExternalURL", self.external_url.as_str().into()),
            ]),
        )
    }
}

impl Alert {
    fn to_value(&self) -> Value {
        Value::Struct(
            &ALERT,
            Arc::new([
                ("Status", self.status().into()),
                ("Labels", Value::map_of(&KV, &self.labels)),
                ("Annotations", Value::map_of(&KV, &self.annotations)),
                ("StartsAt", Value::Time(Time::utc(self.starts_at))),
                ("EndsAt", Value::Time(self.ends_at.map_or_else(Time::zero, Time::utc))),
                ("GeneratorURL", self.generator_url.as_str().into()),
                ("Fingerprint", self.fingerprint.as_str().into()),
            ]),
        )
    }
}

/// Go's `regexp.QuoteMeta`, which upstream applies to the receiver's name.
pub fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

// === Classes ===

static DATA: Class = Class::plain("*template.Data", false);
static ALERT: Class = Class::plain("template.Alert", false);
static ALERTS: Class =
    Class { name: "template.Alerts", holds_strings: false, methods: alerts_methods, string: None };
static ALERT_LIST: Class = Class::plain("[]template.Alert", false);
static KV: Class =
    Class { name: "template.KV", holds_strings: true, methods: kv_methods, string: Some(print_kv) };
static PAIR: Class =
    Class { name: "template.Pair", holds_strings: true, methods: no_methods, string: Some(print_pair) };
static PAIRS: Class =
    Class { name: "template.Pairs", holds_strings: false, methods: pairs_methods, string: Some(print_pairs) };
static STRINGS: Class =
    Class { name: "template.Strings", holds_strings: true, methods: strings_methods, string: None };

fn alerts_methods(this: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let wanted = match (name, args) {
        ("Firing", []) => "firing",
        ("Resolved", []) => "resolved",
        _ => return None,
    };
    let has_status = |alert: &&Value| alert.field("Status").and_then(Value::as_str) == Some(wanted);
    let alerts = this.as_list()?.iter().filter(has_status).cloned().collect();
    Some(Ok(Value::List(&ALERT_LIST, alerts)))
}

fn entries(kv: &Value) -> Vec<(&str, &str)> {
    let Value::Map(_, map) = kv else { return Vec::new() };
    let mut pairs: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())).collect();
    // The alert's name comes first, the others by name.
    pairs.sort_by_key(|(name, _)| (*name != "alertname", *name));
    pairs
}

fn strings<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    Value::List(&STRINGS, items.map(Value::from).collect())
}

fn kv_methods(this: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let pairs = entries(this);
    match (name, args) {
        ("SortedPairs", []) => {
            let pairs = pairs.into_iter().map(|(name, value)| {
                Value::Struct(&PAIR, Arc::new([("Name", name.into()), ("Value", value.into())]))
            });
            Some(Ok(Value::List(&PAIRS, pairs.collect())))
        }
        ("Names", []) => Some(Ok(strings(pairs.into_iter().map(|(name, _)| name)))),
        ("Values", []) => Some(Ok(strings(pairs.into_iter().map(|(_, value)| value)))),
        ("Remove", [Value::List(_, drop)]) => {
            let is_dropped = |name: &str| drop.iter().any(|item| item.as_str() == Some(name));
            let kept = pairs.into_iter().filter(|(name, _)| !is_dropped(name));
            let map = kept.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            Some(Ok(Value::Map(&KV, Arc::new(map))))
        }
        ("Remove", _) => Some(Err("Remove takes a list of names".to_owned())),
        ("String", []) => Some(Ok(print_kv(this).into())),
        _ => None,
    }
}

fn pairs_methods(this: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let of = |field: &str| {
        let items = this.as_list().unwrap_or_default().iter();
        strings(items.filter_map(|pair| pair.field(field).and_then(Value::as_str)))
    };
    match (name, args) {
        ("Names", []) => Some(Ok(of("Name"))),
        ("Values", []) => Some(Ok(of("Value"))),
        ("String", []) => Some(Ok(print_pairs(this).into())),
        _ => None,
    }
}

fn strings_methods(this: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    match (name, args) {
        ("Join", [separator]) => Some(Ok(join(this, separator.as_str().unwrap_or_default()).into())),
        ("Join", _) => Some(Err("Join takes a separator".to_owned())),
        _ => None,
    }
}

fn join(list: &Value, separator: &str) -> String {
    let items = list.as_list().unwrap_or_default().iter();
    items.filter_map(Value::as_str).collect::<Vec<_>>().join(separator)
}

fn print_kv(this: &Value) -> String {
    let pairs: Vec<_> = entries(this).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(", ")
}

fn print_pair(this: &Value) -> String {
    let of = |field: &str| this.field(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{}={}", of("Name"), of("Value"))
}

fn print_pairs(this: &Value) -> String {
    this.as_list().unwrap_or_default().iter().map(print_pair).collect::<Vec<_>>().join(", ")
}

// === Functions ===

/// The functions of notifications.
#[derive(Clone, Copy, Debug)]
pub struct NotificationFunctions {
    pub now: Timestamp,
}

impl Functions for NotificationFunctions {
    fn signature(&self, name: &str) -> Option<Signature> {
        const ANY: Param = Param::Any;
        const STR: Param = Param::Str;
        Some(match name {
            "toUpper" | "toLower" | "title" | "trimSpace" | "safeHtml" | "safeUrl" | "urlUnescape"
            | "base64encode" | "base64decode" | "routeLabels" => Signature::fixed(&[STR]),
            "join" => Signature::fixed(&[STR, Param::Strings]),
            "match" | "toDate" | "mustToDate" => Signature::fixed(&[STR, STR]),
            "reReplaceAll" => Signature::fixed(&[STR, STR, STR]),
            "stringSlice" => Signature::variadic(&[], STR),
            "date" | "tz" => Signature::fixed(&[STR, Param::Time]),
            "since" => Signature::fixed(&[Param::Time]),
            "now" => Signature::fixed(&[]),
            "humanizeDuration" | "toJson" => Signature::fixed(&[ANY]),
            "list" | "dict" => Signature::variadic(&[], ANY),
            "append" => Signature::variadic(&[ANY], ANY),
            _ => return None,
        })
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let text = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or_default();
        match (name, args) {
            ("title", _) => Ok(title(text(0)).into()),
            ("trimSpace", _) => Ok(text(0).trim().into()),
            ("safeHtml", _) => Ok(Value::Safe(Trust::Html, text(0).into())),
            ("safeUrl", _) => Ok(Value::Safe(Trust::Url, text(0).into())),
            ("urlUnescape", _) => query_unescape(text(0)).map(Value::from),
            ("join", [_, list]) => Ok(join(list, text(0)).into()),
            ("stringSlice", args) => Ok(Value::strings(args.iter().filter_map(Value::as_str))),
            ("date", [_, Value::Time(time)]) => Ok(time.format(text(0)).into()),
            ("tz", [_, Value::Time(time)]) => {
                let zone = match text(0) {
                    "" | "UTC" => TimeZone::UTC,
                    "Local" => TimeZone::system(),
                    zone => TimeZone::get(zone).map_err(|_| format!("unknown time zone {zone}"))?,
                };
                Ok(Value::Time(time.in_zone(zone)))
            }
            ("since", [Value::Time(time)]) => Ok(Value::Duration(Time::utc(self.now).since(time))),
            ("now", _) => Ok(Value::Time(Time::utc(self.now))),
            ("toDate", _) => Ok(Value::Time(parse_date(text(0), text(1)).unwrap_or_else(Time::zero))),
            ("mustToDate", _) => parse_date(text(0), text(1)).map(Value::Time).ok_or_else(|| {
                let quote = |text: &str| model::quote::go_quote(text.as_bytes());
                format!("parsing time {} as {}", quote(text(1)), quote(text(0)))
            }),
            ("humanizeDuration", [value]) => Ok(humanize_duration(to_float(value)?).into()),
            ("toJson", [value]) => Ok(go_json(value).into()),
            ("base64encode", _) => Ok(base64_encode(text(0).as_bytes()).into()),
            ("base64decode", _) => base64_decode(text(0)).map(Value::from),
            ("list", args) => Ok(Value::list(args.iter().cloned())),
            ("append", [Value::List(class, items), more @ ..]) => {
                Ok(Value::List(class, items.iter().chain(more).cloned().collect()))
            }
            ("append", [other, ..]) => Err(format!("cannot append to {}", other.type_name())),
            ("dict", args) => dict(args),
            ("routeLabels", _) => Ok(Value::str("")),
            _ => text_function(name, args),
        }
    }
}

fn dict(args: &[Value]) -> Result<Value, String> {
    if !args.len().is_multiple_of(2) {
        return Err("dict requires an even number of arguments".to_owned());
    }
    let mut map = BTreeMap::new();
    for pair in args.chunks_exact(2) {
        let Some(key) = pair[0].as_str() else { return Err("dict keys must be strings".to_owned()) };
        map.insert(key.to_owned(), pair[1].clone());
    }
    Ok(Value::Map(&ANY_MAP, Arc::new(map)))
}

/// JSON as Go's encoder writes it: characters that mean something in HTML as escapes.
fn go_json(value: &Value) -> String {
    let json = value.to_json().to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

/// Every word's first letter in upper case, the others in lower case. Compat: `golang.org/x/text/cases`, `Title`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_numeric() {
            out.push(c);
            continue;
        }
        if c.is_alphabetic() {
            if in_word {
                out.extend(c.to_lowercase());
            } else {
                out.extend(c.to_uppercase());
            }
            in_word = true;
            continue;
        }
        out.push(c);
        // Word boundaries of Unicode: these join letters on both sides to one word.
        let joins = matches!(c, '\'' | '\u{2019}' | '.' | ':' | '\u{b7}');
        in_word = c == '_' || (in_word && joins && chars.peek().is_some_and(|c| c.is_alphabetic()));
    }
    out
}

fn query_unescape(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = text.get(i + 1..i + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
                    let end = (i..=(i + 3).min(text.len())).rev().find(|end| text.is_char_boundary(*end));
                    let bad = model::quote::go_quote(&text.as_bytes()[i..end.unwrap_or(i)]);
                    return Err(format!("invalid URL escape {bad}"));
                };
                out.push(byte);
                i += 2;
            }
            b => out.push(b),
        }
        i += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Reads a date by the layouts that are written most: RFC 3339, date, date and time.
fn parse_date(layout: &str, text: &str) -> Option<Time> {
    if layout == RFC3339_NANO || layout == "2006-01-02T15:04:05Z07:00" {
        return text.parse().ok().map(Time::utc);
    }
    let format = layout
        .replace("2006", "%Y")
        .replace("01", "%m")
        .replace("02", "%d")
        .replace("15", "%H")
        .replace("04", "%M")
        .replace("05", "%S");
    let civil = jiff::fmt::strtime::parse(&format, text).ok()?;
    let date = civil.to_date().ok()?;
    let time = civil.to_time().unwrap_or_default();
    let at = date.to_datetime(time).to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(Time::utc(at))
}

/// Base64 of the URL-safe alphabet.
mod base64_url {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub(super) fn encode(bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let group =
                chunk.iter().fold(0_u32, |group, b| group << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
            for i in 0..4 {
                let index = (group >> (18 - 6 * i)) & 63;
                let known = i <= chunk.len();
                out.push(if known { char::from(ALPHABET[index as usize]) } else { '=' });
            }
        }
        out
    }

    pub(super) fn decode(text: &str) -> Result<String, String> {
        let mut out = Vec::with_capacity(text.len() / 4 * 3);
        let body = text.trim_end_matches('=');
        let bad = |at: usize| format!("illegal base64 data at input byte {at}");
        if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
            return Err(bad(body.len()));
        }
        let (mut group, mut bits) = (0_u32, 0);
        for (at, b) in body.bytes().enumerate() {
            let index = ALPHABET.iter().position(|known| *known == b).ok_or_else(|| bad(at))?;
            group = group << 6 | u32::try_from(index).unwrap_or(0);
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                out.push(u8::try_from(group >> bits & 0xff).unwrap_or(0));
            }
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}
