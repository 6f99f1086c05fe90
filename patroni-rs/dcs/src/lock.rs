//! Renewing the leader lock beside the HA loop, from the lock keeper's thread.

use std::time::Duration;

/// What the store has granted. The fence counts by this, never by what was wished: ZooKeeper shortens a session to
/// twenty of its ticks, etcd lengthens a lease to its least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The key lives at least that long after the request **was sent** (by whoever counts: the clock of this node
    /// starts before the store's does). A store that may end it within a range gives the lower end. (Sessions of
    /// Consul: docs/decisions/0013-consul-sessions.md.)
    pub ttl: Duration,
}

impl Granted {
    /// At most what the configuration asks for: what others believe of the lock goes by that.
    pub fn at_most(self, ttl: Duration) -> Duration {
        self.ttl.min(ttl)
    }
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The lock lives on for what was granted, counted from when the request was sent.
    Until(Granted),
    /// The store says that it is gone: the session has ended, or the key is somebody else's.
    Gone,
    /// Nobody knows (the text is for the log): no answer in time, a refusal that says nothing of the lock, or the HA
    /// loop is just moving the key to another session.
    NoAnswer(String),
}

/// Renews whatever keeps the leader key alive. Lives in the lock keeper's own thread, outside of any runtime: it makes
/// its own one (`tokio::runtime::Builder::new_current_thread`), and shares with the HA loop's side nothing that a hung
/// loop or a hung runtime could hold: plain mutexes around a few fields, connections of its own.
///
/// Where a session is one connection that both have to use (ZooKeeper), that connection is served by a thread of its own.
/// Where the renewal is a compare-and-set of the key itself (etcd v2), a renewal that is carried out late must not
/// hit another's key: it is conditional on our name.
pub trait LockRenewer: Send {
    /// Renews, and has come back after `limit` at the latest, whatever the store does. A node of the store that was
    /// silent is left: the next call begins with another one.
    fn renew(&mut self, limit: Duration) -> Renewal;
}
