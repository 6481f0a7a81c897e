//! Data directories that real servers left behind hold for us what they hold for upstream: floats bit by bit,
//! histograms bucket by bucket, exemplars, after deletions and with samples that came late; also after we have
//! made blocks of them and were started again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::histogram::{CounterResetHint, Span};
use model::storage::{ExemplarQueryable, Queryable, SelectHints};
use model::{AnyHistogram, Labels, MatchOp, Matcher, SampleBatch, TimeRange};
use serde_json::Value;
use tsdb::Db;
use tsdb::db::Options;
use tsdb::head::ReplayProgress;

/// Times and values of one series, as text that tells them apart.
type Samples = BTreeMap<i64, String>;

fn hex(v: f64) -> String {
    format!("{:016x}", v.to_bits())
}

fn labels(map: &Value) -> Labels {
    Labels::from_pairs(map.as_object().unwrap().iter().map(|(name, value)| (name, value.as_str().unwrap())))
}

/// Buckets by index, empty ones left out: spans may be cut in more ways than one.
fn buckets(spans: impl Iterator<Item = (i64, i64)>, counts: impl Iterator<Item = String>) -> String {
    let mut at = 0;
    let mut indexes = Vec::new();
    for (offset, length) in spans {
        at += offset;
        indexes.extend(at..at + length);
        at += length;
    }
    let pairs = indexes.into_iter().zip(counts).filter(|(_, count)| *count != hex(0.0));
    pairs.map(|(index, count)| format!("{index}:{count}")).collect::<Vec<_>>().join(" ")
}

fn histogram_text(
    is_float: bool,
    is_gauge: bool,
    schema: i64,
    totals: &[String],
    positive: &str,
    negative: &str,
    custom: &[String],
) -> String {
    format!("float {is_float} gauge {is_gauge} {schema} {totals:?} +{positive} -{negative} {custom:?}")
}

fn spans(spans: &[Span]) -> impl Iterator<Item = (i64, i64)> + '_ {
    spans.iter().map(|span| (i64::from(span.offset), i64::from(span.length)))
}

fn sums(deltas: &[i64]) -> impl Iterator<Item = String> + '_ {
    deltas.iter().scan(0, |sum, delta| {
        *sum += delta;
        Some(hex(*sum as f64))
    })
}

fn ours(histogram: &AnyHistogram) -> String {
    if histogram.is_stale() {
        return "stale".to_owned();
    }
    match histogram {
        AnyHistogram::Int(h) => histogram_text(
            false,
            h.counter_reset_hint == CounterResetHint::Gauge,
            h.schema.into(),
            &[h.zero_threshold, h.zero_count as f64, h.count as f64, h.sum].map(hex),
            &buckets(spans(&h.positive_spans), sums(&h.positive_buckets)),
            &buckets(spans(&h.negative_spans), sums(&h.negative_buckets)),
            &h.custom_values.iter().copied().map(hex).collect::<Vec<_>>(),
        ),
        AnyHistogram::Float(h) => histogram_text(
            true,
            h.counter_reset_hint == CounterResetHint::Gauge,
            h.schema.into(),
            &[h.zero_threshold, h.zero_count, h.count, h.sum].map(hex),
            &buckets(spans(&h.positive_spans), h.positive_buckets.iter().copied().map(hex)),
            &buckets(spans(&h.negative_spans), h.negative_buckets.iter().copied().map(hex)),
            &h.custom_values.iter().copied().map(hex).collect::<Vec<_>>(),
        ),
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn theirs(h: &Value) -> String {
    let totals = texts(&h["totals"]);
    if totals[3] == hex(model::sample::STALE_NAN) {
        return "stale".to_owned();
    }
    let spans = |name: &str| {
        let pairs: Vec<(i64, i64)> = h[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|span| (span[0].as_i64().unwrap(), span[1].as_i64().unwrap()))
            .collect();
        pairs.into_iter()
    };
    histogram_text(
        h["float"].as_bool().unwrap(),
        h["hint"].as_i64() == Some(3),
        h["schema"].as_i64().unwrap(),
        &totals,
        &buckets(spans("positive_spans"), texts(&h["positive"]).into_iter()),
        &buckets(spans("negative_spans"), texts(&h["negative"]).into_iter()),
        &texts(&h["custom"]),
    )
}

fn expected(json: &Value) -> BTreeMap<Labels, Samples> {
    let mut all = BTreeMap::new();
    for series in json["series"].as_array().unwrap() {
        let floats = series["floats"].as_array().unwrap().iter();
        let mut samples: Samples =
            floats.map(|pair| (pair[0].as_i64().unwrap(), pair[1].as_str().unwrap().to_owned())).collect();
        let histograms = series["histograms"].as_array().unwrap().iter();
        samples.extend(histograms.map(|pair| (pair[0].as_i64().unwrap(), theirs(&pair[1]))));
        all.insert(labels(&series["labels"]), samples);
    }
    all
}

fn found(db: &Db) -> BTreeMap<Labels, Samples> {
    let set = db.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut all = BTreeMap::new();
    for i in 0..set.len() {
        let mut batch = SampleBatch::default();
        set.samples_into(i, TimeRange::ALL, &mut batch).unwrap();
        let mut samples: Samples = batch.iter().map(|sample| (sample.t, hex(sample.v))).collect();
        samples.extend(batch.histograms.iter().map(|sample| (sample.t, ours(&sample.histogram))));
        if !samples.is_empty() {
            all.insert(set.labels(i), samples);
        }
    }
    all
}

/// The exemplars of each series: time, value and labels.
type Exemplars = BTreeMap<Labels, Vec<(i64, String, Labels)>>;

fn expected_exemplars(json: &Value) -> Exemplars {
    let one = |e: &Value| (e[0].as_i64().unwrap(), e[1].as_str().unwrap().to_owned(), labels(&e[2]));
    let series = json["exemplars"].as_array().unwrap().iter();
    series
        .map(|s| (labels(&s["labels"]), s["exemplars"].as_array().unwrap().iter().map(one).collect()))
        .collect()
}

fn found_exemplars(db: &Db) -> Exemplars {
    let all = Matcher::new(MatchOp::Re, "__name__", ".*").unwrap();
    let found = db.exemplars(TimeRange::ALL, &[vec![all]]).unwrap();
    let one = |e: &model::Exemplar| (e.t, hex(e.v), e.labels.clone());
    found.iter().map(|series| (series.series.clone(), series.exemplars.iter().map(one).collect())).collect()
}

#[track_caller]
fn assert_same(when: &str, found: &BTreeMap<Labels, Samples>, expected: &BTreeMap<Labels, Samples>) {
    let none = Samples::new();
    let mut differences = Vec::new();
    for series in found.keys().chain(expected.keys()).collect::<std::collections::BTreeSet<_>>() {
        let (a, b) = (found.get(series).unwrap_or(&none), expected.get(series).unwrap_or(&none));
        for t in a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>() {
            if a.get(t) != b.get(t) {
                differences.push(format!("{series} at {t}: found {:?}, expected {:?}", a.get(t), b.get(t)));
            }
        }
    }
    let n = differences.len();
    differences.truncate(8);
    assert!(n == 0, "{when}: {n} samples differ\n{}", differences.join("\n"));
}

fn options() -> Options {
    Options {
        min_block: Duration::from_secs(6),
        max_block: Some(Duration::from_secs(18)),
        out_of_order_window: Duration::from_mins(2),
        features: tsdb::head::Features { max_exemplars: 10_000, ..Default::default() },
        ..Options::default()
    }
}

fn open(dir: &Path) -> Db {
    Db::open(dir, &options(), &ReplayProgress::default()).unwrap()
}

fn check(name: &str) {
    let json = fixture::expected(name);
    let (expected, exemplars) = (expected(&json), expected_exemplars(&json));
    let n: usize = expected.values().map(BTreeMap::len).sum();
    assert!(n > 100 && !exemplars.is_empty(), "{name}: {n} samples expected");
    let dir = tempfile::tempdir().unwrap();
    fixture::unpack(&fixture::load(name), dir.path());
    let db = open(dir.path());
    assert_same(name, &found(&db), &expected);
    assert_eq!(found_exemplars(&db), exemplars, "{name}: exemplars");
    assert!(db.quarantined().is_empty(), "{name}: {:?}", db.quarantined());
    db.maintain(db.head().max_time()).unwrap();
    assert_same(&format!("{name}, maintained"), &found(&db), &expected);
    db.close().unwrap();
    let db = open(dir.path());
    assert_same(&format!("{name}, opened again"), &found(&db), &expected);
}

#[test]
fn prometheus_3_5_3_killed() {
    check("3.5.3/killed");
}

#[test]
fn prometheus_3_5_3_stopped() {
    check("3.5.3/stopped");
}

#[test]
fn prometheus_3_14_0_killed() {
    check("3.14.0/killed");
}

#[test]
fn prometheus_3_14_0_stopped() {
    check("3.14.0/stopped");
}

#[test]
fn prometheus_3_14_0_with_start_times_and_xor2() {
    check("3.14.0/next");
}
