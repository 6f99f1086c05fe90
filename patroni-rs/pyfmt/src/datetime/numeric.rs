//! Numbers of a date. Port of the numeric rules of dateutil's `parser`.

use super::parser::{ampm, hms, is_jump, month, Parts};
use super::ymd::Label;

/// A number with a fraction, as `Decimal` reads it.
pub(super) struct Decimal<'a> {
    pub whole: i64,
    fraction: &'a str,
}

impl Decimal<'_> {
    pub fn read(text: &str) -> Option<Decimal<'_>> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let whole = if whole.is_empty() { 0 } else { integer(whole)? };
        Some(Decimal { whole, fraction })
    }

    fn has_fraction(&self) -> bool {
        self.fraction.bytes().any(|b| b != b'0')
    }

    fn at_most(&self, limit: i64) -> bool {
        self.whole < limit || (self.whole == limit && !self.has_fraction())
    }

    /// The whole part of 60 times the fraction, if there is one.
    fn sixtieths(&self) -> Option<i64> {
        let digits = self.fraction.get(..28).unwrap_or(self.fraction);
        let scale = 10i128.checked_pow(u32::try_from(digits.len()).ok()?)?;
        let value = digits.parse::<i128>().unwrap_or(0);
        self.has_fraction().then(|| i64::try_from(value * 60 / scale).unwrap_or(0))
    }
}

/// Python's `int` of ASCII digits; what is beyond 64 bits is as wrong as the largest.
pub(super) fn integer(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(i64::MAX))
}

fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from.min(text.len())..to.min(text.len())).unwrap_or_default()
}

impl Parts {
    /// Reads the number at `i`, with what belongs to it; gives the last index used.
    pub(super) fn number(&mut self, tokens: &[String], i: usize) -> Option<usize> {
        let at = |i: usize| tokens.get(i).map(String::as_str);
        let text = at(i)?;
        let value = Decimal::read(text)?;
        let length = text.len();
        let next = at(i + 1);
        let bare = next.is_none_or(|n| n != ":" && hms(n).is_none());
        if self.ymd.len() == 3 && matches!(length, 2 | 4) && self.hour.is_none() && bare {
            self.hour = Some(integer(part(text, 0, 2))?);
            if length == 4 {
                self.minute = Some(integer(part(text, 2, 4))?);
            }
            return Some(i);
        }
        if length == 6 || (length > 6 && text.find('.') == Some(6)) {
            self.six_digits(text)?;
            return Some(i);
        }
        if matches!(length, 8 | 12 | 14) {
            self.compact(text)?;
            return Some(i);
        }
        if let Some(unit_at) = find_hms(tokens, i) {
            return self.with_unit(tokens, i, unit_at);
        }
        match (next, at(i + 2)) {
            (Some(":"), Some(minutes)) => self.clock(tokens, i, &value, minutes),
            (Some(separator @ ("-" | "/" | ".")), _) => self.separated(tokens, i, separator),
            (None, _) => {
                self.push_decimal(&value)?;
                Some(i + 1)
            }
            (Some(n), after) if is_jump(n) => match after.and_then(ampm) {
                Some(half) => {
                    self.hour = Some(adjust_ampm(value.whole, half));
                    Some(i + 2)
                }
                None => {
                    self.push_decimal(&value)?;
                    Some(i + 1)
                }
            },
            (Some(n), _) => match ampm(n) {
                Some(half) if value.whole < 24 => {
                    self.hour = Some(adjust_ampm(value.whole, half));
                    Some(i + 1)
                }
                _ if self.ymd.could_be_day(value.whole >= 1, |last| value.at_most(last))? => {
                    self.push_decimal(&value)?;
                    Some(i)
                }
                _ => None,
            },
        }
    }

    fn push_decimal(&mut self, value: &Decimal<'_>) -> Option<()> {
        self.ymd.push_number(value.whole, !value.at_most(100), None)
    }

    /// YYMMDD, or HHMMSS with a fraction.
    fn six_digits(&mut self, text: &str) -> Option<()> {
        if self.ymd.len() == 0 && !text.contains('.') {
            self.ymd.push_text(part(text, 0, 2), None)?;
            self.ymd.push_text(part(text, 2, 4), None)?;
            return self.ymd.push_text(part(text, 4, 6), None);
        }
        self.hour = Some(integer(part(text, 0, 2))?);
        self.minute = Some(integer(part(text, 2, 4))?);
        self.seconds(part(text, 4, text.len()))
    }

    /// YYYYMMDD, with HHMM or HHMMSS after it.
    fn compact(&mut self, text: &str) -> Option<()> {
        self.ymd.push_text(part(text, 0, 4), Some(Label::Year))?;
        self.ymd.push_text(part(text, 4, 6), None)?;
        self.ymd.push_text(part(text, 6, 8), None)?;
        if text.len() > 8 {
            self.hour = Some(integer(part(text, 8, 10))?);
            self.minute = Some(integer(part(text, 10, 12))?);
        }
        if text.len() > 12 {
            self.second = Some(integer(part(text, 12, 14))?);
        }
        Some(())
    }

    /// Seconds with up to six digits of a fraction.
    fn seconds(&mut self, text: &str) -> Option<()> {
        let (second, microsecond) = match text.split_once('.') {
            None => (integer(text)?, 0),
            Some((whole, fraction)) => (integer(whole)?, integer(part(&format!("{fraction:0<6}"), 0, 6))?),
        };
        self.second = Some(second);
        self.microsecond = Some(microsecond);
        Some(())
    }

    fn minutes(&mut self, value: &Decimal<'_>) {
        self.minute = Some(value.whole);
        self.second = value.sixtieths();
    }

    /// A number with `h`, `m` or `s` after it, or before it: then it is the next unit.
    fn with_unit(&mut self, tokens: &[String], i: usize, unit_at: usize) -> Option<usize> {
        let text = tokens.get(i)?;
        let unit = hms(tokens.get(unit_at)?)?;
        let (unit, last) = if unit_at > i { (unit, unit_at) } else { (unit + 1, i) };
        let value = Decimal::read(text)?;
        match unit {
            0 => {
                self.hour = Some(value.whole);
                self.minute = value.sixtieths().or(self.minute);
            }
            1 => self.minutes(&value),
            2 => self.seconds(text)?,
            _ => {}
        }
        Some(last)
    }

    /// HH:MM, with seconds.
    fn clock(&mut self, tokens: &[String], i: usize, hour: &Decimal<'_>, minutes: &str) -> Option<usize> {
        self.hour = Some(hour.whole);
        let minutes = Decimal::read(minutes)?;
        self.minutes(&minutes);
        match (tokens.get(i + 3).map(String::as_str), tokens.get(i + 4)) {
            (Some(":"), Some(seconds)) => {
                self.seconds(seconds)?;
                Some(i + 4)
            }
            _ => Some(i + 2),
        }
    }

    /// 01-01, 01-Jan, 01-01-01 and the like.
    fn separated(&mut self, tokens: &[String], i: usize, separator: &str) -> Option<usize> {
        let at = |i: usize| tokens.get(i).map(String::as_str);
        self.ymd.push_text(at(i)?, None)?;
        let Some(second) = at(i + 2).filter(|t| !is_jump(t)) else {
            return Some(i + 1);
        };
        if second.bytes().all(|b| b.is_ascii_digit()) {
            self.ymd.push_text(second, None)?;
        } else {
            self.ymd.push_number(month(second)?, false, Some(Label::Month))?;
        }
        if at(i + 3) != Some(separator) {
            return Some(i + 2);
        }
        let third = at(i + 4)?;
        match month(third) {
            Some(month) => self.ymd.push_number(month, false, Some(Label::Month))?,
            None => self.ymd.push_text(third, None)?,
        }
        Some(i + 4)
    }
}

/// Where the unit of the number at `i` stands.
fn find_hms(tokens: &[String], i: usize) -> Option<usize> {
    let is_hms = |i: usize| tokens.get(i).is_some_and(|t| hms(t).is_some());
    let is_space = |i: usize| tokens.get(i).is_some_and(|t| t == " ");
    if is_hms(i + 1) {
        Some(i + 1)
    } else if is_space(i + 1) && is_hms(i + 2) {
        Some(i + 2)
    } else if i > 0 && is_hms(i - 1) {
        Some(i - 1)
    } else if i > 1 && i + 1 == tokens.len() && is_space(i - 1) && is_hms(i - 2) {
        Some(i - 2)
    } else {
        None
    }
}

/// The hour of the day after `am` (0) or `pm` (1).
pub(super) fn adjust_ampm(hour: i64, half: u8) -> i64 {
    match (hour, half) {
        (..12, 1) => hour + 12,
        (12, 0) => 0,
        _ => hour,
    }
}
