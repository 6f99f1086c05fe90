//! The lower floor over etcd's v2 API.

use std::sync::atomic::Ordering;
use std::time::Duration;

use patroni_core::mutex::locked;

use patroni_core::model::{Node, Nodes};

use super::renewer::Renewer;
use super::wire::{self, Body, Cond, Rpc};
use super::*;
use crate::etcd::wire::Reply;
use crate::kv::{self, Effort, Held, If, KvStore, Put, Session, Words, Written};
use crate::lock::{Granted, LockRenewer};
use crate::watch::{Sink, PAUSE};
use crate::Timing;

const LOG: &str = "patroni.dcs.etcd";

fn cond(condition: If<'_>) -> Option<Cond> {
    match condition {
        If::Always => None,
        If::Absent | If::AbsentOr(_) => Some(Cond::Absent),
        If::Version(version) => Some(Cond::Index(version.to_owned())),
        If::Ours { value, .. } => Some(Cond::Value(value.to_owned())),
    }
}

fn written(reply: &Reply<Body>) -> Written {
    match &reply.body {
        Body::Node(Some(node)) => Written::Done(node.modified.to_string()),
        Body::Node(None) => Written::Done(String::new()),
        _ => Written::Refused,
    }
}

impl Store {
    async fn try_put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        let ttl = put.owner.map(|session| session.granted.ttl.as_secs());
        let rpc = |when| Rpc::Put { key: put.key.to_owned(), value: put.value.to_owned(), ttl, when };
        if let If::Version(version @ ("0" | "")) = put.condition {
            // etcd takes an index of 0 for none at all.
            return Err(Failure::Refused(format!("not a version: {version:?}")));
        }
        let reply = self.pool.call(&rpc(cond(put.condition)), effort).await?;
        if written(&reply).is_done() {
            return Ok(written(&reply));
        }
        match put.condition {
            If::AbsentOr(value) => {
                let ours = Some(Cond::Value(value.to_owned()));
                Ok(written(&self.pool.call(&rpc(ours), effort).await?))
            }
            // It may be our own first attempt, whose answer was lost, that was in the way. Nobody else writes our name;
            // but the key may be an old one of ours, with less time left.
            If::Absent if reply.repeated && ttl.is_some() => {
                let ours = Some(Cond::Value(put.value.to_owned()));
                Ok(written(&self.pool.call(&rpc(ours), effort).await?))
            }
            If::Version(_) if reply.repeated => {
                let found = self.read(put.key, effort).await?;
                let ours = found.filter(|node| node.value.as_deref() == Some(put.value));
                Ok(ours.map_or(Written::Refused, |node| Written::Done(node.modified.to_string())))
            }
            _ => Ok(Written::Refused),
        }
    }

    async fn read(&self, key: &str, effort: Effort) -> Result<Option<wire::Node>, Failure> {
        match self.pool.call(&Rpc::Get(key.to_owned()), effort).await?.body {
            Body::Node(node) => Ok(node),
            _ => Ok(None),
        }
    }

    /// It is created with a TTL, and then without one at the index that made it: who has heard of that knows that it is
    /// his own, and what nobody has heard of ends by itself. (The reference writes it at once, and a lost answer leaves a
    /// key that nobody knows to be his own, for good.)
    async fn try_claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let put = |ttl, when| Rpc::Put { key: key.to_owned(), value: String::new(), ttl, when: Some(when) };
        let ttl = Some(self.pool.timing().ttl.as_secs());
        let reply = self.pool.call(&put(ttl, Cond::Absent), effort).await?;
        let Body::Node(Some(node)) = reply.body else {
            let claim = self.claim.load(Ordering::Relaxed);
            let found = self.read(key, effort).await?;
            let ours = found.is_some_and(|n| claim != 0 && n.created == claim && n.ttl.is_none());
            if ours {
                self.claim.store(0, Ordering::Relaxed);
            }
            return Ok(ours);
        };
        self.claim.store(node.created, Ordering::Relaxed);
        let free = put(None, Cond::Index(node.modified.to_string()));
        let reply = self.pool.call(&free, effort).await?;
        if written(&reply).is_done() {
            self.claim.store(0, Ordering::Relaxed);
            return Ok(true);
        }
        // Repeated, and its first attempt was carried out?
        let found = self.read(key, effort).await?;
        Ok(found.is_some_and(|n| n.created == node.created && n.ttl.is_none()))
    }
}

/// The condition under which a key that was just read is the same; None: it is not ours.
fn as_it_is(found: &wire::Node, ours: &str) -> Option<Cond> {
    let same = found.value.as_deref() == Some(ours) && found.modified > 0;
    same.then(|| Cond::Index(found.modified.to_string()))
}

/// The keys below a directory, by their names without `prefix`.
fn leaves(node: wire::Node, prefix: &str, found: &mut Vec<(String, wire::Node)>) {
    if node.dir {
        node.nodes.into_iter().for_each(|node| leaves(node, prefix, found));
    } else if let Some(name) = node.key.strip_prefix(prefix) {
        found.push((name.to_owned(), node));
    }
}

fn directory(prefix: &str) -> String {
    prefix.trim_end_matches('/').to_owned()
}

impl KvStore for Store {
    fn words(&self) -> Words {
        Words {
            store: "Etcd",
            session: "ttl",
            not_responding: "Etcd is not responding properly",
            foreign_owner: None,
        }
    }

    crate::voice!("patroni.dcs.etcd");

    fn timing(&self) -> Timing {
        self.pool.timing()
    }

    fn set_timing(&self, timing: Timing) -> bool {
        let ttl_changed = self.pool.timing().ttl != timing.ttl;
        self.pool.set_timing(timing);
        ttl_changed
    }

    fn reload(&self, section: &Value) -> Result<(), DcsError> {
        if self.pool.set_options(EtcdOptions::from_section(section)?) {
            EtcdOptions::warn_of_unused(section);
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, effort: Effort) -> Result<Nodes, kv::Failure> {
        let mut found = Vec::new();
        if let Some(node) = self.read(&directory(prefix), effort).await? {
            leaves(node, prefix, &mut found);
        }
        let node = |node: wire::Node| Node {
            value: node.value.unwrap_or_default(),
            version: node.modified.to_string(),
            modify_version: None,
            session: node.ttl.map(|ttl| ttl.to_string()),
        };
        Ok(found.into_iter().map(|(name, found)| (name, node(found))).collect())
    }

    async fn put(&self, put: Put<'_>, effort: Effort) -> Result<Written, kv::Failure> {
        Ok(self.try_put(put, effort).await?)
    }

    async fn delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, kv::Failure> {
        let delete = Rpc::Delete(key.to_owned(), cond(condition));
        Ok(written(&self.pool.call(&delete, effort).await?))
    }

    /// As the key is now, and no other: a delete that is carried out late must not hit the lock that we have won again.
    /// (etcd v2 cannot compare the index that made a key, and the reference compares the name. Each write changes this
    /// index: so once more, where a renewal came in between.)
    async fn release(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, kv::Failure> {
        let If::Ours { value, .. } = condition else { return self.delete(key, condition, effort).await };
        for _ in 0..2 {
            let found = self.read(key, effort).await?;
            let Some(when) = found.and_then(|found| as_it_is(&found, value)) else { break };
            let released = written(&self.pool.call(&Rpc::Delete(key.to_owned(), Some(when)), effort).await?);
            if released.is_done() {
                return Ok(released);
            }
        }
        Ok(Written::Refused)
    }

    async fn delete_all(&self, prefix: &str, effort: Effort) -> Result<Written, kv::Failure> {
        Ok(written(&self.pool.call(&Rpc::DeleteAll(directory(prefix)), effort).await?))
    }

    async fn session(&self, _: bool, _: Effort) -> Result<Session, kv::Failure> {
        let ttl = Duration::from_secs(self.pool.timing().ttl.as_secs());
        Ok(Session { id: None, granted: Granted { ttl } })
    }

    fn session_id(&self) -> Option<String> {
        None
    }

    fn forget_session(&self) {}

    fn expect_refresh(&self) {}

    fn set_leader(&self, leader: Option<Held<'_>>) {
        let held = leader.map(|held| (held.key.to_owned(), held.value.to_owned()));
        *locked(&self.leader) = held;
    }

    fn let_leader_run_out(&self) {}

    fn renewer(&self) -> Box<dyn LockRenewer> {
        Box::new(Renewer::new(Arc::clone(&self.leader), self.pool.separate()))
    }

    async fn watch(self: Arc<Self>, prefix: String, mut sink: Sink) {
        loop {
            if let Err(failure) = self.follow(&prefix, &mut sink).await {
                tracing::error!(target: LOG, "watch failed: {}", failure.text());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn claim(&self, key: &str, effort: Effort) -> Result<bool, kv::Failure> {
        Ok(self.try_claim(key, effort).await?)
    }

    fn setbacks(&self) -> u64 {
        self.pool.setbacks()
    }
}

impl Store {
    /// Lists, then waits for one change after the other. Returns when the list has to be read again.
    async fn follow(&self, prefix: &str, sink: &mut Sink) -> Result<(), Failure> {
        let mut selected = self.pool.selected();
        let list = self.pool.call(&Rpc::Get(directory(prefix)), self.pool.deadline()).await?;
        let mut next = u64::try_from(list.revision()).unwrap_or(0) + 1;
        let mut found = Vec::new();
        if let Body::Node(Some(node)) = list.body {
            leaves(node, prefix, &mut found);
        }
        let order = |node: &wire::Node| i64::try_from(node.modified).unwrap_or(i64::MAX);
        let keys: Vec<_> = found
            .into_iter()
            .map(|(name, node)| (name, node.value.clone().unwrap_or_default(), order(&node)))
            .collect();
        sink.listed(&keys);
        let url = selected.borrow_and_update().clone();
        let mut conn = self.pool.connect_for_watch(&url).await?;
        loop {
            let wait = Rpc::Wait(directory(prefix), next);
            // Whoever waits does not notice that the other side is gone.
            let waiting = crate::etcd::wire::Wire::send(&Wire, &mut conn, &wait);
            let reply = tokio::select! {
                reply = tokio::time::timeout(self.pool.timing().ttl, waiting) => match reply {
                    Ok(reply) => reply?,
                    Err(_) => continue,
                },
                changed = selected.changed() => return changed.map_err(|e| Failure::Node(e.to_string())),
            };
            match reply.body {
                Body::Change(action, node) => {
                    next = node.modified + 1;
                    let gone = ["delete", "expire", "compareAndDelete"].contains(&action.as_str());
                    if gone && node.dir {
                        // A directory went: which keys were in it is not said.
                        return Ok(());
                    }
                    let value = if gone { None } else { node.value.as_deref() };
                    let Some(name) = node.key.strip_prefix(prefix) else { continue };
                    sink.changed(name, value, order(&node));
                }
                // Not remembered any more: another list.
                _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_as_it_was_read() {
        let node =
            |value: &str, modified| wire::Node { value: Some(value.into()), modified, ..Default::default() };
        let when = |found: wire::Node| match as_it_is(&found, "n1") {
            Some(Cond::Index(index)) => Some(index),
            _ => None,
        };
        assert_eq!(when(node("n1", 7)), Some("7".to_owned()));
        assert_eq!(when(node("n2", 7)), None);
        // etcd takes an index of 0 for none at all.
        assert_eq!(when(node("n1", 0)), None);
    }
}
