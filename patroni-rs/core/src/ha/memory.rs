//! What the engine remembers from one cycle to the next.

use indexmap::IndexMap;
use std::time::Duration;

use super::setback::HighWater;
use super::types::*;
use crate::global_config::GlobalConfig;
use crate::model::Lsn;

/// Where the question "must this node be rewound?" stands (surface-ha-pg 19-01).
pub use crate::rewind::RewindState as Rewind;

/// What a stop has left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// The shutdown checkpoint and the position to publish; None: nobody can tell.
    pub locations: Option<(Lsn, Lsn)>,
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

/// Plain data; a cycle works on a copy that replaces this when the cycle ends.
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
    pub overtaken: Option<u32>,
    /// The cycle before this one was in pause.
    pub was_paused: bool,
    /// The lock was won by a request of this node, in this life of the lock; or it was a primary under it.
    pub lock_won: bool,
    /// Since when it looks at the others because it has a lock that it did not win.
    pub inherited_at: Option<Mono>,
    /// It gave such a lock away then, because another has led since; until somebody leads.
    pub disowned_at: Option<Mono>,
    /// The leader key was given away, and nobody has confirmed that: it may be carried out yet.
    pub release_unsure: bool,
    /// `synchronous_standby_names` could not be set before a promotion: no race for ttl from here.
    pub sync_refused_at: Option<Mono>,
    /// Since when an order to switch over waits for a candidate that streams.
    pub switchover_waits: Option<Mono>,
    /// When the first synchronous replication step after promotion was made.
    pub promoted_at: Option<Mono>,
    /// The last write of `/sync` was not confirmed: it may be carried out yet.
    pub sync_unsure: bool,
    /// `/sync` was taken over before the promotion, and synchronous replication was not looked at since.
    pub quorum_adopted: bool,
    /// A start is under way whose failure costs the leader key.
    pub recovering: bool,
    /// When crash recovery began.
    pub crash_recovery_started: Option<Mono>,
    /// Starts as a standby by the holder of the lock since it was last seen as a primary.
    pub readonly_starts: u32,
    /// When the lock was given away because its server dies of its promotions.
    pub gave_way_at: Option<Mono>,
    /// Timeout of an explicit restart.
    pub start_timeout: Option<Duration>,
    /// The last known own WAL position.
    pub last_wal_lsn: Option<Lsn>,
    /// The last known own timeline as a standby.
    pub last_timeline: Option<u32>,
    /// `pre_promote` refused: no race for ttl from here.
    pub released_at: Option<Mono>,
    /// Rewind.
    pub rewind: Rewind,
    /// Since when it has failed, as far as a cycle that could try again has noticed.
    pub rewind_failed_at: Option<Mono>,
    /// We have asked for `/initialize` and were not told that it is ours.
    pub initialize_asked: bool,
    /// This node is bootstrapping the cluster.
    pub bootstrapping: bool,
    /// How bootstrap or post_bootstrap ended; None: still running.
    pub bootstrap_result: Option<bool>,
    /// `pre_promote` refused; not yet acted upon.
    pub pre_promote_failed: bool,
    /// So many times in a row PostgreSQL could not be asked to promote itself.
    pub not_promoted: u32,
    /// The lock was given away because of that: no race for ttl from here.
    pub not_promoted_at: Option<Mono>,
    /// A demotion in steps.
    pub demotion: Option<Demotion>,
    /// Primary without a DCS, by consent of all peers, since then.
    pub failsafe_since: Option<Mono>,
    /// What the peers told then, for slots of cascading replicas.
    pub failsafe_slots: IndexMap<String, Lsn>,
    /// The last `/failsafe` read.
    pub failsafe_members: Option<pyfmt::Value>,
    /// Joining a running replica without an initialize key: leave it alone.
    pub join_aborted: bool,
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
            overtaken: None,
            was_paused: false,
            lock_won: false,
            inherited_at: None,
            disowned_at: None,
            release_unsure: false,
            sync_refused_at: None,
            switchover_waits: None,
            promoted_at: None,
            sync_unsure: false,
            quorum_adopted: false,
            recovering: false,
            crash_recovery_started: None,
            readonly_starts: 0,
            gave_way_at: None,
            start_timeout: None,
            last_wal_lsn: None,
            last_timeline: None,
            released_at: None,
            rewind: Rewind::Initial,
            rewind_failed_at: None,
            initialize_asked: false,
            bootstrapping: false,
            bootstrap_result: None,
            pre_promote_failed: false,
            not_promoted: 0,
            not_promoted_at: None,
            demotion: None,
            failsafe_since: None,
            failsafe_slots: IndexMap::new(),
            failsafe_members: None,
            join_aborted: false,
            wake_at: None,
        }
    }

    /// Takes note of how a job ended; called between cycles.
    pub fn job_finished(&mut self, job: &Job, result: &JobResult) {
        match job {
            // A recovery that takes long is still one.
            Job::Bootstrap if matches!(result, JobResult::Failed | JobResult::Cancelled) => {
                self.bootstrap_result = Some(false);
            }
            Job::BootstrapStandbyLeader { .. } | Job::PostBootstrap => {
                self.bootstrap_result = Some(*result == JobResult::Done);
            }
            Job::Promote => {
                self.pre_promote_failed = *result == JobResult::PrePromoteFailed;
                let not = *result == JobResult::NotPromoted;
                self.not_promoted = if not { self.not_promoted.saturating_add(1) } else { 0 };
            }
            Job::Rewind { .. } => match result {
                JobResult::Done => self.rewind = Rewind::Success,
                JobResult::Failed => self.rewind = Rewind::Failed,
                _ => {}
            },
            Job::Clone { .. } | Job::Reinitialize { .. } | Job::ReinitializeDiverged { .. } => {
                self.rewind = Rewind::Initial;
            }
            Job::Demote { .. } => match (result, &mut self.demotion) {
                (JobResult::Stopped(locations), Some(demotion)) => {
                    demotion.stopped = Some(Stopped { locations: *locations })
                }
                // PostgreSQL runs on, and so must the lock: the next cycle decides anew. The
                // reference releases the key here (a second primary is possible then).
                _ => self.demotion = None,
            },
            _ => {}
        }
    }
}
