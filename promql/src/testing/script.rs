//! The language of upstream's `.test` scripts: load series, evaluate expressions, compare.
//!
//! Every instant evaluation without step-dependent functions is repeated with `@` on all selectors at other
//! times, and all of them in the middle of a range query. What needs native histograms or start timestamps
//! must be refused by a clear error; such evaluations are counted apart.
//!
//! Compat: prometheus `promql/promqltest/test.go` (3.14).

use std::collections::BTreeMap;
use std::fmt::Write;

use model::duration::parse_signed_ms;
use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder, Regex, SampleBatch, TimeRange, Timestamp, is_stale};

use super::storage::Storage;
use crate::annotations::Annotations;
use crate::engine::{Engine, Error, QueryOptions, QueryResult, RangeParams, SampleValue, Value};
use crate::parse::ast::{At, Expr};
use crate::parse::series::{self, SequenceValue};
use crate::plan::STEP_DEPENDENT;

/// What came of a script.
#[derive(Debug, Default)]
pub struct Report {
    /// Evaluations that met all expectations in all variants.
    pub passed: usize,
    /// Evaluations that were refused as not supported yet, by what is missing.
    pub refused: BTreeMap<String, usize>,
    /// Queries that were run, variants counted.
    pub queries: usize,
    pub failures: Vec<String>,
}

impl Report {
    pub fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.queries += other.queries;
        self.failures.extend(other.failures);
        for (reason, n) in other.refused {
            *self.refused.entry(reason).or_default() += n;
        }
    }

    pub fn refused_total(&self) -> usize {
        self.refused.values().sum()
    }
}

const HISTOGRAMS: &str = "native histogram";
const START_TIMESTAMPS: &str = "start timestamp";

/// Runs `text` on `engine`; `name` goes into the failures.
pub fn run(engine: &Engine, name: &str, text: &str) -> Report {
    let mut report = Report::default();
    let mut storage = Storage::default();
    let lines: Vec<&str> =
        text.lines().map(|l| if l.trim().starts_with('#') { "" } else { l.trim() }).collect();
    let mut at = 0;
    while at < lines.len() {
        let first = lines[at];
        let block_end = (at + 1..lines.len()).find(|&i| lines[i].is_empty()).unwrap_or(lines.len());
        let place = format!("{name}:{}", at + 1);
        match first.split_whitespace().next().unwrap_or_default().to_lowercase().as_str() {
            "" => at += 1,
            "clear" => {
                storage.clear();
                at += 1;
            }
            word if word.starts_with("load") => {
                if let Err(e) = load(&mut storage, first, &lines[at + 1..block_end]) {
                    report.failures.push(format!("{place}: {e}"));
                }
                at = block_end;
            }
            word if word.starts_with("eval") => match Eval::parse(first, &lines[at + 1..block_end]) {
                Ok(eval) => {
                    eval.run(engine, &storage, &place, &mut report);
                    at += 1 + eval.lines;
                }
                Err(e) => {
                    report.failures.push(format!("{place}: {e}"));
                    at = block_end;
                }
            },
            other => {
                report.failures.push(format!("{place}: invalid command {other:?}"));
                at += 1;
            }
        }
    }
    report
}

// === load ===

fn load(storage: &mut Storage, command: &str, lines: &[&str]) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let with_histograms = words.next() == Some("load_with_nhcb");
    let step = words.next().ok_or("load without a step")?;
    let step = parse_signed_ms(step).map_err(|e| e.to_string())?;
    // Of a series given twice the last line wins.
    let mut all: BTreeMap<Labels, Vec<SequenceValue>> = BTreeMap::new();
    for line in lines {
        let metric_end = metric_len(line);
        let (metric, values) = line.split_at(metric_end);
        if values.starts_with("@st") || line.contains("{{") {
            let what = if line.contains("{{") { HISTOGRAMS } else { START_TIMESTAMPS };
            let labels = series::parse_metric(metric).map_err(|e| format!("{line}: {e}"))?;
            storage.mark_unreadable(&labels, TimeRange::ALL, what);
            all.remove(&labels);
            continue;
        }
        let (labels, values) = series::parse(line).map_err(|e| format!("{line}: {e}"))?;
        all.insert(labels, values);
    }
    for (labels, values) in &all {
        let floats = values.iter().enumerate().filter_map(|(i, value)| match value {
            SequenceValue::Float(v) => Some((time(0, step, i), *v)),
            SequenceValue::Gap => None,
        });
        storage.append(labels, floats);
        if with_histograms && let Some(base) = histogram_of(labels) {
            let last = time(0, step, values.len());
            storage.mark_unreadable(&base, TimeRange::new(0, last), HISTOGRAMS);
        }
    }
    Ok(())
}

fn time(start: Timestamp, step: i64, i: usize) -> Timestamp {
    start + step * i64::try_from(i).expect("a script holds fewer than 2^63 values")
}

/// The length of the metric at the start of a series line.
fn metric_len(line: &str) -> usize {
    let (mut quote, mut depth) = (None, 0);
    for (i, b) in line.bytes().enumerate() {
        match (quote, b) {
            (Some(q), b) if b == q => quote = None,
            (None, b'"' | b'\'' | b'`') => quote = Some(b),
            (None, b'{') => depth += 1,
            (None, b'}') => depth -= 1,
            (None, b' ' | b'\t' | b'@') if depth == 0 => return i,
            _ => {}
        }
    }
    line.len()
}

/// The histogram that a series of a classic one is converted to.
fn histogram_of(labels: &Labels) -> Option<Labels> {
    let name = labels.metric_name();
    let base = [&b"_bucket"[..], b"_count", b"_sum"].iter().find_map(|suffix| name.strip_suffix(*suffix))?;
    let mut builder = LabelsBuilder::from(labels);
    builder.set(METRIC_NAME, base);
    builder.remove(b"le");
    Some(builder.build())
}

// === eval ===

struct Eval {
    expr: String,
    range: RangeParams,
    is_instant: bool,
    expectations: Vec<Expectation>,
    ordered: bool,
    series: Vec<(Labels, Vec<SequenceValue>)>,
    scalar: Option<f64>,
    string: Option<Vec<u8>>,
    /// Times of the items of an expected range vector: start and step.
    matrix: Option<(Timestamp, i64)>,
    has_histograms: bool,
    /// Lines that belong to it besides the first.
    lines: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fail,
    Warn,
    NoWarn,
    Info,
    NoInfo,
}

struct Expectation {
    kind: Kind,
    text: Text,
}

enum Text {
    Any,
    Exactly(String),
    Pattern(Regex),
}

impl Text {
    fn is_met_by(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(expected) => expected == text,
            Self::Pattern(regex) => regex.is_match(text.as_bytes()),
        }
    }

    fn pattern(text: &str) -> Result<Self, String> {
        // Searched for anywhere, while a `Regex` matches whole values.
        Regex::anchored(format!("(?s:.*)(?:{text})(?s:.*)").as_bytes())
            .map(Self::Pattern)
            .map_err(|e| e.to_string())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.split_once(':') {
            Some(("msg", rest)) => Ok(Self::Exactly(rest.trim().to_owned())),
            Some(("regex", rest)) => Self::pattern(rest.trim()),
            _ => Err(format!("invalid expectation {text:?}")),
        }
    }
}

/// The first word and the rest behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn keyword<'a>(text: &'a str, expected: &str) -> Result<&'a str, String> {
    match word(text) {
        (found, rest) if found == expected => Ok(rest),
        (found, _) => Err(format!("expected {expected:?}, got {found:?}")),
    }
}

fn duration(text: &str) -> Result<(i64, &str), String> {
    let (found, rest) = word(text);
    Ok((parse_signed_ms(found).map_err(|e| format!("{found}: {e}"))?, rest))
}

impl Eval {
    fn parse(command: &str, block: &[&str]) -> Result<Self, String> {
        let (head, rest) = word(command);
        let (mode, rest) = word(rest);
        let (range, expr) = match mode {
            "instant" => {
                let (t, expr) = duration(keyword(rest, "at")?)?;
                (RangeParams { start: t, end: t, step_ms: 0 }, expr)
            }
            "range" => {
                let (start, rest) = duration(keyword(rest, "from")?)?;
                let (end, rest) = duration(keyword(rest, "to")?)?;
                let (step_ms, expr) = duration(keyword(rest, "step")?)?;
                (RangeParams { start, end, step_ms }, expr)
            }
            other => return Err(format!("invalid evaluation {other:?}")),
        };
        let mut eval = Self {
            expr: expr.to_owned(),
            range,
            is_instant: mode == "instant",
            expectations: Vec::new(),
            ordered: head == "eval_ordered",
            series: Vec::new(),
            scalar: None,
            string: None,
            matrix: None,
            has_histograms: false,
            lines: block.len(),
        };
        let kind = match head {
            "eval_fail" => Some(Kind::Fail),
            "eval_warn" => Some(Kind::Warn),
            "eval_info" => Some(Kind::Info),
            _ => None,
        };
        eval.expectations.extend(kind.map(|kind| Expectation { kind, text: Text::Any }));
        for (i, line) in block.iter().enumerate() {
            if eval.line(line)? {
                eval.lines = i + 1;
                break;
            }
        }
        Ok(eval)
    }

    /// Reads one line; `true` if the block ends with it.
    fn line(&mut self, line: &str) -> Result<bool, String> {
        let (first, rest) = word(line);
        match first {
            "expect" => {
                self.expect(rest)?;
                return Ok(false);
            }
            "expected_fail_message" => {
                self.expectations =
                    vec![Expectation { kind: Kind::Fail, text: Text::Exactly(rest.to_owned()) }];
                return Ok(true);
            }
            "expected_fail_regexp" => {
                self.expectations = vec![Expectation { kind: Kind::Fail, text: Text::pattern(rest)? }];
                return Ok(true);
            }
            _ => {}
        }
        if let Ok(Expr::Number(number)) = crate::parse::parse(line) {
            self.scalar = Some(number.value);
            return Ok(true);
        }
        if line.contains("{{") {
            self.has_histograms = true;
            return Ok(false);
        }
        self.series.push(series::parse(line).map_err(|e| format!("{line}: {e}"))?);
        Ok(false)
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        let (what, rest) = word(text);
        let kind = match what {
            "fail" => Kind::Fail,
            "warn" => Kind::Warn,
            "no_warn" => Kind::NoWarn,
            "info" => Kind::Info,
            "no_info" => Kind::NoInfo,
            "ordered" => {
                self.ordered = true;
                return Ok(());
            }
            "string" => {
                let Ok(Expr::String(literal)) = crate::parse::parse(rest) else {
                    return Err(format!("invalid string {rest}"));
                };
                self.string = Some(literal.value.to_vec());
                return Ok(());
            }
            "range" => {
                let (start, rest) = duration(keyword(keyword(rest, "vector")?, "from")?)?;
                let (end, rest) = duration(keyword(rest, "to")?)?;
                let (step, _) = duration(keyword(rest, "step")?)?;
                self.matrix = Some((start, step));
                (self.range.start, self.range.end) = (end, end);
                return Ok(());
            }
            other => return Err(format!("invalid expectation {other:?}")),
        };
        self.expectations.push(Expectation { kind, text: Text::parse(rest)? });
        Ok(())
    }

    fn run(&self, engine: &Engine, storage: &Storage, place: &str, report: &mut Report) {
        let before = report.failures.len();
        let mut refusal = None;
        let expr = match engine.parse(&self.expr) {
            Ok(expr) => expr,
            Err(e) => {
                report.failures.push(format!("{place}: {}: {e}", self.expr));
                return;
            }
        };
        let repeats = self.is_instant && !calls_step_dependent(&expr);
        let t = self.range.start;
        let mut variants = vec![(self.expr.clone(), self.range)];
        if repeats && self.matrix.is_none() {
            let mut pinned = expr.clone();
            pin(&mut pinned, t);
            let text = pinned.to_string();
            let times = if t == 0 { vec![-1000, 0, 1000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] };
            variants.extend(
                times.into_iter().map(|at| (text.clone(), RangeParams { start: at, end: at, step_ms: 0 })),
            );
        }
        for (text, range) in &variants {
            let mut note =
                |what: String| report.failures.push(format!("{place}: {text} at {}: {what}", range.start));
            let opts = QueryOptions::default();
            let result = if self.is_instant {
                engine.instant_query(storage, text, range.start, &opts)
            } else {
                engine.range_query(storage, text, *range, &opts)
            };
            report.queries += 1;
            if let Err(e) = &result
                && let Some(what) = e.to_string().strip_suffix(" is not supported yet")
            {
                let reason = what.rsplit(": ").next().unwrap_or(what).to_owned();
                refusal.get_or_insert(reason);
                continue;
            }
            let checked = self.check(&result, text, *range);
            let failed = checked.is_err();
            if let Err(what) = checked {
                note(what);
            }
            let selective = ["start()", "end()", "range()", "step()"].iter().any(|f| text.contains(f));
            if !failed
                && result.is_ok()
                && repeats
                && !selective
                && self.matrix.is_none()
                && self.string.is_none()
            {
                let at = range.start;
                let around = RangeParams { start: at - 60_000, end: at + 60_000, step_ms: 60_000 };
                report.queries += 1;
                let result = engine.range_query(storage, text, around, &opts);
                if let Err(what) = self.check_middle(result, at) {
                    report.failures.push(format!("{place}: {text} around {at}: {what}"));
                }
            }
        }
        if report.failures.len() > before {
            return;
        }
        match refusal {
            Some(reason) => *report.refused.entry(reason).or_default() += 1,
            None => report.passed += 1,
        }
    }

    fn check(
        &self,
        result: &Result<QueryResult, Error>,
        text: &str,
        range: RangeParams,
    ) -> Result<(), String> {
        let fail = self.expectations.iter().find(|e| e.kind == Kind::Fail);
        let result = match (result, fail) {
            (Err(e), Some(expected)) if expected.text.is_met_by(&e.to_string()) => return Ok(()),
            (Err(e), _) => return Err(format!("failed: {e}")),
            (Ok(_), Some(_)) => return Err("succeeded but should have failed".to_owned()),
            (Ok(result), None) => result,
        };
        self.check_annotations(&result.annotations, text)?;
        if self.has_histograms {
            return Err("a result with histograms was expected".to_owned());
        }
        self.compare(&result.value, range)
    }

    fn check_annotations(&self, annotations: &Annotations, text: &str) -> Result<(), String> {
        let classes = [
            (Kind::Warn, Kind::NoWarn, annotations.warnings(text, 0)),
            (Kind::Info, Kind::NoInfo, annotations.infos(text, 0)),
        ];
        for (some, none, actual) in classes {
            if self.expectations.iter().any(|e| e.kind == none) && !actual.is_empty() {
                return Err(format!("unexpected annotations {actual:?}"));
            }
            let expected: Vec<&Text> =
                self.expectations.iter().filter(|e| e.kind == some).map(|e| &e.text).collect();
            if expected.is_empty() {
                continue;
            }
            if !expected.iter().all(|e| actual.iter().any(|a| e.is_met_by(a))) {
                return Err(format!("an annotation ({some:?}) is missing among {actual:?}"));
            }
            if let Some(stray) = actual.iter().find(|a| !expected.iter().any(|e| e.is_met_by(a))) {
                return Err(format!("unexpected annotation {stray}"));
            }
        }
        Ok(())
    }

    fn compare(&self, value: &Value, range: RangeParams) -> Result<(), String> {
        match value {
            Value::Scalar(sample) => match self.scalar {
                Some(expected) if almost_equal(sample.v, expected) => Ok(()),
                expected => Err(format!("got scalar {}, expected {expected:?}", sample.v)),
            },
            Value::String { value, .. } => match &self.string {
                Some(expected) if **expected == **value => Ok(()),
                expected => {
                    Err(format!("got string {:?}, expected {expected:?}", String::from_utf8_lossy(value)))
                }
            },
            Value::Vector(samples) => {
                let float = |s: &crate::VectorSample| match s.value {
                    SampleValue::Float(v) => Ok((s.labels.clone(), v)),
                    SampleValue::Histogram(_) => Err(format!("got a histogram for {}", s.labels)),
                };
                let actual: Vec<_> = samples.iter().map(float).collect::<Result<_, _>>()?;
                self.compare_vector(&actual)
            }
            Value::Matrix(matrix) => {
                let sorted = matrix.windows(2).all(|pair| pair[0].labels < pair[1].labels);
                if !sorted {
                    return Err("the series are not sorted by labels".to_owned());
                }
                let (start, step) = self.matrix.unwrap_or((range.start, range.step_ms));
                let actual: BTreeMap<&Labels, &SampleBatch> =
                    matrix.iter().map(|s| (&s.labels, &s.samples)).collect();
                let scalar = self.scalar.map(|v| vec![(Labels::empty(), vec![SequenceValue::Float(v)])]);
                let expected = scalar.as_ref().unwrap_or(&self.series);
                for (labels, items) in expected {
                    let points: Vec<(Timestamp, f64)> = (0..)
                        .zip(items)
                        .filter_map(|(i, item)| match item {
                            SequenceValue::Float(v) => Some((time(start, step, i), *v)),
                            SequenceValue::Gap => None,
                        })
                        .collect();
                    let got =
                        actual.get(labels).ok_or_else(|| format!("no series {labels} in {actual:?}"))?;
                    let equal = got.len() == points.len()
                        && got.iter().zip(&points).all(|(s, &(t, v))| s.t == t && almost_equal(s.v, v));
                    if !equal {
                        return Err(format!("{labels}: got {got:?}, expected {points:?}"));
                    }
                }
                if expected.len() != actual.len() {
                    return Err(format!("{} series, expected {}: {actual:?}", actual.len(), expected.len()));
                }
                Ok(())
            }
        }
    }

    fn compare_vector(&self, actual: &[(Labels, f64)]) -> Result<(), String> {
        let mut list = String::new();
        for (labels, v) in actual {
            let _ = write!(list, "{labels} {v}; ");
        }
        if self.scalar.is_some() {
            return Err(format!("got a vector, expected a scalar: {list}"));
        }
        for (i, (labels, items)) in self.series.iter().enumerate() {
            let [SequenceValue::Float(expected)] = items.as_slice() else {
                return Err(format!("{labels}: an instant vector has one value per series"));
            };
            let found = actual.iter().position(|(l, _)| l == labels);
            let Some(found) = found else {
                return Err(format!("no {labels} in {list}"));
            };
            if self.ordered && found != i {
                return Err(format!("{labels} is at place {found}, expected {i}: {list}"));
            }
            if !almost_equal(actual[found].1, *expected) {
                return Err(format!("{labels}: got {}, expected {expected}", actual[found].1));
            }
        }
        if actual.len() != self.series.len() {
            return Err(format!("{} samples, expected {}: {list}", actual.len(), self.series.len()));
        }
        Ok(())
    }

    /// Compares the middle of three steps with the instant result.
    fn check_middle(&self, result: Result<QueryResult, Error>, at: Timestamp) -> Result<(), String> {
        let value = result.map_err(|e| format!("failed: {e}"))?.value;
        let Value::Matrix(matrix) = value else {
            return Err("a range query gave no matrix".to_owned());
        };
        if !matrix.windows(2).all(|pair| pair[0].labels < pair[1].labels) {
            return Err("the series are not sorted by labels".to_owned());
        }
        if self.ordered {
            return Ok(());
        }
        let middle: Vec<(Labels, f64)> = matrix
            .iter()
            .filter_map(|s| Some((s.labels.clone(), s.samples.iter().find(|s| s.t == at)?.v)))
            .collect();
        match self.scalar {
            None => self.compare_vector(&middle),
            Some(expected) if middle.first().is_some_and(|(_, v)| almost_equal(*v, expected)) => Ok(()),
            Some(expected) => Err(format!("got {middle:?}, expected {expected}")),
        }
    }
}

/// Equal up to 1e-6 of the sum of both; the staleness marker equals only itself.
fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (diff, sum) = ((a - b).abs(), a.abs() + b.abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < 1e-6 * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < 1e-6
}

fn calls_step_dependent(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => false,
        Expr::Subquery(e) => calls_step_dependent(&e.expr),
        Expr::Call(e) => STEP_DEPENDENT.contains(&e.func.name) || e.args.iter().any(calls_step_dependent),
        Expr::Aggregate(e) => {
            calls_step_dependent(&e.expr) || e.param.as_deref().is_some_and(calls_step_dependent)
        }
        Expr::Binary(e) => calls_step_dependent(&e.lhs) || calls_step_dependent(&e.rhs),
        Expr::Unary(e) => calls_step_dependent(&e.expr),
        Expr::Paren(e) => calls_step_dependent(&e.expr),
    }
}

/// Pins every outermost selector and subquery that has no `@` yet to `t`.
fn pin(expr: &mut Expr, t: Timestamp) {
    let at = Some(At::Time(t));
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(e) => e.modifiers.at = e.modifiers.at.or(at),
        Expr::Matrix(e) => e.selector.modifiers.at = e.selector.modifiers.at.or(at),
        Expr::Subquery(e) => e.modifiers.at = e.modifiers.at.or(at),
        Expr::Call(e) => e.args.iter_mut().for_each(|arg| pin(arg, t)),
        Expr::Aggregate(e) => {
            pin(&mut e.expr, t);
            if let Some(param) = &mut e.param {
                pin(param, t);
            }
        }
        Expr::Binary(e) => {
            pin(&mut e.lhs, t);
            pin(&mut e.rhs, t);
        }
        Expr::Unary(e) => pin(&mut e.expr, t),
        Expr::Paren(e) => pin(&mut e.expr, t),
    }
}
