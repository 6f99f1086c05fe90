//! Faults and orders, and what they do to the world. Which ones, and when: `plan.rs`.

use super::config::SyncMode;
use super::dcs::Kind;
use super::events::Event;
use super::hazards::Dir;
use super::world::World;

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
    /// An operator's switchover to a member that is not in `/sync`, written into the DCS.
    SwitchoverToOutsider,
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
    /// In a pause: an operator promotes a standby manually.
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

/// In place of a node: the node that leads at that moment; what is mended for it is
/// mended for all.
pub const LEADER: usize = 99;

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
            Fault::Store { down } => {
                if self.store_down && !down && self.config.store == Kind::Raft {
                    self.store.begin_anew(now);
                }
                self.store_down = down;
            }
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
            Fault::KillPostmaster(node) => {
                self.members[node].pg.crash();
                self.wake_guardians(node);
            }
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
                // As of a frozen node: what hangs does not come back sooner since something else begins to.
                member.hung_until = member.hung_until.max(now + long);
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
        // Somebody looks after those that lack WAL, or a part of a rewind; once more where there is a leader at last.
        let again = if self.config.hazards { 110_000 } else { 70_000 };
        for (node, after) in
            (0..self.members.len()).flat_map(|n| [30_000, 70_000, again].map(|after| (n, after)))
        {
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

/// The fault, with the node that leads now in the place of [`LEADER`].
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
