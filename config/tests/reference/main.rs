//! The configuration beside the reference programs: what both print of a file, and which files both refuse.

#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod alertmanager;
mod mutants;
mod mutated;
mod printed;

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Not `println!`: nobody sees what a passing test prints.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The first of `names` that is there, or `None` after saying so.
fn peer(test: &str, names: &[&str]) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_PEERS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ferula-peers"),
        PathBuf::from,
    );
    let path = names.iter().map(|name| root.join("bin").join(name)).find(|path| path.exists());
    if path.is_none() {
        say(&format!("SKIPPED {test}: no {} in {} (set FERULA_PEERS)", names.join(" or "), root.display()));
    }
    path
}

/// A file to start from.
struct Source {
    name: String,
    text: String,
}

/// Our own files, and those of the reference project if they are there.
fn sources(test: &str) -> Vec<Source> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![here.join("testdata/prometheus")];
    let upstream = upstream();
    if upstream.exists() {
        folders.extend([upstream.join("config"), upstream.join("examples")]);
    } else {
        say(&format!(
            "SKIPPED {test}: the files in {} are not there (set FERULA_UPSTREAM)",
            upstream.display()
        ));
    }
    let mut found = Vec::new();
    for folder in folders {
        let Ok(entries) = folder.read_dir() else { continue };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let is_yaml = file.extension().is_some_and(|ending| ending == "yml" || ending == "yaml");
            if let (true, Ok(text)) = (is_yaml, std::fs::read_to_string(&file)) {
                found.push(Source { name, text });
            }
        }
    }
    found
}

fn upstream() -> PathBuf {
    std::env::var_os("FERULA_UPSTREAM")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/upstream"), PathBuf::from)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Without the blocks whose key `is_unwanted`; what a dash begins goes on with the next key.
fn without(text: &str, is_unwanted: impl Fn(&str) -> bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out: Vec<String> = Vec::new();
    let mut i = 0;
    // The dash of an item whose first key was left out.
    let mut dash: Option<String> = None;
    while i < lines.len() {
        let line = lines[i];
        let body = line.trim_start();
        let (prefix, rest) = match body.strip_prefix("- ") {
            Some(rest) => (line.len() - rest.trim_start().len(), rest.trim_start()),
            None => (indent(line), body),
        };
        let key = rest.split(':').next().unwrap_or_default();
        if !is_unwanted(key) {
            match dash.take() {
                Some(dash) if indent(line) == dash.len() => out.push(format!("{dash}{body}")),
                _ => out.push(line.to_owned()),
            }
            i += 1;
            continue;
        }
        if body.starts_with("- ") {
            dash = Some(line[..prefix].to_owned());
        }
        i += 1;
        while i < lines.len() {
            let next = lines[i];
            let is_inside = indent(next) > prefix
                || (indent(next) == prefix && next.trim_start().starts_with("- "))
                || next.trim().is_empty();
            if !is_inside {
                break;
            }
            i += 1;
        }
    }
    out.join("\n") + "\n"
}

#[test]
fn blocks_are_left_out_whole() {
    let text = "a:\n- x: 1\n  y:\n  - z\n  b: 2\n- y: {c: d}\n  e: f\n";
    assert_eq!(without(text, |key| key == "y"), "a:\n- x: 1\n  b: 2\n- e: f\n");
}
