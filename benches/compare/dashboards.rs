//! Thousands of people who look at dashboards, on one server after the other: how many questions are answered, how long
//! people wait, and how many get an error.
//!
//! Everybody has a connection of their own and asks the next question when the last is answered, as the panels of one
//! page do, after a pause if there is one. The same people ask the same questions of every server. The client shares the
//! processors with the server under test, so figures are for comparing and not for boasting.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::http::{Connection, path};
use crate::process::{Kind, Server};
use crate::{data, queries};

#[derive(clap::Args, Clone)]
pub(crate) struct Load {
    #[command(flatten)]
    size: data::Size,
    #[arg(long, default_value_t = 2000)]
    clients: usize,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Milliseconds between an answer and the next question.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Answers are not to be compressed.
    #[arg(long)]
    plain: bool,
}

/// Both servers let 512 connections be, else.
const FLAGS: [&str; 1] = ["--web.max-connections=8192"];

/// The people arrive within this time.
const ARRIVAL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// An hour, in steps of so many seconds.
    Range(i64),
    Instant,
    /// A list below `/api/v1/`.
    List(&'static str),
}

/// How often it is asked, its shape and its text; `POD` is one of the pods.
const QUESTIONS: [(u32, Shape, &str); 14] = [
    (10, Shape::Range(15), "sum by (code) (rate(http_requests_total{pod=\"POD\"}[5m]))"),
    (
        10,
        Shape::Range(15),
        "histogram_quantile(0.99, sum by (le, service) (rate(rpc_duration_seconds_bucket{pod=\"POD\"}[5m])))",
    ),
    (10, Shape::Range(15), "memory_working_set_bytes{pod=\"POD\"}"),
    (
        8,
        Shape::Range(15),
        "sum(rate(http_errors_total{pod=\"POD\"}[5m])) / sum(rate(http_requests_total{pod=\"POD\"}[5m]))",
    ),
    (10, Shape::Range(60), "sum by (handler) (rate(http_requests_total{pod=\"POD\"}[5m]))"),
    (10, Shape::Range(60), "rate(app_events_07_total{pod=\"POD\"}[5m])"),
    (5, Shape::Range(60), "topk(5, sum by (pod) (rate(http_errors_total[5m])))"),
    (2, Shape::Range(60), "sum by (code) (rate(http_requests_total{method=\"POST\"}[5m]))"),
    (8, Shape::Instant, "sum(rate(http_requests_total{pod=\"POD\"}[5m]))"),
    (8, Shape::Instant, "sum by (pod) (memory_working_set_bytes)"),
    (4, Shape::Instant, "1+1"),
    (5, Shape::List("label/pod/values"), "http_errors_total"),
    (5, Shape::List("labels"), "http_requests_total{pod=\"POD\"}"),
    (5, Shape::List("series"), "rpc_duration_seconds_bucket{pod=\"POD\"}"),
];

/// One answer.
struct Asked {
    shape: Shape,
    took: Duration,
    bytes: usize,
    is_error: bool,
}

struct Outcome {
    server: String,
    asked: Vec<Asked>,
    seconds: f64,
    cpu: f64,
    rss_anon: u64,
    peak: u64,
    /// An error, if there was one.
    example: Option<String>,
}

pub(crate) async fn compare(load: &Load, servers: &[(Kind, PathBuf)]) -> anyhow::Result<()> {
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files)?;
    let work = std::env::temp_dir().join(format!("ferula-dashboards-{}", std::process::id()));
    let result = run(load, servers, &work).await;
    // What is left is of no use to anybody, and large.
    let _ = std::fs::remove_dir_all(&work);
    result
}

async fn run(load: &Load, servers: &[(Kind, PathBuf)], work: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(work)?;
    let made = work.join("made");
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let written = data::write(&made, load.size, now - 60_000)?;
    let mut outcomes = Vec::new();
    for (kind, program) in servers {
        let mut server = queries::start(*kind, program, &made, work, written, &FLAGS).await?;
        let mut outcome = measure(&server, load, written.range.maxt / 1000).await?;
        outcome.server = format!("{kind:?} {}", server.version);
        outcomes.push(outcome);
        server.stop().await?;
    }
    print(load, written, &outcomes)
}

async fn measure(server: &Server, load: &Load, newest: i64) -> anyhow::Result<Outcome> {
    let cpu = server.cpu_seconds()?;
    let began = Instant::now();
    let until = began + Duration::from_secs(load.seconds);
    let port = server.port();
    let people: Vec<_> =
        (0..load.clients).map(|i| tokio::spawn(person(i, port, load.clone(), newest, until))).collect();
    let (mut asked, mut example) = (Vec::new(), None);
    for person in people {
        let (answers, error) = person.await?;
        asked.extend(answers);
        example = example.or(error);
    }
    Ok(Outcome {
        server: String::new(),
        asked,
        seconds: began.elapsed().as_secs_f64(),
        cpu: server.cpu_seconds()? - cpu,
        rss_anon: server.rss_anon_bytes()?,
        peak: server.peak_bytes()?,
        example,
    })
}

/// Asks until it is time to go; the answers, and an error if there was one.
async fn person(
    i: usize,
    port: u16,
    load: Load,
    newest: i64,
    until: Instant,
) -> (Vec<Asked>, Option<String>) {
    let mut random = fastrand::Rng::with_seed(i as u64);
    let arrival = random.u64(0..u64::try_from(ARRIVAL.as_millis()).unwrap_or(u64::MAX));
    tokio::time::sleep(Duration::from_millis(arrival)).await;
    let (mut asked, mut example, mut connection) = (Vec::new(), None, None);
    while Instant::now() < until {
        let (shape, target) = question(&mut random, &load, newest);
        let began = Instant::now();
        let mut bytes = 0;
        let answer = ask(&mut connection, port, &target, !load.plain, &mut bytes).await;
        let error = match answer {
            Ok(status) if status.is_success() => None,
            Ok(status) => Some(format!("{status} for {target}")),
            Err(e) => {
                connection = None;
                Some(format!("{e:#} for {target}"))
            }
        };
        asked.push(Asked { shape, took: began.elapsed(), bytes, is_error: error.is_some() });
        example = example.or(error);
        tokio::time::sleep(Duration::from_millis(load.pause)).await;
    }
    (asked, example)
}

async fn ask(
    connection: &mut Option<Connection>,
    port: u16,
    target: &str,
    is_gzip: bool,
    bytes: &mut usize,
) -> anyhow::Result<hyper::StatusCode> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::open(port).await?),
    };
    connection.get(target, is_gzip, |part| *bytes += part.len()).await
}

fn question(random: &mut fastrand::Rng, load: &Load, newest: i64) -> (Shape, String) {
    let mut at = random.u32(0..QUESTIONS.iter().map(|(weight, ..)| weight).sum());
    let mut chosen = &QUESTIONS[0];
    for question in &QUESTIONS {
        chosen = question;
        match at.checked_sub(question.0) {
            Some(rest) => at = rest,
            None => break,
        }
    }
    let (_, shape, text) = chosen;
    let text = text.replace("POD", &format!("api-{}", random.usize(0..load.size.pods)));
    // Pages are opened and refreshed at any time in the last ten minutes.
    let now = newest - random.i64(0..600);
    let target = match *shape {
        Shape::Range(step) => {
            let end = now - now.rem_euclid(step);
            let [start, end, step] = [end - 3600, end, step].map(|n| n.to_string());
            path("query_range", &[("query", &text), ("start", &start), ("end", &end), ("step", &step)])
        }
        Shape::Instant => path("query", &[("query", &text), ("time", &now.to_string())]),
        Shape::List(list) => {
            let (start, end) = ((now - 3600).to_string(), now.to_string());
            path(list, &[("match[]", &text), ("start", &start), ("end", &end)])
        }
    };
    (*shape, target)
}

/// Whether a question is of a shape.
type IsIt = fn(Shape) -> bool;

fn print(load: &Load, written: data::Written, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} people for {} s, {} ms between an answer and the next question, {}; {} series",
        load.clients,
        load.seconds,
        load.pause,
        if load.plain { "plain" } else { "gzip" },
        written.series
    )?;
    writeln!(
        out,
        "{:<24} {:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9}",
        "server",
        "questions",
        "answers",
        "per s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "most ms",
        "errors",
        "MB sent"
    )?;
    let shapes: [(&str, IsIt); 5] = [
        ("all", |_| true),
        ("1 h / 15 s", |shape| shape == Shape::Range(15)),
        ("1 h / 60 s", |shape| shape == Shape::Range(60)),
        ("instant", |shape| shape == Shape::Instant),
        ("lists", |shape| matches!(shape, Shape::List(_))),
    ];
    for outcome in outcomes {
        for (name, is_it) in shapes {
            let some: Vec<_> = outcome.asked.iter().filter(|asked| is_it(asked.shape)).collect();
            let errors = some.iter().filter(|asked| asked.is_error).count();
            let mut times: Vec<_> = some
                .iter()
                .filter(|asked| !asked.is_error)
                .map(|asked| asked.took.as_secs_f64() * 1e3)
                .collect();
            times.sort_unstable_by(f64::total_cmp);
            let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().max(1) - 1));
            let [p50, p90, p99, most] =
                [50, 90, 99, 100].map(|percent| at(percent).copied().unwrap_or(f64::NAN));
            writeln!(
                out,
                "{:<24} {:<12} {:>9} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>7} {:>9.1}",
                if name == "all" { &*outcome.server } else { "" },
                name,
                times.len(),
                times.len() as f64 / outcome.seconds,
                p50,
                p90,
                p99,
                most,
                errors,
                some.iter().map(|asked| asked.bytes as f64).sum::<f64>() / 1e6
            )?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            out,
            "{:<24} {:.1} s until the last answer, CPU {:.1} s, {:.3} ms an answer; RssAnon {:.0} MiB, most resident {:.0} MiB",
            "",
            outcome.seconds,
            outcome.cpu,
            outcome.cpu * 1e3 / outcome.asked.len().max(1) as f64,
            mib(outcome.rss_anon),
            mib(outcome.peak)
        )?;
        if let Some(example) = &outcome.example {
            writeln!(out, "{:<24} for example: {example}", "")?;
        }
    }
    Ok(())
}
