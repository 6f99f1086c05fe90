//! A new configuration for a running daemon.

use pyfmt::Value;

use super::{ConfigHandler, ServerState};
use crate::files::cimap::Params;
use crate::files::error::FilesError;
use crate::files::hba::lines_of;
use crate::files::pg_settings::{PendingSetting, PgSetting};
use crate::files::reload::{compare, pending_restart, Changes, LogLine, PendingRestart};
use crate::process::binaries::set_krbsrvname;

/// A new configuration, before the server was asked.
#[derive(Debug)]
pub struct PreparedReload {
    config: Value,
    params: Params,
    changes: Option<Changes>,
}

impl PreparedReload {
    /// Names to read from pg_settings; empty if the server is not to be asked.
    pub fn names(&self) -> Vec<String> {
        self.changes.as_ref().map(Changes::names).unwrap_or_default()
    }

    /// Is it compared with what the server has?
    pub fn is_compared(&self) -> bool {
        self.changes.is_some()
    }
}

/// What is left to do for the caller.
#[derive(Debug, Default, PartialEq)]
pub struct ReloadOutcome {
    /// Reload the server; then, from 9.5 on, ask it what waits for a restart
    /// ([`ConfigHandler::pending_after_reload`]).
    pub reload: bool,
    /// The new pending restart reason. `None` keeps the old one.
    pub pending_restart: Option<PendingRestart>,
}

impl ConfigHandler {
    /// First step of a reload with the effective `postgresql` section `config`.
    ///
    /// # Errors
    /// A configuration that cannot be used; the old one stays.
    pub fn prepare_reload(
        &self,
        config: Value,
        facts: &ServerState<'_>,
    ) -> Result<PreparedReload, FilesError> {
        for key in ["pg_hba", "pg_ident"] {
            lines_of(&format!("postgresql.{key}"), config.get(key))?;
        }
        let params = self.compute_server_parameters(&config, facts)?;
        let ask = facts.running && !facts.custom_bootstrap;
        let changes = ask.then(|| Changes::new(&self.server_parameters, &params));
        Ok(PreparedReload { config, params, changes })
    }

    /// Second step: compares with the server's values (`rows`), takes over the
    /// configuration and writes the files that changed, or all after a SIGHUP.
    ///
    /// # Errors
    /// Those of writing; the configuration is taken over all the same.
    pub fn apply_reload(
        &mut self,
        prepared: PreparedReload,
        rows: &[PgSetting],
        sighup: bool,
        facts: &ServerState<'_>,
    ) -> Result<ReloadOutcome, FilesError> {
        let PreparedReload { config, mut params, changes } = prepared;
        let asked = changes.is_some();
        let unix_socket = ["use_unix_socket", "use_unix_socket_repl"]
            .into_iter()
            .any(|key| config.get(key).is_some_and(Value::truthy));
        let found = changes
            .map(|changes| compare(changes, &self.server_parameters, &params, rows, unix_socket))
            .unwrap_or_default();
        found.log.iter().for_each(LogLine::emit);
        for name in &found.invalid {
            params.remove(name);
        }
        let list_changed = |key: &str, file: &str, ours: &std::path::Path| {
            let new = config.get(key).filter(|v| v.truthy());
            let old = self.config.get(key);
            let users = Self::user_file(&params, file, ours).is_some();
            asked && !users && new.is_some_and(|new| Some(new) != old)
        };
        let hba_changed = list_changed("pg_hba", "hba_file", &self.pg_hba_conf());
        let ident_changed = list_changed("pg_ident", "ident_file", &self.pg_ident_conf());

        self.config = config;
        self.server_parameters = params;
        self.adjust_recovery_conf();
        set_krbsrvname(self.krbsrvname());
        self.update_addresses(found.local_address_changed || facts.starting);
        if facts.custom_bootstrap {
            let text = "Skipping PostgreSQL configuration update while in custom bootstrap.";
            LogLine::Info(text.to_owned()).emit();
            return Ok(ReloadOutcome::default());
        }
        self.write_changed(
            found.conf_changed || sighup,
            hba_changed || sighup,
            ident_changed || sighup,
            facts,
        )?;
        let reload = sighup || found.conf_changed || hba_changed || ident_changed;
        let text = if reload {
            "Reloading PostgreSQL configuration."
        } else {
            "No PostgreSQL configuration items changed, nothing to reload."
        };
        LogLine::Info(text.to_owned()).emit();
        Ok(ReloadOutcome { reload, pending_restart: Some(found.pending) })
    }

    /// The local connection, and what the member key says of it, follow a new address only after the restart (a
    /// server that is starting has the old one); the proxy's address at once.
    fn update_addresses(&mut self, keep: bool) {
        let old = std::mem::take(&mut self.addresses);
        self.resolve_connection_addresses();
        if keep {
            let proxy_url = self.addresses.proxy_url.take();
            self.addresses = super::Addresses { proxy_url, ..old };
        }
    }

    fn write_changed(
        &mut self,
        conf: bool,
        hba: bool,
        ident: bool,
        facts: &ServerState<'_>,
    ) -> Result<(), FilesError> {
        if conf {
            self.write_postgresql_conf(None, facts)?;
        }
        if hba {
            self.replace_pg_hba(facts)?;
        }
        if ident {
            self.replace_pg_ident()?;
        }
        Ok(())
    }

    /// Third step, after the reload of a server of 9.5 or later: the pending
    /// restart reason by the server's own word. `expected` is that of the
    /// second step. [`ConfigHandler::never_pending`] names are not to be among
    /// the rows.
    pub fn pending_after_reload(expected: &PendingRestart, rows: &[PendingSetting]) -> PendingRestart {
        let (pending, line) = pending_restart(expected, rows);
        if let Some(line) = line {
            line.emit();
        }
        pending
    }

    /// Names that never count as waiting for a restart: `hot_standby` and the
    /// recovery parameters, in lower case.
    pub fn never_pending() -> Vec<String> {
        let recovery = crate::files::guc::GucTable::builtin().recovery_names();
        recovery.into_iter().chain(["hot_standby"]).map(str::to_owned).collect()
    }
}
