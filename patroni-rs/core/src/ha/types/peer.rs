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
            wal_position: Lsn::ZERO,
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

/// What ends a round of questions before everybody has answered; a node that was not heard is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopPolling {
    /// One answer that keeps the asking node from taking the lock.
    Outranked(LeadCriteria),
    /// So many who could take over that no further one matters.
    EnoughCandidates {
        /// Who can.
        fit: CandidateCriteria,
        /// How many are needed.
        number: usize,
    },
}

impl StopPolling {
    /// Do the answers so far decide?
    pub fn by<'a>(&self, heard: impl IntoIterator<Item = &'a PeerStatus>) -> bool {
        let mut heard = heard.into_iter();
        match self {
            StopPolling::Outranked(bar) => heard.any(|peer| bar.is_met(peer)),
            StopPolling::EnoughCandidates { fit, number } => {
                heard.filter(|peer| fit.objection(peer).is_none()).count() >= *number
            }
        }
    }
}

/// Who can take over from the leader (6-08).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateCriteria {
    /// Less WAL is too little.
    pub least: Lsn,
    /// An older timeline than the cluster's does not do; None: not looked at.
    pub timeline: Option<u32>,
}

impl CandidateCriteria {
    /// Why this peer is no candidate, in the words of the log.
    pub fn objection(&self, peer: &PeerStatus) -> Option<String> {
        let name = &peer.name;
        if let Some(why) = peer.limitation() {
            return Some(format!("Member {name} is {why}"));
        }
        if peer.wal_position < self.least {
            return Some(format!("Member {name} exceeds maximum replication lag"));
        }
        let known = self.timeline.filter(|known| peer.timeline < (*known).max(1))?;
        let theirs = peer.timeline;
        Some(format!("Timeline {theirs} of member {name} is behind the cluster timeline {known}"))
    }
}

/// Which single answer keeps a node from taking the lock, whatever the others say (5.2-10, 5.2-11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadCriteria {
    /// The asking node's position.
    pub position: Lsn,
    /// The leader in `/sync` of an active synchronous mode: it may be ahead.
    pub tolerated: Option<String>,
    /// With `check_timeline`, the cluster's last known timeline: who is behind it refuses to lead, and is not waited
    /// for. (In the reference such a peer holds up everybody.) 0: any.
    pub least_timeline: u32,
    /// Where votes count, the asking node's timeline: a later one is ahead and an earlier one behind, whatever their
    /// positions. (The reference compares positions alone, and a node with much WAL on a timeline that the cluster
    /// has left wins over those that have what was acknowledged since: docs/safety.md S10.) 0: positions alone.
    pub timeline: u32,
}

impl LeadCriteria {
    /// Does this answer decide?
    pub fn is_met(&self, peer: &PeerStatus) -> bool {
        let alive = peer.in_recovery == Some(false);
        peer.limitation().is_none() && (alive || (self.is_ahead(peer) && !self.tolerates(peer)))
    }

    /// Has the peer more WAL?
    pub fn is_ahead(&self, peer: &PeerStatus) -> bool {
        let refuses = peer.timeline > 0 && peer.timeline < self.least_timeline;
        if refuses {
            return false;
        }
        self.later_timeline(peer).unwrap_or(peer.wal_position > self.position)
    }

    /// Is the peer on a later timeline, if that counts and theirs are not the same?
    pub fn later_timeline(&self, peer: &PeerStatus) -> Option<bool> {
        let counts = self.timeline > 0 && peer.timeline > 0 && peer.timeline != self.timeline;
        counts.then_some(peer.timeline > self.timeline)
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
