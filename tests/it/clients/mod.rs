//! Other people's programs as clients, each beside Prometheus: Grafana's own data source without its page
//! (`tests/clients/grafana`), clients and exporters of npm (`tests/clients/js`) and of Python (`tests/clients/python`),
//! and promtool. What a runner finds it says in lines of JSON, one for each check and server; here servers and data
//! are started, the lines are shown and counted.
//!
//! `make clients` installs what the runners need into `target/clients`; what is not there is skipped by name.
//! `FERULA_CLIENTS_HOLD=file` starts the servers, writes what the runners are told to that file and waits, for those
//! who work on the checks.
//!
//! Compat: what Prometheus answers is what these clients were written for; where its version matters a check says so.

mod data;
mod promtool;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::notify::alertmanager_command;
use crate::process::{CLIENT, Home, Process, RUNTIME, Server, now, skipped, until_true};
use crate::scripted::Scripted;

const RULES: &str = r#"
groups:
  - name: recorded
    interval: 1s
    rules:
      - record: job:http_requests:rate5m
        expr: sum by (job) (rate(http_requests_total[5m]))
        labels: {source: recorded}
  - name: alerts
    interval: 1s
    rules:
      - alert: Always
        expr: vector(7) > 1
        labels: {severity: page}
        annotations: {summary: "it is {{ $value }}"}
      - alert: Soon
        expr: vector(1)
        for: 1h
        keep_firing_for: 5m
"#;

const MORE_RULES: &str = r"
groups:
  - name: another
    interval: 1s
    rules:
      - alert: Always
        expr: vector(8) > 1
        labels: {severity: ticket}
      - record: instance:up:count
        expr: count(up)
";

const ALERTMANAGER: &str = r"
route: {receiver: nobody, group_by: [alertname], group_wait: 1s}
receivers: [{name: nobody}]
";

/// `grafana:fennel`, at the lowest cost there is.
const WEB: &str =
    "basic_auth_users: {grafana: $2y$04$bmO3SPU6jeGFpWSDbSCS3eVj7o992DK8LT1BGkq6j5Oz64I06ZQeK}\n";

const NOT_INSTALLED: &str = "not installed (`make clients` does it)";

/// The program of the reference servers: the newest there is.
fn newest(name: &str) -> Option<PathBuf> {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ferula-peers");
    let folder = std::env::var_os("FERULA_PEERS").map_or_else(home, PathBuf::from).join("bin");
    [format!("{name}-next"), name.to_owned()].iter().map(|name| folder.join(name)).find(|path| path.exists())
}

/// Where `make clients` installs.
fn installed() -> PathBuf {
    let target = || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients");
    std::env::var_os("FERULA_CLIENTS").map_or_else(target, PathBuf::from)
}

fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// A server as the clients see it.
struct Peer {
    name: &'static str,
    version: String,
    plain: Server,
    prefixed: Server,
    /// Without what has to be switched on, with one query at a time and a password.
    bare: Server,
    alertmanager: Option<String>,
    _homes: Vec<Home>,
    _alertmanager: Option<Server>,
}

/// What all of them scrape.
struct Targets {
    data: Scripted,
    /// `job/path` and address.
    exporters: Vec<(&'static str, String)>,
    servers: Vec<Server>,
}

impl Targets {
    fn new(begin: i64, test: &str) -> Self {
        let mut targets = Self { data: data::serve(begin), exporters: Vec::new(), servers: Vec::new() };
        let js = command("node", &[sources("js/exporter.mjs"), installed().join("js")]);
        let python = command(installed().join("venv/bin/python"), &[sources("python/exporter.py")]);
        let exporters: [(&str, bool, Command, &[&'static str]); 2] = [
            (
                "js",
                installed().join("js/node_modules").exists(),
                js,
                &["prom-client/text", "prom-client/openmetrics"],
            ),
            (
                "python",
                installed().join("venv/bin/python").exists(),
                python,
                &["prometheus_client/text", "prometheus_client/openmetrics", "opentelemetry/otel"],
            ),
        ];
        for (name, is_installed, mut command, paths) in exporters {
            if !is_installed {
                skipped(&format!("{test}, exporters of {name}"), NOT_INSTALLED);
                continue;
            }
            let server = Server::start(name, &mut command, "/ready");
            targets.exporters.extend(paths.iter().map(|path| (*path, server.address().to_owned())));
            targets.servers.push(server);
        }
        targets
    }
}

fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[PathBuf]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn config(targets: &Targets, reader: &str, has_native: bool, alertmanager: Option<&str>) -> String {
    let native = if has_native { ", scrape_native_histograms: true" } else { "" };
    let mut out = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s{native}}}\nrule_files: [rules.yml, more.yml]\n"
    );
    if let Some(address) = alertmanager {
        writeln!(out, "alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}")
            .unwrap();
    }
    out.push_str("scrape_configs:\n  - job_name: itself\n    file_sd_configs: [{files: [itself.json]}]\n");
    for path in ["text", "native"] {
        writeln!(
            out,
            "  - job_name: {path}\n    honor_labels: true\n    metrics_path: /{path}\n    params: {{reader: [{reader}]}}\n    static_configs: [{{targets: ['{}']}}]",
            targets.data.address()
        )
        .unwrap();
    }
    for (name, address) in &targets.exporters {
        let (job, path) = name.split_once('/').unwrap();
        writeln!(
            out,
            "  - job_name: {job}-{path}\n    metrics_path: /{path}\n    static_configs: [{{targets: ['{address}'], labels: {{instance: {job}}}}}]"
        )
        .unwrap();
    }
    out
}

impl Peer {
    fn start(name: &'static str, program: &Path, targets: &Targets) -> Self {
        let is_ours = name == "ferula";
        let said = Command::new(program).arg("--version").output().unwrap();
        let said =
            String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        let version = if is_ours { "3.14.0".to_owned() } else { word_after(&said, "version ") };
        let is_old = version.starts_with("3.5.");
        let alertmanager = (!is_ours).then(start_alertmanager).flatten();
        let mut homes = Vec::new();
        let mut home = |reader: &str| {
            let address = alertmanager.as_ref().map(|(_, server)| server.address());
            let home = Home::new(&config(targets, &format!("{name}-{reader}"), !is_old, address));
            home.write("rules.yml", RULES);
            home.write("more.yml", MORE_RULES);
            home.write("alertmanager.yml", ALERTMANAGER);
            home.write("web.yml", WEB);
            home.write("itself.json", "[]");
            homes.push(home);
            homes.len() - 1
        };
        let (plain, prefixed, bare) = (home("plain"), home("prefixed"), home("bare"));
        let features = if is_old {
            "exemplar-storage,promql-per-step-stats,native-histograms"
        } else {
            "exemplar-storage,promql-per-step-stats,search-api"
        };
        let features = format!("--enable-feature={features}");
        let full = ["--web.enable-remote-write-receiver", "--web.enable-admin-api", features.as_str()];
        let own: &[&str] = if is_ours { &["--alertmanager.config-file=alertmanager.yml"] } else { &[] };
        let arguments = |more: &[&'static str]| [full.as_slice(), own, more].concat();
        let start = |home: &Home, args: &[&str], prefix: &str| {
            let mut server =
                Server::start(name, &mut home.server(program, args), &format!("{prefix}/-/ready"));
            let itself = json!([{"targets": [server.address()], "labels": {"__metrics_path__": format!("{prefix}/metrics")}}]);
            home.write("itself.json", &itself.to_string());
            server.url.push_str(prefix);
            server
        };
        let plain = start(&homes[plain], &arguments(&[]), "");
        let prefixed = start(&homes[prefixed], &arguments(&["--web.route-prefix=/ferula"]), "/ferula");
        let limits =
            ["--web.config.file=web.yml", "--query.max-concurrency=1", "--enable-feature=exemplar-storage"];
        // Off by default there.
        let help = Command::new(program).arg("--help").output().unwrap().stdout;
        let has_search = String::from_utf8_lossy(&help).contains("--web.enable-search-api");
        let no_search = if has_search { &["--web.enable-search-api=false"] } else { [].as_slice() };
        let bare = start_protected(name, &mut homes[bare].server(program, &[&limits, no_search].concat()));
        let alertmanager_url = if is_ours {
            Some(plain.url.clone())
        } else {
            alertmanager.as_ref().map(|(_, server)| server.url.clone())
        };
        let (more_homes, alertmanager) = alertmanager.unzip();
        homes.extend(more_homes);
        Self {
            name,
            version,
            plain,
            prefixed,
            bare,
            alertmanager: alertmanager_url,
            _homes: homes,
            _alertmanager: alertmanager,
        }
    }

    /// Waits until all of them have taken everything in and evaluated twice.
    fn wait(&self, exporters: usize) {
        for server in [&self.plain, &self.prefixed] {
            let what = format!("{} to have its data", self.name);
            let whole = |name: &str| format!("count(count_over_time({name}[2h]) >= {})", data::SAMPLES);
            until_true(&what, || {
                let sees = |expr: &str, value: f64| server.value(expr) == Some(value);
                sees(&whole("http_requests_total"), 12.0)
                    && sees(&whole("rpc_duration_seconds"), 1.0)
                    && sees("count(job:http_requests:rate5m)", 1.0)
                    && sees("count(ALERTS{alertname=\"Always\"})", 2.0)
                    && sees("count(prometheus_build_info)", 1.0)
                    && sees("sum(up)", 3.0 + exporters as f64)
            });
        }
    }

    fn settings(&self) -> Value {
        json!({
            "name": self.name,
            "version": self.version,
            "plain": self.plain.url,
            "prefixed": self.prefixed.url,
            "bare": self.bare.url,
            "user": "grafana",
            "password": "fennel",
            "alertmanager": self.alertmanager,
        })
    }
}

fn word_after(text: &str, before: &str) -> String {
    let rest = text.split(before).nth(1).unwrap_or_default();
    rest.split_whitespace().next().unwrap_or_default().to_owned()
}

fn start_protected(name: &str, command: &mut Command) -> Server {
    let mut process = Process::spawn(name, command);
    let server = Server { url: process.url(), process };
    until_true(&format!("{name} to be ready"), || {
        let request = CLIENT.get(format!("{}/-/ready", server.url)).basic_auth("grafana", Some("fennel"));
        RUNTIME.block_on(async { request.send().await.is_ok_and(|response| response.status().is_success()) })
    });
    server
}

/// The reference one, if it can run here.
fn start_alertmanager() -> Option<(Home, Server)> {
    let home = Home::new("");
    home.write("alertmanager.yml", ALERTMANAGER);
    let program = newest("alertmanager").ok_or_else(|| "no alertmanager among the peers".to_owned());
    let mut command = program
        .and_then(|program| alertmanager_command(&program))
        .map_err(|why| skipped("other people's clients, the checks of an Alertmanager", &why))
        .ok()?;
    command
        .arg(format!("--config.file={}", home.path("alertmanager.yml").display()))
        .arg(format!("--storage.path={}", home.path("alertmanager").display()))
        .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]);
    let server = Server::start("alertmanager", &mut command, "/-/ready");
    Some((home, server))
}

/// What a check found out about a server.
#[derive(Deserialize)]
struct Finding {
    check: String,
    server: String,
    #[serde(default)]
    at: String,
    outcome: Outcome,
    why: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Pass,
    Fail,
    Skip,
}

/// Runs a runner to its end.
fn run(name: &str, command: &mut Command) -> Vec<Finding> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}\n{said}", output.status);
    let finding = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}\n{said}"));
    text.lines().map(finding).collect()
}

/// Says what was found, a line for each check and server, and stops at what should not be.
#[expect(clippy::print_stdout, reason = "each check is to be seen")]
fn judge(test: &str, findings: &[Finding]) {
    let mut wrong = Vec::new();
    let mut counts = BTreeMap::<(&str, &str), usize>::new();
    for finding in findings {
        let outcome = match finding.outcome {
            Outcome::Pass => "ok",
            Outcome::Fail => "FAILED",
            Outcome::Skip => "skipped",
        };
        *counts.entry((&finding.server, outcome)).or_default() += 1;
        let line =
            format!("{}, {} at {}: {outcome} {}", finding.check, finding.server, finding.at, finding.why);
        if finding.outcome == Outcome::Skip {
            let Finding { check, server, at, why, .. } = finding;
            skipped(&format!("{test}, {check} of {server} at {at}"), why);
        } else {
            println!("{}", line.trim_end());
        }
        if finding.outcome == Outcome::Fail {
            wrong.push(line);
        }
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Checks of which every server must have a finding.
fn check_complete(findings: &[Finding]) {
    for server in ["prometheus", "ferula"] {
        let seen: BTreeSet<_> =
            findings.iter().filter(|f| f.server == server).map(|f| f.check.as_str()).collect();
        let lacking: Vec<_> =
            (1..=72).map(|i| format!("G{i:02}")).filter(|name| !seen.contains(name.as_str())).collect();
        assert!(lacking.is_empty(), "{server} was not asked {lacking:?}");
    }
}

#[test]
fn other_peoples_clients_are_served_as_by_prometheus() {
    let test = "other_peoples_clients_are_served_as_by_prometheus";
    let Some(prometheus) = newest("prometheus") else {
        return skipped(test, "no prometheus among the peers (`make peers` brings it)");
    };
    let begin = (now() as i64 / data::STEP - data::SAMPLES) * data::STEP;
    let targets = Targets::new(begin, test);
    let (theirs, ours) = std::thread::scope(|scope| {
        let ferula = Path::new(env!("CARGO_BIN_EXE_ferula"));
        let ours = scope.spawn(|| Peer::start("ferula", ferula, &targets));
        (Peer::start("prometheus", &prometheus, &targets), ours.join().unwrap())
    });
    for peer in [&ours, &theirs] {
        peer.wait(targets.exporters.len());
    }
    let settings = json!({
        "begin": begin,
        "end": begin + data::SAMPLES * data::STEP,
        "step": data::STEP,
        "exporters": targets.exporters.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "promtool": newest("promtool"),
        "servers": [theirs.settings(), ours.settings()],
    });
    if let Some(file) = std::env::var_os("FERULA_CLIENTS_HOLD") {
        std::fs::write(&file, settings.to_string()).unwrap();
        while Path::new(&file).exists() {
            std::thread::sleep(Duration::from_secs(1));
        }
        return;
    }
    let home = Home::new("");
    home.write("settings.json", &settings.to_string());
    let file = home.path("settings.json");
    let findings: Vec<_> = std::thread::scope(|scope| {
        let runners = [
            scope.spawn(|| grafana(test, &file)),
            scope.spawn(|| js(test, &file)),
            scope.spawn(|| python(test, &file)),
            scope.spawn(|| promtool::findings(test, &settings)),
        ];
        runners.into_iter().flat_map(|runner| runner.join().unwrap()).collect()
    });
    judge(test, &findings);
}

fn grafana(test: &str, settings: &Path) -> Vec<Finding> {
    let folder = installed().join("grafana");
    if !folder.join("node_modules").exists() {
        skipped(&format!("{test}, Grafana's data source"), NOT_INSTALLED);
        return Vec::new();
    }
    let mut command = command("node", &[sources("grafana/run.mjs"), folder, settings.to_owned()]);
    if std::env::var_os("FERULA_CLIENTS_RECORD").is_some() {
        command.env(
            "FERULA_CLIENTS_RECORD",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana-save-and-test.txt"),
        );
    }
    let findings = run("grafana", &mut command);
    check_complete(&findings);
    findings
}

fn js(test: &str, settings: &Path) -> Vec<Finding> {
    let folder = installed().join("js");
    if !folder.join("node_modules").exists() {
        skipped(&format!("{test}, clients of npm"), NOT_INSTALLED);
        return Vec::new();
    }
    run("js", &mut command("node", &[sources("js/checks.mjs"), folder, settings.to_owned()]))
}

fn python(test: &str, settings: &Path) -> Vec<Finding> {
    let python = installed().join("venv/bin/python");
    if !python.exists() {
        skipped(&format!("{test}, clients of PyPI"), NOT_INSTALLED);
        return Vec::new();
    }
    run("python", &mut command(python, &[sources("python/checks.py"), settings.to_owned()]))
}
