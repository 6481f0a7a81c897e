//! One test: its input series are written as time goes by, its groups evaluated, alerts and expressions compared.
//!
//! Compat: prometheus `cmd/promtool/unittest.go`, `testGroup.test`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::rule_tests::{AlertCase, ExprCase, Test};
use config::rules::RuleKind;
use model::quote::go_quote;
use model::{Labels, Timestamp, Value};
use promql::parse::series::{self, SequenceValue};
use promql::{Engine, QueryOptions, SampleValue};

use super::memory::Store;
use super::{diff, print};
use crate::rules::alerting::AlertState;
use crate::rules::group::Group;
use crate::rules::{Context, Metrics, Options};

/// What all tests of a command share.
pub(super) struct Runner {
    pub(super) engine: Arc<Engine>,
    pub(super) rules: config::rules::Options,
    pub(super) diff: bool,
    pub(super) debug: bool,
}

/// What a test takes from its file.
pub(super) struct Surroundings<'f> {
    pub(super) name: &'f str,
    /// Between two evaluations.
    pub(super) step: Duration,
    /// Between two samples of the input.
    pub(super) input_step: Duration,
    /// Places of groups in the order of evaluation; others are first.
    pub(super) order: &'f HashMap<&'f str, usize>,
    pub(super) rule_files: &'f [PathBuf],
    pub(super) is_fuzzy: bool,
}

/// Labels and annotations of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shown {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// A sample as it is compared: a histogram by its text.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) labels: Labels,
    pub(super) value: f64,
    pub(super) histogram: String,
}

/// A series of the input and the samples that are still to come.
struct Input {
    labels: Labels,
    values: Vec<SequenceValue>,
    next: usize,
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// As Go prints a duration.
fn go_duration(ms: i64) -> String {
    config::template::time::duration_string(ms.saturating_mul(1_000_000))
}

impl Runner {
    /// What is wrong with a test.
    pub(super) fn run(
        &self,
        test: &Test,
        surroundings: &Surroundings<'_>,
        debug: &mut dyn Write,
    ) -> io::Result<Vec<String>> {
        let started = Instant::now();
        if self.debug {
            writeln!(debug, "DEBUG: Starting test {}", surroundings.name)?;
        }
        let errors = match Running::new(self, test, surroundings) {
            Ok(mut running) => running.run(debug)?,
            Err(errors) => errors,
        };
        if self.debug {
            let took = go_duration(millis(started.elapsed()));
            writeln!(debug, "DEBUG: Test {} finished, took {took}", surroundings.name)?;
        }
        Ok(errors)
    }

    fn groups(&self, test: &Test, surroundings: &Surroundings<'_>) -> Result<Vec<Group>, Vec<String>> {
        let mut groups: Vec<Group> = Vec::new();
        for file in surroundings.rule_files {
            let loaded = config::rules::load_with(file, &self.rules).map_err(|e| match e.problems() {
                [_] => vec![e.to_string()],
                problems => problems
                    .iter()
                    .map(|p| format!("{}: {}:{}: {}", file.display(), p.line, p.column, p.message))
                    .collect(),
            })?;
            for spec in loaded.groups {
                let interval = if test.interval.is_zero() { surroundings.step } else { test.interval };
                let group = Group::new(spec, interval, Duration::ZERO, false);
                // A file that two patterns name is the same file.
                groups.retain(|other| other.key != group.key);
                groups.push(group);
            }
        }
        groups.sort_by_key(|group| surroundings.order.get(group.spec.name.as_str()).copied().unwrap_or(0));
        Ok(groups)
    }
}

struct Running<'t> {
    runner: &'t Runner,
    test: &'t Test,
    surroundings: &'t Surroundings<'t>,
    store: Arc<Store>,
    ctx: Context,
    groups: Vec<Group>,
    input: Vec<Input>,
    errors: Vec<String>,
}

impl<'t> Running<'t> {
    fn new(
        runner: &'t Runner,
        test: &'t Test,
        surroundings: &'t Surroundings<'t>,
    ) -> Result<Self, Vec<String>> {
        let input = input(test).map_err(|e| vec![e])?;
        let groups = runner.groups(test, surroundings)?;
        for case in &test.alerts {
            if case.alertname.is_empty() {
                let group = if test.name.is_empty() {
                    String::new()
                } else {
                    format!(" (in TestGroup {})", test.name)
                };
                return Err(vec![format!(
                    "an item under alert_rule_test misses required attribute alertname at eval_time {}{group}",
                    model::duration::format(case.eval_time)
                )]);
            }
        }
        let store = Arc::new(Store::default());
        let ctx = Context {
            engine: Arc::clone(&runner.engine),
            storage: Arc::clone(&store) as Arc<dyn crate::rules::Storage>,
            notify: Box::new(drop),
            external_url: test.external_url.clone(),
            external_labels: arc_swap::ArcSwap::from_pointee(Labels::from_pairs(
                test.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            )),
            now: || unreachable!("BUG: a test asked for the time of day"),
            options: Options::default(),
            metrics: Metrics::default(),
            story: None,
        };
        Ok(Self { runner, test, surroundings, store, ctx, groups, input, errors: Vec::new() })
    }

    /// How far behind the start anything is asked.
    fn end(&self) -> i64 {
        let alerts = self.test.alerts.iter().map(|case| case.eval_time);
        let expressions = self.test.expressions.iter().map(|case| case.eval_time);
        millis(alerts.chain(expressions).max().unwrap_or_default())
    }

    fn run(&mut self, debug: &mut dyn Write) -> io::Result<Vec<String>> {
        let step = millis(self.surroundings.step).max(1);
        let times: BTreeSet<i64> = self.test.alerts.iter().map(|case| millis(case.eval_time)).collect();
        let mut times = times.into_iter().peekable();
        let mut at = 0;
        while at <= self.end() {
            if self.evaluate(self.test.start + at) {
                return Ok(std::mem::take(&mut self.errors));
            }
            // Between two evaluations the earlier one counts.
            while let Some(time) = times.next_if(|time| *time < at + step) {
                let cases: Vec<_> =
                    self.test.alerts.iter().filter(|case| millis(case.eval_time) == time).collect();
                for case in cases {
                    self.check_alerts(case);
                }
            }
            at += step;
        }
        for case in &self.test.expressions {
            self.check_expression(case);
        }
        if self.runner.debug {
            self.dump(debug)?;
        }
        Ok(std::mem::take(&mut self.errors))
    }

    /// Writes the input up to `ts` and evaluates all groups; whether a rule failed.
    fn evaluate(&mut self, ts: Timestamp) -> bool {
        if let Err(e) = self.write_input(ts) {
            self.errors.push(e);
            return false;
        }
        let before = self.errors.len();
        for group in &self.groups {
            group.eval(&self.ctx, ts);
            for rule in &group.rules {
                if let Some(error) = &rule.report.lock().last_error {
                    let time = go_duration(ts);
                    self.errors.push(format!("    rule: {}, time: {time}, err: {error}", rule.name()));
                }
            }
        }
        self.errors.len() > before
    }

    fn write_input(&mut self, ts: Timestamp) -> Result<(), String> {
        let step = millis(self.surroundings.input_step);
        for input in &mut self.input {
            while let Some(value) = input.values.get(input.next) {
                let t = self.test.start + step * i64::try_from(input.next).unwrap_or(i64::MAX / 2);
                if t > ts {
                    break;
                }
                input.next += 1;
                let value = match value {
                    SequenceValue::Gap => continue,
                    SequenceValue::Float(v) => Value::Float(*v),
                    SequenceValue::Histogram { histogram, .. } => Value::FloatHistogram(histogram),
                };
                self.store.put(&input.labels, t, value).map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    // === Alerts ===

    /// The alerts of a name that fire, in any group.
    fn firing(&self, alertname: &str) -> Vec<Shown> {
        let mut found = Vec::new();
        for rule in self.groups.iter().flat_map(|group| &group.rules) {
            if rule.name() != alertname || !matches!(rule.spec.kind, RuleKind::Alerting { .. }) {
                continue;
            }
            let state = rule.alerts.lock();
            let firing = state.active().filter(|(_, alert)| alert.state == AlertState::Firing);
            found.extend(firing.map(|(labels, alert)| Shown {
                labels: labels.to_map(),
                annotations: alert.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            }));
        }
        found.sort();
        found
    }

    fn check_alerts(&mut self, case: &AlertCase) {
        let got = self.firing(&case.alertname);
        let mut expected: Vec<_> = case
            .expected
            .iter()
            .map(|alert| {
                let mut labels = alert.labels.clone();
                labels.insert("alertname".to_owned(), case.alertname.clone());
                Shown { labels, annotations: alert.annotations.clone() }
            })
            .collect();
        expected.sort();
        if expected == got {
            return;
        }
        let name = if self.test.name.is_empty() {
            String::new()
        } else {
            format!("    name: {},\n", self.test.name)
        };
        let time = model::duration::format(case.eval_time);
        let head = format!("{name}    alertname: {}, time: {time}, \n", case.alertname);
        let indent = "            ";
        self.errors.push(if self.runner.diff {
            format!("{head}        diff: {}", print::indented(&diff::alerts(expected, got), indent))
        } else {
            let shown = |alerts: &[Shown]| print::indented(&print::alerts(alerts), indent);
            format!("{head}        exp:{}, \n        got:{}", shown(&expected), shown(&got))
        });
    }

    // === Expressions ===

    fn query(&self, expr: &str, t: Timestamp) -> Result<Vec<(Labels, SampleValue)>, String> {
        let options = QueryOptions::default();
        let result =
            self.runner.engine.instant_query(&*self.store, expr, t, &options).map_err(|e| e.to_string())?;
        match result.value {
            promql::Value::Vector(samples) => Ok(samples.into_iter().map(|s| (s.labels, s.value)).collect()),
            promql::Value::Scalar(sample) => Ok(vec![(Labels::empty(), SampleValue::Float(sample.v))]),
            promql::Value::Matrix(_) | promql::Value::String { .. } => {
                Err("rule result is not a vector or scalar".to_owned())
            }
        }
    }

    fn check_expression(&mut self, case: &ExprCase) {
        let expr = go_quote(case.expr.as_bytes());
        let time = model::duration::format(case.eval_time);
        let got = match self.query(&case.expr, self.test.start + millis(case.eval_time)) {
            Ok(got) => got,
            Err(e) => {
                self.errors.push(format!("    expr: {expr}, time: {time}, err: {e}"));
                return;
            }
        };
        let mut got: Vec<_> = got
            .into_iter()
            .map(|(labels, value)| match value {
                SampleValue::Float(value) => Sample { labels, value, histogram: String::new() },
                SampleValue::Histogram(h) => Sample { labels, value: 0.0, histogram: h.to_test_expression() },
            })
            .collect();
        let mut expected = Vec::new();
        for sample in &case.expected {
            match expected_sample(sample) {
                Ok(sample) => expected.push(sample),
                Err(e) => {
                    let labels = go_quote(sample.labels.as_bytes());
                    self.errors.push(format!("    expr: {expr}, time: {time}, err: labels {labels}: {e}"));
                    return;
                }
            }
        }
        expected.sort_by(|a, b| a.labels.cmp(&b.labels));
        got.sort_by(|a, b| a.labels.cmp(&b.labels));
        let is_fuzzy = self.surroundings.is_fuzzy;
        let same = |(a, b): (&Sample, &Sample)| {
            a.labels == b.labels && a.histogram == b.histogram && is_equal(a.value, b.value, is_fuzzy)
        };
        if expected.len() != got.len() || !expected.iter().zip(&got).all(same) {
            self.errors.push(format!(
                "    expr: {expr}, time: {time},\n        exp: {}\n        got: {}",
                print::samples(&expected),
                print::samples(&got)
            ));
        }
    }

    /// All samples, input and written by rules.
    fn dump(&self, debug: &mut dyn Write) -> io::Result<()> {
        // Spans have whole seconds here.
        let end = (self.end() + 1000) / 1000 * 1000;
        let expr = format!("{{__name__=~\".+\"}}[{}s]", end / 1000);
        let t = self.test.start + end;
        match self.runner.engine.instant_query(&*self.store, &expr, t, &QueryOptions::default()) {
            Err(e) => {
                writeln!(debug, "DEBUG: Failed query exec, expr: {}, err: {e}", go_quote(expr.as_bytes()))
            }
            Ok(result) => match result.value {
                promql::Value::Matrix(mut series) => {
                    series.sort_by(|a, b| a.labels.cmp(&b.labels));
                    let time = go_duration(end);
                    writeln!(debug, "DEBUG: Dump of all data (input_series and rules) at {time}:")?;
                    writeln!(debug, "{}", print::matrix(&series))
                }
                _ => Ok(()),
            },
        }
    }
}

fn input(test: &Test) -> Result<Vec<Input>, String> {
    let mut by_labels = BTreeMap::new();
    for (i, input) in test.input_series.iter().enumerate() {
        let text = format!("{} {}", input.series, input.values);
        let (labels, values) =
            // The first line of what upstream reads says how far samples are apart.
            series::parse(text.trim()).map_err(|e| print::moved_down(&e.to_string(), i + 1))?;
        // Of a series that is given twice the last line wins.
        by_labels.insert(labels, values);
    }
    Ok(by_labels.into_iter().map(|(labels, values)| Input { labels, values, next: 0 }).collect())
}

fn expected_sample(sample: &config::rule_tests::ExpectedSample) -> Result<Sample, String> {
    let labels = series::parse_metric(&sample.labels).map_err(|e| e.to_string())?;
    let mut histogram = String::new();
    if !sample.histogram.is_empty() {
        let (_, values) = series::parse(&format!("{{}} {}", sample.histogram)).map_err(|e| e.to_string())?;
        histogram = match values.as_slice() {
            [SequenceValue::Histogram { histogram, .. }] => histogram.to_test_expression(),
            [SequenceValue::Gap] => return Err("expected histogram, got _".to_owned()),
            [SequenceValue::Float(v)] => {
                return Err(format!("expected histogram, got {}", model::number::format_fixed(*v, 6)));
            }
            values => return Err(format!("expected 1 value, got {}", values.len())),
        };
    }
    Ok(Sample { labels, value: sample.value, histogram })
}

/// As the language compares: nothing equals NaN. Fuzzily a float equals its neighbours.
fn is_equal(a: f64, b: f64, is_fuzzy: bool) -> bool {
    a == b || (is_fuzzy && (a.next_down() == b || a.next_up() == b))
}
