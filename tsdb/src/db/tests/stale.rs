//! Series that ended are written out early.

use model::STALE_NAN;

use super::*;
use crate::block::meta::HINT_STALE_SERIES;
use crate::fs::fault;

/// Three hours of all series, of which all but every third end ten minutes before.
fn ended() -> (Model, u64) {
    let end = START + 3 * HOUR - 10 * 60_000;
    let mut all = model(9, START..START + 3 * HOUR, 60_000);
    let mut n = 0;
    for samples in all.values_mut().enumerate().filter(|(i, _)| i % 3 != 0).map(|(_, samples)| samples) {
        samples.retain(|&t, _| t < end);
        samples.insert(end, STALE_NAN.to_bits());
        n += 1;
    }
    (all, n)
}

fn stale_blocks(db: &Db) -> usize {
    db.blocks().iter().filter(|meta| meta.compaction.has_hint(HINT_STALE_SERIES)).count()
}

#[test]
fn ended_series_leave_the_head_for_blocks_and_may_come_back() {
    let dir = TempDir::new().unwrap();
    let (mut all, n_ended) = ended();
    let db = open(dir.path());
    append(&db, &all, |_| true);
    assert_eq!(db.head().n_stale_series(), n_ended);
    let n_all = all.len() as u64;
    db.set_stale_series_threshold(0.9);
    db.maintain(START + 3 * HOUR).unwrap();
    assert_eq!(stale_blocks(&db), 0, "not enough of them have ended");
    db.set_stale_series_threshold(0.5);
    db.maintain(START + 3 * HOUR).unwrap();
    assert_eq!((db.head().n_series(), db.head().n_stale_series()), (n_all - n_ended, 0));
    assert_eq!(stale_blocks(&db), 2, "one per window");
    assert_eq!(read_all(&db), all);
    assert_eq!(db.head().min_valid_time(), i64::MIN, "others of that time are welcome");
    drop(db);
    let db = open(dir.path());
    assert_eq!(db.head().n_series(), n_all - n_ended);
    assert_eq!(read_all(&db), all);
    // One comes back, within the time that blocks have, and is there after the next start, too.
    let back = all.keys().nth(1).unwrap().clone();
    let t = START + 3 * HOUR - 60_000;
    append(&db, &[(back.clone(), BTreeMap::from([(t, 7_f64.to_bits())]))].into_iter().collect(), |_| true);
    all.get_mut(&back).unwrap().insert(t, 7_f64.to_bits());
    assert_eq!(read_all(&db), all);
    drop(db);
    let db = open(dir.path());
    assert_eq!(db.head().n_series(), n_all - n_ended + 1);
    assert_eq!(read_all(&db), all);
    // And ordinary blocks are made as ever.
    let later: Model = all
        .iter()
        .step_by(3)
        .map(|(labels, _)| (labels.clone(), BTreeMap::from([(START + 6 * HOUR, 1)])))
        .collect();
    append(&db, &later, |_| true);
    for (labels, samples) in later {
        all.get_mut(&labels).unwrap().extend(samples);
    }
    db.maintain(START + 6 * HOUR).unwrap();
    assert_eq!(read_all(&db), all);
    assert!(db.head().min_valid_time() > START);
}

#[test]
fn what_changes_or_is_read_meanwhile_stays() {
    let dir = TempDir::new().unwrap();
    let (all, n_ended) = ended();
    let db = open(dir.path());
    append(&db, &all, |_| true);
    let head = db.head();
    let stale = head.stale_series();
    assert_eq!(stale.len() as u64, n_ended);
    // One goes on.
    let back = all.keys().nth(1).unwrap();
    let mut batch = head.batch(1);
    batch.append(SeriesKey::Labels(back), START + 3 * HOUR, 1.0).unwrap();
    batch.commit().unwrap();
    assert_eq!(head.drop_stale(stale).unwrap(), n_ended - 1);
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let found = collect(set.as_ref(), TimeRange::ALL);
    assert!(found.iter().any(|(labels, samples)| labels == back && samples.len() == all[back].len() + 1));
    drop(set);
    // While somebody looks, nothing is taken away.
    append(
        &db,
        &[(back.clone(), BTreeMap::from([(START + 3 * HOUR + 1, STALE_NAN.to_bits())]))].into(),
        |_| true,
    );
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    assert_eq!(head.drop_stale(head.stale_series()).unwrap(), 0);
    let seen = collect(set.as_ref(), TimeRange::ALL);
    assert!(seen.iter().any(|(labels, samples)| labels == back && samples.len() == all[back].len() + 2));
    drop(set);
    // A log that cannot be told keeps them.
    fault::limit_bytes(dir.path(), 5);
    head.drop_stale(head.stale_series()).unwrap_err();
    fault::heal(dir.path());
    assert_eq!(head.n_stale_series(), 1);
    let after = read(&db, &[], TimeRange::ALL);
    assert_eq!(after, seen);
}
