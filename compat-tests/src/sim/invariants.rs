//! What must never happen, and what must happen in the end. The numbers are those
//! of issue 9.

use patroni_core::ha::{ask, DataDir, Job, NodeRequest, Request, ServerRequest, View};
use patroni_core::sync::SyncType;

use super::hazards::Dir;
use super::remote::REMOTE;
use super::world::World;

/// The excuse of a node that has not heard that the pause is over.
pub(super) const LATE_PAUSE: &str = "late pause";

impl World {
    /// Why a writable primary is not this engine's fault. The only excuses there are:
    ///
    /// - the *orphan*: its daemon was killed or stopped and nothing else, and there is
    ///   neither a guardian nor a watchdog, or it was killed in a pause, when both are off.
    ///   It ends with the first cycle of the daemon that is started again and recognises it;
    /// - a *late pause*: the cluster was resumed, and the node still believes in
    ///   the pause because it has not reached the DCS since. It ends when it does;
    /// - what an operator *promoted manually*, until a cycle has seen it;
    /// - a node that *stood still with its clocks*, until its keeper has asked for the lock, or has given up asking;
    /// - a member with the *reference's timing* that has lost the lock and does not know it.
    pub(super) fn excuse(&self, node: usize) -> Option<&'static str> {
        let member = &self.members[node];
        // The keeper of a daemon that was stopped acts at the first instant after.
        let stands_still = self.now <= member.stopped_until + 1 && member.stopped_until > 0;
        let daemon_works = member.alive && member.settled && !stands_still;
        let unwatched = !self.config.watchdog && !self.config.guardian;
        if member.died_in_pause || !daemon_works && unwatched {
            return Some("orphan");
        }
        if self.now < member.doubt_until && member.lock.is_in_doubt() {
            return Some("stood still with its clocks");
        }
        if self.lost_unawares(node) {
            return Some("the reference's timing");
        }
        if member.by_hand.is_some() {
            return Some("promoted manually");
        }
        // A pause takes effect with the cycle that sees it, and ends so.
        member.memory.config.is_paused().then_some(LATE_PAUSE)
    }

    pub(super) fn check_safety(&mut self) {
        let mut writable = Vec::new();
        for (i, member) in self.members.iter().enumerate() {
            if member.pg.writable() && !member.frozen() {
                writable.push(i);
            }
        }
        let serves = writable.first().copied().or_else(|| self.serves_standby().then_some(0));
        match (serves, self.writable_since) {
            (Some(_), None) => self.writable_since = Some(self.now),
            (None, _) => self.writable_since = None,
            _ => {}
        }
        if writable.len() > 1 {
            let unexcused: Vec<usize> =
                writable.iter().copied().filter(|i| self.excuse(*i).is_none()).collect();
            if unexcused.len() > 1 {
                self.fail(1, format!("two writable primaries: {unexcused:?}"));
            }
        }
        self.check_permit();
        self.check_silence();
    }

    /// A guardian stops PostgreSQL: not one that a working daemon has promised to keep,
    /// nor one that is paused.
    pub(super) fn check_guardian(&mut self, node: usize) {
        let clock = self.clock(node);
        let member = &self.members[node];
        let works = member.alive && member.settled && !member.stopped(self.now);
        let promised = member.lock.promise().0.is_some_and(|at| clock < at);
        // A guardian of a server that its daemon does not recognise has nobody's word that it is over; and what has lost
        // its postmaster is nobody's primary.
        let paused = member.memory.config.is_paused() && !member.was_mistaken() && !member.pg.orphans;
        if works && promised {
            self.fail(9, format!("the guardian stops n{node}, whose lock is promised"));
        }
        if works && paused {
            self.fail(7, format!("the guardian stops n{node} in pause"));
        }
    }

    /// A loop that has hung for long must not keep the lock.
    fn check_permit(&mut self) {
        let (now, patience) = (self.now, 20_000 + 3 * self.longest_ttl);
        let hung = self.members.iter().position(|m| {
            m.alive && m.hung_until > now && now > m.hung_since + patience && !m.frozen() && !m.stopped(now)
        });
        if let Some(node) = hung {
            let clock = self.clock(node);
            if self.members[node].lock.lease_until().is_some_and(|until| until > clock) {
                self.fail(9, format!("n{node} keeps the lock although its loop has hung for long"));
            }
        }
    }

    /// PostgreSQL is told to become a primary: a job of before may have been overtaken by the end of the lease.
    pub(super) fn check_order(&mut self, node: usize) {
        let clock = self.clock(node);
        let member = &self.members[node];
        let name = member.me.name.clone();
        if member.reference {
            return;
        }
        if member.lock.lease_until().is_none_or(|until| until <= clock) {
            self.fail(2, format!("n{node} is promoted without a lock that is promised to it"));
        }
        if self.store.get("leader").is_some_and(|owner| owner != name) {
            self.fail(2, format!("n{node} is promoted while another owns the lock"));
        }
    }

    /// A promotion is about to begin.
    pub(super) fn check_promotion(&mut self, node: usize) {
        let copies =
            self.remote.copied_since.filter(|since| *since > 0 || self.store.get("initialize").is_some());
        if copies.is_some_and(|since| self.members[node].loaded_at > since) {
            self.fail(2, format!("n{node} begins a promotion in a standby cluster"));
        }
        let mine = self.members[node].pg.data.as_ref().map_or(0, |d| d.timeline);
        let known = self.store.cluster().timeline();
        let by_hand = self.is_manual(node);
        if self.config.check_timeline && mine < known && !by_hand {
            self.fail(2, format!("n{node} begins a promotion on timeline {mine}, the cluster is on {known}"));
        }
    }

    /// In pause nobody changes a role on his own.
    pub(super) fn check_request(&mut self, node: usize, view: &View, request: &Request) {
        let member = &self.members[node];
        // A cycle that began before the pause may end what it has begun.
        let knew = self.paused_since.is_some_and(|since| member.loaded_at > since && member.began_at > since);
        // Nor is what an operator ordered the node's own decision; who takes the lock for it
        // removes the order before he promotes (surface-ha-pg section 7).
        let ordered = self.ordered_at > 0 && self.now <= self.ordered_at + 2 * self.config.retry_timeout;
        // A server without its data directory is stopped whatever it was.
        let broken = member.pg.data.is_none()
            || member.pg.dir == Dir::Inaccessible
            || view.pg.data_dir != DataDir::Present;
        if !knew || ordered || broken {
            return;
        }
        // Of a server that it has not seen it knows no role.
        let primary = member.pg.writable() && view.pg.running;
        let changes = match request {
            Request::Node(NodeRequest::StartJob(ask::StartJob(job))) => match job {
                Job::Promote | Job::Demote { .. } => true,
                Job::Follow { .. } => primary,
                _ => false,
            },
            Request::Server(ServerRequest::Stop(_)) => primary,
            Request::Dcs(_)
            | Request::Peers(_)
            | Request::Server(_)
            | Request::Lock(_)
            | Request::Node(_) => false,
        };
        if changes {
            let text = format!("{request:?}");
            let short = text.split('{').next().unwrap_or_default().to_owned();
            self.fail(7, format!("n{node} changes its role in pause: {short}"));
        }
    }

    /// A node that may win a race by `/sync` has, or asks somebody who has, every commit
    /// that PostgreSQL acknowledges now.
    pub(super) fn check_sync_promise(&mut self) {
        self.note_sync_key();
        let healing = 2 * (self.config.loop_wait + self.config.retry_timeout);
        if self.restored_at.is_some_and(|at| self.now < at + healing) {
            return;
        }
        let Some(sync) = self.sync_key() else { return };
        let leader = self.store.get("leader").and_then(|name| self.index_of(name));
        let Some(node) = leader.filter(|i| self.members[*i].pg.writable()) else { return };
        if self.excuse(node).is_some() || self.is_manual(node) {
            return;
        }
        let member = &self.members[node];
        // Who was promoted after the mode was switched off removes the key with his next cycle; nobody goes by it.
        if self.sync_is_off && member.memory.sync.promoted_at.is_none() {
            return;
        }
        let (name, live) = (&member.me.name, &member.pg.sync_live.1);
        let voters: Vec<String> = sync.members();
        let in_voters = |n: &str| voters.iter().any(|v| v.eq_ignore_ascii_case(n));
        let outside = if live.has_star {
            self.members.iter().filter(|m| m.me.name != *name && !in_voters(&m.me.name)).count()
        } else {
            live.members.iter().filter(|n| !in_voters(n)).count()
        };
        let confirm = if live.sync_type == SyncType::Off { 0 } else { live.num.max(0) as usize };
        let have = usize::from(in_voters(name)) + confirm.saturating_sub(outside);
        let missing = voters.len().saturating_sub(have) as i64;
        if missing > sync.quorum {
            let what = format!(
                "/sync {:?} quorum {} promises more than synchronous_standby_names = '{}' on {name} keeps",
                voters, sync.quorum, member.pg.sync_live.0
            );
            self.fail(5, what);
        }
    }

    /// A standby that knows its leader receives WAL.
    pub(super) fn check_receivers(&mut self) {
        let now = self.now;
        self.check_sync_promise();
        let leader = self.index_of(&self.last_leader);
        let copies = self.remote.copied_since.is_some();
        let calm_since = self.last_fault.max(self.leader_since);
        for node in 0..self.members.len() {
            let member = &self.members[node];
            let well = leader.is_none_or(|leader| {
                let source = if leader == node { REMOTE } else { leader };
                (leader == node && (!copies || !self.reaches_remote(node)))
                    || (!copies && !self.members[leader].pg.writable())
                    || !self.members[leader].pg.running
                    || !member.alive
                    || !member.pg.running
                    || !member.pg.recovery
                    || member.memory.config.is_paused()
                    || member.hung_until > now
                    || member.stopped(now)
                    || self.members[leader].stopped(now)
                    || member.pg.gap
                    || self.members[leader].pg.gap
                    || member.pg.full
                    // Until somebody makes it anew.
                    || self.is_namesake_of_leader(node)
                    || !self.reaches_dcs(node)
                    || (leader != node && !self.reaches_peer(node, leader))
                    || self.members[leader].hung_until > now
                    || self.streams(node, source)
            });
            if well {
                self.members[node].thirsty_since = None;
                continue;
            }
            let since = member.thirsty_since.unwrap_or(now);
            self.members[node].thirsty_since = Some(since);
            let waited = now - since.max(calm_since).min(now);
            if waited > 6 * self.config.loop_wait + 90_000 {
                let mine = &self.members[node].pg;
                let theirs = leader.map(|leader| &self.members[leader].pg.data);
                let slot = leader.is_some_and(|leader| self.has_slot(leader, node));
                let at =
                    format!("source {:?}, slot {slot}, {:?}; leader {:?}", mine.source, mine.data, theirs);
                let what =
                    format!("n{node} knows its leader and has had no WAL receiver for {waited} ms ({at})");
                self.fail(8, what);
            }
        }
    }

    /// A watchdog that is not fed resets its node; that of a standby must be closed.
    pub(super) fn watch_the_watchdogs(&mut self) {
        let now = self.now;
        for node in 0..self.members.len() {
            let member = &self.members[node];
            let Some(fed) = member.watchdog.filter(|_| !member.frozen()) else { continue };
            // ttl less the safety margin.
            let timeout = member.me.timing.ttl.as_millis() as u64 - 5000;
            if now < fed + timeout {
                continue;
            }
            let leads = !member.pg.recovery || self.is_job(node, |job| *job == Job::Promote);
            let works = member.alive && member.hung_until <= now && !member.stopped(now);
            // Who holds the lock is about to be promoted, and feeds it with the next renewal.
            let waits = !leads && !self.has_lock(node);
            // Of a server that its daemon does not recognise nobody knows what it is.
            let idle = works && waits && member.sees_server();
            if idle && member.settled {
                return self.fail(1, format!("the watchdog resets n{node}, which is a standby"));
            }
            self.tell(node, "! watchdog resets the node");
            self.node_dies(node);
            self.at(now + 20_000, super::events::Event::Boot { node });
        }
    }

    pub(super) fn check_liveness(&mut self) {
        let patience = self.longest_ttl + 6 * self.config.loop_wait + 90_000;
        let Some(healed_at) = self.healed_at else { return };
        match self.writable_since {
            Some(since) if since <= healed_at + patience => {}
            Some(since) => {
                self.fail(9, format!("writable only {} ms after the last fault", since - healed_at))
            }
            None => self.fail(9, "no writable primary although all faults have ended"),
        }
        // In strict mode commits wait for a standby, which not every cluster has.
        let may_wait = self.config.strict && (self.config.tags || self.config.members == 1);
        if self.ledger.at + 30_000 < self.now && !may_wait && self.remote.copied_since.is_none() {
            let silent = self.now - self.ledger.at;
            self.fail(9, format!("nothing was acknowledged for {silent} ms at the end"));
        }
        let streaming =
            self.members.iter().filter(|m| m.pg.running && m.pg.recovery && m.pg.source.is_some()).count();
        if streaming + 1 < self.members.len() {
            self.fail(8, format!("only {streaming} standbys have a source after all faults have ended"));
        }
        self.check_slots();
    }
}
