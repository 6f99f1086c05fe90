//! Clients that remember what was acknowledged to them, and synchronous
//! replication as PostgreSQL does it.

use std::collections::BTreeMap;

use patroni_core::model::Lsn;
use patroni_core::model::SyncState;
use patroni_core::sync::{candidates, CurrentState, NameSet, Observed, ReplicaRow, SyncOptions, SyncType};
use patroni_core::PgVersion;

use super::invariants::LATE_PAUSE;
use super::pg::Data;
use super::planted::Planted;
use super::world::World;

/// What the writers write in a second, at most, over a long time.
const BYTES_PER_SECOND: u64 = 3000;

/// What clients were told.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By branch: the last commit that `/sync` promises to keep.
    pub guaranteed: BTreeMap<u64, u64>,
    /// The last commit of all.
    pub last: Option<(u64, u64)>,
    /// When.
    pub at: u64,
    /// How many acknowledgements.
    pub count: u64,
    /// The numbers of the timelines that promotions have begun, by branch.
    pub numbers: BTreeMap<u64, u32>,
    branches: u64,
}

impl Ledger {
    /// A new timeline.
    pub fn branch(&mut self) -> u64 {
        self.branches += 1;
        self.branches
    }
}

impl World {
    /// The standbys that stream from `node`, as pg_stat_replication shows them.
    pub(super) fn walsenders(&self, node: usize) -> Vec<ReplicaRow> {
        let names = &self.members[node].pg.sync_live.1;
        let mut rows: Vec<ReplicaRow> = (0..self.members.len())
            .filter(|i| *i != node && self.streams(*i, node))
            .map(|i| {
                let member = &self.members[i];
                let lsn = Some(Lsn::new(member.pg.lsn()));
                ReplicaRow {
                    pid: (i as i64) * 1000 + member.pg.incarnation as i64,
                    application_name: member.me.name.clone(),
                    sync_state: "async".into(),
                    write_lsn: lsn,
                    flush_lsn: lsn,
                    replay_lsn: lsn,
                    slot: Some(patroni_core::slots::member_slot_name(&member.me.name)),
                }
            })
            .chain(self.stranger_row(node))
            .collect();
        let place = |row: &ReplicaRow| names.members.iter().position(|n| n == row.application_name);
        let listed = |row: &ReplicaRow| names.has_star || names.members.contains(&row.application_name);
        rows.sort_by_key(|row| place(row).unwrap_or(usize::MAX));
        let mut taken = 0;
        for row in rows.iter_mut().filter(|row| listed(row)) {
            taken += 1;
            row.sync_state = match names.sync_type {
                SyncType::Off => "async",
                SyncType::Quorum => "quorum",
                SyncType::Priority if taken <= names.num => "sync",
                SyncType::Priority => "potential",
            }
            .into();
        }
        rows
    }

    /// Up to where commits on `node` are acknowledged; `known`: by members alone.
    fn confirmed(&self, node: usize, known: bool) -> u64 {
        let pg = &self.members[node].pg;
        let names = &pg.sync_live.1;
        let wanted = usize::try_from(names.num).unwrap_or(0);
        let counts = |row: &&ReplicaRow| {
            matches!(row.sync_state.as_str(), "sync" | "quorum") && (!known || row.slot.is_some())
        };
        let mut flushed: Vec<u64> = self
            .walsenders(node)
            .iter()
            .filter(counts)
            .filter_map(|row| row.flush_lsn.map(Lsn::bytes))
            .collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        match names.sync_type {
            SyncType::Off => pg.lsn(),
            _ if wanted == 0 => pg.lsn(),
            SyncType::Priority | SyncType::Quorum => flushed.get(wanted - 1).copied().unwrap_or(0),
        }
    }

    /// Commits that have what they wait for are acknowledged.
    pub(super) fn acknowledge(&mut self) {
        let promised = self.sync_key().is_some() && !self.sync_is_off;
        for node in 0..self.members.len() {
            let member = &self.members[node];
            if !member.pg.writable() || member.frozen() || self.excuse(node).is_some() {
                continue;
            }
            let Some(data) = &member.pg.data else { continue };
            let (branch, lsn) = (data.branch, self.confirmed(node, false).min(data.lsn));
            if self.ledger.last.is_some_and(|(b, l)| b == branch && l >= lsn) || lsn == 0 {
                continue;
            }
            // What was acknowledged on this branch began with it.
            let began = data.history.last().map_or(0, |(_, at, _)| *at);
            if lsn <= began {
                continue;
            }
            self.ledger.last = Some((branch, lsn));
            self.ledger.at = self.now;
            self.ledger.count += 1;
            // Not beside a primary that people have made: either may be rewound.
            let rival = (0..self.members.len()).any(|i| i != node && self.members[i].leads_by_hand());
            let kept = if self.stranger_is_news(node) { self.confirmed(node, true).min(lsn) } else { lsn };
            if promised && !rival && kept > began {
                let known = self.ledger.guaranteed.entry(branch).or_default();
                *known = kept.max(*known);
            }
        }
    }

    /// `/sync`, if it promises something.
    pub(super) fn sync_key(&self) -> Option<SyncState> {
        let sync = SyncState::from_node(None, self.store.get("sync")?);
        (!sync.is_empty()).then_some(sync)
    }

    /// Synchronous mode was switched off, by an operator who may want just that: its
    /// promises end.
    pub(super) fn note_sync_key(&mut self) {
        if self.sync_key().is_none() || self.sync_is_off {
            self.ledger.guaranteed.clear();
        }
    }

    /// As `Instance::settle_names`: the file says what is in force, or another value would be taken later. False: it
    /// cannot be written.
    fn settle_names(&mut self, node: usize) -> bool {
        let pg = &self.members[node].pg;
        if pg.sync_file == pg.sync_live.0 {
            return true;
        }
        if self.fails() {
            return false;
        }
        let pg = &mut self.members[node].pg;
        pg.sync_file.clone_from(&pg.sync_live.0);
        true
    }

    /// The synchronous standbys of `node` by the production rules.
    pub(super) fn current_sync(&mut self, node: usize) -> Option<CurrentState> {
        let rows = self.walsenders(node);
        let rows = self.as_the_daemon_sees(node, rows);
        let member = &self.members[node];
        if !member.pg.running || member.pg.state.is_starting() {
            return None;
        }
        if self.config.planted != Planted::LeavesUntakenNames && !self.settle_names(node) {
            return None;
        }
        let member = &mut self.members[node];
        let config = member.dynamic.clone();
        let cluster = self.store.cluster();
        let listed: NameSet = cluster.sync.voters().iter().collect();
        let options = SyncOptions {
            quorum_mode: config.is_quorum_commit_mode(),
            node_count: config.synchronous_node_count(),
            maximum_lag: config.maximum_lag_on_syncnode(),
            major_version: PgVersion::V15,
            by_slot: true,
        };
        let last_operation = Lsn::new(member.pg.lsn());
        let (live, file) = (member.pg.sync_live.0.clone(), member.pg.sync_file.clone());
        let early = self.config.planted == Planted::PublishesSyncEarly;
        let candidates = candidates(&cluster, &member.me.name);
        let observed = Observed { synchronous_commit: "on", rows: &rows, last_operation };
        let tracker = &mut self.members[node].tracker;
        tracker.observe_value(if early { &file } else { &live }, last_operation);
        let mut state = tracker.current_state(&candidates, &listed, &observed, &options);
        if early {
            state.sync_confirmed = state.active.clone();
        }
        Some(state)
    }

    /// An operator makes this node the primary, whatever it lacks: a failover that names it, or a restart of a stopped
    /// primary in pause.
    pub(super) fn operator_answers_for(&mut self, node: usize) {
        if let Some(data) = &self.members[node].pg.data {
            self.ledger.guaranteed.retain(|branch, lsn| data.has(*branch, *lsn));
        }
    }

    /// A promotion has ended: nothing that was promised may be missing.
    pub(super) fn check_history(&mut self, node: usize) {
        self.promotions += 1;
        let by_hand = self.is_manual(node);
        if by_hand {
            self.operator_answers_for(node);
        }
        // The order had gone out when the node stood still or was cut off, and the pause has ended without it.
        if self.excuse(node) == Some(LATE_PAUSE) && self.paused_since.is_none() {
            return;
        }
        let Some(data) = self.members[node].pg.data.clone() else { return };
        let missing = self.ledger.guaranteed.iter().find(|(branch, lsn)| !data.has(**branch, **lsn));
        if let Some((branch, _)) = missing.filter(|(branch, _)| self.is_namesake(&data, **branch)) {
            let branch = *branch;
            self.namesakes += 1;
            self.ledger.guaranteed.remove(&branch);
            return self.tell_all("  (known: two timelines of one number)");
        }
        if let Some((branch, lsn)) = missing {
            let what = format!(
                "n{node} was promoted without the acknowledged commit {lsn} of branch {branch}: it has {:?}",
                data.reach(*branch)
            );
            return self.fail(3, what);
        }
        let asynchronous = self.sync_key().is_none() && !by_hand && !self.config.failsafe;
        let window = 2 * (self.config.retry_timeout + self.config.loop_wait) + self.longest_ttl;
        // Nor does an order to fail over look at the lag once the leader is gone; one to switch over does.
        let ordered = self.failover_at > 0 && self.now < self.failover_at + 2 * window;
        let excused = ordered || (self.now < self.last_paused + 2 * window && self.last_paused > 0);
        if let (Some((branch, lsn)), true) = (self.ledger.last, asynchronous && !excused) {
            let lost = lsn.saturating_sub(data.reach(branch).unwrap_or(0));
            let bound = self.config.maximum_lag + BYTES_PER_SECOND * window / 1000;
            if lost > bound && data.reach(branch).is_some() {
                self.fail(4, format!("n{node} was promoted and {lost} bytes were lost, more than {bound}"));
            }
        }
    }

    /// Did it go through another timeline of the same number? A leader was promoted and cut off before anybody had its
    /// timeline, and so was the next one: neither PostgreSQL nor the engine can tell the two apart (docs/safety.md).
    fn is_namesake(&self, data: &Data, branch: u64) -> bool {
        let number = self.ledger.numbers.get(&branch);
        data.history.iter().any(|(timeline, _, other)| Some(timeline) == number && *other != branch)
    }

    /// Only copies of promised commits must not be removed.
    pub(super) fn check_removal(&mut self, node: usize) {
        let Some(mine) = self.members[node].pg.data.clone() else { return };
        let lost = self.ledger.guaranteed.iter().find(|(branch, lsn)| {
            let elsewhere =
                self.members.iter().enumerate().any(|(i, m)| {
                    i != node && m.pg.data.as_ref().is_some_and(|data| data.has(**branch, **lsn))
                });
            mine.has(**branch, **lsn) && !elsewhere
        });
        if let Some((branch, lsn)) = lost {
            let what = format!("n{node} removes the only copy of commit {lsn} of branch {branch}");
            self.fail(6, what);
        }
    }
}
