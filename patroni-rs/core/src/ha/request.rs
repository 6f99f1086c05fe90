//! What a cycle may ask of the world, and what the world may answer.

use std::time::Duration;

use indexmap::IndexMap;
use pyfmt::Value;

use super::types::*;
use crate::model::{Lsn, Member, Version};
use crate::sync::CurrentState;

/// The DCS did not do it, and nobody knows whether it will (surface-dcs 6:
/// refusals are values, not errors).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DcsDown(pub String);

/// One effect or observation. Each is carried out once, in the order asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Read the whole cluster. Answer: [`Answer::Cluster`].
    LoadCluster,
    /// Create the leader key. Answer: [`Answer::Dcs`].
    AcquireLeader,
    /// Refresh the leader key, then publish. Answer: [`Answer::Dcs`].
    UpdateLeader {
        /// Position and slots for `/status`.
        status: Option<(Lsn, Option<IndexMap<String, Lsn>>)>,
        /// Members and their URLs for `/failsafe`.
        failsafe: Option<Value>,
    },
    /// Put the leader key without a condition. Answer: [`Answer::Bool`].
    TakeLeader,
    /// Publish the position, delete our leader key, forget the promise. Answer: [`Answer::Bool`].
    DeleteLeader {
        /// Position to leave behind.
        last_lsn: Option<Lsn>,
    },
    /// Publish the position alone. Answer: [`Answer::Done`].
    WriteStatus(Lsn),
    /// Write the own member key. Answer: [`Answer::Bool`].
    TouchMember(Value),
    /// Write the initialize key. Answer: [`Answer::Bool`].
    Initialize {
        /// Only if it is not there.
        create_new: bool,
        /// Empty while bootstrapping.
        sysid: String,
    },
    /// Delete the initialize key. Answer: [`Answer::Bool`].
    CancelInitialization,
    /// Write `/config`. Answer: [`Answer::Bool`].
    SetConfig(Value),
    /// Write `/failover`. Answer: [`Answer::Bool`].
    WriteFailover {
        /// Who is to stay the candidate; None: clear the key.
        candidate: Option<String>,
        /// Text of the schedule to keep.
        scheduled_at: Option<String>,
        /// Compare with this version.
        version: Option<Version>,
    },
    /// Write `/sync`. Answer: [`Answer::Version`], None when somebody else was first.
    WriteSync {
        /// The leader.
        leader: String,
        /// The standbys, in any order.
        standbys: Vec<String>,
        /// The quorum.
        quorum: i64,
        /// Compare with this version.
        version: Option<Version>,
    },
    /// Delete `/sync`. Answer: [`Answer::Bool`].
    DeleteSync {
        /// Compare with this version.
        version: Option<Version>,
    },
    /// Write `/history`. Answer: [`Answer::Bool`].
    WriteHistory(String),

    /// `GET /patroni` of each, at the same time. Answer: [`Answer::Peers`].
    Peers {
        /// Who.
        members: Vec<Member>,
        /// Answers that decide end the round; whoever has not answered by then is left out.
        decisive: Option<Decided>,
    },
    /// `POST /failsafe` to each, at the same time. Answer: [`Answer::Failsafe`].
    FailsafePing {
        /// The body.
        data: Value,
        /// Name and URL.
        members: Vec<Member>,
    },

    /// Look at PostgreSQL again. Answer: [`Answer::Pg`].
    Probe,
    /// Take a role. Answer: [`Answer::Done`].
    SetRole(Role),
    /// Take a state. Answer: [`Answer::Done`].
    SetState(PgState),
    /// Fire a callback and do not wait. Answer: [`Answer::Done`].
    Call(Callback),
    /// Stop PostgreSQL and wait for it. Answer: [`Answer::Bool`]: as for [`Request::ProveGone`].
    Stop {
        /// How.
        mode: StopMode,
        /// Then harder; None: wait.
        timeout: Option<Duration>,
    },
    /// Stop fast without a checkpoint of our own, as far as the shutdown
    /// checkpoint or the postmaster's exit. Answer: [`Answer::Stopping`].
    StopToCheckpoint {
        /// Then harder; None: wait.
        timeout: Option<Duration>,
    },
    /// Wait a moment for the end of that stop. Answer: [`Answer::Bool`]: it has ended.
    AwaitExit(Duration),
    /// Prove that nothing is left of the server that ran here, by ending what its postmaster has left behind. Answer:
    /// [`Answer::Bool`]: proven; no: it runs, or something of it is left, or nobody can tell.
    ProveGone,
    /// Ask the leader to be released as synchronous standby, and wait a while
    /// for it. Answer: [`Answer::Done`].
    ReleaseSync,
    /// Start long work. Answer: [`Answer::Started`].
    StartJob(Job),
    /// Cancel it, if it can still be cancelled. Answer: [`Answer::Bool`].
    CancelJob {
        /// Do not wait for it to obey.
        kill: bool,
    },
    /// Read the control file. Answer: [`Answer::Control`].
    ControlData,
    /// Would following this source need new recovery settings? Answer: [`Answer::Recovery`].
    CheckRecovery(Option<Source>),
    /// Write them and reload. Answer: [`Answer::Bool`]: the server has been told.
    FollowReload {
        /// Whom.
        source: Option<Source>,
        /// As what.
        role: Role,
    },
    /// Resume a replay that PostgreSQL 14+ paused for a parameter. Answer: [`Answer::Done`].
    ResumeReplay,
    /// `synchronous_standby_names`. Answer: [`Answer::SyncNames`].
    SetSyncNames(SyncNames),
    /// The synchronous standbys as PostgreSQL sees them; with a wait, until all
    /// those picked are synchronous or it is over. Answer: [`Answer::Sync`].
    CurrentSync {
        /// How long to wait.
        wait: Option<Duration>,
    },
    /// Who receives WAL from this node by streaming. Answer: [`Answer::Walsenders`].
    Walsenders,
    /// Timeline of a standby, by a replication connection where the cached one
    /// may be old. Answer: [`Answer::Timeline`].
    ReplicaTimeline {
        /// The leader's, to know whether ours may have changed.
        leader: Option<u32>,
    },
    /// History of a timeline. Answer: [`Answer::History`].
    History(u32),
    /// Can `pg_rewind` be used here? Answer: [`Answer::Bool`].
    CanRewind,
    /// Has this data directory diverged from the source? Answer: [`Answer::Diverged`].
    CheckDiverged(Source),
    /// Run a CHECKPOINT after promotion, once. Answer: [`Answer::Bool`]: it is there.
    EnsureCheckpoint,
    /// Create, drop, advance replication slots. Answer: [`Answer::Names`]: those to copy.
    SyncSlots {
        /// Whose slots, and how far they are; without a DCS by what the failsafe's requests told.
        cluster: ClusterRef,
        /// Only what is safe without a DCS.
        dcs_failed: bool,
    },
    /// Recheck slots and sysid: people may have worked on it in pause. Answer: [`Answer::Done`].
    AfterPause,

    /// Arm the watchdog. Answer: [`Answer::Bool`].
    WatchdogActivate,
    /// Disarm it. Answer: [`Answer::Bool`]: it is.
    WatchdogDisable,
    /// Feed it. Answer: [`Answer::Done`].
    WatchdogKeepalive,
    /// The lease holds by consent of all peers (failsafe). Answer: [`Answer::Done`].
    ExtendLease {
        /// From then on: when the first of them was asked. Each peer counts from when it heard, and one that answers at
        /// once must not take the lock while this node still believes in its own.
        sent: Mono,
    },
    /// Forget the promise of the lock. Answer: [`Answer::Done`].
    DropLease,
    /// Let somebody else take the lock first; woken when there is a leader. Answer: [`Answer::Done`].
    Courtesy(Duration),
    /// Forget the scheduled restart. Answer: [`Answer::Done`].
    DropScheduledRestart,
    /// Put aside a data directory that a failed bootstrap made. Answer: [`Answer::Bool`].
    MoveDataDirectory,
}

/// What `synchronous_standby_names` is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncNames {
    /// As the user's parameters say, or nothing.
    User(Option<String>),
    /// `*`
    Star,
    /// So many of these; `None` for all of them by priority.
    Nodes {
        /// Names.
        names: Vec<String>,
        /// `ANY n` in quorum mode.
        num: Option<i64>,
    },
}

/// What came of [`Request::SetSyncNames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncNamesSet {
    /// Written; the server shows it, or will when it is started.
    InForce,
    /// Written; the server shows another value, and goes by that one: something counts more than postgresql.conf
    /// (postgresql.auto.conf, the command line).
    Overruled,
    /// Not written.
    NotWritten,
    /// Written; the server could not be asked.
    Unknown,
}

/// A standby that receives WAL from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walsender {
    /// `application_name`.
    pub name: String,
    /// What it has flushed.
    pub flushed: Lsn,
}

/// Must the recovery settings change?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryChange {
    /// They must.
    pub change: bool,
    /// And only a restart makes it so.
    pub restart: bool,
}

/// What came of a [`Request`].
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Answer {
    Cluster(Result<ClusterRef, DcsDown>),
    Dcs(Result<bool, DcsDown>),
    Bool(bool),
    Done,
    Version(Option<Version>),
    Peers(Vec<PeerStatus>),
    Failsafe(Vec<FailsafeAnswer>),
    Pg(Box<PgView>),
    /// `Err`: the name of the job that runs already.
    Started(Result<(), String>),
    Control(ControlData),
    /// `None`: it could not be found out.
    Recovery(Option<RecoveryChange>),
    SyncNames(SyncNamesSet),
    /// `None`: PostgreSQL could not be asked.
    Walsenders(Option<Vec<Walsender>>),
    /// `None`: PostgreSQL could not be asked.
    Sync(Option<Box<CurrentState>>),
    Timeline(Option<u32>),
    /// Rows `[tli, lsn, reason, iso timestamp, leader]`.
    History(Vec<Value>),
    /// `None`: the source could not be asked.
    Diverged(Option<bool>),
    Names(Vec<String>),
    /// The shutdown checkpoint and the position to publish.
    Stopping {
        locations: Option<(Lsn, Lsn)>,
        exited: bool,
    },
    /// PostgreSQL's connection broke in the middle.
    PgDown,
}
