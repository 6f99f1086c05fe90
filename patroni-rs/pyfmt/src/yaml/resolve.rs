//! Which type a plain scalar is: the YAML 1.1 patterns of PyYAML 6.0.3's
//! resolver.py (MIT), matched by hand.

/// A node's tag. The named ones are YAML's own, `tag:yaml.org,2002:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    Null,
    Bool,
    Int,
    Float,
    Binary,
    Timestamp,
    Omap,
    Pairs,
    Set,
    Str,
    Seq,
    Map,
    Merge,
    Value,
    Other(String),
}

const PREFIX: &str = "tag:yaml.org,2002:";

const NAMES: [(&str, Tag); 14] = [
    ("null", Tag::Null),
    ("bool", Tag::Bool),
    ("int", Tag::Int),
    ("float", Tag::Float),
    ("binary", Tag::Binary),
    ("timestamp", Tag::Timestamp),
    ("omap", Tag::Omap),
    ("pairs", Tag::Pairs),
    ("set", Tag::Set),
    ("str", Tag::Str),
    ("seq", Tag::Seq),
    ("map", Tag::Map),
    ("merge", Tag::Merge),
    ("value", Tag::Value),
];

impl Tag {
    /// The tag that a document spells out.
    pub fn explicit(full: &str) -> Tag {
        full.strip_prefix(PREFIX)
            .and_then(|name| NAMES.iter().find(|(n, _)| *n == name))
            .map_or_else(|| Tag::Other(full.to_owned()), |(_, tag)| tag.clone())
    }

    /// The tag in full, as error messages show it.
    pub fn full(&self) -> String {
        match self {
            Tag::Other(full) => full.clone(),
            tag => format!("{PREFIX}{}", tag.name()),
        }
    }

    /// The last part of the tag: `int`.
    pub fn name(&self) -> &str {
        match self {
            Tag::Other(full) => full,
            tag => NAMES.iter().find(|(_, t)| t == tag).map_or("", |(name, _)| name),
        }
    }
}

/// The type of a plain scalar.
pub(super) fn resolve(text: &str) -> Tag {
    // Python's `$` also matches before a line feed at the end.
    let text = text.strip_suffix('\n').unwrap_or(text);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Tag::Null,
        "<<" => Tag::Merge,
        "=" => Tag::Value,
        _ if is_bool(text) => Tag::Bool,
        _ => resolve_number(text.as_bytes()),
    }
}

fn resolve_number(text: &[u8]) -> Tag {
    match text.first() {
        Some(b'-' | b'+' | b'.' | b'0'..=b'9') => {}
        _ => return Tag::Str,
    }
    if is_float(text) {
        Tag::Float
    } else if is_int(text) {
        Tag::Int
    } else if is_timestamp(text) {
        Tag::Timestamp
    } else {
        Tag::Str
    }
}

fn is_bool(text: &str) -> bool {
    const WORDS: [&str; 6] = ["yes", "no", "true", "false", "on", "off"];
    let rest = text.get(1..).unwrap_or_default();
    // All lower, all upper, or a capital and lower letters.
    let cased = text.bytes().all(|b| b.is_ascii_lowercase())
        || text.bytes().all(|b| b.is_ascii_uppercase())
        || (text.starts_with(|c: char| c.is_ascii_uppercase())
            && rest.bytes().all(|b| b.is_ascii_lowercase()));
    cased && WORDS.iter().any(|w| w.eq_ignore_ascii_case(text))
}

fn digit_or_underscore(b: u8) -> bool {
    b.is_ascii_digit() || b == b'_'
}

/// Splits off the longest start of bytes for which `keep` holds.
fn split(text: &[u8], keep: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let at = text.iter().position(|b| !keep(*b)).unwrap_or(text.len());
    text.split_at(at)
}

fn unsigned(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text)
}

/// Nothing, or `e+5`: YAML 1.1 wants the sign.
fn is_exponent(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b'e' | b'E', b'-' | b'+', digits @ ..] => {
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

/// The parts after a number of base 60: one or more of `:59`. Gives what follows.
fn sexagesimal(mut text: &[u8]) -> Option<&[u8]> {
    let mut any = false;
    while let [b':', rest @ ..] = text {
        text = match rest {
            [b'0'..=b'5', b'0'..=b'9', rest @ ..] | [b'0'..=b'9', rest @ ..] => rest,
            _ => return None,
        };
        any = true;
    }
    any.then_some(text)
}

fn is_float(text: &[u8]) -> bool {
    let number = unsigned(text);
    if matches!(number, b".inf" | b".Inf" | b".INF") || matches!(text, b".nan" | b".NaN" | b".NAN") {
        return true;
    }
    if let [b'.', b'0'..=b'9', rest @ ..] = text {
        return is_exponent(split(rest, digit_or_underscore).1);
    }
    if !number.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let (_, rest) = split(number, digit_or_underscore);
    if let [b'.', rest @ ..] = rest {
        return is_exponent(split(rest, digit_or_underscore).1);
    }
    match sexagesimal(rest) {
        Some([b'.', rest @ ..]) => rest.iter().all(|b| digit_or_underscore(*b)),
        _ => false,
    }
}

fn is_int(text: &[u8]) -> bool {
    let number = unsigned(text);
    let all = |digits: &[u8], keep: fn(u8) -> bool| !digits.is_empty() && digits.iter().all(|b| keep(*b));
    match number {
        [b'0'] => true,
        [b'0', b'b', digits @ ..] => all(digits, |b| matches!(b, b'0' | b'1' | b'_')),
        [b'0', b'x', digits @ ..] => all(digits, |b| b.is_ascii_hexdigit() || b == b'_'),
        [b'0', digits @ ..] => all(digits, |b| matches!(b, b'0'..=b'7' | b'_')),
        [b'1'..=b'9', ..] => {
            let (_, rest) = split(number, digit_or_underscore);
            rest.is_empty() || sexagesimal(rest).is_some_and(<[u8]>::is_empty)
        }
        _ => false,
    }
}

fn is_timestamp(text: &[u8]) -> bool {
    let digits = |part: &[u8], most: usize| {
        !part.is_empty() && part.len() <= most && part.iter().all(u8::is_ascii_digit)
    };
    if let [y @ .., b'-', a, b, b'-', c, d] = text {
        if y.len() == 4 && digits(y, 4) && digits(&[*a, *b], 2) && digits(&[*c, *d], 2) {
            return true;
        }
    }
    Timestamp::read(text).is_some_and(|t| t.time.is_some())
}

/// The parts of a YAML timestamp.
#[derive(Debug, Default)]
pub(super) struct Timestamp {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    pub time: Option<Time>,
}

/// The time of day of a YAML timestamp.
#[derive(Debug, Default)]
pub(super) struct Time {
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub microsecond: u32,
    /// Seconds east of Greenwich.
    pub offset: Option<i32>,
}

impl Timestamp {
    /// The pattern of SafeConstructor, which takes `2001-1-1` too.
    pub fn read(text: &[u8]) -> Option<Timestamp> {
        let (year, rest) = number(text, 4, 4)?;
        let (month, rest) = number(rest.strip_prefix(b"-")?, 1, 2)?;
        let (day, rest) = number(rest.strip_prefix(b"-")?, 1, 2)?;
        let time = if rest.is_empty() { None } else { Some(Time::read(rest)?) };
        Some(Timestamp { year: u16::try_from(year).ok()?, month: month as u8, day: day as u8, time })
    }
}

impl Time {
    fn read(text: &[u8]) -> Option<Time> {
        let rest = match text {
            [b'T' | b't', rest @ ..] => rest,
            [b' ' | b'\t', rest @ ..] => split(rest, |b| matches!(b, b' ' | b'\t')).1,
            _ => return None,
        };
        let (hour, rest) = number(rest, 1, 2)?;
        let (minute, rest) = number(rest.strip_prefix(b":")?, 2, 2)?;
        let (second, rest) = number(rest.strip_prefix(b":")?, 2, 2)?;
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split(rest, |b| b.is_ascii_digit()),
            _ => (&[] as &[u8], rest),
        };
        let digit = |i: usize| fraction.get(i).map_or(0, |b| u32::from(b - b'0'));
        let microsecond = (0..6).fold(0, |n, i| n * 10 + digit(i));
        let zone = split(rest, |b| matches!(b, b' ' | b'\t')).1;
        // White space is only allowed before a zone.
        let offset = if rest.is_empty() { None } else { Some(read_offset(zone)?) };
        Some(Time { hour: hour as u8, minute: minute as u8, second: second as u8, microsecond, offset })
    }
}

fn read_offset(zone: &[u8]) -> Option<i32> {
    let (sign, rest) = match zone {
        [b'Z'] => return Some(0),
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => return None,
    };
    let (hours, rest) = number(rest, 1, 2)?;
    let (minutes, rest) = match rest {
        [] => (0, rest),
        [b':', rest @ ..] => number(rest, 2, 2)?,
        _ => return None,
    };
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    rest.is_empty().then_some(sign * seconds)
}

/// Between `least` and `most` digits, as many as there are.
fn number(text: &[u8], least: usize, most: usize) -> Option<(u32, &[u8])> {
    let length = text.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(length)?;
    (length >= least).then(|| (digits.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0')), rest))
}
