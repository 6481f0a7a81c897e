use proptest::prelude::*;

use super::super::testing::{histogram, lines, spans, stale};
use super::*;

fn decode_all<K: Kind>(chunk: &Encoder<K>) -> Vec<HistogramSample> {
    let mut out = SampleBatch::default();
    decode::<K>(chunk.bytes(), chunk.with_start(), chunk.count(), TimeRange::ALL, &mut out).unwrap();
    out.histograms
}

fn int(sample: &HistogramSample) -> &Histogram {
    match &sample.histogram {
        AnyHistogram::Int(histogram) => histogram,
        AnyHistogram::Float(_) => panic!("a float histogram"),
    }
}

fn begun(first: &Histogram) -> Encoder<Int> {
    Encoder::new(false, 0, 10, first)
}

fn stored(chunk: &mut Encoder<Int>, t: Timestamp, next: &Histogram) {
    assert!(matches!(chunk.push(0, t, next), Appended::Stored), "{next} fits");
}

fn header_of_next(chunk: &mut Encoder<Int>, next: &Histogram) -> ResetHeader {
    let before = chunk.bytes().to_vec();
    let Appended::Next(next) = chunk.push(0, 1000, next) else { panic!("{next} begins a chunk") };
    assert_eq!(chunk.bytes(), before, "the chunk is left alone");
    assert_eq!((next.count(), next.bytes()[2]), (1, next.header as u8));
    next.header
}

fn with_hint(hint: CounterResetHint, histogram: Histogram) -> Histogram {
    Histogram { counter_reset_hint: hint, ..histogram }
}

#[test]
fn added_buckets_write_the_chunk_anew() {
    let mut chunk = begun(&histogram(&[(0, 1), (4, 2)], &[(1, 1)]));
    stored(&mut chunk, 20, &histogram(&[(0, 1), (1, 5), (4, 2)], &[(1, 1), (2, 3)]));
    let samples = decode_all(&chunk);
    let first = int(&samples[0]);
    assert_eq!(first.positive_spans, spans(&[(0, 2), (2, 1)]));
    assert_eq!(first.positive_buckets, [1, -1, 2]);
    assert_eq!(first.negative_buckets, [1, -1]);
    assert_eq!(first.count, 4);
    let second = int(&samples[1]);
    assert_eq!(second.counter_reset_hint, CounterResetHint::NotCounterReset);
    assert_eq!(second.positive_buckets, [1, 4, -3]);
}

#[test]
fn empty_buckets_that_vanish_are_padded_and_filled_ones_are_a_reset() {
    let mut chunk = begun(&histogram(&[(0, 1), (1, 0), (4, 2)], &[]));
    stored(&mut chunk, 20, &histogram(&[(0, 1), (4, 2), (6, 1)], &[]));
    let samples = decode_all(&chunk);
    let second = int(&samples[1]);
    assert_eq!(second.positive_spans, spans(&[(0, 2), (2, 1), (1, 1)]));
    assert_eq!(second.positive_buckets, [1, -1, 2, -1]);
    assert_eq!(header_of_next(&mut chunk, &histogram(&[(4, 3), (6, 4)], &[])), ResetHeader::CounterReset);
}

#[test]
fn headers_say_why_a_chunk_begins() {
    use CounterResetHint::{CounterReset, Gauge, Unknown};
    let base = histogram(&[(0, 5), (1, 5)], &[]);
    let more = histogram(&[(0, 6), (1, 5)], &[]);
    let mut chunk = begun(&base);
    assert_eq!(header_of_next(&mut chunk, &histogram(&[(0, 6), (1, 4)], &[])), ResetHeader::CounterReset);
    assert_eq!(header_of_next(&mut chunk, &with_hint(CounterReset, more.clone())), ResetHeader::CounterReset);
    assert_eq!(header_of_next(&mut chunk, &with_hint(Gauge, more.clone())), ResetHeader::Gauge);
    let coarser = Histogram { schema: 1, ..more.clone() };
    assert_eq!(header_of_next(&mut chunk, &coarser), ResetHeader::Unknown);
    assert_eq!(chunk.cut(false, 0, 20, &more).header, ResetHeader::NotCounterReset);
    assert_eq!(chunk.cut(false, 0, 20, &coarser).header, ResetHeader::Unknown);
    assert_eq!(chunk.cut(false, 0, 20, &histogram(&[(0, 1)], &[])).header, ResetHeader::CounterReset);
    stored(&mut chunk, 20, &stale());
    stored(&mut chunk, 30, &stale());
    assert_eq!(header_of_next(&mut chunk, &more), ResetHeader::Unknown);
    let mut gauge = begun(&with_hint(Gauge, base));
    stored(&mut gauge, 20, &with_hint(Gauge, histogram(&[(2, 1)], &[])));
    assert_eq!(header_of_next(&mut gauge, &with_hint(Unknown, more)), ResetHeader::NotCounterReset);
    let hints: Vec<_> = decode_all(&gauge).iter().map(|s| s.histogram.counter_reset_hint()).collect();
    assert_eq!(hints, [Gauge, Gauge]);
}

#[test]
fn float_chunks_know_fewer_headers() {
    let base = histogram(&[(0, 5)], &[]).to_float();
    let mut chunk = Encoder::<Float>::new(true, 5, 10, &base);
    let coarser = FloatHistogram { schema: 1, ..base.clone() };
    let Appended::Next(next) = chunk.push(5, 20, &coarser) else { panic!("another schema fits no chunk") };
    assert_eq!(next.header, ResetHeader::Unknown);
    assert_eq!(chunk.cut(true, 0, 20, &coarser).header, ResetHeader::NotCounterReset);
    assert!(matches!(chunk.push(5, 20, &base), Appended::Stored));
    assert_eq!(decode_all(&chunk).iter().map(|s| s.st).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(chunk.bytes()[..3], [0, 2, 0x80]);
}

#[test]
fn ranges_and_counts_limit_what_is_decoded() {
    let mut chunk = begun(&histogram(&[(0, 1)], &[]));
    for t in 2..8 {
        stored(&mut chunk, t * 10, &histogram(&[(0, 1)], &[]));
    }
    let times = |n, range| {
        let mut out = SampleBatch::default();
        decode::<Int>(chunk.bytes(), false, n, range, &mut out).unwrap();
        out.histograms.iter().map(|sample| sample.t).collect::<Vec<_>>()
    };
    assert_eq!(times(7, TimeRange::new(25, 40)), [30, 40]);
    assert_eq!(times(2, TimeRange::ALL), [10, 20]);
    assert!(times(0, TimeRange::ALL).is_empty());
}

#[test]
fn finer_schemas_are_read_as_the_finest_known() {
    let fine = Histogram { schema: 10, ..histogram(&[(1, 1), (4, 2), (5, 7)], &[]) };
    let samples = decode_all(&begun(&fine));
    let read = int(&samples[0]);
    assert_eq!((read.schema, &read.positive_buckets[..]), (8, &[3, 4][..]));
}

#[test]
fn finer_schemas_are_written_anew_as_they_are() {
    let fine = |positive: &[(i32, u64)]| Histogram { schema: 10, ..histogram(positive, &[]) };
    let mut chunk = begun(&fine(&[(1, 1), (5, 7)]));
    stored(&mut chunk, 20, &fine(&[(1, 1), (4, 2), (5, 7)]));
    let samples = decode_all(&chunk);
    let read: Vec<_> = samples.iter().map(int).collect();
    assert_eq!((&read[0].positive_buckets[..], &read[1].positive_buckets[..]), (&[1, 6][..], &[3, 4][..]));
}

#[test]
fn absurd_lengths_are_errors() {
    let mut bits = BitWriter::after(&[0, 1, 0]);
    bits.put(0, 8);
    varbit::put_int(&mut bits, 0);
    varbit::put_uint(&mut bits, 1);
    varbit::put_uint(&mut bits, u64::from(u32::MAX));
    varbit::put_int(&mut bits, 0);
    varbit::put_uint(&mut bits, 0);
    bits.put(0, 1);
    for _ in 0..3 {
        bits.put(0, 64);
    }
    let error = decode::<Float>(bits.bytes(), false, 1, TimeRange::ALL, &mut SampleBatch::default());
    assert_eq!(error.unwrap_err().what, "more buckets than bytes");
}

proptest! {
    #[test]
    fn any_bytes_decode_or_err(bytes in prop::collection::vec(any::<u8>(), 0..300), n in any::<u16>(), st: bool) {
        let mut out = SampleBatch::default();
        let _ = decode::<Int>(&bytes, st, n, TimeRange::ALL, &mut out);
        let _ = decode::<Float>(&bytes, st, n, TimeRange::ALL, &mut out);
        // What was made of them is printable, hence readable.
        let _ = lines(&out);
    }
}
