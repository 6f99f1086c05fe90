//! Reading JSON by the rules and with the error messages of CPython 3.11's `json`.

use super::JsonError;
use crate::value::{Map, Value};

/// Nesting that is refused. Python gives up near 1000, with a RecursionError; a thread's
/// stack here is smaller, and nothing that Patroni keeps is nested like that.
const MAX_DEPTH: usize = 256;

/// Digits that Python converts between text and integer.
const MAX_DIGITS: usize = 4300;

/// Reads characters; `at` counts them.
struct Reader<'a> {
    text: &'a str,
    /// The byte that `at` stands for.
    byte: usize,
    depth: usize,
}

type Result<T> = std::result::Result<T, JsonError>;

pub(super) fn read(text: &str) -> Result<Value> {
    let mut reader = Reader { text, byte: 0, depth: 0 };
    if text.starts_with('\u{feff}') {
        return Err(reader.error("Unexpected UTF-8 BOM (decode using utf-8-sig)", 0));
    }
    reader.skip_space();
    let value = reader.value()?;
    reader.skip_space();
    if reader.byte < text.len() {
        return Err(reader.error("Extra data", reader.byte));
    }
    Ok(value)
}

impl<'a> Reader<'a> {
    /// An error at a byte, which is shown as the line, the column and the character.
    fn error(&self, message: &str, byte: usize) -> JsonError {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let last = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(last..).unwrap_or_default().chars().count() + 1;
        let at = before.chars().count();
        JsonError(format!("{message}: line {line} column {column} (char {at})"))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.byte..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.byte).copied()
    }

    /// Takes a byte of ASCII if it is the next one.
    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.byte += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.byte += 1;
        }
    }

    fn value(&mut self) -> Result<Value> {
        match self.peek() {
            Some(b'"') => return self.string().map(Value::Str),
            Some(b'{') => return self.nested(Reader::object),
            Some(b'[') => return self.nested(Reader::array),
            _ => {}
        }
        match self.word() {
            Some(value) => Ok(value),
            None => self.number(),
        }
    }

    fn word(&mut self) -> Option<Value> {
        const WORDS: [&str; 6] = ["null", "true", "false", "NaN", "Infinity", "-Infinity"];
        let rest = self.rest();
        let word = WORDS.into_iter().find(|word| rest.starts_with(word))?;
        self.byte += word.len();
        Some(match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "NaN" => Value::Float(f64::NAN),
            "Infinity" => Value::Float(f64::INFINITY),
            _ => Value::Float(f64::NEG_INFINITY),
        })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value>) -> Result<Value> {
        if self.depth >= MAX_DEPTH {
            return Err(JsonError(
                "maximum recursion depth exceeded while decoding a JSON document".to_owned(),
            ));
        }
        self.depth += 1;
        self.byte += 1;
        self.skip_space();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Value> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            if self.ends(b']')? {
                return Ok(Value::List(items));
            }
        }
    }

    fn object(&mut self) -> Result<Value> {
        let mut map = Map::new();
        if self.take(b'}') {
            return Ok(Value::Map(map));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("Expecting property name enclosed in double quotes", self.byte));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.error("Expecting ':' delimiter", self.byte));
            }
            self.skip_space();
            let value = self.value()?;
            map.insert(Value::Str(key), value);
            if self.ends(b'}')? {
                return Ok(Value::Map(map));
            }
        }
    }

    /// After an item: the end of the collection, or a comma before another item.
    fn ends(&mut self, close: u8) -> Result<bool> {
        self.skip_space();
        if self.take(close) {
            return Ok(true);
        }
        if !self.take(b',') {
            return Err(self.error("Expecting ',' delimiter", self.byte));
        }
        self.skip_space();
        Ok(false)
    }

    fn number(&mut self) -> Result<Value> {
        let start = self.byte;
        let digits = |r: &mut Self| {
            let from = r.byte;
            while r.peek().is_some_and(|b| b.is_ascii_digit()) {
                r.byte += 1;
            }
            r.byte > from
        };
        self.take(b'-');
        if !self.take(b'0') && !digits(self) {
            return Err(self.error("Expecting value", start));
        }
        let mut float = false;
        let whole = self.byte;
        if self.take(b'.') {
            float = digits(self);
            if !float {
                self.byte = whole;
            }
        }
        let mantissa = self.byte;
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'-') || self.take(b'+');
            if digits(self) {
                float = true;
            } else {
                self.byte = mantissa;
            }
        }
        let text = self.text.get(start..self.byte).unwrap_or_default();
        if float {
            return Ok(Value::Float(text.parse().unwrap_or(f64::NAN)));
        }
        integer(text)
    }

    fn string(&mut self) -> Result<String> {
        let begin = self.byte;
        let mut out = String::new();
        self.byte += 1;
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            out.push_str(rest.get(..plain).unwrap_or_default());
            self.byte += plain;
            match self.peek() {
                None => return Err(self.error("Unterminated string starting at", begin)),
                Some(b'"') => {
                    self.byte += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    let c = self.escape(begin)?;
                    out.push(c);
                }
                Some(_) => return Err(self.error("Invalid control character at", self.byte)),
            }
        }
    }

    fn escape(&mut self, begin: usize) -> Result<char> {
        let backslash = self.byte;
        self.byte += 1;
        let c = match self.peek() {
            None => return Err(self.error("Unterminated string starting at", begin)),
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            Some(_) => return Err(self.error("Invalid \\escape", backslash)),
        };
        self.byte += 1;
        Ok(c)
    }

    /// `uXXXX`, and a second one where they are a pair. Python holds lone surrogates,
    /// which no text of Rust can.
    fn unicode_escape(&mut self) -> Result<char> {
        let high = self.code_unit()?;
        if (0xd800..0xdc00).contains(&high) && self.rest().starts_with("\\u") {
            let back = self.byte;
            self.byte += 1;
            let low = self.code_unit()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.byte = back;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn code_unit(&mut self) -> Result<u32> {
        let digits = self.text.get(self.byte + 1..self.byte + 5).unwrap_or_default();
        let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex || self.byte + 5 >= self.text.len() {
            return Err(self.error("Invalid \\uXXXX escape", self.byte));
        }
        self.byte += 5;
        Ok(u32::from_str_radix(digits, 16).unwrap_or(0))
    }
}

fn integer(text: &str) -> Result<Value> {
    let digits = text.trim_start_matches('-').len();
    if digits > MAX_DIGITS {
        return Err(JsonError(format!(
            "Exceeds the limit ({MAX_DIGITS} digits) for integer string conversion: value has {digits} digits; use sys.set_int_max_str_digits() to increase the limit"
        )));
    }
    Ok(text.parse().map_or_else(|_| Value::BigInt(text.to_owned()), Value::Int))
}
