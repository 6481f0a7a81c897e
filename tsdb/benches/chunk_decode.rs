//! What it costs to read a chunk: ns per sample, by encoding and by what the samples are like.
//!
//! 2,000 chunks of 120 samples each, all different, so that no branch is learnt by heart; the best of ten rounds.
//! A chunk of floats should ask for no memory where the buffer is warm; a histogram of its own has buckets of its own.
//! Budget: 4 to 8 ns per float, by how well its codes can be foretold. `cargo bench --bench chunk_decode`.

#![expect(clippy::print_stdout, reason = "a bench is a program that prints")]

mod measure;

use std::hint::black_box;
use std::time::Instant;

use model::histogram::Span;
use model::{AnyHistogram, Histogram, HistogramSample, SampleBatch, TimeRange};
use tsdb::chunk::{self, EncodedChunk, FloatEncoding};

#[global_allocator]
static ALLOCATOR: measure::Counting = measure::Counting;

const CHUNKS: usize = 2_000;
const SAMPLES: u16 = 120;

/// A small generator: the bench must not depend on another crate's idea of random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Chunks of floats every 15 s, up to `jitter` ms late, each value made from the one before.
fn floats(
    encoding: FloatEncoding,
    jitter: u64,
    mut next: impl FnMut(&mut Random, f64) -> f64,
) -> Vec<EncodedChunk> {
    let mut random = Random(1);
    let chunks = (0..CHUNKS).map(|_| {
        let mut batch = SampleBatch::default();
        let mut v = 0.0;
        for i in 0..i64::from(SAMPLES) {
            v = next(&mut random, v);
            batch.push(1_700_000_000_000 + i * 15_000 + random.below(jitter + 1).cast_signed(), v);
        }
        encoded(&batch, encoding)
    });
    chunks.collect()
}

/// Chunks of counting histograms with twenty buckets, every few of which grow.
fn histograms(is_float: bool) -> Vec<EncodedChunk> {
    let mut random = Random(7);
    let chunks = (0..CHUNKS / 10).map(|_| {
        let mut batch = SampleBatch::default();
        let mut counts = [1_i64; 20];
        for i in 0..i64::from(SAMPLES) {
            for _ in 0..4 {
                let at = usize::try_from(random.below(20)).expect("below 20");
                counts[at] += random.below(20).cast_signed();
            }
            let mut previous = 0;
            let steps = counts.iter().map(|&count| count - std::mem::replace(&mut previous, count));
            let positive_buckets: Vec<i64> = steps.collect();
            let histogram = Histogram {
                schema: 3,
                count: counts.iter().sum::<i64>().cast_unsigned(),
                sum: counts.iter().sum::<i64>() as f64 * 1.5,
                positive_spans: vec![Span { offset: -4, length: 20 }],
                positive_buckets,
                ..Histogram::default()
            };
            let histogram = if is_float {
                AnyHistogram::Float(Box::new(histogram.to_float()))
            } else {
                AnyHistogram::Int(Box::new(histogram))
            };
            batch.histograms.push(HistogramSample { t: i * 15_000, st: 0, histogram });
        }
        encoded(&batch, FloatEncoding::Xor)
    });
    chunks.collect()
}

fn encoded(batch: &SampleBatch, floats: FloatEncoding) -> EncodedChunk {
    let mut chunks = Vec::new();
    chunk::encode_batch(batch, floats, false, u16::MAX, |chunk| chunks.push(chunk));
    chunks.remove(0)
}

fn measure(what: &str, chunks: &[EncodedChunk]) {
    let samples = chunks.len() as f64 * f64::from(SAMPLES);
    let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    let mut out = SampleBatch::default();
    let mut best = f64::INFINITY;
    let mut allocations = 0;
    for _ in 0..10 {
        let before = measure::allocations();
        let begin = Instant::now();
        for chunk in chunks {
            out.clear();
            chunk::decode(chunk.encoding, &chunk.bytes, TimeRange::ALL, &mut out).expect("just encoded");
            black_box(&out);
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / samples);
        // That of the last round counts, when the buffer has been as large as it needs to be.
        allocations = measure::allocations() - before;
    }
    println!(
        "{what:<32} {:>6.2} B/sample {best:>7.1} ns/sample {:>8.2} allocations/chunk",
        bytes as f64 / samples,
        allocations as f64 / chunks.len() as f64
    );
}

fn main() {
    for (name, encoding) in [("xor", FloatEncoding::Xor), ("xor2", FloatEncoding::Xor2)] {
        measure(&format!("{name}, constant"), &floats(encoding, 0, |_, _| 42.5));
        let counter = |random: &mut Random, v: f64| v + random.below(100) as f64;
        measure(&format!("{name}, counter"), &floats(encoding, 0, counter));
        measure(&format!("{name}, counter, times jitter"), &floats(encoding, 10, counter));
        let gauge = |random: &mut Random, _| random.below(10_000) as f64 / 100.0;
        measure(&format!("{name}, gauge of two decimals"), &floats(encoding, 0, gauge));
        let noise = |random: &mut Random, _| f64::from_bits(random.next() >> 2);
        measure(&format!("{name}, random bits"), &floats(encoding, 0, noise));
    }
    measure("histogram of 20 buckets", &histograms(false));
    measure("float histogram of 20 buckets", &histograms(true));
}
