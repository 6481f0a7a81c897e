//! What a sample of a protobuf exposition costs to parse: to be compared with `parse_text`.
//!
//! The floor, for a counter of 60 bytes on a core of 3 GHz: a dozen tags and lengths that depend on each other, at
//! about 2 ns each, are 25 ns; strings are only pointed at. A classic bucket is 13 bytes and four tags, 8 ns. A
//! native histogram of 40 buckets is 40 varints at 1 ns and two copies of 320 bytes, about 100 ns.

#[allow(dead_code, reason = "the bytes are of no interest here")]
#[path = "../../benches/measure/counting.rs"]
mod counting;
#[path = "../../benches/measure/protobuf.rs"]
mod exposition;

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::LabelsBuilder;
use model::wire::HistogramOptions;
use model::wire::protobuf::{Item, Parser};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const OPTIONS: HistogramOptions = HistogramOptions { native: true, classic_too: false, convert: false };

/// Walks a body; the number of its samples, and something of each.
fn parse(body: &[u8]) -> (u64, f64) {
    let mut parser = Parser::new(body, OPTIONS);
    let (mut n, mut sum) = (0, 0.0);
    while let Some(item) = parser.next() {
        match item.expect("the body is valid") {
            Item::Said(_) => continue,
            Item::Float(v) => sum += v,
            Item::Histogram => sum += parser.native().int.sum,
        }
        n += 1;
        sum += parser.label_bytes().len() as f64;
    }
    (n, sum)
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_protobuf");
    let bodies = [
        ("counters", exposition::counters(1000)),
        ("classic_histograms", exposition::classic(100)),
        ("native_histograms", exposition::native(1000)),
    ];
    for (name, body) in &bodies {
        group.throughput(Throughput::Elements(parse(body).0));
        group.bench_function(*name, |b| b.iter(|| parse(black_box(body))));
    }
    let body = &bodies[0].1;
    group.bench_function("labels_into", |b| {
        let mut labels = LabelsBuilder::default();
        b.iter(|| {
            let mut parser = Parser::new(body, OPTIONS);
            while let Some(Ok(item)) = parser.next() {
                if !matches!(item, Item::Said(_)) {
                    parser.labels_into(&mut labels).expect("the labels are valid");
                    black_box(&labels);
                }
            }
        });
    });
    group.finish();

    // One figure each, whatever the machine is doing: the best of many runs.
    for (name, body) in &bodies {
        let best = (0..1000)
            .map(|_| {
                let start = Instant::now();
                black_box(parse(black_box(body)));
                start.elapsed()
            })
            .min()
            .expect("there were runs");
        let n = parse(body).0;
        let before = counting::allocations();
        black_box(parse(black_box(body)));
        eprintln!(
            "{name}: best {:.1} ns per sample of {:.1} bytes, {} allocations per body",
            best.as_nanos() as f64 / n as f64,
            body.len() as f64 / n as f64,
            counting::allocations() - before
        );
    }
}

criterion_group!(all, benches);
criterion_main!(all);
