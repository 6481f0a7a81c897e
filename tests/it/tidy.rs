//! The house rules that no compiler knows: the tables of ARCHITECTURE.md against the code, headers of files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, folders of build output left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    files(folder, &["rs"])
}

/// Every file below `folder` whose name ends in one of these ways.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !["target", "node_modules", "dist", ".git"].contains(&name.as_str()) {
                found.extend(files(&path, endings));
            }
        } else if path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn nothing_is_left_of_a_merge() {
    let left = files(&root(), &["orig", "rej"]);
    assert!(left.is_empty(), "{left:?}");
}

/// The table of ARCHITECTURE.md whose header begins with `title`: first cell -> names in the second.
fn table(text: &str, title: &str) -> BTreeMap<String, BTreeSet<String>> {
    let names =
        |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("| {title} "))).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').collect();
            (names(cells[0]).into_iter().next().unwrap(), names(cells[1]))
        })
        .collect()
}

/// The code of a file without comments and without its test modules.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    production.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether `code` has `path` (as in `tsdb::`) where a path begins.
fn mentions(code: &str, path: &str) -> bool {
    let begins =
        |i: usize| !code[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$');
    code.match_indices(path).any(|(i, _)| begins(i))
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        ["tests", "tests.rs", "testing", "benches", "build.rs"].iter().any(|t| part.as_os_str() == *t)
    })
}

#[test]
fn every_arrow_is_in_the_tables() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let crates = table(&text, "Crate");
    let modules = table(&text, "Module of `src/`");
    assert_eq!(crates.len(), 6, "the table of crates was not found whole: {crates:?}");
    assert!(modules.len() > 5, "the table of modules was not found: {modules:?}");
    let mut wrong = Vec::new();
    let folders = [
        ("model", "tsdb/model/src"),
        ("tsdb", "tsdb/src"),
        ("promql", "promql/src"),
        ("config", "config/src"),
        ("web", "web/src"),
        ("ferula", "src"),
    ];
    for (name, folder) in folders {
        for path in sources(&root().join(folder)).iter().filter(|path| !is_test(path)) {
            let code = code(path);
            for other in crates.keys().filter(|other| *other != name && *other != "ferula") {
                // `config::` is also what modules call a local: only a crate path or a `use` of it counts.
                let used = mentions(&code, &format!("{other}::"));
                if used && !crates[name].contains(other) {
                    wrong.push(format!("{} uses {other}", path.display()));
                }
            }
        }
    }
    for (name, allowed) in &modules {
        let folder = root().join("src");
        let own = [folder.join(format!("{name}.rs"))].into_iter().filter(|path| path.exists());
        let nested = Some(folder.join(name))
            .filter(|path| path.is_dir())
            .map(|path| sources(&path))
            .unwrap_or_default();
        for path in own.chain(nested).filter(|path| !is_test(path)) {
            let code = code(&path);
            for other in modules.keys().filter(|other| *other != name && !allowed.contains(*other)) {
                if mentions(&code, &format!("crate::{other}")) {
                    wrong.push(format!("{} uses crate::{other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that ARCHITECTURE.md does not have:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_of_src_is_in_the_table() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let modules = table(&text, "Module of `src/`");
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let name = line.trim_end_matches(';');
        assert!(modules.contains_key(name), "src/{name} is missing in the table of ARCHITECTURE.md");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let mut silent = Vec::new();
    for folder in ["src", "tsdb", "promql", "config", "web", "benches", "tests"] {
        for path in sources(&root().join(folder)) {
            let is_tests_file = path.file_name().is_some_and(|name| name == "tests.rs");
            let text = std::fs::read_to_string(&path).unwrap();
            if !is_tests_file && !text.starts_with("//!") {
                silent.push(path.display().to_string());
            }
        }
    }
    assert!(silent.is_empty(), "files without a `//!` header:\n{}", silent.join("\n"));
}

#[test]
fn unsafe_code_is_forbidden_outside_the_store() {
    for lib in
        ["src/lib.rs", "promql/src/lib.rs", "config/src/lib.rs", "web/src/lib.rs", "tsdb/model/src/lib.rs"]
    {
        let text = std::fs::read_to_string(root().join(lib)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{lib} does not forbid unsafe code");
    }
    assert!(
        std::fs::read_to_string(root().join("tsdb/src/lib.rs")).unwrap().contains("#![deny(unsafe_code)]")
    );
}
