//! Against the real server: what it wrote before a kill -9 is what we read, what we wrote is what it reads.
//!
//! Needs `prometheus` and `promtool` in `bin` below the folder that `FERULA_PEERS` names (default
//! `~/.cache/ferula-peers`); without them each test says so and passes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::compact::testing::peer;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(prometheus: &Path, config: &Path, data: &Path) -> Self {
        Self::start_with(prometheus, config, data, &[])
    }

    fn start_with(prometheus: &Path, config: &Path, data: &Path, flags: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let yaml = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
        );
        crate::fs::write(config, yaml.as_bytes()).unwrap();
        let child = Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        let started = Instant::now();
        while !server.get("/-/ready").contains("200 OK") {
            assert!(started.elapsed() < Duration::from_mins(1), "the server does not get ready");
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }
}

impl Server {
    /// As a user stops it.
    fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL, on purpose.
        // One that was stopped is gone already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// It scrapes itself some seconds after it is ready; every scrape brings some 500 samples.
fn wait_for_samples(server: &Server) {
    let started = Instant::now();
    while !server
        .get("/api/v1/query?query=prometheus_tsdb_head_samples_appended_total%3E3000")
        .contains("\"value\"")
    {
        assert!(started.elapsed() < Duration::from_mins(1), "the server does not scrape itself");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Text of labels and time to value; NaNs are all alike in promtool's output.
type Dump = BTreeMap<(String, i64), u64>;

fn promtool_dump(promtool: &Path, data: &Path) -> Dump {
    let output = Command::new(promtool).args(["tsdb", "dump"]).arg(data).output().unwrap();
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

fn own_dump(head: &Head) -> Dump {
    let mut all = Dump::new();
    for (labels, samples) in select(head, TimeRange::ALL, &[]) {
        for (t, v) in samples {
            all.insert((labels.to_string(), t), if f64::from_bits(v).is_nan() { 1 } else { v });
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

#[test]
fn what_a_killed_server_wrote_is_what_we_read() {
    let test = "what_a_killed_server_wrote_is_what_we_read";
    let (Some(prometheus), Some(promtool)) = (peer("prometheus", test), peer("promtool", test)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let seconds = std::env::var("FERULA_PEERS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let server = Server::start(&prometheus, &dir.path().join("prometheus.yml"), &data);
    wait_for_samples(&server);
    std::thread::sleep(Duration::from_secs(seconds));
    drop(server);
    let theirs = dir.path().join("theirs");
    copy(&data, &theirs);
    let expected = promtool_dump(&promtool, &theirs);
    assert!(expected.len() > 1000, "{} samples", expected.len());
    let head = open(&data);
    let found = own_dump(&head);
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "the samples differ");
    println!("{test}: {} samples of {} series are equal", found.len(), head.n_series());
    // And back: we go on writing, and the tool reads the common directory.
    append(&head, &[(1, head.max_time() + 1, 5.0)]);
    let extended = own_dump(&head);
    drop(head);
    assert!(promtool_dump(&promtool, &data) == extended, "the samples differ on the way back");
}

#[test]
fn what_we_wrote_is_what_the_server_reads() {
    let test = "what_we_wrote_is_what_the_server_reads";
    let (Some(prometheus), Some(promtool)) = (peer("prometheus", test), peer("promtool", test)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let head = open(&data);
    let mut rng = fastrand::Rng::with_seed(9);
    let t0 = 1_700_000_000_000_i64;
    let mut fill = |from: i64, to: i64| {
        for i in from..to {
            let samples: Vec<_> = (0..30)
                .map(|n| (n, t0 + i * 15_000, if n % 2 == 0 { rng.f64() } else { (i / 3) as f64 }))
                .collect();
            append(&head, &samples);
            if i % 100 == 0 {
                head.0.wal.read().as_ref().unwrap().roll().unwrap();
            }
        }
    };
    fill(0, 700);
    // No close: as after a kill -9.
    let copied = dir.path().join("copied");
    copy(&data, &copied);
    assert!(promtool_dump(&promtool, &copied) == own_dump(&head), "the samples differ");
    // With a checkpoint; samples before the cut may remain in their log but not in ours.
    let mint = t0 + 300 * 15_000;
    head.truncate(mint).unwrap();
    assert_eq!(segment_checkpoints(&data).len(), 1);
    fill(700, 800);
    let copied = dir.path().join("copied-again");
    copy(&data, &copied);
    let recent = |dump: Dump| dump.into_iter().filter(|((_, t), _)| *t >= mint).collect::<Dump>();
    let ours = recent(own_dump(&head));
    assert!(recent(promtool_dump(&promtool, &copied)) == ours, "the samples differ after a truncation");
    let server = Server::start(&prometheus, &dir.path().join("prometheus.yml"), &copied);
    let t = (t0 + 799 * 15_000) / 1000;
    let answer =
        server.get(&format!("/api/v1/query?query=count(count_over_time(m%5B1h%5D)%3D%3D240)&time={t}"));
    assert!(answer.contains(r#""30"]"#), "{answer}");
    println!("{test}: {} samples are equal", ours.len());
}

fn segment_checkpoints(data: &Path) -> Vec<u64> {
    crate::wal::segment::checkpoints(&data.join("wal")).unwrap()
}

/// Count, sum and the counts of buckets that are not empty; of a float its value.
type Numbers = Vec<u64>;

/// What the server answers for a range selector, by series and time.
fn server_values(server: &Server, t: i64) -> BTreeMap<(String, i64), Numbers> {
    let answer = server.get(&format!("/api/v1/query?query=m%5B5h%5D&time={}", t / 1000));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    // Chunked transfer puts sizes on lines of their own.
    let joined: String = body.split("\r\n").step_by(2).collect();
    let json: serde_json::Value = serde_json::from_str(&joined).unwrap();
    let number = |v: &serde_json::Value| v.as_str().unwrap().parse::<f64>().unwrap().to_bits();
    #[expect(clippy::cast_possible_truncation, reason = "times that the test made")]
    let millis = |v: &serde_json::Value| (v.as_f64().unwrap() * 1000.0).round() as i64;
    let none = Vec::new();
    let mut all = BTreeMap::new();
    for series in json["data"]["result"].as_array().unwrap() {
        let n = series["metric"]["n"].as_str().unwrap();
        for point in series["values"].as_array().unwrap_or(&none) {
            all.insert((n.to_owned(), millis(&point[0])), vec![number(&point[1])]);
        }
        for point in series["histograms"].as_array().unwrap_or(&none) {
            let it = &point[1];
            let buckets = it["buckets"].as_array().unwrap_or(&none).iter().map(|bucket| number(&bucket[3]));
            let numbers = [number(&it["count"]), number(&it["sum"])].into_iter().chain(buckets).collect();
            all.insert((n.to_owned(), millis(&point[0])), numbers);
        }
    }
    all
}

/// As [`server_values`]; markers are not shown.
fn own_values(head: &Head) -> BTreeMap<(String, i64), Numbers> {
    let set = head.querier(TimeRange::ALL).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut all = BTreeMap::new();
    for i in 0..set.len() {
        let mut out = SampleBatch::default();
        set.samples_into(i, TimeRange::ALL, &mut out).unwrap();
        let n = String::from_utf8(set.labels(i).get(b"n").unwrap().to_vec()).unwrap();
        let floats = out.iter().filter(|sample| !model::is_stale(sample.v));
        all.extend(floats.map(|sample| ((n.clone(), sample.t), vec![sample.v.to_bits()])));
        for sample in out.histograms.iter().filter(|sample| !sample.histogram.is_stale()) {
            let it = match &sample.histogram {
                model::AnyHistogram::Int(it) => it.to_float(),
                model::AnyHistogram::Float(it) => (**it).clone(),
            };
            let buckets = [it.zero_count].into_iter().chain(it.positive_buckets).filter(|&n| n > 0.0);
            let numbers = [it.count, it.sum].into_iter().chain(buckets).map(f64::to_bits).collect();
            all.insert((n.clone(), sample.t), numbers);
        }
    }
    all
}

#[test]
fn the_histograms_we_wrote_are_what_the_server_reads() {
    let test = "the_histograms_we_wrote_are_what_the_server_reads";
    let Some(prometheus) = peer("prometheus", test) else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let features = Features { max_exemplars: 100, logs_metadata: true, ..Features::default() };
    let with = Options { features, ..options() };
    let head = Head::open(&data, with, i64::MIN, &ReplayProgress::default()).unwrap();
    let t0 = 1_700_000_000_000_i64;
    let mut rng = fastrand::Rng::with_seed(5);
    let mut feeds: Vec<values::Feed> = (0..12).map(values::Feed::new).collect();
    for i in 0..900_i64 {
        let t = t0 + i * 15_000;
        let mut batch = head.batch(1);
        for (n, feed) in feeds.iter_mut().enumerate() {
            let own = feed.next(&mut rng);
            let it = batch.append_value(SeriesKey::Labels(&series(n)), 0, t, own.value()).unwrap();
            if i % 100 == 0 {
                let exemplar =
                    model::Exemplar { labels: labels(&[("trace", "x")]), v: 1.0, t, has_own_t: true };
                batch.append_exemplar(it, &exemplar).unwrap();
                let help = format!("help {i}").into();
                let metadata = model::storage::Metadata { help, ..Default::default() };
                batch.update_metadata(it, &metadata).unwrap();
            }
        }
        batch.commit().unwrap();
        if i % 100 == 0 {
            head.0.wal.read().as_ref().unwrap().roll().unwrap();
        }
    }
    let ours = own_values(&head);
    let n_histograms = ours.values().filter(|numbers| numbers.len() > 1).count();
    assert!(n_histograms > 6000 && ours.len() > 12 * 850, "{n_histograms} of {}", ours.len());
    // No close: as after a kill -9. With chunks in files of ours, and from the log alone.
    for (name, has_chunks) in [("copied", true), ("log-only", false)] {
        let copied = dir.path().join(name);
        copy(&data, &copied);
        if !has_chunks {
            let chunks = copied.join("chunks_head");
            let files = crate::fs::list(&chunks).unwrap();
            for file in files {
                crate::fs::remove_file(&chunks.join(file)).unwrap();
            }
        }
        let server = Server::start(&prometheus, &dir.path().join("prometheus.yml"), &copied);
        let theirs = server_values(&server, t0 + 899 * 15_000);
        assert_eq!(theirs.len(), ours.len(), "{name}");
        for ((key, theirs), ours) in theirs.iter().zip(&ours) {
            assert_eq!((key, theirs), ours, "{name}");
        }
    }
    println!("{test}: {} samples, {n_histograms} of them histograms, are equal", ours.len());
}

const SNAPSHOTS: &str = "--enable-feature=memory-snapshot-on-shutdown,exemplar-storage";

fn open_snapshots(dir: &Path) -> Head {
    let features = Features { snapshots_at_close: true, max_exemplars: 1000, ..Features::default() };
    Head::open(dir, Options { features, ..options() }, i64::MIN, &ReplayProgress::default()).unwrap()
}

#[test]
fn the_snapshot_that_a_server_left_is_what_we_read() {
    let test = "the_snapshot_that_a_server_left_is_what_we_read";
    let (Some(prometheus), Some(promtool)) = (peer("prometheus", test), peer("promtool", test)) else {
        return;
    };
    for compression in
        ["--storage.tsdb.wal-compression-type=snappy", "--storage.tsdb.wal-compression-type=zstd"]
    {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let config = dir.path().join("prometheus.yml");
        let server = Server::start_with(&prometheus, &config, &data, &[SNAPSHOTS, compression]);
        wait_for_samples(&server);
        server.stop();
        let theirs = dir.path().join("theirs");
        copy(&data, &theirs);
        let expected = promtool_dump(&promtool, &theirs);
        let head = open_snapshots(&data);
        assert!(head.0.metrics.snapshot_series.get() > 100.0, "the snapshot was not used");
        let found = own_dump(&head);
        assert!(found == expected, "the samples differ: {} and {}", found.len(), expected.len());
        drop(head);
        // And without it the whole log, in either compression.
        let head = open(&theirs);
        assert_eq!(head.0.metrics.log_corruptions.get(), 0);
        assert!(own_dump(&head) == expected, "the samples of the log differ");
        println!("{test}: {} samples of {} series are equal, {compression}", found.len(), head.n_series());
    }
}

#[test]
fn the_snapshot_that_we_left_is_what_a_server_reads() {
    let test = "the_snapshot_that_we_left_is_what_a_server_reads";
    let Some(prometheus) = peer("prometheus", test) else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let head = open_snapshots(&data);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let histogram = super::values::int(&(0..4).map(|index| (index, 9)).collect());
    for round in 0..200_i64 {
        let t = now - 900_000 + round * 4_000;
        let mut batch = head.batch(1);
        for n in 0..10 {
            batch.append(SeriesKey::Labels(&series(n)), t, round as f64).unwrap();
        }
        batch
            .append_value(SeriesKey::Labels(&series(10)), 0, t, model::Value::Histogram(&histogram))
            .unwrap();
        batch.commit().unwrap();
    }
    // The log is cut short, so that what is found can only come from the snapshot and the mapped chunks.
    head.0.wal.read().as_ref().unwrap().roll().unwrap();
    append(&head, &[(0, now - 50_000, 1.0)]);
    head.close().unwrap();
    drop(head);
    let first = wal::segment::path(&data.join("wal"), 0);
    crate::fs::remove_file(&first).unwrap();
    crate::fs::write(&first, b"").unwrap();
    let server = Server::start_with(&prometheus, &dir.path().join("prometheus.yml"), &data, &[SNAPSHOTS]);
    let metrics = server.get("/metrics");
    assert!(metrics.contains("prometheus_tsdb_snapshot_replay_error_total 0"), "{metrics}");
    let answer = server.get("/api/v1/query?query=sum(count_over_time(m%5B20m%5D))");
    assert!(answer.contains("\"2201\""), "{answer}");
    let answer =
        server.get("/api/v1/query?query=histogram_count(last_over_time(m%7Bn%3D%2210%22%7D%5B20m%5D))");
    assert!(answer.contains("\"38\""), "{answer}");
}
