//! Deliberate defects, each of which the simulation has to find.
//!
//! They sit where the engine meets the world, so that the engine itself is the
//! one that is shipped: a request is not carried out, carried out twice or too
//! late, or an answer tells what is not so.

use super::config::{Config, SyncMode};
use super::dcs::Kind;

/// What is wrong in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The production engine.
    Nothing,
    /// Demotion is decided and not carried out, and nothing fences.
    NoDemotion,
    /// The keeper renews although the loop has stopped.
    RenewsForever,
    /// The lock is taken without comparing.
    TakesLockBlindly,
    /// The keeper runs on a clock that people set.
    WallClock,
    /// The keeper does not notice that the wall clock has jumped.
    IgnoresClockJump,
    /// The guardian does not, and the daemon dies before its keeper can say a word.
    GuardianIgnoresJump,
    /// The fence falls five seconds after the lease's end.
    FencesLate,
    /// The watchdog is not disarmed when a primary becomes a standby.
    ForgetsWatchdog,
    /// A failsafe peer that does not answer counts as consent.
    FailsafeAlone,
    /// `/sync` is written before PostgreSQL holds the standby.
    PublishesSyncEarly,
    /// PostgreSQL lets go of a standby while `/sync` still names it.
    DropsSyncLate,
    /// A node outside of `/sync` may race.
    RacesOutsideSync,
    /// The published quorum is one too small.
    QuorumTooSmall,
    /// `synchronous_standby_names` is not prepared before a promotion.
    PromotesUnsynced,
    /// Pause is not seen.
    ActsInPause,
    /// `/history` is not seen: a timeline of the past may win.
    IgnoresTimeline,
    /// The published position is not seen: any lag may win.
    IgnoresLag,
    /// A diverged standby is taken for a healthy one.
    NeverRewinds,
    /// New recovery settings are written and not applied.
    ForgetsSource,
    /// The guardian does not stop PostgreSQL.
    GuardianSleeps,
    /// A guardian is not relieved when the daemon is back.
    GuardianStays,
    /// Reinitialize also removes the leader's data.
    ReinitsLeader,
    /// A failsafe peer forgets that it has consented, and the race does not ask the old primary (either alone
    /// is made good by the other).
    ForgetsConsent,
    /// `/sync` is written whatever the token.
    StaleSyncToken,
    /// An operator's restart is taken in the middle of a demotion.
    RestartsDemoted,
    /// `ignore_slots` is not looked at.
    ForgetsIgnored,
    /// Slots that nobody wants are dropped in pause, too.
    DropsInPause,
    /// Members' slots are advanced further than the leader has published.
    AdvancesTooFar,
    /// The standby cluster is taken for one of its own.
    ForgetsStandbyCluster,
    /// A server that is not recognised is taken for one that has ended.
    TrustsTheLook,
    /// Backends that outlive their postmaster are not looked for.
    ForgetsBackends,
    /// Nor by the guardian that gives the lock up.
    ReleasesUnproven,
    /// A look that fails is taken for the server's end.
    TakesFailureForEnd,
    /// The fence also falls on an orderly stop in which no client is left.
    FencesStops,
    /// A lock that this node has not won itself is believed.
    BelievesInheritedLock,
    /// `synchronous_standby_names` counts as set, whatever came of it.
    TrustsSyncNames,
    /// A switchover stops the primary although nobody receives WAL from it, and gives the lock away.
    SwitchesUnfed,
    /// The lock is left to a candidate that may not take it.
    WaitsForOutsider,
    /// The mark beside a rewind that was broken off is not looked at.
    ForgetsMark,
    /// Whoever bears a member's name is that member, whatever slot he holds.
    BelievesNames,
    /// Of two that bear a member's name the last is that member.
    BelievesTwins,
    /// What was known before the DCS went back to an earlier state is forgotten.
    ForgetsPosition,
    /// Nor is it remembered whom `/sync` named before, and who has said since then that it is ahead (either makes good for
    /// the other).
    ForgetsWhoWasAhead,
    /// A leader whose server answers nobody goes on asking for the lock.
    CyclesOverHungServer,
    /// The fence is armed by the server as it was when the cycle began, until the cycle ends.
    ArmsAtTheEnd,
    /// It is not armed when a server is started.
    ForksUnarmed,
    /// The fence counts by the ttl that was wished, whatever the store has granted.
    FencesByTheWish,
    /// A watch that was lost is opened again, and what is there is not read.
    ForgetsToReRead,
    /// What was read last is believed as long as the watch tells of no change, however long ago that was.
    BelievesTheCopy,
    /// The lock in an object is taken at the newest version of it, not at the one that was decided on: reads in the
    /// background move it (patroni/patroni#3718).
    TakesTheNewest,
    /// It is renewed so.
    RenewsTheNewest,
    /// Its end is judged by the holder's clock, beside the own wall clock.
    BelievesRenewTime,
    /// Its end is counted from when it was seen first, not from its last change.
    CountsFromTheBeginning,
    /// Raft's leader ends keys by its wall clock, as the reference does, and that is 11 s ahead of the holder's, who does not
    /// count with it.
    IgnoresLeaderClock,
    /// A write to Raft of which no answer came is not known again: what is in its place counts as somebody else's.
    KnowsNoMoment,
    /// A `synchronous_standby_names` that was written and that the server does not go by stays in its file.
    LeavesUntakenNames,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 56] = [
        Planted::NoDemotion,
        Planted::RenewsForever,
        Planted::TakesLockBlindly,
        Planted::WallClock,
        Planted::FencesLate,
        Planted::IgnoresClockJump,
        Planted::GuardianIgnoresJump,
        Planted::ForgetsWatchdog,
        Planted::FailsafeAlone,
        Planted::PublishesSyncEarly,
        Planted::DropsSyncLate,
        Planted::RacesOutsideSync,
        Planted::QuorumTooSmall,
        Planted::PromotesUnsynced,
        Planted::ActsInPause,
        Planted::IgnoresTimeline,
        Planted::IgnoresLag,
        Planted::NeverRewinds,
        Planted::ForgetsSource,
        Planted::ReinitsLeader,
        Planted::GuardianSleeps,
        Planted::GuardianStays,
        Planted::ForgetsConsent,
        Planted::StaleSyncToken,
        Planted::RestartsDemoted,
        Planted::ForgetsIgnored,
        Planted::DropsInPause,
        Planted::AdvancesTooFar,
        Planted::ForgetsStandbyCluster,
        Planted::TrustsTheLook,
        Planted::ForgetsBackends,
        Planted::ReleasesUnproven,
        Planted::TakesFailureForEnd,
        Planted::FencesStops,
        Planted::BelievesInheritedLock,
        Planted::TrustsSyncNames,
        Planted::SwitchesUnfed,
        Planted::WaitsForOutsider,
        Planted::ForgetsMark,
        Planted::BelievesNames,
        Planted::BelievesTwins,
        Planted::ForgetsPosition,
        Planted::ForgetsWhoWasAhead,
        Planted::CyclesOverHungServer,
        Planted::ArmsAtTheEnd,
        Planted::ForksUnarmed,
        Planted::FencesByTheWish,
        Planted::ForgetsToReRead,
        Planted::BelievesTheCopy,
        Planted::TakesTheNewest,
        Planted::RenewsTheNewest,
        Planted::BelievesRenewTime,
        Planted::CountsFromTheBeginning,
        Planted::IgnoresLeaderClock,
        Planted::KnowsNoMoment,
        Planted::LeavesUntakenNames,
    ];

    /// The cluster in which the defect matters.
    pub fn config(self) -> Config {
        // A guardian would make good for a keeper that does not fence.
        let guardian = matches!(
            self,
            Planted::GuardianSleeps
                | Planted::GuardianStays
                | Planted::GuardianIgnoresJump
                | Planted::TrustsTheLook
                | Planted::ReleasesUnproven
        );
        let base = Config { planted: self, guardian, ..Config::default() };
        match self {
            Planted::ForgetsStandbyCluster => Config { standby: true, ..base },
            Planted::TrustsTheLook
            | Planted::ForgetsBackends
            | Planted::ReleasesUnproven
            | Planted::TakesFailureForEnd => Config { unseen: true, ..base },
            Planted::LeavesUntakenNames => Config { unseen: true, sync: SyncMode::Quorum, ..base },
            Planted::IgnoresClockJump | Planted::GuardianIgnoresJump => Config { stun: true, ..base },
            Planted::CyclesOverHungServer => Config { silent: true, ..base },
            Planted::ForgetsWatchdog => Config { watchdog: true, ..base },
            Planted::FailsafeAlone | Planted::ForgetsConsent => Config { failsafe: true, ..base },
            Planted::PublishesSyncEarly | Planted::DropsSyncLate | Planted::RacesOutsideSync => {
                Config { sync: SyncMode::On, ..base }
            }
            Planted::QuorumTooSmall | Planted::PromotesUnsynced => {
                Config { sync: SyncMode::Quorum, members: 5, node_count: 2, ..base }
            }
            Planted::StaleSyncToken => {
                Config { sync: SyncMode::On, late_writes: 85, late_by: 40_000, ..base }
            }
            Planted::BelievesInheritedLock | Planted::ForgetsPosition => {
                Config { restores: true, maximum_lag: 20_000, ..base }
            }
            Planted::ForgetsWhoWasAhead => Config { restores: true, sync: SyncMode::On, ..base },
            Planted::WaitsForOutsider => Config { orders: true, sync: SyncMode::On, ..base },
            Planted::BelievesNames => Config { strangers: true, sync: SyncMode::On, ..base },
            Planted::BelievesTwins => Config { strangers: true, sync: SyncMode::Quorum, ..base },
            Planted::TrustsSyncNames => Config { sync: SyncMode::Quorum, ..base },
            Planted::IgnoresTimeline => Config { check_timeline: true, maximum_lag: 100_000_000, ..base },
            Planted::ReinitsLeader => Config { sync: SyncMode::On, members: 1, ..base },
            Planted::IgnoresLag => {
                let short = Config { ttl: 20_000, loop_wait: 5_000, retry_timeout: 5_000, ..base };
                Config { members: 2, maximum_lag: 20_000, operators: false, ..short }
            }
            Planted::BelievesTheCopy => Config { rough: true, loop_wait: 1000, ..base },
            Planted::FencesByTheWish => Config { store: Kind::ZooKeeper, ..base },
            Planted::TakesTheNewest
            | Planted::RenewsTheNewest
            | Planted::BelievesRenewTime
            | Planted::CountsFromTheBeginning => Config { store: Kind::Kubernetes, lossy: true, ..base },
            Planted::IgnoresLeaderClock => {
                Config { store: Kind::Raft, lossy: true, leader_ahead: 11_000, ..base }
            }
            Planted::KnowsNoMoment => Config { store: Kind::Raft, lossy: true, ..base },
            _ => base,
        }
    }
}
