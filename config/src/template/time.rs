//! Points in time as templates print and reckon with them.
//!
//! Compat: Go `time.Time`, `Time.Format`, `Duration.String`.

use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use super::value::Value;

pub const RFC3339_NANO: &str = "2006-01-02T15:04:05.999999999Z07:00";

/// A point in time and the zone it is shown in.
#[derive(Clone, Debug, PartialEq)]
pub struct Time(Zoned);

impl Time {
    pub fn utc(at: Timestamp) -> Self {
        Self(at.to_zoned(TimeZone::UTC))
    }

    /// Go's zero time, the first second of year 1.
    pub fn zero() -> Self {
        Self::utc(Timestamp::from_second(ZERO_SECONDS).expect("year 1 is in range"))
    }

    pub fn is_zero(&self) -> bool {
        self.0.timestamp().as_second() == ZERO_SECONDS && self.0.subsec_nanosecond() == 0
    }

    pub fn timestamp(&self) -> Timestamp {
        self.0.timestamp()
    }

    #[must_use]
    pub fn in_zone(&self, zone: TimeZone) -> Self {
        Self(self.0.with_time_zone(zone))
    }

    /// Formats by Go's layout language.
    pub fn format(&self, layout: &str) -> String {
        let mut out = String::with_capacity(layout.len() + 8);
        let mut rest = layout;
        while !rest.is_empty() {
            let (len, field) = next_field(rest);
            match field {
                None => out.push_str(&rest[..len]),
                Some(field) => self.push_field(&mut out, field),
            }
            rest = &rest[len..];
        }
        out
    }

    fn push_field(&self, out: &mut String, field: Field<'_>) {
        let z = &self.0;
        let hour12 = match z.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        let _ = match field {
            Field::Month => write!(out, "{}", MONTHS[month_index(z)]),
            Field::Mon => write!(out, "{}", &MONTHS[month_index(z)][..3]),
            Field::Month1 => write!(out, "{}", z.month()),
            Field::Month01 => write!(out, "{:02}", z.month()),
            Field::Weekday => write!(out, "{}", DAYS[day_index(z)]),
            Field::Wed => write!(out, "{}", &DAYS[day_index(z)][..3]),
            Field::Day => write!(out, "{}", z.day()),
            Field::DayBlank => write!(out, "{:2}", z.day()),
            Field::Day02 => write!(out, "{:02}", z.day()),
            Field::YearDay => write!(out, "{:03}", z.day_of_year()),
            Field::YearDayBlank => write!(out, "{:3}", z.day_of_year()),
            Field::Hour => write!(out, "{:02}", z.hour()),
            Field::Hour3 => write!(out, "{hour12}"),
            Field::Hour03 => write!(out, "{hour12:02}"),
            Field::Minute => write!(out, "{}", z.minute()),
            Field::Minute04 => write!(out, "{:02}", z.minute()),
            Field::Second => write!(out, "{}", z.second()),
            Field::Second05 => write!(out, "{:02}", z.second()),
            Field::Year => write!(out, "{:04}", z.year()),
            Field::Year06 => write!(out, "{:02}", z.year().rem_euclid(100)),
            Field::Pm => write!(out, "{}", if z.hour() >= 12 { "PM" } else { "AM" }),
            Field::PmLower => write!(out, "{}", if z.hour() >= 12 { "pm" } else { "am" }),
            Field::ZoneName => write!(out, "{}", self.abbreviation()),
            Field::Offset { z: as_z, form } => write!(out, "{}", self.offset(as_z, form)),
            Field::Fraction { mark, digits, trimmed } => {
                let text = format!("{:09}", z.subsec_nanosecond());
                let text = &text[..digits.min(9)];
                let text = if trimmed { text.trim_end_matches('0') } else { text };
                if text.is_empty() { Ok(()) } else { write!(out, "{mark}{text}") }
            }
        };
    }

    fn abbreviation(&self) -> String {
        let info = self.0.time_zone().to_offset_info(self.0.timestamp());
        info.abbreviation().to_owned()
    }

    /// The offset in the shape of `form`: `-07`, `-0700`, `-07:00`, `-070000` or `-07:00:00`.
    fn offset(&self, as_z: bool, form: &str) -> String {
        let total = self.0.offset().seconds();
        if as_z && total == 0 {
            return "Z".to_owned();
        }
        let (sign, abs) = if total < 0 { ('-', -total) } else { ('+', total) };
        let colon = if form.contains(':') { ":" } else { "" };
        let mut out = format!("{sign}{:02}", abs / 3600);
        if form.len() > "-07".len() {
            let _ = write!(out, "{colon}{:02}", abs / 60 % 60);
        }
        if form.len() >= "-070000".len() {
            let _ = write!(out, "{colon}{:02}", abs % 60);
        }
        out
    }

    /// Nanoseconds from `other` to this time, at most what Go's `Duration` holds.
    pub fn since(&self, other: &Self) -> i64 {
        let nanos = self.0.timestamp().as_nanosecond() - other.0.timestamp().as_nanosecond();
        i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
    }

    fn plus(&self, nanos: i64) -> Result<Self, String> {
        let at = self.0.timestamp().checked_add(SignedDuration::from_nanos(nanos));
        at.map(|at| Self(at.to_zoned(self.0.time_zone().clone()))).map_err(|e| e.to_string())
    }

    /// The methods templates may call.
    pub(super) fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let z = &self.0;
        let at = z.timestamp();
        let int = |v: i64| Some(Ok(Value::Int(v)));
        match (name, args) {
            ("Format", [Value::Str(layout)]) => Some(Ok(self.format(layout).into())),
            ("String", []) => Some(Ok(self.to_string().into())),
            ("Unix", []) => int(at.as_nanosecond().div_euclid(1_000_000_000).try_into().unwrap_or(i64::MAX)),
            ("UnixMilli", []) => int(at.as_nanosecond().div_euclid(1_000_000).try_into().unwrap_or(i64::MAX)),
            ("UnixNano", []) => int(at.as_nanosecond().try_into().unwrap_or(i64::MIN)),
            ("Year", []) => int(z.year().into()),
            ("Month", []) => Some(Ok(MONTHS[month_index(z)].into())),
            ("Weekday", []) => Some(Ok(DAYS[day_index(z)].into())),
            ("Day", []) => int(z.day().into()),
            ("YearDay", []) => int(z.day_of_year().into()),
            ("Hour", []) => int(z.hour().into()),
            ("Minute", []) => int(z.minute().into()),
            ("Second", []) => int(z.second().into()),
            ("Nanosecond", []) => int(z.subsec_nanosecond().into()),
            ("IsZero", []) => Some(Ok(self.is_zero().into())),
            ("UTC", []) => Some(Ok(Value::Time(self.in_zone(TimeZone::UTC)))),
            ("Local", []) => Some(Ok(Value::Time(self.in_zone(TimeZone::system())))),
            ("Add", [Value::Duration(d) | Value::Int(d)]) => Some(self.plus(*d).map(Value::Time)),
            ("AddDate", [Value::Int(y), Value::Int(m), Value::Int(d)]) => {
                let fits = |v: &i64| i32::try_from(*v).ok().filter(|v| v.abs() < 20_000);
                let (Some(y), Some(m), Some(d)) = (fits(y), fits(m), fits(d)) else {
                    return Some(Err("date out of range".to_owned()));
                };
                let moved = z.checked_add(y.years().months(m).days(d));
                Some(moved.map(|z| Value::Time(Self(z))).map_err(|e| e.to_string()))
            }
            ("Sub", [Value::Time(other)]) => Some(Ok(Value::Duration(self.since(other)))),
            ("Before", [Value::Time(other)]) => Some(Ok((at < other.timestamp()).into())),
            ("After", [Value::Time(other)]) => Some(Ok((at > other.timestamp()).into())),
            ("Equal", [Value::Time(other)]) => Some(Ok((at == other.timestamp()).into())),
            ("Truncate", [Value::Duration(step) | Value::Int(step)]) => Some(self.rounded(*step, false)),
            ("Round", [Value::Duration(step) | Value::Int(step)]) => Some(self.rounded(*step, true)),
            (
                "Format" | "String" | "Unix" | "Add" | "AddDate" | "Sub" | "Before" | "After" | "Equal"
                | "Truncate" | "Round",
                _,
            ) => Some(Err(format!("wrong arguments for {name}"))),
            _ => None,
        }
    }

    /// Down, or to the nearest, multiple of `step` since the zero time.
    fn rounded(&self, step: i64, nearest: bool) -> Result<Value, String> {
        if step <= 0 {
            return Ok(Value::Time(self.clone()));
        }
        let since_zero = self.0.timestamp().as_nanosecond() - i128::from(ZERO_SECONDS) * 1_000_000_000;
        let rest = i64::try_from(since_zero.rem_euclid(i128::from(step))).unwrap_or(0);
        let up = nearest && rest >= step - rest;
        self.plus(if up { step - rest } else { -rest }).map(Value::Time)
    }
}

/// As Go prints a time: `2006-01-02 15:04:05.999999999 -0700 MST`.
impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

const ZERO_SECONDS: i64 = -62_135_596_800;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn month_index(z: &Zoned) -> usize {
    usize::try_from(z.month() - 1).unwrap_or(0)
}

fn day_index(z: &Zoned) -> usize {
    usize::try_from(z.weekday().to_sunday_zero_offset()).unwrap_or(0)
}

#[derive(Clone, Copy)]
enum Field<'l> {
    Month,
    Mon,
    Month1,
    Month01,
    Weekday,
    Wed,
    Day,
    DayBlank,
    Day02,
    YearDay,
    YearDayBlank,
    Hour,
    Hour3,
    Hour03,
    Minute,
    Minute04,
    Second,
    Second05,
    Year,
    Year06,
    Pm,
    PmLower,
    ZoneName,
    /// `form` is the layout's text behind a `Z` or with its sign.
    Offset {
        z: bool,
        form: &'l str,
    },
    Fraction {
        mark: &'l str,
        digits: usize,
        trimmed: bool,
    },
}

/// The longest field that `layout` begins with, or how many bytes are literal.
fn next_field(layout: &str) -> (usize, Option<Field<'_>>) {
    // Longer names stand before their prefixes.
    let fields: [(&str, Field<'_>); 33] = [
        ("January", Field::Month),
        ("Jan", Field::Mon),
        ("Monday", Field::Weekday),
        ("Mon", Field::Wed),
        ("MST", Field::ZoneName),
        ("2006", Field::Year),
        ("__2", Field::YearDayBlank),
        ("_2", Field::DayBlank),
        ("002", Field::YearDay),
        ("01", Field::Month01),
        ("02", Field::Day02),
        ("03", Field::Hour03),
        ("04", Field::Minute04),
        ("05", Field::Second05),
        ("06", Field::Year06),
        ("15", Field::Hour),
        ("1", Field::Month1),
        ("2", Field::Day),
        ("3", Field::Hour3),
        ("4", Field::Minute),
        ("5", Field::Second),
        ("PM", Field::Pm),
        ("pm", Field::PmLower),
        ("-07:00:00", Field::Offset { z: false, form: "-07:00:00" }),
        ("-070000", Field::Offset { z: false, form: "-070000" }),
        ("-07:00", Field::Offset { z: false, form: "-07:00" }),
        ("-0700", Field::Offset { z: false, form: "-0700" }),
        ("-07", Field::Offset { z: false, form: "-07" }),
        ("Z07:00:00", Field::Offset { z: true, form: "-07:00:00" }),
        ("Z070000", Field::Offset { z: true, form: "-070000" }),
        ("Z07:00", Field::Offset { z: true, form: "-07:00" }),
        ("Z0700", Field::Offset { z: true, form: "-0700" }),
        ("Z07", Field::Offset { z: true, form: "-07" }),
    ];
    if layout.starts_with("_2006") {
        // No blank-padded day begins here: the underscore is literal.
        return (1, None);
    }
    for (text, field) in fields {
        if let Some(rest) = layout.strip_prefix(text) {
            // "Jan" and "Mon" end a word: "January" was tried, "Janet" is a literal.
            let next = rest.chars().next();
            if matches!(text, "Jan" | "Mon") && next.is_some_and(|c| c.is_ascii_lowercase()) {
                continue;
            }
            return (text.len(), Some(field));
        }
    }
    if let Some(rest) = layout.strip_prefix(['.', ',']) {
        for digit in ['0', '9'] {
            let digits = rest.len() - rest.trim_start_matches(digit).len();
            let ends = !rest[digits..].starts_with(|c: char| c.is_ascii_digit());
            if digits > 0 && ends {
                let field = Field::Fraction { mark: &layout[..1], digits, trimmed: digit == '9' };
                return (1 + digits, Some(field));
            }
        }
    }
    (layout.chars().next().map_or(1, char::len_utf8), None)
}

/// As Go prints a duration: `1h2m3.5s`, `250ms`, `0s`.
pub fn duration_string(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let abs = nanos.unsigned_abs();
    let fraction = |unit: u64| {
        let rest = abs % unit;
        let width = unit.ilog10() as usize;
        let text = format!("{rest:0width$}");
        let text = text.trim_end_matches('0');
        if text.is_empty() { String::new() } else { format!(".{text}") }
    };
    if abs < 1_000 {
        return format!("{sign}{abs}ns");
    }
    if abs < 1_000_000 {
        return format!("{sign}{}{}µs", abs / 1_000, fraction(1_000));
    }
    if abs < 1_000_000_000 {
        return format!("{sign}{}{}ms", abs / 1_000_000, fraction(1_000_000));
    }
    let seconds = abs / 1_000_000_000;
    let mut out = sign.to_owned();
    if seconds >= 3600 {
        let _ = write!(out, "{}h", seconds / 3600);
    }
    if seconds >= 60 {
        let _ = write!(out, "{}m", seconds / 60 % 60);
    }
    let _ = write!(out, "{}{}s", seconds % 60, fraction(1_000_000_000));
    out
}

/// The methods of durations.
pub(super) fn duration_method(nanos: i64, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let float = |unit: f64| Some(Ok(Value::Float(nanos as f64 / unit)));
    match (name, args) {
        ("Seconds", []) => float(1e9),
        ("Minutes", []) => float(60e9),
        ("Hours", []) => float(3600e9),
        ("Milliseconds", []) => Some(Ok(Value::Int(nanos / 1_000_000))),
        ("Microseconds", []) => Some(Ok(Value::Int(nanos / 1_000))),
        ("Nanoseconds", []) => Some(Ok(Value::Int(nanos))),
        ("Abs", []) => Some(Ok(Value::Duration(nanos.saturating_abs()))),
        ("String", []) => Some(Ok(duration_string(nanos).into())),
        ("Truncate", [Value::Duration(step) | Value::Int(step)]) if *step > 0 => {
            Some(Ok(Value::Duration(nanos - nanos % step)))
        }
        ("Round", [Value::Duration(step) | Value::Int(step)]) if *step > 0 => {
            let rest = (nanos % step).abs();
            let down = nanos.abs() - rest;
            let abs = if rest >= step - rest { down.saturating_add(*step) } else { down };
            Some(Ok(Value::Duration(abs * nanos.signum())))
        }
        ("Truncate" | "Round", [_]) => Some(Ok(Value::Duration(nanos))),
        _ => None,
    }
}
