//! Start, stop, restart (surface-ha-pg 9.2, 10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use patroni_core::ha::{PgState, Role};
use patroni_postgres::files::{command_line, PendingRestart};
use patroni_postgres::process::callbacks::CallbackAction;
use patroni_postgres::process::evidence::{self, End, Place};
use patroni_postgres::process::fence::{fence, Fenced};
use patroni_postgres::process::ready::{PingTarget, Ready};
use patroni_postgres::process::start::{launch, wait_for_startup, StartCommand, Startup};
use patroni_postgres::process::stop::{stop, StopEvent, StopRequest, Stopped};
use patroni_postgres::process::{blocking, hooks, postmaster, probe, Postmaster};
use pyfmt::Value;
use tokio::sync::mpsc;

use super::{locked, Instance, Pending};
use crate::systemd;

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
    /// The live postmaster, if there is one. One that was seen and whose end nobody can prove counts as live. Where it has
    /// ended by itself, what it has left behind is ended here; until that is proven, keeper and guardian hear nothing of
    /// its end.
    pub async fn postmaster(&self) -> Option<Postmaster> {
        let known = locked(&self.believed).postmaster;
        if let Some(known) = known.filter(Postmaster::is_running) {
            return Some(known);
        }
        let found = match Postmaster::find(&self.data_dir).await {
            Ok(found) => found,
            Err(e) => {
                tracing::debug!(target: "patroni.postgresql.postmaster", "Nobody can tell whether PostgreSQL runs: {e}");
                return None;
            }
        };
        locked(&self.believed).start_time = None;
        match found {
            Some(server) => self.note_postmaster(server, self.place_now().await.ok().flatten()),
            None => {
                self.forget_available_gucs().await;
                if let Some(ended) = known {
                    self.end_remains(Some(ended)).await;
                }
            }
        }
        found
    }

    /// The data directory as it is; None: there is none, for certain.
    async fn place_now(&self) -> std::io::Result<Option<Place>> {
        let dir = self.data_dir.clone();
        let look = move || match Place::of(&dir) {
            Ok(place) => Ok(Some(place)),
            Err(e) if evidence::is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        };
        blocking::run(blocking::FILE_DEADLINE, look).await
    }

    /// Proves that nothing is left of a server whose postmaster has ended, by ending it. Only then is that one forgotten.
    async fn end_remains(&self, ended: Option<Postmaster>) -> bool {
        let known = locked(&self.believed).place;
        let place = match known {
            Some(place) => Ok(Some(place)),
            None => self.place_now().await,
        };
        let proven = match place {
            Ok(Some(place)) => {
                let look = move || Ok(evidence::end_remains(&place, evidence::KILL_PATIENCE, false));
                matches!(blocking::run(blocking::FILE_DEADLINE, look).await, Ok(End::Proven(_)))
            }
            Ok(None) => true,
            Err(_) => false,
        };
        if proven {
            self.forget_postmaster(ended);
        }
        proven
    }

    /// Nothing of the server that ran here is left: proven, or made so. What gives up the leader lock asks this last
    /// (docs/safety.md, "What gives up the lock").
    pub async fn is_proven_gone(&self) -> bool {
        if self.postmaster().await.is_some() {
            return false;
        }
        let known = locked(&self.believed).postmaster;
        self.end_remains(known).await
    }

    fn note_postmaster(&self, postmaster: Postmaster, place: Option<Place>) {
        evidence::hold(&postmaster.process);
        {
            let mut believed = locked(&self.believed);
            believed.postmaster = Some(postmaster);
            believed.place = place;
        }
        let process = Some(postmaster.process).filter(|_| !postmaster.single_user);
        let other = self.guard.set_postmaster(process, place);
        if other {
            self.writes.store(false, Ordering::SeqCst);
        }
        if let Some(tell) = self.on_postmaster.get().filter(|_| other && process.is_some()) {
            tell();
        }
    }

    /// Its end is proven. Another one may have been started since.
    fn forget_postmaster(&self, ended: Option<Postmaster>) {
        let mut believed = locked(&self.believed);
        if believed.postmaster == ended {
            (believed.postmaster, believed.place) = (None, None);
            self.writes.store(false, Ordering::SeqCst);
            self.guard.set_postmaster(None, None);
        }
    }

    /// The postmaster last seen, for the fence: no file is read for it. It may have ended without a proof that nothing
    /// of it is left.
    pub fn known_postmaster(&self) -> Option<Postmaster> {
        locked(&self.believed).postmaster
    }

    /// Stops the postmaster last seen, and what is left of it: the lock keeper's way out. No memory of the
    /// job is asked.
    pub fn fence(&self) -> Fenced {
        let (server, place) = {
            let believed = locked(&self.believed);
            (believed.postmaster, believed.place)
        };
        server.map_or(Fenced::Nothing, |server| fence(&server.process, place.as_ref()))
    }

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
        let command = StartCommand {
            data_dir: self.data_dir.clone(),
            config_file: self.config().postgresql_conf().to_owned(),
            options,
        };
        // Before the launch: the fence is to know of the server from its first moment.
        let place = self.place_now().await.ok().flatten();
        let Ok(postmaster) = launch(&self.bin, &command).await else {
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
        let (own, mut reached) = mpsc::unbounded_channel();
        let server = self.postmaster().await;
        let pass_on = |event| match event {
            StopEvent::Quiet => self.note_quiet(server),
            event => drop(events.send(event)),
        };
        let stop = self.do_stop(how, &own);
        tokio::pin!(stop);
        let (ok, signalled) = loop {
            tokio::select! {
                biased;
                Some(event) = reached.recv() => pass_on(event),
                done = &mut stop => break done,
            }
        };
        while let Ok(event) = reached.try_recv() {
            pass_on(event);
        }
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

    /// No client is left, and none is let in: whatever the stop still does (the shutdown checkpoint, the archive,
    /// replicas that catch up) is not to be broken off when the lease ends.
    fn note_quiet(&self, server: Option<Postmaster>) {
        *locked(&self.quiet) = server.map(|s| s.process);
        if let Some(tell) = self.on_postmaster.get() {
            tell();
        }
    }

    /// Has the stop of the postmaster that is known come so far that nobody can write any more?
    pub fn is_quiet(&self) -> bool {
        let known = self.known_postmaster().map(|p| p.process);
        known.is_some() && known == *locked(&self.quiet)
    }

    async fn do_stop(&self, how: &StopHow, events: &mpsc::UnboundedSender<StopEvent>) -> (bool, bool) {
        let Some(server) = self.postmaster().await else {
            if !self.is_proven_gone().await {
                return (false, false);
            }
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
            // One that was started by others may have told systemd in our name that we stop.
            begun: || systemd::notify("READY=1"),
        };
        match stop(Some(server), &request, events).await {
            Stopped::NotRunning => (self.is_proven_gone().await, false),
            Stopped::Stopped { signalled } => (self.is_proven_gone().await, signalled),
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
