//! The contract between a store and the HA loop (surface-dcs 6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patroni_core::model::{failover_value, Cluster, FailoverOrder, Leader, Lsn, Status, SyncState};
use pyfmt::Value;

use crate::lock::LockRenewer;
use crate::{DcsError, Timing};

/// The answer of a conditional operation: done or refused; or nobody knows.
pub type Outcome = Result<bool, DcsError>;

/// A follower's loop begins that much after the leader's.
const FOLLOWER_DELAY: Duration = Duration::from_millis(500);

/// How long a loop that nobody wakes waits for its next round.
pub(crate) fn round(following: bool, timeout: Duration) -> Duration {
    if following {
        timeout + FOLLOWER_DELAY
    } else {
        timeout
    }
}

/// A distributed configuration store.
///
/// `Ok(false)` is a refusal: the lock is lost, somebody else was first, the store
/// does not permit it. [`DcsError`] means that the store cannot be reached. Only
/// reading and the lock operations (acquire, update) tell the two apart; the others
/// are best effort and are `Ok(false)` for both. Every operation has a deadline of
/// about `retry_timeout`.
#[async_trait]
pub trait Dcs: Send + Sync {
    /// Reads the cluster; never an old one from memory.
    async fn get_cluster(&self) -> Result<Arc<Cluster>, DcsError>;

    /// Reads the clusters of all Citus groups, by group; other keys are ignored.
    async fn get_groups(&self) -> Result<BTreeMap<i64, Cluster>, DcsError>;

    /// The cluster as it was read last, if it is that still: the watch, which has been open ever since, tells of every
    /// change and has told of none, we have written nothing, somebody leads, and the read is not older than
    /// [`Timing::trust`] at the end of this cycle. Asks nobody. Always None where a watch does not tell everything.
    fn unchanged_cluster(&self) -> Option<Arc<Cluster>> {
        None
    }

    /// The cluster as of the last read, while that is not older than the TTL.
    fn cached_cluster(&self) -> Option<Arc<Cluster>>;

    /// Seconds since 1970 of the last successful read; 0 before the first one.
    fn last_seen(&self) -> u64;

    /// `/failsafe` as it was last read or written.
    fn failsafe(&self) -> Option<Value>;

    /// Waits for a change that the HA loop should look at, at most for `timeout`. `following`:
    /// there is a leader and it is somebody else; the loops of followers are to run
    /// just after the leader's. True: run the next round now.
    async fn watch(&self, following: bool, timeout: Duration) -> bool;

    /// Ends a [`Dcs::watch`] early.
    fn wake(&self);

    /// Counts the changes of the cluster's keys that the watch has seen. Never grows for
    /// patronictl, which does not watch, nor while the watch is broken.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Takes the leader key if there is none. `seen` is the leader of the view that this was decided on (None: there is no
    /// such key): where the key is always there, and free or not (Kubernetes), it is taken as it was then or not at all.
    async fn acquire_leader(&self, seen: Option<&Leader>) -> Outcome;

    /// Renews our leader key; then publishes `/status` and `/failsafe` if they have
    /// changed, and does not fail if that fails. `leader` is from the cluster read last.
    async fn update_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Outcome;

    /// The same for who has had the lock confirmed lately, and counts its promise from then: the store need not be asked
    /// again where its watch tells of every change.
    async fn keep_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Outcome {
        self.update_leader(leader, status, failsafe).await
    }

    /// Puts the leader key after a bootstrap, if there is none or it is ours.
    async fn take_leader(&self) -> Outcome;

    /// Publishes `last_lsn`, then deletes the leader key if it is ours.
    async fn delete_leader(&self, leader: Option<&Leader>, last_lsn: Option<Lsn>) -> Outcome;

    /// The session that our leader key is attached to, if it is ours and another process may end that session
    /// ([`Dcs::end_session`]); asks nobody.
    fn lock_session(&self) -> Option<String> {
        None
    }

    /// Ends a session of a member that has ended, with all keys that are attached to it: what the store does by itself when
    /// nobody renews it. A key that is attached to another one by now stays. True: it has ended.
    async fn end_session(&self, _session: &str) -> Outcome {
        Ok(false)
    }

    /// Writes our member key if it has changed or is attached to an old lease.
    async fn touch_member(&self, data: &Value) -> Outcome;

    /// Writes `/config`; with a version only if that is still the current one.
    async fn set_config(&self, value: &Value, version: Option<&str>) -> Outcome;

    /// Writes the text of `/failover`; with a version only if that is still the current one.
    async fn set_failover(&self, value: &str, version: Option<&str>) -> Outcome;

    /// Writes `/failover`.
    async fn manual_failover(&self, order: FailoverOrder<'_>, version: Option<&str>) -> Outcome {
        self.set_failover(&failover_value(order), version).await
    }

    /// Writes `/sync`; with a version only if that is still the current one. The new
    /// state has the version for the next compare-and-set; None: not written.
    async fn write_sync(
        &self,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> Result<Option<SyncState>, DcsError>;

    /// Deletes `/sync`; with a version only if that is still the current one.
    async fn delete_sync(&self, version: Option<&str>) -> Outcome;

    /// Writes the text of `/history`.
    async fn set_history(&self, value: &str) -> Outcome;

    /// Writes the position to `/status` and keeps what else is known to be there.
    async fn write_status(&self, last_lsn: Lsn) -> Outcome;

    /// Writes `/failsafe` if it has changed.
    async fn write_failsafe(&self, value: &Value) -> Outcome;

    /// Writes `/initialize`: the race for the bootstrap with `create_new`.
    async fn initialize(&self, create_new: bool, sysid: &str) -> Outcome;

    /// Deletes `/initialize`.
    async fn cancel_initialization(&self) -> Outcome;

    /// Deletes the cluster's whole directory.
    async fn delete_cluster(&self) -> Outcome;

    /// New durations. A new TTL makes the next [`Dcs::watch`] return at once.
    fn set_timing(&self, timing: Timing);

    /// A new local configuration.
    ///
    /// # Errors
    /// The store's section makes no client; the old options stay.
    fn reload(&self, config: &Value) -> Result<(), DcsError>;

    /// For how long the leader key lives after a request that takes or renews it, by what the store has granted; at most
    /// the ttl.
    fn granted(&self) -> Duration;

    /// What renews the leader key beside the HA loop, in the lock keeper's thread.
    fn renewer(&self) -> Option<Box<dyn LockRenewer>>;

    /// Calls this whenever the watch shows that the leader key is ours no more, for the lock keeper, which would ask only when
    /// the next renewal is due: a loop that hangs is not woken by anything.
    fn on_lock_gone(&self, _tell: Box<dyn Fn() + Send + Sync>) {}

    /// The leader key is to run out, although our member key lives on: the cycles end without asking for the lock. Who
    /// asks again moves the key to the new session, if it is still there.
    fn let_leader_run_out(&self);

    /// How often, since the start, the store was seen to have become another one or an earlier one: restored from a
    /// backup, or forced into a new cluster. What was read before proves nothing after.
    fn setbacks(&self) -> u64;
}
