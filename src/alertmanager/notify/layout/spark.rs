//! Curves as a few characters, for tables and for mails without images.

use crate::chart::Curve;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where there is no value.
const GAP: char = '·';

/// `width` characters from the time `from` to `to`, each the largest value of its part, low to high.
pub(super) fn line(curve: &Curve, from: i64, to: i64, width: usize) -> String {
    let mut slots: Vec<Option<f64>> = vec![None; width];
    let span = (to - from).max(1);
    for &(t, v) in curve.points.iter().filter(|(t, v)| v.is_finite() && (from..=to).contains(t)) {
        let slot = usize::try_from(i128::from(t - from) * width as i128 / i128::from(span)).unwrap_or(0);
        let slot = &mut slots[slot.min(width - 1)];
        *slot = Some(slot.map_or(v, |before: f64| before.max(v)));
    }
    let known = || slots.iter().flatten().copied();
    let low = known().fold(f64::INFINITY, f64::min);
    let high = known().fold(f64::NEG_INFINITY, f64::max);
    let bar = |v: f64| {
        if high <= low {
            return BARS[if v > 0.0 { 3 } else { 0 }];
        }
        // Halves, because the difference of the largest values overflows.
        let share = (v / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
        let level = (share * 7.0).round() as usize;
        BARS[level.min(7)]
    };
    slots.into_iter().map(|slot| slot.map_or(GAP, bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::line;
    use crate::chart::Curve;

    #[test]
    fn bars_rise_with_values_and_gaps_show() {
        let curve = |points: &[(i64, f64)]| Curve { points: points.to_vec() };
        let rising = curve(&[(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (6, 6.0), (7, 7.0)]);
        assert_eq!(line(&rising, 0, 8, 8), "▁▂▃▄··▇█");
        assert_eq!(line(&curve(&[(0, 5.0), (9, 5.0)]), 0, 10, 4), "▄··▄");
        assert_eq!(line(&curve(&[(0, 0.0)]), 0, 10, 2), "▁·");
        assert_eq!(line(&curve(&[(0, f64::NAN), (5, f64::MAX), (9, f64::MIN)]), 0, 10, 2), "·▄");
        assert_eq!(line(&curve(&[]), 3, 3, 3), "···");
    }
}
