//! Queries that mean harm: numbers at the ends of their types, trees as high as they may be, work without end. Each
//! has an answer or an error, in time, and never a panic.

use std::time::Instant;

use super::*;
use crate::parse;
use crate::testing::generate::{Random, data, store};

const DURATIONS: [&str; 9] =
    ["1ms", "1s", "59s999ms", "5m", "1y", "292y", "(step() + 1ms)", "(range() + 1s)", "2w"];

const OFFSETS: [&str; 9] = [
    "",
    " offset 5m",
    " offset 292y",
    " offset -292y",
    " offset (2 ^ 30)",
    " @ 9223372036854774",
    " @ -9223372036854774 offset 292y",
    " @ 300",
    " @ end() offset -1ms",
];

const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "2",
    "0.5",
    "NaN",
    "Inf",
    "-Inf",
    "1.7e308",
    "-1.7e308",
    "5e-324",
    "9223372036854775807",
    "-9223372036854775808",
    "1e9",
    "time()",
    "start()",
    "scalar(g)",
];

const METRICS: [&str; 9] =
    ["c_total", "g", "s", "h", "hg", "n", "mix", "b_bucket", "{__name__=~\"h.*|n|g\",job=\"a\"}"];

const OF_WINDOWS: [&str; 30] = [
    "rate(#)",
    "increase(#)",
    "delta(#)",
    "irate(#)",
    "idelta(#)",
    "changes(#)",
    "resets(#)",
    "count_over_time(#)",
    "last_over_time(#)",
    "first_over_time(#)",
    "sum_over_time(#)",
    "avg_over_time(#)",
    "min_over_time(#)",
    "max_over_time(#)",
    "stddev_over_time(#)",
    "stdvar_over_time(#)",
    "mad_over_time(#)",
    "ts_of_min_over_time(#)",
    "ts_of_last_over_time(#)",
    "present_over_time(#)",
    "absent_over_time(#)",
    "deriv(#)",
    "predict_linear(#, $)",
    "quantile_over_time($, #)",
    "double_exponential_smoothing(#, 0.5, 0.1)",
    "double_exponential_smoothing(#, $, $)",
    "histogram_count(rate(#))",
    "histogram_quantile($, rate(#))",
    "histogram_fraction($, $, increase(#))",
    "sum(avg_over_time(#))",
];

const OF_VECTORS: [&str; 52] = [
    "-#",
    "abs(#)",
    "round(#, $)",
    "clamp(#, $, $)",
    "year(# * $)",
    "month(# + $)",
    "days_in_month(# * $)",
    "day_of_year(vector($))",
    "hour(vector($))",
    "timestamp(#)",
    "sort_desc(#)",
    "absent(#)",
    "vector(scalar(#) + $)",
    "# + $",
    "$ - #",
    "# * $",
    "# / $",
    "# % $",
    "# ^ $",
    "# > bool $",
    "# == $",
    "# </ $",
    "# >/ $",
    "# atan2 $",
    "# + on (job) group_left () sum by (job) (#)",
    "# * ignoring (i) #",
    "# == fill (1.7e308) #",
    "# + fill_left (NaN) #",
    "# and #",
    "# or #",
    "# unless #",
    "sum(#)",
    "avg by (job) (#)",
    "min(#)",
    "count(#)",
    "group(#)",
    "stddev(#)",
    "topk($, #)",
    "bottomk by (job) ($, #)",
    "limitk($, #)",
    "limit_ratio($, #)",
    "quantile($, #)",
    "count_values(\"v\", # * $)",
    "histogram_quantile($, #)",
    "histogram_quantiles(#, \"q\", $, $)",
    "histogram_fraction($, $, #)",
    "histogram_avg(#)",
    "histogram_stdvar(# * $)",
    "info(#)",
    "label_replace(#, \"job\", \"$$1x\", \"i\", \"(.*)\")",
    "label_join(#, \"job\", \"-\", \"i\", \"job\")",
    "last_over_time((#)[5m:$$s])",
];

/// A random expression; `#` stands for a vector or a window, `$` for a number, `$$` for a dollar.
fn vector(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.once_in(6) {
        let boundary = random.pick(&["", "", "", " smoothed"]);
        return format!("{}{boundary}{}", random.pick(&METRICS), random.pick(&OFFSETS));
    }
    if random.once_in(3) {
        let template = random.pick(&OF_WINDOWS);
        return filled(random, template, |random| window(random, depth - 1));
    }
    let template = random.pick(&OF_VECTORS);
    filled(random, template, |random| {
        let operand = vector(random, depth - 1);
        format!("({operand})")
    })
}

fn window(random: &mut Random, depth: usize) -> String {
    let (range, offset) = (random.pick(&DURATIONS), random.pick(&OFFSETS));
    if random.once_in(3) {
        let step = random.pick(&["", "1ms", "7s", "1m", "1y", "292y", "(step() + 1s)"]);
        return format!("({})[{range}:{step}]{offset}", vector(random, depth));
    }
    let boundary = random.pick(&["", "", " anchored", " smoothed"]);
    format!("{}[{range}]{boundary}{offset}", random.pick(&METRICS))
}

fn filled(random: &mut Random, template: &str, mut operand: impl FnMut(&mut Random) -> String) -> String {
    let mut out = String::new();
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '#' => out.push_str(&operand(random)),
            '$' if rest.next_if_eq(&'$').is_some() => {
                out.push_str(if template.contains("[5m:") { "30" } else { "$" });
            }
            '$' => out.push_str(random.pick(&NUMBERS)),
            c => out.push(c),
        }
    }
    out
}

const RANGES: [RangeParams; 9] = [
    RangeParams { start: i64::MIN, end: i64::MIN + 5000, step_ms: 1000 },
    RangeParams { start: i64::MAX - 3, end: i64::MAX, step_ms: 1 },
    RangeParams { start: i64::MIN, end: i64::MAX, step_ms: i64::MAX / 3 },
    RangeParams { start: i64::MIN + 1, end: 0, step_ms: i64::MAX },
    RangeParams { start: -9_000_000_000_000_000, end: 9_000_000_000_000_000, step_ms: 1_000_000_000_000_000 },
    RangeParams { start: 0, end: 600_000, step_ms: 60_000 },
    RangeParams { start: 299_990, end: 300_020, step_ms: 1 },
    RangeParams { start: 0, end: 100, step_ms: 1000 },
    RangeParams { start: -1, end: i64::MAX, step_ms: i64::MAX - 7 },
];

const TIMES: [i64; 8] =
    [i64::MIN, i64::MIN + 1, -9_000_000_000_000_000, -1, 0, 300_000, i64::MAX - 1, i64::MAX];

#[test]
fn numbers_at_the_ends_of_their_types_are_harmless() {
    let cases = std::env::var("FERULA_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let seed = std::env::var("FERULA_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let random = &mut Random::new(seed);
    let storage = store(&data(random));
    let engines = [true, false].map(|delayed_name_removal| {
        let features = Features {
            parser: parse::Options::ALL,
            delayed_name_removal,
            start_timestamps: delayed_name_removal,
            per_step_stats: true,
            ..Features::default()
        };
        engine(|o| {
            (o.max_samples, o.features) = (20_000, features);
            o.timeout = Duration::from_millis(500);
        })
        .with_morsels_of(1)
    });
    let (mut answers, mut panics) = (0, Vec::new());
    for _ in 0..cases {
        let text = vector(random, 3);
        let engine = &engines[random.below(2)];
        let opts = QueryOptions {
            detail: if random.once_in(2) { Detail::All } else { Detail::Totals },
            lookback_delta: random.once_in(4).then(|| Duration::from_millis(u64::MAX)),
            ..QueryOptions::default()
        };
        let began = Instant::now();
        let (result, when) = if random.once_in(3) {
            let t = TIMES[random.below(TIMES.len())];
            (engine.instant_query(&storage, &text, t, &opts), format!("at {t}"))
        } else {
            let range = RANGES[random.below(RANGES.len())];
            (engine.range_query(&storage, &text, range, &opts), format!("{range:?}"))
        };
        if began.elapsed() > Duration::from_secs(20) {
            panics.push(format!("{text} {when}: took {:?}", began.elapsed()));
        }
        match result {
            Ok(_) | Err(Error::Timeout(_)) => answers += 1,
            Err(Error::Parse(e)) => panic!("{text}: {e}"),
            Err(e @ Error::Internal(_)) => panics.push(format!("{text} {when}: {e}")),
            Err(_) => {}
        }
    }
    assert!(panics.is_empty(), "{} of {cases} panicked\n{}", panics.len(), panics.join("\n"));
    assert!(answers > cases / 4, "only {answers} of {cases} had an answer");
}

/// Rows are computed on threads with small stacks, however deep the streams are nested.
#[test]
fn nested_streams_fit_on_the_stacks_of_workers() {
    let engine = engine(|_| {}).with_morsels_of(1);
    let storage = storage(2);
    for (open, close, levels, detail) in [
        ("m + (", ")", 1000, Detail::Totals),
        ("m + (", ")", 500, Detail::All),
        ("m and (", ")", 1000, Detail::Totals),
        ("(", ") unless m + 1e9", 1000, Detail::Totals),
        ("m or (", ")", 1000, Detail::Totals),
        ("max_over_time((m + ", ")[1s:1s])", parse::SUBQUERIES_MAX, Detail::Totals),
    ] {
        let nested = format!("{}m{}", open.repeat(levels), close.repeat(levels));
        let opts = QueryOptions { detail, ..QueryOptions::default() };
        let e = engine.instant_query(&storage, &nested, 10_000, &opts).err().map(|e| e.to_string());
        assert_eq!(e, None, "{open} {close}");
    }
}

/// One row of work without end is given up as soon as many short ones.
#[test]
fn a_single_row_is_given_up_when_time_is_over() {
    let mut storage = Storage::default();
    let histogram = model::FloatHistogram { count: 1.0, sum: 1.0, ..model::FloatHistogram::default() };
    let [floats, histograms] = ["x", "h"].map(|name| Labels::from_pairs([("__name__", name)]));
    storage.append(&floats, (0..20_000).map(|k| (k, (k % 977) as f64)));
    for k in 0..2_000 {
        let value = model::Value::FloatHistogram(&histogram);
        storage.append_value(&histograms, 0, k * 10, value).expect("times ascend");
    }
    let range = RangeParams { start: 0, end: 20_000, step_ms: 1 };
    for text in [
        "quantile_over_time(0.5, x[20s])",
        "mad_over_time(x[20s])",
        "deriv(x[20s])",
        "sum_over_time(h[20s])",
        "quantile(0.5, {__name__=~\"x|h\"}) + on () quantile_over_time(0.5, x[20s])",
    ] {
        let engine =
            engine(|o| (o.timeout, o.features.parser) = (Duration::from_millis(100), parse::Options::ALL));
        let began = Instant::now();
        let e =
            engine.range_query(&storage, text, range, &QueryOptions::default()).expect_err("takes minutes");
        assert_eq!(e.to_string(), "query timed out in expression evaluation", "{text}");
        assert!(began.elapsed() < Duration::from_secs(20), "{text} took {:?}", began.elapsed());
    }
}

/// What a query refuses to others is only what it holds.
#[test]
fn a_refused_reservation_takes_nothing_from_others() {
    let total = Total::new(1000);
    let far = || Instant::now() + Duration::from_hours(1);
    let budget = |max| Budget::new(far(), CancelFlag::new(), 10, max, Arc::clone(&total), Lane::AdHoc);
    let (greedy, modest) = (budget(usize::MAX), budget(900));
    std::thread::scope(|scope| {
        let greedy = scope.spawn(|| (0..100_000).all(|_| greedy.charge(1 << 60).is_err()));
        let served = (0..100_000).filter(|_| modest.charge(500).is_ok()).count();
        assert!(greedy.join().expect("no panic"));
        assert_eq!(served, 100_000);
    });
    assert_eq!(total.bytes(), 0);
}

/// Results that are read slowly are held for long; the rules have a part of their own.
#[test]
fn what_others_hold_leaves_room_for_rules() {
    let engine = engine(|o| (o.threads, o.max_total_bytes) = (1, 1 << 20));
    let range = RangeParams { start: 0, end: 20_000, step_ms: 1 };
    let query = |lane| {
        let options = QueryOptions { lane, ..QueryOptions::default() };
        engine.range_query(&storage(1), "vector(1)", range, &options)
    };
    let mut held = Vec::new();
    while let Ok(result) = query(Lane::AdHoc) {
        held.push(result.held);
        assert!(held.len() < 10, "so much is not there");
    }
    assert!(!held.is_empty());
    query(Lane::Rules).map(drop).expect("the rules have a quarter");
    drop(held);
    query(Lane::AdHoc).map(drop).expect("given back");
    assert_eq!(engine.total.bytes(), 0);
}

/// What is told of every step is on the account before it is there.
#[test]
fn tables_of_steps_are_on_the_account() {
    let engine = engine(|o| {
        (o.threads, o.max_total_bytes, o.features.per_step_stats) = (1, 8 << 20, true);
    });
    let range = RangeParams { start: 0, end: i64::MAX / 2, step_ms: 1 };
    for detail in [Detail::Totals, Detail::All] {
        let options = QueryOptions { detail, ..QueryOptions::default() };
        let failed = engine.range_query(&storage(1), "1", range, &options).expect_err("too many steps");
        assert!(failed.to_string().contains("bytes of memory"), "{failed}");
    }
    assert_eq!(engine.total.bytes(), 0);
}

/// Scalars hold a value per step, too.
#[test]
fn scalars_are_on_the_account() {
    let engine = engine(|o| {
        (o.threads, o.max_total_bytes, o.features.parser) = (1, 8 << 20, parse::Options::ALL);
    });
    let range = RangeParams { start: 0, end: 200_000, step_ms: 1 };
    let query = |text: &str| {
        engine
            .range_query(&storage(1), text, range, &QueryOptions::default())
            .map(drop)
            .map_err(|e| e.to_string())
    };
    query("vector(time())").expect("less than 5 MB");
    let nested = format!("{}time(){}", "(time() + ".repeat(8), ")".repeat(8));
    assert!(query(&nested).expect_err("nine times that").contains("bytes of memory"));
    let labelled = "histogram_quantiles(m, \"q\", time())";
    assert!(query(labelled).expect_err("a bitmap per value").contains("bytes of memory"));
    assert_eq!(engine.total.bytes(), 0);
}

/// Of rows that fail at the same time the first one says why, whatever the threads do.
#[test]
fn the_first_row_that_fails_says_why() {
    // The factor is wrong at every step, another at each, and the rows begin at different ones, the first one last.
    let mut storage = Storage::default();
    for i in 0..100 {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", &(100 + i).to_string())]);
        storage.append(&labels, (300 - i..=360).map(|k| (k * 10_000, k as f64)));
    }
    let text = "double_exponential_smoothing(m[30s], 1 + time(), 0.5)";
    let single = failure(&engine(|o| o.threads = 1), &storage, text, &QueryOptions::default());
    let engine = engine(|o| o.threads = 4).with_morsels_of(1);
    for _ in 0..20 {
        assert_eq!(failure(&engine, &storage, text, &QueryOptions::default()), single);
    }
}
