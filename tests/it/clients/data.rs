//! What the clients are shown: 50 minutes of samples, one every 15 s, with timestamps of its own, so that every server that
//! scrapes it has the same. Counters, gauges with odd values, a classic histogram with exemplars, names in UTF-8, a
//! summary, and native histograms as protobuf. Whoever asks for the first time gets all of them, afterwards what is new.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;

use crate::process::now;
use crate::scripted::Scripted;

/// Seconds between two samples.
pub(crate) const STEP: i64 = 15;

/// How many samples there are at the start: what is older than an hour a store may refuse that has newer ones.
pub(crate) const SAMPLES: i64 = 200;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Serves the samples from `begin`, in seconds, to now: `/text` and `/native`, with a `reader` in the query.
pub(crate) fn serve(begin: i64) -> Scripted {
    let read = Mutex::new(HashMap::<String, i64>::new());
    Scripted::raw(move |request, stream| {
        let last = (now() as i64 - begin) / STEP;
        let first = read.lock().unwrap().insert(request.path.clone(), last).map_or(0, |read| read.min(last));
        let (kind, body) = if request.path.starts_with("/native") {
            (PROTOBUF, native(begin, first, last))
        } else {
            (OPENMETRICS, text(begin, first, last).into_bytes())
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")?;
        stream.write_all(&body)
    })
}

struct Text {
    out: String,
    begin: i64,
    first: i64,
    last: i64,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").unwrap();
        if !unit.is_empty() {
            writeln!(self.out, "# UNIT {name} {unit}").unwrap();
        }
    }

    /// A sample for each time: the value, and the exemplar if there is one.
    fn series(&mut self, series: &str, value: impl Fn(i64) -> (String, Option<String>)) {
        for i in self.first..=self.last {
            let (value, exemplar) = value(i);
            let time = self.begin + i * STEP;
            write!(self.out, "{series} {value} {time}").unwrap();
            if let Some(exemplar) = exemplar {
                write!(self.out, " # {exemplar} {time}.5").unwrap();
            }
            self.out.push('\n');
        }
    }

    fn counter(&mut self, series: &str, slope: i64) {
        self.series(series, |i| ((i * slope).to_string(), None));
    }
}

fn text(begin: i64, first: i64, last: i64) -> String {
    let mut text = Text { out: String::new(), begin, first, last };
    text.family("http_requests", "counter", "", "Requests that were answered.");
    for instance in ["a:1", "b:1"] {
        for (code, method, slope) in [
            ("200", "get", 30),
            ("200", "post", 9),
            ("404", "get", 3),
            ("404", "post", 1),
            ("500", "get", 2),
            ("500", "post", 0),
        ] {
            let labels = format!("code=\"{code}\",instance=\"{instance}\",job=\"web\",method=\"{method}\"");
            text.counter(&format!("http_requests_total{{{labels}}}"), slope);
        }
    }
    text.family("node_cpu_seconds", "counter", "seconds", "Seconds the CPUs spent in each mode.");
    for (cpu, mode, slope) in [("0", "idle", 12), ("0", "user", 3), ("1", "idle", 14), ("1", "user", 1)] {
        let labels = format!("cpu=\"{cpu}\",instance=\"a:1\",job=\"node\",mode=\"{mode}\"");
        text.counter(&format!("node_cpu_seconds_total{{{labels}}}"), slope);
    }
    text.family("process_cpu_seconds", "counter", "seconds", "Total user and system CPU time.");
    text.counter("process_cpu_seconds_total{instance=\"a:1\",job=\"web\"}", 1);
    text.family("queue_length", "gauge", "", "Jobs that wait.");
    for (queue, height) in [("mail", 7), ("print", 23)] {
        text.series(&format!("queue_length{{instance=\"a:1\",job=\"web\",queue=\"{queue}\"}}"), |i| {
            (((i * height) % 31).to_string(), None)
        });
    }
    text.family("waiting", "gauge", "", "Who waits.");
    text.counter("waiting{instance=\"a:1\",job=\"web\"}", 1);
    text.family("room_celsius", "gauge", "celsius", "Temperature of a room.");
    for (room, value) in [
        ("attic", "1e-310"),
        ("cellar", "NaN"),
        ("hall", "-0"),
        ("kitchen", "+Inf"),
        ("loft", "-Inf"),
        ("yard", "0.1"),
    ] {
        let series = format!("room_celsius{{instance=\"a:1\",job=\"house\",room=\"{room}\"}}");
        text.series(&series, |_| (value.to_owned(), None));
    }
    text.family("request_duration_seconds", "histogram", "seconds", "How long requests took.");
    for (handler, slope) in [("/", 4), ("/api", 1)] {
        let labels = format!("handler=\"{handler}\",instance=\"a:1\",job=\"web\"");
        for (at, le, share) in
            [(0, "0.1", 1), (1, "0.5", 3), (2, "1.0", 4), (3, "2.5", 6), (4, "10.0", 7), (5, "+Inf", 7)]
        {
            text.series(&format!("request_duration_seconds_bucket{{{labels},le=\"{le}\"}}"), |i| {
                let exemplar = (i % 20 == at).then(|| format!("{{trace_id=\"{slope}-{i}\"}} 0.0{at}"));
                ((i * slope * share).to_string(), exemplar)
            });
        }
        text.counter(&format!("request_duration_seconds_count{{{labels}}}"), slope * 7);
        text.counter(&format!("request_duration_seconds_sum{{{labels}}}"), slope * 9);
    }
    text.family("rpc_wait_seconds", "summary", "seconds", "How long calls waited.");
    for (quantile, value) in [("0.5", "0.25"), ("0.99", "2")] {
        let labels = format!("instance=\"a:1\",job=\"web\",quantile=\"{quantile}\"");
        text.series(&format!("rpc_wait_seconds{{{labels}}}"), |_| (value.to_owned(), None));
    }
    text.counter("rpc_wait_seconds_count{instance=\"a:1\",job=\"web\"}", 2);
    text.counter("rpc_wait_seconds_sum{instance=\"a:1\",job=\"web\"}", 1);
    text.family("\"utf8.requests\"", "gauge", "", "Names with dots.");
    for status in ["200", "503"] {
        let labels = format!("\"http.status\"=\"{status}\",instance=\"a:1\",job=\"web\"");
        text.counter(&format!("{{\"utf8.requests\",{labels}}}"), 5);
    }
    text.out.push_str("# EOF\n");
    text.out
}

/// A field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn message(fields: &[(u64, Field<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, field) in fields {
        match field {
            Field::Varint(n) => {
                varint(&mut out, number << 3);
                varint(&mut out, *n);
            }
            Field::Double(value) => {
                varint(&mut out, (number << 3) | 1);
                out.extend(value.to_le_bytes());
            }
            Field::Bytes(bytes) => {
                varint(&mut out, (number << 3) | 2);
                varint(&mut out, bytes.len() as u64);
                out.extend(*bytes);
            }
        }
    }
    out
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// The native histogram and a gauge whose help is another than elsewhere.
fn native(begin: i64, first: i64, last: i64) -> Vec<u8> {
    use Field::{Bytes, Double, Varint};
    let label =
        |name: &str, value: &str| message(&[(1, Bytes(name.as_bytes())), (2, Bytes(value.as_bytes()))]);
    let labels = [label("instance", "a:1"), label("job", "rpc")];
    let time = |i: i64| Varint((begin + i * STEP) as u64 * 1000);
    let metrics: Vec<Vec<u8>> = (first..=last)
        .map(|i| {
            // Three buckets, a gap, two buckets; the populations are differences to the one before.
            let spans = [
                message(&[(1, Varint(zigzag(0))), (2, Varint(3))]),
                message(&[(1, Varint(zigzag(2))), (2, Varint(2))]),
            ];
            let counts = [2 * i, 5 * i, 3 * i, i, 4 * i];
            let mut deltas = Vec::new();
            let mut before = 0;
            for count in counts {
                varint(&mut deltas, zigzag(count - before));
                before = count;
            }
            let negative = message(&[(1, Varint(zigzag(1))), (2, Varint(1))]);
            let mut negative_delta = Vec::new();
            varint(&mut negative_delta, zigzag(i));
            let exemplar = message(&[
                (1, Bytes(&label("trace_id", &format!("n{i}")))),
                (2, Double(1.5)),
                (3, Bytes(&message(&[(1, Varint((begin + i * STEP) as u64))]))),
            ]);
            let mut histogram = vec![
                (1, Varint(17 * i as u64)),
                (2, Double(40.5 * i as f64)),
                (5, Varint(zigzag(0))),
                (6, Double(0.001)),
                (7, Varint(i as u64)),
                (9, Bytes(&negative)),
                (10, Bytes(&negative_delta)),
                (12, Bytes(&spans[0])),
                (12, Bytes(&spans[1])),
                (13, Bytes(&deltas)),
            ];
            // Of the later ones of a scrape Prometheus passes over the exemplars.
            if i == SAMPLES / 2 || (i > SAMPLES && i % 10 == 0) {
                histogram.push((16, Bytes(&exemplar)));
            }
            message(&[
                (1, Bytes(&labels[0])),
                (1, Bytes(&labels[1])),
                (7, Bytes(&message(&histogram))),
                (6, time(i)),
            ])
        })
        .collect();
    let mut family = vec![
        (1, Bytes(b"rpc_duration_seconds".as_slice())),
        (2, Bytes(b"How long calls took.")),
        (3, Varint(4)),
        (5, Bytes(b"seconds")),
    ];
    family.extend(metrics.iter().map(|metric| (4, Bytes(metric.as_slice()))));
    let gauge = message(&[(1, Double(1.0))]);
    let metric =
        message(&[(1, Bytes(&labels[0])), (1, Bytes(&labels[1])), (2, Bytes(&gauge)), (6, time(last))]);
    let other = message(&[
        (1, Bytes(b"waiting")),
        (2, Bytes(b"Calls that wait.")),
        (3, Varint(1)),
        (4, Bytes(&metric)),
    ]);
    let mut out = Vec::new();
    for family in [message(&family), other] {
        varint(&mut out, family.len() as u64);
        out.extend(family);
    }
    out
}
