//! The `log` section (surface-config 6).

use std::collections::HashMap;
use std::path::PathBuf;

use pyfmt::Value;

use super::format::{Format, PlainFormat, DEFAULT_FORMAT};
use super::record::LevelNo;

/// Everything that can change while running.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Of the root logger.
    pub level: LevelNo,
    /// Of others, by logger name.
    pub loggers: HashMap<String, LevelNo>,
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
    // The default parses; an empty plain format could only come of a typing error above.
    PlainFormat::parse(DEFAULT_FORMAT).map_or_else(
        |_| Format::Json { fields: vec![("message".into(), "message".into())], static_fields: Vec::new() },
        Format::Plain,
    )
}

impl Settings {
    /// Reads the section; `umask` is the process' original one. The strings are
    /// warnings to log once the new settings are in force.
    ///
    /// # Errors
    /// What the reference dies of (at start) or refuses (at reload).
    pub fn from_config(log: Option<&Value>, umask: u32) -> Result<(Settings, Vec<String>), String> {
        let empty = Value::map();
        let log = log.unwrap_or(&empty);
        let mut warnings = Vec::new();
        let mut settings = Settings { mode: 0o666 & !umask, ..Settings::default() };
        if let Some(level) = log.get("level") {
            settings.level = level_of(level)?;
        }
        for (name, level) in log.get("loggers").and_then(Value::as_map).into_iter().flatten() {
            settings.loggers.insert(name.py_str(), level_of(level)?);
        }
        settings.format = format_of(log, &mut warnings)?;
        match log.get("dateformat") {
            None | Some(Value::Null) => {}
            Some(Value::Str(text)) => settings.dateformat = Some(text.clone()).filter(|t| !t.is_empty()),
            Some(other) => warnings
                .push(format!("Expected log dateformat to be a string, but got \"{}\"", other.type_name())),
        }
        settings.dir = log.get("dir").map(|dir| PathBuf::from(dir.py_str()));
        if let Some(size) = log.get("file_size").and_then(Value::as_i64) {
            settings.file_size = size.max(0) as u64;
        }
        if let Some(num) = log.get("file_num").and_then(Value::as_i64) {
            settings.file_num = num.clamp(0, 10_000) as u32;
        }
        if let Some(mode) = log.get("mode").and_then(|m| patroni_core::parse::parse_int(m, None)) {
            settings.mode = (mode as u32) & 0o7777;
        }
        if let Some(size) = log.get("max_queue_size").and_then(Value::as_i64) {
            settings.max_queue_size = size.max(0) as usize;
        }
        settings.deduplicate = log.get("deduplicate_heartbeat_logs").is_some_and(Value::truthy);
        Ok((settings, warnings))
    }
}

fn level_of(value: &Value) -> Result<LevelNo, String> {
    LevelNo::parse(value).ok_or_else(|| format!("Unknown level: {}", value.py_repr()))
}

fn format_of(log: &Value, warnings: &mut Vec<String>) -> Result<Format, String> {
    let format = log.get("format").filter(|f| !f.is_null());
    if log.get("type").and_then(Value::as_str) == Some("json") {
        return json_format(log, format, warnings);
    }
    match format {
        None => Ok(default_format()),
        Some(Value::Str(text)) => PlainFormat::parse(text).map(Format::Plain),
        Some(other) => {
            warnings.push(format!(
                "Expected log format to be a string when log type is plain, but got \"{}\"",
                other.type_name()
            ));
            Ok(default_format())
        }
    }
}

fn json_format(log: &Value, format: Option<&Value>, warnings: &mut Vec<String>) -> Result<Format, String> {
    let names = |text: &str| -> Result<Vec<(String, String)>, String> {
        Ok(PlainFormat::parse(text)?.fields().map(|f| (f.to_owned(), f.to_owned())).collect())
    };
    let mut fields = Vec::new();
    match format {
        Some(Value::Str(text)) => fields = names(text)?,
        Some(Value::List(items)) => {
            for item in items {
                match item {
                    Value::Str(name) => fields.push((name.clone(), name.clone())),
                    Value::Map(renames) => {
                        fields.extend(renames.iter().map(|(name, key)| (name.py_str(), key.py_str())));
                    }
                    other => warnings.push(format!(
                        "Expected each item of log format to be a string or dictionary, but got \"{}\"",
                        other.type_name()
                    )),
                }
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
    if fields.is_empty() {
        fields = names(DEFAULT_FORMAT)?;
    }
    let static_fields = log
        .get("static_fields")
        .and_then(Value::as_map)
        .map(|m| m.iter().map(|(k, v)| (k.py_str(), v.clone())).collect())
        .unwrap_or_default();
    Ok(Format::Json { fields, static_fields })
}
