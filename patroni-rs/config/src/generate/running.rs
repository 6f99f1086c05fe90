//! The configuration of a PostgreSQL that runs, so that Patroni can take it over.

use patroni_core::PgVersion;
use pyfmt::{oserror, Value};

use super::FIXME;
use crate::error::{ConfigError, Result};
use crate::python::{child_mut, int};

/// Settings that the configuration needs whether or not anybody set them:
/// the `$1` of [`SETTINGS_QUERY`].
pub const REQUIRED_PARAMETERS: [&str; 19] = [
    "hba_file",
    "ident_file",
    "config_file",
    "data_directory",
    "listen_addresses",
    "port",
    "cluster_name",
    "wal_level",
    "hot_standby",
    "max_connections",
    "max_wal_senders",
    "wal_keep_segments",
    "wal_keep_size",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "track_commit_timestamp",
    "max_replication_slots",
    "max_worker_processes",
    "wal_log_hints",
];

/// Names and values of the settings that somebody has made.
pub const SETTINGS_QUERY: &str = "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
     WHERE context <> 'internal' \
     AND source IN ('configuration file', 'command line', 'environment variable') \
     AND category <> 'Write-Ahead Log / Recovery Target' \
     AND setting <> '(disabled)' \
     OR name = ANY($1)";

/// Connection parameters of the superuser, and the variables that libpq reads
/// them from.
const CREDENTIALS: [(&str, &str); 12] = [
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("sslmode", "PGSSLMODE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslpassword", ""),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("gssencmode", "PGGSSENCMODE"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
];

/// The first versions whose libpq knows a connection parameter.
const SINCE: [(&str, PgVersion); 5] = [
    ("gssencmode", PgVersion::V12),
    ("channel_binding", PgVersion::V13),
    ("sslpassword", PgVersion::V13),
    ("sslcrldir", PgVersion::V14),
    ("sslnegotiation", PgVersion::V17),
];

/// Settings that stay local: commands, as whoever can write the DCS could run
/// anything otherwise, and places of files.
const LOCAL: [&str; 8] = [
    "archive_command",
    "restore_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "ssl_passphrase_command",
    "hba_file",
    "ident_file",
    "config_file",
];

/// What the server says of itself.
#[derive(Debug, Clone, Default)]
pub struct ServerFacts {
    /// Its version.
    pub version: PgVersion,
    /// Does the connection's user have all rights?
    pub is_superuser: bool,
    /// Result of [`SETTINGS_QUERY`].
    pub settings: Vec<(String, String)>,
}

/// What the generator needs from outside.
pub trait RunningInstance {
    /// The parameters of a connection string or URI, with the defaults that the
    /// reference's `parse_dsn` adds (`sslmode`, `gssencmode` and `channel_binding`
    /// are `prefer`); None when it is none.
    fn parse_dsn(&self, dsn: &str) -> Option<Value>;
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// The name of the operating system's user.
    fn os_user(&self) -> String;
    /// Asks for a password at the terminal; an error is the text of the exception.
    ///
    /// # Errors
    /// There is nobody to ask.
    fn ask_password(&mut self, prompt: &str) -> std::result::Result<String, String>;
    /// Connects, with libpq's defaults for what the DSN leaves open, and asks.
    ///
    /// # Errors
    /// The text of libpq.
    fn facts(&mut self, dsn: Option<&str>, password: &str) -> std::result::Result<ServerFacts, String>;
}

/// Completes the template.
pub(super) fn complete(
    mut config: Value,
    dsn: Option<&str>,
    instance: &mut dyn RunningInstance,
) -> Result<Value> {
    let dsn = dsn.filter(|d| !d.is_empty());
    let parsed = match dsn {
        Some(text) => instance
            .parse_dsn(text)
            .filter(Value::truthy)
            .ok_or_else(|| ConfigError::refused("Failed to parse DSN string"))?,
        None => Value::map(),
    };
    let mut superuser = superuser(&config, &parsed, instance)?;
    let password = superuser.get("password").map(Value::py_str).unwrap_or_default();
    let facts = instance
        .facts(dsn, &password)
        .map_err(|e| ConfigError::refused(format!("Failed to establish PostgreSQL connection: {e}")))?;
    for (parameter, since) in SINCE {
        if facts.version.before(since) {
            superuser.remove(parameter);
        }
    }
    if !facts.is_superuser {
        return Err(ConfigError::refused("The provided user does not have superuser privilege"));
    }
    let replication: Value = [("username", FIXME), ("password", FIXME)].into_iter().collect();
    let users: Value = [("superuser", superuser), ("replication", replication)].into_iter().collect();
    set(&mut config, &["postgresql"], "authentication", users);
    add_settings(&mut config, &facts);
    let port = parsed.get("port").map(Value::py_str).or_else(|| instance.variable("PGPORT"));
    add_addresses(&mut config, &facts, port);
    add_rules(&mut config, facts.version)?;
    let bin_dir = bin_dir(&data_dir(&config))?;
    set(&mut config, &["postgresql"], "bin_dir", bin_dir);
    Ok(config)
}

fn set(config: &mut Value, path: &[&str], key: &str, value: impl Into<Value>) {
    let mut section = config;
    for name in path {
        if section.get(name).is_none() {
            section.set(name, Value::map());
        }
        match child_mut(section, name) {
            Some(child) => section = child,
            None => return,
        }
    }
    section.set(key, value);
}

fn data_dir(config: &Value) -> String {
    config.at(&["postgresql", "data_dir"]).map(Value::py_str).unwrap_or_default()
}

fn superuser(config: &Value, dsn: &Value, instance: &mut dyn RunningInstance) -> Result<Value> {
    let mut user = Value::map();
    for (parameter, variable) in CREDENTIALS {
        let value = match dsn.get(parameter) {
            Some(value) => Some(value.py_str()),
            None => Some(variable).filter(|v| !v.is_empty()).and_then(|v| instance.variable(v)),
        };
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            user.set(if parameter == "user" { "username" } else { parameter }, value);
        }
    }
    let configured = |key| config.at(&["authentication", "superuser", key]).filter(|v| v.truthy()).cloned();
    if user.get("username").is_none() {
        user.set("username", configured("username").unwrap_or_else(|| instance.os_user().into()));
    }
    if user.get("password").is_none() {
        let password = match configured("password") {
            Some(password) => password,
            None => {
                let asked = instance.ask_password("Please enter the user password:");
                asked.map_err(|e| ConfigError::exception("EOFError", e))?.into()
            }
        };
        user.set("password", password);
    }
    Ok(user)
}

fn add_settings(config: &mut Value, facts: &ServerFacts) {
    if config.at(&["postgresql", "parameters"]).is_none() {
        set(config, &["postgresql"], "parameters", Value::map());
    }
    for (name, value) in &facts.settings {
        let value = value.as_str();
        match name.as_str() {
            "data_directory" => set(config, &["postgresql"], "data_dir", value),
            "cluster_name" if !value.is_empty() => config.set("scope", value),
            "port" | "listen_addresses" => {}
            local if LOCAL.contains(&local) => set(config, &["postgresql", "parameters"], local, value),
            other => set(config, &["bootstrap", "dcs", "postgresql", "parameters"], other, value),
        }
    }
}

fn add_addresses(config: &mut Value, facts: &ServerFacts, connect_port: Option<String>) {
    let setting = |name| {
        let found = facts.settings.iter().find(|(n, _)| n == name);
        found.map_or_else(|| "None".to_owned(), |(_, value)| value.clone())
    };
    let address = config.at(&["postgresql", "connect_address"]).map(Value::py_str).unwrap_or_default();
    let host = address.split(':').next().unwrap_or_default();
    let connect = format!("{host}:{}", connect_port.unwrap_or_else(|| setting("port")));
    set(config, &["postgresql"], "connect_address", connect);
    let listen = format!("{}:{}", setting("listen_addresses"), setting("port"));
    set(config, &["postgresql"], "listen", listen);
}

/// Copies pg_hba.conf and pg_ident.conf when they are in PGDATA: elsewhere
/// Patroni may not be allowed to write them.
fn add_rules(config: &mut Value, version: PgVersion) -> Result<()> {
    let dir = data_dir(config);
    for (parameter, file, key) in
        [("hba_file", "pg_hba.conf", "pg_hba"), ("ident_file", "pg_ident.conf", "pg_ident")]
    {
        let path = format!("{}/{file}", dir.trim_end_matches('/'));
        let used = config.at(&["postgresql", "parameters", parameter]).map(Value::py_str);
        if used.as_deref() != Some(path.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| {
            ConfigError::refused(format!("Failed to read {file}: {}", oserror::text(&e, Some(&path))))
        })?;
        let is_rule = |line: &&str| match key {
            "pg_hba" => line.split_whitespace().next().is_some_and(|word| is_hba_type(word, version)),
            _ => !line.is_empty() && !line.starts_with('#'),
        };
        let rules: Vec<Value> =
            text.lines().map(pyfmt::text::strip).filter(is_rule).map(Value::from).collect();
        if key == "pg_hba" || !rules.is_empty() {
            set(config, &["postgresql"], key, rules);
        }
    }
    Ok(())
}

fn is_hba_type(word: &str, version: PgVersion) -> bool {
    let types = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
    let includes = ["include", "include_if_exists", "include_dir"];
    types.contains(&word) || (version.at_least(PgVersion::V16) && includes.contains(&word))
}

/// Where the program of the postmaster is.
fn bin_dir(data_dir: &str) -> Result<String> {
    let path = format!("{data_dir}/postmaster.pid");
    let text = std::fs::read_to_string(&path).map_err(|e| {
        let text = oserror::text(&e, Some(&path));
        ConfigError::refused(format!("Error while reading postmaster.pid file: {text}"))
    })?;
    let Some(line) = text.lines().next() else {
        return Err(ConfigError::refused("Failed to obtain postmaster pid from postmaster.pid file"));
    };
    let pid = int(&pyfmt::text::strip(line).into())?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe"))
        .map_err(|_| ConfigError::refused("Obtained postmaster pid doesn't exist."))?;
    let dir = program.parent().map(|dir| dir.to_string_lossy().into_owned());
    Ok(dir.unwrap_or_default())
}
