//! The dynamic value that configuration and DCS documents are held in.
//!
//! Unknown keys, their order, and integers of any size survive a round trip.

use std::fmt;
use std::hash::{Hash, Hasher};

use indexmap::IndexMap;

use crate::printable::is_printable;

/// An insertion-ordered mapping, as a Python `dict`. Keys compare as Python's
/// do: `1`, `1.0` and `True` are one key.
pub type Map = IndexMap<Value, Value>;

/// A value of the kinds that `json.loads` and `yaml.safe_load` produce.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// `None`
    #[default]
    Null,
    /// `True` and `False`
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// Any other integer: canonical decimal digits with an optional `-`.
    BigInt(String),
    /// A double.
    Float(f64),
    /// Text.
    Str(String),
    /// `bytes`, from YAML's `!!binary`.
    Bytes(Vec<u8>),
    /// `datetime.date` or `datetime.datetime` (from YAML timestamps), in the
    /// text that `isoformat()` gives with a space for the `T`.
    Timestamp(String),
    /// A list.
    List(Vec<Value>),
    /// A mapping.
    Map(Map),
}

impl Value {
    /// An empty mapping.
    pub fn map() -> Value {
        Value::Map(Map::new())
    }

    /// The value under the text key `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map().and_then(|m| m.get(&Value::from(key)))
    }

    /// The value at a path of text keys.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |v, key| v.get(key))
    }

    /// Sets a text key; a value that is not a mapping becomes one.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        if !matches!(self, Value::Map(_)) {
            *self = Value::map();
        }
        if let Value::Map(m) = self {
            m.insert(Value::from(key), value.into());
        }
    }

    /// Removes a text key, keeping the order of the others.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        match self {
            Value::Map(m) => m.shift_remove(&Value::from(key)),
            _ => None,
        }
    }

    /// The mapping, if this is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    /// The list, if this is one.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(l) => Some(l),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The integer, if this is one that fits; booleans are integers in Python.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(i) => Some(*i),
            Value::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    /// The number as a double.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(i) => Some(*i as f64),
            Value::BigInt(s) => s.parse().ok(),
            Value::Float(f) => Some(*f),
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// `None`?
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Python's `bool(value)`.
    pub fn truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::BigInt(_) | Value::Timestamp(_) => true,
            Value::Float(f) => *f != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::Bytes(b) => !b.is_empty(),
            Value::List(l) => !l.is_empty(),
            Value::Map(m) => !m.is_empty(),
        }
    }

    /// Python's `type(value).__name__`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(t) if t.len() == 10 => "date",
            Value::Timestamp(_) => "datetime",
            Value::List(_) => "list",
            Value::Map(_) => "dict",
        }
    }

    /// Python's `str(value)`.
    pub fn py_str(&self) -> String {
        match self {
            Value::Str(s) | Value::Timestamp(s) => s.clone(),
            other => other.py_repr(),
        }
    }

    /// Python's `repr(value)`.
    pub fn py_repr(&self) -> String {
        let mut out = String::new();
        self.write_repr(&mut out);
        out
    }

    fn write_repr(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Int(i) => out.push_str(&i.to_string()),
            Value::BigInt(s) => out.push_str(s),
            Value::Float(f) => out.push_str(&float_repr(*f)),
            Value::Str(s) => out.push_str(&str_repr(s)),
            Value::Timestamp(s) => out.push_str(&timestamp_repr(s)),
            Value::Bytes(b) => out.push_str(&bytes_repr(b)),
            Value::List(l) => {
                out.push('[');
                for (i, v) in l.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    v.write_repr(out);
                }
                out.push(']');
            }
            Value::Map(m) => {
                out.push('{');
                for (i, (k, v)) in m.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    k.write_repr(out);
                    out.push_str(": ");
                    v.write_repr(out);
                }
                out.push('}');
            }
        }
    }

    /// The number of this value for comparison, as Python's numeric tower sees it.
    fn number(&self) -> Option<f64> {
        match self {
            Value::BigInt(_) => None,
            other => other.as_f64(),
        }
    }
}

/// Python's `repr` of the date or datetime with this text: `datetime.date(2020, 1, 1)`.
fn timestamp_repr(text: &str) -> String {
    let (date, time) = text.split_at(text.len().min(10));
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let mut parts: Vec<String> = date.split('-').map(|part| number(part).to_string()).collect();
    if time.is_empty() {
        return format!("datetime.date({})", parts.join(", "));
    }
    let time = time.trim_start();
    let (clock, zone) = time.split_at(time.find(['+', '-']).unwrap_or(time.len()));
    let (clock, micros) = clock.split_once('.').unwrap_or((clock, ""));
    let mut numbers: Vec<u32> = clock.split(':').map(number).collect();
    numbers.push(number(micros));
    // Seconds and microseconds are left out from the end while they are nothing.
    while numbers.len() > 2 && numbers.last() == Some(&0) {
        numbers.pop();
    }
    parts.extend(numbers.iter().map(u32::to_string));
    if let Some((hours, minutes)) = zone.get(1..).and_then(|zone| zone.split_once(':')) {
        let seconds = i64::from(number(hours) * 3600 + number(minutes) * 60);
        parts.push(format!("tzinfo={}", zone_repr(if zone.starts_with('-') { -seconds } else { seconds })));
    }
    format!("datetime.datetime({})", parts.join(", "))
}

fn zone_repr(seconds: i64) -> String {
    let delta = match (seconds.div_euclid(86_400), seconds.rem_euclid(86_400)) {
        (0, 0) => return "datetime.timezone.utc".to_owned(),
        (0, seconds) => format!("seconds={seconds}"),
        (days, 0) => format!("days={days}"),
        (days, seconds) => format!("days={days}, seconds={seconds}"),
    };
    format!("datetime.timezone(datetime.timedelta({delta}))")
}

/// Python's `repr(float)`: the shortest text that reads back, with an exponent
/// below 1e-4 and from 1e16 on.
pub fn float_repr(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let magnitude = f.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{f:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(d) => ('-', d),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = format!("{f}");
    if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    }
}

/// Python's `repr(str)`.
pub fn str_repr(s: &str) -> String {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(s.len() + 2);
    out.push(quote);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => out.push_str(&match u32::from(c) {
                code @ 0..=0xff => format!("\\x{code:02x}"),
                code @ 0x100..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push(quote);
    out
}

fn bytes_repr(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for &b in bytes {
        match b {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b if b as char == quote => {
                out.push('\\');
                out.push(quote);
            }
            0x20..=0x7e => out.push(b as char),
            b => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out.push(quote);
    out
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::BigInt(a), Value::BigInt(b))
            | (Value::Str(a), Value::Str(b))
            | (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            // NaN is equal to itself here, so that a key can be found again.
            (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (a, b) => match (a.number(), b.number()) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Value::Null => 0u8.hash(state),
            Value::Str(s) | Value::Timestamp(s) | Value::BigInt(s) => s.hash(state),
            Value::Bytes(b) => b.hash(state),
            Value::List(l) => l.hash(state),
            Value::Map(m) => m.len().hash(state),
            // Equal numbers of different types must meet in one bucket.
            number => (number.number().unwrap_or(0.0) + 0.0).to_bits().hash(state),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.py_str())
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::Str(s.to_owned())
    }
}
impl From<String> for Value {
    fn from(s: String) -> Value {
        Value::Str(s)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}
impl From<i64> for Value {
    fn from(i: i64) -> Value {
        Value::Int(i)
    }
}
impl From<i32> for Value {
    fn from(i: i32) -> Value {
        Value::Int(i64::from(i))
    }
}
impl From<u32> for Value {
    fn from(i: u32) -> Value {
        Value::Int(i64::from(i))
    }
}
impl From<u64> for Value {
    fn from(i: u64) -> Value {
        i64::try_from(i).map_or_else(|_| Value::BigInt(i.to_string()), Value::Int)
    }
}
impl From<f64> for Value {
    fn from(f: f64) -> Value {
        Value::Float(f)
    }
}
impl From<Vec<Value>> for Value {
    fn from(l: Vec<Value>) -> Value {
        Value::List(l)
    }
}
impl From<Map> for Value {
    fn from(m: Map) -> Value {
        Value::Map(m)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(o: Option<T>) -> Value {
        o.map_or(Value::Null, Into::into)
    }
}
impl<K: Into<Value>, V: Into<Value>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Value {
        Value::Map(iter.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_key_across_types() {
        let mut m = Map::new();
        m.insert(Value::Int(1), "a".into());
        assert_eq!(m.get(&Value::Bool(true)), Some(&"a".into()));
        assert_eq!(m.get(&Value::Float(1.0)), Some(&"a".into()));
    }

    #[test]
    fn repr_is_pythons() {
        for (value, text) in [
            (Value::Float(1000.0), "1000.0"),
            (Value::Float(1e16), "1e+16"),
            (Value::Float(0.00001), "1e-05"),
            (Value::Float(-0.0), "-0.0"),
            (Value::Float(1.5e300), "1.5e+300"),
            (Value::from("it's"), "\"it's\""),
            (Value::from("a\"'"), "'a\"\\''"),
            (Value::List(vec![Value::Null, true.into()]), "[None, True]"),
        ] {
            assert_eq!(value.py_repr(), text);
        }
    }

    /// Each was asked of PyYAML and Python.
    #[test]
    fn dates_in_collections() {
        for (text, repr) in [
            ("2020-01-09", "datetime.date(2020, 1, 9)"),
            ("2020-01-01 10:00:00", "datetime.datetime(2020, 1, 1, 10, 0)"),
            ("2020-01-01 00:00:07", "datetime.datetime(2020, 1, 1, 0, 0, 7)"),
            ("2020-01-01 10:00:00.500000", "datetime.datetime(2020, 1, 1, 10, 0, 0, 500000)"),
            ("2020-01-01 10:00:00+00:00", "datetime.datetime(2020, 1, 1, 10, 0, tzinfo=datetime.timezone.utc)"),
            (
                "2020-01-01 10:00:00+02:00",
                "datetime.datetime(2020, 1, 1, 10, 0, tzinfo=datetime.timezone(datetime.timedelta(seconds=7200)))",
            ),
            (
                "2020-01-01 10:00:00-01:30",
                "datetime.datetime(2020, 1, 1, 10, 0, tzinfo=datetime.timezone(datetime.timedelta(days=-1, \
                 seconds=81000)))",
            ),
        ] {
            let list = Value::List(vec![Value::Timestamp(text.into())]);
            assert_eq!(list.py_str(), format!("[{repr}]"));
        }
    }
}
