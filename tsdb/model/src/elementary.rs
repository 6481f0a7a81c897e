//! Elementary functions that round as Go's do, bit for bit; and a step of a compensated sum.
//!
//! What depends on them is compared by bits, and the functions of the C library differ in the last bit now and then.
//! Never fuses a multiplication with an addition, but for [`exp`]. The polynomials are those of FreeBSD's msun here,
//! those of the modules come from where they say.
//!
//! Compat: Go's `math` on amd64, `Log`, `Log2`, `Log10`, `Exp2`; prometheus `util/kahansum`. Go's assembly of `Log` is
//! wrong for numbers too small to be normal, which is not repeated.

mod circular;
mod hyperbolic;
mod power;
#[cfg(test)]
mod tests;

pub use circular::{acos, asin, atan, atan2, cos, sin, tan};
pub use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub use power::{exp, pow};

use std::f64::consts::{LOG2_E, LOG10_E, SQRT_2};

/// ln 2 in two parts, the first short enough to be multiplied by an exponent without rounding.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// One step of Neumaier's summation: adds `inc` to `(sum, c)`. An infinite sum has no compensation.
#[inline]
pub fn kahan_add(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + inc;
    let lost = if sum.abs() >= inc.abs() { (sum - t) + inc } else { (inc - t) + sum };
    (t, if t.is_infinite() { 0.0 } else { c + lost })
}

/// The polynomial of `coefficients`, those of high powers first.
#[inline]
fn horner<const N: usize>(v: f64, coefficients: &[f64; N]) -> f64 {
    coefficients[1..].iter().fold(coefficients[0], |sum, c| sum * v + c)
}

/// `v` = fraction * 2^exponent with a fraction from a half to below one; zero and what is not finite have none.
fn split(v: f64) -> (f64, i32) {
    const FRACTION: u64 = (1 << 52) - 1;
    // Subnormal numbers are brought among the normal ones, which is exact.
    let (v, shift) = if v.abs() < f64::MIN_POSITIVE { (v * 2_f64.powi(52), 52) } else { (v, 0) };
    let exponent = i32::try_from(v.to_bits() >> 52 & 0x7ff).expect("eleven bits fit") - 1022;
    (f64::from_bits(v.to_bits() & (FRACTION | 1 << 63) | 1022 << 52), exponent - shift)
}

/// The natural logarithm.
pub fn ln(v: f64) -> f64 {
    if v.is_nan() || v == f64::INFINITY {
        return v;
    }
    if v <= 0.0 {
        return if v == 0.0 { f64::NEG_INFINITY } else { f64::NAN };
    }
    let (mut fraction, exponent) = split(v);
    let mut k = f64::from(exponent);
    // From sqrt(1/2) to sqrt(2).
    if fraction <= SQRT_2 / 2.0 {
        fraction *= 2.0;
        k -= 1.0;
    }
    let f = fraction - 1.0;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    // ln(1 + f) = 2 atanh(s); the polynomial in s2 approximates what is behind the first term.
    let odd = s2 * (LN[0] + s4 * (LN[2] + s4 * (LN[4] + s4 * LN[6])));
    let even = s4 * (LN[1] + s4 * (LN[3] + s4 * LN[5]));
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + (odd + even)) + k * LN2_LOW)) - f)
}

/// Coefficients of [`ln`].
const LN: [f64; 7] = [
    f64::from_bits(0x3fe5_5555_5555_5593),
    f64::from_bits(0x3fd9_9999_9997_fa04),
    f64::from_bits(0x3fd2_4924_9422_9359),
    f64::from_bits(0x3fcc_71c5_1d8e_78af),
    f64::from_bits(0x3fc7_4664_96cb_03de),
    f64::from_bits(0x3fc3_9a09_d078_c69f),
    f64::from_bits(0x3fc2_f112_df3e_5244),
];

/// The logarithm to base 2, exact for powers of two.
pub fn log2(v: f64) -> f64 {
    if v == 0.0 || !v.is_finite() || v < 0.0 {
        return ln(v);
    }
    let (fraction, exponent) = split(v);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * LOG2_E + f64::from(exponent)
}

/// The logarithm to base 10.
pub fn log10(v: f64) -> f64 {
    ln(v) * LOG10_E
}

/// 2^`v`.
#[expect(clippy::cast_possible_truncation, reason = "between -1075 and 1024 where it is used")]
pub fn exp2(v: f64) -> f64 {
    if v.is_nan() {
        return v;
    }
    if v > EXPONENT_MAX {
        return f64::INFINITY;
    }
    if v < -1074.0 {
        return 0.0;
    }
    let k = if v > 0.0 { (v + 0.5) as i32 } else { (v - 0.5) as i32 };
    let rest = v - f64::from(k);
    let (high, low) = (rest * LN2_HIGH, -rest * LN2_LOW);
    let r = high - low;
    let square = r * r;
    let c =
        r - square * (EXP[0] + square * (EXP[1] + square * (EXP[2] + square * (EXP[3] + square * EXP[4]))));
    scale(1.0 - ((low - (r * c) / (2.0 - c)) - high), i64::from(k))
}

/// Above it [`exp2`] is infinite: the float before 1024.
const EXPONENT_MAX: f64 = 1024.0 - 1.0 / (1_u64 << 43) as f64;

/// Coefficients of [`exp2`].
const EXP: [f64; 5] = [
    f64::from_bits(0x3fc5_5555_5555_5555),
    f64::from_bits(0xbf66_c16c_16be_bd93),
    f64::from_bits(0x3f11_566a_af25_de2c),
    f64::from_bits(0xbebb_bd41_c5d2_6bf1),
    f64::from_bits(0x3e66_3769_72be_a4d0),
];

/// `v` * 2^`exponent` for a `v` about 1, rounded once where it is too small to be normal.
pub(crate) fn scale(v: f64, exponent: i64) -> f64 {
    let step = |exponent: i64| f64::from_bits(u64::try_from(exponent + 1023).unwrap_or(1) << 52);
    match exponent {
        -1022..=1023 => v * step(exponent),
        1024..=2046 => v * step(1023) * step(exponent - 1023),
        2047.. => v * f64::INFINITY,
        // The first factor keeps `v` normal, so that only the second rounds.
        -1100..=-1023 => v * step(-900) * step(exponent + 900),
        _ => 0.0_f64.copysign(v),
    }
}
