//! Axes: which range they cover, which round values they show, and where a value lies.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::unit::{Scale, Unit};

/// The value axis.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
    scale: Scale,
    decimals: usize,
}

/// More ticks than this touch one another.
const TICKS_MAX: f64 = 5.0;
const TIME_TICKS_MAX: i64 = 7;
const MINUTE_MS: i64 = 60_000;

impl Values {
    /// An axis on which all of `values` can be seen.
    pub(super) fn new(values: impl Iterator<Item = f64>, unit: &Unit) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // From zero, unless that would press what happens into a thin band.
        if low > 0.0 && (low < 0.6 * high || low == high) {
            low = 0.0;
        } else if high < 0.0 && (high > 0.6 * low || low == high) {
            high = 0.0;
        }
        if high - low <= f64::max(high.abs(), low.abs()) * 1e-9 {
            let room = if high == 0.0 { 1.0 } else { high.abs() * 0.1 };
            (low, high) = if low == 0.0 { (0.0, room) } else { (low - room, high + room) };
        }
        let scale = unit.scale(high.abs().max(low.abs()));
        let step = round_up((high - low) / scale.factor / TICKS_MAX);
        let step_value = step * scale.factor;
        // Half a step of room, so that no curve runs along an edge, but nothing below a natural zero.
        let room = (high - low) * 0.08;
        let high = high + room;
        let low = if low == 0.0 { 0.0 } else { low - room };
        let (mut ticks, first) = (Vec::new(), (low / step_value).ceil());
        for i in 0..16_u8 {
            let tick = (first + f64::from(i)) * step_value;
            if !tick.is_finite() || tick > high {
                break;
            }
            // No negative zero.
            ticks.push(tick + 0.0);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count of digits"
        )]
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        Self { low, high, ticks, scale, decimals }
    }

    pub(super) fn label(&self, tick: f64) -> String {
        let value = tick / self.scale.factor;
        if value.abs() >= 1e6 {
            return format!("{value:.1e}{}", self.scale.suffix);
        }
        format!("{value:.*}{}", self.decimals, self.scale.suffix)
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_up(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let share = step / power;
    let round = [1.0, 2.0, 5.0].into_iter().find(|round| share <= *round * (1.0 + 1e-9)).unwrap_or(10.0);
    let step = round * power;
    if step.is_finite() && step > 0.0 { step } else { 1.0 }
}

/// Round times between `from` and `to` with their labels, in the clock of `zone`.
pub(super) fn times(from: i64, to: i64, zone: &TimeZone) -> Vec<(i64, String)> {
    const MINUTES: [i64; 15] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1_440, 2_880, 10_080];
    let span = (to - from).max(1);
    let step = MINUTES
        .into_iter()
        .map(|minutes| minutes * MINUTE_MS)
        .find(|step| span / step < TIME_TICKS_MAX)
        .unwrap_or(span);
    let zoned = |t: i64| Timestamp::from_millisecond(t).unwrap_or_default().to_zoned(zone.clone());
    let offset = i64::from(zoned(from).offset().seconds()) * 1_000;
    let mut local = (from + offset).div_euclid(step) * step;
    let mut found = Vec::new();
    while local - offset <= to && found.len() < 16 {
        let t = local - offset;
        if t > from {
            let at = zoned(t);
            let is_midnight = at.hour() == 0 && at.minute() == 0;
            let format = if is_midnight { "%b %-d" } else { "%H:%M" };
            found.push((t, at.strftime(format).to_string()));
        }
        local += step;
    }
    found
}

/// Where values lie on the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) left: f32,
    pub(super) right: f32,
    pub(super) top: f32,
    pub(super) bottom: f32,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) low: f64,
    pub(super) high: f64,
}

#[expect(clippy::cast_possible_truncation, reason = "positions on an image")]
impl Frame {
    pub(super) fn x(&self, t: i64) -> f32 {
        let share = (t - self.from) as f64 / (self.to - self.from) as f64;
        self.left + (self.right - self.left) * share.clamp(0.0, 1.0) as f32
    }

    pub(super) fn y(&self, v: f64) -> f32 {
        // Halves, because the difference of the largest values overflows.
        let share = (v / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        self.bottom - (self.bottom - self.top) * share.clamp(0.0, 1.0) as f32
    }
}
