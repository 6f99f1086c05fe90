//! PostgreSQL's text of values as the Python values that the reference's
//! driver makes of them (surface-api-ctl K7).

use pyfmt::Value;
use tokio_postgres::types::{Kind, Type};

use super::interval;

/// The class of Python that neither JSON nor YAML can hold, if the driver
/// makes such values of this type.
pub fn opaque_class(kind: &Type) -> Option<&'static str> {
    match *kind {
        Type::NUMERIC => Some("Decimal"),
        Type::INTERVAL => Some("timedelta"),
        Type::TIME | Type::TIMETZ => Some("time"),
        _ => None,
    }
}

/// The value of a text.
pub fn from_text(text: Option<&str>, kind: &Type) -> Value {
    let Some(text) = text else { return Value::Null };
    let as_text = || Value::from(text);
    match *kind {
        Type::BOOL => Value::Bool(text == "t"),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            text.parse().map_or_else(|_| as_text(), Value::Int)
        }
        Type::FLOAT4 | Type::FLOAT8 => text.parse().map_or_else(|_| as_text(), Value::Float),
        Type::JSON | Type::JSONB => pyfmt::json::loads(text).unwrap_or_else(|_| as_text()),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => timestamp(text).map_or_else(as_text, Value::Timestamp),
        Type::DATE if text.len() == 10 => Value::Timestamp(text.to_owned()),
        Type::TIME => Value::from(padded_fraction(text)),
        Type::INTERVAL => interval::python_text(text).map_or_else(as_text, Value::from),
        Type::BYTEA => bytes(text).map_or_else(as_text, Value::Bytes),
        _ => match kind.kind() {
            Kind::Array(element) => array(text, element).unwrap_or_else(as_text),
            _ => as_text(),
        },
    }
}

/// Python prints all six digits of a fraction.
fn padded_fraction(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) => format!("{whole}.{fraction:0<6}"),
        None => text.to_owned(),
    }
}

/// `2026-11-21 11:27:47.5+00` as `2026-11-21 11:27:47.500000+00:00`; `None`
/// for what Python's calendar does not have.
fn timestamp(text: &str) -> Option<String> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.ends_with("BC") {
        return None;
    }
    let zone = text.get(19..)?.find(['+', '-']).map_or(text.len(), |at| at + 19);
    let (moment, zone) = text.split_at(zone);
    let zone = if zone.len() == 3 { format!("{zone}:00") } else { zone.to_owned() };
    Some(format!("{}{zone}", padded_fraction(moment)))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// PostgreSQL's text of an array: `{a,NULL,"b c",{...}}`.
fn array(text: &str, element: &Type) -> Option<Value> {
    // Bounds that do not start at one come before the braces.
    let start = text.find('{')?;
    let mut chars = text.get(start + 1..)?.chars().peekable();
    items(&mut chars, element)
}

fn items(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, element: &Type) -> Option<Value> {
    let mut list = Vec::new();
    loop {
        match *chars.peek()? {
            '}' => {
                chars.next();
                return Some(Value::List(list));
            }
            ',' => {
                chars.next();
            }
            '{' => {
                chars.next();
                list.push(items(chars, element)?);
            }
            '"' => {
                chars.next();
                list.push(from_text(Some(&quoted(chars)?), element));
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '}')) {
                    word.push(c);
                }
                let word = (word != "NULL").then_some(word);
                list.push(from_text(word.as_deref(), element));
            }
        }
    }
}

fn quoted(chars: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut word = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(word),
            '\\' => word.push(chars.next()?),
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_text() {
        for (text, kind, shown) in [
            ("t", Type::BOOL, "True"),
            ("12", Type::OID, "12"),
            ("1e+20", Type::FLOAT8, "1e+20"),
            ("1.50", Type::NUMERIC, "1.50"),
            ("{\"x\": 1}", Type::JSONB, "{'x': 1}"),
            ("2026-11-21 11:27:47.5+00", Type::TIMESTAMPTZ, "2026-11-21 11:27:47.500000+00:00"),
            ("2026-11-21 11:27:47-03:30", Type::TIMESTAMPTZ, "2026-11-21 11:27:47-03:30"),
            ("2026-11-21 11:27:47", Type::TIMESTAMP, "2026-11-21 11:27:47"),
            ("infinity", Type::TIMESTAMP, "infinity"),
            ("2026-11-21", Type::DATE, "2026-11-21"),
            ("\\x6100", Type::BYTEA, "b'a\\x00'"),
            ("{a,NULL,\"b \\\"c\",{}}", Type::TEXT_ARRAY, "['a', None, 'b \"c', []]"),
            ("[0:1]={1,2}", Type::INT4_ARRAY, "[1, 2]"),
            ("{1,", Type::INT4_ARRAY, "{1,"),
        ] {
            assert_eq!(from_text(Some(text), &kind).py_str(), shown);
        }
        assert_eq!(from_text(None, &Type::TEXT).py_str(), "None");
    }
}
