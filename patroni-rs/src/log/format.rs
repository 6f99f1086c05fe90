//! Python's `%`-style format strings for log lines (surface-config 6.2, 6.3, 6.11).

use jiff::{tz::TimeZone, Timestamp};
use pyfmt::{json, Value};

use super::record::Record;

/// What `log.format` is when nobody says otherwise.
pub const DEFAULT_FORMAT: &str = "%(asctime)s %(levelname)s: %(message)s";

/// One piece of a format string.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { name: String, flags: String, width: usize, precision: Option<usize>, kind: char },
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A line of text.
    Plain(PlainFormat),
    /// One JSON object a line: (attribute, key) in order.
    Json {
        /// Attribute and the key that it is written under.
        fields: Vec<(String, String)>,
        /// Keys that every line gets.
        static_fields: Vec<(String, Value)>,
    },
}

/// A parsed `%` format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainFormat(Vec<Piece>);

impl PlainFormat {
    /// Parses a format string.
    ///
    /// # Errors
    /// Python's text for a string without any field.
    pub fn parse(text: &str) -> Result<PlainFormat, String> {
        let text = if text.is_empty() { "%(message)s" } else { text };
        let invalid = || format!("Invalid format '{text}' for '%' style");
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let (field, after) = parse_field(rest).ok_or_else(invalid)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(field);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if !pieces.iter().any(|p| matches!(p, Piece::Field { .. })) {
            return Err(invalid());
        }
        Ok(PlainFormat(pieces))
    }

    /// Names of the fields in order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|p| match p {
            Piece::Field { name, .. } => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    fn render(&self, record: &Record, asctime: &str) -> Option<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field { name, flags, width, precision, kind } => {
                    let value = record.attribute(name, asctime)?;
                    out.push_str(&convert(&value, flags, *width, *precision, *kind));
                }
            }
        }
        Some(out)
    }
}

/// `(name)[flags][width][.precision]kind`, after the `%`.
fn parse_field(text: &str) -> Option<(Piece, &str)> {
    let (name, rest) = text.strip_prefix('(')?.split_once(')')?;
    let flags_end = rest.find(|c| !"#0- +".contains(c))?;
    let (flags, rest) = rest.split_at(flags_end);
    let width_end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (width, mut rest) = rest.split_at(width_end);
    let mut precision = None;
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_ascii_digit())?;
        precision = Some(after[..end].parse().unwrap_or(0));
        rest = &after[end..];
    }
    let kind = rest.chars().next().filter(|c| "diouxXeEfFgGcrsa".contains(*c))?;
    let field = Piece::Field {
        name: name.to_owned(),
        flags: flags.to_owned(),
        // A width beyond any terminal is a mistake; it must not fill memory.
        width: width.parse::<usize>().unwrap_or(0).min(4096),
        precision,
        kind,
    };
    Some((field, &rest[kind.len_utf8()..]))
}

fn convert(value: &Value, flags: &str, width: usize, precision: Option<usize>, kind: char) -> String {
    let number = value.as_f64().unwrap_or(0.0);
    let mut text = match kind {
        'd' | 'i' | 'u' => format!("{}", number.trunc() as i64),
        'x' => format!("{:x}", number as i64),
        'X' => format!("{:X}", number as i64),
        'o' => format!("{:o}", number as i64),
        'f' | 'F' => format!("{number:.*}", precision.unwrap_or(6)),
        'e' | 'E' | 'g' | 'G' => pyfmt::value::float_repr(number),
        'r' | 'a' => value.py_repr(),
        _ => value.py_str(),
    };
    if let ('s' | 'r' | 'a', Some(max)) = (kind, precision) {
        text = text.chars().take(max).collect();
    }
    let numeric = !matches!(kind, 's' | 'r' | 'a' | 'c');
    if numeric && flags.contains('+') && !text.starts_with('-') {
        text.insert(0, '+');
    }
    let missing = width.saturating_sub(text.chars().count());
    if missing == 0 {
        text
    } else if flags.contains('-') {
        text + &" ".repeat(missing)
    } else if numeric && flags.contains('0') {
        let sign = usize::from(text.starts_with(['-', '+']));
        text.insert_str(sign, &"0".repeat(missing));
        text
    } else {
        " ".repeat(missing) + &text
    }
}

impl Format {
    /// The line for a record, without its line end; None when the format names an
    /// attribute that records do not have.
    pub fn render(&self, record: &Record, dateformat: Option<&str>) -> Option<String> {
        let asctime = asctime(record.created_us, dateformat);
        match self {
            Format::Plain(plain) => plain.render(record, &asctime),
            Format::Json { fields, static_fields } => {
                let mut line = Value::map();
                for (name, key) in fields {
                    line.set(key, record.attribute(name, &asctime).unwrap_or_default());
                }
                for (key, value) in static_fields {
                    line.set(key, value.clone());
                }
                Some(json::dumps(&line))
            }
        }
    }
}

/// Local time; milliseconds only in the default format, as Python has it.
pub fn asctime(created_us: i64, dateformat: Option<&str>) -> String {
    let Ok(time) = Timestamp::from_microsecond(created_us) else { return String::new() };
    let local = time.to_zoned(TimeZone::system());
    match dateformat.filter(|f| !f.is_empty()) {
        Some(format) => jiff::fmt::strtime::format(format, &local).unwrap_or_else(|_| format.to_owned()),
        None => {
            let millis = created_us.rem_euclid(1_000_000) / 1000;
            let seconds = jiff::fmt::strtime::format("%Y-%m-%d %H:%M:%S", &local).unwrap_or_default();
            format!("{seconds},{millis:03}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::record::LevelNo;
    use super::*;

    fn record() -> Record {
        Record {
            level: LevelNo::INFO,
            name: "patroni.ha",
            message: "no action".into(),
            created_us: 1_500_000,
            file: "patroni-rs/src/shell/tick.rs",
            line: 7,
            thread_name: "MainThread".into(),
            thread: 1,
        }
    }

    #[test]
    fn percent_formats() {
        for (format, line) in [
            ("%(levelname)-8s|%(message).4s", "INFO    |no a"),
            ("%(lineno)05d %(name)s %%", "00007 patroni.ha %"),
            ("%(msecs)03d", "500"),
            ("%(module)s %(filename)s", "tick tick.rs"),
            ("", "no action"),
        ] {
            let format = Format::Plain(PlainFormat::parse(format).unwrap());
            assert_eq!(format.render(&record(), None).unwrap(), line);
        }
    }

    #[test]
    fn bad_formats_are_refused() {
        for format in ["text", "%(x", "%(x)", "%s", "100%"] {
            assert_eq!(
                PlainFormat::parse(format).unwrap_err(),
                format!("Invalid format '{format}' for '%' style")
            );
        }
    }

    #[test]
    fn json_lines_keep_types_and_order() {
        let format = Format::Json {
            fields: vec![
                ("levelname".into(), "level".into()),
                ("lineno".into(), "lineno".into()),
                ("x".into(), "x".into()),
            ],
            static_fields: vec![("app".into(), "p".into())],
        };
        assert_eq!(
            format.render(&record(), None).unwrap(),
            r#"{"level": "INFO", "lineno": 7, "x": null, "app": "p"}"#
        );
    }
}
