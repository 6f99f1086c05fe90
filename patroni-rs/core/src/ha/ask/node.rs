//! What the daemon itself is asked for, and what is said of the lock's promise.

use std::time::Duration;

use super::super::types::{Job, Mono};

/// The lease holds by consent of all peers (failsafe).
#[derive(Debug, Clone, PartialEq)]
pub struct ExtendLease {
    /// From then on: when the first of them was asked. Each peer counts from when it heard, and one that answers at
    /// once must not take the lock while this node still believes in its own.
    pub sent: Mono,
}

/// Forget the promise of the lock.
#[derive(Debug, Clone, PartialEq)]
pub struct DropLease;

/// Start long work. `Err`: the name of the job that runs already.
#[derive(Debug, Clone, PartialEq)]
pub struct StartJob(pub Job);

/// Cancel it, if it can still be cancelled.
#[derive(Debug, Clone, PartialEq)]
pub struct CancelJob {
    /// Do not wait for it to obey.
    pub kill: bool,
}

/// Arm the watchdog.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogActivate;

/// Disarm it: is it?
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogDisable;

/// Feed it.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogKeepalive;

/// Let somebody else take the lock first; woken when there is a leader.
#[derive(Debug, Clone, PartialEq)]
pub struct YieldRace(pub Duration);

/// Forget the scheduled restart.
#[derive(Debug, Clone, PartialEq)]
pub struct DropScheduledRestart;
