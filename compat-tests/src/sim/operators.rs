//! Operators, with the means that they have: keys in the DCS and the REST API.

use patroni_core::ha::{commands, Job};
use patroni_core::model::{failover_value, FailoverOrder, SyncState};
use pyfmt::{datetime, json, Value};

use super::config::{Config, SyncMode};
use super::events::Event;
use super::faults::{Fault, LEADER};
use super::node::EPOCH_US;
use super::planted::Planted;
use super::rng::Rng;
use super::world::World;

/// How long the failover to a named member may last.
const MANUAL_FOR: u64 = 180_000;

/// A member is down until it has left `/sync`, comes back, and is named in an order just before the leader dies.
pub(super) fn void_orders(seed: u64, config: &Config) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed ^ 0x0de2_0000);
    let mut faults = Vec::new();
    let mut at = 60_000;
    for _ in 0..4 {
        let node = rng.between(0, config.members as u64 - 1) as usize;
        let down = rng.between(config.ttl, 3 * config.ttl);
        faults.push((at, Fault::KillNode(node, down)));
        at += down + rng.between(500, 2 * config.loop_wait);
        faults.push((at, Fault::SwitchoverToOutsider));
        let long = rng.between(config.ttl, 6 * config.ttl);
        faults.push((at + rng.between(0, 20), Fault::KillNode(LEADER, long)));
        at += long + rng.between(config.ttl, 3 * config.ttl);
    }
    faults
}

impl World {
    /// An order in the DCS stands until somebody removes it.
    pub(super) fn notice_order(&mut self) {
        let Some(order) = self.store.get("failover").and_then(|text| json::loads(text).ok()) else { return };
        self.ordered_at = self.now;
        let named = order.get("member").filter(|_| order.get("leader").is_none());
        // One that names nobody is no order to fail over, but what is left of one that was carried out.
        if named.is_some() {
            self.failover_at = self.now;
        }
        if let Some(node) = named.and_then(|name| self.index_of(&name.py_str())) {
            self.manual.insert(node, self.now);
        }
    }

    /// Does an operator answer for what this node lacks as the primary? He has named it: the promotion and the first
    /// write of `/sync` after it may take their time.
    pub(super) fn is_manual(&self, node: usize) -> bool {
        self.manual.get(&node).is_some_and(|at| self.now <= at + MANUAL_FOR)
    }

    pub(super) fn apply_order(&mut self, order: Fault) {
        match order {
            Fault::Switchover(after) => self.order_switchover(after),
            Fault::SwitchoverToOutsider => self.order_outsider(),
            Fault::Failover(node) => self.order_failover(node),
            Fault::Pause(on) => self.order_pause(on),
            Fault::Restart(node) => self.order_restart(node),
            Fault::Reinit(node) => self.order_reinit(node),
            Fault::Timing(ttl, loop_wait, retry_timeout) => {
                self.longest_ttl = self.longest_ttl.max(ttl * 1000);
                self.change_config(|config| {
                    config.set("ttl", ttl);
                    config.set("loop_wait", loop_wait);
                    config.set("retry_timeout", retry_timeout);
                });
            }
            Fault::Sync(mode, count) if self.store.get("config").is_some() => {
                self.sync_is_off = mode == SyncMode::Off;
                self.note_sync_key();
                self.change_config(|config| {
                    config.set("synchronous_mode", mode.value());
                    config.set("synchronous_node_count", count);
                });
            }
            _ => {}
        }
    }

    pub(super) fn change_config(&mut self, change: impl FnOnce(&mut Value)) {
        let Some(mut config) = self.store.get("config").and_then(|text| json::loads(text).ok()) else {
            return;
        };
        change(&mut config);
        self.store.put("config", &json::dumps_compact(&config), None);
        self.wake_all();
    }

    fn order_switchover(&mut self, after: Option<u64>) {
        let Some(leader) = self.store.get("leader").map(str::to_owned) else { return };
        // The REST API takes none without a candidate in pause.
        if self.paused_since.is_some() {
            return;
        }
        let when = after.and_then(|after| {
            let seconds = EPOCH_US / 1_000_000 + (self.now + after) as i64 / 1000;
            Some(datetime::DateTime::from_unix(seconds, 0, Some(0))?.isoformat())
        });
        let text = failover_value(FailoverOrder {
            leader: Some(&leader),
            scheduled_at: when.as_deref(),
            ..Default::default()
        });
        self.store.put("failover", &text, None);
        self.wake_all();
    }

    /// The REST API of a leader would refuse it; whoever writes the key is not asked.
    fn order_outsider(&mut self) {
        let Some(leader) = self.store.get("leader").map(str::to_owned) else { return };
        let sync = self.store.get("sync").map(|text| SyncState::from_node(None, text)).unwrap_or_default();
        let outside = |name: &&String| **name != leader && !sync.matches(name, true);
        let names = self.members.iter().filter(|m| m.alive).map(|m| &m.me.name);
        let Some(candidate) = names.clone().find(outside).cloned() else { return };
        let order =
            FailoverOrder { leader: Some(&leader), candidate: Some(&candidate), ..FailoverOrder::default() };
        self.store.put("failover", &failover_value(order), None);
        self.wake_all();
    }

    fn order_failover(&mut self, node: usize) {
        let member = &self.members[node];
        // In a pause the order is obeyed also beside a primary that has lost the lock: two timelines of the same number,
        // which nobody can tell apart.
        let rival = self.store.get("leader").is_none() && self.members.iter().any(|m| m.pg.writable());
        let unwise = self.paused_since.is_some() && (!self.config.hazards || rival);
        if unwise || !member.alive || self.config.members == 1 {
            return;
        }
        let name = member.me.name.clone();
        self.manual.insert(node, self.now);
        let text = failover_value(FailoverOrder { candidate: Some(&name), ..Default::default() });
        self.store.put("failover", &text, None);
        self.wake_all();
    }

    fn order_pause(&mut self, on: bool) {
        let known = self.store.get("config").is_some();
        if on == self.paused_since.is_some() || !known {
            return;
        }
        if !on {
            self.make_foreign(false);
        }
        self.paused_since = on.then_some(self.now);
        self.pause_began = self.paused_since.unwrap_or(self.pause_began);
        self.last_paused = self.now;
        self.change_config(|config| config.set("pause", if on { Value::from(true) } else { Value::Null }));
    }

    /// `POST /restart` at this member.
    fn order_restart(&mut self, node: usize) {
        let member = &self.members[node];
        if !member.alive || member.frozen() || member.pg.data.is_none() || member.ending || self.holds(node) {
            return;
        }
        let job = commands::restart_job(&Value::map(), &member.memory, self.has_lock(node));
        let Job::Restart { timeout, .. } = job else { return };
        let by_hand = member.memory.config.is_paused() && !member.pg.running && !member.pg.recovery;
        if self.order_job(node, &job).is_ok() {
            self.members[node].restarting = Some(timeout);
            if by_hand {
                self.operator_answers_for(node);
            }
        }
    }

    /// Is the leader on another timeline of this node's number? pg_rewind does not help.
    pub(super) fn is_namesake_of_leader(&self, node: usize) -> bool {
        let leader = self.store.get("leader").and_then(|name| self.index_of(name)).filter(|i| *i != node);
        let theirs = leader.and_then(|leader| self.members[leader].pg.data.as_ref());
        self.members[node]
            .pg
            .data
            .as_ref()
            .zip(theirs)
            .is_some_and(|(mine, theirs)| mine.is_namesake_of(theirs))
    }

    /// Somebody looks after a member whose WAL is gone, that was half rewound, or whose log says that only a new copy
    /// helps: it is made anew, a standby leader after another has taken over.
    pub(super) fn fill_gap(&mut self, node: usize) {
        let helpless = self.is_namesake_of_leader(node);
        if !self.members[node].pg.gap && !self.members[node].half_made() && !helpless {
            return;
        }
        if !self.has_lock(node) {
            return self.apply_order(Fault::Reinit(node));
        }
        if let Some(other) = (0..self.members.len()).find(|i| *i != node && !self.members[*i].pg.gap) {
            self.apply_order(Fault::Failover(other));
            let at = self.now + 30_000;
            self.at(at, Event::FillGap { node });
        }
    }

    /// `POST /reinitialize` at this member.
    fn order_reinit(&mut self, node: usize) {
        let member = &self.members[node];
        if !member.alive || member.frozen() || member.ending || self.holds(node) || !self.reaches_dcs(node) {
            return;
        }
        let name = if self.config.planted == Planted::ReinitsLeader { "" } else { member.me.name.as_str() };
        let cluster = self.store.cluster();
        let config = member.memory.config.updated_from(&cluster);
        match commands::reinitialize(name, &cluster, &config, false, 0) {
            Ok(job) => drop(self.order_job(node, &job)),
            Err(refusal) => self.tell(node, format!("  reinitialize: {refusal}")),
        }
    }
}
