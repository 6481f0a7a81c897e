use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused(text: &str, message: &str) {
    assert_eq!(parse_ms(text).unwrap_err().to_string(), message);
}

#[test]
fn reads_units_from_large_to_small() {
    assert_eq!(parse_ms("0"), Ok(0));
    assert_eq!(parse_ms("0s"), Ok(0));
    assert_eq!(parse_ms("1h30m"), Ok(5_400_000));
    assert_eq!(parse_ms("1y2w3d4h5m6s7ms"), Ok(33_019_506_007));
    assert_eq!(parse_ms("292y"), Ok(292 * 365 * 86_400_000));
    assert_eq!(parse_ms("0000000000000000000000001s"), Ok(1000));
    assert_eq!(parse_signed_ms("-5m"), Ok(-300_000));
    assert_eq!(parse("15s"), Ok(Duration::from_secs(15)));
}

#[test]
fn refuses_with_upstreams_words() {
    refused("", "empty duration string");
    for text in ["1", "s", "5m1h", "1s1s", "-1s", "1.5h", " 1s", "99999999999999999999s", "00"] {
        let expected = match text {
            "1.5h" => r#"unknown unit "." in duration "1.5h""#.to_owned(),
            _ => format!("not a valid duration string: {text:?}"),
        };
        refused(text, &expected);
    }
    refused("5y1hs", r#"unknown unit "hs" in duration "5y1hs""#);
    refused("1S", r#"unknown unit "S" in duration "1S""#);
    refused("293y", "duration out of range");
    refused("292y200d", "duration out of range");
}

#[test]
fn prints_as_upstream() {
    for (ms, text) in [
        (0, "0s"),
        (1, "1ms"),
        (324, "324ms"),
        (3000, "3s"),
        (5 * 60_000, "5m"),
        (5_400_000, "1h30m"),
        (90 * 86_400_000, "90d"),
        (12 * 7 * 86_400_000, "12w"),
        (365 * 86_400_000, "1y"),
        (366 * 86_400_000, "366d"),
        (-5_400_000, "-1h30m"),
        (61_001, "1m1s1ms"),
    ] {
        assert_eq!(format_ms(ms), text);
    }
    assert_eq!(format(Duration::from_micros(1_999)), "1ms");
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(ms in 0..MAX_MS) {
        let ms = i64::try_from(ms).unwrap();
        prop_assert_eq!(parse_ms(&format_ms(ms)), Ok(ms));
    }
}
