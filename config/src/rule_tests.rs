//! Files of unit tests for rules: input series, and what alerts and expressions they should give when.
//!
//! Reads what is written; series, metrics and expressions stay text here, since a test that is wrong in
//! one of them fails alone. Strict: a field that no test has is an error.
//!
//! Compat: prometheus `cmd/promtool`, `unitTestFile` (3.14).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::Timestamp;

use crate::yaml::decode::Dialect;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, tree};
use crate::{Error, Problem};

/// One file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Patterns, relative to the file's folder.
    pub rule_files: Vec<String>,
    /// 0 when it is not said.
    pub evaluation_interval: Duration,
    pub group_eval_order: Vec<String>,
    pub fuzzy_compare: bool,
    pub tests: Vec<Test>,
}

/// Input series, and what is asked of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Test {
    pub name: String,
    /// Between two values of a series; 0 when it is not said.
    pub interval: Duration,
    pub input_series: Vec<InputSeries>,
    pub alerts: Vec<AlertCase>,
    pub expressions: Vec<ExprCase>,
    pub external_labels: BTreeMap<String, String>,
    pub external_url: String,
    /// In ms since the epoch; the first values are at this time.
    pub start: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputSeries {
    pub series: String,
    pub values: String,
}

/// The alerts of a name that should fire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertCase {
    /// Behind the start.
    pub eval_time: Duration,
    pub alertname: String,
    pub expected: Vec<ExpectedAlert>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedAlert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What an expression should give.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExprCase {
    pub expr: String,
    /// Behind the start.
    pub eval_time: Duration,
    pub expected: Vec<ExpectedSample>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedSample {
    pub labels: String,
    pub value: f64,
    /// In the notation of series; empty for a float.
    pub histogram: String,
}

/// Reads a file of tests.
///
/// # Errors
/// It cannot be read, or something in it is no test.
pub fn load(path: &Path) -> Result<File, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    parse(&text, path)
}

/// Reads the text of a file of tests; `path` is what errors call it.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path) -> Result<File, Error> {
    read(text).map_err(|issue| Error::plain(path, Problem::from(issue)))
}

fn read(text: &str) -> Result<File, Issue> {
    let mut decoder = Decoder::new(Dialect::V2);
    let document = tree::parse(text)?;
    let mut file = File::default();
    if let Some(root) = &document.root {
        decoder.fields(root, "main.unitTestFile", &mut |decoder, key, value| {
            match key {
                "rule_files" => decoder.set(value, &mut file.rule_files)?,
                "evaluation_interval" => decoder.set(value, &mut file.evaluation_interval)?,
                "group_eval_order" => decoder.set(value, &mut file.group_eval_order)?,
                "fuzzy_compare" => decoder.set(value, &mut file.fuzzy_compare)?,
                "tests" => list(decoder, value, "[]main.testGroup", &mut file.tests)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
    }
    decoder.finish()?;
    Ok(file)
}

/// A list whose elements are read one by one; those of the wrong type are noted and left out.
fn list<T: Decode>(decoder: &mut Decoder, node: &Node, go_type: &str, out: &mut Vec<T>) -> Result<(), Issue> {
    out.clear();
    decoder.items(node, go_type, &mut |decoder, item| {
        out.extend(T::decode(decoder, item)?);
        Ok(())
    })?;
    Ok(())
}

impl Decode for Test {
    const GO_TYPE: &'static str = "main.testGroup";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut test = Self::default();
        let ok = decoder.fields(node, Self::GO_TYPE, &mut |decoder, key, value| {
            match key {
                "name" => decoder.set(value, &mut test.name)?,
                "interval" => decoder.set(value, &mut test.interval)?,
                "input_series" => list(decoder, value, "[]main.series", &mut test.input_series)?,
                "alert_rule_test" => list(decoder, value, "[]main.alertTestCase", &mut test.alerts)?,
                "promql_expr_test" => list(decoder, value, "[]main.promqlTestCase", &mut test.expressions)?,
                "external_labels" => decoder.set(value, &mut test.external_labels)?,
                "external_url" => decoder.set(value, &mut test.external_url)?,
                "start_timestamp" => {
                    let mut text = String::new();
                    decoder.set(value, &mut text)?;
                    if !value.is_null() {
                        test.start = timestamp(&text).map_err(|message| Issue::new(value.pos, message))?;
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(test))
    }
}

impl Decode for InputSeries {
    const GO_TYPE: &'static str = "main.series";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut series = Self::default();
        let ok = decoder.fields(node, Self::GO_TYPE, &mut |decoder, key, value| {
            match key {
                "series" => decoder.set(value, &mut series.series)?,
                "values" => decoder.set(value, &mut series.values)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(series))
    }
}

impl Decode for AlertCase {
    const GO_TYPE: &'static str = "main.alertTestCase";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut case = Self::default();
        let ok = decoder.fields(node, Self::GO_TYPE, &mut |decoder, key, value| {
            match key {
                "eval_time" => decoder.set(value, &mut case.eval_time)?,
                "alertname" => decoder.set(value, &mut case.alertname)?,
                "exp_alerts" => list(decoder, value, "[]main.alert", &mut case.expected)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(case))
    }
}

impl Decode for ExpectedAlert {
    const GO_TYPE: &'static str = "main.alert";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut alert = Self::default();
        let ok = decoder.fields(node, Self::GO_TYPE, &mut |decoder, key, value| {
            match key {
                "exp_labels" => decoder.set(value, &mut alert.labels)?,
                "exp_annotations" => decoder.set(value, &mut alert.annotations)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(alert))
    }
}

impl Decode for ExprCase {
    const GO_TYPE: &'static str = "main.promqlTestCase";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut case = Self::default();
        let ok = decoder.fields(node, Self::GO_TYPE, &mut |decoder, key, value| {
            match key {
                "expr" => decoder.set(value, &mut case.expr)?,
                "eval_time" => decoder.set(value, &mut case.eval_time)?,
                "exp_samples" => list(decoder, value, "[]main.sample", &mut case.expected)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(case))
    }
}

impl Decode for ExpectedSample {
    const GO_TYPE: &'static str = "main.sample";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut sample = Self::default();
        let ok = decoder.fields(node, Self::GO_TYPE, &mut |decoder, key, value| {
            match key {
                "labels" => decoder.set(value, &mut sample.labels)?,
                "value" => decoder.set(value, &mut sample.value)?,
                "histogram" => decoder.set(value, &mut sample.histogram)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(sample))
    }
}

/// Seconds since the epoch or RFC 3339, in ms.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = model::number::parse_float(text.as_bytes())
        && seconds.abs() < 1e12
    {
        #[expect(clippy::cast_possible_truncation, reason = "within range")]
        return Ok((seconds * 1000.0).round() as i64);
    }
    let time = text.parse::<jiff::Timestamp>();
    let fail = |_| format!("cannot parse {} to a valid timestamp", model::quote::go_quote(text.as_bytes()));
    time.map(jiff::Timestamp::as_millisecond).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        let text = "rule_files: [a.yml, 'b/*.yml']\nevaluation_interval: 30s\ngroup_eval_order: [g]\nfuzzy_compare: true\ntests:\n- name: t\n  interval: 1m\n  start_timestamp: 2024-01-01T00:00:00Z\n  external_labels: {a: b}\n  external_url: http://x\n  input_series:\n  - series: up{a=\"b\"}\n    values: 0+1x3\n  alert_rule_test:\n  - eval_time: 5m\n    alertname: A\n    exp_alerts:\n    - exp_labels: {x: y}\n      exp_annotations: {s: t}\n  promql_expr_test:\n  - expr: up\n    eval_time: 90s\n    exp_samples:\n    - labels: up\n      value: 2e3\n    - histogram: '{{count:1}}'\n- {start_timestamp: 12.5}\n";
        let file = parse(text, Path::new("t.yml")).expect("it is valid");
        assert_eq!(file.rule_files, ["a.yml", "b/*.yml"]);
        assert_eq!((file.evaluation_interval, file.fuzzy_compare), (Duration::from_secs(30), true));
        let [test, second] = file.tests.as_slice() else { panic!("two tests") };
        assert_eq!((test.name.as_str(), test.start, second.start), ("t", 1_704_067_200_000, 12_500));
        assert_eq!(test.alerts[0].expected[0].annotations["s"], "t");
        assert_eq!(test.expressions[0].expected[0].value, 2000.0);
        assert_eq!(test.expressions[0].expected[1].histogram, "{{count:1}}");
        assert_eq!(test.input_series[0].values, "0+1x3");
    }

    #[test]
    fn strangers_are_named_with_their_place() {
        let fail = |text: &str| parse(text, Path::new("t.yml")).expect_err("it is wrong").to_string();
        assert_eq!(
            fail("tests:\n- nmae: x\n"),
            "t.yml:2:3: yaml: unmarshal errors:\n  line 2: field nmae not found in type main.testGroup"
        );
        assert_eq!(
            fail("tests:\n- start_timestamp: soon\n"),
            "t.yml:2:20: cannot parse \"soon\" to a valid timestamp"
        );
        assert!(fail("tests: [{interval: x}]").contains("not a valid duration string: \"x\""));
    }
}
