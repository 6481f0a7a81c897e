use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;

use super::{load, parse};
use crate::testing::{files, peer, upstream};

const EVERYTHING: &str = include_str!("../../testdata/prometheus/everything.yml");
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
    let mut expand = |text: &str| super::decode::expand_env(text, &lookup, &mut warnings);
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
fn what_is_not_supported_is_said() {
    refuse(
        "remote_write: [{url: 'http://x'}]\n",
        expect![
            "prometheus.yml:1:15: parsing YAML file prometheus.yml: section remote_write is not supported yet"
        ],
    );
    refuse("remote_write: []\nremote_read:\n", expect!["loads: []"]);
    refuse(
        "tracing: {endpoint: 'x:1'}\notlp: {}\n",
        expect![[
            r#"loads: ["line 1: section tracing has no effect: sending traces is not supported yet", "line 2: section otlp has no effect: the OTLP receiver is not supported yet"]"#
        ]],
    );
}

/// A refusal that says that Ferula lacks something, as opposed to one that says the file is wrong.
fn is_unsupported(message: &str) -> bool {
    message.contains("not supported yet")
}

#[test]
fn upstream_good_files_load() {
    let Some(dir) = upstream("upstream_good_files_load", "config") else { return };
    let (mut loaded, mut unsupported) = (0, Vec::new());
    for file in files(&dir, ".good.yml") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        match load(&file) {
            Ok(config) => {
                loaded += 1;
                if name == "external_labels.good.yml" {
                    // Its dollar signs were doubled; once read they are single and mean variables.
                    continue;
                }
                let again = super::parse(&config.text.replace("<secret>", "x"), Path::new(""));
                let again = again.unwrap_or_else(|e| panic!("{name} printed: {e}\n{}", config.text));
                assert_eq!(again.text, config.text, "{name} printed and read again");
            }
            Err(e) if is_unsupported(&e.to_string()) => {
                unsupported.push(format!("{name}: {}", e.problems()[0].message));
            }
            Err(e) => panic!("{name}: {e}"),
        }
    }
    println!(
        "good files: {loaded} loaded, {} unsupported:\n  {}",
        unsupported.len(),
        unsupported.join("\n  ")
    );
    assert!(loaded >= 25, "only {loaded} good files load");
}

#[test]
fn upstream_bad_files_are_refused_in_upstreams_words() {
    let Some(list) = upstream("upstream_bad_files_are_refused_in_upstreams_words", "config-errors.jsonl")
    else {
        return;
    };
    let text = std::fs::read_to_string(&list).unwrap();
    let (mut same, mut unsupported, mut wrong) = (0, Vec::new(), Vec::new());
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let (file, expected) = (case["file"].as_str().unwrap(), case["error_contains"].as_str().unwrap());
        let path = list.with_file_name("config").join(file);
        // The list was made in the folder above.
        let expected = expected.replace("testdata/", &format!("{}/", path.parent().unwrap().display()));
        match load(&path) {
            Err(e) if e.to_string().contains(&expected) => same += 1,
            Err(e) if is_unsupported(&e.to_string()) => {
                unsupported.push(format!("{file}: {}", e.problems()[0].message))
            }
            Err(e) => wrong.push(format!("{file}: wanted {expected}, got {e}")),
            Ok(_) => wrong.push(format!("{file}: wanted {expected}, but it loads")),
        }
    }
    println!(
        "bad files: {same} with the expected text, {} unsupported:\n  {}",
        unsupported.len(),
        unsupported.join("\n  ")
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A reference server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// What a real server prints as its effective configuration.
fn printed_by_peer(binary: &Path, text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.yml"), text).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(binary)
        .args(["--config.file=p.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(child);
    let started = Instant::now();
    loop {
        let body = get(port, "/api/v1/status/config");
        let answer = body.and_then(|body| serde_json::from_str::<serde_json::Value>(&body).ok());
        if let Some(yaml) = answer.as_ref().and_then(|answer| answer["data"]["yaml"].as_str()) {
            return yaml.to_owned();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "the reference server does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn effective_texts_equal_the_reference_servers() {
    let Some(binary) = peer("effective_texts_equal_the_reference_servers", "prometheus") else { return };
    // Newer than the servers that automated tests can count on.
    let newer = ["scrape_native_histograms: false", "extra_scrape_metrics: false"];
    for text in [EVERYTHING, BLOCK] {
        let config = parse(text, Path::new("")).unwrap();
        let lines = config.text.lines().filter(|line| !newer.contains(&line.trim()));
        let ours: String = lines.map(|line| format!("{line}\n")).collect();
        assert_eq!(ours, printed_by_peer(&binary, text));
    }
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

/// The verdict of `promtool` on many files at once: its message, or nothing for those it accepts.
fn promtool_verdicts(binary: &Path, dir: &Path, names: &[String]) -> Vec<Option<String>> {
    let output = Command::new(binary)
        .args(["check", "config", "--syntax-only"])
        .args(names)
        .current_dir(dir)
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    names
        .iter()
        .map(|name| {
            let failed = text.find(&format!("parsing YAML file {name}: "))?;
            let message = &text[failed..];
            Some(message[..message.find("\n  FAILED: ").unwrap_or(message.len())].trim().to_owned())
        })
        .collect()
}

#[test]
fn mutated_files_are_judged_as_promtool_does() {
    let Some(binary) = peer("mutated_files_are_judged_as_promtool_does", "promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap()
    };
    let texts: Vec<String> = (0..600).map(|i| mutate([EVERYTHING, BLOCK][i % 2], next(), next())).collect();
    let names: Vec<String> = (0..texts.len()).map(|i| format!("f{i:03}.yml")).collect();
    for (name, text) in names.iter().zip(&texts) {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let verdicts = promtool_verdicts(&binary, dir.path(), &names);
    const TOO_STRICT: [&str; 2] = ["is not valid UTF-8", "in DNS-SD config is outside of 0 to 65535"];
    let (mut accepted, mut refused, mut same_text, mut unsupported, mut too_strict) = (0, 0, 0, 0, 0);
    let mut wrong = Vec::new();
    let mut other_text = Vec::new();
    for ((name, text), verdict) in names.iter().zip(&texts).zip(&verdicts) {
        let ours = super::decode::parse_as(text, Path::new(name), Path::new(""));
        match (ours, verdict) {
            (Ok(_), None) => accepted += 1,
            (Err(e), _) if is_unsupported(&e.to_string()) => unsupported += 1,
            (Err(e), Some(theirs)) => {
                refused += 1;
                if e.to_string().contains(theirs) {
                    same_text += 1;
                } else {
                    other_text.push(format!("{theirs}\n   ours: {e}"));
                }
            }
            (Ok(_), Some(theirs)) => wrong.push(format!("we accept: {theirs}\n{text}")),
            // Upstream's strings hold any bytes and its ports any number; neither can work, so we say so.
            (Err(e), None) if TOO_STRICT.iter().any(|text| e.to_string().contains(text)) => too_strict += 1,
            (Err(e), None) => wrong.push(format!("we refuse: {e}\n{text}")),
        }
    }
    println!(
        "promtool: {accepted} accepted and {refused} refused by both ({same_text} with the same text), \
         {unsupported} unsupported, {too_strict} refused by us alone on purpose, {} judged otherwise; other texts:\n{}",
        wrong.len(),
        other_text.join("\n")
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
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

#[test]
fn settings_that_are_not_heeded_are_said() {
    let warnings = |text: &str| parse(text, Path::new("/")).unwrap().warnings;
    let legacy = "metric_name_validation_scheme: legacy applies to relabelling only: scraped names are not checked yet";
    let escaping = "metric_name_escaping_scheme has no effect: names are taken as targets send them";
    assert_eq!(
        warnings("global:\n  metric_name_validation_scheme: legacy\n  metric_name_escaping_scheme: dots\n"),
        [format!("line 2: {legacy}"), format!("line 3: {escaping}")]
    );
    assert!(warnings("global: {query_log_file: q.log}\n").is_empty(), "it has an effect");
    assert_eq!(
        warnings("scrape_configs:\n- job_name: a\n  metric_name_escaping_scheme: values\n"),
        [format!("line 3: {escaping}")]
    );
    assert!(warnings("global: {metric_name_escaping_scheme: allow-utf-8}\n").is_empty());
}
