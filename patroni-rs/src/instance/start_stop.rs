//! Start, stop, restart (surface-ha-pg 9.2, 10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use patroni_core::ha::{PgState, Role};
use patroni_postgres::files::{command_line, PendingRestart};
use patroni_postgres::process::callbacks::CallbackAction;
use patroni_postgres::process::ready::{PingTarget, Ready};
use patroni_postgres::process::start::{launch, wait_for_startup, StartCommand, Startup};
use patroni_postgres::process::stop::{stop, StopEvent, StopRequest, Stopped};
use patroni_postgres::process::{hooks, postmaster, probe, Postmaster};
use pyfmt::Value;
use tokio::sync::mpsc;

use super::{locked, Instance, Pending};

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

/// How a stop is to be made.
#[derive(Debug, Clone, Default)]
pub struct StopHow {
    /// SIGQUIT instead of SIGINT.
    pub immediate: bool,
    /// A checkpoint before it.
    pub checkpoint: bool,
    /// No callbacks and no states: part of a restart.
    pub quiet: bool,
    /// No callback: whoever asked for the stop fires it in the role that comes of it.
    pub no_callback: bool,
    /// Tell when the shutdown checkpoint is there.
    pub early: bool,
    /// Tell when no client can commit any more.
    pub safe_point: bool,
    /// Then harder; None: wait.
    pub timeout: Option<Duration>,
}

/// Clears a flag, however its time ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Instance {
    /// The live postmaster, if there is one.
    pub async fn postmaster(&self) -> Option<Postmaster> {
        if let Some(known) = locked(&self.believed).postmaster.filter(Postmaster::is_running) {
            return Some(known);
        }
        let found = Postmaster::find(&self.data_dir).await.ok().flatten();
        locked(&self.believed).start_time = None;
        if found.is_none() {
            self.forget_available_gucs().await;
        }
        self.note_postmaster(found);
        found
    }

    fn note_postmaster(&self, postmaster: Option<Postmaster>) {
        locked(&self.believed).postmaster = postmaster;
        let process = postmaster.filter(|p| !p.single_user).map(|p| p.process);
        let other = self.guard.set_postmaster(process);
        if let Some(tell) = self.on_postmaster.get().filter(|_| other && process.is_some()) {
            tell();
        }
    }

    /// Pid of the postmaster last seen, for the fence: no file is read for it.
    pub fn known_postmaster(&self) -> Option<Postmaster> {
        locked(&self.believed).postmaster
    }

    pub(super) fn ping_target(&self) -> PingTarget {
        let config = locked(&self.config);
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
        let major = probe::data_dir_version(&self.data_dir).await.unwrap_or(0);
        if major == 0 {
            return false;
        }
        if locked(&self.believed).major_version != major {
            locked(&self.believed).major_version = major;
            let set = self.with_config(move |c, facts| c.set_major_version(major, facts)).await;
            if !matches!(set, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    /// What the data directory would run as.
    pub(super) fn role_by_data_directory(&self) -> Role {
        if locked(&self.config).recovery_conf_exists() {
            Role::Replica
        } else {
            Role::Primary
        }
    }

    /// Starts PostgreSQL as `role` (by what the data directory says when None),
    /// and waits until it accepts connections.
    pub async fn start(&self, timeout: Option<Duration>, quiet: bool, role: Option<Role>) -> Started {
        self.starting.store(true, Ordering::SeqCst);
        let _over = Over(&self.starting);
        self.sql.close().await;
        let custom = locked(&self.believed).custom_bootstrap;
        let state = if custom { PgState::BootstrapStarting } else { PgState::Starting };
        if self.postmaster().await.is_some() {
            tracing::error!(
                target: "patroni.postgresql", "Cannot start PostgreSQL because one is already running."
            );
            self.set_state(state);
            return Started::Running;
        }
        // Also an operator's restart ends here.
        let why = match self.half_made().await {
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
            locked(&self.believed).pending_callback = Some(Pending::Call(CallbackAction::OnStart));
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
        let krb = locked(&self.config).krbsrvname().map(|k| ("PGKRBSRVNAME".into(), k.into()));
        let command = StartCommand {
            data_dir: self.data_dir.clone(),
            config_file: locked(&self.config).postgresql_conf().to_owned(),
            options,
            env: krb.into_iter().collect(),
        };
        let Ok(postmaster) = launch(&self.bin, &command).await else {
            self.set_state(PgState::StartFailed);
            return Started::Failed;
        };
        self.note_postmaster(Some(postmaster));
        let wait = timeout.unwrap_or_else(|| self.pg_ctl_timeout());
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
        let seconds = locked(&self.config).get("pg_ctl_timeout").and_then(|v| v.py_str().parse::<f64>().ok());
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
        if let Some(pending) = pending {
            self.set_pending_restart(pending);
        }
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
        let pending = locked(&self.believed).pending_callback.take();
        match pending.unwrap_or(Pending::Call(CallbackAction::OnStart)) {
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
            Ready::NoResponse => {
                if self.postmaster().await.is_none() {
                    self.startup_finished(false).await;
                }
            }
        }
    }

    /// Stops PostgreSQL. Points on the way are sent to `events`.
    pub async fn stop(&self, how: &StopHow, events: &mpsc::UnboundedSender<StopEvent>) -> bool {
        let (ok, signalled) = self.do_stop(how, events).await;
        if !ok {
            tracing::warn!(target: "patroni.postgresql", "pg_ctl stop failed");
            self.set_state(PgState::StopFailed);
        } else if !how.quiet {
            self.set_state(PgState::Stopped);
            if signalled && !how.no_callback {
                self.call(CallbackAction::OnStop);
            }
        }
        ok
    }

    async fn do_stop(&self, how: &StopHow, events: &mpsc::UnboundedSender<StopEvent>) -> (bool, bool) {
        let Some(server) = self.postmaster().await else {
            if how.safe_point {
                let _ = events.send(StopEvent::SafePoint);
            }
            return (true, false);
        };
        if server.single_user {
            tracing::warn!(
                target: "patroni.postgresql.postmaster",
                "Cannot stop server; single-user server is running (PID: {})", server.process.pid
            );
            return (false, false);
        }
        if how.checkpoint && !self.state().is_starting() {
            self.checkpoint(how.timeout).await;
        }
        // A harder stop over one that goes on: the script has had its turn, and
        // there is no time to lose.
        let again = how.immediate && self.state() == PgState::Stopping;
        if !how.quiet {
            self.set_state(PgState::Stopping);
        }
        if !again {
            let script = self.setting("before_stop").filter(Value::truthy).map(|v| v.py_str());
            hooks::before_stop(&self.bin, &self.cancel, script.as_deref()).await;
        }
        let target = self.ping_target();
        let request = StopRequest {
            mode: if how.immediate { postmaster::StopMode::Immediate } else { postmaster::StopMode::Fast },
            timeout: how.timeout,
            safe_point: how.safe_point,
            early_release: how.early,
            data_dir: &self.data_dir,
            bin: &self.bin,
            control: &self.control,
            target: &target,
        };
        match stop(Some(server), &request, events).await {
            Stopped::NotRunning => (true, false),
            Stopped::Stopped { signalled } => (true, signalled),
            Stopped::Failed => (false, false),
        }
    }

    /// Stop without anybody who listens.
    pub async fn stop_plain(&self, how: StopHow) -> bool {
        let (events, _) = mpsc::unbounded_channel();
        self.stop(&how, &events).await
    }

    /// Restart in place (11-06). Where it `may_write` no longer (without the lock, and not in pause), what would come
    /// up as a primary stays down: the next cycle brings it up as what it may be.
    pub async fn restart(
        &self,
        timeout: Option<Duration>,
        quiet: bool,
        role: Option<Role>,
        may_write: impl Fn() -> bool,
    ) -> Started {
        self.set_state(PgState::Restarting);
        if !quiet {
            locked(&self.believed).pending_callback = Some(Pending::Call(CallbackAction::OnRestart));
        }
        let how = StopHow { checkpoint: true, quiet: true, ..StopHow::default() };
        let started = if !self.stop_plain(how).await {
            Started::Failed
        } else if self.role_by_data_directory() == Role::Primary && !may_write() {
            tracing::warn!(
                target: "patroni.postgresql", "Not starting a primary without the leader lock"
            );
            Started::Failed
        } else {
            self.start(timeout, true, role).await
        };
        if started != Started::Running && !self.state().is_starting() {
            tracing::warn!(target: "patroni.postgresql", "restart failed ('{}')", self.state().as_str());
            self.set_state(PgState::RestartFailed);
        }
        started
    }

    pub(super) fn suppress_pending_callback(&self) {
        locked(&self.believed).pending_callback = Some(Pending::Nothing);
    }
}
