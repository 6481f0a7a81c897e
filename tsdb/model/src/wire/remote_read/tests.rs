use proptest::prelude::*;

use super::*;
use crate::{AnyHistogram, Histogram, HistogramSample, Labels, SampleBatch};

fn any_request() -> impl Strategy<Value = Request> {
    let text = || prop::collection::vec(any::<u8>(), 0..5);
    let matcher =
        (any::<i32>(), text(), text()).prop_map(|(kind, name, value)| RawMatcher { kind, name, value });
    let hints = (any::<[i64; 4]>(), text(), prop::collection::vec(text(), 0..3), any::<bool>()).prop_map(
        |([step_ms, start_ms, end_ms, range_ms], func, grouping, by)| Hints {
            step_ms,
            func,
            start_ms,
            end_ms,
            grouping,
            by,
            range_ms,
        },
    );
    let query = (any::<i64>(), any::<i64>(), prop::collection::vec(matcher, 0..3), prop::option::of(hints))
        .prop_map(|(start, end, matchers, hints)| Query { start, end, matchers, hints });
    (prop::collection::vec(query, 0..3), prop::collection::vec(any::<i32>(), 0..3))
        .prop_map(|(queries, accepted)| Request { queries, accepted })
}

proptest! {
    #[test]
    fn what_is_asked_is_read(request in any_request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = Vec::new();
        request.write(&mut body);
        prop_assert_eq!(Request::read(&body), Ok(request));
        // Damaged, it is refused or read as something else.
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
            let _ = Request::read(&body).map(|request| (request.negotiate(), request.queries.len()));
            let _ = Request::read(&body[..at]);
            let _ = read_samples(&body);
            let _ = read_frame(&mut &body[..], |_| 0);
        }
    }
}

#[test]
fn the_first_type_that_is_known_is_taken() {
    let of = |accepted: &[i32]| Request { accepted: accepted.to_vec(), ..Request::default() }.negotiate();
    assert_eq!(of(&[]), Ok(ResponseType::Samples));
    assert_eq!(of(&[1, 0]), Ok(ResponseType::StreamedChunks));
    assert_eq!(of(&[7, 0, 1]), Ok(ResponseType::Samples));
    let expected = "server does not support any of the requested response types: [7 -1]; supported: map[SAMPLES:{} STREAMED_XOR_CHUNKS:{}]";
    assert_eq!(of(&[7, -1]), Err(expected.to_owned()));
}

#[test]
fn requests_have_limits_of_their_own() {
    // A query takes two bytes; so many would take half a gigabyte when read.
    let body = [0x0a, 0].repeat(ELEMENTS_MAX + 1);
    let bad = Request::read(&body).unwrap_err().to_string();
    assert_eq!(bad, "proto: ReadRequest has more than 8192 elements");
    assert!(Request::read(&body[2..]).is_ok());
}

#[test]
fn matchers_are_made_of_what_is_known() {
    let query = |kind, value: &[u8]| Query {
        matchers: vec![RawMatcher { kind, name: b"a".to_vec(), value: value.to_vec() }],
        ..Query::default()
    };
    for (kind, shown) in [(0, "a=\"b\""), (1, "a!=\"b\""), (2, "a=~\"b\""), (3, "a!~\"b\"")] {
        let matchers = query(kind, b"b").matchers().unwrap();
        assert_eq!(matchers[0].to_string(), shown);
        assert_eq!(RawMatcher::from(&matchers[0]), query(kind, b"b").matchers[0]);
    }
    assert_eq!(query(4, b"b").matchers().unwrap_err(), "invalid matcher type");
    assert!(query(2, b"(").matchers().unwrap_err().contains("missing closing )"));
}

#[test]
fn samples_are_read_as_they_were_written() {
    let labels = Labels::from_pairs([("a", "1"), ("b", "2")]);
    let mut samples = SampleBatch::default();
    samples.push(-5, f64::from_bits(crate::STALE_NAN.to_bits()));
    samples.push(7, -0.0);
    let histogram = AnyHistogram::Int(Box::new(Histogram { count: 3, sum: 1.5, ..Histogram::default() }));
    samples.histograms.push(HistogramSample { t: 9, st: 0, histogram });
    let mut body = Vec::new();
    for n in [1, 0, 300] {
        let mut result = vec![0; RESULT_HEAD_BYTES_MAX];
        (0..n).for_each(|_| write_series(&mut result, &labels, &samples));
        end_result(&mut result);
        body.append(&mut result);
    }
    let results = read_samples(&body).unwrap();
    assert_eq!(results.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 300]);
    let read = &results[0][0];
    assert_eq!(read.labels, [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    let bits = |batch: &SampleBatch| batch.vs.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!((&read.samples.ts, bits(&read.samples)), (&samples.ts, bits(&samples)));
    assert_eq!(read.samples.histograms, samples.histograms);
}

/// Not the real one: the codec does not care.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(7, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

#[test]
fn series_are_split_where_frames_are_full() {
    let labels = Labels::from_pairs([("a", "x".repeat(100))]);
    let mut frames = FrameWriter::new(1000);
    let mut stream = Vec::new();
    for query in 0..2 {
        frames.begin(query, &labels);
        for t in 0..10 {
            if !frames.chunk(t, t + 1, 1, &[u8::try_from(t).unwrap(); 300]) {
                frames.frame(&mut stream, sum);
            }
        }
        frames.frame(&mut stream, sum);
    }
    // Nothing is left, so nothing is written.
    frames.frame(&mut stream, sum);
    let mut rest = &stream[..];
    let mut seen = Vec::new();
    while let Some(list) = read_frame(&mut rest, sum).unwrap() {
        assert_eq!(list.len(), 1, "a frame has one series");
        assert_eq!(list[0].labels.len(), 1);
        seen.push((list[0].query, list[0].chunks.iter().map(|chunk| chunk.mint).collect::<Vec<_>>()));
    }
    // A frame is full when its chunks reach its size: the third of them reaches beyond what the labels leave.
    let split = [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8], vec![9]];
    let expected: Vec<_> = (0..2).flat_map(|query| split.clone().map(|times| (query, times))).collect();
    assert_eq!(seen, expected);
    let mut damaged = stream.clone();
    damaged[50] ^= 1;
    assert_eq!(read_frame(&mut &damaged[..], sum).unwrap_err(), "checksum of a frame does not match");
    assert_eq!(read_frame(&mut &stream[..40], sum).unwrap_err(), "frame cut short");
}
