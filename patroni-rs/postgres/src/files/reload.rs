//! What changes with new parameters, and what waits for a restart
//! (surface-ha-pg 17).

use indexmap::IndexMap;
use patroni_core::parse::{compare_values, human, parse_int};
use pyfmt::Value;

use super::cimap::Params;
use super::guc::GucTable;
use super::pg_settings::{PendingSetting, PgSetting};

/// Old and new value of a parameter, in human units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamDiff {
    /// The value in force.
    pub old_value: String,
    /// The value after a restart.
    pub new_value: String,
}

impl ParamDiff {
    /// From values of pg_settings or the configuration; `unit` is the
    /// parameter's base unit.
    pub fn new(old: Option<&str>, new: Option<&str>, vartype: &str, unit: Option<&str>) -> ParamDiff {
        let text = |v: Option<&str>| human(v.unwrap_or_default(), vartype, unit);
        ParamDiff { old_value: text(old), new_value: text(new) }
    }
}

/// Why a restart is pending: parameters by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingRestart(pub IndexMap<String, ParamDiff>);

impl PendingRestart {
    /// The member key's `pending_restart_reason`.
    pub fn to_value(&self) -> Value {
        let diff = |d: &ParamDiff| -> Value {
            [("old_value", d.old_value.as_str()), ("new_value", d.new_value.as_str())].into_iter().collect()
        };
        self.0.iter().map(|(name, d)| (name.as_str(), diff(d))).collect()
    }

    /// Nothing waits for a restart.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLine {
    /// At level INFO.
    Info(String),
    /// At level WARNING.
    Warning(String),
}

impl LogLine {
    /// Logs it under the reference's name.
    pub fn emit(&self) {
        match self {
            LogLine::Info(text) => tracing::info!(target: "patroni.postgresql.config", "{text}"),
            LogLine::Warning(text) => tracing::warn!(target: "patroni.postgresql.config", "{text}"),
        }
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// postgresql.conf must be written again.
    pub conf_changed: bool,
    /// The local connection must stay as it is until the restart.
    pub local_address_changed: bool,
    /// What waits for a restart.
    pub pending: PendingRestart,
    /// Parameters that the server does not have; not to be written.
    pub invalid: Vec<String>,
    /// Lines to log, in order.
    pub log: Vec<LogLine>,
}

/// Parameters that are needed to tell the default of `wal_buffers`.
const WAL_BUFFERS_NEEDS: [&str; 3] = ["shared_buffers", "wal_segment_size", "wal_block_size"];

/// Is `name` left out of comparisons? Recovery parameters and `hot_standby`
/// never count.
pub fn is_skipped(name: &str) -> bool {
    name.eq_ignore_ascii_case("hot_standby") || GucTable::builtin().is_recovery(name)
}

/// New values to compare; `None` for a parameter that is no longer set.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    values: Params,
    /// Read for `wal_buffers` only.
    helpers: Vec<&'static str>,
}

impl Changes {
    /// From the parameters now in use and the new ones.
    pub fn new(old: &Params, new: &Params) -> Changes {
        let mut values = new.clone();
        values.retain(|name, _| !is_skipped(name));
        for name in old.names().filter(|n| !is_skipped(n)) {
            values.set_default(name, Value::Null);
        }
        let wal_buffers = values.contains("wal_buffers");
        let helpers = WAL_BUFFERS_NEEDS.into_iter().filter(|n| wal_buffers && !values.contains(n)).collect();
        Changes { values, helpers }
    }

    /// Names to read from pg_settings, in lower case.
    pub fn names(&self) -> Vec<String> {
        self.values.names().chain(self.helpers.iter().copied()).map(str::to_lowercase).collect()
    }
}

/// Compares new values with the server's. `unix_socket` is
/// `postgresql.use_unix_socket`.
pub fn compare(
    changes: Changes,
    old: &Params,
    new: &Params,
    rows: &[PgSetting],
    unix_socket: bool,
) -> Comparison {
    let mut values = changes.values;
    if values.get("wal_buffers").is_some_and(|v| wal_buffers_same(v, rows)) {
        values.remove("wal_buffers");
    }
    let mut found = Comparison::default();
    for row in rows.iter().filter(|r| r.context != "internal") {
        if let Some(new_value) = values.remove(&row.name) {
            compare_row(row, &new_value, old.get(&row.name), unix_socket, &mut found);
        }
    }
    for (name, value) in values.iter() {
        if name.contains('.') {
            compare_custom(name, value, old.get(name), &mut found);
        } else if new.contains(name) {
            let text = format!("Removing invalid parameter `{name}` from postgresql.parameters");
            found.log.push(LogLine::Warning(text));
            found.invalid.push(name.to_owned());
        }
    }
    found
}

fn compare_row(row: &PgSetting, new: &Value, old: Option<&Value>, unix_socket: bool, found: &mut Comparison) {
    let name = &row.name;
    let unit = row.unit.as_deref();
    let setting = Value::from(row.setting.clone());
    let same = |value: &Value| !value.is_null() && compare_values(&row.vartype, unit, &setting, value);
    if same(new) {
        // Set back to what the server has, before a restart took it over.
        if let Some(old) = old.filter(|old| !compare_values(&row.vartype, unit, &setting, old)) {
            found.log.push(LogLine::Info(format!("Changed {name} from '{old}' to '{new}'")));
            found.conf_changed = true;
        }
        return;
    }
    found.conf_changed = true;
    let new_text = (!new.is_null()).then(|| new.py_str());
    let diff = ParamDiff::new(row.setting.as_deref(), new_text.as_deref(), &row.vartype, unit);
    let line = format!("Changed {name} from '{}' to '{new}'", diff.old_value);
    if row.context != "postmaster" {
        found.log.push(LogLine::Info(line));
        return;
    }
    found.log.push(LogLine::Info(format!("{line} (restart might be required)")));
    found.pending.0.insert(name.clone(), diff);
    found.local_address_changed |= match name.as_str() {
        "listen_addresses" | "port" => true,
        "unix_socket_directories" => unix_socket,
        _ => false,
    };
}

/// Parameters of extensions may be unknown to pg_settings.
fn compare_custom(name: &str, new: &Value, old: Option<&Value>, found: &mut Comparison) {
    let same = !new.is_null() && old.is_some_and(|old| old.py_str() == new.py_str());
    if !same {
        let old = old.unwrap_or(&Value::Null);
        found.log.push(LogLine::Info(format!("Changed {name} from '{old}' to '{new}'")));
        found.conf_changed = true;
    }
}

/// `wal_buffers` of -1 (or not set) stands for 1/32 of `shared_buffers`, at
/// least 8 and at most one WAL segment, in WAL blocks.
fn wal_buffers_same(new: &Value, rows: &[PgSetting]) -> bool {
    let row = |name: &str| rows.iter().find(|r| r.name == name);
    let number = |text: Option<&str>, unit: Option<&str>| {
        text.and_then(|t| parse_int(&t.into(), unit)).filter(|n| *n != 0)
    };
    let setting = |name: &str| row(name).and_then(|r| r.setting.as_deref());
    let Some(current) = row("wal_buffers") else {
        return false;
    };
    let block_size = number(setting("wal_block_size"), None).unwrap_or(8192) as f64;
    let segment_unit = row("wal_segment_size").and_then(|r| r.unit.as_deref());
    let unit_bytes = match segment_unit {
        Some(unit) if unit.starts_with(|c: char| c.is_ascii_digit()) => {
            number(Some(unit), Some("B")).unwrap_or(8192)
        }
        _ => 1,
    };
    let default_segment = if segment_unit.is_none() { 16_777_216 } else { 2048 };
    let segment = number(setting("wal_segment_size"), None).unwrap_or(default_segment) as f64;
    let shared_buffers = number(setting("shared_buffers"), None).unwrap_or(16_384) as f64;
    let default = (shared_buffers / 32.0).max(8.0).min(segment * (unit_bytes as f64 / block_size));

    let unit = current.unit.as_deref();
    let blocks = |text: &str| match text {
        "-1" => Some(default),
        text => parse_int(&text.into(), unit).map(|n| n as f64),
    };
    let new = if new.truthy() { new.py_str() } else { "-1".to_owned() };
    blocks(&new) == current.setting.as_deref().and_then(blocks)
}

/// What waits for a restart after a reload, by the server's own word (9.5 and
/// later); and a log line if that differs from what was expected.
pub fn pending_restart(
    expected: &PendingRestart,
    rows: &[PendingSetting],
) -> (PendingRestart, Option<LogLine>) {
    let diff = |row: &PendingSetting| {
        let new = row.new_value.as_deref().unwrap_or("?");
        ParamDiff::new(row.current.as_deref(), Some(new), &row.vartype, row.unit.as_deref())
    };
    // PostgreSQL goes on saying that a parameter waits when it has been taken out of its file again.
    let waits = |(_, d): &(String, ParamDiff)| d.old_value != d.new_value;
    let pending: IndexMap<_, _> =
        rows.iter().map(|row| (row.name.clone(), diff(row))).filter(waits).collect();
    let expected = |name: &str| expected.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, d)| d);
    let external: Vec<&str> =
        pending.iter().filter(|(name, d)| expected(name) != Some(*d)).map(|(n, _)| n.as_str()).collect();
    let line = (!external.is_empty()).then(|| {
        LogLine::Info(format!(
            "PostgreSQL configuration parameters requiring restart ({}) seem to be changed bypassing Patroni \
             config. Setting 'Pending restart' flag",
            external.join(", ")
        ))
    });
    (PendingRestart(pending), line)
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
