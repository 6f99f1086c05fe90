//! A new cluster, a new replica (surface-ha-pg 12, 13).

use std::ffi::OsString;

use patroni_core::citus::{Node, NodeRole};
use patroni_core::ha::{PgState, Source, Unfinished};
use patroni_core::mutex::locked;
use patroni_postgres::files::{format_dsn, lines_of};
use patroni_postgres::process::initdb::{initdb, Superuser};
use patroni_postgres::process::progress::CopyProgress;
use patroni_postgres::process::replica::{self, CreateReplica, Created};
use patroni_postgres::process::{custom_bootstrap, datadir, unfinished};
use patroni_postgres::sql::{self, ConnParams};
use pyfmt::Value;

use super::start::Started;
use super::{Instance, RestartHow};

impl Instance {
    fn text_of(section: Option<&Value>, key: &str) -> Option<String> {
        section.and_then(|s| s.get(key)).filter(|v| !v.is_null()).map(Value::py_str)
    }

    /// Makes a new cluster by the `bootstrap` section, and starts it.
    pub async fn bootstrap(&self, bootstrap: &Value) -> bool {
        // Before anything is made: with initdb's own lines everybody would be let in.
        let lines = match lines_of("bootstrap.pg_hba", bootstrap.get("pg_hba")) {
            Ok(lines) => lines.unwrap_or_default(),
            Err(e) => {
                tracing::error!(target: "patroni.postgresql.bootstrap", "{e}");
                return false;
            }
        };
        let made = match custom_bootstrap::method(bootstrap) {
            Some((_, section)) => self.custom_bootstrap(section).await,
            None => self.initdb(bootstrap.get("initdb").unwrap_or(&Value::Null)).await,
        };
        if !made || !self.learn_major_version().await {
            return false;
        }
        let saved = self
            .with_config(move |c, facts| {
                let appended = c.append_pg_hba(&lines);
                c.save_configuration_files(false, facts);
                appended
            })
            .await;
        if let Err(e) = saved.and_then(|s| s.map_err(|e| e.to_string())) {
            tracing::error!(target: "patroni.postgresql.bootstrap", "Can not write pg_hba.conf: {e}");
            return false;
        }
        self.start(None, false, None).await == Started::Running
    }

    async fn initdb(&self, options: &Value) -> bool {
        self.set_state(PgState::InitDb);
        let superuser = {
            let config = self.config();
            let section = config.superuser();
            Superuser {
                username: Self::text_of(section, "username"),
                password: Self::text_of(section, "password"),
            }
        };
        let _at_work = self.at_work().await;
        let mark = unfinished::begin(&self.data_dir, Unfinished::Bootstrap, None).await;
        match initdb(&self.bin, &self.cancel, &self.data_dir, options, &superuser).await {
            Ok(()) => {
                mark.done().await;
                true
            }
            Err(e) => {
                mark.broken_off().await;
                tracing::error!(target: "patroni.postgresql.bootstrap", "{e}");
                self.set_state(PgState::InitDbFailed);
                false
            }
        }
    }

    async fn custom_bootstrap(&self, section: &Value) -> bool {
        {
            let mut local_state = locked(&self.local_state);
            local_state.custom_bootstrap = true;
            local_state.keep_existing_recovery_conf =
                section.get("keep_existing_recovery_conf").is_some_and(Value::truthy);
        }
        self.set_state(PgState::CustomBootstrap);
        {
            let _at_work = self.at_work().await;
            let mark = unfinished::begin(&self.data_dir, Unfinished::Bootstrap, None).await;
            if !custom_bootstrap::run(&self.bin, &self.cancel, section, &self.scope, &self.data_dir).await {
                mark.broken_off().await;
                self.set_state(PgState::CustomBootstrapFailed);
                return false;
            }
            mark.done().await;
        }
        self.post_restore().await;
        let recovery = section.get("recovery_conf").cloned();
        let keep = section.get("keep_existing_recovery_conf").is_some_and(Value::truthy);
        let done = self
            .with_config(move |c, facts| match recovery {
                Some(recovery) => {
                    c.write_recovery_conf(patroni_postgres::files::Params::from_value(Some(&recovery)), facts)
                }
                None if keep => Ok(()),
                None => c.remove_recovery_conf(),
            })
            .await;
        matches!(done, Ok(Ok(())))
    }

    /// After any copy: configuration files that the copy lacks come back from
    /// their backups, and an old trigger file must not promote.
    async fn post_restore(&self) {
        self.learn_major_version().await;
        let _ = self
            .with_config(|c, _| {
                c.restore_configuration_files();
                c.remove_trigger_file();
            })
            .await;
    }

    /// Users, and the user's script (12-08 to 12-11).
    pub async fn post_bootstrap(&self, bootstrap: &Value) -> bool {
        if let Err(e) = self.create_superuser().await {
            tracing::error!(target: "patroni.postgresql.bootstrap", "post_bootstrap: {e}");
            return false;
        }
        if !self.post_bootstrap_script(bootstrap).await {
            return false;
        }
        if let Err(e) = self.create_users().await {
            tracing::error!(target: "patroni.postgresql.bootstrap", "post_bootstrap: {e}");
            return false;
        }
        if bootstrap.get("users").is_some_and(Value::truthy) {
            tracing::error!(
                target: "patroni.postgresql.bootstrap",
                "User creation is not be supported starting from v4.0.0. Please use \"bootstrap.post_bootstrap\" \
                 script to create users."
            );
        }
        if locked(&self.local_state).custom_bootstrap {
            return self.end_custom_bootstrap().await;
        }
        if let Err(e) = self.bootstrap_citus().await {
            tracing::error!(target: "patroni.postgresql.bootstrap", "post_bootstrap: {e}");
            return false;
        }
        true
    }

    /// The database and the extension of Citus, and how its nodes reach each other: with the superuser's credentials.
    async fn bootstrap_citus(&self) -> Result<(), String> {
        let Some(citus) = self.citus() else { return Ok(()) };
        let (authinfo, url) = {
            let config = self.config();
            let superuser = config.superuser();
            let given = ["password", "sslcert", "sslkey"].into_iter();
            let given: Value = given.filter_map(|key| Some((key, superuser?.get(key)?.clone()))).collect();
            (format_dsn(&given, self.major_version()), config.addresses().connection_string.clone())
        };
        let own = Node::of_url(&url, NodeRole::Primary).filter(|_| citus.is_coordinator());
        let authinfo = Some(authinfo.as_str()).filter(|text| !text.is_empty());
        let params = self.sql.pool.params();
        sql::bootstrap_citus(&params, &citus.database, authinfo, own.as_ref())
            .await
            .map_err(|e| e.to_string())
    }

    async fn post_bootstrap_script(&self, bootstrap: &Value) -> bool {
        let Some(script) = custom_bootstrap::post_bootstrap_script(bootstrap) else { return true };
        let local = self.config().addresses().local.clone();
        let mut with_host: Value = [("host", "localhost")].into_iter().collect();
        for (key, value) in local.as_map().into_iter().flatten() {
            with_host.set(&key.py_str(), value.clone());
        }
        let env = self.passfile_env(with_host).await;
        let mut shown = local;
        shown.remove("password");
        let dsn = format_dsn(&shown, self.major_version());
        custom_bootstrap::post_bootstrap(&self.bin, &self.cancel, script, &dsn, &env).await
    }

    /// The trust that a custom bootstrap had opened is closed again (12-07).
    async fn end_custom_bootstrap(&self) -> bool {
        locked(&self.local_state).custom_bootstrap = false;
        let restart = self
            .with_config(|c, facts| {
                if !c.get("pg_hba").is_some_and(Value::truthy) {
                    c.restore_pg_hba();
                }
                c.write_postgresql_conf(None, facts)?;
                c.replace_pg_ident()?;
                c.remove_recovery_conf()?;
                if c.user_hba_file().is_some() {
                    return Ok(true);
                }
                c.replace_pg_hba(facts)?;
                Ok::<bool, patroni_postgres::files::FilesError>(false)
            })
            .await;
        let restart = match restart.and_then(|r| r.map_err(|e| e.to_string())) {
            Ok(restart) => restart || !locked(&self.local_state).pending_restart.is_empty(),
            Err(e) => {
                tracing::error!(target: "patroni.postgresql.bootstrap", "post_bootstrap: {e}");
                return false;
            }
        };
        if restart {
            return self.restart(RestartHow::default(), || true).await == Started::Running;
        }
        self.reload_server(false).await;
        // New connections must use the passwords that were just set.
        self.sql.close().await;
        true
    }

    /// `PGPASSFILE` for a connection, when it has a password.
    pub(super) async fn passfile_env(&self, conninfo: Value) -> Vec<(OsString, OsString)> {
        let written = self
            .with_config(move |c, _| c.write_pgpass(&conninfo).map(|p| p.map(|p| p.as_os_str().to_owned())))
            .await;
        match written {
            Ok(Ok(Some(path))) => vec![("PGPASSFILE".into(), path)],
            Ok(Ok(None)) => Vec::new(),
            Ok(Err(e)) => {
                tracing::error!(target: "patroni.postgresql", "Can not write the password file: {e}");
                Vec::new()
            }
            Err(e) => {
                tracing::error!(target: "patroni.postgresql", "Can not write the password file: {e}");
                Vec::new()
            }
        }
    }

    /// The connection string for a copy of `source` (without its password), and
    /// the environment that has it.
    pub(super) async fn replication_access(&self, source: &Source) -> replica::Source {
        let auth = self.config().replication().cloned();
        let kwargs: Value = source.member.conn_kwargs(auth.as_ref()).into_iter().collect();
        let env = self.passfile_env(kwargs.clone()).await;
        let params = ConnParams::from_value(&kwargs);
        let mut shown = kwargs;
        shown.remove("password");
        replica::Source { dsn: format_dsn(&shown, self.major_version()), env, params }
    }

    /// Copies `source`, or uses a method that needs none.
    pub async fn create_replica(&self, source: Option<&Source>, basebackup_only: bool) -> Created {
        self.set_state(PgState::CreatingReplica);
        self.schedule_slots(true).await;
        let config = self.config().section().clone();
        let methods: Vec<String> = match source.filter(|s| s.remote) {
            Some(remote) => {
                let listed = remote.member.data.get("create_replica_methods").and_then(Value::as_list);
                listed.unwrap_or_default().iter().map(Value::py_str).collect()
            }
            None => replica::configured_methods(&config),
        };
        let access = match source.filter(|s| s.member.conn_url().is_some()) {
            Some(source) => Some(self.replication_access(source).await),
            None => None,
        };
        let version = locked(&self.local_state).binary_version;
        let create = CreateReplica {
            bin: &self.bin,
            cancel: &self.cancel,
            data_dir: &self.data_dir,
            scope: &self.scope,
            methods: &methods,
            basebackup_only,
            config: &config,
            source: access,
            version,
            progress: &self.progress,
        };
        // What a method of the user's own writes over is not looked at again.
        let created = if self.is_proven_gone().await {
            let _at_work = self.at_work().await;
            create.run().await
        } else {
            tracing::error!(
                target: "patroni.postgresql",
                "Can not create a replica because processes of PostgreSQL are left, or nobody can tell"
            );
            Created::Kept
        };
        match created {
            Created::Done => self.post_restore().await,
            Created::Failed | Created::Kept => self.set_state(PgState::Stopped),
        }
        created
    }

    /// How far pg_basebackup has come, as the REST API shows it; Null when none runs.
    pub fn copy_progress(&self) -> Value {
        let Some(progress) = *self.progress.borrow() else { return Value::Null };
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let CopyProgress { done, total, rate } = progress;
        [("bytes_done", done), ("bytes_total", total), ("bytes_per_second", rate)]
            .into_iter()
            .map(|(key, bytes)| (key, number(bytes)))
            .collect()
    }

    /// Removes a data directory that is known to be of no use.
    pub async fn remove_data_directory(&self) {
        if let Err(e) = datadir::remove(&self.data_dir).await {
            tracing::error!(
                target: "patroni.postgresql", "Could not remove data directory {}: {e}", self.data_dir.display()
            );
        }
    }

    /// Puts the data directory aside (12-12).
    pub async fn quarantine_data_dir(&self) -> bool {
        let moved = datadir::set_aside(&self.data_dir).await;
        if let Err(e) = &moved {
            tracing::error!(
                target: "patroni.postgresql", "Could not rename data directory {}: {e}", self.data_dir.display()
            );
        }
        moved.is_ok()
    }
}
