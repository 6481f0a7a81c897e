//! What a sample costs to append and commit, and what a series costs to keep.
//!
//! 100 scrapes of 1000 series each, ten labels per series of which one is its own, warm: all series known.
//! Prints bytes per series as counted by the allocator after each phase and how often a warm batch asks for memory, which
//! should be never; criterion reports time on the processor per 100,000 samples.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

mod measure;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use measure::fleet::{Fleet, SERIES};
use measure::{Counting, allocations, live_bytes, thread_cpu_time};
use tsdb::head::{Head, Options, ReplayProgress};
use tsdb::wal;

const TARGETS: usize = 100;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn open(dir: &std::path::Path, compression: wal::Compression) -> Head {
    let wal = wal::Options { compression, ..wal::Options::default() };
    let options = Options { wal, ..Options::default() };
    Head::open(dir, options, i64::MIN, &ReplayProgress::default()).expect("opens")
}

fn per_series(bytes: usize) -> usize {
    bytes / (TARGETS * SERIES)
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("append_commit");
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64));
    group.sample_size(10);
    for compression in [wal::Compression::None, wal::Compression::Snappy] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let before = live_bytes();
        let head = open(dir.path(), compression);
        let mut fleet = Fleet::new(&head, TARGETS);
        let own = fleet.own_bytes();
        let held = |when: &str| {
            println!("bytes per series {when}: {}", per_series(live_bytes().saturating_sub(before + own)));
        };
        held("just created");
        for round in 1..=490 {
            fleet.prepare(15_000);
            fleet.scrape_all(&head);
            if round == 20 || round == 60 || round == 100 || round == 240 || round == 490 {
                held(&format!("after {round} scrapes"));
            }
        }
        // Chunks grow into larger buffers and are sealed on the way, so the rounds of a whole chunk count.
        let before = allocations();
        for _ in 0..120 {
            fleet.prepare(15_000);
            fleet.scrape_all(&head);
        }
        let batches = (120 * TARGETS) as f64;
        println!("allocations per batch of {SERIES}: {:.3}", (allocations() - before) as f64 / batches);
        let name = if compression == wal::Compression::None { "raw" } else { "snappy" };
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                let mut took = Duration::ZERO;
                for _ in 0..n {
                    fleet.prepare(15_000);
                    let started = thread_cpu_time();
                    fleet.scrape_all(&head);
                    took += thread_cpu_time().saturating_sub(started);
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
