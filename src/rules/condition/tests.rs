use std::time::Duration;

use expect_test::{Expect, expect};

use super::{Condition, Subject, Test, longest_range};

/// The reading of an expression in one line: subject, test, unit by an example.
#[expect(clippy::needless_pass_by_value, reason = "as `expect!` makes it")]
fn check(text: &str, expected: Expect) {
    let expr = promql::parse::parse(text).unwrap();
    let lines: Vec<_> = Condition::branches(&expr).iter().map(line).collect();
    assert_eq!(Condition::of(&expr), Condition::branches(&expr)[0], "{text}");
    for condition in Condition::branches(&expr) {
        // What is plotted must be a query itself.
        promql::parse::parse(&condition.subject.to_string()).unwrap();
    }
    expected.assert_eq(&lines.join(" | "));
}

fn line(condition: &Condition<'_>) -> String {
    let test = match condition.test {
        Test::Present => "is there".to_owned(),
        Test::Absent => "is not there".to_owned(),
        Test::Number { op, threshold } => format!("{} {threshold}", op.as_str()),
        Test::Other { op, side } => format!("{} [{side}]", op.as_str()),
    };
    format!("[{}] {test} ({})", condition.subject, condition.unit().show(1.5))
}

#[test]
fn comparisons_with_numbers_split() {
    check("up == 0", expect!["[up] == 0 (1.5)"]);
    check("x > 0 < 5", expect!["[x > 0] < 5 (1.5)"]);
    check("5 * 1024 ^ 2 >= node_free_bytes", expect!["[node_free_bytes] <= 5242880 (1.5 B)"]);
    check("(-(x)) > -(3)", expect!["[-(x)] > -3 (1.5)"]);
    check("x > bool 5", expect!["[x > bool 5] is there (1.5)"]);
    check("x > vector(7)", expect!["[x] > 7 (1.5)"]);
}

#[test]
fn everything_else_is_plotted_as_it_is_or_beside_the_other_side() {
    check("a_bytes > on (x) b_bytes", expect!["[a_bytes] > [b_bytes] (1.5 B)"]);
    check("a > scalar(b)", expect!["[a] > [scalar(b)] (1.5)"]);
    check("ALERTS{alertstate=\"firing\"}", expect![[r#"[ALERTS{alertstate="firing"}] is there (1.5)"#]]);
    check("vector(1)", expect!["[vector(1)] is there (1.5)"]);
}

#[test]
fn sets_lead_to_their_left_side_and_or_to_both() {
    check("a > 5 and on (x) b < 3", expect!["[a] > 5 (1.5)"]);
    check("(a > 5) unless b", expect!["[a] > 5 (1.5)"]);
    check(
        "a > 5 or b_seconds < 3 or absent(c)",
        expect!["[a] > 5 (1.5) | [b_seconds] < 3 (1.5 s) | [count(c)] is not there (1.5)"],
    );
    check("(a > 5 or b < 3) and c", expect!["[a] > 5 (1.5) | [b] < 3 (1.5)"]);
}

#[test]
fn absence_is_a_count() {
    check("absent(up{job=\"a\"})", expect![[r#"[count(up{job="a"})] is not there (1.5)"#]]);
    check("absent_over_time(up[5m])", expect!["[count(present_over_time(up[5m]))] is not there (1.5)"]);
    check("absent((up))", expect!["[count(up)] is not there (1.5)"]);
}

#[test]
fn units_follow_the_functions() {
    let unit = |text: &str| {
        let expr = promql::parse::parse(text).unwrap();
        Condition::of(&expr).unit().show(0.5)
    };
    for (text, shown) in [
        (
            "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m]))) > 1",
            "500 ms",
        ),
        ("rate(errors_total[5m]) > 1", "0.5/s"),
        ("sum(rate(errors_total[5m])) / sum(rate(requests_total[5m])) > 0.1", "50%"),
        ("100 * (1 - node_avail_bytes / node_size_bytes) > 90", "0.5%"),
        ("rate(node_network_receive_bytes_total[5m]) * 8 > 1e9", "0.5 bit/s"),
        ("rate(x_seconds_sum[5m]) / rate(x_seconds_count[5m]) > 1", "500 ms"),
        ("rate(process_cpu_seconds_total[5m]) > 0.8", "0.5"),
        ("time() - backup_last_success_timestamp_seconds > 86400", "500 ms"),
        ("count(up == 0) > 2", "0.5"),
        ("predict_linear(node_filesystem_avail_bytes[6h], 4 * 3600) < 0", "0.5 B"),
        ("max_over_time(x_celsius[1h]) > 80", "0.5 °C"),
        ("node_memory_bytes * on (x) group_left (y) info > 1", "0.5 B"),
        ("quantile_over_time(0.9, x_seconds[5m]) > 1", "500 ms"),
    ] {
        assert_eq!(unit(text), shown, "{text}");
    }
}

#[test]
fn ranges_are_found_wherever_they_are() {
    let expr = promql::parse::parse("max_over_time(rate(x[5m])[2h:1m]) > avg_over_time(y[30m])").unwrap();
    assert_eq!(longest_range(&expr), Duration::from_hours(2));
}

#[test]
fn high_trees_are_read_without_falling() {
    let text = format!("x > {}1{}", "(".repeat(3_000), ")".repeat(3_000));
    if let Ok(expr) = promql::parse::parse(&text) {
        assert!(matches!(Condition::of(&expr).subject, Subject::Expr(_)));
    }
}
