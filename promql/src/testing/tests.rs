//! Upstream's scripts and ours, with one thread and several, and with odd morsels.

mod generated;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::script::{Report, run};
use crate::engine::{Engine, EngineOptions, Features};
use crate::parse;

/// The engine that upstream's scripts are written for.
pub(crate) fn engine(threads: usize) -> Engine {
    let features = Features {
        parser: parse::Options::ALL,
        delayed_name_removal: true,
        start_timestamps: true,
        ..Features::default()
    };
    Engine::new(EngineOptions {
        timeout: Duration::from_secs(100),
        max_samples: 10_000,
        max_concurrency: 0,
        threads,
        features,
        ..EngineOptions::default()
    })
}

pub(crate) fn scripts(dir: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return BTreeMap::new();
    };
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    let is_script = |p: &PathBuf| p.extension().is_some_and(|e| e == "test");
    paths
        .filter(is_script)
        .map(|p| {
            let name = p.file_name().expect("a listed file has a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&p).expect("a listed script can be read"))
        })
        .collect()
}

fn upstream() -> BTreeMap<String, String> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/upstream");
    let root = std::env::var("FERULA_UPSTREAM").unwrap_or_else(|_| default.to_owned());
    scripts(&Path::new(&root).join("promqltest"))
}

/// How many failures are shown of every script.
const SHOWN: usize = 5;

fn shown() -> usize {
    std::env::var("FERULA_SHOWN").ok().and_then(|n| n.parse().ok()).unwrap_or(SHOWN)
}

/// Runs all scripts on every engine and fails if any evaluation does; a failing one hides no other.
pub(crate) fn assert_clean(scripts: &BTreeMap<String, String>, engines: &[Engine]) {
    let mut total = Report::default();
    for (name, text) in scripts {
        for engine in engines {
            let report = run(engine, name, text);
            println!(
                "{name}: {} of {} evaluations passed, {} failed, {} queries",
                report.passed,
                report.passed + report.failed,
                report.failed,
                report.queries
            );
            for failure in report.failures.iter().take(shown()) {
                println!("  FAILED {failure}");
            }
            total.merge(report);
        }
    }
    println!("total: {} passed, {} failed, {} queries", total.passed, total.failed, total.queries);
    assert!(total.failures.is_empty(), "{} of the evaluations failed", total.failed);
    assert!(total.passed > 0, "nothing was evaluated");
}

/// Upstream's scripts: all of them, or those whose names hold `FERULA_SCRIPT`.
fn chosen() -> BTreeMap<String, String> {
    let mut all = upstream();
    if let Ok(filter) = std::env::var("FERULA_SCRIPT") {
        all.retain(|name, _| name.contains(&filter));
        assert!(!all.is_empty(), "no script of upstream is called {filter}");
    }
    all
}

fn skipped(test: &str) {
    // Not `println!`: nobody sees what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no upstream test data (set FERULA_UPSTREAM)");
}

#[test]
fn upstream_scripts_pass() {
    let all = chosen();
    if all.is_empty() {
        return skipped("upstream_scripts_pass");
    }
    assert_clean(&all, &[engine(1)]);
}

#[test]
fn our_scripts_pass() {
    assert_clean(&ours(""), &[engine(1)]);
}

#[test]
fn scripts_do_not_depend_on_threads_and_morsels() {
    let mut all = ours("");
    assert!(!all.is_empty(), "our own scripts are part of the sources");
    all.extend(chosen());
    assert_clean(&all, &[(2, 1), (3, 3), (2, 64)].map(|(n, morsel)| engine(n).with_morsels_of(morsel)));
}

fn ours(folder: &str) -> BTreeMap<String, String> {
    scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ours").join(folder))
}

#[test]
fn names_fall_at_once_without_the_switch() {
    let features = Features { parser: parse::Options::ALL, ..Features::default() };
    let engine = Engine::new(EngineOptions { threads: 1, features, ..EngineOptions::default() });
    assert_clean(&ours("immediate"), &[engine]);
}
