//! What a line of an exposition costs to parse.
//!
//! The floor, for the 63 bytes of an average line on a core of 3 GHz:
//! 63 B of tokens at one byte per cycle are 21 ns, at eight bytes per step in label values about 12;
//! ten or so ends of tokens that branch prediction misses every fourth time, at 15 cycles, are 12 ns;
//! a value of six digits is 6 dependent multiply-adds of 4 cycles, 8 ns. Together about 35 ns; the budget is 60.

#![expect(clippy::unwrap_used, reason = "writing to a string does not fail")]

#[allow(dead_code, reason = "the bytes are of no interest here")]
#[path = "../../benches/measure/counting.rs"]
mod counting;

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::LabelsBuilder;
use model::wire::parse::{Entry, Format, Parser};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const N_LINES: usize = 1000;

/// A body as exporters write them: families of ten series, three labels, values that grow.
fn body(decimals: bool, metadata: bool) -> String {
    let mut body = String::new();
    let mut state = 1_u64;
    for i in 0..N_LINES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = state >> 44;
        let family = i / 10;
        if i % 10 == 0 && metadata {
            writeln!(body, "# HELP app_requests_{family}_total Requests that the app has served.").unwrap();
            writeln!(body, "# TYPE app_requests_{family}_total counter").unwrap();
        }
        write!(body, "app_requests_{family}_total{{code=\"{}\",method=\"get\",pod=\"p-{i}\"}} ", 200 + i % 7)
            .unwrap();
        if decimals {
            writeln!(body, "{value}.{}", state % 1_000_000).unwrap();
        } else {
            writeln!(body, "{value}").unwrap();
        }
    }
    body
}

fn parse(body: &[u8], format: Format) -> f64 {
    let mut parser = Parser::new(body, format);
    let mut sum = 0.0;
    while let Some(entry) = parser.next() {
        if let Entry::Series(line) = entry.expect("the body is valid") {
            sum += line.v + line.raw.len() as f64;
        }
    }
    sum
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_text");
    group.throughput(Throughput::Elements(N_LINES as u64));
    for (name, decimals, metadata) in
        [("integers", false, false), ("integers_with_metadata", false, true), ("decimals", true, false)]
    {
        let text = body(decimals, metadata);
        group.bench_function(name, |b| b.iter(|| parse(black_box(text.as_bytes()), Format::Text)));
    }
    let openmetrics = body(false, true) + "# EOF\n";
    group.bench_function("openmetrics", |b| {
        b.iter(|| parse(black_box(openmetrics.as_bytes()), Format::OpenMetrics));
    });
    let text = body(false, false);
    group.bench_function("labels_into", |b| {
        let mut labels = LabelsBuilder::default();
        b.iter(|| {
            let mut parser = Parser::new(text.as_bytes(), Format::Text);
            while let Some(Ok(Entry::Series(line))) = parser.next() {
                parser.labels_into(&line, &mut labels).expect("the labels are valid");
                black_box(&labels);
            }
        });
    });
    group.finish();

    // One figure to compare with the budget, whatever the machine is doing: the best of many runs.
    let text = body(false, false);
    let best = (0..2000)
        .map(|_| {
            let start = std::time::Instant::now();
            black_box(parse(black_box(text.as_bytes()), Format::Text));
            start.elapsed()
        })
        .min()
        .expect("there were runs");
    let before = counting::allocations();
    black_box(parse(black_box(text.as_bytes()), Format::Text));
    eprintln!("allocations per body of {N_LINES} lines: {}", counting::allocations() - before);
    eprintln!(
        "best: {:.1} ns per line of {} bytes",
        best.as_nanos() as f64 / N_LINES as f64,
        text.len() / N_LINES
    );
}

criterion_group!(all, benches);
criterion_main!(all);
