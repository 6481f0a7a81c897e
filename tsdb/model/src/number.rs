//! Numbers as Go prints and reads them.
//!
//! Digits come from `zmij` (shortest, ties to even, as Go's); the layouts are ours, and so is the way in:
//! what one format takes for a number another refuses, so each of the two readers says whose syntax it is.
//! Every layout exists twice, as `append_*_into` for those who own a buffer and as a `String` for the rest.
//!
//! Compat: Go `strconv.FormatFloat`, `strconv.AppendFloat`, `strconv.ParseFloat`.

#![expect(
    clippy::cast_possible_truncation,
    reason = "digit counts and decimal exponents of doubles are below 800"
)]
#![expect(clippy::cast_possible_wrap, reason = "digit counts and decimal exponents of doubles are below 800")]
#![expect(clippy::cast_sign_loss, reason = "the sign is tested before a position becomes a length")]

use std::io::Write;

/// Powers of ten that a double holds exactly.
const POW10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The largest mantissa that a double holds exactly along with all smaller ones.
const EXACT_MANTISSA: u64 = 1 << 53;

/// Why a text is no number; displays what follows `strconv.ParseFloat: parsing "x": ` in Go's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("invalid syntax")]
    Syntax,
    /// A number too large for a double.
    #[error("value out of range")]
    Range,
}

impl ParseError {
    /// The whole message of Go for `text`: `strconv.ParseFloat: parsing "x": invalid syntax`.
    pub fn message(self, text: &[u8]) -> String {
        format!("strconv.ParseFloat: parsing {}: {self}", crate::quote::go_quote(text))
    }
}

// === Printing ===

/// A finite double as decimal digits: `0.d1d2d3… × 10^point`.
struct Decimal {
    digits: [u8; 20],
    len: usize,
    point: i32,
}

impl Decimal {
    /// The shortest digits that read back as `v`, a finite double; none for zero.
    fn shortest(v: f64) -> Self {
        Self::of_text(zmij::Buffer::new().format_finite(v.abs()).as_bytes())
    }

    /// The digits of what `zmij` wrote.
    fn of_text(text: &[u8]) -> Self {
        let mut out = Self { digits: [0; 20], len: 0, point: 0 };
        // Zeros seen since the last digit that counts, and whether the point was passed.
        let (mut zeros, mut fraction) = (0, false);
        let mut bytes = text.iter().copied();
        for b in bytes.by_ref() {
            match b {
                b'.' => fraction = true,
                b'e' => break,
                _ => {
                    if b != b'0' {
                        if out.len > 0 {
                            // Zeros count only once a digit follows them.
                            out.digits[out.len..out.len + zeros].fill(b'0');
                            out.len += zeros;
                        }
                        zeros = 0;
                        out.digits[out.len] = b;
                        out.len += 1;
                    } else if out.len > 0 {
                        zeros += 1;
                    } else if fraction {
                        out.point -= 1;
                    }
                    if !fraction && (out.len > 0) {
                        out.point += 1;
                    }
                }
            }
        }
        let (mut exponent, mut negative) = (0, false);
        for b in bytes {
            match b {
                b'-' => negative = true,
                b'+' => {}
                _ => exponent = exponent * 10 + i32::from(b - b'0'),
            }
        }
        out.point += if negative { -exponent } else { exponent };
        if out.len == 0 {
            out.point = 0;
        }
        out
    }

    fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }

    /// Plain notation.
    fn append_f(&self, out: &mut Vec<u8>) {
        if self.point <= 0 {
            out.push(b'0');
        }
        let whole = self.point.max(0) as usize;
        out.extend_from_slice(&self.digits()[..whole.min(self.len)]);
        out.resize(out.len() + whole.saturating_sub(self.len), b'0');
        if self.len as i32 > self.point {
            out.push(b'.');
            out.resize(out.len() + (-self.point).max(0) as usize, b'0');
            out.extend_from_slice(&self.digits()[whole..]);
        }
    }

    /// Scientific notation, the exponent signed and of two digits at least.
    fn append_e(&self, out: &mut Vec<u8>) {
        out.push(*self.digits().first().unwrap_or(&b'0'));
        if self.len > 1 {
            out.push(b'.');
            out.extend_from_slice(&self.digits()[1..]);
        }
        let exponent = if self.len == 0 { 0 } else { self.point - 1 };
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
    }
}

/// Writes `NaN`, `+Inf` and `-Inf`, or the sign of a finite `v`; returns whether digits must follow.
fn append_special_or_sign(v: f64, out: &mut Vec<u8>) -> bool {
    if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if v.is_sign_negative() {
        out.push(b'-');
    }
    v.is_finite()
}

/// The shortest text, in scientific notation when the decimal exponent is below -4 or at least 6.
///
/// Compat: Go `strconv.FormatFloat(v, 'g', -1, 64)`, `%v` and `%g` of `fmt`.
pub fn append_g_into(v: f64, out: &mut Vec<u8>) {
    if append_special_or_sign(v, out) {
        let decimal = Decimal::shortest(v);
        if decimal.len > 0 && !(-3..=6).contains(&decimal.point) {
            decimal.append_e(out);
        } else {
            decimal.append_f(out);
        }
    }
}

/// Plain notation whatever the magnitude.
///
/// Compat: Go `strconv.FormatFloat(v, 'f', -1, 64)`.
pub fn append_f_into(v: f64, out: &mut Vec<u8>) {
    if append_special_or_sign(v, out) {
        Decimal::shortest(v).append_f(out);
    }
}

/// Scientific notation whatever the magnitude: `1e+00`.
///
/// Compat: Go `strconv.FormatFloat(v, 'e', -1, 64)`.
pub fn append_e_into(v: f64, out: &mut Vec<u8>) {
    if append_special_or_sign(v, out) {
        Decimal::shortest(v).append_e(out);
    }
}

/// A sample's value as the API shows it: plain, but scientific below 1e-6 and from 1e21 on.
///
/// Compat: prometheus `util/jsonutil`, `MarshalFloat`.
pub fn append_json_into(v: f64, out: &mut Vec<u8>) {
    if append_special_or_sign(v, out) {
        // Most samples are whole numbers, for which the digits are at hand.
        if v.abs() < EXACT_MANTISSA as f64 && v.trunc() == v {
            out.extend_from_slice(itoa::Buffer::new().format(v.abs() as u64).as_bytes());
            return;
        }
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(v.abs());
        if v.abs() < 1e-6 || v.abs() >= 1e21 {
            Decimal::of_text(text.as_bytes()).append_e(out);
        } else if text.bytes().all(|b| b != b'e') && !text.ends_with(".0") {
            // Fractions of a common size are plain already.
            out.extend_from_slice(text.as_bytes());
        } else {
            Decimal::of_text(text.as_bytes()).append_f(out);
        }
    }
}

/// `prec` digits behind the point, rounded half to even on the exact value.
///
/// Compat: Go `strconv.FormatFloat(v, 'f', prec, 64)`, `%f` of `fmt` with `prec` 6.
pub fn append_fixed_into(v: f64, prec: usize, out: &mut Vec<u8>) {
    if append_special_or_sign(v, out) {
        write!(out, "{:.prec$}", v.abs()).expect("writing to a vector does not fail");
    }
}

/// A float of `le` and `quantile` labels: as [`append_g_into`], whole numbers with `.0`.
///
/// Compat: prometheus `model/labels`, `FormatOpenMetricsFloat`.
pub fn append_openmetrics_into(v: f64, out: &mut Vec<u8>) {
    // Negative zero is written without its sign there.
    let v = if v == 0.0 { 0.0 } else { v };
    let start = out.len();
    append_g_into(v, out);
    if v.is_finite() && !out[start..].iter().any(|b| matches!(b, b'e' | b'.')) {
        out.extend_from_slice(b".0");
    }
}

fn to_string(append: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(24);
    append(&mut out);
    String::from_utf8(out).expect("numbers are written in ASCII")
}

/// As [`append_g_into`].
pub fn format_g(v: f64) -> String {
    to_string(|out| append_g_into(v, out))
}

/// As [`append_f_into`].
pub fn format_f(v: f64) -> String {
    to_string(|out| append_f_into(v, out))
}

/// As [`append_e_into`].
pub fn format_e(v: f64) -> String {
    to_string(|out| append_e_into(v, out))
}

/// As [`append_json_into`].
pub fn format_json(v: f64) -> String {
    to_string(|out| append_json_into(v, out))
}

/// As [`append_fixed_into`].
pub fn format_fixed(v: f64, prec: usize) -> String {
    to_string(|out| append_fixed_into(v, prec, out))
}

/// As [`append_openmetrics_into`].
pub fn format_openmetrics(v: f64) -> String {
    to_string(|out| append_openmetrics_into(v, out))
}

// === Reading ===

/// Reads the plain decimal number that `text` starts with, if it is short enough to be exact at once.
///
/// Returns the value and the length read. Declines (for [`parse_float`] to decide) signs other than one
/// minus, numbers without digits, more than 19 digits, and whatever needs more than one rounding: the
/// mantissa must not exceed 2^53 and the power of ten 22, so that both are exact doubles and the one
/// operation rounds once (Clinger's fast path).
#[inline]
pub fn parse_short_decimal(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut at = start;
    let mut mantissa = 0_u64;
    while let Some(digit) = digit_at(text, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let mut n_digits = at - start;
    let mut exponent = 0_i32;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let fraction = at;
        while let Some(digit) = digit_at(text, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        n_digits += at - fraction;
        exponent = -i32::try_from(at - fraction).ok()?;
    }
    if n_digits == 0 || n_digits > 19 || mantissa > EXACT_MANTISSA {
        return None;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        let negative = text.get(at) == Some(&b'-');
        at += usize::from(matches!(text.get(at), Some(b'-' | b'+')));
        let first = at;
        let mut scale = 0_i32;
        while let Some(digit) = digit_at(text, at) {
            if at - first == 3 {
                return None;
            }
            scale = scale * 10 + digit as i32;
            at += 1;
        }
        if at == first {
            return None;
        }
        exponent += if negative { -scale } else { scale };
    }
    let magnitude = mantissa as f64;
    let power = *POW10.get(exponent.unsigned_abs() as usize)?;
    let v = if exponent < 0 { magnitude / power } else { magnitude * power };
    Some((if negative { -v } else { v }, at))
}

#[inline]
fn digit_at(text: &[u8], at: usize) -> Option<u64> {
    let digit = text.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// Reads a decimal float, an infinity or a NaN (plain, not the canonical bits) that fills `text`.
///
/// This is the syntax of expositions: no underscores, no hexadecimal digits.
///
/// # Errors
/// The text is something else, or too large for a double.
///
/// Compat: Go `strconv.ParseFloat` as its `parseFloat` wrapper in prometheus `model/textparse` limits it.
pub fn parse_float(text: &[u8]) -> Result<f64, ParseError> {
    if let Some((v, len)) = parse_short_decimal(text)
        && len == text.len()
    {
        return Ok(v);
    }
    let (signed, rest) = match text {
        [b'+' | b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match rest.first() {
        Some(b'0'..=b'9' | b'.') => {
            let v: f64 = fast_float2::parse(rest).map_err(|_| ParseError::Syntax)?;
            if v.is_infinite() {
                return Err(ParseError::Range);
            }
            Ok(if text[0] == b'-' { -v } else { v })
        }
        Some(b'i' | b'I') if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") => {
            Ok(if text[0] == b'-' { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        Some(b'n' | b'N') if !signed && rest.eq_ignore_ascii_case(b"nan") => Ok(f64::NAN),
        _ => Err(ParseError::Syntax),
    }
}

/// Reads a float as Go's own source would spell it: as [`parse_float`], and hexadecimal with a binary
/// exponent (`0x1.8p-3`), with underscores where Go allows them.
///
/// # Errors
/// As [`parse_float`].
///
/// Compat: Go `strconv.ParseFloat`.
pub fn parse_go_float(text: &[u8]) -> Result<f64, ParseError> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let hex = rest.len() > 2 && rest[0] == b'0' && matches!(rest[1], b'x' | b'X');
    if text.contains(&b'_') && !underscores_are_between_digits(if hex { &rest[1..] } else { rest }, hex) {
        return Err(ParseError::Syntax);
    }
    if hex {
        let v = parse_hex_float(&rest[2..])?;
        return Ok(if negative { -v } else { v });
    }
    if text.contains(&b'_') {
        return parse_float(&text.iter().copied().filter(|&b| b != b'_').collect::<Vec<_>>());
    }
    parse_float(text)
}

/// Whether each underscore has a digit (or the `x` of the base prefix) before it and a digit behind it.
fn underscores_are_between_digits(text: &[u8], hex: bool) -> bool {
    let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    text.iter().enumerate().filter(|&(_, &b)| b == b'_').all(|(i, _)| {
        i > 0 && (is_digit(text[i - 1]) || (hex && i == 1)) && text.get(i + 1).is_some_and(|&b| is_digit(b))
    })
}

/// Reads what stands behind `0x`: digits, perhaps a point, and a binary exponent, which must be there.
fn parse_hex_float(text: &[u8]) -> Result<f64, ParseError> {
    let split = text.iter().position(|b| matches!(b, b'p' | b'P')).ok_or(ParseError::Syntax)?;
    let (digits, exponent) = (&text[..split], &text[split + 1..]);
    // 61 bits are kept; what falls off below leaves a sticky bit, so that rounding stays right.
    let (mut mantissa, mut scale, mut n_digits, mut fraction) = (0_u64, 0_i64, 0, false);
    for &b in digits {
        match b {
            b'_' => {}
            b'.' if !fraction => fraction = true,
            _ => {
                let digit = char::from(b).to_digit(16).ok_or(ParseError::Syntax)?;
                n_digits += 1;
                if mantissa >> 58 == 0 {
                    mantissa = mantissa << 4 | u64::from(digit);
                    scale -= i64::from(fraction) * 4;
                } else {
                    mantissa |= u64::from(digit != 0);
                    scale += i64::from(!fraction) * 4;
                }
            }
        }
    }
    let (negative, exponent) = match exponent {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    if n_digits == 0 || !exponent.first().is_some_and(u8::is_ascii_digit) {
        return Err(ParseError::Syntax);
    }
    let mut e = 0_i64;
    for &b in exponent {
        match b {
            b'_' => {}
            b'0'..=b'9' => e = (e * 10 + i64::from(b - b'0')).min(100_000),
            _ => return Err(ParseError::Syntax),
        }
    }
    scale_binary(mantissa, scale + if negative { -e } else { e })
}

/// `mantissa × 2^exponent`, rounded once, half to even.
fn scale_binary(mantissa: u64, exponent: i64) -> Result<f64, ParseError> {
    if mantissa == 0 {
        return Ok(0.0);
    }
    // The bits that the result has room for: 53, fewer when it is subnormal.
    let bits = 64 - i64::from(mantissa.leading_zeros());
    let top = bits + exponent;
    let room = 53.min(top + 1074);
    if room < 0 {
        return Ok(0.0);
    }
    let drop = bits - room;
    let (mut kept, mut exponent) = (mantissa, exponent);
    if drop > 0 {
        let half = 1_u64 << (drop - 1);
        let rest = mantissa & (half | (half - 1));
        kept = if drop == 64 { 0 } else { mantissa >> drop };
        if rest > half || (rest == half && kept & 1 == 1) {
            kept += 1;
        }
        exponent += drop;
    }
    // Both steps are exact: `kept` has at most 53 bits, and a power of two only moves the exponent.
    let mut v = kept as f64;
    while exponent > 0 && v.is_finite() {
        let step = exponent.min(1000);
        v *= f64::from_bits(((1023 + step) as u64) << 52);
        exponent -= step;
    }
    while exponent < 0 && v != 0.0 {
        let step = (-exponent).min(1000);
        v *= f64::from_bits(((1023 - step) as u64) << 52);
        exponent += step;
    }
    if v.is_infinite() { Err(ParseError::Range) } else { Ok(v) }
}

#[cfg(test)]
mod tests;
