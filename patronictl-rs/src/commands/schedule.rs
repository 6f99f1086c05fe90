//! Times of scheduled actions (surface-api-ctl C16, K17).

use jiff::civil;
use jiff::tz::TimeZone;
use pyfmt::datetime::{self, DateError, DateTime, Locale};

use crate::click::CliError;

/// A time with its zone, in the two ways the reference prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// With a `T`, as requests carry it.
    pub iso: String,
    /// With a space, as one question shows it.
    pub spaced: String,
}

/// Reads a time; nothing, an empty text and `now` mean at once. A time without
/// a zone is local. The name of a zone is understood if it is UTC's or the local one's; the reference takes the time
/// for local with any other, with a warning.
///
/// # Errors
/// The text is no time, or of a zone that is not understood.
pub fn parse(text: Option<&str>) -> Result<Option<At>, CliError> {
    let Some(text) = text.filter(|t| !t.is_empty() && *t != "now") else {
        return Ok(None);
    };
    let zone = TimeZone::system();
    let now = jiff::Timestamp::now().to_zoned(zone.clone());
    let today = (i32::from(now.year()), month_or_day(now.month()), month_or_day(now.day()));
    let names = [zone_name(&zone, now.year(), 1), zone_name(&zone, now.year(), 7)];
    let offset_at = |at: &DateTime| local_offset(&zone, at);
    let locale = Locale { today, zone_names: [names[0].as_str(), names[1].as_str()], offset_at: &offset_at };
    match datetime::parse_with_zone(text, &locale) {
        Ok((_, Some(name))) => Err(CliError::msg(format!(
            "Unable to parse scheduled timestamp ({text}). It should be in an unambiguous format (e.g. ISO 8601): \
             time zone {name} is not understood, write its offset (such as +02:00)"
        ))),
        Ok((mut at, None)) => {
            at.offset = at.offset.or_else(|| Some(local_offset(&zone, &at)));
            Ok(Some(At { iso: at.isoformat(), spaced: at.to_string() }))
        }
        Err(DateError::Value(_)) => Err(CliError::msg(format!(
            "Unable to parse scheduled timestamp ({text}). It should be in an unambiguous format (e.g. ISO 8601)"
        ))),
        Err(DateError::Overflow(text)) => Err(CliError::Crash(format!("OverflowError: {text}"))),
    }
}

fn month_or_day(number: i8) -> u32 {
    u32::from(number.unsigned_abs())
}

fn zone_name(zone: &TimeZone, year: i16, month: i8) -> String {
    let at = civil::Date::new(year, month, 1).ok().map(|d| d.at(0, 0, 0, 0));
    let at = at.and_then(|at| zone.to_timestamp(at).ok());
    at.map(|at| zone.to_offset_info(at).abbreviation().to_owned()).unwrap_or_default()
}

/// Seconds east of Greenwich of the local zone at a local time.
fn local_offset(zone: &TimeZone, at: &DateTime) -> i32 {
    let part = |n: u32| i8::try_from(n).unwrap_or_default();
    let year = i16::try_from(at.year).unwrap_or_default();
    let civil = civil::DateTime::new(
        year,
        part(at.month),
        part(at.day),
        part(at.hour),
        part(at.minute),
        part(at.second),
        0,
    );
    let stamp = civil.ok().and_then(|c| zone.to_timestamp(c).ok());
    stamp.map(|s| zone.to_offset(s).seconds()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(parse(None).unwrap(), None);
        assert_eq!(parse(Some("now")).unwrap(), None);
        let at = parse(Some("2030-01-01T10:00-3")).unwrap().unwrap();
        assert_eq!(
            (at.iso.as_str(), at.spaced.as_str()),
            ("2030-01-01T10:00:00-03:00", "2030-01-01 10:00:00-03:00")
        );
        assert_eq!(parse(Some("Jan 1 2030 10am UTC")).unwrap().unwrap().iso, "2030-01-01T10:00:00+00:00");
        for (text, name) in [
            ("2027-01-01 10:00 XST", "XST"),
            ("Jan 1 2027 10am ABCDE", "ABCDE"),
            ("2027-01-01T10:00 (XYZ)", ""),
        ] {
            let error = parse(Some(text)).unwrap_err().to_string();
            let named = error
                .ends_with(&format!("time zone {name} is not understood, write its offset (such as +02:00)"));
            assert!(error.starts_with("Unable to parse") && (named || name.is_empty()), "{error}");
        }
        // What is said of a zone with an offset is understood.
        assert_eq!(parse(Some("2027-01-01 10:00 EST-5")).unwrap().unwrap().iso, "2027-01-01T10:00:00+05:00");
        assert_eq!(
            parse(Some("2027-01-01 10:00 +0200 (CEST)")).unwrap().unwrap().iso,
            "2027-01-01T10:00:00+02:00"
        );
        for text in ["NOW", "tomorrow", "2030-13-01", "T25:00"] {
            assert_eq!(
                parse(Some(text)).unwrap_err().to_string(),
                format!(
                    "Unable to parse scheduled timestamp ({text}). \
                     It should be in an unambiguous format (e.g. ISO 8601)"
                )
            );
        }
    }
}
