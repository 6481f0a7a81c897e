use model::{AnyHistogram, HistogramSample};
use proptest::prelude::*;

use super::super::super::testing::{histograms, lines, starts, steps};
use super::super::super::{EncodedChunk, FloatEncoding, count, decode_first, decode_points, encode_batch};
use super::*;

/// The chunks of a series whose histograms grow, now this way, now that way.
fn chunks(runs: &[(AnyHistogram, Vec<u8>, i64, i64)]) -> Vec<EncodedChunk> {
    let mut batch = SampleBatch::default();
    let mut t = 1_700_000_000_000;
    for (base, growth, st, step) in runs {
        let mut histogram = base.clone();
        for &more in growth {
            t += step;
            if !histogram.is_stale() {
                match &mut histogram {
                    AnyHistogram::Int(h) => {
                        h.count += u64::from(more);
                        h.sum += f64::from(more) / 3.0;
                        if let Some(first) = h.positive_buckets.first_mut() {
                            *first += i64::from(more);
                        }
                    }
                    AnyHistogram::Float(h) => {
                        h.count += f64::from(more);
                        h.zero_count += if h.uses_custom_buckets() { 0.0 } else { f64::from(more) / 7.0 };
                        h.positive_buckets.iter_mut().for_each(|count| *count += f64::from(more));
                    }
                }
            }
            batch.histograms.push(HistogramSample { t, st: *st, histogram: histogram.clone() });
        }
    }
    let mut chunks = Vec::new();
    encode_batch(&batch, FloatEncoding::Xor, true, 120, |chunk| chunks.push(chunk));
    chunks
}

/// What is read of a chunk in both ways, that of integers turned to floats.
fn read(chunk: &EncodedChunk, range: TimeRange, detail: Detail) -> (SampleBatch, SampleBatch) {
    let n = count(chunk.encoding, &chunk.bytes).unwrap();
    let mut expected = SampleBatch::default();
    decode_first(chunk.encoding, &chunk.bytes, n, range, &mut expected).unwrap();
    for sample in &mut expected.histograms {
        if let AnyHistogram::Int(h) = &sample.histogram {
            sample.histogram = AnyHistogram::Float(Box::new(h.to_float()));
        }
    }
    // Memory with other histograms in it.
    let mut points = HistogramPoints::default();
    for _ in 0..2 {
        points.clear();
        let mut none = SampleBatch::default();
        decode_points(chunk.encoding, &chunk.bytes, n, range, detail, &mut none, &mut points).unwrap();
        assert!(none.is_empty() && none.histograms.is_empty());
    }
    let read = points.iter().map(|point| HistogramSample {
        t: point.t,
        st: point.st,
        histogram: AnyHistogram::Float(Box::new((*point.value).clone())),
    });
    (expected, SampleBatch { histograms: read.collect(), ..SampleBatch::default() })
}

fn float(sample: &HistogramSample) -> &FloatHistogram {
    match &sample.histogram {
        AnyHistogram::Float(h) => h,
        AnyHistogram::Int(_) => panic!("an integer histogram"),
    }
}

fn runs() -> impl Strategy<Value = Vec<(AnyHistogram, Vec<u8>, i64, i64)>> {
    let growth = prop::collection::vec(prop_oneof![Just(0_u8), Just(3_u8), any::<u8>()], 1..20);
    prop::collection::vec((histograms(), growth, starts(), steps()), 1..8)
}

proptest! {
    #[test]
    fn points_are_the_samples_as_floats(runs in runs(), from in 0_i64..200_000, len in 0_i64..400_000) {
        let start = 1_700_000_000_000 + from;
        for chunk in chunks(&runs) {
            for range in [TimeRange::ALL, TimeRange::new(start, start + len)] {
                let (expected, read) = read(&chunk, range, Detail::All);
                prop_assert_eq!(lines(&expected), lines(&read));
            }
        }
    }

    #[test]
    fn stats_have_totals_and_hints_of_all_and_buckets_at_both_ends(
        runs in runs(),
        from in 0_i64..200_000,
        len in 0_i64..400_000,
    ) {
        let start = 1_700_000_000_000 + from;
        for chunk in chunks(&runs) {
            for range in [TimeRange::ALL, TimeRange::new(start, start + len)] {
                let (mut expected, read) = read(&chunk, range, Detail::Stats);
                let filled: Vec<usize> =
                    (0..expected.histograms.len()).filter(|&i| !expected.histograms[i].histogram.is_stale()).collect();
                for (i, sample) in expected.histograms.iter_mut().enumerate() {
                    let AnyHistogram::Float(h) = &mut sample.histogram else { panic!("an integer histogram") };
                    if Some(&i) != filled.first() && Some(&i) != filled.last() {
                        let whole = std::mem::take(&mut **h);
                        h.copy_totals_of(&whole);
                        (h.zero_threshold, h.zero_count) = (0.0, 0.0);
                        prop_assert!(whole.is_stale() || whole.counter_reset_hint != CounterResetHint::Unknown);
                    }
                }
                prop_assert_eq!(lines(&expected), lines(&read));
                prop_assert_eq!(filled.is_empty(), read.histograms.iter().all(|s| float(s).is_stale()));
            }
        }
    }
}
