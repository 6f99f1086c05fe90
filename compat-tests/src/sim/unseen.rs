//! Servers that cannot be seen: backends that outlive their postmaster, a server that the daemon does not recognise,
//! looks that fail. What the daemon's shell makes of them (`patroni_postgres::process::evidence`).

use patroni_core::ha::PgState;

use super::config::Config;
use super::faults::{Fault, LEADER};
use super::plan::spell;
use super::planted::Planted;
use super::rng::Rng;
use super::world::World;

/// What is not seen in a run, and when.
pub fn orders(seed: u64, config: &Config, until: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    if !config.unseen {
        return faults;
    }
    let mut rng = Rng::new(seed ^ 0x0005_ee00);
    for _ in 0..8 {
        let at = rng.between(60_000, until);
        let long = rng.between(500, 2 * config.ttl);
        let mut node = rng.between(0, config.members as u64 - 1) as usize;
        if rng.percent(80) {
            node = LEADER;
        }
        match rng.between(0, 2) {
            0 => {
                faults.extend(spell(at, long, |on| Fault::OrphanBackends(node, on)));
                if rng.percent(30) {
                    faults.extend(spell(at + 20, long, |on| Fault::CutDcs(node, on)));
                }
                if rng.percent(20) {
                    faults.push((at + 10, Fault::KillDaemon(node, long)));
                }
            }
            // Where nobody watches a daemon that was killed, its server is an orphan, seen or not.
            1 if !config.guardian && !config.watchdog => {}
            1 => {
                faults.push((at, Fault::KillDaemon(node, 1000)));
                faults.extend(spell(at + 10, long, |on| Fault::NotRecognised(node, on)));
            }
            _ => {
                faults.extend(spell(at, long, |on| Fault::LooksFail(node, on)));
                match rng.between(0, 4) {
                    0 => faults.push((at + 50, Fault::KillPostmaster(node))),
                    1 => faults.push((at + 50, Fault::OrphanBackends(node, true))),
                    2 => faults.extend(spell(at + 50, long, |on| Fault::CutDcs(node, on))),
                    _ => {}
                }
            }
        }
    }
    faults
}

impl World {
    /// At the beginning of a cycle: backends without a postmaster are ended as soon as they are seen.
    pub(super) fn look_at_server(&mut self, node: usize) {
        if self.members[node].pg.orphans {
            self.prove_gone(node);
        }
        let member = &self.members[node];
        let idle = member.slot.running().is_none();
        if idle && member.sees_server() && !member.pg.opening && member.pg.state.is_over() {
            self.set_state(node, PgState::Running);
        }
    }

    /// Is nothing left of the server that ran here? What its postmaster has left behind is ended.
    pub(super) fn prove_gone(&mut self, node: usize) -> bool {
        match self.config.planted {
            Planted::TrustsTheLook | Planted::TakesFailureForEnd => return !self.members[node].sees_server(),
            Planted::ForgetsBackends => return !self.members[node].pg.running,
            _ => {}
        }
        let member = &mut self.members[node];
        if member.pg.running || member.looks_fail {
            return false;
        }
        if std::mem::take(&mut member.pg.orphans) {
            self.tell(node, "! backends without a postmaster are killed");
        }
        true
    }

    /// Does a job find the data directory in the hands of a server that it does not see, or cannot tell?
    pub(super) fn is_barred(&mut self, node: usize) -> bool {
        let unseen = self.members[node].pg.running && !self.members[node].sees_server();
        let unproven = !self.members[node].pg.running && !self.prove_gone(node);
        // PostgreSQL itself does not start beside them.
        let barred = unseen || unproven || self.members[node].pg.orphans;
        if barred {
            self.set_state(node, PgState::StartFailed);
        }
        barred
    }

    /// The postmaster dies, and a backend that never waits does not notice.
    pub(super) fn orphan_backends(&mut self, node: usize) {
        let pg = &mut self.members[node].pg;
        let goes_on = pg.writable() && pg.running;
        pg.crash();
        pg.orphans = goes_on;
        self.wake_guardians(node);
    }
}
