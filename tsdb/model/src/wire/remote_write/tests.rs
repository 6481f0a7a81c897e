use proptest::prelude::*;
use prost::Message as _;

use super::encode::{Part, Writer};
use super::*;
use crate::histogram::{CounterResetHint, Span};
use crate::storage::Metadata;
use crate::{FloatHistogram, Histogram, Labels, Value};

/// The messages as prost reads and writes them: what our own reader and writer are held against.
mod oracle {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) name: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) v: f64,
        #[prost(int64, tag = "2")]
        pub(super) t: i64,
        #[prost(int64, tag = "3")]
        pub(super) st: i64,
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
        #[prost(uint64, optional, tag = "1")]
        pub(super) count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub(super) count_float: Option<f64>,
        #[prost(double, tag = "3")]
        pub(super) sum: f64,
        #[prost(sint32, tag = "4")]
        pub(super) schema: i32,
        #[prost(double, tag = "5")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        pub(super) zero_count: Option<u64>,
        #[prost(double, optional, tag = "7")]
        pub(super) zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        pub(super) negative_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "9")]
        pub(super) negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "10")]
        pub(super) negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "11")]
        pub(super) positive_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "12")]
        pub(super) positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub(super) positive_counts: Vec<f64>,
        #[prost(int32, tag = "14")]
        pub(super) hint: i32,
        #[prost(int64, tag = "15")]
        pub(super) t: i64,
        #[prost(double, repeated, tag = "16")]
        pub(super) custom_values: Vec<f64>,
        #[prost(int64, tag = "17")]
        pub(super) st: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ExemplarV1 {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(double, tag = "2")]
        pub(super) v: f64,
        #[prost(int64, tag = "3")]
        pub(super) t: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SeriesV1 {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) exemplars: Vec<ExemplarV1>,
        #[prost(message, repeated, tag = "4")]
        pub(super) histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RequestV1 {
        #[prost(message, repeated, tag = "1")]
        pub(super) series: Vec<SeriesV1>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ExemplarV2 {
        #[prost(uint32, repeated, tag = "1")]
        pub(super) refs: Vec<u32>,
        #[prost(double, tag = "2")]
        pub(super) v: f64,
        #[prost(int64, tag = "3")]
        pub(super) t: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(super) kind: i32,
        #[prost(uint32, tag = "3")]
        pub(super) help: u32,
        #[prost(uint32, tag = "4")]
        pub(super) unit: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SeriesV2 {
        #[prost(uint32, repeated, tag = "1")]
        pub(super) refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) histograms: Vec<Histogram>,
        #[prost(message, repeated, tag = "4")]
        pub(super) exemplars: Vec<ExemplarV2>,
        #[prost(message, optional, tag = "5")]
        pub(super) metadata: Option<Metadata>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RequestV2 {
        #[prost(bytes = "vec", repeated, tag = "4")]
        pub(super) symbols: Vec<Vec<u8>>,
        #[prost(message, repeated, tag = "5")]
        pub(super) series: Vec<SeriesV2>,
    }
}

type OwnedPair = (Vec<u8>, Vec<u8>);

/// A series with everything in it, as it is read back.
#[derive(Clone, Debug, Default)]
struct Whole {
    labels: Vec<OwnedPair>,
    samples: Vec<Sample>,
    histograms: Vec<(Times, Native)>,
    exemplars: Vec<(Vec<OwnedPair>, f64, i64)>,
    metadata: Option<Metadata>,
}

fn histogram_key((times, native): &(Times, Native)) -> String {
    if native.is_float {
        format!("{times:?} {:?}", native.float)
    } else {
        format!("{times:?} {:?}", native.int)
    }
}

impl Whole {
    /// As text, so that no NaN differs from itself.
    fn key(&self) -> String {
        let samples: Vec<_> = self.samples.iter().map(|s| (s.t, s.st, s.v.to_bits())).collect();
        let exemplars: Vec<_> = self.exemplars.iter().map(|(l, v, t)| (l, v.to_bits(), t)).collect();
        let histograms: Vec<_> = self.histograms.iter().map(histogram_key).collect();
        format!("{:?} {samples:?} {histograms:?} {exemplars:?} {:?}", self.labels, self.metadata)
    }
}

fn owned(pairs: &[Pair<'_>]) -> Vec<OwnedPair> {
    pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn read(message: Message, body: &[u8]) -> Result<Vec<Whole>, String> {
    let request = Request::read(message, body).map_err(|bad| bad.to_string())?;
    let (mut pairs, mut refs) = (Vec::new(), Vec::new());
    let mut all = Vec::new();
    for series in request.series() {
        let outline = series.outline(&mut pairs, &mut refs);
        let mut whole = Whole::default();
        if message == Message::V2 {
            request.resolve(&refs, &mut pairs).map_err(|bad| bad.to_string())?;
            let (unit, help) = request.metadata_texts(outline.metadata).map_err(|bad| bad.to_string())?;
            let text = |bytes| String::from_utf8_lossy(bytes).into();
            whole.metadata =
                Some(Metadata { kind: outline.metadata.kind, unit: text(unit), help: text(help) });
        }
        whole.labels = owned(&pairs);
        whole.samples = series.samples().collect();
        assert_eq!(whole.samples.len(), outline.n_samples);
        if let Some(last) = whole.samples.last() {
            assert_eq!((last.t, last.v.to_bits()), (outline.sample.t, outline.sample.v.to_bits()));
        }
        let mut native = Native::default();
        for histogram in series.histograms() {
            let times = histogram.read_into(&mut native);
            whole.histograms.push((times, native.clone()));
        }
        assert_eq!(whole.histograms.len(), outline.n_histograms);
        for exemplar in series.exemplars() {
            let (v, t) = exemplar.read_into(&mut pairs, &mut refs);
            if message == Message::V2 {
                request.resolve(&refs, &mut pairs).map_err(|bad| bad.to_string())?;
            }
            whole.exemplars.push((owned(&pairs), v, t));
        }
        assert_eq!(whole.exemplars.len(), outline.n_exemplars);
        all.push(whole);
    }
    Ok(all)
}

fn write(message: Message, all: &[Whole]) -> Vec<u8> {
    let mut writer = Writer::new(message);
    for whole in all {
        let borrowed = |pairs: &'_ [OwnedPair]| -> Vec<(Vec<u8>, Vec<u8>)> { pairs.to_vec() };
        let exemplars: Vec<_> = whole.exemplars.iter().map(|(l, v, t)| (borrowed(l), *v, *t)).collect();
        let exemplar_pairs: Vec<Vec<Pair<'_>>> = exemplars
            .iter()
            .map(|(labels, ..)| labels.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect())
            .collect();
        let samples = whole.samples.iter().map(|&sample| Part::Sample(sample));
        let histograms = whole.histograms.iter().map(|(times, it)| Part::Histogram(*times, it.value()));
        let of = |(i, (_, v, t)): (usize, &(_, f64, i64))| Part::Exemplar {
            labels: &exemplar_pairs[i],
            v: *v,
            t: *t,
        };
        let parts: Vec<_> = samples.chain(histograms).chain(exemplars.iter().enumerate().map(of)).collect();
        let labels = whole.labels.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        writer.series(labels, &parts, whole.metadata.as_ref());
    }
    writer.body()
}

/// Without a zero below zero, which prost does not write; [`labels_of_a_set_are_written_in_its_order`] has one.
fn any_float() -> impl Strategy<Value = f64> {
    any::<f64>().prop_map(|v| v + 0.0)
}

fn any_histogram() -> impl Strategy<Value = Native> {
    let spans = || prop::collection::vec((any::<i32>(), any::<u32>()), 0..3);
    let spans_of = |spans: Vec<(i32, u32)>| -> Vec<Span> {
        spans.into_iter().map(|(offset, length)| Span { offset, length }).collect()
    };
    let totals = (any::<u64>(), any_float(), any::<i32>(), any_float(), any::<u64>(), 0_u8..4);
    let buckets = prop::collection::vec(any::<i64>(), 0..5);
    let counts = prop::collection::vec(any_float(), 0..5);
    (any::<bool>(), totals, spans(), spans(), buckets, counts).prop_map(
        move |(
            is_float,
            (count, sum, schema, zero_threshold, zero_count, hint),
            positive,
            negative,
            deltas,
            counts,
        )| {
            let counter_reset_hint = [
                CounterResetHint::Unknown,
                CounterResetHint::CounterReset,
                CounterResetHint::NotCounterReset,
                CounterResetHint::Gauge,
            ][usize::from(hint)];
            let (positive_spans, negative_spans) = (spans_of(positive), spans_of(negative));
            if is_float {
                let float = FloatHistogram {
                    counter_reset_hint,
                    schema,
                    zero_threshold,
                    sum,
                    positive_spans,
                    negative_spans,
                    zero_count: zero_count as f64,
                    count: count as f64,
                    positive_buckets: counts.clone(),
                    negative_buckets: counts.iter().rev().copied().collect(),
                    custom_values: counts,
                };
                Native { float, is_float, ..Native::default() }
            } else {
                let int = Histogram {
                    counter_reset_hint,
                    schema,
                    zero_threshold,
                    sum,
                    positive_spans,
                    negative_spans,
                    zero_count,
                    count,
                    positive_buckets: deltas.clone(),
                    negative_buckets: deltas.iter().rev().copied().collect(),
                    custom_values: counts,
                };
                Native { int, ..Native::default() }
            }
        },
    )
}

fn any_series(message: Message) -> impl Strategy<Value = Whole> {
    let text = || prop::collection::vec(any::<u8>(), 0..6);
    let pairs = move || prop::collection::vec((text(), text()), 0..5);
    let is_v2 = message == Message::V2;
    let st = move |st: i64| if is_v2 { st } else { 0 };
    let sample = (any::<i64>(), any::<i64>(), any_float());
    let samples = prop::collection::vec(sample, 0..4);
    let histograms = prop::collection::vec((any::<i64>(), any::<i64>(), any_histogram()), 0..3);
    let exemplars = prop::collection::vec((pairs(), any_float(), any::<i64>()), 0..3);
    (pairs(), samples, histograms, exemplars, "[a-z]{0,3}", "[a-z é]{0,9}").prop_map(
        move |(labels, samples, histograms, exemplars, unit, help)| Whole {
            labels,
            samples: samples.into_iter().map(|(t, at, v)| Sample { t, st: st(at), v }).collect(),
            histograms: histograms.into_iter().map(|(t, at, it)| (Times { t, st: st(at) }, it)).collect(),
            exemplars,
            metadata: is_v2.then(|| Metadata {
                kind: MetricType::Summary,
                unit: unit.into(),
                help: help.into(),
            }),
        },
    )
}

/// A request as prost reads it.
fn oracle_v1(request: &oracle::RequestV1) -> Vec<Whole> {
    let pairs = |labels: &[oracle::Label]| labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
    let series = request.series.iter().map(|series| Whole {
        labels: pairs(&series.labels),
        samples: series.samples.iter().map(|s| Sample { t: s.t, st: 0, v: s.v }).collect(),
        histograms: series.histograms.iter().map(|it| oracle_histogram(it, false)).collect(),
        exemplars: series.exemplars.iter().map(|e| (pairs(&e.labels), e.v, e.t)).collect(),
        metadata: None,
    });
    series.collect()
}

fn oracle_v2(request: &oracle::RequestV2) -> Vec<Whole> {
    let pairs = |refs: &[u32]| -> Vec<OwnedPair> {
        let text = |at: u32| request.symbols[at as usize].clone();
        refs.as_chunks::<2>().0.iter().map(|&[name, value]| (text(name), text(value))).collect()
    };
    let text = |at: u32| String::from_utf8_lossy(&request.symbols[at as usize]).into();
    let series = request.series.iter().map(|series| Whole {
        labels: pairs(&series.refs),
        samples: series.samples.iter().map(|s| Sample { t: s.t, st: s.st, v: s.v }).collect(),
        histograms: series.histograms.iter().map(|it| oracle_histogram(it, true)).collect(),
        exemplars: series.exemplars.iter().map(|e| (pairs(&e.refs), e.v, e.t)).collect(),
        metadata: series.metadata.as_ref().map(|it| {
            assert_eq!(it.kind, 5);
            Metadata { kind: MetricType::Summary, unit: text(it.unit), help: text(it.help) }
        }),
    });
    series.collect()
}

fn oracle_histogram(it: &oracle::Histogram, has_start: bool) -> (Times, Native) {
    let hint = [
        CounterResetHint::Unknown,
        CounterResetHint::CounterReset,
        CounterResetHint::NotCounterReset,
        CounterResetHint::Gauge,
    ][usize::try_from(it.hint).unwrap()];
    let spans = |spans: &[oracle::Span]| -> Vec<Span> {
        spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
    };
    let times = Times { t: it.t, st: if has_start { it.st } else { 0 } };
    let mut native = Native::default();
    if let Some(count) = it.count_float {
        native.is_float = true;
        native.float = FloatHistogram {
            counter_reset_hint: hint,
            schema: it.schema,
            zero_threshold: it.zero_threshold,
            zero_count: it.zero_count_float.unwrap_or_default(),
            count,
            sum: it.sum,
            positive_spans: spans(&it.positive_spans),
            negative_spans: spans(&it.negative_spans),
            positive_buckets: it.positive_counts.clone(),
            negative_buckets: it.negative_counts.clone(),
            custom_values: it.custom_values.clone(),
        };
    } else {
        native.int = Histogram {
            counter_reset_hint: hint,
            schema: it.schema,
            zero_threshold: it.zero_threshold,
            zero_count: it.zero_count.unwrap_or_default(),
            count: it.count.unwrap_or_default(),
            sum: it.sum,
            positive_spans: spans(&it.positive_spans),
            negative_spans: spans(&it.negative_spans),
            positive_buckets: it.positive_deltas.clone(),
            negative_buckets: it.negative_deltas.clone(),
            custom_values: it.custom_values.clone(),
        };
    }
    (times, native)
}

fn keys(all: &[Whole]) -> Vec<String> {
    all.iter().map(Whole::key).collect()
}

fn check_both_ways(message: Message, all: &[Whole]) {
    let body = write(message, all);
    assert_eq!(keys(&read(message, &body).unwrap()), keys(all));
    let (seen, rewritten) = match message {
        Message::V1 => {
            let request = oracle::RequestV1::decode(&body[..]).unwrap();
            (oracle_v1(&request), request.encode_to_vec())
        }
        Message::V2 => {
            let request = oracle::RequestV2::decode(&body[..]).unwrap();
            (oracle_v2(&request), request.encode_to_vec())
        }
    };
    assert_eq!(keys(&seen), keys(all));
    assert_eq!(keys(&read(message, &rewritten).unwrap()), keys(all));
}

/// Whether our reader and prost agree on whether bytes are a request; prost is stricter in a few things.
fn agrees(message: Message, body: &[u8]) {
    let ours = Request::read(message, body);
    let theirs = match message {
        Message::V1 => oracle::RequestV1::decode(body).map(|_| ()).map_err(|e| e.to_string()),
        Message::V2 => oracle::RequestV2::decode(body).map(|_| ()).map_err(|e| e.to_string()),
    };
    // Whoever is accepted here may be refused there (overlong tags, numbers of 32 bits that do not fit), but not the
    // other way round: nothing is lost by being too strict.
    match ours {
        // What the oracle does not know of (metadata of version 1) we do.
        Err(bad) => {
            assert!(theirs.is_err() || message == Message::V1, "{message:?} {body:02x?}: {bad}");
        }
        Ok(request) => {
            // A walk never panics, whatever is in it.
            let (mut pairs, mut refs, mut native) = (Vec::new(), Vec::new(), Native::default());
            for series in request.series() {
                let outline = series.outline(&mut pairs, &mut refs);
                let _ = request.resolve(&refs, &mut pairs);
                let _ = request.metadata_texts(outline.metadata);
                assert_eq!(series.samples().count(), outline.n_samples);
                for histogram in series.histograms() {
                    histogram.read_into(&mut native);
                    let _ = native.validate();
                }
                for exemplar in series.exemplars() {
                    exemplar.read_into(&mut pairs, &mut refs);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_of_version_1(all in prop::collection::vec(any_series(Message::V1), 0..4)) {
        check_both_ways(Message::V1, &all);
    }

    #[test]
    fn what_is_written_is_read_of_version_2(all in prop::collection::vec(any_series(Message::V2), 0..4)) {
        check_both_ways(Message::V2, &all);
    }

    #[test]
    fn damaged_requests_are_refused_or_read_but_nothing_else(
        all in prop::collection::vec(any_series(Message::V2), 1..3),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        len in any::<prop::sample::Index>(),
    ) {
        for message in Message::ALL {
            let whole = write(message, &all);
            agrees(message, &whole[..len.index(whole.len() + 1)]);
            let mut body = whole;
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            agrees(message, &body);
        }
    }

    #[test]
    fn bytes_at_random_are_refused_or_read(body in prop::collection::vec(any::<u8>(), 0..64)) {
        for message in Message::ALL {
            agrees(message, &body);
        }
    }
}

/// The texts are those of what gogo/protobuf generates: `prometheus` 3.14 says the same of these bytes.
#[test]
fn what_is_malformed_is_called_by_upstreams_names() {
    for (message, body, text) in [
        (Message::V1, &[0x0a][..], "unexpected EOF"),
        (Message::V1, &[0x0a, 5, 0], "unexpected EOF"),
        (Message::V1, &[0x08, 0], "proto: wrong wireType = 0 for field Timeseries"),
        (Message::V1, &[0x0a, 2, 0x10, 0], "proto: wrong wireType = 0 for field Samples"),
        (Message::V1, &[0x0a, 4, 0x12, 2, 0x08, 0], "proto: wrong wireType = 0 for field Value"),
        (Message::V1, &[0x00, 0], "proto: WriteRequest: illegal tag 0 (wire type 0)"),
        (Message::V1, &[0x0c], "proto: WriteRequest: wiretype end group for non-group"),
        (Message::V1, &[0x0f], "proto: wrong wireType = 7 for field Timeseries"),
        (Message::V1, &[0x17], "proto: illegal wireType 7"),
        (Message::V1, &[0x1a, 2, 0x0a, 0], "proto: wrong wireType = 2 for field Type"),
        (Message::V2, &[0x20, 0], "proto: wrong wireType = 0 for field Symbols"),
        (Message::V2, &[0x2a, 2, 0x0d, 0], "proto: wrong wireType = 5 for field LabelsRefs"),
        (Message::V2, &[0x80; 11], "proto: integer overflow"),
    ] {
        assert_eq!(read(message, body).unwrap_err(), text, "{body:02x?}");
    }
}

#[test]
fn references_that_lead_nowhere_are_told_as_upstream_does() {
    let request = |refs: Vec<u32>, metadata| {
        let series = oracle::SeriesV2 { refs, metadata, ..Default::default() };
        oracle::RequestV2 { symbols: vec![vec![], b"a".to_vec()], series: vec![series] }.encode_to_vec()
    };
    let bad = |help, unit| Some(oracle::Metadata { kind: 0, help, unit });
    for (body, text) in [
        (request(vec![1], None), "invalid labelRefs length 1"),
        (request(vec![1, 2], None), "labelRefs 1 (name) = 2 (value) outside of symbols table (size 2)"),
        (
            request(vec![u32::MAX, 0], None),
            "labelRefs 4294967295 (name) = 0 (value) outside of symbols table (size 2)",
        ),
        (request(vec![], bad(2, 0)), "metadata help_ref 2 outside of symbols table (size 2)"),
        (request(vec![], bad(2, 3)), "metadata unit_ref 3 outside of symbols table (size 2)"),
    ] {
        assert_eq!(read(Message::V2, &body).unwrap_err(), text);
    }
}

#[test]
fn symbols_may_come_behind_the_series_and_numbers_one_by_one() {
    // Series first, its references each in a field of its own.
    let body = [&[0x2a, 4, 0x08, 1, 0x08, 0][..], &[0x22, 0], &[0x22, 1, b'x']].concat();
    let all = read(Message::V2, &body).unwrap();
    assert_eq!(all[0].labels, [(b"x".to_vec(), vec![])]);
}

#[test]
fn labels_without_end_take_no_memory() {
    let labels = vec![oracle::Label::default(); LABELS_MAX + 10];
    let series = oracle::SeriesV1 { labels, ..Default::default() };
    let body = oracle::RequestV1 { series: vec![series] }.encode_to_vec();
    let request = Request::read(Message::V1, &body).unwrap();
    let mut pairs = Vec::new();
    let outline = request.series().next().unwrap().outline(&mut pairs, &mut Vec::new());
    assert_eq!((pairs.len(), outline.n_labels), (LABELS_MAX, LABELS_MAX + 10));
    let refs = vec![0; 2 * LABELS_MAX + 2];
    assert_eq!(request.resolve(&refs, &mut pairs), Err(BadRefs::TooMany(LABELS_MAX + 1)));
}

#[test]
fn labels_of_a_set_are_written_in_its_order() {
    let labels = Labels::from_pairs([("b", "2"), ("a", "1")]);
    let mut writer = Writer::new(Message::V1);
    writer.series(&labels, &[Part::Sample(Sample { t: 1, st: 0, v: -0.0 })], None);
    writer.series([], &[Part::Histogram(Times::default(), Value::Float(1.0))], None);
    let all = read(Message::V1, &writer.body()).unwrap();
    assert_eq!(all[0].labels[0].0, b"a");
    assert_eq!(all[0].samples[0].v.to_bits(), (-0.0_f64).to_bits());
}

#[test]
fn histograms_without_end_take_no_memory() {
    let message = |field: u8, bytes: &[u8]| {
        let mut out = vec![field << 3 | 2];
        crate::wire::protobuf::put::varint(&mut out, bytes.len() as u64);
        out.extend_from_slice(bytes);
        out
    };
    for n in [65536, 65537] {
        let deltas = message(12, &vec![0; n]);
        let spans = message(11, &[]).repeat(n);
        for (part, name) in [(deltas, "PositiveDeltas"), (spans, "BucketSpan")] {
            for (version, field, series) in [(Message::V1, 4, 1), (Message::V2, 3, 5)] {
                let body = message(series, &message(field, &part));
                let outcome = Request::read(version, &body).map(|request| request.series().count());
                let outcome = outcome.map_err(|bad| bad.to_string());
                let text = format!("proto: {name} has more than 65536 elements");
                assert_eq!(outcome, if n > 65536 { Err(text) } else { Ok(1) });
            }
        }
    }
}

/// A walk that skips the piece would find other fields behind it than one that reads it.
#[test]
fn a_number_that_leaves_its_piece_is_refused() {
    // The second reference begins in the piece and ends in the tag of what follows.
    let series = [0x0a, 2, 0x00, 0x80, 0x0a, 0];
    let body = [&[0x22, 0, 0x2a, 6][..], &series].concat();
    assert_eq!(read(Message::V2, &body).unwrap_err(), "unexpected EOF");
}

#[test]
fn symbols_know_whether_they_are_utf8() {
    let symbols = vec![vec![], b"a".to_vec(), "\u{e4}".into(), vec![0xff]];
    let body = oracle::RequestV2 { symbols, series: vec![] }.encode_to_vec();
    let request = Request::read(Message::V2, &body).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(|symbol| request.is_utf8(symbol)), [true, true, true, false, false]);
    let mut pairs = Vec::new();
    assert_eq!(request.resolve(&[1, 2], &mut pairs), Ok(true));
    assert_eq!(request.resolve(&[1, 2, 1, 3], &mut pairs), Ok(false));
    assert_eq!(pairs[1].1, [0xff]);
}
