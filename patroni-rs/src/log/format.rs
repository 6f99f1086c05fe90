//! A record becomes a line: text by a `%` format, or JSON (surface-config 6.2, 6.3, 6.11).

use std::borrow::Cow;
use std::ffi::CString;

use pyfmt::{json, Value};

use super::percent::PercentFormat;
use super::record::Record;

/// What `log.format` is when nobody says otherwise.
pub const DEFAULT_FORMAT: &str = "%(asctime)s %(levelname)s: %(message)s";

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A line of text.
    Plain(PercentFormat),
    /// One JSON object a line.
    Json {
        /// Attributes in order.
        fields: Vec<String>,
        /// Other names of keys.
        renames: Vec<(String, String)>,
        /// Keys that every line gets.
        static_fields: Vec<(String, Value)>,
    },
}

impl Format {
    /// The line for a record, without its line end.
    ///
    /// # Errors
    /// What Python raises on: an attribute that records do not have, a number that is none.
    pub fn render(&self, record: &Record, dateformat: Option<&str>) -> Result<String, String> {
        let attribute = |name: &str| match name {
            "asctime" => Some(asctime(record.created_us, dateformat).into()),
            name => record.attribute(name),
        };
        match self {
            Format::Plain(format) => {
                // Much of what is logged was said by others: it must not look like a line of ours.
                let shown = |name: &str| match (name, attribute(name)) {
                    ("message" | "msg" | "exc_text", Some(Value::Str(text))) => {
                        Some(one_line(&text).as_ref().into())
                    }
                    (_, value) => value,
                };
                let mut line = format.render(shown)?;
                if let Some(exception) = &record.exception {
                    if !line.ends_with('\n') {
                        line.push('\n');
                    }
                    line.push_str(&one_line(exception));
                }
                Ok(line)
            }
            Format::Json { fields, renames, static_fields } => {
                let renamed = |key: &str| -> String {
                    let new = renames.iter().rev().find(|(old, _)| old == key);
                    new.map_or(key, |(_, new)| new).to_owned()
                };
                let mut line = Value::map();
                for name in fields {
                    line.set(&renamed(name), attribute(name).unwrap_or_default());
                }
                for (key, value) in static_fields {
                    line.set(&renamed(key), value.clone());
                }
                if let Some(exception) = &record.exception {
                    line.set(&renamed("exc_info"), exception.as_str());
                }
                let told = record.fields.as_ref().and_then(Value::as_map);
                for (key, value) in told.into_iter().flat_map(|told| told.iter()) {
                    if let Value::Str(key) = key {
                        line.set(&renamed(key), value.clone());
                    }
                }
                Ok(json::dumps(&line))
            }
        }
    }
}

/// The text with line ends and other control characters as escapes: `\n`, `\x1b`, `\u2028`.
fn one_line(text: &str) -> Cow<'_, str> {
    let special = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if special(c) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Local time; milliseconds only in the default format, as Python has it.
pub fn asctime(created_us: i64, dateformat: Option<&str>) -> String {
    let seconds = created_us.div_euclid(1_000_000);
    match dateformat.filter(|f| !f.is_empty()) {
        Some(format) => local_time(seconds, format),
        None => {
            let millis = created_us.rem_euclid(1_000_000) / 1000;
            format!("{},{millis:03}", local_time(seconds, "%Y-%m-%d %H:%M:%S"))
        }
    }
}

/// The C library's strftime, which Python's `time.strftime` is too: each of its letters, and what it does with
/// those that it does not know.
#[allow(unsafe_code)]
fn local_time(seconds: i64, format: &str) -> String {
    let Ok(pattern) = CString::new(format) else { return format.to_owned() };
    // SAFETY: all-zero is a valid tm.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right type.
    if unsafe { libc::localtime_r(&seconds, &mut tm) }.is_null() {
        return String::new();
    }
    let mut buffer = vec![0_u8; 256 + 64 * format.len()];
    // SAFETY: the buffer has the length that is passed, and the pattern ends with a zero.
    let length = unsafe { libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), pattern.as_ptr(), &tm) };
    buffer.truncate(length);
    String::from_utf8_lossy(&buffer).into_owned()
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
            exception: None,
            fields: None,
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
            ("%(msecs)03d %(created).3f", "500 1.500"),
            ("%(module)s %(filename)s %(taskName)s", "ha ha.py None"),
            ("", "no action"),
        ] {
            let format = Format::Plain(PercentFormat::parse(format).unwrap());
            assert_eq!(format.render(&record(), None).unwrap(), line);
        }
    }

    #[test]
    fn nothing_that_is_logged_makes_a_line_of_its_own() {
        let format = Format::Plain(PercentFormat::parse(DEFAULT_FORMAT).unwrap());
        let mut record = record();
        record.message = "candidate=x\n2026-01-01 INFO: Lock owner: y\r\u{1b}[2J\u{9b}\u{2028}\t\\n é".into();
        record.exception = Some("ValueError: a\nb".into());
        let text = format.render(&record, None).unwrap();
        let lines: Vec<&str> = text.split('\n').collect();
        let message = r"INFO: candidate=x\n2026-01-01 INFO: Lock owner: y\r\x1b[2J\x9b\u2028\t\n é";
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with(message), "{text}");
        assert_eq!(lines[1], r"ValueError: a\nb");
    }

    #[test]
    fn an_exception_follows_the_line() {
        let mut record = record();
        record.exception = Some("ValueError: x".into());
        let format = Format::Plain(PercentFormat::parse("%(message)s").unwrap());
        assert_eq!(format.render(&record, None).unwrap(), "no action\nValueError: x");
        let format = Format::Json { fields: vec!["message".into()], renames: vec![], static_fields: vec![] };
        assert_eq!(
            format.render(&record, None).unwrap(),
            r#"{"message": "no action", "exc_info": "ValueError: x"}"#
        );
    }

    #[test]
    fn json_lines_keep_types_and_order() {
        let format = Format::Json {
            fields: vec!["levelname".into(), "lineno".into(), "x".into()],
            renames: vec![("levelname".into(), "level".into()), ("app".into(), "application".into())],
            static_fields: vec![("app".into(), "p".into()), ("lineno".into(), 8.into())],
        };
        assert_eq!(
            format.render(&record(), None).unwrap(),
            r#"{"level": "INFO", "lineno": 8, "x": null, "application": "p"}"#
        );
    }

    #[test]
    fn what_is_told_to_programs_is_a_part_of_json_lines_alone() {
        let fields = json::loads(r#"{"event": "not_promoted", "position": 5}"#).ok();
        let record = Record { fields, ..record() };
        let format = Format::Json {
            fields: vec!["message".into()],
            renames: vec![("event".into(), "kind".into())],
            static_fields: vec![],
        };
        let text = r#"{"message": "no action", "kind": "not_promoted", "position": 5}"#;
        assert_eq!(format.render(&record, None).unwrap(), text);
        let plain = Format::Plain(PercentFormat::parse("%(message)s").unwrap());
        assert_eq!(plain.render(&record, None).unwrap(), "no action");
    }

    #[test]
    fn dates_by_the_c_library() {
        // Noon in the middle of a year: the same date in every zone.
        let at = 1_718_452_800_123_456;
        assert_eq!(asctime(at, Some("%Y-%m-%d %% %y")), "2024-06-15 % 24");
        assert_eq!(asctime(at, Some("%Q %L")), "%Q %L");
        assert!(asctime(at, None).ends_with(",123"));
    }
}
