//! The contract between a store and the HA loop (surface-dcs 6).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use patroni_core::model::{failover_value, Cluster, Leader, Lsn, Status, SyncState};
use pyfmt::Value;

use crate::{DcsError, Timing};

/// The answer of a conditional operation: done or refused; or nobody knows.
pub type Outcome = Result<bool, DcsError>;

/// A distributed configuration store.
///
/// `Ok(false)` is a refusal: the lock is lost, somebody else was first, the store
/// does not permit it. [`DcsError`] means that the store cannot be reached. Only
/// reading and the lock operations (acquire, update) tell the two apart; the others
/// are best effort and are `Ok(false)` for both. Every operation has a deadline of
/// about `retry_timeout`.
pub trait Dcs: Send + Sync {
    /// Reads the cluster; never an old one from memory.
    fn get_cluster(&self) -> impl Future<Output = Result<Arc<Cluster>, DcsError>> + Send;

    /// Reads the clusters of all Citus groups, by group; other keys are ignored.
    fn get_groups(&self) -> impl Future<Output = Result<BTreeMap<i64, Cluster>, DcsError>> + Send;

    /// The cluster as of the last read, while that is not older than the TTL.
    fn cached_cluster(&self) -> Option<Arc<Cluster>>;

    /// Seconds since 1970 of the last successful read; 0 before the first one.
    fn last_seen(&self) -> u64;

    /// `/failsafe` as it was last read or written.
    fn failsafe(&self) -> Option<Value>;

    /// Waits for a change that the HA loop should look at, at most for `timeout`. `following`:
    /// there is a leader and it is somebody else; the loops of followers are to run
    /// just after the leader's. True: run the next round now.
    fn watch(&self, following: bool, timeout: Duration) -> impl Future<Output = bool> + Send;

    /// Ends a [`Dcs::watch`] early.
    fn wake(&self);

    /// Counts the changes of the cluster's keys that the watch has seen. Never grows for
    /// patronictl, which does not watch, nor while the watch is broken.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Creates the leader key if there is none.
    fn acquire_leader(&self) -> impl Future<Output = Outcome> + Send;

    /// Renews our leader key; then publishes `/status` and `/failsafe` if they have
    /// changed, and does not fail if that fails. `leader` is from the cluster read last.
    fn update_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> impl Future<Output = Outcome> + Send;

    /// Puts the leader key after a bootstrap, if there is none or it is ours.
    fn take_leader(&self) -> impl Future<Output = Outcome> + Send;

    /// Publishes `last_lsn`, then deletes the leader key if it is ours.
    fn delete_leader(
        &self,
        leader: Option<&Leader>,
        last_lsn: Option<Lsn>,
    ) -> impl Future<Output = Outcome> + Send;

    /// Writes our member key if it has changed or hangs on an old lease.
    fn touch_member(&self, data: &Value) -> impl Future<Output = Outcome> + Send;

    /// Writes `/config`; with a version only if that is still the current one.
    fn set_config(&self, value: &Value, version: Option<&str>) -> impl Future<Output = Outcome> + Send;

    /// Writes the text of `/failover`; with a version only if that is still the current one.
    fn set_failover(&self, value: &str, version: Option<&str>) -> impl Future<Output = Outcome> + Send;

    /// Writes `/failover`; all None is a reset.
    fn manual_failover(
        &self,
        leader: Option<&str>,
        candidate: Option<&str>,
        scheduled_at: Option<&str>,
        version: Option<&str>,
    ) -> impl Future<Output = Outcome> + Send {
        let value = failover_value(leader, candidate, scheduled_at);
        async move { self.set_failover(&value, version).await }
    }

    /// Writes `/sync`; with a version only if that is still the current one. The new
    /// state has the version for the next compare-and-set; None: not written.
    fn write_sync(
        &self,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> impl Future<Output = Result<Option<SyncState>, DcsError>> + Send;

    /// Deletes `/sync`; with a version only if that is still the current one.
    fn delete_sync(&self, version: Option<&str>) -> impl Future<Output = Outcome> + Send;

    /// Writes the text of `/history`.
    fn set_history(&self, value: &str) -> impl Future<Output = Outcome> + Send;

    /// Writes the position to `/status` and keeps what else is known to be there.
    fn write_status(&self, last_lsn: Lsn) -> impl Future<Output = Outcome> + Send;

    /// Writes `/failsafe` if it has changed.
    fn write_failsafe(&self, value: &Value) -> impl Future<Output = Outcome> + Send;

    /// Writes `/initialize`: the race for the bootstrap with `create_new`.
    fn initialize(&self, create_new: bool, sysid: &str) -> impl Future<Output = Outcome> + Send;

    /// Deletes `/initialize`.
    fn cancel_initialization(&self) -> impl Future<Output = Outcome> + Send;

    /// Deletes the cluster's whole folder.
    fn delete_cluster(&self) -> impl Future<Output = Outcome> + Send;

    /// New durations. A new TTL makes the next [`Dcs::watch`] return at once.
    fn set_timing(&self, timing: Timing);
}
