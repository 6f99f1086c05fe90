//! Sessions (leases), and the claim to the bootstrap that is made under one.

use patroni_core::model::Node;
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
            (state.session, age.is_some_and(|age| age < state.timing.loop_wait), state.timing.ttl)
        };
        if let Some(session) = session {
            if fresh && !force {
                return Ok(session);
            }
            if let Said::Session(id, told) = self.call(Op::KeepAlive(session.0), effort).await?.0 {
                let granted = if self.kind == Kind::Etcd3 { session.1 } else { self.granted(told) };
                let mut state = self.state();
                (state.session, state.refreshed) = (Some((id, granted)), Some(state.now));
                return Ok((id, granted));
            }
            self.state().session = None;
        }
        // Consul is asked for half of it, and waits for twice what it was asked for.
        let ttl = if self.kind == Kind::Consul { ttl / 2 } else { ttl };
        match self.call(Op::Grant(ttl.as_millis() as u64), effort).await?.0 {
            Said::Session(id, told) => {
                let session = (id, self.granted(told));
                let mut state = self.state();
                (state.session, state.refreshed) = (Some(session), Some(state.now));
                Ok(session)
            }
            other => Err(Failure::Refused(format!("no session in the answer: {other:?}"))),
        }
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
