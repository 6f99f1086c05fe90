//! The parameters that are passed on PostgreSQL's command line, because they
//! must agree over the cluster: they come from the dynamic configuration only
//! and are checked there (surface-config 1.24, 1.25).

use patroni_core::parse::{parse_bool, parse_int};
use pyfmt::Value;

use crate::error::{ConfigError, Result};

/// What is taken as a value.
#[derive(Debug, Clone, Copy)]
enum Accept {
    /// Nothing: Patroni itself sets it.
    Never,
    /// One of these words, in any letter case.
    Word(&'static [&'static str]),
    /// Anything that means true.
    True,
    /// Anything boolean.
    Bool,
    /// An integer from this on, in the unit if one is given.
    Int(i64, Option<&'static str>),
}

/// The value that holds when none is set.
#[derive(Debug, Clone, Copy)]
enum Preset {
    None,
    Text(&'static str),
    Int(i64),
}

/// A parameter of the command line.
#[derive(Debug, Clone, Copy)]
pub struct CmdlineOption {
    /// Its name, in lower case.
    pub name: &'static str,
    preset: Preset,
    accept: Accept,
    /// The first PostgreSQL version that has it, as `server_version_num`.
    pub min_version: u32,
}

const fn option(name: &'static str, preset: Preset, accept: Accept, min_version: u32) -> CmdlineOption {
    CmdlineOption { name, preset, accept, min_version }
}

/// All of them, in the order of the reference.
pub const CMDLINE_OPTIONS: &[CmdlineOption] = &[
    option("listen_addresses", Preset::None, Accept::Never, 90100),
    option("port", Preset::None, Accept::Never, 90100),
    option("cluster_name", Preset::None, Accept::Never, 90500),
    option(
        "wal_level",
        Preset::Text("hot_standby"),
        Accept::Word(&["hot_standby", "replica", "logical"]),
        90100,
    ),
    option("hot_standby", Preset::Text("on"), Accept::True, 90100),
    option("max_connections", Preset::Int(100), Accept::Int(25, None), 90100),
    option("max_wal_senders", Preset::Int(10), Accept::Int(3, None), 90100),
    option("wal_keep_segments", Preset::Int(8), Accept::Int(1, None), 90100),
    option("wal_keep_size", Preset::Text("128MB"), Accept::Int(16, Some("MB")), 130000),
    option("max_prepared_transactions", Preset::Int(0), Accept::Int(0, None), 90100),
    option("max_locks_per_transaction", Preset::Int(64), Accept::Int(32, None), 90100),
    option("track_commit_timestamp", Preset::Text("off"), Accept::Bool, 90500),
    option("max_replication_slots", Preset::Int(10), Accept::Int(4, None), 90400),
    option("max_worker_processes", Preset::Int(8), Accept::Int(2, None), 90400),
    option("wal_log_hints", Preset::Text("on"), Accept::Bool, 90400),
];

impl CmdlineOption {
    /// The option of that name, in any letter case.
    pub fn find(name: &str) -> Option<&'static CmdlineOption> {
        let name = name.to_lowercase();
        CMDLINE_OPTIONS.iter().find(|option| option.name == name)
    }

    /// The value that holds when none is set; null for those that are derived.
    pub fn default_value(&self) -> Value {
        match self.preset {
            Preset::None => Value::Null,
            Preset::Text(text) => text.into(),
            Preset::Int(n) => n.into(),
        }
    }

    /// The value as it takes effect, or None when it is not allowed. Integers
    /// without a unit become integers, everything else stays as it was written.
    pub fn validated(&self, value: &Value) -> Option<Value> {
        let allowed = match self.accept {
            Accept::Never => false,
            Accept::Word(words) => value.as_str().is_some_and(|v| words.contains(&v.to_lowercase().as_str())),
            Accept::True => parse_bool(value) == Some(true),
            Accept::Bool => parse_bool(value).is_some(),
            Accept::Int(min, unit) => parse_int(value, unit).is_some_and(|n| n >= min),
        };
        let as_integer = || match self.accept {
            Accept::Int(..) => parse_int(value, None).map(Value::Int),
            _ => None,
        };
        allowed.then(|| as_integer().unwrap_or_else(|| value.clone()))
    }
}

/// The entries of a `postgresql.parameters` section that take effect: those of
/// the command line are dropped from local ones and checked in dynamic ones.
///
/// # Errors
/// The section is something else than a mapping, or a name is no text.
pub(crate) fn parameters(section: &Value, local: bool) -> Result<Vec<(String, Value)>> {
    if section.truthy() && section.as_map().is_none() {
        return Err(ConfigError::refused("postgresql.parameters is not a dictionary"));
    }
    let mut result = Vec::new();
    for (name, value) in section.as_map().into_iter().flatten() {
        let text = name.as_str().ok_or_else(|| ConfigError::no_attribute(name, "lower"))?;
        match CmdlineOption::find(text) {
            None => result.push((text.to_owned(), value.clone())),
            Some(_) if local => {}
            Some(option) => match option.validated(value) {
                Some(valid) => result.push((text.to_owned(), valid)),
                None => tracing::warn!(
                    target: "patroni.config",
                    "postgresql parameter {text}={value} failed validation, defaulting to {}",
                    option.default_value()
                ),
            },
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation() {
        for (name, value, want) in [
            ("max_connections", Value::from("200"), Some(Value::Int(200))),
            ("MAX_CONNECTIONS", Value::from("0x20"), Some(Value::Int(32))),
            ("max_connections", Value::from("24"), None),
            ("max_connections", Value::from("100MB"), None),
            ("wal_keep_size", Value::from("1GB"), Some("1GB".into())),
            ("wal_keep_size", Value::Int(20), Some(Value::Int(20))),
            ("wal_keep_size", Value::from("8MB"), None),
            ("wal_level", Value::from("LOGICAL"), Some("LOGICAL".into())),
            ("wal_level", Value::from("minimal"), None),
            ("hot_standby", Value::Bool(false), None),
            ("wal_log_hints", Value::Bool(false), Some(Value::Bool(false))),
            ("port", Value::Int(5432), None),
        ] {
            let got = CmdlineOption::find(name).and_then(|o| o.validated(&value));
            assert_eq!(got, want, "{name}={value}");
        }
        assert!(CmdlineOption::find("work_mem").is_none());
    }
}
