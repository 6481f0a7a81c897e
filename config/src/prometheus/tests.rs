use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;

use super::{load, parse};
use crate::testing::{files, upstream};

const EVERYTHING: &str = include_str!("../../testdata/prometheus/everything.yml");
const SECTIONS: &str = include_str!("../../testdata/prometheus/sections.yml");
const BLOCK: &str = include_str!("../../testdata/prometheus/block.yml");

#[track_caller]
fn refuse(text: &str, expected: Expect) {
    let shown = match parse(text, Path::new("")) {
        Ok(config) => format!("loads: {:?}", config.warnings),
        Err(e) => e.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn effective_texts() {
    expect_file!["../../testdata/prometheus/everything.txt"]
        .assert_eq(&parse(EVERYTHING, Path::new("")).unwrap().text);
    expect_file!["../../testdata/prometheus/sections.txt"]
        .assert_eq(&parse(SECTIONS, Path::new("")).unwrap().text);
    expect_file!["../../testdata/prometheus/block.txt"].assert_eq(&parse(BLOCK, Path::new("")).unwrap().text);
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = parse("", Path::new("")).unwrap();
    assert_eq!(config.global.scrape_interval, Duration::from_mins(1));
    assert_eq!(config.global.scrape_timeout, Duration::from_secs(10));
    assert_eq!(parse("global:\n", Path::new("")).unwrap().text, config.text);
}

#[test]
fn jobs_inherit_from_global() {
    let text = "global: {scrape_interval: 5s, sample_limit: 7, metric_name_validation_scheme: legacy}
scrape_configs:
- {job_name: a}
- {job_name: b, scrape_interval: 1m, sample_limit: 0, metric_name_validation_scheme: utf8}
- {job_name: c, scrape_timeout: 1s, sample_limit: 3}
";
    let config = parse(text, Path::new("")).unwrap();
    let shown: Vec<String> = config
        .scrape_configs
        .iter()
        .map(|job| {
            let escaping = job.escaping.as_str();
            format!(
                "{} {:?} {:?} {} {escaping}",
                job.job_name, job.scrape_interval, job.scrape_timeout, job.limits.samples
            )
        })
        .collect();
    expect![[r#"
        a 5s 5s 7 underscores
        b 60s 5s 7 allow-utf-8
        c 5s 1s 3 underscores"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn paths_belong_to_the_directory_of_the_file() {
    let text = "rule_files: [r/*.yml, /abs.yml]
scrape_configs:
- job_name: a
  authorization: {credentials_file: token}
  tls_config: {ca_file: ../ca.pem}
  file_sd_configs: [{files: [sd/*.json]}]
";
    let config = parse(text, Path::new("/etc/prom")).unwrap();
    assert_eq!(config.rule_files, ["/etc/prom/r/*.yml", "/abs.yml"]);
    let job = &config.scrape_configs[0];
    assert_eq!(job.http.tls.ca.as_ref().and_then(|ca| ca.path()), Some(Path::new("/etc/ca.pem")));
    expect![[r#"
        (
            Some(
                Authorization {
                    kind: "Bearer",
                    credentials: File(
                        "/etc/prom/token",
                    ),
                },
            ),
            [
                File(
                    FileDiscovery {
                        files: [
                            "/etc/prom/sd/*.json",
                        ],
                        refresh_interval: 300s,
                    },
                ),
            ],
        )
    "#]]
    .assert_debug_eq(&(&job.http.authorization, &job.discovery));
}

#[test]
fn environment_variables_fill_external_labels() {
    let lookup = |name: &str| if name == "HOME" { "/root".to_owned() } else { String::new() };
    let mut warnings = Vec::new();
    let mut expand = |text: &str| super::global::expand_env(text, &lookup, &mut warnings);
    assert_eq!(expand("a$HOME-${HOME}x$$y"), "a/root-/rootx$y");
    assert_eq!(expand("$NOPE|${}|$|$-|${x"), "||$||x");
    assert_eq!(warnings, ["Empty environment variable name=NOPE", "Empty environment variable name=-"]);
}

#[test]
fn refusals_name_the_place() {
    refuse(
        "global:\n  scrape_interval: 1x\n",
        expect![[
            r#"prometheus.yml:2:20: parsing YAML file prometheus.yml: unknown unit "x" in duration "1x""#
        ]],
    );
    refuse(
        "global:\n  nope: 1\nscrape_configs: 5\n",
        expect![[r#"
        prometheus.yml:2:3: parsing YAML file prometheus.yml: yaml: unmarshal errors:
          line 2: field nope not found in type config.plain
          line 3: cannot unmarshal !!int `5` into []*config.ScrapeConfig"#]],
    );
    refuse(
        "scrape_configs:\n- job_name: a\n- job_name: a\n",
        expect![[
            r#"prometheus.yml:3:3: parsing YAML file prometheus.yml: found multiple scrape configs with job name "a""#
        ]],
    );
    refuse(
        "scrape_configs:\n- job_name: a\n  honor_labels: maybe\n  sample_limit: -5\n",
        expect![[r#"
        prometheus.yml:3:17: parsing YAML file prometheus.yml: yaml: unmarshal errors:
          line 3: cannot unmarshal !!str `maybe` into bool
          line 4: cannot unmarshal !!int `-5` into uint"#]],
    );
    refuse(
        "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - action: nope\n",
        expect![[r#"prometheus.yml:4:13: parsing YAML file prometheus.yml: unknown relabel action "nope""#]],
    );
    refuse(
        "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['http://x']\n",
        expect![[
            r#"prometheus.yml:4:5: parsing YAML file prometheus.yml: "http://x" is not a valid hostname"#
        ]],
    );
    refuse(
        "a: [b\n",
        expect!["prometheus.yml:1:4: parsing YAML file prometheus.yml: yaml: line 1: unclosed bracket '['"],
    );
    refuse(
        "a: b: c\n",
        expect![
            "prometheus.yml:1:5: parsing YAML file prometheus.yml: yaml: line 1: mapping values are not allowed in this context"
        ],
    );
    refuse(
        "\tglobal: {}\n",
        expect![
            "prometheus.yml:1:2: parsing YAML file prometheus.yml: yaml: line 1: found character that cannot start any token"
        ],
    );
    refuse(
        "x: &a [*a]\n",
        expect!["prometheus.yml:1:8: parsing YAML file prometheus.yml: yaml: anchor value contains itself"],
    );
    refuse(
        "x: *a\n",
        expect!["prometheus.yml:1:4: parsing YAML file prometheus.yml: yaml: unknown anchor 'a' referenced"],
    );
}

#[test]
fn what_has_no_effect_yet_is_said() {
    refuse(
        "remote_write: [{url: 'http://x'}]\nremote_read: [{url: 'http://x'}]\n",
        expect![[r#"
            loads: ["line 1: section remote_write has no effect yet: no samples are sent", "line 2: section remote_read has no effect yet: no samples are fetched"]"#]],
    );
    refuse("remote_write: []\nremote_read:\n", expect!["loads: []"]);
    refuse(
        "tracing: {endpoint: 'x:1'}\notlp: {}\n",
        expect![[r#"
            loads: ["line 1: section tracing has no effect yet: no traces are sent"]"#]],
    );
    refuse(
        "global: {metric_name_validation_scheme: legacy, metric_name_escaping_scheme: dots, scrape_failure_log_file: x, scrape_native_histograms: true}\n",
        expect!["loads: []"],
    );
}

#[test]
fn files_of_jobs_are_appended_with_the_globals() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let main = dir.path().join("main.yml");
    std::fs::create_dir(dir.path().join("jobs")).unwrap();
    write(
        "main.yml",
        "global: {scrape_interval: 5s}\nscrape_config_files: [jobs/*.yml]\nscrape_configs: [{job_name: a}]\n",
    );
    write("jobs/b.yml", "scrape_configs:\n- {job_name: b, authorization: {credentials_file: t}}\n");
    write("jobs/c.yml", "");
    let config = load(&main).unwrap();
    let names: Vec<_> = config.scrape_configs.iter().map(|job| job.job_name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let job = &config.scrape_configs[1];
    assert_eq!(job.scrape_interval, Duration::from_secs(5));
    let source = &job.http.authorization.as_ref().unwrap().credentials;
    assert_eq!(source.path(), Some(&*dir.path().join("jobs/t")));
    assert!(!config.text.contains("job_name: b"), "only the main file is printed: {}", config.text);
    assert_eq!(super::load_main(&main).unwrap().scrape_configs.len(), 1);

    write("jobs/c.yml", "scrape_configs:\n- job_name: c\n- job_name: b\n");
    let shown = load(&main).unwrap_err().to_string().replace(&*dir.path().to_string_lossy(), "DIR");
    expect![[
        r#"DIR/jobs/c.yml:3:3: "DIR/jobs/c.yml": found multiple scrape configs with job name "b", first found in "DIR/jobs/b.yml""#
    ]]
    .assert_eq(&shown);
    write("jobs/c.yml", "scrape_configs: [{job_name: a}]\nglobal: {}\n");
    let shown = load(&main).unwrap_err().to_string().replace(&*dir.path().to_string_lossy(), "DIR");
    expect![[r#"
        DIR/jobs/c.yml:2:1: "DIR/jobs/c.yml": yaml: unmarshal errors:
          line 2: field global not found in type config.ScrapeConfigs"#]]
    .assert_eq(&shown);
}

#[test]
fn the_fingerprint_follows_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let main = dir.path().join("main.yml");
    let mut seen = Vec::new();
    let mut take = |what: &str| {
        let now = super::fingerprint(&main).unwrap();
        assert_eq!(now, super::fingerprint(&main).unwrap(), "{what}");
        assert!(!seen.contains(&now), "{what} goes unnoticed");
        seen.push(now);
    };
    write("main.yml", "rule_files: ['*.rules']\nscrape_config_files: [jobs.yml]\n");
    take("a file alone");
    write("a.rules", "groups: []\n");
    take("a file of rules");
    write("jobs.yml", "scrape_configs: []\n");
    take("a file of jobs");
    write("a.rules", "groups:\n");
    take("a changed file of rules");
    std::fs::rename(dir.path().join("a.rules"), dir.path().join("b.rules")).unwrap();
    take("a new name");
    write("main.yml", "rule_files: ['*.rules']\nscrape_config_files: [jobs.yml]\nnonsense: 1\n");
    take("a file that is not valid");
    write("main.yml", "a: b: c\n");
    assert!(super::fingerprint(&main).is_err());
}

#[test]
fn some_sections_have_no_place_in_agent_mode() {
    let refusal = |text: &str| parse(text, Path::new("")).unwrap().agent_mode_refusal();
    assert_eq!(refusal("remote_write: [{url: 'http://x'}]\nscrape_configs: [{job_name: a}]\n"), None);
    for (text, field) in [
        ("alerting: {alertmanagers: [{}]}", "alerting"),
        ("alerting: {alert_relabel_configs: [{action: keep}]}", "alerting"),
        ("rule_files: [a]", "rule_files"),
        ("remote_read: [{url: 'http://x'}]", "remote_read"),
    ] {
        let expected = format!("field {field} is not allowed in agent mode");
        assert_eq!(refusal(text), Some(expected.as_str()));
    }
}

#[test]
fn flags_contribute_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("main.yml");
    std::fs::write(&main, "global: {scrape_interval: 5s}\nscrape_configs: [{job_name: a}]\n").unwrap();
    let defaults = super::Defaults {
        proto_first: true,
        extra_scrape_metrics: true,
        retention: super::Retention { size_bytes: 1024, ..super::Retention::default() },
        max_exemplars: Some(7),
    };
    let config = super::load_with(&main, &defaults).unwrap();
    let job = &config.scrape_configs[0];
    assert_eq!(job.scrape_protocols[0], super::ScrapeProtocol::PrometheusProto);
    assert!(job.extra_scrape_metrics);
    assert_eq!(config.storage.retention, None, "it is the flags that count");
    for line in ["  - PrometheusProto\n", "extra_scrape_metrics: true", "size: 1KiB", "max_exemplars: 7"] {
        assert!(config.text.contains(line), "{line} in {}", config.text);
    }
}

#[test]
fn equal_remote_sections_are_found() {
    let duplicate = |text: &str| {
        let config = parse(text, Path::new("")).unwrap();
        super::remote::duplicate(&config.remote_write, &config.remote_read)
    };
    assert_eq!(duplicate("remote_write: [{url: 'http://a'}, {url: 'http://a', name: b}]"), None);
    assert_eq!(
        duplicate("remote_write: [{url: 'http://u:p@a'}, {url: 'http://u:p@a'}]").as_deref(),
        Some("duplicate remote write configs are not allowed, found duplicate for URL: http://u:xxxxx@a")
    );
    assert_eq!(
        duplicate("remote_read: [{url: 'http://a'}, {url: 'http://a'}]").as_deref(),
        Some("duplicate remote read configs are not allowed, found duplicate for URL: http://a")
    );
}

#[test]
fn jobs_with_native_histograms_ask_for_protobuf_first() {
    let config = parse(
        "scrape_configs:\n- {job_name: a, scrape_native_histograms: true}\n- {job_name: b}\n- {job_name: c, scrape_native_histograms: true, scrape_protocols: [PrometheusText0.0.4]}\n",
        Path::new(""),
    )
    .unwrap();
    let first: Vec<_> = config.scrape_configs.iter().map(|job| job.scrape_protocols[0].as_str()).collect();
    assert_eq!(first, ["PrometheusProto", "OpenMetricsText1.0.0", "PrometheusText0.0.4"]);
}

#[test]
fn upstream_good_files_load() {
    let Some(dir) = upstream("upstream_good_files_load", "config") else { return };
    let files = files(&dir, ".good.yml");
    assert!(files.len() >= 54, "only {} good files", files.len());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let config = load(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        // Its dollar signs were doubled; once read they are single and mean variables.
        let is_expanded = matches!(name.as_str(), "external_labels.good.yml");
        // What is false is not printed, and what is not there is true.
        let is_lossy = matches!(
            name.as_str(),
            "otlp_label_underscore_sanitization_disabled.good.yml"
                | "otlp_sanitize_default_resource_attributes.good.yml"
        );
        if is_expanded || is_lossy {
            continue;
        }
        // One kind of secret must look like a UUID.
        let text = config.text.replace("<secret>", "00000000-0000-0000-0000-000000000000");
        let again = parse(&text, Path::new("")).unwrap_or_else(|e| panic!("{name} printed: {e}\n{text}"));
        assert_eq!(again.text, config.text, "{name} printed and read again");
    }
}

#[test]
fn upstream_bad_files_are_refused_in_upstreams_words() {
    let Some(list) = upstream("upstream_bad_files_are_refused_in_upstreams_words", "config-errors.jsonl")
    else {
        return;
    };
    let text = std::fs::read_to_string(&list).unwrap();
    let (mut same, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let (file, expected) = (case["file"].as_str().unwrap(), case["error_contains"].as_str().unwrap());
        let path = list.with_file_name("config").join(file);
        // The list was made in the folder above.
        let expected = expected.replace("testdata/", &format!("{}/", path.parent().unwrap().display()));
        match load(&path) {
            Err(e) if e.to_string().contains(&expected) => {
                same += 1;
                let place = &e.problems()[0];
                assert!(place.line > 0 && place.column > 0, "{file}: no place in {e}");
                let file = e.file().display();
                let start = format!("{file}:{}:{}: ", place.line, place.column);
                assert!(e.to_string().starts_with(&start), "{e}");
            }
            Err(e) => wrong.push(format!("{file}: wanted {expected}, got {e}")),
            Ok(_) => wrong.push(format!("{file}: wanted {expected}, but it loads")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same >= 136, "only {same} bad files");
}

/// Changes one line of a configuration so that it may or may not stay valid.
fn mutate(text: &str, line: usize, how: usize) -> String {
    const VALUES: [&str; 22] = [
        "",
        "null",
        "5",
        "yes",
        "1x",
        "[a]",
        "{a: b}",
        "'",
        "0777",
        "-1",
        "~",
        "!!binary /w==",
        "a/b",
        "1.5",
        "'5'",
        "[]",
        "{}",
        "$1",
        "\"\\xff\"",
        "0",
        "TLS13x",
        "*nope",
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = line % lines.len();
    match how % 26 {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at].insert_str(0, "  "),
        3 => lines[at] = lines[at].replacen(": ", "x: ", 1),
        value => {
            let value = VALUES[value - 4];
            lines[at] = match lines[at].split_once(": ") {
                Some((key, _)) => format!("{key}: {value}"),
                None => format!("{} {value}", lines[at].trim_end()),
            };
        }
    }
    lines.join("\n") + "\n"
}

proptest! {
    /// Any text at all is an error or a configuration, never a panic.
    #[test]
    fn any_change_is_survived(line in 0_usize..500, how in 0_usize..26, cut in 0_usize..4000) {
        let text = mutate(EVERYTHING, line, how);
        let _ = parse(&text, Path::new(""));
        let cut = (0..=cut.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap();
        let _ = parse(&text[..cut], Path::new(""));
    }
}
