//! What a head holds before it ends, by a kill or not, is what the next one holds.

use model::exemplar::SeriesExemplars;
use model::histogram::CounterResetHint;
use model::storage::{ExemplarQueryable, Metadata};
use model::{AnyHistogram, Exemplar, STALE_NAN, Value};

use super::values::int;
use super::*;
use crate::chunk::FloatEncoding;
use crate::wal::Compression;
use crate::wal::record::{self, RefSample};

fn all_features() -> Features {
    Features {
        floats: FloatEncoding::Xor2,
        stores_start_times: true,
        stores_histogram_starts: true,
        logs_metadata: true,
        max_exemplars: 1000,
        ..Features::default()
    }
}

fn open_with(dir: &Path, features: Features, compression: Compression) -> Head {
    let wal = wal::Options { compression, ..options().wal };
    let options = Options { features, wal, ..options() };
    Head::open(dir, options, i64::MIN, &ReplayProgress::default()).unwrap()
}

/// As [`open_with`], with snapshots that are written when asked for, and at a close.
fn open_snapshots(dir: &Path, features: Features, min_valid_time: i64) -> Head {
    let snapshot_interval = Some(std::time::Duration::from_hours(1));
    let options = Options { features, snapshot_interval, ..options() };
    Head::open(dir, options, min_valid_time, &ReplayProgress::default()).unwrap()
}

/// How many series the head took from a snapshot when it began.
fn from_snapshot(head: &Head) -> f64 {
    head.0.metrics.snapshot_series.get()
}

/// All samples as text, series by series.
pub(super) fn text(head: &Head) -> BTreeMap<String, Vec<String>> {
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut all = BTreeMap::new();
    for i in 0..set.len() {
        let mut out = SampleBatch::default();
        set.samples_into(i, TimeRange::ALL, &mut out).unwrap();
        let mut lines: Vec<(i64, String)> = Vec::new();
        for (at, sample) in out.iter().enumerate() {
            lines.push((sample.t, format!("{} {} {:x}", sample.t, out.st(at), sample.v.to_bits())));
        }
        for sample in &out.histograms {
            // Not the hint nor the layout: they depend on the chunk, which another run may have cut elsewhere.
            let shown = match sample.histogram.clone() {
                it if it.is_stale() => "stale".to_owned(),
                AnyHistogram::Int(mut it) => {
                    it.counter_reset_hint = CounterResetHint::Unknown;
                    it.compact(0);
                    format!("{it:?}")
                }
                AnyHistogram::Float(mut it) => {
                    it.counter_reset_hint = CounterResetHint::Unknown;
                    it.compact(0);
                    format!("{it:?}")
                }
            };
            lines.push((sample.t, format!("{} {} {shown}", sample.t, sample.st)));
        }
        lines.sort();
        if !lines.is_empty() {
            all.insert(set.labels(i).to_string(), lines.into_iter().map(|(_, line)| line).collect());
        }
    }
    all
}

/// But for whether their times are their own, which the log does not say.
fn exemplars(head: &Head) -> Vec<String> {
    let found: Vec<SeriesExemplars> = head.exemplars(TimeRange::ALL, &[Vec::new()]).unwrap();
    let text = |it: &Exemplar| format!("{} {} {}", it.labels, it.v, it.t);
    found
        .iter()
        .map(|it| format!("{} {:?}", it.series, it.exemplars.iter().map(text).collect::<Vec<_>>()))
        .collect()
}

/// Appends a few hundred samples of all kinds to many series over all shards, in `rounds` commits.
pub(super) fn fill(head: &Head, rounds: std::ops::Range<i64>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let start = 1_700_000_000_000;
    let mut counts: BTreeMap<i32, u16> = (0..6).map(|index| (index, 3)).collect();
    for round in rounds {
        for writer in 0..5_usize {
            let mut batch = head.batch(writer as u64 * 77);
            for n in 0..20_usize {
                let labels = series(writer * 20 + n);
                let t = start + round * 15_000 + i64::from(rng.u8(..)) % 5;
                *counts.entry(rng.i32(0..8)).or_default() += 1;
                let histogram = int(&counts);
                let float_histogram = histogram.to_float();
                let value = match (n % 5, rng.u8(..40)) {
                    (3.., 0) => Value::Float(STALE_NAN),
                    (3, _) => Value::Histogram(&histogram),
                    (4, _) => Value::FloatHistogram(&float_histogram),
                    _ => Value::Float(f64::from(rng.u32(..1000))),
                };
                let key = SeriesKey::Labels(&labels);
                let series = batch.append_value(key, start - 1000, t, value).unwrap();
                if rng.u8(..10) == 0 {
                    let labels = Labels::from_pairs([("trace_id", rng.u32(..).to_string())]);
                    let exemplar = Exemplar { labels, v: rng.f64(), t, has_own_t: true };
                    let _ = batch.append_exemplar(series, &exemplar);
                }
                if round == 0 {
                    let metadata = Metadata { help: format!("help of {n}").into(), ..Metadata::default() };
                    batch.update_metadata(series, &metadata).unwrap();
                }
            }
            batch.commit().unwrap();
        }
    }
}

#[test]
fn everything_comes_back_whatever_is_in_the_log_and_however_it_is_compressed() {
    let compressions = [Compression::None, Compression::Snappy, Compression::Zstd];
    for (features, compression) in
        [Features::default(), all_features(), all_features()].into_iter().zip(compressions)
    {
        let dir = tempfile::tempdir().unwrap();
        let head = open_with(dir.path(), features, compression);
        fill(&head, 0..70, 1);
        let (before, its_exemplars) = (text(&head), exemplars(&head));
        assert_eq!(before.len(), 100);
        assert_eq!(its_exemplars.is_empty(), features.max_exemplars == 0);
        // Killed, then closed, then killed again after more.
        std::mem::forget(head);
        let head = open_with(dir.path(), features, compression);
        assert!(text(&head) == before, "after a kill, {compression:?}");
        assert_eq!(exemplars(&head), its_exemplars);
        assert_eq!(head.0.metrics.log_corruptions.get(), 0);
        if features.logs_metadata {
            assert_eq!(&*head.metadata(&series(3)).unwrap().help, "help of 3");
        }
        head.close().unwrap();
        let head = open_with(dir.path(), features, compression);
        assert!(text(&head) == before, "after a close, {compression:?}");
        fill(&head, 70..150, 2);
        let before = text(&head);
        std::mem::forget(head);
        let head = open_with(dir.path(), features, compression);
        assert!(text(&head) == before, "after more and a kill, {compression:?}");
    }
}

#[test]
fn start_times_that_are_no_longer_wanted_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_with(dir.path(), all_features(), Compression::Snappy);
    fill(&head, 0..40, 3);
    let n = text(&head).values().map(Vec::len).sum::<usize>();
    std::mem::forget(head);
    let head = open(dir.path());
    let after = text(&head);
    assert_eq!(after.values().map(Vec::len).sum::<usize>(), n);
    assert!(after.values().flatten().all(|line| line.split(' ').nth(1) == Some("0")));
}

#[test]
fn a_marker_ends_histograms_that_are_all_in_mapped_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let histogram = int(&(0..4).map(|index| (index, 9)).collect());
    for t in 0..700 {
        let mut batch = head.batch(0);
        batch
            .append_value(SeriesKey::Labels(&series(0)), 0, t * 15_000, Value::Histogram(&histogram))
            .unwrap();
        batch.commit().unwrap();
    }
    head.close().unwrap();
    // The log knows nothing of what the mapped chunks hold, but the series and the marker behind it all.
    let mapped = head.0.shards.iter().find_map(|shard| {
        let state = shard.state.read();
        (state.n_slots() > 0).then(|| state.chunks(0).next().unwrap())
    });
    let maxt = mapped.unwrap().maxt;
    drop(head);
    let wal_dir = dir.path().join("wal");
    for n in wal::segment::list(&wal_dir).unwrap() {
        crate::fs::remove_file(&wal::segment::path(&wal_dir, n)).unwrap();
    }
    let writer = wal::Writer::open(&wal_dir, options().wal).unwrap();
    let mut bytes = Vec::new();
    record::begin_series(&mut bytes);
    record::push_series(&mut bytes, 1, &series(0));
    let mut batch = writer.batch();
    batch.push(&bytes);
    bytes.clear();
    record::Samples::new(false)
        .push(&mut bytes, RefSample { series: 1, st: 0, t: maxt + 1000, v: STALE_NAN });
    batch.push(&bytes);
    writer.log(batch).unwrap();
    drop(writer);
    let head = open(dir.path());
    let found = text(&head);
    let lines = &found[&series(0).to_string()];
    assert_eq!(*lines.last().unwrap(), format!("{} 0 stale", maxt + 1000));
    assert_eq!(i64::try_from(lines.len()).unwrap(), maxt / 15_000 + 2);
}

#[test]
fn samples_of_one_series_keep_their_order_when_records_cross_shards() {
    let dir = tempfile::tempdir().unwrap();
    let writer = wal::Writer::open(&dir.path().join("wal"), options().wal).unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    let mut bytes = Vec::new();
    record::begin_series(&mut bytes);
    for n in 0..200_u64 {
        // Targets of their own, so that they lie in all shards.
        let labels = labels(&[("__name__", "m"), ("instance", &n.to_string())]);
        record::push_series(&mut bytes, n + 1, &labels);
    }
    let mut batch = writer.batch();
    batch.push(&bytes);
    writer.log(batch).unwrap();
    for t in 1..2000_i64 {
        let mut samples = record::Samples::new(t % 3 == 0);
        let mut histograms = record::HistogramRecords::new(t % 3 == 0);
        let histogram = int(&(0..4).map(|index| (index, 9)).collect());
        bytes.clear();
        let mut batch = writer.batch();
        for series in 1..=200 {
            // Some change their kind all the time.
            if series % 10 == 0 && rng.bool() {
                histograms.push(series, 0, t, Value::Histogram(&histogram));
            } else {
                samples.push(&mut bytes, RefSample { series, st: 0, t, v: rng.f64() });
            }
        }
        batch.push(&bytes);
        histograms.drain(|record| batch.push(record));
        writer.log(batch).unwrap();
    }
    drop(writer);
    let head = open(dir.path());
    let found = text(&head);
    assert_eq!(found.len(), 200);
    for (series, lines) in found {
        let times: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(times.len(), 1999, "{series}");
    }
    assert!(head.0.shards.iter().all(|shard| shard.state.read().n_slots() > 10));
}

#[test]
fn a_log_damaged_anywhere_gives_what_lies_before() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_with(dir.path(), all_features(), Compression::Snappy);
    fill(&head, 0..25, 4);
    let whole = text(&head);
    std::mem::forget(head);
    let segment = dir.path().join("wal/00000000");
    let bytes = crate::fs::read(&segment).unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..60 {
        let copy = tempfile::tempdir().unwrap();
        crate::fs::create_dir_all(&copy.path().join("wal")).unwrap();
        let mut damaged = bytes.clone();
        let at = rng.usize(..damaged.len());
        match round % 3 {
            0 => damaged[at] ^= 1 << rng.u8(..8),
            1 => damaged.truncate(at),
            _ => damaged[at..].fill(0),
        }
        crate::fs::write(&copy.path().join("wal/00000000"), &damaged).unwrap();
        let head = open_with(copy.path(), all_features(), Compression::Snappy);
        let found = text(&head);
        for (series, lines) in &found {
            assert_eq!(
                whole[series][..lines.len()],
                lines[..],
                "{series} after damage at byte {at}, round {round}"
            );
        }
        // What was cut is cut for good: the next start finds nothing wrong.
        std::mem::forget(head);
        let head = open_with(copy.path(), all_features(), Compression::Snappy);
        assert_eq!(head.0.metrics.log_corruptions.get(), 0);
        assert!(text(&head) == found, "again after damage at byte {at}");
    }
}

#[test]
fn refs_that_mean_a_series_defined_before_stay_in_checkpoints_as_long_as_their_samples() {
    let dir = tempfile::tempdir().unwrap();
    let wal_options = wal::Options { segment_bytes: wal::PAGE_LEN as u64, ..options().wal };
    let writer = wal::Writer::open(&dir.path().join("wal"), wal_options).unwrap();
    let hour = 3_600_000;
    let mut bytes = Vec::new();
    for (series_ref, t) in [(1, hour), (2, 2 * hour)] {
        bytes.clear();
        record::begin_series(&mut bytes);
        record::push_series(&mut bytes, series_ref, &series(0));
        let mut batch = writer.batch();
        batch.push(&bytes);
        bytes.clear();
        record::Samples::new(false).push(&mut bytes, RefSample { series: series_ref, st: 0, t, v: 1.0 });
        batch.push(&bytes);
        writer.log(batch).unwrap();
    }
    for _ in 0..4 {
        writer.roll().unwrap();
    }
    drop(writer);
    let refs = |head: &Head| {
        let dir = &head.0.wal_dir;
        let last = *wal::segment::checkpoints(dir).unwrap().last().unwrap();
        let path = wal::segment::checkpoint_path(dir, last);
        let mut refs = Vec::new();
        for n in wal::segment::list(&path).unwrap() {
            let bytes = crate::fs::read(&wal::segment::path(&path, n)).unwrap();
            let mut records = wal::reader::Records::new(&bytes);
            while let Some(record) = records.next().unwrap() {
                if record::Kind::of(record) == record::Kind::Series {
                    record::decode_series(record, |series, _| refs.push(series)).unwrap();
                }
            }
        }
        refs
    };
    let head = open(dir.path());
    assert_eq!(text(&head)[&series(0).to_string()].len(), 2);
    head.truncate(2 * hour).unwrap();
    assert_eq!(refs(&head), [1, 2]);
    drop(head);
    let head = open(dir.path());
    assert_eq!(text(&head)[&series(0).to_string()].len(), 1, "the second ref still means the series");
    // Once its samples are gone nobody needs the second ref.
    append(&head, &[(0, 5 * hour, 1.0)]);
    for _ in 0..4 {
        head.0.wal.read().as_ref().unwrap().roll().unwrap();
    }
    head.truncate(3 * hour).unwrap();
    assert_eq!(refs(&head), [1]);
}

#[test]
fn a_snapshot_and_the_log_behind_it_are_the_whole() {
    for features in [Features::default(), all_features()] {
        let dir = tempfile::tempdir().unwrap();
        let head = open_snapshots(dir.path(), features, i64::MIN);
        fill(&head, 0..70, 6);
        head.0.write_snapshot().unwrap();
        fill(&head, 70..170, 7);
        // Series that the snapshot does not know.
        append(&head, &[(1000, 1_700_003_000_000, 1.0), (1001, 1_700_003_000_000, 2.0)]);
        let (before, its_exemplars) = (text(&head), exemplars(&head));
        std::mem::forget(head);
        let head = open_snapshots(dir.path(), features, i64::MIN);
        assert_eq!(from_snapshot(&head), 100.0);
        assert!(text(&head) == before, "after a kill");
        assert_eq!(exemplars(&head), its_exemplars);
        assert_eq!(head.n_series(), 102);
        if features.logs_metadata {
            assert_eq!(&*head.metadata(&series(3)).unwrap().help, "help of 3");
        }
        // What was taken from it goes on as if nothing had happened.
        fill(&head, 210..260, 8);
        let before = text(&head);
        let n_stale: u64 = head.0.shards.iter().map(|shard| shard.state.read().n_stale()).sum();
        head.close().unwrap();
        let head = open_snapshots(dir.path(), features, i64::MIN);
        assert_eq!(from_snapshot(&head), 102.0);
        assert!(text(&head) == before, "after a close");
        let found: u64 = head.0.shards.iter().map(|shard| shard.state.read().n_stale()).sum();
        assert_eq!(found, n_stale);
        // The whole log says the same.
        drop(head);
        let head = open_with(dir.path(), features, Compression::Snappy);
        assert_eq!(from_snapshot(&head), 0.0);
        assert!(text(&head) == before, "without the snapshot");
        // Other features read it as well.
        drop(head);
        let other = if features.max_exemplars == 0 { all_features() } else { Features::default() };
        let head = open_snapshots(dir.path(), other, i64::MIN);
        assert_eq!(from_snapshot(&head), 102.0);
        assert_eq!(
            text(&head).values().map(Vec::len).sum::<usize>(),
            before.values().map(Vec::len).sum::<usize>()
        );
    }
}

#[test]
fn refs_deletions_and_lists_of_a_snapshot_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_snapshots(dir.path(), Features::default(), i64::MIN);
    append(&head, &[(1, 1000, 1.0), (2, 1000, 1.0)]);
    let id = {
        let registry = head.0.registry.read();
        registry.find_slot(registry.hash(&series(1)), &series(1)).unwrap().0
    };
    head.0.registry.write().delete(id, TimeRange::new(500, 1500));
    head.0.expiries.lock().insert(77, 9000);
    head.0.last_ref.store(500, Ordering::Relaxed);
    let before = text(&head);
    assert_eq!(before.len(), 1);
    head.close().unwrap();
    let head = open_snapshots(dir.path(), Features::default(), i64::MIN);
    assert_eq!(from_snapshot(&head), 2.0);
    assert_eq!(text(&head), before);
    assert_eq!(head.0.expiries.lock()[&77], 9000);
    append(&head, &[(3, 2000, 1.0)]);
    assert_eq!(head.0.last_ref.load(Ordering::Relaxed), 501);
}

#[test]
fn a_snapshot_that_is_in_doubt_is_thrown_away_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_snapshots(dir.path(), all_features(), i64::MIN);
    fill(&head, 0..300, 9);
    head.0.write_snapshot().unwrap();
    fill(&head, 300..310, 10);
    let before = text(&head);
    std::mem::forget(head);
    let file = dir.path().join("ferula/head");
    let whole = crate::fs::read(&file).unwrap();
    let copy = |change: &dyn Fn(&Path)| {
        let copy = tempfile::tempdir().unwrap();
        let target = copy.path().join("data");
        let status = std::process::Command::new("cp").arg("-r").args([dir.path(), &target]).status().unwrap();
        assert!(status.success());
        change(&target);
        let head = open_snapshots(&target, all_features(), i64::MIN);
        (from_snapshot(&head), text(&head) == before, target.join("ferula/head").exists())
    };
    assert_eq!(copy(&|_| ()), (100.0, true, true));
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..16 {
        let at = rng.usize(..whole.len());
        let damage = |dir: &Path| {
            let mut bytes = whole.clone();
            if round % 3 == 0 {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << (round % 8);
            }
            crate::fs::write(&dir.join("ferula/head"), &bytes).unwrap();
        };
        assert_eq!(copy(&damage), (0.0, true, false), "byte {at}");
    }
    // Its mapped chunks are gone, or only the last of them.
    let chunks_gone = |dir: &Path| crate::fs::remove_dir_all(&dir.join("chunks_head")).unwrap();
    assert_eq!(copy(&chunks_gone), (0.0, true, false));
    let chunks_cut = |dir: &Path| {
        let file = crate::fs::File::open_rw(&dir.join("chunks_head/000001")).unwrap();
        file.set_len(file.len().unwrap() - 1).unwrap();
    };
    assert_eq!(copy(&chunks_cut), (0.0, true, false));
    // The log has other bytes before its place: the samples of the log count then, not those of the snapshot.
    let log_changed = |dir: &Path| {
        let path = dir.join("wal/00000000");
        let mut bytes = crate::fs::read(&path).unwrap();
        bytes.truncate(wal::PAGE_LEN);
        crate::fs::write(&path, &bytes).unwrap();
    };
    let (n, is_whole, stays) = copy(&log_changed);
    assert_eq!((n, stays), (0.0, false));
    assert!(!is_whole);
    // Blocks cover another time.
    let head = open_snapshots(dir.path(), all_features(), 1_700_000_100_000);
    assert_eq!(from_snapshot(&head), 0.0);
    assert_eq!(text(&head).len(), 100);
}

#[test]
fn a_snapshot_written_amid_commits_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_snapshots(dir.path(), Features::default(), i64::MIN);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3_usize {
            let (head, is_over) = (&head, &is_over);
            scope.spawn(move || {
                for t in 0.. {
                    let mut batch = head.batch(writer as u64 * 77);
                    for n in 0..50 {
                        // New ones all the time.
                        let labels = series(writer * 1000 + n + usize::try_from(t / 20 % 10).unwrap() * 50);
                        batch.append(SeriesKey::Labels(&labels), t * 100, t as f64).unwrap();
                    }
                    batch.commit().unwrap();
                    if is_over.load(Ordering::Relaxed) && t > 300 {
                        return;
                    }
                }
            });
        }
        for _ in 0..20 {
            head.0.write_snapshot().unwrap();
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let before = text(&head);
    std::mem::forget(head);
    let head = open_snapshots(dir.path(), Features::default(), i64::MIN);
    assert!(from_snapshot(&head) > 0.0);
    assert!(text(&head) == before);
}

#[test]
fn a_full_disk_keeps_the_snapshot_before_and_a_truncation_removes_it() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_snapshots(dir.path(), Features::default(), i64::MIN);
    fill(&head, 0..5, 12);
    head.0.write_snapshot().unwrap();
    let first = crate::fs::read(&dir.path().join("ferula/head")).unwrap();
    fill(&head, 5..10, 13);
    for limit in (0..first.len() as u64).step_by(first.len() / 7) {
        fault::limit_bytes(dir.path(), limit);
        assert!(head.0.write_snapshot().is_err());
        fault::heal(dir.path());
        assert_eq!(crate::fs::list(&dir.path().join("ferula")).unwrap(), ["head"]);
        assert!(crate::fs::read(&dir.path().join("ferula/head")).unwrap() == first);
    }
    head.truncate(1_700_000_000_100).unwrap();
    assert!(crate::fs::list(&dir.path().join("ferula")).unwrap().is_empty());
    // The next look finds that one is due.
    head.snapshot_if_due().unwrap();
    assert_eq!(crate::fs::list(&dir.path().join("ferula")).unwrap(), ["head"]);
    head.snapshot_if_due().unwrap();
}

#[test]
fn other_refs_of_a_series_mean_it_after_a_snapshot_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = |records: &[Vec<u8>]| {
        let writer = wal::Writer::open(&dir.path().join("wal"), options().wal).unwrap();
        let mut batch = writer.batch();
        for record in records {
            batch.push(record);
        }
        writer.log(batch).unwrap();
    };
    let sample = |series, t| {
        let mut bytes = Vec::new();
        record::Samples::new(false).push(&mut bytes, RefSample { series, st: 0, t, v: 1.0 });
        bytes
    };
    let mut series_record = Vec::new();
    record::begin_series(&mut series_record);
    record::push_series(&mut series_record, 1, &series(0));
    record::push_series(&mut series_record, 2, &series(0));
    log(&[series_record, sample(1, 1000), sample(2, 2000)]);
    for n in 3..6 {
        let head = open_snapshots(dir.path(), Features::default(), i64::MIN);
        assert_eq!(from_snapshot(&head), if n == 3 { 0.0 } else { 1.0 });
        assert_eq!(text(&head)[&series(0).to_string()].len(), n - 1);
        head.close().unwrap();
        drop(head);
        log(&[sample(2, i64::try_from(n).unwrap() * 1000)]);
    }
}

#[test]
fn upstreams_snapshot_is_written_at_a_close_and_read_at_a_start() {
    for features in [Features::default(), all_features()] {
        let features = Features { snapshots_at_close: true, ..features };
        let dir = tempfile::tempdir().unwrap();
        let open = || open_with(dir.path(), features, Compression::Snappy);
        let snapshots = || -> Vec<String> {
            let names = crate::fs::list(dir.path()).unwrap();
            names.into_iter().filter(|name| name.starts_with("chunk_snapshot.")).collect()
        };
        let head = open();
        fill(&head, 0..170, 6);
        let id = {
            let registry = head.0.registry.read();
            registry.find_slot(registry.hash(&series(1)), &series(1)).unwrap().0
        };
        let deleted = TimeRange::new(1_700_000_000_000, 1_700_000_100_000);
        head.0.registry.write().delete(id, deleted);
        let (before, its_exemplars) = (text(&head), exemplars(&head));
        head.close().unwrap();
        drop(head);
        let first = snapshots();
        assert_eq!(first.len(), 1);
        let head = open();
        assert_eq!(from_snapshot(&head), 100.0);
        assert!(text(&head) == before, "from the snapshot");
        assert_eq!(exemplars(&head), its_exemplars);
        fill(&head, 170..200, 7);
        let before = text(&head);
        std::mem::forget(head);
        let head = open();
        assert_eq!((from_snapshot(&head), snapshots()), (100.0, first.clone()));
        assert!(text(&head) == before, "from the snapshot and the log behind it");
        head.close().unwrap();
        drop(head);
        let second = snapshots();
        assert_eq!(second.len(), 1);
        assert!(second > first, "{second:?} replaces {first:?}");
        // Nothing new, nothing written; in doubt it goes and the log says it all, but for what was never logged.
        let path = dir.path().join(&second[0]).join("00000000");
        let mut bytes = crate::fs::read(&path).unwrap();
        bytes[1000] ^= 1;
        crate::fs::remove_file(&path).unwrap();
        crate::fs::write(&path, &bytes).unwrap();
        let head = open();
        assert_eq!((from_snapshot(&head), snapshots()), (0.0, Vec::new()));
        let undeleted = text(&head);
        assert!(undeleted.iter().all(|(labels, lines)| lines.ends_with(&before[labels])));
        assert_eq!(undeleted.len(), before.len());
    }
}
