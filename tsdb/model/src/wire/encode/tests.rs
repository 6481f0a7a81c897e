use std::borrow::Cow;

use prost::Message as _;

use super::*;
use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

/// The messages as prost reads them, strings as bytes: the golden file holds families as messages.
mod oracle {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Pair {
        #[prost(bytes = "vec", required, tag = "1")]
        pub(super) name: Vec<u8>,
        #[prost(bytes = "vec", required, tag = "2")]
        pub(super) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Time {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Number {
        #[prost(double, required, tag = "1")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) created: Option<Time>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Quantile {
        #[prost(double, required, tag = "1")]
        pub(super) quantile: f64,
        #[prost(double, required, tag = "2")]
        pub(super) value: f64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Summary {
        #[prost(uint64, required, tag = "1")]
        pub(super) count: u64,
        #[prost(double, required, tag = "2")]
        pub(super) sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) quantiles: Vec<Quantile>,
        #[prost(message, optional, tag = "4")]
        pub(super) created: Option<Time>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Bucket {
        #[prost(uint64, optional, tag = "1")]
        pub(super) count: Option<u64>,
        #[prost(double, optional, tag = "4")]
        pub(super) count_float: Option<f64>,
        #[prost(double, required, tag = "2")]
        pub(super) bound: f64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, required, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, required, tag = "2")]
        pub(super) length: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub(super) count: Option<u64>,
        #[prost(double, required, tag = "2")]
        pub(super) sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) buckets: Vec<Bucket>,
        #[prost(double, optional, tag = "4")]
        pub(super) count_float: Option<f64>,
        #[prost(sint32, optional, tag = "5")]
        pub(super) schema: Option<i32>,
        #[prost(double, optional, tag = "6")]
        pub(super) zero_threshold: Option<f64>,
        #[prost(uint64, optional, tag = "7")]
        pub(super) zero_count: Option<u64>,
        #[prost(double, optional, tag = "8")]
        pub(super) zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "9")]
        pub(super) negative_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, packed = "false", tag = "10")]
        pub(super) negative_deltas: Vec<i64>,
        #[prost(double, repeated, packed = "false", tag = "11")]
        pub(super) negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, packed = "false", tag = "13")]
        pub(super) positive_deltas: Vec<i64>,
        #[prost(double, repeated, packed = "false", tag = "14")]
        pub(super) positive_counts: Vec<f64>,
        #[prost(message, optional, tag = "15")]
        pub(super) created: Option<Time>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Pair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Number>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Number>,
        #[prost(message, optional, tag = "4")]
        pub(super) summary: Option<Summary>,
        #[prost(message, optional, tag = "5")]
        pub(super) untyped: Option<Number>,
        #[prost(int64, optional, tag = "6")]
        pub(super) timestamp: Option<i64>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Family {
        #[prost(bytes = "vec", required, tag = "1")]
        pub(super) name: Vec<u8>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) help: Option<Vec<u8>>,
        #[prost(int32, required, tag = "3")]
        pub(super) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metrics: Vec<Metric>,
    }
}

fn millis(time: Option<&oracle::Time>) -> Option<Timestamp> {
    time.map(|t| t.seconds * 1000 + i64::from(t.nanos / 1_000_000))
}

fn spans(spans: &[oracle::BucketSpan]) -> Vec<Span> {
    spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
}

fn histogram(h: &oracle::Histogram) -> Value<'static> {
    let count =
        |int: Option<u64>, float: Option<f64>| float.map_or(Count::Int(int.unwrap_or(0)), Count::Float);
    let Some(schema) = h.schema else {
        let buckets = h.buckets.iter().map(|b| (b.bound, count(b.count, b.count_float))).collect();
        return Value::Classic(Classic { count: count(h.count, h.count_float), sum: h.sum, buckets });
    };
    let (positive_spans, negative_spans) = (spans(&h.positive_spans), spans(&h.negative_spans));
    let zero_threshold = h.zero_threshold.unwrap();
    Value::Native(match (h.count, h.count_float) {
        (_, Some(count)) => Native::Float(Cow::Owned(FloatHistogram {
            schema,
            zero_threshold,
            count,
            zero_count: h.zero_count_float.unwrap(),
            sum: h.sum,
            positive_spans,
            negative_spans,
            positive_buckets: h.positive_counts.clone(),
            negative_buckets: h.negative_counts.clone(),
            ..FloatHistogram::default()
        })),
        (count, None) => Native::Int(Cow::Owned(Histogram {
            schema,
            zero_threshold,
            count: count.unwrap(),
            zero_count: h.zero_count.unwrap(),
            sum: h.sum,
            positive_spans,
            negative_spans,
            positive_buckets: h.positive_deltas.clone(),
            negative_buckets: h.negative_deltas.clone(),
            ..Histogram::default()
        })),
    })
}

fn family(message: oracle::Family) -> Family<'static> {
    let kinds =
        [Kind::Counter, Kind::Gauge, Kind::Summary, Kind::Untyped, Kind::Histogram, Kind::GaugeHistogram];
    let metric = |metric: oracle::Metric| {
        let number = metric.gauge.or(metric.counter).or(metric.untyped);
        let (value, created) = match (&number, &metric.summary, &metric.histogram) {
            (Some(number), ..) => (Value::Number(number.value), millis(number.created.as_ref())),
            (_, Some(summary), _) => {
                let quantiles = summary.quantiles.iter().map(|q| (q.quantile, q.value)).collect();
                let value = Value::Summary(Summary { count: summary.count, sum: summary.sum, quantiles });
                (value, millis(summary.created.as_ref()))
            }
            (.., Some(h)) => (histogram(h), millis(h.created.as_ref())),
            _ => panic!("a metric without a value"),
        };
        let labels = metric.labels.into_iter().map(|l| (l.name.into(), l.value.into())).collect();
        Metric { labels, value, timestamp: metric.timestamp, created }
    };
    Family {
        name: message.name.into(),
        help: message.help.map(Cow::Owned),
        kind: kinds[usize::try_from(message.kind).unwrap()],
        metrics: message.metrics.into_iter().map(metric).collect(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|b| u8::from_str_radix(str::from_utf8(b).unwrap(), 16).unwrap()).collect()
}

/// A field of the golden file: text behind `t `, hexadecimal behind `x `.
fn unshow(shown: &str) -> Vec<u8> {
    if let Some(hex) = shown.strip_prefix("x ") {
        return unhex(hex);
    }
    let mut out = Vec::new();
    let mut bytes = shown.strip_prefix("t ").unwrap().bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'\\' if bytes.next().unwrap() == b'n' => b'\n',
            b => b,
        });
    }
    out
}

fn golden(of: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines =
        include_str!("../../../testdata/families.golden").lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let of = of.to_owned();
    lines.filter(move |fields| of.split(' ').any(|kind| fields[0] == kind))
}

#[test]
fn a_form_is_chosen_as_upstream_chooses() {
    let mut n = 0;
    for line in golden("accept") {
        let (format, escaping) = negotiate(line[1]);
        assert_eq!(content_type(format, escaping), line[2], "{}", line[1]);
        n += 1;
    }
    assert!(n > 90, "{n}");
}

#[test]
fn a_header_of_many_clauses_is_cut() {
    let many = "a/b;q=0.1,".repeat(100_000) + "text/plain;escaping=dots";
    assert_eq!(negotiate(&many), (Format::Text, Escaping::Underscores));
}

#[test]
fn names_are_escaped_as_upstream_escapes() {
    let mut n = 0;
    for line in golden("name") {
        let fields: Vec<Vec<u8>> = line[1..].iter().map(|shown| unshow(shown)).collect();
        for (escaping, expected) in
            [Escaping::Underscores, Escaping::Dots, Escaping::Values].into_iter().zip(&fields[1..])
        {
            // Nobody has an empty name.
            if !fields[0].is_empty() {
                let found = escaping.apply(&fields[0]);
                assert_eq!(
                    found.escape_ascii().to_string(),
                    expected.escape_ascii().to_string(),
                    "{escaping:?}"
                );
            }
        }
        assert_eq!(&*Escaping::AllowUtf8.apply(&fields[0]), fields[0]);
        n += 1;
    }
    assert!(n > 25, "{n}");
}

#[test]
fn families_are_written_as_upstream_writes() {
    let mut subject = None;
    let mut n = 0;
    for line in golden("family text delimited prototext compact json") {
        if line[0] == "family" {
            let bytes = unhex(line[1]);
            let read = family(oracle::Family::decode_length_delimited(&*bytes).unwrap());
            let mut written = Vec::new();
            write_family(&mut written, &read, Format::ProtoDelimited, Escaping::AllowUtf8);
            assert_eq!(written.escape_ascii().to_string(), bytes.escape_ascii().to_string(), "{read:?}");
            subject = Some(read);
            n += 1;
            continue;
        }
        let subject = subject.as_ref().unwrap();
        let mut written = Vec::new();
        if line[0] == "json" {
            write_json(&mut written, subject);
        } else {
            let format = match line[0] {
                "text" => Format::Text,
                "delimited" => Format::ProtoDelimited,
                "prototext" => Format::ProtoText,
                _ => Format::ProtoCompact,
            };
            write_family(&mut written, subject, format, Escaping::parse(line[1]).unwrap());
        }
        let expected = unshow(line[2]);
        assert!(
            written == expected,
            "{} {}: {subject:?}\n{}\n{}",
            line[0],
            line[1],
            written.escape_ascii(),
            expected.escape_ascii()
        );
    }
    assert!(n >= 25, "{n}");
}

#[test]
fn custom_buckets_become_classic_ones() {
    let histogram = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 10.0,
        sum: 3.5,
        positive_spans: vec![Span { offset: 1, length: 1 }, Span { offset: 1, length: 2 }],
        positive_buckets: vec![2.0, 3.0, 5.0],
        custom_values: vec![0.1, 0.5, 1.0, 2.0],
        ..FloatHistogram::default()
    };
    let classic = Classic::from_custom(&histogram);
    let buckets: Vec<(f64, f64)> = classic.buckets.iter().map(|(bound, n)| (*bound, n.as_f64())).collect();
    assert_eq!(buckets, [(0.1, 0.0), (0.5, 2.0), (1.0, 2.0), (2.0, 5.0)]);
    let family = Family {
        name: Cow::Borrowed(b"h"),
        help: None,
        kind: Kind::Histogram,
        metrics: vec![Metric {
            labels: Vec::new(),
            value: Value::Classic(classic),
            timestamp: Some(7),
            created: None,
        }],
    };
    let mut out = Vec::new();
    write_family(&mut out, &family, Format::Text, Escaping::Underscores);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "# TYPE h histogram\nh_bucket{le=\"0.1\"} 0 7\nh_bucket{le=\"0.5\"} 2 7\nh_bucket{le=\"1\"} 2 7\n\
         h_bucket{le=\"2\"} 5 7\nh_bucket{le=\"+Inf\"} 10 7\nh_sum 3.5 7\nh_count 10 7\n"
    );
}

#[test]
fn what_is_empty_is_not_written() {
    let empty = Family { name: Cow::Borrowed(b"h"), help: None, kind: Kind::Counter, metrics: Vec::new() };
    for format in [Format::Text, Format::ProtoDelimited, Format::ProtoText, Format::ProtoCompact] {
        let mut out = Vec::new();
        write_family(&mut out, &empty, format, Escaping::Underscores);
        assert_eq!(out, b"");
    }
}
