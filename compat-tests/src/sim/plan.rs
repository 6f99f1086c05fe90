//! Which faults and orders, when, for how long: decided by the seed before the run begins.

use super::config::{Config, SyncMode};
use super::faults::{Fault, LEADER};
use super::rng::Rng;

/// All faults of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When, what.
    pub faults: Vec<(u64, Fault)>,
    /// When the run ends.
    pub end: u64,
}

/// A fault that ends after `long`.
pub(super) fn spell(at: u64, long: u64, fault: impl Fn(bool) -> Fault) -> Vec<(u64, Fault)> {
    vec![(at, fault(true)), (at + long, fault(false))]
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, config: &Config) -> Plan {
        let mut rng = Rng::new(seed ^ 0xfa17);
        if config.restores {
            return Plan::healed(super::lapses::restores(seed, config), 0, config);
        }
        if config.strangers {
            return Plan::healed(super::strangers::orders(seed, config), 0, config);
        }
        if config.orders {
            return Plan::healed(super::operators::void_orders(seed, config), 0, config);
        }
        let mut faults = Vec::new();
        let calm = 60_000;
        let mut at = calm;
        while at < calm + config.faults_for {
            if config.rough && rng.percent(25) {
                faults.extend(Plan::rough(&mut rng, at, config));
            } else if config.operators && rng.percent(30) {
                faults.extend(Plan::order(&mut rng, at, config));
            } else {
                faults.extend(Plan::fault(&mut rng, at, config));
            }
            at += rng.between(1000, 3 * config.ttl);
        }
        if config.operators {
            for (at, node, name, there) in super::slots::orders(seed, config, at) {
                faults.push((at, Fault::Slot(node, name, there)));
            }
        }
        faults.extend(Plan::hasty_restarts(seed, config, &faults));
        faults.extend(Plan::no_keeper_after(seed, &faults));
        faults.extend(Plan::store_members(seed, config, at));
        faults.extend(super::remote::orders(seed, config, at));
        faults.extend(super::hazards::orders(seed, config, at));
        faults.extend(super::unseen::orders(seed, config, at));
        faults.extend(super::lapses::orders(seed, config, at));
        faults.extend(super::silent::orders(seed, config, at));
        Plan::healed(faults, at, config)
    }

    /// With the end of all faults, not before `at`, and time for what must be true then.
    fn healed(mut faults: Vec<(u64, Fault)>, at: u64, config: &Config) -> Plan {
        let heal = faults.iter().map(|(at, _)| *at).max().unwrap_or(at).max(at) + 2 * config.ttl + 1;
        faults.push((heal, Fault::Heal));
        let ttls =
            faults.iter().map(|(_, fault)| if let Fault::Timing(ttl, ..) = fault { ttl * 1000 } else { 0 });
        let longest = ttls.max().unwrap_or(0).max(config.ttl);
        Plan { faults, end: heal + 2 * longest + 12 * config.loop_wait + 120_000 }
    }

    fn fault(rng: &mut Rng, at: u64, config: &Config) -> Vec<(u64, Fault)> {
        let last = config.members as u64 - 1;
        let mut node = rng.between(0, last) as usize;
        if rng.percent(40) {
            node = LEADER;
        }
        let other = rng.between(0, last) as usize;
        let long = rng.between(500, 2 * config.ttl);
        match rng.between(0, 22) {
            0 => spell(at, long, |down| Fault::Store { down }),
            1 => {
                let mut faults = spell(at, long, Fault::SlowStore);
                if rng.percent(60) {
                    faults.extend(Plan::numb(rng.between(at, at + long), 2 * config.ttl));
                }
                faults
            }
            2..=4 => spell(at, long, |on| Fault::CutDcs(node, on)),
            5 => spell(at, long, |on| Fault::Deaf(node, on)),
            6 => spell(at, long, |on| Fault::CutPeers(node, on)),
            7 if other != node && node != LEADER => spell(at, long, |on| Fault::OneWay(node, other, on)),
            7..=9 => vec![(at, Fault::KillNode(node, long))],
            10 => vec![(at, Fault::KillDaemon(node, long))],
            11 => vec![(at, Fault::Shutdown(node, long))],
            12 => vec![(at, Fault::KillPostmaster(node))],
            14 if at.is_multiple_of(2) => vec![(at, Fault::StopDaemon(node, long))],
            13 | 14 if config.stun => vec![(at, Fault::FrozenWithItsClock(node, long))],
            13 | 14 => vec![(at, Fault::Freeze(node, long))],
            15 => vec![(at, Fault::Hang(node, 3 * long))],
            16 => spell(at, 3 * long, |on| Fault::Stall(node, on)),
            17 => spell(at, 2 * long, |on| Fault::SlowServer(node, on)),
            18 => vec![(at, Fault::ClockStep(node, rng.between(0, 120_000) as i64 - 60_000))],
            19 => {
                let mut faults = Plan::numb(at + 500, 2 * config.ttl);
                let node = LEADER;
                faults.insert(0, (at, Fault::ClockStep(node, -(rng.between(10_000, 60_000) as i64))));
                faults
            }
            20 => {
                let mut faults = spell(at, long, |on| Fault::CutDcs(node, on));
                faults.extend(spell(at, long, |on| Fault::CutPeers(node, on)));
                faults
            }
            21 => vec![(at, Fault::KillNode(node, 3 * long)), (at + 100, Fault::KillNode(other, 2 * long))],
            _ => vec![(at, Fault::KillPostmaster(node)), (at + 50, Fault::CutDcs(other, true))],
        }
    }

    /// Somebody restarts PostgreSQL while the cluster switches over.
    fn hasty_restarts(seed: u64, config: &Config, faults: &[(u64, Fault)]) -> Vec<(u64, Fault)> {
        let mut rng = Rng::new(seed ^ 0x4a57_e000);
        let mut restarts = Vec::new();
        for (at, fault) in faults {
            if *fault == Fault::Switchover(None) && rng.percent(70) {
                let after = rng.between(0, 3000);
                restarts.extend((0..config.members).map(|node| (at + after, Fault::Restart(node))));
            }
        }
        restarts
    }

    /// A node that stood still with its clocks wakes up with a daemon that is dead, or stands still: the guardian alone is left.
    fn no_keeper_after(seed: u64, faults: &[(u64, Fault)]) -> Vec<(u64, Fault)> {
        let mut rng = Rng::new(seed ^ 0x0c10_c500);
        let mut more = Vec::new();
        for (at, fault) in faults {
            let Fault::FrozenWithItsClock(node, long) = *fault else { continue };
            let meanwhile = at + rng.between(0, long.min(10_000));
            match rng.between(0, 9) {
                0..=2 => more.push((meanwhile, Fault::KillDaemon(node, long + 20_000))),
                3 | 4 => more.push((meanwhile, Fault::StopDaemon(node, 2 * long))),
                _ => {}
            }
        }
        more
    }

    /// Members of the DCS are split from the others, with all nodes that talk to them, or slow; watches are compacted away.
    fn store_members(seed: u64, config: &Config, until: u64) -> Vec<(u64, Fault)> {
        let mut rng = Rng::new(seed ^ 0x00dc_5000);
        let mut faults = Vec::new();
        for _ in 0..3 {
            let at = rng.between(60_000, until);
            let long = rng.between(500, 2 * config.ttl);
            match rng.between(0, 2) {
                0 => {
                    let split = (0..config.members).filter(|_| rng.percent(50)).collect::<Vec<_>>();
                    faults.extend(split.iter().flat_map(|n| spell(at, long, |on| Fault::CutDcs(*n, on))));
                }
                1 => faults.extend(spell(at, long, |on| Fault::SlowStoreMember(LEADER, on))),
                _ => faults.push((at, Fault::Compact(rng.between(10, 2000)))),
            }
        }
        faults
    }

    fn rough(rng: &mut Rng, at: u64, config: &Config) -> Vec<(u64, Fault)> {
        let mut node = rng.between(0, config.members as u64 - 1) as usize;
        if rng.percent(40) {
            node = LEADER;
        }
        let long = rng.between(500, 2 * config.ttl);
        match rng.between(0, 6) {
            0 | 1 => spell(at, long, |on| Fault::FullDisk(node, on)),
            2 | 3 => vec![(at, Fault::WalGap(node))],
            4 => spell(at, 2 * long, |on| Fault::NoWatch(node, on)),
            _ => spell(at, 3 * long, |on| Fault::BrokenWatchdog(node, on)),
        }
    }

    /// The leader's loop hangs and its DCS is away: only the keeper is left.
    fn numb(at: u64, long: u64) -> Vec<(u64, Fault)> {
        let mut faults = spell(at, long, |on| Fault::CutDcs(LEADER, on));
        faults.push((at, Fault::Hang(LEADER, long)));
        faults
    }

    fn order(rng: &mut Rng, at: u64, config: &Config) -> Vec<(u64, Fault)> {
        let node = rng.between(0, config.members as u64 - 1) as usize;
        let long = rng.between(500, 3 * config.ttl);
        match rng.between(0, 9) {
            0..=2 => vec![(at, Fault::Switchover(None))],
            3 => vec![(at, Fault::Switchover(Some(long)))],
            4 => vec![(at, Fault::Failover(node))],
            5 => spell(at, long, Fault::Pause),
            6 => vec![(at, Fault::Restart(node))],
            7 => vec![(at, Fault::Reinit(node))],
            8 => {
                let all = [(30, 10, 10), (40, 10, 10), (20, 5, 5), (60, 10, 10), (300, 10, 10)];
                let (ttl, loop_wait, retry) = all[rng.between(0, 4) as usize];
                vec![(at, Fault::Timing(ttl, loop_wait, retry))]
            }
            _ if config.sync != SyncMode::Off => {
                let mode = [SyncMode::Off, SyncMode::On, SyncMode::Quorum][rng.between(0, 2) as usize];
                let back = Fault::Sync(config.sync, config.node_count);
                vec![(at, Fault::Sync(mode, rng.between(1, 3) as i64)), (at + long, back)]
            }
            _ => vec![(at, Fault::Switchover(None))],
        }
    }
}
