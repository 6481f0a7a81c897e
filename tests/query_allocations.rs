//! What queries allocate follows their series and their output, not their steps or samples: counted by the allocator
//! itself, which is why this is a binary of its own.

#[path = "allocations/counting.rs"]
mod counting;

use model::Labels;
use promql::testing::Storage;
use promql::{Engine, EngineOptions, Features, QueryOptions, RangeParams};

use counting::ALLOCATIONS;

const SERIES: usize = 24;
const SAMPLES: i64 = 4000;
const INTERVAL: i64 = 10_000;

/// Two metrics of counters, and a classic histogram.
fn storage() -> Storage {
    let mut storage = Storage::default();
    let samples = |slope: usize| (0..SAMPLES).map(move |k| (k * INTERVAL, (k % 900) as f64 * slope as f64));
    for i in 0..SERIES {
        let (job, pod) = (format!("j{}", i % 3), format!("p{i}"));
        for name in ["a_total", "b_total"] {
            let labels = Labels::from_pairs([("__name__", name), ("job", &job), ("pod", &pod)]);
            storage.append(&labels, samples(i + 1));
        }
        let le = if i % 8 == 7 { "+Inf".to_owned() } else { (i % 8).to_string() };
        let labels = Labels::from_pairs([("__name__", "h_bucket"), ("le", &le), ("job", &job)]);
        storage.append(&labels, samples(i % 8 + 1));
    }
    for job in ["j0", "j1", "j2"] {
        storage.append(&Labels::from_pairs([("__name__", "one"), ("job", job)]), samples(1));
    }
    storage
}

/// How often a range query over so many steps asks for memory on a thread that has run it before.
fn allocations(engine: &Engine, storage: &Storage, text: &str, steps: i64) -> usize {
    let start = 1000 * INTERVAL;
    let range = RangeParams { start, end: start + (steps - 1) * INTERVAL, step_ms: INTERVAL };
    let run = || engine.range_query(storage, text, range, &QueryOptions::default()).expect("evaluates");
    drop(run());
    let before = ALLOCATIONS.get();
    let result = run();
    let spent = ALLOCATIONS.get() - before;
    drop(result);
    spent
}

#[test]
fn no_step_of_a_range_query_allocates() {
    let features = Features { parser: promql::parse::Options::ALL, ..Features::default() };
    let engine = Engine::new(EngineOptions { threads: 1, features, ..EngineOptions::default() });
    let storage = storage();
    let texts = [
        "a_total",
        "-a_total",
        "a_total * 2 > 10",
        "abs(a_total)",
        "a_total offset 5m",
        "rate(a_total[1m])",
        "increase(a_total[1h])",
        "changes(a_total[1h])",
        "sum_over_time(a_total[10m])",
        "avg_over_time(a_total[10m])",
        "stddev_over_time(a_total[10m])",
        "max_over_time(a_total[10m])",
        "quantile_over_time(0.9, a_total[10m])",
        "double_exponential_smoothing(a_total[10m], 0.5, 0.5)",
        "max_over_time(rate(a_total[1m])[10m:1m])",
        "sum(a_total)",
        "avg by (job) (a_total)",
        "stddev without (pod) (rate(a_total[1m]))",
        "sum by (job) (rate(a_total[1m]))",
        "topk(3, a_total)",
        "bottomk by (job) (2, rate(a_total[1m]))",
        "limitk(2, a_total)",
        "quantile by (job) (0.5, a_total)",
        "a_total - b_total",
        "a_total / on (job) group_left () one",
        "a_total and b_total",
        "a_total or b_total",
        "a_total unless on (job) one",
        "sum by (job) (a_total) / sum by (job) (b_total)",
        "histogram_quantile(0.9, rate(h_bucket[5m]))",
        "label_replace(a_total, \"x\", \"$1\", \"pod\", \"(.*)\")",
        "absent(a_total)",
        "timestamp(a_total)",
    ];
    let mut failed = Vec::new();
    for text in texts {
        let [few, many] = [200, 2000].map(|steps| allocations(&engine, &storage, text, steps));
        // A buffer that grows by doubling asks four times more often for ten times as much.
        let slack = 32;
        if many > few + slack {
            failed.push(format!("{text}: {few} for 200 steps, {many} for 2000"));
        }
    }
    assert!(failed.is_empty(), "allocations that grow with the steps:\n{}", failed.join("\n"));
}
