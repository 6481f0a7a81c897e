//! What a sample costs to append and commit, and what a series costs to keep.
//!
//! 100 scrapes of 1000 series each, ten labels per series of which one is its own, warm: all series known.
//! Prints bytes per series as counted by the allocator after each phase; criterion reports time on the processor per 100,000 samples.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::Labels;
use model::storage::{SeriesKey, SeriesRef};
use tsdb::head::{Head, Options, ReplayProgress};
use tsdb::wal;

const TARGETS: usize = 100;
const SERIES: usize = 1000;

/// The system's allocator with a count of the bytes that are out.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; the count touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise on `layout` is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise on `ptr` and `layout` is ours.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn labels(target: usize, series: usize) -> Labels {
    let (instance, group) = (format!("10.0.{}.{}:9100", target / 250, target % 250), series / 10);
    Labels::from_pairs([
        ("__name__", format!("some_subsystem_metric_{}_total", group % 50)),
        ("cluster", "eu-west-1".to_owned()),
        ("code", (200 + series % 10).to_string()),
        ("handler", format!("/api/v1/resource/{}", group / 50)),
        ("instance", instance.clone()),
        ("job", "service".to_owned()),
        ("method", ["GET", "PUT", "POST"][target % 3].to_owned()),
        ("namespace", format!("team-{}", target % 7)),
        ("pod", format!("service-{instance}")),
        ("zone", ["a", "b", "c"][target % 3].to_owned()),
    ])
}

struct Fleet {
    head: Head,
    refs: Vec<Vec<SeriesRef>>,
    t: i64,
    rng: fastrand::Rng,
    counters: Vec<f64>,
}

impl Fleet {
    fn new(dir: &std::path::Path, compression: wal::Compression) -> Self {
        let wal = wal::Options { compression, ..wal::Options::default() };
        let options = Options { wal, ..Options::default() };
        let head = Head::open(dir, options, i64::MIN, &ReplayProgress::default()).expect("opens");
        let mut refs = Vec::new();
        let t = 1_700_000_000_000;
        for target in 0..TARGETS {
            let mut batch = head.batch(target as u64);
            let each = (0..SERIES)
                .map(|n| batch.append(SeriesKey::Labels(&labels(target, n)), t, 0.0).expect("is accepted"));
            refs.push(each.collect());
            batch.commit().expect("commits");
        }
        Self { head, refs, t, rng: fastrand::Rng::with_seed(1), counters: vec![0.0; TARGETS * SERIES] }
    }

    /// One scrape of every target: a third constant, a third small counters, a third large ones.
    fn prepare(&mut self) {
        self.t += 15_000;
        for (n, counter) in self.counters.iter_mut().enumerate() {
            match n % 3 {
                0 => {}
                1 => *counter += f64::from(self.rng.u8(..10)),
                _ => *counter += f64::from(self.rng.u32(..1_000_000)),
            }
        }
    }

    fn scrape_all(&mut self) {
        for (target, refs) in self.refs.iter().enumerate() {
            let mut batch = self.head.batch(target as u64);
            let values = &self.counters[target * SERIES..(target + 1) * SERIES];
            for (&series, &v) in refs.iter().zip(values) {
                black_box(batch.append(SeriesKey::Ref(series), self.t, v)).expect("is accepted");
            }
            batch.commit().expect("commits");
        }
    }
}

/// The time this thread has spent on a processor: what others take of a shared machine does not count.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps account");
    let first = text.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(first.expect("starts with nanoseconds"))
}

fn per_series(bytes: usize) -> usize {
    bytes / (TARGETS * SERIES)
}

fn bench(c: &mut Criterion) {
    let own = TARGETS * SERIES * (8 + size_of::<SeriesRef>());
    let mut group = c.benchmark_group("append_commit");
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64));
    group.sample_size(10);
    for compression in [wal::Compression::None, wal::Compression::Snappy] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let before = LIVE.load(Ordering::Relaxed);
        let mut fleet = Fleet::new(dir.path(), compression);
        let held = |when: &str| {
            let bytes = LIVE.load(Ordering::Relaxed).saturating_sub(before + own);
            println!("bytes per series {when}: {}", per_series(bytes));
        };
        held("just created");
        for round in 1..=490 {
            fleet.prepare();
            fleet.scrape_all();
            if round == 20 || round == 60 || round == 100 || round == 240 || round == 490 {
                held(&format!("after {round} scrapes"));
            }
        }
        let name = if compression == wal::Compression::None { "raw" } else { "snappy" };
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                let mut took = Duration::ZERO;
                for _ in 0..n {
                    fleet.prepare();
                    let started = cpu_time();
                    fleet.scrape_all();
                    took += cpu_time().saturating_sub(started);
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
