//! Numbers as PostgreSQL's parameter parser takes them (strtol with base 0,
//! strtod), with an optional unit.

use pyfmt::text::strip;
use pyfmt::Value;

use super::to_base_unit;

/// The integer that a text begins with, in hexadecimal, octal (leading zero) or
/// decimal, and what follows it. The text is stripped first. An integer that
/// does not fit becomes the nearest that does.
pub fn strtol(text: &str) -> Option<(i64, &str)> {
    let text = strip(text);
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
    let text = strip(text);
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
        None => strip(&text).starts_with(['.', 'e', 'E']),
    };
    let (number, unit) = match integer {
        Some((exact, rest)) if !is_fraction => {
            let unit = strip(rest);
            if unit.is_empty() {
                return Some(exact);
            }
            (exact as f64, unit)
        }
        None if !is_fraction => return None,
        _ => strtod(&text).map(|(number, rest)| (number, strip(rest)))?,
    };
    let number = if unit.is_empty() { number } else { to_base_unit(number, unit, base_unit?)? };
    number.is_finite().then(|| number.round_ties_even() as i64)
}

/// A number; in `base_unit` when the value names a unit, as it stands when it
/// names none. None as for [`parse_int`], except that `1e400` is infinite.
pub fn parse_real(value: &Value, base_unit: Option<&str>) -> Option<f64> {
    let text = value.py_str();
    let (number, rest) = strtod(&text)?;
    match strip(rest) {
        "" => Some(number),
        unit => to_base_unit(number, unit, base_unit?),
    }
}
