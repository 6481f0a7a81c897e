//! Protobuf messages written field by field; reading is `model::wire::protobuf::cursor`.
//!
//! Only what snapshots need: fields with their default value are left out, as proto3 does.

use jiff::Timestamp;
use model::wire::protobuf::cursor::{Bad, fields};

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;

pub(super) fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the lowest seven bits are wanted")]
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than 0x80")]
    out.push(v as u8);
}

fn tag(out: &mut Vec<u8>, field: u8, wire: u8) {
    varint(out, u64::from(field) << 3 | u64::from(wire));
}

pub(super) fn uint(out: &mut Vec<u8>, field: u8, v: u64) {
    if v != 0 {
        tag(out, field, VARINT);
        varint(out, v);
    }
}

/// A member of a `oneof`, which is written whatever its value.
pub(super) fn chosen_int(out: &mut Vec<u8>, field: u8, v: i64) {
    tag(out, field, VARINT);
    varint(out, v.cast_unsigned());
}

pub(super) fn chosen_double(out: &mut Vec<u8>, field: u8, v: f64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&v.to_le_bytes());
}

/// A message, or a member of a `oneof`: written even if empty.
pub(super) fn message(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    tag(out, field, BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn text(out: &mut Vec<u8>, field: u8, v: &str) {
    if !v.is_empty() {
        message(out, field, v.as_bytes());
    }
}

pub(super) fn packed(out: &mut Vec<u8>, field: u8, values: impl IntoIterator<Item = u64>) {
    let mut bytes = Vec::new();
    values.into_iter().for_each(|v| varint(&mut bytes, v));
    if !bytes.is_empty() {
        message(out, field, &bytes);
    }
}

/// `google.protobuf.Timestamp`.
pub(super) fn time(out: &mut Vec<u8>, field: u8, t: Timestamp) {
    let nanos = t.as_nanosecond();
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let mut bytes = Vec::new();
    // Both fit: the range of times is less than that of 64 bits in seconds.
    uint(&mut bytes, 1, i64::try_from(seconds).unwrap_or_default().cast_unsigned());
    uint(&mut bytes, 2, u64::try_from(rest).unwrap_or_default());
    message(out, field, &bytes);
}

/// Reads a `google.protobuf.Timestamp`; what no clock can show is the last time that can be shown.
pub(super) fn read_time(bytes: &[u8]) -> Result<Timestamp, Bad> {
    let (mut seconds, mut nanos) = (0, 0);
    fields("Timestamp", bytes, |field, wire, cursor| {
        match field {
            1 => seconds = cursor.uint("seconds", wire)?.cast_signed(),
            2 => nanos = cursor.uint("nanos", wire)?.cast_signed(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let end = if nanos < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Ok(Timestamp::from_nanosecond(nanos).unwrap_or(end))
}
