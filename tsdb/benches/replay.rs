//! How long a head takes to come back after the process was killed.
//!
//! 400 targets of 1000 series with 30 samples each, 15 s apart, in the log and nothing else. Prints the time and
//! the processor's time of several openings of the same directory, each of which must find every sample.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::path::Path;
use std::time::{Duration, Instant};

use model::Labels;
use model::storage::SeriesKey;
use tsdb::head::{Head, Options, ReplayProgress};

const TARGETS: usize = 400;
const SERIES: usize = 1000;
const SCRAPES: u16 = 30;

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

fn open(dir: &Path) -> Head {
    Head::open(dir, Options::default(), i64::MIN, &ReplayProgress::default()).expect("opens")
}

fn fill(dir: &Path) {
    let head = open(dir);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut values = vec![0.0; TARGETS * SERIES];
    let mut refs = Vec::new();
    for scrape in 0..SCRAPES {
        let t = 1_700_000_000_000 + 15_000 * i64::from(scrape);
        for target in 0..TARGETS {
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

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fill(dir.path());
    println!("{} series, {} samples", TARGETS * SERIES, TARGETS * SERIES * usize::from(SCRAPES));
    for _ in 0..5 {
        let (wall, cpu) = (Instant::now(), cpu_time());
        let head = open(dir.path());
        println!("ready after {:?}, {:?} of processor time", wall.elapsed(), cpu_time().saturating_sub(cpu));
        assert_eq!(head.n_series(), (TARGETS * SERIES) as u64);
        assert_eq!(head.max_time() - head.min_time(), 15_000 * (i64::from(SCRAPES) - 1));
        std::mem::forget(head);
    }
}
