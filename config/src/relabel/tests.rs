use expect_test::{Expect, expect};
use model::{Labels, LabelsBuilder};

use super::{Action, NameScheme, Rule, apply};

/// `source` is a comma separated list; an empty pattern or replacement means the default.
fn rule(action: Action, source: &str, pattern: &str, target: &str, replacement: &str) -> Rule {
    let mut rule = Rule { action, target_label: target.to_owned(), ..Rule::default() };
    rule.source_labels = source.split(',').filter(|s| !s.is_empty()).map(|s| s.as_bytes().into()).collect();
    if !pattern.is_empty() {
        rule.pattern = pattern.to_owned();
        rule.regex = model::Regex::anchored(pattern.as_bytes()).unwrap().into();
    }
    if !replacement.is_empty() {
        rule.replacement = replacement.to_owned();
    }
    rule
}

#[track_caller]
fn check(rules: &[Rule], expected: Expect) {
    let labels = Labels::from_pairs([("a", "foo"), ("b", "bar"), ("c", "baz"), ("__meta_x", "y")]);
    let mut builder = LabelsBuilder::from(&labels);
    let keep = apply(rules, &mut builder);
    let shown = if keep { builder.build().to_string() } else { "dropped".to_owned() };
    expected.assert_eq(&shown);
}

#[test]
fn replace() {
    check(
        &[rule(Action::Replace, "a", "f(.*)", "d", "ch${1}-ch$1")],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", d="choo-choo"}"#]],
    );
    check(
        &[rule(Action::Replace, "a,b", "f(.*);(.*)r", "a", "b${1}${2}m")],
        expect![[r#"{__meta_x="y", a="boobam", b="bar", c="baz"}"#]],
    );
    // No match, no change.
    check(
        &[rule(Action::Replace, "a", "x(.*)", "d", "v")],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz"}"#]],
    );
    // An empty result deletes the label.
    check(
        &[rule(Action::Replace, "a", "(f).*(x)?", "b", "$2")],
        expect![[r#"{__meta_x="y", a="foo", c="baz"}"#]],
    );
    // The target is expanded too; an invalid one changes nothing.
    check(
        &[
            rule(Action::Replace, "a", "(.*)", "${1}", "$1"),
            rule(Action::Replace, "a", "fo(x?).*", "$1", "v"),
        ],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", foo="foo"}"#]],
    );
    // Named groups, dollars, unknown groups and lone dollars.
    check(
        &[rule(Action::Replace, "a", "(?P<first>f)(.*)", "d", "${first}|$$|$9|$1x|$|${2|$-")],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", d="f|$|||$|${2|$-"}"#]],
    );
    check(
        &[rule(Action::Replace, "", "", "d", "static")],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", d="static"}"#]],
    );
}

#[test]
fn legacy_names_narrow_the_target() {
    let mut dotted = rule(Action::Replace, "a", "(.*)", "${1}.x", "$1");
    check(&[dotted.clone()], expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", "foo.x"="foo"}"#]]);
    dotted.scheme = NameScheme::Legacy;
    check(&[dotted], expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz"}"#]]);
}

#[test]
fn keep_and_drop() {
    check(
        &[rule(Action::Keep, "a", "f.*", "", "")],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz"}"#]],
    );
    check(&[rule(Action::Keep, "a", "oo", "", "")], expect!["dropped"]);
    check(&[rule(Action::Drop, "a", "f|fo|foo", "", "")], expect!["dropped"]);
    check(
        &[rule(Action::Drop, "nope", ".+", "", "")],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz"}"#]],
    );
    check(&[rule(Action::KeepEqual, "a", "", "b", "")], expect!["dropped"]);
    check(&[rule(Action::DropEqual, "a", "", "a", "")], expect!["dropped"]);
    check(&[rule(Action::DropEqual, "x", "", "y", "")], expect!["dropped"]);
}

#[test]
fn hashmod_takes_the_last_eight_bytes_big_endian() {
    let mut hashmod = rule(Action::HashMod, "c", "", "d", "");
    hashmod.modulus = 1000;
    check(&[hashmod.clone()], expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", d="976"}"#]]);
    hashmod.source_labels = vec![b"a"[..].into(), b"b"[..].into()];
    hashmod.modulus = u64::MAX;
    check(&[hashmod], expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", d="15973639978189266750"}"#]]);
}

#[test]
fn names() {
    check(
        &[rule(Action::LabelMap, "", "__meta_(.+)", "", "m_${1}")],
        expect![[r#"{__meta_x="y", a="foo", b="bar", c="baz", m_x="y"}"#]],
    );
    // A map does not see the labels it makes.
    check(
        &[rule(Action::LabelMap, "", "(a+)", "", "a$1")],
        expect![[r#"{__meta_x="y", a="foo", aa="foo", b="bar", c="baz"}"#]],
    );
    check(&[rule(Action::LabelDrop, "", "a|__.*", "", "")], expect![[r#"{b="bar", c="baz"}"#]]);
    check(&[rule(Action::LabelKeep, "", "a|__.*", "", "")], expect![[r#"{__meta_x="y", a="foo"}"#]]);
}

#[test]
fn case_is_changed_one_character_for_one() {
    let labels = Labels::from_pairs([("a", "Straße İΣ ᾳ")]);
    let mut builder = LabelsBuilder::from(&labels);
    apply(
        &[rule(Action::Lowercase, "a", "", "low", ""), rule(Action::Uppercase, "a", "", "up", "")],
        &mut builder,
    );
    expect![[r#"{a="Straße İΣ ᾳ", low="straße iσ ᾳ", up="STRAßE İΣ ᾼ"}"#]]
        .assert_eq(&builder.build().to_string());
}

#[test]
fn the_first_drop_ends_the_list() {
    let labels = Labels::from_pairs([("a", "foo")]);
    let mut builder = LabelsBuilder::from(&labels);
    let rules = [rule(Action::Drop, "a", "foo", "", ""), rule(Action::Replace, "", "", "d", "v")];
    assert!(!apply(&rules, &mut builder));
    assert_eq!(builder.build(), labels);
}
