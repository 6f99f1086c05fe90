//! Python's `int()`: which texts and values are whole numbers, and what is said of the others.

use crate::text::strip;
use crate::Value;

/// Why `int()` refuses a value: the exception's class and text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {message}")]
pub struct NoInteger {
    /// Class of the exception.
    pub class: &'static str,
    /// Its text.
    pub message: String,
}

impl NoInteger {
    /// The exception as `%r` shows it.
    pub fn repr(&self) -> String {
        format!("{}({})", self.class, crate::value::str_repr(&self.message))
    }

    fn of_text(text: &str) -> NoInteger {
        let quoted = crate::value::str_repr(text);
        NoInteger {
            class: "ValueError",
            message: format!("invalid literal for int() with base 10: {quoted}"),
        }
    }
}

/// `int(text)`, of any size: surrounding white space, a sign, and single underscores between digits are allowed.
///
/// # Errors
/// A `ValueError`.
pub fn parse(text: &str) -> Result<Value, NoInteger> {
    let stripped = strip(text);
    let digits = stripped.strip_prefix(['+', '-']).unwrap_or(stripped);
    let well_formed = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    match digits.split('_').all(well_formed) {
        true => Ok(of_digits(&stripped.replace('_', ""))),
        false => Err(NoInteger::of_text(text)),
    }
}

/// [`parse`], of what fits 64 bits.
pub fn parse_i64(text: &str) -> Option<i64> {
    parse(text).ok()?.as_i64()
}

/// [`parse`]; what does not fit 64 bits becomes the nearest that does.
pub fn parse_clamped(text: &str) -> Option<i64> {
    parse(text).ok().map(|integer| clamped(&integer))
}

/// `int(value)`, of any size: floats are cut towards zero.
///
/// # Errors
/// There is no such integer.
pub fn int(value: &Value) -> Result<Value, NoInteger> {
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
        Value::Str(text) => parse(text),
        other => {
            let module = if matches!(other, Value::Timestamp(_)) { "datetime." } else { "" };
            let kind = other.type_name();
            let text = "int() argument must be a string, a bytes-like object or a real number, not";
            refused("TypeError", format!("{text} '{module}{kind}'"))
        }
    }
}

/// [`int`]; what does not fit 64 bits becomes the nearest that does. None where it raises.
pub fn int_clamped(value: &Value) -> Option<i64> {
    int(value).ok().map(|integer| clamped(&integer))
}

/// The integer of a sign and decimal digits.
fn of_digits(text: &str) -> Value {
    let digits = text.trim_start_matches(['+', '-']).trim_start_matches('0');
    let signed = if text.starts_with('-') { format!("-{digits}") } else { digits.to_owned() };
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Each was asked of Python 3.11.
    #[test]
    fn integers_of_any_size() {
        for (value, want) in [
            (Value::from("30"), Ok("30")),
            (Value::from(" -1_000 "), Ok("-1000")),
            (Value::from("+1_000"), Ok("1000")),
            (Value::from("\u{1c}7\u{a0}"), Ok("7")),
            (Value::from("007"), Ok("7")),
            (Value::from("-0"), Ok("0")),
            (Value::from("99999999999999999999"), Ok("99999999999999999999")),
            (Value::BigInt("-99999999999999999999".into()), Ok("-99999999999999999999")),
            (Value::Float(-30.9), Ok("-30")),
            (Value::Float(1e30), Ok("1000000000000000019884624838656")),
            (Value::Bool(true), Ok("1")),
            (Value::Float(f64::NAN), Err("ValueError: cannot convert float NaN to integer")),
            (
                Value::Float(f64::NEG_INFINITY),
                Err("OverflowError: cannot convert float infinity to integer"),
            ),
            (Value::from("1MB"), Err("ValueError: invalid literal for int() with base 10: '1MB'")),
            (Value::from(" x "), Err("ValueError: invalid literal for int() with base 10: ' x '")),
            (
                Value::Null,
                Err("TypeError: int() argument must be a string, a bytes-like object or a real number, not 'NoneType'"),
            ),
        ] {
            let got = int(&value).map(|n| n.py_str()).map_err(|e| e.to_string());
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{value:?}");
        }
    }

    #[test]
    fn texts_that_are_none() {
        for text in ["", " ", "-", "+", "+-1", "1__0", "_1", "1_", "-_1", "1.5", "1e3", "0x10", "abc", "1 2"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn within_64_bits() {
        for (value, want) in [
            (Value::from(5), Some(5)),
            (5.9.into(), Some(5)),
            ((-1.9).into(), Some(-1)),
            (" 42 ".into(), Some(42)),
            ("-9223372036854775808".into(), Some(i64::MIN)),
            ("-99999999999999999999".into(), Some(i64::MIN)),
            (Value::BigInt("99999999999999999999".into()), Some(i64::MAX)),
            (f64::INFINITY.into(), None),
            (Value::Null, None),
            (Value::List(vec![]), None),
        ] {
            assert_eq!(int_clamped(&value), want, "{value:?}");
        }
        assert_eq!((parse_i64("99999999999999999999"), parse_i64(" 1_0 ")), (None, Some(10)));
        assert_eq!(parse_clamped("99999999999999999999"), Some(i64::MAX));
    }
}
