//! PostgreSQL's text of a value as the object that the reference's driver makes of it (surface-api-ctl K7).

use pyfmt::value::str_repr;
use pyfmt::Value;

use super::interval;
use super::kinds::Kind;
use super::moment::{Order, Zone};
use super::object::Object;
use super::{moment, nested, network};

/// What a value could not be loaded for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// The driver's `DataError`.
    Data(String),
    /// Any other exception, as the last line of its traceback.
    Crash(String),
}

/// What loading depends on: settings of the session.
#[derive(Debug, Clone)]
pub struct Loader {
    encoding: Encoding,
    date_style: String,
    zone: Zone,
    interval_style: String,
}

/// How bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    /// Each byte is the character of its number.
    Latin1,
    /// Nobody knows; text stays bytes.
    Ascii,
}

impl Loader {
    /// From what the server reported of its settings.
    pub fn new<'a>(setting: impl Fn(&str) -> Option<&'a str>) -> Loader {
        let encoding = match setting("client_encoding") {
            Some("SQL_ASCII") => Encoding::Ascii,
            Some("LATIN1") => Encoding::Latin1,
            _ => Encoding::Utf8,
        };
        Loader {
            encoding,
            date_style: setting("DateStyle").unwrap_or("ISO, DMY").to_owned(),
            zone: Zone::named(setting("TimeZone")),
            interval_style: setting("IntervalStyle").unwrap_or("unknown").to_owned(),
        }
    }

    /// Tells once that the zone of the session is not known, as the driver does when it first needs it.
    pub fn warn_of_zone(&self, name: Option<&str>) {
        static ONCE: std::sync::Once = std::sync::Once::new();
        if self.zone.is_unknown() {
            let name = str_repr(name.unwrap_or_default());
            ONCE.call_once(|| {
                tracing::warn!(target: "patroni.ctl", "unknown PostgreSQL timezone: {name}; will use UTC");
            });
        }
    }

    /// The object of a value that is not null.
    ///
    /// # Errors
    /// What Python cannot hold, such as dates before Christ.
    pub fn load(&self, kind: Kind, bytes: &[u8]) -> Result<Object, LoadError> {
        // Everything but text itself is ASCII, or JSON.
        let text = String::from_utf8_lossy(bytes);
        let text = text.as_ref();
        Ok(match kind {
            Kind::Text => self.text(bytes),
            Kind::Bool => Value::Bool(text == "t").into(),
            Kind::Int => text.parse().map_or_else(|_| Value::from(text), Value::Int).into(),
            Kind::Float => float(text).map_or_else(|| Value::from(text), Value::Float).into(),
            Kind::Numeric => Object::called("Decimal", decimal(text)),
            Kind::Bytea => Value::Bytes(bytea(bytes)).into(),
            Kind::Json => pyfmt::json::loads(text).unwrap_or_else(|_| Value::from(text)).into(),
            Kind::Date => moment::date(text, Order::parse(&self.date_style))?,
            Kind::Time => moment::time(text)?,
            Kind::Timetz => moment::timetz(text)?,
            Kind::Timestamp => moment::timestamp(text, Order::parse(&self.date_style))?,
            Kind::Timestamptz => moment::timestamptz(text, &self.date_style, &self.zone)?,
            Kind::Interval if self.interval_style != "postgres" => {
                return Err(LoadError::Crash(format!(
                    "NotImplementedError: can't parse interval with IntervalStyle {}: {}",
                    str_repr(&self.interval_style),
                    str_repr(text)
                )))
            }
            Kind::Interval => interval::load(text)?,
            Kind::Uuid => Object::called("UUID", text.to_lowercase()),
            Kind::Inet => network::inet(text),
            Kind::Cidr => network::cidr(text),
            Kind::Record => nested::record(self, bytes),
            Kind::Range(bound) => nested::range(self, bytes, *bound)?.0,
            Kind::Multirange(bound) => nested::multirange(self, bytes, *bound)?,
            Kind::Array(element, delimiter) => nested::array(self, bytes, *element, delimiter)?,
        })
    }

    /// Text in the session's encoding.
    pub fn text(&self, bytes: &[u8]) -> Object {
        match self.encoding {
            Encoding::Utf8 => Value::from(String::from_utf8_lossy(bytes).as_ref()),
            Encoding::Latin1 => {
                Value::from(bytes.iter().copied().map(char::from).collect::<String>().as_str())
            }
            Encoding::Ascii => Value::Bytes(bytes.to_vec()),
        }
        .into()
    }
}

fn float(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        number => number.parse().ok(),
    }
}

/// `str(Decimal(text))`, for the digits that PostgreSQL prints: very small numbers get an exponent.
fn decimal(text: &str) -> String {
    let (sign, number) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let Some((whole, fraction)) = number.split_once('.') else { return text.to_owned() };
    let digits = format!("{whole}{fraction}");
    let significant = match digits.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    let exponent =
        i64::try_from(significant.len()).unwrap_or(0) - 1 - i64::try_from(fraction.len()).unwrap_or(0);
    if exponent >= -6 {
        return text.to_owned();
    }
    let (first, rest) = significant.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent:+}")
}

/// Both of PostgreSQL's ways to print bytes.
fn bytea(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
    if let Some(digits) = text.strip_prefix(b"\\x") {
        let pair = |pair: &[u8]| pair.iter().fold(0, |byte: u8, d| byte << 4 | digit(d));
        return digits.chunks(2).map(pair).collect();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'\\', beyond @ ..]) => {
                bytes.push(b'\\');
                rest = beyond;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', beyond @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = beyond;
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(kind: Kind, text: &str) -> String {
        Loader::new(|_| None).load(kind, text.as_bytes()).unwrap().text()
    }

    #[test]
    fn scalars() {
        for (kind, text, expected) in [
            (Kind::Bool, "t", "True"),
            (Kind::Int, "12", "12"),
            (Kind::Float, "1e+20", "1e+20"),
            (Kind::Float, "-Infinity", "-inf"),
            (Kind::Numeric, "1.50", "1.50"),
            (Kind::Numeric, "0.00000000000001", "1E-14"),
            (Kind::Numeric, "-0.00000012", "-1.2E-7"),
            (Kind::Numeric, "0.00000000", "0E-8"),
            (Kind::Numeric, "0.000001", "0.000001"),
            (Kind::Numeric, "NaN", "NaN"),
            (Kind::Json, "{\"x\": 1}", "{'x': 1}"),
            (Kind::Bytea, "\\x6100", "b'a\\x00'"),
            (Kind::Bytea, "a\\000\\\\b", "b'a\\x00\\\\b'"),
            (Kind::of(12345), "x", "x"),
        ] {
            assert_eq!(shown(kind, text), expected);
        }
    }

    #[test]
    fn encodings() {
        let text = |encoding: &'static str| {
            let setting = move |name: &str| (name == "client_encoding").then_some(encoding);
            Loader::new(setting).load(Kind::Text, b"\xe9").unwrap().text()
        };
        assert_eq!(text("LATIN1"), "é");
        assert_eq!(text("SQL_ASCII"), "b'\\xe9'");
    }
}
