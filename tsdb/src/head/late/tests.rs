use std::collections::BTreeMap;

use model::histogram::Span;
use model::storage::{AppendError, Queryable, SelectHints, SeriesKey};
use model::{FloatHistogram, Histogram, Labels, SampleBatch};
use tempfile::TempDir;

use super::*;
use crate::compact::{SeriesSource, SourceSeries};
use crate::db::paths;
use crate::fs::{self, fault};
use crate::head::{Options, ReplayProgress};
use crate::wal::reader;
use crate::wal::record::{self, Kind};

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

type Samples = BTreeMap<i64, u64>;

fn open_with(dir: &Path, window_ms: i64) -> Head {
    open_from(dir, window_ms, i64::MIN)
}

fn open_from(dir: &Path, window_ms: i64, min_valid_time: i64) -> Head {
    let wal = wal::Options { segment_bytes: 1 << 20, sync_interval: None, ..wal::Options::default() };
    let options = Options { n_shards: 4, out_of_order_window_ms: window_ms, wal, ..Options::default() };
    Head::open(dir, options, min_valid_time, &ReplayProgress::default()).unwrap()
}

fn open(dir: &Path) -> Head {
    open_with(dir, 4 * HOUR)
}

fn series(n: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", n.to_string().as_str())])
}

fn append(head: &Head, samples: &[(usize, i64, f64)]) -> Vec<Result<(), AppendError>> {
    let mut batch = head.batch(1);
    let results = samples
        .iter()
        .map(|&(n, t, v)| batch.append(SeriesKey::Labels(&series(n)), t, v).map(|_| ()))
        .collect();
    batch.commit().unwrap();
    results
}

fn select(head: &Head, range: TimeRange) -> BTreeMap<Labels, Samples> {
    let set = head.querier(range).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut all = BTreeMap::new();
    for i in 0..set.len() {
        let mut out = SampleBatch::default();
        set.samples_into(i, range, &mut out).unwrap();
        crate::testing::assert_points_agree(&*set, i, range);
        assert!(out.ts.is_sorted_by(|a, b| a < b), "times ascend: {:?}", out.ts);
        if !out.ts.is_empty() {
            all.insert(set.labels(i), out.iter().map(|s| (s.t, s.v.to_bits())).collect());
        }
    }
    all
}

fn dump(head: &Head) -> BTreeMap<Labels, Samples> {
    select(head, TimeRange::ALL)
}

fn times(head: &Head, n: usize) -> Vec<i64> {
    dump(head).remove(&series(n)).unwrap_or_default().into_keys().collect()
}

/// The records of the log of late samples: series and place of markers, series and time of samples.
fn logged(dir: &Path) -> Vec<(Kind, Vec<(u64, i64)>)> {
    let dir = dir.join("wbl");
    let mut all = Vec::new();
    for n in wal::segment::list(&dir).unwrap() {
        let bytes = fs::read(&wal::segment::path(&dir, n)).unwrap();
        let mut records = reader::Records::new(&bytes);
        while let Some(bytes) = records.next().unwrap() {
            let (mut markers, mut samples) = (Vec::new(), Vec::new());
            let kind = Kind::of(bytes);
            let items = if kind == Kind::Markers {
                record::decode_markers(bytes, &mut markers).unwrap();
                markers.iter().map(|m| (m.series, m.chunk.cast_signed())).collect()
            } else {
                record::decode_samples(bytes, &mut samples).unwrap();
                samples.iter().map(|s| (s.series, s.t)).collect()
            };
            all.push((kind, items));
        }
    }
    all
}

#[test]
fn what_is_late_and_what_is_too_late_follows_upstream() {
    let dir = TempDir::new().unwrap();
    let head = open_with(dir.path(), 0);
    append(&head, &[(1, 9 * HOUR, 1.0), (1, 10 * HOUR, 1.0)]);
    let ask = |n, t| append(&head, &[(n, t, 5.0)]).remove(0).err();
    assert_eq!(ask(1, 10 * HOUR - 1), Some(AppendError::OutOfOrder));
    assert_eq!(ask(1, 9 * HOUR - 1), Some(AppendError::OutOfBounds));
    assert_eq!(ask(2, 9 * HOUR - 1), Some(AppendError::OutOfBounds));

    head.set_out_of_order_window(2 * HOUR).unwrap();
    assert_eq!(ask(1, 10 * HOUR), Some(AppendError::Duplicate));
    assert_eq!(ask(1, 10 * HOUR - 1), None);
    assert_eq!(ask(1, 8 * HOUR), None);
    assert_eq!(ask(1, 8 * HOUR - 1), Some(AppendError::TooOld));
    assert_eq!(ask(2, 8 * HOUR - 1), Some(AppendError::TooOld));
    assert_eq!(ask(2, 9 * HOUR - 1), None, "before the bound of a new series");
    assert_eq!(ask(3, 9 * HOUR), None, "a new series takes it in order");
    assert_eq!(head.late_times(), Some(TimeRange::new(8 * HOUR, 10 * HOUR - 1)));
    let (appended, too_old) = (&head.0.late.metrics.appended, &head.0.metrics.too_old);
    assert_eq!((appended.float.get(), too_old.float.get()), (3, 2));
    assert_eq!(times(&head, 1), [8 * HOUR, 9 * HOUR, 10 * HOUR - 1, 10 * HOUR]);
    assert_eq!(times(&head, 2), [9 * HOUR - 1]);
    assert_eq!((head.min_time(), head.max_time()), (9 * HOUR, 10 * HOUR), "those in order");

    head.set_out_of_order_window(0).unwrap();
    assert_eq!(ask(1, 10 * HOUR - 2), Some(AppendError::OutOfOrder));
    assert_eq!(times(&head, 1).len(), 4, "what came stays");
    let mut text = model::wire::expose::Exposition::default();
    model::wire::expose::Expose::expose(&head, &mut text);
    let text = String::from_utf8(text.into_body()).unwrap();
    for line in [
        "prometheus_tsdb_head_out_of_order_samples_appended_total{type=\"float\"} 3",
        "prometheus_tsdb_too_old_samples_total{type=\"float\"} 2",
        "prometheus_tsdb_too_old_samples_total{type=\"histogram\"} 0",
        "prometheus_tsdb_sample_ooo_delta_bucket{le=\"600\"} 3",
        "prometheus_tsdb_sample_ooo_delta_count 7",
        "prometheus_tsdb_head_samples_appended_total{type=\"float\"} 6",
        "prometheus_tsdb_out_of_order_wbl_segment_current 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    let mut families: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
    families.sort_unstable();
    assert!(families.is_sorted_by(|a, b| a < b), "every family once: {families:?}");
}

#[test]
fn within_one_batch_and_between_two_the_order_decides() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    let mut slow = head.batch(1);
    for (t, v) in [(11 * HOUR, 1.0), (11 * HOUR - 5, 2.0), (11 * HOUR - 5, 3.0), (11 * HOUR, 4.0)] {
        // All are newer than the newest, as far as can be told before the commit.
        slow.append(SeriesKey::Labels(&series(1)), t, v).unwrap();
    }
    slow.append(SeriesKey::Labels(&series(2)), 9 * HOUR + 1, 5.0).unwrap();
    append(&head, &[(1, 12 * HOUR, 6.0)]);
    slow.commit().unwrap();
    let bits = f64::to_bits;
    let expected: Samples =
        [(10 * HOUR, bits(1.0)), (11 * HOUR - 5, bits(2.0)), (11 * HOUR, bits(1.0)), (12 * HOUR, bits(6.0))]
            .into();
    assert_eq!(dump(&head)[&series(1)], expected);
    assert_eq!(times(&head, 2), [9 * HOUR + 1], "judged again: before the bound by now, yet in the window");
    assert_eq!(head.0.late.metrics.appended.float.get(), 3);
}

#[test]
fn the_first_of_equal_times_counts_wherever_it_lies() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 2 * HOUR, 1.0), (1, 3 * HOUR, 1.0), (1, 4 * HOUR, 1.0)]);
    append(&head, &[(1, 3 * HOUR, 9.0)]);
    for (i, v) in (0..40).zip([1.0, 9.0].into_iter().cycle()) {
        // Sealed after 32, so the second round finds no duplicates.
        append(&head, &[(1, 3 * HOUR + 1 + i, v)]);
    }
    for i in 0..40 {
        append(&head, &[(1, 3 * HOUR + 1 + i, 77.0)]);
    }
    let check = |head: &Head| {
        let found = dump(head).remove(&series(1)).unwrap();
        assert_eq!(found.len(), 43);
        assert!(found.values().all(|&v| v == 1_f64.to_bits() || v == 9_f64.to_bits()));
        assert_eq!(found[&(3 * HOUR)], 1_f64.to_bits());
    };
    check(&head);
    head.close().unwrap();
    drop(head);
    check(&open(dir.path()));
}

#[test]
fn full_chunks_are_sealed_and_the_log_says_so_before_what_follows() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0), (2, 10 * HOUR, 1.0)]);
    for i in 0..70_i64 {
        // Newest first.
        append(&head, &[(1, 9 * HOUR - i, i as f64), (2, 9 * HOUR - i * 1000, 0.5)]);
    }
    let before = dump(&head);
    assert_eq!(before.values().map(BTreeMap::len).collect::<Vec<_>>(), [71, 71]);
    assert_eq!(head.stats(1).n_chunks, 2 + 2 * 3);
    let markers: Vec<_> = logged(dir.path())
        .into_iter()
        .enumerate()
        .filter(|(_, (kind, _))| *kind == Kind::Markers)
        .map(|(i, (_, items))| (i, items.iter().map(|&(series, _)| series).collect::<Vec<_>>(), items[0].1))
        .collect();
    // Each batch is a record; the markers are between the 32nd and the 33rd, and so on.
    let expected = [(0, vec![1, 2], 0), (33, vec![1, 2], (1 << 32) | 8)];
    assert_eq!(markers[..2], expected);
    assert_eq!((markers.len(), markers[2].0), (3, 66));
    head.close().unwrap();
    drop(head);
    let head = open(dir.path());
    assert_eq!(dump(&head), before);
    assert_eq!(head.stats(1).n_chunks, 2 + 2 * 3, "markers were believed: nothing is there twice");
    assert_eq!(head.late_times(), Some(TimeRange::new(9 * HOUR - 69_000, 9 * HOUR)));
}

#[test]
fn chunks_lost_with_the_process_come_back_from_the_log() {
    let dir = TempDir::new().unwrap();
    let mut expected = BTreeMap::new();
    for round in 0..3_i64 {
        // The buffer of the chunk files dies with each of them, every time with other chunks in it.
        let head = open(dir.path());
        assert_eq!(dump(&head), expected, "round {round}");
        append(&head, &[(1, 10 * HOUR + round, 1.0), (2, 10 * HOUR + round, 1.0)]);
        for i in 0..50_i64 {
            let t = 9 * HOUR - i * 10 - round;
            append(&head, &[(1, t, i as f64), (2, t - 1, i as f64)]);
        }
        expected = dump(&head);
        assert_eq!(expected[&series(1)].len(), usize::try_from((round + 1) * 51).unwrap());
        if round == 1 {
            head.close().unwrap();
        }
    }
    assert_eq!(dump(&open_with(dir.path(), 0)), expected, "a window is not needed for what is there");
}

/// All observations in the zero bucket.
fn histogram(count: u64, counter_reset_hint: CounterResetHint) -> Histogram {
    Histogram { counter_reset_hint, count, zero_count: count, sum: 1.0, ..Histogram::default() }
}

/// Times of histograms with their counts and hints.
fn histograms(head: &Head, n: usize) -> Vec<(i64, f64, CounterResetHint)> {
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let i = (0..set.len()).find(|&i| set.labels(i) == series(n)).unwrap();
    let mut out = SampleBatch::default();
    set.samples_into(i, TimeRange::ALL, &mut out).unwrap();
    let count = |it: &AnyHistogram| match it {
        AnyHistogram::Int(it) => (it.count as f64, it.counter_reset_hint),
        AnyHistogram::Float(it) => (it.count, it.counter_reset_hint),
    };
    let told = out.histograms.iter().map(|sample| (sample.t, count(&sample.histogram)));
    told.map(|(t, (count, hint))| (t, count, hint)).collect()
}

#[test]
fn late_histograms_list_the_buckets_of_their_chunk_before_it_is_one() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    let of = |lengths: &[(i32, u32)], deltas: &[i64], count: u64| Histogram {
        count,
        sum: 1.0,
        positive_spans: lengths.iter().map(|&(offset, length)| Span { offset, length }).collect(),
        positive_buckets: deltas.to_vec(),
        ..Histogram::default()
    };
    let put = |t: i64, histogram: &Histogram| {
        let mut batch = head.batch(1);
        batch.append_value(SeriesKey::Labels(&series(1)), 0, t, Value::Histogram(histogram)).unwrap();
        batch.commit().unwrap();
    };
    put(10 * HOUR, &of(&[(0, 1)], &[9], 9));
    put(9 * HOUR, &of(&[(0, 1), (1, 1)], &[3, 1], 7));
    put(8 * HOUR, &of(&[(0, 1)], &[2], 2));
    // What was late is one chunk, all of whose histograms list both buckets, even where only one of them is looked at.
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let lengths = |range: TimeRange| {
        let mut out = SampleBatch::default();
        set.samples_into(0, range, &mut out).unwrap();
        let n = out.histograms.iter().map(|sample| match &sample.histogram {
            AnyHistogram::Int(it) => it.positive_buckets.len(),
            AnyHistogram::Float(it) => it.positive_buckets.len(),
        });
        n.collect::<Vec<_>>()
    };
    assert_eq!(lengths(TimeRange::ALL), [2, 2, 1]);
    assert_eq!(lengths(TimeRange { mint: 8 * HOUR, maxt: 8 * HOUR }), [2]);
}

#[test]
fn histograms_come_late_as_well_and_say_nothing_of_resets() {
    use CounterResetHint::{Gauge, NotCounterReset, Unknown};
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    let put = |n: usize, t: i64, value: Value<'_>| {
        let mut batch = head.batch(1);
        let answer = batch.append_value(SeriesKey::Labels(&series(n)), 0, t, value).map(|_| ());
        batch.commit().unwrap();
        answer
    };
    let gauge = FloatHistogram {
        counter_reset_hint: Gauge,
        count: 7.0,
        zero_count: 7.0,
        ..FloatHistogram::default()
    };
    for hour in [8, 10, 11] {
        put(1, hour * HOUR, Value::Histogram(&histogram(hour.unsigned_abs(), NotCounterReset))).unwrap();
        put(2, hour * HOUR, Value::FloatHistogram(&gauge)).unwrap();
    }
    // 40 of them, so that one chunk is sealed; every fifth is a float, every seventh of the other kind.
    let mut expected = Vec::new();
    for i in 1..=40_i64 {
        let t = 10 * HOUR - i * MINUTE;
        if i % 5 == 0 {
            put(1, t, Value::Float(i as f64)).unwrap();
        } else if i % 7 == 0 {
            put(1, t, Value::FloatHistogram(&gauge)).unwrap();
            expected.push((t, 7.0, Gauge));
        } else {
            put(1, t, Value::Histogram(&histogram(i.unsigned_abs(), NotCounterReset))).unwrap();
            expected.push((t, i as f64, Unknown));
        }
        put(2, t, Value::FloatHistogram(&gauge)).unwrap();
    }
    assert_eq!(put(1, 6 * HOUR, Value::Histogram(&histogram(1, Unknown))), Err(AppendError::TooOld));
    put(1, 9 * HOUR, Value::Float(model::STALE_NAN)).unwrap();
    let metrics = &head.0.late.metrics;
    assert_eq!((metrics.appended.float.get(), metrics.appended.histogram.get()), (8, 73));
    assert_eq!(head.0.metrics.too_old.histogram.get(), 1);

    let check = |head: &Head| {
        let floats = times(head, 1);
        assert_eq!(floats, (1..=8).rev().map(|i| 10 * HOUR - i * 5 * MINUTE).collect::<Vec<_>>());
        let found = histograms(head, 1);
        assert!(found.is_sorted_by(|a, b| a.0 < b.0) && found.len() == 3 + 32 + 1);
        for (t, count, hint) in &expected {
            let it = found.iter().find(|it| it.0 == *t).unwrap();
            assert_eq!(it.1, *count, "at {t}");
            if *hint == Gauge {
                assert_eq!(it.2, Gauge);
            }
        }
        // Counts fall with time: nobody may say that they do not.
        for pair in found.windows(2) {
            assert!(pair[1].1 >= pair[0].1 || pair[1].2 != NotCounterReset, "{pair:?}");
        }
        assert!(found.iter().any(|it| it.0 == 9 * HOUR), "the marker became one of them");
        let gauges = histograms(head, 2);
        assert!(gauges.len() == 3 + 40 && gauges.iter().all(|it| (it.1, it.2) == (7.0, Gauge)));
    };
    check(&head);
    // Killed, then stopped.
    drop(head);
    let head = open(dir.path());
    check(&head);
    head.close().unwrap();
    drop(head);
    let head = open(dir.path());
    check(&head);
    let late = head.late_samples().unwrap().unwrap();
    let mut n_samples = BTreeMap::new();
    for window in late.windows().collect::<Vec<_>>() {
        let mut source = late.window(window);
        let mut it = SourceSeries::default();
        while source.next(&mut it).unwrap() {
            assert!(it.chunks.windows(2).all(|pair| pair[0].maxt < pair[1].mint));
            for chunk in &it.chunks {
                let n = chunk::count(chunk.encoding, &chunk.bytes).unwrap();
                *n_samples.entry(chunk.encoding as u8).or_insert(0) += n;
            }
        }
    }
    assert_eq!(n_samples, BTreeMap::from([(1, 8), (2, 28 + 1), (3, 4 + 40)]));
}

#[test]
fn marks_of_the_present_are_refused_when_late() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    let mut batch: Box<dyn model::storage::Appender + '_> = Box::new(head.batch(1));
    batch.refuse_late(true);
    let refused = batch.append(SeriesKey::Labels(&series(1)), 9 * HOUR, model::STALE_NAN);
    assert_eq!(refused, Err(AppendError::OutOfOrder));
    let too_old = batch.append(SeriesKey::Labels(&series(1)), HOUR, model::STALE_NAN);
    assert_eq!(too_old, Err(AppendError::TooOld));
    batch.refuse_late(false);
    batch.append(SeriesKey::Labels(&series(1)), 9 * HOUR, 2.0).unwrap();
    batch.commit().unwrap();
    assert_eq!(times(&head, 1), [9 * HOUR, 10 * HOUR]);
}

#[test]
fn a_view_sees_whole_batches_and_keeps_seeing_them() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &(0..10).map(|n| (n, 10 * HOUR, 1.0)).collect::<Vec<_>>());
    let late = |from: i64, to: i64| {
        for i in from..to {
            append(&head, &(0..10).map(|n| (n, 9 * HOUR - i * 1000, 1.0)).collect::<Vec<_>>());
        }
    };
    late(0, 40);
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    late(40, 100);
    let samples = head.late_samples().unwrap().unwrap();
    head.drop_late_samples(samples).unwrap();
    for i in 0..10 {
        let mut out = SampleBatch::default();
        set.samples_into(i, TimeRange::ALL, &mut out).unwrap();
        assert_eq!(out.ts.len(), 41);
        out.clear();
        let one = TimeRange::new(9 * HOUR - 5000, 9 * HOUR - 3000);
        set.samples_into(i, one, &mut out).unwrap();
        assert_eq!(out.ts, [9 * HOUR - 5000, 9 * HOUR - 4000, 9 * HOUR - 3000]);
    }
    assert_eq!(times(&head, 3), [10 * HOUR]);
}

#[test]
fn no_query_sees_part_of_a_batch_while_others_write_late_samples() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &(0..8).map(|n| (n, 10 * HOUR, 1.0)).collect::<Vec<_>>());
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 1..400_i64 {
                // Half of the series in order, the other half late.
                let batch: Vec<_> = (0..8)
                    .map(|n| (n, if n % 2 == 0 { 10 * HOUR + i } else { 10 * HOUR - i * 10 }, 1.0))
                    .collect();
                assert!(append(&head, &batch).iter().all(Result::is_ok));
            }
            is_done.store(true, Relaxed);
        });
        while !is_done.load(Relaxed) {
            let counts: Vec<usize> = dump(&head).values().map(BTreeMap::len).collect();
            assert!(counts.iter().all(|&n| n == counts[0]), "{counts:?}");
        }
        writer.join().unwrap();
    });
    let expected = dump(&head);
    drop(head);
    assert_eq!(dump(&open(dir.path())), expected);
}

#[test]
fn concurrent_writers_of_one_series_are_logged_in_the_order_of_their_chunks() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    std::thread::scope(|scope| {
        for thread in 0..4_i64 {
            let head = &head;
            scope.spawn(move || {
                for i in 0..200_i64 {
                    append(head, &[(1, 9 * HOUR - i * 4 - thread, 1.0)]);
                }
            });
        }
    });
    let expected = dump(&head);
    assert_eq!(expected[&series(1)].len(), 801);
    // All chunks are on disk, so that all markers are believed.
    head.close().unwrap();
    drop(head);
    assert_eq!(dump(&open(dir.path())), expected);
}

#[test]
fn a_series_of_late_samples_only_stays_with_its_files_until_they_are_in_a_block() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    for i in 0..40_i64 {
        append(&head, &[(2, 8 * HOUR - i, 1.0)]);
    }
    append(&head, &[(1, 14 * HOUR, 1.0)]);
    // The files rest: the next chunk begins another one.
    head.0.chunks.close().unwrap();
    drop(head);
    let head = open(dir.path());
    let expected = dump(&head)[&series(2)].clone();
    head.truncate(12 * HOUR).unwrap();
    assert_eq!(head.n_series(), 2);
    assert_eq!(dump(&head)[&series(2)], expected);
    assert_eq!(fs::list(&dir.path().join("chunks_head")).unwrap(), ["000001"]);

    let late = head.late_samples().unwrap().unwrap();
    assert_eq!(late.windows().collect::<Vec<_>>(), [6 * HOUR..8 * HOUR, 8 * HOUR..10 * HOUR]);
    // More comes meanwhile, sealed chunks among it.
    for i in 0..40_i64 {
        append(&head, &[(1, 13 * HOUR - i, 1.0), (2, 11 * HOUR - i, 1.0)]);
    }
    let mut found = BTreeMap::new();
    for window in late.windows().collect::<Vec<_>>() {
        let mut source = late.window(window.clone());
        assert_eq!(source.symbols().unwrap().len(), 4);
        let mut it = SourceSeries::default();
        while source.next(&mut it).unwrap() {
            assert_eq!(it.labels, series(2));
            let mut batch = SampleBatch::default();
            for chunk in &it.chunks {
                assert!(window.contains(&chunk.mint) && window.contains(&chunk.maxt));
                chunk::decode(chunk.encoding, &chunk.bytes, TimeRange::ALL, &mut batch).unwrap();
            }
            found.extend(batch.iter().map(|s| (s.t, s.v.to_bits())));
        }
    }
    assert_eq!(found, expected);
    head.drop_late_samples(late).unwrap();
    assert_eq!(times(&head, 1).len(), 41);
    assert_eq!(times(&head, 2).len(), 40);
    assert_eq!(head.late_times(), Some(TimeRange::new(11 * HOUR - 39, 13 * HOUR)));
    // What came meanwhile is in the rest of the log; the file of the old chunks is gone.
    let expected = dump(&head);
    assert_eq!(fs::list(&dir.path().join("wbl")).unwrap().len(), 1);
    drop(head);
    let head = open_from(dir.path(), 4 * HOUR, 12 * HOUR);
    assert_eq!(dump(&head), expected);
    let late = head.late_samples().unwrap().unwrap();
    head.drop_late_samples(late).unwrap();
    head.truncate(12 * HOUR).unwrap();
    assert_eq!((head.n_series(), head.late_times()), (1, None));
    assert_eq!(logged(dir.path()), []);
    assert!(head.late_samples().unwrap().is_some_and(|late| late.windows().count() == 0));
}

#[test]
fn chunks_that_are_in_blocks_do_not_come_back_with_a_restart() {
    let dir = TempDir::new().unwrap();
    let late = |head: &Head, hour: i64| {
        for i in 0..70 {
            assert_eq!(append(head, &[(1, hour * HOUR - i, 1.0), (2, hour * HOUR - i, 1.0)]), [Ok(()); 2]);
        }
    };
    let head = open(dir.path());
    append(&head, &[(1, 12 * HOUR, 1.0), (2, 12 * HOUR, 1.0)]);
    late(&head, 10);
    let samples = head.late_samples().unwrap().unwrap();
    // Comes while blocks are made, so it is behind some chunks of those and not in a block.
    late(&head, 11);
    head.drop_late_samples(samples).unwrap();
    let expected = dump(&head);
    assert_eq!(expected[&series(1)].len(), 71);
    head.close().unwrap();
    drop(head);
    let head = open_from(dir.path(), 4 * HOUR, 11 * HOUR);
    assert_eq!(dump(&head), expected, "neither more nor less");
    let samples = head.late_samples().unwrap().unwrap();
    head.drop_late_samples(samples).unwrap();
    drop(head);
    let note = dir.path().join(paths::OWN).join(paths::LATE_IN_BLOCKS);
    assert_eq!(open(dir.path()).late_times(), None);

    // A note that is damaged, or about files that are gone, is dropped; then they come back as with upstream.
    let sound = fs::read(&note).unwrap();
    let beyond = [&[0, 0, 0, 9, 0, 0, 0, 0][..], &[0x7a; 4]].concat();
    for bad in [&sound[..11], &beyond] {
        fs::write(&note, bad).unwrap();
        assert!(open(dir.path()).late_times().is_some());
        assert!(!note.exists());
    }
    // Its number was given to another file since: the log has what that holds.
    fs::write(&note, &sound).unwrap();
    std::fs::remove_dir_all(dir.path().join("chunks_head")).unwrap();
    std::fs::create_dir(dir.path().join("chunks_head")).unwrap();
    let head = open(dir.path());
    late(&head, 9);
    head.close().unwrap();
    drop(head);
    fs::write(&note, &sound).unwrap();
    let head = open(dir.path());
    assert_eq!(select(&head, TimeRange::new(0, 9 * HOUR))[&series(2)].len(), 70);
}

#[test]
fn deleted_samples_do_not_come_back_with_a_block() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    for i in 0..10 {
        append(&head, &[(1, 9 * HOUR + i, 1.0)]);
    }
    let deleted = TimeRange::new(9 * HOUR + 2, 9 * HOUR + 4);
    head.0.registry.write().delete(0, deleted);
    assert_eq!(times(&head, 1).len(), 8);
    let late = head.late_samples().unwrap().unwrap();
    let mut it = SourceSeries::default();
    let window = late.windows().next().unwrap();
    assert!(late.window(window).next(&mut it).unwrap());
    assert_eq!(chunk::count(it.chunks[0].encoding, &it.chunks[0].bytes), Ok(7));
}

#[test]
fn a_damaged_log_is_cut_and_what_came_before_is_kept() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    for i in 0..10 {
        append(&head, &[(1, 9 * HOUR - i * MINUTE, 1.0)]);
    }
    drop(head);
    let path = dir.path().join("wbl/00000000");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.iter().rposition(|&b| b != 0).unwrap() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&path, &bytes).unwrap();
    let head = open(dir.path());
    assert_eq!(head.corruption_count(), 1);
    let n_left = times(&head, 1).len();
    assert!((3..9).contains(&n_left), "{n_left}");
    assert!(dir.path().join("wbl/00000000.corrupt").exists());
    append(&head, &[(1, 9 * HOUR + 1, 1.0)]);
    drop(head);
    let head = open(dir.path());
    assert_eq!((head.corruption_count(), times(&head, 1).len()), (0, n_left + 1));
}

#[test]
fn what_the_log_cannot_take_now_it_takes_later() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    fault::limit_bytes(&dir.path().join("wbl"), 5);
    for i in 0..40 {
        append(&head, &[(1, 9 * HOUR - i, 1.0)]);
    }
    assert_eq!(times(&head, 1).len(), 41, "stored all the same");
    fault::heal(&dir.path().join("wbl"));
    append(&head, &[(1, 9 * HOUR + 1, 1.0)]);
    let expected = dump(&head);
    drop(head);
    assert_eq!(dump(&open(dir.path())), expected);
}

#[test]
fn chunks_that_no_file_takes_keep_growing_in_memory() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    fault::limit_bytes(&dir.path().join("chunks_head"), 0);
    for i in 0..200 {
        append(&head, &[(1, 9 * HOUR - i, 1.0)]);
    }
    assert_eq!(times(&head, 1).len(), 201);
    fault::heal(&dir.path().join("chunks_head"));
    let expected = dump(&head);
    drop(head);
    assert_eq!(dump(&open(dir.path())), expected);
}

#[test]
fn a_ref_that_only_late_samples_know_is_not_given_away() {
    let dir = TempDir::new().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    append(&head, &[(2, 9 * HOUR - 1, 7.0)]);
    drop(head);
    // The log that defines the series is lost.
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    for _ in 0..2 {
        let head = open(dir.path());
        append(&head, &[(3, 20 * HOUR, 1.0), (4, 20 * HOUR, 1.0)]);
        assert!(dump(&head).values().all(|samples| samples.len() == 1), "nobody got the late sample");
        drop(head);
    }
}

#[test]
fn the_log_is_opened_when_it_is_needed() {
    let dir = TempDir::new().unwrap();
    let head = open_with(dir.path(), 0);
    append(&head, &[(1, 10 * HOUR, 1.0)]);
    assert!(!dir.path().join("wbl").exists());
    head.set_out_of_order_window(HOUR).unwrap();
    append(&head, &[(1, 10 * HOUR - 1, 1.0)]);
    assert_eq!(logged(dir.path()).len(), 2);
    head.set_out_of_order_window(0).unwrap();
    drop(head);
    let head = open_with(dir.path(), 0);
    assert_eq!(times(&head, 1).len(), 2);
    assert!(head.late_samples().unwrap().is_some());
    head.close().unwrap();
    assert!(head.set_out_of_order_window(HOUR).is_err(), "closed");
}
