//! The comparison: the same simulated fleet of exporters is scraped by one server after the other, and what that
//! cost each is printed side by side.
//!
//! CPU is read from the process accounts and memory as `RssAnon`; the fleet is a process of its own whose CPU is not
//! counted. Before any figure counts, every server must have stored exactly the series that the fleet shows.
//! Run by `make compare`; servers are started by path, nothing of theirs is linked.

mod dashboards;
mod data;
mod fleet;
mod http;
mod process;
mod queries;
mod report;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use process::{Kind, Server};
use report::{Restart, Row};

#[derive(Parser)]
// Said twice, the last one counts: `make numbers-...` adds the user's arguments to its own.
#[command(
    about = "compares what scraping costs Prometheus, VictoriaMetrics and Ferula",
    args_override_self = true
)]
struct Args {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    load: Load,
    /// The server under test.
    #[arg(long, default_value = "target/release/ferula")]
    ferula: PathBuf,
    /// The folder whose bin/ holds the reference servers.
    #[arg(long, default_value = "target/peers")]
    peers: PathBuf,
    /// The name of Prometheus there.
    #[arg(long, default_value = "prometheus")]
    prometheus: String,
    /// Which servers to run, in order.
    #[arg(long, value_delimiter = ',', default_value = "prometheus,ferula")]
    servers: Vec<Kind>,
}

#[derive(Subcommand)]
enum Mode {
    /// Runs the exporters alone; the comparison starts this itself.
    Fleet,
    /// Compares what queries cost, instead, and whether their answers are equal.
    Queries(queries::Load),
    /// Compares, instead, what one very large answer costs.
    Stream(stream::Load),
    /// Compares, instead, how servers stand thousands of people who look at dashboards.
    Dashboards(dashboards::Load),
}

/// The load, equal for all servers.
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
#[derive(clap::Args, Clone, Copy)]
struct Load {
    #[arg(long, default_value_t = 100)]
    targets: usize,
    /// Series of one target.
    #[arg(long, default_value_t = 1000)]
    series: usize,
    /// Seconds between two scrapes.
    #[arg(long, default_value_t = 1)]
    interval: u64,
    /// Seconds before measuring begins.
    #[arg(long, default_value_t = 20)]
    warmup: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Exporters compress their answers if asked to.
    #[arg(long)]
    gzip: bool,
    /// At the end servers are killed and started again.
    #[arg(long)]
    restart: bool,
    /// How many percent of the series end and begin anew under another name each minute.
    #[arg(long, default_value_t = 0)]
    churn: u64,
    /// After the warm-up all series end at once and others take their place, as when everything is deployed anew.
    #[arg(long)]
    replace: bool,
    /// Servers read their targets from a file with a dozen labels for each, which relabelling makes into four.
    #[arg(long)]
    listed: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // The HTTP client wants one even where nothing is encrypted; a second installation would be refused, this is the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match &args.mode {
        Some(Mode::Fleet) => runtime.block_on(fleet::run(args.load)),
        Some(Mode::Queries(load)) => runtime.block_on(queries::compare(load, &args.programs())),
        Some(Mode::Stream(load)) => runtime.block_on(stream::compare(load, &args.programs())),
        Some(Mode::Dashboards(load)) => runtime.block_on(dashboards::compare(load, &args.programs())),
        None => runtime.block_on(compare(&args)),
    }
}

impl Args {
    fn programs(&self) -> Vec<(Kind, PathBuf)> {
        self.servers.iter().map(|&kind| (kind, self.path_of(kind))).collect()
    }

    fn path_of(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Ferula => self.ferula.clone(),
            Kind::Prometheus => self.peers.join("bin").join(&self.prometheus),
            Kind::VictoriaMetrics => self.peers.join("bin/victoria-metrics"),
        }
    }
}

async fn compare(args: &Args) -> anyhow::Result<()> {
    let fleet = process::Fleet::start(args.load).await?;
    let mut rows = Vec::new();
    for &kind in &args.servers {
        rows.push(
            measure(kind, args.path_of(kind), &fleet, args.load)
                .await
                .with_context(|| format!("measure {kind:?}"))?,
        );
    }
    report::print(args.load, &rows);
    Ok(())
}

/// Starts a server on the fleet, waits, measures, checks what it stored and stops it.
async fn measure(kind: Kind, path: PathBuf, fleet: &process::Fleet, load: Load) -> anyhow::Result<Row> {
    let mut server = Server::start(kind, &path, fleet.port, load).await?;
    tokio::time::sleep(Duration::from_secs(load.warmup)).await;
    if load.replace {
        fleet.replace().await?;
    }
    let (cpu_before, served_before) = (server.cpu_seconds()?, fleet.stats().await?);
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let (cpu_after, served_after) = (server.cpu_seconds()?, fleet.stats().await?);
    let rss_anon_bytes = server.rss_anon_bytes()?;
    let peak_bytes = server.peak_bytes()?;
    let n_series = load.targets * load.series;
    let n_stored = server.count_series(n_series).await?;
    anyhow::ensure!(n_stored == n_series, "the fleet shows {n_series} series but the server has {n_stored}");
    let disk_bytes = server.disk_bytes()?;
    let restart = if load.restart {
        let (took, lost) = server.kill_and_restart().await?;
        Some(Restart {
            seconds: took.as_secs_f64(),
            lost,
            peak_per_series: server.peak_bytes()? as f64 / n_series as f64,
        })
    } else {
        None
    };
    server.stop().await?;
    let scrapes = served_after.scrapes - served_before.scrapes;
    let expected = load.targets as u64 * load.seconds / load.interval;
    Ok(Row {
        server: format!("{kind:?}"),
        version: server.version,
        cpu_percent: (cpu_after - cpu_before) * 100.0 / load.seconds as f64,
        rss_anon_bytes,
        cpu_us_per_sample: (cpu_after - cpu_before) * 1e6 / (served_after.lines - served_before.lines) as f64,
        rss_anon_per_series: rss_anon_bytes as f64 / n_series as f64,
        missed_scrapes: expected.saturating_sub(scrapes),
        expected_scrapes: expected,
        peak_per_series: peak_bytes as f64 / n_series as f64,
        restart,
        disk_bytes_per_sample: disk_bytes as f64
            / served_after.lines.saturating_sub(server.lines_before) as f64,
    })
}
