//! The sample: settings that suit the version of PostgreSQL that is installed.

use patroni_core::controlled::Controlled;
use patroni_core::PgVersion;
use pyfmt::Value;

use super::FIXME;
use crate::error::{ConfigError, Result};
use crate::python::child_mut;
use crate::validate::major_version;

/// Completes the template.
pub(super) fn complete(mut config: Value) -> Result<Value> {
    let major = installed_version(&config)?;
    let method = if major.at_least(PgVersion::V10) { "scram-sha-256" } else { "md5" };
    let replicator = config.at(&["postgresql", "authentication", "replication", "username"]);
    let replicator = replicator.map(Value::py_str).unwrap_or_default();
    if let Some(postgresql) = child_mut(&mut config, "postgresql") {
        postgresql.set("parameters", [("password_encryption", method)].into_iter().collect::<Value>());
        let rules =
            [format!("host all all all {method}"), format!("host replication {replicator} all {method}")];
        postgresql.set("pg_hba", rules.map(Value::from).to_vec());
        if major.at_least(PgVersion::V11) {
            add_rewind_user(postgresql);
        }
    }
    let dynamic = child_mut(&mut config, "bootstrap").and_then(|b| child_mut(b, "dcs"));
    if let Some(postgresql) = dynamic.and_then(|d| child_mut(d, "postgresql")) {
        if let Some(parameters) = child_mut(postgresql, "parameters") {
            let keep = if major.before(PgVersion::V13) { "wal_keep_segments" } else { "wal_keep_size" };
            let value = Controlled::find(keep).map(Controlled::default_value);
            parameters.set(keep, value);
            parameters
                .set("wal_level", if major.before(PgVersion::V9_6) { "hot_standby" } else { "replica" });
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

/// The major version of the binary.
fn installed_version(config: &Value) -> Result<PgVersion> {
    let postgresql = config.get("postgresql");
    let setting =
        |path: &[&str]| postgresql.and_then(|p| p.at(path)).filter(|v| v.truthy()).map(Value::py_str);
    let binary = setting(&["bin_name", "postgres"]).unwrap_or_else(|| "postgres".to_owned());
    let major = major_version(&setting(&["bin_dir"]).unwrap_or_default(), &binary)?;
    PgVersion::parse(&major)
        .ok_or_else(|| ConfigError::refused(format!("Invalid PostgreSQL version: {major}.0")))
}
