use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::decode::Dialect;
use super::scalar::{Value, resolve, resolve_text};
use super::tree::{Kind, Node, parse};
use super::{Decode, Decoder, emit};

#[test]
fn plain_scalars_have_the_types_of_yaml_1_1() {
    let cases = [
        ("yes", Value::Bool(true)),
        ("Off", Value::Bool(false)),
        ("y", Value::Bool(true)),
        ("~", Value::Null),
        ("", Value::Null),
        ("NULL", Value::Null),
        ("nULL", Value::Text),
        ("0777", Value::Int(511)),
        ("0o17", Value::Int(15)),
        ("0x1F", Value::Int(31)),
        ("0b101", Value::Int(5)),
        ("-0b101", Value::Int(-5)),
        ("1_000", Value::Int(1000)),
        ("+5", Value::Int(5)),
        ("089", Value::Float(89.0)),
        ("1.5e3", Value::Float(1500.0)),
        (".5", Value::Float(0.5)),
        (".inf", Value::Float(f64::INFINITY)),
        ("18446744073709551615", Value::Uint(u64::MAX)),
        ("-9223372036854775808", Value::Int(i64::MIN)),
        ("1x", Value::Text),
        ("-", Value::Text),
        ("1.2.3", Value::Text),
        ("inf", Value::Text),
        ("-inf", Value::Text),
        ("<<", Value::Merge),
    ];
    for (text, value) in cases {
        assert_eq!(resolve_text(text), value, "{text}");
    }
}

/// Decodes into a type and shows the value, or what is wrong.
#[track_caller]
fn check<T: Decode + std::fmt::Debug>(text: &str, expected: Expect) {
    let mut decoder = Decoder::new(Dialect::V2);
    let decoded = parse(text).and_then(|document| {
        let value = T::decode(&mut decoder, &document.root.expect("the text is not empty"))?;
        decoder.finish()?;
        Ok(value)
    });
    let shown = match decoded {
        Ok(value) => format!("{:?}", value.expect("no error was noted")),
        Err(issue) => issue.text,
    };
    expected.assert_eq(&shown);
}

#[test]
fn scalars_fit_where_the_reference_library_fits_them() {
    check::<i64>("1.9", expect![["1"]]);
    check::<i64>(
        "'5'",
        expect![[r#"
        yaml: unmarshal errors:
          line 1: cannot unmarshal !!str `5` into int"#]],
    );
    check::<u64>(
        "-1",
        expect![[r#"
        yaml: unmarshal errors:
          line 1: cannot unmarshal !!int `-1` into uint"#]],
    );
    check::<String>("0777", expect![[r#""0777""#]]);
    check::<String>("yes", expect![[r#""yes""#]]);
    check::<String>("~", expect![[r#""""#]]);
    check::<String>("!!binary aGk=", expect![[r#""hi""#]]);
    check::<String>("!!binary x", expect!["yaml: !!binary value contains invalid base64 data"]);
    check::<String>(
        "[a]",
        expect![[r#"
        yaml: unmarshal errors:
          line 1: cannot unmarshal !!seq into string"#]],
    );
    check::<bool>(
        "maybe, or even not",
        expect![[r#"
        yaml: unmarshal errors:
          line 1: cannot unmarshal !!str `maybe, ...` into bool"#]],
    );
    check::<Vec<String>>(
        "[a, [b], ~, {c: d}]",
        expect![[r#"
        yaml: unmarshal errors:
          line 1: cannot unmarshal !!seq into string
          line 1: cannot unmarshal !!map into string"#]],
    );
    check::<f64>("010", expect!["8.0"]);
}

type Map = std::collections::BTreeMap<String, String>;

#[test]
fn merge_keys_and_anchors() {
    let text = "[&a {x: 1, y: 2}, &b {y: 3, z: 4}, {<<: *a}, {<<: [*a, *b]}, {w: *a}]";
    let root = parse(text).unwrap().root.unwrap();
    let Kind::List(items) = &root.kind else { panic!("not a list") };
    let mut decoder = Decoder::new(Dialect::V2);
    let map = |decoder: &mut Decoder, node: &Node| Map::decode(decoder, node).unwrap().unwrap();
    expect![[r#"{"x": "1", "y": "2"}"#]].assert_eq(&format!("{:?}", map(&mut decoder, &items[2])));
    decoder.finish().unwrap();
    // Strict reading refuses what two merges or a merge and a key both set.
    map(&mut decoder, &items[3]);
    expect![[r#"
        yaml: unmarshal errors:
          line 1: key "y" already set in map"#]]
    .assert_eq(&decoder.finish().unwrap_err().text);
    let mut decoder = Decoder::new(Dialect::V3);
    assert_eq!(map(&mut decoder, &items[3])["y"], "2");
    decoder.finish().unwrap();
}

#[test]
fn alias_bombs_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    assert_eq!(parse(&text).err().unwrap().text, "yaml: document contains excessive aliasing");
    let nested = "[".repeat(1000) + &"]".repeat(1000);
    assert!(parse(&nested).is_err());
    let items = (0..150).map(|i| format!("{}- x\n", "  ".repeat(i)));
    let _ = parse(&items.collect::<String>());
}

/// Whether our tree and the other library's value are the same; `None` where the dialects differ by design.
fn same(ours: &Node, theirs: &serde_yaml::Value) -> Option<bool> {
    use serde_yaml::Value as Other;
    Some(match (&ours.kind, theirs) {
        (Kind::List(a), Other::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b).try_fold(true, |all, (a, b)| Some(all && same(a, b)?))?
        }
        (Kind::Map(a), Other::Mapping(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .try_fold(true, |all, ((k, v), (ok, ov))| Some(all && same(k, ok)? && same(v, ov)?))?
        }
        (Kind::Scalar(scalar), other) => match (resolve(scalar), other) {
            (Value::Text, Other::String(text)) => scalar.text == *text,
            (Value::Null, Other::Null) => true,
            (Value::Bool(a), Other::Bool(b)) => a == *b,
            (Value::Int(a), Other::Number(b)) if b.is_i64() => Some(a) == b.as_i64(),
            (Value::Uint(a), Other::Number(b)) if b.is_u64() => Some(a) == b.as_u64(),
            (Value::Float(a), Other::Number(b)) if b.is_f64() => {
                b.as_f64().is_some_and(|b| a == b || a.is_nan() && b.is_nan())
            }
            // Words, bases and underscores that only one of the two versions of the language knows.
            _ => return None,
        },
        _ => false,
    })
}

fn scalar_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[a-z:#,'\"\\[\\]{}&*!|>%@ \n-]{0,12}",
        "[0-9a-fx._+:-]{1,8}",
        "(yes|no|null|~|true|on|<<|---|\\.\\.\\.|é ü|日本|\t|\u{85}|\u{2028}|\u{feff})",
        "[a-z]{1,9}( [a-z]{1,9}){8,20}",
        "( ?[a-z]{0,5}\n){1,4}",
    ]
}

fn out_tree() -> impl Strategy<Value = emit::Out> {
    let leaf = scalar_text().prop_map(emit::Out::Text);
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(emit::Out::List),
            prop::collection::vec(scalar_text(), 0..4).prop_map(emit::Out::Flow),
            prop::collection::btree_map("[a-z~: ]{1,6}|yes|5|- x", inner, 0..5)
                .prop_map(|map| emit::Out::Map(map.into_iter().collect())),
        ]
    })
}

/// Whether a node says exactly what was printed.
fn says(node: &Node, out: &emit::Out) -> bool {
    let is_text = |node: &Node, text: &str| match &node.kind {
        Kind::Scalar(scalar) => scalar.text == text && resolve(scalar) == Value::Text,
        _ => false,
    };
    match (&node.kind, out) {
        (Kind::Scalar(_), emit::Out::Text(text)) => is_text(node, text),
        (Kind::List(items), emit::Out::List(outs)) => {
            items.len() == outs.len() && items.iter().zip(outs).all(|(item, out)| says(item, out))
        }
        (Kind::List(items), emit::Out::Flow(texts)) => {
            items.len() == texts.len() && items.iter().zip(texts).all(|(item, text)| is_text(item, text))
        }
        (Kind::Map(entries), emit::Out::Map(fields)) => {
            entries.len() == fields.len()
                && entries.iter().zip(fields).all(|((k, v), (key, out))| is_text(k, key) && says(v, out))
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// What is printed reads back as the same text, for this reader and for another library.
    #[test]
    fn printed_trees_read_back(out in out_tree()) {
        let text = emit::print(&emit::Out::Map(vec![("root".to_owned(), out.clone())]));
        let root = parse(&text).map_err(|e| TestCaseError::fail(format!("{}\n{text}", e.text)))?.root.unwrap();
        prop_assert!(says(root.get("root").unwrap(), &out), "{}", text);
        if let Ok(theirs) = serde_yaml::from_str::<serde_yaml::Value>(&text) {
            prop_assert!(same(&root, &theirs) != Some(false), "{}", text);
        }
    }

    /// Random text in YAML's alphabet: both libraries build the same tree wherever both accept it.
    #[test]
    fn random_documents_agree_with_another_library(
        lines in prop::collection::vec("( {0,2}){0,2}(- |[a-c]: ){0,2}([a-z0-9.]{0,3}|'[a-z ]{0,3}'|\"[a-z]{0,2}\"|\\[a, b\\]|\\{c: d\\}|&x [a-c]|\\|)", 1..8),
    ) {
        let text = lines.join("\n") + "\n";
        let theirs = serde_yaml::from_str::<serde_yaml::Value>(&text);
        if let (Ok(ours), Ok(theirs)) = (parse(&text), theirs)
            && let (Some(root), false) = (ours.root, ours.has_more)
        {
            prop_assert!(same(&root, &theirs) != Some(false), "{}\n{:?}\n{:?}", text, root, theirs);
        }
    }
}

/// The standard wants such lines indented, the reference library does not mind.
#[test]
fn quoted_scalars_go_on_anywhere() {
    let text = "a:\n  b: 'x\ny\n\n z'\n  c: \"1\n2\"\nd: 3\n";
    let root = super::tree::parse(text).unwrap().root.unwrap();
    let a = root.get("a").unwrap();
    assert_eq!(a.get("b").unwrap().text(), Some("x y\nz"));
    assert_eq!(a.get("c").unwrap().text(), Some("1 2"));
    let d = root.get("d").unwrap();
    assert_eq!((d.pos.line, d.pos.column, d.text()), (8, 4, Some("3")));
}
