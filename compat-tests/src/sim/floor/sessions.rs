//! Sessions (leases), and the claim to the bootstrap that is made under one.

use std::time::Duration;

use patroni_core::model::Node;
use patroni_core::timing::Timing;
use patroni_dcs::kv::{Effort, Failure, KvStore, Written};
use patroni_dcs::lock::Granted;

use super::{bare, Client};
use crate::sim::dcs::{Cmp, Kind, On, Op, Said};

impl Client {
    /// Our session, kept alive if that is due; or a new one.
    pub(super) async fn refresh(&self, force: bool, effort: Effort) -> Result<(u64, Granted), Failure> {
        let (session, fresh, ttl) = {
            let mut state = self.state();
            state.alive = state.now;
            let age = state.refreshed.map(|at| state.now.saturating_duration_since(at));
            let leads = state.session.map(|(id, _)| Some(id)) == state.of_leader.map(|held| held.session);
            let fresh = age.is_some_and(|age| self.is_fresh(age, state.due, leads, &state.timing));
            (state.session, fresh, state.timing.ttl)
        };
        if let Some(session) = session {
            if fresh && !force {
                return Ok(session);
            }
            let sent = self.now();
            if let Said::Session(id, told) = self.call(Op::KeepAlive(session.0), effort).await?.0 {
                let granted = if self.kind == Kind::Etcd3 { session.1 } else { self.granted(told) };
                let mut state = self.state();
                (state.session, state.refreshed, state.due) = (Some((id, granted)), Some(sent), false);
                return Ok((id, granted));
            }
            self.state().session = None;
        }
        // Consul is asked for half of it, and waits for twice what it was asked for.
        let ttl = if self.kind == Kind::Consul { ttl / 2 } else { ttl };
        let sent = self.now();
        match self.call(Op::Grant(ttl.as_millis() as u64), effort).await?.0 {
            Said::Session(id, told) => {
                let session = (id, self.granted(told));
                let mut state = self.state();
                (state.session, state.refreshed, state.due) = (Some(session), Some(sent), false);
                Ok(session)
            }
            other => Err(Failure::Refused(format!("no session in the answer: {other:?}"))),
        }
    }

    /// As each store has it; of etcd v3 see `etcd3/lease.rs`.
    fn is_fresh(&self, age: Duration, due: bool, leads: bool, timing: &Timing) -> bool {
        let same_cycle = !due && age < timing.loop_wait;
        let leader = leads && age + timing.loop_wait <= timing.ttl * 2 / 3;
        same_cycle || (self.kind == Kind::Etcd3 && (timing.still_stands(age) || leader))
    }

    /// Made under our session (etcd v2: with a ttl), by which we know it again, and then set free of it.
    pub(super) async fn try_claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let on = match self.kind {
            Kind::Etcd2 => On::Ttl(self.timing().ttl.as_millis() as u64),
            _ => On::Session(self.refresh(false, effort).await?.0),
        };
        let put = |on, when| Op::Put { key: bare(key), value: String::new(), on, when: vec![when] };
        let empty = |found: Option<(Node, u64)>| found.filter(|(node, _)| node.value.is_empty());
        let made = match (self.write(put(on, Cmp::Absent), effort).await?.0, on) {
            (Written::Done(_), _) => empty(self.read(key, effort).await?),
            (Written::Refused, On::Session(id)) => {
                let found = empty(self.read(key, effort).await?);
                match &found {
                    Some((node, _)) if node.session == Some(id.to_string()) => found,
                    _ => return Ok(self.is_claimed(found)),
                }
            }
            (Written::Refused, _) => return Ok(self.is_claimed(empty(self.read(key, effort).await?))),
        };
        let Some((node, created)) = made else { return Ok(false) };
        self.state().claim = created;
        let ours = match on {
            On::Session(id) => Cmp::Session(id),
            _ => Cmp::Version(node.version.parse().unwrap_or(0)),
        };
        if self.write(put(On::Nothing, ours), effort).await?.0.is_done() {
            self.state().claim = 0;
            return Ok(true);
        }
        let found = empty(self.read(key, effort).await?);
        Ok(self.is_claimed(found))
    }

    /// Is this the key that we have made, free of what it hung on?
    fn is_claimed(&self, found: Option<(Node, u64)>) -> bool {
        let mut state = self.state();
        // Where the owner of a key cannot be changed, it was made anew.
        let anew = matches!(self.kind, Kind::Consul | Kind::ZooKeeper);
        let ours = state.claim != 0
            && found.is_some_and(|(node, made)| (anew || made == state.claim) && node.session.is_none());
        if ours {
            state.claim = 0;
        }
        ours
    }
}
