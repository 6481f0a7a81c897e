//! One data directory that goes from Prometheus to Ferula, back and back again, under scrape load and with a kill -9 at
//! each turn: what one server answered before it was killed the next one answers too, and the tools of both read
//! the same samples from the directory.
//!
//! Floats, series that come and go, native histograms (which only Prometheus can scrape yet), exemplars, samples
//! that come late, deletions through the admin API, blocks cut within the turns.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::Value;

use crate::process::{Home, Server, now, peer, until_true};
use crate::scripted::{Scripted, answer};

/// What the target does at the moment.
#[derive(Default)]
struct Script {
    scrapes: AtomicU32,
    speaks_protobuf: AtomicBool,
    is_quiet: AtomicBool,
}

/// How far back the late samples of scrape `n` lie, in ms: so far that the blocks made of them end before those made
/// of the others. `promtool tsdb dump` skips what the log has of times before the end of any block.
fn lateness(n: u32) -> i64 {
    22_000 + i64::from(n * 1700 % 7000)
}

impl Script {
    /// As OpenMetrics text.
    fn text(&self, n: u32) -> String {
        let mut text = String::from("# TYPE pp counter\n# HELP pp counts\n");
        for shard in 0..12 {
            write!(text, "pp_total{{shard=\"{shard}\"}} {}", (n % 11) * (shard + 1)).unwrap();
            if shard == 0 {
                write!(text, " # {{trace_id=\"t{n}\"}} {n} {:.3}", now()).unwrap();
            }
            text.push('\n');
        }
        text.push_str("# TYPE pp_wave gauge\n");
        for shard in 0..6 {
            let wave = (f64::from(n + shard) / 3.0).sin() * 1e3;
            writeln!(text, "pp_wave{{shard=\"{shard}\",text=\"é\"}} {wave}").unwrap();
        }
        if n % 9 < 5 {
            writeln!(text, "# TYPE pp_fleeting gauge\npp_fleeting {n}").unwrap();
        }
        if n.is_multiple_of(3) {
            text.push_str("# TYPE pp_odd gauge\npp_odd{is=\"NaN\"} NaN\npp_odd{is=\"inf\"} +Inf\n");
        }
        if !self.is_quiet.load(Ordering::Acquire) {
            let t = now() - lateness(n) as f64 / 1000.0;
            writeln!(text, "# TYPE pp_late gauge\npp_late {n} {t:.3}").unwrap();
        }
        text.push_str("# EOF\n");
        text
    }

    /// The same as protobuf, with native histograms and exemplars besides.
    fn protobuf(&self, n: u32) -> Vec<u8> {
        let mut body = Vec::new();
        let counters = (0..12).map(|shard| {
            let mut counter = double(1, f64::from((n % 11) * (shard + 1)));
            if shard == 0 {
                counter.extend(message(2, &exemplar(n)));
            }
            let mut metric = label("shard", &shard.to_string());
            metric.extend(message(3, &counter));
            metric
        });
        family(&mut body, "pp_total", 0, counters);
        let waves = (0..6).map(|shard| {
            let mut metric = label("shard", &shard.to_string());
            metric.extend(label("text", "é"));
            metric.extend(message(2, &double(1, (f64::from(n + shard) / 3.0).sin() * 1e3)));
            metric
        });
        family(&mut body, "pp_wave", 1, waves);
        let gauge = |v: f64| message(2, &double(1, v));
        if n % 9 < 5 {
            family(&mut body, "pp_fleeting", 1, [gauge(f64::from(n))]);
        }
        if n.is_multiple_of(3) {
            let odd = [("NaN", f64::NAN), ("inf", f64::INFINITY)].map(|(is, v)| {
                let mut metric = label("is", is);
                metric.extend(gauge(v));
                metric
            });
            family(&mut body, "pp_odd", 1, odd);
        }
        if !self.is_quiet.load(Ordering::Acquire) {
            let t = (now() * 1000.0) as i64 - lateness(n);
            let mut metric = gauge(f64::from(n));
            metric.extend(number(6, t.cast_unsigned()));
            family(&mut body, "pp_late", 1, [metric]);
        }
        family(&mut body, "pp_hist", 4, [message(7, &histogram(n))]);
        body
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3);
    varint(&mut out, value);
    out
}

fn double(field: u64, value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3 | 1);
    out.extend(value.to_bits().to_le_bytes());
    out
}

fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3 | 2);
    varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn pair(name: &str, value: &str) -> Vec<u8> {
    [message(1, name.as_bytes()), message(2, value.as_bytes())].concat()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    message(1, &pair(name, value))
}

fn exemplar(n: u32) -> Vec<u8> {
    let t = now();
    let time = [number(1, t as u64), number(2, (t.fract() * 1e9) as u64)].concat();
    [message(1, &pair("trace_id", &format!("t{n}"))), double(2, f64::from(n)), message(3, &time)].concat()
}

/// Counts that grow, start anew, and fill another bucket now and then.
fn histogram(n: u32) -> Vec<u8> {
    let age = u64::from(n % 13);
    let n_buckets = 2 + age / 4;
    let counts = (0..n_buckets).map(|i| age * (i + 1) + 1);
    let mut previous = 0;
    let mut deltas = Vec::new();
    for count in counts.clone() {
        varint(&mut deltas, zigzag(count.cast_signed() - previous));
        previous = count.cast_signed();
    }
    let span = [number(1, zigzag(-1)), number(2, n_buckets)].concat();
    [
        number(1, counts.sum::<u64>() + age),
        double(2, age as f64 * 1.25),
        number(5, zigzag(3)),
        double(6, 0.001),
        number(7, age),
        message(12, &span),
        message(13, &deltas),
    ]
    .concat()
}

fn family(out: &mut Vec<u8>, name: &str, kind: u64, metrics: impl IntoIterator<Item = Vec<u8>>) {
    let mut body = [message(1, name.as_bytes()), number(3, kind)].concat();
    for metric in metrics {
        body.extend(message(4, &metric));
    }
    varint(out, body.len() as u64);
    out.extend(body);
}

fn target(script: &Arc<Script>) -> Scripted {
    let script = Arc::clone(script);
    Scripted::raw(move |_, stream| {
        let n = script.scrapes.fetch_add(1, Ordering::Relaxed);
        if !script.speaks_protobuf.load(Ordering::Acquire) {
            return answer(
                stream,
                200,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                &script.text(n),
            );
        }
        let body = script.protobuf(n);
        let kind =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        let head =
            format!("HTTP/1.1 200 X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        std::io::Write::write_all(stream, &[head.as_bytes(), &body].concat())
    })
}

/// An expression, and whether it is asked over a range. None of them touches native histograms.
const QUERIES: [(&str, bool); 9] = [
    ("up", false),
    ("{__name__=~\"pp_(total|wave|fleeting|odd|late)|up|scrape_samples_scraped\"}[10m]", false),
    ("count by (__name__, job) ({__name__=~\"pp_(total|wave)|up\"})", false),
    ("sum by (shard) (rate(pp_total[8s]))", false),
    ("topk(3, max_over_time(pp_wave[5s]))", false),
    ("pp_wave", true),
    ("pp_fleeting or pp_odd", true),
    ("last_over_time(pp_late[5s])", true),
    ("sum without (shard) (increase(pp_total[6s])) / 2", true),
];

/// Asked of Prometheus alone: expressions over native histograms are refused here as yet.
const HISTOGRAMS: &str = "pp_hist[10m]";

fn answers(server: &Server, begun: f64, end: f64) -> Vec<Value> {
    let ask = |(expr, is_range): &(&str, bool)| {
        if *is_range {
            return server.query_range(expr, begun, end, "1s");
        }
        let mut data = server.query(expr, end);
        data["result"].as_array_mut().unwrap().sort_by_key(|series| series["metric"].to_string());
        data
    };
    QUERIES.iter().map(ask).collect()
}

#[track_caller]
fn assert_alike(when: &str, before: &[Value], after: &[Value]) {
    for ((expr, _), (before, after)) in QUERIES.iter().zip(before.iter().zip(after)) {
        let (a, b) = (before["result"].as_array().unwrap(), after["result"].as_array().unwrap());
        for (a, b) in a.iter().zip(b) {
            assert_eq!(a, b, "{when}: {expr}: the answer before the turn, and after it");
        }
        assert_eq!(a.len(), b.len(), "{when}: {expr}: series before the turn, and after it");
    }
}

/// What a tool reads from a copy of the directory: lines without an order.
fn dump(tool: &Path, data: &Path, copy: &Path, end: f64) -> BTreeSet<String> {
    let _ = std::fs::remove_dir_all(copy);
    assert!(Command::new("cp").arg("-r").args([data, copy]).status().unwrap().success());
    let end = format!("--max-time={}", (end * 1000.0) as i64);
    let run = Command::new(tool).args(["tsdb", "dump", &end]).arg(copy).output().unwrap();
    assert!(run.status.success(), "{}: {}", tool.display(), String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What a tool says of the newest block. Of its lists of the greatest, the numbers: equal ones come in any order.
fn analysis(tool: &Path, data: &Path) -> Vec<String> {
    let run = Command::new(tool).args(["tsdb", "analyze"]).arg(data).output().unwrap();
    assert!(run.status.success(), "{}: {}", tool.display(), String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    let line = |line: &str| match line.split_once(' ') {
        Some((number, _)) if number.bytes().all(|b| b.is_ascii_digit()) => number.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect()
}

/// The lines of floats, those of native histograms.
fn split(lines: &BTreeSet<String>) -> (BTreeSet<String>, BTreeSet<String>) {
    lines.iter().cloned().partition(|line| !line.contains("pp_hist"))
}

/// The differences of two sets of lines, a few of them.
fn assert_same_lines(when: &str, a: &BTreeSet<String>, b: &BTreeSet<String>) {
    let missing: Vec<_> = a.difference(b).take(5).collect();
    let added: Vec<_> = b.difference(a).take(5).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "{when}: {} lines are missing, {} are new: {missing:#?} {added:#?}",
        a.difference(b).count(),
        b.difference(a).count()
    );
}

/// The exemplars of the last two seconds: a start drops those that are older than what is in blocks.
fn exemplars(server: &Server, end: f64) -> Value {
    let (start, end) = (format!("{:.3}", end - 2.0), format!("{end:.3}"));
    let parameters = [("query", "pp_total"), ("start", start.as_str()), ("end", end.as_str())];
    server.data("/api/v1/query_exemplars", &parameters)
}

fn delete(server: &Server, selector: &str, from: f64, to: f64) {
    let url = reqwest::Url::parse_with_params(
        "http://host/api/v1/admin/tsdb/delete_series",
        [("match[]", selector), ("start", &format!("{from:.3}")), ("end", &format!("{to:.3}"))],
    )
    .unwrap();
    let path = url.as_str().trim_start_matches("http://host").to_owned();
    let (status, body) = server.post(&path, &Value::Null);
    assert_eq!(status, 204, "{path}: {body}");
}

/// The time of the last scrape.
fn last_scrape(server: &Server) -> f64 {
    let data = server.query("timestamp(up{job=\"pp\"})", now());
    data["result"][0]["value"][1].as_str().unwrap().parse().unwrap()
}

fn n_blocks(data: &Path) -> usize {
    let entries = std::fs::read_dir(data).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().join("meta.json").exists()).count()
}

/// What a turn left behind for the next one to confirm.
struct Turn {
    end: f64,
    answers: Vec<Value>,
    exemplars: Value,
    lines: BTreeSet<String>,
    /// Prometheus' answer for the native histograms up to the end of its last turn, and that end.
    histograms: (f64, Value),
}

struct Match {
    home: Home,
    script: Arc<Script>,
    begun: f64,
    promtool: PathBuf,
    prometheus: PathBuf,
}

impl Match {
    const BLOCKS: [&'static str; 2] =
        ["--storage.tsdb.min-block-duration=8s", "--storage.tsdb.max-block-duration=24s"];

    fn start(&self, is_ours: bool) -> Server {
        self.script.speaks_protobuf.store(!is_ours, Ordering::Release);
        let mut args = Self::BLOCKS.to_vec();
        args.push("--web.enable-admin-api");
        if is_ours {
            args.extend(["--storage.tsdb.block-reload-interval=1s", "--enable-feature=exemplar-storage"]);
            return self.home.start(&args);
        }
        args.push("--enable-feature=exemplar-storage,native-histograms");
        self.home.start_peer(&self.prometheus, &args)
    }

    /// Lets one server confirm what the one before left, scrape for a while, delete something, and be killed.
    fn turn(&self, n: usize, before: Option<&Turn>) -> Turn {
        let is_ours = n % 2 == 1;
        let when = format!("turn {n}, {}", if is_ours { "ours" } else { "Prometheus" });
        self.script.is_quiet.store(false, Ordering::Release);
        let server = self.start(is_ours);
        let started = now();
        if let Some(before) = before {
            assert_alike(&when, &before.answers, &answers(&server, self.begun, before.end));
            assert_eq!(before.exemplars, exemplars(&server, before.end), "{when}: exemplars");
            let (end, histograms) = &before.histograms;
            if !is_ours {
                assert_eq!(histograms, &server.query(HISTOGRAMS, *end), "{when}: native histograms");
            }
        }
        until_true("enough to be scraped", || {
            let seconds = (now() - started).ceil().max(1.0);
            server.value(&format!("count_over_time(up{{job=\"pp\"}}[{seconds}s])")).is_some_and(|n| n >= 16.0)
        });
        // Something old, in a block by now, and something new.
        delete(&server, &format!("pp_total{{shard=\"{}\"}}", n + 1), now() - 14.0, now() - 4.0);
        delete(&server, "pp_wave{shard=\"5\"}", self.begun, self.begun + 50.0 + 5.0 * n as f64);
        self.script.is_quiet.store(true, Ordering::Release);
        let quiet = now();
        until_true("a scrape without late samples", || last_scrape(&server) > quiet + 1.2);
        let end = last_scrape(&server) - 0.5;
        let answers = answers(&server, self.begun, end);
        let exemplars = exemplars(&server, end);
        let n_exemplars = exemplars[0]["exemplars"].as_array().map_or(0, Vec::len);
        assert!(n_exemplars > 0, "{when}: no exemplar of the last seconds: {exemplars}");
        let histograms = match before {
            Some(before) if is_ours => before.histograms.clone(),
            _ => (end, server.query(HISTOGRAMS, end)),
        };
        let log = server.process.log();
        server.kill();
        assert!(n_blocks(&self.home.path("data")) > 0, "{when}: no block was cut");
        assert!(!is_ours || !log.contains("level=ERROR"), "{when}: {log}");

        let lines = dump(&self.promtool, &self.home.path("data"), &self.home.path("copy"), end);
        assert!(lines.iter().any(|line| line.contains("pp_hist")), "{when}: no histogram in the dump");
        let ours = dump(
            Path::new(env!("CARGO_BIN_EXE_ferula")),
            &self.home.path("data"),
            &self.home.path("copy"),
            end,
        );
        let ((floats, shown), (our_floats, ours_shown)) = (split(&lines), split(&ours));
        assert_same_lines(&format!("{when}: promtool's dump, and ours"), &floats, &our_floats);
        // promtool leaves out histograms at times that were deleted from other series; the server does not, see below.
        let lost: Vec<_> = shown.difference(&ours_shown).take(5).collect();
        assert!(lost.is_empty(), "{when}: histograms that promtool shows and we do not: {lost:#?}");
        let ferula = Path::new(env!("CARGO_BIN_EXE_ferula"));
        let (theirs, ours) =
            (analysis(&self.promtool, &self.home.path("copy")), analysis(ferula, &self.home.path("copy")));
        assert!(theirs.len() > 10, "{when}: {theirs:?}");
        assert_eq!(theirs, ours, "{when}: promtool's analysis, and ours");
        if let Some(before) = before {
            // What was there and was not deleted meanwhile is there, histograms too.
            let is_kept = |line: &&String| !line.contains("pp_total") && !line.contains("pp_wave");
            let lost: Vec<_> =
                before.lines.iter().filter(is_kept).filter(|line| !lines.contains(*line)).take(5).collect();
            assert!(lost.is_empty(), "{when}: lost from the directory: {lost:#?}");
        }
        Turn { end, answers, exemplars, lines, histograms }
    }
}

#[test]
fn prometheus_and_ferula_take_turns_on_one_directory() {
    let test = "prometheus_and_ferula_take_turns_on_one_directory";
    let (Some(prometheus), Some(promtool)) = (peer("prometheus", test), peer("promtool", test)) else {
        return;
    };
    let script = Arc::new(Script::default());
    let target = target(&script);
    let home = Home::new(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0]}}\n\
         storage: {{tsdb: {{out_of_order_time_window: 1m}}, exemplars: {{max_exemplars: 1000}}}}\n\
         scrape_configs: [{{job_name: pp, static_configs: [{{targets: ['{}'], labels: {{instance: script}}}}]}}]\n",
        target.address()
    ));
    let game = Match { home, script, begun: now() - 45.0, promtool, prometheus };
    let mut before = None;
    for n in 0..4 {
        before = Some(game.turn(n, before.as_ref()));
    }
}
