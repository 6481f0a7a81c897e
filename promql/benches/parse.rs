//! What it costs to read an expression: the list of upstream's own benchmark, and a query as dashboards write them.
//!
//! The floor, on a core of 3 GHz: looking at each byte once is 1 ns, an allocation with its release 30 ns, and a tree
//! needs one for each node below another, each name and each list. `foo + bar` has 9 bytes, two nodes under a third,
//! two names and two lists of matchers: 200 ns.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use promql::parse::{Options, Parser, json, pretty};

/// Compat: prometheus `promql/bench_test.go`, `BenchmarkParser`.
const VALID: &[&str] = &[
    "a",
    "metric",
    "1",
    "1 >= bool 1",
    "1 + 2/(3*1)",
    "foo or bar",
    "foo and bar unless baz or qux",
    "bar + on(foo) bla / on(baz, buz) group_right(test) blub",
    "foo / ignoring(test,blub) group_left(blub) bar",
    "foo - ignoring(test,blub) group_right(bar,foo) bar",
    r#"foo{a="b", foo!="bar", test=~"test", bar!~"baz"}"#,
    r#"min_over_time(rate(foo{bar="baz"}[2s])[5m:])[4m:3s]"#,
    "sum without(and, by, avg, count, alert, annotations)(some_metric) [30m:10s]",
    r#"sort_by_label(metric, "foo", "bar")"#,
];

const INVALID: &[&str] = &[
    "(",
    "}",
    "1 or 1",
    "1 or on(bar) foo",
    "foo unless on(bar) group_left(baz) bar",
    "test[5d] OFFSET 10s [10m:5s]",
];

const DASHBOARD: &str = r#"sum by (job, instance) (rate(http_requests_total{job="api", code=~"5..", handler!="/healthz"}[5m]))
  / ignoring (code) group_left () sum by (job, instance) (rate(http_requests_total{job="api"}[5m])) > 0.05
unless on (instance) up{job="api"} == 0"#;

fn parse(c: &mut Criterion) {
    let parser = Parser::new(Options::ALL);
    let mut group = c.benchmark_group("parse");
    for text in VALID.iter().chain(INVALID) {
        group.bench_function(*text, |b| b.iter(|| drop(black_box(parser.parse(black_box(text))))));
    }
    group.bench_function("dashboard", |b| b.iter(|| drop(black_box(parser.parse(black_box(DASHBOARD))))));
    let chain = vec!["a"; 1000].join(" + ");
    group.bench_function("chain of 1000", |b| b.iter(|| drop(black_box(parser.parse(black_box(&chain))))));
    group.finish();

    let expr = parser.parse(DASHBOARD).expect("it is valid");
    let mut group = c.benchmark_group("print");
    group.bench_function("canonical", |b| b.iter(|| black_box(&expr).to_string()));
    group.bench_function("pretty", |b| b.iter(|| pretty::format(black_box(&expr))));
    group.bench_function("json", |b| {
        b.iter(|| {
            let mut out = Vec::new();
            json::write(black_box(&expr), &mut out);
            out
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    targets = parse
}
criterion_main!(benches);
