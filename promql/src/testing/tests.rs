//! Upstream's scripts and ours, with one thread and several, and with odd morsels.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::script::{Report, run};
use crate::engine::{Engine, EngineOptions, Features};
use crate::parse;

/// The engine that upstream's scripts are written for.
pub(crate) fn engine(threads: usize) -> Engine {
    let features =
        Features { parser: parse::Options::ALL, delayed_name_removal: true, start_timestamps: true };
    Engine::new(EngineOptions {
        timeout: Duration::from_secs(100),
        max_samples: 10_000,
        max_concurrency: 0,
        threads,
        features,
        ..EngineOptions::default()
    })
}

fn scripts(dir: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return BTreeMap::new();
    };
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    let is_script = |p: &PathBuf| p.extension().is_some_and(|e| e == "test");
    paths
        .filter(is_script)
        .map(|p| {
            let name = p.file_name().expect("a listed file has a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&p).expect("a listed script can be read"))
        })
        .collect()
}

fn upstream() -> BTreeMap<String, String> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/upstream");
    let root = std::env::var("FERULA_UPSTREAM").unwrap_or_else(|_| default.to_owned());
    scripts(&Path::new(&root).join("promqltest"))
}

/// How many failures are shown of every script.
const SHOWN: usize = 5;

fn shown() -> usize {
    std::env::var("FERULA_SHOWN").ok().and_then(|n| n.parse().ok()).unwrap_or(SHOWN)
}

/// Runs all scripts on every engine and fails if any evaluation does; a failing one hides no other.
fn assert_clean(scripts: &BTreeMap<String, String>, engines: &[Engine]) {
    let mut total = Report::default();
    for (name, text) in scripts {
        for engine in engines {
            let report = run(engine, name, text);
            println!(
                "{name}: {} of {} evaluations passed, {} failed, {} queries",
                report.passed,
                report.passed + report.failed,
                report.failed,
                report.queries
            );
            for failure in report.failures.iter().take(shown()) {
                println!("  FAILED {failure}");
            }
            total.merge(report);
        }
    }
    println!("total: {} passed, {} failed, {} queries", total.passed, total.failed, total.queries);
    assert!(total.failures.is_empty(), "{} of the evaluations failed", total.failed);
    assert!(total.passed > 0, "nothing was evaluated");
}

/// Upstream's scripts: all of them, or those whose names hold `FERULA_SCRIPT`.
fn chosen() -> BTreeMap<String, String> {
    let mut all = upstream();
    if let Ok(filter) = std::env::var("FERULA_SCRIPT") {
        all.retain(|name, _| name.contains(&filter));
        assert!(!all.is_empty(), "no script of upstream is called {filter}");
    }
    all
}

fn skipped(test: &str) {
    // Not `println!`: nobody sees what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no upstream test data (set FERULA_UPSTREAM)");
}

#[test]
fn upstream_scripts_pass() {
    let all = chosen();
    if all.is_empty() {
        return skipped("upstream_scripts_pass");
    }
    assert_clean(&all, &[engine(1)]);
}

#[test]
fn scripts_do_not_depend_on_threads_and_morsels() {
    let mut all = ours("");
    assert!(!all.is_empty(), "our own scripts are part of the sources");
    all.extend(chosen());
    assert_clean(&all, &[(2, 1), (3, 3), (2, 64)].map(|(n, morsel)| engine(n).with_morsels_of(morsel)));
}

fn ours(folder: &str) -> BTreeMap<String, String> {
    scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ours").join(folder))
}

#[test]
fn names_fall_at_once_without_the_switch() {
    let features = Features { parser: parse::Options::ALL, ..Features::default() };
    let engine = Engine::new(EngineOptions { threads: 1, features, ..EngineOptions::default() });
    assert_clean(&ours("immediate"), &[engine]);
}

// === against the reference ===

use model::{Labels, STALE_NAN};

use super::reference::{Reference, Samples, Val, Vector};
use super::storage::Storage;
use crate::engine::{QueryOptions, RangeParams, SampleValue, Value};

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % n
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Counters and gauges with gaps, resets, stale markers, NaN, infinities and uneven spacing.
fn data(random: &mut Random) -> Vec<(Labels, Samples)> {
    let mut all = Vec::new();
    for metric in ["c_total", "g", "h"] {
        for job in ["a", "b", "c"] {
            for i in 0..=random.below(3) {
                let labels = Labels::from_pairs([("__name__", metric), ("job", job), ("i", &i.to_string())]);
                let mut samples = Samples::new();
                let (mut t, mut v) = (i64::try_from(random.below(60_000)).expect("small"), 0.0);
                while t < 900_000 {
                    t += 15_000 + i64::try_from(random.below(3)).expect("small");
                    if random.below(12) == 0 {
                        t += 15_000 * i64::try_from(random.below(30)).expect("small");
                    }
                    v = match (metric, random.below(40)) {
                        (_, 0) => STALE_NAN,
                        ("g", 1) => f64::NAN,
                        ("g", 2) => f64::INFINITY,
                        ("g", 3) => -0.0,
                        ("c_total", 4) => 0.1,
                        ("c_total", _) => {
                            if v.is_finite() {
                                v + random.below(100) as f64 / 7.0
                            } else {
                                1.0
                            }
                        }
                        ("h", _) => (random.below(4) as f64) - 1.0,
                        _ => (random.below(2000) as f64 - 1000.0) / 3.0,
                    };
                    samples.push((t, v));
                }
                all.push((labels, samples));
            }
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

const RANGE_FNS: [&str; 19] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "changes",
    "resets",
    "count_over_time",
    "present_over_time",
    "last_over_time",
    "first_over_time",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "stdvar_over_time",
    "deriv",
    "quantile_over_time",
    "predict_linear",
];

fn selector(random: &mut Random) -> String {
    let name = random.pick(&["c_total", "g", "h"]);
    let matcher = random.pick(&["", "", "", "{job=\"a\"}", "{job!=\"b\"}", "{i=~\"0|1\"}", "{job=\"zz\"}"]);
    format!("{name}{matcher}")
}

fn modifiers(random: &mut Random) -> &'static str {
    random.pick(&["", "", "", " offset 1m", " offset -45s", " @ 400", " @ end()", " @ start() offset 30s"])
}

/// An expression whose series come in label order, whatever the step: order-sensitive sums may stand on it.
fn ordered(random: &mut Random, depth: usize) -> String {
    match random.below(if depth == 0 { 4 } else { 8 }) {
        0 => format!("{}{}", selector(random), modifiers(random)),
        1..=3 => {
            let func = RANGE_FNS[random.below(RANGE_FNS.len())];
            let range = random.pick(&["15s", "1m", "2m30s", "5m", "13m"]);
            let matrix = format!("{}[{range}]{}", selector(random), modifiers(random));
            match func {
                "quantile_over_time" => {
                    format!("{func}({}, {matrix})", random.pick(&["0.3", "0.9", "1.5", "0"]))
                }
                "predict_linear" => format!("{func}({matrix}, 60)"),
                _ => format!("{func}({matrix})"),
            }
        }
        4 => format!(
            "{}({})",
            random.pick(&["abs", "ceil", "sgn", "sqrt", "-", "+"]),
            ordered(random, depth - 1)
        ),
        5 => format!("({} {} {})", ordered(random, depth - 1), operator(random), scalar(random, depth - 1)),
        6 => format!("({} {} {})", scalar(random, depth - 1), operator(random), ordered(random, depth - 1)),
        _ => {
            let func = random.pick(&[
                "rate",
                "max_over_time",
                "sum_over_time",
                "changes",
                "last_over_time",
                "deriv",
            ]);
            let range = random.pick(&["2m:30s", "5m:", "3m:17s", "90s:7s"]);
            format!("{func}(({})[{range}]{})", ordered(random, depth - 1), modifiers(random))
        }
    }
}

fn operator(random: &mut Random) -> &'static str {
    random.pick(&["+", "-", "*", "/", "%", "> bool", "<= bool", "==", "!=", ">", "<", ">="])
}

fn scalar(random: &mut Random, depth: usize) -> String {
    match random.below(5) {
        0 => "time()".to_owned(),
        1 => format!("scalar({})", if depth == 0 { selector(random) } else { ordered(random, depth - 1) }),
        _ => random.pick(&["2", "0.5", "-3", "0", "100", "NaN"]).to_owned(),
    }
}

fn vector(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return ordered(random, 1);
    }
    let by = random.pick(&["", " by (job)", " by (i, job)", " without (i)", " by (nope)", " without (job)"]);
    match random.below(8) {
        0 | 1 => {
            let op = random.pick(&["sum", "avg", "stddev", "stdvar", "count", "min", "max", "group"]);
            format!("{op}{by}({})", ordered(random, depth))
        }
        2 => format!("{}{by}({})", random.pick(&["count", "min", "max", "group"]), vector(random, depth - 1)),
        3 => format!("quantile{by}({}, {})", random.pick(&["0.5", "0.25", "2"]), ordered(random, depth - 1)),
        4 => format!("limitk{by}(2, {})", ordered(random, depth - 1)),
        5 => {
            let op = random.pick(&["and", "or", "unless"]);
            let on = random.pick(&["", " on (job)", " ignoring (i)", " on ()"]);
            format!("({} {op}{on} {})", vector(random, depth - 1), vector(random, depth - 1))
        }
        _ => {
            let on = random.pick(&[
                "",
                "",
                " on (job)",
                " on (job, i)",
                " ignoring (i)",
                " on (job) group_left ()",
                " ignoring (i) group_left ()",
                " on (job) group_right ()",
                " on (job) group_left (i)",
            ]);
            format!("({} {}{on} {})", vector(random, depth - 1), operator(random), vector(random, depth - 1))
        }
    }
}

fn expected(
    reference: &Reference<'_>,
    text: &str,
    range: RangeParams,
) -> Option<BTreeMap<(Labels, i64), f64>> {
    let expr = engine(1).parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut out = BTreeMap::new();
    let mut t = range.start;
    while t <= range.end {
        let vector: Vector = match reference.eval(&expr, t).ok()? {
            Val::Scalar(v) => vec![(Labels::empty(), v)],
            Val::Vector(v) => v,
        };
        for (labels, v) in vector {
            if out.insert((labels, t), v).is_some() {
                return None;
            }
        }
        t += range.step_ms.max(1);
    }
    Some(out)
}

fn points(value: &Value) -> BTreeMap<(Labels, i64), f64> {
    match value {
        Value::Vector(samples) => {
            let float = |s: &crate::VectorSample| match s.value {
                SampleValue::Float(v) => v,
                SampleValue::Histogram(_) => panic!("a histogram for {}", s.labels),
            };
            samples.iter().map(|s| ((s.labels.clone(), s.t), float(s))).collect()
        }
        Value::Matrix(matrix) => {
            let all = matrix.iter().flat_map(|s| s.samples.iter().map(|p| ((s.labels.clone(), p.t), p.v)));
            all.collect()
        }
        Value::Scalar(sample) => BTreeMap::from([((Labels::empty(), sample.t), sample.v)]),
        Value::String { .. } => BTreeMap::new(),
    }
}

fn assert_same_bits(text: &str, got: &BTreeMap<(Labels, i64), f64>, expected: &BTreeMap<(Labels, i64), f64>) {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    for (key, v) in expected {
        let found = got.get(key);
        assert!(found.is_some_and(|&f| same(f, *v)), "{text}\n{key:?}: got {found:?}, expected {v}");
    }
    let stray = got.keys().find(|key| !expected.contains_key(*key));
    assert!(stray.is_none(), "{text}\n{stray:?} = {:?} was not expected", stray.map(|k| got[k]));
}

#[test]
fn generated_expressions_agree_with_the_reference_bit_for_bit() {
    let immediate = |threads: usize| {
        let features = Features { parser: parse::Options::ALL, ..Features::default() };
        Engine::new(EngineOptions { threads, features, ..EngineOptions::default() })
    };
    let engines = [
        immediate(1),
        immediate(1).with_morsels_of(1),
        immediate(2).with_morsels_of(3),
        immediate(3).with_morsels_of(2),
    ];
    let cases = std::env::var("FERULA_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(250);
    let (mut failed, mut empty, mut compared) = (0, 0, 0);
    for seed in 0..cases {
        let mut random = Random(seed * 7919 + 1);
        random.below(2);
        let all = data(&mut random);
        let mut storage = Storage::default();
        for (labels, samples) in &all {
            storage.append(labels, samples.iter().copied());
        }
        let text = match random.below(4) {
            0 => ordered(&mut random, 2),
            1 => format!("absent({})", random.pick(&["g", "nothing", "c_total offset 10m"])),
            _ => vector(&mut random, 2),
        };
        let ranges = [
            RangeParams { start: 500_000, end: 500_000, step_ms: 0 },
            RangeParams { start: 100_000, end: 1_400_000, step_ms: 13_000 },
            RangeParams { start: -50_000, end: 800_000, step_ms: 170_000 },
        ];
        for range in ranges {
            let reference = Reference { data: &all, lookback: 300_000, start: range.start, end: range.end };
            let expected = expected(&reference, &text, range);
            for engine in &engines {
                let result = if range.step_ms == 0 {
                    engine.instant_query(&storage, &text, range.start, &QueryOptions::default())
                } else {
                    engine.range_query(&storage, &text, range, &QueryOptions::default())
                };
                match (&result, &expected) {
                    (Ok(result), Some(expected)) => {
                        assert_same_bits(&text, &points(&result.value), expected);
                        compared += expected.len();
                        empty += usize::from(expected.is_empty());
                    }
                    (Err(_), None) => failed += 1,
                    (Ok(_), None) => panic!("{text} {range:?}: the reference refuses it"),
                    (Err(e), Some(_)) => panic!("{text} {range:?}: {e}"),
                }
            }
        }
    }
    println!("{cases} expressions, {compared} points compared, {failed} runs refused by both, {empty} empty");
}
