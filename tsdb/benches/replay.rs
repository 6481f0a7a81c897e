//! How long a head takes to come back after the process was killed.
//!
//! 400 targets (or as many as `FERULA_BENCH_TARGETS` says) of 1000 series with 30 samples each, 15 s apart, in the log
//! and nothing else. Prints the time, the processor's time and the memory of several openings of the same directory,
//! each in a process of its own, each of which must find every sample. The memory to compare with is that of
//! the process that wrote it all.
//!
//! The floor: 12 million samples of 4 to 11 bytes of log, unpacked at some 1 GB/s (10 ns), decoded (5 ns) and put into their
//! chunks, a line and a buffer that come from memory (25 ns): half a second of processor time on one core.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::path::Path;
use std::time::{Duration, Instant};

use model::Labels;
use model::storage::SeriesKey;
use tsdb::head::{Head, Options, ReplayProgress};

const SERIES: usize = 1000;
const SCRAPES: u16 = 30;

/// Set in the processes that open: the directory.
const DIR: &str = "FERULA_BENCH_REPLAY_DIR";

fn targets() -> usize {
    std::env::var("FERULA_BENCH_TARGETS").map_or(400, |n| n.parse().expect("a number of targets"))
}

fn labels(target: usize, series: usize) -> Labels {
    let group = series / 10;
    Labels::from_pairs([
        ("__name__", format!("some_subsystem_metric_{}_total", group % 50)),
        ("code", (200 + series % 10).to_string()),
        ("handler", format!("/api/v1/resource/{}", group / 50)),
        ("instance", format!("10.0.{}.{}:9100", target / 250, target % 250)),
        ("job", "service".to_owned()),
        ("pod", format!("service-{target}")),
    ])
}

/// Set in the processes that write a snapshot and open with it.
const SNAPSHOT: &str = "FERULA_BENCH_REPLAY_SNAPSHOT";

fn open(dir: &Path) -> Head {
    let snapshot_interval = std::env::var_os(SNAPSHOT).map(|_| Duration::from_hours(1));
    let options = Options { snapshot_interval, ..Options::default() };
    Head::open(dir, options, i64::MIN, &ReplayProgress::default()).expect("opens")
}

fn fill(dir: &Path) {
    let head = open(dir);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut values = vec![0.0; targets() * SERIES];
    let mut refs = Vec::new();
    for scrape in 0..SCRAPES {
        let t = 1_700_000_000_000 + 15_000 * i64::from(scrape);
        for target in 0..targets() {
            let mut batch = head.batch(target as u64);
            for n in 0..SERIES {
                let at = target * SERIES + n;
                values[at] += f64::from(rng.u32(..[1, 10, 1_000_000][n % 3]));
                if scrape == 0 {
                    let labels = labels(target, n);
                    refs.push(batch.append(SeriesKey::Labels(&labels), t, values[at]).expect("is accepted"));
                } else {
                    batch.append(SeriesKey::Ref(refs[at]), t, values[at]).expect("is accepted");
                }
            }
            batch.commit().expect("commits");
        }
    }
    // As a kill leaves it: nothing is written out at the end.
    std::mem::forget(head);
}

fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux keeps account");
    let fields: Vec<&str> = text.rsplit_once(')').expect("names the program").1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&i| fields[i].parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// A line of what the kernel says of this process, in KiB.
fn status_kib(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux keeps account");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

fn reopen(dir: &Path) {
    let (wall, cpu) = (Instant::now(), cpu_time());
    let head = open(dir);
    let (wall, cpu) = (wall.elapsed(), cpu_time().saturating_sub(cpu));
    println!(
        "ready after {wall:?}, {cpu:?} of processor time; {} MiB anonymous, {} MiB resident at most",
        status_kib("RssAnon") >> 10,
        status_kib("VmHWM") >> 10
    );
    assert_eq!(head.n_series(), (targets() * SERIES) as u64);
    assert_eq!(head.max_time() - head.min_time(), 15_000 * (i64::from(SCRAPES) - 1));
    if std::env::var_os(SNAPSHOT).is_some_and(|what| what == "write") {
        let (wall, cpu) = (Instant::now(), cpu_time());
        head.close().expect("closes");
        println!(
            "closed with a snapshot after {:?}, {:?} of processor time",
            wall.elapsed(),
            cpu_time().saturating_sub(cpu)
        );
    }
    std::mem::forget(head);
}

fn main() {
    if let Some(dir) = std::env::var_os(DIR) {
        return reopen(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let before = status_kib("RssAnon");
    fill(dir.path());
    let n = targets() * SERIES;
    let log: u64 = std::fs::read_dir(dir.path().join("wal"))
        .expect("there is a log")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("stays as it is").len())
        .sum();
    println!(
        "{n} series, {} samples, {} MiB of log; {} MiB anonymous when written",
        n * usize::from(SCRAPES),
        log >> 20,
        (status_kib("RssAnon") - before) >> 10
    );
    let reopen = |snapshot: Option<&str>| {
        let program = std::env::current_exe().expect("has a path");
        let mut command = std::process::Command::new(program);
        let status = command.env(DIR, dir.path()).envs(snapshot.map(|what| (SNAPSHOT, what))).status();
        assert!(status.expect("starts").success());
    };
    for _ in 0..5 {
        reopen(None);
    }
    println!("with a snapshot:");
    reopen(Some("write"));
    for _ in 0..5 {
        reopen(Some("read"));
    }
}
