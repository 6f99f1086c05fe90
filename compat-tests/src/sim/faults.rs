//! Faults: which, when, for how long, decided by the seed before the run begins.

use super::rng::Rng;
use super::world::{Config, Event, World};

/// Something goes wrong, or is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The DCS answers nobody, or everybody again.
    Store {
        /// Down?
        down: bool,
    },
    /// A node loses the DCS.
    CutDcs(usize, bool),
    /// A node loses its peers.
    CutPeers(usize, bool),
    /// A node dies with its PostgreSQL, and comes back so much later.
    KillNode(usize, u64),
    /// The postmaster dies.
    KillPostmaster(usize),
    /// The whole node stands still for so long.
    Freeze(usize, u64),
    /// The HA loop hangs for so long, PostgreSQL does not.
    Hang(usize, u64),
    /// An operator asks for a switchover.
    Switchover,
    /// An operator asks for a failover to this node.
    Failover(usize),
    /// A dead node comes back.
    Start(usize),
    /// All is well from here.
    Heal,
}

/// All faults of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When, what.
    pub faults: Vec<(u64, Fault)>,
    /// When the run ends.
    pub end: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, config: &Config) -> Plan {
        let mut rng = Rng::new(seed ^ 0xfa17);
        let mut faults = Vec::new();
        let calm = 60_000;
        let mut at = calm;
        while at < calm + config.faults_for {
            let node = rng.between(0, config.members as u64 - 1) as usize;
            let long = rng.between(500, 2 * config.ttl);
            match rng.between(0, 9) {
                0 => faults
                    .extend([(at, Fault::Store { down: true }), (at + long, Fault::Store { down: false })]),
                1 | 2 => {
                    faults.extend([(at, Fault::CutDcs(node, true)), (at + long, Fault::CutDcs(node, false))])
                }
                3 => faults
                    .extend([(at, Fault::CutPeers(node, true)), (at + long, Fault::CutPeers(node, false))]),
                4 | 5 => faults.push((at, Fault::KillNode(node, long))),
                6 => faults.push((at, Fault::KillPostmaster(node))),
                7 => faults.push((at, Fault::Freeze(node, long))),
                8 => faults.push((at, Fault::Hang(node, 2 * long))),
                _ if rng.percent(70) => faults.push((at, Fault::Switchover)),
                _ => faults.push((at, Fault::Failover(node))),
            }
            at += rng.between(1000, 3 * config.ttl);
        }
        let heal = faults.iter().map(|(at, _)| *at).max().unwrap_or(at).max(at) + 2 * config.ttl + 1;
        faults.push((heal, Fault::Heal));
        Plan { faults, end: heal + config.ttl + 12 * config.loop_wait + 60_000 }
    }
}

impl World {
    pub(super) fn apply_fault(&mut self, fault: Fault) {
        let now = self.now;
        match &fault {
            Fault::Store { down } => self.store_down = *down,
            Fault::CutDcs(node, cut) => self.members[*node].cut_from_dcs = *cut,
            Fault::CutPeers(node, cut) => self.members[*node].cut_from_peers = *cut,
            Fault::KillNode(node, down) => {
                let dynamic = self.dynamic.clone();
                let member = &mut self.members[*node];
                if member.alive {
                    member.pg.crash();
                    member.alive = false;
                    member.forget(&dynamic);
                    self.at(now + down, Event::Fault(Fault::Start(*node)));
                }
            }
            Fault::Start(node) => self.start_node(*node),
            Fault::KillPostmaster(node) => self.members[*node].pg.crash(),
            Fault::Freeze(node, long) => {
                let until = self.members[*node].frozen_until.max(now + long);
                self.members[*node].frozen_until = until;
                self.at(until, Event::Thaw { node: *node });
            }
            Fault::Hang(node, long) => {
                let member = &mut self.members[*node];
                if member.hung_until <= now {
                    member.hung_since = now;
                }
                member.hung_until = now + long;
            }
            Fault::Switchover => {
                if let Some(leader) = self.store.get("leader").map(str::to_owned) {
                    let text = patroni_core::model::failover_value(Some(&leader), None, None);
                    self.store.put("failover", &text, None);
                }
            }
            Fault::Failover(node) => {
                let name = self.members[*node].me.name.clone();
                let text = patroni_core::model::failover_value(None, Some(&name), None);
                self.store.put("failover", &text, None);
            }
            Fault::Heal => {
                self.store_down = false;
                for node in 0..self.members.len() {
                    let member = &mut self.members[node];
                    (member.cut_from_dcs, member.cut_from_peers) = (false, false);
                    member.hung_until = 0;
                    if !member.alive {
                        self.start_node(node);
                    }
                }
                self.healed();
            }
        }
        let node = match &fault {
            Fault::CutDcs(n, _)
            | Fault::CutPeers(n, _)
            | Fault::KillNode(n, _)
            | Fault::KillPostmaster(n)
            | Fault::Freeze(n, _)
            | Fault::Hang(n, _)
            | Fault::Start(n)
            | Fault::Failover(n) => *n,
            _ => 9,
        };
        self.tell(node, format!("# {fault:?}"));
    }

    fn start_node(&mut self, node: usize) {
        if self.members[node].alive {
            return;
        }
        let role = if self.members[node].pg.recovery {
            patroni_core::ha::Role::Replica
        } else {
            patroni_core::ha::Role::Demoted
        };
        self.members[node].alive = true;
        self.members[node].pg.role = role;
        self.set_state(node, patroni_core::ha::PgState::Stopped);
        let now = self.now;
        self.at(now, Event::Wake { node, forced: true });
    }
}
