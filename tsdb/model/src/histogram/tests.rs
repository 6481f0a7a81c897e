use super::*;

fn spans(list: &[(i32, u32)]) -> Vec<Span> {
    list.iter().map(|&(offset, length)| Span { offset, length }).collect()
}

fn sound() -> Histogram {
    Histogram {
        zero_threshold: 0.001,
        zero_count: 2,
        count: 17,
        sum: 18.4,
        schema: 1,
        positive_spans: spans(&[(0, 2), (1, 2)]),
        positive_buckets: vec![1, 1, -1, 0],
        negative_spans: spans(&[(0, 2), (1, 2)]),
        negative_buckets: vec![2, 1, -1, 1],
        ..Histogram::default()
    }
}

fn custom() -> FloatHistogram {
    FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 6.0,
        sum: 1.5,
        positive_spans: spans(&[(0, 2), (0, 1)]),
        positive_buckets: vec![1.0, 2.0, 3.0],
        custom_values: vec![0.1, 5.0],
        ..FloatHistogram::default()
    }
}

#[test]
fn texts_of_what_is_invalid() {
    let text = |change: fn(&mut Histogram)| {
        let mut histogram = sound();
        change(&mut histogram);
        histogram.validate().map_or_else(|e| e.to_string(), |()| "valid".to_owned())
    };
    assert_eq!(text(|_| {}), "valid");
    assert_eq!(
        text(|h| h.count = 16),
        "17 observations found in buckets, but the Count field is 16: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
    );
    assert_eq!(
        text(|h| (h.count, h.sum) = (16, f64::NAN)),
        "17 observations found in buckets, but the Count field is 16: histogram's observation count should be at least the number of observations found in the buckets"
    );
    assert_eq!(text(|h| (h.count, h.sum) = (18, f64::NAN)), "valid");
    assert_eq!(
        text(|h| h.positive_spans[1].offset = -1),
        "positive side: span number 2 with offset -1: histogram has a span whose offset is negative"
    );
    assert_eq!(
        text(|h| h.negative_spans[1].length = 3),
        "negative side: spans need 5 buckets, have 4 buckets: histogram spans specify different number of buckets than provided"
    );
    assert_eq!(
        text(|h| h.negative_buckets[1] = -3),
        "negative side: bucket number 2 has observation count of -1: histogram has a bucket whose observation count is negative"
    );
    assert_eq!(
        text(|h| h.schema = 9),
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 9"
    );
    assert_eq!(
        text(|h| h.custom_values.push(1.0)),
        "histogram with exponential schema must not have custom bounds"
    );
}

#[test]
fn texts_of_invalid_custom_buckets() {
    let text = |change: fn(&mut FloatHistogram)| {
        let mut histogram = custom();
        change(&mut histogram);
        histogram.validate().map_or_else(|e| e.to_string(), |()| "valid".to_owned())
    };
    assert_eq!(text(|_| {}), "valid");
    assert_eq!(
        text(|h| h.custom_values[1] = 0.1),
        "custom buckets: previous bound is 0.100000 and current is 0.100000: histogram custom bounds must be in strictly increasing order"
    );
    assert_eq!(
        text(|h| h.custom_values[1] = f64::INFINITY),
        "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite"
    );
    assert_eq!(
        text(|h| h.custom_values[0] = f64::NAN),
        "custom buckets: histogram custom bounds must not be NaN"
    );
    assert_eq!(
        text(|h| h.positive_spans[1].offset = 3),
        "custom buckets: only 2 custom bounds defined which is insufficient to cover total span length of 6: histogram custom bounds are too few"
    );
    assert_eq!(text(|h| h.zero_count = 1.0), "custom buckets: must have zero count of 0");
    assert_eq!(text(|h| h.zero_threshold = 1.0), "custom buckets: must have zero threshold of 0");
    assert_eq!(text(|h| h.negative_spans = spans(&[(0, 0)])), "custom buckets: must not have negative spans");
    assert_eq!(text(|h| h.negative_buckets.push(0.0)), "custom buckets: must not have negative buckets");
    assert_eq!(
        text(|h| h.count = -2.0),
        "observation count is  -2: histogram's observation count is negative"
    );
    assert_eq!(
        text(|h| h.positive_buckets[2] = -0.5),
        "positive side: bucket number 3 has observation count of -0.5: histogram has a bucket whose observation count is negative"
    );
}

#[test]
fn printed_as_upstream_prints() {
    // Taken from what release 3.14.0 prints for the same histograms.
    assert_eq!(
        sound().to_string(),
        "{count:17, sum:18.4, [-4,-2.82842712474619):3, [-2.82842712474619,-2):2, [-1.414213562373095,-1):3, [-1,-0.7071067811865475):2, [-0.001,0.001]:2, (0.7071067811865475,1]:1, (1,1.414213562373095]:2, (2,2.82842712474619]:1, (2.82842712474619,4]:1}"
    );
    assert_eq!(custom().to_string(), "{count:6, sum:1.5, [-Inf,0.1]:1, (0.1,5]:2, (5,+Inf]:3}");
}

#[test]
fn bounds_at_the_ends_of_what_floats_hold() {
    assert_eq!(bounds::upper(1024, 0, &[]), f64::MAX);
    assert_eq!(bounds::upper(1025, 0, &[]), f64::INFINITY);
    assert_eq!(bounds::upper(-1074, 0, &[]), f64::from_bits(1));
    assert_eq!(bounds::upper(-1075, 0, &[]), 0.0);
    assert_eq!(bounds::upper(64, -4, &[]), f64::MAX);
    assert_eq!(bounds::upper(65, -4, &[]), f64::INFINITY);
    assert_eq!(bounds::upper(-1, -4, &[]), 2_f64.powi(-16));
    assert_eq!(bounds::upper(8 << 8, 8, &[]), 256.0);
    assert_eq!(bounds::upper(-1, 1, &[]), 0.707_106_781_186_547_5);
}

#[test]
fn coarser_buckets_hold_the_same_counts() {
    let mut histogram = sound();
    histogram.reduce_resolution(0).unwrap();
    // Indices 0 1 . 3 4 become 0 1 1 2 2.
    assert_eq!(histogram.positive_spans, spans(&[(0, 3)]));
    assert_eq!(i64::absolute(&histogram.positive_buckets).to_vec(), [1, 2, 2]);
    assert_eq!(histogram.schema, 0);
    histogram.validate().unwrap();
    let before = histogram.clone();
    assert_eq!(histogram.reduce_resolution(3), Err(InvalidHistogram::InvalidSchema));
    assert_eq!(histogram, before);
    histogram.positive_spans[0].length += 1;
    assert_eq!(histogram.reduce_resolution(-1), Err(InvalidHistogram::SpansBucketsMismatch));
}

#[test]
fn compact_cuts_and_fills() {
    let with = |list: &[(i32, u32)], buckets: &[f64], empty_max: u32| {
        let mut histogram = FloatHistogram {
            positive_spans: spans(list),
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        };
        histogram.compact(empty_max);
        (histogram.positive_spans, histogram.positive_buckets)
    };
    assert_eq!(
        with(&[(-2, 2), (0, 0), (3, 1)], &[0.0, 1.0, 2.0], 0),
        (spans(&[(-1, 1), (3, 1)]), vec![1.0, 2.0])
    );
    assert_eq!(with(&[(0, 4)], &[1.0, 0.0, 0.0, 3.0], 1), (spans(&[(0, 1), (2, 1)]), vec![1.0, 3.0]));
    assert_eq!(with(&[(0, 1), (1, 1)], &[1.0, 3.0], 1), (spans(&[(0, 3)]), vec![1.0, 0.0, 3.0]));
    assert_eq!(with(&[(0, 1), (1, 1)], &[0.0, 0.0], 1), (vec![], vec![]));
}

#[test]
fn sameness_is_of_data() {
    let mut other = sound();
    other.counter_reset_hint = CounterResetHint::Gauge;
    other.positive_spans = spans(&[(0, 2), (0, 0), (1, 2), (7, 0)]);
    assert!(sound().is_same(&other));
    other.sum = -other.sum;
    assert!(!sound().is_same(&other));
    let mut nan = custom();
    nan.sum = f64::NAN;
    assert!(nan.is_same(&nan.clone()));
    assert_eq!(sound().to_float().positive_buckets, [1.0, 2.0, 1.0, 1.0]);
}

#[test]
fn neighbours_become_one_bucket() {
    let mut histogram = Histogram {
        schema: 2,
        positive_spans: spans(&[(-3, 4), (1, 2)]),
        // Counts 1 3 2 5, 1 1 at -3..=0, 2..=3.
        positive_buckets: vec![1, 2, -1, 3, -4, 0],
        negative_spans: spans(&[(1, 1)]),
        negative_buckets: vec![7],
        ..Histogram::default()
    };
    histogram.reduce_resolution(1).unwrap();
    // Pairs (-3,-2) (-1,0) (1,2) (3,4) become -1, 0, 1, 2.
    assert_eq!(histogram.positive_spans, spans(&[(-1, 4)]));
    assert_eq!(histogram.positive_buckets, [4, 3, -6, 0]);
    assert_eq!((histogram.negative_spans, histogram.negative_buckets), (spans(&[(1, 1)]), vec![7]));
    assert_eq!(histogram.schema, 1);
}

#[test]
fn what_contradicts_itself_is_not_merged() {
    let mut histogram = Histogram { schema: 2, positive_spans: spans(&[(0, 2)]), ..Histogram::default() };
    histogram.positive_buckets = vec![1];
    assert_eq!(histogram.clone().reduce_resolution(0), Err(InvalidHistogram::SpansBucketsMismatch));
    histogram.positive_spans = spans(&[(0, 1), (-1, 1)]);
    assert_eq!(histogram.reduce_resolution(0), Err(InvalidHistogram::SpanNegativeOffset));
}
