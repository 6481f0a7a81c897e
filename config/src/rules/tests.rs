use std::path::Path;

use expect_test::{Expect, expect};

use super::{Options, RuleKind, load, load_with, parse};
use crate::relabel::NameScheme;
use crate::testing::{files, upstream};

#[track_caller]
fn check(text: &str, expected: Expect) {
    let shown = match parse(text, Path::new("r.yml"), &Options::default()) {
        Ok(file) => {
            let lines = file.groups.iter().flat_map(|group| {
                let head =
                    format!("{} {:?} {:?} {}", group.name, group.interval, group.query_offset, group.limit);
                let rules = group
                    .rules
                    .iter()
                    .map(|rule| format!("  {:?} {} {:?}", rule.kind, rule.expr, rule.labels));
                std::iter::once(head).chain(rules).collect::<Vec<_>>()
            });
            lines.chain(file.warnings.iter().cloned()).map(|line| line + "\n").collect()
        }
        Err(e) => format!("{e}\n"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn groups_and_rules() {
    check(
        "groups:
- name: g
  interval: 30s
  query_offset: 0s
  limit: 5
  labels: {team: a, severity: info}
  rules:
  - {record: 'a:b', expr: 'sum  (x)', labels: {l: '{{ $x'}}
  - alert: Down
    expr: up == 0
    for: 1m30s
    keep_firing_for: 1h
    labels: {severity: page}
    annotations: {summary: \"{{ $labels.instance }} is down\"}
---
groups: []
",
        expect![[r#"
            g Some(30s) Some(0ns) 5
              Recording { name: "a:b" } sum(x) {"l": "{{ $x", "severity": "info", "team": "a"}
              Alerting { name: "Down", hold: 90s, keep_firing_for: 3600s, annotations: {"summary": "{{ $labels.instance }} is down"} } up == 0 {"severity": "page", "team": "a"}
            Multiple document yaml rules files are not supported, only the first document is processed
        "#]],
    );
    check("", expect![[""]]);
    check("groups:\n", expect![[""]]);
}

#[test]
fn all_complaints_at_once() {
    check(
        "groups:
- name: g
  labels: {__name__: x}
  rules:
  - record: a
    alert: b
    expr: up
  - expr: up
  - record: c
  - record: d
    expr: sum(
    for: 1m
    keep_firing_for: 1m
    annotations: {a: b}
  - record: 'e{x=\"y\"}'
    expr: up
  - alert: f
    expr: up
    labels: {__name__: x}
- name: g
- interval: 1m
",
        expect![[r#"
            r.yml: 2:3: invalid label name: __name__
            r.yml: 5:13: 6:12: group "g", rule 1, "b": only one of 'record' and 'alert' must be set
            r.yml: 8:5: group "g", rule 2, "": one of 'record' or 'alert' must be set
            r.yml: 9:5: group "g", rule 3, "c": field 'expr' must be set in rule
            r.yml: 11:11: group "g", rule 4, "d": could not parse expression: 1:5: parse error: unclosed left parenthesis
            r.yml: 10:13: group "g", rule 4, "d": invalid field 'annotations' in recording rule
            r.yml: 10:13: group "g", rule 4, "d": invalid field 'for' in recording rule
            r.yml: 10:13: group "g", rule 4, "d": invalid field 'keep_firing_for' in recording rule
            r.yml: 15:13: group "g", rule 5, "e{x=\"y\"}": braces present in the recording rule name; should it be in expr?: e{x="y"}
            r.yml: 17:12: group "g", rule 6, "f": invalid label name: __name__
            r.yml: 20:3: groupname: "g" is repeated in the same file
            r.yml: 21:3: Groupname must not be empty
        "#]],
    );
}

#[test]
fn templates_of_alerts_are_parsed() {
    check(
        "groups:
- name: g
  rules:
  - alert: A
    expr: up
    labels: {l: '{{ $labels.x'}
    annotations: {ok: '{{ $value }}', bad: '{{ nope }}'}
",
        expect![[r#"
            r.yml: 4:12: group "g", rule 1, "A": label "l": template: __alert_A:1: unclosed action
            r.yml: 4:12: group "g", rule 1, "A": annotation "bad": template: __alert_A:1: function "nope" not defined
        "#]],
    );
}

#[test]
fn types_and_keys() {
    check(
        "groups:\n- name: g\n  rules:\n  - {alert: a, expr: up, annotation: {}}\n  nam: x\n",
        expect![[r#"
            r.yml: yaml: unmarshal errors:
              line 4: field annotation not found in type rulefmt.Rule
              line 5: field nam not found in type rulefmt.RuleGroup
        "#]],
    );
    check(
        "groups:\n- name: g\n  name: h\n",
        expect![[r#"
        r.yml: yaml: unmarshal errors:
          line 3: mapping key "name" already defined at line 2
    "#]],
    );
    check(
        "groups:\n- name: g\n  interval: 1x\n",
        expect![[r#"
        r.yml: unknown unit "x" in duration "1x"
    "#]],
    );
    check(
        "groups: 5\n",
        expect![[r#"
        r.yml: yaml: unmarshal errors:
          line 1: cannot unmarshal !!int `5` into []rulefmt.RuleGroup
    "#]],
    );
    check(
        "groups:\n- name: [a\n",
        expect![[r#"
        r.yml: yaml: line 2: unclosed bracket '['
    "#]],
    );
}

#[test]
fn upstream_rule_files() {
    let Some(dir) = upstream("upstream_rule_files", "rulefmt") else { return };
    let words = [
        ("bad_expr", "parse error"),
        ("bad_field", "field annotation not found in type rulefmt.Rule"),
        ("duplicate_grp", "groupname: \"yolo\" is repeated in the same file"),
        ("invalid_label_name", "invalid label name"),
        (
            "invalid_record_name",
            "braces present in the recording rule name; should it be in expr?: strawberry{flavor=\"sweet\"}",
        ),
        ("legacy_validation_annotation", "invalid annotation name: ins-tance"),
        ("no_rec_alert", "one of 'record' or 'alert' must be set"),
        ("noexpr", "field 'expr' must be set in rule"),
        ("record_and_alert", "only one of 'record' and 'alert' must be set"),
        ("record_and_for", "invalid field 'for' in recording rule"),
        ("record_and_keep_firing_for", "invalid field 'keep_firing_for' in recording rule"),
    ];
    let (mut bad, mut good) = (0, 0);
    for file in files(&dir, ".yaml") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let name_scheme = if name.starts_with("legacy") { NameScheme::Legacy } else { NameScheme::Utf8 };
        let loaded = load_with(&file, &Options { name_scheme, ..Options::default() });
        if let Some(stem) = name.strip_suffix(".bad.yaml") {
            let (_, expected) = words.iter().find(|(file, _)| *file == stem).unwrap();
            let message = loaded.unwrap_err().to_string();
            assert!(message.contains(expected), "{name}: {message}");
            bad += 1;
        } else {
            loaded.unwrap_or_else(|e| panic!("{e}"));
            good += 1;
        }
    }
    println!("rulefmt: {good} good files load, {bad} bad files are refused in upstream's words");
    assert_eq!(bad, words.len());
}

#[test]
fn upstream_fixtures_load() {
    let Some(dir) = upstream("upstream_fixtures_load", "rules") else { return };
    for file in files(&dir, ".yaml") {
        let is_bad = file.ends_with("invalid_rules.yaml");
        match load(&file) {
            Ok(_) => assert!(!is_bad, "{}", file.display()),
            Err(e) => assert!(is_bad, "{e}"),
        }
    }
}

#[test]
fn merged_rules_keep_what_they_write() {
    let text = "groups:
- name: g
  rules:
  - &a {alert: A, expr: up, for: 5m, labels: {x: y}}
  - {alert: B, <<: *a}
";
    let file = parse(text, Path::new("r.yml"), &Options::default()).unwrap();
    let RuleKind::Alerting { name, hold, .. } = &file.groups[0].rules[1].kind else { panic!("not an alert") };
    assert_eq!((name.as_str(), hold.as_secs()), ("B", 300));
}
