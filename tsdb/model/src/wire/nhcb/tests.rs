use expect_test::{Expect, expect};

use super::*;
use crate::wire::testing;

#[track_caller]
fn check(format: &str, letters: &str, body: &str, expected: &Expect) {
    let dump = testing::dump(format, letters, body.as_bytes(), true);
    expected.assert_eq(&dump.lines().map(|line| line.trim_start().to_owned() + "\n").collect::<String>());
}

const LINES: &str = "\
# TYPE h histogram
h_bucket{le=\"1\"} 1
h_bucket{le=\"+Inf\"} 3
h_sum 4
h_count 3
";

#[test]
fn the_series_of_a_histogram_become_one() {
    check(
        "T",
        "v",
        LINES,
        &expect![[r#"
             T "h" histogram
             I - 0 "__name__"="h", hint=0 schema=-53 zt=0 zc=0 n=3 sum=4010000000000000 0:2, 1,1,   3ff0000000000000,
        "#]],
    );
    check(
        "T",
        "vc",
        LINES,
        &expect![[r#"
             T "h" histogram
             S - 0 "__name__"="h_bucket","le"="1.0", 3ff0000000000000
             S - 0 "__name__"="h_bucket","le"="+Inf", 4008000000000000
             S - 0 "__name__"="h_sum", 4010000000000000
             S - 0 "__name__"="h_count", 4008000000000000
             I - 0 "__name__"="h", hint=0 schema=-53 zt=0 zc=0 n=3 sum=4010000000000000 0:2, 1,1,   3ff0000000000000,
        "#]],
    );
}

/// Upstream would give one of the lines before and one of those behind.
#[test]
fn a_comment_does_not_cut_a_histogram_in_two() {
    let body = LINES.replace("h_sum", "# in between\nh_sum");
    assert_eq!(
        testing::dump("T", "v", body.as_bytes(), true),
        testing::dump("T", "v", LINES.as_bytes(), true)
    );
}

/// Upstream would give the first the time of the second.
#[test]
fn a_histogram_has_the_time_of_its_own_lines() {
    let body = "# TYPE h histogram\nh_count{a=\"1\"} 1 5000\nh_count{a=\"2\"} 1 6000\nh_count{a=\"3\"} 1\n";
    check(
        "T",
        "v",
        body,
        &expect![[r#"
             T "h" histogram
             I 5000 0 "__name__"="h","a"="1", hint=0 schema=-53 zt=0 zc=0 n=1 sum=0 0:1, 1,   
             I 6000 0 "__name__"="h","a"="2", hint=0 schema=-53 zt=0 zc=0 n=1 sum=0 0:1, 1,   
             I - 0 "__name__"="h","a"="3", hint=0 schema=-53 zt=0 zc=0 n=1 sum=0 0:1, 1,   
        "#]],
    );
}

/// Upstream would add the buckets of the second to those of the first.
#[test]
fn what_cannot_be_converted_does_not_spoil_the_next() {
    let body = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 5\nh_count{a=\"1\"} 4\nh_count{a=\"2\"} 1\n";
    check(
        "T",
        "v",
        body,
        &expect![[r#"
             T "h" histogram
             I - 0 "__name__"="h","a"="2", hint=0 schema=-53 zt=0 zc=0 n=1 sum=0 0:1, 1,   
        "#]],
    );
}

#[test]
fn exemplars_of_all_lines_go_with_the_histogram() {
    let body = "\
# TYPE h histogram
h_bucket{le=\"1\"} 1 # {t=\"a\"} 0.5 1.5
h_bucket{le=\"+Inf\"} 3 # {t=\"b\"} 2 2.5
h_count 3
# EOF
";
    check(
        "O",
        "vc",
        body,
        &expect![[r#"
             T "h" histogram
             S - 0 "__name__"="h_bucket","le"="1.0", 3ff0000000000000
             S - 0 "__name__"="h_bucket","le"="+Inf", 4008000000000000
             S - 0 "__name__"="h_count", 4008000000000000
             I - 0 "__name__"="h", hint=0 schema=-53 zt=0 zc=0 n=3 sum=0 0:2, 1,1,   3ff0000000000000,
             X 1500 3fe0000000000000 "t"="a",
             X 2500 4000000000000000 "t"="b",
        "#]],
    );
}

fn converted(count: Option<f64>, buckets: &[(f64, f64)]) -> Result<Native, Unconvertible> {
    let (mut classic, mut native) = (Classic::default(), Native::default());
    for &(le, v) in buckets {
        classic.set_bucket(le, v);
    }
    if let Some(count) = count {
        classic.set_count(count);
    }
    classic.convert_into(&mut native).map(|()| native)
}

#[test]
fn buckets_are_sorted_completed_and_counted() {
    let int = |count, buckets: &[(f64, f64)]| {
        let native = converted(count, buckets).unwrap();
        assert!(!native.is_float && native.validate().is_ok(), "{native:?}");
        (native.int.positive_spans, native.int.positive_buckets, native.int.custom_values, native.int.count)
    };
    let whole = |length| vec![Span { offset: 0, length }];
    assert_eq!(int(Some(4.0), &[(1.0, 1.0), (2.0, 3.0)]), (whole(3), vec![1, 1, -1], vec![1.0, 2.0], 4));
    // In another order, doubled, without a count.
    let unsorted = [(f64::INFINITY, 4.0), (2.0, 3.0), (1.0, 1.0), (2.0, 9.0)];
    assert_eq!(int(None, &unsorted), (whole(3), vec![1, 1, -1], vec![1.0, 2.0], 4));
    assert_eq!(int(None, &[]), (vec![], vec![], vec![], 0));
    // Empty buckets are cut out where there are more than two of them.
    let gap = [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (5.0, 2.0)];
    let spans = vec![Span { offset: 0, length: 1 }, Span { offset: 3, length: 1 }];
    assert_eq!(int(Some(2.0), &gap), (spans, vec![1, 0], vec![1.0, 2.0, 3.0, 4.0, 5.0], 2));

    let float = converted(Some(2.5), &[(1.0, 1.0)]).unwrap();
    assert!(float.is_float && float.float.positive_buckets == [1.0, 1.5]);
    let large = converted(Some(2.0_f64.powi(63)), &[]).unwrap();
    assert!(large.is_float, "an integer of 64 bits would not hold it");
}

#[test]
fn says_why_there_is_no_histogram() {
    for (count, buckets, why) in [
        (Some(1.0), vec![(1.0, -1.0)], "bucket count must be non-negative: le=1, count=-1"),
        (Some(1.0), vec![(f64::NAN, 1.0)], "bucket boundary must not be NaN"),
        (Some(-1.0), vec![], "count must be non-negative: count=-1"),
        (None, vec![(1.0, 2.0), (2.0, 1.0)], "count is not cumulative: 1 < 2"),
        (None, vec![(2.0, 1.0), (1.0, 2.0)], "count is not cumulative: 2 > 1"),
        (Some(3.0), vec![(f64::INFINITY, 2.0)], "count mismatch: count=3 != le=+Inf count=2"),
    ] {
        assert_eq!(converted(count, &buckets).unwrap_err().to_string(), why);
    }
}
