//! Targets from groups: defaults, refusals, URLs.

use std::path::Path;

use expect_test::{Expect, expect};

use super::*;

fn check(job: &str, target: &[(&str, &str)], expected: &Expect) {
    let text = format!("scrape_configs:\n- job_name: j\n  {job}\n");
    let config = config::prometheus::parse(&text, Path::new("/")).unwrap_or_else(|error| panic!("{error}"));
    let group = TargetGroup {
        source: String::new(),
        targets: vec![Labels::from_pairs(target.iter().copied())],
        labels: Labels::from_pairs([("env", "group")]),
    };
    let origin = Origin { group: Arc::new(group), index: 0 };
    let shown = match from_origin(&origin, &config.scrape_configs[0]) {
        Ok(Some(target)) => {
            let address = target.url.host_and_port();
            format!("{} {} {address:?}", target.url.text(), target.labels)
        }
        Ok(None) => "dropped".to_owned(),
        Err(error) => error,
    };
    expected.assert_eq(&shown);
}

#[test]
fn labels_and_url_of_a_target() {
    check(
        "params: {m: [a b, c], k: [é]}",
        &[("__address__", "h:9"), ("__param_m", "z&"), ("__meta_x", "y"), ("env", "own")],
        &expect![[
            r#"http://h:9/metrics?k=%C3%A9&m=z%26&m=c {env="own", instance="h:9", job="j"} Ok(("h", 9))"#
        ]],
    );
    check(
        "scheme: https\n  metrics_path: 'x y?'",
        &[("__address__", "[::1]"), ("instance", "i")],
        &expect![[r#"https://[::1]/x%20y%3F {env="group", instance="i", job="j"} Ok(("::1", 443))"#]],
    );
}

#[test]
fn refuses_what_cannot_be_scraped() {
    check("scheme: http", &[("x", "y")], &expect!["no address"]);
    check("scheme: http", &[("__address__", "a/b")], &expect![[r#""a/b" is not a valid hostname"#]]);
    check(
        "scheme: http",
        &[("__address__", "a"), ("__scrape_interval__", "0s")],
        &expect!["scrape interval cannot be 0"],
    );
    check(
        "scheme: http",
        &[("__address__", "a"), ("__scrape_interval__", "5s"), ("__scrape_timeout__", "6s")],
        &expect![[r#"scrape timeout cannot be greater than scrape interval ("6s" > "5s")"#]],
    );
    check(
        "scheme: http",
        &[("__address__", "a"), ("__scrape_timeout__", "x")],
        &expect![[r#"error parsing scrape timeout: not a valid duration string: "x""#]],
    );
    check(
        "scheme: http",
        &[("__address__", "a"), ("__scrape_native_histograms__", "no")],
        &expect![[
            r#"error parsing scrape native histograms: strconv.ParseBool: parsing "no": invalid syntax"#
        ]],
    );
}

#[test]
fn labels_overrule_the_job_on_histograms() {
    let check = |job: &str, target: &[(&str, &str)], expected: &str| {
        let text = format!("scrape_configs:\n- job_name: j\n  {job}\n");
        let config =
            config::prometheus::parse(&text, Path::new("/")).unwrap_or_else(|error| panic!("{error}"));
        let labels = [&[("__address__", "a")], target].concat();
        let group = TargetGroup {
            targets: vec![Labels::from_pairs(labels.iter().copied())],
            ..TargetGroup::default()
        };
        let origin = Origin { group: Arc::new(group), index: 0 };
        let target = from_origin(&origin, &config.scrape_configs[0]).unwrap().unwrap();
        let HistogramOptions { native, classic_too, convert } = target.histograms;
        assert_eq!(format!("{native} {classic_too} {convert}"), expected);
    };
    check("scheme: http", &[], "false false false");
    check("scrape_native_histograms: true", &[], "true false false");
    check("scrape_native_histograms: true", &[("__scrape_native_histograms__", "F")], "false false false");
    check("scheme: http", &[("__convert_classic_histograms_to_nhcb__", "1")], "false false true");
    check("always_scrape_classic_histograms: true", &[], "false true false");
    // Relabelling may empty what the job has preset; then the job's word counts.
    check(
        "scrape_native_histograms: true\n  relabel_configs: [{target_label: __scrape_native_histograms__, replacement: ''}]",
        &[],
        "true false false",
    );
}

#[test]
fn a_socket_makes_another_target_and_shows_nowhere_else() {
    let config = config::prometheus::parse("scrape_configs: [{job_name: j}]\n", Path::new("/")).unwrap();
    let target = |socket: &str| {
        let labels = Labels::from_pairs([("__address__", "a:1"), ("__unix_socket__", socket)]);
        let group = TargetGroup { targets: vec![labels], ..TargetGroup::default() };
        let origin = Origin { group: Arc::new(group), index: 0 };
        from_origin(&origin, &config.scrape_configs[0]).unwrap().unwrap()
    };
    let (one, two, none) = (target("/run/one"), target("/run/two"), target(""));
    assert_eq!(one.socket.as_deref(), Some(Path::new("/run/one")));
    assert_eq!(none.socket, None);
    assert_eq!(one.labels, none.labels);
    assert_eq!(one.url.text(), "http://a:1/metrics");
    assert!(one.hash != two.hash && one.hash != none.hash);
}
