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
    // Where a certificate or a key is broken, both say so; what its bytes should have been is its parser's text.
    let breaks = |said: &Said| {
        ["x509: malformed", "tls: failed to parse private key"]
            .into_iter()
            .find(|text| said.err.contains(text))
    };
    if name.starts_with("web-config")
        && ours.code == theirs.code
        && breaks(ours).is_some()
        && breaks(ours) == breaks(theirs)
    {
        return Some("Go's parser of certificates and keys tells where in the bytes");
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

/// Puts certificates with their keys into a folder: `a` twice, `b`, and one of another kind.
fn certificates(dir: &Path) {
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    for (name, key) in [
        ("a", rcgen::KeyPair::generate().unwrap()),
        ("b", rcgen::KeyPair::generate().unwrap()),
        ("ed", rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()),
        ("p384", rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap()),
        ("p521", rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap()),
    ] {
        let cert =
            rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        write(&format!("{name}.pem"), &cert.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
        write(&format!("{name}.both"), &format!("{}{}", key.serialize_pem(), cert.pem()));
    }
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    write("params", parameters);
    let key = std::fs::read_to_string(dir.join("a.key")).unwrap();
    write("params.key", &format!("{parameters}{key}"));
    write("junk", "junk");
    let junk = |kind: &str| format!("-----BEGIN {kind}-----\nMAA=\n-----END {kind}-----\n");
    write("junk.pem", &junk("CERTIFICATE"));
    write("junk.key", &junk("PRIVATE KEY"));
}

#[test]
fn web_configurations() {
    const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
    let test = "check::web_configurations";
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let mut texts: Vec<String> = [
        "",
        "# nothing\n",
        "{}\n",
        "a\n",
        "nonsense: 1\n",
        "tls_server_config:\n",
        "tls_server_config: x\n",
        "tls_server_config: {nonsense: 1}\n",
        "tls_server_config: {cert_file: a}\n",
        "tls_server_config: {key_file: a}\n",
        "tls_server_config: {cert_file: a, key_file: b}\n",
        "tls_server_config: {cert: a, key: b}\n",
        "tls_server_config: {cert_file: '', key_file: ''}\n",
        "tls_server_config: {client_ca: a}\n",
        "tls_server_config: {client_ca_file: a}\n",
        "tls_server_config: {client_auth_type: a}\n",
        "tls_server_config: {min_version: TLS13}\n",
        "http_server_config: {http2: false}\n",
        "http_server_config: {http2: 1}\n",
        "http_server_config: {headers: {A: b}}\n",
        "http_server_config: {headers: {X-Content-Type-Options: b}}\n",
        "http_server_config: {headers: {x-frame-options: deny}}\n",
        "http_server_config: {headers: {X-Frame-Options: DENY}}\n",
        "http_server_config: {headers: {X-Frame-Options: }}\n",
        "http_server_config: {headers: [a]}\n",
        "http_server_config: {headers: {X-XSS-Protection: a, Strict-Transport-Security: b, Content-Security-Policy: c}}\n",
        "basic_auth_users: {a: b}\n",
        "basic_auth_users: {a: ''}\n",
        "basic_auth_users: {a: }\n",
        "basic_auth_users: [a]\n",
        "basic_auth_users: {a: HASH}\n",
        "basic_auth_users: {a: HASH, b: c}\n",
        "basic_auth_users: {a: HASH, a: HASH}\n",
        "basic_auth_users: {a: $2y$99$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n",
        "basic_auth_users: {a: $3y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n",
        "rate_limit: {interval: 1s, burst: 2}\n",
        "rate_limit: {interval: x}\n",
        "rate_limit: {interval: 1d}\n",
        "rate_limit: {interval: '1'}\n",
        "rate_limit: {interval: 1.5}\n",
        "rate_limit: {interval: -1s}\n",
        "rate_limit: {interval: 1h30m, burst: x}\n",
        "rate_limit: {burst: 1}\n",
    ]
    .map(|text| text.replace("HASH", HASH))
    .to_vec();
    for pair in [
        "cert_file: a.key, key_file: a.pem",
        "cert_file: a.pem, key_file: a.pem",
        "cert_file: a.pem, key_file: b.key",
        "cert_file: a.pem, key_file: ed.key",
        "cert_file: ed.pem, key_file: ed.key",
        "cert_file: p384.pem, key_file: p384.key",
        "cert_file: p521.pem, key_file: p521.key",
        "cert_file: a.both, key_file: a.both",
        "cert_file: a.pem, key_file: params.key",
        "cert_file: a.pem, key_file: params",
        "cert_file: params, key_file: a.key",
        "cert_file: junk, key_file: a.key",
        "cert_file: a.pem, key_file: junk",
        "cert_file: junk.pem, key_file: a.key",
        "cert_file: a.pem, key_file: junk.key",
        "cert_file: none, key_file: a.key",
        "cert_file: a.pem, key_file: none",
        "cert: junk, cert_file: a.pem, key: junk, key_file: a.key",
    ] {
        texts.push(format!("tls_server_config: {{{pair}}}\n"));
    }
    for more in [
        "client_auth_type: NoClientCert",
        "client_auth_type: RequestClientCert",
        "client_auth_type: RequireAnyClientCert",
        "client_auth_type: RequireClientCert",
        "client_auth_type: VerifyClientCertIfGiven",
        "client_auth_type: RequireAndVerifyClientCert",
        "client_auth_type: requireandverifyclientcert",
        "client_auth_type: RequireAndVerifyClientCert, client_ca_file: b.pem",
        "client_auth_type: RequireAndVerifyClientCert, client_ca_file: none",
        "client_auth_type: RequireAndVerifyClientCert, client_ca_file: junk",
        "client_auth_type: RequireAndVerifyClientCert, client_ca: junk, client_allowed_sans: [a]",
        "client_auth_type: NoClientCert, client_ca: junk",
        "client_ca_file: b.pem",
        "client_allowed_sans: a",
        "client_allowed_sans: []",
        "min_version: TLS10",
        "min_version: TLS13",
        "min_version: TLS14",
        "min_version: 1.2",
        "min_version: ''",
        "min_version: ",
        "max_version: TLS12",
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]",
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
        "cipher_suites: [TLS_AES_128_GCM_SHA256]",
        "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
        "cipher_suites: a",
        "cipher_suites: []",
        "curve_preferences: [CurveP256]",
        "curve_preferences: [CurveP521, X25519]",
        "curve_preferences: [P256]",
        "prefer_server_cipher_suites: maybe",
    ] {
        texts.push(format!("tls_server_config: {{cert_file: a.pem, key_file: a.key, {more}}}\n"));
    }
    let mut names = Vec::new();
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
fn web_configurations_that_only_we_refuse() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    for (more, expected) in [
        (
            "min_version: TLS13, max_version: TLS12",
            "tls: no supported versions satisfy MinVersion and MaxVersion",
        ),
        (
            "max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA]",
            "none of the cipher_suites is supported in TLS 1.2: [TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA]",
        ),
        ("curve_preferences: [CurveP521]", "none of the curve_preferences is supported: [CurveP521]"),
    ] {
        let path = dir.path().join("web.yml");
        let text = format!("tls_server_config: {{cert_file: a.pem, key_file: a.key, {more}}}\n");
        std::fs::write(&path, text).unwrap();
        let said = ours(&["web-config", path.to_str().unwrap()], b"");
        assert_eq!((said.code, said.err), (1, format!("{} FAILED: {expected}\n", path.display())));
    }
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
