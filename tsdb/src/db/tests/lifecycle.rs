//! Deletion, snapshots, retention by share and what holds merges back.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::block::meta::HINT_STALE_SERIES;
use crate::fs::fault;

fn pod(op: MatchOp, value: &str) -> Vec<Matcher> {
    vec![Matcher::new(op, "pod", value).unwrap()]
}

/// What is left of `all` once `range` of the series that pass is deleted.
fn without(all: &Model, range: TimeRange, matchers: &[Matcher]) -> Model {
    let passes = |labels: &Labels| {
        matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
    };
    let mut left = all.clone();
    for (_, samples) in left.iter_mut().filter(|(labels, _)| passes(labels)) {
        samples.retain(|&t, _| !range.contains(t));
    }
    left.retain(|_, samples| !samples.is_empty());
    left
}

/// A store with two blocks of two hours and three hours in the head.
fn store(dir: &Path) -> (Db, Model) {
    let all = model(6, START..START + 7 * HOUR, 60_000);
    let db = open(dir);
    append(&db, &all, |t| t < START + 5 * HOUR);
    db.maintain(0).unwrap();
    append(&db, &all, |t| t >= START + 5 * HOUR);
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 2, 1), (2, 4, 1)]);
    (db, all)
}

#[test]
fn what_is_deleted_is_gone_at_once_and_for_good() {
    let dir = TempDir::new().unwrap();
    let (mut db, all) = store(dir.path());
    let before = db.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    // From within the first block into the head, chunks cut in the middle on both sides.
    let range = TimeRange::new(START + HOUR + 30_000, START + 6 * HOUR - 1);
    let matchers = pod(MatchOp::Re, "pod-0000[135]");
    db.delete(range, &matchers).unwrap();
    let left = without(&all, range, &matchers);
    assert_ne!(left, all);
    assert_eq!(read_all(&db), left);
    assert_eq!(
        db.blocks().iter().map(|meta| meta.stats.num_tombstones).collect::<Vec<_>>(),
        [3, 3],
        "a span per series"
    );
    let seen: Model = collect(before.as_ref(), TimeRange::ALL).into_iter().collect();
    let of_blocks = |model: &Model, until| -> Model {
        model.iter().map(|(l, s)| (l.clone(), s.range(..until).map(|(&t, &v)| (t, v)).collect())).collect()
    };
    let until = START + 4 * HOUR;
    assert_eq!(of_blocks(&seen, until), of_blocks(&all, until), "a query under way does not notice");
    drop(before);

    // Once more changes nothing; so does one of nothing.
    db.delete(range, &matchers).unwrap();
    db.delete(TimeRange::new(5, 4), &[]).unwrap();
    db.delete(TimeRange::new(0, START - 1), &[]).unwrap();
    db.delete(TimeRange::ALL, &pod(MatchOp::Eq, "none")).unwrap();
    assert_eq!(read_all(&db), left);

    for close in [true, false] {
        if close {
            db.close().unwrap();
        }
        drop(db);
        db = open(dir.path());
        assert_eq!(read_all(&db), left, "after a stop (clean: {close})");
    }

    // The head goes into a block without what was deleted from it.
    let more = model(6, START + 7 * HOUR..START + 8 * HOUR, 60_000);
    append(&db, &more, |_| true);
    let mut left = left;
    for (labels, samples) in more {
        left.entry(labels).or_default().extend(samples);
    }
    db.maintain(0).unwrap();
    assert!(db.head.min_time() >= START + 6 * HOUR);
    assert_eq!(read_all(&db), left);
    let n = |db: &Db| db.blocks().iter().map(|meta| meta.stats.num_tombstones).sum::<u64>();
    assert_eq!(n(&db), 6, "only those of the blocks that were there");

    db.clean_tombstones(1).unwrap();
    assert_eq!(n(&db), 0);
    assert_eq!(read_all(&db), left);
    let cleaned = &db.blocks()[0];
    assert_eq!((cleaned.compaction.level, cleaned.compaction.parents.len()), (1, 1));
    assert_eq!(cleaned.compaction.sources, [cleaned.ulid]);
    assert_eq!((cleaned.min_time, cleaned.max_time), (START, START + 2 * HOUR));
    let blocks = fs::list(dir.path()).unwrap().into_iter().filter(|name| paths::parse_block(name).is_some());
    assert_eq!(blocks.count(), db.blocks().len(), "what was cleaned is gone");
    drop(db);
    assert_eq!(read_all(&open(dir.path())), left);
}

#[test]
fn a_series_deleted_whole_is_not_found_and_may_come_back() {
    let dir = TempDir::new().unwrap();
    let (db, all) = store(dir.path());
    let matchers = pod(MatchOp::Eq, "pod-00002");
    db.delete(TimeRange::ALL, &matchers).unwrap();
    let left = without(&all, TimeRange::ALL, &matchers);
    assert_eq!(read_all(&db), left);
    assert_eq!(read(&db, &matchers, TimeRange::ALL), [], "not even without samples");
    let more = model(3, START + 7 * HOUR..START + 8 * HOUR, 60_000);
    append(&db, &more, |_| true);
    let mut left = left;
    for (labels, samples) in more {
        left.entry(labels).or_default().extend(samples);
    }
    assert_eq!(read_all(&db), left, "later samples are not hidden");
    drop(db);
    assert_eq!(read_all(&open(dir.path())), left);
}

#[test]
fn a_block_of_which_nothing_is_left_goes() {
    let dir = TempDir::new().unwrap();
    let (db, all) = store(dir.path());
    let range = TimeRange::new(START, START + 2 * HOUR - 1);
    db.delete(range, &[]).unwrap();
    assert_eq!(shapes(&db), [(0, 2, 1), (2, 4, 1)]);
    db.clean_tombstones(0).unwrap();
    assert_eq!(shapes(&db), [(2, 4, 1)]);
    assert_eq!(read_all(&db), without(&all, range, &[]));
    db.delete(TimeRange::ALL, &[]).unwrap();
    db.clean_tombstones(0).unwrap();
    assert!(db.blocks().is_empty());
    assert!(read_all(&db).is_empty());
}

#[test]
fn deletion_on_a_full_disk_changes_nothing_and_can_be_repeated() {
    let dir = TempDir::new().unwrap();
    let (db, all) = store(dir.path());
    let (range, matchers) = (TimeRange::new(START + HOUR, START + 6 * HOUR), pod(MatchOp::Re, ".*[12]"));
    let left = without(&all, range, &matchers);
    let mut had_part = false;
    // The disk fills up, then has room again, after every so many bytes.
    for bytes in (0..4000).step_by(61) {
        fault::limit_bytes(dir.path(), bytes);
        let deleted = db.delete(range, &matchers);
        fault::heal(dir.path());
        let names = fs::list(&db.maintenance.dir.join(db.blocks()[0].ulid.to_string())).unwrap();
        assert_eq!(names, ["chunks", "index", "meta.json", "tombstones"], "after {bytes} bytes");
        if deleted.is_ok() {
            assert!(had_part, "some of the failures came late");
            assert_eq!(read_all(&db), left);
            return;
        }
        let now = read_all(&db);
        had_part |= now != all;
        for (labels, samples) in &left {
            assert!(
                samples.iter().all(|(t, v)| now[labels].get(t) == Some(v)),
                "after {bytes} bytes something else is missing"
            );
        }
        if bytes % 5 == 0 {
            let copy = TempDir::new().unwrap();
            copy_dir(dir.path(), copy.path());
            let reopened = open(copy.path());
            assert_eq!(read_all(&reopened), now, "after {bytes} bytes and a kill");
        }
    }
    panic!("the deletion never succeeded");
}

/// As a kill leaves it: the files as they are.
fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every change of a name fails once, as if the process had died there.
#[test]
fn cleaning_survives_a_death_at_every_step() {
    let mut n = 0;
    loop {
        let dir = TempDir::new().unwrap();
        let (db, all) = store(dir.path());
        let (range, matchers) = (TimeRange::new(START + HOUR, START + 3 * HOUR), pod(MatchOp::Re, ".*[12]"));
        db.delete(range, &matchers).unwrap();
        let left = without(&all, range, &matchers);
        fault::limit_changes(dir.path(), n);
        let cleaned = db.clean_tombstones(0);
        fault::heal(dir.path());
        assert_eq!(read_all(&db), left, "death at change {n}");
        drop(db);
        let db = open(dir.path());
        assert_eq!(read_all(&db), left, "death at change {n}, reopened");
        db.clean_tombstones(0).unwrap();
        assert_eq!(read_all(&db), left, "death at change {n}, cleaned");
        if cleaned.is_ok() {
            assert!(n > 5, "{n} changes are too few to be true");
            return;
        }
        n += 1;
    }
}

#[test]
fn a_snapshot_is_a_store_of_its_own() {
    let dir = TempDir::new().unwrap();
    let (db, all) = store(dir.path());
    let (range, matchers) = (TimeRange::new(START + HOUR, START + 6 * HOUR), pod(MatchOp::Eq, "pod-00001"));
    db.delete(range, &matchers).unwrap();
    let left = without(&all, range, &matchers);
    db.snapshot("whole", true, 5).unwrap();
    db.snapshot("blocks", false, 5).unwrap();
    let root = dir.path().join(paths::SNAPSHOTS);
    let of_block = |file: &str| format!("{}/{file}", db.blocks()[0].ulid);
    for file in ["meta.json", "index", "chunks/000001", "tombstones"] {
        let inode = |root: &Path| std::fs::metadata(root.join(of_block(file))).unwrap().ino();
        assert_eq!(inode(dir.path()), inode(&root.join("blocks")), "{file} is linked");
    }
    // What happens to the store later does not touch the copies.
    db.delete(TimeRange::ALL, &[]).unwrap();
    db.clean_tombstones(0).unwrap();
    let whole = open(&root.join("whole"));
    assert_eq!(read_all(&whole), left);
    let head = whole.blocks().pop().unwrap();
    assert_eq!((head.compaction.level, head.min_time), (1, START + 4 * HOUR));
    assert_eq!(head.max_time, START + 7 * HOUR - 60_000 + 1);
    let blocks_only = open(&root.join("blocks"));
    let in_head = TimeRange::new(START + 4 * HOUR, i64::MAX);
    assert_eq!(read_all(&blocks_only), without(&left, in_head, &[]));

    let empty = TempDir::new().unwrap();
    open(empty.path()).snapshot("nothing", true, 0).unwrap();
    assert!(fs::list(&empty.path().join("snapshots/nothing")).unwrap().is_empty());
}

#[test]
fn a_snapshot_that_fails_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let (db, all) = store(dir.path());
    for n in 0.. {
        fault::limit_changes(dir.path(), n);
        let taken = db.snapshot("copy", true, 0);
        fault::heal(dir.path());
        assert_eq!(read_all(&db), all);
        if taken.is_ok() {
            assert!(n > 8);
            break;
        }
        assert!(!fs::exists(&dir.path().join("snapshots/copy")), "after {n} changes");
    }
    assert_eq!(read_all(&open(&dir.path().join("snapshots/copy"))), all);
}

#[test]
fn retention_by_share_of_the_file_system_goes_before_that_by_size() {
    let dir = TempDir::new().unwrap();
    for hours in [0, 2, 4] {
        let times = START + hours * HOUR..START + (hours + 2) * HOUR;
        write_block(dir.path(), &model(2, times.clone(), 600_000), times).unwrap();
    }
    let db = open(dir.path());
    let block = db.blocks_bytes() / 3;
    let head =
        fs::dir_size(&dir.path().join(paths::WAL)) + fs::dir_size(&dir.path().join(paths::CHUNKS_HEAD));
    let capacity = fs::capacity(dir.path()).unwrap();
    // Room for two and a half.
    let percentage = (head + block * 5 / 2) as f64 / capacity as f64 * 100.0;
    db.set_retention(Retention { size_bytes: Some(1), percentage, ..Retention::default() });
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(2, 4, 1), (4, 6, 1)]);
    let mut out = Exposition::default();
    db.expose(&mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    let shown = model::number::format_g(percentage);
    assert!(text.contains(&format!("prometheus_tsdb_retention_limit_percentage {shown}")), "{text}");
    assert!(text.contains("prometheus_tsdb_size_retentions_total 1\n"));
}

#[test]
fn blocks_wait_for_their_copies() {
    let dir = TempDir::new().unwrap();
    let mut ulids = Vec::new();
    for hours in [0, 2, 4, 6] {
        let times = START + hours * HOUR..START + (hours + 2) * HOUR;
        let path = write_block(dir.path(), &model(2, times.clone(), 600_000), times).unwrap();
        ulids.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        // Ids of the same millisecond are in no order.
        std::thread::sleep(Duration::from_millis(2));
    }
    let list = dir.path().join("thanos.shipper.json");
    let options = Options { upload_list: Some(list.clone()), ..Options::default() };
    let db = Db::open(dir.path(), &options, &ReplayProgress::default()).unwrap();
    let uploaded = |n: usize| {
        let text = format!("{{\"version\":1,\"uploaded\":{:?}}}", &ulids[..n]);
        std::fs::write(&list, text).unwrap();
    };
    for n in 0..4 {
        uploaded(n);
        db.maintain(0).unwrap();
        // The newest of those that may be merged is left alone.
        assert_eq!(shapes(&db).len(), 4, "{n} uploaded");
    }
    uploaded(4);
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 6, 2), (6, 8, 1)]);
}

#[test]
fn a_list_of_copies_that_cannot_be_read_holds_nothing_back() {
    for text in [None, Some("rubbish")] {
        let dir = TempDir::new().unwrap();
        for hours in [0, 2, 4, 6] {
            let times = START + hours * HOUR..START + (hours + 2) * HOUR;
            write_block(dir.path(), &model(2, times.clone(), 600_000), times).unwrap();
        }
        let list = dir.path().join("list.json");
        if let Some(text) = text {
            std::fs::write(&list, text).unwrap();
        }
        let options = Options { upload_list: Some(list), ..Options::default() };
        let db = Db::open(dir.path(), &options, &ReplayProgress::default()).unwrap();
        db.maintain(0).unwrap();
        assert_eq!(shapes(&db), [(0, 6, 2), (6, 8, 1)]);
    }
}

#[test]
fn overlapping_blocks_stay_apart_if_told_so() {
    let dir = TempDir::new().unwrap();
    let times = START..START + 2 * HOUR;
    let all = model(2, times.clone(), 600_000);
    write_block(dir.path(), &all, times.clone()).unwrap();
    write_block(dir.path(), &all, times).unwrap();
    let options = Options { merge_overlapping: false, ..Options::default() };
    let db = Db::open(dir.path(), &options, &ReplayProgress::default()).unwrap();
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 2, 1), (0, 2, 1)]);
    assert_eq!(read_all(&db), all);
}

#[test]
fn the_head_may_be_written_out_late() {
    let dir = TempDir::new().unwrap();
    let mut db = open(dir.path());
    assert_eq!(db.compaction_delay_ms, 0);
    db.compaction_delay_ms = 10_000;
    let all = model(2, START..START + 8 * HOUR, 60_000);
    append(&db, &all, |t| t < START + 4 * HOUR);
    for now in [100_000, 105_000, 109_999] {
        db.maintain(now).unwrap();
        assert!(db.blocks().is_empty(), "at {now}");
    }
    append(&db, &all, |t| t >= START + 4 * HOUR);
    db.maintain(110_000).unwrap();
    assert_eq!(shapes(&db), [(0, 2, 1), (2, 4, 1), (4, 6, 1)], "all of it, once it is time");
    append(&db, &model(2, START + 8 * HOUR..START + 10 * HOUR, 60_000), |_| true);
    db.maintain(111_000).unwrap();
    assert_eq!(shapes(&db).len(), 3, "the next one waits anew");
    for percent in [0, 1, 10, 100] {
        let most = 2 * HOUR / 100 * i64::from(percent);
        assert!((0..most.max(1)).contains(&delay(2 * HOUR, percent)));
    }
}

/// Blocks cleaned keep the marks that keep them apart.
#[test]
fn cleaning_keeps_hints() {
    let dir = TempDir::new().unwrap();
    let times = START..START + 2 * HOUR;
    let path = write_block(dir.path(), &model(2, times.clone(), 600_000), times).unwrap();
    let meta_path = path.join(paths::BLOCK_META);
    let mut meta = BlockMeta::load(&meta_path).unwrap();
    meta.compaction.hints.push(HINT_STALE_SERIES.to_owned());
    meta.compaction.level = 3;
    fs::replace(&meta_path, &meta.encode()).unwrap();
    let db = open(dir.path());
    db.delete(TimeRange::new(START, START + HOUR), &pod(MatchOp::Eq, "pod-00001")).unwrap();
    db.clean_tombstones(0).unwrap();
    let cleaned = db.blocks().pop().unwrap();
    assert_eq!((cleaned.compaction.level, cleaned.compaction.hints.len()), (1, 1));
}

/// Prometheus reads our deletions, and we read its.
#[test]
fn prometheus_and_we_delete_from_one_directory() {
    let Some(prometheus) = peer("prometheus", "prometheus_and_we_delete_from_one_directory") else { return };
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let (db, all) = store(&data);
    let ours = (TimeRange::new(START + HOUR, START + 6 * HOUR), pod(MatchOp::Eq, "pod-00001"));
    db.delete(ours.0, &ours.1).unwrap();
    let left = without(&all, ours.0, &ours.1);
    drop(db);

    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let (server, port) = serve(prometheus, &config, &data);
    let at = (START + 7 * HOUR) / 1000;
    let count = format!("/api/v1/query?query=sum(count_over_time(requests_total%5B12h%5D))&time={at}");
    let n = |model: &Model| format!("\"{}\"", model.values().map(BTreeMap::len).sum::<usize>());
    let answer = get(port, &count).unwrap();
    assert!(answer.contains(&n(&left)), "{} expected in {answer}", n(&left));
    let theirs = (TimeRange::new(START + 2 * HOUR, START + 5 * HOUR), pod(MatchOp::Eq, "pod-00003"));
    let path = format!(
        "/api/v1/admin/tsdb/delete_series?match[]={{pod=%22pod-00003%22}}&start={}&end={}",
        theirs.0.mint / 1000,
        theirs.0.maxt / 1000
    );
    let answer = request(port, "POST", &path).unwrap();
    assert!(answer.starts_with("HTTP/1.0 204"), "{answer}");
    let left = without(&left, theirs.0, &theirs.1);
    let answer = get(port, &count).unwrap();
    assert!(answer.contains(&n(&left)), "{} expected in {answer}", n(&left));
    drop(server);

    let db = open(&data);
    assert_eq!(read_all(&db), left);
    db.clean_tombstones(0).unwrap();
    assert_eq!(read_all(&db), left);
}

/// The head's way into a block and the log's into a checkpoint, on a disk that fills up at any point of it.
#[test]
fn a_full_disk_at_any_point_of_a_tick_loses_nothing() {
    let all = model(3, START..START + 4 * HOUR, 15_000);
    // A log of several segments, so that there is something to make a checkpoint of.
    let options = Options { wal_segment_bytes: 32 << 10, ..Options::default() };
    let mut n_failed = 0;
    for bytes in (0..).step_by(2503) {
        let dir = TempDir::new().unwrap();
        let db = Db::open(dir.path(), &options, &ReplayProgress::default()).unwrap();
        append(&db, &all, |_| true);
        fault::limit_bytes(dir.path(), bytes);
        let ticked = db.maintain(0);
        assert_eq!(read_all(&db), all, "full after {bytes} bytes");
        let copy = TempDir::new().unwrap();
        copy_dir(dir.path(), copy.path());
        fault::heal(dir.path());
        if bytes % 4 == 0 {
            assert_eq!(read_all(&open(copy.path())), all, "full after {bytes} bytes, then a kill");
        }
        if ticked.is_ok() {
            break;
        }
        n_failed += 1;
        db.maintain(0).unwrap();
        assert_eq!(shapes(&db), [(0, 2, 1)], "full after {bytes} bytes");
        assert_eq!(read_all(&db), all, "full after {bytes} bytes, then space");
        drop(db);
        assert_eq!(read_all(&open(dir.path())), all, "full after {bytes} bytes, then space, then a kill");
    }
    assert!(n_failed > 3, "{n_failed} failures are too few to be true");
}

/// A store with a block for each of these hours.
fn store_of(dir: &Path, blocks: &[(i64, i64)]) -> (Db, Model) {
    let mut all = Model::new();
    for (from, to) in blocks {
        let times = START + from * HOUR..START + to * HOUR;
        let part = model(40, times.clone(), 600_000);
        write_block(dir, &part, times).unwrap();
        for (labels, samples) in part {
            all.entry(labels).or_default().extend(samples);
        }
    }
    (open(dir), all)
}

/// Large blocks are cleaned by the tick once enough of them is deleted, small ones when nothing is left.
#[test]
fn a_tick_cleans_what_is_worth_it() {
    let dir = TempDir::new().unwrap();
    let (db, all) = store_of(dir.path(), &[(0, 6), (6, 8)]);
    // Two of 40 series are less than a twentieth.
    let few = TimeRange::new(START, START + 3 * HOUR);
    db.delete(few, &pod(MatchOp::Re, "pod-0000[01]")).unwrap();
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 6, 1), (6, 8, 1)]);
    let more = TimeRange::new(START + HOUR, START + 4 * HOUR);
    db.delete(more, &pod(MatchOp::Eq, "pod-00003")).unwrap();
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 6, 2), (6, 8, 1)]);
    assert_eq!(db.blocks()[0].stats.num_tombstones, 0);
    let left = without(&all, few, &pod(MatchOp::Re, "pod-0000[01]"));
    assert_eq!(read_all(&db), without(&left, more, &pod(MatchOp::Eq, "pod-00003")));

    let dir = TempDir::new().unwrap();
    let (db, all) = store_of(dir.path(), &[(0, 2), (2, 4)]);
    let most = TimeRange::new(START, START + 2 * HOUR - 1);
    db.delete(most, &pod(MatchOp::Ne, "pod-00003")).unwrap();
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 2, 1), (2, 4, 1)]);
    db.delete(most, &[]).unwrap();
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(2, 4, 1)]);
    assert_eq!(read_all(&db), without(&all, most, &[]));
}
