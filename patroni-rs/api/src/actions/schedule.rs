//! Times in requests (surface-api-ctl P16).

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::Timestamp;
use pyfmt::datetime::{self, DateError, DateTime, Locale};
use pyfmt::Value;

use crate::http::response::Response;

/// A time to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// `isoformat()`: with `T` and the offset as given.
    pub iso: String,
    /// Microseconds of the epoch.
    pub at_us: i64,
}

/// Microseconds of the epoch, now.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Reads a time that must have a zone and be to come, in any notation that dateutil
/// reads.
///
/// # Errors
/// The refusal to answer.
pub fn parse(value: &Value, action: &str, now_us: i64) -> Result<Time, Response> {
    let read = match value.as_str().map(read) {
        Some(Ok(time)) => time,
        Some(Err(DateError::Overflow(text))) => return Err(Response::Drop(format!("OverflowError: {text}"))),
        Some(Err(DateError::Value(text))) => return Err(unreadable(value, action, &text)),
        None => return Err(unreadable(value, action, "Parser must be a string or character stream")),
    };
    if read.offset.is_none() {
        let text = format!("Timezone information is mandatory for the scheduled {action}");
        return Err(Response::text(400, text));
    }
    let at_us = read.unix_microseconds();
    if at_us < now_us {
        return Err(Response::text(422, format!("Cannot schedule {action} in the past")));
    }
    Ok(Time { iso: read.isoformat(), at_us })
}

fn unreadable(value: &Value, action: &str, reason: &str) -> Response {
    let shown = value.py_str();
    tracing::error!(target: "patroni.api", exc = %reason, "Invalid scheduled {action} time: {shown}");
    let text = "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601";
    Response::text(422, text)
}

/// Reads a text with the help of the local date and zone.
fn read(text: &str) -> Result<DateTime, DateError> {
    let zone = TimeZone::system();
    let now = Timestamp::now().to_zoned(zone.clone());
    let today = (i32::from(now.year()), now.month().unsigned_abs().into(), now.day().unsigned_abs().into());
    let [winter, summer] = zone_names(&zone, now.year());
    let locale = Locale {
        today,
        zone_names: [&winter, &summer],
        offset_at: &|time| offset_at(&zone, time).unwrap_or(0),
    };
    datetime::parse(text, &locale)
}

/// `time.tzname`: standard and summer time.
fn zone_names(zone: &TimeZone, year: i16) -> [String; 2] {
    let half = |month| {
        let local = jiff::civil::date(year, month, 1).at(0, 0, 0, 0);
        let info = zone.to_ambiguous_timestamp(local).compatible().ok();
        info.map(|at| {
            let info = zone.to_offset_info(at);
            (info.abbreviation().to_owned(), info.dst().is_dst())
        })
    };
    match (half(1).unwrap_or_default(), half(7).unwrap_or_default()) {
        ((summer, true), (winter, false)) | ((winter, _), (summer, _)) => [winter, summer],
    }
}

fn offset_at(zone: &TimeZone, time: &DateTime) -> Option<i32> {
    let (year, month, day) = (time.year, time.month, time.day);
    let date =
        Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let (hour, minute, second) = (time.hour, time.minute, time.second);
    let local = date.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, i8::try_from(second).ok()?, 0);
    let at = zone.to_ambiguous_timestamp(local).compatible().ok()?;
    Some(zone.to_offset(at).seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let past = "Cannot schedule restart in the past";
        let naive = "Timezone information is mandatory for the scheduled restart";
        let garbage =
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601";
        for (text, expected) in [
            ("2030-01-01T00:00:00Z", Ok("2030-01-01T00:00:00+00:00")),
            ("2030-01-01T00:00:00.5+02:00", Ok("2030-01-01T00:00:00.500000+02:00")),
            ("2030-01-01 10:00 +02:00", Ok("2030-01-01T10:00:00+02:00")),
            ("2030-01-01T10:00-3", Ok("2030-01-01T10:00:00-03:00")),
            ("Jan 1 2030 10am UTC", Ok("2030-01-01T10:00:00+00:00")),
            ("2030-01-01T10:00 UTC", Ok("2030-01-01T10:00:00+00:00")),
            ("2020-01-01T00:00:00Z", Err((422, past))),
            ("2030-01-01T00:00:00", Err((400, naive))),
            ("2030-01-01", Err((400, naive))),
            ("garbage", Err((422, garbage))),
            ("", Err((422, garbage))),
            ("2030-13-01T00:00Z", Err((422, garbage))),
        ] {
            let found = parse(&Value::from(text), "restart", 1_800_000_000_000_000);
            let found = found.map(|t| t.iso).map_err(|r| match r {
                Response::Full(f) => (f.code, f.body),
                other => panic!("{other:?}"),
            });
            assert_eq!(
                found,
                expected.map(str::to_owned).map_err(|(c, t): (u16, &str)| (c, t.to_owned())),
                "{text}"
            );
        }
        assert!(parse(&Value::Null, "restart", 0).is_err());
    }
}
