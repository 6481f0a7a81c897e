//! `ferula test rules` beside promtool: the same files, the same output, exit codes and `JUnit` reports.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// What a run leaves, without what cannot be the same.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
    junit: String,
}

fn run(program: &Path, folder: &Path, args: &[&str]) -> Outcome {
    let report = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(program)
        .current_dir(folder)
        .args(["test", "rules", "--junit"])
        .arg(report.path())
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome {
        code: output.status.code(),
        out: text(&output.stdout),
        err: comparable(&text(&output.stderr)),
        junit: junit(&std::fs::read_to_string(report.path()).unwrap()),
    }
}

/// Takes away the places that only our errors name, and how long tests took.
fn comparable(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("  FAILED: ") {
            return "  FAILED:".to_owned();
        }
        let line = line.split_once(" finished, took ").map_or(line, |(head, _)| head);
        without_place(line)
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// `file.yml:1:2: yaml: …` as `yaml: …`, and the same for the times of tests.
fn without_place(line: &str) -> String {
    for word in ["yaml: ", "cannot parse ", "not a valid duration string: "] {
        if let Some((place, _)) = line.split_once(word)
            && place.contains(".yml:")
            && place.ends_with(": ")
            && place.matches(':').count() == 3
        {
            return line[place.len()..].to_owned();
        }
    }
    line.to_owned()
}

/// A report without times of day, and without the places that only our errors name.
fn junit(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split("timestamp=\"").enumerate() {
        if i > 0 {
            out.push_str("timestamp=");
        }
        out.push_str(if i > 0 { part.split_once('"').unwrap().1 } else { part });
    }
    let mut parts = out.split("<error>");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| format!("{all}<error>{}", without_place(part)))
}

/// Files of tests that show what is not in upstream's: every kind of failure, order, fuzziness, histograms.
const RULES: &str = r#"groups:
- name: second
  rules:
  - {record: b, expr: a + 1}
- name: first
  rules:
  - {record: a, expr: sum(m)}
  - alert: High
    expr: m > 2
    for: 1m
    keep_firing_for: 2m
    labels: {severity: '{{ if gt $value 5.0 }}page{{ else }}warn{{ end }}'}
    annotations:
      summary: '{{ $labels.instance }}: {{ $value | humanize }} {{ $externalLabels.region }} {{ $externalURL }}'
      query: '{{ with query "m" | sortByLabel "instance" }}{{ . | first | value }}{{ end }}'
  - {alert: Broken, expr: m > 2, annotations: {x: '{{ $labels.a.b }}'}}
- name: third
  rules:
  - {alert: High, expr: vector(1), labels: {from: third}}
"#;

const INPUT: &str = r#"  interval: 1m
  external_labels: {region: eu}
  external_url: http://x
  input_series:
  - {series: 'm{instance="i"}', values: '0+1x10'}
  - {series: 'm{instance="j"}', values: '5 _x2 stale 1 NaN Inf -Inf 1e3 0-0.1x2'}
"#;

fn cases() -> Vec<(&'static str, String)> {
    let file =
        |head: &str, body: &str| format!("rule_files: [rules.yml]\n{head}tests:\n- name: t\n{INPUT}{body}");
    vec![
        (
            "alerts.yml",
            file(
                "group_eval_order: [first, second]\n",
                r#"  alert_rule_test:
  - {eval_time: 0m, alertname: High, exp_alerts: [{exp_labels: {from: third}}]}
  - {eval_time: 5m, alertname: High}
  - {eval_time: 6m30s, alertname: High, exp_alerts: [{exp_labels: {severity: warn}, exp_annotations: {a: "x\"y"}}, {}]}
  - {eval_time: 9m, alertname: Nope}
  - {eval_time: 9m, alertname: Nope2, exp_alerts: [{exp_labels: {a: '', "b.c": d}}]}
  - {eval_time: 4m, alertname: Broken}
"#,
            ),
        ),
        (
            "expressions.yml",
            file(
                "group_eval_order: [first, second]\n",
                r#"  promql_expr_test:
  - {expr: m, eval_time: 6m}
  - {expr: b, eval_time: 1m, exp_samples: [{labels: b, value: 2}]}
  - {expr: b, eval_time: 1m30s, exp_samples: [{labels: 'b', value: 2}, {labels: 'c{x="y"}'}]}
  - {expr: '1 / 3', eval_time: 0m, exp_samples: [{labels: '{}', value: 0.3333333333333333}]}
  - {expr: 'm +', eval_time: 0m}
  - {expr: 'm[5m]', eval_time: 0m}
  - {expr: '"text"', eval_time: 0m}
  - {expr: 'vector(NaN)', eval_time: 0m, exp_samples: [{labels: '{}', value: .nan}]}
  - {expr: 'vector(Inf)', eval_time: 0m, exp_samples: [{labels: '{}', value: .inf}]}
  - {expr: 'm', eval_time: 0m, exp_samples: [{labels: 'm{', value: 1}]}
  - {expr: 'm', eval_time: 0m, exp_samples: [{labels: 'm', histogram: '1'}]}
  - {expr: 'm', eval_time: 0m, exp_samples: [{labels: 'm', histogram: '{{count:1}} {{count:2}}'}]}
  - {expr: 'm', eval_time: 0m, exp_samples: [{labels: 'm', histogram: '_'}]}
  - {expr: 'count_over_time(m[10m:])', eval_time: 10m}
  - {expr: 'm{instance="i"} > bool 1e-7', eval_time: 2m}
  - {expr: 'time()', eval_time: 90s}
  - {expr: 'label_replace(vector(1e21), "é", "ü\n", "", "")', eval_time: 90s}
"#,
            ),
        ),
        (
            "unordered.yml",
            file("group_eval_order: [second, first]\n", "  promql_expr_test:\n  - {expr: b, eval_time: 0m}\n"),
        ),
        (
            "steps.yml",
            file(
                "evaluation_interval: 90s\nfuzzy_compare: true\ngroup_eval_order: [first, second]\n",
                "  start_timestamp: 2024-02-29T12:00:00Z\n  alert_rule_test:\n  - {eval_time: 7m, alertname: High}\n  promql_expr_test:\n  - {expr: 'ALERTS_FOR_STATE{from=\"third\"}', eval_time: 5m}\n  - {expr: 'timestamp(m)', eval_time: 5m, exp_samples: [{labels: x, value: 1}]}\n",
            ),
        ),
        (
            "histograms.yml",
            r"tests:
- input_series:
  - {series: h, values: '{{schema:0 sum:1 count:2 buckets:[1 1]}}+{{sum:1 count:1 buckets:[1]}}x3 stale _ {{schema:-53 sum:1 count:1 custom_values:[1 2] buckets:[1 0 0] counter_reset_hint:gauge}}'}
  promql_expr_test:
  - {expr: h, eval_time: 0m}
  - {expr: h, eval_time: 3m}
  - {expr: h, eval_time: 4m}
  - {expr: h, eval_time: 6m}
  - {expr: 'rate(h[3m])', eval_time: 3m}
  - {expr: 'histogram_quantile(0.5, h)', eval_time: 2m}
  - {expr: h, eval_time: 0m, exp_samples: [{labels: h, histogram: '{{schema:0 sum:1 count:2 buckets:[1 1]}}'}]}
  - {expr: h, eval_time: 0m, exp_samples: [{labels: h, value: 3, histogram: '{{schema:0 sum:1 count:2 buckets:[1 1]}}'}]}
"
            .to_owned(),
        ),
        ("order.yml", "group_eval_order: [a, b, a]\n".to_owned()),
        ("unknown.yml", "tests:\n- {nmae: x, input_series: [{serie: y}]}\nfoo: 1\n".to_owned()),
        ("types.yml", "evaluation_interval: soon\ntests: 1\n".to_owned()),
        ("broken.yml", "tests: [\n".to_owned()),
        ("empty.yml", String::new()),
        ("start.yml", "tests:\n- {start_timestamp: soon}\n".to_owned()),
        ("nameless.yml", "tests:\n- {name: t, alert_rule_test: [{eval_time: 90s}]}\n- {alert_rule_test: [{}]}\n".to_owned()),
        ("nofile.yml", "rule_files: [none*.yml, sub/./../x.yml]\ntests: []\n".to_owned()),
        ("series.yml", "tests:\n- input_series: [{series: a, values: 1 2}, {series: 'b{', values: '1'}]\n- input_series: [{series: a, values: 1 x}]\n- input_series: [{series: a, values: ''}]\n- input_series: [{series: a, values: '1 2'}, {series: a, values: '3'}]\n  promql_expr_test: [{expr: a, eval_time: 1m}]\n".to_owned()),
        ("badrules.yml", "rule_files: [bad.yml]\ntests: [{name: x}, {name: y}]\n".to_owned()),
        (
            "failing_rule.yml",
            "rule_files: [limit.yml]\ntests:\n- input_series: [{series: 'x{a=\"1\"}', values: '1x3'}, {series: 'x{a=\"2\"}', values: '1x3'}]\n  promql_expr_test: [{expr: x, eval_time: 3m}]\n".to_owned(),
        ),
    ]
}

/// Differences that stay, by file, what upstream's errors contain, and why.
const KNOWN: [(&str, &str, &str); 3] = [
    ("broken.yml", "did not find expected node content", "the YAML scanner words what is no YAML itself"),
    ("bad-promql.yml", "found duplicate series", "upstream names the two series in the order of a Go map"),
    ("bad-rules-error-test.yml", "found duplicate series", "as above"),
];

fn compare(ours: &Path, theirs: &Path, folder: &Path, args: &[&str], wrong: &mut Vec<String>) {
    let (got, expected) = (run(ours, folder, args), run(theirs, folder, args));
    let is_known = KNOWN.iter().any(|(file, text, _)| args.contains(file) && expected.err.contains(text));
    if got != expected && !is_known {
        wrong.push(format!("{args:?}\n--- promtool {expected:#?}\n+++ ferula {got:#?}"));
    }
}

#[test]
fn results_are_those_of_promtool() {
    const TEST: &str = "rule_tests::results_are_those_of_promtool";
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_ferula"));
    let Some(theirs) = process::peer("promtool", TEST) else { return };
    let next = theirs.with_file_name("promtool-next");
    let is_next = next.exists();
    let theirs = if is_next { next } else { theirs };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    std::fs::write(
        dir.path().join("bad.yml"),
        "groups: [{name: g, rules: [{record: 'a b', expr: '1 +'}, {alert: A}]}, {nam: g}]\n",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("limit.yml"),
        "groups: [{name: g, limit: 1, rules: [{record: y, expr: x}, {alert: A, expr: x}, {record: z, expr: x}]}]\n",
    )
    .unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, text) in cases() {
        // 3.5 has no start times.
        if !is_next && text.contains("start_timestamp") {
            continue;
        }
        std::fs::write(dir.path().join(name), text).unwrap();
        for flags in [&[][..], &["--diff"], &["--debug"], &["--run=t"], &["--run=a", "--run=^$"]] {
            // 3.5 writes that to the other stream.
            if !is_next && flags == ["--debug"] {
                continue;
            }
            let args: Vec<_> = flags.iter().copied().chain([name]).collect();
            compare(&ours, &theirs, dir.path(), &args, &mut wrong);
            count += 1;
        }
    }
    compare(&ours, &theirs, dir.path(), &["alerts.yml", "empty.yml", "types.yml"], &mut wrong);
    let upstream = std::env::var_os("FERULA_UPSTREAM").map(|root| PathBuf::from(root).join("promtool"));
    match upstream.filter(|folder| folder.is_dir()) {
        None => process::skipped(TEST, "upstream's files are not there (set FERULA_UPSTREAM)"),
        Some(folder) => {
            let mut files: Vec<_> = std::fs::read_dir(&folder)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            for file in files.iter().filter(|file| file.ends_with(".yml")) {
                if !is_next && file.contains("start-time") {
                    continue;
                }
                compare(&ours, &theirs, &folder, &[file], &mut wrong);
                compare(&ours, &theirs, &folder, &["--ignore-unknown-fields", "--diff", file], &mut wrong);
                count += 2;
            }
        }
    }
    assert!(count > 50, "only {count} runs");
    assert!(wrong.is_empty(), "{} of {count} runs differ:\n{}", wrong.len(), wrong.join("\n\n"));
}
