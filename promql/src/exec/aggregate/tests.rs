//! Aggregations by script: which of floats and histograms came first, values written out, picks at each step.

use crate::exec::join::tests::check;

#[test]
fn what_came_first_decides_what_is_said() {
    check(
        r#"
load 1m
    h{i="1", first="float"} 1
    h{i="2", first="float"} {{schema:0 count:1 sum:1 buckets:[1]}}
    h{i="3", first="float"} {{schema:-53 count:1 sum:1 custom_values:[5] buckets:[1]}}
    h{i="1", first="mixed"} {{schema:0 count:1 sum:1 buckets:[1]}}
    h{i="2", first="mixed"} {{schema:-53 count:1 sum:1 custom_values:[5] buckets:[1]}}
    h{i="3", first="mixed"} 1
    h{i="1", first="between"} {{schema:0 count:1 sum:1 buckets:[1]}}
    h{i="2", first="between"} 1
    h{i="3", first="between"} {{schema:-53 count:1 sum:1 custom_values:[5] buckets:[1]}}

eval instant at 0m sum(h{first="float"})
    expect warn msg: PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)

eval instant at 0m avg(h{first="mixed"})
    expect warn msg: PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas for metric name "h" (1:5)

eval instant at 0m sum(h{first="between"})
    expect warn msg: PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)
    expect warn msg: PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas for metric name "h" (1:5)

eval instant at 0m count by (first) (h)
    {first="float"} 3
    {first="mixed"} 3
    {first="between"} 3

eval instant at 0m group by (i) (h)
    {i="1"} 1
    {i="2"} 1
    {i="3"} 1

eval instant at 0m max by (i) (h)
    expect info msg: PromQL info: ignored histogram in max aggregation (1:13)
    {i="1"} 1
    {i="2"} 1
    {i="3"} 1

eval instant at 0m quantile by (i) (0.5, h)
    expect info msg: PromQL info: ignored histogram in quantile aggregation (1:23)
    {i="1"} 1
    {i="2"} 1
    {i="3"} 1

eval instant at 0m topk(5, h{first="mixed"})
    expect info msg: PromQL info: ignored histogram in topk aggregation (1:1)
    h{i="3", first="mixed"} 1

eval instant at 0m topk(0.5, h)
    expect no_info
"#,
    );
}

#[test]
fn picks_are_made_at_each_step() {
    check(
        r#"
load 1m
    m{i="1", g="a"} 1 5 3 NaN
    m{i="2", g="a"} 2 4 3 1
    m{i="3", g="a"} 3 _ 3 NaN
    m{i="4", g="b"} 7 _ _ 7
    m{i="5", g="b"} {{schema:0 count:1 sum:1 buckets:[1]}} {{schema:0 count:1 sum:1 buckets:[1]}} _ 6

eval range from 0m to 3m step 1m topk by (g) (1, m)
    expect info
    m{i="1", g="a"} _ 5 3 _
    m{i="2", g="a"} _ _ _ 1
    m{i="3", g="a"} 3 _ _ _
    m{i="4", g="b"} 7 7 7 7

eval range from 0m to 3m step 1m bottomk by (g) (time() / 60, m)
    expect info
    m{i="1", g="a"} _ _ 3 NaN
    m{i="2", g="a"} _ _ 3 1
    m{i="3", g="a"} _ 3 _ NaN
    m{i="4", g="b"} _ 7 7 7
    m{i="5", g="b"} _ _ _ 6

eval range from 0m to 3m step 1m limitk by (g) (1, m)
    m{i="1", g="a"} 1 5 3 NaN
    m{i="4", g="b"} 7 7 7 7

eval range from 0m to 1m step 1m limitk(3 - time() / 60, m{g="b"})
    m{i="4", g="b"} 7 7
    m{i="5", g="b"} {{schema:0 count:1 sum:1 buckets:[1]}} {{schema:0 count:1 sum:1 buckets:[1]}}

eval range from 0m to 1m step 1m limit_ratio(1 - time() / 30, m{g="b"})
    m{i="4", g="b"} 7 7
    m{i="5", g="b"} {{schema:0 count:1 sum:1 buckets:[1]}} {{schema:0 count:1 sum:1 buckets:[1]}}
"#,
    );
}

#[test]
fn values_are_counted_by_their_texts() {
    check(
        r#"
load 1m
    m{i="1", g="a"} 1 1e100 NaN
    m{i="2", g="a"} 1 2 NaN
    m{i="3", g="b"} -0 0 {{schema:0 count:1 sum:1 buckets:[1]}}
    m{i="4", g="b"} 0 2 {{schema:0 count:1 sum:1 buckets:[1]}}

eval instant at 0m count_values("v", m)
    {v="1"} 2
    {v="-0"} 1
    {v="0"} 1

eval instant at 2m count_values("v", m)
    {v="NaN"} 2
    {v="{count:1, sum:1, (0.5,1]:1}"} 2

eval range from 0m to 1m step 1m count_values by (g) ("v", m)
    {g="a", v="1"} 2 _
    {g="a", v="2"} _ 1
    {g="a", v="10000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"} _ 1
    {g="b", v="-0"} 1 _
    {g="b", v="0"} 1 1
    {g="b", v="2"} _ 1

# The value takes the place of a label of the series.
eval instant at 0m count_values by (g) ("g", m)
    {g="1"} 2
    {g="-0"} 1
    {g="0"} 1

eval instant at 0m count_values without (i, v) ("v", m)
    {g="a"} 2
    {g="b"} 2

eval instant at 0m count_values without (i) ("__name__", m)
    {g="a"} 2
    {g="b"} 2

eval instant at 0m count_values by (g) ("__name__", abs(m))
    {__name__="1", g="a"} 2
    {__name__="0", g="b"} 2
"#,
    );
}
