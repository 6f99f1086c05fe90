//! The values of scalars. Follows PyYAML 6.0.3's SafeConstructor (constructor.py,
//! MIT), with the exceptions that Python's own conversions raise.

use super::error::{Fault, Mark, Result};
use super::resolve::{Tag, Timestamp};
use crate::value::{str_repr, Value};

/// Digits that Python converts between text and integer.
const MAX_DIGITS: usize = 4300;

pub(super) fn construct(tag: &Tag, text: &str, start: Mark) -> Result<Value> {
    match tag {
        Tag::Null => Ok(Value::Null),
        Tag::Bool => boolean(text),
        Tag::Int => integer(text),
        Tag::Float => float(text),
        Tag::Binary => binary(text, start),
        Tag::Timestamp => timestamp(text),
        _ => Ok(Value::Str(text.to_owned())),
    }
}

fn value_error<T>(message: impl Into<String>) -> Result<T> {
    Err(Fault::python("ValueError", message))
}

fn boolean(text: &str) -> Result<Value> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" => Ok(Value::Bool(true)),
        "no" | "false" | "off" => Ok(Value::Bool(false)),
        other => Err(Fault::python("KeyError", str_repr(other))),
    }
}

/// The text without `_`, split into "is negative" and the rest.
fn signed(text: &str) -> Result<(bool, String)> {
    let text = text.replace('_', "");
    let (negative, rest) = match text.as_bytes().first() {
        None => return Err(Fault::python("IndexError", "string index out of range")),
        Some(b'-') => (true, text.get(1..)),
        Some(b'+') => (false, text.get(1..)),
        Some(_) => (false, Some(text.as_str())),
    };
    Ok((negative, rest.unwrap_or_default().to_owned()))
}

fn integer(text: &str) -> Result<Value> {
    let (negative, text) = signed(text)?;
    let number = if text == "0" {
        Number::default()
    } else if let Some(digits) = text.strip_prefix("0b") {
        Number::parse(digits, 2)?
    } else if let Some(digits) = text.strip_prefix("0x") {
        Number::parse(digits, 16)?
    } else if text.is_empty() {
        return Err(Fault::python("IndexError", "string index out of range"));
    } else if text.starts_with('0') {
        Number::parse(&text, 8)?
    } else if text.contains(':') {
        return sexagesimal(negative, &text);
    } else {
        Number::parse(&text, 10)?
    };
    Ok(number.value(negative))
}

fn sexagesimal(negative: bool, text: &str) -> Result<Value> {
    let mut parts = text.split(':');
    let mut number = Number::parse(parts.next().unwrap_or_default(), 10)?;
    for part in parts {
        let digit = Number::parse(part, 10)?;
        match digit.value(false) {
            Value::Int(d @ 0..=0x7fff_ffff) if !number.negative => number.push(60, d.unsigned_abs() as u32),
            _ => return value_error(format!("invalid literal for int() with base 10: {}", str_repr(part))),
        }
    }
    Ok(number.value(negative))
}

/// An integer of any size: the magnitude in limbs of nine decimal digits, the least
/// first, as the text of the value is what is asked for.
#[derive(Default)]
struct Number {
    limbs: Vec<u32>,
    negative: bool,
}

impl Number {
    const LIMB: u64 = 1_000_000_000;

    /// Python's `int(text, base)`.
    fn parse(text: &str, base: u32) -> Result<Number> {
        let invalid = || format!("invalid literal for int() with base {base}: {}", str_repr(text));
        let trimmed = text.trim();
        let (negative, digits) = match trimmed.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
        };
        let prefixes = match base {
            2 => ["0b", "0B"],
            8 => ["0o", "0O"],
            16 => ["0x", "0X"],
            _ => ["", ""],
        };
        let digits = prefixes.iter().find_map(|p| digits.strip_prefix(p)).unwrap_or(digits);
        if digits.is_empty() {
            return value_error(invalid());
        }
        // Python has no limit for the bases that are powers of two, but for printing them.
        if digits.len() > MAX_DIGITS {
            return value_error(format!(
                "Exceeds the limit ({MAX_DIGITS} digits) for integer string conversion: value has {} digits; use sys.set_int_max_str_digits() to increase the limit",
                digits.len()
            ));
        }
        let mut number = Number { limbs: Vec::new(), negative };
        for c in digits.chars() {
            match c.to_digit(base) {
                Some(digit) => number.push(base, digit),
                None => return value_error(invalid()),
            }
        }
        Ok(number)
    }

    /// Multiplies by `base` and adds `digit`.
    fn push(&mut self, base: u32, digit: u32) {
        let mut carry = u64::from(digit);
        for limb in &mut self.limbs {
            let value = u64::from(*limb) * u64::from(base) + carry;
            *limb = (value % Number::LIMB) as u32;
            carry = value / Number::LIMB;
        }
        while carry > 0 {
            self.limbs.push((carry % Number::LIMB) as u32);
            carry /= Number::LIMB;
        }
    }

    fn value(&self, negate: bool) -> Value {
        let mut text = String::new();
        for limb in self.limbs.iter().rev() {
            if text.is_empty() {
                text.push_str(&limb.to_string());
            } else {
                text.push_str(&format!("{limb:09}"));
            }
        }
        if text.is_empty() {
            return Value::Int(0);
        }
        if self.negative != negate {
            text.insert(0, '-');
        }
        text.parse().map_or(Value::BigInt(text), Value::Int)
    }
}

fn float(text: &str) -> Result<Value> {
    let (negative, text) = signed(&text.to_lowercase())?;
    let sign = if negative { -1.0 } else { 1.0 };
    let number = match text.as_str() {
        ".inf" => f64::INFINITY,
        ".nan" => return Ok(Value::Float(f64::NAN)),
        _ if text.contains(':') => {
            let mut sum = 0.0;
            let mut base = 1.0;
            let parts = text.split(':').map(py_float).collect::<Result<Vec<f64>>>()?;
            for part in parts.into_iter().rev() {
                sum += part * base;
                base *= 60.0;
            }
            sum
        }
        _ => py_float(&text)?,
    };
    Ok(Value::Float(sign * number))
}

/// Python's `float(text)`.
fn py_float(text: &str) -> Result<f64> {
    text.trim()
        .parse()
        .or_else(|_| value_error(format!("could not convert string to float: {}", str_repr(text))))
}

fn timestamp(text: &str) -> Result<Value> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let Some(parts) = Timestamp::read(text.as_bytes()) else {
        return Err(Fault::python("AttributeError", "'NoneType' object has no attribute 'groupdict'"));
    };
    let time = parts.time.as_ref();
    let offset = time.and_then(|t| t.offset);
    if let Some(offset) = offset.filter(|o| o.abs() >= 86_400) {
        return value_error(format!(
            "offset must be a timedelta strictly between -timedelta(hours=24) and timedelta(hours=24), not {}.",
            timedelta_repr(offset)
        ));
    }
    let leap = parts.year % 4 == 0 && (parts.year % 100 != 0 || parts.year % 400 == 0);
    let days = match parts.month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if parts.year == 0 {
        return value_error("year 0 is out of range");
    }
    if !(1..=12).contains(&parts.month) {
        return value_error("month must be in 1..12");
    }
    if !(1..=days).contains(&parts.day) {
        return value_error("day is out of range for month");
    }
    let mut out = format!("{:04}-{:02}-{:02}", parts.year, parts.month, parts.day);
    let Some(time) = time else { return Ok(Value::Timestamp(out)) };
    for (part, limit, name) in
        [(time.hour, 23, "hour"), (time.minute, 59, "minute"), (time.second, 59, "second")]
    {
        if part > limit {
            return value_error(format!("{name} must be in 0..{limit}"));
        }
    }
    out.push_str(&format!(" {:02}:{:02}:{:02}", time.hour, time.minute, time.second));
    if time.microsecond > 0 {
        out.push_str(&format!(".{:06}", time.microsecond));
    }
    if let Some(offset) = offset {
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.abs() / 60;
        out.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
    }
    Ok(Value::Timestamp(out))
}

/// Python's `repr` of a timedelta of whole seconds, a day or longer.
fn timedelta_repr(seconds: i32) -> String {
    let days = seconds.div_euclid(86_400);
    match seconds.rem_euclid(86_400) {
        0 => format!("datetime.timedelta(days={days})"),
        rest => format!("datetime.timedelta(days={days}, seconds={rest})"),
    }
}

fn binary(text: &str, start: Mark) -> Result<Value> {
    if let Some(at) = text.chars().position(|c| !c.is_ascii()) {
        let run: Vec<char> = text.chars().skip(at).take_while(|c| !c.is_ascii()).collect();
        let what = match run.as_slice() {
            [c] => format!("character {} in position {at}", escaped(*c)),
            more => format!("characters in position {at}-{}", at + more.len() - 1),
        };
        let problem = format!(
            "failed to convert base64 data into ascii: 'ascii' codec can't encode {what}: ordinal not in range(128)"
        );
        return Err(Fault::constructor(None, problem, start));
    }
    decode_base64(text.as_bytes()).map(Value::Bytes).map_err(|problem| {
        Fault::constructor(None, format!("failed to decode base64 data: {problem}"), start)
    })
}

fn escaped(c: char) -> String {
    match u32::from(c) {
        code @ 0..=0xff => format!("'\\x{code:02x}'"),
        code @ 0x100..=0xffff => format!("'\\u{code:04x}'"),
        code => format!("'\\U{code:08x}'"),
    }
}

/// Python's `binascii.a2b_base64`: skips what is not of the alphabet and ends at
/// complete padding.
fn decode_base64(text: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let (mut position, mut pads, mut left) = (0, 0, 0u8);
    for byte in text {
        if *byte == b'=' {
            if position >= 2 {
                pads += 1;
                if position + pads >= 4 {
                    return Ok(out);
                }
            }
            continue;
        }
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        pads = 0;
        match position {
            0 => left = value,
            1 => {
                out.push((left << 2) | (value >> 4));
                left = value & 0x0f;
            }
            2 => {
                out.push((left << 4) | (value >> 2));
                left = value & 0x03;
            }
            _ => out.push((left << 6) | value),
        }
        position = (position + 1) % 4;
    }
    match position {
        0 => Ok(out),
        1 => Err(format!(
            "Invalid base64-encoded string: number of data characters ({}) cannot be 1 more than a multiple of 4",
            out.len() / 3 * 4 + 1
        )),
        _ => Err("Incorrect padding".to_owned()),
    }
}
