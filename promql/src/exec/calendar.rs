//! Dates of the proleptic Gregorian calendar in UTC, as the date functions need them.

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: u8,
    pub(crate) day: u8,
    /// 0 is Sunday.
    pub(crate) weekday: u8,
    /// 1 to 366.
    pub(crate) day_of_year: u16,
}

const DAYS_BEFORE_MONTH: [u16; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl Date {
    /// The day of `seconds` since the epoch.
    pub(crate) fn of_unix_seconds(seconds: i64) -> Self {
        Self::of_days(seconds.div_euclid(86_400))
    }

    /// The day `days` after the first of January 1970.
    pub(crate) fn of_days(days: i64) -> Self {
        // Years run from March here, so that the leap day is the last of its year; an era is 400 years.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let small = |v: i64| u8::try_from(v).expect("a day or month is below 32");
        let mut date = Self {
            year,
            month: small(month),
            day: small(day),
            weekday: small((days + 4).rem_euclid(7)),
            day_of_year: 0,
        };
        let leap = u16::from(date.month > 2 && is_leap(year));
        date.day_of_year = DAYS_BEFORE_MONTH[usize::from(date.month) - 1] + u16::from(date.day) + leap;
        date
    }

    pub(crate) fn days_in_month(self) -> u8 {
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if is_leap(self.year) => 29,
            2 => 28,
            _ => 31,
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn walks_every_day_of_nine_centuries() {
        let mut date = Date::of_unix_seconds(-500 * 365 * 86_400);
        for day in (-500 * 365 + 1)..(400 * 365) {
            let next = Date::of_unix_seconds(day * 86_400 + 86_399);
            assert_eq!(u16::from(next.weekday), (u16::from(date.weekday) + 1) % 7);
            if next.day == 1 {
                assert_eq!(date.day, date.days_in_month(), "{date:?}");
            } else {
                assert_eq!(next.day, date.day + 1);
            }
            if next.day_of_year == 1 {
                assert_eq!((next.month, next.day, date.month, date.day), (1, 1, 12, 31));
            } else {
                assert_eq!(next.day_of_year, date.day_of_year + 1);
            }
            date = next;
        }
        let epoch = Date::of_unix_seconds(0);
        assert_eq!((epoch.year, epoch.month, epoch.day, epoch.weekday), (1970, 1, 1, 4));
    }
}
