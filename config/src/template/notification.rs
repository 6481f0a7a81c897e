//! Templates of notifications: the data and functions of subjects, e-mails and webhooks.
//!
//! Compat: alertmanager `template` (0.34).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64_url::{decode as base64_decode, encode as base64_encode};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::alert::text_function;
use super::humanize::{humanize_duration, to_float};
use super::time::Time;
use super::value::{ANY_MAP, ANYTHINGS, Class, Trust, Value};
use super::{Error, Functions, Mode, Param, Set, Signature, arithmetic, json};

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
    /// Labels of the route: templates, unless they have been rendered.
    pub route_labels: BTreeMap<String, String>,
    pub route_labels_rendered: bool,
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
            route_labels_rendered: false,
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
                (RENDERED, self.route_labels_rendered.into()),
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

/// A field that upstream's templates print but cannot name.
pub(super) const RENDERED: &str = "routeLabelsRendered";

static DATA: Class = Class::plain("*template.Data", false);
static ALERT: Class = Class::plain("template.Alert", false);
static ALERTS: Class = Class {
    methods: |name| matches!(name, "Firing" | "Resolved").then(|| Signature::fixed(&[])),
    call: alerts_call,
    ..Class::plain("template.Alerts", false)
};
static ALERT_LIST: Class = Class::plain("[]template.Alert", false);
static KV: Class = Class {
    methods: |name| match name {
        "SortedPairs" | "Names" | "Values" | "String" => Some(Signature::fixed(&[])),
        "Remove" => Some(Signature::fixed(&[Param::Strings])),
        _ => None,
    },
    call: kv_call,
    string: Some(print_kv),
    ..Class::plain("template.KV", true)
};
static PAIR: Class = Class::plain("template.Pair", true);
static PAIRS: Class = Class {
    methods: |name| matches!(name, "Names" | "Values" | "String").then(|| Signature::fixed(&[])),
    call: pairs_call,
    string: Some(print_pairs),
    ..Class::plain("template.Pairs", false)
};
static STRINGS: Class = Class {
    methods: |name| (name == "Join").then(|| Signature::fixed(&[Param::Str])),
    call: |this, _, args| Ok(join(this, args.first().and_then(Value::as_str).unwrap_or_default()).into()),
    ..Class::plain("template.Strings", true)
};

#[expect(clippy::unnecessary_wraps, reason = "methods of other classes fail")]
fn alerts_call(this: &Value, name: &str, _: &[Value]) -> Result<Value, String> {
    let wanted = if name == "Firing" { "firing" } else { "resolved" };
    let has_status = |alert: &&Value| alert.field("Status").and_then(Value::as_str) == Some(wanted);
    let alerts = this.as_list().unwrap_or_default().iter().filter(has_status).cloned().collect();
    Ok(Value::List(&ALERT_LIST, alerts))
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

#[expect(clippy::unnecessary_wraps, reason = "methods of other classes fail")]
fn kv_call(this: &Value, name: &str, args: &[Value]) -> Result<Value, String> {
    let pairs = entries(this);
    Ok(match (name, args) {
        ("SortedPairs", _) => {
            let pairs = pairs.into_iter().map(|(name, value)| {
                Value::Struct(&PAIR, Arc::new([("Name", name.into()), ("Value", value.into())]))
            });
            Value::List(&PAIRS, pairs.collect())
        }
        ("Names", _) => strings(pairs.into_iter().map(|(name, _)| name)),
        ("Values", _) => strings(pairs.into_iter().map(|(_, value)| value)),
        ("Remove", [drop]) => {
            let drop: BTreeSet<_> =
                drop.as_list().unwrap_or_default().iter().filter_map(Value::as_str).collect();
            let kept = pairs.into_iter().filter(|(name, _)| !drop.contains(name));
            let map = kept.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            Value::Map(&KV, Arc::new(map))
        }
        _ => print_kv(this).into(),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "methods of other classes fail")]
fn pairs_call(this: &Value, name: &str, _: &[Value]) -> Result<Value, String> {
    let of = |field: &str| {
        let items = this.as_list().unwrap_or_default().iter();
        strings(items.filter_map(|pair| pair.field(field).and_then(Value::as_str)))
    };
    Ok(match name {
        "Names" => of("Name"),
        "Values" => of("Value"),
        _ => print_pairs(this).into(),
    })
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

// === Execution ===

/// Expands the fragment `text`, which may call any template of `set`.
///
/// # Errors
/// It does not parse or does not execute.
pub fn expand(set: &Set, text: &str, data: &Data, mode: Mode, now: Timestamp) -> Result<String, Error> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let root = data.to_value();
    let base = NotificationFunctions { now };
    let functions = WithRouteLabels { base, set, data, root: &root, mode, state: RefCell::default() };
    functions.expand(text)
}

/// The functions of one message, where route labels are rendered when a template asks for them.
struct WithRouteLabels<'d> {
    base: NotificationFunctions,
    set: &'d Set,
    data: &'d Data,
    root: &'d Value,
    mode: Mode,
    state: RefCell<Rendered>,
}

/// Route labels that are known, and those that are being rendered, outermost first.
#[derive(Default)]
struct Rendered {
    done: BTreeMap<String, String>,
    open: Vec<String>,
}

impl WithRouteLabels<'_> {
    fn expand(&self, text: &str) -> Result<String, Error> {
        let mut set = self.set.clone();
        set.parse("", text, self)?;
        set.execute("", self.root, self, self.mode)
    }

    fn route_label(&self, name: &str) -> Result<String, String> {
        let Some(text) = self.data.route_labels.get(name) else { return Ok(String::new()) };
        if self.data.route_labels_rendered {
            return Ok(text.clone());
        }
        {
            let mut state = self.state.borrow_mut();
            if let Some(done) = state.done.get(name) {
                return Ok(done.clone());
            }
            if state.open.iter().any(|open| open == name) {
                return Err(format!("route label cycle detected: {} -> {name}", state.open.join(" -> ")));
            }
            state.open.push(name.to_owned());
        }
        let rendered = self.expand(text);
        let mut state = self.state.borrow_mut();
        state.open.pop();
        let rendered = rendered.map_err(|e| e.to_string())?;
        state.done.insert(name.to_owned(), rendered.clone());
        Ok(rendered)
    }
}

impl Functions for WithRouteLabels<'_> {
    fn signature(&self, name: &str) -> Option<Signature> {
        self.base.signature(name)
    }

    fn output_max(&self) -> usize {
        self.base.output_max()
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        match (name, args) {
            ("routeLabels", [label]) => self.route_label(label.as_str().unwrap_or_default()).map(Value::from),
            _ => self.base.call(name, args),
        }
    }
}

// === Functions ===

/// The functions of notifications.
#[derive(Clone, Copy, Debug)]
pub struct NotificationFunctions {
    pub now: Timestamp,
}

/// A message of thousands of alerts must get through.
const OUTPUT_MAX: usize = 16 << 20;

impl Functions for NotificationFunctions {
    fn output_max(&self) -> usize {
        OUTPUT_MAX
    }

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
            // These are not of upstream.
            "add" | "sub" | "mul" | "div" | "default" => Signature::fixed(&[ANY, ANY]),
            "truncate" => Signature::fixed(&[Param::Int, STR]),
            "append" => Signature::variadic(&[Param::Class("[]interface {}")], ANY),
            _ => return None,
        })
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let text = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or_default();
        match (name, args) {
            ("title", _) => Ok(title(text(0), true).into()),
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
                    zone if zone.contains("..") || zone.starts_with(['/', '\\']) => {
                        return Err("time: invalid location name".to_owned());
                    }
                    zone => TimeZone::get(zone).map_err(|_| format!("unknown time zone {zone}"))?,
                };
                Ok(Value::Time(time.in_zone(zone)))
            }
            ("since", [Value::Time(time)]) => Ok(Value::Duration(Time::utc(self.now).since(time))),
            ("now", _) => Ok(Value::Time(Time::utc(self.now))),
            ("toDate", _) => {
                Ok(Value::Time(super::parse_time::parse(text(0), text(1)).unwrap_or_else(|_| Time::zero())))
            }
            ("mustToDate", _) => super::parse_time::parse(text(0), text(1)).map(Value::Time),
            ("humanizeDuration", [value]) => Ok(humanize_duration(to_float(value)?).into()),
            ("toJson", [value]) => json::encode(value).map(Value::from),
            ("base64encode", _) => Ok(base64_encode(text(0).as_bytes()).into()),
            ("base64decode", _) => base64_decode(text(0)).map(Value::from),
            ("list", args) => Ok(Value::list(args.iter().cloned())),
            ("append", [list, more @ ..]) => {
                let items = list.as_list().unwrap_or_default();
                Ok(Value::List(&ANYTHINGS, items.iter().chain(more).cloned().collect()))
            }
            ("dict", args) => dict(args),
            ("add" | "sub" | "mul" | "div", [a, b]) => arithmetic::compute(name, a, b),
            ("truncate", [Value::Int(len), _]) => Ok(arithmetic::truncate(*len, text(1)).into()),
            ("default", [default, value]) => {
                Ok(if value.is_true() { value.clone() } else { default.clone() })
            }
            // Labels of routes belong to a message, see `expand`.
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

/// Every word's first letter in upper case, the others in lower case. Compat: `golang.org/x/text/cases`, `Title`.
///
/// `lowers` says what becomes of the others: rules leave them as they are.
pub(super) fn title(text: &str, lowers: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_numeric() {
            out.push(c);
            continue;
        }
        if c.is_alphabetic() {
            match (in_word, lowers) {
                (true, false) => out.push(c),
                // The sigma that ends a word has a form of its own.
                (true, true) if c == 'Σ' && !chars.peek().is_some_and(|c| c.is_alphabetic()) => {
                    out.push('ς');
                }
                (true, true) => out.push(super::alert::to_lower(c)),
                (false, _) => push_title(&mut out, c),
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

/// The form of `c` that begins a word.
fn push_title(out: &mut String, c: char) {
    match c {
        'Ǆ'..='ǆ' => out.push('ǅ'),
        'Ǉ'..='ǉ' => out.push('ǈ'),
        'Ǌ'..='ǌ' => out.push('ǋ'),
        'Ǳ'..='ǳ' => out.push('ǲ'),
        c => {
            // Of a ligature only the first letter is large.
            let mut upper = c.to_uppercase();
            let first = upper.next().unwrap_or(c);
            out.push(first);
            if first.is_uppercase() {
                out.extend(upper.flat_map(char::to_lowercase));
            } else {
                out.extend(upper);
            }
        }
    }
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
        let bytes = text.as_bytes();
        let bad = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
        let mut out = Vec::with_capacity(text.len() / 4 * 3);
        let (mut group, mut count, mut at) = (0_u32, 0, 0);
        let blank = |mut at: usize| {
            while matches!(bytes.get(at), Some(b'\n' | b'\r')) {
                at += 1;
            }
            at
        };
        while let Some(&b) = bytes.get(at) {
            at += 1;
            if let Some(index) = ALPHABET.iter().position(|known| *known == b) {
                group = group << 6 | u32::try_from(index).unwrap_or(0);
                count += 1;
                if count == 4 {
                    out.extend_from_slice(&group.to_be_bytes()[1..]);
                    (group, count) = (0, 0);
                }
                continue;
            }
            match (b, count) {
                (b'\n' | b'\r', _) => {}
                (b'=', 2 | 3) => {
                    if count == 2 {
                        at = blank(at);
                        match bytes.get(at) {
                            None => return bad(bytes.len()),
                            Some(b'=') => at += 1,
                            Some(_) => return bad(at - 1),
                        }
                    }
                    at = blank(at);
                    if at < bytes.len() {
                        return bad(at);
                    }
                    let group = (group << (6 * (4 - count))).to_be_bytes();
                    out.extend_from_slice(&group[1..count]);
                    count = 0;
                }
                _ => return bad(at - 1),
            }
        }
        if count > 0 {
            return bad(at - count);
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}
