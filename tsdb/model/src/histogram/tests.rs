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

#[test]
fn bounds_are_upstreams_bit_by_bit() {
    // Hashes over the bounds of release 3.14.0, from below the smallest float to beyond the largest one.
    const HASHES: [u64; 13] = [
        0xb2fb_f4f7_51fa_c438,
        0x50fe_5456_c244_8464,
        0x883f_a0e5_2a6a_ccac,
        0x59bc_cd8e_7879_cc37,
        0x54ac_de08_7db3_cff8,
        0x492f_3a83_fc7c_50a0,
        0x82db_547f_3b1f_e143,
        0xe20a_3ee2_9af5_5575,
        0x886b_ce09_6d2b_4278,
        0x2954_37c0_d2d1_9bd3,
        0xa519_ea1e_1f1b_a940,
        0xcdeb_7b55_4ae6_100c,
        0x78f7_abcf_49ce_e308,
    ];
    for (schema, hash) in (SCHEMA_MIN..=SCHEMA_MAX).zip(HASHES) {
        let shifted = |index: i32| if schema > 0 { index << schema } else { index >> -schema };
        let bounds: Vec<[u8; 8]> = (shifted(-1080)..shifted(1030))
            .map(|index| bounds::upper(index, schema, &[]).to_bits().to_le_bytes())
            .collect();
        assert_eq!(crate::fnv1a(bounds.iter().map(|bits| &bits[..])), hash, "schema {schema}");
    }
}

#[test]
fn buckets_are_walked_from_both_ends_at_once() {
    let counts = Counts::new(&[], &[]).chain(Counts::new(&[Span { offset: 3, length: 0 }], &[]));
    assert_eq!(counts.count(), 0);
    let list = spans(&[(-2, 2), (0, 0), (1, 1), (0, 3), (2, 0)]);
    let buckets = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let all: Vec<_> = Counts::new(&list, &buckets).collect();
    assert_eq!(all, [(-2, 1.0), (-1, 2.0), (1, 3.0), (2, 4.0), (3, 5.0), (4, 6.0)]);
    for front in 0..=6 {
        let mut counts = Counts::new(&list, &buckets);
        let mut met: Vec<_> = counts.by_ref().take(front).collect();
        let mut rest: Vec<_> = counts.rev().collect();
        rest.reverse();
        met.extend(rest);
        assert_eq!(met, all, "{front} from the front");
    }
    // More spans than buckets, and fewer.
    assert_eq!(Counts::new(&list, &buckets[..2]).count(), 2);
    assert_eq!(Counts::new(&list[..1], &buckets).count(), 2);
}

#[test]
fn codes_of_intervals() {
    let code = |h: &FloatHistogram, place| h.interval(place).code();
    let exponential = FloatHistogram::default();
    assert_eq!(code(&exponential, Place::Positive(3)), 0);
    assert_eq!(code(&exponential, Place::Negative(3)), 1);
    assert_eq!(code(&exponential, Place::Zero), 3);
    assert_eq!(code(&custom(), Place::Positive(0)), 3);
    assert_eq!(code(&custom(), Place::Positive(1)), 0);
}

#[test]
fn weights_of_samples() {
    assert_eq!(FloatHistogram::default().size_in_samples(), 11);
    assert_eq!(custom().size_in_samples(), (176 + 8 * (2 + 3 + 2)) / 16);
}

#[test]
fn what_is_no_number_ends() {
    let mut a = FloatHistogram { zero_threshold: f64::NAN, ..FloatHistogram::default() };
    let mut b = sound().to_float();
    assert!(a.add_assign(&b).is_ok() && b.add_assign(&a).is_ok());
    let _ = b.is_reset_after(&a);
    b.trim(f64::NAN, TrimSide::Above);
    assert!(b.positive_buckets.is_empty());
}

mod sums {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Spans as they come from anywhere: empty ones, touching ones.
    fn side() -> impl Strategy<Value = (Vec<Span>, Vec<f64>)> {
        let spans = prop::collection::vec((0..4_i32, 0..4_u32), 0..6);
        (-6..6_i32, spans).prop_map(|(first, mut list)| {
            if let Some(span) = list.first_mut() {
                span.0 = first;
            }
            let spans = super::spans(&list);
            let n: u32 = spans.iter().map(|span| span.length).sum();
            (spans, (0..n).map(|i| f64::from(1_u32 << i)).collect())
        })
    }

    fn as_map(h: &FloatHistogram) -> BTreeMap<i32, f64> {
        let counts = h.positive_counts().collect::<BTreeMap<_, _>>();
        assert_eq!(counts.len(), h.positive_buckets.len(), "each index once");
        counts
    }

    proptest! {
        #[test]
        fn hold_each_bucket_once((a_spans, a) in side(), (b_spans, b) in side()) {
            let of = |spans: &[Span], buckets: &[f64]| FloatHistogram {
                positive_spans: spans.to_vec(),
                positive_buckets: buckets.to_vec(),
                ..FloatHistogram::default()
            };
            let (a, b) = (of(&a_spans, &a), of(&b_spans, &b));
            let mut expected = as_map(&a);
            for (index, count) in as_map(&b) {
                *expected.entry(index).or_default() += count;
            }
            let mut sum = a.clone();
            sum.add_assign(&b).unwrap();
            prop_assert!(sum.is_well_formed());
            prop_assert_eq!(as_map(&sum), expected.clone());
            let mut compensated = a.clone();
            let mut c = a.compensation();
            compensated.kahan_add_assign(&b, &mut c).unwrap();
            prop_assert!(compensated.is_equal(&sum) && c.positive_buckets.len() == sum.positive_buckets.len());
            sum.sub_assign(&b).unwrap();
            sum.compact(0);
            let mut a = a;
            a.compact(0);
            prop_assert!(sum.is_equal(&a));
            // Of what contradicts itself nothing can be expected but an end.
            let mut broken = a.clone();
            broken.positive_spans.push(Span { offset: -3, length: 2 });
            let mut c = broken.compensation();
            let _ = broken.clone().add_assign(&b);
            let _ = b.clone().sub_assign(&broken);
            let _ = broken.kahan_add_assign(&b, &mut c);
            let _ = b.is_reset_after(&broken);
            broken.trim(1.0, TrimSide::Below);
        }
    }
}
