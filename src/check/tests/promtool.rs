//! Every file of the reference projects, checked by promtool and by us.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{Streams, run_with};

/// Why promtool may say something else about a file, where it does.
fn reason(name: &str, ours: &Said, theirs: &Said) -> Option<&'static str> {
    const FILES: [(&str, &str); 6] = [
        ("kubernetes_selectors_pod", "pods can be selected by their nodes since 3.6"),
        ("metric_name_validation_scheme.bad", "the text is that of 3.14"),
        ("scrape_config_local_infer_escaping", "a job's own scheme decides about escaping since 3.6"),
        ("prometheus-aws-sd-empty-region", "reading a file asks no metadata service since 3.12"),
        ("remote_write", "3.14 reads these keys and says these texts"),
        ("otlp_", "3.14 reads these keys and says these texts"),
    ];
    let lacks = |said: &Said| said.err.contains(" not found in type ");
    if lacks(theirs) && !lacks(ours) {
        return Some("an older program, or one that was built without a mechanism");
    }
    if theirs.err.contains("experimental duration expression is not enabled") {
        return Some("durations can be calculated without a feature since 3.13");
    }
    FILES.iter().find(|(part, _)| name.contains(part)).map(|(_, reason)| *reason)
}

fn found(test: &str, variable: &str, default: &Path, rel: &str) -> Option<PathBuf> {
    let root = std::env::var_os(variable).map_or_else(|| default.to_owned(), PathBuf::from);
    let path = root.join(rel);
    if path.exists() {
        return Some(path);
    }
    // Not `println!`: nobody sees what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {} is not there (set {variable})", path.display());
    None
}

fn promtool(test: &str) -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    found(test, "FERULA_PEERS", &home.join(".cache/ferula-peers"), "bin/promtool")
}

fn upstream(test: &str, rel: &str) -> Option<PathBuf> {
    found(test, "FERULA_UPSTREAM", &Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/upstream"), rel)
}

/// What a command says and ends with.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn ours(args: &[&str], input: &[u8]) -> Said {
    let (mut input, mut out, mut err) = (input, Vec::new(), Vec::new());
    let mut streams = Streams { input: &mut input, out: &mut out, err: &mut err };
    let args = ["check"].iter().chain(args).map(|arg| (*arg).into());
    let code = i32::from(run_with(args, &mut streams));
    Said { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn theirs(promtool: &Path, args: &[&str], input: &[u8]) -> Said {
    let mut child = Command::new(promtool)
        .arg("check")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    let run = child.wait_with_output().unwrap();
    Said {
        code: run.status.code().unwrap(),
        out: String::from_utf8(run.stdout).unwrap(),
        err: String::from_utf8(run.stderr).unwrap(),
    }
}

/// Without what only we say: places in files, and keys that have no effect here.
fn plain(said: Said) -> Said {
    let mut err = String::new();
    let (mut headings, mut is_repeated) = (Vec::new(), false);
    for line in said.err.lines() {
        if line.starts_with("  WARNING: ") {
            continue;
        }
        // promtool reads rule files twice and says twice what is wrong with their YAML.
        is_repeated &= line.starts_with("  ");
        if line.ends_with("yaml: unmarshal errors:") {
            is_repeated = headings.contains(&line);
            headings.push(line);
        }
        if is_repeated {
            continue;
        }
        // `FILE:LINE:COLUMN: ` before the reference's text, which for rule files has blanks in it.
        let words: Vec<&str> = line.split(' ').collect();
        let kept: Vec<&str> = words.iter().copied().filter(|word| !is_place(word)).collect();
        let _ = writeln!(err, "{}", kept.join(" "));
    }
    Said { err, ..said }
}

/// `FILE:LINE:COLUMN:` or `LINE:COLUMN:`
fn is_place(word: &str) -> bool {
    let mut parts = word.rsplit(':');
    let is_number =
        |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    parts.next() == Some("") && is_number(parts.next()) && is_number(parts.next())
}

/// Compares everything but what is known; counts and prints the rest.
fn compare(test: &str, cases: &[(Vec<&str>, Vec<u8>)]) {
    let Some(promtool) = promtool(test) else { return };
    let (mut same, mut different) = (0, Vec::new());
    for (args, input) in cases {
        let (ours, theirs) = (plain(ours(args, input)), theirs(&promtool, args, input));
        let theirs = plain(theirs);
        let name = args.iter().map(|arg| arg.rsplit('/').next().unwrap_or(arg)).collect::<Vec<_>>().join(" ");
        if ours == theirs {
            same += 1;
        } else if let Some(reason) = reason(&name, &ours, &theirs) {
            println!("{name}: {reason}");
        } else {
            different.push(format!("{name}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }
    println!("{test}: {same} of {} the same", cases.len());
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

fn files(dir: &Path, endings: &[&str]) -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.to_str().unwrap().to_owned())
        .filter(|path| endings.iter().any(|ending| path.ends_with(ending)))
        .collect();
    files.sort();
    files
}

#[test]
fn configurations() {
    let test = "check::configurations";
    let mut all = Vec::new();
    for dir in ["config", "promtool", "examples"] {
        let Some(dir) = upstream(test, dir) else { return };
        all.extend(files(&dir, &[".yml"]));
    }
    let mut cases = Vec::new();
    for file in &all {
        for flags in [&[][..], &["--syntax-only"], &["--agent"], &["--lint=all", "--lint-fatal"]] {
            let args = ["config"].iter().chain(flags).copied().chain([file.as_str()]).collect();
            cases.push((args, Vec::new()));
        }
    }
    compare(test, &cases);
}

#[test]
fn rule_files() {
    let test = "check::rule_files";
    let mut all = Vec::new();
    for dir in ["rules", "rulefmt", "promtool"] {
        let Some(dir) = upstream(test, dir) else { return };
        all.extend(files(&dir, &[".yml", ".yaml", ".rules"]));
    }
    let mut cases = Vec::new();
    for file in &all {
        for flags in
            [&[][..], &["--ignore-unknown-fields"], &["--lint=none"], &["--lint=all", "--lint-fatal"]]
        {
            let args = ["rules"].iter().chain(flags).copied().chain([file.as_str()]).collect();
            cases.push((args, Vec::new()));
        }
        cases.push((vec!["rules"], std::fs::read(file).unwrap()));
    }
    compare(test, &cases);
}

#[test]
fn metrics() {
    const TEXTS: &[&str] = &[
        "",
        "\n# just a comment\n#\n",
        "# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total{x=\"y\"} 2 1700000000000\n",
        "# HELP a A.\n# TYPE a counter\na 1\n",
        "# TYPE a_total gauge\na_total 1\n",
        "no_help 1\n",
        "# HELP a:b A.\na:b 1\n",
        "# HELP aCamel A.\naCamel{labelName=\"x\",ok=\"y\"} 1\n",
        "# HELP d_milliseconds D.\nd_milliseconds 1\n# HELP e_hours E.\ne_hours 1\n# HELP f_ms F.\nf_ms 1\n",
        "# HELP g_s_ms_total G.\n# TYPE g_s_ms_total counter\ng_s_ms_total 1\n",
        "# HELP x_counter X.\n# TYPE x_counter counter\nx_counter 1\n# HELP y_gauge_z Y.\n# TYPE y_gauge_z gauge\ny_gauge_z 1\n",
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\nh_bucket{a=\"b\",le=\"+Inf\"} 2\n",
        "# HELP s S.\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 3\ns_count 2\n",
        "# HELP b_bucket B.\n# TYPE b_bucket gauge\nb_bucket{le=\"1\",quantile=\"2\"} 1\n",
        "# HELP c_count C.\n# TYPE c_count gauge\nc_count 1\n# HELP c_sum C.\n# TYPE c_sum counter\nc_sum 1\n",
        "# HELP u U.\nu{le=\"1\"} 1\nu_bucket 1\n",
        "# HELP d D.\nd 1\nd 2\nd{a=\"b\"} 1\nd{a=\"b\"} 1\n",
        "# HELP esc back\\\\slash\\nline\nesc{a=\"\\\"x\\\\y\\nz\"} NaN\n",
        "a{b=\"c\",} +Inf\na{ b = \"d\" } -Inf\n",
        "a 1",
        "a\n",
        "a one\n",
        "a 0x1p3\n",
        "a 1 2 3\n",
        "a 1 x\n",
        "{a=\"b\"} 1\n",
        "a{b} 1\n",
        "a{b=c} 1\n",
        "a{b=\"c\" d=\"e\"} 1\n",
        "a{b=\"c\",b=\"d\"} 1\n",
        "a{1=\"c\"} 1\n",
        "a{b=\"\\x\"} 1\n",
        "a{b=\"c\n\"} 1\n",
        "a{__name__=\"c\"} 1\n",
        "# TYPE a nonsense\na 1\n",
        "# TYPE a gauge\n# TYPE a gauge\na 1\n",
        "a 1\n# TYPE a gauge\n",
        "# HELP a x\n# HELP a y\na 1\n",
        "# TYPE s summary\ns{quantile=\"x\"} 1\n",
        "# TYPE h histogram\nh_bucket{le=\"x\"} 1\n",
        "1a 1\n",
        "a.b 1\n",
    ];
    let test = "check::metrics";
    let mut inputs: Vec<Vec<u8>> = TEXTS.iter().map(|text| text.as_bytes().to_vec()).collect();
    if let Some(dir) = upstream(test, "promtool") {
        inputs.extend(files(&dir, &[".prom"]).iter().map(|file| std::fs::read(file).unwrap()));
    }
    let mut cases = Vec::new();
    for input in inputs {
        cases.push((vec!["metrics"], input));
    }
    compare(test, &cases);
}

#[test]
fn cardinalities() {
    // Families of one size come in no order there, and before 3.6 none of them if there is a complaint.
    let text = "# HELP a_total A.\n# HELP b B.\n# HELP h H.\n# TYPE a_total counter\na_total 1\na_total{x=\"1\"} 1\na_total{x=\"2\"} 1\nb 1\n# TYPE h histogram\n\
                h_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
    let cases = vec![(vec!["metrics", "--extended"], text.as_bytes().to_vec())];
    compare("check::cardinalities", &cases);
}

#[test]
fn web_configurations() {
    let test = "check::web_configurations";
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    let texts = [
        "",
        "nonsense: 1\n",
        "tls_server_config: {cert_file: a}\n",
        "tls_server_config: {cert_file: a, key_file: b}\n",
        "tls_server_config: {cert: a, key: b}\n",
        "tls_server_config: {client_ca: a}\n",
        "tls_server_config: {min_version: TLS14}\n",
        "tls_server_config: {cipher_suites: [A]}\n",
        "tls_server_config: {curve_preferences: [B]}\n",
        "http_server_config: {headers: {A: b}}\n",
        "http_server_config: {headers: {X-Content-Type-Options: b}}\n",
        "basic_auth_users: {a: b}\n",
        "basic_auth_users: {a: $2y$99$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n",
        "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n",
        "rate_limit: {interval: 1s, burst: 2}\n",
        "rate_limit: {interval: x}\n",
    ];
    for (i, text) in texts.iter().enumerate() {
        let path = dir.path().join(format!("{i}.yml"));
        std::fs::write(&path, text).unwrap();
        names.push(path.to_str().unwrap().to_owned());
    }
    if let Some(path) = upstream(test, "examples/web-config.yml") {
        names.push(path.to_str().unwrap().to_owned());
    }
    let cases: Vec<_> = names.iter().map(|name| (vec!["web-config", name.as_str()], Vec::new())).collect();
    compare(test, &cases);
}

#[test]
fn discovered_targets() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    std::fs::write(
        dir.path().join("list.json"),
        r#"[{"targets": ["a:1", "b:2", "c/d"], "labels": {"from": "file"}}]"#,
    )
    .unwrap();
    let text = "scrape_configs:
- job_name: j
  file_sd_configs: [{files: [list.json]}]
  relabel_configs:
  - {source_labels: [__address__], regex: b.*, action: drop}
  - {source_labels: [__meta_filepath], regex: '.+', target_label: seen, replacement: 'yes'}
";
    std::fs::write(&config, text).unwrap();
    let args = ["service-discovery", "--timeout=1s", config.to_str().unwrap(), "j"];
    let said = ours(&args, b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let read = |text: &str| -> Vec<serde_json::Value> {
        let mut targets: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        targets.sort_by_key(ToString::to_string);
        targets
    };
    let ours_found = read(&said.out);
    assert_eq!(ours_found.len(), 3);
    assert!(ours_found.iter().any(|target| target["labels"]["seen"] == "yes"), "{ours_found:?}");
    assert!(ours_found.iter().any(|target| target["error"] == "\"c/d\" is not a valid hostname"));
    let none = ours(&["service-discovery", config.to_str().unwrap(), "k"], b"");
    assert_eq!((none.code, none.err.as_str()), (1, "Job k not found. Select one of:\n\tj\n"));
    let Some(promtool) = promtool("check::discovered_targets") else { return };
    let theirs_found = read(&theirs(&promtool, &args, b"").out);
    // promtool has errors without texts, and panics if a job has static targets besides.
    // Labels that tell how histograms are scraped are newer than some promtools.
    let known = |mut targets: Vec<serde_json::Value>| {
        for target in &mut targets {
            if let Some(error) = target.get_mut("error") {
                *error = serde_json::Value::Object(serde_json::Map::new());
            }
            for set in ["discoveredLabels", "labels"] {
                let labels = target[set].as_object_mut().unwrap();
                labels.retain(|name, _| !name.ends_with("_histograms__") && !name.ends_with("_nhcb__"));
            }
        }
        targets
    };
    assert_eq!(known(ours_found), known(theirs_found));
}
