//! Our own cases, `testdata/ours/parse/*.txt`: every rule and every message once.
//!
//! A case is a block of lines, each a key and a text; blocks are separated by empty lines, `#` starts a
//! comment. `in` is the input (several lines of it make several lines of input, `\u{..}` stands for a
//! character); `off` takes the input with all switches off, `series` as a series description, `selector`
//! as a selector. What comes out is `out` (the canonical text), `err` (byte range and message, as `line:col`
//! before it), `json`, or `pretty` (one line each). `UPDATE_EXPECT=1` writes what comes out into the files.

use std::fmt::Write;
use std::path::Path;

use super::super::{Options, Parser, json, parse_selector, pretty, series};

const OFF: Options = Options {
    experimental_functions: false,
    extended_range_selectors: false,
    binop_fill: false,
    duration_expr: false,
};

/// One block: comments, the key of its input, the input, and what is asked of it.
struct Case<'a> {
    comments: Vec<&'a str>,
    kind: &'a str,
    input_lines: Vec<&'a str>,
    wants: Vec<&'a str>,
}

fn files() -> Vec<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ours/parse");
    let mut files: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn cases(text: &str) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for block in text.split("\n\n") {
        let mut case = Case { comments: Vec::new(), kind: "", input_lines: Vec::new(), wants: Vec::new() };
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "#" => case.comments.push(line),
                "in" | "off" | "series" | "selector" => {
                    case.kind = key;
                    case.input_lines.push(rest);
                }
                key => case.wants.push(key),
            }
        }
        case.wants.dedup();
        cases.push(case);
    }
    cases
}

impl Case<'_> {
    fn input(&self) -> String {
        let mut text = self.input_lines.join("\n");
        while let Some(at) = text.find("\\u{") {
            let end = at + text[at..].find('}').unwrap();
            let c = char::from_u32(u32::from_str_radix(&text[at + 3..end], 16).unwrap()).unwrap();
            text.replace_range(at..=end, c.encode_utf8(&mut [0; 4]));
        }
        text
    }

    /// The whole block as it should stand in the file.
    fn render(&self) -> String {
        let mut out = String::new();
        for comment in &self.comments {
            writeln!(out, "{comment}").unwrap();
        }
        for line in &self.input_lines {
            writeln!(out, "{}", format!("{} {line}", self.kind).trim_end()).unwrap();
        }
        let input = self.input();
        let options = if self.kind == "off" { OFF } else { Options::ALL };
        let result = match self.kind {
            "" => return out,
            "series" => series::parse(&input).map(|(labels, values)| format!("out {labels} {values:?}\n")),
            "selector" => parse_selector(&input).map(|matchers| format!("out {matchers:?}\n")),
            _ => Parser::new(options).parse(&input).map(|expr| {
                let mut out = String::new();
                for want in if self.wants.is_empty() { &["out"][..] } else { &self.wants } {
                    match *want {
                        "json" => {
                            let mut bytes = Vec::new();
                            json::write(&expr, &mut bytes);
                            writeln!(out, "json {}", String::from_utf8(bytes).unwrap()).unwrap();
                        }
                        "pretty" => {
                            for line in pretty::format(&expr).lines() {
                                writeln!(out, "pretty {line}").unwrap();
                            }
                        }
                        _ => writeln!(out, "out {expr}").unwrap(),
                    }
                }
                out
            }),
        };
        match result {
            Ok(text) => out.push_str(&text),
            Err(error) => {
                let place = error.to_string();
                let place = place.strip_suffix(&format!(": parse error: {}", error.message)).unwrap();
                writeln!(out, "err {place} [{}, {}] {}", error.span.start, error.span.end, error.message)
                    .unwrap();
            }
        }
        out
    }
}

/// All inputs, as material to mutate.
pub(super) fn texts() -> &'static [String] {
    static TEXTS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        files()
            .iter()
            .map(|path| std::fs::read_to_string(path).unwrap())
            .flat_map(|text| cases(&text).iter().map(Case::input).collect::<Vec<_>>())
            .collect()
    });
    &TEXTS
}

#[test]
fn every_case_of_ours() {
    let (mut count, mut failures) = (0, Vec::new());
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let cases = cases(&text);
        count += cases.iter().filter(|case| !case.kind.is_empty()).count();
        let rendered = cases.iter().map(Case::render).collect::<Vec<_>>().join("\n");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &rendered).unwrap();
        }
        for (want, got) in text.split("\n\n").zip(rendered.split("\n\n")) {
            if want.trim_end() != got.trim_end() {
                failures.push(format!("{}\nexpected:\n{want}\ngot:\n{got}", path.display()));
            }
        }
    }
    println!("{count} cases");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
    assert!(count > 400, "{count}");
}
