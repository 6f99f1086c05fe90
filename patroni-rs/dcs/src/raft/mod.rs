//! Raft without a store (surface-dcs 15): each node is a member of a PySyncObj cluster, and reads its own copy.
//!
//! The member itself is `patroni-raft`. Here is what the reference's `Raft` class does with it, with two differences that
//! docs/stores/raft.md explains: what is read is confirmed by a majority first, and a deletion is never of what is not
//! there.

mod options;
mod renewer;
mod store;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use patroni_core::mutex::locked;
use patroni_raft::clock::{self, PROBES};
use patroni_raft::node::{self, Asker, Node};
use pyfmt::Value;

use crate::keys::{Keys, START_PAUSE};
use crate::skew::{self, Ahead, Leader, Lock, Wrong};
use crate::{DcsError, Settings, Timing};
pub use options::member_config;

/// The store: a member, or a reader.
pub struct Store {
    node: Node,
    timing: Arc<Mutex<Timing>>,
    /// The leader key and our name, while it is ours.
    leader: Arc<Mutex<Option<(String, String)>>>,
    clocks: Clocks,
    /// A claim to the bootstrap of which nobody knows what became of it.
    claim: Mutex<store::Claim>,
}

/// The cluster's keys in Raft.
pub type Raft = Keys<Store>;

impl Raft {
    /// Starts the member. Waits until it has what the leader has, or, where there is none, what its own files know; as
    /// long as it takes.
    ///
    /// # Errors
    /// The section makes no member.
    pub async fn start(settings: Settings, section: &Value) -> Result<Raft, DcsError> {
        let config =
            member_config(section, settings.ctl, settings.timing.retry_timeout).map_err(DcsError::Config)?;
        let node = Node::start(config).map_err(DcsError::Config)?;
        let mut standing = node.watch_standing();
        let mut is_ready = settings.ctl;
        // patronictl asks at once.
        while !is_ready {
            let ready = standing.wait_for(|standing| standing.ready);
            let ready = tokio::time::timeout(START_PAUSE, ready).await.is_ok();
            // Without a leader it goes on with what it has: reads fail until a majority is there.
            is_ready = ready || standing.borrow().replayed;
            if !is_ready {
                tracing::info!(target: "patroni.dcs.raft", "waiting on raft");
            }
        }
        if !settings.ctl {
            node.measure_leader(&settings.name, skew::measured(settings.timing.ttl));
        }
        let (timing, clocks) = (Arc::new(Mutex::new(settings.timing)), Clocks::new(&node, &settings.name));
        let store = Store { node, timing, leader: Arc::default(), clocks, claim: Mutex::default() };
        Ok(Keys::over(settings, "raft", store).await)
    }
}

/// The clocks of others, as far as they count for the lock. Says once what is wrong with them.
#[derive(Clone)]
struct Clocks {
    asker: Asker,
    /// Ours: keys with it are written by our own clock.
    name: Arc<str>,
    said: Arc<Mutex<Option<Wrong>>>,
}

impl Clocks {
    fn new(node: &Node, name: &str) -> Clocks {
        Clocks { asker: node.asker(), name: name.into(), said: Arc::default() }
    }

    /// For how long a lock lives that is written now. A leader of the reference compares the end that we write, by our wall
    /// clock, with its own. (A leader of ours does not.)
    fn lock(&self, ttl: Duration) -> Lock {
        if self.asker.leader_is_alike() {
            return Lock::Lives(ttl);
        }
        let (now, wall) = (node::now(), node::wall());
        let other = self.asker.view(|kv| {
            let ours = |key: &str| is_ours(&self.name, key, kv.get(key).map(|item| &*item.value));
            kv.ahead(now, wall, ours).map(|(key, by)| (key.to_owned(), by))
        });
        let leader = match self.asker.leader_ahead() {
            clock::Ahead::Unknown => Leader::Unknown,
            clock::Ahead::AtMost(by) => Leader::AtMost(by),
            clock::Ahead::By(by) => Leader::By(by),
            clock::Ahead::Far => Leader::Far,
        };
        let ahead = Ahead { leader, other: other.as_ref().map_or(0.0, |(_, by)| *by) };
        self.say(ttl, ahead, other.map_or_else(String::new, |(key, _)| key));
        ahead.lock(ttl)
    }

    /// `other`: the key of the one whose clock may be wrong.
    fn say(&self, ttl: Duration, ahead: Ahead, other: String) {
        let mut said = locked(&self.said);
        if ahead.is_right() {
            *said = None;
        }
        let Some(wrong) = ahead.wrong() else { return };
        if !wrong.is_news(*said) {
            return;
        }
        *said = Some(wrong);
        let (by, who) = match wrong {
            Wrong::Leader(by) => {
                (by, self.asker.leader().map_or_else(String::new, |leader| leader.to_string()))
            }
            Wrong::Other(by) => (by, other),
        };
        if by.is_infinite() {
            tracing::error!(
                target: "patroni.dcs.raft",
                "The clock of {who}, which leads Raft, is ahead of ours by {} s or more, about half of the ttl: it ends a \
                 leader lock before its time. None of ours is taken or held until the clocks are set right",
                skew::measured(ttl).as_secs()
            );
        } else {
            tracing::warn!(
                target: "patroni.dcs.raft",
                "The clock of {who} is ahead of ours by {by:.1} s: while a member of the reference leads Raft, a leader \
                 lock is not counted on for so long before its end"
            );
        }
    }
}

/// Is a key written by the node with that name? Then its moments are those of our own clock.
fn is_ours(name: &str, key: &str, value: Option<&str>) -> bool {
    match key.rsplit_once('/') {
        Some((place, last)) if last == name => place.ends_with("/members") || place == PROBES,
        Some((_, "leader")) => value == Some(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_written_by_our_own_clock() {
        for (key, value, ours) in [
            ("/service/batman/members/n1", "{}", true),
            ("/service/batman/0/members/n1", "{}", true),
            ("/service/batman/members/n2", "{}", false),
            ("/service/batman/leader", "n1", true),
            ("/service/batman/leader", "n2", false),
            ("/patroni-rs/clock/n1", "1.5", true),
            ("/patroni-rs/clock/n2", "1.5", false),
            ("/service/n1", "", false),
        ] {
            assert_eq!(is_ours("n1", key, Some(value)), ours, "{key} {value}");
        }
    }
}
