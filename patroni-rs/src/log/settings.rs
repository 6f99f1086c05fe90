//! The `log` section (surface-config 6).

use std::collections::HashMap;
use std::path::PathBuf;

use pyfmt::int::clamped;
use pyfmt::Value;

use super::format::{Format, DEFAULT_FORMAT};
use super::percent::PercentFormat;
use super::record::LevelNo;

/// Everything that can change while running.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Of the root logger.
    pub level: LevelNo,
    /// Of others, by logger name.
    pub loggers: HashMap<String, LevelNo>,
    /// `log.traceback_level` is DEBUG: what went wrong is told in one line, and in full at level DEBUG.
    pub traceback_at_debug: bool,
    /// How lines look.
    pub format: Format,
    /// strftime pattern.
    pub dateformat: Option<String>,
    /// `log.dir`; None: standard error.
    pub dir: Option<PathBuf>,
    /// Bytes; 0: never rotate.
    pub file_size: u64,
    /// Old files to keep.
    pub file_num: u32,
    /// Permissions of the file.
    pub mode: u32,
    /// Records that may wait for a slow disk; 0: any number.
    pub max_queue_size: usize,
    /// Drop a heartbeat that repeats the one before.
    pub deduplicate: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            level: LevelNo::INFO,
            loggers: HashMap::new(),
            traceback_at_debug: false,
            format: default_format(),
            dateformat: None,
            dir: None,
            file_size: 25_000_000,
            file_num: 4,
            mode: 0o644,
            max_queue_size: 1000,
            deduplicate: false,
        }
    }
}

fn default_format() -> Format {
    // The default parses; the other arm could only come of a typing error in it.
    PercentFormat::parse(DEFAULT_FORMAT).map_or_else(
        |_| Format::Json { fields: vec!["message".into()], renames: Vec::new(), static_fields: Vec::new() },
        Format::Plain,
    )
}

impl Settings {
    /// The log file.
    pub fn file(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join("patroni.log"))
    }

    /// Reads the section; `umask` is the process' original one. The strings are
    /// warnings to log once the new settings are in force.
    ///
    /// # Errors
    /// What the reference dies of (at start) or refuses (at reload): the last line of its traceback.
    pub fn from_config(log: Option<&Value>, umask: u32) -> Result<(Settings, Vec<String>), String> {
        let empty = Value::map();
        let log = log.unwrap_or(&empty);
        if log.as_map().is_none() {
            return Err(no_attribute(log, "keys"));
        }
        let mut warnings = Vec::new();
        let mut settings = Settings { mode: 0o666 & !umask, ..Settings::default() };
        if let Some(size) =
            log.get("max_queue_size").filter(|v| v.as_i64().is_some() || v.type_name() == "int")
        {
            settings.max_queue_size = clamped(size).max(0) as usize;
        }
        if let Some(level) = log.get("level") {
            settings.level = level_of(level)?;
        }
        if let Some(level) = log.get("traceback_level") {
            let level = level.as_str().ok_or_else(|| no_attribute(level, "lower"))?;
            settings.traceback_at_debug = level.to_lowercase() == "debug";
        }
        if let Some(dir) = log.get("dir") {
            let path = dir.as_str().ok_or_else(|| {
                let kind = dir.type_name();
                format!("TypeError: expected str, bytes or os.PathLike object, not {kind}")
            })?;
            settings.dir = Some(PathBuf::from(path));
            if let Some(size) = log.get("file_size") {
                settings.file_size = int(size)?.max(0) as u64;
            }
            if let Some(num) = log.get("file_num") {
                settings.file_num = int(num)?.clamp(0, 10_000) as u32;
            }
        }
        if let Some(mode) = log.get("mode").and_then(|m| patroni_core::parse::parse_int(m, None)) {
            settings.mode = (mode as u32) & 0o7777;
        }
        match log.get("dateformat").filter(|format| format.truthy()) {
            None => {}
            Some(Value::Str(text)) => settings.dateformat = Some(text.clone()),
            Some(other) => warnings
                .push(format!("Expected log dateformat to be a string, but got \"{}\"", other.type_name())),
        }
        settings.format = format_of(log, &mut warnings)?;
        settings.loggers = loggers_of(log.get("loggers"))?;
        settings.deduplicate = log.get("deduplicate_heartbeat_logs").is_some_and(Value::truthy);
        Ok((settings, warnings))
    }
}

fn no_attribute(value: &Value, name: &str) -> String {
    format!("AttributeError: '{}' object has no attribute '{name}'", value.type_name())
}

/// Python's `int()`, as far as 64 bits go.
fn int(value: &Value) -> Result<i64, String> {
    pyfmt::int::int(value).map(|integer| clamped(&integer)).map_err(|e| e.to_string())
}

fn level_of(value: &Value) -> Result<LevelNo, String> {
    LevelNo::parse(value).ok_or_else(|| match value {
        Value::Str(_) => format!("ValueError: Unknown level: {}", value.py_repr()),
        other => format!("TypeError: Level not an integer or a valid string: {}", other.py_repr()),
    })
}

fn loggers_of(section: Option<&Value>) -> Result<HashMap<String, LevelNo>, String> {
    let Some(section) = section.filter(|s| s.truthy()) else { return Ok(HashMap::new()) };
    let loggers = section.as_map().ok_or_else(|| match section {
        Value::List(_) => "TypeError: pop expected at most 1 argument, got 2".to_owned(),
        other => no_attribute(other, "pop"),
    })?;
    let entry = |(name, level): (&Value, &Value)| match name {
        Value::Str(name) => Ok((name.clone(), level_of(level)?)),
        _ => Err("TypeError: A logger name must be a string".to_owned()),
    };
    loggers.iter().map(entry).collect()
}

fn format_of(log: &Value, warnings: &mut Vec<String>) -> Result<Format, String> {
    let format = log.get("format");
    if log.get("type").and_then(Value::as_str) == Some("json") {
        return json_format(log, format, warnings);
    }
    match format {
        None => Ok(default_format()),
        Some(Value::Str(text)) => PercentFormat::parse(text).map(Format::Plain),
        Some(other) => {
            warnings.push(format!(
                "Expected log format to be a string when log type is plain, but got \"{}\"",
                other.type_name()
            ));
            Ok(default_format())
        }
    }
}

/// The fields are handed over as a `%` format, and read from it again.
fn json_format(log: &Value, format: Option<&Value>, warnings: &mut Vec<String>) -> Result<Format, String> {
    let mut names: Vec<String> = Vec::new();
    let mut renames = Vec::new();
    let mut text = DEFAULT_FORMAT.to_owned();
    match format {
        Some(Value::Str(given)) => text.clone_from(given),
        Some(Value::List(items)) => {
            for item in items {
                json_field(item, &mut names, &mut renames, warnings);
            }
            if !names.is_empty() {
                text = names.iter().map(|name| format!("%({name})s")).collect::<Vec<_>>().join(" ");
            }
        }
        Some(other) => {
            warnings.push(format!(
                "Expected log format to be a string or a list, but got \"{}\"",
                other.type_name()
            ));
        }
        None => {}
    }
    let fields = PercentFormat::parse(&text)?.names().map(str::to_owned).collect();
    let static_fields = log
        .get("static_fields")
        .and_then(Value::as_map)
        .map(|m| m.iter().map(|(k, v)| (k.py_str(), v.clone())).collect())
        .unwrap_or_default();
    Ok(Format::Json { fields, renames, static_fields })
}

/// One item of `format`: a field, or a mapping of fields to the names that they get.
fn json_field(
    item: &Value,
    names: &mut Vec<String>,
    renames: &mut Vec<(String, String)>,
    warnings: &mut Vec<String>,
) {
    match item {
        Value::Str(name) => names.push(name.clone()),
        Value::Map(new_names) => {
            for (name, new) in new_names {
                match new {
                    Value::Str(new) => {
                        names.push(name.py_str());
                        renames.push((name.py_str(), new.clone()));
                    }
                    other => warnings.push(format!(
                        "Expected renamed log field to be a string, but got \"{}\"",
                        other.type_name()
                    )),
                }
            }
        }
        other => warnings.push(format!(
            "Expected each item of log format to be a string or dictionary, but got \"{}\"",
            other.type_name()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<(Settings, Vec<String>), String> {
        Settings::from_config(Some(&pyfmt::yaml::load(text).unwrap()), 0o022)
    }

    /// Each was asked of the reference: what `PatroniLogger.reload_config` raises.
    #[test]
    fn what_is_refused() {
        for (text, error) in [
            ("[a]", "AttributeError: 'list' object has no attribute 'keys'"),
            ("{level: info}", "ValueError: Unknown level: 'info'"),
            ("{level: }", "TypeError: Level not an integer or a valid string: None"),
            ("{traceback_level: }", "AttributeError: 'NoneType' object has no attribute 'lower'"),
            ("{dir: }", "TypeError: expected str, bytes or os.PathLike object, not NoneType"),
            ("{dir: /x, file_size: 1MB}", "ValueError: invalid literal for int() with base 10: '1MB'"),
            ("{dir: /x, file_size: .inf}", "OverflowError: cannot convert float infinity to integer"),
            ("{dir: /x, file_num: .nan}", "ValueError: cannot convert float NaN to integer"),
            ("{level: .inf}", "TypeError: Level not an integer or a valid string: inf"),
            ("{loggers: [a]}", "TypeError: pop expected at most 1 argument, got 2"),
            ("{loggers: a}", "AttributeError: 'str' object has no attribute 'pop'"),
            ("{loggers: {1: INFO}}", "TypeError: A logger name must be a string"),
            ("{loggers: {a: x}}", "ValueError: Unknown level: 'x'"),
            ("{format: text}", "ValueError: Invalid format 'text' for '%' style"),
            ("{type: json, format: [a b]}", "ValueError: Invalid format '%(a b)s' for '%' style"),
        ] {
            assert_eq!(read(text).err().as_deref(), Some(error), "{text}");
        }
    }

    #[test]
    fn what_is_warned_of() {
        for (text, warning) in [
            ("{format: }", "Expected log format to be a string when log type is plain, but got \"NoneType\""),
            ("{dateformat: 1}", "Expected log dateformat to be a string, but got \"int\""),
            ("{type: json, format: 1}", "Expected log format to be a string or a list, but got \"int\""),
            ("{type: json, format: [{a: 1}]}", "Expected renamed log field to be a string, but got \"int\""),
            (
                "{type: json, format: [[a]]}",
                "Expected each item of log format to be a string or dictionary, but got \"list\"",
            ),
        ] {
            assert_eq!(read(text).unwrap().1, [warning], "{text}");
        }
        for text in
            ["{dateformat: }", "{dateformat: 0}", "{file_size: 1MB}", "{level: 15, mode: x}", "{loggers: }"]
        {
            assert!(read(text).unwrap().1.is_empty(), "{text}");
        }
    }

    /// Beyond 64 bits: accepted by the reference as well.
    #[test]
    fn large_integers() {
        let text = "{level: 99999999999999999999, loggers: {a: -99999999999999999999}, dir: /x, \
                    file_size: 99999999999999999999, file_num: 99999999999999999999, \
                    max_queue_size: 99999999999999999999}";
        let (settings, _) = read(text).unwrap();
        assert_eq!(settings.level, LevelNo(i64::MAX));
        assert_eq!(settings.loggers.get("a"), Some(&LevelNo(i64::MIN)));
        assert_eq!((settings.file_size, settings.file_num), (i64::MAX as u64, 10_000));
        assert_eq!(settings.max_queue_size, i64::MAX as usize);
    }

    #[test]
    fn json_fields() {
        let (settings, _) = read("{type: json, format: [message, {levelname: level, 'x y': z}]}").unwrap();
        let Format::Json { fields, renames, .. } = settings.format else { panic!("not JSON") };
        assert_eq!(fields, ["message", "levelname", "x y"]);
        assert_eq!(renames, [("levelname".into(), "level".into()), ("x y".into(), "z".into())]);
    }
}
