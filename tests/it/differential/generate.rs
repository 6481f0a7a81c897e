//! Expressions at random, of all of the language: typed, so that most of them mean something, and over names and labels
//! that exist, so that most of them return something.
//!
//! It shares nothing with the generators of the crate `promql`: what one of them overlooks the other may meet.

use fastrand::Rng;

use super::data::{BEGIN, END, FAMILIES, Family, Shape};
use super::expression::Expr;
use super::expression::Kind::{Matrix, Scalar, Text, Vector};

/// What the servers that are asked understand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Language {
    /// 3.14 rather than 3.5.
    pub(crate) is_new: bool,
    /// Experimental functions, fill modifiers and extended selectors are switched on.
    pub(crate) is_experimental: bool,
}

/// Which series an expression should be about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taste {
    Any,
    Floats,
    Counters,
    Natives,
    Classics,
    Moments,
    One(&'static Family),
}

pub(crate) struct Generator<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) language: Language,
}

const MATH: &[&str] = &[
    "abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "sgn", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "deg", "rad",
];
const DATES: &[&str] =
    &["day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"];
const OF_COUNTERS: &[&str] = &["rate", "rate", "increase", "increase", "irate", "resets"];
const OF_WINDOWS: &[&str] = &[
    "rate",
    "increase",
    "delta",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "avg_over_time",
    "sum_over_time",
];
const OF_WINDOWS_NEW: &[&str] = &[
    "first_over_time",
    "mad_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "ts_of_first_over_time",
];
const AGGREGATIONS: &[&str] = &[
    "sum",
    "sum",
    "avg",
    "avg",
    "count",
    "min",
    "max",
    "group",
    "stddev",
    "stdvar",
    "quantile",
    "topk",
    "bottomk",
    "count_values",
];
const AGGREGATIONS_NEW: &[&str] = &["limitk", "limit_ratio"];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
const SETS: &[&str] = &["and", "or", "unless"];
/// Ranges and steps of subqueries; no pair makes more than 120 points.
const SUBQUERIES: &[&str] = &[
    "10m:1m",
    "30m:2m",
    "1h:5m",
    "5m:30s",
    "30m:",
    "2h:10m",
    "7m:43s",
    "1h:7m",
    "15m:15m",
    "90s:1s",
    "600:60",
    "20m:1m30s",
];

impl Generator<'_> {
    pub(crate) fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(..100) < percent
    }

    pub(crate) fn pick<'t>(&mut self, from: &'t [&'t str]) -> &'t str {
        self.rng.choice(from).copied().expect("a choice")
    }

    /// An index, each as often as its weight says.
    fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.rng.u32(..weights.iter().sum::<u32>());
        let hit = |weight: &u32| {
            let is_hit = at < *weight;
            at = at.wrapping_sub(*weight);
            is_hit
        };
        weights.iter().position(hit).expect("a weight is hit")
    }

    /// Whether to use what is experimental: now and then where it is switched off, too, for the message.
    fn may(&mut self) -> bool {
        let percent = match (self.language.is_experimental, self.language.is_new) {
            (true, _) => 100,
            (false, true) => 8,
            (false, false) => 0,
        };
        self.chance(percent)
    }

    // === selectors ===

    fn family(&mut self, taste: Taste) -> &'static Family {
        let of = |choose: fn(Shape) -> bool| {
            FAMILIES.iter().filter(|family| choose(family.shape)).collect::<Vec<_>>()
        };
        let families = match taste {
            Taste::One(family) => return family,
            Taste::Any => FAMILIES.iter().collect(),
            Taste::Floats => of(|shape| !shape.is_native()),
            Taste::Counters => of(Shape::is_counter),
            Taste::Natives => of(Shape::is_native),
            Taste::Classics => of(|shape| shape == Shape::Classic),
            Taste::Moments => of(|shape| shape == Shape::Moment),
        };
        families[self.rng.usize(..families.len())]
    }

    pub(crate) fn quoted(&mut self, text: &str) -> String {
        match self.rng.u8(..10) {
            0 if !text.contains(['`', '\n']) => format!("`{text}`"),
            1..3 => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            _ => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }

    fn label_name(&mut self, name: &str) -> String {
        if name.contains('.') || !name.is_ascii() || self.chance(3) {
            self.quoted(name)
        } else {
            name.to_owned()
        }
    }

    fn matcher(&mut self, name: &str, values: &[&str]) -> String {
        let value = self.pick(values).to_owned();
        let other = self.pick(values).to_owned();
        let (op, pattern) = match self.rng.u8(..20) {
            0..8 => ("=", value),
            8..11 => ("!=", value),
            11 => ("=", String::new()),
            12 => ("!=", String::new()),
            13 => ("=~", format!("{value}|{other}")),
            14 => ("=~", ".+".to_owned()),
            15 => ("!~", format!("{}.*", value.chars().next().unwrap_or('x'))),
            16 => ("=~", format!("(?i:{})|nothing", value.to_uppercase())),
            17 => (
                "=~",
                self.pick(&[
                    "[a-c].*",
                    ".*",
                    "a\\d+",
                    "a2|a10",
                    ".*1.*",
                    "(api|web)",
                    "^.$",
                    "a.?0",
                    "\\w+",
                    "[^a].*",
                ])
                .to_owned(),
            ),
            18 => ("!~", self.pick(&["a2|a10", ".*1", "b.*", "2..", "", "x*"]).to_owned()),
            _ => ("=", "nowhere".to_owned()),
        };
        // Of nothing that exists, seldom.
        let (op, pattern) =
            if pattern == "nowhere" && self.chance(70) { ("!=", pattern) } else { (op, pattern) };
        format!("{}{op}{}", self.label_name(name), self.quoted(&pattern))
    }

    fn bare_selector(&mut self, taste: Taste) -> String {
        let family = self.family(taste);
        let mut matchers = Vec::new();
        let n_matchers = self.weighted(&[55, 30, 12, 3]);
        for _ in 0..n_matchers {
            if self.chance(92) {
                let (name, values) = *self.rng.choice(family.labels).expect("every family has labels");
                matchers.push(self.matcher(name, values));
            } else {
                let name = self.pick(&["job", "instance", "nothing", "le", "version"]);
                matchers.push(self.matcher(name, &["api", "a2", "1"]));
            }
        }
        let is_plain = family.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match self.rng.u8(..20) {
            // Several names at once, those of one family of names.
            0 if matches!(taste, Taste::Any | Taste::Floats) => {
                let names = self.pick(&[
                    "clash_.",
                    "(up|level)",
                    "both_seconds.*",
                    ".*_info",
                    "request_seconds_(count|sum)",
                    "(build|target)_info",
                    ".*_bucket",
                    "clash_a|queue_length",
                    "(latency|custom)_seconds",
                    "up|both_seconds",
                ]);
                matchers.push(format!("__name__=~\"{names}\""));
                self.rng.shuffle(&mut matchers);
                format!("{{{}}}", matchers.join(","))
            }
            1 => {
                matchers.insert(0, format!("__name__={}", self.quoted(family.name)));
                format!("{{{}}}", matchers.join(", "))
            }
            2 => {
                matchers.insert(0, self.quoted(family.name));
                format!("{{{}}}", matchers.join(", "))
            }
            _ if !is_plain => {
                matchers.insert(0, self.quoted(family.name));
                format!("{{{}}}", matchers.join(", "))
            }
            _ if matchers.is_empty() => family.name.to_owned(),
            _ => format!("{}{{{}}}", family.name, matchers.join(",")),
        }
    }

    fn modifiers(&mut self) -> String {
        let mut modifiers = Vec::new();
        if self.chance(14) {
            let offset = if self.language.is_new && self.chance(6) {
                self.pick(&[
                    "step()",
                    "-step()",
                    "(1m + 30s)",
                    "-(2 * 20s)",
                    "range()",
                    "min_of(step(), 5m)",
                    "(step() / 2)",
                    "1m30s",
                ])
            } else {
                self.pick(&[
                    "5m", "1m", "-5m", "1h", "17s", "1500ms", "-90s", "300", "0.25", "2m", "-1h", "3h", "0s",
                ])
            };
            modifiers.push(format!("⟦·{}·{offset}⟧", self.pick(&["offset", "offset", "OFFSET"])));
        }
        if self.chance(8) {
            let at = match self.rng.u8(..8) {
                0..2 => "start()".to_owned(),
                2..4 => "end()".to_owned(),
                4 => self
                    .pick(&["1735693200", "1735696800.5", "1735689600.0004", "0", "-1", "1735700400.123"])
                    .to_owned(),
                _ => format!("{:.3}", self.rng.i64(BEGIN..END) as f64 / 1000.0),
            };
            modifiers.push(format!("⟦·@·{at}⟧"));
        }
        self.rng.shuffle(&mut modifiers);
        modifiers.concat()
    }

    pub(crate) fn selector(&mut self, taste: Taste) -> Expr {
        let extended = match self.rng.u8(..100) {
            0..4 if self.may() && self.language.is_new => "⟦·smoothed⟧",
            4 if self.may() && self.language.is_new => "⟦·anchored⟧",
            _ => "",
        };
        let modifiers = self.modifiers();
        Expr::new(Vector, &format!("{}{extended}{modifiers}", self.bare_selector(taste)), [])
    }

    fn duration(&mut self) -> String {
        if self.language.is_new && self.chance(5) {
            return self
                .pick(&[
                    "1m + 4m",
                    "step() * 2",
                    "2 * 3m",
                    "min_of(step(), 5m)",
                    "max_of(3m, step())",
                    "range() / 2",
                    "10m - 30s",
                    "1h / 7",
                    "2 ^ 8",
                    "-(-5m)",
                    "1h % 7m",
                    "step()",
                ])
                .to_owned();
        }
        self.pick(&[
            "1m",
            "2m",
            "2m",
            "5m",
            "5m",
            "5m",
            "10m",
            "10m",
            "15m",
            "30m",
            "1h",
            "37s",
            "90s",
            "300",
            "1m30s",
            "3h",
            "4m59s999ms",
        ])
        .to_owned()
    }

    pub(crate) fn window(&mut self, taste: Taste) -> Expr {
        let modifiers = self.modifiers();
        Expr::new(Matrix, &format!("{}[{}]{modifiers}", self.bare_selector(taste), self.duration()), [])
    }

    pub(crate) fn matrix(&mut self, depth: u8, taste: Taste) -> Expr {
        if depth == 0 || self.chance(82) {
            return self.window(taste);
        }
        let inner = self.vector(depth - 1, taste).tight();
        let modifiers = self.modifiers();
        Expr::new(Matrix, &format!("§[{}]{modifiers}", self.pick(SUBQUERIES)), [inner])
    }

    // === scalars ===

    pub(crate) fn number(&mut self) -> String {
        match self.rng.u8(..14) {
            0..5 => self.rng.u8(..12).to_string(),
            5..8 => format!("{:.2}", self.rng.f64() * 10.0),
            8 => format!("{}", self.rng.f64()),
            9 => format!("{:e}", (self.rng.f64() - 0.5) * 1e9),
            10 => self
                .pick(&[
                    "Inf", "NaN", "0x1F", "1e3", "010", "1_000", ".5", "5.", "1e-9", "0", "inf", "1e300",
                    "08",
                ])
                .to_owned(),
            11 => self.pick(&["5m", "1h30m", "100ms", "1d"]).to_owned(),
            12 => format!("-{:.1}", self.rng.f64() * 5.0),
            _ => self.pick(&["0", "1", "0.5", "2", "100"]).to_owned(),
        }
    }

    pub(crate) fn scalar(&mut self, depth: u8) -> Expr {
        let weights = if depth == 0 { [80, 0, 12, 0, 0, 8] } else { [50, 12, 10, 14, 4, 10] };
        match self.weighted(&weights) {
            0 => {
                let number = self.number();
                // A sign binds weaker than a power.
                if number.starts_with('-') {
                    Expr::loose(Scalar, &number, [])
                } else {
                    Expr::leaf(Scalar, number)
                }
            }
            1 => {
                let vector = self.vector(depth - 1, Taste::Any);
                Expr::new(Scalar, "scalar(§)", [vector])
            }
            2 => Expr::leaf(Scalar, self.pick(&["time()", "pi()"])),
            3 => {
                let (left, right) = (self.scalar(depth - 1).tight(), self.scalar(depth - 1).tight());
                if self.chance(25) {
                    return Expr::loose(
                        Scalar,
                        &format!("§·{}·bool·§", self.pick(COMPARISONS)),
                        [left, right],
                    );
                }
                Expr::loose(Scalar, &format!("§·{}·§", self.pick(ARITHMETIC)), [left, right])
            }
            4 => {
                let inner = self.scalar(depth - 1).tight();
                Expr::loose(Scalar, self.pick(&["-§", "+§"]), [inner])
            }
            _ if self.language.is_new && self.may() => {
                if depth > 0 && self.chance(50) {
                    let (a, b) = (self.scalar(depth - 1), self.scalar(depth - 1));
                    return Expr::new(Scalar, self.pick(&["min_of(§,·§)", "max_of(§,·§)"]), [a, b]);
                }
                Expr::leaf(Scalar, self.pick(&["start()", "end()", "step()", "range()"]))
            }
            _ => Expr::leaf(Scalar, self.number().trim_start_matches('-').to_owned()),
        }
    }

    /// For a parameter that is mostly in its bounds.
    fn fraction(&mut self, depth: u8) -> Expr {
        match self.rng.u8(..20) {
            0..14 => Expr::leaf(
                Scalar,
                self.pick(&["0.5", "0.9", "0.99", "0", "1", "0.25", "0.1", "0.333", "0.75"]),
            ),
            14..16 => Expr::leaf(Scalar, format!("{:.3}", self.rng.f64())),
            16 => Expr::loose(Scalar, self.pick(&["-1", "-0.5"]), []),
            17 => Expr::leaf(Scalar, self.pick(&["2", "1.5", "NaN", "Inf"])),
            _ => self.scalar(depth.min(1)),
        }
    }

    fn small(&mut self, depth: u8) -> Expr {
        match self.rng.u8(..20) {
            0..16 => Expr::leaf(Scalar, self.pick(&["1", "2", "3", "5", "2.7", "1000"])),
            16 => Expr::leaf(Scalar, "0"),
            17 => Expr::loose(Scalar, "-1", []),
            _ => self.scalar(depth.min(1)),
        }
    }

    // === vectors ===

    pub(crate) fn vector(&mut self, depth: u8, taste: Taste) -> Expr {
        if depth == 0 {
            return match self.rng.u8(..40) {
                0 => Expr::new(Vector, "vector(§)", [Expr::leaf(Scalar, self.number())]),
                1 => Expr::leaf(Vector, format!("{}()", self.pick(DATES))),
                _ => self.selector(taste),
            };
        }
        match self.weighted(&[9, 20, 24, 17, 11, 9, 5, 3, 3, 2, 3]) {
            0 => self.selector(taste),
            1 => self.aggregation(depth, taste),
            2 => self.of_window(depth, taste),
            3 => self.binary(depth, taste),
            4 => self.math(depth, taste),
            5 => self.of_histogram(depth),
            6 => self.relabelled(depth, taste),
            7 => self.sorted(depth, taste),
            8 => self.absent(depth, taste),
            9 => {
                let inner = self.vector(depth - 1, taste).tight();
                Expr::loose(Vector, self.pick(&["-§", "+§"]), [inner])
            }
            _ => self.info(depth),
        }
    }

    fn math(&mut self, depth: u8, taste: Taste) -> Expr {
        let d = depth - 1;
        match self.rng.u8(..20) {
            0..8 => {
                let inner = self.vector(d, taste);
                Expr::new(Vector, &format!("{}(§)", self.pick(MATH)), [inner])
            }
            8..11 => {
                let inner = self.vector(d, taste);
                if self.chance(40) {
                    return Expr::new(Vector, "round(§)", [inner]);
                }
                let to = self.scalar(d.min(1));
                Expr::new(Vector, "round(§,·§)", [inner, to])
            }
            11..13 => {
                let (inner, low, high) =
                    (self.vector(d, taste), self.scalar(d.min(1)), self.scalar(d.min(1)));
                Expr::new(Vector, "clamp(§,·§,·§)", [inner, low, high])
            }
            13 => {
                let (inner, bound) = (self.vector(d, taste), self.scalar(d.min(1)));
                Expr::new(Vector, self.pick(&["clamp_min(§,·§)", "clamp_max(§,·§)"]), [inner, bound])
            }
            14..16 => {
                let taste = if self.chance(70) { Taste::Moments } else { taste };
                let inner = self.vector(d.min(1), taste);
                Expr::new(Vector, &format!("{}(§)", self.pick(DATES)), [inner])
            }
            16..18 => {
                let inner = if self.chance(70) { self.selector(taste) } else { self.vector(d, taste) };
                Expr::new(Vector, "timestamp(§)", [inner])
            }
            18 if self.language.is_new && self.may() => {
                let inner = self.selector(taste);
                Expr::new(Vector, "start_timestamp(§)", [inner])
            }
            _ => {
                let inner = self.scalar(d);
                Expr::new(Vector, "vector(§)", [inner])
            }
        }
    }

    fn of_window(&mut self, depth: u8, taste: Taste) -> Expr {
        let taste = match (taste, self.rng.u8(..10)) {
            (Taste::Any, 0..4) => Taste::Counters,
            (Taste::Any, 4..7) => Taste::Natives,
            _ => taste,
        };
        let d = depth - 1;
        if self.language.is_new && self.chance(9) && self.may() {
            let function = self.pick(&["rate", "increase", "delta", "rate", "changes", "resets"]);
            let word = self.pick(if matches!(function, "changes" | "resets") {
                &["anchored"]
            } else {
                &["anchored", "smoothed"]
            });
            let (selector, range, modifiers) = (self.bare_selector(taste), self.duration(), self.modifiers());
            let inner = Expr::new(Matrix, &format!("{selector}[{range}]⟦·{word}⟧{modifiers}"), []);
            return Expr::new(Vector, &format!("{function}(§)"), [inner]);
        }
        let inner = self.matrix(d, taste);
        match self.rng.u8(..40) {
            0..2 => {
                let q = self.fraction(d);
                Expr::new(Vector, "quantile_over_time(§,·§)", [q, inner])
            }
            2..4 => {
                let seconds = self.scalar(d.min(1));
                Expr::new(Vector, "predict_linear(§,·§)", [inner, seconds])
            }
            4 if self.may() => {
                let (sf, tf) = (self.fraction(0), self.fraction(0));
                Expr::new(Vector, "double_exponential_smoothing(§,·§,·§)", [inner, sf, tf])
            }
            5..9 if self.may() => {
                let names = if self.language.is_new { OF_WINDOWS_NEW } else { &OF_WINDOWS_NEW[1..5] };
                Expr::new(Vector, &format!("{}(§)", self.pick(names)), [inner])
            }
            _ => {
                let names = if matches!(taste, Taste::Counters) && self.chance(60) {
                    OF_COUNTERS
                } else {
                    OF_WINDOWS
                };
                Expr::new(Vector, &format!("{}(§)", self.pick(names)), [inner])
            }
        }
    }

    fn of_histogram(&mut self, depth: u8) -> Expr {
        let d = depth - 1;
        let is_classic = self.chance(40);
        let inner = if is_classic {
            match self.rng.u8(..4) {
                0 => self.selector(Taste::Classics),
                1 => {
                    let window = self.window(Taste::Classics);
                    Expr::new(Vector, &format!("{}(§)", self.pick(&["rate", "increase"])), [window])
                }
                2 => {
                    let window = self.window(Taste::Classics);
                    let labels = self.pick(&["le", "le, job", "instance, le", "le, kind", "job"]);
                    Expr::new(Vector, &format!("sum·by·({labels})·(rate(§))"), [window])
                }
                _ => self.selector(Taste::Any),
            }
        } else {
            self.vector(d, Taste::Natives)
        };
        match self.rng.u8(..12) {
            0..5 => {
                let q = self.fraction(d);
                Expr::new(Vector, "histogram_quantile(§,·§)", [q, inner])
            }
            5..7 => {
                let (low, high) = (self.scalar(0), self.scalar(0));
                Expr::new(Vector, "histogram_fraction(§,·§,·§)", [low, high, inner])
            }
            7 if self.language.is_new && self.may() => {
                let (a, b) = (self.fraction(0), self.fraction(0));
                let label = self.pick(&["quantile", "q", "job", "le"]);
                Expr::new(Vector, &format!("histogram_quantiles(§,·\"{label}\",·§,·§)"), [inner, a, b])
            }
            _ => {
                let names = [
                    "histogram_count",
                    "histogram_sum",
                    "histogram_avg",
                    "histogram_stddev",
                    "histogram_stdvar",
                ];
                let inner = if is_classic { self.vector(d, Taste::Natives) } else { inner };
                Expr::new(Vector, &format!("{}(§)", self.pick(&names)), [inner])
            }
        }
    }

    /// Labels to group or match by.
    fn labels(&mut self) -> String {
        let names = [
            "job",
            "job",
            "instance",
            "instance",
            "method",
            "code",
            "le",
            "cpu",
            "mode",
            "zone",
            "queue",
            "pod",
            "__name__",
            "team",
            "bounds",
            "nothing",
            "http.status",
            "é",
            "version",
        ];
        let n = self.weighted(&[5, 55, 30, 10]);
        let mut chosen: Vec<String> = (0..n).map(|_| self.pick(&names).to_owned()).collect();
        if self.chance(85) {
            chosen.sort();
            chosen.dedup();
        }
        let mut labels: Vec<String> = chosen.iter().map(|name| self.label_name(name)).collect();
        if n > 0 && self.chance(2) {
            labels.push(String::new());
        }
        labels.join(", ")
    }

    fn aggregation(&mut self, depth: u8, taste: Taste) -> Expr {
        let taste = match (taste, self.rng.u8(..10)) {
            (Taste::Any, 0..3) => Taste::Natives,
            (Taste::Any, 3..7) => Taste::Floats,
            _ => taste,
        };
        let name =
            if self.chance(8) && self.may() { self.pick(AGGREGATIONS_NEW) } else { self.pick(AGGREGATIONS) };
        let inner = self.vector(depth - 1, taste);
        let (arguments, parameter) = match name {
            "quantile" => ("§,·§", Some(self.fraction(depth - 1))),
            "topk" | "bottomk" | "limitk" => ("§,·§", Some(self.small(depth - 1))),
            "limit_ratio" => {
                let ratio =
                    self.pick(&["0.5", "-0.5", "0.3", "-0.7", "1", "0", "-1", "1.1", "-3", "0.9", "0.1"]);
                ("§,·§", Some(Expr::loose(Scalar, ratio, [])))
            }
            "count_values" => {
                let label = self.pick(&["value", "job", "v", "le", "a b", "__name__"]);
                ("§,·§", Some(Expr::leaf(Text, format!("\"{label}\""))))
            }
            _ => ("§", None),
        };
        let name = if self.chance(3) { name.to_uppercase() } else { name.to_owned() };
        let clause = match self.rng.u8(..10) {
            0..3 => None,
            3..8 => Some(format!("{}·({})", self.pick(&["by", "by", "BY"]), self.labels())),
            _ => Some(format!("without·({})", self.labels())),
        };
        let template = match clause {
            None => format!("{name}({arguments})"),
            Some(clause) if self.chance(25) => format!("{name}({arguments})⟦·{clause}⟧"),
            Some(clause) => format!("{name}⟦·{clause}⟧·({arguments})"),
        };
        Expr::new(Vector, &template, parameter.into_iter().chain([inner]))
    }

    // === operators ===

    fn binary(&mut self, depth: u8, taste: Taste) -> Expr {
        let d = depth - 1;
        match self.rng.u8(..20) {
            0..6 => self.with_scalar(d, taste),
            6..9 => {
                let (left, right) = self.partners(d, taste);
                let matching = if self.chance(55) { String::new() } else { self.matching() };
                Expr::loose(Vector, &format!("§·{}⟦{matching}⟧·§", self.pick(SETS)), [left, right])
            }
            9..13 => self.many_to_one(d),
            _ => {
                let (left, right) = self.partners(d, taste);
                let matching = if self.chance(70) { String::new() } else { self.matching() };
                let op = self.operator();
                let fill = self.fill();
                Expr::loose(Vector, &format!("§·{op}⟦{matching}⟧{fill}·§"), [left, right])
            }
        }
    }

    /// An operator of two vectors, `bool` included.
    fn operator(&mut self) -> String {
        match self.rng.u8(..20) {
            0..12 => self.pick(ARITHMETIC).to_owned(),
            12..17 => self.pick(COMPARISONS).to_owned(),
            17..19 => format!("{}⟦·bool⟧", self.pick(COMPARISONS)),
            _ if self.language.is_new => self.pick(&["</", ">/"]).to_owned(),
            _ => "+".to_owned(),
        }
    }

    fn fill(&mut self) -> String {
        if !(self.language.is_new && self.chance(7) && self.may()) {
            return String::new();
        }
        let (a, b) =
            (self.pick(&["0", "1", "-3.5", "NaN", "5m", "+2", "Inf"]), self.pick(&["0", "7", "-Inf"]));
        match self.rng.u8(..5) {
            0 => format!("⟦·fill({a})⟧"),
            1 => format!("⟦·fill_left({a})⟧"),
            2 => format!("⟦·fill_right·({a})⟧"),
            3 => format!("⟦·fill_left({a})·fill_right({b})⟧"),
            _ => format!("⟦·fill_right({b})·fill_left({a})⟧"),
        }
    }

    fn matching(&mut self) -> String {
        let word = self.pick(&["on", "on", "ignoring", "ON"]);
        format!("·{word}·({})", self.labels())
    }

    /// Two sides that mostly match.
    fn partners(&mut self, depth: u8, taste: Taste) -> (Expr, Expr) {
        if self.chance(20) {
            return (self.vector(depth, taste).tight(), self.vector(depth, taste).tight());
        }
        let family = self.family(taste);
        if self.chance(30) {
            let labels = self.labels();
            let side = |g: &mut Self| {
                let inner = g.vector(depth.min(1), Taste::One(family));
                Expr::new(
                    Vector,
                    &format!("{}·by·({labels})·(§)", g.pick(&["sum", "avg", "max", "count", "min"])),
                    [inner],
                )
            };
            return (side(self), side(self));
        }
        let other = match family.name {
            "clash_a" if self.chance(50) => family_named("clash_b"),
            "clash_a" => family_named("level"),
            "request_seconds_sum" => family_named("request_seconds_count"),
            "latency_seconds" | "weight" if self.chance(50) => family_named("gauge_histogram"),
            _ => family,
        };
        let left = if self.chance(60) {
            self.selector(Taste::One(family))
        } else {
            self.vector(depth, Taste::One(family))
        };
        let right = if self.chance(60) {
            self.selector(Taste::One(other))
        } else {
            self.vector(depth, Taste::One(other))
        };
        (left.tight(), right.tight())
    }

    fn many_to_one(&mut self, depth: u8) -> Expr {
        let one = self.pick(&["owner", "build_info", "target_info", "up", "clash_b", "level"]);
        let one = family_named(one);
        let many = self.vector(depth, Taste::Any).tight();
        let labels = self.pick(&["instance", "job, instance", "instance", "job", "instance, zone"]);
        let one_side = if self.chance(50) {
            let inner = self.selector(Taste::One(one));
            let aggregation = self.pick(&["max", "sum", "group", "min"]);
            let extra = self.pick(&["", ", version", ", team", ", commit"]);
            Expr::new(Vector, &format!("{aggregation}·by·({labels}{extra})·(§)"), [inner])
        } else {
            self.selector(Taste::One(one))
        };
        let include = self.pick(&[
            "",
            "(team)",
            "(version)",
            "(commit, zone)",
            "(job)",
            "()",
            "(nothing)",
            "(code)",
            "(version,)",
        ]);
        let op = if self.chance(60) { "*".to_owned() } else { self.operator() };
        let on = if self.chance(90) {
            format!("on·({labels})")
        } else {
            format!("ignoring·({})", self.labels())
        };
        let fill = self.fill();
        if self.chance(75) {
            return Expr::loose(
                Vector,
                &format!("§·{op}·{on}·group_left⟦{include}⟧{fill}·§"),
                [many, one_side],
            );
        }
        Expr::loose(Vector, &format!("§·{op}·{on}·group_right⟦{include}⟧{fill}·§"), [one_side, many])
    }

    fn with_scalar(&mut self, depth: u8, taste: Taste) -> Expr {
        let (vector, scalar) = (self.vector(depth, taste).tight(), self.scalar(depth.min(1)).tight());
        let op = self.operator();
        let sides = if self.chance(75) { [vector, scalar] } else { [scalar, vector] };
        Expr::loose(Vector, &format!("§·{op}·§"), sides)
    }

    // === labels, order, absence ===

    fn relabelled(&mut self, depth: u8, taste: Taste) -> Expr {
        let inner = self.vector(depth - 1, taste);
        let source = self.pick(&[
            "job",
            "instance",
            "instance",
            "le",
            "code",
            "pod",
            "__name__",
            "nothing",
            "http.status",
        ]);
        if self.chance(35) {
            let target = self.pick(&["joined", "job", "__name__", "new.name", "instance"]);
            let separator = self.pick(&["-", "", ", ", "/"]);
            let other = self.pick(&["job", "instance", "zone"]);
            let sources =
                self.pick(&["", ",·\"S\"", ",·\"S\",·\"O\""]).replace('S', source).replace('O', other);
            return Expr::new(
                Vector,
                &format!("label_join(§,·\"{target}\",·\"{separator}\"{sources})"),
                [inner],
            );
        }
        let target = self.pick(&["new", "job", "instance", "__name__", "le", "a b", "pod"]);
        let replacement = self.pick(&["$1", "x", "", "${1}-$2", "$0", "$$1", "$1x", "${n}", "é$1", "$"]);
        let pattern = self.pick(&[
            "(.*)",
            "a(.*)",
            "(a|b)(.+)",
            "",
            "(?P<n>.)(.*)",
            ".+",
            "(\\\\w)(\\\\d*).*",
            "[^-]*-(.*)",
            "nothing",
        ]);
        Expr::new(
            Vector,
            &format!("label_replace(§,·\"{target}\",·\"{replacement}\",·\"{source}\",·\"{pattern}\")"),
            [inner],
        )
    }

    fn sorted(&mut self, depth: u8, taste: Taste) -> Expr {
        let inner = self.vector(depth - 1, taste);
        if self.chance(50) || !self.may() {
            return Expr::new(Vector, self.pick(&["sort(§)", "sort_desc(§)"]), [inner]);
        }
        let name = self.pick(&["sort_by_label", "sort_by_label_desc"]);
        let labels = self.pick(&[
            "",
            ",·\"instance\"",
            ",·\"job\",·\"queue\"",
            ",·\"pod\"",
            ",·\"nothing\"",
            ",·\"version\",·\"instance\"",
            ",·\"le\"",
        ]);
        Expr::new(Vector, &format!("{name}(§{labels})"), [inner])
    }

    fn absent(&mut self, depth: u8, taste: Taste) -> Expr {
        let nothing = "nothing_at_all{job=\"api\",instance=~\"a.*\",zone!=\"\",é=\"x\"}"
            .replace(",é", if self.chance(50) { ",\"é\"" } else { ",e" });
        if self.chance(50) {
            let inner =
                if self.chance(50) { Expr::leaf(Vector, nothing) } else { self.vector(depth - 1, taste) };
            return Expr::new(Vector, "absent(§)", [inner]);
        }
        let inner = if self.chance(50) {
            Expr::leaf(Matrix, format!("{nothing}[5m]"))
        } else {
            self.matrix(depth - 1, taste)
        };
        Expr::new(Vector, "absent_over_time(§)", [inner])
    }

    fn info(&mut self, depth: u8) -> Expr {
        if !self.may() {
            return self.selector(Taste::Any);
        }
        let inner =
            if self.chance(60) { self.selector(Taste::Any) } else { self.vector(depth - 1, Taste::Any) };
        let selector = self.pick(&[
            "",
            "",
            ",·{version=~\".+\"}",
            ",·{__name__=\"build_info\"}",
            ",·{__name__=~\".*_info\"}",
            ",·{data=\"x\"}",
            ",·{version=\"1.10\",·data=\"y\"}",
            ",·{__name__=~\"build_info|target_info\",·commit!=\"\"}",
            ",·{nothing=\"\"}",
            ",·{data=~\"x|\"}",
        ]);
        Expr::new(Vector, &format!("info(§{selector})"), [inner])
    }
}

fn family_named(name: &str) -> &'static Family {
    FAMILIES.iter().find(|family| family.name == name).expect("a family of that name")
}
