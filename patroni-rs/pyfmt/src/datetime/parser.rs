//! Tokens to a date. Port of dateutil's `parser` and `parserinfo` without the fuzzy
//! mode.

use super::numeric::{adjust_ampm, integer};
use super::ymd::{Label, Ymd};
use super::{days_from_epoch, lexer, month_days, DateError, DateTime, Locale};

const JUMPS: [&str; 18] =
    [" ", ".", ",", ";", "-", "/", "'", "at", "on", "and", "ad", "m", "t", "of", "st", "nd", "rd", "th"];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
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
const HMS: [[&str; 3]; 3] = [["h", "hour", "hours"], ["m", "minute", "minutes"], ["s", "second", "seconds"]];
const UTC_ZONES: [&str; 4] = ["UTC", "GMT", "Z", "z"];

/// What has been read so far.
#[derive(Default)]
pub(super) struct Parts {
    pub ymd: Ymd,
    weekday: Option<i64>,
    pub hour: Option<i64>,
    pub minute: Option<i64>,
    pub second: Option<i64>,
    pub microsecond: Option<i64>,
    zone_name: Option<String>,
    offset: Option<i64>,
    this_year: i64,
}

/// A word skipped between the parts of a date.
pub(super) fn is_jump(word: &str) -> bool {
    JUMPS.contains(&word.to_lowercase().as_str())
}

/// A word or its first three letters.
fn name_index(names: &[&str], word: &str) -> Option<i64> {
    let word = word.to_lowercase();
    let found = names.iter().position(|n| *n == word || n.get(..3) == Some(&word));
    found.and_then(|i| i64::try_from(i).ok())
}

fn weekday(word: &str) -> Option<i64> {
    name_index(&WEEKDAYS, word)
}

/// The month, from 1.
pub(super) fn month(word: &str) -> Option<i64> {
    if word.eq_ignore_ascii_case("sept") {
        return Some(9);
    }
    name_index(&MONTHS, word).map(|i| i + 1)
}

/// Hour, minute or second: 0, 1, 2.
pub(super) fn hms(word: &str) -> Option<usize> {
    let word = word.to_lowercase();
    HMS.iter().position(|names| names.contains(&word.as_str()))
}

/// `am` is 0, `pm` is 1.
pub(super) fn ampm(word: &str) -> Option<u8> {
    match word.to_lowercase().as_str() {
        "am" | "a" => Some(0),
        "pm" | "p" => Some(1),
        _ => None,
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone.to_lowercase().as_str(), "utc" | "gmt" | "z")
}

impl Parts {
    fn read(tokens: &mut [String], this_year: i64) -> Option<Parts> {
        let mut parts = Parts { this_year, ..Parts::default() };
        let mut i = 0;
        while let Some(token) = tokens.get(i).cloned() {
            i = 1 + if token.parse::<f64>().is_ok() {
                parts.number(tokens, i)?
            } else {
                parts.word(tokens, i, &token)?
            };
        }
        Some(parts)
    }

    /// Reads the word at `i`, with what belongs to it; gives the last index used.
    fn word(&mut self, tokens: &mut [String], i: usize, token: &str) -> Option<usize> {
        if let Some(weekday) = weekday(token) {
            self.weekday = Some(weekday);
            return Some(i);
        }
        if let Some(month) = month(token) {
            self.ymd.push_number(month, false, Some(Label::Month))?;
            return self.after_month(tokens, i);
        }
        if let Some(half) = ampm(token) {
            let hour = self.hour.filter(|h| (0..=12).contains(h))?;
            self.hour = Some(adjust_ampm(hour, half));
            return Some(i);
        }
        if self.could_be_zone(token, self.offset) {
            self.zone_name = Some(token.to_owned());
            self.offset = (token == "z").then_some(0);
            self.reverse_sign(tokens.get_mut(i + 1), token);
            return Some(i);
        }
        if self.hour.is_some() && matches!(token, "+" | "-") {
            return self.numbered_zone(tokens, i, token == "+");
        }
        is_jump(token).then_some(i)
    }

    /// What follows a month's name: `-01`, `/01/99`, ` of 99`.
    fn after_month(&mut self, tokens: &[String], i: usize) -> Option<usize> {
        let at = |i: usize| tokens.get(i).map(String::as_str);
        match at(i + 1) {
            Some(separator @ ("-" | "/")) => {
                self.ymd.push_text(at(i + 2)?, None)?;
                if at(i + 3) != Some(separator) {
                    return Some(i + 2);
                }
                self.ymd.push_text(at(i + 4)?, None)?;
                Some(i + 4)
            }
            Some(" ") if at(i + 3) == Some(" ") => {
                let (Some(of), Some(year)) = (at(i + 2), at(i + 4)) else { return Some(i) };
                if !of.eq_ignore_ascii_case("of") {
                    return Some(i);
                }
                if let Some(year) = integer(year) {
                    let year = self.full_year(year, false).to_string();
                    self.ymd.push_text(&year, Some(Label::Year))?;
                }
                Some(i + 4)
            }
            _ => Some(i),
        }
    }

    /// `GMT+3` says that UTC is three hours back: the sign is turned, as is POSIX's.
    fn reverse_sign(&mut self, next: Option<&mut String>, zone: &str) {
        let Some(sign) = next.filter(|s| matches!(s.as_str(), "+" | "-")) else { return };
        *sign = if sign == "+" { "-" } else { "+" }.to_owned();
        self.offset = None;
        if is_utc(zone) {
            self.zone_name = None;
        }
    }

    fn could_be_zone(&self, token: &str, offset: Option<i64>) -> bool {
        let named = token.bytes().all(|b| b.is_ascii_uppercase()) || UTC_ZONES.contains(&token);
        self.hour.is_some() && self.zone_name.is_none() && offset.is_none() && token.len() <= 5 && named
    }

    /// `-0300`, `-03:00`, `-3`, and a name in parentheses after it.
    fn numbered_zone(&mut self, tokens: &[String], i: usize, east: bool) -> Option<usize> {
        let at = |i: usize| tokens.get(i).map(String::as_str);
        let digits = at(i + 1)?;
        let length = digits.chars().count();
        let mut last = i;
        let (hours, minutes) = if length == 4 {
            (integer(digits.get(..2)?)?, integer(digits.get(2..)?)?)
        } else if at(i + 2) == Some(":") {
            last = i + 2;
            (integer(digits)?, integer(at(i + 3)?)?)
        } else if length <= 2 {
            (integer(digits)?, 0)
        } else {
            return None;
        };
        let seconds = hours.saturating_mul(3600).saturating_add(minutes.saturating_mul(60));
        self.offset = Some(if east { seconds } else { -seconds });
        if let (Some(jump), Some("("), Some(name), Some(")")) =
            (at(last + 2), at(last + 3), at(last + 4), at(last + 5))
        {
            if is_jump(jump) && name.chars().count() >= 3 && self.could_be_zone(name, None) {
                self.zone_name = Some(name.to_owned());
                last += 4;
            }
        }
        Some(last + 1)
    }

    /// Two digits are a year within fifty years of now.
    fn full_year(&self, year: i64, century_specified: bool) -> i64 {
        if year >= 100 || century_specified {
            return year;
        }
        let year = year + self.this_year / 100 * 100;
        if year >= self.this_year + 50 {
            year - 100
        } else if year < self.this_year - 50 {
            year + 100
        } else {
            year
        }
    }

    fn settle_zone(&mut self) {
        let name = self.zone_name.as_deref().unwrap_or_default();
        if (self.offset == Some(0) && name.is_empty()) || matches!(name, "Z" | "z") {
            self.zone_name = Some("UTC".to_owned());
            self.offset = Some(0);
        } else if self.offset != Some(0) && is_utc(name) {
            self.offset = Some(0);
        }
    }

    /// The offset in seconds; `None` leaves the time naive.
    fn zone_offset(&self, naive: &DateTime, locale: &Locale<'_>) -> Result<Option<i32>, DateError> {
        if let Some(name) = self.zone_name.as_deref() {
            if locale.zone_names.contains(&name) {
                let utc = UTC_ZONES.contains(&name);
                return Ok(Some(if utc { 0 } else { (locale.offset_at)(naive) }));
            }
        }
        let day = |o: i64| o.abs() < 86_400;
        // A timedelta has at most 999999999 days.
        if self.offset.is_some_and(|o| o.abs() / 86_400 > 999_999_999) {
            return Err(too_large());
        }
        match self.offset {
            None => Ok(None),
            Some(offset) => i32::try_from(offset).ok().filter(|o| day(i64::from(*o))).map(Some).ok_or_else(|| {
                DateError::Value(
                    "offset must be a timedelta strictly between -timedelta(hours=24) and timedelta(hours=24)."
                        .to_owned(),
                )
            }),
        }
    }
}

fn too_large() -> DateError {
    DateError::Overflow("Python int too large to convert to C long".to_owned())
}

/// The time, and the name of a zone that was not understood.
pub(super) fn parse(text: &str, locale: &Locale<'_>) -> Result<(DateTime, Option<String>), DateError> {
    let value = |message: String| DateError::Value(format!("{message}: {text}"));
    let mut tokens = lexer::split(text);
    let unknown = || value("Unknown string format".to_owned());
    let mut parts = Parts::read(&mut tokens, i64::from(locale.today.0)).ok_or_else(unknown)?;
    let (year, month, day) = parts.ymd.resolve().ok_or_else(unknown)?;
    let year = year.map(|y| parts.full_year(y, parts.ymd.century_specified));
    parts.settle_zone();
    let numbers =
        [year, month, day, parts.weekday, parts.hour, parts.minute, parts.second, parts.microsecond];
    if numbers.iter().all(Option::is_none) && parts.zone_name.is_none() && parts.offset.is_none() {
        return Err(value("String does not contain a date".to_owned()));
    }
    let mut date = build(&parts, (year, month, day), locale, &value)?;
    if let Some(weekday) = parts.weekday.filter(|_| day.is_none_or(|d| d == 0)) {
        date = next_weekday(date, weekday)
            .ok_or_else(|| DateError::Overflow("date value out of range".to_owned()))?;
    }
    date.offset = parts.zone_offset(&date, locale)?;
    let unknown_zone = parts.zone_name.filter(|name| date.offset.is_none() && !name.is_empty());
    Ok((date, unknown_zone))
}

/// The naive time, with today's date and midnight for what is not given.
fn build(
    parts: &Parts,
    (year, month, day): super::ymd::Resolved,
    locale: &Locale<'_>,
    value: &dyn Fn(String) -> DateError,
) -> Result<DateTime, DateError> {
    let today = locale.today;
    let year = year.unwrap_or(i64::from(today.0));
    let month = month.unwrap_or(i64::from(today.1));
    let day = match day {
        Some(day) => day,
        None => {
            let last = month_days(year, month)
                .ok_or_else(|| value(format!("bad month number {month}; must be 1-12")))?;
            last.min(i64::from(today.2))
        }
    };
    let time = [parts.hour, parts.minute, parts.second, parts.microsecond].map(Option::unwrap_or_default);
    let [hour, minute, second, microsecond] = time;
    let numbers = [year, month, day, hour, minute, second, microsecond];
    if numbers.contains(&i64::MAX) {
        return Err(too_large());
    }
    if numbers.iter().any(|n| i32::try_from(*n).is_err()) {
        return Err(DateError::Overflow("signed integer is greater than maximum".to_owned()));
    }
    if !(1..=9999).contains(&year) {
        return Err(value(format!("year {year} is out of range")));
    }
    let Some(last) = month_days(year, month) else {
        return Err(value("month must be in 1..12".to_owned()));
    };
    if !(1..=last).contains(&day) {
        return Err(value("day is out of range for month".to_owned()));
    }
    for (n, limit, name) in [(hour, 23, "hour"), (minute, 59, "minute"), (second, 59, "second")] {
        if !(0..=limit).contains(&n) {
            return Err(value(format!("{name} must be in 0..{limit}")));
        }
    }
    let small = |n: i64| u32::try_from(n).unwrap_or(0);
    Ok(DateTime {
        year: i32::try_from(year).unwrap_or(1),
        month: small(month),
        day: small(day),
        hour: small(hour),
        minute: small(minute),
        second: small(second),
        microsecond: small(microsecond),
        offset: None,
    })
}

/// The same time on the next such weekday (Monday is 0), today included.
fn next_weekday(date: DateTime, weekday: i64) -> Option<DateTime> {
    let days = days_from_epoch(date.year, date.month, date.day);
    // 1970-01-01 was a Thursday.
    let ahead = (weekday - (days + 3)).rem_euclid(7);
    DateTime::from_unix(date.unix_seconds() + ahead * 86_400, date.microsecond, None)
}
