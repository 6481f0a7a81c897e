use expect_test::{Expect, expect};

use super::{Mode, parse, parse_in, parse_one};

#[track_caller]
fn check(text: &str, expected: Expect) {
    let shown = match parse(text) {
        Ok(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" & "),
        Err(e) => format!("error: {e}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn both_grammars_agree() {
    check(r#"a="b""#, expect![[r#"a="b""#]]);
    check(r#"{a="b", c!~"d|e",}"#, expect![[r#"a="b" & c!~"d|e""#]]);
    check("a=b,c!=d", expect![[r#"a="b" & c!="d""#]]);
    check(r#" a =~ "x.*" "#, expect![[r#"a=~"x.*""#]]);
    check("", expect![[""]]);
    check("{}", expect![[""]]);
}

#[test]
fn only_the_newer_one() {
    check(r#""überschrift"="x y""#, expect![[r#""überschrift"="x y""#]]);
    check(r#"service.name=api"#, expect![[r#""service.name"="api""#]]);
    check(r#"{🙂=🙂}"#, expect![[r#""🙂"="🙂""#]]);
    check(r#""a\u0062"="\x41""#, expect![[r#"ab="A""#]]);
}

#[test]
fn only_the_classic_one() {
    check("a=", expect![[r#"a="""#]]);
    check("a=b c", expect![[r#"a="b c""#]]);
    check(r"a=\d", expect![[r#"a="\\d""#]]);
    check("{a=b", expect![[r#"a="b""#]]);
}

#[test]
fn classic_wins_where_they_disagree() {
    check(r#"a="\x41""#, expect![[r#"a="\\x41""#]]);
    check(r#"a="\d""#, expect![[r#"a="\\d""#]]);
}

#[test]
fn refused_by_both() {
    check("a", expect!["error: bad matcher format: a"]);
    check(r#"a="b"#, expect![[r#"error: matcher value contains unescaped double quote: "b"#]]);
    check(r#"a=b"c"#, expect![[r#"error: matcher value contains unescaped double quote: b"c"#]]);
    check("a==b", expect![[r#"a="=b""#]]);
    check("0a=b,", expect![[r#""0a"="b""#]]);
    check("=b", expect!["error: bad matcher format: =b"]);
}

#[test]
fn patterns_that_do_not_compile() {
    check(r#"a=~"(""#, expect!["error: error parsing regexp: missing closing ): `^(?:()$`"]);
    // The comma inside the pattern ends the classic matcher, so neither grammar can read it.
    check(r"a=~b{1,2}", expect!["error: bad matcher format: 2"]);
}

#[test]
fn strict_modes() {
    assert!(parse_in(Mode::Utf8, "a=").is_err() && parse_in(Mode::Classic, "a=").is_ok());
    assert!(parse_in(Mode::Classic, "a.b=c").is_err() && parse_in(Mode::Utf8, "a.b=c").is_ok());
}

#[test]
fn one_matcher() {
    assert_eq!(parse_one("a=b").unwrap().to_string(), "a=\"b\"");
    assert!(parse_one("").is_err());
}
