//! Points in time as templates print and reckon with them.
//!
//! Compat: Go `time.Time`, `Time.Format`, `Duration.String`.

use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use super::value::{INT64, Integer, Value};
use super::{Param, Signature};

pub const RFC3339_NANO: &str = "2006-01-02T15:04:05.999999999Z07:00";

/// A point in time and the zone it is shown in.
///
/// The name is that of a zone that is an offset alone; empty when it has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Time(Zoned, Option<std::sync::Arc<str>>);

impl Time {
    pub fn utc(at: Timestamp) -> Self {
        Self(at.to_zoned(TimeZone::UTC), None)
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
        Self(self.0.with_time_zone(zone), None)
    }

    /// With `name` for its zone.
    #[must_use]
    pub(super) fn named(self, name: &str) -> Self {
        Self(self.0, Some(name.into()))
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
        match &self.1 {
            Some(name) if !name.is_empty() => return name.to_string(),
            Some(_) => return self.offset(false, "-0700"),
            None => {}
        }
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
        at.map(|at| Self(at.to_zoned(self.0.time_zone().clone()), self.1.clone())).map_err(|e| e.to_string())
    }

    /// What the methods take that templates may call.
    pub(super) fn signature(name: &str) -> Option<Signature> {
        const INT: Param = Param::Int;
        Some(match name {
            "Unix" | "UnixMilli" | "UnixMicro" | "UnixNano" | "Year" | "Month" | "Weekday" | "Day"
            | "YearDay" | "Hour" | "Minute" | "Second" | "Nanosecond" | "IsZero" | "IsDST" | "UTC"
            | "Local" | "String" | "Location" | "Clock" | "Date" | "ISOWeek" | "Zone" | "ZoneBounds" => {
                Signature::fixed(&[])
            }
            "Format" => Signature::fixed(&[Param::Str]),
            "In" => Signature::fixed(&[Param::Class("*time.Location")]),
            "Add" | "Truncate" | "Round" => Signature::fixed(&[Param::Duration]),
            "AddDate" => Signature::fixed(&[INT, INT, INT]),
            "Sub" | "Before" | "After" | "Equal" | "Compare" => Signature::fixed(&[Param::Time]),
            _ => return None,
        })
    }

    /// Why templates cannot call a method: of its results Go takes one, and an error.
    pub(super) fn misfit(name: &str) -> Option<String> {
        let second = match name {
            "Zone" | "ISOWeek" => "int",
            "ZoneBounds" => "time.Time",
            "Clock" | "Date" => {
                return Some(format!("function {name} has 3 return values; should be 1 or 2"));
            }
            _ => return None,
        };
        Some(format!(
            "invalid function signature for {name}: second return value should be error; is {second}"
        ))
    }

    /// Calls a method; the arguments fit its signature.
    pub(super) fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let z = &self.0;
        let at = z.timestamp();
        let int = |v: i64| Ok(Value::Int(v));
        let long = |v: i128| Ok(Value::Named(&INT64, i64::try_from(v).unwrap_or(i64::MIN)));
        match (name, args) {
            ("Format", [Value::Str(layout) | Value::Safe(_, layout)]) => Ok(self.format(layout).into()),
            ("String", []) => Ok(self.to_string().into()),
            ("Unix", []) => long(at.as_nanosecond().div_euclid(1_000_000_000)),
            ("UnixMilli", []) => long(at.as_nanosecond().div_euclid(1_000_000)),
            ("UnixMicro", []) => long(at.as_nanosecond().div_euclid(1_000)),
            // Go's wraps around outside the years that nanoseconds reach.
            #[expect(clippy::cast_possible_truncation, reason = "as Go's")]
            ("UnixNano", []) => Ok(Value::Named(&INT64, at.as_nanosecond() as i64)),
            ("Year", []) => int(z.year().into()),
            ("Month", []) => Ok(Value::Named(&MONTH, z.month().into())),
            ("Weekday", []) => Ok(Value::Named(&WEEKDAY, z.weekday().to_sunday_zero_offset().into())),
            ("Day", []) => int(z.day().into()),
            ("YearDay", []) => int(z.day_of_year().into()),
            ("Hour", []) => int(z.hour().into()),
            ("Minute", []) => int(z.minute().into()),
            ("Second", []) => int(z.second().into()),
            ("Nanosecond", []) => int(z.subsec_nanosecond().into()),
            ("IsZero", []) => Ok(self.is_zero().into()),
            ("IsDST", []) => Ok(z.time_zone().to_offset_info(at).dst().is_dst().into()),
            ("UTC", []) => Ok(Value::Time(self.in_zone(TimeZone::UTC))),
            ("Local", []) => Ok(Value::Time(self.in_zone(TimeZone::system()))),
            ("Location", []) => {
                let name = match &self.1 {
                    Some(name) => name.to_string(),
                    None => z.time_zone().iana_name().unwrap_or("UTC").to_owned(),
                };
                Ok(Value::Struct(&LOCATION, std::sync::Arc::new([("", name.into())])))
            }
            ("In", [location]) => {
                let name = location_name(location);
                let zone = TimeZone::get(&name).map_err(|_| format!("unknown time zone {name}"))?;
                Ok(Value::Time(self.in_zone(zone)))
            }
            ("Add", [Value::Duration(d)]) => self.plus(*d).map(Value::Time),
            ("AddDate", [Value::Int(y), Value::Int(m), Value::Int(d)]) => {
                self.add_date(*y, *m, *d).map(Value::Time).ok_or_else(|| "date out of range".to_owned())
            }
            ("Sub", [Value::Time(other)]) => Ok(Value::Duration(self.since(other))),
            ("Before", [Value::Time(other)]) => Ok((at < other.timestamp()).into()),
            ("After", [Value::Time(other)]) => Ok((at > other.timestamp()).into()),
            ("Equal", [Value::Time(other)]) => Ok((at == other.timestamp()).into()),
            ("Compare", [Value::Time(other)]) => int(at.cmp(&other.timestamp()) as i64),
            ("Truncate", [Value::Duration(step)]) => self.rounded(*step, false),
            ("Round", [Value::Duration(step)]) => self.rounded(*step, true),
            _ => Err(format!("wrong arguments for {name}")),
        }
    }

    /// Days beyond the end of a month run over into the next, as in Go.
    fn add_date(&self, years: i64, months: i64, days: i64) -> Option<Self> {
        let z = &self.0;
        let month = i64::from(z.month()) - 1 + months;
        let year = i64::from(z.year()).checked_add(years)?.checked_add(month.div_euclid(12))?;
        let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
        let first = jiff::civil::Date::new(i16::try_from(year).ok()?, month, 1).ok()?;
        let days = (i64::from(z.day()) - 1).checked_add(days).filter(|days| days.abs() < 8_000_000)?;
        let date = first.checked_add(days.days()).ok()?;
        let moved = date.to_datetime(z.time()).to_zoned(z.time_zone().clone()).ok()?;
        Some(Self(moved, self.1.clone()))
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

static MONTH: Integer =
    Integer { name: "time.Month", string: Some(|v| usize::try_from(v - 1).map_or("", |i| MONTHS[i % 12])) };
static WEEKDAY: Integer =
    Integer { name: "time.Weekday", string: Some(|v| usize::try_from(v).map_or("", |i| DAYS[i % 7])) };

/// A zone, whose name is a field that no template can write.
static LOCATION: super::value::Class = super::value::Class {
    string: Some(location_name),
    ..super::value::Class::plain("*time.Location", false)
};

fn location_name(location: &Value) -> String {
    location.field("").and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) const MONTHS: [&str; 12] = [
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
pub(super) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn month_index(z: &Zoned) -> usize {
    usize::try_from(z.month() - 1).unwrap_or(0)
}

fn day_index(z: &Zoned) -> usize {
    usize::try_from(z.weekday().to_sunday_zero_offset()).unwrap_or(0)
}

#[derive(Clone, Copy)]
pub(super) enum Field<'l> {
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
pub(super) fn next_field(layout: &str) -> (usize, Option<Field<'_>>) {
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

/// What the methods of durations take.
pub(super) fn duration_signature(name: &str) -> Option<Signature> {
    Some(match name {
        "Seconds" | "Minutes" | "Hours" | "Milliseconds" | "Microseconds" | "Nanoseconds" | "Abs"
        | "String" => Signature::fixed(&[]),
        "Truncate" | "Round" => Signature::fixed(&[Param::Duration]),
        _ => return None,
    })
}

/// Calls a method of a duration.
pub(super) fn duration_call(nanos: i64, name: &str, args: &[Value]) -> Result<Value, String> {
    // Whole units and the rest apart, as Go adds them up.
    let float = |unit: i64| Ok(Value::Float((nanos / unit) as f64 + (nanos % unit) as f64 / unit as f64));
    let int = |v: i64| Ok(Value::Named(&INT64, v));
    match (name, args) {
        ("Seconds", []) => float(1_000_000_000),
        ("Minutes", []) => float(60_000_000_000),
        ("Hours", []) => float(3_600_000_000_000),
        ("Milliseconds", []) => int(nanos / 1_000_000),
        ("Microseconds", []) => int(nanos / 1_000),
        ("Nanoseconds", []) => int(nanos),
        ("Abs", []) => Ok(Value::Duration(nanos.saturating_abs())),
        ("String", []) => Ok(duration_string(nanos).into()),
        ("Truncate", [Value::Duration(step)]) if *step > 0 => Ok(Value::Duration(nanos - nanos % step)),
        ("Round", [Value::Duration(step)]) if *step > 0 => {
            let rest = (nanos % step).unsigned_abs();
            let down = nanos - nanos % step;
            let up = rest >= step.unsigned_abs() - rest;
            Ok(Value::Duration(if up { down.saturating_add(step * nanos.signum()) } else { down }))
        }
        ("Truncate" | "Round", [_]) => Ok(Value::Duration(nanos)),
        _ => Err(format!("wrong arguments for {name}")),
    }
}
