//! Requests to write: sound ones, and ones of every kind that is not.

use model::histogram::{CounterResetHint, Span};
use model::storage::Metadata;
use model::wire::parse::MetricType;
use model::wire::remote_write::encode::{Part, Writer};
use model::wire::remote_write::{Message, Pair, Sample, Times};
use model::{FloatHistogram, Histogram, STALE_NAN, Value};

use super::{Reply, send, snappy};
use crate::process::{CLIENT, Server};

/// One request to both servers.
pub(super) struct Write {
    pub(super) name: String,
    method: &'static str,
    content_type: &'static str,
    encoding: &'static str,
    body: Vec<u8>,
}

/// What of an answer is compared: status, text, the three counts.
pub(super) type Told = (u16, String, Vec<String>);

impl Write {
    pub(super) fn send(&self, server: &Server) -> Told {
        let url = format!("{}/api/v1/write", server.url);
        let mut request = CLIENT.request(self.method.parse().unwrap(), url).body(self.body.clone());
        for (name, value) in [("Content-Type", self.content_type), ("Content-Encoding", self.encoding)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let reply: Reply = send(request);
        let counts = ["samples", "histograms", "exemplars"]
            .map(|what| reply.header(&format!("x-prometheus-remote-write-{what}-written")).to_owned());
        (reply.status, reply.text(), counts.to_vec())
    }
}

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

fn content_type(message: Message) -> &'static str {
    if message == Message::V1 { V1 } else { V2 }
}

/// A series: labels as `name=value` in the order of sending, and what it has.
type Series<'a> = (&'a [(&'a str, &'a str)], Vec<Part<'a>>);

fn body(message: Message, series: &[Series<'_>], metadata: Option<&Metadata>) -> Vec<u8> {
    let mut writer = Writer::new(message);
    for (labels, parts) in series {
        let pairs = labels.iter().map(|(name, value)| -> Pair<'_> { (name.as_bytes(), value.as_bytes()) });
        writer.series(pairs, parts, metadata);
    }
    writer.body()
}

fn float<'a>(t: i64, v: f64) -> Part<'a> {
    Part::Sample(Sample { t, st: 0, v })
}

fn int(schema: i32) -> Histogram {
    Histogram {
        schema,
        count: 9,
        sum: 12.5,
        zero_threshold: 0.001,
        zero_count: 1,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 3, length: 1 }],
        positive_buckets: vec![1, 2, 0],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_buckets: vec![1],
        ..Histogram::default()
    }
}

fn custom() -> Histogram {
    Histogram {
        schema: -53,
        count: 6,
        sum: 7.5,
        positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 2 }],
        positive_buckets: vec![2, 0, 0],
        custom_values: vec![1.0, 2.0, 5.0],
        ..Histogram::default()
    }
}

/// All requests, in the order in which they are sent. Samples are around `t`.
pub(super) fn writes(t: i64) -> Vec<Write> {
    let mut all = Vec::new();
    shapes(t, &mut all);
    for message in Message::ALL {
        contents(message, t, &mut all);
        histograms(message, t, &mut all);
    }
    partial(t, &mut all);
    all
}

fn push(all: &mut Vec<Write>, name: String, content_type: &'static str, body: Vec<u8>) {
    all.push(Write { name, method: "POST", content_type, encoding: "snappy", body });
}

/// What is around the message.
fn shapes(t: i64, all: &mut Vec<Write>) {
    let plain = body(Message::V1, &[(&[("__name__", "shape")], vec![float(t, 1.0)])], None);
    let fine = snappy(&plain);
    let mut shape = |name: &str, method, content_type, encoding, body: &[u8]| {
        all.push(Write {
            name: format!("shape: {name}"),
            method,
            content_type,
            encoding,
            body: body.to_vec(),
        });
    };
    shape("fine", "POST", V1, "snappy", &fine);
    shape("no content type", "POST", "", "snappy", &fine);
    shape("no encoding", "POST", V1, "", &fine);
    shape("named message", "POST", "application/x-protobuf;proto=prometheus.WriteRequest", "snappy", &fine);
    shape("unknown message", "POST", "application/x-protobuf;proto=prometheus.Other", "snappy", &fine);
    shape("parameter without value", "POST", "application/x-protobuf;proto", "snappy", &fine);
    shape("other parameter", "POST", "application/x-protobuf;charset=utf-8", "snappy", &fine);
    shape("two equals signs", "POST", "application/x-protobuf;proto=a=b", "snappy", &fine);
    let blank = "application/x-protobuf; proto=io.prometheus.write.v2.Request";
    shape("blank before a parameter", "POST", blank, "snappy", &snappy(b""));
    shape("json", "POST", "application/json", "snappy", &fine);
    shape("image", "POST", "image/png", "snappy", &fine);
    shape("text", "POST", "text/plain", "snappy", &fine);
    for encoding in ["gzip", "zstd", "identity", "SNAPPY", "snappy, gzip"] {
        shape(encoding, "POST", V1, encoding, &fine);
    }
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        shape(method, method, V1, "snappy", &fine);
    }
    shape("not encoded", "POST", V1, "snappy", &plain);
    shape("nothing", "POST", V1, "snappy", b"");
    shape("empty message", "POST", V1, "snappy", &snappy(b""));
    shape("empty message of version 2", "POST", V2, "snappy", &snappy(b""));
    shape("cut short", "POST", V1, "snappy", &fine[..fine.len() - 3]);
    shape("too much behind", "POST", V1, "snappy", &[&fine[..], b"xyz"].concat());
    shape("declared 32 MiB and one", "POST", V1, "snappy", &[0x81, 0x80, 0x80, 0x10, 0]);
    shape("declared 4 GiB", "POST", V1, "snappy", &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    shape("declared without end", "POST", V2, "snappy", &[0xff; 12]);
    shape("bomb", "POST", V1, "snappy", &snappy(&vec![0; 40 << 20]));
    shape("body of 32 MiB and one", "POST", V1, "snappy", &vec![0; (32 << 20) + 1]);
    shape("version 1 as 2", "POST", V2, "snappy", &fine);
    let v2 = snappy(&body(Message::V2, &[(&[("__name__", "shape2")], vec![float(t, 1.0)])], None));
    shape("version 2 as 1", "POST", V1, "snappy", &v2);
    for (name, message) in [
        ("end in a length", &[0x0a][..]),
        ("end in a series", &[0x0a, 5, 0x12]),
        ("number for a series", &[0x08, 1]),
        ("number for a sample", &[0x0a, 2, 0x10, 1]),
        ("bytes for a value", &[0x0a, 4, 0x12, 2, 0x0a, 0]),
        ("field 0", &[0x00, 0]),
        ("end of a group", &[0x0c]),
        ("wire type 7", &[0x1f, 0]),
        ("unknown field", &[0x78, 1]),
        ("unknown group", &[0x7b, 0x08, 1, 0x7c]),
        ("varint without end", &[0xff; 11]),
    ] {
        shape(&format!("{name}, version 1"), "POST", V1, "snappy", &snappy(message));
        shape(&format!("{name}, version 2"), "POST", V2, "snappy", &snappy(message));
    }
    // Cut at every place, a sound message is refused at some and taken at others.
    let whole = body(Message::V2, &[(&[("__name__", "cut")], vec![float(t, 1.0)])], None);
    for end in 1..whole.len() {
        shape(&format!("cut at {end}"), "POST", V2, "snappy", &snappy(&whole[..end]));
    }
}

/// Labels, times and values.
fn contents(message: Message, t: i64, all: &mut Vec<Write>) {
    let v = if message == Message::V1 { "1" } else { "2" };
    let mut request = |name: &str, series: &[Series<'_>]| {
        push(all, format!("v{v}: {name}"), content_type(message), snappy(&body(message, series, None)));
    };
    let named = |name: &str| format!("read_{name}_v{v}");
    let float_name = named("float");
    let f: &[(&str, &str)] = &[("__name__", &float_name), ("job", "x")];
    request("one sample", &[(f, vec![float(t, 1.0)])]);
    request("the same again", &[(f, vec![float(t, 1.0)])]);
    request("another value", &[(f, vec![float(t, 2.0)])]);
    request("another value, large", &[(f, vec![float(t, 1e21)])]);
    request("several samples", &[(f, (1..5).map(|i| float(t + i * 1000, i as f64 / 3.0)).collect())]);
    request("out of order", &[(f, vec![float(t + 500, 1.0)])]);
    request("before everything", &[(f, vec![float(1000, 1.0)])]);
    request("in 20 minutes", &[(f, vec![float(t + 20 * 60_000, 1.0)])]);
    let special = named("special");
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, -0.5];
    request(
        "special values",
        &[(&[("__name__", &special)], (0..).zip(values).map(|(i, v)| float(t + i, v)).collect())],
    );
    let stale = named("stale");
    request("a marker", &[(&[("__name__", &stale)], vec![float(t, 1.0), float(t + 1000, STALE_NAN)])]);

    let unsorted = named("unsorted");
    request("unsorted labels", &[(&[("z", "1"), ("__name__", &unsorted), ("a", "2")], vec![float(t, 1.0)])]);
    request(
        "twice the same label",
        &[(&[("__name__", "twice"), ("a", "1"), ("a", "2")], vec![float(t, 1.0)])],
    );
    request("no name", &[(&[("a", "1")], vec![float(t, 1.0)])]);
    request("no labels", &[(&[], vec![float(t, 1.0)])]);
    request("empty name", &[(&[("__name__", ""), ("a", "1")], vec![float(t, 1.0)])]);
    request("empty label name", &[(&[("__name__", "empty"), ("", "1")], vec![float(t, 1.0)])]);
    let without = named("without");
    request("empty value", &[(&[("__name__", &without), ("a", "")], vec![float(t, 1.0)])]);
    let wide = named("ü.b");
    request("names of any letters", &[(&[("__name__", &wide), ("ä b", "ö")], vec![float(t, 1.0)])]);
    let beside = named("beside");
    request(
        "a bad one beside a good one",
        &[(&[("__name__", &beside)], vec![float(t, 1.0)]), (f, vec![float(t, 7.0)])],
    );
    request(
        "a bad name beside a good one",
        &[(&[("a", "1")], vec![float(t, 1.0)]), (f, vec![float(t + 9000, 7.0)])],
    );
    request("nothing but labels", &[(f, vec![])]);

    let labels: &[Pair<'_>] = &[(b"trace_id", b"abc")];
    let long = "x".repeat(130);
    let long: &[Pair<'_>] = &[(b"trace_id", long.as_bytes())];
    let exemplar = |t, labels| Part::Exemplar { labels, v: 0.5, t };
    let e_name = named("exemplar");
    let e: &[(&str, &str)] = &[("__name__", &e_name)];
    request("an exemplar", &[(e, vec![float(t, 1.0), exemplar(t, labels)])]);
    request("the exemplar again", &[(e, vec![float(t, 1.0), exemplar(t, labels)])]);
    request("an older exemplar", &[(e, vec![float(t + 1000, 1.0), exemplar(t - 1000, labels)])]);
    request("an exemplar that is too long", &[(e, vec![float(t + 2000, 1.0), exemplar(t + 2000, long)])]);
    if message == Message::V2 {
        request("nothing but an exemplar", &[(e, vec![exemplar(t + 2500, labels)])]);
    }
    request("an exemplar of tomorrow", &[(e, vec![float(t + 3000, 1.0), exemplar(t + 86_400_000, labels)])]);
}

fn histograms(message: Message, t: i64, all: &mut Vec<Write>) {
    let v = if message == Message::V1 { "1" } else { "2" };
    let mut request = |name: &str, metric: &str, values: Vec<(i64, Value<'_>)>| {
        let parts = values.into_iter().map(|(t, value)| Part::Histogram(Times { t, st: 0 }, value)).collect();
        let metric = format!("{metric}_v{v}");
        let series: Series<'_> = (&[("__name__", &metric), ("job", "x")], parts);
        push(all, format!("v{v}: {name}"), content_type(message), snappy(&body(message, &[series], None)));
    };
    let (first, second) = (int(2), Histogram { count: 12, positive_buckets: vec![2, 2, 0], ..int(2) });
    request(
        "integer histograms",
        "read_int",
        vec![(t, Value::Histogram(&first)), (t + 1000, Value::Histogram(&second))],
    );
    request("the same histogram again", "read_int", vec![(t + 1000, Value::Histogram(&second))]);
    request("another histogram", "read_int", vec![(t + 1000, Value::Histogram(&first))]);
    request("an old histogram", "read_int", vec![(t + 500, Value::Histogram(&first))]);
    request("a histogram of tomorrow", "read_int", vec![(t + 86_400_000, Value::Histogram(&first))]);
    let ended = Histogram { sum: STALE_NAN, ..Histogram::default() };
    request("a marker for histograms", "read_int", vec![(t + 2000, Value::Histogram(&ended))]);
    let floats = first.to_float();
    request(
        "float histograms",
        "read_floats",
        vec![(t, Value::FloatHistogram(&floats)), (t + 1000, Value::FloatHistogram(&floats))],
    );
    let gauge = FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..floats.clone() };
    request("gauge histograms", "read_gauge", vec![(t, Value::FloatHistogram(&gauge))]);
    request("custom buckets", "read_custom", vec![(t, Value::Histogram(&custom()))]);
    let fine = Histogram { schema: 12, ..int(2) };
    request("finer than is kept", "read_fine", vec![(t, Value::Histogram(&fine))]);
    request(
        "finer than is kept, floats",
        "read_fine_floats",
        vec![(t, Value::FloatHistogram(&fine.to_float()))],
    );
    for (name, bad) in [
        ("unknown schema", Histogram { schema: 77, ..int(2) }),
        ("reserved schema", Histogram { schema: -7, ..int(2) }),
        ("more in buckets than counted", Histogram { count: 3, ..int(2) }),
        ("fewer buckets than spans", Histogram { positive_buckets: vec![1], ..int(2) }),
        ("fewer buckets than spans, too fine", Histogram { schema: 20, positive_buckets: vec![1], ..int(2) }),
        ("negative buckets", Histogram { positive_buckets: vec![1, -5, 0], ..int(2) }),
        (
            "spans that overlap",
            Histogram {
                positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: -3, length: 1 }],
                ..int(2)
            },
        ),
        ("bounds that do not ascend", Histogram { custom_values: vec![1.0, 5.0, 2.0], ..custom() }),
        ("bounds without end", Histogram { custom_values: vec![1.0, 2.0, f64::INFINITY], ..custom() }),
        ("bounds that are no number", Histogram { custom_values: vec![1.0, f64::NAN, 5.0], ..custom() }),
        ("bounds that are too few", Histogram { custom_values: vec![1.0], ..custom() }),
        ("bounds of an exponential one", Histogram { custom_values: vec![1.0], ..int(2) }),
        (
            "custom buckets below zero",
            Histogram {
                negative_spans: vec![Span { offset: 0, length: 1 }],
                negative_buckets: vec![1],
                ..custom()
            },
        ),
        ("custom buckets with a zero bucket", Histogram { zero_count: 1, ..custom() }),
    ] {
        request(&format!("bad histogram: {name}"), "read_bad", vec![(t, Value::Histogram(&bad))]);
    }
    let negative = FloatHistogram { count: -1.0, ..floats };
    request("bad histogram: a negative count", "read_bad", vec![(t, Value::FloatHistogram(&negative))]);
}

/// What only version 2 has, and what federation is asked for.
fn partial(t: i64, all: &mut Vec<Write>) {
    let mut request = |name: &str, body: Vec<u8>| push(all, format!("v2: {name}"), V2, snappy(&body));
    let metadata = Metadata { kind: MetricType::Counter, unit: "seconds".into(), help: "What it is.".into() };
    let first: Series<'_> =
        (&[("__name__", "read_partial")], vec![float(t, 1.0), float(t - 1, 1.0), float(t + 1, 1.0)]);
    let nameless: Series<'_> = (&[("a", "b")], vec![float(t, 1.0), float(t + 1, 1.0)]);
    let empty: Series<'_> = (&[("__name__", "read_partial"), ("a", "b")], vec![]);
    request("metadata", body(Message::V2, std::slice::from_ref(&first), Some(&metadata)));
    request(
        "some bad, some good",
        body(
            Message::V2,
            &[nameless, empty, (&[("__name__", "read_partial"), ("a", "c")], vec![float(t, 1.0)]), first],
            None,
        ),
    );
    let with_start: Series<'_> =
        (&[("__name__", "read_started")], vec![Part::Sample(Sample { t, st: t - 5000, v: 3.0 })]);
    request("a start time", body(Message::V2, &[with_start], Some(&metadata)));
    // Symbols: "", "__name__", "a"; then a series by numbers.
    let raw = |series: &[u8]| -> Vec<u8> {
        let mut out = b"\x22\x00\x22\x08__name__\x22\x01a\x2a".to_vec();
        out.push(u8::try_from(series.len()).unwrap());
        out.extend_from_slice(series);
        out
    };
    request("an odd number of references", raw(&[0x0a, 3, 1, 2, 1]));
    request("reference to a name that is not there", raw(&[0x0a, 2, 9, 2]));
    request("reference to a value that is not there", raw(&[0x0a, 4, 1, 2, 1, 77]));
    request("reference to help that is not there", raw(&[0x0a, 2, 1, 2, 0x2a, 2, 0x18, 7]));
    request("reference to a unit that is not there", raw(&[0x0a, 2, 1, 2, 0x2a, 2, 0x20, 8]));
    request("references without symbols", vec![0x2a, 4, 0x0a, 2, 0, 0]);

    let floats = int(2).to_float();
    // One of floats alone: of several, 3.14 shows the last one's everywhere (its buffer is used again for each series).
    let gauge = Histogram { counter_reset_hint: CounterResetHint::Gauge, ..int(2) };
    let custom = custom();
    let times = Times { t: t + 3000, st: 0 };
    let series: Vec<Series<'_>> = vec![
        (&[("__name__", "fed_float"), ("instance", "own")], vec![float(t, 1.0), float(t + 1000, 1.5)]),
        (&[("__name__", "fed_float"), ("zone", "own")], vec![float(t + 2000, f64::INFINITY)]),
        (&[("__name__", "fed_float"), ("x", "\"\\\n")], vec![float(t + 2000, -1e-9)]),
        (&[("__name__", "fed_ended")], vec![float(t, 1.0), float(t + 1000, STALE_NAN)]),
        (
            &[("__name__", "fed_histogram"), ("a", "1")],
            vec![Part::Histogram(times, Value::FloatHistogram(&floats))],
        ),
        (
            &[("__name__", "fed_histogram"), ("a", "2")],
            vec![Part::Histogram(times, Value::Histogram(&gauge))],
        ),
        (&[("__name__", "fed_histogram"), ("a", "3")], vec![float(t, 4.0)]),
        (&[("__name__", "fed_custom")], vec![Part::Histogram(times, Value::Histogram(&custom))]),
        (&[("__name__", "fed_ü.name"), ("ä", "1")], vec![float(t, 4.0)]),
    ];
    request("what is federated", body(Message::V2, &series, None));
}
