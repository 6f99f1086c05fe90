//! The operations (surface-dcs 6, 9). The shapes of the requests are the contract's:
//! what hangs on the lease, what is conditional and on what.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use patroni_core::model::{status_value, sync_state_value, Cluster, Leader, Lsn, Status, SyncState};
use patroni_core::parse::deep_compare;
use pyfmt::{json, Value};

use super::failure::Failure;
use super::pool::Effort;
use super::rpc::{put_options, Body, Reply, Rpc};
use super::{groups_of, Etcd3, LOG};
use crate::dcs::Outcome;
use crate::{Dcs, DcsError, Timing};

/// A follower's loop begins that much after the leader's.
const FOLLOWER_DELAY: Duration = Duration::from_millis(500);

/// A lock operation that has less time than this left is not begun.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// A write on a condition.
struct Conditional<'a> {
    key: &'a str,
    value: &'a [u8],
    lease: i64,
    condition: Compare,
}

impl Conditional<'_> {
    fn txn(&self) -> Txn {
        let put = TxnOp::put(self.key, self.value, put_options(self.lease));
        Txn::new().when([self.condition.clone()]).and_then([put])
    }
}

fn absent(key: &str) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

fn unchanged(key: &str, version: &str) -> Result<Compare, Failure> {
    let revision = version.parse().map_err(|_| Failure::Refused(format!("not a version: {version}")))?;
    Ok(Compare::mod_revision(key, CompareOp::Equal, revision))
}

fn succeeded(reply: &Reply) -> bool {
    matches!(&reply.body, Body::Txn(txn) if txn.succeeded())
}

fn refused(what: &str) -> Failure {
    Failure::Refused(what.to_owned())
}

fn not_readable(failure: &Failure) -> DcsError {
    tracing::error!(target: LOG, "get_cluster: {}", failure.text());
    DcsError::Unreachable("Etcd is not responding properly".into())
}

/// The best-effort operations make no difference between the failures.
fn best_effort(result: Result<bool, Failure>) -> Outcome {
    Ok(result.unwrap_or_else(|failure| {
        tracing::error!(target: LOG, "{}", failure.text());
        false
    }))
}

/// The lock operations do: no answer is an error, an answer is a refusal. Who is not let in for want of authentication
/// or rights has learnt nothing of the lock.
fn lock_outcome(result: Result<bool, Failure>) -> Outcome {
    match result {
        Err(Failure::Node(text) | Failure::Busy(text)) => Err(DcsError::Unreachable(text)),
        Err(Failure::Token(text) | Failure::Password(text)) => {
            tracing::error!(target: LOG, "{text}");
            Err(DcsError::Unreachable(text))
        }
        other => best_effort(other),
    }
}

impl Etcd3 {
    /// The revision of the write; None when the condition did not hold.
    async fn write_if(&self, write: &Conditional<'_>, effort: Effort) -> Result<Option<i64>, Failure> {
        let reply = self.pool.call(&Rpc::Txn(write.key.to_owned(), write.txn()), effort).await?;
        if succeeded(&reply) {
            return Ok(Some(reply.revision()));
        }
        if !reply.repeated {
            return Ok(None);
        }
        // It may be our own first attempt, whose answer was lost, that was in the way.
        let found = self.pool.call(&Rpc::Get(write.key.to_owned()), effort).await?.keys();
        let ours = found.iter().find(|kv| kv.value() == write.value && kv.lease() == write.lease);
        Ok(ours.map(|kv| kv.mod_revision()))
    }

    async fn put(&self, name: &str, value: &str, effort: Effort) -> Result<bool, Failure> {
        let put = Rpc::Put(self.key(name), value.as_bytes().to_vec(), 0);
        self.pool.call(&put, effort).await.map(|_| true)
    }

    /// Puts a key, with a version only if that is still the current one.
    async fn put_version(
        &self,
        name: &str,
        value: &str,
        version: Option<&str>,
        effort: Effort,
    ) -> Result<Option<i64>, Failure> {
        let key = self.key(name);
        let value = value.as_bytes();
        match version {
            Some(version) => {
                let condition = unchanged(&key, version)?;
                self.write_if(&Conditional { key: &key, value, lease: 0, condition }, effort).await
            }
            None => {
                let reply = self.pool.call(&Rpc::Put(key, value.to_vec(), 0), effort).await?;
                Ok(Some(reply.revision()))
            }
        }
    }

    async fn delete_if(&self, key: &str, condition: Compare, effort: Effort) -> Result<bool, Failure> {
        let txn = Txn::new().when([condition]).and_then([TxnOp::delete(key, None)]);
        let reply = self.pool.call(&Rpc::Txn(key.to_owned(), txn), effort).await?;
        Ok(succeeded(&reply))
    }

    async fn create_leader_key(&self, lease: i64, effort: Effort) -> Result<bool, Failure> {
        let (key, value) = (self.key("leader"), self.settings.name.as_bytes());
        let condition = absent(&key);
        let created =
            self.write_if(&Conditional { key: &key, value, lease, condition }, effort).await?.is_some();
        self.lease.set_of_leader(created.then_some(lease));
        Ok(created)
    }

    /// The race for the bootstrap. All who race write the same empty value, so a lost answer would leave a key
    /// that nobody knows to be his own, for good (as the reference does). Therefore it is created under
    /// our lease, by which we know it again, and then set free of the lease: a bootstrap may take longer
    /// than the DCS is away. Not ours before that: a node that died would leave its half-made cluster and
    /// no key. Who asks again is told whether the second step was done after all.
    async fn claim_bootstrap(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let lease = self.lease.refresh(&self.pool, false, effort).await?;
        let write = Conditional { key, value: b"", lease, condition: absent(key) };
        let reply = self.pool.call(&Rpc::Txn(write.key.to_owned(), write.txn()), effort).await?;
        if succeeded(&reply) {
            self.claim.store(reply.revision(), Ordering::Relaxed);
        } else {
            match self.empty_key(key, effort).await? {
                Some(found) if found.lease() == lease => {
                    self.claim.store(found.create_revision(), Ordering::Relaxed);
                }
                found => return Ok(self.is_claimed(found.as_ref())),
            }
        }
        let ours = Compare::lease(key, CompareOp::Equal, lease);
        let free = Txn::new().when([ours]).and_then([TxnOp::put(key, "", put_options(0))]);
        if succeeded(&self.pool.call(&Rpc::Txn(key.to_owned(), free), effort).await?) {
            self.claim.store(0, Ordering::Relaxed);
            return Ok(true);
        }
        let found = self.empty_key(key, effort).await?;
        Ok(self.is_claimed(found.as_ref()))
    }

    async fn empty_key(&self, key: &str, effort: Effort) -> Result<Option<KeyValue>, Failure> {
        let found = self.pool.call(&Rpc::Get(key.to_owned()), effort).await?.keys();
        Ok(found.into_iter().find(|kv| kv.value().is_empty()))
    }

    /// Is this the key that we have made, free of the lease? An answer with yes ends the claim.
    fn is_claimed(&self, found: Option<&KeyValue>) -> bool {
        let claim = self.claim.load(Ordering::Relaxed);
        let ours = claim != 0 && found.is_some_and(|kv| kv.create_revision() == claim && kv.lease() == 0);
        if ours {
            self.claim.store(0, Ordering::Relaxed);
        }
        ours
    }

    async fn try_acquire(&self) -> Result<bool, Failure> {
        let (effort, deadline) = self.lock_deadline();
        // Renewed in any case: the promise of the lock counts from this question, so the lease must not be older.
        let lease = self.lease.refresh(&self.pool, true, effort).await?;
        enough_time(deadline, "attempt_to_acquire_leader timeout")?;
        match self.create_leader_key(lease, effort).await {
            Err(Failure::LeaseNotFound) => {
                self.lease.forget();
                if deadline <= Instant::now() {
                    return Err(refused("Our lease disappeared from Etcd. Deadline exceeded, giving up"));
                }
                let text = "Our lease disappeared from Etcd. Will try to get a new one and retry attempt";
                tracing::error!(target: LOG, "{text}");
                let lease = self.lease.refresh(&self.pool, false, effort).await?;
                enough_time(deadline, "_do_attempt_to_acquire_leader timeout")?;
                self.create_leader_key(lease, effort).await
            }
            other => other,
        }
    }

    /// Renewing the lease renews the key; only when the key hangs on another lease,
    /// such as one from before a restart, it has to be written.
    async fn try_update(&self, leader: &Leader) -> Result<bool, Failure> {
        let (effort, deadline) = self.lock_deadline();
        let lease = self.lease.refresh(&self.pool, true, effort).await?;
        if leader.session.as_deref() == Some(lease.to_string().as_str()) {
            self.lease.set_of_leader(Some(lease));
            return Ok(true);
        }
        enough_time(deadline, "update_leader timeout")?;
        // Without an answer nobody knows what the key hangs on.
        self.lease.set_of_leader(None);
        let (key, name) = (self.key("leader"), self.settings.name.as_str());
        let put = TxnOp::put(key.as_str(), name, put_options(lease));
        let ours = Compare::value(key.as_str(), CompareOp::Equal, name);
        // A key that is gone is not made again, as the reference does: since it was read, another may have led, and be
        // gone as well (docs/safety.md S9). Whoever wants it races for it.
        let moved = Txn::new().when([ours]).and_then([put]);
        let reply = self.pool.call(&Rpc::Txn(key, moved), effort).await?;
        let ours = succeeded(&reply);
        self.lease.set_of_leader(ours.then_some(lease));
        Ok(ours)
    }

    /// Puts the leader key if there is none or it is ours. A request that is repeated at another node may be carried
    /// out late, so that it must not hit a later leader's.
    async fn try_take(&self) -> Result<bool, Failure> {
        let effort = self.effort(true);
        let lease = self.lease.refresh(&self.pool, true, effort).await?;
        self.lease.set_of_leader(None);
        let (key, name) = (self.key("leader"), self.settings.name.as_str());
        let put = || TxnOp::put(key.as_str(), name, put_options(lease));
        let ours = Compare::value(key.as_str(), CompareOp::Equal, name);
        let over_ours = Txn::new().when([ours]).and_then([put()]);
        let taken = Txn::new().when([absent(&key)]).and_then([put()]).or_else([TxnOp::txn(over_ours)]);
        let reply = self.pool.call(&Rpc::Txn(key, taken), effort).await?;
        let inner = |txn: &TxnResponse| {
            let nested = |op| matches!(op, TxnOpResponse::Txn(inner) if inner.succeeded());
            txn.op_responses().into_iter().any(nested)
        };
        let ours = matches!(&reply.body, Body::Txn(txn) if txn.succeeded() || inner(txn));
        self.lease.set_of_leader(ours.then_some(lease));
        Ok(ours)
    }

    fn lock_deadline(&self) -> (Effort, Instant) {
        let deadline = Instant::now() + self.pool.timing().retry_timeout;
        (Effort::Until(deadline), deadline)
    }

    async fn try_touch(&self, data: &Value) -> Result<bool, Failure> {
        let lease = self.lease.refresh(&self.pool, false, self.effort(true)).await?;
        let cluster = self.published.cluster();
        let member = cluster.as_ref().and_then(|c| c.get_member(&self.settings.name, false));
        let session = lease.to_string();
        if member.is_some_and(|m| m.session.as_ref() == Some(&session) && deep_compare(data, &m.data)) {
            return Ok(true);
        }
        let put = Rpc::Put(self.settings.member_key(), json::dumps_compact(data).into_bytes(), lease);
        match self.pool.call(&put, Effort::Once).await {
            Err(Failure::LeaseNotFound) => {
                self.lease.forget();
                Err(refused("Our lease disappeared from Etcd, can not \"touch_member\""))
            }
            other => other.map(|_| true),
        }
    }

    async fn publish_status(&self, status: &Status) -> bool {
        let mut ok = true;
        if self.published.status_differs(status) {
            ok = best_effort(self.put("status", &status_value(status), Effort::Once).await) == Ok(true);
            if ok {
                self.published.status_written(status);
            }
        }
        if self.published.legacy_lsn_due(status.last_lsn) {
            let text = status.last_lsn.to_string();
            ok &= best_effort(self.put("optime/leader", &text, Effort::Once).await) == Ok(true);
        }
        ok
    }
}

/// Too late to begin: the lock could change hands while the answer is on its way.
fn enough_time(deadline: Instant, text: &str) -> Result<(), Failure> {
    if deadline.saturating_duration_since(Instant::now()) < LEAST_TIME {
        return Err(Failure::Busy(text.to_owned()));
    }
    Ok(())
}

impl Dcs for Etcd3 {
    async fn get_cluster(&self) -> Result<Arc<Cluster>, DcsError> {
        match self.nodes(self.settings.prefix()).await {
            Ok(nodes) => {
                self.warn_of_foreign_lease(&nodes);
                let cluster = Arc::new(Cluster::from_nodes(&nodes));
                self.published.loaded(&cluster, self.pool.timing().ttl);
                Ok(cluster)
            }
            Err(failure) => {
                self.published.forget_cluster();
                Err(not_readable(&failure))
            }
        }
    }

    async fn get_groups(&self) -> Result<BTreeMap<i64, Cluster>, DcsError> {
        let prefix = format!("{}/", self.settings.root_path);
        let nodes = self.nodes(prefix).await.map_err(|failure| not_readable(&failure))?;
        Ok(groups_of(nodes).iter().map(|(group, nodes)| (*group, Cluster::from_nodes(nodes))).collect())
    }

    fn cached_cluster(&self) -> Option<Arc<Cluster>> {
        self.published.cluster()
    }

    fn last_seen(&self) -> u64 {
        self.published.last_seen()
    }

    fn failsafe(&self) -> Option<Value> {
        self.published.failsafe()
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn watch(&self, following: bool, timeout: Duration) -> bool {
        // The next round is to renew the lease whatever has happened in this one.
        self.lease.expect_refresh();
        if self.take_ttl_change() {
            return true;
        }
        let timeout = if following { timeout + FOLLOWER_DELAY } else { timeout };
        tokio::time::timeout(timeout, self.wake.notified()).await.is_ok()
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    async fn acquire_leader(&self) -> Outcome {
        let result = lock_outcome(self.try_acquire().await);
        if result == Ok(false) {
            tracing::info!(target: LOG, "Could not take out TTL lock");
        }
        result
    }

    async fn update_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Outcome {
        let renewed = lock_outcome(self.try_update(leader).await)?;
        if renewed {
            if let Some(status) = status.filter(|s| s.last_lsn != 0) {
                self.publish_status(status).await;
            }
            if let Some(failsafe) = failsafe {
                self.write_failsafe(failsafe).await?;
            }
        }
        Ok(renewed)
    }

    async fn take_leader(&self) -> Outcome {
        best_effort(self.try_take().await)
    }

    async fn delete_leader(&self, leader: Option<&Leader>, last_lsn: Option<Lsn>) -> Outcome {
        if let Some(last_lsn) = last_lsn.filter(|lsn| *lsn != 0) {
            self.write_status(last_lsn).await?;
        }
        if leader.is_none() {
            return Ok(false);
        }
        let key = self.key("leader");
        let ours = Compare::value(key.as_str(), CompareOp::Equal, self.settings.name.as_str());
        self.lease.set_of_leader(None);
        let outcome = best_effort(self.delete_if(&key, ours, Effort::Once).await);
        self.published.forget_cluster();
        outcome
    }

    async fn touch_member(&self, data: &Value) -> Outcome {
        best_effort(self.try_touch(data).await)
    }

    async fn set_config(&self, value: &Value, version: Option<&str>) -> Outcome {
        let text = json::dumps_compact(value);
        best_effort(self.put_version("config", &text, version, Effort::Once).await.map(|r| r.is_some()))
    }

    async fn set_failover(&self, value: &str, version: Option<&str>) -> Outcome {
        best_effort(self.put_version("failover", value, version, Effort::Once).await.map(|r| r.is_some()))
    }

    async fn write_sync(
        &self,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> Result<Option<SyncState>, DcsError> {
        let text = sync_state_value(leader, standbys, quorum);
        // Without a version the key was not there. Written without a condition, as the
        // reference does, it could undo what a leader since has promised in it.
        let key = self.key("sync");
        let written = async {
            let condition = version.map_or_else(|| Ok(absent(&key)), |version| unchanged(&key, version))?;
            let write = Conditional { key: &key, value: text.as_bytes(), lease: 0, condition };
            self.write_if(&write, self.effort(true)).await
        };
        match written.await {
            Ok(revision) => Ok(revision.map(|r| SyncState::from_node(Some(&r.to_string()), &text))),
            Err(failure) => {
                tracing::error!(target: LOG, "{}", failure.text());
                Ok(None)
            }
        }
    }

    async fn delete_sync(&self, version: Option<&str>) -> Outcome {
        let key = self.key("sync");
        let effort = self.effort(true);
        let deleted = async {
            match version {
                Some(version) => self.delete_if(&key, unchanged(&key, version)?, effort).await,
                None => self.pool.call(&Rpc::Delete(key.clone()), effort).await.map(|_| true),
            }
        };
        best_effort(deleted.await)
    }

    async fn set_history(&self, value: &str) -> Outcome {
        best_effort(self.put("history", value, Effort::Once).await)
    }

    async fn write_status(&self, last_lsn: Lsn) -> Outcome {
        Ok(self.publish_status(&self.published.status_at(last_lsn)).await)
    }

    async fn write_failsafe(&self, value: &Value) -> Outcome {
        if !self.published.failsafe_differs(value) {
            return Ok(true);
        }
        let outcome = best_effort(self.put("failsafe", &json::dumps_compact(value), Effort::Once).await);
        if outcome == Ok(true) {
            self.published.failsafe_written(value);
        }
        outcome
    }

    async fn initialize(&self, create_new: bool, sysid: &str) -> Outcome {
        let key = self.key("initialize");
        let effort = self.effort(true);
        let written = async {
            if !create_new {
                return self.put("initialize", sysid, effort).await;
            }
            if sysid.is_empty() {
                return self.claim_bootstrap(&key, effort).await;
            }
            let condition = absent(&key);
            let write = Conditional { key: &key, value: sysid.as_bytes(), lease: 0, condition };
            self.write_if(&write, effort).await.map(|revision| revision.is_some())
        };
        best_effort(written.await)
    }

    async fn cancel_initialization(&self) -> Outcome {
        let delete = Rpc::Delete(self.key("initialize"));
        best_effort(self.pool.call(&delete, self.effort(true)).await.map(|_| true))
    }

    async fn delete_cluster(&self) -> Outcome {
        let delete = Rpc::DeletePrefix(self.settings.prefix());
        best_effort(self.pool.call(&delete, self.effort(true)).await.map(|_| true))
    }

    fn set_timing(&self, timing: Timing) {
        let ttl_changed = self.pool.timing().ttl != timing.ttl;
        self.pool.set_timing(timing);
        if ttl_changed {
            self.lease.forget();
            self.ttl_changed.store(true, Ordering::Relaxed);
        }
    }
}
