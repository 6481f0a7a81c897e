//! What the server says of itself: its log, its build and its process.
//!
//! Compat: Go `log/slog`'s text and JSON handlers; `client_golang`'s process collector.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use model::wire::expose::{Exposition, Kind};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::flags::Log;
use crate::container;

/// The version of the server itself.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of Prometheus whose behaviour we have: clients switch features by it.
pub const COMPATIBLE_VERSION: &str = "3.14.0";

/// The version of Alertmanager whose behaviour the built-in one has.
pub const COMPATIBLE_ALERTMANAGER_VERSION: &str = "0.34.0";

/// Sends the log of the whole process to standard error.
pub fn init(log: Log) {
    let builder = tracing_subscriber::fmt().with_max_level(log.level).with_writer(io::stderr);
    let format = if log.json { Format::Json } else { Format::Text };
    // Only a second call could fail, and there is one.
    let _ = builder.event_format(format).try_init();
}

enum Format {
    Text,
    Json,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let time = format!("{:.3}", jiff::Timestamp::now());
        let file = metadata.file().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
        let source = format!("{file}:{}", metadata.line().unwrap_or(0));
        let mut fields = Fields(vec![
            ("time", time),
            ("level", level.to_owned()),
            ("source", source),
            ("msg", String::new()),
        ]);
        event.record(&mut fields);
        match self {
            Self::Text => {
                for (i, (key, value)) in fields.0.iter().enumerate() {
                    let space = if i == 0 { "" } else { " " };
                    if value.is_empty() || value.contains([' ', '"', '=', '\n']) {
                        write!(out, "{space}{key}={}", model::quote::go_quote(value.as_bytes()))?;
                    } else {
                        write!(out, "{space}{key}={value}")?;
                    }
                }
                writeln!(out)
            }
            Self::Json => {
                let object: serde_json::Map<_, _> =
                    fields.0.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
                writeln!(out, "{}", serde_json::Value::Object(object))
            }
        }
    }
}

/// The fields of one line in order.
struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }
}

impl Fields {
    fn push(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.0[3].1 = value,
            name => self.0.push((name, value)),
        }
    }
}

/// When the process began, in seconds since the epoch.
static START: LazyLock<f64> = LazyLock::new(|| {
    let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
    let uptime = || {
        let system: f64 = read("/proc/uptime")?.split(' ').next()?.parse().ok()?;
        Some(system - stat_field(19)? / ticks_per_second())
    };
    now - uptime().unwrap_or(0.0)
});

/// When the process began, in ms since the epoch.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub fn start_time() -> model::Timestamp {
    (*START * 1000.0) as model::Timestamp
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A field of `/proc/self/stat`, counted from the state behind the name in parentheses.
fn stat_text(i: usize) -> Option<String> {
    let stat = read("/proc/self/stat")?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(i).map(str::to_owned)
}

fn stat_field(i: usize) -> Option<f64> {
    stat_text(i)?.parse().ok()
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Every thread of the process, by number, with the CPU time it has used.
pub fn threads() -> Vec<web::view::running::Thread> {
    let mut ids: Vec<u64> = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter().filter_map(|id| thread(id, &read(format!("/proc/self/task/{id}/stat"))?)).collect()
}

/// A thread from its line in `/proc`; its name may hold parentheses and spaces.
fn thread(id: u64, stat: &str) -> Option<web::view::running::Thread> {
    let (head, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let time = |i: usize| {
        let ticks: u64 = fields.get(i)?.parse().ok()?;
        Some(Duration::from_secs_f64(ticks as f64 / ticks_per_second()))
    };
    Some(web::view::running::Thread {
        id,
        name: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        user: time(11)?,
        kernel: time(12)?,
    })
}

/// The threads of the process.
pub fn n_threads() -> usize {
    // The field is behind the priority and the niceness.
    stat_text(17).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The revision that the build tells: not one of upstream's.
const REVISION: &str = concat!("ferula-", env!("CARGO_PKG_VERSION"));

/// The architecture by the name that Go has for it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Bytes that the network of the process' name space has received and sent.
fn network_bytes() -> Option<(f64, f64)> {
    let text = read("/proc/self/net/netstat")?;
    // A line of names and below it one of values, both behind the name of the table.
    let mut lines = text.lines().filter(|line| line.starts_with("IpExt:"));
    let (names, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
    let table: Vec<(&str, &str)> = names.zip(values).collect();
    let value = |name: &str| table.iter().find(|(n, _)| *n == name)?.1.parse().ok();
    Some((value("InOctets")?, value("OutOctets")?))
}

/// Writes the `process_*` families and the build; of `go_*` only what an asynchronous runtime has as well.
pub fn expose(out: &mut Exposition) {
    const BUILD: &str = "prometheus_build_info";
    out.family(
        BUILD,
        "A metric with a constant '1' value labeled by version, revision, branch, goversion from which prometheus was built, and the goos and goarch for the build.",
        Kind::Gauge,
    );
    let labels = [
        ("branch", ""),
        ("goarch", go_arch()),
        ("goos", std::env::consts::OS),
        ("goversion", ""),
        ("revision", REVISION),
        ("tags", ""),
        ("version", COMPATIBLE_VERSION),
    ];
    out.sample(BUILD, &labels, 1.0);
    out.family("ferula_build_info", "The build of the server itself.", Kind::Gauge);
    out.sample("ferula_build_info", &[("version", VERSION)], 1.0);

    out.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", *START);
    let cpu = stat_field(11).zip(stat_field(12)).map(|(user, system)| (user + system) / ticks_per_second());
    if let Some(seconds) = cpu {
        out.family(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            Kind::Counter,
        );
        out.sample("process_cpu_seconds_total", &[], seconds);
    }
    if let Some(bytes) = stat_field(20) {
        out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", bytes);
    }
    if let Some(pages) = stat_field(21) {
        let bytes = pages * rustix::param::page_size() as f64;
        out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes);
    }
    if let Some(bytes) = container::this().memory_bytes() {
        let help = "The most memory that the machine or a control group allows the process.";
        out.gauge("ferula_memory_limit_bytes", help, bytes as f64);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Number of open file descriptors.", open.count() as f64);
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.gauge("process_max_fds", "Maximum number of open file descriptors.", limit as f64);
    }
    // Without a limit upstream shows the greatest number.
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current.unwrap_or(u64::MAX);
    let help = "Maximum amount of virtual memory available in bytes.";
    out.gauge("process_virtual_memory_max_bytes", help, limit as f64);
    if let Some((received, sent)) = network_bytes() {
        let name = "process_network_receive_bytes_total";
        out.family(name, "Number of bytes received by the process over the network.", Kind::Counter);
        out.sample(name, &[], received);
        let name = "process_network_transmit_bytes_total";
        out.family(name, "Number of bytes sent by the process over the network.", Kind::Counter);
        out.sample(name, &[], sent);
    }
    // Our lightest threads are the tasks of the runtime.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let n_tasks = runtime.metrics().num_alive_tasks();
        out.gauge("go_goroutines", "Number of goroutines that currently exist.", n_tasks as f64);
    }
    out.gauge("go_threads", "Number of OS threads created.", n_threads() as f64);
}
