//! The sample: settings that suit the version of PostgreSQL that is installed.

use patroni_core::controlled::Controlled;
use pyfmt::Value;

use super::FIXME;
use crate::error::{ConfigError, Result};
use crate::python::child_mut;
use crate::validate::major_version;

/// Completes the template.
pub(super) fn complete(mut config: Value) -> Result<Value> {
    let major = installed_version(&config)?;
    let method = if major >= 100_000 { "scram-sha-256" } else { "md5" };
    let replicator = config.at(&["postgresql", "authentication", "replication", "username"]);
    let replicator = replicator.map(Value::py_str).unwrap_or_default();
    if let Some(postgresql) = child_mut(&mut config, "postgresql") {
        postgresql.set("parameters", [("password_encryption", method)].into_iter().collect::<Value>());
        let rules =
            [format!("host all all all {method}"), format!("host replication {replicator} all {method}")];
        postgresql.set("pg_hba", rules.map(Value::from).to_vec());
        if major >= 110_000 {
            add_rewind_user(postgresql);
        }
    }
    let dynamic = child_mut(&mut config, "bootstrap").and_then(|b| child_mut(b, "dcs"));
    if let Some(postgresql) = dynamic.and_then(|d| child_mut(d, "postgresql")) {
        if let Some(parameters) = child_mut(postgresql, "parameters") {
            let keep = if major < 130_000 { "wal_keep_segments" } else { "wal_keep_size" };
            let value = Controlled::find(keep).map(Controlled::default_value);
            parameters.set(keep, value);
            parameters.set("wal_level", if major < 90_600 { "hot_standby" } else { "replica" });
        }
        postgresql.set("use_pg_rewind", true);
    }
    Ok(config)
}

fn add_rewind_user(postgresql: &mut Value) {
    let Some(users) = child_mut(postgresql, "authentication") else { return };
    if users.get("rewind").is_none() {
        users.set("rewind", [("username", "rewind_user")].into_iter().collect::<Value>());
    }
    if let Some(rewind) = child_mut(users, "rewind").filter(|r| r.get("password").is_none()) {
        rewind.set("password", FIXME);
    }
}

/// The major version of the binary, as `server_version_num` with no minor.
fn installed_version(config: &Value) -> Result<u32> {
    let postgresql = config.get("postgresql");
    let setting =
        |path: &[&str]| postgresql.and_then(|p| p.at(path)).filter(|v| v.truthy()).map(Value::py_str);
    let binary = setting(&["bin_name", "postgres"]).unwrap_or_else(|| "postgres".to_owned());
    let major = major_version(&setting(&["bin_dir"]).unwrap_or_default(), &binary)?;
    version_number(&major)
        .ok_or_else(|| ConfigError::refused(format!("Invalid PostgreSQL version: {major}.0")))
}

/// `15` is 150000 and `9.6` is 90600.
fn version_number(major: &str) -> Option<u32> {
    let mut parts = major.split('.').map(|p| p.parse::<u32>().ok());
    let first = parts.next()??;
    let second = parts.next().unwrap_or(Some(0))?;
    Some(first * 10_000 + second * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_numbers() {
        for (text, number) in [("15", Some(150_000)), ("9.6", Some(90_600)), ("x", None)] {
            assert_eq!(version_number(text), number);
        }
    }
}
