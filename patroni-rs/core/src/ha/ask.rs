//! What a cycle may ask of the world: every question is a type of its own, and knows the type of its answer.
//!
//! The engine asks `self.io.ask(ask::CanRewind)?` and gets a `bool`; who carries it out matches on the groups of
//! [`Request`] and answers with [`Ask::reply`], which takes nothing but a `bool`. Only where a recorded answer meets
//! its question again ([`Ask::heard`]) could they not fit, which is a defect of the driver that recorded it.
//!
//! The groups are those of the executors: each has a match that names every question of its group, so that a new one
//! does not compile before it is carried out.

mod dcs;
mod node;
mod peers;
mod server;

pub use dcs::*;
pub use node::*;
pub use peers::*;
pub use server::*;

use super::request::{Answer, DcsDown, RecoveryChange, Reply, Stopping, SyncNamesSet, Walsender};
use super::types::*;
use crate::model::Version;
use crate::sync::CurrentState;
use pyfmt::Value;

/// A question, with the type of its answer.
pub trait Ask: Into<Request> {
    /// What it is answered with.
    type Answer: Reply;

    /// That answer, for the transcript.
    fn reply(&self, answer: Self::Answer) -> Answer {
        answer.into_answer()
    }

    /// Of a recorded answer; None: it is another question's, or PostgreSQL was away.
    fn heard<'a>(&self, answer: &'a Answer) -> Option<&'a Self::Answer> {
        Self::Answer::of(answer)
    }
}

/// One effect or observation. Each is carried out once, in the order asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Of the DCS.
    Dcs(DcsRequest),
    /// Of the other members.
    Peers(PeerRequest),
    /// Of the PostgreSQL server here, or its data directory.
    Server(ServerRequest),
    /// About the promise of the lock, which the driver keeps: nobody carries it out.
    Lock(LockRequest),
    /// Of this daemon: jobs, the watchdog, time.
    Node(NodeRequest),
}

/// The questions of a group, each with the type of its answer.
macro_rules! group {
    ($(#[$doc:meta])* $variant:ident($group:ident) { $($question:ident => $answer:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        // A few are made in a cycle, and those that are kept are boxed.
        #[allow(missing_docs, clippy::large_enum_variant)]
        pub enum $group { $($question($question),)* }

        $(
            impl Ask for $question {
                type Answer = $answer;
            }

            impl From<$question> for Request {
                fn from(question: $question) -> Request {
                    Request::$variant($group::$question(question))
                }
            }
        )*
    };
}

group! {
    /// Questions to the DCS.
    Dcs(DcsRequest) {
        LoadCluster => Result<ClusterRef, DcsDown>,
        AcquireLeader => Result<bool, DcsDown>,
        UpdateLeader => Result<bool, DcsDown>,
        TakeLeader => bool,
        DeleteLeader => bool,
        WriteStatus => (),
        TouchMember => bool,
        Initialize => bool,
        CancelInitialization => bool,
        SetConfig => bool,
        WriteFailover => bool,
        WriteSync => Option<Version>,
        DeleteSync => bool,
        WriteHistory => bool,
    }
}

group! {
    /// Questions to other members.
    Peers(PeerRequest) {
        Peers => Vec<PeerStatus>,
        PingFailsafe => Vec<FailsafeAnswer>,
        ReleaseSync => (),
    }
}

group! {
    /// Questions to the server here, and orders to it.
    Server(ServerRequest) {
        Probe => Box<PgView>,
        SetRole => (),
        SetState => (),
        Call => (),
        Stop => bool,
        StopToCheckpoint => Stopping,
        AwaitExit => bool,
        ProveGone => bool,
        ReadControlData => ControlData,
        CheckRecovery => Option<RecoveryChange>,
        FollowReload => bool,
        ResumeReplay => (),
        SetSyncNames => SyncNamesSet,
        CurrentSync => Option<Box<CurrentState>>,
        Walsenders => Option<Vec<Walsender>>,
        ReplicaTimeline => Option<u32>,
        History => Vec<Value>,
        CanRewind => bool,
        CheckDiverged => Option<bool>,
        EnsureCheckpoint => bool,
        SyncSlots => Vec<String>,
        AfterPause => (),
        QuarantineDataDir => bool,
    }
}

group! {
    /// What is said of the lock's promise.
    Lock(LockRequest) {
        ExtendLease => (),
        DropLease => (),
    }
}

group! {
    /// What the daemon itself is asked for.
    Node(NodeRequest) {
        StartJob => Result<(), String>,
        CancelJob => bool,
        WatchdogActivate => bool,
        WatchdogDisable => bool,
        WatchdogKeepalive => (),
        YieldRace => (),
        DropScheduledRestart => (),
    }
}

impl DcsRequest {
    /// The answer when the DCS has not said what came of it, and nobody knows.
    pub fn unanswered(&self, down: DcsDown) -> Answer {
        match self {
            DcsRequest::LoadCluster(asked) => asked.reply(Err(down)),
            DcsRequest::AcquireLeader(asked) => asked.reply(Err(down)),
            DcsRequest::UpdateLeader(asked) => asked.reply(Err(down)),
            DcsRequest::WriteSync(asked) => asked.reply(None),
            DcsRequest::WriteStatus(asked) => asked.reply(()),
            DcsRequest::TakeLeader(asked) => asked.reply(false),
            DcsRequest::DeleteLeader(asked) => asked.reply(false),
            DcsRequest::TouchMember(asked) => asked.reply(false),
            DcsRequest::Initialize(asked) => asked.reply(false),
            DcsRequest::CancelInitialization(asked) => asked.reply(false),
            DcsRequest::SetConfig(asked) => asked.reply(false),
            DcsRequest::WriteFailover(asked) => asked.reply(false),
            DcsRequest::DeleteSync(asked) => asked.reply(false),
            DcsRequest::WriteHistory(asked) => asked.reply(false),
        }
    }
}

impl LockRequest {
    /// The driver has heard of it: nothing else is to be done.
    pub fn noted(&self) -> Answer {
        match self {
            LockRequest::ExtendLease(asked) => asked.reply(()),
            LockRequest::DropLease(asked) => asked.reply(()),
        }
    }
}
