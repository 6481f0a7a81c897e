//! `time_intervals` from YAML: ranges as texts, each checked on its own.
//!
//! Compat: alertmanager `timeinterval`, the `UnmarshalYAML` and `MarshalYAML` of its types.

use std::marker::PhantomData;
use std::path::Path;

use jiff::tz::TimeZone;
use model::quote::go_quote;

use super::record::{Key, Record, Slot, always, some};
use super::{DayRange, TimeInterval};
use crate::yaml::emit::Fields;
use crate::yaml::{Decode as _, Decoder, Issue, Node, Out};

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A named set of intervals; `OLD` is an item of the deprecated list.
#[derive(Default)]
pub(super) struct RawNamed<const OLD: bool> {
    pub(super) name: String,
    intervals: Vec<RawInterval>,
}

impl<const OLD: bool> Record for RawNamed<OLD> {
    const GO_TYPE: &'static str = "config.plain";
    const GO_LIST: &'static str = if OLD { "[]config.MuteTimeInterval" } else { "[]config.TimeInterval" };

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![always("name", &mut self.name), always("time_intervals", &mut self.intervals)]
    }

    fn check(&mut self) -> Result<(), String> {
        if self.name.is_empty() {
            let what = if OLD { "mute time interval" } else { "time interval" };
            return Err(format!("missing name in {what}"));
        }
        Ok(())
    }

    fn null() -> Result<Self, String> {
        Ok(Self::default())
    }
}

impl<const OLD: bool> RawNamed<OLD> {
    pub(super) fn resolve(&self) -> Vec<TimeInterval> {
        self.intervals.iter().filter_map(RawInterval::resolve).collect()
    }
}

/// A field that is there but empty holds at no time, one that is not there always does.
#[derive(Default)]
struct RawInterval {
    times: Times,
    weekdays: Ranges<Weekday>,
    days_of_month: Ranges<DayOfMonth>,
    months: Ranges<Month>,
    years: Ranges<Year>,
    location: Location,
}

impl Record for RawInterval {
    const GO_TYPE: &'static str = "timeinterval.TimeInterval";
    const GO_LIST: &'static str = "[]timeinterval.TimeInterval";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            some("times", &mut self.times),
            some("weekdays", &mut self.weekdays),
            some("days_of_month", &mut self.days_of_month),
            some("months", &mut self.months),
            some("years", &mut self.years),
            some("location", &mut self.location),
        ]
    }
}

impl RawInterval {
    /// `None` for an interval that holds at no time.
    fn resolve(&self) -> Option<TimeInterval> {
        let is_empty = |list: Option<usize>| list == Some(0);
        let never = is_empty(self.times.0.as_ref().map(Vec::len))
            || is_empty(self.weekdays.len())
            || is_empty(self.days_of_month.len())
            || is_empty(self.months.len())
            || is_empty(self.years.len());
        let small = |n: i64| u8::try_from(n.clamp(0, 255)).expect("clamped");
        let day = |n: i64| i8::try_from(n).expect("days are checked when they are read");
        let year = |n: i64| i32::try_from(n.clamp(i32::MIN.into(), i32::MAX.into())).expect("clamped");
        let minute = |n: u32| u16::try_from(n).expect("minutes of a day");
        (!never).then(|| TimeInterval {
            times: self.times.0.iter().flatten().map(|&(start, end)| minute(start)..minute(end)).collect(),
            weekdays: self.weekdays.pairs().map(|(begin, end)| small(begin)..=small(end)).collect(),
            days_of_month: self
                .days_of_month
                .pairs()
                .map(|(begin, end)| DayRange { begin: day(begin), end: day(end) })
                .collect(),
            months: self.months.pairs().map(|(begin, end)| small(begin)..=small(end)).collect(),
            years: self.years.pairs().map(|(begin, end)| year(begin)..=year(end)).collect(),
            location: self.location.0.as_ref().map_or(TimeZone::UTC, |(_, zone)| zone.clone()),
            location_name: self.location.0.as_ref().map(|(name, _)| name.clone()).unwrap_or_default(),
        })
    }
}

// === Times of the day ===

/// Minutes of the day.
#[derive(Default)]
struct Times(Option<Vec<(u32, u32)>>);

#[derive(Default)]
struct RawTimes {
    start: String,
    end: String,
}

impl Record for RawTimes {
    const GO_TYPE: &'static str = "timeinterval.yamlTimeRange";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![always("start_time", &mut self.start), always("end_time", &mut self.end)]
    }
}

impl Slot for Times {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            self.0 = None;
            return Ok(());
        }
        let mut all = Vec::new();
        let is_list = decoder.items(node, "[]timeinterval.TimeRange", &mut |decoder, item| {
            let mut raw = RawTimes::default();
            if item.is_null() {
                all.push((0, 0));
            } else if super::record::read(&mut raw, decoder, base, item)? {
                all.push(raw.parse().map_err(|text| Issue::new(item.pos, text))?);
            }
            Ok(())
        })?;
        if is_list {
            self.0 = Some(all);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        let time = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let ranges = self.0.iter().flatten().map(|&(start, end)| {
            let mut fields = Fields::default();
            fields.put("start_time", time(start).as_str()).put("end_time", time(end).as_str());
            fields.into_out()
        });
        Out::List(ranges.collect())
    }

    fn is_zero(&self) -> bool {
        self.0.as_ref().is_none_or(Vec::is_empty)
    }
}

impl RawTimes {
    fn parse(&self) -> Result<(u32, u32), String> {
        if self.start.is_empty() || self.end.is_empty() {
            return Err("both start and end times must be provided".to_owned());
        }
        let (start, end) = (parse_time(&self.start)?, parse_time(&self.end)?);
        if start >= end {
            return Err("start time cannot be equal or greater than end time".to_owned());
        }
        Ok((start, end))
    }
}

/// `HH:MM`, from `00:00` to `24:00`.
fn parse_time(text: &str) -> Result<u32, String> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let parts = (text.len() == 5).then(|| text.split_once(':')).flatten();
    let parts = parts.filter(|(hours, _)| hours.len() == 2);
    let parsed = parts.and_then(|(hours, minutes)| Some((number(hours)?, number(minutes)?)));
    match parsed {
        Some((hours, minutes)) if (hours < 24 && minutes < 60) || (hours, minutes) == (24, 0) => {
            Ok(hours * 60 + minutes)
        }
        _ => Err(format!("couldn't parse timestamp {text}, invalid format")),
    }
}

// === Ranges ===

/// What sets one kind of range apart.
trait RangeKind {
    const GO_LIST: &'static str;

    fn member(text: &str) -> Result<i64, String> {
        atoi(text)
    }

    fn check(begin: i64, end: i64, text: &str) -> Result<(), String>;

    fn print(n: i64) -> String {
        n.to_string()
    }
}

/// Compat: Go `strconv.Atoi`.
fn atoi(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    let parsed = if is_number { text.parse().ok() } else { None };
    parsed.ok_or_else(|| format!("strconv.Atoi: parsing {}: {why}", go_quote(text.as_bytes())))
}

struct Weekday;

impl RangeKind for Weekday {
    const GO_LIST: &'static str = "[]timeinterval.WeekdayRange";

    fn member(text: &str) -> Result<i64, String> {
        position(&WEEKDAYS, text).ok_or_else(|| format!("{text} is not a valid weekday"))
    }

    fn check(begin: i64, end: i64, _: &str) -> Result<(), String> {
        if begin > end {
            return Err("start day cannot be before end day".to_owned());
        }
        Ok(())
    }

    fn print(n: i64) -> String {
        name(&WEEKDAYS, n).to_owned()
    }
}

fn position(names: &[&str], text: &str) -> Option<i64> {
    i64::try_from(names.iter().position(|name| *name == text)?).ok()
}

fn name<'a>(names: &[&'a str], n: i64) -> &'a str {
    usize::try_from(n).ok().and_then(|n| names.get(n)).copied().unwrap_or_default()
}

struct DayOfMonth;

impl RangeKind for DayOfMonth {
    const GO_LIST: &'static str = "[]timeinterval.DayOfMonthRange";

    fn check(begin: i64, end: i64, _: &str) -> Result<(), String> {
        for day in [begin, end] {
            if day == 0 || !(-31..=31).contains(&day) {
                return Err(format!("{day} is not a valid day of the month: out of range"));
            }
        }
        if begin < 0 && end > 0 {
            return Err("end day must be negative if start day is negative".to_owned());
        }
        // Counted from the end of the shortest month, in which what is wrong is wrong in every one.
        let day = |n: i64| if n < 0 { 28 + n } else { n };
        if day(begin) > day(end) {
            return Err(format!("end day {end} is always before start day {begin}"));
        }
        Ok(())
    }
}

struct Month;

impl RangeKind for Month {
    const GO_LIST: &'static str = "[]timeinterval.MonthRange";

    fn member(text: &str) -> Result<i64, String> {
        let named = position(&MONTHS, text).map(|month| month + 1);
        named.or_else(|| atoi(text).ok()).ok_or_else(|| format!("{text} is not a valid month"))
    }

    fn check(begin: i64, end: i64, _: &str) -> Result<(), String> {
        if begin > end {
            let month = |n: i64| name(&MONTHS, n - 1);
            return Err(format!("end month {} is before start month {}", month(end), month(begin)));
        }
        Ok(())
    }
}

struct Year;

impl RangeKind for Year {
    const GO_LIST: &'static str = "[]timeinterval.YearRange";

    fn check(begin: i64, end: i64, _: &str) -> Result<(), String> {
        if begin > end {
            return Err(format!("end year {end} is before start year {begin}"));
        }
        Ok(())
    }
}

struct Ranges<K> {
    list: Option<Vec<(i64, i64)>>,
    kind: PhantomData<K>,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Self { list: None, kind: PhantomData }
    }
}

impl<K> Ranges<K> {
    fn len(&self) -> Option<usize> {
        self.list.as_ref().map(Vec::len)
    }

    fn pairs(&self) -> impl Iterator<Item = (i64, i64)> {
        self.list.iter().flatten().copied()
    }
}

impl<K: RangeKind> Slot for Ranges<K> {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            self.list = None;
            return Ok(());
        }
        let mut all = Vec::new();
        let is_list = decoder.items(node, K::GO_LIST, &mut |decoder, item| {
            if item.is_null() {
                all.push((0, 0));
            } else if let Some(text) = String::decode(decoder, item)? {
                all.push(parse_range::<K>(&text).map_err(|text| Issue::new(item.pos, text))?);
            }
            Ok(())
        })?;
        if is_list {
            self.list = Some(all);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        let range = |(begin, end): (i64, i64)| {
            if begin == end { K::print(begin) } else { format!("{}:{}", K::print(begin), K::print(end)) }
        };
        Out::Flow(self.pairs().map(range).collect())
    }

    fn is_zero(&self) -> bool {
        self.len().is_none_or(|len| len == 0)
    }
}

fn parse_range<K: RangeKind>(text: &str) -> Result<(i64, i64), String> {
    let lower = text.to_lowercase();
    let (begin, end) = match lower.split_once(':') {
        Some((_, end)) if end.contains(':') => {
            return Err(format!("couldn't parse range {lower}, invalid format"));
        }
        Some((begin, end)) => (K::member(begin)?, K::member(end)?),
        None => {
            let both = K::member(&lower)?;
            (both, both)
        }
    };
    K::check(begin, end, text)?;
    Ok((begin, end))
}

// === Where ===

#[derive(Default)]
struct Location(Option<(String, TimeZone)>);

impl Slot for Location {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            self.0 = None;
            return Ok(());
        }
        let Some(name) = String::decode(decoder, node)? else { return Ok(()) };
        let zone = match name.as_str() {
            "" | "UTC" => Ok(TimeZone::UTC),
            "Local" => Ok(TimeZone::system()),
            name => TimeZone::get(name),
        };
        let zone = zone.map_err(|_| Issue::new(node.pos, format!("unknown time zone {name}")))?;
        self.0 = Some((if name.is_empty() { "UTC".to_owned() } else { name }, zone));
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::FlowText(self.0.as_ref().map(|(name, _)| name.clone()).unwrap_or_default())
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}
