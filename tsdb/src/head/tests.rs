use std::collections::BTreeMap;
use std::path::Path;

use model::MatchOp::{Eq, Ne, Nre, Re};
use model::storage::{AppendError, Queryable, SelectHints, SeriesKey, SeriesRef};
use model::{Labels, MatchOp, Matcher, SampleBatch, TimeRange};
use proptest::prelude::*;

use super::*;
use crate::compact::{SeriesSource, SourceSeries};
use crate::fs::fault;

mod ended;
mod interplay;
mod peers;
mod restart;
mod values;

fn options() -> Options {
    let wal = wal::Options { segment_bytes: 1 << 20, sync_interval: None, ..wal::Options::default() };
    Options { n_shards: 4, wal, ..Options::default() }
}

fn open(dir: &Path) -> Head {
    Head::open(dir, options(), i64::MIN, &ReplayProgress::default()).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn series(n: usize) -> Labels {
    labels(&[("__name__", "m"), ("job", "j"), ("n", &n.to_string())])
}

fn append(head: &Head, samples: &[(usize, i64, f64)]) -> Vec<Result<SeriesRef, AppendError>> {
    let mut batch = head.batch(1);
    let results =
        samples.iter().map(|&(n, t, v)| batch.append(SeriesKey::Labels(&series(n)), t, v)).collect();
    batch.commit().unwrap();
    results
}

type Samples = Vec<(i64, u64)>;

/// Matchers and the sets they find.
type Case<'a> = (&'a [(MatchOp, &'a str, &'a str)], &'a [usize]);

fn select(head: &Head, range: TimeRange, matchers: &[Matcher]) -> Vec<(Labels, Samples)> {
    let set = head.querier(range).unwrap().select(matchers, &SelectHints::default()).unwrap();
    (0..set.len())
        .map(|i| {
            let mut out = SampleBatch::default();
            set.samples_into(i, range, &mut out).unwrap();
            let mut last = SampleBatch::default();
            set.last_into(i, range, &mut last).unwrap();
            let bits = |batch: &SampleBatch| batch.iter().last().map(|s| (s.t, s.v.to_bits()));
            assert_eq!(bits(&last), bits(&out), "the last sample alone is the last of all");
            crate::testing::assert_points_agree(&*set, i, range);
            (set.labels(i), out.iter().map(|s| (s.t, s.v.to_bits())).collect())
        })
        .collect()
}

fn dump(head: &Head) -> BTreeMap<Labels, Samples> {
    select(head, TimeRange::ALL, &[]).into_iter().filter(|(_, samples)| !samples.is_empty()).collect()
}

#[test]
fn append_rules_follow_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    assert_eq!((head.min_time(), head.max_time()), (i64::MAX, i64::MIN));
    let hour = 3_600_000;
    assert!(append(&head, &[(1, 10 * hour, 1.0)])[0].is_ok());
    let errors: Vec<_> = append(
        &head,
        &[
            (1, 10 * hour, 1.0),
            (1, 10 * hour, 2.0),
            (1, 10 * hour - 1, 1.0),
            (1, 9 * hour, 1.0),
            (1, 9 * hour - 1, 1.0),
            (2, 9 * hour, 1.0),
        ],
    )
    .into_iter()
    .map(Result::err)
    .collect();
    let expected = [
        None,
        Some(AppendError::Duplicate),
        Some(AppendError::OutOfOrder),
        Some(AppendError::OutOfOrder),
        Some(AppendError::OutOfBounds),
        None,
    ];
    assert_eq!(errors, expected);
    let mut batch = head.batch(0);
    let stale = SeriesRef(std::num::NonZeroU64::new((7 << 32) | 1).unwrap());
    assert_eq!(batch.append(SeriesKey::Ref(stale), 11 * hour, 1.0), Err(AppendError::UnknownSeries));
    let empty = Labels::empty();
    assert_eq!(batch.append(SeriesKey::Labels(&empty), 11 * hour, 1.0), Err(AppendError::InvalidLabels));
    drop(batch);
    assert_eq!((head.min_time(), head.max_time()), (9 * hour, 10 * hour));
}

#[test]
fn a_refused_or_dropped_batch_shows_nothing_not_even_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 1000, 1.0)]);
    let mut batch = head.batch(1);
    batch.append(SeriesKey::Labels(&labels(&[("dropped", "x")])), 2000, 1.0).unwrap();
    drop(batch);
    fault::limit_bytes(dir.path(), 5);
    let mut batch = head.batch(1);
    let created = batch.append(SeriesKey::Labels(&labels(&[("refused", "x")])), 2000, 1.0).unwrap();
    batch.append(SeriesKey::Labels(&series(1)), 2000, 2.0).unwrap();
    assert!(batch.commit().unwrap_err().to_string().contains("no storage space"));
    fault::heal(dir.path());
    let querier = head.querier(TimeRange::ALL).unwrap();
    let names = querier.label_names(&[], 0).unwrap();
    assert_eq!(names, [&b"__name__"[..], b"job", b"n"].map(Into::into));
    let before = dump(&head);
    assert_eq!(before.len(), 1);
    // With space again the same ref works and its record is logged now.
    let mut batch = head.batch(1);
    batch.append(SeriesKey::Ref(created), 3000, 5.0).unwrap();
    batch.commit().unwrap();
    let after = dump(&head);
    assert_eq!(after.len(), 2);
    drop((querier, head));
    assert_eq!(dump(&open(dir.path())), after);
}

#[test]
fn chunks_are_cut_as_upstream_cuts_them() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    // 15 s over two aligned windows: four chunks of 120 each.
    for i in 0..960_i64 {
        append(&head, &[(1, 7_200_000 * 5 + i * 15_000, 1.5)]);
    }
    let mut source = head.series_source(i64::MIN, i64::MAX);
    let mut series = SourceSeries::default();
    assert!(source.next(&mut series).unwrap());
    let counts: Vec<u16> =
        series.chunks.iter().map(|c| crate::chunk::xor::count(&c.bytes).unwrap()).collect();
    assert_eq!(counts, [120; 8]);
    assert!(!source.next(&mut series).unwrap());
    // Incompressible values are cut by bytes before the sample that might pass 1024.
    let mut rng = fastrand::Rng::with_seed(3);
    for i in 0..500_i64 {
        append(&head, &[(2, 7_200_000 * 7 + i * 1000, f64::from_bits(rng.u64(..) >> 2))]);
    }
    let mut source = head.series_source(i64::MIN, i64::MAX);
    source.next(&mut series).unwrap();
    source.next(&mut series).unwrap();
    let lens: Vec<usize> = series.chunks.iter().map(|c| c.bytes.len()).collect();
    assert!(lens.iter().all(|&len| len <= 1024) && lens[..3].iter().all(|&len| len > 900), "{lens:?}");
}

#[test]
fn a_view_sees_whole_batches_and_keeps_seeing_them() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let range = TimeRange::ALL;
    for i in 0..100_i64 {
        append(&head, &(0..10).map(|n| (n, i * 1000, 1.0)).collect::<Vec<_>>());
    }
    let set = head.querier(range).unwrap().select(&[], &SelectHints::default()).unwrap();
    // The open chunk is sealed, and more follow, before the view is read.
    for i in 100..700_i64 {
        append(&head, &(0..12).map(|n| (n, i * 1000, 1.0)).collect::<Vec<_>>());
    }
    head.truncate(50_000).unwrap();
    assert_eq!(set.len(), 10);
    for i in 0..set.len() {
        let mut out = SampleBatch::default();
        set.samples_into(i, range, &mut out).unwrap();
        assert_eq!(out.ts, (0..100).map(|i| i * 1000).collect::<Vec<_>>());
        assert_eq!(set.labels(i), series(i));
    }
}

#[test]
fn no_query_sees_part_of_a_batch_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..300_usize {
                // Every batch also brings a new series, and touches two shards.
                let t = i64::try_from(i).unwrap() * 1000;
                let mut batch = head.batch(u64::from(i % 2 == 0));
                for n in (0..20).chain([100 + i]) {
                    batch.append(SeriesKey::Labels(&series(n)), t, 1.0).unwrap();
                }
                batch.commit().unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
        });
        while !is_done.load(Ordering::SeqCst) {
            let seen = select(&head, TimeRange::ALL, &[]);
            let old: Vec<_> = seen.iter().filter(|(l, _)| l.get(b"n").unwrap().len() < 3).collect();
            let n_batches = old.first().map_or(0, |(_, samples)| samples.len());
            assert!(old.iter().all(|(_, samples)| samples.len() == n_batches));
            assert_eq!(seen.len() - old.len(), n_batches);
        }
        writer.join().unwrap();
    });
}

#[test]
fn matchers_select_as_upstream_does() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let sets: [&[(&str, &str)]; 5] =
        [&[("n", "1")], &[("n", "1"), ("i", "a")], &[("n", "1"), ("i", "b")], &[("n", "2")], &[("n", "2.5")]];
    let mut batch = head.batch(0);
    for set in sets {
        batch.append(SeriesKey::Labels(&labels(set)), 1000, 1.0).unwrap();
    }
    batch.commit().unwrap();
    let cases: &[Case<'_>] = &[
        (&[], &[0, 1, 2, 3, 4]),
        (&[(Eq, "n", "1")], &[0, 1, 2]),
        (&[(Eq, "n", "1"), (Eq, "i", "a")], &[1]),
        (&[(Eq, "n", "1"), (Eq, "i", "missing")], &[]),
        (&[(Eq, "missing", "")], &[0, 1, 2, 3, 4]),
        (&[(Ne, "n", "1")], &[3, 4]),
        (&[(Ne, "i", "")], &[1, 2]),
        (&[(Ne, "missing", "")], &[]),
        (&[(Eq, "i", "")], &[0, 3, 4]),
        (&[(Eq, "n", "1"), (Ne, "i", "a")], &[0, 2]),
        (&[(Re, "n", "^1$")], &[0, 1, 2]),
        (&[(Re, "n", "1|2")], &[0, 1, 2, 3]),
        (&[(Nre, "n", "1|2")], &[4]),
        (&[(Re, "i", ".*")], &[0, 1, 2, 3, 4]),
        (&[(Re, "i", ".+")], &[1, 2]),
        (&[(Nre, "i", ".*")], &[]),
        (&[(Nre, "i", ".+")], &[0, 3, 4]),
        (&[(Re, "i", "a|")], &[0, 1, 3, 4]),
        (&[(Nre, "i", "a|")], &[2]),
        (&[(Re, "n", "2.*"), (Ne, "n", "2")], &[4]),
        (&[(Re, "i", "x?y?")], &[0, 3, 4]),
    ];
    for (matchers, expected) in cases {
        let built: Vec<_> = matchers.iter().map(|(op, n, v)| Matcher::new(*op, n, v).unwrap()).collect();
        let found: Vec<_> =
            select(&head, TimeRange::ALL, &built).into_iter().map(|(labels, _)| labels).collect();
        let expected: Vec<_> = expected.iter().map(|&i| labels(sets[i])).collect();
        assert_eq!(found, expected, "{matchers:?}");
    }
    let querier = head.querier(TimeRange::ALL).unwrap();
    let with_i = [Matcher::new(Ne, "i", "").unwrap()];
    assert_eq!(querier.label_values(b"n", &[], 0).unwrap(), [&b"1"[..], b"2", b"2.5"].map(Into::into));
    assert_eq!(querier.label_values(b"n", &with_i, 0).unwrap(), [Box::from(&b"1"[..])]);
    assert_eq!(querier.label_names(&with_i, 1).unwrap(), [Box::from(&b"i"[..])]);
    let stats = head.stats(2);
    assert_eq!((stats.n_series, stats.n_label_pairs), (5, 5));
    assert_eq!(stats.series_by_pair[0], TopEntry { name: "n=1".to_owned(), value: 3 });
}

#[test]
fn truncation_frees_series_and_log_and_a_restart_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let hour = 3_600_000;
    for i in 0..800_i64 {
        let t = i * 15_000;
        let mut samples: Vec<_> = (0..50).map(|n| (n, t, t as f64)).collect();
        if i < 100 {
            samples.extend((50..80).map(|n| (n, t, 1.0)));
        }
        append(&head, &samples);
        if i % 100 == 0 {
            head.0.wal.read().as_ref().unwrap().roll().unwrap();
        }
    }
    assert_eq!(head.compactable_range(), Some((0, 2 * hour)));
    let gone = head.0.registry.read().find(0, &series(60));
    assert_eq!(gone, None, "a wrong hash finds nothing");
    head.truncate(2 * hour).unwrap();
    assert_eq!(head.n_series(), 50);
    assert_eq!(head.min_time(), 2 * hour);
    assert_eq!(head.compactable_range(), None);
    let (first, checkpoint) = (
        crate::wal::segment::list(&head.0.wal_dir).unwrap()[0],
        crate::wal::segment::checkpoints(&head.0.wal_dir).unwrap(),
    );
    assert_eq!(checkpoint, [first - 1]);
    assert_eq!(append(&head, &[(60, 2 * hour - 1, 1.0)])[0], Err(AppendError::OutOfBounds));
    append(&head, &[(60, 4 * hour, 1.0), (1, 4 * hour, 1.0)]);
    let in_range = |head: &Head| {
        select(head, TimeRange::new(2 * hour, i64::MAX), &[]).into_iter().collect::<BTreeMap<_, _>>()
    };
    let before = in_range(&head);
    assert_eq!(before.len(), 51);
    drop(head);
    let head = Head::open(dir.path(), options(), 2 * hour, &ReplayProgress::default()).unwrap();
    assert_eq!(in_range(&head), before);
    assert_eq!(head.n_series(), 51);
    // Slots, ids and refs of the dead are not mixed up with those of the living.
    append(&head, &[(70, 4 * hour, 7.0)]);
    assert_eq!(in_range(&head)[&series(70)], [(4 * hour, 7_f64.to_bits())]);
}

#[test]
fn stale_refs_are_unknown_after_their_series_left() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let old = append(&head, &[(1, 1000, 1.0)])[0].unwrap();
    head.truncate(10_000).unwrap();
    assert_eq!(head.n_series(), 0);
    let mut batch = head.batch(1);
    assert_eq!(batch.append(SeriesKey::Ref(old), 20_000, 1.0), Err(AppendError::UnknownSeries));
    let new = batch.append(SeriesKey::Labels(&series(2)), 20_000, 1.0).unwrap();
    assert_ne!(old, new, "the slot is the same, the generation is not");
    assert_eq!(batch.append(SeriesKey::Ref(old), 20_000, 1.0), Err(AppendError::UnknownSeries));
}

#[test]
fn source_cuts_chunks_to_the_range_in_label_order() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    for i in 0..400_i64 {
        append(&head, &[(9, i * 1000, i as f64), (10, i * 1000, i as f64), (1, i * 1000, i as f64)]);
    }
    let mut source = head.series_source(50_000, 321_000);
    assert_eq!(
        source.symbols().unwrap(),
        [&b"1"[..], b"10", b"9", b"__name__", b"j", b"job", b"m", b"n"].map(Into::into)
    );
    let mut found = Vec::new();
    let mut it = SourceSeries::default();
    while source.next(&mut it).unwrap() {
        let mut out = SampleBatch::default();
        for chunk in &it.chunks {
            let before = out.len();
            crate::chunk::xor::decode(&chunk.bytes, TimeRange::ALL, &mut out).unwrap();
            assert_eq!((out.ts[before], *out.ts.last().unwrap()), (chunk.mint, chunk.maxt));
        }
        assert_eq!(out.ts, (50..321).map(|i| i * 1000).collect::<Vec<_>>());
        found.push(it.labels.clone());
    }
    assert_eq!(found, [series(1), series(10), series(9)]);
}

#[test]
fn a_source_that_looks_at_slices_shows_what_one_shows_that_looks_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let mut rng = fastrand::Rng::with_seed(5);
    // Two slices and a bit, with sets that begin alike and end early, created in no order.
    let mut sets: Vec<Labels> = (0..35_000)
        .map(|n: u32| {
            let (name, own) = (format!("m{}", n % 7), format!("{}", n / 7));
            let mut pairs = vec![("__name__", name.as_str()), ("job", "j")];
            if n >= 7 {
                pairs.push((if n.is_multiple_of(2) { "n" } else { "o" }, &own));
            }
            labels(&pairs)
        })
        .collect();
    rng.shuffle(&mut sets);
    for (n, part) in sets.chunks(1000).enumerate() {
        let mut batch = head.batch(n as u64);
        for (i, labels) in part.iter().enumerate() {
            // One in ten has nothing in the range.
            let times: &[i64] = if i % 10 == 0 { &[9_000] } else { &[1_000, 2_000, 9_000] };
            for &t in times {
                batch.append(SeriesKey::Labels(labels), t, t as f64 + i as f64).unwrap();
            }
        }
        batch.commit().unwrap();
    }
    let (all, slices) = (head.series_source(1_000, 2_001), head.settled_source(1_000, 2_001));
    let [all, slices] = [all, slices].map(|mut source| {
        let symbols = source.symbols().unwrap();
        let (mut found, mut it) = (Vec::new(), SourceSeries::default());
        while source.next(&mut it).unwrap() {
            let chunks = it.chunks.iter().map(|it| (it.mint, it.maxt, it.encoding, it.bytes.clone()));
            found.push((it.labels.clone(), chunks.collect::<Vec<_>>()));
        }
        (symbols, found)
    });
    assert_eq!(all.1.len(), 31_500);
    assert!(all.1.is_sorted_by(|a, b| a.0 < b.0));
    assert!(all == slices);
}

#[test]
fn replay_cuts_a_corrupt_log_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    for i in 0..50_i64 {
        append(&head, &[(1, i * 1000, i as f64)]);
    }
    drop(head);
    let path = crate::wal::segment::path(&dir.path().join("wal"), 0);
    let mut bytes = crate::fs::read(&path).unwrap();
    bytes[700] ^= 0x40;
    crate::fs::write(&path, &bytes).unwrap();
    let head = open(dir.path());
    assert_eq!(head.0.metrics.log_corruptions.get(), 1);
    let n = dump(&head)[&series(1)].len();
    assert!((5..50).contains(&n), "{n} samples");
    append(&head, &[(1, 100_000, 1.0)]);
    drop(head);
    let head = open(dir.path());
    assert_eq!(head.0.metrics.log_corruptions.get(), 0);
    assert_eq!(dump(&head)[&series(1)].len(), n + 1);
}

#[test]
fn replay_maps_a_second_ref_of_a_label_set_and_applies_tombstones() {
    use crate::wal::record::{self, RefSample, RefTombstone};
    let dir = tempfile::tempdir().unwrap();
    let writer = wal::Writer::open(&dir.path().join("wal"), options().wal).unwrap();
    let mut batch = wal::Batch::new(wal::Compression::Snappy);
    let mut bytes = Vec::new();
    record::begin_series(&mut bytes);
    for n in [7_u64, 9, 1 << 40] {
        record::push_series(&mut bytes, n, &series(usize::from(n == 1 << 40)));
    }
    batch.push(&bytes);
    bytes.clear();
    let base = RefSample { series: 7, st: 0, t: 1000, v: 1.0 };
    record::begin_samples(&mut bytes, base);
    for (series, t) in [(7, 1000), (9, 2000), (9, 3000), (1 << 40, 1000), (55, 1000)] {
        record::push_sample(&mut bytes, base, RefSample { series, t, ..base });
    }
    batch.push(&bytes);
    bytes.clear();
    record::begin_tombstones(&mut bytes);
    record::push_tombstone(&mut bytes, RefTombstone { series: 7, mint: 1500, maxt: 2500 });
    batch.push(&bytes);
    bytes.clear();
    batch.push(&[99; 40]);
    writer.log(batch).unwrap();
    drop(writer);
    let head = open(dir.path());
    let found = dump(&head);
    let one = 1_f64.to_bits();
    assert_eq!(found[&series(0)], [(1000, one), (3000, one)]);
    assert_eq!(found[&series(1)], [(1000, one)]);
    assert_eq!(head.0.metrics.replay_unknown.iter().map(model::wire::expose::Counter::get).sum::<u64>(), 1);
    assert_eq!(head.0.metrics.replay_skipped_records.get(), 1);
    assert_eq!(head.0.last_ref.load(Ordering::Relaxed), 1 << 40);
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(usize, i64, u8)>),
    Drop(Vec<(usize, i64, u8)>),
    Reopen { is_clean: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Times hop forward by up to ten minutes and back by a little; values repeat, so that duplicates meet.
    let samples = || prop::collection::vec((0_usize..6, -20_i64..600, 0_u8..3), 1..40);
    let step = prop_oneof![
        8 => samples().prop_map(Step::Commit),
        1 => samples().prop_map(Step::Drop),
        1 => any::<bool>().prop_map(|is_clean| Step::Reopen { is_clean }),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn head_agrees_with_a_map(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut head = open(dir.path());
        let mut model: BTreeMap<usize, BTreeMap<i64, u64>> = BTreeMap::new();
        let mut newest = i64::MIN;
        let mut clock = 36_000_000_i64;
        for step in steps {
            match step {
                Step::Commit(samples) | Step::Drop(samples) if samples.is_empty() => {}
                Step::Commit(ref samples) | Step::Drop(ref samples) => {
                    let mut batch = head.batch(3);
                    let mut pending = Vec::new();
                    let mut bound = (newest != i64::MIN).then(|| newest - 3_600_000);
                    for &(n, hop, v) in samples {
                        clock += if hop > 0 { hop * 20 } else { 0 };
                        let t = if hop < 0 { clock + hop * 500 } else { clock };
                        let bound = *bound.get_or_insert(t - 3_600_000);
                        let v = f64::from(v);
                        let last = model.get(&n).and_then(|s| s.last_key_value()).map(|(&t, &v)| (t, v));
                        let expected = match last {
                            _ if t < bound => Err(AppendError::OutOfBounds),
                            Some((last, _)) if t < last => Err(AppendError::OutOfOrder),
                            Some((last, bits)) if t == last && bits != v.to_bits() => Err(AppendError::Duplicate),
                            _ => Ok(()),
                        };
                        let found = batch.append(SeriesKey::Labels(&series(n)), t, v).map(|_| ());
                        prop_assert_eq!(found, expected);
                        if expected.is_ok() {
                            pending.push((n, t, v.to_bits()));
                        }
                    }
                    if matches!(step, Step::Commit(_)) {
                        batch.commit().unwrap();
                        for (n, t, v) in pending {
                            let series = model.entry(n).or_default();
                            if series.last_key_value().is_none_or(|(&last, _)| t > last) {
                                series.insert(t, v);
                                newest = newest.max(t);
                            }
                        }
                    }
                }
                Step::Reopen { is_clean } => {
                    if is_clean {
                        head.close().unwrap();
                    }
                    drop(head);
                    head = open(dir.path());
                }
            }
            let expected: BTreeMap<Labels, Samples> = model
                .iter()
                .filter(|(_, samples)| !samples.is_empty())
                .map(|(&n, samples)| (series(n), samples.iter().map(|(&t, &v)| (t, v)).collect()))
                .collect();
            prop_assert_eq!(dump(&head), expected);
        }
    }

    #[test]
    fn a_damaged_directory_opens_or_errs(file in 0_usize..3, at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path());
        for i in 0..400_i64 {
            append(&head, &[(1, i * 1000, i as f64), (2, i * 1000, 0.0)]);
        }
        head.close().unwrap();
        drop(head);
        let path = dir.path().join(["wal/00000000", "chunks_head/000001", "wal/00000000"][file]);
        let mut bytes = crate::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        crate::fs::write(&path, &bytes).unwrap();
        if let Ok(head) = Head::open(dir.path(), options(), i64::MIN, &ReplayProgress::default()) {
            dump(&head);
            append(&head, &[(1, 1_000_000, 1.0)]);
        }
    }
}

#[test]
fn a_batch_opened_before_a_block_was_made_adds_nothing_to_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let hour = 3_600_000;
    append(&head, &[(1, hour, 1.0), (2, 2 * hour, 1.0)]);
    let mut slow = head.batch(1);
    slow.append(SeriesKey::Labels(&series(3)), 90 * hour / 60, 3.0).unwrap();
    slow.append(SeriesKey::Labels(&series(4)), 2 * hour, 4.0).unwrap();
    for at in [3 * hour, 4 * hour, 5 * hour] {
        append(&head, &[(1, at, 1.0)]);
    }
    let (mint, maxt) = head.compactable_range().unwrap();
    assert_eq!((mint, maxt), (hour, 2 * hour));
    let mut source = head.series_source(mint, maxt);
    let refused = head.0.metrics.out_of_bounds.float.get();
    slow.commit().unwrap();
    assert_eq!(head.0.metrics.out_of_bounds.float.get(), refused + 2, "both are older than an hour by now");
    let mut found = Vec::new();
    let mut it = SourceSeries::default();
    while source.next(&mut it).unwrap() {
        found.push(it.labels.clone());
    }
    let in_range: Vec<_> = select(&head, TimeRange::new(mint, maxt - 1), &[])
        .into_iter()
        .filter(|(_, samples)| !samples.is_empty())
        .map(|(labels, _)| labels)
        .collect();
    assert_eq!((found, in_range), (vec![series(1)], vec![series(1)]));
}

#[test]
fn a_series_that_an_open_appender_holds_is_not_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    append(&head, &[(1, 1000, 1.0), (2, 1000, 1.0), (9, 90_000, 1.0)]);
    let mut old = head.batch(1);
    let held = old.append(SeriesKey::Labels(&series(1)), 50_000, 5.0).unwrap();
    std::thread::scope(|scope| {
        let truncating = scope.spawn(|| head.truncate(10_000));
        while head.0.shards.iter().all(|shard| {
            (0..shard.state.read().n_slots())
                .all(|idx| shard.line(idx).flags.load(Ordering::Relaxed) & super::series::LEAVING == 0)
        }) {
            std::thread::yield_now();
        }
        // Marked by now; who comes later claims what it wants, who was there before is waited for.
        let mut new = head.batch(1);
        new.append(SeriesKey::Labels(&series(2)), 60_000, 6.0).unwrap();
        old.commit().unwrap();
        truncating.join().unwrap().unwrap();
        new.append(SeriesKey::Ref(held), 70_000, 7.0).unwrap();
        new.commit().unwrap();
    });
    let bits = f64::to_bits;
    let expected = [
        (series(1), vec![(50_000, bits(5.0)), (70_000, bits(7.0))]),
        (series(2), vec![(60_000, bits(6.0))]),
        (series(9), vec![(90_000, bits(1.0))]),
    ];
    assert_eq!(dump(&head), BTreeMap::from(expected));
}

#[test]
fn no_sample_is_lost_between_collections_and_brand_new_appenders() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            // Each series gets a sample now and then, so that it is always about to leave.
            for t in 1..4000_i64 {
                let n = usize::try_from(t % 7).unwrap();
                written += append(&head, &[(n, t, t as f64)]).iter().filter(|r| r.is_ok()).count();
            }
            stop.store(true, Ordering::Relaxed);
            written
        });
        let mut collected = 0;
        while !stop.load(Ordering::Relaxed) {
            collected += u64::from(head.0.collect(head.max_time()).0.is_some());
        }
        assert!(collected > 0);
        writer.join().unwrap()
    });
    assert_eq!(written, 3999);
    assert_eq!(head.0.metrics.samples_appended.float.get(), 3999, "what was accepted was stored");
    assert!(head.0.metrics.series_removed.get() > 0, "series did leave meanwhile");
}

#[test]
fn chunks_that_no_file_takes_stay_readable_and_are_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let fill = |from: i64, to: i64| {
        for t in from..to {
            let samples: Vec<_> = (0..20).map(|n| (n, t * 1000, (t as f64).sin())).collect();
            append(&head, &samples);
        }
    };
    let expected = |to: i64| {
        let samples: Samples = (0..to).map(|t| (t * 1000, (t as f64).sin().to_bits())).collect();
        (0..20).map(|n| (series(n), samples.clone())).collect::<BTreeMap<_, _>>()
    };
    let chunks_dir = dir.path().join("chunks_head");
    fault::limit_bytes(&chunks_dir, 0);
    fill(0, 700);
    assert_eq!(dump(&head), expected(700), "chunks wait in memory");
    assert_eq!(head.0.chunks.files().len(), 0);
    fault::limit_bytes(&chunks_dir, 100);
    fill(700, 1000);
    assert_eq!(dump(&head), expected(1000), "nor does half a file hurt");
    fault::heal(&chunks_dir);
    fill(1000, 1400);
    assert_eq!(dump(&head), expected(1400));
    head.close().unwrap();
    assert!(crate::fs::dir_size(&chunks_dir) > 64 << 10, "written once there is space");
    drop(head);
    assert_eq!(dump(&open(dir.path())), expected(1400));
}
