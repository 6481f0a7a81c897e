use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::wire::testing;

/// The messages as prost reads and writes them: what our own reader is held against.
mod oracle {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LabelPair {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(double, tag = "2")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Number {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Counter {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "2")]
        pub(super) exemplar: Option<Exemplar>,
        #[prost(message, optional, tag = "3")]
        pub(super) start: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Quantile {
        #[prost(double, tag = "1")]
        pub(super) quantile: f64,
        #[prost(double, tag = "2")]
        pub(super) value: f64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Summary {
        #[prost(uint64, tag = "1")]
        pub(super) count: u64,
        #[prost(double, tag = "2")]
        pub(super) sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) quantile: Vec<Quantile>,
        #[prost(message, optional, tag = "4")]
        pub(super) start: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Bucket {
        #[prost(uint64, tag = "1")]
        pub(super) count: u64,
        #[prost(double, tag = "2")]
        pub(super) bound: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) exemplar: Option<Exemplar>,
        #[prost(double, tag = "4")]
        pub(super) count_float: f64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) count: u64,
        #[prost(double, tag = "2")]
        pub(super) sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(double, tag = "4")]
        pub(super) count_float: f64,
        #[prost(sint32, tag = "5")]
        pub(super) schema: i32,
        #[prost(double, tag = "6")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, tag = "7")]
        pub(super) zero_count: u64,
        #[prost(double, tag = "8")]
        pub(super) zero_count_float: f64,
        #[prost(message, repeated, tag = "9")]
        pub(super) negative_span: Vec<Span>,
        #[prost(sint64, repeated, tag = "10")]
        pub(super) negative_delta: Vec<i64>,
        #[prost(double, repeated, tag = "11")]
        pub(super) negative_count: Vec<f64>,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_span: Vec<Span>,
        #[prost(sint64, repeated, packed = "false", tag = "13")]
        pub(super) positive_delta: Vec<i64>,
        #[prost(double, repeated, packed = "false", tag = "14")]
        pub(super) positive_count: Vec<f64>,
        #[prost(message, optional, tag = "15")]
        pub(super) start: Option<Timestamp>,
        #[prost(message, repeated, tag = "16")]
        pub(super) exemplars: Vec<Exemplar>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Number>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Counter>,
        #[prost(message, optional, tag = "4")]
        pub(super) summary: Option<Summary>,
        #[prost(message, optional, tag = "5")]
        pub(super) untyped: Option<Number>,
        #[prost(int64, tag = "6")]
        pub(super) timestamp_ms: i64,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) help: String,
        #[prost(int32, tag = "3")]
        pub(super) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
    }
}

const COUNTER: i32 = 0;
const UNTYPED: i32 = 3;
const HISTOGRAM: i32 = 4;

/// The file says what made it.
#[test]
fn says_what_upstream_says_of_all_formats() {
    let golden = include_str!("../../../testdata/exposition_all.golden");
    let mut lines = golden.lines().skip(2).peekable();
    let (mut failures, mut cases) = (String::new(), 0);
    while let Some(case) = lines.next() {
        let mut parts = case.split(' ');
        let mut part = || parts.next().unwrap();
        let (format, letters, body) = (part(), part(), crate::golden::unquote(part()));
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
            expected.push_str(line);
            expected.push('\n');
        }
        let got = testing::dump(format, letters, &body, false);
        if got != expected {
            writeln!(failures, "{case}\n expected\n{expected} got\n{got}").unwrap();
        }
        cases += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(cases > 300, "only {cases} cases");
}

fn body(families: &[oracle::MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(prost::Message::encode_length_delimited_to_vec).collect()
}

#[track_caller]
fn check(letters: &str, families: &[oracle::MetricFamily], expected: &Expect) {
    let dump = testing::dump("P", letters, &body(families), true);
    expected.assert_eq(&dump.lines().map(|line| line.trim_start().to_owned() + "\n").collect::<String>());
}

fn family(name: &str, kind: i32, metric: Vec<oracle::Metric>) -> oracle::MetricFamily {
    oracle::MetricFamily { name: name.to_owned(), kind, metric, ..Default::default() }
}

fn metric_of(histogram: oracle::Histogram) -> oracle::Metric {
    oracle::Metric { histogram: Some(histogram), ..Default::default() }
}

fn native() -> oracle::Histogram {
    oracle::Histogram {
        count: 3,
        sum: 2.5,
        zero_threshold: 0.5,
        positive_span: vec![oracle::Span { offset: 1, length: 2 }],
        positive_delta: vec![1, 1],
        ..Default::default()
    }
}

fn classic() -> oracle::Histogram {
    let bucket = |bound, count| oracle::Bucket { count, bound, ..Default::default() };
    oracle::Histogram { count: 3, sum: 2.5, bucket: vec![bucket(1.0, 1)], ..Default::default() }
}

fn exemplar(trace: &str, t: Option<i64>) -> oracle::Exemplar {
    let label = vec![oracle::LabelPair { name: "trace".to_owned(), value: trace.to_owned() }];
    let timestamp = t.map(|seconds| oracle::Timestamp { seconds, nanos: 0 });
    oracle::Exemplar { label, value: 1.0, timestamp }
}

#[test]
fn an_untyped_metric_without_a_value_is_zero() {
    let with = oracle::Metric { untyped: Some(oracle::Number { value: 7.0 }), ..Default::default() };
    let without = oracle::Metric { untyped: Some(oracle::Number { value: 0.0 }), ..Default::default() };
    let families = [family("u", UNTYPED, vec![with, without])];
    check(
        "",
        &families,
        &expect![[r#"
             H "u" ""
             T "u" unknown
             S - 0 "__name__"="u", 401c000000000000
             S - 0 "__name__"="u", 0
        "#]],
    );
}

#[test]
fn all_native_histograms_of_a_family_keep_their_exemplars() {
    let one = |trace| {
        let exemplars = vec![exemplar(trace, Some(5)), exemplar("late", None)];
        metric_of(oracle::Histogram { exemplars, ..native() })
    };
    check(
        "n",
        &[family("h", HISTOGRAM, vec![one("a"), one("b")])],
        &expect![[r#"
             H "h" ""
             T "h" histogram
             I - 0 "__name__"="h", hint=0 schema=0 zt=3fe0000000000000 zc=0 n=3 sum=4004000000000000 1:2, 1,1,   
             X 5000 3ff0000000000000 "trace"="a",
             I - 0 "__name__"="h", hint=0 schema=0 zt=3fe0000000000000 zc=0 n=3 sum=4004000000000000 1:2, 1,1,   
             X 5000 3ff0000000000000 "trace"="b",
        "#]],
    );
}

/// What follows a classic histogram is taken as a classic one, as upstream; what follows that is judged anew.
#[test]
fn a_family_may_mix_native_and_classic_histograms() {
    let metrics = [native(), classic(), native(), classic()].map(metric_of).to_vec();
    check(
        "n",
        &[family("h", HISTOGRAM, metrics)],
        &expect![[r#"
             H "h" ""
             T "h" histogram
             I - 0 "__name__"="h", hint=0 schema=0 zt=3fe0000000000000 zc=0 n=3 sum=4004000000000000 1:2, 1,1,   
             S - 0 "__name__"="h_count", 4008000000000000
             S - 0 "__name__"="h_sum", 4004000000000000
             S - 0 "__name__"="h_bucket","le"="1.0", 3ff0000000000000
             S - 0 "__name__"="h_bucket","le"="+Inf", 4008000000000000
             S - 0 "__name__"="h_count", 4008000000000000
             S - 0 "__name__"="h_sum", 4004000000000000
             S - 0 "__name__"="h_bucket","le"="+Inf", 4008000000000000
             S - 0 "__name__"="h_count", 4008000000000000
             S - 0 "__name__"="h_sum", 4004000000000000
             S - 0 "__name__"="h_bucket","le"="1.0", 3ff0000000000000
             S - 0 "__name__"="h_bucket","le"="+Inf", 4008000000000000
        "#]],
    );
}

#[test]
fn spans_that_do_not_match_their_buckets_are_refused_in_every_metric() {
    let torn = oracle::Histogram { positive_delta: vec![1], ..native() };
    check(
        "n",
        &[family("h", HISTOGRAM, vec![metric_of(native()), metric_of(torn)])],
        &expect![[r#"
             H "h" ""
             T "h" histogram
             I - 0 "__name__"="h", hint=0 schema=0 zt=3fe0000000000000 zc=0 n=3 sum=4004000000000000 1:2, 1,1,   
             E "histogram\x20\x22h\x22:\x20positive\x20side:\x20spans\x20require\x202\x20buckets,\x20have\x201"
        "#]],
    );
}

/// Whether spans go backwards shows once those without buckets are gone, as upstream.
#[test]
fn empty_spans_do_not_count() {
    let spans = |offsets: [(i32, u32); 2]| {
        let positive_span = offsets.map(|(offset, length)| oracle::Span { offset, length }).to_vec();
        let histogram = oracle::Histogram { positive_span, ..native() };
        let bytes = body(&[family("h", HISTOGRAM, vec![metric_of(histogram)])]);
        let mut parser = Parser::new(&bytes, HistogramOptions { native: true, ..Default::default() });
        while parser.next().is_some() {}
        parser.native().clone()
    };
    let empty_first = spans([(0, 0), (-6, 2)]);
    assert_eq!(empty_first.int.positive_spans, [Span { offset: -6, length: 2 }]);
    assert_eq!(empty_first.validate(), Ok(()));
    assert!(spans([(0, 1), (-6, 1)]).validate().is_err());
}

#[test]
fn messages_say_what_is_wrong() {
    let error = |body: &[u8]| {
        let mut parser = Parser::new(body, HistogramOptions::default());
        loop {
            match parser.next() {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    assert!(parser.next().is_none(), "a parser that is done stays so");
                    return error.to_string();
                }
                None => return String::new(),
            }
        }
    };
    let ok = oracle::Metric::default();
    assert_eq!(error(b""), "");
    assert_eq!(error(b"\x00\x00"), "", "empty families say nothing");
    assert_eq!(error(b"\x80\x80\x80\x80\x80\x01"), "clientpb: invalid varint encountered");
    assert_eq!(
        error(b"\x05abc"),
        "clientpb: insufficient length of buffer, expected at least 6 bytes, got 4 bytes"
    );
    assert_eq!(error(&body(&[family("", COUNTER, vec![ok.clone()])])), "invalid metric name: ");
    assert_eq!(error(&body(&[family("m", 9, vec![ok.clone()])])), "unknown metric type for metric \"m\": 9");
    assert_eq!(error(b"\x02\x22\x05"), "unexpected EOF");
    assert_eq!(error(b"\x02\x20\x05"), "proto: wrong wireType = 0 for field Metric");
    assert_eq!(error(b"\x02\x24\x05"), "proto: MetricFamily: wiretype end group for non-group");
    assert_eq!(error(b"\x02\x02\x00"), "proto: MetricFamily: illegal tag 0 (wire type 2)");
    assert_eq!(error(b"\x01\x33"), "unexpected EOF", "a group without an end");
}

#[test]
fn labels_tell_metrics_apart_wherever_they_lie() {
    let places = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let mut parser = Parser::new(bytes, HistogramOptions::default());
        let mut places = Vec::new();
        while let Some(item) = parser.next() {
            if !matches!(item.unwrap(), Item::Said(_)) {
                places.push(parser.label_bytes().to_vec());
            }
        }
        places
    };
    // Two labels side by side, then with the value between them, then with an unknown field.
    let (a, b, v, unknown): (&[u8], &[u8], &[u8], &[u8]) =
        (b"\x0a\x06\x0a\x01a\x12\x01x", b"\x0a\x06\x0a\x01b\x12\x01y", b"\x12\x00", b"\x48\x01");
    let one = |parts: &[&[u8]]| {
        let metric = parts.concat();
        let mut family = b"\x0a\x01m\x18\x01\x22".to_vec();
        family.push(u8::try_from(metric.len()).unwrap());
        family.extend_from_slice(&metric);
        let mut body = vec![u8::try_from(family.len()).unwrap()];
        body.extend_from_slice(&family);
        places(&body).remove(0)
    };
    let together = one(&[a, b, v]);
    assert_eq!(together, [a, b].concat());
    assert_eq!(one(&[v, a, b]), together);
    assert_eq!(one(&[unknown, a, b]), one(&[a, v, b]), "gathered");
    assert_eq!(one(&[a, unknown, b]), one(&[a, v, b]));
    assert_ne!(one(&[a, v, b]), one(&[a, v, a]));
    assert_eq!(one(&[v]), b"");
}

// === Against the oracle ===

fn any_time() -> impl Strategy<Value = Option<oracle::Timestamp>> {
    proptest::option::of(
        (any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| oracle::Timestamp { seconds, nanos }),
    )
}

fn any_labels() -> impl Strategy<Value = Vec<oracle::LabelPair>> {
    let pair = ("[a-cä]{1,2}", "[x-z\\\\\"]{0,3}");
    proptest::collection::vec(pair.prop_map(|(name, value)| oracle::LabelPair { name, value }), 0..4)
}

fn any_exemplar() -> impl Strategy<Value = oracle::Exemplar> {
    (any_labels(), any::<f64>(), any_time()).prop_map(|(label, value, timestamp)| oracle::Exemplar {
        label,
        value,
        timestamp,
    })
}

fn any_histogram() -> impl Strategy<Value = oracle::Histogram> {
    let bucket = (any::<u64>(), any::<f64>(), proptest::option::of(any_exemplar()), any::<f64>());
    let bucket = bucket.prop_map(|(count, bound, exemplar, count_float)| oracle::Bucket {
        count,
        bound,
        exemplar,
        count_float,
    });
    let spans = || {
        let span = (any::<i32>(), any::<u32>());
        proptest::collection::vec(span.prop_map(|(offset, length)| oracle::Span { offset, length }), 0..3)
    };
    let totals = (any::<u64>(), any::<f64>(), any::<f64>(), any::<i32>(), any::<f64>(), any::<u64>());
    let ints = || proptest::collection::vec(any::<i64>(), 0..4);
    let floats = || proptest::collection::vec(any::<f64>(), 0..4);
    let sides = ((spans(), ints(), floats()), (spans(), ints(), floats()));
    let lists = (proptest::collection::vec(bucket, 0..3), proptest::collection::vec(any_exemplar(), 0..3));
    (totals, any::<f64>(), sides, lists, any_time()).prop_map(
        |(totals, zero_count_float, sides, lists, start)| oracle::Histogram {
            count: totals.0,
            sum: totals.1,
            bucket: lists.0,
            count_float: totals.2,
            schema: totals.3,
            zero_threshold: totals.4,
            zero_count: totals.5,
            zero_count_float,
            negative_span: sides.0.0,
            negative_delta: sides.0.1,
            negative_count: sides.0.2,
            positive_span: sides.1.0,
            positive_delta: sides.1.1,
            positive_count: sides.1.2,
            start,
            exemplars: lists.1,
        },
    )
}

fn any_metric() -> impl Strategy<Value = oracle::Metric> {
    let number = || proptest::option::of(any::<f64>().prop_map(|value| oracle::Number { value }));
    let counter = (any::<f64>(), proptest::option::of(any_exemplar()), any_time())
        .prop_map(|(value, exemplar, start)| oracle::Counter { value, exemplar, start });
    let quantile =
        (any::<f64>(), any::<f64>()).prop_map(|(quantile, value)| oracle::Quantile { quantile, value });
    let summary = (any::<u64>(), any::<f64>(), proptest::collection::vec(quantile, 0..3), any_time())
        .prop_map(|(count, sum, quantile, start)| oracle::Summary { count, sum, quantile, start });
    let values = (number(), proptest::option::of(counter), proptest::option::of(summary), number());
    (any_labels(), values, any::<i64>(), proptest::option::of(any_histogram())).prop_map(
        |(label, (gauge, counter, summary, untyped), timestamp_ms, histogram)| oracle::Metric {
            label,
            gauge,
            counter,
            summary,
            untyped,
            timestamp_ms,
            histogram,
        },
    )
}

/// A metric as our reader sees it, in the oracle's terms.
fn seen(metric: &Metric<'_>) -> oracle::Metric {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let pair = |&(name, value): &Pair<'_>| oracle::LabelPair { name: text(name), value: text(value) };
    let time = |t: &message::Time| {
        // Both fields lie in the one number that is told; they are read back by the debug form.
        let shown = format!("{t:?}");
        let field = |name: &str| {
            let at = shown.find(name).unwrap() + name.len();
            let end = shown[at..].find([',', ' ']).unwrap() + at;
            shown[at..end].parse::<i64>().unwrap()
        };
        oracle::Timestamp { seconds: field("seconds: "), nanos: i32::try_from(field("nanos: ")).unwrap() }
    };
    let exemplar = |pairs: &[Pair<'_>], it: &Exemplar| oracle::Exemplar {
        label: pairs[it.labels.clone()].iter().map(pair).collect(),
        value: it.v,
        timestamp: it.t.as_ref().map(time),
    };
    let spans = |spans: &[Span]| {
        spans.iter().map(|span| oracle::Span { offset: span.offset, length: span.length }).collect()
    };
    let (h, s) = (&metric.histogram, &metric.summary);
    oracle::Metric {
        label: metric.labels.iter().map(|label| pair(&read_pair(label).unwrap())).collect(),
        gauge: Some(oracle::Number { value: metric.gauge }),
        counter: Some(oracle::Counter {
            value: metric.counter,
            exemplar: metric.counter_exemplar.as_ref().map(|it| exemplar(&metric.counter_pairs, it)),
            start: metric.counter_start.as_ref().map(time),
        }),
        summary: Some(oracle::Summary {
            count: s.count,
            sum: s.sum,
            quantile: s
                .quantiles
                .iter()
                .map(|&(quantile, value)| oracle::Quantile { quantile, value })
                .collect(),
            start: s.start.as_ref().map(time),
        }),
        untyped: Some(oracle::Number { value: metric.untyped }),
        timestamp_ms: metric.t,
        histogram: Some(oracle::Histogram {
            count: h.count,
            sum: h.sum,
            bucket: h
                .buckets
                .iter()
                .map(|bucket| oracle::Bucket {
                    // The two counts are told as one.
                    count: 0,
                    bound: bucket.bound,
                    exemplar: bucket.exemplar.as_ref().map(|it| exemplar(&h.pairs, it)),
                    count_float: bucket.count(),
                })
                .collect(),
            count_float: h.count_float,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count,
            zero_count_float: h.zero_count_float,
            negative_span: spans(&h.negative.spans),
            negative_delta: h.negative.deltas.clone(),
            negative_count: h.negative.counts.clone(),
            positive_span: spans(&h.positive.spans),
            positive_delta: h.positive.deltas.clone(),
            positive_count: h.positive.counts.clone(),
            start: h.start.as_ref().map(time),
            exemplars: h.exemplars.iter().map(|it| exemplar(&h.pairs, it)).collect(),
        }),
    }
}

/// What is absent is as if it were empty.
fn filled(mut metric: oracle::Metric) -> oracle::Metric {
    metric.gauge.get_or_insert_default();
    metric.counter.get_or_insert_default();
    metric.summary.get_or_insert_default();
    metric.untyped.get_or_insert_default();
    for bucket in &mut metric.histogram.get_or_insert_default().bucket {
        if bucket.count_float == 0.0 {
            bucket.count_float = bucket.count as f64;
        }
        bucket.count = 0;
    }
    metric
}

/// The debug form, NaNs among it. The oracle does not write a zero, whatever its sign.
fn shown(metric: &oracle::Metric) -> String {
    format!("{metric:?}").replace("-0.0", "0.0")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn reads_what_the_oracle_writes(first in any_metric(), second in any_metric()) {
        let mut ours = Metric::default();
        for metric in [&first, &second] {
            let bytes = metric.encode_to_vec();
            ours.read(&bytes.leak()[..]).unwrap();
            prop_assert_eq!(shown(&seen(&ours)), shown(&filled(metric.clone())));
        }
        // Messages behind each other are one message, merged.
        let bytes = [first.encode_to_vec(), second.encode_to_vec()].concat();
        let merged = oracle::Metric::decode(&bytes[..]).unwrap();
        ours.read(bytes.leak()).unwrap();
        let counter_labels = |metric: &oracle::Metric| {
            metric.counter.iter().filter_map(|c| c.exemplar.as_ref()).map(|e| e.label.len()).sum::<usize>()
        };
        prop_assert_eq!(counter_labels(&seen(&ours)), counter_labels(&merged));
        prop_assert_eq!(shown(&seen(&ours)), shown(&filled(merged)));
    }

    /// Whatever the bytes: an end, no panic, and what the oracle takes is taken.
    #[test]
    fn damaged_bodies_never_panic(
        metrics in proptest::collection::vec(any_metric(), 1..3),
        kind in 0..6_i32,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        letters in "[ncvsl]{0,4}",
    ) {
        let mut bytes = body(&[family("h", kind, metrics)]);
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        testing::dump("P", &letters, &bytes, true);
    }
}
