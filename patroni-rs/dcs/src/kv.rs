//! The lower floor: what a key-value store has to do so that the Patroni layout (`keys`) can live in it.
//!
//! A store's author implements [`KvStore`] and [`LockRenewer`], and nothing of Patroni: which
//! keys there are, what is in them, when a write is spared, what a failure means for the lock, all that is above.
//! (A store that is no tree of keys, as Kubernetes, implements [`Dcs`](crate::Dcs) itself.)
//!
//! # The three answers
//! Every write is **done** with a version, **refused**, or **unknown**, and the three must never be mixed up: a refused
//! renewal demotes the primary at once, an unknown one sends it to its peers (failsafe mode), and a done one lets it
//! write on for a TTL.
//! * `Ok(Written::Done(version))`: it is in the store, or an earlier attempt of the same request put it there (a store
//!   that repeats a conditional request after a lost answer must look whether it was its own first attempt that is in
//!   the way). The version is that for the next compare-and-set.
//! * `Ok(Written::Refused)`: the condition did not hold; nothing was changed.
//! * `Err(Failure::Unknown)`: no answer in time, or one that says "not now"; it may have been done.
//! * the other failures: an answer, see [`Failure`]. Nothing was changed.
//!
//! # How the known stores say it
//! | | etcd v3 | etcd v2 | Consul | ZooKeeper |
//! |---|---|---|---|---|
//! | [`KvStore::list`] | range of the prefix, linearizable | `?recursive=true`, leaves only; 404/100 is empty | `?recurse=1`; 404 is empty, **unless the token may not read** | children, then each; no directory is empty |
//! | version | mod revision | modifiedIndex | ModifyIndex | znode version; `modify_version` mzxid |
//! | [`If::Absent`] | create revision 0 | `prevExist=false` | `cas=0`; with an owner `acquire=` | create |
//! | [`If::Version`] | mod revision | `prevIndex` | `cas=` | setData(version), also for version 0 |
//! | [`If::Ours`] | value, and create revision not after the version seen | `prevValue`; to give the lock up `prevIndex` of the key just read | `cas=` of the version seen | version seen |
//! | session | a lease, of both keys | none: a TTL on each key | a session of ttl/2, both keys locked by it | the connection's session; both keys ephemeral |
//! | moving a key to another session | put with the lease | (put) | delete `cas=`, then `acquire=`, **and look at the answer** | delete(version), then create |
//! | renewal by the lock keeper | KeepAlive | put with `prevValue` and `ttl` | `session/renew` | ping that is answered |
//! | granted | TTL of the answer | ttl | twice the TTL of the session that the answer tells (decision 13) | the negotiated timeout |
//! | watch | watch from the list's revision | `wait=true&recursive=true` | blocking query of the prefix | one-shot watches, also on what is not there (exists) |
//!
//! # Time
//! Every call has a deadline, by its [`Effort`], and none blocks the thread.
//!
//! # Heartbeats
//! A store that heartbeats by itself (ZooKeeper) does so only for [`Timing::allowance`] after the last call of
//! [`KvStore::session`] or of the renewer: a HA loop that hangs has to lose its lock, like anywhere else. The HA loop
//! calls `session` in each cycle, whatever its role; the lock keeper calls its renewer only while the loop is alive.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_core::model::{Nodes, Version};
use pyfmt::Value;

use crate::lock::{Granted, LockRenewer};
use crate::watch::Sink;
use crate::{DcsError, Timing};

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub enum Effort {
    /// One node, whatever comes of it; the next request goes to another one.
    Once,
    /// All nodes, again and again until then.
    Until(Instant),
    /// The same in little time: however little it is, each node gets a share of it.
    Hurried(Instant),
}

impl Effort {
    /// Until when an answer is of use; `budget` (the retry timeout) from now for one that is tried once.
    pub fn deadline(self, budget: Duration) -> Instant {
        match self {
            Effort::Once => Instant::now() + budget,
            Effort::Until(at) | Effort::Hurried(at) => at,
        }
    }
}

/// What a write depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum If<'a> {
    /// Nothing.
    Always,
    /// There is no such key. With an owner that is the race for a lock: of many who ask at once one wins.
    Absent,
    /// The key is still at this version, also if that is `"0"`.
    Version(&'a str),
    /// The key still has this value, as it was seen at `version`. A store that can compare but one of both compares
    /// that one. `version` is None where the key was not seen: then it goes by the value (a store that cannot compare
    /// values reads the key first, and writes by the version that it found).
    Ours {
        /// What is in it.
        value: &'a str,
        /// As of the last list.
        version: Option<&'a str>,
    },
    /// There is no such key, or it has this value.
    AbsentOr(&'a str),
}

/// What a key is attached to: it goes when that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// As [`Node::session`](patroni_core::model::Node::session) has it. None: the store has no sessions, and each key
    /// with an owner has a TTL of its own that only another write prolongs (etcd v2).
    pub id: Option<String>,
    /// What the store has granted.
    pub granted: Granted,
}

impl Session {
    /// Is a key with this owner attached to this session?
    pub fn owns(&self, owner: Option<&str>) -> bool {
        self.id.is_some() && self.id.as_deref() == owner
    }
}

/// A write.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// The full name of the key, with a slash at its beginning (Consul's client takes that away).
    pub key: &'a str,
    /// The new content, byte for byte.
    pub value: &'a str,
    /// What it depends on.
    pub condition: If<'a>,
    /// What it is to be attached to **afterwards, whatever it was attached to before**; None: on nothing. Where the owner of a key
    /// cannot be changed (Consul, ZooKeeper), the store deletes the key under the condition and creates it; another
    /// who comes in between is a refusal.
    pub owner: Option<&'a Session>,
    /// The owner that the key was seen with; None: it was not seen, or has none.
    pub seen_owner: Option<&'a str>,
    /// Will somebody use the version? Consul does not tell it, and has to be asked: its store reads the key back,
    /// consistently, and is [`Written::Refused`] unless exactly `value` is in it. Otherwise `Done("")` will do.
    pub version_wanted: bool,
}

impl<'a> Put<'a> {
    /// Without a condition or an owner.
    pub fn new(key: &'a str, value: &'a str) -> Put<'a> {
        Put { key, value, condition: If::Always, owner: None, seen_owner: None, version_wanted: false }
    }

    /// On a condition.
    pub fn when(self, condition: If<'a>) -> Put<'a> {
        Put { condition, ..self }
    }

    /// With an owner.
    pub fn owned(self, owner: &'a Session, seen: Option<&'a str>) -> Put<'a> {
        Put { owner: Some(owner), seen_owner: seen, ..self }
    }

    /// The version will be used.
    pub fn with_version(self) -> Put<'a> {
        Put { version_wanted: true, ..self }
    }
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is in the store, at this version.
    Done(Version),
    /// The condition did not hold.
    Refused,
}

impl Written {
    /// Was it done?
    pub fn is_done(&self) -> bool {
        matches!(self, Written::Done(_))
    }

    /// The version, if it was done.
    pub fn version(self) -> Option<Version> {
        match self {
            Written::Done(version) => Some(version),
            Written::Refused => None,
        }
    }
}

/// Why there is no [`Written`], or no list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No usable answer in time: it may have been done. The text is for the log.
    Unknown(String),
    /// We are not let in, for want of authentication or of a right: nothing was done, and nothing was learnt of what
    /// is in the store.
    Denied(String),
    /// The owner does not exist any more: nothing was done.
    SessionGone(String),
    /// Refused, and it would be again.
    Refused(String),
}

impl Failure {
    /// The text for the log.
    pub fn text(&self) -> &str {
        match self {
            Failure::Unknown(text) | Failure::Denied(text) => text,
            Failure::SessionGone(text) | Failure::Refused(text) => text,
        }
    }
}

/// What is said to people, as the reference does on this store.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// `Etcd`, `Consul`, `ZooKeeper`; in lower case in `waiting on etcd`.
    pub store: &'static str,
    /// `lease`, `session`.
    pub session: &'static str,
    /// The error of a cluster that cannot be read: `Etcd is not responding properly`.
    pub not_responding: &'static str,
    /// The warning when the leader key is ours and is attached to something that is not; None: no warning.
    pub foreign_owner: Option<&'static str>,
}

/// A level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// INFO.
    Info,
    /// WARNING.
    Warning,
    /// ERROR.
    Error,
}

/// A function `say(level, text)` that logs as one logger of the reference (the name has to be a literal).
#[macro_export]
macro_rules! voice {
    ($logger:literal) => {
        fn say(&self, level: $crate::kv::Level, text: &str) {
            match level {
                $crate::kv::Level::Info => tracing::info!(target: $logger, "{text}"),
                $crate::kv::Level::Warning => tracing::warn!(target: $logger, "{text}"),
                $crate::kv::Level::Error => tracing::error!(target: $logger, "{text}"),
            }
        }
    };
}

/// A store of keys, as the Patroni layout needs it. All methods may be called at the same time from several tasks of
/// the runtime that the store was made in.
pub trait KvStore: Send + Sync + 'static {
    /// For log lines and errors.
    fn words(&self) -> Words;

    /// Logs a line under the store's name: [`voice!`](crate::voice) writes this method.
    fn say(&self, level: Level, text: &str);

    /// The durations in force.
    fn timing(&self) -> Timing;

    /// What time it is, by the clock that deadlines are told in. (The simulation's store has its own.)
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// New durations. A new ttl: the session of before is forgotten (not destroyed: our keys are still attached to it), and the
    /// next [`KvStore::session`] makes one. True: the next cycle is to begin at once.
    fn set_timing(&self, timing: Timing) -> bool;

    /// New options of the store's section: servers, credentials, certificates.
    ///
    /// # Errors
    /// They make no client; the old ones stay.
    fn reload(&self, section: &Value) -> Result<(), DcsError>;

    /// All keys below `prefix` (which ends with a slash), by their names without it; none is an answer, too. Never an
    /// old copy: what we have written ourselves is in it. Directorys are no keys.
    ///
    /// A store that answers the same for "nothing there" and "you may not look" (Consul) must find out which it is, and
    /// is [`Failure::Denied`] in doubt: an empty cluster is bootstrapped.
    fn list(&self, prefix: &str, effort: Effort) -> impl Future<Output = Result<Nodes, Failure>> + Send;

    /// Writes a key, and the directories above it where a store needs them.
    fn put(&self, put: Put<'_>, effort: Effort) -> impl Future<Output = Result<Written, Failure>> + Send;

    /// Deletes a key; what is not there is done for [`If::Always`], and refused for the others. The version of a
    /// deletion is nobody's.
    fn delete(
        &self,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> impl Future<Output = Result<Written, Failure>> + Send;

    /// Deletes all keys below a prefix (which ends with a slash), and the directory itself.
    fn delete_all(
        &self,
        prefix: &str,
        effort: Effort,
    ) -> impl Future<Output = Result<Written, Failure>> + Send;

    /// Makes sure that the session for new keys lives: asks the store unless it did so within `loop_wait` (or, where the
    /// watch tells of everything, within [`Timing::trust`] less that), always if
    /// `force`, and makes a new one where there is none or it has ended. With `force` the answer proves that the session
    /// was alive **after** the call began: the promise of the lock counts from there. Where keys have TTLs of their own
    /// there is nothing to ask.
    fn session(&self, force: bool, effort: Effort) -> impl Future<Output = Result<Session, Failure>> + Send;

    /// The id of the session that new keys would get, if there is one; asks nobody.
    fn session_id(&self) -> Option<String>;

    /// The session has ended, says the store: the next [`KvStore::session`] makes one.
    fn forget_session(&self);

    /// The next [`KvStore::session`] asks, unless what the last one was told still stands: called at the end of each cycle.
    fn expect_refresh(&self);

    /// The leader key (`key`, with `value`) is ours and is attached to that session, or None: it is not ours, or that is not
    /// known because it is being written. What the [`LockRenewer`] renews.
    fn set_leader(&self, leader: Option<Held<'_>>);

    /// The leader key is to run out although we, and our member key, live on: the session is left to it, and everything
    /// else of ours gets another one. Nothing to do where each key has its own TTL.
    fn let_leader_run_out(&self);

    /// A handle for the lock keeper, with connections of its own where the store permits that.
    fn renewer(&self) -> Box<dyn LockRenewer>;

    /// Tells the sink of changes below `prefix` for as long as it lives (it is dropped with the future). Goes on after
    /// failures, with a pause of about a second; logs them. It only wakes: what is seen is read by [`KvStore::list`], so
    /// a watch that has silently died costs time and never the truth. Not called for patronictl.
    fn watch(self: Arc<Self>, prefix: String, sink: Sink) -> impl Future<Output = ()> + Send + 'static;

    /// Does the watch tell of every change below its prefix, and of its own end ([`Sink::opened`])? Then what was read
    /// stands for a while ([`Timing::trust`]) until it tells of one, and so does a lock that was confirmed: a session
    /// that has ended shows by that.
    fn tells_all(&self) -> bool {
        false
    }

    /// The session that the leader key is attached to, if the key is ours and [`KvStore::end_session`] can end it.
    fn lock_session(&self) -> Option<String> {
        None
    }

    /// Ends a session with all that is attached to it, in the place of a process that has ended. Done also where there is
    /// no such session any more.
    fn end_session(
        &self,
        _session: &str,
        _effort: Effort,
    ) -> impl Future<Output = Result<bool, Failure>> + Send {
        async { Ok(false) }
    }

    /// For how long a key of ours lives after a request that was just answered, where that changes between the questions
    /// for a session; None: as [`KvStore::session`] said last.
    fn grants(&self) -> Option<Duration> {
        None
    }

    // What the reference does on one store only. The defaults are for the others.

    /// The race for the bootstrap: makes `key` with an empty value. All who race write the same, so that a lost answer
    /// must not leave a key that nobody knows to be his: True only for who knows that it is his own, and who asks again
    /// after a failure is told whether it was done after all. A store with sessions makes it under its session, and
    /// then sets it free (etcd v3; Consul `release=`; ZooKeeper delete and create in one transaction; etcd v2 by a put
    /// without a ttl).
    fn claim(&self, key: &str, effort: Effort) -> impl Future<Output = Result<bool, Failure>> + Send {
        async move { Ok(self.put(Put::new(key, "").when(If::Absent), effort).await?.is_done()) }
    }

    /// Takes what is in `/sync` away: ZooKeeper writes `{}` instead of deleting the key.
    fn clear(
        &self,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> impl Future<Output = Result<Written, Failure>> + Send {
        self.delete(key, condition, effort)
    }

    /// Gives the leader key up. ZooKeeper may end its session instead, as the reference does.
    fn release(
        &self,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> impl Future<Output = Result<Written, Failure>> + Send {
        self.delete(key, condition, effort)
    }

    /// Called in each cycle with what our member key is about to hold (`now`), and held when it was read last (`before`;
    /// None: nothing, or under another session), before it is written or the write is spared. Consul registers its
    /// service here. Failures are its own matter.
    fn announce(&self, before: Option<&Value>, now: &Value) -> impl Future<Output = ()> + Send {
        let _ = (before, now);
        async {}
    }

    /// How often, since the start, the store was seen to have become another one or an earlier one: restored from a
    /// backup, or forced into a new cluster. What was read before proves nothing after.
    fn setbacks(&self) -> u64 {
        0
    }
}

/// The leader key as we hold it.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Its full name.
    pub key: &'a str,
    /// Our name.
    pub value: &'a str,
    /// What it is attached to.
    pub session: &'a Session,
}
