//! The configuration of one instance: what it should be, what was written, and
//! the files.

mod conf;
mod directories;
mod recovery;
mod reload;

use std::path::{Path, PathBuf};

use patroni_core::PgVersion;
use pyfmt::Value;

use super::addresses::{resolve, resolve_running, Addresses, Listening};
use super::cimap::Params;
use super::error::{at, FilesError};
use super::guc::AvailableGucs;
use super::parameters::{server_parameters, ServerFacts, SyncNames};
use super::recovery::trigger_file_names;
use super::recovery_check::CurrentRecovery;
use super::write::{write, write_secret, Links};
use super::{guc::GucTable, perm, pgpass};

pub use recovery::{CurrentParametersQuery, SettingsRead};
pub use reload::{PreparedReload, ReloadOutcome};

/// What the rest of the daemon knows at the moment of a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerState<'a> {
    /// The server's state is `running`.
    pub running: bool,
    /// It is starting up.
    pub starting: bool,
    /// Our role is primary.
    pub primary: bool,
    /// Our role is promoted (not yet seen as primary).
    pub promoted: bool,
    /// A custom bootstrap is going on.
    pub custom_bootstrap: bool,
    /// It keeps the recovery configuration that its method wrote.
    pub keep_existing_recovery_conf: bool,
    /// `hot_standby_feedback` is needed for logical slots on this node.
    pub hot_standby_feedback: bool,
    /// A callback was called since this process started.
    pub callbacks_called: bool,
    /// Replication slots are in use (the dynamic configuration).
    pub use_slots: bool,
    /// Synchronous mode is on.
    pub synchronous_mode: bool,
    /// And strict.
    pub synchronous_mode_strict: bool,
    /// Full version of the server or its binaries
    /// (see [`effective_version`]).
    pub version: PgVersion,
    /// What `postgres --describe-config` lists.
    pub available: Option<&'a AvailableGucs>,
}

/// The version to validate parameters for: that of the running server, else
/// that of the binaries if their major version is the data directory's, else
/// the data directory's (not known if it has none).
pub fn effective_version(
    server: Option<PgVersion>,
    binaries: PgVersion,
    data_dir_major: PgVersion,
) -> PgVersion {
    match server {
        Some(version) => version,
        None if data_dir_major.is_known() && binaries.major() != data_dir_major => data_dir_major,
        None => binaries,
    }
}

/// Names and places that do not change while the process runs.
#[derive(Debug, Clone)]
pub struct InstanceSetup {
    /// Member name.
    pub name: String,
    /// Cluster name.
    pub scope: String,
    /// PGDATA.
    pub data_dir: PathBuf,
    /// Database of our connections.
    pub database: String,
    config_dir: PathBuf,
    base_conf_name: String,
    postgresql_conf: PathBuf,
    pgpass: PathBuf,
}

impl InstanceSetup {
    /// From the effective `postgresql` section, which holds `name` and `scope`
    /// too.
    ///
    /// # Errors
    /// [`FilesError::PgpassNotAFile`].
    pub fn from_config(config: &Value) -> Result<InstanceSetup, FilesError> {
        let text = |key: &str| config.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let data_dir = data_dir(config);
        let config_dir = absolute(text("config_dir").map_or_else(|| data_dir.clone(), PathBuf::from));
        let base_name = text("config_base_name").unwrap_or_else(|| "postgresql".to_owned());
        let home = || std::env::home_dir().unwrap_or_default().join("pgpass");
        let pgpass = absolute(text("pgpass").map_or_else(home, PathBuf::from));
        if pgpass.exists() && !pgpass.is_file() {
            return Err(FilesError::PgpassNotAFile(pgpass));
        }
        Ok(InstanceSetup {
            name: text("name").unwrap_or_default(),
            scope: text("scope").unwrap_or_default(),
            database: text("database").unwrap_or_else(|| "postgres".to_owned()),
            postgresql_conf: config_dir.join(format!("{base_name}.conf")),
            base_conf_name: format!("{base_name}.base.conf"),
            data_dir,
            config_dir,
            pgpass,
        })
    }
}

/// PGDATA of the `postgresql` section. Without a slash or `/.` at its end: the system would follow a link in its place,
/// which can then be neither renamed nor removed.
pub fn data_dir(config: &Value) -> PathBuf {
    let text = config.get("data_dir").filter(|v| v.truthy()).map(Value::py_str).unwrap_or_default();
    PathBuf::from(text).components().collect()
}

/// The absolute path without `.` and `..`, links not followed.
fn absolute(path: PathBuf) -> PathBuf {
    use std::path::Component;
    let path = std::path::absolute(&path).unwrap_or(path);
    path.components().fold(PathBuf::new(), |mut out, part| {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
        out
    })
}

/// The configuration files of one instance. Calls block on the file system.
#[derive(Debug, Clone)]
pub struct ConfigHandler {
    setup: InstanceSetup,
    /// The effective `postgresql` section.
    config: Value,
    major_version: PgVersion,
    server_parameters: Params,
    recovery_params: Params,
    current_recovery: Option<CurrentRecovery>,
    seen: recovery::Seen,
    addresses: Addresses,
}

impl ConfigHandler {
    /// For an instance with the effective `postgresql` section `config` and a
    /// data directory of `major_version` (not known if there is none yet).
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn new(
        config: Value,
        major_version: PgVersion,
        facts: &ServerState<'_>,
    ) -> Result<ConfigHandler, FilesError> {
        let mut handler = ConfigHandler {
            setup: InstanceSetup::from_config(&config)?,
            config: Value::map(),
            major_version,
            server_parameters: Params::new(),
            recovery_params: Params::new(),
            current_recovery: None,
            seen: recovery::Seen::default(),
            addresses: Addresses::default(),
        };
        // The server is not looked at yet; the log says that nothing changed.
        let facts = ServerState { running: false, ..*facts };
        let prepared = handler.prepare_reload(config, &facts)?;
        handler.apply_reload(prepared, &[], false, &facts)?;
        Ok(handler)
    }

    /// Takes over the major version once the data directory has one.
    ///
    /// # Errors
    /// As [`ConfigHandler::new`].
    pub fn set_major_version(
        &mut self,
        major_version: PgVersion,
        facts: &ServerState<'_>,
    ) -> Result<(), FilesError> {
        self.major_version = major_version;
        self.setup_server_parameters(facts)
    }

    fn setup_server_parameters(&mut self, facts: &ServerState<'_>) -> Result<(), FilesError> {
        self.server_parameters = self.compute_server_parameters(&self.config, facts)?;
        self.adjust_recovery_conf();
        Ok(())
    }

    fn compute_server_parameters(
        &self,
        config: &Value,
        facts: &ServerState<'_>,
    ) -> Result<Params, FilesError> {
        let sync_names = if facts.synchronous_mode {
            SyncNames::Managed {
                current: self
                    .server_parameters
                    .get("synchronous_standby_names")
                    .filter(|v| !v.is_null())
                    .cloned(),
                star_if_none: facts.synchronous_mode_strict && (facts.primary || facts.promoted),
            }
        } else {
            SyncNames::FromConfig
        };
        // As the reference: by the address that is known so far.
        let host = self.addresses.local.get("host").map(Value::py_str);
        let host = host.unwrap_or_else(|| "localhost".to_owned());
        let citus = patroni_core::citus::Section::of(config);
        server_parameters(
            &Params::from_value(config.get("parameters")),
            &ServerFacts {
                scope: &self.setup.scope,
                listen: &config.get("listen").map(Value::py_str).unwrap_or_default(),
                config_dir: &self.setup.config_dir,
                major_version: self.major_version,
                sync_names,
                citus_host: citus.as_ref().map(|_| host.as_str()),
            },
        )
    }

    /// Recovery parameters among the server parameters take the place of
    /// `recovery_conf` (15.4-09); the trigger file gets the version's name.
    fn adjust_recovery_conf(&mut self) {
        let mut given = self.server_parameters.clone();
        given.retain(|name, _| GucTable::builtin().is_recovery(name));
        if !given.is_empty() {
            self.config.set("recovery_conf", given.to_value());
        }
        let Some(mut section) = self.config.get("recovery_conf").filter(|v| v.truthy()).cloned() else {
            return;
        };
        let (good, wrong) = trigger_file_names(self.major_version);
        if let Some(value) = section.remove(wrong).filter(Value::truthy) {
            if section.get(good).is_none() {
                section.set(good, value);
            }
        }
        self.config.set("recovery_conf", section);
    }

    /// Computes [`ConfigHandler::addresses`] anew, at each start.
    pub fn resolve_connection_addresses(&mut self) {
        self.addresses = resolve(&self.config, &self.server_parameters, &self.setup.database);
    }

    /// What [`ConfigHandler::addresses`] are of a server that listens there, and that the configuration may have left
    /// behind. `None`: they are these already.
    pub fn addresses_of(&self, running: &Listening) -> Option<Addresses> {
        let found = resolve_running(&self.config, &self.server_parameters, &self.setup.database, running);
        (found != self.addresses).then_some(found)
    }

    /// A server was found that others have started, or an earlier process, which listens there.
    pub fn take_addresses_of(&mut self, running: &Listening) {
        if let Some(found) = self.addresses_of(running) {
            self.addresses = found;
        }
    }

    /// Where this instance is reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Names and places.
    pub fn setup(&self) -> &InstanceSetup {
        &self.setup
    }

    /// Server parameters as they were last set.
    pub fn server_parameters(&self) -> &Params {
        &self.server_parameters
    }

    /// Major version of the data directory, or 0.
    pub fn major_version(&self) -> PgVersion {
        self.major_version
    }

    /// An entry of the effective `postgresql` section.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.config.get(key)
    }

    /// The whole effective `postgresql` section.
    pub fn section(&self) -> &Value {
        &self.config
    }

    /// The path of postgresql.conf.
    pub fn postgresql_conf(&self) -> &Path {
        &self.setup.postgresql_conf
    }

    /// `postgresql.recovery_conf.restore_command`.
    pub fn restore_command(&self) -> Option<&Value> {
        self.config.at(&["recovery_conf", "restore_command"])
    }

    /// `synchronous_standby_names` as the user has it.
    pub fn user_synchronous_standby_names(&self) -> Option<&Value> {
        self.config.at(&["parameters", "synchronous_standby_names"])
    }

    /// Credentials for replication.
    pub fn replication(&self) -> Option<&Value> {
        self.config.at(&["authentication", "replication"])
    }

    /// Credentials of the superuser.
    pub fn superuser(&self) -> Option<&Value> {
        self.config.at(&["authentication", "superuser"])
    }

    /// Credentials for pg_rewind: the superuser's before version 11, or when
    /// there are no others.
    pub fn rewind_credentials(&self) -> Option<&Value> {
        let own = self
            .config
            .at(&["authentication", "rewind"])
            .filter(|_| self.major_version.at_least(PgVersion::V11));
        own.or_else(|| self.superuser())
    }

    /// `postgresql.krbsrvname`, which child processes need as `PGKRBSRVNAME`.
    pub fn krbsrvname(&self) -> Option<&str> {
        self.config.get("krbsrvname").and_then(Value::as_str).filter(|s| !s.is_empty())
    }

    /// The user's `hba_file` or `ident_file`, unless it is the file of ours.
    fn user_file(params: &Params, name: &str, ours: &Path) -> Option<String> {
        let file = params.get(name).filter(|v| v.truthy())?.py_str();
        (Path::new(&file) != ours).then_some(file)
    }

    fn pg_hba_conf(&self) -> PathBuf {
        self.setup.config_dir.join("pg_hba.conf")
    }

    fn pg_ident_conf(&self) -> PathBuf {
        self.setup.config_dir.join("pg_ident.conf")
    }

    fn data_file(&self, name: &str) -> PathBuf {
        self.setup.data_dir.join(name)
    }

    fn mode_of(&self, path: &Path) -> u32 {
        perm::config_file_mode(&self.setup.data_dir, path)
    }

    fn write_file(&self, path: &Path, content: &[u8], links: Links) -> Result<bool, FilesError> {
        write(path, content, self.mode_of(path), links).map_err(at(path))
    }

    /// Writes the password file for a connection, if it has a password.
    /// Returns the path for `PGPASSFILE`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_pgpass(&self, conninfo: &Value) -> Result<Option<&Path>, FilesError> {
        let path = self.setup.pgpass.as_path();
        match pgpass::content(conninfo).filter(|c| !c.is_empty()) {
            Some(content) => {
                write_secret(path, content.as_bytes()).map_err(at(path))?;
                Ok(Some(path))
            }
            None => Ok(None),
        }
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared as text: paths are equal whatever slashes are at their ends.
    #[test]
    fn a_link_is_not_followed_by_a_slash() {
        for (written, want) in [
            ("/a/link/", "/a/link"),
            ("/a/link//", "/a/link"),
            ("/a/link/.", "/a/link"),
            ("/a/link/./", "/a/link"),
            ("/a//b/link", "/a/b/link"),
            ("/a/../link", "/a/../link"),
            ("link/", "link"),
            ("./link", "./link"),
            ("/", "/"),
            ("", ""),
        ] {
            let config: Value = [("data_dir", written)].into_iter().collect();
            assert_eq!(data_dir(&config).as_os_str(), want, "{written}");
            let setup = InstanceSetup::from_config(&config);
            assert_eq!(
                setup.map(|s| s.data_dir.into_os_string()).ok().as_deref(),
                Some(want.as_ref()),
                "{written}"
            );
        }
    }

    /// Server, binaries, data directory.
    #[test]
    fn whose_version_counts() {
        for (server, binaries, data_dir, want) in [
            (Some(150_018), 170_010, 150_000, 150_018),
            (None, 150_018, 150_000, 150_018),
            (None, 170_010, 150_000, 150_000),
            // Without PG_VERSION, before the cluster is made.
            (None, 170_010, 0, 170_010),
        ] {
            let num = PgVersion::from_num;
            let found = effective_version(server.map(num), num(binaries), num(data_dir));
            assert_eq!(found.num(), want);
        }
    }
}
