//! The client as a [`KvStore`]: what differs by kind is in `kinds.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_core::model::Nodes;
use patroni_core::timing::Timing;
use patroni_dcs::kv::{Effort, Failure, Held, If, KvStore, Level, Put, Session, Words, Written};
use patroni_dcs::lock::{Granted, LockRenewer, Renewal};
use patroni_dcs::watch::Sink;
use patroni_dcs::DcsError;
use pyfmt::Value;

use super::{Client, Lock};
use crate::sim::dcs::{Kind, Op, Said};

/// The lock keeper of the simulated world is `keeper.rs`.
struct NoRenewer;

impl LockRenewer for NoRenewer {
    fn renew(&mut self, _: Duration) -> Renewal {
        Renewal::NoAnswer("simulated".into())
    }
}

impl KvStore for Client {
    fn words(&self) -> Words {
        Words {
            store: "Simulated",
            session: "session",
            not_responding: "Simulated is not responding properly",
            foreign_owner: None,
        }
    }

    fn say(&self, _: Level, _: &str) {}

    fn timing(&self) -> Timing {
        self.state().timing
    }

    fn now(&self) -> Instant {
        self.state().now
    }

    fn set_timing(&self, timing: Timing) -> bool {
        let mut state = self.state();
        let changed = state.timing.ttl != timing.ttl;
        state.timing = timing;
        if changed {
            state.session = None;
        }
        changed
    }

    fn reload(&self, _: &Value) -> Result<(), DcsError> {
        Ok(())
    }

    async fn list(&self, _: &str, effort: Effort) -> Result<Nodes, Failure> {
        match self.call(Op::List, effort).await?.0 {
            Said::Keys(nodes) => Ok(nodes),
            other => Err(Failure::Unknown(format!("{other:?}"))),
        }
    }

    async fn put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        self.put_as_kind(put, effort).await
    }

    async fn delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        self.delete_as_kind(key, condition, effort).await
    }

    async fn delete_all(&self, _: &str, _: Effort) -> Result<Written, Failure> {
        Err(Failure::Refused("nobody asks for it".into()))
    }

    async fn session(&self, force: bool, effort: Effort) -> Result<Session, Failure> {
        match self.kind {
            Kind::Etcd2 => return Ok(Session { id: None, granted: Granted { ttl: self.timing().ttl } }),
            Kind::Raft => return Ok(Session { id: None, granted: self.granted_raft() }),
            Kind::Etcd3 | Kind::Consul | Kind::ZooKeeper | Kind::Kubernetes => {}
        }
        let (id, granted) = self.refresh(force, effort).await?;
        Ok(Session { id: Some(id.to_string()), granted })
    }

    fn grants(&self) -> Option<Duration> {
        (self.kind == Kind::Raft).then(|| self.granted_raft().ttl)
    }

    fn session_id(&self) -> Option<String> {
        self.state().session.map(|(id, _)| id.to_string())
    }

    fn forget_session(&self) {
        let mut state = self.state();
        // One that is a connection is not forgotten: if it has ended, the next proof shows it.
        if self.kind == Kind::ZooKeeper {
            state.refreshed = None;
        } else {
            state.session = None;
        }
    }

    fn expect_refresh(&self) {
        self.state().due = true;
    }

    fn set_leader(&self, leader: Option<Held<'_>>) {
        let held = leader.map(|held| Lock {
            session: held.session.id.as_deref().and_then(|id| id.parse().ok()),
            granted: held.session.granted,
        });
        self.state().of_leader = held;
    }

    fn let_leader_run_out(&self) {
        let mut state = self.state();
        let held = state.of_leader.and_then(|held| held.session);
        if held.is_some() && state.session.map(|(id, _)| id) == held {
            state.session = None;
        }
    }

    fn renewer(&self) -> Box<dyn LockRenewer> {
        Box::new(NoRenewer)
    }

    async fn watch(self: Arc<Self>, _: String, _: Sink) {}

    async fn claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        match self.kind {
            Kind::Raft => self.claim_raft(key, effort).await,
            _ => self.try_claim(key, effort).await,
        }
    }

    async fn clear(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        match self.kind {
            Kind::ZooKeeper => self.put(Put::new(key, "{}").when(condition), effort).await,
            _ => self.delete(key, condition, effort).await,
        }
    }

    /// ZooKeeper ends the session.
    async fn release(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        if self.kind == Kind::Raft {
            return self.release_raft(key, condition, effort).await;
        }
        if self.kind != Kind::ZooKeeper {
            return self.delete(key, condition, effort).await;
        }
        let Some((node, _)) = self.read(key, effort).await? else { return Ok(Written::Refused) };
        let If::Ours { value, .. } = condition else { return Ok(Written::Refused) };
        let session = self.state().session.map(|(id, _)| id);
        let owned = session.filter(|id| node.value == value && node.session == Some(id.to_string()));
        let Some(id) = owned else { return Ok(Written::Refused) };
        let ended = self.write(Op::End(id), effort).await?.0;
        self.state().session = None;
        Ok(ended)
    }

    fn tells_all(&self) -> bool {
        self.kind == Kind::Etcd3
    }

    fn setbacks(&self) -> u64 {
        self.state().setbacks
    }
}
