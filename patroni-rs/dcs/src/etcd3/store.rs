//! The lower floor over etcd 3: keys, compare-and-set by revisions, leases.

use std::sync::atomic::Ordering;

use patroni_core::model::Nodes;

use super::rpc::{revision, Cmp, Kv, Op, Txn};
use super::*;
use crate::kv::{self, Held, If, KvStore, Put, Session, Words, Written};
use crate::lock::LockRenewer;
use crate::Timing;

/// The condition as comparisons; none: there is none.
fn compare(condition: If<'_>) -> Result<Vec<Cmp>, Failure> {
    Ok(match condition {
        If::Always => Vec::new(),
        If::Absent | If::AbsentOr(_) => vec![Cmp::Absent],
        If::Version(version) => vec![Cmp::Revision(revision(version)?)],
        If::Ours { value, version } => {
            let ours = Cmp::Value(value.to_owned());
            std::iter::once(ours).chain(version.and_then(not_made_after)).collect()
        }
    })
}

/// A request that is carried out late must not hit the lock that the same node has won again since: that key was made
/// after this version was seen. (The reference compares the name alone.) The key may have been written since, by us.
fn not_made_after(version: &str) -> Option<Cmp> {
    let seen: i64 = version.parse().ok()?;
    Some(Cmp::MadeBefore(seen.saturating_add(1)))
}

fn lease_of(put: &Put<'_>) -> i64 {
    put.owner.and_then(|session| session.id.as_deref()?.parse().ok()).unwrap_or(0)
}

/// A transaction without another branch.
fn txn(key: &str, when: Vec<Cmp>, then: Op) -> Rpc {
    Rpc::Txn(Txn { key: key.to_owned(), when, then, otherwise: None })
}

fn written(reply: &Reply) -> Written {
    match reply.body {
        Body::Txn(false) => Written::Refused,
        _ => Written::Done(reply.revision().to_string()),
    }
}

impl Store {
    async fn try_put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        let (key, lease) = (put.key, lease_of(&put));
        let op = Op::Put(put.value.to_owned(), lease);
        let when = compare(put.condition)?;
        if when.is_empty() {
            let rpc = Rpc::Put(key.to_owned(), put.value.to_owned(), lease);
            return Ok(written(&self.pool.call(&rpc, effort).await?));
        }
        let otherwise = match put.condition {
            If::AbsentOr(value) => Some((Cmp::Value(value.to_owned()), op.clone())),
            _ => None,
        };
        let rpc = Rpc::Txn(Txn { key: key.to_owned(), when, then: op, otherwise });
        let reply = self.pool.call(&rpc, effort).await?;
        let looked = matches!(put.condition, If::Absent | If::Version(_));
        if reply.succeeded() || !reply.repeated || !looked {
            return Ok(written(&reply));
        }
        // It may be our own first attempt, whose answer was lost, that was in the way.
        let found = self.pool.call(&Rpc::Get(key.to_owned()), effort).await?.keys();
        let ours = found.iter().find(|kv| kv.value == put.value && kv.lease == lease);
        Ok(ours.map_or(Written::Refused, |kv| Written::Done(kv.mod_revision.to_string())))
    }

    async fn try_delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        let when = compare(condition)?;
        let rpc = if when.is_empty() { Rpc::Delete(key.to_owned()) } else { txn(key, when, Op::Delete) };
        Ok(written(&self.pool.call(&rpc, effort).await?))
    }

    /// It is created under our lease, by which we know it again, and then set free of the lease: a bootstrap may take
    /// longer than the DCS is away. Not ours before that: a node that died would leave its half-made cluster and no
    /// key. Who asks again is told whether the second step was done after all. (The reference writes it at once, and a
    /// lost answer leaves a key that nobody knows to be his own, for good.)
    async fn try_claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let lease = self.lease.refresh(&self.pool, false, effort).await?;
        let put = |lease| Op::Put(String::new(), lease);
        let reply = self.pool.call(&txn(key, vec![Cmp::Absent], put(lease)), effort).await?;
        if reply.succeeded() {
            self.claim.store(reply.revision(), Ordering::Relaxed);
        } else {
            match self.empty_key(key, effort).await? {
                Some(found) if found.lease == lease => {
                    self.claim.store(found.create_revision, Ordering::Relaxed);
                }
                found => return Ok(self.is_claimed(found.as_ref())),
            }
        }
        if self.pool.call(&txn(key, vec![Cmp::Lease(lease)], put(0)), effort).await?.succeeded() {
            self.claim.store(0, Ordering::Relaxed);
            return Ok(true);
        }
        let found = self.empty_key(key, effort).await?;
        Ok(self.is_claimed(found.as_ref()))
    }

    async fn empty_key(&self, key: &str, effort: Effort) -> Result<Option<Kv>, Failure> {
        let found = self.pool.call(&Rpc::Get(key.to_owned()), effort).await?.keys();
        Ok(found.into_iter().find(|kv| kv.value.is_empty()))
    }

    /// Is this the key that we have made, free of the lease? An answer with yes ends the claim.
    fn is_claimed(&self, found: Option<&Kv>) -> bool {
        let claim = self.claim.load(Ordering::Relaxed);
        let ours = claim != 0 && found.is_some_and(|kv| kv.create_revision == claim && kv.lease == 0);
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
        if self.pool.set_options(EtcdOptions::from_section(section)?) {
            EtcdOptions::warn_of_unused(section);
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, effort: Effort) -> Result<Nodes, kv::Failure> {
        let reply = self.pool.call(&Rpc::List(prefix.to_owned()), effort).await?;
        Ok(nodes_of(reply, prefix))
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

    fn tells_all(&self) -> bool {
        true
    }

    fn lock_session(&self) -> Option<String> {
        self.lease.of_leader().map(|(lease, _)| lease.to_string())
    }

    async fn end_session(&self, session: &str, effort: Effort) -> Result<bool, kv::Failure> {
        let Ok(lease) = session.parse() else { return Ok(false) };
        match self.pool.call(&Rpc::Revoke(lease), effort).await {
            Ok(_) | Err(Failure::LeaseNotFound) => Ok(true),
            Err(failure) => Err(failure.into()),
        }
    }

    fn setbacks(&self) -> u64 {
        self.pool.setbacks()
    }
}
