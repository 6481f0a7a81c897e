//! The processes of a comparison: the fleet, and a server with its configuration and folder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Load;

/// The longest a server may take to get ready or to stop.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Ferula,
    Prometheus,
    VictoriaMetrics,
}

/// What the fleet has answered so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stats {
    pub(crate) scrapes: u64,
    pub(crate) lines: u64,
}

pub(crate) struct Fleet {
    pub(crate) port: u16,
    _process: Child,
}

impl Fleet {
    pub(crate) async fn start(load: Load) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--targets", &load.targets.to_string(), "--series", &load.series.to_string()]);
        if load.gzip {
            command.arg("--gzip");
        }
        command.args(["--churn", &load.churn.to_string()]);
        let mut process = command.arg("fleet").stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = process.stdout.take().context("the fleet's output is piped")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the fleet printed no port")?;
        Ok(Self { port: line.parse()?, _process: process })
    }

    /// Ends all series; from now on there are others.
    pub(crate) async fn replace(&self) -> anyhow::Result<()> {
        reqwest::get(format!("http://127.0.0.1:{}/replace", self.port)).await?.error_for_status()?;
        Ok(())
    }

    pub(crate) async fn stats(&self) -> anyhow::Result<Stats> {
        let text = reqwest::get(format!("http://127.0.0.1:{}/stats", self.port)).await?.text().await?;
        let (scrapes, lines) = text.split_once(' ').context("the fleet's stats are two numbers")?;
        Ok(Stats { scrapes: scrapes.parse()?, lines: lines.parse()? })
    }
}

pub(crate) struct Server {
    pub(crate) version: String,
    /// Lines that the fleet had served before this server began.
    pub(crate) lines_before: u64,
    kind: Kind,
    path: PathBuf,
    process: Child,
    pid: u32,
    port: u16,
    url: String,
    folder: PathBuf,
    /// Flags beside those that every server gets.
    flags: Vec<String>,
}

impl Server {
    pub(crate) async fn start(kind: Kind, path: &Path, fleet_port: u16, load: Load) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("ferula-compare-{}-{kind:?}", std::process::id()));
        let fleet = format!("http://127.0.0.1:{fleet_port}/stats");
        let lines = reqwest::get(fleet).await?.text().await?;
        let lines_before = lines.split_once(' ').and_then(|(_, lines)| lines.parse().ok()).unwrap_or(0);
        if load.listed {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("targets.json"), list(fleet_port, load).to_string())?;
        }
        Self::launch(kind, path, folder, &configuration(fleet_port, load), lines_before, &[]).await
    }

    /// Starts a server with a configuration in a folder, which may hold data already.
    pub(crate) async fn launch(
        kind: Kind,
        path: &Path,
        folder: PathBuf,
        configuration: &str,
        lines_before: u64,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("prometheus.yml"), configuration)?;
        let version = Command::new(path)
            .arg("--version")
            .output()
            .await
            .with_context(|| format!("run {}", path.display()))?;
        let version = [version.stdout, version.stderr].concat();
        let version = String::from_utf8_lossy(&version)
            .split_whitespace()
            .find(|word| word.contains('.'))
            .unwrap_or("?")
            .to_owned();
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let process = spawn(kind, path, &folder, port, &flags)?;
        let pid = process.id().context("a process that was just started has an id")?;
        let url = format!("http://127.0.0.1:{port}");
        let mut server = Self {
            version,
            lines_before,
            kind,
            path: path.to_owned(),
            process,
            pid,
            port,
            url,
            folder,
            flags,
        };
        server.until_ready().await?;
        Ok(server)
    }

    /// Waits until the server says that it is ready; how long that took.
    async fn until_ready(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let url = format!("{}/-/ready", self.url);
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
            if let Some(status) = self.process.try_wait()? {
                bail!(
                    "the server ended at once ({status}), its log is {}",
                    self.folder.join("log").display()
                );
            }
            anyhow::ensure!(started.elapsed() < PATIENCE, "the server is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(started.elapsed())
    }

    /// Kills the server in the middle of its work, starts it again and tells how long it took to get ready and how many
    /// samples that could be queried before were lost. There must be none where a log is kept.
    pub(crate) async fn kill_and_restart(&mut self) -> anyhow::Result<(Duration, u64)> {
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        // By then scrapes that began before that moment have ended.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let query = format!("sum(count_over_time({{job=\"fleet\",__name__!~\"up|scrape_.*\"}}[30m] @ {at}))");
        let before: u64 = self.query(&query).await?.parse()?;
        self.process.kill().await?;
        self.process = spawn(self.kind, &self.path, &self.folder, self.port, &self.flags)?;
        self.pid = self.process.id().context("a process that was just started has an id")?;
        let took = self.until_ready().await?;
        let after: u64 = self.query(&query).await?.parse()?;
        // VictoriaMetrics keeps no log: it loses what it has not written yet, five seconds by its documentation.
        anyhow::ensure!(
            before == after || self.kind == Kind::VictoriaMetrics,
            "{before} samples before the kill, {after} after the restart"
        );
        Ok((took, before.saturating_sub(after)))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `RssAnon` at any time, for others to watch.
    pub(crate) fn memory(&self) -> impl Fn() -> anyhow::Result<u64> + Send + 'static {
        let pid = self.pid;
        move || status_bytes(pid, "RssAnon:")
    }

    /// User and system time of the process so far.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("a stat line names the program")?.1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    pub(crate) fn rss_anon_bytes(&self) -> anyhow::Result<u64> {
        status_bytes(self.pid, "RssAnon:")
    }

    /// The most that was resident since the process began.
    pub(crate) fn peak_bytes(&self) -> anyhow::Result<u64> {
        status_bytes(self.pid, "VmHWM:")
    }

    /// The series of the fleet that the server has now; asked again for a while if there are not as many as expected,
    /// since scrapes during a change of names show both, and VictoriaMetrics shows samples late.
    pub(crate) async fn count_series(&self, expected: usize) -> anyhow::Result<usize> {
        let mut n = 0;
        for _ in 0..20 {
            n = self.query("count({job=\"fleet\",__name__!~\"up|scrape_.*\"})").await?.parse()?;
            if n == expected {
                break;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(n)
    }

    /// The one value of the one series that the answer must be.
    async fn query(&self, query: &str) -> anyhow::Result<String> {
        let url = url::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", query)])?;
        let answer: serde_json::Value = serde_json::from_slice(&reqwest::get(url).await?.bytes().await?)?;
        let text = answer.pointer("/data/result/0/value/1").and_then(serde_json::Value::as_str);
        Ok(text.with_context(|| format!("answer {query}, got {answer}"))?.to_owned())
    }

    /// What the folder of the server holds.
    pub(crate) fn disk_bytes(&self) -> anyhow::Result<u64> {
        folder_bytes(&self.folder.join("data"))
    }

    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(self.pid)?).context("a process id is not 0")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        tokio::time::timeout(PATIENCE, self.process.wait()).await.context("the server did not stop")??;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

fn status_bytes(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("the kernel tells {field}"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn spawn(kind: Kind, path: &Path, folder: &Path, port: u16, flags: &[String]) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let (config, data) = (folder.join("prometheus.yml"), folder.join("data"));
    let (config, data) = (config.display(), data.display());
    let mut command = Command::new(path);
    match kind {
        Kind::Ferula | Kind::Prometheus => command
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={data}"))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
        // The limits are those of queries: a count of all series passes them.
        Kind::VictoriaMetrics => command
            .arg(format!("-promscrape.config={config}"))
            .arg(format!("-storageDataPath={data}"))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .args(["-search.latencyOffset=1s", "-search.maxUniqueTimeseries=100000000"])
            .arg("-search.maxSeries=100000000"),
    };
    command
        .args(flags)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", path.display()))
}

/// The bytes that the files below `folder` occupy on the disk.
fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// The address of a target; one listener of the fleet answers for all of them.
fn address(i: usize, fleet_port: u16) -> String {
    let first = u32::from(std::net::Ipv4Addr::LOCALHOST);
    let ip = std::net::Ipv4Addr::from(first + u32::try_from(i).expect("few targets"));
    format!("{ip}:{fleet_port}")
}

fn configuration(fleet_port: u16, load: Load) -> String {
    let interval = load.interval;
    let mut text = format!(
        "global:\n  scrape_interval: {interval}s\n  scrape_timeout: {interval}s\nscrape_configs:\n  - job_name: fleet\n"
    );
    if load.listed {
        text.push_str(LISTED);
        return text;
    }
    text.push_str("    static_configs:\n      - targets:\n");
    for i in 0..load.targets {
        let _ = writeln!(text, "          - {}", address(i, fleet_port));
    }
    text
}

/// What jobs that discover pods do: keep, map, take over, put together, drop.
const LISTED: &str = r"    file_sd_configs: [{files: [targets.json]}]
    relabel_configs:
      - {source_labels: [__meta_scrape], regex: 'true', action: keep}
      - {source_labels: [__meta_phase], regex: (Failed|Succeeded), action: drop}
      - {regex: __meta_label_(app|team), action: labelmap}
      - {source_labels: [__meta_namespace], target_label: namespace}
      - {source_labels: [__meta_pod], target_label: pod}
      - {source_labels: [__meta_namespace, __meta_label_app], separator: /, target_label: service}
      - {source_labels: [__meta_path], regex: (.+), target_label: __metrics_path__}
      - {source_labels: [service], regex: 'kube-system/.*', action: drop}
";

/// The targets as a list for discovery, a group for each, as platforms have it.
fn list(fleet_port: u16, load: Load) -> serde_json::Value {
    let group = |i: usize| {
        let (namespace, app) = (format!("team-{}", i % 40), format!("app-{}", i % 300));
        serde_json::json!({
            "targets": [address(i, fleet_port)],
            "labels": {
                "__meta_scrape": "true",
                "__meta_phase": "Running",
                "__meta_path": "/metrics",
                "__meta_namespace": namespace,
                "__meta_pod": format!("{app}-6d4cf56db6-{i:05}"),
                "__meta_node": format!("node-{:03}", i % 200),
                "__meta_uid": format!("0b8a4c1e-7d53-4f5e-9a2b-{i:012}"),
                "__meta_container": "main",
                "__meta_label_app": app,
                "__meta_label_team": namespace,
                "__meta_label_version": format!("v1.{}", i % 9),
                "__meta_annotation_checksum": format!("{:064x}", i * 7919),
            },
        })
    };
    serde_json::Value::Array((0..load.targets).map(group).collect())
}
