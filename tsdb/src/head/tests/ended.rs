//! Series that end and come back while those that ended are taken away.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use model::STALE_NAN;

use super::*;
use crate::chunk;

type Found = BTreeMap<Labels, BTreeMap<i64, u64>>;

fn add(found: &mut Found, labels: Labels, samples: impl IntoIterator<Item = (i64, u64)>) {
    let known = found.entry(labels).or_default();
    for (t, v) in samples {
        assert!(known.insert(t, v).is_none_or(|before| before == v), "two values at {t}");
    }
}

/// What a block of all series that ended would hold.
fn write_out(head: &Head, stale: &StaleSeries, blocks: &mut Found) {
    let mut source = head.stale_source(stale, i64::MIN, i64::MAX);
    let mut series = SourceSeries::default();
    while source.next(&mut series).unwrap() {
        let mut out = SampleBatch::default();
        for it in &series.chunks {
            chunk::decode(it.encoding, &it.bytes, TimeRange::ALL, &mut out).unwrap();
        }
        add(blocks, series.labels.clone(), out.iter().map(|s| (s.t, s.v.to_bits())));
    }
}

#[test]
fn no_sample_is_lost_to_a_series_that_comes_back_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let is_done = AtomicBool::new(false);
    let n_passes = AtomicUsize::new(0);
    let (mut blocks, mut expected) = (Found::new(), Found::new());
    let mut n_dropped = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = Found::new();
            for i in 0..600_usize {
                let t = i64::try_from(i).unwrap() * 1000;
                let mut batch = head.batch(u64::from(i % 3 == 0));
                for n in 0..20 {
                    let v = match (i + n) % 10 {
                        0..7 => i as f64,
                        7 => STALE_NAN,
                        _ => continue,
                    };
                    batch.append(SeriesKey::Labels(&series(n)), t, v).unwrap();
                    add(&mut written, series(n), [(t, v.to_bits())]);
                }
                batch.commit().unwrap();
                // However the threads take turns, one whole pass finds nobody writing and so something to drop.
                if i == 300 {
                    let n_before = n_passes.load(Ordering::SeqCst);
                    while n_passes.load(Ordering::SeqCst) < n_before + 2 {
                        std::thread::yield_now();
                    }
                }
            }
            is_done.store(true, Ordering::SeqCst);
            written
        });
        let reader = scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                // Whatever is seen is read without error.
                drop(dump(&head));
                std::thread::yield_now();
            }
        });
        while !is_done.load(Ordering::SeqCst) {
            let stale = head.stale_series();
            write_out(&head, &stale, &mut blocks);
            n_dropped += head.drop_stale(stale).unwrap();
            n_passes.fetch_add(1, Ordering::SeqCst);
        }
        reader.join().unwrap();
        expected = writer.join().unwrap();
    });
    // How many depends on how the threads take turns.
    assert!(n_dropped > 0, "no series was dropped");
    let whole = |head: &Head| {
        let mut found = blocks.clone();
        for (labels, samples) in dump(head) {
            add(&mut found, labels, samples);
        }
        found
    };
    assert!(whole(&head) == expected, "samples are lost");
    let n_series = head.n_series();
    drop(head);
    let head = open(dir.path());
    assert!(whole(&head) == expected, "samples are lost with a start");
    assert_eq!(head.n_series(), n_series);
}
