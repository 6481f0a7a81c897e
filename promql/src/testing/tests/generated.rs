//! The engine against the slow reference on generated series and expressions, bit for bit: results, texts of errors
//! and annotations; and against itself with other threads, morsels and passes.
//!
//! A failure prints its seed and the smallest case that was found. `FERULA_SEED` runs one seed, `FERULA_CASES` so
//! many, `FERULA_SECONDS` as many as fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use model::{AnyHistogram, FloatHistogram, Labels};

use super::super::generate::{Generator, Random, Series, Tree, data, store};
use super::super::reference::{Answer, Reference, Scope, Val, read_all};
use crate::engine::{
    Engine, EngineOptions, Error, Features, QueryOptions, QueryResult, RangeParams, SampleValue, Value,
};
use crate::parse;
use crate::plan::passes::Passes;

const CASES: u64 = 100;

/// Making a case smaller takes long: where much fails, the first few will do.
const SHRUNK_MAX: usize = 8;

/// A point that can be compared: bits, with all NaN alike.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Point {
    Float(u64),
    Histogram(String),
}

fn bits(v: f64) -> u64 {
    if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() }
}

fn float(v: f64) -> Point {
    Point::Float(bits(v))
}

fn histogram(h: &FloatHistogram) -> Point {
    // Bounds of other schemas mean nothing, spans without buckets neither.
    let spans = |spans: &[model::histogram::Span]| -> Vec<(i64, u32)> {
        let mut offset = 0;
        let mut out = Vec::new();
        for span in spans {
            offset += i64::from(span.offset);
            if span.length > 0 {
                out.push((std::mem::take(&mut offset), span.length));
            }
        }
        out
    };
    let all = |vs: &[f64]| vs.iter().map(|v| bits(*v)).collect::<Vec<_>>();
    Point::Histogram(format!(
        "{} {:?} count {:x} sum {:x} zero {:x}/{:x} {:?} {:x?} {:?} {:x?} {:?}",
        h.to_test_expression(),
        h.counter_reset_hint,
        bits(h.count),
        bits(h.sum),
        bits(h.zero_count),
        bits(h.zero_threshold),
        spans(&h.positive_spans),
        all(&h.positive_buckets),
        spans(&h.negative_spans),
        all(&h.negative_buckets),
        h.custom_values
    ))
}

type Points = BTreeMap<(Labels, i64), Point>;

/// What came of a query: points and annotations, or the text of the error.
type Outcome = Result<(Points, BTreeSet<String>), String>;

fn of_engine(result: Result<QueryResult, Error>) -> Outcome {
    let result = result.map_err(|e| e.to_string())?;
    let mut points = Points::new();
    let mut add = |labels: &Labels, t: i64, point: Point| {
        let old = points.insert((labels.clone(), t), point);
        assert!(old.is_none(), "two samples of {labels} at {t}");
    };
    match &result.value {
        Value::Scalar(sample) => add(&Labels::empty(), sample.t, float(sample.v)),
        Value::String { .. } => {}
        Value::Vector(samples) => {
            for s in samples {
                match &s.value {
                    SampleValue::Float(v) => add(&s.labels, s.t, float(*v)),
                    SampleValue::Histogram(h) => add(&s.labels, s.t, histogram(h)),
                }
            }
        }
        Value::Matrix(matrix) => {
            for series in matrix {
                series.samples.iter().for_each(|s| add(&series.labels, s.t, float(s.v)));
                for s in &series.samples.histograms {
                    let AnyHistogram::Float(h) = &s.histogram else {
                        panic!("a result has float histograms")
                    };
                    add(&series.labels, s.t, histogram(h));
                }
            }
        }
    }
    let all = result.annotations.warnings("x", 0).into_iter().chain(result.annotations.infos("x", 0));
    // Positions are compared in scripts, and so is the end of the long one.
    let text = |text: String| {
        let text = text.rsplit_once(" (").map_or(text.clone(), |(text, _)| text.to_owned());
        text.split_once(", with a max diff").map_or(text.clone(), |(text, _)| text.to_owned())
    };
    Ok((points, all.map(text).collect()))
}

fn of_reference(reference: &Reference, expr: &parse::ast::Expr) -> Outcome {
    let answer = reference.query(expr)?;
    let mut points = Points::new();
    match answer {
        Answer::Scalars(all) => {
            points.extend(all.into_iter().map(|(t, v)| ((Labels::empty(), t), float(v))));
        }
        Answer::Rows(rows) => {
            for row in rows {
                for (t, v) in row.points {
                    let point = match v {
                        Val::F(v) => float(v),
                        Val::H(h) => histogram(&h),
                    };
                    let old = points.insert((row.labels.clone(), t), point);
                    assert!(old.is_none(), "two samples of {} at {t}", row.labels);
                }
            }
        }
        Answer::Text => {}
    }
    Ok((points, reference.annotations()))
}

fn shown(point: Option<&Point>) -> String {
    match point {
        None => "nothing".to_owned(),
        Some(Point::Float(v)) => format!("{:?}", f64::from_bits(*v)),
        Some(Point::Histogram(text)) => text.clone(),
    }
}

/// The first difference, in words.
fn difference(got: &Outcome, expected: &Outcome) -> Option<String> {
    match (got, expected) {
        (Err(got), Err(expected)) if got == expected => None,
        (Err(got), Err(expected)) => Some(format!("failed with\n  {got}\nexpected\n  {expected}")),
        (Err(got), Ok(_)) => Some(format!("failed: {got}")),
        (Ok(_), Err(expected)) => Some(format!("succeeded, expected {expected}")),
        (Ok((got, got_notes)), Ok((expected, notes))) => {
            let keys: BTreeSet<_> = got.keys().chain(expected.keys()).collect();
            for key in keys {
                let (a, b) = (got.get(key), expected.get(key));
                if a != b {
                    return Some(format!(
                        "{} at {}: got\n  {}\nexpected\n  {}",
                        key.0,
                        key.1,
                        shown(a),
                        shown(b)
                    ));
                }
            }
            (got_notes != notes).then(|| format!("annotations\n  {got_notes:#?}\nexpected\n  {notes:#?}"))
        }
    }
}

/// A case: what is stored, what is asked, when and how.
#[derive(Clone)]
struct Case {
    data: Vec<Series>,
    tree: Tree,
    range: RangeParams,
    features: Features,
}

impl Case {
    fn of(seed: u64) -> Vec<Self> {
        let mut random = Random::new(seed);
        let data = data(&mut random);
        let depth = 1 + random.below(4);
        let mut generator = Generator { random: &mut random };
        let tree =
            if seed.is_multiple_of(20) { generator.scalar(depth) } else { generator.vector(depth, false) };
        let features = Features {
            parser: parse::Options::ALL,
            delayed_name_removal: random.once_in(2),
            start_timestamps: random.once_in(2),
            ..Features::default()
        };
        let ranges = [
            RangeParams { start: 500_000, end: 500_000, step_ms: 0 },
            RangeParams { start: 100_000, end: 1_300_000, step_ms: 23_000 },
            RangeParams { start: -50_000, end: 900_000, step_ms: 430_000 },
        ];
        let case = |range| Self { data: data.clone(), tree: tree.clone(), range, features };
        ranges.into_iter().map(case).collect()
    }

    fn options(&self) -> EngineOptions {
        EngineOptions { threads: 1, features: self.features, ..EngineOptions::default() }
    }

    fn run(&self, engine: &Engine) -> Outcome {
        let (storage, text, opts) = (store(&self.data), self.tree.to_string(), QueryOptions::default());
        of_engine(if self.range.step_ms == 0 {
            engine.instant_query(&storage, &text, self.range.start, &opts)
        } else {
            engine.range_query(&storage, &text, self.range, &opts)
        })
    }

    fn expected(&self) -> Outcome {
        let text = self.tree.to_string();
        let expr =
            parse::Parser::new(parse::Options::ALL).parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let scope = Scope {
            lookback: 300_000,
            delayed: self.features.delayed_name_removal,
            start_timestamps: self.features.start_timestamps,
            default_step: 60_000,
            start: self.range.start,
            end: self.range.end,
            step: self.range.step_ms,
        };
        of_reference(&Reference::new(read_all(&store(&self.data)), scope), &expr)
    }

    fn fails(&self) -> Option<String> {
        difference(&self.run(&Engine::new(self.options())), &self.expected())
    }

    /// The smallest case that fails in some way.
    fn shrunk(mut self) -> Self {
        'again: loop {
            for tree in self.tree.smaller() {
                let smaller = Self { tree, ..self.clone() };
                if smaller.fails().is_some() {
                    self = smaller;
                    continue 'again;
                }
            }
            for i in 0..self.data.len() {
                let mut smaller = self.clone();
                smaller.data.remove(i);
                if smaller.fails().is_some() {
                    self = smaller;
                    continue 'again;
                }
            }
            for i in 0..self.data.len() {
                let n = self.data[i].samples.len();
                for part in [0..n / 2, n / 2..n, 0..1, n.saturating_sub(1)..n] {
                    let mut smaller = self.clone();
                    smaller.data[i].samples.drain(part.start.min(n)..part.end.min(n));
                    if smaller.data[i].samples.len() < n && smaller.fails().is_some() {
                        self = smaller;
                        continue 'again;
                    }
                }
            }
            return self;
        }
    }

    fn told(&self) -> String {
        use super::super::generate::Sample;
        let mut out = format!("{}\n{:?} {:?}\n", self.tree, self.range, self.features);
        for series in &self.data {
            let samples: Vec<String> = series
                .samples
                .iter()
                .map(|(st, t, sample)| {
                    let v = match sample {
                        Sample::Float(v) => format!("{v}"),
                        Sample::Histogram(h) => h.to_test_expression(),
                    };
                    if *st == 0 { format!("{t}: {v}") } else { format!("{t} (since {st}): {v}") }
                })
                .collect();
            let _ = writeln!(out, "  {} [{}]", series.labels, samples.join(", "));
        }
        out
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// Runs as many seeds as are asked for; what fails is made small and printed, and does not end the run.
#[test]
fn generated_expressions_agree_with_the_reference_bit_for_bit() {
    let started = Instant::now();
    let seconds = number("FERULA_SECONDS").map(Duration::from_secs);
    let seeds: Box<dyn Iterator<Item = u64>> = match (number("FERULA_SEED"), seconds) {
        (Some(seed), None) => Box::new(seed..=seed),
        (seed, Some(time)) => Box::new((seed.unwrap_or(0)..).take_while(move |_| started.elapsed() < time)),
        _ => Box::new(0..number("FERULA_CASES").unwrap_or(CASES)),
    };
    let (mut cases, mut points, mut errors, mut failures) = (0, 0, 0, Vec::new());
    for seed in seeds {
        for case in Case::of(seed) {
            cases += 1;
            let expected = case.expected();
            match &expected {
                Ok((all, _)) => points += all.len(),
                Err(_) => errors += 1,
            }
            let got = case.run(&Engine::new(case.options()));
            if difference(&got, &expected).is_some() {
                let small = if failures.len() < SHRUNK_MAX { case.shrunk() } else { case };
                let what = small.fails().unwrap_or_default();
                println!("FAILED seed {seed}: {what}\n{}", small.told());
                failures.push(seed);
                break;
            }
            if let Some(what) = variants(&case, seed).iter().find_map(|(name, engine)| {
                difference(&case.run(engine), &got).map(|what| format!("{name}: {what}"))
            }) {
                println!("FAILED seed {seed}: {what}\n{}", case.told());
                failures.push(seed);
                break;
            }
        }
    }
    println!("{cases} queries, {points} points compared, {errors} queries refused by both");
    assert!(failures.is_empty(), "{} seeds failed: {failures:?}", failures.len());
    assert!(points > 0, "nothing was compared");
}

/// Other ways to the same result, some of them for each seed.
fn variants(case: &Case, seed: u64) -> Vec<(String, Engine)> {
    let options = |threads, passes| EngineOptions { threads, passes, ..case.options() };
    let mut all: Vec<(String, Engine)> = Vec::new();
    let (threads, morsel) = [(1, 1), (2, 3), (3, 2), (2, 1)][usize::try_from(seed % 4).expect("small")];
    let engine = Engine::new(options(threads, Passes::ALL)).with_morsels_of(morsel);
    all.push((format!("{threads} threads, morsels of {morsel}"), engine));
    let passes: Vec<_> = Passes::each_left_out().chain([("all", Passes::NONE)]).collect();
    let (name, chosen) = passes[usize::try_from(seed).expect("small") % passes.len()];
    all.push((format!("without pass {name}"), Engine::new(options(1, chosen))));
    all
}
