//! What one mechanism leaves behind and another one finds: refs that mean the same series, snapshots of both kinds, the
//! log of late samples, a log that is cut.

use super::*;
use crate::head::chunks::HeadChunks;
use crate::wal::record::{self, RefSample};

const HOUR: i64 = 3_600_000;

/// Which snapshots a head writes and reads.
#[derive(Clone, Copy)]
enum Snapshots {
    None,
    Own,
    Upstream,
}

fn open_with(dir: &Path, snapshots: Snapshots) -> Head {
    open_from(dir, snapshots, i64::MIN)
}

fn open_from(dir: &Path, snapshots: Snapshots, min_valid_time: i64) -> Head {
    let options = Options {
        features: Features {
            snapshots_at_close: matches!(snapshots, Snapshots::Upstream),
            ..Features::default()
        },
        out_of_order_window_ms: 4 * HOUR,
        snapshot_interval: matches!(snapshots, Snapshots::Own).then_some(std::time::Duration::from_hours(1)),
        ..options()
    };
    Head::open(dir, options, min_valid_time, &ReplayProgress::default()).unwrap()
}

/// Appends to a log what another process might have: series 0 under `series_ref`, defined or not, and its samples.
fn log(dir: &Path, is_defined: bool, series_ref: u64, times: &[i64]) {
    let writer = wal::Writer::open(dir, options().wal).unwrap();
    let (mut batch, mut bytes) = (writer.batch(), Vec::new());
    if is_defined {
        record::begin_series(&mut bytes);
        record::push_series(&mut bytes, series_ref, &series(0));
        batch.push(&bytes);
        bytes.clear();
    }
    let mut samples = record::Samples::new(false);
    for &t in times {
        samples.push(&mut bytes, RefSample { series: series_ref, st: 0, t, v: t as f64 });
    }
    batch.push(&bytes);
    writer.log(batch).unwrap();
    writer.close().unwrap();
}

/// Puts a sealed chunk with these samples where the head finds it.
fn seal(dir: &Path, series_ref: u64, times: &[i64]) {
    let mut batch = SampleBatch::default();
    for &t in times {
        batch.push_started(0, t, t as f64);
    }
    let (chunks, _) = HeadChunks::open(&dir.join("chunks_head")).unwrap();
    crate::chunk::encode_batch(&batch, FloatEncoding::Xor, false, u16::MAX, |chunk| {
        chunks.write(series_ref, chunk.mint, chunk.maxt, chunk.encoding, [&chunk.bytes, &[]]).unwrap();
    });
    chunks.close().unwrap();
}

/// The samples of series 0, each of which has its time as its value.
fn times(head: &Head) -> Vec<i64> {
    let samples = dump(head).remove(&series(0)).unwrap_or_default();
    assert!(samples.iter().all(|&(t, v)| f64::from_bits(v) == t as f64), "{samples:?}");
    samples.into_iter().map(|(t, _)| t).collect()
}

fn append_times(head: &Head, times: &[i64]) {
    for &t in times {
        append(head, &[(0, t, t as f64)])[0].as_ref().unwrap();
    }
}

#[test]
fn a_snapshot_knows_every_ref_that_chunks_and_late_samples_have() {
    for (snapshots, has_chunk) in [
        (Snapshots::Own, true),
        (Snapshots::Own, false),
        (Snapshots::Upstream, true),
        (Snapshots::Upstream, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        // The series was defined twice, and has late samples and perhaps a chunk under its second ref.
        log(&dir.path().join("wal"), true, 1, &[HOUR - 2]);
        log(&dir.path().join("wal"), true, 2, &[2 * HOUR]);
        log(&dir.path().join("wbl"), false, 2, &[HOUR + 5]);
        seal(dir.path(), 1, &[HOUR - 3, HOUR - 2]);
        let mut all = vec![HOUR - 3, HOUR - 2, HOUR + 5, 2 * HOUR];
        if has_chunk {
            seal(dir.path(), 2, &[HOUR + 1, HOUR + 2]);
            all.extend([HOUR + 1, HOUR + 2]);
            all.sort_unstable();
        }
        let head = open_with(dir.path(), snapshots);
        assert_eq!(times(&head), all);
        for _ in 0..3 {
            head.close().unwrap();
            let head = open_with(dir.path(), snapshots);
            assert_eq!(times(&head), all);
            if matches!(snapshots, Snapshots::Own) {
                assert_eq!(head.0.metrics.snapshot_series.get(), 1.0);
            }
            assert_eq!(*head.0.aliases.lock(), [(2, 1)]);
            assert!(head.0.expiries.lock().contains_key(&2), "its record stays in checkpoints");
            head.close().unwrap();
        }
        assert_eq!(times(&open_with(dir.path(), Snapshots::None)), all);
    }
}

#[test]
fn chunks_under_a_newer_ref_do_not_get_into_the_open_chunk_of_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_with(dir.path(), Snapshots::Upstream);
    append_times(&head, &[1000, 2000, 3000]);
    head.close().unwrap();
    drop(head);
    // Somebody else, who leaves snapshots alone, put these into a block; the series came back, and a chunk was sealed.
    log(&dir.path().join("wal"), true, 9, &[10_000, 20_000, 30_000]);
    seal(dir.path(), 9, &[10_000, 20_000]);
    let head = open_from(dir.path(), Snapshots::Upstream, 5000);
    assert_eq!(head.0.metrics.snapshot_series.get(), 1.0);
    append_times(&head, &[40_000, 50_000]);
    let all = [10_000, 20_000, 30_000, 40_000, 50_000];
    assert!(times(&head).ends_with(&all), "{:?}", times(&head));
    head.close().unwrap();
    assert_eq!(times(&open_from(dir.path(), Snapshots::Upstream, 5000)), all);
}

#[test]
fn a_series_defined_behind_the_place_where_the_log_is_cut_is_logged_anew() {
    for snapshots in [Snapshots::None, Snapshots::Own] {
        let dir = tempfile::tempdir().unwrap();
        let head = open_with(dir.path(), snapshots);
        append(&head, &[(1, 1000, 1.0)]);
        if matches!(snapshots, Snapshots::Own) {
            head.0.write_snapshot().unwrap();
        }
        let (segment, place) = head.0.wal.read().as_ref().unwrap().position();
        append(&head, &[(1, 2000, 2.0)]);
        append(&head, &[(0, 3000, 3000.0)]);
        head.delete(TimeRange::new(1000, 1000), &[]).unwrap();
        std::mem::forget(head);
        // What keeps the series in the head although its sample is gone.
        seal(dir.path(), 2, &[2500]);
        // One bit of a sample.
        let path = wal::segment::path(&dir.path().join("wal"), segment);
        let mut bytes = crate::fs::read(&path).unwrap();
        bytes[usize::try_from(place).unwrap() + 12] ^= 1;
        crate::fs::write(&path, &bytes).unwrap();
        let head = open_with(dir.path(), snapshots);
        assert_eq!(head.0.metrics.log_corruptions.get(), 1);
        assert_eq!(times(&head), [2500]);
        append_times(&head, &[4000, 5000]);
        let all = dump(&head);
        assert_eq!(all.len(), 1, "the other one is deleted");
        std::mem::forget(head);
        let head = open_with(dir.path(), Snapshots::None);
        assert_eq!(
            head.0.metrics.replay_unknown.iter().map(model::wire::expose::Counter::get).sum::<u64>(),
            0
        );
        assert_eq!(times(&head), [2500, 4000, 5000], "the log knows whose they are");
        assert_eq!(dump(&head), all);
    }
}

#[test]
fn series_that_are_dropped_do_not_change_the_labels_of_those_that_come() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_with(dir.path(), Snapshots::None);
    for n in 0..40 {
        append(&head, &[(n, 1000, model::STALE_NAN)]);
    }
    let stale = head.stale_series();
    assert_eq!(head.drop_stale(stale).unwrap(), 40);
    for n in 0..60 {
        append(&head, &[(n, 2000, 1.0)]);
    }
    let before = dump(&head);
    assert_eq!(before.len(), 60);
    drop(head);
    assert_eq!(dump(&open_with(dir.path(), Snapshots::None)), before);
}

#[test]
fn no_snapshot_is_written_while_a_batch_may_have_logged_what_it_has_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let head = open_with(dir.path(), Snapshots::Upstream);
    append_times(&head, &[1000]);
    let batch = head.batch(0);
    head.close().unwrap();
    drop(batch);
    let names = crate::fs::list(dir.path()).unwrap();
    assert!(!names.iter().any(|name| name.starts_with("chunk_snapshot.")), "{names:?}");
    assert_eq!(times(&open_with(dir.path(), Snapshots::Upstream)), [1000]);
}

#[test]
fn what_is_stored_amid_a_truncation_counts_for_the_time_of_the_oldest_sample() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let hours = |n: i64| n * HOUR;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (head, is_over) = (&head, &is_over);
        scope.spawn(move || {
            for n in 0..400_i64 {
                // The first sample in each window comes from here, often while the other side truncates.
                append(head, &[(1, hours(4 * n) + 1, 1.0), (1, hours(4 * n) + HOUR, 1.0)]);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            let max = head.max_time();
            if max > 0 {
                head.truncate(max - HOUR).unwrap();
                let oldest = dump(head).values().flatten().map(|&(t, _)| t).min();
                let known = head.min_time();
                assert!(oldest.is_none_or(|oldest| known <= oldest.max(head.min_valid_time())));
            }
        }
    });
}
