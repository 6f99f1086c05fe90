//! Dates with times as Python's `datetime` prints them and `dateutil` reads them.
//!
//! The reader is a port of python-dateutil 4.0.0's parser (BSD-3-Clause or Apache-2.0,
//! Copyright (c) 2003-2011 Gustavo Niemeyer, 2012-2014 Tomi Pieviläinen, 2014-2016
//! Yaron de Leeuw, 2015- Paul Ganssle and contributors).

mod lexer;
mod numeric;
mod parser;
mod ymd;

use std::fmt;

/// A `datetime.datetime`. With an offset it is aware, without one it is naive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// 1 to 9999
    pub year: i32,
    /// 1 to 12
    pub month: u32,
    /// 1 to the length of the month
    pub day: u32,
    /// 0 to 23
    pub hour: u32,
    /// 0 to 59
    pub minute: u32,
    /// 0 to 59
    pub second: u32,
    /// 0 to 999999
    pub microsecond: u32,
    /// Seconds east of Greenwich.
    pub offset: Option<i32>,
}

/// What `parse` needs to know of the place it runs at.
#[derive(Clone, Copy)]
pub struct Locale<'a> {
    /// Year, month and day of today, local time: they stand in for what a text leaves out.
    pub today: (i32, u32, u32),
    /// Python's `time.tzname`: the zone's names in winter and in summer.
    pub zone_names: [&'a str; 2],
    /// Seconds east of Greenwich of the local zone at a local time.
    pub offset_at: &'a dyn Fn(&DateTime) -> i32,
}

/// Why a text is not a date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// `dateutil.parser.ParserError`, a ValueError, with its text.
    #[error("{0}")]
    Value(String),
    /// OverflowError, which handlers of ValueError do not catch.
    #[error("{0}")]
    Overflow(String),
}

/// `dateutil.parser.parse(text)`: nearly every usual notation. Without a zone in the text
/// the result is naive; a zone that is neither UTC nor the local one is ignored.
///
/// # Errors
/// The text is no date (`Unknown string format: ...`, `String does not contain a date:
/// ...`) or one that does not exist (`day is out of range for month: ...`).
pub fn parse(text: &str, locale: &Locale<'_>) -> Result<DateTime, DateError> {
    parser::parse(text, locale).map(|(date, _)| date)
}

/// As [`parse`], and besides it the name of a zone that was ignored: dateutil warns of it
/// (`UnknownTimezoneWarning`).
///
/// # Errors
/// As [`parse`].
pub fn parse_with_zone(text: &str, locale: &Locale<'_>) -> Result<(DateTime, Option<String>), DateError> {
    parser::parse(text, locale)
}

impl DateTime {
    /// Python's `isoformat()`: `2026-11-21T13:00:00+01:00`, with microseconds only if
    /// there are any.
    pub fn isoformat(&self) -> String {
        self.format('T')
    }

    fn format(&self, separator: char) -> String {
        let mut out = format!(
            "{:04}-{:02}-{:02}{separator}{:02}:{:02}:{:02}",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        );
        if self.microsecond != 0 {
            out.push_str(&format!(".{:06}", self.microsecond));
        }
        if let Some(offset) = self.offset {
            let sign = if offset < 0 { '-' } else { '+' };
            let seconds = offset.unsigned_abs();
            out.push_str(&format!("{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60));
            if seconds % 60 != 0 {
                out.push_str(&format!(":{:02}", seconds % 60));
            }
        }
        out
    }

    /// Seconds since 1970, with the microseconds dropped; a naive time counts as UTC.
    pub fn unix_seconds(&self) -> i64 {
        let clock = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        days_from_epoch(self.year, self.month, self.day) * 86_400 + clock
            - i64::from(self.offset.unwrap_or(0))
    }

    /// The UTC time at `seconds` and `microsecond` since 1970, shown at `offset` seconds
    /// east of Greenwich (`None`: naive). `None` outside the years 1 to 9999.
    pub fn from_unix(seconds: i64, microsecond: u32, offset: Option<i32>) -> Option<DateTime> {
        let local = seconds.checked_add(i64::from(offset.unwrap_or(0)))?;
        let (year, month, day) = civil_from_days(local.div_euclid(86_400));
        let year = i32::try_from(year).ok().filter(|y| (1..=9999).contains(y))?;
        let clock = u32::try_from(local.rem_euclid(86_400)).ok()?;
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        Some(DateTime { year, month, day, hour, minute, second, microsecond, offset })
    }

    /// The instant, for comparisons: microseconds since 1970.
    pub fn unix_microseconds(&self) -> i64 {
        self.unix_seconds() * 1_000_000 + i64::from(self.microsecond)
    }
}

/// Python's `str(datetime)`.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(' '))
    }
}

/// The length of a month, as `calendar.monthrange`.
fn month_days(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => Some(29),
        2 => Some(28),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days_from_epoch(year: i32, month: u32, day: u32) -> i64 {
    // Years that start in March end with the leap day.
    let year = i64::from(year) - i64::from(month <= 2);
    let month = (i64::from(month) + 9) % 12;
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}
