//! What befalls few clusters, and decides on rows of the decision table that are seldom reached: data directories that are
//! removed, unreadable or foreign, starts and promotions that last longer than their timeout, custom bootstraps, copies
//! without a leader, restarts on a schedule, and operators who promote manually in a pause.
//!
//! Only in the profiles that ask for it, from random numbers of its own.

use patroni_core::ha::{Job, ScheduledRestart};
use patroni_core::tags::Tags;
use pyfmt::{datetime, Value};

use super::config::{Config, SyncMode};
use super::faults::{Fault, LEADER};
use super::node::{Member, EPOCH_US};
use super::rng::Rng;
use super::world::World;

/// A system identifier that is not the cluster's.
const FOREIGN: &str = "7999999999999999999";
/// Standbys that stream and lack less than this can take over from a primary whose data is removed, bytes.
const CLOSE: u64 = 2000;

/// What happens to a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dir {
    /// As it ought to be.
    Sound,
    /// Nobody may read it.
    Inaccessible,
    /// Its control file cannot be read.
    NoControlFile,
}

/// The plan of a seed.
pub fn orders(seed: u64, config: &Config, until: u64) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed ^ 0x4a2a_4d00);
    let mut orders = Vec::new();
    let mut at = 60_000;
    while config.hazards && at < until {
        let long = rng.between(1000, 2 * config.ttl);
        let mut node = rng.between(0, config.members as u64 - 1) as usize;
        if rng.percent(50) {
            node = LEADER;
        }
        orders.extend(match rng.between(0, 9) {
            0 | 1 => vec![(at, Fault::LoseData(node))],
            2 => vec![
                (at, Fault::Directory(node, Dir::Inaccessible)),
                (at + long, Fault::Directory(node, Dir::Sound)),
            ],
            3 => vec![
                (at, Fault::Directory(node, Dir::NoControlFile)),
                (at + long, Fault::Directory(node, Dir::Sound)),
            ],
            4 => vec![(at, Fault::ScheduleRestart(node, long))],
            5 => {
                let mut faults = vec![
                    (at, Fault::SlowServer(node, true)),
                    (at + 1000, Fault::KillPostmaster(node)),
                    (at + 3 * long, Fault::SlowServer(node, false)),
                ];
                if rng.percent(50) {
                    // The lock is lost while the server starts, in the middle of a cycle that does not wait for it:
                    // the daemon was started anew.
                    let later = at + rng.between(12_000, 30_000);
                    faults.extend([
                        (at + 2000, Fault::SlowStoreMember(LEADER, true)),
                        (later - 500, Fault::KillDaemon(LEADER, 300)),
                        (later + rng.between(0, 8000), Fault::Hang(LEADER, 2 * config.ttl)),
                        (later + long, Fault::SlowStoreMember(LEADER, false)),
                    ]);
                }
                faults
            }
            6 => vec![(at, Fault::NoFailover(node, true)), (at + 2 * long, Fault::NoFailover(node, false))],
            _ => paused(&mut rng, at, config, node),
        });
        at += rng.between(10_000, 5 * config.ttl);
    }
    orders
}

/// What operators do in a pause.
fn paused(rng: &mut Rng, at: u64, config: &Config, node: usize) -> Vec<(u64, Fault)> {
    let long = rng.between(5000, 3 * config.ttl);
    let (early, late) = (at + long / 3, at + long);
    let mut orders = vec![(at, Fault::Pause(true)), (late, Fault::Pause(false))];
    match rng.between(0, 5) {
        0 => orders.push((early, Fault::Foreign(true))),
        1 => orders.push((early, Fault::LoseData(node))),
        2 => orders.push((early, Fault::Failover(node % config.members))),
        3 => {
            orders.push((early, Fault::BrokenWatchdog(LEADER, true)));
            orders.push((late + 20_000, Fault::BrokenWatchdog(LEADER, false)));
        }
        _ => {
            orders.push((early, Fault::PromoteByHand(rng.between(0, config.members as u64 - 1) as usize)));
            if rng.percent(50) {
                orders.push((early, Fault::SlowStoreMember(LEADER, true)));
                orders.push((late, Fault::SlowStoreMember(LEADER, false)));
            }
            if rng.percent(60) {
                orders.push((early + rng.between(0, long / 2), Fault::DropLeaderKey));
            }
            if rng.percent(60) {
                orders.push((late + 1, Fault::DropLeaderKey));
            }
        }
    }
    orders
}

impl World {
    /// Who can be made from a backup alone. (Not in synchronous modes: a member that lost its data and is restored keeps its
    /// name in `/sync`, and its vote, which only the lag then limits: docs/safety.md.)
    pub(super) fn appoint_restorers(&mut self) {
        let any = self.config.hazards && self.config.sync == SyncMode::Off;
        for member in self.members.iter_mut().skip(1).filter(|_| any) {
            let mut me = (*member.me).clone();
            me.has_no_leader_method = true;
            member.me = me.into();
        }
    }

    /// Now and then somebody makes a backup of the primary.
    pub(super) fn back_up(&mut self) {
        if !self.config.hazards || !self.now.is_multiple_of(30_000) {
            return;
        }
        let ours = |data: &super::pg::Data| self.store.get("initialize") == Some(&*data.sysid);
        let writer = self.members.iter().find(|m| m.pg.writable() && m.pg.data.as_ref().is_some_and(ours));
        if let Some(writer) = writer {
            self.backup.clone_from(&writer.pg.data);
        }
    }

    /// Somebody removes a data directory under PostgreSQL. Not that of a primary that nobody could follow.
    pub(super) fn lose_data(&mut self, node: usize) {
        let Some(mine) = self.members[node].pg.data.clone() else { return };
        let near = |other: usize, of: &World| {
            let theirs = of.members[other].pg.lsn();
            other != node && of.streams(other, node) && theirs + CLOSE > mine.lsn
        };
        let leads = !self.members[node].pg.recovery;
        if !leads && !self.members.iter().any(|member| member.pg.writable()) {
            return;
        }
        let eligible = |other: &usize| !self.members[*other].me.tags.nofailover();
        if leads && !(0..self.members.len()).filter(eligible).any(|other| near(other, self)) {
            return;
        }
        let sync = self.sync_key();
        let elsewhere = |branch: u64, lsn: u64| {
            self.members.iter().enumerate().any(|(other, member)| {
                let named = sync.as_ref().is_some_and(|sync| sync.matches(&member.me.name, true));
                other != node && named && member.pg.data.as_ref().is_some_and(|data| data.has(branch, lsn))
            })
        };
        let kept: Vec<u64> =
            self.ledger.guaranteed.iter().filter(|(b, lsn)| elsewhere(**b, **lsn)).map(|(b, _)| *b).collect();
        self.ledger.guaranteed.retain(|branch, _| kept.contains(branch));
        self.forget_data(node);
        let pg = &mut self.members[node].pg;
        pg.crash();
        (pg.recovery, pg.source) = (false, None);
        pg.slots.clear();
    }

    /// `patronictl failover` to the node that has most, if nobody leads: a quorum that lost data never comes back by itself.
    /// Nor does a cluster whose maker died in the bootstrap: `/initialize` keeps others away until somebody removes it,
    /// as in the reference.
    pub(super) fn rescue(&mut self) {
        if self.store.get("leader").is_some() {
            return;
        }
        let makes = |job: &Job| matches!(job, Job::Bootstrap | Job::BootstrapStandbyLeader { .. });
        let bootstraps = (0..self.members.len()).any(|node| self.is_job(node, makes));
        if self.store.get("initialize") == Some("") && !bootstraps {
            self.store.delete("initialize");
            return self.wake_all();
        }
        if !self.config.hazards {
            return;
        }
        let sound = (0..self.members.len()).filter(|node| {
            let member = &self.members[*node];
            member.alive && member.pg.running
        });
        if let Some(best) = sound.max_by_key(|node| self.members[*node].pg.lsn()) {
            self.apply_order(Fault::Failover(best));
        }
    }

    /// `POST /restart` with a schedule.
    pub(super) fn schedule_restart(&mut self, node: usize, after: u64) {
        let at_us = EPOCH_US + (self.now + after) as i64 * 1000;
        let Some(when) = datetime::DateTime::from_unix(at_us / 1_000_000, 0, Some(0)) else { return };
        if self.members[node].alive {
            let schedule = when.isoformat();
            let data: Value = [("schedule", schedule.as_str())].into_iter().collect();
            self.members[node].scheduled = Some(ScheduledRestart { data, at_us, schedule });
        }
    }

    /// An operator sets or removes a tag, and reloads.
    pub(super) fn retag(&mut self, node: usize, nofailover: bool) {
        let mut me = (*self.members[node].me).clone();
        let mut tags = me.tags.as_value().clone();
        tags.set("nofailover", nofailover);
        me.tags = Tags::from_value(&tags);
        self.members[node].me = me.into();
    }

    /// In a pause an operator promotes a standby with pg_ctl: what it lacks is given up.
    pub(super) fn promote_by_hand(&mut self, node: usize) {
        let pg = &self.members[node].pg;
        let known = self.paused_since.is_some() && self.all_know_of_the_pause();
        // A second one would give two timelines the same number, which nobody could tell apart.
        let another = self.manual.values().any(|at| self.paused_since.is_some_and(|since| *at >= since));
        if !known || another || !pg.running || !pg.recovery || pg.opening {
            return;
        }
        self.manual.insert(node, self.now);
        self.members[node].by_hand = Some(self.now);
        self.ledger.last = None;
        self.promote(node);
        self.members[node].hand_branch = self.members[node].pg.data.as_ref().map(|data| data.branch);
        self.ledger.guaranteed.clear();
    }

    /// No server runs whose daemon has not heard of the pause, or has begun something.
    fn all_know_of_the_pause(&self) -> bool {
        // Nor does a cycle in progress, which may take the lock for a promise.
        let knows =
            |m: &Member| m.memory.config.is_paused() && m.loaded_at > self.pause_began && m.cycle.is_none();
        let idle = |m: &Member| !m.pg.running || (m.alive && m.slot.running().is_none() && knows(m));
        self.members.iter().all(idle)
    }

    /// In a pause somebody deletes the leader key.
    pub(super) fn drop_leader_key(&mut self) {
        // Also in the moment of its end, if primaries stand against each other; later it would be an attack.
        let rivals = self.members.iter().filter(|member| member.pg.writable()).count() > 1;
        let ending = rivals && self.now.saturating_sub(self.last_paused) <= 1;
        if (self.paused_since.is_some() || ending) && self.all_know_of_the_pause() {
            self.store.delete("leader");
        }
    }

    /// In a pause `/initialize` gets another cluster's identifier; before the end of the pause it has its own again.
    pub(super) fn make_foreign(&mut self, on: bool) {
        let known = self.store.get("initialize").map(str::to_owned);
        match (on, known, self.own_sysid.take()) {
            (true, Some(known), None) if self.paused_since.is_some() && known.len() > 10 => {
                self.own_sysid = Some(known);
                self.store.put("initialize", FOREIGN, None);
            }
            (false, _, Some(own)) => self.store.put("initialize", &own, None),
            (_, _, own) => self.own_sysid = own,
        }
    }
}
