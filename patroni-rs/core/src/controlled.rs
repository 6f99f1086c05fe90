//! The parameters of PostgreSQL that Patroni controls. They must agree over the cluster, so they come from the dynamic
//! configuration alone, are checked there, and go onto the postmaster's command line, where `ALTER SYSTEM` cannot
//! change them (surface-config 1.24, 1.25; surface-ha-pg 15.2).

use pyfmt::Value;

use crate::parse::{parse_bool, parse_int};
use crate::PgVersion;

/// Which values the dynamic configuration may give a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// None: it is computed, from `scope` and `listen`.
    Computed,
    /// One of these words, in any letter case.
    OneOf(&'static [&'static str]),
    /// Anything that means true.
    True,
    /// Anything boolean.
    Bool,
    /// An integer of at least this, in this unit if a value names one.
    AtLeast(i64, Option<&'static str>),
}

impl Check {
    fn accepts(self, value: &Value) -> bool {
        match self {
            Check::Computed => false,
            Check::OneOf(words) => value.as_str().is_some_and(|v| words.contains(&v.to_lowercase().as_str())),
            Check::True => parse_bool(value) == Some(true),
            Check::Bool => parse_bool(value).is_some(),
            Check::AtLeast(min, unit) => parse_int(value, unit).is_some_and(|n| n >= min),
        }
    }
}

/// The value that holds when there is none, or a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preset {
    None,
    Int(i64),
    Text(&'static str),
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Controlled {
    /// Its name, in lower case.
    pub name: &'static str,
    preset: Preset,
    /// Which values are accepted from the dynamic configuration.
    pub check: Check,
    /// The first version of PostgreSQL that has it, as `server_version_num`.
    pub since: PgVersion,
}

const fn controlled(name: &'static str, preset: Preset, check: Check, since: PgVersion) -> Controlled {
    Controlled { name, preset, check, since }
}

const WAL_LEVELS: &[&str] = &["hot_standby", "replica", "logical"];

/// All of them, in the order of the command line.
pub const CONTROLLED: [Controlled; 15] = [
    controlled("listen_addresses", Preset::None, Check::Computed, PgVersion::V9_1),
    controlled("port", Preset::None, Check::Computed, PgVersion::V9_1),
    controlled("cluster_name", Preset::None, Check::Computed, PgVersion::V9_5),
    controlled("wal_level", Preset::Text("hot_standby"), Check::OneOf(WAL_LEVELS), PgVersion::V9_1),
    controlled("hot_standby", Preset::Text("on"), Check::True, PgVersion::V9_1),
    controlled("max_connections", Preset::Int(100), Check::AtLeast(25, None), PgVersion::V9_1),
    controlled("max_wal_senders", Preset::Int(10), Check::AtLeast(3, None), PgVersion::V9_1),
    controlled("wal_keep_segments", Preset::Int(8), Check::AtLeast(1, None), PgVersion::V9_1),
    controlled("wal_keep_size", Preset::Text("128MB"), Check::AtLeast(16, Some("MB")), PgVersion::V13),
    controlled("max_prepared_transactions", Preset::Int(0), Check::AtLeast(0, None), PgVersion::V9_1),
    controlled("max_locks_per_transaction", Preset::Int(64), Check::AtLeast(32, None), PgVersion::V9_1),
    controlled("track_commit_timestamp", Preset::Text("off"), Check::Bool, PgVersion::V9_5),
    controlled("max_replication_slots", Preset::Int(10), Check::AtLeast(4, None), PgVersion::V9_4),
    controlled("max_worker_processes", Preset::Int(8), Check::AtLeast(2, None), PgVersion::V9_4),
    controlled("wal_log_hints", Preset::Text("on"), Check::Bool, PgVersion::V9_4),
];

impl Controlled {
    /// The parameter of that name, in any letter case.
    pub fn find(name: &str) -> Option<&'static Controlled> {
        let name = name.to_lowercase();
        CONTROLLED.iter().find(|parameter| parameter.name == name)
    }

    /// Those with a value when nothing is configured, and that value. The WAL to keep is not among them: its two
    /// parameters are computed from each other, by the version of the server.
    pub fn defaults() -> impl Iterator<Item = (&'static str, Value)> {
        let settled = CONTROLLED.iter().filter(|parameter| !parameter.keeps_wal());
        settled.map(|parameter| (parameter.name, parameter.default_value())).filter(|(_, v)| !v.is_null())
    }

    /// Is it `wal_keep_segments` or `wal_keep_size`? They may be changed at run time, so they are not passed on the
    /// command line.
    pub fn keeps_wal(&self) -> bool {
        self.name.starts_with("wal_keep_")
    }

    /// The value that holds when there is none; null for those that are computed.
    pub fn default_value(&self) -> Value {
        match self.preset {
            Preset::None => Value::Null,
            Preset::Int(n) => n.into(),
            Preset::Text(text) => text.into(),
        }
    }

    /// The value as it takes effect, or None when it is not allowed. Integers without a unit become integers,
    /// everything else stays as it was written.
    pub fn validated(&self, value: &Value) -> Option<Value> {
        let as_integer = || match self.check {
            Check::AtLeast(..) => parse_int(value, None).map(Value::Int),
            _ => None,
        };
        self.check.accepts(value).then(|| as_integer().unwrap_or_else(|| value.clone()))
    }
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
            ("max_connections", 24.into(), None),
            ("max_connections", 25.into(), Some(25.into())),
            ("max_connections", Value::from("100MB"), None),
            ("wal_keep_size", Value::from("1GB"), Some("1GB".into())),
            ("wal_keep_size", Value::Int(20), Some(Value::Int(20))),
            ("wal_keep_size", Value::from("8MB"), None),
            ("wal_keep_size", Value::from("15MB"), None),
            ("wal_keep_size", Value::from("16MB"), Some("16MB".into())),
            ("wal_level", Value::from("LOGICAL"), Some("LOGICAL".into())),
            ("wal_level", Value::from("minimal"), None),
            ("hot_standby", Value::Bool(false), None),
            ("hot_standby", "off".into(), None),
            ("wal_log_hints", Value::Bool(false), Some(Value::Bool(false))),
            ("wal_log_hints", true.into(), Some(true.into())),
            ("port", Value::Int(5432), None),
            ("port", "5432".into(), None),
        ] {
            let got = Controlled::find(name).and_then(|o| o.validated(&value));
            assert_eq!(got, want, "{name}={value}");
        }
        assert!(Controlled::find("work_mem").is_none());
    }

    #[test]
    fn defaults() {
        let found: Vec<&str> = Controlled::defaults().map(|(name, _)| name).collect();
        assert_eq!((found.len(), found.first()), (10, Some(&"wal_level")));
        assert!(!found.contains(&"port") && !found.contains(&"wal_keep_size"));
    }
}
