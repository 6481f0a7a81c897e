//! One plain line in one pass: the hot path of every scrape.
//!
//! Takes what nearly all lines are: a legacy name, pairs without white space but perhaps one space behind a
//! comma, one space, a value, perhaps a timestamp, a line break. Anything else it declines without a word,
//! and the lexer decides. What it takes, the lexer would take with the same result; a test holds it to that.

use super::parse::Format;
use super::token::{is_label_byte, is_label_start, is_metric_byte, is_metric_start, is_space};
use crate::Timestamp;
use crate::number::{parse_float, parse_short_decimal};
use crate::sample::NORMAL_NAN;

/// A line that was taken, and where the next begins.
pub(super) struct Line<'a> {
    pub(super) raw: &'a [u8],
    pub(super) t: Option<Timestamp>,
    pub(super) v: f64,
    pub(super) next: usize,
}

const METRIC: u8 = 1;
const LABEL: u8 = 2;

/// Which names a byte may be part of.
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let byte = b as u8;
        table[b] = (is_metric_byte(byte) as u8 * METRIC) | (is_label_byte(byte) as u8 * LABEL);
        b += 1;
    }
    table
};

/// Reads the line that begins at `start`, or declines.
#[inline]
pub(super) fn scan(body: &[u8], start: usize, format: Format) -> Option<Line<'_>> {
    let rest = body.get(start..)?;
    if !is_metric_start(*rest.first()?) {
        return None;
    }
    let mut at = skip_class(rest, 1, METRIC);
    if *rest.get(at)? == b'{' {
        at = scan_labels(rest, at + 1, format)?;
    }
    scan_after(body, start, at, format)
}

/// Reads the line that begins at `start` with a name and labels known to be `len` bytes long, or declines.
#[inline]
pub(super) fn scan_after(body: &[u8], start: usize, len: usize, format: Format) -> Option<Line<'_>> {
    let rest = body.get(start..)?;
    let (raw, mut at) = (rest.get(..len)?, len);
    if *rest.get(at)? != b' ' {
        return None;
    }
    at += 1;
    if format == Format::Text {
        while is_space(*rest.get(at)?) {
            at += 1;
        }
    }
    let (v, mut at) = scan_value(rest, at)?;
    let mut t = None;
    if rest[at] == b' ' {
        (t, at) = scan_time(rest, at + 1, format)?;
    }
    if rest[at] != b'\n' {
        return None;
    }
    Some(Line { raw, t, v, next: start + at + 1 })
}

/// A `# HELP` or `# TYPE` line that was taken, and where the next begins.
pub(super) struct Meta<'a> {
    pub(super) is_help: bool,
    pub(super) family: &'a [u8],
    pub(super) text: &'a [u8],
    pub(super) next: usize,
}

/// Reads the line of metadata that begins at `start`, or declines.
pub(super) fn scan_meta(body: &[u8], start: usize) -> Option<Meta<'_>> {
    let rest = body.get(start..)?;
    let is_help = rest.starts_with(b"# HELP ");
    if !is_help && !rest.starts_with(b"# TYPE ") {
        return None;
    }
    let name = "# HELP ".len();
    if !is_metric_start(*rest.get(name)?) {
        return None;
    }
    let space = skip_class(rest, name + 1, METRIC);
    let end = space + memchr::memchr(b'\n', &rest[space..])?;
    let text = rest.get(space + 1..end)?;
    // Space at the start and NULs anywhere, even behind the line, have rules of their own.
    if rest[space] != b' '
        || is_space(*text.first()?)
        || memchr::memchr(0, &rest[..rest.len().min(end + 2)]).is_some()
    {
        return None;
    }
    Some(Meta { is_help, family: &rest[name..space], text, next: start + end + 1 })
}

/// The first place from `at` on whose byte is not of `class`.
#[inline]
fn skip_class(bytes: &[u8], mut at: usize, class: u8) -> usize {
    while bytes.get(at).is_some_and(|&b| CLASS[usize::from(b)] & class != 0) {
        at += 1;
    }
    at
}

/// Reads pairs from behind the opening brace to behind the closing one.
#[inline]
fn scan_labels(bytes: &[u8], open: usize, format: Format) -> Option<usize> {
    let mut at = open;
    let mut seen = 0_u64;
    while *bytes.get(at)? != b'}' {
        if !is_label_start(bytes[at]) {
            return None;
        }
        at = skip_class(bytes, at + 1, LABEL);
        if bytes.get(at..at + 2)? != b"=\"" {
            return None;
        }
        at = scan_label_value(bytes, at + 2, &mut seen)?;
        match bytes.get(at)? {
            b',' => {
                at += 1;
                if format == Format::Text && bytes.get(at) == Some(&b' ') {
                    at += 1;
                }
            }
            b'}' => break,
            _ => return None,
        }
    }
    // Names are ASCII here, so the labels are valid UTF-8 just if their values are.
    if seen & HIGH_BITS != 0 && std::str::from_utf8(&bytes[open..at]).is_err() {
        return None;
    }
    Some(at + 1)
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
const ESCAPES: u64 = u64::from_le_bytes([b'\\'; 8]);

/// Sets the high bit of each byte of `word` that is below `b` (at most 0x80) or, alike, a borrow's victim
/// further up: only the lowest set bit can be trusted.
const fn bytes_below(word: u64, b: u8) -> u64 {
    word.wrapping_sub(LOW_BITS * b as u64) & !word & HIGH_BITS
}

/// Reads a label's value from behind the opening quote to behind the closing one, eight bytes at a time,
/// and adds its bytes to `seen`. Declines control bytes, which have rules of their own.
#[inline]
fn scan_label_value(bytes: &[u8], mut at: usize, seen: &mut u64) -> Option<usize> {
    loop {
        while let Some(chunk) = bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(chunk.try_into().expect("the chunk has eight bytes"));
            let quotes = bytes_below(word ^ QUOTES, 1);
            let escapes = bytes_below(word ^ ESCAPES, 1);
            let stops = quotes | escapes | bytes_below(word, b' ');
            if stops != 0 {
                let before = stops.trailing_zeros() / 8;
                *seen |= word & !(u64::MAX << (before * 8));
                at += before as usize;
                break;
            }
            *seen |= word;
            at += 8;
        }
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                let escaped = *bytes.get(at + 1)?;
                if escaped < b' ' {
                    return None;
                }
                *seen |= u64::from(escaped);
                at += 2;
            }
            b if b < b' ' => return None,
            b => {
                *seen |= u64::from(b);
                at += 1;
            }
        }
    }
}

/// Reads a value that ends at a space or a line break; returns it with the place of that byte.
#[inline]
fn scan_value(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let text = &bytes[at..];
    if let Some((v, len)) = parse_short_decimal(text)
        && matches!(text.get(len), Some(b' ' | b'\n'))
    {
        return Some((v, at + len));
    }
    scan_odd_value(text).map(|(v, len)| (v, at + len))
}

/// A value that is long, infinite or no number.
fn scan_odd_value(text: &[u8]) -> Option<(f64, usize)> {
    let len = memchr::memchr2(b' ', b'\n', text)?;
    let v = parse_float(&text[..len]).ok()?;
    Some((if v.is_nan() { NORMAL_NAN } else { v }, len))
}

/// Reads a timestamp that ends at a line break; returns it with the place of that byte.
fn scan_time(bytes: &[u8], at: usize, format: Format) -> Option<(Option<Timestamp>, usize)> {
    let len = memchr::memchr2(b' ', b'\n', &bytes[at..])?;
    let text = &bytes[at..at + len];
    let t = match format {
        Format::Text => {
            // 18 digits cannot overflow.
            if !(1..=18).contains(&len) || !text.iter().all(u8::is_ascii_digit) {
                return None;
            }
            text.iter().fold(0, |t, b| t * 10 + Timestamp::from(b - b'0'))
        }
        Format::OpenMetrics => to_millis(parse_float(text).ok().filter(|seconds| seconds.is_finite())?),
    };
    Some((Some(t), at + len))
}

/// Seconds as milliseconds, cut towards zero; what does not fit is the lowest time, as Go has it on amd64.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(super) fn to_millis(seconds: f64) -> Timestamp {
    let millis = seconds * 1000.0;
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&millis) {
        millis as Timestamp
    } else {
        Timestamp::MIN
    }
}
