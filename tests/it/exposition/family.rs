//! What a target might expose, apart from how it is written: families that change from one scrape to the next.
//!
//! Times are absolute, since both servers must read the same: some before the test began, some well ahead, none near
//! the border of what a server takes.

use std::collections::BTreeMap;

use fastrand::Rng;

pub(super) const MINUTE: i64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Unknown,
    Info,
    StateSet,
}

const KINDS: [Kind; 12] = [
    Kind::Counter,
    Kind::Counter,
    Kind::Gauge,
    Kind::Gauge,
    Kind::Histogram,
    Kind::Histogram,
    Kind::Histogram,
    Kind::GaugeHistogram,
    Kind::Summary,
    Kind::Unknown,
    Kind::Info,
    Kind::StateSet,
];

pub(super) type Pairs = Vec<(String, String)>;

#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) kind: Kind,
    pub(super) says_type: bool,
    pub(super) metrics: Vec<Metric>,
    pub(super) is_hidden: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) labels: Pairs,
    pub(super) t: Option<i64>,
    /// When it says it began to count.
    pub(super) began: Option<i64>,
    pub(super) content: Content,
    pub(super) is_hidden: bool,
    clock: Clock,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Number { v: f64, exemplar: Option<Exemplar> },
    Histogram(Box<Histogram>),
    Summary { quantiles: Vec<(f64, f64)>, sum: f64, count: u64 },
    States(Vec<(String, bool)>),
}

#[derive(Clone, Debug)]
pub(super) struct Exemplar {
    pub(super) labels: Pairs,
    pub(super) v: f64,
    pub(super) t: Option<i64>,
}

/// What may be odd about a classic histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quirk {
    None,
    NoInf,
    NoCount,
    NoSum,
    Unsorted,
    Doubled,
    /// A bucket counts less than the one before.
    Falling,
    CountDiffers,
    Fractional,
    NoBuckets,
    Negative,
}

const QUIRKS: [Quirk; 10] = [
    Quirk::NoInf,
    Quirk::NoCount,
    Quirk::NoSum,
    Quirk::Unsorted,
    Quirk::Doubled,
    Quirk::Falling,
    Quirk::CountDiffers,
    Quirk::Fractional,
    Quirk::NoBuckets,
    Quirk::Negative,
];

#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub(super) bounds: Vec<f64>,
    /// Per bucket, the infinite one last.
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
    pub(super) exemplars: Vec<Option<Exemplar>>,
    pub(super) quirk: Quirk,
    pub(super) native: Option<Native>,
    /// Protobuf alone: the classic part is left out.
    pub(super) is_native_alone: bool,
}

/// What may be odd about a native histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NativeQuirk {
    None,
    /// Fewer buckets than the spans say.
    LongSpan,
    ShortSpan,
    NegativeOffset,
    NegativeCount,
    CountDiffers,
    NanSum,
    NoOpSpan,
    EmptySpans,
}

const NATIVE_QUIRKS: [NativeQuirk; 8] = [
    NativeQuirk::LongSpan,
    NativeQuirk::ShortSpan,
    NativeQuirk::NegativeOffset,
    NativeQuirk::NegativeCount,
    NativeQuirk::CountDiffers,
    NativeQuirk::NanSum,
    NativeQuirk::NoOpSpan,
    NativeQuirk::EmptySpans,
];

#[derive(Clone, Debug)]
pub(super) struct Native {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: u64,
    pub(super) positive: BTreeMap<i32, u64>,
    pub(super) negative: BTreeMap<i32, u64>,
    pub(super) is_float: bool,
    /// Buckets between others that are empty and said all the same.
    pub(super) fills_gaps: bool,
    pub(super) exemplars: Vec<Exemplar>,
    pub(super) quirk: NativeQuirk,
}

/// How the times go that a metric tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    None,
    Steady,
    Backwards,
    Still,
    Ahead,
    TooFar,
    /// Not at first: what a store that is empty takes of the past is a matter of who comes first.
    Old,
    Now(u8),
}

pub(super) fn pick<'a, T: ?Sized>(rng: &mut Rng, of: &[&'a T]) -> &'a T {
    of[rng.usize(..of.len())]
}

pub(super) fn one_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

const NAMES: &[&str] = &[
    "http_requests",
    "process_cpu_seconds",
    "go_memory_bytes",
    "rpc_duration_seconds",
    "temperature_celsius",
    "job:errors:rate5m",
    "build",
    "x",
    "queue_length",
    "a_bucket",
    "b_count",
    "c_sum",
    "d_total",
    "e_info",
    "f_created",
    "_under",
    ":colon",
];

const ODD_NAMES: &[&str] =
    &["my.metric", "metric with space", "Ünïcode", "日本", "a\"quote", "back\\slash", "1digit", "dash-ed"];

const LABELS: &[&str] = &[
    "method",
    "code",
    "path",
    "job",
    "instance",
    "exported_job",
    "zone",
    "le",
    "quantile",
    "exported_instance",
    "team",
];

const ODD_LABELS: &[&str] = &["my.label", "label with space", "ö", "a\"q", "__hidden", "__type__", "1a"];

const VALUES: &[&str] = &[
    "",
    "a",
    "GET",
    "200",
    "/api/v1/query",
    "with space",
    "quo\"te",
    "back\\slash",
    "line\nbreak",
    "Ünï",
    "日本語",
    "{}#,=",
    "a-value-that-is-rather-long-so-that-limits-of-length-have-something-to-refuse",
    "0.5",
    "1",
];

const HELPS: &[&str] = &["", "Counts things.", "with \\ and \n and \"quotes\"", "  spaces  ", "Ünï", "#"];

const UNITS: &[&str] = &["seconds", "bytes", "celsius"];

const VALUES_ODD: &[f64] = &[
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    -0.0,
    5e-324,
    f64::MAX,
    1e21,
    0.1 + 0.2,
    123_456_789_012_345_680.0,
];

fn number(rng: &mut Rng) -> f64 {
    match rng.u8(..10) {
        0 => VALUES_ODD[rng.usize(..VALUES_ODD.len())],
        1..=3 => f64::from(rng.u32(..1000)) / 8.0,
        4 => (rng.f64() - 0.5) * 1e9,
        _ => f64::from(rng.u32(..10_000)),
    }
}

fn labels(rng: &mut Rng, is_plain: bool) -> Pairs {
    let mut labels: Pairs = Vec::new();
    for _ in 0..rng.usize(..4) {
        let name = if !is_plain && one_in(rng, 12) { pick(rng, ODD_LABELS) } else { pick(rng, LABELS) };
        // What buckets and quantiles have of their own would hide everything else.
        if matches!(name, "le" | "quantile") && !one_in(rng, 8) {
            continue;
        }
        // So would a label given twice.
        if !labels.iter().any(|(other, _)| other == name) || one_in(rng, 60) {
            labels.push((name.to_owned(), pick(rng, VALUES).to_owned()));
        }
    }
    labels
}

impl Exemplar {
    fn new(rng: &mut Rng, base: i64, step: usize, is_timed: bool) -> Self {
        let mut labels = vec![("trace_id".to_owned(), format!("{:08x}", rng.u32(..)))];
        match rng.u8(..12) {
            0 => labels.clear(),
            1 => labels.push(("span".to_owned(), "Ü".repeat(rng.usize(50..130)))),
            2 => labels.push(("a".to_owned(), String::new())),
            _ => {}
        }
        let t = base - 3 * MINUTE + 1000 * i64::try_from(step).unwrap()
            - if one_in(rng, 6) { rng.i64(0..90_000) } else { 0 };
        Self { labels, v: number(rng), t: (is_timed || rng.bool()).then_some(t) }
    }
}

impl Histogram {
    fn new(rng: &mut Rng) -> Self {
        let mut bounds: Vec<f64> = match rng.u8(..4) {
            0 => vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            1 => vec![1.0, 2.0, 4.0],
            2 => vec![-10.0, 0.0, 10.0, 1e6],
            _ => vec![0.1],
        };
        if one_in(rng, 20) {
            bounds.clear();
        }
        let n = bounds.len() + 1;
        let quirk = if one_in(rng, 5) { QUIRKS[rng.usize(..QUIRKS.len())] } else { Quirk::None };
        let native = (!one_in(rng, 3)).then(|| Native::new(rng));
        Self {
            bounds,
            counts: vec![0; n],
            sum: 0.0,
            exemplars: vec![None; n],
            quirk,
            is_native_alone: native.is_some() && rng.bool(),
            native,
        }
    }

    fn observe(&mut self, rng: &mut Rng, base: i64, step: usize) {
        for _ in 0..rng.usize(..6) {
            let at = rng.usize(..self.counts.len());
            self.counts[at] += rng.u64(1..5);
            self.sum += self.bounds.get(at).copied().unwrap_or(100.0) / 2.0;
        }
        for exemplar in &mut self.exemplars {
            if one_in(rng, 4) {
                *exemplar = Some(Exemplar::new(rng, base, step, false));
            }
        }
        if let Some(native) = &mut self.native {
            native.observe(rng, base, step);
        }
    }

    fn reset(&mut self) {
        self.counts.fill(0);
        self.sum = 0.0;
        if let Some(native) = &mut self.native {
            native.positive.clear();
            native.negative.clear();
            native.zero_count = 0;
        }
    }
}

impl Native {
    fn new(rng: &mut Rng) -> Self {
        let schema = match rng.u8(..20) {
            0 => pick(rng, &[&-9, &-5, &9, &12, &52, &53, &-53, &-10]).to_owned(),
            _ => rng.i32(-4..=8),
        };
        let thresholds = [0.0, 2.938_735_877_055_719e-39, 1e-128, 0.001, 1.0];
        Self {
            schema,
            zero_threshold: thresholds[rng.usize(..thresholds.len())],
            zero_count: 0,
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            is_float: one_in(rng, 4),
            fills_gaps: rng.bool(),
            exemplars: Vec::new(),
            quirk: if one_in(rng, 8) {
                NATIVE_QUIRKS[rng.usize(..NATIVE_QUIRKS.len())]
            } else {
                NativeQuirk::None
            },
        }
    }

    fn observe(&mut self, rng: &mut Rng, base: i64, step: usize) {
        for _ in 0..rng.usize(..12) {
            let index = rng.i32(-8..=16);
            *self.positive.entry(index).or_default() += rng.u64(1..20);
        }
        if rng.bool() {
            for _ in 0..rng.usize(..4) {
                *self.negative.entry(rng.i32(-3..=5)).or_default() += rng.u64(1..20);
            }
        }
        if one_in(rng, 3) {
            self.zero_count += rng.u64(..5);
        }
        if one_in(rng, 25) {
            self.schema = rng.i32(-4..=8);
        }
        if one_in(rng, 3) {
            let n = rng.usize(..4);
            self.exemplars = (0..n)
                .map(|_| {
                    let is_timed = !one_in(rng, 4);
                    Exemplar::new(rng, base, step, is_timed)
                })
                .collect();
        }
    }
}

impl Content {
    fn new(rng: &mut Rng, kind: Kind) -> Self {
        match kind {
            Kind::Histogram | Kind::GaugeHistogram => Self::Histogram(Box::new(Histogram::new(rng))),
            Kind::Summary => {
                let quantiles = [0.0, 0.5, 0.9, 0.99, 1.0];
                let n = rng.usize(..=quantiles.len());
                Self::Summary {
                    quantiles: quantiles[..n].iter().map(|q| (*q, 0.0)).collect(),
                    sum: 0.0,
                    count: 0,
                }
            }
            Kind::StateSet => {
                Self::States(["on", "off", "half way"].map(|state| (state.to_owned(), false)).into())
            }
            Kind::Info => Self::Number { v: 1.0, exemplar: None },
            Kind::Counter | Kind::Gauge | Kind::Unknown => Self::Number { v: number(rng), exemplar: None },
        }
    }

    fn advance(&mut self, rng: &mut Rng, kind: Kind, base: i64, step: usize) {
        match self {
            Self::Number { v, exemplar } => {
                match kind {
                    Kind::Counter if one_in(rng, 12) => *v = 0.0,
                    Kind::Counter if rng.bool() => *v += f64::from(rng.u32(..100)),
                    Kind::Counter | Kind::Info => {}
                    _ => *v = number(rng),
                }
                let has_some = kind == Kind::Counter || one_in(rng, 15);
                if has_some && one_in(rng, 3) {
                    *exemplar = Some(Exemplar::new(rng, base, step, false));
                }
            }
            Self::Histogram(histogram) => {
                if one_in(rng, 10) {
                    histogram.reset();
                }
                histogram.observe(rng, base, step);
            }
            Self::Summary { quantiles, sum, count } => {
                for (_, v) in quantiles {
                    *v = number(rng);
                }
                *count += rng.u64(..10);
                *sum += f64::from(rng.u32(..10)) / 4.0;
            }
            Self::States(states) => {
                for (_, is_on) in states {
                    *is_on = rng.bool();
                }
            }
        }
    }
}

impl Metric {
    fn new(rng: &mut Rng, kind: Kind, is_plain: bool, base: i64) -> Self {
        let clock = match rng.u8(..40) {
            0..=3 => Clock::Steady,
            4 => Clock::Backwards,
            5 => Clock::Still,
            6 => Clock::Ahead,
            7 => Clock::TooFar,
            8 => Clock::Old,
            9 => Clock::Now(rng.u8(..4)),
            _ => Clock::None,
        };
        let began = match rng.u8(..12) {
            0..=5 => Some(base - 4 * MINUTE - rng.i64(0..MINUTE)),
            6 => Some(base + 60 * MINUTE),
            7 => Some(0),
            _ => None,
        };
        Self {
            labels: labels(rng, is_plain),
            t: None,
            began,
            content: Content::new(rng, kind),
            is_hidden: false,
            clock,
        }
    }

    fn is_native(&self) -> bool {
        matches!(&self.content, Content::Histogram(histogram) if histogram.native.is_some())
    }

    fn agree(&mut self, rng: &mut Rng, is_native: bool) {
        if let Content::Histogram(histogram) = &mut self.content
            && is_native
            && histogram.native.is_none()
        {
            histogram.native = Some(Native::new(rng));
        }
    }

    fn advance(&mut self, rng: &mut Rng, kind: Kind, base: i64, step: usize) {
        self.is_hidden = one_in(rng, 8);
        let since = 1000 * i64::try_from(step).unwrap();
        self.t = match self.clock {
            Clock::None => None,
            Clock::Steady => Some(base - 2 * MINUTE + since),
            Clock::Backwards => Some(base - 2 * MINUTE - since),
            Clock::Still => Some(base - 2 * MINUTE),
            Clock::Ahead => Some(base + 5 * MINUTE + since),
            Clock::TooFar => Some(base + 30 * MINUTE + since),
            Clock::Old => (step > 0).then_some(base - 180 * MINUTE),
            // Once with, once without.
            Clock::Now(phase) => (step % 2 == usize::from(phase) % 2).then_some(base - 2 * MINUTE + since),
        };
        if self.began.is_some() && one_in(rng, 15) {
            self.began = Some(base - 3 * MINUTE + since);
        }
        self.content.advance(rng, kind, base, step);
    }
}

impl Family {
    fn new(rng: &mut Rng, is_plain: bool, base: i64) -> Self {
        let kind = KINDS[rng.usize(..KINDS.len())];
        let mut name =
            if !is_plain && one_in(rng, 8) { pick(rng, ODD_NAMES) } else { pick(rng, NAMES) }.to_owned();
        let mut unit = None;
        if one_in(rng, 4) {
            let said = pick(rng, UNITS);
            // Now and then a unit that is not the name's.
            if !name.ends_with(said) && !one_in(rng, 12) {
                name = format!("{name}_{said}");
            }
            unit = Some(said.to_owned());
        }
        let n_metrics = if one_in(rng, 15) { 0 } else { rng.usize(1..4) };
        let mut metrics: Vec<_> = (0..n_metrics).map(|_| Metric::new(rng, kind, is_plain, base)).collect();
        // 3.14 stumbles over families of which some metrics are native and some are not ("parser bug; aborting").
        let is_native = metrics.iter().any(Metric::is_native);
        for metric in &mut metrics {
            metric.agree(rng, is_native);
        }
        Self {
            name,
            help: (!one_in(rng, 3)).then(|| pick(rng, HELPS).to_owned()),
            unit,
            kind,
            says_type: !one_in(rng, 8),
            metrics,
            is_hidden: false,
        }
    }
}

/// Families of a target; `is_plain` has classic names alone.
pub(super) fn families(rng: &mut Rng, is_plain: bool, base: i64) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for _ in 0..rng.usize(1..6) {
        let family = Family::new(rng, is_plain, base);
        if !families.iter().any(|other| other.name == family.name) || one_in(rng, 20) {
            families.push(family);
        }
    }
    families
}

/// What the target exposes at its next scrape.
pub(super) fn advance(rng: &mut Rng, families: &mut [Family], is_plain: bool, base: i64, step: usize) {
    for family in families.iter_mut() {
        family.is_hidden = step > 0 && one_in(rng, 8);
        if step > 0 && one_in(rng, 20) {
            family.help = Some(pick(rng, HELPS).to_owned());
        }
        if step > 0 && one_in(rng, 25) {
            // It becomes something else.
            let mut other = Family::new(rng, is_plain, base);
            other.name.clone_from(&family.name);
            *family = other;
        }
        for metric in &mut family.metrics {
            metric.advance(rng, family.kind, base, step);
        }
    }
    if step > 0 && one_in(rng, 10) {
        rng.shuffle(families);
    }
}
