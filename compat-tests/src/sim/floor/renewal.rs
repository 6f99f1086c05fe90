//! What keeps the lock beside the requests of the loop: the lock keeper's renewals, and heartbeats.

use std::time::Duration;

use patroni_core::model::Node;
use patroni_core::node::Renewed;
use patroni_dcs::grant;
use patroni_dcs::lock::Granted;
use patroni_dcs::skew::Lock;

use super::Client;
use crate::sim::dcs::{Cmp, Kind, On, Op, Said};

impl Client {
    /// What is granted, by what the store says of a session's length.
    pub(super) fn granted(&self, told: u64) -> Granted {
        let told = Duration::from_millis(told);
        match self.kind {
            Kind::Etcd3 | Kind::Etcd2 | Kind::Kubernetes => Granted { ttl: told },
            Kind::Raft => self.granted_raft(),
            Kind::Consul => Granted { ttl: 2 * told },
            Kind::ZooKeeper => {
                let timing = self.state().timing;
                grant::promise(grant::Session { asked: timing.ttl, granted: told }, &timing)
            }
        }
    }

    /// The session that the leader key is known to be attached to, if it is ours.
    pub fn lock_session(&self) -> Option<u64> {
        self.state().of_leader?.session
    }

    /// What a renewal of the lock asks, one after the other, and the session that it is about; None: what the key is
    /// attached to is not known, or was left.
    pub fn renewal(&self) -> Option<(Vec<Op>, Option<u64>)> {
        let moment = if self.kind == Kind::Raft { self.nonce() } else { 0 };
        let mut state = self.state();
        let held = state.of_leader?;
        let session = held.session;
        let ops = match self.kind {
            Kind::Etcd2 => vec![Op::Put {
                key: "leader".into(),
                value: self.name.clone(),
                on: On::Ttl(state.timing.ttl.as_millis() as u64),
                when: vec![Cmp::Value(self.name.clone())],
            }],
            Kind::Raft => vec![Op::Put {
                key: "leader".into(),
                value: self.name.clone(),
                on: On::Moment(Some(state.timing.ttl.as_millis() as u64), moment),
                when: vec![Cmp::Value(self.name.clone())],
            }],
            Kind::Etcd3 | Kind::Consul => vec![Op::KeepAlive(session?)],
            // See `pods.rs`.
            Kind::Kubernetes => return None,
            Kind::ZooKeeper => {
                // Only who has the session may keep it alive.
                state.alive = state.now;
                let ours = state.session.map(|(id, _)| id) == session;
                vec![Op::KeepAlive(session.filter(|_| ours)?), Op::Get("leader".into())]
            }
        };
        Some((ops, session))
    }

    /// What it came to, by the answers.
    pub fn renewed(&self, said: &[Said]) -> Renewed {
        let held = self.state().of_leader;
        match (self.kind, said) {
            (_, [Said::NoSession | Said::Refused, ..]) => Renewed::Gone,
            (Kind::Etcd2, [Said::Done(_)]) => Renewed::Until(self.state().timing.ttl),
            (Kind::Raft, [Said::Done(_)]) if self.lock_raft() == Lock::Ended => Renewed::Gone,
            (Kind::Raft, [Said::Done(_)]) => Renewed::Until(self.granted_raft().ttl),
            (Kind::Etcd3, [Said::Session(..)]) => {
                held.map_or(Renewed::Unanswered, |held| Renewed::Until(held.granted.ttl))
            }
            (Kind::Consul, [Said::Session(_, told)]) => Renewed::Until(self.granted(*told).ttl),
            (Kind::ZooKeeper, [Said::Session(id, told), Said::Key(found)]) => {
                let session = Some(id.to_string());
                let ours = |(node, _): &(Node, u64)| node.session == session && node.value == self.name;
                if found.as_ref().is_some_and(ours) {
                    Renewed::Until(self.granted(*told).ttl)
                } else {
                    Renewed::Gone
                }
            }
            _ => Renewed::Unanswered,
        }
    }

    /// How long until the next heartbeat, and the session that it is for; None in it: the loop was not heard of for too
    /// long, or there is none.
    pub fn heartbeat(&self) -> (Duration, Option<u64>) {
        let state = self.state();
        let every = grant::ping_interval(&state.timing, state.timing.ttl);
        let heard = state.now.saturating_duration_since(state.alive) < state.timing.allowance();
        (every, state.session.map(|(id, _)| id).filter(|_| heard))
    }
}
