//! Effects that come to nothing, orderly stops that take long, an old state of the DCS, and a
//! `synchronous_standby_names` that something else overrules.

use patroni_core::ha::{ask, Ask, SyncNames, SyncNamesSet, Walsender};
use patroni_core::model::Lsn;
use pyfmt::json;

use super::config::{Config, SyncMode};
use super::effects::{now_and, Effect};
use super::events::After;
use super::faults::{Fault, LEADER};
use super::plan::spell;
use super::planted::Planted;
use super::rng::Rng;
use super::world::World;

/// How long the server may take to go by new synchronous standbys before the daemon says that it does not.
const TAKEN_WITHIN: u64 = 2000;
/// So many in a hundred effects fail.
const FAIL: u64 = 2;

/// The faults of this module that a seed brings, besides the others.
pub(super) fn orders(seed: u64, config: &Config, until: u64) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed ^ 0x1a95_e500);
    let mut faults = Vec::new();
    if rng.percent(50) {
        faults.push((rng.between(60_000, until), Fault::SlowStop(LEADER)));
    }
    if config.sync != SyncMode::Off && rng.percent(40) {
        // ALTER SYSTEM on all standbys (a copy of one that had it), taken back on one after the other.
        let at = rng.between(60_000, until);
        for node in 0..config.members {
            faults.push((at, Fault::Overrule(node, true)));
            faults.push((at + rng.between(0, 8 * config.ttl), Fault::Overrule(node, false)));
        }
    }
    faults
}

/// Calm days with a backup of the DCS, a switchover, and the restore of that backup; nothing else goes wrong, but that all
/// members but one may die just then, where synchronous replication promises that nothing is lost.
pub(super) fn restores(seed: u64, config: &Config) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed ^ 0x2e57_07e5);
    let mut blows = Rng::new(seed ^ 0x0b10_0500);
    let mut faults = Vec::new();
    let mut at = 60_000;
    for _ in 0..4 {
        faults.push((at, Fault::Snapshot));
        at += rng.between(5_000, 20_000);
        faults.push((at, Fault::Switchover(None)));
        // What the new leader acknowledges meanwhile is nowhere else.
        let behind = config.sync == SyncMode::Off;
        if behind {
            faults.extend((0..config.members).map(|node| (at + 20_000, Fault::Stall(node, true))));
        }
        at += rng.between(140_000, 260_000);
        faults.push((at, Fault::Restored));
        if !behind && blows.percent(50) {
            faults.extend(left_alone(&mut blows, at, config));
        }
        at += 60_000 + 3 * config.ttl;
        faults.extend((0..config.members).map(|node| (at - 30_000, Fault::Stall(node, false))));
    }
    faults
}

/// Nobody reaches the restored DCS before the leases in it are over. Then one member does, which has fallen behind; the
/// others can be asked, and cannot take the lock, until they die.
fn left_alone(rng: &mut Rng, at: u64, config: &Config) -> Vec<(u64, Fault)> {
    let alone = rng.between(0, config.members as u64 - 1) as usize;
    let back = at + config.ttl + rng.between(1_000, 5_000);
    let blow = back + rng.between(0, 15_000);
    let mut faults = spell(at - 10_000, 70_000, |on| Fault::Stall(alone, on));
    faults.extend(spell(at - 1, back - at, |on| Fault::CutDcs(alone, on)));
    for node in (0..config.members).filter(|node| *node != alone) {
        faults.extend(spell(at - 1, blow - at + 1, |on| Fault::CutDcs(node, on)));
        let down = rng.between(5_000, 90_000);
        let whole = rng.percent(60);
        faults.push((blow, if whole { Fault::KillNode(node, down) } else { Fault::KillDaemon(node, down) }));
    }
    faults
}

impl World {
    /// Does an effect fail this time?
    pub(super) fn fails(&mut self) -> bool {
        self.faults_on && self.rng.percent(FAIL)
    }

    pub(super) fn apply_lapse(&mut self, fault: &Fault) {
        match fault {
            Fault::SlowStop(node) if self.members[*node].alive => {
                self.members[*node].pg.crawls = true;
                let long = self.rng.between(1000, 5000);
                self.apply_fault(Fault::Shutdown(*node, long));
            }
            Fault::Overrule(node, on) => self.overrule(*node, *on),
            Fault::Snapshot => self.store.save(),
            Fault::Restored => {
                let now = self.now;
                self.store.restore(now);
                self.restored_at = Some(now);
                self.lose_watches();
            }
            _ => {}
        }
    }

    /// `ALTER SYSTEM SET synchronous_standby_names = ''` and a reload. Not on a primary, nor on one that has the lock and
    /// was looked at before its promotion: that would be an order.
    fn overrule(&mut self, node: usize, on: bool) {
        let has_lock = self.has_lock(node);
        let pg = &mut self.members[node].pg;
        if on && (!pg.recovery || has_lock) {
            return;
        }
        pg.overruled = on;
        if pg.running && !pg.opening {
            pg.reloaded();
            self.check_sync_promise();
        }
    }

    /// `synchronous_standby_names` is written at once, or not at all; the server takes it a moment later.
    pub(super) fn sync_names_asked(&mut self, node: usize, asked: &ask::SetSyncNames) -> Effect {
        if self.fails() && self.config.planted != Planted::TrustsSyncNames {
            return now_and(1, asked.reply(SyncNamesSet::NotWritten));
        }
        if self.config.planted != Planted::TrustsSyncNames || !self.rng.percent(10) {
            self.set_sync_names(node, &asked.0);
        }
        (1, asked.reply(SyncNamesSet::InForce), After::Nothing)
    }

    /// Does the server go by what was meant? None: not yet.
    pub(super) fn sync_names_taken(
        &self,
        node: usize,
        names: &SyncNames,
        waited: u64,
    ) -> Option<SyncNamesSet> {
        let pg = &self.members[node].pg;
        let careless = matches!(
            self.config.planted,
            Planted::TrustsSyncNames | Planted::PublishesSyncEarly | Planted::PromotesUnsynced
        );
        let nobody_asks = matches!(names, SyncNames::User(_)) || !pg.running || pg.state.is_starting();
        let taken = careless || nobody_asks || pg.sync_live.0 == self.sync_value(node, names);
        if !taken && waited < TAKEN_WITHIN {
            return None;
        }
        Some(if taken { SyncNamesSet::InForce } else { SyncNamesSet::Overruled })
    }

    /// Who receives WAL from this node; with the planted defect, everybody.
    pub(super) fn receivers(&self, node: usize) -> Vec<Walsender> {
        if self.config.planted == Planted::SwitchesUnfed {
            let all = self.members.iter().map(|m| Walsender { name: m.me.name.clone(), flushed: Lsn::MAX });
            return all.collect();
        }
        let rows = self.walsenders(node).into_iter();
        rows.map(|row| Walsender { name: row.application_name, flushed: row.flush_lsn.unwrap_or_default() })
            .collect()
    }

    /// The leader gives its key away for an order to switch over: somebody must have what it has acknowledged.
    pub(super) fn check_handover(&mut self, node: usize) {
        let order = self.store.get("failover").and_then(|text| json::loads(text).ok());
        let name = self.members[node].me.name.clone();
        let planned = order.is_some_and(|order| order.get("leader").and_then(|l| l.as_str()) == Some(&name));
        // A demotion for a failover goes on when an operator has written another order over it.
        let begun = self.members[node].memory.demotion.as_ref();
        let gives = begun.is_some_and(|begun| !begun.action.starts_with("manual failover"));
        let stops = gives && !self.members[node].ending;
        let (true, true, true, Some((branch, lsn))) = (self.has_lock(node), planned, stops, self.ledger.last)
        else {
            return;
        };
        let own = self.members[node].pg.data.as_ref().is_some_and(|data| data.branch == branch);
        let kept = |m: &super::node::Member| m.pg.data.as_ref().is_some_and(|data| data.has(branch, lsn));
        let elsewhere = self.members.iter().enumerate().any(|(other, m)| other != node && kept(m));
        // A standby cluster acknowledges nothing; what was acknowledged before it became one went with the order.
        let copies = self.remote.copied_since.is_some();
        // After a fence there is nothing left to plan.
        let fenced = self.members[node].lock.is_fenced();
        if own && !elsewhere && !copies && !fenced && !self.members[node].reference {
            let what = format!("n{node} gives the lock away in a switchover, and nobody has commit {lsn}");
            self.fail(4, what);
        }
    }

    /// A stop whose sessions have ended is not to be broken off.
    pub(super) fn check_orderly_stop(&mut self, node: usize, who: &str) {
        let pg = &self.members[node].pg;
        if pg.running && pg.stopping && self.config.planted != Planted::FencesLate {
            self.fail(9, format!("the {who} breaks off the stop of n{node}, in which no client is left"));
        }
    }
}
