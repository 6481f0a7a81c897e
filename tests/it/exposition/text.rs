//! Families as text: 0.0.4 and OpenMetrics, in the many spellings that both allow.
//!
//! Lines are handed out one by one, so that a body can be spoilt and made smaller by them.

use std::fmt::Write as _;

use fastrand::Rng;

use super::family::{Content, Exemplar, Family, Histogram, Kind, Metric, Pairs, Quirk, one_in, pick};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Text,
    OpenMetrics,
}

/// Floats that both Go and the format take, and such that they do not.
const SPELT: &[&str] = &[
    "inf",
    "-INF",
    "+Inf",
    "Infinity",
    "nan",
    ".5",
    "5.",
    "1E5",
    "1e-400",
    "4.9e-324",
    "1.7976931348623157e308",
    "00012",
    "-0",
    "0.1e1",
    "1e+07",
    "9007199254740993",
];
const MISSPELT: &[&str] = &[
    "1_000", "0x1p-2", "0x10", "1e400", "--1", "1,5", "Nan0", "infx", "1e", "+", "∞", "1.2.3", "0b1",
    "\"1\"", "1e1_0",
];

const LES: &[&str] = &["abc", "1e0", "0.50", "inf", "", "NaN", "1_0"];

struct Writer<'a> {
    rng: &'a mut Rng,
    flavour: Flavour,
    lines: Vec<Vec<u8>>,
}

/// The lines of a body, their ends included.
pub(super) fn lines(rng: &mut Rng, families: &[Family], flavour: Flavour) -> Vec<Vec<u8>> {
    let mut writer = Writer { rng, flavour, lines: Vec::new() };
    for family in families.iter().filter(|family| !family.is_hidden) {
        writer.family(family);
    }
    if flavour == Flavour::OpenMetrics {
        writer.line("# EOF".to_owned());
    }
    writer.lines
}

pub(super) fn plain_number(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{v}")
    }
}

fn escaped(text: &str, escapes_quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if escapes_quotes { text.replace('"', "\\\"") } else { text }
}

fn is_classic(name: &str, colons: bool) -> bool {
    let is_fine = |(i, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || (colons && c == ':') || (i > 0 && c.is_ascii_digit())
    };
    !name.is_empty() && name.chars().enumerate().all(is_fine)
}

impl Writer<'_> {
    fn line(&mut self, text: String) {
        let mut line = text.into_bytes();
        line.push(b'\n');
        self.lines.push(line);
    }

    fn number(&mut self, v: f64) -> String {
        match self.rng.u32(..400) {
            0 => pick(self.rng, MISSPELT).to_owned(),
            1..=4 => pick(self.rng, SPELT).to_owned(),
            5..=20 if v.is_finite() => format!("{v:e}"),
            21..=30 if v >= 0.0 && v.is_finite() => format!("+{v}"),
            _ => plain_number(v),
        }
    }

    fn bound(&mut self, v: f64) -> String {
        match self.rng.u32(..120) {
            0 => pick(self.rng, LES).to_owned(),
            1..=10 if v.is_finite() => format!("{v:e}"),
            11..=50 if v.is_finite() && v.fract() == 0.0 && v.abs() < 1e15 => format!("{v:.1}"),
            _ => plain_number(v),
        }
    }

    fn name(&mut self, name: &str) -> String {
        if is_classic(name, true) && !one_in(self.rng, 60) {
            name.to_owned()
        } else {
            format!("\"{}\"", escaped(name, true))
        }
    }

    fn family(&mut self, family: &Family) {
        let is_text = self.flavour == Flavour::Text;
        let mut family_name = family.name.clone();
        if is_text && family.kind == Kind::Counter && !family_name.ends_with("_total") {
            family_name.push_str("_total");
        }
        if is_text && family.kind == Kind::Info && !family_name.ends_with("_info") {
            family_name.push_str("_info");
        }
        let shown = self.name(&family_name);
        let mut heads = Vec::new();
        if family.says_type {
            let kind = match (family.kind, is_text) {
                (Kind::Counter, _) => "counter",
                (Kind::Gauge, _) | (Kind::Info | Kind::StateSet, true) => "gauge",
                (Kind::Histogram, _) | (Kind::GaugeHistogram, true) => "histogram",
                (Kind::Summary, _) => "summary",
                (Kind::Unknown, true) => "untyped",
                (Kind::GaugeHistogram, false) => "gaugehistogram",
                (Kind::Info, false) => "info",
                (Kind::StateSet, false) => "stateset",
                (Kind::Unknown, false) => "unknown",
            };
            let kind = if one_in(self.rng, 250) {
                pick(self.rng, &["Counter", "bogus", "unknown", "info", ""])
            } else {
                kind
            };
            heads.push(format!("# TYPE {shown} {kind}"));
        }
        if let Some(help) = &family.help {
            heads.push(format!("# HELP {shown} {}", escaped(help, !is_text)));
        }
        if let (Some(unit), false) = (&family.unit, is_text) {
            heads.push(format!("# UNIT {shown} {unit}"));
        }
        if one_in(self.rng, 6) {
            self.rng.shuffle(&mut heads);
        }
        if is_text && one_in(self.rng, 20) {
            heads.push(
                pick(self.rng, &["# a comment", "#", "", "  ", "#HELP x y", "# TYPO x y", "# HELP", "\t# x"])
                    .to_owned(),
            );
        }
        for head in heads {
            self.line(head);
        }
        for metric in family.metrics.iter().filter(|metric| !metric.is_hidden) {
            self.metric(family, metric);
        }
    }

    fn metric(&mut self, family: &Family, metric: &Metric) {
        let name = &family.name;
        match &metric.content {
            Content::Number { v, exemplar } => {
                let suffix = match family.kind {
                    Kind::Counter if !name.ends_with("_total") => "_total",
                    Kind::Info if !name.ends_with("_info") => "_info",
                    _ => "",
                };
                let v = self.number(*v);
                self.sample(&format!("{name}{suffix}"), metric, None, &v, exemplar.as_ref());
                self.created(family, metric);
            }
            Content::Histogram(histogram) => self.histogram(family, metric, histogram),
            Content::Summary { quantiles, sum, count } => {
                for (quantile, v) in quantiles {
                    let (quantile, v) = (self.bound(*quantile), self.number(*v));
                    self.sample(name, metric, Some(("quantile", quantile)), &v, None);
                }
                self.sample(&format!("{name}_sum"), metric, None, &plain_number(*sum), None);
                self.sample(&format!("{name}_count"), metric, None, &count.to_string(), None);
                self.created(family, metric);
            }
            Content::States(states) => {
                for (state, is_on) in states {
                    let v = if *is_on { "1" } else { "0" };
                    self.sample(name, metric, Some((name, state.clone())), v, None);
                }
            }
        }
    }

    fn created(&mut self, family: &Family, metric: &Metric) {
        let Some(began) = metric.began else { return };
        if !matches!(family.kind, Kind::Counter | Kind::Histogram | Kind::Summary) || one_in(self.rng, 5) {
            return;
        }
        let stem = family.name.strip_suffix("_total").unwrap_or(&family.name);
        let v = if one_in(self.rng, 30) { self.number(f64::NAN) } else { seconds(began) };
        self.sample(&format!("{stem}_created"), metric, None, &v, None);
    }

    fn histogram(&mut self, family: &Family, metric: &Metric, histogram: &Histogram) {
        let name = &family.name;
        let quirk = histogram.quirk;
        let is_gauge = family.kind == Kind::GaugeHistogram && self.flavour == Flavour::OpenMetrics;
        let (count_suffix, sum_suffix) = if is_gauge { ("_gcount", "_gsum") } else { ("_count", "_sum") };
        let mut rows = Vec::new();
        let mut total = 0.0;
        for (i, n) in histogram.counts.iter().enumerate() {
            total += *n as f64 * if quirk == Quirk::Fractional { 1.5 } else { 1.0 };
            let bound = histogram.bounds.get(i).copied().unwrap_or(f64::INFINITY);
            let shown = match quirk {
                Quirk::Falling if i == 1 => 0.0,
                Quirk::Negative if i == 0 => -3.0,
                _ => total,
            };
            if quirk == Quirk::NoInf && bound.is_infinite() {
                continue;
            }
            rows.push((self.bound(bound), plain_number(shown), histogram.exemplars[i].clone()));
        }
        match quirk {
            Quirk::Unsorted => rows.reverse(),
            Quirk::Doubled => rows.extend(rows.first().cloned()),
            Quirk::NoBuckets => rows.clear(),
            _ => {}
        }
        for (le, v, exemplar) in rows {
            self.sample(&format!("{name}_bucket"), metric, Some(("le", le)), &v, exemplar.as_ref());
        }
        let count = if quirk == Quirk::CountDiffers { total + 1.0 } else { total };
        if quirk != Quirk::NoCount {
            self.sample(&format!("{name}{count_suffix}"), metric, None, &plain_number(count), None);
        }
        if quirk != Quirk::NoSum {
            let sum = self.number(histogram.sum);
            self.sample(&format!("{name}{sum_suffix}"), metric, None, &sum, None);
        }
        self.created(family, metric);
    }

    fn pairs(&mut self, labels: &Pairs, extra: Option<(&str, String)>) -> Vec<String> {
        let mut pairs: Vec<(String, String)> = labels.clone();
        if let Some((name, value)) = extra {
            let at = if one_in(self.rng, 5) { 0 } else { pairs.len() };
            pairs.insert(at, (name.to_owned(), value));
        }
        let is_text = self.flavour == Flavour::Text;
        let shown = |(name, value): &(String, String)| {
            let name =
                if is_classic(name, false) { name.clone() } else { format!("\"{}\"", escaped(name, true)) };
            let space = if is_text && one_in(self.rng, 40) { " " } else { "" };
            format!("{name}{space}={space}\"{}\"", escaped(value, true))
        };
        pairs.iter().map(shown).collect()
    }

    fn sample(
        &mut self,
        name: &str,
        metric: &Metric,
        extra: Option<(&str, String)>,
        v: &str,
        exemplar: Option<&Exemplar>,
    ) {
        let is_text = self.flavour == Flavour::Text;
        let name = self.name(name);
        let mut pairs = self.pairs(&metric.labels, extra);
        let is_quoted = name.starts_with('"');
        if is_quoted {
            pairs.insert(0, name.clone());
        }
        let comma = if one_in(self.rng, 25) && !pairs.is_empty() { "," } else { "" };
        let labels = match pairs.len() {
            0 if one_in(self.rng, 20) => "{}".to_owned(),
            0 => String::new(),
            _ => format!(
                "{{{}{comma}}}",
                pairs.join(if is_text && one_in(self.rng, 30) { " , " } else { "," })
            ),
        };
        let gap = if is_text { pick(self.rng, &[" ", " ", " ", " ", " ", "  ", "\t"]) } else { " " };
        let mut line = if is_quoted { String::new() } else { name };
        write!(line, "{labels}{gap}{v}").unwrap();
        if let Some(t) = metric.t {
            let t = if is_text { t.to_string() } else { seconds(t) };
            write!(line, "{gap}{t}").unwrap();
        }
        if let (Some(exemplar), false) = (exemplar, is_text) {
            let pairs = self.pairs(&exemplar.labels, None).join(",");
            let v = self.number(exemplar.v);
            write!(line, " # {{{pairs}}} {v}").unwrap();
            if let Some(t) = exemplar.t {
                write!(line, " {}", seconds(t)).unwrap();
            }
        }
        if is_text && one_in(self.rng, 100) {
            line.insert_str(0, "  ");
        }
        self.line(line);
    }
}

/// Of one length whatever the time, so that damage by place is the same at any time.
fn seconds(t: i64) -> String {
    format!("{}.{:03}", t.div_euclid(1000), t.rem_euclid(1000))
}
