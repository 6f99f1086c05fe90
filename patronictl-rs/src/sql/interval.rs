//! Intervals as Python's `timedelta` prints them.

/// `1 mon 2 days 03:04:05.5` as `32 days, 3:04:05.500000`: a month counts 30
/// days and a year 365, as the reference's driver has it. `None` if the text
/// is not of PostgreSQL's default style.
pub fn python_text(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().peekable();
    let mut days: i64 = 0;
    let mut microseconds: i64 = 0;
    while let Some(word) = words.next() {
        if word.contains(':') {
            microseconds = clock(word)?;
            continue;
        }
        let count: i64 = word.parse().ok()?;
        let unit = match words.next()?.trim_end_matches('s') {
            "year" => 365,
            "mon" => 30,
            "day" => 1,
            _ => return None,
        };
        days = days.checked_add(count.checked_mul(unit)?)?;
    }
    Some(timedelta(days, microseconds))
}

/// `[-+]HH:MM:SS[.ffffff]` in microseconds.
fn clock(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim_start_matches('+')),
    };
    let mut parts = text.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let (seconds, fraction) = parts.next().map_or(("0", ""), |s| s.split_once('.').unwrap_or((s, "")));
    let seconds: i64 = seconds.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let total = hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)?;
    Some(sign * (total.checked_mul(1_000_000)? + fraction))
}

/// `str(timedelta)`: only the days may be negative.
fn timedelta(days: i64, microseconds: i64) -> String {
    const DAY: i64 = 86_400_000_000;
    let days = days + microseconds.div_euclid(DAY);
    let rest = microseconds.rem_euclid(DAY);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let mut text = String::new();
    if days != 0 {
        let plural = if days.abs() == 1 { "" } else { "s" };
        text.push_str(&format!("{days} day{plural}, "));
    }
    text.push_str(&format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    if fraction != 0 {
        text.push_str(&format!(".{fraction:06}"));
    }
    text
}

#[cfg(test)]
mod tests {
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
            assert_eq!(python_text(text).as_deref(), Some(shown), "{text}");
        }
        assert_eq!(python_text("P1D"), None);
    }
}
