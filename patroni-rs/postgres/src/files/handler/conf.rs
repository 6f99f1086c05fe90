//! postgresql.conf, pg_hba.conf, pg_ident.conf, and their backups.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use patroni_core::parse::{parse_bool, parse_int};
use patroni_core::PgVersion;
use pyfmt::Value;

use super::{path_text, ConfigHandler, ServerState};
use crate::files::cimap::Params;
use crate::files::error::{at, FilesError};
use crate::files::guc::AvailableGucs;
use crate::files::hba;
use crate::files::postgresql_conf::{without_recovery_parameters, Conf};
use crate::files::recovery::{rendered, translate_target_action};
use crate::files::reload::{LogLine, ParamDiff, PendingRestart};
use crate::files::write::{append, copy, Links};

impl ConfigHandler {
    /// Writes postgresql.conf, from the parameters as they are or from
    /// `configuration` (at a start, see
    /// [`ConfigHandler::effective_configuration`]). The first time the original
    /// becomes the base configuration.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_postgresql_conf(
        &mut self,
        configuration: Option<&Params>,
        facts: &ServerState<'_>,
    ) -> Result<(), FilesError> {
        let written = self.replace_postgresql_conf(configuration, facts);
        if written.is_err() {
            // The recovery parameters that were to be written are not in force, and the file is the old one.
            self.seen.forget_conf();
        }
        written
    }

    fn replace_postgresql_conf(
        &mut self,
        configuration: Option<&Params>,
        facts: &ServerState<'_>,
    ) -> Result<(), FilesError> {
        self.make_base_conf()?;
        let mut params = configuration.filter(|p| !p.is_empty()).unwrap_or(&self.server_parameters).clone();
        if facts.hot_standby_feedback {
            params.set("hot_standby_feedback", "on");
        }
        let none = AvailableGucs::default();
        let available = facts.available.unwrap_or(&none);
        let modern = self.major_version.at_least(PgVersion::V12);
        let recovery = if modern { self.render_recovery_params(available)? } else { Vec::new() };
        let custom_conf = self.config.get("custom_conf").filter(|v| v.truthy()).map(Value::py_str);
        let hba = path_text(&self.pg_hba_conf());
        let ident = path_text(&self.pg_ident_conf());
        let own_hba = facts.custom_bootstrap || !self.server_parameters.contains("hba_file");
        let conf = Conf {
            include: custom_conf.as_deref().unwrap_or(&self.setup.base_conf_name),
            params: &params,
            version: facts.version,
            available,
            hba_file: own_hba.then_some(hba.as_str()),
            skip_hba_parameter: facts.custom_bootstrap,
            ident_file: (!self.server_parameters.contains("ident_file")).then_some(ident.as_str()),
            recovery: &recovery,
        };
        self.write_file(&self.setup.postgresql_conf, &conf.render(), Links::Follow)?;
        if modern && !facts.keep_existing_recovery_conf {
            self.sanitize_auto_conf();
        }
        Ok(())
    }

    fn make_base_conf(&self) -> Result<(), FilesError> {
        let base = self.setup.config_dir.join(&self.setup.base_conf_name);
        if self.config.get("custom_conf").is_some() || base.exists() {
            return Ok(());
        }
        let conf = &self.setup.postgresql_conf;
        std::fs::rename(conf, &base).map_err(at(conf))
    }

    /// Recovery parameters as written; the password goes to the password file
    /// from version 10 on.
    pub(super) fn render_recovery_params(
        &mut self,
        available: &AvailableGucs,
    ) -> Result<Vec<(String, Value)>, FilesError> {
        translate_target_action(&mut self.recovery_params, self.major_version);
        let conninfo = self.recovery_params.get("primary_conninfo").filter(|v| v.as_map().is_some()).cloned();
        if let Some(mut conninfo) = conninfo.filter(|_| self.major_version.at_least(PgVersion::V10)) {
            if let Some(passfile) = self.write_pgpass(&conninfo)?.map(path_text) {
                conninfo.set("passfile", passfile.as_str());
                self.recovery_params.set("primary_conninfo", conninfo);
                self.seen.passfile_written(passfile);
            }
        }
        Ok(rendered(&self.recovery_params, self.major_version, available))
    }

    /// A failure is logged and not more: the file is PostgreSQL's.
    fn sanitize_auto_conf(&self) {
        let path = self.data_file("postgresql.auto.conf");
        let content = match std::fs::read(&path) {
            Ok(content) => content,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(_) => {
                tracing::info!(target: "patroni.postgresql.config", "Failed to read {}", path.display());
                return;
            }
        };
        if let Some(content) = without_recovery_parameters(&content) {
            if let Err(e) = self.write_file(&path, &content, Links::Follow) {
                let path = path.display();
                tracing::error!(target: "patroni.postgresql.config",
                    "Failed to remove some unwanted parameters from {path}: {e}");
            }
        }
    }

    /// Appends `bootstrap.pg_hba` to the pg_hba.conf of initdb, unless the file
    /// is the user's or is rewritten anyway.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn append_pg_hba(&self, lines: &[String]) -> Result<(), FilesError> {
        let path = self.pg_hba_conf();
        if self.user_hba_file().is_some() || self.lines("pg_hba")?.is_some() {
            return Ok(());
        }
        append(&path, &hba::bootstrap_lines(lines), self.mode_of(&path)).map_err(at(&path))
    }

    /// Writes pg_hba.conf from `postgresql.pg_hba`; during a custom bootstrap,
    /// one that trusts local connections. Returns whether the configured lines
    /// were to be written.
    ///
    /// # Errors
    /// Those of the file system, and of resolving the local address.
    pub fn replace_pg_hba(&self, facts: &ServerState<'_>) -> Result<bool, FilesError> {
        let path = self.pg_hba_conf();
        if facts.custom_bootstrap {
            let user = |section: Option<&Value>| section.and_then(|s| s.get("username")).map(Value::py_str);
            let replication = user(self.replication()).unwrap_or_default();
            let superuser = user(self.superuser());
            let addresses = self.local_ip_addresses()?;
            let content = hba::custom_bootstrap(&addresses, &replication, superuser.as_deref());
            self.write_file(&path, &content, Links::Follow)?;
            return Ok(false);
        }
        match self.lines("pg_hba")?.filter(|_| self.user_hba_file().is_none()) {
            Some(lines) => self.write_file(&path, &hba::from_lines(&lines), Links::Follow).map(|_| true),
            None => Ok(false),
        }
    }

    /// Writes pg_ident.conf from `postgresql.pg_ident`. Returns whether that is
    /// configured.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn replace_pg_ident(&self) -> Result<bool, FilesError> {
        let path = self.pg_ident_conf();
        match self.lines("pg_ident")?.filter(|_| self.user_ident_file().is_none()) {
            Some(lines) => self.write_file(&path, &hba::from_lines(&lines), Links::Follow).map(|_| true),
            None => Ok(false),
        }
    }

    /// The lines of `postgresql.pg_hba` or `pg_ident`.
    fn lines(&self, key: &str) -> Result<Option<Vec<String>>, FilesError> {
        hba::lines_of(&format!("postgresql.{key}"), self.config.get(key))
    }

    /// `hba_file` if the user has one of his own.
    pub fn user_hba_file(&self) -> Option<String> {
        Self::user_file(&self.server_parameters, "hba_file", &self.pg_hba_conf())
    }

    /// `ident_file` if the user has one of his own.
    pub fn user_ident_file(&self) -> Option<String> {
        Self::user_file(&self.server_parameters, "ident_file", &self.pg_ident_conf())
    }

    /// IP addresses of the local TCP connection; none over a Unix socket.
    fn local_ip_addresses(&self) -> Result<Vec<IpAddr>, FilesError> {
        let address = &self.addresses.local_replication;
        let text = |key: &str| address.get(key).map(Value::py_str);
        let Some(host) = text("host").filter(|h| !h.starts_with('/')) else {
            return Ok(Vec::new());
        };
        let port = text("port").and_then(|p| p.parse().ok()).unwrap_or(0u16);
        let found = (host.as_str(), port).to_socket_addrs().map_err(at(host.as_ref()))?;
        Ok(found.map(|a| a.ip()).collect())
    }

    /// Files that are saved to PGDATA, because a base backup may not carry
    /// them (15.1-08).
    fn saved_files(&self) -> Vec<String> {
        let conf = self.setup.postgresql_conf.file_name().map(|n| n.to_string_lossy().into_owned());
        let mut files: Vec<String> = conf.into_iter().collect();
        if self.config.get("custom_conf").is_none() {
            files.push(self.setup.base_conf_name.clone());
        }
        if self.user_hba_file().is_none() {
            files.push("pg_hba.conf".to_owned());
        }
        if self.user_ident_file().is_none() {
            files.push("pg_ident.conf".to_owned());
        }
        files
    }

    /// Each saved file: its name, the original, the backup.
    fn backups(&self) -> impl Iterator<Item = (String, PathBuf, PathBuf)> + '_ {
        self.saved_files().into_iter().map(|name| {
            let (original, backup) =
                (self.setup.config_dir.join(&name), self.data_file(&format!("{name}.backup")));
            (name, original, backup)
        })
    }

    /// Copies the configuration files to `.backup` ones. A failure is logged.
    /// Nothing is done when `check_custom_bootstrap` and one is going on.
    pub fn save_configuration_files(&self, check_custom_bootstrap: bool, facts: &ServerState<'_>) {
        if check_custom_bootstrap && facts.custom_bootstrap {
            return;
        }
        let save = || {
            for (_, original, backup) in self.backups().filter(|(_, original, _)| original.is_file()) {
                copy(&original, &backup, self.mode_of(&backup), Links::Replace).map_err(at(&backup))?;
            }
            Ok::<_, FilesError>(())
        };
        if let Err(e) = save() {
            tracing::error!(target: "patroni.postgresql.config",
                "unable to create backup copies of configuration files: {e}");
        }
    }

    /// After a custom bootstrap: the file that trusted everybody makes room for
    /// the one that was there before (12-07).
    pub fn restore_pg_hba(&self) {
        // A file that is not there needs no removal.
        let _ = crate::files::write::remove_if_exists(&self.pg_hba_conf());
        self.restore_configuration_files();
    }

    /// A trigger file that came with a copy must not promote it: the one that is configured, which PostgreSQL looks up
    /// in PGDATA, or that of `pg_ctl promote`.
    pub fn remove_trigger_file(&self) {
        let names = ["promote_trigger_file", "trigger_file"];
        let file = names.iter().find_map(|n| self.config.at(&["recovery_conf", n])).filter(|v| v.truthy());
        let file = self.setup.data_dir.join(file.map_or_else(|| "promote".to_owned(), |f| f.py_str()));
        if let Err(e) = crate::files::write::remove_if_exists(&file) {
            tracing::error!(target: "patroni.postgresql.bootstrap", "Could not remove {}: {e}", file.display());
        }
    }

    /// Brings missing configuration files back from their backups. A failure is
    /// logged.
    pub fn restore_configuration_files(&self) {
        let restore = || {
            for (name, original, backup) in self.backups().filter(|(_, original, _)| !original.is_file()) {
                if backup.is_file() {
                    copy(&backup, &original, self.mode_of(&original), Links::Follow)
                        .map_err(at(&original))?;
                } else if name == "pg_ident.conf" {
                    // Old versions did not save it, and the server wants one.
                    self.write_file(&original, b"", Links::Follow)?;
                }
            }
            Ok::<_, FilesError>(())
        };
        if let Err(e) = restore() {
            tracing::error!(target: "patroni.postgresql.config",
                "unable to restore configuration files from backup: {e}");
        }
    }

    /// The parameters to start with. A standby does not start with less than
    /// its primary had: such values are taken from pg_controldata
    /// (`controldata`), and wait for a restart (15.2-08). The second part is
    /// the new pending restart reason; none for a primary, which keeps its own.
    pub fn effective_configuration(
        &self,
        controldata: impl Fn(&str) -> Option<String>,
        facts: &ServerState<'_>,
    ) -> (Params, Option<PendingRestart>) {
        let mut params = self.server_parameters.clone();
        if facts.primary {
            return (params, None);
        }
        let mut pending = PendingRestart::default();
        for (name, label, _) in CONTROLDATA.iter().filter(|(.., since)| self.major_version.at_least(*since)) {
            let Some(control) = controldata(label) else {
                let text = format!("{label} is missing from pg_controldata output");
                LogLine::Warning(text).emit();
                continue;
            };
            let control = parse_int(&control.into(), None);
            let value = self.server_parameters.get(name).and_then(|v| parse_int(v, None));
            if let (Some(control), Some(value)) = (control, value) {
                if control > value {
                    params.set(name, control);
                    tracing::info!(target: "patroni.postgresql.config",
                        "{name} value in pg_controldata: {control}, in the global configuration: {value}. \
                         pg_controldata value will be used. Setting 'Pending restart' flag");
                    let diff = ParamDiff { old_value: control.to_string(), new_value: value.to_string() };
                    pending.0.insert((*name).to_owned(), diff);
                }
            }
        }
        if self.hot_standby_must_be_off(facts) {
            params.set("hot_standby", "off");
        }
        (params, Some(pending))
    }

    /// Point-in-time recovery that ends in promotion fails as a hot standby
    /// when values such as max_connections grew on the way.
    fn hot_standby_must_be_off(&self, facts: &ServerState<'_>) -> bool {
        if !facts.custom_bootstrap {
            return false;
        }
        if facts.keep_existing_recovery_conf {
            return true;
        }
        if self.major_version.before(PgVersion::V9_5) || self.recovery_params.is_empty() {
            return false;
        }
        match self.recovery_params.get("recovery_target_action") {
            Some(action) => action.as_str() == Some("promote"),
            None => self.recovery_params.get("pause_at_recovery_target").and_then(parse_bool) == Some(false),
        }
    }

    /// `synchronous_standby_names` as it was written last; empty where it is not.
    pub fn synchronous_standby_names(&self) -> String {
        let value = self.server_parameters.get("synchronous_standby_names").filter(|v| !v.is_null());
        value.map(Value::py_str).unwrap_or_default()
    }

    /// Sets `synchronous_standby_names`; on a running server the file is
    /// written, and the caller reloads. Returns whether the value is new. What could not be written does not count: the
    /// value is the one before.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_synchronous_standby_names(
        &mut self,
        value: Option<&str>,
        facts: &ServerState<'_>,
    ) -> Result<bool, FilesError> {
        const NAME: &str = "synchronous_standby_names";
        let current = self.server_parameters.get(NAME).filter(|v| !v.is_null());
        if current == value.map(Value::from).as_ref() {
            return Ok(false);
        }
        let before = self.server_parameters.get(NAME).cloned();
        match value {
            Some(value) => self.server_parameters.set(NAME, value),
            None => {
                self.server_parameters.remove(NAME);
            }
        }
        if facts.running {
            if let Err(error) = self.write_postgresql_conf(None, facts) {
                match before {
                    Some(before) => self.server_parameters.set(NAME, before),
                    None => {
                        self.server_parameters.remove(NAME);
                    }
                }
                return Err(error);
            }
        }
        Ok(true)
    }
}

/// Parameters that a standby must not have lower than pg_controldata says, the
/// label there, and the first version that it matters for.
const CONTROLDATA: [(&str, &str, PgVersion); 5] = [
    ("max_connections", "max_connections setting", PgVersion::UNKNOWN),
    ("max_prepared_transactions", "max_prepared_xacts setting", PgVersion::UNKNOWN),
    ("max_locks_per_transaction", "max_locks_per_xact setting", PgVersion::UNKNOWN),
    ("max_worker_processes", "max_worker_processes setting", PgVersion::V9_4),
    ("max_wal_senders", "max_wal_senders setting", PgVersion::V12),
];
