//! The whole walk against scripted targets over loopback and a store in memory.
//!
//! Time is tokio's, paused: it moves by itself when nothing else can happen, so hours pass at once.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::TargetGroup;
use model::storage::{
    AppendError, Appendable, Appender, Error as StorageError, Metadata, SeriesKey, SeriesRef,
};
use model::wire::expose::{Expose as _, Exposition};
use model::wire::parse::MetricType;
use model::{AnyHistogram, Exemplar, Labels, Timestamp, Value, is_stale};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::discovery::TargetSets;

mod histograms;

const BASE: Timestamp = 1_700_000_000_000;

/// The wall as tokio's clock shows it.
struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        BASE + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// A store in memory with the rules of the real one.
#[derive(Default)]
pub(super) struct Store {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    refs: HashMap<Labels, NonZeroU64>,
    series: Vec<(Labels, Vec<(Timestamp, f64)>)>,
    n_commits: usize,
    /// The names of the threads that committed.
    threads: BTreeSet<String>,
    /// Refs below it are forgotten.
    forgotten: u64,
    /// Series and exemplar as text.
    exemplars: Vec<(String, String)>,
    refuses_exemplars: bool,
    n_exemplars_asked: usize,
    /// Series and what was told of it.
    metadata: Vec<(String, Metadata)>,
    /// Series and since when its newest sample counts.
    starts: HashMap<String, Timestamp>,
    /// Series and histogram; among the samples it stands as the number of its observations.
    histograms: Vec<(String, AnyHistogram)>,
}

impl Store {
    /// The values of a series as text, `stale` for its marks.
    pub(super) fn values(&self, series: &str) -> Vec<String> {
        let inner = self.inner.lock();
        let mut all: Vec<&(Timestamp, f64)> = inner
            .series
            .iter()
            .filter(|(labels, _)| labels.to_string() == series)
            .flat_map(|(_, s)| s)
            .collect();
        all.sort_by_key(|(t, _)| *t);
        all.iter().map(|(_, v)| if is_stale(*v) { "stale".to_owned() } else { v.to_string() }).collect()
    }

    fn times(&self, series: &str) -> Vec<Timestamp> {
        let inner = self.inner.lock();
        let found = inner.series.iter().filter(|(labels, _)| labels.to_string() == series);
        found.flat_map(|(_, samples)| samples.iter().map(|(t, _)| *t)).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.inner.lock().series.iter().map(|(labels, _)| labels.to_string()).collect();
        names.sort();
        names
    }

    fn forget(&self) {
        let mut inner = self.inner.lock();
        inner.refs.clear();
        inner.forgotten = inner.series.len() as u64;
    }
}

struct Batch<'a> {
    store: &'a Store,
    pending: Vec<(SeriesRef, Timestamp, f64)>,
    exemplars: Vec<(SeriesRef, Exemplar)>,
    metadata: Vec<(SeriesRef, Metadata)>,
    starts: Vec<(SeriesRef, Timestamp)>,
    histograms: Vec<(SeriesRef, AnyHistogram)>,
}

impl Appendable for Store {
    fn appender(&self, _affinity: u64) -> Box<dyn Appender + '_> {
        Box::new(Batch {
            store: self,
            pending: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            starts: Vec::new(),
            histograms: Vec::new(),
        })
    }
}

impl Appender for Batch<'_> {
    fn append(&mut self, key: SeriesKey<'_>, t: Timestamp, v: f64) -> Result<SeriesRef, AppendError> {
        let mut inner = self.store.inner.lock();
        let series = match key {
            SeriesKey::Ref(series) if series.0.get() <= inner.forgotten => {
                return Err(AppendError::UnknownSeries);
            }
            SeriesKey::Ref(series) => series,
            SeriesKey::Labels(labels) => {
                let next = NonZeroU64::new(inner.series.len() as u64 + 1).unwrap();
                let known = *inner.refs.entry(labels.clone()).or_insert(next);
                if known == next {
                    inner.series.push((labels.clone(), Vec::new()));
                }
                SeriesRef(known)
            }
        };
        let samples = &inner.series[usize::try_from(series.0.get()).unwrap() - 1].1;
        let pending = self.pending.iter().rev().find(|p| p.0 == series).map(|p| (p.1, p.2));
        if let Some((last, value)) = pending.or(samples.last().copied()) {
            if t < last {
                return Err(AppendError::OutOfOrder);
            }
            if t == last {
                return if v.to_bits() == value.to_bits() { Ok(series) } else { Err(AppendError::Duplicate) };
            }
        }
        self.pending.push((series, t, v));
        Ok(series)
    }

    fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        st: i64,
        t: i64,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        let (v, histogram) = match value {
            Value::Float(v) => (v, None),
            Value::Histogram(it) => {
                it.validate()?;
                (it.count as f64, Some(AnyHistogram::Int(Box::new(it.clone()))))
            }
            Value::FloatHistogram(it) => {
                it.validate()?;
                (it.count, Some(AnyHistogram::Float(Box::new(it.clone()))))
            }
        };
        let series = self.append(key, t, v)?;
        self.starts.push((series, st));
        self.histograms.extend(histogram.map(|histogram| (series, histogram)));
        Ok(series)
    }

    fn append_exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        let mut inner = self.store.inner.lock();
        inner.n_exemplars_asked += 1;
        if inner.refuses_exemplars {
            return Err(AppendError::ExemplarsDisabled);
        }
        if exemplar.v < 0.0 {
            return Err(AppendError::ExemplarOutOfOrder);
        }
        self.exemplars.push((series, exemplar.clone()));
        Ok(())
    }

    fn update_metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        self.metadata.push((series, metadata.clone()));
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        let mut inner = self.store.inner.lock();
        inner.n_commits += 1;
        inner.threads.insert(std::thread::current().name().unwrap_or_default().to_owned());
        for (series, t, v) in self.pending {
            inner.series[usize::try_from(series.0.get()).unwrap() - 1].1.push((t, v));
        }
        let inner = &mut *inner;
        let name =
            |series: SeriesRef| inner.series[usize::try_from(series.0.get()).unwrap() - 1].0.to_string();
        for (series, it) in self.exemplars {
            inner.exemplars.push((name(series), format!("{} {} {}", it.labels, it.v, it.t)));
        }
        inner.metadata.extend(self.metadata.into_iter().map(|(series, it)| (name(series), it)));
        inner.histograms.extend(self.histograms.into_iter().map(|(series, it)| (name(series), it)));
        inner.starts.extend(self.starts.into_iter().map(|(series, st)| (name(series), st)));
        Ok(())
    }
}

/// What a scripted target does with one request.
#[derive(Clone)]
enum Reply {
    Text(String),
    Raw(Vec<u8>),
    /// Headers at once, then a byte now and then, without end.
    Drip,
    /// As fast as it can, without end.
    Endless,
    Silence,
    Hangup,
}

fn text(body: &str) -> Reply {
    Reply::Text(body.to_owned())
}

fn raw(status: &str, headers: &str, body: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Reply::Raw([head.as_bytes(), body].concat())
}

/// A target that answers by a script, the last reply over and over.
struct Scripted {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<String>,
    n_connections: usize,
}

impl Scripted {
    async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                shared.lock().n_connections += 1;
                let (shared, script) = (Arc::clone(&shared), script.clone());
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while let Ok(byte) = socket.read_u8().await {
                        request.push(byte);
                        if !request.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let n = {
                            let mut seen = shared.lock();
                            seen.requests.push(String::from_utf8(std::mem::take(&mut request)).unwrap());
                            seen.requests.len() - 1
                        };
                        let endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
                        let bytes = match script[n.min(script.len() - 1)].clone() {
                            Reply::Text(body) => {
                                let Reply::Raw(bytes) = raw(
                                    "200 OK",
                                    "Content-Type: text/plain; version=0.0.4\r\n",
                                    body.as_bytes(),
                                ) else {
                                    unreachable!()
                                };
                                bytes
                            }
                            Reply::Raw(bytes) => bytes,
                            Reply::Drip => {
                                let _ = socket.write_all(endless).await;
                                while socket.write_all(b"#").await.is_ok() {
                                    tokio::time::sleep(Duration::from_millis(700)).await;
                                }
                                return;
                            }
                            Reply::Endless => {
                                let _ = socket.write_all(endless).await;
                                while socket.write_all(&[b'#'; 4096]).await.is_ok() {}
                                return;
                            }
                            Reply::Silence => std::future::pending().await,
                            Reply::Hangup => return,
                        };
                        if socket.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn n_requests(&self) -> usize {
        self.seen.lock().requests.len()
    }
}

/// A manager over a store, fed by hand.
struct Bench {
    store: Arc<Store>,
    manager: Arc<Manager>,
    targets: watch::Sender<Arc<TargetSets>>,
    stop: CancellationToken,
}

impl Bench {
    fn new(job: &str) -> Self {
        Self::with_lanes(0, job)
    }

    fn with_lanes(n_lanes: usize, job: &str) -> Self {
        Self::with_options(Options { n_lanes, ..Options::default() }, job)
    }

    fn with_options(options: Options, job: &str) -> Self {
        let (store, stop) = (Arc::new(Store::default()), CancellationToken::new());
        let discovery_reload_interval = Duration::from_millis(100);
        let options = Options { discovery_reload_interval, ..options };
        let clock = Arc::new(Wall(Instant::now()));
        let manager = Arc::new(
            Manager::new(Arc::clone(&store) as Arc<dyn Appendable>, clock, options, stop.clone()).unwrap(),
        );
        let (targets, received) = watch::channel(Arc::default());
        let running = Arc::clone(&manager);
        tokio::spawn(async move { running.run(received).await });
        let bench = Self { store, manager, targets, stop };
        bench.apply(job);
        bench
    }

    fn apply(&self, job: &str) {
        self.manager.apply(&configuration(job)).unwrap();
    }

    fn target(&self, addresses: &[&str]) {
        let targets = addresses
            .iter()
            .map(|address| Labels::from_pairs([("__address__", *address), ("instance", "i")]));
        let group =
            TargetGroup { source: "0".to_owned(), targets: targets.collect(), labels: Labels::empty() };
        self.targets.send_replace(Arc::new(TargetSets::from([("j".to_owned(), vec![Arc::new(group)])])));
    }

    /// Runs until `done`; the paused clock goes forward, but not for ever.
    async fn until(&self, done: impl Fn(&Store) -> bool) {
        for _ in 0..20_000 {
            if done(&self.store) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it never came to pass; series: {:?}", self.store.names());
    }

    async fn scraped(&self, n: usize) {
        self.until(|store| store.values(UP).len() >= n).await;
    }

    fn last_error(&self) -> String {
        self.manager.targets(None).active[0].last_error.clone()
    }
}

const UP: &str = r#"{__name__="up", instance="i", job="j"}"#;

fn named(name: &str) -> String {
    format!(r#"{{__name__="{name}", instance="i", job="j"}}"#)
}

/// The configuration of one job `j`, its further keys given.
fn configuration(job: &str) -> config::Config {
    let keys = job.lines().fold(String::new(), |keys, line| keys + "    " + line + "\n");
    let text = format!(
        "global: {{scrape_interval: 10s, scrape_timeout: 3s}}\nscrape_configs:\n  - job_name: j\n{keys}"
    );
    config::prometheus::parse(&text, Path::new("/")).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// Scrapes one target `n` times.
async fn scrape(job: &str, script: Vec<Reply>, n: usize) -> (Bench, Scripted) {
    let target = Scripted::start(script).await;
    let bench = Bench::new(job);
    bench.target(&[&target.address]);
    bench.scraped(n).await;
    (bench, target)
}

/// The same of an OpenMetrics target, with what the store wants beside samples.
async fn scrape_openmetrics(extras: Extras, script: &[&str], n: usize) -> Bench {
    let openmetrics = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";
    let script = script.iter().map(|body| raw("200 OK", openmetrics, format!("{body}# EOF\n").as_bytes()));
    let target = Scripted::start(script.collect()).await;
    let bench = Bench::with_options(Options { extras, ..Options::default() }, "");
    bench.target(&[&target.address]);
    bench.scraped(n).await;
    bench
}

#[tokio::test(start_paused = true)]
async fn exemplars_come_with_their_samples() {
    let body = "# TYPE a counter\na_total{x=\"1\"} 1 # {trace=\"t\",e=\"\"} 0.5\na_total{x=\"2\"} 2 # {} 3 1700000000.25\n\
                a_total{x=\"3\"} 2 # {late=\"yes\"} -1\na_total{x=\"1\"} 1 # {of=\"no sample\"} 7\na_total{x=\"4\"} 1\n";
    let bench = scrape_openmetrics(Extras::default(), &[body], 2).await;
    let series = |x: u32| format!(r#"{{__name__="a_total", instance="i", job="j", x="{x}"}}"#);
    let times = bench.store.times(UP);
    let expected: Vec<_> = times
        .iter()
        .flat_map(|t| {
            [(series(1), format!("{{trace=\"t\"}} 0.5 {t}")), (series(2), "{} 3 1700000000250".to_owned())]
        })
        .collect();
    assert_eq!(bench.store.inner.lock().exemplars, expected);
    assert_eq!(bench.store.values(&series(3)).len(), times.len(), "the sample stays without its exemplar");
    assert_eq!(bench.store.values(UP)[0], "1");
    let mut out = Exposition::default();
    bench.manager.expose(&mut out);
    let metrics = String::from_utf8(out.into_body()).unwrap();
    let counted = format!("prometheus_target_scrapes_exemplar_out_of_order_total {}\n", times.len());
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_keeps_no_exemplars_is_asked_once_per_scrape() {
    let body = (0..50).fold(String::new(), |body, i| body + &format!("a{{i=\"{i}\"}} 1 # {{t=\"{i}\"}} 1\n"));
    let openmetrics = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";
    let target = Scripted::start(vec![raw("200 OK", openmetrics, format!("{body}# EOF\n").as_bytes())]).await;
    let bench = Bench::new("");
    bench.store.inner.lock().refuses_exemplars = true;
    bench.target(&[&target.address]);
    bench.scraped(3).await;
    let inner = bench.store.inner.lock();
    assert_eq!((inner.n_exemplars_asked, inner.exemplars.len()), (inner.n_commits, 0));
}

#[tokio::test(start_paused = true)]
async fn the_store_is_told_metadata_of_new_series_and_of_changed_families() {
    let first = "# HELP a of a\n# TYPE a counter\na_total{x=\"1\"} 1\nstranger 1\n# TYPE b_s gauge\n# UNIT b_s s\nb_s 1\nplain 1\n";
    let second = first.replace("of a", "of A").replace("b_s 1\n", "b_s 1\nb_s{x=\"2\"} 1\n");
    let failing = second.replace("of A", "of nothing") + "not a line\n";
    let extras = Extras { metadata: true, ..Extras::default() };
    let bench =
        scrape_openmetrics(extras, &[first, first, first, &failing, &second, &second, &second], 7).await;
    let metadata = |kind, unit: &str, help: &str| Metadata { kind, unit: unit.into(), help: help.into() };
    let a = r#"{__name__="a_total", instance="i", job="j", x="1"}"#;
    let b = named("b_s");
    let b2 = r#"{__name__="b_s", instance="i", job="j", x="2"}"#;
    let all = bench.store.inner.lock().metadata.clone();
    let told = |series: &str| -> Vec<Metadata> {
        all.iter().filter(|(name, _)| name == series).map(|(_, metadata)| metadata.clone()).collect()
    };
    // Whenever something is new, the pass after it says it again.
    let (of_a, of_b) = (metadata(MetricType::Counter, "", "of a"), metadata(MetricType::Gauge, "s", ""));
    let of_a2 = metadata(MetricType::Counter, "", "of A");
    assert_eq!(told(a), [of_a.clone(), of_a, of_a2.clone(), of_a2]);
    assert_eq!(told(&b), vec![of_b.clone(); 4]);
    assert_eq!(told(b2), vec![of_b; 2]);
    assert_eq!(told(&named("stranger")), []);
    assert_eq!(told(&named("plain")), [], "it is none of the family before it");
    let up = metadata(
        MetricType::Gauge,
        "targets",
        "Health of the scrape target. 1 means the target is healthy, 0 if the scrape failed.",
    );
    assert_eq!(told(UP), [up]);
    let silent = scrape_openmetrics(Extras::default(), &[first], 2).await;
    assert_eq!(silent.store.inner.lock().metadata, []);
}

#[tokio::test(start_paused = true)]
async fn created_lines_tell_since_when_series_count() {
    let body = "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 1600000000.5\na_total{x=\"2\"} 1\n# TYPE b gauge\nb 1\nb_created 3\n";
    let series = |name: &str, x: u32| format!(r#"{{__name__="{name}", instance="i", job="j", x="{x}"}}"#);
    let bench = scrape_openmetrics(Extras { start_times: true, ..Extras::default() }, &[body], 3).await;
    assert_eq!(bench.store.inner.lock().starts, HashMap::from([(series("a_total", 1), 1_600_000_000_500)]));
    assert_eq!(bench.store.values(&series("a_created", 1)), Vec::<String>::new());
    assert_eq!(bench.store.values(&series("a_total", 2))[..3], ["1"; 3]);
    assert_eq!(bench.store.values(&named("b_created"))[..3], ["3"; 3]);
    assert_eq!(bench.store.values(&named("scrape_samples_scraped"))[..3], ["4"; 3]);
    let bench = scrape_openmetrics(Extras::default(), &[body], 2).await;
    assert_eq!(bench.store.values(&series("a_created", 1))[..2], ["1600000000.5"; 2]);
    assert_eq!(bench.store.inner.lock().starts, HashMap::new());
}

#[tokio::test(start_paused = true)]
async fn scrapes_over_one_connection_and_reports() {
    let (bench, target) =
        scrape("", vec![text("# HELP a of a\n# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\n")], 4).await;
    assert_eq!(&bench.store.values(r#"{__name__="a", instance="i", job="j", x="2"}"#)[..4], ["2"; 4]);
    assert_eq!(&bench.store.values(&named("scrape_samples_scraped"))[..4], ["2"; 4]);
    assert_eq!(&bench.store.values(&named("scrape_samples_post_metric_relabeling"))[..4], ["2"; 4]);
    assert_eq!(&bench.store.values(&named("scrape_series_added"))[..4], ["2", "0", "0", "0"]);
    assert_eq!(bench.store.names().iter().filter(|name| name.contains("scrape_")).count(), 4);
    assert_eq!(target.seen.lock().n_connections, 1, "the connection was not kept");

    let request = target.seen.lock().requests[0].to_lowercase();
    assert!(request.starts_with("get /metrics http/1.1\r\n"), "{request}");
    for header in [
        format!("host: {}\r\n", target.address),
        "accept-encoding: gzip\r\n".to_owned(),
        "user-agent: prometheus/".to_owned(),
        "x-prometheus-scrape-timeout-seconds: 3\r\n".to_owned(),
        "accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,".to_owned(),
    ] {
        assert!(request.contains(&header), "{header} is missing in {request}");
    }

    let times = bench.store.times(UP);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 10_000), "off the slots: {times:?}");
    let metadata = bench.manager.metadata();
    assert_eq!(metadata.len(), 1);
    let family = &metadata[0].families[0];
    assert_eq!((&*family.name, family.kind.as_str(), &*family.help), ("a", "counter", "of a"));
    let active = &bench.manager.targets(Some("j")).active[0];
    assert_eq!((active.health, active.last_error.as_str()), (Health::Up, ""));
    assert_eq!(active.scrape_url, format!("http://{}/metrics", target.address));
    assert_eq!(active.discovered_labels.get(b"__scrape_interval__"), Some(&b"10s"[..]));
    let mut out = Exposition::default();
    bench.manager.expose(&mut out);
    let metrics = String::from_utf8(out.into_body()).unwrap();
    assert!(metrics.contains("prometheus_target_scrape_pool_targets{scrape_job=\"j\"} 1\n"), "{metrics}");
    assert!(
        metrics.contains("prometheus_target_interval_length_seconds_count{interval=\"10s\"}"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_series_that_is_missing_ends() {
    let script = vec![text("a 1\nb 1\nc 1\n"), text("a 2\nc 2\n"), text("c 3\nb 3\na 3\n")];
    let (bench, _) = scrape("", script, 3).await;
    assert_eq!(&bench.store.values(&named("a"))[..3], ["1", "2", "3"]);
    assert_eq!(&bench.store.values(&named("b"))[..3], ["1", "stale", "3"]);
    assert_eq!(&bench.store.values(&named("c"))[..3], ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_series_under_another_spelling_goes_on() {
    let script = vec![text("a{x=\"1\",y=\"2\"} 1\n"), text("a{y=\"2\",x=\"1\"} 2\n")];
    let (bench, _) = scrape("", script, 2).await;
    assert_eq!(
        &bench.store.values(r#"{__name__="a", instance="i", job="j", x="1", y="2"}"#)[..2],
        ["1", "2"]
    );
}

#[track_caller]
fn assert_failed_once(bench: &Bench) {
    assert_eq!(&bench.store.values(UP)[..3], ["1", "0", "1"]);
    assert_eq!(&bench.store.values(&named("a"))[..3], ["1", "stale", "3"]);
}

/// A good scrape, one that fails by `reply`, and a good one.
async fn check_failure(job: &str, reply: Reply, error: &str) {
    let good = |v: u8| Reply::Text(format!("a {v}\n"));
    let (bench, target) = scrape(job, vec![good(1), reply, good(3)], 2).await;
    let text = bench.last_error().replace(&target.address, "ADDRESS");
    assert_eq!(text, error);
    assert_eq!(bench.manager.targets(None).active[0].health, Health::Down);
    bench.scraped(3).await;
    assert_failed_once(&bench);
}

#[tokio::test(start_paused = true)]
async fn every_failure_ends_all_series_and_names_its_cause() {
    let plain = "Content-Type: text/plain\r\n";
    check_failure(
        "",
        raw("503 Service Unavailable", "", b"a 2\n"),
        "server returned HTTP status 503 Service Unavailable",
    )
    .await;
    check_failure("", Reply::Silence, "Get \"http://ADDRESS/metrics\": context deadline exceeded").await;
    check_failure("", Reply::Drip, "context deadline exceeded").await;
    check_failure("", raw("200 OK", "", b"a 2\n"), "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target").await;
    check_failure("sample_limit: 2", text("a 2\nb 2\nc 2\n"), "sample limit exceeded").await;
    check_failure(
        "body_size_limit: 20B",
        text("a 2\n# more than twenty bytes\n"),
        "body size limit exceeded",
    )
    .await;
    check_failure("body_size_limit: 1MB", Reply::Endless, "body size limit exceeded").await;
    check_failure(
        "label_limit: 3",
        text("a 2\nb{x=\"1\"} 2\n"),
        "label_limit exceeded (metric: b, number of labels: 4, limit: 3)",
    )
    .await;
    check_failure(
        "label_value_length_limit: 5",
        text("a{x=\"123456\"} 2\n"),
        "label_value_length_limit exceeded (metric: a, label name: x, value: \"123456\", length: 6, limit: 5)",
    )
    .await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b'#'; 4 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    let gzip = format!("{plain}Content-Encoding: gzip\r\n");
    check_failure("body_size_limit: 1MB", raw("200 OK", &gzip, &bomb), "body size limit exceeded").await;
    check_failure(
        "follow_redirects: false",
        raw("302 Found", "Location: /x\r\n", b""),
        "server returned HTTP status 302 Found",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_garbage_ends_all_series_even_those_before_the_garbage() {
    let (bench, _) = scrape("", vec![text("a 1\n"), text("a 2\n7&-\n"), text("a 3\n")], 2).await;
    assert!(!bench.last_error().is_empty());
    bench.scraped(3).await;
    assert_failed_once(&bench);
    assert_eq!(&bench.store.values(&named("scrape_samples_scraped"))[..3], ["1", "1", "1"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_no_failure_but_ends_all_series() {
    let (bench, _) = scrape("", vec![text("a 1\n"), text(""), text("a 3\n")], 3).await;
    assert_eq!(&bench.store.values(UP)[..3], ["1", "1", "1"]);
    assert_eq!(&bench.store.values(&named("a"))[..3], ["1", "stale", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_nobody_listens_on_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let bench = Bench::new("");
    bench.target(&[&address]);
    bench.scraped(1).await;
    let expected =
        format!("Get \"http://{address}/metrics\": dial tcp {address}: connect: connection refused");
    assert_eq!(bench.last_error(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_holds_up_no_other() {
    let (slow, fast) = (Scripted::start(vec![Reply::Drip]).await, Scripted::start(vec![text("a 1\n")]).await);
    let bench = Bench::new("relabel_configs:\n- {source_labels: [__address__], target_label: instance}");
    bench.target(&[&slow.address, &fast.address]);
    let up = |address: &str| format!(r#"{{__name__="up", instance="{address}", job="j"}}"#);
    bench.until(|store| store.values(&up(&slow.address)).len() >= 3).await;
    assert_eq!(&bench.store.values(&up(&slow.address))[..3], ["0", "0", "0"]);
    assert!(bench.store.values(&up(&fast.address)).starts_with(&["1".to_owned(), "1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_vanished_target_ends_after_two_intervals() {
    let (bench, _target) = scrape("", vec![text("a 1\n")], 2).await;
    let last = *bench.store.times(UP).last().unwrap();
    bench.target(&[]);
    bench.until(|store| store.values(UP).last().is_some_and(|v| v == "stale")).await;
    assert_eq!(bench.store.values(&named("a")).last().unwrap(), "stale");
    assert_eq!(bench.store.values(&named("scrape_series_added")).last().unwrap(), "stale");
    assert_eq!(*bench.store.times(UP).last().unwrap(), last + 10_000, "not the time of the next scrape");
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_server_ends_nothing() {
    let (bench, target) = scrape("", vec![text("a 1\n")], 2).await;
    bench.stop.cancel();
    let n = target.n_requests();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(target.n_requests(), n);
    assert!(!bench.store.values(UP).contains(&"stale".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn more_targets_than_allowed_fail_all() {
    let target = Scripted::start(vec![text("a 1\n")]).await;
    let bench = Bench::new("target_limit: 1");
    bench.target(&[&target.address]);
    bench.scraped(1).await;
    bench.target(&[&target.address, "127.0.0.1:1"]);
    // What a target shows follows what was stored.
    let has_ended = |store: &Store| store.values(&named("a")).contains(&"stale".to_owned());
    bench.until(|store| has_ended(store) && !bench.last_error().is_empty()).await;
    assert_eq!(bench.last_error(), "target_limit exceeded (number of targets: 2, limit: 1)");
}

#[tokio::test(start_paused = true)]
async fn samples_with_their_own_time_keep_it_and_are_not_ended() {
    let own = BASE - 5_000;
    let script = vec![Reply::Text(format!("a 1 {own}\n")), text("b 1\n")];
    let (bench, _) = scrape("", script.clone(), 3).await;
    assert_eq!(bench.store.values(&named("a")), ["1"]);
    assert_eq!(bench.store.times(&named("a")), [own]);
    let (bench, _) = scrape("track_timestamps_staleness: true", script.clone(), 3).await;
    assert_eq!(bench.store.values(&named("a")), ["1", "stale"]);
    let (bench, _) = scrape("honor_timestamps: false", script, 3).await;
    assert_eq!(bench.store.times(&named("a"))[0], bench.store.times(UP)[0]);
}

#[tokio::test(start_paused = true)]
async fn of_two_samples_of_a_series_the_first_wins() {
    let ahead = BASE + 24 * 3_600_000;
    let body = format!("a 1\na 1\na 2\nb 1 {ahead}\n");
    let (bench, _) = scrape("", vec![Reply::Text(body)], 2).await;
    assert_eq!(&bench.store.values(&named("a"))[..2], ["1", "1"]);
    assert_eq!(bench.store.values(&named("b")), Vec::<String>::new());
    assert_eq!(bench.store.values(&named("scrape_samples_post_metric_relabeling"))[0], "4");
    let mut out = Exposition::default();
    bench.manager.expose(&mut out);
    let metrics = String::from_utf8(out.into_body()).unwrap();
    assert!(metrics.contains("duplicate_timestamp_total 4\n"), "{metrics}");
    assert!(metrics.contains("sample_out_of_bounds_total 2\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn labels_of_the_target_win_unless_the_samples_are_honoured() {
    let body = text("a{job=\"x\",exported_job=\"y\"} 1\nb{instance=\"\"} 1\n");
    let (bench, _) = scrape("", vec![body.clone()], 1).await;
    let names = bench.store.names();
    assert!(
        names.contains(
            &r#"{__name__="a", exported_exported_job="x", exported_job="y", instance="i", job="j"}"#
                .to_owned()
        ),
        "{names:?}"
    );
    assert!(names.contains(&named("b")), "{names:?}");
    let (bench, _) = scrape("honor_labels: true", vec![body], 1).await;
    let names = bench.store.names();
    assert!(
        names.contains(&r#"{__name__="a", exported_job="y", instance="i", job="x"}"#.to_owned()),
        "{names:?}"
    );
    assert!(names.contains(&r#"{__name__="b", job="j"}"#.to_owned()), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn metric_relabelling_drops_and_a_reload_keeps_or_voids_caches() {
    let job = |regex: &str, limit: u32| {
        format!(
            "sample_limit: {limit}\nmetric_relabel_configs:\n- {{source_labels: [__name__], regex: {regex}, action: drop}}"
        )
    };
    let (bench, _) = scrape(&job("b", 10), vec![text("a 1\nb 1\n")], 2).await;
    assert!(!bench.store.names().contains(&named("b")));
    assert_eq!(bench.store.values(&named("scrape_samples_post_metric_relabeling"))[0], "1");
    // Other limits leave the series as they are: none is new.
    bench.apply(&job("b", 20));
    let n = bench.store.values(UP).len();
    bench.scraped(n + 2).await;
    assert_eq!(bench.store.values(&named("scrape_series_added")).last().unwrap(), "0");
    // Other rules make other series, and no mark ends what they no longer make.
    bench.apply(&job("a", 20));
    bench.until(|store| store.names().contains(&named("b"))).await;
    assert!(!bench.store.values(&named("a")).contains(&"stale".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn series_that_the_store_forgot_begin_anew() {
    let (bench, _) = scrape("", vec![text("a 1\n")], 2).await;
    bench.store.forget();
    let n = bench.store.values(UP).len();
    bench.scraped(n + 2).await;
    assert!(bench.store.values(&named("a")).len() >= n + 2);
    assert_eq!(bench.store.names().iter().filter(|name| **name == named("a")).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn reads_gzip() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"a 1\n").unwrap();
    let body =
        raw("200 OK", "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", &encoder.finish().unwrap());
    let (bench, _) = scrape("extra_scrape_metrics: true", vec![body], 1).await;
    assert_eq!(bench.store.values(&named("a"))[0], "1");
    assert_eq!(bench.store.values(&named("scrape_body_size_bytes"))[0], "4");
    assert_eq!(bench.store.values(&named("scrape_timeout_seconds"))[0], "3");
}

#[tokio::test(start_paused = true)]
async fn follows_redirects_without_taking_credentials_to_another_host() {
    let other = Scripted::start(vec![text("a 1\n")]).await;
    // Another port is the same host, another name is not.
    let address = other.address.replace("127.0.0.1", "localhost");
    let to_other = format!("Location: http://{address}/m?q=1\r\n");
    let script =
        vec![raw("302 Found", "Location: /here\r\n", b""), raw("307 Temporary Redirect", &to_other, b"")];
    let (bench, target) = scrape("basic_auth: {username: u, password: p}", script, 1).await;
    assert_eq!(bench.store.values(&named("a"))[0], "1", "{}", bench.last_error());
    let seen = target.seen.lock();
    assert!(seen.requests[1].starts_with("GET /here "), "{:?}", seen.requests);
    assert!(seen.requests.iter().take(2).all(|request| request.contains("authorization: Basic dTpw")));
    let request = other.seen.lock().requests[0].clone();
    assert!(request.starts_with("GET /m?q=1 "), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}

#[tokio::test(start_paused = true)]
async fn connects_anew_when_the_target_hung_up() {
    let (bench, target) = scrape("", vec![text("a 1\n"), Reply::Hangup, text("a 2\n")], 3).await;
    assert_eq!(&bench.store.values(UP)[..3], ["1", "1", "1"], "{}", bench.last_error());
    assert_eq!(target.seen.lock().n_connections, 2);
}

#[tokio::test(start_paused = true)]
async fn a_large_target_may_change_its_order() {
    let body = |order: &dyn Fn(usize) -> usize| {
        (0..1000).map(order).fold(String::new(), |body, i| body + &format!("a{{n=\"{i}\"}} {i}\n"))
    };
    let forward = body(&|i| i);
    let backward = body(&|i| 999 - i);
    let mixed = body(&|i| i * 389 % 1000);
    let (bench, _) =
        scrape("", vec![Reply::Text(forward), Reply::Text(backward), Reply::Text(mixed)], 4).await;
    assert_eq!(&bench.store.values(&named("scrape_series_added"))[..4], ["1000", "0", "0", "0"]);
    assert!(
        !bench.store.values(r#"{__name__="a", instance="i", job="j", n="7"}"#).contains(&"stale".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn target_relabelling_keeps_what_it_drops_for_the_api() {
    let job = "keep_dropped_targets: 1\nrelabel_configs:\n- {source_labels: [__address__], regex: 'drop.*', action: drop}";
    let target = Scripted::start(vec![text("a 1\n")]).await;
    let bench = Bench::new(job);
    bench.target(&[&target.address, "drop1:1", "drop2:1", "bad/host"]);
    bench.scraped(1).await;
    let targets = bench.manager.targets(None);
    assert_eq!((targets.active.len(), targets.dropped.len()), (1, 1));
    assert_eq!(targets.dropped_counts["j"], 2);
    assert_eq!(targets.dropped[0].discovered_labels.get(b"__address__"), Some(&b"drop1:1"[..]));
    assert_eq!(bench.manager.pools(), ["j"]);
}

/// With lanes, unlike in the tests above, a body of ordinary size never leaves the thread that received it.
#[tokio::test]
async fn a_target_stays_on_its_lane() {
    let job = "scrape_interval: 500ms\nscrape_timeout: 500ms";
    let target = Scripted::start(vec![text("a 1\n"), text("a 2\n7&-\n"), text("a 3\n")]).await;
    let bench = Bench::with_lanes(2, job);
    bench.target(&[&target.address]);
    bench.scraped(4).await;
    let threads = bench.store.inner.lock().threads.clone();
    assert!(threads.len() == 1 && threads.iter().all(|name| name.starts_with("scrape-")), "{threads:?}");
    assert_eq!(bench.store.values(UP)[..4], ["1", "0", "1", "1"]);
    assert_eq!(bench.store.values(&named("scrape_samples_scraped"))[..4], ["1"; 4]);
    assert_eq!(bench.store.values(&named("a"))[..3], ["1", "stale", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_one_job_leaves_the_other_its_connection_cache_and_times() {
    let (stays, changes) =
        (Scripted::start(vec![text("a 1\n")]).await, Scripted::start(vec![text("a 1\n")]).await);
    let bench = Bench::new("");
    let apply = |keys: &str| {
        let text = format!(
            "global: {{scrape_interval: 10s, scrape_timeout: 3s}}\n\
             scrape_configs: [{{job_name: j}}, {{job_name: k, {keys}}}]\n"
        );
        bench.manager.apply(&config::prometheus::parse(&text, Path::new("/")).unwrap()).unwrap();
    };
    apply("honor_labels: false");
    let set = |job: &str, target: &Scripted| {
        let labels = Labels::from_pairs([("__address__", target.address.as_str()), ("instance", "i")]);
        let group = TargetGroup { source: "0".to_owned(), targets: vec![labels], labels: Labels::empty() };
        (job.to_owned(), vec![Arc::new(group)])
    };
    bench.targets.send_replace(Arc::new(TargetSets::from([set("j", &stays), set("k", &changes)])));
    let of_k = UP.replace("\"j\"", "\"k\"");
    for keys in
        ["metric_relabel_configs: [{target_label: x, replacement: y}]", "sample_limit: 7", "scheme: http"]
    {
        let (n, m) = (bench.store.values(UP).len(), bench.store.values(&of_k).len());
        bench.until(|store| store.values(UP).len() >= n + 2 && store.values(&of_k).len() >= m + 2).await;
        apply(keys);
    }
    bench.scraped(bench.store.values(UP).len() + 2).await;
    assert_eq!(stays.seen.lock().n_connections, 1);
    assert!(changes.seen.lock().n_connections > 1, "other credentials want another connection");
    let times = bench.store.times(UP);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 10_000), "{times:?}");
    let added = bench.store.values(&named("scrape_series_added"));
    assert_eq!(added[0], "1");
    assert!(added[1..].iter().all(|n| n == "0"), "the cache was lost: {added:?}");
    assert!(!bench.store.values(&named("a")).contains(&"stale".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_target_in_trouble_keeps_its_connection() {
    let trouble = raw("503 Service Unavailable", "", b"not today");
    let (bench, target) = scrape("", vec![text("a 1\n"), trouble.clone(), trouble, text("a 2\n")], 4).await;
    assert_eq!(&bench.store.values(UP)[..4], ["1", "0", "0", "1"]);
    assert_eq!(target.seen.lock().n_connections, 1);
}
