//! Protobuf bodies, native histograms, converted ones, start times that are made up, labels of type and unit.

use super::*;

const PROTOBUF: &str = "Content-Type: application/vnd.google.protobuf; \
     proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n";

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap());
    out
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn uint(field: u64, n: u64) -> Vec<u8> {
    [varint(field << 3), varint(n)].concat()
}

fn double(field: u64, v: f64) -> Vec<u8> {
    [varint(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
}

fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics: Vec<Vec<u8>> = metrics.iter().map(|metric| bytes(4, metric)).collect();
    let message = [bytes(1, name.as_bytes()), bytes(2, b"help"), uint(3, kind), metrics.concat()].concat();
    [varint(message.len() as u64), message].concat()
}

/// A native histogram of the finest schema with buckets from 1 on, each counting one more than the one before.
fn native(n_buckets: u64) -> Vec<u8> {
    let span = bytes(12, &[uint(1, 2), uint(2, n_buckets)].concat());
    // Deltas of 1 in the zigzag order.
    let deltas = bytes(13, &vec![2; usize::try_from(n_buckets).unwrap()]);
    let count = n_buckets * (n_buckets + 1) / 2;
    [uint(1, count), double(2, 5.0), double(6, 0.5), uint(5, 16), span, deltas].concat()
}

fn classic(count: u64) -> Vec<u8> {
    let bucket = bytes(3, &[uint(1, 1), double(2, 1.0)].concat());
    [uint(1, count), double(2, 5.0), bucket].concat()
}

fn protobuf(families: &[Vec<u8>]) -> Reply {
    raw("200 OK", PROTOBUF, &families.concat())
}

impl Store {
    fn histogram(&self, series: &str) -> Option<AnyHistogram> {
        self.inner.lock().histograms.iter().rev().find(|(name, _)| name == series).map(|(_, it)| it.clone())
    }

    fn start(&self, series: &str) -> Option<Timestamp> {
        self.inner.lock().starts.get(series).copied()
    }
}

fn int(histogram: Option<AnyHistogram>) -> model::Histogram {
    match histogram {
        Some(AnyHistogram::Int(it)) => *it,
        other => panic!("no histogram of integers: {other:?}"),
    }
}

fn bucket(name: &str, le: &str) -> String {
    format!(r#"{{__name__="{name}", instance="i", job="j", le="{le}"}}"#)
}

#[tokio::test(start_paused = true)]
async fn protobuf_is_asked_for_and_read() {
    let counter = |v| {
        let value = [double(1, v), bytes(2, &[label("trace", "x"), double(2, 0.5)].concat())].concat();
        [label("code", "200"), bytes(3, &value)].concat()
    };
    let body = |v| {
        protobuf(&[family("req_total", 0, &[counter(v)]), family("up_to", 1, &[bytes(2, &double(1, 2.0))])])
    };
    let none = protobuf(&[family("req_total", 0, &[counter(9.0)])]);
    let (bench, target) = scrape(
        "scrape_protocols: [PrometheusProto, PrometheusText1.0.0]",
        vec![body(7.0), body(8.0), none],
        3,
    )
    .await;
    let request = target.seen.lock().requests[0].clone();
    assert!(
        request.contains(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.4"
        ),
        "{request}"
    );
    let requests = r#"{__name__="req_total", code="200", instance="i", job="j"}"#;
    assert_eq!(bench.store.values(requests), ["7", "8", "9"]);
    assert_eq!(bench.store.values(&named("up_to")), ["2", "2", "stale"]);
    assert_eq!(bench.store.values(&named("scrape_series_added")), ["2", "0", "0"]);
    let exemplars = bench.store.inner.lock().exemplars.clone();
    assert!(exemplars[0].1.starts_with(r#"{trace="x"} 0.5 "#), "{exemplars:?}");
    let told = bench.manager.targets(None).active[0].clone();
    assert_eq!(told.last_error, "");
}

#[tokio::test(start_paused = true)]
async fn native_histograms_are_taken_if_they_are_wanted() {
    let both = [native(3), classic(6)].concat();
    let body = || protobuf(&[family("h", 4, &[bytes(7, &both)])]);
    let parts = [bucket("h_bucket", "1.0"), bucket("h_bucket", "+Inf"), named("h_sum"), named("h_count")];
    for (job, wants_native, wants_classic) in [
        ("", false, true),
        ("scrape_native_histograms: true", true, false),
        ("scrape_native_histograms: true\nalways_scrape_classic_histograms: true", true, true),
    ] {
        let (bench, _target) = scrape(job, vec![body(), protobuf(&[])], 2).await;
        let store = &bench.store;
        let samples = if wants_native { vec!["6", "stale"] } else { vec![] };
        assert_eq!(store.values(&named("h")), samples, "{job}");
        let n = usize::from(wants_native) + 4 * usize::from(wants_classic);
        assert_eq!(store.values(&named("scrape_samples_scraped"))[0], n.to_string(), "{job}");
        for part in &parts {
            assert_eq!(store.values(part).len(), 2 * usize::from(wants_classic), "{job} {part}");
        }
        if wants_native {
            assert_eq!(int(store.histogram(&named("h"))).positive_buckets, [1, 1, 1], "{job}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn histograms_are_made_as_coarse_as_is_wanted() {
    let body = || protobuf(&[family("h", 4, &[bytes(7, &native(9))])]);
    let job = |more: &str| format!("scrape_native_histograms: true\n{more}");
    for (more, schema) in [
        ("native_histogram_bucket_limit: 9", 8),
        ("native_histogram_bucket_limit: 8", 7),
        ("native_histogram_bucket_limit: 3", 6),
        ("native_histogram_min_bucket_factor: 1.1", 2),
    ] {
        let (bench, _target) = scrape(&job(more), vec![body()], 1).await;
        assert_eq!(int(bench.store.histogram(&named("h"))).schema, schema, "{more}");
        assert_eq!(bench.store.values(&named("h")), ["45"], "{more}");
    }
    // Far apart, so that even the coarsest buckets are too many.
    let apart =
        [bytes(12, &[uint(1, 0), uint(2, 1)].concat()), bytes(12, &[uint(1, 20_000), uint(2, 1)].concat())];
    let apart = [uint(1, 2), double(2, 1.0), uint(5, 16), apart.concat(), bytes(13, &[2, 0])].concat();
    let gauge = family("g", 1, &[bytes(2, &double(1, 2.0))]);
    let script =
        vec![protobuf(std::slice::from_ref(&gauge)), protobuf(&[gauge, family("h", 4, &[bytes(7, &apart)])])];
    let (bench, _target) = scrape(&job("native_histogram_bucket_limit: 1"), script, 2).await;
    assert_eq!(bench.last_error(), "histogram bucket limit exceeded");
    assert_eq!(bench.store.values(&named("g")), ["2", "stale"], "the whole scrape failed");
    assert_eq!(bench.store.values(&named("scrape_samples_scraped")), ["1", "2"]);
    assert_eq!(bench.store.values(&named("h")), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_histogram_that_contradicts_itself_fails_the_scrape_and_says_why() {
    let wrong = [uint(1, 9), native(3)[2..].to_vec()].concat();
    let body = protobuf(&[family("h", 4, &[bytes(7, &wrong)])]);
    let (bench, _target) = scrape("scrape_native_histograms: true", vec![body], 1).await;
    assert_eq!(
        bench.last_error(),
        "6 observations found in buckets, but the Count field is 9: histogram's observation count should equal \
         the number of observations found in the buckets (in absence of NaN)"
    );
}

/// The series of a scrape in all three formats, with the counts of the report.
#[tokio::test(start_paused = true)]
async fn classic_histograms_are_converted_in_all_formats() {
    let lines = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 5\nh_count 3\n";
    let openmetrics =
        raw("200 OK", "Content-Type: application/openmetrics-text\r\n", format!("{lines}# EOF\n").as_bytes());
    for reply in [text(lines), openmetrics, protobuf(&[family("h", 4, &[bytes(7, &classic(3))])])] {
        let script = || vec![reply.clone(), reply.clone(), text("other 1\n")];
        let (bench, _target) = scrape("convert_classic_histograms_to_nhcb: true", script(), 3).await;
        let store = &bench.store;
        assert_eq!(bench.last_error(), "");
        assert_eq!(store.values(&named("h")), ["3", "3", "stale"]);
        let it = int(store.histogram(&named("h")));
        assert_eq!((it.schema, it.custom_values, it.positive_buckets), (-53, vec![1.0], vec![1, 1]));
        assert_eq!(store.values(&named("h_count")), [""; 0]);
        assert_eq!(store.values(&named("scrape_samples_scraped")), ["1", "1", "1"]);
        assert_eq!(store.values(&named("scrape_series_added")), ["1", "0", "1"]);

        let job = "convert_classic_histograms_to_nhcb: true\nalways_scrape_classic_histograms: true";
        let (bench, _target) = scrape(job, script(), 3).await;
        assert_eq!(bench.store.values(&named("h")), ["3", "3", "stale"]);
        assert_eq!(bench.store.values(&bucket("h_bucket", "1.0")), ["1", "1", "stale"]);
        assert_eq!(bench.store.values(&named("scrape_samples_scraped")), ["5", "5", "1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_may_choose_its_histograms_by_relabelling() {
    let lines = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\n";
    let job =
        "relabel_configs: [{target_label: __convert_classic_histograms_to_nhcb__, replacement: 'true'}]";
    let (bench, _target) = scrape(job, vec![text(lines)], 1).await;
    assert_eq!(bench.store.values(&named("h")), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_not_classic_fail_a_scrape_of_the_legacy_scheme() {
    let body = "{\"my.metric\"} 1\n";
    let (bench, _target) = scrape("", vec![text(body)], 1).await;
    assert_eq!(bench.store.values(&named("my.metric")), ["1"]);
    let job = "metric_name_validation_scheme: legacy";
    let (bench, target) = scrape(job, vec![text(body)], 1).await;
    assert_eq!(
        bench.last_error(),
        r#"invalid metric name or label names: {__name__="my.metric", instance="i", job="j"}"#
    );
    assert!(target.seen.lock().requests[0].contains(";escaping=underscores;q="));
    let (bench, _target) = scrape(job, vec![text("a{\"b.c\"=\"d\"} 1\n")], 1).await;
    assert_eq!(
        bench.last_error(),
        r#"invalid metric name or label names: {__name__="a", "b.c"="d", instance="i", job="j"}"#
    );
}

async fn with_extras(extras: Extras, script: Vec<Reply>, n: usize) -> (Bench, Scripted) {
    let target = Scripted::start(script).await;
    let bench = Bench::with_options(Options { extras, ..Options::default() }, "");
    bench.target(&[&target.address]);
    bench.scraped(n).await;
    (bench, target)
}

#[tokio::test(start_paused = true)]
async fn start_times_are_made_up_of_what_was_seen_first() {
    let body =
        |v| text(&format!("# TYPE a_total counter\na_total {v}\n# TYPE g gauge\ng {v}\nh_total {v}\n"));
    let extras = Extras { made_up_starts: true, ..Extras::default() };
    let (bench, _target) =
        with_extras(extras, vec![body(10), body(15), body(15), body(4), text("x 1\n"), body(9), body(10)], 7)
            .await;
    let store = &bench.store;
    assert_eq!(store.values(&named("a_total")), ["5", "5", "4", "stale", "1"]);
    assert_eq!(store.values(&named("g")), ["10", "15", "15", "4", "stale", "9", "10"], "it is no counter");
    assert_eq!(store.values(&named("h_total")).len(), 7, "nobody says that it is one");
    assert_eq!(store.values(&named("scrape_series_added"))[..4], ["3", "0", "0", "0"]);
    let times = store.times(&named("up"));
    assert_eq!(store.start(&named("a_total")), Some(times[5]));
}

#[tokio::test(start_paused = true)]
async fn start_times_of_protobuf_go_with_the_samples() {
    let start = bytes(3, &[uint(1, 1_700_000_000), uint(2, 5_000_000)].concat());
    let counter = bytes(3, &[double(1, 7.0), start].concat());
    let extras = Extras { start_times: true, ..Extras::default() };
    let (bench, _target) = with_extras(extras, vec![protobuf(&[family("a_total", 0, &[counter])])], 1).await;
    assert_eq!(bench.store.start(&named("a_total")), Some(1_700_000_000_005));
}

#[tokio::test(start_paused = true)]
async fn type_and_unit_become_labels_in_place_of_those_sent() {
    let body = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{__type__=\"x\",b=\"c\"} 1\n# EOF\n";
    let reply = raw("200 OK", "Content-Type: application/openmetrics-text\r\n", body.as_bytes());
    let extras = Extras { type_and_unit_labels: true, ..Extras::default() };
    let (bench, _target) = with_extras(extras, vec![reply], 2).await;
    let name = r#"{__name__="a_seconds_total", __type__="counter", __unit__="seconds", b="c", instance="i", job="j"}"#;
    assert_eq!(bench.store.values(name), ["1", "1"]);
    assert_eq!(bench.store.values(UP), ["1", "1"], "reports have none");
    let gauge = [label("__unit__", "x"), bytes(2, &double(1, 2.0))].concat();
    let (bench, _target) = with_extras(extras, vec![protobuf(&[family("g", 1, &[gauge])])], 2).await;
    let name = r#"{__name__="g", __type__="gauge", __unit__="x", instance="i", job="j"}"#;
    assert_eq!(bench.store.values(name), ["2", "2"]);
}

/// As upstream, which keys its cache by the text of the series alone.
#[tokio::test(start_paused = true)]
async fn a_type_that_comes_later_makes_no_new_series() {
    let script = vec![text("a 1\n"), text("# TYPE a counter\na 1\n")];
    let (bench, _target) = scrape("", script, 2).await;
    assert_eq!(bench.store.values(&named("scrape_series_added")), ["1", "0"]);
}
