//! Upstream's own parser cases and the expressions of its `.test` scripts, read by path.

use std::io::Write as _;
use std::path::PathBuf;

use super::super::ast::Expr;
use super::{generate, parse};

/// The directory of upstream's test data; `None`, said loudly, where it is absent.
pub(super) fn upstream(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_UPSTREAM").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/upstream")),
        PathBuf::from,
    );
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    // Not `println!`: nobody sees what a passing test prints.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {name}: no upstream test data at {} (set FERULA_UPSTREAM)",
        path.display()
    );
    None
}

/// A JSON scanner just large enough for one case per line.
struct Json<'a> {
    rest: &'a str,
}

impl Json<'_> {
    fn skip(&mut self, token: &str) {
        self.rest = self
            .rest
            .trim_start()
            .strip_prefix(token)
            .unwrap_or_else(|| panic!("expected {token} at {}", self.rest));
    }

    fn comes(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(token)
    }

    fn string(&mut self) -> String {
        self.skip("\"");
        let mut out = Vec::new();
        loop {
            let c = self.rest.chars().next().unwrap();
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '"' => return String::from_utf16_lossy(&out),
                '\\' => {
                    let c = self.rest.chars().next().unwrap();
                    self.rest = &self.rest[1..];
                    let c = match c {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'u' => {
                            out.push(u16::from_str_radix(&self.rest[..4], 16).unwrap());
                            self.rest = &self.rest[4..];
                            continue;
                        }
                        c => c,
                    };
                    out.push(c as u16);
                }
                c => out.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn number(&mut self) -> u32 {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().unwrap()
    }
}

/// `{"input": .., "ok": true}` or `{"input": .., "ok": false, "errors": [{"start", "end", "message"}, ..]}`;
/// of the errors only the first, which is the one that users see.
fn read_case(line: &str) -> (String, Option<(u32, u32, String)>) {
    let mut json = Json { rest: line };
    json.skip("{");
    json.skip("\"input\"");
    json.skip(":");
    let input = json.string();
    json.skip(",");
    json.skip("\"ok\"");
    json.skip(":");
    if json.comes("true") {
        return (input, None);
    }
    json.skip("false");
    for token in [",", "\"errors\"", ":", "[", "{", "\"start\"", ":"] {
        json.skip(token);
    }
    let start = json.number();
    for token in [",", "\"end\"", ":"] {
        json.skip(token);
    }
    let end = json.number();
    for token in [",", "\"message\"", ":"] {
        json.skip(token);
    }
    (input, Some((start, end, json.string())))
}

/// Inputs that the data holds only up to a backquote, and what was cut off; without it they are no expressions.
const CUT_SHORT: [(&str, &str); 2] = [
    ("{'foo\\'bar', ", "`a\\dos\\path`=\"boo\"}"),
    ("`", "\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\\' - \\xFF\\377\\u1234\\U00010111\\U0001011111☺`"),
];

#[test]
fn every_parser_case_of_upstream() {
    let Some(path) = upstream("promql-parser-cases.jsonl") else {
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let (mut accepted, mut refused, mut failures) = (0, 0, Vec::new());
    for line in text.lines() {
        let (mut input, expected) = read_case(line);
        if let Some((_, rest)) = CUT_SHORT.iter().find(|(cut, _)| expected.is_none() && input == *cut) {
            input.push_str(rest);
        }
        match (parse(&input), expected) {
            (Ok(expr), None) => {
                accepted += 1;
                let printed = expr.to_string();
                match parse(&printed) {
                    Ok(again) if is_same(again.clone(), expr) => {}
                    Ok(again) => failures.push(format!("{input:?} prints {printed:?}, then {again}")),
                    Err(error) => failures.push(format!("{input:?} prints {printed:?}: {error}")),
                }
            }
            (Err(error), Some((start, end, message))) => {
                refused += 1;
                let got = (error.span.start, error.span.end, error.message);
                // The replacement character stands for one invalid byte of the original text, so the end lies.
                let end = if input.contains('\u{fffd}') { got.1 } else { end };
                if got != (start, end, message.clone()) {
                    failures.push(format!("{input:?}: expected {:?}, got {got:?}", (start, end, message)));
                }
            }
            (Ok(expr), Some(expected)) => {
                failures.push(format!("{input:?} is {expr}, expected {expected:?}"));
            }
            (Err(error), None) => failures.push(format!("{input:?}: {error}")),
        }
    }
    println!("{accepted} accepted and {refused} refused as upstream does");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!((accepted + refused, text.lines().count()), (343, 343));
}

/// Whether two trees differ only in what printing does not keep. NaN equals itself here.
fn is_same(mut a: Expr, mut b: Expr) -> bool {
    generate::canonical(&mut a);
    generate::canonical(&mut b);
    a == b || (a.to_string() == b.to_string() && format!("{a:?}") == format!("{b:?}"))
}

#[test]
fn every_expression_of_the_test_scripts_round_trips() {
    let Some(path) = upstream("promqltest") else {
        return;
    };
    let (mut count, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "test") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Some(text) = expression(line.trim()) else {
                continue;
            };
            count += 1;
            let check = || -> Result<(), String> {
                let expr = parse(text).map_err(|error| error.to_string())?;
                let printed = expr.to_string();
                let again = parse(&printed).map_err(|error| format!("{printed}: {error}"))?;
                if again.to_string() == printed { Ok(()) } else { Err(format!("{printed} then {again}")) }
            };
            if let Err(error) = check() {
                failures.push(format!("{}: {text}: {error}", path.display()));
            }
        }
    }
    println!("{count} expressions");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(count > 2000);
}

/// The expression of an `eval` line.
fn expression(line: &str) -> Option<&str> {
    let (command, rest) = line.split_once([' ', '\t'])?;
    if !command.starts_with("eval") {
        return None;
    }
    let rest = rest.trim_start();
    let marker = if rest.starts_with("instant") { " at " } else { " step " };
    let at = rest.find(marker)? + marker.len();
    Some(rest[at..].trim_start().split_once([' ', '\t'])?.1.trim())
}
