//! Templates against what Go's engine makes of the same text and data.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::Labels;

use super::alert::{self, AlertData, SampleValue};
use super::console::Console;
use super::notification::{self, Alert, Data, NotificationFunctions};
use super::value::{ANY_MAP, Value};
use super::{Error, Functions, Mode, Set, Signature};

/// One line of the golden files, which a Go program wrote from our inputs with prometheus'
/// `template` package and with `text/template` and `html/template`.
#[derive(serde::Deserialize)]
struct Case {
    kind: String,
    text: String,
    /// Files parsed before the text.
    #[serde(default)]
    libs: BTreeMap<String, String>,
    #[serde(default)]
    out: String,
    #[serde(default)]
    err: String,
}

fn cases() -> Vec<Case> {
    let path = std::env::var("TEMPLATE_CASES").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/template/testdata/golden.jsonl").to_owned()
    });
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn expand_alert(text: &str, value: SampleValue) -> Result<String, Error> {
    let labels =
        Labels::from_pairs([("alertname", "High"), ("instance", "web-1.example.org:9100"), ("job", "node")]);
    let external = Labels::from_pairs([("region", "eu")]);
    let data = AlertData {
        labels: &labels,
        value,
        external_labels: &external,
        external_url: "http://prom.example:9090/base",
        t: 1_700_000_000_123,
    };
    alert::expand("__alert_High", text, &data, &query)
}

fn query(expr: &str) -> Result<Vec<(Labels, SampleValue)>, String> {
    match expr {
        "up" => Ok([("b:2", 1.0), ("a:1", 11.0)]
            .map(|(instance, v)| {
                let labels = Labels::from_pairs([("__name__", "up"), ("instance", instance)]);
                (labels, SampleValue::Float(v))
            })
            .to_vec()),
        "str" => Ok(vec![(Labels::from_pairs([("__value__", "a string")]), SampleValue::Float(0.0))]),
        "empty" => Ok(Vec::new()),
        _ => Err("parse error: bad query".to_owned()),
    }
}

fn expand_console(case: &Case) -> Result<String, Error> {
    let external = Labels::from_pairs([("region", "eu")]);
    let console = Console {
        raw_params: &[("q", vec!["a<b", "c"])],
        path: "index.html",
        external_labels: &external,
        external_url: "http://prom.example:9090/base",
        t: 1_700_000_000_123,
    };
    let libraries: Vec<_> = case.libs.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    console.expand("__console_/index.html", &case.text, &libraries, &query)
}

fn histogram() -> SampleValue {
    SampleValue::Histogram(Arc::new(model::FloatHistogram {
        count: 3.0,
        sum: 2.5,
        positive_spans: vec![model::histogram::Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        ..model::FloatHistogram::default()
    }))
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A message of three alerts.
fn message() -> Data {
    let start = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    let alert = |name: &str, instance: &str, severity: &str| Alert {
        is_resolved: false,
        labels: map([("alertname", name), ("instance", instance), ("severity", severity)]),
        annotations: BTreeMap::new(),
        starts_at: start,
        ends_at: None,
        generator_url: String::new(),
        fingerprint: "00000000000000ff".to_owned(),
    };
    let alerts = vec![
        Alert {
            annotations: map([
                ("summary", "disk <full> & \"hot\""),
                ("runbook", "https://r.example/x?a=1&b=2"),
            ]),
            generator_url: "http://prom/graph?g0.expr=up&g0.tab=1".to_owned(),
            fingerprint: "0123456789abcdef".to_owned(),
            ..alert("Disk", "a:9100", "page")
        },
        Alert {
            is_resolved: true,
            annotations: map([("summary", "it's gone")]),
            ends_at: Some(start + jiff::SignedDuration::from_mins(90)),
            generator_url: "javascript:alert(1)".to_owned(),
            fingerprint: "fedcba9876543210".to_owned(),
            ..alert("Disk", "b:9100", "page")
        },
        Alert { starts_at: start - jiff::SignedDuration::from_hours(26), ..alert("Net", "c", "warn") },
    ];
    Data {
        receiver: "team.a".to_owned(),
        alerts,
        reason: "first notification".to_owned(),
        group_labels: map([("alertname", "Disk"), ("cluster", "eu<1>")]),
        common_labels: map([("job", "node"), ("alertname", "Disk"), ("zone", "z&1")]),
        common_annotations: map([("summary", "s")]),
        route_labels: map([
            ("team", "storage"),
            ("chan", "#{{ .GroupLabels.cluster }}"),
            ("deep", "{{ routeLabels \"chan\" }}-{{ routeLabels \"team\" }}"),
            ("loop", "{{ routeLabels \"pool\" }}"),
            ("pool", "{{ routeLabels \"loop\" }}"),
            ("bad", "{{ .Nope }}"),
            ("broken", "{{ if }}"),
        ]),
        route_labels_rendered: false,
        external_url: "http://am.example:9093/alertmanager".to_owned(),
    }
}

fn expand_message(case: &Case, mode: Mode) -> Result<String, Error> {
    let mut set = Set::default();
    for text in case.libs.values() {
        set.parse("", text, &functions())?;
    }
    notification::expand(&set, &case.text, &message(), mode, functions().now)
}

fn functions() -> NotificationFunctions {
    NotificationFunctions { now: Timestamp::from_second(1_700_000_100).unwrap() }
}

fn sample_data() -> Value {
    let kv: BTreeMap<String, String> =
        [("a", "1"), ("alertname", "Down"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let data = Data::new(String::new(), kv, Vec::new(), String::new(), String::new()).to_value();
    let map = Value::Map(
        &ANY_MAP,
        Arc::new(BTreeMap::from([
            ("k".to_owned(), "v<".into()),
            ("n".to_owned(), Value::Int(1)),
            ("a".to_owned(), Value::strings(["x"])),
        ])),
    );
    let time = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    let message = message().to_value();
    let alert = message.field("Alerts").and_then(Value::as_list).unwrap()[0].clone();
    let any = Value::list([
        Value::Int(1),
        "two".into(),
        Value::Float(3.5),
        Value::Nil,
        true.into(),
        Value::list([]),
    ]);
    let entries: [(&str, Value); 35] = [
        ("evil", "<script>alert(\"x\")</script>' onload=y & +`\n".into()),
        ("plain", "red".into()),
        ("url", "http://h:9090/graph?g0.expr=up{a=\"b\"}&g0.tab=1".into()),
        ("badurl", "javascript:alert(1)".into()),
        ("n", Value::Int(5)),
        ("f", Value::Float(1_234_567.25)),
        ("list", Value::strings(["a", "b<c", "d"])),
        ("map", map),
        ("time", Value::Time(super::Time::utc(time))),
        ("kv", data.field("GroupLabels").unwrap().clone()),
        ("uni", "ü日/\u{a0} x".into()),
        ("neg", Value::Int(-7)),
        ("zero", Value::Int(0)),
        ("empty", "".into()),
        ("yes", true.into()),
        ("no", false.into()),
        ("half", Value::Float(0.5)),
        ("nothing", Value::Nil),
        ("none", Value::strings::<&str>([])),
        ("any", any),
        ("dur", Value::Duration(90_500_000_000)),
        ("sm", Value::string_map(&self::map([("x", "1"), ("y", "")]))),
        ("alert", alert),
        ("data", message),
        ("digits", "42".into()),
        ("zt", Value::Time(super::Time::zero())),
        ("big", Value::Float(1e21)),
        ("small", Value::Float(1e-7)),
        ("json", "{\"a\":[1,2]}".into()),
        ("path", "/a b/c?d=e#f".into()),
        ("css", "expression(alert(1))".into()),
        ("js", "'\"\\/</script>\u{2028}".into()),
        ("num", "12px".into()),
        ("name", "title".into()),
        ("onx", "onclick".into()),
    ];
    Value::Map(&ANY_MAP, Arc::new(entries.map(|(k, v)| (k.to_owned(), v)).into()))
}

fn expand(text: &str, mode: Mode) -> Result<String, Error> {
    let mut set = Set::default();
    set.parse("t", text, &functions())?;
    set.execute("t", &sample_data(), &functions(), mode)
}

fn run(case: &Case) -> Result<String, Error> {
    match case.kind.as_str() {
        "alert" => expand_alert(&case.text, SampleValue::Float(1_234_567.891)),
        "hist" => expand_alert(&case.text, histogram()),
        "console" => expand_console(case),
        "text" => expand(&case.text, Mode::Text),
        "html" => expand(&case.text, Mode::Html),
        "amtext" => expand_message(case, Mode::Text),
        "amhtml" => expand_message(case, Mode::Html),
        kind => panic!("no kind {kind}"),
    }
}

#[test]
fn agrees_with_go() {
    let mut wrong = Vec::new();
    let cases = cases();
    let mut refused = 0;
    for case in &cases {
        let got = run(case);
        // Upstream refuses at parse time what it cannot reason about; here the place is known when it is
        // reached, see `html`.
        if case.err.contains("html/template:") {
            refused += 1;
            continue;
        }
        let (out, err) = match &got {
            Ok(out) => (out.as_str(), String::new()),
            Err(e) => ("", e.to_string()),
        };
        // What follows is the regular expression engine's text, which is not of this module.
        let own = |text: &str| text.split_once("parsing regexp").map_or(text, |(own, _)| own).to_owned();
        if (out, own(&err)) != (&case.out, own(&case.err)) {
            wrong.push(format!(
                "{} {:?}\n   go: {:?} {:?}\n ours: {out:?} {err:?}",
                case.kind, case.text, case.out, case.err
            ));
        }
    }
    assert!(cases.len() > 150, "only {} cases", cases.len());
    assert!(refused < cases.len() / 10, "{refused} of {} cases say nothing", cases.len());
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn bounds_hold() {
    for (text, message) in [
        ("{{ range 100000 }}{{ range 100 }}{{ end }}{{ end }}", "exceeded maximum number of steps"),
        ("{{ range 100000 }}{{ printf \"%1000d\" 1 }}{{ end }}", "exceeded maximum output"),
        (
            "{{ define \"r\" }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}",
            "exceeded maximum template depth",
        ),
        ("{{ $x := list 1 }}{{ range 1000000 }}{{ $x = list $x }}{{ end }}", "too deep"),
        ("{{ $x := list 1 }}{{ range 60 }}{{ $x = append $x $x }}{{ end }}", "too large"),
        ("{{ $x := `ab` }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}", "too large"),
        (
            "{{ define \"r\" }}{{ with (list 1) }}{{ template \"r\" . }}{{ end }}{{ end }}{{ template \"r\" . }}",
            "exceeded maximum template depth",
        ),
    ] {
        let mut set = Set::default();
        set.parse("t", text, &Patient).unwrap();
        let error = set.execute("t", &sample_data(), &Patient, Mode::Text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
    let deep = format!("{}1{}", "{{ if true }}".repeat(1500), "{{ end }}".repeat(1500));
    assert!(expand(&deep, Mode::Text).unwrap_err().to_string().contains("nesting depth"));
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(1500), ")".repeat(1500));
    assert!(expand(&deep, Mode::Text).unwrap_err().to_string().contains("expression depth"));
    assert!(alert::check("x", "{{ nofunc }}").unwrap_err().to_string().starts_with("template: x:1: "));
    assert!(alert::check("x", "{{ $labels.a }}").is_ok());
}

/// What an attacker may write into a label, in every place of a document.
#[test]
fn values_stay_in_their_place() {
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "javascript:alert(1)",
        " JaVaScRiPt:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "</textarea><script>",
        "--><script>",
        "{{ .evil }}",
        "x onload=alert(1)",
        "`\u{0}\r\n",
    ];
    let places = [
        "<p>{{ . }}</p>",
        "<p title=\"{{ . }}\">x</p>",
        "<p title='{{ . }}'>x</p>",
        "<p title={{ . }}>x</p>",
        "<a href=\"{{ . }}\">x</a>",
        "<a href={{ . }}>x</a>",
        "<a href='/s?x={{ . }}'>x</a>",
        "<textarea>{{ . }}</textarea>",
        "<title>{{ . }}</title>",
        "<p style=\"color: {{ . }}\">x</p>",
        "<p {{ . }}=\"1\">x</p>",
        "<!-- {{ . }} --><p>x</p>",
    ];
    for place in places {
        let mut set = Set::default();
        set.parse("t", place, &functions()).unwrap();
        let shape = |value: &str| {
            let out = set.execute("t", &value.into(), &functions(), Mode::Html).unwrap();
            let marks = |c: char| out.matches(c).count();
            (out.clone(), [marks('<'), marks('>'), marks('"'), marks('\'')])
        };
        let (_, expected) = shape("harmless");
        for value in hostile {
            let (out, found) = shape(value);
            assert_eq!(found, expected, "{place} {value:?}: {out}");
            let lower = out.to_lowercase();
            let scheme = ["javascript:", "data:"].iter().any(|scheme| {
                ["\"", "=", "\" "].iter().any(|before| lower.contains(&format!("{before}{scheme}")))
            });
            assert!(!(place.contains("href") && scheme), "{place} {value:?}: {out}");
            if place.contains("title={") || place.contains("href={") {
                let inside = out.split_once('=').unwrap().1.split_once('>').unwrap().0;
                assert!(!inside.contains([' ', '\n', '\r', '`']), "{place} {value:?}: {out}");
            }
        }
    }
}

/// Notifications on a machine of any speed.
struct Patient;

impl Functions for Patient {
    fn signature(&self, name: &str) -> Option<Signature> {
        functions().signature(name)
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        functions().call(name, args)
    }

    fn time_max(&self) -> std::time::Duration {
        std::time::Duration::MAX
    }
}

/// Functions that leave no time.
struct Hurried;

impl Functions for Hurried {
    fn signature(&self, _: &str) -> Option<Signature> {
        None
    }

    fn call(&self, _: &str, _: &[Value]) -> Result<Value, String> {
        Err("none".to_owned())
    }

    fn time_max(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

#[test]
fn time_is_bounded() {
    let mut set = Set::default();
    set.parse("t", "{{ range 100000 }}{{ . }}{{ end }}", &Hurried).unwrap();
    let error = set.execute("t", &Value::Nil, &Hurried, Mode::Text).unwrap_err().to_string();
    assert!(error.ends_with("exceeded maximum execution time (0ns)"), "{error}");
}

#[test]
fn functions_of_our_own() {
    for (text, expected) in [
        (
            "{{ add 1 2 }} {{ sub 1 2.5 }} {{ mul 3 -2 }} {{ div 7 2 }} {{ div 7.0 2 }} {{ add \"1.5\" 1 }}",
            "3 -1.5 -6 3 3.5 2.5",
        ),
        (
            "{{ truncate 4 \"abcdef\" }} {{ truncate 3 \"äöü\" }} {{ \"äöüß\" | truncate 3 }}|{{ truncate 0 \"a\" }}",
            "abc… äöü äö…|",
        ),
        (
            "{{ .sm.zz | default \"none\" }} {{ .sm.x | default \"none\" }} {{ default 1 .nothing }}",
            "none 1 1",
        ),
    ] {
        assert_eq!(expand(text, Mode::Text).unwrap(), expected);
    }
    for (text, reason) in [
        ("{{ div 1 0 }}", "error calling div: division by zero"),
        (
            "{{ add 9223372036854775807 1 }}",
            "error calling add: add 9223372036854775807 1: the result is too large",
        ),
        ("{{ add .list 1 }}", "error calling add: can't convert []string to float"),
    ] {
        let error = expand(text, Mode::Text).unwrap_err().to_string();
        assert!(error.ends_with(reason), "{error}");
    }
}

#[test]
fn errors_name_file_line_and_column() {
    let mut set = Set::default();
    let error = set.parse("a.tmpl", "x\n  {{ define \"a\" }}{{ nope }}{{ end }}", &functions()).unwrap_err();
    assert_eq!(error.to_string(), "template: a.tmpl:2: function \"nope\" not defined");
    assert_eq!(error.placed(), "template: a.tmpl:2:22: function \"nope\" not defined");
    assert_eq!(error.in_file("dir/a.tmpl"), "dir/a.tmpl:2:22: function \"nope\" not defined");
    set.parse("a.tmpl", "x\n  {{ .a.b.c }}", &functions()).unwrap();
    let error = set.execute("a.tmpl", &sample_data(), &functions(), Mode::Text).unwrap_err();
    assert!(error.in_file("dir/a.tmpl").starts_with("dir/a.tmpl:2:"), "{}", error.in_file("dir/a.tmpl"));
}

#[test]
fn data_of_a_message() {
    let alert = |name: &str, resolved: bool| Alert {
        is_resolved: resolved,
        labels: [("alertname".to_owned(), name.to_owned()), ("job".to_owned(), "node".to_owned())].into(),
        annotations: BTreeMap::new(),
        starts_at: Timestamp::from_second(1_700_000_000).unwrap(),
        ends_at: resolved.then(|| Timestamp::from_second(1_700_000_060).unwrap()),
        generator_url: "http://prom/graph".to_owned(),
        fingerprint: "0123456789abcdef".to_owned(),
    };
    let data = Data::new(
        "team.a".to_owned(),
        BTreeMap::new(),
        vec![alert("A", false), alert("B", true)],
        "first notification".to_owned(),
        "http://am".to_owned(),
    );
    let mut set = Set::default();
    let text = "{{ .Receiver }} {{ .Status }} {{ len .Alerts.Firing }}/{{ len .Alerts }} {{ .CommonLabels }} \
                {{ range .Alerts.Resolved }}{{ .Labels.alertname }} after {{ .EndsAt.Sub .StartsAt }}{{ end }} \
                {{ range .Alerts.Firing }}{{ .EndsAt.IsZero }} {{ since .StartsAt }}{{ end }} {{ .NotificationReason }}";
    set.parse("t", text, &functions()).unwrap();
    let out = set.execute("t", &data.to_value(), &functions(), Mode::Text).unwrap();
    assert_eq!(out, "team\\.a firing 1/2 job=node B after 1m0s true 1m40s first notification");
}

proptest::proptest! {
    /// Whatever is typed, the engine answers with text or an error.
    #[test]
    fn never_panics(text in "([a-z .$\"`(){}|:=,0-9-]|\\{\\{-? ?|-? ?\\}\\}|if |range |end|else|with |define |template |\\$x|\\.a|printf|index|slice|len|\\\\|'|é){0,40}") {
        for mode in [Mode::Text, Mode::Html] {
            let _ = expand(&text, mode);
        }
    }
}

#[test]
fn a_histogram_is_a_value_with_fields() {
    let histogram = model::FloatHistogram {
        count: 3.0,
        sum: 2.5,
        positive_spans: vec![model::histogram::Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        ..model::FloatHistogram::default()
    };
    let value = SampleValue::Histogram(Arc::new(histogram));
    let (labels, t) = (Labels::empty(), 0);
    let data = AlertData { labels: &labels, value, external_labels: &labels, external_url: "", t };
    let expand =
        |text: &str| alert::expand("t", text, &data, &|_| Ok(vec![(Labels::empty(), data.value.clone())]));
    let shown = "{count:3, sum:2.5, (0.5,1]:1, (1,2]:2}";
    for (text, expected) in [
        ("{{ $value }}", shown),
        ("{{ .Value.String }}", shown),
        ("{{ printf \"%v %s\" $value $value }}", &format!("{shown} {shown}")),
        ("{{ $value.Count }} of {{ $value.Sum | humanize }}", "3 of 2.5"),
        ("{{ $value.PositiveSpans }} {{ index $value.PositiveBuckets 1 }}", "[{0 2}] 2"),
        ("{{ if $value }}yes{{ end }}", "yes"),
        ("{{ (query \"h\" | first | value).Count }}", "3"),
    ] {
        assert_eq!(expand(text).map_err(|e| e.to_string()), Ok(expected.to_owned()), "{text}");
    }
    let e = expand("{{ humanize $value }}").expect_err("a histogram is no number").to_string();
    assert!(e.ends_with("can't convert *histogram.FloatHistogram to float"), "{e}");
    let e = expand("{{ if gt $value 1.0 }}{{ end }}").expect_err("nor does it compare").to_string();
    assert!(e.ends_with("invalid type for comparison"), "{e}");
}

#[test]
fn every_function_that_is_listed_can_be_called() {
    assert!(alert::FUNCTIONS.is_sorted());
    for name in alert::FUNCTIONS {
        assert!(alert::signature(name).is_some(), "{name}");
    }
}
