//! Booleans and numbers with units, as the reference reads and prints them
//! (`patroni/utils.py`, which follows PostgreSQL's own `guc.c`).

use pyfmt::Value;

/// `on`, `true`, `yes`, `1` and their opposites, without case.
pub(super) fn parse_bool(value: &Value) -> Option<bool> {
    match value.py_str().to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Units, largest first, with what one is in the three base units.
type Table = &'static [(&'static str, [f64; 3])];

const KB: f64 = 1024.0;
const MB: f64 = KB * KB;
const MEMORY: Table = &[
    ("TB", [MB * MB, KB * MB, MB]),
    ("GB", [KB * MB, MB, KB]),
    ("MB", [MB, KB, 1.0]),
    ("kB", [KB, 1.0, 1.0 / KB]),
    ("B", [1.0, 1.0 / KB, 1.0 / MB]),
];
const TIME: Table = &[
    ("d", [86_400_000.0, 86_400.0, 1440.0]),
    ("h", [3_600_000.0, 3600.0, 60.0]),
    ("min", [60_000.0, 60.0, 1.0]),
    ("s", [1000.0, 1.0, 1.0 / 60.0]),
    ("ms", [1.0, 0.001, 1.0 / 60_000.0]),
    ("us", [0.001, 0.000_001, 1.0 / 60_000_000.0]),
];

/// The table for a base unit, and the column of that unit.
fn table_of(base_unit: &str) -> Option<(Table, usize)> {
    let column = |units: [&str; 3]| units.iter().position(|u| *u == base_unit);
    column(["B", "kB", "MB"]).map(|c| (MEMORY, c)).or_else(|| column(["ms", "s", "min"]).map(|c| (TIME, c)))
}

/// A base unit such as `8kB`: how many, of which unit.
fn split_base_unit(base_unit: &str) -> (i64, &str) {
    match strtol(base_unit.trim()) {
        Some((count, unit)) => (count, unit),
        None => (1, base_unit.trim()),
    }
}

/// Converts to the base unit, rounded to a multiple of the next smaller unit.
fn to_base_unit(value: f64, unit: &str, base_unit: &str) -> Option<f64> {
    let (count, base) = split_base_unit(base_unit);
    let (table, column) = table_of(base)?;
    let at = table.iter().position(|(name, _)| *name == unit)?;
    let factor = |at: usize| table.get(at).and_then(|(_, f)| f.get(column)).copied();
    let value = value * (factor(at)? / count as f64);
    Some(match factor(at + 1) {
        Some(smaller) => (value / smaller).round_ties_even() * smaller,
        None => value,
    })
}

/// The integer at the start of a text in hexadecimal, octal or decimal, and
/// the rest. An integer that does not fit becomes the nearest that does.
fn strtol(text: &str) -> Option<(i64, &str)> {
    let (sign, body) = split_sign(text);
    let digits = |body: &str, accept: fn(&char) -> bool| body.chars().take_while(accept).count();
    let (radix, prefix, len) = match body.strip_prefix("0x").map(|h| digits(h, char::is_ascii_hexdigit)) {
        Some(len @ 1..) => (16, 2, len),
        _ if body.starts_with('0') => (8, 0, digits(body, |c| ('0'..='7').contains(c))),
        _ => (10, 0, digits(body, char::is_ascii_digit)),
    };
    let number = body.get(prefix..prefix + len).filter(|n| !n.is_empty())?;
    let value = i64::from_str_radix(number, radix).unwrap_or(i64::MAX);
    Some((if sign { -value } else { value }, body.get(prefix + len..)?))
}

/// The number at the start of a text, and the rest.
fn strtod(text: &str) -> Option<(f64, &str)> {
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

/// An integer, in `base_unit` if the value names a unit.
pub(super) fn parse_int(value: &Value, base_unit: Option<&str>) -> Option<i64> {
    let text = value.py_str();
    let text = text.trim();
    let integer = strtol(text).map(|(n, unit)| (n as f64, unit));
    let exact = strtol(text).filter(|(_, unit)| unit.trim().is_empty()).map(|(n, _)| n);
    let (number, unit) = match integer {
        Some((_, unit)) if unit.starts_with(['.', 'e', 'E']) => strtod(text)?,
        None if text.starts_with(['.', 'e', 'E']) => strtod(text)?,
        other => other?,
    };
    if exact.is_some() {
        return exact;
    }
    let unit = unit.trim();
    let number = if unit.is_empty() { number } else { to_base_unit(number, unit, base_unit?)? };
    number.is_finite().then(|| number.round_ties_even() as i64)
}

/// A number, in `base_unit` if the value names a unit.
pub(super) fn parse_real(value: &Value, base_unit: Option<&str>) -> Option<f64> {
    let text = value.py_str();
    let (number, unit) = strtod(text.trim())?;
    match unit.trim() {
        "" => Some(number),
        unit => to_base_unit(number, unit, base_unit?),
    }
}

/// Is the value of `pg_settings` (in its own unit) the same as the configured
/// one, for a parameter of this type?
pub(super) fn compare_values(vartype: &str, unit: Option<&str>, setting: &Value, config: &Value) -> bool {
    fn both<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
        a.is_some() && a == b
    }
    match vartype {
        "bool" => both(parse_bool(setting), parse_bool(config)),
        "integer" => both(parse_int(setting, None), parse_int(config, unit)),
        "real" => both(parse_real(setting, None), parse_real(config, unit)),
        "enum" => setting.py_str().to_lowercase() == config.py_str().to_lowercase(),
        _ => setting.py_str() == config.py_str(),
    }
}

/// A value in a base unit, in the largest unit that loses nothing. Other types,
/// zero, and what cannot be read stay as they are.
pub(super) fn human(value: &str, vartype: &str, base_unit: Option<&str>) -> String {
    let text = Value::from(value);
    let converted = match vartype {
        "integer" => parse_int(&text, None).filter(|n| *n != 0).and_then(|n| human_int(n, base_unit?)),
        "real" => parse_real(&text, None).filter(|n| *n != 0.0).and_then(|n| human_real(n, base_unit?)),
        _ => None,
    };
    converted.unwrap_or_else(|| value.to_owned())
}

fn human_int(value: i64, base_unit: &str) -> Option<String> {
    let (count, base) = split_base_unit(base_unit);
    let value = i128::from(value) * i128::from(count);
    let (table, column) = table_of(base)?;
    table.iter().find_map(|(unit, factors)| {
        let factor = *factors.get(column)?;
        let fits = factor <= 1.0 || value % (factor as i128) == 0;
        fits.then(|| format!("{}{unit}", (value as f64 / factor).round_ties_even() as i128))
    })
}

fn human_real(value: f64, base_unit: &str) -> Option<String> {
    let (count, base) = split_base_unit(base_unit);
    let value = value * count as f64;
    let (table, column) = table_of(base)?;
    let mut result = None;
    for (unit, factors) in table {
        let converted = value / factors.get(column)?;
        result = Some(format!("{}{unit}", general(converted)));
        if converted > 0.0 && (converted.round_ties_even() / converted - 1.0).abs() <= 1e-8 {
            break;
        }
    }
    result
}

/// C's `%g`: six significant digits, no trailing zeros.
fn general(value: f64) -> String {
    let text = format!("{value:.5e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| {
        if s.contains('.') {
            s.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            s.to_owned()
        }
    };
    if (-4..6).contains(&exponent) {
        return trim(&format!("{value:.*}", usize::try_from(5 - exponent).unwrap_or(0)));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, unit, expected) in [
            ("1", None, Some(1)),
            (" 0x400 MB ", Some("16384kB"), Some(64)),
            ("1MB", Some("kB"), Some(1024)),
            ("1000 ms", Some("s"), Some(1)),
            ("1TB", Some("GB"), None),
            ("nonsense", Some("kB"), None),
            ("6GB", Some("16MB"), Some(384)),
            ("4097.4kB", Some("kB"), Some(4097)),
            ("4097.5kB", Some("kB"), Some(4098)),
            ("-070", None, Some(-56)),
            ("08", None, None),
            ("1e3", None, Some(1000)),
            (".5", None, Some(0)),
            ("128MB", None, None),
            ("True", None, None),
        ] {
            assert_eq!(parse_int(&text.into(), unit), expected, "{text}");
        }
        assert_eq!(parse_real(&"0.00051ms".into(), Some("ms")), Some(0.001));
    }

    #[test]
    fn human_units() {
        for (value, vartype, unit, expected) in [
            ("1024", "integer", Some("kB"), "1MB"),
            ("1025", "integer", Some("kB"), "1025kB"),
            ("16384", "integer", Some("8kB"), "128MB"),
            ("0", "integer", Some("8kB"), "0"),
            ("-1", "integer", Some("8kB"), "-8kB"),
            ("100", "integer", None, "100"),
            ("5", "integer", Some("ms"), "5ms"),
            ("4.2", "real", Some("ms"), "4200us"),
            ("2.5", "real", Some("ms"), "2500us"),
            ("on", "bool", None, "on"),
            ("", "integer", Some("256MB"), ""),
        ] {
            assert_eq!(human(value, vartype, unit), expected, "{value} {unit:?}");
        }
    }

    #[test]
    fn comparison() {
        for (vartype, unit, setting, config, equal) in [
            ("enum", None, "remote_write", "REMOTE_WRITE", true),
            ("string", None, "remote_write", "REMOTE_WRITE", false),
            ("real", None, "1e-06", "0.000001", true),
            ("integer", Some("MB"), "6GB", "6GB", false),
            ("integer", Some("16384kB"), "64", " 0x400 MB ", true),
            ("integer", Some("2MB"), "524288", "1TB", true),
            ("integer", Some("kB"), "4098", "4097.5kB", true),
            ("bool", None, "on", "TRUE", true),
            ("bool", None, "on", "x", false),
        ] {
            assert_eq!(
                compare_values(vartype, unit, &setting.into(), &config.into()),
                equal,
                "{setting} {config}"
            );
        }
    }
}
