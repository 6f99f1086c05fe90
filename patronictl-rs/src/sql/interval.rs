//! Intervals as Python's `timedelta`: a month counts 30 days and a year 365, as the reference's driver has it.

use pyfmt::value::str_repr;

use super::load::LoadError;
use super::object::Object;

const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;

/// A `timedelta`, from PostgreSQL's default style.
///
/// # Errors
/// More days than Python can count.
pub fn load(text: &str) -> Result<Object, LoadError> {
    let failed = |why: String| LoadError::Data(format!("can't parse interval {}{why}", str_repr(text)));
    let microseconds = parse(text).ok_or_else(|| failed(String::new()))?;
    let days = microseconds.div_euclid(DAY);
    if days.abs() > 999_999_999 {
        return Err(failed(format!(": days={days}; must have magnitude <= 999999999")));
    }
    Ok(timedelta(microseconds))
}

/// `1 mon 2 days 03:04:05.5` in microseconds.
fn parse(text: &str) -> Option<i128> {
    let mut words = text.split_whitespace();
    // The driver counts days in 32 bits.
    let mut days: i32 = 0;
    let mut microseconds = 0;
    while let Some(word) = words.next() {
        if word.contains(':') {
            microseconds = clock(word)?;
            continue;
        }
        let count: i32 = word.parse().ok()?;
        let unit: i32 = match words.next()?.trim_end_matches('s') {
            "year" => 365,
            "mon" => 30,
            "day" => 1,
            _ => return None,
        };
        days = days.wrapping_add(count.wrapping_mul(unit));
    }
    Some(i128::from(days) * DAY + microseconds)
}

/// `[-+]HH:MM:SS[.ffffff]` in microseconds.
fn clock(text: &str) -> Option<i128> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim_start_matches('+')),
    };
    let mut parts = text.split(':');
    let hours: i128 = parts.next()?.parse().ok()?;
    let minutes: i128 = parts.next()?.parse().ok()?;
    let (seconds, fraction) = parts.next().map_or(("0", ""), |s| s.split_once('.').unwrap_or((s, "")));
    let seconds: i128 = seconds.parse().ok()?;
    let fraction: i128 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(sign * ((hours * 3600 + minutes * 60 + seconds) * SECOND + fraction))
}

/// `str` and `repr` of a `timedelta`: only the days may be negative.
pub fn timedelta(microseconds: i128) -> Object {
    let days = microseconds.div_euclid(DAY);
    let rest = microseconds.rem_euclid(DAY);
    let (seconds, fraction) = (rest / SECOND, rest % SECOND);
    let mut text = String::new();
    if days != 0 {
        let plural = if days.abs() == 1 { "" } else { "s" };
        text.push_str(&format!("{days} day{plural}, "));
    }
    text.push_str(&format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    if fraction != 0 {
        text.push_str(&format!(".{fraction:06}"));
    }
    let parts = [("days", days), ("seconds", seconds), ("microseconds", fraction)];
    let told: Vec<String> =
        parts.iter().filter(|(_, n)| *n != 0).map(|(name, n)| format!("{name}={n}")).collect();
    let told = if told.is_empty() { "0".to_owned() } else { told.join(", ") };
    Object::Other { class: "timedelta", text, repr: format!("datetime.timedelta({told})") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn intervals() {
        for (text, shown) in [
            ("00:00:00", "0:00:00"),
            ("1 day 02:00:03.5", "1 day, 2:00:03.500000"),
            ("-1 mons", "-30 days, 0:00:00"),
            ("1 year 2 mons 3 days", "428 days, 0:00:00"),
            ("-00:00:01", "-1 day, 23:59:59"),
        ] {
            assert_eq!(load(text).unwrap().text(), shown, "{text}");
        }
        assert_eq!(load("-00:00:01").unwrap().repr(), "datetime.timedelta(days=-1, seconds=86399)");
        assert_eq!(load("00:00:00").unwrap().repr(), "datetime.timedelta(0)");
        for (text, days) in [("1000000000 days", 1_000_000_000), ("100000000 years", 2_140_261_632)] {
            let error =
                format!("can't parse interval '{text}': days={days}; must have magnitude <= 999999999");
            assert_eq!(load(text).unwrap_err(), LoadError::Data(error));
        }
    }
}
