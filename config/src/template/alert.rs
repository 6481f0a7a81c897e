//! Templates of alerting rules: the labels, the value and the functions an annotation may use.
//!
//! Compat: prometheus `template`, `Expander`, and `rules`, where the variables before the text come from.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use model::{FloatHistogram, Labels, Regex};

use super::humanize::{humanize, humanize_duration, humanize_percentage, humanize1024, to_float};
use super::time::Time;
use super::value::{ANY_MAP, ANYTHINGS, Class, Value};
use super::{Error, Functions, Mode, Param, Set, Signature, query_escape};

/// What the text of every rule begins with.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// The samples that one `query` may hand to a template.
pub const QUERY_SAMPLES_MAX: usize = 50_000;

/// What a template of an alerting rule sees.
#[derive(Clone, Debug)]
pub struct AlertData<'d> {
    /// The labels of the element that the rule's expression returned.
    pub labels: &'d Labels,
    pub value: SampleValue,
    pub external_labels: &'d Labels,
    /// The URL under which the server is reached, without a slash at the end.
    pub external_url: &'d str,
    /// The evaluation's time, in ms.
    pub t: model::Timestamp,
}

/// What a sample holds.
#[derive(Clone, Debug)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// Runs a query at the evaluation's time.
pub type Query<'q> = dyn Fn(&str) -> Result<Vec<(Labels, SampleValue)>, String> + 'q;

/// Checks that `text` parses.
///
/// # Errors
/// `template: <name>:<line>: …`
pub fn check(name: &str, text: &str) -> Result<(), Error> {
    let mut set = Set::default();
    set.parse(name, &format!("{PRELUDE}{text}"), &Names)
}

/// Expands `text` for one alert.
///
/// # Errors
/// `error parsing template <name>: …` or `error executing template <name>: …`
pub fn expand(name: &str, text: &str, data: &AlertData<'_>, query: &Query<'_>) -> Result<String, Error> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let functions =
        AlertFunctions { external_url: data.external_url, t: data.t, query, waited: Cell::default() };
    let set = parse(name, text, &functions)?;
    let root = Value::Struct(
        &DATA,
        Arc::new([
            ("Labels", Value::string_map(&data.labels.to_map())),
            ("ExternalLabels", Value::string_map(&data.external_labels.to_map())),
            ("ExternalURL", data.external_url.into()),
            ("Value", data.value.to_value()),
        ]),
    );
    set.execute(name, &root, &functions, Mode::Text)
        .map_err(|e| e.within(&format!("error executing template {name}")))
}

fn parse(name: &str, text: &str, functions: &dyn Functions) -> Result<Set, Error> {
    let mut set = Set::default();
    set.parse(name, &format!("{PRELUDE}{text}"), functions)
        .map_err(|e| e.within(&format!("error parsing template {name}")))?;
    Ok(set)
}

static DATA: Class = Class::plain(
    "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }",
    false,
);
static SAMPLE: Class = Class::plain("*template.sample", false);
static SAMPLES: Class = Class::plain("template.queryResult", false);

/// A histogram: its fields by Go's names, and under a name that no template can write the text it prints as.
static HISTOGRAM: Class = Class {
    name: "*histogram.FloatHistogram",
    holds_strings: false,
    methods: |name| (name == "String").then(|| Signature::fixed(&[])),
    call: |this, _, _| Ok(histogram_text(this).into()),
    string: Some(histogram_text),
};
static SPAN: Class = Class::plain("histogram.Span", false);
const TEXT_FIELD: &str = "";

fn histogram_text(this: &Value) -> String {
    this.field(TEXT_FIELD).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl SampleValue {
    fn to_value(&self) -> Value {
        let h = match self {
            Self::Float(v) => return (*v).into(),
            Self::Histogram(h) => h,
        };
        let int = |v: i64| Value::Int(v);
        let floats = |vs: &[f64]| Value::List(&ANYTHINGS, vs.iter().map(|&v| v.into()).collect());
        let spans = |spans: &[model::histogram::Span]| {
            let of = |span: &model::histogram::Span| {
                let fields = [("Offset", int(span.offset.into())), ("Length", int(span.length.into()))];
                Value::Struct(&SPAN, Arc::new(fields))
            };
            Value::List(&ANYTHINGS, spans.iter().map(of).collect())
        };
        Value::Struct(
            &HISTOGRAM,
            Arc::new([
                ("CounterResetHint", int(h.counter_reset_hint as i64)),
                ("Schema", int(h.schema.into())),
                ("ZeroThreshold", h.zero_threshold.into()),
                ("ZeroCount", h.zero_count.into()),
                ("Count", h.count.into()),
                ("Sum", h.sum.into()),
                ("PositiveSpans", spans(&h.positive_spans)),
                ("NegativeSpans", spans(&h.negative_spans)),
                ("PositiveBuckets", floats(&h.positive_buckets)),
                ("NegativeBuckets", floats(&h.negative_buckets)),
                ("CustomValues", floats(&h.custom_values)),
                (TEXT_FIELD, h.to_string().into()),
            ]),
        )
    }
}

/// What templates of rules may call beyond the language's own functions, sorted; consoles have `tmpl` besides.
pub const FUNCTIONS: [&str; 29] = [
    "args",
    "externalURL",
    "first",
    "graphLink",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "label",
    "match",
    "now",
    "parseDuration",
    "pathPrefix",
    "query",
    "reReplaceAll",
    "safeHtml",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "toDuration",
    "toLower",
    "toTime",
    "toUpper",
    "urlQueryEscape",
    "value",
];

pub(super) fn signature(name: &str) -> Option<Signature> {
    const ANY: Param = Param::Any;
    const STR: Param = Param::Str;
    const SAMPLE: Param = Param::Class("*template.sample");
    const SAMPLES: Param = Param::Class("template.queryResult");
    Some(match name {
        "query" | "title" | "toUpper" | "toLower" | "graphLink" | "tableLink" | "stripPort"
        | "stripDomain" | "safeHtml" | "parseDuration" | "urlQueryEscape" => Signature::fixed(&[STR]),
        "first" => Signature::fixed(&[SAMPLES]),
        "label" => Signature::fixed(&[STR, SAMPLE]),
        "value" | "strvalue" => Signature::fixed(&[SAMPLE]),
        "sortByLabel" => Signature::fixed(&[STR, SAMPLES]),
        "args" => Signature::variadic(&[], ANY),
        "reReplaceAll" => Signature::fixed(&[STR, STR, STR]),
        "match" => Signature::fixed(&[STR, STR]),
        "humanize" | "humanize1024" | "humanizeDuration" | "humanizePercentage" | "humanizeTimestamp"
        | "toTime" | "toDuration" => Signature::fixed(&[ANY]),
        "now" | "pathPrefix" | "externalURL" => Signature::fixed(&[]),
        _ => return None,
    })
}

/// The functions' names alone, to check a template without data.
pub(super) struct Names;

impl Functions for Names {
    fn signature(&self, name: &str) -> Option<Signature> {
        signature(name)
    }

    fn call(&self, _: &str, _: &[Value]) -> Result<Value, String> {
        Err("no data to run on".to_owned())
    }
}

/// What templates of rules and of consoles may call.
pub(super) struct AlertFunctions<'d> {
    pub(super) external_url: &'d str,
    pub(super) t: model::Timestamp,
    pub(super) query: &'d Query<'d>,
    pub(super) waited: Cell<Duration>,
}

impl Functions for AlertFunctions<'_> {
    fn signature(&self, name: &str) -> Option<Signature> {
        signature(name)
    }

    fn waited(&self) -> Duration {
        self.waited.get()
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let text = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or_default();
        let number = || to_float(args.first().unwrap_or(&Value::Nil));
        if matches!(name, "label" | "value" | "strvalue") && matches!(args.last(), Some(Value::Nil)) {
            return Err("runtime error: invalid memory address or nil pointer dereference".to_owned());
        }
        match name {
            "query" => self.run(text(0)),
            "first" => {
                let first = args.first().and_then(Value::as_list).and_then(<[Value]>::first);
                first.cloned().ok_or_else(|| "first() called on vector with no elements".to_owned())
            }
            "label" => Ok(sample_label(&args[1], text(0))),
            "value" => Ok(args[0].field("Value").cloned().unwrap_or(Value::Float(0.0))),
            "strvalue" => Ok(sample_label(&args[0], "__value__")),
            "sortByLabel" => {
                let mut samples = args[1].as_list().unwrap_or_default().to_vec();
                samples.sort_by_cached_key(|sample| {
                    sample_label(sample, text(0)).as_str().unwrap_or_default().to_owned()
                });
                Ok(Value::List(&SAMPLES, samples.into()))
            }
            "args" => {
                let map = args.iter().enumerate().map(|(i, arg)| (format!("arg{i}"), arg.clone())).collect();
                Ok(Value::Map(&ANY_MAP, Arc::new(map)))
            }
            "safeHtml" => Ok(Value::Safe(super::Trust::Html, text(0).into())),
            "humanize" => Ok(humanize(number()?).into()),
            "humanize1024" => Ok(humanize1024(number()?).into()),
            "humanizeDuration" => Ok(humanize_duration(number()?).into()),
            "humanizePercentage" => Ok(humanize_percentage(number()?).into()),
            "humanizeTimestamp" => {
                let v = number()?;
                if !v.is_finite() {
                    return Ok(super::format::float(v, 'g', Some(4)).into());
                }
                Ok(time_of(v)?.to_string().into())
            }
            "toTime" => Ok(Value::Ptr(Arc::new(Value::Time(time_of(number()?)?)))),
            "toDuration" =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "a span beyond 292 years saturates")]
                Ok(Value::Ptr(Arc::new(Value::Duration((number()? * 1e9) as i64))))
            }
            "now" => Ok(Value::Float(self.t as f64 / 1000.0)),
            "graphLink" => Ok(format!("/graph?g0.expr={}&g0.tab=0", query_escape(text(0))).into()),
            "tableLink" => Ok(format!("/graph?g0.expr={}&g0.tab=1", query_escape(text(0))).into()),
            "urlQueryEscape" => Ok(query_escape(text(0)).into()),
            "externalURL" => Ok(self.external_url.into()),
            "pathPrefix" => Ok(path_of(self.external_url).into()),
            "parseDuration" => model::duration::parse_signed_ms(text(0))
                .map(|ms| Value::Float(ms as f64 / 1000.0))
                .map_err(|e| e.to_string()),
            "title" => Ok(super::notification::title(text(0), false).into()),
            "stripPort" => Ok(strip_port(text(0)).into()),
            "stripDomain" => Ok(strip_domain(text(0)).into()),
            _ => text_function(name, args),
        }
    }
}

impl AlertFunctions<'_> {
    fn run(&self, expr: &str) -> Result<Value, String> {
        let start = Instant::now();
        let samples = (self.query)(expr);
        self.waited.set(self.waited.get() + start.elapsed());
        let samples = samples?;
        if samples.len() > QUERY_SAMPLES_MAX {
            return Err(format!("query returned {} samples, more than {QUERY_SAMPLES_MAX}", samples.len()));
        }
        let samples = samples.into_iter().map(|(labels, v)| {
            let labels = Value::string_map(&labels.to_map());
            Value::Struct(&SAMPLE, Arc::new([("Labels", labels), ("Value", v.to_value())]))
        });
        Ok(Value::List(&SAMPLES, samples.collect()))
    }
}

/// The functions on text that rules and notifications share.
pub(super) fn text_function(name: &str, args: &[Value]) -> Result<Value, String> {
    let text = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or_default();
    match name {
        "toUpper" => Ok(text(0).chars().map(to_upper).collect::<String>().into()),
        "toLower" => Ok(text(0).chars().map(to_lower).collect::<String>().into()),
        "match" => {
            let regex = Regex::unanchored(text(0).as_bytes()).map_err(|e| e.to_string())?;
            Ok(regex.is_match(text(1).as_bytes()).into())
        }
        "reReplaceAll" => {
            let regex = Regex::unanchored(text(0).as_bytes()).map_err(|e| {
                let can_backquote = !text(0).contains(|c: char| c == '`' || (c.is_control() && c != '\t'));
                let pattern = if can_backquote {
                    format!("`{}`", text(0))
                } else {
                    model::quote::go_quote(text(0).as_bytes())
                };
                format!("regexp: Compile({pattern}): {e}")
            })?;
            let replaced = regex.replace_all(text(2).as_bytes(), text(1).as_bytes());
            Ok(String::from_utf8_lossy(&replaced).into_owned().into())
        }
        _ => Err("unknown function".to_owned()),
    }
}

/// One letter for one, as Go's `unicode.ToUpper`: what would become several stays.
fn to_upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        _ => c,
    }
}

/// As [`to_upper`].
pub(super) fn to_lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

fn sample_label(sample: &Value, name: &str) -> Value {
    let label = sample.field("Labels").and_then(|labels| labels.field(name));
    label.cloned().unwrap_or_else(|| Value::str(""))
}

/// Seconds to a point in time, to the millisecond.
fn time_of(seconds: f64) -> Result<Time, String> {
    if !seconds.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    let nanos = seconds * 1e9;
    let fits = (-9.223_372_036_854_775e18..=9.223_372_036_854_775e18).contains(&nanos);
    #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
    let at = fits.then(|| Timestamp::from_millisecond(nanos as i64 / 1_000_000));
    let Some(Ok(at)) = at else {
        let shown = super::format::float(seconds, 'g', None);
        return Err(format!(
            "{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ));
    };
    Ok(Time::utc(at))
}

/// Go's `net.SplitHostPort`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return (!inner.contains(['[', ']'])).then_some((inner, port));
    }
    (!host.contains(':') && !text.contains(['[', ']'])).then_some((host, port))
}

fn strip_port(text: &str) -> &str {
    split_host_port(text).map_or(text, |(host, _)| host)
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let name = host.split('.').next().unwrap_or_default();
    match port {
        "" => name.to_owned(),
        port if name.contains([':', '%']) => format!("[{name}]:{port}"),
        port => format!("{name}:{port}"),
    }
}

fn path_of(url: &str) -> String {
    url::Url::parse(url).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}
