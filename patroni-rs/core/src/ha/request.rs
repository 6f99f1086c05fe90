//! What the world may answer, and the words that questions and answers share.

use pyfmt::Value;

use super::types::*;
use crate::model::{Lsn, ShutdownCheckpoint, Version};
use crate::sync::CurrentState;

/// The DCS did not do it, and nobody knows whether it will (surface-dcs 6:
/// refusals are values, not errors).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DcsDown(pub String);

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

/// What came of [`super::ask::SetSyncNames`].
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

/// How far a stop has come ([`super::ask::StopToCheckpoint`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Stopping {
    /// Its shutdown checkpoint, as far as it is found.
    pub checkpoint: Option<ShutdownCheckpoint>,
    /// The postmaster is gone.
    pub exited: bool,
}

/// What can be recorded as an answer.
pub trait Reply: Clone {
    /// To be recorded.
    fn into_answer(self) -> Answer;

    /// As it was recorded; None: it is another kind of answer.
    fn of(answer: &Answer) -> Option<&Self>;
}

/// The kinds of answers: one for each type that a question is answered with ([`super::ask`] says which).
macro_rules! answers {
    ($($kind:ident($answer:ty),)*) => {
        /// What came of a [`super::Request`], as it is recorded.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Answer {
            Done,
            $($kind($answer),)*
            /// PostgreSQL's connection broke in the middle: whatever was asked.
            PgDown,
        }

        $(
            impl Reply for $answer {
                fn into_answer(self) -> Answer {
                    Answer::$kind(self)
                }

                fn of(answer: &Answer) -> Option<&Self> {
                    if let Answer::$kind(found) = answer { Some(found) } else { None }
                }
            }
        )*
    };
}

answers! {
    Cluster(Result<ClusterRef, DcsDown>),
    Dcs(Result<bool, DcsDown>),
    Bool(bool),
    Version(Option<Version>),
    Peers(Vec<PeerStatus>),
    Failsafe(Vec<FailsafeAnswer>),
    Pg(Box<PgView>),
    Started(Result<(), String>),
    Control(ControlData),
    Recovery(Option<RecoveryChange>),
    SyncNames(SyncNamesSet),
    Walsenders(Option<Vec<Walsender>>),
    Sync(Option<Box<CurrentState>>),
    Timeline(Option<u32>),
    History(Vec<Value>),
    Diverged(Option<bool>),
    Names(Vec<String>),
    Stopping(Stopping),
}

impl Reply for () {
    fn into_answer(self) -> Answer {
        Answer::Done
    }

    fn of(answer: &Answer) -> Option<&()> {
        (*answer == Answer::Done).then_some(&())
    }
}
