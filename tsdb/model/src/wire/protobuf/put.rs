//! Protobuf messages on their way out: appended to one buffer, without a tree of them in memory.
//!
//! What has its default value is left out, as proto3 has it; a zero below zero is not the default and is written.

use super::cursor::{BYTES, FIXED64, VARINT};

/// A number in groups of seven bits.
#[inline]
pub fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}

/// How many bytes [`varint`] appends.
pub const fn varint_len(v: u64) -> usize {
    (u64::BITS - (v | 1).leading_zeros()).div_ceil(7) as usize
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u8) {
    varint(out, u64::from(field) << 3 | u64::from(wire));
}

/// A number that is written even if it is 0: one of several that may stand in its place.
pub fn uint_always(out: &mut Vec<u8>, field: u32, v: u64) {
    tag(out, field, VARINT);
    varint(out, v);
}

/// A number of one of the unsigned types.
pub fn uint(out: &mut Vec<u8>, field: u32, v: u64) {
    if v != 0 {
        uint_always(out, field, v);
    }
}

/// A number of one of the types `int32` and `int64`, which are as long as they can be below zero.
pub fn int(out: &mut Vec<u8>, field: u32, v: i64) {
    uint(out, field, v.cast_unsigned());
}

/// A number of one of the types `sint32` and `sint64`.
pub fn sint(out: &mut Vec<u8>, field: u32, v: i64) {
    uint(out, field, zigzag(v));
}

/// The opposite of [`super::cursor::unzigzag`].
pub const fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)).cast_unsigned()
}

/// A float that is written even if it is 0.
pub fn double_always(out: &mut Vec<u8>, field: u32, v: f64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&v.to_le_bytes());
}

pub fn double(out: &mut Vec<u8>, field: u32, v: f64) {
    if v.to_bits() != 0 {
        double_always(out, field, v);
    }
}

/// A string, bytes or a message that is at hand; written even if it is empty, as an element of a list is.
pub fn bytes_always(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    tag(out, field, BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        bytes_always(out, field, bytes);
    }
}

/// What stands in front of a message of so many bytes.
pub fn begin_message(out: &mut Vec<u8>, field: u32, len: usize) {
    tag(out, field, BYTES);
    varint(out, len as u64);
}

/// What `write` appends, as a message; written even if it is empty.
pub fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, BYTES);
    // Most messages are short: room for one byte of length, and those that are not are moved a little.
    let at = out.len();
    out.push(0);
    write(out);
    let len = out.len() - at - 1;
    let more = varint_len(len as u64) - 1;
    if more > 0 {
        out.extend_from_slice(&[0; 9][..more]);
        out.copy_within(at + 1..at + 1 + len, at + 1 + more);
    }
    let mut rest = len as u64;
    for byte in &mut out[at..at + more] {
        *byte = rest.to_le_bytes()[0] | 0x80;
        rest >>= 7;
    }
    out[at + more] = rest.to_le_bytes()[0] & 0x7f;
}

/// Numbers in one piece; nothing if there are none.
pub fn packed<T: Copy>(out: &mut Vec<u8>, field: u32, numbers: &[T], put: impl Fn(&mut Vec<u8>, T)) {
    if !numbers.is_empty() {
        message(out, field, |out| numbers.iter().for_each(|&v| put(out, v)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::cursor::{Cursor, fields, unzigzag};

    #[test]
    fn what_is_written_is_read() {
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, v);
            assert_eq!((out.len(), Cursor::new(&out).varint()), (varint_len(v), Ok(v)));
        }
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(v)), v);
        }
    }

    #[test]
    fn messages_of_any_length_have_their_length_in_front() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let body = vec![7; len];
            let mut out = b"before".to_vec();
            message(&mut out, 3, |out| out.extend_from_slice(&body));
            let mut seen = 0;
            fields("", &out[6..], |field, wire, cursor| {
                seen += 1;
                assert_eq!((field, cursor.bytes("", wire)), (3, Ok(&body[..])), "{len}");
                Ok(true)
            })
            .unwrap();
            assert_eq!((seen, &out[..6]), (1, &b"before"[..]));
        }
    }
}
