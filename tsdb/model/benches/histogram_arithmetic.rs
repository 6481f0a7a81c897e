//! Sums, comparisons and scaling of float histograms with 20 and 160 buckets, which is what services have and the most
//! that client libraries keep.
//!
//! Floor: a sum reads two lists of 8 bytes per bucket and writes one, 160 buckets are 4 kB from the first cache; two
//! additions per cycle give 25 ns. A compensated sum has seven operations and a division into cases per bucket.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use model::FloatHistogram;
use model::histogram::{CounterResetHint, Span, TrimSide};

/// Buckets in runs of `run` with gaps between them.
fn histogram(n: u32, run: u32, shift: i32) -> FloatHistogram {
    let spans = (0..n / run).map(|i| Span { offset: if i == 0 { -30 + shift } else { 3 }, length: run });
    FloatHistogram {
        counter_reset_hint: CounterResetHint::Unknown,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 3.0,
        count: f64::from(n) * 10.0 + 3.0,
        sum: 1234.5,
        positive_spans: spans.collect(),
        positive_buckets: (0..n).map(|i| f64::from(i % 17 + 1)).collect(),
        ..FloatHistogram::default()
    }
}

fn arithmetic(c: &mut Criterion) {
    let mut group = c.benchmark_group("histogram");
    for n in [20, 160] {
        let (a, b) = (histogram(n, 10, 0), histogram(n, 10, 0));
        let shifted = histogram(n, 10, 5);
        let mut coarse = a.clone();
        coarse.reduce_resolution(1).expect("the schema is lower");
        let id = |what: &str| BenchmarkId::new(what, n);
        let mut sum = a.clone();
        group.bench_function(id("add"), |bench| bench.iter(|| sum.add_assign(black_box(&b))));
        let mut sum = a.clone();
        let mut lost = sum.compensation();
        group.bench_function(id("kahan_add"), |bench| {
            bench.iter(|| sum.kahan_add_assign(black_box(&b), &mut lost));
        });
        // The layout of the sum has grown to hold both.
        let mut sum = a.clone();
        sum.add_assign(&shifted).expect("both are exponential");
        group.bench_function(id("add_to_wider"), |bench| bench.iter(|| sum.add_assign(black_box(&b))));
        group.bench_function(id("clone_and_add_other_layout"), |bench| {
            bench.iter(|| {
                let mut sum = a.clone();
                sum.add_assign(black_box(&shifted)).map(|_| sum)
            });
        });
        group.bench_function(id("clone_and_sub"), |bench| {
            bench.iter(|| {
                let mut difference = a.clone();
                difference.sub_assign(black_box(&b)).map(|_| difference)
            });
        });
        group.bench_function(id("clone_and_add_finer"), |bench| {
            bench.iter(|| {
                let mut sum = coarse.clone();
                sum.add_assign(black_box(&b)).map(|_| sum)
            });
        });
        group.bench_function(id("is_reset_after"), |bench| bench.iter(|| a.is_reset_after(black_box(&b))));
        group.bench_function(id("is_reset_after_coarser"), |bench| {
            bench.iter(|| coarse.is_reset_after(black_box(&b)));
        });
        group.bench_function(id("clone_and_multiply"), |bench| {
            bench.iter(|| {
                let mut scaled = a.clone();
                scaled.multiply(black_box(0.1));
                scaled
            });
        });
        group.bench_function(id("clone_and_compact"), |bench| {
            bench.iter(|| {
                let mut compacted = a.clone();
                compacted.positive_buckets[7] = black_box(0.0);
                compacted.compact(0);
                compacted
            });
        });
        group.bench_function(id("clone_and_trim"), |bench| {
            bench.iter(|| {
                let mut trimmed = a.clone();
                trimmed.trim(black_box(2.1), TrimSide::Below);
                trimmed
            });
        });
    }
    group.finish();
}

criterion_group!(benches, arithmetic);
criterion_main!(benches);
