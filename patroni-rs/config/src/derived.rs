//! Entries of the effective configuration that follow from others, and the
//! legacy places of some (surface-config 1.27 to 1.31).

use pyfmt::Value;

use crate::env::AUTHENTICATION;
use crate::error::{qualified_name, ConfigError, Result};
use crate::python::{child_mut, contains, items, subscript};

/// Top-level entries that the section `postgresql` repeats.
const REPEATED: [&str; 4] = ["name", "scope", "retry_timeout", "citus"];

/// Adds them to `config`, which has a mapping `postgresql`.
pub(crate) fn complete(config: &mut Value) -> Result<()> {
    for section in ["ctl", "restapi"] {
        add_auth(config, section)?;
    }
    move_exhibitor(config)?;
    let mut postgresql = child_mut(config, "postgresql").map(std::mem::take).unwrap_or_else(Value::map);
    authentication(&mut postgresql)?;
    if config.get("name").is_none() {
        if let Some(name) = postgresql.get("name") {
            config.set("name", name.clone());
        }
    }
    if config.get("citus").is_some() {
        quorum_for_citus(config)?;
    }
    for key in REPEATED {
        if let Some(value) = config.get(key) {
            postgresql.set(key, value.clone());
        }
    }
    config.set("postgresql", postgresql);
    Ok(())
}

/// `auth`, the form in which HTTP clients and the REST API take credentials.
fn add_auth(config: &mut Value, section: &str) -> Result<()> {
    let Some(entry) = child_mut(config, section) else { return Ok(()) };
    if !contains(entry, "authentication")? {
        return Ok(());
    }
    let credentials = subscript(entry, "authentication")?;
    if credentials.as_map().is_none() {
        let kind = qualified_name(credentials);
        return Err(ConfigError::of_type(format!(
            "str.format() argument after ** must be a mapping, not {kind}"
        )));
    }
    let auth = format!("{}:{}", subscript(credentials, "username")?, subscript(credentials, "password")?);
    entry.set("auth", auth);
    Ok(())
}

/// `exhibitor` used to live inside `zookeeper`.
fn move_exhibitor(config: &mut Value) -> Result<()> {
    let Some(zookeeper) = child_mut(config, "zookeeper") else { return Ok(()) };
    if !contains(zookeeper, "exhibitor")? {
        return Ok(());
    }
    match zookeeper.remove("exhibitor") {
        Some(exhibitor) => {
            config.set("exhibitor", exhibitor);
            config.remove("zookeeper");
            Ok(())
        }
        None => Err(match zookeeper {
            Value::List(_) => ConfigError::of_type("'str' object cannot be interpreted as an integer"),
            other => ConfigError::no_attribute(other, "pop"),
        }),
    }
}

/// Fills `authentication` from its legacy places and drops what it may not hold.
fn authentication(postgresql: &mut Value) -> Result<()> {
    let legacy_rewind = postgresql.get("pg_rewind").cloned();
    if postgresql.get("authentication").is_none() {
        postgresql.set("use_pg_rewind", legacy_rewind.is_some());
        let users = ["replication", "superuser"].into_iter();
        let users: Value = users.filter_map(|u| Some((u, postgresql.get(u)?.clone()))).collect();
        postgresql.set("authentication", users);
    }
    let Some(users) = child_mut(postgresql, "authentication") else { return Ok(()) };
    let has_superuser = contains(users, "superuser")?;
    if let Some(user) = legacy_rewind.filter(|_| !has_superuser) {
        if users.as_map().is_none() {
            let text = format!("'{}' object does not support item assignment", users.type_name());
            return Err(ConfigError::of_type(text));
        }
        users.set("superuser", user);
    }
    match users {
        Value::Map(users) => users.values_mut().try_for_each(|user| {
            *user = allowed_parameters(user)?;
            Ok(())
        }),
        other => Err(ConfigError::no_attribute(other, "items")),
    }
}

fn allowed_parameters(user: &Value) -> Result<Value> {
    let allowed = |key: &Value| key.as_str().is_some_and(|k| AUTHENTICATION.contains(&k));
    Ok(items(user)?.filter(|(key, _)| allowed(key)).map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// A new Citus cluster replicates synchronously unless told otherwise.
fn quorum_for_citus(config: &mut Value) -> Result<()> {
    let mut section = config;
    for key in ["bootstrap", "dcs"] {
        if section.as_map().is_none() {
            return Err(ConfigError::no_attribute(section, "setdefault"));
        }
        if section.get(key).is_none() {
            section.set(key, Value::map());
        }
        let Some(child) = child_mut(section, key) else { return Ok(()) };
        section = child;
    }
    if section.as_map().is_none() {
        return Err(ConfigError::no_attribute(section, "setdefault"));
    }
    if section.get("synchronous_mode").is_none() {
        section.set("synchronous_mode", "quorum");
    }
    Ok(())
}
