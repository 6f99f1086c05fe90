//! Start (surface-ha-pg 10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use patroni_core::ha::{Callback, PgState, Role};
use patroni_core::mutex::locked;
use patroni_postgres::files::{command_line, PendingRestart};
use patroni_postgres::process::probe;
use patroni_postgres::process::ready::{PingTarget, Ready};
use patroni_postgres::process::start::{launch, wait_for_startup, StartCommand, Startup};
use pyfmt::Value;

use super::{Instance, Pending};

/// How a start ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It accepts connections.
    Running,
    /// It does not, and will not.
    Failed,
    /// It may yet.
    Unknown,
}

/// Clears a flag, however its time ends.
struct ResetOnDrop<'a>(&'a AtomicBool);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Instance {
    pub(super) fn ping_target(&self) -> PingTarget {
        let config = self.config();
        let local = &config.addresses().local;
        PingTarget {
            host: local.get("host").map(Value::py_str),
            port: local.get("port").and_then(|p| p.py_str().parse().ok()).unwrap_or(5432),
            user: local.get("user").map(Value::py_str),
            dbname: config.setup().database.clone(),
            data_dir: self.data_dir.clone(),
        }
    }

    /// Takes note of the version of a data directory that may be new.
    pub(super) async fn learn_major_version(&self) -> bool {
        let major = probe::data_dir_version(&self.data_dir).await.unwrap_or_default();
        if !major.is_known() {
            return false;
        }
        if locked(&self.local_state).major_version != major {
            locked(&self.local_state).major_version = major;
            let set = self.with_config(move |c, facts| c.set_major_version(major, facts)).await;
            if !matches!(set, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    /// What the data directory would run as.
    pub(super) fn role_by_data_directory(&self) -> Role {
        if self.config().recovery_conf_exists() {
            Role::Replica
        } else {
            Role::Primary
        }
    }

    /// Starts PostgreSQL as `role` (by what the data directory says when None),
    /// and waits until it accepts connections.
    pub async fn start(&self, timeout: Option<Duration>, quiet: bool, role: Option<Role>) -> Started {
        self.starting.store(true, Ordering::SeqCst);
        let _over = ResetOnDrop(&self.starting);
        self.sql.close().await;
        let custom = locked(&self.local_state).custom_bootstrap;
        let state = if custom { PgState::BootstrapStarting } else { PgState::Starting };
        if self.postmaster().await.is_some() {
            tracing::error!(
                target: "patroni.postgresql", "Cannot start PostgreSQL because one is already running."
            );
            self.set_state(state);
            return Started::Running;
        }
        if !self.is_proven_gone().await {
            tracing::error!(
                target: "patroni.postgresql",
                "Cannot start PostgreSQL because processes of one that ran before are left, or nobody can tell"
            );
            self.set_state(PgState::StartFailed);
            return Started::Failed;
        }
        // Also an operator's restart ends here.
        let why = match self.half_made().await {
            _ if self.is_worked_on().await => Some(
                "what an earlier daemon has left at work on the data directory cannot be ended".to_owned(),
            ),
            Ok(None) => None,
            Ok(Some(work)) => Some(format!(
                "a {} was broken off, and the data directory needs to be reinitialized",
                work.as_str()
            )),
            Err(e) => Some(format!("nobody knows whether the data directory is whole: {e}")),
        };
        if let Some(why) = why {
            tracing::error!(target: "patroni.postgresql", "Cannot start PostgreSQL: {why}");
            self.set_state(PgState::StartFailed);
            return Started::Failed;
        }
        if !quiet {
            locked(&self.local_state).pending_callback = Some(Pending::Call(Callback::OnStart));
        }
        self.set_role(role.unwrap_or_else(|| self.role_by_data_directory()));
        self.set_state(state);
        self.set_pending_restart(PendingRestart::default());
        if !self.learn_major_version().await {
            return Started::Unknown;
        }
        let options = match self.prepare_start().await {
            Ok(options) => options,
            Err(e) => {
                tracing::error!(target: "patroni.postgresql", "Can not prepare the start: {e}");
                self.set_state(PgState::StartFailed);
                return Started::Unknown;
            }
        };
        if self.cancel.is_cancelled() {
            tracing::info!(target: "patroni.postgresql", "PostgreSQL start cancelled.");
            return Started::Failed;
        }
        let command = StartCommand {
            data_dir: self.data_dir.clone(),
            config_file: self.config().postgresql_conf().to_owned(),
            options,
        };
        // Before the launch: the fence is to know of the server from its first moment.
        let place = self.place_now().await.ok().flatten();
        let Ok(postmaster) = launch(&self.bin, &command, &self.cancel).await else {
            self.set_state(PgState::StartFailed);
            return Started::Failed;
        };
        self.note_postmaster(postmaster, place);
        // No time at all is no limit for a start that somebody wants.
        let wait = timeout.filter(|t| !t.is_zero()).unwrap_or_else(|| self.pg_ctl_timeout());
        match wait_for_startup(&self.ping_target(), &postmaster, wait, &self.cancel).await {
            Startup::Running => {
                self.startup_finished(true).await;
                Started::Running
            }
            Startup::Failed => {
                self.set_state(PgState::StartFailed);
                Started::Failed
            }
            Startup::NoPort => Started::Failed,
            Startup::StillStarting | Startup::Cancelled if timeout.is_some() => Started::Failed,
            Startup::StillStarting | Startup::Cancelled => Started::Unknown,
        }
    }

    fn pg_ctl_timeout(&self) -> Duration {
        let seconds = self.config().get("pg_ctl_timeout").and_then(|v| v.py_str().parse::<f64>().ok());
        Duration::from_secs_f64(seconds.filter(|s| *s > 0.0 && *s < 1e9).unwrap_or(60.0))
    }

    /// Writes everything that the postmaster reads, and gives its options.
    async fn prepare_start(&self) -> Result<Vec<String>, String> {
        let control = self.control.read().await.map_err(|e| e.to_string())?;
        let prepared = self
            .with_config(move |config, facts| {
                let (params, pending) =
                    config.effective_configuration(|name| control.get(name).map(str::to_owned), facts);
                config.check_directories(false)?;
                config.write_postgresql_conf(Some(&params), facts)?;
                config.resolve_connection_addresses();
                config.replace_pg_hba(facts)?;
                config.replace_pg_ident()?;
                Ok::<_, patroni_postgres::files::FilesError>((command_line(&params), pending))
            })
            .await?;
        let (options, pending) = prepared.map_err(|e| e.to_string())?;
        if let Some(pending) = pending.clone() {
            self.set_pending_restart(pending);
        }
        self.note_start(pending.unwrap_or_default());
        self.refresh_connections();
        Ok(options)
    }

    /// A start has come to its end: states, backups of files, the callback that waits.
    async fn startup_finished(&self, running: bool) {
        self.set_state(if running { PgState::Running } else { PgState::StartFailed });
        self.schedule_slots(running).await;
        let _ = self.with_config(|c, facts| c.save_configuration_files(true, facts)).await;
        if !running {
            return;
        }
        let pending = locked(&self.local_state).pending_callback.take();
        match pending.unwrap_or(Pending::Call(Callback::OnStart)) {
            Pending::Call(action) => self.call(action),
            Pending::Nothing => {}
        }
    }

    /// For a server that went on starting after its job had given up waiting. While the job waits this is the job's:
    /// a cycle would find no postmaster before the launch, and fire the callback a second time after the start.
    pub async fn check_startup(&self) {
        let waited_for = || self.starting.load(Ordering::SeqCst);
        if waited_for() || !self.state().is_starting() {
            return;
        }
        let ready = self.ping_target().ping().await;
        if waited_for() {
            return;
        }
        match ready {
            Ready::Running => self.startup_finished(true).await,
            Ready::Reject => {}
            Ready::NoResponse => match self.postmaster().await {
                None => self.startup_finished(false).await,
                // It says where it listens when it begins to.
                Some(server) => self.learn_addresses(server).await,
            },
        }
    }

    pub(super) fn suppress_pending_callback(&self) {
        locked(&self.local_state).pending_callback = Some(Pending::Nothing);
    }
}
