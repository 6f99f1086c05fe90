//! Faults and orders: which, when, for how long, decided by the seed before the
//! run begins.

use super::config::{Config, SyncMode};
use super::hazards::Dir;
use super::rng::Rng;
use super::world::{Event, World};

/// Something goes wrong, is mended, or is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The DCS answers nobody, or everybody again.
    Store {
        /// Down?
        down: bool,
    },
    /// The DCS takes seconds for many answers.
    SlowStore(bool),
    /// The member of the DCS that this node talks to is slow.
    SlowStoreMember(usize, bool),
    /// A compaction ends all watches; each is opened anew within so long, and misses what happens meanwhile.
    Compact(u64),
    /// A node loses the DCS (or the member that it talks to is split from the others).
    CutDcs(usize, bool),
    /// A node's requests reach the DCS, the answers do not come back.
    Deaf(usize, bool),
    /// A node loses its peers.
    CutPeers(usize, bool),
    /// Packets from one node to another are lost; those back are not.
    OneWay(usize, usize, bool),
    /// A node dies with its PostgreSQL, and comes back so much later.
    KillNode(usize, u64),
    /// The daemon alone dies, and comes back so much later.
    KillDaemon(usize, u64),
    /// The daemon is told to end, and is started again so much later.
    Shutdown(usize, u64),
    /// The postmaster dies.
    KillPostmaster(usize),
    /// The postmaster dies, and a backend goes on committing; or its client leaves.
    OrphanBackends(usize, bool),
    /// The daemon does not recognise the server that runs.
    NotRecognised(usize, bool),
    /// Nobody can tell whether a process runs.
    LooksFail(usize, bool),
    /// The whole node stands still for so long.
    Freeze(usize, u64),
    /// The same with all its clocks, as a hypervisor does it; the wall clock is set right when it runs again.
    FrozenWithItsClock(usize, u64),
    /// The daemon alone stands still for so long.
    StopDaemon(usize, u64),
    /// The HA loop hangs for so long, PostgreSQL does not.
    Hang(usize, u64),
    /// Replay and receiver of a standby stand still.
    Stall(usize, bool),
    /// Starts, stops and promotions of this node take long.
    SlowServer(usize, bool),
    /// Somebody sets the node's wall clock by so many milliseconds.
    ClockStep(usize, i64),
    /// An operator asks for a switchover, now or after so long.
    Switchover(Option<u64>),
    /// An operator asks for a failover to this node.
    Failover(usize),
    /// An operator pauses or resumes the cluster.
    Pause(bool),
    /// An operator restarts PostgreSQL.
    Restart(usize),
    /// An operator reinitializes a member.
    Reinit(usize),
    /// An operator changes ttl, loop_wait and retry_timeout (seconds).
    Timing(u64, u64, u64),
    /// An operator changes `synchronous_mode` and `synchronous_node_count`.
    Sync(SyncMode, i64),
    /// A node's disk is full: nothing is written, PostgreSQL may die of it and cannot be started.
    FullDisk(usize, bool),
    /// The WAL that a standby needs next is gone.
    WalGap(usize),
    /// A node's watches of the DCS are silent.
    NoWatch(usize, bool),
    /// A node's watchdog cannot be activated.
    BrokenWatchdog(usize, bool),
    /// An operator makes this slot on a node; or drops that of a member, there.
    Slot(usize, &'static str, bool),
    /// The remote server of a standby cluster is down.
    RemoteDown(bool),
    /// It fails over to another one, and loses its last WAL.
    RemoteFailover,
    /// Operators make a standby cluster independent, or a cluster a standby cluster again.
    Independent(bool),
    /// Somebody removes a data directory.
    LoseData(usize),
    /// A data directory is not as it ought to be, or is again.
    Directory(usize, Dir),
    /// An operator schedules a restart after so long.
    ScheduleRestart(usize, u64),
    /// An operator sets or removes the tag `nofailover`.
    NoFailover(usize, bool),
    /// The daemon is told to end, and the shutdown checkpoint takes longer than the ttl.
    SlowStop(usize),
    /// `ALTER SYSTEM` has left an empty `synchronous_standby_names` on a standby, or it is removed.
    Overrule(usize, bool),
    /// Somebody takes a backup of the DCS.
    Snapshot,
    /// And the DCS is restored from it.
    Restored,
    /// A standby of outside bears this member's name, or leaves.
    Stranger(Option<usize>),
    /// In a pause: `/initialize` is another cluster's, or right again.
    Foreign(bool),
    /// In a pause: an operator promotes a standby by hand.
    PromoteByHand(usize),
    /// In a pause: somebody deletes the leader key.
    DropLeaderKey,
    /// Nobody leads, since what they wait for is gone: an operator names who is to lead.
    Rescue,
    /// A node that is down is started.
    Start(usize),
    /// A node's server runs and answers nobody, or answers again.
    Silent(usize, bool),
    /// All is well from here.
    Heal,
}

/// In place of a node: whoever leads at that moment; what is mended for it is
/// mended for all.
pub const LEADER: usize = 99;

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

impl World {
    pub(super) fn apply_fault(&mut self, fault: Fault) {
        self.last_fault = self.now;
        self.tell_all(format!("# {fault:?}"));
        let all = 0..self.members.len();
        let leader = self.store.get("leader").and_then(|name| self.index_of(name));
        match fault {
            Fault::CutDcs(LEADER, false) => all.for_each(|n| self.members[n].cut_from_dcs = false),
            Fault::CutPeers(LEADER, false) => all.for_each(|n| self.members[n].cut_from_peers = false),
            Fault::SlowStoreMember(LEADER, false) => all.for_each(|n| self.members[n].slow_dcs = false),
            Fault::Deaf(LEADER, false) => all.for_each(|n| self.members[n].deaf_to_dcs = false),
            Fault::Stall(LEADER, false) => all.for_each(|n| self.members[n].pg.stalled = false),
            Fault::FullDisk(LEADER, false) => all.for_each(|n| self.members[n].pg.full = false),
            Fault::NoWatch(LEADER, false) => all.for_each(|n| self.members[n].no_watch = false),
            Fault::BrokenWatchdog(LEADER, false) => {
                all.for_each(|n| self.members[n].broken_watchdog = false);
            }
            Fault::Directory(LEADER, Dir::Sound) => all.for_each(|n| self.members[n].pg.dir = Dir::Sound),
            Fault::NoFailover(LEADER, false) => all.for_each(|n| self.retag(n, false)),
            Fault::OrphanBackends(LEADER, false) => all.for_each(|n| self.members[n].pg.orphans = false),
            Fault::NotRecognised(LEADER, false) => all.for_each(|n| self.members[n].unrecognised = None),
            Fault::LooksFail(LEADER, false) => all.for_each(|n| self.members[n].looks_fail = false),
            Fault::SlowServer(LEADER, false) => all.for_each(|n| self.members[n].pg.slow = false),
            fault => self.strike(aimed(fault, leader.unwrap_or(0))),
        }
        for node in 0..self.members.len() {
            if !self.members[node].frozen() {
                self.rearm(node);
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::Store { down } => self.store_down = down,
            Fault::SlowStore(slow) => self.store_slow = slow,
            Fault::SlowStoreMember(node, slow) => self.members[node].slow_dcs = slow,
            Fault::Compact(within) => {
                for node in 0..self.members.len() {
                    let back = now + self.rng.between(1, within);
                    self.members[node].watch_from = back;
                    self.at(back, Event::Wake { node, forced: true });
                }
            }
            Fault::CutDcs(node, cut) => self.members[node].cut_from_dcs = cut,
            Fault::Deaf(node, deaf) => self.members[node].deaf_to_dcs = deaf,
            Fault::CutPeers(node, cut) => self.members[node].cut_from_peers = cut,
            Fault::OneWay(from, to, cut) => {
                self.members[from].no_way_to.retain(|n| *n != to);
                if cut {
                    self.members[from].no_way_to.push(to);
                }
            }
            Fault::KillNode(node, down) => {
                self.node_dies(node);
                self.at(now + down, Event::Fault(Fault::Start(node)));
            }
            Fault::KillDaemon(node, down) => {
                if self.members[node].alive {
                    self.daemon_dies(node);
                    self.at(now + down, Event::Fault(Fault::Start(node)));
                }
            }
            Fault::Shutdown(node, _) => {
                if self.members[node].alive {
                    self.members[node].ending = true;
                    self.at(now, Event::Wake { node, forced: true });
                }
            }
            Fault::Start(node) => self.at(now, Event::Boot { node }),
            Fault::KillPostmaster(node) => self.members[node].pg.crash(),
            Fault::OrphanBackends(node, true) => self.orphan_backends(node),
            Fault::OrphanBackends(node, false) => self.members[node].pg.orphans = false,
            // A daemon that runs knows its server.
            Fault::NotRecognised(node, on) => {
                let member = &mut self.members[node];
                member.unrecognised = Some(member.pg.incarnation).filter(|_| on && !member.alive);
                member.mistaken = member.unrecognised.or(member.mistaken);
            }
            Fault::LooksFail(node, on) => self.members[node].looks_fail = on,
            Fault::Silent(node, on) => self.silence(node, on),
            Fault::Freeze(node, long) => {
                let until = self.members[node].frozen_until.max(now + long);
                self.members[node].frozen_until = until;
                self.at(until, Event::Thaw { node });
            }
            Fault::FrozenWithItsClock(node, long) => {
                let member = &mut self.members[node];
                member.clock_stands.get_or_insert(now);
                member.frozen_until = member.frozen_until.max(now + long);
                let until = member.frozen_until;
                self.at(until, Event::Thaw { node });
            }
            Fault::StopDaemon(node, long) => {
                let member = &mut self.members[node];
                member.stopped_until = member.stopped_until.max(now + long);
            }
            Fault::Hang(node, long) => {
                let member = &mut self.members[node];
                if member.hung_until <= now {
                    member.hung_since = now;
                }
                member.hung_until = now + long;
            }
            Fault::Stall(node, on) => self.members[node].pg.stalled = on,
            Fault::SlowServer(node, on) => self.members[node].pg.slow = on,
            Fault::ClockStep(node, step) => {
                self.members[node].wall_step += step;
                if !self.members[node].frozen() {
                    self.clock_jumps(node, step);
                }
            }
            Fault::FullDisk(node, on) => {
                self.members[node].pg.full = on;
                if on && self.rng.percent(50) {
                    self.members[node].pg.crash();
                }
            }
            Fault::WalGap(node) => {
                let pg = &mut self.members[node].pg;
                pg.gap = pg.running && pg.recovery;
            }
            Fault::NoWatch(node, on) => self.members[node].no_watch = on,
            Fault::BrokenWatchdog(node, on) => self.members[node].broken_watchdog = on,
            Fault::Slot(node, name, there) => self.order_slot(node, name, there),
            Fault::LoseData(node) => self.lose_data(node),
            Fault::Directory(node, dir) => self.members[node].pg.dir = dir,
            Fault::ScheduleRestart(node, after) => self.schedule_restart(node, after),
            Fault::NoFailover(node, on) => self.retag(node, on),
            Fault::Foreign(on) => self.make_foreign(on),
            Fault::PromoteByHand(node) => self.promote_by_hand(node),
            Fault::DropLeaderKey => self.drop_leader_key(),
            Fault::Rescue => self.rescue(),
            fault @ (Fault::SlowStop(_) | Fault::Overrule(..) | Fault::Snapshot | Fault::Restored) => {
                self.apply_lapse(&fault);
            }
            Fault::Stranger(poses_as) => self.stranger_comes(poses_as),
            Fault::RemoteDown(down) => self.remote.down = down,
            Fault::RemoteFailover => self.remote_failover(),
            Fault::Independent(on) => self.order_independence(on),
            Fault::Heal => self.heal(),
            order => self.apply_order(order),
        }
    }

    fn heal(&mut self) {
        let now = self.now;
        (self.store_down, self.store_slow, self.faults_on) = (false, false, false);
        self.remote.down = false;
        for node in 0..self.members.len() {
            let member = &mut self.members[node];
            (member.cut_from_dcs, member.deaf_to_dcs, member.cut_from_peers) = (false, false, false);
            member.watch.unable_until(member.hung_until.max(member.stopped_until));
            (member.hung_until, member.pg.stalled, member.pg.slow) = (0, false, false);
            (member.stopped_until, member.slow_dcs) = (0, false);
            member.pg.dir = Dir::Sound;
            (member.pg.full, member.no_watch, member.broken_watchdog) = (false, false, false);
            member.no_way_to.clear();
            (member.unrecognised, member.looks_fail, member.pg.orphans) = (None, false, false);
            member.silent = None;
            self.at(now, Event::Boot { node });
        }
        // Somebody looks after those that lack WAL, or a part of a rewind.
        for (node, after) in (0..self.members.len()).flat_map(|n| [30_000, 70_000].map(|after| (n, after))) {
            if self.config.rough {
                self.at(now + after, Event::Fault(Fault::Start(node)));
            }
            self.at(now + after, Event::FillGap { node });
        }
        if self.config.hazards {
            (0..self.members.len()).for_each(|node| self.retag(node, false));
        }
        if self.config.hazards || self.config.standby {
            self.at(now + 70_000, Event::Fault(Fault::Rescue));
        }
        self.apply_order(Fault::Pause(false));
        self.healed_at = Some(now);
    }
}

/// The fault, with whoever leads now in the place of [`LEADER`].
fn aimed(fault: Fault, leader: usize) -> Fault {
    let at = |node: usize| if node == LEADER { leader } else { node };
    match fault {
        Fault::CutDcs(node, on) => Fault::CutDcs(at(node), on),
        Fault::SlowStoreMember(node, on) => Fault::SlowStoreMember(at(node), on),
        Fault::Deaf(node, on) => Fault::Deaf(at(node), on),
        Fault::CutPeers(node, on) => Fault::CutPeers(at(node), on),
        Fault::KillNode(node, down) => Fault::KillNode(at(node), down),
        Fault::KillDaemon(node, down) => Fault::KillDaemon(at(node), down),
        Fault::Shutdown(node, down) => Fault::Shutdown(at(node), down),
        Fault::KillPostmaster(node) => Fault::KillPostmaster(at(node)),
        Fault::OrphanBackends(node, on) => Fault::OrphanBackends(at(node), on),
        Fault::NotRecognised(node, on) => Fault::NotRecognised(at(node), on),
        Fault::LooksFail(node, on) => Fault::LooksFail(at(node), on),
        Fault::Silent(node, on) => Fault::Silent(at(node), on),
        Fault::Freeze(node, long) => Fault::Freeze(at(node), long),
        Fault::FrozenWithItsClock(node, long) => Fault::FrozenWithItsClock(at(node), long),
        Fault::StopDaemon(node, long) => Fault::StopDaemon(at(node), long),
        Fault::Hang(node, long) => Fault::Hang(at(node), long),
        Fault::Stall(node, on) => Fault::Stall(at(node), on),
        Fault::SlowServer(node, on) => Fault::SlowServer(at(node), on),
        Fault::FullDisk(node, on) => Fault::FullDisk(at(node), on),
        Fault::WalGap(node) => Fault::WalGap(at(node)),
        Fault::NoWatch(node, on) => Fault::NoWatch(at(node), on),
        Fault::BrokenWatchdog(node, on) => Fault::BrokenWatchdog(at(node), on),
        Fault::ClockStep(node, step) => Fault::ClockStep(at(node), step),
        Fault::Slot(node, name, there) => Fault::Slot(at(node), name, there),
        Fault::LoseData(node) => Fault::LoseData(at(node)),
        Fault::Directory(node, dir) => Fault::Directory(at(node), dir),
        Fault::ScheduleRestart(node, after) => Fault::ScheduleRestart(at(node), after),
        Fault::NoFailover(node, on) => Fault::NoFailover(at(node), on),
        Fault::SlowStop(node) => Fault::SlowStop(at(node)),
        other => other,
    }
}
