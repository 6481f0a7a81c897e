//! What Go computes on amd64, by bits.

use super::*;

/// `name argument.. result`, floats as hexadecimal bits, every NaN the same.
fn check(line: &str) -> Result<(), String> {
    let (name, numbers) = line.split_once(' ').unwrap();
    let numbers: Vec<f64> =
        numbers.split(' ').map(|v| f64::from_bits(u64::from_str_radix(v, 16).unwrap())).collect();
    let (found, expected) = match numbers[..] {
        [x, expected] => (of_one(name)(x), expected),
        [x, y, expected] => (of_two(name)(x, y), expected),
        _ => panic!("numbers of {line}"),
    };
    let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
    if same { Ok(()) } else { Err(format!("{line}: found {:016x} {found}", found.to_bits())) }
}

fn of_one(name: &str) -> fn(f64) -> f64 {
    match name {
        "exp" => exp,
        "exp2" => exp2,
        "ln" => ln,
        "log2" => log2,
        "log10" => log10,
        "sin" => sin,
        "cos" => cos,
        "tan" => tan,
        "asin" => asin,
        "acos" => acos,
        "atan" => atan,
        "sinh" => sinh,
        "cosh" => cosh,
        "tanh" => tanh,
        "asinh" => asinh,
        "acosh" => acosh,
        "atanh" => atanh,
        _ => panic!("no function {name}"),
    }
}

fn of_two(name: &str) -> fn(f64, f64) -> f64 {
    match name {
        "pow" => pow,
        "atan2" => atan2,
        "mod" => |x, y| x % y,
        _ => panic!("no function {name}"),
    }
}

#[test]
fn every_bit_is_the_one_of_go() {
    let cases = include_str!("../../testdata/elementary.golden");
    let failures: Vec<String> = cases.lines().filter_map(|line| check(line).err()).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.lines().count(), failures.join("\n"));
    assert!(cases.lines().count() > 4000);
}
