//! Text to points in time, by Go's layouts.
//!
//! Compat: Go `time.ParseInLocation` with UTC (messages included).

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

use super::time::{DAYS, Field, MONTHS, Time, next_field};
use model::quote::go_quote;

/// What was read so far.
#[derive(Default)]
struct Parts {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
    is_pm: Option<bool>,
    is_utc: bool,
    offset: Option<i64>,
    zone: Option<String>,
}

/// Why an element did not fit.
enum Misfit {
    Syntax,
    /// The name of what is out of range.
    Range(&'static str),
}

type Read<T> = Result<T, Misfit>;

/// Reads `text` by `layout`.
///
/// # Errors
/// Go's: `parsing time "…" as "…": cannot parse "…" as "…"`, `parsing time "…": … out of range`.
pub(super) fn parse(layout: &str, text: &str) -> Result<Time, String> {
    let quote = |text: &str| go_quote(text.as_bytes());
    let cannot = |value: &str, element: &str| {
        let (text, layout) = (quote(text), quote(layout));
        Err(format!("parsing time {text} as {layout}: cannot parse {} as {}", quote(value), quote(element)))
    };
    let refused = |message: &str| Err(format!("parsing time {}: {message}", quote(text)));
    let mut parts = Parts::default();
    let mut rest = layout;
    let mut value = text;
    loop {
        let (prefix, len, field) = split_layout(rest);
        match skip(value, prefix) {
            Ok(left) => value = left,
            Err(left) => return cannot(left, prefix),
        }
        let Some(field) = field else {
            if !value.is_empty() {
                return refused(&format!("extra text: {}", quote(value)));
            }
            break;
        };
        let element = &rest[prefix.len()..prefix.len() + len];
        rest = &rest[prefix.len() + len..];
        let mut left = value;
        match parts.read(field, &mut left, rest) {
            Ok(()) => value = left,
            Err(Misfit::Range(what)) => return refused(&format!("{what} out of range")),
            Err(Misfit::Syntax) => return cannot(value, element),
        }
    }
    parts.time().or_else(refused)
}

/// Layout text up to the next field, and the field with its length.
fn split_layout(layout: &str) -> (&str, usize, Option<Field<'_>>) {
    let mut at = 0;
    while at < layout.len() {
        match next_field(&layout[at..]) {
            (len, None) => at += len,
            (len, field) => return (&layout[..at], len, field),
        }
    }
    (layout, 0, None)
}

/// `value` behind `prefix`; blanks stand for any number of blanks.
fn skip<'v>(mut value: &'v str, mut prefix: &str) -> Result<&'v str, &'v str> {
    while let Some(c) = prefix.chars().next() {
        if c == ' ' {
            if !value.is_empty() && !value.starts_with(' ') {
                return Err(value);
            }
            prefix = prefix.trim_start_matches(' ');
            value = value.trim_start_matches(' ');
            continue;
        }
        value = value.strip_prefix(c).ok_or(value)?;
        prefix = &prefix[c.len_utf8()..];
    }
    Ok(value)
}

fn is_digit(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_some_and(u8::is_ascii_digit)
}

fn take<'v>(value: &mut &'v str, len: usize) -> Read<&'v str> {
    let taken = value.get(..len).ok_or(Misfit::Syntax)?;
    *value = &value[len..];
    Ok(taken)
}

fn whole(text: &str) -> Read<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_err(|_| Misfit::Syntax)
    } else {
        Err(Misfit::Syntax)
    }
}

/// One or two digits, always two when `fixed`.
fn number(value: &mut &str, fixed: bool) -> Read<i64> {
    match (is_digit(value, 0), is_digit(value, 1)) {
        (true, true) => whole(take(value, 2)?),
        (true, false) if !fixed => whole(take(value, 1)?),
        _ => Err(Misfit::Syntax),
    }
}

fn within(v: i64, range: std::ops::RangeInclusive<i64>, what: &'static str) -> Read<i64> {
    if range.contains(&v) { Ok(v) } else { Err(Misfit::Range(what)) }
}

fn name(value: &mut &str, names: &[&str], len: Option<usize>) -> Read<i64> {
    for (i, known) in names.iter().enumerate() {
        let known = &known[..len.unwrap_or(known.len())];
        if value.get(..known.len()).is_some_and(|word| word.eq_ignore_ascii_case(known)) {
            *value = &value[known.len()..];
            return Ok(i64::try_from(i).unwrap_or(0));
        }
    }
    Err(Misfit::Syntax)
}

/// A point or comma and digits, `len` bytes of them, as nanoseconds.
fn fraction(value: &mut &str, len: usize) -> Read<i64> {
    let text = take(value, len)?;
    let digits = text.strip_prefix(['.', ',']).ok_or(Misfit::Syntax)?;
    let digits = &digits[..digits.len().min(9)];
    Ok(whole(digits)? * 10_i64.pow(u32::try_from(9 - digits.len()).unwrap_or(0)))
}

impl Parts {
    fn read(&mut self, field: Field<'_>, value: &mut &str, rest: &str) -> Read<()> {
        match field {
            Field::Year06 => {
                let year = whole(take(value, 2)?)?;
                self.year = if year >= 69 { year + 1900 } else { year + 2000 };
            }
            Field::Year => self.year = whole(take(value, 4)?)?,
            Field::Mon => self.month = Some(name(value, &MONTHS, Some(3))? + 1),
            Field::Month => self.month = Some(name(value, &MONTHS, None)? + 1),
            Field::Month1 | Field::Month01 => {
                let month = number(value, matches!(field, Field::Month01))?;
                self.month = Some(within(month, 1..=12, "month")?);
            }
            Field::Wed => drop(name(value, &DAYS, Some(3))?),
            Field::Weekday => drop(name(value, &DAYS, None)?),
            Field::Day | Field::DayBlank | Field::Day02 => {
                if matches!(field, Field::DayBlank) {
                    *value = value.strip_prefix(' ').unwrap_or(value);
                }
                self.day = Some(number(value, matches!(field, Field::Day02))?);
            }
            Field::YearDay | Field::YearDayBlank => {
                let is_blank = matches!(field, Field::YearDayBlank);
                for _ in 0..2 {
                    *value = value.strip_prefix(' ').filter(|_| is_blank).unwrap_or(value);
                }
                let len = (0..3).take_while(|at| is_digit(value, *at)).count();
                if len == 0 || (!is_blank && len != 3) {
                    return Err(Misfit::Syntax);
                }
                self.day_of_year = Some(whole(take(value, len)?)?);
            }
            Field::Hour => self.hour = within(number(value, false)?, 0..=23, "hour")?,
            Field::Hour3 | Field::Hour03 => {
                let hour = number(value, matches!(field, Field::Hour03))?;
                self.hour = within(hour, 0..=12, "hour")?;
            }
            Field::Minute | Field::Minute04 => {
                let minute = number(value, matches!(field, Field::Minute04))?;
                self.minute = within(minute, 0..=59, "minute")?;
            }
            Field::Second | Field::Second05 => {
                let second = number(value, matches!(field, Field::Second05))?;
                self.second = within(second, 0..=59, "second")?;
                // Fractions are read even where the layout has none.
                let follows = matches!(split_layout(rest), ("", _, Some(Field::Fraction { .. })));
                if value.starts_with(['.', ',']) && is_digit(value, 1) && !follows {
                    let len = 1 + (1..value.len()).take_while(|at| is_digit(value, *at)).count();
                    self.nanos = fraction(value, len)?;
                }
            }
            Field::Pm | Field::PmLower => {
                let text = take(value, 2)?;
                let is_lower = matches!(field, Field::PmLower);
                self.is_pm = Some(match (text, is_lower) {
                    ("PM", false) | ("pm", true) => true,
                    ("AM", false) | ("am", true) => false,
                    _ => return Err(Misfit::Syntax),
                });
            }
            Field::Offset { z, form } => self.read_offset(value, z, form)?,
            Field::ZoneName => {
                if let Some(left) = value.strip_prefix("UTC") {
                    self.is_utc = true;
                    *value = left;
                } else {
                    let len = zone_name_len(value).ok_or(Misfit::Syntax)?;
                    self.zone = Some(take(value, len)?.to_owned());
                }
            }
            Field::Fraction { digits, trimmed: false, .. } => self.nanos = fraction(value, 1 + digits)?,
            Field::Fraction { trimmed: true, .. } => {
                if value.starts_with(['.', ',']) && is_digit(value, 1) {
                    let len = 1 + (1..value.len()).take_while(|at| is_digit(value, *at)).count();
                    self.nanos = fraction(value, len)?;
                }
            }
        }
        Ok(())
    }

    fn read_offset(&mut self, value: &mut &str, z: bool, form: &str) -> Read<()> {
        if z && value.starts_with('Z') {
            *value = &value[1..];
            self.is_utc = true;
            return Ok(());
        }
        let text = take(value, form.len())?;
        // The colons of the form must be there.
        for (at, _) in form.match_indices(':') {
            if text.as_bytes()[at] != b':' {
                return Err(Misfit::Syntax);
            }
        }
        let sign = match text.as_bytes()[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return Err(Misfit::Syntax),
        };
        let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
        let part = |at: usize| digits.get(at..at + 2).map_or(Ok(0), whole);
        let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
        within(hours, 0..=24, "time zone offset hour")?;
        within(minutes, 0..=60, "time zone offset minute")?;
        within(seconds, 0..=60, "time zone offset second")?;
        self.offset = Some(sign * (hours * 3600 + minutes * 60 + seconds));
        Ok(())
    }

    fn time(&self) -> Result<Time, &'static str> {
        const DAY: &str = "day out of range";
        const YEAR_DAY: &str = "day-of-year out of range";
        let hour = match self.is_pm {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let year = i16::try_from(self.year).map_err(|_| DAY)?;
        let date = if let Some(day) = self.day_of_year {
            let first = Date::new(year, 1, 1).map_err(|_| YEAR_DAY)?;
            let day = i16::try_from(day).ok().filter(|day| (1..=first.days_in_year()).contains(day));
            let date = first.with().day_of_year(day.ok_or(YEAR_DAY)?).build().map_err(|_| YEAR_DAY)?;
            if self.month.is_some_and(|month| month != i64::from(date.month())) {
                return Err("day-of-year does not match month");
            }
            if self.day.is_some_and(|day| day != i64::from(date.day())) {
                return Err("day-of-year does not match day");
            }
            date
        } else {
            let part = |v: Option<i64>| i8::try_from(v.unwrap_or(1)).map_err(|_| DAY);
            Date::new(year, part(self.month)?, part(self.day)?).map_err(|_| DAY)?
        };
        let small = |v: i64| i8::try_from(v).unwrap_or(0);
        let nanos = i32::try_from(self.nanos).unwrap_or(0);
        let civil = date.at(small(hour), small(self.minute), small(self.second), nanos);
        let (offset, name) = self.zone_offset();
        let offset = i32::try_from(offset).ok().and_then(|offset| Offset::from_seconds(offset).ok());
        let offset = offset.ok_or(DAY)?;
        // A name alone says how the time is shown, not what the text meant.
        let read_as = if self.offset.is_some() { offset } else { Offset::UTC };
        let at = read_as.to_timestamp(civil).map_err(|_| DAY)?;
        let utc = Time::utc(at);
        Ok(match name {
            None => utc,
            Some(name) => utc.in_zone(TimeZone::fixed(offset)).named(name),
        })
    }

    /// The offset, and the name of the zone unless that is UTC.
    fn zone_offset(&self) -> (i64, Option<&str>) {
        let zone = self.zone.as_deref();
        match (self.is_utc, self.offset, zone) {
            (true, ..) | (_, None | Some(0), None) => (0, None),
            (_, Some(offset), zone) => (offset, Some(zone.unwrap_or_default())),
            (_, None, Some(zone)) => {
                // The hours of a GMT offset are all that a name tells.
                let hours = zone.strip_prefix("GMT").and_then(|hours| hours.parse::<i64>().ok());
                (hours.unwrap_or(0) * 3600, Some(zone))
            }
        }
    }
}

fn zone_name_len(text: &str) -> Option<usize> {
    if text.starts_with("ChST") || text.starts_with("MeST") {
        return Some(4);
    }
    if let Some(offset) = text.strip_prefix("GMT") {
        return Some(3 + signed_len(offset));
    }
    if text.starts_with(['+', '-']) {
        return Some(signed_len(text)).filter(|len| *len > 0);
    }
    let bytes = text.as_bytes();
    match bytes.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count() {
        5 if bytes[4] == b'T' => Some(5),
        4 if bytes[3] == b'T' || text.starts_with("WITA") => Some(4),
        3 => Some(3),
        _ => None,
    }
}

/// The length of an offset of hours with a sign.
fn signed_len(text: &str) -> usize {
    let Some(digits) = text.strip_prefix(['+', '-']) else { return 0 };
    let len = digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match digits[..len].parse::<u32>() {
        Ok(hours) if hours < 24 => len + 1,
        _ => 0,
    }
}
