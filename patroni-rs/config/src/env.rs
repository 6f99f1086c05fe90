//! The configuration in `PATRONI_*` variables (surface-config, section 5).

mod tables;
mod typed;

use indexmap::IndexMap;
use patroni_core::parse::{parse_bool, parse_int};
use pyfmt::Value;
use regex::Regex;

use crate::error::{ConfigError, Result};
use crate::python::child_mut;
pub(crate) use tables::AUTHENTICATION;
use tables::{DCS_SUFFIXES, LEGACY_LOG, PLAIN, POSTGRESQL_BINARIES, SECTIONS};
use typed::{parse_dict, parse_list};

const PREFIX: &str = "PATRONI_";

/// Variables of one process that are not read yet; reading removes.
struct Variables {
    unread: IndexMap<String, String>,
    read: Vec<String>,
}

impl Variables {
    fn take_raw(&mut self, name: &str) -> Option<String> {
        let value = self.unread.shift_remove(name)?;
        self.read.push(name.to_owned());
        Some(value)
    }

    /// The value of `PATRONI_<NAME>` unless it is empty.
    fn take(&mut self, name: &str) -> Option<String> {
        self.take_raw(&format!("{PREFIX}{}", name.to_uppercase())).filter(|v| !v.is_empty())
    }
}

/// What the environment says.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The configuration that the variables make up, as if it were a file.
    pub config: Value,
    /// `PATRONI_CONFIGURATION`: a whole document in one variable.
    pub document: Option<String>,
    /// Variables that were read. The reference removes them from its own
    /// environment, so that no child sees them; the caller should too. (It also
    /// removes `PATRONI_CONFIGURATION`, but only when there is no file.)
    pub read: Vec<String>,
}

impl Default for Environment {
    fn default() -> Environment {
        Environment { config: Value::map(), document: None, read: Vec::new() }
    }
}

impl Environment {
    /// Reads an environment. Values that cannot be read are logged or dropped,
    /// as each of them has its own rule.
    ///
    /// # Errors
    /// Variables contradict each other, such as `PATRONI_NAME` and `PATRONI_NAME_HOST`.
    pub fn read(variables: impl IntoIterator<Item = (String, String)>) -> Result<Environment> {
        let unread = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        let mut vars = Variables { unread, read: Vec::new() };
        let mut config = Value::map();
        take_sections(&mut vars, &mut config)?;
        convert_scalars(&mut config);
        convert_collections(&mut config);
        take_authentication(&mut vars, &mut config)?;
        take_dcs(&mut vars, &mut config)?;
        let document = vars.unread.get("PATRONI_CONFIGURATION").cloned();
        Ok(Environment { config, document, read: vars.read })
    }
}

/// The variable that sets a key, written as a path; for the reference pages.
pub(crate) fn variable_of(path: &str) -> Option<String> {
    let name = match path.split('.').collect::<Vec<_>>()[..] {
        [key] if PLAIN.contains(&key) => key.to_owned(),
        ["postgresql", "bin_name", binary] if POSTGRESQL_BINARIES.contains(&binary) => {
            format!("postgresql_bin_{binary}")
        }
        ["postgresql", "authentication", user, key] if AUTHENTICATION.contains(&key) => {
            format!("{user}_{key}")
        }
        [section @ ("ctl" | "restapi"), "authentication", key] => format!("{section}_{key}"),
        ["etcd3", key @ ("username" | "password")] => format!("etcd3_{key}"),
        [section, key] if SECTIONS.iter().any(|(s, keys)| *s == section && keys.contains(&key)) => {
            format!("{section}_{key}")
        }
        [section, key]
            if patroni_core::stores::STORES.iter().chain(&["citus"]).any(|store| *store == section)
                && DCS_SUFFIXES.contains(&key.to_uppercase().as_str()) =>
        {
            format!("{section}_{key}")
        }
        _ => return None,
    };
    Some(format!("{PREFIX}{}", name.to_uppercase()))
}

/// Sets `section.key`.
fn put(config: &mut Value, section: &str, key: &str, value: Value) -> Result<()> {
    if config.get(section).is_none() {
        config.set(section, Value::map());
    }
    match child_mut(config, section) {
        Some(entry @ Value::Map(_)) => {
            entry.set(key, value);
            Ok(())
        }
        other => {
            let kind = other.map_or("NoneType", |v| v.type_name());
            let text = format!("'{kind}' object does not support item assignment");
            Err(ConfigError::exception("TypeError", text))
        }
    }
}

/// Takes `section.key` out of the configuration; empty values count as none.
fn pull(config: &mut Value, section: &str, key: &str) -> Option<Value> {
    child_mut(config, section)?.remove(key).filter(Value::truthy)
}

fn take_sections(vars: &mut Variables, config: &mut Value) -> Result<()> {
    for key in PLAIN {
        if let Some(value) = vars.take(key) {
            config.set(key, value);
        }
    }
    for (old, new) in LEGACY_LOG {
        let new = format!("{PREFIX}{new}");
        if let Some(value) = vars.take(old).filter(|_| !vars.unread.contains_key(&new)) {
            vars.unread.insert(new, value);
        }
    }
    for (section, keys) in SECTIONS {
        for key in *keys {
            if let Some(value) = vars.take(&format!("{section}_{key}")) {
                put(config, section, key, value.into())?;
            }
        }
    }
    let binaries: Vec<(&str, String)> = POSTGRESQL_BINARIES
        .iter()
        .filter_map(|binary| Some((*binary, vars.take(&format!("POSTGRESQL_BIN_{binary}"))?)))
        .collect();
    if !binaries.is_empty() {
        put(config, "postgresql", "bin_name", binaries.into_iter().collect())?;
    }
    Ok(())
}

/// Booleans and integers; unreadable ones vanish without a word.
fn convert_scalars(config: &mut Value) {
    for (section, key) in
        [("restapi", "allowlist_include_members"), ("ctl", "insecure"), ("log", "deduplicate_heartbeat_logs")]
    {
        let parsed = pull(config, section, key).and_then(|v| parse_bool(&v)).map(Value::Bool);
        set_parsed(config, section, key, parsed);
    }
    for (section, key) in [
        ("restapi", "request_queue_size"),
        ("log", "max_queue_size"),
        ("log", "file_size"),
        ("log", "file_num"),
        ("log", "mode"),
    ] {
        let parsed = pull(config, section, key).and_then(|v| parse_int(&v, None)).map(Value::Int);
        set_parsed(config, section, key, parsed);
    }
}

fn convert_collections(config: &mut Value) {
    for (section, key) in [("raft", "partner_addrs"), ("restapi", "allowlist")] {
        let parsed = pull(config, section, key).and_then(|v| parse_list(&v.py_str())).filter(Value::truthy);
        set_parsed(config, section, key, parsed);
    }
    let format = config.at(&["log", "format"]).map(Value::py_str);
    if let Some(format) = format.filter(|f| !has_log_field(f)) {
        let parsed = parse_list(&format).filter(Value::truthy);
        set_parsed(config, "log", "format", parsed);
    }
    for (section, key) in [
        ("restapi", "http_extra_headers"),
        ("restapi", "https_extra_headers"),
        ("log", "static_fields"),
        ("log", "loggers"),
    ] {
        let parsed = pull(config, section, key).and_then(|v| parse_dict(&v.py_str())).filter(Value::truthy);
        set_parsed(config, section, key, parsed);
    }
}

/// Sets a key of a section that is already there.
fn set_parsed(config: &mut Value, section: &str, key: &str, parsed: Option<Value>) {
    if let (Some(section), Some(value)) = (child_mut(config, section), parsed) {
        section.set(key, value);
    }
}

/// Has the text a field of Python's `%` style, such as `%(message)s`?
fn has_log_field(format: &str) -> bool {
    Regex::new(r"%\(\w+\)").is_ok_and(|field| field.is_match(format))
}

fn credentials(vars: &mut Variables, section: &str, keys: &[&str]) -> Option<Value> {
    let found: Vec<(&str, String)> =
        keys.iter().filter_map(|key| Some((*key, vars.take(&format!("{section}_{key}"))?))).collect();
    (!found.is_empty()).then(|| found.into_iter().collect())
}

fn take_authentication(vars: &mut Variables, config: &mut Value) -> Result<()> {
    for section in ["ctl", "restapi"] {
        if let Some(entry) = credentials(vars, section, &["username", "password"]) {
            put(config, section, "authentication", entry)?;
        }
    }
    let users: Vec<(&str, Value)> = ["replication", "superuser", "rewind"]
        .into_iter()
        .filter_map(|user| Some((user, credentials(vars, user, AUTHENTICATION)?)))
        .collect();
    if !users.is_empty() {
        put(config, "postgresql", "authentication", users.into_iter().collect())?;
    }
    Ok(())
}

/// `PATRONI_<NAME>_<SUFFIX>` for any name and the suffixes of the DCS sections.
fn take_dcs(vars: &mut Variables, config: &mut Value) -> Result<()> {
    let names: Vec<String> = vars.unread.keys().cloned().collect();
    for variable in names {
        let path = variable.strip_prefix(PREFIX).unwrap_or_default();
        let Some((name, suffix)) = path.split_once('_').filter(|(name, _)| !name.is_empty()) else {
            continue;
        };
        if !DCS_SUFFIXES.contains(&suffix) {
            continue;
        }
        let Some(text) = vars.take_raw(&variable) else { continue };
        if let Some(value) = typed::dcs_value(name, suffix, text) {
            put(config, &name.to_lowercase(), &suffix.to_lowercase(), value)?;
        }
    }
    for section in ["etcd", "etcd3"] {
        if config.get(section).is_some() {
            let entry = credentials(vars, section, &["username", "password"]);
            for (key, value) in entry.as_ref().and_then(Value::as_map).into_iter().flatten() {
                put(config, section, &key.py_str(), value.clone())?;
            }
        }
    }
    Ok(())
}
