//! The configuration of members, as a user of Patroni writes it.

use std::path::Path;

use pyfmt::{yaml, Value};

use super::Result;

/// Which implementation a member runs, or a patronictl is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// patroni-rs.
    Ours,
    /// Patroni itself.
    Reference,
}

/// What goes into a member's file besides the overrides of a scenario.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The cluster's name.
    pub scope: &'a str,
    /// The member's name.
    pub name: &'a str,
    /// The member's directory.
    pub directory: &'a Path,
    /// The test cluster's directory, for sockets and the callback script.
    pub lab: &'a Path,
    /// Where PostgreSQL's programs are.
    pub bin: &'a Path,
    /// Ports of PostgreSQL and the REST API.
    pub ports: [u16; 2],
    /// The DCS's section of the configuration.
    pub dcs: (&'static str, Value),
}

/// The usual configuration: short cycles, the ttl at its minimum, pg_rewind, callbacks that are
/// recorded, and no fsync (a test cluster's host does not crash).
///
/// # Errors
/// None, unless this file is wrong.
pub fn usual(facts: &Facts<'_>) -> Result<Value> {
    let Facts { scope, name, directory, lab, bin, ports: [postgres, rest], dcs } = facts;
    let (directory, lab, bin) = (directory.display(), lab.display(), bin.display());
    let text = format!(
        "scope: {scope}
name: {name}
restapi:
  listen: 127.0.0.1:{rest}
  connect_address: 127.0.0.1:{rest}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 60
  initdb:
  - encoding: UTF8
  - data-checksums
  - no-sync
postgresql:
  listen: 127.0.0.1:{postgres}
  connect_address: 127.0.0.1:{postgres}
  data_dir: {directory}/data
  bin_dir: {bin}
  pgpass: {directory}/pgpass
  authentication:
    superuser:
      username: postgres
      password: lab-super
    replication:
      username: replicator
      password: lab-repl
    rewind:
      username: rewinder
      password: lab-rewind
  pg_hba:
  - local all all trust
  - host replication replicator 127.0.0.1/32 md5
  - host all all 127.0.0.1/32 md5
  parameters:
    unix_socket_directories: {lab}
    fsync: 'off'
  callbacks:
    on_start: {lab}/callback.sh {directory}/callbacks
    on_stop: {lab}/callback.sh {directory}/callbacks
    on_restart: {lab}/callback.sh {directory}/callbacks
    on_reload: {lab}/callback.sh {directory}/callbacks
    on_role_change: {lab}/callback.sh {directory}/callbacks
"
    );
    let mut config = yaml::load(&text)?;
    config.set(dcs.0, dcs.1.clone());
    Ok(config)
}

/// Lays `over` upon `under`: mappings merge, everything else replaces, null removes.
pub fn merge(under: &mut Value, over: &Value) {
    let Some(entries) = over.as_map() else {
        *under = over.clone();
        return;
    };
    for (key, value) in entries {
        let key = key.py_str();
        match under.get(&key) {
            _ if value.is_null() => drop(under.remove(&key)),
            Some(old) if old.as_map().is_some() && value.as_map().is_some() => {
                let mut inner = old.clone();
                merge(&mut inner, value);
                under.set(&key, inner);
            }
            _ => under.set(&key, value.clone()),
        }
    }
}

/// The configuration with what overrides may write for paths: `LABDATA` is the member's PGDATA,
/// `LABNODE` its directory, `LABROOT` the test cluster's, `LABBIN` that of PostgreSQL's programs.
///
/// # Errors
/// The directory's name is no YAML.
pub fn fill_in(config: &Value, data: &Path, node: &Path, lab: &Path, bin: &Path) -> Result<Value> {
    Ok(yaml::load(&fill_in_text(&text(config), data, node, lab, bin))?)
}

/// As [`fill_in`], in any text.
pub fn fill_in_text(text: &str, data: &Path, node: &Path, lab: &Path, bin: &Path) -> String {
    let paths = [("LABDATA", data), ("LABNODE", node), ("LABROOT", lab), ("LABBIN", bin)];
    paths.iter().fold(text.to_owned(), |text, (name, path)| text.replace(name, &path.display().to_string()))
}

/// The configuration as the file's text.
pub fn text(config: &Value) -> String {
    yaml::dump(config, yaml::DumpOptions { sort_keys: false, ..yaml::DumpOptions::default() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn merges_maps_replaces_lists_and_removes_nulls() {
        let mut under = yaml::load("{a: {b: 1, c: 2}, l: [1, 2]}").unwrap();
        merge(&mut under, &yaml::load("{a: {b: 3, c: null}, l: [4], n: {x: y}}").unwrap());
        assert_eq!(under, yaml::load("{a: {b: 3}, l: [4], n: {x: y}}").unwrap());
    }
}
