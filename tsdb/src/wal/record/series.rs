//! Records that say which series a ref means, and what is known of its metric.
//!
//! Compat: prometheus `tsdb/record`, `Encoder.Series`, `Encoder.Metadata`.

use model::Labels;
use model::labels::LabelsBuilder;
use model::storage::Metadata;
use model::wire::parse::MetricType;

use super::{Cursor, push_bytes, push_uvarint};
use crate::DecodeError;

/// The longest name or value; longer ones do not fit a label set.
const LABEL_LEN_MAX: usize = (1 << 24) - 1;

/// Begins a series record; [`push_series`] follows.
pub fn begin_series(out: &mut Vec<u8>) {
    out.push(1);
}

pub fn push_series(out: &mut Vec<u8>, series: u64, labels: &Labels) {
    out.extend_from_slice(&series.to_be_bytes());
    push_labels(out, labels);
}

/// As [`push_series`], with names and values as [`each_series`] found them.
pub fn push_series_pairs(out: &mut Vec<u8>, series: u64, pairs: &[(&[u8], &[u8])]) {
    out.extend_from_slice(&series.to_be_bytes());
    push_uvarint(out, pairs.len() as u64);
    for (name, value) in pairs {
        push_bytes(out, name);
        push_bytes(out, value);
    }
}

/// A label set as records hold it.
pub fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    push_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        push_bytes(out, name);
        push_bytes(out, value);
    }
}

/// Hands every series of a series record to `each`. Names that do not ascend are put in order.
pub fn decode_series(record: &[u8], mut each: impl FnMut(u64, Labels)) -> Result<(), DecodeError> {
    each_series(record, |series, pairs| each(series, labels_of(pairs)))
}

/// As [`decode_series`], with names and values as they lie in the record.
pub fn each_series<'a>(
    record: &'a [u8],
    mut each: impl FnMut(u64, &[(&'a [u8], &'a [u8])]),
) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    let mut pairs = Vec::new();
    while !cursor.is_empty() {
        let series = cursor.be64()?;
        take_pairs(&mut cursor, &mut pairs)?;
        each(series, &pairs);
    }
    Ok(())
}

fn take_pairs<'a>(cursor: &mut Cursor<'a>, pairs: &mut Vec<(&'a [u8], &'a [u8])>) -> Result<(), DecodeError> {
    pairs.clear();
    for _ in 0..cursor.uvarint()? {
        let (name, value) = (cursor.bytes()?, cursor.bytes()?);
        if name.len().max(value.len()) > LABEL_LEN_MAX {
            return Err(cursor.error("label longer than 16 MiB"));
        }
        pairs.push((name, value));
    }
    Ok(())
}

/// Takes one label set.
pub(crate) fn take_labels(cursor: &mut Cursor<'_>) -> Result<Labels, DecodeError> {
    let mut pairs = Vec::new();
    take_pairs(cursor, &mut pairs)?;
    Ok(labels_of(&pairs))
}

/// The label set at the front of `bytes`, and what is behind it.
pub fn decode_labels(bytes: &[u8]) -> Result<(Labels, &[u8]), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let labels = take_labels(&mut cursor)?;
    Ok((labels, cursor.rest()))
}

fn labels_of(pairs: &[(&[u8], &[u8])]) -> Labels {
    let is_canonical =
        pairs.windows(2).all(|pair| pair[0].0 < pair[1].0) && pairs.iter().all(|pair| !pair.1.is_empty());
    if is_canonical {
        return Labels::from_sorted(pairs.iter().copied());
    }
    let mut builder = LabelsBuilder::default();
    for (name, value) in pairs {
        builder.set(name, value);
    }
    builder.build()
}

const UNIT: &[u8] = b"UNIT";
const HELP: &[u8] = b"HELP";

/// Appends what is known of a series' metric to a metadata record, beginning it if `out` is empty.
pub fn push_metadata(out: &mut Vec<u8>, series: u64, metadata: &Metadata) {
    if out.is_empty() {
        out.push(6);
    }
    push_uvarint(out, series);
    out.push(kind_byte(metadata.kind));
    push_uvarint(out, 2);
    for (name, value) in [(UNIT, &metadata.unit), (HELP, &metadata.help)] {
        push_bytes(out, name);
        push_bytes(out, value.as_bytes());
    }
}

/// Hands the metadata of every series of a metadata record to `each`. Fields of unknown names are skipped.
pub fn decode_metadata(record: &[u8], mut each: impl FnMut(u64, Metadata)) -> Result<(), DecodeError> {
    let mut cursor = Cursor::after_type(record);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    while !cursor.is_empty() {
        let series = cursor.uvarint()?;
        let mut metadata = Metadata { kind: kind_of(cursor.byte()?), ..Metadata::default() };
        for _ in 0..cursor.uvarint()? {
            match (cursor.bytes()?, cursor.bytes()?) {
                (UNIT, unit) => metadata.unit = text(unit),
                (HELP, help) => metadata.help = text(help),
                _ => {}
            }
        }
        each(series, metadata);
    }
    Ok(())
}

const KINDS: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

fn kind_byte(kind: MetricType) -> u8 {
    let at = KINDS.iter().position(|&it| it == kind).expect("all are listed");
    u8::try_from(at).expect("there are eight")
}

fn kind_of(byte: u8) -> MetricType {
    KINDS.get(usize::from(byte)).copied().unwrap_or_default()
}
