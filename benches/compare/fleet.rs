//! The simulated exporters: one listener that answers for every target, told apart by the loopback address they are
//! reached at (127.0.0.1, 127.0.0.2, ...).
//!
//! Bodies look like those of services in a cluster: counters by method and code, gauges, a histogram. Values move at
//! every scrape; the text before them is made once, so that the fleet costs little beside the server under test.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Load;

/// What the fleet has answered.
#[derive(Debug, Default)]
struct Served {
    scrapes: AtomicU64,
    lines: AtomicU64,
    /// How often all series were replaced.
    generation: AtomicU64,
}

/// How series are told from those that had their place before.
#[derive(Clone, Copy)]
struct Names {
    generation: u64,
    /// Seconds, 0 for ever.
    lifetime: u64,
}

/// One series: its text up to the value, and how the value moves.
struct Line {
    text: Vec<u8>,
    base: u64,
    rate: u64,
    is_gauge: bool,
}

/// Serves until the process is killed; the first line on standard output is the port.
pub(crate) async fn run(load: Load) -> anyhow::Result<()> {
    // A connection for each target.
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    let lines = Arc::new((0..load.targets).map(|target| lines(target, load.series)).collect::<Vec<_>>());
    let served = Arc::new(Served::default());
    // A series lives until its number has been taken this many seconds ago; all begin at different times.
    let lifetime = 6000_u64.checked_div(load.churn).unwrap_or(0);
    let started = Instant::now();
    loop {
        let (stream, _) = listener.accept().await?;
        let (lines, served) = (Arc::clone(&lines), Arc::clone(&served));
        tokio::spawn(async move {
            // A client that goes away is no failure of the fleet.
            let _ = answer(stream, &lines, &served, started, (load.gzip, lifetime)).await;
        });
    }
}

fn lines(target: usize, n_series: usize) -> Vec<Line> {
    let methods = ["GET", "POST", "PUT", "DELETE"];
    let codes = ["200", "204", "400", "404", "500"];
    let mut random = fastrand::Rng::with_seed(target as u64);
    let line = |i: usize| {
        let (method, code) = (methods[i % 4], codes[i / 4 % 5]);
        let text = match i % 10 {
            0..=5 => format!(
                "http_requests_total{{method=\"{method}\",code=\"{code}\",handler=\"/api/v1/h{}\",pod=\"api-{target}\"}} ",
                i / 20
            ),
            6..=7 => format!(
                "container_memory_working_set_bytes{{container=\"c{i}\",namespace=\"team-{}\",pod=\"api-{target}\"}} ",
                i % 7
            ),
            8 => format!("node_cpu_seconds_total{{cpu=\"{}\",mode=\"user\",core=\"{i}\"}} ", i % 16),
            _ => format!(
                "rpc_duration_seconds_bucket{{service=\"s{}\",le=\"{}\",slot=\"{i}\"}} ",
                i / 100,
                i % 12
            ),
        };
        let is_gauge = matches!(i % 10, 6..=7);
        Line { text: text.into_bytes(), base: random.u64(0..1_000_000), rate: random.u64(0..50), is_gauge }
    };
    (0..n_series).map(line).collect()
}

async fn answer(
    mut stream: TcpStream,
    lines: &[Vec<Line>],
    served: &Served,
    started: Instant,
    (gzip, lifetime): (bool, u64),
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let target = match stream.local_addr()?.ip() {
        std::net::IpAddr::V4(ip) => (u32::from(ip) - u32::from(Ipv4Addr::LOCALHOST)) as usize,
        std::net::IpAddr::V6(_) => 0,
    };
    let (mut request, mut body) = (Vec::new(), Vec::new());
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        body.clear();
        if request.starts_with(b"GET /stats") {
            write!(
                body,
                "{} {}",
                served.scrapes.load(Ordering::Relaxed),
                served.lines.load(Ordering::Relaxed)
            )?;
        } else if request.starts_with(b"GET /replace") {
            served.generation.fetch_add(1, Ordering::Relaxed);
        } else {
            let names = Names { generation: served.generation.load(Ordering::Relaxed), lifetime };
            render(&lines[target % lines.len()], started.elapsed().as_secs(), names, &mut body);
            served.scrapes.fetch_add(1, Ordering::Relaxed);
            served.lines.fetch_add(lines[target % lines.len()].len() as u64, Ordering::Relaxed);
        }
        let compress = gzip && request.windows(4).any(|part| part == b"gzip");
        if compress {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body)?;
            body = encoder.finish()?;
        }
        let encoding = if compress { "Content-Encoding: gzip\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n{encoding}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
    }
}

fn render(lines: &[Line], second: u64, names: Names, body: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    for (i, line) in lines.iter().enumerate() {
        let value = if line.is_gauge {
            line.base + (second * (line.rate + 7)) % 997 * 4096
        } else {
            line.base + second * line.rate
        };
        let age = (second + i as u64 * 7919).checked_div(names.lifetime).unwrap_or(0);
        let number = names.generation * 1_000_000 + age;
        if number == 0 {
            body.extend_from_slice(&line.text);
        } else {
            // The text ends with a brace and a space.
            body.extend_from_slice(&line.text[..line.text.len() - 2]);
            body.extend_from_slice(b",release=\"");
            body.extend_from_slice(digits.format(number).as_bytes());
            body.extend_from_slice(b"\"} ");
        }
        body.extend_from_slice(digits.format(value).as_bytes());
        body.push(b'\n');
    }
}
