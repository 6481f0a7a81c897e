//! `time_intervals`: sets of moments, by the clock and the calendar of a place.
//!
//! Compat: alertmanager `timeinterval`, `TimeInterval.ContainsTime` (0.34).

use std::ops::{Range, RangeInclusive};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// All fields that say something must hold; an empty one says nothing.
#[derive(Clone, Debug)]
pub struct TimeInterval {
    /// Minutes of the day, the end exclusive.
    pub times: Vec<Range<u16>>,
    /// 0 is Sunday.
    pub weekdays: Vec<RangeInclusive<u8>>,
    pub days_of_month: Vec<DayRange>,
    /// 1 is January.
    pub months: Vec<RangeInclusive<u8>>,
    pub years: Vec<RangeInclusive<i32>>,
    pub location: TimeZone,
    /// The name of `location` as it was written; empty for UTC by default.
    pub location_name: String,
}

/// Days of a month, both ends included; negative ones count from its end, -1 being the last day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayRange {
    pub begin: i8,
    pub end: i8,
}

impl TimeInterval {
    pub fn contains(&self, at: Timestamp) -> bool {
        let at = at.to_zoned(self.location.clone());
        let minute = u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs());
        let weekday = at.weekday().to_sunday_zero_offset().unsigned_abs();
        (self.times.is_empty() || self.times.iter().any(|range| range.contains(&minute)))
            && (self.weekdays.is_empty() || self.weekdays.iter().any(|range| range.contains(&weekday)))
            && (self.days_of_month.is_empty() || self.days_of_month.iter().any(|range| range.contains(&at)))
            && (self.months.is_empty()
                || self.months.iter().any(|range| range.contains(&at.month().unsigned_abs())))
            && (self.years.is_empty() || self.years.iter().any(|range| range.contains(&i32::from(at.year()))))
    }
}

impl DayRange {
    /// Ends that the month does not have are moved to its first or last day.
    fn contains(self, at: &Zoned) -> bool {
        let last = at.days_in_month();
        let day = |wanted: i8| if wanted < 0 { last + wanted + 1 } else { wanted };
        let (begin, end) = (day(self.begin), day(self.end));
        // A range that lies beyond the month's last day has no part in it.
        begin <= last && (begin.max(1)..=end.min(last)).contains(&at.day())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::{DayRange, TimeInterval};

    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    fn office_hours() -> TimeInterval {
        TimeInterval {
            times: vec![9 * 60..17 * 60],
            weekdays: vec![1..=5],
            days_of_month: Vec::new(),
            months: Vec::new(),
            years: Vec::new(),
            location: TimeZone::UTC,
            location_name: String::new(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn every_field_has_to_hold() {
        let interval = office_hours();
        assert!(interval.contains(at("2026-11-20T09:00:00Z")), "Friday morning");
        assert!(!interval.contains(at("2026-11-20T17:00:00Z")), "the end is exclusive");
        assert!(!interval.contains(at("2026-11-21T09:00:00Z")), "Saturday");
        let abroad = TimeInterval { location: TimeZone::get("America/New_York").unwrap(), ..office_hours() };
        assert!(abroad.contains(at("2026-11-20T21:59:00Z")));
        assert!(!abroad.contains(at("2026-11-20T09:00:00Z")));
    }

    #[test]
    fn days_count_from_both_ends_of_the_month() {
        let on = |begin, end, day: &str| {
            let days_of_month = vec![DayRange { begin, end }];
            let days =
                TimeInterval { times: Vec::new(), weekdays: Vec::new(), days_of_month, ..office_hours() };
            days.contains(at(&format!("{day}T12:00:00Z")))
        };
        assert!(on(-1, -1, "2026-02-28") && !on(-1, -1, "2026-02-27") && on(-1, -1, "2024-02-29"));
        assert!(on(1, 31, "2026-02-28"), "an end beyond the month is its last day");
        assert!(!on(30, 31, "2026-02-28"), "a range beyond the month is empty");
        assert!(on(-31, 1, "2026-02-01"), "a beginning before the month is its first day");
    }
}
