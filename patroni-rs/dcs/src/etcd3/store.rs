//! The lower floor over etcd 3: keys, compare-and-set by revisions, leases.

use std::sync::atomic::Ordering;

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use patroni_core::model::Nodes;

use super::rpc::put_options;
use super::*;
use crate::kv::{self, Held, If, KvStore, Put, Session, Words, Written};
use crate::lock::LockRenewer;
use crate::Timing;

fn absent(key: &str) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

fn unchanged(key: &str, version: &str) -> Result<Compare, Failure> {
    let revision = version.parse().map_err(|_| Failure::Refused(format!("not a version: {version}")))?;
    Ok(Compare::mod_revision(key, CompareOp::Equal, revision))
}

/// The condition as comparisons; none: there is none.
fn compare(key: &str, condition: If<'_>) -> Result<Vec<Compare>, Failure> {
    Ok(match condition {
        If::Always => Vec::new(),
        If::Absent | If::AbsentOr(_) => vec![absent(key)],
        If::Version(version) => vec![unchanged(key, version)?],
        If::Ours { value, version } => {
            let ours = Compare::value(key, CompareOp::Equal, value);
            std::iter::once(ours).chain(version.and_then(|version| not_made_after(key, version))).collect()
        }
    })
}

/// A request that is carried out late must not hit the lock that the same node has won again since: that key was made
/// after this version was seen. (The reference compares the name alone.) The key may have been written since, by us.
fn not_made_after(key: &str, version: &str) -> Option<Compare> {
    let seen: i64 = version.parse().ok()?;
    Some(Compare::create_revision(key, CompareOp::Less, seen.saturating_add(1)))
}

/// Did the transaction, or the one in its other branch, do what it was to?
fn done(reply: &Reply) -> bool {
    let inner = |txn: &TxnResponse| {
        let nested = |op| matches!(op, TxnOpResponse::Txn(inner) if inner.succeeded());
        txn.op_responses().into_iter().any(nested)
    };
    matches!(&reply.body, Body::Txn(txn) if txn.succeeded() || inner(txn))
}

fn lease_of(put: &Put<'_>) -> i64 {
    put.owner.and_then(|session| session.id.as_deref()?.parse().ok()).unwrap_or(0)
}

impl From<Failure> for kv::Failure {
    fn from(failure: Failure) -> kv::Failure {
        match failure {
            Failure::Node(text) | Failure::Busy(text) => kv::Failure::Unknown(text),
            Failure::Token(text) | Failure::Password(text) => kv::Failure::Denied(text),
            Failure::LeaseNotFound => kv::Failure::SessionGone(Failure::LeaseNotFound.text().to_owned()),
            Failure::Refused(text) => kv::Failure::Refused(text),
        }
    }
}

impl Store {
    async fn try_put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        let lease = lease_of(&put);
        let op = TxnOp::put(put.key, put.value, put_options(lease));
        let when = compare(put.key, put.condition)?;
        if when.is_empty() {
            let rpc = Rpc::Put(put.key.to_owned(), put.value.as_bytes().to_vec(), lease);
            return Ok(Written::Done(self.pool.call(&rpc, effort).await?.revision().to_string()));
        }
        let mut txn = Txn::new().when(when).and_then([op.clone()]);
        if let If::AbsentOr(value) = put.condition {
            let ours = Compare::value(put.key, CompareOp::Equal, value);
            txn = txn.or_else([TxnOp::txn(Txn::new().when([ours]).and_then([op]))]);
        }
        let reply = self.pool.call(&Rpc::Txn(put.key.to_owned(), txn), effort).await?;
        if done(&reply) {
            return Ok(Written::Done(reply.revision().to_string()));
        }
        if !reply.repeated || !matches!(put.condition, If::Absent | If::Version(_)) {
            return Ok(Written::Refused);
        }
        // It may be our own first attempt, whose answer was lost, that was in the way.
        let found = self.pool.call(&Rpc::Get(put.key.to_owned()), effort).await?.keys();
        let ours = found.iter().find(|kv| kv.value() == put.value.as_bytes() && kv.lease() == lease);
        Ok(ours.map_or(Written::Refused, |kv| Written::Done(kv.mod_revision().to_string())))
    }

    async fn try_delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        let when = compare(key, condition)?;
        if when.is_empty() {
            let reply = self.pool.call(&Rpc::Delete(key.to_owned()), effort).await?;
            return Ok(Written::Done(reply.revision().to_string()));
        }
        let txn = Txn::new().when(when).and_then([TxnOp::delete(key, None)]);
        let reply = self.pool.call(&Rpc::Txn(key.to_owned(), txn), effort).await?;
        Ok(if done(&reply) { Written::Done(reply.revision().to_string()) } else { Written::Refused })
    }

    /// It is created under our lease, by which we know it again, and then set free of the lease: a bootstrap may take
    /// longer than the DCS is away. Not ours before that: a node that died would leave its half-made cluster and no
    /// key. Who asks again is told whether the second step was done after all. (The reference writes it at once, and a
    /// lost answer leaves a key that nobody knows to be his own, for good.)
    async fn try_claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let lease = self.lease.refresh(&self.pool, false, effort).await?;
        let put = |lease| TxnOp::put(key, "", put_options(lease));
        let create = Txn::new().when([absent(key)]).and_then([put(lease)]);
        let reply = self.pool.call(&Rpc::Txn(key.to_owned(), create), effort).await?;
        if done(&reply) {
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
        let free = Txn::new().when([ours]).and_then([put(0)]);
        if done(&self.pool.call(&Rpc::Txn(key.to_owned(), free), effort).await?) {
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
}

impl KvStore for Store {
    fn words(&self) -> Words {
        Words {
            store: "Etcd",
            session: "lease",
            not_responding: "Etcd is not responding properly",
            foreign_owner: Some("I am the leader but not owner of the lease"),
        }
    }

    crate::voice!("patroni.dcs.etcd3");

    fn timing(&self) -> Timing {
        self.pool.timing()
    }

    fn set_timing(&self, timing: Timing) -> bool {
        let ttl_changed = self.pool.timing().ttl != timing.ttl;
        self.pool.set_timing(timing);
        if ttl_changed {
            self.lease.forget();
        }
        ttl_changed
    }

    fn reload(&self, section: &Value) -> Result<(), DcsError> {
        self.pool.set_options(options(section)?);
        Ok(())
    }

    async fn list(&self, prefix: &str, effort: Effort) -> Result<Nodes, kv::Failure> {
        let reply = self.pool.call(&Rpc::List(prefix.to_owned()), effort).await?;
        Ok(nodes_of(reply, prefix.len()))
    }

    async fn put(&self, put: Put<'_>, effort: Effort) -> Result<Written, kv::Failure> {
        Ok(self.try_put(put, effort).await?)
    }

    async fn delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, kv::Failure> {
        Ok(self.try_delete(key, condition, effort).await?)
    }

    async fn delete_all(&self, prefix: &str, effort: Effort) -> Result<Written, kv::Failure> {
        let reply = self.pool.call(&Rpc::DeletePrefix(prefix.to_owned()), effort).await?;
        Ok(Written::Done(reply.revision().to_string()))
    }

    async fn session(&self, force: bool, effort: Effort) -> Result<Session, kv::Failure> {
        let lease = self.lease.refresh(&self.pool, force, effort).await?;
        Ok(Session { id: Some(lease.to_string()), granted: self.lease.granted() })
    }

    fn session_id(&self) -> Option<String> {
        self.lease.id().map(|id| id.to_string())
    }

    fn forget_session(&self) {
        self.lease.forget();
    }

    fn expect_refresh(&self) {
        self.lease.expect_refresh();
    }

    fn set_leader(&self, leader: Option<Held<'_>>) {
        let lease =
            leader.and_then(|held| Some((held.session.id.as_deref()?.parse().ok()?, held.session.granted)));
        self.lease.set_of_leader(lease);
    }

    fn let_leader_run_out(&self) {
        self.lease.leave_to_leader();
    }

    fn renewer(&self) -> Box<dyn LockRenewer> {
        Box::new(lease::Renewer::new(Arc::clone(&self.lease), LeaseKeeper::new(&self.pool)))
    }

    async fn watch(self: Arc<Self>, prefix: String, sink: Sink) {
        watcher::run(Arc::clone(&self.pool), prefix, sink).await;
    }

    async fn claim(&self, key: &str, effort: Effort) -> Result<bool, kv::Failure> {
        Ok(self.try_claim(key, effort).await?)
    }

    fn setbacks(&self) -> u64 {
        self.pool.setbacks()
    }
}
