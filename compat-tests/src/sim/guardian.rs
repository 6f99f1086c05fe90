//! The guardians in the simulated world: they know the last promise that they heard,
//! and outlive their daemon.

use patroni_core::ha::guardian::{duty, Doubt, Duty, Server, Watch};
use patroni_core::ha::Mono;
use patroni_core::node::guard as told;

use super::events::Event;
use super::node::ms;
use super::planted::Planted;
use super::world::World;

/// A guardian of one life of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guardian {
    /// Which life.
    pub generation: u64,
    /// The postmaster that it was told of.
    pub incarnation: u64,
    /// What was promised last.
    pub promise: Option<Mono>,
    /// The wall clock has jumped since.
    pub doubt: Option<Doubt>,
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
        let word = Guardian {
            generation: member.generation,
            incarnation: member.pg.incarnation,
            promise,
            doubt: None,
        };
        let own = member.guardians.iter_mut().find(|g| g.generation == word.generation);
        match own {
            Some(own) if Guardian { doubt: None, ..*own } == word => return,
            Some(own) => *own = word,
            None => member.guardians.push(word),
        }
        if !stays && told::speaks_for_itself(promise, Some(arm)) {
            member.guardians.retain(|g| g.generation == word.generation);
        }
        self.wake_guardians(node);
    }

    /// The wall clock has jumped ahead. A keeper that runs says a word about it.
    pub(super) fn guardians_doubt(&mut self, node: usize, clock: Mono, ahead: u64) {
        let now = self.now;
        let member = &mut self.members[node];
        let keeper = (member.alive && !member.stopped(now)).then_some(member.generation);
        for guardian in member.guardians.iter_mut().filter(|g| Some(g.generation) != keeper) {
            guardian.doubt = Some(Doubt::after(guardian.doubt, clock, ms(ahead)));
        }
        self.wake_guardians(node);
    }

    pub(super) fn wake_guardians(&mut self, node: usize) {
        let clock = self.clock(node);
        let member = &self.members[node];
        let due = |guardian: &Guardian| match duty(&self.watch(node, guardian, clock)) {
            Duty::Wait(at) => at,
            Duty::Stop => Some(clock),
            Duty::End => None,
        };
        let next = member.guardians.iter().filter_map(due).min();
        if let Some(at) = next {
            let at = self.when(node, at).max(self.now + 1);
            self.at(at, Event::Guardian { node });
        }
    }

    /// What a guardian of a node sees.
    fn watch(&self, node: usize, guardian: &Guardian, now: Mono) -> Watch {
        let member = &self.members[node];
        let backends = member.pg.orphans && self.config.planted != Planted::ForgetsBackends;
        Watch {
            now,
            promise: guardian.promise,
            doubt: guardian.doubt,
            daemon: member.alive && guardian.generation == member.generation,
            server: match (member.pg.running, backends) {
                _ if member.pg.incarnation != guardian.incarnation => Server::Gone,
                (true, _) => Server::Lives,
                (false, true) => Server::Remains,
                (false, false) => Server::Gone,
            },
        }
    }

    /// Each guardian of a node does its duty.
    pub(super) fn guard(&mut self, node: usize) {
        let clock = self.clock(node);
        let generation = self.members[node].generation;
        let (mut stopped, mut own, mut staying) = (false, false, Vec::new());
        for guardian in self.members[node].guardians.clone() {
            let watch = self.watch(node, &guardian, clock);
            let server = if stopped { Server::Gone } else { watch.server };
            match duty(&Watch { server, ..watch }) {
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
