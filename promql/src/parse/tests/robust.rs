//! Whatever the text, the parser answers: no panic, no overflow, and what it prints it reads.

use proptest::prelude::*;

use super::super::{
    DURATION_HEIGHT_MAX, DURATION_NESTING_MAX, HEIGHT_MAX, Options, Parser, SUBQUERIES_MAX, TEXT_BYTES_MAX,
    json, parse_selector, pretty, series,
};
use super::texts::Texts;
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
            format!("{}1{}", "(".repeat(n), ")".repeat(n)),
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
            "a + on (b) ".repeat(n / 2) + "a",
        ] {
            let error = parse(&text).unwrap_err().to_string();
            let expected = ["nested too deeply", "unclosed", "unexpected", "subquery is only allowed"];
            assert!(expected.iter().any(|text| error.contains(text)), "{error}");
        }
    });
}

/// Constructs that hold one of their kind: what stands before and behind, and the nodes of each.
const NESTS: &[(&str, &str, usize)] = &[
    ("(", ")", 1),
    ("-", "", 1),
    ("a+", "", 0),
    ("1 - a or ", "", 0),
    ("a^", "", 1),
    ("a * -", "", 0),
    ("abs(", ")", 1),
    ("sum by (x) (", ")", 1),
    ("topk(1, ", ")", 1),
    ("label_replace(", ", 'a', 'b', 'c', 'd')", 1),
    ("a + on(x) group_left (y) (", ")", 2),
    ("sum(x) - (", ")", 2),
];

/// As many levels as upstream is known to answer, and then some, with every walk over the tree.
#[test]
fn high_trees_need_no_stack() {
    on_small_stack(|| {
        for (open, close, _) in NESTS {
            let n = 5000;
            let expr = parse(&format!("{}a{}", open.repeat(n), close.repeat(n)))
                .unwrap_or_else(|error| panic!("{open}: {error}"));
            let printed = expr.to_string();
            assert_eq!(parse(&printed).unwrap().to_string(), printed, "{open}");
            let mut nodes = 0;
            expr.walk(|_| nodes += 1);
            assert!(nodes > n && (n..4 * n).contains(&expr.height()), "{open}: {nodes} nodes");
            assert_eq!(expr.value_type().as_str(), "vector");
            let mut bytes = Vec::new();
            json::write(&expr, &mut bytes);
            assert!(bytes.len() > 10 * n && bytes.ends_with(b"}"), "{open}");
            let pretty = pretty::format(&expr);
            assert!(pretty.len() < 40 << 20, "{open}: {}", pretty.len());
            if pretty.len() <= TEXT_BYTES_MAX {
                assert_eq!(parse(&pretty).unwrap().to_string(), printed, "{open}");
            }
        }
    });
}

#[test]
fn a_tree_is_limited_in_height() {
    on_small_stack(|| {
        for (open, close, nodes) in NESTS {
            let nest = |n: usize| parse(&format!("{}a{}", open.repeat(n), close.repeat(n)));
            if *nodes == 1 {
                assert!(nest(HEIGHT_MAX - 1).is_ok(), "{open}");
                assert!(nest(HEIGHT_MAX).is_err(), "{open}");
            }
            let error = nest(HEIGHT_MAX + 1).unwrap_err();
            assert_eq!(error.message, "expression is nested too deeply, the limit is 16384 levels", "{open}");
        }
    });
}

#[test]
fn subqueries_are_limited() {
    let nest = |n: usize| parse(&format!("{}a{}", "max_over_time(".repeat(n), "[1m:] offset 1m)".repeat(n)));
    let expr = nest(SUBQUERIES_MAX).unwrap();
    assert_eq!(expr.height(), 2 * SUBQUERIES_MAX + 1);
    assert_eq!(parse(&expr.to_string()).unwrap().to_string(), expr.to_string());
    pretty::format(&expr);
    json::write(&expr, &mut Vec::new());
    for n in [SUBQUERIES_MAX + 1, 10_000] {
        let error = nest(n).unwrap_err();
        assert_eq!(error.message, "subqueries are nested too deeply, the limit is 100 levels");
    }
}

/// Half of what the smallest thread has, so that there is room for its callers.
#[test]
fn durations_are_limited_in_height() {
    let run = || {
        for text in [
            format!("a[1m{}]", "*1".repeat(DURATION_HEIGHT_MAX - 1)),
            format!(
                "a[{}1m+1m{}]",
                "(".repeat(DURATION_NESTING_MAX - 2),
                ")".repeat(DURATION_NESTING_MAX - 2)
            ),
            format!("a[1m{}]", "^1".repeat(DURATION_NESTING_MAX - 1)),
        ] {
            let expr = parse(&text).unwrap_or_else(|error| panic!("{error}"));
            drop(expr.clone());
            assert_eq!(parse(&expr.to_string()).unwrap().to_string(), expr.to_string());
            pretty::format(&expr);
            json::write(&expr, &mut Vec::new());
        }
        let error = parse(&format!("a[1m{}]", "*1".repeat(DURATION_HEIGHT_MAX))).unwrap_err();
        assert_eq!(error.message, "expression is nested too deeply, the limit is 500 levels");
        let error = parse(&format!("a[{}1m", "(".repeat(DURATION_NESTING_MAX))).unwrap_err();
        assert_eq!(error.message, "expression is nested too deeply, the limit is 100 levels");
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

/// What a megabyte can hold, each in about the time it takes to read it.
#[test]
fn long_texts_are_answered() {
    let n = TEXT_BYTES_MAX;
    for (text, is_valid) in [
        (format!("\"{}\"", "x".repeat(n - 2)), true),
        (format!("`{}`", "\n".repeat(n - 2)), true),
        (format!("\"{}", "\\".repeat(n - 2)), false),
        ("a".repeat(n), true),
        (format!("{{{}}}", "a=\"b\",".repeat(n / 6 - 2)), true),
        (format!("{{{}}}", "\"b\"".repeat(n / 4 - 2)), false),
        (format!("sum by ({}) (x)", "ab,".repeat(n / 3 - 10)), true),
        (format!("label_join(x, {}'c')", "'a',".repeat(n / 4 - 10)), true),
        (format!("a{}", " ".repeat(n - 1)), true),
        (format!("a{}", "\n#c".repeat(n / 3 - 1)), true),
        ("1".repeat(n), false),
        (format!("0.{}", "1".repeat(n - 2)), true),
        (format!("a[{}]", "1s".repeat(n / 2 - 3)), false),
        ("fill ".repeat(n / 5), false),
        (format!("fill{}", " ".repeat(n - 4)), true),
        ("a+".repeat(n / 2), false),
        (" a offset 1m".repeat(n / 12), false),
        (format!("a{}", " offset 0".repeat(n / 9 - 1)), true),
        (format!("a{}", " anchored".repeat(n / 9 - 1)), true),
    ] {
        let parsed = parse(&text);
        assert_eq!(parsed.is_ok(), is_valid, "{:.20}: {:?}", text, parsed.err());
        if let Ok(expr) = parsed {
            expr.to_string();
            pretty::format(&expr);
            json::write(&expr, &mut Vec::new());
        }
    }
}

/// Random texts by seed: no panic, and what is accepted prints to what is the same again.
#[test]
fn texts_by_seed_are_answered_and_round_trip() {
    let mut texts = Texts::new(1);
    let (mut accepted, mut refused) = (0, 0);
    for i in 0..6000 {
        let text =
            if i % 2 == 0 { texts.valid() } else { String::from_utf8_lossy(&texts.spoiled()).into_owned() };
        answer(&text);
        let Ok(mut expr) = parse(&text) else {
            refused += 1;
            continue;
        };
        accepted += 1;
        let printed = expr.to_string();
        // An odd duration prints shorter than it is, upstream's print of NaN does not parse, an infinity
        // prints with a sign, and an offset that starts with a literal in parentheses prints without them.
        let odd = ["2054s294ms", "nan", "34m14s29", " offset ", "inf ^"];
        if odd.iter().any(|odd| text.to_lowercase().contains(odd) || printed.to_lowercase().contains(odd)) {
            continue;
        }
        let mut again = parse(&printed).unwrap_or_else(|e| panic!("{text}\nprints {printed}\n{e}"));
        assert_eq!(again.to_string(), printed, "{text}");
        if !printed.contains(['(', ')', '+', '-']) {
            generate::canonical(&mut expr);
            generate::canonical(&mut again);
            assert_eq!(again, expr, "{text}\nprints {printed}");
        }
    }
    assert!(accepted > 1200 && refused > 1200, "{accepted} accepted, {refused} refused");
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
