//! JSON as Python's `json` module reads and writes it.

mod read;

use crate::value::{float_repr, Value};

/// Why a text is not JSON: the text of Python's JSONDecodeError.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

/// Reads one JSON document, as `json.loads`: the last of duplicate keys wins, integers
/// of any size are kept exactly, `NaN` and `Infinity` are numbers. A lone surrogate
/// becomes U+FFFD.
///
/// # Errors
/// The text is not one JSON document (`Expecting value: line 1 column 1 (char 0)`).
pub fn loads(text: &str) -> Result<Value, JsonError> {
    read::read(text)
}

/// `json.dumps(value, separators=(',', ':'))`: what Patroni writes to the DCS.
pub fn dumps_compact(value: &Value) -> String {
    let mut out = String::new();
    write(value, ",", ":", &mut out);
    out
}

/// `json.dumps(value)`: what the REST API answers.
pub fn dumps(value: &Value) -> String {
    let mut out = String::new();
    write(value, ", ", ": ", &mut out);
    out
}

fn write(value: &Value, comma: &str, colon: &str, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::BigInt(s) => out.push_str(s),
        Value::Float(f) => out.push_str(&float(*f)),
        Value::Str(s) | Value::Timestamp(s) => escape(s, out),
        Value::Bytes(b) => escape(&String::from_utf8_lossy(b), out),
        Value::List(l) => {
            out.push('[');
            for (i, v) in l.iter().enumerate() {
                if i > 0 {
                    out.push_str(comma);
                }
                write(v, comma, colon, out);
            }
            out.push(']');
        }
        Value::Map(m) => {
            out.push('{');
            for (i, (k, v)) in m.iter().enumerate() {
                if i > 0 {
                    out.push_str(comma);
                }
                escape(&key(k), out);
                out.push_str(colon);
                write(v, comma, colon, out);
            }
            out.push('}');
        }
    }
}

fn float(f: f64) -> String {
    if f.is_nan() {
        "NaN".into()
    } else if f.is_infinite() {
        if f > 0.0 { "Infinity" } else { "-Infinity" }.into()
    } else {
        float_repr(f)
    }
}

/// Keys that are not text are written as `json.dumps` coerces them.
fn key(k: &Value) -> String {
    match k {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Float(f) => float(*f),
        other => other.py_str(),
    }
}

/// `ensure_ascii`: everything outside ASCII, and DEL is kept as it is.
fn escape(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_as_python_does() {
        for (input, output) in [
            (
                r#"{"b":1,"a":[1.0,1e3,123456789012345678901234]}"#,
                r#"{"b": 1, "a": [1.0, 1000.0, 123456789012345678901234]}"#,
            ),
            (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
            ("\"\u{e9}\u{1f600}\u{7f}\"", r#""\u00e9\ud83d\ude00\u007f""#),
        ] {
            assert_eq!(dumps(&loads(input).unwrap()), output);
        }
    }
}
