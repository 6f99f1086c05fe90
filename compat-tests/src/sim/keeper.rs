//! The lock keeper's thread in the simulated world.

use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::keeper::Next;
use patroni_core::ha::Mono;
use patroni_core::node::Renewed;

use super::dcs::{Kind, Op, Said};
use super::events::Event;
use super::floor::Upper;
use super::node::ms;
use super::planted::Planted;
use super::world::World;

impl World {
    pub(super) fn keep(&mut self, node: usize) {
        self.members[node].keeper_at = 0;
        if !self.members[node].alive || self.members[node].renewing || self.members[node].reference {
            return;
        }
        let clock = self.clock(node);
        match self.members[node].lock.next(clock) {
            Next::Idle | Next::WaitUntil(_) => {}
            Next::Fence => {
                let incarnation = self.members[node].pg.incarnation;
                if self.config.planted != Planted::FencesLate {
                    return self.fence(node, incarnation);
                }
                let late = self.members[node].lock.fence_margin().as_millis() as u64 + 5000;
                let at = self.now + late;
                self.at(at, Event::Fence { node, incarnation });
            }
            Next::Renew => self.send_renewal(node, clock),
        }
    }

    pub(super) fn fence(&mut self, node: usize, incarnation: u64) {
        if self.config.planted == Planted::NoDemotion || self.members[node].pg.incarnation != incarnation {
            return;
        }
        self.check_orderly_stop(node, "keeper");
        self.tell(node, "! keeper fences PostgreSQL");
        let member = &self.members[node];
        let nothing_seen = match self.config.planted {
            Planted::TakesFailureForEnd => member.looks_fail,
            Planted::ForgetsBackends => !member.pg.running,
            _ => false,
        };
        if !nothing_seen {
            self.members[node].pg.crash();
        }
        let at = self.now + 10;
        self.at(at, Event::Wake { node, forced: true });
    }

    /// The lease is renewed on a connection of the keeper's own, within a limit.
    fn send_renewal(&mut self, node: usize, sent: Mono) {
        let now = self.now;
        let member = &mut self.members[node];
        let limit = member.lock.renewal_limit(sent).as_millis() as u64;
        member.renewing = true;
        let generation = member.generation;
        let silence = Renewed::Unanswered;
        member.tell_time(now);
        if let Upper::Objects(layout) = &member.upper {
            let (limit, lock) = (member.lock.renewal_limit(sent), Arc::clone(layout.our_lock()));
            return self.keep_object(node, sent, limit, lock);
        }
        let Some((ops, session)) = member.upper.store().renewal() else {
            return self.at(now, Event::Renewed { node, generation, sent, outcome: silence });
        };
        if !self.reaches_dcs(node) {
            return self.at(now + limit, Event::Renewed { node, generation, sent, outcome: silence });
        }
        let said: Vec<Said> = ops.iter().map(|op| self.store.carry_out(op, now)).collect();
        let came_to = match self.members[node].upper.store().renewed(&said) {
            Renewed::Until(_) if self.config.planted == Planted::FencesByTheWish => {
                Renewed::Until(Duration::MAX)
            }
            other => other,
        };
        if matches!(came_to, Renewed::Until(_)) {
            self.check_renewal(node, session);
        }
        let latency = self.dcs_latency(node);
        let lost = latency > limit || self.members[node].deaf_to_dcs;
        let outcome = if lost { silence } else { came_to };
        self.at(now + latency.min(limit), Event::Renewed { node, generation, sent, outcome });
    }

    /// A client of ZooKeeper is heard, as long as the HA loop is.
    pub(super) fn heartbeat(&mut self, node: usize) {
        let (now, reaches) = (self.now, self.reaches_dcs(node));
        let member = &self.members[node];
        member.tell_time(now);
        let (every, session) = member.upper.store().heartbeat();
        if let Some(id) = session.filter(|_| reaches && member.alive) {
            self.store.carry_out(&Op::KeepAlive(id), now);
        }
        self.at(now + every.as_millis() as u64, Event::Heartbeat { node });
    }

    pub(super) fn renewed(&mut self, node: usize, generation: u64, sent: Mono, outcome: Renewed) {
        if self.members[node].generation != generation || !self.members[node].renewing {
            return;
        }
        if self.config.store == Kind::Kubernetes && !self.is_kept(node, sent, outcome) {
            return;
        }
        let clock = self.clock(node);
        let member = &mut self.members[node];
        member.renewing = false;
        member.lock.renewed(sent, clock, outcome);
        if outcome == Renewed::Gone {
            let at = self.now + 1;
            self.at(at, Event::Wake { node, forced: true });
        }
    }

    /// A frozen node runs again. The keeper's alarm went off meanwhile, so it is
    /// the first to act, also on a renewal whose time is over; nothing is committed before.
    pub(super) fn thaw(&mut self, node: usize) {
        if self.members[node].frozen_until > self.now {
            return;
        }
        self.members[node].frozen_until = 0;
        self.members[node].renewing = false;
        self.members[node].keeping = None;
        self.clock_goes_on(node);
        if !self.members[node].stopped(self.now) {
            self.keep(node);
        }
        self.guard(node);
        self.rearm(node);
        // The watchdog's device stood still as well.
        if let Some(fed) = &mut self.members[node].watchdog {
            *fed = self.now;
        }
    }

    /// The clock of a node that stood still with it goes on, and the wall clock is set right.
    fn clock_goes_on(&mut self, node: usize) {
        let now = self.now;
        let member = &mut self.members[node];
        if let Some(since) = member.clock_stands.take() {
            let lost = now.saturating_sub(since);
            member.clock_lost += lost;
            member.hung_since += lost;
            self.clock_jumps(node, lost as i64);
        }
    }

    /// The wall clock was set by so many milliseconds: the keeper hears of it.
    pub(super) fn clock_jumps(&mut self, node: usize, step: i64) {
        let clock = self.clock(node);
        let wake = self.now + 1;
        if step < 1000 || self.config.planted == Planted::IgnoresClockJump {
            return;
        }
        if self.config.planted != Planted::GuardianIgnoresJump {
            self.guardians_doubt(node, clock, step.unsigned_abs());
        }
        let member = &mut self.members[node];
        if !member.alive || member.reference {
            return;
        }
        member.lock.clock_jumped(clock, ms(step.unsigned_abs()));
        if member.lock.lease_until().is_some() {
            // The keeper has so long to find out, and then acts.
            let patience = self.longest_ttl / 10 + member.me.timing.retry_timeout.as_millis() as u64 + 5000;
            member.doubt_until = wake + patience;
            self.at(wake, Event::Wake { node, forced: true });
        }
    }

    /// After whatever happened to a node: its keeper looks again.
    pub(super) fn rearm(&mut self, node: usize) {
        let (now, clock) = (self.now, self.clock(node));
        let forever = self.config.planted == Planted::RenewsForever;
        let forks_unarmed = self.config.planted == Planted::ForksUnarmed;
        let server = self.members[node].server(&self.config);
        let member = &mut self.members[node];
        if !member.alive || member.stopped(now) || member.reference {
            return;
        }
        if member.told_server != (server.number, server.quiet) {
            // A fork, one that ran before and is found, or one whose stop has come so far that nobody writes.
            member.told_server = (server.number, server.quiet);
            if server.number != 0 && (server.quiet || !forks_unarmed) {
                member.lock.server_known(member.dynamic.is_paused(), &server);
            }
        }
        if forever {
            member.lock.stop_goes_on(clock);
        }
        let next = member.lock.clone().next(clock);
        let renewing = member.renewing;
        self.tell_guardian(node);
        if renewing {
            return;
        }
        let at = match next {
            Next::Idle => return,
            Next::WaitUntil(at) => self.when(node, at).max(now + 1),
            Next::Renew => now,
            // The thread is woken by the change itself.
            Next::Fence => return self.keep(node),
        };
        // One alarm at a time; an earlier one replaces a later one.
        let member = &mut self.members[node];
        if member.keeper_at <= now || at < member.keeper_at {
            member.keeper_at = at;
            self.at(at, Event::Keeper { node });
        }
    }
}
