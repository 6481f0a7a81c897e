//! The queries that servers are compared by, over HTTP and on the same data: answers first, then times.
//!
//! The data is a folder that our store writes: Prometheus and Ferula each open a copy, VictoriaMetrics imports it.
//! Answers of Prometheus and Ferula must be the same series with the same values, but for the last digits of sums, in
//! which Prometheus follows the order of its postings. VictoriaMetrics means other things by rates and windows, so how
//! far its answers are from those of Prometheus is told and not judged.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::Value;

use crate::data;
use crate::process::{Kind, Server};

#[derive(clap::Args, Clone)]
pub(crate) struct Load {
    #[command(flatten)]
    size: data::Size,
    /// The span of the range queries in minutes, and how many steps it has.
    #[arg(long, default_value_t = 180)]
    span: i64,
    #[arg(long, default_value_t = 240)]
    steps: i64,
    /// Milliseconds to spend on each query, and how often it is asked at least.
    #[arg(long, default_value_t = 1500)]
    millis: u64,
    #[arg(long, default_value_t = 5)]
    times: usize,
    /// Only queries whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
}

/// Name and text, and whether it cannot be asked over a range.
const QUERIES: [(&str, &str, bool); 11] = [
    ("one metric", "memory_working_set_bytes", false),
    ("sum of all counters", "sum({__name__=~\".+_total\"})", false),
    ("sum by of rates of all counters", "sum by (code, method) (rate({__name__=~\".+_total\"}[1m]))", false),
    ("rate of one metric", "rate(http_requests_total[5m])", false),
    ("sum by of the rate", "sum by (code, method) (rate(http_requests_total[5m]))", false),
    (
        "twenty metrics by regex",
        "sum by (method) (rate({__name__=~\"app_events_[01][0-9]_total\"}[5m]))",
        false,
    ),
    (
        "quantile of all classic histograms",
        "histogram_quantile(0.9, sum by (le, service) (rate(rpc_duration_seconds_bucket[5m])))",
        false,
    ),
    (
        "ratio joined on pod",
        "sum by (pod, method) (rate(http_errors_total[5m])) / on (pod) group_left () sum by (pod) (rate(http_requests_total[5m]))",
        false,
    ),
    ("topk of a sum", "topk(5, sum by (pod) (rate(http_requests_total[5m])))", false),
    ("subquery", "max_over_time(sum(rate(http_requests_total[1m]))[30m:1m])", false),
    ("raw export", "http_requests_total[1h]", true),
];

/// What a question cost one server.
struct Timing {
    least: Duration,
    median: Duration,
    cpu: Duration,
    bytes: usize,
}

struct Asked {
    timing: Timing,
    answer: Answer,
}

/// Points by series, the order of series left out. Times are as they were written.
type Answer = BTreeMap<String, Vec<(String, f64)>>;

pub(crate) async fn compare(load: &Load, servers: &[(Kind, std::path::PathBuf)]) -> anyhow::Result<()> {
    let work = std::env::temp_dir().join(format!("ferula-queries-{}", std::process::id()));
    let result = run(load, servers, &work).await;
    // What is left is of no use to anybody, and large.
    let _ = std::fs::remove_dir_all(&work);
    result
}

async fn run(load: &Load, servers: &[(Kind, std::path::PathBuf)], work: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(work)?;
    let made = work.join("made");
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let written = data::write(&made, load.size, now - 60_000)?;
    let questions = questions(load, written.range.maxt);
    let mut all: Vec<(Kind, String, Vec<Asked>, u64)> = Vec::new();
    for (kind, path) in servers {
        let mut server = start(*kind, path, &made, work, written, &[]).await?;
        let mut asked = Vec::new();
        for question in &questions {
            asked.push(
                ask(&server, *kind, question, load)
                    .await
                    .with_context(|| format!("ask {kind:?} for {}", question.text))?,
            );
        }
        let peak = server.peak_bytes()?;
        server.stop().await?;
        all.push((*kind, server.version.clone(), asked, peak));
    }
    print(load, written, &questions, &all)
}

struct Question {
    name: &'static str,
    text: &'static str,
    /// Start, end and step in seconds, or one time.
    range: Option<(i64, i64, i64)>,
    at: i64,
}

fn questions(load: &Load, newest: i64) -> Vec<Question> {
    let end = newest / 1000;
    let step = (load.span * 60 / load.steps).max(1);
    let mut all = Vec::new();
    for (name, text, is_instant_only) in QUERIES {
        if !name.contains(&*load.filter) {
            continue;
        }
        all.push(Question { name, text, range: None, at: end });
        if !is_instant_only {
            all.push(Question { name, text, range: Some((end - load.steps * step, end, step)), at: end });
        }
    }
    all
}

const CONFIGURATION: &str = "global: {scrape_interval: 15s}\n";

/// Starts a server on a copy of the data.
pub(crate) async fn start(
    kind: Kind,
    path: &Path,
    made: &Path,
    work: &Path,
    written: data::Written,
    flags: &[&str],
) -> anyhow::Result<Server> {
    let folder = work.join(format!("{kind:?}"));
    if kind != Kind::VictoriaMetrics {
        copy_folder(made, &folder.join("data"))?;
        return Server::launch(kind, path, folder, CONFIGURATION, 0, flags).await;
    }
    std::fs::create_dir_all(&folder)?;
    let server = Server::launch(kind, path, folder, CONFIGURATION, 0, flags).await?;
    let lines = work.join("lines.json");
    data::export(made, written.range, &lines)?;
    let text = std::fs::read(&lines)?;
    let client = client()?;
    for part in parts(&text) {
        let sent = client.post(format!("{}/api/v1/import", server.url())).body(part.to_vec()).send().await?;
        sent.error_for_status()?;
    }
    // What was imported is shown when it was written to the disk.
    client.get(format!("{}/internal/force_flush", server.url())).send().await?.error_for_status()?;
    Ok(server)
}

/// Whole lines, some megabytes at a time.
fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = rest.len().min(16 << 20);
        let end = rest[at..].iter().position(|&b| b == b'\n').map_or(rest.len(), |n| at + n + 1);
        let (part, behind) = rest.split_at(end);
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn client() -> anyhow::Result<reqwest::Client> {
    // Compressing is not what is compared.
    Ok(reqwest::Client::builder().no_gzip().build()?)
}

async fn ask(server: &Server, kind: Kind, question: &Question, load: &Load) -> anyhow::Result<Asked> {
    let mut params = vec![("query", question.text.to_owned())];
    let path = if let Some((start, end, step)) = question.range {
        params.extend([("start", start.to_string()), ("end", end.to_string()), ("step", step.to_string())]);
        "query_range"
    } else {
        params.push(("time", question.at.to_string()));
        "query"
    };
    if kind == Kind::VictoriaMetrics {
        // Else it is its cache that answers.
        params.push(("nocache", "1".to_owned()));
    }
    let url = url::Url::parse_with_params(&format!("{}/api/v1/{path}", server.url()), &params)?;
    let client = client()?;
    let get = async || -> anyhow::Result<Vec<u8>> {
        let answer = client.get(url.clone()).send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body.to_vec())
    };
    let first = get().await?;
    let mut times = Vec::new();
    let (began, cpu) = (Instant::now(), server.cpu_seconds()?);
    while times.len() < load.times || began.elapsed() < Duration::from_millis(load.millis) {
        let began = Instant::now();
        get().await?;
        times.push(began.elapsed());
    }
    let cpu = Duration::from_secs_f64((server.cpu_seconds()? - cpu) / times.len() as f64);
    times.sort_unstable();
    let timing = Timing { least: times[0], median: times[times.len() / 2], cpu, bytes: first.len() };
    Ok(Asked { timing, answer: answer(&first)? })
}

fn answer(body: &[u8]) -> anyhow::Result<Answer> {
    let body: Value = serde_json::from_slice(body)?;
    let result = body.pointer("/data/result").and_then(Value::as_array).context("an answer has a result")?;
    let mut answer = Answer::new();
    for series in result {
        let labels: BTreeMap<&str, &Value> = series["metric"]
            .as_object()
            .context("a series has labels")?
            .iter()
            .map(|(name, value)| (&**name, value))
            .collect();
        let points: Vec<&Value> = match (&series["value"], series["values"].as_array()) {
            (Value::Null, Some(points)) => points.iter().collect(),
            (point, _) => vec![point],
        };
        let point = |point: &Value| -> anyhow::Result<(String, f64)> {
            Ok((point[0].to_string(), point[1].as_str().context("a value is a string")?.parse()?))
        };
        let points = points.into_iter().map(point).collect::<anyhow::Result<_>>()?;
        answer.insert(serde_json::to_string(&labels)?, points);
    }
    Ok(answer)
}

/// How two answers differ.
#[derive(Default)]
struct Difference {
    /// Series and points that only one of them has.
    missing: usize,
    /// Points whose values differ, and how much at the most, relative to the value.
    points: usize,
    most: f64,
}

fn difference(a: &Answer, b: &Answer) -> Difference {
    let mut found = Difference::default();
    found.missing += b.keys().filter(|key| !a.contains_key(*key)).count();
    for (key, points) in a {
        let Some(others) = b.get(key) else {
            found.missing += 1;
            continue;
        };
        let others: BTreeMap<&str, f64> = others.iter().map(|(t, v)| (&**t, *v)).collect();
        found.missing += others.len().abs_diff(points.len());
        for (t, v) in points {
            match others.get(&**t) {
                None => found.missing += 1,
                Some(other) if other.to_bits() != v.to_bits() && !(other.is_nan() && v.is_nan()) => {
                    found.points += 1;
                    let most = (other - v).abs() / v.abs().max(other.abs());
                    found.most = found.most.max(if most.is_nan() { f64::INFINITY } else { most });
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// Sums in another order differ this much at the most.
const TOLERANCE: f64 = 1e-12;

fn print(
    load: &Load,
    written: data::Written,
    questions: &[Question],
    all: &[(Kind, String, Vec<Asked>, u64)],
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let (series, samples, every) = (written.series, written.samples, load.size.every);
    writeln!(
        out,
        "{series} series, {samples} samples, one each {every} s; ranges of {} steps; times in ms",
        load.steps
    )?;
    write!(out, "{:<44}", "query")?;
    for (kind, version, ..) in all {
        write!(out, " | {:>31}", format!("{kind:?} {version}"))?;
    }
    writeln!(out, " | answers against {:?}", all[0].0)?;
    write!(out, "{:<44}", "")?;
    for _ in all {
        write!(out, " | {:>7} {:>7} {:>7} {:>7}", "least", "median", "CPU", "kB")?;
    }
    writeln!(out)?;
    let mut wrong = Vec::new();
    for (q, question) in questions.iter().enumerate() {
        let kind = if question.range.is_some() { "range" } else { "instant" };
        write!(out, "{:<44}", format!("{}, {kind}", question.name))?;
        for (_, _, asked, _) in all {
            let Timing { least, median, cpu, bytes } = &asked[q].timing;
            let ms = |d: &Duration| d.as_secs_f64() * 1e3;
            write!(out, " | {:>7.2} {:>7.2} {:>7.2} {:>7}", ms(least), ms(median), ms(cpu), bytes / 1000)?;
        }
        write!(out, " |")?;
        for (kind, _, asked, _) in &all[1..] {
            let Difference { missing, points, most } = difference(&all[0].2[q].answer, &asked[q].answer);
            match (missing, points) {
                (0, 0) => write!(out, " {kind:?} equal")?,
                _ => write!(out, " {kind:?} {missing} missing, {points} differ by {most:.1e}")?,
            }
            let times = all[0].2[q].timing.least.as_secs_f64() / asked[q].timing.least.as_secs_f64();
            write!(out, " ({times:.1} x);")?;
            if *kind != Kind::VictoriaMetrics
                && all[0].0 != Kind::VictoriaMetrics
                && (missing > 0 || most > TOLERANCE)
            {
                wrong.push(format!("{}, {kind:?}", question.name));
            }
        }
        writeln!(out)?;
    }
    write!(out, "{:<44}", "peak memory, MB")?;
    for (.., peak) in all {
        write!(out, " | {:>31}", peak / 1_000_000)?;
    }
    writeln!(out)?;
    anyhow::ensure!(wrong.is_empty(), "answers differ: {}", wrong.join("; "));
    Ok(())
}
