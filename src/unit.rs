//! Units of values: told by the names of metrics, and how people read a value in one.
//!
//! A guess that only shows in texts and on axes; nothing is computed with it.

use std::borrow::Cow;

use jiff::Timestamp;

/// What a value counts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Base {
    #[default]
    Number,
    Seconds,
    Bytes,
    Bits,
    /// 1 is the whole.
    Ratio,
    /// 100 is the whole.
    Percent,
    /// Seconds since the epoch.
    Timestamp,
    /// Shown behind the number as it is.
    Named(Cow<'static, str>),
}

/// A base, or so much of it each second.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Unit {
    pub base: Base,
    pub per_second: bool,
}

const THOUSANDS: [(f64, &str); 5] = [(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")];

/// The longest text that an annotation may name as unit.
const NAME_CHARS_MAX: usize = 12;

/// What a number is divided by, and what then stands behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    pub factor: f64,
    pub suffix: Cow<'static, str>,
}

impl From<Base> for Unit {
    fn from(base: Base) -> Self {
        Self { base, per_second: false }
    }
}

impl Unit {
    /// The unit that the last words of a metric's name tell. Compat: the naming conventions of exporters.
    pub fn of_metric(name: &str) -> Self {
        // A recorded series is `level:metric:operations`.
        let mut parts = name.split(':');
        let (metric, operations) = match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(metric), operations) => (metric, operations.unwrap_or_default()),
            (first, ..) => (first.unwrap_or_default(), ""),
        };
        let per_second =
            operations.split('_').any(|word| word.starts_with("rate") || word.starts_with("irate"));
        if operations.split('_').any(|word| word == "ratio") {
            return Base::Ratio.into();
        }
        let mut stem = metric;
        for suffix in ["_total", "_created", "_sum", "_bucket", "_max", "_min", "_avg"] {
            stem = stem.strip_suffix(suffix).unwrap_or(stem);
        }
        let base = if stem.ends_with("_timestamp_seconds")
            || stem.ends_with("_time_seconds") && !stem.contains("_cpu_") && stem.contains("start")
        {
            Base::Timestamp
        } else {
            match stem.rsplit('_').next().unwrap_or_default() {
                _ if !stem.contains('_') => Base::Number,
                "seconds" => Base::Seconds,
                "bytes" => Base::Bytes,
                "bits" => Base::Bits,
                "ratio" => Base::Ratio,
                "percent" | "percentage" => Base::Percent,
                "celsius" => Base::Named("°C".into()),
                "volts" => Base::Named("V".into()),
                "amperes" => Base::Named("A".into()),
                "watts" => Base::Named("W".into()),
                "joules" => Base::Named("J".into()),
                "hertz" => Base::Named("Hz".into()),
                "meters" => Base::Named("m".into()),
                "milliseconds" => Base::Named("ms".into()),
                _ => Base::Number,
            }
        };
        Self { base, per_second }.normalized()
    }

    /// The unit that somebody wrote down, as in the annotation `unit`; `None` where the text is no unit.
    pub fn named(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) {
            return None;
        }
        let (stem, per_second) = match text.strip_suffix("/s") {
            Some(stem) if !stem.is_empty() => (stem, true),
            _ => (text, false),
        };
        let base = match stem {
            "s" | "sec" | "second" | "seconds" => Base::Seconds,
            "B" | "byte" | "bytes" => Base::Bytes,
            "bit" | "bits" => Base::Bits,
            "ratio" => Base::Ratio,
            "%" | "percent" => Base::Percent,
            "1" | "none" | "number" | "short" => Base::Number,
            name => Base::Named(Cow::Owned(name.to_owned())),
        };
        Some(Self { base, per_second })
    }

    /// The unit of a rate of this one.
    #[must_use]
    pub fn rate(self) -> Self {
        Self { per_second: true, ..self }.normalized()
    }

    /// Seconds each second are a number: how many there are at once.
    fn normalized(self) -> Self {
        match self {
            Self { base: Base::Seconds | Base::Timestamp, per_second: true } => Self::default(),
            unit => unit,
        }
    }

    pub fn is_number(&self) -> bool {
        *self == Self::default()
    }

    /// The scale in which a number as large as `magnitude` reads best.
    pub fn scale(&self, magnitude: f64) -> Scale {
        let size = magnitude.abs();
        let pick = |steps: &[(f64, &'static str)]| {
            let fitting = steps.iter().rev().find(|(factor, _)| size >= *factor * (1.0 - 1e-9));
            let (factor, suffix) = fitting.or(steps.first()).copied().unwrap_or((1.0, ""));
            (factor, Cow::Borrowed(suffix))
        };
        let (factor, suffix) = match &self.base {
            Base::Bytes => pick(&[
                (1.0, " B"),
                (1024.0, " KiB"),
                (1_048_576.0, " MiB"),
                (1_073_741_824.0, " GiB"),
                (1_099_511_627_776.0, " TiB"),
            ]),
            Base::Bits => pick(&[(1.0, " bit"), (1e3, " kbit"), (1e6, " Mbit"), (1e9, " Gbit")]),
            Base::Seconds if size == 0.0 => (1.0, " s".into()),
            Base::Seconds => pick(&[
                (1e-9, " ns"),
                (1e-6, " µs"),
                (1e-3, " ms"),
                (1.0, " s"),
                (120.0, " min"),
                (7_200.0, " h"),
                (172_800.0, " d"),
            ]),
            Base::Ratio => (0.01, "%".into()),
            Base::Percent => (1.0, "%".into()),
            Base::Number | Base::Timestamp if size < 10_000.0 => (1.0, "".into()),
            Base::Number | Base::Timestamp => pick(&THOUSANDS),
            Base::Named(name) if size < 10_000.0 => (1.0, format!(" {name}").into()),
            Base::Named(name) => {
                let (factor, prefix) = pick(&THOUSANDS);
                (factor, format!(" {prefix}{name}").into())
            }
        };
        // The limits of minutes, hours and days are twice their length: 90 s read better than 1.5 min.
        let factor = match (&self.base, factor) {
            (Base::Seconds, 120.0) => 60.0,
            (Base::Seconds, 7_200.0) => 3_600.0,
            (Base::Seconds, 172_800.0) => 86_400.0,
            (_, factor) => factor,
        };
        let suffix = match (self.per_second, suffix) {
            (false, suffix) => suffix,
            (true, suffix) if suffix.is_empty() => "/s".into(),
            (true, suffix) => format!("{suffix}/s").into(),
        };
        Scale { factor, suffix }
    }

    /// A value as people read it: `2.31 s`, `12m 30s`, `93.2%`, `1.5 GiB`.
    pub fn show(&self, value: f64) -> String {
        if value.is_nan() {
            return "NaN".to_owned();
        }
        if value.is_infinite() {
            return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
        }
        if self.base == Base::Timestamp && !self.per_second {
            #[expect(clippy::cast_possible_truncation, reason = "jiff checks the range")]
            if let Ok(t) = Timestamp::from_second(value as i64) {
                return t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
            }
        }
        if self.base == Base::Seconds && !self.per_second && value.abs() >= 120.0 {
            let sign = if value < 0.0 { "-" } else { "" };
            return format!("{sign}{}", span(value.abs()));
        }
        let whole = value == value.trunc() && value.abs() < 1e6;
        if whole && matches!(self.base, Base::Number | Base::Named(_)) {
            let suffix = self.scale(1.0).suffix;
            return format!("{value:.0}{suffix}");
        }
        let mut scale = self.scale(value);
        let mut shown = significant(value / scale.factor);
        // Rounding may reach the next unit: 1023.9 KiB.
        let rounded = self.scale(shown.parse::<f64>().unwrap_or(0.0) * scale.factor);
        if rounded.factor > scale.factor {
            scale = rounded;
            shown = significant(value / scale.factor);
        }
        format!("{shown}{}", scale.suffix)
    }
}

/// Three significant digits, no zeros at the end of a fraction.
pub fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.2e}");
    }
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of what lies in the range above")]
    let digits = size.log10().floor() as i32;
    let decimals = usize::try_from(2 - digits).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A span in its two largest units: `45s`, `12m 30s`, `3h 5m`, `2d 4h`.
pub fn span(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not negative"
    )]
    let total = seconds.max(0.0).round() as u64;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| total >= *size).unwrap_or(units.len() - 1);
    let mut rest = total;
    let mut parts = Vec::new();
    for (size, name) in units.iter().skip(first).take(2) {
        let n = rest / size;
        rest %= size;
        if n > 0 || parts.is_empty() {
            parts.push(format!("{n}{name}"));
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Base, Unit, significant, span};

    fn shown(base: Base, value: f64) -> String {
        Unit::from(base).show(value)
    }

    #[test]
    fn names_tell_units() {
        for (name, base, per_second) in [
            ("http_request_duration_seconds_bucket", Base::Seconds, false),
            ("node_filesystem_avail_bytes", Base::Bytes, false),
            ("process_start_time_seconds", Base::Timestamp, false),
            ("job_last_success_timestamp_seconds", Base::Timestamp, false),
            ("instance:node_memory_utilisation:ratio", Base::Ratio, false),
            ("instance:node_network_receive_bytes:rate5m", Base::Bytes, true),
            ("job:requests_total:rate5m", Base::Number, true),
            ("instance:cpu_seconds:rate5m", Base::Number, false),
            ("node_hwmon_temp_celsius", Base::Named("°C".into()), false),
            ("up", Base::Number, false),
            ("seconds", Base::Number, false),
        ] {
            assert_eq!(Unit::of_metric(name), Unit { base, per_second }, "{name}");
        }
    }

    #[test]
    fn values_read_well() {
        assert_eq!(shown(Base::Seconds, 2.3149), "2.31 s");
        assert_eq!(shown(Base::Seconds, 0.0251), "25.1 ms");
        assert_eq!(shown(Base::Seconds, 750.0), "12m 30s");
        assert_eq!(shown(Base::Seconds, 0.0), "0 s");
        assert_eq!(shown(Base::Bytes, 1_610_612_736.0), "1.5 GiB");
        assert_eq!(shown(Base::Bytes, 1_048_570.0), "1 MiB");
        assert_eq!(shown(Base::Ratio, 0.9321), "93.2%");
        assert_eq!(shown(Base::Number, 12_345.0), "12345");
        assert_eq!(shown(Base::Number, 12_345_678.0), "12.3M");
        assert_eq!(shown(Base::Number, -0.000_01), "-1.00e-5");
        assert_eq!(shown(Base::Number, f64::NAN), "NaN");
        assert_eq!(shown(Base::Timestamp, 1_700_000_000.0), "2023-11-14 22:13:20 UTC");
        assert_eq!(Unit::from(Base::Bytes).rate().show(2048.0), "2 KiB/s");
        assert_eq!(Unit::default().rate().show(3.0), "3/s");
        assert_eq!(Unit::from(Base::Seconds).rate().show(0.5), "0.5");
        assert_eq!(Unit::named("req/s").unwrap().show(12_500.0), "12500 req/s");
        assert_eq!(Unit::named("a unit that is none"), None);
    }

    #[test]
    fn spans_have_two_parts() {
        assert_eq!(
            [0.0, 59.4, 60.0, 750.0, 11_100.0, 187_200.0].map(span),
            ["0s", "59s", "1m", "12m 30s", "3h 5m", "2d 4h"]
        );
        assert_eq!([99.95, 0.001_234, 1e20].map(significant), ["100", "0.00123", "1.00e20"]);
    }
}
