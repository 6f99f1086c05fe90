//! Parameter values as people write them: `128MB` for 16384 pages of 8kB.

use pyfmt::Value;

use super::units::{split_base_unit, table_of};
use super::{parse_int, parse_real};

/// A value of `pg_settings` in the largest unit that loses nothing. Values of
/// other types than `integer` and `real`, zero, and what cannot be read or has
/// no unit stay as they are.
pub fn human(value: &str, vartype: &str, base_unit: Option<&str>) -> String {
    let parsed = Value::from(value);
    let converted = match vartype {
        "integer" => parse_int(&parsed, None).filter(|n| *n != 0).and_then(|n| human_integer(n, base_unit?)),
        "real" => parse_real(&parsed, None).filter(|n| *n != 0.0).and_then(|n| human_real(n, base_unit?)),
        _ => None,
    };
    converted.unwrap_or_else(|| value.to_owned())
}

/// An integer in `base_unit` (such as `8kB`), in the largest unit that divides
/// it; None when that is no base unit.
pub fn human_integer(value: i64, base_unit: &str) -> Option<String> {
    let (count, base) = split_base_unit(base_unit);
    let value = i128::from(value) * i128::from(count);
    let (table, column) = table_of(base)?;
    table.iter().find_map(|(unit, sizes)| {
        let size = *sizes.get(column)?;
        let fits = size <= 1.0 || value % (size as i128) == 0;
        fits.then(|| format!("{}{unit}", (value as f64 / size).round_ties_even() as i128))
    })
}

/// A number in `base_unit`, in the first unit that shows a whole number to eight
/// digits, or else in the smallest, with six significant digits.
pub fn human_real(value: f64, base_unit: &str) -> Option<String> {
    let (count, base) = split_base_unit(base_unit);
    let value = value * count as f64;
    let (table, column) = table_of(base)?;
    let mut result = None;
    for (unit, sizes) in table {
        let converted = value / sizes.get(column)?;
        result = Some(format!("{}{unit}", general(converted)));
        if converted > 0.0 && (converted.round_ties_even() / converted - 1.0).abs() <= 1e-8 {
            break;
        }
    }
    result
}

/// C's `%g`: six significant digits, no trailing zeros.
fn general(value: f64) -> String {
    if !value.is_finite() {
        return pyfmt::value::float_repr(value);
    }
    let text = format!("{value:.5e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return without_zeros(&format!("{value:.*}", usize::try_from(5 - exponent).unwrap_or(0)));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs())
}

fn without_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}
