//! What it costs to log a scrape: ns and bytes per sample, and how often memory is asked for once everything is warm.
//!
//! Batches of 1,000 samples of one time. Three stages, each with all before it: `record` makes bytes of samples, `packed` is
//! what the committer does outside every lock, `logged` has the frames, the checksum and the one write to the page cache.
//!
//! The floor, for a float of some 11 bytes: two varints and a float at a byte per cycle are 4 ns, the checksum and the
//! copies of 11 bytes at 5 GB/s another 7 ns; snappy passes over 11 bytes at 0.5 GB/s in 22 ns, and the write is some 3 us of
//! system call and 5 GB/s per batch. `cargo bench --bench wal_encode`.

#![expect(clippy::print_stdout, reason = "a bench is a program that prints")]

mod measure;

use std::hint::black_box;
use std::time::{Duration, Instant};

use measure::{Counting, allocations};
use model::histogram::Span;
use model::{Histogram, Value};
use tsdb::wal::record::{HistogramRecords, RefSample, Samples};
use tsdb::wal::{Batch, Compression, Options, Writer, segment};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SAMPLES: usize = 1000;
/// Different batches, so that nothing is learnt by heart.
const BATCHES: usize = 64;
const ROUNDS: usize = 100;

/// Scrapes of a target whose series were created one after the other: a third constant, a third small counters, a third
/// large ones.
fn scrapes() -> Vec<Vec<RefSample>> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut values = vec![0.0; SAMPLES];
    let scrapes = (0..BATCHES).map(|scrape| {
        let t = 1_700_000_000_000 + 15_000 * i64::try_from(scrape).expect("few");
        let samples = values.iter_mut().enumerate().map(|(n, value): (usize, &mut f64)| {
            *value += [0.0, f64::from(rng.u8(..10)), f64::from(rng.u32(..1_000_000))][n % 3];
            RefSample { series: 70_000 + n as u64, st: 0, t, v: *value }
        });
        samples.collect()
    });
    scrapes.collect()
}

/// Histograms of twenty buckets, each scrape further on.
fn histograms() -> Vec<Vec<Histogram>> {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut counts = vec![[1_i64; 20]; SAMPLES];
    let scrapes = (0..BATCHES).map(|_| {
        let each = counts.iter_mut().map(|counts| {
            (0..4).for_each(|_| counts[rng.usize(..20)] += i64::from(rng.u8(..20)));
            let mut previous = 0;
            let steps = counts.iter().map(|&count| count - std::mem::replace(&mut previous, count));
            Histogram {
                schema: 3,
                count: counts.iter().sum::<i64>().cast_unsigned(),
                sum: counts.iter().sum::<i64>() as f64 * 1.5,
                positive_spans: vec![Span { offset: -4, length: 20 }],
                positive_buckets: steps.collect(),
                ..Histogram::default()
            }
        });
        each.collect()
    });
    scrapes.collect()
}

/// Runs `one` on every batch, several times; prints the best round.
fn measure(what: &str, mut one: impl FnMut(usize) -> usize) {
    let (mut best, mut bytes, mut n_allocations) = (Duration::MAX, 0, 0);
    for _ in 0..ROUNDS {
        let (before, begin) = (allocations(), Instant::now());
        bytes = (0..BATCHES).map(&mut one).sum();
        best = best.min(begin.elapsed());
        n_allocations = allocations() - before;
    }
    let samples = (BATCHES * SAMPLES) as f64;
    println!(
        "{what:<40} {:>7.1} ns/sample {:>7.2} B/sample {:>8.2} allocations/batch",
        best.as_nanos() as f64 / samples,
        bytes as f64 / samples,
        n_allocations as f64 / BATCHES as f64
    );
}

/// All stages of what `encode` makes: it hands the records of a batch to a closure.
fn stages(what: &str, mut encode: impl FnMut(usize, &mut dyn FnMut(&[u8]))) {
    measure(&format!("{what}, record"), |n| {
        let mut bytes = 0;
        encode(n, &mut |record| bytes += black_box(record).len());
        bytes
    });
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let name = compression.as_str();
        let mut batch = Batch::new(compression);
        measure(&format!("{what}, packed, {name}"), |n| {
            batch.clear();
            encode(n, &mut |record| batch.push(record));
            batch.payload_len()
        });
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options { compression, sync_interval: None, ..Options::default() };
        let log = Writer::open(dir.path(), options).expect("opens");
        let mut position = log.position();
        measure(&format!("{what}, logged, {name}"), |n| {
            let mut batch = log.batch();
            encode(n, &mut |record| batch.push(record));
            log.log(batch).expect("is written");
            let before = std::mem::replace(&mut position, log.position());
            // A batch that began a new segment is of no interest.
            if before.0 == position.0 { usize::try_from(position.1 - before.1).expect("small") } else { 0 }
        });
        log.close().expect("closes");
        for n in segment::list(dir.path()).expect("a folder") {
            std::fs::remove_file(segment::path(dir.path(), n)).expect("is there");
        }
    }
}

fn main() {
    let scrapes = scrapes();
    for (what, stores_start_times) in [("floats", false), ("floats, start times", true)] {
        let mut record = Vec::new();
        stages(what, |n, each| {
            record.clear();
            let mut samples = Samples::new(stores_start_times);
            for &sample in &scrapes[n] {
                samples.push(&mut record, sample);
            }
            each(&record);
        });
    }
    let histograms = histograms();
    let mut records = HistogramRecords::new(false);
    stages("histograms of 20 buckets", |n, each| {
        let t = 1_700_000_000_000 + 15_000 * i64::try_from(n).expect("few");
        for (i, histogram) in histograms[n].iter().enumerate() {
            records.push(70_000 + i as u64, 0, t, Value::Histogram(histogram));
        }
        records.drain(|record| each(record));
    });
}
