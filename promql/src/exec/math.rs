//! Arithmetic with Go's rules: operators, functions of one float, compensated sums, quantiles.
//!
//! Results are compared by bits: nothing here fuses a multiplication with an addition, and no function of the C library
//! is called where Go has its own.
//!
//! Compat: prometheus `promql/functions.go`, `promql/engine.go` `scalarBinop`, `util/kahansum` (3.14).

pub(crate) use model::elementary::kahan_add;
use model::elementary::{
    acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, exp, ln, log2, log10, pow, sin, sinh, tan, tanh,
};

use super::calendar::Date;
use super::column::{Scalars, bits};
use crate::parse::ast::BinaryOp;
use crate::plan::MapFn;

/// The running mean of `avg` and `avg_over_time`: a compensated sum, which becomes an incremental mean
/// from the value on that would make it overflow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    count: f64,
    /// The sum, or the mean once `incremental`.
    acc: f64,
    c: f64,
    incremental: bool,
}

impl Mean {
    #[inline]
    pub(crate) fn push(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.acc = v;
            return;
        }
        if !self.incremental {
            let (sum, c) = kahan_add(v, self.acc, self.c);
            if !sum.is_infinite() {
                (self.acc, self.c) = (sum, c);
                return;
            }
            self.incremental = true;
            self.acc /= self.count - 1.0;
            self.c /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        (self.acc, self.c) = kahan_add(v / self.count, q * self.acc, q * self.c);
    }

    pub(crate) fn get(&self) -> f64 {
        if self.incremental { self.acc + self.c } else { self.acc / self.count + self.c / self.count }
    }
}

/// The value at quantile `q` of `values`, which are sorted here with NaN first.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    values[index(lower)] * (1.0 - weight) + values[index(upper)] * weight
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranks lie in 0..len")]
fn index(rank: f64) -> usize {
    rank as usize
}

/// Go's `math.Max`: NaN wins over everything but +Inf, +0 over -0.
pub(crate) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: NaN wins over everything but -Inf, -0 over +0.
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { a } else { b }
    } else if a < b {
        a
    } else {
        b
    }
}

/// The value of an arithmetic operator; `None` for any other.
#[inline]
fn arithmetic(op: BinaryOp, a: f64, b: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => pow(a, b),
        BinaryOp::Atan2 => atan2(a, b),
        _ => return None,
    })
}

/// The outcome of a comparison; `None` for any other operator.
#[inline]
fn comparison(op: BinaryOp, a: f64, b: f64) -> Option<bool> {
    Some(match op {
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        BinaryOp::Lt => a < b,
        BinaryOp::Le => a <= b,
        BinaryOp::Gt => a > b,
        BinaryOp::Ge => a >= b,
        _ => return None,
    })
}

pub(crate) fn is_arithmetic(op: BinaryOp) -> bool {
    arithmetic(op, 1.0, 1.0).is_some()
}

/// Two scalars; comparisons give 1 or 0.
pub(crate) fn scalar_binary(op: BinaryOp, a: f64, b: f64) -> f64 {
    arithmetic(op, a, b)
        .or_else(|| comparison(op, a, b).map(|holds| f64::from(u8::from(holds))))
        .unwrap_or(f64::NAN)
}

/// Two elements of vectors: `None` where a comparison without `bool` does not hold.
pub(crate) fn element_binary(op: BinaryOp, return_bool: bool, a: f64, b: f64) -> Option<f64> {
    match comparison(op, a, b) {
        Some(holds) if return_bool => Some(f64::from(u8::from(holds))),
        Some(holds) => holds.then_some(a),
        None => arithmetic(op, a, b),
    }
}

/// A column and a scalar, in place.
pub(crate) fn scalar_row(
    op: BinaryOp,
    scalar: &Scalars,
    scalar_left: bool,
    return_bool: bool,
    values: &mut [f64],
    present: &mut [u64],
) {
    // One loop per operator, so that the compiler sees through it.
    macro_rules! compute {
        ($f:expr) => {{
            let f = $f;
            match (scalar, scalar_left) {
                (Scalars::Const(s), true) => values.iter_mut().for_each(|v| *v = f(*s, *v)),
                (Scalars::Const(s), false) => values.iter_mut().for_each(|v| *v = f(*v, *s)),
                (Scalars::Steps(s), true) => values.iter_mut().zip(&***s).for_each(|(v, &s)| *v = f(s, *v)),
                (Scalars::Steps(s), false) => values.iter_mut().zip(&***s).for_each(|(v, &s)| *v = f(*v, s)),
            }
        }};
    }
    match op {
        BinaryOp::Add => compute!(|a: f64, b: f64| a + b),
        BinaryOp::Sub => compute!(|a: f64, b: f64| a - b),
        BinaryOp::Mul => compute!(|a: f64, b: f64| a * b),
        BinaryOp::Div => compute!(|a: f64, b: f64| a / b),
        BinaryOp::Mod | BinaryOp::Pow | BinaryOp::Atan2 => {
            compute!(|a: f64, b: f64| arithmetic(op, a, b).unwrap_or(f64::NAN));
        }
        _ if return_bool => {
            compute!(|a: f64, b: f64| f64::from(u8::from(comparison(op, a, b).unwrap_or(false))));
        }
        _ => {
            for (w, word) in present.iter_mut().enumerate() {
                let from = w * 64;
                let mut holds = 0;
                for (bit, &v) in values[from..].iter().take(64).enumerate() {
                    let s = scalar.at(from + bit);
                    let (a, b) = if scalar_left { (s, v) } else { (v, s) };
                    holds |= u64::from(comparison(op, a, b).unwrap_or(false)) << bit;
                }
                *word &= holds;
            }
        }
    }
}

/// Two columns of floats, the result in the place of the first, which is the right operand if `swapped`.
pub(crate) fn join_row(
    op: BinaryOp,
    return_bool: bool,
    swapped: bool,
    values: &mut [f64],
    present: &mut [u64],
    other: (&[f64], &[u64]),
) {
    for (mine, theirs) in present.iter_mut().zip(other.1) {
        *mine &= theirs;
    }
    // One loop per operator, so that the compiler sees through it.
    macro_rules! compute {
        ($f:expr) => {{
            let f = $f;
            if swapped {
                values.iter_mut().zip(other.0).for_each(|(v, &o)| *v = f(o, *v));
            } else {
                values.iter_mut().zip(other.0).for_each(|(v, &o)| *v = f(*v, o));
            }
        }};
    }
    match op {
        BinaryOp::Add => compute!(|a: f64, b: f64| a + b),
        BinaryOp::Sub => compute!(|a: f64, b: f64| a - b),
        BinaryOp::Mul => compute!(|a: f64, b: f64| a * b),
        BinaryOp::Div => compute!(|a: f64, b: f64| a / b),
        _ => {
            for (w, word) in present.iter_mut().enumerate() {
                for bit in bits::ones_of(*word) {
                    let step = w * 64 + bit;
                    let (a, b) =
                        if swapped { (other.0[step], values[step]) } else { (values[step], other.0[step]) };
                    match element_binary(op, return_bool, a, b) {
                        Some(v) => values[step] = v,
                        None => *word &= !(1 << bit),
                    }
                }
            }
        }
    }
}

/// A function of one float over a column, in place.
pub(crate) fn map_row(func: MapFn, params: &[Scalars], values: &mut [f64], present: &mut [u64]) {
    let plain: fn(f64) -> f64 = match func {
        MapFn::Abs => f64::abs,
        MapFn::Ceil => f64::ceil,
        MapFn::Floor => f64::floor,
        MapFn::Exp => exp,
        MapFn::Sqrt => f64::sqrt,
        MapFn::Ln => ln,
        MapFn::Log2 => log2,
        MapFn::Log10 => log10,
        MapFn::Sgn => sgn,
        MapFn::Sin => sin,
        MapFn::Cos => cos,
        MapFn::Tan => tan,
        MapFn::Asin => asin,
        MapFn::Acos => acos,
        MapFn::Atan => atan,
        MapFn::Sinh => sinh,
        MapFn::Cosh => cosh,
        MapFn::Tanh => tanh,
        MapFn::Asinh => asinh,
        MapFn::Acosh => acosh,
        MapFn::Atanh => atanh,
        MapFn::Deg => |v| v * 180.0 / std::f64::consts::PI,
        MapFn::Rad => |v| v * std::f64::consts::PI / 180.0,
        MapFn::DayOfMonth => |v| f64::from(date(v).day),
        MapFn::DayOfWeek => |v| f64::from(date(v).weekday),
        MapFn::DayOfYear => |v| f64::from(date(v).day_of_year),
        MapFn::DaysInMonth => |v| f64::from(date(v).days_in_month()),
        MapFn::Hour => |v| (second_of_day(v) / 3600) as f64,
        MapFn::Minute => |v| (second_of_day(v) / 60 % 60) as f64,
        MapFn::Month => |v| f64::from(date(v).month),
        MapFn::Year => |v| date(v).year as f64,
        MapFn::Round | MapFn::Clamp | MapFn::ClampMin | MapFn::ClampMax => {
            return map_with_params(func, params, values, present);
        }
    };
    for v in values {
        *v = plain(*v);
    }
}

fn map_with_params(func: MapFn, params: &[Scalars], values: &mut [f64], present: &mut [u64]) {
    for (step, v) in values.iter_mut().enumerate() {
        let param = |i: usize| params[i].at(step);
        *v = match func {
            MapFn::Round => {
                let inverse = 1.0 / param(0);
                (*v * inverse + 0.5).floor() / inverse
            }
            MapFn::ClampMin => go_max(param(0), *v),
            MapFn::ClampMax => go_min(param(0), *v),
            _ => {
                let (min, max) = (param(0), param(1));
                if max < min {
                    present[step / 64] &= !(1 << (step % 64));
                }
                go_max(min, go_min(max, *v))
            }
        };
    }
}

fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// A float as Go's seconds since the epoch on amd64: truncated, the minimum of `i64` for what does not fit.
///
/// Go counts from a year so far back that the earliest seconds wrap around, so that even the year of NaN is
/// defined, as 292277026596.
#[expect(clippy::cast_possible_truncation, reason = "out of range is handled first")]
fn unix_seconds(v: f64) -> i128 {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    /// The first second of Go's absolute years.
    const ZERO: i64 = -9_223_371_966_579_724_800;
    let seconds = if (-BOUND..BOUND).contains(&v) { v as i64 } else { i64::MIN };
    if seconds < ZERO { i128::from(seconds) + (1 << 64) } else { i128::from(seconds) }
}

fn second_of_day(v: f64) -> i128 {
    unix_seconds(v).rem_euclid(86_400)
}

fn date(v: f64) -> Date {
    let days = unix_seconds(v).div_euclid(86_400);
    Date::of_days(i64::try_from(days).expect("2^64 seconds are fewer than 2^63 days"))
}

#[cfg(test)]
mod tests;
