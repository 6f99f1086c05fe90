//! Recovery configuration: written, removed, and compared with the one in
//! force.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use patroni_core::controlled::{Check, CONTROLLED};
use patroni_core::parse::parse_bool;
use patroni_core::PgVersion;
use pyfmt::Value;

use super::{path_text, ConfigHandler, ServerState};
use crate::files::cimap::Params;
use crate::files::conninfo::parse_dsn;
use crate::files::error::{at, FilesError};
use crate::files::guc::AvailableGucs;
use crate::files::guc::GucTable;
use crate::files::pg_settings::PgSetting;
use crate::files::recovery::{standby_params, Follower, Upstream};
use crate::files::recovery_check::{
    check, from_recovery_conf, from_settings, from_written, names_to_compare, CheckFacts, CurrentRecovery,
    Verdict, WalReceiver,
};
use crate::files::text::ConfText;
use crate::files::write::{remove_if_exists, Links};

/// Time of the last change of a file: seconds and nanoseconds.
type Mtime = Option<(i64, i64)>;

fn mtime(path: &Path) -> Mtime {
    std::fs::metadata(path).ok().map(|m| (m.mtime(), m.mtime_nsec()))
}

/// State of the files when the recovery parameters were last read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    conf: Mtime,
    auto_conf: Mtime,
    recovery_conf: Mtime,
    /// Start of the postmaster, in seconds since the epoch.
    postmaster: Option<f64>,
    passfile: Option<String>,
    passfile_mtime: Mtime,
}

impl Seen {
    pub(super) fn passfile_written(&mut self, passfile: String) {
        self.passfile_mtime = mtime(Path::new(&passfile));
        self.passfile = Some(passfile);
    }

    /// The parameters are to be read again.
    pub(super) fn forget_conf(&mut self) {
        self.conf = None;
    }

    fn passfile_changed(&self) -> bool {
        self.passfile.as_ref().is_some_and(|p| mtime(Path::new(p)) != self.passfile_mtime)
    }
}

/// Which parameters to read from a server that was running before us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentParametersQuery {
    /// Those set in this file, or on the command line, or in the environment.
    pub sourcefile: String,
    /// Recovery parameters (12 and later) set in this file: with the next write of ours they leave it.
    pub auto_conf: String,
    /// Their names.
    pub recovery: Vec<String>,
    /// Those of these names.
    pub names: Vec<String>,
    /// None of these.
    pub exclude: Vec<String>,
}

/// What came of reading pg_settings for [`ConfigHandler::check_recovery_conf`].
#[derive(Debug, Clone, Default)]
pub enum SettingsRead {
    /// It was not asked for.
    #[default]
    NotRead,
    /// The rows.
    Rows(Vec<PgSetting>),
    /// It failed: nothing is known of the parameters in force.
    Failed,
}

impl ConfigHandler {
    fn follower(&self, facts: &ServerState<'_>) -> Follower<'_> {
        Follower {
            name: &self.setup.name,
            database: &self.setup.database,
            major_version: self.major_version,
            replication: self.replication(),
            krbsrvname: self.krbsrvname(),
            use_slots: facts.use_slots,
        }
    }

    /// Recovery parameters of a standby of `upstream`, or of nobody.
    pub fn build_recovery_params(&self, upstream: Option<Upstream<'_>>, facts: &ServerState<'_>) -> Params {
        standby_params(self.config.get("recovery_conf"), upstream, &self.follower(facts))
    }

    /// Is there a signal file or recovery.conf?
    pub fn recovery_conf_exists(&self) -> bool {
        let exists = |name: &str| self.data_file(name).exists();
        if self.major_version.before(PgVersion::V12) {
            return exists("recovery.conf");
        }
        exists("standby.signal") || exists("recovery.signal")
    }

    /// Takes over recovery parameters. From version 12 on the signal file is
    /// made now, and the parameters are written with postgresql.conf; before,
    /// recovery.conf is written.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_recovery_conf(&mut self, params: Params, facts: &ServerState<'_>) -> Result<(), FilesError> {
        self.recovery_params = params;
        if self.major_version.before(PgVersion::V12) {
            let none = AvailableGucs::default();
            let mut text = ConfText::new();
            for (name, value) in self.render_recovery_params(facts.available.unwrap_or(&none))? {
                text.param(&name, &value);
            }
            self.write_file(&self.data_file("recovery.conf"), &text.into_bytes(), Links::Replace)?;
            return Ok(());
        }
        let standby = self.recovery_params.remove("standby_mode").as_ref().and_then(parse_bool) == Some(true);
        let (standby_signal, recovery_signal) =
            (self.data_file("standby.signal"), self.data_file("recovery.signal"));
        if standby {
            self.write_file(&standby_signal, b"", Links::Replace)?;
        } else {
            remove_if_exists(&standby_signal).map_err(at(&standby_signal))?;
            self.write_file(&recovery_signal, b"", Links::Replace)?;
        }
        let conf = path_text(&self.setup.postgresql_conf);
        self.current_recovery = Some(from_written(&self.recovery_params, self.major_version, &conf));
        Ok(())
    }

    /// Removes recovery.conf and the signal files, and forgets the parameters.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_recovery_conf(&mut self) -> Result<(), FilesError> {
        for name in ["recovery.conf", "standby.signal", "recovery.signal"] {
            let path = self.data_file(name);
            remove_if_exists(&path).map_err(at(&path))?;
        }
        self.recovery_params = Params::new();
        self.current_recovery = None;
        Ok(())
    }

    /// Names to read from pg_settings before [`ConfigHandler::check_recovery_conf`],
    /// or `None` if nothing changed since the last time. `postmaster` is when
    /// the postmaster was started.
    pub fn recovery_settings_to_read(
        &self,
        postmaster: Option<f64>,
        facts: &ServerState<'_>,
    ) -> Option<Vec<String>> {
        if self.major_version.before(PgVersion::V12)
            || facts.starting
            || !self.data_file("standby.signal").exists()
        {
            return None;
        }
        let changed = self.seen_now(postmaster) != self.seen || self.seen.passfile_changed();
        changed.then(|| names_to_compare(self.major_version).into_iter().map(str::to_owned).collect())
    }

    fn seen_now(&self, postmaster: Option<f64>) -> Seen {
        Seen {
            conf: mtime(&self.setup.postgresql_conf),
            auto_conf: mtime(&self.data_file("postgresql.auto.conf")),
            postmaster,
            ..self.seen.clone()
        }
    }

    /// Must the recovery configuration be written to follow `upstream`, and
    /// with a restart? `read` holds what
    /// [`ConfigHandler::recovery_settings_to_read`] asked for.
    pub fn check_recovery_conf(
        &mut self,
        upstream: Option<Upstream<'_>>,
        read: SettingsRead,
        postmaster: Option<f64>,
        receiver: &WalReceiver,
        facts: &ServerState<'_>,
    ) -> Verdict {
        let modern = self.major_version.at_least(PgVersion::V12);
        let marker = self.data_file(if modern { "standby.signal" } else { "recovery.conf" });
        // No answer is no reason to restart a server; the next cycle asks again.
        if marker.exists() && matches!(read, SettingsRead::Failed) {
            return Verdict::default();
        }
        let updated = marker.exists()
            && if modern { self.update_from(read, postmaster) } else { self.read_recovery_conf() };
        if !updated {
            return Verdict::RESTART;
        }
        let wanted = self.build_recovery_params(upstream, facts);
        let own_files =
            [path_text(&self.setup.postgresql_conf), path_text(&self.data_file("postgresql.auto.conf"))];
        let mut check_facts = CheckFacts {
            major_version: self.major_version,
            starting: facts.starting,
            force_reload: modern && !facts.callbacks_called && !facts.starting,
            receiver,
            own_files: own_files.each_ref().map(String::as_str),
            read_passfile: &|path| std::fs::read_to_string(path).ok(),
            passfile_found: None,
        };
        let mut none = CurrentRecovery::new();
        let current = self.current_recovery.as_mut().unwrap_or(&mut none);
        let verdict = check(current, &wanted, &mut check_facts);
        if let Some(passfile) = check_facts.passfile_found {
            self.seen.passfile_written(passfile);
        }
        verdict
    }

    /// Takes over rows of pg_settings. `false` calls for a restart.
    fn update_from(&mut self, read: SettingsRead, postmaster: Option<f64>) -> bool {
        let now = self.seen_now(postmaster);
        match read {
            SettingsRead::NotRead => true,
            SettingsRead::Rows(rows) => match from_settings(&rows) {
                Some(current) => {
                    self.seen = now;
                    self.current_recovery = Some(current);
                    true
                }
                None => false,
            },
            SettingsRead::Failed => false,
        }
    }

    /// Reads recovery.conf if it changed. `false` calls for a restart.
    fn read_recovery_conf(&mut self) -> bool {
        let path = self.data_file("recovery.conf");
        let now = mtime(&path);
        if now == self.seen.recovery_conf && !self.seen.passfile_changed() {
            return true;
        }
        let text = match std::fs::read(&path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            // What was read before stays; it is read again with the next look.
            Err(e) => {
                tracing::error!(target: "patroni.postgresql.config", "Failed to read {}: {e}", path.display());
                return self.current_recovery.is_some();
            }
        };
        let Some(current) = from_recovery_conf(&text, self.major_version) else {
            return false;
        };
        self.seen.recovery_conf = now;
        self.current_recovery = Some(current);
        true
    }

    /// Arguments of the query for [`ConfigHandler::load_current_server_parameters`]
    /// (2-06).
    pub fn current_parameters_query(&self) -> CurrentParametersQuery {
        let computed = CONTROLLED.iter().filter(|c| c.check == Check::Computed);
        CurrentParametersQuery {
            sourcefile: path_text(&self.setup.postgresql_conf),
            auto_conf: path_text(&self.data_file("postgresql.auto.conf")),
            recovery: GucTable::builtin().recovery_names().into_iter().map(str::to_owned).collect(),
            names: CONTROLLED.iter().map(|c| c.name.to_owned()).collect(),
            exclude: computed.map(|c| c.name.to_owned()).collect(),
        }
    }

    /// Takes over the parameters of a server that was running before us: names
    /// and `current_setting` values. Those for recovery become the recovery
    /// parameters of a standby (12 and later), so that the next write keeps them.
    pub fn load_current_server_parameters(&mut self, rows: Vec<(String, String)>, primary: bool) {
        let mut params: Params = rows.into_iter().map(|(name, value)| (name, value.into())).collect();
        let mut recovery = params.clone();
        recovery.retain(|name, _| GucTable::builtin().is_recovery(name));
        params.retain(|name, _| !GucTable::builtin().is_recovery(name));
        if !primary && self.major_version.at_least(PgVersion::V12) {
            let conninfo = recovery.remove("primary_conninfo").unwrap_or_default();
            let conninfo = parse_dsn(conninfo.as_str().unwrap_or_default()).unwrap_or_default();
            recovery.set("primary_conninfo", conninfo.into_iter().collect::<Value>());
            self.recovery_params = recovery;
        }
        for control in CONTROLLED.iter().filter(|c| c.check == Check::Computed) {
            if let Some(value) = self.server_parameters.get(control.name) {
                params.set(control.name, value.clone());
            }
        }
        self.server_parameters = params;
    }
}
