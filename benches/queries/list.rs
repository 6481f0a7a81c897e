//! The queries, under the names that upstream's benchmarks print.
//!
//! Compat: prometheus `promql/bench_test.go`, `rangeQueryCases` and the other benchmarks (3.14); promql-engine
//! `engine/bench_test.go`.

use crate::shapes::{JOIN_INTERVALS, RANGE_INTERVALS, Shape};
use crate::upstream;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) text: String,
    pub(crate) kind: Kind,
    /// How many times faster than upstream it is to be.
    pub(crate) aim: f64,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Range { start: i64, end: i64, step_ms: i64 },
    Instant { t: i64 },
    Parse { is_valid: bool },
}

/// Texts over a, b and h of size X, how many steps other than 1 and 1000, and what is aimed at.
const RANGE: &[(&str, Option<i64>, f64)] = &[
    ("a_X", None, 4.0),
    ("rate(a_X[1m])", None, 4.0),
    ("rate(a_X[1m])", Some(10_000), 4.0),
    ("rate(sparse[1m])", Some(10_000), 4.0),
    ("rate(a_X[1m] smoothed)", None, 4.0),
    ("rate(a_X[1m] smoothed)", Some(10_000), 4.0),
    ("rate(sparse[1m] smoothed)", Some(10_000), 4.0),
    ("double_exponential_smoothing(a_X[1d], 0.3, 0.3)", None, 1.0),
    ("changes(a_X[1d])", None, 20.0),
    ("rate(a_X[1d])", None, 20.0),
    ("absent_over_time(a_X[1d])", None, 20.0),
    ("-a_X", None, 4.0),
    ("a_X - b_X", None, 8.0),
    ("a_X - b_X", Some(10_000), 8.0),
    ("a_X and b_X{l=~'.*[0-4]$'}", None, 4.0),
    ("a_X or b_X{l=~'.*[0-4]$'}", None, 4.0),
    ("a_X unless b_X{l=~'.*[0-4]$'}", None, 4.0),
    ("a_X and b_X{l='notfound'}", None, 4.0),
    ("abs(a_X)", None, 4.0),
    ("label_replace(a_X, 'l2', '$1', 'l', '(.*)')", None, 4.0),
    ("label_join(a_X, 'l2', '-', 'l', 'l')", None, 4.0),
    ("sum(a_X)", None, 4.0),
    ("avg(a_X)", None, 4.0),
    ("sum without (l)(h_X)", None, 4.0),
    ("sum without (le)(h_X)", None, 4.0),
    ("sum by (l)(h_X)", None, 4.0),
    ("sum by (le)(h_X)", None, 4.0),
    ("count_values('value', h_X)", Some(100), 4.0),
    ("topk(1, a_X)", None, 4.0),
    ("topk(5, a_X)", None, 4.0),
    ("limitk(1, a_X)", None, 4.0),
    ("limitk(5, a_X)", None, 4.0),
    ("limit_ratio(0.1, a_X)", None, 4.0),
    ("limit_ratio(0.5, a_X)", None, 4.0),
    ("limit_ratio(-0.5, a_X)", None, 4.0),
    ("rate(a_X[1m]) + rate(b_X[1m])", None, 4.0),
    ("sum without (l)(rate(a_X[1m]))", None, 4.0),
    ("sum without (l)(rate(a_X[1m])) / sum without (l)(rate(b_X[1m]))", None, 4.0),
    ("histogram_quantile(0.9, rate(h_X[5m]))", None, 5.0),
    ("a_X + on(l) group_right a_one", None, 8.0),
    ("count({__name__!=\"\"})", Some(1), 4.0),
    ("count({__name__!=\"\",l=\"\"})", Some(1), 4.0),
    ("timestamp(a_X)", None, 4.0),
];

const JOIN: &[&str] = &[
    "rpc_request_success_total + rpc_request_error_total",
    "rpc_request_success_total + ON (job, instance) GROUP_LEFT rpc_request_error_total",
    "rpc_request_success_total AND rpc_request_error_total{instance=~\"0.*\"}",
    "rpc_request_success_total OR rpc_request_error_total{instance=~\"0.*\"}",
    "rpc_request_success_total UNLESS rpc_request_error_total{instance=~\"0.*\"}",
];

/// Names and texts over the metric M.
const HISTOGRAMS: &[(&str, &str, f64)] = &[
    ("sum", "sum(M)", 5.0),
    ("sum rate with short rate interval", "sum(rate(M[2m]))", 5.0),
    ("sum rate with long rate interval", "sum(rate(M[20m]))", 5.0),
    ("histogram_count with short rate interval", "histogram_count(sum(rate(M[2m])))", 10.0),
    ("histogram_count with long rate interval", "histogram_count(sum(rate(M[20m])))", 10.0),
    (
        "two-legged histogram_count/sum with short rate interval",
        "histogram_count(sum(rate(M[2m]))) + histogram_sum(sum(rate(M[2m])))",
        10.0,
    ),
    (
        "two-legged histogram_count/sum with long rate interval",
        "histogram_count(sum(rate(M[20m]))) + histogram_sum(sum(rate(M[20m])))",
        10.0,
    ),
];

const INFO: &[(&str, &str)] = &[
    (
        "Joining info metrics with other metrics with group_left example 1",
        "rate(http_server_request_duration_seconds_count[2m]) * on (job, instance) group_left (k8s_cluster_name) target_info{k8s_cluster_name=\"us-east\"}",
    ),
    (
        "Joining info metrics with other metrics with info() example 1",
        "info(rate(http_server_request_duration_seconds_count[2m]), {k8s_cluster_name=\"us-east\"})",
    ),
    (
        "Joining info metrics with other metrics with group_left example 2",
        "sum by (k8s_cluster_name, http_status_code) (rate(http_server_request_duration_seconds_count[2m]) * on (job, instance) group_left (k8s_cluster_name) target_info)",
    ),
    (
        "Joining info metrics with other metrics with info() example 2",
        "sum by (k8s_cluster_name, http_status_code) (info(rate(http_server_request_duration_seconds_count[2m]), {k8s_cluster_name=~\".+\"}))",
    ),
];

const PARSED: &[&str] = &[
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
    "foo{a=\"b\", foo!=\"bar\", test=~\"test\", bar!~\"baz\"}",
    "min_over_time(rate(foo{bar=\"baz\"}[2s])[5m:])[4m:3s]",
    "sum without(and, by, avg, count, alert, annotations)(some_metric) [30m:10s]",
    "sort_by_label(metric, \"foo\", \"bar\")",
];

const REFUSED: &[&str] = &[
    "(",
    "}",
    "1 or 1",
    "1 or on(bar) foo",
    "foo unless on(bar) group_left(baz) bar",
    "test[5d] OFFSET 10s [10m:5s]",
];

/// Over q = `http_requests_total`, r = `http_responses_total`, b = the buckets; range 0 to 2h by 30 s.
const PODS: &[(&str, f64)] = &[
    ("q", 4.0),
    ("sum(q)", 4.0),
    ("sum by (pod) (q)", 4.0),
    ("topk(2, q)", 4.0),
    ("bottomk(2, q)", 4.0),
    ("limitk(2, q)", 4.0),
    ("limit_ratio(0.2, q)", 4.0),
    ("rate(q[1m])", 4.0),
    ("sum_over_time(rate(q[1m])[10m:1m])", 4.0),
    ("sum(rate(q[1m]))", 4.0),
    ("sum by (pod) (rate(q[1m]))", 4.0),
    ("quantile by (pod) (scalar(min(r)), q)", 4.0),
    ("q{container=\"c1\"} / ignoring(code, container) q{container=\"c2\"}", 8.0),
    ("q / on(pod) group_left() r", 8.0),
    ("q * 10", 4.0),
    ("-q", 4.0),
    ("q > 10", 4.0),
    ("q offset 5m", 4.0),
    ("q @ 600", 4.0),
    ("q @ 600 offset 5m", 4.0),
    ("clamp(q, 5, 10)", 4.0),
    ("clamp_min(q, 10)", 4.0),
    ("clamp(1 - q, 10 - 5, 10)", 4.0),
    ("clamp(irate(q[30s]), 10 - 5, 10)", 4.0),
    ("clamp(rate(q[30s]), 10 - 5, 10)", 4.0),
    ("histogram_quantile(0.9, b)", 5.0),
    ("sort(q)", 4.0),
    ("sort_desc(q)", 4.0),
    ("absent(q)", 4.0),
    ("absent(nonexistent)", 1.0),
    ("double_exponential_smoothing(q[1m], 0.1, 0.1)", 4.0),
    ("count_over_time(q[5m])", 4.0),
    ("count_over_time(q[1h])", 4.0),
    ("count_over_time(q[6h])", 4.0),
    ("sum_over_time(q[5m])", 3.0),
    ("sum_over_time(q[1h])", 3.0),
    ("sum_over_time(q[6h])", 3.0),
    ("avg_over_time(q[5m])", 3.0),
    ("avg_over_time(q[1h])", 3.0),
    ("avg_over_time(q[6h])", 3.0),
    ("min_over_time(q[5m])", 4.0),
    ("min_over_time(q[1h])", 4.0),
    ("min_over_time(q[6h])", 4.0),
    ("max_over_time(q[5m])", 4.0),
    ("max_over_time(q[1h])", 4.0),
    ("max_over_time(q[6h])", 4.0),
    ("stddev_over_time(q[5m])", 3.0),
    ("stddev_over_time(q[1h])", 3.0),
    ("stddev_over_time(q[6h])", 3.0),
    ("stdvar_over_time(q[5m])", 3.0),
    ("last_over_time(q[5m])", 4.0),
    ("present_over_time(q[5m])", 4.0),
    ("sum(q{code=\"200\"}) / sum(q)", 4.0),
];

/// At 50 s, but for those that look back an hour and more.
const PODS_INSTANT: &[&str] = &[
    "q",
    "count(q)",
    "count_values('val', q)",
    "round(q)",
    "round(q, 0.5)",
    "avg(q)",
    "sum(q)",
    "sum by (pod) (q)",
    "rate(q[1m])",
    "rate(q[1h])",
    "sum(rate(q[1h]))",
    "sum by (pod) (rate(q[1h]))",
    "q / on(pod) group_left() r",
    "-q",
    "q > 10",
    "sort(q)",
    "sort_desc(q)",
    "sum_over_time(count(q)[1h:10s])",
    "double_exponential_smoothing(q[1h], 0.1, 0.1)",
    "count_over_time(q[6h])",
    "sum_over_time(q[6h])",
    "avg_over_time(q[6h])",
    "min_over_time(q[6h])",
    "max_over_time(q[6h])",
    "stddev_over_time(q[6h])",
    "stdvar_over_time(q[6h])",
    "last_over_time(q[6h])",
    "present_over_time(q[6h])",
];

/// Over n = `http_request_seconds`.
const POD_HISTOGRAMS: &[&str] = &[
    "n",
    "sum(n)",
    "rate(n[1m])",
    "rate(n[10m])",
    "sum(rate(n[1m]))",
    "histogram_sum(n)",
    "histogram_count(n)",
    "histogram_avg(n)",
    "histogram_stddev(n)",
    "histogram_stdvar(n)",
    "histogram_count(rate(n[1m]))",
    "histogram_count(sum(rate(n[1m])))",
    "histogram_avg(sum(rate(n[1m])))",
    "histogram_quantile(0.9, sum(n))",
    "sum(n * 60)",
];

const HOURS_2: i64 = 7_200_000;

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, shape, text: &str, kind, aim| {
        cases.push(Case { name: upstream::name(name), shape, text: text.to_owned(), kind, aim });
    };
    let by_step = |steps: i64, end: i64| Kind::Range { start: end - steps * 10_000, end, step_ms: 10_000 };
    for &(text, steps, aim) in RANGE {
        let sizes: &[&str] = if text.contains('X') { &["one", "hundred"] } else { &[""] };
        for size in sizes {
            let text = text.replace('X', size);
            for steps in steps.map_or(vec![1, 1000], |steps| vec![steps]) {
                let name = format!("BenchmarkRangeQuery/expr={text},steps={steps}");
                // The large ones are aimed at where windows or joins have many steps to gain from.
                let aim = if steps == 1 { aim.min(4.0) } else { aim };
                add(&name, Shape::Range, &text, by_step(steps, RANGE_INTERVALS * 10_000), aim);
            }
        }
    }
    for text in JOIN {
        let name = format!("BenchmarkJoinQuery/expr={text}/steps=5000");
        let is_set = [" AND ", " OR ", " UNLESS "].iter().any(|op| text.contains(op));
        let aim = if is_set { 4.0 } else { 8.0 };
        add(&name, Shape::Join, text, by_step(5000, JOIN_INTERVALS * 10_000), aim);
    }
    let hours = Kind::Range { start: 0, end: HOURS_2, step_ms: 30_000 };
    for &(name, text, aim) in HISTOGRAMS {
        let text = text.replace('M', "native_histogram_series");
        add(&format!("BenchmarkNativeHistograms/{name}"), Shape::NativeHistograms, &text, hours, aim);
    }
    for &(name, text, aim) in HISTOGRAMS.iter().filter(|(name, ..)| !name.starts_with("two-legged")) {
        let text = text.replace('M', "native_histogram_custom_bucket_series");
        add(
            &format!("BenchmarkNativeHistogramsCustomBuckets/{name}"),
            Shape::CustomBuckets,
            &text,
            hours,
            aim,
        );
    }
    for (name, text) in INFO {
        add(&format!("BenchmarkInfoFunction/{name}"), Shape::Info, text, hours, 5.0);
    }
    let metric = |text: &str| {
        let words = [
            ("q", "http_requests_total"),
            ("r", "http_responses_total"),
            ("b", "http_response_seconds_bucket"),
            ("n", "http_request_seconds"),
        ];
        replace_words(text, &words)
    };
    for &(text, aim) in PODS {
        add(&format!("BenchmarkRange/{text}"), Shape::Pods, &metric(text), hours, aim);
    }
    let text = "rate(q[10m])";
    let by_5m = Kind::Range { start: 0, end: HOURS_2, step_ms: 300_000 };
    add(&format!("BenchmarkRange/{text} by 5m"), Shape::Pods, &metric(text), by_5m, 4.0);
    for text in PODS_INSTANT {
        let t = if text.contains('h') && text.contains('[') { 6 * 3_600_000 } else { 50_000 };
        let t = if text.contains("1h") || text.contains("6h") { t } else { 50_000 };
        add(&format!("BenchmarkInstant/{text}"), Shape::Pods, &metric(text), Kind::Instant { t }, 4.0);
    }
    for text in POD_HISTOGRAMS {
        add(&format!("BenchmarkHistograms/{text}"), Shape::PodHistograms, &metric(text), hours, 5.0);
    }
    let text = "sum(rate(q[2m]))";
    let by_30s = Kind::Range { start: 0, end: 3 * HOURS_2, step_ms: 30_000 };
    add(&format!("BenchmarkSingle/{text}"), Shape::ManyPods, &metric(text), by_30s, 4.0);
    for text in PARSED {
        add(&format!("BenchmarkParser/{text}"), Shape::Info, text, Kind::Parse { is_valid: true }, 5.0);
    }
    for text in REFUSED {
        let name = format!("BenchmarkParser/{text} (should fail)");
        add(&name, Shape::Info, text, Kind::Parse { is_valid: false }, 5.0);
    }
    cases
}

/// Puts longer names in place of words of one letter that stand alone.
fn replace_words(text: &str, words: &[(&str, &str)]) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len()).max(c.len_utf8());
        let (word, behind) = rest.split_at(len);
        out.push_str(words.iter().find(|(short, _)| *short == word).map_or(word, |(_, long)| long));
        rest = behind;
    }
    out
}
