//! Replication slots in the simulated world: the production book and plans
//! (`patroni_core::slots`) on servers with physical slots and, where the profile says so, one logical slot with a consumer.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use patroni_core::model::{Cluster, Lsn, Status};
use patroni_core::slots::{
    self, Desired, DropResult, KnownKind, KnownSlot, Node, PhysicalAction, PlannedDrop, SlotInventory,
};
use patroni_core::PgVersion;
use pyfmt::Value;

use super::config::Config;
use super::planted::Planted;
use super::world::World;

/// PostgreSQL 15, which advances slots and reserves WAL at their creation.
pub const VERSION: PgVersion = PgVersion::V15;
/// A slot that `ignore_slots` names.
pub const IGNORED: &str = "ours_to_keep";
/// A slot that nobody wants.
pub const STRAY: &str = "stray";
/// A permanent slot of the dynamic configuration.
pub const PERMANENT: &str = "permanent";
/// A logical one, where there is any.
pub const LOGICAL: &str = "subscribed";
const PLUGIN: &str = "test_decoding";
const DATABASE: &str = "app";

/// The slots of a server: their `restart_lsn` by name.
pub type Slots = BTreeMap<String, Lsn>;

/// What the daemon knows of slots.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// Of the local server.
    pub book: Option<SlotInventory>,
    /// Of which postmaster.
    pub incarnation: u64,
    /// As a leader: whose slots are to be kept.
    pub retention: slots::Retention,
    /// What the last monitoring row would have published.
    pub published: IndexMap<String, Lsn>,
}

/// The part of the dynamic configuration that concerns slots.
pub fn configure(config: &mut Value, with_logical: bool) {
    let physical: Value = [("type", "physical")].into_iter().collect();
    let mut slots: Value = [(PERMANENT, physical)].into_iter().collect();
    if with_logical {
        let logical = [("type", "logical"), ("database", DATABASE), ("plugin", PLUGIN)];
        slots.set(LOGICAL, logical.into_iter().collect::<Value>());
    }
    config.set("slots", slots);
    let ignored: Value = [("name", IGNORED), ("type", "physical")].into_iter().collect();
    config.set("ignore_slots", Value::List(vec![ignored]));
}

fn known(name: &str, lsn: Lsn) -> KnownSlot {
    let physical = KnownKind::Physical { xmin: None, restart_lsn: Some(lsn) };
    let logical = KnownKind::Logical {
        plugin: PLUGIN.into(),
        database: Some(DATABASE.into()),
        datoid: Some(16_384),
        catalog_xmin: None,
        confirmed_flush_lsn: Some(lsn),
    };
    KnownSlot { kind: if name == LOGICAL { logical } else { physical }, wal_status: None }
}

impl World {
    /// May a WAL receiver use its slot there?
    pub(super) fn has_slot(&self, source: usize, node: usize) -> bool {
        self.members[source].pg.slots.contains_key(&slots::member_slot_name(&self.members[node].me.name))
    }

    /// A walsender has confirmed a position.
    pub(super) fn confirm_slot(&mut self, source: usize, node: usize) {
        let lsn = Lsn::new(self.members[node].pg.lsn());
        let name = slots::member_slot_name(&self.members[node].me.name);
        self.members[source].pg.slots.insert(name, lsn);
    }

    /// What the monitoring statement shows of slots.
    pub(super) fn observe_slots(&mut self, node: usize) {
        let member = &mut self.members[node];
        let Some(cluster) = member.memory.cluster.clone() else { return };
        let seen = member.pg.slots.iter().map(|(name, lsn)| (name.clone(), known(name, *lsn))).collect();
        let positions = member.slots.book.as_mut().map(|book| book.refresh(&seen)).unwrap_or_default();
        let name = member.me.name.clone();
        let all = slots::with_own_slot(positions, &name, Lsn::new(member.pg.lsn()), VERSION);
        member.slots.published =
            slots::maybe_filter_permanent_slots(&cluster, &member.dynamic, &name, VERSION, all);
    }

    /// The lock was acquired: what the former leader has published is kept for its time.
    pub(super) fn retain_slots(&mut self, node: usize) {
        let now = self.clock(node);
        let retained = self.members[node].seen.status.retain_slots.clone();
        self.members[node].slots.retention.restart(&retained, now);
    }

    /// What this node writes to `/status`.
    pub(super) fn status_of(
        &mut self,
        node: usize,
        last_lsn: Lsn,
        positions: Option<IndexMap<String, Lsn>>,
    ) -> Status {
        let now = self.clock(node);
        let member = &mut self.members[node];
        let positions = positions.filter(|s| !s.is_empty());
        let shown = positions.clone().unwrap_or_default();
        let (retain, _) =
            member.slots.retention.build(&member.seen, &member.dynamic, &member.me.name, &shown, now);
        Status { last_lsn, slots: positions, retain_slots: retain.unwrap_or_default() }
    }

    /// One round of creating, dropping and advancing, as `sync_replication_slots` does it; the logical slots to copy.
    pub(super) fn sync_slots(&mut self, node: usize, cluster: &Cluster) -> Vec<String> {
        let member = &self.members[node];
        if !member.pg.running || member.pg.opening || member.pg.state.is_starting() {
            return Vec::new();
        }
        let (me, config) = (member.me.clone(), member.dynamic.clone());
        let role = member.pg.role;
        let subject = Node { name: &me.name, tags: &me.tags, role, major_version: VERSION };
        let incarnation = self.members[node].pg.incarnation;
        let known_slots = &mut self.members[node].slots;
        let mut book = known_slots.book.take().unwrap_or_default();
        if std::mem::replace(&mut known_slots.incarnation, incarnation) != incarnation {
            book.schedule();
        }
        if book.needs_reload() {
            let all =
                self.members[node].pg.slots.iter().map(|(n, lsn)| (n.clone(), known(n, *lsn))).collect();
            book.load(all);
        }
        let (mut wanted, _) = slots::desired_slots(cluster, &config, &subject, &subject.subject());
        let none = Vec::new();
        let ignored = match self.config.planted {
            Planted::ForgetsIgnored => none.as_slice(),
            _ => config.ignore_slots_matchers(),
        };
        let paused = config.is_paused() && self.config.planted != Planted::DropsInPause;
        let spared = slots::Spared { ignored, citus_database: None };
        for drop in book.plan_drops(&wanted, &spared, paused) {
            let result = self.drop_slot(node, &drop, config.is_paused());
            book.dropped(&drop, result);
        }
        let clean = self.is_clean(node, cluster);
        for action in book.plan_physical(&wanted, true, clean) {
            match action {
                PhysicalAction::Create(name) => self.create_slot(node, &name),
                PhysicalAction::Advance { name, lsn } => self.advance_slot(node, &name, lsn),
                PhysicalAction::Drop(drop) => {
                    let result = self.drop_slot(node, &drop, config.is_paused());
                    book.dropped(&drop, result);
                    if book.recreate_after(&drop, result) {
                        self.create_slot(node, &drop.name);
                    }
                }
            }
        }
        let copy = self.tend_logical(node, &mut book, &mut wanted);
        book.settle(&wanted);
        self.members[node].slots.book = Some(book);
        copy
    }

    fn tend_logical(&mut self, node: usize, book: &mut SlotInventory, wanted: &mut Desired) -> Vec<String> {
        if !self.members[node].pg.recovery {
            for slot in book.plan_logical_primary(wanted).into_values().flatten() {
                self.create_slot(node, &slot.name);
            }
            return Vec::new();
        }
        let work = book.plan_logical_replica(wanted, Lsn::new(self.members[node].pg.lsn()));
        for (name, lsn) in work.advance.into_values().flatten() {
            self.advance_slot(node, &name, lsn);
        }
        work.copy
    }

    /// The end of a copy of logical slots from the leader.
    pub(super) fn copy_slots(&mut self, node: usize, names: &[String]) {
        let leader = self.store.get("leader").and_then(|name| self.index_of(name));
        let Some(leader) = leader.filter(|leader| *leader != node && self.reaches_peer(node, *leader)) else {
            return;
        };
        if !self.members[leader].pg.running || !self.members[node].pg.recovery {
            return;
        }
        for name in names {
            if let Some(lsn) = self.members[leader].pg.slots.get(name).copied() {
                self.members[node].pg.slots.insert(name.clone(), lsn);
                self.check_consumer(node, name, lsn);
            }
        }
    }

    /// Somebody reads the logical slot of the leader, and confirms what it has got.
    pub(super) fn consume(&mut self) {
        if !self.config.logical || self.rng.percent(50) {
            return;
        }
        let leader = self.store.get("leader").and_then(|name| self.index_of(name));
        let Some(leader) = leader.filter(|leader| self.members[*leader].pg.writable()) else { return };
        let lsn = Lsn::new(self.members[leader].pg.lsn());
        let branch = self.members[leader].pg.data.as_ref().map_or(0, |data| data.branch);
        if let Some(slot) = self.members[leader].pg.slots.get_mut(LOGICAL) {
            *slot = lsn.max(*slot);
            self.consumed = Some((branch, slot.bytes()));
        }
    }

    /// The slot of a standby must not be ahead of its consumer, who would miss what is between.
    fn check_consumer(&mut self, node: usize, name: &str, target: Lsn) {
        let Some((branch, confirmed)) = self.consumed else { return };
        let mine = self.members[node].pg.data.as_ref().map_or(0, |data| data.branch);
        if name == LOGICAL && mine == branch && target.bytes() > confirmed {
            self.fail(
                10,
                format!("n{node} has the logical slot at {}, its consumer is at {confirmed}", target.bytes()),
            );
        }
    }

    fn is_clean(&self, node: usize, cluster: &Cluster) -> bool {
        let member = &self.members[node];
        cluster.leader_name().is_some_and(|leader| leader != member.me.name || !member.pg.recovery)
    }

    fn create_slot(&mut self, node: usize, name: &str) {
        let lsn = Lsn::new(self.members[node].pg.lsn());
        // It begins where the server is, and what its owner lacks is not kept (a server that was copied
        // or rewound has none to begin with).
        self.rob(name, lsn);
        self.members[node].pg.slots.entry(name.to_owned()).or_insert(lsn);
    }

    /// The slot of a member may be ahead of it, up to `lsn`: it was made there, or the member was there before it lost its
    /// data. What the cluster knows of the slot stays, as in the reference.
    pub(super) fn rob(&mut self, name: &str, lsn: Lsn) {
        let mark = self.robbed.entry(name.to_owned()).or_default();
        *mark = lsn.max(*mark);
    }

    /// Who streams by that slot, if anybody does.
    fn walsender_of(&self, node: usize, name: &str) -> Option<usize> {
        (0..self.members.len())
            .find(|i| slots::member_slot_name(&self.members[*i].me.name) == name && self.streams(*i, node))
    }

    fn drop_slot(&mut self, node: usize, drop: &PlannedDrop, paused: bool) -> DropResult {
        let name = &drop.name;
        if self.walsender_of(node, name).is_some() {
            return DropResult::Active;
        }
        if self.members[node].pg.slots.remove(name).is_none() {
            return DropResult::Failed;
        }
        if name == IGNORED {
            self.fail(10, format!("n{node} drops the slot that ignore_slots names"));
        }
        if paused && name == STRAY {
            self.fail(10, format!("n{node} drops a foreign slot in pause"));
        }
        DropResult::Dropped
    }

    /// `pg_replication_slot_advance`: forward only, and not beyond what the server has.
    fn advance_slot(&mut self, node: usize, name: &str, lsn: Lsn) {
        let far = if self.config.planted == Planted::AdvancesTooFar {
            Lsn::new(lsn.bytes() + 1_000_000)
        } else {
            lsn
        };
        let pg = &mut self.members[node].pg;
        let Some(slot) = pg.slots.get(name).copied() else { return };
        let target = far.min(Lsn::new(pg.lsn()));
        if target <= slot {
            return;
        }
        pg.slots.insert(name.to_owned(), target);
        if name == IGNORED {
            self.fail(10, format!("n{node} advances the slot that ignore_slots names"));
        }
        self.check_advance(node, name, target);
        self.check_consumer(node, name, target);
    }

    /// A member's slot must not run away from it: what it needs next would be removed.
    fn check_advance(&mut self, node: usize, name: &str, target: Lsn) {
        let owner = self.index_of(name).filter(|owner| *owner != node);
        let Some(owner) = owner else { return };
        let (theirs, mine) = (&self.members[owner].pg.data, &self.members[node].pg.data);
        let (Some(theirs), Some(mine)) = (theirs, mine) else { return };
        let robbed = self.robbed.get(name).is_some_and(|mark| target <= *mark);
        if theirs.branch == mine.branch && Lsn::new(theirs.lsn) < target && !robbed {
            let at = theirs.lsn;
            self.fail(
                10,
                format!("n{node} advances the slot of n{owner} to {}, which is at {at}", target.bytes()),
            );
        }
    }

    /// An operator makes or removes a slot.
    pub(super) fn order_slot(&mut self, node: usize, name: &str, there: bool) {
        let members: Vec<String> = self.members.iter().map(|m| slots::member_slot_name(&m.me.name)).collect();
        if !self.members[node].pg.running {
            return;
        }
        if there {
            self.create_slot(node, name);
        } else if let Some(victim) = members.get((self.now as usize) % members.len()) {
            if self.walsender_of(node, victim).is_none() {
                self.members[node].pg.slots.remove(victim);
            }
        }
    }

    /// In the end the leader has a slot for each member, and everybody the permanent one. (One that nobody wants
    /// is found with the next reading of all slots only, as in the reference.)
    pub(super) fn check_slots(&mut self) {
        let Some(leader) = self.store.get("leader").and_then(|name| self.index_of(name)) else { return };
        for node in 0..self.members.len() {
            let slots = &self.members[node].pg.slots;
            if !self.members[node].pg.running || !self.members[node].alive {
                continue;
            }
            let permanent = slots.contains_key(PERMANENT);
            let lacks =
                (0..self.members.len()).find(|i| node == leader && *i != node && !self.has_slot(node, *i));
            if !permanent && !self.members[node].me.tags.nofailover() {
                self.fail(10, format!("n{node} lacks the permanent slot"));
            }
            if let Some(member) = lacks {
                self.fail(10, format!("the leader n{node} lacks the slot of n{member}"));
            }
        }
    }
}

/// Orders about slots, apart from the other faults so that those stay as they are.
pub(super) fn orders(seed: u64, config: &Config, until: u64) -> Vec<(u64, usize, &'static str, bool)> {
    let mut rng = super::rng::Rng::new(seed ^ 0x5107_5107);
    let mut orders = Vec::new();
    let mut at = 40_000;
    while at < until {
        let node = rng.between(0, config.members as u64 - 1) as usize;
        let node = if rng.percent(40) { super::faults::LEADER } else { node };
        let (name, there) = match rng.between(0, 3) {
            0 => (IGNORED, true),
            1 | 2 => (STRAY, true),
            _ => ("", false),
        };
        orders.push((at, node, name, there));
        at += rng.between(5_000, 60_000);
    }
    orders
}
