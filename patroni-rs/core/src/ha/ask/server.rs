//! Questions to the PostgreSQL server of this node, and orders to it.

use std::time::Duration;

use super::super::request::SyncNames;
use super::super::types::{Callback, ClusterRef, PgState, Role, Source, StopMode};

/// Look at PostgreSQL again.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe;

/// Take a role.
#[derive(Debug, Clone, PartialEq)]
pub struct SetRole(pub Role);

/// Take a state.
#[derive(Debug, Clone, PartialEq)]
pub struct SetState(pub PgState);

/// Fire a callback and do not wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Call(pub Callback);

/// Stop PostgreSQL and wait for it. As for [`ProveGone`].
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// How.
    pub mode: StopMode,
    /// Then harder; None: wait.
    pub timeout: Option<Duration>,
}

/// Stop fast without a checkpoint of our own, as far as the shutdown checkpoint or the postmaster's exit.
#[derive(Debug, Clone, PartialEq)]
pub struct StopToCheckpoint {
    /// Then harder; None: wait.
    pub timeout: Option<Duration>,
}

/// Wait a moment for the end of that stop: has it ended?
#[derive(Debug, Clone, PartialEq)]
pub struct AwaitExit(pub Duration);

/// Prove that nothing is left of the server that ran here, by ending what its postmaster has left behind. No: it runs,
/// or something of it is left, or nobody can tell.
#[derive(Debug, Clone, PartialEq)]
pub struct ProveGone;

/// Read the control file.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadControlData;

/// Would following this source need new recovery settings? None: it could not be found out.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckRecovery(pub Option<Source>);

/// Write them and reload: has the server been told?
#[derive(Debug, Clone, PartialEq)]
pub struct FollowReload {
    /// Whom.
    pub source: Option<Source>,
    /// As what.
    pub role: Role,
}

/// Resume a replay that PostgreSQL 14+ paused for a parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ResumeReplay;

/// `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq)]
pub struct SetSyncNames(pub SyncNames);

/// The synchronous standbys as PostgreSQL sees them; with a wait, until all those picked are synchronous or it is over.
/// None: PostgreSQL could not be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentSync {
    /// How long to wait.
    pub wait: Option<Duration>,
}

/// Who receives WAL from this node by streaming. None: PostgreSQL could not be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Walsenders;

/// Timeline of a standby, by a replication connection where the cached one may be old.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaTimeline {
    /// The leader's, to know whether ours may have changed.
    pub leader: Option<u32>,
}

/// History of a timeline: rows `[tli, lsn, reason, iso timestamp, leader]`.
#[derive(Debug, Clone, PartialEq)]
pub struct History(pub u32);

/// Can `pg_rewind` be used here?
#[derive(Debug, Clone, PartialEq)]
pub struct CanRewind;

/// Has this data directory diverged from the source? None: the source could not be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckDiverged(pub Source);

/// Run a CHECKPOINT after promotion, once: is it there?
#[derive(Debug, Clone, PartialEq)]
pub struct EnsureCheckpoint;

/// Create, drop, advance replication slots; those to copy.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncSlots {
    /// Whose slots, and how far they are; without a DCS by what the failsafe's requests told.
    pub cluster: ClusterRef,
    /// Only what is safe without a DCS.
    pub dcs_failed: bool,
}

/// Recheck slots and sysid: people may have worked on it in pause.
#[derive(Debug, Clone, PartialEq)]
pub struct AfterPause;

/// Put aside a data directory that a failed bootstrap made.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantineDataDir;
