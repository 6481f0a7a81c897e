use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a sample is in these tests: its batch, whether it is a histogram, its start time.
type Model = BTreeMap<Timestamp, (u8, bool, Timestamp)>;

fn batch(samples: &Model) -> SampleBatch {
    let mut batch = SampleBatch::default();
    for (&t, &(v, is_histogram, st)) in samples {
        if is_histogram {
            let counter_reset_hint = CounterResetHint::NotCounterReset;
            let histogram = Histogram { counter_reset_hint, count: v.into(), ..Histogram::default() };
            batch.histograms.push(HistogramSample {
                t,
                st,
                histogram: AnyHistogram::Int(Box::new(histogram)),
            });
        } else {
            batch.push_started(st, t, v.into());
        }
    }
    batch
}

fn histogram(sample: &HistogramSample) -> &Histogram {
    match &sample.histogram {
        AnyHistogram::Int(histogram) => histogram,
        AnyHistogram::Float(_) => panic!("no float histograms here"),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "values are small whole numbers")]
fn model(batch: &SampleBatch, from: Position) -> Model {
    assert!(batch.ts[from.float..].is_sorted_by(|a, b| a < b), "times ascend");
    assert!(batch.histograms[from.histogram..].is_sorted_by(|a, b| a.t < b.t), "times ascend");
    assert!(batch.sts.is_empty() || batch.sts.len() == batch.ts.len());
    let mut model = Model::new();
    for i in from.float..batch.len() {
        assert!(model.insert(batch.ts[i], (batch.vs[i] as u8, false, batch.st(i))).is_none());
    }
    for sample in &batch.histograms[from.histogram..] {
        let v = histogram(sample).count as u8;
        assert!(model.insert(sample.t, (v, true, sample.st)).is_none(), "no time twice");
    }
    model
}

fn parts(n: u8) -> impl Strategy<Value = Vec<Model>> {
    let starts = prop_oneof![3 => Just(0_i64), 1 => 1_i64..5];
    let one = prop::collection::btree_map(0_i64..60, (0_u8..n, any::<bool>(), starts), 0..20);
    prop::collection::vec(one, 0..5)
}

proptest! {
    #[test]
    fn merging_equals_a_map(parts in parts(200), floats_only: bool) {
        let mut out = SampleBatch::default();
        out.push(1000, 1.0);
        let start = out.end();
        let mut expected = Model::new();
        for mut part in parts {
            if floats_only {
                part.retain(|_, sample| !sample.1);
            }
            out.merge_from(start, &batch(&part));
            for (t, sample) in part {
                expected.entry(t).or_insert(sample);
            }
        }
        prop_assert_eq!(model(&out, start), expected);
        prop_assert_eq!(out.ts[0], 1000);
    }

    #[test]
    fn hints_are_kept_only_between_neighbours(mine in parts(1), other in parts(1)) {
        let flat = |parts: Vec<Model>, v: u8| -> Model {
            parts.into_iter().flatten().map(|(t, (_, _, st))| (t, (v, true, st))).collect()
        };
        let mut out = batch(&flat(mine, 1));
        out.merge_from(Position::default(), &batch(&flat(other, 2)));
        for pair in out.histograms.windows(2) {
            let [before, after] = [histogram(&pair[0]), histogram(&pair[1])];
            let is_known = after.counter_reset_hint == CounterResetHint::NotCounterReset;
            prop_assert_eq!(is_known, before.count == after.count);
        }
    }
}
