use std::fmt::Write;

use model::histogram::{Buckets, Span};
use model::{Labels, Value};
use proptest::prelude::*;

use super::*;

/// What upstream encoded and decoded: name and bytes of a record, then a line per item.
const GOLDEN: &str = include_str!("golden.txt");

/// Name, bytes and items of each golden record.
fn golden() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let mut all: Vec<(&str, Vec<u8>, Vec<&str>)> = Vec::new();
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("= ") {
            Some(head) => {
                let (name, hex) = head.rsplit_once(' ').unwrap();
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                all.push((name, (0..hex.len()).step_by(2).map(byte).collect(), Vec::new()));
            }
            None => all.last_mut().unwrap().2.push(line),
        }
    }
    all
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(","))
}

fn bits(v: f64) -> String {
    format!("{:016x}", v.to_bits())
}

fn show_labels(labels: &Labels, out: &mut String) {
    for (name, value) in labels {
        write!(out, " {}={}", str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap()).unwrap();
    }
}

fn show_buckets<C, B>(
    kind: &str,
    h: &Buckets<C, B>,
    total: impl Fn(&C) -> String,
    bucket: impl Fn(&B) -> String,
) -> String {
    let spans = |spans: &[Span]| list(spans, |s| format!("{}+{}", s.offset, s.length));
    format!(
        "{kind} {} {} {} {} {} {} {} {} {} {} {}",
        h.counter_reset_hint as u8,
        h.schema,
        bits(h.zero_threshold),
        total(&h.zero_count),
        total(&h.count),
        bits(h.sum),
        spans(&h.positive_spans),
        spans(&h.negative_spans),
        list(&h.positive_buckets, &bucket),
        list(&h.negative_buckets, &bucket),
        list(&h.custom_values, |&v| bits(v)),
    )
}

fn show_value(value: Value<'_>) -> String {
    match value {
        Value::Float(v) => bits(v),
        Value::Histogram(h) => show_buckets("int", h, u64::to_string, i64::to_string),
        Value::FloatHistogram(h) => show_buckets("float", h, |&v| bits(v), |&v| bits(v)),
    }
}

/// The items of a record as the golden file shows them, and the record that encoding them again makes.
fn decode_and_encode(record: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut lines = Vec::new();
    let mut again = Vec::new();
    match Kind::of(record) {
        Kind::Series => {
            begin_series(&mut again);
            decode_series(record, |series, labels| {
                let mut line = series.to_string();
                show_labels(&labels, &mut line);
                lines.push(line);
                push_series(&mut again, series, &labels);
            })
            .unwrap();
        }
        Kind::Samples => {
            let mut encoder = Samples::new(record[0] == 11);
            let mut samples = Vec::new();
            decode_samples(record, &mut samples).unwrap();
            for sample in samples {
                lines.push(format!("{} {} {} {}", sample.series, sample.st, sample.t, bits(sample.v)));
                encoder.push(&mut again, sample);
            }
        }
        Kind::Tombstones => {
            let mut tombstones = Vec::new();
            decode_tombstones(record, &mut tombstones).unwrap();
            begin_tombstones(&mut again);
            for tombstone in tombstones {
                lines.push(format!("{} {} {}", tombstone.series, tombstone.mint, tombstone.maxt));
                push_tombstone(&mut again, tombstone);
            }
        }
        Kind::Exemplars => {
            let mut encoder = Exemplars::default();
            decode_exemplars(record, |RefExemplar { series, exemplar }| {
                let mut line = format!("{series} {} {}", exemplar.t, bits(exemplar.v));
                show_labels(&exemplar.labels, &mut line);
                lines.push(line);
                encoder.push(&mut again, series, &exemplar);
            })
            .unwrap();
        }
        Kind::Markers => {
            let mut markers = Vec::new();
            decode_markers(record, &mut markers).unwrap();
            for marker in markers {
                lines.push(format!("{} {}", marker.series, marker.chunk));
                push_marker(&mut again, marker);
            }
        }
        Kind::Metadata => decode_metadata(record, |series, it| {
            let kind = it.kind as u8;
            lines.push(format!("{series} {kind} \"{}\" \"{}\"", it.unit, it.help));
            push_metadata(&mut again, series, &it);
        })
        .unwrap(),
        Kind::Histograms => {
            let mut records = HistogramRecords::new(record[0] >= 12);
            decode_histograms(record, |series, st, t, value| {
                lines.push(format!("{series} {st} {t} {}", show_value(value)));
                records.push(series, st, t, value);
            })
            .unwrap();
            let mut n = 0;
            records.drain(|record| {
                n += 1;
                again = record.to_vec();
            });
            assert_eq!(n, 1);
        }
        Kind::Unknown(byte) => panic!("record of type {byte}"),
    }
    (lines, again)
}

#[test]
fn every_type_reads_and_writes_as_upstream() {
    let mut types = Vec::new();
    for (name, record, items) in golden() {
        let (lines, again) = decode_and_encode(&record);
        assert_eq!(lines, items, "{name}");
        // What is merged or dropped when read does not come back.
        if !name.starts_with("decode") {
            assert_eq!(again, record, "{name}");
        }
        types.push(record[0]);
        // Records may be cut anywhere by a damaged length; what is left is items or an error.
        for len in 1..record.len() {
            decode_anything(&record[..len]);
        }
    }
    types.sort_unstable();
    types.dedup();
    assert_eq!(types, (1..=13).collect::<Vec<u8>>());
}

#[test]
fn histograms_of_all_kinds_part_into_their_records_and_close_full_ones() {
    let mut records = HistogramRecords::new(false);
    for _ in 0..1000 {
        for (name, record, _) in golden() {
            if Kind::of(&record) == Kind::Histograms && !name.starts_with("decode") {
                decode_histograms(&record, |series, st, t, value| records.push(series, st, t, value))
                    .unwrap();
            }
        }
    }
    let mut n_by_type = [0; 14];
    let mut n_records = 0;
    records.drain(|record| {
        n_records += 1;
        assert!(record.len() < 66_000);
        decode_histograms(record, |_, st, _, _| {
            assert_eq!(st, 0);
            n_by_type[usize::from(record[0])] += 1;
        })
        .unwrap();
    });
    // Five of each kind in the records with start times, the same five parted in those without.
    assert_eq!(n_by_type[7..=10], [6000, 6000, 4000, 4000]);
    assert!(n_records > 4);
    records.drain(|_| panic!("drained"));
}

#[test]
fn empty_records_have_no_items() {
    for kind in 1..=13 {
        decode_anything(&[kind]);
    }
    assert_eq!(Kind::of(&[]), Kind::Unknown(0));
    assert_eq!(Kind::of(&[14]), Kind::Unknown(14));
}

#[test]
fn a_lie_about_a_count_costs_no_memory() {
    let histogram = model::Histogram::default();
    let mut record = vec![7];
    record.extend_from_slice(&[0; 16 + 2]);
    push_histogram(&mut record, &histogram);
    // The last four bytes are the counts of spans and buckets.
    for back in 1..=4 {
        let at = record.len() - back;
        let lie = [&record[..at], &[0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
        assert!(decode_histograms(&lie, |_, _, _, _| {}).is_err());
    }
}

/// Runs the decoder of the record's type.
fn decode_anything(record: &[u8]) {
    match Kind::of(record) {
        Kind::Series => drop(decode_series(record, |_, _| {})),
        Kind::Samples => drop(decode_samples(record, &mut Vec::new())),
        Kind::Tombstones => drop(decode_tombstones(record, &mut Vec::new())),
        Kind::Exemplars => drop(decode_exemplars(record, |_| {})),
        Kind::Markers => drop(decode_markers(record, &mut Vec::new())),
        Kind::Metadata => drop(decode_metadata(record, |_, _| {})),
        Kind::Histograms => drop(decode_histograms(record, |_, _, _, _| {})),
        Kind::Unknown(_) => {}
    }
}

proptest! {
    #[test]
    fn any_bytes_are_items_or_an_error(kind in 1_u8..14, mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bytes.insert(0, kind);
        decode_anything(&bytes);
    }

    #[test]
    fn damaged_records_are_items_or_an_error(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let all = golden();
        let mut record = all[which.index(all.len())].1.clone();
        let at = at.index(record.len());
        record[at] ^= flip;
        decode_anything(&record);
    }
}
