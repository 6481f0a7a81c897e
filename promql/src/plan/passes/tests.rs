//! What each pass does to a plan, seen in the explained plan; and that no result shows it.

use model::Labels;

use super::Passes;
use crate::engine::{Engine, EngineOptions, Features, QueryOptions, RangeParams};
use crate::parse;
use crate::testing::Storage;

const RANGE: RangeParams = RangeParams { start: 600_000, end: 1_200_000, step_ms: 60_000 };

fn engine(passes: Passes) -> Engine {
    let parser = parse::Options { experimental_functions: true, ..parse::Options::default() };
    let features = Features { parser, ..Features::default() };
    Engine::new(EngineOptions { threads: 2, passes, features, ..EngineOptions::default() })
}

/// The plan without what is said of the passes.
fn plan(text: &str, passes: Passes) -> String {
    let told = engine(passes).explain(text, RANGE, &QueryOptions::default()).expect("a valid query");
    told.split_inclusive('\n').filter(|line| !line.starts_with("pass ")).collect()
}

fn left_out(name: &str) -> Passes {
    Passes::each_left_out().find(|(known, _)| *known == name).expect("a pass of that name").1
}

#[test]
fn constants_are_folded() {
    let text = "m * (2 ^ 3 - scalar(vector(1)))";
    assert_eq!(
        plan(text, Passes::ALL),
        "vector * scalar\n  constant 7\n  latest sample of #0\n\
         select #0 {__name__=\"m\"} from 300.001 to 1200.000\n"
    );
    assert!(plan(text, left_out("constant-folding")).contains("scalar ^"));
}

#[test]
fn equal_selectors_are_asked_for_once() {
    let text = "rate(m[5m]) / m offset 1h";
    assert_eq!(
        plan(text, Passes::ALL),
        "join / one-to-one\n  rate over 5m of #0\n  latest sample of #0 offset 1h\n\
         select #0 {__name__=\"m\"} from -3299.999 to 1200.000\n"
    );
    assert!(plan(text, left_out("shared-selects")).contains("select #1 {__name__=\"m\"}"));
}

#[test]
fn labels_that_are_sure_narrow_the_right_side() {
    let narrowed = |text: &str| {
        let told = plan(text, Passes::ALL);
        told.lines().find(|line| line.contains("__name__=\"b\"")).expect("b is selected").to_owned()
    };
    for text in [
        "a{x=\"1\"} and b",
        "a{x=\"1\"} unless on (x, y) b",
        "sum by (x) (rate(a{x=\"1\"}[5m])) > 2 and on (x) b",
        "(a{x=\"1\"} and c) and b",
        "max_over_time((-a{x=\"1\"})[5m:1m]) and b @ 7",
    ] {
        assert!(narrowed(text).contains("x=\"1\""), "{text}: {}", narrowed(text));
    }
    for text in [
        "a{x=\"1\"} or b",
        "a{x=\"1\"} + b",
        "a{x=\"1\"} and on (y) b",
        "a{x=\"1\"} and ignoring (x) b",
        "a{x=~\"1\"} and b",
        "a{x=\"\"} and b",
        "a{x=\"1\"} and rate(b[5m])",
        "sum by (y) (a{x=\"1\"}) and b",
        "sum without (x) (a{x=\"1\"}) and b",
        "count_values(\"x\", a{x=\"1\"}) and b",
        "label_replace(a{x=\"1\"}, \"x\", \"2\", \"\", \"\") and b",
        "(a{x=\"1\"} or c) and b",
        "a{__type__=\"1\"} and b",
    ] {
        assert!(!narrowed(text).contains("=\"1\""), "{text}: {}", narrowed(text));
    }
}

#[test]
fn no_result_shows_a_pass() {
    let mut storage = Storage::default();
    for (name, x, y) in [("a", "1", "1"), ("a", "2", "1"), ("b", "1", "1"), ("b", "1", "2"), ("b", "2", "2")]
    {
        let labels = Labels::from_pairs([("__name__", name), ("x", x), ("y", y)]);
        let v = |k: i64| (k % 7) as f64 + if name == "a" { 0.5 } else { 0.1 };
        storage.append(&labels, (0..=120).map(|k| (k * 10_000, v(k))));
    }
    let texts = [
        "a and b",
        "a{x=\"1\"} and b",
        "a{x=\"2\"} unless on (x, y) b",
        "sum(rate(b[1m])) / (1 + 2 * 3)",
        "quantile by (x) (0.5 + 0.25, b) + on (x) group_left sum by (x) (a)",
        "b / b",
        "sum without (y) (b) and on (x) b{y=\"1\"}",
        "topk(1 + 1, b @ 700)",
        "avg_over_time(b[2m:30s]) > min_of(3, 2)",
    ];
    let plain = engine(Passes::NONE);
    let opts = QueryOptions::default();
    for text in texts {
        let told = |engine: &Engine| {
            let result = engine.range_query(&storage, text, RANGE, &opts).expect("a valid query");
            format!("{:?} {:?}", result.value, result.annotations)
        };
        let expected = told(&plain);
        assert!(expected.contains("Series"), "{text} gives something");
        assert_eq!(told(&engine(Passes::ALL)), expected, "{text}");
        for (name, passes) in Passes::each_left_out() {
            assert_eq!(told(&engine(passes)), expected, "{text} without {name}");
        }
    }
}
