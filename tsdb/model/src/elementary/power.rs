//! e^x and x^y. Not 2^x, which the histograms had before the queries: that is in the parent.
//!
//! Compat: Go's `math.Exp` (`exp_amd64.s`, which follows Naoki Shibata's SLEEF) and `math.Pow`.

use std::f64::consts::LOG2_E;

use super::{ln, scale, split};

/// ln 2 in two parts: with the first, a multiplication by an exponent is exact.
const LN2_UPPER: f64 = f64::from_bits(0x3fe6_2e42_fefa_3000);
const LN2_LOWER: f64 = f64::from_bits(0x3d53_de6a_f278_ece6);

/// Above it e^x is infinite.
const EXP_MAX: f64 = f64::from_bits(0x4086_2e42_fefa_39ef);
/// Far below what is not yet rounded to zero.
const EXP_MIN: f64 = -800.0;

/// 1/8!, 1/7! ... 1/2!, 1.
const TAYLOR: [f64; 8] = [
    f64::from_bits(0x3efa_01a0_1a01_a01a),
    f64::from_bits(0x3f2a_01a0_1a01_a01a),
    f64::from_bits(0x3f56_c16c_16c1_6c17),
    f64::from_bits(0x3f81_1111_1111_1111),
    f64::from_bits(0x3fa5_5555_5555_5555),
    f64::from_bits(0x3fc5_5555_5555_5555),
    0.5,
    1.0,
];

/// e^`v`.
pub fn exp(v: f64) -> f64 {
    if v.is_nan() || v > EXP_MAX {
        return if v.is_nan() { v } else { f64::INFINITY };
    }
    if v < EXP_MIN {
        return 0.0;
    }
    // Products are fused with sums here, and only here, as Go does: where the processor has an instruction for it.
    // That is so on nearly every server, and hence the result on other architectures.
    #[cfg(target_arch = "x86_64")]
    if !(std::arch::is_x86_feature_detected!("avx") && std::arch::is_x86_feature_detected!("fma")) {
        return exp_within(v, |a, b, c| a * b + c);
    }
    exp_within(v, f64::mul_add)
}

#[expect(clippy::cast_possible_truncation, reason = "a whole number between -1155 and 1024")]
fn exp_within(v: f64, multiply_add: impl Fn(f64, f64, f64) -> f64) -> f64 {
    /// Added and subtracted again, it rounds to the nearest whole number, half to even.
    const ROUND: f64 = 1.5 * (1_u64 << 52) as f64;
    let exponent = (v * LOG2_E + ROUND) - ROUND;
    let rest = multiply_add(-exponent, LN2_UPPER, v);
    let rest = multiply_add(-exponent, LN2_LOWER, rest);
    // e^(r/16) - 1, squared four times: (1 + u)^2 - 1 = u (u + 2).
    let r = rest * 0.0625;
    let series = TAYLOR[1..].iter().fold(TAYLOR[0], |sum, &c| multiply_add(sum, r, c));
    let mut above_one = r * series;
    for _ in 0..3 {
        above_one *= above_one + 2.0;
    }
    let fraction = multiply_add(above_one, above_one + 2.0, 1.0);
    if exponent >= 1024.0 { f64::INFINITY } else { scale(fraction, exponent as i64) }
}

/// `v` * 2^`exponent` for any finite `v` but zero.
fn shift(v: f64, exponent: i64) -> f64 {
    let (fraction, own) = split(v);
    scale(fraction, exponent + i64::from(own))
}

/// Whether `v` is a whole number that is odd; from 2^53 on all are even.
#[expect(clippy::cast_possible_truncation, reason = "below 2^53")]
fn is_odd(v: f64) -> bool {
    v.abs() < (1_u64 << 53) as f64 && v.trunc() == v && v as i64 & 1 == 1
}

/// What `x`^`y` is where no computation is needed.
fn pow_special(x: f64, y: f64) -> Option<f64> {
    // A negative zero or infinity keeps its sign under odd powers.
    let signed = |v: f64| if is_odd(y) { v.copysign(x) } else { v };
    Some(if y == 0.0 || x == 1.0 {
        1.0
    } else if y == 1.0 {
        x
    } else if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == 0.0 {
        signed(if y < 0.0 { f64::INFINITY } else { 0.0 })
    } else if y.is_infinite() {
        if x == -1.0 {
            1.0
        } else if (x.abs() < 1.0) == (y > 0.0) {
            0.0
        } else {
            f64::INFINITY
        }
    } else if x.is_infinite() {
        signed(if y < 0.0 { 0.0 } else { f64::INFINITY })
    } else if y == 0.5 {
        x.sqrt()
    } else if y == -0.5 {
        1.0 / x.sqrt()
    } else if x < 0.0 && y.trunc() != y {
        f64::NAN
    } else if y.abs() >= (1_u64 << 63) as f64 {
        if x == -1.0 {
            1.0
        } else if (x.abs() < 1.0) == (y > 0.0) {
            0.0
        } else {
            f64::INFINITY
        }
    } else {
        return None;
    })
}

/// `x`^`y`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^63")]
pub fn pow(x: f64, y: f64) -> f64 {
    if let Some(known) = pow_special(x, y) {
        return known;
    }
    let mut whole = y.abs().trunc();
    let mut part = y.abs() - whole;
    // The result is `result` * 2^`exponent`.
    let (mut result, mut exponent) = (1.0, 0_i64);
    if part != 0.0 {
        if part > 0.5 {
            part -= 1.0;
            whole += 1.0;
        }
        result = exp(part * ln(x));
    }
    // The whole part bit by bit, by squaring.
    let (mut square, square_exponent) = split(x);
    let mut square_exponent = i64::from(square_exponent);
    let mut bits = whole as u64;
    while bits != 0 {
        if square_exponent.abs() > 1 << 12 {
            // No longer a float, whatever else is multiplied.
            exponent += square_exponent;
            break;
        }
        if bits & 1 == 1 {
            result *= square;
            exponent += square_exponent;
        }
        square *= square;
        square_exponent *= 2;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        bits >>= 1;
    }
    if y < 0.0 {
        result = 1.0 / result;
        exponent = -exponent;
    }
    shift(result, exponent)
}
