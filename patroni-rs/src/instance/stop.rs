//! Stop and restart (surface-ha-pg 9.2, 11).

use std::time::Duration;

use patroni_core::ha::{Callback, PgState, Role, StopMode};
use patroni_core::mutex::locked;
use patroni_postgres::process::stop::{stop, StopEvent, StopRequest, Stopped};
use patroni_postgres::process::{hooks, Postmaster};
use pyfmt::Value;
use tokio::sync::mpsc;

use super::{Instance, Pending, Started};
use crate::systemd;

/// How a stop is to be made.
#[derive(Debug, Clone, Default)]
pub struct StopHow {
    /// SIGQUIT instead of SIGINT.
    pub immediate: bool,
    /// A checkpoint before it.
    pub checkpoint: bool,
    /// No callbacks and no states: part of a restart.
    pub quiet: bool,
    /// No callback: the caller fires it in the role that comes of it.
    pub no_callback: bool,
    /// Tell when the shutdown checkpoint is there.
    pub early: bool,
    /// Those that have to know are told first, and have that long: a primary with the lock goes in order.
    pub announce: Option<Duration>,
    /// Tell when no client can commit any more.
    pub safe_point: bool,
    /// Then harder; None: wait.
    pub timeout: Option<Duration>,
}

/// How a restart is to be made.
#[derive(Debug, Clone, Default)]
pub struct RestartHow {
    /// The start counts as failed then; None: wait.
    pub timeout: Option<Duration>,
    /// No callback of the restart: the role changes with it.
    pub quiet: bool,
    /// The role to start in; None: by what the data directory says.
    pub role: Option<Role>,
    /// As in [`StopHow`].
    pub announce: Option<Duration>,
}

impl Instance {
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
                self.call(Callback::OnStop);
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
        if let (Some(limit), Some(tell)) = (how.announce, self.on_leaving.get()) {
            tokio::select! {
                () = tell(limit) => {}
                // A cancelled restart has no time for it.
                _ = self.cancel.sleep(limit) => {}
            }
        }
        let target = self.ping_target();
        let request = StopRequest {
            mode: if how.immediate { StopMode::Immediate } else { StopMode::Fast },
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

    /// Restart in place (11-06). Where it `may_write` no longer (without the lock, and not in pause), what would come up as
    /// a primary stays down: the next cycle brings it up as what it may be.
    pub async fn restart(&self, how: RestartHow, may_write: impl Fn() -> bool) -> Started {
        let RestartHow { timeout, quiet, role, announce } = how;
        self.set_state(PgState::Restarting);
        if !quiet {
            locked(&self.local_state).pending_callback = Some(Pending::Call(Callback::OnRestart));
        }
        let how = StopHow { checkpoint: true, quiet: true, announce, ..StopHow::default() };
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
}
