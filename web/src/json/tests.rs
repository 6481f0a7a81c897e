use super::value::write_timestamp;
use super::{write_escaped, write_labels, write_raw};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn timestamps_have_three_decimals_or_none() {
    for (t, want) in [
        (1_435_781_451_781, "1435781451.781"),
        (1_000, "1"),
        (1_500, "1.500"),
        (-1_005, "-1.005"),
        (0, "0"),
        (i64::MIN, "-9223372036854775.808"),
    ] {
        assert_eq!(written(|out| write_timestamp(out, t)), want);
    }
}

#[test]
fn results_are_raw_and_messages_are_html_safe() {
    let text = "a<b> & \"c\"\\\n\t\x01\u{2028}ü".as_bytes();
    assert_eq!(written(|out| write_raw(out, text)), "\"a<b> & \\\"c\\\"\\\\\\n\\t\\u0001\u{2028}ü\"");
    assert_eq!(
        written(|out| write_escaped(out, text)),
        "\"a\\u003cb\\u003e \\u0026 \\\"c\\\"\\\\\\n\\t\\u0001\\u2028ü\""
    );
    assert_eq!(written(|out| write_raw(out, b"\xff!")), "\"\u{fffd}!\"");
}

#[test]
fn label_sets_are_objects_in_order() {
    let labels = model::Labels::from_pairs([("b", "<2>"), ("a", "1")]);
    assert_eq!(written(|out| write_labels(out, &labels)), r#"{"a":"1","b":"<2>"}"#);
}

#[test]
fn the_time_of_a_scalar_is_a_number_like_any_other() {
    let text = |value: &promql::Value| {
        let mut out = Vec::new();
        super::value::write_value(&mut out, value);
        String::from_utf8(out).unwrap()
    };
    let scalar = promql::Value::Scalar(model::Sample { t: 1500, v: 2.0 });
    assert_eq!(text(&scalar), r#""resultType":"scalar","result":[1.5,"2"]"#);
    let string = promql::Value::String { t: -60, value: b"x"[..].into() };
    assert_eq!(text(&string), r#""resultType":"string","result":[-0.06,"x"]"#);
}
