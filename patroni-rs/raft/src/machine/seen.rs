//! What can be seen of a machine.

use super::*;

impl Machine {
    /// Is the leader of our own making? Its clock is then not compared with that of others.
    pub fn leader_is_alike(&self) -> bool {
        self.is_leader() || self.leader_peer().is_some_and(|leader| self.alike.contains(&leader))
    }

    /// Are we the leader?
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// The leader, as far as is known.
    pub fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    /// The other members.
    pub fn others(&self) -> &BTreeSet<Arc<str>> {
        &self.others
    }

    /// Is there a connection?
    pub fn is_connected(&self, member: &Arc<str>) -> bool {
        self.connected.contains_key(&Peer::Member(Arc::clone(member)))
    }

    /// Has everything been applied that the leader has committed?
    pub fn is_ready(&self) -> bool {
        self.leader_commit.is_some_and(|commit| self.applied >= commit)
    }

    /// Has everything been applied that was known to be committed?
    pub fn is_replayed(&self) -> bool {
        self.applied >= self.commit
    }

    /// Term, last entry, last one that is committed, last one that was applied, number of entries.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            term: self.term,
            last: self.last_index(),
            commit: self.commit,
            applied: self.applied,
            length: self.log.len() as u64,
            role: match self.role {
                Role::Follower => 0,
                Role::Candidate => 1,
                Role::Leader => 2,
            },
            leader_commit: self.leader_commit,
            readers: self.connected.keys().filter(|peer| matches!(peer, Peer::Reader(_))).count() as u64,
        }
    }

    /// What a leader knows of each peer: what it is sent next, and what it has.
    pub fn progress(&self) -> impl Iterator<Item = (&Peer, u64, u64)> {
        self.progress.iter().map(|(peer, progress)| (peer, progress.next, progress.matched))
    }
}

/// Numbers of a machine, for its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The current term.
    pub term: u64,
    /// The last entry.
    pub last: u64,
    /// The last one that is committed.
    pub commit: u64,
    /// The last one that was applied.
    pub applied: u64,
    /// How many entries there are.
    pub length: u64,
    /// 0: follower, 1: candidate, 2: leader.
    pub role: u64,
    /// How far the leader has committed, as far as was heard.
    pub leader_commit: Option<u64>,
    /// Connected peers without a vote.
    pub readers: u64,
}
