use proptest::prelude::*;

use super::super::testing::{starts, steps, values};
use super::*;

fn encode_all(samples: &[(i64, i64, f64)]) -> Option<Encoder> {
    let (&(st, t, v), rest) = samples.split_first()?;
    let mut encoder = Encoder::new(st, t, v);
    for &(st, t, v) in rest {
        encoder.push(st, t, v);
    }
    Some(encoder)
}

fn decode_all(chunk: &[u8], n: u16) -> Vec<(i64, i64, u64)> {
    let mut out = SampleBatch::default();
    decode(chunk, n, TimeRange::ALL, &mut out).unwrap();
    out.iter().enumerate().map(|(i, s)| (out.st(i), s.t, s.v.to_bits())).collect()
}

#[test]
fn a_value_that_stays_takes_a_bit() {
    let samples: Vec<_> = (0..120_i32).map(|i| (0, i64::from(i) * 15_000, 1.0)).collect();
    let encoder = encode_all(&samples).unwrap();
    // Header, time and value, difference and value, then 118 bits.
    assert_eq!(encoder.bytes().len(), 3 + 1 + 8 + (3 * 8 + 1 + 118_usize).div_ceil(8) - 1);
    assert_eq!(decode_all(encoder.bytes(), 120).len(), 120);
}

#[test]
fn a_marker_leaves_the_value_before_it_alone() {
    let stale = model::STALE_NAN;
    for at in 0..5 {
        let samples: Vec<_> =
            (0..5).map(|i| (0, i64::from(i) * 10, if i == at { stale } else { 2.5 })).collect();
        let encoder = encode_all(&samples).unwrap();
        let expected: Vec<_> = samples.iter().map(|&(st, t, v)| (st, t, v.to_bits())).collect();
        assert_eq!(decode_all(encoder.bytes(), 5), expected);
    }
}

proptest! {
    #[test]
    fn roundtrip(
        t0 in -1_000_000_000_000_i64..1_000_000_000_000,
        samples in prop::collection::vec((starts(), steps(), values()), 1..300),
    ) {
        let mut t = t0;
        let samples: Vec<_> = samples.into_iter().map(|(st, step, v)| { t += step; (st, t, v) }).collect();
        let encoder = encode_all(&samples).unwrap();
        let expected: Vec<_> = samples.iter().map(|&(st, t, v)| (st, t, v.to_bits())).collect();
        let n = encoder.count();
        prop_assert_eq!(usize::from(n), samples.len());
        prop_assert_eq!(decode_all(encoder.bytes(), n), &expected[..]);
        prop_assert_eq!(decode_all(encoder.bytes(), n / 2), &expected[..usize::from(n / 2)]);
    }

    #[test]
    fn any_bytes_decode_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200), n in any::<u16>()) {
        let _ = decode(&bytes, n, TimeRange::ALL, &mut SampleBatch::default());
    }
}
