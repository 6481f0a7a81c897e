use proptest::prelude::*;

use super::*;

/// Made with promtool 2.42: four samples 15 s apart, values 1, 1, 3, 3.5, the last one 2 ms late.
const GOLDEN: [u8; 26] = [
    0x00, 0x04, 0x80, 0x80, 0xf4, 0xf6, 0x90, 0x5d, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0x98, 0x75, 0x30, 0x99,
    0xff, 0xf0, 0x00, 0x5b, 0x41, 0x80,
];

fn encode_all(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for &(t, v) in samples {
        encoder.push(t, v);
    }
    encoder.finish()
}

fn decode_all(chunk: &[u8]) -> Vec<(i64, u64)> {
    let mut out = SampleBatch::default();
    decode(chunk, TimeRange::ALL, &mut out).unwrap();
    out.iter().map(|s| (s.t, s.v.to_bits())).collect()
}

#[test]
fn golden_vector_both_ways() {
    let t0 = 1_600_000_000_000;
    let samples = [(t0, 1.0), (t0 + 15_000, 1.0), (t0 + 30_000, 3.0), (t0 + 45_002, 3.5)];
    assert_eq!(encode_all(&samples), GOLDEN);
    let bits: Vec<_> = samples.iter().map(|&(t, v)| (t, v.to_bits())).collect();
    assert_eq!(decode_all(&GOLDEN), bits);
    let trailing: Vec<u8> = GOLDEN.iter().copied().chain([0, 0]).collect();
    assert_eq!(decode_all(&trailing), bits);
}

#[test]
fn every_bucket_of_time_differences_survives_at_its_edges() {
    let edges = [
        0,
        1,
        -1,
        8191,
        8192,
        8193,
        -8191,
        -8192,
        65535,
        65536,
        65537,
        -65535,
        -65536,
        524_287,
        524_288,
        524_289,
        -524_287,
        -524_288,
        1 << 40,
    ];
    for dod in edges {
        let second = 1_000_000 + 600_000;
        let samples = [(1_000_000, 1.0), (second, 2.0), (second + 600_000 + dod, 3.0)];
        let decoded = decode_all(&encode_all(&samples));
        assert_eq!(decoded[2].0, samples[2].0, "dod {dod}");
    }
}

#[test]
fn range_and_count_limit_what_is_decoded() {
    let samples: Vec<_> = (0..10_u32).map(|i| (i64::from(i) * 10, f64::from(i))).collect();
    let chunk = encode_all(&samples);
    let mut out = SampleBatch::default();
    decode(&chunk, TimeRange::new(25, 60), &mut out).unwrap();
    assert_eq!(out.ts, [30, 40, 50, 60]);
    out.clear();
    decode_stream(&chunk[HEADER_LEN..], 3, TimeRange::ALL, &mut out).unwrap();
    assert_eq!(out.ts, [0, 10, 20]);
}

fn values() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1000_i32..1000).prop_map(f64::from),
        Just(model::STALE_NAN),
        Just(0.0)
    ]
}

proptest! {
    #[test]
    fn roundtrip(
        t0 in -1_000_000_000_000_i64..1_000_000_000_000,
        steps in prop::collection::vec((prop_oneof![1_i64..20, 14_990_i64..15_010, 1_i64..1 << 45], values()), 0..300),
    ) {
        let mut t = t0;
        let mut samples = Vec::new();
        for (step, v) in steps {
            t += step;
            samples.push((t, v));
        }
        let chunk = encode_all(&samples);
        let expected: Vec<_> = samples.iter().map(|&(t, v)| (t, v.to_bits())).collect();
        prop_assert_eq!(decode_all(&chunk), expected);
    }

    #[test]
    fn any_bytes_decode_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200), n in any::<u16>()) {
        let mut out = SampleBatch::default();
        let _ = decode(&bytes, TimeRange::ALL, &mut out);
        let _ = decode_stream(&bytes, n, TimeRange::ALL, &mut out);
    }

    #[test]
    fn cut_and_flipped_chunks_do_not_panic(at in 0..GOLDEN.len(), flip in any::<u8>(), cut in 0..=GOLDEN.len()) {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] ^= flip;
        bytes.truncate(cut);
        let _ = decode(&bytes, TimeRange::ALL, &mut SampleBatch::default());
    }
}

#[test]
fn every_length_of_stream_is_read_to_its_end_and_not_beyond() {
    // From a first sample alone to well past the part that is read in place.
    let mut encoder = Encoder::default();
    let mut samples = Vec::new();
    for i in 0..80_i64 {
        let sample = (i * 15_000 + i % 3, ((i * i) % 11) as f64 / 3.0);
        encoder.push(sample.0, sample.1);
        samples.push((sample.0, sample.1.to_bits()));
        let chunk = encoder.bytes();
        assert_eq!(decode_all(chunk), samples);
        let mut out = SampleBatch::default();
        let cut = &chunk[..chunk.len() - 1];
        assert!(decode(cut, TimeRange::ALL, &mut out).is_err(), "{i}");
        assert!(samples.starts_with(&out.iter().map(|s| (s.t, s.v.to_bits())).collect::<Vec<_>>()));
        let mut more = chunk.to_vec();
        more[..2].copy_from_slice(&u16::MAX.to_be_bytes());
        assert!(decode(&more, TimeRange::new(0, i64::MAX), &mut out).is_err() || out.len() > samples.len());
    }
}

#[test]
fn floats_without_start_times_follow_those_with() {
    let chunk = encode_all(&[(10, 1.0), (20, 2.0), (30, 3.0)]);
    let mut out = SampleBatch::default();
    out.push_started(3, 5, 0.5);
    decode(&chunk, TimeRange::new(15, 40), &mut out).unwrap();
    assert_eq!((&out.ts[..], &out.sts[..]), (&[5, 20, 30][..], &[3, 0, 0][..]));
}
