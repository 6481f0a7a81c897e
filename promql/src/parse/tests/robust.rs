//! Whatever the text, the parser answers: no panic, no overflow, and what it prints it reads.

use proptest::prelude::*;

use super::super::{
    HEIGHT_MAX, NESTING_MAX, Options, Parser, TEXT_BYTES_MAX, json, parse_selector, pretty, series,
};
use super::{corpus, generate, parse};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_printed_tree_parses_to_itself(mut tree in generate::vector()) {
        let printed = tree.to_string();
        let mut again = parse(&printed).map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
        generate::canonical(&mut tree);
        generate::canonical(&mut again);
        prop_assert_eq!(&again, &tree, "{}", printed);
        let pretty = pretty::format(&tree);
        let again = parse(&pretty).map_err(|e| TestCaseError::fail(format!("{pretty}: {e}")))?;
        prop_assert_eq!(again.to_string(), printed, "{}", pretty);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}") {
        answer(&text);
    }

    #[test]
    fn any_sequence_of_tokens_is_answered(tokens in prop::collection::vec(prop::sample::select(TOKENS.to_vec()), 0..14), gap in "( |\n|)") {
        answer(&tokens.join(&gap));
    }

    #[test]
    fn mutations_of_the_corpus_are_answered(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3, prop::sample::select(TOKENS.to_vec())), 1..4),
    ) {
        let texts = corpus::texts();
        let mut text = texts[pick.index(texts.len())].clone();
        for (place, kind, token) in edits {
            let mut at = place.index(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match kind {
                0 => text.insert_str(at, token),
                1 => text.truncate(at),
                _ => {
                    if at < text.len() {
                        text.remove(at);
                    }
                }
            }
        }
        answer(&text);
    }
}

const TOKENS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "!=",
    "=~",
    "!~",
    "==",
    "</",
    ">/",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "@",
    "and",
    "unless",
    "atan2",
    "sum",
    "topk",
    "count_values",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "fill",
    "fill_left",
    "offset",
    "anchored",
    "smoothed",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "inf",
    "nan",
    "rate",
    "info",
    "foo",
    "a:b",
    "\"x\"",
    "'\\xff'",
    "`z`",
    "5m",
    "1h30m",
    "5",
    "0x1f",
    "010",
    "1e3",
    ".5",
    "step()",
    "[5m]",
    "[5m:]",
    "offset 5m",
    "@ 5",
    "#c\n",
    "\u{fffd}",
    "é",
    "_",
    "x",
    "{{",
    "}}",
    "stale",
];

/// Every way in takes the text; what is a tree prints, and the print is stable.
fn answer(text: &str) {
    for options in [Options::ALL, Options::default()] {
        if let Ok(expr) = Parser::new(options).parse(text) {
            let printed = expr.to_string();
            pretty::format(&expr);
            json::write(&expr, &mut Vec::new());
            assert!(!printed.is_empty());
        }
    }
    let _ = parse_selector(text);
    let _ = series::parse(text);
    let _ = series::parse_metric(text);
}

/// Runs on a stack as small as a worker's.
fn on_small_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn hostile_nesting_is_an_error() {
    on_small_stack(|| {
        let n = 100_000;
        for text in [
            "(".repeat(n),
            format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
            "-".repeat(n) + "a",
            "a+".repeat(n) + "a",
            "a^".repeat(n) + "a",
            "sum(".repeat(n),
            "abs(".repeat(n),
            format!("a{}", "[1m:]".repeat(n)),
            format!("a[{}", "(".repeat(n)),
            format!("a[{}1", "-".repeat(n)),
            format!("a[1{}]", "+1".repeat(n)),
            format!("a offset {}b", "-".repeat(n)),
            "min_of(1,".repeat(n),
            format!("a[{}", "min_of(1,".repeat(n)),
            "sum by (a) (".repeat(n / 2),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            let expected = ["nested too deeply", "unclosed", "unexpected", "subquery is only allowed"];
            assert!(expected.iter().any(|text| error.contains(text)), "{error}");
        }
    });
}

#[test]
fn the_highest_tree_is_parsed_printed_and_dropped() {
    on_small_stack(|| {
        let (wide, deep) = (HEIGHT_MAX - 1, NESTING_MAX - 1);
        for text in [
            format!("{}a{}", "(".repeat(deep), ")".repeat(deep)),
            format!("{}a{}", "abs(".repeat(deep), ")".repeat(deep)),
            format!("{}a{}", "sum by (x) (".repeat(deep), ")".repeat(deep)),
            "a^".repeat(deep) + "a",
            "a+".repeat(wide) + "a",
            format!("a[1m{}]", "*1".repeat(wide - 1)),
        ] {
            let expr = parse(&text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(parse(&expr.to_string()).unwrap().to_string(), expr.to_string());
            pretty::format(&expr);
            json::write(&expr, &mut Vec::new());
        }
        let error = parse(&("a+".repeat(HEIGHT_MAX) + "a")).unwrap_err();
        assert_eq!(error.message, "expression is nested too deeply, the limit is 500 levels");
        let error = parse(&("(".repeat(NESTING_MAX + 1) + "a")).unwrap_err();
        assert_eq!(error.message, "expression is nested too deeply, the limit is 100 levels");
    });
}

/// Half of what the smallest thread has, so that there is room for its callers.
#[test]
fn every_construct_nests_up_to_the_limit_in_half_a_small_stack() {
    let nest = |open: &str, close: &str, n: usize| format!("{}a{}", open.repeat(n), close.repeat(n));
    let constructs = [
        ("(", ")"),
        ("abs(", ")"),
        ("sum by (x) (", ")"),
        ("topk(1, ", ")"),
        ("label_replace(", ", 'a', 'b', 'c', 'd')"),
        ("max_over_time(", "[1m:])"),
        ("a + on(x) group_left (y) (", ")"),
        ("-(", ")"),
        ("a ^ ", ""),
    ];
    let run = move || {
        for (open, close) in constructs {
            // A sign or an operator opens an expression of its own besides the parenthesis, and a duration is
            // one inside the innermost.
            let deepest = match open {
                "-(" | "a + on(x) group_left (y) (" => (NESTING_MAX - 1) / 2,
                "max_over_time(" => NESTING_MAX - 2,
                _ => NESTING_MAX - 1,
            };
            let expr = parse(&nest(open, close, deepest)).unwrap_or_else(|e| panic!("{open}: {e}"));
            drop(expr.clone());
            for n in [deepest + 1, 3 * NESTING_MAX] {
                let error = parse(&nest(open, close, n)).unwrap_err();
                let expected = "expression is nested too deeply, the limit is 100 levels";
                assert_eq!(error.message, expected, "{open} {n}");
            }
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_text_is_limited_in_size() {
    let padded = |n: usize| format!("a{}", " ".repeat(n - 1));
    assert!(parse(&padded(TEXT_BYTES_MAX)).is_ok());
    assert_eq!(
        parse(&padded(TEXT_BYTES_MAX + 1)).unwrap_err().to_string(),
        "1:1: parse error: expression of 1048577 bytes exceeds the limit of 1048576"
    );
}

#[test]
fn a_series_is_limited_in_length() {
    for text in ["a 1x99999999999999999999999", "a _x4194305", "a 1+1x4194304"] {
        let error = series::parse(text).unwrap_err();
        assert_eq!(error.message, "series of more than 4194304 values", "{text}");
    }
}
