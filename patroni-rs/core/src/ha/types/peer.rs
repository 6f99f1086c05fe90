//! What the other members tell.

use pyfmt::Value;

use super::Mono;
use crate::model::Lsn;
use crate::tags::Tags;

/// A peer's answer to `GET /patroni` (surface-ha-pg 5.2).
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// Who was asked.
    pub name: String,
    /// The answer was JSON with a WAL position in it.
    pub reachable: bool,
    /// None when unreachable.
    pub in_recovery: Option<bool>,
    /// The further of received and replayed; 0 when unknown.
    pub wal_position: Lsn,
    /// 0 when unknown.
    pub timeline: u32,
    /// `watchdog_failed`.
    pub watchdog_failed: bool,
    /// Effective tags.
    pub tags: Tags,
}

impl PeerStatus {
    /// A peer that gave no usable answer.
    pub fn unreachable(name: &str) -> PeerStatus {
        PeerStatus {
            name: name.to_owned(),
            reachable: false,
            in_recovery: None,
            wal_position: 0,
            timeline: 0,
            watchdog_failed: false,
            tags: Tags::default(),
        }
    }

    /// Why this peer cannot be promoted.
    pub fn limitation(&self) -> Option<&'static str> {
        if !self.reachable {
            Some("not reachable")
        } else if self.tags.nofailover() {
            Some("not allowed to promote")
        } else if self.watchdog_failed {
            Some("not watchdog capable")
        } else {
            None
        }
    }
}

/// Which single answer keeps a node from taking the lock, whatever the others say (5.2-10, 5.2-11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisive {
    /// The asking node's position.
    pub position: Lsn,
    /// The leader in `/sync` of an active synchronous mode: it may be ahead.
    pub tolerated: Option<String>,
}

impl Decisive {
    /// Does this answer decide?
    pub fn is_met(&self, peer: &PeerStatus) -> bool {
        let alive = peer.in_recovery == Some(false);
        peer.limitation().is_none() && (alive || (self.is_ahead(peer) && !self.tolerates(peer)))
    }

    /// Has the peer more WAL?
    pub fn is_ahead(&self, peer: &PeerStatus) -> bool {
        peer.wal_position > self.position
    }

    /// May it have? Names are compared as PostgreSQL does.
    pub fn tolerates(&self, peer: &PeerStatus) -> bool {
        self.tolerated.as_ref().is_some_and(|name| name.to_lowercase() == peer.name.to_lowercase())
    }
}

/// A peer's answer to `POST /failsafe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailsafeAnswer {
    /// Who was asked.
    pub name: String,
    /// It lets us go on.
    pub accepted: bool,
    /// Its WAL position.
    pub lsn: Option<Lsn>,
}

/// The last `POST /failsafe` of a primary to this node.
#[derive(Debug, Clone, PartialEq)]
pub struct FailsafePing {
    /// `{"name","conn_url","api_url","slots"}`.
    pub data: Value,
    /// When it came.
    pub at: Mono,
}
