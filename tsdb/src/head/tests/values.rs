//! Samples of all kinds: what is accepted, how it is cut into chunks, what comes back.

use std::collections::BTreeMap;

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use model::storage::Metadata;
use model::wire::expose::{Expose, Exposition};
use model::wire::parse::MetricType;
use model::{AnyHistogram, Exemplar, FloatHistogram, Histogram, STALE_NAN, Value};

use super::*;
use crate::chunk::{self, Encoding};

/// A value that lives by itself.
#[derive(Clone, Debug)]
pub(super) enum Own {
    Float(f64),
    Histogram(AnyHistogram),
}

impl Own {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Self::Float(v) => Value::Float(*v),
            Self::Histogram(it) => Value::from(it),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(AnyHistogram::Int(a)), Self::Histogram(AnyHistogram::Int(b))) => same_int(a, b),
            (Self::Histogram(AnyHistogram::Float(a)), Self::Histogram(AnyHistogram::Float(b))) => {
                same_float(a, b)
            }
            _ => false,
        }
    }
}

impl Own {
    fn is_stale(&self) -> bool {
        match self {
            Self::Float(v) => model::is_stale(*v),
            Self::Histogram(it) => it.is_stale(),
        }
    }
}

/// Chunks list empty buckets that samples did not.
fn same_int(a: &Histogram, b: &Histogram) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    a.compact(0);
    b.compact(0);
    (a.is_stale() && b.is_stale()) || a.is_same(&b)
}

fn same_float(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    a.compact(0);
    b.compact(0);
    (a.is_stale() && b.is_stale()) || a.is_same(&b)
}

/// Counts by bucket as an integer histogram.
pub(super) fn int(counts: &BTreeMap<i32, u16>) -> Histogram {
    let (mut spans, mut buckets): (Vec<Span>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut previous) = (0, 0);
    for (&index, &count) in counts {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(Span { offset: index - next, length: 1 }),
        }
        next = index + 1;
        buckets.push(i64::from(count) - previous);
        previous = i64::from(count);
    }
    Histogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 2,
        count: 2 + counts.values().map(|&n| u64::from(n)).sum::<u64>(),
        sum: counts.iter().map(|(&i, &n)| f64::from(i) * f64::from(n)).sum(),
        positive_spans: spans,
        positive_buckets: buckets,
        ..Histogram::default()
    }
}

/// As [`int`], with bounds of its own; the indices count from 0.
fn custom(counts: &BTreeMap<i32, u16>) -> Histogram {
    let it = int(counts);
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        zero_count: 0,
        count: it.count - 2,
        custom_values: (0..40).map(f64::from).collect(),
        ..it
    }
}

fn float(it: &Histogram) -> FloatHistogram {
    it.to_float()
}

pub(super) fn append_values(
    head: &Head,
    samples: &[(usize, i64, Own)],
) -> Vec<Result<SeriesRef, AppendError>> {
    let mut batch = head.batch(1);
    let results = samples
        .iter()
        .map(|(n, t, own)| batch.append_value(SeriesKey::Labels(&series(*n)), 0, *t, own.value()))
        .collect();
    batch.commit().unwrap();
    results
}

/// All samples by series, in order.
fn dump_values(head: &Head) -> BTreeMap<Labels, Vec<(i64, Own)>> {
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut all = BTreeMap::new();
    for i in 0..set.len() {
        let mut out = SampleBatch::default();
        set.samples_into(i, TimeRange::ALL, &mut out).unwrap();
        crate::testing::assert_points_agree(&*set, i, TimeRange::ALL);
        let mut samples: Vec<(i64, Own)> = out.iter().map(|s| (s.t, Own::Float(s.v))).collect();
        samples.extend(out.histograms.iter().map(|s| (s.t, Own::Histogram(s.histogram.clone()))));
        samples.sort_by_key(|&(t, _)| t);
        if !samples.is_empty() {
            all.insert(set.labels(i), samples);
        }
    }
    all
}

fn ints(it: Histogram) -> Own {
    Own::Histogram(AnyHistogram::Int(Box::new(it)))
}

fn floats(it: FloatHistogram) -> Own {
    Own::Histogram(AnyHistogram::Float(Box::new(it)))
}

fn counts(pairs: &[(i32, u16)]) -> BTreeMap<i32, u16> {
    pairs.iter().copied().collect()
}

/// A series that lives: counts that grow, buckets that come, resets, gauges, changes of type and of layout.
pub(super) struct Feed {
    kind: usize,
    filled: BTreeMap<i32, u16>,
    i: u32,
}

impl Feed {
    pub(super) fn new(kind: usize) -> Self {
        Self { kind, filled: counts(&[(0, 1)]), i: 0 }
    }

    pub(super) fn next(&mut self, rng: &mut fastrand::Rng) -> Own {
        self.i += 1;
        if self.kind != 0 && rng.u32(..40) == 0 {
            self.filled.insert(rng.i32(0..30), 1);
        }
        if rng.u32(..150) == 0 {
            self.filled.values_mut().for_each(|n| *n /= 2);
        }
        self.filled.values_mut().for_each(|n| *n = n.saturating_add(rng.u16(..4)));
        let it = int(&self.filled);
        match self.kind {
            _ if rng.u32(..100) == 0 => Own::Float(STALE_NAN),
            2 => floats(float(&it)),
            3 => ints(custom(&self.filled)),
            4 => floats(float(&custom(&self.filled))),
            5 => {
                let n = u16::try_from(self.i % 50).unwrap();
                let gauge = int(&counts(&[(i32::from(n % 7), n), (9, 3)]));
                ints(Histogram { counter_reset_hint: CounterResetHint::Gauge, ..gauge })
            }
            6 => ints(Histogram { schema: i32::try_from(self.i / 200).unwrap(), ..it }),
            7 if self.i % 300 < 150 => Own::Float(f64::from(self.i)),
            8 if self.i % 200 < 100 => floats(float(&it)),
            9 => Own::Float(rng.f64()),
            10 => Own::Float(f64::from(self.i)),
            11 => ints(Histogram { zero_threshold: if self.i > 450 { 0.01 } else { 0.001 }, ..it }),
            _ => ints(it),
        }
    }
}

#[test]
fn rules_of_histograms_follow_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let hour = 3_600_000;
    let (a, b) = (int(&counts(&[(1, 2), (3, 1)])), int(&counts(&[(1, 2), (3, 2)])));
    let stored = append_values(
        &head,
        &[
            (1, 10 * hour, ints(a.clone())),
            (2, 10 * hour, Own::Float(a.sum)),
            (3, 10 * hour, floats(float(&a))),
        ],
    );
    assert!(stored.iter().all(Result::is_ok));
    let mut broken = a.clone();
    broken.positive_buckets.pop();
    let cases = [
        (1, 10 * hour, ints(a.clone()), None),
        (1, 10 * hour, ints(b.clone()), Some(AppendError::Duplicate)),
        (1, 10 * hour, Own::Float(a.sum), Some(AppendError::Duplicate)),
        (1, 10 * hour, floats(float(&a)), Some(AppendError::Duplicate)),
        (2, 10 * hour, ints(a.clone()), Some(AppendError::Duplicate)),
        (2, 10 * hour, floats(float(&a)), Some(AppendError::Duplicate)),
        (3, 10 * hour, floats(float(&a)), None),
        (3, 10 * hour, floats(float(&b)), Some(AppendError::Duplicate)),
        (1, 10 * hour - 1, ints(a.clone()), Some(AppendError::OutOfOrder)),
        (3, 10 * hour - 1, floats(float(&a)), Some(AppendError::OutOfOrder)),
        (2, 10 * hour - 1, Own::Float(1.0), Some(AppendError::OutOfOrder)),
        (1, 9 * hour - 1, ints(a.clone()), Some(AppendError::OutOfBounds)),
        (2, 9 * hour - 1, Own::Float(1.0), Some(AppendError::OutOfBounds)),
    ];
    for (n, t, own, expected) in cases {
        let found = append_values(&head, &[(n, t, own.clone())]).remove(0).err();
        assert_eq!(found, expected, "series {n} at {t}: {own:?}");
    }
    let refused = append_values(&head, &[(1, 11 * hour, ints(broken))]).remove(0);
    assert!(matches!(refused, Err(AppendError::InvalidHistogram(_))), "{refused:?}");
    let metrics = &head.0.metrics;
    assert_eq!((metrics.out_of_order.float.get(), metrics.out_of_order.histogram.get()), (1, 2));
    assert_eq!((metrics.out_of_bounds.float.get(), metrics.out_of_bounds.histogram.get()), (1, 1));
    assert_eq!((metrics.samples_appended.float.get(), metrics.samples_appended.histogram.get()), (1, 2));
    let mut out = Exposition::default();
    head.expose(&mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    for line in [
        "prometheus_tsdb_out_of_order_samples_total{type=\"histogram\"} 2",
        "prometheus_tsdb_out_of_bound_samples_total{type=\"float\"} 1",
        "prometheus_tsdb_too_old_samples_total{type=\"histogram\"} 0",
        "prometheus_tsdb_head_stale_series 0",
        "prometheus_tsdb_exemplar_max_exemplars 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
    }
}

#[test]
fn judged_again_at_commit_the_later_batch_loses_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let it = int(&counts(&[(1, 2)]));
    let key = series(1);
    let mut early = head.batch(1);
    early.append_value(SeriesKey::Labels(&key), 0, 1000, Value::Histogram(&it)).unwrap();
    early.append(SeriesKey::Labels(&series(2)), 1000, 1.0).unwrap();
    let mut late = head.batch(1);
    late.append_value(SeriesKey::Labels(&key), 0, 2000, Value::Histogram(&it)).unwrap();
    late.append(SeriesKey::Labels(&series(2)), 2000, 1.0).unwrap();
    late.commit().unwrap();
    early.commit().unwrap();
    let late = &head.0.metrics.out_of_order;
    assert_eq!((late.float.get(), late.histogram.get()), (1, 1));
    assert!(dump_values(&head).values().all(|samples| samples.len() == 1 && samples[0].0 == 2000));
}

/// Chunks created and removed; series whose newest sample is a histogram, and the buckets of these.
fn counted(head: &Head) -> (u64, u64, u64, u64) {
    let states = head.0.shards.iter().map(|shard| {
        let state = shard.state.read();
        (state.n_chunks() + state.n_removed, state.n_removed, state.n_histograms(), state.n_histogram_buckets)
    });
    states.fold((0, 0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3))
}

#[test]
fn chunks_and_histograms_are_counted_as_they_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let it = int(&counts(&[(1, 2), (5, 3)]));
    let n = (it.positive_buckets.len() + it.negative_buckets.len()) as u64;
    let three = [(1, 1000, ints(it.clone())), (2, 1000, Own::Float(1.0)), (3, 1000, floats(float(&it)))];
    assert!(append_values(&head, &three).iter().all(Result::is_ok));
    assert_eq!(counted(&head), (3, 0, 2, 2 * n));
    // A marker after a histogram is one without buckets.
    append(&head, &[(1, 2000, STALE_NAN)]);
    assert_eq!(counted(&head), (3, 0, 2, n));
    // A float takes the place of a histogram, in a chunk of its own.
    append(&head, &[(3, 2000, 2.0)]);
    assert_eq!(counted(&head), (4, 0, 1, 0));
    head.close().unwrap();
    let head = open(dir.path());
    assert_eq!(counted(&head), (4, 0, 1, 0));
    assert!(append_values(&head, &[(1, 3000, ints(it))])[0].is_ok());
    // What follows a marker counts anew, in the next chunk.
    assert_eq!(counted(&head), (5, 0, 1, n));
    head.truncate(60_000).unwrap();
    assert_eq!(counted(&head), (5, 5, 0, 0));
}

#[test]
fn types_of_one_batch_keep_their_order_and_markers_take_the_type() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let it = int(&counts(&[(1, 2)]));
    let all = [
        (1, 1000, Own::Float(1.0)),
        (1, 2000, ints(it.clone())),
        (2, 2000, ints(it.clone())),
        (1, 3000, Own::Float(STALE_NAN)),
        (1, 4000, Own::Float(2.0)),
        (1, 5000, floats(float(&it))),
        (1, 6000, ints(it.clone())),
        (1, 7000, ints(custom(&counts(&[(1, 2)])))),
        (1, 8000, Own::Float(STALE_NAN)),
        (2, 9000, Own::Float(3.0)),
    ];
    assert!(append_values(&head, &all).iter().all(Result::is_ok));
    // A marker that opens a batch is turned by what the series has.
    assert!(append_values(&head, &[(1, 9000, floats(float(&it)))])[0].is_ok());
    assert_eq!(head.n_stale_series(), 0);
    append(&head, &[(1, 10_000, STALE_NAN), (2, 10_000, STALE_NAN)]);
    assert_eq!(head.n_stale_series(), 2);
    let found = dump_values(&head);
    let types = |n: usize| -> Vec<(i64, char)> {
        let type_of = |own: &Own| match own {
            Own::Float(v) if model::is_stale(*v) => 's',
            Own::Float(_) => 'f',
            Own::Histogram(AnyHistogram::Int(it)) if it.is_stale() => 'I',
            Own::Histogram(AnyHistogram::Int(_)) => 'i',
            Own::Histogram(AnyHistogram::Float(it)) if it.is_stale() => 'H',
            Own::Histogram(AnyHistogram::Float(_)) => 'h',
        };
        found[&series(n)].iter().map(|(t, own)| (*t / 1000, type_of(own))).collect()
    };
    let expected = "fiIfhiiIhH".chars();
    assert_eq!(types(1), (1..).zip(expected).collect::<Vec<_>>());
    assert_eq!(types(2), [(2, 'i'), (9, 'f'), (10, 's')]);
    append(&head, &[(2, 11_000, 1.0)]);
    assert_eq!(head.n_stale_series(), 1);
    head.truncate(60_000).unwrap();
    assert_eq!((head.n_series(), head.n_stale_series()), (0, 0));
}

#[test]
fn a_view_keeps_its_samples_while_their_chunk_is_encoded_anew_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let mut filled = counts(&[(0, 1), (5, 1)]);
    let mut expected = Vec::new();
    let mut views = Vec::new();
    for i in 0..120_i64 {
        if i % 4 == 0 {
            // More buckets: the chunk is encoded anew.
            filled.insert(i32::try_from(i * 7 % 60).unwrap() - 20, 1);
        }
        for n in filled.values_mut() {
            *n += 1;
        }
        let it = int(&filled);
        expected.push((i * 1000, ints(it.clone())));
        assert!(append_values(&head, &[(1, i * 1000, ints(it))])[0].is_ok());
        let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
        views.push((expected.len(), set));
    }
    let state =
        head.0.shards.iter().map(|shard| shard.state.read()).find(|state| state.n_slots() > 0).unwrap();
    assert!(state.chunks(0).count() > 1, "some chunks are sealed");
    drop(state);
    for (n, set) in views {
        let mut out = SampleBatch::default();
        set.samples_into(0, TimeRange::ALL, &mut out).unwrap();
        assert_eq!(out.histograms.len(), n);
        for (found, (t, own)) in out.histograms.iter().zip(&expected) {
            assert_eq!(found.t, *t);
            assert!(own.is_same(&Own::Histogram(found.histogram.clone())), "{t}: {found:?}");
        }
    }
}

#[test]
fn start_times_are_stored_where_asked_for() {
    let features = Features {
        floats: FloatEncoding::Xor2,
        stores_start_times: true,
        stores_histogram_starts: true,
        ..Features::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let options = Options { features, ..options() };
    let head = Head::open(dir.path(), options, i64::MIN, &ReplayProgress::default()).unwrap();
    let it = int(&counts(&[(1, 2)]));
    for i in 1..200_i64 {
        let st = if i < 100 { 500 } else { 100_000 };
        let mut batch = head.batch(1);
        batch.append_value(SeriesKey::Labels(&series(1)), st, i * 1000 + 1, Value::Float(1.0)).unwrap();
        batch.append_value(SeriesKey::Labels(&series(2)), st, i * 1000 + 1, Value::Histogram(&it)).unwrap();
        batch.append(SeriesKey::Labels(&series(3)), i * 1000 + 1, 1.0).unwrap();
        batch.commit().unwrap();
    }
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut out = [SampleBatch::default(), SampleBatch::default(), SampleBatch::default()];
    for (i, out) in out.iter_mut().enumerate() {
        set.samples_into(i, TimeRange::ALL, out).unwrap();
    }
    let expected: Vec<i64> = (1..200).map(|i| if i < 100 { 500 } else { 100_000 }).collect();
    assert_eq!((0..199).map(|i| out[0].st(i)).collect::<Vec<_>>(), expected);
    assert_eq!(out[1].histograms.iter().map(|s| s.st).collect::<Vec<_>>(), expected);
    assert!((0..199).all(|i| out[2].st(i) == 0));
    let mut source = head.series_source(i64::MIN, i64::MAX);
    let mut chunks = SourceSeries::default();
    let mut encodings = Vec::new();
    while source.next(&mut chunks).unwrap() {
        encodings.push(chunks.chunks[0].encoding);
    }
    assert_eq!(encodings, [Encoding::Xor2, Encoding::HistogramSt, Encoding::Xor2]);
}

#[test]
fn zeros_are_stored_where_new_counts_began() {
    let dir = tempfile::tempdir().unwrap();
    let features = Features { zero_at_start: true, ..Features::default() };
    let options = Options { features, ..options() };
    let head = Head::open(dir.path(), options, i64::MIN, &ReplayProgress::default()).unwrap();
    let it = int(&counts(&[(1, 2)]));
    let feed = |st: i64, t: i64| {
        let mut batch = head.batch(1);
        batch.append_value(SeriesKey::Labels(&series(1)), st, t, Value::Float(5.0)).unwrap();
        batch.append_value(SeriesKey::Labels(&series(2)), st, t, Value::Histogram(&it)).unwrap();
        batch.commit().unwrap();
    };
    feed(500, 1000);
    feed(500, 2000);
    // Restarted in between; then a start that lies.
    feed(2500, 3000);
    feed(4000, 4000);
    let found = dump_values(&head);
    let times: Vec<i64> = found[&series(1)].iter().map(|s| s.0).collect();
    assert_eq!(times, [500, 1000, 2000, 2500, 3000, 4000]);
    for (t, own) in &found[&series(1)] {
        let v = if t % 1000 == 0 { 5.0 } else { 0.0 };
        assert!(own.is_same(&Own::Float(v)), "{t}: {own:?}");
    }
    assert_eq!(found[&series(2)].iter().map(|s| s.0).collect::<Vec<_>>(), times);
    let Own::Histogram(zero) = &found[&series(2)][3].1 else { panic!("a float among histograms") };
    let AnyHistogram::Int(zero) = zero else { panic!("of another kind") };
    assert_eq!((zero.count, zero.schema, zero.sum), (0, it.schema, 0.0));
    assert_eq!(head.0.metrics.out_of_order.float.get(), 0, "that it is not new is no error");
}

#[test]
fn exemplars_are_logged_kept_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let features = Features { max_exemplars: 3, ..Features::default() };
    let with = Options { features, ..options() };
    let head = Head::open(dir.path(), with, i64::MIN, &ReplayProgress::default()).unwrap();
    let exemplar =
        |t: i64, id: &str| Exemplar { labels: labels(&[("trace", id)]), v: 1.5, t, has_own_t: true };
    let mut batch = head.batch(1);
    let it = batch.append(SeriesKey::Labels(&series(1)), 1000, 1.0).unwrap();
    batch.append_exemplar(it, &exemplar(900, "a")).unwrap();
    batch.append_exemplar(it, &exemplar(950, "b")).unwrap();
    let long = "x".repeat(200);
    assert_eq!(batch.append_exemplar(it, &exemplar(960, &long)), Err(AppendError::ExemplarTooLong));
    let stranger = SeriesRef(std::num::NonZeroU64::new((7 << 32) | 1).unwrap());
    assert_eq!(batch.append_exemplar(stranger, &exemplar(960, "c")), Err(AppendError::UnknownSeries));
    let find = |head: &Head| {
        use model::storage::ExemplarQueryable;
        let found = head.exemplars(TimeRange::new(0, 2000), &[vec![]]).unwrap();
        found
            .iter()
            .map(|f| (f.series.clone(), f.exemplars.iter().map(|e| e.t).collect()))
            .collect::<Vec<(_, Vec<_>)>>()
    };
    assert_eq!(find(&head), [], "nothing before the commit");
    batch.commit().unwrap();
    assert_eq!(find(&head), [(series(1), vec![900, 950])]);
    // Alone in a batch; the series may be gone when somebody asks.
    let mut batch = head.batch(1);
    batch.append_exemplar(it, &exemplar(950, "b")).unwrap();
    batch.append_exemplar(it, &exemplar(1100, "c")).unwrap();
    assert_eq!(batch.append_exemplar(it, &exemplar(800, "d")), Err(AppendError::ExemplarOutOfOrder));
    batch.commit().unwrap();
    head.truncate(10_000).unwrap();
    assert_eq!(find(&head), [(series(1), vec![900, 950, 1100])]);
    head.set_max_exemplars(1);
    assert_eq!(find(&head), [(series(1), vec![1100])]);
    let mut logged = Vec::new();
    each_record(dir.path(), |record| {
        if record[0] == 4 {
            crate::wal::record::decode_exemplars(record, |it| logged.push((it.series, it.exemplar.t)))
                .unwrap();
        }
    });
    assert_eq!(logged, [(1, 900), (1, 950), (1, 1100)]);
    let without = tempfile::tempdir().unwrap();
    let head = open(without.path());
    let mut batch = head.batch(1);
    let it = batch.append(SeriesKey::Labels(&series(1)), 1000, 1.0).unwrap();
    assert_eq!(batch.append_exemplar(it, &exemplar(1, "a")), Err(AppendError::ExemplarsDisabled));
}

#[test]
fn metadata_is_kept_once_and_logged_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let features = Features { logs_metadata: true, ..Features::default() };
    let with = Options { features, ..options() };
    let head = Head::open(dir.path(), with, i64::MIN, &ReplayProgress::default()).unwrap();
    let of = |help: &str| Metadata { kind: MetricType::Counter, unit: "s".into(), help: help.into() };
    let feed = |t: i64, help: &str| {
        let mut batch = head.batch(1);
        for n in 0..3 {
            let it = batch.append(SeriesKey::Labels(&series(n)), t, 1.0).unwrap();
            batch.update_metadata(it, &of(help)).unwrap();
        }
        batch.commit().unwrap();
    };
    feed(1000, "a");
    feed(2000, "a");
    feed(3000, "b");
    assert_eq!(head.metadata(&series(2)), Some(of("b")));
    assert_eq!(head.metadata(&series(7)), None);
    let mut logged = Vec::new();
    each_record(dir.path(), |record| {
        if record[0] == 6 {
            crate::wal::record::decode_metadata(record, |series, it| logged.push((series, it.help))).unwrap();
        }
    });
    let expected = [(1, "a"), (2, "a"), (3, "a"), (1, "b"), (2, "b"), (3, "b")];
    assert_eq!(logged, expected.map(|(series, help)| (series, Box::from(help))));
    let before = head.0.metadata.bytes();
    append(&head, &[(9, 10_000, 1.0)]);
    head.truncate(5000).unwrap();
    assert!(head.0.metadata.bytes() < before, "what no series has is forgotten");
}

/// The records of the log of a store, in order.
fn each_record(dir: &Path, mut each: impl FnMut(&[u8])) {
    let wal = dir.join("wal");
    for number in crate::wal::segment::list(&wal).unwrap() {
        let bytes = crate::fs::read(&crate::wal::segment::path(&wal, number)).unwrap();
        let mut records = crate::wal::reader::Records::new(&bytes);
        while let Some(record) = records.next().unwrap() {
            each(record);
        }
    }
}

#[test]
fn ids_of_the_dead_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let hour = 3_600_000;
    for round in 0..8_i64 {
        let t = round * hour;
        // Ten live through all rounds, six thousand through one.
        let first = 1000 + usize::try_from(round).unwrap() * 6000;
        let mut samples: Vec<_> = (0..10).chain(first..first + 6000).map(|n| (n, t, n as f64)).collect();
        samples.rotate_left(5);
        append(&head, &samples);
        let before = dump(&head);
        head.truncate(t - hour / 2).unwrap();
        let after = dump(&head);
        assert_eq!(after.len(), 6010);
        assert!(after.iter().all(|(labels, samples)| before[labels].ends_with(samples)));
    }
    let (n_ids, n_lines) = {
        let registry = head.0.registry.read();
        assert_eq!(registry.find(registry.hash(&series(1000)), &series(1000)), None);
        (registry.n_ids(), head.0.shards.iter().map(|shard| shard.state.read().n_slots()).sum::<u32>())
    };
    assert!(n_ids < 20_000, "{n_ids} ids for 6010 series");
    assert!(n_lines < 20_000, "{n_lines} lines for 6010 series");
    let one = [Matcher::new(Eq, "n", "43001").unwrap()];
    assert_eq!(select(&head, TimeRange::ALL, &one).len(), 1);
    let memory = head.memory();
    let all: u64 = memory.iter().map(|(_, bytes)| bytes).sum();
    assert!((6010 * 100..40 << 20).contains(&all), "{memory:?}");
    assert!(memory.iter().any(|&(owner, bytes)| owner == "series_lines" && bytes >= 6010 * 64));
}

// === against a plain map ===

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<(usize, i64, Own)>),
    /// A truncation to so long ago.
    Truncate(i64),
}

fn own() -> impl Strategy<Value = Own> {
    let filled = prop::collection::btree_map(0_i32..30, 0_u16..20, 0..6);
    let hint = prop_oneof![
        6 => Just(CounterResetHint::Unknown),
        1 => Just(CounterResetHint::CounterReset),
        1 => Just(CounterResetHint::Gauge),
    ];
    (0_u8..10, filled, hint, 0_u8..4).prop_map(|(kind, filled, hint, v)| {
        let mut it = int(&filled);
        it.counter_reset_hint = hint;
        match kind {
            0..3 => Own::Float(f64::from(v)),
            3 => Own::Float(STALE_NAN),
            4..6 => ints(it),
            6 => ints(Histogram { sum: STALE_NAN, ..Histogram::default() }),
            7 => ints(custom(&filled)),
            8 => floats(it.to_float()),
            _ => floats(custom(&filled).to_float()),
        }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sample = (0_usize..3, -1_i64..4, own());
    prop::collection::vec(
        prop_oneof![
            12 => prop::collection::vec(sample, 1..12).prop_map(Step::Batch),
            1 => (0_i64..400).prop_map(Step::Truncate),
        ],
        1..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_accepted_comes_back(steps in steps(), is_xor2 in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let floats = if is_xor2 { FloatEncoding::Xor2 } else { FloatEncoding::Xor };
        let features = Features { floats, ..Features::default() };
        // A short window, so that chunks are cut by it.
        let options = Options { features, chunk_range_ms: 1_000_000, ..options() };
        let head = Head::open(dir.path(), options, i64::MIN, &ReplayProgress::default()).unwrap();
        let mut expected: BTreeMap<Labels, Vec<(i64, Own)>> = BTreeMap::new();
        let mut now = 1_000_000_i64;
        let mut bound = i64::MIN;
        for step in steps {
            match step {
                Step::Batch(samples) => {
                    let mut batch = head.batch(1);
                    for (n, dt, own) in samples {
                        now += 1000;
                        let t = now + dt * 1000;
                        let accepted = batch.append_value(SeriesKey::Labels(&series(n)), 0, t, own.value());
                        if accepted.is_err() {
                            continue;
                        }
                        let stored = expected.entry(series(n)).or_default();
                        if stored.last().is_some_and(|&(last, _)| last >= t) || t < bound {
                            // Judged again at the commit, after the others of the batch.
                            continue;
                        }
                        let own = match (&own, stored.last()) {
                            (Own::Float(v), Some((_, Own::Histogram(last)))) if model::is_stale(*v) => match last {
                                AnyHistogram::Int(_) => ints(Histogram { sum: *v, ..Histogram::default() }),
                                AnyHistogram::Float(_) => super::values::floats(FloatHistogram { sum: *v, ..FloatHistogram::default() }),
                            },
                            _ => own,
                        };
                        stored.push((t, own));
                    }
                    batch.commit().unwrap();
                }
                Step::Truncate(ago) => {
                    bound = bound.max(now - ago * 1000);
                    head.truncate(bound).unwrap();
                }
            }
            let found = dump_values(&head);
            for (labels, samples) in &expected {
                let samples: Vec<_> = samples.iter().filter(|(t, _)| *t >= bound).collect();
                let found = found.get(labels).map_or(&[][..], Vec::as_slice);
                let found: Vec<_> = found.iter().filter(|(t, _)| *t >= bound).collect();
                prop_assert_eq!(found.len(), samples.len(), "{} has {:?}", labels, found);
                // A marker takes the type of what came before it in its batch, even if that is refused in the end.
                let is_alike = |a: &Own, b: &Own| a.is_same(b) || (a.is_stale() && b.is_stale());
                for (found, expected) in found.iter().zip(&samples) {
                    prop_assert!(found.0 == expected.0 && is_alike(&found.1, &expected.1), "{:?} is {:?}", expected, found);
                }
            }
        }
        // The same as a block would hold it, cut in the middle.
        let middle = i64::midpoint(1_000_000, now).max(bound);
        for (mint, maxt) in [(bound, middle), (middle, i64::MAX)] {
            let mut source = head.series_source(mint, maxt);
            let mut chunks = SourceSeries::default();
            let mut n_found = 0;
            while source.next(&mut chunks).unwrap() {
                let mut out = SampleBatch::default();
                for it in &chunks.chunks {
                    let before = out.len() + out.histograms.len();
                    chunk::decode(it.encoding, &it.bytes, TimeRange::new(it.mint, it.maxt), &mut out).unwrap();
                    prop_assert_eq!(usize::from(chunk::count(it.encoding, &it.bytes).unwrap()), out.len() + out.histograms.len() - before);
                }
                n_found += out.len() + out.histograms.len();
            }
            let n = expected.values().flatten().filter(|(t, _)| (mint..maxt).contains(t)).count();
            prop_assert_eq!(n_found, n, "between {} and {}", mint, maxt);
        }
    }
}

// === against upstream's chunks ===

/// Sample `k` of a series of the golden file.
fn golden_sample(series: usize, k: i64) -> Own {
    fn buckets(first: i32, n: i64, sum: f64, count: impl Fn(i64) -> i64) -> Histogram {
        let counts: Vec<i64> = (0..n).map(count).collect();
        let span = Span { offset: first, length: u32::try_from(n).unwrap() };
        Histogram {
            schema: 2,
            zero_threshold: 0.001,
            zero_count: 3,
            sum,
            count: 3 + counts.iter().sum::<i64>().cast_unsigned(),
            positive_spans: if n > 0 { vec![span] } else { vec![] },
            positive_buckets: (0..counts.len())
                .map(|i| counts[i] - if i > 0 { counts[i - 1] } else { 0 })
                .collect(),
            ..Histogram::default()
        }
    }
    let grown = || buckets(0, 1 + k / 50, k as f64 * 0.5, |i| k + i);
    let steady = || buckets(0, 8, k as f64 * 0.5, |i| k * (i + 1));
    let gauge = || Histogram {
        counter_reset_hint: CounterResetHint::Gauge,
        ..buckets(i32::try_from(k % 3).unwrap(), 4, 1.0, |i| (k * 7 + i) % 23)
    };
    match series {
        2 => ints(buckets(-3, 5, (k % 97) as f64, |_| k % 97)),
        3 => ints(gauge()),
        4 => floats(grown().to_float()),
        5 if (k / 70) % 2 == 0 => Own::Float(k as f64),
        0 | 5 => ints(steady()),
        6 => ints(buckets(0, 0, 0.0, |_| 0)),
        7 if k % 100 == 99 => Own::Float(STALE_NAN),
        1 | 7 => ints(grown()),
        8 => {
            let it = buckets(0, 1 + k / 60, k as f64 * 0.5, |i| k + i);
            let custom_values = (0..25).map(|i| f64::from(i) * 0.25).collect();
            let (zero_threshold, zero_count, count) = (0.0, 0, it.count - 3);
            ints(Histogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                zero_threshold,
                zero_count,
                count,
                custom_values,
                ..it
            })
        }
        9 => floats(gauge().to_float()),
        10 => {
            let it = steady();
            let span = |offset| Span { offset, length: 1 };
            ints(Histogram {
                negative_spans: vec![span(1), span(2)],
                negative_buckets: vec![k / 3, k % 2],
                count: it.count + (2 * (k / 3) + k % 2).cast_unsigned(),
                ..it
            })
        }
        _ => ints(buckets(0, 120, k as f64 * 1.25, |i| (k * k * (i + 3)) % 9973 + k * 10_000)),
    }
}

#[test]
fn chunks_are_cut_and_written_as_upstream_does() {
    for line in include_str!("chunks.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let n: usize = words.next().unwrap().parse().unwrap();
        let floats = if words.next() == Some("xor2") { FloatEncoding::Xor2 } else { FloatEncoding::Xor };
        let dir = tempfile::tempdir().unwrap();
        let features = Features { floats, ..Features::default() };
        let head =
            Head::open(dir.path(), Options { features, ..options() }, i64::MIN, &ReplayProgress::default())
                .unwrap();
        let (n_samples, interval) = match n {
            6 => (9000, 1000),
            10 => (200, 15_000),
            _ => (1000, 15_000),
        };
        for k in 1..=n_samples {
            let t = 1_600_000_000_000 + k * interval;
            append_values(&head, &[(n, t, golden_sample(n, k))])[0].unwrap();
        }
        let mut source = head.series_source(i64::MIN, i64::MAX);
        let mut it = SourceSeries::default();
        assert!(source.next(&mut it).unwrap());
        let describe = |it: &chunk::EncodedChunk| {
            let count = chunk::count(it.encoding, &it.bytes).unwrap();
            format!("{}:{count}:{:08x}", it.encoding as u8, crc32c::crc32c(&it.bytes))
        };
        let found: Vec<String> = it.chunks.iter().map(describe).collect();
        for (i, (found, expected)) in found.iter().zip(words.clone()).enumerate() {
            assert_eq!(found, expected, "chunk {i} of series {n}");
        }
        assert_eq!(found.len(), words.count(), "chunks of series {n}");
    }
}

#[test]
fn new_series_beyond_the_limit_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::open(
        dir.path(),
        Options { series_limit: 3, ..options() },
        i64::MIN,
        &ReplayProgress::default(),
    )
    .unwrap();
    let results = append(&head, &[(1, 1000, 1.0), (2, 1000, 1.0), (3, 1000, 1.0)]);
    assert!(results.iter().all(Result::is_ok));
    let results = append(&head, &[(1, 2000, 1.0), (4, 2000, 1.0)]);
    assert_eq!((results[0].is_ok(), results[1]), (true, Err(AppendError::SeriesLimit)));
    assert_eq!(head.0.metrics.series_refused.get(), 1);
    head.truncate(60_000).unwrap();
    assert!(append(&head, &[(4, 60_000, 1.0)])[0].is_ok(), "there is room again");
}
