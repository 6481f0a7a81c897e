//! Every file of the reference projects, checked by promtool and by us.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{Streams, run_with};

/// Where the texts of newer or older programs differ for a reason.
const KNOWN: &[(&str, &str)] = &[];

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
    for line in said.err.lines() {
        if line.starts_with("  WARNING: ") {
            continue;
        }
        // `FILE:LINE:COLUMN: ` before the reference's text, which for rule files has blanks in it.
        let words: Vec<&str> = line.split(' ').collect();
        let kept: Vec<&str> = words.iter().copied().filter(|word| !is_place(word)).collect();
        let _ = writeln!(err, "{}", kept.join(" "));
    }
    Said { err, ..said }
}

/// `FILE:LINE:COLUMN:`
fn is_place(word: &str) -> bool {
    let mut parts = word.rsplit(':');
    let is_number = |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    parts.next() == Some("") && is_number(parts.next()) && is_number(parts.next()) && parts.next().is_some()
}

/// Compares everything but what is known; counts and prints the rest.
fn compare(test: &str, cases: &[(Vec<&str>, Vec<u8>)]) {
    let Some(promtool) = promtool(test) else { return };
    let (mut same, mut different) = (0, Vec::new());
    for (args, input) in cases {
        let (ours, theirs) = (plain(ours(args, input)), theirs(&promtool, args, input));
        let theirs = plain(theirs);
        let name = args.iter().map(|arg| arg.rsplit('/').next().unwrap_or(arg)).collect::<Vec<_>>().join(" ");
        if ours == theirs || KNOWN.iter().any(|(known, _)| name.contains(known)) {
            same += 1;
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
        for flags in [&[][..], &["--ignore-unknown-fields"], &["--lint=none"], &["--lint=all", "--lint-fatal"]] {
            let args = ["rules"].iter().chain(flags).copied().chain([file.as_str()]).collect();
            cases.push((args, Vec::new()));
        }
        cases.push((vec!["rules"], std::fs::read(file).unwrap()));
    }
    compare(test, &cases);
}
