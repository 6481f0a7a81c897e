//! Random series and random expressions, from a seed: every operator, function and modifier, at any depth.
//!
//! An expression is a tree of texts, so that a failing one can be made smaller.

use std::fmt;

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use model::{FloatHistogram, Labels, STALE_NAN, Timestamp, Value};

use super::Storage;

/// A small deterministic generator.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(7919).wrapping_add(1));
        random.below(2);
        random
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % n
    }

    /// One of `of`.
    pub(crate) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Once in `n` times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn ms(&mut self, n: usize) -> i64 {
        i64::try_from(self.below(n)).expect("31 bits")
    }
}

// === data ===

#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Float(f64),
    Histogram(FloatHistogram),
}

/// A series as it is appended: start times, times, values.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<(Timestamp, Timestamp, Sample)>,
}

/// What a series holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Small,
    Exponential,
    ExponentialGauge,
    Custom,
    Mixed,
    Bucket(usize),
    Info,
}

const BOUNDS: [&str; 5] = ["0.1", "1", "2.5", "10", "+Inf"];

pub(crate) fn data(random: &mut Random) -> Vec<Series> {
    let mut all = Vec::new();
    let plain = [
        ("c_total", Kind::Counter),
        ("g", Kind::Gauge),
        ("s", Kind::Small),
        ("h", Kind::Exponential),
        ("hg", Kind::ExponentialGauge),
        ("n", Kind::Custom),
        ("mix", Kind::Mixed),
    ];
    for (metric, kind) in plain {
        for job in ["a", "b", "c"] {
            for i in 0..=random.below(2) {
                if random.once_in(8) {
                    continue;
                }
                let labels = [("__name__", metric), ("i", &i.to_string()), ("instance", "x"), ("job", job)];
                all.push(series(random, Labels::from_pairs(labels), kind));
            }
        }
    }
    for job in ["a", "b"] {
        for (n, le) in BOUNDS.iter().enumerate() {
            // Now and then a bound is missing or written badly.
            let le = if random.once_in(30) { "bad" } else { le };
            let labels = [("__name__", "b_bucket"), ("instance", "x"), ("job", job), ("le", le)];
            let labels = Labels::from_pairs(labels);
            if all.iter().all(|s: &Series| s.labels != labels) {
                all.push(series(random, labels, Kind::Bucket(n)));
            }
        }
        for (metric, data) in [("target_info", "v"), ("build_info", "w"), ("target_info", "u")] {
            if random.once_in(3) {
                let labels = [("__name__", metric), ("data", data), ("instance", "x"), ("job", job)];
                all.push(series(random, Labels::from_pairs(labels), Kind::Info));
            }
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

fn series(random: &mut Random, labels: Labels, kind: Kind) -> Series {
    let mut samples: Vec<(Timestamp, Timestamp, Sample)> = Vec::new();
    let even = random.once_in(2);
    let mut t = if even { 0 } else { random.ms(60_000) };
    let mut count = 0.0;
    let mut histogram = empty_histogram(random, kind);
    let mut start = 0;
    while t < 900_000 {
        let float = match (kind, random.below(40)) {
            (_, 0) => Some(STALE_NAN),
            (Kind::Gauge, 1) => Some(f64::NAN),
            (Kind::Gauge, 2) => Some(f64::INFINITY),
            (Kind::Gauge, 3) => Some(-0.0),
            (Kind::Gauge, _) => Some((random.below(2000) as f64 - 1000.0) / 3.0),
            (Kind::Small, _) => Some(random.below(4) as f64 - 1.0),
            (Kind::Counter | Kind::Bucket(_), 4) => {
                (count, start) = (0.1, t - random.ms(20_000));
                Some(count)
            }
            (Kind::Counter, _) => {
                count += random.below(100) as f64 / 7.0;
                Some(count)
            }
            (Kind::Bucket(n), _) => {
                count += (n * random.below(3) + random.below(2)) as f64;
                Some(count)
            }
            (Kind::Info, _) => Some(1.0),
            (Kind::Mixed, n) if n % 3 == 0 => Some(random.below(10) as f64),
            _ => None,
        };
        let sample = if let Some(v) = float {
            Sample::Float(v)
        } else {
            next_histogram(random, kind, &mut histogram);
            Sample::Histogram(histogram.clone())
        };
        let st = if start != 0 && start < t && !random.once_in(6) { start } else { 0 };
        samples.push((st, t, sample));
        t += if even { 15_000 } else { 15_000 + random.ms(3) };
        if random.once_in(12) {
            t += 15_000 * random.ms(30);
        }
    }
    Series { labels, samples }
}

fn empty_histogram(random: &mut Random, kind: Kind) -> FloatHistogram {
    let mut h = FloatHistogram::default();
    if kind == Kind::Custom {
        h.schema = CUSTOM_BUCKETS_SCHEMA;
        h.custom_values = [&[1.0, 2.0, 5.0][..], &[1.0, 5.0, 10.0], &[-1.0, 2.0]][random.below(3)].to_vec();
        return h;
    }
    h.schema = [0, 1, 2][random.below(3)];
    h.zero_threshold = [0.0, 0.001, 0.5][random.below(3)];
    if kind == Kind::ExponentialGauge {
        h.counter_reset_hint = CounterResetHint::Gauge;
    }
    h
}

/// Counts that go on, begin anew, or take another form.
fn next_histogram(random: &mut Random, kind: Kind, h: &mut FloatHistogram) {
    let is_gauge = kind == Kind::ExponentialGauge;
    if random.once_in(if is_gauge { 3 } else { 15 }) {
        let hint = h.counter_reset_hint;
        *h = empty_histogram(random, kind);
        h.counter_reset_hint = hint;
    }
    if !is_gauge {
        h.counter_reset_hint =
            if random.once_in(20) { CounterResetHint::CounterReset } else { CounterResetHint::Unknown };
    }
    let grow = |random: &mut Random, spans: &mut Vec<Span>, buckets: &mut Vec<f64>, max: u32, first: i32| {
        if spans.is_empty() {
            let length = 1 + u32::try_from(random.below(max as usize)).expect("small");
            spans.push(Span { offset: first, length });
            buckets.resize(length as usize, 0.0);
        }
        buckets
            .iter_mut()
            .map(|n| {
                let more = random.below(4) as f64 / 2.0;
                *n += more;
                more
            })
            .sum::<f64>()
    };
    let custom = h.uses_custom_buckets();
    let max = if custom { u32::try_from(h.custom_values.len()).expect("small") + 1 } else { 4 };
    let first = if custom { 0 } else { i32::try_from(random.below(5)).expect("small") - 2 };
    let mut more = grow(random, &mut h.positive_spans, &mut h.positive_buckets, max, first);
    if !custom {
        if random.once_in(2) || !h.negative_spans.is_empty() {
            more += grow(random, &mut h.negative_spans, &mut h.negative_buckets, 3, first);
        }
        h.zero_count += random.below(2) as f64;
        more += random.below(2) as f64;
    }
    h.count = h.zero_count + h.positive_buckets.iter().sum::<f64>() + h.negative_buckets.iter().sum::<f64>();
    h.sum += more * 1.3;
    if random.once_in(40) {
        h.sum = f64::NAN;
    }
}

pub(crate) fn store(all: &[Series]) -> Storage {
    let mut storage = Storage::default();
    for series in all {
        for (st, t, sample) in &series.samples {
            let value = match sample {
                Sample::Float(v) => Value::Float(*v),
                Sample::Histogram(h) => Value::FloatHistogram(h),
            };
            storage.append_value(&series.labels, *st, *t, value).expect("times ascend, histograms are valid");
        }
    }
    storage
}

// === expressions ===

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    Vector,
    Scalar,
    Matrix,
}

#[derive(Clone)]
enum Piece {
    Text(String),
    Tree(Tree),
}

/// An expression as texts and the expressions between them.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) ty: Type,
    pieces: Vec<Piece>,
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Tree(tree) => write!(f, "{tree}")?,
            }
        }
        Ok(())
    }
}

/// Puts `trees` where `template` has a `#`.
fn tree(ty: Type, template: &str, trees: Vec<Tree>) -> Tree {
    let mut pieces = Vec::new();
    let mut trees = trees.into_iter();
    for (i, text) in template.split('#').enumerate() {
        if i > 0 {
            pieces.push(Piece::Tree(trees.next().expect("as many trees as places")));
        }
        pieces.push(Piece::Text(text.to_owned()));
    }
    Tree { ty, pieces }
}

impl Tree {
    fn children(&self) -> impl Iterator<Item = &Self> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Tree(tree) => Some(tree),
            Piece::Text(_) => None,
        })
    }

    /// The trees of type `ty` below.
    fn descendants(&self, ty: Type) -> Vec<Self> {
        let mut all = Vec::new();
        for child in self.children() {
            if child.ty == ty {
                all.push(child.clone());
            }
            all.extend(child.descendants(ty));
        }
        all
    }

    /// Smaller trees of the same type: a part in place of the whole, here or further down.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut all = self.descendants(self.ty);
        for (i, piece) in self.pieces.iter().enumerate() {
            if let Piece::Tree(child) = piece {
                for smaller in child.smaller() {
                    let mut whole = self.clone();
                    whole.pieces[i] = Piece::Tree(smaller);
                    all.push(whole);
                }
            }
        }
        all
    }
}

const FLOAT_METRICS: [&str; 5] = ["c_total", "g", "s", "b_bucket", "mix"];
const HISTOGRAM_METRICS: [&str; 4] = ["h", "hg", "n", "mix"];
const RANGES: [&str; 9] =
    ["15s", "1m", "2m30s", "5m", "13m", "1m * 2", "max_of(step(), 1m)", "31s - 1s", "range() + 1m"];
const BY: [&str; 7] =
    ["", " by (job)", " by (i, job)", " without (i)", " by (nope)", " without (job)", " by (__name__)"];

pub(crate) struct Generator<'a> {
    pub(crate) random: &'a mut Random,
}

impl Generator<'_> {
    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        self.random.pick(of)
    }

    fn metric(&mut self) -> &'static str {
        if self.random.once_in(2) { self.pick(&FLOAT_METRICS) } else { self.pick(&HISTOGRAM_METRICS) }
    }

    fn bare_selector(&mut self) -> String {
        if self.random.once_in(12) {
            return self
                .pick(&["{job=\"a\"}", "{__name__=~\"c_total|g\"}", "{__name__=~\"h|n\"}"])
                .to_owned();
        }
        let matcher = self.pick(&[
            "",
            "",
            "",
            "{job=\"a\"}",
            "{job!=\"b\"}",
            "{i=~\"0|1\"}",
            "{job=\"zz\"}",
            "{i=\"\"}",
        ]);
        format!("{}{matcher}", self.metric())
    }

    fn modifiers(&mut self) -> &'static str {
        self.pick(&[
            "",
            "",
            "",
            "",
            " offset 1m",
            " offset -45s",
            " @ 400",
            " @ end()",
            " @ start() offset 30s",
            " offset (step() + 5s)",
        ])
    }

    fn selector(&mut self) -> Tree {
        let smoothed = if self.random.once_in(14) { self.pick(&[" smoothed", " anchored"]) } else { "" };
        let text = format!("{}{smoothed}{}", self.bare_selector(), self.modifiers());
        tree(Type::Vector, &text, Vec::new())
    }

    fn matrix(&mut self, depth: usize, allow_extended: bool) -> Tree {
        if depth > 0 && self.random.once_in(3) {
            let range = self.pick(&["2m:30s", "5m:", "3m:17s", "90s:7s", "10m:2m", "1m * 3:step() + 11s"]);
            let template = format!("(#)[{range}]{}", self.modifiers());
            let inner = self.vector(depth - 1, true);
            return tree(Type::Matrix, &template, vec![inner]);
        }
        let extended = if allow_extended && self.random.once_in(5) {
            self.pick(&[" anchored", " smoothed"])
        } else {
            ""
        };
        let text = format!("{}[{}]{extended}{}", self.bare_selector(), self.pick(&RANGES), self.modifiers());
        tree(Type::Matrix, &text, Vec::new())
    }

    pub(crate) fn scalar(&mut self, depth: usize) -> Tree {
        let leaf = |text: &str| tree(Type::Scalar, text, Vec::new());
        match self.random.below(if depth == 0 { 6 } else { 12 }) {
            0 => leaf(self.pick(&["time()", "start()", "end()", "step()", "range()", "pi()"])),
            1..=5 => leaf(self.pick(&["2", "0.5", "-3", "0", "100", "NaN", "Inf", "1", "0.9"])),
            6 => {
                let f = self.pick(&["min_of(#, #)", "max_of(#, #)"]);
                tree(Type::Scalar, f, vec![self.scalar(depth - 1), self.scalar(depth - 1)])
            }
            7 | 8 => {
                let op = self.pick(&["+", "-", "*", "/", "%", "> bool", "<= bool", "== bool", "!= bool"]);
                let template = format!("(# {op} #)");
                tree(Type::Scalar, &template, vec![self.scalar(depth - 1), self.scalar(depth - 1)])
            }
            9 => tree(Type::Scalar, "-(#)", vec![self.scalar(depth - 1)]),
            _ => tree(Type::Scalar, "scalar(#)", vec![self.vector(depth - 1, false)]),
        }
    }

    fn range_call(&mut self, depth: usize) -> Tree {
        let extended = self.random.once_in(4);
        let name = if extended {
            self.pick(&["rate", "increase", "delta", "changes", "resets"])
        } else {
            self.pick(&[
                "rate",
                "increase",
                "delta",
                "irate",
                "idelta",
                "changes",
                "resets",
                "count_over_time",
                "present_over_time",
                "last_over_time",
                "first_over_time",
                "sum_over_time",
                "avg_over_time",
                "min_over_time",
                "max_over_time",
                "stdvar_over_time",
                "stddev_over_time",
                "mad_over_time",
                "ts_of_min_over_time",
                "ts_of_max_over_time",
                "ts_of_first_over_time",
                "ts_of_last_over_time",
                "deriv",
                "quantile_over_time",
                "predict_linear",
                "double_exponential_smoothing",
                "rate",
                "increase",
                "absent_over_time",
            ])
        };
        let extended = extended || self.random.once_in(20);
        let matrix = self.matrix(depth, extended);
        match name {
            "quantile_over_time" => {
                let q = self.scalar(0);
                tree(Type::Vector, "quantile_over_time(#, #)", vec![q, matrix])
            }
            "predict_linear" => {
                let d = self.scalar(0);
                tree(Type::Vector, "predict_linear(#, #)", vec![matrix, d])
            }
            "double_exponential_smoothing" => {
                let template = self.pick(&[
                    "double_exponential_smoothing(#, 0.3, 0.7)",
                    "double_exponential_smoothing(#, 0.9, 1)",
                ]);
                tree(Type::Vector, template, vec![matrix])
            }
            _ => tree(Type::Vector, &format!("{name}(#)"), vec![matrix]),
        }
    }

    fn operator(&mut self) -> &'static str {
        self.pick(&[
            "+", "-", "*", "/", "%", "^", "atan2", "> bool", "<= bool", "== bool", "==", "!=", ">", "<",
            ">=", "</", ">/",
        ])
    }

    /// An instant vector. `ordered`: its series come in an order that does not depend on the step, so that sums, whose
    /// last bit depends on the order, may stand on it.
    pub(crate) fn vector(&mut self, depth: usize, ordered: bool) -> Tree {
        if depth == 0 {
            return if self.random.once_in(3) { self.range_call(0) } else { self.selector() };
        }
        match self.random.below(if ordered { 15 } else { 24 }) {
            0 | 1 => self.selector(),
            2..=4 => self.range_call(depth),
            5 => {
                let f = self.pick(&[
                    "abs(#)",
                    "ceil(#)",
                    "floor(#)",
                    "sgn(#)",
                    "sqrt(#)",
                    "-(#)",
                    "+(#)",
                    "deg(#)",
                    "rad(#)",
                    "round(#)",
                    "timestamp(#)",
                    "start_timestamp(#)",
                    "(#)",
                    "day_of_week(#)",
                    "hour(#)",
                    "month(#)",
                    "year(#)",
                    "days_in_month(#)",
                    "day_of_year(#)",
                    "minute(#)",
                    "day_of_month(#)",
                ]);
                tree(Type::Vector, f, vec![self.vector(depth - 1, ordered)])
            }
            6 => {
                let f = self.pick(&["clamp_min(#, #)", "clamp_max(#, #)", "round(#, #)"]);
                tree(Type::Vector, f, vec![self.vector(depth - 1, ordered), self.scalar(depth - 1)])
            }
            7 => {
                let (v, a, b) = (self.vector(depth - 1, ordered), self.scalar(0), self.scalar(0));
                tree(Type::Vector, "clamp(#, #, #)", vec![v, a, b])
            }
            8 => {
                let template = format!("(# {} #)", self.operator());
                tree(Type::Vector, &template, vec![self.vector(depth - 1, ordered), self.scalar(depth - 1)])
            }
            9 => {
                let template = format!("(# {} #)", self.operator());
                tree(Type::Vector, &template, vec![self.scalar(depth - 1), self.vector(depth - 1, ordered)])
            }
            10 => {
                let f = self.pick(&[
                    "histogram_count(#)",
                    "histogram_sum(#)",
                    "histogram_avg(#)",
                    "histogram_stddev(#)",
                    "histogram_stdvar(#)",
                ]);
                tree(Type::Vector, f, vec![self.vector(depth - 1, ordered)])
            }
            11 => {
                let f = self.pick(&[
                    "label_replace(#, \"x\", \"$1\", \"job\", \"(.*)\")",
                    "label_replace(#, \"i\", \"\", \"i\", \"1\")",
                    "label_replace(#, \"__name__\", \"m\", \"job\", \"a\")",
                    "label_join(#, \"x\", \"-\", \"job\", \"i\")",
                    "label_join(#, \"i\", \"-\")",
                ]);
                tree(Type::Vector, f, vec![self.vector(depth - 1, ordered)])
            }
            12 | 13 => {
                let op = self.pick(&["sum", "avg", "stddev", "stdvar", "sum", "avg", "count", "min", "max"]);
                let template = format!("{op}{}(#)", self.pick(&BY));
                tree(Type::Vector, &template, vec![self.vector(depth - 1, true)])
            }
            14 => {
                let template = format!("quantile{}(#, #)", self.pick(&BY));
                tree(Type::Vector, &template, vec![self.scalar(depth - 1), self.vector(depth - 1, true)])
            }
            15 => {
                let op = self.pick(&["count", "min", "max", "group"]);
                let template = format!("{op}{}(#)", self.pick(&BY));
                tree(Type::Vector, &template, vec![self.vector(depth - 1, false)])
            }
            16 => {
                let op = self.pick(&["topk", "bottomk", "limitk", "limit_ratio"]);
                let template = format!("{op}{}(#, #)", self.pick(&BY));
                tree(Type::Vector, &template, vec![self.scalar(depth - 1), self.vector(depth - 1, true)])
            }
            17 => {
                let template = format!("count_values{}(\"v\", #)", self.pick(&BY));
                tree(Type::Vector, &template, vec![self.vector(depth - 1, false)])
            }
            18 => {
                let template = format!(
                    "(# {}{} #)",
                    self.pick(&["and", "or", "unless"]),
                    self.pick(&["", " on (job)", " ignoring (i)", " on ()", " on (__name__)"])
                );
                tree(
                    Type::Vector,
                    &template,
                    vec![self.vector(depth - 1, false), self.vector(depth - 1, false)],
                )
            }
            19 | 20 => self.join(depth),
            21 => {
                let f = self.pick(&[
                    "absent(#)",
                    "sort(#)",
                    "sort_desc(#)",
                    "sort_by_label(#, \"i\", \"job\")",
                    "sort_by_label_desc(#, \"job\")",
                    "info(#)",
                    "info(#, {data=~\".+\"})",
                    "info(#, {__name__=~\".+_info\"})",
                ]);
                tree(Type::Vector, f, vec![self.vector(depth - 1, false)])
            }
            22 => match self.random.below(4) {
                0 => {
                    let (a, b) = (self.scalar(0), self.scalar(0));
                    tree(
                        Type::Vector,
                        "histogram_fraction(#, #, #)",
                        vec![a, b, self.vector(depth - 1, true)],
                    )
                }
                1 => {
                    let (q, v) = (self.scalar(0), self.vector(depth - 1, true));
                    tree(Type::Vector, "histogram_quantiles(#, \"q\", 0.5, #)", vec![v, q])
                }
                _ => {
                    let (q, v) = (self.scalar(0), self.vector(depth - 1, true));
                    tree(Type::Vector, "histogram_quantile(#, #)", vec![q, v])
                }
            },
            _ => match self.random.below(3) {
                0 => tree(Type::Vector, "vector(#)", vec![self.scalar(depth - 1)]),
                1 => tree(
                    Type::Vector,
                    self.pick(&["hour()", "year()", "day_of_year()", "minute()"]),
                    Vec::new(),
                ),
                _ => {
                    let matcher = self.pick(&["{job=\"a\"}", "{job=\"none\"}", "{i=~\"7\"}"]);
                    let template = format!("absent({}{matcher})", self.metric());
                    tree(Type::Vector, &template, Vec::new())
                }
            },
        }
    }

    fn join(&mut self, depth: usize) -> Tree {
        let on = self.pick(&[
            "",
            "",
            "",
            " on (job)",
            " on (job, i)",
            " ignoring (i)",
            " on (job) group_left ()",
            " ignoring (i) group_left ()",
            " on (job) group_right ()",
            " on (job) group_left (i)",
            " on (job, i) group_right (instance)",
        ]);
        let fill = if self.random.once_in(5) {
            self.pick(&[" fill (0)", " fill_left (1)", " fill_right (-2)", " fill_left (3) fill_right (4)"])
        } else {
            ""
        };
        let template = format!("(# {}{on}{fill} #)", self.operator());
        let (a, b) = (self.vector(depth - 1, false), self.vector(depth - 1, false));
        tree(Type::Vector, &template, vec![a, b])
    }
}
