//! The guardians in the simulated world: they know the last promise that they heard,
//! and outlive their daemon.

use patroni_core::ha::guardian::{duty, Duty, Watch};
use patroni_core::ha::Mono;
use patroni_core::node::guard as told;

use super::planted::Planted;
use super::world::{Event, World};

/// A guardian of one life of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guardian {
    /// Which life.
    pub generation: u64,
    /// The postmaster that it was told of.
    pub incarnation: u64,
    /// What was promised last.
    pub promise: Option<Mono>,
}

impl World {
    /// The daemon tells its guardian what is promised now, and relieves older ones.
    pub(super) fn tell_guardian(&mut self, node: usize) {
        let stays = self.config.planted == Planted::GuardianStays;
        let member = &mut self.members[node];
        if !self.config.guardian || !(member.sees_server() || member.pg.orphans) {
            return;
        }
        let (promise, arm, server) = member.lock.promise();
        let promise = told::word(promise, server, Some(member.pg.incarnation));
        let word = Guardian { generation: member.generation, incarnation: member.pg.incarnation, promise };
        let own = member.guardians.iter_mut().find(|g| g.generation == word.generation);
        match own {
            Some(own) if *own == word => return,
            Some(own) => *own = word,
            None => member.guardians.push(word),
        }
        if !stays && told::speaks_for_itself(promise, Some(arm)) {
            member.guardians.retain(|g| g.generation == word.generation);
        }
        self.wake_guardians(node);
    }

    fn wake_guardians(&mut self, node: usize) {
        let next = self.members[node].guardians.iter().filter_map(|g| g.promise).min();
        if let Some(at) = next {
            let at = self.when(node, at).max(self.now + 1);
            self.at(at, Event::Guardian { node });
        }
    }

    /// Each guardian of a node does its duty.
    pub(super) fn guard(&mut self, node: usize) {
        let clock = self.clock(node);
        let member = &self.members[node];
        let backends = member.pg.orphans && self.config.planted != Planted::ForgetsBackends;
        let (running, incarnation) = (member.pg.running || backends, member.pg.incarnation);
        let (alive, generation) = (member.alive, member.generation);
        let (mut stopped, mut own, mut staying) = (false, false, Vec::new());
        for guardian in member.guardians.clone() {
            let watch = Watch {
                now: clock,
                promise: guardian.promise,
                daemon: alive && guardian.generation == generation,
                postmaster: running && incarnation == guardian.incarnation && !stopped,
            };
            match duty(&watch) {
                Duty::End => {}
                Duty::Stop => {
                    stopped = true;
                    own |= guardian.generation == generation;
                }
                Duty::Wait(_) => staying.push(guardian),
            }
        }
        self.members[node].guardians = staying;
        if stopped && self.config.planted != Planted::GuardianSleeps {
            self.check_guardian(node);
            // The word of one before may stand when the stop begins: nothing of its lock was renewed since.
            if own {
                self.check_orderly_stop(node, "guardian");
            }
            self.tell(node, "! guardian stops PostgreSQL");
            self.members[node].pg.crash();
        }
    }
}
