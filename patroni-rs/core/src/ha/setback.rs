//! A DCS that went back to an earlier state (restored from a backup, forced into a new cluster): what it tells of the last
//! leader is older than what this node has read before, and the race goes by the newer. (The reference goes by what it
//! reads: docs/safety.md S14.)

use super::cycle::Cycle;
use super::types::*;
use crate::model::{Lsn, Member};

/// What the DCS told of the last leader's WAL before it went back.
#[derive(Debug, Clone, PartialEq)]
pub struct HighWater {
    /// The newest timeline of `/history`.
    pub timeline: u32,
    /// The position of `/status`.
    pub position: Lsn,
    /// The furthest that another member has said it is since then, with its name: what a restored `/sync` promises knows
    /// nothing of it.
    pub heard: Option<(Lsn, String)>,
    /// The cluster as it came back: its leader may be long dead, and say that it runs.
    pub told: ClusterRef,
}

impl Cycle<'_> {
    /// A new view of the cluster is about to replace the old one.
    pub(super) fn note_setback(&mut self, cluster: &ClusterRef) {
        let went_back = self.m.cluster.is_some() && cluster.setbacks != self.cluster.setbacks;
        if went_back {
            // Others may have led between the old state and now.
            self.m.lock.doubted();
            let (timeline, position) = (self.known_timeline(), self.known_position());
            let heard = self.m.high_water.take().and_then(|mark| mark.heard);
            self.m.high_water = Some(HighWater { timeline, position, heard, told: cluster.clone() });
            let (told, on) = (cluster.status.last_lsn, cluster.timeline());
            if told < position || on < timeline {
                self.warn(format!(
                    "The DCS went back to an earlier state: it tells WAL position {told} on timeline {on}, and \
                     {position} on timeline {timeline} was seen before. The leader race goes by the latter"
                ));
            }
            return;
        }
        let leader = cluster.leader.as_ref().map(|leader| &leader.member).filter(|member| leads(member));
        let over = self.m.high_water.as_ref().zip(leader).is_some_and(|(mark, leader)| {
            // It has said so itself since.
            mark.told.get_member(&leader.name, false).is_none_or(|told| told.version != leader.version)
        });
        if over {
            self.m.high_water = None;
        }
    }

    /// Another member has more WAL than this node, it says.
    pub(super) fn note_ahead(&mut self, peer: &PeerStatus) {
        let Some(mark) = &mut self.m.high_water else { return };
        if mark.heard.as_ref().is_none_or(|(position, _)| *position < peer.wal_position) {
            mark.heard = Some((peer.wal_position, peer.name.clone()));
        }
    }

    /// Who has said, since the DCS went back, that it has WAL beyond `position`, while synchronous replication promises
    /// that nothing is lost. That it is silent now makes this node no better: it waits, or somebody orders a failover.
    pub(super) fn heard_ahead(&self, position: Lsn) -> Option<(Lsn, String)> {
        let mark = self.m.high_water.as_ref().filter(|_| self.sync_is_active())?;
        mark.heard.clone().filter(|(heard, _)| *heard > position)
    }

    /// The newest timeline that the DCS has told.
    pub(super) fn known_timeline(&self) -> u32 {
        self.m.high_water.as_ref().map_or(0, |mark| mark.timeline).max(self.cluster.timeline())
    }

    /// The last leader's position, as far as the DCS has told.
    pub(super) fn known_position(&self) -> Lsn {
        self.m.high_water.as_ref().map_or(0, |mark| mark.position).max(self.cluster.status.last_lsn)
    }
}

fn leads(member: &Member) -> bool {
    member.is_running() && matches!(member.role(), "primary" | "master" | "standby_leader")
}
