//! Who reaches whom, and how long it takes.

use super::dcs::Kind;
use super::remote::REMOTE;
use super::world::World;

impl World {
    pub(super) fn reaches_dcs(&self, node: usize) -> bool {
        !self.store_down && !self.members[node].cut_from_dcs
    }

    /// What has lived its time ends: in Raft only while there is a majority that confirms it.
    pub(super) fn end_keys(&mut self, now: u64) {
        if self.config.store == Kind::Raft && self.store_down {
            return;
        }
        // A leader of the reference compares the end that the holder has written with its own wall clock.
        self.store.expire(now + self.config.leader_ahead);
    }

    /// How long the DCS takes to answer this node.
    pub(super) fn dcs_latency(&mut self, node: usize) -> u64 {
        if (self.store_slow || self.members[node].slow_dcs) && self.rng.percent(40) {
            self.rng.between(500, 12_000)
        } else {
            self.rng.between(1, 20)
        }
    }

    /// A request arrives.
    pub(super) fn packet_passes(&self, from: usize, to: usize) -> bool {
        let (a, b) = (&self.members[from], &self.members[to]);
        !a.cut_from_peers
            && !b.cut_from_peers
            && !a.no_way_to.contains(&to)
            && !b.frozen()
            && !b.stopped(self.now)
    }

    /// A request arrives, and so does its answer.
    pub(super) fn reaches_peer(&self, from: usize, to: usize) -> bool {
        if to == REMOTE {
            return self.reaches_remote(from);
        }
        self.packet_passes(from, to) && self.packet_passes(to, from)
    }
}
