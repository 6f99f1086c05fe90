//! Numbers as PostgreSQL's parameter parser takes them (strtol with base 0,
//! strtod), with an optional unit.

use pyfmt::Value;

use super::{py_strip, to_base_unit};

/// The integer that a text begins with, in hexadecimal, octal (leading zero) or
/// decimal, and what follows it. The text is stripped first. An integer that
/// does not fit becomes the nearest that does.
pub fn strtol(text: &str) -> Option<(i64, &str)> {
    let text = py_strip(text);
    let (negative, body) = split_sign(text);
    let count = |body: &str, accept: fn(&char) -> bool| body.chars().take_while(accept).count();
    let (radix, prefix, len) = match body.strip_prefix("0x").map(|h| count(h, char::is_ascii_hexdigit)) {
        Some(len @ 1..) => (16, 2, len),
        _ if body.starts_with('0') => (8, 0, count(body, |c| ('0'..='7').contains(c))),
        _ => (10, 0, count(body, char::is_ascii_digit)),
    };
    let digits = body.get(prefix..prefix + len).filter(|n| !n.is_empty())?;
    let value = i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    Some((if negative { -value } else { value }, body.get(prefix + len..)?))
}

/// The decimal number that a text begins with, and what follows it. The text is
/// stripped first.
pub fn strtod(text: &str) -> Option<(f64, &str)> {
    let text = py_strip(text);
    let (_, body) = split_sign(text);
    let start = text.len() - body.len();
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(body);
    let fraction = body.get(whole..).and_then(|r| r.strip_prefix('.')).map_or(0, digits);
    let mut end = if fraction > 0 { whole + 1 + fraction } else { whole };
    if end == 0 {
        return None;
    }
    if let Some(exponent) = body.get(end..).and_then(|r| r.strip_prefix(['e', 'E'])) {
        let (_, unsigned) = split_sign(exponent);
        let len = digits(unsigned);
        if len > 0 {
            end += 1 + (exponent.len() - unsigned.len()) + len;
        }
    }
    Some((text.get(..start + end)?.parse().ok()?, text.get(start + end..)?))
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// An integer, rounded half to even; in `base_unit` when the value names a unit,
/// as it stands when it names none. None when it cannot be read, when it has a
/// unit and no base unit is given, and when it is beyond all bounds (`1e400`,
/// where the reference raises).
pub fn parse_int(value: &Value, base_unit: Option<&str>) -> Option<i64> {
    let text = value.py_str();
    let integer = strtol(&text);
    let is_fraction = match integer {
        Some((_, rest)) => rest.starts_with(['.', 'e', 'E']),
        None => py_strip(&text).starts_with(['.', 'e', 'E']),
    };
    let (number, unit) = match integer {
        Some((exact, rest)) if !is_fraction => {
            let unit = py_strip(rest);
            if unit.is_empty() {
                return Some(exact);
            }
            (exact as f64, unit)
        }
        None if !is_fraction => return None,
        _ => strtod(&text).map(|(number, rest)| (number, py_strip(rest)))?,
    };
    let number = if unit.is_empty() { number } else { to_base_unit(number, unit, base_unit?)? };
    number.is_finite().then(|| number.round_ties_even() as i64)
}

/// A number; in `base_unit` when the value names a unit, as it stands when it
/// names none. None as for [`parse_int`], except that `1e400` is infinite.
pub fn parse_real(value: &Value, base_unit: Option<&str>) -> Option<f64> {
    let text = value.py_str();
    let (number, rest) = strtod(&text)?;
    match py_strip(rest) {
        "" => Some(number),
        unit => to_base_unit(number, unit, base_unit?),
    }
}

/// Python's `int(text)` in base 10: surrounding white space, a sign, and single
/// underscores between digits are allowed. What does not fit 64 bits becomes the
/// nearest that does; None is a `ValueError`.
pub fn python_int(text: &str) -> Option<i64> {
    let (negative, digits) = split_sign(py_strip(text));
    let groups = digits.split('_');
    if groups.clone().any(|g| g.is_empty() || !g.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let value = groups.collect::<String>().parse().unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// Why Python's `int()` refuses a value: the exception's class and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoInteger {
    /// Class of the exception.
    pub class: &'static str,
    /// Its text.
    pub message: String,
}

impl NoInteger {
    /// The exception as `%r` shows it.
    pub fn repr(&self) -> String {
        format!("{}({})", self.class, pyfmt::value::str_repr(&self.message))
    }
}

impl std::fmt::Display for NoInteger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

/// Python's `int(value)`, of any size.
///
/// # Errors
/// There is no such integer.
pub fn python_integer(value: &Value) -> Result<Value, NoInteger> {
    let refused = |class, message: String| Err(NoInteger { class, message });
    match value {
        Value::Int(_) | Value::BigInt(_) => Ok(value.clone()),
        Value::Bool(flag) => Ok(Value::Int(i64::from(*flag))),
        Value::Float(number) if number.is_nan() => {
            refused("ValueError", "cannot convert float NaN to integer".to_owned())
        }
        Value::Float(number) if number.is_infinite() => {
            refused("OverflowError", "cannot convert float infinity to integer".to_owned())
        }
        // All digits of a float are exact, and an integer of them has no sign of its own at zero.
        Value::Float(number) => Ok(of_digits(&format!("{:.0}", number.trunc()))),
        Value::Str(text) if python_int(text).is_some() => Ok(of_digits(&py_strip(text).replace('_', ""))),
        Value::Str(_) => {
            refused("ValueError", format!("invalid literal for int() with base 10: {}", value.py_repr()))
        }
        other => {
            let module = if matches!(other, Value::Timestamp(_)) { "datetime." } else { "" };
            let kind = other.type_name();
            let text = "int() argument must be a string, a bytes-like object or a real number, not";
            refused("TypeError", format!("{text} '{module}{kind}'"))
        }
    }
}

/// The integer of a sign and decimal digits.
fn of_digits(text: &str) -> Value {
    let (negative, digits) = split_sign(text);
    let digits = digits.trim_start_matches('0');
    let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
    match digits.is_empty() {
        true => Value::Int(0),
        false => signed.parse().map_or(Value::BigInt(signed), Value::Int),
    }
}

/// An integer as 64 bits hold it: what does not fit becomes the nearest that does. 0 for other values.
pub fn clamped(integer: &Value) -> i64 {
    match integer {
        Value::BigInt(digits) if digits.starts_with('-') => i64::MIN,
        Value::BigInt(_) => i64::MAX,
        other => other.as_i64().unwrap_or_default(),
    }
}
