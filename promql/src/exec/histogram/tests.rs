//! Quantiles and fractions against what release 3.14.0 answers, and columns against single steps.
//!
//! In the golden file whole numbers are written as such, other floats as `x` and their bits, any NaN as `n`. More cases
//! in the same form are taken from the file that `FERULA_HISTOGRAM_FUNCTION_CASES` names.

use model::histogram::{CounterResetHint, Span};
use proptest::prelude::*;

use super::classic::Bucket;
use super::*;

#[test]
fn quantiles_and_fractions_are_those_of_upstream() {
    let n = check_all(include_str!("../../../testdata/histogram_functions.golden"));
    assert!(n > 500, "{n} lines");
    if let Some(path) = std::env::var_os("FERULA_HISTOGRAM_FUNCTION_CASES") {
        let cases = std::fs::read_to_string(path).expect("the file can be read");
        println!("{} lines more hold", check_all(&cases));
    }
}

fn check_all(cases: &str) -> usize {
    let mut h = FloatHistogram::default();
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut operand = "";
    let mut failures = Vec::new();
    for line in cases.lines() {
        let (op, rest) = line.split_once(' ').unwrap();
        let args: Vec<&str> = rest.split(' ').collect();
        let found = match op {
            "native" => {
                (h, operand) = (histogram(rest), line);
                continue;
            }
            "classic" => {
                buckets = rest.split(',').map(bucket).fold(Vec::new(), |mut all: Vec<Bucket>, next| {
                    match all.last_mut() {
                        Some(last) if last.upper == next.upper => last.count += next.count,
                        _ => all.push(next),
                    }
                    all
                });
                operand = line;
                continue;
            }
            "quantile" => {
                let (v, remark) = native::quantile(float(args[0]), &h);
                format!("{} {} {}", args[0], number(v), told(remark))
            }
            "fraction" => {
                let (v, remark) = native::fraction(float(args[0]), float(args[1]), &h);
                format!("{} {} {} {}", args[0], args[1], number(v), told(remark))
            }
            "cquantile" => {
                let (v, repair) = classic::quantile(float(args[0]), &mut buckets.clone(), 0);
                let repair = repair.map_or(String::new(), |r| {
                    format!(" {} {} {}", number(r.min_bucket), number(r.max_bucket), number(r.max_diff))
                });
                format!("{} {}{repair}", args[0], number(v))
            }
            "cfraction" => {
                let v = classic::fraction(float(args[0]), float(args[1]), &buckets);
                format!("{} {} {}", args[0], args[1], number(v))
            }
            _ => panic!("no operation {op}"),
        };
        if found != rest {
            failures.push(format!("{operand}\n  {line}\n  found {found}"));
        }
    }
    let shown = failures.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {} lines fail:\n{shown}", failures.len(), cases.lines().count());
    cases.lines().count()
}

fn told(remark: Option<NanRemark>) -> &'static str {
    match remark {
        None => "-",
        Some(NanRemark::Result) => "result",
        Some(NanRemark::Missing) => "missing",
    }
}

fn bucket(text: &str) -> Bucket {
    let (upper, count) = text.split_once(':').unwrap();
    Bucket { upper: float(upper), count: float(count) }
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
        counter_reset_hint: CounterResetHint::Unknown,
        schema: fields[0].parse().unwrap(),
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

/// Rises of counts from one bucket to the next.
fn rise() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0..5_u32).prop_map(f64::from),
        1 => Just(1e-13),
        1 => Just(-1.0),
        1 => Just(1e17),
        1 => Just(5e-324),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY)],
    ]
}

proptest! {
    #[test]
    fn columns_agree_with_single_steps(
        steps in 1..150_usize,
        bounds in prop::collection::btree_set(-3..9_i32, 1..7),
        ends_in_infinity in prop::bool::weighted(0.9),
        rises in prop::collection::vec(prop_oneof![6 => (0..5_u32).prop_map(f64::from), 1 => rise()], 60),
        absent in prop::collection::vec(0..4000_usize, 0..4),
        q in prop_oneof![6 => 0.0..1.0, 1 => Just(0.0), 1 => Just(1.0), 1 => Just(1.5), 1 => Just(f64::NAN)],
    ) {
        let grid = Grid { start: 0, step: 1000, len: steps };
        let mut bounds: Vec<f64> = bounds.into_iter().map(f64::from).collect();
        if ends_in_infinity {
            bounds.push(f64::INFINITY);
        }
        let n = bounds.len();
        let mut block = Block::empty(grid);
        block.series = vec![Series { labels: Labels::empty(), drop_name: false }; n];
        block.histograms = vec![Histograms::default(); n];
        block.values = vec![0.0; n * steps];
        block.present = vec![0; n * grid.words()];
        for step in 0..steps {
            let mut count = 0.0;
            for row in 0..n {
                count += rises[(step * 7 + row * 3) % rises.len()];
                if !absent.contains(&(row * steps + step)) {
                    block.set(row, step, count);
                }
            }
        }
        let mut classic = Classic::new(Labels::empty());
        bounds.iter().enumerate().for_each(|(row, &upper)| classic.push(upper, row));
        classic.sort();
        classic.take(grid, steps / 2);
        let (mut values, mut present) = (vec![0.0; steps], vec![0; grid.words()]);
        let mut histograms = Histograms::default();
        let mut row = Row { values: &mut values, present: &mut present, histograms: &mut histograms };
        let found = classic.quantiles_into(&block, &Scalars::Const(q), &mut row, |_| true);
        let mut repairs: Option<Repair> = None;
        for (step, &v) in values.iter().enumerate() {
            let mut buckets = Vec::new();
            for (row, &upper) in bounds.iter().enumerate() {
                buckets.extend(block.get(row, step).map(|count| Bucket { upper, count }));
            }
            let is_there = !buckets.is_empty() && step != steps / 2;
            prop_assert_eq!(bits::get(&present, step), is_there);
            if !is_there {
                continue;
            }
            let (expected, repair) = classic::quantile(q, &mut buckets, grid.time(step));
            prop_assert_eq!(number(v), number(expected), "step {}", step);
            if let Some(repair) = repair {
                let repair = repair.of_step(step, grid.len);
                repairs.get_or_insert(Repair { count: 0, at_first: 0, ..repair }).merge(&repair);
            }
        }
        prop_assert_eq!(format!("{found:?}"), format!("{repairs:?}"));
    }
}
