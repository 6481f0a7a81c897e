//! Requests at random: every kind of metric, ordinary and hostile names, values that make sense and some that do not.

use serde_json::{Map, Value, json};

use super::proto;

pub(super) struct Request {
    pub(super) json: Value,
    /// Set if it is sent as protobuf.
    pub(super) protobuf: Option<Vec<u8>>,
}

pub(super) struct Generator {
    random: fastrand::Rng,
    /// When the next request was made.
    t_ms: i64,
    deltas: bool,
    without: Without,
}

/// What requests do not have, as Prometheus makes something else of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// Gauges that say when they began: it takes them for zero then.
    GaugeStarts,
    /// Deltas of whole numbers and fractions in one series, whose sum begins anew with each change; points without a
    /// value, after which a sum stays without one.
    MixedSums,
}

const KEYS: &[&str] = &[
    "http.method",
    "a.b",
    "a_b",
    "a b",
    "a..b",
    "__a.b",
    "éa",
    "über.x",
    "_x",
    "__x",
    "__reserved__",
    "__a..b__",
    "1st",
    "le",
    "quantile",
    "job",
    "instance",
    "__name__",
    "__type__",
    "host.name",
    "otel_scope_name",
    "k:1",
    "x/y",
    "service.name",
    "A",
    "a",
    "日x本",
    "with\"quote",
    "trailing_",
    "exemplar.key",
];

const NAMES: &[&str] = &[
    "http.server.duration",
    "http_requests_total",
    "requests.total",
    "cpu.utilization",
    "ratio.of.x",
    "x.ratio",
    "a__b",
    "_leading",
    "2xx",
    "mem.usage.bytes",
    "bytes.in",
    "grüße",
    "日本.metric",
    "a:b",
    "subtotal",
    "seconds",
    "time.per.second",
    "total",
    "up",
    "target_info",
    "x-y/z",
    "with space",
    "__m__",
    "trailing.",
    "per_s",
];

const UNITS: &[&str] = &[
    "",
    "",
    "s",
    "ms",
    "By",
    "1",
    "%",
    "m/s",
    "By/s",
    "{request}",
    "{request}/s",
    "1/s",
    "°C",
    "Cel",
    "MiBy/min",
    "/s",
    "s/{x}",
    "a/b/c",
    "__x__",
    "s_",
    "_/_",
    " s ",
    "kg.m",
    "total",
    "bytes",
    "d/mo",
];

const TEXTS: &[&str] = &[
    "GET",
    "POST",
    "a;b",
    "",
    "ü",
    "line\nbreak",
    "<&>",
    "\"quoted\"",
    "日本語",
    "x",
    "y",
    "z",
    "\u{2028}",
    "\u{1}\u{7f}",
    "very long very long very long very long very long very long very long very long very long very long value",
];

impl Generator {
    pub(super) fn new(seed: u64, start_ms: i64, deltas: bool, without: Without) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), t_ms: start_ms, deltas, without }
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.usize(..list.len())]
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    pub(super) fn request(&mut self) -> Request {
        self.t_ms += self.random.i64(1..7000);
        let n = self.random.usize(1..3);
        let resources: Vec<Value> = (0..n).map(|_| self.resource()).collect();
        let json = json!({ "resourceMetrics": resources });
        if self.random.bool() {
            return Request { protobuf: Some(proto::encode(&json)), json };
        }
        let spelled = if self.random.bool() { snake_case(json) } else { json };
        Request { json: spelled, protobuf: None }
    }

    fn resource(&mut self) -> Value {
        let mut attributes = Vec::new();
        let has_job = !self.once_in(8);
        if has_job {
            attributes.push(pair("service.name", json!({"stringValue": self.pick(&["api", "db", ""])})));
        }
        if self.once_in(3) {
            attributes.push(pair("service.namespace", json!({"stringValue": self.pick(&["ns", "ü"])})));
        }
        if !self.once_in(4) {
            let value =
                if self.once_in(5) { json!({"intValue": "7"}) } else { json!({"stringValue": "i-1"}) };
            attributes.push(pair("service.instance.id", value));
        }
        let n = self.random.usize(..4);
        let more = self.attributes(n);
        // No key twice.
        attributes.extend(more.into_iter().filter(|pair| {
            !["service.name", "service.namespace", "service.instance.id"]
                .contains(&pair["key"].as_str().unwrap())
        }));
        let n = self.random.usize(1..3);
        let scopes: Vec<Value> = (0..n).map(|_| self.scope()).collect();
        json!({"resource": {"attributes": attributes}, "scopeMetrics": scopes})
    }

    fn scope(&mut self) -> Value {
        let n = self.random.usize(1..5);
        let metrics: Vec<Value> = (0..n).map(|_| self.metric()).collect();
        let mut out = json!({"metrics": metrics});
        if self.random.bool() {
            let n = self.random.usize(..3);
            let attributes = self.attributes(n);
            out["scope"] = json!({
                "name": self.pick(&["lib", "lib/two", ""]),
                "version": self.pick(&["1.0", ""]),
                "attributes": attributes,
            });
            out["schemaUrl"] = self.pick(&["", "https://schema.example/1"]).into();
        }
        out
    }

    /// So many at most, no key twice.
    fn attributes(&mut self, n: usize) -> Vec<Value> {
        let mut keys: Vec<&str> = (0..n).map(|_| self.pick(KEYS)).collect();
        if self.once_in(300) {
            keys.push("___");
        }
        keys.sort_unstable();
        keys.dedup();
        self.random.shuffle(&mut keys);
        keys.into_iter().map(|key| pair(key, self.value(0))).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.random.u32(..if depth < 3 { 14 } else { 9 }) {
            0 => json!({"boolValue": self.random.bool()}),
            1 => json!({"intValue": self.random.i64(-1000..1000).to_string()}),
            2 => json!({"intValue": self.random.i64(-1000..1000)}),
            3 => {
                let v = self.pick(&[0.0, 1.5, -2e-9, 1e21, 123_456_789.125, 1e-6, 3.0, 1e300, -1e-10]);
                json!({"doubleValue": v})
            }
            4 => json!({"doubleValue": self.pick(&["NaN", "Infinity", "-Infinity"])}),
            5 => json!({"bytesValue": self.pick(&["", "AQI=", "/+8="])}),
            6 => json!({}),
            9 => {
                let values: Vec<Value> = (0..self.random.usize(..4)).map(|_| self.value(depth + 1)).collect();
                json!({"arrayValue": {"values": values}})
            }
            10 => {
                let mut keys: Vec<&str> = (0..self.random.usize(..4)).map(|_| self.pick(KEYS)).collect();
                keys.sort_unstable();
                keys.dedup();
                let values: Vec<Value> =
                    keys.into_iter().map(|key| pair(key, self.value(depth + 1))).collect();
                json!({"kvlistValue": {"values": values}})
            }
            _ => json!({"stringValue": self.pick(TEXTS)}),
        }
    }

    fn temporality(&mut self) -> Value {
        if self.deltas && self.random.bool() {
            return self.pick_value(&[json!(1), json!("AGGREGATION_TEMPORALITY_DELTA")]);
        }
        if self.once_in(60) {
            return self.pick_value(&[json!(0), json!(1), json!("AGGREGATION_TEMPORALITY_UNSPECIFIED")]);
        }
        self.pick_value(&[json!(2), json!("AGGREGATION_TEMPORALITY_CUMULATIVE")])
    }

    fn pick_value(&mut self, list: &[Value]) -> Value {
        list[self.random.usize(..list.len())].clone()
    }

    fn metric(&mut self) -> Value {
        let mut name = self.pick(NAMES).to_owned();
        let kind = self.random.usize(..5);
        // Two kinds of metrics under one name are the exception, as is what has no name.
        if !self.once_in(20) {
            name = format!("{}.{name}", ["g", "s", "h", "e", "q"][kind]);
        } else if self.once_in(12) {
            self.pick(&["_", "..", "é"]).clone_into(&mut name);
        }
        let n = if self.once_in(80) { 0 } else { self.random.usize(1..4) };
        let mut points: Vec<Value> = (0..n).map(|i| self.point(kind, i)).collect();
        points.iter_mut().for_each(|point| self.spoil(point));
        let unit = self.pick(UNITS);
        let mut out =
            json!({"name": name, "description": self.pick(&["", "help", "a \\ \n b"]), "unit": unit});
        let mut data = json!({"dataPoints": points});
        let field = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"][kind];
        if (1..4).contains(&kind) {
            data["aggregationTemporality"] = self.temporality();
        }
        if kind == 1 {
            data["isMonotonic"] = self.random.bool().into();
        }
        if !self.once_in(150) {
            out[field] = data;
        }
        out
    }

    fn point(&mut self, kind: usize, i: usize) -> Value {
        let time = self.t_ms * 1_000_000 + self.random.i64(0..1_000_000);
        let n = self.random.usize(..4);
        let mut attributes = self.attributes(n);
        if !self.once_in(10) {
            attributes.push(pair("point", json!({"intValue": i})));
        }
        let mut out = json!({"attributes": attributes, "timeUnixNano": time.to_string()});
        if self.random.bool() && (kind > 0 || self.without != Without::GaugeStarts) {
            out["startTimeUnixNano"] = (time - self.random.i64(0..3_000_000_000)).to_string().into();
        }
        if self.once_in(15) && self.without != Without::MixedSums {
            out["flags"] = 1.into();
        }
        match kind {
            0 | 1 => {
                if self.random.bool() || self.without == Without::MixedSums {
                    out["asInt"] = self.pick_value(&[json!("12"), json!(-3), json!("9007199254740993")]);
                } else {
                    out["asDouble"] = self.pick_value(&[
                        json!(0.5),
                        json!(1e300),
                        json!("NaN"),
                        json!(7),
                        json!("-Infinity"),
                    ]);
                }
            }
            2 => self.fill_classic(&mut out),
            3 => self.fill_exponential(&mut out),
            _ => {
                out["count"] = self.random.u64(..100).to_string().into();
                out["sum"] = json!(self.random.f64() * 100.0);
                let quantiles = [0.0, 0.5, 0.99, 1.0, 1e-7];
                let n = self.random.usize(..5);
                out["quantileValues"] = quantiles[..n]
                    .iter()
                    .map(|q| json!({"quantile": q, "value": self.random.f64()}))
                    .collect();
            }
        }
        if (1..4).contains(&kind) && self.once_in(3) {
            let n = self.random.usize(1..4);
            let mut exemplars: Vec<Value> =
                (0..n).zip(0_i64..).map(|(_, i)| self.exemplar(time + i * 1_000_000)).collect();
            exemplars.sort_by(|a, b| a["asDouble"].as_f64().partial_cmp(&b["asDouble"].as_f64()).unwrap());
            out["exemplars"] = exemplars.into();
        }
        out
    }

    fn fill_classic(&mut self, out: &mut Value) {
        let n = self.random.usize(..6);
        let bounds: Vec<f64> = [0.001, 0.5, 1.0, 25.0, 1e6, 1e21][..n].to_vec();
        let mut counts: Vec<u64> = (0..=n).map(|_| self.pick(&[0, 0, 1, 5, 100])).collect();
        if self.once_in(8) {
            counts.clear();
        }
        let total: u64 = counts.iter().sum();
        out["count"] = total.to_string().into();
        if !self.once_in(5) {
            out["sum"] = json!(if total == 0 && !self.once_in(10) { 0.0 } else { self.random.f64() * 10.0 });
        }
        out["explicitBounds"] = bounds.into();
        out["bucketCounts"] = counts.iter().map(|count| Value::from(count.to_string())).collect();
    }

    fn fill_exponential(&mut self, out: &mut Value) {
        let scale = self.pick(&[-4, -1, 0, 1, 3, 8, 9, 12, 20]);
        let mut total = 0;
        for side in ["positive", "negative"] {
            let n = self.random.usize(..12);
            // Upstream puts what follows empty buckets of such scales into a bucket too low.
            let counts: Vec<u64> = (0..n)
                .map(|_| if scale > 8 { self.random.u64(1..5) } else { self.pick(&[0, 0, 0, 1, 7]) })
                .collect();
            total += counts.iter().sum::<u64>();
            let counts: Vec<Value> = counts.iter().map(|count| self.number(*count)).collect();
            out[side] = json!({"offset": self.random.i32(-20..20), "bucketCounts": counts});
        }
        let zeros = self.pick(&[0, 0, 3]);
        out["scale"] = scale.into();
        out["zeroCount"] = zeros.to_string().into();
        out["count"] = (total + zeros).to_string().into();
        if !self.once_in(5) {
            out["sum"] = json!(if total + zeros == 0 { 0.0 } else { self.random.f64() * 10.0 });
        }
        if self.once_in(4) {
            out["zeroThreshold"] = json!(self.pick(&[1e-9, 0.01, 0.5]));
        }
    }

    fn number(&mut self, v: u64) -> Value {
        if self.random.bool() { v.into() } else { v.to_string().into() }
    }

    fn exemplar(&mut self, time: i64) -> Value {
        let mut out =
            json!({"timeUnixNano": time.to_string(), "asDouble": self.pick(&[0.0002, 0.25, 3.0, 1e7])});
        if self.random.bool() {
            out["traceId"] =
                self.pick(&["0123456789abcdef0123456789abcdef", "00000000000000000000000000000000"]).into();
        }
        if self.random.bool() {
            out["spanId"] = self.pick(&["0123456789abcdef", ""]).into();
        }
        if self.random.bool() {
            let n = self.random.usize(..3);
            out["filteredAttributes"] = self.attributes(n).into();
        }
        out
    }

    /// Makes one in many points wrong.
    fn spoil(&mut self, point: &mut Value) {
        if !self.once_in(120) {
            return;
        }
        match self.random.u32(..5) {
            0 => point["timeUnixNano"] = "1000000000000000000".into(),
            1 => point["timeUnixNano"] = "4000000000000000000".into(),
            2 if point["scale"].is_number() => point["scale"] = (-5).into(),
            3 if point["scale"].is_number() => point["count"] = "12345".into(),
            4 if point["bucketCounts"].is_array() => {
                point["bucketCounts"] = json!(["1", "2", "3", "4", "5", "6", "7", "8"]);
            }
            _ => {
                point.as_object_mut().unwrap().remove("asInt");
            }
        }
    }
}

fn pair(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

/// With the names of fields as protobuf has them.
fn snake_case(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(snake_case).collect(),
        Value::Object(object) => {
            let renamed = object.into_iter().map(|(name, value)| {
                let mut out = String::new();
                for c in name.chars() {
                    if c.is_ascii_uppercase() {
                        out.push('_');
                    }
                    out.push(c.to_ascii_lowercase());
                }
                (out, snake_case(value))
            });
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        other => other,
    }
}
