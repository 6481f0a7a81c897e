//! What a query costs per sample-step (series × steps), the store being arrays in memory.
//!
//! The floor, on a core of 3 GHz: copying the samples of a series out of the store (240 of 16 bytes at
//! 8 GB/s) is 2 ns per step; advancing two indices and extrapolating is four divisions and some 40 dependent
//! cycles, 15 ns; adding a column to a compensated sum is 5 operations on 4 lanes, 1 ns. Writing a result into
//! fresh memory is 16 bytes and its share of a page fault, 5 ns.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::histogram::Span;
use model::{FloatHistogram, Labels, Value};
use promql::parse::Options;
use promql::testing::Storage;
use promql::{Engine, EngineOptions, Features, QueryOptions, RangeParams};

const SERIES: usize = 1000;
const HISTOGRAMS: usize = 100;
const STEPS: i64 = 240;
const INTERVAL: i64 = 15_000;

/// 1,000 counters over 10 jobs, a sample every 15 s for 70 minutes; and as many again under another name.
fn storage() -> Storage {
    let mut storage = Storage::default();
    for name in ["requests_total", "errors_total"] {
        for i in 0..SERIES {
            let (job, pod) = (format!("job-{}", i % 10), format!("pod-{i}"));
            let labels = Labels::from_pairs([("__name__", name), ("job", &job), ("pod", &pod)]);
            let slope = 1.0 + i as f64 / 100.0;
            storage.append(&labels, (0..=280).map(|k| (k * INTERVAL, k as f64 * slope)));
        }
    }
    let [mut total, step] = [(12, 9), (4, 1)].map(|(count, bucket)| FloatHistogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: f64::from(count),
        sum: 18.4,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 2 }],
        negative_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 2 }],
        positive_buckets: vec![f64::from(bucket); 4],
        negative_buckets: vec![f64::from(bucket); 4],
        ..FloatHistogram::default()
    });
    for k in 0..=280 {
        for i in 0..HISTOGRAMS {
            let labels = Labels::from_pairs([("__name__", "latency_seconds"), ("pod", &i.to_string())]);
            storage
                .append_value(&labels, 0, k * INTERVAL, Value::FloatHistogram(&total))
                .expect("times ascend");
        }
        total.add_assign(&step).expect("both have exponential buckets");
    }
    storage
}

fn engine(threads: usize) -> Engine {
    let features = Features { parser: Options::ALL, ..Features::default() };
    Engine::new(EngineOptions { threads, features, ..EngineOptions::default() })
}

fn query(c: &mut Criterion) {
    let storage = storage();
    let start = 40 * INTERVAL;
    let range = RangeParams { start, end: start + (STEPS - 1) * INTERVAL, step_ms: INTERVAL };
    let cases = [
        ("selector", "requests_total"),
        ("rate_range", "rate(requests_total[1m])"),
        ("rate_range_5m", "rate(requests_total[5m])"),
        ("aggregate/sum", "sum(requests_total)"),
        ("aggregate/sum_by_rate", "sum by (job) (rate(requests_total[1m]))"),
        ("aggregate/sum_by_pod_rate", "sum by (pod) (rate(requests_total[1m]))"),
        ("aggregate/topk", "topk(5, requests_total)"),
        ("aggregate/topk_by_job", "topk by (job) (2, requests_total)"),
        ("aggregate/limitk", "limitk(5, requests_total)"),
        ("aggregate/count_values", "count_values by (job) (\"v\", requests_total > bool 100)"),
        ("aggregate/quantile", "quantile by (job) (0.9, requests_total)"),
        ("join/one_to_one", "errors_total / requests_total"),
        ("join/many_to_one", "requests_total / on (job) group_left () sum by (job) (requests_total)"),
        ("join/sum_of_one_to_one", "sum by (job) (errors_total / requests_total)"),
        ("join/and", "requests_total and errors_total{job=\"job-1\"}"),
        ("join/or", "requests_total{job!=\"job-1\"} or requests_total"),
        ("join/unless", "requests_total unless errors_total{job=\"job-1\"}"),
        ("scalar", "requests_total * 10 > 5"),
        ("over_time/sum_10m", "sum_over_time(requests_total[10m])"),
        ("over_time/max_10m", "max_over_time(requests_total[10m])"),
        ("over_time/quantile_10m", "quantile_over_time(0.9, requests_total[10m])"),
        ("rate_smoothed", "rate(requests_total[1m] smoothed)"),
        ("histogram/rate_2m", "rate(latency_seconds[2m])"),
        ("histogram/count_rate_2m", "histogram_count(rate(latency_seconds[2m]))"),
        ("histogram/sum_10m", "sum_over_time(latency_seconds[10m])"),
        ("subquery", "max_over_time(rate(requests_total[1m])[5m:1m])"),
    ];
    for threads in [1, 2] {
        let engine = engine(threads);
        let mut group = c.benchmark_group(format!("range/{threads}"));
        group.throughput(Throughput::Elements(SERIES as u64 * STEPS.unsigned_abs()));
        for (name, text) in cases {
            group.bench_function(name, |b| {
                b.iter(|| black_box(engine.range_query(&storage, text, range, &QueryOptions::default())));
            });
        }
        group.finish();
    }
    let engine = engine(1);
    let mut group = c.benchmark_group("instant/1");
    group.throughput(Throughput::Elements(SERIES as u64));
    for (name, text) in
        [("selector", "requests_total"), ("sum_by_rate", "sum by (job) (rate(requests_total[5m]))")]
    {
        group.bench_function(name, |b| {
            b.iter(|| black_box(engine.instant_query(&storage, text, range.end, &QueryOptions::default())));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = query
}
criterion_main!(benches);
