//! Servers that run and do not answer: PostgreSQL stands still (SIGSTOP, a disk that hangs), or is too busy.

use super::config::Config;
use super::faults::{Fault, LEADER};
use super::rng::Rng;
use super::world::World;

/// The faults of this module that a seed brings, besides the others.
pub(super) fn orders(seed: u64, config: &Config, until: u64) -> Vec<(u64, Fault)> {
    if !config.silent {
        return Vec::new();
    }
    let mut rng = Rng::new(seed ^ 0x0517_1e47);
    let mut faults = Vec::new();
    for _ in 0..2 {
        let at = rng.between(60_000, until);
        let long = rng.between(1000, 8 * config.ttl);
        faults.extend(super::plan::spell(at, long, |on| Fault::Silent(LEADER, on)));
    }
    faults
}

impl World {
    pub(super) fn silence(&mut self, node: usize, on: bool) {
        let now = self.now;
        let member = &mut self.members[node];
        member.silent = Some((member.pg.incarnation, now)).filter(|_| on && member.pg.running);
    }

    /// The lock of a server that answers nobody must not be kept for long.
    pub(super) fn check_silence(&mut self) {
        let (now, patience) = (self.now, 20_000 + 3 * self.longest_ttl);
        for node in 0..self.members.len() {
            let member = &self.members[node];
            let long =
                member.silent().then_some(member.silent).flatten().is_some_and(|(_, at)| now > at + patience);
            let works = member.alive && member.settled && !member.frozen() && !member.stopped(now);
            let idle = member.slot.running().is_none() && !member.reference && self.paused_since.is_none();
            let calm = now > self.last_paused + patience;
            if long && works && idle && calm && self.has_lock(node) {
                return self.fail(
                    9,
                    format!("n{node} keeps the lock although its server has not answered for long"),
                );
            }
        }
    }
}
