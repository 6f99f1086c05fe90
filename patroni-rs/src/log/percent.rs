//! Python's `%` operator with a mapping on its right: what `log.format` is rendered by (surface-config 6.3).

use pyfmt::value::float_repr;
use pyfmt::Value;

/// One piece of a format string.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
    /// What Python raises on for each record.
    Wrong(String),
}

/// `%(name)[flags][width][.precision]kind`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Field {
    name: String,
    flags: String,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

/// A parsed format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PercentFormat {
    pieces: Vec<Piece>,
    names: Vec<String>,
}

/// Larger numbers are a mistake; they must not fill memory.
const WIDEST: usize = 4096;

impl PercentFormat {
    /// Parses a format string; an empty one is the message alone.
    ///
    /// # Errors
    /// Python's text for a string without any good field. What is wrong beside one is found when a
    /// record is written, as in Python.
    pub fn parse(text: &str) -> Result<PercentFormat, String> {
        let text = if text.is_empty() { "%(message)s" } else { text };
        if !has_field(text) {
            return Err(format!("ValueError: Invalid format '{text}' for '%' style"));
        }
        Ok(PercentFormat { pieces: pieces(text), names: names(text) })
    }

    /// What stands in `%(...)`, in order; python-json-logger takes these alone.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The text with its fields filled in.
    ///
    /// # Errors
    /// What Python raises.
    pub fn render(&self, value_of: impl Fn(&str) -> Option<Value>) -> Result<String, String> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Wrong(error) => return Err(error.clone()),
                Piece::Field(field) => {
                    let value = value_of(&field.name).ok_or_else(|| {
                        let name = pyfmt::value::str_repr(&field.name);
                        format!("ValueError: Formatting field not found in record: {name}")
                    })?;
                    out.push_str(&field.convert(&value)?);
                }
            }
        }
        Ok(out)
    }
}

/// `%\(\w+\)[#0+ -]*(\*|\d+)?(\.(\*|\d+))?[diouxefgcrsa%]` somewhere, in either case.
fn has_field(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("%(") {
        rest = &rest[at + 2..];
        if let Some((name, after)) = rest.split_once(')') {
            let word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if word && ends_as_field(after) {
                return true;
            }
        }
    }
    false
}

fn ends_as_field(text: &str) -> bool {
    let number = |text: &str| -> usize {
        if text.starts_with('*') {
            1
        } else {
            text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
        }
    };
    let mut rest = text.trim_start_matches(['#', '0', '+', ' ', '-']);
    rest = &rest[number(rest)..];
    if let Some(after) = rest.strip_prefix('.') {
        let length = number(after);
        if length > 0 {
            rest = &after[length..];
        }
    }
    rest.starts_with(|c: char| "diouxefgcrsa%".contains(c.to_ascii_lowercase()))
}

/// `%\((.+?)\)` everywhere.
fn names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("%(") {
        rest = &rest[at + 2..];
        // At least one character, even if it is the bracket.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let Some(end) = rest[first..].find(')') else { break };
        found.push(rest[..first + end].to_owned());
        rest = &rest[first + end + 1..];
    }
    found
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match field(rest, text) {
            Ok((Some(field), after)) => {
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Field(field));
                rest = after;
            }
            Ok((None, after)) => {
                literal.push('%');
                rest = after;
            }
            Err(error) => {
                pieces.push(Piece::Wrong(error));
                return pieces;
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    pieces
}

/// What follows a `%`: a field, or none for a second `%`.
fn field<'a>(text: &'a str, whole: &str) -> Result<(Option<Field>, &'a str), String> {
    let incomplete = || "ValueError: incomplete format".to_owned();
    let mut out = Field::default();
    let mut rest = text;
    let mut named = false;
    if let Some(after) = rest.strip_prefix('%') {
        return Ok((None, after));
    }
    if let Some(inside) = rest.strip_prefix('(') {
        let end = closing(inside).ok_or_else(|| "ValueError: incomplete format key".to_owned())?;
        inside[..end].clone_into(&mut out.name);
        rest = &inside[end + 1..];
        named = true;
    }
    let flags_end = rest.find(|c| !"#0- +".contains(c)).ok_or_else(incomplete)?;
    rest[..flags_end].clone_into(&mut out.flags);
    rest = &rest[flags_end..];
    let starred = || "TypeError: * wants int".to_owned();
    if rest.starts_with('*') {
        return Err(starred());
    }
    let (width, after) = digits(rest);
    (out.width, rest) = (width.unwrap_or(0), after);
    if let Some(after) = rest.strip_prefix('.') {
        if after.starts_with('*') {
            return Err(starred());
        }
        let (precision, after) = digits(after);
        (out.precision, rest) = (Some(precision.unwrap_or(0)), after);
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    out.kind = rest.chars().next().ok_or_else(incomplete)?;
    let after = &rest[out.kind.len_utf8()..];
    if !named {
        return Err("TypeError: not enough arguments for format string".to_owned());
    }
    if !"diouxXeEfFgGcrsa".contains(out.kind) {
        let at = whole.chars().count() - rest.chars().count();
        let kind = out.kind;
        return Err(format!(
            "ValueError: unsupported format character '{kind}' (0x{:x}) at index {at}",
            u32::from(kind)
        ));
    }
    Ok((Some(out), after))
}

/// Brackets inside of a name count.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn digits(text: &str) -> (Option<usize>, &str) {
    let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number = (!number.is_empty()).then(|| number.parse().unwrap_or(WIDEST).min(WIDEST));
    (number, rest)
}

impl Field {
    fn convert(&self, value: &Value) -> Result<String, String> {
        let text = match self.kind {
            's' => value.py_str(),
            'r' => value.py_repr(),
            'a' => ascii(&value.py_repr()),
            'c' => return Ok(self.padded(character(value)?, false)),
            'd' | 'i' | 'u' => return Ok(self.number(&self.integer(value, false)?.to_string())),
            'x' | 'X' | 'o' => return Ok(self.number(&self.radix(self.integer(value, true)?))),
            _ => return Ok(self.number(&self.float(value)?)),
        };
        let text = match self.precision {
            Some(max) => text.chars().take(max).collect(),
            None => text,
        };
        Ok(self.padded(text, false))
    }

    fn integer(&self, value: &Value, exact: bool) -> Result<i64, String> {
        let wanted = if exact { "an integer" } else { "a real number" };
        match value {
            Value::Int(_) | Value::Bool(_) => Ok(value.as_i64().unwrap_or_default()),
            Value::Float(f) if !exact => Ok(f.trunc() as i64),
            other => Err(format!(
                "TypeError: %{} format: {wanted} is required, not {}",
                self.kind,
                other.type_name()
            )),
        }
    }

    fn radix(&self, number: i64) -> String {
        let sign = if number < 0 { "-" } else { "" };
        let (prefix, digits) = match self.kind {
            'o' => ("0o", format!("{:o}", number.unsigned_abs())),
            'x' => ("0x", format!("{:x}", number.unsigned_abs())),
            _ => ("0X", format!("{:X}", number.unsigned_abs())),
        };
        let prefix = if self.flags.contains('#') { prefix } else { "" };
        format!("{sign}{prefix}{digits}")
    }

    fn float(&self, value: &Value) -> Result<String, String> {
        let number = match value {
            Value::Float(_) | Value::Int(_) | Value::Bool(_) => value.as_f64().unwrap_or_default(),
            other => return Err(format!("TypeError: must be real number, not {}", other.type_name())),
        };
        let text = if !number.is_finite() {
            float_repr(number)
        } else {
            let precision = self.precision.unwrap_or(6);
            match self.kind {
                'f' | 'F' => format!("{number:.precision$}"),
                'e' | 'E' => exponential(number, precision),
                _ => self.general(number, precision.max(1)),
            }
        };
        Ok(if self.kind.is_ascii_uppercase() { text.to_uppercase() } else { text })
    }

    fn general(&self, number: f64, precision: usize) -> String {
        let scientific = exponential(number, precision - 1);
        let exponent: i64 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
        if exponent < -4 || exponent >= precision as i64 {
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
            return format!("{}e{exponent}", self.trimmed(mantissa));
        }
        let decimals = (precision as i64 - 1 - exponent).max(0) as usize;
        self.trimmed(&format!("{number:.decimals$}"))
    }

    fn trimmed(&self, text: &str) -> String {
        if self.flags.contains('#') || !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// Sign, and leading zeros of whole numbers with a precision.
    fn number(&self, text: &str) -> String {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let mut digits = digits.to_owned();
        if let (Some(min), 'd' | 'i' | 'u' | 'x' | 'X' | 'o') = (self.precision, self.kind) {
            digits = "0".repeat(min.saturating_sub(digits.len())) + &digits;
        }
        let sign = if negative {
            "-"
        } else if self.flags.contains('+') {
            "+"
        } else if self.flags.contains(' ') {
            " "
        } else {
            ""
        };
        self.padded(format!("{sign}{digits}"), true)
    }

    fn padded(&self, mut text: String, numeric: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            text
        } else if self.flags.contains('-') {
            text + &" ".repeat(missing)
        } else if numeric && self.flags.contains('0') {
            let sign = usize::from(text.starts_with(['-', '+', ' ']));
            text.insert_str(sign, &"0".repeat(missing));
            text
        } else {
            " ".repeat(missing) + &text
        }
    }
}

/// `1.500000e+03`: at least two digits of exponent, with its sign.
fn exponential(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn character(value: &Value) -> Result<String, String> {
    let one = |text: &&str| text.chars().count() == 1;
    match value {
        Value::Str(text) if one(&text.as_str()) => Ok(text.clone()),
        other => other
            .as_i64()
            .and_then(|n| char::from_u32(u32::try_from(n).ok()?))
            .map(String::from)
            .ok_or_else(|| "TypeError: %c requires int or char".to_owned()),
    }
}

fn ascii(repr: &str) -> String {
    let mut out = String::new();
    for c in repr.chars() {
        match u32::from(c) {
            code if c.is_ascii() => out.push(char::from(code as u8)),
            code @ 0x80..=0xff => out.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: &str) -> Result<String, String> {
        PercentFormat::parse(format)?.render(|name| {
            Some(match name {
                "s" => "größe".into(),
                "i" => 42.into(),
                "neg" => (-7).into(),
                "f" => 1_234.567_8.into(),
                "small" => 0.000_012_5.into(),
                "big" => 1e20.into(),
                "none" => Value::Null,
                "a(b)" => "bracket".into(),
                _ => return None,
            })
        })
    }

    /// Each was asked of Python 3.11.
    #[test]
    fn as_python() {
        for (format, want) in [
            ("%(s)-8s|%(s).3s|%(s)8.2s|", "größe   |grö|      gr|"),
            ("%(s)r %(s)a", "'größe' 'gr\\xf6\\xdfe'"),
            ("%(i)05d|%(i)+d", "00042|+42"),
            ("%(i) d|%(i)-5d|%(i)5d|%(i).4d", " 42|42   |   42|0042"),
            ("%(neg)05d|%(neg)x|%(i)#x|%(i)X|%(i)#o|%(i)o", "-0007|-7|0x2a|2A|0o52|52"),
            ("%(f)d|%(f)f|%(f).1f|%(f)10.2f|%(f)010.2f", "1234|1234.567800|1234.6|   1234.57|0001234.57"),
            ("%(f)e|%(f).2E|%(f)g|%(f).3g|%(f)G", "1.234568e+03|1.23E+03|1234.57|1.23e+03|1234.57"),
            ("%(small)g|%(big)g|%(i)g|%(i)e", "1.25e-05|1e+20|42|4.200000e+01"),
            ("%(i)c %(none)s 100%%", "* None 100%"),
            ("%(i)d%(a(b))s%(i)ld", "42bracket42"),
        ] {
            assert_eq!(rendered(format).as_deref(), Ok(want), "{format}");
        }
    }

    #[test]
    fn what_is_wrong_beside_a_good_field() {
        for (format, error) in [
            ("%(s)s 100%", "ValueError: incomplete format"),
            ("%(s)s %(i)y", "ValueError: unsupported format character 'y' (0x79) at index 10"),
            ("%(none)s 100%% %(i)5%", "ValueError: unsupported format character '%' (0x25) at index 20"),
            ("%(s)s %y", "TypeError: not enough arguments for format string"),
            ("%(s).0f", "TypeError: must be real number, not str"),
            ("%(s)s %(i", "ValueError: incomplete format key"),
            ("%(x)s", "ValueError: Formatting field not found in record: 'x'"),
            ("%(s)d", "TypeError: %d format: a real number is required, not str"),
            ("%(f)x", "TypeError: %x format: an integer is required, not float"),
            ("%(s)*d", "TypeError: * wants int"),
        ] {
            assert_eq!(rendered(format), Err(error.into()), "{format}");
        }
    }

    #[test]
    fn without_a_field_it_is_refused() {
        for format in ["text", "%(x", "%(x)", "%s", "100%", "%()s", "%(a b)s", "%(x)y"] {
            let error = format!("ValueError: Invalid format '{format}' for '%' style");
            assert_eq!(PercentFormat::parse(format).err(), Some(error));
        }
    }
}
