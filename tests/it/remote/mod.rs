//! Remote write, remote read and federation beside Prometheus: the same requests to both, and servers that send to and
//! read from each other.
//!
//! The reference is 3.14 if it is there and 3.5 otherwise; what differs on purpose is in [`known`], with the reason.

mod known;
mod live;
mod requests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::wire::remote_read::{self, Query, RawMatcher, Request, ResponseType};
use model::{SampleBatch, TimeRange};
use serde_json::Value;

use crate::process::{CLIENT, Home, RUNTIME, Server, now, peer, until, until_true, with_parameters};

/// An answer with its bytes.
pub(super) struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn send(request: reqwest::RequestBuilder) -> Reply {
    RUNTIME.block_on(async {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
    })
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

/// The newest reference server there is.
fn newest_peer(test: &str) -> Option<(PathBuf, bool)> {
    if let Some(name) = std::env::var_os("FERULA_REMOTE_PEER") {
        let name = name.into_string().unwrap();
        return peer(&name, test).map(|path| (path, name.ends_with("next")));
    }
    let older = peer("prometheus", test)?;
    let newer = older.with_file_name("prometheus-next");
    if newer.exists() { Some((newer, true)) } else { Some((older, false)) }
}

const RECEIVES: [&str; 4] = [
    "--web.enable-remote-write-receiver",
    "--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest",
    "--web.remote-write-receiver.accepted-protobuf-messages=io.prometheus.write.v2.Request",
    "--enable-feature=exemplar-storage,native-histograms,metadata-wal-records",
];

const EMPTY: &str = "global: {scrape_interval: 1h, external_labels: {zone: a}}\n";

/// Everything that a server has, as raw samples: series -> samples of both kinds.
fn everything(server: &Server, time: f64, window: &str) -> BTreeMap<String, (Value, Value)> {
    let data = server.query(&format!("{{__name__=~\".+\"}}[{window}]"), time);
    let series = data["result"].as_array().unwrap().iter();
    series.map(|s| (s["metric"].to_string(), (s["values"].clone(), s["histograms"].clone()))).collect()
}

fn differing(a: &BTreeMap<String, (Value, Value)>, b: &BTreeMap<String, (Value, Value)>) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differ = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    differ.map(|name| format!("{name}\n  {:?}\n  {:?}", a.get(name), b.get(name))).collect()
}

fn read_request(pattern: &str, range: TimeRange, accepted: &[i32]) -> Vec<u8> {
    let matcher = RawMatcher { kind: 2, name: b"__name__".to_vec(), value: pattern.into() };
    let ours = RawMatcher { kind: 0, name: b"zone".to_vec(), value: b"a".to_vec() };
    let query = Query { start: range.mint, end: range.maxt, matchers: vec![matcher, ours], hints: None };
    let mut body = Vec::new();
    Request { queries: vec![query.clone(), query], accepted: accepted.to_vec() }.write(&mut body);
    body
}

fn read(server: &Server, body: &[u8]) -> Reply {
    let url = format!("{}/api/v1/read", server.url);
    send(CLIENT.post(url).header("Content-Encoding", "snappy").body(snappy(body)))
}

/// Labels -> samples, as text, so that no NaN differs from itself.
type Decoded = BTreeMap<String, String>;

fn key(query: usize, labels: &[(Vec<u8>, Vec<u8>)]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs: Vec<_> = labels.iter().map(|(name, value)| (text(name), text(value))).collect();
    format!("{query} {pairs:?}")
}

fn shown(samples: &SampleBatch) -> String {
    let floats: Vec<_> = samples.ts.iter().zip(&samples.vs).map(|(t, v)| (t, v.to_bits())).collect();
    // The hint of a sample says what came before it in its own chunk: that is up to the server.
    let histograms: Vec<_> = samples
        .histograms
        .iter()
        .map(|sample| {
            let mut histogram = sample.histogram.clone();
            if histogram.counter_reset_hint() != model::histogram::CounterResetHint::Gauge {
                histogram.set_counter_reset_hint(model::histogram::CounterResetHint::Unknown);
            }
            (sample.t, format!("{histogram:?}"))
        })
        .collect();
    format!("{floats:?} {histograms:?}")
}

fn decoded_samples(reply: &Reply) -> Decoded {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/x-protobuf");
    assert_eq!(reply.header("content-encoding"), "snappy");
    let message = snap::raw::Decoder::new().decompress_vec(&reply.body).unwrap();
    let results = remote_read::read_samples(&message).unwrap();
    let all = results.iter().enumerate().flat_map(|(query, list)| {
        // 3.5 also lists series of whose chunks no sample is in the range.
        let with_samples = |series: &&remote_read::ReadSeries| {
            !series.samples.is_empty() || !series.samples.histograms.is_empty()
        };
        list.iter()
            .filter(with_samples)
            .map(move |series| (key(query, &series.labels), shown(&series.samples)))
    });
    all.collect()
}

/// Also how many frames there are.
fn decoded_chunks(reply: &Reply) -> (Decoded, usize) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!((reply.header("content-type"), reply.header("content-encoding")), (kind, ""));
    let mut stream = &reply.body[..];
    let mut all: BTreeMap<String, SampleBatch> = BTreeMap::new();
    let mut n_frames = 0;
    while let Some(list) = remote_read::read_frame(&mut stream, crc32c::crc32c).unwrap() {
        assert_eq!(list.len(), 1, "a frame has one series");
        n_frames += 1;
        for series in list {
            let samples = all.entry(key(series.query as usize, &series.labels)).or_default();
            for chunk in series.chunks {
                let encoding = tsdb::chunk::Encoding::from_byte(chunk.encoding).unwrap();
                let range = TimeRange::new(chunk.mint, chunk.maxt);
                tsdb::chunk::decode(encoding, &chunk.bytes, range, samples).unwrap();
            }
        }
    }
    (all.into_iter().map(|(key, samples)| (key, shown(&samples))).collect(), n_frames)
}

/// Both servers have the same data, because both were sent it: whatever other servers ask, they say the same.
#[test]
fn requests_of_other_servers_are_answered_as_prometheus_does() {
    const TEST: &str = "requests_of_other_servers_are_answered_as_prometheus_does";
    let Some((program, is_newest)) = newest_peer(TEST) else { return };
    let (our_home, their_home) = (Home::new(EMPTY), Home::new(EMPTY));
    let flags: Vec<&str> = RECEIVES.into_iter().chain(["--storage.remote.read-sample-limit=300"]).collect();
    let theirs = their_home.start_peer(&program, &flags);
    let ours = our_home.start(&flags);

    let t = (now() * 1000.0) as i64 - 60_000;
    let mut differences = Vec::new();
    let mut n = 0;
    for request in requests::writes(t) {
        if !known::is_sent(&request.name, is_newest) {
            continue;
        }
        let [a, b] = [&ours, &theirs].map(|server| request.send(server));
        n += 1;
        // The texts of 3.5 were others.
        let is_equal = if is_newest { a == b } else { a.0 == b.0 };
        if is_equal == known::differs(&request.name, is_newest) {
            differences.push(format!("{}:\n  ours   {a:?}\n  theirs {b:?}", request.name));
        }
    }
    assert!(n > 100, "only {n} requests");
    assert!(
        differences.is_empty(),
        "these differ, or are said to and do not any more:\n{}",
        differences.join("\n")
    );

    // What is in the store is the same, exemplars included.
    let at = now();
    let (mine, reference) = (everything(&ours, at, "5m"), everything(&theirs, at, "5m"));
    let differ = differing(&mine, &reference);
    assert!(differ.is_empty(), "ours and theirs:\n{}", differ.join("\n"));
    assert!(mine.len() > 15, "{mine:?}");
    let exemplars = |server: &Server| {
        let (start, end) = (format!("{:.3}", at - 300.0), format!("{:.3}", at + 300.0));
        let parameters = [("query", "{__name__=~\".+\"}"), ("start", start.as_str()), ("end", end.as_str())];
        server.json(&with_parameters("/api/v1/query_exemplars", &parameters))["data"].take()
    };
    let lone = serde_json::json!((t + 2_500) as f64 / 1000.0);
    let without_lone = |list: Value| {
        let mut list = list;
        for series in list.as_array_mut().unwrap() {
            series["exemplars"].as_array_mut().unwrap().retain(|it| it["timestamp"] != lone);
        }
        list
    };
    assert_eq!(without_lone(exemplars(&ours)), without_lone(exemplars(&theirs)));

    reads_are_equal(&ours, &theirs, t, is_newest);
    federations_are_equal(&ours, &theirs, is_newest);
    another_server_reads_and_scrapes(&program, &ours, &mine, at);
}

fn without_bounds(all: &Decoded) -> Decoded {
    let bare = |text: &String| {
        let mut parts = text.split("custom_values: [");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split_once(']').unwrap().1)
    };
    all.iter().map(|(key, text)| (key.clone(), bare(text))).collect()
}

fn reads_are_equal(ours: &Server, theirs: &Server, t: i64, is_newest: bool) {
    for range in [
        TimeRange::new(t - 60_000, t + 60_000),
        TimeRange::new(t + 1_500, t + 4_000),
        TimeRange::new(t + 2_000, t + 2_000),
        TimeRange::new(0, 1),
    ] {
        let body = read_request("read_.*|fed_.*", range, &[]);
        let samples = decoded_samples(&read(ours, &body));
        let their_samples = decoded_samples(&read(theirs, &body));
        if is_newest {
            assert_eq!(samples, their_samples, "samples of {range:?}");
        } else {
            // 3.5 leaves the bounds of custom buckets out of this answer.
            assert_eq!(without_bounds(&samples), without_bounds(&their_samples), "samples of {range:?}");
        }
        let streamed = read_request("read_.*|fed_.*", range, &[ResponseType::StreamedChunks.code(), 0]);
        let (chunks, n) = decoded_chunks(&read(ours, &streamed));
        let (their_chunks, their_n) = decoded_chunks(&read(theirs, &streamed));
        assert_eq!(chunks, their_chunks, "chunks of {range:?}");
        assert!(n == their_n || !is_newest, "{n} frames of {range:?} instead of {their_n}");
        assert_eq!(samples, chunks, "both types of answers tell the same of {range:?}");
        assert_eq!(samples.is_empty(), range.maxt == 1);
    }
    let range = TimeRange::new(t - 60_000, t + 60_000);
    for (name, body) in [
        ("no known type", read_request(".+", range, &[9, 17])),
        ("too many samples", read_request(".+", range, &[0])),
        ("malformed", vec![0x0a, 3, 0]),
        ("wrong type", vec![0x08, 0]),
        ("no queries", vec![]),
    ] {
        let (a, b) = (read(ours, &body), read(theirs, &body));
        if !is_newest && a.status == 200 {
            // Without the bounds of custom buckets, as above.
            assert_eq!(b.status, 200, "{name}");
            continue;
        }
        assert_eq!((a.status, a.text()), (b.status, b.text()), "{name}");
    }
    let url = |server: &Server| format!("{}/api/v1/read", server.url);
    for body in [&b""[..], b"garbage", &[0x81, 0x80, 0x80, 0x10]] {
        let [a, b] = [ours, theirs].map(|server| send(CLIENT.post(url(server)).body(body.to_vec())));
        let texts = (a.text(), b.text());
        // 3.5 believes what is declared.
        assert_eq!(
            (a.status, texts.0 == texts.1 || texts.0.contains("exceeds limit")),
            (b.status, true),
            "{texts:?}"
        );
    }
}

fn federations_are_equal(ours: &Server, theirs: &Server, is_newest: bool) {
    let kind = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily";
    let accepts = [
        String::new(),
        "text/plain".to_owned(),
        "application/openmetrics-text;version=1.0.0,*/*".to_owned(),
        "text/plain;version=1.0.0;escaping=allow-utf-8,text/plain;version=0.0.4".to_owned(),
        format!("{kind};encoding=delimited"),
        format!("{kind};encoding=text"),
        format!("{kind};encoding=compact-text;escaping=values"),
    ];
    // 3.5 does not give histograms of custom buckets.
    let all = if is_newest { "{__name__=~\"fed_.*\"}" } else { "{__name__=~\"fed_[^c].*\"}" };
    let path = with_parameters("/federate", &[("match[]", all), ("match[]", "fed_float")]);
    for accept in accepts {
        let [a, b] = [ours, theirs]
            .map(|server| send(CLIENT.get(format!("{}{path}", server.url)).header("Accept", &accept)));
        assert_eq!((a.status, a.header("content-type")), (b.status, b.header("content-type")), "{accept}");
        // The text of protobuf has blanks at random, so that nobody relies on them.
        let plain = |reply: &Reply| {
            let is_text = accept.contains("encoding=text") || accept.contains("compact");
            if is_text { reply.text().replace("  ", " ").into_bytes() } else { reply.body.clone() }
        };
        assert_eq!(String::from_utf8_lossy(&plain(&a)), String::from_utf8_lossy(&plain(&b)), "{accept}");
        assert!(a.body.len() > 200, "{accept}: {}", a.text());
    }
    for path in ["/federate", "/federate?match[]=%7B", "/federate?match[]=fed_none"] {
        let (a, b) = (ours.get(path), theirs.get(path));
        assert_eq!(a, b, "{path}");
    }
}

/// A Prometheus that has nothing of its own answers with what we have, and takes what we federate for a target's.
fn another_server_reads_and_scrapes(
    program: &std::path::Path,
    ours: &Server,
    known: &BTreeMap<String, (Value, Value)>,
    at: f64,
) {
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         remote_read: [{{url: '{}/api/v1/read', read_recent: true}}]\n\
         scrape_configs:\n- job_name: federation\n  honor_labels: true\n  metrics_path: /federate\n  \
         params: {{'match[]': ['{{__name__=~\"fed_.*\"}}']}}\n  static_configs: [{{targets: ['{}']}}]\n",
        ours.url,
        ours.address()
    );
    let home = Home::new(&config);
    let reader = home.start_peer(program, &["--enable-feature=native-histograms"]);
    // A zone of its own is a series' own.
    let with_zone = |labels: &str| {
        if labels.contains("\"zone\":") { labels.to_owned() } else { labels.replace('}', ",\"zone\":\"a\"}") }
    };
    let seen = everything(&reader, at, "5m");
    let expected: BTreeMap<String, &(Value, Value)> =
        known.iter().map(|(labels, samples)| (sorted_labels(&with_zone(labels)), samples)).collect();
    let seen: BTreeMap<String, &(Value, Value)> =
        seen.iter().map(|(labels, samples)| (sorted_labels(labels), samples)).collect();
    for (labels, samples) in &expected {
        assert_eq!(seen.get(labels), Some(samples), "{labels} as read from us");
    }
    until_true("the federated target to be up", || reader.value("up{job=\"federation\"}") == Some(1.0));
    let scraped = until("a federated series", || {
        let data = reader.query("count({__name__=~\"fed_.*\",zone=\"a\"})", now());
        data["result"][0]["value"][1].as_str().map(str::to_owned)
    });
    assert_ne!(scraped, "0");
}

fn sorted_labels(labels: &str) -> String {
    let map: BTreeMap<String, String> = serde_json::from_str(labels).unwrap();
    format!("{map:?}")
}
