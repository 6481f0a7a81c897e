use std::collections::BTreeMap;

use model::storage::{Appendable as _, SelectHints, SeriesKey};
use tempfile::TempDir;

use super::*;
use crate::compact::testing::{Model, collect, model, write_block};
use crate::db::{Db, Options};
use crate::head::ReplayProgress;

const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000 / (18 * HOUR) * (18 * HOUR);

fn read(store: &ReadOnly, range: TimeRange) -> Model {
    let set = store.querier(range).unwrap().select(&[], &SelectHints::default()).unwrap();
    collect(set.as_ref(), range).into_iter().collect()
}

/// Every file below a directory with its bytes, and when it was last changed.
fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let changed = entry.metadata().unwrap().modified().unwrap();
        if entry.metadata().unwrap().is_dir() {
            found.extend(files(&entry.path()));
            found.insert(entry.path(), (Vec::new(), changed));
        } else {
            found.insert(entry.path(), (std::fs::read(entry.path()).unwrap(), changed));
        }
    }
    found
}

fn filled(dir: &Path) -> (Db, Model) {
    let db = Db::open(dir, &Options::default(), &ReplayProgress::default()).unwrap();
    let all = model(4, START..START + 7 * HOUR, 15_000);
    let mut by_time: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for (labels, samples) in &all {
        for (&t, &v) in samples {
            by_time.entry(t).or_default().push((labels, f64::from_bits(v)));
        }
    }
    for (t, samples) in by_time {
        let mut appender = db.appender(0);
        for (labels, v) in samples {
            appender.append(SeriesKey::Labels(labels), t, v).unwrap();
        }
        appender.commit().unwrap();
    }
    db.maintain(0).unwrap();
    (db, all)
}

#[test]
fn shows_everything_and_touches_nothing() {
    let dir = TempDir::new().unwrap();
    let (db, all) = filled(dir.path());
    assert_eq!(db.blocks().len(), 2);
    let scratch = TempDir::new().unwrap();
    // While a server runs, after it was killed, after it was stopped.
    for step in 0..3 {
        let before = files(dir.path());
        let store = ReadOnly::open(dir.path(), Some(scratch.path())).unwrap();
        assert_eq!(store.blocks().unwrap().len(), 2);
        assert_eq!(read(&store, TimeRange::ALL), all, "step {step}");
        let early = TimeRange::new(START, START + HOUR);
        assert_eq!(read(&store, early).values().map(BTreeMap::len).sum::<usize>(), 4 * 241);
        drop(store);
        assert!(files(dir.path()) == before, "step {step}: something changed");
        assert!(fs::list(scratch.path()).unwrap().is_empty(), "step {step}: something is left");
        if step == 1 {
            db.close().unwrap();
        }
    }
}

#[test]
fn reads_as_far_as_a_broken_log_goes() {
    let dir = TempDir::new().unwrap();
    let (db, all) = filled(dir.path());
    drop(db);
    let wal = dir.path().join(paths::WAL);
    let segments = fs::list(&wal).unwrap().into_iter().map(|name| wal.join(name));
    let segment = segments.max_by_key(|path| fs::file_len(path).unwrap()).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x55;
    std::fs::write(&segment, &bytes).unwrap();
    // Head chunks that do not read are made up for by the log; both stay as they are.
    std::fs::write(dir.path().join(paths::CHUNKS_HEAD).join("000001"), b"rubbish beyond repair").unwrap();
    let before = files(dir.path());
    let store = ReadOnly::open(dir.path(), None).unwrap();
    let found = read(&store, TimeRange::ALL);
    for (labels, samples) in &found {
        assert!(samples.iter().all(|(t, v)| all[labels].get(t) == Some(v)));
        assert!(samples.len() >= 4 * 240, "the blocks at least");
    }
    assert!(found != all);
    drop(store);
    assert!(files(dir.path()) == before);
}

#[test]
fn blocks_alone_are_enough_and_a_bad_one_is_told() {
    let dir = TempDir::new().unwrap();
    assert!(ReadOnly::open(&dir.path().join("none"), None).is_err());
    let store = ReadOnly::open(dir.path(), None).unwrap();
    assert!(store.blocks().unwrap().is_empty());
    assert_eq!(store.block(None).unwrap_err().to_string(), "no blocks found");
    assert_eq!(store.block(Some("x")).unwrap_err().to_string(), "invalid block ID x");
    let all = model(2, START..START + HOUR, 60_000);
    let path = write_block(dir.path(), &all, START..START + HOUR).unwrap();
    assert_eq!(read(&store, TimeRange::ALL), all);
    assert_eq!(store.block(None).unwrap().dir(), path);
    std::fs::write(path.join("index"), b"rubbish").unwrap();
    assert!(store.blocks().is_err());
}
