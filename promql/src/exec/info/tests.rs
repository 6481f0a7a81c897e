//! What upstream's scripts do not ask of `info()`: texts of errors, whose sample wins, which labels are taken.

use crate::parse::Options;
use crate::testing::run;
use crate::{Engine, EngineOptions, Features};

/// Runs a script with names dropped at the end, and at once.
#[track_caller]
fn check(script: &str) {
    for delayed_name_removal in [true, false] {
        let features = Features { parser: Options::ALL, delayed_name_removal, ..Features::default() };
        let engine = Engine::new(EngineOptions { threads: 1, features, ..EngineOptions::default() });
        let report = run(&engine, "info", script);
        assert!(report.failures.is_empty(), "{:#?}", report.failures);
        assert!(report.passed > 0);
    }
}

#[test]
fn two_info_series_of_one_target_need_a_newer_sample() {
    check(
        r#"
load 1m
    m{instance="a", job="1"} 1 1 1
    target_info{instance="a", job="1", v="old"} 1 1 _
    target_info{instance="a", job="1", v="new"} _ _ 1

# The older one is still in sight.
eval instant at 2m info(m)
    {__name__="m", instance="a", job="1", v="new"} 1

clear

load 1m
    m{instance="a", job="1"} 1
    target_info{instance="a", job="1", v="x"} 1
    target_info{instance="a", job="1", v="y"} 1

eval instant at 0m info(m)
    expect fail msg: found duplicate series for info metric: existing {__name__="target_info", instance="a", job="1", v="x"} @ 0, new {__name__="target_info", instance="a", job="1", v="y"} @ 0

# Nobody to enrich, nobody to complain to.
eval instant at 0m info(none)
"#,
    );
}

#[test]
fn histograms_are_enriched_but_do_not_enrich() {
    check(
        r#"
load 1m
    h{instance="a.b|c", job="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}
    h{instance="axb", job="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}
    target_info{instance="a.b|c", job="1", v="x"} 1
    some_info{instance="a.b|c", job="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}

eval instant at 0m info(h)
    {__name__="h", instance="a.b|c", job="1", v="x"} {{schema:0 count:3 sum:3 buckets:[1 2]}}
    {__name__="h", instance="axb", job="1"} {{schema:0 count:3 sum:3 buckets:[1 2]}}

eval instant at 0m info(h, {__name__="some_info"})
    expect fail msg: this should be an info metric, with float samples: {__name__="some_info", instance="a.b|c", job="1"}
"#,
    );
}

#[test]
fn only_the_labels_asked_for_are_taken() {
    check(
        r#"
load 1m
    m{instance="a", job="1", mine="kept"} 1
    m{instance="b", job="1"} 2
    target_info{instance="a", job="1", x="1", y="2", mine="lost"} 1

eval instant at 0m info(m, {x=~".+"})
    {__name__="m", instance="a", job="1", mine="kept", x="1"} 1

eval instant at 0m info(m, {x=~".*", mine=~".*"})
    {__name__="m", instance="a", job="1", mine="kept", x="1"} 1
    {__name__="m", instance="b", job="1"} 2

eval instant at 0m info(m, {__name__!="build_info"})
    {__name__="m", instance="a", job="1", mine="kept", x="1", y="2"} 1
    {__name__="m", instance="b", job="1"} 2

eval range from 0 to 2m step 1m sum by (x) (info(rate(m[1m]) or m))
    {x="1"} 1 1 1
    {} 2 2 2
"#,
    );
}
