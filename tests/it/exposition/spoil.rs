//! Damage to bodies: such as a broken exporter, a broken proxy or a broken mind would do.

use fastrand::Rng;

use super::family::pick;

const TOKENS: &[&str] = &[
    "{",
    "}",
    "\"",
    ",",
    "=",
    "#",
    " ",
    "\n",
    "\\",
    "\t",
    "\r",
    "\0",
    "# EOF\n",
    "# TYPE x counter\n",
    "# {a=\"b\"} 1",
    " # {",
    "NaN",
    "1e999",
    "-1",
    "_total",
    "_bucket",
    "le=\"1\"",
    "le=\"+Inf\"",
    "{le=\"0.5\"}",
    "\\x",
    "\u{feff}",
    "é",
    "__name__=\"y\"",
    "{\"q.n\"}",
    "up",
    "=\"\"",
    ",,",
    "}{",
    " 1 1 1",
    "# HELP",
    "# UNIT a_seconds seconds\n",
    "# TYPE",
    "__name__",
    "1234567890123",
];

const BYTES: &[u8] = b"\0\x01\t\r\n \"#{}=,\\+-.09AZaz_\x7f\x80\xc3\xff";

/// Spoils the lines of a text once or twice. What it makes of them is still handed out line by line.
pub(super) fn lines(rng: &mut Rng, lines: &mut Vec<Vec<u8>>) {
    for _ in 0..rng.usize(1..=2) {
        if lines.is_empty() {
            return;
        }
        let at = rng.usize(..lines.len());
        match rng.u8(..12) {
            0 => {
                let line = lines[at].clone();
                lines.insert(rng.usize(..=lines.len()), line);
            }
            1 => drop(lines.remove(at)),
            2 => {
                // Two lines become one.
                lines[at].pop();
            }
            3 => {
                // Cut short.
                lines.truncate(at + 1);
                let keep = rng.usize(..=lines[at].len());
                lines[at].truncate(keep);
            }
            4 => {
                let to = rng.usize(..lines.len());
                lines.swap(at, to);
            }
            5 | 6 => {
                let line = &mut lines[at];
                let place = rng.usize(..=line.len());
                let token = pick(rng, TOKENS);
                line.splice(place..place, token.bytes());
            }
            7 | 8 => tokens(rng, &mut lines[at]),
            9 => {
                let line = &mut lines[at];
                let (from, n) = (rng.usize(..=line.len()), rng.usize(1..5));
                let to = (from + n).min(line.len());
                line.drain(from..to);
            }
            _ => bytes(rng, &mut lines[at]),
        }
    }
    *lines = lines.concat().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
}

/// One word of a line becomes another.
fn tokens(rng: &mut Rng, line: &mut Vec<u8>) {
    let is_word =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'+' | b'-');
    let mut words = Vec::new();
    let mut from = None;
    for (i, byte) in line.iter().chain(b"\n").enumerate() {
        match (is_word(byte), from) {
            (true, None) => from = Some(i),
            (false, Some(start)) => {
                words.push(start..i);
                from = None;
            }
            _ => {}
        }
    }
    if words.is_empty() {
        return;
    }
    let word = words[rng.usize(..words.len())].clone();
    line.splice(word, pick(rng, TOKENS).bytes());
}

fn bytes(rng: &mut Rng, piece: &mut [u8]) {
    if piece.is_empty() {
        return;
    }
    let at = rng.usize(..piece.len());
    piece[at] = if rng.bool() { piece[at] ^ (1 << rng.u8(..8)) } else { BYTES[rng.usize(..BYTES.len())] };
}

/// Spoils protobuf: lengths, types on the wire, contents.
pub(super) fn messages(rng: &mut Rng, messages: &mut Vec<Vec<u8>>) {
    for _ in 0..rng.usize(1..=2) {
        if messages.is_empty() {
            return;
        }
        let at = rng.usize(..messages.len());
        match rng.u8(..9) {
            0 => {
                let doubled = messages[at].clone();
                messages.push(doubled);
            }
            1 => {
                messages.truncate(at + 1);
                let keep = rng.usize(..=messages[at].len());
                messages[at].truncate(keep);
            }
            2 => {
                // The length in front.
                let change = rng.u8(1..5);
                messages[at][0] = messages[at][0].wrapping_add(change);
            }
            3 => {
                // The type on the wire of whatever stands there.
                let message = &mut messages[at];
                let place = rng.usize(..message.len());
                message[place] ^= rng.u8(1..8);
            }
            4 => {
                // A field that nobody knows.
                let unknown: &[u8] =
                    [&b"\xf8\x7f\x05"[..], b"\xfa\x7f\x02ab", b"\xf9\x7f12345678", b"\xfd\x7f1234"]
                        [rng.usize(..4)];
                grow(&mut messages[at], unknown);
            }
            5 => {
                let message = &mut messages[at];
                let place = rng.usize(..message.len());
                let n = rng.usize(1..4).min(message.len() - place);
                message.drain(place..place + n);
            }
            6 => {
                // A name that is no UTF-8.
                grow(&mut messages[at], b"\x0a\x03a\xff\xfe");
            }
            _ => bytes(rng, &mut messages[at]),
        }
    }
}

/// Adds a field to a message and to its length, where that stays as long as it is.
fn grow(message: &mut Vec<u8>, field: &[u8]) {
    let n_length = message.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let length = message
        .iter()
        .take(n_length)
        .rev()
        .fold(0_usize, |length, byte| length << 7 | usize::from(byte & 0x7f));
    let mut out = Vec::new();
    let mut grown = length + field.len();
    while grown >= 0x80 {
        out.push((grown as u8 & 0x7f) | 0x80);
        grown >>= 7;
    }
    out.push(grown as u8);
    out.extend(message.iter().skip(n_length));
    out.extend_from_slice(field);
    *message = out;
}
