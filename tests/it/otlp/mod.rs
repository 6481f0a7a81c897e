//! OTLP requests at random, posted to Ferula and to Prometheus under the same options: status codes, texts of errors,
//! series, samples, histograms, exemplars and counters are equal, or it is known why not.
//!
//! Each setup is a pair of servers with a configuration and features of its own; requests go to both in the same order,
//! half of them as protobuf, half as JSON. What is stored is asked for over the query API once all are sent.
//!
//! - `FERULA_OTLP_REQUESTS`, `_SEED`: how many for each setup, which ones. `_SETUP`: one setup alone.

mod generate;
mod proto;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use self::generate::{Generator, Request, Without};
use crate::process::{CLIENT, Home, RUNTIME, Server, now, peer, with_parameters};

/// What plain `cargo test` sends to each pair of servers.
const REQUESTS_DEFAULT: usize = 60;

/// How many differences are shown, and how much of each.
const SHOWN: usize = 12;
const SHOWN_BYTES: usize = 3000;

/// What a pair of servers runs with.
struct Setup {
    otlp: &'static str,
    features: &'static str,
    /// Points may count since the one before.
    deltas: bool,
    without: Without,
}

const SETUPS: [Setup; 7] = [
    Setup { otlp: "", features: "exemplar-storage", deltas: false, without: Without::Nothing },
    Setup {
        otlp: "translation_strategy: UnderscoreEscapingWithoutSuffixes\n  keep_identifying_resource_attributes: true\n  promote_resource_attributes: [host.name, 'a b', le, service.name]\n  label_name_preserve_multiple_underscores: false",
        features: "exemplar-storage,metadata-wal-records",
        deltas: false,
        without: Without::Nothing,
    },
    Setup {
        otlp: "translation_strategy: NoUTF8EscapingWithSuffixes\n  promote_all_resource_attributes: true\n  ignore_resource_attributes: [host.name, x/y]\n  promote_scope_metadata: true",
        features: "type-and-unit-labels",
        deltas: false,
        without: Without::Nothing,
    },
    Setup {
        otlp: "translation_strategy: NoTranslation\n  convert_histograms_to_nhcb: true\n  promote_scope_metadata: true",
        features: "otlp-native-delta-ingestion,exemplar-storage,type-and-unit-labels",
        deltas: true,
        without: Without::Nothing,
    },
    Setup {
        otlp: "promote_all_resource_attributes: true\n  label_name_underscore_sanitization: false\n  convert_histograms_to_nhcb: true\n  promote_scope_metadata: true",
        features: "created-timestamp-zero-ingestion",
        deltas: false,
        without: Without::GaugeStarts,
    },
    Setup { otlp: "", features: "otlp-deltatocumulative", deltas: true, without: Without::MixedSums },
    Setup {
        otlp: "convert_histograms_to_nhcb: false",
        features: "st-storage,xor2-encoding,otlp-native-delta-ingestion,use-start-timestamps,promql-experimental-functions",
        deltas: true,
        without: Without::Nothing,
    },
];

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn requests_at_random_are_stored_as_prometheus_stores_them() {
    let test = "requests_at_random_are_stored_as_prometheus_stores_them";
    // Debian's build of 3.5 has no receiver.
    let Some(program) = peer("prometheus-next", test) else { return };
    let n = variable("FERULA_OTLP_REQUESTS").unwrap_or(REQUESTS_DEFAULT);
    let seed = variable("FERULA_OTLP_SEED").unwrap_or(1);
    let only: Option<usize> = variable("FERULA_OTLP_SETUP");
    let chosen: Vec<usize> =
        (0..SETUPS.len()).filter(|setup| only.is_none_or(|only| only == *setup)).collect();
    let program = &program;
    let differences: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            chosen.iter().map(|&setup| scope.spawn(move || run(program, setup, n, seed))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    let mut shown = String::new();
    for difference in differences.iter().take(SHOWN) {
        let end = difference.floor_char_boundary(SHOWN_BYTES);
        write!(shown, "\n--- {}", &difference[..end]).unwrap();
    }
    assert!(differences.is_empty(), "{} differences, {n} requests, seed {seed}:{shown}", differences.len());
}

/// Sends requests to a pair of servers and compares.
fn run(program: &Path, setup: usize, n: usize, seed: u64) -> Vec<String> {
    let Setup { otlp, features, deltas, without } = &SETUPS[setup];
    let section = if otlp.is_empty() { String::new() } else { format!("otlp:\n  {otlp}\n") };
    let homes = [(); 2].map(|()| Home::new(&section));
    let features = format!("--enable-feature={features}");
    let args = ["--web.enable-otlp-receiver", features.as_str()];
    let servers = [homes[0].start(&args), homes[1].start_peer(program, &args)];
    // Both clocks are this machine's; all of it is past, so that nothing ahead of time is taken by one alone.
    let end_ms = (now() * 1000.0) as i64;
    let mut generator = Generator::new(seed * 1000 + setup as u64, end_ms - 40 * 60_000, *deltas, *without);
    let mut differences = Vec::new();
    let mut n_stored = 0;
    for i in 0..n {
        let request = generator.request();
        let answers = [&servers[0], &servers[1]].map(|server| post(server, &request));
        n_stored += usize::from(answers[1].0 == 200);
        if !is_known(&request, &answers) {
            let [ours, theirs] = answers;
            let body = &request.json;
            differences.push(format!(
                "setup {setup}, request {i}: {} {:?} instead of {} {:?}\n{body}",
                ours.0, ours.1, theirs.0, theirs.1
            ));
        }
    }
    let _ = writeln!(std::io::stderr(), "setup {setup}: {n_stored} of {n} requests were stored");
    assert!(
        n_stored * 3 > n,
        "setup {setup}: only {n_stored} of {n} requests were stored, which shows little"
    );
    differences.extend(compare(setup, &servers, end_ms));
    differences
}

fn post(server: &Server, request: &Request) -> (u16, String) {
    let (body, content_type) = match &request.protobuf {
        Some(bytes) => (bytes.clone(), "application/x-protobuf"),
        None => (request.json.to_string().into_bytes(), "application/json"),
    };
    let url = format!("{}/api/v1/otlp/v1/metrics", server.url);
    RUNTIME.block_on(async {
        let response =
            CLIENT.post(&url).header("Content-Type", content_type).body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    })
}

/// Whether the answers are equal, or differ as they should.
fn is_known(_request: &Request, [ours, theirs]: &[(u16, String); 2]) -> bool {
    if ours == theirs {
        return true;
    }
    // The value that is there already is not told.
    let lines = |text: &str| -> Vec<String> {
        let cut = |line: &str| {
            let is_duplicate = line.starts_with("duplicate sample for timestamp");
            if is_duplicate { "duplicate sample for timestamp".to_owned() } else { line.to_owned() }
        };
        text.lines().map(cut).collect()
    };
    ours.0 == theirs.0 && lines(&ours.1) == lines(&theirs.1)
}

/// Series by their labels, each with its samples.
fn series(data: &Value) -> BTreeMap<String, Value> {
    let list = data["result"].as_array().cloned().unwrap_or_default();
    let labels = |value: &Value| {
        let map: BTreeMap<String, String> = serde_json::from_value(value.clone()).unwrap();
        format!("{map:?}")
    };
    let rest = |mut series: Value| {
        series.as_object_mut().unwrap().remove("metric");
        series
    };
    list.into_iter().map(|series| (labels(&series["metric"]), rest(series))).collect()
}

fn compare(setup: usize, servers: &[Server; 2], end_ms: i64) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, found: [BTreeMap<String, Value>; 2]| {
        let [ours, theirs] = found;
        let _ = writeln!(std::io::stderr(), "setup {setup}: {} of {what}", theirs.len());
        for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
            let (a, b) = (ours.get(key), theirs.get(key));
            if a != b {
                let shown = |v: Option<&Value>| v.map_or("nothing".to_owned(), Value::to_string);
                differences.push(format!(
                    "setup {setup}, {what} of {key}:\n{}\ninstead of\n{}",
                    shown(a),
                    shown(b)
                ));
            }
        }
    };
    let end = end_ms as f64 / 1000.0;
    let all = "{__name__!=\"\"}";
    differ("samples", [0, 1].map(|i| series(&servers[i].query(&format!("{all}[2h]"), end))));
    // Markers of staleness end a series at once.
    for minutes in [39.0, 37.0, 33.0, 20.0] {
        let at = end - minutes * 60.0;
        differ("what is seen", [0, 1].map(|i| series(&servers[i].query(all, at))));
    }
    if SETUPS[setup].features.contains("use-start-timestamps") {
        // The function takes the name away, so each is asked for by itself.
        for name in servers[1].data("/api/v1/label/__name__/values", &[]).as_array().unwrap() {
            let expr = format!("start_timestamp({{__name__={name}}})");
            differ("starts", [0, 1].map(|i| series(&servers[i].query(&expr, end - 2300.0))));
        }
    }
    if SETUPS[setup].features.contains("exemplar-storage") {
        let (start, end) = (format!("{:.3}", end - 7200.0), format!("{end:.3}"));
        let path = with_parameters(
            "/api/v1/query_exemplars",
            &[("query", all), ("start", start.as_str()), ("end", end.as_str())],
        );
        let exemplars = |server: &Server| -> BTreeMap<String, Value> {
            let found = server.json(&path)["data"].take();
            let list = found.as_array().cloned().unwrap_or_default();
            list.into_iter().map(|one| (one["seriesLabels"].to_string(), one["exemplars"].clone())).collect()
        };
        differ("exemplars", [0, 1].map(|i| exemplars(&servers[i])));
    }
    let counters = |server: &Server| -> BTreeMap<String, Value> {
        let (_, body) = server.get("/metrics");
        let ours = body.lines().filter(|line| line.starts_with("prometheus_api_otlp_"));
        let pairs = ours.filter_map(|line| line.rsplit_once(' ')).filter(|(_, v)| *v != "0");
        pairs.map(|(name, v)| (name.to_owned(), v.into())).collect()
    };
    differ("counters", [0, 1].map(|i| counters(&servers[i])));
    differences
}
