//! Python's `int()`, by which most numbers in DCS keys are read.

use pyfmt::Value;

/// `int(value)`: whole numbers, finite floats cut towards zero, and decimal text
/// with an optional sign and single underscores between digits. What is too big
/// becomes the nearest that fits. None where `int()` raises.
pub(super) fn py_int(value: &Value) -> Option<i64> {
    match value {
        Value::Float(f) => f.is_finite().then_some(*f as i64),
        Value::Str(text) => text_int(text),
        Value::BigInt(digits) => Some(saturated(digits.starts_with('-'))),
        other => other.as_i64(),
    }
}

fn saturated(negative: bool) -> i64 {
    if negative {
        i64::MIN
    } else {
        i64::MAX
    }
}

fn text_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let well_formed =
        digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if !well_formed {
        return None;
    }
    let negative = text.starts_with('-');
    let number = digits.replace('_', "").parse::<i64>().unwrap_or(i64::MAX);
    Some(match (negative, number) {
        (true, i64::MAX) => i64::MIN,
        (true, n) => -n,
        (false, n) => n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_reads_integers() {
        for (value, want) in [
            (Value::from(5), Some(5)),
            (true.into(), Some(1)),
            (5.9.into(), Some(5)),
            ((-1.9).into(), Some(-1)),
            (f64::INFINITY.into(), None),
            (" 42 ".into(), Some(42)),
            ("+1_000".into(), Some(1000)),
            ("-7".into(), Some(-7)),
            ("1__0".into(), None),
            ("_1".into(), None),
            ("1.5".into(), None),
            ("0x10".into(), None),
            ("".into(), None),
            ("-".into(), None),
            (Value::Null, None),
            (Value::List(vec![]), None),
            (Value::BigInt("99999999999999999999".into()), Some(i64::MAX)),
            ("-99999999999999999999".into(), Some(i64::MIN)),
        ] {
            assert_eq!(py_int(&value), want, "{value:?}");
        }
    }
}
