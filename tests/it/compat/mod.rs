//! Every endpoint beside Prometheus': the same data, the same requests, and the answers byte for byte.
//!
//! Requests are data, in `tests/compat/*.yaml`, with the status that each is answered with; whole answers are in
//! `tests/compat/recorded/`, by the name of the request. Two tests use them:
//! - with a reference server at hand (`FERULA_PEERS`, otherwise skipped by name), both sides are asked and must agree.
//!   3.14 is the model; `FERULA_COMPAT_RECORD=1` writes its answers down. What differs in 3.5, where only that is at
//!   hand, is in `differences-3.5.yaml`;
//! - always, Ferula takes the data in by itself, and its answers are compared with those recorded. What comes out is
//!   the table in `docs/api.md`, which `UPDATE_EXPECT=1` writes anew.
//!
//! What may differ is masked in a request (`mask`, `drop`), what differs on purpose is listed in
//! `tests/compat/differences.yaml` with the reason; an entry that no longer differs fails the test.
//!
//! Compat: prometheus `web/web.go`, `web/api/v1` (3.14).

mod data;
mod reply;
mod scenario;
mod servers;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use self::reply::{Reply, describe};
use self::scenario::{Case, cases, folder};
use self::servers::{Program, Side, Targets, copy_folder, take_in, take_itself_in};

/// The differences that are meant to be, with their reasons.
#[derive(Default)]
struct Differences {
    /// By the name of the request.
    asks: BTreeMap<String, String>,
    /// By the beginning of the path.
    under: Vec<(String, String)>,
}

impl Differences {
    fn read(file: &str) -> Self {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Listed {
            because: String,
            #[serde(default)]
            asks: Vec<String>,
            #[serde(default)]
            under: Vec<String>,
        }
        let mut read = Self::default();
        for listed in scenario::read::<Vec<Listed>>(file) {
            for ask in listed.asks {
                assert!(!read.asks.contains_key(&ask), "{file}: {ask} is there twice");
                read.asks.insert(ask, listed.because.clone());
            }
            read.under.extend(listed.under.into_iter().map(|path| (path, listed.because.clone())));
        }
        read
    }

    fn covers_path(&self, case: &Case) -> bool {
        let path = case.path.strip_prefix("/pre/fix").unwrap_or(&case.path);
        self.under.iter().any(|(under, _)| path.starts_with(under.as_str()))
    }
}

/// The answers of 3.14, by file of scenarios and name of the request.
fn recorded() -> BTreeMap<String, Reply> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder().join("recorded")).unwrap() {
        let path = entry.unwrap().path();
        let file: BTreeMap<String, Reply> =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        all.extend(file);
    }
    all
}

fn record(replies: &[(&Case, Reply)]) {
    let mut files: BTreeMap<&str, BTreeMap<&str, &Reply>> = BTreeMap::new();
    for (case, reply) in replies.iter().filter(|(case, _)| !case.live) {
        files.entry(&case.file).or_default().insert(&case.name, reply);
    }
    let folder = folder().join("recorded");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for (file, replies) in files {
        let text = serde_json::to_string_pretty(&replies).unwrap();
        std::fs::write(folder.join(format!("{file}.json")), text + "\n").unwrap();
    }
}

/// What the files of scenarios say of an answer of 3.14 that it is not.
fn broken_promise(case: &Case, reply: &Reply) -> Option<String> {
    if case.status != reply.status {
        return Some(format!("{}: answered with {}, not {}", case.name, reply.status, case.status));
    }
    if let Some(text) = &case.says
        && !reply.body.contains(text.as_str())
    {
        return Some(format!("{}: does not say {text:?} but {:?}", case.name, reply.body));
    }
    let wrong = case.says_headers.iter().find(|(name, value)| reply.headers.get(*name) != Some(value));
    wrong.map(|(name, value)| {
        format!("{}: header {name} is {:?}, not {value:?}", case.name, reply.headers.get(name))
    })
}

fn fail_if_any(failures: &[String]) {
    assert!(failures.is_empty(), "{} wrong answers:\n{}", failures.len(), failures.join("\n"));
}

/// Starts both sides on copies of what the reference server has taken in.
fn start_sides(reference: &Program, folder: &Path) -> (Side, Side) {
    let [fixed, itself] = ["fixed", "itself"].map(|name| folder.join(name));
    std::thread::scope(|scope| {
        scope.spawn(|| take_itself_in(reference, &itself));
        take_in(reference, &fixed);
    });
    let targets = Targets::serve();
    let start = |name: &str, program: &Program| {
        for (server, data) in [("plain", &fixed), ("prefixed", &itself), ("open", &fixed)] {
            copy_folder(&data.join("data"), &folder.join(name).join(server).join("data"));
        }
        Side::start(program, &folder.join(name), &targets)
    };
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| start("theirs", reference));
        let ours = start("ours", &Program::ferula());
        (theirs.join().unwrap(), ours)
    })
}

#[test]
fn answers_are_those_of_prometheus() {
    let Some(reference) = Program::reference("answers_are_those_of_prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = start_sides(&reference, folder.path());
    let now = format!("{:.3}", jiff::Timestamp::now().as_millisecond() as f64 / 1000.0 - 1.0);

    let meant = Differences::read("differences.yaml");
    let old =
        if reference.is_old { Differences::read("differences-3.5.yaml") } else { Differences::default() };
    let records = std::env::var_os("FERULA_COMPAT_RECORD").is_some();
    assert!(!records || !reference.is_old, "answers of 3.14 are recorded, not of {reference:?}");

    let cases = cases(&now);
    let (mut n_equal, mut n_meant, mut failures, mut replies) = (0, 0, Vec::new(), Vec::new());
    for case in &cases {
        let (mut their_reply, mut our_reply) = (theirs.ask(case), ours.ask(case));
        if reference.is_old {
            their_reply.forget_encoding();
            our_reply.forget_encoding();
        }
        if !reference.is_old {
            failures.extend(broken_promise(case, &their_reply).filter(|_| !records));
        }
        let reason = meant.asks.get(&case.name);
        match (their_reply == our_reply, reason, old.asks.get(&case.name)) {
            _ if old.covers_path(case) => n_meant += 1,
            (true, None, None) => n_equal += 1,
            (false, Some(_), _) | (false, _, Some(_)) => n_meant += 1,
            (true, Some(_), None) if reference.is_old => n_equal += 1,
            (true, Some(reason), None) | (true, _, Some(reason)) => {
                failures.push(format!("{} is equal, in spite of: {reason}", case.name));
            }
            (false, None, None) => {
                failures.push(format!("{}{}", case.name, describe(&their_reply, &our_reply)));
            }
        }
        replies.push((case, their_reply));
    }
    let asked: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    let listed = meant.asks.keys().chain(old.asks.keys());
    let unasked = listed.filter(|name| !asked.contains(name));
    failures.extend(unasked.map(|name| format!("{name}: listed as different but never asked")));
    if records {
        record(&replies);
    }
    println!("{n_equal} answers equal, {n_meant} different on purpose, {} wrong", failures.len());
    fail_if_any(&failures);
}

#[test]
fn answers_are_those_recorded() {
    let recorded = recorded();
    let folder = tempfile::tempdir().unwrap();
    let fixed = folder.path().join("fixed");
    take_in(&Program::ferula(), &fixed);
    for server in ["plain", "open"] {
        copy_folder(&fixed.join("data"), &folder.path().join("ours").join(server).join("data"));
    }
    let ours = Side::start(&Program::ferula(), &folder.path().join("ours"), &Targets::serve());

    let meant = Differences::read("differences.yaml");
    let (mut failures, mut outcomes, mut n_asked) = (Vec::new(), Vec::new(), 0);
    let cases = cases("0");
    for case in cases.iter().filter(|case| !case.live) {
        let Some(theirs) = recorded.get(&case.name) else {
            failures.push(format!("{}: there is no recording of it", case.name));
            continue;
        };
        n_asked += 1;
        failures.extend(broken_promise(case, theirs));
        let reply = ours.ask(case);
        let is_equal = reply == *theirs;
        match (is_equal, meant.asks.get(&case.name)) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(reason)) => failures.push(format!("{} is equal, in spite of: {reason}", case.name)),
            (false, None) => failures.push(format!("{}{}", case.name, describe(theirs, &reply))),
        }
        outcomes.push(table::Outcome { case, theirs, ours: reply, is_equal });
    }
    if n_asked != recorded.len() {
        failures.push("there are recordings of requests that are gone".to_owned());
    }
    fail_if_any(&failures);
    table::check(&outcomes);
}

#[test]
fn own_metrics_are_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Side::start(&Program::ferula(), folder.path(), &Targets::serve());
    let text = ours.own_metrics();

    let mut parser = model::wire::parse::Parser::new(text.as_bytes(), model::wire::parse::Format::Text);
    let (mut seen, mut n_lines) = (std::collections::BTreeSet::new(), 0);
    let mut labels = model::LabelsBuilder::default();
    while let Some(entry) = parser.next() {
        if let model::wire::parse::Entry::Series(line) = entry.unwrap() {
            parser.labels_into(&line, &mut labels).unwrap();
            let labels = labels.build();
            assert!(seen.insert(labels.clone()), "{labels} is there twice");
            n_lines += 1;
        }
    }
    assert!(n_lines > 100, "{text}");
    let mut families = std::collections::BTreeSet::new();
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(families.insert(name), "the family {name} is written twice");
    }
    for name in [
        "prometheus_engine_queries",
        "prometheus_engine_queries_concurrent_max",
        "prometheus_engine_query_duration_seconds",
        "prometheus_http_requests_total",
        "prometheus_http_request_duration_seconds",
        "prometheus_http_response_size_bytes",
    ] {
        assert!(families.contains(name), "{name} is missing");
    }
    let counted = text.lines().find(|line| {
        line.starts_with("prometheus_engine_query_duration_seconds_count{slice=\"inner_eval\"}")
    });
    assert!(!counted.unwrap().ends_with(" 0"), "{counted:?}");

    let Some(promtool) =
        crate::process::peer("promtool", "own_metrics_are_well_formed, the part with promtool")
    else {
        return;
    };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Prometheus itself has names that its linter does not like.
    let said: Vec<_> = said
        .lines()
        .filter(|line| !line.is_empty() && !line.ends_with("should not include type 'histogram'"))
        .collect();
    assert!(said.is_empty(), "{}: {said:?}", output.status);
}
