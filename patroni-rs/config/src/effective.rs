//! The effective configuration: defaults, then what the DCS may set, then the
//! local configuration, then what follows from them (surface-config 1.20 to 1.31).

use patroni_core::controlled::Controlled;
use patroni_core::timing::Timing;
use pyfmt::{Map, Value};

use crate::derived;
use crate::error::Result;
use crate::python::{child_mut, integer, items, items_or_none, map_mut};
use crate::server_parameters;

/// Keys of `standby_cluster`; all are there, empty, when nothing sets them.
const STANDBY_CLUSTER: [&str; 7] = [
    "create_replica_methods",
    "host",
    "port",
    "primary_slot_name",
    "restore_command",
    "archive_cleanup_command",
    "recovery_min_apply_delay",
];

/// Keys of `postgresql` that only the local configuration can set.
const LOCAL_ONLY: [&str; 7] =
    ["connect_address", "proxy_address", "listen", "config_dir", "data_dir", "pgpass", "authentication"];

/// The built-in defaults.
pub fn default_config() -> Value {
    let parameters: Value = Controlled::defaults().collect();
    let mut config = Value::map();
    for (key, seconds) in Timing::KEYS {
        config.set(key, seconds);
    }
    config.set("standby_cluster", STANDBY_CLUSTER.into_iter().map(|key| (key, "")).collect::<Value>());
    config.set(
        "postgresql",
        [("use_slots", Value::Bool(true)), ("parameters", parameters)].into_iter().collect::<Value>(),
    );
    config
}

/// Builds the effective configuration of a dynamic and a local one.
///
/// # Errors
/// A value of the wrong type stands where the reference raises.
pub fn build(dynamic: &Value, local: &Value) -> Result<Value> {
    let mut config = default_config();
    add_dynamic(&mut config, dynamic)?;
    add_local(&mut config, local)?;
    derived::complete(&mut config)?;
    Ok(config)
}

fn add_dynamic(config: &mut Value, dynamic: &Value) -> Result<()> {
    for (key, value) in items(dynamic)? {
        match key.as_str() {
            Some("postgresql") => {
                for (key, value) in items_or_none(value)? {
                    if key.as_str() == Some("parameters") {
                        add_parameters(config, value, false)?;
                    } else if !key.as_str().is_some_and(|k| LOCAL_ONLY.contains(&k)) {
                        insert(config, "postgresql", key, value);
                    }
                }
            }
            Some("standby_cluster") => {
                for (key, value) in items_or_none(value)? {
                    if key.as_str().is_some_and(|k| STANDBY_CLUSTER.contains(&k)) {
                        insert(config, "standby_cluster", key, value);
                    }
                }
            }
            Some(known) if config.get(known).is_some() => config.set(known, integer(value)?),
            _ => {}
        }
    }
    Ok(())
}

fn add_local(config: &mut Value, local: &Value) -> Result<()> {
    for (key, value) in items(local)? {
        match key.as_str() {
            Some("citus") => {
                let group = value.get("group").is_some_and(is_int);
                if group && value.get("database").is_some_and(|d| d.as_str().is_some()) {
                    config.set("citus", value.clone());
                }
            }
            Some("postgresql") => {
                for (key, value) in items_or_none(value)? {
                    match key.as_str() {
                        Some("parameters") => add_parameters(config, value, true)?,
                        // Slots are switched for the whole cluster, in the DCS.
                        Some("use_slots") => {}
                        _ => insert(config, "postgresql", key, value),
                    }
                }
            }
            _ => {
                if let Some(top) = map_mut(config).filter(|top| !top.contains_key(key)) {
                    top.insert(key.clone(), if value.truthy() { value.clone() } else { Value::map() });
                }
            }
        }
    }
    Ok(())
}

/// An integer in Python's sense, where booleans are some.
fn is_int(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::BigInt(_) | Value::Bool(_))
}

fn insert(config: &mut Value, section: &str, key: &Value, value: &Value) {
    if let Some(Value::Map(section)) = child_mut(config, section) {
        section.insert(key.clone(), value.clone());
    }
}

fn add_parameters(config: &mut Value, section: &Value, local: bool) -> Result<()> {
    let new = server_parameters::effective(section, local)?;
    let parameters = child_mut(config, "postgresql").and_then(|p| child_mut(p, "parameters"));
    if let Some(Value::Map(parameters)) = parameters {
        for (name, value) in new {
            set_without_case(parameters, &name, value);
        }
    }
    Ok(())
}

/// Sets a name that compares without case: it keeps its place and takes the new
/// spelling.
fn set_without_case(map: &mut Map, name: &str, value: Value) {
    let lower = name.to_lowercase();
    let place = map.keys().position(|k| k.as_str().is_some_and(|k| k.to_lowercase() == lower));
    match place {
        Some(at) => {
            map.shift_remove_index(at);
            map.shift_insert(at, name.into(), value);
        }
        None => {
            map.insert(name.into(), value);
        }
    }
}
