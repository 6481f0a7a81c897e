use model::wire::otlp::{Metric, Scope};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn head(start: u64, time: u64) -> Head<'static> {
    Head { start: start * SECOND, time: time * SECOND, ..Head::default() }
}

fn request(data: Data<'static>) -> Request<'static> {
    let metric = Metric { name: "m".into(), data, ..Metric::default() };
    let scope = ScopeMetrics { scope: Scope::default(), metrics: vec![metric], ..ScopeMetrics::default() };
    Request { resources: vec![ResourceMetrics { attributes: Vec::new(), scopes: vec![scope] }] }
}

fn number(start: u64, time: u64, v: i64) -> NumberPoint<'static> {
    NumberPoint { head: head(start, time), value: Some(Number::Int(v)), exemplars: Vec::new() }
}

fn sums(points: Vec<NumberPoint<'static>>) -> Data<'static> {
    Data::Sum { points, temporality: Temporality::Delta, is_monotonic: true }
}

fn first<'r>(request: &'r Request<'static>) -> &'r Data<'static> {
    &request.resources[0].scopes[0].metrics[0].data
}

fn accumulate(streams: &mut Streams, request: &mut Request<'_>, now: Timestamp) -> Dropped {
    let dropped = streams.accumulate(request, now);
    streams.keep();
    let n_bytes = streams.by_key.values().map(Stream::n_bytes).sum::<usize>();
    assert_eq!(streams.n_bytes, n_bytes);
    dropped
}

#[test]
fn numbers_add_up() {
    let mut streams = Streams::default();
    let mut one = request(sums(vec![number(1, 2, 5), number(2, 3, 7)]));
    assert!(has_delta(&one));
    assert_eq!(accumulate(&mut streams, &mut one, 0), Dropped::default());
    assert!(!has_delta(&one));
    let Data::Sum { points, .. } = first(&one) else { panic!("{one:?}") };
    assert_eq!(points[..], [number(1, 2, 5), number(1, 3, 12)]);

    // Late, of an older beginning, and both: nothing is left of the request.
    let mut late = request(sums(vec![number(2, 3, 1), number(0, 4, 1)]));
    assert_eq!(accumulate(&mut streams, &mut late, 0), Dropped { late: 2, ..Dropped::default() });
    assert!(late.resources.is_empty());

    let mut fraction = number(3, 4, 0);
    fraction.value = Some(Number::Double(0.5));
    let mut two = request(sums(vec![fraction]));
    accumulate(&mut streams, &mut two, 0);
    let Data::Sum { points, .. } = first(&two) else { panic!("{two:?}") };
    assert_eq!(points[0].value, Some(Number::Double(12.5)));
    assert_eq!(streams.len(), 1);
}

#[test]
fn series_are_told_apart_and_forgotten() {
    let mut streams = Streams::default();
    let pair = |key: &'static str, v| KeyValue { key: key.into(), value: AnyValue::Int(v) };
    for (attributes, n) in [
        (vec![pair("a", 1), pair("b", 2)], 1),
        (vec![pair("b", 2), pair("a", 1)], 1),
        (vec![pair("a", 2), pair("b", 1)], 2),
        (vec![], 3),
    ] {
        let mut point = number(1, 2, 1);
        point.head.attributes = attributes;
        accumulate(&mut streams, &mut request(sums(vec![point])), 0);
        assert_eq!(streams.len(), n);
    }
    // Two minutes before they are stale, one of them is seen again.
    accumulate(&mut streams, &mut request(sums(vec![number(2, 3, 1)])), 180_000);
    // A clock that is set back makes nothing old.
    accumulate(&mut streams, &mut request(Data::default()), -1_000_000);
    assert_eq!(streams.len(), 3);
    let mut again = request(sums(vec![number(3, 4, 1)]));
    accumulate(&mut streams, &mut again, 301_000);
    assert_eq!(streams.len(), 1);
    let Data::Sum { points, .. } = first(&again) else { panic!("{again:?}") };
    assert_eq!(points[0].value, Some(Number::Int(3)));
}

#[test]
fn histograms_add_up_until_their_bounds_change() {
    let mut streams = Streams::default();
    let mut send = |start, time, counts: &[u64], bounds: &[f64]| {
        let point = HistogramPoint {
            head: head(start, time),
            count: counts.iter().sum(),
            sum: Some(1.5),
            counts: counts.to_vec(),
            bounds: bounds.to_vec(),
            exemplars: Vec::new(),
        };
        let data = Data::Histogram { points: vec![point], temporality: Temporality::Delta };
        let mut request = request(data);
        accumulate(&mut streams, &mut request, 0);
        let Data::Histogram { points, .. } = first(&request) else { panic!("{request:?}") };
        let point = &points[0];
        (point.head.start / SECOND, point.count, point.sum, point.counts.clone())
    };
    assert_eq!(send(1, 2, &[1, 2], &[5.0]), (1, 3, Some(1.5), vec![1, 2]));
    assert_eq!(send(2, 3, &[1, 0], &[5.0]), (1, 4, Some(3.0), vec![2, 2]));
    assert_eq!(send(3, 4, &[1, 1, 1], &[5.0, 6.0]), (3, 3, Some(1.5), vec![1, 1, 1]));
    assert_eq!(send(4, 5, &[1, 0, 0], &[5.0, 6.0]), (3, 4, Some(3.0), vec![2, 1, 1]));
}

fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
    Exponential {
        count: counts.iter().sum(),
        sum: Some(1.0),
        scale,
        zero_count: 0,
        zero_threshold: 0.0,
        positive: Side { offset, counts: counts.to_vec() },
        negative: Side::default(),
    }
}

#[test]
fn exponential_histograms_add_up_in_the_coarser_scale() {
    let mut sum = exponential(2, -3, &[1, 2, 3, 4]);
    sum.add(&mut exponential(1, -2, &[10, 20]));
    // Indices -3..=0 at scale 2 are -2, -1, -1, 0 at scale 1.
    assert_eq!((sum.scale, &sum.positive), (1, &Side { offset: -2, counts: vec![11, 25, 4] }));
    assert_eq!((sum.count, sum.sum), (40, Some(2.0)));
    // So far apart that only a coarser scale has few enough buckets.
    sum.add(&mut exponential(1, 400, &[1]));
    assert_eq!(sum.scale, -1);
    assert!(sum.positive.counts.len() <= 161, "{:?}", sum.positive);
    assert_eq!(sum.positive.counts.iter().sum::<u64>(), 41);
    // Trailing and leading zeros do not count.
    let mut sum = exponential(3, 0, &[0, 0, 1, 0, 0]);
    sum.add(&mut exponential(3, 1, &[0, 2]));
    assert_eq!(sum.positive, Side { offset: 2, counts: vec![3] });
}

#[test]
fn a_wider_zero_takes_what_lies_in_it() {
    let mut sum = exponential(0, -3, &[1, 2, 3, 4]);
    let mut other = exponential(0, 0, &[1]);
    other.zero_threshold = 0.5;
    // (1/8, 1/4] and (1/4, 1/2] are within.
    sum.add(&mut other);
    assert_eq!((sum.zero_count, sum.zero_threshold), (3, 0.5));
    assert_eq!(sum.positive, Side { offset: -1, counts: vec![3, 5] });
    let mut nan = exponential(0, 0, &[1]);
    nan.zero_threshold = f64::NAN;
    sum.add(&mut nan);
    let mut all = exponential(0, 0, &[1]);
    all.zero_threshold = f64::INFINITY;
    sum.add(&mut all);
    assert_eq!(sum.positive.counts.iter().sum::<u64>() + sum.zero_count, sum.count);
}

#[test]
fn wild_histograms_are_added_without_harm() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..2000 {
        let mut any = || {
            let counts: Vec<u64> = (0..random.usize(..300)).map(|_| random.u64(..3)).collect();
            let far = [0, -5, 700, i32::MAX - 10, i32::MIN][random.usize(..5)];
            exponential([0, 8, 20, -3, i32::MAX, i32::MIN][random.usize(..6)], far, &counts)
        };
        let (mut a, mut b) = (any(), any());
        a.add(&mut b);
        assert_eq!(a.positive.counts.iter().sum::<u64>(), a.count);
        assert!(a.positive.counts.len() <= 320, "{}", a.positive.counts.len());
    }
}

fn exponentials(points: &[(u64, i32, i32, &[u64])]) -> Data<'static> {
    let point = |&(time, scale, offset, counts): &(u64, i32, i32, &[u64])| ExponentialPoint {
        head: head(1, time),
        count: counts.iter().sum(),
        scale,
        positive: Side { offset, counts: counts.to_vec() },
        ..ExponentialPoint::default()
    };
    Data::Exponential { points: points.iter().map(point).collect(), temporality: Temporality::Delta }
}

#[test]
fn exponential_histograms_that_cannot_be_touch_no_sum() {
    let mut streams = Streams::default();
    let coarse = [(2, i32::MIN, i32::MIN, &[1][..]), (3, i32::MIN, i32::MAX, &[1]), (4, -5, 0, &[1])];
    let mut wild = request(exponentials(&coarse));
    assert_eq!(accumulate(&mut streams, &mut wild, 0), Dropped::default());
    // They go on as they are: the translation says what is wrong with them.
    let Data::Exponential { points, .. } = first(&wild) else { panic!("{wild:?}") };
    assert_eq!((points.len(), points[1].scale, points[1].count, streams.len()), (3, i32::MIN, 1, 0));
    for (scale, offset, is_taken) in [
        (0, -1076, true),
        (0, 1023, true),
        (0, -1077, false),
        (0, 1024, false),
        (-4, 63, true),
        (-4, 64, false),
        (20, 1 << 29, true),
        (20, i32::MAX, false),
        (i32::MAX, i32::MAX, true),
    ] {
        let mut streams = Streams::default();
        let dropped = accumulate(&mut streams, &mut request(exponentials(&[(2, scale, offset, &[1])])), 0);
        assert_eq!(
            (dropped.refusal.is_none(), streams.len()),
            (is_taken, usize::from(is_taken)),
            "{scale} {offset}"
        );
    }
    // All floats there are, in as coarse a scale as is stored.
    let mut all = request(exponentials(&[(2, 0, -1076, &[1]), (3, 3, 8191, &[1])]));
    assert_eq!(accumulate(&mut streams, &mut all, 0), Dropped::default());
    let Data::Exponential { points, .. } = first(&all) else { panic!("{all:?}") };
    assert_eq!((points[1].scale, points[1].count), (SCHEMA_MIN, 2));
}

#[test]
fn the_memory_of_all_sums_is_bounded() {
    let mut streams = Streams::default();
    // The first point of a series is kept no finer than a sum is.
    let mut long = vec![0; 60_000];
    (long[10], long[11_000], long[59_000]) = (1, 2, 3);
    accumulate(&mut streams, &mut request(exponentials(&[(2, 10, 0, &long)])), 0);
    accumulate(&mut streams, &mut request(exponentials(&[(3, 10, 0, &vec![0; 60_000])])), 0);
    assert!(streams.n_bytes < 8000, "{}", streams.n_bytes);

    let mut streams = Streams { limits: Limits(Size { n: 3, n_bytes: 20_000 }), ..Streams::default() };
    let mut send = |name: i64, time, n: usize| {
        let mut head = head(1, time);
        head.attributes.push(KeyValue { key: "n".into(), value: AnyValue::Int(name) });
        let bounds = (1..n).map(|bound| bound as f64 + time as f64).collect();
        let point = HistogramPoint { head, counts: vec![1; n], bounds, ..HistogramPoint::default() };
        let data = Data::Histogram { points: vec![point], temporality: Temporality::Delta };
        let dropped = accumulate(&mut streams, &mut request(data), 0);
        (dropped.beyond_limit, streams.len())
    };
    assert_eq!(send(1, 2, 1000), (0, 1));
    // There is room for a small one, and none for another large one or for it to become one.
    assert_eq!(send(2, 2, 1000), (1, 1));
    assert_eq!(send(2, 2, 10), (0, 2));
    assert_eq!(send(2, 3, 1000), (1, 2));
    assert_eq!(send(1, 3, 900), (0, 2));
    assert_eq!((send(3, 2, 1), send(4, 2, 1)), ((0, 3), (1, 3)));
}

#[test]
fn what_is_not_kept_never_was() {
    let mut streams = Streams::default();
    accumulate(&mut streams, &mut request(sums(vec![number(1, 2, 5)])), 0);
    for _ in 0..3 {
        let mut again = request(sums(vec![number(2, 3, 7), number(3, 4, 1)]));
        assert_eq!(streams.accumulate(&mut again, 0), Dropped::default());
        let Data::Sum { points, .. } = first(&again) else { panic!("{again:?}") };
        assert_eq!(points[..], [number(1, 3, 12), number(1, 4, 13)]);
    }
    streams.keep();
    let mut late = request(sums(vec![number(3, 4, 1)]));
    assert_eq!(streams.accumulate(&mut late, 0).late, 1);
}
