use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use model::storage::{SelectHints, SeriesKey, SeriesRef};
use model::{Labels, MatchOp, Matcher};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod late;

use crate::compact::testing::{Model, collect, labels, model, peer, write_block};

mod lifecycle;
mod stale;

const HOUR: i64 = 3_600_000;
/// Where windows of every size begin.
const START: i64 = 1_700_000_000_000 / (18 * HOUR) * (18 * HOUR);

fn open(dir: &Path) -> Db {
    // Retention is relative to the newest block, so the default keeps all that tests write.
    Db::open(dir, &Options::default(), &ReplayProgress::default()).unwrap()
}

/// Appends one batch per time, as scrapes do.
fn append(db: &Db, all: &Model, times: impl Fn(i64) -> bool) {
    let mut by_time: BTreeMap<i64, Vec<(&Labels, u64)>> = BTreeMap::new();
    for (labels, samples) in all {
        for (&t, &v) in samples.iter().filter(|(t, _)| times(**t)) {
            by_time.entry(t).or_default().push((labels, v));
        }
    }
    let mut refs: BTreeMap<&Labels, SeriesRef> = BTreeMap::new();
    for (t, samples) in by_time {
        let mut appender = db.appender(1);
        for (labels, v) in samples {
            let v = f64::from_bits(v);
            let by_ref = refs.get(labels).and_then(|&r| appender.append(SeriesKey::Ref(r), t, v).ok());
            let series = by_ref.unwrap_or_else(|| appender.append(SeriesKey::Labels(labels), t, v).unwrap());
            refs.insert(labels, series);
        }
        appender.commit().unwrap();
    }
}

fn read(db: &Db, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, BTreeMap<i64, u64>)> {
    let set = db.querier(range).unwrap().select(matchers, &SelectHints::default()).unwrap();
    collect(set.as_ref(), range)
}

fn read_all(db: &Db) -> Model {
    read(db, &[], TimeRange::ALL).into_iter().collect()
}

fn shapes(db: &Db) -> Vec<(i64, i64, u32)> {
    db.blocks()
        .iter()
        .map(|meta| ((meta.min_time - START) / HOUR, (meta.max_time - START) / HOUR, meta.compaction.level))
        .collect()
}

#[test]
fn start_times_are_refused_where_chunks_would_lose_them() {
    let dir = TempDir::new().unwrap();
    let open = |floats| {
        let features = head::Features { stores_start_times: true, floats, ..head::Features::default() };
        Db::open(dir.path(), &Options { features, ..Options::default() }, &ReplayProgress::default())
    };
    let refused = open(FloatEncoding::Xor).err().map(|e| e.to_string());
    assert!(refused.is_some_and(|e| e.contains("use xor2")));
    open(FloatEncoding::Xor2).unwrap();
}

#[test]
fn a_store_of_xor2_chunks_holds_the_same_and_may_go_back() {
    let dir = TempDir::new().unwrap();
    let all = model(5, START..START + 26 * HOUR, 60_000);
    let with = |floats| {
        let features = head::Features { floats, ..head::Features::default() };
        Db::open(dir.path(), &Options { features, ..Options::default() }, &ReplayProgress::default()).unwrap()
    };
    let db = with(FloatEncoding::Xor2);
    for hours in [0..9, 9..17, 17..26] {
        append(&db, &all, |t| hours.contains(&((t - START) / HOUR)));
        db.maintain(START + hours.end * HOUR).unwrap();
    }
    assert_eq!(read_all(&db), all);
    let levels: Vec<u32> = shapes(&db).iter().map(|shape| shape.2).collect();
    assert!(levels.contains(&3), "{levels:?}");
    drop(db);
    // Killed, and started with the plain encoding: open chunks are built anew, sealed ones are read as they are.
    let db = with(FloatEncoding::Xor);
    assert_eq!(read_all(&db), all);
    let later: Model =
        all.keys().map(|labels| (labels.clone(), BTreeMap::from([(START + 30 * HOUR, 1)]))).collect();
    append(&db, &later, |_| true);
    db.maintain(START + 30 * HOUR).unwrap();
    let mut all = all;
    for (labels, samples) in later {
        all.get_mut(&labels).unwrap().extend(samples);
    }
    assert_eq!(read_all(&db), all);
}

#[test]
fn samples_pass_from_head_to_blocks_unseen_by_queries() {
    let dir = TempDir::new().unwrap();
    let all = model(7, START..START + 26 * HOUR, 60_000);
    let mut db = open(dir.path());
    for hour in 0..26 {
        let times = |t: i64| (t - START) / HOUR == hour;
        append(&db, &all, times);
        db.maintain(START + (hour + 1) * HOUR).unwrap();
        let expected: Model = all
            .iter()
            .map(|(labels, samples)| {
                (labels.clone(), samples.range(..START + (hour + 1) * HOUR).map(|(&t, &v)| (t, v)).collect())
            })
            .collect();
        assert_eq!(read_all(&db), expected, "after hour {hour}");
        if hour % 5 == 4 {
            // Every other time as if killed: nothing is closed, the lock is all that goes.
            if hour % 2 == 0 {
                drop(db);
            } else {
                db.close().unwrap();
            }
            db = open(dir.path());
            assert_eq!(read_all(&db), expected, "reopened after hour {hour}");
        }
    }
    assert_eq!(shapes(&db), [(0, 18, 3), (18, 20, 1), (20, 22, 1), (22, 24, 1)]);
    assert_eq!(db.min_time(), START);
    let sorted = read(&db, &[], TimeRange::new(START + 23 * HOUR, START + 25 * HOUR));
    assert!(sorted.is_sorted_by(|a, b| a.0 < b.0), "head and blocks come in label order");
    let one = Matcher::new(MatchOp::Re, "pod", "pod-0000[12]").unwrap();
    assert_eq!(read(&db, std::slice::from_ref(&one), TimeRange::ALL).len(), 2);
    let querier = db.querier(TimeRange::ALL).unwrap();
    assert_eq!(querier.label_values(b"pod", &[one], 0).unwrap().len(), 2);
    assert_eq!(querier.label_names(&[], 0).unwrap().len(), 3);
    assert_eq!(querier.label_values(b"pod", &[], 3).unwrap().len(), 3);
}

/// The head has a selection of its own; it and the index must find the same.
#[test]
fn head_and_blocks_select_alike() {
    let dir = TempDir::new().unwrap();
    let db = open(dir.path());
    let mut all = model(30, START..START + 4 * HOUR, 600_000);
    let samples = all.values().next().unwrap().clone();
    for (name, pairs) in
        [("up", [("zone", "z1"), ("odd", "a\nb")]), ("down", [("zone", "z"), ("pod", "pod-1")])]
    {
        let pairs = [("__name__", name)].into_iter().chain(pairs);
        all.insert(Labels::from_pairs(pairs), samples.clone());
    }
    append(&db, &all, |_| true);
    let range = TimeRange::new(START, START + 2 * HOUR - 1);
    let names = ["__name__", "pod", "zone", "odd", "absent"];
    let values = [
        "",
        "up",
        "z1",
        "z.*",
        "z0|z2",
        "z0|",
        ".*",
        ".+",
        "pod-0000[0-4]",
        "pod-1?",
        "a.b",
        "(up|down)",
        "x",
    ];
    let ops = [MatchOp::Eq, MatchOp::Ne, MatchOp::Re, MatchOp::Nre];
    let mut matchers = Vec::new();
    for name in names {
        for value in values {
            matchers.extend(ops.map(|op| Matcher::new(op, name, value).unwrap()));
        }
    }
    let found = |matchers: &[Matcher]| {
        let mut found: Vec<Labels> =
            read(&db, matchers, range).into_iter().map(|(labels, _)| labels).collect();
        found.sort();
        found
    };
    let zone = Matcher::new(MatchOp::Ne, "zone", "z0").unwrap();
    let ask = || -> Vec<Vec<Labels>> {
        matchers
            .iter()
            .flat_map(|m| [found(std::slice::from_ref(m)), found(&[m.clone(), zone.clone()])])
            .collect()
    };
    let from_head = ask();
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 2, 1)]);
    assert!(db.head.min_time() >= START + 2 * HOUR);
    for (i, (head, block)) in from_head.into_iter().zip(ask()).enumerate() {
        assert_eq!(head, block, "{} (with {zone}: {})", matchers[i / 2], i % 2 == 1);
    }
}

#[test]
fn the_head_alone_keeps_its_order() {
    let dir = TempDir::new().unwrap();
    let db = open(dir.path());
    let names = ["b", "a", "c"].map(|name| labels(&[("__name__", name)]));
    let mut appender = db.appender(1);
    for labels in &names {
        appender.append(SeriesKey::Labels(labels), START, 1.0).unwrap();
    }
    appender.commit().unwrap();
    let found: Vec<Labels> = read(&db, &[], TimeRange::ALL).into_iter().map(|(labels, _)| labels).collect();
    assert_eq!(found, names);
    let hints = SelectHints { sorted: true, ..SelectHints::default() };
    let set = db.querier(TimeRange::ALL).unwrap().select(&[], &hints).unwrap();
    assert_eq!((0..3).map(|i| set.labels(i)).collect::<Vec<_>>(), [1, 0, 2].map(|i| names[i].clone()));
}

#[test]
fn one_process_at_a_time_and_a_clean_stop_is_seen() {
    let dir = TempDir::new().unwrap();
    let db = open(dir.path());
    let refused = Db::open(dir.path(), &Options::default(), &ReplayProgress::default());
    assert!(matches!(refused.err(), Some(Error::Locked { .. })));
    assert_eq!(db.clean_start, 1.0);
    db.close().unwrap();
    assert!(!dir.path().join(paths::LOCK).exists());
    fs::write(&dir.path().join(paths::LOCK), b"").unwrap();
    assert_eq!(open(dir.path()).clean_start, 0.0);
    let options = Options { no_lockfile: true, ..Options::default() };
    assert_eq!(Db::open(dir.path(), &options, &ReplayProgress::default()).unwrap().clean_start, -1.0);
}

#[test]
fn a_foreign_block_is_taken_up_and_old_samples_are_refused() {
    let dir = TempDir::new().unwrap();
    let db = open(dir.path());
    let old = model(3, START..START + HOUR, 60_000);
    write_block(dir.path(), &old, START..START + 2 * HOUR).unwrap();
    assert!(read_all(&db).is_empty());
    db.maintain(0).unwrap();
    assert_eq!(read_all(&db), old);
    drop(db);
    let db = open(dir.path());
    let series = old.keys().next().unwrap();
    let mut appender = db.appender(1);
    assert!(appender.append(SeriesKey::Labels(series), START + HOUR, 1.0).is_err());
    assert!(appender.append(SeriesKey::Labels(series), START + 2 * HOUR, 1.0).is_ok());
}

#[test]
fn a_broken_block_does_not_keep_the_store_from_starting() {
    let dir = TempDir::new().unwrap();
    let good = model(3, START..START + HOUR, 60_000);
    write_block(dir.path(), &good, START..START + 2 * HOUR).unwrap();
    let bad = write_block(dir.path(), &model(1, START..START + HOUR, 60_000), START..START + HOUR).unwrap();
    std::fs::write(bad.join("chunks/000001"), b"rubbish").unwrap();
    let db = open(dir.path());
    assert_eq!(read_all(&db), good);
    let told = db.quarantined();
    assert!(told.values().all(|why| why.contains("wrong magic number")) && told.len() == 1, "{told:?}");
    let mut out = Exposition::default();
    db.expose(&mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    for line in [
        "ferula_tsdb_blocks_quarantined 1",
        "prometheus_tsdb_blocks_loaded 1",
        "prometheus_tsdb_clean_start 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    let families: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
    let unique: std::collections::BTreeSet<_> = families.iter().collect();
    assert_eq!(unique.len(), families.len(), "every family once");
}

#[test]
fn a_full_disk_loses_nothing_and_the_next_tick_goes_on() {
    let dir = TempDir::new().unwrap();
    let all = model(5, START..START + 4 * HOUR, 60_000);
    let db = open(dir.path());
    append(&db, &all, |_| true);
    crate::fs::fault::limit_bytes(dir.path(), 2000);
    assert!(db.maintain(0).is_err());
    assert!(db.blocks().is_empty());
    assert_eq!(read_all(&db), all);
    crate::fs::fault::heal(dir.path());
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(0, 2, 1)]);
    assert_eq!(read_all(&db), all);
    assert_eq!(db.maintenance.metrics.compactions_failed.get(), 1);
}

#[test]
fn retention_can_change_while_running() {
    let dir = TempDir::new().unwrap();
    for hours in [0, 2, 4] {
        let times = START + hours * HOUR..START + (hours + 2) * HOUR;
        write_block(dir.path(), &model(2, times.clone(), 600_000), times).unwrap();
    }
    let db = open(dir.path());
    assert_eq!(shapes(&db).len(), 3);
    db.set_retention(Retention { time: Some(Duration::from_hours(3)), ..Retention::default() });
    db.maintain(0).unwrap();
    assert_eq!(shapes(&db), [(2, 4, 1), (4, 6, 1)]);
}

/// What promtool reads from a directory with blocks, head chunks and a log is what we read.
#[test]
fn promtool_reads_the_whole_directory() {
    let Some(promtool) = peer("promtool", "promtool_reads_the_whole_directory") else { return };
    let dir = TempDir::new().unwrap();
    let all = model(9, START..START + 11 * HOUR, 30_000);
    let db = open(dir.path());
    for hour in 0..11 {
        append(&db, &all, |t| (t - START) / HOUR == hour);
        db.maintain(START).unwrap();
    }
    assert!(db.blocks().len() >= 2, "{:?}", shapes(&db));
    db.close().unwrap();
    let run = Command::new(promtool).args(["tsdb", "dump"]).arg(dir.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut dumped: BTreeMap<String, BTreeMap<i64, u64>> = BTreeMap::new();
    for line in String::from_utf8(run.stdout).unwrap().lines() {
        let (rest, t) = line.rsplit_once(' ').unwrap();
        let (labels, v) = rest.rsplit_once(' ').unwrap();
        let v: f64 = v.parse().unwrap();
        dumped.entry(labels.to_owned()).or_default().insert(t.parse().unwrap(), v.to_bits());
    }
    let expected: BTreeMap<String, BTreeMap<i64, u64>> =
        all.into_iter().map(|(labels, samples)| (labels.to_string(), samples)).collect();
    assert_eq!(dumped, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Random steps of appending, ticking, deleting, cleaning and reopening; any range read equals the map.
    #[test]
    fn equals_a_map(
        steps in proptest::collection::vec((0..7_u8, 1_i64..200), 1..18),
        mint in 0_i64..30, len in 0_i64..20,
    ) {
        let dir = TempDir::new().unwrap();
        let mut db = open(dir.path());
        let mut all = Model::new();
        let mut now = START;
        for (kind, minutes) in steps {
            match kind {
                0 | 1 => {
                    let n = i32::try_from(minutes % 5 + 1).unwrap();
                    let part = model(n, now..now + minutes * 60_000, 30_000 + usize::try_from(minutes).unwrap() * 7);
                    append(&db, &part, |_| true);
                    for (labels, samples) in part {
                        all.entry(labels).or_default().extend(samples);
                    }
                    now += minutes * 60_000;
                }
                2 => db.maintain(now).unwrap(),
                3 => {
                    let range = TimeRange::new(now - minutes * 90_000, now - minutes * 20_000);
                    let value = format!("pod-0000{}", minutes % 5);
                    let matcher = Matcher::new(MatchOp::Eq, "pod", &value).unwrap();
                    for (labels, samples) in &mut all {
                        if labels.get(b"pod") == Some(value.as_bytes()) {
                            samples.retain(|&t, _| !range.contains(t));
                        }
                    }
                    db.delete(range, &[matcher]).unwrap();
                }
                4 => db.clean_tombstones(now).unwrap(),
                _ => {
                    db.close().unwrap();
                    db = open(dir.path());
                }
            }
        }
        let range = TimeRange::new(START + mint * HOUR / 2, START + (mint + len) * HOUR / 2);
        for samples in all.values_mut() {
            samples.retain(|&t, _| range.contains(t));
        }
        all.retain(|_, samples| !samples.is_empty());
        let mut found: Model = read(&db, &[], range).into_iter().collect();
        found.retain(|_, samples| !samples.is_empty());
        prop_assert_eq!(found, all);
    }
}

/// We write, Prometheus serves it and is killed, we go on: nobody sees a sample less or more.
#[test]
fn prometheus_and_we_take_turns() {
    let Some(prometheus) = peer("prometheus", "prometheus_and_we_take_turns") else { return };
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let all = model(9, START..START + 11 * HOUR, 30_000);
    let db = open(&data);
    append(&db, &all, |t| t < START + 6 * HOUR);
    db.maintain(START).unwrap();
    append(&db, &all, |t| t >= START + 6 * HOUR);
    // As after a kill: the log is all there is of the newest hours.
    drop(db);

    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let (server, port) = serve(prometheus, &config, &data);
    let at = (START + 11 * HOUR) / 1000;
    let path = format!("/api/v1/query?query=sum(count_over_time(requests_total%5B12h%5D))&time={at}");
    let answer = get(port, &path).unwrap();
    drop(server);
    let samples = all.values().map(BTreeMap::len).sum::<usize>();
    assert!(answer.contains(&format!("\"{samples}\"")), "{samples} samples expected in {answer}");

    let db = open(&data);
    assert_eq!(db.clean_start, 0.0);
    assert!(db.quarantined().is_empty());
    assert_eq!(read_all(&db), all);
    db.maintain(START).unwrap();
    assert_eq!(read_all(&db), all);
}

/// Starts a server on `data` and waits until it is ready; returns its port, too.
fn serve(prometheus: std::path::PathBuf, config: &Path, data: &Path) -> (Killed, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.enable-admin-api", "--storage.tsdb.retention.time=10y"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let server = Killed(server);
    let started = std::time::Instant::now();
    let is_ready = || get(port, "/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.0 200"));
    while !is_ready() {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "prometheus does not become ready on our directory"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    (server, port)
}

/// A process that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The whole answer to a request, if there is one.
fn get(port: u16, path: &str) -> Option<String> {
    request(port, "GET", path)
}

fn request(port: u16, method: &str, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn every_owner_of_memory_tells_what_it_holds() {
    let dir = TempDir::new().unwrap();
    let db = open(dir.path());
    append(&db, &model(200, 0..3_600_000, 15_000), |_| true);
    let mut owners = BTreeMap::new();
    db.memory(&mut |owner, bytes| {
        owners.insert(owner, bytes);
    });
    for owner in ["series_lines", "open_chunks", "chunk_descriptors", "label_sets", "postings", "symbols"] {
        assert!(owners[owner] > 0, "{owner} of {owners:?}");
    }
    assert_eq!((owners["exemplars"], owners["block_index"]), (0, 0));
    assert!(owners.values().sum::<u64>() < 4 << 20, "{owners:?}");
}
