//! Joins and set operators by script, on one thread and on several, with names dropped at once and at the end.

use std::fmt::Write;

use crate::parse::Options;
use crate::testing::run;
use crate::{Engine, EngineOptions, Features};

/// Runs a script on engines that must not differ.
#[track_caller]
pub(crate) fn check(script: &str) {
    for delayed_name_removal in [true, false] {
        for (threads, morsel) in [(1, 64), (2, 1), (3, 2)] {
            let features = Features { parser: Options::ALL, delayed_name_removal, ..Features::default() };
            let options = EngineOptions { threads, features, ..EngineOptions::default() };
            let mut engine = Engine::new(options);
            if threads > 1 {
                engine = engine.with_morsels_of(morsel);
            }
            let report = run(&engine, "script", script);
            assert!(report.failures.is_empty(), "{threads} threads: {:#?}", report.failures);
            assert!(report.passed > 0);
        }
    }
}

#[test]
fn rows_without_a_partner_still_speak() {
    check(
        r#"
load 1m
    lonely{i="1"} 1 2 3
    other{i="2"} 1 2 3
    shared{i="2", j="1"} 1 2 3
    shared{i="2", j="2"} 1 2 3

eval range from 2m to 3m step 1m rate(lonely[2m]) + other
    expect info msg: PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "lonely" (1:6)

eval range from 2m to 3m step 1m sum(rate(lonely[2m]) + other)
    expect info msg: PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "lonely" (1:10)

eval range from 2m to 3m step 1m absent(rate(lonely[2m]) + other)
    expect info msg: PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "lonely" (1:13)
    {} 1 1

eval range from 2m to 3m step 1m shared * on (i) group_left () (rate(lonely[2m]) or other)
    expect info msg: PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "lonely" (1:37)
    {i="2", j="1"} 9 9
    {i="2", j="2"} 9 9

eval range from 2m to 3m step 1m other and rate(lonely[2m])
    expect info msg: PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "lonely" (1:16)
"#,
    );
}

#[test]
fn of_the_remarks_of_a_step_the_last_one_counts() {
    check(
        r#"
load 1m
    h{i="1"} {{schema:0 count:1 sum:1 buckets:[1]}} 1
    h{i="2"} 1 {{schema:0 count:1 sum:1 buckets:[1]}}
    k{i="1"} 1 {{schema:0 count:1 sum:1 buckets:[1]}}
    k{i="2"} {{schema:0 count:1 sum:1 buckets:[1]}} 1

eval instant at 0m h + k
    expect no_warn
    expect info msg: PromQL info: incompatible sample types encountered for binary operator "+": float + histogram (1:1)

eval instant at 1m h + k
    expect no_warn
    expect info msg: PromQL info: incompatible sample types encountered for binary operator "+": histogram + float (1:1)

# Two candidates in a group: the way step by step has the same rule.
eval instant at 0m h + on () group_left () k{i="1"}
    expect info msg: PromQL info: incompatible sample types encountered for binary operator "+": histogram + float (1:1)
    {i="2"} 2

# What cannot be combined is dropped even with bool.
eval instant at 0m h == bool k
    expect info msg: PromQL info: incompatible sample types encountered for binary operator "==": float == histogram (1:1)

eval instant at 0m h >/ k
    expect info msg: PromQL info: incompatible sample types encountered for binary operator ">/": float >/ histogram (1:1)
    h{i="1"} {{schema:0}}
"#,
    );
}

#[test]
fn histograms_meet_on_either_side() {
    check(
        r#"
load 1m
    h{i="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}x2
    h{i="2"} {{schema:0 count:3 sum:3 buckets:[1 2]}}x2
    f{i="1"} 2 2 2
    f{i="2"} 3 3 3

eval range from 0m to 1m step 1m h * f
    {i="1"} {{schema:0 count:6 sum:6 buckets:[2 4]}} {{schema:0 count:6 sum:6 buckets:[2 4]}}
    {i="2"} {{schema:0 count:9 sum:9 buckets:[3 6]}} {{schema:0 count:9 sum:9 buckets:[3 6]}}

eval range from 0m to 1m step 1m sum(f * h) + sum(h)
    {} {{schema:0 count:21 sum:21 buckets:[7 14]}} {{schema:0 count:21 sum:21 buckets:[7 14]}}

eval range from 0m to 1m step 1m h + on () group_left () sum(h) - h
    {i="1"} {{schema:0 count:6 sum:6 buckets:[2 4] counter_reset_hint:gauge}} {{schema:0 count:6 sum:6 buckets:[2 4] counter_reset_hint:gauge}}
    {i="2"} {{schema:0 count:6 sum:6 buckets:[2 4] counter_reset_hint:gauge}} {{schema:0 count:6 sum:6 buckets:[2 4] counter_reset_hint:gauge}}

eval range from 0m to 1m step 1m h == ignoring (i) group_left () h{i="1"}
    h{i="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}x1
    h{i="2"} {{schema:0 count:3 sum:3 buckets:[1 2]}}x1

eval range from 0m to 1m step 1m h{i="1"} and f
    h{i="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}x1

eval range from 0m to 1m step 1m f unless h{i="1"}
    f{i="2"} 3 3

eval range from 0m to 1m step 1m h{i="1"} or f
    h{i="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}x1
    f{i="2"} 3 3
"#,
    );
}

#[test]
fn conflicts_depend_on_who_is_there() {
    check(
        r#"
load 1m
    a{i="1", v="x"} 1 1 1 _
    a{i="1", v="y"} _ _ _ 1
    b{i="1", v="x"} 10 10 10 _
    b{i="1", v="y"} _ _ 20 20
    c{i="1"} 5 5 5 5

# One after the other is no conflict.
eval range from 0m to 1m step 1m c * on (i) b
    {i="1"} 50 50

eval instant at 2m c * on (i) b
    expect fail msg: found duplicate series for the match group {i="1"} on the right hand-side of the operation: [{__name__="b", i="1", v="x"}, {__name__="b", i="1", v="y"}];many-to-many matching not allowed: matching labels must be unique on one side

eval instant at 2m b * on (i) c
    expect fail msg: multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)

# Refused before the comparison throws anything away.
eval instant at 2m b > on (i) c * 1000
    expect fail msg: multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)

eval instant at 2m b * on (i) group_left (v) c
    expect fail msg: multiple matches for labels: grouping labels must ensure unique matches

eval instant at 2m c * on (i) group_right () b
    {i="1", v="x"} 50
    {i="1", v="y"} 100

eval instant at 2m pi() </ 1
    expect fail msg: operator "</" not allowed for Scalar operations
"#,
    );
}

#[test]
fn nested_joins_keep_their_rows_apart() {
    let mut script = "load 1m\n".to_owned();
    for i in 1..=20 {
        for name in ["a", "b", "c"] {
            writeln!(script, "    {name}{{i=\"{i}\"}} {i} {i}").unwrap();
        }
    }
    script += "\neval range from 0m to 1m step 1m sum((a + b) * (c - a / b) / on () group_left () sum(c * (a - b + 1)))\n";
    // The sum of 2i (i - 1) over the sum of i.
    let total: f64 = (1..=20).map(|i| f64::from(2 * i * (i - 1))).sum::<f64>() / 210.0;
    writeln!(script, "    {{}} {total} {total}").unwrap();
    check(&script);
}
