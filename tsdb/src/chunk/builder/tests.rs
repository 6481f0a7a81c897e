use model::AnyHistogram;
use proptest::prelude::*;

use super::super::testing::{batches, plain};
use super::super::{decode, encode_batch};
use super::*;

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(batch in batches(), xor2: bool, per_chunk in 1..130_u16) {
        let floats = if xor2 { FloatEncoding::Xor2 } else { FloatEncoding::Xor };
        let mut out = SampleBatch::default();
        let mut last = i64::MIN;
        encode_batch(&batch, floats, true, per_chunk, |chunk| {
            assert!(chunk.mint > last && chunk.mint <= chunk.maxt);
            last = chunk.maxt;
            let mut part = SampleBatch::default();
            decode(chunk.encoding, &chunk.bytes, TimeRange::ALL, &mut part).unwrap();
            let n = part.len() + part.histograms.len();
            assert!(n <= usize::from(per_chunk));
            assert_eq!(n, usize::from(super::super::count(chunk.encoding, &chunk.bytes).unwrap()));
            out.merge_from(model::Position::default(), &part);
        });
        prop_assert_eq!(plain(&out), plain(&batch));
    }

    #[test]
    fn damaged_chunks_do_not_panic(batch in batches(), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        encode_batch(&batch, FloatEncoding::Xor, true, 120, |mut chunk| {
            for &(at, flip) in &flips {
                let at = at % chunk.bytes.len();
                chunk.bytes[at] ^= flip;
            }
            let mut out = SampleBatch::default();
            let _ = decode(chunk.encoding, &chunk.bytes, TimeRange::ALL, &mut out);
            // A bucket takes a bit at least, in the chunk, and eight bytes decoded.
            let buckets: usize = out.histograms.iter().map(|sample| match &sample.histogram {
                AnyHistogram::Int(h) => h.positive_buckets.len() + h.negative_buckets.len(),
                AnyHistogram::Float(h) => h.positive_buckets.len() + h.negative_buckets.len(),
            }).sum();
            assert!(buckets <= chunk.bytes.len() * 8);
        });
    }
}

#[test]
fn a_value_of_another_type_begins_a_chunk() {
    let mut chunk = Builder::new(Encoding::Xor, 0, 10, Value::Float(1.0));
    let histogram = super::super::testing::histogram(&[(0, 1)], &[]);
    let Pushed::Next(next) = chunk.push(0, 20, Value::Histogram(&histogram)) else {
        panic!("it fits no XOR chunk")
    };
    assert_eq!((next.encoding(), next.mint(), next.count()), (Encoding::Histogram, 20, 1));
    assert_eq!((chunk.count(), chunk.maxt()), (1, 10));
    let next = next.cut_to(Encoding::Xor2, 5, 30, Value::Float(1.0));
    assert_eq!((next.encoding(), &next.bytes()[..3]), (Encoding::Xor2, &[0, 1, 0x80][..]));
}

#[test]
fn a_full_chunk_is_followed_by_another() {
    let histogram = super::super::testing::histogram(&[(0, 1)], &[]);
    let mut chunk = Builder::new(Encoding::HistogramSt, 1, 0, Value::Histogram(&histogram));
    for t in 1..0x3fff {
        assert!(matches!(chunk.push(1, t, Value::Histogram(&histogram)), Pushed::Stored));
    }
    let Pushed::Next(next) = chunk.push(1, 0x3fff, Value::Histogram(&histogram)) else {
        panic!("it is full")
    };
    assert_eq!((chunk.count(), next.count(), next.bytes()[0]), (0x3fff, 1, 0x40));
}
