//! Hyperbolic functions and their inverses.
//!
//! The approximations are those of FreeBSD's msun and of the Cephes library by Stephen L. Moshier; that of the sine is
//! number 2029 of Hart and Cheney.
//!
//! Compat: Go's `math`, `Sinh`, `Cosh`, `Tanh`, `Asinh`, `Acosh`, `Atanh`, `Log1p`.

use std::f64::consts::LN_2;

use super::{LN, LN2_HIGH, LN2_LOW, exp, horner, ln};

const SINH: [f64; 4] = [
    f64::from_bits(0xc03a_4e3d_e854_0779),
    f64::from_bits(0xc0a6_9c6c_36da_2dfb),
    f64::from_bits(0xc0f5_f38b_8605_d22d),
    f64::from_bits(0xc123_3fde_ba64_bb4f),
];
const SINH_BELOW: [f64; 4] = [
    1.0,
    f64::from_bits(0xc065_b5b9_fcd0_03bb),
    f64::from_bits(0x40cd_b796_3eae_91e1),
    f64::from_bits(0xc123_3fde_ba64_bb4f),
];
const TANH: [f64; 3] = [
    f64::from_bits(0xbfee_dc5b_aafd_6f4b),
    f64::from_bits(0xc058_d26a_0e26_682d),
    f64::from_bits(0xc099_3ac0_3058_0563),
];
const TANH_BELOW: [f64; 4] = [
    1.0,
    f64::from_bits(0x405c_33f2_8a58_1b86),
    f64::from_bits(0x40a1_76fa_0e55_35fa),
    f64::from_bits(0x40b2_ec10_2442_040c),
];
/// Half the logarithm of 2^127: above it a hyperbolic tangent is one.
const TANH_MAX: f64 = f64::from_bits(0x4046_01e6_78fc_457b);

/// Where e^-v no longer counts.
const LARGE: f64 = 21.0;
const TWO_28: f64 = (1_u64 << 28) as f64;

/// sqrt(2) - 1 and sqrt(1/2) - 1: between them `1 + v` need not be split.
const SQRT_2_LESS_1: f64 = f64::from_bits(0x3fda_8279_99fc_ef32);
const SQRT_HALF_LESS_1: f64 = f64::from_bits(0xbfd2_bec3_3301_8867);

/// `magnitude` of the absolute value, with the sign of `v`.
fn odd(v: f64, magnitude: impl Fn(f64) -> f64) -> f64 {
    if v < 0.0 { -magnitude(-v) } else { magnitude(v) }
}

/// The hyperbolic sine.
pub fn sinh(v: f64) -> f64 {
    odd(v, |x| {
        if x > LARGE {
            exp(x) * 0.5
        } else if x > 0.5 {
            let e = exp(x);
            (e - 1.0 / e) * 0.5
        } else {
            let square = x * x;
            horner(square, &SINH) * x / horner(square, &SINH_BELOW)
        }
    })
}

/// The hyperbolic cosine.
pub fn cosh(v: f64) -> f64 {
    let e = exp(v.abs());
    if v.abs() > LARGE { e * 0.5 } else { (e + 1.0 / e) * 0.5 }
}

/// The hyperbolic tangent.
pub fn tanh(v: f64) -> f64 {
    if v == 0.0 {
        return v;
    }
    odd(v, |x| {
        if x > TANH_MAX {
            1.0
        } else if x >= 0.625 {
            1.0 - 2.0 / (exp(2.0 * x) + 1.0)
        } else {
            let square = x * x;
            x + x * square * horner(square, &TANH) / horner(square, &TANH_BELOW)
        }
    })
}

/// The inverse of the hyperbolic sine.
pub fn asinh(v: f64) -> f64 {
    if !v.is_finite() {
        return v;
    }
    odd(v, |x| {
        if x > TWO_28 {
            ln(x) + LN_2
        } else if x > 2.0 {
            ln(2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x))
        } else if x < 1.0 / TWO_28 {
            x
        } else {
            ln_1p(x + x * x / (1.0 + (1.0 + x * x).sqrt()))
        }
    })
}

/// The inverse of the hyperbolic cosine.
pub fn acosh(v: f64) -> f64 {
    if v < 1.0 || v.is_nan() {
        f64::NAN
    } else if v == 1.0 {
        0.0
    } else if v >= TWO_28 {
        ln(v) + LN_2
    } else if v > 2.0 {
        ln(2.0 * v - 1.0 / (v + (v * v - 1.0).sqrt()))
    } else {
        let t = v - 1.0;
        ln_1p(t + (2.0 * t + t * t).sqrt())
    }
}

/// The inverse of the hyperbolic tangent.
pub fn atanh(v: f64) -> f64 {
    if v.abs() > 1.0 || v.is_nan() {
        return f64::NAN;
    }
    odd(v, |x| {
        if x == 1.0 {
            f64::INFINITY
        } else if x < 1.0 / TWO_28 {
            x
        } else if x < 0.5 {
            let twice = x + x;
            0.5 * ln_1p(twice + twice * x / (1.0 - x))
        } else {
            0.5 * ln_1p((x + x) / (1.0 - x))
        }
    })
}

/// `1 + v` as 2^`k` (1 + `f`), `c` what the addition lost; `f` lies between sqrt(1/2) - 1 and sqrt(2) - 1.
struct Split {
    k: i32,
    f: f64,
    c: f64,
    /// Whether `f` is so small that a square is all that counts.
    is_tiny: bool,
}

fn split_1p(v: f64) -> Split {
    const FRACTION: u64 = (1 << 52) - 1;
    const SQRT_2: u64 = 0x6_a09e_667f_3bcd;
    let u = if v < (1_u64 << 53) as f64 { 1.0 + v } else { v };
    let k = i32::try_from(u.to_bits() >> 52).expect("eleven bits, since 1 + v is positive") - 1023;
    let lost = if u == v {
        0.0
    } else if k > 0 {
        1.0 - (u - v)
    } else {
        v - (u - 1.0)
    };
    let fraction = u.to_bits() & FRACTION;
    if fraction < SQRT_2 {
        let f = f64::from_bits(fraction | 0x3ff << 52) - 1.0;
        return Split { k, f, c: lost / u, is_tiny: fraction == 0 };
    }
    let f = f64::from_bits(fraction | 0x3fe << 52) - 1.0;
    Split { k: k + 1, f, c: lost / u, is_tiny: (FRACTION + 1 - fraction) >> 2 == 0 }
}

/// The logarithm of `1 + v`, for a `v` from above -1 on.
fn ln_1p(v: f64) -> f64 {
    if v.is_nan() || v == f64::INFINITY {
        return v;
    }
    let magnitude = v.abs();
    if magnitude < 1.0 / (1_u64 << 54) as f64 {
        return v;
    }
    if magnitude < 1.0 / (1_u64 << 29) as f64 {
        return v - v * v * 0.5;
    }
    let near = magnitude < SQRT_2_LESS_1 && v > SQRT_HALF_LESS_1;
    let Split { k, f, c, is_tiny } =
        if near { Split { k: 0, f: v, c: 0.0, is_tiny: false } } else { split_1p(v) };
    let k = f64::from(k);
    let half_square = 0.5 * f * f;
    if is_tiny {
        if f == 0.0 {
            return if k == 0.0 { 0.0 } else { k * LN2_HIGH + (c + k * LN2_LOW) };
        }
        let r = half_square * (1.0 - f64::from_bits(0x3fe5_5555_5555_5555) * f);
        return if k == 0.0 { f - r } else { k * LN2_HIGH - ((r - (k * LN2_LOW + c)) - f) };
    }
    let ratio = f / (2.0 + f);
    let square = ratio * ratio;
    let r = square * LN.iter().rfold(0.0, |sum, c| c + square * sum);
    if k == 0.0 {
        return f - (half_square - ratio * (half_square + r));
    }
    k * LN2_HIGH - ((half_square - (ratio * (half_square + r) + (k * LN2_LOW + c))) - f)
}
