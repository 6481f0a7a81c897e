use std::fmt::Write;

use super::*;
use crate::golden::{quote, unquote};

/// The inputs (`I`), a text (`T`), then patterns (`P`) with what Go says of each: the matcher's message (`E`)
/// or which inputs it matches (`M`); the message of the wrapped pattern where it differs (`W`) or its
/// template expanded for all inputs (`X`); the text with its matches replaced (`R`).
#[test]
fn says_what_go_says_about_our_patterns() {
    let golden = include_str!("../../testdata/regex.golden");
    let (mut inputs, mut text, mut pattern) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cases, mut failures) = (0, String::new());
    for line in golden.lines() {
        let (kind, rest) = line.split_once(' ').unwrap();
        let (kind, rest) = if kind.is_empty() { rest.split_once(' ').unwrap() } else { (kind, rest) };
        let got = match kind {
            "I" => {
                inputs.push(unquote(rest));
                continue;
            }
            "T" => {
                text = unquote(rest);
                continue;
            }
            "P" => {
                pattern = unquote(rest);
                cases += 1;
                continue;
            }
            "E" | "M" => match Regex::anchored(&pattern) {
                Ok(regex) => {
                    // First on trial, then by the program.
                    let tried: Vec<bool> = inputs.iter().map(|i| regex.is_match(i)).collect();
                    regex.program();
                    assert!(inputs.iter().map(|i| regex.is_match(i)).eq(tried.iter().copied()), "{line}");
                    tried.into_iter().map(|is_match| if is_match { '1' } else { '0' }).collect()
                }
                Err(e) => quote(e.to_string().as_bytes()),
            },
            "W" | "X" => match Regex::wrapped(&pattern) {
                Ok(regex) => {
                    let mut out = Vec::new();
                    for input in &inputs {
                        let is_match = regex.expand(input, b"<${1}$$$n$2x>", &mut out);
                        assert_eq!(is_match, regex.is_match(input), "{line}");
                    }
                    regex.program();
                    let mut again = Vec::new();
                    for input in &inputs {
                        regex.expand(input, b"<${1}$$$n$2x>", &mut again);
                    }
                    assert_eq!(quote(&again), quote(&out), "{line}");
                    quote(&out)
                }
                Err(e) => quote(e.to_string().as_bytes()),
            },
            "R" => match Regex::unanchored(&pattern) {
                Ok(regex) => quote(&regex.replace_all(&text, b"<$1$n>")),
                Err(e) => quote(e.to_string().as_bytes()),
            },
            _ => panic!("{line}"),
        };
        // Our messages replace bytes that are not UTF-8.
        let rest = if rest.contains("\\x") {
            quote(String::from_utf8_lossy(&unquote(rest)).as_bytes())
        } else {
            rest.to_owned()
        };
        if got != rest {
            writeln!(failures, "P {} {kind}\n expected {rest}\n got      {got}", quote(&pattern)).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(cases > 1300, "only {cases} patterns");
}

#[track_caller]
fn set_of(pattern: &str) -> Option<String> {
    let regex = Regex::anchored(pattern.as_bytes()).unwrap();
    let set = regex.set_matches()?;
    for value in set {
        assert!(regex.is_match(value));
        assert!(regex.program().is_match(regex.input(value)), "{pattern} does not match its own string");
    }
    Some(set.iter().map(|v| String::from_utf8_lossy(v)).collect::<Vec<_>>().join(" "))
}

#[test]
fn finite_patterns_become_sets() {
    for (pattern, set) in [
        ("foo", "foo"),
        ("foo|bar", "bar foo"),
        ("^(?:foo|bar)$", "bar foo"),
        ("(a|b)[0-2]?x", "a0x a1x a2x ax b0x b1x b2x bx"),
        ("prod-(eu|us)-1", "prod-eu-1 prod-us-1"),
        ("", ""),
        (r"10\.0\.0\.1:9090", "10.0.0.1:9090"),
        ("(?i)ab", "AB Ab aB ab"),
        ("a{2,3}", "aa aaa"),
    ] {
        assert_eq!(set_of(pattern).as_deref(), Some(set), "{pattern}");
    }
    for pattern in [".", "a*", "foo.*", r"\w\w", "a^b", "(?:a|b|c|d){5}", "[a-z]{2}"] {
        assert_eq!(set_of(pattern), None, "{pattern}");
    }
}

#[test]
fn prefixes_are_found() {
    for (pattern, prefix) in [
        ("foo.*", Some("foo")),
        ("foo.+", Some("foo")),
        (r"(api|app)-\d+", Some("ap")),
        (r"^node_\w+", Some("node_")),
        ("(?i)foo.*", None),
        (".*foo", None),
        ("(foo)?bar.*", None),
        ("(?:ab)+.*", Some("ab")),
    ] {
        let regex = Regex::anchored(pattern.as_bytes()).unwrap();
        assert_eq!(regex.prefix(), prefix.map(str::as_bytes), "{pattern}");
    }
}

#[test]
fn whole_value_wildcards_are_known() {
    let all = |p: &str| Regex::anchored(p.as_bytes()).unwrap().matches_all();
    let some = |p: &str| Regex::anchored(p.as_bytes()).unwrap().matches_all_but_empty();
    assert!(
        all(".*")
            && all("(.*)")
            && all("^.*$")
            && all(".*.*")
            && !all(".+")
            && !all("a.*")
            && !all("(?-s).*")
    );
    assert!(some(".+") && some("(.+)") && some(".+.*") && !some(".*") && !some(".+a") && !some(".+.+"));
    assert!(Regex::anchored(b".*").unwrap().is_match(b"\xff\xfe\n"));
}

#[test]
fn templates_expand_as_gos() {
    let regex = Regex::anchored(br"(?P<host>[^:]+):(\d+)").unwrap();
    let expand = |template: &str| {
        let mut out = b">".to_vec();
        assert!(regex.expand(b"db-1:5432", template.as_bytes(), &mut out));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(expand("$1/$2"), ">db-1/5432");
    assert_eq!(expand("${host}_$host-"), ">db-1_db-1-");
    assert_eq!(expand("$1x|${1}x|$$1|$0"), ">|db-1x|$1|db-1:5432");
    assert_eq!(expand("$9$02${nope}$ ${ $-"), ">$ ${ $-");
    let mut out = b"kept".to_vec();
    assert!(!regex.expand(b"no port", b"$1", &mut out));
    assert_eq!(out, b"kept");
}

/// As Go: each odd byte is a character of its own, and what is captured are the bytes themselves.
#[test]
fn odd_bytes_read_as_replacement_characters() {
    let matches = |pattern: &str, value: &[u8]| Regex::anchored(pattern.as_bytes()).unwrap().is_match(value);
    assert!(matches("a.c", b"a\xffc") && !matches("a.c", b"a\xff\xfec") && matches("a..c", b"a\xff\xfec"));
    assert!(matches("[^a]", b"\x80") && !matches("[a-z]", b"\x80"));
    // A sequence that is cut short is as many characters as bytes.
    assert!(matches("[^a]{2}", b"\xe2\x82") && matches("[^a]", "\u{20ac}".as_bytes()));
    let mut out = Vec::new();
    assert!(Regex::wrapped(b"(.)(.+)").unwrap().expand(b"\xff\xe2\x82x", b"$2|$1", &mut out));
    assert_eq!(out, b"\xe2\x82x|\xff");
    assert_eq!(Regex::unanchored(b"[^a]").unwrap().replace_all(b"a\xffa\xc3", b"<$0>"), b"a<\xff>a<\xc3>");
}

#[test]
fn large_patterns_are_refused() {
    let nested = format!("{}a{}", "(".repeat(1200), ")".repeat(1200));
    let error = Regex::anchored(nested.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("error parsing regexp: expression nests too deeply: `(((("), "{error}");
    let large = r"(?:\pL{1000}){1}\pL{1000}\pL{1000}\pL{1000}";
    let error = Regex::anchored(large.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, format!("error parsing regexp: expression too large: `{large}`"));
    for repeats in ["((a{100}){100}){100}", "(((a{10}){10}){10}){10}", "((((a{9}){9}){9}){9}){9}"] {
        let error = Regex::anchored(repeats.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("error parsing regexp: invalid repeat count: `{"), "{error}");
    }
    // Literals are a table however many they are, and a set of them is never an automaton.
    let names: Vec<String> = (0..50_000).map(|n| format!("name_of_a_metric_{n}")).collect();
    let regex = Regex::anchored(names.join("|").as_bytes()).unwrap();
    assert_eq!(regex.set_matches().map(<[_]>::len), Some(50_000));
    assert!(regex.is_match(b"name_of_a_metric_49999") && !regex.is_match(b"name_of_a_metric_50000"));
    let deep = format!("{}a{}", "(".repeat(900), ")".repeat(900));
    assert!(Regex::anchored(deep.as_bytes()).unwrap().is_match(b"a"));
}

/// More values than are tried.
#[test]
fn a_trial_ends_without_a_trace() {
    let regex = Regex::anchored(".*é?[^a-z]+".as_bytes()).unwrap();
    for n in 0..200 {
        assert!(regex.is_match(format!("x{n}").as_bytes()) && !regex.is_match(format!("{n}é1y").as_bytes()));
        assert!(regex.program.get().is_none() || n > 20, "{n}");
    }
    assert!(regex.program.get().is_some());
    let long = Regex::anchored(b"(a|b)+.+").unwrap();
    assert!(long.is_match("ab".repeat(500).as_bytes()) && long.program.get().is_some());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]

    /// What is spelled out as bytes matches and captures what the classes do.
    #[test]
    fn spelled_classes_agree_with_unicode_ones(
        pattern in r"(\(|\)|\.|\.[*+?]\??|\[\^a\]|\[\^é\]\*|[ab]|\||é|\\pL|\\B|\\b|\[\^ab€\]){0,6}",
        value in "[abé€\u{10ffff}\n:]{0,8}",
    ) {
        if let Ok((hir, _)) = syntax::parse_with_size(pattern.as_bytes(), Dialect::Matcher) {
            let as_it_is = meta::Builder::new().build_from_hir(&hir).unwrap();
            let spelled = meta::Builder::new().build_from_hir(&characters::of_bytes(&hir)).unwrap();
            let groups = |regex: &meta::Regex| {
                let mut captures = regex.create_captures();
                regex.captures(value.as_bytes(), &mut captures);
                captures.iter().collect::<Vec<_>>()
            };
            proptest::prop_assert_eq!(groups(&as_it_is), groups(&spelled));
        }
    }

    #[test]
    fn shortcuts_agree_with_the_automaton(
        pattern in r"(\.[*+]?|[ab]|foo|\(a\|b\)|[ab]\?|\^|\$|\||é|\(\?i\)){0,6}",
        value in "[abfoAé\n]{0,6}",
    ) {
        if let Ok(regex) = Regex::anchored(pattern.as_bytes()) {
            let value = value.as_bytes();
            let expected = regex.program().is_match(regex.input(value));
            proptest::prop_assert_eq!(regex.is_match(value), expected);
            proptest::prop_assert_eq!(regex.captures(&Subject::new(value)).is_some(), expected);
        }
    }
}
