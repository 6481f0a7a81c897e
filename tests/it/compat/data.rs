//! The data that both servers have: fixed series at fixed times, and targets that stay up while they answer.
//!
//! Everything comes in by scraping, so that each server takes it in itself; only the block is made by a command.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// When the fixed data begins, in ms: 2025-01-01T00:00:00Z.
const BEGIN: i64 = 1_735_689_600_000;

/// The fixed data has a sample every 15 s.
const STEP: i64 = 15_000;

/// Samples of one series of the fixed data.
const STEPS: i64 = 41;

/// What the text exposition is called.
pub(super) const TEXT: &str = "text/plain; version=1.0.0; escaping=allow-utf-8";

pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Floats as a target exposes them, timestamps included.
pub(super) fn floats() -> String {
    let mut out = String::new();
    let mut series = |name: &str, labels: &str, value: &dyn Fn(i64) -> Option<String>| {
        for i in 0..STEPS {
            if let Some(value) = value(i) {
                writeln!(out, "{name}{labels} {value} {}", BEGIN + i * STEP).unwrap();
            }
        }
    };
    // In label order, so that answers do not depend on whether the head or a block gives them.
    series("{\"compat.dotted name\",\"a label\"=\"x\",job=\"web\"}", "", &|i| Some(i.to_string()));
    for (instance, version) in [("a:1", "1.2.3"), ("b:1", "1.3.0")] {
        let labels = format!("{{instance=\"{instance}\",job=\"web\",version=\"{version}\"}}");
        series("compat_build_info", &labels, &|_| Some("1".to_owned()));
    }
    for (code, methods) in
        [("200", &[("get", 3), ("post", 17)][..]), ("404", &[("post", 24)]), ("500", &[("get", 10)])]
    {
        for instance in ["a:1", "b:1"] {
            // One of them starts again in the middle.
            let restart = if instance == "b:1" { 20 } else { 0 };
            for (method, slope) in methods {
                let labels =
                    format!("{{code=\"{code}\",instance=\"{instance}\",job=\"web\",method=\"{method}\"}}");
                series("compat_requests_total", &labels, &|i| {
                    Some(((i - if i >= restart { restart } else { 0 }) * slope).to_string())
                });
            }
        }
    }
    for (suffix, labels, slope) in [
        ("_bucket", "{job=\"web\",le=\"+Inf\"}", 19),
        ("_bucket", "{job=\"web\",le=\"0.1\"}", 5),
        ("_bucket", "{job=\"web\",le=\"0.5\"}", 11),
        ("_bucket", "{job=\"web\",le=\"1\"}", 17),
        ("_count", "{job=\"web\"}", 19),
        ("_sum", "{job=\"web\"}", 8),
    ] {
        series(&format!("compat_seconds{suffix}"), labels, &|i| Some((i * slope).to_string()));
    }
    // Ends in the middle.
    series("compat_short", "{job=\"web\"}", &|i| (i < 12).then(|| i.to_string()));
    for (room, values) in [
        ("attic", ["1", "2.5", "-3", "0.1"]),
        ("cellar", ["NaN", "+Inf", "-Inf", "0"]),
        ("kitchen <&>", ["1e21", "1e-7", "123456789.123", "-0"]),
        ("\u{fc}ber \\\"all\\\"", ["1e300", "5e-324", "0.30000000000000004", "100000000000000000000"]),
    ] {
        series("compat_temperature", &format!("{{room=\"{room}\"}}"), &|i| {
            Some(values[usize::try_from(i).unwrap() % 4].to_owned())
        });
    }
    // One for each way in which text can be awkward in JSON.
    for (at, text) in ["</script>", "\u{2028}\u{2029}", "tab\\tbell\u{7}", "\u{1f600}", "back\\\\slash"]
        .into_iter()
        .enumerate()
    {
        series("compat_text", &format!("{{at=\"{at}\",text=\"{text}\"}}"), &|i| {
            (i == 0).then(|| at.to_string())
        });
    }
    out
}

/// A series whose samples come in the wrong order.
pub(super) fn late() -> String {
    let mut out = String::new();
    for i in (0..STEPS).step_by(2).chain((1..STEPS).step_by(2).collect::<Vec<_>>().into_iter().rev()) {
        writeln!(out, "compat_late{{job=\"web\"}} {} {}", i * i, BEGIN + i * STEP).unwrap();
    }
    out
}

/// Two hours before the fixed data, as a file to make a block of.
pub(super) fn old() -> String {
    let mut out = String::from("# TYPE compat_old gauge\n");
    for shelf in ["high", "low"] {
        for i in 0..60 {
            writeln!(out, "compat_old{{shelf=\"{shelf}\"}} {i} {}", BEGIN / 1000 - 14_400 + i * 60).unwrap();
        }
    }
    out + "# EOF\n"
}

// === protobuf ===

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn unsigned(out: &mut Vec<u8>, field: u64, v: u64) {
    varint(out, field << 3);
    varint(out, v);
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn double(out: &mut Vec<u8>, field: u64, v: f64) {
    varint(out, field << 3 | 1);
    out.extend(v.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, v: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, v.len() as u64);
    out.extend(v);
}

fn message(out: &mut Vec<u8>, field: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    bytes(out, field, &inner);
}

fn labels(out: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    for (name, value) in pairs {
        message(out, 1, |out| {
            bytes(out, 1, name.as_bytes());
            bytes(out, 2, value.as_bytes());
        });
    }
}

/// An exemplar a tenth of a second after `t`.
fn exemplar(out: &mut Vec<u8>, field: u64, trace: &str, v: f64, t: i64) {
    message(out, field, |out| {
        labels(out, &[("span", "<\u{e9}>"), ("trace_id", trace)]);
        double(out, 2, v);
        message(out, 3, |out| {
            unsigned(out, 1, (t / 1000) as u64);
            unsigned(out, 2, 100_000_000);
        });
    });
}

/// A family and its samples, each of them one metric.
fn family(out: &mut Vec<u8>, name: &str, kind: u64, samples: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    bytes(&mut inner, 1, name.as_bytes());
    bytes(&mut inner, 2, format!("Help of {name}.").as_bytes());
    unsigned(&mut inner, 3, kind);
    samples(&mut inner);
    varint(out, inner.len() as u64);
    out.extend(inner);
}

/// One side of a native histogram: a span per run of buckets, and the counts as what each adds to the one before.
fn side(out: &mut Vec<u8>, (span, delta): (u64, u64), spans: &[(i64, u64)], counts: &[i64]) {
    for (offset, length) in spans {
        message(out, span, |out| {
            unsigned(out, 1, zigzag(*offset));
            unsigned(out, 2, *length);
        });
    }
    let mut before = 0;
    message(out, delta, |out| {
        for count in counts {
            varint(out, zigzag(count - before));
            before = *count;
        }
    });
}

/// Native histograms, and exemplars on all that may have them.
pub(super) fn histograms() -> Vec<u8> {
    const POSITIVE: (u64, u64) = (12, 13);
    const NEGATIVE: (u64, u64) = (9, 10);
    let mut out = Vec::new();
    family(&mut out, "compat_latency", 4, |out| {
        for (instance, restart) in [("a:1", 0), ("b:1", 20)] {
            for i in 0..STEPS {
                let (t, n) = (BEGIN + i * STEP, i - if i >= restart { restart } else { 0 });
                message(out, 4, |out| {
                    labels(out, &[("instance", instance), ("job", "web")]);
                    unsigned(out, 6, t as u64);
                    message(out, 7, |out| {
                        unsigned(out, 1, (n * 11) as u64);
                        double(out, 2, n as f64 * 2.5);
                        unsigned(out, 5, zigzag(1));
                        double(out, 6, 0.001);
                        unsigned(out, 7, n as u64);
                        side(out, POSITIVE, &[(-2, 2), (1, 3)], &[n, n * 2, n * 4, n * 2, n]);
                        // Prometheus reads those of one sample of a family only.
                        if i == 3 && instance == "a:1" {
                            for j in 0..3 {
                                exemplar(out, 16, &format!("{instance}-{j}"), 0.5, t + j * STEP);
                            }
                        }
                    });
                });
            }
        }
    });
    family(&mut out, "compat_traced_total", 0, |out| {
        for i in 0..STEPS {
            let t = BEGIN + i * STEP;
            message(out, 4, |out| {
                labels(out, &[("job", "web")]);
                message(out, 3, |out| {
                    double(out, 1, (i * 7) as f64);
                    if i % 10 == 0 {
                        exemplar(out, 2, &format!("counter-{i}"), 7.0, t);
                    }
                });
                unsigned(out, 6, t as u64);
            });
        }
    });
    // May fall, and is negative, too.
    family(&mut out, "compat_weight", 5, |out| {
        for i in 0..STEPS {
            let n = 1 + i % 3;
            message(out, 4, |out| {
                labels(out, &[("job", "web")]);
                unsigned(out, 6, (BEGIN + i * STEP) as u64);
                message(out, 7, |out| {
                    unsigned(out, 1, (n * 8 + 1) as u64);
                    double(out, 2, n as f64 - 2.0);
                    unsigned(out, 5, zigzag(0));
                    double(out, 6, 0.25);
                    unsigned(out, 7, 1);
                    side(out, NEGATIVE, &[(0, 2)], &[n, n * 2]);
                    side(out, POSITIVE, &[(0, 2), (2, 1)], &[n * 3, n, n]);
                });
            });
        }
    });
    out
}

// === targets ===

/// What the target `alpha` says while the servers answer.
pub(super) const ALPHA: &str = "\
# HELP live_jobs_total Jobs <done>, \"as\" alpha counts & tells.
# TYPE live_jobs_total counter
live_jobs_total{kind=\"a\"} 5
live_jobs_total{kind=\"b\"} 7.5
# HELP live_level A level.
# TYPE live_level gauge
live_level -0.25
# TYPE live_nameless summary
live_nameless{quantile=\"0.5\"} NaN
live_nameless_sum 1
live_nameless_count 2
# HELP live_unused Has no samples.
live_without_type 1
";

/// What the target `beta` says: other texts of the same families, and units.
pub(super) const BETA: &str = "\
# HELP live_jobs Jobs as beta counts them.
# TYPE live_jobs counter
live_jobs_total{kind=\"a\"} 6
# HELP live_level A level.
# TYPE live_level gauge
live_level 3
# HELP live_wait_seconds Waiting.
# TYPE live_wait_seconds histogram
# UNIT live_wait_seconds seconds
live_wait_seconds_bucket{le=\"1.0\"} 1
live_wait_seconds_bucket{le=\"+Inf\"} 2
live_wait_seconds_sum 3
live_wait_seconds_count 2
# EOF
";

/// Serves `body` as a target until the test process ends: its address.
pub(super) fn serve(status: &'static str, content_type: &'static str, body: Vec<u8>) -> String {
    serve_when(Arc::new(AtomicBool::new(true)), status, content_type, body)
}

/// The same, as soon as the gate is open.
pub(super) fn serve_when(
    gate: Arc<AtomicBool>,
    status: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while head.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let status = if gate.load(Ordering::Relaxed) { status } else { "503 Service Unavailable" };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}
