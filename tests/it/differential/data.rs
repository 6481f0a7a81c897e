//! What both servers hold: three hours of series made to be awkward, written with our own store, so that the older part
//! lies in a block and the newer one in the head, some of it late.
//!
//! Everything follows from the seed. Times are those of 2025-01-01 and the values have nothing to do with today's
//! clock.

use std::path::Path;

use fastrand::Rng;
use model::storage::{Appendable, SeriesKey};
use model::{AnyHistogram, Labels, STALE_NAN, Value};
use tsdb::chunk::FloatEncoding;
use tsdb::head::{Features, ReplayProgress};
use tsdb::{Db, db};

use super::histograms::{Layout, Observed};

/// When the data begins, in ms: 2025-01-01T00:00:00Z, where blocks begin, too.
pub(crate) const BEGIN: i64 = 1_735_689_600_000;

/// When it ends: more than one and a half blocks later, so that the first two hours become a block.
pub(crate) const END: i64 = BEGIN + 190 * MINUTE;

const MINUTE: i64 = 60_000;

/// Batches: scrapes of all targets within such a span are one.
const BATCH_MS: i64 = MINUTE;

/// What the samples of a family look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Counter,
    /// A counter that tells when it began to count.
    Started,
    Gauge,
    /// NaN, infinities, negative zero, the largest and the smallest.
    Odd,
    /// Few distinct small numbers.
    Level,
    /// Times of day one around the epoch and today.
    Moment,
    /// Always 1.
    Info,
    /// The buckets of a classic histogram: `le` is among the labels.
    Classic,
    /// Its count and sum.
    ClassicTotal,
    Native(Layout),
    /// Now floats, now histograms.
    Mixed,
}

impl Shape {
    pub(crate) fn is_counter(self) -> bool {
        matches!(self, Self::Counter | Self::Started | Self::Classic | Self::ClassicTotal)
    }

    pub(crate) fn is_native(self) -> bool {
        matches!(self, Self::Native(_) | Self::Mixed)
    }
}

/// Series of one name: every combination of the label values, `percent` of them.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) labels: &'static [(&'static str, &'static [&'static str])],
    percent: u8,
}

const fn family(
    name: &'static str,
    shape: Shape,
    labels: &'static [(&'static str, &'static [&'static str])],
    percent: u8,
) -> Family {
    Family { name, shape, labels, percent }
}

const JOBS: (&str, &[&str]) = ("job", &["api", "web"]);
const INSTANCES: (&str, &[&str]) = ("instance", &["a10", "a2", "b1"]);
const LE: (&str, &[&str]) = ("le", &["0.1", "0.5", "1", "2.5", "10", "+Inf"]);

pub(crate) static FAMILIES: &[Family] = &[
    family(
        "http_requests_total",
        Shape::Counter,
        &[JOBS, INSTANCES, ("method", &["get", "post"]), ("code", &["200", "404", "500"])],
        80,
    ),
    family(
        "cpu_seconds_total",
        Shape::Counter,
        &[INSTANCES, ("cpu", &["0", "1", "10"]), ("mode", &["idle", "user"])],
        90,
    ),
    family(
        "temperature",
        Shape::Odd,
        &[("room", &["attic", "cellar", "hall", "kitchen <&>"]), INSTANCES],
        90,
    ),
    family(
        "queue_length",
        Shape::Gauge,
        &[JOBS, INSTANCES, ("queue", &["in", "out", "q1", "q10", "q9"])],
        60,
    ),
    family("level", Shape::Level, &[JOBS, INSTANCES, ("zone", &["z1", "z10", "z2"])], 100),
    family("up", Shape::Level, &[JOBS, INSTANCES], 100),
    family("clash_a", Shape::Gauge, &[JOBS, INSTANCES], 100),
    family("clash_b", Shape::Gauge, &[JOBS, INSTANCES], 70),
    family(
        "pod_memory",
        Shape::Gauge,
        &[JOBS, ("pod", &["pod-a1", "pod-a10", "pod-a2", "pod-b", "pod-c 3"])],
        100,
    ),
    family("sparse", Shape::Gauge, &[INSTANCES], 100),
    family("late", Shape::Counter, &[INSTANCES], 100),
    family("began_total", Shape::Started, &[JOBS, INSTANCES], 100),
    family("moment_seconds", Shape::Moment, &[("event", &["boot", "epoch", "future", "leap"])], 100),
    family(
        "target_info",
        Shape::Info,
        &[JOBS, INSTANCES, ("version", &["1.2", "1.10"]), ("data", &["x", "y"])],
        45,
    ),
    family("build_info", Shape::Info, &[JOBS, INSTANCES, ("commit", &["abc", "def"])], 60),
    family("owner", Shape::Info, &[INSTANCES, ("team", &["blue", "red"])], 60),
    family(
        "typed_bytes",
        Shape::Gauge,
        &[INSTANCES, ("__type__", &["counter", "gauge"]), ("__unit__", &["bytes"])],
        80,
    ),
    family(
        "my.dotted metric",
        Shape::Counter,
        &[JOBS, ("http.status", &["200", "503"]), ("é", &["ü x", "\u{1F600}"])],
        80,
    ),
    family("request_seconds_bucket", Shape::Classic, &[JOBS, INSTANCES, LE], 100),
    family("request_seconds_count", Shape::ClassicTotal, &[JOBS, INSTANCES], 100),
    family("request_seconds_sum", Shape::ClassicTotal, &[JOBS, INSTANCES], 100),
    family(
        "broken_seconds_bucket",
        Shape::Classic,
        &[
            ("kind", &["gappy", "other"]),
            ("le", &["-1", "0", "0.5", "1", "1.0", "1e0", "+Inf", "abc", "", "NaN"]),
        ],
        65,
    ),
    family("both_seconds", Shape::Native(Layout::Int), &[INSTANCES], 100),
    family("both_seconds_bucket", Shape::Classic, &[INSTANCES, ("le", &["1", "2", "+Inf"])], 100),
    family("latency_seconds", Shape::Native(Layout::Int), &[JOBS, INSTANCES], 100),
    family("size_bytes", Shape::Native(Layout::Signed), &[JOBS, INSTANCES], 90),
    family("weight", Shape::Native(Layout::Float), &[JOBS, INSTANCES], 80),
    family("custom_seconds", Shape::Native(Layout::Custom), &[JOBS, INSTANCES, ("bounds", &["p", "q"])], 80),
    family("shifting_seconds", Shape::Native(Layout::Shifting), &[INSTANCES, ("seed", &["1", "2"])], 100),
    family("gauge_histogram", Shape::Native(Layout::Gauge), &[JOBS, INSTANCES], 80),
    family("strange_histogram", Shape::Native(Layout::Strange), &[("seed", &["1", "2", "3", "4"])], 100),
    family("mixed", Shape::Mixed, &[INSTANCES, ("seed", &["1", "2"])], 100),
];

/// One value to write.
enum Content {
    Float(f64),
    Histogram(AnyHistogram),
}

struct Point {
    t: i64,
    st: i64,
    content: Content,
}

struct Series {
    labels: Labels,
    points: Vec<Point>,
    /// Appended behind all others, in this order.
    late: Vec<Point>,
}

/// When a series is scraped: irregularly, with pauses, perhaps only for a part of the time.
struct Timetable {
    times: Vec<i64>,
    /// Indices before which the target was away.
    pauses: Vec<usize>,
}

fn timetable(rng: &mut Rng, family: &Family) -> Timetable {
    let interval = match family.name {
        "sparse" => 280_000,
        _ if family.shape.is_native() => 45_000,
        _ => *rng.choice(&[15_000, 30_000, 30_000, 60_000]).expect("a choice"),
    };
    let is_fleeting = family.name == "pod_memory" || rng.u8(..10) == 0;
    let (first, last) = if is_fleeting {
        let first = BEGIN + rng.i64(0..150) * MINUTE;
        (first, first + rng.i64(5..60) * MINUTE)
    } else {
        (BEGIN + rng.i64(0..interval), END)
    };
    let mut table = Timetable { times: Vec::new(), pauses: Vec::new() };
    let mut t = first;
    while t <= last.min(END) {
        table.times.push(t);
        // Half of the scrapes are on time to the millisecond.
        t += interval + if rng.bool() { 0 } else { rng.i64(-2000..2000) };
        if rng.u16(..150) == 0 {
            t += rng.i64(2..20) * MINUTE;
            table.pauses.push(table.times.len());
        }
    }
    table
}

/// The next value of a float series.
struct Walk {
    shape: Shape,
    value: f64,
    slope: f64,
    began: i64,
    scale: f64,
}

impl Walk {
    fn new(rng: &mut Rng, shape: Shape, t: i64) -> Self {
        let scale = *rng.choice(&[1.0, 1.0, 0.001, 1e6, 1e12]).expect("a choice");
        Self { shape, value: 0.0, slope: rng.f64() * 10.0, began: t - rng.i64(0..90_000), scale }
    }

    fn restart(&mut self, t: i64) {
        self.value = 0.0;
        self.began = t;
    }

    fn next(&mut self, rng: &mut Rng, t: i64) -> f64 {
        match self.shape {
            Shape::Counter | Shape::Started | Shape::Classic | Shape::ClassicTotal => {
                if rng.u8(..120) == 0 {
                    self.restart(t - rng.i64(1..10_000));
                }
                let grown = if rng.u8(..6) == 0 { 0.0 } else { self.slope * rng.f64() * 10.0 };
                self.value += if self.slope > 5.0 { grown.round() } else { grown };
                self.value
            }
            Shape::Odd => match rng.u8(..24) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => f64::NEG_INFINITY,
                3 => -0.0,
                4 => 0.0,
                5 => 1e300,
                6 => 5e-324,
                7 => 1e21,
                _ => (rng.f64() - 0.4) * self.scale,
            },
            Shape::Level | Shape::Mixed => f64::from(rng.u8(..4)),
            Shape::Moment => match rng.u8(..5) {
                0 => t as f64 / 1000.0,
                1 => 951_782_400.0 + self.slope * 86_400.0,
                2 => -rng.f64() * 1e10,
                3 => rng.f64() * 3e11,
                _ => 1.7e9 + rng.f64() * 1e7,
            },
            Shape::Info => 1.0,
            Shape::Gauge | Shape::Native(_) => {
                self.value += (rng.f64() - 0.5) * self.slope;
                if rng.u8(..4) == 0 {
                    self.value = self.value.round();
                }
                self.value * self.scale
            }
        }
    }
}

fn build(rng: &mut Rng, family: &Family, labels: &[(&str, &str)]) -> Series {
    let table = timetable(rng, family);
    let mut walk = Walk::new(rng, family.shape, table.times.first().copied().unwrap_or(BEGIN));
    let mut observed = match family.shape {
        Shape::Native(layout) => Some(Observed::new(rng, layout)),
        Shape::Mixed => Some(Observed::new(rng, Layout::Int)),
        _ => None,
    };
    if let Some(observed) = &mut observed
        && labels.contains(&("bounds", "q"))
    {
        observed.use_other_bounds();
    }
    // Buckets of one classic histogram grow alike, the higher the more; now and then one falls behind.
    if family.shape == Shape::Classic {
        let le = labels.iter().find(|(name, _)| *name == "le").map_or("", |(_, value)| *value);
        let rank = LE.1.iter().position(|bound| *bound == le).unwrap_or(3);
        walk.slope =
            5.5 + rank as f64 * 2.0 + if family.name.starts_with("broken") { rng.f64() * 9.0 } else { 0.0 };
    }
    let mut points = Vec::with_capacity(table.times.len());
    let mut is_histogram = true;
    for (i, &t) in table.times.iter().enumerate() {
        if table.pauses.contains(&i) && rng.u8(..3) > 0 {
            let before = table.times[i - 1];
            points.push(Point { t: before + (t - before) / 4, st: 0, content: Content::Float(STALE_NAN) });
        }
        if rng.u16(..250) == 0 {
            points.push(Point { t, st: 0, content: Content::Float(STALE_NAN) });
            continue;
        }
        if family.shape == Shape::Mixed && rng.u8(..12) == 0 {
            is_histogram = !is_histogram;
        }
        let content = match &mut observed {
            Some(observed) if is_histogram => {
                if rng.u8(..60) == 0 {
                    observed.restart(rng);
                    walk.began = t - rng.i64(1..10_000);
                }
                Content::Histogram(observed.next(rng))
            }
            _ => Content::Float(walk.next(rng, t)),
        };
        let tells_start = match family.shape {
            Shape::Started => rng.u8(..20) > 0,
            Shape::Native(_) => labels.contains(&("instance", "b1")) || labels.contains(&("seed", "2")),
            _ => false,
        };
        points.push(Point { t, st: if tells_start { walk.began } else { 0 }, content });
    }
    // A third of some series comes when everything else has been stored.
    let mut late = Vec::new();
    if family.name == "late" || (family.name == "latency_seconds" && labels.contains(&("instance", "a2"))) {
        let (on_time, behind) =
            points.into_iter().partition(|point: &Point| point.t % 3 > 0 || point.t < BEGIN + 40 * MINUTE);
        points = on_time;
        late = behind;
    }
    let name = [("__name__", family.name)];
    Series { labels: Labels::from_pairs(name.into_iter().chain(labels.iter().copied())), points, late }
}

/// Every combination of label values, the last label changing fastest.
fn combinations(
    labels: &'static [(&'static str, &'static [&'static str])],
) -> Vec<Vec<(&'static str, &'static str)>> {
    labels.iter().fold(vec![Vec::new()], |combined, (name, values)| {
        let extend = |one: &Vec<_>| {
            let one = one.clone();
            values.iter().map(move |value| one.iter().copied().chain([(*name, *value)]).collect::<Vec<_>>())
        };
        combined.iter().flat_map(extend).collect()
    })
}

fn all_series(rng: &mut Rng) -> Vec<Series> {
    let mut series = Vec::new();
    for family in FAMILIES {
        for labels in combinations(family.labels) {
            if rng.u8(..100) < family.percent {
                series.push(build(rng, family, &labels));
            }
        }
    }
    // The order in which they are met is not that of their labels.
    rng.shuffle(&mut series);
    series
}

/// Writes the data of `seed` into `dir`; with start timestamps in the encodings of 3.14, or in those that every release
/// reads. Returns the number of series.
pub(crate) fn write(dir: &Path, seed: u64, has_starts: bool) -> usize {
    let mut rng = Rng::with_seed(seed);
    let series = all_series(&mut rng);
    let features = Features {
        floats: if has_starts { FloatEncoding::Xor2 } else { FloatEncoding::Xor },
        stores_start_times: has_starts,
        stores_histogram_starts: has_starts,
        ..Features::default()
    };
    let options = db::Options {
        retention: db::Retention::default(),
        out_of_order_window: std::time::Duration::from_hours(4),
        head_snapshot_interval: None,
        features,
        ..db::Options::default()
    };
    let db = Db::open(dir, &options, &ReplayProgress::default()).unwrap();
    let mut at = vec![0; series.len()];
    let mut until = BEGIN;
    while until <= END + BATCH_MS {
        until += BATCH_MS;
        let mut batch = db.appender(0);
        for (series, at) in series.iter().zip(&mut at) {
            while let Some(point) = series.points.get(*at).filter(|point| point.t < until) {
                append(&mut *batch, &series.labels, point, has_starts);
                *at += 1;
            }
        }
        batch.commit().unwrap();
    }
    db.maintain(END).unwrap();
    assert_eq!(db.blocks().len(), 1, "the first two hours are a block, the rest is in the head");
    let mut batch = db.appender(0);
    for series in &series {
        for point in &series.late {
            append(&mut *batch, &series.labels, point, has_starts);
        }
    }
    batch.commit().unwrap();
    db.close().unwrap();
    series.len()
}

fn append(batch: &mut dyn model::storage::Appender, labels: &Labels, point: &Point, has_starts: bool) {
    let value = match &point.content {
        Content::Float(v) => Value::Float(*v),
        Content::Histogram(histogram) => histogram.into(),
    };
    let st = if has_starts { point.st } else { 0 };
    batch
        .append_value(SeriesKey::Labels(labels), st, point.t, value)
        .unwrap_or_else(|e| panic!("{labels:?} at {}: {e}", point.t));
}
