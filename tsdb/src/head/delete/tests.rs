use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use model::storage::{Queryable as _, SelectHints, SeriesKey};
use model::{Labels, MatchOp, SampleBatch};

use super::*;
use crate::fs::fault;
use crate::head::{Options, ReplayProgress};
use crate::wal;

const HOUR: i64 = 3_600_000;

fn open(dir: &Path) -> Head {
    let wal = wal::Options { segment_bytes: 1 << 20, sync_interval: None, ..wal::Options::default() };
    let options = Options { n_shards: 4, wal, ..Options::default() };
    Head::open(dir, options, i64::MIN, &ReplayProgress::default()).unwrap()
}

fn series(n: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())])
}

fn append(head: &Head, numbers: std::ops::Range<usize>, t: i64) {
    // Spread over shards.
    for n in numbers {
        let mut batch = head.batch(n as u64 % 16);
        batch.append(SeriesKey::Labels(&series(n)), t, t as f64).unwrap();
        batch.commit().unwrap();
    }
}

/// The times of all samples, series by series.
fn times(head: &Head, range: TimeRange) -> Vec<(Labels, Vec<i64>)> {
    let set = head.querier(range).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut found: Vec<_> = (0..set.len())
        .map(|i| {
            let mut batch = SampleBatch::default();
            set.samples_into(i, range, &mut batch).unwrap();
            crate::testing::assert_points_agree(&*set, i, range);
            (set.labels(i), batch.ts)
        })
        .collect();
    found.sort();
    found
}

fn n_deleted(head: &Head) -> usize {
    let registry = head.0.registry.read();
    registry.visible.iter().map(|id| registry.deleted(id).len()).sum()
}

#[test]
fn a_span_ends_with_the_samples_of_its_series() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    append(&head, 0..3, 1000);
    append(&head, 0..2, 2000);
    append(&head, 0..1, 3000);
    head.delete(TimeRange::new(1500, i64::MAX), &[]).unwrap();
    append(&head, 0..3, 3001);
    let expected = [vec![1000, 3001], vec![1000, 3001], vec![1000, 3001]];
    let all = times(&head, TimeRange::ALL);
    assert_eq!(all.iter().map(|(_, times)| times.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(n_deleted(&head), 2, "the third series had nothing there");
    drop(head);
    assert_eq!(times(&open(dir.path()), TimeRange::ALL), all);
}

#[test]
fn many_series_take_several_records() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    append(&head, 0..6000, 1000);
    append(&head, 0..6000, 2000);
    let odd = Matcher::new(MatchOp::Re, "n", ".*[13579]").unwrap();
    head.delete(TimeRange::new(1500, 9000), &[odd]).unwrap();
    assert_eq!(n_deleted(&head), 3000);
    let all = times(&head, TimeRange::ALL);
    assert_eq!(all.iter().map(|(_, times)| times.len()).sum::<usize>(), 9000);
    drop(head);
    let head = open(dir.path());
    assert_eq!(n_deleted(&head), 3000);
    assert!(times(&head, TimeRange::ALL) == all);
}

#[test]
fn a_refused_record_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    append(&head, 0..3, 1000);
    let all = times(&head, TimeRange::ALL);
    fault::limit_bytes(dir.path(), 5);
    assert!(head.delete(TimeRange::ALL, &[]).is_err());
    fault::heal(dir.path());
    assert_eq!(times(&head, TimeRange::ALL), all);
    head.delete(TimeRange::ALL, &[]).unwrap();
    assert_eq!(times(&head, TimeRange::ALL), []);
    head.close().unwrap();
    assert!(
        head.delete(TimeRange::ALL, &[]).is_ok(),
        "everything is hidden already, so there is nothing to log"
    );
}

/// Tombstones go with the times they are about, but not before those who still read the samples.
#[test]
fn deletions_leave_with_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    for t in (0..6 * HOUR).step_by(60_000) {
        append(&head, 0..2, t);
    }
    let old = TimeRange::new(0, HOUR);
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    head.delete(old, &[]).unwrap();
    head.delete(TimeRange::new(HOUR + HOUR / 2, 5 * HOUR), &[]).unwrap();
    assert_eq!(n_deleted(&head), 4);
    head.truncate(2 * HOUR).unwrap();
    assert_eq!(n_deleted(&head), 4, "somebody is reading");
    let mut batch = SampleBatch::default();
    set.samples_into(0, TimeRange::ALL, &mut batch).unwrap();
    assert!(batch.ts.iter().all(|t| !old.contains(*t)), "what was deleted stays deleted");
    drop(set);
    head.truncate(2 * HOUR + 1).unwrap();
    assert_eq!(n_deleted(&head), 2, "those that reach into what is left stay");
    // In the middle of a chunk, which stays as a whole: so does what hides samples of it.
    head.truncate(5 * HOUR + 1).unwrap();
    assert_eq!(n_deleted(&head), 2);
    assert!(times(&head, TimeRange::ALL).iter().all(|(_, times)| times[0] > 5 * HOUR));
    head.truncate(6 * HOUR).unwrap();
    assert_eq!(n_deleted(&head), 0);
    assert_eq!(times(&head, TimeRange::ALL), []);
}

/// Whatever the order in which they come: nobody's later samples are hidden, and a restart agrees.
#[test]
fn deleting_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (head, is_done) = (&head, &is_done);
            scope.spawn(move || {
                for t in 1..400 {
                    append(head, writer * 20..writer * 20 + 20, t * 1000);
                }
                is_done.store(true, Ordering::Relaxed);
            });
        }
        while !is_done.load(Ordering::Relaxed) {
            head.delete(TimeRange::ALL, &[]).unwrap();
            // What came before the deletion is gone, and what is seen came after it: a run up to the newest.
            for (_, times) in times(&head, TimeRange::ALL) {
                assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1000), "a gap in {times:?}");
            }
        }
    });
    append(&head, 0..40, 1_000_000);
    let all = times(&head, TimeRange::ALL);
    assert_eq!(all.len(), 40);
    assert!(all.iter().all(|(_, times)| times.last() == Some(&1_000_000)));
    drop(head);
    assert_eq!(times(&open(dir.path()), TimeRange::ALL), all);
}
