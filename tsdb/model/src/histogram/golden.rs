//! Arithmetic of float histograms against what release 3.14.0 answers, case by case and bit by bit.
//!
//! A line `=` names three histograms; the lines behind it say what is done with them and what comes out. Whole numbers
//! are written as such, other floats as `x` and their bits, any NaN as `n`. More cases in the same form are taken from
//! the file that `FERULA_HISTOGRAM_CASES` names.

use super::*;
use crate::elementary;

#[test]
fn arithmetic_is_that_of_upstream() {
    let n = check_all(include_str!("../../testdata/histograms.golden"));
    assert!(n > 500, "{n} lines");
    if let Some(path) = std::env::var_os("FERULA_HISTOGRAM_CASES") {
        let cases = std::fs::read_to_string(path).expect("the file can be read");
        println!("{} lines more hold", check_all(&cases));
    }
}

fn check_all(cases: &str) -> usize {
    let mut operands: Vec<FloatHistogram> = Vec::new();
    let mut operands_text = "";
    let mut failures: Vec<String> = Vec::new();
    for line in cases.lines() {
        let (op, rest) = line.split_once(' ').unwrap();
        if op == "=" {
            operands_text = rest;
            operands = rest.split(' ').map(histogram).collect();
            continue;
        }
        if let Err(found) = check(op, rest, &operands) {
            failures.push(format!("{operands_text}\n  {op} {rest}\n  found {found}"));
        }
    }
    let shown = failures.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {} lines fail:\n{shown}", failures.len(), cases.lines().count());
    cases.lines().count()
}

fn check(op: &str, rest: &str, operands: &[FloatHistogram]) -> Result<(), String> {
    let [a, b, c] = operands else { return check_elementary(op, rest) };
    let args: Vec<&str> = rest.split(' ').collect();
    // An operation on a copy, with a number in front.
    let changed = |change: &dyn Fn(&mut FloatHistogram, f64)| {
        let mut copy = a.clone();
        change(&mut copy, float(args[0]));
        format!("{} {}", args[0], text(&copy))
    };
    let flags = |combined: Combined| {
        format!("{} {}", u8::from(combined.resets_collide), u8::from(combined.reconciled))
    };
    let found = match op {
        "add" | "sub" | "addcompact" => {
            let mut sum = if op == "sub" { b.clone() } else { a.clone() };
            let outcome = if op == "sub" { sum.sub_assign(a) } else { sum.add_assign(b) };
            match outcome {
                Err(MixedSchemas) => "mixed".to_owned(),
                Ok(_) if op == "addcompact" => {
                    sum.compact(0);
                    text(&sum)
                }
                Ok(combined) => format!("{} {}", text(&sum), flags(combined)),
            }
        }
        "kahan" => {
            let mut sum = a.clone();
            let mut lost = sum.compensation();
            let outcome = sum
                .kahan_add_assign(b, &mut lost)
                .and_then(|first| Ok(first.or(sum.kahan_add_assign(c, &mut lost)?)));
            match outcome {
                Err(MixedSchemas) => "mixed".to_owned(),
                Ok(combined) => {
                    let before = text(&sum);
                    lost.counter_reset_hint = CounterResetHint::Unknown;
                    sum.add_assign(&lost).unwrap();
                    format!("{before} {} {} {}", text(&lost), text(&sum), flags(combined))
                }
            }
        }
        "reset" => [b.is_reset_after(a), a.is_reset_after(b), c.is_reset_after(a)]
            .map(|is| u8::from(is).to_string())
            .join(" "),
        "equal" => {
            let mut compacted = a.clone();
            compacted.compact(0);
            format!("{} {}", u8::from(b.is_equal(a)), u8::from(compacted.is_equal(a)))
        }
        "size" => a.size_in_samples().to_string(),
        "text" => a.to_test_expression(),
        "string" => a.to_string(),
        "compact" => {
            let mut copy = a.clone();
            copy.compact(args[0].parse().unwrap());
            format!("{} {}", args[0], text(&copy))
        }
        "schema" => format!("{} {}", args[0], text(&a.to_schema(args[0].parse().unwrap()))),
        "multiply" => changed(&|h, v| h.multiply(v)),
        "divide" => changed(&|h, v| h.divide(v)),
        "below" => changed(&|h, v| h.trim(v, TrimSide::Below)),
        "above" => changed(&|h, v| h.trim(v, TrimSide::Above)),
        "up" => intervals(a, a.buckets()),
        "down" => intervals(a, a.buckets().rev()),
        _ => return check_elementary(op, rest),
    };
    if found == rest { Ok(()) } else { Err(found) }
}

fn check_elementary(op: &str, rest: &str) -> Result<(), String> {
    let (v, _) = rest.split_once(' ').unwrap();
    let function = match op {
        "log2" => elementary::log2,
        "ln" => elementary::ln,
        "log10" => elementary::log10,
        "exp2" => elementary::exp2,
        _ => panic!("no operation {op}"),
    };
    let found = format!("{v} {}", number(function(float(v))));
    if found == rest { Ok(()) } else { Err(found) }
}

fn intervals(h: &FloatHistogram, buckets: impl Iterator<Item = (Place, f64)>) -> String {
    let told = buckets.map(|(place, count)| {
        let Interval { lower, upper, lower_inclusive, upper_inclusive } = h.clipped_interval(place);
        let inclusive = format!("{}{}", u8::from(lower_inclusive), u8::from(upper_inclusive));
        format!("{},{},{inclusive},{}", number(lower), number(upper), number(count))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { "-".to_owned() } else { told.join(";") }
}

fn histogram(text: &str) -> FloatHistogram {
    let fields: Vec<&str> = text.split(';').collect();
    let floats = |text: &str| text.split(',').filter(|v| !v.is_empty()).map(float).collect::<Vec<_>>();
    let spans = |text: &str| {
        let spans = text.split(',').filter(|span| !span.is_empty()).map(|span| {
            let (offset, length) = span.split_once(':').unwrap();
            Span { offset: offset.parse().unwrap(), length: length.parse().unwrap() }
        });
        spans.collect::<Vec<_>>()
    };
    FloatHistogram {
        schema: fields[0].parse().unwrap(),
        counter_reset_hint: match fields[1] {
            "1" => CounterResetHint::CounterReset,
            "2" => CounterResetHint::NotCounterReset,
            "3" => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        zero_threshold: float(fields[2]),
        zero_count: float(fields[3]),
        count: float(fields[4]),
        sum: float(fields[5]),
        positive_spans: spans(fields[6]),
        positive_buckets: floats(fields[7]),
        negative_spans: spans(fields[8]),
        negative_buckets: floats(fields[9]),
        custom_values: floats(fields[10]),
    }
}

fn text(h: &FloatHistogram) -> String {
    let floats = |vs: &[f64]| vs.iter().map(|&v| number(v)).collect::<Vec<_>>().join(",");
    // Spans without buckets are nothing that equality sees.
    let spans = |spans: &[Span]| {
        let mut gap = 0;
        let told = spans.iter().filter_map(|span| {
            gap += span.offset;
            (span.length > 0).then(|| format!("{}:{}", std::mem::take(&mut gap), span.length))
        });
        told.collect::<Vec<_>>().join(",")
    };
    [
        h.schema.to_string(),
        (h.counter_reset_hint as u8).to_string(),
        number(h.zero_threshold),
        number(h.zero_count),
        number(h.count),
        number(h.sum),
        spans(&h.positive_spans),
        floats(&h.positive_buckets),
        spans(&h.negative_spans),
        floats(&h.negative_buckets),
        floats(&h.custom_values),
    ]
    .join(";")
}

fn float(text: &str) -> f64 {
    match text.strip_prefix('x') {
        Some(bits) => f64::from_bits(u64::from_str_radix(bits, 16).unwrap()),
        None if text == "n" => f64::NAN,
        None => text.parse().unwrap(),
    }
}

fn number(v: f64) -> String {
    if v.is_nan() {
        "n".to_owned()
    } else if v == v.trunc() && v.abs() < 1e6 && !(v == 0.0 && v.is_sign_negative()) {
        format!("{v:.0}")
    } else {
        format!("x{:x}", v.to_bits())
    }
}
