//! The tag and the text of scalars. Follows PyYAML 6.0.3's SafeRepresenter
//! (representer.py, MIT).

use super::resolve::Tag;
use crate::value::{float_repr, Value};

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// A scalar's tag and text, and whether it asks to be written as a literal block.
pub(super) fn represent(value: &Value) -> (Tag, String, bool) {
    match value {
        Value::Bool(b) => (Tag::Bool, b.to_string(), false),
        Value::Int(i) => (Tag::Int, i.to_string(), false),
        Value::BigInt(digits) => (Tag::Int, digits.clone(), false),
        Value::Float(f) => (Tag::Float, float(*f), false),
        Value::Str(text) => (Tag::Str, text.clone(), false),
        Value::Timestamp(text) => (Tag::Timestamp, text.clone(), false),
        Value::Bytes(bytes) => (Tag::Binary, encode_base64(bytes), true),
        Value::Null | Value::List(_) | Value::Map(_) => (Tag::Null, "null".to_owned(), false),
    }
}

fn float(f: f64) -> String {
    if f.is_nan() {
        return ".nan".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let text = float_repr(f);
    // YAML 1.1 wants a point before the exponent.
    if text.contains('.') {
        text
    } else {
        text.replacen('e', ".0e", 1)
    }
}

/// Python's `base64.encodebytes`: lines of 76 characters, each ended by a line feed.
fn encode_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| ALPHABET.get((bits & 63) as usize).map_or('A', |b| char::from(*b));
    let mut out = String::new();
    for line in bytes.chunks(57) {
        for group in line.chunks(3) {
            let byte = |i: usize| group.get(i).map_or(0, |b| u32::from(*b));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            out.push(letter(bits >> 18));
            out.push(letter(bits >> 12));
            out.push(if group.len() > 1 { letter(bits >> 6) } else { '=' });
            out.push(if group.len() > 2 { letter(bits) } else { '=' });
        }
        out.push('\n');
    }
    out
}
