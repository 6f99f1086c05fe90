//! What the engine remembers from one cycle to the next.

use super::setback::HighWater;
use super::types::*;

mod parts;

use crate::global_config::GlobalConfig;
use crate::model::ShutdownCheckpoint;
pub use parts::{
    Backoff, BootstrapMemory, FailsafeMemory, LockMemory, OwnPosition, RewindMemory, Starts, SyncMemory,
};

/// Where the question "must this node be rewound?" stands (surface-ha-pg 19-01).
pub use crate::rewind::RewindState as Rewind;

/// What a stop has left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// None: nobody can tell.
    pub checkpoint: Option<ShutdownCheckpoint>,
}

/// A demotion in steps: the stop is a job, what follows it is decided by cycles.
#[derive(Debug, Clone, PartialEq)]
pub struct Demotion {
    /// Graceful or Cluster.
    pub mode: DemoteMode,
    /// The name of the action in status lines.
    pub action: String,
    /// A switchover, which is not worth an acknowledged commit: the leader takes back what nobody can take over.
    pub planned: bool,
    /// The leader key was released while the postmaster still lived.
    pub released: bool,
    /// The postmaster is gone.
    pub stopped: Option<Stopped>,
    /// Since when the others are asked whether they have it.
    pub heirs_asked: Option<Mono>,
}

/// Plain data; a cycle works on a copy that replaces this when the cycle ends. It has a part for each question that is not
/// answered within one cycle; what changes a part has a name, in `memory/parts.rs`.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The dynamic configuration last seen.
    pub config: GlobalConfig,
    /// The cluster last seen.
    pub cluster: Option<ClusterRef>,
    /// The last cluster that had a leader: the electorate of a race.
    pub old_cluster: Option<ClusterRef>,
    /// What was known of the last leader's WAL before the DCS went back to an earlier state.
    pub high_water: Option<HighWater>,
    /// A primary in pause: the cluster's timeline after another led while this node, its leader, did not look.
    pub superseded_by: Option<u32>,
    /// The cycle before this one was in pause.
    pub was_paused: bool,
    /// Since when an order to switch over waits for a candidate that streams.
    pub switchover_waits: Option<Mono>,
    /// For whom, and since when, the lock that nobody has is left to an order's candidate.
    pub candidate_waited_for: Option<(String, Mono)>,
    /// A demotion in steps.
    pub demotion: Option<Demotion>,
    /// How this node came by the lock, or gave it away.
    pub lock: LockMemory,
    /// Why it leaves the lock to others for a while.
    pub backoff: Backoff,
    /// Synchronous replication.
    pub sync: SyncMemory,
    /// The start that is under way, and those before it.
    pub start: Starts,
    /// Where it is itself.
    pub own: OwnPosition,
    /// Must it be rewound?
    pub rewind: RewindMemory,
    /// The cluster is being made, by this node.
    pub bootstrap: BootstrapMemory,
    /// A primary without a DCS.
    pub failsafe: FailsafeMemory,
    /// Run the next cycle then, if nothing wakes it before.
    pub wake_at: Option<Mono>,
}

impl Memory {
    /// A fresh start.
    pub fn new(config: GlobalConfig) -> Memory {
        Memory {
            config,
            cluster: None,
            old_cluster: None,
            high_water: None,
            superseded_by: None,
            was_paused: false,
            switchover_waits: None,
            candidate_waited_for: None,
            demotion: None,
            lock: LockMemory::default(),
            backoff: Backoff::default(),
            sync: SyncMemory::default(),
            start: Starts::default(),
            own: OwnPosition::default(),
            rewind: RewindMemory::default(),
            bootstrap: BootstrapMemory::default(),
            failsafe: FailsafeMemory::default(),
            wake_at: None,
        }
    }

    /// Takes note of how a job ended; called between cycles.
    pub fn job_finished(&mut self, job: &Job, result: &JobResult) {
        match job {
            // A recovery that takes long is still one.
            Job::Bootstrap if matches!(result, JobResult::Failed | JobResult::Cancelled) => {
                self.bootstrap.ended(false);
            }
            Job::BootstrapStandbyLeader { .. } | Job::PostBootstrap => {
                self.bootstrap.ended(*result == JobResult::Done);
            }
            Job::Promote => {
                self.backoff.promotion_ended(result);
            }
            Job::Rewind { .. } => self.rewind.ended(result),
            Job::Clone { .. } | Job::Reinitialize { .. } | Job::ReinitializeDiverged { .. } => {
                self.rewind.forget();
            }
            Job::Demote { .. } => match (result, &mut self.demotion) {
                (JobResult::Stopped(checkpoint), Some(demotion)) => {
                    demotion.stopped = Some(Stopped { checkpoint: *checkpoint })
                }
                // PostgreSQL runs on, and so must the lock: the next cycle decides anew. The
                // reference releases the key here (a second primary is possible then).
                _ => self.demotion = None,
            },
            _ => {}
        }
    }
}
