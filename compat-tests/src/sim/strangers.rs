//! A standby of outside that calls itself as a member does, and confirms what it is sent (patroni/patroni#3545).

use patroni_core::model::Lsn;
use patroni_core::sync::ReplicaRow;

use super::config::Config;
use super::faults::{Fault, LEADER};
use super::plan::spell;
use super::planted::Planted;
use super::rng::Rng;
use super::world::World;

/// So many `loop_wait` after a leader has seen the stranger, nothing depends on its word.
const LOOPS: u64 = 3;

/// The stranger.
#[derive(Debug, Default)]
pub(super) struct Stranger {
    /// The member whose name it bears; None: it is not there.
    poses_as: Option<usize>,
    /// The server that it receives from, which of its lives, and when that one's daemon first saw it.
    at: Option<(usize, u64, Option<u64>)>,
}

/// A stranger comes, the member whose name it bears falls behind, the leader's node dies; nothing else goes wrong.
pub(super) fn orders(seed: u64, config: &Config) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed ^ 0x57a7_6e75);
    let mut faults = Vec::new();
    let mut at = 60_000;
    for _ in 0..6 {
        let node = rng.between(0, config.members as u64 - 1) as usize;
        faults.push((at, Fault::Stranger(Some(node))));
        at += rng.between(0, (LOOPS + 4) * config.loop_wait);
        let long = rng.between(1000, 2 * config.ttl);
        match rng.between(0, 2) {
            0 => faults.extend(spell(at, long, |on| Fault::CutPeers(node, on))),
            1 => faults.extend(spell(at, long, |on| Fault::Stall(node, on))),
            _ => {}
        }
        at += long;
        faults.push((at, Fault::KillNode(LEADER, rng.between(config.ttl, 3 * config.ttl))));
        at += rng.between(2 * config.ttl, 5 * config.ttl);
        if rng.percent(50) {
            faults.push((at, Fault::Stranger(None)));
        }
    }
    faults.push((at, Fault::Stranger(None)));
    faults
}

impl World {
    pub(super) fn stranger_comes(&mut self, poses_as: Option<usize>) {
        self.stranger = Stranger { poses_as, at: None };
    }

    /// It receives from the node that leads, as those do that go by a virtual address.
    pub(super) fn stranger_connects(&mut self) {
        if self.stranger.poses_as.is_none() {
            return;
        }
        let writable = |node: &usize| {
            let member = &self.members[*node];
            member.pg.writable() && !member.frozen()
        };
        let source = (0..self.members.len()).find(writable);
        let source = source.map(|node| (node, self.members[node].pg.incarnation));
        if self.stranger.at.map(|(node, life, _)| (node, life)) != source {
            self.stranger.at = source.map(|(node, life)| (node, life, None));
        }
    }

    /// Its line in pg_stat_replication. It is always up to date, and holds no slot of a member.
    pub(super) fn stranger_row(&self, node: usize) -> Option<ReplicaRow> {
        let (source, life, _) = self.stranger.at?;
        let named = self.members.get(self.stranger.poses_as?)?;
        let lsn = Some(Lsn::new(self.members[node].pg.lsn()));
        (source == node && life == self.members[node].pg.incarnation).then(|| ReplicaRow {
            pid: -1,
            application_name: named.me.name.clone(),
            sync_state: "async".into(),
            write_lsn: lsn,
            flush_lsn: lsn,
            replay_lsn: lsn,
            slot: None,
        })
    }

    /// Nobody can do anything about a stranger before he has seen it: what it has confirmed until then is not promised.
    pub(super) fn stranger_is_news(&self, node: usize) -> bool {
        let patience = LOOPS * self.config.loop_wait;
        let seen = self.stranger.at.filter(|(source, ..)| *source == node).map(|(_, _, seen)| seen);
        seen.is_some_and(|seen| seen.is_none_or(|at| self.now < at + patience))
    }

    /// The leader looks at who streams from it; with the planted defects it does not see whose slot is held, or how many
    /// bear a name.
    pub(super) fn as_the_daemon_sees(&mut self, node: usize, mut rows: Vec<ReplicaRow>) -> Vec<ReplicaRow> {
        let Some(stranger) = self.stranger_row(node) else { return rows };
        if let Some((_, _, seen)) = &mut self.stranger.at {
            seen.get_or_insert(self.now);
        }
        let planted = self.config.planted;
        if !matches!(planted, Planted::BelievesNames | Planted::BelievesTwins) {
            return rows;
        }
        let name = stranger.application_name;
        if planted == Planted::BelievesTwins {
            rows.retain(|row| row.application_name != name || row.pid == stranger.pid);
        }
        for row in rows.iter_mut().filter(|row| row.application_name == name) {
            row.slot = Some(patroni_core::slots::member_slot_name(&name));
        }
        rows
    }
}
