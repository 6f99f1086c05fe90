//! A DCS that went back to an earlier state (restored from a backup, forced into a new cluster): what it tells of the last
//! leader is older than what this node has read before, and the race goes by the newer. (The reference goes by what it
//! reads: docs/safety.md S14.)

use super::cycle::Cycle;
use super::seen::Seen;
use super::types::*;
use crate::model::{Cluster, Leader, Lsn, Member, SyncState};

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
    /// `/sync` as it was read before: who may have what was acknowledged last.
    pub sync: SyncState,
    /// The cluster as it came back: its leader may be long dead, and say that it runs.
    pub told: ClusterRef,
}

impl Cycle<'_> {
    /// A new view of the cluster is about to replace the old one.
    pub(super) fn note_setback(&mut self, cluster: &ClusterRef) {
        let before = self.m.cluster.as_deref();
        if before.is_some_and(|before| cluster.setbacks != before.setbacks || tells_less(before, cluster)) {
            // Others may have led between the old state and now.
            self.m.lock.doubted();
            let (timeline, position) = (self.seen().known_timeline(), self.seen().known_position());
            let before = self.m.high_water.take();
            let sync = before.as_ref().map_or_else(|| self.cluster.sync.clone(), |mark| mark.sync.clone());
            let heard = before.and_then(|mark| mark.heard);
            self.m.high_water = Some(HighWater { timeline, position, heard, sync, told: cluster.clone() });
            let (told, on) = (cluster.status.last_lsn, cluster.timeline());
            if told < position || on < timeline {
                let (told, position) = (told.bytes(), position.bytes());
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
}

impl<'a> Seen<'a> {
    /// What the DCS told before it went back, while synchronous replication promises that nothing is lost.
    pub fn promised_before_setback(&self) -> Option<&'a HighWater> {
        self.m.high_water.as_ref().filter(|_| self.m.config.is_synchronous_mode())
    }

    /// Who has said, since the DCS went back, that it has WAL beyond `position`, while synchronous replication promises
    /// that nothing is lost. That it is silent now makes this node no better: it waits, or somebody orders a failover.
    pub fn heard_ahead(&self, position: Lsn) -> Option<(Lsn, String)> {
        self.promised_before_setback()?.heard.clone().filter(|(heard, _)| *heard > position)
    }

    /// The newest timeline that the DCS has told.
    pub fn known_timeline(&self) -> u32 {
        self.m.high_water.as_ref().map_or(0, |mark| mark.timeline).max(self.cluster.timeline())
    }

    /// The last leader's position, as far as the DCS has told.
    pub fn known_position(&self) -> Lsn {
        self.m.high_water.as_ref().map_or(Lsn::ZERO, |mark| mark.position).max(self.cluster.status.last_lsn)
    }
}

/// A leader that stops publishes where its last record begins, which is before the position of its end: two pages.
const SLACK: u64 = 16 << 10;

/// Not every store can show that it went back (Consul, Raft; ZooKeeper and Kubernetes after some ways of restoring them):
/// then what its keys tell does. Of one cluster, timelines are only added, and on one timeline a primary's position rises.
fn tells_less(before: &Cluster, now: &Cluster) -> bool {
    let one_cluster = before.initialize.is_some() && before.initialize == now.initialize;
    let timelines = |cluster: &Cluster| cluster.history.as_ref().map(|_| cluster.timeline());
    // A backup may be from before the first promotion.
    let fewer = now.timeline() < before.timeline();
    let behind = now.status.last_lsn.bytes().saturating_add(SLACK) < before.status.last_lsn.bytes();
    // Another leader may have been behind, asynchronously.
    let led = before.leader.as_ref().filter(|leader| is_keyed_primary(leader));
    let no_other = led.is_some_and(|led| {
        now.leader.as_ref().is_none_or(|leader| leader.name() == led.name() && is_keyed_primary(leader))
    });
    let on_one_timeline = no_other && timelines(before) == timelines(now);
    one_cluster && (fewer || (on_one_timeline && behind))
}

/// No standby leader, and none that failsafe mode alone knows: that has no version, and is in no key.
fn is_keyed_primary(leader: &Leader) -> bool {
    !leader.version.is_empty() && leader.member.role() != "standby_leader"
}

fn leads(member: &Member) -> bool {
    member.is_running() && matches!(member.role(), "primary" | "master" | "standby_leader")
}
