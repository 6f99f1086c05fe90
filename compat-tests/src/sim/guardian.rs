//! The guardians in the simulated world: they know the last promise that they heard,
//! and outlive their daemon.

use patroni_core::ha::guardian::{duty, Doubt, Duty, Held, Server, Watch};
use patroni_core::ha::Mono;
use patroni_core::node::guard as told;

use super::dcs::{Kind, Op};
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
    /// The lock that was held then, and the session that it is under.
    pub held: Option<(Held, u64)>,
    /// Since when there is neither this daemon nor its server.
    pub vacant: Option<Mono>,
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
            held: member.lock.held().zip(member.upper.store().lock_session()),
            vacant: None,
        };
        let own = member.guardians.iter_mut().find(|g| g.generation == word.generation);
        match own {
            Some(own) if Guardian { doubt: None, vacant: None, ..*own } == word && member.told_arm == arm => {
                return
            }
            Some(own) => *own = word,
            None => member.guardians.push(word),
        }
        member.told_arm = arm;
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
        self.note_vacancy(node, clock);
        let member = &self.members[node];
        let due = |guardian: &Guardian| match duty(&self.watch(node, guardian, clock)) {
            Duty::Wait(at) => at,
            Duty::Stop | Duty::Release => Some(clock),
            Duty::End => None,
        };
        let next = member.guardians.iter().filter_map(due).min();
        if let Some(at) = next {
            let at = self.when(node, at).max(self.now + 1);
            self.at(at, Event::Guardian { node });
        }
    }

    fn note_vacancy(&mut self, node: usize, clock: Mono) {
        for place in 0..self.members[node].guardians.len() {
            let watch = self.watch(node, &self.members[node].guardians[place], clock);
            let guardian = &mut self.members[node].guardians[place];
            if !watch.daemon && watch.server == Server::Gone {
                guardian.vacant.get_or_insert(clock);
            }
        }
    }

    /// It has the lock given up: the session that it was told of ends, as far as the store can be reached.
    fn release(&mut self, node: usize, guardian: &Guardian) {
        let pg = &self.members[node].pg;
        let proven = !pg.running && !pg.orphans || self.config.planted == Planted::ReleasesUnproven;
        let session = guardian.held.map(|(_, session)| session).filter(|_| proven && self.reaches_dcs(node));
        if let Some(session) = session.filter(|_| self.config.store == Kind::Etcd3) {
            self.tell(node, "! guardian gives the lock up");
            let now = self.now;
            self.store.carry_out(&Op::End(session), now);
        }
    }

    /// What a guardian of a node sees.
    fn watch(&self, node: usize, guardian: &Guardian, now: Mono) -> Watch {
        let member = &self.members[node];
        let forgets = [Planted::ForgetsBackends, Planted::ReleasesUnproven].contains(&self.config.planted);
        let backends = member.pg.orphans && !forgets;
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
            held: guardian.held.map(|(held, _)| held),
            vacant: guardian.vacant,
        }
    }

    /// Each guardian of a node does its duty.
    pub(super) fn guard(&mut self, node: usize) {
        let clock = self.clock(node);
        self.note_vacancy(node, clock);
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
                    if !watch.daemon {
                        staying.push(Guardian { promise: None, ..guardian });
                    }
                }
                Duty::Release => self.release(node, &guardian),
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
        // The lock is given up later, where its daemon has died.
        if stopped {
            self.wake_guardians(node);
        }
    }
}
