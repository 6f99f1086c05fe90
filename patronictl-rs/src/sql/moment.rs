//! Dates and times as Python's `datetime` has them: years 1 to 9999, and no infinity.

use jiff::civil::DateTime;
use jiff::SignedDuration;
use pyfmt::value::str_repr;

use super::interval::timedelta;
use super::load::LoadError;
use super::object::Object;

/// The order of the parts of a date, by the session's `DateStyle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Iso,
    /// German, and SQL with the day first.
    DayFirst,
    /// SQL with the month first.
    MonthFirst,
    /// PostgreSQL's own, the day before the month or behind it.
    Postgres {
        day_first: bool,
    },
}

impl Order {
    /// From the setting's text.
    pub fn parse(style: &str) -> Order {
        let day_first = style.ends_with("DMY");
        match style.as_bytes().first() {
            Some(b'G') => Order::DayFirst,
            Some(b'S') if day_first => Order::DayFirst,
            Some(b'S') => Order::MonthFirst,
            Some(b'P') => Order::Postgres { day_first },
            _ => Order::Iso,
        }
    }
}

/// The session's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// `repr()` of it.
    repr: String,
    /// Python does not know the server's, and takes UTC.
    unknown: bool,
}

impl Zone {
    /// The zone that the server names.
    pub fn named(name: Option<&str>) -> Zone {
        let utc = |unknown| Zone { repr: "datetime.timezone.utc".to_owned(), unknown };
        match name {
            None | Some("UTC") => utc(false),
            Some(name) if jiff::tz::TimeZone::get(name).is_ok() => {
                Zone { repr: format!("zoneinfo.ZoneInfo(key={})", str_repr(name)), unknown: false }
            }
            Some(_) => utc(true),
        }
    }

    /// Does Python not know the zone?
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A `date`.
///
/// # Errors
/// Python's calendar does not have it.
pub fn date(text: &str, order: Order) -> Result<Object, LoadError> {
    let failed = |why: &str| LoadError::Data(format!("{why}: {}", str_repr(text)));
    let part = |range| text.get(range).and_then(number);
    let parts = match order {
        Order::Iso => (part(0..4), part(5..7), text.get(8..).and_then(number)),
        Order::DayFirst | Order::Postgres { day_first: true } => {
            (text.get(6..).and_then(number), part(3..5), part(0..2))
        }
        Order::MonthFirst | Order::Postgres { day_first: false } => {
            (text.get(6..).and_then(number), part(0..2), part(3..5))
        }
    };
    match parts {
        (Some(year @ 1..=9999), Some(month), Some(day)) => Ok(Object::Other {
            class: "date",
            text: format!("{year:04}-{month:02}-{day:02}"),
            repr: format!("datetime.date({year}, {month}, {day})"),
        }),
        _ if text == "infinity" || first_word(text).len() > 10 => {
            Err(failed("date too large (after year 10K)"))
        }
        _ if text == "-infinity" || text.contains("BC") => Err(failed("date too small (before year 1)")),
        _ => Err(failed("can't parse date")),
    }
}

/// A `time`.
///
/// # Errors
/// 24:00:00 is none for Python.
pub fn time(text: &str) -> Result<Object, LoadError> {
    let clock =
        Clock::parse(text).ok_or_else(|| LoadError::Data(format!("can't parse time {}", str_repr(text))))?;
    clock.valid("time", text)?;
    Ok(Object::Other {
        class: "time",
        text: clock.text(),
        repr: format!("datetime.time({})", clock.arguments()),
    })
}

/// A `time` with an offset.
///
/// # Errors
/// As [`time`].
pub fn timetz(text: &str) -> Result<Object, LoadError> {
    let parsed = text.find(['+', '-']).map(|at| text.split_at(at));
    let parsed = parsed.and_then(|(clock, zone)| Some((Clock::parse(clock)?, Offset::parse(zone)?)));
    let (clock, offset) =
        parsed.ok_or_else(|| LoadError::Data(format!("can't parse timetz {}", str_repr(text))))?;
    clock.valid("timetz", text)?;
    Ok(Object::Other {
        class: "time",
        text: format!("{}{}", clock.text(), offset.text()),
        repr: format!("datetime.time({}, tzinfo={})", clock.arguments(), offset.repr()),
    })
}

/// A `datetime`.
///
/// # Errors
/// Python's calendar does not have it.
pub fn timestamp(text: &str, order: Order) -> Result<Object, LoadError> {
    let moment = Moment::parse(text, order).ok_or_else(|| unreadable(text, order))?;
    Ok(moment.object(None))
}

/// A `datetime` in the session's time zone.
///
/// # Errors
/// As [`timestamp`]; and the driver reads only the ISO style.
pub fn timestamptz(text: &str, style: &str, zone: &Zone) -> Result<Object, LoadError> {
    if Order::parse(style) != Order::Iso {
        return Err(LoadError::Crash(format!(
            "NotImplementedError: can't parse timestamptz with DateStyle {}: {}",
            str_repr(style),
            str_repr(text)
        )));
    }
    let start = text.find(' ').unwrap_or(0);
    let at = text.get(start..).and_then(|rest| rest.find(['+', '-'])).map(|at| start + at);
    let parsed = at.map(|at| text.split_at(at));
    let parsed = parsed
        .and_then(|(moment, offset)| Some((Moment::parse(moment, Order::Iso)?, Offset::parse(offset)?)));
    let (moment, offset) = parsed.ok_or_else(|| unreadable(text, Order::Iso))?;
    if zone.unknown {
        let moment = moment.earlier(offset.seconds).ok_or_else(|| unreadable(text, Order::Iso))?;
        return Ok(moment.object(Some((Offset { seconds: 0 }, &zone.repr))));
    }
    Ok(moment.object(Some((offset, &zone.repr))))
}

fn unreadable(text: &str, order: Order) -> LoadError {
    let too_long = match order {
        Order::Postgres { .. } => text.split(' ').next_back().is_some_and(|year| year.len() > 4),
        _ => first_word(text).len() > 10,
    };
    let why = if text == "-infinity" || text.ends_with("BC") {
        "timestamp too small (before year 1)"
    } else if text == "infinity" || too_long {
        "timestamp too large (after year 10K)"
    } else {
        "can't parse timestamp"
    };
    LoadError::Data(format!("{why}: {}", str_repr(text)))
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clock {
    hour: u32,
    minute: u32,
    second: u32,
    microsecond: u32,
}

impl Clock {
    fn parse(text: &str) -> Option<Clock> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let mut parts = whole.splitn(3, ':').map(number);
        let [hour, minute, second] = [parts.next()??, parts.next()??, parts.next()??];
        let microsecond = number(&format!("{fraction:0<6}"))?;
        Some(Clock { hour, minute, second, microsecond })
    }

    fn valid(self, what: &str, text: &str) -> Result<(), LoadError> {
        if self.hour < 24 {
            return Ok(());
        }
        Err(LoadError::Data(format!("can't parse {what} {}: hour must be in 0..23", str_repr(text))))
    }

    fn text(self) -> String {
        let Clock { hour, minute, second, microsecond } = self;
        let fraction = if microsecond == 0 { String::new() } else { format!(".{microsecond:06}") };
        format!("{hour:02}:{minute:02}:{second:02}{fraction}")
    }

    /// As in `repr()`: seconds and less only where they are not zero.
    fn arguments(self) -> String {
        let Clock { hour, minute, second, microsecond } = self;
        match (second, microsecond) {
            (0, 0) => format!("{hour}, {minute}"),
            (_, 0) => format!("{hour}, {minute}, {second}"),
            _ => format!("{hour}, {minute}, {second}, {microsecond}"),
        }
    }
}

/// A distance from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    seconds: i64,
}

impl Offset {
    /// `+02`, `-02:30`, `+05:30:15`.
    fn parse(text: &str) -> Option<Offset> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+')?),
        };
        let mut seconds = 0;
        for (part, unit) in rest.split(':').zip([3600, 60, 1]) {
            seconds += i64::from(number(part)?) * unit;
        }
        Some(Offset { seconds: sign * seconds })
    }

    fn text(self) -> String {
        let sign = if self.seconds < 0 { '-' } else { '+' };
        let seconds = self.seconds.abs();
        let rest = if seconds % 60 == 0 { String::new() } else { format!(":{:02}", seconds % 60) };
        format!("{sign}{:02}:{:02}{rest}", seconds / 3600, seconds / 60 % 60)
    }

    fn repr(self) -> String {
        if self.seconds == 0 {
            return "datetime.timezone.utc".to_owned();
        }
        format!("datetime.timezone({})", timedelta(i128::from(self.seconds) * 1_000_000).repr())
    }
}

/// A date and a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    year: u32,
    month: u32,
    day: u32,
    clock: Clock,
}

impl Moment {
    fn parse(text: &str, order: Order) -> Option<Moment> {
        if let Order::Postgres { day_first } = order {
            let mut words = text.split(' ').skip(1);
            let (first, second) = (words.next()?, words.next()?);
            let (day, month) = if day_first { (first, second) } else { (second, first) };
            let month = u32::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
            let clock = Clock::parse(words.next()?)?;
            let year = number(words.next()?)?;
            return Moment { year, month, day: number(day)?, clock }.valid(words.next());
        }
        let (date, rest) = text.split_once(' ')?;
        let (clock, beyond) =
            rest.split_once(' ').map_or((rest, None), |(clock, beyond)| (clock, Some(beyond)));
        let mut parts = date.splitn(3, ['-', '/', '.']).map(number);
        let parts = [parts.next()??, parts.next()??, parts.next()??];
        let [year, month, day] = match (order, parts) {
            (Order::Iso, parts) => parts,
            (Order::MonthFirst, [month, day, year]) => [year, month, day],
            (_, [day, month, year]) => [year, month, day],
        };
        Moment { year, month, day, clock: Clock::parse(clock)? }.valid(beyond)
    }

    fn valid(self, beyond: Option<&str>) -> Option<Moment> {
        (beyond.is_none() && (1..=9999).contains(&self.year)).then_some(self)
    }

    fn object(self, zone: Option<(Offset, &str)>) -> Object {
        let Moment { year, month, day, clock } = self;
        let (offset, zone) = match zone {
            Some((offset, repr)) => (offset.text(), format!(", tzinfo={repr}")),
            None => (String::new(), String::new()),
        };
        Object::Other {
            class: "datetime",
            text: format!("{year:04}-{month:02}-{day:02} {}{offset}", clock.text()),
            repr: format!("datetime.datetime({year}, {month}, {day}, {}{zone})", clock.arguments()),
        }
    }

    fn earlier(self, seconds: i64) -> Option<Moment> {
        let small = |n: u32| i8::try_from(n).ok();
        let Clock { hour, minute, second, microsecond } = self.clock;
        let moment = DateTime::new(
            i16::try_from(self.year).ok()?,
            small(self.month)?,
            small(self.day)?,
            small(hour)?,
            small(minute)?,
            small(second)?,
            0,
        );
        let moment = moment.ok()?.checked_sub(SignedDuration::from_secs(seconds)).ok()?;
        let part = |n: i8| u32::try_from(n).ok();
        let (hour, minute, second) = (part(moment.hour())?, part(moment.minute())?, part(moment.second())?);
        let clock = Clock { hour, minute, second, microsecond };
        let year = u32::try_from(moment.year()).ok()?;
        Moment { year, month: part(moment.month())?, day: part(moment.day())?, clock }.valid(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn both(result: Result<Object, LoadError>) -> (String, String) {
        let object = result.unwrap();
        (object.text(), object.repr())
    }

    fn pair(text: &str, repr: &str) -> (String, String) {
        (text.to_owned(), repr.to_owned())
    }

    #[test]
    fn dates_and_times() {
        let first = pair("0001-01-01", "datetime.date(1, 1, 1)");
        assert_eq!(both(date("0001-01-01", Order::Iso)), first);
        assert_eq!(both(date("01/01/0001", Order::MonthFirst)), first);
        assert_eq!(both(time("04:05:06.7")), pair("04:05:06.700000", "datetime.time(4, 5, 6, 700000)"));
        assert_eq!(
            both(timetz("04:05:06-02:30")),
            pair(
                "04:05:06-02:30",
                "datetime.time(4, 5, 6, tzinfo=datetime.timezone(datetime.timedelta(days=-1, seconds=77400)))"
            )
        );
        let moment = pair("2001-02-03 04:05:06.700000", "datetime.datetime(2001, 2, 3, 4, 5, 6, 700000)");
        for (text, style) in [
            ("2001-02-03 04:05:06.7", "ISO, MDY"),
            ("03.02.2001 04:05:06.7", "German, DMY"),
            ("02/03/2001 04:05:06.7", "SQL, MDY"),
            ("Sat Feb 03 04:05:06.7 2001", "Postgres, MDY"),
            ("Sat 03 Feb 04:05:06.7 2001", "Postgres, DMY"),
        ] {
            assert_eq!(both(timestamp(text, Order::parse(style))), moment, "{text}");
        }
    }

    #[test]
    fn zones() {
        let with = |text: &str, zone| both(timestamptz(text, "ISO, MDY", &Zone::named(zone)));
        assert_eq!(
            with("2001-02-03 00:00:00+05:30", Some("Asia/Kolkata")),
            pair(
                "2001-02-03 00:00:00+05:30",
                "datetime.datetime(2001, 2, 3, 0, 0, tzinfo=zoneinfo.ZoneInfo(key='Asia/Kolkata'))"
            )
        );
        let utc = "datetime.datetime(2001, 2, 2, 21, 0, tzinfo=datetime.timezone.utc)";
        assert_eq!(with("2001-02-03 00:00:00+03", Some("<+03>-03")), pair("2001-02-02 21:00:00+00:00", utc));
        let crash = "NotImplementedError: can't parse timestamptz with DateStyle 'German, DMY': 'x'";
        assert_eq!(
            timestamptz("x", "German, DMY", &Zone::named(None)).unwrap_err(),
            LoadError::Crash(crash.into())
        );
    }

    #[test]
    fn what_python_does_not_have() {
        for (result, error) in [
            (date("infinity", Order::Iso), "date too large (after year 10K): 'infinity'"),
            (date("0001-01-01 BC", Order::Iso), "date too small (before year 1): '0001-01-01 BC'"),
            (date("10000-01-01", Order::Iso), "date too large (after year 10K): '10000-01-01'"),
            (time("24:00:00"), "can't parse time '24:00:00': hour must be in 0..23"),
            (timetz("24:00:00+00"), "can't parse timetz '24:00:00+00': hour must be in 0..23"),
            (
                timestamp("0001-01-01 00:00:00 BC", Order::Iso),
                "timestamp too small (before year 1): '0001-01-01 00:00:00 BC'",
            ),
            (
                timestamptz("20000-01-01 00:00:00+00", "ISO, MDY", &Zone::named(None)),
                "timestamp too large (after year 10K): '20000-01-01 00:00:00+00'",
            ),
        ] {
            assert_eq!(result.unwrap_err(), LoadError::Data(error.into()));
        }
    }
}
