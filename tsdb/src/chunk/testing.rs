//! For tests: arbitrary histograms and samples, and batches as plain data.

use std::fmt::Write as _;

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use model::{AnyHistogram, FloatHistogram, Histogram, HistogramSample, STALE_NAN, SampleBatch, Timestamp};
use proptest::prelude::*;

pub(crate) fn spans(list: &[(i32, u32)]) -> Vec<Span> {
    list.iter().map(|&(offset, length)| Span { offset, length }).collect()
}

/// A sound integer histogram with these counts at these indices.
pub(crate) fn histogram(positive: &[(i32, u64)], negative: &[(i32, u64)]) -> Histogram {
    let side = |counted: &[(i32, u64)]| {
        let (mut spans, mut buckets) = (Vec::<Span>::new(), Vec::new());
        let (mut next, mut previous) = (0, 0_i64);
        for &(index, count) in counted {
            match spans.last_mut().filter(|_| index == next) {
                Some(span) => span.length += 1,
                None => spans.push(Span { offset: index - next, length: 1 }),
            }
            buckets.push(count.cast_signed() - previous);
            (next, previous) = (index + 1, count.cast_signed());
        }
        (spans, buckets)
    };
    let (positive_spans, positive_buckets) = side(positive);
    let (negative_spans, negative_buckets) = side(negative);
    let count = positive.iter().chain(negative).map(|&(_, count)| count).sum();
    Histogram {
        schema: 2,
        zero_threshold: 0.001,
        count,
        sum: count as f64 * 1.25,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        ..Histogram::default()
    }
}

/// The staleness marker of either kind.
pub(crate) fn stale() -> Histogram {
    Histogram { sum: STALE_NAN, ..Histogram::default() }
}

/// Every sample of a batch as a line, NaNs by their bits.
pub(crate) fn lines(batch: &SampleBatch) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, (t, v)) in batch.ts.iter().zip(&batch.vs).enumerate() {
        lines.push((*t, format!("{t} {} {:016x}", batch.st(i), v.to_bits())));
    }
    for sample in &batch.histograms {
        lines.push((sample.t, line(sample)));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

fn line(sample: &HistogramSample) -> String {
    let mut line = format!("{} {} ", sample.t, sample.st);
    match &sample.histogram {
        AnyHistogram::Int(h) => {
            let _ = write!(line, "{:?} {:?} {:016x}", h.zero_count, h.count, h.sum.to_bits());
            let _ = write!(line, " {:?}{:?}", h.positive_buckets, h.negative_buckets);
        }
        AnyHistogram::Float(h) => {
            let bits = |buckets: &[f64]| buckets.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let _ = write!(line, "float {:x?} {:016x}", bits(&[h.zero_count, h.count]), h.sum.to_bits());
            let _ = write!(line, " {:x?}{:x?}", bits(&h.positive_buckets), bits(&h.negative_buckets));
        }
    }
    let (schema, threshold, positive, negative, custom, hint) = match &sample.histogram {
        AnyHistogram::Int(h) => (
            h.schema,
            h.zero_threshold,
            &h.positive_spans,
            &h.negative_spans,
            &h.custom_values,
            h.counter_reset_hint,
        ),
        AnyHistogram::Float(h) => (
            h.schema,
            h.zero_threshold,
            &h.positive_spans,
            &h.negative_spans,
            &h.custom_values,
            h.counter_reset_hint,
        ),
    };
    let _ = write!(line, " {hint:?} {schema} {threshold} {positive:?} {negative:?} {custom:?}");
    line
}

/// Steps of time between samples, regular ones mostly.
pub(crate) fn steps() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(15_000_i64), 2 => 14_990_i64..15_010, 1 => 1_i64..20, 1 => 1_i64..1 << 42]
}

/// Values of all sorts.
pub(crate) fn values() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1000_i32..1000).prop_map(f64::from),
        Just(STALE_NAN),
        Just(0.0)
    ]
}

/// Start times: mostly none or one that lasts.
pub(crate) fn starts() -> impl Strategy<Value = Timestamp> {
    prop_oneof![3 => Just(0_i64), 3 => Just(1_000_000_i64), 1 => any::<i64>().prop_map(|st| st >> 20)]
}

/// One side's counts at random indices.
fn side() -> impl Strategy<Value = Vec<(i32, u64)>> {
    prop::collection::btree_map(-6_i32..8, prop_oneof![0_u64..3, 0_u64..100_000], 0..8)
        .prop_map(|counted| counted.into_iter().collect())
}

/// Sound histograms, not related to each other: counters, gauges, markers, custom bounds.
pub(crate) fn histograms() -> impl Strategy<Value = AnyHistogram> {
    let hints = prop_oneof![
        6 => Just(CounterResetHint::Unknown),
        1 => Just(CounterResetHint::CounterReset),
        1 => Just(CounterResetHint::NotCounterReset),
        4 => Just(CounterResetHint::Gauge),
    ];
    (side(), side(), hints, 0..10_u8, any::<bool>()).prop_map(|(positive, negative, hint, form, is_float)| {
        let mut made = match form {
            0 => stale(),
            1 => {
                let positive: Vec<_> = positive.into_iter().filter(|(index, _)| *index >= 0).collect();
                let mut custom = histogram(&positive, &[]);
                custom.schema = CUSTOM_BUCKETS_SCHEMA;
                custom.zero_threshold = 0.0;
                custom.custom_values = vec![0.005, 0.1, 1.0, 2.5, 1e9, 1e10, 1e11];
                custom
            }
            2 => Histogram { schema: -1, ..histogram(&positive, &negative) },
            _ => histogram(&positive, &negative),
        };
        made.counter_reset_hint = hint;
        if is_float {
            let float: FloatHistogram = made.to_float();
            AnyHistogram::Float(Box::new(float))
        } else {
            AnyHistogram::Int(Box::new(made))
        }
    })
}

/// As [`lines`], without what a chunk may change of a histogram: hints, and empty buckets.
pub(crate) fn plain(batch: &SampleBatch) -> Vec<String> {
    let mut batch = batch.clone();
    for sample in &mut batch.histograms {
        match &mut sample.histogram {
            AnyHistogram::Int(h) if h.is_stale() => **h = stale(),
            AnyHistogram::Float(h) if h.is_stale() => **h = stale().to_float(),
            AnyHistogram::Int(h) => h.compact(0),
            AnyHistogram::Float(h) => h.compact(0),
        }
        sample.histogram.set_counter_reset_hint(CounterResetHint::Unknown);
    }
    lines(&batch)
}

/// Samples of all kinds.
pub(crate) fn batches() -> impl Strategy<Value = SampleBatch> {
    // Runs of one type, as real series have them.
    let one = prop_oneof![values().prop_map(Err), histograms().prop_map(Ok)];
    prop::collection::vec((one, 1..20_usize, starts(), steps()), 1..12).prop_map(|runs| {
        let mut batch = SampleBatch::default();
        let mut t = 1_700_000_000_000;
        for (value, n, st, step) in runs {
            for _ in 0..n {
                t += step;
                match &value {
                    Err(v) => batch.push_started(st, t, *v),
                    Ok(histogram) => {
                        let histogram = histogram.clone();
                        batch.histograms.push(HistogramSample { t, st, histogram });
                    }
                }
            }
        }
        batch
    })
}
