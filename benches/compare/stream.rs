//! What one very large answer costs: memory above what the server has anyway, and time, as it is and compressed.
//!
//! Every measurement has a server of its own on a copy of the data: what the one before left of its memory to the
//! allocator would count for the next. The client keeps nothing of the answer but its length and its checksum.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::http::{Connection, path};
use crate::process::Kind;
use crate::{data, queries};

#[derive(clap::Args, Clone)]
pub(crate) struct Load {
    #[command(flatten)]
    size: data::Size,
    #[arg(long, default_value = "rate(http_requests_total[5m])")]
    query: String,
    /// The span of the query in minutes, and how many steps it has.
    #[arg(long, default_value_t = 180)]
    span: i64,
    #[arg(long, default_value_t = 300)]
    steps: i64,
    /// How often it is asked; the least time and the highest peak count.
    #[arg(long, default_value_t = 3)]
    times: usize,
    /// Clients that ask at once.
    #[arg(long, default_value_t = 1)]
    clients: usize,
}

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(2);

struct Row {
    server: String,
    encoding: &'static str,
    bytes: u64,
    checksum: u32,
    first: Duration,
    took: Duration,
    cpu: f64,
    base: u64,
    peak: u64,
}

pub(crate) async fn compare(load: &Load, servers: &[(Kind, PathBuf)]) -> anyhow::Result<()> {
    let work = std::env::temp_dir().join(format!("ferula-stream-{}", std::process::id()));
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
    let end = written.range.maxt / 1000;
    let step = (load.span * 60 / load.steps).max(1);
    let start = end - step * load.steps;
    let times = [start, end, step].map(|n| n.to_string());
    let [start, end, step] = &times;
    let target =
        path("query_range", &[("query", &load.query), ("start", start), ("end", end), ("step", step)]);
    let mut rows = Vec::new();
    for is_gzip in [false, true] {
        for (kind, program) in servers {
            let mut server = queries::start(*kind, program, &made, work, written, &[]).await?;
            let mut row = measure(&server, &target, is_gzip, load).await?;
            row.server = format!("{kind:?} {}", server.version);
            rows.push(row);
            server.stop().await?;
        }
    }
    print(load, &rows)
}

async fn measure(
    server: &crate::process::Server,
    target: &str,
    is_gzip: bool,
    load: &Load,
) -> anyhow::Result<Row> {
    // Whatever a server sets up for its first query is no part of this one.
    let mut connection = Connection::open(server.port()).await?;
    connection.get(&path("query", &[("query", "count({__name__=~\".+\"})")]), false, |_| {}).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let base = server.rss_anon_bytes()?;
    let watch = Watch::start(server.memory());
    let mut row = Row {
        server: String::new(),
        encoding: if is_gzip { "gzip" } else { "plain" },
        bytes: 0,
        checksum: 0,
        first: Duration::MAX,
        took: Duration::MAX,
        cpu: f64::MAX,
        base,
        peak: 0,
    };
    for _ in 0..load.times {
        let cpu = server.cpu_seconds()?;
        let asked = (0..load.clients).map(|_| ask(server.port(), target.to_owned(), is_gzip));
        for asked in futures_util::future::join_all(asked).await {
            let (bytes, checksum, first, took) = asked?;
            (row.bytes, row.checksum) = (bytes, checksum);
            row.first = row.first.min(first);
            row.took = row.took.min(took);
        }
        row.cpu = row.cpu.min(server.cpu_seconds()? - cpu);
    }
    row.peak = watch.stop();
    Ok(row)
}

async fn ask(port: u16, target: String, is_gzip: bool) -> anyhow::Result<(u64, u32, Duration, Duration)> {
    let mut connection = Connection::open(port).await?;
    let began = Instant::now();
    let (mut bytes, mut checksum, mut first) = (0, 0, None);
    let status = connection
        .get(&target, is_gzip, |part| {
            first.get_or_insert_with(|| began.elapsed());
            bytes += part.len() as u64;
            checksum = crc32c::crc32c_append(checksum, part);
        })
        .await?;
    anyhow::ensure!(status.is_success(), "{target}: {status}");
    Ok((bytes, checksum, first.unwrap_or_default(), began.elapsed()))
}

/// Looks at the memory of a server until it is stopped.
struct Watch {
    most: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(memory: impl Fn() -> anyhow::Result<u64> + Send + 'static) -> Self {
        let (most, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, over) = (Arc::clone(&most), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                seen.fetch_max(memory().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Self { most, is_over, thread }
    }

    /// The most there was.
    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        // It has nothing to panic over.
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed)
    }
}

fn print(load: &Load, rows: &[Row]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(
        out,
        "{} over {} min in {} steps, {} at once, {} times",
        load.query, load.span, load.steps, load.clients, load.times
    )?;
    writeln!(
        out,
        "{:<24} {:>8} {:>10} {:>12} {:>12} {:>8} {:>16} {:>22} {:>9}",
        "server",
        "encoding",
        "MB sent",
        "first byte s",
        "last byte s",
        "CPU s",
        "RssAnon before",
        "most above that, MiB",
        "checksum"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<24} {:>8} {:>10.1} {:>12.3} {:>12.3} {:>8.2} {:>16.1} {:>22.1} {:>9x}",
            row.server,
            row.encoding,
            row.bytes as f64 / 1e6,
            row.first.as_secs_f64(),
            row.took.as_secs_f64(),
            row.cpu,
            mib(row.base),
            mib(row.peak.saturating_sub(row.base)),
            row.checksum
        )?;
    }
    let plain: Vec<_> = rows.iter().filter(|row| row.encoding == "plain").collect();
    // Two servers that mean the same must say the same; VictoriaMetrics means something else by rates.
    for other in plain.iter().filter(|row| !row.server.starts_with("Victoria")).skip(1) {
        anyhow::ensure!(
            other.checksum == plain[0].checksum,
            "{} and {} differ",
            plain[0].server,
            other.server
        );
    }
    Ok(())
}
