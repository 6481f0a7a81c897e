use proptest::prelude::*;

use super::*;

#[test]
fn zero_and_the_specials() {
    for (v, f, g, e) in [
        (0.0, "0", "0", "0e+00"),
        (-0.0, "-0", "-0", "-0e+00"),
        (f64::NAN, "NaN", "NaN", "NaN"),
        (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
        (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf"),
    ] {
        assert_eq!((format_f(v), format_g(v), format_e(v)), (f.to_owned(), g.to_owned(), e.to_owned()));
        assert_eq!((format_json(v), format_fixed(v, 0)), (f.to_owned(), f.to_owned()));
    }
}

#[test]
fn layouts_switch_where_upstream_switches() {
    assert_eq!(
        [123_456.0, 1e6, 1_234_567.0, 1e-4, 1e-5].map(format_g),
        ["123456", "1e+06", "1.234567e+06", "0.0001", "1e-05"]
    );
    assert_eq!(
        [1e20, 1e21, 1e-6, 9.9e-7, 1e15 + 0.5].map(format_json),
        ["100000000000000000000", "1e+21", "0.000001", "9.9e-07", "1000000000000000.5"]
    );
    assert_eq!(
        [0.0, -0.0, 1.0, 10.0, 0.25, 1e6, -2.0].map(format_openmetrics),
        ["0.0", "0.0", "1.0", "10.0", "0.25", "1e+06", "-2.0"]
    );
    assert_eq!([0.0, 2.5, -1e3].map(|v| format_fixed(v, 6)), ["0.000000", "2.500000", "-1000.000000"]);
    assert_eq!(format_f(f64::from_bits(0x4314_9de9_09a8_6b55)), "1450780937296597.2", "a tie goes to even");
}

/// Bits, then what Go prints for `e`, `g`, `f` (`~` where it is long) and `f` with three digits.
#[test]
fn prints_what_go_prints() {
    for case in include_str!("../../testdata/format_float.golden").lines() {
        let [bits, e, g, f, fixed] = case.split(' ').collect::<Vec<_>>()[..] else { panic!("{case}") };
        let v = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
        assert_eq!(format_e(v), e, "{case}");
        assert_eq!(format_g(v), g, "{case}");
        assert_eq!(format_fixed(v, 3), fixed, "{case}");
        if f != "~" {
            assert_eq!(format_f(v), f, "{case}");
        }
    }
}

/// A text, then the bits that Go reads, or `nan`, `syntax`, `range`.
#[test]
fn reads_what_go_reads() {
    for case in include_str!("../../testdata/parse_float.golden").lines() {
        let (text, expected) = case.split_once(' ').unwrap();
        let show = |v| match v {
            Ok(v) if f64::is_nan(v) => "nan".to_owned(),
            Ok(v) => format!("{:x}", v.to_bits()),
            Err(ParseError::Syntax) => "syntax".to_owned(),
            Err(ParseError::Range) => "range".to_owned(),
        };
        assert_eq!(show(parse_go_float(text.as_bytes())), expected, "{text}");
        let is_exposition = !text.contains(['_', 'p', 'P', 'x', 'X']);
        let expected = if is_exposition { expected } else { "syntax" };
        assert_eq!(show(parse_float(text.as_bytes())), expected, "{text} in an exposition");
    }
}

#[test]
fn a_refusal_has_gos_words() {
    let error = parse_float(b"1e400").unwrap_err();
    assert_eq!(error.message(b"1e400"), r#"strconv.ParseFloat: parsing "1e400": value out of range"#);
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(bits in any::<u64>()) {
        let v = f64::from_bits(bits);
        prop_assume!(v.is_finite());
        for text in [format_e(v), format_f(v), format_g(v), format_json(v)] {
            prop_assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), Ok(bits), "{}", text);
        }
    }

    #[test]
    fn the_fast_lane_is_exact(whole in 0_u64..1 << 53, point in 0_usize..25, exponent in -30_i32..30) {
        let mut text = format!("{whole:020}");
        text.insert(point.min(20), '.');
        let text = format!("{}e{exponent}", text.trim_start_matches('0'));
        if let Some((v, len)) = parse_short_decimal(text.as_bytes()) {
            prop_assert_eq!(len, text.len());
            prop_assert_eq!(v.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
        }
    }
}
