use super::*;

#[test]
fn max_and_min_follow_go() {
    for (a, b, max, min) in [
        (f64::NAN, f64::INFINITY, f64::INFINITY, f64::NAN),
        (f64::NEG_INFINITY, f64::NAN, f64::NAN, f64::NEG_INFINITY),
        (1.0, f64::NAN, f64::NAN, f64::NAN),
        (-0.0, 0.0, 0.0, -0.0),
        (2.0, 1.0, 2.0, 1.0),
    ] {
        let same = |x: f64, y: f64| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        assert!(same(go_max(a, b), max) && same(go_max(b, a), max), "max {a} {b}");
        assert!(same(go_min(a, b), min) && same(go_min(b, a), min), "min {a} {b}");
    }
}

#[test]
fn sums_compensate_and_means_do_not_overflow() {
    let (mut sum, mut c) = (0.0, 0.0);
    for v in [1e100, 1.0, -1e100] {
        (sum, c) = kahan_add(v, sum, c);
    }
    assert_eq!(sum + c, 1.0);
    let mut mean = Mean::default();
    for _ in 0..3 {
        mean.push(f64::MAX);
    }
    assert!((mean.get() / f64::MAX - 1.0).abs() < 1e-15, "{}", mean.get());
    let mut inf = Mean::default();
    for v in [f64::INFINITY, 1.0] {
        inf.push(v);
    }
    assert_eq!(inf.get(), f64::INFINITY);
}

#[test]
fn quantiles_interpolate_and_nan_poisons() {
    assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
    assert_eq!(quantile(0.25, &mut [1.0, 2.0]), 1.25);
    assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
    assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
    assert!(quantile(f64::NAN, &mut [1.0]).is_nan());
    assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
    assert!(quantile(0.0, &mut [1.0, f64::INFINITY]).is_nan(), "0 × Inf is NaN");
}

#[test]
fn rounding_goes_up_at_ties() {
    let mut values = [-0.5, 2.5, 1.2345];
    map_row(MapFn::Round, &[Scalars::Const(1.0)], &mut values, &mut [7]);
    assert_eq!(values[..2], [0.0, 3.0]);
    assert!(values[0].is_sign_negative() || values[0] == 0.0);
    let (mut clamped, mut present) = ([5.0], [1]);
    map_row(MapFn::Clamp, &[Scalars::Const(2.0), Scalars::Const(1.0)], &mut clamped, &mut present);
    assert_eq!(present, [0], "an inverted clamp yields nothing");
}

#[test]
fn dates_of_impossible_values_are_those_of_go() {
    // As Prometheus 3.5.3 on amd64 answers.
    for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e300, 9.3e18, -9.3e18] {
        let mut year = [v];
        map_row(MapFn::Year, &[], &mut year, &mut [1]);
        assert_eq!(year, [292_277_026_596.0], "{v}");
        for func in [MapFn::Hour, MapFn::Minute, MapFn::DaysInMonth, MapFn::DayOfYear] {
            map_row(func, &[], &mut [v], &mut [1]);
        }
    }
    let mut hour = [-1.5];
    map_row(MapFn::Hour, &[], &mut hour, &mut [1]);
    assert_eq!(hour, [23.0], "truncated toward zero to -1 s");
}
