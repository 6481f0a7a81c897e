//! The command on files of ours; beside promtool it runs in the integration tests.

use std::ffi::OsString;
use std::path::Path;

use super::{Streams, run_with};

/// Exit code, standard output and errors of `ferula test ARGS`.
fn run(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("test").chain(args.iter().copied()).map(OsString::from);
    let code = run_with(args, &mut Streams { out: &mut out, err: &mut err });
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

const RULES: &str = "groups:
- name: g
  rules:
  - record: job:up:sum
    expr: sum by (job) (up)
  - alert: Down
    expr: up == 0
    for: 2m
    labels: {severity: page}
    annotations: {summary: '{{ $labels.instance }} of {{ $externalLabels.region }} {{ $externalURL }} is down ({{ $value }})'}
";

fn folder(tests: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    let path = dir.path().join("tests.yml");
    std::fs::write(&path, tests).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

const INPUT: &str = "rule_files: [rules.yml]
evaluation_interval: 1m
tests:
- name: first
  interval: 1m
  external_labels: {region: eu}
  external_url: http://x
  input_series:
  - {series: 'up{job=\"a\", instance=\"i\"}', values: '1 0 0 0 1x3'}
  - {series: 'up{job=\"a\", instance=\"j\"}', values: '1+1x6'}
  - {series: 'h', values: '{{count:1 sum:2 buckets:[1]}}'}
";

#[test]
fn what_holds_succeeds() {
    let (_dir, path) = folder(&format!(
        "{INPUT}  alert_rule_test:
  - {{eval_time: 2m, alertname: Down}}
  - eval_time: 3m30s
    alertname: Down
    exp_alerts:
    - exp_labels: {{job: a, instance: i, severity: page}}
      exp_annotations: {{summary: 'i of eu http://x is down (0)'}}
  promql_expr_test:
  - {{expr: 'job:up:sum', eval_time: 3m, exp_samples: [{{labels: 'job:up:sum{{job=\"a\"}}', value: 4}}]}}
  - {{expr: 'h', eval_time: 0m, exp_samples: [{{labels: h, histogram: '{{{{count:1 sum:2 buckets:[1]}}}}'}}]}}
  - {{expr: 'ALERTS{{alertstate=\"firing\"}}', eval_time: 3m, exp_samples: [{{labels: 'ALERTS{{alertname=\"Down\", alertstate=\"firing\", instance=\"i\", job=\"a\", severity=\"page\"}}', value: 1}}]}}
  - {{expr: '1 + 1', eval_time: 3m, exp_samples: [{{labels: '{{}}', value: 2}}]}}
"
    ));
    assert_eq!(run(&["rules", &path]), (0, "  SUCCESS\n\n".to_owned(), String::new()));
}

#[test]
fn what_does_not_hold_is_shown() {
    let (_dir, path) = folder(&format!(
        "{INPUT}  alert_rule_test:
  - {{eval_time: 3m, alertname: Down, exp_alerts: [{{exp_labels: {{job: b}}}}]}}
  promql_expr_test:
  - {{expr: 'up', eval_time: 0m, exp_samples: [{{labels: up, value: 1e9}}]}}
  - {{expr: 'up +', eval_time: 0m}}
  - {{expr: 'up[1m]', eval_time: 0m}}
- promql_expr_test:
  - {{expr: 'vector(3)', eval_time: 0m}}
"
    ));
    let (code, out, err) = run(&["rules", &path]);
    assert_eq!((code, out.as_str()), (1, "\n\n\n\n\n\n"));
    assert_eq!(
        err,
        format!(
            "  FAILED: {path}
    name: first,
    alertname: Down, time: 3m, 
        exp:[
            0:
              Labels:{{alertname=\"Down\", job=\"b\"}}
              Annotations:{{}}
            ], 
        got:[
            0:
              Labels:{{alertname=\"Down\", instance=\"i\", job=\"a\", severity=\"page\"}}
              Annotations:{{summary=\"i of eu http://x is down (0)\"}}
            ]
    expr: \"up\", time: 0s,
        exp: {{__name__=\"up\"}} 1E+09
        got: {{__name__=\"up\", instance=\"i\", job=\"a\"}} 1E+00, {{__name__=\"up\", instance=\"j\", job=\"a\"}} 1E+00
    expr: \"up +\", time: 0s, err: 1:5: parse error: unexpected end of input
    expr: \"up[1m]\", time: 0s, err: rule result is not a vector or scalar
    expr: \"vector(3)\", time: 0s,
        exp: nil
        got: {{}} 3E+00
"
        )
    );
    // Only the second test has no name.
    let (code, out, err) = run(&["rules", "--run=^$", &path]);
    assert_eq!((code, out.as_str(), err.matches("expr:").count()), (1, "\n\n", 1));
    assert_eq!(run(&["rules", "--run=nothing", &path]).0, 0);
    let (code, _, err) = run(&["rules", "--run=(", &path]);
    assert_eq!((code, err.contains("error parsing regexp")), (1, true));
}

#[test]
fn differences_are_coloured() {
    let (_dir, path) = folder(&format!(
        "{INPUT}  alert_rule_test:
  - {{eval_time: 3m, alertname: Down, exp_alerts: [{{exp_labels: {{job: b, x: y}}}}]}}
"
    ));
    let (code, _, err) = run(&["rules", "--diff", &path]);
    assert_eq!(code, 1);
    assert!(err.contains("\"job\": \u{1b}[0;33m\"b\" => \"a\"\u{1b}[0m,\n"), "{err}");
    assert!(err.contains("\u{1b}[0;31m\"x\": \"y\"\u{1b}[0m"), "{err}");
    assert!(err.contains("\u{1b}[0;32m\"instance\": \"i\"\u{1b}[0m,\n"), "{err}");
}

#[test]
fn files_that_are_no_tests_are_refused() {
    let fail = |text: &str| {
        let (_dir, path) = folder(text);
        let (code, out, err) = run(&["rules", &path]);
        assert_eq!((code, out.as_str()), (1, "\n\n"), "{text}");
        err.replace(&path, "FILE").replace(&Path::new(&path).parent().unwrap().display().to_string(), "DIR")
    };
    assert_eq!(
        fail("tests:\n- {wrong: 1}\n"),
        "  FAILED: FILE\nFILE:2:4: yaml: unmarshal errors:\n  line 2: field wrong not found in type main.testGroup\n"
    );
    assert_eq!(
        fail("group_eval_order: [a, b, a]\n"),
        "  FAILED: FILE\ngroup name repeated in evaluation order: a\n"
    );
    assert_eq!(
        fail("tests:\n- {name: t, alert_rule_test: [{eval_time: 90s}]}\n"),
        "  FAILED: FILE\nan item under alert_rule_test misses required attribute alertname at eval_time 1m30s (in TestGroup t)\n"
    );
    assert_eq!(
        fail("rule_files: [none*.yml]\ntests: [{input_series: [{series: 'a{', values: '1'}]}]\n"),
        "  WARNING: no file match pattern DIR/none*.yml\n  FAILED: FILE\n2:4: parse error: unexpected character inside braces: '1'\n"
    );
    assert!(run(&["rules", "/no/such"]).2.contains("path '/no/such' does not exist"));
    assert_eq!(run(&["rules"]).0, 1);
}

#[test]
fn results_are_written_as_junit() {
    let (dir, path) = folder(&format!(
        "{INPUT}  promql_expr_test:
  - {{expr: 'vector(1)', eval_time: 0m}}
- promql_expr_test:
  - {{expr: 'vector(3)', eval_time: 0m, exp_samples: [{{labels: '{{}}', value: 3}}]}}
"
    ));
    let broken = dir.path().join("broken.yml").display().to_string();
    std::fs::write(&broken, "tests: 1").unwrap();
    let xml = dir.path().join("out.xml").display().to_string();
    assert_eq!(run(&["--junit", &xml, "rules", &path, &broken]).0, 1);
    let text = std::fs::read_to_string(&xml).unwrap();
    let time = text.split("timestamp=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(time.len(), 19, "{time}");
    assert_eq!(
        text.replace(time, "TIME").replace(&path, "FILE").replace(&broken, "BROKEN"),
        "<testsuites><testsuite name=\"FILE\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" timestamp=\"TIME\">\
         <testcase name=\"first\"><failure>    expr: &#34;vector(1)&#34;, time: 0s,&#xA;        exp: nil&#xA;        got: {} 1E+00</failure></testcase>\
         <testcase name=\"unnamed#1\"></testcase></testsuite>\
         <testsuite name=\"BROKEN\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\" timestamp=\"\">\
         <testcase name=\"unknown\"><error>BROKEN:1:8: yaml: unmarshal errors:&#xA;  line 1: cannot unmarshal !!int `1` into []main.testGroup</error></testcase></testsuite></testsuites>"
    );
}

#[test]
fn debugging_shows_all_samples() {
    let (_dir, path) =
        folder(&format!("{INPUT}  promql_expr_test: [{{expr: 'absent(up)', eval_time: 1m}}]\n"));
    let (code, _, err) = run(&["rules", "--debug", &path]);
    assert_eq!(code, 0, "{err}");
    let (head, rest) = err.split_once("at 1m1s:\n").unwrap();
    assert_eq!(head, "DEBUG: Starting test first\nDEBUG: Dump of all data (input_series and rules) ");
    assert!(rest.contains("{__name__=\"job:up:sum\", job=\"a\"} =>\n2 @[60000]\n"), "{rest}");
    assert!(rest.contains("DEBUG: Test first finished, took "), "{rest}");
}
