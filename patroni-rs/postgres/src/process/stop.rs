//! Stopping the postmaster (surface-ha-pg 9.2): the signal, the points in between
//! that others wait for, the end, and what is done when the end does not come.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::binaries::Binaries;
use super::control::ControlReader;
use super::postmaster::{Postmaster, SignalResult};
use super::ready::PingTarget;
use super::waldump;
use patroni_core::cluster_state::ClusterState;
use patroni_core::ha::StopMode;
use patroni_core::model::ShutdownCheckpoint;

/// Time between two looks at pg_control (only its time stamp unless it changed)
/// and between two probes.
const POLL: Duration = Duration::from_millis(10);
/// Longest wait for the server to begin refusing connections; the steps that
/// follow do not depend on it.
const REFUSE_DEADLINE: Duration = Duration::from_secs(10);
/// How long SIGKILL may take before the stop is reported as failed.
const KILL_DEADLINE: Duration = Duration::from_secs(30);

/// How to stop.
#[derive(Debug, Clone)]
pub struct StopRequest<'a> {
    /// How the postmaster is asked.
    pub mode: StopMode,
    /// Limit for each wait before the next harsher step; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Report [`StopEvent::SafePoint`] (the watchdog needs it).
    pub safe_point: bool,
    /// Report [`StopEvent::ShutDown`] as soon as pg_control says so, normally while
    /// the postmaster still lives (early release of the leader key).
    pub early_release: bool,
    /// PGDATA.
    pub data_dir: &'a Path,
    /// Programs.
    pub bin: &'a Binaries,
    /// pg_control.
    pub control: &'a ControlReader,
    /// Where to see that connections are refused.
    pub target: &'a PingTarget,
    /// Called when they are, or when that has been waited for long enough: the postmaster may have told others
    /// of its end.
    pub begun: fn(),
}

impl StopRequest<'_> {
    fn tell_safe_point(&self, events: &UnboundedSender<StopEvent>) {
        if self.safe_point {
            // A receiver that is gone no longer cares.
            let _ = events.send(StopEvent::SafePoint);
        }
    }
}

/// A point that a stop has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopEvent {
    /// No client can have a commit acknowledged any more.
    SafePoint,
    /// The same, told at every stop, and beside its other steps: nothing waits for it.
    Quiet,
    /// The shutdown checkpoint is written.
    ShutDown(ShutdownCheckpoint),
}

/// How a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing was running.
    NotRunning,
    /// It is stopped. `signalled` is the condition for the callback `on_stop`.
    Stopped {
        /// Was a signal sent (or the process gone when we tried)?
        signalled: bool,
    },
    /// It could not be signalled or killed.
    Failed,
}

/// Stops `postmaster` and reports what happens on the way to `events`. Dropping
/// the future stops the waiting, not the shutdown.
pub async fn stop(
    postmaster: Option<Postmaster>,
    request: &StopRequest<'_>,
    events: &UnboundedSender<StopEvent>,
) -> Stopped {
    let Some(postmaster) = postmaster.filter(Postmaster::is_running) else {
        request.tell_safe_point(events);
        return Stopped::NotRunning;
    };
    match postmaster.signal_stop(request.mode) {
        SignalResult::Refused => return Stopped::Failed,
        SignalResult::Gone => {
            request.tell_safe_point(events);
            return Stopped::Stopped { signalled: true };
        }
        SignalResult::Sent => {}
    }
    let refusing = wait_refusing(&postmaster, request).await;
    (request.begun)();
    let quiet = async {
        if refusing && postmaster.wait_for_user_backends(None).await {
            let _ = events.send(StopEvent::Quiet);
        }
        std::future::pending::<Stopped>().await
    };
    tokio::select! {
        stopped = finish(&postmaster, request, events) => stopped,
        stopped = quiet => stopped,
    }
}

/// From the refusal of connections to the end.
async fn finish(
    postmaster: &Postmaster,
    request: &StopRequest<'_>,
    events: &UnboundedSender<StopEvent>,
) -> Stopped {
    if request.safe_point && postmaster.wait_for_user_backends(request.timeout).await {
        request.tell_safe_point(events);
    }
    let mut patience = request.timeout;
    if request.early_release && request.mode != StopMode::Immediate {
        match wait_shut_down(postmaster, request).await {
            ShutDownWait::ShutDown(locations) => {
                let _ = events.send(StopEvent::ShutDown(locations));
                request.tell_safe_point(events);
            }
            ShutDownWait::TimedOut => patience = Some(Duration::ZERO),
            ShutDownWait::Other => {}
        }
    }
    let gone = postmaster.process.wait_exit_within(patience).await || {
        tracing::warn!(target: "patroni.postgresql", "Timeout during postmaster stop, aborting Postgres.");
        escalate(postmaster, request.mode, patience).await
    };
    if !gone {
        return Stopped::Failed;
    }
    request.tell_safe_point(events);
    Stopped::Stopped { signalled: true }
}

/// Harsher steps: SIGQUIT unless that was the mode, then SIGKILL to everything.
async fn escalate(postmaster: &Postmaster, mode: StopMode, patience: Option<Duration>) -> bool {
    if mode != StopMode::Immediate {
        match postmaster.signal_stop(StopMode::Immediate) {
            SignalResult::Gone => return true,
            _ if postmaster.process.wait_exit_within(patience).await => return true,
            _ => {}
        }
    }
    tracing::warn!(target: "patroni.postgresql", "Sending SIGKILL to Postmaster and its children");
    postmaster.kill(KILL_DEADLINE).await
}

/// Waits until new connections are refused: the shutdown has begun. False: not within the time for it.
async fn wait_refusing(postmaster: &Postmaster, request: &StopRequest<'_>) -> bool {
    let limit = request.timeout.unwrap_or(REFUSE_DEADLINE).min(REFUSE_DEADLINE);
    let refusing = async {
        while !request.target.refuses().await {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        () = refusing => true,
        () = postmaster.process.wait_exit() => true,
        () = tokio::time::sleep(limit) => false,
    }
}

enum ShutDownWait {
    ShutDown(ShutdownCheckpoint),
    TimedOut,
    /// It ended, or was a standby, or the checkpoint could not be read.
    Other,
}

/// Waits for pg_control to say `shut down`.
async fn wait_shut_down(postmaster: &Postmaster, request: &StopRequest<'_>) -> ShutDownWait {
    let deadline = request.timeout.map(|t| Instant::now() + t);
    loop {
        // One look more after the end: it may come within one interval.
        let running = postmaster.is_running();
        if let Ok(data) = request.control.read().await {
            match data.state() {
                ClusterState::ShutDown => {
                    let found = waldump::checkpoint_locations(request.bin, request.data_dir, &data).await;
                    return found.map_or(ShutDownWait::Other, ShutDownWait::ShutDown);
                }
                ClusterState::ShutDownInRecovery => return ShutDownWait::Other,
                _ => {}
            }
        }
        if !running {
            return ShutDownWait::Other;
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            return ShutDownWait::TimedOut;
        }
        tokio::time::sleep(POLL).await;
    }
}
