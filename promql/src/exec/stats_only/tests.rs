//! Which sample each is compared to, as upstream's iterators have it.

use model::FloatHistogram;

use super::*;

use CounterResetHint::{CounterReset, NotCounterReset, Unknown};

fn point(t: Timestamp, bucket: f64) -> HistogramPoint {
    let histogram = FloatHistogram {
        count: 10.0 + bucket,
        sum: 1.0,
        positive_spans: vec![model::histogram::Span { offset: 0, length: 1 }],
        positive_buckets: vec![bucket],
        ..FloatHistogram::default()
    };
    HistogramPoint { t, st: 0, value: Arc::new(histogram) }
}

/// The hints of histograms with these times and buckets, read by these seeks.
fn hints(points: &[(Timestamp, f64)], seeks: &[(Timestamp, i64)]) -> Vec<CounterResetHint> {
    let histograms: Vec<_> = points.iter().map(|&(t, bucket)| point(t, bucket)).collect();
    let mut samples = Samples { histograms: histograms.into(), ..Samples::default() };
    strip(&mut samples, seeks.iter().map(|&(t, reach)| Seek { t, reach }));
    assert!(samples.histograms.iter().all(|p| p.value.positive_buckets.is_empty() && p.value.sum == 1.0));
    samples.histograms.iter().map(|p| p.value.counter_reset_hint).collect()
}

#[test]
fn each_sample_is_compared_to_the_one_before() {
    let points = [(10, 1.0), (20, 2.0), (30, 1.0), (40, 5.0)];
    assert_eq!(hints(&points, &[(40, 40)]), [Unknown, NotCounterReset, CounterReset, NotCounterReset]);
    // Step by step it is the same, as long as nothing is skipped.
    let steps = [(10, 15), (20, 15), (30, 15), (40, 15)];
    assert_eq!(hints(&points, &steps), [Unknown, NotCounterReset, CounterReset, NotCounterReset]);
}

#[test]
fn a_leap_forgets_what_was_read() {
    let points = [(10, 1.0), (20, 2.0), (30, 1.0), (40, 0.5)];
    // The second seek reaches back to 35 only.
    assert_eq!(hints(&points, &[(10, 5), (40, 5)]), [Unknown, Unknown, Unknown, Unknown]);
    // With 30 in reach that is read, and 40 compared to it.
    assert_eq!(hints(&points, &[(10, 5), (40, 10)])[3], CounterReset);
}

#[test]
fn stale_markers_and_known_hints_are_left_alone() {
    let mut histograms: Vec<HistogramPoint> =
        [(10, 2.0), (20, 2.0), (30, 1.0), (40, 3.0)].map(|(t, v)| point(t, v)).into();
    Arc::make_mut(&mut histograms[1].value).sum = model::STALE_NAN;
    Arc::make_mut(&mut histograms[3].value).counter_reset_hint = CounterReset;
    let mut samples = Samples { histograms: histograms.into(), ..Samples::default() };
    strip(&mut samples, [Seek { t: 40, reach: 40 }].into_iter());
    let hints: Vec<_> = samples.histograms.iter().map(|p| p.value.counter_reset_hint).collect();
    // The one behind the marker is compared to the one before it.
    assert_eq!(hints, [Unknown, Unknown, CounterReset, CounterReset]);
    assert!(samples.histograms[1].value.is_stale());
}
