//! Samples that come late, from the head to blocks and from server to server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use model::{Histogram, Value};

use super::*;
use crate::block::meta::HINT_OUT_OF_ORDER;

const MINUTE: i64 = 60_000;

fn open_with(dir: &Path, window: Duration) -> Db {
    let options = Options { out_of_order_window: window, ..Options::default() };
    Db::open(dir, &options, &ReplayProgress::default()).unwrap()
}

fn name(i: usize) -> Labels {
    labels(&[("__name__", "late"), ("i", &i.to_string())])
}

/// A value that tells series and time, so that it does not matter which of two equal samples is kept.
fn value(i: usize, t: i64) -> f64 {
    (t / 7) as f64 + i as f64 / 8.0
}

/// Appends each sample in a batch of its own; notes what was accepted.
fn offer(db: &Db, samples: impl IntoIterator<Item = (usize, i64)>, all: &mut Model) -> usize {
    let mut accepted = 0;
    for (i, t) in samples {
        let mut appender = db.appender(1);
        if appender.append(SeriesKey::Labels(&name(i)), t, value(i, t)).is_ok() {
            all.entry(name(i)).or_default().insert(t, value(i, t).to_bits());
            accepted += 1;
        }
        appender.commit().unwrap();
    }
    accepted
}

#[test]
fn late_samples_become_blocks_that_merge_with_the_others() {
    let dir = TempDir::new().unwrap();
    let db = open_with(dir.path(), Duration::from_hours(5));
    let mut all = Model::new();
    offer(
        &db,
        (0..7 * 60).step_by(2).flat_map(|m| [(0, START + m * MINUTE), (1, START + m * MINUTE)]),
        &mut all,
    );
    let late = (1..7 * 60).step_by(2).flat_map(|m| [(1, START + m * MINUTE), (2, START + m * MINUTE)]);
    let n = offer(&db, late.collect::<Vec<_>>().into_iter().rev(), &mut all);
    assert_eq!(n, 2 * 151, "five hours back from the newest, which is two minutes before the seventh");
    assert_eq!(read_all(&db), all);
    // Late samples before the head's first in-order one are asked for, too.
    let early = TimeRange::new(START + 2 * HOUR, START + 3 * HOUR);
    let expected_early = read(&db, &[], early);
    let reader = db.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();

    db.maintain(START).unwrap();
    assert_eq!(read_all(&db), all);
    assert_eq!(collect(reader.as_ref(), TimeRange::ALL).into_iter().collect::<Model>(), all);
    assert_eq!(read(&db, &[], early), expected_early);
    assert_eq!(db.head.late_times(), None, "all in blocks");
    // Blocks of the same time were merged at once; those of late samples alone wait for the others.
    let blocks: Vec<_> = db
        .blocks()
        .iter()
        .map(|meta| ((meta.min_time - START) / HOUR, (meta.max_time - START) / HOUR, meta.is_in_order()))
        .collect();
    assert_eq!(blocks, [(0, 2, true), (2, 4, true), (4, 6, false), (6, 8, false)]);
    assert_eq!(db.head.min_valid_time(), START + 4 * HOUR);
    let late_block = db.blocks().pop().unwrap().compaction;
    assert_eq!(
        (late_block.level, late_block.hints.as_slice()),
        (1, [HINT_OUT_OF_ORDER.to_owned()].as_slice())
    );
    assert!(late_block.parents.len() == 1 && late_block.parents[0].ulid.to_string() == "0".repeat(26));
    drop(db);
    let db = open_with(dir.path(), Duration::ZERO);
    assert_eq!(db.head.min_valid_time(), START + 4 * HOUR);
    assert_eq!(read_all(&db), all);
}

#[test]
fn a_full_disk_keeps_late_samples_in_memory_and_the_next_tick_goes_on() {
    let dir = TempDir::new().unwrap();
    let db = open_with(dir.path(), Duration::from_hours(9));
    let mut all = Model::new();
    offer(&db, (0..16).map(|m| (0, START + m * 15 * MINUTE)), &mut all);
    offer(&db, (0..200).map(|m| (1, START + m * MINUTE + 1)), &mut all);
    // Enough for the block in order and the first of the two late ones.
    crate::fs::fault::limit_bytes(dir.path(), 3200);
    let failed = db.maintain(START).unwrap_err();
    crate::fs::fault::heal(dir.path());
    assert!(failed.to_string().contains("no storage space"), "{failed}");
    assert_eq!(shapes(&db), [(0, 2, 1)], "the head went out, late samples did not");
    assert_eq!(read_all(&db), all);
    db.maintain(START).unwrap();
    assert_eq!(read_all(&db), all);
    assert_eq!((db.head.late_times(), shapes(&db)), (None, vec![(0, 2, 2), (2, 4, 1)]));
}

#[derive(Clone, Debug)]
enum Step {
    InOrder { minutes: i64, n: usize },
    Late(Vec<(usize, i64)>),
    Maintain,
    Window(u64),
    Reopen { is_clean: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let late = proptest::collection::vec((0..6_usize, 0..8 * HOUR), 1..80);
    let step = prop_oneof![
        4 => (1_i64..200, 1..5_usize).prop_map(|(minutes, n)| Step::InOrder { minutes, n }),
        6 => late.prop_map(Step::Late),
        3 => Just(Step::Maintain),
        1 => prop_oneof![Just(0), Just(30), Just(120), Just(500)].prop_map(Step::Window),
        2 => any::<bool>().prop_map(|is_clean| Step::Reopen { is_clean }),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Random steps of all that can happen to late samples; what was accepted is what is read, over any range.
    #[test]
    fn with_late_samples_it_equals_a_map(steps in steps(), mint in 0_i64..30, len in 0_i64..20) {
        let dir = TempDir::new().unwrap();
        let mut window = Duration::from_hours(5);
        let mut db = open_with(dir.path(), window);
        let mut all = Model::new();
        let mut now = START;
        for step in steps {
            match step {
                Step::InOrder { minutes, n } => {
                    let until = now + minutes * MINUTE;
                    let times = (now..until).step_by(3 * 60_000);
                    offer(&db, times.flat_map(|t| (0..n).map(move |i| (i, t))), &mut all);
                    now = until;
                }
                Step::Late(samples) => {
                    offer(&db, samples.into_iter().map(|(i, ago)| (i, now - ago)), &mut all);
                }
                Step::Maintain => db.maintain(now).unwrap(),
                Step::Window(minutes) => {
                    window = Duration::from_mins(minutes);
                    db.set_out_of_order_window(window).unwrap();
                }
                Step::Reopen { is_clean } => {
                    if is_clean {
                        db.close().unwrap();
                    }
                    drop(db);
                    db = open_with(dir.path(), window);
                }
            }
            let found = read_all(&db);
            let differs = |a: &Model, b: &Model| {
                let lacks = |labels: &Labels, t: &i64| b.get(labels).is_none_or(|samples| !samples.contains_key(t));
                let pairs = a.iter().flat_map(|(labels, samples)| samples.keys().map(move |t| (labels, t)));
                pairs.filter(|(labels, t)| lacks(labels, t)).map(|(l, t)| (l.clone(), t - START)).collect::<Vec<_>>()
            };
            prop_assert!(found == all, "missing {:?} extra {:?}", differs(&all, &found), differs(&found, &all));
        }
        let range = TimeRange::new(START + (mint - 8) * HOUR / 2, START + (mint - 8 + len) * HOUR / 2);
        for samples in all.values_mut() {
            samples.retain(|&t, _| range.contains(t));
        }
        all.retain(|_, samples| !samples.is_empty());
        let mut found: Model = read(&db, &[], range).into_iter().collect();
        found.retain(|_, samples| !samples.is_empty());
        prop_assert_eq!(found, all);
    }
}

// === with the real server ===

/// Serves one body after the other to whoever scrapes; the last one is empty and stays.
struct Target {
    port: u16,
    n_served: Arc<AtomicUsize>,
}

impl Target {
    fn start(bodies: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let n_served = Arc::new(AtomicUsize::new(0));
        let served = Arc::clone(&n_served);
        // Ends with the process of the tests: a thread that waits for a connection costs nothing.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let body = bodies.get(served.load(Relaxed)).map_or("", String::as_str);
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
                served.fetch_add(1, Relaxed);
            }
        });
        Self { port, n_served }
    }
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(prometheus: &Path, data: &Path, target: Option<&Target>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = data.with_extension("yml");
        let scrapes = target.map_or("[]".to_owned(), |target| {
            format!(
                "[{{job_name: scripted, scrape_interval: 100ms, scrape_timeout: 100ms, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]",
                target.port
            )
        });
        let yaml =
            format!("scrape_configs: {scrapes}\nstorage: {{tsdb: {{out_of_order_time_window: 1d}}}}\n");
        std::fs::write(&config, yaml).unwrap();
        let child = Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        server.wait(|server| get(server.port, "/-/ready").is_some_and(|it| it.starts_with("HTTP/1.0 200")));
        server
    }

    fn wait(&self, mut is_done: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !is_done(self) {
            assert!(started.elapsed() < Duration::from_mins(1), "the server does not get there");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(mut self, is_clean: bool) {
        if is_clean {
            let pid = self.child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        } else {
            self.child.kill().unwrap();
        }
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Text of labels and time to value; NaNs are all alike in promtool's output.
type Dump = BTreeMap<(String, i64), u64>;

fn promtool_dump(promtool: &Path, data: &Path) -> Dump {
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let copy = data.with_extension(format!("copy{}", COPIES.fetch_add(1, Relaxed)));
    assert!(Command::new("cp").arg("-r").args([data, &copy]).status().unwrap().success());
    let output = Command::new(promtool).args(["tsdb", "dump"]).arg(&copy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| {
        let (rest, t) = line.rsplit_once(' ').unwrap();
        let (labels, v) = rest.rsplit_once(' ').unwrap();
        let v: f64 = v.parse().unwrap();
        ((labels.to_owned(), t.parse().unwrap()), if v.is_nan() { 1 } else { v.to_bits() })
    };
    text.lines().map(parse).collect()
}

fn own_dump(db: &Db) -> Dump {
    let mut all = Dump::new();
    for (labels, samples) in read_all(db) {
        let labels = labels.to_string();
        all.extend(
            samples
                .into_iter()
                .map(|(t, v)| ((labels.clone(), t), if f64::from_bits(v).is_nan() { 1 } else { v })),
        );
    }
    all
}

#[track_caller]
fn assert_same(found: &Dump, expected: &Dump) {
    let missing: Vec<_> = expected.iter().filter(|(key, v)| found.get(key) != Some(v)).take(5).collect();
    let extra: Vec<_> = found.iter().filter(|(key, v)| expected.get(key) != Some(v)).take(5).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}\nextra {extra:?}");
}

fn peers(test: &str) -> Option<(PathBuf, PathBuf)> {
    Some((peer("prometheus", test)?, peer("promtool", test)?))
}

/// What the server took late is what we read, after a kill and after a clean stop; then the other way round.
#[test]
fn late_samples_pass_between_prometheus_and_us() {
    let test = "late_samples_pass_between_prometheus_and_us";
    let Some((prometheus, promtool)) = peers(test) else { return };
    for is_clean in [false, true] {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let mut expected = BTreeMap::new();
        // First the newest, then later and later ones: five to a scrape and series, every third time in reverse.
        let bodies: Vec<String> = (0..24_i64)
            .map(|round| {
                let mut body = Vec::new();
                for k in 0..5_i64 {
                    let at = if round % 3 == 0 { 4 - k } else { k };
                    for i in 0..3_i64 {
                        let t = if round == 0 {
                            now - 1000
                        } else {
                            now - round * MINUTE * 17 + at * 1000 * (i + 1)
                        };
                        if round == 0 && k > 0 {
                            continue;
                        }
                        let v = (t % 1000 + i) as f64 / 8.0;
                        writeln!(body, "late_metric{{i=\"{i}\"}} {v} {t}").unwrap();
                        expected.insert((i, t), v.to_bits());
                    }
                }
                String::from_utf8(body).unwrap()
            })
            .collect();
        let n_bodies = bodies.len();
        let target = Target::start(bodies);
        let server = Server::start(&prometheus, &data, Some(&target));
        server.wait(|_| target.n_served.load(Relaxed) > n_bodies);
        server.stop(is_clean);
        let theirs = promtool_dump(&promtool, &data);
        let late = |dump: &Dump| dump.keys().filter(|(labels, _)| labels.contains("late_metric")).count();
        assert_eq!(late(&theirs), expected.len());
        let window = Duration::from_hours(24);
        let db = open_with(&data, window);
        assert_same(&own_dump(&db), &theirs);

        // And back: more late samples of ours, a kill, and the server reads the common directory.
        let mut own = Model::new();
        let newest = db.head().max_time();
        offer(&db, [(7, newest + 10)], &mut own);
        let n = offer(&db, (1..100).map(|k| (7, newest - k * 61_000)), &mut own);
        assert_eq!(n, 99);
        let ours = own_dump(&db);
        assert_eq!(ours.len(), theirs.len() + 100);
        if is_clean {
            db.close().unwrap();
        }
        drop(db);
        assert_same(&promtool_dump(&promtool, &data), &ours);
        let server = Server::start(&prometheus, &data, None);
        let at = (newest + 2000) / 1000;
        let query = format!("/api/v1/query?query=sum(count_over_time(late%5B1d%5D))&time={at}");
        let answer = get(server.port, &query).unwrap();
        assert!(answer.contains("\"100\""), "{answer}");
        server.stop(is_clean);
        let db = open_with(&data, window);
        assert_same(&own_dump(&db), &ours);

        // Into blocks, which it reads as well.
        db.flush_late(newest).unwrap();
        assert_eq!(db.head.late_times(), None);
        assert!(db.blocks().len() > 2 && db.blocks().iter().all(|meta| !meta.is_in_order()));
        assert_same(&own_dump(&db), &ours);
        db.maintenance.compact_blocks(newest, || false).unwrap();
        assert_same(&own_dump(&db), &ours);
        db.close().unwrap();
        drop(db);
        // Not with promtool: where late samples reach, it takes blocks for all there is.
        let server = Server::start(&prometheus, &data, None);
        for (metric, n) in [("late", 100), ("late_metric", expected.len())] {
            let query = format!("/api/v1/query?query=sum(count_over_time({metric}%5B1d%5D))&time={at}");
            let answer = get(server.port, &query).unwrap();
            assert!(answer.contains(&format!("\"{n}\"")), "{n} samples of {metric}: {answer}");
        }
        drop(server);
        println!(
            "{test}: {} samples of theirs, {} of ours are equal",
            theirs.len(),
            ours.len() - theirs.len()
        );
    }
}

/// Histograms of ours, some in order and more late, sealed and not, are what the server sums up.
#[test]
fn late_histograms_are_what_prometheus_reads() {
    let test = "late_histograms_are_what_prometheus_reads";
    let Some(prometheus) = peer("prometheus", test) else { return };
    for is_clean in [false, true] {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let db = open_with(&data, Duration::from_hours(24));
        let (name, mut sum) = (labels(&[("__name__", "hist")]), 0);
        let times = [now - HOUR, now].into_iter().chain((1..=75).map(|k| now - k * 41_000));
        for (count, t) in (3_u64..).zip(times) {
            let histogram = Histogram { count, zero_count: count, sum: 2.0, ..Histogram::default() };
            let mut appender = db.appender(1);
            appender.append_value(SeriesKey::Labels(&name), 0, t, Value::Histogram(&histogram)).unwrap();
            appender.commit().unwrap();
            sum += count;
        }
        if is_clean {
            db.close().unwrap();
        }
        drop(db);
        let server = Server::start(&prometheus, &data, None);
        for (query, wanted) in
            [("count_over_time(hist%5B1d%5D)", 77), ("histogram_count(sum_over_time(hist%5B1d%5D))", sum)]
        {
            let path = format!("/api/v1/query?query={query}&time={}", now / 1000 + 1);
            let answer = get(server.port, &path).unwrap();
            assert!(answer.contains(&format!("\"{wanted}\"]")), "{query} is {wanted}: {answer}");
        }
        server.stop(is_clean);
    }
}
