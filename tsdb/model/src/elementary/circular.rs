//! Trigonometric functions and their inverses.
//!
//! The approximations are those of the Cephes library by Stephen L. Moshier; large angles are reduced as Payne and
//! Hanek do, by as many bits of 4/pi as matter.
//!
//! Compat: Go's `math`, `Sin`, `Cos`, `Tan`, `Asin`, `Acos`, `Atan`, `Atan2`.

use std::f64::consts::{FRAC_1_PI, FRAC_PI_2, FRAC_PI_4, PI};

use super::horner;

/// pi/4 in three parts, of which the first two are short.
const PI_4: [f64; 3] = [
    f64::from_bits(0x3fe9_21fb_4000_0000),
    f64::from_bits(0x3e64_442d_0000_0000),
    f64::from_bits(0x3ce8_4698_98cc_5170),
];
/// From here on an angle needs more bits of pi than [`PI_4`] has.
const LARGE: f64 = (1_u64 << 29) as f64;

const SIN: [f64; 6] = [
    f64::from_bits(0x3de5_d8fd_1fd1_9ccd),
    f64::from_bits(0xbe5a_e5e5_a929_1f5d),
    f64::from_bits(0x3ec7_1de3_567d_48a1),
    f64::from_bits(0xbf2a_01a0_19bf_df03),
    f64::from_bits(0x3f81_1111_1110_f7d0),
    f64::from_bits(0xbfc5_5555_5555_5548),
];
const COS: [f64; 6] = [
    f64::from_bits(0xbda8_fa49_a086_1a9b),
    f64::from_bits(0x3e21_ee9d_7b4e_3f05),
    f64::from_bits(0xbe92_7e4f_7eac_4bc6),
    f64::from_bits(0x3efa_01a0_19c8_44f5),
    f64::from_bits(0xbf56_c16c_16c1_4f91),
    f64::from_bits(0x3fa5_5555_5555_554b),
];
const TAN: [f64; 3] = [
    f64::from_bits(0xc0c9_92d8_d24f_3f38),
    f64::from_bits(0x4131_99ec_a5fc_9ddd),
    f64::from_bits(0xc171_1fea_d329_9176),
];
const TAN_BELOW: [f64; 5] = [
    1.0,
    f64::from_bits(0x40ca_b8a5_eeb3_6572),
    f64::from_bits(0xc134_27bc_582a_bc96),
    f64::from_bits(0x4177_d98f_c2ea_d8ef),
    f64::from_bits(0xc189_afe0_3cbe_5a31),
];
const ATAN: [f64; 5] = [
    f64::from_bits(0xbfec_007f_a1f7_2594),
    f64::from_bits(0xc030_2854_5b6b_807a),
    f64::from_bits(0xc052_c08c_3688_0273),
    f64::from_bits(0xc05e_b8bf_2d05_ba25),
    f64::from_bits(0xc050_3669_fd28_ec8e),
];
const ATAN_BELOW: [f64; 6] = [
    1.0,
    f64::from_bits(0x4038_dbc4_5b14_603c),
    f64::from_bits(0x4064_a0dd_43b8_fa25),
    f64::from_bits(0x407b_0e18_d2e2_be3b),
    f64::from_bits(0x407e_563f_13b0_49ea),
    f64::from_bits(0x4068_519e_fbbd_62ec),
];
/// What a float of pi/2 lacks.
const PI_2_LOST: f64 = f64::from_bits(0x3c91_a626_3314_5c07);
/// tan(3 pi/8).
const TAN_3_PI_8: f64 = f64::from_bits(0x4003_504f_333f_9de6);
/// The float next to 3 pi/4.
const PI_3_4: f64 = f64::from_bits(0x4002_d97c_7f33_21d2);

/// 4/pi in binary, the point behind the first word.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

/// An angle from zero on as an even number of eighths of the circle (modulo the circle) and what is left, from
/// -pi/4 to pi/4.
#[inline]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^30")]
fn reduce(angle: f64) -> (u64, f64) {
    if angle >= LARGE {
        return reduce_large(angle);
    }
    let eighths = (angle * (4.0 * FRAC_1_PI)) as u64;
    let eighths = eighths + (eighths & 1);
    let y = eighths as f64;
    (eighths & 7, ((angle - y * PI_4[0]) - y * PI_4[1]) - y * PI_4[2])
}

fn reduce_large(angle: f64) -> (u64, f64) {
    let fraction = angle.to_bits() & ((1 << 52) - 1) | 1 << 52;
    let exponent = (angle.to_bits() >> 52) + 61 - 1075;
    // 192 bits of 4/pi, from where the product is below eight.
    let (word, offset) = (usize::try_from(exponent / 64).expect("at most 16"), exponent % 64);
    let digits = |i: usize| {
        let two = u128::from(FOUR_OVER_PI[word + i]) << 64 | u128::from(FOUR_OVER_PI[word + i + 1]);
        high(two << offset)
    };
    let product = u128::from(digits(0).wrapping_mul(fraction)) << 64;
    let product = product.wrapping_add(u128::from(digits(1)) * u128::from(fraction));
    let product = product.wrapping_add((u128::from(digits(2)) * u128::from(fraction)) >> 64);
    let eighths = high(product) >> 61;
    let behind = high(product << 3);
    // The fraction as a float. Go fills it from the lower word without having moved that by three, too.
    let zeros = behind.leading_zeros() + 1;
    let low = product & u128::from(u64::MAX);
    let digits = high((u128::from(behind) << 64 | low) << zeros) >> 12;
    let rest = f64::from_bits(digits | (1023 - u64::from(zeros)) << 52);
    if eighths & 1 == 1 {
        return ((eighths + 1) & 7, (rest - 1.0) * FRAC_PI_4);
    }
    (eighths, rest * FRAC_PI_4)
}

fn high(v: u128) -> u64 {
    (v >> 64) as u64
}

#[inline]
fn sin_within(z: f64) -> f64 {
    let square = z * z;
    z + z * square * horner(square, &SIN)
}

#[inline]
fn cos_within(z: f64) -> f64 {
    let square = z * z;
    1.0 - 0.5 * square + square * square * horner(square, &COS)
}

/// The sine.
pub fn sin(v: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return if v == 0.0 { v } else { f64::NAN };
    }
    let (eighths, rest) = reduce(v.abs());
    let y = if eighths & 3 == 2 { cos_within(rest) } else { sin_within(rest) };
    if (v < 0.0) ^ (eighths > 3) { -y } else { y }
}

/// The cosine.
pub fn cos(v: f64) -> f64 {
    if !v.is_finite() {
        return f64::NAN;
    }
    let (eighths, rest) = reduce(v.abs());
    let y = if eighths & 3 == 2 { sin_within(rest) } else { cos_within(rest) };
    if eighths == 2 || eighths == 4 { -y } else { y }
}

/// The tangent.
pub fn tan(v: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return if v == 0.0 { v } else { f64::NAN };
    }
    let (eighths, z) = reduce(v.abs());
    let square = z * z;
    let mut y = z;
    if square > 1e-14 {
        y += z * (square * horner(square, &TAN) / horner(square, &TAN_BELOW));
    }
    if eighths & 2 == 2 {
        y = -1.0 / y;
    }
    if v < 0.0 { -y } else { y }
}

/// The arc tangent up to 0.66.
#[inline]
fn atan_within(v: f64) -> f64 {
    let square = v * v;
    v * (square * horner(square, &ATAN) / horner(square, &ATAN_BELOW)) + v
}

/// The arc tangent of what is not negative.
fn atan_positive(v: f64) -> f64 {
    if v <= 0.66 {
        atan_within(v)
    } else if v > TAN_3_PI_8 {
        FRAC_PI_2 - atan_within(1.0 / v) + PI_2_LOST
    } else {
        FRAC_PI_4 + atan_within((v - 1.0) / (v + 1.0)) + 0.5 * PI_2_LOST
    }
}

/// The arc tangent.
pub fn atan(v: f64) -> f64 {
    if v == 0.0 {
        v
    } else if v > 0.0 {
        atan_positive(v)
    } else {
        -atan_positive(-v)
    }
}

/// The arc sine.
pub fn asin(v: f64) -> f64 {
    let x = v.abs();
    if v == 0.0 || x > 1.0 {
        return if v == 0.0 { v } else { f64::NAN };
    }
    let other = (1.0 - x * x).sqrt();
    let angle = if x > 0.7 { FRAC_PI_2 - atan_positive(other / x) } else { atan_positive(x / other) };
    if v < 0.0 { -angle } else { angle }
}

/// The arc cosine.
pub fn acos(v: f64) -> f64 {
    FRAC_PI_2 - asin(v)
}

/// The angle of the point (`x`, `y`).
pub fn atan2(y: f64, x: f64) -> f64 {
    let flat = if x.is_sign_negative() { PI } else { 0.0 };
    if y.is_nan() || x.is_nan() {
        f64::NAN
    } else if y == 0.0 {
        flat.copysign(y)
    } else if x == 0.0 {
        FRAC_PI_2.copysign(y)
    } else if x.is_infinite() && y.is_infinite() {
        (if x < 0.0 { PI_3_4 } else { FRAC_PI_4 }).copysign(y)
    } else if x.is_infinite() {
        flat.copysign(y)
    } else if y.is_infinite() {
        FRAC_PI_2.copysign(y)
    } else {
        let angle = atan(y / x);
        match (x < 0.0, angle <= 0.0) {
            (true, true) => angle + PI,
            (true, false) => angle - PI,
            (false, _) => angle,
        }
    }
}
