//! What a cycle has seen, and the words for it that several questions share: functions of nothing else.

use super::cycle::Cycle;
use super::memory::Memory;
use super::types::*;
use crate::model::{Cluster, Lsn, Member};
use crate::PgVersion;

/// As far as a cycle has come.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Who this is.
    pub me: &'a LocalMember,
    /// PostgreSQL.
    pub pg: &'a PgView,
    /// What is remembered.
    pub m: &'a Memory,
    /// What the DCS has told.
    pub cluster: &'a Cluster,
    /// The watchdog works, or nobody requires it.
    pub watchdog_usable: bool,
    /// When.
    pub now: Mono,
}

impl Seen<'_> {
    /// Quorum needs `ANY n`, which needs PostgreSQL 9.6 or newer.
    pub fn is_quorum_mode(&self) -> bool {
        self.m.config.is_quorum_commit_mode() && self.pg.major_version.at_least(PgVersion::V9_6)
    }

    /// Synchronous replication is on, and `/sync` says how.
    pub fn sync_is_active(&self) -> bool {
        self.m.config.is_synchronous_mode() && !self.cluster.sync.is_empty()
    }

    /// And by quorum.
    pub fn quorum_is_active(&self) -> bool {
        self.is_quorum_mode() && !self.cluster.sync.is_empty()
    }

    /// Does the number of votes in `/sync` bind a node that wants the lock? Also after the
    /// mode was changed to `on` while nobody led: the key still tells how commits were
    /// acknowledged. (The reference forgets the votes then, and with them commits.)
    pub fn votes_are_binding(&self) -> bool {
        self.quorum_is_active() || (self.sync_is_active() && self.cluster.sync.quorum > 0)
    }

    /// All that can be asked.
    pub fn other_members(&self) -> Vec<Member> {
        let others = self.cluster.members.iter().filter(|m| m.name != self.me.name && m.api_url().is_some());
        others.cloned().collect()
    }

    /// The least position that does not lag behind it by more than `maximum_lag_on_failover`.
    pub fn least_position(&self) -> Lsn {
        self.known_position().minus(self.m.config.maximum_lag_on_failover())
    }
}

impl Cycle<'_> {
    /// All of it, by now.
    pub(super) fn seen(&self) -> Seen<'_> {
        Seen {
            me: &self.v.me,
            pg: &self.pg,
            m: &self.m,
            cluster: &self.cluster,
            watchdog_usable: self.v.watchdog.healthy,
            now: self.io.now(),
        }
    }
}
