//! The parts of [`super::Memory`]. Cycles read their fields; what changes them are the methods here, each of which says
//! what has happened (`core/tests/architecture` sees to that).

use std::time::Duration;

use indexmap::IndexMap;
use pyfmt::Value;

use super::super::types::{JobResult, Mono};
use super::Rewind;
use crate::model::Lsn;

/// How this node came by the lock, or gave it away.
#[derive(Debug, Clone, Default)]
pub struct LockMemory {
    /// It was won by a request of this node, in this life of the lock; or the node was a primary under it.
    pub won: bool,
    /// Since when it looks at the others because it has a lock that it did not win.
    pub inherited_at: Option<Mono>,
    /// It gave such a lock away then, because another has led since; until somebody leads.
    pub disowned_at: Option<Mono>,
    /// The leader key was given away, and nobody has confirmed that: it may be carried out yet.
    pub release_unsure: bool,
}

impl LockMemory {
    /// A request of this node has won it.
    pub fn acquired(&mut self) {
        *self = LockMemory { won: true, inherited_at: self.inherited_at, ..LockMemory::default() };
    }

    /// It is this node's beyond doubt.
    pub fn is_ours(&mut self) {
        self.won = true;
    }

    /// Who has led since is not known any more.
    pub fn doubted(&mut self) {
        self.won = false;
    }

    /// The promise is gone.
    pub fn dropped(&mut self) {
        (self.won, self.inherited_at) = (false, None);
    }

    /// By the DCS it is not this node's. `somebody_leads`: but another's.
    pub fn not_ours(&mut self, somebody_leads: bool) {
        self.dropped();
        self.release_unsure = false;
        if somebody_leads {
            self.disowned_at = None;
        }
    }

    /// It was deleted. `confirmed`: by the DCS.
    pub fn given_away(&mut self, confirmed: bool) {
        self.release_unsure = !confirmed;
    }

    /// Since when a lock that it did not win is looked at: from now on, if it was not before.
    pub fn inherited_since(&mut self, now: Mono) -> Mono {
        *self.inherited_at.get_or_insert(now)
    }

    /// It is given away, because another has led since.
    pub fn disowned(&mut self, now: Mono) {
        self.disowned_at = Some(now);
    }
}

/// Why this node leaves the lock to others: for ttl from these moments.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    /// `pre_promote` refused; not yet acted upon.
    pub pre_promote_failed: bool,
    /// `pre_promote` refused, and the lock was given away.
    pub released_at: Option<Mono>,
    /// `synchronous_standby_names` could not be set before a promotion.
    pub sync_refused_at: Option<Mono>,
    /// So many times in a row PostgreSQL could not be asked to promote itself.
    pub not_promoted: u32,
    /// The lock was given away because of that.
    pub not_promoted_at: Option<Mono>,
}

impl Backoff {
    /// A promotion begins.
    pub fn promotes(&mut self) {
        self.pre_promote_failed = false;
    }

    /// It has ended so.
    pub fn promotion_ended(&mut self, result: &JobResult) {
        self.pre_promote_failed = *result == JobResult::PrePromoteFailed;
        let not = *result == JobResult::NotPromoted;
        self.not_promoted = if not { self.not_promoted.saturating_add(1) } else { 0 };
    }

    /// Has `pre_promote` refused since this was asked last?
    pub fn take_pre_promote_failure(&mut self) -> bool {
        std::mem::take(&mut self.pre_promote_failed)
    }

    /// The lock is given away because `pre_promote` has refused.
    pub fn released(&mut self, now: Mono) {
        self.released_at = Some(now);
    }

    /// `synchronous_standby_names` could not be set.
    pub fn sync_refused(&mut self, now: Mono) {
        self.sync_refused_at = Some(now);
    }

    /// The lock is given away because PostgreSQL cannot be asked to promote itself.
    pub fn gave_up_promotion(&mut self, now: Mono) {
        self.not_promoted = 0;
        self.not_promoted_at = Some(now);
    }
}

/// Synchronous replication, as its leader remembers it.
#[derive(Debug, Clone, Default)]
pub struct SyncMemory {
    /// When the first step after promotion was made.
    pub promoted_at: Option<Mono>,
    /// The last write of `/sync` was not confirmed: it may be carried out yet.
    pub unsure: bool,
    /// `/sync` was taken over before the promotion, and synchronous replication was not looked at since.
    pub quorum_adopted: bool,
}

impl SyncMemory {
    /// It is looked at, perhaps for the first time since the promotion.
    pub fn looked_at(&mut self, now: Mono) {
        self.promoted_at.get_or_insert(now);
    }

    /// The lock is gone, and with it what this was about.
    pub fn lock_lost(&mut self) {
        (self.promoted_at, self.quorum_adopted) = (None, false);
    }

    /// `/sync` was written. `confirmed`: the DCS says so.
    pub fn written(&mut self, confirmed: bool) {
        self.unsure = !confirmed;
    }

    /// `/sync` was taken over, or not.
    pub fn adopted(&mut self, done: bool) {
        self.quorum_adopted = done;
    }

    /// Was it taken over since this was asked last?
    pub fn take_adopted(&mut self) -> bool {
        std::mem::take(&mut self.quorum_adopted)
    }
}

/// The start that is under way, and those before it.
#[derive(Debug, Clone, Default)]
pub struct Starts {
    /// One is under way whose failure costs the leader key.
    pub recovering: bool,
    /// How long it may take: the timeout of an explicit restart.
    pub timeout: Option<Duration>,
    /// When crash recovery began.
    pub crash_recovery_at: Option<Mono>,
    /// Starts as a standby by the holder of the lock since it was last seen as a primary.
    pub readonly: u32,
    /// When the lock was given away because its server dies of its promotions.
    pub gave_way_at: Option<Mono>,
}

impl Starts {
    /// One has begun.
    pub fn begun(&mut self) {
        self.recovering = true;
    }

    /// It may take so long.
    pub fn within(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    /// It has ended, in one way or another.
    pub fn ended(&mut self) {
        self.recovering = false;
    }

    /// The server does not start any more: it runs, or it does not.
    pub fn is_up(&mut self) {
        self.timeout = None;
    }

    /// Crash recovery has begun.
    pub fn crash_recovery_begun(&mut self, now: Mono) {
        self.crash_recovery_at = Some(now);
    }

    /// It is over.
    pub fn crash_recovered(&mut self) {
        self.crash_recovery_at = None;
    }

    /// The holder of the lock starts its server as a standby, to be promoted.
    pub fn as_standby(&mut self) {
        self.readonly = self.readonly.saturating_add(1);
    }

    /// It runs as a primary.
    pub fn leads(&mut self) {
        self.readonly = 0;
    }

    /// The lock is given away, since the server dies of its promotions.
    pub fn gave_way(&mut self, now: Mono) {
        self.readonly = 0;
        self.gave_way_at = Some(now);
    }
}

/// Where this node is, as last seen.
#[derive(Debug, Clone, Default)]
pub struct OwnPosition {
    /// Its WAL position.
    pub wal_position: Option<Lsn>,
    /// Its timeline as a standby.
    pub timeline: Option<u32>,
}

impl OwnPosition {
    /// It is there.
    pub fn at(&mut self, position: Lsn) {
        self.wal_position = Some(position);
    }

    /// It is on this timeline as a standby; None: it is none any more.
    pub fn on(&mut self, timeline: Option<u32>) {
        self.timeline = timeline;
    }
}

/// Must this node be rewound?
#[derive(Debug, Clone, Default)]
pub struct RewindMemory {
    /// Where the question stands.
    pub state: Rewind,
    /// Since when a rewind has failed, as far as a cycle that could try again has noticed.
    pub failed_at: Option<Mono>,
}

impl RewindMemory {
    /// Nothing is known.
    pub fn forget(&mut self) {
        self.state = Rewind::Initial;
    }

    /// To be found out.
    pub fn check_due(&mut self) {
        self.state = Rewind::Check;
    }

    /// It was found out.
    pub fn found(&mut self, diverged: bool) {
        self.state = if diverged { Rewind::Need } else { Rewind::NotNeeded };
    }

    /// This node leads, and has written the checkpoint by which others are rewound.
    pub fn leads(&mut self) {
        self.state = Rewind::Checkpoint;
    }

    /// The job has ended so.
    pub fn ended(&mut self, result: &JobResult) {
        match result {
            JobResult::Done => self.state = Rewind::Success,
            JobResult::Failed => self.state = Rewind::Failed,
            JobResult::Unknown
            | JobResult::PrePromoteFailed
            | JobResult::NotPromoted
            | JobResult::Stopped(_)
            | JobResult::Cancelled => {}
        }
    }

    /// Since when it has failed: from now on, if not before.
    pub fn failed_since(&mut self, now: Mono) -> Mono {
        *self.failed_at.get_or_insert(now)
    }

    /// It is tried again, or has not failed.
    pub fn retried(&mut self) {
        self.failed_at = None;
    }
}

/// The cluster is made, by this node or another.
#[derive(Debug, Clone, Default)]
pub struct BootstrapMemory {
    /// We have asked for `/initialize` and were not told that it is ours.
    pub claim_unclear: bool,
    /// This node is bootstrapping the cluster.
    pub running: bool,
    /// How bootstrap or post_bootstrap ended; None: still running.
    pub result: Option<bool>,
    /// Joining a running replica without an initialize key: leave it alone.
    pub join_aborted: bool,
}

impl BootstrapMemory {
    /// `/initialize` was asked for. `claimed`: it is ours.
    pub fn asked(&mut self, claimed: bool) {
        self.claim_unclear = !claimed;
    }

    /// This node makes the cluster.
    pub fn begun(&mut self) {
        (self.running, self.result) = (true, None);
    }

    /// Its job has ended so.
    pub fn ended(&mut self, well: bool) {
        self.result = Some(well);
    }

    /// The cluster is made.
    pub fn made(&mut self) {
        self.running = false;
    }

    /// A running replica of an unknown cluster stays as it is.
    pub fn leave_alone(&mut self) {
        self.join_aborted = true;
    }
}

/// A primary without a DCS.
#[derive(Debug, Clone, Default)]
pub struct FailsafeMemory {
    /// By consent of all peers, since then.
    pub since: Option<Mono>,
    /// What the peers told then, for slots of cascading replicas.
    pub slots: IndexMap<String, Lsn>,
    /// The last `/failsafe` read.
    pub members: Option<Value>,
}

impl FailsafeMemory {
    /// `/failsafe` says so.
    pub fn listed(&mut self, members: Option<Value>) {
        self.members = members;
    }

    /// All peers consent.
    pub fn holds(&mut self, now: Mono) {
        self.since = Some(now);
    }

    /// What they told of their positions.
    pub fn told(&mut self, slots: IndexMap<String, Lsn>) {
        self.slots = slots;
    }

    /// There is a DCS again, or no consent.
    pub fn ended(&mut self) {
        self.since = None;
    }
}
